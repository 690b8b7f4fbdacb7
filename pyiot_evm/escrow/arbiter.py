"""The arbiter: knows the offers that name it, watches their rentals, and splits what is in dispute.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> with Devnet() as chain:
    ...     owner, renter = Machine.create(chain, "owner", curve="p256"), Machine.create(chain, "renter")
    ...     judge, slot = Machine.create(chain, "judge"), {"start": chain.now(), "end": chain.now() + 3600}
    ...     offer = owner.rent_out("Flat", **slot, fee="80", deposit=300, arbiter=judge.address)
    ...     _ = renter.rentals.open(offer)
    ...     judge.rentals.judge(offer)
    ...     [(found.title, found.role.value, found.state.value) for found in judge.rentals.all()]
    [('Flat', 'arbiter', 'opened')]
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pyiot_evm.escrow.owner import require_state
from pyiot_evm.escrow.records import Role, State
from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from pyiot_evm.chain.calls import Call
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.records import RentalRecord
    from pyiot_evm.types import Address, TermsId

__all__ = ["Arbiter"]


class Arbiter:
    """What an arbiter does about rentals.

    Args:
        clerk: Whose.
    """

    def __init__(self, clerk: Clerk) -> None:
        self._clerk = clerk

    def watch(self, offer: RentalOffer, *, account: Address | None = None) -> None:
        """Take note of an offer that names this account as its arbiter, or one that this account is a member of.

        Args:
            offer: The offer.
            account: The account of several keys that is the arbiter; this account itself when left out.

        Raises:
            InputError: It names another one, or is for another chain; or the account has no code.
            VerificationError: Its document is not the one that owner and renter agreed on.
        """
        clerk = self._clerk
        clerk.check_place(offer)
        offer.check_parts()
        if account is not None and account != clerk.address and not clerk.chain.code_at(account):
            raise InputError(f"{account} is no account of several keys: it has no code")
        if offer.terms.arbiter != (account or clerk.address):
            named = f"the offer's arbiter is {offer.terms.arbiter}" if any(offer.terms.arbiter) else "it has no arbiter"
            raise InputError(f"{account or clerk.address} does not rule on the offer {offer.id}: {named}")
        clerk.journal.watch_offer(clerk.grounded(offer), clerk.address)
        clerk.forget_scan(Role.ARBITER, offer.terms.owner)

    def look(self) -> list[RentalRecord]:
        """Find rentals of the offers that name this account and return those that are not over."""
        clerk = self._clerk
        for owner in clerk.journal.watched_owners(clerk.address):
            clerk.find(Role.ARBITER, owner, born=partial(self._born, owner), offer_of=self._offer)
        return clerk.open_rentals(Role.ARBITER)

    def _born(self, owner: Address) -> int:
        return min(offer.block for offer in self._clerk.journal.watched_offers(self._clerk.address, owner))

    def _offer(self, terms_id: TermsId) -> RentalOffer | None:
        return self._clerk.journal.watched_offer(terms_id, self._clerk.address)

    def rule(self, record: RentalRecord, award: int) -> RentalRecord:
        """Split what is claimed: ``award`` to the owner, the rest to the renter.

        Raises:
            InputError: It is not disputed, the award is out of bounds, or an account of several keys must rule.
        """
        if not self.is_alone(record):
            raise InputError(
                f"the account {record.offer.terms.arbiter} rules on {record.rental_id}, by its members' signatures",
                hint="sign the ruling (--sign-only), have it signed by the others (cosign), and carry it",
            )
        return self._clerk.act(record, "rule", self.rule_call(record, award))

    def is_alone(self, record: RentalRecord) -> bool:
        """Whether this account rules by itself, and not as one key of several."""
        return record.offer.terms.arbiter == self._clerk.address

    def rule_call(self, record: RentalRecord, award: int) -> Call[None]:
        """Return the call that rules; see :meth:`rule`."""
        require_state(record, State.DISPUTED)
        if not 0 <= award <= record.standing.claimed:
            claimed, wanted = (self._clerk.money(record.offer.terms.token, n) for n in (record.standing.claimed, award))
            raise InputError(f"an award is at most what is claimed, {claimed}, not {wanted}")
        return self._clerk.contract.rule(self._clerk.struct(record), award)
