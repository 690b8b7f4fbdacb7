"""The escrow as a state machine: Hypothesis plays it on a real Anvil, a Python model says what must happen.

Each rule sends a real transaction, a third of them by a signed call that a stranger carries, and the model predicts
success or the exact error. At any moment a role may fall silent for good. After every step slots with their deadlines,
device times, credits and the escrow's balance must equal the model's (DE-1 to DE-3, DE-5); at the end of every run a
stranger closes what is left, and all money is out within the sum of the windows (DE-4). What the teardown does is not
counted: each function must go through, and each role fall silent, often enough without it.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

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
from pyiot_evm.relay import carry, contract_domain, sign_call
from pyiot_evm.types import ZERO_ADDRESS, Bytes32

if TYPE_CHECKING:
    from pyiot_evm.chain import Account, Chain
    from pyiot_evm.types import Address, RentalId, TermsId

_JUMP, _DAY = 1000, 86_400
_LEAD, _GRACE, _LENGTH, _WINDOW = 1000, 2600, 8300, 3600
"""Time moves in jumps of 1,000 seconds, and no deadline lies near a multiple of them."""
_MARGIN = 250
"""By how many seconds a deadline may differ from the model's, whose clock stands still between the jumps."""
_CAME, _LEFT = 11, 22
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
    came: int = 0
    left: int = 0


class Stage:
    """The chain, four funded accounts and two devices, for all examples."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.escrow = DepositEscrow(chain.addresses.deposit_escrow)
        self.dollar = DevDollar(chain.token)
        self.accounts: list[Account] = [chain.account(LocalSigner.create()) for _ in range(4)]
        self.devices = [LocalSigner.create("secp256k1"), LocalSigner.create("p256")]
        self.key = ContentKey.create()
        self.domain = contract_domain(
            "pyiot DepositEscrow", chain_id=chain.chain_id, contract=chain.addresses.deposit_escrow
        )
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
ROLES = {_OWNER: "owner", _RENTER: "renter", _ARBITER: "arbiter", "device": "device"}
FATES = st.dictionaries(st.sampled_from(list(ROLES)), st.integers(1, 8), min_size=1, max_size=3)
AMOUNT, UNITS = st.integers(1, _DEPOSIT), st.integers(0, 100)
ENDINGS = {
    "cancelNonce": (), "refund": (), "close OPENED": (), "close ACTIVE": ("hand_over",),
    "close CHECKED_IN": ("hand_over", "check_in"), "close CHECKED_OUT": ("hand_over", "check_out"),
    "waive": ("hand_over", "check_in", "check_out"), "accept": ("hand_over", "check_out", "claim"),
    "close CLAIMED": ("hand_over", "check_out", "claim"),
    "close DISPUTED": ("hand_over", "check_out", "claim", "reject"),
    "rule": ("hand_over", "check_in", "check_out", "claim", "reject"),
}  # fmt: skip
"""How a rental can end, and what comes between its opening and that."""
PLAYED = [ending for ending in ENDINGS if ending != "cancelNonce"]


class Rent(RuleBasedStateMachine):
    """The rules of the escrow and its model."""

    stage: Stage
    endings: tuple[str, ...] = ()
    """The ends that rentals go to in every example of a run, before anything is left to chance."""
    went: ClassVar[Counter[str]] = Counter()
    """How often each function went through outside the teardown, each state was closed, and a signed call carried."""
    refused: ClassVar[Counter[str]] = Counter()
    """How often each error came as predicted."""
    silences: ClassVar[Counter[str]] = Counter()
    """How often each role fell silent before the end of a run, and did not do what it was asked to."""

    offers = Bundle("offers")
    rentals = Bundle("rentals")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.steps = 0
        self.fates: dict[int | str, int] = {}
        """Role → the step after which it is silent for good."""
        self.all_rentals: list[ModelRental] = []
        self.fell_silent: set[int | str] = set()
        self.acts = 0
        self.over = False

    @initialize(target=rentals, device=st.integers(0, 1), fates=FATES, next_one=st.sampled_from(PLAYED), amount=AMOUNT)
    def begin(self, device: int, fates: dict[int | str, int], next_one: str, amount: int) -> Any:
        """Two rentals go to this run's ends, a third to the moment before another: what follows starts anywhere."""
        stage, self.fates = self.stage, fates
        self.start = stage.chain.now()
        self.credits = [0, 0, 0, 0]
        calls = [stage.escrow.credit_of(account.address, stage.chain.token) for account in stage.accounts]
        assert stage.chain.call_many(calls) == self.credits
        assert stage.held() == 0
        made = [self.rent(device, ending, amount, to_the_end=True) for ending in self.endings]
        made.append(self.rent(device, next_one, amount, to_the_end=False))
        self.withdraw(_RENTER, 1)
        return multiple(*(rental for rental in made if isinstance(rental, ModelRental)))

    @property
    def silent(self) -> set[int | str]:
        return {role for role, step in self.fates.items() if self.steps > step}

    def is_silent(self, role: int | str) -> bool:
        """Return whether a role is silent; if it is, it has now failed to do something."""
        if role in self.silent:
            self.fell_silent.add(role)
            return True
        return False

    def act(self, account: int, call: Any, expected: type[errors.ContractError] | None, name: str = "") -> bool:
        """Send a call that must go through or be refused with exactly this error; the silent send nothing.

        Every third is signed by the account and carried by the stranger.
        """
        if self.is_silent(account):
            return False
        sender, relayed = self.stage.accounts[account], not self.over and self.acts % 3 == 2
        name = name or call.function.partition("(")[0]
        self.acts += 1
        if relayed:
            request = sign_call(call, signer=sender.signer, domain=self.stage.domain, deadline=(1 << 40) - 1)
            sender, call = self.stage.accounts[_STRANGER], carry(request, self.stage.escrow)
        if expected is None:
            sender.transact(call)
            if not self.over:
                self.went.update([name] + ["relay"] * relayed)
            return True
        with pytest.raises(expected) as caught:
            sender.transact(call)
        assert type(caught.value) is expected
        self.refused[expected.__name__] += 1
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

    def fitting(self, rental: ModelRental, fits: bool, *states: str) -> ModelRental:
        """Return a rental in one of these states, where one is wanted and there is one; else the given one."""
        if not fits or rental.state in states:
            return rental
        return next((other for other in self.all_rentals if other.state in states), rental)

    # Use

    @rule(actor=st.sampled_from([_OWNER] * 5 + [_STRANGER]), rental=rentals, fits=MOSTLY, right=MOSTLY)
    def hand_over(self, actor: int, rental: ModelRental, right: bool, fits: bool = True) -> None:
        rental = self.fitting(rental, fits, "OPENED")
        point = (rental.rental.ephemeral_x, rental.rental.ephemeral_y)
        released = release(self.stage.sale(rental.of), self.stage.key, point, rental.rental.mask)
        expected = self._guards(rental, actor, _OWNER, errors.CallerNotOwner, "OPENED") or (
            None if right else errors.AccessKeyInvalid
        )
        if self.act(actor, self.stage.escrow.hand_over(rental.rental, released + (not right)), expected):
            rental.state, rental.deadline = "ACTIVE", rental.of.end + _DAY

    @rule(rental=rentals, fits=MOSTLY, said=SAID)
    def check_in(self, rental: ModelRental, said: str, fits: bool = True) -> None:
        rental = self.fitting(rental, fits, "ACTIVE")
        if self.is_silent("device"):
            return
        expected = (
            (None if rental.state == "ACTIVE" else errors.RentalStateInvalid)
            or (errors.WindowIsOver if self.now >= rental.deadline else None)
            or (errors.WindowIsOver if self.now >= rental.of.end else None)
            or _statement_error(said)
        )
        statement = CheckIn(self._subject(rental, said), _CAME, Bytes32(bytes(32)))
        digest = self.stage.chain.call(self.stage.escrow.check_in_digest(statement))
        call = self.stage.escrow.check_in(rental.rental, statement, *self._signed(rental, said, digest))
        if self.act(_STRANGER, call, expected):
            rental.state, rental.came = "CHECKED_IN", _CAME

    @rule(rental=rentals, fits=MOSTLY, said=SAID, units=st.sampled_from([0, 3, 71, 72, 1 << 63]))
    def check_out(self, rental: ModelRental, said: str, units: int, fits: bool = True) -> None:
        rental = self.fitting(rental, fits, "ACTIVE", "CHECKED_IN")
        if self.is_silent("device"):
            return
        expected = (
            (None if rental.state in ("ACTIVE", "CHECKED_IN") else errors.RentalNotActive)
            or (errors.WindowIsOver if self.now >= rental.deadline else None)
            or _statement_error(said)
        )
        statement = CheckOut(self._subject(rental, said), _LEFT, units, Bytes32(bytes(32)))
        digest = self.stage.chain.call(self.stage.escrow.check_out_digest(statement))
        call = self.stage.escrow.check_out(rental.rental, statement, *self._signed(rental, said, digest))
        if self.act(_STRANGER, call, expected):
            rental.left = _LEFT
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

    @rule(
        actor=st.sampled_from([_OWNER] * 5 + [_RENTER]),
        rental=rentals,
        fits=MOSTLY,
        amount=st.integers(0, _DEPOSIT + 50),
    )
    def claim(self, actor: int, rental: ModelRental, amount: int, fits: bool = True) -> None:
        rental = self.fitting(rental, fits, "CHECKED_OUT")
        expected = self._guards(rental, actor, _OWNER, errors.CallerNotOwner, "CHECKED_OUT") or (
            None if 0 < amount <= _DEPOSIT else errors.ClaimOutOfBounds
        )
        if self.act(actor, self.stage.escrow.claim(rental.rental, amount, Bytes32(bytes(32))), expected):
            self.credits[_RENTER] += _DEPOSIT - amount
            rental.state, rental.deadline = "CLAIMED", self.now + _WINDOW
            rental.held = rental.claimed = amount

    @rule(actor=st.sampled_from([_RENTER] * 5 + [_OWNER]), rental=rentals, fits=MOSTLY, accept=st.booleans())
    def answer(self, actor: int, rental: ModelRental, accept: bool, fits: bool = True) -> None:
        rental = self.fitting(rental, fits, "CLAIMED")
        expected = self._guards(rental, actor, _RENTER, errors.CallerNotRenter, "CLAIMED")
        escrow = self.stage.escrow
        if not self.act(actor, (escrow.accept if accept else escrow.reject)(rental.rental), expected):
            return
        if accept:
            self._end(rental, owner=rental.held)
        else:
            rental.state, rental.deadline = "DISPUTED", self.now + _WINDOW

    @rule(actor=st.sampled_from([_ARBITER] * 5 + [_OWNER]), rental=rentals, fits=MOSTLY, award=st.integers(0, _DEPOSIT))
    def decide(self, actor: int, rental: ModelRental, award: int, fits: bool = True) -> None:
        rental = self.fitting(rental, fits, "DISPUTED")
        expected = self._guards(rental, actor, _ARBITER, errors.CallerNotArbiter, "DISPUTED") or (
            errors.AwardTooHigh if award > rental.claimed else None
        )
        if self.act(actor, self.stage.escrow.rule(rental.rental, award), expected):
            self._end(rental, owner=award)

    @rule(actor=st.sampled_from([_OWNER] * 4 + [_RENTER]), rental=rentals, fits=MOSTLY)
    def waive(self, actor: int, rental: ModelRental, fits: bool = True) -> None:
        rental = self.fitting(rental, fits, "CHECKED_OUT", "CLAIMED", "DISPUTED")
        ready = rental.state in ("CHECKED_OUT", "CLAIMED", "DISPUTED")
        expected = (None if actor == _OWNER else errors.CallerNotOwner) or (
            None if ready else errors.RentalNotCheckedOut
        )
        if self.act(actor, self.stage.escrow.waive(rental.rental), expected):
            self._end(rental, owner=0)

    # Go on: what the parties want in the end

    @rule(rental=rentals, amount=AMOUNT, units=UNITS, enters=st.booleans())
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
            self.answer(_RENTER, rental, accept=units % 3 == 0)
        elif rental.state == "DISPUTED":
            self.decide(_ARBITER, rental, amount % (rental.claimed + 1))

    @rule(rental=rentals, amount=AMOUNT, units=UNITS, enters=st.booleans(), steps=st.integers(2, 5))
    def go_further(self, rental: ModelRental, amount: int, units: int, enters: bool, steps: int) -> None:
        for _ in range(steps):
            self.go_on(rental, amount, units, enters)

    @rule(
        target=rentals, device=st.integers(0, 1), ending=st.sampled_from(list(ENDINGS)), amount=AMOUNT,
        to_the_end=st.booleans(),
    )  # fmt: skip
    def rent(self, device: int, ending: str, amount: int, to_the_end: bool) -> ModelRental | Any:
        """Offer, open, and go the way to an ending, or to the moment before it."""
        offer = self.offer(device, 7)
        if ending == "cancelNonce":
            self.cancel(offer)
        made = self.open(offer, signed=True, masked=True, carried=len(self.all_rentals) % 2 == 1)
        if not isinstance(made, ModelRental):
            return multiple()
        for step in ENDINGS[ending]:
            self._take(made, step, amount)
        if to_the_end:
            self._take(made, ending, amount)
        return made

    def _take(self, rental: ModelRental, step: str, amount: int) -> None:
        """Take one right step; if somebody silent did not take the one before, this one must be refused."""
        match step:
            case "hand_over":
                self.hand_over(_OWNER, rental, right=True, fits=False)
            case "check_in":
                self.check_in(rental, "right", fits=False)
            case "check_out":
                self.check_out(rental, "right", amount % 100, fits=False)
            case "claim":
                self.claim(_OWNER, rental, amount, fits=False)
            case "accept" | "reject":
                self.answer(_RENTER, rental, accept=step == "accept", fits=False)
            case "rule":
                self.decide(_ARBITER, rental, amount, fits=False)
            case "waive":
                self.waive(_OWNER, rental, fits=False)
            case "refund":
                self.refund(_OWNER, rental)
            case _:
                self.run_out(rental, to_the_end=False)

    @rule(rental=rentals, to_the_end=st.booleans())
    def run_out(self, rental: ModelRental, to_the_end: bool) -> None:
        """Nobody does anything until a rental's deadline has passed; then somebody closes it."""
        while rental.state != "CLOSED":
            if self.now < rental.deadline:
                self.wait(0, -(-(rental.deadline - self.now) // _JUMP))
            self.close(_STRANGER, rental)
            if not to_the_end:
                return

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
        if not self.act(actor, self.stage.escrow.close(rental.rental), expected, f"close {rental.state}"):
            return
        if rental.state == "CHECKED_IN":
            self._charge(rental, 0)
        else:
            self._end(rental, owner=rental.held if rental.state == "CLAIMED" else 0)

    def _end(self, rental: ModelRental, *, owner: int) -> None:
        self.credits[_OWNER] += owner
        self.credits[_RENTER] += rental.held - owner
        rental.state, rental.deadline, rental.held, rental.claimed = "CLOSED", 0, 0, 0
        rental.came = rental.left = 0

    @rule(actor=st.sampled_from([_OWNER, _RENTER, _RENTER, _ARBITER]), amount=st.integers(1, 2000))
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
        for rental in self.all_rentals:
            calls += [stage.escrow.rental_of(rental.id), stage.escrow.times_of(Bytes32(rental.id))]
        answers = iter(stage.chain.call_many(calls))
        assert [next(answers) for _ in stage.accounts] == self.credits
        assert next(answers) - stage.others == sum(self.credits) + sum(rental.held for rental in self.all_rentals)
        for rental in self.all_rentals:
            answer, times = next(answers), next(answers)
            assert answer.state.name == rental.state
            assert (answer.held, answer.claimed) == (rental.held, rental.claimed)
            assert (times.checked_in_at, times.checked_out_at) == (rental.came, rental.left)
            deadline = rental.deadline and self.start + rental.deadline
            assert 0 <= answer.deadline - deadline <= (_MARGIN if deadline else 0)

    def _latest(self, rental: ModelRental) -> int:
        """Return when a rental's money is out if nobody but a stranger does anything from now on."""
        return max(rental.deadline, self.now) + (_WINDOW if rental.state == "CHECKED_IN" else 0)

    def teardown(self) -> None:
        """A stranger closes what is open, deadline by deadline; then everybody who is paid takes it all out."""
        if not hasattr(self, "credits"):
            return
        self.over = True
        latest = max((self._latest(rental) for rental in self.all_rentals), default=self.now)
        while live := [rental for rental in self.all_rentals if rental.state != "CLOSED"]:
            first = min(live, key=lambda rental: rental.deadline)
            if self.now < first.deadline:
                self.stage.chain.increase_time(first.deadline - self.now + 60)
                self.now = first.deadline
            self.close(_STRANGER, first)
        assert self.now <= latest
        self.silences.update(ROLES[role] for role in self.fell_silent)
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


ENOUGH = {
    "open": 36, "openWithAuthorization": 30, "cancelNonce": 6, "refund": 6, "handOver": 54, "checkIn": 18,
    "checkOut": 42, "claim": 30, "accept": 6, "reject": 15, "rule": 6, "waive": 6, "withdraw": 20, "relay": 75,
    "close OPENED": 6, "close ACTIVE": 6, "close CHECKED_IN": 6, "close CHECKED_OUT": 6, "close CLAIMED": 6,
    "close DISPUTED": 6,
}  # fmt: skip
"""How often each function must have gone through before the teardowns."""


@pytest.mark.timeout(900)
def test_escrow__when_anything_is_done_in_any_order__does_what_the_model_says(
    devnet: Chain, capfd: pytest.CaptureFixture[str]
) -> None:
    Rent.stage = Stage(devnet)
    for counter in (Rent.went, Rent.refused, Rent.silences):
        counter.clear()

    for Rent.endings in zip(list(ENDINGS)[::2], [*list(ENDINGS)[1::2], "rule"], strict=True):
        run_state_machine_as_test(
            Rent,
            settings=settings(
                max_examples=6,
                stateful_step_count=20,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )

    with capfd.disabled():
        sys.stdout.write(
            f"\n  the escrow's state machine: {dict(Rent.went)} went, {dict(Rent.refused)} refused as predicted, "
            f"{dict(Rent.silences)} fell silent\n"
        )
    assert {name: Rent.went[name] for name, floor in ENOUGH.items() if Rent.went[name] < floor} == {}
    assert Rent.refused.total() > 80
    assert {role: Rent.silences[role] for role in ROLES.values() if Rent.silences[role] < 2} == {}
