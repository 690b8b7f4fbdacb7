"""The JSON-RPC client against a small real server."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pyiot_evm.chain import rpc
from pyiot_evm.chain.reverts import decode_revert, error_of
from pyiot_evm.chain.rpc import RpcClient, RpcError
from pyiot_evm.exceptions import ContractError, InputError, TransactionError, TransportError


class Server:
    """Answers each request with the next of ``answers``: a status and a body, or a function of the request."""

    def __init__(self) -> None:
        self.answers: list = []
        self.requests: list = []
        self.headers: list = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(document)
                outer.headers.append((self.path, dict(self.headers)))
                answer = outer.answers.pop(0) if outer.answers else echo
                if answer is None:
                    self.close_connection = True
                    return
                status, body = answer(document) if callable(answer) else answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def echo(document) -> tuple[int, bytes]:
    items = document if isinstance(document, list) else [document]
    results = [{"jsonrpc": "2.0", "id": item["id"], "result": item["params"]} for item in reversed(items)]
    return 200, json.dumps(results if isinstance(document, list) else results[0]).encode()


def refusal(**error) -> tuple[int, bytes]:
    return 200, json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def client(server, monkeypatch):
    monkeypatch.setattr(rpc, "_RETRY_WAITS", (0.01, 0.01, 0.01))
    client = RpcClient(server.url)
    yield client
    client.close()


def test_call__when_the_node_answers__returns_the_result_over_one_connection(server, client):
    assert [client.call("eth_x", [n]) for n in range(5)] == [[n] for n in range(5)]
    assert len(client._idle) == 1


def test_call__when_threads_share_the_client__each_gets_its_own_answer(client):
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda n: client.call("eth_x", [n]), range(200))) == [[n] for n in range(200)]


@pytest.mark.parametrize("fault", [None, (503, b"busy"), (429, b"slow down")])
def test_call__when_a_read_fails_for_a_while__tries_again(server, client, fault):
    server.answers = [fault] * 3
    assert client.call("eth_x") == []
    assert len(server.requests) == 4


@pytest.mark.parametrize("method", ["evm_increaseTime", "evm_mine", "anvil_setBalance", "eth_sendTransaction"])
def test_call__when_repeating_would_do_harm__does_not_try_again(server, client, method):
    server.answers = [None]
    with pytest.raises(TransportError, match="no answer from") as caught:
        client.call(method)
    assert caught.value.retryable
    assert len(server.requests) == 1


def test_call__when_the_node_refuses__raises_with_code_and_data(server, client):
    server.answers = [refusal(code=3, message="execution reverted", data="0x01020304")]
    with pytest.raises(RpcError, match=r"eth_call: execution reverted \(code 3\)") as caught:
        client.call("eth_call")
    assert (caught.value.rpc_code, caught.value.revert_data, caught.value.retryable) == (3, b"\1\2\3\4", False)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "data",
    [
        "0x0102", "Reverted 0x0102", {"data": "0x0102"}, {"data": {"result": "0x0102"}},
        {"message": "x", "txHash": "0x00", "data": "0x0102"},
    ],
)  # fmt: skip
def test_revert_data__when_a_node_has_its_own_shape__is_found(data):
    assert RpcError("eth_call", 3, "execution reverted", data).revert_data == b"\1\2"


@pytest.mark.parametrize("data", [None, 5, "not hex", {"message": "x"}, ["0x01"]])
def test_revert_data__when_there_is_none__is_none(data):
    assert RpcError("eth_call", 3, "execution reverted", data).revert_data is None


@pytest.mark.parametrize("body", [b"<html>", b"", b"[1", b"7", b'"text"'])
def test_call__when_the_answer_is_nonsense__raises_transport_error(server, client, body):
    server.answers = [(200, body)] * 4
    with pytest.raises(TransportError):
        client.call("eth_x")


def test_call__when_http_says_no_for_good__does_not_try_again(server, client):
    server.answers = [(401, b"who are you?")]
    with pytest.raises(TransportError, match="HTTP 401") as caught:
        client.call("eth_x")
    assert not caught.value.retryable
    assert len(server.requests) == 1


def test_batch__when_answers_come_in_another_order__puts_them_right(client):
    assert client.batch([("eth_x", [n]) for n in range(5)]) == [[n] for n in range(5)]
    assert client.batch([]) == []


def test_batch__when_one_is_refused__stands_as_an_error_in_its_place(server, client):
    server.answers = [
        lambda items: (
            200,
            json.dumps(
                [{"id": 1, "error": {"code": -1, "message": "no"}}, {"id": items[0]["id"], "result": 7}]
            ).encode(),
        )
    ]
    first, second = client.batch([("eth_x", []), ("eth_y", [])])
    assert first == 7
    assert isinstance(second, RpcError)
    assert second.method == "eth_y"


@pytest.mark.parametrize(
    "body", [b'[{"id":0,"result":1}]', b'[{"result":1}]', b"[1,2]", b'{"id":0,"result":1}', b"null"]
)
def test_batch__when_an_answer_is_missing__raises(server, client, body):
    server.answers = [(200, body)] * 4
    with pytest.raises(TransportError):
        client.batch([("eth_x", []), ("eth_y", [])])


def test_client__when_the_url_has_a_secret__sends_it_and_never_shows_it(server):
    url = server.url.replace("http://", "http://me:p%40ss@") + "/v3/my-key?token=abc"
    client = RpcClient(url)
    assert client.call("eth_x") == []
    path, headers = server.headers[0]
    assert path == "/v3/my-key?token=abc"
    assert headers["Authorization"] == "Basic bWU6cEBzcw=="
    server.server.shutdown()
    server.server.server_close()
    client.close()
    with pytest.raises(TransportError) as caught:
        client.call("evm_mine")
    for text in (str(caught.value), repr(client)):
        assert not any(secret in text for secret in ("my-key", "abc", "p%40ss", "p@ss"))


@pytest.mark.parametrize("url", ["", "ftp://x", "localhost:8545", "http://", "ws://127.0.0.1:1"])
def test_client__when_the_url_is_no_http_address__raises(url):
    with pytest.raises(InputError):
        RpcClient(url)


def test_call__when_nobody_listens__raises_transport_error(monkeypatch):
    monkeypatch.setattr(rpc, "_RETRY_WAITS", (0.01,))
    with pytest.raises(TransportError, match=r"no answer from http://127.0.0.1:9"):
        RpcClient("http://127.0.0.1:9").call("eth_x")


def string_error(text: bytes) -> bytes:
    return bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + len(text).to_bytes(32, "big") + text.ljust(32, b"\0")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (string_error(b"too late"), "the contract refused: too late"),
        (bytes.fromhex("4e487b71") + (0x11).to_bytes(32, "big"), "the contract panicked: arithmetic overflow (0x11)"),
        (bytes.fromhex("4e487b71") + (0x99).to_bytes(32, "big"), "the contract panicked: unknown panic (0x99)"),
        (bytes.fromhex("deadbeef01"), "the contract refused with an unknown error: 0xdeadbeef01"),
        (bytes.fromhex("08c379a0ff"), "the contract refused with an unknown error: 0x08c379a0ff"),
        (b"", "the contract refused without a reason"),
    ],
)
def test_decode_revert__when_it_is_no_error_of_the_suite__says_what_it_can(data, message):
    assert str(decode_revert(data)) == message


def test_decode_revert__when_the_data_of_a_known_error_is_broken__shows_it_raw():
    from pyiot_evm.chain.contract_errors import ERRORS, OrderNotPaid

    selector = next(key for key, kind in ERRORS.items() if kind is OrderNotPaid)
    assert "unknown error" in str(decode_revert(selector + b"\1"))
    assert "unknown error" in str(decode_revert(selector + bytes(32) + (250).to_bytes(32, "big")))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("insufficient funds for gas * price + value", TransactionError),
        ("sender doesn't have enough funds to send tx", TransactionError),
        ("execution reverted", ContractError),
        ("VM Exception while processing transaction: reverted without a reason", ContractError),
        ("method not found", RpcError),
    ],
)
def test_error_of__when_a_node_refuses_in_words__finds_the_kind(message, kind):
    assert type(error_of(RpcError("eth_call", -32000, message))) is kind
