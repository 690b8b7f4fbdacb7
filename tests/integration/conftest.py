"""Processes that are killed (SIGKILL) at every point where something is written or sent, and run again to the end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyiot_evm import Devnet, Machine, connect
from pyiot_evm.chain.rpc import RpcClient
from pyiot_evm.chain.transaction_journal import TransactionJournal
from pyiot_evm.device.journal_file import Records
from pyiot_evm.escrow.journal import RentalJournal
from pyiot_evm.home import LIGHT, Home
from pyiot_evm.market import atomic
from pyiot_evm.market.journal import Journal

sys.path.insert(0, str(Path(__file__).parent))
from children import end_of, in_child

for _module in ("cryptography.hazmat.primitives.ciphers.aead", "pyiot_evm.frames", "pyiot_evm.contracts.erc20",
                "pyiot_evm.market.preparing", "pyiot_evm.market.resale"):  # fmt: skip
    import_module(_module)  # what each of some five hundred children would load by itself

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyiot_evm.chain import Chain

_PASSPHRASE = "a passphrase of the tests"


class Points:
    """Counts the places where a process could die, and dies at one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.count = 0
        self.active = False
        self._fatal = fatal

    def reach(self) -> None:
        if self.active:
            self.count += 1
            if self.count == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.active = True
        try:
            yield
        finally:
            self.active = False

    def install(self) -> None:
        """Put a point before and after everything that is written or sent."""
        for kind in (Journal, RentalJournal):
            kind.write = self._around_context(kind.write)
        TransactionJournal._write = self._around_context(TransactionJournal._write)
        Records.append = self._around(Records.append)
        os.replace, os.rename = self._around(os.replace), self._around(os.rename)
        atomic.sync_folder = self._around(atomic.sync_folder)
        call, batch = RpcClient.call, RpcClient.batch
        sending = "eth_sendRawTransaction"
        around_call, around_batch = self._around(call), self._around(batch)
        RpcClient.call = lambda c, m, *a: around_call(c, m, *a) if m == sending else call(c, m, *a)
        RpcClient.batch = lambda c, r: around_batch(c, r) if any(m == sending for m, _ in r) else batch(c, r)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.reach()
            result = function(*arguments, **named)
            self.reach()
            return result

        return wrapped

    def _around_context(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def wrapped(*arguments: Any, **named: Any) -> Iterator[Any]:
            self.reach()
            with function(*arguments, **named) as value:
                yield value
            self.reach()

        return wrapped


class Stage:
    """A devnet and a home with funded machines, put back before each run."""

    def __init__(self, chain: Chain, folder: Path) -> None:
        self.chain = chain
        self.folder = folder
        self.snapshot = chain.snapshot()

    def reset(self) -> None:
        self.chain.rpc("evm_revert", self.snapshot)
        self.snapshot = self.chain.snapshot()
        for path in (self.folder / "home", self.folder / "bought.csv"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.copytree(self.folder / "template", self.folder / "home")

    def run(self, story: Callable[..., dict[str, Any]], fatal: int | None) -> tuple[int, dict[str, Any] | None, int]:
        """Run a story in a child; return how it ended, its result, and how many points it passed."""
        result = self.folder / "result"
        status, found = end_of(in_child(lambda: self._play(story, fatal), result), result)
        ending, points = found or (None, 0)
        return status, ending, points

    def _play(self, story: Callable[..., dict[str, Any]], fatal: int | None) -> tuple[dict[str, Any], int]:
        points = Points(fatal)
        points.install()
        home = Home(self.folder / "home", passphrase=lambda: _PASSPHRASE, cost=LIGHT)
        with connect(self.chain.url, home=home) as chain:
            ending = story(chain, self.folder, points, points)
        return ending, points.count


@pytest.fixture(scope="module")
def make_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Stage]]:
    """A devnet and a home with machines that have money, for a module's stories."""
    with ExitStack() as opened:
        yield partial(_make_stage, tmp_path_factory, opened)


def _make_stage(tmp_path_factory: pytest.TempPathFactory, opened: ExitStack, *names: str, **files: str) -> Stage:
    folder = tmp_path_factory.mktemp("kills")
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    home = Home(folder / "template", passphrase=lambda: _PASSPHRASE, cost=LIGHT)
    chain = opened.enter_context(Devnet(home=home))
    for name in names:
        Machine.create(chain, name, curve="secp256k1").close()
    chain.journal.close()
    return Stage(chain, folder)
