"""How a rental is paid: by an allowance, or by one signature that pays and opens at once.

The signature is ERC-3009's ``receiveWithAuthorization`` with the rental id as its nonce: it pays exactly fee, meter cap
and deposit, to the escrow alone, for this rental alone, and anybody can carry it to the chain.

Example:
    >>> import dataclasses
    >>> [field.name for field in dataclasses.fields(SignedOpening)]
    ['rental', 'valid_before', 'signature']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.exceptions import InputError
from pyiot_evm.market.locks import file_lock
from pyiot_evm.payment.tokens import sign_receive, token_domain

if TYPE_CHECKING:
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.policies import RenterPolicy
    from pyiot_evm.escrow.records import RentalRecord
    from pyiot_evm.sending import TransactionRecord
    from pyiot_evm.types import Address

__all__ = ["RentalPayments", "SignedOpening", "good_until"]

_VALID_SECONDS = 3600  # from the draft, so that the same rental always makes the same transaction


@dataclass(frozen=True, slots=True)
class SignedOpening:
    """A rental's opening and its payment in one signature, for whoever carries it to the chain.

    Attributes:
        rental: The rental as it stands in the renter's journal.
        valid_before: The payment is good before this time, Unix seconds.
        signature: Of the renter over ERC-3009's ``receiveWithAuthorization``, 65 bytes.
    """

    rental: RentalRecord
    valid_before: int
    signature: bytes


class RentalPayments:
    """Pays an account's rentals.

    Args:
        clerk: Who pays.
    """

    def __init__(self, clerk: Clerk) -> None:
        self._clerk = clerk

    def check_funds(self, offer: RentalOffer) -> None:
        """Check that the account holds fee, meter cap and deposit.

        Raises:
            InputError: It does not; nothing was signed.
        """
        chain, token = self._clerk.chain, offer.terms.token
        held = chain.call(Erc20(token).balance_of(self._clerk.address))
        if held < offer.price:
            info = chain.token_info(token)
            raise InputError(
                f"fee, meter cap and deposit are {info.from_units(offer.price)} {info.symbol}, and "
                f"{self._clerk.address} holds {info.from_units(held)}",
                hint="on a devnet: chain.fund(machine.address, dollars=…)",
            )

    def pay(self, record: RentalRecord, policy: RenterPolicy) -> TransactionRecord:
        """Open and pay a rental; the same one is never paid twice.

        Raises:
            ContractError: The escrow or the token refused.
        """
        clerk, token, price = self._clerk, record.offer.terms.token, record.offer.price
        allowed = self._allowance(token)
        by_signature = policy.pay == "authorization" or (
            policy.pay == "auto" and allowed < price and self._knows_signatures(token)
        )
        if by_signature and price:
            return self.submit(self.authorize(record))
        with file_lock(clerk.folder / f".rent-{clerk.address}-{token}.lock"):
            if self._allowance(token) < price:
                approve = Erc20(token).approve(clerk.contract.address, price)
                clerk.send_once(record.rental_id, "approve", approve, confirmations=0)
            opening = (record.offer.terms, record.offer.signature, record.mask, record.ephemeral_x, record.ephemeral_y)
            return clerk.send_once(record.rental_id, "open", clerk.contract.open(*opening), confirmations=0)

    def authorize(self, record: RentalRecord) -> SignedOpening:
        """Sign the payment of a rental, for this account or another one to submit.

        Raises:
            InputError: The token does not know ERC-3009.
        """
        clerk = self._clerk
        valid_before = good_until(record)
        signature = sign_receive(
            clerk.signer,
            token_domain(clerk.chain, record.offer.terms.token),
            payer=clerk.address,
            to=clerk.contract.address,
            amount=record.offer.price,
            valid_before=valid_before,
            nonce=record.rental_id,
        )
        return SignedOpening(record, valid_before, signature)

    def submit(self, signed: SignedOpening) -> TransactionRecord:
        """Carry a signed opening to the chain: one's own, or another machine's."""
        record, clerk = signed.rental, self._clerk
        call = clerk.contract.open_with_authorization(
            clerk.struct(record), record.offer.signature, 0, signed.valid_before, signed.signature
        )
        return clerk.send_once(record.rental_id, "open", call, confirmations=0)

    def _allowance(self, token: Address) -> int:
        clerk = self._clerk
        return int(clerk.chain.call(Erc20(token).allowance(clerk.address, clerk.contract.address)))

    def _knows_signatures(self, token: Address) -> bool:
        try:
            token_domain(self._clerk.chain, token)
        except InputError:
            return False
        return True


def good_until(record: RentalRecord) -> int:
    """Return the time from which on a signed payment of this rental is good no more, Unix seconds."""
    return record.created_at + _VALID_SECONDS
