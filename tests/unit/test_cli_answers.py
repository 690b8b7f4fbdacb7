"""What `pyiot pay get` shows of an answer: everything that was paid for, and nothing that steers a terminal."""

import sys

import pytest

from pyiot_evm.cli.pay_options import answer_lines


class _Stdout:
    def __init__(self, *, terminal):
        self.isatty = lambda: terminal


@pytest.mark.parametrize(("terminal", "shown"), [(True, "a       b?[31m"), (False, "a\tb\x1b[31m")])
def test_answer_lines__when_a_server_sends_escapes__are_harmless_on_a_terminal_and_whole_in_a_pipe(
    terminal, shown, monkeypatch
):
    # The body of a stranger's answer reached the terminal as it was.
    monkeypatch.setattr(sys, "stdout", _Stdout(terminal=terminal))
    assert answer_lines(b"a\tb\x1b[31m\nsecond\n") == [shown, "second"]


def test_answer_lines__when_the_answer_is_no_text__is_base64():
    # Bytes that are no text were replaced by question marks: what was paid for could not be had from what was shown.
    assert answer_lines(b"\xff\xfe\x00") == ["//4A"]
