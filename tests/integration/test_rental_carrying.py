"""Rentals whose parties have no ether, or several keys: what one signs into a file, another one carries."""

import json
from dataclasses import replace

import pytest

from pyiot_evm.chain.abi import encode
from pyiot_evm.chain.contract_errors import CreditTooLow, NonceAlreadyUsed
from pyiot_evm.chain.deployment import deploy_once
from pyiot_evm.contracts.deposit_escrow import DepositEscrow
from pyiot_evm.contracts.shared import SignedCall
from pyiot_evm.device import LocalSigner
from pyiot_evm.device.rental_messages import CheckOut
from pyiot_evm.escrow.panel import cosign_ruling
from pyiot_evm.escrow.policies import ArbiterPolicy, RenterPolicy
from pyiot_evm.escrow.records import OfferState, Role, State
from pyiot_evm.escrow.signed import SignedAct, SignedOpening, read_signed
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.machine import Machine
from pyiot_evm.types import Address

CLAIM, AWARD = 3_000_000, 1_200_000


@pytest.fixture
def post(house, tmp_path):
    """Send what was signed through a file, as it goes from one machine to another one, and let the arbiter carry it."""

    def carry(signed, *, change=None):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        signed.write(path)
        if change is not None:
            path.write_text(json.dumps(change(json.loads(path.read_text()))))
        return house.arbiter.rentals.carry(read_signed(path))

    return carry


@pytest.fixture
def poor(house):
    """A renter with dollars and no ether, now and ever."""
    house.renter = Machine.create(house.chain, f"{house.renter.name}-poor", ether=0)
    yield house.renter
    assert house.chain.balance(house.renter.address) == 0
    assert house.chain.rpc("eth_getTransactionCount", str(house.renter.address), "latest") == "0x0"


def claimed(house):
    rental = house.checked_out()
    return house.owner.rentals.claim(rental.id, CLAIM)


# A renter without ether


def test_carry__when_the_renter_never_has_ether__it_rents_disputes_and_gets_its_deposit_out(house, poor, post):
    offer = house.offer()
    opening = poor.rentals.signing().open(offer)
    post(opening)
    assert poor.rentals.get(opening.rental_id).state is State.OPENED
    house.owner.rentals.hand_over(opening.rental_id)
    assert poor.rentals.access_key(opening.rental_id).terms_id == offer.id
    house.owner.rentals.show_statement(house.say(CheckOut(offer.id, house.chain.now(), 7)))
    house.owner.rentals.claim(opening.rental_id, CLAIM)

    poor.rentals.renting = RenterPolicy(accept_up_to=0)
    assert house.step(poor) == ["failed"]  # its loop would reject, and has no ether
    post(poor.rentals.signing().reject(opening.rental_id))
    house.arbiter.rentals.judge(offer)
    house.arbiter.rentals.rule(opening.rental_id, AWARD)
    due = house.CAP - 7 * house.RATE + house.DEPOSIT - AWARD
    assert poor.rentals.credit() == due
    post(poor.rentals.signing().withdraw())

    back = house.chain.token_info().from_units(due)
    assert (poor.rentals.credit(), poor.balance()) == (
        0,
        1000 - house.chain.token_info().from_units(house.PRICE) + back,
    )
    assert poor.rentals.ending(opening.rental_id).how == "ruled"


def test_carry__when_a_renter_without_ether_is_kept_waiting__it_takes_everything_back(house, poor, post):
    opening = poor.rentals.signing().open(house.offer())
    post(opening)
    house.pass_deadline(poor.rentals.get(opening.rental_id))
    post(poor.rentals.signing().refund(opening.rental_id))
    post(poor.rentals.signing().withdraw(1_000_000))
    post(poor.rentals.signing().withdraw(to=house.owner.address))
    assert (poor.balance(), poor.rentals.credit()) == (1000 - house.chain.token_info().from_units(house.PRICE) + 1, 0)
    assert house.owner.balance() == 1000 + house.chain.token_info().from_units(house.PRICE) - 1


def test_carry__when_it_is_carried_twice__is_done_once(house, poor, post):
    opening = poor.rentals.signing().open(house.offer())
    assert post(opening) == post(opening)
    house.owner.rentals.refund(opening.rental_id)
    signed = poor.rentals.signing().withdraw()
    assert post(signed) == post(signed)
    with pytest.raises(NonceAlreadyUsed):
        house.owner.rentals.carry(signed)
    with pytest.raises(NonceAlreadyUsed):
        house.owner.rentals.carry(opening)
    assert poor.balance() == 1000


# Every act


def test_signing__when_an_owner_signs__each_act_is_carried(house, post):
    taken_back = house.offer()
    post(house.owner.rentals.signing().cancel(taken_back.id))
    assert house.owner.rentals.cancel(taken_back.id).state is OfferState.CANCELLED
    with pytest.raises(InputError, match="has no offer"):
        house.owner.rentals.signing().cancel(taken_back.id)

    opened = house.renter.rentals.open(house.offer())
    post(house.owner.rentals.signing().hand_over(opened.id))
    assert house.renter.rentals.get(opened.id).has_access_key
    house.owner.rentals.show_statement(house.say(CheckOut(opened.terms_id, house.chain.now())))
    post(house.owner.rentals.signing().claim(opened.id, CLAIM, evidence=b"\x01" * 32))
    assert house.owner.rentals.get(opened.id).claimed == CLAIM
    post(house.owner.rentals.signing().waive(opened.id))
    assert house.owner.rentals.ending(opened.id).how == "waived"
    post(house.owner.rentals.signing().withdraw())
    assert house.owner.balance() == 1000 + house.chain.token_info().from_units(house.FEE)


def test_signing__when_a_refund_was_signed__nothing_of_this_home_hands_over(house, post):
    opened = house.renter.rentals.open(house.offer())
    signed = house.owner.rentals.signing().refund(opened.id)
    for hand_over in (house.owner.rentals.hand_over, house.owner.rentals.signing().hand_over):
        with pytest.raises(InputError, match="being refunded"):
            hand_over(opened.id)
    post(signed)
    assert house.credits() == (0, house.PRICE)


def test_signing__when_the_act_makes_no_sense__signs_nothing(house):
    rental = house.checked_out()
    owner, renter = house.owner.rentals.signing(), house.renter.rentals.signing()
    for sign, says in (
        (lambda: owner.claim(rental.id, house.DEPOSIT + 1), "at most the deposit"),
        (lambda: owner.hand_over(rental.id), "checked-out, not opened"),
        (lambda: owner.refund(rental.id), "checked-out, not opened"),
        (lambda: owner.withdraw(10**9), "the credit is"),
        (lambda: owner.withdraw(0), "the credit is"),
        (lambda: owner.accept(rental.id), "not its renter"),
        (lambda: renter.accept(rental.id), "checked-out, not claimed"),
        (lambda: renter.reject(rental.id), "checked-out, not claimed"),
        (lambda: renter.refund(rental.id), "checked-out, not opened"),
        (lambda: renter.open(rental.offer), "checked-out already"),
        (lambda: renter.rule(rental.id, 1), "not its arbiter"),
    ):
        with pytest.raises(InputError, match=says):
            sign()


@pytest.mark.parametrize(("accepts", "how"), [(True, "accepted"), (False, "unruled")])
def test_signing__when_a_renter_answers__the_claim_is_not_lost_by_silence(house, post, accepts, how):
    rental = claimed(house)
    signing = house.renter.rentals.signing()
    post(signing.accept(rental.id) if accepts else signing.reject(rental.id))
    if not accepts:
        house.pass_deadline(rental)
        assert house.step(house.renter) == ["closed"]
    assert house.renter.rentals.ending(rental.id).how == how


# Files that were changed, are late, or are for somewhere else


def changed(name, value):
    return lambda document: document | {name: value}


def other_award(document):
    """The same ruling with one base unit more."""
    return document | {"call": document["call"][:-2] + f"{int(document['call'][-2:], 16) ^ 1:02x}"}


CHANGED_ACTS = (
    (changed("chainId", 1), InputError, "the file is for chain 1"),
    (changed("escrow", "0x" + "11" * 20), InputError, "the file is for the escrow"),
    (changed("sender", "0x" + "11" * 20), VerificationError, "the file was changed"),
    (changed("nonce", "7"), VerificationError, "the file was changed"),
    (changed("deadline", (1 << 40) - 1), VerificationError, "the file was changed"),
    (changed("call", "0xa9059cbb" + "00" * 64), VerificationError, "is no call of a rental"),
    (changed("call", "0x"), VerificationError, "is no call of a rental"),
    (other_award, VerificationError, "the file was changed"),
    (lambda d: d | {"call": d["call"] + "00"}, VerificationError, "is not written as the ABI says"),
    (lambda d: d | {"call": d["call"][:-2]}, VerificationError, "cannot be read"),
    (changed("signatures", []), VerificationError, "no list of pairs"),
    (changed("signatures", [["0x", "0x"]]), VerificationError, "did not sign this"),
    (changed("signatures", [["0x" + "11" * 20, "0x" + "22" * 65]]), VerificationError, "did not sign this"),
    (changed("format", "pyiot rental offer"), VerificationError, "not a signed rental act"),
    (changed("more", 1), VerificationError, "not a signed rental act"),
)


def test_carry__when_a_signed_act_was_changed__sends_nothing(house, post):
    signed = house.renter.rentals.signing().reject(claimed(house).id)
    before = house.chain.block_number()
    for change, error, says in CHANGED_ACTS:
        with pytest.raises(error, match=says):
            post(signed, change=change)
    assert house.chain.block_number() == before
    post(signed)


def in_offer(change):
    return lambda document: document | {"offer": change(document["offer"])}


def in_terms(name, value):
    return in_offer(lambda offer: offer | {"terms": offer["terms"] | {name: value}})


CHANGED_OPENINGS = (
    (in_offer(changed("chainId", 1)), InputError, "the file is for chain 1"),
    (in_offer(changed("escrow", "0x" + "11" * 20)), InputError, "the file is for the escrow"),
    (in_offer(changed("signature", "0x" + "22" * 65)), VerificationError, "did not sign this offer"),
    (in_terms("deposit", "5000001"), VerificationError, "did not sign this offer"),
    (changed("renter", "0x" + "11" * 20), VerificationError, "did not sign this opening"),
    (changed("mask", "0x" + "11" * 20), VerificationError, "did not sign this opening"),
    (changed("ephemeralX", "5"), VerificationError, "did not sign this opening"),
    (changed("validBefore", (1 << 40) - 1), VerificationError, "did not sign this opening"),
    (changed("signature", "0x"), VerificationError, "did not sign this opening"),
    (changed("offer", []), VerificationError, "nothing that can be carried"),
    (changed("more", 1), VerificationError, "not a signed rental opening"),
)


def test_carry__when_a_signed_opening_was_changed__sends_nothing(house, post):
    signed = house.renter.rentals.signing().open(house.offer())
    before = house.chain.block_number()
    for change, error, says in CHANGED_OPENINGS:
        with pytest.raises(error, match=says):
            post(signed, change=change)
    assert house.chain.block_number() == before
    post(signed)
    assert house.renter.rentals.get(signed.rental_id).state is State.OPENED


def test_carry__when_it_is_late__sends_nothing(house, post):
    signed = house.renter.rentals.signing().open(house.offer())
    rental = claimed(house)
    answer = house.renter.rentals.signing(lifetime=3600).reject(rental.id)
    house.chain.increase_time(3601)
    for late, says in ((signed, "the signed opening was good until"), (answer, "the signed reject was good until")):
        with pytest.raises(InputError, match=says) as caught:
            post(late)
        assert caught.value.hint == "have it signed again"


def test_carry__when_the_chain_refuses__says_why_before_anything_is_sent(house, post):
    rental = house.checked_out()
    house.owner.rentals.waive(rental.id)
    signed = house.renter.rentals.signing().withdraw()
    house.renter.rentals.withdraw()
    before = house.chain.block_number()
    with pytest.raises(CreditTooLow):
        post(signed)
    assert house.chain.block_number() == before


def test_read_signed__when_the_file_is_nothing_signed__is_refused(house, tmp_path):
    path = tmp_path / "file.json"
    with pytest.raises(InputError, match="cannot read the signed file"):
        read_signed(path)
    for text in ("", "[]", "{}", house.offer().encode(), " " * 200_000):
        path.write_text(text)
        with pytest.raises(VerificationError, match="nothing that can be carried"):
            read_signed(path)
    signed = house.renter.rentals.signing().open(house.offer())
    with pytest.raises(InputError, match="exists already"):
        signed.write(path)
    with pytest.raises(InputError, match="cannot be written"):
        signed.write(tmp_path / "no-folder" / "file.json")
    signed.write(tmp_path / "signed.json")
    assert (tmp_path / "signed.json").stat().st_mode & 0o777 == 0o600
    assert read_signed(tmp_path / "signed.json") == signed
    assert isinstance(signed, SignedOpening)


# An arbiter of several keys


class Panel:
    """An account on the chain of which two of three must sign: two machines' keys and a device's on P-256."""

    def __init__(self, house, code):
        names = [f"{house.arbiter.name}-{number}" for number in range(2)]
        self.members = [Machine.create(house.chain, name, ether=0) for name in names]
        self.third = LocalSigner.create("p256")
        signers = [*(bytes(member.address) for member in self.members), self.third.signer_bytes]
        arguments = encode(["bytes[]", "uint64"], [signers, 2])
        self.address = deploy_once(house.owner.rentals.clerk.account, "PanelWallet", code + arguments)


@pytest.fixture
def panel(house, mock_code):
    return Panel(house, mock_code("PanelWallet"))


def disputed(house, panel):
    rental = house.checked_out(arbiter=panel.address)
    house.owner.rentals.claim(rental.id, CLAIM)
    house.renter.rentals.reject(rental.id)
    for member in panel.members:
        member.rentals.judge(rental.offer, account=panel.address)
    return rental


def test_panel__when_two_of_three_sign_in_files__anybody_carries_the_ruling(house, panel, post, tmp_path):
    rental = disputed(house, panel)
    first, second = panel.members
    (seen,) = second.rentals.all()
    assert (seen.id, seen.role, seen.state) == (rental.id, Role.ARBITER, State.DISPUTED)
    assert [action.kind for action in second.rentals.serve(once=True)] == ["awaits-signature"]

    one = first.rentals.signing().rule(rental.id, AWARD)
    one.write(tmp_path / "one")
    with pytest.raises(VerificationError, match="does not take what") as caught:
        post(one)
    assert "threshold" in caught.value.hint
    with second.chain.home.keyring.account(second.name) as key:  # needs no chain
        two = cosign_ruling(read_signed(tmp_path / "one"), rental.offer, key)
    post(two)

    assert house.owner.rentals.ending(rental.id).how == "ruled"
    assert house.owner.rentals.ending(rental.id).to_owner == house.FEE + 7 * house.RATE + AWARD
    assert [house.chain.balance(member.address) for member in panel.members] == [0, 0]
    assert first.rentals.get(rental.id).state is State.CLOSED


def test_panel__when_members_sign_apart__their_files_are_joined(house, panel, post):
    rental = disputed(house, panel)
    one = panel.members[0].rentals.signing().rule(rental.id, AWARD)
    third = cosign_ruling(one, rental.offer, panel.third)
    alone = replace(third, signatures=third.signatures[1:])
    stranger = cosign_ruling(one, rental.offer, LocalSigner.create())
    for few in (alone, one.join(one), stranger):
        with pytest.raises(VerificationError, match="does not take what"):
            post(few)
    with pytest.raises(InputError, match="of different acts"):
        one.join(panel.members[0].rentals.signing().rule(rental.id, AWARD))
    post(one.join(alone))
    assert house.renter.rentals.ending(rental.id).how == "ruled"


def test_panel__when_one_member_would_rule_alone__is_refused(house, panel):
    rental = disputed(house, panel)
    member = panel.members[0].rentals
    with pytest.raises(InputError, match="by its members' signatures") as caught:
        member.rule(rental.id, AWARD)
    assert "--sign-only" in caught.value.hint
    member.arbitrating = ArbiterPolicy(ruling=lambda _: AWARD)
    assert house.step(panel.members[0]) == []
    with pytest.raises(InputError, match="at most what is claimed"):
        member.signing().rule(rental.id, CLAIM + 1)
    with pytest.raises(InputError, match="has no code"):
        member.judge(rental.offer, account=Address(b"\x09" * 20))
    with pytest.raises(InputError, match="does not rule on the offer"):
        member.judge(house.offer(), account=panel.address)
    with pytest.raises(InputError, match="does not rule on the offer"):
        member.judge(rental.offer)


def test_cosign__when_the_ruling_is_not_what_the_offer_says__is_refused(house, panel):
    rental = disputed(house, panel)
    offer, ruling = rental.offer, panel.members[0].rentals.signing().rule(rental.id, AWARD)
    key, escrow = LocalSigner.create(), DepositEscrow(ruling.escrow)
    struct = ruling.act.rental

    def signed(call, **changes):
        given = {"chain_id": offer.chain_id, "signer": key, "deadline": ruling.call.deadline, "sender": panel.address}
        return SignedAct.sign(call, **given | changes)

    other = house.offer(arbiter=panel.address)
    doctored = replace(offer, document=replace(offer.document, arbitration="the renter is always right"))
    for act, by, error, says in (
        (signed(escrow.waive(struct)), offer, InputError, "no ruling but waive"),
        (ruling, other, InputError, "other terms than the offer"),
        (ruling, doctored, VerificationError, "is not the one that its terms"),
        (signed(escrow.rule(struct, 1), chain_id=1), offer, InputError, "another chain or escrow"),
        (signed(escrow.rule(struct, 1), sender=None), offer, VerificationError, "would rule"),
        (signed(escrow.rule(struct, house.DEPOSIT + 1)), offer, VerificationError, "above the deposit"),
        (replace(ruling, call=replace(ruling.call, nonce=1)), offer, VerificationError, "the file was changed"),
        (house.renter.rentals.signing().open(other), other, InputError, "no ruling but an opening"),
    ):
        with pytest.raises(error, match=says):
            cosign_ruling(act, by, key)


def test_decode_act__when_a_call_of_the_binding_is_read__gives_its_arguments_back(house):
    rental = house.renter.rentals.signing().open(house.offer()).rental
    escrow = house.owner.rentals.clerk.contract
    for call in (
        *(getattr(escrow, name)(rental) for name in ("refund", "waive", "accept", "reject")),
        *(escrow.hand_over(rental, 5), escrow.claim(rental, 6, b"\x07" * 32), escrow.rule(rental, 8)),
        *(escrow.withdraw(house.owner.address, 9, house.renter.address), escrow.cancel_nonce(10)),
    ):
        act = SignedAct.sign(call, chain_id=1, signer=LocalSigner.create(), deadline=1).act
        assert act.function == call.function.partition("(")[0]
        given = dict(call.arguments)
        assert act.rental == given.pop("rental", None)
        assert [*act.values.values()] == [*given.values()]
    for call in (escrow.close(rental), escrow.relay(SignedCall(Address(bytes(20)), b"", 0, 0), b"")):
        with pytest.raises(VerificationError, match="is no call of a rental"):
            SignedAct.sign(call, chain_id=1, signer=LocalSigner.create(), deadline=1)
