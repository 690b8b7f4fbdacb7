"""Rentals as one account sees them: offer, open, hand over, show what the device said, claim, rule, close.

Everything that is about to be done is in the journal first, so any call can be made again after a crash, and goes on.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> from pyiot_evm.device.rental_messages import CheckOut
    >>> from pyiot_evm.escrow.offering import RentalAsk
    >>> from pyiot_evm.escrow.offers import RentalDocument
    >>> with Devnet() as chain:
    ...     owner, renter = Machine.create(chain, "owner", curve="p256"), Machine.create(chain, "renter")
    ...     slot = {"start": chain.now(), "end": chain.now() + 3600}
    ...     ask = RentalAsk(RentalDocument("Bay 7"), **slot, fee=500_000, deposit=2_000_000)
    ...     offer = owner.rentals.offer(ask)
    ...     opened = renter.rentals.open(offer)
    ...     active = owner.rentals.hand_over(opened.id)
    ...     active.state.value, renter.rentals.access_key(opened.id).terms_id == offer.id
    ('active', True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyiot_evm.escrow import views
from pyiot_evm.escrow.carrying import MAX_GAS, Carrier
from pyiot_evm.escrow.desk import RentalDesk
from pyiot_evm.escrow.inspection import Inspection, inspect
from pyiot_evm.escrow.offering import Offering, RentalAsk
from pyiot_evm.escrow.paying import RentalPayments
from pyiot_evm.escrow.policies import Claim
from pyiot_evm.escrow.records import OfferRecord, OfferState, Role
from pyiot_evm.escrow.renter import show_statement
from pyiot_evm.escrow.rulings import Rulings
from pyiot_evm.escrow.serving import RentalAction, RentalLoop
from pyiot_evm.escrow.signing import Signing
from pyiot_evm.escrow.watches import ArbiterWatch, OwnerWatch, RenterWatch, closing_purpose
from pyiot_evm.exceptions import InputError
from pyiot_evm.types import Address, Bytes32, DeviceId, RentalId, TermsId

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from pyiot_evm.device.lock_messages import AccessKey
    from pyiot_evm.device.reading import Reading
    from pyiot_evm.device.rental_messages import SignedStatement
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.signed import SignedAct, SignedOpening
    from pyiot_evm.escrow.views import Ending, RentalView
    from pyiot_evm.sending import TransactionRecord

__all__ = ["Rentals"]

_NO_EVIDENCE = Bytes32(bytes(32))


class Rentals(RentalDesk):
    """The rentals of one account on one chain.

    Args:
        chain: The chain.
        signer: The account's key.
        owning: How it acts as an owner.
        renting: What it agrees to as a renter, and how it acts.
        arbitrating: How it rules as an arbiter.
        device: The account's own device and its signer bytes, for offers that name no other one.
    """

    # Offer

    def offer(
        self,
        ask: RentalAsk,
        *,
        device: DeviceId | None = None,
        signer: bytes | None = None,
        token: Address | None = None,
        again: bool = False,
    ) -> RentalOffer:
        """Sign an offer; the same request gives the same offer.

        Args:
            ask: What is asked for.
            device: The device that checks in and out; the account's own when left out.
            signer: Its present signer bytes.
            token: The ERC-20 to be paid in; the chain's when left out.
            again: Whether to sign another offer of the same request.

        Raises:
            InputError: The escrow would not open such terms, or no device is known; nothing was signed.
        """
        if device is None or signer is None:
            if self._device is None:
                raise InputError("an offer needs a device and its signer")
            device, signer = self._device()
        made = Offering(self.clerk).offer(
            ask, token=token or self.chain.token, device=device, signer=signer, again=again
        )
        return made.offer

    def offers(self) -> list[OfferRecord]:
        """Return this account's offers, oldest first."""
        return self.journal.offers(self.address)

    def cancel(self, terms: TermsId | str) -> OfferRecord:
        """Take an offer back; a rental that was opened goes on.

        Raises:
            InputError: This account has no such offer.
        """
        record = self.journal.offer(TermsId(terms), self.address)
        if record is None:
            raise InputError(f"{self.address} has no offer {terms}")
        if record.state is OfferState.CANCELLED:
            return record
        return Offering(self.clerk).cancel(record)

    def restore(self, offer: RentalOffer) -> RentalView | None:
        """Read back what an offer file and the chain know, after the journal was lost; nothing is paid.

        As owner the offer and its rental, as renter the rental and its access key, as arbiter the rental.

        Returns:
            The rental; ``None`` where nobody has opened this account's offer.

        Raises:
            InputError: This account neither made the offer nor opened it, nor is it the arbiter.
            VerificationError: Its document is not the one that was signed.
        """
        terms = offer.terms
        if terms.owner != self.address and (rented := self._renter.restore(offer)) is not None:
            return self._view(rented)
        if terms.arbiter == self.address != terms.owner:
            self._arbiter.watch(offer)
        else:
            Offering(self.clerk).restore(offer)
        self._look()
        found = self._of_terms(offer.id)
        return None if found is None else self._view(found)

    def find(self, offer: RentalOffer) -> RentalView:
        """Return the rental of an offer, whoever opened it: from then on its id can be named here.

        As owner, renter or arbiter it is this account's own. Anybody can show what a device signed, enforce a court's
        ruling, and close a rental after its deadline.

        Raises:
            InputError: Nobody opened it, or it is for another chain.
        """
        self.clerk.check_place(offer)
        offer.check_parts()
        if offer.terms.arbiter == self.address:
            self._arbiter.watch(offer)
        if self._of_terms(offer.id) is None:
            self._look()
        if (mine := self._of_terms(offer.id)) is not None:
            return self._view(self.clerk.refresh([mine])[0])
        found = self.clerk.rental_of(offer, Role.CARRIER)
        if found is None:
            raise InputError(f"nobody opened the offer {offer.id}")
        self._found[found.rental_id] = found
        return self._view(found)

    # Open

    def check(self, offer: RentalOffer) -> Inspection:
        """Check everything about an offer that can be known before paying.

        Raises:
            InputError: It does not suit this renter.
            VerificationError: It is not what it says.
        """
        return inspect(self.clerk, offer, self.renting)

    def open(self, offer: RentalOffer) -> RentalView:
        """Check an offer, pay fee, meter cap and deposit, and open the rental; once, whatever crashes.

        Raises:
            InputError: It does not suit, or somebody else opened it; nothing was paid.
            VerificationError: It is not what it says; nothing was paid.
        """
        return self._view(self._renter.open(offer))

    # Hand over, or not

    def hand_over(self, rental: RentalId | str) -> RentalView:
        """Release the access key to the renter, as owner; see :meth:`Owner.hand_over`."""
        return self._view(self._owner.hand_over(self._record(rental, Role.OWNER)))

    def refund(self, rental: RentalId | str) -> RentalView:
        """Give everything back, as owner; as renter, take it back once the time to hand over has passed."""
        record = self._record(rental, Role.OWNER, Role.RENTER)
        return self._view((self._owner if record.role is Role.OWNER else self._renter).refund(record))

    def access_key(self, rental: RentalId | str) -> AccessKey:
        """Return the key that opens the lock, as renter.

        Raises:
            InputError: The owner has not handed over.
        """
        return self._renter.access_key(self._record(rental, Role.RENTER))

    # What the device said

    def hold(self, said: SignedStatement) -> None:
        """Keep a check-in or a check-out, for the loop to show when it is time.

        Raises:
            InputError: The rental is none that this account's loop serves, as its owner or renter.
            VerificationError: The device did not say this.
        """
        record = self._said_of(said)
        if record.role not in {Role.OWNER, Role.RENTER}:
            raise InputError("only the owner's and the renter's loop shows what is kept", hint="show it now")
        self.clerk.check_statement(record.offer, said)
        self.journal.keep_statement(said)

    def show_statement(self, said: SignedStatement) -> RentalView:
        """Show a check-in or a check-out on the chain.

        Raises:
            InputError: This account has no such rental, or it is not active.
            VerificationError: The device did not say this.
        """
        return self._view(show_statement(self.clerk, self._said_of(said), said))

    # Claim

    def claim(self, rental: RentalId | str, amount: int, *, evidence: bytes = _NO_EVIDENCE) -> RentalView:
        """Claim a part of the deposit, as owner; base units."""
        claim = Claim(amount, Bytes32(evidence))
        return self._view(self._owner.claim(self._record(rental, Role.OWNER), claim))

    def waive(self, rental: RentalId | str) -> RentalView:
        """Give up, as owner, what could still be got of the deposit: the renter gets it at once."""
        return self._view(self._owner.waive(self._record(rental, Role.OWNER)))

    def accept(self, rental: RentalId | str) -> RentalView:
        """Give the owner what it claims, as renter."""
        return self._view(self._renter.accept(self._record(rental, Role.RENTER)))

    def reject(self, rental: RentalId | str) -> RentalView:
        """Take the claim to the arbiter, as renter."""
        return self._view(self._renter.reject(self._record(rental, Role.RENTER)))

    def judge(self, offer: RentalOffer, *, account: Address | None = None) -> None:
        """Take note of an offer that names this account as its arbiter, so that its rentals are watched.

        Args:
            offer: The offer.
            account: An account of several keys that is the arbiter, where this account's key is one of them: its
                rulings are signed (:meth:`signing`), not sent.
        """
        self._arbiter.watch(offer, account=account)

    def rule(self, rental: RentalId | str, award: int) -> RentalView:
        """Split what is claimed, as arbiter: ``award`` base units to the owner, the rest to the renter."""
        return self._view(self._arbiter.rule(self._record(rental, Role.ARBITER), award))

    def rule_by_readings(self, rental: RentalId | str, readings: Iterable[Reading]) -> RentalView:
        """Have the suite's rule arbiter rule on a disputed rental, by the readings that show what was agreed.

        Raises:
            InputError: Nothing was agreed, or no readings show it.
        """
        return self._view(Rulings(self.clerk).by_readings(self._record(rental), readings))

    def bring(self, rental: RentalId | str, *, max_cost: int | None = None) -> TransactionRecord:
        """Take a disputed rental to the court that its terms name, and pay at most ``max_cost`` wei."""
        return Rulings(self.clerk).bring(self._record(rental), max_cost=max_cost)

    def enforce(self, rental: RentalId | str) -> RentalView:
        """Carry the court's ruling to the escrow."""
        return self._view(Rulings(self.clerk).enforce(self._record(rental)))

    # Close

    def close(self, rental: RentalId | str) -> RentalView:
        """Take the default of the state that a rental is in, after its deadline.

        Raises:
            WindowIsOpen: The deadline has not come.
        """
        record = self._record(rental)
        call = self.clerk.contract.close(self.clerk.struct(record))
        return self._view(self.clerk.act(record, closing_purpose(record.state), call))

    # See

    def all(self) -> list[RentalView]:
        """Return this account's rentals, oldest first, as the chain has them."""
        self._look()
        return [self._view(record) for record in self.journal.rentals(self.address)]

    def get(self, rental: RentalId | str) -> RentalView:
        """Return one rental as the chain has it.

        Raises:
            InputError: This account has no such rental.
        """
        record = self._record(rental)
        return self._view(self._renter.take_key(record) if record.role is Role.RENTER else record)

    def ending(self, rental: RentalId | str) -> Ending:
        """Say from the chain's events how a rental ended, and who got what."""
        record = self._record(rental)
        return views.ending_of(record.offer, views.events_of(self.clerk, record))

    def history(self, rental: RentalId | str) -> list[Any]:
        """Return a rental's events, in the chain's order."""
        return views.events_of(self.clerk, self._record(rental))

    # Money

    def credit(self, token: Address | None = None) -> int:
        """Return what this account can take out of the escrow, base units."""
        return int(self.chain.call(self.clerk.contract.credit_of(self.address, token or self.chain.token)))

    def withdraw(
        self, amount: int | None = None, *, token: Address | None = None, to: Address | None = None
    ) -> TransactionRecord | None:
        """Take credit out; all of it when no amount is given. Returns ``None`` where there is none."""
        return self.clerk.withdraw(token or self.chain.token, amount, to)

    # For others to carry, and carrying

    def signing(self, *, lifetime: int = 24 * 3600) -> Signing:
        """Return what signs this account's acts into something that anybody can carry to the chain.

        An account without ether acts so. Its acts have the names that they have here.

        Args:
            lifetime: Seconds, by the chain's clock, that an act is good; an opening is good for an hour.
        """
        return Signing(
            clerk=self.clerk,
            owner=self._owner,
            renter=self._renter,
            arbiter=self._arbiter,
            payments=RentalPayments(self.clerk),
            find=self._record,
            lifetime=lifetime,
        )

    def carry(self, signed: SignedAct | SignedOpening, *, max_gas: int = MAX_GAS) -> TransactionRecord:
        """Carry to the chain what another account signed, for ``max_gas`` at most; see :meth:`Carrier.carry`."""
        return Carrier(self.clerk, margin=self.owning.hand_over_margin, max_gas=max_gas).carry(signed)

    # Watch

    def loop(self) -> RentalLoop:
        """Return the loop that watches this account's rentals in every role."""
        clerk = self.clerk
        watches = (
            OwnerWatch(clerk, owner=self._owner, policy=self.owning),
            RenterWatch(clerk, renter=self._renter, policy=self.renting),
            ArbiterWatch(clerk, arbiter=self._arbiter, policy=self.arbitrating),
        )
        return RentalLoop(watches, poll=min(self.owning.poll, self.renting.poll, self.arbitrating.poll))

    def serve(
        self,
        *,
        once: bool = False,
        stop: threading.Event | None = None,
        report: Callable[[RentalAction], None] | None = None,
    ) -> list[RentalAction]:
        """Watch this account's rentals: do what can be done now, or until ``stop`` is set.

        Args:
            once: Do what can be done now and return what was done.
            stop: Ends the loop.
            report: Called with each action as it is done.
        """
        import threading  # noqa: PLC0415

        loop = self.loop()
        if not once:
            loop.run(stop or threading.Event(), report=report)
            return []
        return loop.step(report=report)
