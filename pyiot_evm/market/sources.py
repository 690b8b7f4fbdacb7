"""What can be sold: a table whose rows a device signs, readings that a device has signed already, or any file.

Example:
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.bin"
    >>> _ = path.write_bytes(b"weights")
    >>> source = FileSource(path, Place(chain_id=31337, market=Address(bytes(20))))
    >>> source.content == FileSource(path, source.place).content
    True
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.datasets import Table
from pyiot_evm.market.offers import Summary
from pyiot_evm.market.packing import Place, file_metadata, seal_file, seal_readings
from pyiot_evm.market.publishing import Sealed
from pyiot_evm.market.recording import record_table
from pyiot_evm.market.rules import RuleParams, SignedReadingRule
from pyiot_evm.types import Address, Bytes32, DeviceId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyiot_evm.device.reading import Reading
    from pyiot_evm.device.schema import Schema
    from pyiot_evm.device.signers import Signer
    from pyiot_evm.market.key_release import ContentKey
    from pyiot_evm.market.metadata import Metadata
    from pyiot_evm.market.offers import Offer
    from pyiot_evm.market.publishing import SaleTerms

    Progress = Callable[[str, int, int], None]

__all__ = ["FileSource", "ReadingsSource", "TableSource", "summary_of"]

_PIECE = 1 << 20
_STEP = 512


@dataclass(frozen=True, slots=True)
class TableSource:
    """A table; the device signs each of its rows once, whenever it is first sold.

    Args:
        table: The rows.
        device: The device's id.
        signer: Its present key.
        journals: The folder of this device's journals.
        rule: The contract of the signed-reading rule.
        place: Where the offer will stand.
        progress: Told now and then what is being done, how many leaves of it are done, and how many there are.
    """

    table: Table
    device: DeviceId
    signer: Signer
    journals: Path
    rule: Address
    place: Place
    progress: Progress | None = field(default=None, compare=False)

    @property
    def content(self) -> Bytes32:
        """The hash of the device, the schema, and every time and value."""
        digest = sha256(bytes(self.device) + self.table.schema.hash)
        for time, values in zip(self.table.times, self.table.rows, strict=True):
            digest.update(repr((time, tuple(values))).encode())
        return Bytes32(digest.digest())

    def seal(self, key: ContentKey, offer: Offer, terms: SaleTerms, path: Path) -> Sealed:
        """Sign what is not signed yet and write the bundle."""
        readings = record_table(self.journals, self.table, device=self.device, signer=self.signer, content=self.content)
        key_bytes = self.signer.signer_bytes
        signed = ReadingsSource(
            readings, self.table.schema, key_bytes, self.rule, self.place, self.table, self.progress
        )
        return signed.seal(key, offer, terms, path)


@dataclass(frozen=True, slots=True)
class ReadingsSource:
    """Readings that one key of one device has signed, with neighbouring sequence numbers.

    Args:
        readings: In order.
        schema: What they hold.
        signer: The signer bytes of the key.
        rule: The contract of the signed-reading rule.
        place: Where the offer will stand.
        table: How they look as a table, where they came from one.
        progress: Told now and then what is being done, how many leaves of it are done, and how many there are.
    """

    readings: Sequence[Reading]
    schema: Schema
    signer: bytes
    rule: Address
    place: Place
    table: Table | None = None
    progress: Progress | None = field(default=None, compare=False)

    @property
    def content(self) -> Bytes32:
        """The hash of every reading's digest."""
        return Bytes32(keccak256(b"".join(reading.digest for reading in self.readings)))

    def seal(self, key: ContentKey, offer: Offer, terms: SaleTerms, path: Path) -> Sealed:
        """Hold every reading against its own promise and write the bundle.

        Raises:
            InputError: A reading does not keep the promise: it could be disputed.
        """
        params = RuleParams.of(self.readings, self.signer)
        rule = SignedReadingRule(params)
        leaves = [reading.leaf() for reading in self.readings]
        for index, leaf in enumerate(leaves):
            if self.progress is not None and not index % _STEP:
                self.progress("checking the readings", index, len(leaves))
            if (reason := rule.violation(leaf, index)) is not None:
                raise InputError(f"reading {index} cannot be sold: {reason}", hint="its buyer could dispute it")
        table = self.table or Table.from_readings(self.readings, self.schema)
        metadata = table.metadata(
            title=terms.title, description=terms.description, tags=terms.tags, licence=terms.licence
        )
        encoded = params.encode()
        draft = replace(offer, rule=self.rule, rule_params_hash=Bytes32(keccak256(encoded)))
        whole = seal_readings(
            leaves, path, key=key, draft=draft, rule_params=encoded, metadata=metadata, place=self.place,
            progress=_told(self.progress, "sealing"),
        )  # fmt: skip
        return Sealed(whole, summary_of(metadata, DeviceId(params.device), len(leaves)), len(leaves))


@dataclass(frozen=True, slots=True)
class FileSource:
    """Any file, sold as it is.

    Args:
        path: The file.
        place: Where the offer will stand.
        progress: Told now and then what is being done, how many leaves of it are done, and how many there are.
    """

    path: Path
    place: Place
    progress: Progress | None = field(default=None, compare=False)

    @property
    def content(self) -> Bytes32:
        """SHA-256 of the name and the content.

        Raises:
            InputError: The file cannot be read.
        """
        digest = sha256(self.path.name.encode() + b"\0")
        try:
            with self.path.open("rb") as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from error
        return Bytes32(digest.digest())

    def seal(self, key: ContentKey, offer: Offer, terms: SaleTerms, path: Path) -> Sealed:
        """Write the bundle in a stream."""
        metadata = file_metadata(
            self.path, title=terms.title, description=terms.description, tags=terms.tags, licence=terms.licence
        )
        whole = seal_file(
            self.path, path, key=key, draft=offer, metadata=metadata, place=self.place,
            progress=_told(self.progress, "sealing"),
        )  # fmt: skip
        return Sealed(whole, summary_of(metadata, DeviceId(bytes(32)), whole.leaf_count), whole.leaf_count)


def _told(progress: Progress | None, task: str) -> Callable[[int, int], None] | None:
    return None if progress is None else partial(progress, task)


def summary_of(metadata: Metadata, device: DeviceId, rows: int) -> Summary:
    """Return the listing's summary of a data set."""
    return Summary(device, metadata.first_time, metadata.last_time, rows, metadata.title, metadata.tags)
