"""What a lock looks at before it does anything: its clock, the owner's terms, the slot, and how many tries there were.

Example:
    >>> clock = GuardedClock(lambda: 100, tolerance=10, seen=105)
    >>> clock.read(), GuardedClock(lambda: 94, tolerance=10, seen=105).read()
    (105, None)
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pyiot_evm.device.lock_messages import Purpose, Refusal
from pyiot_evm.device.signers import verify_signature
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyiot_evm.device.lock_slots import Slot
    from pyiot_evm.device.lock_state import LockState, Use

__all__ = ["Backoff", "GuardedClock", "closed_because", "objections"]

_LOG: Final = logging.getLogger(__name__)
_FORGET: Final = 600
_MAX_QUIET: Final = 300
_MAX_DOUBLINGS: Final = 9


class GuardedClock:
    """A clock that never goes back.

    Args:
        clock: Unix seconds.
        tolerance: So many seconds it may go back; then it stands still until it is where it was.
        seen: The latest time that it showed before.
    """

    def __init__(self, clock: Callable[[], float], *, tolerance: int, seen: int) -> None:
        self._clock = clock
        self._tolerance = tolerance
        self.seen = seen

    def raw(self) -> int:
        """Return what the clock says; 0 when it says nothing."""
        try:
            return max(int(self._clock()), 0)
        except (OSError, ValueError) as error:
            _LOG.warning("the lock's clock does not answer: %s", error)
            return 0

    def read(self) -> int | None:
        """Return the time; None when the clock went back by more than the tolerance."""
        now = self.raw()
        if now < self.seen - self._tolerance:
            return None
        self.seen = max(now, self.seen)
        return self.seen

    def trust(self) -> None:
        """Take the clock as it is."""
        self.seen = self.raw()


class Backoff:
    """How a lock keeps a flood of tries from filling its journal: after some, it logs the others as a number.

    Args:
        free: So many failed tries are each logged.
    """

    def __init__(self, free: int) -> None:
        self._free = free
        self._failures = self._last = 0
        self.until = 0
        self.unlogged = 0

    def is_logged(self, now: int) -> bool:
        """Count a failed try, and return whether it has an entry of its own."""
        if now < self.until:
            self.unlogged += 1
            return False
        if now - self._last > _FORGET:
            self._failures = 0
        self._failures, self._last = self._failures + 1, now
        if self._failures >= self._free:
            self.until = now + min(1 << min(self._failures - self._free, _MAX_DOUBLINGS), _MAX_QUIET)
        return True

    def take(self) -> int:
        """Return how many tries were not logged, and begin to count again."""
        count, self.unlogged = self.unlogged, 0
        return count


def objections(
    slot: Slot, state: LockState, *, owner: Address, device: bytes, pinned: bytes, now: int, most: int
) -> Iterator[tuple[Refusal, str]]:
    """Give what speaks against a slot.

    Args:
        slot: What the lock shall be programmed with.
        state: What it knows.
        owner: Whose terms it obeys.
        device: Its device id.
        pinned: keccak256 of its signer bytes.
        now: The time.
        most: So many slots that are not over it holds.
    """
    terms = slot.terms
    key_of = state.used_keys.get(slot.key_address.hex())
    if terms.owner != owner:
        yield Refusal.OTHER_OWNER, f"the terms are {Address(terms.owner)}'s"
    if not verify_signature(owner, slot.terms_id, slot.signature):
        yield Refusal.NOT_SIGNED, f"{owner} did not sign these terms"
    if terms.device != device:
        yield Refusal.OTHER_DEVICE, f"the terms are for 0x{terms.device.hex()}"
    if terms.signer_hash != pinned:
        yield Refusal.OTHER_SIGNER, f"the terms pin 0x{terms.signer_hash.hex()}"
    if key_of is not None:
        yield Refusal.KEY_USED, f"the access key is that of {key_of}"
    if now >= terms.end:
        yield Refusal.ENDED, f"the slot ended at {_utc(terms.end)}, and it is {_utc(now)}"
    if (held := sum(now < use.slot.terms.end for use in state.uses.values())) >= most:
        yield Refusal.FULL, f"it has {held} slots that are not over"


def closed_because(use: Use, purpose: Purpose, now: int, tolerance: int) -> tuple[Refusal, str] | None:
    """Return why a slot does not open, or cannot be checked out, at a time; None when it can."""
    terms = use.slot.terms
    if use.check_out is not None:
        return Refusal.CHECKED_OUT, "the rental is over"
    if purpose is Purpose.CHECK_OUT:
        return (Refusal.NOT_CHECKED_IN, "nobody came in yet") if use.check_in is None else None
    if now < terms.start - tolerance:
        return Refusal.TOO_EARLY, f"the slot begins at {_utc(terms.start)}, and it is {_utc(now)}"
    if now >= terms.end + tolerance:
        return Refusal.ENDED, f"the slot ended at {_utc(terms.end)}, and it is {_utc(now)}"
    return None


def _utc(seconds: int) -> str:
    """Write a time for people; a stranger's terms can name one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return str(seconds)
