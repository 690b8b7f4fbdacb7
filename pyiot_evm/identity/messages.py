"""What a device's key signs for the registry: typed data in the registry's own domain on one chain.

::

    Register(bytes32 device,address owner,bytes32 metadata,uint40 deadline)
    Rotate(bytes32 device,bytes32 newSigner,uint16 epoch,uint40 deadline)
    Revoke(bytes32 device,uint16 epoch)
    Session(bytes32 device,bytes32 sessionSigner,uint40 notAfter,uint32 scope,uint16 epoch)

Example:
    >>> from pyiot_evm.types import Address, DeviceId
    >>> messages = RegistryMessages(chain_id=31337, registry=Address("0x" + "11" * 20))
    >>> len(messages.revoke(DeviceId(bytes(32)), epoch=0))
    32
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from pyiot_evm.device.typed import (
    address_word,
    bytes_word,
    domain_separator,
    struct_hash,
    type_hash,
    typed_digest,
    word,
)
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from pyiot_evm.types import Address, DeviceId

__all__ = ["RegistryMessages"]

_REGISTER: Final = type_hash("Register(bytes32 device,address owner,bytes32 metadata,uint40 deadline)")
_ROTATE: Final = type_hash("Rotate(bytes32 device,bytes32 newSigner,uint16 epoch,uint40 deadline)")
_REVOKE: Final = type_hash("Revoke(bytes32 device,uint16 epoch)")
_SESSION: Final = type_hash("Session(bytes32 device,bytes32 sessionSigner,uint40 notAfter,uint32 scope,uint16 epoch)")
_ANSWER: Final = type_hash("SessionAnswer(bytes32 session,string audience,bytes32 challenge)")


class RegistryMessages:
    """The digests of the registry's messages.

    Args:
        chain_id: The chain's id.
        registry: The registry's address.
    """

    def __init__(self, *, chain_id: int, registry: Address) -> None:
        self.chain_id = chain_id
        self.registry = registry

    @cached_property
    def domain(self) -> bytes:
        """The domain separator."""
        return domain_separator("pyiot DeviceRegistry", "1", chain_id=self.chain_id, contract=self.registry)

    def register(self, device: DeviceId, *, owner: Address, metadata: bytes, deadline: int) -> bytes:
        """Return what the genesis key signs to give its device an owner and a metadata document."""
        return self._digest(_REGISTER, device, address_word(owner), metadata, word(deadline, bits=40))

    def rotate(self, device: DeviceId, *, new_signer: bytes, epoch: int, deadline: int) -> bytes:
        """Return what the new key, and without the owner the old key too, signs."""
        return self._digest(_ROTATE, device, keccak256(new_signer), word(epoch, bits=16), word(deadline, bits=40))

    def revoke(self, device: DeviceId, *, epoch: int) -> bytes:
        """Return what a key signs to end its device."""
        return self._digest(_REVOKE, device, word(epoch, bits=16))

    def session(self, device: DeviceId, *, session_signer: bytes, not_after: int, scope: int, epoch: int) -> bytes:
        """Return what the device's key signs to lend its name to a session key (signer bytes)."""
        end, bits, era = word(not_after, bits=40), word(scope, bits=32), word(epoch, bits=16)
        return self._digest(_SESSION, device, keccak256(session_signer), end, bits, era)

    def answer(self, session: bytes, *, audience: str, challenge: bytes) -> bytes:
        """Return what a session key signs to show a gateway or lock that it holds the key.

        Args:
            session: The session's digest.
            audience: Who asks, so that an answer for one is of no use to another.
            challenge: The 32 bytes that were asked for.
        """
        return self._digest(_ANSWER, session, bytes_word(audience), challenge)

    def _digest(self, kind: bytes, *words: bytes) -> bytes:
        return typed_digest(self.domain, struct_hash(kind, *words))
