"""Keys in a chip: secure elements, TPMs, smart cards and HSMs, through the PKCS#11 module that their maker gives.

The key never leaves the chip. Both curves work: P-256, which every secure element speaks, and secp256k1 where the chip
has it. A chip may answer with a high s and never gives a recovery id; both are put right here, and each signature is
checked before it is handed out, so that a broken chip is an error and not a statement that nobody accepts.

Needs the extra ``pkcs11`` (python-pkcs11). The PIN is never an argument of a command: a PKCS#11 URI (RFC 7512) names a
file with it, or ``PYIOT_PKCS11_PIN`` holds it.

Example:
    >>> Pkcs11Key.parse("pkcs11:token=door;object=lock%201?module-path=/usr/lib/libtpm2_pkcs11.so").label
    'lock 1'
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from coincurve import PublicKey

from pyiot_evm.device.signers import (
    P256_ORDER,
    SECP256K1_ORDER,
    Curve,
    address_of,
    device_id,
    p256_signer,
    verify_signature,
)
from pyiot_evm.exceptions import ConfigurationError, InputError, PassphraseError, SigningError

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    from pyiot_evm.types import DeviceId

__all__ = ["Pkcs11Key", "Pkcs11Signer"]

_OIDS: Final[dict[bytes, Curve]] = {
    bytes.fromhex("06082a8648ce3d030107"): "p256",
    bytes.fromhex("06052b8104000a"): "secp256k1",
}
_NAMES: Final[dict[Curve, str]] = {"p256": "secp256r1", "secp256k1": "secp256k1"}
_ORDERS: Final[dict[Curve, int]] = {"p256": P256_ORDER, "secp256k1": SECP256K1_ORDER}
_SCHEME: Final = "pkcs11:"
_POINT: Final = 65
_RAW_SIGNATURE: Final = 64
_DIGEST: Final = 32
_PIN: Final = "PYIOT_PKCS11_PIN"


@dataclass(frozen=True, slots=True)
class Pkcs11Key:
    """Where a key lies.

    Attributes:
        module: The shared library of the chip's maker.
        token: The token's label.
        label: The key pair's label (``CKA_LABEL``).
        pin_source: A file whose first line is the user's PIN; None for ``PYIOT_PKCS11_PIN``.
    """

    module: str
    token: str
    label: str
    pin_source: Path | None = None

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read a PKCS#11 URI: ``pkcs11:token=T;object=LABEL?module-path=FILE&pin-source=FILE``.

        Raises:
            InputError: Not such a URI, or it holds a PIN.
        """
        path, _, query = uri.removeprefix(_SCHEME).partition("?")
        given = _attributes(path, ";") | _attributes(query, "&") if uri.startswith(_SCHEME) else {}
        if not {"token", "object", "module-path"} <= set(given):
            raise InputError(
                "not the PKCS#11 URI of a key",
                hint="write pkcs11:token=LABEL;object=LABEL?module-path=FILE&pin-source=FILE (RFC 7512)",
            )
        if "pin-value" in given:
            raise InputError("a PIN is never an argument", hint=f"put it into a file (pin-source=FILE) or into {_PIN}")
        if unknown := set(given) - {"token", "object", "module-path", "pin-source", "type"}:
            raise InputError(f"a PKCS#11 URI with attributes that are not read here: {', '.join(sorted(unknown))}")
        source = given.get("pin-source")
        return cls(
            module=given["module-path"],
            token=given["token"],
            label=given["object"],
            pin_source=None if source is None else Path(source.removeprefix("file:")),
        )

    def pin(self) -> str:
        """Return the user's PIN.

        Raises:
            PassphraseError: There is none.
        """
        hint = f"set {_PIN}, or name a file in the URI: pin-source=FILE"
        if self.pin_source is None:
            if pin := os.environ.get(_PIN):
                return pin
            raise PassphraseError(f"there is no PIN for the token {self.token}", hint=hint)
        try:
            pin = self.pin_source.expanduser().read_text().split("\n", 1)[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise PassphraseError(f"cannot read the PIN file {self.pin_source}", hint=hint) from error
        if not pin:
            raise PassphraseError(f"the PIN file {self.pin_source} is empty", hint=hint)
        return pin


class Pkcs11Signer:
    """A key in a PKCS#11 token. It is a :class:`~pyiot_evm.device.Signer`: whatever takes one takes this.

    Make one with :meth:`open` or :meth:`create`. Threads may share it; a forked child opens its own. A token that was
    unplugged, or that another signer of this process logged out of, is opened again at the next signature.
    """

    def __init__(self, *, place: Pkcs11Key, opened: _Opened) -> None:
        self._place = place
        self._opened: _Opened | None = opened
        self._refused: PassphraseError | None = None
        self._lock = threading.Lock()
        self.curve: Curve = opened.curve
        self.signer_bytes: bytes = opened.signer_bytes

    @classmethod
    def open(cls, key: Pkcs11Key | str) -> Self:
        """Log in to a token and take a key pair of it.

        Args:
            key: Where it lies, or its PKCS#11 URI.

        Raises:
            ConfigurationError: No such module, token or key, another curve, or python-pkcs11 is missing.
            PassphraseError: No PIN, or a wrong one. A token locks itself after a few wrong ones: try no other by guess.
        """
        key = Pkcs11Key.parse(key) if isinstance(key, str) else key
        return cls(place=key, opened=_open(key))

    @classmethod
    def create(cls, key: Pkcs11Key | str, curve: Curve = "p256") -> Self:
        """Make a new key pair in a token, where it stays: it cannot be read out.

        Args:
            key: Where it shall lie; the label must not be taken.
            curve: The curve.

        Raises:
            InputError: The label is taken, or there is no such curve.
            ConfigurationError: No such module or token, or the token cannot make keys on this curve.
            PassphraseError: No PIN, or a wrong one.
        """
        key = Pkcs11Key.parse(key) if isinstance(key, str) else key
        if curve not in _NAMES:
            raise InputError(f"no such curve: {curve!r}", hint="secp256k1 or p256")
        pkcs11, session = _login(key, writable=True)
        try:
            if any(True for _ in session.get_objects({pkcs11.Attribute.LABEL: key.label})):
                raise InputError(f"the token {key.token} has an object named {key.label} already")
            _generate(pkcs11, session, key, curve)
        finally:
            session.close()
        return cls.open(key)

    @property
    def device(self) -> DeviceId:
        """The device id of this key, were it a device's first."""
        return device_id(self.signer_bytes)

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest in the chip.

        Returns:
            65 bytes ``r‖s‖v`` (secp256k1) or 64 bytes ``r‖s`` (P-256), s in the low half.

        Raises:
            InputError: ``digest`` has not 32 bytes.
            SigningError: The signer is closed, the chip refuses or is gone, or what it gave is no signature.
        """
        if len(digest) != _DIGEST:
            raise InputError(f"a digest has 32 bytes, not {len(digest)}")
        with self._lock:
            if self._opened is None:
                raise SigningError("the signer is closed")
            if self._refused is not None:
                raise SigningError(f"the token takes the PIN no more: {self._refused.message}", hint=self._refused.hint)
            raw = self._sign(self._opened, bytes(digest))
        signature = self._finished(raw, bytes(digest))
        if signature is None:
            raise SigningError("what the token gave is no signature of its key")
        return signature

    def close(self) -> None:
        """Log out; signing raises afterwards."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    def _sign(self, opened: _Opened, digest: bytes) -> bytes:
        """Sign, and where the session is no longer good, once more in a new one."""
        try:
            return opened.sign(digest)
        except opened.error as first:
            try:
                opened.close()
                again = _open(self._place)
                if again.signer_bytes != self.signer_bytes:
                    again.close()
                    raise SigningError(f"the token {self._place.token} holds another key now") from first
                self._opened = again
                return again.sign(digest)
            except (opened.error, ConfigurationError) as error:
                if isinstance(error, _PinRefusedError):  # once: a token locks itself after a few wrong ones
                    self._refused = error
                raise SigningError(f"the token did not sign: {_reason(error)}", retryable=True) from first

    def _finished(self, raw: bytes, digest: bytes) -> bytes | None:
        """Return a raw ``r‖s`` with s in the low half, and with v on secp256k1; None when it is no signature."""
        if len(raw) != _RAW_SIGNATURE:
            return None
        s = int.from_bytes(raw[32:], "big")
        canonical = raw[:32] + min(s, abs(_ORDERS[self.curve] - s)).to_bytes(32, "big")
        endings = (b"",) if self.curve == "p256" else (b"\x1b", b"\x1c")
        found = (canonical + ending for ending in endings)
        return next((one for one in found if verify_signature(self.signer_bytes, digest, one)), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Pkcs11Signer({self.curve}, 0x{self.signer_bytes.hex()})"


class _PinRefusedError(PassphraseError):
    """The token was asked, and took the PIN for wrong."""


class _Opened:
    """A session of a token's user, and a key pair in it."""

    def __init__(self, pkcs11: ModuleType, session: Any, place: Pkcs11Key) -> None:
        self.error: type[Exception] = pkcs11.exceptions.PKCS11Error
        self._session = session
        self._mechanism = pkcs11.Mechanism.ECDSA
        attribute, kind, curve = pkcs11.Attribute, pkcs11.ObjectClass, pkcs11.KeyType.EC
        try:
            self._key = session.get_key(object_class=kind.PRIVATE_KEY, key_type=curve, label=place.label)
            public = session.get_key(object_class=kind.PUBLIC_KEY, key_type=curve, label=place.label)
            parameters, point = bytes(public[attribute.EC_PARAMS]), bytes(public[attribute.EC_POINT])
        except self.error as error:
            raise ConfigurationError(
                f"the token {place.token} has no one key pair named {place.label}: {type(error).__name__}",
                hint="`pkcs11-tool --list-objects` shows what it has; both keys of a pair carry the same label",
            ) from error
        if parameters not in _OIDS:
            raise ConfigurationError(f"the key {place.label} is on another curve than P-256 or secp256k1", hint="")
        self.curve: Curve = _OIDS[parameters]
        self.signer_bytes = _signer_bytes(self.curve, _point(point, place))

    def sign(self, digest: bytes) -> bytes:
        return bytes(self._key.sign(digest, mechanism=self._mechanism))

    def close(self) -> None:
        with suppress(self.error):  # the token may be gone
            self._session.close()


def _open(place: Pkcs11Key) -> _Opened:
    pkcs11, session = _login(place, writable=False)
    try:
        return _Opened(pkcs11, session, place)
    except BaseException:
        with suppress(pkcs11.exceptions.PKCS11Error):
            session.close()
        raise


def _login(key: Pkcs11Key, *, writable: bool) -> tuple[ModuleType, Any]:
    """Return the library and a session of the token's user."""
    try:
        import pkcs11  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise ConfigurationError("python-pkcs11 is missing", hint="pip install 'pyiot-evm[pkcs11]'") from error
    pin = key.pin()
    try:
        token = pkcs11.lib(key.module).get_token(token_label=key.token)
        try:
            return pkcs11, token.open(rw=writable, user_pin=pin)
        except pkcs11.exceptions.UserAlreadyLoggedIn:  # by another signer: a process logs in to a token once
            return pkcs11, token.open(rw=writable)
    except (pkcs11.exceptions.PinIncorrect, pkcs11.exceptions.PinLenRange, pkcs11.exceptions.PinLocked) as error:
        raise _PinRefusedError(
            f"the token {key.token} did not take the PIN: {_reason(error)}",
            hint="a token locks itself after a few wrong PINs: look it up, do not guess",
        ) from error
    except (pkcs11.exceptions.PKCS11Error, OSError) as error:
        raise ConfigurationError(
            f"cannot open the token {key.token} of {key.module}: {_reason(error)}",
            hint="check the module's path, and that the token is there: `pkcs11-tool --list-token-slots`",
        ) from error


def _generate(pkcs11: ModuleType, session: Any, key: Pkcs11Key, curve: Curve) -> None:
    from pkcs11.util.ec import encode_named_curve_parameters  # noqa: PLC0415

    attribute = pkcs11.Attribute
    try:
        domain = session.create_domain_parameters(
            pkcs11.KeyType.EC, {attribute.EC_PARAMS: encode_named_curve_parameters(_NAMES[curve])}, local=True
        )
        domain.generate_keypair(
            label=key.label,
            store=True,
            mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN,
            private_template={attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
        )
    except pkcs11.exceptions.PKCS11Error as error:
        raise ConfigurationError(f"the token {key.token} made no key on {curve}: {_reason(error)}", hint="") from error


def _signer_bytes(curve: Curve, point: tuple[int, int]) -> bytes:
    if curve == "p256":
        return p256_signer(*point)
    try:
        return bytes(address_of(PublicKey.from_point(*point)))
    except ValueError as error:
        raise ConfigurationError("the token's public key is not on its curve", hint="") from error


def _point(encoded: bytes, key: Pkcs11Key) -> tuple[int, int]:
    """Return x and y of ``CKA_EC_POINT``: an OCTET STRING around the uncompressed point, or the point as such."""
    point = encoded[2:] if encoded[:2] == bytes((0x04, _POINT)) and len(encoded) == _POINT + 2 else encoded
    if len(point) != _POINT or point[0] != 0x04:  # noqa: PLR2004 - SEC 1: an uncompressed point
        raise ConfigurationError(f"the public key {key.label} has a form that is not read here", hint="")
    return int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")


def _attributes(text: str, separator: str) -> dict[str, str]:
    from urllib.parse import unquote_to_bytes  # noqa: PLC0415 - not for what signs with a key in a file

    found: dict[str, str] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        try:
            text_value = unquote_to_bytes(value).decode()
        except UnicodeDecodeError as error:
            raise InputError("not a PKCS#11 URI: its text is not UTF-8") from error
        if not equals or name in found:
            raise InputError(f"not a PKCS#11 URI: {name!r:.40} stands twice or has no value")
        found[name] = text_value
    return found


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
