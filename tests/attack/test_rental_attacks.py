"""Strangers who write offers, forge statements, open with masks that fit nothing, and replay what others revealed."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyiot_evm.chain.contract_errors import AccessKeyInvalid, CallerNotOwner, RenterIsOwner
from pyiot_evm.chain.deployment import deploy_once
from pyiot_evm.contracts import deposit_escrow as structs
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.device import LocalSigner
from pyiot_evm.device.rental_messages import CheckIn, CheckOut
from pyiot_evm.escrow.offers import RentalDocument, RentalOffer
from pyiot_evm.escrow.policies import RenterPolicy
from pyiot_evm.escrow.records import Role, State
from pyiot_evm.exceptions import BudgetError, InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address, Bytes32, DeviceId

DAY = 24 * 3600


def signed(house, offer, **changes):
    """The owner's offer with other terms, signed by the owner."""
    terms = replace(offer.terms, **changes)
    changed = replace(offer, terms=terms)
    return replace(changed, signature=house.owner.rentals.clerk.signer.sign_digest(changed.id))


def opened_by_hand(house, offer, *, mask, point):
    """A rental opened below the SDK, with a mask and a point of one's own."""
    renter = house.renter.rentals.clerk
    renter.account.transact(Erc20(offer.terms.token).approve(renter.contract.address, offer.price))
    renter.account.transact(renter.contract.open(offer.terms, offer.signature, mask, *point))
    return structs.Rental(offer.terms, renter.address, mask, *point)


# --- offers ---


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"key_x": 5, "key_y": 1}, VerificationError, "not on the curve"),
        ({"grace": DAY + 1}, VerificationError, "slot or grace"),
        ({"end": 1}, VerificationError, "slot or grace"),
        ({"reply_window": 599}, VerificationError, "reply window is out"),
        ({"claim_window": 31 * DAY}, VerificationError, "claim window is out"),
        ({"terms": Bytes32(b"\x01" * 32)}, VerificationError, "document"),
        ({"signer_hash": Bytes32(b"\x01" * 32)}, VerificationError, "signer"),
        ({"device": DeviceId(b"\x01" * 32)}, VerificationError, "present signer"),
        ({"token": Address(b"\x01" * 20)}, VerificationError, "no ERC-20"),
        ({"grace": 3601}, InputError, "grace is 3601s, and this renter takes at most 1h"),
        ({"reply_window": 600}, InputError, "reply window is 10m, and this renter takes at least 1h"),
        ({"claim_window": 8 * DAY}, InputError, "claim window is 8d, and this renter takes at most 7d"),
    ],
    ids=str,
)
def test_open__when_the_terms_are_no_good__pays_nothing(house, change, error, says):
    offer = signed(house, house.offer(), **change)
    with pytest.raises(error, match=says):
        house.renter.rentals.open(offer)
    assert house.renter.balance() == 1000
    assert house.renter.rentals.all() == []


def test_open__when_the_owner_is_the_arbiter__is_refused_unless_allowed(house):
    offer = house.offer(arbiter=house.owner.address)
    with pytest.raises(InputError, match="arbiter is the owner itself"):
        house.renter.rentals.open(offer)
    house.renter.rentals.renting = RenterPolicy(allow_own_arbiter=True)
    assert house.renter.rentals.open(offer).state is State.OPENED


def test_open__when_it_costs_more_than_the_limit__pays_nothing(house):
    house.renter.rentals.renting = RenterPolicy(max_price=house.PRICE - 1)
    with pytest.raises(BudgetError, match="the limit"):
        house.renter.rentals.open(house.offer())


def test_open__when_the_owner_rents_from_itself__is_refused_here_and_there(house):
    offer = house.offer()
    with pytest.raises(InputError, match="cannot rent its own"):
        house.owner.rentals.open(offer)
    owner = house.owner.rentals.clerk
    with pytest.raises(RenterIsOwner):
        house.chain.call(
            owner.contract.open(offer.terms, offer.signature, Address(b"\x01" * 20), 1, 1), sender=owner.address
        )


def test_open__when_nobody_signed_it__pays_nothing(house):
    offer = house.offer()
    forged = replace(offer, signature=LocalSigner.create().sign_digest(offer.id))
    for bad in (forged, replace(offer, signature=b""), replace(offer, terms=replace(offer.terms, fee=1))):
        with pytest.raises(VerificationError, match="did not sign"):
            house.renter.rentals.open(bad)


def test_open__when_it_is_for_another_chain_or_escrow__is_refused(house):
    offer = house.offer()
    for bad in (replace(offer, chain_id=1), replace(offer, escrow=Address(b"\x01" * 20))):
        with pytest.raises(InputError, match="the offer is for"):
            house.renter.rentals.open(bad)


def test_open__when_the_device_was_rotated_since__is_refused(house):
    offer = house.offer()
    from pyiot_evm.identity import Devices

    keyring, name = house.chain.home.keyring, house.owner.name
    with keyring.device(name) as old, keyring.stage_device(name, curve="p256") as new:
        Devices(house.chain, account=house.owner.rentals.clerk.account).rotate(offer.terms.device, new_signer=new)
        assert old.signer_bytes == offer.signer
    with pytest.raises(VerificationError, match="present signer"):
        house.renter.rentals.open(offer)


def test_open__when_somebody_else_was_faster__pays_nothing(house):
    offer = house.offer()
    house.renter.rentals.open(offer)
    with pytest.raises(InputError, match="somebody opened this offer"):
        house.arbiter.rentals.open(signed_for(house, offer))
    assert house.arbiter.balance() == 1000


def signed_for(house, offer):
    """The same offer, for a renter who is its arbiter: allow that."""
    house.arbiter.rentals.renting = RenterPolicy(allow_own_arbiter=True)
    return offer


# --- masks and keys ---


@pytest.mark.parametrize("point", [(5, 1), None], ids=["off the curve", "another point"])
def test_owner__when_the_mask_fits_nothing__refunds_and_never_hands_over(house, point):
    offer = house.offer()
    mask = Address(b"\x07" * 20)
    rental = opened_by_hand(house, offer, mask=mask, point=point or LocalSigner.create().public_point)
    clerk = house.owner.rentals.clerk
    found = house.chain.call(clerk.contract.rental_id(rental))
    with pytest.raises(VerificationError):
        house.owner.rentals.hand_over(found)
    assert house.step(house.owner) == ["refunded"]
    assert house.credits() == (0, house.PRICE)


def test_released_key__when_replayed_for_another_rental__fits_nothing(house):
    active = house.active()
    released = next(e.released_key for e in house.renter.rentals.history(active.id) if hasattr(e, "released_key"))
    other = house.renter.rentals.open(house.offer())
    record = house.owner.rentals.clerk.journal.rental(other.id, house.owner.address, Role.OWNER)
    assert record is None  # the owner has not looked yet
    record = house.renter.rentals.clerk.journal.rental(other.id, house.renter.address, Role.RENTER)
    clerk = house.owner.rentals.clerk
    call = clerk.contract.hand_over(clerk.struct(record), released)
    with pytest.raises(AccessKeyInvalid):
        house.chain.call(call, sender=house.owner.address)
    with pytest.raises(CallerNotOwner):
        house.chain.call(call, sender=house.renter.address)


# --- statements ---


def test_statement__when_forged_replayed_or_foreign__is_refused_before_anything_is_sent(house):
    rental, other = house.active(), house.active()
    now = house.chain.now()
    good = house.say(CheckOut(rental.terms_id, now, 3))
    thief = house.renter.rentals.clerk.messages.sign(good.statement, LocalSigner.create("p256"))
    forgeries = [
        thief,
        replace(good, statement=replace(good.statement, units=0)),
        replace(good, signature=good.signature[:-1] + bytes([good.signature[-1] ^ 1])),
        replace(good, chain_id=good.chain_id + 1),
        replace(good, contract=Address(b"\x01" * 20)),
        replace(good, statement=replace(good.statement, terms_id=other.terms_id)),
        replace(good, statement=CheckIn(rental.terms_id, now)),
        replace(thief, signer=good.signer),
    ]
    sent = len(house.renter.rentals.get(rental.id).transactions)
    for forged in forgeries:
        for act in (house.renter.rentals.hold, house.renter.rentals.show_statement):
            with pytest.raises(VerificationError):
                act(forged)
    assert len(house.renter.rentals.get(rental.id).transactions) == sent
    assert house.step(house.renter) == []


def test_check_out__when_shown_before_the_hand_over__is_refused(house):
    opened = house.renter.rentals.open(house.offer())
    said = house.say(CheckOut(opened.terms_id, house.chain.now()))
    with pytest.raises(InputError, match="opened, not active"):
        house.renter.rentals.show_statement(said)


def test_claim__when_over_the_deposit_or_from_a_stranger__is_refused(house):
    rental = house.checked_out()
    for amount in (0, house.DEPOSIT + 1):
        with pytest.raises(InputError, match="at most the deposit"):
            house.owner.rentals.claim(rental.id, amount)
    with pytest.raises(InputError, match="no rental"):
        house.arbiter.rentals.claim(rental.id, 1)
    with pytest.raises(InputError, match="not its owner"):
        house.renter.rentals.claim(rental.id, 1)


def test_rule__when_the_award_is_over_the_claim__is_refused(house):
    rental = house.checked_out()
    house.arbiter.rentals.judge(rental.offer)
    house.owner.rentals.claim(rental.id, 10)
    house.renter.rentals.reject(rental.id)
    with pytest.raises(InputError, match="at most what is claimed"):
        house.arbiter.rentals.rule(rental.id, 11)
    with pytest.raises(InputError, match="arbiter is"):
        house.renter.rentals.judge(rental.offer)


# --- offer files ---


@pytest.mark.parametrize(
    "change",
    [
        {"format": "pyiot offer"},
        {"more": 1},
        {"chainId": "x"},
        {"chainId": -1},
        {"escrow": "0x12"},
        {"terms": []},
        {"terms": {}},
        {"signature": "zz"},
        {"signature": "0x" + "00" * 5000},
        {"signer": 7},
        {"block": 1 << 41},
        {"document": {}},
        {"document": []},
        {"document": {"title": 1, "place": "", "rules": "", "unit": "", "arbitration": ""}},
        {"document": {"title": "x" * 201, "place": "", "rules": "", "unit": "", "arbitration": ""}},
        {"document": {"title": "\ud800", "place": "", "rules": "", "unit": "", "arbitration": ""}},
    ],
    ids=lambda change: str(change)[:60],
)
def test_offer__when_a_field_is_wrong__is_refused(change):
    file = json.loads(EXAMPLE.encode())
    with pytest.raises(VerificationError):
        RentalOffer.decode(json.dumps(file | change))


def test_offer__when_it_is_huge_or_missing__is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        RentalOffer.read(tmp_path / "missing.json")
    (tmp_path / "huge.json").write_bytes(b" " * 70_000)
    with pytest.raises(VerificationError, match="at most"):
        RentalOffer.read(tmp_path / "huge.json")


@given(data=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
@settings(max_examples=50)
def test_offer__when_it_is_anything__gives_a_typed_error(data):
    with pytest.raises(VerificationError):
        RentalOffer.decode(data)


@given(
    texts=st.lists(st.text(max_size=40), min_size=5, max_size=5),
    key=st.sampled_from(["fee", "rate", "deposit", "salt", "keyX", "start", "grace"]),
    number=st.integers(0, (1 << 32) - 1),
)
@settings(max_examples=30)
def test_offer__when_written_and_read__is_the_same(texts, key, number):
    offer = EXAMPLE
    try:
        document = RentalDocument(*texts)
    except InputError:
        return
    changed = replace(offer, document=document)
    fields = json.loads(changed.encode())
    fields["terms"][key] = number
    read = RentalOffer.decode(json.dumps(fields))
    assert RentalOffer.decode(read.encode()) == read
    assert read.document.hash == keccak256(
        json.dumps(document.fields(), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )


EXAMPLE = RentalOffer(
    chain_id=1,
    escrow=Address(b"\x11" * 20),
    block=0,
    terms=structs.Terms(
        owner=Address(b"\x01" * 20),
        token=Address(b"\x02" * 20),
        fee=(1 << 96) - 1,
        rate=0,
        meter_cap=0,
        deposit=1,
        device=DeviceId(b"\x03" * 32),
        signer_hash=Bytes32(b"\x04" * 32),
        arbiter=Address(b"\x05" * 20),
        key_x=1,
        key_y=2,
        start=1,
        end=(1 << 40) - 1,
        grace=1,
        claim_window=600,
        reply_window=600,
        ruling_window=600,
        terms=Bytes32(bytes(32)),
        salt=(1 << 256) - 1,
    ),
    signer=b"\x06" * 20,
    document=RentalDocument("Flat"),
    signature=b"\x07" * 65,
)


# --- an owner that is a contract ---


def test_open__when_the_owner_is_a_contract__asks_it(house, mock_code):
    key = LocalSigner.create()
    code = mock_code("ContractWallet") + bytes(12) + key.address
    wallet = deploy_once(house.owner.rentals.clerk.account, "ContractWallet", code)
    offer = house.offer()
    offer = replace(offer, terms=replace(offer.terms, owner=wallet))
    with pytest.raises(VerificationError, match="did not sign"):
        house.renter.rentals.open(replace(offer, signature=LocalSigner.create().sign_digest(offer.id)))
    opened = house.renter.rentals.open(replace(offer, signature=key.sign_digest(offer.id)))
    assert (opened.state, opened.owner) == (State.OPENED, wallet)


# --- at the same moment ---


def test_decision__when_hand_over_and_refund_race__exactly_one_of_them_stands(house):
    for _ in range(4):
        opened = house.renter.rentals.open(house.offer())
        house.owner.rentals.get(opened.id)
        acts = [house.owner.rentals.hand_over, house.owner.rentals.refund] * 2
        start = threading.Barrier(len(acts))

        def act(one, opened=opened, start=start):
            start.wait()
            try:
                return one(opened.id).state
            except InputError:
                return None

        with ThreadPoolExecutor(len(acts)) as pool:
            states = [state for state in pool.map(act, acts) if state is not None]
        record = house.owner.rentals.clerk.journal.rental(opened.id, house.owner.address, Role.OWNER)
        assert set(states) == {State.ACTIVE if record.decision == "hand-over" else State.CLOSED}
        assert [item.purpose for item in house.owner.rentals.get(opened.id).transactions] == [record.decision]
