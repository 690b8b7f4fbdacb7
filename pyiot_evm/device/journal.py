"""A device's own record of what it measured: append-only, a hash chain, and safe when the power fails at any moment.

A reading leaves the device only after it is on the disk, so a crash can never make one device sign two readings with
one sequence number. What a crash tore off at the end is cut away when the journal is next used; damage before that is
an error, never repaired in silence. Threads and processes that share a journal take turns by a file lock. Beside the
journal lies a small *head file* with the last sequence number: a journal that was put back from an old copy is shorter
than its head says and refuses to go on (:meth:`ReadingJournal.check_head` does the same against what a gateway
remembers).

File: ``pyiotrj1``, the header's length (4 bytes), the header (canonical JSON: device, curve, schema, first sequence
number, digest before it), its CRC-32; then for each reading its leaf (``docs/reference/reading-format.md``) and CRC-32.

Example:
    >>> import tempfile, pathlib
    >>> from pyiot_evm.device import Field, LocalSigner, Schema
    >>> signer = LocalSigner.create("p256")
    >>> schema = Schema((Field("temperature", unit="Cel", scale=2),))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "readings"
    >>> with ReadingJournal.open(path, device=signer.device, schema=schema, curve="p256") as journal:
    ...     reading = journal.sign(signer, time=1700000000000, values=schema.fix([21.5]))
    ...     print(len(journal), reading.seq, journal[0] == reading)
    1 0 True
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time as clock
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from pyiot_evm.device.journal_file import Head, Header, HeadFile, Records
from pyiot_evm.device.reading import ZERO_DIGEST, Reading
from pyiot_evm.exceptions import ConsistencyError, InputError, VerificationError
from pyiot_evm.types import DeviceId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from pyiot_evm.device.schema import Schema
    from pyiot_evm.device.signers import Curve, Signer

__all__ = ["ReadingJournal"]

_LOG: Final = logging.getLogger(__name__)
_MILLISECONDS: Final = 1_000_000


class ReadingJournal:
    """The readings of one device, of one schema, signed on one curve.

    Make one with :meth:`open`. After a rotation to a key on another curve, or with another schema, a new journal goes
    on where the old one ends: :meth:`continued`.
    """

    def __init__(self, *, records: Records, head_file: HeadFile) -> None:
        self._records = records
        self._head_file = head_file
        self._thread_lock = threading.RLock()
        self._depth = 0
        self._checked = False
        self._known = 0
        self._head = Head(records.header.first_seq - 1, records.header.prev)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        device: bytes | None = None,
        schema: Schema | None = None,
        curve: Curve | None = None,
        first_seq: int = 0,
        prev: bytes = ZERO_DIGEST,
        head_path: Path | None = None,
    ) -> Self:
        """Open a journal, or begin one where there is none.

        Args:
            path: The file.
            device: The device's id; with ``schema`` and ``curve`` needed to begin, else checked when given.
            schema: What the readings hold.
            curve: The curve of the device's key.
            first_seq: The first reading's number, where a journal before this one ends.
            prev: That journal's last digest.
            head_path: Where the head file lies; on another medium than the journal it notices more. Beside it when left
                out.

        Raises:
            InputError: No journal there and too little given to begin one; or it is for another device, schema, curve.
            ConsistencyError: The journal is damaged, or older than its head file.
        """
        if not path.exists():
            if device is None or schema is None or curve is None:
                raise InputError(f"no journal at {path}", hint="give device, schema and curve to begin one")
            Records.begin(path, Header(bytes(device), curve, schema, first_seq, prev))
        records = Records.open(path)
        head_file = HeadFile(path.with_name(path.name + ".head") if head_path is None else head_path)
        journal = cls(records=records, head_file=head_file)
        try:
            records.header.check_is(path, device=device, schema=schema, curve=curve)
            journal.head  # noqa: B018 - reads the file and checks it
        except BaseException:
            journal.close()
            raise
        return journal

    def continued(self, path: Path, *, schema: Schema | None = None, curve: Curve | None = None) -> ReadingJournal:
        """Begin a new journal that goes on where this one ends; write no more to this one.

        Args:
            path: The new file.
            schema: The new schema; this one's when left out.
            curve: The curve of the new key; this one's when left out.

        Raises:
            InputError: ``path`` exists.
        """
        if path.exists():
            raise InputError(f"{path} exists already")
        head = self.head
        return type(self).open(
            path,
            device=self.device,
            schema=schema or self.schema,
            curve=curve or self.curve,
            first_seq=head.seq + 1,
            prev=head.digest,
        )

    @property
    def device(self) -> DeviceId:
        """The device's id."""
        return DeviceId(self._records.header.device)

    @property
    def schema(self) -> Schema:
        """What the readings hold."""
        return self._records.header.schema

    @property
    def curve(self) -> Curve:
        """The curve of the device's key."""
        return self._records.header.curve

    @property
    def head(self) -> Head:
        """The last reading's sequence number and digest; before the first, -1 and zero."""
        with self._locked():
            return self._head

    def sign(self, signer: Signer, *, values: Sequence[int], time: int | None = None) -> Reading:
        """Sign the next reading; it is on the disk when this returns.

        Args:
            signer: The device's key.
            values: Fixed-point integers, e.g. of :meth:`Schema.fix`.
            time: Unix milliseconds; now when left out. It may go backwards: the sequence orders the readings.

        Raises:
            InputError: Values that the schema does not take, or a signer on another curve.
            SigningError: The signer will not sign; nothing is written.
            ConsistencyError: The journal is damaged, or older than its head file.
        """
        return self.sign_many(signer, [(clock.time_ns() // _MILLISECONDS if time is None else time, values)])[0]

    def sign_many(self, signer: Signer, rows: Iterable[tuple[int, Sequence[int]]]) -> list[Reading]:
        """Sign many readings and make them durable with one write: all of them are returned, or none.

        Args:
            signer: The device's key.
            rows: ``(time, values)`` in order, as for :meth:`sign`.

        Raises:
            InputError: A row that the schema does not take, named by its place from 0; nothing is written.
            SigningError: The signer will not sign; nothing is written.
            ConsistencyError: The journal is damaged, or older than its head file.
        """
        if signer.curve != self.curve:
            raise InputError(f"the journal's key is on {self.curve}, this signer on {signer.curve}")
        with self._locked():
            readings: list[Reading] = []
            head, schema_hash = self._head, self.schema.hash
            for place, (time, values) in enumerate(rows):
                try:
                    self.schema.check(values)
                    reading = Reading.sign(
                        signer,
                        device=self.device,
                        seq=head.seq + 1,
                        time=time,
                        schema=schema_hash,
                        values=values,
                        prev=head.digest,
                    )
                except InputError as error:
                    raise InputError(f"row {place}: {error.message}", hint=error.hint) from error
                head = Head(reading.seq, reading.digest)
                readings.append(reading)
            if readings:
                self._records.append(self._known, readings)
                self._known += len(readings)
                self._head = head
                self._head_file.write(head)
            return readings

    def check_head(self, seq: int, digest: bytes) -> None:
        """Check the journal against a reading that somebody else remembers, e.g. the device's gateway.

        Raises:
            ConsistencyError: The journal ends before that reading, or has another one in its place.
        """
        with self._locked():
            if seq > self._head.seq:
                raise ConsistencyError(
                    f"the journal ends at {self._head.seq}, but reading {seq} was signed: it was rolled back",
                    hint="restore the newest copy; a device that signs a number twice loses its claims",
                )
            if seq >= self._records.header.first_seq and self[seq].digest != digest:
                raise ConsistencyError(f"reading {seq} in the journal is not the one that was signed: it was forked")

    def verify(self, signers: Sequence[bytes]) -> None:
        """Check every reading: its number, its link to the one before, its signature.

        Args:
            signers: The signer bytes of the device's keys; each reading must be signed by one of them.

        Raises:
            VerificationError: A reading does not hold; it is named.
        """
        seq, prev = self._records.header.first_seq, self._records.header.prev
        for reading in self:
            if reading.seq != seq or reading.prev != prev:
                raise VerificationError(f"reading {seq} does not follow the one before it")
            if not any(reading.is_signed_by(signer_bytes) for signer_bytes in signers):
                raise VerificationError(f"reading {seq} is not signed by the device")
            seq, prev = seq + 1, reading.digest

    def __len__(self) -> int:
        with self._locked():
            return self._known

    def __getitem__(self, seq: int) -> Reading:
        """Return the reading with this sequence number.

        Raises:
            InputError: There is none.
        """
        with self._locked():
            index = seq - self._records.header.first_seq
            if not 0 <= index < self._known:
                raise InputError(f"the journal has no reading {seq}: it ends at {self._head.seq}")
            return self._records.read(index)

    def __iter__(self) -> Iterator[Reading]:
        count, index = len(self), 0
        while index < count:
            with self._locked():
                batch = self._records.read_many(index, min(256, count - index))
            yield from batch
            index += len(batch)

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the journal alone, among threads and processes, with what is known of it up to date."""
        with self._thread_lock:
            descriptor = self._records.descriptor()
            if not self._depth:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._depth += 1
            try:
                if self._depth == 1:
                    self._refresh()
                yield
            finally:
                self._depth -= 1
                if not self._depth:
                    fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _refresh(self) -> None:
        """Take in what others appended, cut off what a crash tore, and compare with the head file."""
        whole, rest = self._records.count()
        if self._checked and whole == self._known and not rest:
            return
        first, promised = self._records.header.first_seq, self._head_file.read()
        durable = max(self._known, 0 if promised is None else promised.seq - first + 1)
        if durable > whole:
            raise ConsistencyError(
                f"the journal ends at {first + whole - 1}, but reading {first + durable - 1} was signed: "
                "it was rolled back",
                hint="restore the newest copy; a device that signs a number twice loses its claims",
            )
        good, head = self._scan(max(self._known, durable - 1), whole, durable, promised)
        if good < whole or rest:
            _LOG.warning("cut %d torn records off the journal %s", whole - good + bool(rest), self._records.path)
            self._records.truncate(good)
        self._checked, self._known, self._head = True, good, head
        if good:
            self._head_file.write(head)

    def _scan(self, start: int, whole: int, durable: int, promised: Head | None) -> tuple[int, Head]:
        """Read records from ``start`` on; return how many of the file's are good, and the head after them."""
        head = self._head if start == self._known else self._records.head_of(start - 1)
        for index in range(start, whole):
            reading = self._records.read_if_whole(index)
            if reading is None:
                if index < durable:
                    raise ConsistencyError(f"reading {head.seq + 1} in the journal is damaged")
                return index, head
            if reading.seq != head.seq + 1 or reading.prev != head.digest:
                raise ConsistencyError(f"reading {reading.seq} in the journal does not follow {head.seq}")
            head = Head(reading.seq, reading.digest)
            if promised is not None and promised.seq == head.seq and promised.digest != head.digest:
                raise ConsistencyError(
                    f"reading {head.seq} in the journal is not the one that was signed: it was forked"
                )
        return whole, head
