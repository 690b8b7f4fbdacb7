"""A SQLite file that the threads and processes of one home share: written as transactions, readable by its owner alone.

Write-ahead mode. A block that writes is one transaction: all of it is kept, or nothing.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, SqliteFile(f"{folder}/notes.sqlite") as notes:
    ...     with notes.write() as database:
    ...         _ = database.execute("CREATE TABLE notes (text TEXT) STRICT")
    ...         _ = database.execute("INSERT INTO notes VALUES ('kept')")
    ...     [row["text"] for row in notes.read("SELECT text FROM notes")]
    ['kept']
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pyiot_evm.exceptions import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["SqliteFile", "open_sqlite", "storage_errors", "transaction"]

_PATIENCE = 60  # seconds that a process waits for another one's transaction
_PAUSE = 0.005  # seconds between two tries to switch a new file to write-ahead mode


def open_sqlite(path: Path) -> sqlite3.Connection:
    """Open a file that threads and processes share, in write-ahead mode, readable by its owner alone.

    Args:
        path: Where it lies; made when it is missing. Its folder is there already.

    Returns:
        A connection without implicit transactions, which any thread may use, one at a time.

    Raises:
        StorageError: The file is no database, or another process held it for a minute.
    """
    with storage_errors(path):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_PATIENCE)
        try:
            path.chmod(0o600)  # before the files beside it are made, which take its mode
            _write_ahead(connection)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raise what SQLite raises as a :class:`StorageError`.

    It is retryable where SQLite names the surroundings: a full or failing disk, a lock.
    """
    try:
        yield
    except sqlite3.Error as error:
        may_pass = isinstance(error, sqlite3.OperationalError)
        raise StorageError(f"the database {path} failed: {error}", retryable=may_pass) from error


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """Run a block as one transaction: all of it is kept, or nothing.

    Args:
        connection: To a file of :func:`open_sqlite`.
        path: The file, for the error's text.

    Yields:
        The connection.

    Raises:
        StorageError: SQLite refused; nothing was written.
    """
    with storage_errors(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite goes back by itself where the disk is full
                connection.execute("ROLLBACK")
            raise


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead mode.

    When several switch a new file at once, SQLite refuses all but one and does not wait, whatever its timeout: each
    would have to let go of its read lock first (https://sqlite.org/c3ref/busy_handler.html).
    """
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(_PAUSE)
        else:
            return


class SqliteFile:
    """The file.

    Args:
        path: Where it lies; made, with its folder, when it is missing.
    """

    SYNCHRONOUS: ClassVar[str] = "FULL"
    """``FULL``: what was written survives a power loss; ``NORMAL`` is for what can always be made again."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.RLock()
        self._database = open_sqlite(self.path)
        self._database.row_factory = sqlite3.Row
        with storage_errors(self.path):
            self._database.execute(f"PRAGMA synchronous = {self.SYNCHRONOUS}")

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction: all of it is kept, or nothing. A block inside a block belongs to it.

        Raises:
            StorageError: The disk is full, another process holds the file, or it is broken; nothing was written.
        """
        with self._lock, storage_errors(self.path):
            if self._database.in_transaction:
                yield self._database
            else:
                with transaction(self._database, self.path):
                    yield self._database

    def read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Return the rows of a query.

        Raises:
            StorageError: Another process holds the file, or it is broken.
        """
        with self._lock, storage_errors(self.path):
            return self._database.execute(query, values).fetchall()

    def _migrate(self, statements: str) -> None:
        """Run statements that change nothing where they ran before."""
        with storage_errors(self.path):
            self._database.executescript(statements)
