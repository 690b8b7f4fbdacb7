"""``pyiot doctor``: looks at everything that a command needs, and says for each what to do."""

from typing import Annotated

import typer

from pyiot_evm.cli.options import CHAIN, TOKEN, command
from pyiot_evm.cli.output import hanging
from pyiot_evm.cli.root import styled
from pyiot_evm.cli.session import Session

__all__ = ["add_to"]

Whose = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Look at this name's money only.")]
_INDENT = 20
_MARKS = {"ok": ("ok  ", "green"), "warn": ("look", "yellow"), "fail": ("FAIL", "red")}


def doctor(session: Session, *, name: Whose = None) -> None:
    """Check tools, versions, node, contracts, clock, balances and pending money.

    Each line says what was found, and what to do where something is not as it should be. Exits 1 when something would
    stop other commands.

    Example:
        pyiot doctor
        pyiot doctor --rpc https://rpc.example.org --json
    """
    from pyiot_evm.cli.checkup import checkup  # noqa: PLC0415 - not for `--help`

    findings = checkup(session, name)
    bad = [finding for finding in findings if finding.state == "fail"]
    lines = []
    for finding in findings:
        mark, colour = _MARKS[finding.state]
        lines += hanging(f"{styled(mark, fg=colour)}  {finding.subject:<12}  ", finding.text, indent=_INDENT)
        lines += hanging(" " * _INDENT, finding.advice, indent=_INDENT) if finding.advice else []
    session.output.show({"ok": not bad, "checks": [finding.document() for finding in findings]}, *lines)
    if bad:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Make it a command of the root."""
    command(app, "doctor", CHAIN, TOKEN)(doctor)
