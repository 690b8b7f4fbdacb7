r"""Structs as JSON, in the names of the Solidity structs: what bundles and offer files carry.

Numbers of more than 40 bits stand as decimal text, since JSON readers elsewhere lose digits; bytes stand as 0x-hex.
What is read may be a stranger's, so every field is checked for its type and width.

Example:
    >>> read_hex("0x0102", size=2), read_number("123", bits=128), read_number(7, bits=8)
    (b'\x01\x02', 123, 7)
    >>> read_number(256, bits=8)
    Traceback (most recent call last):
    ...
    pyiot_evm.exceptions.VerificationError: not a uint8: 256
"""

from __future__ import annotations

import re
from typing import Any, Final

from pyiot_evm.exceptions import VerificationError
from pyiot_evm.types import Address, Bytes32

__all__ = ["OFFER_FIELDS", "RESALE_FIELDS", "hex_text", "read_fields", "read_hex", "read_number", "write_fields"]

Fields = tuple[tuple[str, str], ...]

OFFER_FIELDS: Final[Fields] = (
    ("seller", "address"),
    ("token", "address"),
    ("price", "uint128"),
    ("bond", "uint128"),
    ("sealedRoot", "bytes32"),
    ("leafCount", "uint32"),
    ("keyX", "uint256"),
    ("keyY", "uint256"),
    ("rule", "address"),
    ("ruleParamsHash", "bytes32"),
    ("supply", "uint32"),
    ("royaltyBps", "uint16"),
    ("audience", "address"),
    ("revealWindow", "uint32"),
    ("disputeWindow", "uint32"),
    ("expiry", "uint40"),
    ("terms", "bytes32"),
    ("salt", "uint256"),
)
RESALE_FIELDS: Final[Fields] = (
    ("offerId", "bytes32"),
    ("holder", "address"),
    ("token", "address"),
    ("price", "uint128"),
    ("expiry", "uint40"),
    ("salt", "uint256"),
)
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_PLAIN_BITS: Final = 40


def hex_text(data: bytes) -> str:
    """Return bytes as 0x-hex."""
    return "0x" + data.hex()


def write_fields(struct: Any, fields: Fields) -> dict[str, Any]:
    """Return a struct as a JSON object.

    Args:
        struct: Has the fields in snake_case.
        fields: Solidity's names and types, in order.
    """
    return {name: _written(getattr(struct, _snake(name)), kind) for name, kind in fields}


def read_fields(document: object, fields: Fields) -> dict[str, Any]:
    """Read a JSON object into the fields of a struct, in snake_case.

    Raises:
        VerificationError: A field is missing, unknown, or not of its type.
    """
    if not isinstance(document, dict) or set(document) != {name for name, _ in fields}:
        raise VerificationError(f"a struct has exactly the fields {', '.join(name for name, _ in fields)}")
    return {_snake(name): _read(document[name], kind) for name, kind in fields}


def read_hex(value: object, *, size: int | None = None) -> bytes:
    """Read 0x-hex.

    Raises:
        VerificationError: It is none, or not of ``size`` bytes.
    """
    if not isinstance(value, str) or not _HEX.fullmatch(value) or (size is not None and len(value) != 2 + 2 * size):
        raise VerificationError(f"not hex of {'any length' if size is None else f'{size} bytes'}: {value!r:.80}")
    return bytes.fromhex(value[2:])


def read_number(value: object, *, bits: int) -> int:
    """Read an unsigned number that stands as a number or as decimal text.

    Raises:
        VerificationError: It is none, or does not fit ``bits`` bits.
    """
    number = int(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else value
    if type(number) is not int or not 0 <= number < 1 << bits:
        raise VerificationError(f"not a uint{bits}: {value!r:.80}")
    return number


def _written(value: Any, kind: str) -> Any:
    if kind == "address":
        return str(Address(value))
    if kind == "bytes32":
        return hex_text(value)
    return value if int(kind.removeprefix("uint")) <= _PLAIN_BITS else str(value)


def _read(value: object, kind: str) -> Any:
    if kind == "address":
        return Address(read_hex(value, size=20))
    if kind == "bytes32":
        return Bytes32(read_hex(value, size=32))
    return read_number(value, bits=int(kind.removeprefix("uint")))


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), name)
