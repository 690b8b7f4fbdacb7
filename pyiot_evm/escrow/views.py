"""What the calls about rentals return.

Example:
    >>> import dataclasses
    >>> [field.name for field in dataclasses.fields(Ending)]
    ['how', 'charge', 'units', 'to_owner', 'to_renter', 'shown']
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pyiot_evm.contracts import deposit_escrow as structs
from pyiot_evm.escrow.records import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiot_evm.chain.calls import Log
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.records import RentalRecord, Role
    from pyiot_evm.sending import TransactionRecord
    from pyiot_evm.types import Address, Bytes32, RentalId, TermsId

__all__ = ["Ending", "RentalView", "Shown", "ending_of", "events_of", "shown_by", "view"]

_EVENTS: tuple[Any, ...] = (
    structs.RentalOpened,
    structs.RentalRefunded,
    structs.RentalHandedOver,
    structs.RentalCheckedIn,
    structs.RentalCheckedOut,
    structs.CheckOutMissed,
    structs.DepositClaimed,
    structs.ClaimAccepted,
    structs.ClaimRejected,
    structs.ClaimRuled,
    structs.ClaimWaived,
    structs.RentalClosed,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the device and the owner showed the chain: times, and hashes of files that an arbiter asks for.

    Attributes:
        checked_in_at: When the renter got in, by the device's clock, Unix seconds; ``None`` where it was not shown.
        checked_out_at: When the rental ended, by the device's clock.
        condition_in: keccak256 of what the device saw at the check-in; ``None`` where it saw nothing.
        condition_out: The same at the check-out.
        evidence: keccak256 of the owner's evidence for its claim; ``None`` where it gave none.

    Example:
        >>> from pyiot_evm.types import Bytes32
        >>> Shown(condition_in=Bytes32(b"1" * 32), evidence=Bytes32(b"1" * 32)).named(b"1" * 32)
        ['check-in', 'evidence']
    """

    checked_in_at: int | None = None
    checked_out_at: int | None = None
    condition_in: Bytes32 | None = None
    condition_out: Bytes32 | None = None
    evidence: Bytes32 | None = None

    @property
    def hashes(self) -> dict[str, Bytes32]:
        """The hashes that were shown, by what they are of: ``check-in``, ``check-out``, ``evidence``."""
        found = {"check-in": self.condition_in, "check-out": self.condition_out, "evidence": self.evidence}
        return {name: digest for name, digest in found.items() if digest is not None}

    def named(self, digest: bytes) -> list[str]:
        """Say what a file is that has this keccak256: any of the names in :attr:`hashes`, or nothing."""
        return [name for name, shown in self.hashes.items() if shown == digest]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a rental ended, and who got what.

    Attributes:
        how: ``refunded``, ``released``, ``waived``, ``granted``, ``accepted``, ``ruled`` or ``unruled``; else empty.
        charge: Fee and metered use, base units, once the device has checked out.
        units: What the device metered.
        to_owner: Base units that went to the owner so far.
        to_renter: Base units that went back to the renter so far.
        shown: What the device and the owner showed the chain on the way.
    """

    how: str
    charge: int | None
    units: int | None
    to_owner: int
    to_renter: int
    shown: Shown = field(default_factory=Shown)


@dataclass(frozen=True, slots=True)
class RentalView:
    """One rental of an account.

    Attributes:
        role: ``owner``, ``renter`` or ``arbiter``.
        deadline: The end of the present state's window, Unix seconds; 0 where there is none.
        held: What is still held, base units.
        claimed: What of it the owner claims, base units.
        decision: ``hand-over`` or ``refund``, once the owner has decided.
        has_access_key: Whether the renter has the access key.
        transactions: What this account sent for it.
    """

    rental_id: RentalId
    terms_id: TermsId
    role: Role
    state: State
    deadline: int
    held: int
    claimed: int
    offer: RentalOffer
    renter: Address
    decision: str | None
    has_access_key: bool
    transactions: tuple[TransactionRecord, ...] = field(default=())

    @property
    def id(self) -> RentalId:
        """What the calls about rentals take."""
        return self.rental_id

    @property
    def owner(self) -> Address:
        """Who rents out."""
        return self.offer.terms.owner

    @property
    def title(self) -> str:
        """What is rented."""
        return self.offer.document.title


def view(clerk: Clerk, record: RentalRecord) -> RentalView:
    """Return a journal's row as a result."""
    return RentalView(
        rental_id=record.rental_id,
        terms_id=record.terms_id,
        role=record.role,
        state=record.state,
        deadline=0 if record.state in (State.DRAFTED, State.NONE) or record.state.is_over else record.deadline,
        held=record.standing.held,
        claimed=record.standing.claimed,
        offer=record.offer,
        renter=record.renter,
        decision=record.decision,
        has_access_key=record.access_key is not None,
        transactions=clerk.transactions(record.rental_id),
    )


def events_of(clerk: Clerk, record: RentalRecord) -> list[Any]:
    """Return a rental's events, in the chain's order; the offer's word for where they begin is a stranger's."""
    kinds = {kind.TOPIC: kind for kind in _EVENTS}
    topics: list[Any] = [list(kinds), record.rental_id]
    events: list[Any] = []
    for first in (record.offer.block, 0):
        logs: Sequence[Log] = clerk.chain.logs(address=clerk.contract.address, topics=topics, from_block=first)
        events = [kinds[log.topics[0]].from_log(log) for log in logs]
        if record.state in _UNOPENED or any(isinstance(event, structs.RentalOpened) for event in events):
            break
    return events


def ending_of(offer: RentalOffer, events: Sequence[Any]) -> Ending:
    """Say from a rental's events how it ended and who got what."""
    how, charge, units, to_owner, to_renter, claimed = "", None, None, 0, 0, 0
    terms, state = offer.terms, State.OPENED
    for event in events:
        if isinstance(event, structs.RentalRefunded):
            how, to_renter = "refunded", offer.price
        elif isinstance(event, structs.RentalCheckedOut | structs.CheckOutMissed):
            charge, state = event.charge, State.CHECKED_OUT
            units = event.units if isinstance(event, structs.RentalCheckedOut) else None
            to_owner, to_renter = charge, terms.fee + terms.meter_cap - charge
        elif isinstance(event, structs.DepositClaimed):
            claimed, state = event.amount, State.CLAIMED
            to_renter += terms.deposit - claimed
        elif isinstance(event, structs.ClaimRejected):
            state = State.DISPUTED
        elif isinstance(event, structs.ClaimAccepted):
            how, to_owner = "accepted", to_owner + claimed
        elif isinstance(event, structs.ClaimRuled):
            how, to_owner, to_renter = "ruled", to_owner + event.award, to_renter + claimed - event.award
        elif isinstance(event, structs.ClaimWaived):
            how, to_renter = "waived", to_renter + event.amount
        elif isinstance(event, structs.RentalClosed):
            is_owners = event.recipient == terms.owner
            how = _CLOSED.get(state, "refunded")
            to_owner += event.amount if is_owners else 0
            to_renter += 0 if is_owners else event.amount
    return Ending(how, charge, units, to_owner, to_renter, shown_by(events))


def shown_by(events: Sequence[Any]) -> Shown:
    """Say from a rental's events what the device and the owner showed the chain."""
    found = Shown()
    for event in events:
        if isinstance(event, structs.RentalCheckedIn):
            found = replace(found, checked_in_at=event.time, condition_in=_given(event.condition))
        elif isinstance(event, structs.RentalCheckedOut):
            found = replace(found, checked_out_at=event.time, condition_out=_given(event.condition))
        elif isinstance(event, structs.DepositClaimed):
            found = replace(found, evidence=_given(event.evidence))
    return found


def _given(digest: Bytes32) -> Bytes32 | None:
    return digest if any(digest) else None


_UNOPENED = (State.NONE, State.DRAFTED, State.ABANDONED)
_CLOSED = {State.CHECKED_OUT: "released", State.CLAIMED: "granted", State.DISPUTED: "unruled"}
