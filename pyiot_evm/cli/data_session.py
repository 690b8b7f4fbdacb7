"""What the commands of ``pyiot data`` share: opening the market, and reading ids, prices and policies from texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyiot_evm.cli.ids import find_id
from pyiot_evm.types import Address, DeviceId, OrderId, SaleId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyiot_evm.cli.session import Session
    from pyiot_evm.market.buyer import BuyerPolicy, Target
    from pyiot_evm.market.catalog import Query
    from pyiot_evm.market.facade import Market
    from pyiot_evm.market.inspector import Inspection
    from pyiot_evm.market.metadata import Licence
    from pyiot_evm.market.seller import SellerPolicy
    from pyiot_evm.types import OfferId

__all__ = [
    "bought_offer",
    "buying",
    "check_ending",
    "inspect",
    "licence_of",
    "open_market",
    "order_id",
    "own_sale",
    "query",
    "sale_id",
    "sale_reference",
    "serving",
    "units",
]

_ALL = 1_000_000
_HINT = "`pyiot data list` and `pyiot data orders` show them"


def open_market(
    session: Session, name: str | None = None, *, allow_dir: Iterable[Path] | None = None, allow_private: bool = False
) -> Market:
    """Open the market, as a name's account where one is given.

    Args:
        session: The command's session.
        name: Whose account trades; without one the market can be searched only.
        allow_dir: Folders from which bundles may be read, beside the home's own.
        allow_private: Whether bundles may be fetched from addresses of this network and computer.
    """
    from pyiot_evm.market.facade import Market  # noqa: PLC0415 - not for `--help`

    policy = Market(session.chain).fetching
    for folder in [*(allow_dir or ()), *session.own_bundles()]:
        policy = policy.with_root(folder.expanduser())
    if allow_private:
        policy = replace(policy, allow_private_hosts=True)
    if name is not None:
        return session.machine(name, fetching=policy).market
    return session.opened(Market(session.chain, fetching=policy, progress=session.output.progress))


def query(session: Session, **wanted: Any) -> Query:
    """Read what is looked for: addresses, ids and prices in whole tokens; what has expired is left out.

    Raises:
        InputError: One of them is none.
    """
    from pyiot_evm.market.catalog import Query  # noqa: PLC0415 - not for `--help`

    for name in ("min_price", "max_price"):
        wanted[name] = units(session, wanted[name])
    if wanted["min_price"] is not None or wanted["max_price"] is not None:
        wanted["token"] = session.chain.token
    wanted["seller"] = None if wanted["seller"] is None else Address(wanted["seller"])
    wanted["device"] = None if wanted["device"] is None else DeviceId(wanted["device"])
    return Query(now=None if wanted["cancelled"] else session.chain.now(), **wanted)


def buying(session: Session, *, max_price: str | None, timeout: int | None) -> BuyerPolicy:
    """Return how a purchase pays and waits."""
    from pyiot_evm.market.buyer import BuyerPolicy  # noqa: PLC0415 - not for `--help`

    token = None if max_price is None else session.chain.token
    return BuyerPolicy(max_price=units(session, max_price), token=token, timeout=timeout)


def check_ending(target: Target, file: Path) -> None:
    """Check, before anything is paid, that readings can be written to a file of this name.

    Raises:
        InputError: Its ending is not one of a table.
        ConfigurationError: Nothing here writes Parquet.
    """
    from pyiot_evm.market.datasets import check_table_name  # noqa: PLC0415 - not for `--help`

    if any(target.offer.rule):
        check_table_name(file)


def units(session: Session, price: str | None) -> int | None:
    """Read a price in whole tokens of the chain's payment token; return base units."""
    return None if price is None else session.chain.token_info().to_units(price)


def sale_id(market: Market, text: str) -> SaleId:
    """Read an offer's or a resale's id, or find the one that begins like this.

    Raises:
        InputError: It is no id, or none or more than one of what is listed begins like this.
    """
    from pyiot_evm.market.catalog import Query  # noqa: PLC0415 - not for `--help`

    def listed() -> list[SaleId]:
        return [found.sale_id for found in market.search(Query(cancelled=True, limit=_ALL))]

    return SaleId(find_id("offer", text, listed, hint=_HINT))


def sale_reference(market: Market, text: str) -> SaleId | Path:
    """Read what names a sale: an offer file's path, an id, or the beginning of one."""
    path = Path(text).expanduser()
    return path if path.is_file() else sale_id(market, text)


def order_id(market: Market, text: str) -> OrderId:
    """Read an order's id, or find the one of this account that begins like this.

    Raises:
        InputError: It is no id, or none or more than one of this account's orders begins like this.
    """
    return OrderId(find_id("order", text, lambda: [found.order_id for found in market.orders()], hint=_HINT))


def own_sale(market: Market, text: str) -> SaleId:
    """Read the id of a sale of one's own, listed or private."""
    return SaleId(find_id("sale", text, lambda: [sale.sale_id for sale in market.listings()], hint=_HINT))


def bought_offer(market: Market, text: str) -> SaleId:
    """Read the id of an offer that this account bought."""

    def bought() -> list[OfferId]:
        return [order.offer_id for order in market.orders() if order.role == "buyer" and order.state == "settled"]

    return SaleId(find_id("bought offer", text, bought, hint=_HINT))


def inspect(market: Market, text: str) -> Inspection:
    """Check a bundle file or URL, or the bundle of a listed sale."""
    path = Path(text).expanduser()
    if path.exists() or "://" in text:
        return market.inspector.check_file(path.resolve() if path.exists() else text)
    return market.verify(sale_id(market, text))


def licence_of(name: str) -> Licence:
    """Return a licence that has only a name."""
    from pyiot_evm.market.metadata import Licence  # noqa: PLC0415 - not for `--help`

    return Licence(name=name)


def serving(*, withdraw: bool) -> SellerPolicy:
    """Return how a seller answers."""
    from pyiot_evm.market.seller import SellerPolicy  # noqa: PLC0415 - not for `--help`

    return SellerPolicy(withdraw=withdraw)
