"""The reference of what a contract calls fraud: the signed-reading rule and the two ways in which a leaf can lie.

A dispute succeeds exactly when :func:`find_fraud_in` says fraud: *hash*, the leaf does not decrypt to what its hash
says; *rule*, the leaf decrypts and breaks the offer's rule. The Python code is written from the design and not from the
Solidity code; the parity tests hold the two equal.

Example:
    >>> from pyiot_evm.device import LocalSigner
    >>> from pyiot_evm.device.reading import Reading
    >>> signer = LocalSigner.create()
    >>> promise = RuleParams(signer.signer_bytes, signer.device, bytes(32), 7, 0, 2000, (-400,), (850,))
    >>> leaf = Reading.sign(signer, seq=8, time=1000, schema=bytes(32), values=(215,)).leaf()
    >>> rule = SignedReadingRule(promise)
    >>> rule.violation(leaf, 1), rule.violation(leaf, 0)
    (None, 'the sequence number is 8, not 7')
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

from pyiot_evm.device.reading import unpack_values
from pyiot_evm.device.signers import P256_VERIFIER, verify_signature
from pyiot_evm.device.typed import domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.sealing import open_leaf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyiot_evm.device.reading import Reading

__all__ = ["Fraud", "LeafRule", "RuleParams", "SignedReadingRule", "find_fraud_in"]

_TYPES = ("bytes", "bytes32", "bytes32", "uint64", "uint64", "uint64", "int128[]", "int128[]")
_READING_TYPE_HASH = type_hash(
    "Reading(bytes32 device,uint64 seq,uint64 time,bytes32 schema,bytes32 payload,bytes32 prev)"
)
_DOMAIN = domain_separator("pyiot Reading", "1")
_HEAD = 64
_SALT = 48
_VALUE = 16
_ADDRESS_LENGTH = 20
_P256_LENGTH = 84


@dataclass(frozen=True, slots=True)
class RuleParams:
    """What the signed-reading rule promises of every leaf; all bounds are inclusive.

    Args:
        signer: The device's signer, 20 or 84 bytes.
        device: The device's id.
        schema: The hash of the schema document.
        seq0: The sequence number of leaf 0.
        t0: No reading is dated before, Unix milliseconds.
        t1: No reading is dated after.
        minimum: The least value of each field, fixed-point.
        maximum: The greatest value of each field.
    """

    signer: bytes
    device: bytes
    schema: bytes
    seq0: int
    t0: int
    t1: int
    minimum: tuple[int, ...]
    maximum: tuple[int, ...]

    @classmethod
    def of(cls, readings: Iterable[Reading], signer: bytes) -> Self:
        """Return the tightest promise that these readings keep, in one pass.

        Args:
            readings: In the order of the leaves, all of one device and schema.
            signer: The key that signed them.

        Raises:
            InputError: There are none.
        """
        items = iter(readings)
        if (first := next(items, None)) is None:
            raise InputError("there are no readings to promise anything of")
        early = late = first.time
        low, high = list(first.values), list(first.values)
        for reading in items:
            early, late = min(early, reading.time), max(late, reading.time)
            low = [min(pair) for pair in zip(low, reading.values, strict=True)]
            high = [max(pair) for pair in zip(high, reading.values, strict=True)]
        return cls(signer, first.device, first.schema, first.seq, early, late, tuple(low), tuple(high))

    def encode(self) -> bytes:
        """Return the ABI encoding, whose hash stands in the offer.

        Raises:
            InputError: A number does not fit its field.
        """
        from eth_abi.abi import encode  # noqa: PLC0415 - heavy
        from eth_abi.exceptions import EncodingError  # noqa: PLC0415

        bounds = (self.seq0, self.t0, self.t1, list(self.minimum), list(self.maximum))
        try:
            return encode(_TYPES, (bytes(self.signer), bytes(self.device), bytes(self.schema), *bounds))
        except EncodingError as error:
            raise InputError(f"the rule's parameters cannot be encoded: {error}") from error

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read parameters that a stranger may have written.

        Raises:
            VerificationError: They are none, or not in the one form that :meth:`encode` gives.
        """
        from eth_abi.abi import decode  # noqa: PLC0415 - heavy
        from eth_abi.exceptions import DecodingError  # noqa: PLC0415

        try:
            signer, device, schema, seq0, t0, t1, low, high = decode(_TYPES, data)
        except (DecodingError, ValueError, OverflowError) as error:
            raise VerificationError(f"the rule's parameters cannot be read: {error}") from error
        params = cls(signer, device, schema, seq0, t0, t1, tuple(low), tuple(high))
        if params.encode() != data:
            raise VerificationError("the rule's parameters are not in their canonical encoding")
        return params


class LeafRule(Protocol):
    """What an offer's rule says about a leaf, in Python."""

    def violation(self, leaf: bytes, index: int) -> str | None:
        """Return why ``leaf`` breaks the promise at ``index``, or None if it keeps it."""


@dataclass(frozen=True, slots=True)
class SignedReadingRule:
    """Leaf ``i`` is the reading ``seq0 + i`` of one device, signed by one key, in time and in range.

    Args:
        params: The promise.
    """

    params: RuleParams

    @classmethod
    def from_params(cls, data: bytes) -> Self:
        """Take the offer's encoded parameters.

        Raises:
            VerificationError: They cannot be read.
        """
        return cls(RuleParams.decode(data))

    def violation(self, leaf: bytes, index: int) -> str | None:
        """Return why ``leaf`` breaks the promise at ``index``, or None if it keeps it."""
        promise = self.params
        if len(promise.minimum) != len(promise.maximum) or len(promise.signer) not in (_ADDRESS_LENGTH, _P256_LENGTH):
            return "no leaf can keep this promise"
        expected = self.leaf_length()
        if len(leaf) != expected:
            return f"the leaf has {len(leaf)} bytes, not {expected}"
        sequence, time = int.from_bytes(leaf[:8], "big"), int.from_bytes(leaf[8:16], "big")
        if sequence != promise.seq0 + index:
            return f"the sequence number is {sequence}, not {promise.seq0 + index}"
        if not promise.t0 <= time <= promise.t1:
            return f"the time {time} is not from {promise.t0} to {promise.t1}"
        values = unpack_values(leaf[_HEAD : self._end()]) if promise.minimum else ()
        for field, (value, low, high) in enumerate(zip(values, promise.minimum, promise.maximum, strict=True)):
            if not low <= value <= high:
                return f"value {field} is {value}, not from {low} to {high}"
        return None if self._is_signed(leaf) else "the signature is not the device's"

    def leaf_length(self) -> int:
        """Return how many bytes a leaf has."""
        return self._end() + (65 if len(self.params.signer) == _ADDRESS_LENGTH else 64)

    def _end(self) -> int:
        return _HEAD + _VALUE * len(self.params.minimum)

    def _is_signed(self, leaf: bytes) -> bool:
        promise, end = self.params, self._end()
        if len(promise.signer) == _P256_LENGTH and promise.signer[:_ADDRESS_LENGTH] != P256_VERIFIER:
            return False
        payload, times = keccak256(leaf[_SALT:end]), (leaf[0:8], leaf[8:16])
        sequence, time = (word(int.from_bytes(part, "big")) for part in times)
        body = struct_hash(_READING_TYPE_HASH, promise.device, sequence, time, promise.schema, payload, leaf[16:_SALT])
        return verify_signature(promise.signer, typed_digest(_DOMAIN, body), leaf[end:])


@dataclass(frozen=True, slots=True)
class Fraud:
    """One leaf that breaks what its offer promised.

    Args:
        index: The leaf.
        kind: ``"hash"``: it does not decrypt to its hash; ``"rule"``: it breaks the rule.
        reason: What is wrong, for people.
    """

    index: int
    kind: Literal["hash", "rule"]
    reason: str


def find_fraud_in(seal_key: bytes, index: int, sealed: bytes, leaf_hash: bytes, rule: LeafRule | None) -> Fraud | None:
    """Return whether, and how, one sealed leaf of an offer is fraud.

    Args:
        seal_key: ``K`` of the content key.
        index: The leaf's index.
        sealed: ``c``.
        leaf_hash: ``h``.
        rule: The offer's rule; None for a blob, and for a rule whose parameters cannot be read (it reverts, and what
            reverts has not said that the leaf is wrong).
    """
    leaf = open_leaf(seal_key, index, sealed)
    if keccak256(leaf) != leaf_hash:
        return Fraud(index, "hash", "the leaf does not decrypt to what its hash says")
    reason = rule.violation(leaf, index) if rule is not None else None
    return None if reason is None else Fraud(index, "rule", reason)
