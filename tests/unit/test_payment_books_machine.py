"""A model and the real books, step by step: payer and payee, lost messages, stale and forged vouchers, reopened files.

The chain is a dictionary here: what the books must hold is their own. The invariants: no ceiling is promised twice, the
payee never charges above what was signed or deposited, exposure stays under its cap, and the budget is never passed.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import BudgetError
from pyiot_evm.payment.budgets import Budget, Budgets
from pyiot_evm.payment.payee_book import ChannelRefusedError, PayeeBook, PayeePolicy, VoucherRefusedError
from pyiot_evm.payment.payer_book import DepositNeeded, PayerBook
from pyiot_evm.payment.records import PayeeChannel
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.payment.vouchers import ChannelDomain, SignedVoucher, channel_config, sign_voucher
from pyiot_evm.types import Address

NOW, CAP, PERIOD = 1_700_000_000, 500, 2_000
PAYEE, TOKEN, CONTRACT = (Address(bytes([n]) * 20) for n in (2, 3, 4))
KEY = LocalSigner.from_secret(b"\x09" * 32)
DOMAIN = ChannelDomain(31337, CONTRACT)
CONFIG = channel_config(KEY, PAYEE, token=TOKEN)


class Books(RuleBasedStateMachine):
    """Two files and a model of what they must hold."""

    vouchers = Bundle("vouchers")

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.balance = self.claimed = self.ceiling = self.charged = self.signed = self.highest = 0
        self.leaving = False
        self.paid = {}
        self.stores = []
        self.open()
        self.channel_id = self.payer.add(DOMAIN, CONFIG).channel_id
        self.sync()

    def open(self):
        for store in self.stores:
            store.close()
        self.stores = [PaymentStore(self.folder / f"{side}.sqlite") for side in ("payer", "payee")]
        budgets = Budgets(self.stores[0], clock=lambda: NOW)
        budgets.set(KEY.address, TOKEN, Budget(each_period=PERIOD))
        self.payer = PayerBook(self.stores[0], KEY.address, budgets, clock=lambda: NOW)
        self.payee = PayeeBook(self.stores[1], PAYEE, PayeePolicy(max_exposure=CAP))

    def sync(self):
        self.payer.sync(self.channel_id, balance=self.balance, claimed=self.claimed)
        seen = PayeeChannel(self.channel_id, DOMAIN, CONFIG, balance=self.balance, claimed=self.claimed)
        self.payee.sync(replace(seen, withdraw_at=NOW if self.leaving else 0), at=NOW)

    @rule(amount=st.integers(1, 600))
    def deposit(self, amount):
        self.balance += amount
        self.sync()

    @rule(target=vouchers, amount=st.integers(1, 200), key=st.sampled_from("abcdefgh"))
    def pay(self, amount, key):
        name = f"{key}{amount}"
        if name in self.paid:
            assert self.payer.reserve(self.channel_id, amount, name).ceiling == self.paid[name]
        elif sum(int(known[1:]) for known in self.paid) + amount > PERIOD:
            with pytest.raises(BudgetError):
                self.payer.reserve(self.channel_id, amount, name)
            return None
        elif self.ceiling + amount > self.balance:
            with pytest.raises(DepositNeeded) as caught:
                self.payer.reserve(self.channel_id, amount, name)
            assert caught.value.missing == self.ceiling + amount - self.balance
            return None
        else:
            self.ceiling += amount
            self.paid[name] = self.payer.reserve(self.channel_id, amount, name).ceiling
            assert self.paid[name] == self.ceiling
            self.highest = max(self.highest, self.ceiling)
        return sign_voucher(KEY, DOMAIN, CONFIG, self.paid[name])

    @rule(voucher=vouchers, price=st.integers(0, 250))
    def accept(self, voucher, price):
        if voucher is None:
            return
        if self.leaving:
            expected = ChannelRefusedError
        elif voucher.ceiling < self.signed or voucher.ceiling - self.charged < price:
            expected = VoucherRefusedError
        elif self.charged - self.claimed + price > CAP:
            expected = ChannelRefusedError
        else:
            self.charged, self.signed = self.charged + price, max(self.signed, voucher.ceiling)
            assert self.payee.accept(voucher, price, now=NOW).charged == self.charged
            return
        with pytest.raises(expected):
            self.payee.accept(voucher, price, now=NOW)

    @rule(voucher=vouchers, garbage=st.binary(max_size=150))
    def accept_forged(self, voucher, garbage):
        if voucher is None:
            return
        forged = SignedVoucher(DOMAIN, CONFIG, voucher.ceiling, garbage)
        with pytest.raises(VoucherRefusedError) as caught:
            self.payee.accept(forged, 0, now=NOW)
        assert caught.value.last is None

    @rule()
    def claim(self):
        self.claimed = max(self.claimed, min(self.charged, self.balance))
        self.sync()

    @rule(leaving=st.booleans())
    def announce(self, leaving):
        self.leaving = leaving
        self.sync()

    @rule()
    def reopen(self):
        self.open()

    @rule()
    def lose_the_payers_book_and_rebuild(self):
        """The chain and the payee's last voucher bring back what was shown to the payee, not what is on its way."""
        self.stores[0].close()
        for path in self.folder.glob("payer.sqlite*"):
            path.unlink()
        self.open()
        self.payer.add(DOMAIN, CONFIG)
        self.sync()
        self.payer.raise_ceiling(self.channel_id, self.signed)
        self.ceiling, self.paid = max(self.claimed, self.signed), {}

    @invariant()
    def books_hold_what_the_model_holds(self):
        if not hasattr(self, "channel_id"):
            return
        mine, theirs = self.payer.channel(self.channel_id), self.payee.channel(self.channel_id)
        assert (mine.balance, mine.claimed, mine.ceiling) == (self.balance, self.claimed, self.ceiling)
        assert (theirs.balance, theirs.claimed, theirs.charged) == (self.balance, self.claimed, self.charged)
        assert theirs.claimed <= theirs.charged <= theirs.ceiling <= self.highest <= mine.balance
        assert mine.ceiling <= mine.balance
        assert theirs.exposure <= CAP
        assert not theirs.signature or theirs.voucher.is_signed()

    def teardown(self):
        for store in getattr(self, "stores", []):
            store.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


Books.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestBooks = Books.TestCase
