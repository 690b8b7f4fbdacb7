"""The command line: ``pyiot NOUN VERB``.

One module a noun. A command reads its arguments, makes one call of the SDK and prints; everything else is in
``options`` (what commands share), ``session`` (home, chain, keys), ``output`` and ``root`` (errors, help).
"""

from __future__ import annotations

import typer

from pyiot_evm.cli import data, deploy, device, devnet, doctor, key
from pyiot_evm.cli.root import RootGroup

__all__ = ["app", "main"]

app = typer.Typer(
    name="pyiot",
    cls=RootGroup,
    help="Machines that own keys, prove what they measured, and sell it: on any EVM chain.",
    no_args_is_help=True,
)
app.add_typer(devnet.nouns, name="devnet")
app.add_typer(key.nouns, name="key")
app.add_typer(device.nouns, name="device")
app.add_typer(data.nouns, name="data")
deploy.add_to(app)
doctor.add_to(app)


def main() -> None:
    """Run the command line of this process."""
    app()
