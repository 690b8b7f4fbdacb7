"""What ``pyiot doctor`` looks at. Each check is independent: one that fails does not stop the others."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from pyiot_evm.cli.documents import money
from pyiot_evm.cli.output import amount, short
from pyiot_evm.exceptions import ConfigurationError, ConsistencyError, ContractError, PyIotEvmError
from pyiot_evm.types import from_units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyiot_evm.chain import Chain
    from pyiot_evm.cli.session import Session
    from pyiot_evm.home import KeyEntry
    from pyiot_evm.types import Address

__all__ = ["Finding", "checkup"]

TOOL_SECONDS = 10.0
_PRIVATE = 0o077
_CLOCK_SECONDS = 120
_LOW_ETHER = 10**15
_PACKAGES = ("web3", "coincurve", "cryptography", "pandas", "fsspec")
_OPTIONAL = {"safe-pysha3": "hashing is 5 times slower without it: pip install 'pyiot-evm[fast]'",
             "pyarrow": "Parquet needs it: pip install 'pyiot-evm[parquet]'"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        state: ``ok``, ``warn`` (look at it) or ``fail`` (commands will not work).
        subject: What was looked at.
        text: What was found.
        advice: What to do; empty when nothing is to be done.
    """

    state: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    advice: str = ""

    def document(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return asdict(self)


def checkup(session: Session, name: str | None = None) -> list[Finding]:
    """Look at tools, home, node, contracts, clock, balances and pending money.

    Args:
        session: The command's session.
        name: Whose money to look at; everybody's in the home when left out.
    """
    found = [*_checked("python", _python), *_checked("tools", _tools), *_checked("home", lambda: _home(session))]
    found += _checked("node", lambda: _node(session.chain))
    if any(item.subject == "node" and item.state == "fail" for item in found):
        return found
    chain = session.chain
    found += _checked("contracts", lambda: _contracts(chain))
    if found[-1].state == "fail":
        return found
    found += _checked("token", lambda: _token(chain))
    token = chain.token if found[-1].state == "ok" else None
    for entry in _entries(session, name):
        found += _checked(entry.name[:12], partial(_account, chain, entry, token))
    return found


def _checked(subject: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what a check finds; that it cannot look is a finding too, and the next check goes on."""
    try:
        yield from check()
    except PyIotEvmError as error:
        yield Finding("fail", subject, error.message, error.hint)
    except (OSError, subprocess.SubprocessError, sqlite3.Error) as error:
        yield Finding("fail", subject, f"cannot be looked at: {error}", "check the path, its permissions and the disk")


def _entries(session: Session, name: str | None) -> list[KeyEntry]:
    """Return whose money to look at; that the home cannot be read is a finding of its own."""
    if name is not None:
        return [session.keyring.entry(name)]
    with suppress(PyIotEvmError, OSError):
        return session.keyring.list()
    return []


def _python() -> Iterator[Finding]:
    yield Finding("ok", "python", f"{platform.python_version()}, pyiot-evm {_version('pyiot-evm')}")
    versions = [f"{package} {_version(package)}" for package in _PACKAGES]
    missing = [package for package in _PACKAGES if not _version(package)]
    state: Literal["ok", "fail"] = "fail" if missing else "ok"
    yield Finding(state, "packages", ", ".join(versions), f"pip install {' '.join(missing)}" if missing else "")
    for package, advice in _OPTIONAL.items():
        if not _version(package):
            yield Finding("warn", "packages", f"{package} is not installed", advice)


def _tools() -> Iterator[Finding]:
    from pyiot_evm.chain.nodes import find_anvil, find_hardhat  # noqa: PLC0415 - slow to import

    for tool, find in (("anvil", find_anvil), ("hardhat", find_hardhat)):
        try:
            yield Finding("ok", tool, str(find()) if tool == "hardhat" else f"{_anvil_version(str(find()))}")
        except ConfigurationError as error:
            yield Finding("warn", tool, f"{error.message} (only `pyiot devnet up` needs it)", error.hint)


def _anvil_version(path: str) -> str:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)  # noqa: S603
    except OSError as error:
        raise ConfigurationError(f"{path} does not run: {error.strerror}", hint="run scripts/setup again") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(f"{path} does not answer", hint="run it by hand: it must print its version") from error
    return f"{done.stdout.split(chr(10), 1)[0].strip()} at {path}"


def _home(session: Session) -> Iterator[Finding]:
    path, keys = session.home.path, session.keyring.list()
    open_to_others = path.stat().st_mode & _PRIVATE
    free = shutil.disk_usage(path).free
    text = f"{path}, {len(keys)} names, {free / 10**9:.1f} GB free"
    if open_to_others:
        yield Finding("warn", "home", f"{text}; others on this computer can look into it", f"chmod 700 {path}")
    elif not keys:
        yield Finding("warn", "home", text, "make a key: pyiot key new NAME")
    else:
        yield Finding("ok", "home", text)


def _node(chain: Chain) -> Iterator[Finding]:
    kind = "a devnet" if chain.is_devnet else f"{chain.confirmations} confirmations"
    yield Finding("ok", "node", f"{chain.url}: {chain.client.split('/')[0]}, network {chain.network}, {kind}")
    lag = time.time() - chain.now()
    text = f"the latest block is {abs(lag):.0f} s {'old' if lag >= 0 else 'ahead of this clock'}"
    if chain.is_devnet or abs(lag) <= _CLOCK_SECONDS:
        yield Finding("ok", "clock", text)
    else:
        advice = "deadlines go by block time: set this computer's clock, or ask whether the node is in sync"
        yield Finding("warn", "clock", text, advice)


def _contracts(chain: Chain) -> Iterator[Finding]:
    yield Finding("ok", "contracts", f"the suite is deployed: market {chain.addresses.data_market}")


def _token(chain: Chain) -> Iterator[Finding]:
    try:
        token = chain.token
    except ConfigurationError as error:
        yield Finding("warn", "token", error.message, "name one: --token ADDRESS, or PYIOT_TOKEN")
        return
    try:
        yield Finding("ok", "token", f"prices are in {chain.token_info(token).symbol}, {token}")
    except (ConsistencyError, ContractError):
        yield Finding("fail", "token", f"{token} is no ERC-20 token on this network", "name another: --token ADDRESS")


def _account(chain: Chain, entry: KeyEntry, token: Address | None) -> Iterator[Finding]:
    from pyiot_evm.contracts.data_market import DataMarket  # noqa: PLC0415 - slow to import
    from pyiot_evm.contracts.deposit_escrow import DepositEscrow  # noqa: PLC0415
    from pyiot_evm.contracts.erc20 import Erc20  # noqa: PLC0415

    ether = chain.balance(entry.address)
    texts = [amount(from_units(ether, decimals=18), "ETH", most=6)]
    credit = rented = 0
    if token is not None:
        market, escrow = DataMarket(chain.addresses.data_market), DepositEscrow(chain.addresses.deposit_escrow)
        calls = (
            Erc20(token).balance_of(entry.address),
            market.credit_of(entry.address, token),
            escrow.credit_of(entry.address, token),
        )
        held, credit, rented = chain.call_many(calls)
        texts += [money(chain, token, held), f"credit {money(chain, token, credit)}"]
        texts += [f"from rentals {money(chain, token, rented)}"] if rented else []
    pending = len(chain.journal.live(entry.address))
    texts += [f"{pending} transactions pending"] if pending else []
    nouns = [noun for noun, units in (("data", credit), ("rental", rented)) if units]
    advice = f"take it out: {', '.join(f'pyiot {noun} withdraw --as {entry.name}' for noun in nouns)}" if nouns else ""
    if held_back := _open_rentals(chain, entry):
        texts.append(f"{held_back} open rental{'s' if held_back > 1 else ''}")
        advice = advice or f"watch its rentals: pyiot rental serve --as {entry.name}"
    if ether < _LOW_ETHER:
        advice = f"pyiot devnet fund {entry.name}" if chain.is_devnet else f"send ether to {entry.address}, for gas"
    state: Literal["ok", "warn"] = "warn" if advice or pending else "ok"
    yield Finding(state, entry.name[:12], f"{short(entry.address)}: {', '.join(texts)}", advice)


def _open_rentals(chain: Chain, entry: KeyEntry) -> int:
    """Count the rentals of an account that are not over, as its journal knows them."""
    from pyiot_evm.escrow.journal import RentalJournal  # noqa: PLC0415 - slow to import

    path = chain.path / "rentals.sqlite"
    if not path.exists():
        return 0
    with RentalJournal(path) as journal:
        return len(journal.rentals(entry.address, is_open=True))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
