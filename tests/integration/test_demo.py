"""The demo comes out as said, quickly, and says so when it does not."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "scripts" / "tools" / "demo.py"


def test_demo__when_run__comes_out_as_said_in_under_30_seconds(tmp_path):
    done = subprocess.run(
        [sys.executable, DEMO, "--folder", tmp_path, "--json", "demo.json", "--gas-price", "2.5"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every step came out as said" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    told = json.loads((tmp_path / "demo.json").read_text())
    assert told["ok"] is True
    assert told["seconds"] < 30
    assert told["gas_price_wei"] == 2_500_000_000
    assert len(told["steps"]) == 14
    assert all(step["facts"] and all(step["facts"].values()) for step in told["steps"][:3])
    dispute = told["steps"][10]
    assert [item["function"] for item in dispute["transactions"]] == ["DataMarket.dispute"]
    assert dispute["cost_wei"] == dispute["gas"] * 2_500_000_000 > 0
    assert sum(step["gas"] for step in told["steps"]) == told["gas"]


@pytest.fixture
def demo(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("pyiot_demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pyiot_demo", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["demo", "--folder", str(tmp_path), "--json", "demo.json"])
    return module


def test_demo__when_the_forger_does_not_forge__says_which_step_differs_and_exits_1(demo, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "FORGERY", 0)
    assert demo.main() == 1
    assert "FAILED  buyer finds that row, disputes: not so: row 1,234 was named" in capsys.readouterr().out
    told = json.loads((tmp_path / "demo.json").read_text())
    assert told["ok"] is False
    assert "row 1,234" in told["problem"]
    assert len(told["steps"]) == 10, "the steps that came out as said are told"
