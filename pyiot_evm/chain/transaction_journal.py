"""What every key of this machine has signed on one network, in SQLite, before it is sent.

Threads and processes share the file. A nonce is given out inside ``BEGIN IMMEDIATE``, so that no two of them get the
same one; a transaction is in here before any node sees it, so that a crash at any line loses nothing.

A row is *reserved* (it has a nonce), *signed* (at least one attempt is stored), then *mined* or *cancelled*. Its
attempts all carry the row's nonce, so at most one of them can ever be mined.

Example:
    >>> import tempfile, pathlib
    >>> from pyiot_evm.chain.transaction_records import Intent
    >>> journal = TransactionJournal(pathlib.Path(tempfile.mkdtemp()) / "transactions.sqlite")
    >>> account = Address("0x" + "11" * 20)
    >>> entry = journal.reserve(account, [Intent(account, b"", 0, 21000, "pay", None)], FeeOffer(2, 1), first=0)[0]
    >>> entry.nonce, entry.state
    (0, 'reserved')
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.chain.fees import FeeOffer
from pyiot_evm.chain.transaction_records import Attempt, Entry, Intent, Outcome, State
from pyiot_evm.exceptions import ConsistencyError, StorageError
from pyiot_evm.sqlite_file import open_sqlite, storage_errors, transaction
from pyiot_evm.types import Address, Bytes32, TransactionHash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["TransactionJournal"]

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS transactions (
    id INTEGER PRIMARY KEY, address BLOB NOT NULL, nonce INTEGER NOT NULL, key TEXT, target BLOB NOT NULL,
    data BLOB NOT NULL, value TEXT NOT NULL, gas INTEGER NOT NULL, function TEXT NOT NULL, max_fee INTEGER NOT NULL,
    tip INTEGER NOT NULL, state TEXT NOT NULL, updated REAL NOT NULL, hash BLOB, status INTEGER, block_number INTEGER,
    block_hash BLOB, error BLOB, UNIQUE (address, nonce), UNIQUE (address, key));
CREATE INDEX IF NOT EXISTS transactions_by_state ON transactions (address, state, nonce);
CREATE TABLE IF NOT EXISTS attempts (
    transaction_id INTEGER NOT NULL REFERENCES transactions (id) ON DELETE CASCADE, number INTEGER NOT NULL,
    hash BLOB NOT NULL, raw BLOB NOT NULL, max_fee INTEGER NOT NULL, tip INTEGER NOT NULL, cancels INTEGER NOT NULL,
    created REAL NOT NULL, PRIMARY KEY (transaction_id, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS duties (address BLOB NOT NULL, duty TEXT NOT NULL, done REAL NOT NULL,
    PRIMARY KEY (address, duty)) WITHOUT ROWID;
"""
_COLUMNS: Final = (
    "id, address, nonce, key, target, data, value, gas, function, max_fee, tip, state, updated, hash, status, "
    "block_number, block_hash, error"
)


class TransactionJournal:
    """The journal of one network.

    Args:
        path: The SQLite file; it and its folder are made when they are missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    def close(self) -> None:
        """Close the file; the journal opens it again when it is used again."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    # --- reading ---

    def get(self, ids: Iterable[int]) -> list[Entry]:
        """Return rows by id; a row that was forgotten is left out."""
        return self._by_chunks("id", list(ids))

    def find(self, address: Address, keys: Iterable[str]) -> dict[str, Entry]:
        """Return an account's rows by idempotency key."""
        rows = self._by_chunks("key", list(keys), "address = ? AND", (bytes(address),))
        return {row.key: row for row in rows if row.key is not None}

    def live(self, address: Address, *, first: int = 0) -> list[Entry]:
        """Return an account's rows that wait to be mined, by nonce."""
        return self._entries(
            "address = ? AND state IN ('reserved', 'signed') AND nonce >= ? ORDER BY nonce", (bytes(address), first)
        )

    def commitments(self, address: Address, *, first: int = 0) -> tuple[int, int]:
        """Return how many of an account's rows wait to be mined, and the most that they can cost, in wei."""
        rows = self._read(
            "SELECT gas, max_fee, value FROM transactions "
            "WHERE address = ? AND state IN ('reserved', 'signed') AND nonce >= ?",
            (bytes(address), first),
        )
        return len(rows), sum(gas * max_fee + int(value) for gas, max_fee, value in rows)

    def mined_from(self, address: Address, first: int) -> list[Entry]:
        """Return an account's finished rows with a nonce of ``first`` or higher."""
        return self._entries(
            "address = ? AND state IN ('mined', 'cancelled') AND nonce >= ? ORDER BY nonce", (bytes(address), first)
        )

    def attempts(self, ids: Iterable[int]) -> dict[int, list[Attempt]]:
        """Return the attempts of rows, oldest first."""
        found: dict[int, list[Attempt]] = {number: [] for number in ids}
        for part in _chunks(list(found)):
            marks = ",".join("?" * len(part))
            rows = self._read(
                f"SELECT transaction_id, hash, raw, max_fee, tip, cancels, created FROM attempts "  # noqa: S608
                f"WHERE transaction_id IN ({marks}) ORDER BY transaction_id, number",
                part,
            )
            for number, digest, raw, max_fee, tip, cancels, created in rows:
                offer = FeeOffer(max_fee, tip)
                found[number].append(Attempt(number, TransactionHash(digest), raw, offer, bool(cancels), created))
        return found

    # --- writing ---

    def reserve(self, address: Address, intents: Sequence[Intent], offer: FeeOffer, *, first: int) -> list[Entry]:
        """Give each intent a nonce, or return the row that its key has already.

        Args:
            address: The account.
            intents: What to send.
            offer: The fees of the first attempt.
            first: The lowest nonce that the chain leaves free.
        """
        with self._write() as connection:
            known = self.find(address, [intent.key for intent in intents if intent.key is not None])
            nonces = self._free_nonces(connection, address, first)
            ids = []
            for intent in intents:
                if intent.key is not None and intent.key in known:
                    ids.append(known[intent.key].id)
                    continue
                ids.append(self._insert(connection, address, next(nonces), intent, offer))
            by_id = {entry.id: entry for entry in self.get(ids)}
        return [by_id[number] for number in ids]

    def fill(self, address: Address, nonce: int, intent: Intent, offer: FeeOffer) -> Entry | None:
        """Take one certain nonce, to close a gap; ``None`` when somebody has it already."""
        with self._write() as connection:
            taken = connection.execute(
                "SELECT 1 FROM transactions WHERE address = ? AND nonce = ?", (bytes(address), nonce)
            ).fetchone()
            if taken:
                return None
            number = self._insert(connection, address, nonce, intent, offer)
            return self.get([number])[0]

    def add_attempts(self, attempts: Sequence[tuple[Attempt, int]]) -> list[Attempt]:
        """Store signed attempts, each with how many its row had when it was made; return those that were stored.

        One that came too late (another thread or process was faster) is left out, and must not be sent.
        """
        stored = []
        with self._write(durable=True) as connection:
            for attempt, number in attempts:
                changed = connection.execute(
                    "INSERT INTO attempts SELECT ?, ?, ?, ?, ?, ?, ?, ? FROM transactions "
                    "WHERE id = ? AND state IN ('reserved', 'signed') "
                    "AND (SELECT count(*) FROM attempts WHERE transaction_id = ?) = ?",
                    (
                        attempt.entry_id, number, bytes(attempt.hash), attempt.raw, attempt.offer.max_fee,
                        attempt.offer.tip, attempt.cancels, attempt.created, attempt.entry_id, attempt.entry_id, number,
                    ),
                )  # fmt: skip
                if changed.rowcount == 1:
                    stored.append(attempt)
            connection.executemany(
                "UPDATE transactions SET state = 'signed', updated = ?, max_fee = ?, tip = ? WHERE id = ?",
                [(time.time(), item.offer.max_fee, item.offer.tip, item.entry_id) for item in stored],
            )
        return stored

    def finish(self, outcomes: Iterable[tuple[int, Outcome, State]]) -> None:
        """Write down how rows ended."""
        rows = [
            (
                state,
                time.time(),
                bytes(end.hash),
                end.status,
                end.block_number,
                bytes(end.block_hash),
                end.error,
                number,
            )
            for number, end, state in outcomes
        ]
        with self._write() as connection:
            connection.executemany(
                "UPDATE transactions SET state = ?, updated = ?, hash = ?, status = ?, block_number = ?, "
                "block_hash = ?, error = ? WHERE id = ? AND state IN ('reserved', 'signed')",
                rows,
            )

    def release(self, ids: Iterable[int]) -> None:
        """Forget rows that were never signed; their nonces are free again."""
        with self._write() as connection:
            connection.executemany(
                "DELETE FROM transactions WHERE id = ? AND state = 'reserved' "
                "AND NOT EXISTS (SELECT 1 FROM attempts WHERE transaction_id = transactions.id)",
                [(number,) for number in ids],
            )

    def reassign(self, entry: Entry, *, first: int) -> None:
        """Give a row a new nonce, once its old one has been used up for good by something else."""
        with self._write() as connection:
            nonce = next(self._free_nonces(connection, entry.address, first))
            changed = connection.execute(
                "UPDATE transactions SET nonce = ?, state = 'reserved', updated = ? "
                "WHERE id = ? AND nonce = ? AND state IN ('reserved', 'signed')",
                (nonce, time.time(), entry.id, entry.nonce),
            )
            if changed.rowcount == 1:
                connection.execute("DELETE FROM attempts WHERE transaction_id = ?", (entry.id,))

    def forget(self, ids: Iterable[int]) -> None:
        """Forget rows whatever their state: a devnet went back to before they were sent."""
        with self._write() as connection:
            connection.executemany("DELETE FROM transactions WHERE id = ?", [(number,) for number in ids])

    def forget_undone(self, count_of: Callable[[Address], int]) -> None:
        """Forget every row that a devnet's return to a snapshot undid, live ones too.

        Args:
            count_of: Gives an account's transaction count on the chain.
        """
        addresses = [Address(row[0]) for row in self._read("SELECT DISTINCT address FROM transactions", ())]
        for address in addresses:
            count = count_of(address)
            self.forget(entry.id for entry in (*self.mined_from(address, count), *self.live(address, first=count)))

    def take_duty(self, address: Address, duty: str, *, every: float) -> bool:
        """Whether the caller shall do a repeated duty now; among threads and processes only one is told so."""
        now = time.time()
        with self._write() as connection:
            row = connection.execute(
                "SELECT done FROM duties WHERE address = ? AND duty = ?", (bytes(address), duty)
            ).fetchone()
            if row is not None and row[0] <= now < row[0] + every:
                return False
            connection.execute("INSERT OR REPLACE INTO duties VALUES (?, ?, ?)", (bytes(address), duty, now))
            return True

    # --- below ---

    def _free_nonces(self, connection: sqlite3.Connection, address: Address, first: int) -> Iterator[int]:
        last_mined = connection.execute(
            "SELECT max(nonce) FROM transactions WHERE address = ? AND state IN ('mined', 'cancelled')",
            (bytes(address),),
        ).fetchone()[0]
        nonce = first if last_mined is None else max(first, last_mined + 1)
        taken = {
            row[0]
            for row in connection.execute(
                "SELECT nonce FROM transactions WHERE address = ? AND nonce >= ?", (bytes(address), nonce)
            )
        }
        while True:
            if nonce not in taken:
                yield nonce
            nonce += 1

    def _insert(
        self, connection: sqlite3.Connection, address: Address, nonce: int, intent: Intent, offer: FeeOffer
    ) -> int:
        cursor = connection.execute(
            "INSERT INTO transactions (address, nonce, key, target, data, value, gas, function, max_fee, tip, state, "
            "updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'reserved', ?)",
            (
                bytes(address), nonce, intent.key, bytes(intent.to), intent.data, str(intent.value), intent.gas,
                intent.function, offer.max_fee, offer.tip, time.time(),
            ),
        )  # fmt: skip
        return int(cursor.lastrowid or 0)

    def _by_chunks(
        self, column: str, values: list[Any], where: str = "", parameters: tuple[Any, ...] = ()
    ) -> list[Entry]:
        found = []
        for part in _chunks(values):
            marks = ",".join("?" * len(part))
            found.extend(self._entries(f"{where} {column} IN ({marks})", (*parameters, *part)))
        return found

    def _entries(self, where: str, parameters: Sequence[Any]) -> list[Entry]:
        rows = self._read(f"SELECT {_COLUMNS} FROM transactions WHERE {where}", parameters)  # noqa: S608 - our own text
        return [_entry(row) for row in rows]

    def _read(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        with self._lock, storage_errors(self.path):
            return self._open().execute(statement, tuple(parameters)).fetchall()

    @contextmanager
    def _write(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Write in one transaction; ``durable`` waits for the disk, so that not even a power failure undoes it.

        Only signed attempts need that: a lost reservation was never signed, and how a row ended is on the chain.
        """
        with self._lock, storage_errors(self.path):
            connection = self._open()
            connection.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
            with transaction(connection, self.path):
                yield connection

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():  # a forked child opens the file anew
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._connection = _open_database(self.path)
            except StorageError as error:
                if error.retryable:
                    raise
                raise ConsistencyError(
                    f"the transaction journal cannot be read: {error}",
                    hint="move the file away; what it had in flight is then looked up on the chain",
                ) from error
            self._pid = os.getpid()
        return self._connection


def _open_database(path: Path) -> sqlite3.Connection:
    connection = open_sqlite(path)
    try:
        with storage_errors(path):
            connection.execute("PRAGMA foreign_keys = ON")
            is_new = connection.execute("PRAGMA user_version").fetchone()[0] == 0
        if is_new:
            with transaction(connection, path):
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _entry(row: tuple[Any, ...]) -> Entry:
    (number, address, nonce, key, target, data, value, gas, function, max_fee, tip, state, updated) = row[:13]
    digest, status, block_number, block_hash, error = row[13:]
    trusted = bytes.__new__  # lengths were checked when they went in; a journal is read much more than written
    return Entry(
        id=number, address=trusted(Address, address), nonce=nonce, key=key, to=trusted(Address, target), data=data,
        value=int(value), gas=gas, function=function, offer=FeeOffer(max_fee, tip), state=state, updated=updated,
        hash=None if digest is None else trusted(TransactionHash, digest), status=status, block_number=block_number,
        block_hash=None if block_hash is None else trusted(Bytes32, block_hash), error=error,
    )  # fmt: skip


def _chunks(values: list[Any], size: int = 500) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
