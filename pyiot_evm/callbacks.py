"""What a program gives us to call: policies, reports. Whatever they raise becomes one typed error.

A loop serves many sales and rentals. A mistake in a function that one of them is judged by must not cost the others
their deadlines, so this module catches everything, and nothing else in the library does.

Example:
    >>> from pyiot_evm.exceptions import CallbackError
    >>> try:
    ...     ask("a policy's reply", {}.__getitem__, "rental", kind=bool)
    ... except CallbackError as error:
    ...     print(error, type(error.raised).__name__)
    a policy's reply raised KeyError: 'rental' KeyError
    >>> ask("a policy's reply", {"rental": True}.get, "rental", kind=bool)
    True
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from pyiot_evm.exceptions import CallbackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["ask", "each", "tell", "tell_each"]

_log = logging.getLogger(__name__)
_Q = TypeVar("_Q")
_T = TypeVar("_T")


def ask(what: str, function: Callable[[_Q], _T | None], subject: _Q, *, kind: type[_T] | None = None) -> _T | None:
    """Ask a function that a program gave us.

    Args:
        what: What it is, for the error.
        function: It.
        subject: What it is asked about.
        kind: What it must answer with, where it answers; anything when left out.

    Raises:
        CallbackError: It raised, or answered with something else.
    """
    try:
        answer = function(subject)
    except Exception as error:
        raise CallbackError(what, error) from error
    is_number = kind is int and type(answer) is bool  # a bool is an int to Python, and no amount of money
    if kind is not None and answer is not None and (is_number or not isinstance(answer, kind)):
        raise CallbackError(what, TypeError(f"it answered {answer!r}, which is no {kind.__name__}"))
    return answer


def each(what: str, items: Iterable[_T]) -> Iterator[_T]:
    """Go through what a program gave us, which may be made while we read it.

    Raises:
        CallbackError: It raised, or cannot be gone through.
    """
    try:
        yield from items
    except Exception as error:
        raise CallbackError(what, error) from error


def tell(what: str, function: Callable[[_T], None] | None, news: _T) -> None:
    """Tell a function that a program gave us of something that is done; what it raises is logged."""
    if function is None:
        return
    try:
        function(news)
    except Exception as error:  # noqa: BLE001 - what was done is done, and the next one waits
        _log.exception("%s", CallbackError(what, error))


def tell_each(what: str, function: Callable[[_T], None] | None, news: Iterable[_T]) -> list[_T]:
    """Tell of each thing as it is done, as :func:`tell` does, and return them all."""
    done = []
    for item in news:
        tell(what, function, item)
        done.append(item)
    return done
