"""How a CSV looked, in so few words that they fit the metadata document: so that what is bought equals what was sold.

A reading holds numbers, not text. A style says how the numbers were written: the delimiter, the header, the form of the
times, and for each column whether its numbers have a fixed count of decimals (``2.50``), the fewest (``2.5``, ``2``) or
the fewest but at least one (``2.0``). Values never pass through a float.

Example:
    >>> time, style = parse_time("2015-09-01 13:45:00")
    >>> time, style.render(time)
    (1441115100000, '2015-09-01 13:45:00')
    >>> parse_number("74.93588199999998")
    (7493588199999998, 14)
    >>> render_number(250, 2, "fixed"), render_number(250, 2, "shortest"), render_number(200, 2, "point")
    ('2.50', '2.5', '2.0')
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

from pyiot_evm.exceptions import InputError

__all__ = ["CsvStyle", "NumberStyle", "TimeStyle", "parse_number", "parse_time", "render_number"]

NumberStyle = Literal["fixed", "shortest", "point"]
TimeForm = Literal["date", "minutes", "seconds", "epoch", "epoch-ms"]

DELIMITERS: Final = (",", ";", "\t", "|")
MAX_SCALE: Final = 38

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:([ T])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII
)
_EPOCH_NUMBER: Final = re.compile(r"(\d{1,14})(?:\.(\d{1,9}))?", re.ASCII)
_NUMBER: Final = re.compile(r"([+-]?)(\d{0,60})(?:\.(\d{0,60}))?(?:[eE]([+-]?\d{1,3}))?", re.ASCII)
_OFFSET: Final = re.compile(r"Z|[+-](\d\d):(\d\d)|", re.ASCII)
_SECONDS_LIMIT: Final = 10**11
_MAX_FRACTION: Final = 9
_MAX_TITLE: Final = 256


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TITLE


@dataclass(frozen=True, slots=True)
class TimeStyle:
    """How times were written.

    Args:
        form: A date, a date and time to the minute or the second, Unix seconds, or Unix milliseconds.
        separator: Between date and time, a space or ``T``.
        fraction: Digits after the seconds.
        offset: ``""`` for naive times, which are UTC; ``"Z"``, or like ``"+02:00"``.
    """

    form: TimeForm
    separator: str = " "
    fraction: int = 0
    offset: str = ""

    def __post_init__(self) -> None:
        if self.form not in get_args(TimeForm) or self.separator not in {" ", "T"}:
            raise InputError(f"not a time style: {self.form!r} with {self.separator!r}")
        if type(self.fraction) is not int or not 0 <= self.fraction <= _MAX_FRACTION:
            raise InputError(f"a time has at most {_MAX_FRACTION} digits after the seconds: {self.fraction!r}")
        if not _is_text(self.offset) or not _OFFSET.fullmatch(self.offset):
            raise InputError(f"not a time's offset: {self.offset!r}")

    def render(self, time: int) -> str:
        """Write a time.

        Args:
            time: Unix milliseconds.

        Raises:
            InputError: It lies beyond the year 9999.
        """
        fraction = f".{time % 1000:03d}{'0' * 6}"[: self.fraction + 1] if self.fraction else ""
        if self.form == "epoch-ms":
            return str(time)
        if self.form == "epoch":
            return f"{time // 1000}{fraction}"
        try:
            moment = _EPOCH + timedelta(milliseconds=time) + _offset(self.offset)
        except OverflowError as error:
            raise InputError(f"the time {time} lies beyond the calendar") from error
        if self.form == "date":
            return f"{moment:%Y-%m-%d}"
        clock = f"{moment:%H:%M}" if self.form == "minutes" else f"{moment:%H:%M:%S}{fraction}"
        return f"{moment:%Y-%m-%d}{self.separator}{clock}{self.offset}"

    def document(self) -> dict[str, Any]:
        """Return the style as it stands in the metadata document."""
        return {"form": self.form, "separator": self.separator, "fraction": self.fraction, "offset": self.offset}


@dataclass(frozen=True, slots=True)
class CsvStyle:
    """How a CSV looked.

    Args:
        numbers: How each field's numbers were written, in the schema's order.
        time: How times were written.
        header: The titles of all columns, the time's too; empty where the file had none.
        time_column: Which column the time is in, from 0.
        delimiter: Between cells.
        line_end: A line feed, or carriage return and line feed.
        final_line_end: Whether the last row ends with one.
        byte_order_mark: Whether the file begins with one.
    """

    numbers: tuple[NumberStyle, ...]
    time: TimeStyle = TimeStyle("seconds", "T", 3, "Z")
    header: tuple[str, ...] = ()
    time_column: int = 0
    delimiter: str = ","
    line_end: str = "\n"
    final_line_end: bool = True
    byte_order_mark: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", tuple(self.numbers))
        object.__setattr__(self, "header", tuple(self.header))
        if not self.numbers or not set(self.numbers) <= set(get_args(NumberStyle)):
            raise InputError(f"not number styles: {self.numbers!r:.200}")
        if len(self.header) not in (0, len(self.numbers) + 1):
            raise InputError(f"a header has one title a column: {len(self.header)} for {len(self.numbers) + 1}")
        if not all(_is_text(title) for title in self.header):
            raise InputError(f"a header's titles are texts of at most {_MAX_TITLE} characters")
        if not all(title.isprintable() and not title.startswith("=") for title in self.header):
            raise InputError("a header's titles are one line each and no formulas", hint="rename the column")
        if type(self.time_column) is not int or not 0 <= self.time_column <= len(self.numbers):
            raise InputError(f"there is no column {self.time_column!r}")
        if self.delimiter not in DELIMITERS or self.line_end not in ("\n", "\r\n"):
            raise InputError(f"not a delimiter and a line end: {self.delimiter!r}, {self.line_end!r}")
        if {type(self.final_line_end), type(self.byte_order_mark)} != {bool}:
            raise InputError("a flag is true or false")

    def document(self) -> dict[str, Any]:
        """Return the style as it stands in the metadata document."""
        return {
            "numbers": list(self.numbers),
            "time": self.time.document(),
            "header": list(self.header),
            "time_column": self.time_column,
            "delimiter": self.delimiter,
            "line_end": self.line_end,
            "final_line_end": self.final_line_end,
            "byte_order_mark": self.byte_order_mark,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> CsvStyle:
        """Take a style that a stranger may have written.

        Raises:
            InputError: It is none.
        """
        if not isinstance(document, Mapping):
            raise InputError("a CSV style is an object")
        values = dict(document)
        if not all(isinstance(values.get(name), Sequence) for name in ("numbers", "header")):
            raise InputError("a CSV style has numbers and a header")
        try:
            return cls(**{**values, "time": TimeStyle(**values["time"])})
        except (TypeError, KeyError) as error:
            raise InputError(f"not a CSV style: {error}") from error


def parse_time(text: str) -> tuple[int, TimeStyle]:
    """Read a time: ISO 8601 (naive is UTC), Unix seconds or Unix milliseconds.

    Returns:
        Unix milliseconds, and how the time was written.

    Raises:
        InputError: It is none, lies before 1970, or is finer than a millisecond.
    """
    if match := _ISO.fullmatch(text):
        year, month, day, separator, hour, minute, second, fraction, offset = match.groups()
        try:
            date = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), 0, UTC)
            moment = date - _offset(offset or "")
        except (ValueError, OverflowError) as error:
            raise InputError(f"not a time: {text!r}") from error
        form: TimeForm = "date" if separator is None else "minutes" if second is None else "seconds"
        style = TimeStyle(form, separator or " ", len(fraction or ""), offset or "")
        time = (moment - _EPOCH) // _MILLISECOND + _milliseconds(fraction, text)
    elif match := _EPOCH_NUMBER.fullmatch(text):
        number, fraction = int(match[1]), match[2]
        if number < _SECONDS_LIMIT:
            time = number * 1000 + _milliseconds(fraction, text)
            style = TimeStyle("epoch", fraction=len(fraction or ""))
        elif fraction is None:
            time, style = number, TimeStyle("epoch-ms")
        else:
            raise InputError(f"a time is finer than a millisecond: {text!r}")
    else:
        raise InputError(f"not a time: {text[:60]!r}", hint="write times like 2015-09-01 13:45:00, or as Unix seconds")
    if time < 0:
        raise InputError(f"a time lies before 1970: {text!r}")
    return time, style


def _milliseconds(fraction: str | None, text: str) -> int:
    digits = (fraction or "").ljust(3, "0")
    if digits[3:].strip("0"):
        raise InputError(f"a time is finer than a millisecond: {text!r}", hint="round the times to milliseconds")
    return int(digits[:3])


def _offset(text: str) -> timedelta:
    if text in ("", "Z"):
        return timedelta()
    span = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return -span if text[0] == "-" else span


def parse_number(text: str) -> tuple[int, int]:
    """Read a decimal number exactly.

    Returns:
        The digits as an integer, and how many of them are decimals.

    Raises:
        InputError: It is no number, or has more than 38 decimals.
    """
    match = _NUMBER.fullmatch(text)
    if not match or not (match[2] or match[3]):
        raise InputError(f"not a number: {text[:60]!r}")
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    digits, decimals = int(sign + whole + fraction), len(fraction) - exponent
    if exponent:
        while decimals > 0 and digits % 10 == 0 and digits:
            digits, decimals = digits // 10, decimals - 1
    if decimals < 0:
        digits, decimals = digits * 10 ** min(-decimals, 100), 0
    if decimals > MAX_SCALE:
        raise InputError(f"a number has more than {MAX_SCALE} decimals: {text[:60]!r}")
    return digits, decimals


def render_number(value: int, scale: int, style: NumberStyle) -> str:
    """Write a fixed-point integer.

    Args:
        value: The number times ``10**scale``.
        scale: Its decimals.
        style: How many of them are shown.
    """
    if not scale:
        return f"{value}.0" if style == "point" else str(value)
    digits = str(abs(value)).rjust(scale + 1, "0")
    sign, whole, fraction = "-" if value < 0 else "", digits[:-scale], digits[-scale:]
    if style != "fixed":
        fraction = fraction.rstrip("0")
    if not fraction:
        return f"{sign}{whole}.0" if style == "point" else f"{sign}{whole}"
    return f"{sign}{whole}.{fraction}"
