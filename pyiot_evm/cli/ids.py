"""Ids as people write them: whole, or cut to any beginning that is unique, with or without ``0x``.

Example:
    >>> known = [bytes.fromhex("3fa9c1d2" + "00" * 28), bytes.fromhex("77aa01bc" + "00" * 28)]
    >>> find_id("channel", "3fa9", lambda: known, hint="").hex()[:8]
    '3fa9c1d2'
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["find_id"]

_ID = re.compile(r"(0x)?([0-9a-f]{4,64})")
_DIGITS = 64


def find_id(kind: str, text: str, known: Callable[[], Iterable[bytes]], *, hint: str) -> bytes:
    """Read an id, or find the one that begins like this.

    Args:
        kind: What it is the id of, for the error.
        text: 64 hex digits, or at least the first 4 of them.
        known: Returns the ids among which a beginning is looked for; not asked about a whole id.
        hint: Where people see the ids.

    Raises:
        InputError: It is no id, or none or more than one begins like this.
    """
    match = _ID.fullmatch(text.strip().lower())
    if match is None:
        raise InputError(
            f"neither an id nor a file: {text!r}", hint="an id is 0x and 64 hex digits, or at least the first 4 of them"
        )
    if len(match[2]) == _DIGITS:
        return bytes.fromhex(match[2])
    found = sorted({bytes(item) for item in known() if item.hex().startswith(match[2])})
    if not found:
        raise InputError(f"no {kind} begins with {text}", hint=hint)
    if len(found) > 1:
        names = ", ".join("0x" + item.hex() for item in found)
        raise InputError(f"{len(found)} {kind}s begin with {text}: {names}", hint="give more digits")
    return found[0]
