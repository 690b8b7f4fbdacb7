"""Servers that take a payment and never answer: they hold up nobody else, and what they could take stays counted."""

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from pyiot_evm.chain import Devnet
from pyiot_evm.device import Field, ReadingJournal, Schema
from pyiot_evm.exceptions import BudgetError, InputError, TransportError
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.payment.budgets import Budget
from pyiot_evm.payment.http_client import HttpPayer
from pyiot_evm.payment.http_waiting import GIVEN_UP_AFTER

PRICE = 1_000
BOTH = pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
SCHEMA = Schema((Field("temperature", unit="Cel", scale=2),))


class Hanging:
    """A server that shows a gateway's 402 and does not answer who pays; it may forward what it got to the gateway."""

    def __init__(self, url, *, seconds=None, forwards=False):
        self.payments, self.free, self.forwarded = [], threading.Event(), threading.Semaphore(0)
        reply = requests.get(url, timeout=10)
        terms = json.loads(base64.b64decode(reply.headers["payment-required"]))
        for option in terms["accepts"]:
            option["maxTimeoutSeconds"] = seconds or option["maxTimeoutSeconds"]
        hanging = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                header = self.headers.get("payment-signature")
                if header is not None:
                    hanging.payments.append(header)
                    if forwards:
                        requests.get(url, headers={"payment-signature": header}, timeout=30).raise_for_status()
                        hanging.forwarded.release()
                    hanging.free.wait()
                self.send_response(402 if header is None else 200)
                self.send_header("payment-required", base64.b64encode(json.dumps(terms).encode()).decode())
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/reading"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.free.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def devnet():
    """A devnet of its own: x402's clients go by the wall clock, and other tests move the shared chain's."""
    with Devnet() as chain:
        yield chain


@pytest.fixture
def seller(machines):
    machine = machines.new("seller", curve="p256")
    entry = machine.chain.home.keyring.entry(machine.name)
    folder = machine.chain.home.journals / entry.device.hex()
    folder.mkdir(parents=True)
    with ReadingJournal.open(folder / "0.readings", device=entry.device, schema=SCHEMA, curve=entry.curve) as journal:
        journal.sign(machine.chain.home.keyring.device(machine.name), time=1_700_000_000_000, values=(2150,))
    return machine


@pytest.fixture
def url(seller):
    gateway = Gateway(seller, GatewayConfig(price_latest=PRICE))
    yield f"{gateway.start()}/v1/devices/{seller.device}/latest"
    gateway.close()


@pytest.fixture
def buyer(machines):
    return machines.new("buyer")


def pay_in_vain(buyer, hanging, scheme, key=None):
    with pytest.raises(TransportError, match=r"did not answer within|did not come whole"):
        HttpPayer(buyer.payments, scheme=scheme, timeout=1.0).get(hanging.url, most=PRICE, key=key)


def days_later(buyer, monkeypatch):
    later = lambda: time.time() + (GIVEN_UP_AFTER + 1) * 3600  # noqa: E731
    monkeypatch.setattr(buyer.payments.waiting, "_clock", later)


def wait_until_void(devnet, buyer):
    (waiting,) = buyer.payments.waiting.all()
    while devnet.now() < waiting.good_until:
        time.sleep(0.1)
        devnet.mine()


@BOTH
def test_get__when_another_server_of_the_payee_hangs__is_not_held_up_and_asks_it_nothing(seller, buyer, url, scheme):
    """Each later purchase waited a minute for it, for ever, and nothing said which payment that was."""
    with Hanging(url) as hanging:
        pay_in_vain(buyer, hanging, scheme)
        payer, start = HttpPayer(buyer.payments, scheme=scheme), time.monotonic()
        assert [payer.get(url, most=PRICE).status for _ in range(3)] == [200] * 3
        assert (time.monotonic() - start < 60, len(hanging.payments)) == (True, 1)
        (waiting,) = buyer.payments.waiting.all()
        assert (waiting.url, waiting.payee, waiting.price) == (hanging.url, seller.address, PRICE)
        assert (waiting.good_until is None) == (scheme == "batch-settlement")
    # A voucher of the channel is for the sum of all: the one that hangs is among what was bought.
    assert buyer.payments.spending().in_period == (3 if scheme == "batch-settlement" else 4) * PRICE


@BOTH
def test_get__when_the_server_that_hung_is_asked_again__sends_the_same_payment(buyer, url, scheme):
    with Hanging(url) as hanging:
        pay_in_vain(buyer, hanging, scheme)
        hanging.free.set()
        assert HttpPayer(buyer.payments, scheme=scheme).get(hanging.url, most=PRICE).status == 200
        assert hanging.payments[0] == hanging.payments[1]
    assert (buyer.payments.waiting.all(), buyer.payments.spending().in_period) == ([], PRICE)


def test_get__when_the_server_that_hangs_took_the_payment__pays_on_from_it_and_pays_in_once(seller, buyer, url):
    """Its deposit is in the channel by then: a second one would only be locked there, too."""
    with Hanging(url, forwards=True) as hanging:
        pay_in_vain(buyer, hanging, "batch-settlement")
        assert hanging.forwarded.acquire(timeout=30)
        assert HttpPayer(buyer.payments).get(url, most=PRICE).status == 200
    (channel,), (paid,) = buyer.payments.channels()[0], seller.payments.channels()[1]
    assert (channel.balance, channel.ceiling, paid.charged) == (10 * PRICE, 2 * PRICE, 2 * PRICE)
    assert buyer.payments.spending().in_period == 2 * PRICE


def test_get__when_a_transfer_cannot_be_taken_any_more__the_budget_has_it_back(devnet, buyer, url):
    buyer.payments.set_budget(Budget(each_period=2 * PRICE))
    with Hanging(url, seconds=1) as hanging:
        pay_in_vain(buyer, hanging, "exact")
        payer = HttpPayer(buyer.payments, scheme="exact")
        wait_until_void(devnet, buyer)
        assert [payer.get(url, most=PRICE).status for _ in range(2)] == [200, 200]
        with pytest.raises(BudgetError, match=r"0\.002 DUSD are spent"):
            payer.get(url, most=PRICE)
    assert buyer.payments.waiting.all() == []


def test_get__when_an_answer_did_not_come_for_a_day__is_given_up_and_stays_counted(buyer, url, monkeypatch):
    """The server can show its voucher for ever."""
    with Hanging(url) as hanging:
        pay_in_vain(buyer, hanging, "batch-settlement")
        pay_in_vain(buyer, hanging, "batch-settlement", key="noon")
        assert [waiting.has_key for waiting in buyer.payments.waiting.all()] == [False, True]
        days_later(buyer, monkeypatch)
        assert HttpPayer(buyer.payments).get(url, most=PRICE).status == 200
        (waiting,) = buyer.payments.waiting.all()
        assert waiting.has_key
        (channel,) = buyer.payments.channels()[0]
        assert channel.ceiling == buyer.payments.spending().in_period == PRICE
        with pytest.raises(InputError, match="its key names it: it was taken"):
            buyer.payments.waiting.drop(waiting.id)
        hanging.free.set()
        assert HttpPayer(buyer.payments).get(hanging.url, most=PRICE, key="noon").status == 200
        assert hanging.payments[1] == hanging.payments[2]


def test_get__when_the_payment_of_a_key_is_under_way__says_so(buyer, url):
    """The second one ended in an error of the database."""
    with Hanging(url) as hanging, ThreadPoolExecutor(max_workers=1) as pool:
        payer = HttpPayer(buyer.payments, scheme="batch-settlement")
        first = pool.submit(payer.get, hanging.url, most=PRICE, key="noon")
        while not hanging.payments:
            time.sleep(0.02)
        with pytest.raises(TransportError, match="the payment of this key is under way") as caught:
            payer.get(hanging.url, most=PRICE, key="noon")
        assert caught.value.retryable
        (waiting,) = buyer.payments.waiting.all()
        with pytest.raises(InputError, match="is under way"):
            buyer.payments.waiting.drop(waiting.id)
        hanging.free.set()
        assert first.result(timeout=60) == payer.get(hanging.url, most=PRICE, key="noon")
        assert len(hanging.payments) == 1


@BOTH
def test_drop__when_a_payment_hangs__is_bought_anew_and_counts_twice_where_both_could_be_taken(buyer, url, scheme):
    with Hanging(url) as hanging:
        pay_in_vain(buyer, hanging, scheme)
        (waiting,) = buyer.payments.waiting.all()
        for unknown in ("", "pay_zz", waiting.id + "00"):
            with pytest.raises(InputError, match="no payment that waits begins with"):
                buyer.payments.waiting.drop(unknown)
        assert buyer.payments.waiting.drop(waiting.id[:8]) == waiting
        assert buyer.payments.waiting.all() == []
        hanging.free.set()
        assert HttpPayer(buyer.payments, scheme=scheme).get(hanging.url, most=PRICE).status == 200
        assert hanging.payments[0] != hanging.payments[1]
    assert buyer.payments.spending().in_period == (1 if scheme == "batch-settlement" else 2) * PRICE


def test_drop__when_a_transfer_was_taken__stays_counted(devnet, buyer, url):
    """It moves the chain's clock: the last test of this file."""
    with Hanging(url, forwards=True) as hanging:
        for key in (None, "noon"):
            pay_in_vain(buyer, hanging, "exact", key=key)
            assert hanging.forwarded.acquire(timeout=30)
    devnet.increase_time(24 * 3600)
    first, named = buyer.payments.waiting.all()
    assert str(buyer.balance()) == "999.998"
    with pytest.raises(InputError, match="its key names it: it was taken"):
        buyer.payments.waiting.drop(named.id)
    buyer.payments.waiting.drop(first.id)
    assert (buyer.payments.waiting.all(), buyer.payments.spending().in_period) == ([named], 2 * PRICE)
