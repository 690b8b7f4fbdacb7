"""What a person at a terminal of 80 columns sees: prompts that hide what is typed, tables that fit, Ctrl-C."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from pyiot_evm.chain import Devnet
from pyiot_evm.device.keystore import KeystoreSigner
from pyiot_evm.home import LIGHT, Home
from pyiot_evm.machine import Machine

PYIOT = str(Path(sys.executable).with_name("pyiot"))
PASSPHRASE = "typed by hand"
COLUMNS = 80


class Terminal:
    """A process on a pseudo-terminal."""

    def __init__(self, folder, *words, environment=()):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYIOT_")}
        self.process = subprocess.Popen(
            [PYIOT, *words],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, close_fds=True, cwd=folder,
            env={**clean, "PYIOT_HOME": str(folder / "home"), "TERM": "xterm", "LANG": "C.UTF-8", **dict(environment)},
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def read(self, until=None, timeout=60.0):
        end = time.monotonic() + timeout
        while time.monotonic() < end and (until is None or until not in self.seen):
            ready, _, _ = select.select([self.master], [], [], 0.2)
            try:
                piece = os.read(self.master, 65536).decode() if ready else ""
            except OSError:
                break
            if ready and not piece:
                break
            self.seen += piece
        assert until is None or until in self.seen, self.seen
        return self.seen

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self):
        self.read()
        os.close(self.master)
        return self.process.wait(timeout=60)


def lines(text):
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in text.replace("\r\n", "\n").split("\n")]


def test_key_new__when_at_a_terminal__asks_twice_and_shows_nothing_of_what_is_typed(tmp_path):
    terminal = Terminal(tmp_path, "key", "new", "sensor")
    terminal.read("New passphrase: ")
    terminal.type(PASSPHRASE + "\n")
    terminal.read("Repeat for confirmation: ")
    terminal.type("something else\n")
    terminal.read("do not match")
    for _ in range(2):
        time.sleep(0.3)
        terminal.type(PASSPHRASE + "\n")
    assert terminal.end() == 0, terminal.seen
    assert PASSPHRASE not in terminal.seen
    with KeystoreSigner.open(tmp_path / "home" / "keys" / "sensor" / "account.json", PASSPHRASE) as signer:
        assert str(signer.address) in terminal.seen


def test_prompt__when_ctrl_c_is_pressed__ends_without_a_key_or_a_traceback(tmp_path):
    terminal = Terminal(tmp_path, "key", "new", "sensor")
    terminal.read("New passphrase: ")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.seen
    assert not (tmp_path / "home" / "keys" / "sensor").exists()


@pytest.fixture(scope="module")
def trade(tmp_path_factory):
    """A home on a devnet with a listed sale whose words are long."""
    folder = tmp_path_factory.mktemp("terminal")
    home = Home(folder / "home", passphrase=lambda: PASSPHRASE, cost=LIGHT)
    series = folder / "series.csv"
    series.write_text("time,value\n2024-01-01 00:00:00,21.5\n2024-01-01 00:05:00,21.7\n")
    with Devnet(home=home) as chain:
        sensor = Machine.create(chain, "sensor-with-a-name-that-is-long", curve="p256")
        buyer = Machine.create(chain, "buyer")
        sale = sensor.sell(
            series, price="1234567.123456", title="Temperature of " + "a very long hall " * 8, serve=False
        )
        cheap = sensor.sell(series, price="0.25", tags=["hall"], serve=False)
        buyer.market.order(cheap)
        environment = {"PYIOT_PASSPHRASE": PASSPHRASE, "PYIOT_RPC_URL": chain.url}
        yield folder, environment, str(sale.id)


@pytest.mark.parametrize(
    "words",
    [
        ("key", "list"),
        ("data", "list"),
        ("data", "list", "hall"),
        ("data", "orders", "--as", "buyer"),
        ("device", "list"),
        ("doctor",),
        ("data", "--help"),
        ("data", "sell", "--help"),
        (),
    ],
    ids=" ".join,
)
def test_output__when_the_terminal_has_80_columns__fits(trade, words):
    folder, environment, _ = trade
    terminal = Terminal(folder, *words, environment=environment)
    terminal.end()
    assert "Traceback" not in terminal.seen
    wide = [line for line in lines(terminal.seen) if len(line) > COLUMNS]
    assert wide == []
    assert len(lines(terminal.seen)) > 1


def test_show__when_in_a_pipe__cuts_nothing(trade):
    folder, environment, sale = trade
    done = subprocess.run(
        [PYIOT, "data", "list"], env={**os.environ, "PYIOT_HOME": str(folder / "home"), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ("a very long hall " * 8).strip() in done.stdout
    assert "\x1b" not in done.stdout
    assert sale[:10] in done.stdout


def test_serve__when_ctrl_c_is_pressed__ends_well(trade):
    folder, environment, _ = trade
    terminal = Terminal(folder, "data", "serve", "--as", "sensor-with-a-name-that-is-long", environment=environment)
    terminal.read("revealed order")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.seen


def test_watch__when_ctrl_c_is_pressed__ends_well(trade):
    folder, environment, _ = trade
    terminal = Terminal(folder, "data", "list", "--watch", environment=environment)
    terminal.read("1234567.123456 DUSD")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
