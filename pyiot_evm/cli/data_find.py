"""``pyiot data``, for everybody: list, show and verify what is for sale. No key is needed."""

from typing import Annotated, Any

import typer

from pyiot_evm.cli import documents
from pyiot_evm.cli.data_options import (
    AllowDir,
    AllowPrivate,
    Device,
    Limit,
    MaxPrice,
    MinPrice,
    Offer,
    Seller,
    Since,
    Tag,
    Until,
    instant,
    nouns,
)
from pyiot_evm.cli.data_session import inspect, open_market, query, sale_id
from pyiot_evm.cli.options import CHAIN, QUIET, TOKEN, command
from pyiot_evm.cli.session import Session

__all__: list[str] = []

Words = Annotated[
    list[str] | None, typer.Argument(metavar="WORD", help="Words of the title or the tags; all must fit.")
]
Watch = Annotated[bool, typer.Option("--watch", help="Go on, and show each new listing as it comes.")]
Everything = Annotated[bool, typer.Option("--all", help="What was cancelled or has expired, too.")]
BundleFile = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's path or URL, or an offer's id.")]
_COLUMNS = {"id": "OFFER", "title": "TITLE", "rows": "ROWS", "from": "FROM", "price": "PRICE", "kind": "KIND"}


@command(nouns, "list", CHAIN, TOKEN, QUIET)
def list_(
    session: Session,
    *,
    words: Words = None,
    tag: Tag = "",
    seller: Seller = None,
    device: Device = None,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    limit: Limit = 100,
    watch: Watch = False,
) -> None:
    """List what is for sale, newest first.

    Read from the chain's own logs into a catalog on this computer: there is no server to ask, and a listing shows in
    the block that brought it. Titles and tags are the seller's words; `pyiot data verify OFFER` checks them against the
    bundle. With --watch and --json each listing is one object on a line of its own.

    Example:
        pyiot data list occupancy --tag traffic --max-price 1.00
        pyiot data list --watch
    """
    wanted = query(
        session,
        text=" ".join(words or ()),
        tag=tag,
        seller=seller,
        device=device,
        min_price=min_price,
        max_price=max_price,
        since=None if since is None else instant(since),
        until=None if until is None else instant(until),
        cancelled=everything,
        limit=limit,
    )
    market = open_market(session)
    if watch:
        with session.stop_signal() as stop:
            for found in market.watch(wanted, stopped=stop.is_set):
                show_one(session, documents.entry_row(session.chain, found))
        return
    rows = [documents.entry_row(session.chain, found) for found in market.search(wanted)]
    session.output.show_rows("offers", rows, _COLUMNS, "nothing is for sale that fits")


def show_one(session: Session, row: dict[str, Any]) -> None:
    """Print one new listing as a line."""
    session.output.show(row, f"{row['id']}  {row['price']:>14}  {row['rows']:>9,}  {row['title']}")


@command(nouns, "show", CHAIN, TOKEN)
def show(session: Session, *, offer: Offer) -> None:
    """Show one offer or resale: its terms, its seller, where its bundle lies.

    Example:
        pyiot data show 0x3fa9c1d2
    """
    market = open_market(session)
    found = market.get(sale_id(market, offer))
    session.output.show(documents.entry(session.chain, found) | documents.terms(session.chain, found))


@command(nouns, "verify", CHAIN, TOKEN)
def verify(
    session: Session, bundle: BundleFile, allow_dir: AllowDir = None, allow_private_hosts: AllowPrivate = False
) -> None:
    """Check a bundle as a buyer does before paying.

    Rebuilds the sealed root from every leaf, holds the metadata, the rule's parameters and the offer's terms against
    it, and asks the registry whether the device's key was the device's at those times. Given an offer's id, the
    listing's own words are checked too. Exits 1 and says what does not hold.

    Example:
        pyiot data verify occupancy.pyiot
        pyiot data verify 0x3fa9c1d2
    """
    market = open_market(session, allow_dir=allow_dir, allow_private=allow_private_hosts)
    session.output.show(documents.inspection(inspect(market, bundle)))
