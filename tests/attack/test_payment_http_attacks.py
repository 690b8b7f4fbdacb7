"""Servers that cheat a paying client: what they can take is one payment, never more than was allowed."""

import base64
import copy
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from x402.http.utils import encode_payment_response_header
from x402.http.x402_http_client import x402HTTPClientSync
from x402.mechanisms.evm.batch_settlement.errors import ERR_CUMULATIVE_AMOUNT_MISMATCH
from x402.mechanisms.evm.types import TransactionReceipt
from x402.schemas import SettleResponse

from pyiot_evm import Machine
from pyiot_evm.chain import Devnet
from pyiot_evm.chain.artifacts import load_artifact
from pyiot_evm.chain.deployment import deploy_once
from pyiot_evm.contracts.dev_dollar import DevDollar
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.exceptions import BudgetError, InputError, TransportError
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.gateway.signer import FacilitatorSigner
from pyiot_evm.gateway.till import decode_payment
from pyiot_evm.payment.budgets import Budget
from pyiot_evm.payment.facade import Payments
from pyiot_evm.payment.http_client import HttpPayer
from pyiot_evm.payment.payee_book import ChannelRefusedError, PayeePolicy, VoucherRefusedError
from pyiot_evm.payment.payer import PayerPolicy
from pyiot_evm.payment.vouchers import channel_config, sign_voucher


class Cheat:
    """A server that shows somebody's 402 and answers payments as it likes."""

    def __init__(self, terms, answer):
        self.payments = []
        cheat = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                header = self.headers.get("payment-signature")
                if header is not None:
                    cheat.header = header
                    cheat.payments.append(json.loads(base64.b64decode(header))["payload"])
                shown = terms if isinstance(terms, str) else encoded(terms)
                status, headers = (402, {"payment-required": shown}) if header is None else answer(cheat)
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


@pytest.fixture(scope="module")
def devnet():
    """A devnet of its own: x402's clients go by the wall clock, and other tests move the shared chain's."""
    with Devnet() as chain:
        yield chain


@pytest.fixture(scope="module")
def honest(devnet, measure):
    """The terms of an honest gateway that sells at 1,000 base units, and serves."""
    with Machine.create(devnet, "honest", curve="secp256k1") as seller:
        measure(seller, 1)
        with Gateway(seller, GatewayConfig(price_latest=1000)) as url:
            reply = requests.get(f"{url}/v1/devices/{seller.device}/latest", timeout=10)
            yield json.loads(base64.b64decode(reply.headers["payment-required"]))


@pytest.fixture
def terms(honest):
    """The terms, which a cheat may change."""
    return copy.deepcopy(honest)


@pytest.fixture
def payer(machines):
    return machines.new("payer")


def ceilings(cheat):
    return [int(payment["voucher"]["maxClaimableAmount"]) for payment in cheat.payments]


def test_get__when_the_server_never_delivers__one_payment_is_lost_and_counted(terms, payer):
    cheat = Cheat(terms, lambda _: (402, {"payment-required": encoded(terms)}))
    try:
        with pytest.raises(TransportError) as caught:
            HttpPayer(payer.payments, scheme="batch-settlement").get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert (str(caught.value), caught.value.retryable) == ("the server refused the payment: Payment required", False)
    assert ceilings(cheat) == [1000]
    assert payer.payments.spending().in_period == 1000


def test_get__when_the_server_takes_the_payment_and_answers_with_an_error__says_what_was_paid(terms, payer):
    cheat = Cheat(terms, lambda _: (404, {}))
    try:
        bought = HttpPayer(payer.payments, scheme="batch-settlement").get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert (bought.status, bought.paid, ceilings(cheat)) == (404, 1000, [1000])
    assert payer.payments.spending().in_period == 1000


def test_get__when_the_server_refuses_a_transfer_that_it_could_take__the_same_key_signs_no_second_one(terms, payer):
    """Both would be good: "the same key never pays twice" held only for servers that are honest about a refusal."""
    cheat = Cheat(terms, lambda _: (402, {"payment-required": encoded(terms)}))
    try:
        for _ in range(2):
            with pytest.raises(TransportError, match="the server refused the payment"):
                HttpPayer(payer.payments, scheme="exact").get(cheat.url, most=1000, key="one")
    finally:
        cheat.close()
    assert len(cheat.payments) == 2
    assert cheat.payments[0] == cheat.payments[1]
    assert payer.payments.spending().in_period == 1000


def test_get__when_refused_transfers_cannot_be_taken_any_more__the_budget_has_back_those_that_were_not(
    devnet, terms, payer
):
    """Three refusals used up what a payee may have, for ever. The first one is taken all the same."""
    url = terms["resource"]["url"]

    def refuse(cheat):
        if len(cheat.payments) == 1:
            requests.get(url, headers={"payment-signature": cheat.header}, timeout=30).raise_for_status()
        return (402, {"payment-required": encoded(terms)}) if len(cheat.payments) <= 3 else (200, {})

    payer.payments.set_budget(Budget(each_payee=3000))
    cheat, client = Cheat(terms, refuse), HttpPayer(payer.payments, scheme="exact")
    try:
        for _ in range(3):
            with pytest.raises(TransportError, match="the server refused the payment: "):
                client.get(cheat.url, most=1000)
            for option in terms["accepts"]:
                option["maxTimeoutSeconds"] = 3
        with pytest.raises(BudgetError):
            client.get(cheat.url, most=1000)
        assert (payer.payments.waiting.all(), payer.payments.spending().in_period) == ([], 3000)
        while devnet.now() < int(cheat.payments[-1]["authorization"]["validBefore"]):
            time.sleep(0.1)
            devnet.mine()
        assert [client.get(cheat.url, most=1000).status for _ in range(2)] == [200, 200]
        with pytest.raises(BudgetError):
            client.get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert payer.payments.spending().in_period == 3000
    assert len({payment["authorization"]["nonce"] for payment in cheat.payments}) == 5


def corrective(terms, cheat, number=-1):
    """Return a 402 that shows one of the payer's own vouchers as charged."""
    voucher = cheat.payments[number]["voucher"]
    ceiling, shown = voucher["maxClaimableAmount"], copy.deepcopy(terms) | {"error": ERR_CUMULATIVE_AMOUNT_MISMATCH}
    for option in shown["accepts"]:
        option["extra"]["channelState"] = {
            "channelId": voucher["channelId"], "balance": "1000000", "totalClaimed": "0", "withdrawRequestedAt": 0,
            "refundNonce": "0", "chargedCumulativeAmount": ceiling,
        }  # fmt: skip
        option["extra"]["voucherState"] = {"signedMaxClaimable": ceiling, "signature": voucher["signature"]}
    return 402, {"payment-required": encoded(shown)}


def charged(cheat):
    """Return the answer of a server that charges the last voucher."""
    voucher = cheat.payments[-1]["voucher"]
    state = {
        "channelId": voucher["channelId"], "balance": "10000", "totalClaimed": "0",
        "chargedCumulativeAmount": voucher["maxClaimableAmount"],
    }  # fmt: skip
    receipt = SettleResponse(
        success=True, transaction="", network="eip155:31337", extra={"chargedAmount": "1000", "channelState": state}
    )
    return 200, {"payment-response": encode_payment_response_header(receipt)}


def test_get__when_each_voucher_of_a_key_is_shown_as_charged__signs_no_higher_one(terms, payer):
    """Each call signed for one price more: 5,000 were paid under one key."""
    cheat = Cheat(terms, lambda cheat: corrective(terms, cheat))
    try:
        for most in (1000, 1000, 9000, 9000):
            with pytest.raises(TransportError, match="the server refused the payment of this key") as caught:
                HttpPayer(payer.payments, scheme="batch-settlement").get(cheat.url, most=most, key="one")
            assert not caught.value.retryable
        assert set(ceilings(cheat)) == {1000}
        assert payer.payments.spending().in_period == 1000
        with pytest.raises(TransportError, match="the server refused the payment: "):
            HttpPayer(payer.payments, scheme="batch-settlement").get(cheat.url, most=2000)  # without a key: paid on
    finally:
        cheat.close()
    assert ceilings(cheat)[-2:] == [2000, 3000]


def test_get__when_the_price_changes_or_transfers_are_wanted_after_a_refusal__the_key_still_pays_once(terms, payer):
    cheat = Cheat(terms, lambda cheat: corrective(terms, cheat))
    try:
        for amount, scheme in (("1000", "batch-settlement"), ("3000", "batch-settlement"), ("3000", "exact")):
            for option in terms["accepts"]:
                option["amount"] = amount
            with pytest.raises(TransportError, match="the server refused the payment of this key"):
                HttpPayer(payer.payments, scheme=scheme).get(cheat.url, most=9000, key="one")
    finally:
        cheat.close()
    assert set(ceilings(cheat)) == {1000}
    assert payer.payments.spending().in_period == 1000


def test_get__when_a_server_without_identifiers_loses_its_answer__the_key_does_not_pay_again(terms, payer):
    """The server is honest: it charged the voucher, and says so when it comes again."""
    cheat = Cheat(terms, lambda cheat: (504, {}) if len(cheat.payments) == 1 else corrective(terms, cheat))
    try:
        for _ in range(3):
            with pytest.raises(TransportError):
                HttpPayer(payer.payments, scheme="batch-settlement").get(cheat.url, most=1000, key="one")
    finally:
        cheat.close()
    assert set(ceilings(cheat)) == {1000}
    assert payer.payments.spending().in_period == 1000


@pytest.mark.parametrize(("forgets", "last", "sent"), [("server", 0, [3000, 2000]), ("client", 1, [1000, 3000])])
def test_get__when_a_voucher_of_a_key_was_not_charged__is_paid_on_from_the_last_that_was(
    terms, payer, forgets, last, sent
):
    cheat = Cheat(terms, lambda cheat: corrective(terms, cheat, last) if len(cheat.payments) == 3 else charged(cheat))
    client = HttpPayer(payer.payments, scheme="batch-settlement")
    try:
        for _ in range(2):
            assert client.get(cheat.url, most=1000).status == 200
        if forgets == "client":
            client._book.delete(cheat.payments[0]["voucher"]["channelId"])
        bought = client.get(cheat.url, most=1000, key="one")
        assert (bought.status, bought.paid) == (200, 1000)
        assert client.get(cheat.url, most=1000, key="one") == bought
    finally:
        cheat.close()
    assert ceilings(cheat) == [1000, 2000, *sent]
    assert payer.payments.spending().in_period == 3000


def test_get__when_the_node_dies_before_a_voucher_of_a_key_is_signed__the_key_still_pays_once(
    terms, payer, monkeypatch
):
    cheat = Cheat(terms, lambda cheat: corrective(terms, cheat))
    client = HttpPayer(payer.payments, scheme="batch-settlement")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(x402HTTPClientSync, "create_payment_payload", dead)
            with pytest.raises(TransportError, match="the node is down"):
                client.get(cheat.url, most=1000, key="one")
        (waiting,) = payer.payments.waiting.all()
        assert (waiting.price, cheat.payments) == (1000, [])
        for _ in range(2):
            with pytest.raises(TransportError, match="the server refused the payment of this key"):
                client.get(cheat.url, most=1000, key="one")
        with pytest.raises(InputError, match="its key names it"):
            payer.payments.waiting.drop(waiting.id)
    finally:
        cheat.close()
    assert set(ceilings(cheat)) == {1000}
    assert payer.payments.spending().in_period == 1000


def dead(*_, **__):
    raise TransportError("the node is down")


def test_get__when_a_corrective_402_has_a_forged_state__nothing_more_is_signed(terms, payer):
    """A signature that is none ended in an error of a library below x402's, at each call again."""
    top, signatures = str(1 << 200), ["0x" + "11" * 65, "0x" + "11" * 64 + "1b", "0x" + "00" * 65, "0x1", "zz", None]
    forgeries = [("900000", signature) for signature in signatures] + [(top, signatures[0]), ("-1", signatures[0])]
    forged = copy.deepcopy(terms) | {"error": ERR_CUMULATIVE_AMOUNT_MISMATCH}

    def corrective(cheat):
        ceiling, signature = forgeries[len(cheat.payments) - 1]
        channel = cheat.payments[-1]["voucher"]["channelId"]
        for option in forged["accepts"]:
            option["extra"]["channelState"] = {
                "channelId": channel, "balance": "1000000", "totalClaimed": "0", "withdrawRequestedAt": 0,
                "refundNonce": "0", "chargedCumulativeAmount": ceiling,
            }  # fmt: skip
            option["extra"]["voucherState"] = {"signedMaxClaimable": ceiling, "signature": signature}
        return 402, {"payment-required": encoded(forged)}

    cheat = Cheat(terms, corrective)
    try:
        for _ in forgeries:
            with pytest.raises(TransportError, match=f"the server refused the payment: {forged['error']}"):
                HttpPayer(payer.payments, scheme="batch-settlement").get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert ceilings(cheat) == [1000] * len(forgeries)
    assert payer.payments.spending().in_period == 1000


NAMED = {"name": "DevDollar", "version": "1"}


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("amount", "9" * 5000, "price is no amount"),
        ("amount", "-1", "price is no amount"),
        ("amount", "\u0661", "price is no amount"),
        ("amount", str(1 << 256), "at most"),
        ("maxTimeoutSeconds", 10**80, "in which it can take the payment"),
        ("payTo", "nobody", "Address is not hex"),
        ("extra", None, "terms cannot be read"),
        ("extra", {}, "EIP-712 domain|terms are no channel's"),
        ("extra", NAMED | {"assetTransferMethod": "permit2", "receiverAuthorizer": "0x" + "11" * 20}, "takes no"),
    ],
)
def test_get__when_the_terms_make_no_sense__nothing_is_signed(terms, payer, name, value, problem):
    """Some ended in errors of Python or of a library; by Permit2 something was signed that nothing here can follow."""
    for option in terms["accepts"]:
        option[name] = value
    cheat = Cheat(terms, lambda _: (200, {}))
    try:
        for scheme in ("exact", "batch-settlement"):
            with pytest.raises(InputError, match=problem):
                HttpPayer(payer.payments, scheme=scheme).get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert cheat.payments == []
    assert payer.payments.payer.book.payments() == []


def test_get__when_the_terms_are_nested_without_end__is_refused(payer):
    """Libraries raise Python's recursion limit as they are imported. A parser that recurses then ended the process."""
    cheat = Cheat(base64.b64encode(b"[" * 40_000).decode(), lambda _: (200, {}))
    try:
        with pytest.raises(TransportError, match="nested"):
            HttpPayer(payer.payments).get(cheat.url, most=1000)
    finally:
        cheat.close()


def test_gateway__when_a_payment_is_nested_without_end__is_none():
    assert decode_payment(base64.b64encode(b"[" * 12_000).decode()) is None


def test_get__when_the_price_rises_above_the_maximum__nothing_is_signed(terms, payer):
    for option in terms["accepts"]:
        option["amount"] = "1001"
    cheat = Cheat(terms, lambda _: (200, {}))
    try:
        with pytest.raises(BudgetError, match=r"it costs 0\.001001 DUSD, at most 0\.001 DUSD may be paid"):
            HttpPayer(payer.payments).get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert cheat.payments == []


def test_get__when_the_terms_are_in_another_token__nothing_is_signed(terms, payer):
    for option in terms["accepts"]:
        option["asset"] = "0x" + "77" * 20
    cheat = Cheat(terms, lambda _: (200, {}))
    try:
        with pytest.raises(InputError, match=f"the server takes no batch-settlement or exact in {payer.chain.token}"):
            HttpPayer(payer.payments).get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert cheat.payments == []


@pytest.mark.parametrize("limit", [24 * 3600, 3600])
def test_get__when_the_server_wants_to_hold_money_for_longer_than_the_policy_allows__nothing_is_signed(
    terms, payer, limit
):
    for option in terms["accepts"]:
        option["extra"]["withdrawDelay"] = limit + 1
    cheat = Cheat(terms, lambda _: (200, {}))
    paying = PayerPolicy() if limit == 24 * 3600 else PayerPolicy(max_withdraw_delay=limit)
    payments = Payments(payer.chain, signer=payer._signer, paying=paying)
    try:
        with pytest.raises(BudgetError, match=f"{limit + 1} s to claim in .* at most {limit} s"):
            HttpPayer(payments).get(cheat.url, most=1000)
        assert (cheat.payments, payments.payer.book.channels(), payments.spending().in_period) == ([], [], 0)
        for option in terms["accepts"]:
            option["extra"]["withdrawDelay"] = limit
        assert HttpPayer(payments).get(cheat.url, most=1000).status == 200
    finally:
        cheat.close()
    assert [payment["channelConfig"]["withdrawDelay"] for payment in cheat.payments] == [limit]


@pytest.mark.parametrize("seconds", [0, -1, 3601, 1 << 40])
@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_get__when_the_server_wants_to_take_a_payment_for_years__nothing_is_signed(terms, payer, scheme, seconds):
    """It could refuse a transfer, see another one signed, and take both in the end."""
    for option in terms["accepts"]:
        option["maxTimeoutSeconds"] = seconds
    cheat = Cheat(terms, lambda _: (200, {}))
    try:
        with pytest.raises(BudgetError, match="in which it can take the payment"):
            HttpPayer(payer.payments, scheme=scheme).get(cheat.url, most=1000)
    finally:
        cheat.close()
    assert (cheat.payments, payer.payments.spending().in_period) == ([], 0)


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


def test_get__when_a_receipt_claims_more_than_was_asked__the_next_payment_is_no_higher(terms, payer):
    """A server, or the facilitator behind it, writes any receipt it likes."""

    def lying(cheat):
        channel = cheat.payments[-1]["voucher"]["channelId"]
        state = {"channelId": channel, "balance": "999999999", "totalClaimed": "0", "chargedCumulativeAmount": "900000"}
        receipt = SettleResponse(
            success=True, transaction="0x" + "12" * 32, network="eip155:31337", payer=str(payer.address),
            extra={"chargedAmount": "900000", "channelState": state},
        )  # fmt: skip
        return 200, {"payment-response": encode_payment_response_header(receipt)}

    cheat = Cheat(terms, lying)
    try:
        for _ in range(3):
            assert HttpPayer(payer.payments, scheme="batch-settlement").get(cheat.url, most=1000).status == 200
    finally:
        cheat.close()
    assert max(ceilings(cheat)) <= 3 * 1000
    assert payer.payments.spending().in_period <= 3 * 1000


def test_accept__when_a_facilitator_lies_about_a_deposit__nothing_is_delivered(payer, machines):
    """It says that the channel was paid into, and shows a receipt; the chain has nothing."""
    payee = machines.new("payee")
    config = channel_config(payer._signer, payee.address, token=payer.chain.token)
    voucher = sign_voucher(payer._signer, payee.payments.payee.domain, config, 1000)
    with pytest.raises(ChannelRefusedError, match="holds nothing"):
        payee.payments.accept(voucher, 1000)
    assert payee.payments.channels()[1] == []


def test_accept__when_the_channel_holds_a_token_that_somebody_made_up__takes_nothing(payer, machines):
    """Its units were counted as the chain's money: a reading could be had for a token that costs nothing."""
    payee, payments = machines.new("payee"), payer.payments.payer
    coin = deploy_once(payer.payments.account, "DevDollar", load_artifact("DevDollar").bytecode + b"mine")
    payer.payments.account.transact(DevDollar(coin).mint(payer.address, 5000))
    channel = payments.deposit(payments.channel_to(payee.address, coin), 5000)
    voucher = sign_voucher(payer._signer, channel.domain, channel.config, 1000)
    for take in (lambda: payee.payments.accept(voucher, 1000), lambda: payee.payments.collect(voucher)):
        with pytest.raises(ChannelRefusedError, match="wanted is"):
            take()
    assert payee.payments.channels()[1] == []
    assert payee.payments.accept(voucher, 1000, token=coin).charged == 1000


@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_gateway__when_the_facilitator_lies_about_a_receipt__delivers_nothing(terms, payer, monkeypatch, scheme):
    """It says "mined" of a transfer that was never sent: the token itself is asked before anything is delivered."""
    chain, url = payer.chain, terms["resource"]["url"]
    before = chain.call(Erc20(chain.token).balance_of(payer.address))
    monkeypatch.setattr(FacilitatorSigner, "write_contract", lambda *_, **__: "0x" + "34" * 32)
    monkeypatch.setattr(
        FacilitatorSigner, "wait_for_transaction_receipt", lambda _, tx: TransactionReceipt(1, chain.block_number(), tx)
    )
    payment = HttpPayer(payer.payments, scheme=scheme)
    with pytest.raises(TransportError, match="the server answers 500"):
        payment.get(url, most=1000)
    assert chain.call(Erc20(chain.token).balance_of(payer.address)) == before
    monkeypatch.undo()
    assert payment.get(url, most=1000).status == 200  # the same payment, sent again
    assert payer.payments.spending().in_period == 1000
    assert [channel.ceiling for channel in payer.payments.channels()[0]] == ([] if scheme == "exact" else [1000])


def test_accept__when_a_client_never_pays_after_the_first_reading__gets_no_second_one(payer, machines):
    payee = machines.new("payee")
    sent = payer.pay(payee.address, "0.001")
    payee.payments.accept(sent.voucher, 1000)
    for _ in range(3):
        with pytest.raises(VoucherRefusedError, match="1000 are used up and 1000 more are asked"):
            payee.payments.accept(sent.voucher, 1000)
    assert payee.payments.channels()[1][0].exposure == 1000
    assert [claim.amount for claim in payee.payments.claim()] == [1000]


def test_accept__when_vouchers_come_twice_and_in_another_order__each_is_charged_once(payer, machines):
    payee = machines.new("payee")
    first, second, third = (payer.pay(payee.address, "0.001").voucher for _ in range(3))
    payee.payments.accept(second, 1000)
    for late in (first, first):
        with pytest.raises(VoucherRefusedError) as caught:
            payee.payments.accept(late, 1000)
        assert caught.value.last == second
    assert payee.payments.accept(second, 1000).charged == 2000  # it is worth two payments, and was charged one
    with pytest.raises(VoucherRefusedError):
        payee.payments.accept(second, 1000)
    assert payee.payments.accept(third, 1000).charged == 3000
    assert [claim.amount for claim in payee.payments.claim()] == [3000]


@pytest.mark.parametrize(
    ("amount", "problem"),
    [
        (0, "a payment is at least 1 base unit, not 0"),
        (-1, "a payment is at least 1 base unit, not -1"),
        (1 << 128, r"holds 1000 DUSD, the channel needs 340282366920938463463374607431768\.211456"),
        ((1 << 256) - 1, r"holds 1000 DUSD, the channel needs 1157920892\d+\.639935"),
    ],
)
def test_pay__when_the_amount_is_none_or_too_large__signs_nothing(payer, machines, amount, problem):
    payee = machines.new("payee")
    with pytest.raises(InputError, match=problem):
        payer.payments.pay(payee.address, amount)
    assert [channel.ceiling for channel in payer.payments.channels()[0]] in ([], [0])
    assert payer.payments.payer.book.payments() == []
    assert payer.payments.spending().in_period == 0


def test_pay__when_amounts_are_the_least_and_the_greatest__each_unit_is_claimed(machines):
    rich, payee = machines.new("rich", dollars=0), machines.new("payee", dollars=0)
    chain, top = rich.chain, (1 << 128) - 1
    rich.payments.account.transact(DevDollar(chain.token).mint(rich.address, top))
    rich.payments.open(payee.address, top)
    payments = [rich.payments.pay(payee.address, amount) for amount in (1, top - 2, 1)]
    assert payments[-1].payment.ceiling == top
    receiving = Payments(chain, signer=payee._signer, receiving=PayeePolicy(max_exposure=top))
    for sent in payments:
        receiving.accept(sent.voucher, sent.payment.amount)
    assert sum(claim.amount for claim in receiving.claim()) == top
    receiving.settle()
    assert chain.call(Erc20(chain.token).balance_of(payee.address)) == top
    with pytest.raises(InputError, match=r"holds 0 DUSD, the channel needs 0\.000001"):
        rich.payments.pay(payee.address, 1)
