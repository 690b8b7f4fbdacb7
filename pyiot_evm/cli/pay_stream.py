"""Buying readings one by one: ``pyiot pay stream``."""

import json
import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyiot_evm.cli import pay_options as shared
from pyiot_evm.cli.options import CHAIN, KEYS, TOKEN, As, command
from pyiot_evm.cli.pay_options import nouns
from pyiot_evm.cli.session import Session

if TYPE_CHECKING:
    from pyiot_evm.payment.stream import StreamedReading

__all__: list[str] = []

_MODE = "locked: neither side is ever a reading ahead; plain: each is paid first, so you can lose one reading's price."


@command(nouns, "stream", CHAIN, TOKEN, KEYS)
def stream(
    session: Session,
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="The gateway, or a device there: …/v1/devices/0x….")],
    name: As,
    most: Annotated[str, typer.Option("--max", metavar="AMOUNT", help="What one reading may cost, whole tokens.")],
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="The device, where URL names none.")] = None,
    count: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after this many readings.")] = None,
    mode: Annotated[str, typer.Option(metavar="MODE", help=_MODE)] = "locked",
    start: Annotated[str | None, typer.Option(metavar="SEQ", help="Begin with this reading, or with next.")] = None,
    since: Annotated[int | None, typer.Option(metavar="TIME", min=0, help="Begin here, Unix milliseconds.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for readings to come.")] = True,
    prepay: Annotated[int, typer.Option(metavar="N", min=1, help="Pay in for this many readings at once.")] = 100,
    device_key: Annotated[bool, typer.Option("--device-key", help="Sign vouchers with NAME's device key.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Ask a gateway again that delivered no reading before.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would cost; sign nothing.")] = False,
) -> None:
    """Buy readings one by one over one connection, each paid before the next one comes.

    Each is printed as a line of JSON, with --json too. A stream that broke goes on with the reading that did not come,
    and pays nothing twice. The key of a locked reading may still open garbage: then the stream ends, and one reading's
    price is lost.

    Example:
        pyiot pay stream $URL --as buyer --max 0.001 --count 10
    """
    where: dict[str, Any] = {"start": start, "since": since, "follow": follow, "prepay": prepay}
    how: dict[str, Any] = {"mode": mode, "again": again, "device_key": device_key}
    if dry_run:
        with session.machine(name).stream(url, device, max_price=most, **where, **how) as asked:
            session.output.show(shared.stream_quote_row(session, asked.quote()))
        return
    prices: list[int] = []
    try:
        with session.machine(name).stream(url, device, max_price=most, **where, **how) as readings:
            for reading in islice(readings, count):
                prices.append(reading.price)
                session.output.line(json.dumps(_document(session, reading)))
    finally:  # whether it ended, broke or was interrupted; an error that cost nothing speaks for itself
        if prices or sys.exception() is None:
            session.output.say(_sum(session, prices))


def _sum(session: Session, prices: list[int]) -> str:
    count = "1 reading" if len(prices) == 1 else f"{len(prices)} readings"
    return f"{count} for {shared.money(session, sum(prices))}"


def _document(session: Session, reading: "StreamedReading") -> dict[str, Any]:
    values = {key: str(value) for key, value in reading.values.items()}
    paid = str(session.chain.token_info().from_units(reading.price))
    return {"seq": reading.seq, "time": reading.time, "values": values, "paid": paid}
