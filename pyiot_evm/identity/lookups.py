"""What the registry says of devices, now and in the past, and what its logs tell.

Example:
    >>> DeviceRecord(DeviceId(bytes(32)), None, 0, 0, False, Bytes32(bytes(32))).is_registered
    False
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.contracts.device_registry import (
    DeviceRegistered,
    DeviceRegistry,
    DeviceRevoked,
    DeviceRotated,
    DeviceTransferred,
    DeviceUriChanged,
)
from pyiot_evm.device.typed import address_word
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity.did import did_document, did_of
from pyiot_evm.identity.messages import RegistryMessages
from pyiot_evm.types import ZERO_ADDRESS, Address, Bytes32, DeviceId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyiot_evm.chain import Chain
    from pyiot_evm.identity.sessions import Credential

__all__ = ["DeviceDetails", "DeviceEvent", "DeviceLookups", "DeviceRecord", "SignerWindow"]

DeviceEvent = DeviceRegistered | DeviceRotated | DeviceTransferred | DeviceRevoked | DeviceUriChanged

FOREVER: Final = (1 << 40) - 1
_EVENTS: Final[tuple[Any, ...]] = (
    DeviceRegistered,
    DeviceRotated,
    DeviceTransferred,
    DeviceRevoked,
    DeviceUriChanged,
)
_BATCH: Final = 50


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device as the registry knows it now.

    Args:
        device: Its id.
        owner: Its owner; None where it is not registered.
        registered_at: When it was registered, Unix seconds; 0 where it is not.
        epoch: How often it was transferred, rotated or revoked.
        is_revoked: Whether it was revoked.
        key: keccak256 of the signer that signs for it now; zero when there is none.
    """

    device: DeviceId
    owner: Address | None
    registered_at: int
    epoch: int
    is_revoked: bool
    key: Bytes32

    @property
    def is_registered(self) -> bool:
        """Whether it has an owner."""
        return self.owner is not None


@dataclass(frozen=True, slots=True)
class SignerWindow:
    """A signer of a device and when it signs: ``start <= time < end``, Unix seconds.

    Args:
        signer: The signer bytes.
        start: 0 for a genesis signer.
        end: :data:`FOREVER` while it is in use.
    """

    signer: bytes
    start: int
    end: int

    @property
    def is_current(self) -> bool:
        """Whether it is in use."""
        return self.end == FOREVER


@dataclass(frozen=True, slots=True)
class DeviceDetails:
    """Everything that the chain tells of a device.

    Args:
        record: The device as it is now.
        signers: Its signers, the oldest first.
        metadata: The hash of its metadata document, under the device's signature; zero where it has none.
        uri: Where the document lies; whoever sent the registration, or the owner, chose it.
        did: Its DID.
        did_document: Its DID document.
        history: The registry's events about it.
    """

    record: DeviceRecord
    signers: tuple[SignerWindow, ...]
    metadata: Bytes32
    uri: str
    did: str
    did_document: dict[str, Any]
    history: tuple[DeviceEvent, ...]


class DeviceLookups:
    """Read access to a chain's device registry; see :class:`~pyiot_evm.identity.Devices`.

    Args:
        chain: The chain.
        registry: The registry's address; the suite's when left out.
    """

    def __init__(self, chain: Chain, *, registry: Address | None = None) -> None:
        self.chain = chain
        self._registry = registry

    @cached_property
    def contract(self) -> DeviceRegistry:
        """The registry's binding: every function as an unsent call."""
        return DeviceRegistry(self._registry or self.chain.addresses.device_registry)

    @cached_property
    def messages(self) -> RegistryMessages:
        """What devices sign for this registry on this chain."""
        return RegistryMessages(chain_id=self.chain.chain_id, registry=self.contract.address)

    def get(self, device: DeviceId) -> DeviceRecord:
        """Return a device as it is now, registered or not."""
        return self.get_many([device])[0]

    def get_many(self, devices: Sequence[DeviceId]) -> list[DeviceRecord]:
        """Return devices as they are now, in the order asked for."""
        found: list[DeviceRecord] = []
        registry = self.contract
        for start in range(0, len(devices), _BATCH):
            part = devices[start : start + _BATCH]
            reads = (
                registry.owner_of,
                registry.registered_at,
                registry.epoch_of,
                registry.is_revoked,
                registry.signer_of,
            )
            answers = self.chain.call_many([read(device) for device in part for read in reads])
            for place, device in enumerate(part):
                owner, registered_at, epoch, is_revoked, key = answers[len(reads) * place : len(reads) * (place + 1)]
                known = None if owner == ZERO_ADDRESS else owner
                found.append(DeviceRecord(device, known, registered_at, epoch, is_revoked, key))
        return found

    def history(self, device: DeviceId, *, from_block: int = 0) -> list[DeviceEvent]:
        """Return what happened to a device, the oldest first."""
        kinds = {kind.TOPIC: kind for kind in _EVENTS}
        logs = self.chain.logs(address=self.contract.address, topics=[list(kinds), device], from_block=from_block)
        return [kinds[log.topics[0]].from_log(log) for log in logs]

    def is_signer_at(self, device: DeviceId, signer: bytes, time: int) -> bool:
        """Return whether something counts that this signer signed for the device and dated ``time``.

        Args:
            device: The device.
            signer: 20 or 84 signer bytes.
            time: Unix seconds; a reading is dated in milliseconds: hand in ``time // 1000``.
        """
        return self.chain.call(self.contract.is_signer_at(device, signer, time))

    def check_signer_at(self, device: DeviceId, signer: bytes, first: int, last: int) -> None:
        """Check that a signer was the device's at all times of a range.

        Args:
            device: The device.
            signer: 20 or 84 signer bytes.
            first: The first time, Unix seconds.
            last: The last time.

        Raises:
            VerificationError: It was not; the window in which it was is named.
        """
        key = Bytes32(keccak256(signer))
        window, supported = self.chain.call_many(
            [self.contract.window_of(device, key), self.contract.is_signer_at(device, signer, first)]
        )
        if not supported or not window.from_ <= first <= last < window.until:
            raise VerificationError(
                f"0x{signer.hex()} signs for {device} from {window.from_} until {window.until}, "
                f"not from {first} to {last}"
            )

    def signers(self, device: DeviceId, *, genesis: bytes | None = None) -> list[SignerWindow]:
        """Return every signer that a device ever had, the oldest first.

        Args:
            device: The device.
            genesis: Its first signer; needed only where it was never registered, since only then no log tells it.

        Raises:
            InputError: The genesis signer is not known, or the one that was given is another device's.
        """
        return self._windows(device, self.history(device), genesis)

    def show(
        self,
        device: DeviceId,
        *,
        genesis: bytes | None = None,
        points: Mapping[bytes, tuple[int, int]] | None = None,
    ) -> DeviceDetails:
        """Return everything that the chain tells of a device, its DID document included.

        Args:
            device: The device.
            genesis: Its first signer; needed only where it was never registered.
            points: Public keys of 20-byte signers, where they are known: then the DID is a ``did:key``.

        Raises:
            InputError: The genesis signer is not known.
        """
        record, history = self.get(device), self.history(device)
        signers = self._windows(device, history, genesis)
        registered = next((event for event in history if isinstance(event, DeviceRegistered)), None)
        uris = [event.uri for event in history if isinstance(event, DeviceRegistered | DeviceUriChanged)]
        first, chain_id = signers[0].signer, self.chain.chain_id
        did = did_of(first, chain_id=chain_id, point=(points or {}).get(first))
        current = [window.signer for window in signers if window.is_current]
        return DeviceDetails(
            record=record,
            signers=tuple(signers),
            metadata=Bytes32(bytes(32)) if registered is None else registered.metadata,
            uri=uris[-1] if uris else "",
            did=did,
            did_document=did_document(did, current, chain_id=chain_id, points=points, owner=record.owner),
            history=tuple(history),
        )

    def check_session(self, credential: Credential, *, scope: int) -> DeviceRecord:
        """Check a session against the registry, by the chain's clock, and return its device.

        Args:
            credential: What was shown.
            scope: The bits that the act needs, at least one.

        Raises:
            VerificationError: Another epoch, past its end, out of scope, or not signed by the device's present key.
        """
        record = self.get(credential.device)
        credential.check(self.messages, scope=scope, now=self.chain.now(), epoch=record.epoch, key=record.key)
        return record

    def _windows(self, device: DeviceId, history: Sequence[DeviceEvent], genesis: bytes | None) -> list[SignerWindow]:
        first = next((event.signer for event in history if isinstance(event, DeviceRegistered)), genesis)
        if first is None:
            raise InputError(f"the first signer of {device} is not known: it is not registered", hint="hand it in")
        if keccak256(first) != device:
            raise InputError(f"0x{first.hex()} is not the first signer of {device}")
        signers = [first, *(event.signer for event in history if isinstance(event, DeviceRotated))]
        windows = self.chain.call_many(
            [self.contract.window_of(device, Bytes32(keccak256(signer))) for signer in signers]
        )
        return [SignerWindow(signer, w.from_, w.until) for signer, w in zip(signers, windows, strict=True)]

    def list(self, *, owner: Address | None = None, from_block: int = 0) -> list[DeviceRecord]:
        """Return every registered device, found by logs alone, the oldest first.

        Args:
            owner: Only the devices that this account owns now.
            from_block: Where to begin to read, e.g. the block of the deployment.
        """
        topic = None if owner is None else address_word(owner)
        filters: list[list[Any]] = [[DeviceRegistered.TOPIC, None, topic]]
        if topic is not None:
            filters.append([DeviceTransferred.TOPIC, None, None, topic])
        address = self.contract.address
        logs = [
            log for topics in filters for log in self.chain.logs(address=address, topics=topics, from_block=from_block)
        ]
        logs.sort(key=lambda log: (log.block_number, log.log_index))
        devices = list(dict.fromkeys(DeviceId(log.topics[1]) for log in logs))
        records = self.get_many(devices)
        return [record for record in records if record.owner is not None and owner in (None, record.owner)]
