"""The demo's own bookkeeping: what each step did, took and cost, read from the chain's blocks and not from the SDK."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import typer

from pyiot_evm.chain.artifacts import load_artifact
from pyiot_evm.chain.deployment import plan
from pyiot_evm.cli.output import table
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyiot_evm import Chain

__all__ = ["Ledger", "NotAsSaidError", "Step", "Transaction"]

_GWEI = 10**9
_ETHER = 18
_WIDTH = 79


class NotAsSaidError(Exception):
    """A step did not come out as said."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction of a step."""

    function: str
    gas: int
    hash: str


@dataclass(slots=True)
class Step:
    """One step of the story."""

    name: str
    seconds: float = 0.0
    transactions: list[Transaction] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def gas(self) -> int:
        """What its transactions used."""
        return sum(item.gas for item in self.transactions)


class Ledger:
    """Times the steps, reads their transactions from the blocks, and tells what happened.

    Args:
        gas_price: Wei for a unit of gas, for the costs that are shown.
    """

    def __init__(self, *, gas_price: int) -> None:
        self.steps: list[Step] = []
        self._gas_price = gas_price
        self._names = _function_names()
        self._chain: Chain | None = None
        self._block = -1

    @contextmanager
    def step(self, name: str, *, chain: Chain | None = None) -> Iterator[Step]:
        """Run one step; its transactions are those of the blocks that it brought.

        Args:
            name: What is done.
            chain: The chain, once there is one.
        """
        self._chain = chain or self._chain
        step, started = Step(name), time.monotonic()
        yield step
        step.seconds = time.monotonic() - started
        if self._chain is not None:
            step.transactions = list(self._read(self._chain))
        self.steps.append(step)
        self._tell(step)

    def use(self, chain: Chain) -> None:
        """Read the blocks of this chain from now on."""
        self._chain = chain

    def check(self, step: Step, what: str, *, holds: bool) -> None:
        """Hold a step to what was said of it.

        Raises:
            NotAsSaidError: It does not hold.
        """
        step.facts[what] = holds
        if not holds:
            raise NotAsSaidError(f"{step.name}: not so: {what}")

    def _read(self, chain: Chain) -> Iterator[Transaction]:
        last = chain.block_number()
        blocks = chain.rpc_batch([("eth_getBlockByNumber", [hex(n), True]) for n in range(self._block + 1, last + 1)])
        self._block = last
        found = [item for block in blocks for item in block["transactions"]]
        receipts = chain.rpc_batch([("eth_getTransactionReceipt", [item["hash"]]) for item in found]) if found else []
        for item, receipt in zip(found, receipts, strict=True):
            yield Transaction(self._name(item), int(receipt["gasUsed"], 16), item["hash"])

    def _name(self, item: dict[str, Any]) -> str:
        if item["to"] is None:
            return "create the CREATE2 proxy"
        data = str(item["input"])
        return self._names.get(data[:10]) or self._names.get(data[66:]) or f"call {data[:10]}"

    def _tell(self, step: Step) -> None:
        print(f"\n{len(self.steps):2}. {step.name}  ({step.seconds:.2f} s)")
        for item in _merged(step.transactions):
            print(f"      {item[0]:<58}{item[1]:>12,} gas")
        for fact in step.facts:
            print(f"    ✓ {fact}")
        sys.stdout.flush()

    def print_table(self) -> None:
        """Print all steps with gas, cost and seconds."""
        price = Decimal(self._gas_price) / _GWEI
        rows = [
            [
                f"{number:2}",
                step.name,
                f"{step.gas:,}" if step.gas else "-",
                self._cost(step.gas),
                f"{step.seconds:.2f}",
            ]
            for number, step in enumerate(self.steps, start=1)
        ]
        total = sum(step.gas for step in self.steps)
        rows.append(["", "total", f"{total:,}", self._cost(total), f"{sum(step.seconds for step in self.steps):.2f}"])
        headings = ["", "STEP", "GAS", f"ETH AT {price:f} GWEI", "SECONDS"]
        print()
        for line in table(rows, headings, width=_WIDTH):
            typer.echo(line)

    def _cost(self, gas: int) -> str:
        return f"{Decimal(gas * self._gas_price).scaleb(-_ETHER):.6f}" if gas else "-"

    def write(self, path: Path, *, ok: bool, problem: str) -> None:
        """Write everything as one JSON document."""
        steps = [{**asdict(step), "gas": step.gas, "cost_wei": step.gas * self._gas_price} for step in self.steps]
        document = {
            "ok": ok,
            "problem": problem,
            "gas_price_wei": self._gas_price,
            "gas": sum(step.gas for step in self.steps),
            "seconds": round(sum(step.seconds for step in self.steps), 3),
            "steps": steps,
        }
        path.write_text(json.dumps(document, indent=2) + "\n")


def _merged(found: list[Transaction]) -> list[tuple[str, int]]:
    """Put neighbouring transactions of one function into one line."""
    lines: list[tuple[str, int, int]] = []
    for item in found:
        if lines and lines[-1][0] == item.function:
            lines[-1] = (item.function, lines[-1][1] + item.gas, lines[-1][2] + 1)
        else:
            lines.append((item.function, item.gas, 1))
    return [(name if count == 1 else f"{name} x {count}", gas) for name, gas, count in lines]


def _function_names() -> dict[str, str]:
    """Return contract and function for each selector of the suite, and each contract for its init code."""
    names = {item.init_code.hex(): f"deploy {item.name}" for item in plan()}
    for item in plan():
        for entry in load_artifact(item.name).abi:
            if entry["type"] == "function":
                text = f"{entry['name']}({','.join(_type(parameter) for parameter in entry['inputs'])})"
                names["0x" + keccak256(text.encode())[:4].hex()] = f"{item.name}.{entry['name']}"
    return names


def _type(parameter: dict[str, Any]) -> str:
    kind = str(parameter["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in parameter['components'])}){kind.removeprefix('tuple')}"
