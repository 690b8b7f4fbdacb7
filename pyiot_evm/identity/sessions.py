"""Sessions: a device lends its name to another key for a while, for gateways and locks, without any transaction.

The device's key signs ``Session(device, sessionSigner, notAfter, scope, epoch)``; whoever is shown the credential asks
the registry for the device's epoch and key. A transfer, a rotation or a revocation raises the epoch and so ends every
session. The holder of the session key proves that it has it by answering a challenge. A session key signs nothing else:
it is no :class:`~pyiot_evm.device.Signer`, so it cannot be handed to anything that signs readings, vouchers or calls.

Example:
    >>> from pyiot_evm.device import LocalSigner
    >>> from pyiot_evm.identity.messages import RegistryMessages
    >>> from pyiot_evm.types import Address
    >>> messages = RegistryMessages(chain_id=1, registry=Address("0x" + "11" * 20))
    >>> key = SessionKey(LocalSigner.create())
    >>> device = LocalSigner.create("p256")
    >>> credential = Credential.issue(
    ...     device, key.signer_bytes, messages=messages, not_after=2_000_000_000, scope=Scope.PUBLISH)
    >>> Credential.decode(credential.encode()) == credential
    True
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Final, Self

from pyiot_evm.contracts.device_registry import Session
from pyiot_evm.device import check_signer, device_id, verify_signature
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Bytes32, DeviceId

if TYPE_CHECKING:
    from pyiot_evm.device import LocalSigner, Signer
    from pyiot_evm.identity.messages import RegistryMessages

__all__ = ["Credential", "Scope", "SessionKey"]

_VERSION: Final = b"\x01"
_HEAD: Final = Struct(">32sQIHBB")
_MAX_TEXT: Final = 1024
_MAX_UINT40: Final = (1 << 40) - 1


class Scope(IntFlag):
    """What a session may do, one bit each; a gateway may give the upper sixteen bits a meaning of its own."""

    PUBLISH = 1
    """Hand in what the device has signed, and its status."""
    COMMAND = 2
    """Take commands and answer them."""
    CONFIGURE = 4
    """Read and change the device's settings."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A session that a device has signed.

    Args:
        device: The device.
        device_signer: Its signer bytes; its present key, as the registry knows it.
        session_signer: The signer bytes of the key that the session is lent to.
        not_after: The last second in which it is good (Unix seconds).
        scope: What it may do.
        epoch: The device's epoch when it was signed.
        signature: The device's.
    """

    device: DeviceId
    device_signer: bytes
    session_signer: bytes
    not_after: int
    scope: int
    epoch: int
    signature: bytes

    @classmethod
    def issue(
        cls,
        signer: Signer,
        session_signer: bytes,
        *,
        messages: RegistryMessages,
        not_after: int,
        scope: int,
        epoch: int = 0,
        device: DeviceId | None = None,
    ) -> Self:
        """Sign a session on the device.

        Args:
            signer: The device's present key.
            session_signer: The signer bytes of the session's key.
            messages: The registry that gateways will ask.
            not_after: The last second in which it is good.
            scope: What it may do, at least one bit.
            epoch: The device's epoch, of the registry.
            device: The device's id; needed once its key was rotated, else taken from the key.

        Raises:
            InputError: No scope, a number that does not fit, or the session's key is the device's own.
            SigningError: The signer will not sign.
        """
        check_signer(session_signer)
        if session_signer == signer.signer_bytes:
            raise InputError("a session has a key of its own, not the device's")
        device = device_id(signer.signer_bytes) if device is None else device
        credential = cls(device, signer.signer_bytes, session_signer, not_after, int(scope), epoch, b"")
        signature = signer.sign_digest(credential.digest(messages))
        return cls(device, signer.signer_bytes, session_signer, not_after, int(scope), epoch, signature)

    def __post_init__(self) -> None:
        if not 0 < self.scope < 1 << 32:
            raise InputError(f"a session's scope is one to 32 bits, not {self.scope}")
        if not 0 <= self.not_after <= _MAX_UINT40 or not 0 <= self.epoch < 1 << 16:
            raise InputError(f"a session's end {self.not_after} or epoch {self.epoch} does not fit")

    @property
    def struct(self) -> Session:
        """The struct that the registry's ``isSessionValid`` takes."""
        key = Bytes32(keccak256(self.session_signer))
        return Session(self.device, key, self.not_after, self.scope, self.epoch)

    def digest(self, messages: RegistryMessages) -> bytes:
        """Return what the device signs."""
        return messages.session(
            self.device,
            session_signer=self.session_signer,
            not_after=self.not_after,
            scope=self.scope,
            epoch=self.epoch,
        )

    def check(self, messages: RegistryMessages, *, scope: int, now: int, epoch: int, key: bytes) -> None:
        """Check the credential against what the registry says.

        Args:
            messages: The registry's domain.
            scope: The bits that the act needs, at least one.
            now: The time, Unix seconds.
            epoch: The device's epoch, of the registry.
            key: keccak256 of the device's present signer, of the registry; zero when there is none.

        Raises:
            VerificationError: It does not hold; the reason is said.
        """
        reasons = (
            (keccak256(self.device_signer) != key, "it was signed by a key that is not the device's now"),
            (self.epoch != epoch, f"it is of epoch {self.epoch}, and the device is at {epoch}"),
            (now > self.not_after, f"it ended at {self.not_after}, and it is {now}"),
            (scope == 0 or self.scope & scope != scope, f"its scope is {self.scope}, and {int(scope)} is needed"),
        )
        for fails, reason in reasons:
            if fails:
                raise VerificationError(f"the session of {self.device} does not hold: {reason}")
        if not verify_signature(self.device_signer, self.digest(messages), self.signature):
            raise VerificationError(f"the session of {self.device} does not hold: the signature is not the device's")

    def check_answer(self, messages: RegistryMessages, answer: bytes, *, audience: str, challenge: bytes) -> None:
        """Check that whoever shows the credential holds the session's key.

        Args:
            messages: The registry's domain.
            answer: What :meth:`SessionKey.answer` gave.
            audience: Who asks.
            challenge: The 32 random bytes that were asked for; use each once.

        Raises:
            VerificationError: It does not.
        """
        digest = messages.answer(self.digest(messages), audience=audience, challenge=challenge)
        if not verify_signature(self.session_signer, digest, answer):
            raise VerificationError("the answer is not signed by the session's key for this challenge and audience")

    def encode(self) -> str:
        """Return the credential as text that fits a header or an MQTT password."""
        lengths = len(self.device_signer), len(self.session_signer)
        head = _HEAD.pack(self.device, self.not_after, self.scope, self.epoch, *lengths)
        data = _VERSION + head + self.device_signer + self.session_signer + self.signature
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a credential that somebody shows; what it says is not checked yet.

        Raises:
            InputError: Not a credential.
        """
        if len(text) > _MAX_TEXT or not text.isascii():
            raise InputError("not a session credential")
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError("not a session credential") from error
        start = len(_VERSION) + _HEAD.size
        if len(data) < start or not data.startswith(_VERSION):
            raise InputError("not a session credential")
        device, not_after, scope, epoch, first, second = _HEAD.unpack_from(data, len(_VERSION))
        signers, signature = data[start : start + first + second], data[start + first + second :]
        check_signer(signers[:first])
        check_signer(signers[first:])
        credential = cls(DeviceId(device), signers[:first], signers[first:], not_after, scope, epoch, signature)
        if credential.encode() != text:
            raise InputError("not a session credential")
        return credential


class SessionKey:
    """The key that a session is lent to. It answers challenges and signs nothing else.

    Args:
        signer: A key of its own, never the device's.
    """

    __slots__ = ("_signer",)

    def __init__(self, signer: LocalSigner) -> None:
        self._signer = signer

    @property
    def signer_bytes(self) -> bytes:
        """The 20 or 84 bytes that name the key."""
        return self._signer.signer_bytes

    def answer(self, credential: Credential, *, messages: RegistryMessages, audience: str, challenge: bytes) -> bytes:
        """Answer a gateway's challenge.

        Args:
            credential: The session.
            messages: The registry's domain.
            audience: Who asks, e.g. the gateway's host name as this side knows it.
            challenge: The 32 bytes that it asks for.

        Raises:
            InputError: The challenge has not 32 bytes, or the session is another key's.
        """
        if len(challenge) != 32:  # noqa: PLR2004
            raise InputError(f"a challenge has 32 bytes, not {len(challenge)}")
        if credential.session_signer != self.signer_bytes:
            raise InputError("the session was lent to another key")
        digest = messages.answer(credential.digest(messages), audience=audience, challenge=challenge)
        return self._signer.sign_digest(digest)

    def __repr__(self) -> str:
        return f"SessionKey({self.signer_bytes.hex()!r})"
