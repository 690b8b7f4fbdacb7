"""The file that a lock remembers by: records that are appended, each durable before anything follows from it.

A record is a JSON object with its length and CRC-32; a running digest links them. What a crash tore off at the end is
cut away at the next start; damage before that, or a file that was put back from an older copy, is an error (a small
*head file* beside it knows how far it went). A file that has grown is written anew, from one record that sums up all.

File: ``pyiotlk1``, the number and the digest of the record before the first (8 + 32 bytes), their CRC-32; then for each
record its length, its CRC-32 (4 bytes each) and its JSON. Numbers are big-endian.

Example:
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "door.lock"
    >>> with LockJournal.open(path) as journal:
    ...     journal.append({"kind": "beat", "time": 7})
    >>> LockJournal.read(path)
    [{'kind': 'beat', 'time': 7}]
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Self
from zlib import crc32

from pyiot_evm.device.files import sync_folder, write_new
from pyiot_evm.device.journal_file import Head, HeadFile
from pyiot_evm.device.schema import canonical_json
from pyiot_evm.exceptions import ConfigurationError, ConsistencyError, InputError, TransportError
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["LockJournal"]

_LOG: Final = logging.getLogger(__name__)
_MAGIC: Final = b"pyiotlk1"
_BASE: Final = Struct(">Q32s")
_CHECK: Final = Struct(">I")
_FRAME: Final = Struct(">II")
_START: Final = len(_MAGIC) + _BASE.size + _CHECK.size
_ZERO: Final = Head(0, bytes(32))


class LockJournal:
    """A lock's file, held by one process alone.

    Make one with :meth:`open`.
    """

    def __init__(self, *, path: Path, head_file: HeadFile, guard: int) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._head_file = head_file
        self._guard = guard
        self._descriptor = -1
        self._size = 0
        self._head = _ZERO

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a journal, or begin one where there is none; what it holds is then in ``records``.

        Raises:
            ConfigurationError: Another process has it.
            InputError: Not a lock's journal.
            ConsistencyError: It is damaged, or older than its head file.
        """
        head_path = path.with_name(path.name + ".head")
        guard = os.open(head_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        journal = cls(path=path, head_file=HeadFile(head_path), guard=guard)
        try:
            journal._start()
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def read(cls, path: Path) -> list[dict[str, Any]]:
        """Return the records of a journal that another process may be writing; a torn end is left out.

        Raises:
            InputError: Not a lock's journal.
            ConsistencyError: Its beginning is damaged.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the lock's journal {path}: {error.strerror}") from error
        return _scan(data, path)[0]

    @property
    def size(self) -> int:
        """The file's length in bytes."""
        return self._size

    def append(self, record: dict[str, Any]) -> None:
        """Write a record and make it durable.

        Raises:
            TransportError: The disk is full or broken; nothing is written.
        """
        body = canonical_json(record)
        data = _FRAME.pack(len(body), crc32(body)) + body
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._fd(), memoryview(data)[written:], self._size + written)
            os.fsync(self._fd())
        except OSError as error:
            os.ftruncate(self._fd(), self._size)
            raise TransportError(f"cannot write the lock's journal {self.path}: {error.strerror}") from error
        self._size += len(data)
        self._head = _after(self._head, body)
        self._head_file.write(self._head)

    def rewrite(self, record: dict[str, Any]) -> None:
        """Begin the file anew with one record that sums up all before; a crash leaves the old file or the new one.

        Raises:
            OSError: The disk is full or broken; the old file goes on.
        """
        body = canonical_json(record)
        temporary = self.path.with_name(f".{self.path.name}.{os.urandom(4).hex()}")
        try:
            write_new(temporary, _header(self._head) + _FRAME.pack(len(body), crc32(body)) + body)
            fresh = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)  # nothing may fail between the renaming and its use
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        stale, self._descriptor = self._descriptor, fresh
        self._head, self._size = _after(self._head, body), os.fstat(fresh).st_size
        os.close(stale)
        sync_folder(self.path.parent)
        self._head_file.write(self._head)

    def close(self) -> None:
        """Close the file and let another process have it."""
        for descriptor in (self._descriptor, self._guard):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._guard = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"the lock's journal {self.path} is in use", hint="one process drives a lock: end the other one first"
            ) from error
        for torn in self.path.parent.glob(f".{self.path.name}.*"):
            torn.unlink(missing_ok=True)  # a new file that a crash left half written
        promised = self._head_file.read()
        if not self.path.exists() and promised is None:
            write_new(self.path, _header(_ZERO))
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise ConsistencyError(f"the lock's journal {self.path} is gone, but its head file is there") from error
        data = self.path.read_bytes()
        self.records, self._head, self._size = _scan(data, self.path, promised)
        if self._size < len(data):
            _LOG.warning("cut a torn record off the lock's journal %s", self.path)
            os.ftruncate(self._descriptor, self._size)
            os.fsync(self._descriptor)

    def _fd(self) -> int:
        if self._descriptor < 0:
            raise InputError(f"the lock's journal {self.path} is closed")
        return self._descriptor


def _scan(data: bytes, path: Path, promised: Head | None = None) -> tuple[list[dict[str, Any]], Head, int]:
    """Return the records that are whole, the head after them, and where they end."""
    head, place = _base(data, path), _START
    known = promised is None or head.seq > promised.seq
    records: list[dict[str, Any]] = []
    while True:
        if promised is not None and head.seq == promised.seq:
            known = True
            if head.digest != promised.digest:
                raise ConsistencyError(f"record {head.seq} in {path} is not the one that was written: it was forked")
        body = _body(data, place)
        if body is None:
            break
        records.append(json.loads(body))
        head, place = _after(head, body), place + _FRAME.size + len(body)
    if not known and promised is not None:
        raise ConsistencyError(
            f"the lock's journal {path} ends at record {head.seq}, but {promised.seq} was written: it is damaged or an "
            "older copy",
            hint="restore the newest copy; a lock that forgets could open twice for what is over",
        )
    return records, head, place


def _base(data: bytes, path: Path) -> Head:
    if len(data) < _START or not data.startswith(_MAGIC):
        raise InputError(f"{path} is not a lock's journal")
    base = data[len(_MAGIC) : len(_MAGIC) + _BASE.size]
    if _CHECK.pack(crc32(base)) != data[_START - _CHECK.size : _START]:
        raise ConsistencyError(f"the beginning of the lock's journal {path} is damaged")
    return Head(*_BASE.unpack(base))


def _body(data: bytes, place: int) -> bytes | None:
    if place + _FRAME.size > len(data):
        return None
    length, check = _FRAME.unpack_from(data, place)
    body = data[place + _FRAME.size : place + _FRAME.size + length]
    return body if length and len(body) == length and crc32(body) == check else None


def _header(head: Head) -> bytes:
    base = _BASE.pack(head.seq, head.digest)
    return _MAGIC + base + _CHECK.pack(crc32(base))


def _after(head: Head, body: bytes) -> Head:
    return Head(head.seq + 1, keccak256(head.digest + body))
