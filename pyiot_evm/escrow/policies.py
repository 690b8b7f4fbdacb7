"""How owners, renters and arbiters behave when nobody is asked.

Example:
    >>> RenterPolicy(accept_up_to=0).reply_margin(window=7200), RenterPolicy().reply_margin(window=600)
    (3600, 300)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pyiot_evm.exceptions import InputError
from pyiot_evm.types import Address, Bytes32

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyiot_evm.device.reading import Reading
    from pyiot_evm.escrow.views import RentalView

__all__ = ["ArbiterPolicy", "Claim", "OwnerPolicy", "RenterPolicy"]

_HOUR, _DAY = 3600, 24 * 3600


@dataclass(frozen=True, slots=True)
class Claim:
    """What an owner claims of a deposit.

    Attributes:
        amount: Base units; 0 gives the whole deposit back at once.
        evidence: keccak256 of what shows the damage, or zero.

    Raises:
        InputError: It is no amount, or no hash.
    """

    amount: int
    evidence: Bytes32 = Bytes32(bytes(32))  # noqa: RUF009 - immutable

    def __post_init__(self) -> None:
        if type(self.amount) is not int or self.amount < 0:
            raise InputError(f"a claim is a number of base units, not {self.amount!r}")
        if len(self.evidence) != Bytes32.LENGTH:
            raise InputError(f"evidence is a hash of {Bytes32.LENGTH} bytes, not {self.evidence!r}")


Judge = Callable[["RentalView"], Claim | None]
Reply = Callable[["RentalView"], bool | None]
Ruling = Callable[["RentalView"], int | None]
Evidence = Callable[["RentalView"], "Iterable[Reading] | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerPolicy:
    """How an owner's loop acts.

    Attributes:
        confirmations: Blocks on top of the opening before the access key is handed over; the chain's own number when
            left out.
        check_in: Whether the loop shows a check-in that it holds: then the fee is due even if the device dies.
        hand_over_margin: Seconds before the deadline after which the loop no longer hands over.
        waive: Whether the deposit goes back as soon as the device has checked out, unless there is a ``claim`` to ask.
        claim: Asked once a rental is checked out, until it answers: what to claim; ``None`` for not yet.
        evidence: Asked for each disputed rental with an agreement on readings: the device's readings, of which those
            that show what was agreed are submitted; ``None`` for not yet.
        withdraw: Whether to take out what was earned.
        poll: Seconds between two looks at the chain.
    """

    confirmations: int | None = None
    check_in: bool = True
    hand_over_margin: int = 120
    waive: bool = False
    claim: Judge | None = None
    evidence: Evidence | None = None
    withdraw: bool = False
    poll: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RenterPolicy:
    """What a renter agrees to, how it pays, and how its loop acts.

    Attributes:
        max_price: Base units of ``token``, for fee, meter cap and deposit together.
        token: What the rental must be paid in, and what the limits are in; left out, any known token.
        arbiters: Who may rule; left out, anybody but the owner and the renter.
        allow_own_arbiter: Whether owner or renter may be the arbiter.
        allow_unregistered: Whether the device may be unknown to the registry, if its id is of the pinned signer.
        max_grace: Seconds of the slot that may pass before the owner hands over.
        min_reply_window: Seconds that a renter wants to have to answer a claim.
        max_claim_window: Seconds that a deposit may be held after the check-out.
        max_ruling_window: Seconds that a disputed claim may be held.
        pay: ``authorization`` (ERC-3009), ``allowance`` or ``auto``: the allowance where one is there, else the
            authorization where the token can, else an exact approval.
        check_in: Whether the loop shows a check-in that it holds: readings from before it never speak for the owner,
            but without one everything comes back if the device dies.
        accept_up_to: Base units of ``token``: a claim up to this is accepted, a higher one rejected. Left out, and for
            claims in another token, the loop waits for a person, and rejects when the reply window is nearly over, as
            silence would grant the claim.
        reply: Asked before that: whether to accept; ``None`` for not yet.
        withdraw: Whether to take out what came back.
        poll: Seconds between two looks at the chain.
    """

    max_price: int | None = None
    token: Address | None = None
    arbiters: tuple[Address, ...] | None = None
    allow_own_arbiter: bool = False
    allow_unregistered: bool = False
    max_grace: int = _HOUR
    min_reply_window: int = _HOUR
    max_claim_window: int = 7 * _DAY
    max_ruling_window: int = 30 * _DAY
    pay: Literal["auto", "allowance", "authorization"] = "auto"
    check_in: bool = True
    accept_up_to: int | None = None
    reply: Reply | None = None
    withdraw: bool = False
    poll: float = 1.0

    def reply_margin(self, *, window: int) -> int:
        """Return how many seconds before the end of a reply window the loop answers by itself."""
        return min(_HOUR, window // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArbiterPolicy:
    """How an arbiter's loop acts.

    Attributes:
        ruling: Asked for each disputed rental until it answers: what the owner gets, base units; ``None`` for not yet.
        poll: Seconds between two looks at the chain.
    """

    ruling: Ruling | None = None
    poll: float = 1.0
