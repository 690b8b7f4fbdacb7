"""What each role does about a rental, state by state: the loops' rules.

==============  =======================================  ==============================================  ==============
state           owner                                    renter                                          arbiter
==============  =======================================  ==============================================  ==============
opened          hands over, or refunds a bad mask        after the deadline: takes everything back
active          shows check-in and check-out, if held    takes the key; shows check-in and check-out;
                                                         after the deadline: takes everything back
checked-in      the same; after the deadline: the fee    shows the check-out; after the deadline: cap
checked-out     claims, or waives, by its policy         after the deadline: takes the deposit
claimed         after the deadline: takes the claim      accepts or rejects, by its policy
disputed        shows readings; enforces a court's word  enforces; after the deadline: takes the claim   rules
==============  =======================================  ==============================================  ==============

Where a policy leaves it to a person whether to claim, what to answer or how to rule, the loop says so, once.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> with Devnet() as chain:
    ...     owner, renter = Machine.create(chain, "owner", curve="p256"), Machine.create(chain, "renter")
    ...     offer = owner.rent_out("Bay 7", start=chain.now(), end=chain.now() + 3600, fee="0.50", deposit=20)
    ...     _ = renter.rentals.open(offer)
    ...     [(done.role.value, done.kind) for done in owner.rentals.serve(once=True)]
    [('owner', 'handed-over')]
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pyiot_evm.callbacks import ask, each
from pyiot_evm.escrow.policies import Claim
from pyiot_evm.escrow.records import Role, State
from pyiot_evm.escrow.rulings import Rulings
from pyiot_evm.escrow.serving import RentalAction, Step
from pyiot_evm.escrow.views import view
from pyiot_evm.exceptions import CallbackError, InputError, PyIotEvmError, TransportError

if TYPE_CHECKING:
    from pyiot_evm.escrow.arbiter import Arbiter
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.owner import Owner
    from pyiot_evm.escrow.policies import ArbiterPolicy, OwnerPolicy, RenterPolicy
    from pyiot_evm.escrow.records import RentalRecord
    from pyiot_evm.escrow.renter import Renter
    from pyiot_evm.types import Address, RentalId

__all__ = ["ArbiterWatch", "OwnerWatch", "RenterWatch", "closing_purpose"]

_log = logging.getLogger(__name__)


class OwnerWatch:
    """The owner's rules.

    Args:
        clerk: Whose.
        owner: What an owner can do.
        policy: How it acts.
    """

    role = Role.OWNER

    def __init__(self, clerk: Clerk, *, owner: Owner, policy: OwnerPolicy) -> None:
        self.clerk = clerk
        self._owner = owner
        self._policy = policy
        self._late: set[RentalId] = set()
        self._confirmed: set[object] = set()

    def look(self) -> list[RentalRecord]:
        """Return the rentals that are not over."""
        records = self._owner.look()
        self._confirmed = self._owner.confirmed([record for record in records if record.state is State.OPENED])
        return records

    def decide(self, record: RentalRecord, now: int) -> Step | RentalAction | None:
        """Say what is to be done about a rental now."""
        is_over = now >= record.deadline
        if record.state is State.OPENED:
            return None if is_over else self._answer(record, now)
        if record.state in (State.ACTIVE, State.CHECKED_IN) and not is_over:
            return shown(self.clerk, record, now, check_in=self._policy.check_in)
        if record.state is State.CHECKED_IN:
            return _closing(self.clerk, record)
        if record.state is State.CHECKED_OUT and not is_over:
            return self._claim(record) or awaiting(self.role, record, "claim")
        if record.state is State.DISPUTED and not is_over:
            return self._prove(record) or enforced(self.clerk, record) or self._asked(record)
        return _closing(self.clerk, record) if record.state is State.CLAIMED and is_over else None

    def finish(self) -> list[RentalAction]:
        """Take out what was earned, where the policy says so."""
        return withdrawn(self.clerk, self.role) if self._policy.withdraw else []

    def _answer(self, record: RentalRecord, now: int) -> Step | RentalAction | None:
        decision = record.decision
        if decision is None and record.rental_id in self._confirmed:
            decision = self._owner.judge(record)
        if decision == "refund":
            return Step("refund", "refunded", self.clerk.contract.refund(self.clerk.struct(record)))
        if self._owner.is_in_time(record, now):
            if record.rental_id not in self._confirmed:
                return None
            return Step("hand-over", "handed-over", self._owner.hand_over_call(record))
        if record.rental_id in self._late:
            return None
        self._late.add(record.rental_id)
        _log.warning("rental %s is too close to its deadline to be handed over", record.rental_id)
        return RentalAction("late", self.role, record.rental_id)

    def _claim(self, record: RentalRecord) -> Step | None:
        claim = None
        if self._policy.claim is not None:
            claim = ask(
                "the owner's policy, asked for a claim,", self._policy.claim, view(self.clerk, record), kind=Claim
            )
        if claim is not None and claim.amount:
            if claim.amount > record.offer.terms.deposit:
                terms = record.offer.terms
                wanted, most = (self.clerk.money(terms.token, units) for units in (claim.amount, terms.deposit))
                raise InputError(f"the claim is {wanted}, the deposit {most}")
            call = self.clerk.contract.claim(self.clerk.struct(record), claim.amount, claim.evidence)
            return Step("claim", "claimed", call)
        if claim is not None or (self._policy.waive and self._policy.claim is None):
            return Step("waive", "waived", self._owner.waive_call(record))
        return None

    def _prove(self, record: RentalRecord) -> Step | None:
        if self._policy.evidence is None or record.offer.agreement is None:
            return None
        what = "the owner's policy, asked for evidence,"
        readings = ask(what, self._policy.evidence, view(self.clerk, record))
        call = None if readings is None else Rulings(self.clerk).readings_call(record, each(what, readings))
        return None if call is None else Step("rule", "ruled", call)

    def _asked(self, record: RentalRecord) -> RentalAction | None:
        """Say what the owner itself can do in a dispute that silence decides for the renter."""
        if record.offer.agreement is not None:
            return awaiting(self.role, record, "evidence")
        return awaiting(self.role, record, "court") if Rulings(self.clerk).awaits_court(record) else None


class RenterWatch:
    """The renter's rules.

    Args:
        clerk: Whose.
        renter: What a renter can do.
        policy: How it acts.
    """

    role = Role.RENTER

    def __init__(self, clerk: Clerk, *, renter: Renter, policy: RenterPolicy) -> None:
        self.clerk = clerk
        self._renter = renter
        self._policy = policy

    def look(self) -> list[RentalRecord]:
        """Return the rentals that are not over; an access key that was handed over is journalled."""
        return self._renter.look()

    def decide(self, record: RentalRecord, now: int) -> Step | RentalAction | None:
        """Say what is to be done about a rental now."""
        if record.state in (State.DRAFTED, State.NONE):
            return None
        if now >= record.deadline:
            return None if record.state is State.CLAIMED else _closing(self.clerk, record)
        if record.state in (State.ACTIVE, State.CHECKED_IN):
            return shown(self.clerk, record, now, check_in=self._policy.check_in)
        if record.state is State.DISPUTED:
            return enforced(self.clerk, record)
        return self._answer(record, now) if record.state is State.CLAIMED else None

    def finish(self) -> list[RentalAction]:
        """Take out what came back, where the policy says so."""
        return withdrawn(self.clerk, self.role) if self._policy.withdraw else []

    def _answer(self, record: RentalRecord, now: int) -> Step | RentalAction:
        clerk, margin = self.clerk, self._policy.reply_margin(window=record.offer.terms.reply_window)
        is_last_call = now + margin >= record.deadline
        try:
            answer = self._reply(record)
        except CallbackError as error:
            if not is_last_call:
                raise
            _log.warning("rental %s: %s", record.rental_id, error)
            answer = None
        if answer is None and is_last_call:
            _log.warning("rental %s: nobody answered the claim, so it is rejected", record.rental_id)
            answer = False
        if answer is None:
            return awaiting(self.role, record, "answer")
        rental = clerk.struct(record)
        if answer:
            return Step("accept", "accepted", clerk.contract.accept(rental))
        return Step("reject", "rejected", clerk.contract.reject(rental))

    def _reply(self, record: RentalRecord) -> bool | None:
        policy, answer = self._policy, None
        if policy.reply is not None:
            what = "the renter's policy, asked for a reply,"
            answer = ask(what, policy.reply, view(self.clerk, record), kind=bool)
        if answer is None and policy.accept_up_to is not None and policy.token in (None, record.offer.terms.token):
            return record.standing.claimed <= policy.accept_up_to
        return answer


class ArbiterWatch:
    """The arbiter's rules.

    Args:
        clerk: Whose.
        arbiter: What an arbiter can do.
        policy: How it rules.
    """

    role = Role.ARBITER

    def __init__(self, clerk: Clerk, *, arbiter: Arbiter, policy: ArbiterPolicy) -> None:
        self.clerk = clerk
        self._arbiter = arbiter
        self._policy = policy

    def look(self) -> list[RentalRecord]:
        """Return the rentals that are not over."""
        return self._arbiter.look()

    def decide(self, record: RentalRecord, now: int) -> Step | RentalAction | None:
        """Say what is to be done about a rental now."""
        if record.state is not State.DISPUTED or now >= record.deadline:
            return None
        if not self._arbiter.is_alone(record):  # one key of several: its ruling is signed, not sent
            return awaiting(self.role, record, "signature")
        award = self._ruling(record)
        if award is None:
            return awaiting(self.role, record, "ruling")
        return Step("rule", "ruled", self._arbiter.rule_call(record, award))

    def _ruling(self, record: RentalRecord) -> int | None:
        if self._policy.ruling is None:
            return None
        what = "the arbiter's policy, asked for a ruling,"
        return ask(what, self._policy.ruling, view(self.clerk, record), kind=int)

    def finish(self) -> list[RentalAction]:
        """Do nothing: an arbiter is paid nothing here."""
        return []


def awaiting(role: Role, record: RentalRecord, what: str) -> RentalAction:
    """Return what is told where a person is to decide."""
    return RentalAction(f"awaits-{what}", role, record.rental_id, deadline=record.deadline)


def shown(clerk: Clerk, record: RentalRecord, now: int, *, check_in: bool) -> Step | None:
    """Return the step that shows what the device said, where the journal holds it."""
    said = clerk.journal.statement(record.terms_id, "check-out")
    if said is not None:
        return Step("check-out", "checked-out", clerk.statement_call(record, said))
    if not check_in or record.state is not State.ACTIVE or now >= record.offer.terms.end:
        return None
    said = clerk.journal.statement(record.terms_id, "check-in")
    return None if said is None else Step("check-in", "checked-in", clerk.statement_call(record, said))


def enforced(clerk: Clerk, record: RentalRecord) -> Step | None:
    """Return the step that carries a court's ruling to the escrow, where a court has ruled."""
    call = Rulings(clerk).enforce_call(record)
    return None if call is None else Step("enforce", "ruled", call)


def withdrawn(clerk: Clerk, role: Role) -> list[RentalAction]:
    """Take out what an account has in the escrow, in every token that its rentals are in."""
    tokens = {record.offer.terms.token for record in clerk.journal.rentals(clerk.address, role=role)}
    held = [token for token in sorted(tokens) if clerk.chain.call(clerk.contract.credit_of(clerk.address, token))]
    return [action for token in held if (action := _taken_out(clerk, role, token)) is not None]


def _taken_out(clerk: Clerk, role: Role, token: Address) -> RentalAction | None:
    try:
        sent = clerk.withdraw(token)
    except TransportError:
        raise
    except PyIotEvmError as error:  # a token that does not pay must not keep the others back
        return RentalAction("failed", role, error=error)
    return None if sent is None else RentalAction("withdrawn", role, None, sent.hash, sent.gas)


def closing_purpose(state: State) -> str:
    """Return what closing a rental in a state is called: the one that misses its check-out is closed a second time."""
    return "close-missed" if state is State.CHECKED_IN else "close"


def _closing(clerk: Clerk, record: RentalRecord) -> Step:
    return Step(closing_purpose(record.state), "closed", clerk.contract.close(clerk.struct(record)))
