"""The journal's rows as the results that the market returns.

Example:
    >>> from pyiot_evm.market import views
    >>> views.__all__
    ['as_on_chain', 'bought', 'listing', 'sold']
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import InputError
from pyiot_evm.market.records import SaleState
from pyiot_evm.market.results import Listing, OrderView

if TYPE_CHECKING:
    from pyiot_evm.market.records import PurchaseRecord, SaleRecord
    from pyiot_evm.market.trader import Trader
    from pyiot_evm.types import OrderId

__all__ = ["as_on_chain", "bought", "listing", "sold"]


def listing(trader: Trader, sale: SaleRecord) -> Listing:
    """Return a sale that is sealed.

    Raises:
        InputError: It is not sealed yet.
    """
    offer, terms = sale.offer, sale.resale or sale.offer
    if offer is None or terms is None or sale.sale_id is None:
        raise InputError(f"sale {sale.key} is not sealed yet")
    is_private = bool(sale.signature)
    return Listing(
        sale_id=sale.sale_id,
        offer_id=trader.offer_id(offer),
        seller=sale.seller,
        state="private" if is_private and sale.state is SaleState.LISTED else sale.state.value,
        title=str(sale.terms.get("title", "")),
        rows=sale.rows,
        price=terms.price,
        token=terms.token,
        uri=sale.uri,
        bundle=Path(sale.bundle),
        offer=offer,
        resale=sale.resale,
        file=trader.offer_path(sale.key) if is_private else None,
        transactions=trader.transactions(sale.sale_id),
    )


def bought(trader: Trader, record: PurchaseRecord) -> OrderView:
    """Return a purchase as an order."""
    terms = record.resale or record.offer
    return OrderView(
        order_id=record.order_id,
        sale_id=record.sale_id,
        offer_id=trader.offer_id(record.offer),
        role="buyer",
        buyer=record.buyer,
        seller=record.resale.holder if record.resale else record.offer.seller,
        state=record.state.value,
        deadline=record.deadline,
        price=terms.price,
        token=terms.token,
        transactions=trader.transactions(record.order_id),
    )


def as_on_chain(trader: Trader, orders: list[OrderView]) -> list[OrderView]:
    """Return purchases with the state and the deadline that the chain has; how one ended in the journal stays."""
    open_ones = [order for order in orders if order.state in ("drafted", "abandoned", "paid", "revealed")]
    found = dict(
        zip([o.order_id for o in open_ones], trader.order_states([o.order_id for o in open_ones]), strict=True)
    )
    return [
        replace(order, state=found[order.order_id][0].lower(), deadline=found[order.order_id][1])
        if found.get(order.order_id, ("None", 0))[0] != "None"
        else order
        for order in orders
    ]


def sold(trader: Trader, order_id: OrderId) -> OrderView:
    """Return an order that this account answers.

    Raises:
        InputError: There is none.
    """
    order = trader.journal.order(order_id)
    sale = None if order is None else trader.journal.sale(order.sale_id)
    if order is None or sale is None or sale.offer is None or order.seller != trader.address:
        raise InputError(f"{trader.address} has no order {order_id}")
    terms = sale.resale or sale.offer
    return OrderView(
        order_id=order.order_id,
        sale_id=order.sale_id,
        offer_id=trader.offer_id(sale.offer),
        role="seller",
        buyer=order.buyer,
        seller=order.seller,
        state=order.state.lower(),
        deadline=order.deadline,
        price=terms.price,
        token=terms.token,
        transactions=trader.transactions(order.order_id),
    )
