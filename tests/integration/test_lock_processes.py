"""The lock as a process of its own, without any network: who meets at its socket, and what the chain says then."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from pyiot_evm.device import LocalSigner, Pkcs11Signer
from pyiot_evm.device.lock_book import LockBook
from pyiot_evm.device.lock_client import LockClient
from pyiot_evm.device.lock_messages import AccessKey, Purpose
from pyiot_evm.device.rental_messages import SignedStatement
from pyiot_evm.escrow.offering import RentalAsk
from pyiot_evm.escrow.offers import RentalDocument
from pyiot_evm.escrow.policies import RenterPolicy
from pyiot_evm.escrow.records import State
from pyiot_evm.home import Home
from pyiot_evm.machine import Machine

FEE, RATE, CAP, DEPOSIT = 500_000, 100_000, 1_000_000, 5_000_000
CUT_OFF = """
import os, sys
FORBIDDEN = ("socket.connect", "socket.sendto")
NAMES = ("socket.getaddrinfo", "socket.gethostbyname")
def cut_off(event, arguments):
    local = event in FORBIDDEN and isinstance(arguments[1], str)  # the path of a Unix socket
    if event in NAMES or event in FORBIDDEN and not local:
        os.write(2, f"the lock touched the network: {event} {arguments}\\n".encode())
        os._exit(99)
sys.addaudithook(cut_off)
from pyiot_evm.cli import main
main()
"""
"""A lock that ends at once when it opens a connection to a network or asks for a name."""


class Lockside:
    """A lock's own home, and the command line that runs it."""

    def __init__(self, folder, clock):
        self.folder = folder
        self.socket, self.meter, self.clock = folder / "door", folder / "kwh", folder / "clock"
        self.meter.write_text("1000\n")
        self.clock.write_text(f"{clock}\n")
        (folder / "photo").write_bytes(b"all in order")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYIOT_RPC_URL"},
            "PYIOT_HOME": str(folder / "home"),
            "PYIOT_PASSPHRASE": "the lock's",
            "PYIOT_KEY_COST": "light",
        }

    def command(self, *words):
        done = subprocess.run(
            [sys.executable, "-c", CUT_OFF if words[1] in ("log", "show") else "from pyiot_evm.cli import main; main()",
             *map(str, words), "--json"],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout)

    def phone(self, *words):
        return self.command("lock", *words, "--socket", self.socket)

    @contextmanager
    def running(self, *options):
        files = ["--socket", self.socket, "--meter", self.meter, "--condition", self.folder / "photo"]
        command = [
            sys.executable,
            "-c",
            CUT_OFF,
            "lock",
            "run",
            "--as",
            "door",
            *files,
            "--clock",
            self.clock,
            *options,
        ]
        with subprocess.Popen(
            list(map(str, command)), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                told = process.stderr.readline()
                assert told.startswith("device 0x"), told + process.stderr.read()
                yield process
            finally:
                process.kill()


def new_lockside(folder, clock, curve="secp256k1"):
    lockside = Lockside(folder, clock)
    entry = Home(lockside.environment["PYIOT_HOME"], passphrase=lambda: "the lock's").keyring.new("door", curve=curve)
    return lockside, entry


@pytest.mark.parametrize("where", ["keystore", "chip"])
def test_rental__when_the_lock_is_a_process_without_a_network__runs_from_offer_to_check_out(
    devnet, tmp_path, token, where
):
    lockside, entry = new_lockside(tmp_path, devnet.now())
    options, (device, signer) = (), (entry.device, entry.signer)
    if where == "chip":
        with Pkcs11Signer.create(token("rental"), "p256") as chip:
            options, (device, signer) = ("--chip", token.uri("rental")), (chip.device, chip.signer_bytes)
    owner = Machine.create(devnet, f"owner-{where}")
    renter = Machine.create(devnet, f"renter-{where}")
    renter.rentals.renting = RenterPolicy(allow_unregistered=True)
    slot = {"start": devnet.now(), "end": devnet.now() + 3600, "fee": FEE, "rate": RATE, "meter_cap": CAP}
    ask = RentalAsk(RentalDocument("Bay 7", unit="kWh"), **slot, deposit=DEPOSIT)
    offer = owner.rentals.offer(ask, device=device, signer=signer)
    offer.write(tmp_path / "offer.json")
    opened = renter.rentals.open(offer)
    owner.rentals.hand_over(opened.id)
    renter.rentals.access_key(opened.id).write(tmp_path / "key.json")
    key = ["--key", tmp_path / "key.json"]

    with lockside.running(*options, "--owner", owner.address, "--offer", tmp_path / "offer.json") as process:
        code, said = lockside.phone("try", *key, "--out", tmp_path / "in.json")
        assert (code, said["kind"], said["terms_id"]) == (0, "check-in", str(offer.id))
        process.send_signal(signal.SIGKILL)
        process.wait()
    check_in = SignedStatement.decode((tmp_path / "in.json").read_bytes().strip())
    assert renter.rentals.show_statement(check_in).state is State.CHECKED_IN

    lockside.meter.write_text("1007\n")
    with lockside.running(*options) as process:  # the journal knows the owner and the slot
        assert lockside.phone("try", *key) == (0, said)
        code, ended = lockside.phone("try", *key, "--check-out", "--out", tmp_path / "out.json")
        assert (code, ended["kind"], ended["units"]) == (0, "check-out", 7)
        assert lockside.phone("try", *key, "--check-out") == (0, ended)
        code, refused = lockside.phone("try", *key)
        assert (code, refused["error"]["code"]) == (1, "access")
        assert refused["error"]["message"].startswith("the lock refuses (checked-out): the rental is over")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    check_out = SignedStatement.decode((tmp_path / "out.json").read_bytes().strip())
    assert renter.rentals.show_statement(check_out).state is State.CHECKED_OUT
    assert owner.rentals.credit() == FEE + 7 * RATE

    log = lockside.command("lock", "log", "--as", "door")[1]["tries"]
    assert [(one["what"], one["outcome"]) for one in log] == [
        ("program", "ok"), ("open", "ok"), ("open", "ok"), ("check-out", "renter"),
        ("check-out", "checked-out"), ("open", "checked-out"),
    ]  # fmt: skip
    shown = lockside.command("lock", "show", "--as", "door")[1]
    assert (shown["owner"], shown["slots"][0]["state"], shown["meter"]) == (str(owner.address), "over", 1007)


def test_program__when_the_lock_runs__takes_the_owner_s_offers_alone(door, tmp_path):
    made = door(signer=LocalSigner.create())
    lockside, entry = new_lockside(tmp_path, made.now)
    device = Home(lockside.environment["PYIOT_HOME"], passphrase=lambda: "the lock's").keyring.device("door")
    made.signer = device
    secret = LocalSigner.create().secret
    slot, forged = made.slot(secret), made.slot(secret, signed_by=LocalSigner.create())
    (tmp_path / "good.json").write_text(json.dumps(slot.fields()))
    (tmp_path / "forged.json").write_text(json.dumps(forged.fields()))
    AccessKey(entry.device, slot.terms_id, secret).write(tmp_path / "key.json")
    with lockside.running("--owner", made.owner.address):
        code, refused = lockside.phone("program", tmp_path / "forged.json")
        assert (code, refused["error"]["message"].split(":")[0]) == (1, "the lock refuses (not-signed)")
        assert lockside.phone("program", tmp_path / "good.json")[1]["terms_id"] == str(slot.terms_id)
        assert lockside.phone("statements", slot.terms_id)[1] == {"statements": []}
        code, said = lockside.phone("try", "--key", tmp_path / "key.json")
        assert lockside.phone("statements", slot.terms_id, "--out", tmp_path / "in.json")[1] == {"statements": [said]}
        assert SignedStatement.decode((tmp_path / "in.json").read_bytes().strip()).signer == device.signer_bytes
        lockside.clock.write_text(f"{made.END + 60}\n")
        code, refused = lockside.phone("try", "--key", tmp_path / "key.json")
        assert (code, refused["error"]["message"].split(":")[0]) == (1, "the lock refuses (ended)")
        lockside.clock.write_text(f"{made.END + 3600}\n")
        ended = lockside.phone("statements", slot.terms_id)[1]["statements"][1]
        assert (ended["kind"], ended["time"]) == ("check-out", made.END + 3600)


def test_run__when_a_file_cannot_be_used__ends_with_2_before_there_is_a_journal(door, tmp_path):
    """`lock run --meter typo` ran on, and counted nothing. Each file is read once before anything else."""
    lockside, _entry = new_lockside(tmp_path, door().now)
    (tmp_path / "words").write_text("about 12 kWh\n")
    place = ("--as", "door", "--socket", lockside.socket)
    for options, says in (
        (("--meter", tmp_path / "typo"), "cannot read the file of --meter: [Errno 2] No such file"),
        (("--meter", tmp_path / "words"), "the file of --meter is of no use"),
        (("--condition", tmp_path / "nophoto"), "cannot read the file of --condition: [Errno 2] No such file"),
        (("--condition", tmp_path), "cannot read the file of --condition: [Errno 21] Is a directory"),
        (("--clock", tmp_path / "noclock"), "cannot read the file of --clock: [Errno 2] No such file"),
        (("--on-open", "no-such-program back"), "there is no program to run: 'no-such-program back'"),
    ):
        code, error = lockside.command("lock", "run", *place, *options)
        assert (code, error["error"]["message"][: len(says)]) == (2, says)
    assert list((tmp_path / "home").rglob("*.lock-journal")) == []
    assert not lockside.socket.exists()


def test_try__when_the_file_of_the_statement_is_there__asks_the_lock_nothing(door, tmp_path):
    """`lock try --out EXISTING` opened the door, or ended the rental, and failed only then."""
    made = door()
    lockside, entry = new_lockside(tmp_path, made.now)
    made.signer = Home(lockside.environment["PYIOT_HOME"], passphrase=lambda: "the lock's").keyring.device("door")
    secret = LocalSigner.create().secret
    slot = made.slot(secret)
    (tmp_path / "offer.json").write_text(json.dumps(slot.fields()))
    AccessKey(entry.device, slot.terms_id, secret).write(tmp_path / "key.json")
    key = ("--key", tmp_path / "key.json")
    with lockside.running("--owner", made.owner.address, "--offer", tmp_path / "offer.json"):
        for out in ("photo", "none/in.json"):
            for more in ((), ("--check-out",)):
                assert lockside.phone("try", *key, "--out", tmp_path / out, *more)[0] == 2
            assert lockside.phone("statements", slot.terms_id, "--out", tmp_path / out)[0] == 2
        assert lockside.phone("statements", slot.terms_id)[1] == {"statements": []}
        assert lockside.phone("try", *key, "--out", tmp_path / "in.json")[1]["kind"] == "check-in"
        assert lockside.phone("try", *key, "--out", tmp_path / "in.json", "--check-out")[0] == 2
        assert len(lockside.phone("statements", slot.terms_id)[1]["statements"]) == 1
    assert (tmp_path / "photo").read_bytes() == b"all in order"


def test_run__when_a_command_moves_the_bolt__opens_by_it_and_stays_when_it_fails(door, tmp_path):
    made = door()
    lockside, entry = new_lockside(tmp_path, made.now)
    lockside.meter.write_text("1000.9\n")
    made.signer = Home(lockside.environment["PYIOT_HOME"], passphrase=lambda: "the lock's").keyring.device("door")
    secret = LocalSigner.create().secret
    slot = made.slot(secret)
    (tmp_path / "offer.json").write_text(json.dumps(slot.fields()))
    AccessKey(entry.device, slot.terms_id, secret).write(tmp_path / "key.json")
    key, bolt = ("--key", tmp_path / "key.json"), tmp_path / "bolt"
    bolt.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/moved\nexit 1\n')
    bolt.chmod(0o700)
    options = ("--owner", made.owner.address, "--offer", tmp_path / "offer.json", "--on-open", f"{bolt} back; $HOME")
    with lockside.running(*options) as process:
        assert process.stderr.readline() == "the meter stands at 1000; whole units count, decimals are cut off\n"
        code, error = lockside.phone("try", *key, "--out", tmp_path / "in.json")
        assert (code, error["error"]["message"]) == (3, "the lock failed: the lock's hardware failed")
        assert not (tmp_path / "in.json").exists()
        bolt.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/moved\n')
        assert lockside.phone("try", *key, "--out", tmp_path / "in.json")[1]["kind"] == "check-in"
        lockside.meter.write_text("1013.1\n")
        assert lockside.phone("try", *key, "--check-out")[1]["units"] == 13
    assert (tmp_path / "moved").read_text() == "back; $HOME\n" * 2
    log = lockside.command("lock", "log", "--as", "door")[1]["tries"]
    assert [one["outcome"] for one in log] == ["ok", "ok", "jammed", "ok", "renter"]


def test_run__when_a_second_one_is_started__names_what_is_in_use(door, tmp_path):
    made = door()
    lockside, _entry = new_lockside(tmp_path, made.now)
    with lockside.running():
        code, error = lockside.command("lock", "run", "--as", "door", "--socket", lockside.folder / "other")
        assert (code, error["error"]["code"]) == (1, "configuration")
        assert "is in use" in error["error"]["message"]
    assert lockside.command("lock", "run", "--as", "door")[1]["error"]["hint"].startswith("name its place")


def test_lock__when_killed_while_phones_try__repeats_no_counter(door, tmp_path):
    made = door()
    lockside, entry = new_lockside(tmp_path, made.now)
    made.signer = Home(lockside.environment["PYIOT_HOME"], passphrase=lambda: "the lock's").keyring.device("door")
    secret = LocalSigner.create().secret
    slot = made.slot(secret)
    (tmp_path / "offer.json").write_text(json.dumps(slot.fields()))
    key = AccessKey(entry.device, slot.terms_id, secret)
    counters, statements = [], set()
    for tries in (1, 3, 7):
        options = ("--owner", made.owner.address, "--offer", tmp_path / "offer.json")
        with lockside.running(*options), LockClient(lockside.socket) as phone:
            for _ in range(tries):
                challenge = phone.challenge(key.terms_id, Purpose.OPEN)
                counters.append(challenge.counter)
                statements.add(phone.answer(key.answer(challenge)))
    assert counters == sorted(set(counters))
    assert len(counters) == 11
    assert len(statements) == 1
    (use,) = LockBook.read(tmp_path / "home" / "journals" / "door.lock-journal").uses.values()
    assert (use.openings, use.check_in) == (11, statements.pop())
