"""Owners, renters and arbiters killed (SIGKILL) before and after every journal write and every send.

Each story runs once in a child process that counts its points, and then once for each point in a child that is killed
there; a second child runs the same lines again to the end. Whatever the point, one rental was opened, one payment made,
the access key is there, and everybody has what is due. The number of points is printed.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pyiot_evm import Machine
from pyiot_evm.contracts.deposit_escrow import RentalOpened
from pyiot_evm.device.rental_messages import CheckIn, CheckOut
from pyiot_evm.escrow.policies import ArbiterPolicy, Claim, OwnerPolicy, RenterPolicy
from pyiot_evm.escrow.records import State
from pyiot_evm.escrow.signed import read_signed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyiot_evm.chain import Chain

FEE, CAP, DEPOSIT, DAMAGE = 500_000, 1_000_000, 5_000_000, 3_000_000
START = 4_000_000_000  # far away, so that every run signs the same offer; the stage's clock is moved there


def rent(chain: Chain, points: Any, *counted: str, pay: Any = "auto", damage: int = 0) -> dict[str, Any]:
    """Rent, from the offer to the withdrawal, and count the points of some of the three."""
    with ExitStack() as stack:
        owner, renter, judge = (stack.enter_context(Machine.open(chain, name)) for name in ("owner", "renter", "judge"))

        def step(name: str, act: Callable[[], Any]) -> Any:
            if name not in counted:
                return act()
            with points.counted():
                return act()

        owner.rentals.owning = OwnerPolicy(waive=not damage, claim=(lambda _: Claim(damage)) if damage else None)
        renter.rentals.renting = RenterPolicy(pay=pay, accept_up_to=0)
        judge.rentals.arbitrating = ArbiterPolicy(ruling=lambda view: view.claimed // 3)
        offer = step("owner", lambda: owner.rent_out(
            "Bay 7", start=START, end=START + 3600, fee="0.5", rate="0.1", meter_cap=1, deposit=5, arbiter=judge.address
        ))  # fmt: skip
        rental = step("renter", lambda: renter.rentals.open(offer))
        step("owner", lambda: owner.rentals.serve(once=True))
        key = step("renter", lambda: renter.rentals.access_key(rental.id))
        with chain.home.keyring.device("owner") as device:
            said = [CheckIn(offer.id, START + 60), CheckOut(offer.id, START + 600, 7)]
            statements = [owner.rentals.clerk.messages.sign(statement, device) for statement in said]
        for statement in statements:
            step("renter", lambda statement=statement: renter.rentals.hold(statement))  # type: ignore[misc]
            step("renter", lambda: renter.rentals.serve(once=True))
        step("owner", lambda: owner.rentals.serve(once=True))
        renter.rentals.serve(once=True)
        step("judge", lambda: judge.rentals.judge(offer))
        step("judge", lambda: judge.rentals.serve(once=True))
        step("owner", owner.rentals.withdraw)
        renter.rentals.withdraw()
        ending = renter.rentals.ending(rental.id)
        return {
            "opened": len(chain.logs(address=chain.addresses.deposit_escrow, topics=[RentalOpened.TOPIC])),
            "offers": len(owner.rentals.offers()),
            "state": renter.rentals.get(rental.id).state,
            "key": key.terms_id == offer.id,
            "ending": (ending.how, ending.charge, ending.units, ending.to_owner, ending.to_renter),
            "money": [int(machine.balance() * 10**6) - 10**9 for machine in (owner, renter)],
        }


def owner_killed(chain: Chain, _: Path, points: Any, __: Any) -> dict[str, Any]:
    return rent(chain, points, "owner")


def renter_killed(chain: Chain, _: Path, points: Any, __: Any) -> dict[str, Any]:
    return rent(chain, points, "renter")


def renter_killed_paying_by_allowance(chain: Chain, _: Path, points: Any, __: Any) -> dict[str, Any]:
    with Machine.open(chain, "owner") as owner, Machine.open(chain, "renter") as renter:
        offer = owner.rent_out("Bay 7", start=START, end=START + 3600, fee="0.5", rate="0.1", meter_cap=1, deposit=5)
        renter.rentals.renting = RenterPolicy(pay="allowance")
        with points.counted():
            rental = renter.rentals.open(offer)
        opened = len(chain.logs(address=chain.addresses.deposit_escrow, topics=[RentalOpened.TOPIC]))
        return {"opened": opened, "state": rental.state, "left": int(renter.balance() * 10**6) - 10**9}


def signed_and_carried(chain: Chain, _: Path, points: Any, __: Any) -> dict[str, Any]:
    with ExitStack() as stack:
        owner, renter, judge = (stack.enter_context(Machine.open(chain, name)) for name in ("owner", "renter", "judge"))
        offer = owner.rent_out("Bay 7", start=START, end=START + 3600, fee="0.5", deposit=5)

        def post(name: str, sign: Callable[[], Any]) -> None:
            file = chain.home.path / name
            with points.counted():
                if not file.exists():
                    sign().write(file)
                judge.rentals.carry(read_signed(file))

        post("open", lambda: renter.rentals.signing().open(offer))
        (rental,) = owner.rentals.all()
        post("refund", lambda: owner.rentals.signing().refund(rental.id))
        post("withdraw", lambda: renter.rentals.signing().withdraw())
        opened = len(chain.logs(address=chain.addresses.deposit_escrow, topics=[RentalOpened.TOPIC]))
        ended, left = renter.rentals.get(rental.id).state, int(renter.balance() * 10**6) - 10**9
        return {"opened": opened, "state": ended, "left": left, "credit": renter.rentals.credit()}


def claim_ruled(chain: Chain, _: Path, points: Any, __: Any) -> dict[str, Any]:
    return rent(chain, points, "judge", damage=DAMAGE)


_USE = 700_000
_CLOSED = {"opened": 1, "offers": 1, "state": State.CLOSED, "key": True}
_PAID, _BACK = FEE + _USE, CAP - _USE + DEPOSIT
_GOOD = _CLOSED | {"ending": ("waived", _PAID, 7, _PAID, _BACK), "money": [_PAID, -_PAID]}
_STORIES: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "owner": (owner_killed, _GOOD),
    "renter": (renter_killed, _GOOD),
    "allowance": (
        renter_killed_paying_by_allowance,
        {"opened": 1, "state": State.OPENED, "left": -(FEE + CAP + DEPOSIT)},
    ),
    "carried": (signed_and_carried, {"opened": 1, "state": State.CLOSED, "left": 0, "credit": 0}),
    "ruled": (
        claim_ruled,
        _CLOSED
        | {
            "ending": ("ruled", _PAID, 7, _PAID + DAMAGE // 3, _BACK - DAMAGE // 3),
            "money": [_PAID + DAMAGE // 3, -_PAID - DAMAGE // 3],
        },
    ),
}


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Any]) -> Any:
    stage = make_stage("owner", "renter", "judge")
    stage.chain.increase_time(START - stage.chain.now())
    stage.snapshot = stage.chain.snapshot()
    return stage


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(_STORIES))
def test_rental__when_killed_at_any_point__ends_with_one_payment_and_everybody_paid(
    stage: Any, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    story, expected = _STORIES[name]
    stage.reset()
    status, ending, points = stage.run(story, None)
    assert (status, ending) == (0, expected)
    assert points > 5

    for fatal in range(1, points + 1):
        stage.reset()
        killed, _, _ = stage.run(story, fatal)
        assert os.WIFSIGNALED(killed), f"point {fatal} of {points} was not reached"
        assert os.WTERMSIG(killed) == signal.SIGKILL
        status, ending, _ = stage.run(story, None)
        assert (status, ending) == (0, expected), f"killed at point {fatal} of {points}"
    with capfd.disabled():
        sys.stdout.write(f"\n  {name}: killed at each of {points} points\n")
