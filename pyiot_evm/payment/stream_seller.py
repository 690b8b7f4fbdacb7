"""The payee's side of one stream, without a network: messages in, messages out.

Each reading goes through four steps: it is offered sealed, its locked voucher comes, its key goes, its plain voucher
comes. The next one is offered with the key, and sold after the plain voucher. In the plain mode the voucher comes first
and the reading goes after it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from pyiot_evm.exceptions import InputError
from pyiot_evm.payment.payee_book import VoucherRefusedError
from pyiot_evm.payment.places import is_ours
from pyiot_evm.payment.stream_keys import lock_of, seal_reading
from pyiot_evm.payment.stream_messages import VERSION, Message
from pyiot_evm.payment.vouchers import SignedVoucher

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiot_evm.device import Reading, Schema
    from pyiot_evm.payment.payee import Payee
    from pyiot_evm.payment.records import PayeeChannel
    from pyiot_evm.payment.stream_keys import Mode, StreamKeys
    from pyiot_evm.payment.stream_sales import Offer
    from pyiot_evm.types import Address, Bytes32, DeviceId

__all__ = ["ReadingFeed", "StreamSeller"]


class ReadingFeed(Protocol):
    """The readings of one device, which may become more."""

    @property
    def device(self) -> DeviceId:
        """The device's id."""

    @property
    def signer(self) -> bytes:
        """The signer bytes of its present key."""

    def bounds(self) -> tuple[int, int]:
        """Return the number of the first reading, and the one after the last."""

    def reading(self, seq: int) -> tuple[Reading, Schema] | None:
        """Return a reading, ``None`` where there is none of this number."""


class StreamSeller:
    """Sells readings to one payer over one connection.

    Args:
        payee: Who is paid.
        keys: Its keys for readings.
        feed: What is sold.
        token: The token that it is paid in.
        price: What a reading costs, base units.
        mode: How it is paid.
        clock: Unix seconds.

    Raises:
        InputError: Locked vouchers cannot be claimed from the payee's contract.
    """

    def __init__(
        self,
        *,
        payee: Payee,
        keys: StreamKeys,
        feed: ReadingFeed,
        token: Address,
        price: int,
        mode: Mode,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if mode == "locked" and not is_ours(payee.chain, payee.contract.address):
            raise InputError("the channels on this chain take no locked vouchers", hint="use the plain mode")
        self._payee = payee
        self._sales = payee.locks.sales
        self._keys = keys
        self._feed = feed
        self._token = token
        self._price = price
        self._mode = mode
        self._clock = clock
        self._channel: PayeeChannel | None = None
        self._next = 0
        self._schema: Bytes32 | None = None
        self._offered: tuple[Offer, bytes, bytes] | None = None
        self._has = 0
        self._has_sold = False

    @property
    def is_open(self) -> bool:
        """Whether the payer showed its channel."""
        return self._channel is not None

    @property
    def is_waiting(self) -> bool:
        """Whether an offer waits for its voucher."""
        return self._offered is not None

    @property
    def has_sold(self) -> bool:
        """Whether a reading was paid."""
        return self._has_sold

    def terms(self, seq: int) -> Message:
        """Return what is sold and how it is paid; a payer pays nothing before it agrees.

        Args:
            seq: The first reading that the payer asked for.
        """
        return Message(
            "terms",
            version=VERSION,
            device=self._feed.device,
            signer=self._feed.signer,
            mode=self._mode,
            chainId=self._payee.domain.chain_id,
            contract=self._payee.domain.contract,
            payee=self._payee.account.address,
            token=self._token,
            price=self._price,
            withdrawDelay=self._payee.book.policy.min_withdraw_delay,
            seq=seq,
        )

    def receive(self, message: Message) -> list[Message]:
        """Take a message of the payer and return the answers.

        Raises:
            InputError: It does not come in turn.
            VoucherRefusedError: Its voucher is not what it must be.
            ChannelRefusedError: Nothing is sold through its channel now.
        """
        if message.kind == "open":
            return self._open(message)
        if self._channel is None:
            raise InputError("a stream begins with a message of type open")
        return self._pay(message, self._channel) if message.kind == "pay" else self._settle(message, self._channel)

    def offer(self) -> list[Message]:
        """Return the next reading's offer, with its schema where that is new; nothing where there is none yet."""
        found = self._feed.reading(self._next)
        if found is None or self._channel is None or self._offered is not None:
            return []
        reading, schema = found
        offer = self._sales.offer(self._channel.channel_id, self._next, self._price, has=self._has)
        leaf, key = reading.leaf(), b""
        if self._mode == "locked":
            key = self._keys.key(self._channel.channel_id, seq=offer.seq, ceiling=offer.ceiling)
        self._offered = offer, key, leaf
        news = [] if schema.hash == self._schema else [Message("schema", document=schema.canonical().decode())]
        self._schema = schema.hash
        lock, sealed = (lock_of(key), seal_reading(key, offer.seq, leaf)) if key else (b"", b"")
        terms = {"seq": offer.seq, "base": offer.base, "ceiling": offer.ceiling}
        return [*news, Message("offer", **terms, lock=lock, sealed=sealed)]

    def end(self) -> Message:
        """Return what is said when there are no more readings."""
        return Message("end", seq=self._next)

    # Below

    def _open(self, message: Message) -> list[Message]:
        if self._channel is not None:
            raise InputError("the stream is open already")
        first, after = self._feed.bounds()
        seq, voucher = message["seq"], message["voucher"]
        if not first <= seq <= after:
            raise InputError(f"there are readings from {first} to {after - 1}, not {seq}")
        if voucher.config.token != self._token:
            raise VoucherRefusedError(f"the channel holds {voucher.config.token}, wanted is {self._token}")
        self._payee.check(voucher)
        self._channel = self._sales.begin(voucher, seq, now=self._now())
        self._next, self._has = seq, voucher.ceiling
        return []

    def _pay(self, message: Message, channel: PayeeChannel) -> list[Message]:
        if self._offered is None or message["seq"] != self._offered[0].seq:
            raise InputError(f"reading {message['seq']} is not on offer")
        offer, key, leaf = self._offered
        lock = lock_of(key) if key else b""
        if message["lock"] != lock:
            raise VoucherRefusedError("the voucher has another lock than the offer")
        voucher = SignedVoucher(channel.domain, channel.config, message["ceiling"], message["signature"], lock)
        self._payee.look_at(channel, voucher.ceiling)
        self._sales.sell(voucher, offer, device=self._feed.device, preimage=key, now=self._now())
        self._offered, self._next, self._has_sold = None, offer.seq + 1, True
        if not key:
            return [Message("reading", seq=offer.seq, leaf=leaf)]
        return [Message("key", seq=offer.seq, key=key)]

    def _settle(self, message: Message, channel: PayeeChannel) -> list[Message]:
        voucher = SignedVoucher(channel.domain, channel.config, message["ceiling"], message["signature"])
        self._payee.look_at(channel, voucher.ceiling)
        return [Message("settled", ceiling=self._sales.settle(voucher, now=self._now()).charged)]

    def _now(self) -> int:
        return int(self._clock())
