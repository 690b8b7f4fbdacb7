"""contracts/README.md is the map of the contracts: one line each, and the line is the contract's own @notice."""

import re
from pathlib import Path

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"


def notice_of(path: Path) -> str:
    """Return the first @notice of a source as one line."""
    source = path.read_text()
    found = re.search(r"/// @notice (.*\n(?:/// [^@].*\n)*)", source)
    assert found, f"{path.name} has no @notice"
    return " ".join(line.removeprefix("/// ").strip() for line in found.group(1).splitlines())


def expected() -> str:
    """Return the map, folder by folder."""
    lines = []
    for folder in sorted({path.parent for path in CONTRACTS.rglob("*.sol")}):
        lines += ["", f"## {folder.relative_to(CONTRACTS)}", "", "| source | what it is |", "| --- | --- |"]
        lines += [f"| `{path.stem}` | {notice_of(path)} |" for path in sorted(folder.glob("*.sol"))]
    return "\n".join(lines).strip()


def test_readme__when_contracts_say_what_they_are__says_the_same():
    text = (CONTRACTS / "README.md").read_text()
    actual = text[text.index("## ") :].strip()
    assert actual == expected(), f"write this below the introduction of contracts/README.md:\n\n{expected()}"
