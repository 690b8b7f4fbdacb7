"""Every set of silent roles, with a device that lives, dies after the check-in or never speaks: all money comes out.

The loops of those who are not silent run; after each deadline a stranger closes what nobody closed. What everybody gets
is told by a model of the design's defaults, in Python.
"""

from itertools import product

import pytest

from pyiot_evm.contracts.deposit_escrow import DepositEscrow
from pyiot_evm.device import LocalSigner
from pyiot_evm.device.rental_messages import CheckIn, CheckOut
from pyiot_evm.escrow.policies import ArbiterPolicy, Claim, OwnerPolicy, RenterPolicy
from pyiot_evm.escrow.records import Role, State

DAMAGE, AWARD, UNITS = 3_000_000, 1_000_000, 7
WINDOWS = {"grace": 600, "claim_window": 3600, "reply_window": 3600, "ruling_window": 3600}
DEVICES = ("lives", "dies", "dead")


def due(house, *, owner, renter, arbiter, device):
    """What the owner gets of the price, by the design; the renter gets the rest."""
    if not owner or device == "dead":
        return 0
    charge = house.FEE + (UNITS * house.RATE if device == "lives" else 0)
    if not renter:
        return charge + DAMAGE
    return charge + (AWARD if arbiter else 0)


class Stranger:
    """Closes what nobody closed, from the chain alone."""

    def __init__(self, house):
        self.house, self.chain = house, house.chain
        self.account = self.chain.account(LocalSigner.create())
        self.chain.fund(self.account, ether=1)
        self.escrow = DepositEscrow(self.chain.addresses.deposit_escrow)

    def close(self, rental, deadline):
        self.chain.increase_time(max(deadline - self.chain.now(), 0))
        clerk = self.house.renter.rentals.clerk
        (before,) = clerk.standings([rental.id])
        if before.state is not State.CLOSED and before.deadline <= deadline:
            record = clerk.journal.rental(rental.id, clerk.address, Role.RENTER)
            self.account.transact(self.escrow.close(clerk.struct(record)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("owner", "renter", "arbiter"), list(product([True, False], repeat=3)))
def test_rental__when_some_are_silent__pays_what_the_design_says(house, owner, renter, arbiter, device):
    house.owner.rentals.owning = OwnerPolicy(claim=lambda _: Claim(DAMAGE))
    house.renter.rentals.renting = RenterPolicy(accept_up_to=0)
    house.arbiter.rentals.arbitrating = ArbiterPolicy(ruling=lambda _: AWARD)
    awake = [m for m, is_awake in ((house.owner, owner), (house.renter, renter), (house.arbiter, arbiter)) if is_awake]
    stranger = Stranger(house)
    rental = house.renter.rentals.open(house.offer(**WINDOWS))
    house.arbiter.rentals.judge(rental.offer)
    opened_at = house.chain.now()

    if owner:
        assert house.step(house.owner) == ["handed-over"]
    said = [CheckIn(rental.terms_id, opened_at)] if device != "dead" else []
    said += [CheckOut(rental.terms_id, opened_at + 60, UNITS)] if device == "lives" else []
    holder = house.renter if renter else house.owner
    for statement in said if owner else ():
        holder.rentals.hold(house.say(statement))
        if holder in awake:
            house.step(holder)

    for _ in range(6):
        (standing,) = house.renter.rentals.clerk.standings([rental.id])
        if standing.state is State.CLOSED:
            break
        for machine in awake:
            house.step(machine)
        stranger.close(rental, house.renter.rentals.clerk.standings([rental.id])[0].deadline)

    (standing,) = house.renter.rentals.clerk.standings([rental.id])
    assert (standing.state, standing.held) == (State.CLOSED, 0)
    owed = due(house, owner=owner, renter=renter, arbiter=arbiter, device=device)
    assert house.credits() == (owed, house.PRICE - owed)
    ending = house.renter.rentals.ending(rental.id)
    assert (ending.to_owner, ending.to_renter) == (owed, house.PRICE - owed)
    latest = rental.offer.check_out_deadline + sum(seconds for name, seconds in WINDOWS.items() if name != "grace")
    assert house.chain.now() <= latest + 60
