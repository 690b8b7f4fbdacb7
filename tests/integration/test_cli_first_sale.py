"""The first slice, through real processes: a devnet, two names, a sale, a seller, a purchase, the same bytes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "pyiot_evm" / "samples" / "occupancy_6005.csv"
PYIOT = str(Path(sys.executable).with_name("pyiot"))


class Shell:
    """A user's shell: a home, a passphrase, a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "PYIOT_HOME": str(folder / "home"),
            "PYIOT_PASSPHRASE": "a passphrase for the tests",
        }

    def run(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PYIOT, *map(str, words)],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def json(self, *words: object, code: int = 0) -> dict:
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def start(self, *words: object) -> subprocess.Popen:
        return subprocess.Popen(
            [PYIOT, *map(str, words)],
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


@pytest.fixture(params=["anvil", "hardhat"])
def shell(tmp_path, request):
    shell = Shell(tmp_path)
    up = shell.json("devnet", "up", "--engine", request.param)
    assert up["running"] is True
    assert up["engine"] == request.param
    try:
        yield shell
    finally:
        assert shell.json("devnet", "down") == {"stopped": True}


def test_first_sale__when_done_by_commands__gives_the_buyer_the_same_bytes(shell):
    sensor = shell.json("key", "new", "sensor", "--curve", "p256")
    buyer = shell.json("key", "new", "buyer")
    assert (sensor["curve"], sensor["money"], sensor["ether"]) == ("p256", "1000.00 DUSD", "10.00 ETH")

    sale = shell.json(
        "data", "sell", SAMPLE, "--as", "sensor", "--price", "0.50", "--title", "Occupancy", "--tag", "road"
    )
    assert (sale["state"], sale["rows"], sale["price"], sale["seller"]) == (
        "listed",
        2380,
        "0.50 DUSD",
        sensor["address"],
    )
    assert {item["purpose"] for item in sale["transactions"]} >= {"list"}
    assert all(item["gas"] > 21_000 and item["hash"].startswith("0x") for item in sale["transactions"])

    serving = shell.start("data", "serve", "--as", "sensor", "--json")
    try:
        bought = shell.json("data", "buy", sale["offer_id"], "--as", "buyer", "--out", "bought.csv")
    finally:
        serving.send_signal(signal.SIGTERM)
        printed, told = serving.communicate(timeout=30)
    assert serving.returncode == 0, told
    assert [json.loads(line)["state"] for line in printed.splitlines()] == ["revealed"]
    assert (shell.folder / "bought.csv").read_bytes() == SAMPLE.read_bytes()
    assert (bought["state"], bought["rows"], bought["offer_id"]) == ("settled", 2380, sale["offer_id"])
    assert [item["purpose"] for item in bought["transactions"]] == ["buy", "settle"]

    again = shell.json("data", "buy", sale["offer_id"][:12], "--as", "buyer", "--out", "again.parquet")
    assert again["order_id"] == bought["order_id"], "what was bought is not paid again"
    assert shell.json("key", "show", "buyer")["money"] == "999.50 DUSD"
    assert buyer["address"] == shell.json("data", "orders", "--as", "buyer")["orders"][0]["buyer"]

    assert shell.json("data", "withdraw", "--as", "sensor")["withdrawn"] == "0.50 DUSD"
    assert shell.json("key", "show", "sensor")["money"] == "1000.50 DUSD"
