"""The rows of the rental journal, as frozen dataclasses.

Example:
    >>> State.of(4), State.CHECKED_OUT.is_over, State.CLOSED.is_over
    (<State.CHECKED_OUT: 'checked-out'>, False, True)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from pyiot_evm.device.typed import address_word, word
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import RentalId

if TYPE_CHECKING:
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.types import Address, Bytes32, TermsId

__all__ = ["OfferRecord", "OfferState", "RentalRecord", "Role", "Standing", "State", "rental_id"]


class Role(StrEnum):
    """What an account is in a rental."""

    OWNER = "owner"
    RENTER = "renter"
    ARBITER = "arbiter"
    CARRIER = "carrier"  # anybody else: it sends what another signed, or what anybody may send


class OfferState(StrEnum):
    """How far an offer has come."""

    DRAFTED = "drafted"  # its salt and its access key are fixed; nothing is signed
    SIGNED = "signed"
    CANCELLED = "cancelled"


class State(StrEnum):
    """How far a rental has come: the chain's states, and the two before anything is on the chain."""

    NONE = "none"  # the chain does not know it: never opened, or taken back by a reorganisation
    OPENED = "opened"
    ACTIVE = "active"
    CHECKED_IN = "checked-in"
    CHECKED_OUT = "checked-out"
    CLAIMED = "claimed"
    DISPUTED = "disputed"
    CLOSED = "closed"
    DRAFTED = "drafted"  # the renter's one-time key is fixed; the payment may or may not be on its way
    ABANDONED = "abandoned"  # nothing was ever paid

    @classmethod
    def of(cls, number: int) -> Self:
        """Return the state that the contract's number stands for."""
        return list(cls)[number]

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen any more."""
        return self in (State.CLOSED, State.ABANDONED)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a rental stands on the chain.

    Attributes:
        deadline: Of that state, Unix seconds.
        held: What is still held for it, base units.
        claimed: What of it the owner claims.
    """

    state: State
    deadline: int
    held: int
    claimed: int


@dataclass(frozen=True, slots=True)
class OfferRecord:
    """One offer of an owner.

    Attributes:
        request: The hash of what was asked for.
        number: Counts the offers of one and the same request, from 0.
    """

    terms_id: TermsId
    owner: Address
    request: Bytes32
    number: int
    state: OfferState
    offer: RentalOffer
    created_at: int


@dataclass(frozen=True, slots=True)
class RentalRecord:
    """One rental as one account sees it.

    Attributes:
        account: Whose row it is.
        role: What that account is in it.
        standing: What the chain said last; DRAFTED and ABANDONED are the renter's own.
        created_at: When the renter drafted it, Unix seconds.
        decision: ``hand-over`` or ``refund``, once the owner has decided; it never changes.
        access_key: The access key that the renter got, encrypted.
    """

    rental_id: RentalId
    terms_id: TermsId
    account: Address
    role: Role
    standing: Standing
    offer: RentalOffer
    renter: Address
    mask: Address
    ephemeral_x: int
    ephemeral_y: int
    created_at: int
    decision: str | None = None
    access_key: bytes | None = None

    @property
    def state(self) -> State:
        """How far it has come."""
        return self.standing.state

    @property
    def deadline(self) -> int:
        """The end of the present state's window, Unix seconds."""
        return self.standing.deadline


def rental_id(terms_id: TermsId, *, renter: Address, mask: Address, ephemeral: tuple[int, int]) -> RentalId:
    """Return the id of a rental.

    Args:
        terms_id: The terms.
        renter: Who pays.
        mask: The renter's mask.
        ephemeral: The renter's point E.
    """
    parts = (terms_id, address_word(renter), address_word(mask), word(ephemeral[0]), word(ephemeral[1]))
    return RentalId(keccak256(b"".join(parts)))
