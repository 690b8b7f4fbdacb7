"""What a lock and a renter's phone say to each other at the door: a challenge, an answer, a refusal.

::

    AccessChallenge(bytes32 device,bytes32 termsId,string purpose,uint64 counter,bytes32 nonce,uint40 expiry)

is an EIP-712 struct in the domain ``pyiot Lock``, version 1, without a chain: a lock knows none. It is signed with the
access key, whose point stands in the owner's terms. The purpose is signed too: an answer that opens can end nothing.

Example:
    >>> key = AccessKey(device=bytes(32), terms_id=TermsId(bytes(32)), secret=bytes(31) + bytes([7]))
    >>> challenge = Challenge(bytes(32), TermsId(bytes(32)), Purpose.OPEN, 1, bytes(32), 2_000_000_000)
    >>> answer = key.answer(challenge)
    >>> Answer.of(answer.fields()) == answer, verify_signature(key.address, challenge.digest, answer.signature)
    (True, True)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from pyiot_evm.device.files import write_new
from pyiot_evm.device.schema import canonical_json, check_depth
from pyiot_evm.device.signers import LocalSigner, verify_signature
from pyiot_evm.device.typed import bytes_word, domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.types import Bytes32, TermsId

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm.types import Address

__all__ = ["AccessError", "AccessKey", "Answer", "Challenge", "Purpose", "Refusal", "verify_signature"]

CHALLENGE_TYPE: Final = (
    "AccessChallenge(bytes32 device,bytes32 termsId,string purpose,uint64 counter,bytes32 nonce,uint40 expiry)"
)
DOMAIN: Final = domain_separator("pyiot Lock", "1")

_CHALLENGE: Final = type_hash(CHALLENGE_TYPE)
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_KEY_FORMAT: Final = "pyiot access key"
_MAX_KEY_FILE: Final = 4096
_SIGNATURE: Final = 65


class Purpose(StrEnum):
    """What an answer is for."""

    OPEN = "open"
    CHECK_OUT = "check-out"


class Refusal(StrEnum):
    """Why a lock refuses."""

    MALFORMED = "malformed"
    OTHER_DEVICE = "other-device"
    UNKNOWN_SLOT = "unknown-slot"
    NO_CHALLENGE = "no-challenge"
    OLD_CHALLENGE = "old-challenge"
    CHALLENGE_EXPIRED = "challenge-expired"
    WRONG_KEY = "wrong-key"
    TOO_EARLY = "too-early"
    ENDED = "ended"
    CHECKED_OUT = "checked-out"
    NOT_CHECKED_IN = "not-checked-in"
    CLOCK_WENT_BACK = "clock-went-back"
    SIGNER_FAILED = "signer-failed"
    TOO_MANY_TRIES = "too-many-tries"
    OTHER_OWNER = "other-owner"
    OTHER_SIGNER = "other-signer"
    NOT_SIGNED = "not-signed"
    KEY_USED = "key-used"
    TERMS_INVALID = "terms-invalid"
    FULL = "full"


_LATER: Final = {
    Refusal.NO_CHALLENGE,
    Refusal.OLD_CHALLENGE,
    Refusal.CHALLENGE_EXPIRED,
    Refusal.TOO_EARLY,
    Refusal.CLOCK_WENT_BACK,
    Refusal.SIGNER_FAILED,
    Refusal.TOO_MANY_TRIES,
}


class AccessError(VerificationError):
    """A lock refused.

    Args:
        reason: Why.
        detail: The values that were compared.

    Attributes:
        reason: Why.
        detail: The values that were compared.
    """

    code: ClassVar[str] = "access"

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(f"the lock refuses ({reason}): {detail}", hint="", retryable=reason in _LATER)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a lock wants signed; good once, and until it expires.

    Attributes:
        device: The lock's device id.
        terms_id: The rental's terms.
        purpose: What the answer will be for.
        counter: Counts the lock's challenges; none comes twice.
        nonce: 32 random bytes.
        expiry: From when on it is no longer good, the lock's clock, Unix seconds.
    """

    device: bytes
    terms_id: TermsId
    purpose: Purpose
    counter: int
    nonce: bytes
    expiry: int

    @property
    def digest(self) -> bytes:
        """What the access key signs."""
        words = (
            Bytes32(self.device),
            self.terms_id,
            bytes_word(self.purpose.value),
            word(self.counter, bits=64),
            Bytes32(self.nonce),
            word(self.expiry, bits=40),
        )
        return typed_digest(DOMAIN, struct_hash(_CHALLENGE, *words))

    def fields(self) -> dict[str, Any]:
        """Return the challenge as a JSON object."""
        return {
            "device": "0x" + self.device.hex(),
            "termsId": str(self.terms_id),
            "purpose": self.purpose.value,
            "counter": str(self.counter),
            "nonce": "0x" + self.nonce.hex(),
            "expiry": self.expiry,
        }

    @classmethod
    def of(cls, fields: object) -> Self:
        """Read a challenge that a stranger may have written.

        Raises:
            InputError: It is none.
        """
        found = exactly(fields, {"device", "termsId", "purpose", "counter", "nonce", "expiry"}, "a challenge")
        return cls(
            device=raw(found["device"], size=32),
            terms_id=TermsId(raw(found["termsId"], size=32)),
            purpose=purpose_of(found["purpose"]),
            counter=number(found["counter"], bits=64),
            nonce=raw(found["nonce"], size=32),
            expiry=number(found["expiry"], bits=40),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A signed challenge on its way back; what it does not repeat, the lock remembers.

    Attributes:
        device: The lock's device id.
        terms_id: The rental's terms.
        purpose: What it is for.
        counter: Of the challenge.
        signature: The access key's over the challenge, 65 bytes.
    """

    device: bytes
    terms_id: TermsId
    purpose: Purpose
    counter: int
    signature: bytes

    def fields(self) -> dict[str, Any]:
        """Return the answer as a JSON object."""
        return {
            "device": "0x" + self.device.hex(),
            "termsId": str(self.terms_id),
            "purpose": self.purpose.value,
            "counter": str(self.counter),
            "signature": "0x" + self.signature.hex(),
        }

    @classmethod
    def of(cls, fields: object) -> Self:
        """Read an answer that a stranger may have written.

        Raises:
            InputError: It is none.
        """
        found = exactly(fields, {"device", "termsId", "purpose", "counter", "signature"}, "an answer")
        return cls(
            device=raw(found["device"], size=32),
            terms_id=TermsId(raw(found["termsId"], size=32)),
            purpose=purpose_of(found["purpose"]),
            counter=number(found["counter"], bits=64),
            signature=raw(found["signature"], size=_SIGNATURE),
        )


@dataclass(frozen=True, slots=True)
class AccessKey:
    """What opens one lock in one slot: the released key, and what it is for.

    Attributes:
        device: The lock's device id; a challenge of another one is not signed.
        terms_id: The rental's terms.
        secret: The released key, 32 bytes.
    """

    device: bytes
    terms_id: TermsId
    secret: bytes

    def __repr__(self) -> str:
        return f"AccessKey(terms_id={self.terms_id!r})"

    @property
    def address(self) -> Address:
        """The address of the key's public point."""
        return LocalSigner.from_secret(self.secret).address

    def answer(self, challenge: Challenge) -> Answer:
        """Sign a challenge.

        Raises:
            VerificationError: It is another lock's or another rental's: somebody passes challenges on.
        """
        if (challenge.device, challenge.terms_id) != (self.device, self.terms_id):
            raise VerificationError(
                "the challenge is another lock's or another rental's",
                hint="do not sign it: somebody may be passing on the challenge of another door",
            )
        with LocalSigner.from_secret(self.secret) as signer:
            signature = signer.sign_digest(challenge.digest)
        return Answer(self.device, self.terms_id, challenge.purpose, challenge.counter, signature)

    def write(self, path: Path) -> None:
        """Write the key to a new private file (0600).

        Raises:
            InputError: ``path`` exists.
        """
        fields = {
            "format": _KEY_FORMAT,
            "device": "0x" + self.device.hex(),
            "termsId": str(self.terms_id),
            "secret": "0x" + self.secret.hex(),
        }
        write_new(path, canonical_json(fields) + b"\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key file.

        Raises:
            InputError: There is none, or it holds no access key.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_KEY_FILE)
        except OSError as error:
            raise InputError(f"cannot read the key file {path}: {error.strerror}") from error
        found = exactly(parsed(data), {"format", "device", "termsId", "secret"}, "an access key")
        if found["format"] != _KEY_FORMAT:
            raise InputError(f"{path} holds no access key")
        secret = raw(found["secret"], size=32)
        LocalSigner.from_secret(secret).close()
        return cls(raw(found["device"], size=32), TermsId(raw(found["termsId"], size=32)), secret)


def parsed(data: bytes) -> Any:
    """Return a stranger's JSON.

    Raises:
        InputError: It is none, or nested too deep.
    """
    import json  # noqa: PLC0415 - not for signing

    check_depth(data)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("not JSON") from error


def exactly(fields: object, names: set[str], what: str) -> dict[str, Any]:
    """Return a JSON object that has exactly these fields.

    Raises:
        InputError: It has not.
    """
    if not isinstance(fields, dict) or set(fields) != names:
        raise InputError(f"{what} has exactly the fields {', '.join(sorted(names))}")
    return fields


def raw(value: object, *, size: int) -> bytes:
    """Return 0x-hex of one length as bytes.

    Raises:
        InputError: It is none.
    """
    if not isinstance(value, str) or len(value) != 2 + 2 * size or not _HEX.fullmatch(value):
        raise InputError(f"not hex of {size} bytes: {value!r:.80}")
    return bytes.fromhex(value[2:])


def number(value: object, *, bits: int) -> int:
    """Return an unsigned number that stands as a number or as decimal text.

    Raises:
        InputError: It is none, or does not fit.
    """
    is_text = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 78  # noqa: PLR2004
    found = int(value) if is_text and isinstance(value, str) else value
    if type(found) is not int or not 0 <= found < 1 << bits:
        raise InputError(f"not a uint{bits}: {value!r:.80}")
    return found


def purpose_of(value: object) -> Purpose:
    """Return a purpose by its name.

    Raises:
        InputError: There is no such purpose.
    """
    if value not in (Purpose.OPEN.value, Purpose.CHECK_OUT.value):
        raise InputError(f"no such purpose: {value!r:.40}")
    return Purpose(value)
