"""The root of the command line: how help looks, how errors look, and which exit code stands for what.

Exit codes: 0 all went well; 2 the command or its input was wrong, and nothing was sent; 3 the same command may work
later; 1 everything else. With ``--json`` an error is one JSON object on stdout, else ``error:`` and ``hint:`` on
stderr. No traceback reaches a user unless ``PYIOT_DEBUG=1`` asks for it.

Example:
    >>> exit_code(InputError("the price is negative")), exit_code(UsageError("no such option"))
    (2, 2)
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
import traceback
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pyiot_evm.exceptions import InputError, PyIotEvmError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "FileError",
    "HelpfulCommand",
    "HelpfulGroup",
    "NotWrittenError",
    "RootGroup",
    "UnexpectedError",
    "UsageError",
    "exit_code",
    "plain",
    "printable",
    "styled",
]

_INTERRUPTED = 130
_SALE_ENDED = ("sale_refunded", "sale_disputed")
_WIDTH = 78
_EXAMPLE = re.compile(r"^Examples?:\n", re.MULTILINE)


class UsageError(InputError):
    """The command line itself cannot be read."""

    code = "usage"


class FileError(PyIotEvmError):
    """The system refused to read or write; how far the command had come by then is not known."""

    code = "file"
    default_hint = "check the path, its permissions and the free space"


class NotWrittenError(PyIotEvmError):
    """A command did what it was for, and the file with its result was not written; the result is shown all the same.

    Args:
        error: Why not.
        result: The command's document, which ``--json`` prints beside the error.
    """

    code = "not_written"
    default_hint = "the command did its work: take what is shown, and look before you run it again"

    def __init__(self, error: OSError | PyIotEvmError, result: Mapping[str, Any]) -> None:
        reason = _file_text(error) if isinstance(error, OSError) else str(error)
        super().__init__(f"it is done, but the file was not written: {reason}")
        self.result = result


class UnexpectedError(PyIotEvmError):
    """An exception that nobody foresaw: a bug."""

    code = "unexpected"
    default_hint = "this is a bug: please report it with the output of the same command under PYIOT_DEBUG=1"


def exit_code(error: PyIotEvmError) -> int:
    """Return the process's exit code for an error; a sale that ended without data is 1, even if it can be retried."""
    if error.code in _SALE_ENDED:
        return 1
    if (isinstance(error, InputError) and not error.retryable) or error.code == "passphrase":
        return 2
    return 3 if error.retryable else 1


class _Helpful:
    """Prints help as plain text of at most 80 columns: what it does, its form, its options, an example."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help page."""
        formatter.write(_page(self, ctx))

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first line of the help."""
        del limit
        return _help_of(self).split("\n", 1)[0].rstrip(".")


class HelpfulCommand(_Helpful, TyperCommand):
    """A command with the house's help page."""


class HelpfulGroup(_Helpful, TyperGroup):
    """A noun with the house's help page."""


class RootGroup(HelpfulGroup):
    """The command ``pyiot``: runs a command and turns every error into a message and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the nouns, then the commands without a noun."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: not isinstance(self.commands[name], TyperGroup))

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run one command line and end the process with its exit code."""
        words = list(sys.argv[1:] if args is None else args)
        standalone = extra.pop("standalone_mode", True)
        run = partial(super().main, words, standalone_mode=False, **extra)
        if not standalone:
            return run()
        sys.exit(_guarded(run, words))


def _guarded(run: Callable[[], Any], words: list[str]) -> int:
    """Run a command and return its exit code; print what went wrong."""
    try:
        return int(run() or 0)
    except typer.Abort:
        typer.echo("stopped", err=True)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except typer.TyperException as error:
        return _report_usage(error, words)
    except Exception as error:  # noqa: BLE001 - the one place where everything ends
        return _report(_as_ours(error), words)


def _as_ours(error: Exception) -> PyIotEvmError:
    if isinstance(error, PyIotEvmError):
        return error
    if isinstance(error, OSError):
        return FileError(_file_text(error))
    return UnexpectedError(f"{type(error).__name__}: {error}")


def _file_text(error: OSError) -> str:
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def _report_usage(error: typer.TyperException, words: list[str]) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return 2
    path = context.command_path if context is not None else "pyiot"
    message = error.format_message().strip()
    return _report(UsageError(message[:1].lower() + message[1:], hint=f"`{path} --help` shows its form"), words)


def _report(error: PyIotEvmError, words: list[str]) -> int:
    if os.environ.get("PYIOT_DEBUG") == "1":
        traceback.print_exc()
    message = printable(str(error))
    if "--json" in words:
        body = {"code": error.code, "message": message, "hint": error.hint, "retryable": error.retryable}
        with suppress(OSError):  # nobody can read stdout: then stderr has it
            typer.echo(json.dumps({"error": body, **_result_of(error)}, default=plain))
            return exit_code(error)
    typer.echo(f"{styled('error:', fg='red', bold=True)} {message}", err=True)
    if error.hint:
        typer.echo(f"{styled('hint:', fg='cyan')} {printable(error.hint)}", err=True)
    return exit_code(error)


def _result_of(error: PyIotEvmError) -> dict[str, Any]:
    """Return what a command did all the same: its result, or the order that an error is about, and transactions."""
    known = dict(getattr(error, "result", {}))
    if getattr(error, "order_id", None) is not None and error.code in _SALE_ENDED:
        known |= {"order_id": str(error.order_id), "state": error.code.removeprefix("sale_")}  # type: ignore[attr-defined]
    transactions = getattr(error, "transactions", ())
    if transactions:
        known["transactions"] = [{"purpose": t.purpose, "hash": t.hash, "gas": t.gas} for t in transactions]
    return known


def plain(value: object) -> str:
    """Return what JSON has no form for as text: bytes in hex, everything else as it reads."""
    return "0x" + value.hex() if type(value) is bytes else str(value)


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: control characters and text direction marks become ``?``.

    Titles, tags and addresses come from strangers, through the chain.
    """
    return "".join(c if c.isprintable() or c in "\n " else "?" for c in text)


def styled(text: str, **style: Any) -> str:
    """Return text in colour or bold, unless ``NO_COLOR`` is set; ``typer.echo`` drops it where no terminal reads."""
    return text if os.environ.get("NO_COLOR") else str(typer.style(text, **style))


def _help_of(command: Any) -> str:
    return textwrap.dedent(command.help or "").strip()


def _page(command: Any, ctx: Any) -> str:
    about, *example = _EXAMPLE.split(_help_of(command), maxsplit=1)
    parts = [_paragraphs(about), _usage(command, ctx)]
    if isinstance(command, TyperGroup):
        rows = [(name, command.commands[name].get_short_help_str()) for name in command.list_commands(ctx)]
        parts.append(_section("Commands", rows))
    parts += _parameter_sections(command, ctx)
    if example:
        parts.append(_heading("Example") + "\n" + textwrap.indent(textwrap.dedent(example[0]).rstrip(), "  "))
    return "\n\n".join(part for part in parts if part) + "\n"


def _usage(command: Any, ctx: Any) -> str:
    words = [ctx.command_path]
    if isinstance(command, TyperGroup):
        words.append("COMMAND")
    else:
        words += [_argument(p) for p in _parameters(command, ctx) if p.param_type_name == "argument"]
        words += [_option(p) for p in _parameters(command, ctx) if p.param_type_name == "option" and p.required]
    line = " ".join([*words, "[OPTIONS]"])
    return _heading("Usage") + "\n" + textwrap.fill(line, _WIDTH, initial_indent="  ", subsequent_indent="      ")


def _parameter_sections(command: Any, ctx: Any) -> list[str]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in _parameters(command, ctx):
        is_argument = parameter.param_type_name == "argument"
        name = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
        if parameter.name == "help" and "Common" in sections:
            name = "Common"
        label = _argument(parameter) if is_argument else _option(parameter)
        sections.setdefault(name, []).append((label, _explained(parameter)))
    return [_section(name, rows) for name, rows in sections.items()]


def _parameters(command: Any, ctx: Any) -> list[Any]:
    return [parameter for parameter in command.get_params(ctx) if not getattr(parameter, "hidden", False)]


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return f"{name if parameter.required else f'[{name}]'}{'...' if parameter.nargs == -1 else ''}"


def _option(parameter: Any) -> str:
    names = sorted([*parameter.opts, *parameter.secondary_opts], key=len)
    value = "" if parameter.is_flag or parameter.count else f" {parameter.metavar or 'VALUE'}"
    return ", ".join(names) + value


def _explained(parameter: Any) -> str:
    notes = []
    if parameter.param_type_name == "option" and getattr(parameter, "multiple", False):
        notes.append("may be repeated")
    default = parameter.default
    if isinstance(default, str | int) and not isinstance(default, bool) and parameter.show_default and default != "":
        notes.append(f"default: {default}")
    if parameter.envvar:
        notes.append(f"env: {parameter.envvar}")
    text = (parameter.help or "").strip()
    return f"{text} [{'; '.join(notes)}]" if notes else text


def _heading(text: str) -> str:
    return styled(f"{text}:", bold=True)


def _paragraphs(text: str) -> str:
    blocks = text.strip().split("\n\n")
    return "\n\n".join(block if block.startswith(" ") else textwrap.fill(block, _WIDTH) for block in blocks)


def _section(name: str, rows: list[tuple[str, str]]) -> str:
    indent = min(max(len(label) for label, _ in rows), 26) + 4
    lines = [_heading(name)]
    for label, text in rows:
        body = textwrap.wrap(text, _WIDTH - indent) or [""]
        if len(label) + 4 > indent:
            lines.append(f"  {label}")
        else:
            lines.append(f"  {label}{' ' * (indent - 2 - len(label))}{body.pop(0)}".rstrip())
        lines += [" " * indent + line for line in body]
    return "\n".join(lines)
