"""A bolt that a command moves: what it is given, and what a failing, missing or hanging one does to the lock."""

import shlex
import time
from pathlib import Path

import pytest

from pyiot_evm.device.lock_book import LockBook
from pyiot_evm.device.lock_command import BoltCommand
from pyiot_evm.device.lock_messages import Purpose
from pyiot_evm.device.lock_server import answer_line
from pyiot_evm.device.schema import canonical_json
from pyiot_evm.exceptions import InputError


def script(path, text):
    """A program of one's own, in a folder whose name has a space."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return shlex.quote(str(path))


@pytest.fixture
def bolt(tmp_path):
    return tmp_path / "my bolt" / "bolt"


def outcomes(door):
    return [one.outcome for one in LockBook.read(door.path).tries]


def test_command__when_it_has_arguments__gets_them_as_they_are_and_no_shell_reads_them(bolt, tmp_path, monkeypatch):
    monkeypatch.setenv("PYIOT_PASSPHRASE", "secret")
    monkeypatch.setenv("PYIOT_PKCS11_PIN", "1234")
    monkeypatch.setenv("GPIO_LINE", "17")
    told = tmp_path / "told"
    name = script(bolt, f'printf "%s\\n" "$@" > {told}; env >> {told}; cat >> {told}; echo noise')
    BoltCommand(f"{name} back 'two words' $(id) ';' '*'")()
    lines = told.read_text().splitlines()
    assert lines[:5] == ["back", "two words", "$(id)", ";", "*"]
    assert "GPIO_LINE=17" in lines
    assert [line for line in lines if line.startswith("PYIOT_")] == []


@pytest.mark.parametrize("text", ["", "  ", "no-such-program-here", "/nowhere/bolt back", "bolt 'half"])
def test_command__when_there_is_no_such_program__is_refused_at_the_start(text):
    with pytest.raises(InputError):
        BoltCommand(text)


def test_command__when_it_hangs__is_killed_with_what_it_started(bolt, tmp_path):
    command = BoltCommand(script(bolt, f"sleep 60 & echo $! > {tmp_path}/pid; wait"), seconds=2)
    with pytest.raises(TimeoutError, match="did not end within 2 seconds"):
        command()
    started = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    end = time.monotonic() + 10
    while started.exists() and started.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.01)


def test_command__when_it_leaves_something_running__does_not_wait_for_that(bolt):
    began = time.monotonic()
    BoltCommand(script(bolt, "sleep 30 & exit 0"), seconds=20)()
    assert time.monotonic() - began < 15


def test_open__when_the_command_moves_the_bolt__is_in_the_journal_before(door, bolt):
    made = door()
    key = made.rent()
    copy = made.path.with_name("copy")
    made.unlock = BoltCommand(script(bolt, f"cp {made.path} {copy}; cp {made.path}.head {copy}.head"))
    made.unplugged()
    said = made.try_it(key)
    assert [one.outcome for one in LockBook.read(copy).tries] == ["ok", "ok"]  # the slot, the opening
    assert made.lock.statements(key.terms_id) == (said,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("exit 3", "the command of the bolt ended with 3"),
        ("kill -9 $$", "the command of the bolt ended with -9"),
        ("sleep 60", "the command of the bolt did not end within 0.5 seconds"),
        (None, "No such file or directory"),
    ],
    ids=["fails", "dies", "hangs", "went missing"],
)
def test_open__when_the_command_does_not_move_the_bolt__takes_the_opening_back_and_goes_on(
    door, bolt, caplog, text, why
):
    made = door()
    key = made.rent()
    made.unlock = BoltCommand(script(bolt, text or "exit 0"), seconds=0.5 if why.endswith("seconds") else 30)
    if text is None:
        bolt.unlink()
    made.unplugged()
    challenge = made.lock.challenge(key.terms_id, Purpose.OPEN)
    line = canonical_json({"do": "answer", "answer": key.answer(challenge).fields()})
    assert answer_line(made.lock, line)["error"] == {
        "code": "hardware",
        "message": "the lock's hardware failed",
        "retryable": True,
    }
    assert why in caplog.text
    assert outcomes(made) == ["ok", "ok", "jammed"]
    assert made.lock.statements(key.terms_id) == ()
    made.unlock = BoltCommand(script(bolt, "exit 0"))
    made.unplugged()
    said = made.try_it(key)
    made.unplugged()
    assert outcomes(made) == ["ok", "ok", "jammed", "ok"]
    assert made.lock.statements(key.terms_id) == (said,)
    assert made.try_it(key, Purpose.CHECK_OUT).statement.units == 0
