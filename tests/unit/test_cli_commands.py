"""What holds for every command: documented, with an example, --json, the options of its kind; light to import."""

import subprocess
import sys

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from pyiot_evm.cli import app
from pyiot_evm.cli.session import Session

VERBS = {
    "devnet": {"up", "status", "down", "reset", "fund", "skip"},
    "key": {"new", "import", "list", "show", "backup", "restore"},
    "device": {"register", "show", "list", "rotate", "revoke", "transfer"},
    "data": {
        *("sell", "list", "show", "buy", "verify", "orders", "settle", "refund", "dispute", "resell", "serve"),
        *("withdraw", "cancel"),
    },
    "rental": {
        *("offer", "open", "handover", "refund", "cancel", "restore", "list", "show", "key"),
        *("checkin", "checkout", "carry", "cosign"),
        *("claim", "waive", "accept", "reject", "rule", "court", "bring", "enforce", "close", "withdraw", "serve"),
    },
}
SENDERS = {
    *("data sell", "data buy", "data settle", "data refund", "data dispute", "data resell", "data serve"),
    *("data withdraw", "data cancel", "device register", "device rotate", "device revoke", "device transfer", "deploy"),
    *(f"rental {verb}" for verb in VERBS["rental"] - {"list", "show", "key", "restore", "cosign"}),
}
CHAINLESS = {"devnet up", "devnet status", "devnet down", "devnet reset", "key list", "key backup", "key restore"}
CHAINLESS |= {"rental cosign"}


def commands(group, before=""):
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))
FIXED = [name for name in COMMANDS if name.partition(" ")[0] in {*VERBS, "deploy", "doctor"}]


def options(command):
    return {name for parameter in command.params for name in parameter.opts if parameter.param_type_name == "option"}


def test_commands__when_listed__are_those_that_were_promised():
    found = {noun: {name.split()[1] for name in COMMANDS if name.startswith(f"{noun} ")} for noun in VERBS}
    assert found == VERBS
    assert {name for name in COMMANDS if " " not in name} == {"deploy", "doctor"}


@pytest.mark.parametrize("name", COMMANDS)
def test_command__when_described__has_a_summary_a_paragraph_an_example_and_json(name):
    command = COMMANDS[name]
    summary = command.help.splitlines()[0]
    assert summary.endswith("."), "one sentence"
    assert len(summary) <= 90
    assert "\nExample:\n" in command.help
    assert f"pyiot {name}" in command.help.split("Example:")[1]
    assert "--json" in options(command)
    undocumented = [parameter.name for parameter in command.params if not parameter.help]
    assert undocumented == [] or all(parameter.hidden for parameter in command.params if not parameter.help)


@pytest.mark.parametrize("name", FIXED)
def test_command__when_it_uses_a_chain_or_sends__has_the_options_of_its_kind(name):
    found = options(COMMANDS[name])
    assert ("--rpc" in found) is (name not in CHAINLESS)
    assert ("--confirmations" in found) is (name not in CHAINLESS)
    assert ("--dry-run" in found) is (name in SENDERS | {"rental cosign"})  # which signs without a chain


@pytest.mark.parametrize("name", COMMANDS)
def test_command__when_it_can_be_rehearsed__uses_a_chain(name):
    found = options(COMMANDS[name])
    assert "--dry-run" not in found or name in CHAINLESS or {"--rpc", "--confirmations", "--passphrase-file"} <= found


def test_options__when_listed__never_take_a_secret():
    words = ("secret", "private-key", "password", "mnemonic", "seed")
    found = {option for command in COMMANDS.values() for option in options(command)}
    assert {option for option in found if any(word in option for word in words)} == set()
    assert "--passphrase" not in found


@pytest.mark.parametrize("name", COMMANDS)
def test_command__when_given_nonsense__exits_2_without_a_traceback(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYIOT_HOME", str(tmp_path))
    result = CliRunner().invoke(app, [*name.split(), "--no-such-option"])
    assert result.exit_code == 2
    assert "no such option" in result.stderr.lower()
    assert "Traceback" not in result.output


def test_import__when_the_command_line_is_loaded__loads_nothing_heavy():
    heavy = {"web3", "pandas", "eth_account", "eth_abi", "fsspec", "aiohttp", "numpy", "rich", "cryptography"}
    code = f"import sys, pyiot_evm.cli; print(sorted({heavy} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_version__when_asked_for__is_the_package_s():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("pyiot-evm 0.")


def test_reporting__when_the_reader_of_the_output_went_away__ends_the_loop_in_order():
    shown = []

    def show(news):
        shown.append(news)
        raise BrokenPipeError

    def run():
        with Session().reporting(show) as (stop, report):
            report("first")  # the loop goes on to its own end
            assert stop.is_set()
            report("second")

    with pytest.raises(BrokenPipeError):
        run()
    assert shown == ["first", "second"]
