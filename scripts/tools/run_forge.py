"""Run the forge suites and hold the invariants to their promise: 10,000 calls each, at least half not reverting.

A handler reverts where it finds nothing to do, so that what does not revert did something. Some calls of each of its
functions must have gone through too, but for those that try what must, or mostly must, be refused.

python scripts/tools/run_forge.py [forge test arguments]
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys

MINIMUM_CALLS = 10_000
MINIMUM_EACH = 25
"""How many calls of each function of a handler must have gone through, for each invariant."""
REFUSED = {
    "closeAny",
    "registerSomeoneElsesKey",
    "registerWithForgedMetadata",
    "registerWithForgedOwner",
    "strangersTry",
}
INVARIANT = re.compile(
    r"\[(?P<verdict>PASS|FAIL)[^\]]*\] (?P<name>invariant_\w+)\(\) "
    r"\(runs: (?P<runs>\d+), calls: (?P<calls>\d+), reverts: (?P<reverts>\d+)"
)
METRICS = re.compile(r"^\| \w+Handler +\| (?P<function>\w+) +\| (?P<calls>\d+) +\| (?P<reverts>\d+) +\|", re.MULTILINE)
TOTAL = re.compile(r"(?P<passed>\d+) tests? passed, (?P<failed>\d+) failed, (?P<skipped>\d+) skipped")


def went_through(text: str) -> dict[str, int]:
    """Return how many calls of each function did not revert, from the table that forge prints after an invariant."""
    rows = METRICS.finditer(text)
    return {row["function"]: int(row["calls"]) - int(row["reverts"]) for row in rows if row["function"] not in REFUSED}


def main() -> int:
    """Run forge, echo it, and print each invariant's calls and reverts."""
    process = subprocess.Popen(
        ["forge", "test", *sys.argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # scripts/test ends what runs beside it
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(("[FAIL", "Ran ", "Suite result", "Compil", "Error")) or "invariant_" in line:
            print(line, end="", flush=True)
    code = process.wait()
    text = "".join(lines)
    if code != 0:
        print(text)
        return code
    invariants = list(INVARIANT.finditer(text))
    weak, idle = [], []
    print(f"\n{'invariant':<90}{'calls':>9}{'reverts':>9}{'seldom':>9} went")
    for found, following in zip(invariants, [*invariants[1:], None], strict=True):
        calls, reverts = int(found["calls"]), int(found["reverts"])
        went = went_through(text[found.end() : following.start() if following else len(text)]) or {"of all": 0}
        seldom = min(went, key=lambda name: went[name])
        print(f"{found['name']:<90}{calls:>9,}{reverts:>9,}{went[seldom]:>9,} {seldom}")
        if calls < MINIMUM_CALLS or 2 * reverts > calls:
            weak.append(found["name"])
        idle += [f"{found['name']} {name} {count}" for name, count in went.items() if count < MINIMUM_EACH]
    total = TOTAL.search(text)
    if not invariants and len(sys.argv) == 1:
        print("no invariant ran")
        return 1
    if total and int(total["skipped"]):
        print(f"{total['skipped']} tests were skipped")
        return 1
    if weak:
        print(f"too few calls, or more than half of them reverting: {', '.join(weak)}")
        return 1
    if idle:
        print(f"functions of handlers that hardly ever go through: {', '.join(idle)}")
        return 1
    print(f"forge: {total[0] if total else 'no total line'}; {len(invariants)} invariants")
    return 0


if __name__ == "__main__":
    sys.exit(main())
