"""Payers and payees killed (SIGKILL) before and after every write of their books and every send.

The story runs once in a child that counts its points, then once for each point in a child that is killed there; a
second child runs the same lines again to the end. Whatever the point: each payment is counted and paid once, no voucher
is lost, and no money is paid in twice.
"""

import os
import shutil
import signal
import sys
from contextlib import contextmanager

import pytest
from children import end_of, in_child

from pyiot_evm import Devnet, Machine, connect
from pyiot_evm.chain.rpc import RpcClient
from pyiot_evm.chain.transaction_journal import TransactionJournal
from pyiot_evm.home import LIGHT, Home
from pyiot_evm.payment.payee_book import VoucherRefusedError
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.types import Address

PASSPHRASE = "a passphrase of the tests"
SENDING = "eth_sendRawTransaction"


class Points:
    """Counts the places where a process could die, and dies at one of them."""

    def __init__(self, fatal):
        self.count = 0
        self.fatal = fatal
        self.active = False

    def reach(self):
        if self.active:
            self.count += 1
            if self.count == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def counted(self):
        self.active = True
        try:
            yield
        finally:
            self.active = False

    def install(self):
        write, journal = PaymentStore.write, TransactionJournal._write
        PaymentStore.write, TransactionJournal._write = self.around(write), self.around(journal)
        call, batch = RpcClient.call, RpcClient.batch
        RpcClient.call = lambda c, m, *a: self.run(call, m == SENDING, c, m, *a)
        RpcClient.batch = lambda c, r: self.run(batch, any(m == SENDING for m, _ in r), c, r)

    def run(self, function, counts, *arguments):
        if counts:
            self.reach()
        result = function(*arguments)
        if counts:
            self.reach()
        return result

    def around(self, function):
        @contextmanager
        def wrapped(*arguments, **named):
            self.reach()
            with function(*arguments, **named) as value:
                yield value
            self.reach()

        return wrapped


def ending(chain, payer, payee):
    channels = payer.payments.payer.book.channels()
    return {
        "payer": payer.balance(),
        "payee": payee.balance(),
        "spent": payer.payments.spending().in_period,
        "payments": [p.amount for p in payer.payments.payer.book.payments()],
        "channels": [(c.balance, c.claimed, c.ceiling) for c in channels],
    }


def payer_dies(chain, points):
    """Three payments with keys: the first opens and fills the channel, the second fits, the third fills it again."""
    payer, payee = Machine.open(chain, "payer"), Machine.open(chain, "payee")
    with points.counted():
        first = payer.pay(payee.address, "0.001", key="first")
        second = payer.pay(payee.address, "0.002", key="second")
        third = payer.pay(payee.address, "0.02", key="third")
    assert [sent.payment.ceiling for sent in (first, second, third)] == [1000, 3000, 23_000]
    payee.payments.collect(third.voucher)
    payee.payments.claim()
    payee.payments.settle()
    payer.payments.payer.sync(third.payment.channel_id)
    return ending(chain, payer, payee)


def payee_dies(chain, points):
    """A delivery is charged once or not at all; what was charged is claimed and paid out once."""
    payer, payee = Machine.open(chain, "payer"), Machine.open(chain, "payee")
    first = payer.pay(payee.address, "0.001", key="first")
    second = payer.pay(payee.address, "0.002", key="second")
    with points.counted():
        for sent in (first, second):
            try:
                payee.payments.accept(sent.voucher, sent.payment.amount)
            except VoucherRefusedError as refused:  # charged before the kill
                if refused.last is None or refused.last.ceiling < sent.voucher.ceiling:
                    raise
        payee.payments.payee.tend()
        payee.payments.claim()
        payee.payments.settle()
    payer.payments.payer.sync(first.payment.channel_id)
    return ending(chain, payer, payee)


def payer_leaves(chain, points):
    """A withdrawal is announced and taken once; what was claimed stays the payee's."""
    payer, payee = Machine.open(chain, "payer"), Machine.open(chain, "payee")
    sent, side = payer.pay(payee.address, "0.001", key="only"), payer.payments.payer
    if not side.sync(sent.payment.channel_id).claimed:
        payee.payments.collect(sent.voucher)
        payee.payments.claim()
        payee.payments.settle()
    with points.counted():
        while (left := side.sync(sent.payment.channel_id)).balance > left.claimed:
            if (at := side.withdrawable_at(left)) > chain.now():
                chain.increase_time(at - chain.now() + 1)
            payer.payments.close(left.channel_id)
    return ending(chain, payer, payee) | {"pending": pending(payer, left.channel_id), "closing": left.closing}


def vault_dies(chain, points):
    """Money goes into the vault, into two channels by one transaction, and what is left goes out: each once."""
    payer, payee = Machine.open(chain, "payer"), Machine.open(chain, "payee")
    vault, other = payer.payments.vault, Address(b"\x55" * 20)
    with points.counted():
        vault.deposit(50_000, key="in")
        vault.fund({payee.address: 10_000, other: 5_000}, key="both")
        vault.withdraw(key="out")
    sent = payer.pay(payee.address, "0.01", key="all")
    payee.payments.collect(sent.voucher)
    payee.payments.claim()
    payee.payments.settle()
    payer.payments.sync(sent.payment.channel_id)
    return ending(chain, payer, payee) | {"vault": vault.credit()}


def pending(payer, channel_id):
    side = payer.payments.payer
    return side.chain.call(side.contract.pending_withdrawals(channel_id)).amount


STORIES = {"vault": vault_dies, "payer": payer_dies, "payee": payee_dies, "leaving": payer_leaves}


class Stage:
    """A devnet and a home with funded machines, put back before each run."""

    def __init__(self, chain, folder):
        self.chain = chain
        self.folder = folder
        self.snapshot = chain.snapshot()

    def reset(self):
        self.chain.rpc("evm_revert", self.snapshot)
        self.snapshot = self.chain.snapshot()
        shutil.rmtree(self.folder / "home", ignore_errors=True)
        shutil.copytree(self.folder / "template", self.folder / "home")

    def run(self, story, fatal):
        result = self.folder / "result"
        status, ending = end_of(in_child(lambda: self.play(story, fatal), result), result)
        found, points = ending or (None, 0)
        return status, found, points

    def play(self, story, fatal):
        points = Points(fatal)
        points.install()
        home = Home(self.folder / "home", passphrase=lambda: PASSPHRASE, cost=LIGHT)
        with connect(self.chain.url, home=home) as chain:
            found = story(chain, points)
        return found, points.count


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("payment-kills")
    home = Home(folder / "template", passphrase=lambda: PASSPHRASE, cost=LIGHT)
    with Devnet(home=home) as chain:
        for name in ("payer", "payee"):
            Machine.create(chain, name).close()
        chain.journal.close()
        yield Stage(chain, folder)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", sorted(STORIES))
def test_payments__when_killed_at_any_point__end_as_if_nobody_was_killed(stage, name, capfd):
    stage.reset()
    status, expected, points = stage.run(STORIES[name], None)
    assert status == 0
    assert points > 4
    for fatal in range(1, points + 1):
        stage.reset()
        killed, _, _ = stage.run(STORIES[name], fatal)
        assert os.WIFSIGNALED(killed), f"point {fatal} of {points} was not reached"
        status, found, _ = stage.run(STORIES[name], None)
        assert (status, found) == (0, expected), f"killed at point {fatal} of {points}"
    with capfd.disabled():
        sys.stdout.write(f"\n  {name}: killed at each of {points} points\n")
