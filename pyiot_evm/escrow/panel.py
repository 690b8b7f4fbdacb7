"""Rulings by an account of several keys: one member signs, the others sign copies of the file, anybody carries it.

A member needs no chain: it has the offer's file and the signed ruling, and both say what the ruling does.

Example:
    >>> from pyiot_evm.escrow.panel import cosign_ruling
    >>> cosign_ruling.__name__
    'cosign_ruling'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiot_evm.escrow.signed import SignedAct
from pyiot_evm.exceptions import InputError, VerificationError

if TYPE_CHECKING:
    from pyiot_evm.device import Signer
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.signed import SignedOpening

__all__ = ["check_ruling", "cosign_ruling"]


def cosign_ruling(signed: SignedAct | SignedOpening, offer: RentalOffer, signer: Signer) -> SignedAct:
    """Add one member's signature to a ruling.

    Args:
        signed: The ruling, as another member signed it.
        offer: The offer of the rental that it is about.
        signer: The member's key, on either curve.

    Raises:
        InputError: It is no ruling, or one on another offer.
        VerificationError: It was changed after it was signed, or the offer's document is not the one that was signed.
    """
    return check_ruling(signed, offer).cosign(signer)


def check_ruling(signed: SignedAct | SignedOpening, offer: RentalOffer) -> SignedAct:
    """Check that something signed is a ruling on the rental of an offer; see :func:`cosign_ruling`."""
    if not isinstance(signed, SignedAct) or signed.act.function != "rule":
        what = signed.act.function if isinstance(signed, SignedAct) else "an opening"
        raise InputError(f"this is no ruling but {what}: members sign rulings")
    signed.check()
    offer.check_parts()
    rental = signed.act.rental
    if (signed.chain_id, signed.escrow) != (offer.chain_id, offer.escrow) or rental is None:
        raise InputError("the ruling is for another chain or escrow than the offer")
    if rental.terms != offer.terms:
        raise InputError(f"the ruling is about other terms than the offer {offer.id}")
    if signed.call.sender != offer.terms.arbiter:
        raise VerificationError(f"the arbiter is {offer.terms.arbiter}, and {signed.call.sender} would rule")
    if signed.act.values["award"] > offer.terms.deposit:
        raise VerificationError(f"the award {signed.act.values['award']} is above the deposit {offer.terms.deposit}")
    return signed
