"""The gateway and the unmodified clients of the x402 package: both schemes, many requests, either side killed."""

import asyncio
import base64
import json
import secrets
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
from eth_account import Account
from x402 import x402Client
from x402.http.clients.httpx import x402HttpxClient
from x402.http.utils import decode_payment_required_header, decode_payment_response_header

from pyiot_evm.chain import Devnet
from pyiot_evm.device import Reading
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.types import Address

sys.path.insert(0, str(Path(__file__).parent))
from gateway_kit import (
    LATEST,
    ROW,
    SCHEMA,
    client_for,
    dollars,
    headers_of,
    journal_of,
    pay_once,
    session_for,
    terms_of,
    until,
)


@pytest.fixture(scope="module")
def devnet():
    """A devnet of its own: x402's clients go by the wall clock, and other tests move the shared chain's."""
    with Devnet() as chain:
        yield chain


@pytest.fixture
def seller(machines):
    machine = machines.new("seller", curve="p256")
    journal_of(machine.chain, machine.name, 50)
    return machine


@pytest.fixture
def gateway(seller):
    made = Gateway(seller, GatewayConfig(price_row=ROW, price_latest=LATEST))
    made.url = made.start()
    yield made
    made.close()


@pytest.fixture
def wallet(devnet):
    account = Account.from_key(secrets.token_bytes(32))
    devnet.fund(Address(account.address), dollars=10)  # no ether: the gateway pays the gas
    return account


def address_of(gateway, what):
    device = requests.get(f"{gateway.url}/v1/devices", timeout=10).json()["devices"][0]["device"]
    return f"{gateway.url}/v1/devices/{device}/{what}"


def test_devices__when_asked_without_payment__shows_schema_and_prices(gateway, seller):
    found = requests.get(f"{gateway.url}/v1/devices", timeout=10).json()
    (device,) = found["devices"]
    assert (found["prices"], device["readings"], device["first"], device["last"]) == (
        {"row": "100", "latest": "1000", "stream": "100"}, 50, 0, 49,
    )  # fmt: skip
    assert device["schema"] == SCHEMA.document()
    assert requests.get(f"{gateway.url}/health", timeout=10).json()["status"] == "ok"
    assert "/v1/devices/{device}/latest" in requests.get(f"{gateway.url}/openapi.json", timeout=10).json()["paths"]


def test_readings__when_nobody_pays__are_402_with_terms_and_nothing_else(gateway):
    for url in (address_of(gateway, "readings?limit=5"), address_of(gateway, "latest")):
        for headers in ({}, {"payment-signature": "bm8="}, {"payment-signature": "{" * 9000}, {"x-payment": "e30="}):
            reply = requests.get(url, headers=headers, timeout=10, allow_redirects=False)
            assert (reply.status_code, reply.json()) == (402, {})
            terms = decode_payment_required_header(reply.headers["payment-required"])
            assert [option.scheme for option in terms.accepts] == ["exact", "batch-settlement"]
            assert {option.amount for option in terms.accepts} == {"500" if "limit" in url else "1000"}


def test_exact__when_the_price_is_below_what_a_transaction_costs__is_not_taken(devnet, seller, wallet):
    """Each such payment costs the gateway a transaction, however little it brings."""
    gateway = Gateway(seller, GatewayConfig(price_row=ROW, price_latest=LATEST, exact_from=LATEST))
    gateway.url = gateway.start()
    try:
        cheap, dear = address_of(gateway, "readings?limit=9"), address_of(gateway, "latest")
        terms = [
            decode_payment_required_header(requests.get(url, timeout=10).headers["payment-required"])
            for url in (cheap, dear)
        ]
        assert [[option.scheme for option in each.accepts] for each in terms] == [
            ["batch-settlement"], ["exact", "batch-settlement"],
        ]  # fmt: skip
        paid = pay_once(devnet, wallet, dear, "exact", "pay_" + secrets.token_hex(16))
        assert requests.get(cheap, headers=paid, timeout=30).status_code == 402
        assert dollars(devnet, wallet.address) == 10_000_000
        assert requests.get(dear, headers=paid, timeout=30).status_code == 200
        assert session_for(devnet, wallet, "batch-settlement").get(cheap, timeout=30).status_code == 200
    finally:
        gateway.close()


@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_requests__when_unmodified__buys_by_both_schemes(devnet, gateway, seller, wallet, scheme):
    before = dollars(devnet, seller.address)
    session = session_for(devnet, wallet, scheme)
    count = 20 if scheme == "exact" else 25
    for _ in range(count):
        reply = session.get(address_of(gateway, "readings?from=1700000010000&limit=3"), timeout=30)
        assert reply.status_code == 200, reply.text
        rows = reply.json()["readings"]
        assert [row["seq"] for row in rows] == [10, 11, 12]
        assert decode_payment_response_header(reply.headers["payment-response"]).success
    entry = devnet.home.keyring.entry(seller.name)
    reading = Reading.from_leaf(
        bytes.fromhex(rows[0]["leaf"][2:]), device=entry.device, schema=SCHEMA.hash, value_count=1, curve="p256"
    )
    assert reading.is_signed_by(entry.signer)
    if scheme == "batch-settlement":
        assert dollars(devnet, seller.address) == before
        assert sum(claim.amount for claim in gateway.payments.claim()) == count * 3 * ROW
        gateway.payments.settle()
    assert dollars(devnet, seller.address) == before + count * 3 * ROW


@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_httpx__when_unmodified__buys_by_both_schemes(devnet, gateway, wallet, scheme):
    async def buy():
        async with x402HttpxClient(session_for(devnet, wallet, scheme, x402Client), timeout=30) as client:
            return [await client.get(address_of(gateway, "latest")) for _ in range(20)]

    replies = asyncio.run(buy())
    assert [reply.status_code for reply in replies] == [200] * 20
    assert {reply.json()["rows"] for reply in replies} == {"49-49"}


def test_batch__when_the_client_lost_its_state__recovers_from_the_chain_and_pays_on(devnet, gateway, wallet):
    url = address_of(gateway, "latest")
    for _ in range(3):  # a client that forgets everything each time
        assert session_for(devnet, wallet, "batch-settlement").get(url, timeout=30).status_code == 200
    (channel,) = gateway.payments.payee.book.channels()
    assert channel.charged == 3 * LATEST


def test_batch__when_the_gateway_was_restarted__goes_on_with_the_same_channel(devnet, seller, wallet):
    config, session = GatewayConfig(price_latest=LATEST), session_for(devnet, wallet, "batch-settlement")
    charged = []
    for number in range(3):
        gateway = Gateway(seller, config)
        gateway.url = gateway.start()
        try:
            assert session.get(address_of(gateway, "latest"), timeout=30).status_code == 200
            charged += [c.charged for c in gateway.payments.payee.book.channels()]
        finally:
            gateway.close()
        assert charged[-1] == LATEST * (number + 1)
    assert len(set(charged)) == 3


def test_readings__when_rows_came_between_402_and_payment__delivers_the_range_that_was_priced(
    devnet, gateway, seller, wallet
):
    url = address_of(gateway, "readings?from=1700000045000")
    terms = terms_of(url)
    assert terms.accepts[0].amount == str(5 * ROW)
    journal_of(devnet, seller.name, 10)
    client = client_for(devnet, wallet, "exact")
    reply = requests.get(url, headers=headers_of(client.create_payment_payload(terms)), timeout=30)
    assert (reply.status_code, reply.json()["rows"]) == (200, "45-49")


@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_retry__when_the_payment_identifier_is_the_same__gets_the_same_answer_and_is_charged_once(
    devnet, gateway, seller, wallet, scheme
):
    url, identifier = address_of(gateway, "latest"), "pay_" + secrets.token_hex(16)
    headers = pay_once(devnet, wallet, url, scheme, identifier)
    first = requests.get(url, headers=headers, timeout=30)
    assert first.status_code == 200
    journal_of(devnet, seller.name, 1)
    paid = dollars(devnet, wallet.address)
    for _ in range(3):
        again = requests.get(url, headers=headers, timeout=30)
        assert (again.status_code, again.content) == (200, first.content)
    other = requests.get(address_of(gateway, "readings?limit=50"), headers=headers, timeout=30)
    assert other.status_code == 409
    assert dollars(devnet, wallet.address) == paid
    if scheme == "batch-settlement":
        assert [c.charged for c in gateway.payments.payee.book.channels()] == [LATEST]


def status_of(url, headers):
    """Return the answer's status, ``None`` where the connection broke."""
    try:
        return requests.get(url, headers=headers, timeout=30).status_code
    except requests.exceptions.ConnectionError:
        return None


@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_retry__when_the_gateway_died_after_the_chain_settled__is_answered_and_charged_once(
    devnet, seller, wallet, monkeypatch, scheme
):
    """The answer was written, the money moved, and the process died before it noted so."""
    from pyiot_evm.gateway.answers import Answers

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    config, identifier = GatewayConfig(price_latest=LATEST), "pay_" + secrets.token_hex(16)
    gateway = Gateway(seller, config)
    gateway.url = gateway.start()
    url = address_of(gateway, "latest")
    headers = pay_once(devnet, wallet, url, scheme, identifier)
    with monkeypatch.context() as patch:
        patch.setattr(Answers, "settle", die)
        assert status_of(url, headers) in {None, 500}
    gateway.close()
    moved = dollars(devnet, wallet.address)
    assert moved < 10_000_000

    gateway = Gateway(seller, config)
    port = int(url.split(":")[2].split("/")[0])
    gateway.start(port=port)
    try:
        reply = requests.get(url, headers=headers, timeout=30)
        assert (reply.status_code, reply.json()["rows"]) == (200, "49-49")
        assert dollars(devnet, wallet.address) == moved
        if scheme == "batch-settlement":
            assert [c.charged for c in gateway.payments.payee.book.channels()] == [LATEST]
            assert [claim.amount for claim in gateway.payments.claim()] == [LATEST]
    finally:
        gateway.close()


def test_payment__when_the_node_is_dead__is_500_and_never_402(devnet, gateway, wallet, monkeypatch):
    from pyiot_evm.chain.rpc import RpcClient
    from pyiot_evm.exceptions import TransportError

    url = address_of(gateway, "latest")
    headers = pay_once(devnet, wallet, url, "exact", None)

    def dead(*_):
        raise TransportError("the node does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(RpcClient, "call", dead)
        patch.setattr(RpcClient, "batch", dead)
        reply = requests.get(url, headers=headers, timeout=30)
        assert reply.status_code == 500
        assert "readings" not in reply.json()
    assert requests.get(url, headers=headers, timeout=30).status_code == 200


def test_batch__when_a_stranger_replays_a_voucher_with_a_garbage_signature__gets_nothing(devnet, gateway, wallet):
    url = address_of(gateway, "latest")
    headers = pay_once(devnet, wallet, url, "batch-settlement", None)
    assert requests.get(url, headers=headers, timeout=30).status_code == 200
    assert requests.get(url, headers=headers, timeout=30).status_code == 402  # the same voucher pays once
    document = json.loads(base64.b64decode(headers["payment-signature"]))
    document["payload"] = {k: v for k, v in document["payload"].items() if k != "deposit"} | {"type": "voucher"}
    document["payload"]["voucher"]["maxClaimableAmount"] = str(2 * LATEST)
    for signature in ("0x", "0x" + "00" * 65, "0x" + "ff" * 65, "0x" + "01" * 148):
        document["payload"]["voucher"]["signature"] = signature
        forged = base64.b64encode(json.dumps(document).encode()).decode()
        reply = requests.get(url, headers={"payment-signature": forged}, timeout=30)
        assert (reply.status_code, "readings" in reply.text) == (402, False)
    (channel,) = gateway.payments.payee.book.channels()
    assert channel.charged == LATEST
    assert channel.voucher.is_signed()


def test_limits__when_a_client_asks_too_much__is_told_so(seller):
    gateway = Gateway(seller, GatewayConfig(requests_each_second=1, burst=3))
    url = gateway.start()
    try:
        codes = [requests.get(f"{url}/health", timeout=10).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("readings?from=x", 400),
        ("readings?limit=0", 400),
        ("readings?rows=5-4", 400),
        ("readings?rows=0-99999999", 400),
        ("readings?rows=0-99999999999999999999", 400),
        ("readings?rows=50-60", 404),
        ("readings?from=1900000000000", 404),
        ("nothing", 404),
    ],
)
def test_readings__when_the_request_makes_no_sense__is_refused_before_anything_is_paid(gateway, path, code):
    reply = requests.get(address_of(gateway, path), timeout=10)
    assert (reply.status_code, "payment-required" in reply.headers) == (code, False)


def test_requests__when_they_have_a_body__are_413(gateway):
    reply = requests.get(f"{gateway.url}/health", data=b"x" * 10_000, timeout=10)
    assert reply.status_code == 413


def test_health__when_a_payment_waits_for_a_block__answers_at_once(devnet, gateway, wallet):
    url = address_of(gateway, "latest")
    headers = pay_once(devnet, wallet, url, "exact", None)
    done = []
    devnet.set_automine(enabled=False)
    try:
        waiting = threading.Thread(target=lambda: done.append(requests.get(url, headers=headers, timeout=60)))
        waiting.start()
        until(lambda: int(devnet.rpc("txpool_status")["pending"], 16) > 0)
        started = time.monotonic()
        assert requests.get(f"{gateway.url}/health", timeout=10).status_code == 200
        assert time.monotonic() - started < 0.5
        assert done == []
    finally:
        devnet.set_automine(enabled=True)
        devnet.mine()
    waiting.join(timeout=60)
    assert done[0].status_code == 200
