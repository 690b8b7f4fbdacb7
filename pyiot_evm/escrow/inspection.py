"""What a renter can know before it pays: is the offer what it says, and does it suit?

Example:
    >>> import dataclasses
    >>> [field.name for field in dataclasses.fields(Inspection)]
    ['offer', 'is_registered', 'now']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiot_evm.device.signers import check_signer, verify_signature
from pyiot_evm.escrow.accounts import account_signed
from pyiot_evm.escrow.agreements import check_agreement
from pyiot_evm.escrow.offering import MAX_AHEAD, MAX_GRACE, MAX_WINDOW, MIN_WINDOW
from pyiot_evm.exceptions import BudgetError, ConsistencyError, ContractError, InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity import Devices
from pyiot_evm.market.key_release import is_on_curve
from pyiot_evm.types import ZERO_ADDRESS, Bytes32, length_of_time

if TYPE_CHECKING:
    from pyiot_evm.contracts.deposit_escrow import Terms
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.policies import RenterPolicy
    from pyiot_evm.types import Address, DeviceId

__all__ = ["Inspection", "check_owner", "inspect", "objections"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """An offer that was checked.

    Attributes:
        is_registered: Whether the registry knows the device.
        now: The chain's time when it was checked, Unix seconds.
    """

    offer: RentalOffer
    is_registered: bool
    now: int


def inspect(clerk: Clerk, offer: RentalOffer, policy: RenterPolicy) -> Inspection:
    """Check everything about an offer that can be known before paying.

    Args:
        clerk: Who would rent.
        offer: What a stranger wrote.
        policy: What the renter agrees to.

    Raises:
        InputError: It does not suit, or is for another chain.
        BudgetError: It costs more than the policy allows, or another token.
        VerificationError: It is not what it says.
    """
    now = clerk.now()
    clerk.check_place(offer)
    _check_bounds(offer, now)
    _check_token(clerk, offer)
    _check_policy(clerk, offer, policy)
    check_owner(clerk, offer)
    _check_agreement(clerk, offer, policy)
    is_registered = _check_device(clerk, offer.terms.device, offer.terms.signer_hash, policy)
    return Inspection(offer, is_registered, now)


def _check_bounds(offer: RentalOffer, now: int) -> None:
    terms = offer.terms
    if not terms.start < terms.end <= now + MAX_AHEAD or terms.grace > MAX_GRACE:
        raise VerificationError("the offer's slot or grace is out of the escrow's bounds")
    if now >= offer.hand_over_deadline:
        raise InputError("the offer's time to hand over has passed")
    for name in ("claim_window", "reply_window", "ruling_window"):
        if not MIN_WINDOW <= getattr(terms, name) <= MAX_WINDOW:
            raise VerificationError(f"the offer's {name.replace('_', ' ')} is out of the escrow's bounds")
    if not is_on_curve((terms.key_x, terms.key_y)):
        raise VerificationError("the offer's access key is not on the curve")
    offer.check_parts()
    try:
        check_signer(offer.signer)
    except InputError as error:
        raise VerificationError(f"the device could never check out: {error}") from error


def _check_policy(clerk: Clerk, offer: RentalOffer, policy: RenterPolicy) -> None:
    terms, renter = offer.terms, clerk.address
    if terms.owner in (renter, ZERO_ADDRESS):
        raise InputError("an owner cannot rent its own offer")
    if policy.token not in (None, terms.token):
        raise BudgetError(f"the limit is in token {policy.token}, the price in {terms.token}")
    if policy.max_price is not None and offer.price > policy.max_price:
        price, limit = (clerk.money(terms.token, units) for units in (offer.price, policy.max_price))
        raise BudgetError(f"fee, meter cap and deposit are {price}, the limit is {limit}")
    for objection in objections(terms, policy, renter=renter):
        raise objection


def objections(terms: Terms, policy: RenterPolicy, *, renter: Address = ZERO_ADDRESS) -> list[InputError]:
    """Return what a renter with a policy has against an offer's windows and its arbiter.

    Args:
        terms: The offer's.
        policy: What the renter agrees to.
        renter: Who would rent; nobody in particular when left out.
    """
    found, arbiter = [], terms.arbiter
    if any(arbiter) and not policy.allow_own_arbiter and arbiter in (terms.owner, renter):
        whose = "the owner itself" if arbiter == terms.owner else f"{renter}, who would rent"
        hint = "take it, if you mean it, with allow_own_arbiter in the policy, or --allow-own-arbiter"
        found.append(InputError(f"the offer's arbiter is {whose}", hint=hint))
    if policy.arbiters is not None and arbiter not in policy.arbiters:
        found.append(InputError(f"the arbiter {arbiter} is none of those that this renter takes"))
    limits = (
        ("grace", "max_grace"),
        ("reply_window", "min_reply_window"),
        ("claim_window", "max_claim_window"),
        ("ruling_window", "max_ruling_window"),
    )
    for name, limit in limits:
        length, bound, is_least = getattr(terms, name), getattr(policy, limit), limit.startswith("min")
        if length < bound if is_least else length > bound:
            given, taken = length_of_time(length), length_of_time(bound)
            what = f"the offer's {name.replace('_', ' ')} is {given}, and this renter takes"
            hint = f"take it with {limit}={length} in the policy, or --{limit.replace('_', '-')} {given}"
            found.append(InputError(f"{what} at {'least' if is_least else 'most'} {taken}", hint=hint))
    return found


def _check_token(clerk: Clerk, offer: RentalOffer) -> None:
    try:
        clerk.chain.token_info(offer.terms.token)
    except (ConsistencyError, ContractError) as error:
        raise VerificationError(f"{offer.terms.token} is no ERC-20 token") from error


def check_owner(clerk: Clerk, offer: RentalOffer) -> None:
    """Check the owner's signature as the escrow does: the key's first, then the account's word.

    Raises:
        VerificationError: The owner did not sign the offer.
    """
    terms_id, owner = offer.id, offer.terms.owner
    if verify_signature(owner, terms_id, offer.signature):
        return
    is_account = bool(clerk.chain.code_at(owner))
    if not is_account or not account_signed(clerk.chain, owner, terms_id, offer.signature):
        raise VerificationError(f"{'the account ' if is_account else ''}{owner} did not sign this offer")


def _check_agreement(clerk: Clerk, offer: RentalOffer, policy: RenterPolicy) -> None:
    """Check that an agreement stands where, and only where, the suite's rule arbiter rules, and that it is fair."""
    agreement, addresses = offer.agreement, clerk.chain.addresses
    if (agreement is None) == (offer.terms.arbiter == addresses.rule_arbiter):
        raise VerificationError("the suite's rule arbiter and an agreement on readings come together or not at all")
    if agreement is not None:
        rule, last = addresses.signed_reading_rule, offer.check_out_deadline
        check_agreement(agreement, rule=rule, start=offer.terms.start, last=last)
        _check_device(clerk, agreement.device, Bytes32(keccak256(agreement.signer)), policy)


def _check_device(clerk: Clerk, device: DeviceId, signer_hash: Bytes32, policy: RenterPolicy) -> bool:
    """Check that a pinned signer is the device's; returns whether the registry knows the device."""
    record = Devices(clerk.chain).get(device)
    if record.is_revoked:
        raise VerificationError(f"the device {device} was revoked")
    if record.key != signer_hash:
        raise VerificationError(f"the offer's signer is not the present signer of the device {device}")
    if not record.is_registered and not policy.allow_unregistered:
        raise InputError(f"the device {device} is not registered", hint="allow it only if you know the device")
    return record.is_registered
