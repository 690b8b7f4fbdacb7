"""The file that threads and processes of one home share."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pyiot_evm.chain.transaction_journal import TransactionJournal
from pyiot_evm.market.catalog import CatalogStore
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.sqlite_file import SqliteFile, open_sqlite
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable
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
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        open_sqlite(path)
    assert path.read_bytes() == b"no database at all" * 100


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
