r"""Tables in and out: CSV, Parquet and DataFrames become times and fixed-point numbers, and come back the same.

Rows in file order become the sequence; times may go backwards, as real series do. Naive times are UTC; a column's scale
is the number of decimals present. What cannot be read is an error that names the row. A CSV whose style can be told in
a few words (see ``csv_style``) comes back byte for byte; for any other a :class:`CsvStyleWarning` says that the values,
not the bytes, will be equal.

Example:
    >>> table = read_csv(b"timestamp,value\n2015-09-01 13:45:00,3.06\n2015-09-01 13:50:00,6.44\n")
    >>> table.times[0], table.rows, table.schema.fields[0].scale
    (1441115100000, [(306,), (644,)], 2)
    >>> table.csv().decode().splitlines()[1]
    '2015-09-01 13:45:00,3.06'
"""

from __future__ import annotations

import csv
import io
import warnings
from dataclasses import dataclass
from decimal import Context, Decimal
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.device.schema import Schema
from pyiot_evm.exceptions import ConfigurationError, InputError
from pyiot_evm.market.columns import Columns
from pyiot_evm.market.csv_style import (
    DELIMITERS,
    CsvStyle,
    NumberStyle,
    parse_number,
    parse_time,
    render_number,
)
from pyiot_evm.market.metadata import Licence, Metadata, Statistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pyiot_evm.device.reading import Reading

__all__ = ["CsvStyleWarning", "Table", "read_csv", "read_table"]

_TIME_TITLES: Final = ("timestamp", "time", "datetime", "date", "ts", "date_time", "utc", "epoch")
_SAMPLE_ROWS: Final = 3
_EXACT: Final = Context(prec=120)
_MAX_MEAN_DECIMALS: Final = 2


class CsvStyleWarning(UserWarning):
    """A CSV's text cannot be told in a style: the buyer gets equal values, not equal bytes."""


@dataclass(frozen=True, slots=True)
class Table:
    """A series: times and fixed-point numbers.

    Args:
        schema: The fields, in order.
        times: Unix milliseconds, one a row.
        rows: The values of each row.
        style: How it is written as CSV.
    """

    schema: Schema
    times: Sequence[int]
    rows: Sequence[tuple[int, ...]]
    style: CsvStyle

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def from_readings(cls, readings: Iterable[Reading], schema: Schema, style: CsvStyle | None = None) -> Table:
        """Take what devices signed.

        Args:
            readings: In the order of the rows.
            schema: Their schema.
            style: How the seller's CSV looked, if that is known.
        """
        pairs = [(reading.time, reading.values) for reading in readings]
        return cls(schema, [time for time, _ in pairs], [values for _, values in pairs], style or default_style(schema))

    def metadata(
        self,
        *,
        title: str,
        description: str = "",
        tags: Sequence[str] = (),
        licence: Licence | None = None,
        sample: int = _SAMPLE_ROWS,
    ) -> Metadata:
        """Return the metadata document of this table.

        Args:
            title: One line.
            description: Free text.
            tags: Words to find it by.
            licence: What a buyer may do with it.
            sample: How many rows are shown for free; they are shown in full, signature apart.
        """
        return Metadata(
            kind="readings",
            title=title,
            description=description,
            tags=tuple(tags),
            licence=licence or Licence(),
            rows=len(self),
            schema=self.schema,
            first_time=min(self.times),
            last_time=max(self.times),
            statistics=self.statistics(),
            sample=tuple((self.times[i], *self.rows[i]) for i in range(min(sample, len(self)))),
            csv=self.style,
        )

    def statistics(self) -> tuple[Statistics, ...]:
        """Return least, greatest and mean value of each field, as decimal text."""
        result = []
        for field, column in zip(self.schema.fields, zip(*self.rows, strict=True), strict=True):
            mean = Decimal(sum(column)).scaleb(-field.scale, _EXACT) / len(column)
            step = Decimal(1).scaleb(-field.scale - _MAX_MEAN_DECIMALS)
            low, high = (render_number(value, field.scale, "shortest") for value in (min(column), max(column)))
            result.append(Statistics(low, high, f"{mean.quantize(step, context=_EXACT):f}"))
        return tuple(result)

    def csv_lines(self) -> Iterator[str]:
        """Write the table as CSV, line by line.

        Raises:
            InputError: A time lies beyond the calendar.
        """
        style, scales = self.style, [field.scale for field in self.schema.fields]
        final = len(self) if style.header else len(self) - 1
        lines = self._csv_rows(style, scales)
        for number, line in enumerate(lines):
            end = style.line_end if number < final or style.final_line_end else ""
            yield ("\ufeff" if style.byte_order_mark and not number else "") + line + end

    def _csv_rows(self, style: CsvStyle, scales: Sequence[int]) -> Iterator[str]:
        if style.header:
            buffer = io.StringIO()
            csv.writer(buffer, delimiter=style.delimiter, lineterminator="").writerow(style.header)
            yield buffer.getvalue()
        for time, values in zip(self.times, self.rows, strict=True):
            cells = [render_number(*cell) for cell in zip(values, scales, style.numbers, strict=True)]
            cells.insert(style.time_column, style.time.render(time))
            yield style.delimiter.join(cells)

    def csv(self) -> bytes:
        """Return the table as CSV.

        Raises:
            InputError: A time lies beyond the calendar.
        """
        return "".join(self.csv_lines()).encode()

    def write(self, path: str | Path) -> None:
        """Write the table as CSV or, if the name ends in ``.parquet``, as Parquet; whole or not at all.

        Raises:
            InputError: Another ending.
            ConfigurationError: It is Parquet, and pyarrow is not installed.
        """
        from pyiot_evm.market.atomic import atomic_file  # noqa: PLC0415

        path = Path(path)
        check_table_name(path)
        with atomic_file(path) as file:
            if path.suffix.lower() == ".parquet":
                self.frame().to_parquet(file)
            else:
                lines = self.csv_lines()
                while batch := "".join(islice(lines, 1000)):
                    file.write(batch.encode())

    def frame(self, *, exact: bool = False) -> Any:
        """Return a pandas DataFrame with a UTC time index.

        Args:
            exact: ``Decimal`` values instead of integers (scale 0) and floats.
        """
        from pyiot_evm.frames import table_frame  # noqa: PLC0415

        return table_frame(self, exact=exact)


def check_table_name(path: Path) -> None:
    """Check that a table can be written to a file of this name.

    Raises:
        InputError: It ends neither in ``.csv`` nor in ``.parquet``.
        ConfigurationError: It is Parquet, and pyarrow is not installed.
    """
    ending = path.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise InputError(f"{path}: a table is written as .csv or .parquet")
    if ending == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigurationError("Parquet needs pyarrow", hint="pip install 'pyiot-evm[parquet]'")


def default_style(schema: Schema) -> CsvStyle:
    """Return the style of a table that was no CSV: ISO 8601 in UTC, fixed decimals."""
    titles = tuple(field.label or field.name for field in schema.fields)
    fixed: NumberStyle = "fixed"
    return CsvStyle(numbers=(fixed,) * len(titles), header=("time", *titles))


def read_table(source: Any, *, time_column: str | None = None, units: Mapping[str, str] | None = None) -> Table:
    """Read a CSV or Parquet file, or take a DataFrame.

    Args:
        source: A path that ends in ``.csv`` or ``.parquet``, or a pandas DataFrame.
        time_column: The title of the time column; found by its title, else the first.
        units: SenML units by column title.

    Raises:
        InputError: It cannot be read; the message names the row.
    """
    from pyiot_evm.frames import read_frame, read_parquet  # noqa: PLC0415

    if not isinstance(source, str | Path):
        return read_frame(source, time_column=time_column, units=units)
    path = Path(source)
    if path.suffix.lower() == ".parquet":
        return read_frame(read_parquet(path), time_column=time_column, units=units)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return read_csv(data, name=path.name, time_column=time_column, units=units)


def read_csv(
    data: bytes, *, name: str = "the CSV", time_column: str | None = None, units: Mapping[str, str] | None = None
) -> Table:
    """Read a CSV with one column of times and one or more of numbers.

    Args:
        data: UTF-8 text; the delimiter is found in the first line, and so is whether that is a header.
        name: What errors call it.
        time_column: The title of the time column; found by its title, else the first.
        units: SenML units by column title.

    Raises:
        InputError: It is empty, or a row cannot be read; the message names the row.
    """
    text, delimiter = _decode(data, name)
    rows = _cells(text, delimiter, name)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{name} is empty")
    header = () if _is_data(first[1]) else tuple(first[1])
    at = _time_index(header, first[1], time_column, name)
    columns = Columns(name, header, len(first[1]), at)
    for line, cells in rows if header else _chain(first, rows):
        columns.add(line, cells)
    fields = columns.fields(units or {})
    style = CsvStyle(
        numbers=columns.number_styles(),
        time=columns.time_style(),
        header=header,
        time_column=at,
        delimiter=delimiter,
        line_end="\r\n" if "\r\n" in text else "\n",
        final_line_end=text.endswith("\n"),
        byte_order_mark=data.startswith(b"\xef\xbb\xbf"),
    )
    table = Table(Schema(fields), columns.times, columns.rows(fields), style)
    if table.csv() != data:
        warnings.warn(f"{name}: the buyer gets equal values, not equal bytes", CsvStyleWarning, stacklevel=2)
    return table


def _decode(data: bytes, name: str) -> tuple[str, str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}, line {line}: not UTF-8 text", hint="sell other files as they are, as a blob"
        ) from error
    first = text.partition("\n")[0]
    return text, max(DELIMITERS, key=first.count)


def _cells(text: str, delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}") from error


def _chain(first: tuple[int, list[str]], rest: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rest


def _is_data(cells: list[str]) -> bool:
    """Return whether the first line is a row: every cell is a time or a number."""
    for cell in cells:
        try:
            parse_number(cell)
        except InputError:
            try:
                parse_time(cell)
            except InputError:
                return False
    return True


def _time_index(header: Sequence[str], cells: Sequence[str], wanted: str | None, name: str) -> int:
    if len(cells) < 2:  # noqa: PLR2004
        raise InputError(f"{name} has one column: a table has a column of times and one or more of numbers")
    if wanted is not None:
        if wanted not in header:
            raise InputError(f"{name} has no column {wanted!r}: it has {', '.join(header) or 'no header'}")
        return list(header).index(wanted)
    titles = [title.strip().lower() for title in header]
    return next((titles.index(title) for title in _TIME_TITLES if title in titles), 0)
