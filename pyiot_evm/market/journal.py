"""The trading journal: what a seller and a buyer must not forget, written before anything is signed or sent.

One SQLite file a network, in write-ahead mode with full syncs, shared by every thread and process of the home. Each
method is one transaction. State only moves forward: a step says which state it starts from, and when another process
was faster the step changes nothing and the caller reads what stands. What is secret is encrypted before it gets here.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Journal(f"{folder}/market.sqlite") as journal:
    ...     journal.cursor("orders"), journal.set_cursor("orders", 7), journal.cursor("orders")
    (None, None, 7)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyiot_evm.exceptions import ConsistencyError
from pyiot_evm.journals import SqliteJournal, insert, update
from pyiot_evm.market import rows
from pyiot_evm.market.records import OPEN_PURCHASES, PurchaseState, SaleState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from pyiot_evm.market.records import OrderRecord, PurchaseRecord, SaleRecord
    from pyiot_evm.types import Address, Bytes32, OrderId, SaleId

__all__ = ["Journal"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS content_keys (
  point TEXT NOT NULL, owner TEXT NOT NULL, origin TEXT NOT NULL, secret BLOB NOT NULL, sealed_root TEXT UNIQUE,
  PRIMARY KEY (point, owner)
) STRICT;
CREATE TABLE IF NOT EXISTS sales (
  key TEXT PRIMARY KEY, request TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, seller TEXT NOT NULL,
  state TEXT NOT NULL, terms TEXT NOT NULL, point TEXT NOT NULL, created_at INTEGER NOT NULL,
  block INTEGER NOT NULL, sale_id TEXT UNIQUE, offer TEXT, resale TEXT,
  signature BLOB NOT NULL DEFAULT x'', summary BLOB NOT NULL DEFAULT x'',
  uri TEXT NOT NULL DEFAULT '', bundle TEXT NOT NULL DEFAULT '', rows INTEGER NOT NULL DEFAULT 0,
  UNIQUE (request, number)
) STRICT;
CREATE TABLE IF NOT EXISTS orders (
  order_id TEXT PRIMARY KEY, sale_id TEXT NOT NULL, seller TEXT NOT NULL, buyer TEXT NOT NULL, mask TEXT NOT NULL,
  ephemeral_x TEXT NOT NULL, ephemeral_y TEXT NOT NULL, state TEXT NOT NULL, deadline INTEGER NOT NULL,
  decision TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS orders_by_seller ON orders (seller, state);
CREATE TABLE IF NOT EXISTS purchases (
  order_id TEXT PRIMARY KEY, sale_id TEXT NOT NULL, buyer TEXT NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL,
  offer TEXT NOT NULL, resale TEXT, mask TEXT NOT NULL, ephemeral_x TEXT NOT NULL, ephemeral_y TEXT NOT NULL,
  created_at INTEGER NOT NULL, signature BLOB NOT NULL DEFAULT x'', uri TEXT NOT NULL DEFAULT '',
  bundle TEXT NOT NULL DEFAULT '', released_key TEXT, deadline INTEGER NOT NULL DEFAULT 0, block INTEGER NOT NULL,
  rows INTEGER NOT NULL DEFAULT 0, UNIQUE (sale_id, buyer, attempt)
) STRICT;
"""


class Journal(SqliteJournal):
    """The trading journal of one network.

    Args:
        path: The SQLite file; made, with its folder, when it is missing.
    """

    SCHEMA = _SCHEMA
    VERSION = 1

    # Content keys

    def add_content_key(self, point: bytes, secret: bytes, *, origin: str, owner: Address) -> None:
        """Keep an encrypted content key; one that is there already stays."""
        with self.write() as database:
            database.execute(
                "INSERT OR IGNORE INTO content_keys (point, origin, owner, secret) VALUES (?, ?, ?, ?)",
                (point.hex(), origin, owner.hex(), secret),
            )

    def content_key(self, point: bytes, owner: Address) -> bytes | None:
        """Return an account's encrypted content key whose public point this is."""
        query = "SELECT secret FROM content_keys WHERE point = ? AND owner = ?"
        found = self.read(query, point.hex(), owner.hex())
        return bytes(found[0]["secret"]) if found else None

    def content_keys(self, owner: Address) -> list[tuple[bytes, str, bytes]]:
        """Return every content key of an account: point, origin and encrypted secret."""
        found = self.read("SELECT point, origin, secret FROM content_keys WHERE owner = ?", owner.hex())
        return [(bytes.fromhex(row["point"]), row["origin"], bytes(row["secret"])) for row in found]

    # Sales

    def open_sale(
        self, request: Bytes32, *, again: bool, make: Callable[[int], tuple[SaleRecord, bytes]]
    ) -> SaleRecord:
        """Return the sale of a request, or draft it.

        The newest sale of the same request is returned as it stands, unless it was cancelled, or it is listed and
        another one is asked for.

        Args:
            request: The hash of what is asked for.
            again: Whether to draft another sale when the newest one is listed.
            make: Called with the new sale's number; gives its record and its encrypted content key.
        """
        with self.write() as database:
            found = database.execute(
                "SELECT * FROM sales WHERE request = ? ORDER BY number DESC LIMIT 1", (request.hex(),)
            ).fetchone()
            newest = rows.sale(found) if found else None
            finished = (SaleState.CANCELLED, SaleState.LISTED) if again else (SaleState.CANCELLED,)
            if newest is not None and newest.state not in finished:
                return newest
            record, secret = make(newest.number + 1 if newest else 0)
            database.execute(
                "INSERT OR IGNORE INTO content_keys (point, origin, owner, secret) VALUES (?, 'sold', ?, ?)",
                (record.point.hex(), record.seller.hex(), secret),
            )
            insert(database, "sales", rows.from_sale(record))
            return record

    def advance_sale(self, key: str, start: SaleState, end: SaleState, **changes: Any) -> SaleRecord:
        """Move a sale from one state to the next; when it is no longer in ``start`` nothing changes.

        Returns:
            The sale as it stands now.

        Raises:
            ConsistencyError: The sale's content key has sealed another root already.
        """
        with self.write() as database:
            columns = rows.sale_columns({"state": end, **changes})
            moved = update(database, "sales", columns, "key = ? AND state = ?", (key, start)).rowcount
            standing = rows.sale(database.execute("SELECT * FROM sales WHERE key = ?", (key,)).fetchone())
            if moved and standing.offer is not None and standing.kind == "offer":
                _bind_root(database, standing)
            return standing

    def sale(self, sale_id: SaleId) -> SaleRecord | None:
        """Return the sale with this id."""
        found = self.read("SELECT * FROM sales WHERE sale_id = ?", sale_id.hex())
        return rows.sale(found[0]) if found else None

    def newest_sale(self, request: Bytes32) -> SaleRecord | None:
        """Return the last sale of a request."""
        found = self.read("SELECT * FROM sales WHERE request = ? ORDER BY number DESC LIMIT 1", request.hex())
        return rows.sale(found[0]) if found else None

    def sales(self, seller: Address) -> list[SaleRecord]:
        """Return every sale of a seller or holder, oldest first."""
        found = self.read("SELECT * FROM sales WHERE seller = ? ORDER BY created_at, key", seller.hex())
        return [rows.sale(row) for row in found]

    def restore_sale(self, record: SaleRecord) -> bool:
        """Put back a sale from a backup; one that is there already stays. Returns whether it was put back."""
        with self.write() as database:
            return insert(database, "sales", rows.from_sale(record), verb="INSERT OR IGNORE").rowcount > 0

    # Orders, as the seller sees them

    def add_orders(self, orders: Iterable[OrderRecord]) -> None:
        """Add orders that were seen on chain; those that are known stay as they are."""
        with self.write() as database:
            for order in orders:
                insert(database, "orders", rows.from_order(order), verb="INSERT OR IGNORE")

    def set_order(self, order_id: OrderId, *, state: str, deadline: int) -> None:
        """Keep what the chain says of an order."""
        with self.write() as database:
            database.execute(
                "UPDATE orders SET state = ?, deadline = ? WHERE order_id = ?", (state, deadline, order_id.hex())
            )

    def decide(self, order_id: OrderId, decision: str) -> str:
        """Decide once and for all whether an order is revealed or refunded.

        Returns:
            The decision that stands: the first one, whoever made it.
        """
        with self.write() as database:
            database.execute(
                "UPDATE orders SET decision = ? WHERE order_id = ? AND decision IS NULL", (decision, order_id.hex())
            )
            found = database.execute("SELECT decision FROM orders WHERE order_id = ?", (order_id.hex(),)).fetchone()
            return str(found["decision"])

    def order(self, order_id: OrderId) -> OrderRecord | None:
        """Return the order with this id."""
        found = self.read("SELECT * FROM orders WHERE order_id = ?", order_id.hex())
        return rows.order(found[0]) if found else None

    def orders(self, seller: Address, *states: str) -> list[OrderRecord]:
        """Return a seller's orders, all of them or those in the given states."""
        where = f" AND state IN ({', '.join('?' * len(states))})" if states else ""
        found = self.read(f"SELECT * FROM orders WHERE seller = ?{where} ORDER BY rowid", seller.hex(), *states)  # noqa: S608
        return [rows.order(row) for row in found]

    # Purchases

    def open_purchase(
        self,
        sale_id: SaleId,
        buyer: Address,
        *,
        may_follow: Callable[[PurchaseRecord], bool],
        make: Callable[[int], PurchaseRecord],
    ) -> PurchaseRecord:
        """Return the purchase that is open, or draft the next one.

        Args:
            sale_id: What is bought.
            buyer: Who buys.
            may_follow: Asked with the newest purchase when that is closed: whether another one may follow it.
            make: Called with the number of the attempt; gives the new record.
        """
        with self.write() as database:
            found = database.execute(
                "SELECT * FROM purchases WHERE sale_id = ? AND buyer = ? ORDER BY attempt DESC LIMIT 1",
                (sale_id.hex(), buyer.hex()),
            ).fetchone()
            newest = rows.purchase(found) if found else None
            if newest is not None and (newest.state in OPEN_PURCHASES or not may_follow(newest)):
                return newest
            record = make(newest.attempt + 1 if newest else 0)
            insert(database, "purchases", rows.from_purchase(record))
            return record

    def advance_purchase(
        self, order_id: OrderId, end: PurchaseState, *starts: PurchaseState, **changes: Any
    ) -> PurchaseRecord:
        """Move a purchase to a state from one of the given ones; from any other nothing changes.

        Returns:
            The purchase as it stands now.
        """
        with self.write() as database:
            columns = rows.purchase_columns({"state": end, **changes})
            where = f"order_id = ? AND state IN ({', '.join('?' * len(starts))})"
            update(database, "purchases", columns, where, (order_id.hex(), *starts))
            found = database.execute("SELECT * FROM purchases WHERE order_id = ?", (order_id.hex(),)).fetchone()
            return rows.purchase(found)

    def newest_purchase(self, sale_id: SaleId, buyer: Address) -> PurchaseRecord | None:
        """Return the last attempt of a buyer at a sale."""
        found = self.read(
            "SELECT * FROM purchases WHERE sale_id = ? AND buyer = ? ORDER BY attempt DESC LIMIT 1",
            sale_id.hex(),
            buyer.hex(),
        )
        return rows.purchase(found[0]) if found else None

    def restore_purchase(self, record: PurchaseRecord) -> None:
        """Put back a purchase that was found on the chain; one that is there already stays."""
        with self.write() as database:
            insert(database, "purchases", rows.from_purchase(record), verb="INSERT OR IGNORE")

    def purchase(self, order_id: OrderId) -> PurchaseRecord | None:
        """Return the purchase with this order id."""
        found = self.read("SELECT * FROM purchases WHERE order_id = ?", order_id.hex())
        return rows.purchase(found[0]) if found else None

    def purchases(self, buyer: Address) -> list[PurchaseRecord]:
        """Return every purchase of a buyer, oldest first."""
        found = self.read("SELECT * FROM purchases WHERE buyer = ? ORDER BY created_at, rowid", buyer.hex())
        return [rows.purchase(row) for row in found]


def _bind_root(database: sqlite3.Connection, sale: SaleRecord) -> None:
    root = sale.offer.sealed_root.hex() if sale.offer else None
    whose = (sale.point.hex(), sale.seller.hex())
    found = database.execute("SELECT sealed_root FROM content_keys WHERE point = ? AND owner = ?", whose).fetchone()
    if found["sealed_root"] not in (None, root):
        raise ConsistencyError(f"the content key of sale {sale.key} has sealed another root already: {found[0]}")
    database.execute("UPDATE content_keys SET sealed_root = ? WHERE point = ? AND owner = ?", (root, *whose))
