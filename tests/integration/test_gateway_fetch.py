"""The gateway and the unmodified JavaScript client: @x402/fetch with @x402/evm, by both schemes, over restarts."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyiot_evm.chain import Devnet
from pyiot_evm.device import LocalSigner
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway

sys.path.insert(0, str(Path(__file__).parent))
from gateway_kit import LATEST, dollars, journal_of

SCRIPT = Path(__file__).with_name("x402_fetch_client.mjs")


@pytest.fixture(scope="module")
def devnet():
    """A devnet of its own: x402's clients go by the wall clock, and other tests move the shared chain's."""
    with Devnet() as chain:
        yield chain


@pytest.fixture
def seller(machines):
    machine = machines.new("seller", curve="secp256k1")
    journal_of(machine.chain, machine.name, 5)
    return machine


@pytest.fixture
def wallet(devnet):
    secret = os.urandom(32)
    address = LocalSigner.from_secret(secret).address
    devnet.fund(address, dollars=10)
    return "0x" + secret.hex(), address


def start(chain, url, key, scheme, count):
    command = ["node", str(SCRIPT), url, chain.url, str(chain.token), scheme, str(count)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {"X402_KEY": key}, **pipes)


def buy(chain, url, key, scheme, count):
    process = start(chain, url, key, scheme, count)
    printed, problem = process.communicate(timeout=120)
    assert process.returncode == 0, problem
    return json.loads(printed)


def serve(seller):
    gateway = Gateway(seller, GatewayConfig(price_latest=LATEST))
    url = gateway.start()
    return gateway, f"{url}/v1/devices/{seller.device}/latest"


@pytest.mark.parametrize(("scheme", "count"), [("exact", 20), ("batch-settlement", 30)])
def test_fetch__when_unmodified__buys_by_both_schemes(devnet, seller, wallet, scheme, count):
    key, address = wallet
    before = dollars(devnet, seller.address)
    gateway, url = serve(seller)
    try:
        assert buy(devnet, url, key, scheme, count) == [{"status": 200, "settled": True, "rows": "4-4"}] * count
        if scheme == "batch-settlement":
            assert [claim.amount for claim in gateway.payments.claim()] == [count * LATEST]
            gateway.payments.settle()
    finally:
        gateway.close()
    assert dollars(devnet, seller.address) == before + count * LATEST
    if scheme == "exact":
        assert dollars(devnet, address) == 10_000_000 - count * LATEST


@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_fetch__when_the_client_is_killed_on_the_way__goes_on_and_pays_for_each_answer_once(
    devnet, seller, wallet, scheme
):
    key, address = wallet
    before = dollars(devnet, seller.address)
    gateway, url = serve(seller)

    def got():
        """Return what the gateway was paid: through its channel, or by transfers."""
        channels = sum(channel.charged for channel in gateway.payments.payee.book.channels())
        return channels + dollars(devnet, seller.address) - before

    try:
        process = start(devnet, url, key, scheme, 10_000)
        wait_for(lambda: got() >= 5 * LATEST)
        process.kill()
        process.communicate(timeout=60)
        killed_at = at_rest(got)
        assert [answer["status"] for answer in buy(devnet, url, key, scheme, 4)] == [200] * 4
        assert got() == killed_at + 4 * LATEST
        gateway.payments.claim()
        gateway.payments.settle()
    finally:
        gateway.close()
    assert dollars(devnet, seller.address) == before + killed_at + 4 * LATEST
    if scheme == "exact":
        assert dollars(devnet, address) == 10_000_000 - killed_at - 4 * LATEST


def at_rest(figure):
    """Return a figure once the request that was under way when the client died has been answered."""
    seen = -1
    while seen != (seen := figure()):
        time.sleep(0.5)
    return seen


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
