"""How a rental is paid: by an allowance, or by one signature that pays and opens at once; see ``payment.funding``.

Example:
    >>> from pyiot_evm.escrow.paying import RentalPayments
    >>> RentalPayments.__name__
    'RentalPayments'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyiot_evm.escrow.signed import SignedOpening
from pyiot_evm.payment.funding import Funding, good_until

if TYPE_CHECKING:
    from pyiot_evm.chain.calls import Call
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.policies import RenterPolicy
    from pyiot_evm.escrow.records import RentalRecord
    from pyiot_evm.sending import TransactionRecord

__all__ = ["RentalPayments", "opening_call"]


class RentalPayments:
    """Pays an account's rentals.

    Args:
        clerk: Who pays.
    """

    def __init__(self, clerk: Clerk) -> None:
        self._clerk = clerk
        self._funding = Funding(clerk, signer=clerk.signer, folder=clerk.folder)

    def check_funds(self, offer: RentalOffer) -> None:
        """Check that the account holds fee, meter cap and deposit.

        Raises:
            InputError: It does not; nothing was signed.
        """
        self._funding.check(offer.terms.token, offer.price, "fee, meter cap and deposit are")

    def pay(self, record: RentalRecord, policy: RenterPolicy) -> TransactionRecord:
        """Open and pay a rental; the same one is never paid twice.

        Raises:
            ContractError: The escrow or the token refused.
        """
        clerk, token, price = self._clerk, record.offer.terms.token, record.offer.price
        if self._funding.is_by_signature(policy.pay, token, price):
            call = opening_call(clerk, self.authorize(record))
            return clerk.send_once(record.rental_id, "open", call, confirmations=0)
        opening = (record.offer.terms, record.offer.signature, record.mask, record.ephemeral_x, record.ephemeral_y)
        return self._funding.send(record.rental_id, "open", clerk.contract.open(*opening), token=token, amount=price)

    def authorize(self, record: RentalRecord) -> SignedOpening:
        """Sign the payment of a rental, for this account or another one to send.

        Raises:
            InputError: The token does not know ERC-3009.
        """
        offer, until = record.offer, good_until(record.created_at)
        signature = self._funding.authorize(offer.terms.token, offer.price, nonce=record.rental_id, valid_before=until)
        point = (record.ephemeral_x, record.ephemeral_y)
        return SignedOpening(offer, record.renter, record.mask, point, until, signature)


def opening_call(clerk: Clerk, signed: SignedOpening) -> Call[Any]:
    """Return the call that opens and pays a rental by the renter's signature."""
    times = (0, signed.valid_before)
    return clerk.contract.open_with_authorization(signed.rental, signed.offer.signature, *times, signed.signature)
