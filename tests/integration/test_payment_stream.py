"""Readings bought one by one over a real connection: both modes, hundreds of readings, exact balances, broken sides."""

import pytest

from pyiot_evm.chain import Devnet
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway

PRICE, COUNT = 100, 210


def dollars(machine):
    return machine.chain.call(Erc20(machine.chain.token).balance_of(machine.address))


@pytest.fixture(scope="module")
def devnet():
    with Devnet() as chain:
        yield chain


@pytest.fixture
def seller(machines, measure):
    machine = machines.new("seller", curve="p256")
    measure(machine, COUNT)
    return machine


@pytest.fixture
def buyer(machines):
    return machines.new("buyer", curve="p256")


@pytest.fixture
def gateway(seller):
    made = Gateway(seller, GatewayConfig(price_stream=PRICE))
    made.url = made.start()
    yield made
    made.close()


@pytest.mark.parametrize("mode", ["locked", "plain"])
@pytest.mark.parametrize("device_key", [False, True], ids=["secp256k1", "p256"])
def test_stream__when_both_are_honest__sells_every_reading_and_pays_to_the_unit(
    seller, buyer, gateway, mode, device_key
):
    before = dollars(seller), dollars(buyer)
    with buyer.stream(
        gateway.url, seller.device, max_price="0.0001", mode=mode, follow=False, prepay=COUNT, device_key=device_key
    ) as readings:
        bought = list(readings)
    assert [reading.seq for reading in bought] == list(range(COUNT))
    assert [str(reading.values["temperature"]) for reading in bought[:3]] == ["20.00", "21.00", "22.00"]
    (channel,) = gateway.payments.payee.book.channels()
    assert (channel.charged, channel.ceiling) == (COUNT * PRICE, COUNT * PRICE)
    assert buyer.payments.spending().in_period == COUNT * PRICE
    (claim,) = gateway.payments.claim()
    assert claim.amount == COUNT * PRICE
    gateway.payments.settle()
    assert (dollars(seller), dollars(buyer)) == (before[0] + COUNT * PRICE, before[1] - COUNT * PRICE)
