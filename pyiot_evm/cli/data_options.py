"""The options of ``pyiot data``, each said once, and how their texts are read."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Optional

import typer

from pyiot_evm.cli.root import HelpfulGroup
from pyiot_evm.exceptions import InputError

# Typer reads these annotations when it builds the commands: ``Optional`` and ``List`` stand for what they are.
# ruff: noqa: UP045

__all__ = ["column_unit", "duration", "instant", "nouns"]

nouns = typer.Typer(cls=HelpfulGroup, help="Sell, find, buy and check data sets.", no_args_is_help=True)

_DURATION = re.compile(r"(\d+)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MILLISECONDS = 1000


def duration(text: str) -> int:
    """Read a length of time like ``90s``, ``30m``, ``12h``, ``7d`` or ``2w``; return seconds.

    Raises:
        InputError: It is none.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise InputError(f"not a length of time: {text!r}", hint="write it like 90s, 30m, 12h, 7d or 2w")
    return int(match[1]) * _SECONDS[match[2]]


def instant(text: str) -> int:
    """Read an ISO 8601 date or time, UTC where it says nothing else; return Unix milliseconds.

    Raises:
        InputError: It is none.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InputError(f"not a time: {text!r}", hint="write it like 2015-09-01 or 2015-09-01T13:45:00Z") from error
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * _MILLISECONDS)


def column_unit(text: str) -> tuple[str, str]:
    """Read ``column=unit``.

    Raises:
        InputError: It has no ``=``.
    """
    column, mark, unit = text.partition("=")
    if not mark or not column.strip() or not unit.strip():
        raise InputError(f"not a column's unit: {text!r}", hint="write it like value=Cel (units of RFC 8428)")
    return column.strip(), unit.strip()


Offer = Annotated[
    str,
    typer.Argument(metavar="OFFER", help="An offer's or resale's id, any unique beginning of it, or an offer file."),
]
OrderRef = Annotated[str, typer.Argument(metavar="ORDER", help="An order's id, or any unique beginning of it.")]
Price = Annotated[str, typer.Option(metavar="AMOUNT", help="The price in whole tokens, like 0.50; 0 gives it away.")]
Title = Annotated[str, typer.Option(metavar="TEXT", help="One line for the catalog; the file's name when left out.")]
Description = Annotated[str, typer.Option(metavar="TEXT", help="What buyers should know.")]
Tags = Annotated[Optional[list[str]], typer.Option("--tag", metavar="WORD", help="A word to find it by.")]
Copies = Annotated[int, typer.Option(metavar="N", min=0, help="How many may be sold; 0 is no limit.")]
Bundle = Annotated[
    str, typer.Option("--bundle", metavar="URL", help="Where the bundle is written; below $PYIOT_HOME when left out.")
]
PublicUrl = Annotated[
    str, typer.Option("--public-url", metavar="URL", help="Where buyers fetch it, when that is another address.")
]
Bond = Annotated[
    str, typer.Option(metavar="AMOUNT", help="What a cheated buyer gets on top of the refund; it is locked meanwhile.")
]
Royalty = Annotated[str, typer.Option(metavar="PERCENT", help="Your part of each resale's price, at most 50.")]
Only = Annotated[
    Optional[str], typer.Option("--for", metavar="ADDRESS", help="The only account that may buy; anyone when left out.")
]
Private = Annotated[
    bool, typer.Option("--private", help="List nothing on chain: write a signed offer file to hand to the buyer.")
]
Expires = Annotated[
    Optional[str], typer.Option("--expires", metavar="TIME", help="How long it can be bought, like 12h or 30d.")
]
Licence = Annotated[str, typer.Option(metavar="TEXT", help="The licence's name, like CC-BY-4.0.")]
RevealWindow = Annotated[str, typer.Option(metavar="TIME", help="How long you have to answer an order: 5m to 30d.")]
DisputeWindow = Annotated[
    str, typer.Option(metavar="TIME", help="How long a buyer has to show a wrong row: 5m to 30d.")
]
TimeColumn = Annotated[
    Optional[str], typer.Option(metavar="COLUMN", help="The column of times; found by its title when left out.")
]
Units = Annotated[
    Optional[list[str]], typer.Option("--unit", metavar="COLUMN=UNIT", help="A column's SenML unit, like value=Cel.")
]
Blob = Annotated[bool, typer.Option("--blob", help="Sell a table as the file that it is, not as readings.")]
Again = Annotated[bool, typer.Option("--again", help="Do it once more, instead of going on with what was begun.")]
Out = Annotated[
    Path,
    typer.Option(metavar="FILE", help="Where the data is written: .csv or .parquet; a file's own kind for a blob."),
]
MaxPrice = Annotated[
    Optional[str], typer.Option("--max-price", metavar="AMOUNT", help="Refuse a dearer sale, in whole tokens.")
]
MinPrice = Annotated[Optional[str], typer.Option("--min-price", metavar="AMOUNT", help="Leave out what is cheaper.")]
Timeout = Annotated[
    Optional[str], typer.Option(metavar="TIME", help="Stop waiting after this long; the same command goes on then.")
]
AllowDir = Annotated[
    Optional[list[Path]],
    typer.Option(
        "--allow-dir", metavar="DIR", help="Read bundles from this folder too: listings are strangers' words."
    ),
]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private-hosts", help="Fetch bundles from addresses of this network and computer too.")
]
Tag = Annotated[str, typer.Option("--tag", metavar="WORD", help="Only with this tag.")]
Seller = Annotated[Optional[str], typer.Option("--seller", metavar="ADDRESS", help="Only of this seller.")]
Device = Annotated[Optional[str], typer.Option("--device", metavar="ID", help="Only of this device.")]
Since = Annotated[Optional[str], typer.Option("--since", metavar="TIME", help="Only data that goes on after this.")]
Until = Annotated[Optional[str], typer.Option("--until", metavar="TIME", help="Only data that begins before this.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="How many at most, newest first.")]
