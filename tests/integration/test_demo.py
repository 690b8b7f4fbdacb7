"""The demo comes out as said, quickly, and says so when it does not."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "scripts" / "tools"
DEMO = TOOLS / "demo.py"
PAYMENTS = 40


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Run the whole demo once, with fewer payments."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, DEMO, "--folder", folder, "--json", "demo.json", "--gas-price", "2.5",
         "--payments", str(PAYMENTS)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads((folder / "demo.json").read_text())


def test_demo__when_run__comes_out_as_said_in_under_30_seconds_an_act(told):
    text, document = told
    assert "every step came out as said" in text
    assert max(map(len, text.splitlines())) <= 80
    assert document["ok"] is True
    assert document["gas_price_wei"] == 2_500_000_000
    assert [(act["act"], len(act["steps"])) for act in document["acts"]] == [(1, 14), (2, 10), (3, 21)]
    for act in document["acts"]:
        assert act["seconds"] < 30
        assert all(step["facts"] and all(step["facts"].values()) for step in act["steps"])
        assert sum(step["gas"] for step in act["steps"]) == act["gas"]
    assert sum(act["gas"] for act in document["acts"]) == document["gas"]


def test_first_act__when_told__disputes_in_one_transaction_and_says_what_it_cost(told):
    dispute = told[1]["acts"][0]["steps"][10]
    assert [item["function"] for item in dispute["transactions"]] == ["DataMarket.dispute"]
    assert dispute["cost_wei"] == dispute["gas"] * 2_500_000_000 > 0


def test_second_act__when_told__pays_for_every_reading_in_three_transactions(told):
    act = told[1]["acts"][1]
    sent = [item["function"] for step in act["steps"] for item in step["transactions"]]
    assert [name.partition(".")[2] for name in sent if name.startswith("PaymentChannels.")] == [
        "deposit", "claimAvailable", "settle",
    ]  # fmt: skip
    figures = act["figures"]
    assert figures["payments"] == PAYMENTS
    assert figures["payments_each_second"] > 0
    assert figures["gas_a_payment"] == pytest.approx(figures["gas_of_payments"] / PAYMENTS, abs=0.1)
    assert figures["gas_a_payment"] < figures["gas_by_transfer"] < figures["gas_by_exact"]


def test_third_act__when_told__rents_by_one_transaction_a_step_and_gives_the_deposit_back_within_seconds(told):
    act = told[1]["acts"][2]
    sent = [item["function"].partition(".") for step in act["steps"] for item in step["transactions"]]
    rented = [name for contract, _, name in sent if contract in ("DepositEscrow", "RuleArbiter")]
    assert rented == [
        "openWithAuthorization", "handOver", "checkIn", "checkOut", "waive", *["withdraw"] * 2,
        "openWithAuthorization", "handOver", "checkIn", "checkOut", "claim", "reject", "rule", "withdraw",
        "openWithAuthorization", "handOver", "checkIn", "checkOut", "claim", "reject", "rule", *["withdraw"] * 2,
    ]  # fmt: skip
    figures = act["figures"]
    assert 0 < figures["deposit_seconds"] < 30
    money = {name.removeprefix("money_of_"): figures[name] for name in figures if name.startswith("money_of_")}
    assert money == {"operator": 5.3, "driver": -5.3, "host": 585, "guest": -585, "judge": 0}


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """The demo's program, to be run in this process and spoilt."""
    monkeypatch.syspath_prepend(TOOLS)
    for name in ("demo", "demo_flat", "demo_ledger", "demo_lock", "demo_payments", "demo_rentals", "demo_sale"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def run(number):
        argv = ["demo", "--folder", str(tmp_path), "--json", "demo.json", "--act", str(number), "--payments", "10"]
        monkeypatch.setattr(sys, "argv", argv)
        code = importlib.import_module("demo").main()
        return code, json.loads((tmp_path / "demo.json").read_text())

    return run


def test_demo__when_the_forger_does_not_forge__says_which_step_differs_and_exits_1(demo, monkeypatch, capsys):
    monkeypatch.setattr(importlib.import_module("demo_sale"), "FORGERY", 0)
    code, document = demo(1)
    assert code == 1
    assert "FAILED  buyer finds that row, disputes: not so: row 1,234 was named" in capsys.readouterr().out
    assert document["ok"] is False
    assert "row 1,234" in document["problem"]
    assert [len(act["steps"]) for act in document["acts"]] == [10], "the steps that came out as said are told"


def test_demo__when_the_gateway_asks_more_than_was_said__says_so_and_exits_1(demo, monkeypatch):
    monkeypatch.setattr(importlib.import_module("demo_payments"), "TERMS", 'price_row = "0.0002"')
    code, document = demo(2)
    assert code == 1
    assert document["ok"] is False
    assert document["problem"]
    assert [len(act["steps"]) for act in document["acts"]] == [4]


def stuck_meter(door, **shown):
    shown = shown | ({"meter": 1000} if "meter" in shown else {})
    for name, value in shown.items():
        door._replace(name, value if name == "scene" else f"{value}\n".encode())


def test_demo__when_the_meter_counts_too_little__says_so_and_exits_1(demo, monkeypatch):
    monkeypatch.setattr(importlib.import_module("demo_lock").Door, "show", stuck_meter)
    code, document = demo(3)
    assert code == 1
    assert document["problem"] == "40 minutes and 12 kWh later: check-out: not so: 0.50 and 12 x 0.40: 5.30 are charged"
    assert [len(act["steps"]) for act in document["acts"]] == [8]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--act", "9"], "there is no act 9, only 1, 2, 3"),
        (["--payments", "2"], "2 is not from 3 to 2379"),
        (["--gas-price", "NaN"], "NaN is no price of gas"),
    ],
)
def test_demo__when_an_option_makes_no_sense__says_so_before_anything_runs(demo, monkeypatch, capsys, options, said):
    module = importlib.import_module("demo")
    monkeypatch.setattr(sys, "argv", ["demo", *options])
    with pytest.raises(SystemExit):
        module.main()
    assert said in capsys.readouterr().err
