"""Which readings lie between two times, found by bisection whatever the device's clock did.

Readings are dealt into runs in which the time never falls, each to the first run that takes it. A clock that is never
set back makes one run; each time that it is, one more at most.

Example:
    >>> index = TimeIndex()
    >>> for time in (10, 20, 90, 30, 40):  # the clock was wrong once
    ...     index.add(time)
    >>> index.between(20, 41), index.between(50, 60)
    ((1, 4), None)
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field

__all__ = ["TimeIndex"]


@dataclass(frozen=True, slots=True)
class _Run:
    """Times that never fall, and their places in the whole."""

    times: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("Q"))


class TimeIndex:
    """The times of readings, in the order of their numbers."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []  # the last times of the runs fall from one to the next
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, time: int) -> None:
        """Add the next reading's time, Unix milliseconds."""
        place = bisect_left(self._runs, -time, key=lambda run: -run.times[-1])
        if place == len(self._runs):
            self._runs.append(_Run())
        self._runs[place].times.append(time)
        self._runs[place].places.append(self._count)
        self._count += 1

    def between(self, start: int | None, end: int | None) -> tuple[int, int] | None:
        """Return the places of the first and the last reading at or after ``start`` and before ``end``."""
        found: list[int] = []
        for run in self._runs:
            first = 0 if start is None else bisect_left(run.times, start)
            after = len(run.times) if end is None else bisect_left(run.times, end)
            if first < after:
                found += (run.places[first], run.places[after - 1])
        return (min(found), max(found)) if found else None
