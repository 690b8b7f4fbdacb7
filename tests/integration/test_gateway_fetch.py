"""The gateway and the unmodified JavaScript client: @x402/fetch with @x402/evm, by both schemes, over restarts."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from pyiot_evm.chain import Devnet
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.device import Field, LocalSigner, ReadingJournal, Schema
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway

SCRIPT = Path(__file__).with_name("x402_fetch_client.mjs")
LATEST = 1_000


@pytest.fixture(scope="module")
def devnet():
    """A devnet of its own: x402's clients go by the wall clock, and other tests move the shared chain's."""
    with Devnet() as chain:
        yield chain


@pytest.fixture
def seller(machines):
    machine = machines.new("seller", curve="secp256k1")
    entry = machine.chain.home.keyring.entry(machine.name)
    folder = machine.chain.home.journals / entry.device.hex()
    folder.mkdir(parents=True)
    schema = Schema((Field("temperature", unit="Cel", scale=2),))
    path = folder / f"{0:020d}-{'00' * 32}.readings"
    with ReadingJournal.open(path, device=entry.device, schema=schema, curve="secp256k1") as journal:
        signer = machine.chain.home.keyring.device(machine.name)
        journal.sign_many(signer, [(1_700_000_000_000 + n, schema.fix([n])) for n in range(5)])
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


@pytest.mark.parametrize(("scheme", "count"), [("exact", 3), ("batch-settlement", 30)])
def test_fetch__when_unmodified__buys_by_both_schemes(devnet, seller, wallet, scheme, count):
    key, address = wallet
    before = devnet.call(Erc20(devnet.token).balance_of(seller.address))
    gateway, url = serve(seller)
    try:
        assert buy(devnet, url, key, scheme, count) == [{"status": 200, "settled": True, "rows": "4-4"}] * count
        if scheme == "batch-settlement":
            assert [claim.amount for claim in gateway.payments.claim()] == [count * LATEST]
            gateway.payments.settle()
    finally:
        gateway.close()
    assert devnet.call(Erc20(devnet.token).balance_of(seller.address)) == before + count * LATEST
    if scheme == "exact":
        assert devnet.call(Erc20(devnet.token).balance_of(address)) == 10_000_000 - count * LATEST


def test_fetch__when_client_and_gateway_are_both_new_processes__goes_on_with_the_same_channel(devnet, seller, wallet):
    key, _ = wallet
    for round_number in (1, 2):
        gateway, url = serve(seller)
        try:
            assert [answer["status"] for answer in buy(devnet, url, key, "batch-settlement", 4)] == [200] * 4
            (channel,) = gateway.payments.payee.book.channels()
            assert channel.charged == 4 * LATEST * round_number
        finally:
            gateway.close()


def test_fetch__when_the_client_is_killed_on_the_way__goes_on_and_pays_for_each_answer_once(devnet, seller, wallet):
    key, _ = wallet
    before = devnet.call(Erc20(devnet.token).balance_of(seller.address))
    gateway, url = serve(seller)
    try:
        process = start(devnet, url, key, "batch-settlement", 10_000)
        wait_for(lambda: charged_by(gateway) >= 5 * LATEST)
        process.kill()
        process.communicate(timeout=60)
        killed_at = at_rest(gateway)
        assert [answer["status"] for answer in buy(devnet, url, key, "batch-settlement", 4)] == [200] * 4
        assert charged_by(gateway) == killed_at + 4 * LATEST
        assert [claim.amount for claim in gateway.payments.claim()] == [killed_at + 4 * LATEST]
        gateway.payments.settle()
    finally:
        gateway.close()
    assert devnet.call(Erc20(devnet.token).balance_of(seller.address)) == before + killed_at + 4 * LATEST


def charged_by(gateway):
    """Return what the one channel was charged, 0 while there is none."""
    return sum(channel.charged for channel in gateway.payments.payee.book.channels())


def at_rest(gateway):
    """Return the charge once the request that was under way when the client died has been answered."""
    seen = -1
    while seen != (seen := charged_by(gateway)):
        time.sleep(0.5)
    return seen


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
