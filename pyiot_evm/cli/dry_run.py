"""``--dry-run``: everything is done as ever, in a copy of the home, up to the transaction; that one is only shown.

Calls that merely prepare (an approval, a registration) are simulated and taken as done, so that the call which they
prepare is shown too. Where the chain would refuse it only because they are missing, its gas stays unknown.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pyiot_evm.chain import Account, Chain
from pyiot_evm.chain.abi import selector
from pyiot_evm.chain.calls import Receipt
from pyiot_evm.chain.fees import FeePolicy
from pyiot_evm.chain.rpc import RpcClient
from pyiot_evm.cli.output import amount, fields
from pyiot_evm.cli.root import styled
from pyiot_evm.contracts.shared import Rental
from pyiot_evm.exceptions import ContractError
from pyiot_evm.types import Bytes32, TransactionHash, from_units

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyiot_evm.chain.calls import Call, Simulation
    from pyiot_evm.cli.output import Output
    from pyiot_evm.device import Signer

__all__ = ["DryRunEnd", "Rehearsal", "RehearsalAccount", "RehearsalChain", "scratch_copy", "show"]

_PREPARES = ("approve", "register", "deposit", "mint")
_SECRETS = {"handOver": "released_key", "reveal": "released_key", "claimLocked": "preimage"}
"""Calls that give a secret away, and which argument it is: no node is asked about them, and nothing shows it."""
_CARRIED_SECRETS = (f"handOver({Rental.ABI},uint256)",)
"""Calls that give a secret away and that somebody else may carry."""
_FINAL = "PaymentChannels"
"""Its deposit is what was asked for, and prepares nothing."""
_HIDDEN = "not shown: a secret"
_LONG = 2 + 2 * 32
_CHANGES = ("eth_send", "anvil_", "hardhat_", "evm_")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One call that would be sent, and what was found out about it.

    Attributes:
        sender: Who would send it.
        call: The call.
        simulation: What it would do; None where it cannot be known before the calls ahead of it are mined.
    """

    sender: object
    call: Call[Any]
    simulation: Simulation[Any] | None

    def describe(self) -> dict[str, Any]:
        """Return the call, its gas and its cost in values that JSON can carry."""
        found = self.simulation
        cost = {"gas": None, "fee_per_gas": None, "cost": None}
        if found is not None:
            cost = {"gas": found.gas, "fee_per_gas": str(found.fee_per_gas), "cost": str(found.cost)}  # type: ignore[dict-item]
        shown = self.call.describe()
        if secret := _secret_of(self.call):
            shown |= {"arguments": shown["arguments"] | {secret: _HIDDEN}, "data": _HIDDEN}
        return {"sender": str(self.sender), **shown, **cost}


class DryRunEnd(Exception):  # noqa: N818 - no error: the dry run is over
    """The first call that would change something was reached."""


class RehearsalChain(Chain):
    """A chain on which nothing is sent."""

    rehearsals: list[Rehearsal]

    @classmethod
    def like(cls, chain: Chain) -> Self:
        """Return the same chain, as one on which nothing is sent."""
        token = chain._token  # noqa: SLF001 - the same class
        rehearsal = cls(RpcClient(chain.url), home=chain.home, confirmations=0, token=token)
        rehearsal.rehearsals = []
        return rehearsal

    def rpc(self, method: str, *params: Any) -> Any:
        """Send a request that only reads; the dry run ends at one that changes something."""
        if method.startswith(_CHANGES):
            raise DryRunEnd
        return super().rpc(method, *params)

    def account(self, signer: Signer, *, fees: FeePolicy | None = None) -> RehearsalAccount:
        """Return an account that only simulates."""
        return RehearsalAccount(chain=self, signer=signer, fees=fees or FeePolicy())


class RehearsalAccount(Account):
    """An account that simulates what it should send."""

    chain: RehearsalChain

    def send_many(
        self,
        calls: Sequence[Call[Any]],
        *,
        keys: Sequence[str | None] | None = None,
        gas: int | None = None,
        max_gas: int | None = None,
    ) -> list[Any]:
        """Simulate the calls; the dry run ends unless all of them only prepare."""
        del keys, gas, max_gas  # what it takes is shown, whatever the limit
        for call in calls:
            self.chain.rehearsals.append(Rehearsal(self.address, call, self._simulate(call)))
        if all(call.function.startswith(_PREPARES) and call.contract != _FINAL for call in calls):
            return [_Done(rehearsal) for rehearsal in self.chain.rehearsals[-len(calls) :]]
        raise DryRunEnd

    def wait_many(
        self, pending: Sequence[Any], *, timeout: float = 0, confirmations: int | None = None
    ) -> list[Receipt]:
        """Return the pretended receipts of calls that only prepare."""
        del timeout, confirmations
        return [item.wait() for item in pending]

    def resume(self) -> list[Any]:
        """Do nothing: what an earlier run signed is not sent again either."""
        return []

    def _simulate(self, call: Call[Any]) -> Simulation[Any] | None:
        if _secret_of(call):
            return None
        try:
            return self.chain.simulate(call, self.address)
        except ContractError:
            if self.chain.rehearsals:
                return None
            raise


def _secret_of(call: Call[Any]) -> str | None:
    name = call.function.partition("(")[0]
    if name != "relay":
        return _SECRETS.get(name)
    inner = call.arguments["request"].call[:4]
    return "request" if any(inner == selector(signature) for signature in _CARRIED_SECRETS) else None


class _Done:
    """A call that is taken as mined."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal
        self.hash = TransactionHash(bytes(32))

    def wait(self, **_: Any) -> Receipt:
        found = self._rehearsal.simulation
        sender, call = self._rehearsal.sender, self._rehearsal.call
        return Receipt(
            hash=self.hash,
            block_number=0,
            block_hash=Bytes32(bytes(32)),
            status=1,
            gas_used=found.gas if found else 0,
            effective_gas_price=found.fee_per_gas if found else 0,
            sender=sender,  # type: ignore[arg-type]
            to=call.to,
        )


def show(output: Output, rehearsals: Sequence[Rehearsal]) -> None:
    """Print the calls that would be sent, their gas and their cost."""
    calls = [rehearsal.describe() for rehearsal in rehearsals]
    lines = [line for number, found in enumerate(rehearsals, start=1) for line in _lines(number, found)]
    output.show({"dry_run": True, "calls": calls}, *lines, "nothing was sent" if calls else "nothing would be sent")


def _lines(number: int, rehearsal: Rehearsal) -> list[str]:
    call, found = rehearsal.call, rehearsal.simulation
    is_secret = _secret_of(call) is not None
    unknown = "not asked for: the node would learn the secret" if is_secret else "known once the calls above are mined"
    document = {
        "from": rehearsal.sender,
        "to": call.to,
        "value": amount(from_units(call.value, decimals=18), "ETH") if call.value else "",
        "gas": f"{found.gas:,}" if found else unknown,
        "cost": f"{from_units(found.cost, decimals=18):f} ETH at {found.fee_per_gas / 10**9:.3f} gwei"
        if found
        else unknown,
        **_readable(rehearsal.describe()["arguments"]),
    }
    name = f"{call.contract}.{call.function.partition('(')[0]}" if call.contract else call.function
    return [styled(f"{number}. {name}", bold=True), *(f"   {line}" for line in fields(document, whole=True)), ""]


def _readable(value: Any) -> Any:
    """Cut long bytes; ``--json`` has them whole."""
    if isinstance(value, dict):
        return {name: _readable(item) for name, item in value.items()}
    if isinstance(value, str) and value.startswith("0x") and len(value) > _LONG:
        return f"{value[:_LONG]}… ({len(value) // 2 - 1} bytes)"
    return value


@contextmanager
def scratch_copy(home: Path) -> Iterator[Path]:
    """Copy a home (but not its bundles) for as long as the context is open."""
    with tempfile.TemporaryDirectory(prefix="pyiot-dry-run-") as folder:
        copy = Path(folder) / "home"
        skip = shutil.ignore_patterns("bundles", "*.sqlite", "*.sqlite-wal", "*.sqlite-shm", "*.sock")
        if home.is_dir():
            shutil.copytree(home, copy, ignore=skip, symlinks=True)
            for path in home.rglob("*.sqlite"):
                _copy_database(path, copy / path.relative_to(home))
        yield copy


def _copy_database(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
