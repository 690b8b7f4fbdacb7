"""JSON-RPC over HTTP: keep-alive connections, batches, bounded retries, typed errors.

Only what the chain layer needs, on the standard library: web3 takes more than a second to import and sends one request
at a time. Requests that can be repeated without harm (every ``eth_`` read, and ``eth_sendRawTransaction``: a signed
transaction is the same transaction however often it arrives) are tried again a few times; the others are not.

Example:
    >>> client = RpcClient("http://127.0.0.1:8545")
    >>> client.url
    'http://127.0.0.1:8545'
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from base64 import b64encode
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pyiot_evm.exceptions import InputError, TransportError

__all__ = ["Request", "RpcClient", "RpcError"]

_log = logging.getLogger(__name__)

Request = tuple[str, Sequence[Any]]

_RETRY_WAITS: Final = (0.1, 0.3, 0.9)
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_REPEATABLE: Final = frozenset({"eth_sendTransaction", "eth_newFilter", "eth_newBlockFilter"})
_LIMIT_CODES: Final = frozenset({-32005, 429})
_OK: Final = 200


class RpcError(TransportError):
    """The node answered a request with an error.

    Attributes:
        rpc_code: The JSON-RPC error code.
        rpc_message: The node's own words.
        data: What came with it: a revert's data, as hex text, when there is any.
    """

    default_retryable = False
    default_hint = "the node understood the request and refused it; its message says why"

    def __init__(self, method: str, rpc_code: int, rpc_message: str, data: Any = None) -> None:
        super().__init__(f"{method}: {rpc_message} (code {rpc_code})", retryable=rpc_code in _LIMIT_CODES)
        self.method = method
        self.rpc_code = rpc_code
        self.rpc_message = rpc_message
        self.data = data

    @property
    def revert_data(self) -> bytes | None:
        """The revert's data wherever this kind of node puts it; ``None`` when this is no revert with data."""
        data = self.data
        while isinstance(data, dict):
            data = data.get("data", data.get("result"))
        if not isinstance(data, str):
            return None
        text = data.removeprefix("Reverted ").removeprefix("0x")
        try:
            return bytes.fromhex(text)
        except ValueError:
            return None


class RpcClient:
    """A node's JSON-RPC end point. Safe to share among threads; each request takes a connection of its own.

    Args:
        url: ``http://`` or ``https://``, with ``user:password@`` where the node wants that.
        timeout: Seconds that one request may take.
    """

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InputError(
                f"not an http(s) address of a node: {_public(url)}", hint="write it like http://127.0.0.1:8545"
            )
        self.url = url
        self._timeout = timeout
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Content-Type": "application/json", "Connection": "keep-alive"}
        if parts.username:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = "Basic " + b64encode(secret).decode()
        self._idle: list[HTTPConnection] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"RpcClient({_public(self.url)!r})"

    @property
    def is_local(self) -> bool:
        """Whether the node is on this machine."""
        return self._host in {"127.0.0.1", "::1", "localhost"}

    def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Send one request and return its result.

        Raises:
            RpcError: The node refused it.
            TransportError: The node could not be reached or answered nonsense.
        """
        answer = self._exchange({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}, [method])
        if not isinstance(answer, dict):
            raise TransportError(f"{method}: the node's answer is not a JSON-RPC object")
        return _result(method, answer, raise_errors=True)

    def batch(self, requests: Sequence[Request]) -> list[Any]:
        """Send many requests as one; return results in their order, an :class:`RpcError` in place of a refused one.

        Raises:
            TransportError: The node could not be reached, answered nonsense or left a request out.
        """
        if not requests:
            return []
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(requests)
        ]
        answer = self._exchange(body, [method for method, _ in requests])
        if isinstance(answer, dict):
            _result("batch", answer, raise_errors=True)
            raise TransportError("the node does not answer batches")
        try:
            by_id = {item["id"]: item for item in answer}
            return [_result(method, by_id[n], raise_errors=False) for n, (method, _) in enumerate(requests)]
        except (KeyError, TypeError) as error:
            raise TransportError("the node's answer to a batch is incomplete") from error

    def close(self) -> None:
        """Close the idle connections; the client opens new ones when it is used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _exchange(self, body: Any, methods: list[str]) -> Any:
        data = json.dumps(body, separators=(",", ":")).encode()
        waits = _RETRY_WAITS if all(_repeatable(method) for method in methods) else ()
        for wait in (*waits, None):
            try:
                return self._post(data)
            except TransportError as error:
                if wait is None or not error.retryable:
                    raise
                _log.debug("%s: again in %s s: %s", methods[0], wait, error)
                time.sleep(wait)
        raise AssertionError("unreachable")  # pragma: no cover

    def _post(self, data: bytes) -> Any:
        connection = self._take()
        try:
            connection.request("POST", self._path, data, self._headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            raise TransportError(f"no answer from {_public(self.url)}: {type(error).__name__} {error}") from error
        self._give(connection)
        if response.status != _OK and not text.lstrip().startswith((b"{", b"[")):
            raise TransportError(
                f"{_public(self.url)} answered HTTP {response.status}", retryable=response.status in _BUSY
            )
        try:
            return json.loads(text)
        except ValueError as error:
            raise TransportError(f"{_public(self.url)} answered something that is not JSON") from error

    def _take(self) -> HTTPConnection:
        with self._lock:
            if self._pid != os.getpid():  # a forked child must not share its parent's sockets
                self._idle, self._pid = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        kind = HTTPSConnection if self._secure else HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout)

    def _give(self, connection: HTTPConnection) -> None:
        with self._lock:
            self._idle.append(connection)


def _repeatable(method: str) -> bool:
    return method.startswith(("eth_", "net_", "web3_")) and method not in _NOT_REPEATABLE


def _result(method: str, answer: dict[str, Any], *, raise_errors: bool) -> Any:
    error = answer.get("error")
    if error is None:
        return answer.get("result")
    if not isinstance(error, dict):
        error = {"message": str(error)}
    failure = RpcError(method, int(error.get("code", 0)), str(error.get("message", "")), error.get("data"))
    if raise_errors:
        raise failure
    return failure


def _public(url: str) -> str:
    """Leave out what may be a secret: credentials, the path (providers put keys there) and the query."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(unreadable address)"
    return f"{parts.scheme}://{parts.hostname or ''}{port}"
