"""A gateway's readings found by time."""

import time as clock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.device import Field, ReadingJournal, Schema
from pyiot_evm.device.signers import LocalSigner, device_id
from pyiot_evm.gateway.readings import ReadingSource, RowRange
from pyiot_evm.gateway.time_index import TimeIndex

SCHEMA = Schema((Field("temperature", unit="Cel", scale=2),))
KEY = LocalSigner.create()
times = st.integers(0, 30)
bounds = st.one_of(st.none(), times)


def walked(rows, start, end):
    """What a walk over every reading finds."""
    found = [
        place for place, time in enumerate(rows) if (start is None or time >= start) and (end is None or time < end)
    ]
    return (found[0], found[-1]) if found else None


def indexed(rows):
    index = TimeIndex()
    for time in rows:
        index.add(time)
    return index


@given(rows=st.lists(times, max_size=20), asked=st.lists(st.tuples(bounds, bounds), min_size=10, max_size=10))
def test_between__when_the_clock_jumps_about__finds_what_a_walk_finds(rows, asked):
    index = indexed(rows)
    assert len(index) == len(rows)
    assert [index.between(*pair) for pair in asked] == [walked(rows, *pair) for pair in asked]


def test_between__when_strangers_ask_of_many_readings_again_and_again__walks_over_none():
    """Each unpaid request went over every reading, one request at a time: ten seconds for these."""
    rows = [*range(200_000), 10**9, *range(200_000, 400_000)]  # the clock was wrong once
    index, started = indexed(rows), clock.monotonic()
    for _ in range(500):
        assert index.between(399_990, 399_995) == (399_991, 399_995)
        assert index.between(10**9 + 1, None) is None
    assert clock.monotonic() - started < 0.5


@pytest.mark.parametrize(
    ("start", "end", "limit", "found"),
    [
        (None, None, 100, "7-14"),
        (None, None, 3, "7-9"),
        (30, 60, 100, "9-11"),
        (30, 100, 2, "9-10"),
        (55, 85, 100, "12-14"),
        (100, None, 100, None),
        (None, 10, 100, None),
    ],
)
def test_find__when_a_journal_goes_on_in_another_one__finds_the_rows_of_both(tmp_path, start, end, limit, found):
    device = device_id(KEY.signer_bytes)
    names = [tmp_path / f"{number}.readings" for number in range(2)]
    source = ReadingSource(tmp_path, device, KEY.signer_bytes)
    with ReadingJournal.open(names[0], device=device, schema=SCHEMA, curve=KEY.curve, first_seq=7) as first:
        first.sign_many(KEY, [(time, (1,)) for time in (10, 20, 30)])
        assert source.find(start=40, end=None, limit=9) is None
        first.sign_many(KEY, [(time, (1,)) for time in (40, 50)])
        with first.continued(names[1]) as second:
            second.sign_many(KEY, [(time, (1,)) for time in (60, 70, 80)])
            wanted = source.find(start=start, end=end, limit=limit)
    source.close()
    assert wanted == (None if found is None else RowRange.parse(found))
