r"""The catalog: what is for sale, found from the chain's logs alone and kept in SQLite.

No indexer, no server: the market's events carry enough to find a data set by text, tag, seller, device, price and
time range. Blocks are read once; what a reorganisation took back is taken back here too. Titles and tags come from
strangers: control and direction characters are dropped and lengths are limited before anything is stored.

Example:
    >>> clean_text("Temp\x1b[31m in \u202eEssen" + "!" * 300)[:22]
    'Temp[31m in Essen!!!!!'
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from pyiot_evm.exceptions import InputError, PyIotEvmError
from pyiot_evm.market.rows import offer_text, read_offer, read_resale, resale_text
from pyiot_evm.sqlite_file import SqliteFile
from pyiot_evm.types import Address, DeviceId, OfferId, ResaleId, SaleId

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from pyiot_evm.market.offers import Offer, Resale

__all__ = ["CatalogEntry", "CatalogStore", "Query", "Wanted", "clean_text"]

MAX_TITLE = 200
MAX_TAGS = 16
MAX_TAG = 48
_PRICE_DIGITS = 39  # a uint128
_KEPT_CHECKPOINTS = 256

_VERSION = 2
_DROP = """
DROP VIEW IF EXISTS listings; DROP TABLE IF EXISTS entries; DROP TABLE IF EXISTS cancellations;
DROP TABLE IF EXISTS checkpoints;
"""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
  sale_id TEXT NOT NULL, offer_id TEXT NOT NULL, seller TEXT NOT NULL, device TEXT NOT NULL,
  first_time INTEGER NOT NULL, last_time INTEGER NOT NULL, rows INTEGER NOT NULL, title TEXT NOT NULL,
  tags TEXT NOT NULL, words TEXT NOT NULL, token TEXT NOT NULL, price TEXT NOT NULL, expiry INTEGER NOT NULL,
  uri TEXT NOT NULL, offer TEXT NOT NULL, resale TEXT, block INTEGER NOT NULL, position INTEGER NOT NULL,
  PRIMARY KEY (sale_id, block, position)
) STRICT;
CREATE INDEX IF NOT EXISTS entries_by_block ON entries (block, position);
CREATE TABLE IF NOT EXISTS cancellations (sale_id TEXT PRIMARY KEY, block INTEGER NOT NULL) STRICT;
CREATE VIEW IF NOT EXISTS listings AS SELECT *, EXISTS (
    SELECT 1 FROM cancellations WHERE cancellations.sale_id = entries.sale_id
  ) AS cancelled, (
    SELECT MIN(block) FROM entries AS first WHERE first.sale_id = entries.sale_id
  ) AS first_block FROM entries WHERE NOT EXISTS (
    SELECT 1 FROM entries AS later
    WHERE later.sale_id = entries.sale_id AND (later.block, later.position) > (entries.block, entries.position)
  );
CREATE TABLE IF NOT EXISTS checkpoints (block INTEGER PRIMARY KEY, hash TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One sale that is, or was, on offer.

    Attributes:
        sale_id: The offer's id, or the resale's.
        offer_id: The offer whose data is sold.
        seller: Who reveals: the seller or the reselling holder.
        first_time: The time of the first row, Unix milliseconds; 0 for a blob.
        last_time: The time of the last row, Unix milliseconds.
        rows: Readings or chunks, as the seller says; the bundle proves it.
        title: As the seller wrote it, cleaned; it proves nothing.
        price: In base units of ``token``.
        expiry: Unix seconds from which on nobody can buy.
        uri: Where the bundle is said to lie. Hostile until opened with a policy.
        block: Where it was listed, the last time.
        first_block: Where it was listed first: no order of it lies in an earlier block.
        cancelled: Whether its seller took it back.
    """

    sale_id: SaleId
    offer_id: OfferId
    seller: Address
    device: DeviceId
    first_time: int
    last_time: int
    rows: int
    title: str
    tags: tuple[str, ...]
    token: Address
    price: int
    expiry: int
    uri: str
    offer: Offer
    resale: Resale | None
    block: int
    first_block: int
    cancelled: bool

    @property
    def id(self) -> SaleId:
        """What ``Machine.buy`` takes."""
        return self.sale_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for; whatever is left out does not limit.

    Attributes:
        text: Words that the title or a tag must all contain, in any case.
        tag: A tag, in any case.
        min_price: Base units.
        max_price: Base units.
        since: Only data with a row at or after this time, Unix milliseconds.
        until: Only data with a row at or before this time, Unix milliseconds.
        now: Leaves out what has expired by then, Unix seconds.
        cancelled: Whether to show what was taken back too.
        limit: How many at most, newest first.
    """

    text: str = ""
    tag: str = ""
    seller: Address | None = None
    device: DeviceId | None = None
    token: Address | None = None
    min_price: int | None = None
    max_price: int | None = None
    since: int | None = None
    until: int | None = None
    now: int | None = None
    cancelled: bool = False
    limit: int = 100


class Wanted(TypedDict, total=False):
    """The attributes of a :class:`Query`, each by its name."""

    text: str
    tag: str
    seller: Address | None
    device: DeviceId | None
    token: Address | None
    min_price: int | None
    max_price: int | None
    since: int | None
    until: int | None
    now: int | None
    cancelled: bool
    limit: int


class CatalogStore(SqliteFile):
    """The catalog's SQLite file.

    Args:
        path: The file; made, with its folder, when it is missing. It can be deleted: a scan makes it again.
    """

    SYNCHRONOUS = "NORMAL"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        with self.write() as database:  # one process makes the tables, and drops nothing that another has just made
            if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                for statement in f"{_DROP}{_SCHEMA} PRAGMA user_version = {_VERSION};".split(";"):
                    database.execute(statement)

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return the blocks that were read up to, newest first, with their hashes."""
        return [tuple(row) for row in self.read("SELECT block, hash FROM checkpoints ORDER BY block DESC")]

    def rewind(self, block: int) -> None:
        """Forget everything above a block: a reorganisation took it back."""
        with self.write() as database:
            database.execute("DELETE FROM entries WHERE block > ?", (block,))
            database.execute("DELETE FROM cancellations WHERE block > ?", (block,))
            database.execute("DELETE FROM checkpoints WHERE block > ?", (block,))

    def apply(self, changes: list[Entry | Cancellation], *, block: int, block_hash: str) -> None:
        """Add what the blocks up to ``block`` brought, and the checkpoint, in one transaction."""
        with self.write() as database:
            for change in changes:
                if isinstance(change, Entry):
                    _insert(database, change)
                else:
                    values = (change.sale_id.hex(), change.block)
                    database.execute("INSERT OR IGNORE INTO cancellations VALUES (?, ?)", values)
            database.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (block, block_hash))
            database.execute(
                "DELETE FROM checkpoints WHERE block NOT IN"
                " (SELECT block FROM checkpoints ORDER BY block DESC LIMIT ?)",
                (_KEPT_CHECKPOINTS,),
            )

    def get(self, sale_id: SaleId) -> CatalogEntry | None:
        """Return one sale, cancelled or not."""
        found = self.read("SELECT * FROM listings WHERE sale_id = ?", sale_id.hex())
        return _entry(found[0]) if found else None

    def search(self, query: Query) -> list[CatalogEntry]:
        """Return what matches, newest first.

        Raises:
            InputError: The limit is not positive.
        """
        if query.limit < 1:
            raise InputError(f"a limit must be 1 or more, not {query.limit}")
        where, values = _conditions(query)
        sql = f"SELECT * FROM listings WHERE {where} ORDER BY block DESC, position DESC LIMIT ?"  # noqa: S608
        return [_entry(row) for row in self.read(sql, *values, query.limit)]


@dataclass(frozen=True, slots=True)
class Entry:
    """A listing as it was read from a log, already cleaned."""

    sale_id: SaleId
    offer_id: OfferId
    seller: Address
    summary: Any  # None where it could not be read
    uri: str
    offer: Offer
    resale: Resale | None
    block: int
    position: int


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A listing that its seller took back."""

    sale_id: SaleId
    block: int


def clean_text(text: str, limit: int = MAX_TITLE) -> str:
    """Drop control, direction and unassigned characters from a stranger's text, and cut it."""
    kept = (c for c in text[: 4 * limit] if unicodedata.category(c)[0] != "C")
    return "".join(kept)[:limit].strip()


def _insert(database: sqlite3.Connection, entry: Entry) -> None:
    price, token = (entry.resale or entry.offer).price, (entry.resale or entry.offer).token
    title, tags, device, first, last, rows = _read_summary(entry, database)
    words = "\n".join((title, *tags)).casefold()
    database.execute(
        f"INSERT OR REPLACE INTO entries VALUES ({', '.join('?' * 18)})",  # noqa: S608
        (
            entry.sale_id.hex(), entry.offer_id.hex(), entry.seller.hex(), device, first, last, rows, title,
            json.dumps(tags), words, token.hex(), f"{price:0{_PRICE_DIGITS}d}", (entry.resale or entry.offer).expiry,
            clean_text(entry.uri, 2048), offer_text(entry.offer), resale_text(entry.resale) if entry.resale else None,
            entry.block, entry.position,
        ),
    )  # fmt: skip


def _read_summary(entry: Entry, database: sqlite3.Connection) -> tuple[str, list[str], str, int, int, int]:
    """Take the listing's own summary; a resale has none and takes its offer's."""
    if entry.summary is not None:
        s = entry.summary
        tags = [tag for tag in (clean_text(tag, MAX_TAG) for tag in s.tags[:MAX_TAGS]) if tag]
        first, last = (min(time, (1 << 63) - 1) for time in (s.first_time, s.last_time))
        return clean_text(s.title), tags, s.device.hex(), first, last, s.rows
    found = database.execute("SELECT * FROM listings WHERE sale_id = ?", (entry.offer_id.hex(),)).fetchone()
    if found is None or entry.resale is None:
        return "", [], bytes(32).hex(), 0, 0, entry.offer.leaf_count
    return (
        found["title"],
        json.loads(found["tags"]),
        found["device"],
        found["first_time"],
        found["last_time"],
        found["rows"],
    )


def _entry(row: sqlite3.Row) -> CatalogEntry:
    offer, resale = read_offer(row["offer"]), read_resale(row["resale"])
    if offer is None:
        raise PyIotEvmError(f"the catalog's row {row['sale_id']} has no offer")
    return CatalogEntry(
        sale_id=ResaleId(row["sale_id"]) if resale else OfferId(row["sale_id"]),
        offer_id=OfferId(row["offer_id"]),
        seller=Address(row["seller"]),
        device=DeviceId(row["device"]),
        first_time=row["first_time"],
        last_time=row["last_time"],
        rows=row["rows"],
        title=row["title"],
        tags=tuple(json.loads(row["tags"])),
        token=Address(row["token"]),
        price=int(row["price"]),
        expiry=row["expiry"],
        uri=row["uri"],
        offer=offer,
        resale=resale,
        block=row["block"],
        first_block=row["first_block"],
        cancelled=bool(row["cancelled"]),
    )


def _conditions(query: Query) -> tuple[str, tuple[Any, ...]]:
    parts: list[tuple[str, Any]] = [("words LIKE ? ESCAPE '\\'", _like(word)) for word in query.text.split()]
    exact = (("seller", query.seller), ("device", query.device), ("token", query.token))
    parts += [(f"{column} = ?", value.hex()) for column, value in exact if value is not None]
    if query.tag:
        parts.append(("EXISTS (SELECT 1 FROM json_each(tags) WHERE lower(value) = lower(?))", query.tag))
    for sign, price in ((">=", query.min_price), ("<=", query.max_price)):
        if price is not None:
            parts.append((f"price {sign} ?", f"{price:0{_PRICE_DIGITS}d}"))
    if query.since is not None:
        parts.append(("last_time >= ?", query.since))
    if query.until is not None:
        parts.append(("first_time <= ?", query.until))
    if query.now is not None:
        parts.append(("expiry > ?", query.now))
    clauses = [clause for clause, _ in parts] + ([] if query.cancelled else ["NOT cancelled"])
    return " AND ".join(clauses) or "1", tuple(value for _, value in parts)


def _like(word: str) -> str:
    escaped = word.casefold().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
