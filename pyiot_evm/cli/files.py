r"""Files that commands read and write: looked at before anything is sent, and never a reason to lose a result.

Example:
    >>> import pathlib, tempfile
    >>> path = writable(pathlib.Path(tempfile.mkdtemp()) / "voucher.json", new=True)
    >>> _ = path.write_text('{"maxClaimableAmount": "1000"}\n')
    >>> read_text(path)
    '{"maxClaimableAmount": "1000"}'
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_text", "writable"]

_MOST = 1 << 20


def writable(out: Path, *, new: bool = False) -> Path:
    """Check, before anything is sent, that a file can be written there; return where that is, ``~`` spelled out.

    Args:
        out: The file.
        new: Whether it must not exist yet.

    Raises:
        InputError: Its folder does not exist, it is a folder itself, it may not be written, or it exists already.
    """
    path = out.expanduser()
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}", hint="make it, or write elsewhere")
    if path.is_dir():
        raise InputError(f"{out} is a folder", hint="name a file in it")
    if new and path.exists():
        raise InputError(f"{out} exists already", hint="choose another name, or move the file away")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{out} may not be written", hint="write elsewhere")
    return path


def read_text(path: Path) -> str:
    """Return the text of a small file that a command was given, without the space around it.

    Raises:
        InputError: It cannot be read, is no text, or is longer than 1 MiB.
    """
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MOST:
        raise InputError(f"{path} is longer than {_MOST} bytes")
    try:
        return data.decode().strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text") from error
