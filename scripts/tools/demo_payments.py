"""The demo's second act: a buyer pays a sensor for every single reading, over HTTP, by the wall clock.

The sensor's gateway is a process of its own, and sensor and buyer have a home each, as if they were on two computers:
they share nothing but the chain and the wire. One deposit pays for all readings, one claim and one settlement pay the
sensor, and every sum is held against the chain.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from demo_ledger import SAMPLE, Act, NotAsSaidError, Progress

from pyiot_evm import Devnet, Home, Machine, Reading, ReadingJournal, Schema, connect
from pyiot_evm.chain.deployment import X402_CHANNELS
from pyiot_evm.chain.nodes import Node, NodeCommand, free_port
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.exceptions import BudgetError
from pyiot_evm.hashing import keccak256
from pyiot_evm.home import LIGHT
from pyiot_evm.identity import Devices
from pyiot_evm.market.datasets import read_table
from pyiot_evm.payment.budgets import Budget
from pyiot_evm.payment.facade import Payments
from pyiot_evm.payment.http_client import HttpPayer
from pyiot_evm.payment.payer import PayerPolicy
from pyiot_evm.types import DeviceId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo_ledger import Ledger

    from pyiot_evm import Chain

__all__ = ["FEWEST", "MOST", "act"]

PRICE, START = Decimal("0.0001"), 1000
FEWEST, MOST = 3, 2_379  # x402's client pays in for no fewer at once; the series has one more
_READY, _TIMEOUT = 60.0, 10.0
TERMS = f'price_row = "{PRICE}"\nrequests_each_second = 100000\nburst = 100000\n'


@dataclass(frozen=True)
class Device:
    """What a buyer is told of a device for free.

    Attributes:
        rows: Where its readings are sold, up to their numbers.
        device: Its id.
        signer: The signer bytes of its key.
        schema: What its readings hold.
    """

    rows: str
    device: DeviceId
    signer: bytes
    schema: Schema

    def row(self, number: int) -> str:
        """Return the address of one reading."""
        return f"{self.rows}{number}-{number}"

    def read(self, body: bytes) -> Reading:
        """Take the one reading of a paid answer.

        Raises:
            NotAsSaidError: It has not exactly one, or this device's key did not sign it.
        """
        (row,) = json.loads(body)["readings"]
        leaf, count = bytes.fromhex(row["leaf"].removeprefix("0x")), len(self.schema.fields)
        found = Reading.from_leaf(leaf, device=self.device, schema=self.schema.hash, value_count=count, curve="p256")
        if not found.is_signed_by(self.signer):
            raise NotAsSaidError(f"reading {found.seq} is not signed by its device")
        return found


@dataclass(frozen=True)
class Cast:
    """Who takes part, each with a chain object and a home of its own."""

    sensor: Machine
    buyer: Machine

    @property
    def price(self) -> int:
        """What a reading costs, in base units."""
        return self.buyer.chain.token_info().to_units(PRICE)


def act(count: int) -> Act:
    """Return the act with this many paid readings."""
    return Act(2, f"Payments: {count:,} readings by HTTP", lambda ledger, folder: tell(ledger, folder, count))


def tell(ledger: Ledger, folder: Path, count: int) -> None:
    """Sell readings one by one, be paid, and count what it cost."""
    passphrase = secrets.token_hex(16)
    homes = [Home(folder / name, passphrase=lambda: passphrase, cost=LIGHT) for name in ("sensor", "buyer")]
    devnet = Devnet(home=homes[0])
    try:
        with ledger.step("start a devnet, deploy the contracts") as step:
            chain = devnet.start()
            ledger.use(chain)
            code = chain.code_at(X402_CHANNELS)
            ledger.check(step, "the channels stand where x402's clients look for them", holds=bool(code))
        with connect(chain.url, home=homes[1]) as buyers_chain:
            cast = begin(ledger, chain, buyers_chain)
            with gateway(cast.sensor, passphrase, folder) as url:
                device = look(ledger, cast, url)
                buy(ledger, cast, device, count)
                compare(ledger, cast, device, count)
            be_paid(ledger, cast, count)
    finally:
        devnet.close()
    sum_up(ledger, count)


def begin(ledger: Ledger, chain: Chain, buyers_chain: Chain) -> Cast:
    """Make the machines and let the sensor measure."""
    with ledger.step("make a sensor and a buyer, a home each") as step:
        cast = Cast(Machine.create(chain, "sensor", curve="p256"), Machine.create(buyers_chain, "buyer", ether=0))
        ledger.check(step, "the buyer has dollars and no ether", holds=chain.balance(cast.buyer.address) == 0)
    with ledger.step("sensor registers, signs 2,380 readings") as step:
        table, signer = read_table(SAMPLE), chain.home.keyring.device("sensor")
        Devices(chain, account=cast.sensor.payments.account).register(signer)
        folder = chain.home.journals / signer.device.hex()
        folder.mkdir()
        path = folder / "occupancy.readings"
        with ReadingJournal.open(path, device=signer.device, schema=table.schema, curve="p256") as journal:
            journal.sign_many(signer, list(zip(table.times, table.rows, strict=True)))
            ledger.check(step, "every row of the file is one signed reading", holds=len(journal) == len(table) > MOST)
    return cast


@contextmanager
def gateway(sensor: Machine, passphrase: str, folder: Path) -> Iterator[str]:
    """Run ``pyiot gateway run`` as a process of its own, and end it."""
    port, chain = free_port(), sensor.chain
    terms, log = folder / "gateway.toml", folder / "gateway.log"
    terms.write_text(TERMS)
    pyiot = str(Path(sys.executable).with_name("pyiot"))
    command = [pyiot, "gateway", "run", "--as", sensor.name, "--port", str(port), "--config", str(terms)]
    settings = {"PYIOT_HOME": str(chain.home.path), "PYIOT_PASSPHRASE": passphrase, "PYIOT_RPC_URL": chain.url}
    guarded = Node(NodeCommand("anvil", command, environment=settings), port=port, log=log)  # ends as nodes do
    try:
        wait_for(guarded.url, log)
        yield guarded.url
    finally:
        guarded.close()


def wait_for(url: str, log: Path) -> None:
    """Wait until a gateway answers.

    Raises:
        NotAsSaidError: It took too long.
    """
    end = time.monotonic() + _READY
    while time.monotonic() < end:
        try:
            if requests.get(f"{url}/health", timeout=_TIMEOUT).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise NotAsSaidError(f"the gateway did not come up: {log.read_text()[-300:]}")


def look(ledger: Ledger, cast: Cast, url: str) -> Device:
    """Look at what is free, and at what is not."""
    with ledger.step("buyer looks at the sensor's gateway") as step:
        (found,) = requests.get(f"{url}/v1/devices", timeout=_TIMEOUT).json()["devices"]
        device = Device(
            f"{url}/v1/devices/{found['device']}/readings?rows=",
            DeviceId(found["device"]),
            bytes.fromhex(found["signer"].removeprefix("0x")),
            Schema.from_document(found["schema"]),
        )
        record = Devices(cast.buyer.chain).get(device.device)
        ledger.check(step, "the registry knows the device and that key", holds=record.key == keccak256(device.signer))
        unpaid = requests.get(device.row(0), timeout=_TIMEOUT)
        has_terms = unpaid.status_code == 402 and "payment-required" in unpaid.headers
        ledger.check(step, "unpaid there is a 402 with terms, and no reading", holds=has_terms and unpaid.json() == {})
    return device


def buy(ledger: Ledger, cast: Cast, device: Device, count: int) -> None:
    """Buy one reading after the other, and check each."""
    buyer, price = cast.buyer, cast.price
    payments = Payments(buyer.chain, signer=buyer.payments.signer, paying=PayerPolicy(deposit_factor=count))
    payments.set_budget(Budget(each_payment=price, each_payee=count * price, payees=(cast.sensor.address,)))
    payer, readings, paid = HttpPayer(payments, scheme="batch-settlement"), list[Reading](), 0
    with ledger.step(f"buyer buys {count:,} readings one by one") as step:
        progress, started = Progress(count, "readings"), time.monotonic()
        for number in range(count):
            bought = payer.get(device.row(number), most=price)
            readings.append(device.read(bought.body))
            paid += bought.paid
            progress.show(number + 1)
        rate = count / (time.monotonic() - started)
        table = read_table(SAMPLE)
        same = [(r.time, r.values) for r in readings] == list(zip(table.times, table.rows, strict=True))[:count]
        linked = all(after.prev == before.digest for before, after in pairwise(readings))
        ledger.check(step, "each is signed by the device's key", holds=len(readings) == count)
        ledger.check(step, "each links to the one before: none is missing", holds=linked)
        ledger.check(step, "times and values are the file's", holds=same)
        ledger.check(step, f"{count:,} payments of {PRICE} were signed", holds=paid == count * price)
        holds = buyer.balance() == START - count * PRICE
        ledger.check(step, f"the buyer paid in {count * PRICE:f} dollars", holds=holds)
    ledger.check(
        step, "in one transaction", holds=[t.function for t in step.transactions] == ["PaymentChannels.deposit"]
    )
    ledger.figures |= {"payments": count, "payments_each_second": round(rate, 1)}
    with ledger.step("buyer asks for one more") as step:
        ledger.check(
            step, "its budget forbids it, nothing is signed", holds=is_over_budget(payer, device.row(count), price)
        )


def is_over_budget(payer: HttpPayer, url: str, price: int) -> bool:
    """Return whether the budget forbids a purchase."""
    try:
        payer.get(url, most=price)
    except BudgetError:
        return True
    return False


def compare(ledger: Ledger, cast: Cast, device: Device, count: int) -> None:
    """Pay two readings by a transfer each: by x402's `exact` scheme, which is ERC-3009, and by plain ERC-20."""
    buyer, price = cast.buyer, cast.price
    with ledger.step("for comparison: one reading by `exact`") as step:
        buyer.payments.set_budget(Budget(each_payment=price))
        bought = HttpPayer(buyer.payments, scheme="exact").get(device.row(count), most=price)
        ledger.check(step, "it is signed by the device's key", holds=device.read(bought.body).seq == count)
    ledger.figures["gas_by_exact"] = step.gas
    with ledger.step("for comparison: one plain transfer") as step:
        buyer.chain.fund(buyer.address, ether=1)
        token = Erc20(buyer.chain.token)
        buyer.payments.account.transact(token.transfer(cast.sensor.address, price))
        ledger.check(step, "the sensor holds both payments", holds=cast.sensor.balance() == START + 2 * PRICE)
    ledger.figures["gas_by_transfer"] = step.gas


def be_paid(ledger: Ledger, cast: Cast, count: int) -> None:
    """Claim, settle, and hold every sum against the chain."""
    sensor, buyer, chain = cast.sensor, cast.buyer, cast.sensor.chain
    channels, price = sensor.payments.payee.contract, cast.price
    with ledger.step("sensor claims what it was paid") as step:
        claims = sensor.payments.claim()
        (channel,) = sensor.payments.payee.book.channels()
        ledger.check(
            step, f"one claim, for {count * PRICE:f} dollars", holds=[c.amount for c in claims] == [count * price]
        )
        state = chain.call(channels.channels(channel.channel_id))
        ledger.check(step, "the chain holds exactly that", holds=state.total_claimed == state.balance == count * price)
    with ledger.step("sensor has it paid out") as step:
        sensor.payments.settle()
        got, spent = count * PRICE + 2 * PRICE, START - buyer.balance()
        ledger.check(step, f"the sensor is {got:f} dollars richer", holds=sensor.balance() == START + got)
        ledger.check(step, "the buyer is as much poorer", holds=spent == got)
        held = chain.call(Erc20(chain.token).balance_of(channels.address))
        ledger.check(step, "the channels hold nothing more", holds=held == 0)


def sum_up(ledger: Ledger, count: int) -> None:
    """Set what the payments cost against what transfers would have cost."""
    wanted = {f"PaymentChannels.{kind}" for kind in ("deposit", "claim", "claimAvailable", "settle")}
    sent = [item for step in ledger.steps for item in step.transactions if item.function in wanted]
    figures = ledger.figures
    figures["gas_of_payments"] = gas = sum(item.gas for item in sent)
    figures["gas_a_payment"] = round(gas / count, 1)
    ledger.say(f"{count:,} payments, {figures['payments_each_second']:,.0f} a second, each reading checked")
    ledger.say(f"{'by vouchers':<24}{gas:>12,} gas in {len(sent)} transactions, {gas / count:,.0f} a payment")
    for name, kind in (("a plain transfer each", "gas_by_transfer"), ("`exact` (ERC-3009)", "gas_by_exact")):
        each = int(figures[kind])
        ledger.say(f"{name:<24}{each * count:>12,} gas, {each:,} a payment: {each * count / gas:,.0f} times as much")
