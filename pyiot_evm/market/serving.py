"""Sellers in the background: one thread a seller and chain, alive as long as the chain object.

Whoever sells must answer orders. A program that calls ``Machine.sell`` gets that for free: the first sale on a chain
object starts a thread that runs the seller's loop, and closing the chain (leaving ``with Devnet()``) stops and joins
it. A process that ends sooner loses nothing: the loop's state is in the journal, and ``pyiot data serve`` or the next
``Machine.serve`` goes on.

Example:
    >>> from types import SimpleNamespace
    >>> seller = BackgroundSeller(SimpleNamespace(run=lambda stop: stop.wait()), name="sensor")
    >>> seller.start(), seller.is_running, seller.close(), seller.is_running
    (None, True, None, False)
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import PyIotEvmError

if TYPE_CHECKING:
    from pyiot_evm.market.seller import SellerLoop

__all__ = ["BackgroundSeller"]

_log = logging.getLogger(__name__)
_JOIN_SECONDS = 10.0


class BackgroundSeller:
    """A thread that runs one seller's loop.

    Args:
        loop: The loop.
        name: Names the thread.
    """

    def __init__(self, loop: SellerLoop, *, name: str) -> None:
        self._loop = loop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pyiot-seller-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop the thread and wait until what it was doing is done; a second call does nothing."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        try:
            self._loop.run(self._stop)
        except PyIotEvmError as error:
            _log.error("the seller in the background stopped: %s", error)
