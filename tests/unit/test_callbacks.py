"""What a program gives us to call: whatever it raises becomes one typed error, and what it tells is never lost work."""

import logging

import pytest

from pyiot_evm.callbacks import ask, each, tell
from pyiot_evm.exceptions import CallbackError, TransportError


class PolicyBugError(Exception):
    """A mistake in a program's own code."""


def broken(_subject):
    raise PolicyBugError("no such room")


def test_ask__when_it_answers__gives_the_answer():
    assert ask("a policy", {"a": 3}.get, "a", kind=int) == 3
    assert ask("a policy", {"a": 3}.get, "b", kind=int) is None


def test_ask__when_it_raises__says_who_and_keeps_what():
    with pytest.raises(CallbackError, match=r"^a policy raised PolicyBugError: no such room$") as caught:
        ask("a policy", broken, 1)
    assert isinstance(caught.value.raised, PolicyBugError)
    assert caught.value.__cause__ is caught.value.raised
    assert (caught.value.what, caught.value.code) == ("a policy", "callback")


def test_ask__when_it_raises_an_error_of_ours__is_the_policy_s_trouble_all_the_same():
    def far(_subject):
        raise TransportError("the insurer does not answer")

    with pytest.raises(CallbackError, match="TransportError: the insurer does not answer"):
        ask("a policy", far, 1)


@pytest.mark.parametrize(("answer", "kind"), [("yes", bool), (1, bool), (True, int), (1.5, int), ([], int)])
def test_ask__when_it_answers_with_something_else__is_refused(answer, kind):
    with pytest.raises(CallbackError, match=f"which is no {kind.__name__}"):
        ask("a policy", lambda _: answer, 1, kind=kind)


def test_ask__when_the_program_is_to_end__does_not_hold_it():
    def leave(_subject):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask("a policy", leave, 1)


def test_each__when_it_breaks_on_the_way__gives_what_came_before():
    def readings():
        yield 1
        raise PolicyBugError("the file is cut")

    items = each("readings", readings())
    assert next(items) == 1
    with pytest.raises(CallbackError, match="the file is cut"):
        next(items)
    with pytest.raises(CallbackError, match="not iterable"):
        list(each("readings", 5))


def test_tell__when_it_raises__logs_it(caplog):
    heard = []
    tell("a report", heard.append, 1)
    tell("a report", None, 2)
    with caplog.at_level(logging.ERROR):
        tell("a report", broken, 3)
    assert heard == [1]
    assert "a report raised PolicyBugError: no such room" in caplog.text
