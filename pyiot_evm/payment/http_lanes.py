"""Lanes: one request at a time uses a lane to a payee, and a payer has a few of them.

A lane is a file's lock, so that threads and processes share it, and the system lets go of it when its holder dies.
"""

from __future__ import annotations

import fcntl
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyiot_evm.types import Address

__all__ = ["Lanes"]


class Lanes:
    """The lanes from one account to its payees.

    Args:
        folder: Where their locks lie.
        payer: The account.
        count: How many there are to each payee.
    """

    def __init__(self, folder: Path, payer: Address, count: int) -> None:
        self._folder = folder
        self._payer = payer
        self._count = count

    @contextmanager
    def take(self, payee: Address) -> Iterator[int]:
        """Hold the first lane that is free; where none is, wait for one of them."""
        for lane in range(self._count):
            with self.hold(payee, lane) as is_held:
                if is_held:
                    yield lane
                    return
        lane = secrets.randbelow(self._count)
        with self._locked(payee, lane, fcntl.LOCK_EX):
            yield lane

    @contextmanager
    def hold(self, payee: Address, lane: int) -> Iterator[bool]:
        """Hold a lane if it is free; tell whether it was."""
        try:
            lock = self._locked(payee, lane, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.__enter__()
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            lock.__exit__(None, None, None)

    @contextmanager
    def _locked(self, payee: Address, lane: int, how: int) -> Iterator[None]:
        path = self._folder / f"pay-http-{self._payer}-{payee}-{lane}.lock"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a") as file:
            fcntl.flock(file, how)
            yield
