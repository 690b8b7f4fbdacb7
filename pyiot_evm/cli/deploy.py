"""``pyiot deploy``: the suite on any chain, at the same addresses."""

from typing import Annotated

import typer

from pyiot_evm.cli.options import CHAIN, KEYS, SENDS, command
from pyiot_evm.cli.session import Session

__all__ = ["add_to"]

Payer = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Who pays for it: a name of `pyiot key list`; not needed on a devnet."),
]


def deploy(session: Session, *, name: Payer = None) -> None:
    """Deploy what is missing of the contract suite.

    The contracts have no owner and lie at the same addresses on every chain, so it does not matter who deploys them,
    and a second run sends nothing. What stands there already is compared with this version's code. The dev dollar is
    deployed on devnets only.

    Example:
        pyiot deploy --as deployer --rpc https://rpc.example.org --dry-run
    """
    from pyiot_evm.chain import deploy_suite  # noqa: PLC0415 - not for `--help`

    account = session.account(name)
    addresses = deploy_suite(session.chain, account)
    session.output.show({"network": session.chain.network, **addresses.as_dict()})


def add_to(app: typer.Typer) -> None:
    """Make it a command of the root."""
    command(app, "deploy", CHAIN, SENDS, KEYS)(deploy)
