"""What a payer buys through a stream: what it signed, what came, and where it goes on.

A reading is written down with its ceiling and its part of the budget before its voucher is signed, and what it decrypts
to before anybody sees it. One reading a channel is under way at a time, so what a payee can take and not deliver is
that one. A payee that did is remembered: nothing more is bought from it until it is forgiven.

Example:
    >>> Signed(seq=7, ceiling=1500, lock=b"", sealed=b"").ceiling
    1500
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pyiot_evm.device import Reading, Schema, check_signer
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.payment.payer_book import DepositNeeded
from pyiot_evm.payment.vouchers import ChannelId
from pyiot_evm.types import Address, DeviceId

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from pyiot_evm.payment.payer_book import PayerBook
    from pyiot_evm.payment.stream_keys import Mode

__all__ = ["BoughtReading", "Purchase", "Signed", "StreamPurchases"]


@dataclass(frozen=True, slots=True)
class Signed:
    """The reading under way: its voucher may have left.

    Attributes:
        seq: Its number.
        ceiling: What its voucher says.
        lock: The lock of its key; empty in the plain mode.
        sealed: The sealed leaf.
    """

    seq: int
    ceiling: int
    lock: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Purchase:
    """A stream as its payer knows it.

    Attributes:
        paid: The sum of all readings that came, base units: what a plain voucher may say.
        next_seq: The reading that comes next.
        signed: The reading under way, if one is.
        fault: Why nothing more is bought; empty where nothing is wrong.
        lost: What the payee can take for the reading under way, which was none when it came, base units.
    """

    channel_id: ChannelId
    payee: Address
    device: DeviceId
    mode: Mode
    paid: int
    next_seq: int
    signed: Signed | None
    fault: str
    lost: int


@dataclass(frozen=True, slots=True)
class BoughtReading:
    """A reading that was paid for, as its bytes.

    Attributes:
        seq: Its number.
        leaf: Its signed bytes.
        schema: What it holds.
        signer: The device's key that signed it.
        price: Base units.
    """

    channel_id: ChannelId
    device: DeviceId
    seq: int
    leaf: bytes
    schema: Schema
    signer: bytes
    price: int

    def reading(self) -> Reading:
        """Return it as a reading."""
        return Reading.from_leaf(
            self.leaf,
            device=self.device,
            schema=self.schema.hash,
            value_count=len(self.schema.fields),
            curve=check_signer(self.signer),
        )


class StreamPurchases:
    """The streams of one payer, in the payer's book.

    Args:
        book: The payer's channel book.
        clock: Unix seconds.
    """

    def __init__(self, book: PayerBook, *, clock: Callable[[], float] = time.time) -> None:
        self._book = book
        self._store = book.store
        self._clock = clock

    def get(self, channel_id: bytes) -> Purchase:
        """Return a stream.

        Raises:
            InputError: There is none on this channel.
        """
        found = self._store.read("SELECT * FROM stream_purchases WHERE channel_id = ?", channel_id.hex())
        if not found or Address(found[0]["payer"]) != self._book.payer:
            raise InputError(f"nothing is bought by the reading through channel {ChannelId(channel_id)}")
        return _purchase(found[0])

    def find(self, channel_id: bytes) -> Purchase | None:
        """Return the stream on a channel, ``None`` where something else is paid through it."""
        return next((purchase for purchase in self.all() if purchase.channel_id == channel_id), None)

    def all(self) -> list[Purchase]:
        """Return every stream of this payer, the oldest first."""
        query = "SELECT * FROM stream_purchases WHERE payer = ? ORDER BY rowid"
        return [_purchase(row) for row in self._store.read(query, self._book.payer.hex())]

    def begin(self, channel_id: bytes, *, payee: Address, device: DeviceId, mode: Mode, first: int) -> Purchase:
        """Write a stream down; one that is there stays as it is."""
        row = (channel_id.hex(), self._book.payer.hex(), payee.hex(), device.hex(), mode, first)
        with self._store.write() as database:
            database.execute(
                "INSERT OR IGNORE INTO stream_purchases (channel_id, payer, payee, device, mode, next_seq)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
        return self.get(channel_id)

    def move(self, channel_id: bytes, seq: int) -> Purchase:
        """Go on with another reading; a reading under way comes first.

        Raises:
            InputError: One is under way.
        """
        with self._store.write() as database:
            known = self.get(channel_id)
            if known.signed is not None and known.signed.seq != seq:
                raise InputError(f"reading {known.signed.seq} is paid and did not come yet: it comes first")
            database.execute("UPDATE stream_purchases SET next_seq = ? WHERE channel_id = ?", (seq, channel_id.hex()))
        return self.get(channel_id)

    def adopt(self, channel_id: bytes, ceiling: int, seq: int) -> Purchase:
        """Take over where a stream is, from a voucher of this payer that its book has forgotten."""
        with self._store.write() as database:
            self._book.raise_ceiling(channel_id, ceiling)
            database.execute(
                "UPDATE stream_purchases SET paid = ?, next_seq = ?, signed_seq = -1, sealed = x'', lock = ''"
                " WHERE channel_id = ?",
                (str(ceiling), seq, channel_id.hex()),
            )
        return self.get(channel_id)

    def reserve(
        self,
        channel_id: bytes,
        *,
        seq: int,
        price: int,
        lock: bytes = b"",
        sealed: bytes = b"",
        schema: Schema | None = None,
    ) -> Signed:
        """Write down what is going to be signed for a reading, and count it against the budget.

        Args:
            channel_id: The channel.
            seq: The reading: the one that comes next.
            price: Base units.
            lock: The lock of its key; empty in the plain mode.
            sealed: The sealed leaf.
            schema: What it holds.

        Raises:
            BudgetError: It would go over a limit; nothing was written.
            DepositNeeded: The channel's balance does not cover it; nothing was written.
            VerificationError: Another reading is asked for.
            InputError: The channel is closing, or the payee delivered no reading before.
        """
        with self._store.write() as database:
            known, channel = self.get(channel_id), self._book.channel(channel_id)
            ceiling = known.paid + price
            self._check(known, seq)
            if channel.closing:
                raise InputError(f"channel {channel.channel_id} is closing", hint="begin again: a new one is opened")
            extra = ceiling - channel.ceiling
            if extra > 0:
                self._book.spend(database, channel, extra, price=price)
            if ceiling > channel.balance:
                raise DepositNeeded(ceiling - channel.balance)
            self._book.raise_ceiling(channel_id, ceiling)
            row = (seq, str(ceiling), lock.hex(), sealed, _kept(database, schema), channel_id.hex())
            database.execute(
                "UPDATE stream_purchases SET signed_seq = ?, signed_ceiling = ?, lock = ?, sealed = ?, schema = ?"
                " WHERE channel_id = ?",
                row,
            )
        return Signed(seq, ceiling, lock, sealed)

    def arrive(self, channel_id: bytes, bought: BoughtReading) -> Purchase:
        """Write down a reading that came and is what it must be.

        Raises:
            VerificationError: It is not the reading under way.
        """
        with self._store.write() as database:
            known = self.get(channel_id)
            if known.signed is None or known.signed.seq != bought.seq:
                raise VerificationError(f"reading {bought.seq} is not the one that is under way")
            database.execute(
                "INSERT OR IGNORE INTO bought_schemas VALUES (?, ?)",
                (bought.schema.hash.hex(), bought.schema.canonical()),
            )
            row = (
                self._book.payer.hex(), bought.device.hex(), bought.seq, channel_id.hex(), bought.schema.hash.hex(),
                bought.signer, bought.leaf, str(bought.price), int(self._clock()),
            )  # fmt: skip
            database.execute("INSERT OR REPLACE INTO bought_readings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)", row)
            database.execute(
                "UPDATE stream_purchases SET paid = signed_ceiling, next_seq = ?, signed_seq = -1, lock = '',"
                " sealed = x'', fault = '', lost = '0' WHERE channel_id = ?",
                (bought.seq + 1, channel_id.hex()),
            )
        return self.get(channel_id)

    def accuse(self, channel_id: bytes, fault: str) -> Purchase:
        """Write down that what came for the reading under way is no reading: nothing more is bought.

        Its voucher stays promised, and nothing is promised above it.
        """
        with self._store.write() as database:
            known = self.get(channel_id)
            lost = 0 if known.signed is None else known.signed.ceiling - known.paid
            database.execute(
                "UPDATE stream_purchases SET fault = ?, lost = ? WHERE channel_id = ?",
                (fault, str(lost), channel_id.hex()),
            )
        return self.get(channel_id)

    def forgive(self, channel_id: bytes) -> Purchase:
        """Ask a payee again that delivered no reading; the reading under way comes first, and costs nothing more."""
        with self._store.write() as database:
            database.execute("UPDATE stream_purchases SET fault = '' WHERE channel_id = ?", (channel_id.hex(),))
        return self.get(channel_id)

    # What was bought

    def untaken(self, channel_id: bytes) -> list[BoughtReading]:
        """Return what came and was not taken yet, the oldest first."""
        return self._bought("channel_id = ? AND taken = 0 ORDER BY rowid", channel_id.hex())

    def schema_of(self, channel_id: bytes) -> Schema | None:
        """Return what the reading under way holds."""
        query = "SELECT document FROM stream_purchases JOIN bought_schemas ON hash = schema WHERE channel_id = ?"
        found = self._store.read(query, channel_id.hex())
        return Schema.parse(bytes(found[0]["document"])) if found else None

    def take(self, bought: BoughtReading) -> None:
        """Note that a reading was taken by who bought it."""
        with self._store.write() as database:
            database.execute(
                "UPDATE bought_readings SET taken = 1 WHERE payer = ? AND device = ? AND seq = ?",
                (self._book.payer.hex(), bought.device.hex(), bought.seq),
            )

    def bought(self, device: DeviceId, *, seq: int | None = None) -> list[BoughtReading]:
        """Return what was bought of a device, by number; with ``seq`` that reading alone."""
        query = "payer = ? AND device = ? ORDER BY seq" if seq is None else "payer = ? AND device = ? AND seq = ?"
        values = (self._book.payer.hex(), device.hex())
        return self._bought(query, *values, *(() if seq is None else (seq,)))

    # Below

    @staticmethod
    def _check(known: Purchase, seq: int) -> None:
        if known.fault:
            raise InputError(f"nothing more is bought through channel {known.channel_id}: {known.fault}")
        if seq != known.next_seq:
            raise VerificationError(f"reading {known.next_seq} comes next, not {seq}")

    def _bought(self, where: str, *values: Any) -> list[BoughtReading]:
        rows = self._store.read(f"SELECT * FROM bought_readings WHERE {where}", *values)  # noqa: S608
        names = {row["schema"] for row in rows}
        documents = [self._store.read("SELECT * FROM bought_schemas WHERE hash = ?", name)[0] for name in names]
        schemas = {row["hash"]: Schema.parse(bytes(row["document"])) for row in documents}
        return [_bought(row, schemas[row["schema"]]) for row in rows]


def _kept(database: sqlite3.Connection, schema: Schema | None) -> str:
    """Keep a schema, and return its name in the book."""
    if schema is None:
        return ""
    name = schema.hash.hex()
    database.execute("INSERT OR IGNORE INTO bought_schemas VALUES (?, ?)", (name, schema.canonical()))
    return name


def _purchase(row: Any) -> Purchase:
    lock = bytes.fromhex(row["lock"])
    signed = Signed(row["signed_seq"], int(row["signed_ceiling"]), lock, bytes(row["sealed"]))
    return Purchase(
        channel_id=ChannelId(row["channel_id"]),
        payee=Address(row["payee"]),
        device=DeviceId(row["device"]),
        mode=cast("Mode", row["mode"]),
        paid=int(row["paid"]),
        next_seq=row["next_seq"],
        signed=signed if signed.seq >= 0 else None,
        fault=row["fault"],
        lost=int(row["lost"]),
    )


def _bought(row: Any, schema: Schema) -> BoughtReading:
    return BoughtReading(
        channel_id=ChannelId(row["channel_id"]),
        device=DeviceId(row["device"]),
        seq=row["seq"],
        leaf=bytes(row["leaf"]),
        schema=schema,
        signer=bytes(row["signer"]),
        price=int(row["price"]),
    )
