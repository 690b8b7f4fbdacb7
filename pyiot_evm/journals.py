"""Journals of what must not be forgotten: SQLite files, written before anything is signed or sent.

One file a domain and network, in write-ahead mode with full syncs, shared by every thread and process of the home. Each
method of a journal is one transaction. What is secret is encrypted before it gets here.

Example:
    >>> import tempfile
    >>> class Notes(SqliteJournal):
    ...     SCHEMA = "CREATE TABLE IF NOT EXISTS notes (text TEXT) STRICT;"
    >>> with tempfile.TemporaryDirectory() as folder, Notes(f"{folder}/notes.sqlite") as notes:
    ...     notes.cursor("orders"), notes.set_cursor("orders", 7), notes.cursor("orders")
    (None, None, 7)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pyiot_evm.exceptions import ConsistencyError
from pyiot_evm.sending import TransactionRecord
from pyiot_evm.sqlite_file import SqliteFile

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["SqliteJournal", "insert", "update"]

_TABLES = """
CREATE TABLE IF NOT EXISTS transactions (
  subject TEXT NOT NULL, purpose TEXT NOT NULL, hash TEXT NOT NULL, gas INTEGER NOT NULL, PRIMARY KEY (subject, hash)
) STRICT;
CREATE TABLE IF NOT EXISTS failures (
  subject TEXT NOT NULL, purpose TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (subject, purpose, number)
) STRICT;
CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, block INTEGER NOT NULL) STRICT;
"""


class SqliteJournal(SqliteFile):
    """A journal of one network.

    Args:
        path: The SQLite file; made, with its folder, when it is missing.
    """

    SCHEMA: ClassVar[str]
    """What the tables are, beside those that every journal has."""
    VERSION: ClassVar[int] = 1

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        version = self.read("PRAGMA user_version")[0][0]
        if version not in (0, self.VERSION):
            raise ConsistencyError(
                f"{self.path} is of version {version}, this package reads {self.VERSION}", hint="use a newer package"
            )
        self._migrate(f"{_TABLES}{self.SCHEMA} PRAGMA user_version = {self.VERSION};")

    # Transactions, failures, cursors

    def add_transaction(self, subject: str, transaction: TransactionRecord) -> None:
        """Keep a mined transaction with the sale or order that it was for."""
        with self.write() as database:
            values = (subject, transaction.purpose, transaction.hash, transaction.gas)
            database.execute("INSERT OR IGNORE INTO transactions VALUES (?, ?, ?, ?)", values)

    def transactions(self, subject: str) -> tuple[TransactionRecord, ...]:
        """Return the transactions of a sale or an order, in the order in which they were mined."""
        found = self.read("SELECT purpose, hash, gas FROM transactions WHERE subject = ? ORDER BY rowid", subject)
        return tuple(TransactionRecord(*row) for row in found)

    def failures(self, subject: str, purpose: str) -> int:
        """Return how many transactions of a kind failed for a subject: the number of the next try."""
        query = "SELECT COUNT(*) AS count FROM failures WHERE subject = ? AND purpose = ?"
        return int(self.read(query, subject, purpose)[0]["count"])

    def add_failure(self, subject: str, purpose: str, number: int) -> None:
        """Note that the transaction of this try did not do what it was for; noting it twice counts once."""
        with self.write() as database:
            database.execute("INSERT OR IGNORE INTO failures VALUES (?, ?, ?)", (subject, purpose, number))

    def cursor(self, name: str) -> int | None:
        """Return the last block that a scan has read."""
        found = self.read("SELECT block FROM cursors WHERE name = ?", name)
        return int(found[0]["block"]) if found else None

    def set_cursor(self, name: str, block: int | None) -> None:
        """Keep the last block that a scan has read; ``None`` makes the next scan start from the beginning."""
        with self.write() as database:
            database.execute("DELETE FROM cursors WHERE name = ?", (name,))
            if block is not None:
                database.execute("INSERT INTO cursors VALUES (?, ?)", (name, block))


def insert(
    database: sqlite3.Connection, table: str, columns: dict[str, Any], *, verb: str = "INSERT"
) -> sqlite3.Cursor:
    """Insert a row; ``verb`` may say what to do when it is there."""
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    return database.execute(f"{verb} INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))


def update(
    database: sqlite3.Connection, table: str, columns: dict[str, Any], where: str, values: tuple[Any, ...]
) -> sqlite3.Cursor:
    """Change the rows that a condition (with its values) names."""
    changes = ", ".join(f"{name} = ?" for name in columns)
    return database.execute(f"UPDATE {table} SET {changes} WHERE {where}", (*columns.values(), *values))  # noqa: S608
