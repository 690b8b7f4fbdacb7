"""How the trading journal's records are written to SQLite rows and read back: ids as hex, structs as JSON.

Example:
    >>> sale_columns({"uri": "file:///tmp/x", "rows": 3})
    {'uri': 'file:///tmp/x', 'rows': 3}
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from pyiot_evm.market.records import (
    OrderRecord,
    PurchaseRecord,
    PurchaseState,
    SaleRecord,
    SaleState,
    decode_struct,
    encode_struct,
)
from pyiot_evm.types import Address, Bytes32, OfferId, OrderId, ResaleId, SaleId

if TYPE_CHECKING:
    import sqlite3

__all__ = [
    "from_order",
    "from_purchase",
    "from_sale",
    "order",
    "purchase",
    "purchase_columns",
    "sale",
    "sale_columns",
]

_STRUCTS = frozenset({"offer", "resale"})
_HEX = frozenset({"request", "seller", "point", "sale_id", "order_id", "buyer", "mask"})
_WIDE = frozenset({"ephemeral_x", "ephemeral_y", "released_key"})  # more than SQLite's 64 bits


def sale_columns(values: dict[str, Any]) -> dict[str, Any]:
    """Turn fields of a :class:`SaleRecord` into columns."""
    return {name: _column(name, value) for name, value in values.items()}


purchase_columns = sale_columns


def _column(name: str, value: Any) -> Any:
    if name in _STRUCTS:
        return encode_struct(value)
    if value is None:
        return None
    if name in _HEX:
        return value.hex()
    if name in _WIDE:
        return hex(value)
    if name == "terms":
        return json.dumps(value, sort_keys=True)
    return str(value) if name == "state" else value


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
    from pyiot_evm.contracts.data_market import Offer, Resale  # noqa: PLC0415 - slow to import

    values = dict(row)
    if "offer" in values:
        values["offer"] = decode_struct(Offer, row["offer"])
        values["resale"] = decode_struct(Resale, row["resale"])
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
