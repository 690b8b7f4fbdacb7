"""The file that threads and processes of one home share."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pyiot_evm.chain.transaction_journal import TransactionJournal
from pyiot_evm.exceptions import StorageError
from pyiot_evm.market.catalog import CatalogStore
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.sqlite_file import SqliteFile, open_sqlite
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def test_open_sqlite__when_another_writes_to_the_new_file__waits_for_it(tmp_path: Path) -> None:
    """SQLite itself refuses the switch to write-ahead mode at once, whatever its timeout."""
    path = tmp_path / "new.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE first (number INTEGER)")
        release = threading.Timer(0.2, other.execute, ["COMMIT"])
        release.start()
        with closing(open_sqlite(path)) as opened:
            assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert opened.execute("SELECT count(*) FROM first").fetchone() == (0,)
        release.join()


def test_open_sqlite__when_the_file_is_no_database__says_so_and_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match="not a database") as caught:
        open_sqlite(path)
    assert not caught.value.retryable
    assert path.read_bytes() == b"no database at all" * 100


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[SqliteFile]:
    with SqliteFile(tmp_path / "notes.sqlite") as file:
        with file.write() as database:
            database.execute("CREATE TABLE notes (number INTEGER PRIMARY KEY, text TEXT)")
        yield file


def write(notes: SqliteFile, *texts: str) -> None:
    with notes.write() as database:
        for text in texts:
            database.execute("INSERT INTO notes (text) VALUES (?)", (text,))


def count(notes: SqliteFile) -> int:
    return int(notes.read("SELECT count(*) FROM notes")[0][0])


def test_write__when_the_disk_is_full__says_so_and_keeps_nothing(notes: SqliteFile) -> None:
    """SQLite had gone back by itself, and what was raised said only that there was nothing to go back from."""
    room = notes._database.execute("PRAGMA page_count").fetchone()[0] + 1
    notes._database.execute(f"PRAGMA max_page_count = {room}")
    with pytest.raises(StorageError, match=r"notes\.sqlite failed: database or disk is full") as caught:
        write(notes, "first", "long" * 100_000)
    assert (caught.value.code, caught.value.retryable, count(notes)) == ("storage", True, 0)
    notes._database.execute(f"PRAGMA max_page_count = {room + 1000}")
    write(notes, "first")
    assert count(notes) == 1


def test_write__when_the_commit_fails__the_next_block_is_a_transaction_of_its_own(notes: SqliteFile) -> None:
    """It stayed open: each later block then counted as a part of it, and none was ever committed."""
    notes._database.execute("PRAGMA foreign_keys = ON")
    with notes.write() as database:
        database.execute("CREATE TABLE marks (number INTEGER REFERENCES notes DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(StorageError, match="FOREIGN KEY constraint failed"), notes.write() as database:
        database.execute("INSERT INTO marks VALUES (7)")
    write(notes, "first")
    with closing(sqlite3.connect(notes.path)) as other:
        assert other.execute("SELECT count(*) FROM notes").fetchone() == (1,)


def test_write__when_the_file_is_closed__says_so(notes: SqliteFile) -> None:
    notes.close()
    for use in (lambda: notes.read("SELECT 1"), lambda: notes.write().__enter__()):
        with pytest.raises(StorageError, match="closed database"):
            use()


def test_journal__when_another_process_holds_it__can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyiot_evm.sqlite_file._PATIENCE", 0)
    path = tmp_path / "transactions.sqlite"
    read_journal(path)
    with closing(TransactionJournal(path)) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="database is locked") as caught:
            journal.take_duty(Address(bytes(20)), "look", every=1)
        assert caught.value.retryable
        other.execute("ROLLBACK")
        assert journal.take_duty(Address(bytes(20)), "look", every=1)


def read_journal(path: Path) -> None:
    with closing(TransactionJournal(path)) as journal:  # opens its file when it is first used
        assert journal.live(Address(bytes(20))) == []


@pytest.mark.parametrize(
    "use",
    [
        lambda path: SqliteFile(path).close(),
        lambda path: CatalogStore(path).close(),
        lambda path: PaymentStore(path).close(),
        read_journal,
    ],
    ids=["file", "catalog", "payments", "transactions"],
)
def test_file__when_many_threads_open_it_new__opens_for_all(use: Callable[[Path], None], tmp_path: Path) -> None:
    openers = 16
    for number in range(50):
        ready = threading.Barrier(openers)
        path = tmp_path / f"{number}.sqlite"

        def open_and_use(_: int, ready: threading.Barrier = ready, path: Path = path) -> bool:
            ready.wait()
            use(path)
            return path.exists()

        with ThreadPoolExecutor(openers) as pool:
            assert all(pool.map(open_and_use, range(openers)))
