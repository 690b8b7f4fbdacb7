"""KeyRelease: a content key for exactly one buyer, checked by one ``ecrecover``.

A data set is sealed under a secp256k1 scalar κ whose point ``Q = κG`` is published in the offer. A buyer draws a scalar
``e``, shows ``E = eG`` and ``mask = address(mG)``, where ``m`` comes from the point ``e·Q = κ·E`` that only the two can
compute. The seller publishes ``κ' = κ + m mod n``; the contract checks that ``κ'G - Q`` has the address ``mask``, and
nobody but this buyer can take ``m`` off again. Chain, contract, sale and buyer go into ``m``, so that nobody can replay
the key of one sale in another.

Example:
    >>> key, ephemeral = ContentKey.create(), Ephemeral.create()
    >>> sale = Sale(chain_id=31337, market=bytes(20), sale_id=bytes(32), buyer=bytes(20))
    >>> mask = mask_of(sale, key.point, ephemeral)                # the buyer, who orders
    >>> released = release(sale, key, ephemeral.point, mask)      # the seller, who reveals
    >>> is_release(key.point, released, mask)                     # what the contract checks
    True
    >>> recover(sale, key.point, released, ephemeral) == key      # the buyer, who has paid
    True
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Self

from coincurve import PrivateKey, PublicKey

from pyiot_evm.device.typed import address_word, word
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address

__all__ = [
    "CURVE_ORDER",
    "FIELD_PRIME",
    "ContentKey",
    "Ephemeral",
    "Point",
    "Sale",
    "is_on_curve",
    "is_release",
    "mask_of",
    "recover",
    "release",
]

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FIELD_PRIME = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F

Point = tuple[int, int]

_LABEL = b"pyiot KeyRelease 1"
_EPHEMERAL_LABEL = b"pyiot ephemeral 1"
_LABEL_OFFSET = 7 * 32


class _Scalar:
    """A secret secp256k1 scalar, 0 < s < n, that never shows itself."""

    __slots__ = ("_point", "_secret")

    def __init__(self, secret: int) -> None:
        if not 0 < secret < CURVE_ORDER:
            raise InputError(f"a {type(self).__name__} must be above 0 and below the curve's order")
        self._secret = secret
        self._point = PrivateKey.from_int(secret).public_key.point()

    @classmethod
    def create(cls) -> Self:
        """Draw a new one from the system's randomness."""
        return cls(secrets.randbelow(CURVE_ORDER - 1) + 1)

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """Read one from 32 bytes, as ``bytes()`` of it gives.

        Raises:
            InputError: Not 32 bytes, or not a scalar of the curve.
        """
        if len(secret) != 32:  # noqa: PLR2004
            raise InputError(f"a {cls.__name__} has 32 bytes, not {len(secret)}")
        return cls(int.from_bytes(secret, "big"))

    @property
    def point(self) -> Point:
        """The public point, x and y."""
        return self._point

    def __bytes__(self) -> bytes:
        """Return the secret: for a journal that is kept like a key, and for a dispute."""
        return self._secret.to_bytes(32, "big")

    def __int__(self) -> int:
        return self._secret

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and hmac.compare_digest(bytes(self), bytes(other))

    def __hash__(self) -> int:
        return hash((type(self), self._point))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(point=(0x{self._point[0]:064x}, 0x{self._point[1]:064x}))"


class ContentKey(_Scalar):
    """κ: the key that one data set is sealed under. Draw a new one for every sealed root."""

    __slots__ = ()

    @property
    def seal_key(self) -> bytes:
        """``K = keccak256(κ)``, from which each leaf's key comes."""
        return keccak256(bytes(self))


class Ephemeral(_Scalar):
    """``e``: what a buyer draws for one order."""

    __slots__ = ()

    @classmethod
    def derive(cls, secret: bytes, sale_id: bytes, attempt: int = 0) -> Self:
        """Derive the scalar of an order from the buyer's own key, so that no crash can lose it.

        Args:
            secret: The buyer's 32 secret bytes.
            sale_id: What is bought; it binds the chain and the contract too.
            attempt: 0 for the first order, 1 when that one was refunded, and so on.
        """
        message = _EPHEMERAL_LABEL + bytes(sale_id) + attempt.to_bytes(8, "big")
        wide = int.from_bytes(hmac.digest(secret, message, "sha512"), "big")
        return cls(wide % (CURVE_ORDER - 1) + 1)


@dataclass(frozen=True, slots=True)
class Sale:
    """Whom a key is released to, and for what.

    Args:
        chain_id: The chain.
        market: The 20 bytes of the market contract.
        sale_id: The id of the Offer or the Resale.
        buyer: The 20 bytes of the buyer's address.
    """

    chain_id: int
    market: bytes
    sale_id: bytes
    buyer: bytes


def is_on_curve(point: Point) -> bool:
    """Return whether ``point`` is a point that the contract takes: ``0 < x < n``, ``y < p``, ``y² = x³ + 7``."""
    x, y = point
    return 0 < x < CURVE_ORDER and 0 < y < FIELD_PRIME and (y * y - x * x * x - 7) % FIELD_PRIME == 0


def mask_scalar(sale: Sale, shared: Point) -> int:
    """Return ``m``, the number that hides κ from all but one buyer.

    Args:
        sale: Whom the key is for.
        shared: ``e·Q = κ·E``.
    """
    words = (
        word(_LABEL_OFFSET),
        word(sale.chain_id),
        address_word(sale.market),
        bytes(sale.sale_id),
        address_word(sale.buyer),
        word(shared[0]),
        word(shared[1]),
        word(len(_LABEL)),
        _LABEL.ljust(32, b"\0"),
    )
    return int.from_bytes(keccak256(b"".join(words)), "big") % CURVE_ORDER


def mask_of(sale: Sale, key_point: Point, ephemeral: Ephemeral) -> Address:
    """Return the mask that a buyer posts with an order.

    Args:
        sale: What is bought, by whom.
        key_point: ``Q`` of the offer.
        ephemeral: ``e``.

    Raises:
        VerificationError: ``Q`` is not on the curve.
    """
    return _address_of_scalar(mask_scalar(sale, _shared(key_point, int(ephemeral), "the offer's key")))


def release(sale: Sale, key: ContentKey, ephemeral_point: Point, mask: bytes) -> int:
    """Return ``κ'``: what the seller reveals to this buyer.

    Args:
        sale: What was bought, by whom.
        key: κ.
        ephemeral_point: ``E`` of the order.
        mask: The order's mask.

    Raises:
        VerificationError: ``E`` is not on the curve, or ``mask`` does not fit it: refund the order, never reveal.
    """
    scalar = mask_scalar(sale, _shared(ephemeral_point, int(key), "the order's ephemeral point"))
    if _address_of_scalar(scalar) != mask:
        raise VerificationError(
            f"the order's mask {Address(mask)} does not fit its ephemeral point",
            hint="refund the order: its buyer could not use the key",
        )
    return (int(key) + scalar) % CURVE_ORDER


def is_release(key_point: Point, released: int, mask: bytes) -> bool:
    """Return whether the contract takes ``released`` as κ' of the offer's ``Q`` and the order's mask."""
    if not 0 <= released < CURVE_ORDER or not is_on_curve(key_point) or not any(mask):
        return False
    x, y = key_point
    negated = PublicKey.from_point(x, FIELD_PRIME - y)
    if not released:
        return _address_of_point(negated.point()) == mask
    try:
        difference = PublicKey.combine_keys([PrivateKey.from_int(released).public_key, negated])
    except ValueError:  # κ'G = Q: the point at infinity has no address
        return False
    return _address_of_point(difference.point()) == mask


def recover(sale: Sale, key_point: Point, released: int, ephemeral: Ephemeral) -> ContentKey:
    """Return κ from what the seller revealed.

    Args:
        sale: What was bought, by whom.
        key_point: ``Q`` of the offer.
        released: κ' of the contract's event.
        ephemeral: ``e`` of this order.

    Raises:
        VerificationError: ``released`` is not for this order.
    """
    scalar = mask_scalar(sale, _shared(key_point, int(ephemeral), "the offer's key"))
    secret = (released - scalar) % CURVE_ORDER
    if not secret or not 0 <= released < CURVE_ORDER or (key := ContentKey(secret)).point != key_point:
        raise VerificationError("the revealed key is not the key of this order")
    return key


def _shared(point: Point, scalar: int, name: str) -> Point:
    if not is_on_curve(point):
        raise VerificationError(f"{name} is not on the curve: (0x{point[0]:x}, 0x{point[1]:x})")
    return PublicKey.from_point(*point).multiply(scalar.to_bytes(32, "big")).point()


def _address_of_scalar(scalar: int) -> Address:
    return _address_of_point(PrivateKey.from_int(scalar).public_key.point())


def _address_of_point(point: Point) -> Address:
    return Address(keccak256(point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big"))[12:])
