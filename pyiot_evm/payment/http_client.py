"""Pays any x402 server inside a budget, with the x402 package's own client.

The budget is asked, and the payment is written down, before anything is signed. A payment that was interrupted is sent
again as it was: with x402's payment identifier a server charges it once. Parallel requests take channels of their own,
as many as the policy allows. It needs the extra ``gateway``.
"""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.chain.deployment import X402_CHANNELS
from pyiot_evm.exceptions import InputError, PyIotEvmError, TransportError, VerificationError
from pyiot_evm.payment.http_book import HttpBook, Purchase, http_salt, identifier_of
from pyiot_evm.payment.http_lanes import Lanes
from pyiot_evm.payment.http_readings import SoldDevice
from pyiot_evm.payment.http_session import HttpSession, check_url
from pyiot_evm.payment.http_wallet import HttpWallet, x402_errors
from pyiot_evm.payment.places import is_ours
from pyiot_evm.payment.vouchers import ChannelId
from pyiot_evm.payment.x402_terms import BATCH, PAYMENT_IDENTIFIER, SCHEMES
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from pyiot_evm.device import Reading, Signer
    from pyiot_evm.payment.facade import Payments
    from pyiot_evm.types import DeviceId

__all__ = ["Bought", "HttpPayer", "Quote"]

_log = logging.getLogger(__name__)

_PAYMENT_REQUIRED: Final = 402
_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_BUSY_FOR: Final = 20.0
_BUSY: Final = "batch_settlement_evm_channel_busy"


@dataclass(frozen=True, slots=True)
class Bought:
    """What a paid request brought.

    Attributes:
        paid: What it cost, base units; 0 where it was free. It is more than the price where a channel's promise had to
            grow by more: as the server showed a later voucher of ours.
        url: What was asked for.
    """

    status: int
    body: bytes
    content_type: str
    paid: int
    url: str = ""

    def readings(self, device: SoldDevice, *, before: Reading | None = None) -> list[Reading]:
        """Return the readings that came from a gateway, each checked: its signature, its number, its link.

        Args:
            device: Whose they must be; see :meth:`HttpPayer.device`.
            before: The reading that the first one must follow, where it is known.

        Raises:
            VerificationError: They are not the device's readings that were bought.
        """
        if self.status != HTTPStatus.OK:
            raise VerificationError(f"the server answered {self.status}: that holds no readings")
        return device.readings(self.url, self.body, before=before)


@dataclass(frozen=True, slots=True)
class Quote:
    """What an address would cost; nothing is signed for it.

    Attributes:
        status: What the server answered.
        amount: Base units; 0 where it is free.
        scheme: How it would be paid.
        payee: Who would be paid.
    """

    status: int
    amount: int = 0
    scheme: str = ""
    payee: Address | None = None


class HttpPayer:
    """Buys over HTTP for one account; threads may share it.

    Args:
        payments: Whose account, books, budget and policy.
        scheme: ``exact``, ``batch-settlement``, or ``None`` for channels where the server takes them.
        timeout: Seconds for one request.
        voucher_signer: The key that signs vouchers, on P-256 perhaps; the account's when left out. With it, all is
            paid through channels; the account signs what is paid into them.

    Raises:
        InputError: There is no such scheme, or it has no vouchers for the key to sign, or the chain's channels take
            no vouchers of such a key.
    """

    def __init__(
        self,
        payments: Payments,
        *,
        scheme: str | None = None,
        timeout: float = 60.0,
        voucher_signer: Signer | None = None,
    ) -> None:
        if scheme not in {None, *SCHEMES}:
            raise InputError(f"there is no scheme {scheme!r}", hint=f"schemes are {' and '.join(SCHEMES)}")
        if voucher_signer is not None:
            _check_voucher_signer(payments, voucher_signer, scheme)
            scheme = BATCH
        self._payments = payments
        self._scheme = scheme
        self._book = HttpBook(payments.store, payments.payer.book, payments.budgets)
        self._wallet = HttpWallet(payments, self._book, voucher_signer=voucher_signer)
        self._session = HttpSession(timeout)
        self._lanes = Lanes(payments.chain.path, payments.address, payments.paying.channels)
        self._waiting = payments.waiting

    def get(self, url: str, *, most: int, key: str | None = None) -> Bought:
        """Get an address, and pay at most ``most`` base units of the chain's token for it.

        After a crash, or where the server did not answer, the same call sends the same payment again.

        Args:
            url: The address.
            most: Base units.
            key: Names the payment: the same key never pays twice, and gets the same answer again.

        Raises:
            BudgetError: It costs more, or the budget forbids it; nothing was signed.
            TransportError: The server does not answer, or refuses the payment.
        """
        check_url(url)
        secret = self._payments.signer.secret
        identifier = "pay_" + secrets.token_hex(16) if key is None else identifier_of(key, secret)
        if (known := self._known(url, identifier, is_named=key is not None)) is not None:
            return known
        response = self._session.get(url)
        if response.status_code != _PAYMENT_REQUIRED:
            return _bought(response, 0, url)
        terms = self._wallet.terms(response, self._schemes, most=most)
        payee = Address(terms.accepts[0].pay_to)
        with self._lanes.take(payee) as lane:
            self._tidy(payee, lane)
            known = self._known(url, identifier, is_named=key is not None, held=(payee, lane))
            if known is not None:
                return known
            return self._buy(Purchase(identifier, url, payee, lane, self._payments.chain.token), terms, most)

    def quote(self, url: str, *, most: int) -> Quote:
        """Return what an address would cost, and see that it may be paid.

        Raises:
            BudgetError: It costs more than ``most`` or than the budget allows.
            TransportError: The server does not answer.
        """
        check_url(url)
        response = self._session.get(url)
        if response.status_code != _PAYMENT_REQUIRED:
            return Quote(response.status_code)
        wanted = self._wallet.terms(response, self._schemes, most=most).accepts[0]
        payee, amount = Address(wanted.pay_to), int(wanted.amount)
        self._payments.budgets.check(self._payments.address, self._payments.chain.token, payee, amount)
        return Quote(response.status_code, amount, wanted.scheme, payee)

    def device(self, gateway: str, device: DeviceId | None = None) -> SoldDevice:
        """Return a device whose readings a gateway sells, with its signers as the chain's registry has them.

        Args:
            gateway: The gateway's address.
            device: Which one; its first when left out.

        Raises:
            InputError: The gateway sells no such device's readings, or it is not registered and not of the stated key.
            TransportError: The gateway does not answer, or makes no sense.
        """
        url = gateway.rstrip("/")
        response = self._session.get(f"{url}/v1/devices")
        if response.status_code != HTTPStatus.OK:
            raise TransportError(f"{url}/v1/devices answers {response.status_code}")
        return SoldDevice.described(self._payments.chain, url, response.content, device)

    # What was interrupted

    def _known(
        self, url: str, identifier: str, *, is_named: bool, held: tuple[Address, int] | None = None
    ) -> Bought | None:
        """Return the answer to a payment that was made before: kept, or got by sending it again.

        Args:
            url: What is asked for.
            identifier: The payment's, where it has a key.
            is_named: Whether it has.
            held: The lane that is held already.

        Raises:
            TransportError: The payment of this key is under way.
        """
        waiting = [purchase for purchase in self._book.unanswered() if purchase.url == url and not purchase.is_named]
        if is_named:
            purchase, answer = self._book.named(identifier, url) or (None, None)
            waiting = [] if purchase is None else [purchase]
            if purchase is not None and answer is not None:
                paid = max(purchase.paid, _price_of(_payload_of(purchase.header)))
                return Bought(answer["status"], bytes.fromhex(answer["body"]), answer["type"], paid, purchase.url)
        for purchase in waiting:
            lane = purchase.payee, purchase.lane
            with nullcontext(enter_result=True) if lane == held else self._lanes.hold(*lane) as is_held:
                if is_named and not is_held:
                    raise TransportError("the payment of this key is under way, or another one to its payee is")
                if is_named and not self._book.is_unanswered(purchase):  # it was answered before the lane was free
                    return self._known(url, identifier, is_named=True, held=lane)
                if is_held and self._book.is_unanswered(purchase) and self._waiting.end([purchase]):
                    got = self._resume(purchase)
                    if got is not None:
                        return got
        return None

    def _tidy(self, payee: Address, lane: int) -> None:
        """Look at what was interrupted, or refused, in a lane, without asking its server: that may never answer.

        What can come to nothing is forgotten. The rest stays promised; its deposit may have come to the channel.
        """
        waiting = self._book.in_lane(payee, lane)
        try:
            for channel in {purchase.channel for purchase in self._waiting.end(waiting) if purchase.channel}:
                self._wallet.refresh(ChannelId(channel))
        except TransportError as error:  # a voucher may need nothing of the node
            _log.warning("the node was not asked about payments that wait: %s", error)

    def _resume(self, purchase: Purchase) -> Bought | None:
        """Send an interrupted payment again; ``None`` where the server does not take it."""
        salt, authorizer = http_salt(purchase.lane, 0), None
        if purchase.channel:
            config = self._payments.payer.book.channel(ChannelId(purchase.channel)).config
            salt, authorizer = config.salt, config.payer_authorizer
        response, payload = self._send_payment(purchase), _payload_of(purchase.header)
        client = self._wallet.client(purchase.paid, salt, authorizer=authorizer)
        self._note(client, purchase, payload, response)
        if response.status_code == _PAYMENT_REQUIRED:
            self._refused(purchase, response)
            return None
        return self._answered(purchase, response, max(purchase.paid, _price_of(payload)))

    def _answered(self, purchase: Purchase, response: Any, paid: int) -> Bought:
        """Note that a payment was answered; the answer to one with a key is kept."""
        bought = _bought(response, paid, purchase.url)
        if purchase.is_named:
            self._book.keep_answer(purchase, bought.body, bought.content_type, bought.status)
        else:
            self._book.finish(purchase)
        return bought

    # Paying

    def _buy(self, blank: Purchase, terms: Any, most: int) -> Bought:
        """Pay and get the answer; a server that shows a later voucher of ours is paid on from that one, once."""
        spent, kept, response = 0, 0, None
        for _ in range(2):
            salt = self._wallet.open_salt(terms.accepts[0], blank.lane)
            client = self._wallet.client(most, salt)
            purchase, payload = self._promise(blank, terms, most - spent, client=client, salt=salt)
            spent += purchase.paid - kept
            response = self._send_payment(purchase)
            is_recovered = self._note(client, purchase, payload, response)
            if response.status_code != _PAYMENT_REQUIRED:
                return self._answered(purchase, response, max(spent, _price_of(payload)))
            kept = self._refused(purchase, response)
            if not is_recovered:
                break
        raise TransportError(f"the server refused the payment: {_reason(response)}", retryable=False)

    def _refused(self, purchase: Purchase, response: Any) -> int:
        """Ask no more for a payment that a server refused; not so where it has a key and the server can still take it.

        A second transfer, or a higher voucher, would be a second payment under one key. What was promised under it is
        kept, and returned, and pays up to its price.
        """
        if purchase.channel:
            if purchase.is_named and not self._is_overtaken(purchase):
                return purchase.paid
            self._book.finish(purchase)
        elif not purchase.is_named:
            self._book.refuse(purchase)
        elif self._waiting.is_void(purchase):
            self._book.undo(purchase)
        else:
            hint = "it could still take it, so the same key sends the same payment again, and no other one"
            raise TransportError(f"the server refused the payment: {_reason(response)}", hint=hint, retryable=False)
        return 0

    def _is_overtaken(self, purchase: Purchase) -> bool:
        """Whether a voucher adds nothing to what its payee holds: promised before, or below one of another book."""
        context = self._book.get(purchase.channel)
        shown = 0 if context is None else int(context.signed_max_claimable or 0)
        return not purchase.paid or shown > self._payments.payer.book.channel(ChannelId(purchase.channel)).ceiling

    def _note(self, client: Any, purchase: Purchase, payload: Any, response: Any) -> bool:
        """Let x402's client learn from an answer; tell whether it is to pay on from what the server shows.

        Raises:
            TransportError: The node was asked, and does not answer: the payment waits, and its channel stays as it was.
        """
        try:
            return bool(client.process_payment_result(payload, response.headers.get, response.status_code).recovered)
        except x402_errors(InputError, VerificationError) as error:  # a server can write anything there
            _log.warning("%s: the server's receipt makes no sense: %s", purchase.url, error)
            self._book.delete(purchase.channel)  # the chain, and the next 402, say what is true
            return False

    def _promise(self, blank: Purchase, terms: Any, most: int, *, client: Any, salt: bytes) -> tuple[Purchase, Any]:
        """Write a payment down, sign it, and keep it as it will be sent."""
        wanted = terms.accepts[0]
        amount, ceiling = int(wanted.amount), 0
        if wanted.scheme == BATCH:
            channel, ceiling = self._wallet.ceiling(wanted, salt)
            blank = replace(blank, channel=channel)
        purchase = self._book.promise(blank, amount=amount, ceiling=ceiling, most=most)
        from x402.http.utils import encode_payment_signature_header  # noqa: PLC0415 - the extra `gateway`

        try:
            payload = client.create_payment_payload(terms)
        except x402_errors(PyIotEvmError) as error:
            self._book.undo(purchase)
            if isinstance(error, PyIotEvmError):  # e.g. the node is down
                raise
            raise InputError(f"nothing was paid: {error}") from error
        declared = (payload.extensions or {}).get(PAYMENT_IDENTIFIER)
        if isinstance(declared, dict) and isinstance(declared.get("info"), dict):
            declared["info"]["id"] = purchase.identifier
        return self._book.sign(purchase, encode_payment_signature_header(payload)), payload

    @property
    def _schemes(self) -> set[str]:
        wanted = set(SCHEMES) if self._scheme is None else {self._scheme}
        return wanted if self._payments.payer.contract.address == X402_CHANNELS else wanted - {BATCH}

    # HTTP

    def _send_payment(self, purchase: Purchase) -> Any:
        """Send a payment; a channel that is busy with the same payment, sent before a crash, is waited for."""
        end = time.monotonic() + _BUSY_FOR
        while True:
            response = self._session.get(purchase.url, {"payment-signature": purchase.header})
            if response.status_code in _TRY_AGAIN:
                raise TransportError(
                    f"the server answers {response.status_code}: the payment is kept",
                    hint="the same command again sends the same payment, which is charged once",
                )
            if response.status_code != _PAYMENT_REQUIRED or _BUSY not in _reason(response):
                return response
            if time.monotonic() > end:
                raise TransportError("the server is busy with this payment: try again")
            time.sleep(0.1)


def _check_voucher_signer(payments: Payments, signer: Signer, scheme: str | None) -> None:
    """See that a key's vouchers can be used.

    Raises:
        InputError: They cannot.
    """
    if scheme not in {None, BATCH}:
        raise InputError(f"scheme {scheme} has no vouchers for a key of their own to sign", hint=f"use {BATCH}")
    if signer.curve != "secp256k1" and not is_ours(payments.chain, payments.payer.contract.address):
        raise InputError(f"the channels at {payments.payer.contract.address} take no vouchers of a P-256 key")


def _bought(response: Any, paid: int, url: str) -> Bought:
    return Bought(response.status_code, response.content, response.headers.get("content-type", ""), paid, url)


def _payload_of(header: str) -> Any:
    from x402.http.utils import decode_payment_signature_header  # noqa: PLC0415 - the extra `gateway`

    return decode_payment_signature_header(header)


def _price_of(payload: Any) -> int:
    """Return a payment's price, which a channel's promise may have covered already."""
    return int(payload.accepted.amount)


def _reason(response: Any) -> str:
    from x402.http.utils import decode_payment_required_header  # noqa: PLC0415 - the extra `gateway`

    with suppress(ValueError, KeyError):
        return str(decode_payment_required_header(response.headers["payment-required"]).error or "no reason given")
    return "no reason given"
