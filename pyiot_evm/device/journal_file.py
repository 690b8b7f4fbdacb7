"""The bytes of a reading journal on the disk: its header, its records, and the head file beside it.

:mod:`pyiot_evm.device.journal` uses this under its lock and says what it means; the format is described there.

Example:
    >>> Head(7, bytes(32)).seq
    7
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final, Self
from zlib import crc32

from pyiot_evm.device.files import write_new
from pyiot_evm.device.reading import Reading, leaf_length
from pyiot_evm.device.schema import Schema, canonical_json
from pyiot_evm.exceptions import ConsistencyError, InputError, TransportError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyiot_evm.device.signers import Curve

__all__ = ["Head", "HeadFile", "Header", "Records"]

_MAGIC: Final = b"pyiotrj1"
_U32: Final = Struct(">I")
_MAX_HEADER: Final = 1 << 20
_SLOT: Final = Struct(">Q32sI")


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain of readings.

    Args:
        seq: The last reading's number; one less than the first one's where there is none yet.
        digest: Its digest.
    """

    seq: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What all readings of a journal have in common, and where they begin.

    Args:
        device: The device's id.
        curve: The curve of its key.
        schema: What the readings hold.
        first_seq: The first reading's number.
        prev: The digest before it.
    """

    device: bytes
    curve: Curve
    schema: Schema
    first_seq: int
    prev: bytes

    def encode(self) -> bytes:
        """Return the header as it stands at the beginning of the file."""
        body = canonical_json(
            {
                "curve": self.curve,
                "device": self.device.hex(),
                "first_seq": self.first_seq,
                "prev": self.prev.hex(),
                "schema": self.schema.document(),
            }
        )
        return _MAGIC + _U32.pack(len(body)) + body + _U32.pack(crc32(body))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read a header's JSON back."""
        document = json.loads(body)
        return cls(
            bytes.fromhex(document["device"]),
            document["curve"],
            Schema.from_document(document["schema"]),
            document["first_seq"],
            bytes.fromhex(document["prev"]),
        )

    def check_is(self, path: Path, *, device: bytes | None, schema: Schema | None, curve: Curve | None) -> None:
        """Check that this is the journal that was asked for.

        Raises:
            InputError: It is another device's, another schema's or another curve's.
        """
        if device is not None and device != self.device:
            raise InputError(f"{path} is the journal of device 0x{self.device.hex()}, not of 0x{device.hex()}")
        if schema is not None and schema != self.schema:
            raise InputError(f"{path} has another schema", hint="begin a new journal with ReadingJournal.continued")
        if curve is not None and curve != self.curve:
            raise InputError(f"{path} has a key on {self.curve}, not {curve}", hint="use ReadingJournal.continued")


class Records:
    """The leaves in a journal's file, each with its CRC, all of one length."""

    def __init__(self, *, path: Path, descriptor: int, header: Header, start: int) -> None:
        self.path = path
        self.header = header
        self._descriptor: int | None = descriptor
        self._process = os.getpid()
        self._start = start
        self._schema_hash = header.schema.hash
        self._leaf = leaf_length(len(header.schema.fields), header.curve)
        self._size = self._leaf + _U32.size

    @staticmethod
    def begin(path: Path, header: Header) -> None:
        """Write a new journal without readings; harmless when another process was faster."""
        try:
            write_new(path, header.encode())
        except InputError:
            if not path.exists():
                raise

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a journal's file.

        Raises:
            InputError: Not a journal.
            ConsistencyError: Its header is damaged.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"cannot open the journal {path}: {error.strerror}") from error
        try:
            header, start = _read_header(descriptor, path)
            return cls(path=path, descriptor=descriptor, header=header, start=start)
        except BaseException:
            os.close(descriptor)
            raise

    def descriptor(self) -> int:
        """Return the open file of this process: a forked child opens its own, or it would share the parent's lock.

        Raises:
            InputError: The journal is closed.
            ConsistencyError: The file was replaced by another one.
        """
        if self._descriptor is None:
            raise InputError(f"the journal {self.path} is closed")
        if self._process != os.getpid():
            self._descriptor, self._process = os.open(self.path, os.O_RDWR | os.O_CLOEXEC), os.getpid()
        try:
            there = self.path.stat()
        except FileNotFoundError as error:
            raise ConsistencyError(f"the journal {self.path} was removed while it was open") from error
        here = os.fstat(self._descriptor)
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise ConsistencyError(f"the journal {self.path} was replaced while it was open")
        return self._descriptor

    def count(self) -> tuple[int, int]:
        """Return how many whole records the file has room for, and how many bytes come after them."""
        return divmod(os.fstat(self._fd()).st_size - self._start, self._size)

    def append(self, index: int, readings: Sequence[Reading]) -> None:
        """Write records behind the first ``index`` ones and make them durable.

        Raises:
            TransportError: The disk is full or broken; what was written is cut off again.
        """
        data = b"".join([leaf + _U32.pack(crc32(leaf)) for leaf in (reading.leaf() for reading in readings)])
        offset = self._start + index * self._size
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._fd(), memoryview(data)[written:], offset + written)
            os.fsync(self._fd())
        except OSError as error:
            self.truncate(index)
            raise TransportError(f"cannot write the journal {self.path}: {error.strerror}") from error

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` records."""
        os.ftruncate(self._fd(), self._start + count * self._size)
        os.fsync(self._fd())

    def read(self, index: int) -> Reading:
        """Return one reading.

        Raises:
            ConsistencyError: It is damaged.
        """
        reading = self.read_if_whole(index)
        if reading is None:
            raise ConsistencyError(f"reading {self.header.first_seq + index} in the journal {self.path} is damaged")
        return reading

    def read_if_whole(self, index: int) -> Reading | None:
        """Return one reading, or None when its record is torn or damaged."""
        return self._decode(os.pread(self._fd(), self._size, self._start + index * self._size))

    def read_many(self, index: int, count: int) -> list[Reading]:
        """Return readings in a row.

        Raises:
            ConsistencyError: One is damaged.
        """
        data = os.pread(self._fd(), self._size * count, self._start + index * self._size)
        readings = []
        for place in range(count):
            reading = self._decode(data[place * self._size : (place + 1) * self._size])
            if reading is None:
                raise ConsistencyError(f"reading {self.header.first_seq + index + place} in {self.path} is damaged")
            readings.append(reading)
        return readings

    def head_of(self, index: int) -> Head:
        """Return the head of the chain after the record at ``index``; -1 is before the first."""
        if index < 0:
            return Head(self.header.first_seq - 1, self.header.prev)
        reading = self.read(index)
        return Head(reading.seq, reading.digest)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _fd(self) -> int:
        if self._descriptor is None:
            raise InputError(f"the journal {self.path} is closed")
        return self._descriptor

    def _decode(self, record: bytes) -> Reading | None:
        leaf, check = record[: self._leaf], record[self._leaf :]
        if len(record) != self._size or _U32.pack(crc32(leaf)) != check:
            return None
        header = self.header
        return Reading.from_leaf(
            leaf,
            device=header.device,
            schema=self._schema_hash,
            value_count=len(header.schema.fields),
            curve=header.curve,
        )


def _read_header(descriptor: int, path: Path) -> tuple[Header, int]:
    start = os.pread(descriptor, len(_MAGIC) + _U32.size, 0)
    if len(start) != len(_MAGIC) + _U32.size or not start.startswith(_MAGIC):
        raise InputError(f"{path} is not a reading journal")
    length = min(_U32.unpack(start[len(_MAGIC) :])[0], _MAX_HEADER)
    data = os.pread(descriptor, length + _U32.size, len(start))
    body, check = data[:length], data[length:]
    if len(check) != _U32.size or _U32.pack(crc32(body)) != check:
        raise ConsistencyError(f"the header of the journal {path} is damaged")
    return Header.decode(body), len(start) + len(data)


class HeadFile:
    """The last head of a journal, in two slots that are written in turn, so that one is always whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Head | None:
        """Return the newest head that is whole, or None."""
        best = self._best()
        return None if best is None else best[1]

    def write(self, head: Head) -> None:
        """Note a newer head; the journal was made durable before, so this needs no flush."""
        best = self._best()
        if best is not None and best[1] == head:
            return
        slot = 0 if best is None else 1 - best[0]
        data = _SLOT.pack(head.seq, head.digest, self._check(head))
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, data, slot * _SLOT.size)
        finally:
            os.close(descriptor)

    def _best(self) -> tuple[int, Head] | None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        found: list[tuple[int, Head]] = []
        for slot in range(len(data) // _SLOT.size):
            seq, digest, check = _SLOT.unpack_from(data, slot * _SLOT.size)
            if check == self._check(Head(seq, digest)):
                found.append((slot, Head(seq, digest)))
        return max(found, key=lambda entry: entry[1].seq, default=None)

    @staticmethod
    def _check(head: Head) -> int:
        return crc32(head.seq.to_bytes(8, "big") + head.digest)
