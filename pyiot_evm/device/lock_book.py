"""What a lock remembers, and how: the journal on the disk and the state in memory, kept equal.

Whatever changes is a record; it is durable before it is true. Numbers of challenges are reserved in the journal before
they are used, so none comes twice after a power loss, and refusals are logged so that a flood cannot fill the disk.

Example:
    >>> import tempfile, pathlib
    >>> from pyiot_evm.device.lock_policy import LockPolicy
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "door.lock"
    >>> with LockBook.open(path, identity={"device": "0x00"}, clock=lambda: 7, policy=LockPolicy()) as book:
    ...     print(book.next_counter(), book.next_counter(), book.clock.read())
    1 2 7
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from pyiot_evm.callbacks import tell
from pyiot_evm.device.lock_guards import Backoff, GuardedClock
from pyiot_evm.device.lock_journal import LockJournal
from pyiot_evm.device.lock_messages import AccessError, Refusal
from pyiot_evm.device.lock_state import LockState
from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from pyiot_evm.device.lock_policy import LockPolicy
    from pyiot_evm.device.lock_state import Try
    from pyiot_evm.types import TermsId

__all__ = ["LockBook"]

_LOG: Final = logging.getLogger(__name__)
_RESERVE: Final = 64


class LockBook:
    """A lock's memory. Make one with :meth:`open`.

    Attributes:
        identity: The lock's device, key and owner.
        state: What is known.
        clock: The lock's clock.
        backoff: How far the log backs off.
    """

    def __init__(
        self,
        *,
        journal: LockJournal,
        state: LockState,
        identity: dict[str, str],
        clock: GuardedClock,
        policy: LockPolicy,
        watch: Callable[[Try], None] | None = None,
    ) -> None:
        self.identity = identity
        self.state = state
        self.clock = clock
        self.backoff = Backoff(policy.free_tries)
        self._journal = journal
        self._watch = watch
        self._counter = state.counter
        self._least = self._compact_at = policy.compact_at

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        identity: dict[str, str],
        clock: Callable[[], float],
        policy: LockPolicy,
        watch: Callable[[Try], None] | None = None,
    ) -> Self:
        """Read a lock's journal, or begin one.

        Raises:
            InputError: It is of a lock with another identity.
            ConfigurationError: Another process has it.
            ConsistencyError: It is damaged, or an older copy.
        """
        journal = LockJournal.open(path)
        try:
            state = LockState()
            for record in journal.records:
                state.apply(record)
            journal.records.clear()
            guarded = GuardedClock(clock, tolerance=policy.tolerance, seen=state.latest)
            if not state.identity:
                begun = {"kind": "begun", "time": guarded.raw(), "identity": identity}
                journal.append(begun)
                state.apply(begun)
                guarded.trust()
            _require_same(path, state.identity, identity)
        except BaseException:
            journal.close()
            raise
        return cls(journal=journal, state=state, identity=identity, clock=guarded, policy=policy, watch=watch)

    def write(self, record: dict[str, Any]) -> None:
        """Make a record durable, then true.

        Raises:
            TransportError: The disk is full or broken; nothing changed.
        """
        record["time"] = self.clock.seen
        last = self.state.tries[-1] if self.state.tries else None
        self._journal.append(record)
        self.state.apply(record)
        if self.state.tries and self.state.tries[-1] is not last:
            tell("the lock's watch", self._watch, self.state.tries[-1])
        if self._journal.size > self._compact_at:
            self._compact()

    def _compact(self) -> None:
        summary = self.state.summary(self.identity)
        try:
            self._journal.rewrite(summary)
        except OSError as error:
            _LOG.warning("the lock's journal is not written anew yet: %s", error)
            return
        self.state.apply(summary)
        self._compact_at = max(self._least, 2 * self._journal.size)

    @staticmethod
    def read(path: Path) -> LockState:
        """Return what the journal of a lock says, while another process may be writing it.

        Raises:
            InputError: There is none.
            ConsistencyError: It is damaged.
        """
        state = LockState()
        for record in LockJournal.read(path):
            state.apply(record)
        return state

    @property
    def counter(self) -> int:
        """The highest number that a challenge can have had."""
        return self._counter

    def next_counter(self) -> int:
        """Return a number that no challenge had."""
        if self._counter >= self.state.counter:
            self.write({"kind": "reserved", "counter": self._counter + _RESERVE})
        self._counter += 1
        return self._counter

    def refuse(
        self, reason: Refusal, what: str, terms_id: TermsId | None, detail: str, *, proven: bool = False
    ) -> NoReturn:
        """Log a failed try and refuse. In a flood, only who proved the access key hears more than that it is one.

        Raises:
            AccessError: Always.
        """
        now = self.clock.seen
        if self.backoff.is_logged(now):
            self.log_unlogged()
            self.log_refusal(reason, what, terms_id)
        elif not proven:
            wait = self.backoff.until - now
            raise AccessError(Refusal.TOO_MANY_TRIES, f"{reason}; for {wait} seconds such tries are only counted")
        raise AccessError(reason, detail)

    def log_refusal(self, reason: Refusal, what: str, terms_id: TermsId | None, count: int = 1) -> None:
        """Log a failed try, or many."""
        record: dict[str, Any] = {"kind": "refused", "what": str(what), "reason": reason.value}
        if terms_id is not None:
            record["termsId"] = str(terms_id)
        if count > 1:
            record["count"] = count
        self.write(record)

    def log_unlogged(self) -> None:
        """Log as a number what the backoff held back."""
        if count := self.backoff.take():
            self.log_refusal(Refusal.TOO_MANY_TRIES, "any", None, count)

    def close(self) -> None:
        """Log what was held back and let go of the journal."""
        self.log_unlogged()
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_same(path: Path, known: dict[str, str], given: dict[str, str]) -> None:
    for name, value in given.items():
        if known.get(name) != value:
            raise InputError(
                f"{path} is the journal of a lock with the {name} {known.get(name)}, not {value}",
                hint="a lock keeps its device, its key and its owner; begin a new journal for another one",
            )
