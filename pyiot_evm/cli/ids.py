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
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyiot_evm.cli.session import Session

__all__ = ["account_address", "find_id"]

_ID = re.compile(r"(0x)?([0-9a-f]{4,64})")
_DIGITS = 64


def account_address(session: Session, text: str) -> Address:
    """Read whose account is meant: a name of this home, or an address, whose capitals are its checksum (EIP-55).

    Raises:
        InputError: It is neither, or the address was mistyped.
    """
    if text in session.keyring:
        return session.keyring.entry(text).address
    try:
        found = Address(text)
    except InputError as error:
        if text.startswith("0x"):
            raise
        hint = "`pyiot key list` shows the names"
        raise InputError(f"{text!r} is no name of this home and no address", hint=hint) from error
    digits = text[-2 * Address.LENGTH :]
    if digits not in (digits.lower(), digits.upper(), str(found)[2:]):
        raise InputError(
            f"the address {text} is mistyped: its capitals do not fit its digits (EIP-55)",
            hint="copy it again; an address in small letters alone is not checked",
        )
    return found


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
