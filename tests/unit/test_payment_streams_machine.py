"""Neither side is ever a reading ahead: both real books, a wire that loses, repeats and reorders, and a model.

The chain is a number here. Messages stay on the wire for ever, so any of them may come late, twice, out of order or
never; files are reopened; the payee claims by plain vouchers, by released keys, and, where it cheats, by keys that it
kept back, which publishes them.
"""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from pyiot_evm.device import Field, LocalSigner, Reading, Schema
from pyiot_evm.exceptions import VerificationError
from pyiot_evm.payment.budgets import Budgets
from pyiot_evm.payment.payee_book import ChannelRefusedError, PayeeBook, PayeePolicy, VoucherRefusedError
from pyiot_evm.payment.payer_book import PayerBook
from pyiot_evm.payment.records import PayeeChannel
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.payment.stream_keys import StreamKeys, lock_of, seal_reading, stream_salt
from pyiot_evm.payment.stream_purchases import BoughtReading, StreamPurchases
from pyiot_evm.payment.stream_sales import StreamSales
from pyiot_evm.payment.vouchers import ChannelDomain, SignedVoucher, channel_config, sign_voucher
from pyiot_evm.types import Address

NOW, PRICE, BALANCE = 1_700_000_000, 100, 100_000
PAYEE, TOKEN, CONTRACT = (Address(bytes([n]) * 20) for n in (2, 3, 4))
ACCOUNT, DEVICE_KEY = LocalSigner.from_secret(b"\x09" * 32), LocalSigner.from_secret(b"\x07" * 32, "p256")
SCHEMA, DOMAIN, DEVICE = Schema((Field("temperature", scale=2),)), ChannelDomain(31337, CONTRACT), DEVICE_KEY.device
KEYS = StreamKeys.of(b"\x05" * 32)
CONFIG = channel_config(ACCOUNT, PAYEE, token=TOKEN, salt=stream_salt(DEVICE, "locked", 0))
LEAVES = [Reading.sign(DEVICE_KEY, seq=n, time=n, schema=SCHEMA.hash, values=(n,)).leaf() for n in range(40)]


class Stream(RuleBasedStateMachine):
    """Two books, and what each side could make of them at any moment."""

    offers = Bundle("offers")
    locked = Bundle("locked")
    keys = Bundle("keys")
    plain = Bundle("plain")

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.stores = []
        self.claimed = self.leaving = 0
        self.most_plain = self.most_locked = 0
        self.public = {}
        self.reopen()
        self.id = self.payer.add(DOMAIN, CONFIG).channel_id
        self.payer.sync(self.id, balance=BALANCE, claimed=0)
        self.purchases.begin(self.id, payee=PAYEE, device=DEVICE, mode="locked", first=0)
        self.look()

    @rule()
    def reopen(self):
        """Either side was killed."""
        for store in self.stores:
            store.close()
        self.stores = [PaymentStore(self.folder / f"{side}.sqlite") for side in ("payer", "payee")]
        self.budgets = Budgets(self.stores[0], clock=lambda: NOW)
        self.payer = PayerBook(self.stores[0], ACCOUNT.address, self.budgets, clock=lambda: NOW)
        self.purchases = StreamPurchases(self.payer, clock=lambda: NOW)
        self.payee = PayeeBook(self.stores[1], PAYEE, PayeePolicy())
        self.sales = StreamSales(self.payee)

    def look(self):
        self.payer.sync(self.id, balance=BALANCE, claimed=self.claimed)
        seen = PayeeChannel(self.id, DOMAIN, CONFIG, balance=BALANCE, claimed=self.claimed, withdraw_at=self.leaving)
        self.payee.sync(seen, at=NOW)

    @property
    def arrived(self):
        return len(self.purchases.bought(DEVICE))

    @rule(target=offers, again=st.booleans())
    def offer(self, again):
        """The payee offers the next reading, or the last one again, as after a resume."""
        last = self.sales.last(self.payee.channel(self.id))
        seq = 0 if last is None else last.offer.seq + (0 if again else 1)
        if seq >= len(LEAVES):
            return multiple()
        offer = self.sales.offer(self.id, seq, PRICE)
        key = KEYS.key(self.id, seq=seq, ceiling=offer.ceiling)
        return offer, lock_of(key), seal_reading(key, seq, LEAVES[seq])

    @rule(target=locked, offered=offers)
    def sign(self, offered):
        offer, lock, sealed = offered
        known = self.purchases.get(self.id)
        if offer.base != known.paid:  # what StreamBuyer asks before
            return multiple()
        if offer.seq != known.next_seq:
            with pytest.raises(VerificationError):
                self.purchases.reserve(self.id, seq=offer.seq, price=PRICE, lock=lock, sealed=sealed, schema=SCHEMA)
            return multiple()
        signed = self.purchases.reserve(
            self.id, seq=offer.seq, price=offer.price, lock=lock, sealed=sealed, schema=SCHEMA
        )
        self.most_locked = max(self.most_locked, signed.ceiling)
        return offer, sign_voucher(ACCOUNT, DOMAIN, CONFIG, signed.ceiling, lock=lock)

    @rule(target=keys, voucher=locked)
    def sell(self, voucher):
        """The payee takes a locked voucher, however old, and gives its key; or refuses it and charges nothing."""
        offer, signed = voucher
        key = KEYS.key(self.id, seq=offer.seq, ceiling=offer.ceiling)
        channel, last = self.payee.channel(self.id), self.sales.last(self.payee.channel(self.id))
        same = last is not None and last.offer == offer and channel.charged == offer.ceiling
        settled = max(channel.ceiling, channel.claimed) >= channel.charged
        if not same and (self.leaving or not settled or offer.base != channel.charged):
            with pytest.raises((ChannelRefusedError, VoucherRefusedError)):
                self.sales.sell(signed, offer, device=DEVICE, preimage=key, now=NOW)
            assert self.payee.channel(self.id) == channel
            return multiple()
        self.sales.sell(signed, offer, device=DEVICE, preimage=key, now=NOW)
        return offer.seq, key

    @rule(target=plain, released=keys)
    def arrive(self, released):
        return self.take(*released)

    def take(self, seq, key):
        """The payer takes a key: where it opens the reading under way, the reading is there and is settled."""
        known = self.purchases.get(self.id)
        if known.signed is None or known.signed.seq != seq or known.signed.lock != lock_of(key):
            return multiple()
        leaf = seal_reading(key, seq, known.signed.sealed)
        assert leaf == LEAVES[seq]
        bought = BoughtReading(self.id, DEVICE, seq, leaf, SCHEMA, DEVICE_KEY.signer_bytes, PRICE)
        paid = self.purchases.arrive(self.id, bought).paid
        self.most_plain = max(self.most_plain, paid)
        return sign_voucher(ACCOUNT, DOMAIN, CONFIG, paid)

    @rule(voucher=plain)
    def settle(self, voucher):
        charged = self.payee.channel(self.id).charged
        if voucher.ceiling == charged:
            assert self.sales.settle(voucher, now=NOW).ceiling == charged
        else:
            with pytest.raises(VoucherRefusedError):
                self.sales.settle(voucher, now=NOW)

    @rule(target=plain, count=st.integers(1, 4))
    def read_on(self, count):
        """Both are honest for a while, from wherever they are."""
        made = []
        for _ in range(count):
            channel, paid = self.payee.channel(self.id), self.purchases.get(self.id).paid
            if paid == channel.charged:
                self.settle(sign_voucher(ACCOUNT, DOMAIN, CONFIG, paid))
            steps = self.offer(again=paid < channel.charged)
            for step in (self.sign, self.sell, lambda released: self.take(*released)):
                steps = step(steps) if isinstance(steps, tuple) else steps
            if isinstance(steps, SignedVoucher):
                self.settle(steps)
                made.append(steps)
        return multiple(*made)

    @rule()
    def claim_plain(self):
        channel = self.payee.channel(self.id)
        self.claimed = max(self.claimed, min(channel.charged, channel.ceiling))
        self.look()

    @rule(target=plain)
    def claim_by_released_keys(self):
        """What `LockedClaims` does; the payer finds the key on the chain, had it not come."""
        made = []
        for _, sale in self.sales.unsettled():
            self.claimed = max(self.claimed, sale.offer.ceiling)
            self.public[sale.offer.ceiling] = sale.preimage
            self.look()
            made.append(self.take(sale.offer.seq, sale.preimage))
        return made[0] if made else multiple()

    @rule(target=plain, voucher=locked)
    def claim_by_a_key_that_was_kept_back(self, voucher):
        """A payee that cheats claims a voucher without giving its key: the claim itself gives it."""
        offer, signed = voucher
        if signed.ceiling <= self.claimed:
            return multiple()
        key = KEYS.key(self.id, seq=offer.seq, ceiling=offer.ceiling)
        self.claimed, self.public[offer.ceiling] = signed.ceiling, key
        self.look()
        return self.take(offer.seq, key)

    @rule(leaving=st.booleans())
    def announce(self, leaving):
        self.leaving = NOW if leaving else 0
        self.look()

    @invariant()
    def neither_side_is_a_reading_ahead(self):
        if not hasattr(self, "id"):
            return
        arrived, channel = self.arrived * PRICE, self.payee.channel(self.id)
        released = max((sale.offer.ceiling for _, sale in self.sales.unsettled()), default=0)
        assert max(channel.ceiling, channel.claimed, released) >= arrived, "what came can be claimed"
        assert self.most_plain <= arrived, "what did not come cannot be claimed without its key"
        assert self.most_locked <= arrived + PRICE, "one reading is under way at a time"
        assert self.claimed <= arrived or self.claimed in self.public, "a claim above what came shows its key"
        assert self.claimed <= arrived + PRICE
        assert arrived <= channel.charged + PRICE

    @invariant()
    def books_agree(self):
        if not hasattr(self, "id"):
            return
        known = self.purchases.get(self.id)
        assert (known.paid, known.next_seq) == (self.arrived * PRICE, self.arrived)
        assert self.payer.channel(self.id).ceiling == max(self.most_locked, self.claimed)
        assert self.budgets.spending(ACCOUNT.address, TOKEN).in_period == self.most_locked
        assert [item.leaf for item in self.purchases.bought(DEVICE)] == LEAVES[: self.arrived]

    def teardown(self):
        for store in getattr(self, "stores", []):
            store.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


Stream.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestStream = Stream.TestCase
