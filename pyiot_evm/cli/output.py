"""What people and programs see: tables that fit the terminal, one JSON object, progress, a sparkline.

stdout is data, stderr is talk. A command hands over one document; with ``--json`` that is what is printed, else the
command's own text or table. Whatever came from a stranger is made harmless before it reaches a terminal.

Example:
    >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7])
    '▁▂▃▄▅▆▇█'
    >>> short("0x" + "ab" * 32)
    '0xabababab'
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import textwrap
import threading
import time
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Context, Decimal
from typing import TYPE_CHECKING, Any

import typer

from pyiot_evm.cli.root import NotWrittenError, plain, printable, styled
from pyiot_evm.exceptions import PyIotEvmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["Output", "amount", "clock", "fit", "hanging", "short", "sparkline", "table", "talk_plainly"]

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-=+*#@"
_GAP = "  "
_ELLIPSIS = "…"
_SHORT = 10
_MOST_UNNAMED = 4  # columns that explain themselves
_TICK = 0.5
_SOON = 0.3
_BAR = 24
_IDS = ("resale_id", "offer_id", "rental_id", "terms_id", "arbiter")
_FILES = ("file", "offer_file")
_TIMES = ("withdrawable_at", "claim_until", "ends_at", "made_at", "good_until")
_FOR_PROGRAMS = ("price_units", "window_seconds", "token", "signer")


class Output:
    """One command's output.

    Args:
        json: Whether stdout gets one JSON object instead of text.
        quiet: Whether stdout gets ids alone.
        muted: Whether results are dropped: a dry run has none.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, muted: bool = False) -> None:
        self.json = json
        self._quiet = quiet
        self._muted = muted
        self._task = ""
        self._started = 0.0
        self._told = False
        self._waiting = threading.Event()
        self._waiting.set()

    def show(self, document: Mapping[str, Any], *lines: str) -> None:
        """Print the command's result.

        Args:
            document: What ``--json`` prints; bytes and decimals become text.
            *lines: What people read instead; the document's fields when there are none.
        """
        if self._muted:
            return
        if self.json:
            typer.echo(json.dumps(document, default=plain))
            return
        for line in [_id_of(document)] if self._quiet else lines or fields(document):
            typer.echo(line)

    def show_written(
        self,
        document: Mapping[str, Any],
        write: Callable[[], object] | None,
        *,
        lines: Sequence[str] = (),
        unwritten: Sequence[str] = (),
    ) -> None:
        """Write a result's file and print the result; print it too where the file cannot be written.

        For commands whose result exists only once: money moved, or a device signed. A dry run writes nothing.

        Args:
            document: What ``--json`` prints.
            write: Writes the file; ``None`` where none is asked for.
            lines: What people read; the document's fields when there are none.
            unwritten: What they read instead where there is no file.

        Raises:
            NotWrittenError: There is no file; it carries the document for ``--json``.
        """
        if self._muted:
            return
        try:
            if write is not None:
                write()
        except (OSError, PyIotEvmError) as error:
            shown = {key: value for key, value in document.items() if key not in _FILES}
            if not self.json:
                self.show(shown, *(unwritten or lines))
            raise NotWrittenError(error, shown) from error
        self.show(document, *(unwritten if write is None and unwritten else lines))

    def show_rows(self, name: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], empty: str) -> None:
        """Print a list: a table for people, ``{name: [...]}`` for programs.

        Args:
            name: The list's key in the JSON object.
            rows: Its members, whole.
            columns: What the table shows: a heading for each key of a row.
            empty: What to tell people when there is nothing.
        """
        if self.json:
            self.show({name: list(rows)})
        elif self._quiet:
            for row in rows:
                typer.echo(_id_of(row))
        elif rows:
            for line in table(
                [[_cell(row.get(key), grouped=True) for key in columns] for row in rows], list(columns.values())
            ):
                typer.echo(line)
        else:
            self.say(empty)

    def line(self, text: str) -> None:
        """Print one line of a result that comes bit by bit."""
        typer.echo(printable(text))

    def end(self, document: Mapping[str, Any], text: str = "") -> None:
        """End a command that printed its result line by line: programs get it as a whole, people a last word."""
        if self.json:
            self.show(document)
        elif text:
            self.say(text)

    def say(self, text: str) -> None:
        """Tell people something that is no result: on stderr."""
        typer.echo(printable(text), err=True)

    def done(self, text: str) -> None:
        """Tell people that a step is done."""
        typer.echo(f"{styled('✓' if _unicode(sys.stderr) else '*', fg='green')} {printable(text)}", err=True)

    @contextmanager
    def waiting(self, label: str) -> Iterator[None]:
        """Say that something is waited for, on stderr; on a terminal with a clock that runs."""
        if not sys.stderr.isatty():
            self.say(f"{label} …")
            yield
            return
        self._waiting = stop = threading.Event()
        started = time.monotonic()

        def tick() -> None:
            while not stop.wait(_TICK):
                typer.echo(f"\r{label} … {time.monotonic() - started:.0f} s", err=True, nl=False)

        clock_thread = threading.Thread(target=tick, daemon=True)
        clock_thread.start()
        try:
            yield
        finally:
            if not stop.is_set():
                typer.echo("\r" + " " * 60 + "\r", err=True, nl=False)
            stop.set()
            clock_thread.join()

    def progress(self, task: str, done: int, total: int) -> None:
        """Show on stderr how far a task has come that takes a while: a bar on a terminal, one line elsewhere.

        Args:
            task: What is being done; another one begins a new bar.
            done: How many leaves are done.
            total: How many there are.
        """
        if task != self._task:
            self._task, self._started, self._told = task, time.monotonic(), False
        on_terminal = sys.stderr.isatty()
        if not self._told and time.monotonic() - self._started < (_SOON if on_terminal else 1.0):
            return
        if on_terminal:
            self._draw(task, done, total)
        elif not self._told:
            self.say(f"{task} …")
        self._told = True

    def _draw(self, task: str, done: int, total: int) -> None:
        if not self._waiting.is_set():
            self._waiting.set()
            typer.echo("\r" + " " * 60, err=True, nl=False)
        bar = ("█" if _unicode(sys.stderr) else "#") * (_BAR * done // max(total, 1))
        end = "\n" if done >= total else ""
        typer.echo(f"\r{task:<22} [{bar:<{_BAR}}] {done:>9,} of {total:,} leaves{end}", err=True, nl=False)


def fields(document: Mapping[str, Any], *, whole: bool = False) -> list[str]:
    """Lay out a document as lines of name and value, values aligned.

    Args:
        document: Names and values; what is empty is left out.
        whole: Whether to show what only programs ask for, too.
    """
    shown = {key: value for key, value in document.items() if whole or key not in _FOR_PROGRAMS}
    shown |= {key: clock(shown[key]) for key in _TIMES if isinstance(shown.get(key), int)}
    rows = [(key.replace("_", " "), value) for key, value in shown.items() if value not in (None, "", [], {})]
    width = max((len(key) for key, _ in rows), default=0)
    lines = []
    room = max(terminal_width() - width - len(_GAP), 0)
    for key, value in rows:
        parts = fields(value, whole=whole) if isinstance(value, dict) else _parts(value, room)
        lines.append(f"{styled(key.ljust(width), dim=True)}{_GAP}{parts[0]}")
        lines += [" " * width + _GAP + part for part in parts[1:]]
    return lines


def table(rows: Sequence[Sequence[str]], headings: Sequence[str], *, width: int | None = None) -> list[str]:
    """Lay out rows in columns; the widest text columns give way until the table fits the terminal.

    Args:
        rows: The cells, row by row.
        headings: One for each column.
        width: The columns of the terminal; without one (a pipe, a file) nothing is cut.
    """
    width = terminal_width() if width is None else width
    cells = [[printable(cell) for cell in row] for row in rows]
    sizes = [max(len(line[i]) for line in [headings, *cells]) for i in range(len(headings))]
    spare = width - len(_GAP) * (len(sizes) - 1)
    while width and sum(sizes) > spare and max(sizes) > _SHORT:
        sizes[sizes.index(max(sizes))] -= 1
    numeric = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(headings))]
    head = _GAP.join(_pad(fit(h, s), s, right=n) for h, s, n in zip(headings, sizes, numeric, strict=True)).rstrip()
    lines = [_GAP.join(_pad(fit(c, s), s, right=n) for c, s, n in zip(r, sizes, numeric, strict=True)) for r in cells]
    return [styled(head, bold=True), *(line.rstrip() for line in lines)]


def terminal_width() -> int:
    """Return the columns of the terminal on stdout; 0 when it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def fit(text: str, width: int) -> str:
    """Cut a text to a width, with an ellipsis where something is missing."""
    return text if len(text) <= width else text[: width - 1] + _ELLIPSIS


def sparkline(values: Iterable[float | Decimal], *, width: int = 60) -> str:
    """Draw a series as one line of bars: the mean of each stretch, from the lowest to the highest."""
    series = [float(value) for value in values]
    count = min(width, len(series))
    means = []
    for i in range(count):
        stretch = series[i * len(series) // count : (i + 1) * len(series) // count]
        means.append(sum(stretch) / len(stretch))
    low, high = min(means, default=0), max(means, default=0)
    bars = _BARS if _unicode(sys.stdout) else _ASCII_BARS
    return "".join(bars[round((m - low) / (high - low) * 7)] if high > low else bars[3] for m in means)


def short(value: object) -> str:
    """Return the first digits of an id; commands take any unique beginning of one."""
    return str(value)[:_SHORT]


def amount(units: Decimal, symbol: str, *, most: int = 18) -> str:
    """Write money: at least two decimals, at most as many as asked for (cut, not rounded up), no exponent."""
    exponent = units.as_tuple().exponent
    digits = min(max(2, -exponent), most) if isinstance(exponent, int) else 2
    return f"{units.quantize(Decimal(1).scaleb(-digits), ROUND_DOWN, Context(prec=100)):f} {symbol}"


def hanging(head: str, text: str, *, indent: int) -> list[str]:
    """Lay out a text beside a head of ``indent`` columns, wrapped to the terminal below its own beginning."""
    width = terminal_width()
    lines = textwrap.wrap(printable(text), max(width - indent, 20), break_on_hyphens=False) if width else []
    first, *rest = lines or [printable(text)]
    return [head + first, *(" " * indent + line for line in rest)]


def clock(seconds: float) -> str:
    """Write a time in UTC, to the second; one that no calendar has stays a number of seconds."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else ""
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def _id_of(document: Mapping[str, Any]) -> str:
    """Return what other commands take to name this."""
    return next(str(document[key]) for key in _IDS if document.get(key))


def _pad(text: str, width: int, *, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "", 1).removeprefix("-").isdigit()


def _cell(value: Any, *, grouped: bool = False) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return f"{value:,}" if grouped and isinstance(value, int) else plain(value)


def _parts(value: Any, room: int) -> list[str]:
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        if len(value[0]) > _MOST_UNNAMED or any(isinstance(item, dict) for item in value[0].values()):
            return [line for row in value for line in fields(row, whole=True)]
        rows = [[_cell(item, grouped=True) for item in row.values()] for row in value]
        return table(rows, [""] * len(rows[0]), width=room)[1:]
    return printable(_cell(value)).splitlines() or [""]


def _unicode(stream: Any) -> bool:
    return (getattr(stream, "encoding", "") or "").lower().replace("-", "").startswith("utf")


class _Handler(logging.Handler):
    """Prints what the SDK logs as one harmless line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"{record.levelname.lower()}: {printable(record.getMessage())}", err=True)


def talk_plainly(*, debug: bool) -> None:
    """Print warnings and what the SDK logs as plain lines on stderr.

    Args:
        debug: Whether to print everything that it logs, not only warnings.
    """
    logging.basicConfig(handlers=[_Handler()], level=logging.DEBUG if debug else logging.WARNING)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        typer.echo(f"warning: {printable(str(message))}", err=True)

    warnings.showwarning = show
