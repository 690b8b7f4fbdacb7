"""Turns: what may not happen twice at once happens one after the other, for a few who wait.

A payment that is shown twice at the same moment must pay once: the second one is looked at when the first is settled.
So are the requests of one channel, which x402 serves one at a time. Gateways of one account share their turns through
locks in a folder; names share 256 of them, so that the folder does not grow.

Example:
    >>> import pathlib, tempfile
    >>> turns = Turns(waiting=1, folder=pathlib.Path(tempfile.mkdtemp()))
    >>> with turns.taken(["channel 1", "payment 2"]) as is_mine:
    ...     is_mine
    True
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pyiot_evm.hashing import keccak256
from pyiot_evm.market.locks import file_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Turns"]


class Turns:
    """Locks by name, each there only while somebody holds it or waits for it.

    Args:
        waiting: How many may wait for one name.
        folder: Where the locks are that other processes see.
    """

    def __init__(self, *, waiting: int, folder: Path) -> None:
        self._folder = folder
        self._most = waiting + 1
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def taken(self, names: Sequence[str]) -> Iterator[bool]:
        """Hold all names, taken in their order; ``False`` where too many wait for one of them."""
        with ExitStack() as stack:
            is_mine = all(stack.enter_context(self._one(name)) for name in names)
            if is_mine:
                places = {keccak256(name.encode())[0] for name in names}
                for place in sorted(places):  # in order, so that nobody waits in a ring
                    stack.enter_context(file_lock(self._folder / f"{place:02x}.lock"))
            yield is_mine

    @contextmanager
    def _one(self, name: str) -> Iterator[bool]:
        with self._guard:
            lock, users = self._locks.get(name, (threading.Lock(), 0))
            may_wait = users < self._most
            if may_wait:
                self._locks[name] = (lock, users + 1)
        if not may_wait:
            yield False
            return
        try:
            with lock:
                yield True
        finally:
            with self._guard:
                users = self._locks[name][1] - 1
                if users:
                    self._locks[name] = (lock, users)
                else:
                    del self._locks[name]
