"""What a payee sold through a stream: the last reading of each channel, and the voucher that pays it.

One reading a channel is open at a time. A reading is charged, and its voucher and its key are written down, in one
transaction, before the key leaves. Only then can the voucher be claimed by publishing the key; a key that never left is
never published. The plain voucher that the payer signs once it has the reading settles it, and the next reading is sold
only after that.

Example:
    >>> Offer(seq=7, base=1000, ceiling=1500).price
    500
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from pyiot_evm.payment.payee_book import ChannelRefusedError, VoucherRefusedError
from pyiot_evm.payment.vouchers import ChannelId, SignedVoucher
from pyiot_evm.types import Bytes32, DeviceId

if TYPE_CHECKING:
    from pyiot_evm.payment.payee_book import PayeeBook
    from pyiot_evm.payment.records import PayeeChannel
    from pyiot_evm.payment.stream_keys import Mode

__all__ = ["Offer", "Sale", "StreamSales"]


@dataclass(frozen=True, slots=True)
class Offer:
    """A reading and what the channel holds with it.

    Attributes:
        seq: The reading's number.
        base: The sum of all payments before it.
        ceiling: The sum with it: what its voucher must say.
    """

    seq: int
    base: int
    ceiling: int

    @property
    def price(self) -> int:
        """What the reading costs, base units."""
        return self.ceiling - self.base


@dataclass(frozen=True, slots=True)
class Sale:
    """The last reading that was sold through a channel.

    Attributes:
        offer: Which, and for how much.
        voucher: What pays it: locked, or plain.
        preimage: The key that was handed over; empty where none was needed.
        at: When, Unix seconds.
    """

    device: DeviceId
    mode: Mode
    offer: Offer
    voucher: SignedVoucher
    preimage: bytes
    at: int


class StreamSales:
    """The streams of one payee, in the payee's book.

    Args:
        book: The book.
    """

    def __init__(self, book: PayeeBook) -> None:
        self.book = book

    def last(self, channel: PayeeChannel) -> Sale | None:
        """Return what was last sold through a channel."""
        found = self.book.store.read("SELECT * FROM stream_sales WHERE channel_id = ?", channel.channel_id.hex())
        return _sale(found[0], channel) if found else None

    def begin(self, voucher: SignedVoucher, seq: int, *, now: int) -> PayeeChannel:
        """Take the plain voucher with which a payer begins or goes on: the sum of all readings that it has.

        Args:
            voucher: The payer's; its terms were checked and the channel was looked at.
            seq: The reading that it wants next.
            now: Unix seconds.

        Raises:
            VoucherRefusedError: It says less than what was delivered.
            ChannelRefusedError: The payer is leaving, or the channel does not hold that much.
        """
        with self.book.store.write():
            known = self._fresh(voucher.channel_id, now)
            if voucher.ceiling > known.balance:
                raise _too_little(known, voucher)
            taken = replace(known, charged=max(known.charged, voucher.ceiling))
            if voucher.ceiling > known.ceiling:
                taken = replace(taken, ceiling=voucher.ceiling, signature=voucher.signature)
            self.book.update(taken.channel_id, lambda _: taken)
            last = self.last(taken)
        if taken.withdraw_at:
            raise ChannelRefusedError(f"the payer is leaving channel {taken.channel_id}")
        if voucher.ceiling < taken.charged and not _is_of(last, Offer(seq, voucher.ceiling, taken.charged)):
            waits = "" if last is None else f"; reading {last.offer.seq} is the last that was sold"
            raise VoucherRefusedError(
                f"{taken.charged} were delivered through the channel, the voucher is for {voucher.ceiling}{waits}",
                last=taken.voucher if taken.signature else None,
                hint="pay on from the last voucher",
            )
        return taken

    def offer(self, channel_id: bytes, seq: int, price: int, *, has: int = 0) -> Offer:
        """Return for how much a reading is to be had; one that was sold and did not come costs nothing more.

        Args:
            channel_id: The channel.
            seq: The reading.
            price: Base units.
            has: What the readings cost that the payer says it has.

        Raises:
            ChannelRefusedError: There is no such channel.
        """
        known = self._known(channel_id)
        last = self.last(known)
        if last is not None and last.offer.seq == seq and has < last.offer.ceiling == known.charged:
            return last.offer
        return Offer(seq, known.charged, known.charged + price)

    def sell(
        self, voucher: SignedVoucher, offer: Offer, *, device: DeviceId, preimage: bytes, now: int
    ) -> tuple[PayeeChannel, Sale]:
        """Charge a reading and keep what pays it; the reading, or its key, may leave after that.

        Args:
            voucher: The payer's for the offer: locked where there is a preimage, else plain.
            offer: As :meth:`offer` returned it.
            device: Whose reading it is.
            preimage: The key that the voucher's lock hides; empty in the plain mode.
            now: Unix seconds.

        Raises:
            VoucherRefusedError: It is not signed, or not for this offer.
            ChannelRefusedError: The reading before was not paid, the payer is leaving, the channel holds too little, or
                the exposure is at its cap.
        """
        if not voucher.is_signed():
            raise VoucherRefusedError("the payer's side did not sign this voucher")
        with self.book.store.write():
            known = self._fresh(voucher.channel_id, now)
            last = self.last(known)
            if last is not None and last.offer == offer and known.charged == offer.ceiling:
                return known, last  # sold before: delivered again, charged once
            self.book.check_free(known, now=now)
            self._check(known, voucher, offer)
            taken = replace(known, charged=offer.ceiling)
            if not voucher.lock:
                taken = replace(taken, ceiling=voucher.ceiling, signature=voucher.signature)
            sale = Sale(device, "locked" if voucher.lock else "plain", offer, voucher, preimage, now)
            self.book.update(taken.channel_id, lambda _: taken)
            self._put(sale)
        return taken, sale

    def settle(self, voucher: SignedVoucher, *, now: int) -> PayeeChannel:
        """Take the plain voucher for what was delivered: the lock before it needs no claim any more.

        Raises:
            VoucherRefusedError: It is not signed, or not for what was delivered.
        """
        if voucher.lock or not voucher.is_signed():
            raise VoucherRefusedError("the payer's side did not sign this voucher")
        with self.book.store.write():
            known = self._fresh(voucher.channel_id, now)
            if voucher.ceiling != known.charged or voucher.ceiling > known.balance:
                raise VoucherRefusedError(f"the voucher is for {voucher.ceiling}, {known.charged} were delivered")
            if voucher.ceiling > known.ceiling:
                known = replace(known, ceiling=voucher.ceiling, signature=voucher.signature)
                self.book.update(known.channel_id, lambda _: known)
        return known

    def unsettled(self) -> list[tuple[PayeeChannel, Sale]]:
        """Return what was sold for a locked voucher, and neither settled by a plain one nor claimed."""
        query = "SELECT * FROM stream_sales WHERE payee = ? AND lock != '' ORDER BY rowid"
        open_ones = []
        for row in self.book.store.read(query, self.book.payee.hex()):
            channel = self.book.channel(ChannelId(row["channel_id"]))
            if channel is not None and max(channel.ceiling, channel.claimed) < int(row["ceiling"]):
                open_ones.append((channel, _sale(row, channel)))
        return open_ones

    # Below

    def _check(self, known: PayeeChannel, voucher: SignedVoucher, offer: Offer) -> None:
        if known.withdraw_at:
            raise ChannelRefusedError(f"the payer is leaving channel {known.channel_id}")
        if max(known.ceiling, known.claimed) < known.charged:
            raise ChannelRefusedError(f"reading {offer.seq} waits for the plain voucher of the one before")
        if (voucher.ceiling, offer.base) != (offer.ceiling, known.charged):
            raise VoucherRefusedError(f"the voucher is for {voucher.ceiling}, the reading's is {offer.ceiling}")
        if voucher.ceiling > known.balance:
            raise _too_little(known, voucher)
        if known.exposure + offer.price > self.book.policy.max_exposure:
            raise ChannelRefusedError(
                f"{known.exposure} are delivered and not claimed, the cap is {self.book.policy.max_exposure}",
                retryable=True,
            )

    def _known(self, channel_id: bytes) -> PayeeChannel:
        known = self.book.channel(channel_id)
        if known is None:
            raise ChannelRefusedError(f"there is no channel {ChannelId(channel_id)}")
        return known

    def _fresh(self, channel_id: bytes, now: int) -> PayeeChannel:
        known = self._known(channel_id)
        if not self.book.policy.is_fresh(known, now=now):
            raise ChannelRefusedError(f"channel {known.channel_id} was not looked at lately", retryable=True)
        return known

    def _put(self, sale: Sale) -> None:
        offer, voucher = sale.offer, sale.voucher
        row = (
            voucher.channel_id.hex(), self.book.payee.hex(), sale.device.hex(), sale.mode, offer.seq, str(offer.base),
            str(offer.ceiling), voucher.lock.hex(), sale.preimage, voucher.signature, sale.at,
        )  # fmt: skip
        with self.book.store.write() as database:
            database.execute("INSERT OR REPLACE INTO stream_sales VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def _too_little(known: PayeeChannel, voucher: SignedVoucher) -> ChannelRefusedError:
    """Return the refusal of a channel whose balance, as it is confirmed by now, is below a voucher."""
    return ChannelRefusedError(
        f"the voucher is for {voucher.ceiling}, the channel holds {known.balance}", retryable=True
    )


def _is_of(sale: Sale | None, offer: Offer) -> bool:
    return sale is not None and sale.offer == offer


def _sale(row: Any, channel: PayeeChannel) -> Sale:
    offer = Offer(row["seq"], int(row["base"]), int(row["ceiling"]))
    lock = Bytes32(row["lock"]) if row["lock"] else b""
    voucher = SignedVoucher(channel.domain, channel.config, offer.ceiling, bytes(row["signature"]), lock)
    mode = cast("Mode", row["mode"])
    return Sale(DeviceId(row["device"]), mode, offer, voucher, bytes(row["preimage"]), row["at"])
