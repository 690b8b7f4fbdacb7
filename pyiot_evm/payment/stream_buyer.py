"""The payer's side of one stream, without a network: messages in, messages and readings out.

Nothing is signed before it is in the book, nothing is signed for more than one reading that did not come, and what came
is checked before it counts. A payee that delivers something else is remembered: :class:`StreamFaultError`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyiot_evm.contracts.payment_channels import LockOpened
from pyiot_evm.device import Reading, Schema
from pyiot_evm.exceptions import BudgetError, InputError, TransportError, VerificationError
from pyiot_evm.payment.payer_book import DepositNeeded
from pyiot_evm.payment.places import is_ours
from pyiot_evm.payment.records import PayerChannel
from pyiot_evm.payment.stream_checks import ReadingCheck
from pyiot_evm.payment.stream_errors import StreamFaultError, StreamRefusedError
from pyiot_evm.payment.stream_keys import MODES, lock_of, seal_reading, stream_salt
from pyiot_evm.payment.stream_messages import VERSION, Message
from pyiot_evm.payment.stream_purchases import BoughtReading, StreamPurchases
from pyiot_evm.payment.tokens import money_text
from pyiot_evm.payment.vouchers import authorizer_of, channel_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiot_evm.contracts.payment_channels import ChannelConfig
    from pyiot_evm.device import Signer
    from pyiot_evm.payment.payer import Payer
    from pyiot_evm.payment.stream_keys import Mode
    from pyiot_evm.payment.stream_purchases import Purchase, Signed
    from pyiot_evm.payment.vouchers import SignedVoucher
    from pyiot_evm.types import Address, DeviceId

__all__ = ["StreamBuyer", "StreamQuote", "StreamTerms"]

_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class StreamTerms:
    """What a payer agrees to.

    Attributes:
        device: Whose readings it wants.
        mode: How it pays.
        token: In which token.
        most: What one reading may cost, base units.
        prepay: For how many readings a channel is paid into at once.
        moves: Whether to begin with the reading that was asked for; else the stream goes on where it ended.
        again: Whether to ask a payee again that delivered no reading before.

    Raises:
        InputError: There is no such mode.
    """

    device: DeviceId
    mode: Mode
    token: Address
    most: int
    prepay: int = 100
    moves: bool = False
    again: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"modes are {' and '.join(MODES)}, not {self.mode!r}")


@dataclass(frozen=True, slots=True)
class StreamQuote:
    """What a stream would cost; nothing was signed for it.

    Attributes:
        price: One reading's, base units.
        payee: Who would be paid.
        seq: The first reading that would come.
        pays_in: What would go into the channel first, base units; 0 where it covers the reading.
        withdraw_delay: Seconds that it takes to get back what is not used.
    """

    price: int
    payee: Address
    seq: int
    pays_in: int
    withdraw_delay: int


class StreamBuyer:
    """Buys readings from one payee over one connection.

    Args:
        payers: The paying sides of one account, one for each contract.
        terms: What it agrees to.
        signer: The key that signs vouchers; the account's when left out.
    """

    def __init__(self, payers: Sequence[Payer], terms: StreamTerms, *, signer: Signer | None = None) -> None:
        self._payers = payers
        self._payer = payers[0]
        self._terms = terms
        self._signer = signer or payers[0].signer
        self.purchases = StreamPurchases(self._payer.book)
        self._check: ReadingCheck | None = None
        self._schema: Schema | None = None
        self._last: Reading | None = None
        self._has_moved = False

    # The channel

    def agree(self, stated: Message) -> Purchase:
        """Check a payee's terms and return the stream with it; nothing is signed or sent.

        Args:
            stated: Its message.

        Raises:
            InputError: They are not what was asked for, or it delivered no reading before.
            BudgetError: A reading costs more than it may.
        """
        self._check_terms(stated)
        known = self._known(stated)
        purchase = known[-1] if known and not self._channel(known[-1]).closing else self._begin(stated, len(known))
        self._check_fault(purchase)
        return self._placed(self.purchases.forgive(purchase.channel_id), stated["seq"])

    def quote(self, stated: Message) -> StreamQuote:
        """Return what a payee's terms would cost; nothing is signed, sent or written down.

        Args:
            stated: Its message.

        Raises:
            InputError: They are not what was asked for, or it delivered no reading before.
            BudgetError: A reading costs more than it may.
        """
        self._check_terms(stated)
        known, price = self._known(stated), stated["price"]
        if known and not (channel := self._channel(known[-1])).closing:
            self._check_fault(known[-1])
            seq = stated["seq"] if self._terms.moves and known[-1].signed is None else known[-1].next_seq
            rest = known[-1].paid + price - channel.ceiling
        else:
            config = self._config(stated, len(known))
            channel = PayerChannel(self._payer.domain.channel_id(config), self._payer.domain, config)
            seq, rest = stated["seq"], price
        self._payer.book.check_budget(channel, price)
        pays_in = self._payer.lacks(channel, rest, wanted=price * max(self._terms.prepay, 1))
        return StreamQuote(price, stated["payee"], seq, pays_in, channel.config.withdraw_delay)

    def _check_terms(self, stated: Message) -> None:
        wanted = self._terms
        for name, mine in (("version", VERSION), ("device", wanted.device), ("mode", wanted.mode)):
            if stated[name] != mine:
                raise InputError(f"the gateway sells with {name} {stated[name]}, wanted is {mine}")
        if stated["price"] > wanted.most:
            raise self._too_dear(stated["price"])
        self._payer = self._payer_at(stated)
        if stated["token"] != wanted.token:
            raise InputError(f"the gateway wants {stated['token']}, paid is in {wanted.token}")
        self._check_contract()
        self._check = ReadingCheck.by_registry(self._payer.chain, wanted.device, stated["signer"])
        self._check.begin()

    def _check_fault(self, purchase: Purchase) -> None:
        if purchase.fault and not self._terms.again:
            raise InputError(
                f"nothing more is bought from {purchase.payee}: {purchase.fault}",
                hint="`--again` asks it for that reading again, for nothing more",
            )

    def open(self, purchase: Purchase, price: int) -> Message:
        """Return the message that opens the stream: the voucher for all readings that came.

        A new channel is paid into before: a gateway does not look at empty ones.
        """
        channel = self._payer.sync(purchase.channel_id)
        if not channel.balance:
            self._payer.book.check_budget(channel, price)
            self._fill(purchase, price)
        voucher = self._sign(purchase, purchase.paid)
        return Message("open", voucher=voucher, seq=purchase.next_seq)

    def adopt(self, purchase: Purchase, refused: StreamRefusedError) -> Purchase:
        """Take over where the stream is, from this payer's own voucher that its book has forgotten.

        Only a voucher above all that the book ever promised shows that the book is the older one.

        Raises:
            StreamRefusedError: The payee has no such voucher.
        """
        last, channel = refused.last, self._payer.book.channel(purchase.channel_id)
        if last is None or last.channel_id != channel.channel_id or last.ceiling <= channel.ceiling:
            raise refused
        if last.lock:  # it pays for a reading whose key may never have come
            raise refused
        if not last.is_signed():
            raise VerificationError("the gateway showed a voucher that this payer did not sign") from refused
        return self.purchases.adopt(purchase.channel_id, last.ceiling, purchase.next_seq)

    # The messages

    def schema(self, message: Message) -> None:
        """Take the schema of the readings that follow."""
        self._schema = Schema.parse(message["document"].encode())

    def buy(self, purchase: Purchase, offer: Message) -> Message:
        """Return the voucher for an offer; the channel is paid into where that is needed.

        Raises:
            VerificationError: The offer is not for the reading that comes next, or not at a sum that follows.
            BudgetError: It would go over a limit; nothing was signed.
        """
        seq, price = offer["seq"], offer["ceiling"] - offer["base"]
        if self._check is None or self._schema is None:
            raise VerificationError("a reading was offered before its schema")
        if seq != purchase.next_seq or offer["base"] != purchase.paid or price < 1:
            raise VerificationError(
                f"reading {seq} is offered from {offer['base']} to {offer['ceiling']}; reading {purchase.next_seq} "
                f"comes next, and {purchase.paid} are paid"
            )
        if price > self._terms.most:
            raise self._too_dear(price)
        locked, sealed = bool(offer["lock"]), offer["sealed"]
        if locked != (self._terms.mode == "locked") or (
            locked and len(sealed) not in self._check.lengths(self._schema)
        ):
            raise VerificationError(f"what is offered as reading {seq} is none: {len(sealed)} bytes")
        signed = self._reserve(purchase, offer, price)
        voucher = self._sign(purchase, signed.ceiling, lock=signed.lock)
        return Message("pay", seq=seq, ceiling=signed.ceiling, lock=signed.lock, signature=voucher.signature)

    def take(self, purchase: Purchase, message: Message) -> BoughtReading:
        """Take a key or a reading, check what it is, and write it down.

        Raises:
            VerificationError: It is not for the reading under way.
            StreamFaultError: It is for that reading, and it is no reading.
        """
        signed = purchase.signed
        if signed is None or message["seq"] != signed.seq:
            raise VerificationError(f"nothing was paid for reading {message['seq']}")
        if (message.kind == "key") != bool(signed.lock):
            raise VerificationError(f"a message of type {message.kind} does not answer a {self._terms.mode} voucher")
        if message.kind == "key" and lock_of(message["key"]) != signed.lock:
            raise VerificationError(f"the key of reading {signed.seq} does not open its lock")
        leaf = message["leaf"] if message.kind == "reading" else seal_reading(message["key"], signed.seq, signed.sealed)
        return self._taken(purchase, signed, leaf)

    def pay(self, purchase: Purchase) -> Message:
        """Return the plain voucher for all that came: it makes the last lock worthless."""
        voucher = self._sign(purchase, purchase.paid)
        return Message("paid", ceiling=voucher.ceiling, signature=voucher.signature)

    def recover(self, purchase: Purchase) -> BoughtReading | None:
        """Take the key of the reading under way from the chain, where its payee published it to be paid.

        A key that opened garbage before is not tried again: then the payee is asked.
        """
        signed, payer = purchase.signed, self._payer
        if (
            signed is None
            or not signed.lock
            or self._terms.again
            or payer.sync(purchase.channel_id).claimed < signed.ceiling
        ):
            return None
        topics = [LockOpened.TOPIC, purchase.channel_id, signed.lock]
        logs = payer.chain.logs(address=payer.contract.address, topics=topics)
        if not logs:
            return None
        key = LockOpened.from_log(logs[0]).preimage
        return self._taken(purchase, signed, seal_reading(key, signed.seq, signed.sealed))

    # Below

    def _too_dear(self, price: int) -> BudgetError:
        chain, terms = self._payer.chain, self._terms
        asked, allowed = (money_text(chain, terms.token, units) for units in (price, terms.most))
        return BudgetError(f"a reading costs {asked}, at most {allowed} may be paid; nothing was signed")

    def _payer_at(self, stated: Message) -> Payer:
        place = stated["chainId"], stated["contract"]
        for payer in self._payers:
            if (payer.domain.chain_id, payer.domain.contract) == place:
                return payer
        raise InputError(f"the gateway is paid through {place[1]} on chain {place[0]}, which is not this payer's")

    def _check_contract(self) -> None:
        """See that vouchers can be claimed: x402's own contract lacks what the suite adds."""
        locked, contract = self._terms.mode == "locked", self._payer.contract.address
        if (not locked and self._signer.curve == "secp256k1") or is_ours(self._payer.chain, contract):
            return
        if locked:
            raise InputError("the channels on this chain take no locked vouchers", hint="use the plain mode")
        raise InputError(
            f"the channels at {contract} take no vouchers of a P-256 key", hint="let the account's key sign"
        )

    def _channel(self, purchase: Purchase) -> PayerChannel:
        return self._payer.book.channel(purchase.channel_id)

    def _known(self, stated: Message) -> list[Purchase]:
        """Return the streams with a payee, the one that may go on last."""
        wanted, authorizer = self._terms, authorizer_of(self._signer)
        found = [
            purchase
            for purchase in self.purchases.all()
            if (purchase.payee, purchase.device, purchase.mode) == (stated["payee"], wanted.device, wanted.mode)
            and (channel := self._channel(purchase)).domain == self._payer.domain
            and (channel.config.token, channel.config.payer_authorizer) == (wanted.token, authorizer)
        ]
        return sorted(found, key=lambda purchase: not self._channel(purchase).closing)

    def _config(self, stated: Message, number: int) -> ChannelConfig:
        """Return the terms of a new channel for a stream, so many of which there were before."""
        wanted = self._terms
        self._payer.policy.check_withdraw_delay(stated["withdrawDelay"])
        return channel_config(
            self._signer,
            stated["payee"],
            token=wanted.token,
            payer=self._payer.account.address,
            withdraw_delay=max(self._payer.policy.withdraw_delay, stated["withdrawDelay"]),
            salt=stream_salt(wanted.device, wanted.mode, number),
        )

    def _begin(self, stated: Message, number: int) -> Purchase:
        channel = self._payer.book.add(self._payer.domain, self._config(stated, number))
        place = {"payee": stated["payee"], "device": self._terms.device, "mode": self._terms.mode}
        return self.purchases.begin(channel.channel_id, **place, first=stated["seq"])

    def _placed(self, purchase: Purchase, seq: int) -> Purchase:
        """Begin where it was asked for, once; a reading under way comes first."""
        if self._terms.moves and not self._has_moved and purchase.signed is None:
            self._has_moved = True
            return self.purchases.move(purchase.channel_id, seq)
        return purchase

    def _reserve(self, purchase: Purchase, offer: Message, price: int) -> Signed:
        for _ in range(_TRIES):
            try:
                return self.purchases.reserve(
                    purchase.channel_id,
                    seq=offer["seq"],
                    price=price,
                    lock=offer["lock"],
                    sealed=offer["sealed"],
                    schema=self._schema,
                )
            except DepositNeeded:
                self._fill(purchase, price)
        raise TransportError("the channel's balance does not come up to what was paid in")

    def _fill(self, purchase: Purchase, price: int) -> None:
        channel = self._payer.book.channel(purchase.channel_id)
        rest = purchase.paid + price - channel.ceiling  # a reading under way is promised already
        self._payer.fill(channel, rest, wanted=price * max(self._terms.prepay, 1))

    def _taken(self, purchase: Purchase, signed: Signed, leaf: bytes) -> BoughtReading:
        schema = self._schema or self.purchases.schema_of(purchase.channel_id)
        assert self._check is not None
        assert schema is not None  # no offer is taken before it
        try:
            reading = self._check.check(leaf, schema, seq=signed.seq, before=self._before(signed.seq))
        except VerificationError as error:
            self.purchases.accuse(purchase.channel_id, error.message)
            raise StreamFaultError(error.message, seq=signed.seq, lost=signed.ceiling - purchase.paid) from error
        bought = BoughtReading(
            channel_id=purchase.channel_id,
            device=purchase.device,
            seq=signed.seq,
            leaf=leaf,
            schema=schema,
            signer=self._check.signer_of(reading),
            price=signed.ceiling - purchase.paid,
        )
        self.purchases.arrive(purchase.channel_id, bought)
        self._last = reading
        return bought

    def _before(self, seq: int) -> Reading | None:
        """Return the reading of the number before, where it was bought."""
        if self._last is not None and self._last.seq == seq - 1:
            return self._last
        found = self.purchases.bought(self._terms.device, seq=seq - 1) if seq else []
        with suppress(InputError):
            return found[0].reading() if found else None
        return None

    def _sign(self, purchase: Purchase, ceiling: int, *, lock: bytes = b"") -> SignedVoucher:
        return self._payer.voucher(purchase.channel_id, ceiling, lock=lock, signer=self._signer)
