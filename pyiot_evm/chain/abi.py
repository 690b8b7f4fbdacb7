"""The ABI codec: eth_abi underneath, loaded when it is first used, with typed errors around it.

Example:
    >>> encode(["uint256", "bool"], [1, True]).hex()[-1]
    '1'
    >>> decode(["uint256"], encode(["uint256"], [7]))
    (7,)
    >>> selector("transfer(address,uint256)").hex()
    'a9059cbb'
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pyiot_evm.exceptions import ConsistencyError, InputError
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eth_abi.codec import ABICodec

__all__ = ["decode", "encode", "selector"]


@cache
def _eth_abi() -> tuple[ABICodec, tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """Load eth_abi (a third of a second): its codec, what encoding raises and what decoding raises."""
    from eth_abi.abi import default_codec  # noqa: PLC0415
    from eth_abi.exceptions import DecodingError, EncodingError  # noqa: PLC0415

    encoding = (EncodingError, ValueError, TypeError, OverflowError)
    return default_codec, encoding, (DecodingError, ValueError, OverflowError)


@cache
def selector(signature: str) -> bytes:
    """Return the first four bytes of keccak256 of a signature: a function's or an error's selector."""
    return keccak256(signature.encode())[:4]


def encode(types: Iterable[str], values: Sequence[Any]) -> bytes:
    """Encode values as the ABI says.

    Raises:
        InputError: A value does not fit its type.
    """
    codec, failures, _ = _eth_abi()
    try:
        return codec.encode(types, values)
    except failures as error:
        raise InputError(f"a value does not fit the contract's type: {error}") from error


def decode(types: Iterable[str], data: bytes) -> tuple[Any, ...]:
    """Decode what a contract answered.

    Raises:
        ConsistencyError: The bytes are not of these types: there is another contract, or none, at that address.
    """
    codec, _, failures = _eth_abi()
    try:
        return codec.decode(types, data)
    except failures as error:
        raise ConsistencyError(
            f"a contract's answer of {len(data)} bytes cannot be decoded: {error}",
            hint="is the right contract at that address on this chain?",
        ) from error
