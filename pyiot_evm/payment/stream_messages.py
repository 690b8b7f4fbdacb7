"""What the two sides of a stream tell each other: JSON texts of known fields and bounded lengths, checked on arrival.

``docs/reference/payment.md`` lists them. Amounts are base units as text, bytes are hex with ``0x``, numbers are below
2^63.

Example:
    >>> Message("paid", ceiling=1500, signature=bytes(65)).encode()[:34]
    '{"type":"paid","ceiling":"1500","s'
    >>> Message.decode('{"type":"end","seq":7}', sent_by="seller")["seq"]
    7
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pyiot_evm.device.schema import check_depth
from pyiot_evm.exceptions import InputError
from pyiot_evm.payment.stream_keys import MODES
from pyiot_evm.payment.vouchers import SignedVoucher
from pyiot_evm.payment.x402_terms import MAX_AMOUNT
from pyiot_evm.types import Address, Bytes32, DeviceId

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_REPLY", "MAX_REQUEST", "MAX_SEQ", "VERSION", "Message"]

VERSION: Final = 1
MAX_REQUEST: Final = 8_192
MAX_REPLY: Final = 262_144
MAX_SEQ: Final = (1 << 63) - 2
_MAX_DIGITS: Final = 39
_MAX_SIGNATURE: Final = 148
_MAX_LEAF: Final = 4096
_MAX_TEXT: Final = 512
_MAX_DOCUMENT: Final = 131_072


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SEQ:
        raise ValueError(f"not a number: {value!r:.40}")
    return value


def _amount(value: Any) -> int:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > _MAX_DIGITS:
        raise ValueError(f"not an amount: {value!r:.40}")
    if int(value) > MAX_AMOUNT:
        raise ValueError(f"an amount is below 2^128: {value}")
    return int(value)


def _bytes(most: int, *lengths: int) -> Callable[[Any], bytes]:
    def read(value: Any) -> bytes:
        if not isinstance(value, str) or not value.startswith("0x") or len(value) > 2 + 2 * most:
            raise ValueError(f"not hex of at most {most} bytes: {value!r:.40}")
        data = bytes.fromhex(value[2:])
        if lengths and len(data) not in lengths:
            raise ValueError(f"{len(data)} bytes")
        return data

    return read


def _text(most: int) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise ValueError(f"not a text of at most {most} characters")
        value.encode()  # a lone surrogate is no text
        return value

    return read


def _mode(value: Any) -> str:
    if value not in MODES:
        raise ValueError(f"not a mode: {value!r:.40}")
    return str(value)


def _voucher(value: Any) -> SignedVoucher:
    if not isinstance(value, dict):
        raise TypeError("not a voucher")
    return SignedVoucher.decode(json.dumps(value))


def _last(value: Any) -> SignedVoucher | None:
    return None if value is None else _voucher(value)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"neither true nor false: {value!r:.40}")
    return value


_LOCK: Final = _bytes(32, 0, 32)
_SIGNATURE: Final = _bytes(_MAX_SIGNATURE, 65, _MAX_SIGNATURE)
_FIELDS: Final[dict[str, dict[str, dict[str, Callable[[Any], Any]]]]] = {
    "seller": {
        "terms": {
            "version": _number,
            "device": lambda value: DeviceId(_bytes(32, 32)(value)),
            "signer": _bytes(84, 20, 84),
            "mode": _mode,
            "chainId": _number,
            "contract": lambda value: Address(_bytes(20, 20)(value)),
            "payee": lambda value: Address(_bytes(20, 20)(value)),
            "token": lambda value: Address(_bytes(20, 20)(value)),
            "price": _amount,
            "withdrawDelay": _number,
            "seq": _number,
        },
        "schema": {"document": _text(_MAX_DOCUMENT)},
        "offer": {"seq": _number, "base": _amount, "ceiling": _amount, "lock": _LOCK, "sealed": _bytes(_MAX_LEAF)},
        "key": {"seq": _number, "key": lambda value: Bytes32(_bytes(32, 32)(value))},
        "reading": {"seq": _number, "leaf": _bytes(_MAX_LEAF)},
        "settled": {"ceiling": _amount},
        "end": {"seq": _number},
        "refused": {"code": _text(40), "message": _text(_MAX_TEXT), "retryable": _flag, "last": _last},
    },
    "buyer": {
        "open": {"voucher": _voucher, "seq": _number},
        "pay": {"seq": _number, "ceiling": _amount, "lock": _LOCK, "signature": _SIGNATURE},
        "paid": {"ceiling": _amount, "signature": _SIGNATURE},
    },
}
_AMOUNTS: Final = ("price", "base", "ceiling")


class Message:
    """One message.

    Args:
        kind: Its type.
        **fields: Its fields, as Python values.
    """

    __slots__ = ("fields", "kind")

    def __init__(self, kind: str, **fields: Any) -> None:
        self.kind = kind
        self.fields = fields

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and (self.kind, self.fields) == (other.kind, other.fields)

    def __hash__(self) -> int:
        return hash(self.encode())

    def __repr__(self) -> str:
        return f"Message({self.kind!r}, {', '.join(self.fields)})"

    def encode(self) -> str:
        """Return it as text."""
        fields = {name: _plain(name, value) for name, value in self.fields.items()}
        return json.dumps({"type": self.kind} | fields, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str | bytes, *, sent_by: Literal["seller", "buyer"]) -> Self:
        """Read a message of the other side.

        Args:
            text: What came.
            sent_by: Whose messages are expected.

        Raises:
            InputError: It is no message of that side, or too long.
        """
        most = MAX_REPLY if sent_by == "seller" else MAX_REQUEST
        data = text.encode() if isinstance(text, str) else bytes(text)
        if len(data) > most:
            raise InputError(f"a message has at most {most} bytes, not {len(data)}")
        check_depth(data)
        try:
            document = json.loads(data)
            kind = document.pop("type")
            readers = _FIELDS[sent_by][kind]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not a message of the {sent_by}") from error
        if document.keys() != readers.keys():
            raise InputError(f"a message of type {kind} has {', '.join(readers) or 'no fields'}")
        try:
            return cls(kind, **{name: read(document[name]) for name, read in readers.items()})
        except (ValueError, TypeError) as error:
            raise InputError(f"a message of type {kind}: {error}") from error


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, SignedVoucher):
        return json.loads(value.encode())
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return str(value) if name in _AMOUNTS else value
