"""Servers that cheat a paying client: what they can take is one payment, never more than was allowed."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from pyiot_evm.exceptions import BudgetError, PyIotEvmError
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.payment.budgets import Budget
from pyiot_evm.payment.http_client import HttpPayer


class Cheat:
    """A server that shows somebody's 402 and answers payments as it likes."""

    def __init__(self, terms, answer):
        self.payments = []
        cheat = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                header = self.headers.get("payment-signature")
                if header is not None:
                    cheat.payments.append(json.loads(base64.b64decode(header))["payload"])
                status, headers = (402, {"payment-required": encoded(terms)}) if header is None else answer(cheat)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/reading"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def encoded(document):
    return base64.b64encode(json.dumps(document).encode()).decode()


@pytest.fixture
def terms(machines):
    """Return the terms of an honest gateway that sells at 1,000 base units."""
    from pyiot_evm.device import Field, ReadingJournal, Schema

    seller = machines.new("seller", curve="secp256k1")
    keyring, entry = seller.chain.home.keyring, seller.chain.home.keyring.entry(seller.name)
    folder = seller.chain.home.journals / entry.device.hex()
    folder.mkdir(parents=True)
    schema = Schema((Field("temperature", unit="Cel", scale=2),))
    with ReadingJournal.open(folder / "0.readings", device=entry.device, schema=schema, curve=entry.curve) as journal:
        journal.sign(keyring.device(seller.name), time=1, values=schema.fix([1]))
    with Gateway(seller, GatewayConfig(price_latest=1000)) as url:
        reply = requests.get(f"{url}/v1/devices/{entry.device}/latest", timeout=10)
        yield json.loads(base64.b64decode(reply.headers["payment-required"]))


@pytest.fixture
def payer(machines):
    return machines.new("payer")


def ceilings(cheat):
    return [int(payment["voucher"]["maxClaimableAmount"]) for payment in cheat.payments]


def test_get__when_the_server_never_delivers__one_payment_is_lost_and_counted(terms, payer):
    cheat = Cheat(terms, lambda _: (402, {"payment-required": encoded(terms)}))
    try:
        with pytest.raises(PyIotEvmError):
            HttpPayer(payer.payments, scheme="batch-settlement").get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert ceilings(cheat) == [1000]
    assert payer.payments.spending().in_period == 1000


def test_get__when_a_corrective_402_has_a_forged_state__nothing_more_is_signed(terms, payer):
    def corrective(cheat):
        forged = json.loads(json.dumps(terms)) | {"error": "batch_settlement_stale_cumulative_amount"}
        channel = cheat.payments[-1]["voucher"]["channelId"]
        for option in forged["accepts"]:
            option["extra"]["channelState"] = {
                "channelId": channel, "balance": "1000000", "totalClaimed": "0", "withdrawRequestedAt": 0,
                "refundNonce": "0", "chargedCumulativeAmount": "900000",
            }  # fmt: skip
            option["extra"]["voucherState"] = {"signedMaxClaimable": "900000", "signature": "0x" + "11" * 65}
        return 402, {"payment-required": encoded(forged)}

    cheat = Cheat(terms, corrective)
    try:
        for _ in range(2):
            with pytest.raises(PyIotEvmError):
                HttpPayer(payer.payments, scheme="batch-settlement").get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert ceilings(cheat)
    assert max(ceilings(cheat)) <= 1000


def test_get__when_the_price_rises_above_the_maximum__nothing_is_signed(terms, payer):
    for option in terms["accepts"]:
        option["amount"] = "1001"
    cheat = Cheat(terms, lambda _: (200, {}))
    try:
        with pytest.raises(PyIotEvmError):
            HttpPayer(payer.payments).get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert cheat.payments == []


def test_get__when_the_terms_are_in_another_token__nothing_is_signed(terms, payer):
    for option in terms["accepts"]:
        option["asset"] = "0x" + "77" * 20
    cheat = Cheat(terms, lambda _: (200, {}))
    try:
        with pytest.raises(PyIotEvmError):
            HttpPayer(payer.payments).get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert cheat.payments == []


def test_get__when_the_payee_is_not_on_the_budgets_list__nothing_is_signed(terms, payer, machines):
    payer.payments.set_budget(Budget(payees=(machines.stranger.address,)))
    cheat = Cheat(terms, lambda _: (200, {}))
    try:
        with pytest.raises(BudgetError, match="not on the budget's list"):
            HttpPayer(payer.payments).get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert cheat.payments == []


def test_get__when_the_server_redirects__no_payment_follows_it(terms, payer):
    cheat = Cheat(terms, lambda c: (302, {"location": c.url}))
    try:
        assert HttpPayer(payer.payments).get(cheat.url, most=1000).status == 302
    finally:
        cheat.close()
    assert len(cheat.payments) == 1
