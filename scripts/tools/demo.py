"""The demo: what machines do with these contracts, told in acts, each on a devnet of its own with a temporary home.

Each step is held to what is said of it; when one does not come out so, the demo says which and exits 1. An act is a
module beside this one that makes an `Act`; `acts` lists them.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import demo_payments
import demo_rentals
import demo_sale
from demo_ledger import Act, Ledger, NotAsSaidError, print_sum, write

from pyiot_evm import PyIotEvmError


def acts(options: argparse.Namespace) -> list[Act]:
    """Return all there are, in order."""
    return [demo_sale.ACT, demo_payments.act(options.payments), demo_rentals.ACT]


def main() -> int:
    """Tell the acts that are asked for, print the tables, and return the exit code."""
    options = _options()
    gas_price = int(options.gas_price * 10**9)
    problem, ledgers = "", list[Ledger]()
    for act in (act for act in acts(options) if not options.act or act.number in options.act):
        ledgers.append(Ledger(act, gas_price=gas_price))
        problem = _tell(ledgers[-1])
        if problem:
            break
    print_sum(ledgers, gas_price)
    if options.json is not None:
        write((options.folder / options.json).resolve(), ledgers, gas_price=gas_price, problem=problem)
    print(f"\nFAILED  {problem}" if problem else "\nevery step came out as said")
    return 1 if problem else 0


def _tell(ledger: Ledger) -> str:
    """Tell one act and print its table; return what did not come out as said."""
    print(f"\nAct {ledger.act.number}: {ledger.act.title}\n")
    problem = ""
    try:
        with tempfile.TemporaryDirectory(prefix="pyiot-demo-") as folder:
            ledger.act.tell(ledger, Path(folder))
    except NotAsSaidError as error:
        problem = str(error)
    except PyIotEvmError as error:
        problem = f"{type(error).__name__}: {error}" + f" ({error.hint})" * bool(error.hint)
    except OSError as error:  # HTTP too
        problem = f"{type(error).__name__}: {error}"
    if ledger.steps:
        ledger.print_table()
    return problem


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--act", type=int, action="append", metavar="NUMBER", help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same as data")
    parser.add_argument("--gas-price", type=_gwei, default=Decimal(1), metavar="GWEI", help="for the costs; 1 gwei")
    count = os.environ.get("PYIOT_DEMO_PAYMENTS", "1000")
    parser.add_argument("--payments", type=_count, default=count, metavar="COUNT", help="of the second act; 1000")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = sorted(set(options.act or []) - {act.number for act in acts(options)})
    if unknown:
        parser.error(f"there is no act {unknown[0]}, only {', '.join(str(act.number) for act in acts(options))}")
    return options


def _gwei(text: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal(-1)
    if not price.is_finite() or price < 0:
        raise argparse.ArgumentTypeError(f"{text} is no price of gas")
    return price


def _count(text: str) -> int:
    if not text.isdigit() or not demo_payments.FEWEST <= int(text) <= demo_payments.MOST:
        raise argparse.ArgumentTypeError(f"{text} is not from {demo_payments.FEWEST} to {demo_payments.MOST}")
    return int(text)


if __name__ == "__main__":
    started = time.monotonic()
    logging.getLogger("pyiot_evm").setLevel(logging.ERROR)  # what is told here is told by the steps
    try:
        code = main()
    except KeyboardInterrupt:
        print("\nstopped")
        sys.exit(130)
    print(f"{time.monotonic() - started:.1f} s in all")
    sys.exit(code)
