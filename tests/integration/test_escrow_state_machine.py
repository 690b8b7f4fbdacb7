"""The escrow as a state machine: Hypothesis plays it on a real Anvil, a Python model says what must happen.

Each rule sends a real transaction, and the model predicts success or the exact error. At any moment a role may fall
silent for good. After every step slots, credits and the escrow's balance must equal the model's (DE-1 to DE-3, DE-5);
at the end of every run a stranger closes what is left, and all money is out within the sum of the windows (DE-4).
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pyiot_evm.chain import contract_errors as errors
from pyiot_evm.contracts import DevDollar
from pyiot_evm.contracts.deposit_escrow import CheckIn, CheckOut, DepositEscrow
from pyiot_evm.contracts.shared import Rental, Terms
from pyiot_evm.device import LocalSigner
from pyiot_evm.device.typed import address_word, domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.key_release import ContentKey, Ephemeral, Sale, mask_of, release
from pyiot_evm.types import ZERO_ADDRESS, Bytes32

if TYPE_CHECKING:
    from pyiot_evm.chain import Account, Chain
    from pyiot_evm.types import Address, RentalId, TermsId

_JUMP, _DAY = 1000, 86_400
_LEAD, _GRACE, _LENGTH, _WINDOW = 1000, 2600, 8300, 3600
"""Time moves in jumps of 1,000 seconds, and no deadline lies near a multiple of them."""
_UNLIMITED = (1 << 256) - 1
_FEE, _CAP, _DEPOSIT = 200, 500, 1000
_OWNER, _RENTER, _ARBITER, _STRANGER = range(4)
_SALTS = itertools.count(1)
_RECEIVE = type_hash(
    "ReceiveWithAuthorization(address from,address to,uint256 value,"
    "uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)


@dataclass
class ModelTerms:
    terms: Terms
    id: TermsId
    device: LocalSigner
    made: int
    spent: bool = False

    @property
    def hand_over_until(self) -> int:
        return self.made + _LEAD + _GRACE

    @property
    def end(self) -> int:
        return self.made + _LEAD + _LENGTH


@dataclass
class ModelRental:
    rental: Rental
    id: RentalId
    of: ModelTerms
    ephemeral: Ephemeral
    deadline: int
    state: str = "OPENED"
    held: int = _FEE + _CAP + _DEPOSIT
    claimed: int = 0


class Stage:
    """The chain, four funded accounts and two devices, for all examples."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.escrow = DepositEscrow(chain.addresses.deposit_escrow)
        self.dollar = DevDollar(chain.token)
        self.accounts: list[Account] = [chain.account(LocalSigner.create()) for _ in range(4)]
        self.devices = [LocalSigner.create("secp256k1"), LocalSigner.create("p256")]
        self.key = ContentKey.create()
        for account in self.accounts:
            chain.fund(account, ether=1000, dollars=1_000_000)
        self.accounts[_RENTER].transact(self.dollar.approve(self.escrow.address, _UNLIMITED))
        self.others = 0
        self.others = self.held()

    def held(self) -> int:
        """Return what the escrow holds, beside what other tests left there."""
        return int(self.chain.call(self.dollar.balance_of(self.escrow.address))) - self.others

    def index(self, account: int) -> Address:
        return self.accounts[account].address

    def sale(self, offer: ModelTerms) -> Sale:
        return Sale(self.chain.chain_id, self.escrow.address, offer.id, self.index(_RENTER))

    def authorize(self, name: RentalId) -> bytes:
        """Return the renter's ERC-3009 signature over the price."""
        domain = domain_separator("pyiot dev dollar", "1", chain_id=self.chain.chain_id, contract=self.chain.token)
        words = (address_word(self.index(_RENTER)), address_word(self.escrow.address), word(_FEE + _CAP + _DEPOSIT))
        digest = typed_digest(domain, struct_hash(_RECEIVE, *words, word(0), word(_UNLIMITED), bytes(name)))
        return self.accounts[_RENTER].signer.sign_digest(digest)


ACTOR = st.integers(0, 3)
MOSTLY = st.sampled_from([True] * 7 + [False])
SAID = st.sampled_from(["right"] * 7 + ["forged", "foreign", "unpinned"])
FATES = st.dictionaries(st.sampled_from([_OWNER, _RENTER, _ARBITER, "device"]), st.integers(2, 25), max_size=2)


class Rent(RuleBasedStateMachine):
    """The rules of the escrow and its model."""

    stage: Stage
    sent = 0
    refused = 0
    silences = 0

    offers = Bundle("offers")
    rentals = Bundle("rentals")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.steps = 0
        self.fates: dict[int | str, int] = {}
        """Role → the step after which it is silent for good."""
        self.all_rentals: list[ModelRental] = []

    @initialize(target=rentals, device=st.integers(0, 1), fates=FATES)
    def begin(self, device: int, fates: dict[int | str, int]) -> ModelRental:
        stage, self.fates = self.stage, fates
        self.start = stage.chain.now()
        self.credits = [0, 0, 0, 0]
        calls = [stage.escrow.credit_of(account.address, stage.chain.token) for account in stage.accounts]
        assert stage.chain.call_many(calls) == self.credits
        assert stage.held() == 0
        opened: ModelRental = self.open(self.offer(device, 7), signed=True, masked=True, carried=False)
        return opened

    @property
    def silent(self) -> set[int | str]:
        return {role for role, step in self.fates.items() if self.steps > step}

    def act(self, account: int, call: Any, expected: type[errors.ContractError] | None) -> bool:
        """Send a call that must go through or be refused with exactly this error; the silent send nothing."""
        if account in self.silent:
            return False
        if expected is None:
            self.stage.accounts[account].transact(call)
            type(self).sent += 1
            return True
        with pytest.raises(expected) as caught:
            self.stage.accounts[account].transact(call)
        assert type(caught.value) is expected
        type(self).refused += 1
        return False

    @rule(days=st.sampled_from([0] * 8 + [1]), jumps=st.integers(0, 3))
    def wait(self, days: int, jumps: int) -> None:
        seconds = days * 88 * _JUMP + jumps * _JUMP
        self.stage.chain.increase_time(seconds)
        self.now += seconds

    # Offer, open

    @rule(target=offers, device=st.integers(0, 1), rate=st.sampled_from([0, 7, (1 << 96) - 1]))
    def offer(self, device: int, rate: int) -> ModelTerms:
        stage, signer = self.stage, self.stage.devices[device]
        start = stage.chain.now() + _LEAD
        terms = Terms(
            owner=stage.index(_OWNER), token=stage.chain.token, fee=_FEE, rate=rate, meter_cap=_CAP, deposit=_DEPOSIT,
            device=Bytes32(signer.device), signer_hash=Bytes32(keccak256(signer.signer_bytes)),
            arbiter=stage.index(_ARBITER), key_x=stage.key.point[0], key_y=stage.key.point[1], start=start,
            end=start + _LENGTH, grace=_GRACE, claim_window=_WINDOW, reply_window=_WINDOW, ruling_window=_WINDOW,
            terms=Bytes32(bytes(32)), salt=next(_SALTS),
        )  # fmt: skip
        return ModelTerms(terms, stage.chain.call(stage.escrow.terms_id(terms)), signer, self.now)

    @rule(target=rentals, offer=offers, signed=MOSTLY, masked=MOSTLY, carried=st.booleans())
    def open(self, offer: ModelTerms, signed: bool, masked: bool, carried: bool) -> ModelRental | Any:
        stage, ephemeral = self.stage, Ephemeral.create()
        mask = mask_of(stage.sale(offer), stage.key.point, ephemeral) if masked else ZERO_ADDRESS
        rental = Rental(offer.terms, stage.index(_RENTER), mask, *ephemeral.point)
        signature = stage.accounts[_OWNER if signed else _STRANGER].signer.sign_digest(offer.id)
        expected = (
            (None if masked else errors.MaskIsZero)
            or (errors.WindowIsOver if self.now >= offer.hand_over_until else None)
            or (None if signed else errors.TermsNotSigned)
            or (errors.NonceAlreadyUsed if offer.spent else None)
        )
        name = stage.chain.call(stage.escrow.rental_id(rental))
        if carried and _RENTER not in self.silent:
            paid = stage.authorize(name)
            call = stage.escrow.open_with_authorization(rental, signature, 0, _UNLIMITED, paid)
        else:
            call = stage.escrow.open(offer.terms, signature, mask, *ephemeral.point)
        if not self.act(_STRANGER if carried and _RENTER not in self.silent else _RENTER, call, expected):
            return multiple()
        offer.spent = True
        self.all_rentals.append(ModelRental(rental, name, offer, ephemeral, offer.hand_over_until))
        return self.all_rentals[-1]

    @rule(offer=offers)
    def cancel(self, offer: ModelTerms) -> None:
        expected = errors.NonceAlreadyUsed if offer.spent else None
        offer.spent |= self.act(_OWNER, self.stage.escrow.cancel_nonce(offer.terms.salt), expected)

    @rule(actor=ACTOR, rental=rentals)
    def refund(self, actor: int, rental: ModelRental) -> None:
        allowed = ("OPENED", "ACTIVE", "CHECKED_IN") if actor == _OWNER else ("OPENED",)
        early = actor != _OWNER and self.now < rental.deadline
        expected = (None if rental.state in allowed else errors.RentalStateInvalid) or (
            errors.WindowIsOpen if early else None
        )
        if self.act(actor, self.stage.escrow.refund(rental.rental), expected):
            self._end(rental, owner=0)

    # Use

    @rule(actor=st.sampled_from([_OWNER] * 5 + [_STRANGER]), rental=rentals, right=MOSTLY)
    def hand_over(self, actor: int, rental: ModelRental, right: bool) -> None:
        point = (rental.rental.ephemeral_x, rental.rental.ephemeral_y)
        released = release(self.stage.sale(rental.of), self.stage.key, point, rental.rental.mask)
        expected = self._guards(rental, actor, _OWNER, errors.CallerNotOwner, "OPENED") or (
            None if right else errors.AccessKeyInvalid
        )
        if self.act(actor, self.stage.escrow.hand_over(rental.rental, released + (not right)), expected):
            rental.state, rental.deadline = "ACTIVE", rental.of.end + _DAY

    @rule(rental=rentals, said=SAID)
    def check_in(self, rental: ModelRental, said: str) -> None:
        if "device" in self.silent:
            return
        expected = (
            (None if rental.state == "ACTIVE" else errors.RentalStateInvalid)
            or (errors.WindowIsOver if self.now >= rental.deadline else None)
            or (errors.WindowIsOver if self.now >= rental.of.end else None)
            or _statement_error(said)
        )
        statement = CheckIn(self._subject(rental, said), 1, Bytes32(bytes(32)))
        digest = self.stage.chain.call(self.stage.escrow.check_in_digest(statement))
        call = self.stage.escrow.check_in(rental.rental, statement, *self._signed(rental, said, digest))
        if self.act(_STRANGER, call, expected):
            rental.state = "CHECKED_IN"

    @rule(rental=rentals, said=SAID, units=st.sampled_from([0, 3, 71, 72, 1 << 63]))
    def check_out(self, rental: ModelRental, said: str, units: int) -> None:
        if "device" in self.silent:
            return
        expected = (
            (None if rental.state in ("ACTIVE", "CHECKED_IN") else errors.RentalNotActive)
            or (errors.WindowIsOver if self.now >= rental.deadline else None)
            or _statement_error(said)
        )
        statement = CheckOut(self._subject(rental, said), 1, units, Bytes32(bytes(32)))
        digest = self.stage.chain.call(self.stage.escrow.check_out_digest(statement))
        call = self.stage.escrow.check_out(rental.rental, statement, *self._signed(rental, said, digest))
        if self.act(_STRANGER, call, expected):
            self._charge(rental, min(rental.of.terms.rate * units, _CAP))

    def _subject(self, rental: ModelRental, said: str) -> TermsId:
        return type(rental.of.id)(keccak256(rental.of.id)) if said == "foreign" else rental.of.id

    def _signed(self, rental: ModelRental, said: str, digest: bytes) -> tuple[bytes, bytes]:
        """Return signer and signature: the pinned device's, a forged one, or another device's own."""
        device, other = rental.of.device, next(d for d in self.stage.devices if d is not rental.of.device)
        if said == "unpinned":
            return other.signer_bytes, other.sign_digest(digest)
        return device.signer_bytes, device.sign_digest(keccak256(digest) if said == "forged" else digest)

    def _charge(self, rental: ModelRental, metered: int) -> None:
        self.credits[_OWNER] += _FEE + metered
        self.credits[_RENTER] += _CAP - metered
        rental.state, rental.deadline, rental.held = "CHECKED_OUT", self.now + _WINDOW, _DEPOSIT

    # Argue

    @rule(actor=st.sampled_from([_OWNER] * 5 + [_RENTER]), rental=rentals, amount=st.integers(0, _DEPOSIT + 50))
    def claim(self, actor: int, rental: ModelRental, amount: int) -> None:
        expected = self._guards(rental, actor, _OWNER, errors.CallerNotOwner, "CHECKED_OUT") or (
            None if 0 < amount <= _DEPOSIT else errors.ClaimOutOfBounds
        )
        if self.act(actor, self.stage.escrow.claim(rental.rental, amount, Bytes32(bytes(32))), expected):
            self.credits[_RENTER] += _DEPOSIT - amount
            rental.state, rental.deadline = "CLAIMED", self.now + _WINDOW
            rental.held = rental.claimed = amount

    @rule(actor=st.sampled_from([_RENTER] * 5 + [_OWNER]), rental=rentals, accept=st.sampled_from([True, False, False]))
    def answer(self, actor: int, rental: ModelRental, accept: bool) -> None:
        expected = self._guards(rental, actor, _RENTER, errors.CallerNotRenter, "CLAIMED")
        escrow = self.stage.escrow
        if not self.act(actor, (escrow.accept if accept else escrow.reject)(rental.rental), expected):
            return
        if accept:
            self._end(rental, owner=rental.held)
        else:
            rental.state, rental.deadline = "DISPUTED", self.now + _WINDOW

    @rule(actor=st.sampled_from([_ARBITER] * 5 + [_OWNER]), rental=rentals, award=st.integers(0, _DEPOSIT))
    def decide(self, actor: int, rental: ModelRental, award: int) -> None:
        expected = self._guards(rental, actor, _ARBITER, errors.CallerNotArbiter, "DISPUTED") or (
            errors.AwardTooHigh if award > rental.claimed else None
        )
        if self.act(actor, self.stage.escrow.rule(rental.rental, award), expected):
            self._end(rental, owner=award)

    @rule(actor=st.sampled_from([_OWNER] * 4 + [_RENTER]), rental=rentals, really=st.sampled_from([True, False, False]))
    def waive(self, actor: int, rental: ModelRental, really: bool) -> None:
        if not really:
            return
        ready = rental.state in ("CHECKED_OUT", "CLAIMED", "DISPUTED")
        expected = (None if actor == _OWNER else errors.CallerNotOwner) or (
            None if ready else errors.RentalNotCheckedOut
        )
        if self.act(actor, self.stage.escrow.waive(rental.rental), expected):
            self._end(rental, owner=0)

    # Go on: what the parties want in the end

    @rule(rental=rentals, amount=st.integers(1, _DEPOSIT), units=st.integers(0, 100), enters=st.booleans())
    def go_on(self, rental: ModelRental, amount: int, units: int, enters: bool) -> None:
        """Whoever's turn it is acts rightly, if it still lives and has the time."""
        if rental.state == "OPENED":
            self.hand_over(_OWNER, rental, right=True)
        elif rental.state == "ACTIVE" and enters:
            self.check_in(rental, "right")
        elif rental.state in ("ACTIVE", "CHECKED_IN"):
            self.check_out(rental, "right", units)
        elif rental.state == "CHECKED_OUT":
            self.claim(_OWNER, rental, amount)
        elif rental.state == "CLAIMED":
            self.answer(_RENTER, rental, accept=units < 20)
        elif rental.state == "DISPUTED":
            self.decide(_ARBITER, rental, amount % (rental.claimed + 1))

    @rule(rental=rentals, amount=st.integers(1, _DEPOSIT), units=st.integers(0, 100))
    def go_further(self, rental: ModelRental, amount: int, units: int) -> None:
        for step in range(3):
            self.go_on(rental, amount, units, enters=bool((units >> step) & 1))

    def _guards(
        self, rental: ModelRental, actor: int, role: int, not_role: type[errors.ContractError], state: str
    ) -> type[errors.ContractError] | None:
        return (
            (None if actor == role else not_role)
            or (None if rental.state == state else errors.RentalStateInvalid)
            or (errors.WindowIsOver if self.now >= rental.deadline else None)
        )

    # Close

    @rule(actor=ACTOR, rental=rentals)
    def close(self, actor: int, rental: ModelRental) -> None:
        expected = (errors.RentalNotOpen if rental.state == "CLOSED" else None) or (
            errors.WindowIsOpen if self.now < rental.deadline else None
        )
        if not self.act(actor, self.stage.escrow.close(rental.rental), expected):
            return
        if rental.state == "CHECKED_IN":
            self._charge(rental, 0)
        else:
            self._end(rental, owner=rental.held if rental.state == "CLAIMED" else 0)

    def _end(self, rental: ModelRental, *, owner: int) -> None:
        self.credits[_OWNER] += owner
        self.credits[_RENTER] += rental.held - owner
        rental.state, rental.deadline, rental.held, rental.claimed = "CLOSED", 0, 0, 0

    @rule(actor=ACTOR, amount=st.integers(1, 2000))
    def withdraw(self, actor: int, amount: int) -> None:
        expected = errors.CreditTooLow if self.credits[actor] < amount else None
        call = self.stage.escrow.withdraw(self.stage.chain.token, amount, self.stage.index(actor))
        if self.act(actor, call, expected):
            self.credits[actor] -= amount

    # What must hold after every step, and at the end

    @invariant()
    def equals_the_model(self) -> None:
        stage, token = self.stage, self.stage.chain.token
        if not hasattr(self, "credits"):
            return
        self.steps += 1
        calls: list[Any] = [stage.escrow.credit_of(account.address, token) for account in stage.accounts]
        calls.append(stage.dollar.balance_of(stage.escrow.address))
        calls += [stage.escrow.rental_of(rental.id) for rental in self.all_rentals]
        answers = iter(stage.chain.call_many(calls))
        assert [next(answers) for _ in stage.accounts] == self.credits
        assert next(answers) - stage.others == sum(self.credits) + sum(rental.held for rental in self.all_rentals)
        for rental in self.all_rentals:
            answer = next(answers)
            assert answer.state.name == rental.state
            assert (answer.held, answer.claimed) == (rental.held, rental.claimed)

    def teardown(self) -> None:
        """A stranger closes what is open, deadline by deadline; then everybody who is paid takes it all out."""
        if not hasattr(self, "credits"):
            return
        latest = max((rental.of.end + _DAY + 3 * _WINDOW for rental in self.all_rentals), default=self.now)
        latest = max(latest, self.now)
        while live := [rental for rental in self.all_rentals if rental.state != "CLOSED"]:
            first = min(live, key=lambda rental: rental.deadline)
            if self.now < first.deadline:
                self.stage.chain.increase_time(first.deadline - self.now + 60)
                self.now = first.deadline
            self.close(_STRANGER, first)
        assert self.now <= latest
        type(self).silences += len(self.silent)
        self.fates = {}
        for actor, amount in enumerate(list(self.credits)):
            if amount:
                self.withdraw(actor, amount)
        self.equals_the_model()
        assert self.credits == [0, 0, 0, 0]
        assert self.stage.held() == 0


def _statement_error(said: str) -> type[errors.ContractError] | None:
    known = {"foreign": errors.StatementOfOtherTerms, "unpinned": errors.SignerNotPinned}
    return known.get(said) or (errors.StatementNotSigned if said == "forged" else None)


@pytest.mark.timeout(900)
def test_escrow__when_anything_is_done_in_any_order__does_what_the_model_says(
    devnet: Chain, capfd: pytest.CaptureFixture[str]
) -> None:
    Rent.stage, Rent.sent, Rent.refused, Rent.silences = Stage(devnet), 0, 0, 0

    run_state_machine_as_test(
        Rent,
        settings=settings(
            max_examples=50,
            stateful_step_count=50,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

    assert Rent.sent > 150
    assert Rent.refused > 200
    assert Rent.silences > 5
    with capfd.disabled():
        sys.stdout.write(
            f"\n  the escrow's state machine: {Rent.sent} sent, {Rent.refused} refused as predicted, "
            f"{Rent.silences} silences\n"
        )
