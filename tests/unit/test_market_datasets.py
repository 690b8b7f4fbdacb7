"""Tables: CSV byte for byte, Parquet and DataFrames value for value, errors that name the row."""

from __future__ import annotations

import importlib.resources
import warnings
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyiot_evm.device.reading import MAX_INT128, MIN_INT128, Reading
from pyiot_evm.device.signers import LocalSigner
from pyiot_evm.exceptions import InputError
from pyiot_evm.frames import readings_frame
from pyiot_evm.market.csv_style import render_number
from pyiot_evm.market.datasets import CsvStyleWarning, Table, read_csv, read_table

SAMPLE = importlib.resources.files("pyiot_evm") / "samples" / "occupancy_6005.csv"
SMALL = b"timestamp,value\n2015-09-01 13:45:00,3.06\n2015-09-01 13:50:00,6.44\n2015-09-01 13:40:00,5.1\n"


def exactly(data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CsvStyleWarning)
        return read_csv(data, **options)


def test_read_csv__when_the_real_series__comes_back_byte_for_byte():
    data = SAMPLE.read_bytes()
    table = exactly(data)
    assert len(table) == 2380
    assert table.csv() == data
    assert table.schema.names == ("value",)
    assert table.schema.fields[0].scale == 2
    assert (table.times[0], table.rows[0]) == (1_441_115_100_000, (306,))


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,value\n2013-12-02 21:15:00,73.96732207\n2013-12-02 21:20:00,74.93588199999998\n",
        "timestamp,value\n2014-07-01 00:00:00,10844\n2014-07-01 00:30:00,8127",
        "2014-07-01 00:00:00,10844\n2014-07-01 00:30:00,8127\n",
        "1441115100,1.50\n1441115400,1.25\n",
        "time;a;b\r\n2015-09-01T13:45:00Z;1.0;-2\r\n2015-09-01T13:46:00Z;2.5;3\r\n",
        "\ufefftime\ta\n2015-09-01\t0.10\n2015-09-02\t0.20",
        "a,when,b\n1,2015-09-01 13:45,2\n",
        '"temperature, inside",time\n1,2015-09-01 13:45\n',
        "date,x\n2015-09-02,0\n2015-09-01,0\n",
        "ts|x\n1441115100123|7\n",
    ],
)
def test_read_csv__when_in_a_style_that_can_be_told__comes_back_byte_for_byte(text):
    options = {"time_column": "when"} if "when" in text else {}
    assert exactly(text.encode(), **options).csv() == text.encode()


@st.composite
def series(draw):
    scales = draw(st.lists(st.integers(0, 20), min_size=1, max_size=4))
    style = draw(st.sampled_from(["fixed", "shortest", "point"]))
    values = st.integers(-(10**25), 10**25)
    rows = draw(st.lists(st.tuples(st.integers(0, 4 * 10**9), *[values] * len(scales)), min_size=1, max_size=8))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [",".join(["time", *(f"c{n}" for n in range(len(scales)))])]
    for time, *cells in rows:
        stamp = str(np.datetime64(time, "s")).replace("T", " ")
        lines.append(",".join([stamp, *(render_number(v, s, style) for v, s in zip(cells, scales, strict=True))]))
    return end.join(lines) + draw(st.sampled_from(["", end]))


@settings(max_examples=150, deadline=None)
@given(text=series())
def test_read_csv__when_any_canonical_series__comes_back_byte_for_byte(text):
    assert exactly(text.encode()).csv() == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "time,x\n2015-09-01,1.50\n2015-09-02,1.5\n2015-09-03,2.0\n2015-09-04,3\n",
        "time,x\n2015-09-01,1\n2015-09-01 13:00:00,2\n",
        "time,x\n1441115100,1\n1441115100.5,2\n",
        "time,x\n2015-09-01 13:00,1\n2015-09-01 13:00:01.25,2\n",
        "time,x\n2015-09-01, 1\n",
        "time,x\n2015-09-01,+1\n",
        "time,x\n\n2015-09-01,1\n",
        "time,x\n2015-09-01,1e3\n",
    ],
)
def test_read_csv__when_the_style_cannot_be_told__warns_and_keeps_the_values(text):
    with pytest.warns(CsvStyleWarning, match="equal values, not equal bytes"):
        table = read_csv(text.encode())
    again = read_csv(table.csv())
    assert (again.times, again.rows, again.schema) == (table.times, table.rows, table.schema)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the CSV is empty"),
        ("time,value\n", "the CSV has no rows"),
        ("value\n1\n2\n", "one column"),
        ("time,value\n2015-09-01,1\n2015-09-02,hot\n", r"row 2 \(line 3\), column 'value': not a number: 'hot'"),
        ("time,value\n2015-09-01,\n", r"row 1 \(line 2\), column 'value': not a number: ''"),
        ("time,value\n2015-09-01,nan\n", r"row 1 \(line 2\), column 'value': not a number: 'nan'"),
        ("time,value\n2015-09-01,1\nsoon,2\n", r"row 2 \(line 3\): not a time: 'soon'"),
        ("time,value\n1969-01-01,1\n", r"row 1 \(line 2\): a time lies before 1970"),
        ("time,value\n2015-09-01,1\n2015-09-02\n", r"row 2 \(line 3\): 1 cells instead of 2"),
        ("time,value\n2015-09-01,1,5\n", r"row 1 \(line 2\): 3 cells instead of 2"),
        (f"time,value\n2015-09-01,{1 << 127}\n", r"row 1, column 'value': the number is too large"),
        ('time,value\n2015-09-01,"1\n', "line 2: unexpected end of data"),
    ],
)
def test_read_csv__when_it_cannot_be_read__names_the_row(text, message):
    with pytest.raises(InputError, match=message):
        read_csv(text.encode())


def test_read_csv__when_not_utf_8__names_the_line():
    with pytest.raises(InputError, match="line 2: not UTF-8 text"):
        read_csv("time,value\n2015-09-01,1°\n".encode("latin-1"))


def test_read_csv__when_the_time_column_is_not_there__names_the_columns():
    with pytest.raises(InputError, match="no column 'when': it has timestamp, value"):
        read_csv(SMALL, time_column="when")


def test_read_csv__when_units_are_given__puts_them_into_the_schema():
    assert read_csv(SMALL, units={"value": "%"}).schema.fields[0].unit == "%"
    with pytest.raises(InputError, match="columns that are not there: speed"):
        read_csv(SMALL, units={"speed": "m/s"})


def test_read_csv__when_titles_are_no_senml_names__keeps_them_as_labels():
    data = "time,Temp (°C),Temp (°C),µ\n2015-09-01,1,2,3\n".encode()
    table = exactly(data)
    assert table.schema.names == ("Temp_C_", "Temp_C__2", "value3")
    assert [field.label for field in table.schema.fields] == ["Temp (°C)", "Temp (°C)", "µ"]
    assert list(table.frame().columns) == ["Temp_C_", "Temp_C__2", "value3"]
    assert table.csv() == data


def test_read_csv__when_the_series_goes_backwards__keeps_the_order():
    assert read_csv(SMALL).times == [1_441_115_100_000, 1_441_115_400_000, 1_441_114_800_000]


def test_metadata__when_of_a_table__describes_it():
    metadata = read_csv(SMALL).metadata(title="Occupancy", tags=["road"], sample=2)
    assert (metadata.rows, metadata.first_time, metadata.last_time) == (3, 1_441_114_800_000, 1_441_115_400_000)
    assert metadata.sample == ((1_441_115_100_000, 306), (1_441_115_400_000, 644))
    (statistics,) = metadata.statistics
    assert (statistics.minimum, statistics.maximum, statistics.mean) == ("3.06", "6.44", "4.8667")


def test_read_table__when_no_such_file__raises(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_table(tmp_path / "absent.csv")


def test_read_table__when_parquet__gives_the_same_values(tmp_path):
    table = read_csv(SMALL)
    table.write(tmp_path / "small.parquet")
    again = read_table(tmp_path / "small.parquet")
    assert (again.times, again.rows, again.schema) == (table.times, table.rows, table.schema)


def test_read_table__when_not_parquet__raises(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(InputError, match="not a Parquet file"):
        read_table(tmp_path / "bad.parquet")


def test_write__when_csv__writes_the_same_bytes(tmp_path):
    data = SAMPLE.read_bytes()
    read_csv(data).write(tmp_path / "out" / "copy.csv")
    assert (tmp_path / "out" / "copy.csv").read_bytes() == data
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["copy.csv"]


def test_write__when_another_ending__raises(tmp_path):
    with pytest.raises(InputError, match=r"written as \.csv or \.parquet"):
        read_csv(SMALL).write(tmp_path / "out.xlsx")


def test_frame__when_exact__holds_decimals():
    frame = read_csv(SMALL).frame(exact=True)
    assert frame["value"].tolist() == [Decimal("3.06"), Decimal("6.44"), Decimal("5.10")]


def test_frame__when_floats__holds_the_nearest_to_each_value():
    data = b"time,x\n2013-12-02 21:20:00,74.93588199999998\n"
    frame = read_csv(data).frame()
    assert frame["x"].tolist() == [74.93588199999998]
    assert str(frame.index[0]) == "2013-12-02 21:20:00+00:00"


def test_frame__when_whole_numbers__holds_integers():
    assert read_csv(b"time,x\n2015-09-01,7\n").frame()["x"].dtype == np.int64


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1.5, 0.1, -2.0]),
        pd.Series([1, 2, 3]),
        pd.Series([0.1, 1e-7, 3e8], dtype="float32"),
        pd.Series([Decimal("1.50"), Decimal(2), Decimal("0.001")]),
        pd.Series([1e20, 1.5, 2e-5]),
    ],
)
def test_read_table__when_a_frame__keeps_every_value(values):
    index = pd.to_datetime([0, 60, 30], unit="s")
    table = read_table(pd.DataFrame({"x": values.to_numpy()}, index=index))
    assert table.times == [0, 60_000, 30_000]
    kept = [float(value) for value in table.frame(exact=True)["x"]]
    assert kept == [float(str(value)) for value in values]


def test_read_table__when_the_time_is_a_column__finds_it():
    frame = pd.DataFrame({"x": [1], "when": ["2015-09-01 13:45:00"]})
    assert read_table(frame, time_column="when").times == [1_441_115_100_000]


def test_read_table__when_times_have_a_zone__are_utc():
    frame = pd.DataFrame({"x": [1]}, index=pd.to_datetime(["2015-09-01 15:45:00+02:00"]))
    assert read_table(frame).times == [1_441_115_100_000]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame(), "no column None"),
        (pd.DataFrame({"t": ["2015-09-01"]}), "the frame is empty"),
        (pd.DataFrame({"t": [], "x": []}), "the frame is empty"),
        (pd.DataFrame({"t": ["soon"], "x": [1]}), "a time cannot be read"),
        (pd.DataFrame({"t": ["2015-09-01", None], "x": [1, 2]}), "row 2: the time is missing"),
        (pd.DataFrame({"t": ["2015-09-01", "1960-01-01"], "x": [1, 2]}), "row 2: a time is finer"),
        (
            pd.DataFrame({"t": ["2015-09-01", "2015-09-02"], "x": [1.0, float("nan")]}),
            "row 2, column 'x': not a number",
        ),
        (pd.DataFrame({"t": ["2015-09-01"], "x": ["hot"]}), "row 1, column 'x': not a number: 'hot'"),
        (pd.DataFrame({"t": ["2015-09-01"], "x": [1e300]}), "row 1, column 'x'"),
        ([1, 2], "a path or a DataFrame, not list"),
    ],
)
def test_read_table__when_a_frame_cannot_be_read__names_the_row(frame, message):
    with pytest.raises(InputError, match=message):
        read_table(frame)


@given(value=st.integers(MIN_INT128, MAX_INT128))
def test_read_csv__when_any_int128__is_exact(value):
    assert exactly(f"time,x\n2015-09-01,{value}\n".encode()).rows == [(value,)]


def test_from_readings__when_signed__gives_the_table_and_a_frame_with_proof_handles():
    table, signer = read_csv(SMALL), LocalSigner.create()
    schema = table.schema
    readings, prev = [], bytes(32)
    for seq, (time, values) in enumerate(zip(table.times, table.rows, strict=True)):
        readings.append(Reading.sign(signer, seq=seq, time=time, schema=schema.hash, values=values, prev=prev))
        prev = readings[-1].digest
    assert Table.from_readings(readings, schema, table.style).csv() == SMALL
    frame = readings_frame(readings, schema)
    assert list(frame.columns) == ["seq", "device", "digest", "value"]
    assert frame["seq"].tolist() == [0, 1, 2]
    assert frame["digest"].tolist() == [str(reading.digest) for reading in readings]
    assert frame["value"].tolist() == [3.06, 6.44, 5.1]


def test_read_table__when_flags__are_zero_and_one():
    frame = pd.DataFrame({"x": [True, False]}, index=pd.to_datetime([0, 60], unit="s"))
    assert read_table(frame).rows == [(1,), (0,)]


NAB = sorted((Path(__file__).resolve().parents[1] / "data" / "nab").glob("*.csv"))


@pytest.mark.parametrize("path", NAB, ids=lambda path: path.stem)
def test_read_csv__when_an_excerpt_of_a_real_series__comes_back_byte_for_byte(path):
    data = path.read_bytes()
    table = exactly(data, name=path.name)
    assert table.csv() == data
    assert len(NAB) == 5
