"""``pyiot data``, the seller's side: sell, serve, resell, cancel, withdraw."""

from pathlib import Path
from typing import Annotated

import typer

from pyiot_evm.cli import documents
from pyiot_evm.cli.data_options import (
    Again,
    Blob,
    Bond,
    Bundle,
    Copies,
    Description,
    DisputeWindow,
    Expires,
    Licence,
    Offer,
    Only,
    Price,
    Private,
    PublicUrl,
    RevealWindow,
    Royalty,
    Tags,
    TimeColumn,
    Title,
    Units,
    column_unit,
    duration,
    nouns,
)
from pyiot_evm.cli.data_session import bought_offer, licence_of, own_sale, serving
from pyiot_evm.cli.ids import account_address
from pyiot_evm.cli.loops import Told
from pyiot_evm.cli.options import CHAIN, KEYS, QUIET, SENDS, TOKEN, As, command
from pyiot_evm.cli.session import Session

__all__: list[str] = []

SourceFile = Annotated[Path, typer.Argument(metavar="FILE", help="A CSV or Parquet table, or any other file.")]
Once = Annotated[bool, typer.Option("--once", help="Answer what is open now, and end.")]
TakeOut = Annotated[bool, typer.Option("--withdraw", help="Take out what was earned after each settlement.")]
Bought = Annotated[
    str, typer.Argument(metavar="OFFER", help="The id of an offer that NAME bought, or any unique beginning of it.")
]
To = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Who gets it; NAME's own account when left out.")]
Sum = Annotated[str | None, typer.Option("--amount", metavar="AMOUNT", help="How much; everything when left out.")]


@command(nouns, "sell", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def sell(
    session: Session,
    *,
    file: SourceFile,
    name: As,
    price: Price,
    title: Title = "",
    description: Description = "",
    tag: Tags = None,
    copies: Copies = 0,
    bundle: Bundle = "",
    public_url: PublicUrl = "",
    bond: Bond = "0",
    royalty: Royalty = "0",
    audience: Only = None,
    private: Private = False,
    expires: Expires = None,
    licence: Licence = "",
    reveal_window: RevealWindow = "30m",
    dispute_window: DisputeWindow = "1h",
    time_column: TimeColumn = None,
    unit: Units = None,
    blob: Blob = False,
    again: Again = False,
) -> None:
    """Put a table or a file on sale.

    A table's rows are signed by NAME's device key, one reading a row; a row that is not what was signed gives the buyer
    its money back. The device is registered when it must be. Any other file is sold in chunks: the buyer gets exactly
    that file. Run `pyiot data serve` as the same NAME, so that buyers get the key.

    The same command again goes on where it was stopped, and lists once.

    Example:
        pyiot data sell occupancy_6005.csv --as sensor --price 0.50
        pyiot data sell rig.parquet --as rig --price 12 --copies 5 --royalty 10
    """
    machine = session.machine(name)
    sale = machine.sell(
        file,
        price=price,
        title=title,
        description=description,
        tags=tag or (),
        licence=licence_of(licence),
        copies=copies,
        bond=bond,
        royalty=royalty,
        audience=None if audience is None else account_address(session, audience),
        private=private,
        reveal_window=duration(reveal_window),
        dispute_window=duration(dispute_window),
        lifetime=None if expires is None else duration(expires),
        bundle=bundle if not session.dry_run else "",
        public_url=public_url or bundle,
        units=dict(map(column_unit, unit or ())),
        time_column=time_column,
        blob=blob,
        again=again,
        serve=False,
    )
    session.output.show(documents.listing(session.chain, sale))
    session.output.say(f"next: pyiot data serve --as {name}")


@command(nouns, "serve", CHAIN, TOKEN, SENDS, KEYS)
def serve(session: Session, *, name: As, once: Once = False, withdraw: TakeOut = False) -> None:
    """Answer the orders of everything that NAME sells, until stopped.

    Reveals each paid order's key to its buyer (once the payment has its confirmations), refunds what cannot be
    revealed, settles after the dispute window. Ctrl-C or SIGTERM ends it; started again it goes on where it was. Two
    of them on one account do no harm. With --json each act is a JSON object on a line of its own, as it is done; with
    --once all are one object in the end.

    Example:
        pyiot data serve --as sensor
        pyiot data serve --as sensor --once --json
    """
    machine = session.machine(name, selling=serving(withdraw=withdraw))
    session.output.say(f"answering the orders of {name} on network {session.chain.network}")
    told = Told(session.output, once=once)
    with session.reporting(lambda found: told.tell(documents.action(found), documents.action_line(found))) as (
        stop,
        report,
    ):
        machine.serve(once=once, stop=stop, report=report)
    told.end({"seller": str(machine.address)}, "nothing is open")


@command(nouns, "resell", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def resell(
    session: Session,
    *,
    offer: Bought,
    name: As,
    price: Price,
    bundle: Bundle = "",
    public_url: PublicUrl = "",
    private: Private = False,
    expires: Expires = None,
) -> None:
    """Sell on what NAME bought: the data token and, with it, the key.

    The token waits in the market's custody from the buy on; NAME reveals (run `pyiot data serve`), and the first
    seller gets its royalty. Buyers fetch the bundle where NAME did, unless --bundle says otherwise.

    Example:
        pyiot data resell 0x3fa9c1d2 --as buyer --price 0.40
    """
    machine = session.machine(name)
    sale = machine.resell(
        bought_offer(machine.market, offer),
        price=price,
        lifetime=None if expires is None else duration(expires),
        private=private,
        bundle=bundle if not session.dry_run else "",
        public_url=public_url or bundle,
        serve=False,
    )
    session.output.show(documents.listing(session.chain, sale))
    session.output.say(f"next: pyiot data serve --as {name}")


@command(nouns, "cancel", CHAIN, TOKEN, SENDS, KEYS)
def cancel(session: Session, *, offer: Offer, name: As) -> None:
    """Take an offer or a resale back: nobody can order it any more; open orders go on.

    Example:
        pyiot data cancel 0x3fa9c1d2 --as sensor
    """
    machine = session.machine(name)
    session.output.show(documents.listing(session.chain, machine.cancel(own_sale(machine.market, offer))))


@command(nouns, "withdraw", CHAIN, TOKEN, SENDS, KEYS)
def withdraw(session: Session, *, name: As, amount: Sum = None, to: To = None) -> None:
    """Take NAME's money out of the market: what was earned, refunded or won.

    Example:
        pyiot data withdraw --as sensor
    """
    machine = session.machine(name)
    before = machine.credit()
    taken = machine.withdraw(amount, to=None if to is None else account_address(session, to))
    session.output.show(documents.withdrawal(session.chain, machine, taken, before))
