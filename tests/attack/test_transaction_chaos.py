"""Transactions under failures: answers that get lost, nodes that die, processes that are killed at every step."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from pyiot_evm.chain import Call, Devnet, connect
from pyiot_evm.chain.calls import to_int
from pyiot_evm.chain.rpc import RpcError
from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import TransactionError, TransportError

if TYPE_CHECKING:
    from pyiot_evm.types import Address


class Proxy:
    """A real HTTP server between the client and the node, which misbehaves on demand.

    ``faults`` maps a JSON-RPC method to a list of what happens to its next requests: ``drop-request`` (the node never
    sees it), ``drop-answer`` (the node acts, the client hears nothing), ``busy`` (HTTP 503), ``garbage``, or an error
    object that is answered instead.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.faults: dict[str, list[object]] = {}
        self.seen: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy.handle(self)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        document = json.loads(body)
        items = document if isinstance(document, list) else [document]
        self.seen.extend(item["method"] for item in items)
        fault = next((self.faults[i["method"]].pop(0) for i in items if self.faults.get(i["method"])), None)
        if fault == "drop-request":
            request.connection.close()
            request.close_connection = True
            return
        if fault == "busy":
            self.answer(request, 503, b"overloaded")
            return
        if fault == "garbage":
            self.answer(request, 200, b"<html>hello</html>")
            return
        if isinstance(fault, dict):
            errors = [{"jsonrpc": "2.0", "id": item["id"], "error": fault} for item in items]
            self.answer(request, 200, json.dumps(errors if isinstance(document, list) else errors[0]).encode())
            return
        forward = urllib.request.Request(self.target, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(forward) as response:
            answer = response.read()
        if fault == "drop-answer":
            request.connection.close()
            request.close_connection = True
            return
        self.answer(request, 200, answer)

    @staticmethod
    def answer(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@pytest.fixture
def proxy(devnet):
    proxy = Proxy(devnet.url)
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()


@pytest.fixture
def remote(proxy, tmp_path):
    with connect(proxy.url, home=tmp_path) as chain:
        yield chain


@pytest.fixture
def account(devnet, remote):
    account = remote.account(LocalSigner.create())
    devnet.fund(account, ether=10)
    return account


@pytest.fixture
def payee():
    return LocalSigner.create().address


def gift(to: Address) -> Call[bytes]:
    return Call(to, b"", "pay", bytes, value=1)


def sent(chain, address: Address) -> int:
    return to_int(chain.rpc("eth_getTransactionCount", str(address), "latest"))


SEND = "eth_sendRawTransaction"


@pytest.mark.parametrize("fault", ["drop-request", "drop-answer", "busy", "garbage"])
@pytest.mark.parametrize("times", [1, 3, 6])
def test_transact__when_answers_to_sending_get_lost__pays_exactly_once(devnet, proxy, account, payee, fault, times):
    proxy.faults[SEND] = [fault] * times
    receipt = account.transact(gift(payee), key="rent")
    assert receipt.status == 1
    assert account.transact(gift(payee), key="rent").hash == receipt.hash
    assert (devnet.balance(payee), sent(devnet, account.address)) == (1, 1)
    assert len(proxy.faults[SEND]) < times, "the fault did not happen"


@pytest.mark.parametrize("method", ["eth_estimateGas", "eth_getTransactionReceipt", "eth_getTransactionCount"])
@pytest.mark.parametrize("fault", ["drop-request", "drop-answer", "busy"])
def test_transact__when_answers_to_reading_get_lost__goes_on(devnet, proxy, account, payee, method, fault):
    proxy.faults[method] = [fault] * 3
    assert account.transact(gift(payee), key="rent").status == 1
    assert (devnet.balance(payee), sent(devnet, account.address)) == (1, 1)


def test_send__when_the_node_does_not_answer_before_signing__raises_and_keeps_nothing(proxy, account, payee):
    proxy.faults["eth_estimateGas"] = ["drop-request"] * 4
    with pytest.raises(TransportError) as caught:
        account.send(gift(payee), key="rent")
    assert caught.value.retryable
    assert account.find("rent") is None
    assert SEND not in proxy.seen


def test_wait__when_the_node_stays_silent__raises_transport_error_and_goes_on_later(devnet, proxy, account, payee):
    pending = account.send(gift(payee), key="rent")
    proxy.faults["eth_getTransactionReceipt"] = ["drop-request"] * 100
    with pytest.raises(TransportError):
        pending.wait(timeout=0.5)
    proxy.faults.clear()
    assert pending.wait().hash == pending.hash
    assert devnet.balance(payee) == 1


@pytest.mark.parametrize(
    "message",
    [
        "already known", "nonce too low", "Nonce too high. Expected nonce to be 0 but got 3.",
        "replacement transaction underpriced", "insufficient funds for gas * price + value",
        "internal error: try later",
    ],
)  # fmt: skip
def test_transact__when_the_node_refuses_for_a_while__is_mined_in_the_end(devnet, proxy, account, payee, message):
    proxy.faults[SEND] = [{"code": -32000, "message": message}] * 2
    assert account.transact(gift(payee), key="rent").status == 1
    assert (devnet.balance(payee), sent(devnet, account.address)) == (1, 1)


def test_wait__when_the_node_says_nonce_too_low_for_our_own__finds_the_receipt(devnet, proxy, account, payee):
    proxy.faults[SEND] = ["drop-answer", {"code": -32003, "message": "nonce too low"}]
    receipt = account.transact(gift(payee))
    assert (receipt.status, devnet.balance(payee), sent(devnet, account.address)) == (1, 1, 1)


def test_transact__when_the_node_limits_the_rate__tries_again(devnet, proxy, account, payee):
    limit = {"code": -32005, "message": "request rate exceeded"}
    proxy.faults["eth_getTransactionReceipt"] = [limit] * 2
    assert account.transact(gift(payee)).status == 1
    proxy.faults["eth_chainId"] = [limit] * 9
    with pytest.raises(RpcError, match="rate exceeded") as caught:
        connect(proxy.url, home=account.chain.home)
    assert caught.value.retryable


def test_send_many__when_an_answer_to_a_batch_gets_lost__sends_each_once(devnet, proxy, account, payee):
    proxy.faults[SEND] = ["drop-answer", "drop-request", "drop-answer"]
    receipts = account.wait_many(account.send_many([gift(payee)] * 250, gas=21_000))
    assert {receipt.status for receipt in receipts} == {1}
    assert (devnet.balance(payee), sent(devnet, account.address)) == (250, 250)


def test_wait__when_the_node_is_killed_between_signing_and_sending__delivers_to_its_successor(tmp_path, payee):
    state, home = tmp_path / "state.json", tmp_path / "home"
    first = Devnet(deploy=False, state=state, home=home)
    chain = first.start()
    port = int(chain.url.rsplit(":", 1)[1])
    signer = LocalSigner.create()
    chain.fund(signer, ether=1)
    account = chain.account(signer)
    original = account._delivery.sign

    def kill_after_signing(*arguments, **options):
        attempts = original(*arguments, **options)
        first.node.close()
        return attempts

    account._delivery.sign = kill_after_signing
    pending = account.send(gift(payee), key="rent")
    with pytest.raises(TransportError):
        pending.wait(timeout=0.1)
    first.close()
    with Devnet(deploy=False, state=state, home=home, port=port) as second:
        receipt = second.account(signer).transact(gift(payee), key="rent")
        assert receipt.hash == pending.hash
        assert (second.balance(payee), sent(second, account.address)) == (1, 1)


KILLED = """
import os, signal, sys
from pyiot_evm.chain import Call, connect
from pyiot_evm.chain import rpc, transaction_journal
from pyiot_evm.device import LocalSigner
from pyiot_evm.types import Address

url, home, secret, payee, stop = sys.argv[1:]
left = [int(stop)]

def step():
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def watched(function):
    def run(*arguments, **options):
        step()
        result = function(*arguments, **options)
        step()
        return result
    return run

with connect(url, home=home) as chain:
    account = chain.account(LocalSigner.from_secret(bytes.fromhex(secret)))
    rpc.RpcClient._post = watched(rpc.RpcClient._post)
    for name in ("reserve", "add_attempts", "finish"):
        method = getattr(transaction_journal.TransactionJournal, name)
        setattr(transaction_journal.TransactionJournal, name, watched(method))
    LocalSigner.sign_digest = watched(LocalSigner.sign_digest)
    call = Call(Address(payee), b"", "pay", bytes, value=1)
    account.transact(call, key="one")
    account.wait_many(account.send_many([call] * 3, keys=["two", "three", "four"]))
print("steps", 10**9 - left[0] if int(stop) == 10**9 else "all")
"""


def run_killed(chain, signer: LocalSigner, payee: Address, stop: int) -> tuple[int, str]:
    arguments = [chain.url, str(chain.home.path), signer.secret.hex(), str(payee), str(stop)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in {0, -9}, done.stderr
    return done.returncode, done.stdout


def test_transact__when_the_process_is_killed_at_every_step__pays_exactly_once(devnet, record_property):
    signer = LocalSigner.create()
    devnet.fund(signer, ether=1)
    steps = int(run_killed(devnet, signer, LocalSigner.create().address, 10**9)[1].split()[1])
    killed = 0
    for stop in range(1, steps + 1):
        signer, payee = LocalSigner.create(), LocalSigner.create().address
        devnet.fund(signer, ether=1)
        killed += run_killed(devnet, signer, payee, stop)[0] == -9  # a run that polls less often has fewer steps
        assert run_killed(devnet, signer, payee, 10**9)[0] == 0
        assert (devnet.balance(payee), sent(devnet, signer.address)) == (4, 4), f"killed at step {stop}"
    print(f"killed at {killed} points")  # noqa: T201
    record_property("kill points", killed)
    assert killed >= 20


def test_transact__when_two_processes_are_killed_again_and_again__pays_exactly_once(devnet):
    signer, payee = LocalSigner.create(), LocalSigner.create().address
    devnet.fund(signer, ether=1)
    arguments = [devnet.url, str(devnet.home.path), signer.secret.hex(), str(payee)]
    for stop in range(3, 40, 4):
        both = [
            subprocess.Popen([sys.executable, "-c", KILLED, *arguments, str(stop + extra)], stderr=subprocess.DEVNULL)
            for extra in (0, 2)
        ]
        for process in both:
            process.wait(timeout=120)
    assert run_killed(devnet, signer, payee, 10**9)[0] == 0
    assert (devnet.balance(payee), sent(devnet, signer.address)) == (4, 4)


def test_send__when_the_node_did_not_hear_of_an_earlier_one__tells_it_again(devnet, proxy, account, payee):
    proxy.faults[SEND] = ["drop-request"] * 4
    account.send(gift(payee), key="unheard")
    assert sent(devnet, account.address) == 0
    account.send(gift(payee), key="next")
    assert (devnet.balance(payee), sent(devnet, account.address)) == (2, 2)


def test_connect__when_a_distant_node_calls_itself_a_devnet__is_not_believed(devnet, tmp_path, monkeypatch):
    from pyiot_evm.chain.rpc import RpcClient

    real = RpcClient.batch

    def lie(client, requests):
        answers = real(client, requests)
        return ["0x1", *answers[1:]] if requests[0][0] == "eth_chainId" else answers

    monkeypatch.setattr(RpcClient, "batch", lie)
    monkeypatch.setattr(RpcClient, "is_local", False)
    with connect(devnet.url, home=tmp_path) as chain:
        assert (chain.client[:5], chain.chain_id, chain.is_devnet, chain.confirmations) == ("anvil", 1, False, 12)


def test_wait__when_it_times_out__says_what_the_node_says(devnet, proxy, account, payee):
    proxy.faults[SEND] = [{"code": -32000, "message": "txpool is full"}] * 1000
    pending = account.send(gift(payee))
    with pytest.raises(TransactionError, match="the node says 'txpool is full'"):
        pending.wait(timeout=2.5)
    proxy.faults.clear()
    assert pending.wait().status == 1
