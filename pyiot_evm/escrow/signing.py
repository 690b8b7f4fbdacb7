"""Signing what somebody else carries: every act of a rental whose caller counts, under the name it has elsewhere.

An account without ether acts so, and so does an account of several keys. Each act is checked as if it were sent, and
what must be decided first (a refund, a hand-over) is in the journal before it is signed.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> with Devnet() as chain:
    ...     owner, renter = Machine.create(chain, "owner", curve="p256"), Machine.create(chain, "renter")
    ...     offer = owner.rent_out("Bay 7", start=chain.now(), end=chain.now() + 3600, fee=1)
    ...     signed = renter.rentals.signing().open(offer)
    ...     _ = owner.rentals.carry(signed)  # who pays the gas
    ...     renter.rentals.get(signed.rental_id).state.value
    'opened'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.escrow.policies import Claim
from pyiot_evm.escrow.records import OfferState, Role, State
from pyiot_evm.escrow.signed import SignedAct
from pyiot_evm.exceptions import InputError
from pyiot_evm.types import Bytes32, TermsId

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiot_evm.chain.calls import Call
    from pyiot_evm.escrow.arbiter import Arbiter
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.owner import Owner
    from pyiot_evm.escrow.paying import RentalPayments
    from pyiot_evm.escrow.records import RentalRecord
    from pyiot_evm.escrow.renter import Renter
    from pyiot_evm.escrow.signed import SignedOpening
    from pyiot_evm.types import Address, RentalId

__all__ = ["Signing"]

_NO_EVIDENCE: Final = Bytes32(bytes(32))


class Signing:
    """The acts of one account, signed for somebody else to carry; see :meth:`Rentals.signing`.

    Args:
        clerk: Whose.
        owner: What it can do as an owner.
        renter: What it can do as a renter.
        arbiter: What it can do as an arbiter.
        payments: How it pays.
        find: Finds a rental of this account by its id, in one of some roles.
        lifetime: Seconds, by the chain's clock, that what is signed is good.
    """

    def __init__(
        self,
        *,
        clerk: Clerk,
        owner: Owner,
        renter: Renter,
        arbiter: Arbiter,
        payments: RentalPayments,
        find: Callable[..., RentalRecord],
        lifetime: int,
    ) -> None:
        self._clerk = clerk
        self._owner = owner
        self._renter = renter
        self._arbiter = arbiter
        self._payments = payments
        self._find = find
        self._lifetime = lifetime

    # Deal

    def open(self, offer: RentalOffer) -> SignedOpening:
        """Check an offer and sign its opening and its payment; good for an hour from the first time it was signed.

        Raises:
            InputError: It was opened already, does not suit, or its token cannot be paid by a signature.
            VerificationError: It is not what it says.
        """
        record = self._renter.draft(offer)
        if record.state is not State.DRAFTED:
            raise InputError(f"rental {record.rental_id} is {record.state} already")
        return self._payments.authorize(record)

    def hand_over(self, rental: RentalId | str) -> SignedAct:
        """Sign the hand-over, as owner. The file is as good as the access key to the renter: trust who carries it."""
        record = self._find(rental, Role.OWNER)
        call = self._owner.decided_hand_over(record)
        return self._sign(call, until=self._owner.hand_over_until(record))

    def refund(self, rental: RentalId | str) -> SignedAct:
        """Sign a refund: as owner, and nothing of this home hands over afterwards; or as renter, after the deadline."""
        record = self._find(rental, Role.OWNER, Role.RENTER)
        call = self._owner.refund_call(record) if record.role is Role.OWNER else self._renter.refund_call(record)
        return self._sign(call)

    def cancel(self, terms: TermsId | str) -> SignedAct:
        """Sign that an offer is taken back.

        Raises:
            InputError: This account has no such offer, or it is taken back already.
        """
        record = self._clerk.journal.offer(TermsId(terms), self._clerk.address)
        if record is None or record.state is OfferState.CANCELLED:
            raise InputError(f"{self._clerk.address} has no offer {terms} that it could take back")
        return self._sign(self._clerk.contract.cancel_nonce(record.offer.terms.salt))

    # Claim

    def claim(self, rental: RentalId | str, amount: int, *, evidence: bytes = _NO_EVIDENCE) -> SignedAct:
        """Sign a claim on the deposit, as owner; base units."""
        record = self._find(rental, Role.OWNER)
        call = self._owner.claim_call(record, Claim(amount, Bytes32(evidence)))
        return self._sign(call, until=_open_until(self._clerk, record))

    def waive(self, rental: RentalId | str) -> SignedAct:
        """Sign, as owner, that the renter gets what could still be got of the deposit, whatever is claimed by then."""
        return self._sign(self._owner.waive_call(self._find(rental, Role.OWNER)))

    def accept(self, rental: RentalId | str) -> SignedAct:
        """Sign that the owner gets what it claims, as renter."""
        record = self._find(rental, Role.RENTER)
        return self._sign(self._renter.accept_call(record), until=_open_until(self._clerk, record))

    def reject(self, rental: RentalId | str) -> SignedAct:
        """Sign that the claim goes to the arbiter, as renter."""
        record = self._find(rental, Role.RENTER)
        return self._sign(self._renter.reject_call(record), until=_open_until(self._clerk, record))

    def rule(self, rental: RentalId | str, award: int) -> SignedAct:
        """Sign a ruling, as arbiter, or as a member of the account that is; other members :meth:`SignedAct.cosign`."""
        record = self._find(rental, Role.ARBITER)
        call, until = self._arbiter.rule_call(record, award), _open_until(self._clerk, record)
        return self._sign(call, until=until, sender=record.offer.terms.arbiter)

    # Money

    def withdraw(
        self, amount: int | None = None, *, token: Address | None = None, to: Address | None = None
    ) -> SignedAct:
        """Sign that credit is taken out; all of it when no amount is given.

        Raises:
            InputError: There is not as much.
        """
        clerk = self._clerk
        coin = token or clerk.chain.token
        credit = clerk.chain.call(clerk.contract.credit_of(clerk.address, coin))
        wanted = credit if amount is None else amount
        if not 0 < wanted <= credit:
            raise InputError(f"the credit is {clerk.money(coin, credit)}, to take out is {clerk.money(coin, wanted)}")
        return self._sign(clerk.contract.withdraw(coin, wanted, to or clerk.address))

    def _sign(self, call: Call[Any], *, until: int | None = None, sender: Address | None = None) -> SignedAct:
        """Sign a call; what the escrow takes only before a time is good no longer than that."""
        clerk = self._clerk
        last = clerk.now() + self._lifetime
        return SignedAct.sign(
            call,
            chain_id=clerk.chain.chain_id,
            signer=clerk.signer,
            deadline=last if until is None else min(last, until),
            sender=sender,
        )


def _open_until(clerk: Clerk, record: RentalRecord) -> int:
    """Return when the window of a rental's state ends.

    Raises:
        InputError: It is over: the escrow takes only the default now.
    """
    if clerk.now() >= record.deadline:
        raise InputError(f"rental {record.rental_id} is {record.state}, and its window is over: it can only be closed")
    return record.deadline
