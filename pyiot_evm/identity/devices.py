"""Register, rotate, transfer and revoke devices; every act can be done again after a crash without harm.

Example:
    >>> from pyiot_evm.chain import Devnet
    >>> from pyiot_evm.device import LocalSigner
    >>> with Devnet() as chain:
    ...     owner = chain.account(LocalSigner.create())
    ...     chain.fund(owner, ether=1)
    ...     devices, sensor = Devices(chain, account=owner), LocalSigner.create("p256")
    ...     change = devices.register(sensor)
    ...     again = devices.register(sensor)
    ...     print(devices.get(sensor.device).owner == owner.address, change.receipt.status, again.receipt)
    True 1 None
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.contracts.device_registry import Registration, RegistrationRow
from pyiot_evm.device import device_id
from pyiot_evm.exceptions import ConfigurationError, InputError, TransactionError
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity.lookups import DeviceLookups
from pyiot_evm.identity.metadata import NO_METADATA
from pyiot_evm.identity.sessions import Credential
from pyiot_evm.types import Address, Bytes32, DeviceId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyiot_evm.chain import Account, Call, Chain, Pending, Receipt
    from pyiot_evm.device import Signer
    from pyiot_evm.identity.lookups import DeviceRecord
    from pyiot_evm.identity.metadata import DeviceMetadata

__all__ = ["DeviceChange", "Devices"]

_DAY: Final = 86_400
_FLEET_BATCH: Final = 40
"""Rows of one transaction: under 3 million gas."""


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """What an act came to.

    Args:
        device: The device.
        receipt: Of the transaction; None when everything was as asked already and nothing had to be sent.
    """

    device: DeviceId
    receipt: Receipt | None


class Devices(DeviceLookups):
    """The devices of a chain.

    Args:
        chain: The chain.
        account: Who sends and pays; look-ups and sessions need none.
        registry: The registry's address; the suite's when left out.
    """

    def __init__(self, chain: Chain, *, account: Account | None = None, registry: Address | None = None) -> None:
        super().__init__(chain, registry=registry)
        self._account = account

    @property
    def account(self) -> Account:
        """Who sends and pays.

        Raises:
            ConfigurationError: None was given.
        """
        if self._account is None:
            raise ConfigurationError("no account was given that could send this", hint="Devices(chain, account=…)")
        return self._account

    # --- register ---

    def sign_registration(
        self,
        signer: Signer,
        *,
        owner: Address,
        metadata: DeviceMetadata | None = None,
        uri: str = "",
        lifetime: int = _DAY,
    ) -> RegistrationRow:
        """Have a device sign who owns it and what it is; anyone can send the row.

        Args:
            signer: The device's first key.
            owner: Who owns the device from then on.
            metadata: What the device says of itself; its hash is signed.
            uri: Where the metadata document lies.
            lifetime: For how many seconds from now, by the chain's clock, the row can be sent.

        Raises:
            SigningError: The signer will not sign.
        """
        device = device_id(signer.signer_bytes)
        digest = NO_METADATA if metadata is None else metadata.hash
        deadline = self.chain.now() + lifetime
        signature = signer.sign_digest(self.messages.register(device, owner=owner, metadata=digest, deadline=deadline))
        return RegistrationRow(Registration(device, owner, digest, deadline), signer.signer_bytes, signature, uri)

    def register(
        self,
        signer: Signer,
        *,
        owner: Address | None = None,
        metadata: DeviceMetadata | None = None,
        uri: str = "",
    ) -> DeviceChange:
        """Register a device; nothing is sent when it belongs to that owner already.

        Args:
            signer: The device's first key.
            owner: Who owns the device from then on; the account when left out.
            metadata: What the device says of itself.
            uri: Where the metadata document lies.

        Raises:
            DeviceAlreadyRegistered: It belongs to another owner.
            DeviceAlreadyRevoked: It was revoked.
            SigningError: The signer will not sign.
        """
        owner = self.account.address if owner is None else owner
        device = device_id(signer.signer_bytes)
        record = self.get(device)
        if record.owner == owner and not record.is_revoked:
            return DeviceChange(device, None)

        def make() -> Call[None]:
            row = self.sign_registration(signer, owner=owner, metadata=metadata, uri=uri)
            return self.contract.register(row.registration, row.signer, row.signature, row.uri)

        free = record.owner is None and not record.is_revoked
        return DeviceChange(device, self._once(f"register:{device}:{owner}" if free else None, make))

    def register_many(
        self,
        rows: Sequence[RegistrationRow],
        *,
        batch: int = _FLEET_BATCH,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[DeviceChange]:
        """Register a fleet in as few transactions as fit; rows that are there as asked cost nothing.

        Args:
            rows: Of :meth:`sign_registration`, each signed by its device, wherever that is.
            batch: Rows in one transaction.
            progress: Called with how many rows are done, and how many there are.

        Returns:
            One change a row, in order; rows of one transaction share its receipt.

        Raises:
            ContractError: A bad row; it names its device. Batches before it may have gone through.
            InputError: A device stands in two rows.
        """
        devices = [row.registration.device for row in rows]
        if len(set(devices)) != len(devices):
            raise InputError("a device stands in two rows")
        records = {record.device: record for record in self.get_many(devices)}
        todo = [row for row in rows if not _is_as_asked(row, records)]
        parts = [todo[start : start + batch] for start in range(0, len(todo), batch)]
        done = len(rows) - len(todo)
        _tell(progress, done, len(rows))
        pending = [
            self._begin(_fleet_key(part, records), lambda part=part: self.contract.register_many(part))  # type: ignore[misc]
            for part in parts
        ]
        receipts: dict[DeviceId, Receipt] = {}
        for part, sent in zip(parts, pending, strict=True):
            receipt = sent.wait()
            receipts.update((row.registration.device, receipt) for row in part)
            done += len(part)
            _tell(progress, done, len(rows))
        return [DeviceChange(device, receipts.get(device)) for device in devices]

    def set_uri(self, device: DeviceId, uri: str) -> DeviceChange:
        """Say where the metadata document lies now; its hash stays what the device has signed. By the owner.

        Raises:
            DeviceCallerNotOwner: The account does not own the device.
        """
        return DeviceChange(device, self.account.transact(self.contract.set_uri(device, uri)))

    # --- rotate, transfer, revoke ---

    def rotate(
        self, device: DeviceId, new_signer: Signer, *, old_signer: Signer | None = None, lifetime: int = _DAY
    ) -> DeviceChange:
        """Replace a device's key; all its sessions end.

        Args:
            device: The device.
            new_signer: The new key; one that no device ever had.
            old_signer: The present key, when the account is not the owner: then both keys sign and anyone may send.
            lifetime: For how many seconds from now the signatures are good.

        Raises:
            DeviceCallerNotOwner: The account does not own the device and ``old_signer`` was not given.
            SignerAlreadyUsed: A device has or had the new key.
            SigningError: A signer will not sign.
        """
        record = self.get(device)
        if record.key == keccak256(new_signer.signer_bytes):
            return DeviceChange(device, None)

        def make() -> Call[None]:
            deadline = self.chain.now() + lifetime
            new = new_signer.signer_bytes
            digest = self.messages.rotate(device, new_signer=new, epoch=record.epoch, deadline=deadline)
            signature = new_signer.sign_digest(digest)
            if old_signer is None:
                return self.contract.rotate(device, new, deadline, signature)
            old = old_signer.sign_digest(digest)
            return self.contract.rotate_signed(device, new, deadline, signature, old_signer.signer_bytes, old)

        key = f"rotate:{device}:{record.epoch}:{Bytes32(keccak256(new_signer.signer_bytes))}"
        return DeviceChange(device, self._once(key, make))

    def transfer(self, device: DeviceId, new_owner: Address) -> DeviceChange:
        """Hand a device to another owner; its key stays, all its sessions end. By the owner.

        Raises:
            DeviceCallerNotOwner: The account does not own the device.
            DeviceAlreadyRevoked: It was revoked.
        """
        record = self.get(device)
        if record.owner == new_owner:
            return DeviceChange(device, None)
        key = f"transfer:{device}:{record.epoch}:{new_owner}"
        return DeviceChange(device, self._once(key, lambda: self.contract.transfer(device, new_owner)))

    def revoke(self, device: DeviceId, *, signer: Signer | None = None) -> DeviceChange:
        """End a device for ever: nothing dated from now on counts, what is dated before stays good.

        Args:
            device: The device.
            signer: Its present key, when the account is not the owner: then anyone may send.

        Raises:
            DeviceCallerNotOwner: The account does not own the device and ``signer`` was not given.
            SignerNotCurrent: ``signer`` is not the device's present key.
        """
        record = self.get(device)
        if record.is_revoked:
            return DeviceChange(device, None)

        def make() -> Call[None]:
            if signer is None:
                return self.contract.revoke(device)
            signature = signer.sign_digest(self.messages.revoke(device, epoch=record.epoch))
            return self.contract.revoke_signed(device, signer.signer_bytes, signature)

        return DeviceChange(device, self._once(f"revoke:{device}:{record.epoch}", make))

    # --- sessions ---

    def issue_session(
        self,
        signer: Signer,
        session_signer: bytes,
        *,
        scope: int,
        lifetime: int = _DAY,
        device: DeviceId | None = None,
    ) -> Credential:
        """Have a device lend its name to another key; nothing is sent.

        Args:
            signer: The device's present key.
            session_signer: The signer bytes of the session's key.
            scope: What it may do.
            lifetime: For how many seconds from now, by the chain's clock.
            device: The device's id; needed once its key was rotated, else taken from the key.

        Raises:
            InputError: The signer is not the device's present key, or the scope is empty.
        """
        device = device_id(signer.signer_bytes) if device is None else device
        record = self.get(device)
        if record.key != keccak256(signer.signer_bytes):
            raise InputError(f"this signer is not the present key of {device}")
        return Credential.issue(
            signer,
            session_signer,
            messages=self.messages,
            not_after=self.chain.now() + lifetime,
            scope=scope,
            epoch=record.epoch,
            device=device,
        )

    # --- below ---

    def _once(self, key: str | None, make: Callable[[], Call[Any]]) -> Receipt:
        return self._begin(key, make).wait()

    def _begin(self, key: str | None, make: Callable[[], Call[Any]]) -> Pending:
        """Send an act once, whatever crashed in between; one that reverted may be tried again.

        Without a key the act is sent as it is: what the contract refuses now must not be answered by what it took then.
        """
        if key is None:
            return self.account.send(make())
        for attempt in count(1):
            name = f"{key}:{attempt}"
            pending = self.account.find(name)
            if pending is None:
                return self.account.send(make(), key=name)
            try:
                pending.wait(timeout=0, confirmations=0)
            except TransactionError as error:
                if not error.retryable:
                    continue
            return pending
        raise AssertionError("unreachable")  # pragma: no cover


def _is_as_asked(row: RegistrationRow, records: Mapping[DeviceId, DeviceRecord]) -> bool:
    record = records[row.registration.device]
    return record.owner == row.registration.owner and not record.is_revoked


def _fleet_key(rows: Sequence[RegistrationRow], records: Mapping[DeviceId, DeviceRecord]) -> str | None:
    if any(record.is_registered or record.is_revoked for record in (records[r.registration.device] for r in rows)):
        return None
    names = b"".join(row.registration.device + row.registration.owner for row in rows)
    return f"register-many:{Bytes32(keccak256(names))}"


def _tell(progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
