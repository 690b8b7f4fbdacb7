"""A table becomes readings once, in the device's one sequence, whatever was interrupted."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from pyiot_evm.device import LocalSigner, ReadingJournal
from pyiot_evm.exceptions import InputError
from pyiot_evm.market.datasets import Table, read_csv
from pyiot_evm.market.recording import record_table
from pyiot_evm.market.verification import check_chain
from pyiot_evm.types import Bytes32

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm.device import Reading

SIGNER = LocalSigner.create("p256")
FIRST, SECOND, THIRD = (Bytes32(bytes([number]) * 32) for number in range(3))


def a_table(rows: int, column: str = "value") -> Table:
    lines = "".join(f"2015-09-01 13:{minute:02d}:00,{minute}.5\n" for minute in range(rows))
    return read_csv(f"time,{column}\n{lines}".encode())


def record(folder: Path, table: Table, content: Bytes32, signer: LocalSigner = SIGNER) -> list[Reading]:
    return record_table(folder, table, device=SIGNER.device, signer=signer, content=content)


def test_record_table__when_two_are_sold__continues_one_sequence(tmp_path: Path) -> None:
    first = record(tmp_path, a_table(3), FIRST)
    second = record(tmp_path, a_table(2, "other"), SECOND)

    assert [reading.seq for reading in (*first, *second)] == [0, 1, 2, 3, 4]
    assert check_chain([*first, *second], bytes(32)) is None
    assert first[0].schema != second[0].schema
    assert all(reading.is_signed_by(SIGNER.signer_bytes) for reading in second)


def test_record_table__when_it_is_sold_again__signs_nothing_twice(tmp_path: Path) -> None:
    first = record(tmp_path, a_table(3), FIRST)
    record(tmp_path, a_table(2), SECOND)

    assert record(tmp_path, a_table(3), FIRST) == first


def test_record_table__when_a_crash_left_it_unfinished__finishes_it(tmp_path: Path) -> None:
    table = a_table(5)
    path = tmp_path / f"{0:020d}-{FIRST.hex()}.readings"
    with ReadingJournal.open(path, device=SIGNER.device, schema=table.schema, curve="p256") as journal:
        begun = journal.sign_many(SIGNER, list(zip(table.times, table.rows, strict=True))[:2])

    readings = record(tmp_path, table, FIRST)

    assert readings[:2] == begun
    assert [(reading.seq, reading.values) for reading in readings] == list(enumerate(table.rows))


def test_record_table__when_something_came_after_the_unfinished_one__begins_anew(tmp_path: Path) -> None:
    """Rows must have neighbouring numbers: a begun table that another one follows can never be finished."""
    table = a_table(5)
    path = tmp_path / f"{0:020d}-{FIRST.hex()}.readings"
    with ReadingJournal.open(path, device=SIGNER.device, schema=table.schema, curve="p256") as journal:
        journal.sign_many(SIGNER, list(zip(table.times, table.rows, strict=True))[:2])
    record(tmp_path, a_table(1), SECOND)

    assert [reading.seq for reading in record(tmp_path, table, FIRST)] == [3, 4, 5, 6, 7]


def test_record_table__when_a_file_was_begun_and_never_signed_in__gives_its_number_to_the_next(tmp_path: Path) -> None:
    record(tmp_path, a_table(2), FIRST)
    with ReadingJournal.open(next(tmp_path.glob("*.readings"))) as last:
        last.continued(tmp_path / f"{2:020d}-{SECOND.hex()}.readings", schema=a_table(1, "other").schema).close()

    readings = record(tmp_path, a_table(2), THIRD)

    assert [reading.seq for reading in readings] == [2, 3]
    assert check_chain([*record(tmp_path, a_table(2), FIRST), *readings], bytes(32)) is None


def test_record_table__when_the_key_was_rotated_to_another_curve__goes_on_in_a_new_file(tmp_path: Path) -> None:
    record(tmp_path, a_table(2), FIRST)
    fresh = LocalSigner.create("secp256k1")

    readings = record(tmp_path, a_table(2), SECOND, fresh)

    assert [reading.seq for reading in readings] == [2, 3]
    assert all(reading.is_signed_by(fresh.signer_bytes) for reading in readings)


def test_record_table__when_two_threads_sell_at_once__no_number_is_used_twice(tmp_path: Path) -> None:
    found: list[Reading] = []

    def sell(number: int) -> None:
        found.extend(record(tmp_path, a_table(4), Bytes32(bytes([number]) * 32)))

    threads = [threading.Thread(target=sell, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(reading.seq for reading in found) == list(range(24))
    assert check_chain(sorted(found, key=lambda reading: reading.seq), bytes(32)) is None


def test_record_table__when_there_are_no_rows__is_refused(tmp_path: Path) -> None:
    table = a_table(1)

    with pytest.raises(InputError, match="no rows"):
        record(tmp_path, Table(table.schema, [], [], table.style), FIRST)
