"""How the trading journal's records are written to SQLite rows and read back: ids as hex, structs as JSON.

Example:
    >>> sale_columns({"uri": "file:///tmp/x", "rows": 3})
    {'uri': 'file:///tmp/x', 'rows': 3}
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from pyiot_evm.market.documents import OFFER_FIELDS, RESALE_FIELDS, read_fields, write_fields
from pyiot_evm.market.offers import Offer, Resale
from pyiot_evm.market.records import (
    OrderRecord,
    PurchaseRecord,
    PurchaseState,
    SaleRecord,
    SaleState,
)
from pyiot_evm.types import Address, Bytes32, OfferId, OrderId, ResaleId, SaleId

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

__all__ = [
    "from_order",
    "from_purchase",
    "from_sale",
    "offer_text",
    "order",
    "purchase",
    "purchase_columns",
    "read_offer",
    "read_resale",
    "resale_text",
    "sale",
    "sale_columns",
]

_WIDE = frozenset({"ephemeral_x", "ephemeral_y", "released_key"})  # more than SQLite's 64 bits


def sale_columns(values: dict[str, Any]) -> dict[str, Any]:
    """Turn fields of a :class:`SaleRecord` into columns."""
    return {name: _column(name, value) for name, value in values.items()}


purchase_columns = sale_columns


def _column(name: str, value: Any) -> Any:
    return _WRITERS[name](value) if name in _WRITERS and value is not None else value


def offer_text(offer: Offer) -> str:
    """Write an offer as one JSON text."""
    return json.dumps(write_fields(offer, OFFER_FIELDS))


def resale_text(resale: Resale) -> str:
    """Write a resale as one JSON text."""
    return json.dumps(write_fields(resale, RESALE_FIELDS))


def read_offer(text: str | None) -> Offer | None:
    """Read what :func:`offer_text` wrote."""
    return None if text is None else Offer(**read_fields(json.loads(text), OFFER_FIELDS))


def read_resale(text: str | None) -> Resale | None:
    """Read what :func:`resale_text` wrote."""
    return None if text is None else Resale(**read_fields(json.loads(text), RESALE_FIELDS))


_WRITERS: dict[str, Callable[[Any], Any]] = {
    "offer": offer_text,
    "resale": resale_text,
    "state": str,
    "terms": lambda value: json.dumps(value, sort_keys=True),
    **dict.fromkeys(("ephemeral_x", "ephemeral_y", "released_key"), hex),  # more than SQLite's 64 bits
    **dict.fromkeys(("request", "seller", "point", "sale_id", "order_id", "buyer", "mask"), bytes.hex),
}


def from_sale(record: SaleRecord) -> dict[str, Any]:
    """Turn a sale into a row."""
    return sale_columns(_fields(record))


def from_order(record: OrderRecord) -> dict[str, Any]:
    """Turn an order into a row."""
    return sale_columns(_fields(record))


def from_purchase(record: PurchaseRecord) -> dict[str, Any]:
    """Turn a purchase into a row."""
    return sale_columns(_fields(record))


def _fields(record: SaleRecord | OrderRecord | PurchaseRecord) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def sale(row: sqlite3.Row) -> SaleRecord:
    """Read a sale."""
    values = _common(row)
    values["request"] = Bytes32(row["request"])
    values["point"] = bytes.fromhex(row["point"])
    values["state"] = SaleState(row["state"])
    values["terms"] = json.loads(row["terms"])
    values["summary"] = bytes(row["summary"])
    return SaleRecord(**values)


def order(row: sqlite3.Row) -> OrderRecord:
    """Read an order."""
    return OrderRecord(**_common(row))


def purchase(row: sqlite3.Row) -> PurchaseRecord:
    """Read a purchase."""
    values = _common(row)
    values["state"] = PurchaseState(row["state"])
    return PurchaseRecord(**values)


def _common(row: sqlite3.Row) -> dict[str, Any]:
    values = dict(row)
    if "offer" in values:
        values["offer"] = read_offer(row["offer"])
        values["resale"] = read_resale(row["resale"])
        values["signature"] = bytes(row["signature"])
    for name in _WIDE & values.keys():
        values[name] = None if row[name] is None else int(row[name], 16)
    for name, kind in (("seller", Address), ("buyer", Address), ("mask", Address), ("order_id", OrderId)):
        if name in values:
            values[name] = kind(row[name])
    if row["sale_id"] is not None:
        values["sale_id"] = _sale_id(values)
    return values


def _sale_id(values: dict[str, Any]) -> SaleId:
    kind = ResaleId if values.get("resale") else OfferId if values.get("offer") else SaleId
    return kind(values["sale_id"])
