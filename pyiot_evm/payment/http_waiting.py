"""Payments over HTTP that wait for their answers: what is at stake with each, and when one is given up.

A server that takes a payment and never answers keeps nobody else waiting. Whoever asks for its address again sends the
same payment again. What was promised stays promised: a transfer counts until nobody can take it any more, a voucher for
ever, as its payee may show it at any time.
"""

from __future__ import annotations

import json
import logging
import time
from base64 import b64decode
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyiot_evm.exceptions import InputError
from pyiot_evm.payment.budgets import HOUR
from pyiot_evm.payment.tokens import authorization_state
from pyiot_evm.types import Address, Bytes32

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyiot_evm.chain import Chain
    from pyiot_evm.payment.http_book import HttpBook, Purchase
    from pyiot_evm.payment.http_lanes import Lanes

__all__ = ["GIVEN_UP_AFTER", "WaitingPayment", "WaitingPayments"]

_log = logging.getLogger(__name__)

GIVEN_UP_AFTER: Final = 24
"""Hours after which the answer to a payment is not asked for again: gateways of this suite keep answers for as long."""
_ID_LENGTH: Final = 20


@dataclass(frozen=True, slots=True)
class WaitingPayment:
    """A payment that was sent, or begun, and has no answer.

    Attributes:
        id: The first characters of its identifier; all of it would be enough to ask for the answer.
        url: What was asked for.
        payee: Who is paid.
        price: Base units.
        token: The ERC-20 in which it is paid.
        at: When it was made, Unix seconds; the beginning of that hour.
        good_until: When a transfer cannot be taken any more, Unix seconds; ``None`` for a voucher, which stays good.
        has_key: Whether its payer gave it a key; such a payment waits for ever.
    """

    id: str
    url: str
    payee: Address
    price: int
    token: Address
    at: int
    good_until: int | None
    has_key: bool


class WaitingPayments:
    """The payments of one account that wait.

    Args:
        chain: The chain.
        book: Where its payments over HTTP are written down.
        lanes: Its lanes.
        clock: Unix seconds.
    """

    def __init__(self, chain: Chain, book: HttpBook, lanes: Lanes, *, clock: Callable[[], float] = time.time) -> None:
        self._chain = chain
        self._book = book
        self._lanes = lanes
        self._clock = clock

    def all(self) -> list[WaitingPayment]:
        """Return them, oldest first; those that are under way are among them."""
        return [_shown(purchase) for purchase in self._book.unanswered()]

    def drop(self, id: str) -> WaitingPayment:  # noqa: A002 - what it is called everywhere
        """Wait no longer for the answer to a payment: the same address is bought anew then.

        Args:
            id: Its id, or the first characters that name no other one.

        Raises:
            InputError: There is no such payment, or it is under way, or it has a key and could still be taken.
        """
        found = [purchase for purchase in self._book.unanswered() if id and purchase.identifier.startswith(id)]
        if len(found) != 1:
            count = "no payment that waits begins" if not found else f"{len(found)} payments that wait begin"
            raise InputError(f"{count} with {id!r}", hint="`pyiot pay waiting` shows them")
        (purchase,) = found
        with self._lanes.hold(purchase.payee, purchase.lane) as is_held:
            if not is_held:
                raise InputError(f"payment {id} is under way, or another one to this payee is", hint="try again")
            if self._book.is_unanswered(purchase):
                if self.end([purchase]) and purchase.is_named:
                    raise InputError(
                        f"payment {id} is not dropped, and its key names it: it was taken, or could still be",
                        hint="the same command sends the same payment again; another key makes another payment",
                    )
                self._book.finish(purchase)
        return _shown(purchase)

    def end(self, purchases: Sequence[Purchase]) -> list[Purchase]:
        """Forget payments that can come to nothing any more; return the rest. Their lanes must be held.

        What nobody has, or can take, leaves the budget. What somebody took, or may take, stays counted.
        """
        now, void = self._look_at(purchases)
        rest = []
        for purchase in purchases:
            is_old = int(self._clock()) // HOUR - purchase.hour > GIVEN_UP_AFTER
            transfer = _transfer_of(purchase)
            if not purchase.header or purchase.identifier in void:
                self._book.undo(purchase)
            elif is_old and not purchase.is_named and (transfer is None or transfer.valid_before <= now):
                _log.warning("the answer to a payment for %s is given up: it stays counted", purchase.url)
                self._book.finish(purchase)
            else:
                rest.append(purchase)
        return rest

    def is_void(self, purchase: Purchase) -> bool:
        """Whether a payment is a transfer whose authorization was not used, and cannot be any more."""
        return purchase.identifier in self._look_at([purchase])[1]

    def _look_at(self, purchases: Sequence[Purchase]) -> tuple[int, set[str]]:
        """Return the chain's time, and which transfers are void; however many there are, the node is asked twice."""
        found = [(p, transfer) for p in purchases if (transfer := _transfer_of(p)) is not None]
        if not found:
            return 0, set()
        now = self._chain.now(confirmed=True)
        late = [(p, transfer) for p, transfer in found if transfer.valid_before <= now]
        calls = [authorization_state(p.token, transfer.payer, transfer.nonce) for p, transfer in late]
        used = self._chain.call_many(calls) if calls else []
        return now, {p.identifier for (p, _), is_used in zip(late, used, strict=True) if not is_used}


@dataclass(frozen=True, slots=True)
class _Transfer:
    payer: Address
    nonce: Bytes32
    valid_before: int


def _transfer_of(purchase: Purchase) -> _Transfer | None:
    """Return what a payment authorizes by ERC-3009; ``None`` where it is a voucher, or none that this can read."""
    if purchase.channel or not purchase.header:
        return None
    with suppress(KeyError, TypeError, ValueError):
        terms = json.loads(b64decode(purchase.header))["payload"]["authorization"]
        return _Transfer(Address(terms["from"]), Bytes32(terms["nonce"]), int(terms["validBefore"]))
    return None


def _shown(purchase: Purchase) -> WaitingPayment:
    transfer = _transfer_of(purchase)
    return WaitingPayment(
        id=purchase.identifier[:_ID_LENGTH],
        url=purchase.url,
        payee=purchase.payee,
        price=purchase.price,
        token=purchase.token,
        at=purchase.hour * HOUR,
        good_until=None if transfer is None else transfer.valid_before,
        has_key=purchase.is_named,
    )
