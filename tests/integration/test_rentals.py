"""Rentals on a real chain: owner, renter and arbiter by the SDK, the device by its own key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyiot_evm.device import LocalSigner
from pyiot_evm.device.rental_messages import CheckIn, CheckOut
from pyiot_evm.escrow.offering import RentalAsk
from pyiot_evm.escrow.offers import RentalDocument
from pyiot_evm.escrow.records import State
from pyiot_evm.machine import Machine

if TYPE_CHECKING:
    from pyiot_evm.chain import Chain
    from pyiot_evm.device.rental_messages import SignedStatement, Statement
    from pyiot_evm.escrow.offers import RentalOffer

FEE, RATE, CAP, DEPOSIT = 500_000, 100_000, 1_000_000, 5_000_000


class House:
    """An owner with a device, a renter and an arbiter on one chain."""

    def __init__(self, chain: Chain, name: str) -> None:
        self.chain = chain
        self.owner = Machine.create(chain, f"{name}-owner", curve="p256")
        self.renter = Machine.create(chain, f"{name}-renter")
        self.arbiter = Machine.create(chain, f"{name}-arbiter")

    def offer(self, **changes: object) -> RentalOffer:
        now = self.chain.now()
        asked = {
            "document": RentalDocument("Bay 7", unit="kWh"),
            "start": now,
            "end": now + 3600,
            "fee": FEE,
            "rate": RATE,
            "meter_cap": CAP,
            "deposit": DEPOSIT,
            "arbiter": self.arbiter.address,
        }
        return self.owner.rentals.offer(RentalAsk(**asked | changes), again=True)  # type: ignore[arg-type]

    def say(self, statement: Statement) -> SignedStatement:
        with self.chain.home.keyring.device(self.owner.name) as device:
            return self.owner.rentals.clerk.messages.sign(statement, device)

    def credits(self) -> tuple[int, int]:
        return self.owner.rentals.credit(), self.renter.rentals.credit()


@pytest.fixture
def house(devnet: Chain, request: pytest.FixtureRequest) -> House:
    return House(devnet, f"h{abs(hash(request.node.name)) % 10**8}")


def test_rental__when_all_goes_well__pays_fee_and_use_and_gives_the_deposit_back(house: House) -> None:
    offer = house.offer()
    before = house.renter.balance()

    opened = house.renter.rentals.open(offer)
    assert opened.state is State.OPENED
    assert before - house.renter.balance() == house.chain.token_info().from_units(offer.price)

    active = house.owner.rentals.hand_over(opened.id)
    key = house.renter.rentals.access_key(opened.id)
    assert (active.state, LocalSigner.from_secret(key.secret).public_point) == (
        State.ACTIVE,
        (offer.terms.key_x, offer.terms.key_y),
    )

    now = house.chain.now()
    assert house.renter.rentals.show_statement(house.say(CheckIn(offer.id, now))).state is State.CHECKED_IN
    out = house.renter.rentals.show_statement(house.say(CheckOut(offer.id, now + 60, units=7)))
    assert (out.state, out.held) == (State.CHECKED_OUT, DEPOSIT)
    assert house.credits() == (FEE + 7 * RATE, CAP - 7 * RATE)

    assert house.owner.rentals.waive(opened.id).state is State.CLOSED
    assert house.credits() == (FEE + 7 * RATE, CAP - 7 * RATE + DEPOSIT)
    ending = house.renter.rentals.ending(opened.id)
    assert (ending.how, ending.units, ending.charge) == ("released", 7, FEE + 7 * RATE)
    assert (ending.to_owner, ending.to_renter) == house.credits()
    assert house.renter.rentals.withdraw() is not None
    assert house.renter.rentals.credit() == 0
