"""`pyiot rental` from a terminal: what it prints, what comes next, what a dry run shows, and a node that goes away."""

from __future__ import annotations

import json
import secrets
import threading
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from pyiot_evm.chain import background, connect, start_devnet, stop_devnet
from pyiot_evm.chain.abi import encode, selector
from pyiot_evm.chain.calls import Call
from pyiot_evm.chain.deployment import deploy_once
from pyiot_evm.chain.rpc import RpcClient
from pyiot_evm.cli import app
from pyiot_evm.cli.output import clock
from pyiot_evm.contracts.court_arbiter import CourtArbiter
from pyiot_evm.contracts.deposit_escrow import RentalHandedOver
from pyiot_evm.device import Field, ReadingJournal, Schema, device_id
from pyiot_evm.device.rental_messages import CheckIn, CheckOut
from pyiot_evm.escrow.policies import OwnerPolicy
from pyiot_evm.escrow.rulings import deploy_court_arbiter
from pyiot_evm.hashing import keccak256
from pyiot_evm.home import LIGHT, Home
from pyiot_evm.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyiot_evm.chain import Chain
    from pyiot_evm.types import Address

RUN = CliRunner()
PASSPHRASE = "a passphrase of the tests"


class Terminal:
    """A home with an owner, a renter and a judge, and the commands that they type."""

    def __init__(self, chain: Chain, home: Home) -> None:
        self.chain, self.home, self.folder = chain, home, home.path
        self.offer = self.folder / "offer.json"

    def type(self, *words: object, code: int = 0) -> Any:
        done = RUN.invoke(app, [str(word) for word in words])
        assert done.exit_code == code, (words, done.stdout, done.stderr)
        return done

    def rental(self, *words: object, code: int = 0) -> Any:
        return self.type("rental", *words, code=code)

    def make(self, *words: object) -> Any:
        return self.rental(
            "offer", "--as", "owner", "--title", "Bay 7", "--for", "1h", "--fee", "0.5", "--deposit", "5",
            "--arbiter", "judge", "--out", self.offer, *words,
        )  # fmt: skip

    def make_with(self, agreed: Path, *, code: int = 0) -> None:
        self.rental(
            "offer", "--as", "owner", "--title", "Bay 7", "--for", "2h", "--fee", "0.5", "--deposit", "5",
            "--agreement", agreed, "--out", self.offer, code=code,
        )  # fmt: skip

    def open(self) -> str:
        self.make()
        return str(self.rental("open", self.offer, "--as", "renter", "--quiet").stdout.strip())

    def say(self, name: str, kind: type[CheckIn] | type[CheckOut], **seen: bytes) -> Path:
        with Machine.open(self.chain, "owner") as owner, self.home.keyring.device("owner") as device:
            offer = owner.rentals.offers()[-1].offer
            said = owner.rentals.clerk.messages.sign(kind(offer.id, self.chain.now(), **seen), device)  # type: ignore[arg-type]
        path = self.folder / f"{name}.json"
        path.write_text(said.encode())
        return path


@pytest.fixture
def terminal(devnet: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    home = Home(tmp_path, passphrase=lambda: PASSPHRASE, cost=LIGHT)
    for name, value in {"HOME": tmp_path, "PASSPHRASE": PASSPHRASE, "RPC_URL": devnet.url}.items():
        monkeypatch.setenv(f"PYIOT_{name}", str(value))
    with connect(devnet.url, home=home) as chain:
        for name, curve in (("owner", "p256"), ("renter", None), ("judge", None)):
            Machine.create(chain, name, curve=curve).close()  # type: ignore[arg-type]
        yield Terminal(chain, home)


def test_commands__when_a_rental_runs__say_what_comes_next(terminal: Terminal) -> None:
    terminal.make()
    checked = terminal.rental("show", terminal.offer, "--as", "renter")
    assert "state            verified" in checked.stdout
    opened = terminal.rental("open", terminal.offer, "--as", "renter", "--max-price", "5.5")
    assert "next: wait for the owner" in opened.stderr
    rental = terminal.rental("open", terminal.offer, "--as", "renter", "--quiet").stdout.strip()
    assert terminal.rental("open", terminal.offer, "--as", "judge", code=2).stderr.startswith("error: ")

    assert "when the device has checked out" in terminal.rental("handover", rental[:12], "--as", "owner").stderr
    assert terminal.rental("checkin", terminal.say("in", CheckIn), "--as", "renter").exit_code == 0
    said = ("checkout", terminal.say("out", CheckOut), "--hold", "--as")
    refused = terminal.rental(*said, "judge", "--offer", terminal.offer, code=2).stderr
    assert "only the owner's and the renter's loop shows what is kept" in refused
    held = terminal.rental(*said, "renter")
    assert "next: pyiot rental serve --as renter" in held.stderr
    assert "renter: checked-out rental 0x" in terminal.rental("serve", "--as", "renter", "--once").stdout
    claimed = terminal.rental("claim", rental, "2", "--as", "owner", "--evidence", terminal.offer)
    assert "claimed       2.00 DUSD" in claimed.stdout
    assert f"pyiot rental accept {rental[:10]} --as renter" in terminal.rental("show", rental, "--as", "renter").stderr
    assert terminal.rental("accept", rental, "--as", "renter").exit_code == 0
    assert "ending        accepted" in terminal.rental("show", rental, "--as", "owner").stdout

    doctor = terminal.type("doctor", "--as", "owner").stdout
    assert "from rentals 2.50 DUSD" in " ".join(doctor.split())
    assert "pyiot rental withdraw --as owner" in " ".join(doctor.split())
    assert "withdrawn     2.50 DUSD" in terminal.rental("withdraw", "--as", "owner").stdout
    rows = terminal.rental("list", "--as", "owner").stdout
    assert "RENTAL" in rows
    assert "TERMS" in rows
    assert "nothing is to be done" in terminal.rental("serve", "--as", "owner", "--once").stderr


def test_commands__when_refused__exit_2_and_say_why(terminal: Terminal) -> None:
    rental = terminal.open()
    for words, says in (
        (("handover", rental, "--as", "renter"), "not its owner"),
        (("claim", rental, "1", "--as", "owner"), "opened, not checked-out"),
        (("accept", rental, "--as", "renter"), "opened, not claimed"),
        (("key", rental, "--as", "renter", "--out", "key.json"), "there is no access key"),
        (("handover", "0xffff", "--as", "owner"), "no rental begins with"),
        (("checkin", terminal.offer, "--as", "renter"), "not a signed check-in"),
        (("show", terminal.folder / "none.json", "--as", "renter"), "neither an id nor a file"),
        (("open", terminal.folder / "none.json", "--as", "renter"), "cannot read"),
        (("offer", "--as", "owner", "--title", "x", "--fee", "1", "--out", "x.json"), "needs an end or a length"),
        (("offer", "--as", "owner", "--title", "x", "--fee", "1", "--for", "500d", "--out", "x.json"), "400 days"),
        (("offer", "--as", "owner", "--title", " ", "--fee", "1", "--for", "1h", "--out", "x.json"), "needs a title"),
        (
            (
                "offer",
                "--as",
                "owner",
                "--title",
                "x",
                "--fee",
                "1",
                "--for",
                "1h",
                "--out",
                "x.json",
                "--arbiter",
                "nil",
            ),
            "'nil' is no name of this home and no address",
        ),
        (("cancel", terminal.offer, "--as", "owner"), "was opened already: its rental goes on"),
        (("refund", rental, "--as", "judge"), "has no rental"),
        (("checkin", terminal.say("out", CheckOut), "--as", "renter"), "out.json is a check-out"),
        (("checkout", terminal.say("in", CheckIn), "--as", "renter"), "in.json is a check-in"),
        (("open", terminal.offer, "--as", "renter", "--max-price", "1", "--json"), ""),
    ):
        done = terminal.rental(*words, code=0 if not says else 2)
        assert says in done.stderr
    terminal.rental("close", rental, "--as", "renter", code=3)
    assert "no rental offer" in terminal.rental("show", __file__, "--as", "renter", code=1).stderr
    assert "state            signed" in terminal.rental("show", terminal.offer, "--as", "owner").stdout


def test_restore__when_the_journal_is_gone__reads_it_back_from_the_file(terminal: Terminal) -> None:
    rental = terminal.open()
    terminal.rental("handover", rental, "--as", "owner")
    (terminal.chain.path / "rentals.sqlite").unlink()
    assert "owner has no rentals" in terminal.rental("list", "--as", "owner").stderr
    restored = terminal.rental("restore", terminal.offer, "--as", "owner")
    assert "active" in restored.stdout
    assert "when the device has checked out" in restored.stderr
    assert terminal.rental("restore", terminal.offer, "--as", "renter", "--quiet").stdout.strip() == rental
    terminal.rental("key", rental, "--as", "renter", "--out", terminal.folder / "key.json")
    terminal.offer.unlink()
    terminal.make("--again")
    assert "state            signed" in terminal.rental("restore", terminal.offer, "--as", "owner").stdout
    assert "not of" in terminal.rental("restore", terminal.offer, "--as", "renter", code=2).stderr


def test_close__when_a_stranger_has_the_offer_file__ends_the_rental(terminal: Terminal) -> None:
    Machine.create(terminal.chain, "stranger").close()
    rental = terminal.open()
    terminal.rental("handover", rental, "--as", "owner")
    said = terminal.say("out", CheckOut)
    assert "--offer" in terminal.rental("checkout", said, "--as", "stranger", code=2).stderr
    assert "has no rental" in terminal.rental("close", rental, "--as", "stranger", code=2).stderr
    terminal.rental("checkout", said, "--as", "stranger", "--offer", terminal.offer)
    assert "WindowIsOpen" in terminal.rental("close", terminal.offer, "--as", "stranger", "--json", code=3).stdout
    terminal.chain.increase_time(86_401)
    assert "ending        released" in terminal.rental("close", terminal.offer, "--as", "stranger").stdout


def test_offer__when_its_file_is_there_already__signs_nothing(terminal: Terminal) -> None:
    # It overwrote the offer of another slot without a word; every other --out refuses.
    terminal.offer.write_text("the offer of another slot")
    words = ("offer", "--as", "owner", "--title", "x", "--for", "1h", "--fee", "1", "--out")
    assert "offer.json exists already" in terminal.rental(*words, terminal.offer, code=2).stderr
    assert "there is no folder" in terminal.rental(*words, terminal.folder / "nowhere" / "x.json", code=2).stderr
    assert terminal.offer.read_text() == "the offer of another slot"
    assert json.loads(terminal.rental("list", "--as", "owner", "--json").stdout)["offers"] == []


def test_offer__when_use_has_a_rate_and_no_cap__signs_nothing(terminal: Terminal) -> None:
    # It said "rate 3.00 DUSD per unit", and charged the fee alone.
    words = ("offer", "--as", "owner", "--title", "x", "--for", "1h", "--fee", "1", "--out", "x.json")
    refused = terminal.rental(*words, "--rate", "3", code=2).stderr
    assert "a rate without a meter cap would never be charged" in refused
    assert "hint: give a meter cap" in refused
    assert "a meter cap without a rate" in terminal.rental(*words, "--meter-cap", "3", code=2).stderr


UNUSUAL = (
    (("--grace", "2h", "--for", "3h"), "grace is 2h, and this renter takes at most 1h", ("--max-grace", "2h")),
    (
        ("--reply-window", "30m"),
        "reply window is 30m, and this renter takes at least 1h",
        ("--min-reply-window", "30m"),
    ),
    (("--claim-window", "8d"), "claim window is 8d, and this renter takes at most 7d", ("--max-claim-window", "8d")),
    (("--arbiter", "owner"), "arbiter is the owner itself", ("--allow-own-arbiter",)),
)


@pytest.mark.parametrize(("unusual", "why", "taken"), UNUSUAL)
def test_open__when_a_window_or_the_arbiter_is_unusual__takes_it_where_the_renter_says_so(
    terminal: Terminal, unusual: tuple[str, ...], why: str, taken: tuple[str, ...]
) -> None:
    made = terminal.make(*unusual).stderr
    assert f"warning: renters refuse this by default: the offer's {why}" in made
    refused = terminal.rental("open", terminal.offer, "--as", "renter", code=2).stderr
    assert why in refused
    assert " ".join(taken) in refused
    assert " ".join(taken) in made
    opened = terminal.rental("open", terminal.offer, "--as", "renter", *taken)
    assert "state         opened" in opened.stdout


def test_show__when_windows_are_shown__writes_them_for_people(terminal: Terminal) -> None:
    terminal.make("--claim-window", "90m")
    shown = terminal.rental("show", terminal.offer, "--as", "owner")
    assert "windows          claim   90m" in shown.stdout
    document = json.loads(terminal.rental("show", terminal.offer, "--as", "owner", "--json").stdout)
    assert document["windows"] == {"claim": "90m", "reply": "2d", "ruling": "7d"}
    assert document["window_seconds"] == {"claim": 5400, "reply": 172_800, "ruling": 604_800}


def test_show__when_a_rental_is_over__names_the_withdrawal_only_where_there_is_money(terminal: Terminal) -> None:
    rental = terminal.open()
    refunded = terminal.rental("refund", rental, "--as", "owner")
    assert "next:" not in refunded.stderr
    assert "next: pyiot rental withdraw --as renter" in terminal.rental("show", rental, "--as", "renter").stderr
    terminal.rental("withdraw", "--as", "renter")
    assert "next:" not in terminal.rental("show", rental, "--as", "renter").stderr


def test_serve__when_a_claim_or_a_dispute_waits__tells_whom_it_waits_for(terminal: Terminal) -> None:
    # "Nothing is to be done", it said to the renter of a claimed deposit and to the judge of a dispute.
    rental = terminal.open()
    for act, who in (("handover", "owner"), ("checkout", "owner"), ("claim", "owner"), ("reject", "renter")):
        given = terminal.say("out", CheckOut) if act == "checkout" else rental
        words = ("2",) if act == "claim" else ()
        if act == "claim":
            waiting = f"awaits-claim rental {rental[:10]} until 20"
            assert waiting in terminal.rental("serve", "--as", "owner", "--once").stdout
        if act == "reject":
            shown = terminal.rental("serve", "--as", "renter", "--once")
            assert f"renter: awaits-answer rental {rental[:10]} until 20" in shown.stdout
            assert f": pyiot rental accept {rental[:10]} --as renter, or pyiot rental reject" in shown.stdout
            assert "nothing is to be done" not in shown.stderr
        terminal.rental(act, given, *words, "--as", who)
    told = json.loads(terminal.rental("serve", "--as", "judge", "--once", "--offer", terminal.offer, "--json").stdout)
    (action,) = told["actions"]
    assert (action["state"], action["role"], action["rental_id"]) == ("awaits-ruling", "arbiter", rental)
    assert action["next"] == f"pyiot rental rule {rental[:10]} AMOUNT --as judge"
    assert (
        action["deadline"] == json.loads(terminal.rental("show", rental, "--as", "judge", "--json").stdout)["deadline"]
    )
    assert "nothing is to be done" in terminal.rental("serve", "--as", "renter", "--once").stderr


def test_show__when_there_is_evidence__compares_a_file_with_it(terminal: Terminal) -> None:
    photo, other, rental = terminal.folder / "photo.jpg", terminal.folder / "other.jpg", terminal.open()
    photo.write_bytes(b"a window, broken")
    other.write_bytes(b"a window, whole")
    terminal.rental("handover", rental, "--as", "owner")
    seen = keccak256(other.read_bytes())
    terminal.rental("checkin", terminal.say("in", CheckIn, condition=seen), "--as", "renter")
    terminal.rental("checkout", terminal.say("out", CheckOut), "--as", "owner")
    terminal.rental("claim", rental, "2", "--as", "owner", "--evidence", photo)
    terminal.rental("reject", rental, "--as", "renter")

    shown = terminal.rental("show", terminal.offer, "--evidence", photo, "--as", "judge").stdout
    assert f"evidence            0x{keccak256(photo.read_bytes()).hex()}" in shown
    assert "file is             evidence" in shown
    document = json.loads(terminal.rental("show", rental, "--as", "renter", "--evidence", other, "--json").stdout)
    assert document["file_is"] == ["check-in"]
    assert document["check_in_condition"] == "0x" + seen.hex()
    said = json.loads((terminal.folder / "in.json").read_text())["time"]
    assert document["checked_in"] == clock(said)
    assert document["checked_out"] >= document["checked_in"]
    assert document["check_out_condition"] is None
    photo.write_bytes(b"a window, broken ")
    refused = terminal.rental("show", rental, "--evidence", photo, "--as", "judge", code=1).stderr
    assert "nothing that was shown of this rental" in refused
    assert f"check-in 0x{seen.hex()}, evidence 0x" in refused


AGREEMENT = {
    "fields": [{"name": "temperature", "unit": "Cel", "scale": 2}],
    "limits": {"temperature": ["2", "8"]}, "count": 3, "span": "30m", "award": "1.5",
}  # fmt: skip


def test_rule__when_an_agreement_was_made__takes_the_device_s_journal(terminal: Terminal) -> None:
    agreed = terminal.folder / "agreed.json"
    agreed.write_text(json.dumps(AGREEMENT))
    terminal.make_with(agreed)
    rental = terminal.rental("open", terminal.offer, "--as", "renter", "--quiet").stdout.strip()
    terminal.rental("handover", rental, "--as", "owner")
    start = json.loads(terminal.offer.read_text())["terms"]["start"]
    schema = Schema((Field("temperature", unit="Cel", scale=2),))
    with terminal.home.keyring.device("owner") as key, ReadingJournal.open(
        terminal.folder / "cold.journal", device=device_id(key.signer_bytes), schema=schema, curve="p256"
    ) as journal:  # fmt: skip
        journal.sign_many(key, [((start + 1000 * n) * 1000, schema.fix([9 if n else 5])) for n in range(5)])
    terminal.chain.increase_time(5000)
    terminal.rental("checkout", terminal.say("out", CheckOut), "--as", "owner")
    terminal.rental("claim", rental, "2", "--as", "owner")
    terminal.rental("reject", rental, "--as", "renter")
    assert "needs an amount" in terminal.rental("rule", rental, "--as", "owner", code=2).stderr
    assert "no court's adapter" in terminal.rental("bring", rental, "--as", "renter", code=2).stderr
    assert "no court's adapter" in terminal.rental("enforce", rental, "--as", "renter", code=2).stderr
    readings = ("--readings", terminal.folder / "cold.journal")
    assert "no journal" in terminal.rental("rule", rental, "--readings", "nowhere", "--as", "owner", code=2).stderr
    assert "RuleArbiter.rule" in terminal.rental("rule", rental, *readings, "--as", "owner", "--dry-run").stdout
    assert "state         closed" in terminal.rental("rule", rental, *readings, "--as", "owner").stdout
    assert "to owner      2.00 DUSD" in terminal.rental("show", rental, "--as", "owner").stdout


LATE = {
    "fields": [{"name": "occupied"}], "limits": {"occupied": [0, 0]}, "count": 2, "span": "5m", "award": "1.5",
    "from": "end+10m", "until": "end + 1h",
}  # fmt: skip


def test_rule__when_the_renter_returned_late__takes_readings_from_after_the_end(terminal: Terminal) -> None:
    agreed = terminal.folder / "late.json"
    agreed.write_text(json.dumps(LATE))
    terminal.make_with(agreed)
    terms = json.loads(terminal.offer.read_text())["terms"]
    shown = json.loads(terminal.rental("show", terminal.offer, "--as", "renter", "--json").stdout)["agreement"]
    assert (shown["from"], shown["until"]) == (clock(terms["end"] + 600), clock(terms["end"] + 3600))
    rental = terminal.rental("open", terminal.offer, "--as", "renter", "--quiet").stdout.strip()
    terminal.rental("handover", rental, "--as", "owner")
    terminal.chain.increase_time(terms["end"] + 1000 - terminal.chain.now())
    terminal.rental("checkout", terminal.say("out", CheckOut), "--as", "owner")
    terminal.rental("claim", rental, "2", "--as", "owner")
    terminal.rental("reject", rental, "--as", "renter")
    schema = Schema((Field("occupied"),))
    readings = ("--readings", terminal.folder / "bay.journal", "--as", "owner")
    with terminal.home.keyring.device("owner") as key:
        for minutes in ([-60, -5, 0, 5], [10, 15]):
            with ReadingJournal.open(
                readings[1], device=device_id(key.signer_bytes), schema=schema, curve="p256"
            ) as journal:
                journal.sign_many(key, [((terms["end"] + 60 * n) * 1000, schema.fix([1])) for n in minutes])
            if minutes[0] < 0:
                assert "no readings show" in terminal.rental("rule", rental, *readings, code=2).stderr
    assert "state         closed" in terminal.rental("rule", rental, *readings).stdout
    assert "to owner      2.00 DUSD" in terminal.rental("show", rental, "--as", "owner").stdout


NONSENSE = (
    *({"limits": {}}, {"limits": {"noise": [1, 2]}}, {"limits": {"temperature": 8}}, {"count": 0}, {"span": 1}),
    *({"from": "end"}, {"until": "end+25h"}, {"from": "soon"}, {"until": "end+"}, {"until": 7}, {"from": "+1h"}),
    *({"form": "end+10m"}, {"span": "3h"}, {"from": "2020-01-01"}),
)


def test_offer__when_the_agreement_makes_no_sense__signs_nothing(terminal: Terminal) -> None:
    agreed = terminal.folder / "agreed.json"
    for change in NONSENSE:
        agreed.write_text(json.dumps(AGREEMENT | change))
        terminal.make_with(agreed, code=2)
    assert not terminal.offer.exists()
    assert json.loads(terminal.rental("list", "--as", "owner", "--json").stdout)["offers"] == []


SENDING = (
    "open", "handover", "refund", "close", "cancel", "withdraw", "checkin", "checkout", "claim", "accept", "reject",
    "rule", "waive", "serve",
)  # fmt: skip


@pytest.mark.parametrize("verb", SENDING)
def test_dry_run__when_it_sends__shows_the_call_and_changes_nothing(terminal: Terminal, verb: str) -> None:
    terminal.make()
    words: dict[str, tuple[object, ...]] = {
        "open": (terminal.offer, "--as", "renter"),
        "cancel": (terminal.offer, "--as", "owner"),
    }
    if verb not in words:
        rental = terminal.rental("open", terminal.offer, "--as", "renter", "--quiet").stdout.strip()
        words |= dict.fromkeys(("handover", "refund", "waive"), (rental, "--as", "owner"))
        words |= {"close": (rental, "--as", "renter"), "withdraw": ("--as", "renter")}
        words |= {"claim": (rental, "1", "--as", "owner"), "serve": ("--as", "owner", "--once")}
        words["checkin"] = (terminal.say("in", CheckIn), "--as", "renter")
        words["checkout"] = (terminal.say("out", CheckOut), "--as", "renter")
        words |= dict.fromkeys(("accept", "reject"), (rental, "--as", "renter"))
        words["rule"] = (rental, "1", "--as", "judge", "--offer", terminal.offer)
        _bring_to(terminal, verb, rental)
    _assert_dry(terminal, verb, *words[verb], contract="DepositEscrow")


def test_dry_run__when_it_hands_over__gives_the_key_to_nobody(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The released key is all that the renter needs. A dry run asked the node about the call and printed it, and nothing
    # was sent that could be paid for.
    rental = terminal.open()
    asked: list[str] = []
    exchange = RpcClient._exchange

    def listen(client: RpcClient, body: Any, methods: list[str]) -> Any:
        asked.append(str(body))
        return exchange(client, body, methods)

    words = ("handover", rental, "--as", "owner", "--dry-run")
    with monkeypatch.context() as patch:
        patch.setattr(RpcClient, "_exchange", listen)
        shown = terminal.rental(*words).stdout + terminal.rental(*words, "--json").stdout
    terminal.rental("handover", rental, "--as", "owner")
    with Machine.open(terminal.chain, "owner") as owner:
        (handed,) = (e for e in owner.rentals.history(rental) if isinstance(e, RentalHandedOver))
    assert shown.count("not shown: a secret") == 3
    for text in (shown, *asked):
        assert str(handed.released_key) not in text
        assert f"{handed.released_key:064x}" not in text


def test_claim__when_the_rental_is_in_another_token__reads_the_amount_in_that_token(
    terminal: Terminal, mock_code: Any
) -> None:
    with Machine.open(terminal.chain, "owner") as owner, Machine.open(terminal.chain, "renter") as renter:
        coin = deploy_once(owner.rentals.clerk.account, "BlockingToken", mock_code("BlockingToken"))
        data = selector("mint(address,uint256)") + encode(["address", "uint256"], [renter.address, 10**19])
        owner.rentals.clerk.account.transact(Call(coin, data, "mint(address,uint256)", bytes))
    terminal.make("--token", coin)
    rental = terminal.rental("open", terminal.offer, "--as", "renter", "--quiet").stdout.strip()
    terminal.rental("handover", rental, "--as", "owner")
    terminal.rental("checkout", terminal.say("out", CheckOut), "--as", "owner")
    terminal.rental("claim", rental, "1.5", "--as", "owner")
    with Machine.open(terminal.chain, "owner") as owner:
        assert owner.rentals.get(rental).claimed == 15 * 10**17
    terminal.rental("reject", rental, "--as", "renter")
    terminal.rental("rule", rental, "0.5", "--as", "judge", "--offer", terminal.offer)
    with Machine.open(terminal.chain, "owner") as owner:
        assert owner.rentals.credit(coin) == 10**18


def test_dry_run__when_it_goes_to_a_court__shows_the_call_and_changes_nothing(
    terminal: Terminal, mock_code: Any
) -> None:
    with Machine.open(terminal.chain, "judge") as judge:
        juror, fee = judge.rentals.clerk.account, 1 + secrets.randbelow(10**12)
        code = mock_code("SmallCourt") + encode(["address", "uint256"], [juror.address, fee])
        adapter = deploy_court_arbiter(judge.rentals.clerk, deploy_once(juror, "SmallCourt", code))
        terminal.make("--arbiter", adapter)
        rental = terminal.rental("open", terminal.offer, "--as", "renter", "--quiet").stdout.strip()
        _bring_to(terminal, "rule", rental)
        _assert_dry(terminal, "bring", rental, "--as", "renter", contract="CourtArbiter")
        terminal.rental("bring", rental, "--as", "renter")
        ruling = selector("giveRuling(uint256,uint256)") + encode(["uint256", "uint256"], [0, 1])
        court = terminal.chain.call(CourtArbiter(adapter).arbitrator())
        juror.transact(Call(court, ruling, "giveRuling(uint256,uint256)", bytes))
        _assert_dry(terminal, "enforce", rental, "--as", "renter", contract="CourtArbiter")
        assert "state         closed" in terminal.rental("enforce", rental, "--as", "renter").stdout


def _assert_dry(terminal: Terminal, *words: object, contract: str) -> None:
    before = terminal.chain.block_number()
    shown = terminal.rental(*words, "--dry-run").stdout
    assert f"{contract}." in shown
    assert "nothing was sent" in shown
    assert terminal.chain.block_number() == before


def _bring_to(terminal: Terminal, verb: str, rental: str) -> None:
    argued = ("accept", "reject", "rule")
    if verb in ("checkin", "checkout", "claim", "waive", "serve", *argued):
        terminal.rental("handover", rental, "--as", "owner")
    if verb in ("claim", "waive", *argued):
        terminal.rental("checkout", terminal.say("out", CheckOut), "--as", "owner")
    if verb in argued:
        terminal.rental("claim", rental, "2", "--as", "owner")
    if verb == "rule":
        terminal.rental("reject", rental, "--as", "renter")
    if verb == "serve":
        terminal.rental("checkout", terminal.say("out", CheckOut), "--as", "owner", "--hold")
    if verb == "withdraw":
        terminal.rental("refund", rental, "--as", "owner")
    if verb == "close":
        terminal.chain.increase_time(3601)


def test_offer__when_dry__writes_no_file_and_signs_nothing(terminal: Terminal) -> None:
    terminal.make("--dry-run")
    assert not terminal.offer.exists()
    assert terminal.rental("list", "--as", "owner", "--json").stdout.strip() == '{"rentals": [], "offers": []}'


def test_serve__when_the_node_goes_away_and_comes_back__goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = 10_000 + secrets.randbelow(20_000)
    monkeypatch.setattr(background, "_USUAL_PORTS", range(first, first + 50))
    home = Home(tmp_path, passphrase=lambda: PASSPHRASE, cost=LIGHT)
    url = start_devnet(home).url
    stop, seen = threading.Event(), []  # type: ignore[var-annotated]
    try:
        with connect(home=home) as chain:
            owner, renter = Machine.create(chain, "owner", curve="p256"), Machine.create(chain, "renter")
            owner.rentals.owning = OwnerPolicy(poll=0.1)
            offer = owner.rent_out("Bay 7", start=chain.now(), end=chain.now() + 3600, fee=1)
            stop_devnet(home)
            loop = threading.Thread(
                target=lambda: owner.rentals.serve(stop=stop, report=lambda act: (seen.append(act.kind), stop.set()))  # type: ignore[func-returns-value]
            )
            loop.start()
            loop.join(1)
            assert start_devnet(home).url == url
            renter.rentals.open(offer)
            loop.join(60)
            assert seen == ["handed-over"]
    finally:
        stop.set()
        stop_devnet(home)


# What one signs and another one carries


def _poor_renter(terminal: Terminal) -> Address:
    """Put a renter with dollars and no ether in the renter's place."""
    Machine.create(terminal.chain, "poor", ether=0).close()
    return terminal.home.keyring.entry("poor").address


def _carried(terminal: Terminal, name: str, *words: object, **given: Any) -> dict[str, Any]:
    """Let the poor renter sign something into a file, and the judge carry it."""
    file = terminal.folder / f"{name}.json"
    signed = terminal.rental(*words, "--as", "poor", "--sign-only", file)
    assert f"next: whoever pays the gas: pyiot rental carry {file}" in signed.stderr
    shown: dict[str, Any] = json.loads(terminal.rental("carry", file, "--as", "judge", "--json", **given).stdout)
    return shown


def test_sign_only__when_the_renter_never_has_ether__it_goes_the_whole_way(terminal: Terminal) -> None:
    address = _poor_renter(terminal)
    terminal.make()
    opened = _carried(terminal, "open", "open", terminal.offer)
    rental = opened["rental_id"]
    assert (opened["act"], opened["state"], opened["price"]) == ("open", "carried", "5.50 DUSD")
    terminal.rental("handover", rental, "--as", "owner")
    terminal.rental("key", rental, "--as", "poor", "--out", terminal.folder / "access-key.json")
    terminal.rental("checkout", terminal.say("out", CheckOut), "--as", "owner")
    terminal.rental("claim", rental, "2", "--as", "owner")
    assert _carried(terminal, "reject", "reject", rental)["rental_id"] == rental
    terminal.rental("rule", rental, "0.5", "--as", "judge", "--offer", terminal.offer)
    taken = _carried(terminal, "withdraw", "withdraw")
    assert (taken["act"], taken["amount"], taken["sender"]) == ("withdraw", "4.50 DUSD", str(address))
    assert "ending ruled" in " ".join(terminal.rental("show", rental, "--as", "poor").stdout.split())
    with Machine.open(terminal.chain, "poor") as poor:
        assert poor.balance() == 999
    assert terminal.chain.balance(address) == 0


def test_sign_only__when_it_cannot_be__signs_and_writes_nothing(terminal: Terminal) -> None:
    rental = terminal.open()
    there, new = terminal.offer, terminal.folder / "new.json"
    for words, says in (
        (("refund", rental, "--as", "owner", "--sign-only", there), "exists already"),
        (("refund", rental, "--as", "owner", "--sign-only", new / "deeper"), "there is no folder"),
        (("refund", rental, "--as", "owner", "--sign-only", new, "--good-for", "long"), "not a length of time"),
        (("claim", rental, "1", "--as", "owner", "--sign-only", new), "opened, not checked-out"),
        (("withdraw", "--as", "owner", "--sign-only", new), "the credit is"),
        (("carry", there, "--as", "owner"), "nothing that can be carried"),
        (("carry", new, "--as", "owner"), "cannot read the signed file"),
    ):
        code = 1 if says.startswith("nothing") else 2
        assert says in terminal.rental(*words, code=code).stderr
    dry = terminal.rental("refund", rental, "--as", "owner", "--sign-only", new, "--dry-run")
    assert "nothing would be sent" in dry.stdout
    assert not new.exists()
    terminal.rental("handover", rental, "--as", "owner")  # nothing was decided


def test_carry__when_a_file_was_changed_or_is_late__says_so_and_sends_nothing(terminal: Terminal) -> None:
    rental, file = terminal.open(), terminal.folder / "signed.json"
    terminal.rental("refund", rental, "--as", "owner", "--sign-only", file, "--good-for", "10m")
    signed = file.read_text()
    before = terminal.chain.block_number()
    for change, code, says in (({"nonce": "1"}, 1, "the file was changed"), ({"chainId": 1}, 2, "is for chain 1")):
        file.write_text(json.dumps(json.loads(signed) | change))
        assert says in terminal.rental("carry", file, "--as", "judge", code=code).stderr
    file.write_text(signed)
    dry = terminal.rental("carry", file, "--as", "judge", "--dry-run")
    assert "DepositEscrow.relay" in dry.stdout
    assert terminal.chain.block_number() == before
    terminal.chain.increase_time(601)
    assert "was good until" in terminal.rental("carry", file, "--as", "judge", code=2).stderr


def test_carry__when_it_hands_over__a_dry_run_gives_the_key_to_nobody(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rental, file = terminal.open(), terminal.folder / "handover.json"
    signed = terminal.rental("handover", rental, "--as", "owner", "--sign-only", file)
    assert "as good to the renter as the access key" in signed.stderr
    secret = json.loads(file.read_text())["call"][-64:]
    assert secret not in signed.stdout
    asked: list[str] = []
    exchange = RpcClient._exchange
    with monkeypatch.context() as patch:
        patch.setattr(RpcClient, "_exchange", lambda c, body, m: asked.append(str(body)) or exchange(c, body, m))
        shown = terminal.rental("carry", file, "--as", "judge", "--dry-run", "--json").stdout
    assert "not shown: a secret" in shown
    assert all(secret not in text for text in (shown, *asked))
    assert secret not in terminal.rental("carry", file, "--as", "judge").stdout
    assert "active" in terminal.rental("show", rental, "--as", "renter").stdout


def test_cosign__when_an_account_of_two_rules__each_signs_a_file_and_anybody_carries_it(
    terminal: Terminal, mock_code: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = terminal.home.keyring
    members = [keyring.new(name).address for name in ("anna", "ben")]
    with Machine.open(terminal.chain, "owner") as owner:
        code = mock_code("PanelWallet") + encode(["bytes[]", "uint64"], [[bytes(one) for one in members], 2])
        panel = deploy_once(owner.rentals.clerk.account, "PanelWallet", code)
    terminal.make("--arbiter", panel)
    rental = terminal.rental("open", terminal.offer, "--as", "renter", "--quiet").stdout.strip()
    terminal.rental("handover", rental, "--as", "owner")
    terminal.rental("checkout", terminal.say("out", CheckOut), "--as", "owner")
    terminal.rental("claim", rental, "2", "--as", "owner")
    terminal.rental("reject", rental, "--as", "renter")

    one, two = terminal.folder / "one.json", terminal.folder / "two.json"
    ruling = ("rule", rental, "0.5", "--as", "anna", "--offer", terminal.offer, "--account", panel)
    assert "does not rule" in terminal.rental(*ruling[:-2], code=2).stderr
    assert "cosign" in terminal.rental(*ruling, code=2).stderr
    terminal.rental("serve", "--once", "--as", "ben", "--offer", terminal.offer, "--account", panel)
    assert "disputed" in terminal.rental("show", rental, "--as", "ben").stdout
    assert "award 0.50 DUSD" in " ".join(terminal.rental(*ruling, "--sign-only", one).stdout.split())
    assert "does not take what" in terminal.rental("carry", one, "--as", "renter", code=1).stderr
    with monkeypatch.context() as patch:
        patch.setenv("PYIOT_RPC_URL", "http://127.0.0.1:9")  # no chain
        words = ("cosign", one, "--as", "ben", "--offer", terminal.offer, "--out", two)
        asked = json.loads(terminal.rental(*words, "--dry-run", "--json").stdout)
        assert (asked["award"], asked["token_address"]) == ("500000 base units", str(terminal.chain.token))
        assert not two.exists()
        signed = terminal.rental(*words)
    assert "500000 base units" in signed.stdout
    assert "5000000 base units" in signed.stdout
    terminal.rental("carry", one, two, "--as", "renter")
    assert "ending        ruled" in terminal.rental("show", rental, "--as", "owner").stdout
    opening = terminal.folder / "opening.json"
    terminal.offer.unlink()
    terminal.make("--again")
    terminal.rental("open", terminal.offer, "--as", "renter", "--sign-only", opening)
    assert "by itself" in terminal.rental("carry", one, opening, "--as", "judge", code=2).stderr


def test_court__when_deployed_twice__is_one_arbiter_and_says_what_a_dispute_costs(
    terminal: Terminal, mock_code: Any
) -> None:
    juror = Machine.open(terminal.chain, "judge").rentals.clerk.account
    arguments = encode(["address", "uint256"], [juror.address, 12_000_000])
    court = deploy_once(juror, "SmallCourt", mock_code("SmallCourt") + arguments)
    dry = json.loads(terminal.rental("court", court, "--as", "owner", "--dry-run", "--json").stdout)
    assert len(dry["calls"]) == 1
    shown = [json.loads(terminal.rental("court", court, "--as", who, "--json").stdout) for who in ("owner", "renter")]
    assert shown[0] == shown[1]
    assert shown[0]["fee_now"] == "0.000000000012 ETH"
    assert terminal.chain.code_at(shown[0]["arbiter"])
    assert terminal.rental("court", court, "--as", "owner", "--quiet").stdout.strip() == shown[0]["arbiter"]
    assert "is no court of ERC-792" in terminal.rental("court", juror.address, "--as", "owner", code=2).stderr
    assert (
        "--extra-data is hex" in terminal.rental("court", court, "--as", "owner", "--extra-data", "0xz", code=2).stderr
    )
