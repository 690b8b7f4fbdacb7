"""The demo's third act: deposits that a device releases, on the clock of the devnet, which is moved.

A charger is rented by the hour: the operator's agent hands the key over, the lock meters and signs the check-out, and
the deposit is back within seconds. Then a flat: the host claims for damage, the guest rejects, a judge rules; a second
stay is ruled on by a thermometer's signed readings, and by nobody. Everybody has a home of its own; the locks and the
agent are processes of their own, and the locks have no network.
"""

from __future__ import annotations

import secrets
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from demo_flat import COUNT, broken_window, too_warm
from demo_ledger import Act, NotAsSaidError
from demo_lock import Door

from pyiot_evm import Devnet, Home, Machine, connect
from pyiot_evm.chain.nodes import Node, NodeCommand
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.device.lock_messages import AccessKey
from pyiot_evm.device.lock_slots import Slot
from pyiot_evm.escrow.records import State
from pyiot_evm.hashing import keccak256
from pyiot_evm.home import LIGHT
from pyiot_evm.identity import Devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from demo_ledger import Ledger

    from pyiot_evm import Chain
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.views import RentalView

__all__ = ["ACT", "Cast", "tell"]

START, PEOPLE = 1000, ("operator", "driver", "host", "guest", "judge")
FEE, RATE, CAP, DEPOSIT = Decimal("0.50"), Decimal("0.40"), 20, 50
USED = 12  # kWh; the meter is a file that the demo writes
CHARGE = FEE + USED * RATE
_HOUR, _MINUTE, _PATIENCE, _SECONDS = 3600, 60, 60.0, 30


@dataclass(frozen=True)
class Cast:
    """Who takes part, each with a chain object and a home of its own, and the two locks."""

    chain: Chain
    operator: Machine
    driver: Machine
    host: Machine
    guest: Machine
    judge: Machine
    bay: Door
    flat: Door

    @property
    def held(self) -> Decimal:
        """What the escrow holds, whole tokens."""
        return self.tokens(self.chain.call(Erc20(self.chain.token).balance_of(self.chain.addresses.deposit_escrow)))

    def tokens(self, units: int) -> Decimal:
        """Return base units as whole tokens."""
        return Decimal(units).scaleb(-self.chain.token_info().decimals)

    def units(self, tokens: Decimal | int) -> int:
        """Return whole tokens as base units."""
        return self.chain.token_info().to_units(tokens)

    def travel(self, door: Door, seconds: int) -> None:
        """Move the clock of the chain, and the lock's with it."""
        door.show(clock=self.chain.increase_time(seconds))


def tell(ledger: Ledger, folder: Path) -> None:
    """Rent a charger, and a flat twice."""
    passphrase = secrets.token_hex(16)
    devnet = Devnet()
    try:
        with ledger.step("start a devnet, deploy the contracts") as step:
            chain = devnet.start()
            ledger.use(chain)
            ledger.check(step, "the escrow stands", holds=bool(chain.code_at(chain.addresses.deposit_escrow)))
        with ExitStack() as stack:
            cast = begin(ledger, chain, folder, passphrase, stack)
            with cast.bay.running(chain, cast.operator.address):
                charger(ledger, cast, folder, passphrase)
            with cast.flat.running(chain, cast.host.address):
                broken_window(ledger, cast)
                too_warm(ledger, cast, folder)
            settle(ledger, cast)
    finally:
        devnet.close()
    sum_up(ledger)


def begin(ledger: Ledger, chain: Chain, folder: Path, passphrase: str, stack: ExitStack) -> Cast:
    """Make everybody and the locks, and have the locks registered."""
    with ledger.step("make five accounts and two locks") as step:
        homes = [Home(folder / name, passphrase=lambda: passphrase, cost=LIGHT) for name in PEOPLE]
        chains = [stack.enter_context(connect(chain.url, home=home)) for home in homes]
        people = {name: Machine.create(own, name) for own, name in zip(chains, PEOPLE, strict=True)}
        bay, flat = doors = [Door(folder / name, name, passphrase) for name in ("bay-7", "flat")]
        cast = Cast(chain, **people, bay=bay, flat=flat)
        entries = [door.home.keyring.entry(door.name) for door in doors]
        ledger.check(step, "the locks' keys are on P-256", holds=[one.curve for one in entries] == ["p256"] * 2)
    with ledger.step("owners register their locks") as step:
        for owner, door in ((cast.operator, cast.bay), (cast.host, cast.flat)):
            with door.key() as key:
                Devices(owner.chain, account=owner.payments.account).register(key)
                record = Devices(cast.driver.chain).get(key.device)
                holds = record.key == keccak256(key.signer_bytes)
                ledger.check(step, f"the registry knows {door.name} by its key", holds=holds)
    return cast


# The charger


def charger(ledger: Ledger, cast: Cast, folder: Path, passphrase: str) -> None:
    """Reserve, unlock, meter, and have the deposit back."""
    offer = reserve(ledger, cast)
    point = Slot.decode(offer.encode().encode()).key_address
    with agent(cast.operator, folder, passphrase):
        with ledger.step("operator's agent hands the key over") as step:
            (rental,) = cast.driver.rentals.all()
            until(lambda: cast.driver.rentals.get(rental.id).state is State.ACTIVE)
            key = cast.driver.rentals.access_key(rental.id)
            ledger.check(step, "out of it the driver has the key of the offer", holds=key.address == point)
        charge(ledger, cast, rental, key)
        leave(ledger, cast, rental, key)


def reserve(ledger: Ledger, cast: Cast) -> RentalOffer:
    """Offer the charger for the hour that comes after the next one, and reserve it."""
    operator, driver, now = cast.operator, cast.driver, cast.chain.now()
    entry = cast.bay.home.keyring.entry(cast.bay.name)
    ask = {"start": now + _HOUR, "end": now + 2 * _HOUR, "fee": FEE, "rate": RATE, "meter_cap": CAP, "unit": "kWh"}
    with ledger.step("operator offers bay 7 for an hour") as step:
        offer = operator.rent_out("Bay 7", deposit=DEPOSIT, device=entry.device, signer=entry.signer, **ask)  # type: ignore[arg-type]
        foreign = driver.rent_out("Bay 7", device=entry.device, signer=entry.signer, **ask)  # type: ignore[arg-type]
        ledger.check(step, "the lock takes the offer, by its signature", holds=not cast.bay.program(offer))
        ledger.check(step, "and no offer of somebody else", holds=cast.bay.program(foreign) == "other-owner")
    ledger.check(step, "nothing was sent for that", holds=not step.transactions)
    with ledger.step("driver checks the offer, reserves, pays") as step:
        price, rental = FEE + CAP + DEPOSIT, driver.rentals.open(offer)
        ledger.check(
            step, f"fee, cap, deposit: {price:f} are held", holds=cast.held == START - driver.balance() == price
        )
        ledger.check(step, "the operator has nothing of it yet", holds=operator.balance() == START)
        ledger.check(step, "there is no key before the hand-over", holds=not rental.has_access_key)
    ledger.check(step, "in one transaction", holds=len(step.transactions) == 1)
    return offer


def charge(ledger: Ledger, cast: Cast, rental: RentalView, key: AccessKey) -> None:
    """Come too early, then in time, with a wrong key and with the right one."""
    bay, driver = cast.bay, cast.driver
    with ledger.step("driver comes, an hour too early") as step:
        ledger.check(step, "the lock refuses: the slot has not begun", holds=bay.refusal(key) == "too-early")
    with ledger.step("an hour later: driver unlocks it") as step:
        cast.travel(bay, _HOUR)
        wrong = AccessKey(key.device, key.terms_id, secrets.token_bytes(32))
        ledger.check(step, "another key is refused", holds=bay.refusal(wrong) == "wrong-key")
        with bay.phone() as phone:
            said = phone.open(key)
        ledger.check(step, "the released key opens, the lock signs", holds=said.statement.terms_id == rental.terms_id)
        shown = driver.rentals.show_statement(said)
        ledger.check(step, "the check-in is on the chain", holds=shown.state is State.CHECKED_IN)


def leave(ledger: Ledger, cast: Cast, rental: RentalView, key: AccessKey) -> None:
    """Charge for forty minutes, check out, and have the deposit back."""
    bay, driver, operator = cast.bay, cast.driver, cast.operator
    with ledger.step(f"40 minutes and {USED} kWh later: check-out") as step:
        cast.travel(bay, 40 * _MINUTE)
        bay.show(meter=1000 + USED)
        with bay.phone() as phone:
            said = phone.check_out(key)
        ledger.check(step, "the key opens no more", holds=bay.refusal(key) == "checked-out")
        started = time.monotonic()
        driver.rentals.show_statement(said)
        ending = driver.rentals.ending(rental.id)
        metered = (ending.units, ending.charge) == (USED, cast.units(CHARGE))
        ledger.check(step, f"{FEE} and {USED} x {RATE}: {CHARGE} are charged", holds=metered)
    with ledger.step("agent waives, driver takes its deposit") as step:
        until(lambda: driver.rentals.get(rental.id).state is State.CLOSED)
        driver.rentals.withdraw()
        seconds = time.monotonic() - started
        until(lambda: operator.balance() == START + CHARGE)
        back = CAP - USED * RATE + DEPOSIT
        ledger.check(step, f"within {_SECONDS} s of the check-out", holds=seconds < _SECONDS)
        ledger.check(step, f"{back:f} came back to the driver", holds=driver.balance() == START - CHARGE)
        ledger.check(step, f"the agent took {CHARGE} for the operator", holds=operator.balance() == START + CHARGE)
        ledger.check(step, "the escrow holds nothing more", holds=cast.held == 0)
    ledger.figures["deposit_seconds"] = round(seconds, 2)


@contextmanager
def agent(operator: Machine, folder: Path, passphrase: str) -> Iterator[None]:
    """Run ``pyiot rental serve`` for the operator as a process of its own, and end it."""
    pyiot = str(Path(sys.executable).with_name("pyiot"))
    command = [pyiot, "rental", "serve", "--as", operator.name, "--waive", "--withdraw"]
    chain = operator.chain
    settings = {"PYIOT_HOME": str(chain.home.path), "PYIOT_PASSPHRASE": passphrase, "PYIOT_RPC_URL": chain.url}
    log = folder / "agent.log"
    guarded = Node(NodeCommand("anvil", command, environment=settings), port=0, log=log)  # ends as nodes do
    try:
        yield
    finally:
        guarded.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for the agent.

    Raises:
        NotAsSaidError: It took too long.
    """
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise NotAsSaidError(f"the operator's agent did nothing for {_PATIENCE:.0f} s")
        time.sleep(0.05)


# The end


def settle(ledger: Ledger, cast: Cast) -> None:
    """Take everything out, and hold the sums of all against one another."""
    with ledger.step("host and guest take the rest out") as step:
        for one in (cast.host, cast.guest):
            one.rentals.withdraw()
        moved = {name: getattr(cast, name).balance() - START for name in PEOPLE}
        ledger.check(step, "who gained gained what the others paid", holds=sum(moved.values()) == 0)
        ledger.check(step, "the judge earned and paid nothing", holds=moved["judge"] == 0)
        ledger.check(step, "the escrow holds nothing more", holds=cast.held == 0)
    ledger.figures |= {f"money_of_{name}": float(value) for name, value in moved.items()}


def sum_up(ledger: Ledger) -> None:
    """Say what a rental costs in gas, and how long a deposit was held."""
    figures, gas = ledger.figures, dict[str, int]()
    for item in (item for step in ledger.steps for item in step.transactions):
        contract, _, name = item.function.partition(".")
        if contract in ("DepositEscrow", "RuleArbiter"):
            gas[f"{contract}.{name}"] = max(gas.get(f"{contract}.{name}", 0), item.gas)
    figures |= {f"gas_of_{name}": value for name, value in gas.items()}
    usual = sum(gas[f"DepositEscrow.{name}"] for name in ("openWithAuthorization", "handOver", "checkOut", "waive"))
    figures["gas_of_a_rental"] = usual
    ledger.say(f"the deposit was back {figures['deposit_seconds']:.1f} s after the check-out")
    ledger.say(f"{'a rental, from opening to end':<40}{usual:>12,} gas at most")
    ledger.say(f"{'a ruling by a person':<40}{gas['DepositEscrow.rule']:>12,} gas")
    ledger.say(f"{f'a ruling by {COUNT} signed readings':<40}{gas['RuleArbiter.rule']:>12,} gas")


ACT = Act(3, "Rentals: a charger and a flat", tell)
