r"""Readings and tables as pandas DataFrames, and DataFrames as tables.

pandas is imported when a frame is made, not before.

Example:
    >>> from pyiot_evm.market.datasets import read_csv
    >>> table = read_csv(b"timestamp,value\n2015-09-01 13:45:00,3.06\n")
    >>> table_frame(table)["value"].tolist()
    [3.06]
    >>> read_frame(table_frame(table)).rows
    [(306,)]
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pyiot_evm.device.reading import MAX_INT128, MIN_INT128
from pyiot_evm.device.schema import Schema
from pyiot_evm.exceptions import ConfigurationError, InputError
from pyiot_evm.market.columns import named_fields
from pyiot_evm.market.csv_style import parse_number
from pyiot_evm.market.datasets import Table, default_style

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pyiot_evm.device.reading import Reading

__all__ = ["read_frame", "read_parquet", "readings_frame", "table_frame"]

_FLOAT_SAFE = 1 << 62


def table_frame(table: Table, *, exact: bool = False) -> Any:
    """Return a table as a DataFrame.

    Args:
        table: The table.
        exact: ``Decimal`` values instead of integers (scale 0) and floats (the nearest to each value).

    Returns:
        A ``pandas.DataFrame``: one column a field, under its own title, and a UTC time index in milliseconds.
    """
    import pandas as pd  # noqa: PLC0415

    index = pd.to_datetime(list(table.times), unit="ms", utc=True).astype("datetime64[ms, UTC]").rename("time")
    fields, columns = table.schema.fields, {}
    titles = [field.label or field.name for field in fields]
    if len(set(titles)) < len(titles):  # a column that is there twice in the seller's file
        titles = list(table.schema.names)
    for position, (title, field) in enumerate(zip(titles, fields, strict=True)):
        column = [row[position] for row in table.rows]
        if exact:
            values: Any = pd.Series([field.unfix(value) for value in column], index=index, dtype=object)
        elif not field.scale and all(abs(value) < _FLOAT_SAFE for value in column):
            values = pd.Series(column, index=index, dtype="int64")
        else:
            values = pd.Series([float(field.unfix(value)) for value in column], index=index, dtype="float64")
        columns[title] = values
    return pd.DataFrame(columns, index=index)


def readings_frame(readings: Iterable[Reading], schema: Schema, *, exact: bool = False) -> Any:
    """Return readings as a DataFrame with their proofs' handles beside the values.

    Args:
        readings: In order.
        schema: Their schema.
        exact: ``Decimal`` values instead of integers and floats.

    Returns:
        A ``pandas.DataFrame`` as of :func:`table_frame`, with the columns ``seq``, ``device`` and ``digest`` before it.
    """
    items = list(readings)
    frame = table_frame(Table.from_readings(items, schema), exact=exact)
    frame.insert(0, "seq", [reading.seq for reading in items])
    frame.insert(1, "device", ["0x" + bytes(reading.device).hex() for reading in items])
    frame.insert(2, "digest", [str(reading.digest) for reading in items])
    return frame


def read_parquet(path: Path) -> Any:
    """Read a Parquet file.

    Raises:
        ConfigurationError: pyarrow is not installed.
        InputError: It is no Parquet file.
    """
    import pandas as pd  # noqa: PLC0415

    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise ConfigurationError("Parquet needs pyarrow", hint="pip install 'pyiot-evm[parquet]'") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a Parquet file: {error}") from error


def read_frame(frame: Any, *, time_column: str | None = None, units: Mapping[str, str] | None = None) -> Table:
    """Take a DataFrame with a time index or a time column, and columns of numbers.

    Args:
        frame: The frame. Floats are taken with the fewest digits that give the same float.
        time_column: The title of the time column; the index if that is one of times, else the first column.
        units: SenML units by column title.

    Raises:
        InputError: It is no such frame; the message names the row.
    """
    import pandas as pd  # noqa: PLC0415

    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"a table is a path or a DataFrame, not {type(frame).__name__}")
    if time_column is None and isinstance(frame.index, pd.DatetimeIndex):
        stamps, values = frame.index, frame
    else:
        title = time_column if time_column is not None else next(iter(frame.columns), None)
        if title not in frame.columns:
            raise InputError(f"the frame has no column {title!r}")
        stamps, values = pd.Index(frame[title]), frame.drop(columns=[title])
    if not len(values) or not len(values.columns):
        raise InputError("the frame is empty: it needs rows, a time and a column of numbers")
    titles = [str(title) for title in values.columns]
    columns = [_column(title, values.iloc[:, position]) for position, title in enumerate(titles)]
    fields = named_fields(titles, [scale for _, scale in columns], units or {})
    schema = Schema(fields)
    rows = list(zip(*[column for column, _ in columns], strict=True))
    return Table(schema, _times(stamps), rows, default_style(schema))


def _times(stamps: Any) -> list[int]:
    import pandas as pd  # noqa: PLC0415

    try:
        moments = pd.to_datetime(pd.Series(stamps), utc=True).astype("datetime64[ns, UTC]")
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"a time cannot be read: {error}") from error
    if moments.isna().any():
        raise InputError(f"row {int(moments.isna().argmax()) + 1}: the time is missing")
    nanoseconds = moments.astype("int64").tolist()
    for row, value in enumerate(nanoseconds, 1):
        if value % 1_000_000 or value < 0:
            raise InputError(f"row {row}: a time is finer than a millisecond or lies before 1970")
    return [value // 1_000_000 for value in nanoseconds]


def _column(title: str, series: Any) -> tuple[list[int], int]:
    numbers: list[tuple[int, int]] = []
    for row, value in enumerate(series.tolist() if series.dtype != "float32" else series, 1):
        try:
            numbers.append(_number(value))
        except InputError as error:
            raise InputError(f"row {row}, column {title!r}: {error}") from error
    scale = max(decimals for _, decimals in numbers)
    column = [digits * 10 ** (scale - decimals) for digits, decimals in numbers]
    for row, fixed in enumerate(column, 1):
        if not MIN_INT128 <= fixed <= MAX_INT128:
            raise InputError(f"row {row}, column {title!r}: the number is too large")
    return column, scale


def _number(value: Any) -> tuple[int, int]:
    if isinstance(value, bool | int):
        return int(value), 0
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    digits, decimals = parse_number(text.strip())
    while decimals and digits % 10 == 0:
        digits, decimals = digits // 10, decimals - 1
    return digits, decimals
