"""The demo's own bookkeeping: what each step did, took and cost, read from the chain's blocks and not from the SDK."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import pyiot_evm
from pyiot_evm.chain.artifacts import load_artifact
from pyiot_evm.chain.deployment import plan
from pyiot_evm.cli.output import table
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyiot_evm import Chain

__all__ = ["SAMPLE", "Act", "Ledger", "NotAsSaidError", "Progress", "Step", "Transaction", "print_sum", "write"]

SAMPLE = Path(pyiot_evm.__file__).parent / "samples" / "occupancy_6005.csv"

_GWEI = 10**9
_ETHER = 18
_WIDTH = 79
_TICK, _LINE_EVERY, _BAR = 0.1, 5.0, 20


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


@dataclass(frozen=True, slots=True)
class Act:
    """A part of the story that stands for itself, on a devnet of its own.

    Attributes:
        number: Its place, from 1.
        title: One line.
        tell: Tells it into a ledger, with a folder for its files.
    """

    number: int
    title: str
    tell: Callable[[Ledger, Path], None]


class Ledger:
    """Times the steps, reads their transactions from the blocks, and tells what happened.

    Args:
        act: The act that is told.
        gas_price: Wei for a unit of gas, for the costs that are shown.
    """

    def __init__(self, act: Act, *, gas_price: int) -> None:
        self.act = act
        self.steps: list[Step] = []
        self.figures: dict[str, float] = {}
        self._notes: list[str] = []
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

    @property
    def gas(self) -> int:
        """What all steps used."""
        return sum(step.gas for step in self.steps)

    @property
    def seconds(self) -> float:
        """What all steps took."""
        return sum(step.seconds for step in self.steps)

    def say(self, text: str) -> None:
        """Keep a line for below the table."""
        self._notes.append(text)

    def print_table(self) -> None:
        """Print all steps with gas, cost and seconds, and the figures below."""
        rows = [
            [f"{number:2}", step.name, *self._row(step.gas, step.seconds)]
            for number, step in enumerate(self.steps, start=1)
        ]
        rows.append(["", "total", *self.totals()])
        print()
        for line in table(rows, ["", "STEP", *_headings(self._gas_price)], width=_WIDTH):
            typer.echo(line)
        if self._notes:
            print()
        for text in self._notes:
            print(f"    {text}")

    def totals(self) -> list[str]:
        """Return gas, cost and seconds of the act, for a table."""
        return self._row(self.gas, self.seconds)

    def _row(self, gas: int, seconds: float) -> list[str]:
        return [f"{gas:,}" if gas else "-", self._cost(gas), f"{seconds:.2f}"]

    def _cost(self, gas: int) -> str:
        return f"{Decimal(gas * self._gas_price).scaleb(-_ETHER):.6f}" if gas else "-"

    def document(self) -> dict[str, Any]:
        """Return everything as one JSON object."""
        steps = [{**asdict(step), "gas": step.gas, "cost_wei": step.gas * self._gas_price} for step in self.steps]
        seconds = round(self.seconds, 3)
        return {"act": self.act.number, "title": self.act.title, "gas": self.gas, "seconds": seconds} | {
            "steps": steps,
            "figures": self.figures,
        }


def print_sum(ledgers: Sequence[Ledger], gas_price: int) -> None:
    """Print the closing table: every act, and all of them."""
    whole = Ledger(Act(0, "total", lambda _ledger, _folder: None), gas_price=gas_price)
    whole.steps = [step for ledger in ledgers for step in ledger.steps]
    rows = [[str(one.act.number or ""), one.act.title, str(len(one.steps)), *one.totals()] for one in (*ledgers, whole)]
    print()
    for line in table(rows, ["", "ACT", "STEPS", *_headings(gas_price)], width=_WIDTH):
        typer.echo(line)


def write(path: Path, ledgers: Sequence[Ledger], *, gas_price: int, problem: str) -> None:
    """Write all acts as one JSON document."""
    document = {
        "ok": not problem,
        "problem": problem,
        "gas_price_wei": gas_price,
        "gas": sum(ledger.gas for ledger in ledgers),
        "seconds": round(sum(ledger.seconds for ledger in ledgers), 3),
        "acts": [ledger.document() for ledger in ledgers],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _headings(gas_price: int) -> list[str]:
    return ["GAS", f"ETH AT {Decimal(gas_price) / _GWEI:f} GWEI", "SECONDS"]


class Progress:
    """Shows how far a task has come: a bar that moves on a terminal, a line now and then elsewhere.

    Args:
        total: How many there are.
        what: What they are called.
    """

    def __init__(self, total: int, what: str) -> None:
        self._total = total
        self._what = what
        self._started = self._told = time.monotonic()

    def show(self, done: int) -> None:
        """Show that this many are done."""
        now, on_terminal = time.monotonic(), sys.stdout.isatty()
        if done < self._total and now - self._told < (_TICK if on_terminal else _LINE_EVERY):
            return
        self._told = now
        each_second = done / max(now - self._started, 1e-9)
        text = f"{done:,} of {self._total:,} {self._what}, {each_second:,.0f} a second"
        if not on_terminal:
            print(f"    {text}", flush=True)
            return
        left = f", {(self._total - done) / each_second:.0f} s left" if done < self._total else ""
        bar = "█" * (_BAR * done // self._total)
        print(f"\r  [{bar:<{_BAR}}] {text}{left}"[:_WIDTH].ljust(_WIDTH), end="", flush=True)
        if done >= self._total:
            print()


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
