"""A lock on a wire: lines of JSON over a Unix socket or this computer's loopback, in place of Bluetooth or NFC.

One request a line, one answer a line (``docs/reference/lock-format.md``). Nothing here opens a connection: a lock has
no network, it only listens at its own door. Who connects is bounded in everything: the length of a line, the time for
a visit, the number of lines, and how many stand at the door at once.

Example:
    >>> import tempfile, pathlib, threading
    >>> from pyiot_evm.device import LocalSigner
    >>> from pyiot_evm.device.lock import Lock
    >>> from pyiot_evm.device.lock_client import LockClient
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with Lock.open(folder / "door.lock", signer=LocalSigner.create(), owner=bytes(20)) as lock:
    ...     with LockServer(lock, path=folder / "door"), LockClient(folder / "door") as phone:
    ...         phone.hello().device == lock.device
    True
"""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from pyiot_evm.device.lock_messages import AccessError, Answer, Purpose, parsed, purpose_of, raw
from pyiot_evm.device.lock_slots import Slot
from pyiot_evm.device.schema import canonical_json
from pyiot_evm.exceptions import ConfigurationError, InputError, PyIotEvmError
from pyiot_evm.types import TermsId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from pyiot_evm.device.lock import Lock

__all__ = ["MAX_LINE", "LockServer"]

MAX_LINE: Final = 8192
"""Bytes of one line, its end included."""

_LOG: Final = logging.getLogger(__name__)
_MAX_LINES: Final = 64
_MAX_VISITORS: Final = 16
_VISIT: Final = 60.0
_LOOPBACK: Final = "127.0.0.1"


class LockServer:
    """Listens for a lock, in threads of its own; leaving the context ends it.

    Args:
        lock: The lock.
        path: The Unix socket to make.
        port: The TCP port on the loopback, 0 for any; given in place of ``path``.

    Raises:
        InputError: Neither or both are given, or the path is too long for a socket.
        ConfigurationError: Another lock listens there.
    """

    def __init__(self, lock: Lock, *, path: Path | None = None, port: int | None = None) -> None:
        if (path is None) == (port is None):
            raise InputError("a lock listens either at a Unix socket or at a port")
        self._lock = lock
        self._path = path
        self._port = port
        self._server: socketserver.BaseServer | None = None

    @property
    def port(self) -> int:
        """The TCP port that it listens at.

        Raises:
            InputError: It listens at a Unix socket, or not yet.
        """
        if not isinstance(self._server, _TcpServer):
            raise InputError("the lock does not listen at a port")
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        try:
            if self._path is None:
                self._server = _TcpServer((_LOOPBACK, self._port or 0), self._lock)
            else:
                _make_way(self._path)
                self._server = _UnixServer(str(self._path), self._lock)
                self._path.chmod(0o600)
        except OSError as error:
            where = self._path or f"port {self._port}"
            raise ConfigurationError(
                f"the lock cannot listen at {where}: {error}", hint="choose another place"
            ) from error
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def wait(self, stop: threading.Event, *, seconds: float = 15.0) -> None:
        """Let the lock do what is due, now and then, until an event is set."""
        while True:
            try:
                self._lock.tick()
            except (PyIotEvmError, OSError) as error:  # a full disk may have room again; the lock stays at its door
                _LOG.warning("the lock cannot do what is due: %s", error)
            if stop.wait(seconds):
                return


class _Bounded(socketserver.ThreadingMixIn):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 2 * _MAX_VISITORS
    lock: Lock

    def bound(self, lock: Lock) -> None:
        self.lock = lock
        self._places = threading.BoundedSemaphore(_MAX_VISITORS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a visitor, unless too many are there."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            request.close()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a visitor and give the place free."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note what went wrong with a visitor; the others do not feel it."""
        del request, client_address
        _LOG.warning("a visitor of the lock was dropped", exc_info=True)


class _TcpServer(_Bounded, socketserver.TCPServer):
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], lock: Lock) -> None:
        self.bound(lock)
        super().__init__(address, _Visitor)


class _UnixServer(_Bounded, socketserver.UnixStreamServer):
    def __init__(self, path: str, lock: Lock) -> None:
        self.bound(lock)
        super().__init__(path, _Visitor)


class _Visitor(socketserver.BaseRequestHandler):
    server: _TcpServer | _UnixServer

    def handle(self) -> None:
        """Answer line by line, until the visitor goes, talks too long or says too much."""
        end, data = time.monotonic() + _VISIT, b""
        with suppress(TimeoutError, ConnectionError):
            for _ in range(_MAX_LINES):
                while b"\n" not in data and len(data) <= MAX_LINE:
                    self.request.settimeout(max(end - time.monotonic(), 0.001))
                    part = self.request.recv(MAX_LINE)
                    if not part:
                        return
                    data += part
                line, newline, data = data.partition(b"\n")
                self.request.sendall(canonical_json(answer_line(self.server.lock, line)) + b"\n")
                if not newline:
                    return


def answer_line(lock: Lock, line: bytes) -> dict[str, Any]:
    """Return what a lock answers to one line: ``done``, ``refused`` or ``error``."""
    try:
        lock.tick()
        return {"done": _done(lock, line)}
    except AccessError as error:
        return {"refused": {"reason": error.reason.value, "detail": error.detail}}
    except PyIotEvmError as error:
        return {"error": {"code": error.code, "message": error.message, "retryable": error.retryable}}
    except OSError as error:
        _LOG.warning("the lock's hardware failed: %s", error)
        return {"error": {"code": "hardware", "message": "the lock's hardware failed", "retryable": True}}


def _done(lock: Lock, line: bytes) -> dict[str, Any]:
    what = "any"
    try:
        request = _request(line)
        what = request["do"]
        read, run = _ACTS[what]
        given = read(request)
    except (InputError, KeyError) as error:
        lock.refuse_malformed(what, str(error))
    return run(lock, given)


def _request(line: bytes) -> dict[str, Any]:
    if len(line) >= MAX_LINE:
        raise InputError(f"a line has at most {MAX_LINE} bytes")
    request = parsed(line)
    if not isinstance(request, dict) or not isinstance(request.get("do"), str) or request["do"] not in _ACTS:
        raise InputError(f'a request is a JSON object whose "do" is one of {", ".join(_ACTS)}')
    return request


def _challenge(lock: Lock, given: tuple[TermsId, Purpose]) -> dict[str, Any]:
    return {"challenge": lock.challenge(*given).fields()}


def _answer(lock: Lock, answer: Answer) -> dict[str, Any]:
    return {"statement": lock.answer(answer).encode()}


def _statements(lock: Lock, terms_id: TermsId) -> dict[str, Any]:
    return {"statements": [said.encode() for said in lock.statements(terms_id)]}


def _program(lock: Lock, slot: Slot) -> dict[str, Any]:
    return {"termsId": str(lock.program(slot))}


def _hello(lock: Lock, _request: dict[str, Any]) -> dict[str, Any]:
    return {"device": str(lock.device), "signer": "0x" + lock.signer_bytes.hex(), "owner": str(lock.owner)}


def _terms_id(request: dict[str, Any]) -> TermsId:
    return TermsId(raw(request["termsId"], size=32))


_ACTS: Final[dict[str, tuple[Callable[[dict[str, Any]], Any], Callable[[Lock, Any], dict[str, Any]]]]] = {
    "hello": (lambda request: request, _hello),
    "challenge": (lambda request: (_terms_id(request), purpose_of(request["purpose"])), _challenge),
    "answer": (lambda request: Answer.of(request["answer"]), _answer),
    "statements": (_terms_id, _statements),
    "program": (lambda request: Slot.of(request["offer"]), _program),
}


def _make_way(path: Path) -> None:
    """Remove a socket that nobody listens at any more."""
    if len(os.fsencode(path)) > 100:  # noqa: PLR2004 - a Unix socket's address has 108 bytes
        raise InputError(f"the path is too long for a Unix socket: {path}", hint="choose a shorter one")
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise ConfigurationError(f"another lock listens at {path}", hint="end it first, or choose another path")
