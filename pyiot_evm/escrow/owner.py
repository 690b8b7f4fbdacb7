"""The owner: hand over to whoever paid, give back what cannot be handed over, claim what was damaged.

Every rental is decided once, in the journal, before anything is sent: *hand over* where the renter's point is on the
curve and the mask fits it, *refund* where they are not, or where the owner said so. A decision never changes: whoever
signed a refund never hands over. Once the released key is in a transaction the renter has it, even if that transaction
comes too late; so nothing is handed over in the last minutes before the deadline.

Example:
    >>> from pyiot_evm.escrow.owner import DECISIONS
    >>> DECISIONS
    ('hand-over', 'refund')
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pyiot_evm.escrow.offering import access_key
from pyiot_evm.escrow.records import OfferState, Role, State
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.market.key_release import Sale, release

if TYPE_CHECKING:
    from pyiot_evm.chain.calls import Call
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.policies import Claim, OwnerPolicy
    from pyiot_evm.escrow.records import RentalRecord
    from pyiot_evm.types import TermsId

__all__ = ["DECISIONS", "Owner", "require_state"]

DECISIONS: Final = ("hand-over", "refund")
_log = logging.getLogger(__name__)


class Owner:
    """What an owner does about rentals.

    Args:
        clerk: Whose.
        policy: How it acts.
    """

    def __init__(self, clerk: Clerk, *, policy: OwnerPolicy) -> None:
        self._clerk = clerk
        self._policy = policy

    def look(self) -> list[RentalRecord]:
        """Find new rentals of this owner's offers and return those that are not over, as the chain has them."""
        clerk = self._clerk
        clerk.find(Role.OWNER, clerk.address, born=self._born, offer_of=self._offer)
        return clerk.open_rentals(Role.OWNER)

    def _born(self) -> int:
        blocks = [record.offer.block for record in self._clerk.journal.offers(self._clerk.address)]
        return min(blocks, default=self._clerk.chain.block_number())

    def _offer(self, terms_id: TermsId) -> RentalOffer | None:
        record = self._clerk.journal.offer(terms_id, self._clerk.address)
        return None if record is None or record.state is OfferState.DRAFTED else record.offer

    # Hand over

    def hand_over(self, record: RentalRecord) -> RentalRecord:
        """Release the access key to the renter.

        Raises:
            InputError: It is not opened, was refunded, is not confirmed yet, or its deadline is too near.
            VerificationError: The renter's mask does not fit: refund it.
            ContractError: The contract refused.
        """
        if record.state is State.ACTIVE:
            return record
        return self._clerk.act(record, "hand-over", self.decided_hand_over(record))

    def decided_hand_over(self, record: RentalRecord) -> Call[None]:
        """Decide for good to hand over and return the call; see :meth:`hand_over`."""
        clerk = self._clerk
        require_state(record, State.OPENED)
        self.release_of(record)
        if not self.is_in_time(record, clerk.now()):
            raise InputError(f"rental {record.rental_id} is too close to its deadline to be handed over")
        if record.rental_id not in self.confirmed([record]):
            raise InputError(f"the opening of {record.rental_id} is not confirmed yet", hint="try again later")
        if clerk.journal.decide(record, "hand-over") != "hand-over":
            raise InputError(f"rental {record.rental_id} is being refunded: it is not handed over any more")
        return self.hand_over_call(record)

    def hand_over_call(self, record: RentalRecord) -> Call[None]:
        """Return the call that releases the access key; only for a rental that was decided so."""
        return self._clerk.contract.hand_over(self._clerk.struct(record), self.release_of(record))

    def release_of(self, record: RentalRecord) -> int:
        """Return κ' for a rental.

        Raises:
            VerificationError: The renter's point is off the curve, or the mask does not fit it.
        """
        clerk = self._clerk
        whom = Sale(clerk.chain.chain_id, clerk.contract.address, record.terms_id, record.renter)
        key = access_key(clerk, record.offer.terms)
        return release(whom, key, (record.ephemeral_x, record.ephemeral_y), record.mask)

    def judge(self, record: RentalRecord) -> str:
        """Say what should become of an opened rental, and decide it for good."""
        try:
            self.release_of(record)
        except VerificationError as error:
            _log.warning("rental %s will be refunded: %s", record.rental_id, error)
            return self._clerk.journal.decide(record, "refund")
        return self._clerk.journal.decide(record, "hand-over")

    def is_in_time(self, record: RentalRecord, now: int) -> bool:
        """Whether there is time enough to hand over."""
        return self._clerk.late(now) < self.hand_over_until(record)

    def hand_over_until(self, record: RentalRecord) -> int:
        """Return the time before which the access key may go out, Unix seconds: the deadline less the margin."""
        return record.deadline - self._policy.hand_over_margin

    def confirmed(self, records: list[RentalRecord]) -> set[object]:
        """Return the ids of those rentals whose opening is deep enough in the chain."""
        chain, depth = self._clerk.chain, self._policy.confirmations
        depth = chain.confirmations if depth is None else depth
        if not depth:
            return {record.rental_id for record in records}
        block = chain.block_number() - depth
        if block < 0 or not records:
            return set()
        standings = self._clerk.standings([record.rental_id for record in records], block=block)
        return {r.rental_id for r, s in zip(records, standings, strict=True) if s.state is State.OPENED}

    # Give back

    def refund(self, record: RentalRecord) -> RentalRecord:
        """Give everything back to the renter: before the hand-over, or after it where the rental failed.

        Raises:
            InputError: It is being handed over just now, or the device has checked out.
        """
        return self._clerk.act(record, "refund", self.refund_call(record))

    def refund_call(self, record: RentalRecord) -> Call[None]:
        """Return the call that gives everything back; from then on nothing of this home hands over."""
        require_state(record, State.OPENED, State.ACTIVE, State.CHECKED_IN)
        if record.state is State.OPENED:
            self._decide_refund(record)
        return self._clerk.contract.refund(self._clerk.struct(record))

    def _decide_refund(self, record: RentalRecord) -> None:
        is_overdue = self._clerk.now() >= record.deadline  # no hand-over can be mined any more
        if not is_overdue and self._clerk.journal.decide(record, "refund") != "refund":
            raise InputError(f"rental {record.rental_id} is being handed over: its renter may have the key already")

    # Claim

    def claim(self, record: RentalRecord, claim: Claim) -> RentalRecord:
        """Claim a part of the deposit; the rest goes back at once.

        Raises:
            InputError: The device has not checked out, or the amount is out of bounds.
        """
        if record.state is State.CLAIMED and record.standing.claimed == claim.amount:
            return record
        return self._clerk.act(record, "claim", self.claim_call(record, claim))

    def claim_call(self, record: RentalRecord, claim: Claim) -> Call[None]:
        """Return the call that claims; see :meth:`claim`."""
        clerk, deposit = self._clerk, record.offer.terms.deposit
        require_state(record, State.CHECKED_OUT)
        if not 0 < claim.amount <= deposit:
            most, wanted = (clerk.money(record.offer.terms.token, units) for units in (deposit, claim.amount))
            raise InputError(f"a claim is above 0 and at most the deposit, {most}, not {wanted}")
        return clerk.contract.claim(clerk.struct(record), claim.amount, claim.evidence)

    def waive(self, record: RentalRecord) -> RentalRecord:
        """Give the whole deposit back at once instead of waiting until the claim window ends.

        Raises:
            InputError: Nothing of it is held any more, or the device has not checked out.
        """
        return self._clerk.act(record, "waive", self.waive_call(record))

    def waive_call(self, record: RentalRecord) -> Call[None]:
        """Return the call by which the owner gives up what it could still get; see :meth:`waive`."""
        require_state(record, State.CHECKED_OUT, State.CLAIMED, State.DISPUTED)
        return self._clerk.contract.waive(self._clerk.struct(record))


def require_state(record: RentalRecord, *states: State) -> None:
    """Check where a rental stands.

    Raises:
        InputError: It is in none of these states.
    """
    if record.state not in states:
        wanted = " or ".join(states)
        raise InputError(f"rental {record.rental_id} is {record.state}, not {wanted}")
