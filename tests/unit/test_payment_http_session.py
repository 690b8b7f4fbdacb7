"""Answers over HTTP are read whole, up to a size and a time."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pyiot_evm.exceptions import InputError, TransportError
from pyiot_evm.payment import http_session
from pyiot_evm.payment.http_session import HttpSession


@pytest.fixture
def server():
    """A server that sends what its path says: so many parts of so many bytes, so many milliseconds apart."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            count, size, pause = map(int, self.path[1:].split("x"))
            self.send_response(200)
            self.end_headers()
            for _ in range(count):
                try:
                    self.wfile.write(bytes(size))
                except ConnectionError:
                    return
                if ended.wait(pause / 1000):
                    return

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    ended.set()
    made.shutdown()
    made.server_close()


def test_get__when_the_answer_comes_in_parts__is_what_was_sent(server):
    assert HttpSession(10).get(f"{server}/30x65536x0").content == bytes(30 << 16)


def test_get__when_the_answer_is_too_large__says_so_and_that_no_second_try_helps(server, monkeypatch):
    """One message stood for "too large" and for "too slow"."""
    monkeypatch.setattr(http_session, "_MAX_BODY", 1 << 20)
    with pytest.raises(TransportError) as caught:
        HttpSession(10).get(f"{server}/17x65536x0")
    assert (str(caught.value), caught.value.retryable) == (f"{server}/17x65536x0 sends more than 1 MiB", False)


def test_get__when_the_answer_drips_in__says_that_it_did_not_come_whole(server):
    """Each byte came in time, and the answer never."""
    with pytest.raises(TransportError) as caught:
        HttpSession(0.25).get(f"{server}/100x65536x60")
    assert str(caught.value) == f"the answer of {server}/100x65536x60 did not come whole within 0.25 s"
    assert caught.value.retryable


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "[::1", "example:99999"])
def test_get__when_the_host_can_be_none__is_an_input_error(host):
    with pytest.raises(InputError, match="not an address of a server"):
        HttpSession(1.0).get(f"http://{host}/")
