"""A table's columns while a file is read: exact numbers, their scale and style, and the schema's fields.

Example:
    >>> columns = Columns("a.csv", ("time", "Temp (C)"), 2, 0)
    >>> columns.add(2, ["2015-09-01 13:45:00", "21.50"])
    >>> [field.name for field in columns.fields({})], columns.number_styles()
    (['Temp_C_'], ('fixed',))
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyiot_evm.device.reading import MAX_INT128, MIN_INT128
from pyiot_evm.device.schema import Field
from pyiot_evm.exceptions import InputError
from pyiot_evm.market.csv_style import NumberStyle, TimeStyle, parse_number, parse_time, render_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Columns", "named_fields"]


class Columns:
    """Collects a file's cells, column by column, as exact numbers."""

    def __init__(self, name: str, header: Sequence[str], width: int, time_index: int) -> None:
        self._name = name
        self._titles = [title for index, title in enumerate(header) if index != time_index]
        self._titles = self._titles or [f"value{n}" for n in range(1, width)]
        self._width, self._at = width, time_index
        self._numbers: list[list[tuple[int, int]]] = [[] for _ in self._titles]
        self._texts: list[list[str]] = [[] for _ in self._titles]
        self._style: TimeStyle | None = None
        self.times: list[int] = []

    def add(self, line: int, cells: list[str]) -> None:
        """Take one row."""
        where = f"{self._name}, row {len(self.times) + 1} (line {line})"
        if len(cells) != self._width:
            raise InputError(f"{where}: {len(cells)} cells instead of {self._width}")
        try:
            time, style = parse_time(cells.pop(self._at).strip())
        except InputError as error:
            raise InputError(f"{where}: {error}", hint=error.hint) from error
        self._style = self._style or style
        self.times.append(time)
        for title, cell, numbers, texts in zip(self._titles, cells, self._numbers, self._texts, strict=True):
            try:
                numbers.append(parse_number(cell.strip()))
            except InputError as error:
                hint = "leave the column or the row out, or sell the file as it is, as a blob"
                raise InputError(f"{where}, column {title!r}: {error}", hint=hint) from error
            texts.append(cell)

    def time_style(self) -> TimeStyle:
        """Return how the first time was written, if that loses nothing of the others; else ISO 8601 in full."""
        assert self._style is not None
        style = self._style
        whole = {"date": 86_400_000, "minutes": 60_000, "seconds": 1000, "epoch": 1000, "epoch-ms": 1}[style.form]
        if style.form in {"seconds", "epoch"}:
            whole //= 10 ** min(style.fraction, 3)
        is_lossless = all(time % whole == 0 for time in self.times)
        return style if is_lossless else TimeStyle("seconds", "T", 3, "Z")

    def fields(self, units: Mapping[str, str]) -> tuple[Field, ...]:
        """Return the schema's fields.

        Raises:
            InputError: There is no row.
        """
        if not self.times:
            raise InputError(f"{self._name} has no rows")
        scales = [max(decimals for _, decimals in column) for column in self._numbers]
        return named_fields(self._titles, scales, units)

    def rows(self, fields: Sequence[Field]) -> list[tuple[int, ...]]:
        """Return the values of each row, all of a column in one scale.

        Raises:
            InputError: A value does not fit; the message names the row.
        """
        columns = []
        for field, title, numbers in zip(fields, self._titles, self._numbers, strict=True):
            column = [digits * 10 ** (field.scale - decimals) for digits, decimals in numbers]
            columns.append(column)
            for row, value in enumerate(column, 1):
                if not MIN_INT128 <= value <= MAX_INT128:
                    raise InputError(f"{self._name}, row {row}, column {title!r}: the number is too large")
        return list(zip(*columns, strict=True))

    def number_styles(self) -> tuple[NumberStyle, ...]:
        """Return the style of each column: the first one that writes every cell as it was, else all decimals."""
        return tuple(_number_style(*column) for column in zip(self._numbers, self._texts, strict=True))


def _number_style(numbers: Sequence[tuple[int, int]], texts: Sequence[str]) -> NumberStyle:
    scale = max((decimals for _, decimals in numbers), default=0)
    styles: tuple[NumberStyle, ...] = ("fixed", "shortest", "point")
    for style in styles:
        pairs = zip(numbers, texts, strict=True)
        if all(render_number(digits * 10 ** (scale - n), scale, style) == text for (digits, n), text in pairs):
            return style
    return "fixed"


def named_fields(titles: Sequence[str], scales: Sequence[int], units: Mapping[str, str]) -> tuple[Field, ...]:
    """Return schema fields for a table's columns: SenML names made from the titles, the titles as labels.

    Raises:
        InputError: ``units`` names a column that is not there.
    """
    if unknown := set(units) - set(titles):
        raise InputError(f"units are given for columns that are not there: {', '.join(sorted(unknown))}")
    names: list[str] = []
    for number, title in enumerate(titles, 1):
        name = re.sub(r"[^A-Za-z0-9\-:./_]+", "_", title).lstrip("-:./_")[:56] or f"value{number}"
        names.append(name if name not in names else f"{name}_{number}")
    labels = ["" if title == name else _label(title) for title, name in zip(titles, names, strict=True)]
    columns = zip(titles, names, scales, labels, strict=True)
    return tuple(
        Field(name, unit=units.get(title, ""), scale=scale, label=label) for title, name, scale, label in columns
    )


def _label(title: str) -> str:
    return "".join(character if character.isprintable() else " " for character in title)[:128]
