"""A follower of logs: it resumes where it was, takes back what a reorganisation removed, and counts nothing twice.

What was seen lies in SQLite: the entries, and the hashes of the blocks up to which it was read. Each poll finds the
newest of those blocks that is still on the chain, overlaps it by a few, reads on from there and compares. An entry is
one by its block hash, transaction and log index.

Example:
    >>> from pyiot_evm.chain import Devnet
    >>> with Devnet() as chain:
    ...     follower = LogFollower(chain, name="dollar", address=chain.addresses.dev_dollar)
    ...     before = follower.poll()
    ...     chain.fund(Address("0x" + "11" * 20), dollars=5)
    ...     [change.kind for change in follower.poll()], follower.poll()
    (['added'], [])
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from pyiot_evm.chain.calls import Log, to_hex
from pyiot_evm.exceptions import ConsistencyError, TransportError
from pyiot_evm.sqlite_file import open_sqlite, storage_errors, transaction
from pyiot_evm.types import Address, Bytes32, TransactionHash

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm.chain.connection import Chain, Topics

__all__ = ["Apply", "LogChange", "LogFollower"]

_SEGMENT: Final = 50_000
_CHECKPOINTS: Final = 256
_TRIES: Final = 5
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS followers (name TEXT PRIMARY KEY, filter TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS followed_blocks (name TEXT NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (name, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS followed_logs (name TEXT NOT NULL, block_number INTEGER NOT NULL, log_index INTEGER NOT NULL,
    block_hash BLOB NOT NULL, transaction_hash BLOB NOT NULL, transaction_index INTEGER NOT NULL, address BLOB NOT NULL,
    topics BLOB NOT NULL, data BLOB NOT NULL, PRIMARY KEY (name, block_number, log_index, block_hash)) WITHOUT ROWID;
"""


class _EventKind(Protocol):
    TOPIC: Bytes32


@dataclass(frozen=True, slots=True)
class LogChange:
    """One entry that came, or that a reorganisation took away again."""

    kind: Literal["added", "removed"]
    log: Log


Apply = Callable[[sqlite3.Connection, list[LogChange]], None]
"""What a follower's user does with changes inside the follower's own database transaction."""


class LogFollower:
    """Follows the logs of some contracts.

    Args:
        chain: Where.
        name: The follower's name; its position is kept under it.
        address: The contract, or several.
        events: Event classes to follow; everything when left out.
        topics: Instead of ``events``: a topic filter.
        store: The SQLite file; one in the network's folder when left out.
        start: The first block of interest.
        overlap: How many blocks are read again at each poll.
        depth: Only blocks that this many others follow.
        keep: For how many blocks back a removal can still be told.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        name: str,
        address: Address | Sequence[Address],
        events: Sequence[type[_EventKind]] = (),
        topics: Topics = (),
        store: Path | None = None,
        start: int = 0,
        overlap: int = 5,
        depth: int = 0,
        keep: int = 100_000,
    ) -> None:
        self.chain = chain
        self.name = name
        self._addresses = [address] if isinstance(address, Address) else list(address)
        self._topics: Topics = [[kind.TOPIC for kind in events]] if events else topics
        self._store = store
        self._start = start
        self._overlap = overlap
        self._depth = depth
        self._keep = keep
        self._lock = threading.Lock()

    def poll(self, apply: Apply | None = None) -> list[LogChange]:
        """Return what changed since the last poll: removals first, newest first, then additions in the chain's order.

        Args:
            apply: Called with the database connection and the changes, inside the transaction that moves the follower
                on: what it writes to that database happens exactly once, whatever crashes. Without it, changes count
                as seen as soon as they are returned.

        Raises:
            ConsistencyError: Under this name another filter was followed.
            TransportError: The node does not answer.
        """
        changes: list[LogChange] = []
        with self._lock, self._opened() as connection:
            while True:
                part, done = self._poll_segment(connection, apply)
                changes.extend(part)
                if done:
                    return changes

    def position(self) -> int | None:
        """Return the last block that was read, ``None`` before the first poll."""
        with self._lock, self._opened() as connection:
            row = connection.execute("SELECT max(number) FROM followed_blocks WHERE name = ?", (self.name,)).fetchone()
            return None if row[0] is None else int(row[0])

    def rescan(self) -> None:
        """Forget everything: the next poll tells all entries from the start again."""
        with self._lock, self._opened(check=False) as connection, connection:
            for table in ("followers", "followed_blocks", "followed_logs"):
                connection.execute(f"DELETE FROM {table} WHERE name = ?", (self.name,))  # noqa: S608 - our own names

    # --- below ---

    def _poll_segment(self, connection: sqlite3.Connection, apply: Apply | None) -> tuple[list[LogChange], bool]:
        """Read one range; the write lock is held meanwhile, so that of two processes one reads after the other."""
        for _ in range(_TRIES):
            with transaction(connection, self._path):
                result = self._read_segment(connection, apply)
            if result is not None:
                return result
        raise TransportError("the chain was reorganised again and again while its logs were read")

    def _read_segment(self, connection: sqlite3.Connection, apply: Apply | None) -> tuple[list[LogChange], bool] | None:
        head = self.chain.block_number() - self._depth
        common = self._common_block(connection, head)
        first = max(self._start, (self._start if common is None else common + 1) - self._overlap)
        last = min(head, first + _SEGMENT - 1 + self._overlap)
        if last < first:
            return [], True
        before = self._hash_of(last)
        logs = self.chain.logs(address=self._addresses, topics=self._topics, from_block=first, to_block=last)
        if before is None or before != self._hash_of(last):
            return None
        changes = self._compare(connection, logs, first)
        self._store_changes(connection, changes, last, before)
        if apply is not None and changes:
            apply(connection, changes)
        return changes, last >= head

    def _common_block(self, connection: sqlite3.Connection, head: int) -> int | None:
        """Return the newest block that was read and is still on the chain."""
        rows = connection.execute(
            "SELECT number, hash FROM followed_blocks WHERE name = ? AND number <= ? ORDER BY number DESC",
            (self.name, head),
        ).fetchall()
        for number, digest in rows:
            if self._hash_of(number) == digest:
                return int(number)
        return None

    def _hash_of(self, number: int) -> bytes | None:
        block = self.chain.rpc("eth_getBlockByNumber", to_hex(number), False)  # noqa: FBT003 - JSON-RPC has no names
        return bytes.fromhex(block["hash"][2:]) if block else None

    def _compare(self, connection: sqlite3.Connection, logs: Sequence[Log], first: int) -> list[LogChange]:
        rows = connection.execute(
            "SELECT * FROM followed_logs WHERE name = ? AND block_number >= ? "
            "ORDER BY block_number DESC, log_index DESC",
            (self.name, first),
        ).fetchall()
        known = {(log := _log_of(row)).key: log for row in rows}
        seen = {log.key for log in logs}
        removed = [LogChange("removed", log) for key, log in known.items() if key not in seen]
        return removed + [LogChange("added", log) for log in logs if log.key not in known]

    def _store_changes(
        self, connection: sqlite3.Connection, changes: list[LogChange], last: int, digest: bytes
    ) -> None:
        for change in changes:
            row = _row_of(self.name, change.log)
            if change.kind == "added":
                connection.execute("INSERT INTO followed_logs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            else:
                connection.execute(
                    "DELETE FROM followed_logs "
                    "WHERE name = ? AND block_number = ? AND log_index = ? AND block_hash = ?",
                    row[:4],
                )
        connection.execute("DELETE FROM followed_blocks WHERE name = ? AND number >= ?", (self.name, last))
        connection.execute("INSERT INTO followed_blocks VALUES (?, ?, ?)", (self.name, last, digest))
        connection.execute(
            "DELETE FROM followed_blocks WHERE name = ? AND number NOT IN "
            "(SELECT number FROM followed_blocks WHERE name = ? ORDER BY number DESC LIMIT ?)",
            (self.name, self.name, _CHECKPOINTS),
        )
        connection.execute(
            "DELETE FROM followed_logs WHERE name = ? AND block_number < ?", (self.name, last - self._keep)
        )

    @property
    def _path(self) -> Path:
        return self._store or self.chain.path / "logs.sqlite"

    @contextmanager
    def _opened(self, *, check: bool = True) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with storage_errors(self._path), closing(open_sqlite(self._path)) as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            wanted = self._filter()
            connection.execute("INSERT OR IGNORE INTO followers VALUES (?, ?)", (self.name, wanted))
            row = connection.execute("SELECT filter FROM followers WHERE name = ?", (self.name,)).fetchone()
            if check and row[0] != wanted:
                raise ConsistencyError(
                    f"the follower {self.name!r} followed something else before",
                    hint="call rescan(), or use another name",
                )
            yield connection

    def _filter(self) -> str:
        def plain(topic: Any) -> Any:
            if topic is None or isinstance(topic, bytes):
                return None if topic is None else topic.hex()
            return sorted(item.hex() for item in topic)

        parts = [self.chain.genesis.hex(), sorted(item.hex() for item in self._addresses), [*map(plain, self._topics)]]
        return json.dumps(parts)


def _row_of(name: str, log: Log) -> tuple[Any, ...]:
    return (
        name, log.block_number, log.log_index, bytes(log.block_hash), bytes(log.transaction_hash),
        log.transaction_index, bytes(log.address), b"".join(log.topics), log.data,
    )  # fmt: skip


def _log_of(row: tuple[Any, ...]) -> Log:
    _, number, index, block_hash, transaction, position, address, topics, data = row
    return Log(
        address=Address(address),
        topics=tuple(Bytes32(topics[start : start + 32]) for start in range(0, len(topics), 32)),
        data=data,
        block_number=number,
        block_hash=Bytes32(block_hash),
        transaction_hash=TransactionHash(transaction),
        transaction_index=position,
        log_index=index,
    )
