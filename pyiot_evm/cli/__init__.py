"""The command line: ``pyiot NOUN VERB``.

One module a noun. A command reads its arguments, makes one call of the SDK and prints; everything else is in
``options`` (what commands share), ``session`` (home, chain, keys), ``output`` and ``root`` (errors, help).
"""

import os
from typing import Annotated

import typer

from pyiot_evm.cli import data, deploy, device, devnet, doctor, gateway, key, lock, pay, rental
from pyiot_evm.cli.output import talk_plainly
from pyiot_evm.cli.root import RootGroup

__all__ = ["app", "main"]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - slow to import

        typer.echo(f"pyiot-evm {version('pyiot-evm')}")
        raise typer.Exit


app = typer.Typer(
    name="pyiot",
    cls=RootGroup,
    no_args_is_help=True,
)
app.add_typer(devnet.nouns, name="devnet")
app.add_typer(key.nouns, name="key")
app.add_typer(device.nouns, name="device")
app.add_typer(data.nouns, name="data")
app.add_typer(pay.nouns, name="pay")
app.add_typer(rental.nouns, name="rental")
app.add_typer(lock.nouns, name="lock")
app.add_typer(gateway.nouns, name="gateway")
deploy.add_to(app)
doctor.add_to(app)


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Machines that own keys, prove what they measured, and sell it: on any EVM chain.

    Begin with `pyiot devnet up`; `pyiot doctor` looks at everything and says what to do. Each command's `--help` has an
    example, `--json` is there on all of them.

    Example:
        pyiot devnet up
        pyiot key new sensor --curve p256
        pyiot data sell occupancy_6005.csv --as sensor --price 0.50
    """
    del version
    talk_plainly(debug=os.environ.get("PYIOT_DEBUG") == "1")


def main() -> None:
    """Run the command line of this process."""
    app()
