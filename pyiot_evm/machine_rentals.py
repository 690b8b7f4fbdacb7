"""A machine's rentals: what it rents out, what it rents, where it is the arbiter.

:class:`pyiot_evm.machine.Machine` has all of this. Amounts are whole tokens, as text, ``Decimal`` or ``int``.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> with Devnet() as chain:
    ...     owner, renter = Machine.create(chain, "owner", curve="p256"), Machine.create(chain, "renter")
    ...     offer = owner.rent_out("Bay 7", start=chain.now(), end=chain.now() + 3600, fee="0.50", deposit=20)
    ...     rental = renter.rentals.open(offer)
    ...     owner.rentals.hand_over(rental.id).state.value, str(renter.balance())
    ('active', '979.5')
"""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from pyiot_evm.types import ZERO_ADDRESS, Address

if TYPE_CHECKING:
    from pyiot_evm.chain import Chain, TokenInfo
    from pyiot_evm.device import KeystoreSigner
    from pyiot_evm.escrow.agreements import ReadingAgreement
    from pyiot_evm.escrow.facade import Rentals
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.machine_policies import Policies
    from pyiot_evm.market.facade import Market
    from pyiot_evm.types import DeviceId

__all__ = ["Amount", "Renting"]

Amount = str | Decimal | int
_DAY = 24 * 3600


class Renting:
    """The part of a machine that rents and rents out."""

    name: str
    chain: Chain
    market: Market
    _signer: KeystoreSigner
    _policies: Policies

    def _token(self, token: Address | str | None) -> TokenInfo:
        return self.chain.token_info(Address(token) if token is not None else None)

    @cached_property
    def rentals(self) -> Rentals:
        """Its rentals: offers, deposits, access keys, claims."""
        from pyiot_evm.escrow.facade import Rentals  # noqa: PLC0415 - slow to import, not always needed

        rentals = Rentals(
            self.chain,
            signer=self._signer,
            owning=self._policies.get("owning"),
            renting=self._policies.get("renting"),
            arbitrating=self._policies.get("arbitrating"),
            device=self.own_device,
        )
        self.chain.on_close(rentals.close_journal)
        return rentals

    def rent_out(
        self,
        title: str,
        *,
        start: int,
        end: int,
        fee: Amount,
        rate: Amount = 0,
        meter_cap: Amount = 0,
        deposit: Amount = 0,
        arbiter: Address | str | None = None,
        place: str = "",
        rules: str = "",
        unit: str = "",
        arbitration: str = "",
        grace: int | None = None,
        claim_window: int = _DAY,
        reply_window: int = 2 * _DAY,
        ruling_window: int = 7 * _DAY,
        device: DeviceId | None = None,
        signer: bytes | None = None,
        agreement: ReadingAgreement | None = None,
        token: Address | str | None = None,
        again: bool = False,
    ) -> RentalOffer:
        """Sign an offer to rent something out; write it to a file, or hand it over, for whoever may rent.

        The same call again gives the same offer.

        Args:
            title: What it is, in one line.
            start: When the slot begins, Unix seconds.
            end: When it ends.
            fee: Whole tokens for the rental as such.
            rate: Whole tokens for each unit that the device meters.
            meter_cap: The most that metering can cost, whole tokens.
            deposit: Whole tokens that may be claimed of after the check-out.
            arbiter: Who rules on a claim that the renter rejects; nobody when left out, then the renter keeps it all.
            place: Where it is.
            rules: The house rules.
            unit: What the device meters, e.g. ``kWh``.
            arbitration: What the arbiter goes by.
            grace: Seconds after the start to hand over; a quarter of the slot, at most an hour, when left out.
            claim_window: Seconds to claim after the check-out.
            reply_window: Seconds that the renter has to answer a claim.
            ruling_window: Seconds that the arbiter has to rule.
            device: The device that checks in and out; this machine's own when left out.
            signer: That device's present signer bytes.
            agreement: What readings must show for a claim to be won: then no arbiter is named, and needed.
            token: The ERC-20 to be paid in; the chain's when left out.
            again: Whether to sign another offer of the same request.

        Raises:
            InputError: The escrow would not open such terms; nothing was signed.
        """
        from pyiot_evm.escrow.offering import RentalAsk  # noqa: PLC0415 - slow to import
        from pyiot_evm.escrow.offers import RentalDocument  # noqa: PLC0415

        info = self._token(token)
        ask = RentalAsk(
            RentalDocument(title, place=place, rules=rules, unit=unit, arbitration=arbitration),
            start=start,
            end=end,
            fee=info.to_units(fee),
            rate=info.to_units(rate),
            meter_cap=info.to_units(meter_cap),
            deposit=info.to_units(deposit),
            arbiter=ZERO_ADDRESS if arbiter is None else Address(arbiter),
            grace=grace,
            claim_window=claim_window,
            reply_window=reply_window,
            ruling_window=ruling_window,
            agreement=agreement,
        )
        return self.rentals.offer(ask, device=device, signer=signer, token=info.address, again=again)

    def own_device(self) -> tuple[DeviceId, bytes]:
        """Return its device and that device's present signer bytes; the device is registered where it must be."""
        from pyiot_evm.market.preparing import Preparer  # noqa: PLC0415 - slow to import

        preparer = Preparer(self.chain, name=self.name, account=self.market.trader.account)
        device, signer = preparer.device_key(register=True)
        signer.close()
        return device, signer.signer_bytes
