"""Loops of rentals and what people and programs say to them: policies that break, and what awaits a person."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyiot_evm import Machine
from pyiot_evm.device.rental_messages import CheckIn, CheckOut
from pyiot_evm.escrow.policies import ArbiterPolicy, Claim, OwnerPolicy, RenterPolicy
from pyiot_evm.escrow.records import Role, State
from pyiot_evm.escrow.views import Shown
from pyiot_evm.exceptions import CallbackError
from pyiot_evm.hashing import keccak256

DAMAGE = 3_000_000


def broken_about(rental, answer):
    """A policy with a mistake that shows at one rental alone."""

    def ask(view):
        if view.id == rental.id:
            raise KeyError("room 7")
        return answer

    return ask


def claimed(house, **changes):
    rental = house.checked_out(**changes)
    return house.owner.rentals.claim(rental.id, DAMAGE)


def disputed(house, **changes):
    rental = claimed(house, **changes)
    house.arbiter.rentals.judge(rental.offer)
    return house.renter.rentals.reject(rental.id)


# Policies that break


@pytest.mark.parametrize("role", [Role.OWNER, Role.RENTER, Role.ARBITER])
def test_serve__when_a_policy_raises_anything__serves_the_other_rentals_and_says_what_was_raised(house, role):
    # Only errors of ours were caught. A KeyError in a renter's reply ended the loop of all its rentals, and silence
    # granted the claims.
    make = {Role.OWNER: house.checked_out, Role.RENTER: lambda: claimed(house), Role.ARBITER: lambda: disputed(house)}
    bad, good = make[role](), make[role]()
    house.owner.rentals.owning = OwnerPolicy(claim=broken_about(bad, Claim(DAMAGE)), poll=0.01)
    house.renter.rentals.renting = RenterPolicy(reply=broken_about(bad, answer=True), poll=0.01)
    house.arbiter.rentals.arbitrating = ArbiterPolicy(ruling=broken_about(bad, 0), poll=0.01)
    machine = {Role.OWNER: house.owner, Role.RENTER: house.renter, Role.ARBITER: house.arbiter}[role]
    stop, seen = threading.Event(), []

    def report(action):
        seen.append(action)
        if len(seen) == 2:
            stop.set()

    machine.rentals.serve(stop=stop, report=report)
    done = {Role.OWNER: "claimed", Role.RENTER: "accepted", Role.ARBITER: "ruled"}[role]
    assert [(action.kind, action.rental_id) for action in seen] == [("failed", bad.id), (done, good.id)]
    assert isinstance(seen[0].error, CallbackError)
    assert isinstance(seen[0].error.raised, KeyError)
    assert "KeyError: 'room 7'" in seen[0].error.message


def test_serve__when_a_reply_raises_until_the_window_ends__rejects_before_silence_grants_the_claim(house):
    rental = claimed(house, reply_window=3600)
    house.renter.rentals.renting = RenterPolicy(reply=broken_about(rental, answer=True), accept_up_to=DAMAGE)
    assert house.step(house.renter) == ["failed"]
    house.pass_deadline(rental, but=1000)
    assert house.step(house.renter) == ["rejected"]


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (OwnerPolicy(claim=lambda _: DAMAGE), "3000000, which is no Claim"),
        (OwnerPolicy(claim=lambda _: Claim("all")), "a claim is a number of base units, not 'all'"),
        (OwnerPolicy(claim=lambda _: Claim(-1)), "base units, not -1"),
    ],
)
def test_serve__when_a_policy_answers_with_something_else__sends_nothing(house, policy, says):
    rental = house.checked_out()
    house.owner.rentals.owning = policy
    (action,) = house.owner.rentals.serve(once=True)
    assert (action.kind, action.rental_id) == ("failed", rental.id)
    assert says in action.error.message
    assert house.owner.rentals.get(rental.id).state is State.CHECKED_OUT


def test_serve__when_a_report_raises__goes_on(house):
    first, second = house.checked_out(), house.checked_out()
    house.owner.rentals.owning = OwnerPolicy(waive=True, poll=0.01)
    stop, seen = threading.Event(), []

    def report(action):
        seen.append(action.rental_id)
        if len(seen) == 2:
            stop.set()
        raise OSError(28, "no space left on device")

    house.owner.rentals.serve(stop=stop, report=report)
    assert seen == [first.id, second.id]


def test_serve__when_the_disk_is_full_for_a_while__goes_on(house, monkeypatch):
    rental = house.checked_out()
    house.owner.rentals.owning = OwnerPolicy(waive=True, poll=0.01)
    stop, seen, full = (
        threading.Event(),
        [],
        [sqlite3.OperationalError("database or disk is full"), OSError(28, "full")],
    )
    refresh = type(house.owner.rentals.clerk).refresh

    def refuse(clerk, records):
        if full:
            raise full.pop()
        return refresh(clerk, records)

    monkeypatch.setattr("pyiot_evm.escrow.clerk.Clerk.refresh", refuse)
    house.owner.rentals.serve(stop=stop, report=lambda action: (seen.append(action.kind), stop.set()))
    assert seen == ["waived"]
    assert house.owner.rentals.get(rental.id).state is State.CLOSED


# What was shown


def test_ending__when_device_and_owner_showed_something__has_the_times_and_the_hashes(house):
    # Nobody could see on which evidence a claim stood: neither the renter nor the arbiter could compare a file with it.
    rental, photo, inventory = house.active(), keccak256(b"a photo"), keccak256(b"an inventory")
    came, left = house.chain.now(), house.chain.now() + 60
    assert house.renter.rentals.ending(rental.id).shown == Shown()
    house.renter.rentals.show_statement(house.say(CheckIn(rental.terms_id, came, photo)))
    assert house.owner.rentals.ending(rental.id).shown == Shown(checked_in_at=came, condition_in=photo)
    house.owner.rentals.show_statement(house.say(CheckOut(rental.terms_id, left, 7, inventory)))
    house.owner.rentals.claim(rental.id, DAMAGE, evidence=photo)
    house.arbiter.rentals.judge(rental.offer)
    shown = house.arbiter.rentals.ending(rental.id).shown
    assert shown == house.renter.rentals.ending(rental.id).shown == Shown(came, left, photo, inventory, photo)
    assert (shown.named(photo), shown.named(inventory)) == (["check-in", "evidence"], ["check-out"])
    assert shown.named(bytes(32)) == shown.named(keccak256(b"another photo")) == []


def test_ending__when_nothing_was_seen__has_no_hashes(house):
    rental = claimed(house)
    shown = house.renter.rentals.ending(rental.id).shown
    assert (shown.hashes, shown.checked_in_at) == ({}, None)
    assert shown.checked_out_at is not None


# What awaits a person


def told(actions):
    return [(action.kind, action.role, action.rental_id, action.deadline) for action in actions]


def test_loop__when_a_person_is_to_decide__tells_it_once_with_the_deadline_and_again_after_a_restart(house):
    # "Nothing is to be done" was all that a renter read whose deposit was claimed, and a judge with a dispute.
    rental = house.checked_out()
    waiting = [("awaits-claim", Role.OWNER, rental.id, rental.deadline)]
    loop = house.owner.rentals.loop()
    assert told(loop.step()) == waiting
    assert loop.step() == []
    assert told(house.owner.rentals.serve(once=True)) == waiting

    rental = house.owner.rentals.claim(rental.id, DAMAGE)
    assert loop.step() == []
    renters = house.renter.rentals.loop()
    assert told(renters.step()) == [("awaits-answer", Role.RENTER, rental.id, rental.deadline)]
    assert renters.step() == []

    house.arbiter.rentals.judge(rental.offer)
    arbiters = house.arbiter.rentals.loop()
    assert arbiters.step() == []
    rental = house.renter.rentals.reject(rental.id)
    assert told(arbiters.step()) == [("awaits-ruling", Role.ARBITER, rental.id, rental.deadline)]
    assert arbiters.step() == renters.step() == loop.step() == []
    house.arbiter.rentals.rule(rental.id, 0)
    assert house.arbiter.rentals.serve(once=True) == []


def test_loop__when_a_policy_has_not_decided_yet__tells_it_and_acts_once_it_has(house):
    rental = house.checked_out()
    decided = []
    house.owner.rentals.owning = OwnerPolicy(claim=lambda _: decided[0] if decided else None)
    loop = house.owner.rentals.loop()
    assert [action.kind for action in loop.step()] == ["awaits-claim"]
    assert loop.step() == []
    decided.append(Claim(DAMAGE))
    (action,) = loop.step()
    assert (action.kind, action.rental_id, action.awaits_a_person) == ("claimed", rental.id, False)


@pytest.mark.parametrize("policy", [OwnerPolicy(waive=True), OwnerPolicy(claim=lambda _: Claim(0))])
def test_loop__when_the_policy_decides__leaves_nothing_to_a_person(house, policy):
    house.checked_out()
    house.owner.rentals.owning = policy
    assert [action.kind for action in house.owner.rentals.serve(once=True)] == ["waived"]


def test_loop__when_the_window_is_over__asks_nobody_any_more(house):
    rental = disputed(house)
    house.pass_deadline(rental)
    assert house.arbiter.rentals.serve(once=True) == house.owner.rentals.serve(once=True) == []


def test_loop__when_no_block_takes_a_hand_over__answers_a_claim_beside_it_all_the_same(house):
    """The reply was sent only after the hand-over had been waited for: two minutes for each one that was stuck."""
    chain = house.chain
    both = Machine.create(chain, f"both-{chain.block_number()}", curve="p256")
    rental = both.rentals.open(house.offer(reply_window=3600))
    house.owner.rentals.hand_over(rental.id)
    both.rentals.show_statement(house.say(CheckOut(rental.terms_id, chain.now(), 0)))
    house.owner.rentals.claim(rental.id, house.DEPOSIT)
    chain.increase_time(both.rentals.get(rental.id).deadline - 300 - chain.now())
    now = both.rentals.clerk.now()
    house.renter.rentals.open(both.rent_out("Bay 8", start=now, end=now + 3600, fee=1))
    chain.set_automine(enabled=False)
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            serving = pool.submit(both.rentals.serve, once=True)
            end = time.monotonic() + 30
            while int(chain.rpc("txpool_status")["pending"], 16) < 2:
                assert time.monotonic() < end
                time.sleep(0.05)
            chain.set_automine(enabled=True)
            chain.mine()
            done = serving.result(timeout=60)
    finally:
        chain.set_automine(enabled=True)
    assert {(action.role, action.kind) for action in done} == {(Role.OWNER, "handed-over"), (Role.RENTER, "rejected")}
