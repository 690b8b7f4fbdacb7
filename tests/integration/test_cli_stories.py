"""The command line against a devnet, in one process: exit codes, dry runs, disputes, refunds, input of many kinds."""

import json
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from pyiot_evm.chain import Devnet
from pyiot_evm.cli import app
from pyiot_evm.cli.session import Session
from pyiot_evm.home import LIGHT, Home
from pyiot_evm.machine import Machine
from pyiot_evm.market.seller import SellerLoop

PASSPHRASE = "a passphrase for the tests"
SERIES = "time,value\n" + "".join(f"2024-01-01 00:{m:02}:00,{20 + m / 10:.1f}\n" for m in range(40))
ID = "0x" + "ab" * 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def chain(folder):
    home = Home(folder / "home", passphrase=lambda: PASSPHRASE, cost=LIGHT)
    with Devnet(home=home) as chain:
        for name, curve in (("sensor", "p256"), ("buyer", None), ("poor", None)):
            entry = home.keyring.new(name, curve=curve)
            if name != "poor":
                chain.fund(entry.address, ether=10, dollars=1000)
        yield chain


@pytest.fixture(autouse=True)
def environment(monkeypatch, chain, folder):
    for name, value in {
        "PYIOT_HOME": str(folder / "home"),
        "PYIOT_PASSPHRASE": PASSPHRASE,
        "PYIOT_RPC_URL": chain.url,
        "NO_COLOR": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    (folder / "series.csv").write_text(SERIES)


def run(*words, code=0, **kwargs):
    result = CliRunner().invoke(app, [str(word) for word in words], **kwargs)
    assert "Traceback" not in result.output
    assert result.exit_code == code, (words, result.stdout, result.stderr)
    return result


def document(*words, code=0):
    return json.loads(run(*words, "--json", code=code).stdout)


def sell(*words):
    return document("data", "sell", "series.csv", "--as", "sensor", "--again", "--price", "0.25", *words)


def test_sell__when_run_twice__goes_on_with_the_same_sale():
    words = ("data", "sell", "series.csv", "--as", "sensor", "--price", "3")
    first = document(*words)["offer_id"]
    assert document(*words)["offer_id"] == first
    assert document(*words, "--again")["offer_id"] != first


def test_sell__when_quiet__prints_the_id_alone():
    printed = run("data", "sell", "series.csv", "--as", "sensor", "--price", "4", "--quiet").stdout
    assert printed.strip() == document("data", "list", "--min-price", "4")["offers"][0]["offer_id"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none.csv", "--price", "1"), "none.csv"),
        (("series.csv", "--price", "-1"), "an amount must be 0 or more: -1"),
        (("series.csv", "--price", "cheap"), "not an amount of money: 'cheap'"),
        (("series.csv", "--price", "0.0000001"), "more than the token's 6 decimals"),
        (("series.csv", "--price", "NaN"), "an amount must be 0 or more: NaN"),
        (("series.csv", "--price", "1", "--royalty", "51"), "a royalty is 0 to 50 percent, not 51"),
        (("series.csv", "--price", "1", "--royalty", "much"), "not an amount of money: 'much'"),
        (("series.csv", "--price", "1", "--for", "0x12"), "Address must have 20 bytes, not 1"),
        (("series.csv", "--price", "1", "--expires", "soon"), "not a length of time: 'soon'"),
        (
            ("series.csv", "--price", "1", "--reveal-window", "1s"),
            "a reveal window is 5 minutes to 30 days, not 1 seconds",
        ),
        (("series.csv", "--price", "1", "--unit", "value"), "not a column's unit: 'value'"),
        (("series.csv", "--price", "1", "--unit", "height=m"), "height"),
        (("series.csv", "--price", "1", "--time-column", "when"), "no column 'when'"),
        (("series.csv", "--price", "1", "--title", "a\x1b[2Jb"), "title"),
        (("series.csv", "--price", "1", "--title", "x" * 2000), "title"),
        (("series.csv", "--price", "1", "--tag", "x" * 100), "tag"),
        (("empty.csv", "--price", "1"), "empty.csv is empty"),
        (("words.csv", "--price", "1"), "not a number: 'warm'"),
        (("times.csv", "--price", "1"), "yesterday"),
        ((".", "--price", "1"), "cannot be read"),
    ],
)
def test_sell__when_input_is_wrong__exits_2_and_lists_nothing(words, message, folder):
    (folder / "empty.csv").write_text("")
    (folder / "words.csv").write_text("time,value\n2024-01-01,warm\n")
    (folder / "times.csv").write_text("time,value\nyesterday,1\n")
    before = len(document("data", "list")["offers"])
    result = run("data", "sell", "--as", "sensor", *words, code=2)
    assert result.stdout == ""
    assert result.stderr.splitlines()[0].startswith("error: ")
    assert message in result.stderr
    assert len(document("data", "list")["offers"]) == before


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("data", "show", "xyz"), 2),
        (("data", "show", ID), 2),
        (("data", "show", "0xffffffff"), 2),
        (("data", "buy", ID, "--as", "buyer", "--out", "x.csv"), 2),
        (("data", "buy", ID, "--as", "nobody", "--out", "x.csv"), 2),
        (("data", "buy", ID, "--as", "buyer", "--out", "no/such/folder/x.csv"), 2),
        (("data", "verify", "series.csv"), 1),
        (("data", "verify", "http://127.0.0.1:9/x.pyiot"), 3),
        (("data", "verify", "gopher://example.org/x.pyiot"), 2),
        (("data", "settle", ID, "--as", "buyer"), 2),
        (("data", "refund", ID, "--as", "buyer"), 2),
        (("data", "dispute", ID, "--as", "buyer"), 2),
        (("data", "cancel", ID, "--as", "buyer"), 2),
        (("data", "resell", ID, "--as", "buyer", "--price", "1"), 2),
        (("data", "withdraw", "--as", "nobody"), 2),
        (("data", "withdraw", "--as", "buyer", "--to", "bob"), 2),
        (("data", "list", "--since", "soon"), 2),
        (("data", "list", "--seller", "bob"), 2),
        (("data", "list", "--limit", "0"), 2),
        (("device", "show", "0x12"), 2),
        (("device", "register", "--as", "buyer"), 2),
        (("device", "transfer", ID, "buyer", "--as", "sensor"), 1),
        (("devnet", "fund", "nobody"), 2),
        (("data", "list", "--rpc", "http://127.0.0.1:9"), 3),
        (("data", "list", "--rpc", "ftp://example.org"), 2),
        (("data", "list", "--token", "0x12"), 2),
    ],
)
def test_commands__when_input_is_wrong__exit_with_the_right_code_and_one_json_object(words, code):
    result = run(*words, code=code)
    assert result.stdout == ""
    assert "error: " in result.stderr
    body = document(*words, code=code)["error"]
    assert body["message"]
    assert body["retryable"] is (code == 3)


def test_buy__when_the_price_is_above_the_limit__exits_2_and_pays_nothing():
    offer = sell()["offer_id"]
    words = ("data", "buy", offer, "--as", "buyer", "--out", "x.csv", "--max-price", "0.20")
    assert document(*words, code=2)["error"]["code"] == "budget"
    assert [
        order for order in document("data", "orders", "--as", "buyer")["orders"] if order["offer_id"] == offer
    ] == []


def test_buy__when_no_table_can_be_written_under_that_name__exits_2_and_pays_nothing():
    # It paid first, and then found that readings cannot be written as .txt: exit code 2, and no result.
    offer = sell()["offer_id"]
    error = document("data", "buy", offer, "--as", "buyer", "--out", "x.txt", code=2)["error"]
    assert "a table is written as .csv or .parquet" in error["message"]
    assert offer not in [order["offer_id"] for order in document("data", "orders", "--as", "buyer")["orders"]]


def test_buy__when_the_account_has_no_money__exits_2_and_says_what_is_missing():
    offer = sell()["offer_id"]
    error = document("data", "buy", offer, "--as", "poor", "--out", "x.csv", code=2)["error"]
    assert "the price is 0.25 DUSD" in error["message"]


def test_buy__when_nobody_answers__can_be_left_and_gone_on_with(chain):
    offer = sell()["offer_id"]
    words = ("data", "buy", offer, "--as", "buyer", "--out", "later.csv")
    error = document(*words, "--timeout", "0s", code=3)["error"]
    assert "not revealed yet" in error["message"]
    assert document("data", "serve", "--as", "sensor", "--once")["actions"][0]["state"] == "revealed"
    bought = document(*words)
    assert bought["state"] == "settled"
    assert sum(item["purpose"] == "buy" for item in bought["transactions"]) == 1


def test_buy__when_nobody_reveals_in_time__takes_the_refund_and_exits_1(chain, monkeypatch):
    offer = sell("--reveal-window", "5m")["offer_id"]
    words = ("data", "buy", offer, "--as", "buyer", "--out", "never.csv")
    order = document(*words, "--timeout", "0s", code=3)
    assert "paid" in order["error"]["message"]
    later = chain.now() + 301
    monkeypatch.setattr("pyiot_evm.market.trader.Trader.now", lambda _trader: later)
    chain.increase_time(301)
    ended = document(*words, code=1)
    assert ended["error"]["code"] == "sale_refunded"
    assert ended["state"] == "refunded"
    assert [item["purpose"] for item in ended["transactions"]][-1] == "refund"
    assert document("data", "withdraw", "--as", "buyer")["withdrawn"] == "0.25 DUSD"
    assert document("data", "withdraw", "--as", "buyer") == {
        "withdrawn": "0.00 DUSD",
        "left": "0.00 DUSD",
        "transactions": [],
    }


def test_dispute__when_every_row_is_right__exits_2_and_sends_nothing():
    offer = sell()["offer_id"]
    run("data", "buy", offer, "--as", "buyer", "--out", "x.csv", "--timeout", "0s", code=3)
    document("data", "serve", "--as", "sensor", "--once")
    order = next(o for o in document("data", "orders", "--as", "buyer")["orders"] if o["offer_id"] == offer)
    assert order["state"] == "revealed"
    run("data", "dispute", order["order_id"], "--as", "buyer", code=2)
    assert document("data", "settle", order["order_id"][:14], "--as", "buyer")["state"] == "settled"


def test_serve__when_nothing_is_open__says_so():
    result = run("data", "serve", "--as", "buyer", "--once")
    assert result.stdout == ""
    assert "nothing is open" in result.stderr


def test_ids__when_cut__are_found_unless_more_than_one_begins_so():
    first = sell()["offer_id"]
    assert document("data", "show", first[:20])["offer_id"] == first
    assert document("data", "show", first[2:20])["offer_id"] == first
    assert "no offer begins with" in run("data", "show", "0x0123456789abcdef", code=2).stderr
    assert "neither an id nor a file" in run("data", "show", first[:5], code=2).stderr


@pytest.mark.parametrize(
    ("words", "functions"),
    [
        (("data", "sell", "series.csv", "--as", "sensor", "--price", "9.99"), ["list"]),
        (
            ("data", "sell", "series.csv", "--as", "sensor", "--price", "9.99", "--bond", "1"),
            ["approve", "deposit", "list"],
        ),
        (("data", "buy", "OFFER", "--as", "buyer", "--out", "dry.csv"), ["buyWithAuthorization"]),
        (("data", "cancel", "OFFER", "--as", "sensor"), ["cancel"]),
        (("device", "revoke", "sensor", "--as", "sensor"), ["revoke"]),
        (("deploy",), []),
    ],
)
def test_dry_run__when_asked_for__shows_calls_with_gas_and_cost_and_sends_nothing(words, functions, chain, folder):
    offer = sell()["offer_id"]
    run("device", "register", "--as", "sensor")
    words = tuple(offer if word == "OFFER" else word for word in words)
    block, before = chain.block_number(), sorted(path.name for path in (folder / "home").rglob("*"))
    told = document(*words, "--dry-run")
    assert told["dry_run"] is True
    assert [call["function"].partition("(")[0] for call in told["calls"]] == functions
    assert all(call["gas"] is None or call["gas"] > 21_000 for call in told["calls"])
    assert not told["calls"] or told["calls"][0]["gas"] is not None
    text = run(*words, "--dry-run").stdout
    assert ("nothing was sent" if functions else "nothing would be sent") in text
    assert chain.block_number() == block
    after = sorted(path.name for path in (folder / "home").rglob("*") if not path.name.endswith(("-wal", "-shm")))
    assert set(after) - set(before) <= {"catalog.sqlite"}
    assert not (folder / "dry.csv").exists()


def test_dry_run__when_the_contract_would_refuse__exits_1_with_its_error():
    other = document("key", "show", "buyer")["device"]
    assert other is None
    error = document("device", "transfer", "sensor", "buyer", "--as", "buyer", "--dry-run", code=1)["error"]
    assert error["code"] in ("contract", "DeviceCallerNotOwner")
    assert "owner" in error["message"].lower()


def test_list__when_filtered__finds_what_fits():
    sell("--title", "Ozone at the harbour", "--tag", "air", "--price", "7")
    found = document("data", "list", "ozone", "harbour", "--tag", "AIR", "--max-price", "7", "--since", "2024-01-01")
    assert [entry["title"] for entry in found["offers"]] == ["Ozone at the harbour"]
    assert document("data", "list", "ozone", "--until", "2023-12-31")["offers"] == []
    assert run("data", "list", "nothing-like-this").stdout == ""


def test_list__when_watched__prints_each_listing_as_one_json_line(monkeypatch):
    offer = sell("--title", "watched")["offer_id"]

    @contextmanager
    def soon(_session):
        stop = threading.Event()
        threading.Timer(1.5, stop.set).start()
        yield stop

    monkeypatch.setattr(Session, "stop_signal", soon)
    lines = run("data", "list", "watched", "--watch", "--json").stdout.splitlines()
    assert offer in {json.loads(line).get("offer_id") for line in lines}


def test_list__when_a_title_would_steer_a_terminal__shows_it_harmless(chain):
    sensor = Machine.open(chain, "sensor")
    listing = sensor.sell("series.csv", price="0.01", title="plain", again=True, serve=False)
    market, record = sensor.market, sensor.market.journal.sale(listing.sale_id)
    offer = replace(listing.offer, salt=listing.offer.salt ^ 1)
    summary = record.summary.replace(b"plain", b"\x1b[2Jx")
    sensor.market.trader.account.transact(market.contract.list(offer, "file:///etc/passwd\x07", summary))
    for words in (("data", "list"), ("data", "list", "--json"), ("data", "show", str(market.sale_id(offer)))):
        printed = run(*words).stdout
        assert "\x1b" not in printed
        assert "\x07" not in printed


def test_doctor__when_all_is_well__says_so_for_each():
    told = document("doctor")
    assert told["ok"] is True
    subjects = {check["subject"] for check in told["checks"]}
    assert subjects >= {"python", "packages", "anvil", "home", "node", "clock", "contracts", "token", "sensor", "buyer"}


def test_doctor__when_the_token_is_none__shows_everything_else(monkeypatch, folder):
    # It stopped at the first check that raised, and showed one error instead of its findings.
    told = document("doctor", "--token", "0x" + "11" * 20, code=1)
    bad = [check for check in told["checks"] if check["state"] == "fail"]
    assert [check["subject"] for check in bad] == ["token"]
    assert {"node", "contracts", "sensor", "buyer"} <= {check["subject"] for check in told["checks"]}

    hanging = folder / "anvil"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setattr("pyiot_evm.chain.nodes.find_anvil", lambda: hanging)
    monkeypatch.setattr("pyiot_evm.cli.checkup.TOOL_SECONDS", 0.1)
    tools = [check for check in document("doctor")["checks"] if check["subject"] == "anvil"]
    assert [(check["state"], "does not answer" in check["text"]) for check in tools] == [("warn", True)]


def test_doctor__when_the_node_does_not_answer__exits_1_and_says_what_to_do():
    told = document("doctor", "--rpc", "http://127.0.0.1:9", code=1)
    assert told["ok"] is False
    bad = [check for check in told["checks"] if check["state"] == "fail"]
    assert [check["subject"] for check in bad] == ["node"]
    assert bad[0]["advice"]


def test_doctor__when_the_suite_is_not_deployed__exits_1(folder):
    with Devnet(deploy=False) as bare:
        told = document("doctor", "--rpc", bare.url, code=1)
    assert [check["subject"] for check in told["checks"] if check["state"] == "fail"] == ["contracts"]


def test_device__when_looked_after__goes_through_its_whole_life(chain):
    run("key", "new", "rig", "--curve", "secp256k1")
    assert document("device", "show", "rig")["registered"] == ""
    made = document("device", "register", "--as", "rig")
    assert made["owner"] == document("key", "show", "rig")["address"]
    assert document("device", "register", "--as", "rig")["transactions"] == []
    assert made["device"] in {device["device"] for device in document("device", "list")["devices"]}
    assert document("device", "rotate", "--as", "rig", "--curve", "p256")["epoch"] == 1
    shown = document("device", "show", made["device"])
    assert len(shown["keys"]) == 2
    assert shown["did"].startswith("did:")
    assert shown["did_document"]["id"] == shown["did"]
    buyer = document("key", "show", "buyer")["address"]
    assert document("device", "transfer", "rig", "buyer", "--as", "rig")["owner"] == buyer
    assert document("device", "rotate", "--as", "rig")["epoch"] == 3, "whoever holds the key may still rotate it"
    assert document("device", "revoke", "rig", "--as", "buyer")["revoked"] is True
    assert document("device", "revoke", "rig", "--as", "buyer")["transactions"] == []


def test_serve__when_an_exception_escapes__is_named_without_a_traceback(monkeypatch):
    def explode(_loop, **_options):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(SellerLoop, "step", explode)
    result = run("data", "serve", "--as", "sensor", "--once", code=1)
    assert "error: RuntimeError: out of luck" in result.stderr
    assert "PYIOT_DEBUG=1" in result.stderr
