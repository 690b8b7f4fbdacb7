"""One signed reading: what a device measured, when, and what came before it.

::

    Reading(bytes32 device,uint64 seq,uint64 time,bytes32 schema,bytes32 payload,bytes32 prev)

in the EIP-712 domain ``{name: "pyiot Reading", version: "1"}``, without a chain: data is chain-agnostic. ``time`` is
Unix milliseconds, ``payload`` hides the values behind 16 random bytes, ``prev`` is the digest of the reading before, so
that a device's readings are a hash chain which shows every gap and every fork. ``docs/reference/reading-format.md``
describes the bytes for firmware.

Example:
    >>> from pyiot_evm.device import LocalSigner
    >>> signer = LocalSigner.create("p256")
    >>> reading = Reading.sign(signer, seq=0, time=1700000000000, schema=bytes(32), values=(2150,))
    >>> reading.is_signed_by(signer.signer_bytes)
    True
    >>> again = Reading.from_leaf(
    ...     reading.leaf(), device=signer.device, schema=bytes(32), value_count=1, curve="p256")
    >>> again == reading
    True
"""

from __future__ import annotations

from dataclasses import dataclass
from os import urandom
from struct import Struct
from typing import TYPE_CHECKING, Final, Self

from pyiot_evm.device.signers import Curve, device_id, verify_signature
from pyiot_evm.device.typed import domain_separator, type_hash
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Bytes32, DeviceId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiot_evm.device.signers import Signer

__all__ = [
    "MAX_INT128",
    "MAX_VALUES",
    "MIN_INT128",
    "READING_TYPE",
    "ZERO_DIGEST",
    "Reading",
    "leaf_length",
    "pack_values",
    "unpack_values",
]

READING_TYPE: Final = "Reading(bytes32 device,uint64 seq,uint64 time,bytes32 schema,bytes32 payload,bytes32 prev)"
MIN_INT128: Final = -(1 << 127)
MAX_INT128: Final = (1 << 127) - 1
MAX_VALUES: Final = 247
"""As many values as a leaf of at most 4,096 bytes holds: a larger leaf could not be disputed."""

ZERO_DIGEST: Final = bytes(32)
"""``prev`` of a device's first reading."""

_PREFIX: Final = b"\x19\x01" + domain_separator("pyiot Reading", "1")
_TYPE_HASH: Final = type_hash(READING_TYPE)
_SALT_LENGTH: Final = 16
_VALUE_LENGTH: Final = 16
_SIGNATURE_LENGTH: Final = {"secp256k1": 65, "p256": 64}
_HEAD: Final = Struct(">QQ32s16s")
_NUMBERS: Final = Struct(">24xQ24xQ")
_MAX_UINT64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading and its signature.

    Args:
        device: The device's id.
        seq: Its number, one more than the reading before; the first is 0.
        time: Unix milliseconds.
        schema: The hash of the schema document.
        salt: 16 random bytes that hide the values behind the payload hash.
        values: Fixed-point numbers (``int128``) in the schema's order.
        prev: The digest of reading ``seq - 1``; zero for the first.
        signature: The device's, 65 bytes ``r‖s‖v`` or 64 bytes ``r‖s``.

    Raises:
        InputError: A number does not fit its field, or bytes have a wrong length.
    """

    device: bytes
    seq: int
    time: int
    schema: bytes
    salt: bytes
    values: tuple[int, ...]
    prev: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.seq <= _MAX_UINT64 or not 0 <= self.time <= _MAX_UINT64:
            raise InputError(f"sequence number {self.seq} or time {self.time} does not fit uint64")
        if len(self.device) != 32 or len(self.schema) != 32 or len(self.prev) != 32:  # noqa: PLR2004
            raise InputError("device, schema and prev have 32 bytes each")
        if len(self.salt) != _SALT_LENGTH:
            raise InputError(f"a salt has {_SALT_LENGTH} bytes, not {len(self.salt)}")
        if len(self.signature) not in (65, 64):
            raise InputError(f"a signature has 65 or 64 bytes, not {len(self.signature)}")

    @classmethod
    def sign(
        cls,
        signer: Signer,
        *,
        seq: int,
        time: int,
        schema: bytes,
        values: Sequence[int],
        prev: bytes = ZERO_DIGEST,
        salt: bytes | None = None,
        device: bytes | None = None,
    ) -> Self:
        """Make and sign a reading. Devices let their journal do this: it keeps ``seq`` and ``prev`` right.

        Args:
            signer: The device's key.
            seq: The reading's number.
            time: Unix milliseconds.
            schema: The hash of the schema document.
            values: Fixed-point numbers in the schema's order.
            prev: The digest of the reading before.
            salt: 16 bytes that nobody can guess; random when left out.
            device: The device's id; needed once its key was rotated, else taken from the key.

        Raises:
            InputError: A number does not fit its field, or bytes have a wrong length.
            SigningError: The signer will not sign.
        """
        device = device_id(signer.signer_bytes) if device is None else device
        salt = urandom(_SALT_LENGTH) if salt is None else salt
        fields = (device, seq, time, schema, salt, tuple(values), prev)
        return cls(*fields, signer.sign_digest(cls(*fields, bytes(64)).digest))

    @property
    def payload(self) -> Bytes32:
        """keccak256 of the salt and the packed values."""
        return Bytes32(self._payload())

    @property
    def digest(self) -> Bytes32:
        """The EIP-712 digest: what is signed, and the next reading's ``prev``."""
        seq_and_time = _NUMBERS.pack(self.seq, self.time)
        body = _TYPE_HASH + self.device + seq_and_time + self.schema + self._payload() + self.prev
        return Bytes32(keccak256(_PREFIX + keccak256(body)))

    def _payload(self) -> bytes:
        return keccak256(self.salt + pack_values(self.values))

    def is_signed_by(self, signer_bytes: bytes) -> bool:
        """Return whether this signer signed the reading; whether it was the device's then, the registry knows."""
        return verify_signature(signer_bytes, self.digest, self.signature)

    def leaf(self) -> bytes:
        """Return the bytes that are sold and anchored: all but device and schema, which a data set has in common."""
        head = _HEAD.pack(self.seq, self.time, self.prev, self.salt)
        return head + pack_values(self.values) + self.signature

    @classmethod
    def from_leaf(cls, leaf: bytes, *, device: bytes, schema: bytes, value_count: int, curve: Curve) -> Self:
        """Read a leaf back.

        Args:
            leaf: The bytes of :meth:`leaf`.
            device: The device's id.
            schema: The hash of the schema document.
            value_count: How many values the schema has.
            curve: The device key's curve, which gives the signature its length.

        Raises:
            InputError: The leaf has another length.
        """
        expected = leaf_length(value_count, curve)
        if len(leaf) != expected:
            raise InputError(f"a leaf with {value_count} values has {expected} bytes, not {len(leaf)}")
        seq, time, prev, salt = _HEAD.unpack_from(leaf)
        end = _HEAD.size + _VALUE_LENGTH * value_count
        values = unpack_values(leaf[_HEAD.size : end])
        return cls(DeviceId(device), seq, time, Bytes32(schema), salt, values, prev, leaf[end:])


def leaf_length(value_count: int, curve: Curve) -> int:
    """Return how many bytes a leaf with this many values has.

    Raises:
        InputError: ``value_count`` is not from 1 to 247.
    """
    if not 1 <= value_count <= MAX_VALUES:
        raise InputError(f"a reading has 1 to {MAX_VALUES} values, not {value_count}")
    return _HEAD.size + _VALUE_LENGTH * value_count + _SIGNATURE_LENGTH[curve]


def pack_values(values: Sequence[int]) -> bytes:
    """Pack fixed-point numbers as big-endian two's complement, 16 bytes each.

    Raises:
        InputError: A value does not fit ``int128``, or there are none or more than 247.
    """
    if not 1 <= len(values) <= MAX_VALUES:
        raise InputError(f"a reading has 1 to {MAX_VALUES} values, not {len(values)}")
    try:
        return b"".join([value.to_bytes(_VALUE_LENGTH, "big", signed=True) for value in values])
    except (OverflowError, AttributeError) as error:
        raise InputError(f"a value is not a number that fits int128: {tuple(values)}") from error


def unpack_values(data: bytes) -> tuple[int, ...]:
    """Read packed values back; the reverse of :func:`pack_values`.

    Raises:
        InputError: The length is no multiple of 16.
    """
    if not data or len(data) % _VALUE_LENGTH:
        raise InputError(f"packed values have 16 bytes each: {len(data)} bytes")
    steps = range(0, len(data), _VALUE_LENGTH)
    return tuple([int.from_bytes(data[i : i + _VALUE_LENGTH], "big", signed=True) for i in steps])
