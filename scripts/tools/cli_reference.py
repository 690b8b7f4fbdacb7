"""Write docs/reference/cli.md and tests/snapshot/cli_help.txt from the commands' own help pages.

python scripts/tools/cli_reference.py           write both
python scripts/tools/cli_reference.py --check   compare both, exit 1 when one differs
"""

import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference" / "cli.md"
SNAPSHOT = ROOT / "tests" / "snapshot" / "cli_help.txt"
HEAD = """# The command line

Every page below is what `--help` prints; this file is written by `scripts/tools/cli_reference.py`.

## What all commands share

- **stdout is data, stderr is talk.** Tables and fields fit the terminal; in a pipe nothing is cut. `--json` prints one
  JSON object (with `data list --watch` one a line). `NO_COLOR` turns colour off.
- **Exit codes**: 0 all went well; 1 it did not, and the same command will not do better; 2 the command line or its
  input was wrong, or a passphrase is missing, and nothing was sent; 3 try again later.
- **Errors** are `error:` and `hint:` on stderr; with `--json` one object `{"error": {"code", "message", "hint",
  "retryable"}}` on stdout. `PYIOT_DEBUG=1` adds the trace.
- **Ids** (offers, resales, orders) can be cut to any unique beginning of at least 4 hex digits.
- **Secrets are never arguments.** A passphrase comes from `--passphrase-file`, `PYIOT_PASSPHRASE`,
  `PYIOT_PASSPHRASE_FILE` or a hidden prompt.
- **`--dry-run`** does everything up to the transaction in a copy of the home, and prints the decoded call, its gas and
  its cost instead of sending it.

| variable | what it is for |
| --- | --- |
| `PYIOT_HOME` | keys, journals, bundles, the devnet; `~/.pyiot` when unset |
| `PYIOT_RPC_URL` | the chain, as `--rpc` |
| `PYIOT_TOKEN` | the token that prices are in, as `--token` |
| `PYIOT_PASSPHRASE`, `PYIOT_PASSPHRASE_FILE` | the keystore's passphrase, or the file that holds it |
| `PYIOT_KEY_COST` | `light` where the passphrase is random: new keys open in milliseconds; else `standard` |
| `PYIOT_IMPORT_PASSPHRASE` | the passphrase of the file that `pyiot key import --keystore` reads |
| `PYIOT_DEBUG` | `1` shows traces and what the SDK logs |
"""


def pages() -> list[tuple[str, str]]:
    """Return each command's name and help page, the root first."""
    os.environ["COLUMNS"] = "80"
    os.environ["NO_COLOR"] = "1"
    import typer.main  # noqa: PLC0415 - after the environment is set

    from pyiot_evm.cli import app  # noqa: PLC0415

    found: list[tuple[str, str]] = []

    def walk(command: Any, parent: Any, name: str) -> None:
        with command.make_context(name, [], parent=parent, resilient_parsing=True) as context:
            found.append((context.command_path, context.get_help().rstrip()))
            for verb, child in getattr(command, "commands", {}).items():
                walk(child, context, verb)

    walk(typer.main.get_command(app), None, "pyiot")
    return found


def reference() -> str:
    """Return the reference page."""
    parts = [HEAD]
    for name, text in pages():
        level = "##" if name.count(" ") < 2 else "###"
        parts.append(f"{level} `{name}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def snapshot() -> str:
    """Return the snapshot of all help pages."""
    return "\n".join(f"=== {name} --help\n{text}\n" for name, text in pages())


def main() -> int:
    """Write the files, or compare them."""
    wanted = {REFERENCE: reference(), SNAPSHOT: snapshot()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the help says: run scripts/tools/cli_reference.py")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
