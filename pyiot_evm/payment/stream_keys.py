r"""Keys of streamed readings: each is sealed under a key of its own, whose hash locks the voucher that pays it.

A key follows from the payee's account key, the channel, the reading's number and the sum that the channel holds with
it, so a payee that crashed makes the same key again, and no key ever seals two readings. The lock is public and the
seal is made of the key in another way than the lock: who knows the lock alone reads nothing.

Example:
    >>> keys = StreamKeys.of(bytes(31) + b"\1")
    >>> key = keys.key(bytes(32), seq=7, ceiling=3000)
    >>> sealed = seal_reading(key, 7, b"21.5 degrees")
    >>> seal_reading(key, 7, sealed), lock_of(key) == lock_of(keys.key(bytes(32), seq=7, ceiling=3000))
    (b'21.5 degrees', True)
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, Literal, Self

from pyiot_evm.hashing import keccak256
from pyiot_evm.market.sealing import open_leaf
from pyiot_evm.types import Bytes32

if TYPE_CHECKING:
    from pyiot_evm.types import DeviceId

__all__ = ["MODES", "Mode", "StreamKeys", "is_stream_salt", "lock_of", "seal_reading", "stream_salt"]

Mode = Literal["locked", "plain"]
MODES: Final = ("locked", "plain")

_SECRET: Final = b"pyiot stream keys 1"
_SEAL: Final = b"pyiot stream seal 1"
_SALT: Final = keccak256(b"pyiot: paid by the reading")[:16]


class StreamKeys:
    """The keys of one payee.

    Args:
        secret: 32 bytes that only the payee has.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of(cls, account_secret: bytes) -> Self:
        """Derive them from the account's key."""
        return cls(hmac.digest(account_secret, _SECRET, "sha256"))

    def key(self, channel_id: bytes, *, seq: int, ceiling: int) -> Bytes32:
        """Return the key of a reading that is sold through a channel.

        Args:
            channel_id: The channel.
            seq: The reading's number.
            ceiling: The sum of all payments with this one.
        """
        message = bytes(channel_id) + seq.to_bytes(8, "big") + ceiling.to_bytes(16, "big")
        return Bytes32(hmac.digest(self._secret, message, "sha256"))


def lock_of(key: bytes) -> Bytes32:
    """Return the lock that a key opens, as the contract computes it."""
    return Bytes32(keccak256(key))


def seal_reading(key: bytes, seq: int, leaf: bytes) -> bytes:
    """Seal a reading's leaf, or open what was sealed: both are the same."""
    return open_leaf(keccak256(_SEAL + key), seq, leaf)


def stream_salt(device: DeviceId, mode: Mode, number: int) -> Bytes32:
    """Return the salt of a payer's channel for one device: nothing but its readings is paid through it.

    Args:
        device: The device.
        mode: How its readings are paid.
        number: Counts the channels that were left.
    """
    return Bytes32(_SALT + keccak256(device + mode.encode() + number.to_bytes(8, "big"))[:16])


def is_stream_salt(salt: bytes) -> bool:
    """Whether a channel is a stream's."""
    return salt[:16] == _SALT
