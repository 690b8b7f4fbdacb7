"""`pyiot pay` and `pyiot gateway` through real processes: a channel by hand, and readings bought over HTTP."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from pyiot_evm.chain import connect
from pyiot_evm.chain.nodes import free_port
from pyiot_evm.home import Home
from pyiot_evm.machine import Machine
from pyiot_evm.types import Address

PYIOT = str(Path(sys.executable).with_name("pyiot"))
ROWS = [f"2015-09-01 13:{minute:02d}:00,{minute}.25" for minute in range(60)]
SERIES = "\n".join(["timestamp,value", *ROWS, ""])


class Shell:
    """A user's shell: a home, a passphrase, a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PYIOT_HOME": str(folder / "home"),
            "PYIOT_PASSPHRASE": "a passphrase for the tests",
            "PYIOT_KEY_COST": "light",
        }

    def run(self, *words, code=0):
        done = subprocess.run(
            [PYIOT, *map(str, words)],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def json(self, *words, code=0):
        return json.loads(self.run(*words, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("pay"))
    shell.json("devnet", "up")
    try:
        for name in ("sensor", "buyer"):
            shell.json("key", "new", name, "--curve", "p256")
        (shell.folder / "series.csv").write_text(SERIES)
        shell.json("data", "sell", "series.csv", "--as", "sensor", "--price", "0.50", "--title", "Occupancy")
        yield shell
    finally:
        shell.json("devnet", "down")


def test_pay__when_a_channel_is_used_by_hand__moves_exactly_what_was_sent(shell):
    dry = shell.json("pay", "send", "sensor", "0.001", "--as", "buyer", "--dry-run")
    assert [call["function"].partition("(")[0] for call in dry["calls"]] == ["deposit"]
    assert shell.json("pay", "list", "--as", "buyer") == {"channels": []}

    first = shell.json("pay", "send", "sensor", "0.001", "--as", "buyer", "--key", "r1")
    again = shell.json("pay", "send", "sensor", "0.001", "--as", "buyer", "--key", "r1", "--out", "voucher.json")
    assert (first["total"], again) == ("0.001 DUSD", first)
    assert (shell.folder / "voucher.json").read_text().strip() == first["voucher"]
    claimed = shell.json("pay", "claim", "voucher.json", "--as", "sensor")
    assert (claimed["claimed"], claimed["channels"], len(claimed["transactions"])) == ("0.001 DUSD", 1, 1)
    assert shell.json("pay", "settle", "--as", "sensor")["settled"] == "0.001 DUSD"
    assert shell.json("key", "show", "sensor")["money"] == "1000.001 DUSD"

    (channel,) = shell.json("pay", "list", "--as", "buyer")["channels"]
    shown = shell.json("pay", "show", channel["id"][2:10].upper(), "--as", "buyer")  # cut, and without 0x
    assert (shown["balance"], shown["promised"], shown["claimed"]) == ("0.01 DUSD", "0.001 DUSD", "0.001 DUSD")
    closing = shell.json("pay", "close", channel["id"][:10], "--as", "buyer")
    assert (closing["state"], closing["withdrawable_at"] > time.time()) == ("closing", True)
    refused = shell.json("pay", "close", channel["id"], "--as", "buyer", code=3)
    assert re.search(r"can be taken at \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$", refused["error"]["message"])
    assert re.search(r"withdrawable at  \d{4}-", shell.run("pay", "show", channel["id"], "--as", "buyer").stdout)
    # The payee's `show` was what its book had, and did not say that the payer is leaving, nor until when to claim.
    left = shell.json("pay", "show", channel["id"], "--as", "sensor")
    assert (left["state"], left["claim_until"]) == ("closing", closing["withdrawable_at"])


def test_send__when_the_file_cannot_be_written__shows_the_voucher_and_exits_1(shell):
    # The money was promised, the write failed, no voucher was shown, and exit code 2 said that nothing was sent.
    shell.json("key", "new", "hasty")
    sent = shell.json("pay", "send", "sensor", "0.001", "--as", "hasty", "--out=/dev/full", code=1)
    assert (sent["error"]["code"], sent["paid"]) == ("not_written", "0.001 DUSD")
    text = shell.run("pay", "send", "sensor", "0.001", "--as", "hasty", "--out=/dev/full", code=1)
    assert '"maxClaimableAmount"' in text.stdout
    assert "it is done, but the file was not written: No space left on device" in text.stderr

    sent = shell.json("pay", "send", "sensor", "0.001", "--as", "hasty", "--out=~/voucher.json")
    assert (sent["total"], (shell.folder / "voucher.json").read_text().strip()) == ("0.003 DUSD", sent["voucher"])
    refused = shell.json("pay", "send", "sensor", "0.001", "--as", "hasty", "--out=~/none/v.json", code=2)
    assert "there is no folder" in refused["error"]["message"]
    shell.json("pay", "send", "sensor", "0.001", "--as", "hasty", "--out=dry.json", "--dry-run")
    assert not (shell.folder / "dry.json").exists()
    assert shell.json("pay", "send", "sensor", "0.001", "--as", "hasty")["total"] == "0.004 DUSD"


def test_list__when_a_stranger_s_channel_holds_what_is_no_token__shows_the_others_too(shell):
    # `pyiot pay rebuild` writes down every channel that names the account. One in a token without decimals() or
    # symbol() made `pyiot pay list` and `show` fail for good.
    shell.json("key", "new", "popular")
    home = Home(shell.folder / "home", passphrase=lambda: shell.environment["PYIOT_PASSPHRASE"])
    with connect(home=home) as chain, Machine.open(chain, "popular") as machine:
        payer = machine.payments.payer
        own = payer.channel_to(home.keyring.entry("sensor").address, chain.token)
        payer.book.add(payer.domain, replace(own.config, token=Address("0x" + "11" * 20)))
    rows = shell.json("pay", "list", "--as", "popular")["channels"]
    assert sorted(row["balance"] for row in rows) == [
        "0 units of 0x1111111111111111111111111111111111111111",
        "0.00 DUSD",
    ]
    assert "0 units of" in shell.run("pay", "list", "--as", "popular").stdout


def test_claim__when_a_file_holds_no_voucher__exits_2(shell):
    # A file that cannot be read counts as wrong input where it is one; a binary file was reported as a bug.
    (shell.folder / "binary").write_bytes(b"\xff\xfe")
    for verb in ("claim", "rebuild"):
        for file, said in (("none.json", "cannot read none.json"), ("binary", "binary is no text")):
            assert said in shell.json("pay", verb, file, "--as", "sensor", code=2)["error"]["message"]


def test_rebuild__when_the_books_are_lost__finds_the_channels_and_takes_over_the_last_voucher(shell):
    for name in ("forgetful", "payee"):
        shell.json("key", "new", name)
    first = shell.json("pay", "send", "payee", "0.001", "--as", "forgetful", "--out", "first.json")
    shell.json("pay", "claim", "first.json", "--as", "payee")
    last = shell.json("pay", "send", "payee", "0.002", "--as", "forgetful", "--out", "last.json")
    (books,) = (shell.folder / "home").rglob("payments.sqlite")
    kept = {path: path.read_bytes() for path in books.parent.glob("payments.sqlite*")}
    for path in kept:
        path.unlink()
    try:
        (found,) = shell.json("pay", "rebuild", "--as", "forgetful")["channels"]
        assert (found["id"], found["balance"], found["promised"]) == (first["channel"], "0.01 DUSD", "0.001 DUSD")
        assert [row["claimed"] for row in shell.json("pay", "rebuild", "--as", "payee")["channels"]] == ["0.001 DUSD"]
        refused = shell.json("pay", "rebuild", "last.json", "--as", "payee", code=1)["error"]
        assert "did not sign this voucher" in refused["message"]
        (found,) = shell.json("pay", "rebuild", "last.json", "first.json", "--as", "forgetful")["channels"]
        assert found["promised"] == "0.003 DUSD"
        sent = shell.json("pay", "send", "payee", "0.001", "--as", "forgetful", "--out", "next.json")
        assert sent["total"] == "0.004 DUSD"
        assert shell.json("pay", "claim", "next.json", "--as", "payee")["claimed"] == "0.003 DUSD"
        assert shell.json("pay", "show", found["id"], "--as", "payee")["voucher"] == sent["voucher"] != last["voucher"]
    finally:
        for path in books.parent.glob("payments.sqlite*"):
            path.unlink()
        for path, content in kept.items():
            path.write_bytes(content)


def test_pay__when_it_is_asked_for_what_makes_no_sense__says_so_and_sends_nothing(shell):
    shell.json("key", "new", "careless")
    for words, said in (
        (("open", "sensor", "0"), "a deposit is 1 to 2^128 - 1 base units, not 0"),
        (("open", "nobody", "1"), "'nobody' is no name of this home and no address"),
        (("close", "0x"), "neither an id nor a file: '0x'"),
        (("show", "0x12345678"), "no channel begins with 0x12345678"),
        (("vault", "withdraw"), "is empty"),
        (("fund", "sensor=1"), "has 0 DUSD, wanted are 1"),
        (("fund", "sensor=1", "sensor=2"), "sensor is there twice"),
    ):
        assert said in shell.json("pay", *words, "--as", "careless", code=2)["error"]["message"]
    assert shell.json("key", "show", "careless")["money"] == "1000.00 DUSD"


def test_vault__when_used_by_hand__fills_channels_and_gives_the_rest_back(shell):
    for name in ("hub", "meter"):
        shell.json("key", "new", name)
    dry = shell.json("pay", "vault", "deposit", "5", "--as", "hub", "--dry-run")
    assert [call["function"].partition("(")[0] for call in dry["calls"]] == ["approve", "vaultDeposit"]
    moved = shell.json("pay", "vault", "deposit", "5", "--as", "hub", "--key", "june")
    assert shell.json("pay", "vault", "deposit", "5", "--as", "hub", "--key", "june") == moved
    assert moved["vault"] == "5.00 DUSD"
    funding = ("pay", "fund", "sensor=1", "meter=0.5", "--as", "hub")
    assert [call["function"].partition("(")[0] for call in shell.json(*funding, "--dry-run")["calls"]] == ["fund"]
    assert [row["balance"] for row in shell.json(*funding)["channels"]] == ["1.00 DUSD", "0.50 DUSD"]
    sent = shell.json("pay", "send", "meter", "0.5", "--as", "hub", "--out", "meter.json")
    assert sent["paid"] == "0.50 DUSD"
    claim = shell.run("pay", "claim", "meter.json", "--as", "meter", "--dry-run").stdout
    assert ("{" in claim, "payer authorizer" in claim) == (False, True)
    assert shell.json("pay", "claim", "meter.json", "--as", "meter")["claimed"] == "0.50 DUSD"
    assert shell.json("pay", "vault", "withdraw", "--as", "hub", "--to", "meter")["moved"] == "3.50 DUSD"
    assert shell.json("pay", "vault", "show", "--as", "hub")["vault"] == "0.00 DUSD"
    (channel,) = shell.json("pay", "list", "--as", "meter")["channels"]
    refused = shell.json("pay", "close", channel["id"], "--as", "meter", code=2)
    assert "is paid through channel" in refused["error"]["message"]


def test_budget__when_it_is_exceeded__ends_with_2_and_sends_nothing(shell):
    shell.json("key", "new", "thrifty")
    set_ = shell.json("pay", "budget", "set", "--as", "thrifty", "--each-payment", "0.001", "--payee", "sensor")
    assert (set_["each_payment"], len(set_["payees"])) == ("0.001 DUSD", 1)
    refused = shell.json("pay", "send", "sensor", "0.002", "--as", "thrifty", code=2)
    assert refused["error"]["code"] == "budget"
    assert shell.json("pay", "send", "buyer", "0.001", "--as", "thrifty", code=2)["error"]["code"] == "budget"
    assert shell.json("pay", "open", "buyer", "5", "--as", "thrifty", code=2)["error"]["code"] == "budget"
    assert shell.json("key", "show", "thrifty")["money"] == "1000.00 DUSD"
    shell.json("pay", "send", "sensor", "0.001", "--as", "thrifty")
    assert shell.json("pay", "budget", "show", "--as", "thrifty")["spent_this_period"] == "0.001 DUSD"
    shell.json("pay", "vault", "deposit", "1", "--as", "thrifty")
    for words in (("vault", "withdraw", "1", "--to", "sensor"), ("fund", "buyer=1")):
        assert shell.json("pay", *words, "--as", "thrifty", code=2)["error"]["code"] == "budget"
    assert shell.json("pay", "vault", "withdraw", "0.001", "--to", "sensor", "--as", "thrifty")["moved"] == "0.001 DUSD"
    assert shell.json("pay", "budget", "show", "--as", "thrifty")["spent_this_period"] == "0.002 DUSD"


class Sick(BaseHTTPRequestHandler):
    """Shows a gateway's 402, and has a fault when it is paid."""

    def do_GET(self):
        shown = requests.get(self.server.gateway, timeout=10).headers["payment-required"]
        self.send_response(402 if self.headers.get("payment-signature") is None else 503)
        self.send_header("payment-required", shown)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def check_waiting(shell, url, options):
    """Pay a server that does not deliver; see the payment, and drop it."""
    name = options[1]
    assert shell.json("pay", "waiting", "--as", name) == {"payments": []}
    with ThreadingHTTPServer(("127.0.0.1", 0), Sick) as server:
        server.gateway = url
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sick = f"http://127.0.0.1:{server.server_port}/"
        kept = shell.json("pay", "get", sick, *options, code=3)["error"]
        server.shutdown()
    assert (kept["message"], kept["retryable"]) == ("the server answers 503: the payment is kept", True)
    (waiting,) = shell.json("pay", "waiting", "--as", name)["payments"]
    assert (waiting["url"], waiting["price"], waiting["key"]) == (sick, "0.0005 DUSD", False)
    assert waiting["id"] in shell.run("pay", "waiting", "--as", name).stdout
    assert shell.json("pay", "drop", waiting["id"], "--as", name) == waiting
    assert "no payment that waits" in shell.json("pay", "drop", "pay_", "--as", name, code=2)["error"]["message"]
    assert shell.run("pay", "waiting", "--as", name).stdout == ""


@pytest.mark.parametrize(("scheme", "end"), [("exact", signal.SIGINT), ("batch-settlement", signal.SIGTERM)])
def test_get__when_a_gateway_serves__buys_readings_inside_the_budget(shell, scheme, end):
    name = f"client-{scheme}"
    shell.json("key", "new", name, "--curve", "p256")
    shell.json("pay", "budget", "set", "--as", name, "--each-period", "0.0025")
    port = free_port()
    gateway = subprocess.Popen(
        [PYIOT, "gateway", "run", "--as", "sensor", "--port", str(port), "--price-row", "0.0001"],
        env=shell.environment, cwd=shell.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        assert gateway.stderr.readline() == f"serving sensor on {url}; Ctrl-C ends it\n"
        taken = shell.json("gateway", "run", "--as", "sensor", "--port", str(port), code=1)["error"]["message"]
        assert taken == f"the gateway cannot listen on 127.0.0.1:{port}: Address already in use"
        (device,) = requests.get(f"{url}/v1/devices", timeout=10).json()["devices"]
        (offer,) = requests.get(f"{url}/v1/offers", timeout=10).json()["offers"]
        assert (device["readings"], offer["title"]) == (60, "Occupancy")
        assert requests.get(url + offer["bundle"], timeout=10).status_code == 200
        wanted = f"{url}/v1/devices/{device['device']}/readings?limit=10"
        options = ("--as", name, "--max", "0.001", "--scheme", scheme)
        quote = shell.json("pay", "get", wanted, *options, "--dry-run")
        assert (quote["costs"], quote["scheme"], quote["status"]) == ("0.001 DUSD", scheme, 402)
        for _ in range(2):
            bought = shell.json("pay", "get", wanted, *options)
            assert (bought["status"], bought["paid"]) == (200, "0.001 DUSD")
            assert len(json.loads(bought["body"])["readings"]) == 10
        assert shell.json("pay", "get", wanted, *options, code=2)["error"]["code"] == "budget"
        words = ("pay", "get", wanted.replace("limit=10", "limit=5"), *options, "--device-key")
        by_device = shell.json(*words, code=2 if scheme == "exact" else 0)
        assert by_device.get("paid") == (None if scheme == "exact" else "0.0005 DUSD")
        missing = shell.json("pay", "get", f"{url}/nothing", *options, code=1)
        assert (missing["status"], missing["paid"]) == (404, "0.00 DUSD")
        shell.json("pay", "get", wanted, *options, "--out", "no/such/folder.json", code=2)
        if scheme == "exact":
            check_waiting(shell, wanted.replace("limit=10", "limit=5"), options)
        dear = shell.json("pay", "get", wanted.replace("limit=10", "limit=11"), *options, code=2)
        assert (dear["error"]["code"], "may be paid" in dear["error"]["message"]) == ("budget", True)
    finally:
        gateway.send_signal(end)
        _, talk = gateway.communicate(timeout=60)
    assert (talk, gateway.returncode) == ("", 0)
