"""Device signers: the two kinds of key that may sign a reading, and how a signature is checked.

A signer is known by its *signer bytes*: 20 bytes (an Ethereum address, secp256k1) or 84 bytes (the suite's P-256
verifier, then x and y, in ERC-7913 form). No other kind exists: a verifier that somebody could change later must never
decide whether a device signed. Signatures are ``r‖s‖v`` with v 27 or 28 (65 bytes) or ``r‖s`` (64 bytes), s always in
the low half; nonces follow RFC 6979, so that a weak random source on a small device cannot give the key away.

Example:
    >>> signer = LocalSigner.from_secret(bytes(31) + bytes([1]))
    >>> str(signer.address), len(signer.sign_digest(bytes(32)))
    ('0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf', 65)
    >>> verify_signature(signer.signer_bytes, bytes(32), signer.sign_digest(bytes(32)))
    True
    >>> LocalSigner.create("p256").curve
    'p256'
"""

from __future__ import annotations

from functools import lru_cache
from os import urandom
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Protocol, Self, runtime_checkable

from coincurve import PrivateKey, PublicKey

from pyiot_evm.exceptions import InputError, SigningError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address, DeviceId

if TYPE_CHECKING:
    from types import TracebackType

    from cryptography.hazmat.primitives.asymmetric.ec import (
        ECDSA,
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

__all__ = [
    "P256_VERIFIER",
    "Curve",
    "LocalSigner",
    "Signer",
    "check_signer",
    "curve_of",
    "device_id",
    "p256_signer",
    "verify_signature",
]

Curve = Literal["secp256k1", "p256"]

P256_VERIFIER: Final = Address("0xEbE80cbfD19140f0Dfa52Bc99AC445EeEa6a1aB7")
"""The suite's P-256 verifier: the same address on every chain (CREATE2), and a part of every P-256 signer."""

SECP256K1_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P256_PRIME: Final = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_P256_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_ORDERS: Final = {"secp256k1": SECP256K1_ORDER, "p256": P256_ORDER}

_ADDRESS_LENGTH: Final = 20
_P256_LENGTH: Final = 84
_DIGEST_LENGTH: Final = 32
_SIGNATURE_LENGTHS: Final = {"secp256k1": 65, "p256": 64}


@runtime_checkable
class Signer(Protocol):
    """What signs for a device: a key in memory, in a file, in a chip, or behind a wire."""

    @property
    def signer_bytes(self) -> bytes:
        """The 20 or 84 bytes that name the key."""

    @property
    def curve(self) -> Curve:
        """The key's curve."""

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the signature of a 32-byte digest: 65 bytes ``r‖s‖v`` or 64 bytes ``r‖s``, s in the low half.

        Raises:
            SigningError: The signer is closed or refuses.
        """

    def close(self) -> None:
        """Let go of the key; the signer cannot be used afterwards."""


class LocalSigner:
    """A key in this process's memory.

    Make one with :meth:`create` or :meth:`from_secret`. It never shows its secret in a repr and cannot be pickled.
    """

    __slots__ = ("_key", "curve", "signer_bytes")

    curve: Curve
    signer_bytes: bytes

    def __init__(self, *, secret: bytes, curve: Curve = "secp256k1") -> None:
        _check_secret(secret, curve)
        key = PrivateKey(secret) if curve == "secp256k1" else _P256Key(secret)
        self._key: PrivateKey | _P256Key | None = key
        self.curve = curve
        self.signer_bytes = address_of(key.public_key) if isinstance(key, PrivateKey) else p256_signer(*key.point)

    @classmethod
    def create(cls, curve: Curve = "secp256k1") -> Self:
        """Make a new random key.

        Args:
            curve: ``"secp256k1"`` (accounts and readings) or ``"p256"`` (readings; what secure elements speak).
        """
        order = _order(curve)
        while not 0 < int.from_bytes(secret := urandom(32), "big") < order:
            pass
        return cls(secret=secret, curve=curve)

    @classmethod
    def from_secret(cls, secret: bytes, curve: Curve = "secp256k1") -> Self:
        """Take a key that exists.

        Args:
            secret: The 32-byte scalar, big-endian.
            curve: The key's curve.

        Raises:
            InputError: ``secret`` has not 32 bytes or is not between 1 and the curve's order.
        """
        return cls(secret=bytes(secret), curve=curve)

    @property
    def address(self) -> Address:
        """The account's address.

        Raises:
            SigningError: A P-256 key: it signs readings and has no account.
        """
        if self.curve != "secp256k1":
            raise SigningError("a P-256 key has no account address", hint="use a secp256k1 key to own, sell and pay")
        return Address(self.signer_bytes)

    @property
    def device(self) -> DeviceId:
        """The device id of this key, were it a device's first."""
        return device_id(self.signer_bytes)

    @property
    def secret(self) -> bytes:
        """The 32-byte scalar. Whoever has it is this device: keep it in a keystore.

        Raises:
            SigningError: The signer is closed.
        """
        return self._open().secret

    @property
    def public_point(self) -> tuple[int, int]:
        """The public key's x and y.

        Raises:
            SigningError: The signer is closed.
        """
        key = self._open()
        return key.public_key.point() if isinstance(key, PrivateKey) else key.point

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest.

        Returns:
            65 bytes ``r‖s‖v`` (secp256k1) or 64 bytes ``r‖s`` (P-256), s in the low half, nonce by RFC 6979.

        Raises:
            InputError: ``digest`` has not 32 bytes.
            SigningError: The signer is closed.
        """
        if len(digest) != _DIGEST_LENGTH:
            raise InputError(f"a digest has 32 bytes, not {len(digest)}")
        key = self._open()
        if isinstance(key, PrivateKey):
            signature = key.sign_recoverable(digest, hasher=None)
            return signature[:64] + (b"\x1c" if signature[64] else b"\x1b")
        return key.sign(digest)

    def close(self) -> None:
        """Let go of the key; signing raises afterwards."""
        self._key = None

    def _open(self) -> PrivateKey | _P256Key:
        if self._key is None:
            raise SigningError("the signer is closed")
        return self._key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(curve={self.curve!r}, signer={self.signer_bytes.hex()!r})"

    def __reduce__(self) -> NoReturn:
        raise SigningError("a signer cannot be pickled or copied: its key must not travel")


class _P256Key:
    """A P-256 private key of ``cryptography``, which is imported only where a P-256 key is used."""

    __slots__ = ("_algorithm", "_key", "point", "secret")

    def __init__(self, secret: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - slow to import, not always needed

        self.secret = secret
        self._key: EllipticCurvePrivateKey = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        self.point = (numbers.x, numbers.y)
        self._algorithm = _ecdsa(deterministic=True)

    def sign(self, digest: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature  # noqa: PLC0415

        r, s = decode_dss_signature(self._key.sign(digest, self._algorithm))
        s = min(s, P256_ORDER - s)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def address_of(key: PublicKey) -> Address:
    """Return the Ethereum address of a secp256k1 public key."""
    return Address(keccak256(key.format(compressed=False)[1:])[12:])


def p256_signer(x: int, y: int) -> bytes:
    """Return the 84 signer bytes of a P-256 public key.

    Raises:
        InputError: The point is not on the curve.
    """
    if not _on_p256(x, y):
        raise InputError("not a point of P-256")
    return P256_VERIFIER + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def curve_of(signer_bytes: bytes) -> Curve:
    """Return the curve of a signer by its length.

    Raises:
        InputError: Neither 20 nor 84 bytes.
    """
    if len(signer_bytes) == _ADDRESS_LENGTH:
        return "secp256k1"
    if len(signer_bytes) == _P256_LENGTH:
        return "p256"
    raise InputError(f"a signer has 20 or 84 bytes, not {len(signer_bytes)}")


def check_signer(signer_bytes: bytes) -> Curve:
    """Check that signer bytes are one of the two kinds, and return the curve.

    Raises:
        InputError: A wrong length, the zero address, a foreign verifier, or a point that is not on P-256.
    """
    curve = curve_of(signer_bytes)
    if curve == "secp256k1" and not any(signer_bytes):
        raise InputError("the zero address is no signer")
    if curve == "p256":
        if signer_bytes[:20] != P256_VERIFIER:
            raise InputError(f"{Address(signer_bytes[:20])} is not the suite's P-256 verifier {P256_VERIFIER}")
        p256_signer(*_point(signer_bytes))
    return curve


def device_id(signer_bytes: bytes) -> DeviceId:
    """Return the id of the device whose first key this is: keccak256 of the signer bytes.

    Raises:
        InputError: The bytes are no signer of either kind.
    """
    check_signer(signer_bytes)
    return DeviceId(keccak256(signer_bytes))


def verify_signature(signer_bytes: bytes, digest: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` is this signer's over ``digest``.

    It never raises on what a stranger sent: an unknown kind of signer, a foreign verifier, a point off the curve, a
    high s, r or s out of range, a wrong length and a v other than 27 or 28 are all simply not a signature. The
    contracts decide the same way, by bare ``ecrecover`` and by P-256.

    Args:
        signer_bytes: 20 or 84 bytes.
        digest: The 32 bytes that were signed.
        signature: 65 bytes ``r‖s‖v`` or 64 bytes ``r‖s``.
    """
    if len(signer_bytes) not in (_ADDRESS_LENGTH, _P256_LENGTH) or len(digest) != _DIGEST_LENGTH:
        return False
    curve = curve_of(signer_bytes)
    if len(signature) != _SIGNATURE_LENGTHS[curve] or not _is_canonical(signature, _ORDERS[curve]):
        return False
    if curve == "secp256k1":
        return _verify_secp256k1(signer_bytes, digest, signature)
    return _verify_p256(signer_bytes, digest, signature)


def _verify_secp256k1(signer_bytes: bytes, digest: bytes, signature: bytes) -> bool:
    recovery = signature[64] - 27
    if recovery not in (0, 1) or not any(signer_bytes):
        return False
    try:
        key = PublicKey.from_signature_and_message(signature[:64] + bytes([recovery]), digest, hasher=None)
    except ValueError:  # no point has this x
        return False
    return address_of(key) == signer_bytes


def _verify_p256(signer_bytes: bytes, digest: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - slow to import, not always needed
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415

    key = _p256_public_key(bytes(signer_bytes))
    if key is None:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), digest, _ecdsa(deterministic=False))
    except InvalidSignature:
        return False
    return True


def _is_canonical(signature: bytes, order: int) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return 0 < r < order and 0 < s <= order // 2


def _point(signer_bytes: bytes) -> tuple[int, int]:
    return int.from_bytes(signer_bytes[20:52], "big"), int.from_bytes(signer_bytes[52:], "big")


def _on_p256(x: int, y: int) -> bool:
    p = _P256_PRIME
    return 0 <= x < p and 0 <= y < p and (y * y - (x * x * x - 3 * x + _P256_B)) % p == 0


@lru_cache(maxsize=128)
def _p256_public_key(signer_bytes: bytes) -> EllipticCurvePublicKey | None:
    """Return the key of 84 signer bytes, or None; making it takes longer than a verification, and devices come back."""
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    x, y = _point(signer_bytes)
    if signer_bytes[:20] != P256_VERIFIER or not _on_p256(x, y):
        return None
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


@lru_cache(maxsize=2)
def _ecdsa(*, deterministic: bool) -> ECDSA:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415

    return ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=deterministic)


def _order(curve: Curve) -> int:
    if curve not in _ORDERS:
        raise InputError(f"no such curve: {curve!r}", hint="secp256k1 or p256")
    return _ORDERS[curve]


def _check_secret(secret: bytes, curve: Curve) -> None:
    order = _order(curve)
    if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < order:  # noqa: PLR2004
        raise InputError(f"not a secret of {curve}: 32 bytes, from 1 to the curve's order, are wanted")
