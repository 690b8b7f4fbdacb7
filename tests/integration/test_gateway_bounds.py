"""The gateway, path by path: nothing is delivered unpaid, one payment buys one answer, and nobody can hold it up."""

import base64
import json
import secrets
import socket
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from eth_account import Account
from x402 import x402ClientSync
from x402.http.clients.requests import x402_requests
from x402.http.utils import decode_payment_required_header
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme, BatchSettlementEvmSchemeOptions
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC

from pyiot_evm import Machine
from pyiot_evm.chain import Devnet
from pyiot_evm.chain.nodes import free_port
from pyiot_evm.chain.transaction_journal import TransactionJournal
from pyiot_evm.exceptions import ConfigurationError, ContractError, InputError
from pyiot_evm.gateway import protocol
from pyiot_evm.gateway.answers import Answers
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.offers import OfferSource
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.gateway.signer import FacilitatorSigner
from pyiot_evm.gateway.turns import Turns
from pyiot_evm.market.locks import LockedElsewhereError, try_lock
from pyiot_evm.payment.payee import Watchtower
from pyiot_evm.payment.payee_book import PayeeBook
from pyiot_evm.payment.records import PayeeChannel
from pyiot_evm.payment.vouchers import channel_config
from pyiot_evm.types import Address

sys.path.insert(0, str(Path(__file__).parent))
from gateway_kit import (
    LATEST,
    ROW,
    client_for,
    controls,
    dollars,
    headers_of,
    journal_of,
    pay_once,
    session_for,
    terms_of,
    until,
)

CONFIG = GatewayConfig(price_row=ROW, price_latest=LATEST, requests_each_second=10_000, burst=10_000)


@pytest.fixture(scope="module")
def devnet():
    """A devnet of its own: x402's clients go by the wall clock, and other tests move the shared chain's."""
    with Devnet() as chain:
        yield chain


@pytest.fixture(scope="module")
def seller(devnet):
    machine = Machine.create(devnet, "seller", curve="p256")
    journal_of(devnet, "seller", 20)
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def gateway(seller):
    made = Gateway(seller, CONFIG)
    made.url = made.start()
    made.base = f"{made.url}/v1/devices/{seller.device}"
    yield made
    made.close()


@pytest.fixture
def wallet(devnet):
    account = Account.from_key(secrets.token_bytes(32))
    devnet.fund(Address(account.address), dollars=10)  # no ether: the gateway pays the gas
    return account


def raw(gateway, request, wait=5.0):
    """Send bytes as they are and return the answer; requests and its like repair too much."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer.decode(errors="replace")


def _revert(*_arguments, **_options):
    """Stand for a settlement that a payer spoils: it moves its money away once its payment was verified."""
    raise ContractError("the deposit reverts")


# Start and end


def is_free(seller):
    """Whether no gateway holds the lock of this account."""
    try:
        try_lock(seller.chain.path / f"gateway-{seller.address}.lock").close()
    except LockedElsewhereError:
        return False
    return True


def test_start__when_the_port_is_taken__leaves_nothing_open_and_works_once_it_is_free(machines):
    """The account's lock stayed held: no gateway of the process freed channels any more that a crash had blocked."""
    seller = machines.new("seller")
    made = Gateway(seller, CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for begin in (made.start, made.run):
            with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
                begin(port=port)
            assert is_free(seller)
    url = made.start(port=port)
    assert (requests.get(f"{url}/health", timeout=5).status_code, is_free(seller)) == (200, False)
    made.close()
    assert is_free(seller)


def test_start__when_its_last_step_fails__serves_no_more_and_leaves_nothing_open(machines, monkeypatch):
    seller, port = machines.new("seller"), free_port()

    def exhausted(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Watchtower, "start", exhausted)
        with pytest.raises(RuntimeError, match="new thread"):
            Gateway(seller, CONFIG).start(port=port)
    assert is_free(seller)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/health", timeout=5)


def test_start__when_the_gateway_was_closed_before__serves_again_with_a_watchtower(machines):
    """A second start ended in RuntimeError: the watchtower's thread can run once."""
    made = Gateway(machines.new("seller"), CONFIG)
    for _ in range(2):
        with made as url:
            assert requests.get(f"{url}/health", timeout=5).status_code == 200
            assert made._watchtower._thread.is_alive()
            with pytest.raises(InputError, match="serves already"):
                made.start()
            assert requests.get(f"{url}/health", timeout=5).status_code == 200
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{url}/health", timeout=5)


def test_watchtower__when_its_context_ends__ends(machines):
    with machines.new("payee").payments.watchtower(every=0.01) as watchtower:
        assert watchtower._thread.is_alive()
    assert not watchtower._thread.is_alive()


# Nothing unpaid


@pytest.mark.parametrize("what", ["latest", "readings", "readings?limit=3"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
def test_paid_paths__when_the_method_is_another__are_405_with_and_without_a_payment(
    devnet, gateway, wallet, method, what
):
    headers = pay_once(devnet, wallet, f"{gateway.base}/latest", "exact")
    for given in ({}, headers):
        reply = requests.request(method, f"{gateway.base}/{what}", headers=given, timeout=10, allow_redirects=False)
        assert (reply.status_code, "leaf" in reply.text) == (405, False)
    assert dollars(devnet, wallet.address) == 10_000_000


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/devices/{device}/latest/", 404),
        ("/v1/devices/{device}//latest", 404),
        ("//v1/devices/{device}/latest", 404),
        ("/v1/devices/{device}/../{device}/latest", 404),
        ("/V1/devices/{device}/latest", 404),
        ("/v1/devices/{device}/latest;x=1", 404),
        ("/v1/devices/{device}%2Flatest", 402),
        ("/v1/devices/{device}/%6Catest", 402),
        ("/v1/devices/{device}/latest%00", 404),
        ("/v1/devices/{device}/latest%0a", 402),
        ("/v1/devices/{other}/latest", 404),
        ("/v1/devices/{upper}/latest", 402),
        ("/v1/devices/%2e%2e/latest", 404),
        ("/v1/offers/..%2f..%2fkeys/bundle", 404),
        ("/v1/offers/0x00/bundle", 404),
        ("http://elsewhere.example/v1/devices/{device}/latest", 404),
    ],
)
def test_paths__when_they_are_written_otherwise__deliver_nothing(gateway, seller, path, code):
    device = str(seller.device)
    names = {"device": device, "upper": "0x" + device[2:].upper(), "other": "0x" + "11" * 32}
    answer = raw(gateway, f"GET {path.format(**names)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {code} "), answer[:200]
    assert "leaf" not in answer


def test_readings__when_the_payment_is_for_another_devices_path__are_not_delivered(devnet, gateway, wallet, seller):
    headers = pay_once(devnet, wallet, f"{gateway.base}/latest", "exact")
    other = requests.get(
        gateway.base.replace(str(seller.device), "0x" + "11" * 32) + "/latest", headers=headers, timeout=10
    )
    assert other.status_code == 404
    dearer = requests.get(f"{gateway.base}/readings?limit=20", headers=headers, timeout=10)
    assert (dearer.status_code, "leaf" in dearer.text) == (402, False)
    assert dollars(devnet, wallet.address) == 10_000_000
    assert requests.get(f"{gateway.base}/latest", headers=headers, timeout=30).status_code == 200


def test_readings__when_the_payment_names_rows_that_it_does_not_pay_for__are_402(devnet, gateway, wallet):
    headers = pay_once(devnet, wallet, f"{gateway.base}/readings?limit=2", "exact")
    document = json.loads(base64.b64decode(headers["payment-signature"]))
    document["resource"]["url"] = document["resource"]["url"].replace("rows=0-1", "rows=0-19")
    forged = base64.b64encode(json.dumps(document).encode()).decode()
    reply = requests.get(f"{gateway.base}/readings?limit=2", headers={"payment-signature": forged}, timeout=10)
    assert (reply.status_code, "leaf" in reply.text) == (402, False)
    assert dollars(devnet, wallet.address) == 10_000_000


@pytest.mark.parametrize(
    ("what", "named", "code"),
    [
        ("latest", "http://[", 200),
        ("latest", "{base}/latest?rows=0-99999999999999999999", 404),
        ("readings?limit=2", "{base}/readings?rows=0-99999999999999999999", 400),
        ("readings?limit=2", "{base}/readings?rows=1", 400),
    ],
)
def test_readings__when_the_payment_names_what_cannot_be_read__are_no_fault_of_the_gateway(
    devnet, gateway, wallet, what, named, code
):
    """An address that is none, and a range that Python's `len` cannot say, were answered by 500."""
    headers = pay_once(devnet, wallet, f"{gateway.base}/{what}", "batch-settlement")
    document = json.loads(base64.b64decode(headers["payment-signature"]))
    document["resource"]["url"] = named.format(base=gateway.base)
    changed = base64.b64encode(json.dumps(document).encode()).decode()
    reply = requests.get(f"{gateway.base}/{what}", headers={"payment-signature": changed}, timeout=10)
    assert (reply.status_code, "leaf" in reply.text) == (code, code == 200)


def test_readings__when_there_are_two_payments__are_400_and_neither_is_charged(devnet, gateway, wallet, seller):
    first, second = (pay_once(devnet, wallet, f"{gateway.base}/latest", "exact")["payment-signature"] for _ in range(2))
    for pair in ((first, second), (first, "bm8="), ("bm8=", first)):
        lines = "".join(f"PAYMENT-SIGNATURE: {value}\r\n" for value in pair)
        head = f"GET /v1/devices/{seller.device}/latest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n"
        answer = raw(gateway, head.encode())
        assert (answer.startswith("HTTP/1.1 400 "), "leaf" in answer) == (True, False)
    assert dollars(devnet, wallet.address) == 10_000_000


def test_refund__when_it_is_asked_for_at_a_paid_path__gives_the_rest_back_and_delivers_nothing(devnet, gateway, wallet):
    session, url = session_for(devnet, wallet, "batch-settlement"), f"{gateway.base}/latest"
    assert session.get(url, timeout=30).status_code == 200
    seen = []
    requests_get = requests.Session.send

    def watched(self, request, **options):
        reply = requests_get(self, request, **options)
        seen.append((reply.status_code, "leaf" in reply.text))
        return reply

    scheme = BatchSettlementEvmScheme(EthAccountSignerWithRPC(wallet, devnet.url))
    requests.Session.send = watched
    try:
        assert scheme.refund(url).success
    finally:
        requests.Session.send = requests_get
    assert [delivered for _, delivered in seen if delivered] == []
    assert dollars(devnet, wallet.address) == 10_000_000 - LATEST
    assert session_for(devnet, wallet, "batch-settlement").get(url, timeout=30).status_code == 200


def test_batch__when_a_stranger_shows_a_forged_voucher__learns_nothing_of_the_channel(devnet, gateway, wallet):
    url = f"{gateway.base}/latest"
    headers = pay_once(devnet, wallet, url, "batch-settlement")
    assert requests.get(url, headers=headers, timeout=30).status_code == 200
    document = json.loads(base64.b64decode(headers["payment-signature"]))
    voucher = {**document["payload"]["voucher"], "maxClaimableAmount": "77", "signature": "0x" + "22" * 65}
    document["payload"] = {"type": "voucher", "channelConfig": document["payload"]["channelConfig"], "voucher": voucher}
    forged = base64.b64encode(json.dumps(document).encode()).decode()
    reply = requests.get(url, headers={"payment-signature": forged}, timeout=10)
    terms = decode_payment_required_header(reply.headers["payment-required"])
    assert (reply.status_code, terms.error) == (402, "invalid_batch_settlement_evm_voucher_signature")
    assert not [option for option in terms.accepts if "voucherState" in option.extra or "channelState" in option.extra]


# One payment, one answer


def test_batch__when_the_channel_has_no_authorizer__is_402_and_delivers_nothing(devnet, gateway, wallet):
    """Its payer's account answers for the signature at the claim: with code there (EIP-7702) it takes all back."""
    options = BatchSettlementEvmSchemeOptions(payer_authorizer="0x" + "00" * 20)
    client = x402ClientSync()
    client.set_spend_controls(controls(devnet))
    client.register("eip155:*", BatchSettlementEvmScheme(EthAccountSignerWithRPC(wallet, devnet.url), options))
    headers = headers_of(client.create_payment_payload(terms_of(f"{gateway.base}/latest")))
    reply = requests.get(f"{gateway.base}/latest", headers=headers, timeout=30)
    assert (reply.status_code, "leaf" in reply.text) == (402, False)
    assert dollars(devnet, wallet.address) == 10_000_000


@pytest.mark.parametrize("ahead", [None, 7200])
def test_batch__when_the_payer_was_leaving_before_its_first_request__is_402_and_delivers_nothing(
    devnet, gateway, ahead
):
    """The book knew nothing of the channel yet, or what it knew lay ahead, for the clock was set back since."""
    buyer = Machine.create(devnet, f"leaver-{secrets.token_hex(4)}")
    payer, url = buyer.payments.payer, f"{gateway.base}/latest"
    config = channel_config(buyer.payments.signer, gateway.payments.address, token=devnet.token)
    channel = payer.deposit(payer.book.add(payer.domain, config), 5 * LATEST)
    buyer.payments.account.transact(payer.contract.initiate_withdraw(config, 5 * LATEST))
    if ahead is not None:
        seen = PayeeChannel(channel.channel_id, payer.domain, config, balance=5 * LATEST)
        gateway.payments.payee.book.sync(seen, at=int(time.time()) + ahead)
    options = BatchSettlementEvmSchemeOptions(salt="0x" + "00" * 32)
    client = x402ClientSync()
    client.set_spend_controls(controls(devnet))
    account = Account.from_key(buyer.payments.signer.secret)
    client.register("eip155:*", BatchSettlementEvmScheme(EthAccountSignerWithRPC(account, devnet.url), options))
    payload = client.create_payment_payload(terms_of(url))
    assert payload.payload["voucher"]["channelId"] == str(channel.channel_id)
    reply = requests.get(url, headers=headers_of(payload), timeout=30)
    assert (reply.status_code, "leaf" in reply.text) == (402, False)


def test_exact__when_a_payment_is_shown_again__buys_nothing_more(devnet, gateway, wallet):
    headers = pay_once(devnet, wallet, f"{gateway.base}/readings?rows=0-4", "exact")
    assert requests.get(f"{gateway.base}/readings?rows=0-4", headers=headers, timeout=30).status_code == 200
    for rows in ("0-4", "5-9"):
        reply = requests.get(f"{gateway.base}/readings?rows={rows}", headers=headers, timeout=30)
        assert (reply.status_code, "leaf" in reply.text) == (402, False)
    assert dollars(devnet, wallet.address) == 10_000_000 - 5 * ROW


@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_payment__when_it_is_shown_many_times_at_once__buys_one_answer(devnet, gateway, wallet, scheme):
    """Settlements are idempotent, so each of them went through: five ranges were delivered for one payment."""
    headers = pay_once(devnet, wallet, f"{gateway.base}/readings?rows=0-3", scheme)
    document = json.loads(base64.b64decode(headers["payment-signature"]))

    def show(number):
        document["resource"]["url"] = f"{gateway.base}/readings?rows={number}-{number + 3}"
        header = base64.b64encode(json.dumps(document).encode()).decode()
        url = f"{gateway.base}/readings?rows={number}-{number + 3}"
        return requests.get(url, headers={"payment-signature": header}, timeout=60).status_code

    with ThreadPoolExecutor(max_workers=5) as pool:
        codes = sorted(pool.map(show, range(5)))
    assert codes == [200, 402, 402, 402, 402]
    if scheme == "exact":
        assert dollars(devnet, wallet.address) == 10_000_000 - 4 * ROW
    else:
        (channel,) = (c for c in gateway.payments.payee.book.channels() if c.config.payer == Address(wallet.address))
        assert channel.charged == 4 * ROW


def test_payment__when_its_nonce_is_spelled_in_many_ways_at_once__buys_one_answer(devnet, gateway, wallet):
    """x402 reads hex with and without 0x, with capitals and blanks: each spelling took a turn of its own."""
    url = f"{gateway.base}/readings?rows=0-3"
    document = json.loads(base64.b64decode(pay_once(devnet, wallet, url, "exact")["payment-signature"]))
    nonce = document["payload"]["authorization"]["nonce"].removeprefix("0x")
    spellings = ["0x" + nonce, nonce, "0x" + nonce.upper(), f"0x {nonce}", f"{nonce[:2]} {nonce[2:]}"]

    def show(spelling):
        document["payload"]["authorization"]["nonce"] = spelling
        header = base64.b64encode(json.dumps(document).encode()).decode()
        return requests.get(url, headers={"payment-signature": header}, timeout=60).status_code

    with ThreadPoolExecutor(max_workers=5) as pool:
        codes = sorted(pool.map(show, spellings))
    assert codes == [200, 402, 402, 402, 402]


@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_retry__when_the_same_identifier_comes_many_times_at_once__gets_one_answer_and_is_charged_once(
    devnet, gateway, wallet, scheme
):
    url = f"{gateway.base}/latest"
    headers = pay_once(devnet, wallet, url, scheme, "pay_" + secrets.token_hex(16))
    with ThreadPoolExecutor(max_workers=5) as pool:
        replies = list(pool.map(lambda _: requests.get(url, headers=headers, timeout=60), range(5)))
    assert {(reply.status_code, reply.content) for reply in replies} == {(200, replies[0].content)}
    if scheme == "exact":
        assert dollars(devnet, wallet.address) == 10_000_000 - LATEST
    else:
        (channel,) = (c for c in gateway.payments.payee.book.channels() if c.config.payer == Address(wallet.address))
        assert channel.charged == LATEST


def test_retry__when_a_payment_carries_the_authorization_of_an_older_one__gets_nothing_for_that(
    devnet, gateway, wallet, monkeypatch
):
    """The proof of a prepared answer was looked for in whatever part had the right name, not in what paid."""
    url, name = f"{gateway.base}/latest", "pay_" + secrets.token_hex(16)
    old = pay_once(devnet, wallet, url, "exact")
    assert requests.get(url, headers=old, timeout=30).status_code == 200
    payload = client_for(devnet, wallet, "batch-settlement").create_payment_payload(terms_of(url))
    older = json.loads(base64.b64decode(old["payment-signature"]))["payload"]["authorization"]
    payload.payload["authorization"] = older
    headers = headers_of(payload, name)
    with monkeypatch.context() as patch:
        patch.setattr(FacilitatorSigner, "write_contract", _revert)
        assert requests.get(url, headers=headers, timeout=30).status_code != 200
    reply = requests.get(url, headers=headers, timeout=30)
    paid = [c for c in gateway.payments.payee.book.channels() if c.config.payer == Address(wallet.address)]
    assert (reply.status_code, paid[0].charged) == (200, LATEST)


def test_answers__when_their_payment_fails_or_they_are_old__are_forgotten(devnet, gateway, wallet, monkeypatch):
    url = f"{gateway.base}/latest"
    store, count = gateway.payments.store, "SELECT count(*) FROM answers WHERE payer = ?"
    with monkeypatch.context() as patch:
        patch.setattr(FacilitatorSigner, "write_contract", _revert)
        headers = pay_once(devnet, wallet, url, "exact", "pay_" + secrets.token_hex(16))
        assert requests.get(url, headers=headers, timeout=30).status_code == 402
    assert store.read(count, wallet.address.lower())[0][0] == 0
    answers = Answers(store, Address("0x" + "11" * 20), keep=100)
    for at in (1000, 1050, 2000):
        answers.prepare("0xpayer", f"pay_{at}", "what", b"body", {}, at=at)
    assert [answers.find("0xpayer", f"pay_{at}") is not None for at in (1000, 1050, 2000)] == [False, False, True]


def test_answers__when_two_identifiers_name_one_authorization__only_the_later_waits_for_it(gateway):
    """A request without an answer in time and its payment under another name were both answered by one transfer."""
    answers = Answers(gateway.payments.store, Address("0x" + "22" * 20), keep=100)
    for name, nonce in (("first", "aa"), ("other", "bb"), ("second", "aa")):
        answers.prepare("0xpayer", name, name, b"body", {"nonce": nonce}, at=1000)
    assert [answers.find("0xpayer", name) is not None for name in ("first", "other", "second")] == [False, True, True]
    answers.settle("0xpayer", "second", {})
    answers.prepare("0xpayer", "third", "third", b"body", {"nonce": "aa"}, at=1000)
    answers.prepare("0xpayer", "free", "free", b"body", {}, at=1000)
    assert all(answers.find("0xpayer", name) is not None for name in ("other", "second", "third", "free"))


def test_payment__when_it_is_by_permit2__is_400(devnet, gateway, wallet):
    url = f"{gateway.base}/latest"
    payload = client_for(devnet, wallet, "exact").create_payment_payload(terms_of(url))
    payload.payload["permit2Authorization"] = {"nonce": "1"}
    assert requests.get(url, headers=headers_of(payload), timeout=30).status_code == 400


def test_turns__when_too_many_wait__the_next_is_told_so(tmp_path):
    turns, held, done = Turns(waiting=1, folder=tmp_path), threading.Event(), threading.Event()

    def hold():
        with turns.taken(["a", "b"]) as is_mine:
            assert is_mine
            held.set()
            done.wait(10)

    def wait():
        with turns.taken(["b"]) as is_mine:
            return is_mine

    with ThreadPoolExecutor(max_workers=2) as pool:
        first = pool.submit(hold)
        assert held.wait(10)
        second = pool.submit(wait)
        while turns._locks["b"][1] < 2:
            time.sleep(0.001)
        with turns.taken(["c", "b"]) as is_mine:
            assert not is_mine
        done.set()
        first.result(timeout=10)
        assert second.result(timeout=10)
    assert turns._locks == {}


# Faults


def test_payment__when_the_node_dies_in_mid_request__is_500_and_never_402():
    devnet = Devnet()
    chain = devnet.start()
    try:
        machine = Machine.create(chain, "seller", curve="p256")
        journal_of(chain, "seller", 1)
        account = Account.from_key(secrets.token_bytes(32))
        chain.fund(Address(account.address), dollars=10)
        made = Gateway(machine, replace(CONFIG, settle_seconds=2))
        base = made.start()
        url = f"{base}/v1/devices/{machine.device}/latest"
        try:
            payments = {scheme: pay_once(chain, account, url, scheme) for scheme in ("exact", "batch-settlement")}
            chain.set_automine(enabled=False)
            with ThreadPoolExecutor(max_workers=1) as pool:
                waiting = pool.submit(requests.get, url, headers=payments["exact"], timeout=60)
                while int(chain.rpc("txpool_status")["pending"], 16) == 0:
                    time.sleep(0.02)
                devnet.node.close()
                reply = waiting.result(timeout=60)
            assert (reply.status_code, "leaf" in reply.text) == (500, False)
            late = requests.get(url, headers=payments["batch-settlement"], timeout=60)
            assert (late.status_code, "leaf" in late.text) == (500, False)
            assert requests.get(f"{base}/health", timeout=5).status_code == 200
        finally:
            made.close()
    finally:
        devnet.close()


def test_payment__when_the_books_cannot_be_written__is_500_and_nothing_is_charged(devnet, gateway, wallet, monkeypatch):
    url, client = f"{gateway.base}/latest", client_for(devnet, wallet, "batch-settlement")
    assert x402_requests(client).get(url, timeout=30).status_code == 200
    headers = headers_of(client.create_payment_payload(terms_of(url)))

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(PayeeBook, "_put", full)
        reply = requests.get(url, headers=headers, timeout=30)
        assert (reply.status_code, "leaf" in reply.text) == (500, False)
    (channel,) = (c for c in gateway.payments.payee.book.channels() if c.config.payer == Address(wallet.address))
    assert channel.charged == LATEST
    assert requests.get(url, headers=headers, timeout=30).status_code == 200


@pytest.mark.parametrize("fault", [sqlite3.OperationalError("database or disk is full"), OSError(28, "No space left")])
def test_payment__when_the_transactions_cannot_be_written_down__is_500_and_never_402(
    devnet, gateway, wallet, monkeypatch, fault
):
    """Such a fault was none of ours, so the payer was told to pay again."""
    url = f"{gateway.base}/latest"
    headers = pay_once(devnet, wallet, url, "exact")

    def full(*_):
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(TransactionJournal, "_insert", full)
        reply = requests.get(url, headers=headers, timeout=30)
        assert (reply.status_code, "leaf" in reply.text) == (500, False)
    assert requests.get(url, headers=headers, timeout=30).status_code == 200
    assert dollars(devnet, wallet.address) == 10_000_000 - LATEST


# Bounds


def test_health__when_eight_payments_wait_for_blocks_of_two_seconds__answers_at_once():
    with Devnet() as chain:
        machine = Machine.create(chain, "seller", curve="p256")
        journal_of(chain, "seller", 1)
        accounts = [Account.from_key(secrets.token_bytes(32)) for _ in range(8)]
        for account in accounts:
            chain.fund(Address(account.address), dollars=10)
        made = Gateway(machine, CONFIG)
        base = made.start()
        url = f"{base}/v1/devices/{machine.device}/latest"
        try:
            paid = [pay_once(chain, account, url, "exact") for account in accounts]
            slowest = 0.0
            chain.set_automine(enabled=False)
            chain.rpc("evm_setIntervalMining", 2)
            with ThreadPoolExecutor(max_workers=8) as pool:
                waiting = [pool.submit(requests.get, url, headers=headers, timeout=60) for headers in paid]
                while not all(item.done() for item in waiting):
                    started = time.monotonic()
                    for path in ("/health", "/v1/devices"):
                        assert requests.get(base + path, timeout=10).status_code == 200
                    slowest = max(slowest, time.monotonic() - started)
                    time.sleep(0.02)
            assert [item.result().status_code for item in waiting] == [200] * 8
            assert slowest < 1
        finally:
            made.close()


def test_connections__when_the_head_drips_in__are_closed(gateway, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.4)
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        started = time.monotonic()
        with pytest.raises((ConnectionError, BrokenPipeError)):  # noqa: PT012 - it ends somewhere in here
            for _ in range(100):
                connection.sendall(b"X-Drip: 1\r\n")
                time.sleep(0.05)
        assert time.monotonic() - started < 3


def test_connections__when_a_body_drips_in_that_nobody_wants__are_closed(gateway, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.4)
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 8000\r\n\r\n")
        started = time.monotonic()
        with pytest.raises((ConnectionError, BrokenPipeError)):  # noqa: PT012 - it ends somewhere in here
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - started < 3


def test_connections__when_there_are_too_many__the_next_is_closed_and_others_live_on(gateway, monkeypatch):
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 3)
    host, port = gateway.url.removeprefix("http://").split(":")
    with requests.Session() as session:
        session.get(f"{gateway.url}/health", timeout=5)
        extra = [socket.create_connection((host, int(port)), timeout=5) for _ in range(6)]
        try:
            ended = 0
            for connection in extra:
                connection.settimeout(0.3)
                try:
                    ended += connection.recv(1) == b""
                except ConnectionError:
                    ended += 1
                except TimeoutError:
                    pass
            assert ended >= 3
            assert session.get(f"{gateway.url}/health", timeout=5).status_code == 200
        finally:
            for connection in extra:
                connection.close()


@pytest.mark.parametrize(
    ("line", "headers", "codes"),
    [
        ("GET /v1/devices/{device}/readings?{long} HTTP/1.1", "", ("400", "402")),
        ("GET /v1/devices/{device}/readings?from={digits} HTTP/1.1", "", ("400",)),
        ("GET /v1/devices/{device}/readings?{many} HTTP/1.1", "", ("400", "402")),
        ("GET /{huge} HTTP/1.1", "", ("431",)),
        ("GET /health HTTP/1.1", "X-Big: {huge}\r\n", ("431",)),
        ("GET /v1/devices/{device}/latest HTTP/1.1", "PAYMENT-SIGNATURE: {long}\r\n", ("402",)),
        ("GET /health HTTP/1.1", "Content-Length: 9999999999\r\n", ("413",)),
        ("GET /health HTTP/1.1", "Content-Length: -1\r\n", ("400", "413")),
        ("GET /health HTTP/1.1", "Transfer-Encoding: chunked\r\n", ("413",)),
    ],
)
def test_requests__when_they_are_too_large__are_refused_at_once(gateway, seller, line, headers, codes):
    sizes = {
        "device": str(seller.device), "long": "x" * 17_000, "digits": "9" * 5_000,
        "many": "&".join("limit=1" for _ in range(2_500)), "huge": "y" * 40_000,
    }  # fmt: skip
    started = time.monotonic()
    text = f"{line.format(**sizes)}\r\nHost: x\r\nConnection: close\r\n{headers.format(**sizes)}\r\n"
    answer = raw(gateway, text.encode())
    assert answer.split(" ")[1] in codes, answer[:200]
    assert "leaf" not in answer
    assert time.monotonic() - started < 3


def test_answers__when_the_client_does_not_read_them__are_given_up(seller, gateway, monkeypatch, tmp_path):
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.3)
    big = tmp_path / "bundle"
    big.write_bytes(bytes(64 << 20))
    monkeypatch.setattr(OfferSource, "bundle", lambda *_: big)
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /v1/offers/0x00/bundle HTTP/1.1\r\nHost: x\r\n\r\n")
        client = connection.getsockname()
        held = lambda: [c for c in gateway._server.server_state.connections if c.client == client]  # noqa: E731
        until(held, seconds=5)
        until(lambda: not held(), seconds=5)
        until(lambda: not gateway._server.server_state.tasks, seconds=10)  # and nobody works for it any more


def test_openapi__when_read__says_what_is_asked_and_what_is_answered(gateway):
    document = requests.get(f"{gateway.url}/openapi.json", timeout=10).json()
    paths = document["paths"]
    assert set(paths) == {
        "/health", "/v1/devices", "/v1/devices/{device}/readings", "/v1/devices/{device}/latest", "/v1/offers",
        "/v1/offers/{offer}/bundle",
    }  # fmt: skip
    readings, latest = (paths[f"/v1/devices/{{device}}/{name}"]["get"] for name in ("readings", "latest"))
    named = {item["name"]: item["in"] for item in readings["parameters"]}
    assert named == {
        "device": "path", "from": "query", "to": "query", "limit": "query", "rows": "query",
        "PAYMENT-SIGNATURE": "header",
    }  # fmt: skip
    assert {item["name"] for item in latest["parameters"]} == {"device", "PAYMENT-SIGNATURE"}
    for operation in (readings, latest):
        assert {"200", "400", "402", "404", "409", "413", "429", "500", "503"} <= set(operation["responses"])
        assert "PAYMENT-REQUIRED" in operation["responses"]["402"]["headers"]
        assert "PAYMENT-RESPONSE" in operation["responses"]["200"]["headers"]
    assert "404" in paths["/v1/offers/{offer}/bundle"]["get"]["responses"]


def test_turns__when_two_gateways_of_one_account_have_them__are_shared(tmp_path):
    """Turns were those of one process: a second gateway could verify what the first was about to settle."""
    first, second = (Turns(waiting=1, folder=tmp_path) for _ in range(2))
    entered = threading.Event()

    def take():
        with second.taken(["channel", "payment"]) as is_mine:
            entered.set()
            return is_mine

    with ThreadPoolExecutor(max_workers=1) as pool:
        with first.taken(["payment", "identifier"]):
            waiting = pool.submit(take)
            assert not entered.wait(0.3)
        assert waiting.result(timeout=10)
