"""What owner, renter and arbiter have in common: an account on a chain, a journal, a vault and the escrow's contract.

Every act on a rental goes through :meth:`Clerk.act`, so that each is sent once, whatever crashes, and the journal says
afterwards what the chain says.

Example:
    >>> from pyiot_evm.escrow.clerk import Clerk
    >>> Clerk.PREFIX
    'rental'
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyiot_evm.contracts import deposit_escrow as structs
from pyiot_evm.device.rental_messages import CheckOut, RentalMessages, SignedStatement
from pyiot_evm.escrow.records import RentalRecord, Role, Standing, State
from pyiot_evm.exceptions import ContractError, InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.sending import Sender
from pyiot_evm.types import Bytes32, RentalId, TermsId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyiot_evm.chain import Account, Call, Chain
    from pyiot_evm.device import LocalSigner
    from pyiot_evm.escrow.journal import RentalJournal
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.market.vault import Vault
    from pyiot_evm.sending import Started
    from pyiot_evm.types import Address

__all__ = ["Act", "Clerk"]

_OVERLAP = 32
_NEVER_OPENED = Standing(State.NONE, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Act:
    """A transaction that is on its way, and the rental that it should move on."""

    record: RentalRecord
    started: Started


class Clerk(Sender):
    """One account's dealings with one escrow.

    Args:
        chain: The chain.
        account: The account's transaction manager.
        signer: The account's key: it signs offers and payments, and makes the vault.
        journal: The network's rental journal.
        vault: Encrypts what the journal keeps secret, and makes the access keys.
        contract: The escrow's binding.
        folder: Where locks between processes lie.
    """

    PREFIX = "rental"
    journal: RentalJournal
    contract: structs.DepositEscrow

    def __init__(
        self,
        *,
        chain: Chain,
        account: Account,
        signer: LocalSigner,
        journal: RentalJournal,
        vault: Vault,
        contract: structs.DepositEscrow,
        folder: Path,
    ) -> None:
        super().__init__(chain=chain, account=account, journal=journal, contract=contract)
        self.signer = signer
        self.vault = vault
        self.folder = folder

    @cached_property
    def messages(self) -> RentalMessages:
        """What is signed in this escrow."""
        return RentalMessages(chain_id=self.chain.chain_id, contract=self.contract.address)

    def check_place(self, offer: RentalOffer) -> None:
        """Check that an offer is for this chain and this escrow.

        Raises:
            InputError: It is for another one.
            VerificationError: It is of a block that is still to come.
        """
        if offer.chain_id != self.chain.chain_id:
            raise InputError(f"the offer is for chain {offer.chain_id}, this is chain {self.chain.chain_id}")
        if offer.escrow != self.contract.address:
            raise InputError(f"the offer is for the escrow {offer.escrow}, not for {self.contract.address}")
        if offer.block > (head := self.chain.block_number()):
            raise VerificationError(f"the offer says that it is of block {offer.block}, and the chain has {head}")

    # Reading the chain

    def standings(self, rentals: Sequence[RentalId], *, block: int | str = "latest") -> list[Standing]:
        """Return where rentals stand, as the chain had them at a block."""
        if not rentals:
            return []
        found = self.chain.call_many([self.contract.rental_of(rental) for rental in rentals], block=block)
        return [Standing(State.of(a.state), a.deadline, a.held, a.claimed) for a in found]

    def refresh(self, records: Sequence[RentalRecord]) -> list[RentalRecord]:
        """Keep what the chain says of rentals and return them as they are now."""
        fresh = []
        standings = self.standings([record.rental_id for record in records])
        for record, standing in zip(records, standings, strict=True):
            is_draft = standing.state is State.NONE and record.state in (State.DRAFTED, State.ABANDONED)
            if not is_draft and standing != record.standing:
                self.journal.set_standing(record, standing)
            fresh.append(self._kept(record) or replace(record, standing=standing))
        return fresh

    def open_rentals(self, role: Role) -> list[RentalRecord]:
        """Return this account's rentals in a role that are not over, as the chain has them now."""
        known = self.journal.rentals(self.address, role=role, is_open=True, abandoned=True)
        return [record for record in self.refresh(known) if not record.state.is_over]

    def _kept(self, record: RentalRecord) -> RentalRecord | None:
        return self.journal.rental(record.rental_id, record.account, record.role)

    def find(
        self, role: Role, owner: Address, *, born: Callable[[], int], offer_of: Callable[[TermsId], RentalOffer | None]
    ) -> None:
        """Read the logs for rentals of an owner's offers; new ones are journalled under a role.

        Args:
            role: What this account is in them.
            owner: Whose offers.
            born: Asked where nothing was read yet: a height below which there is nothing.
            offer_of: Gives an offer by its id; asked once the logs are read, so that none is missed which is made
                meanwhile.
        """
        name = f"opened:{role}:{owner}:{self.address}"
        head, start = self.chain.block_number(), self.journal.cursor(name)
        first = born() if start is None else max(start - _OVERLAP, 0)
        topics = [structs.RentalOpened.TOPIC, None, bytes(12) + owner]
        logs = self.chain.logs(address=self.contract.address, topics=topics, from_block=first, to_block=head)
        found = [(event, offer_of(TermsId(event.terms_id))) for event in map(structs.RentalOpened.from_log, logs)]
        self.journal.add_rentals(self._opened(event, offer, role) for event, offer in found if offer is not None)
        self.journal.set_cursor(name, head)

    def grounded(self, offer: RentalOffer) -> RentalOffer:
        """Return an offer whose block is true: 0 where its rental was opened before the one that it names.

        The block is not signed, and whoever handed on the file may have put in a later one, to hide the rental.
        """
        if not self._is_used(offer) or self._opening(offer) is not None:
            return offer
        return replace(offer, block=0)

    def rental_of(self, offer: RentalOffer, role: Role) -> RentalRecord | None:
        """Read from the chain the rental that was opened of an offer, whoever opened it; ``None`` where nobody did.

        Args:
            offer: Terms open once, so they have one rental.
            role: What this account is in it.
        """
        if not self._is_used(offer):
            return None
        for found in (offer, replace(offer, block=0)):
            if (event := self._opening(found)) is not None:
                return self.refresh([self._opened(event, found, role)])[0]
        return None

    def _is_used(self, offer: RentalOffer) -> bool:
        return bool(self.chain.call(self.contract.is_nonce_used(offer.terms.owner, offer.terms.salt)))

    def _opening(self, offer: RentalOffer) -> structs.RentalOpened | None:
        topics = [structs.RentalOpened.TOPIC, None, bytes(12) + offer.terms.owner]
        logs = self.chain.logs(address=self.contract.address, topics=topics, from_block=offer.block)
        return next((e for e in map(structs.RentalOpened.from_log, logs) if e.terms_id == offer.id), None)

    def forget_scan(self, role: Role, owner: Address) -> None:
        """Make the next :meth:`find` read from the beginning: an older offer came in."""
        self.journal.set_cursor(f"opened:{role}:{owner}:{self.address}", None)

    def _opened(self, event: structs.RentalOpened, offer: RentalOffer, role: Role) -> RentalRecord:
        return RentalRecord(
            rental_id=RentalId(event.rental_id),
            terms_id=TermsId(event.terms_id),
            account=self.address,
            role=role,
            standing=Standing(State.OPENED, event.deadline, offer.price, 0),
            offer=offer,
            renter=event.renter,
            mask=event.mask,
            ephemeral_x=event.ephemeral_x,
            ephemeral_y=event.ephemeral_y,
            created_at=0,
        )

    def struct(self, record: RentalRecord) -> structs.Rental:
        """Return the contract's Rental."""
        return structs.Rental(record.offer.terms, record.renter, record.mask, record.ephemeral_x, record.ephemeral_y)

    # What the device said

    def check_statement(self, offer: RentalOffer, said: SignedStatement) -> None:
        """Check that the device which an offer pins said this of this rental.

        Raises:
            VerificationError: It is for another rental, escrow or chain, by another signer, or not signed.
        """
        if (said.chain_id, said.contract) != (self.messages.chain_id, self.messages.contract):
            raise VerificationError("the device's statement is for another chain or another escrow")
        if said.statement.terms_id != offer.id:
            raise VerificationError(
                f"the device's statement is about the terms {Bytes32(said.statement.terms_id)}, not {offer.id}"
            )
        if keccak256(said.signer) != offer.terms.signer_hash:
            raise VerificationError(f"0x{said.signer.hex()} is not the signer that the terms pin")
        if not self.messages.is_signed(said):
            raise VerificationError("the device did not sign this statement")

    def statement_call(self, record: RentalRecord, said: SignedStatement) -> Call[None]:
        """Return the call that shows a check-in or a check-out."""
        statement, rental = said.statement, self.struct(record)
        terms_id, condition = TermsId(statement.terms_id), Bytes32(statement.condition)
        if isinstance(statement, CheckOut):
            shown = structs.CheckOut(terms_id, statement.time, statement.units, condition)
            return self.contract.check_out(rental, shown, said.signer, said.signature)
        return self.contract.check_in(
            rental, structs.CheckIn(terms_id, statement.time, condition), said.signer, said.signature
        )

    # Acting

    def money(self, token: Address, units: int) -> str:
        """Write an amount for people, in whole tokens."""
        info = self.chain.token_info(token)
        return f"{info.from_units(units)} {info.symbol}"

    def act(self, record: RentalRecord, purpose: str, call: Call[Any]) -> RentalRecord:
        """Send the one transaction of a kind that a rental needs, and return the rental as it is then.

        Raises:
            ContractError: The contract refused, and the rental is where it was.
        """
        try:
            started = self.begin(record.rental_id, purpose, call)
        except ContractError as error:
            return self._moved(record, error)
        return self.conclude(Act(record, started))

    def conclude(self, act: Act) -> RentalRecord:
        """Wait until an act is mined; see :meth:`act`."""
        try:
            self.finish(act.started, confirmations=0)
        except ContractError as error:
            return self._moved(act.record, error)
        (fresh,) = self.refresh([act.record])
        if fresh.state is act.record.state:  # taken back by a reorganisation
            self.note_failure(act.started.subject, act.started.purpose, act.started.number)
        return fresh

    def _moved(self, record: RentalRecord, error: ContractError) -> RentalRecord:
        """Return a rental that somebody else moved on; else raise what the contract said."""
        (fresh,) = self.refresh([record])
        if fresh.state is record.state:
            raise error
        return fresh

    def draft_of(self, record: RentalRecord, state: State) -> RentalRecord:
        """Put a rental that is not on the chain into one of the renter's own states."""
        self.journal.set_standing(record, replace(_NEVER_OPENED, state=state))
        return self._kept(record) or record
