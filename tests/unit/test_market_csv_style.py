"""Times and numbers as text, exactly, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.exceptions import InputError
from pyiot_evm.market.csv_style import CsvStyle, TimeStyle, parse_number, parse_time, render_number

TIMES = {
    "2015-09-01 13:45:00": 1_441_115_100_000,
    "2015-09-01T13:45:00": 1_441_115_100_000,
    "2015-09-01T13:45:00Z": 1_441_115_100_000,
    "2015-09-01T15:45:00+02:00": 1_441_115_100_000,
    "2015-09-01T08:15:00-05:30": 1_441_115_100_000,
    "2015-09-01 13:45": 1_441_115_100_000,
    "2015-09-01": 1_441_065_600_000,
    "2015-09-01 13:45:00.5": 1_441_115_100_500,
    "2015-09-01 13:45:00.123": 1_441_115_100_123,
    "2015-09-01 13:45:00.123000": 1_441_115_100_123,
    "2016-02-29 00:00:00": 1_456_704_000_000,
    "1970-01-01 00:00:00": 0,
    "9999-12-31 23:59:59": 253_402_300_799_000,
    "1441115100": 1_441_115_100_000,
    "1441115100.250": 1_441_115_100_250,
    "1441115100123": 1_441_115_100_123,
}


@pytest.mark.parametrize("text", TIMES)
def test_parse_time__when_written_in_a_known_form__is_read_and_written_back(text):
    time, style = parse_time(text)
    assert time == TIMES[text]
    assert style.render(time) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a time"),
        ("yesterday", "not a time"),
        ("2015-13-01 00:00:00", "not a time"),
        ("2015-02-29", "not a time"),
        ("2015-09-01 24:00:00", "not a time"),
        ("01/02/2015 13:45", "not a time"),
        ("2015-09-01 13:45:00 PM", "not a time"),
        ("٢٠١٥-09-01", "not a time"),
        ("0001-01-01T00:00:00+10:00", "not a time"),
        ("1969-12-31 23:59:59", "before 1970"),
        ("1970-01-01T00:00:00+01:00", "before 1970"),
        ("2015-09-01 13:45:00.0001", "finer than a millisecond"),
        ("1441115100123.5", "finer than a millisecond"),
    ],
)
def test_parse_time__when_it_cannot_be_read__raises(text, reason):
    with pytest.raises(InputError, match=reason):
        parse_time(text)


NUMBERS = {
    "3.06": (306, 2),
    "74.93588199999998": (7_493_588_199_999_998, 14),
    "-0.5": (-5, 1),
    "10844": (10844, 0),
    "1e3": (1000, 0),
    "1.5E-3": (15, 4),
    "2.50e1": (25, 0),
    "+7": (7, 0),
    ".5": (5, 1),
    "5.": (5, 0),
    "0.000": (0, 3),
}


@pytest.mark.parametrize("text", NUMBERS)
def test_parse_number__when_decimal__is_exact(text):
    assert parse_number(text) == NUMBERS[text]


@pytest.mark.parametrize(
    "text", ["", ".", "-", "NaN", "inf", "1,5", "0x10", "1e", "\uff11", "1_000", " ", "12 kg", "e5"]
)
def test_parse_number__when_no_number__raises(text):
    with pytest.raises(InputError, match="not a number"):
        parse_number(text)


@pytest.mark.parametrize("text", ["1e-39", "0." + "1" * 39])
def test_parse_number__when_it_has_too_many_decimals__raises(text):
    with pytest.raises(InputError, match="more than 38 decimals"):
        parse_number(text)


@given(
    value=st.integers(-(10**20), 10**20),
    scale=st.integers(0, 18),
    style=st.sampled_from(["fixed", "shortest", "point"]),
)
def test_render_number__when_read_again__is_the_same_number(value, scale, style):
    digits, decimals = parse_number(render_number(value, scale, style))
    assert digits * 10 ** (scale - decimals) == value if decimals <= scale else digits == value * 10


@pytest.mark.parametrize(
    ("value", "scale", "fixed", "shortest", "point"),
    [
        (250, 2, "2.50", "2.5", "2.5"),
        (200, 2, "2.00", "2", "2.0"),
        (-5, 2, "-0.05", "-0.05", "-0.05"),
        (0, 2, "0.00", "0", "0.0"),
        (7, 0, "7", "7", "7.0"),
    ],
)
def test_render_number__when_each_style__shows_its_decimals(value, scale, fixed, shortest, point):
    assert [render_number(value, scale, style) for style in ("fixed", "shortest", "point")] == [fixed, shortest, point]


def test_render__when_beyond_the_calendar__raises():
    with pytest.raises(InputError, match="beyond the calendar"):
        TimeStyle("seconds").render((1 << 64) - 1)


STYLE = CsvStyle(numbers=("fixed", "shortest"), header=("t", "a", "b"), delimiter=";", line_end="\r\n")


def test_from_document__when_written_by_us__gives_the_same_style():
    assert CsvStyle.from_document(STYLE.document()) == STYLE


@pytest.mark.parametrize(
    "change",
    [
        {"numbers": ["fixed", "roman"]},
        {"numbers": []},
        {"numbers": 5},
        {"numbers": [["fixed"], "fixed"]},
        {"header": ["t"]},
        {"header": [1, 2, 3]},
        {"header": ["x" * 300, "a", "b"]},
        {"header": ["=HYPERLINK(1)", "a", "b"]},
        {"header": ["two\nlines", "a", "b"]},
        {"time_column": 3},
        {"time_column": -1},
        {"time_column": True},
        {"delimiter": "ab"},
        {"delimiter": ""},
        {"line_end": "\n\n"},
        {"final_line_end": 1},
        {"byte_order_mark": None},
        {"time": None},
        {"time": {"form": "seconds", "separator": "X"}},
        {"time": {"form": "weeks"}},
        {"time": {"form": "seconds", "fraction": 10}},
        {"time": {"form": "seconds", "fraction": "3"}},
        {"time": {"form": "seconds", "offset": "+2"}},
        {"time": {"form": "seconds", "offset": 7}},
        {"time": {"form": "seconds", "surprise": 7}},
        {"surprise": 1},
    ],
)
def test_from_document__when_a_stranger_wrote_nonsense__raises(change):
    with pytest.raises(InputError):
        CsvStyle.from_document({**STYLE.document(), **change})


@pytest.mark.parametrize("document", [None, [], "x", {}, {"numbers": ["fixed"]}])
def test_from_document__when_it_is_no_style__raises(document):
    with pytest.raises(InputError):
        CsvStyle.from_document(document)
