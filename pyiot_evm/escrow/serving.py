"""The loops that watch an account's rentals, as owner, as renter and as arbiter, and never miss a deadline.

Each step looks at the chain once, begins whatever can be done now for every rental, and then waits for all of it. A
rental that cannot be served does not stop the others, nor does a policy that raises; a node that does not answer is
asked again. What was begun is in
the journals, so a loop can be killed at any line, and two loops of one account do everything once.

Example:
    >>> import threading
    >>> stop = threading.Event()
    >>> stop.set()
    >>> RentalLoop([], poll=0.1).run(stop)
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pyiot_evm.callbacks import tell_each
from pyiot_evm.exceptions import ConsistencyError, PyIotEvmError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from pyiot_evm.chain.calls import Call
    from pyiot_evm.escrow.clerk import Act, Clerk
    from pyiot_evm.escrow.records import RentalRecord, Role
    from pyiot_evm.types import RentalId

__all__ = ["RentalAction", "RentalLoop", "Step", "Watch"]

_log = logging.getLogger(__name__)
_TROUBLE = (PyIotEvmError, sqlite3.Error, OSError)  # what may be gone at the next look: a node, a lock, a full disk


@dataclass(frozen=True, slots=True)
class RentalAction:
    """One thing that a loop did, could not do, or leaves to a person.

    What awaits a person is told once by each loop, and again by the next one: it follows from where the rental stands.

    Attributes:
        kind: ``handed-over``, ``refunded``, ``checked-in``, ``checked-out``, ``claimed``, ``waived``, ``accepted``,
            ``rejected``, ``ruled``, ``closed``, ``withdrawn``, ``late`` (too near the deadline to hand over) or
            ``failed``; or what awaits a person: ``awaits-claim`` (the owner may claim, or waive), ``awaits-answer``
            (the renter accepts or rejects), ``awaits-ruling`` (the arbiter rules), ``awaits-signature`` (a member of
            the arbiter's account signs a ruling), ``awaits-evidence`` (the owner shows readings), ``awaits-court``
            (the owner takes the claim to the court).
        role: As what.
        rental_id: The rental, where it was about one.
        transaction: The hash, where there was one.
        gas: The gas it used.
        error: Why it failed.
        deadline: Until when it awaits a person, Unix seconds; the default of the rental's state comes then.
    """

    kind: str
    role: Role
    rental_id: RentalId | None = None
    transaction: str = ""
    gas: int = 0
    error: PyIotEvmError | None = None
    deadline: int = 0

    @property
    def awaits_a_person(self) -> bool:
        """Whether nothing was done, and somebody is to decide."""
        return self.kind.startswith("awaits-")


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about a rental now.

    Attributes:
        purpose: The transaction's kind, one word.
        kind: What it is called once it is done.
    """

    purpose: str
    kind: str
    call: Call[None]


class Watch(Protocol):
    """What one role does about its rentals."""

    clerk: Clerk
    role: Role

    def look(self) -> list[RentalRecord]:
        """Return the rentals that are not over, as the chain has them."""

    def decide(self, record: RentalRecord, now: int) -> Step | RentalAction | None:
        """Say what is to be done about a rental now."""

    def finish(self) -> list[RentalAction]:
        """Do what is to be done at the end of a step."""


class RentalLoop:
    """Watches rentals.

    Args:
        watches: One for each role.
        poll: Seconds between two looks at the chain.
    """

    def __init__(self, watches: Sequence[Watch], *, poll: float) -> None:
        self._watches = watches
        self._poll = poll
        self._told: dict[tuple[Role, RentalId | str], str] = {}

    def run(self, stop: threading.Event, *, report: Callable[[RentalAction], None] | None = None) -> None:
        """Watch until ``stop`` is set. A chain that does not answer is asked again; so is a disk that is full.

        Args:
            stop: Ends the loop.
            report: Called with each action; what it raises is logged.

        Raises:
            ConsistencyError: The chain is not the one that the journal is about.
        """
        while not stop.is_set():
            try:
                self.step(report=report)
            except ConsistencyError:
                raise
            except _TROUBLE as error:
                if stop.is_set():
                    return
                _log.warning("something did not work, trying again: %s", error)
            stop.wait(self._poll)

    def step(self, *, report: Callable[[RentalAction], None] | None = None) -> list[RentalAction]:
        """Look once at the chain and do what can be done now; safe to call at any time and from several processes.

        Args:
            report: Called with each action as it is done; what it raises is logged.

        Raises:
            TransportError: The chain did not answer.
        """
        return tell_each("the report of a rental loop", report, self._act())

    def _act(self) -> Iterator[RentalAction]:
        """Begin what is due in every role before any of it is waited for.

        What one rental waits for, a transaction that no block takes for example, must cost no other one its deadline.
        """
        failures: list[Exception] = []
        begun: list[tuple[Watch, RentalAction | tuple[Act, str]]] = []
        for watch in self._watches:
            try:
                begun += [(watch, item) for item in _begin_all(watch)]
            except _TROUBLE as error:  # one role's trouble must not make the others miss a deadline
                failures.append(error)
        ends: list[Callable[[], list[RentalAction]]] = [partial(_end, *each) for each in begun]
        for end in (*ends, *(watch.finish for watch in self._watches)):
            try:
                done = end()
            except _TROUBLE as error:
                failures.append(error)
            else:
                yield from (action for action in done if self._is_news(action))
        if failures:
            raise failures[0]

    def _is_news(self, action: RentalAction) -> bool:
        """Whether to tell of an action: what fails again and again for one reason, or awaits a person, once."""
        why = "" if action.error is None else action.error.message
        if action.awaits_a_person:
            why = f"{action.kind} until {action.deadline}"
        subject = (action.role, action.rental_id or why)
        is_told = bool(why) and self._told.get(subject) == why
        self._told[subject] = why
        return not is_told


def _begin_all(watch: Watch) -> list[RentalAction | tuple[Act, str]]:
    records = watch.look()
    now = watch.clerk.now() if records else 0
    return [item for record in records if (item := _begin(watch, record, now)) is not None]


def _end(watch: Watch, begun: RentalAction | tuple[Act, str]) -> list[RentalAction]:
    action = begun if isinstance(begun, RentalAction) else _conclude(watch, *begun)
    return [] if action is None else [action]


def _begin(watch: Watch, record: RentalRecord, now: int) -> RentalAction | tuple[Act, str] | None:
    from pyiot_evm.escrow.clerk import Act  # noqa: PLC0415 - the chain's part is slow to import

    try:
        step = watch.decide(record, now)
        if step is None or isinstance(step, RentalAction):
            return step
        return Act(record, watch.clerk.begin(record.rental_id, step.purpose, step.call)), step.kind
    except PyIotEvmError as error:
        return _failed(watch, record, error)


def _conclude(watch: Watch, act: Act, kind: str) -> RentalAction | None:
    record, clerk = act.record, watch.clerk
    try:
        fresh = clerk.conclude(act)
    except PyIotEvmError as error:
        return _failed(watch, record, error)
    sent = [item for item in clerk.transactions(record.rental_id) if item.purpose == act.started.purpose]
    last = sent[-1] if sent else None
    if fresh.state is record.state:
        kind = "failed"
    return RentalAction(kind, watch.role, record.rental_id, last.hash if last else "", last.gas if last else 0)


def _failed(watch: Watch, record: RentalRecord, error: PyIotEvmError) -> RentalAction | None:
    """Return a failure, unless somebody else did what was to be done; a chain that is gone is the loop's trouble."""
    (fresh,) = watch.clerk.refresh([record])
    _log.info("rental %s (%s): %s", record.rental_id, fresh.state, error)
    if fresh.state is not record.state:
        return None
    return RentalAction("failed", watch.role, record.rental_id, error=error)
