"""The flat of the demo's third act: a claim that a judge rules on, and one that a thermometer's readings decide."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyiot_evm import ContractError, InputError, LocalSigner, Reading, ReadingJournal
from pyiot_evm.contracts.rule_arbiter import RuleArbiter
from pyiot_evm.escrow.agreements import ReadingAgreement
from pyiot_evm.escrow.offering import RentalAsk
from pyiot_evm.escrow.offers import RentalDocument
from pyiot_evm.escrow.records import Role, State
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity import Devices
from pyiot_evm.market.datasets import read_table

if TYPE_CHECKING:
    from demo_ledger import Ledger
    from demo_rentals import Cast

    from pyiot_evm.chain.calls import Call
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.views import RentalView
    from pyiot_evm.market.datasets import Table

__all__ = ["COUNT", "broken_window", "too_warm"]

AMBIENT = Path(__file__).resolve().parents[2] / "tests/data/nab/ambient_temperature_system_failure.csv"
FEE, DEPOSIT, DAMAGE, AWARD = 240, 300, 120, 45
LIMIT, COUNT, HEATING = 72, 3, 60  # above so many degrees Fahrenheit for so many hourly readings costs so much
STAY = 8  # readings: the last of the series, one an hour
_HOUR, _DAY = 3600, 24 * 3600


def broken_window(ledger: Ledger, cast: Cast) -> None:
    """Stay for three days, be claimed from, and have a judge rule."""
    host, guest, scene = cast.host, cast.guest, b"a broken window"
    with ledger.step("guest rents the flat, moves in") as step:
        before, document = cast.held, RentalDocument("Flat", place="Mill Lane 3", rules="No parties.")
        offer = offered(cast, document, days=3, arbiter=cast.judge.address)
        rental = move_in(cast, offer)
        ledger.check(step, f"{FEE + DEPOSIT} are held", holds=cast.held - before == FEE + DEPOSIT)
        ledger.check(step, "the key opened the flat, no network", holds=rental.state is State.CHECKED_IN)
    with ledger.step("three days later: guest checks out") as step:
        cast.flat.show(scene=scene)
        said = move_out(cast, rental, seconds=3 * _DAY - _HOUR)
        ledger.check(step, "the lock signed what its camera saw", holds=said == keccak256(scene))
        ledger.check(step, f"the fee, {FEE}, is the host's", holds=host.rentals.credit() == cast.units(FEE))
    with ledger.step(f"host claims {DAMAGE} for the window") as step:
        host.rentals.claim(rental.id, cast.units(DAMAGE), evidence=keccak256(scene))
        free = cast.tokens(guest.rentals.credit())
        ledger.check(step, f"the other {DEPOSIT - DAMAGE} are free at once", holds=free == DEPOSIT - DAMAGE)
    with ledger.step("guest rejects; host would rule itself") as step:
        rejected = guest.rentals.reject(rental.id)
        ledger.check(step, "it is before the judge", holds=rejected.state is State.DISPUTED)
        call = host.rentals.clerk.contract.rule(_struct(cast, rental), cast.units(DAMAGE))
        ledger.check(step, "the escrow refuses the host's ruling", holds=_refusal(cast, call) == "CallerNotArbiter")
    with ledger.step(f"judge awards {AWARD} of {DAMAGE}") as step:
        cast.judge.rentals.judge(offer)
        cast.judge.rentals.rule(rental.id, cast.units(AWARD))
        ending = guest.rentals.ending(rental.id)
        host_gets, guest_gets = FEE + AWARD, DEPOSIT - AWARD
        parts = (cast.tokens(ending.to_owner), cast.tokens(ending.to_renter))
        ledger.check(step, f"{host_gets} to the host", holds=ending.how == "ruled" and parts[0] == host_gets)
        ledger.check(step, f"{guest_gets} to the guest", holds=parts[1] == guest_gets)
    with ledger.step("guest takes out what came back") as step:
        before = guest.balance()
        guest.rentals.withdraw()
        ledger.check(step, f"the guest has {guest_gets} more", holds=guest.balance() - before == guest_gets)


def too_warm(ledger: Ledger, cast: Cast, folder: Path) -> None:
    """Stay for eight hours in which it gets too warm, and have the readings rule."""
    host, guest, flat = cast.host, cast.guest, cast.flat
    series = read_table(AMBIENT)  # degrees Fahrenheit
    thermometer = flat.home.keyring.new("thermometer", curve="p256")
    with ledger.step("second stay, with terms on the readings") as step:
        with flat.home.keyring.device(thermometer.name) as key:
            Devices(host.chain, account=host.payments.account).register(key)
        limits, warm = {"value": (0, LIMIT)}, cast.units(HEATING)
        device, signer = thermometer.device, thermometer.signer
        agreement = ReadingAgreement(series.schema, limits, device, signer, COUNT, (COUNT - 1) * _HOUR, warm)  # type: ignore[arg-type]
        offer = offered(cast, RentalDocument("Flat"), days=1, agreement=agreement)
        rental = move_in(cast, offer)
        ledger.check(step, "the arbiter is a contract, no person", holds=offer.terms.arbiter == _rule_arbiter(cast))
    with ledger.step(f"thermometer signs {STAY} real readings") as step:
        start, rows = cast.chain.now(), series.rows[-STAY:]
        readings = measured(cast, folder, series, start)
        values = [float(series.schema.unfix(row)[0]) for row in rows]
        above = [value > LIMIT for value in values]
        found = sum(all(above[place : place + COUNT]) for place in range(STAY - COUNT + 1))
        linked = all(after.prev == first.digest for first, after in pairwise(readings))
        ledger.check(step, f"{COUNT} in a row are above {LIMIT} °F", holds=found == 1 and len(readings) == STAY)
        ledger.check(step, "each links to the one before: none is missing", holds=linked)
    with ledger.step("guest leaves, host claims, guest rejects") as step:
        move_out(cast, rental, seconds=(STAY + 1) * _HOUR)
        host.rentals.claim(rental.id, warm)
        state = guest.rentals.reject(rental.id).state
        ledger.check(step, "it is before the arbiter", holds=state is State.DISPUTED)
        ledger.check(step, "the cool hours show nothing, none is sent", holds=_shows_nothing(cast, rental, readings))
        why = _refusal(cast, forged(cast, rental, readings))
        ledger.check(step, "readings of another key are refused", holds=why == "LeafNotAuthentic")
    with ledger.step("host submits readings: they rule") as step:
        host.rentals.rule_by_readings(rental.id, readings)
        ending = guest.rentals.ending(rental.id)
        to_host, to_guest = cast.tokens(ending.to_owner), cast.tokens(ending.to_renter)
        holds = ending.how == "ruled" and to_host == FEE + HEATING and to_guest == DEPOSIT - HEATING
        ledger.check(step, f"{HEATING} for the heating to the host, no more", holds=holds)
    ledger.check(step, "in one transaction", holds=[t.function for t in step.transactions] == ["RuleArbiter.rule"])


def offered(cast: Cast, document: RentalDocument, *, days: int, **ruling: Any) -> RentalOffer:
    """Sign an offer as host, and give it to the lock."""
    entry, now = cast.flat.home.keyring.entry(cast.flat.name), cast.chain.now()
    money = {"fee": cast.units(FEE), "deposit": cast.units(DEPOSIT)}
    ask = RentalAsk(document, start=now, end=now + days * _DAY, **money, **ruling)  # type: ignore[arg-type]
    offer = cast.host.rentals.offer(ask, device=entry.device, signer=entry.signer)
    cast.flat.program(offer)
    return offer


def move_in(cast: Cast, offer: RentalOffer) -> RentalView:
    """Pay, have the key handed over, open the door, and show the check-in."""
    rental = cast.guest.rentals.open(offer)
    cast.host.rentals.hand_over(rental.id)
    cast.travel(cast.flat, 60)
    with cast.flat.phone() as phone:
        said = phone.open(cast.guest.rentals.access_key(rental.id))
    return cast.guest.rentals.show_statement(said)


def move_out(cast: Cast, rental: RentalView, *, seconds: int) -> bytes:
    """Let time pass, check out at the door, show that, and return the condition that the lock signed."""
    cast.travel(cast.flat, seconds)
    with cast.flat.phone() as phone:
        said = phone.check_out(cast.guest.rentals.access_key(rental.id))
    cast.guest.rentals.show_statement(said)
    return bytes(said.statement.condition)


def measured(cast: Cast, folder: Path, series: Table, start: int) -> list[Reading]:
    """Sign the last readings of the series, moved to the time of the stay."""
    times, rows = series.times[-STAY:], series.rows[-STAY:]
    moved = [start * 1000 + time - times[0] for time in times]
    with cast.flat.home.keyring.device("thermometer") as key:
        path = folder / "flat.readings"
        with ReadingJournal.open(path, device=key.device, schema=series.schema, curve="p256") as journal:
            return journal.sign_many(key, list(zip(moved, rows, strict=True)))


def forged(cast: Cast, rental: RentalView, readings: list[Reading]) -> Call[None]:
    """Sign warm readings with a key of one's own, and return the call that would rule by them."""
    false, last = LocalSigner.create("p256"), bytes(32)
    leaves = []
    for seq, reading in enumerate(readings[-COUNT:]):
        value = (reading.values[0] * 2,)
        made = Reading.sign(
            false, seq=seq, time=reading.time, schema=reading.schema, device=reading.device, prev=last, values=value
        )
        leaves.append(made.leaf())
        last = made.digest
    offer = rental.offer
    arbiter = RuleArbiter(offer.terms.arbiter)
    return arbiter.rule(_struct(cast, rental), offer.document.hash, offer.agreement, tuple(leaves))  # type: ignore[arg-type]


def _shows_nothing(cast: Cast, rental: RentalView, readings: list[Reading]) -> bool:
    try:
        cast.host.rentals.rule_by_readings(rental.id, readings[:COUNT])
    except InputError:
        return True
    return False


def _refusal(cast: Cast, call: Call[None]) -> str:
    """Return why the contract would refuse a call of the host's; nothing, if it would not."""
    try:
        cast.chain.call(call, sender=cast.host.address)
    except ContractError as error:
        return type(error).__name__
    return ""


def _rule_arbiter(cast: Cast) -> bytes:
    return cast.chain.addresses.rule_arbiter


def _struct(cast: Cast, rental: RentalView) -> Any:
    clerk = cast.host.rentals.clerk
    record = clerk.journal.rental(rental.id, cast.host.address, Role.OWNER)
    return clerk.struct(record)  # type: ignore[arg-type]
