"""The till: no answer leaves before it is paid for, a paid one is charged once, and a fault of ours is never a 402.

x402's own server decides what is asked and whether it was paid; this module gives it the request, keeps the answer
until the settlement went through, and tells faults from refusals.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from pyiot_evm.device.schema import check_depth
from pyiot_evm.exceptions import ConsistencyError, InputError, PyIotEvmError, TransportError
from pyiot_evm.gateway.proofs import Payment, is_backed, payment_of, proof_of
from pyiot_evm.gateway.turns import Turns
from pyiot_evm.payment.tokens import is_authorization_used
from pyiot_evm.payment.x402_terms import EXACT, PAYMENT_IDENTIFIER
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyiot_evm.chain import Chain
    from pyiot_evm.gateway.answers import Answer, Answers
    from pyiot_evm.gateway.signer import Faults
    from pyiot_evm.gateway.storage import BookStorage

__all__ = [
    "BY_ALL",
    "BY_CHANNEL",
    "IDENTIFIER_DECLARATION",
    "PaidRequest",
    "Reply",
    "Till",
    "decode_payment",
]

_log = logging.getLogger(__name__)
_JSON: Final = {"content-type": "application/json"}
_MAX_HEADER: Final = 16_384
_WAITING: Final = 4
BY_ALL: Final = "/by-all"
"""The route of what is paid by every scheme that the gateway takes."""
BY_CHANNEL: Final = "/by-channel"
"""The route of what is too cheap for a transaction of its own."""
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
IDENTIFIER_DECLARATION: Final[dict[str, Any]] = {
    "info": {"required": False},
    "schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "required": {"type": "boolean"},
            "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]+$"},
        },
        "required": ["required"],
    },
}
"""x402's extension by which a client names a payment: the same name is the same payment."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: dict(_JSON))

    @classmethod
    def problem(cls, status: int, message: str) -> Reply:
        """Return an error as JSON."""
        return cls(status, json.dumps({"error": message}).encode())


class PaidRequest:
    """A request for something that has a price, as x402's server asks for it (its `HTTPAdapter`).

    Args:
        path: The path.
        url: What exactly is bought: the address of the range that the 402 fixed.
        headers: The request's headers, by lower-case name.
        payment: The payment in them, see :func:`decode_payment`.
        price: Base units.
        route: The terms that it is sold on: a path of x402's server.
        produce: Makes the answer.
    """

    def __init__(
        self,
        *,
        path: str,
        url: str,
        headers: Mapping[str, str],
        payment: Any,
        price: int,
        route: str,
        produce: Callable[[], bytes],
    ) -> None:
        self.path = path
        self.url = url
        self.payment = payment
        self.price = price
        self.route = route
        self.produce = produce
        self._headers = headers

    def get_header(self, name: str) -> str | None:
        """Return a header."""
        return self._headers.get(name.lower())

    def get_method(self) -> str:
        """Return the method."""
        return "GET"

    def get_path(self) -> str:
        """Return the path."""
        return self.path

    def get_url(self) -> str:
        """Return what is bought."""
        return self.url

    def get_accept_header(self) -> str:
        """Return what the client takes: always JSON here."""
        return "application/json"

    def get_user_agent(self) -> str:
        """Return who asks."""
        return self._headers.get("user-agent", "")


class Till:
    """Serves paid requests, one at a time in each thread.

    Args:
        server: x402's `x402HTTPResourceServerSync`.
        chain: The chain.
        storage: Where x402's channels are kept.
        answers: Where paid answers are kept.
        faults: Where faults of ours are noted.
    """

    def __init__(self, *, server: Any, chain: Chain, storage: BookStorage, answers: Answers, faults: Faults) -> None:
        self._server = server
        self._chain = chain
        self._storage = storage
        self._answers = answers
        self._faults = faults
        self._turns = Turns(waiting=_WAITING, folder=chain.path / "turns")

    def serve(self, request: PaidRequest) -> Reply:
        """Answer a request: with what it asks, or with 402 and the terms, or with 500 where the fault is ours."""
        self._faults.clear()
        payment = request.payment
        if payment is not None and _is_permit(payment.payload):
            return Reply.problem(400, "payments here are ERC-3009 authorizations and vouchers")
        name = None if payment is None else _name_of(payment)
        with self._turns.taken([] if payment is None else _turns_of(payment, name)) as is_mine:
            if not is_mine:
                return Reply.problem(503, "too many requests with this payment or channel wait already: try again")
            return self._serve(request, name)

    def _serve(self, request: PaidRequest, name: tuple[str, str] | None) -> Reply:
        if name is not None and (known := self._stored(name, request)) is not None:
            return known
        context = self._context(request)
        verified = self._server.process_http_request(context)
        if self._faults.found is not None:
            return self._fault()
        if verified.type != "payment-verified":
            return _instructed(verified.response)
        body = self._produce(request, verified)
        if name is not None:
            self._prepare(name, request, verified, body)
        return self._settle(context, verified, name, body)

    # Below

    @staticmethod
    def _context(request: PaidRequest) -> Any:
        from x402.http.types import HTTPRequestContext  # noqa: PLC0415 - the extra `gateway`

        return HTTPRequestContext(
            adapter=cast("Any", request),
            path=request.route,
            method="GET",
            payment_header=request.get_header("payment-signature"),
        )

    def _produce(self, request: PaidRequest, verified: Any) -> bytes:
        try:
            return request.produce()
        except BaseException:
            from x402.schemas import VerifiedPaymentCancelOptions  # noqa: PLC0415

            verified.cancellation_dispatcher.cancel_sync(VerifiedPaymentCancelOptions(reason="handler_threw"))
            raise

    def _settle(self, context: Any, verified: Any, name: tuple[str, str] | None, body: bytes) -> Reply:
        from x402.http.types import HTTPTransportContext  # noqa: PLC0415

        def settle() -> Any:
            return self._server.process_settlement(
                verified.payment_payload,
                verified.payment_requirements,
                context=context,
                declared_extensions=verified.declared_extensions,
                transport_context=HTTPTransportContext(request=context),
                before_handler_settlement=verified.before_handler_settlement,
            )

        is_channel = verified.payment_requirements.scheme != EXACT
        if is_channel and verified.payment_payload.payload.get("type") == "voucher":
            with self._storage.transaction():  # the charge and its answer, or neither
                settled = settle()
                self._note_settled(name, settled)
        else:
            settled = settle()
            if settled.success:
                self._see_that_money_moved(verified)
            if settled.success and self._faults.found is not None and is_channel:
                channel_id = verified.payment_payload.payload["voucher"]["channelId"]
                self._storage.take_back(channel_id, int(verified.payment_requirements.amount))
            if self._faults.found is None:
                self._note_settled(name, settled)
        if self._faults.found is not None:
            return self._fault()
        if not settled.success:
            self._drop(name)
            return _instructed(settled.response)
        return Reply(200, body, {**_JSON, **settled.headers, "cache-control": "private"})

    def _note_settled(self, name: tuple[str, str] | None, settled: Any) -> None:
        if settled.success and name is not None:
            self._answers.settle(*name, settled.headers)

    def _see_that_money_moved(self, verified: Any) -> None:
        """Ask the token itself: a facilitator's receipt is a word, and what is delivered for it is gone."""
        proof = proof_of(verified)
        with suppress(ConsistencyError), self._faults.noted_all():
            if "nonce" in proof and not self._is_used(proof):
                raise ConsistencyError("the payment was settled, but its authorization is not used on the chain")

    def _is_used(self, proof: dict[str, str]) -> bool:
        parties = Address(proof["token"]), Address(proof["from"])
        return is_authorization_used(self._chain, *parties, bytes.fromhex(proof["nonce"]))

    def _fault(self) -> Reply:
        _log.error("a paid request failed: %s", self._faults.found)
        return Reply.problem(500, "the gateway cannot reach its chain or its books; nothing was delivered, try again")

    # Stored answers

    def _stored(self, name: tuple[str, str], request: PaidRequest) -> Reply | None:
        known = self._answers.find(*name)
        if known is None:
            return None
        if known.request != request.url:
            return Reply.problem(409, "this payment identifier was used for another request")
        if known.paid:
            return Reply(200, known.body, {**_JSON, **known.headers, "cache-control": "private"})
        with self._faults.noted_all():
            return self._recovered(name, known)

    def _recovered(self, name: tuple[str, str], known: Answer) -> Reply | None:
        """Return an answer that was paid for before its gateway could note so, ``None`` where it was not."""
        payment = payment_of(self._chain, self._storage.contract, known.headers)
        if payment is Payment.SEEN:
            return Reply.problem(503, "the payment waits for its confirmations: try again")
        if payment is Payment.NONE or not self._is_charged(known.headers):
            return None
        self._answers.settle(*name, {})
        return Reply(200, known.body, {**_JSON, "cache-control": "private"})

    def _is_charged(self, proof: dict[str, str]) -> bool:
        """Charge a payment that went into a channel, where it is still there."""
        if "voucher" not in proof:
            return True
        is_there = is_backed(self._chain, self._storage.contract, proof)
        return is_there and self._storage.charge_deposited(json.loads(proof["voucher"]))

    def _drop(self, name: tuple[str, str] | None) -> None:
        """Forget an answer that nobody paid: those of payments that are spoiled on purpose would fill the disk."""
        known = None if name is None else self._answers.find(*name)
        if name is None or known is None or known.paid:
            return
        with suppress(PyIotEvmError):
            if payment_of(self._chain, self._storage.contract, known.headers) is Payment.NONE:
                self._answers.drop(*name)

    def _prepare(self, name: tuple[str, str], request: PaidRequest, verified: Any, body: bytes) -> None:
        proof = proof_of(verified)
        if proof:
            proof["at"] = str(self._chain.block_number())
        self._answers.prepare(*name, request.url, body, proof, at=int(time.time()))


def decode_payment(header: str | None) -> Any:
    """Return the payment of a request's header, ``None`` where there is none that can be read."""
    if header is None or len(header) > _MAX_HEADER:
        return None
    from pydantic import ValidationError  # noqa: PLC0415 - the extra `gateway`
    from x402.http.utils import decode_payment_signature_header, safe_base64_decode  # noqa: PLC0415

    try:
        check_depth(safe_base64_decode(header).encode(errors="replace"))
        payment = decode_payment_signature_header(header)
    except (ValueError, ValidationError, AttributeError, TypeError, RecursionError, InputError):
        return None
    return payment if payment.x402_version == 2 else None  # noqa: PLR2004 - the version


def _name_of(payment: Any) -> tuple[str, str] | None:
    """Return payer and identifier of a payment that has both."""
    extension = (payment.extensions or {}).get(PAYMENT_IDENTIFIER)
    info = extension.get("info") if isinstance(extension, dict) else None
    identifier = info.get("id") if isinstance(info, dict) else None
    raw = payment.payload
    if not isinstance(identifier, str) or not _IDENTIFIER.fullmatch(identifier) or not isinstance(raw, dict):
        return None
    part, field_ = ("authorization", "from") if payment.accepted.scheme == EXACT else ("channelConfig", "payer")
    party = raw.get(part)
    payer = party.get(field_) if isinstance(party, dict) else None
    return (payer.lower(), identifier) if isinstance(payer, str) else None


def _turns_of(payment: Any, name: tuple[str, str] | None) -> list[str]:
    """Return what one request at a time may use: a payment's name, then its authorization or its channel."""
    raw = payment.payload
    turns = [] if name is None else [f"name {name[0]} {name[1]}"]
    for part, field_ in (("authorization", "nonce"), ("voucher", "channelId")):
        parts = raw.get(part) if isinstance(raw, dict) else None
        if isinstance(parts, dict) and isinstance(parts.get(field_), str):
            turns.append(f"{part} {_spelled(parts[field_])}")
    return turns


def _spelled(text: str) -> str:
    """Return hex in one spelling: x402's code reads it with and without ``0x``, capitals and blanks."""
    with suppress(ValueError):
        return bytes.fromhex(text.removeprefix("0x")).hex()
    return text.lower()


def _is_permit(raw: Any) -> bool:
    """Whether a payment is by Permit2: nothing here knows its nonces, so it could be shown twice at once."""
    deposit = raw.get("deposit") if isinstance(raw, dict) else None
    inner = deposit.get("authorization") if isinstance(deposit, dict) else None
    return any(isinstance(part, dict) and "permit2Authorization" in part for part in (raw, inner))


def _instructed(response: Any) -> Reply:
    """Return what x402's server wants answered."""
    if response is None:
        raise TransportError("x402's server gave no answer")
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = response.body
    content = body.encode() if isinstance(body, str) else json.dumps(body or {}).encode()
    return Reply(response.status, content, {**_JSON, **headers})
