"""The option bundles that commands share, and the decorator that hangs them on a command.

A command names its bundles; what the user gave is in the ``Session`` that it gets as its first argument. So every
command has ``--json``, each on a chain has ``--rpc`` and ``--confirmations``, each that sends has ``--dry-run``, and
each that opens a key has ``--passphrase-file``, all with the same words.

Example:
    >>> import typer
    >>> nouns = typer.Typer()
    >>> @command(nouns, "count", CHAIN)
    ... def count(session: Session, *, number: int) -> None:
    ...     "Count to a number."
    ...     session.output.show({"number": number})
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyiot_evm.cli.root import HelpfulCommand
from pyiot_evm.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHAIN", "KEYS", "NEW_KEYS", "QUIET", "SENDS", "SIGNS", "TOKEN", "As", "Name", "command"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="A name of this home: letters, digits and _.-")]
As = Annotated[str, typer.Option("--as", metavar="NAME", help="Whose keys to use: a name of `pyiot key list`.")]

_Option = inspect.Parameter


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return _Option(name, _Option.KEYWORD_ONLY, default=default, annotation=annotation)


_JSON = _option(
    "json",
    Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel="Common")],
    default=False,
)
CHAIN = (
    _option(
        "rpc",
        Annotated[
            str | None,
            typer.Option(
                metavar="URL",
                envvar="PYIOT_RPC_URL",
                help="The chain's JSON-RPC address; the running devnet when left out.",
                rich_help_panel="Common",
            ),
        ],
        default=None,
    ),
    _option(
        "confirmations",
        Annotated[
            int | None,
            typer.Option(
                metavar="N",
                min=0,
                max=10_000,
                help="Blocks on top of a transaction before it counts: 0 on a devnet, a safe number elsewhere.",
                rich_help_panel="Common",
            ),
        ],
        default=None,
    ),
)
"""For commands that read or write a chain."""

TOKEN = (
    _option(
        "token",
        Annotated[
            str | None,
            typer.Option(
                metavar="ADDRESS",
                envvar="PYIOT_TOKEN",
                help="The ERC-20 token that prices are in; a devnet's dollar when left out.",
                rich_help_panel="Common",
            ),
        ],
        default=None,
    ),
)
"""For commands that handle prices."""

SENDS = (
    _option(
        "dry_run",
        Annotated[
            bool,
            typer.Option(
                "--dry-run",
                help="Print the decoded call, its gas and its cost; send nothing.",
                rich_help_panel="Common",
            ),
        ],
        default=False,
    ),
)
"""For commands that send transactions."""

SIGNS = (
    _option(
        "sign_only",
        Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                help="Sign it into this new file, for somebody else to carry; send nothing.",
                rich_help_panel="Common",
            ),
        ],
        default=None,
    ),
    _option(
        "good_for",
        Annotated[
            str,
            typer.Option(
                metavar="TIME",
                help="How long what is signed is good; an opening is for an hour.",
                rich_help_panel="Common",
            ),
        ],
        default="1d",
    ),
)
"""For commands whose act can be signed by one account and carried by another."""

KEYS = (
    _option(
        "passphrase_file",
        Annotated[
            Path | None,
            typer.Option(
                metavar="PATH",
                envvar="PYIOT_PASSPHRASE_FILE",
                help="Read the keystore's passphrase from this file's first line.",
                rich_help_panel="Common",
            ),
        ],
        default=None,
    ),
)
"""For commands that open keys."""

QUIET = (
    _option(
        "quiet",
        Annotated[bool, typer.Option("--quiet", "-q", help="Print ids alone, one a line.", rich_help_panel="Common")],
        default=False,
    ),
)
"""For commands whose result another command takes."""

NEW_KEYS = (*KEYS, _option("new_passphrase", Annotated[bool, typer.Option(hidden=True)], default=True))
"""For commands that make keys: on a terminal the passphrase is asked for twice."""


def command(
    nouns: typer.Typer, verb: str, *bundles: tuple[inspect.Parameter, ...]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command with the options of its bundles.

    Args:
        nouns: The group that the command belongs to.
        verb: The command's name.
        *bundles: :data:`CHAIN`, :data:`SENDS`, :data:`KEYS`; ``--json`` is always there.

    Returns:
        A decorator that leaves the function as it is. The function's first parameter is the :class:`Session`.
    """
    shared = [parameter for bundle in bundles for parameter in bundle] + [_JSON]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [p.replace(kind=_Option.KEYWORD_ONLY) for p in list(signature.parameters.values())[1:]]

        def run(**values: Any) -> None:
            options = {parameter.name: values.pop(parameter.name) for parameter in shared}
            with Session(**options) as session:
                function(session, **values)

        functools.update_wrapper(run, function)
        del run.__wrapped__  # type: ignore[attr-defined]
        run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
        nouns.command(verb, cls=HelpfulCommand)(run)
        return function

    return decorate
