"""How the command line gets secrets: from a file, the environment, a hidden prompt or a pipe; never as arguments."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import typer

from pyiot_evm.exceptions import InputError, PassphraseError
from pyiot_evm.home import passphrase_of_environment

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["passphrase_of", "read_key", "read_keystore"]

_SECRET_BYTES = 32


def passphrase_of(file: Path | None, *, new: bool) -> str:
    """Return the passphrase of a file, of the environment or of the terminal, in this order.

    Args:
        file: What ``--passphrase-file`` named.
        new: Whether the passphrase is being set: then a terminal asks for it twice.

    Raises:
        PassphraseError: None is given and there is no terminal to ask on.
    """
    if file is not None:
        return _first_line(file)
    try:
        return passphrase_of_environment()
    except PassphraseError:
        if os.environ.get("PYIOT_PASSPHRASE_FILE") or not _on_terminal():
            raise
    return str(_ask("New passphrase" if new else "Passphrase", confirm=new))


def read_keystore(path: Path) -> bytes:
    """Return the secp256k1 secret of a keystore file; its passphrase is asked for, or ``PYIOT_IMPORT_PASSPHRASE``.

    Raises:
        InputError: It is no keystore, its key is not on secp256k1, or the passphrase is wrong.
        PassphraseError: Its passphrase is not given and there is no terminal to ask on.
    """
    from pyiot_evm.device.keystore import KeystoreSigner  # noqa: PLC0415 - slow to import

    passphrase = os.environ.get("PYIOT_IMPORT_PASSPHRASE")
    if passphrase is None:
        if not _on_terminal():
            raise PassphraseError(f"there is no passphrase for {path}", hint="set PYIOT_IMPORT_PASSPHRASE")
        passphrase = _ask(f"Passphrase of {path.name}", confirm=False)
    with KeystoreSigner.open(path.expanduser(), passphrase) as signer:
        if signer.curve != "secp256k1":
            raise InputError(f"{path} holds a key on {signer.curve}; an account's key is on secp256k1")
        return signer.secret


def read_key() -> bytes:
    """Return a secret key from a hidden prompt, or from standard input where there is no terminal.

    Raises:
        InputError: It is not 64 hex digits.
    """
    text = _ask("Account key (64 hex digits)", confirm=False) if _on_terminal() else sys.stdin.readline()
    digits = text.strip().removeprefix("0x")
    try:
        secret = bytes.fromhex(digits)
    except ValueError as error:
        raise InputError("a key is 64 hex digits; what was given is not hex") from error
    if len(secret) != _SECRET_BYTES:
        raise InputError(f"a key is 64 hex digits, not {len(digits)}")
    return secret


def _first_line(path: Path) -> str:
    try:
        text = path.expanduser().read_text().split("\n", 1)[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise PassphraseError(f"cannot read the passphrase file {path}") from error
    if not text:
        raise PassphraseError(f"the passphrase file {path} is empty")
    return text


def _ask(label: str, *, confirm: bool) -> str:
    return str(typer.prompt(label, hide_input=True, confirmation_prompt=confirm, err=True))


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
