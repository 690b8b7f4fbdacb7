"""Both sides of a stream killed (SIGKILL) before and after every write of their books and every message.

Buyer and gateway are processes with homes of their own. One of them is killed at each point and started again: every
reading comes, in order and once for its price, and both books and the chain agree to the unit.
"""

import os
import pickle
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module

import pytest
from children import end_of, in_child
from starlette.websockets import WebSocket
from websockets.sync.client import ClientConnection

from pyiot_evm import Devnet, Machine, connect
from pyiot_evm.chain.transaction_journal import TransactionJournal
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.home import LIGHT, Home
from pyiot_evm.payment import stream as streams
from pyiot_evm.payment.store import PaymentStore

COUNT, LONG, LIVES, PRICE = 2, 60, 32, 100
MONEY = "0.0001"


SLOW_IMPORTS = (
    "pyiot_evm.gateway.app",
    "pyiot_evm.gateway.stream",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "x402.http.x402_http_server",
    "x402.mechanisms.evm.batch_settlement.facilitator.scheme",
    "x402.mechanisms.evm.batch_settlement.server.scheme",
    "x402.mechanisms.evm.exact",
)
for name in SLOW_IMPORTS:  # once, in the parent of all gateways
    import_module(name)


class Points:
    """Counts the places where a process could die, and dies at one of them."""

    def __init__(self, fatal):
        self.count = 0
        self.fatal = fatal
        self.inside = threading.local()

    def reach(self):
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self):
        points, write, journal = self, PaymentStore.write, TransactionJournal._write
        PaymentStore.write, TransactionJournal._write = self.around(write), self.around(journal)
        send, send_text = ClientConnection.send, WebSocket.send_text

        def sent(connection, *arguments):
            points.reach()
            send(connection, *arguments)
            points.reach()

        async def sent_text(connection, text):
            points.reach()
            await send_text(connection, text)
            points.reach()

        ClientConnection.send, WebSocket.send_text = sent, sent_text

    def around(self, function):
        """Wrap a transaction; one inside another is no place of its own."""

        @contextmanager
        def wrapped(*arguments, **named):
            outermost = not getattr(self.inside, "depth", 0)
            self.inside.depth = getattr(self.inside, "depth", 0) + 1
            try:
                if outermost:
                    self.reach()
                with function(*arguments, **named) as value:
                    yield value
                if outermost:
                    self.reach()
            finally:
                self.inside.depth -= 1

        return wrapped


def home_of(folder):
    return Home(folder, passphrase=lambda: "a passphrase of the tests", cost=LIGHT)


def sell(chain_url, folder, port, fatal):
    """Serve until killed or told to end; return how many points were passed."""
    points = Points(fatal)
    with connect(chain_url, home=home_of(folder)) as chain:
        gateway = Gateway(Machine.open(chain, "seller"), GatewayConfig(price_stream=PRICE))
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        gateway.run(port=port, stop=stop, report=lambda _: points.install())
    return points.count


def buy(chain_url, folder, name, url, device, mode, count, fatal, noted):
    """Buy some readings; write down what came, line by line, and return what the book says in the end."""
    points = Points(fatal)
    with connect(chain_url, home=home_of(folder)) as chain:
        machine = Machine.open(chain, name)
        streams._LONGEST_PAUSE = 0.2
        points.install()
        book = machine.payments.payer.book
        options = {"max_price": MONEY, "mode": mode, "follow": False, "prepay": count, "patience": 60}
        with noted.open("a") as came, machine.stream(url, device, **options) as stream:
            for reading in stream:
                came.write(f"{reading.seq}\n")
                came.flush()
        passed = points.count
        bought = [item.seq for item in stream._buyer.purchases.bought(device)]
        (channel,) = book.channels()
        spent = machine.payments.spending().in_period
        return bought, spent, channel.ceiling, channel.balance, stream.purchase, passed


class Stage:
    """A seller's home, and one for each buyer."""

    def __init__(self, chain, folder, measure, count):
        self.chain = chain
        self.count = count
        self.folder = folder
        self.buyers, self.children = 0, []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        seller = self.new("seller", folder / "selling", curve="p256")
        self.device, self.seller = seller.device, seller.address
        measure(seller, count)
        seller.close()

    def new(self, name, folder, **options):
        with connect(self.chain.url, home=home_of(folder)) as chain:
            machine = Machine.create(chain, name, ether=0, dollars=0, **options)
        self.chain.fund(machine.address, ether=1, dollars=1)
        return machine

    def gateway(self, fatal=None):
        serve = partial(sell, self.chain.url, self.folder / "selling", self.port, fatal)
        pid = in_child(serve, self.folder / "counted")
        self.children.append(pid)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return pid
        raise AssertionError("the gateway did not come up")

    def buyer(self, mode):
        self.buyers += 1
        name = f"buyer{self.buyers}"
        self.new(name, self.folder / "buying" / name)
        result = self.folder / f"{name}.result"
        bought = partial(
            buy, self.chain.url, self.folder / "buying" / name, name, self.url, self.device, mode, self.count
        )
        return lambda fatal=None: in_child(partial(bought, fatal, result.with_suffix(".came")), result), result

    def clear(self):
        """End what a failed test left."""
        for pid in self.children:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def end(self, pid):
        os.kill(pid, signal.SIGTERM)
        status, count = end_of(pid, self.folder / "counted")
        assert status == 0
        return count

    def money(self):
        """Claim and settle everything; return what the seller got in all."""
        with connect(self.chain.url, home=home_of(self.folder / "selling")) as chain:
            payments = Machine.open(chain, "seller").payments
            assert all(c.charged == c.ceiling == self.count * PRICE for c in payments.payee.book.channels())
            payments.claim()
            payments.settle()
            return chain.token_info().to_units(Machine.open(chain, "seller").balance())


@pytest.fixture(scope="module")
def devnet():
    with Devnet() as chain:
        yield chain


@pytest.fixture
def stage_of(devnet, tmp_path, measure):
    """Return a function that makes a stage with so many readings to sell."""
    made = []

    def make(count):
        made.append(Stage(devnet, tmp_path, measure, count))
        return made[0]

    yield make
    for stage in made:
        stage.clear()


def check(result, point):
    """Check what a buyer has after all: each reading, once, for its price."""
    bought, spent, ceiling, balance, purchase, count = pickle.loads(result.read_bytes())
    came = [int(line) for line in result.with_suffix(".came").read_text().split()]
    assert (bought, sorted(set(came))) == ([0, 1], [0, 1]), point
    assert came in ([0, 1], [0, 0, 1], [0, 1, 1]), f"{point}: what was not taken comes again, nothing else"
    assert (spent, ceiling, balance) == (COUNT * PRICE, COUNT * PRICE, COUNT * PRICE), point
    assert (purchase.paid, purchase.signed, purchase.fault) == (COUNT * PRICE, None, ""), point
    return count


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["locked", "plain"])
def test_stream__when_the_buyer_is_killed_at_any_point__goes_on_and_pays_once(stage_of, mode, capfd):
    stage = stage_of(COUNT)
    gateway = stage.gateway()
    before = stage.money()
    start, result = stage.buyer(mode)
    assert os.waitpid(start(), 0)[1] == 0
    points = check(result, "nobody was killed")
    assert points > 10 * COUNT
    for fatal in range(1, points + 1):
        start, result = stage.buyer(mode)
        assert os.WIFSIGNALED(os.waitpid(start(fatal), 0)[1]), f"point {fatal} of {points} was not reached"
        assert os.waitpid(start(), 0)[1] == 0
        check(result, f"point {fatal} of {points}")
    stage.end(gateway)
    assert stage.money() - before == (points + 1) * COUNT * PRICE
    with capfd.disabled():
        sys.stdout.write(f"\n  buyer, {mode}: killed at each of {points} points\n")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["locked", "plain"])
def test_stream__when_the_gateway_is_killed_at_any_point__goes_on_and_is_paid_once(stage_of, mode, capfd):
    """One buyer; each gateway lives for one point longer than the one before: connecting and two readings are fewer."""
    stage = stage_of(LONG)
    before = stage.money()
    start, result = stage.buyer(mode)
    gateway, buyer = stage.gateway(1), start()
    for fatal in range(2, LIVES + 1):
        assert os.WIFSIGNALED(os.waitpid(gateway, 0)[1]), f"point {fatal - 1} was not reached"
        gateway = stage.gateway(fatal)
    assert os.WIFSIGNALED(os.waitpid(gateway, 0)[1])
    gateway = stage.gateway()
    assert os.waitpid(buyer, 0)[1] == 0
    passed = stage.end(gateway)
    bought, spent, ceiling, balance, purchase, _ = pickle.loads(result.read_bytes())
    assert bought == [int(line) for line in result.with_suffix(".came").read_text().split()] == list(range(LONG))
    assert (spent, ceiling, purchase.paid) == (LONG * PRICE, LONG * PRICE, LONG * PRICE)
    assert (balance, purchase.signed, purchase.fault) == (LONG * PRICE, None, "")
    assert stage.money() - before == LONG * PRICE
    with capfd.disabled():
        sys.stdout.write(f"\n  gateway, {mode}: killed at points 1 to {LIVES}; the last one passed {passed}\n")
