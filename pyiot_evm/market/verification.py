"""What a buyer checks: before paying, that a bundle can only be good or be disputed; afterwards, that it is good.

Before paying, :func:`check_bundle` refuses whatever could not be disputed later: another offer than the one on chain, a
key off the curve, a rule whose code is not known, parameters that are not the hash's, leaves too large, windows too
short, a signer that was not the device's, leaves that do not lie under the sealed root. After the reveal,
:func:`find_fraud` looks at every leaf, and :func:`disclose` makes the one-transaction proof of the first that lies.

What no rule can decide is checked as well and told: whether each reading names the one before it, whether the free
sample and the statistics were true (:func:`false_claims`).

Example:
    >>> PurchasePolicy().min_dispute_window
    600
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiot_evm.contracts.data_market import Disclosure
from pyiot_evm.device.reading import Reading
from pyiot_evm.device.signers import check_signer, curve_of
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.csv_style import render_number
from pyiot_evm.market.datasets import Table
from pyiot_evm.market.key_release import is_on_curve
from pyiot_evm.market.offers import offer_id
from pyiot_evm.market.packing import rooted_records
from pyiot_evm.market.rules import Fraud, RuleParams, SignedReadingRule
from pyiot_evm.market.sealing import CHUNK_SIZE, SALT_SIZE, decrypt_leaves, open_leaf, unseal_leaves
from pyiot_evm.types import ZERO_ADDRESS, Bytes32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyiot_evm.market.bundle import Bundle
    from pyiot_evm.market.key_release import ContentKey
    from pyiot_evm.market.metadata import Metadata
    from pyiot_evm.market.offers import Offer
    from pyiot_evm.market.packing import Place, Progress
    from pyiot_evm.market.rules import LeafRule

    RuleFactory = Callable[[bytes], LeafRule]
    SignerCheck = Callable[[bytes, bytes, int], bool]

__all__ = [
    "FalseClaimWarning",
    "PurchasePolicy",
    "check_bundle",
    "check_chain",
    "check_offer",
    "disclose",
    "false_claims",
    "find_fraud",
    "open_readings",
    "rule_of",
]


class FalseClaimWarning(UserWarning):
    """Data keeps its promise and is not what its metadata says; no contract decides that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchasePolicy:
    """Which offers a buyer takes.

    Args:
        min_dispute_window: Seconds that are needed to notice a fraud and show it.
        max_reveal_window: Seconds that the money may lie still while the seller is silent.
        max_dispute_window: Seconds that a resale or a refund may be held up.
    """

    min_dispute_window: int = 600
    max_reveal_window: int = 2 * 86_400
    max_dispute_window: int = 14 * 86_400


def check_offer(offer: Offer, policy: PurchasePolicy | None = None) -> None:
    """Check what can be told from an offer alone.

    Raises:
        VerificationError: Its key is off the curve, it has no leaves, or a window is outside the policy.
    """
    policy = policy or PurchasePolicy()
    if not is_on_curve((offer.key_x, offer.key_y)):
        raise VerificationError(f"the offer's key is not on the curve: (0x{offer.key_x:x}, 0x{offer.key_y:x})")
    if not offer.leaf_count:
        raise VerificationError("the offer has no leaves")
    if offer.dispute_window < policy.min_dispute_window:
        raise VerificationError(
            f"the offer gives {offer.dispute_window} seconds to dispute, less than {policy.min_dispute_window}",
            hint="a shorter window may pass before a fraud can be shown",
        )
    if offer.reveal_window > policy.max_reveal_window or offer.dispute_window > policy.max_dispute_window:
        raise VerificationError(
            f"the offer's windows of {offer.reveal_window} and {offer.dispute_window} seconds are longer than "
            f"{policy.max_reveal_window} and {policy.max_dispute_window}"
        )


def rule_of(offer: Offer, rule_params: bytes, rules: Mapping[bytes, RuleFactory]) -> LeafRule | None:
    """Return an offer's rule in Python; None for a blob.

    Args:
        offer: The offer.
        rule_params: What is said to be the preimage of its ``rule_params_hash``.
        rules: The rules whose code is known, by contract address.

    Raises:
        VerificationError: The rule is not known, or the parameters are not the offer's or cannot be read.
    """
    if keccak256(rule_params) != offer.rule_params_hash:
        raise VerificationError(
            "the bundle does not hold the preimage of the offer's ruleParamsHash",
            hint="without it no fraud could be shown",
        )
    if offer.rule == ZERO_ADDRESS:
        return None
    if offer.rule not in rules:
        raise VerificationError(
            f"the rule {offer.rule} is not one whose code is known", hint="an unknown rule may call anything good"
        )
    return rules[offer.rule](rule_params)


def check_bundle(
    bundle: Bundle,
    offer: Offer,
    place: Place,
    *,
    rules: Mapping[bytes, RuleFactory],
    is_signer_at: SignerCheck | None = None,
    policy: PurchasePolicy | None = None,
    progress: Progress | None = None,
) -> LeafRule | None:
    """Check a bundle before paying for it: the cheap things first, the root of all leaves last.

    Args:
        bundle: What the seller published.
        offer: What the chain, or the seller's signature, says is offered.
        place: The chain and the market of that offer.
        rules: The rules whose code is known, by contract address: ``{address: SignedReadingRule.from_params}``.
        is_signer_at: Asks the registry whether a signer was a device's at a time: ``(device, signer, Unix seconds)``.
        policy: Which offers are taken.
        progress: Called now and then while the root is rebuilt.

    Returns:
        The offer's rule, for :func:`find_fraud`.

    Raises:
        VerificationError: Something does not hold; nothing should be paid.
    """
    header = bundle.header
    expected = offer_id(offer, chain_id=place.chain_id, market=place.market)
    if (header.chain_id, header.market) != (place.chain_id, place.market) or bundle.offer_id != expected:
        raise VerificationError(f"the bundle is of offer {bundle.offer_id}, not of {expected}")
    check_offer(offer, policy)
    if bundle.metadata.hash != offer.terms:
        raise VerificationError(f"the metadata has the hash {bundle.metadata.hash}, not the offer's {offer.terms}")
    rule = rule_of(offer, bundle.rule_params, rules)
    if rule is None:
        _check_blob(bundle)
    elif isinstance(rule, SignedReadingRule):
        _check_readings(bundle, rule, is_signer_at)
    for _ in rooted_records(bundle, progress):
        pass
    return rule


def _check_blob(bundle: Bundle) -> None:
    header, size = bundle.header, bundle.metadata.size
    if header.kind != "blob":
        raise VerificationError("readings are offered without a rule: nothing could be disputed")
    if header.rule_params:
        raise VerificationError("a file is offered with a rule's parameters")
    whole = len(bundle) - 1
    if (whole and header.leaf_size != SALT_SIZE + CHUNK_SIZE) or not (
        SALT_SIZE < header.last_leaf_size <= SALT_SIZE + CHUNK_SIZE
    ):
        raise VerificationError(f"chunks of {header.leaf_size} and {header.last_leaf_size} bytes are not a file's")
    if size != whole * CHUNK_SIZE + header.last_leaf_size - SALT_SIZE:
        raise VerificationError(f"the leaves do not hold the {size} bytes that the metadata says")


def _check_readings(bundle: Bundle, rule: SignedReadingRule, is_signer_at: SignerCheck | None) -> None:
    header, metadata, promise = bundle.header, bundle.metadata, rule.params
    try:
        check_signer(promise.signer)
    except InputError as error:
        raise VerificationError(f"the rule's parameters name no device signer: {error}") from error
    if metadata.schema is None or metadata.schema.hash != promise.schema:
        raise VerificationError("the schema is not the one that the rule's parameters name")
    if not len(metadata.schema.fields) == len(promise.minimum) == len(promise.maximum):
        raise VerificationError(f"the rule bounds {len(promise.minimum)} values, the schema has others")
    if {header.leaf_size, header.last_leaf_size} != {rule.leaf_length()}:
        raise VerificationError(f"the leaves have {header.leaf_size} bytes, not {rule.leaf_length()} as the rule wants")
    if metadata.rows != len(bundle):
        raise VerificationError(f"the metadata says {metadata.rows} rows, the bundle has {len(bundle)}")
    if (metadata.first_time, metadata.last_time) != (promise.t0, promise.t1):
        raise VerificationError(
            f"the metadata says times from {metadata.first_time} to {metadata.last_time}, the rule promises "
            f"{promise.t0} to {promise.t1}",
            hint="what the rule does not promise could not be disputed",
        )
    _check_statistics(metadata, promise)
    if is_signer_at is not None and not all(
        is_signer_at(promise.device, promise.signer, time // 1000) for time in (promise.t0, promise.t1)
    ):
        raise VerificationError(
            f"the signer in the rule's parameters was not device 0x{promise.device.hex()}'s at those times",
            hint="the readings may be somebody else's",
        )


def _check_statistics(metadata: Metadata, promise: RuleParams) -> None:
    """Check that the least and greatest values that are claimed are those that are promised."""
    fields = metadata.schema.fields if metadata.schema is not None else ()
    for field, claim, bounds in zip(
        fields, metadata.statistics, zip(promise.minimum, promise.maximum, strict=True), strict=False
    ):
        promised = tuple(render_number(bound, field.scale, "shortest") for bound in bounds)
        if (claim.minimum, claim.maximum) != promised:
            raise VerificationError(
                f"the metadata says {field.name} from {claim.minimum} to {claim.maximum}, the rule promises "
                f"{promised[0]} to {promised[1]}",
                hint="what the rule does not promise could not be disputed",
            )


def find_fraud(
    bundle: Bundle, key: ContentKey, rule: LeafRule | None, progress: Progress | None = None
) -> Fraud | None:
    """Look at every leaf and return the first that breaks what the offer promised.

    Args:
        bundle: The bundle that was checked before the payment.
        key: κ, as it was revealed.
        rule: What :func:`check_bundle` returned.
        progress: Called now and then.

    Raises:
        VerificationError: The leaves no longer lie under the offer's root: the copy was changed since.
    """
    found: Fraud | None = None
    for index, (plain, is_right) in enumerate(decrypt_leaves(key, rooted_records(bundle, progress))):
        if found is not None:
            continue
        if not is_right:
            found = Fraud(index, "hash", "the leaf does not decrypt to what its hash says")
        elif rule is not None and (reason := rule.violation(plain, index)) is not None:
            found = Fraud(index, "rule", reason)
    return found


def disclose(bundle: Bundle, key: ContentKey, index: int) -> Disclosure:
    """Return what a dispute has to show of one leaf.

    Args:
        bundle: The bundle.
        key: κ.
        index: The leaf that lies.
    """
    leaf_hash, sealed = bundle.leaf(index)
    is_right = keccak256(open_leaf(key.seal_key, index, sealed)) == leaf_hash
    params = bundle.rule_params if is_right else b""  # the contract reads them only where the hash is right
    proof = tuple(Bytes32(sibling) for sibling in bundle.proof(index))
    return Disclosure(int(key), index, sealed, Bytes32(leaf_hash), proof, params)


def open_readings(bundle: Bundle, key: ContentKey) -> list[Reading]:
    """Return the readings that a bundle holds, once every hash and the root are checked.

    Whether they keep the offer's rule is for :func:`find_fraud`. What no rule can decide and is not so is told by a
    :class:`FalseClaimWarning`.

    Raises:
        InputError: The bundle holds a file.
        VerificationError: A leaf does not decrypt to its hash or is no reading, or the root is not the offer's.
    """
    if bundle.metadata.schema is None:
        raise InputError("the bundle holds a file, not readings")
    promise = RuleParams.decode(bundle.rule_params)
    count, curve = len(promise.minimum), curve_of(promise.signer)
    try:
        readings = [
            Reading.from_leaf(leaf, device=promise.device, schema=promise.schema, value_count=count, curve=curve)
            for leaf in unseal_leaves(key, rooted_records(bundle))
        ]
    except InputError as error:
        raise VerificationError(f"a leaf is no reading: {error}") from error
    for claim in false_claims(readings, bundle.metadata):
        warnings.warn(claim, FalseClaimWarning, stacklevel=2)
    return readings


def false_claims(readings: Sequence[Reading], metadata: Metadata) -> list[str]:
    """Return what a seller said of readings that no rule can decide and that is not so.

    Args:
        readings: All readings of the data set, in order.
        metadata: The data set's metadata.
    """
    claims = []
    if (broken := check_chain(readings)) is not None:
        claims.append(f"reading {broken} does not name the one before it: the device's journal was forked or replaced")
    sample = tuple((reading.time, *reading.values) for reading in readings[: len(metadata.sample)])
    if sample != metadata.sample:
        claims.append("the free sample is not how the data begins")
    if metadata.schema is not None and metadata.statistics:
        table = Table.from_readings(readings, metadata.schema)
        if table.statistics() != metadata.statistics:
            claims.append("the statistics are not those of the data")
    return claims


def check_chain(readings: Iterable[Reading], before: bytes | None = None) -> int | None:
    """Return the position of the first reading that does not name the one before it, or None.

    No rule sees two leaves at once, so a broken chain cannot be disputed; it says that the device's journal was forked
    or replaced.

    Args:
        readings: In order.
        before: The digest of the reading before the first one, where it is known.
    """
    for position, reading in enumerate(readings):
        if before is not None and reading.prev != before:
            return position
        before = reading.digest
    return None
