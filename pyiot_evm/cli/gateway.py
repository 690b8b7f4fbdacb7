"""``pyiot gateway``: a machine's readings behind HTTP 402."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyiot_evm.cli.options import CHAIN, KEYS, TOKEN, As, command
from pyiot_evm.cli.root import HelpfulGroup
from pyiot_evm.cli.session import Session

if TYPE_CHECKING:
    from pyiot_evm.gateway.server import Gateway

__all__ = ["nouns"]

nouns = typer.Typer(cls=HelpfulGroup, help="Sell a machine's readings over HTTP.", no_args_is_help=True)


@command(nouns, "run", CHAIN, TOKEN, KEYS)
def run(
    session: Session,
    *,
    name: As,
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65_535, help="Where to listen.")] = 8402,
    host: Annotated[str, typer.Option(metavar="HOST", help="On which address.")] = "127.0.0.1",
    config: Annotated[Path | None, typer.Option(metavar="PATH", help="A TOML file with prices and limits.")] = None,
    price_row: Annotated[str | None, typer.Option(metavar="AMOUNT", help="What one reading costs.")] = None,
    price_latest: Annotated[str | None, typer.Option(metavar="AMOUNT", help="What the latest one costs.")] = None,
    price_stream: Annotated[str | None, typer.Option(metavar="AMOUNT", help="What one of a stream costs.")] = None,
) -> None:
    """Serve NAME's readings and offers to every x402 client, until stopped.

    Paid are readings: by the schemes exact and batch-settlement, and one by one over a WebSocket, which `pyiot pay
    stream` opens. Devices, offers and bundles are free. The watchtower claims what is due while it runs. Ctrl-C or
    SIGTERM ends it. GET /openapi.json describes the interface.

    Example:
        pyiot gateway run --as sensor --price-row 0.0001
    """
    from pyiot_evm.gateway.config import GatewayConfig  # noqa: PLC0415 - not for `--help`
    from pyiot_evm.gateway.server import Gateway  # noqa: PLC0415

    info = session.chain.token_info()
    terms = GatewayConfig.of(info.decimals) if config is None else GatewayConfig.read(config, decimals=info.decimals)
    given = {"price_row": price_row, "price_latest": price_latest, "price_stream": price_stream}
    prices: dict[str, Any] = {key: info.to_units(text) for key, text in given.items() if text is not None}
    terms = replace(terms, **prices)
    with session.stop_signal() as stop:
        gateway = Gateway(session.machine(name), terms)
        gateway.run(host=host, port=port, stop=stop, report=lambda url: _tell(session, name, gateway, url))


def _tell(session: Session, name: str, gateway: "Gateway", url: str) -> None:
    """Say that a gateway serves, once it does."""
    session.output.say(f"serving {name} on {url}; Ctrl-C ends it")
    if not gateway.sells_readings:
        session.output.say(f"{name} has no device key: only its offers are served")
