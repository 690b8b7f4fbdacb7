"""Our own paying client and the gateway: many requests at once, and either side killed (SIGKILL) at every step."""

import json
import os
import secrets
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from eth_account import Account

from pyiot_evm import Devnet, Machine, connect
from pyiot_evm.exceptions import BudgetError, InputError, PyIotEvmError, TransportError
from pyiot_evm.hashing import keccak256
from pyiot_evm.home import LIGHT, Home
from pyiot_evm.payment.budgets import Budget
from pyiot_evm.payment.facade import Payments
from pyiot_evm.payment.http_client import HttpPayer
from pyiot_evm.payment.payer import PayerPolicy
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.types import Address

sys.path.insert(0, str(Path(__file__).parent))
from children import end_of, in_child
from gateway_kit import (
    LATEST,
    GatewayProcess,
    client_for,
    dollars,
    headers_of,
    journal_of,
    session_for,
    terms_of,
    until,
)

CLIENT = Path(__file__).with_name("x402_python_client.py")
FETCH_CLIENT = Path(__file__).with_name("x402_fetch_client.mjs")
PASSPHRASE = "a passphrase of the tests"
BOTH = pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A devnet and a home of their own: other processes use both."""
    home = Home(tmp_path_factory.mktemp("http") / "home", passphrase=lambda: PASSPHRASE, cost=LIGHT)
    with Devnet(home=home) as made:
        Machine.create(made, "sensor", curve="p256").close()
        journal_of(made, "sensor", 5)
        yield made


@pytest.fixture(scope="module")
def server(chain):
    made = GatewayProcess(chain, "sensor", PASSPHRASE)
    yield made
    made.stop()


@pytest.fixture
def gateway(server):
    """A gateway that runs, whatever an earlier test did to it."""
    return server if server.is_running else server.start()


@pytest.fixture
def buyer(chain):
    return Machine.create(chain, f"buyer-{secrets.token_hex(4)}")


def sensor(chain):
    """Return the sensor's own view of its channels, as the gateway's process has it."""
    return Payments(chain, signer=chain.home.keyring.account("sensor"))


def charged(chain, payer):
    return [c.charged for c in sensor(chain).payee.book.channels() if c.config.payer == payer]


def paid_out(chain):
    """Have everything claimed and paid out; return what the sensor holds."""
    payments = sensor(chain)
    payments.claim()
    payments.settle()
    return dollars(chain, payments.address)


def test_get__when_24_run_at_once__all_are_served_over_a_few_channels_and_the_sums_are_exact(chain, gateway, buyer):
    before, start = paid_out(chain), dollars(chain, buyer.address)
    payments = Payments(chain, signer=buyer._signer, paying=PayerPolicy(channels=4))
    payments.set_budget(Budget(each_period=24 * LATEST))
    payer = HttpPayer(payments, scheme="batch-settlement")
    with ThreadPoolExecutor(max_workers=12) as pool:
        bought = list(pool.map(lambda _: payer.get(gateway.latest, most=LATEST), range(24)))
    assert [(item.status, item.paid) for item in bought] == [(200, LATEST)] * 24
    assert 2 <= len(charged(chain, buyer.address)) <= 4
    assert sum(charged(chain, buyer.address)) == 24 * LATEST == payments.spending().in_period
    channels = payments.payer.book.channels()
    assert sum(channel.ceiling for channel in channels) == 24 * LATEST
    assert start - dollars(chain, buyer.address) == sum(channel.balance for channel in channels)
    assert paid_out(chain) == before + 24 * LATEST
    with pytest.raises(BudgetError, match=r"0\.024 DUSD are spent"):
        payer.get(gateway.latest, most=LATEST)


def test_get__when_eight_pay_by_transfers_at_once__each_is_one_transfer(chain, gateway, buyer):
    before, start = paid_out(chain), dollars(chain, buyer.address)
    payer = HttpPayer(buyer.payments, scheme="exact")
    with ThreadPoolExecutor(max_workers=8) as pool:
        bought = list(pool.map(lambda _: payer.get(gateway.latest, most=LATEST), range(8)))
    assert [item.status for item in bought] == [200] * 8
    assert (dollars(chain, buyer.address), paid_out(chain)) == (start - 8 * LATEST, before + 8 * LATEST)


def test_get__when_the_machine_pays_directly_too__neither_uses_the_others_channel(chain, gateway, buyer):
    payer, seller = HttpPayer(buyer.payments, scheme="batch-settlement"), sensor(chain)
    payer.get(gateway.latest, most=LATEST)
    sent = buyer.payments.pay(seller.address, 500)
    payer.get(gateway.latest, most=LATEST)
    seller.accept(sent.voucher, 500)
    assert sorted(charged(chain, buyer.address)) == [500, 2 * LATEST]
    http, direct = sorted(buyer.payments.channels()[0], key=lambda channel: -channel.ceiling)
    assert (http.ceiling, direct.ceiling) == (2 * LATEST, 500)
    buyer.payments.close(http.channel_id)
    assert payer.get(gateway.latest, most=LATEST).status == 200
    assert len(buyer.payments.channels()[0]) == 3


def test_get__when_the_same_key_comes_again__pays_once_and_has_the_same_answer(chain, gateway, buyer):
    payer = HttpPayer(buyer.payments)
    first = payer.get(gateway.latest, most=LATEST, key="noon")
    assert [payer.get(gateway.latest, most=LATEST, key="noon") for _ in range(2)] == [first, first]
    assert payer.get(gateway.latest, most=LATEST, key="one").status == 200
    assert charged(chain, buyer.address) == [2 * LATEST]
    with pytest.raises(InputError, match="the key names a payment for"):
        payer.get(gateway.url + "/v1/devices", most=LATEST, key="noon")


def test_get__when_a_stranger_guesses_the_key_of_a_payment__it_gets_no_answer(chain, gateway, buyer):
    """The identifier was the key's hash: whoever guessed "noon" was given what somebody else had paid for."""
    assert HttpPayer(buyer.payments, scheme="exact").get(gateway.latest, most=LATEST, key="noon").status == 200
    guess = "key_" + keccak256(b"noon").hex()
    stranger = Account.from_key(secrets.token_bytes(32))
    payload = client_for(chain, stranger, "exact").create_payment_payload(terms_of(gateway.latest))
    payload.payload["authorization"]["from"] = str(buyer.address)
    assert requests.get(gateway.latest, headers=headers_of(payload, guess), timeout=30).status_code == 402


def test_get__when_the_account_is_poor__deposits_what_it_has_and_says_when_that_is_too_little(chain, gateway):
    poor = Machine.create(chain, f"poor-{secrets.token_hex(4)}", dollars="0.0025")
    payer = HttpPayer(poor.payments, scheme="batch-settlement")
    assert [payer.get(gateway.latest, most=LATEST).status for _ in range(2)] == [200, 200]
    with pytest.raises(PyIotEvmError, match="does not hold the"):
        payer.get(gateway.latest, most=LATEST)
    assert poor.payments.spending().in_period == 2 * LATEST


# Kills


class Points:
    """Counts the places where a paying process could die, and dies at one of them."""

    def __init__(self, fatal):
        self.count, self.fatal = 0, fatal

    def reach(self):
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self):
        from contextlib import contextmanager

        write, send = PaymentStore.write, requests.Session.get

        @contextmanager
        def writing(store):
            self.reach()
            with write(store) as database:
                yield database
            self.reach()

        def sending(*arguments, **named):
            self.reach()
            response = send(*arguments, **named)
            self.reach()
            return response

        PaymentStore.write, requests.Session.get = writing, sending


def bought_by_a_child(chain, name, url, scheme, fatal, folder):
    """Buy once in a process of its own, killed at a point; return how it ended and how many points there are."""

    def buy():
        points = Points(fatal)
        with connect(chain.url, home=Home(chain.home.path, passphrase=lambda: PASSPHRASE, cost=LIGHT)) as mine:
            payer = HttpPayer(Machine.open(mine, name).payments, scheme=scheme)
            points.install()
            bought = payer.get(url, most=LATEST)
        return bought.status, json.loads(bought.body)["rows"], points.count

    return end_of(in_child(buy, folder / "result"), folder / "result")


@pytest.mark.timeout(600)
@BOTH
def test_get__when_the_client_is_killed_at_any_point__the_same_command_pays_once(
    chain, gateway, buyer, tmp_path, scheme, capfd
):
    url = gateway.latest
    run = lambda fatal: bought_by_a_child(chain, buyer.name, url, scheme, fatal, tmp_path)  # noqa: E731
    assert run(None)[0] == 0  # the channel is open now
    status, (_, _, points) = run(None)
    before = paid_out(chain)
    assert (status, points > 8) == (0, True)
    for number in range(1, points):  # the last one comes when all is done
        killed, _ = run(number)
        assert os.WIFSIGNALED(killed), f"point {number} of {points} was not reached"
        status, found = run(None)
        assert (status, found[:2]) == (0, (200, "4-4")), f"killed at point {number} of {points}"
        assert paid_out(chain) == before + number * LATEST, f"killed at point {number} of {points}"
        assert buyer.payments.spending().in_period == (2 + number) * LATEST
    with capfd.disabled():
        sys.stdout.write(f"\n  {scheme}: killed at each of {points - 1} points\n")


@pytest.mark.timeout(600)
def test_get__when_the_client_is_killed_at_any_point_of_its_first_payment__pays_in_once_and_pays_once(
    chain, gateway, tmp_path, capfd
):
    """The first payment signs the most: what goes into the channel."""
    scheme, points, number = "batch-settlement", 1, 0
    while number < points:
        buyer, held = Machine.create(chain, f"buyer-{secrets.token_hex(4)}"), paid_out(chain)
        start = dollars(chain, buyer.address)
        killed, found = bought_by_a_child(chain, buyer.name, gateway.latest, scheme, number or None, tmp_path)
        if number:
            assert os.WIFSIGNALED(killed), f"point {number} of {points} was not reached"
            _, found = bought_by_a_child(chain, buyer.name, gateway.latest, scheme, None, tmp_path)
        else:
            points = found[2]  # the last one comes when all is done
        assert found[:2] == (200, "4-4"), f"killed at point {number} of {points}"
        (channel,) = buyer.payments.channels()[0]
        assert (channel.ceiling, start - dollars(chain, buyer.address)) == (LATEST, channel.balance)
        assert buyer.payments.spending().in_period == LATEST
        assert (charged(chain, buyer.address), paid_out(chain)) == ([LATEST], held + LATEST)
        number += 1
    assert points > 8
    with capfd.disabled():
        sys.stdout.write(f"\n  first payment: killed at each of {points - 1} points\n")


@BOTH
def test_get__when_the_gateway_is_killed_in_mid_request__the_same_command_pays_once(chain, gateway, buyer, scheme):
    payer, before = HttpPayer(buyer.payments, scheme=scheme), paid_out(chain)
    chain.set_automine(enabled=False)
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            request = pool.submit(payer.get, gateway.latest, most=LATEST)
            until(lambda: int(chain.rpc("txpool_status")["pending"], 16) > 0)
            gateway.kill()
            with pytest.raises(TransportError, match="broke before it answered"):
                request.result(timeout=60)
    finally:
        chain.set_automine(enabled=True)
        chain.mine()
    gateway.start()
    assert payer.get(gateway.latest, most=LATEST).status == 200
    assert buyer.payments.spending().in_period == LATEST
    assert paid_out(chain) == before + LATEST
    assert payer.get(gateway.latest, most=LATEST).status == 200
    assert paid_out(chain) == before + 2 * LATEST


def test_get__when_two_processes_buy_at_once__they_cannot_exceed_the_budget_together(chain, gateway, buyer, tmp_path):
    buyer.payments.set_budget(Budget(each_period=5 * LATEST))

    def buy():
        bought = 0
        with connect(chain.url, home=Home(chain.home.path, passphrase=lambda: PASSPHRASE, cost=LIGHT)) as mine:
            payer = HttpPayer(Machine.open(mine, buyer.name).payments, scheme="batch-settlement")
            with suppress(BudgetError):
                for _ in range(5):
                    bought += payer.get(gateway.latest, most=LATEST).status == 200
        return bought

    results = [tmp_path / str(number) for number in range(2)]
    children = [(in_child(buy, result), result) for result in results]
    endings = [end_of(*child) for child in children]
    assert [status for status, _ in endings] == [0, 0]
    assert sum(bought for _, bought in endings) == 5
    assert sum(charged(chain, buyer.address)) == 5 * LATEST == buyer.payments.spending().in_period


# Unmodified clients


@pytest.fixture
def wallet(chain):
    account = Account.from_key(secrets.token_bytes(32))
    chain.fund(Address(account.address), dollars=10)
    return account


def test_requests__when_the_gateway_is_killed_while_a_deposit_is_mined__pays_on_from_it(chain, gateway, wallet):
    session, before = session_for(chain, wallet, "batch-settlement"), paid_out(chain)
    chain.set_automine(enabled=False)
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            request = pool.submit(session.get, gateway.latest, timeout=60)
            until(lambda: int(chain.rpc("txpool_status")["pending"], 16) > 0)
            gateway.kill()
            with pytest.raises(Exception, match="Connection"):
                request.result(timeout=60)
    finally:
        chain.set_automine(enabled=True)
        chain.mine()
    gateway.start()
    assert [session.get(gateway.latest, timeout=30).status_code for _ in range(3)] == [200] * 3
    assert charged(chain, Address(wallet.address)) == [3 * LATEST]
    assert paid_out(chain) == before + 3 * LATEST
    (channel,) = (c for c in sensor(chain).payee.book.channels() if c.config.payer == Address(wallet.address))
    assert channel.balance == 10_000_000 - dollars(chain, wallet.address)  # all that it paid in is there


class Client:
    """An unmodified client in a process of its own, which asks once for each line that it is given."""

    def __init__(self, chain, wallet, kind, url, scheme):
        arguments = [url, chain.url, str(chain.token), scheme]
        programs = {"fetch": ["node", str(FETCH_CLIENT), *arguments, "-"]}
        command = programs.get(kind, [sys.executable, str(CLIENT), kind, *arguments])
        self.process = subprocess.Popen(
            command, env=os.environ | {"X402_KEY": "0x" + wallet.key.hex().removeprefix("0x")}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def get(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self):
        self.process.kill()
        self.process.communicate()


@BOTH
@pytest.mark.parametrize("kind", ["requests", "httpx", "fetch"])
def test_client__when_gateway_and_client_are_killed_between_requests__goes_on_with_the_same_channel(
    chain, gateway, wallet, kind, scheme
):
    before = paid_out(chain)
    client = Client(chain, wallet, kind, gateway.latest, scheme)
    try:
        assert [client.get() for _ in range(7)] == ["200"] * 7
        gateway.kill()
        gateway.start()
        assert [client.get() for _ in range(7)] == ["200"] * 7
        client.kill()
        client = Client(chain, wallet, kind, gateway.latest, scheme)
        assert [client.get() for _ in range(7)] == ["200"] * 7
    finally:
        client.kill()
    assert charged(chain, Address(wallet.address)) == ([21 * LATEST] if scheme == "batch-settlement" else [])
    assert paid_out(chain) == before + 21 * LATEST
