"""`pyiot pay stream` through real processes: hundreds of readings, either side killed, and money to the unit."""

import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import requests

from pyiot_evm.chain.nodes import free_port

PYIOT = str(Path(sys.executable).with_name("pyiot"))
COUNT = 220
PRICE = Decimal("0.0001")


class Shell:
    """A user's shell: a home, a passphrase, a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.options = {
            "cwd": folder,
            "text": True,
            "env": {
                "HOME": str(folder),
                "LANG": "C.UTF-8",
                "PATH": os.environ["PATH"],
                "PYIOT_HOME": str(folder / "home"),
                "PYIOT_PASSPHRASE": "a passphrase for the tests",
                "PYIOT_KEY_COST": "light",
            },
        }

    def run(self, *words, code=0):
        done = subprocess.run([PYIOT, *map(str, words)], **self.options, capture_output=True, timeout=120, check=False)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def json(self, *words, code=0):
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def start(self, *words):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([PYIOT, *map(str, words)], **self.options, **pipes)

    def gateway(self, port):
        made = self.start("gateway", "run", "--as", "sensor", "--port", port, "--price-stream", PRICE)
        assert made.stderr.readline() == f"serving sensor on http://127.0.0.1:{port}; Ctrl-C ends it\n"
        return made

    def money(self, name):
        return Decimal(self.json("key", "show", name)["money"].removesuffix(" DUSD"))


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("stream"))
    shell.json("devnet", "up")
    try:
        for name in ("sensor", "buyer"):
            shell.json("key", "new", name, "--curve", "p256")
        rows = [f"2015-09-01 {13 + n // 60}:{n % 60:02d}:00,{n}.25" for n in range(COUNT)]
        (shell.folder / "series.csv").write_text("\n".join(["timestamp,value", *rows, ""]))
        shell.json("data", "sell", "series.csv", "--as", "sensor", "--price", "0.50")
        yield shell
    finally:
        shell.json("devnet", "down")


@pytest.mark.parametrize("killed", ["buyer", "gateway"])
def test_stream__when_a_process_is_killed_on_the_way__sells_every_reading_and_pays_to_the_unit(shell, killed):
    before = shell.money("sensor"), shell.money("buyer")
    port, mode = free_port(), "locked" if killed == "buyer" else "plain"
    gateway = shell.gateway(port)
    try:
        (device,) = requests.get(f"http://127.0.0.1:{port}/v1/devices", timeout=10).json()["devices"]
        url = f"http://127.0.0.1:{port}/v1/devices/{device['device']}"
        words = ("pay", "stream", url, "--as", "buyer", "--max", "0.001", "--mode", mode, "--no-follow")
        words = (*words, "--prepay", COUNT, *(["--device-key"] if killed == "buyer" else []))
        buyer = shell.start(*words)
        lines = [buyer.stdout.readline() for _ in range(60)]
        if killed == "buyer":
            buyer.send_signal(signal.SIGKILL)
            lines += [
                line for line in buyer.communicate(timeout=60)[0].splitlines(keepends=True) if line.endswith("\n")
            ]
            rest = shell.run(*words)
            lines, talk = lines + rest.stdout.splitlines(), rest.stderr
        else:
            gateway.send_signal(signal.SIGKILL)
            gateway.communicate(timeout=60)
            gateway = shell.gateway(port)
            rest, talk = buyer.communicate(timeout=120)
            lines += rest.splitlines()
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.communicate(timeout=60)
    seqs = [json.loads(line)["seq"] for line in lines]
    assert sorted(set(seqs)) == list(range(COUNT))
    assert seqs == sorted(seqs), "in order"
    assert len(seqs) <= COUNT + (killed == "buyer"), "what the killed one had not taken comes twice, nothing else"
    assert json.loads(lines[-1])["values"] == {"value": f"{COUNT - 1}.25"}
    assert "readings for" in talk
    shell.json("pay", "claim", "--as", "sensor")  # what the gateway's watchtower has left
    shell.json("pay", "settle", "--as", "sensor")
    assert shell.money("sensor") - before[0] == COUNT * PRICE
    assert before[1] - shell.money("buyer") == COUNT * PRICE
    for channel in shell.json("pay", "list", "--as", "buyer")["channels"]:
        shown = shell.json("pay", "show", channel["id"], "--as", "buyer")
        assert shown["balance"] == shown["promised"] == shown["claimed"] == "0.022 DUSD"


def test_stream__when_it_is_interrupted__says_what_came_for_how_much_and_goes_on_from_there(shell):
    port = free_port()
    gateway = shell.gateway(port)
    try:
        shell.json("key", "new", "listener")
        (device,) = requests.get(f"http://127.0.0.1:{port}/v1/devices", timeout=10).json()["devices"]
        url = f"http://127.0.0.1:{port}/v1/devices/{device['device']}"
        words = ("pay", "stream", url, "--as", "listener", "--max", "0.001")
        asked = shell.json(*words, "--dry-run")
        assert (asked["costs"], asked["begins_with"], asked["pays_in"]) == ("0.0001 DUSD a reading", 0, "0.01 DUSD")
        assert shell.json("pay", "list", "--as", "listener")["channels"] == []
        listener = shell.start(*words)
        first = [listener.stdout.readline() for _ in range(3)]
        listener.send_signal(signal.SIGINT)
        rest, talk = listener.communicate(timeout=60)
        seqs = [json.loads(line)["seq"] for line in [*first, *rest.splitlines()]]
        assert (listener.returncode, seqs) == (130, list(range(len(seqs))))
        counts = {len(seqs), len(seqs) + 1}  # one may have come that was not printed any more
        assert any(f"{count} readings for {count * PRICE} DUSD" in talk for count in counts), talk
        again = json.loads(shell.run(*words, "--count", 1).stdout)
        assert again["seq"] in {len(seqs) - 1, len(seqs)}, "one that was printed as the interrupt came may come again"
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.communicate(timeout=60)
