"""The demo's locks: each a process of its own, in a home of its own, that ends at once when it touches a network."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from demo_ledger import NotAsSaidError

from pyiot_evm import Home
from pyiot_evm.chain.nodes import Node, NodeCommand
from pyiot_evm.device.lock_client import LockClient
from pyiot_evm.device.lock_messages import AccessError
from pyiot_evm.device.lock_slots import Slot
from pyiot_evm.exceptions import TransportError
from pyiot_evm.home import LIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyiot_evm import Chain
    from pyiot_evm.device import KeystoreSigner
    from pyiot_evm.device.lock_messages import AccessKey
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.types import Address

__all__ = ["Door"]

_READY, _PORT = 60.0, 0  # a lock listens at a path
_CUT_OFF = """
import os, sys
def cut_off(event, arguments):
    away = event in ("socket.connect", "socket.sendto") and not isinstance(arguments[1], str)
    if away or event in ("socket.getaddrinfo", "socket.gethostbyname"):
        os.write(2, f"the lock touched the network: {event} {arguments}".encode())
        os._exit(99)
sys.addaudithook(cut_off)
from pyiot_evm.cli import main
main()
"""
"""Runs the command line so that only a Unix socket, which stands for Bluetooth, is left to it."""


class Door:
    """A lock, and what it is built into: a clock, a meter and a camera, each a file.

    Args:
        folder: A new folder, for its home and its files.
        name: What its device key is called.
        passphrase: Of its home.
    """

    def __init__(self, folder: Path, name: str, passphrase: str) -> None:
        folder.mkdir()
        self.name = name
        self._folder = folder
        self._passphrase = passphrase
        self.home = Home(folder / "home", passphrase=lambda: passphrase, cost=LIGHT)
        self.home.keyring.new(name, curve="p256")
        self.show(meter=1000, scene=b"all in order")

    def key(self) -> KeystoreSigner:
        """Open the device's key: in the workshop, before the lock is built in."""
        return self.home.keyring.device(self.name)

    def show(self, *, clock: int | None = None, meter: int | None = None, scene: bytes | None = None) -> None:
        """Set what its clock, its meter and its camera show."""
        for name, value in (("clock", clock), ("meter", meter)):
            if value is not None:
                self._replace(name, f"{value}\n".encode())
        if scene is not None:
            self._replace("scene", scene)

    def _replace(self, name: str, data: bytes) -> None:
        fresh = self._folder / f"{name}.new"
        fresh.write_bytes(data)
        fresh.replace(self._folder / name)  # the lock never reads half a file

    @contextmanager
    def running(self, chain: Chain, owner: Address) -> Iterator[None]:
        """Run the lock, and end it; its clock is the chain's."""
        self.show(clock=chain.now())
        files = [word for name in ("clock", "meter") for word in (f"--{name}", str(self._folder / name))]
        words = ["lock", "run", "--as", self.name, "--owner", str(owner), "--socket", str(self._folder / "door")]
        command = [sys.executable, "-c", _CUT_OFF, *words, *files, "--condition", str(self._folder / "scene")]
        settings = {"PYIOT_HOME": str(self.home.path), "PYIOT_PASSPHRASE": self._passphrase, "PYIOT_RPC_URL": ""}
        log = self._folder / "lock.log"
        guarded = Node(NodeCommand("anvil", command, environment=settings), port=_PORT, log=log)  # ends as nodes do
        try:
            self._wait(guarded, log)
            yield
            self._hello()  # it is still there: it touched no network
        finally:
            guarded.close()

    def _wait(self, guarded: Node, log: Path) -> None:
        end = time.monotonic() + _READY
        while time.monotonic() < end and _runs(guarded.pid):
            try:
                self._hello()
            except TransportError:
                time.sleep(0.05)
            else:
                return
        raise NotAsSaidError(f"the lock {self.name} did not come up: {log.read_text()[-300:]}")

    def _hello(self) -> None:
        with self.phone() as phone:
            phone.hello()

    def phone(self) -> LockClient:
        """Stand at the door with a phone."""
        return LockClient(self._folder / "door")

    def program(self, offer: RentalOffer) -> str:
        """Give it an offer; return why it refuses, or nothing."""
        with self.phone() as phone:
            try:
                phone.program(Slot.decode(offer.encode().encode()))
            except AccessError as error:
                return error.reason.value
        return ""

    def refusal(self, key: AccessKey) -> str:
        """Try to open it; return why it refuses, or nothing."""
        with self.phone() as phone:
            try:
                phone.open(key)
            except AccessError as error:
                return error.reason.value
        return ""


def _runs(process: int) -> bool:
    """Whether a child has not ended; leaves it to its owner to be reaped."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
