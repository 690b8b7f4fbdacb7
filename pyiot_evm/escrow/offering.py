"""Making offers: the access key, the salt, the terms, the signature.

The access key of an offer is derived from the owner's own key and all of its other terms, the salt included: it is a
fresh one for every offer, and neither a crash nor a lost journal can lose it.

Example:
    >>> ask = RentalAsk(RentalDocument("Bay 7", unit="kWh"), start=1_800_000_000, end=1_800_003_600, fee=500_000)
    >>> ask.claim_window, ask.reply_window, ask.ruling_window
    (86400, 172800, 604800)
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.chain.contract_errors import NonceAlreadyUsed
from pyiot_evm.contracts.deposit_escrow import Terms
from pyiot_evm.device.schema import canonical_json
from pyiot_evm.device.signers import check_signer
from pyiot_evm.escrow.agreements import ReadingAgreement, terms_hash
from pyiot_evm.escrow.offers import RentalDocument, RentalOffer, terms_id_of
from pyiot_evm.escrow.records import OfferRecord, OfferState, Role
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.key_release import CURVE_ORDER, ContentKey
from pyiot_evm.types import ZERO_ADDRESS, Address, Bytes32, DeviceId, length_of_time

if TYPE_CHECKING:
    from pyiot_evm.escrow.clerk import Clerk

__all__ = ["Offering", "RentalAsk", "access_key"]

_MINUTE, _HOUR, _DAY = 60, 3600, 24 * 3600
MIN_WINDOW: Final = 10 * _MINUTE
MAX_WINDOW: Final = 30 * _DAY
MAX_GRACE: Final = _DAY
MAX_AHEAD: Final = 400 * _DAY
_MAX_AMOUNT: Final = 1 << 96
_PURPOSE: Final = "rental access key"


@dataclass(frozen=True, slots=True)
class RentalAsk:
    """What an owner asks for, in base units and seconds.

    Attributes:
        document: What it is.
        start: When the slot begins, Unix seconds.
        end: When it ends.
        fee: For the rental as such.
        rate: For each unit that the device meters.
        meter_cap: The most that metering can cost.
        deposit: What may be claimed of after the check-out.
        arbiter: Who rules; zero for nobody, then the renter keeps the deposit.
        grace: Seconds after the start to hand over; a quarter of the slot, at most an hour, when left out.
        claim_window: Seconds to claim after the check-out.
        reply_window: Seconds to answer a claim.
        ruling_window: Seconds to rule.
        agreement: What readings must show for the owner to win a dispute; then the suite's ``RuleArbiter`` rules.
    """

    document: RentalDocument
    start: int
    end: int
    fee: int
    rate: int = 0
    meter_cap: int = 0
    deposit: int = 0
    arbiter: Address = ZERO_ADDRESS
    grace: int | None = None
    claim_window: int = _DAY
    reply_window: int = 2 * _DAY
    ruling_window: int = 7 * _DAY
    agreement: ReadingAgreement | None = None

    @property
    def hand_over_grace(self) -> int:
        """Seconds after the start to hand over."""
        return min(_HOUR, (self.end - self.start) // 4) if self.grace is None else self.grace

    def check(self, *, now: int) -> None:
        """Check the bounds that the contract has.

        Raises:
            InputError: It would not open such terms.
        """
        if not self.document.title.strip():
            raise InputError("an offer needs a title")
        self._check_slot(now)
        if not 0 <= self.hand_over_grace <= MAX_GRACE:
            raise InputError(f"the grace is at most a day, not {length_of_time(self.hand_over_grace)}")
        for name in ("claim_window", "reply_window", "ruling_window"):
            if not MIN_WINDOW <= getattr(self, name) <= MAX_WINDOW:
                given = length_of_time(getattr(self, name))
                raise InputError(f"the {name.replace('_', ' ')} is 10 minutes to 30 days, not {given}")
        for name in ("fee", "rate", "meter_cap", "deposit"):
            if not 0 <= getattr(self, name) < _MAX_AMOUNT:
                raise InputError(f"the {name.replace('_', ' ')} does not fit: {getattr(self, name)}")
        if self.agreement is not None and any(self.arbiter):
            raise InputError("readings are ruled on by the suite's RuleArbiter: name no other arbiter")
        if self.meter_cap and not self.rate:
            raise InputError("a meter cap without a rate would never be charged", hint="give a rate, or no cap")
        if self.rate and not self.meter_cap:
            raise InputError(
                "a rate without a meter cap would never be charged: no more than the cap is held for what is metered",
                hint="give a meter cap, the most that metering can cost, or no rate",
            )

    def _check_slot(self, now: int) -> None:
        if not self.start < self.end:
            raise InputError("the rental ends before it starts")
        if not now < min(self.start + self.hand_over_grace, self.end):
            raise InputError("the slot is over, or its time to hand over is")
        if self.end > now + MAX_AHEAD:
            raise InputError("the slot ends more than 400 days away")


class Offering:
    """Makes an owner's offers.

    Args:
        clerk: Whose.
    """

    def __init__(self, clerk: Clerk) -> None:
        self._clerk = clerk

    def offer(
        self, ask: RentalAsk, *, token: Address, device: DeviceId, signer: bytes, again: bool = False
    ) -> OfferRecord:
        """Sign an offer; the same request gives the same offer, unless that was cancelled or ``again`` is set.

        Args:
            ask: What is asked for.
            token: The ERC-20 to be paid in.
            device: The device that checks in and out.
            signer: Its signer bytes, pinned in the terms.
            again: Whether to make another offer of the same request.

        Raises:
            InputError: The contract would not open such terms; nothing was signed.
        """
        clerk = self._clerk
        now, block = clerk.now(), clerk.chain.block_number()
        ask.check(now=now)
        check_signer(signer)
        request = self._request(ask, token=token, device=device, signer=signer)

        def make(number: int, salt: int) -> OfferRecord:
            offer = self._draft(ask, token=token, device=device, signer=signer, salt=salt, block=block)
            return OfferRecord(offer.id, clerk.address, request, number, OfferState.DRAFTED, offer, now)

        record = clerk.journal.open_offer(clerk.address, request, again=again, make=make)
        return self._sign(record) if record.state is OfferState.DRAFTED else record

    def cancel(self, record: OfferRecord) -> OfferRecord:
        """Take an offer back by using up its salt; a rental that was opened goes on.

        Raises:
            InputError: Somebody opened the rental.
        """
        clerk = self._clerk
        try:
            clerk.send_once(record.terms_id, "cancel", clerk.contract.cancel_nonce(record.offer.terms.salt))
        except NonceAlreadyUsed as error:  # opened, or taken back by a signed call that somebody carried
            if clerk.rental_of(record.offer, Role.OWNER) is not None:
                raise InputError(f"the offer {record.terms_id} was opened already: its rental goes on") from error
        cancelled = replace(record, state=OfferState.CANCELLED)
        clerk.journal.set_offer(cancelled)
        return cancelled

    def restore(self, offer: RentalOffer) -> OfferRecord:
        """Put back an offer of this account from its file, after the journal was lost.

        Raises:
            InputError: It is not this account's, or for another chain.
            VerificationError: Its document is not the one that was signed.
        """
        clerk = self._clerk
        clerk.check_place(offer)
        offer.check_parts()
        if offer.terms.owner != clerk.address:
            raise InputError(f"the offer is of {offer.terms.owner}, not of {clerk.address}")
        if access_key(clerk, offer.terms).point != (offer.terms.key_x, offer.terms.key_y):
            raise InputError("the offer's access key is not one that this account makes")
        known = clerk.journal.offer(offer.id, clerk.address)
        if known is not None:
            return known
        request = Bytes32(keccak256(b"restored" + offer.id))
        found = clerk.grounded(offer)
        record = OfferRecord(offer.id, clerk.address, request, 0, OfferState.SIGNED, found, clerk.now())
        clerk.journal.set_offer(record)
        clerk.forget_scan(Role.OWNER, clerk.address)
        return record

    def _sign(self, record: OfferRecord) -> OfferRecord:
        signature = self._clerk.signer.sign_digest(record.terms_id)
        signed = replace(record, state=OfferState.SIGNED, offer=replace(record.offer, signature=signature))
        self._clerk.journal.set_offer(signed)
        return signed

    def _request(self, ask: RentalAsk, *, token: Address, device: DeviceId, signer: bytes) -> Bytes32:
        asked: dict[str, Any] = {
            name: str(getattr(ask, name)) for name in RentalAsk.__dataclass_fields__ if name != "document"
        }
        asked |= {"document": ask.document.fields(), "token": str(token), "device": str(device)}
        asked |= {"signer": signer.hex(), "escrow": str(self._clerk.contract.address)}
        return Bytes32(keccak256(canonical_json(asked)))

    def _draft(
        self, ask: RentalAsk, *, token: Address, device: DeviceId, signer: bytes, salt: int, block: int
    ) -> RentalOffer:
        clerk, addresses = self._clerk, self._clerk.chain.addresses
        agreement = None
        if ask.agreement is not None:
            agreement = ask.agreement.bind(rule=addresses.signed_reading_rule, start=ask.start, end=ask.end)
        blank = Terms(
            owner=clerk.address,
            token=token,
            fee=ask.fee,
            rate=ask.rate,
            meter_cap=ask.meter_cap,
            deposit=ask.deposit,
            device=device,
            signer_hash=Bytes32(keccak256(signer)),
            arbiter=ask.arbiter if agreement is None else addresses.rule_arbiter,
            key_x=0,
            key_y=0,
            start=ask.start,
            end=ask.end,
            grace=ask.hand_over_grace,
            claim_window=ask.claim_window,
            reply_window=ask.reply_window,
            ruling_window=ask.ruling_window,
            terms=terms_hash(ask.document.hash, agreement),
            salt=salt,
        )
        x, y = access_key(clerk, blank).point
        return RentalOffer(
            chain_id=clerk.chain.chain_id,
            escrow=clerk.contract.address,
            block=block,
            terms=replace(blank, key_x=x, key_y=y),
            signer=signer,
            document=ask.document,
            agreement=agreement,
        )


def access_key(clerk: Clerk, terms: Terms) -> ContentKey:
    """Return κ of an owner's terms: derived from the owner's key and from everything else in the terms."""
    blank = terms_id_of(replace(terms, key_x=0, key_y=0), clerk.messages)
    wide = hmac.digest(clerk.vault.derive(_PURPOSE), bytes(blank), "sha512")
    return ContentKey(int.from_bytes(wide, "big") % (CURVE_ORDER - 1) + 1)
