"""The renter: check, pay once, take the access key, show what the device said, answer claims.

Terms open once, so a renter has one rental of an offer: its one-time key is derived from its own key and the terms, the
rental id is fixed before the payment exists, and the payment carries it. No crash can make a second one, and a lost
journal is read back from the chain and the offer's file.

Example:
    >>> from pyiot_evm.escrow.renter import Renter
    >>> Renter.ROLE
    <Role.RENTER: 'renter'>
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pyiot_evm.contracts import deposit_escrow as structs
from pyiot_evm.device.lock_messages import AccessKey
from pyiot_evm.device.rental_messages import CheckIn
from pyiot_evm.escrow.inspection import inspect
from pyiot_evm.escrow.owner import require_state
from pyiot_evm.escrow.records import RentalRecord, Role, Standing, State, rental_id
from pyiot_evm.exceptions import ContractError, InputError, PyIotEvmError, TransportError
from pyiot_evm.market.key_release import Ephemeral, Sale, mask_of, recover
from pyiot_evm.payment.funding import good_until

if TYPE_CHECKING:
    from pyiot_evm.chain.calls import Call
    from pyiot_evm.device.rental_messages import SignedStatement
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.paying import RentalPayments
    from pyiot_evm.escrow.policies import RenterPolicy
    from pyiot_evm.types import TermsId

__all__ = ["Renter", "show_statement"]

_log = logging.getLogger(__name__)


class Renter:
    """What a renter does about rentals.

    Args:
        clerk: Whose.
        payments: How rentals are paid.
        policy: What it agrees to.
    """

    ROLE: ClassVar[Role] = Role.RENTER

    def __init__(self, clerk: Clerk, *, payments: RentalPayments, policy: RenterPolicy) -> None:
        self._clerk = clerk
        self._payments = payments
        self._policy = policy

    def look(self) -> list[RentalRecord]:
        """Return this renter's rentals that are not over, as the chain has them."""
        return [self._try_key(record) for record in self._clerk.open_rentals(Role.RENTER)]

    def _try_key(self, record: RentalRecord) -> RentalRecord:
        try:
            return self.take_key(record)
        except PyIotEvmError as error:  # one rental's key must not stop the others
            _log.warning("rental %s: the access key cannot be taken yet: %s", record.rental_id, error)
            return record

    # Open

    def open(self, offer: RentalOffer) -> RentalRecord:
        """Check and pay an offer; one that this renter opened before is returned as it stands.

        Raises:
            InputError: It does not suit, or somebody else opened it; nothing was paid.
            VerificationError: It is not what it says; nothing was paid.
            ContractError: The escrow or the token refused.
        """
        record = self.draft(offer)
        if record.state is State.DRAFTED:
            record = self._pay(record)
        return self.take_key(record)

    def draft(self, offer: RentalOffer) -> RentalRecord:
        """Check an offer and draft its rental without paying it: for a payment that somebody else carries."""
        clerk = self._clerk
        clerk.check_place(offer)
        record = self._draft(offer)
        known = clerk.journal.rental(record.rental_id, clerk.address, Role.RENTER)
        (standing,) = clerk.standings([record.rental_id])
        if standing.state is not State.NONE:  # it is on the chain, whatever the journal knows
            return self._restored(record) if known is None else clerk.refresh([known])[0]
        inspect(clerk, offer, self._policy)
        if clerk.chain.call(clerk.contract.is_nonce_used(offer.terms.owner, offer.terms.salt)):
            raise InputError("somebody opened this offer, or its owner took it back")
        if known is None or known.state is not State.DRAFTED:
            self._payments.check_funds(offer)
        clerk.journal.add_rentals([record])
        known = known or record
        if known.state is not State.DRAFTED or clerk.now() >= good_until(known.created_at):
            clerk.journal.redraft(known, created_at=clerk.now())
        return clerk.journal.rental(record.rental_id, clerk.address, Role.RENTER) or record

    def restore(self, offer: RentalOffer) -> RentalRecord | None:
        """Read back this renter's rental of an offer after the journal was lost; ``None`` where it opened none.

        Raises:
            InputError: The offer is for another chain.
            VerificationError: Its document is not the one that was signed.
        """
        clerk = self._clerk
        clerk.check_place(offer)
        offer.check_parts()
        record = self._draft(offer)
        (standing,) = clerk.standings([record.rental_id])
        return None if standing.state is State.NONE else self.take_key(self._restored(record))

    def _restored(self, record: RentalRecord) -> RentalRecord:
        clerk = self._clerk
        clerk.journal.add_rentals([replace(record, offer=clerk.grounded(record.offer))])
        return clerk.refresh([record])[0]

    def _draft(self, offer: RentalOffer) -> RentalRecord:
        clerk, terms_id = self._clerk, offer.id
        ephemeral = self._ephemeral(terms_id)
        mask = mask_of(self._whom(terms_id), (offer.terms.key_x, offer.terms.key_y), ephemeral)
        return RentalRecord(
            rental_id=rental_id(terms_id, renter=clerk.address, mask=mask, ephemeral=ephemeral.point),
            terms_id=terms_id,
            account=clerk.address,
            role=Role.RENTER,
            standing=Standing(State.DRAFTED, 0, 0, 0),
            offer=offer,
            renter=clerk.address,
            mask=mask,
            ephemeral_x=ephemeral.point[0],
            ephemeral_y=ephemeral.point[1],
            created_at=clerk.now(),
        )

    def _pay(self, record: RentalRecord) -> RentalRecord:
        clerk = self._clerk
        try:
            self._payments.pay(record, self._policy)
        except ContractError:
            (fresh,) = clerk.refresh([record])
            if fresh.state is State.DRAFTED:
                clerk.draft_of(fresh, State.ABANDONED)
                raise
            return fresh
        return clerk.refresh([record])[0]

    def _ephemeral(self, terms_id: TermsId) -> Ephemeral:
        return Ephemeral.derive(self._clerk.vault.derive("ephemeral"), terms_id)

    def _whom(self, terms_id: TermsId) -> Sale:
        clerk = self._clerk
        return Sale(clerk.chain.chain_id, clerk.contract.address, terms_id, clerk.address)

    # The access key

    def take_key(self, record: RentalRecord) -> RentalRecord:
        """Take the access key of a rental that was handed over, and journal it; else return the rental as it is."""
        if record.access_key is not None or record.state not in (State.ACTIVE, State.CHECKED_IN):
            return record
        clerk, terms = self._clerk, record.offer.terms
        point = (terms.key_x, terms.key_y)
        key = recover(self._whom(record.terms_id), point, self._released(record), self._ephemeral(record.terms_id))
        clerk.journal.keep_access_key(record, clerk.vault.encrypt(bytes(key), label=record.rental_id))
        return clerk.journal.rental(record.rental_id, record.account, record.role) or record

    def access_key(self, record: RentalRecord) -> AccessKey:
        """Return the key that opens the lock.

        Raises:
            InputError: The owner has not handed over.
        """
        record = self.take_key(record)
        if record.access_key is None:
            raise InputError(f"rental {record.rental_id} is {record.state}: there is no access key")
        secret = self._clerk.vault.decrypt(record.access_key, label=record.rental_id)
        return AccessKey(record.offer.terms.device, record.terms_id, secret)

    def _released(self, record: RentalRecord) -> int:
        clerk = self._clerk
        topics = [structs.RentalHandedOver.TOPIC, record.rental_id]
        for first in (record.offer.block, 0):  # the offer's word for where to begin is a stranger's
            logs = clerk.chain.logs(address=clerk.contract.address, topics=topics, from_block=first)
            if logs:
                return structs.RentalHandedOver.from_log(logs[-1]).released_key
        raise TransportError(f"the node does not show the hand-over of {record.rental_id} yet")

    # What the device said

    def show_statement(self, record: RentalRecord, said: SignedStatement) -> RentalRecord:
        """Show a check-in or a check-out on the chain; anyone with the device's signature can.

        Raises:
            InputError: The rental is not active.
            VerificationError: The device did not say this.
        """
        return show_statement(self._clerk, record, said)

    # Claims

    def accept(self, record: RentalRecord) -> RentalRecord:
        """Give the owner what it claims.

        Raises:
            InputError: Nothing is claimed.
        """
        return self._clerk.act(record, "accept", self.accept_call(record))

    def accept_call(self, record: RentalRecord) -> Call[None]:
        """Return the call that accepts; see :meth:`accept`."""
        require_state(record, State.CLAIMED)
        return self._clerk.contract.accept(self._clerk.struct(record))

    def reject(self, record: RentalRecord) -> RentalRecord:
        """Take the claim to the arbiter.

        Raises:
            InputError: Nothing is claimed.
        """
        if record.state is State.DISPUTED:
            return record
        return self._clerk.act(record, "reject", self.reject_call(record))

    def reject_call(self, record: RentalRecord) -> Call[None]:
        """Return the call that rejects; see :meth:`reject`."""
        require_state(record, State.CLAIMED)
        return self._clerk.contract.reject(self._clerk.struct(record))

    # Take back

    def refund(self, record: RentalRecord) -> RentalRecord:
        """Take everything back, once the time to hand over has passed.

        Raises:
            InputError: It was handed over, or is over.
        """
        return self._clerk.act(record, "refund", self.refund_call(record))

    def refund_call(self, record: RentalRecord) -> Call[None]:
        """Return the call that takes everything back; see :meth:`refund`."""
        require_state(record, State.OPENED)
        return self._clerk.contract.refund(self._clerk.struct(record))


def show_statement(clerk: Clerk, record: RentalRecord, said: SignedStatement) -> RentalRecord:
    """Keep what a device said of a rental, and show it on the chain; see :meth:`Renter.show_statement`."""
    clerk.check_statement(record.offer, said)
    clerk.journal.keep_statement(said)
    is_check_in = isinstance(said.statement, CheckIn)
    if record.state is (State.CHECKED_IN if is_check_in else State.CHECKED_OUT):
        return record
    require_state(record, State.ACTIVE, *(() if is_check_in else (State.CHECKED_IN,)))
    return clerk.act(record, "check-in" if is_check_in else "check-out", clerk.statement_call(record, said))
