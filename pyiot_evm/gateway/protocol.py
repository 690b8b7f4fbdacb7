"""HTTP/1.1 with bounds in time: uvicorn itself waits for ever for a head that drips in, and for slow readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["HEAD_SECONDS", "MAX_CONNECTIONS", "READ_SECONDS", "BoundedProtocol"]

HEAD_SECONDS: Final = 10.0
"""How long a client has for the head of a request, and for a body that nobody wants."""
READ_SECONDS: Final = 30.0
"""How long a client may leave what waits for it unread; a part of it, tens of kilobytes, begins the time anew."""
MAX_CONNECTIONS: Final = 512


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol, which closes connections that are too slow, or too many."""

    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _is_websocket = False

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a head."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take what came; the time for a head is not longer because a part of it came."""
        super().data_received(data)
        cycle: Any = self.cycle  # None before the first request
        if cycle is not None and not cycle.response_complete:
            self._forget_head()
        elif self._head is None and not self._is_websocket:
            self._wait_for_head()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Leave the connection to the protocol of streams, which has bounds of its own."""
        self._is_websocket = True
        self._forget_head()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Give the connection its idle time."""
        super().on_response_complete()
        self._forget_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget_head()
        self._forget_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for a client that does not read."""
        super().pause_writing()
        self._forget_unread()
        self._unread = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it reads."""
        super().resume_writing()
        self._forget_unread()

    def _wait_for_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
