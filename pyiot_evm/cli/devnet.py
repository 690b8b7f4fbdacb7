"""``pyiot devnet``: a chain on this computer, with the whole suite deployed."""

import time
from dataclasses import asdict
from typing import Annotated, Any, Literal, Optional

import typer

from pyiot_evm.cli.data_options import duration
from pyiot_evm.cli.options import CHAIN, Name, command
from pyiot_evm.cli.output import clock
from pyiot_evm.cli.root import HelpfulGroup
from pyiot_evm.cli.session import Session
from pyiot_evm.exceptions import InputError

__all__ = ["nouns"]

_MOST = 520 * 7 * 24 * 3600

nouns = typer.Typer(cls=HelpfulGroup, help="Run a chain on this computer, to try and to test.", no_args_is_help=True)

Engine = Annotated[
    Literal["anvil", "hardhat"],
    typer.Option(metavar="NAME", help="The node: anvil keeps its state over restarts, hardhat starts afresh."),
]
Port = Annotated[
    int, typer.Option(metavar="N", min=0, max=65535, help="The port on 127.0.0.1; 0 takes the one it had, else 8545.")
]
BlockTime = Annotated[
    Optional[float],  # noqa: UP045 - typer reads it at run time
    typer.Option(metavar="SECONDS", min=0.1, max=3600, help="Mine on a clock instead of at each transaction."),
]

Time = Annotated[str, typer.Argument(metavar="TIME", help="How much time: 90s, 30m, 12h, 7d or 2w.")]
Ether = Annotated[str, typer.Option(metavar="AMOUNT", help="How much ether.")]
Dollars = Annotated[str, typer.Option(metavar="AMOUNT", help="How many dev dollars.")]


@command(nouns, "up")
def up(session: Session, *, engine: Engine = "anvil", port: Port = 0, block_time: BlockTime = None) -> None:
    """Start the devnet, deploy the suite, and return once it answers.

    The devnet runs on when this shell ends. Every other command finds it by itself. A second `up` finds it running and
    changes nothing. It listens on 127.0.0.1 only; its money is worth nothing. Names of this home that have no ether on
    it get some.

    Example:
        pyiot devnet up
        pyiot devnet up --engine hardhat
    """
    from pyiot_evm.chain import start_devnet  # noqa: PLC0415 - not for `--help`

    started = time.monotonic()
    status = start_devnet(session.home, engine=engine, port=port, block_time=block_time)
    session.fund_the_poor(status.url)
    session.output.done(f"the devnet {'answers' if status.started_now else 'was running already'}")
    session.output.show(document(status) | {"seconds": round(time.monotonic() - started, 1)})


@command(nouns, "status")
def status(session: Session) -> None:
    """Say whether the devnet runs, and where.

    Example:
        pyiot devnet status --json
    """
    from pyiot_evm.chain import devnet_status  # noqa: PLC0415 - not for `--help`

    found = devnet_status(session.home)
    session.output.show({"running": False} if found is None else document(found))


@command(nouns, "down")
def down(session: Session) -> None:
    """Stop the devnet; Anvil's state is kept for the next `up`.

    Example:
        pyiot devnet down
    """
    from pyiot_evm.chain import stop_devnet  # noqa: PLC0415 - not for `--help`

    session.output.show({"stopped": stop_devnet(session.home)})


@command(nouns, "reset")
def reset(session: Session) -> None:
    """Throw the devnet's chain away, and start it afresh if it ran.

    The journals that belong to that chain go with it: its offers, orders and content keys. Keys, bundles and the
    devices' own journals stay, and the names get fresh money.

    Example:
        pyiot devnet reset
    """
    from pyiot_evm.chain import reset_devnet  # noqa: PLC0415 - not for `--help`

    found = reset_devnet(session.home)
    if found is not None:
        session.fund_the_poor(found.url)
    session.output.show({"reset": True, **({"running": False} if found is None else document(found))})


@command(nouns, "fund", CHAIN)
def fund(session: Session, *, name: Name, ether: Ether = "10", dollars: Dollars = "1000") -> None:
    """Give a name more ether and dev dollars; on a devnet only.

    Example:
        pyiot devnet fund buyer --dollars 5000
    """
    entry = session.keyring.entry(name)
    session.chain.fund(entry.address, ether=ether, dollars=dollars)
    session.output.show({"name": name, "address": entry.address} | session.balances_of(entry.address))


@command(nouns, "skip", CHAIN)
def skip(session: Session, *, time: Time) -> None:
    """Let time pass: move the chain's clock forward; on a devnet only.

    Deadlines go by the chain's time. So this is how to see what happens when an owner, a renter or a seller stays
    silent, without waiting for it. The clock stays ahead, also after `down` and `up`, and never goes back. The
    computer's clock stays where it is, and with it a lock's: `pyiot lock run --clock FILE` gives that another one.

    Example:
        pyiot devnet skip 1d
    """
    seconds = skipped(time)
    now = session.chain.increase_time(seconds)
    session.output.show({"skipped": seconds, "chain_time": now, "at": clock(now)}, f"chain time  {clock(now)}")


def skipped(text: str) -> int:
    """Read how much time is to pass.

    Raises:
        InputError: It is none, nothing, or more than ten years.
    """
    seconds = duration(text)
    if not 0 < seconds <= _MOST:
        raise InputError(f"cannot let {text} pass", hint="1s to 520w")
    return seconds


def document(status: Any) -> dict[str, Any]:
    """Return what is shown of a devnet."""
    shown = asdict(status)
    return {name: shown[name] for name in ("running", "engine", "url", "network", "pid", "port", "block_time")}
