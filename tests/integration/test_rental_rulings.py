"""Rulings by contracts: by a device's readings, and by an outside court through its adapter."""

from dataclasses import replace

import pytest

from pyiot_evm.chain.abi import encode, selector
from pyiot_evm.chain.calls import Call
from pyiot_evm.chain.contract_errors import LeafOutOfTime, RentalNotRuled
from pyiot_evm.chain.deployment import deploy_once
from pyiot_evm.contracts.rule_arbiter import RuleArbiter
from pyiot_evm.device import Field, LocalSigner, ReadingJournal, Schema
from pyiot_evm.device.reading import Reading
from pyiot_evm.device.rental_messages import CheckIn, CheckOut
from pyiot_evm.escrow.agreements import ReadingAgreement, find_evidence
from pyiot_evm.escrow.offers import RentalOffer
from pyiot_evm.escrow.policies import Claim, OwnerPolicy, RenterPolicy
from pyiot_evm.escrow.records import Role, State
from pyiot_evm.escrow.rulings import deploy_court_arbiter
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.types import ZERO_ADDRESS, Address

SCHEMA = Schema((Field("temperature", unit="Cel", scale=2), Field("humidity", unit="%RH", scale=1)))
AWARD, CLAIM = 2_000_000, 3_000_000


class Fridge:
    """The owner's device, which also measures: what it signs, a test decides."""

    SCHEMA, LIMITS, MORE = SCHEMA, {"temperature": (2, 8)}, [50]

    def __init__(self, house):
        self.house, self.name = house, house.owner.name
        self.readings = []
        self.device, self.signer_bytes = house.owner.own_device()

    def agreement(self, *, count=3, span=1200, **changes):
        return ReadingAgreement(
            self.SCHEMA, self.LIMITS, self.device, self.signer_bytes, count, span, award=AWARD, **changes
        )

    def measure(self, start, *values, step=600, signer=None):
        with self.house.chain.home.keyring.device(self.name) as key:
            for place, value in enumerate(values):
                self.readings.append(
                    Reading.sign(
                        signer or key,
                        seq=len(self.readings),
                        time=(start + step * place) * 1000,
                        schema=self.SCHEMA.hash,
                        device=self.device,
                        prev=self.readings[-1].digest if self.readings else bytes(32),
                        values=self.SCHEMA.fix([value, *self.MORE]),
                    )
                )


class Odometer(Fridge):
    """A car that says how far it ever went; 120 km are in the price."""

    SCHEMA, LIMITS, MORE = Schema((Field("odometer", unit="km", scale=1),)), {"odometer": (0, 50_120)}, []


class Bay(Fridge):
    """A bay that says whether somebody stands in it."""

    SCHEMA, LIMITS, MORE = Schema((Field("occupied"),)), {"occupied": (0, 0)}, []


@pytest.fixture
def fridge(house):
    return Fridge(house)


def disputed(house, *, came=None, left=-1, **changes):
    """A rental whose renter rejects what the owner claims; it came and left so long after the start, and the end."""
    rental = house.active(**changes)
    if came is not None:
        house.renter.rentals.show_statement(house.say(CheckIn(rental.terms_id, rental.offer.terms.start + came)))
    left = rental.offer.terms.end + left
    out = house.renter.rentals.show_statement(house.say(CheckOut(rental.terms_id, left)))
    house.owner.rentals.claim(out.id, CLAIM)
    return house.renter.rentals.reject(out.id)


def test_rule_by_readings__when_it_was_too_warm_for_long_enough__gives_the_owner_the_award(house, fridge):
    rental = disputed(house, agreement=fridge.agreement(), arbiter=ZERO_ADDRESS)
    start = rental.offer.terms.start
    fridge.measure(start, 5, 9, 5, 8.01, 12, 1.99, 8)
    assert [action.kind for action in house.owner.rentals.serve(once=True)] == ["awaits-evidence"]
    assert house.renter.rentals.serve(once=True) == []
    house.owner.rentals.owning = OwnerPolicy(evidence=lambda _: iter(fridge.readings))

    assert house.step(house.owner) == ["ruled"]

    ending = house.renter.rentals.ending(rental.id)
    assert (ending.how, ending.to_owner) == ("ruled", house.FEE + AWARD)
    assert ending.to_renter == house.PRICE - house.FEE - AWARD


def test_rule_by_readings__when_they_lie_in_the_device_s_journal__reads_them_there(house, fridge, tmp_path):
    rental = disputed(house, agreement=fridge.agreement(), arbiter=ZERO_ADDRESS)
    start = rental.offer.terms.start
    with (
        ReadingJournal.open(tmp_path / "fridge", device=fridge.device, schema=SCHEMA, curve="p256") as journal,
        house.chain.home.keyring.device(house.owner.name) as key,
    ):
        for place, value in enumerate([9, 9, 4, *[8.5] * 4]):
            journal.sign(key, values=SCHEMA.fix([value, 40]), time=(start + 300 * place) * 1000)
        with pytest.raises(InputError, match="no readings show"):  # four in a row are 15 minutes, 20 are agreed
            house.owner.rentals.rule_by_readings(rental.id, journal)
        journal.sign(key, values=SCHEMA.fix([8.5, 40]), time=(start + 3000) * 1000)
        assert house.owner.rentals.rule_by_readings(rental.id, journal).state is State.CLOSED
    assert house.credits() == (house.FEE + AWARD, house.PRICE - house.FEE - AWARD)


def test_rule_by_readings__when_a_counter_passes_what_was_agreed__gives_the_owner_the_award(house):
    car = Odometer(house)
    rental = disputed(house, agreement=car.agreement(count=1, span=0), arbiter=ZERO_ADDRESS, came=60)
    start = rental.offer.terms.start
    car.measure(start + 30, 60_000)  # a ride of the owner's, before the renter came
    car.measure(start + 60, 50_000, 50_119.9, 50_120)
    with pytest.raises(InputError, match="no readings show"):
        house.owner.rentals.rule_by_readings(rental.id, car.readings)
    car.measure(start + 3000, 50_120.1)
    assert house.owner.rentals.rule_by_readings(rental.id, car.readings).state is State.CLOSED
    assert house.credits() == (house.FEE + AWARD, house.PRICE - house.FEE - AWARD)


def late(house, bay, **changes):
    """Still in the bay ten minutes after the end, twice, five minutes apart."""
    ask = house.ask()
    agreed = bay.agreement(count=2, span=300, from_=ask.end + 600, until=ask.end + house.HOUR)
    return disputed(house, start=ask.start, end=ask.end, agreement=agreed, arbiter=ZERO_ADDRESS, **changes)


def test_rule_by_readings__when_the_renter_returns_late__gives_the_owner_the_award(house):
    bay = Bay(house)
    rental = late(house, bay, left=1500)
    end = rental.offer.terms.end
    bay.measure(end - 900, *[1] * 6, step=300)  # until ten minutes after the end: the last one counts
    with pytest.raises(InputError, match="no readings show"):
        house.owner.rentals.rule_by_readings(rental.id, bay.readings)
    bay.measure(end + 900, 1)
    house.owner.rentals.owning = OwnerPolicy(evidence=lambda _: bay.readings)
    assert house.step(house.owner) == ["ruled"]
    assert house.credits() == (house.FEE + AWARD, house.PRICE - house.FEE - AWARD)


def test_rule_by_readings__when_the_check_out_is_missing__counts_until_the_agreed_time(house):
    """The lock died with the renter in the bay: what another device saw counts, and nothing after the agreed time."""
    bay, ask = Bay(house), house.ask()
    agreed = bay.agreement(count=2, span=300, from_=ask.end + 600, until=ask.end + 1800)
    rental = house.active(start=ask.start, end=ask.end, agreement=agreed, arbiter=ZERO_ADDRESS)
    house.renter.rentals.show_statement(house.say(CheckIn(rental.terms_id, ask.start + 60)))
    house.pass_deadline(rental)
    house.owner.rentals.close(rental.id)
    house.owner.rentals.claim(rental.id, CLAIM)
    house.renter.rentals.reject(rental.id)
    bay.measure(ask.end, 1, 1, 0, step=300)
    bay.measure(ask.end + 1800, 1, 1, 1, step=300)  # the second of these is too late
    with pytest.raises(InputError, match="no readings show"):
        house.owner.rentals.rule_by_readings(rental.id, bay.readings)
    bay.readings = []
    bay.measure(ask.end + 1200, 1, 1, 1, step=300)
    assert house.owner.rentals.rule_by_readings(rental.id, bay.readings).state is State.CLOSED
    assert house.owner.rentals.credit() == house.FEE + AWARD


@pytest.mark.parametrize("left", [0, 599, 899], ids=["in time", "within the minutes", "before the second reading"])
def test_rule_by_readings__when_others_stand_in_the_bay_after_the_check_out__shows_nothing(house, left):
    bay = Bay(house)
    rental = late(house, bay, left=left)
    bay.measure(rental.offer.terms.end - 600, *[1] * 14, step=300)
    with pytest.raises(InputError, match="no readings show"):
        house.owner.rentals.rule_by_readings(rental.id, bay.readings)
    leaves = [reading.leaf() for reading in bay.readings if reading.time >= rental.offer.agreement.from_][:2]
    clerk, offer = house.owner.rentals.clerk, rental.offer
    struct = clerk.struct(clerk.journal.rental(rental.id, clerk.address, Role.OWNER))
    judge = RuleArbiter(offer.terms.arbiter)
    with pytest.raises(LeafOutOfTime):  # and the contract says so, too
        clerk.account.transact(judge.rule(struct, offer.document.hash, offer.agreement, leaves))


@pytest.mark.parametrize(
    "values",
    [(5, 5, 5, 5), (9, 9, 5, 9, 9), (9, 9)],
    ids=["fine", "interrupted", "too few"],
)
def test_rule_by_readings__when_nothing_shows_it__sends_nothing(house, fridge, values):
    rental = disputed(house, agreement=fridge.agreement(), arbiter=ZERO_ADDRESS)
    fridge.measure(rental.offer.terms.start, *values)
    with pytest.raises(InputError, match="no readings show"):
        house.owner.rentals.rule_by_readings(rental.id, fridge.readings)
    house.owner.rentals.owning = OwnerPolicy(evidence=lambda _: fridge.readings)
    assert house.step(house.owner) == []


def test_find_evidence__when_readings_are_foreign_forged_or_out_of_time__counts_none_of_them(house, fridge):
    agreement = fridge.agreement().bind(
        rule=house.chain.addresses.signed_reading_rule, start=1_800_000_000, end=1_800_003_600
    )
    fridge.measure(1_800_000_000, 9, 9, 9, 9)
    good = fridge.readings
    assert len(find_evidence(agreement, good)) == 3
    assert find_evidence(agreement, good, came=1_800_000_001) == tuple(reading.leaf() for reading in good[1:])
    assert find_evidence(agreement, good, came=1_800_000_601) == ()
    assert find_evidence(agreement, good, left=1_800_001_199) == ()
    assert find_evidence(replace(agreement, from_=1_800_001_000_000), good) == ()
    assert find_evidence(replace(agreement, span=1_900_000), good) == ()
    assert find_evidence(agreement, [good[0], good[2], good[3]]) == ()
    assert find_evidence(agreement, [replace(r, signature=bytes(64)) for r in good]) == ()
    fridge.readings = []
    fridge.measure(1_800_000_000, 9, 9, 9, signer=LocalSigner.create("p256"))
    assert find_evidence(agreement, fridge.readings) == ()


def resigned(house, offer, agreement):
    changed = replace(offer, agreement=agreement)
    from pyiot_evm.escrow.agreements import terms_hash

    changed = replace(changed, terms=replace(offer.terms, terms=terms_hash(offer.document.hash, agreement)))
    return replace(changed, signature=house.owner.rentals.clerk.signer.sign_digest(changed.id))


def test_open__when_the_agreement_is_a_trap__pays_nothing(house, fridge):
    offer = house.offer(agreement=fridge.agreement(), arbiter=ZERO_ADDRESS)
    assert RentalOffer.decode(offer.encode()) == offer
    fair = offer.agreement
    trap = ReadingAgreement(SCHEMA, {"temperature": (2, 8)}, fridge.device, LocalSigner.create().signer_bytes, 3, 0, 1)
    traps = {
        "not one that is known": replace(fair, rule=house.renter.address),
        "within the limits": replace(fair, device=type(fair.device)(b"\x01" * 32)),
        "before the rental": replace(fair, from_=fair.from_ - 1),
        "cannot be read": replace(fair, params=b"\x01"),
        "present signer": trap.bind(rule=fair.rule, start=offer.terms.start, end=offer.terms.end),
    }
    for says, agreement in traps.items():
        with pytest.raises(VerificationError, match=says):
            house.renter.rentals.open(resigned(house, offer, agreement))
    with pytest.raises(VerificationError, match="together or not at all"):
        house.renter.rentals.open(resigned(house, offer, None))
    with pytest.raises(VerificationError, match="terms name"):
        house.renter.rentals.open(replace(offer, agreement=replace(fair, award=0)))
    assert house.renter.balance() == 1000
    assert house.renter.rentals.open(offer).state is State.OPENED


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"from_": -1}, "readings cannot count from"),
        ({"until": 3600 + 86_401}, "readings cannot count from"),
        ({"from_": 4200}, "readings cannot count from"),  # after the end, and nothing is said of until when
        ({"from_": 600, "until": 500}, "readings cannot count from"),
        ({"from_": 3600, "until": 4799}, "are never 1200 seconds apart"),
        ({"span": 3601}, "are never 3601 seconds apart"),
        ({"span": -1}, "are never -1 seconds apart"),
        ({"count": 0}, "at least one reading"),
    ],
)
def test_offer__when_no_reading_could_ever_show_it__is_refused(house, fridge, changes, says):
    ask = house.ask()
    moved = {key: value + (ask.start if key in ("from_", "until") else 0) for key, value in changes.items()}
    with pytest.raises(InputError, match=says):
        house.owner.rentals.offer(
            replace(ask, agreement=replace(fridge.agreement(), **moved), arbiter=ZERO_ADDRESS), again=True
        )
    last = replace(fridge.agreement(), from_=ask.end + 86_400 - 1200, until=ask.end + 86_400)
    offer = house.owner.rentals.offer(replace(ask, agreement=last, arbiter=ZERO_ADDRESS), again=True)
    assert house.renter.rentals.open(offer).state is State.OPENED


def test_offer__when_an_agreement_and_an_arbiter_are_named__is_refused(house, fridge):
    with pytest.raises(InputError, match="name no other"):
        house.offer(agreement=fridge.agreement())
    with pytest.raises(InputError, match="no field"):
        house.offer(agreement=replace(fridge.agreement(), limits={"noise": (0, 1)}), arbiter=ZERO_ADDRESS)


# --- a court ---


class Court:
    """The small court of ERC-792 whose juror is the house's arbiter."""

    FEE = 12_345

    def __init__(self, house, code):
        self.juror = house.arbiter.rentals.clerk.account
        arguments = encode(["address", "uint256"], [self.juror.address, self.FEE])
        self.address = deploy_once(self.juror, "SmallCourt", code + arguments)

    def give(self, dispute, ruling):
        data = selector("giveRuling(uint256,uint256)") + encode(["uint256", "uint256"], [dispute, ruling])
        self.juror.transact(Call(self.address, data, "giveRuling(uint256,uint256)", bytes))


@pytest.mark.parametrize(("ruling", "award"), [(1, CLAIM), (2, 0), (0, 0)])
def test_court__when_it_has_ruled__the_loop_of_either_party_carries_it_to_the_escrow(house, mock_code, ruling, award):
    court = Court(house, mock_code("SmallCourt"))
    adapter = deploy_court_arbiter(house.owner.rentals.clerk, court.address)
    assert deploy_court_arbiter(house.renter.rentals.clerk, court.address) == adapter
    rental = disputed(house, arbiter=adapter)
    before = house.chain.balance(court.address)

    owners, deadline = house.owner.rentals.loop(), house.owner.rentals.get(rental.id).deadline
    assert [(action.kind, action.deadline) for action in owners.step()] == [("awaits-court", deadline)]
    house.renter.rentals.bring(rental.id)
    assert owners.step() == []
    assert house.chain.balance(court.address) - before == court.FEE
    with pytest.raises(RentalNotRuled):
        house.renter.rentals.enforce(rental.id)
    assert house.step(house.renter) == house.step(house.owner) == []
    from pyiot_evm.contracts.court_arbiter import CourtArbiter

    case = house.chain.call(CourtArbiter(adapter).dispute_of(rental.id))
    court.give(case.dispute_id, ruling)
    assert house.step(house.owner if ruling == 1 else house.renter) == ["ruled"]
    assert house.renter.rentals.ending(rental.id).to_owner == house.FEE + award


def test_court_arbiter__when_there_is_no_court__is_refused_before_anything_is_sent(house):
    for address in (house.chain.token, Address(b"\x55" * 20)):
        with pytest.raises(InputError, match="is no court of ERC-792"):
            deploy_court_arbiter(house.owner.rentals.clerk, address)


def test_bring__when_the_arbiter_is_a_person__is_refused(house):
    rental = disputed(house)
    with pytest.raises(InputError, match="no court's adapter"):
        house.renter.rentals.bring(rental.id)
    with pytest.raises(InputError, match="no agreement"):
        house.owner.rentals.rule_by_readings(rental.id, [])
    house.owner.rentals.owning = OwnerPolicy(evidence=lambda _: [], claim=lambda _: Claim(1))
    house.renter.rentals.renting = RenterPolicy()
    assert house.step(house.owner) == house.step(house.renter) == []
