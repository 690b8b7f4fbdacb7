"""Rentals on a real chain: owner, renter and arbiter by the SDK, the device by its own key."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pyiot_evm.chain import connect
from pyiot_evm.chain.contract_errors import WindowIsOpen
from pyiot_evm.contracts.deposit_escrow import DepositClaimed
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.device import LocalSigner
from pyiot_evm.device.rental_messages import CheckIn, CheckOut
from pyiot_evm.escrow.facade import Rentals
from pyiot_evm.escrow.policies import ArbiterPolicy, Claim, OwnerPolicy, RenterPolicy
from pyiot_evm.escrow.records import OfferState, Role, State
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.machine import Machine
from pyiot_evm.types import ZERO_ADDRESS

DAMAGE = 3_000_000


def test_rental__when_all_goes_well__pays_fee_and_use_and_gives_the_deposit_back(house):
    offer = house.offer()
    before = house.renter.balance()

    opened = house.renter.rentals.open(offer)
    assert opened.state is State.OPENED
    assert before - house.renter.balance() == house.chain.token_info().from_units(house.PRICE)

    active = house.owner.rentals.hand_over(opened.id)
    key = house.renter.rentals.access_key(opened.id)
    assert active.state is State.ACTIVE
    assert LocalSigner.from_secret(key.secret).public_point == (offer.terms.key_x, offer.terms.key_y)
    assert (key.device, key.terms_id) == (offer.terms.device, offer.id)

    now = house.chain.now()
    assert house.renter.rentals.show_statement(house.say(CheckIn(offer.id, now))).state is State.CHECKED_IN
    out = house.owner.rentals.show_statement(house.say(CheckOut(offer.id, now + 60, units=7)))
    assert (out.state, out.held) == (State.CHECKED_OUT, house.DEPOSIT)
    assert house.credits() == (house.FEE + 7 * house.RATE, house.CAP - 7 * house.RATE)

    assert house.owner.rentals.waive(opened.id).state is State.CLOSED
    assert house.credits() == (house.FEE + 7 * house.RATE, house.CAP - 7 * house.RATE + house.DEPOSIT)
    ending = house.renter.rentals.ending(opened.id)
    assert (ending.how, ending.units, ending.charge) == ("waived", 7, house.FEE + 7 * house.RATE)
    assert (ending.to_owner, ending.to_renter) == house.credits()
    assert house.renter.rentals.withdraw() is not None
    assert house.renter.rentals.credit() == 0


def test_open__when_called_again__pays_once(house):
    offer = house.offer()
    first, second = house.renter.rentals.open(offer), house.renter.rentals.open(offer)
    assert (first.id, second.state) == (second.id, State.OPENED)
    assert house.renter.balance() == 1000 - house.chain.token_info().from_units(house.PRICE)


@pytest.mark.parametrize("pay", ["allowance", "authorization"])
def test_open__when_paid_by_either_way__holds_the_price(house, pay):
    house.renter.rentals.renting = RenterPolicy(pay=pay)
    opened = house.renter.rentals.open(house.offer())
    assert opened.held == house.PRICE
    assert [item.purpose for item in opened.transactions] == (["approve", "open"] if pay == "allowance" else ["open"])


def test_open__when_a_signed_payment_has_expired__signs_anew_for_the_same_rental(house):
    now = house.chain.now()
    offer = house.offer(start=now + 86_400, end=now + 2 * 86_400)
    signed = house.renter.rentals.signing().open(offer)
    house.chain.increase_time(3700)
    with pytest.raises(InputError, match="was good until"):
        house.arbiter.rentals.carry(signed)
    opened = house.renter.rentals.open(offer)
    assert (opened.id, opened.state) == (signed.rental_id, State.OPENED)
    assert house.renter.balance() == 1000 - house.chain.token_info().from_units(house.PRICE)


def test_open__when_the_token_refuses__pays_nothing_and_can_be_tried_again(house):
    offer = house.offer()
    account, dollar = house.renter.rentals.clerk.account, Erc20(offer.terms.token)
    account.transact(dollar.transfer(house.arbiter.address, 995 * 10**6))
    with pytest.raises(InputError, match=r"holds 5"):
        house.renter.rentals.open(offer)
    assert house.renter.rentals.all() == []
    house.arbiter.rentals.clerk.account.transact(dollar.transfer(house.renter.address, 10 * 10**6))
    assert house.renter.rentals.open(offer).state is State.OPENED


def test_offer__when_asked_again__is_the_same_until_cancelled(house):
    ask = house.ask()
    first = house.owner.rentals.offer(ask)
    assert house.owner.rentals.offer(ask) == first
    other = house.owner.rentals.offer(ask, again=True)
    assert (other.terms.key_x == first.terms.key_x, other.terms.salt >> 8) == (False, first.terms.salt >> 8)
    house.owner.rentals.cancel(other.id)
    with pytest.raises(InputError, match="took it back"):
        house.renter.rentals.open(other)
    assert house.renter.balance() == 1000


def test_refund__when_the_owner_gives_it__returns_everything_and_is_final(house):
    opened = house.renter.rentals.open(house.offer())
    assert house.owner.rentals.refund(opened.id).state is State.CLOSED
    assert house.credits() == (0, house.PRICE)
    assert house.renter.rentals.ending(opened.id).how == "refunded"
    with pytest.raises(InputError, match="closed, not opened"):
        house.owner.rentals.hand_over(opened.id)


def test_refund__when_nobody_handed_over__is_the_renters_after_the_deadline(house):
    opened = house.renter.rentals.open(house.offer())
    with pytest.raises(WindowIsOpen):
        house.renter.rentals.refund(opened.id)
    house.pass_deadline(opened)
    assert house.step(house.owner) == []
    assert house.step(house.renter) == ["closed"]
    assert house.credits() == (0, house.PRICE)


def test_hand_over__when_the_deadline_is_near__is_refused(house):
    opened = house.renter.rentals.open(house.offer())
    house.pass_deadline(opened, but=60)
    with pytest.raises(InputError, match="too close to its deadline"):
        house.owner.rentals.hand_over(opened.id)
    house.owner.rentals.owning = OwnerPolicy()
    assert house.step(house.owner) == ["late"]


def test_loops__when_both_run__hand_over_check_in_check_out_and_give_the_deposit_back(house):
    house.owner.rentals.owning = OwnerPolicy(waive=True, withdraw=True)
    house.renter.rentals.renting = RenterPolicy(withdraw=True)
    opened = house.renter.rentals.open(house.offer())

    assert house.step(house.owner) == ["handed-over"]
    assert house.step(house.renter) == []
    assert house.renter.rentals.get(opened.id).has_access_key
    house.renter.rentals.hold(house.say(CheckIn(opened.terms_id, house.chain.now())))
    assert house.step(house.renter) == ["checked-in"]
    house.renter.rentals.hold(house.say(CheckOut(opened.terms_id, house.chain.now(), 3)))
    assert house.step(house.renter) == ["checked-out", "withdrawn"]
    assert house.step(house.owner) == ["waived", "withdrawn"]
    assert house.step(house.renter) == ["withdrawn"]
    assert house.step(house.owner) == house.step(house.renter) == []
    spent = house.chain.token_info().from_units(house.FEE + 3 * house.RATE)
    assert (house.owner.balance(), house.renter.balance()) == (1000 + spent, 1000 - spent)


def test_claim__when_rejected_and_ruled__is_split(house):
    rental = house.checked_out()
    house.arbiter.rentals.judge(rental.offer)
    asked = []
    house.owner.rentals.owning = OwnerPolicy(claim=lambda view: asked.append(view.state) or Claim(DAMAGE))
    house.renter.rentals.renting = RenterPolicy(accept_up_to=DAMAGE - 1)
    house.arbiter.rentals.arbitrating = ArbiterPolicy(ruling=lambda view: view.claimed // 3)
    owner, renter = house.credits()

    assert house.step(house.owner) == ["claimed"]
    assert asked == [State.CHECKED_OUT]
    assert house.credits() == (owner, renter + house.DEPOSIT - DAMAGE)
    assert house.step(house.renter) == ["rejected"]
    assert house.step(house.arbiter) == ["ruled"]
    assert house.credits() == (owner + DAMAGE // 3, renter + house.DEPOSIT - DAMAGE // 3)
    ending = house.arbiter.rentals.ending(rental.id)
    assert (ending.how, ending.to_owner, ending.to_renter) == ("ruled", *house.credits())
    assert [view.role for view in house.arbiter.rentals.all()] == [Role.ARBITER]


def test_claim__when_small_enough__is_accepted(house):
    rental = house.checked_out()
    house.owner.rentals.claim(rental.id, DAMAGE, evidence=b"\x01" * 32)
    house.renter.rentals.renting = RenterPolicy(accept_up_to=DAMAGE)
    assert house.step(house.renter) == ["accepted"]
    assert house.renter.rentals.ending(rental.id).how == "accepted"


def test_claim__when_nobody_answers__the_renters_loop_rejects_before_silence_grants_it(house):
    rental = house.checked_out(reply_window=3600)
    house.owner.rentals.claim(rental.id, DAMAGE)
    assert house.step(house.renter) == []
    house.pass_deadline(rental, but=1000)
    assert house.step(house.renter) == ["rejected"]
    house.pass_deadline(rental)
    assert house.step(house.renter) == ["closed"]
    assert house.renter.rentals.ending(rental.id).how == "unruled"
    assert house.credits() == (house.FEE + 7 * house.RATE, house.CAP - 7 * house.RATE + house.DEPOSIT)


def test_claim__when_the_renter_is_silent__is_the_owners(house):
    rental = house.checked_out()
    house.owner.rentals.claim(rental.id, DAMAGE)
    house.pass_deadline(rental)
    assert house.step(house.renter) == []
    assert house.step(house.owner) == ["closed"]
    assert house.owner.rentals.ending(rental.id).how == "granted"


def test_close__when_the_owner_claims_nothing__gives_the_deposit_back(house):
    rental = house.checked_out()
    with pytest.raises(WindowIsOpen):
        house.renter.rentals.close(rental.id)
    house.pass_deadline(rental)
    assert house.step(house.renter) == ["closed"]
    assert house.renter.rentals.ending(rental.id).how == "released"


def test_close__when_the_device_died_after_the_check_in__pays_the_fee_and_lets_the_owner_claim(house):
    rental = house.active()
    house.renter.rentals.show_statement(house.say(CheckIn(rental.terms_id, house.chain.now())))
    house.pass_deadline(rental)
    assert house.step(house.renter) == ["closed"]
    assert house.owner.rentals.get(rental.id).state is State.CHECKED_OUT
    assert house.credits() == (house.FEE, house.CAP)
    house.owner.rentals.claim(rental.id, DAMAGE)
    house.pass_deadline(rental)
    assert house.owner.rentals.close(rental.id).state is State.CLOSED
    assert house.credits() == (house.FEE + DAMAGE, house.CAP + house.DEPOSIT - DAMAGE)


def test_close__when_the_lock_was_unplugged_after_the_hand_over__gives_everything_back(house):
    rental = house.active()
    house.pass_deadline(rental)
    assert house.step(house.owner) == []
    assert house.step(house.renter) == ["closed"]
    assert house.credits() == (0, house.PRICE)


def test_check_out__when_nobody_is_left_to_claim_from__charges_at_most_the_cap(house):
    rental = house.checked_out(units=(1 << 64) - 1, arbiter=ZERO_ADDRESS, deposit=0)
    assert rental.held == 0
    assert house.credits() == (house.FEE + house.CAP, 0)


def test_journal__when_lost__is_read_back_from_the_chain_and_the_offer_files(house):
    rental = house.active()
    for machine in (house.owner, house.renter):
        machine.rentals.close_journal()
    (house.chain.path / "rentals.sqlite").unlink()

    assert house.owner.rentals.all() == house.renter.rentals.all() == []
    house.owner.rentals.restore(rental.offer)
    assert house.owner.rentals.get(rental.id).state is State.ACTIVE
    again = house.renter.rentals.open(rental.offer)
    assert (again.id, again.state, again.has_access_key) == (rental.id, State.ACTIVE, True)
    assert house.renter.rentals.access_key(rental.id).terms_id == rental.terms_id


def test_restore__when_the_journal_is_lost__gives_each_role_its_rental_and_pays_nothing(house):
    rental = house.active()
    unopened = house.offer()
    for machine in (house.owner, house.renter, house.arbiter):
        machine.rentals.close_journal()
    (house.chain.path / "rentals.sqlite").unlink()

    for machine, role in ((house.owner, Role.OWNER), (house.renter, Role.RENTER), (house.arbiter, Role.ARBITER)):
        found = machine.rentals.restore(rental.offer)
        assert (found.id, found.state, found.role) == (rental.id, State.ACTIVE, role)
    assert house.renter.rentals.access_key(rental.id).terms_id == rental.terms_id
    before = house.renter.balance()
    assert house.owner.rentals.restore(unopened) is None
    assert [record.terms_id for record in house.owner.rentals.offers()] == [rental.terms_id, unopened.id]
    with pytest.raises(InputError, match="not of"):
        house.renter.rentals.restore(unopened)
    assert (house.renter.balance(), len(house.renter.rentals.all())) == (before, 1)


def test_cancel__when_a_carried_call_took_the_offer_back__says_so(house):
    offer = house.offer()
    clerk = house.owner.rentals.clerk
    clerk.account.transact(clerk.contract.cancel_nonce(offer.terms.salt))
    assert house.owner.rentals.cancel(offer.id).state is OfferState.CANCELLED


def test_find__when_nobody_opened_the_offer__is_refused(house):
    offer = house.offer()
    with pytest.raises(InputError, match="nobody opened the offer"):
        house.arbiter.rentals.find(replace(offer, terms=replace(offer.terms, salt=offer.terms.salt + 1)))
    with pytest.raises(VerificationError, match="is not the one that its terms"):
        house.arbiter.rentals.find(replace(offer, document=replace(offer.document, title="Bay 8")))


def test_find__when_a_stranger_has_the_offer_file__it_shows_the_check_out_and_closes(house):
    stranger = Machine.create(house.chain, f"{house.owner.name}-stranger").rentals
    rental = house.active()
    said = house.say(CheckOut(rental.terms_id, house.chain.now(), 7))
    with pytest.raises(InputError, match="has no rental of the terms"):
        stranger.show_statement(said)
    with pytest.raises(InputError, match="has no rental"):
        stranger.close(rental.id)

    found = stranger.find(replace(rental.offer, block=house.chain.block_number()))
    assert (found.id, found.role, found.state) == (rental.id, Role.CARRIER, State.ACTIVE)
    assert stranger.show_statement(said).state is State.CHECKED_OUT
    with pytest.raises(WindowIsOpen):
        stranger.close(rental.id)
    with pytest.raises(InputError, match="is the carrier of rental"):
        stranger.waive(rental.id)
    house.pass_deadline(rental)
    assert stranger.close(rental.id).state is State.CLOSED
    assert stranger.ending(rental.id) == house.renter.rentals.ending(rental.id)
    assert stranger.ending(rental.id).how == "released"
    assert stranger.all() == []


def test_ending__when_the_offer_names_a_later_block__is_told_all_the_same(house):
    # The block is not signed. With a later one in the file, a restored rental was closed and nobody had got anything.
    rental = house.checked_out()
    house.owner.rentals.waive(rental.id)
    true = house.renter.rentals.ending(rental.id)
    house.renter.rentals.close_journal()
    house.owner.rentals.close_journal()
    (house.chain.path / "rentals.sqlite").unlink()
    house.chain.mine(3)
    moved = replace(rental.offer, block=house.chain.block_number())
    assert house.renter.rentals.open(moved).state is State.CLOSED
    assert house.renter.rentals.ending(rental.id) == true
    assert (true.how, true.to_owner + true.to_renter) == ("waived", house.PRICE)
    assert len(house.renter.rentals.history(rental.id)) == 4


def test_restore__when_the_offer_is_not_this_accounts__is_refused(house):
    offer = house.offer()
    with pytest.raises(InputError, match="not of"):
        house.renter.rentals.restore(offer)
    with pytest.raises(InputError, match="access key"):
        house.owner.rentals.restore(replace(offer, terms=replace(offer.terms, fee=1)))


def test_hand_over__when_the_opening_is_not_deep_enough__waits(house):
    house.owner.rentals.owning = OwnerPolicy(confirmations=2)
    opened = house.renter.rentals.open(house.offer())
    with pytest.raises(InputError, match="not confirmed yet"):
        house.owner.rentals.hand_over(opened.id)
    assert house.step(house.owner) == []
    house.chain.mine(2)
    assert house.step(house.owner) == ["handed-over"]


def test_open__when_a_reorganisation_takes_it_back__opens_the_same_rental_again(house):
    offer = house.offer()
    before = house.chain.snapshot()
    first = house.renter.rentals.open(offer)
    assert house.step(house.owner) == ["handed-over"]
    house.chain.revert(before)
    assert [view.state for view in house.owner.rentals.all()] == [State.NONE]
    assert house.step(house.owner) == house.step(house.renter) == []
    again = house.renter.rentals.open(offer)
    assert (again.id, again.state) == (first.id, State.OPENED)
    assert house.step(house.owner) == ["handed-over"]


def test_step__when_one_thing_fails_again_and_again__tells_of_it_once(house):
    rental = house.checked_out()
    house.owner.rentals.owning = OwnerPolicy(claim=lambda _: Claim(house.DEPOSIT + 1))
    loop = house.owner.rentals.loop()
    assert [(action.kind, action.rental_id) for action in loop.step()] == [("failed", rental.id)]
    assert loop.step() == []


def test_access_key__when_the_offer_names_a_later_block__is_found_all_the_same(house):
    rental = house.active()
    house.renter.rentals.close_journal()
    house.owner.rentals.close_journal()
    (house.chain.path / "rentals.sqlite").unlink()
    house.chain.mine(3)
    moved = replace(rental.offer, block=house.chain.block_number())
    assert house.renter.rentals.open(moved).has_access_key
    with pytest.raises(VerificationError, match="the chain has"):
        house.renter.rentals.open(replace(moved, block=moved.block + 1000))


def test_serve__when_two_loops_run_on_one_account__do_everything_once(house):
    house.renter.rentals.renting = RenterPolicy(accept_up_to=0)
    opened = [house.renter.rentals.open(house.offer()) for _ in range(3)]
    with connect(house.chain.url, home=house.chain.home) as chain, Machine.open(chain, house.owner.name) as second:
        policy = OwnerPolicy(claim=lambda _: Claim(DAMAGE))
        house.owner.rentals.owning = second.rentals.owning = policy
        for rental in opened:
            house.owner.rentals.get(rental.id)

        def both():
            with ThreadPoolExecutor(2) as pool:
                return list(pool.map(house.step, (house.owner, second)))

        both()
        for rental in opened:
            house.renter.rentals.hold(house.say(CheckOut(rental.terms_id, house.chain.now())))
        both()
        house.step(house.renter)
        both()
        for rental in opened:
            seen = house.owner.rentals.get(rental.id)
            assert seen.state in (State.CLAIMED, State.DISPUTED)  # rejected, where a loop was quick to claim
            assert [item.purpose for item in seen.transactions if item.purpose != "check-out"] == ["hand-over", "claim"]
    events = house.chain.logs(address=house.owner.rentals.clerk.contract.address, topics=[DepositClaimed.TOPIC])
    assert len({log.topics[1] for log in events} & {rental.id for rental in opened}) == len(opened)


def test_serve__when_stopped__ends(house):
    import threading

    stop, seen = threading.Event(), []
    opened = house.renter.rentals.open(house.offer())
    loop = threading.Thread(
        target=lambda: house.owner.rentals.serve(stop=stop, report=lambda action: (seen.append(action), stop.set()))
    )
    loop.start()
    loop.join(30)
    assert not loop.is_alive()
    assert [(action.kind, action.rental_id) for action in seen] == [("handed-over", opened.id)]
    assert isinstance(house.owner.rentals, Rentals)
