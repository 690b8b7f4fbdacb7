"""What a program gives us to call: whatever it raises becomes one typed error, and what it tells is never lost work."""

import logging

import pytest

from pyiot_evm.callbacks import ask, each, tell, tell_each
from pyiot_evm.escrow.records import Role
from pyiot_evm.escrow.serving import RentalAction, RentalLoop
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


def test_tell_each__when_things_are_done_one_by_one__tells_of_each_before_the_next():
    seen = []

    def work():
        for number in (1, 2):
            seen.append(f"done {number}")
            yield number

    assert tell_each("a report", lambda number: seen.append(f"told {number}"), work()) == [1, 2]
    assert seen == ["done 1", "told 1", "done 2", "told 2"]


class _Role:
    """A role without rentals that has one thing to do at the end of a step."""

    clerk = None

    def __init__(self, role, seen):
        self.role, self.seen = role, seen

    def look(self):
        return []

    def finish(self):
        self.seen.append(f"{self.role.value} acts")
        return [RentalAction("withdrawn", self.role)]


def test_step__when_a_role_did_something__tells_of_it_before_the_next_role_begins():
    # `serve(once=True)` told of actions when all were done: one that hung, or a kill, left those before it untold.
    seen = []
    loop = RentalLoop([_Role(Role.OWNER, seen), _Role(Role.RENTER, seen)], poll=1)
    done = loop.step(report=lambda action: seen.append(f"told of {action.role.value}"))
    assert [action.role for action in done] == [Role.OWNER, Role.RENTER]
    assert seen == ["owner acts", "told of owner", "renter acts", "told of renter"]
