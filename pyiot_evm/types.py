"""Ids, addresses and units: the small types that every layer shares.

An id is 32 bytes, an address 20; both are ``bytes`` that print as hex, and each kind is a type of its own, so that an
order id cannot be handed in where an offer id is asked for (mypy) and a wrong length never gets far (run time).

Example:
    >>> OfferId("0x" + "11" * 32)
    OfferId('0x1111111111111111111111111111111111111111111111111111111111111111')
    >>> str(Address("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"))
    '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'
    >>> to_units("0.50", decimals=6), str(from_units(500000, decimals=6))
    (500000, '0.5')
"""

from __future__ import annotations

from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from typing import ClassVar, Self

from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256

__all__ = [
    "ZERO_ADDRESS",
    "Address",
    "Bytes32",
    "DeviceId",
    "OfferId",
    "OrderId",
    "RentalId",
    "ResaleId",
    "SaleId",
    "TermsId",
    "TransactionHash",
    "from_units",
    "length_of_time",
    "scale_units",
    "to_units",
]


class _Hex(bytes):
    """Bytes of one fixed length that print as 0x-prefixed hex."""

    LENGTH: ClassVar[int]
    __slots__ = ()

    def __new__(cls, value: bytes | str) -> Self:
        """Take raw bytes or a hex string (``0x`` optional).

        Raises:
            InputError: ``value`` is not hex or not of this type's length.
        """
        if isinstance(value, str):
            try:
                value = bytes.fromhex(value.removeprefix("0x").removeprefix("0X"))
            except ValueError as error:
                raise InputError(f"{cls.__name__} is not hex: {value!r}") from error
        if len(value) != cls.LENGTH:
            raise InputError(f"{cls.__name__} must have {cls.LENGTH} bytes, not {len(value)}")
        return super().__new__(cls, value)

    def __str__(self) -> str:
        return "0x" + self.hex()

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self}')"


class Bytes32(_Hex):
    """A 32-byte word: a hash, a root, a salt."""

    LENGTH = 32
    __slots__ = ()


class DeviceId(Bytes32):
    """keccak256 of a device's genesis signer."""

    __slots__ = ()


class SaleId(Bytes32):
    """The EIP-712 digest of what is sold: an Offer or a Resale."""

    __slots__ = ()


class OfferId(SaleId):
    """The EIP-712 digest of an Offer; as a number, the id of its ERC-1155 data token."""

    __slots__ = ()


class ResaleId(SaleId):
    """The EIP-712 digest of a Resale."""

    __slots__ = ()


class OrderId(Bytes32):
    """keccak256(abi.encode(saleId, buyer, mask, E.x, E.y))."""

    __slots__ = ()


class TermsId(Bytes32):
    """The EIP-712 digest of a rental's Terms."""

    __slots__ = ()


class RentalId(Bytes32):
    """keccak256(abi.encode(termsId, renter, mask, E.x, E.y))."""

    __slots__ = ()


class TransactionHash(Bytes32):
    """The hash of a transaction."""

    __slots__ = ()


class Address(_Hex):
    """A 20-byte account or contract address; ``str()`` gives the EIP-55 checksummed form."""

    LENGTH = 20
    __slots__ = ()

    def __str__(self) -> str:
        digits = self.hex()
        digest = keccak256(digits.encode()).hex()
        marked = (c.upper() if int(d, 16) >= _EIP55_UPPER else c for c, d in zip(digits, digest, strict=False))
        return "0x" + "".join(marked)


ZERO_ADDRESS = Address(bytes(20))
_EXACT = Context(prec=100)  # digits; 2²⁵⁶ has 78
_WHOLE = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_MAX_SHOWN = 40
_USUAL_DECIMALS = 6  # of dollar tokens; defaults are written for it
_EIP55_UPPER = 8  # a letter is upper case where the hash's digit is 8 or more


def to_units(amount: str | Decimal | int, *, decimals: int) -> int:
    """Turn a human amount into base units of a token, exactly.

    Args:
        amount: The amount in whole tokens, e.g. ``"0.50"``. Floats are refused: they are not exact.
        decimals: The token's decimals, e.g. 6 for a dollar token.

    Raises:
        InputError: ``amount`` is a float, no number, negative, has more decimals than the token, or is more
            than it can count (2²⁵⁶ base units).
    """
    if isinstance(amount, float):
        raise InputError(f"money is never a float: {amount!r}", hint=f'write it as text: "{amount}"')
    shown = str(amount)[:_MAX_SHOWN]
    value = _decimal(amount)
    if value is None:
        raise InputError(f"not an amount of money: {shown!r}", hint='write it like "0.50"')
    if not value.is_finite() or value < 0:
        raise InputError(f"an amount must be 0 or more: {shown}")
    if value and value.adjusted() + decimals >= _EXACT.prec:
        raise InputError(f"an amount must be less than 2²⁵⁶ base units: {shown}")
    exponent = value.normalize(_WHOLE).as_tuple().exponent
    assert isinstance(exponent, int)  # it is finite
    if value and exponent < -decimals:
        raise InputError(f"{shown} has more than the token's {decimals} decimals")
    units = int(value.scaleb(decimals, _EXACT))
    if units >= 1 << 256:
        raise InputError(f"an amount must be less than 2²⁵⁶ base units: {shown}")
    return units


def scale_units(units: int, *, decimals: int) -> int:
    """Return what an amount of a token of 6 decimals is in one of others, at least 1 base unit.

    Example:
        >>> scale_units(100, decimals=18), scale_units(100, decimals=2)
        (100000000000000, 1)
    """
    usual, wanted = int(10**_USUAL_DECIMALS), int(10**decimals)
    return max(units * wanted // usual, 1)


def _decimal(amount: object) -> Decimal | None:
    """Return an amount as a number: text in ASCII digits, a whole number or a `Decimal`."""
    if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
        return None
    if isinstance(amount, str) and (len(amount) > _EXACT.prec or not amount.isascii() or "_" in amount):
        return None
    try:
        return Decimal(amount)
    except (InvalidOperation, ValueError):
        return None


def from_units(units: int, *, decimals: int) -> Decimal:
    """Turn base units of a token into whole tokens, exactly; the reverse of :func:`to_units`."""
    return Decimal(f"{Decimal(units).scaleb(-decimals, _EXACT).normalize(_EXACT):f}")


def length_of_time(seconds: int) -> str:
    """Write a length of time for people, as the command line reads it.

    Example:
        >>> length_of_time(86_400), length_of_time(5400), length_of_time(61)
        ('1d', '90m', '61s')
    """
    unit, size = next(
        (unit, size) for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)) if not seconds % size
    )
    return f"{seconds // size}{unit}"
