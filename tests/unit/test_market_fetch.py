"""Addresses that strangers list: what is fetched, what is refused, and when a download ends."""

import contextlib
import http.server
import os
import socket
import threading
import time

import fsspec
import pytest

from pyiot_evm.exceptions import InputError, TransportError, VerificationError
from pyiot_evm.market.fetch import FetchPolicy, fetch, is_public, local_path, publish

BODY = bytes(range(256)) * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: a body, a redirect, an error, a bomb, silence."""

    def do_GET(self):  # noqa: C901 - one branch a path
        self.server.seen.append((self.path, self.headers.get("Accept-Encoding")))
        name, _, rest = self.path.strip("/").partition("/")
        if name == "to":
            self.send_response(302)
            self.send_header("Location", rest.replace("host", f"127.0.0.1:{self.server.server_port}"))
            self.end_headers()
        elif name == "body":
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)
        elif name == "bomb":
            self.send_response(200)
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(BODY)
        elif name == "huge":
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 50))
            self.end_headers()
        elif name == "short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
        elif name == "gzip":
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(b"\x1f\x8b not unpacked")
        elif name == "drip":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b".")
                time.sleep(0.05)
        elif name == "silence":
            time.sleep(1.5)
        else:
            self.send_error(int(name))

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            super().handle()


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.seen = []
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


LOCAL = FetchPolicy(allow_private_hosts=True, timeout=0.5, max_bytes=1 << 20)


def body_of(url, policy):
    pieces = []
    count = fetch(url, pieces.append, policy)
    assert count == sum(map(len, pieces))
    return b"".join(pieces)


def test_fetch__when_a_web_server_answers__gives_the_body(server):
    assert body_of(f"{server.url}/body", LOCAL) == BODY


def test_fetch__when_redirected__follows(server):
    assert body_of(f"{server.url}/to/http://host/body", LOCAL) == BODY


def test_fetch__when_redirected_without_end__raises(server):
    url = f"{server.url}/to/" + "http://host/to/" * 5 + "http://host/body"
    with pytest.raises(TransportError, match="more than 3 redirects"):
        fetch(url, bytes, LOCAL)


def test_fetch__when_redirected_to_a_file__raises(server):
    with pytest.raises(InputError, match=r"a redirect leads from the web to another scheme|not allowed"):
        fetch(f"{server.url}/to/file:///etc/passwd", bytes, FetchPolicy.local("/etc"))


@pytest.mark.parametrize("status", [404, 500])
def test_fetch__when_the_server_refuses__raises_and_says_whether_to_try_again(server, status):
    with pytest.raises(TransportError, match=f"the server answered {status}") as caught:
        fetch(f"{server.url}/{status}", bytes, LOCAL)
    assert caught.value.retryable is (status == 500)


def test_fetch__when_the_body_has_no_end__stops_at_the_limit(server):
    got = []
    with pytest.raises(VerificationError, match="more than 1048576 bytes"):
        fetch(f"{server.url}/bomb", got.append, LOCAL)
    assert sum(map(len, got)) <= 1 << 20


def test_fetch__when_the_announced_length_is_too_large__reads_nothing(server):
    got = []
    with pytest.raises(VerificationError, match=f"{1 << 50} bytes are more than 1048576"):
        fetch(f"{server.url}/huge", got.append, LOCAL)
    assert not got


def test_fetch__when_the_body_is_cut_off__raises(server):
    with pytest.raises(TransportError, match="ClientPayloadError"):
        fetch(f"{server.url}/short", bytes, LOCAL)


def test_fetch__when_the_body_is_packed__does_not_unpack_it(server):
    assert body_of(f"{server.url}/gzip", LOCAL) == b"\x1f\x8b not unpacked"
    assert server.seen[-1] == ("/gzip", "identity")


def test_fetch__when_the_body_drips__stops_in_time(server):
    policy = FetchPolicy(allow_private_hosts=True, max_seconds=0.3)
    start = time.monotonic()
    with pytest.raises(TransportError, match=r"no answer in time|not complete after"):
        fetch(f"{server.url}/drip", bytes, policy)
    assert time.monotonic() - start < 3


def test_fetch__when_the_server_is_silent__stops_in_time(server):
    start = time.monotonic()
    with pytest.raises(TransportError):
        fetch(f"{server.url}/silence", bytes, LOCAL)
    assert time.monotonic() - start < 1.4


def test_fetch__when_nobody_listens__raises():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(TransportError, match=r"ClientConnectorError|Cannot connect"):
        fetch(f"http://127.0.0.1:{port}/", bytes, LOCAL)


def test_fetch__when_the_reader_refuses_a_piece__ends_with_its_error(server):
    def refuse(_):
        raise VerificationError("not a bundle")

    with pytest.raises(VerificationError, match="not a bundle"):
        fetch(f"{server.url}/body", refuse, LOCAL)


def test_fetch__when_inside_an_event_loop__still_works(server):
    import asyncio

    async def inside():
        return body_of(f"{server.url}/body", LOCAL)

    assert asyncio.run(inside()) == BODY


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.7", "192.168.1.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[fe80::1]"],
)
def test_fetch__when_the_address_is_private__never_connects(host):
    with pytest.raises(InputError, match="is not a public address"):
        fetch(f"http://{host}:9/bundle", bytes, FetchPolicy())


@pytest.mark.parametrize("host", ["localhost", "0x7f000001"])
def test_fetch__when_a_name_means_this_machine__never_connects(host):
    with pytest.raises(InputError, match=r"that is (127\.0\.0\.1|::1), is not a public address"):
        fetch(f"http://{host}:9/bundle", bytes, FetchPolicy())


@pytest.mark.parametrize("host", ["2130706433", "127.1"])
def test_fetch__when_an_address_is_written_oddly__never_connects(host):
    with pytest.raises((InputError, TransportError), match=r"not a public address|not a canonical IPv4 address"):
        fetch(f"http://{host}:9/bundle", bytes, FetchPolicy())


def test_fetch__when_a_public_page_redirects_into_the_house__never_connects(server, monkeypatch):
    """The first address is taken for public; the one that it redirects to is checked on its own."""
    monkeypatch.setattr("pyiot_evm.market.fetch.is_public", lambda host: host != "127.0.0.2")
    before = len(server.seen)
    with pytest.raises(InputError, match=r"127\.0\.0\.2 is not a public address"):
        fetch(f"{server.url}/to/http://127.0.0.2:{server.server_port}/body", bytes, FetchPolicy())
    assert len(server.seen) == before + 1


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("::", False),
        ("::ffff:8.8.8.8", True),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
    ],
)
def test_is_public__when_wrapped_or_not__looks_at_the_real_address(address, public):
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "etc/passwd",
        "memory://x",
        "s3://bucket/x",
        "ftp://example.org/x",
        "zip://a::http://example.org/b.zip",
        "simplecache::file:///etc/passwd",
        "reference::http://example.org",
        "http://user:secret@example.org/x",
        "http:///x",
        "http://example.org:port/x",
        "http://example.org/a b",
        "http://example.org/\nHost: x",
        "http://exämple.org/",
        "http://" + "x" * 3000,
        "http://[::1/x",
        "gopher://x",
        "",
    ],
)
def test_check__when_the_default_policy__refuses_it(url):
    with pytest.raises(InputError):
        FetchPolicy().check(url)


@pytest.mark.parametrize("url", ["zip://a::memory://b", "memory://a::b", "filecache::memory://x"])
def test_check__when_file_systems_are_chained__refuses_even_allowed_schemes(url):
    with pytest.raises(InputError):
        FetchPolicy.local("/", schemes=frozenset({"file", "memory", "zip"})).check(url)


def test_fetch__when_below_an_allowed_folder__reads_the_file(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.bin").write_bytes(BODY)
    policy = FetchPolicy.local(tmp_path / "in")
    assert body_of(str(tmp_path / "in" / "a b.bin"), policy) == BODY
    assert body_of(f"file://{tmp_path}/in/a%20b.bin", policy) == BODY


def test_fetch__when_a_path_leaves_the_allowed_folder__raises(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    policy = FetchPolicy.local(tmp_path / "in")
    for path in ("in/link", "in/../secret", "secret", "in%2F..%2Fsecret"):
        with pytest.raises(InputError, match="not below an allowed folder"):
            fetch(f"file://{tmp_path}/{path}", bytes, policy)


def test_fetch__when_the_file_is_a_pipe__does_not_wait_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        fetch(str(tmp_path / "pipe"), bytes, FetchPolicy.local(tmp_path))


def test_fetch__when_there_is_no_such_file__raises(tmp_path):
    with pytest.raises(TransportError, match="there is no such file"):
        fetch(str(tmp_path / "absent"), bytes, FetchPolicy.local(tmp_path))


def test_fetch__when_an_allowed_fsspec_scheme__reads_it(tmp_path):
    fsspec.filesystem("memory").pipe_file("/fetch/x.bin", BODY)
    assert body_of("memory://fetch/x.bin", FetchPolicy.local(tmp_path)) == BODY
    with pytest.raises(TransportError, match="there is no such file"):
        fetch("memory://fetch/absent.bin", bytes, FetchPolicy.local(tmp_path))


def test_fetch__when_a_local_file_is_too_large__raises(tmp_path):
    (tmp_path / "large").write_bytes(BODY)
    with pytest.raises(VerificationError, match="more than 1000 bytes"):
        fetch(str(tmp_path / "large"), bytes, FetchPolicy.local(tmp_path, max_bytes=1000))


@pytest.mark.parametrize("url", ["file://elsewhere/x", "file:///a%00b", "a::b", "a\0b"])
def test_local_path__when_it_is_not_of_this_machine__raises(url):
    with pytest.raises(InputError):
        local_path(url)


def test_with_root__when_added__allows_that_folder_only(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    policy = FetchPolicy().with_root(tmp_path)
    assert policy.check(str(tmp_path / "x")) == "file"
    assert policy.allow_private_hosts is False
    with pytest.raises(InputError, match="not below"):
        policy.check("/etc/passwd")


def test_publish__when_to_a_folder__appears_whole(tmp_path):
    (tmp_path / "a").write_bytes(BODY)
    publish(tmp_path / "a", f"file://{tmp_path}/web/b")
    assert (tmp_path / "web" / "b").read_bytes() == BODY
    assert [path.name for path in (tmp_path / "web").iterdir()] == ["b"]


def test_publish__when_to_fsspec__is_readable_there(tmp_path):
    (tmp_path / "a").write_bytes(BODY)
    publish(tmp_path / "a", "memory://published/a")
    assert fsspec.filesystem("memory").cat_file("/published/a") == BODY


@pytest.mark.parametrize(
    ("url", "error"),
    [("https://example.org/a", InputError), ("/proc/nowhere/a", InputError), ("nofs://x", TransportError)],
)
def test_publish__when_it_cannot_be_written__raises(tmp_path, url, error):
    (tmp_path / "a").write_bytes(BODY)
    with pytest.raises(error, match="cannot be written"):
        publish(tmp_path / "a", url)


def test_fetch__when_a_local_path_cannot_be_opened__raises(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TransportError, match="Not a directory"):
        fetch(str(tmp_path / "file" / "below"), bytes, FetchPolicy.local(tmp_path))


def test_fetch__when_the_time_is_up__ends_between_two_pieces(tmp_path):
    (tmp_path / "file").write_bytes(BODY)
    with pytest.raises(TransportError, match="not complete after -1 seconds"):
        fetch(str(tmp_path / "file"), bytes, FetchPolicy.local(tmp_path, max_seconds=-1))
