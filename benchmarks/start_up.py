"""How long a person waits before anything happens: `pyiot --help` and imports, as ratios to an empty Python.

Each command is a whole process, timed in its own CPU seconds (user and system), the median of several runs.

    python benchmarks/start_up.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 9
PYIOT = Path(sys.executable).with_name("pyiot")
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import pyiot_evm.device": [sys.executable, "-c", "import pyiot_evm.device"],
    "import pyiot_evm": [sys.executable, "-c", "import pyiot_evm"],
    "from pyiot_evm import Devnet, Machine": [sys.executable, "-c", "from pyiot_evm import Devnet, Machine"],
    "pyiot --help": [str(PYIOT), "--help"],
    "pyiot data --help": [str(PYIOT), "data", "--help"],
    "import web3": [sys.executable, "-c", "import web3"],
}


def timed(command: list[str]) -> tuple[float, float]:
    """Run a command once; return its CPU and its wall-clock seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    """Measure, print a table, and write it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results there as well")
    arguments = parser.parse_args()
    results = {}
    for name, command in COMMANDS.items():
        timed(command)
        runs = [timed(command) for _ in range(RUNS)]
        results[name] = {
            "cpu_seconds": round(statistics.median(cpu for cpu, _ in runs), 4),
            "wall_seconds": round(statistics.median(wall for _, wall in runs), 4),
        }
    floor = results["python -c pass"]["cpu_seconds"]
    print(f"{'':<40}{'cpu ms':>8}{'wall ms':>9}{'ratio':>8}")
    for name, row in results.items():
        row["ratio"] = round(row["cpu_seconds"] / floor, 2)
        print(f"{name:<40}{1000 * row['cpu_seconds']:>8.0f}{1000 * row['wall_seconds']:>9.0f}{row['ratio']:>8.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
