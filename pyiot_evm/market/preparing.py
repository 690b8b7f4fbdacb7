"""From a path or a DataFrame to something that can be sealed: which device signs it, and whether that key may.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> with Devnet() as chain:
    ...     sensor = Machine.create(chain, name="sensor", curve="p256")
    ...     preparer = Preparer(chain, name="sensor", account=sensor.market.trader.account)
    ...     preparer.device_key(register=True)[0] == sensor.device
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyiot_evm.exceptions import InputError
from pyiot_evm.identity import Devices
from pyiot_evm.market.datasets import read_table
from pyiot_evm.market.packing import Place
from pyiot_evm.market.sources import FileSource, ReadingsSource, TableSource
from pyiot_evm.types import DeviceId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyiot_evm.chain import Account, Chain
    from pyiot_evm.device import KeystoreSigner, ReadingJournal

__all__ = ["TABLE_ENDINGS", "Preparer"]

TABLE_ENDINGS = (".csv", ".parquet")


class Preparer:
    """Makes a machine's data ready to be sealed.

    Args:
        chain: The chain.
        name: The machine's name in the home's keyring.
        account: Pays for the device's registration.
        progress: Told now and then what is being done, how many leaves of it are done, and how many there are.
    """

    def __init__(
        self, chain: Chain, *, name: str, account: Account, progress: Callable[[str, int, int], None] | None = None
    ) -> None:
        self._chain = chain
        self._name = name
        self._devices = Devices(chain, account=account)
        self._progress = progress

    @property
    def _place(self) -> Place:
        return Place(self._chain.chain_id, self._chain.addresses.data_market)

    def file(self, path: Path) -> FileSource:
        """Take a file as it is."""
        return FileSource(path, self._place, self._progress)

    def table(self, data: Any, *, units: dict[str, str] | None, time_column: str | None, register: bool) -> TableSource:
        """Read a table and find the device key that signs its rows.

        Raises:
            InputError: It cannot be read, or the key was not the device's at the times in it.
        """
        table = read_table(data, time_column=time_column, units=units)
        device, signer = self.device_key(register=register)
        for time in (min(table.times), max(table.times)):
            if not self._devices.is_signer_at(device, signer.signer_bytes, time // 1000):
                raise InputError(
                    f"the key of {self._name} was not device {device}'s at {time // 1000}: nobody would buy this",
                    hint="sell what was measured while this key was the device's",
                )
        return TableSource(
            table=table,
            device=device,
            signer=signer,
            journals=self._chain.home.journals / device.hex(),
            rule=self._chain.addresses.signed_reading_rule,
            place=self._place,
            progress=self._progress,
        )

    def readings(self, journal: ReadingJournal, *, register: bool) -> ReadingsSource:
        """Take what this machine's device has measured and signed by itself.

        Raises:
            InputError: The journal is empty or another device's.
        """
        device, signer = self.device_key(register=register)
        if journal.device != device or not len(journal):
            raise InputError(f"the journal is of device {journal.device} with {len(journal)} readings, not of {device}")
        return ReadingsSource(
            readings=list(journal),
            schema=journal.schema,
            signer=signer.signer_bytes,
            rule=self._chain.addresses.signed_reading_rule,
            place=self._place,
            progress=self._progress,
        )

    def device_key(self, *, register: bool) -> tuple[DeviceId, KeystoreSigner]:
        """Return the machine's device and its present key; a machine without one gets one.

        Args:
            register: Whether to register a device that has no owner yet.
        """
        keyring = self._chain.home.keyring
        entry = keyring.entry(self._name)
        if entry.device is None:
            entry = keyring.add_device(self._name, curve="secp256k1")
        device, signer = DeviceId(entry.device or b""), keyring.device(self._name)
        if register and signer.device == device and self._devices.get(device).owner is None:
            self._devices.register(signer)
        return device, signer
