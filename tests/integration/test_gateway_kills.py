"""A gateway killed (SIGKILL) before and after every write of its books and every transaction, as it serves a payment.

Its process is forked and dies at one point; another one takes its place, and the payer sends the same payment again.
Whatever the point: the payer has its answer, was charged once, and the money that the payee gets is what was charged.
"""

import os
import secrets
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import pytest
import requests

from pyiot_evm import Devnet, Machine, connect
from pyiot_evm.chain.nodes import free_port
from pyiot_evm.chain.rpc import RpcClient
from pyiot_evm.chain.transaction_journal import TransactionJournal
from pyiot_evm.exceptions import TransportError
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.home import LIGHT, Home
from pyiot_evm.payment.facade import Payments
from pyiot_evm.payment.http_client import HttpPayer
from pyiot_evm.payment.store import PaymentStore

sys.path.insert(0, str(Path(__file__).parent))
from children import end_of, in_child
from gateway_kit import LATEST, dollars, journal_of, until

SENDING = "eth_sendRawTransaction"
FEWEST = {"exact": 6, "batch-settlement": 18}  # points
KEYS = {"exact": ["only"], "batch-settlement": ["first", "second"]}  # the first opens the channel

for name in (
    "pyiot_evm.gateway.app",
    "pyiot_evm.gateway.stream",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "x402.http.x402_http_server",
    "x402.mechanisms.evm.batch_settlement.facilitator.scheme",
    "x402.mechanisms.evm.batch_settlement.server.scheme",
    "x402.mechanisms.evm.exact",
):  # slow ones, once, in the parent of all gateways
    import_module(name)


class Points:
    """Counts the places where a gateway could die, and dies at one of them."""

    def __init__(self, fatal):
        self.count, self.fatal = 0, fatal
        self.inside = threading.local()

    def reach(self):
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self):
        PaymentStore.write = self.around(PaymentStore.write)
        TransactionJournal._write = self.around(TransactionJournal._write)
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
        """Wrap a transaction; one inside another is no place of its own."""

        @contextmanager
        def wrapped(*arguments, **named):
            depth = getattr(self.inside, "depth", 0)
            self.inside.depth = depth + 1
            try:
                if not depth:
                    self.reach()
                with function(*arguments, **named) as value:
                    yield value
                if not depth:
                    self.reach()
            finally:
                self.inside.depth = depth

        return wrapped


def home_of(folder):
    return Home(folder, passphrase=lambda: "a passphrase of the tests", cost=LIGHT)


class Gateways:
    """One gateway after the other, at the same port and over the same books."""

    def __init__(self, chain, folder):
        self.chain, self.folder, self.port = chain, folder, free_port()
        self.url, self.child, self.counted = f"http://127.0.0.1:{self.port}", None, folder / "counted"
        self.points = None
        with connect(chain.url, home=home_of(folder / "selling")) as mine:
            seller = Machine.create(mine, "sensor", curve="p256", ether=0, dollars=0)
            journal_of(mine, "sensor", 5)
            self.latest, self.address = f"{self.url}/v1/devices/{seller.device}/latest", seller.address
        chain.fund(self.address, ether=10)

    def start(self, fatal=None):
        self.child = in_child(lambda: self.serve(Points(fatal)), self.counted)
        until(lambda: requests.get(f"{self.url}/health", timeout=2).status_code == 200)

    def serve(self, points):
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        with connect(self.chain.url, home=home_of(self.folder / "selling")) as mine:
            gateway = Gateway(Machine.open(mine, "sensor"), GatewayConfig(price_latest=LATEST))
            gateway.run(port=self.port, stop=stop, report=lambda _: points.install())
        return points.count

    def end(self):
        """End it as Ctrl-C does, and tell whether it had died at its point, or did on its way out."""
        with suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGTERM)
        status, self.points = end_of(self.child, self.counted)
        assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
        return status != 0

    def clear(self):
        with suppress(OSError):
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)

    def got(self):
        """Have everything claimed and paid out; return what was charged through channels, and what the payee holds."""
        with connect(self.chain.url, home=home_of(self.folder / "selling")) as mine:
            payments = Payments(mine, signer=mine.home.keyring.account("sensor"))
            payments.claim()
            payments.settle()
            charged = sum(channel.charged for channel in payments.payee.book.channels())
            return charged, dollars(self.chain, self.address)


@pytest.fixture
def gateways(tmp_path):
    with Devnet(home=home_of(tmp_path / "buying")) as chain:
        made = Gateways(chain, tmp_path)
        yield made
        made.clear()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheme", sorted(FEWEST))
def test_gateway__when_killed_at_any_point_of_a_payment__the_payer_is_answered_and_charged_once(
    gateways, scheme, capfd
):
    chain = gateways.chain

    def buy(fatal):
        """Buy with an account of its own; tell whether the gateway died."""
        payments = Machine.create(chain, f"buyer-{secrets.token_hex(4)}").payments
        payer, has_died = HttpPayer(payments, scheme=scheme), False
        gateways.start(fatal)
        for key in KEYS[scheme]:
            try:
                answer = payer.get(gateways.latest, most=LATEST, key=key)
            except TransportError:
                has_died = gateways.end()
                if not has_died:
                    raise
                gateways.start()
                answer = payer.get(gateways.latest, most=LATEST, key=key)
            assert (answer.status, answer.paid) == (200, LATEST)
        assert payments.spending().in_period == len(KEYS[scheme]) * LATEST
        return gateways.end() or has_died

    assert not buy(None)
    points = gateways.points
    assert points >= FEWEST[scheme]
    deaths = [fatal for fatal in range(1, points + 1) if buy(fatal)]
    assert len(deaths) > points - 3  # the watchtower's own points come when they come
    charged, held = gateways.got()
    assert held == len(KEYS[scheme]) * LATEST * (points + 1)
    assert charged == (held if scheme == "batch-settlement" else 0)
    with capfd.disabled():
        sys.stdout.write(f"\n  {scheme}: killed at each of {points} points\n")
