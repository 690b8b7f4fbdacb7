"""The readings of a machine's device, as its journals have them: found by time, delivered by sequence number."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.device import ReadingJournal
from pyiot_evm.exceptions import InputError
from pyiot_evm.gateway.time_index import TimeIndex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyiot_evm.device import Reading, Schema
    from pyiot_evm.types import DeviceId

__all__ = ["ReadingSource", "RowRange"]

_ENDING: Final = ".readings"


@dataclass(frozen=True, slots=True)
class RowRange:
    """Readings by their sequence numbers, both ends included."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many they are; a stranger may write more than ``len`` can say."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @classmethod
    def parse(cls, text: str) -> RowRange:
        """Read ``FIRST-LAST``.

        Raises:
            InputError: It is no range.
        """
        first, dash, last = text.partition("-")
        if not (dash and _is_number(first) and _is_number(last) and int(first) <= int(last)):
            raise InputError(f"not a range of rows: {text[:40]!r}", hint="rows=FIRST-LAST")
        return cls(int(first), int(last))


class ReadingSource:
    """The readings of one device.

    Args:
        folder: Where its journals lie; they may grow while they are read.
        device: The device's id.
        signer: The signer bytes of its key.
    """

    def __init__(self, folder: Path, device: DeviceId, signer: bytes) -> None:
        self.device = device
        self.signer = signer
        self._folder = folder
        self._lock = threading.Lock()
        self._journals: dict[Path, ReadingJournal] = {}
        self._times: dict[Path, TimeIndex] = {}

    def close(self) -> None:
        """Close the journals."""
        with self._lock:
            for journal in self._journals.values():
                journal.close()
            self._journals.clear()

    def describe(self) -> dict[str, Any]:
        """Return what is free to know: the device, its signer, and what its readings hold."""
        with self._lock:
            journals = list(self._open())
            known = [journal for journal in journals if len(journal)]
            return {
                "device": str(self.device),
                "signer": "0x" + self.signer.hex(),
                "readings": sum(len(journal) for journal in known),
                "first": self._first(known[0]) if known else None,
                "last": known[-1].head.seq if known else None,
                "schema": known[-1].schema.document() if known else None,
            }

    def latest(self) -> RowRange | None:
        """Return the last reading's number as a range, ``None`` where there is none."""
        with self._lock:
            known = [journal for journal in self._open() if len(journal)]
            return RowRange(known[-1].head.seq, known[-1].head.seq) if known else None

    def find(self, *, start: int | None, end: int | None, limit: int) -> RowRange | None:
        """Return the rows from the first at or after ``start`` to the last before ``end`` (Unix milliseconds).

        Rows have the order in which they were measured; a clock that was set back is delivered as it is.
        """
        first = last = None
        with self._lock:
            for journal in self._open():
                found, base = self._indexed(journal).between(start, end), self._first(journal)
                if found is not None:
                    first = base + found[0] if first is None else first
                    last = base + found[1]
        if first is None or last is None:
            return None
        return RowRange(first, min(last, first + limit - 1))

    def rows(self, wanted: RowRange) -> list[dict[str, Any]]:
        """Return readings as documents: the values for people, the signed leaf for whoever checks.

        Raises:
            InputError: One of them is not there.
        """
        return [_document(reading, journal) for reading, journal in self._readings(wanted)]

    def bounds(self) -> tuple[int, int]:
        """Return the number of the first reading, and the one that the next reading will have."""
        with self._lock:
            known = [journal for journal in self._open() if len(journal)]
            return (self._first(known[0]), known[-1].head.seq + 1) if known else (0, 0)

    def reading(self, seq: int) -> tuple[Reading, Schema] | None:
        """Return a reading and what it holds, ``None`` where there is none of this number."""
        with self._lock:
            for journal in self._open():
                if self._first(journal) <= seq <= journal.head.seq:
                    return journal[seq], journal.schema
        return None

    def has(self, wanted: RowRange) -> bool:
        """Whether every row of a range is there."""
        with self._lock:
            known = [journal for journal in self._open() if len(journal)]
            return bool(known) and self._first(known[0]) <= wanted.first and wanted.last <= known[-1].head.seq

    def _readings(self, wanted: RowRange) -> Iterator[tuple[Reading, ReadingJournal]]:
        with self._lock:
            for journal in self._open():
                base = self._first(journal)
                for seq in range(max(base, wanted.first), min(journal.head.seq, wanted.last) + 1):
                    yield journal[seq], journal

    def _open(self) -> Iterator[ReadingJournal]:
        for path in sorted(self._folder.glob(f"*{_ENDING}")):
            if path not in self._journals:
                self._journals[path] = ReadingJournal.open(path)
            yield self._journals[path]

    @staticmethod
    def _first(journal: ReadingJournal) -> int:
        return journal.head.seq + 1 - len(journal)

    def _indexed(self, journal: ReadingJournal) -> TimeIndex:
        """Return the times of a journal, those of readings that came meanwhile too."""
        path = next(path for path, known in self._journals.items() if known is journal)
        index, base = self._times.setdefault(path, TimeIndex()), self._first(journal)
        if not index:
            for reading in journal:
                index.add(reading.time)
        while len(index) < len(journal):
            index.add(journal[base + len(index)].time)
        return index


def _document(reading: Reading, journal: ReadingJournal) -> dict[str, Any]:
    values = [str(value) for value in journal.schema.unfix(reading.values)]
    return {"seq": reading.seq, "time": reading.time, "values": values, "leaf": "0x" + reading.leaf().hex()}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20  # noqa: PLR2004 - uint64 has 20 digits
