"""How a rental is paid: by an allowance, or by one signature that pays and opens at once.

The signature is ERC-3009's ``receiveWithAuthorization`` with the rental id as its nonce: it pays exactly fee, meter cap
and deposit, to the escrow alone, for this rental alone, and anybody can carry it to the chain.

Example:
    >>> from pyiot_evm.escrow.paying import RentalPayments
    >>> RentalPayments.__name__
    'RentalPayments'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.escrow.signed import SignedOpening
from pyiot_evm.exceptions import InputError
from pyiot_evm.market.locks import file_lock
from pyiot_evm.payment.tokens import sign_receive, token_domain

if TYPE_CHECKING:
    from pyiot_evm.chain.calls import Call
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.policies import RenterPolicy
    from pyiot_evm.escrow.records import RentalRecord
    from pyiot_evm.sending import TransactionRecord
    from pyiot_evm.types import Address

__all__ = ["RentalPayments", "good_until", "opening_call"]

_VALID_SECONDS = 3600  # from the draft, so that the same rental always makes the same transaction


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
            call = opening_call(clerk, self.authorize(record))
            return clerk.send_once(record.rental_id, "open", call, confirmations=0)
        with file_lock(clerk.folder / f".rent-{clerk.address}-{token}.lock"):
            if self._allowance(token) < price:
                approve = Erc20(token).approve(clerk.contract.address, price)
                clerk.send_once(record.rental_id, "approve", approve, confirmations=0)
            opening = (record.offer.terms, record.offer.signature, record.mask, record.ephemeral_x, record.ephemeral_y)
            return clerk.send_once(record.rental_id, "open", clerk.contract.open(*opening), confirmations=0)

    def authorize(self, record: RentalRecord) -> SignedOpening:
        """Sign the payment of a rental, for this account or another one to send.

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
        point = (record.ephemeral_x, record.ephemeral_y)
        return SignedOpening(record.offer, record.renter, record.mask, point, valid_before, signature)

    def _allowance(self, token: Address) -> int:
        clerk = self._clerk
        return int(clerk.chain.call(Erc20(token).allowance(clerk.address, clerk.contract.address)))

    def _knows_signatures(self, token: Address) -> bool:
        try:
            token_domain(self._clerk.chain, token)
        except InputError:
            return False
        return True


def opening_call(clerk: Clerk, signed: SignedOpening) -> Call[Any]:
    """Return the call that opens and pays a rental by the renter's signature."""
    times = (0, signed.valid_before)
    return clerk.contract.open_with_authorization(signed.rental, signed.offer.signature, *times, signed.signature)


def good_until(record: RentalRecord) -> int:
    """Return the time from which on a signed payment of this rental is good no more, Unix seconds."""
    return record.created_at + _VALID_SECONDS
