"""The root of the command line on a small app of its own: exit codes, error forms, help pages."""

import io
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pyiot_evm.cli.options import CHAIN, command
from pyiot_evm.cli.output import Output, amount, clock, fields, fit, sparkline, table
from pyiot_evm.cli.root import HelpfulGroup, RootGroup, exit_code, printable
from pyiot_evm.cli.session import Session
from pyiot_evm.exceptions import BudgetError, ConfigurationError, ContractError, InputError, TransportError

ERRORS = {
    "input": (InputError("row 3: time is empty", hint="write a time"), 2),
    "budget": (BudgetError("over the limit", hint="raise the limit"), 2),
    "configuration": (ConfigurationError("no node"), 1),
    "transport": (TransportError("no answer"), 3),
    "contract": (ContractError("OfferExpired", hint="ask for a new offer"), 1),
    "unexpected": (ZeroDivisionError("division by zero"), 1),
    "os": (FileNotFoundError(2, "No such file or directory", "readings.csv"), 1),
}


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def app() -> typer.Typer:
    root = typer.Typer(cls=RootGroup, add_completion=False)
    noun = typer.Typer(cls=HelpfulGroup, help="Things.", no_args_is_help=True)
    root.add_typer(noun, name="thing")

    @command(noun, "fail", CHAIN)
    def fail(session: Session, kind: str) -> None:
        """Fail in one way.

        A paragraph about failing that is long enough to be wrapped, because it has more words than fit in one line.

        Example:
            pyiot thing fail input
        """
        raise ERRORS[kind][0]

    @command(noun, "show")
    def show(session: Session, number: int = 7) -> None:
        """Show a number."""
        session.output.show({"number": number, "price": Decimal("0.50"), "id": b"\x01\x02"})

    @command(noun, "buy")
    def buy(session: Session, out: Path) -> None:
        """Buy a thing and write it to a file."""
        session.output.show_written({"paid": "0.50", "file": str(out)}, lambda: out.write_text("thing"))

    return root


def run(app, *words, **kwargs):
    return CliRunner().invoke(app, list(words), **kwargs)


@pytest.mark.parametrize("kind", ERRORS)
def test_main__when_a_command_raises__prints_error_and_hint_on_stderr_and_exits_with_its_code(app, kind):
    error, code = ERRORS[kind]
    result = run(app, "thing", "fail", kind)
    assert result.exit_code == code
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert getattr(error, "message", error.args[-1]) in lines[0]
    assert lines[1].startswith("hint: ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("kind", ERRORS)
def test_main__when_a_command_raises_under_json__prints_one_object_on_stdout(app, kind):
    error, code = ERRORS[kind]
    result = run(app, "thing", "fail", kind, "--json")
    assert result.exit_code == code
    assert result.stderr == ""
    body = json.loads(result.stdout)["error"]
    assert body["code"] == getattr(error, "code", {"os": "file"}.get(kind, kind))
    assert body["retryable"] is (kind == "transport")
    assert set(body) == {"code", "message", "hint", "retryable"}


def test_main__when_debugging__shows_the_trace_on_stderr(app, monkeypatch):
    monkeypatch.setenv("PYIOT_DEBUG", "1")
    result = run(app, "thing", "fail", "unexpected")
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["thing", "fial"], "no such command 'fial'. Did you mean 'fail'?"),
        (["thing", "fail"], "missing argument 'kind'"),
        (["thing", "fail", "input", "--bad"], "no such option: --bad"),
        (["thing", "show", "--number", "x"], "invalid value for '--number'"),
        (["thing", "fail", "input", "--confirmations", "-1"], "invalid value for '--confirmations'"),
    ],
)
def test_main__when_the_command_line_is_wrong__exits_2_and_says_where_help_is(app, words, message):
    result = run(app, *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.lower().startswith(f"error: {message}".lower())
    assert "--help` shows its form" in result.stderr
    body = json.loads(run(app, *words, "--json").stdout)["error"]
    assert body["code"] == "usage"


def test_main__when_a_noun_stands_alone__shows_its_verbs_and_exits_2(app):
    result = run(app, "thing")
    assert result.exit_code == 2
    assert "Fail in one way" in result.stderr


def test_main__when_all_goes_well__exits_0_with_text_or_json(app):
    assert run(app, "thing", "show").stdout == "number  7\nprice   0.50\nid      0x0102\n"
    result = run(app, "thing", "show", "--number", "8", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"number": 8, "price": "0.50", "id": "0x0102"}


def test_show_written__when_the_file_cannot_be_written__shows_the_result_and_exits_1(app):
    # The CLI paid, lost the result because a file could not be written, and exited 2: "nothing was sent".
    result = run(app, "thing", "buy", "/dev/full")
    assert (result.exit_code, result.stdout) == (1, "paid  0.50\n")
    assert "it is done, but the file was not written: No space left on device" in result.stderr

    result = run(app, "thing", "buy", "/dev/full", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["paid"], document["error"]["code"]) == (1, "0.50", "not_written")


def test_show_written__when_the_file_can_be_written__shows_the_result_with_it(app, tmp_path):
    result = run(app, "thing", "buy", str(tmp_path / "thing"), "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"paid": "0.50", "file": str(tmp_path / "thing")})
    assert (tmp_path / "thing").read_text() == "thing"


def test_main__when_stdout_is_full__says_so_on_stderr_without_a_traceback():
    # The error's own JSON object went to the same full stdout, and the user got a traceback.
    script = "from pyiot_evm.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script, "thing", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.splitlines()[0][:6]) == (2, "error:")


def test_help__when_shown__has_form_options_and_example_within_80_columns(app):
    text = run(app, "thing", "fail", "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "Usage:\n  pyiot thing fail KIND [OPTIONS]" in text.replace("root", "pyiot")
    assert "--rpc URL" in text
    assert "env: PYIOT_RPC_URL" in text
    assert text.rstrip().endswith("Example:\n  pyiot thing fail input")


@pytest.mark.parametrize(
    ("error", "code"), [(value, code) for value, code in ERRORS.values() if hasattr(value, "code")]
)
def test_exit_code__when_given_an_error__is_2_for_input_3_for_retryable_1_for_the_rest(error, code):
    assert exit_code(error) == code


def test_printable__when_a_stranger_sends_escapes__leaves_nothing_that_steers_a_terminal():
    hostile = "temp\x1b[31m\x07\u202egnp.exe\r\x9b2J\u200b"
    assert printable(hostile) == "temp?[31m??gnp.exe??2J?"


def test_table__when_the_terminal_is_narrow__fits_and_marks_what_is_cut():
    rows = [["0xabababab", "Road occupancy at a detector with a very long name", "1,000"], ["0xcdcdcdcd", "t", "2"]]
    lines = table(rows, ["OFFER", "TITLE", "ROWS"], width=40)
    assert [len(line) for line in lines] == [40, 40, 40]
    assert "…" in lines[1]
    assert lines[1].endswith("1,000")
    assert lines[2].endswith("    2")
    assert table(rows, ["OFFER", "TITLE", "ROWS"], width=0)[1].startswith(
        "0xabababab  Road occupancy at a detector with"
    )


def test_table__when_a_cell_comes_from_a_stranger__is_made_harmless():
    assert table([["\x1b[2Jx"]], ["A"], width=0)[1] == "?[2Jx"


def test_fields__when_rows_have_more_columns_than_explain_themselves__name_each():
    wide = {"payer": "a", "payer_authorizer": "b", "receiver": "c", "token": "d", "salt": "e"}
    lines = fields({"configs": [wide, wide], "pairs": [{"time": 1, "value": 2}]})
    assert lines[:2] == ["configs  payer             a", "         payer authorizer  b"]
    assert (len(lines), lines[-1]) == (11, "pairs    1  2")


def test_fields__when_a_value_is_nested__aligns_it_and_leaves_empty_ones_out():
    lines = fields(
        {
            "offer_id": "0x01",
            "tags": [],
            "seller": {"name": "a"},
            "price_units": 7,
            "tx": [{"purpose": "buy", "gas": 5000, "hash": "0x02"}],
        }
    )
    assert lines == ["offer id  0x01", "seller    name  a", "tx        buy  5,000  0x02"]


@pytest.mark.parametrize("seconds", [(1 << 40) - 1, (1 << 64) - 1, -(1 << 60), float("inf"), float("nan")])
def test_clock__when_no_calendar_has_the_time__says_the_number(seconds):
    assert clock(seconds) == f"{seconds} s"


def test_fit__when_text_is_longer__ends_with_an_ellipsis():
    assert (fit("abcdef", 4), fit("abcd", 4)) == ("abc…", "abcd")


def test_sparkline__when_given_a_series__has_one_bar_a_stretch():
    assert sparkline(range(8)) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5, 5]) == "▄▄▄"
    assert len(sparkline(range(1000), width=40)) == 40
    assert sparkline([]) == ""


@pytest.mark.parametrize(
    ("units", "text"),
    [("0.5", "0.50 DUSD"), ("12", "12.00 DUSD"), ("0.000001", "0.000001 DUSD"), ("1E+3", "1000.00 DUSD")],
)
def test_amount__when_written__has_two_decimals_or_more_and_no_exponent(units, text):
    assert amount(Decimal(units), "DUSD") == text


def test_output__when_json_is_asked_for__prints_lists_whole(capsys):
    Output(json=True).show_rows("offers", [{"id": "0x" + "ab" * 32}], {"id": "OFFER"}, "nothing")
    assert json.loads(capsys.readouterr().out) == {"offers": [{"id": "0x" + "ab" * 32}]}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_progress__when_a_task_is_quick__says_nothing(capsys):
    Output().progress("sealing", 0, 10)
    Output().progress("sealing", 10, 10)
    assert capsys.readouterr().err == ""


def test_progress__when_a_task_takes_over_a_second__says_so_once_without_a_terminal(capsys, monkeypatch):
    now = iter([0.0, 0.0, 1.5, 2.0, 2.5])
    monkeypatch.setattr("pyiot_evm.cli.output.time.monotonic", lambda: next(now))
    output = Output()
    for done in (0, 4, 7, 10):
        output.progress("sealing", done, 10)
    assert capsys.readouterr().err == "sealing …\n"


def test_progress__when_a_task_takes_a_while_on_a_terminal__draws_a_bar_of_80_columns(monkeypatch):
    now = iter([0.0, 0.0, 0.5, 0.6])
    monkeypatch.setattr("pyiot_evm.cli.output.time.monotonic", lambda: next(now))
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    output = Output()
    for done in (0, 500_000, 1_000_000):
        output.progress("checking every leaf", done, 1_000_000)
    half, whole = terminal.getvalue().split("\r")[1:]
    assert half.rstrip() == "checking every leaf    [" + "█" * 12 + " " * 12 + "]   500,000 of 1,000,000 leaves"
    assert whole.endswith("1,000,000 of 1,000,000 leaves\n")
    assert len(whole.rstrip()) <= 80


def test_output__when_there_is_nothing__says_so_on_stderr(capsys):
    Output().show_rows("offers", [], {"id": "OFFER"}, "nothing is for sale")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "nothing is for sale\n")
