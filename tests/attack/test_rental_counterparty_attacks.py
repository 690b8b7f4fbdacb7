"""Arbiters, tokens, courts and nodes that were chosen to harm: a loop serves everybody else, and pays nothing."""

import os
from contextlib import closing
from dataclasses import replace

import pytest

from pyiot_evm.chain.abi import encode, selector
from pyiot_evm.chain.calls import Call
from pyiot_evm.chain.deployment import deploy_once
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.device.rental_messages import CheckOut
from pyiot_evm.escrow.agreements import check_agreement, limits_of
from pyiot_evm.escrow.journal import RentalJournal
from pyiot_evm.escrow.policies import OwnerPolicy, RenterPolicy
from pyiot_evm.escrow.records import State
from pyiot_evm.escrow.rulings import deploy_court_arbiter
from pyiot_evm.escrow.signed import SignedAct
from pyiot_evm.exceptions import BudgetError, ContractError, InputError, TransportError, VerificationError
from pyiot_evm.market.rules import RuleParams
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.types import Address

DAY = 24 * 3600


class Coin:
    """A token of its own, with 18 decimals, whose issuer can block accounts."""

    def __init__(self, house, code):
        self.issuer = house.arbiter.rentals.clerk.account
        self.address = deploy_once(self.issuer, "BlockingToken", code)

    def mint(self, to, amount):
        self._call("mint(address,uint256)", to, amount)

    def block(self, account, *, is_blocked=True):
        self._call("setBlocked(address,bool)", account, is_blocked)

    def _call(self, signature, *arguments):
        types = signature[signature.index("(") + 1 : -1].split(",")
        data = selector(signature) + encode(types, list(arguments))
        self.issuer.transact(Call(self.address, data, signature, bytes))


@pytest.fixture
def coin(house, mock_code):
    return Coin(house, mock_code("BlockingToken"))


def claimed(house, amount=1_000_000, **changes):
    rental = house.checked_out(**changes)
    house.owner.rentals.claim(rental.id, amount)
    return rental


def paid_in(house, coin):
    """A checked out rental in a coin of which the deposit is worth more than its digits say."""
    coin.mint(house.renter.address, house.PRICE)
    offer = house.owner.rentals.offer(house.ask(), token=coin.address, again=True)
    opened = house.renter.rentals.open(offer)
    house.owner.rentals.hand_over(opened.id)
    return house.renter.rentals.show_statement(house.say(CheckOut(opened.terms_id, house.chain.now(), 0)))


# Arbiters


def false_court(escrow):
    """Code that names the escrow, says of every rental that it was brought and ruled, and does nothing when called."""
    answer = bytes.fromhex("73") + bytes(escrow) + bytes.fromhex("60005260206000f3")
    return bytes.fromhex("36600414601657600160005260016020526040 6000f35b".replace(" ", "")) + answer


def test_loop__when_the_arbiter_only_looks_like_a_court_s_adapter__pays_no_gas_for_it(house):
    # Whoever offered named a contract that said of itself what a court's adapter says. The renter's loop then sent it a
    # transaction at every step, for ever: it went through and changed nothing.
    arbiter = Address(b"\x0c" * 20)
    house.chain.set_code(arbiter, false_court(house.owner.rentals.clerk.contract.address))
    rental = claimed(house, arbiter=arbiter)
    house.renter.rentals.reject(rental.id)
    before = house.chain.balance(house.renter.address)
    loop = house.renter.rentals.loop()
    assert [action for _ in range(3) for action in loop.step()] == []
    assert house.chain.balance(house.renter.address) == before
    with pytest.raises(InputError, match="no court's adapter"):
        house.renter.rentals.bring(rental.id)


def test_bring__when_the_court_asks_more_than_the_limit__pays_nothing(house, mock_code):
    juror = house.arbiter.rentals.clerk.account
    code = mock_code("SmallCourt") + encode(["address", "uint256"], [juror.address, 10**18])
    adapter = deploy_court_arbiter(house.owner.rentals.clerk, deploy_once(juror, "SmallCourt", code))
    rental = claimed(house, arbiter=adapter)
    house.renter.rentals.reject(rental.id)
    with pytest.raises(BudgetError, match=f"asks {10**18} wei, the limit is {10**18 - 1}"):
        house.renter.rentals.bring(rental.id, max_cost=10**18 - 1)
    assert house.chain.balance(juror.address) < house.chain.balance(house.renter.address)


# Tokens


def test_loop__when_a_token_does_not_pay_the_owner__the_same_account_s_claims_are_answered(house, coin):
    # The first role's withdrawal raised out of the whole step. An account that was blocked by one token's issuer lost
    # every claim on its own deposits by silence.
    both = house.renter
    coin.mint(house.owner.address, house.PRICE)
    device, signer = house.owner.own_device()
    offer = both.rentals.offer(house.ask(), token=coin.address, device=device, signer=signer)
    guest = house.owner.rentals.open(offer)
    both.rentals.hand_over(guest.id)
    both.rentals.show_statement(house.say(CheckOut(offer.id, house.chain.now(), 0)))
    coin.block(both.address)
    rental = claimed(house)
    both.rentals.owning = OwnerPolicy(withdraw=True)
    both.rentals.renting = RenterPolicy(accept_up_to=0)

    loop = both.rentals.loop()
    assert [(action.kind, action.rental_id) for action in loop.step()] == [
        ("awaits-claim", guest.id), ("rejected", rental.id), ("failed", None),
    ]  # fmt: skip
    assert loop.step() == []


def test_loop__when_a_claim_is_in_another_token_than_the_limit__does_not_accept_it(house, coin):
    # "Up to 5" was meant in dollars of six decimals and taken for base units of whatever token the rental was in.
    rental = paid_in(house, coin)
    house.owner.rentals.claim(rental.id, 5_000_000)
    house.renter.rentals.renting = RenterPolicy(accept_up_to=5_000_000, token=house.chain.token)
    assert house.step(house.renter) == []
    house.renter.rentals.renting = RenterPolicy(accept_up_to=5_000_000, token=coin.address)
    assert house.step(house.renter) == ["accepted"]


# One that fails beside others


def test_loop__when_what_is_asked_about_one_rental_does_not_answer__serves_the_others(house):
    broken, other = claimed(house), claimed(house)

    def reply(view):
        if view.id == broken.id:
            raise TransportError("the insurer does not answer")
        return True

    house.renter.rentals.renting = RenterPolicy(reply=reply)
    actions = house.renter.rentals.serve(once=True)
    assert [(action.kind, action.rental_id) for action in actions] == [("failed", broken.id), ("accepted", other.id)]


def test_loop__when_one_role_cannot_look__the_others_are_served_first(house, monkeypatch):
    rental = claimed(house)
    house.renter.rentals.renting = RenterPolicy(accept_up_to=1_000_000)

    def blind(_owner):
        raise TransportError("the node has no logs")

    monkeypatch.setattr("pyiot_evm.escrow.owner.Owner.look", blind)
    with pytest.raises(TransportError, match="no logs"):
        house.renter.rentals.loop().step()
    assert house.renter.rentals.get(rental.id).state is State.CLOSED


# Agreements


def test_agreement__when_every_reading_would_break_it_or_it_never_ends__is_refused(house):
    from pyiot_evm.device import Field, Schema
    from pyiot_evm.escrow.agreements import ReadingAgreement

    schema = Schema((Field("temperature", unit="Cel", scale=2), Field("humidity", unit="%RH", scale=1)))
    device, signer = house.owner.own_device()
    start, end = 1_800_000_000, 1_800_003_600
    rule = house.chain.addresses.signed_reading_rule
    asked = ReadingAgreement(schema, {"temperature": (2, 8)}, device, signer, count=1, span=0, award=1)
    fair = asked.bind(rule=rule, start=start, end=end)
    check_agreement(fair, rule=rule, start=start, last=end + DAY)
    check_agreement(replace(fair, until=(end + DAY) * 1000), rule=rule, start=start, last=end + DAY)
    assert limits_of(fair) == ((200, 800), (None, None))

    params = RuleParams.decode(fair.params)
    upside_down = replace(params, minimum=(200, 7), maximum=(800, 6))
    traps = {
        "by every reading": replace(fair, params=upside_down.encode()),
        "long after it": replace(fair, until=(end + DAY) * 1000 + 1),
    }
    for says, trap in traps.items():
        with pytest.raises(VerificationError, match=says):
            check_agreement(trap, rule=rule, start=start, last=end + DAY)


# Nodes


def test_hand_over__when_the_node_lags_behind__goes_by_this_machine_s_clock(house, monkeypatch):
    # A node that stopped following the chain shows an old time. The key went out after a deadline that had passed for
    # everybody else: the renter had it, and the money back.
    opened = house.renter.rentals.open(house.offer())
    deadline = house.owner.rentals.get(opened.id).deadline
    monkeypatch.setattr(house.chain, "is_devnet", False)
    monkeypatch.setattr("pyiot_evm.sending.time.time", lambda: deadline - 120)
    assert house.chain.now() < deadline - 800
    with pytest.raises(InputError, match="too close to its deadline"):
        house.owner.rentals.hand_over(opened.id)
    assert house.step(house.owner) == ["late"]
    assert house.owner.rentals.get(opened.id).state is State.OPENED


def test_pay__when_the_token_is_the_renter_s_own_choice__approves_no_more_than_the_price(house, coin):
    rental = paid_in(house, coin)
    contract = house.renter.rentals.clerk.contract.address
    assert rental.state is State.CHECKED_OUT
    assert house.chain.call(Erc20(coin.address).allowance(house.renter.address, contract)) == 0


# What was signed and given up


def test_loop__when_a_payment_that_was_given_up_is_carried_after_all__knows_the_rental_again(house):
    # A signed payment is good for an hour, whatever its renter tried meanwhile. Rentals that were given up were never
    # looked for again: nobody took the key, and nobody answered a claim.
    offer = house.offer()
    signed = house.renter.rentals.signing().open(offer)
    clerk = house.renter.rentals.clerk
    clerk.account.transact(Erc20(offer.terms.token).transfer(house.arbiter.address, 1000_000_000))
    with pytest.raises(ContractError):
        house.renter.rentals.open(offer)
    house.arbiter.rentals.clerk.account.transact(Erc20(offer.terms.token).transfer(house.renter.address, house.PRICE))
    house.owner.rentals.carry(signed)
    assert house.step(house.owner) == ["handed-over"]
    assert house.step(house.renter) == []
    (rental,) = house.renter.rentals.journal.rentals(house.renter.address)
    assert (rental.state, rental.access_key is not None) == (State.ACTIVE, True)


# Signed acts that come late


def test_carry__when_a_signed_hand_over_comes_late__the_node_never_sees_the_key(house, monkeypatch):
    # The file of a hand-over was good for a day. Who carried it in the last seconds, or after them, gave the renter the
    # key in calldata that reverted, and the renter took everything back.
    opened = house.renter.rentals.open(house.offer())
    signed = house.owner.rentals.signing().hand_over(opened.id)
    assert signed.call.deadline == opened.deadline - OwnerPolicy().hand_over_margin
    key, clerk = signed.act.values["released_key"], house.owner.rentals.clerk
    call = clerk.contract.hand_over(signed.act.rental, key)
    given = {"chain_id": signed.chain_id, "signer": clerk.signer}
    too_long = SignedAct.sign(call, deadline=opened.deadline + DAY, **given)  # as another program signs it
    seen = []
    for name in ("rpc", "rpc_batch", "try_batch"):
        real = getattr(house.chain, name)
        monkeypatch.setattr(house.chain, name, lambda *sent, real=real: (seen.append(str(sent)), real(*sent))[1])
    for but in (110, -10):
        house.pass_deadline(opened, but=but)
        for late, says in ((signed, "was good until"), (too_long, "too close to its deadline")):
            with pytest.raises(InputError, match=says):
                house.arbiter.rentals.carry(late)
    assert seen
    assert f"{key:064x}" not in "".join(seen)
    assert house.renter.rentals.refund(opened.id).state is State.CLOSED


def test_signing__when_a_window_ends_before_a_day__signs_for_no_longer_and_nothing_after_it(house):
    # A file said that it was good for a day where the window was an hour. Whoever carried it within the day came too
    # late, and the default had granted the claim.
    def check(rental, sign):
        signed = sign()
        assert signed.call.deadline == house.renter.rentals.get(rental.id).deadline
        return signed

    windows = {"claim_window": 3600, "reply_window": 3600, "ruling_window": DAY}
    rental = house.checked_out(**windows)
    owner, renter, arbiter = (
        who.rentals.signing(lifetime=2 * DAY) for who in (house.owner, house.renter, house.arbiter)
    )
    house.arbiter.rentals.judge(rental.offer)
    for sign in (
        lambda: owner.claim(rental.id, 1_000_000),
        lambda: renter.accept(rental.id) and renter.reject(rental.id),
        lambda: arbiter.rule(rental.id, 7),
    ):
        signed = check(rental, sign)
        before = house.chain.snapshot()
        house.pass_deadline(rental)
        with pytest.raises(InputError, match="its window is over"):
            sign()
        with pytest.raises(InputError, match="was good until"):
            house.renter.rentals.carry(signed)
        house.chain.revert(before)
        house.owner.rentals.carry(signed)
    assert house.renter.rentals.ending(rental.id).how == "ruled"


def burner(loops):
    """Code that counts down, and then answers every signature check with the magic value of ERC-1271."""
    count = bytes.fromhex("62") + loops.to_bytes(3, "big")  # PUSH3
    down = bytes.fromhex("5b6001900380600457")  # JUMPDEST, take one off, JUMPI back to it
    return count + down + bytes.fromhex("631626ba7e60e01b60005260206000f3")


def test_carry__when_the_account_that_signed_burns_gas__pays_no_more_than_the_limit(house):
    # The account of an act answers for its signatures itself, in code of its own. One that burned millions of gas
    # before it answered was carried without a question.
    spender = Address(b"\x0d" * 20)
    house.chain.set_code(spender, burner(loops=60_000))
    clerk = house.renter.rentals.clerk
    signed = SignedAct.sign(
        clerk.contract.cancel_nonce(7),
        chain_id=house.chain.chain_id,
        signer=clerk.signer,
        deadline=clerk.now() + DAY,
        sender=spender,
    )
    carrier, before = house.arbiter, house.chain.balance(house.arbiter.address)
    with pytest.raises(BudgetError, match="the limit is 1000000"):
        carrier.rentals.carry(signed)
    assert house.chain.balance(carrier.address) == before
    assert carrier.rentals.carry(signed, max_gas=8_000_000).gas > 1_000_000


# Files that a party hands on


def test_judge__when_a_party_doctored_the_document__does_not_believe_it(house):
    # The terms name the document by its hash, and nobody but the renter looked. An arbiter was shown house rules that
    # nobody had agreed on, and the first file that it got was the one that it kept.
    offer = claimed(house).offer
    doctored = replace(offer, document=replace(offer.document, arbitration="the renter is always right"))
    for bad in (doctored, replace(offer, signer=bytes(20))):
        with pytest.raises(VerificationError, match="is not the one that its terms"):
            house.arbiter.rentals.judge(bad)
        with pytest.raises(VerificationError, match="is not the one that its terms"):
            house.owner.rentals.restore(bad)


def test_judge__when_the_offer_names_a_later_block__finds_the_dispute_all_the_same(house):
    # The block is not signed. With a later one in the file that it was given, an arbiter never saw the rental, and its
    # silence gives the claim to the renter.
    rental = claimed(house)
    house.renter.rentals.reject(rental.id)
    house.chain.mine(3)
    house.arbiter.rentals.judge(replace(rental.offer, block=house.chain.block_number()))
    assert [found.id for found in house.arbiter.rentals.all()] == [rental.id]
    assert house.arbiter.rentals.rule(rental.id, 7).state is State.CLOSED


# Files


@pytest.mark.parametrize("kind", [RentalJournal, PaymentStore], ids=lambda kind: kind.__name__)
def test_journal__when_its_folder_is_open_to_all__is_private_with_all_that_lies_beside_it(tmp_path, kind):
    # SQLite gives the files beside a journal its mode. It was made private only after they were made, and they hold
    # what was written last.
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    try:
        with closing(kind(tmp_path / "journal.sqlite")):
            found = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert found == {f"journal.sqlite{end}": 0 for end in ("", "-wal", "-shm")}
