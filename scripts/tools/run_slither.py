"""Run slither over the contracts that are deployed; each finding is mended, or explained in contracts/slither.toml.

An exception names one detector and one place (``Contract.function(types)``); ``"*"`` stands for every place, where a
detector asks about something that the suite does on purpose throughout. An exception that nothing needs any more is an
error too, so the list never outlives the code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OUT = ".build/slither/out"
EXCEPTIONS = ROOT / "contracts" / "slither.toml"


def findings() -> list[dict[str, Any]]:
    """Return slither's findings.

    Raises:
        SystemExit: Slither did not come to an end.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "findings.json"
        command = ["slither", ".", "--json", str(answer), "--foundry-out-directory", OUT]
        command += ["--filter-paths", "node_modules|contracts/mocks|tests/", "--fail-none"]
        own = {"FOUNDRY_OUT": OUT, "FOUNDRY_CACHE_PATH": ".build/slither/cache"}  # forge may be at work beside this
        done = subprocess.run(command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False)
        document: dict[str, Any] = {"success": False, "error": done.stderr}
        if answer.exists():
            document = json.loads(answer.read_text())
    if not document["success"]:
        raise SystemExit(f"slither failed:\n{document['error']}\n{done.stderr[-2000:]}")
    found: list[dict[str, Any]] = document["results"].get("detectors", [])
    return found


def place_of(finding: dict[str, Any]) -> str:
    """Return the function, or the contract, that a finding is about."""
    for element in finding["elements"]:
        fields = element.get("type_specific_fields", {})
        parent = fields.get("parent", {})
        if element["type"] == "function":
            return f"{parent['name']}.{fields['signature']}"
        if parent.get("type") == "function":
            grandparent = parent["type_specific_fields"]["parent"]["name"]
            return f"{grandparent}.{parent['type_specific_fields']['signature']}"
    return str(finding["elements"][0]["name"]) if finding["elements"] else "?"


def main() -> int:
    """Compare findings and exceptions."""
    exceptions = tomllib.loads(EXCEPTIONS.read_text())["exception"]
    used: set[tuple[int, str]] = set()
    unexplained, all_findings = [], findings()
    for finding in all_findings:
        place = place_of(finding)
        matching = [
            number
            for number, entry in enumerate(exceptions)
            if entry["detector"] == finding["check"] and ("*" in entry["places"] or place in entry["places"])
        ]
        used.update((number, "*" if "*" in exceptions[number]["places"] else place) for number in matching)
        if not matching:
            unexplained.append(f"{finding['check']} at {place}\n{finding['description']}")
    stale = [
        f"{entry['detector']} at {place}"
        for number, entry in enumerate(exceptions)
        for place in entry["places"]
        if (number, place) not in used
    ]
    for text in unexplained:
        print(f"not explained: {text}")
    for text in stale:
        print(f"no longer found, remove it from {EXCEPTIONS.relative_to(ROOT)}: {text}")
    if not unexplained and not stale:
        print(f"slither: {len(all_findings)} findings, every one explained in {EXCEPTIONS.relative_to(ROOT)}")
    return 1 if unexplained or stale else 0


if __name__ == "__main__":
    sys.exit(main())
