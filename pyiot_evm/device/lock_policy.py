"""How a lock is set, and what it is built into: its tolerance and limits, its bolt, its sensors, its meter.

Example:
    >>> LockPolicy(tolerance=30).tolerance, LockHardware().meter()
    (30, 0)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["LockHardware", "LockPolicy", "hash_in", "number_in"]

_MAX_TOLERANCE: Final = 3600
_DAY: Final = 24 * 3600
_NUMBER: Final = re.compile(rb"([0-9]{1,40})(?:\.[0-9]*)?(?:\s|$)")
_MAX_NUMBER: Final = 256


@dataclass(frozen=True, slots=True)
class LockPolicy:
    """How a lock is set.

    Attributes:
        tolerance: Seconds that the lock's clock may be wrong: so much earlier and later than the slot it opens, and so
            much its clock may go back.
        challenge_life: Seconds that a challenge is good; who asks gets at least half of that.
        check_out_after: Seconds after the slot's end at which the lock checks out by itself, before the escrow's day of
            grace is over, unless the next renter comes before; None for never.
        free_tries: So many failed tries are each logged; after that the log backs off.
        max_slots: So many slots that are not over it holds at once.
        beat: Seconds after which it notes the time and the meter when nothing else happens.
        compact_at: Bytes of journal from which on it is written anew.

    Raises:
        InputError: A value that would make a lock that opens too widely or never.
    """

    tolerance: int = 60
    challenge_life: int = 60
    check_out_after: int | None = 3600
    free_tries: int = 8
    max_slots: int = 256
    beat: int = 900
    compact_at: int = 1 << 20

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= _MAX_TOLERANCE:
            raise InputError(f"the tolerance is 0 to {_MAX_TOLERANCE} seconds, not {self.tolerance}")
        if not 2 <= self.challenge_life <= _MAX_TOLERANCE:  # noqa: PLR2004 - half of it must be a second
            raise InputError(f"a challenge is good for 2 to {_MAX_TOLERANCE} seconds, not {self.challenge_life}")
        if self.check_out_after is not None and not 0 <= self.check_out_after < _DAY:
            raise InputError(
                f"the lock checks out by itself within a day after the end, not after {self.check_out_after} seconds",
                hint="the escrow takes a check-out until a day after the slot's end",
            )
        if min(self.free_tries, self.max_slots, self.beat, self.compact_at) < 1:
            raise InputError("free tries, slots, beat and journal size are each at least 1")


def _nothing() -> None:
    """Move no bolt."""


def _no_condition() -> bytes:
    return bytes(32)


def _no_meter() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class LockHardware:
    """What a lock is built into. Each is called while the lock is held: it returns within seconds.

    Attributes:
        unlock: Moves the bolt; raises when it does not move.
        condition: keccak256 of what the sensors see (a photo, an odometer), or zero; an OSError of it counts as zero.
        meter: What was ever used (kWh, hours); it only grows, and only whole units count: decimals are cut off. An
            OSError or ValueError of it counts as the last reading that is known.
    """

    unlock: Callable[[], None] = _nothing
    condition: Callable[[], bytes] = _no_condition
    meter: Callable[[], float] = _no_meter


def number_in(path: Path) -> Callable[[], int]:
    """Return what reads a number from a file: a meter or a clock of the kernel, or one that a program keeps.

    Decimals are cut off, ``1012.9`` is 1012, and what follows a space is not read: ``1012 kWh``.

    Raises:
        OSError: (when called) There is no such file.
        ValueError: (when called) It holds no number, or one below zero.
    """

    def read() -> int:
        with path.open("rb") as file:
            text = file.read(_MAX_NUMBER).strip()
        found = _NUMBER.match(text)
        if found is None:
            raise ValueError(f"{path} holds no number: {text[:40].decode(errors='replace')!r}")
        return int(found[1])

    return read


def hash_in(path: Path) -> Callable[[], bytes]:
    """Return what hashes a file as it is then: a photo, an inventory.

    Raises:
        OSError: (when called) There is no such file.
    """
    return lambda: keccak256(path.read_bytes())
