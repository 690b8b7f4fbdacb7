"""Two rentals through real processes: owner, renter, lock and arbiter each with a home of its own, and one devnet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiot_evm.chain import Chain

PYIOT = str(Path(sys.executable).with_name("pyiot"))
PATIENCE = 60


class Party:
    """One of the four: a folder, a home, and a terminal."""

    def __init__(self, chain: Chain, folder: Path, name: str, *, is_offline: bool = False) -> None:
        self.folder, self.name = folder / name, name
        self.folder.mkdir()
        self.environment = {
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PYIOT_HOME": str(self.folder / "home"),
            "PYIOT_PASSPHRASE": f"the {name}'s",
            "PYIOT_KEY_COST": "light",
            "PYIOT_RPC_URL": chain.url,
        }
        self.key = self.run("key", "new", name, *(("--curve", "p256") if is_offline else ()))
        if is_offline:
            self.run("device", "register", "--as", name)
            del self.environment["PYIOT_RPC_URL"]

    def run(self, *words: object, code: int = 0) -> dict[str, Any]:
        done = subprocess.run(
            [PYIOT, *map(str, words), "--json"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, (words, done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def rental(self, verb: str, *words: object, code: int = 0) -> dict[str, Any]:
        return self.run("rental", verb, *words, "--as", self.name, code=code)

    @contextmanager
    def serving(self, *words: object) -> Iterator[None]:
        """Run something of this party in the background, and end it as Ctrl-C does."""
        told = self.folder / f"{words[0]}-{words[1]}.log"
        with told.open("w") as log, subprocess.Popen(
            [PYIOT, *map(str, words), "--as", self.name], cwd=self.folder, env=self.environment, stdout=log, stderr=log
        ) as process:  # fmt: skip
            try:
                until(lambda: told.stat().st_size > 0)
                yield
                assert process.poll() is None, told.read_text()
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 0, told.read_text()
            finally:
                process.kill()

    def state(self, rental: str) -> str:
        return str(self.rental("show", rental)["state"])

    def money(self) -> Decimal:
        """What it has more than at first, of the thousand that each gets on a devnet."""
        return Decimal(self.run("key", "show", self.name)["money"].split()[0]) - 1000


def until(condition: Any, *, seconds: float = PATIENCE) -> float:
    """Wait until something holds; return how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it never came"
        time.sleep(0.05)
    return time.monotonic() - started


class Door:
    """The lock's process: it has a socket, a clock, a meter and a camera, and no network."""

    def __init__(self, lock: Party, now: int) -> None:
        self.lock, self.socket = lock, lock.folder / "door"
        (lock.folder / "clock").write_text(f"{now}\n")
        (lock.folder / "meter").write_text("1000\n")
        (lock.folder / "photo").write_bytes(b"all in order")

    def words(self, owner: str, offer: Path) -> tuple[object, ...]:
        files = ("--clock", "clock", "--meter", "meter", "--condition", "photo")
        return ("lock", "run", "--socket", self.socket, *files, "--owner", owner, "--offer", offer)

    def at(self, who: Party, *words: object, code: int = 0) -> dict[str, Any]:
        """Stand at the lock."""
        return who.run("lock", "try", "--key", "access-key.json", "--socket", self.socket, *words, code=code)


@pytest.fixture
def parties(devnet: Chain, tmp_path: Path) -> dict[str, Party]:
    return {
        "owner": Party(devnet, tmp_path, "owner"),
        "renter": Party(devnet, tmp_path, "renter"),
        "judge": Party(devnet, tmp_path, "judge"),
        "lock": Party(devnet, tmp_path, "lock", is_offline=True),
    }


@pytest.mark.timeout(300)
def test_flat__when_the_owner_claims_for_damage__is_ruled_by_the_arbiter(
    devnet: Chain, parties: dict[str, Party]
) -> None:
    owner, renter, judge, lock = parties.values()
    door = Door(lock, devnet.now())
    offer = owner.folder / "flat.json"
    shown = owner.rental(
        "offer", "--title", "Flat", "--place", "Mill Lane 3", "--rules", "No parties.", "--for", "3d", "--fee", 240,
        "--deposit", 300, "--device", lock.key["device"], "--arbiter", judge.key["address"], "--out", offer,
    )  # fmt: skip
    assert (shown["price"], shown["arbiter"]) == ("540.00 DUSD", judge.key["address"])
    assert renter.rental("show", offer)["state"] == "verified"

    with lock.serving(*door.words(owner.key["address"], offer)):
        rental = renter.rental("open", offer, "--max-price", 540)["rental_id"]
        renter.rental("key", rental, "--out", "access-key.json", code=2)
        assert [act["state"] for act in owner.rental("serve", "--once")["actions"]] == ["handed-over"]
        renter.rental("key", rental, "--out", "access-key.json")

        door.at(renter, "--out", "check-in.json")
        assert renter.rental("checkin", "check-in.json")["state"] == "checked-in"
        (lock.folder / "photo").write_bytes(b"a broken window")
        (lock.folder / "clock").write_text(f"{devnet.now() + 7200}\n")
        door.at(renter, "--check-out", "--out", "check-out.json")
        door.at(renter, code=1)
    assert renter.rental("checkout", "check-out.json")["state"] == "checked-out"

    (owner.folder / "window.jpg").write_bytes(b"a broken window")
    claimed = owner.rental("claim", rental, 120, "--evidence", "window.jpg")
    assert (claimed["state"], claimed["claimed"]) == ("claimed", "120.00 DUSD")
    assert owner.rental("rule", rental, 120, code=2)["error"]["code"] == "input"
    assert renter.rental("reject", rental)["state"] == "disputed"
    ruled = judge.rental("rule", rental, 45, "--offer", offer)
    assert ruled["state"] == "closed"

    ended = renter.rental("show", rental)
    assert (ended["ending"], ended["to_owner"], ended["to_renter"]) == ("ruled", "285.00 DUSD", "255.00 DUSD")
    assert owner.rental("withdraw")["withdrawn"] == "285.00 DUSD"
    assert renter.rental("withdraw")["withdrawn"] == "255.00 DUSD"
    assert [who.money() for who in (owner, renter, judge)] == [285, -285, 0]


@pytest.mark.timeout(300)
def test_charger__when_rented_by_the_hour__gives_the_deposit_back_within_seconds(
    devnet: Chain, parties: dict[str, Party], capfd: pytest.CaptureFixture[str]
) -> None:
    owner, renter, _, lock = parties.values()
    door, charge = Door(lock, devnet.now()), Decimal("5.30")
    offer = owner.folder / "bay-7.json"
    owner.rental(
        "offer", "--title", "Bay 7", "--for", "1h", "--fee", "0.50", "--rate", "0.40", "--unit", "kWh",
        "--meter-cap", 20, "--deposit", 50, "--device", lock.key["device"], "--out", offer,
    )  # fmt: skip

    with (
        lock.serving(*door.words(owner.key["address"], offer)),
        owner.serving("rental", "serve", "--waive", "--withdraw"),
        renter.serving("rental", "serve", "--withdraw"),
    ):
        rental = renter.rental("open", offer)["rental_id"]
        until(lambda: renter.state(rental) == "active")
        renter.rental("key", rental, "--out", "access-key.json")
        door.at(renter, "--out", "check-in.json")
        renter.rental("checkin", "check-in.json", "--hold")
        until(lambda: renter.state(rental) == "checked-in")

        (lock.folder / "meter").write_text("1012\n")
        door.at(renter, "--check-out", "--out", "check-out.json")
        renter.rental("checkout", "check-out.json", "--hold")
        waited = until(lambda: renter.state(rental) == "closed")
        until(lambda: renter.money() == -charge)
    until(lambda: owner.money() == charge)
    ended = renter.rental("show", rental)
    assert (ended["ending"], ended["units"], ended["charge"]) == ("waived", 12, "5.30 DUSD")
    assert waited < 30
    condition = keccak256((lock.folder / "photo").read_bytes()).hex()
    assert json.loads((renter.folder / "check-out.json").read_text())["condition"] == "0x" + condition
    with capfd.disabled():
        sys.stdout.write(f"\n  the deposit was free {waited:.1f} s after the check-out\n")
