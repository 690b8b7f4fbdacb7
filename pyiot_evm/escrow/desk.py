"""The parts of an account's rentals, opened when they are first used, and how a rental is found among them.

Example:
    >>> from pyiot_evm.escrow.facade import Rentals
    >>> issubclass(Rentals, RentalDesk)
    True
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self

from pyiot_evm.escrow import views
from pyiot_evm.escrow.arbiter import Arbiter
from pyiot_evm.escrow.clerk import Clerk
from pyiot_evm.escrow.journal import RentalJournal
from pyiot_evm.escrow.owner import Owner
from pyiot_evm.escrow.paying import RentalPayments
from pyiot_evm.escrow.policies import ArbiterPolicy, OwnerPolicy, RenterPolicy
from pyiot_evm.escrow.records import Role
from pyiot_evm.escrow.renter import Renter
from pyiot_evm.exceptions import InputError
from pyiot_evm.market.vault import Vault
from pyiot_evm.types import Address, Bytes32, DeviceId, RentalId, TermsId

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pyiot_evm.chain import Chain
    from pyiot_evm.device import LocalSigner
    from pyiot_evm.device.rental_messages import SignedStatement
    from pyiot_evm.escrow.records import RentalRecord
    from pyiot_evm.escrow.views import RentalView

__all__ = ["RentalDesk"]


class RentalDesk:
    """The parts of :class:`~pyiot_evm.escrow.facade.Rentals`; see there."""

    def __init__(
        self,
        chain: Chain,
        *,
        signer: LocalSigner,
        owning: OwnerPolicy | None = None,
        renting: RenterPolicy | None = None,
        arbitrating: ArbiterPolicy | None = None,
        device: Callable[[], tuple[DeviceId, bytes]] | None = None,
    ) -> None:
        self.chain = chain
        self.owning = owning or OwnerPolicy()
        self.renting = renting or RenterPolicy()
        self.arbitrating = arbitrating or ArbiterPolicy()
        self._signer = signer
        self._device = device
        self._found: dict[RentalId, RentalRecord] = {}

    def close_journal(self) -> None:
        """Close the journal; it is opened again when it is used again."""
        if "journal" in self.__dict__:
            self.journal.close()
        for name in ("journal", "clerk"):
            self.__dict__.pop(name, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close_journal()

    # Parts, opened when they are first used

    @cached_property
    def journal(self) -> RentalJournal:
        """The network's rental journal."""
        return RentalJournal(self.chain.path / "rentals.sqlite")

    @cached_property
    def clerk(self) -> Clerk:
        """The account that rents and rents out."""
        from pyiot_evm.contracts.deposit_escrow import DepositEscrow  # noqa: PLC0415 - slow to import

        return Clerk(
            chain=self.chain,
            account=self.chain.account(self._signer),
            signer=self._signer,
            journal=self.journal,
            vault=Vault.of(self._signer),
            contract=DepositEscrow(self.chain.addresses.deposit_escrow),
            folder=self.chain.path,
        )

    @property
    def address(self) -> Address:
        """The account's address."""
        return self.clerk.address

    @property
    def _owner(self) -> Owner:
        return Owner(self.clerk, policy=self.owning)

    @property
    def _renter(self) -> Renter:
        return Renter(self.clerk, payments=RentalPayments(self.clerk), policy=self.renting)

    @property
    def _arbiter(self) -> Arbiter:
        return Arbiter(self.clerk)

    def _look(self) -> None:
        self._owner.look()
        self._renter.look()
        self._arbiter.look()

    def _record(self, rental: RentalId | str, *roles: Role) -> RentalRecord:
        wanted = RentalId(rental)
        found = self._known(wanted, roles)
        if found is None:
            self._look()
            found = self._known(wanted, roles)
        if found is None:
            raise self._no_rental(wanted, roles)
        return self.clerk.refresh([found])[0]

    def _no_rental(self, wanted: RentalId, roles: tuple[Role, ...]) -> InputError:
        other = self._known(wanted, ()) if roles else None
        if other is not None:
            return InputError(f"{self.address} is the {other.role} of rental {wanted}, not its {' or '.join(roles)}")
        as_what = f" as {' or '.join(roles)}" if roles else ""
        hint = "`pyiot rental list` shows them; who is neither owner nor renter names the offer's file instead"
        return InputError(f"{self.address} has no rental {wanted}{as_what}", hint=hint)

    def _known(self, rental: RentalId, roles: tuple[Role, ...]) -> RentalRecord | None:
        found = (self.journal.rental(rental, self.address, role) for role in roles or tuple(Role))
        mine = next((record for record in found if record is not None), None)
        return self._found.get(rental) if mine is None and not roles else mine

    def _said_of(self, said: SignedStatement) -> RentalRecord:
        found = self._of_terms(TermsId(said.statement.terms_id))
        if found is None:
            self._look()
            found = self._of_terms(TermsId(said.statement.terms_id))
        if found is None:
            raise InputError(
                f"{self.address} has no rental of the terms {Bytes32(said.statement.terms_id)}",
                hint="`pyiot rental list` shows the rentals; for somebody else's, name its offer file with --offer",
            )
        return self.clerk.refresh([found])[0]

    def _of_terms(self, terms_id: TermsId) -> RentalRecord | None:
        known = (*self.journal.rentals(self.address), *self._found.values())
        return next((record for record in known if record.terms_id == terms_id), None)

    def _view(self, record: RentalRecord) -> RentalView:
        return views.view(self.clerk, record)
