"""Run the forge suites and hold the invariants to their promise: 10,000 calls each, at least half not reverting.

python scripts/tools/run_forge.py [forge test arguments]
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys

MINIMUM_CALLS = 10_000
INVARIANT = re.compile(
    r"\[(?P<verdict>PASS|FAIL)[^\]]*\] (?P<name>invariant_\w+)\(\) "
    r"\(runs: (?P<runs>\d+), calls: (?P<calls>\d+), reverts: (?P<reverts>\d+)"
)
TOTAL = re.compile(r"(?P<passed>\d+) tests? passed, (?P<failed>\d+) failed, (?P<skipped>\d+) skipped")


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
    weak = []
    print(f"\n{'invariant':<64}{'calls':>9}{'reverts':>9}")
    for found in invariants:
        calls, reverts = int(found["calls"]), int(found["reverts"])
        print(f"{found['name']:<64}{calls:>9,}{reverts:>9,}")
        if calls < MINIMUM_CALLS or 2 * reverts > calls:
            weak.append(found["name"])
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
    print(f"forge: {total[0] if total else 'no total line'}; {len(invariants)} invariants")
    return 0


if __name__ == "__main__":
    sys.exit(main())
