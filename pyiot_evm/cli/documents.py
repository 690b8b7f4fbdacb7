"""What commands show of the SDK's results: documents that ``--json`` prints and people read.

Prices stand in whole tokens with the token's symbol; a token that is not the chain's own payment token is named by its
address too, because anyone can call a token DUSD.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyiot_evm.cli.output import amount, clock, short
from pyiot_evm.exceptions import ConfigurationError, ConsistencyError, ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal
    from pathlib import Path

    from pyiot_evm.chain import Chain
    from pyiot_evm.machine import Machine
    from pyiot_evm.market.buyer import Target
    from pyiot_evm.market.catalog import CatalogEntry
    from pyiot_evm.market.inspector import Inspection
    from pyiot_evm.market.purchases import Purchase
    from pyiot_evm.market.results import Listing, OrderView, Transaction
    from pyiot_evm.market.seller import Action
    from pyiot_evm.types import Address

__all__ = [
    "action",
    "action_line",
    "entry",
    "entry_row",
    "inspection",
    "listing",
    "money",
    "order",
    "order_row",
    "paid_line",
    "purchase",
    "target_line",
    "terms",
    "transactions",
    "withdrawal",
]

_MILLISECONDS = 1000


def money(chain: Chain, token: Address, units: int) -> str:
    """Write an amount of a token for people."""
    try:
        info = chain.token_info(token)
    except (ConsistencyError, ContractError):
        return f"{units} units of {token}"
    text = amount(info.from_units(units), info.symbol[:12])
    return text if _is_own(chain, token) else f"{text} ({short(token)})"


def _is_own(chain: Chain, token: Address) -> bool:
    try:
        return chain.token == token
    except ConfigurationError:
        return False


def transactions(found: Iterable[Transaction]) -> list[dict[str, Any]]:
    """Return what each transaction was for, its hash and its gas."""
    return [{"purpose": item.purpose, "gas": item.gas, "hash": item.hash} for item in found]


def listing(chain: Chain, found: Listing) -> dict[str, Any]:
    """Return what is shown of a sale of one's own."""
    return {
        "offer_id": str(found.offer_id),
        **({} if found.resale is None else {"resale_id": str(found.sale_id)}),
        "state": found.state,
        "title": found.title,
        "rows": found.rows,
        "price": money(chain, found.token, found.price),
        "price_units": found.price,
        "token": str(found.token),
        "seller": str(found.seller),
        "uri": found.uri,
        "bundle": str(found.bundle),
        "offer_file": None if found.file is None else str(found.file),
        "transactions": transactions(found.transactions),
    }


def entry(chain: Chain, found: CatalogEntry) -> dict[str, Any]:
    """Return what is shown of a listing in the catalog."""
    return {
        "offer_id": str(found.offer_id),
        **({} if found.resale is None else {"resale_id": str(found.sale_id)}),
        "title": found.title,
        "tags": list(found.tags),
        "price": money(chain, found.token, found.price),
        "price_units": found.price,
        "token": str(found.token),
        "rows": found.rows,
        "first_time": clock(found.first_time / _MILLISECONDS),
        "last_time": clock(found.last_time / _MILLISECONDS),
        "seller": str(found.seller),
        "device": str(found.device) if any(found.device) else None,
        "uri": found.uri,
        "expires": None if found.expiry >= _NEVER else clock(found.expiry),
        "block": found.block,
        "cancelled": found.cancelled,
    }


_NEVER = 1 << 39


def entry_row(chain: Chain, found: CatalogEntry) -> dict[str, Any]:
    """Return a listing with what a table shows beside it."""
    kind = "resale" if found.resale else "data"
    return entry(chain, found) | {"id": short(found.sale_id), "kind": kind, "from": clock(found.first_time / 1000)[:10]}


def terms(chain: Chain, found: CatalogEntry) -> dict[str, Any]:
    """Return the offer's terms that a listing's line leaves out."""
    offer = found.offer
    return {
        "kind": "readings" if any(offer.rule) else "file",
        "copies": offer.supply or "unlimited",
        "royalty": f"{offer.royalty_bps / 100:g} %",
        "bond": money(chain, offer.token, offer.bond) if offer.bond else None,
        "audience": str(offer.audience) if any(offer.audience) else None,
        "reveal_window": offer.reveal_window,
        "dispute_window": offer.dispute_window,
    }


def order(chain: Chain, found: OrderView) -> dict[str, Any]:
    """Return what is shown of an order."""
    return {
        "order_id": str(found.order_id),
        "offer_id": str(found.offer_id),
        "role": found.role,
        "state": found.state,
        "price": money(chain, found.token, found.price),
        "price_units": found.price,
        "token": str(found.token),
        "buyer": str(found.buyer),
        "seller": str(found.seller),
        "deadline": clock(found.deadline),
        "transactions": transactions(found.transactions),
    }


def order_row(chain: Chain, found: OrderView) -> dict[str, Any]:
    """Return an order with what a table shows beside it."""
    until = clock(found.deadline)[:16] if found.state in ("paid", "revealed") else ""
    return order(chain, found) | {"id": short(found.order_id), "offer": short(found.offer_id), "until": until}


def action(found: Action) -> dict[str, Any]:
    """Return what is shown of something that the seller's loop did."""
    return {
        "state": found.kind,
        "order_id": None if found.order_id is None else str(found.order_id),
        "transactions": [{"purpose": found.kind, "gas": found.gas, "hash": found.transaction}]
        if found.transaction
        else [],
        "error": None if found.error is None else found.error.message,
    }


def action_line(found: Action) -> str:
    """Return something that the seller's loop did as one line."""
    when = datetime.now(UTC).strftime("%H:%M:%SZ")
    subject = f" order {short(found.order_id)}" if found.order_id else ""
    gas = f"  gas {found.gas:,}" if found.gas else ""
    return f"{when}  {found.kind}{subject}{gas}" + (f": {found.error.message}" if found.error else "")


def target_line(chain: Chain, found: Target) -> str:
    """Say what is about to be bought, of whom and for how much."""
    sold = found.resale or found.offer
    seller = found.resale.holder if found.resale else found.offer.seller
    title = found.listed.title if found.listed else "a private sale"
    what = f"{found.offer.leaf_count:,} {'rows' if any(found.offer.rule) else 'chunks'}"
    return f"{title}: {what} for {money(chain, sold.token, sold.price)} from {short(seller)}"


def paid_line(chain: Chain, found: OrderView) -> str:
    """Say what was paid and how long the seller has to answer."""
    if found.state != "paid":
        return f"order {short(found.order_id)} is {found.state}"
    price = money(chain, found.token, found.price)
    return (
        f"paid {price}, order {short(found.order_id)}; the seller has until {clock(found.deadline)} to reveal the key"
    )


def purchase(chain: Chain, found: Purchase, out: Path) -> dict[str, Any]:
    """Return what is shown of what was bought."""
    return {
        "order_id": str(found.order_id),
        "offer_id": str(found.offer_id),
        **({} if found.resale is None else {"resale_id": str(found.sale_id)}),
        "state": found.state,
        "rows": found.rows,
        "price": money(chain, found.token, found.price),
        "price_units": found.price,
        "token": str(found.token),
        "seller": str(found.seller),
        "file": str(out),
        "transactions": transactions(found.transactions),
    }


def inspection(found: Inspection) -> dict[str, Any]:
    """Return what is shown of a bundle that was checked."""
    metadata = found.metadata
    return {
        "offer_id": str(found.sale_id),
        "state": "verified",
        "kind": found.kind,
        "title": metadata.title,
        "rows": found.rows,
        "first_time": clock(metadata.first_time / _MILLISECONDS),
        "last_time": clock(metadata.last_time / _MILLISECONDS),
        "device": str(found.device) if any(found.device) else None,
        "bundle": str(found.bundle),
    }


def withdrawal(chain: Chain, machine: Machine, taken: Transaction | None, before: Decimal) -> dict[str, Any]:
    """Return what is shown of a withdrawal."""
    symbol = chain.token_info().symbol
    left = machine.credit() if taken else before
    return {
        "withdrawn": amount(before - left, symbol),
        "left": amount(left, symbol),
        "transactions": transactions([taken] if taken else []),
    }
