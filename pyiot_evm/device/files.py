"""Files that hold secrets and must survive a crash: private, written whole or not at all.

Example:
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "note"
    >>> write_new(path, b"once")
    >>> path.read_bytes(), oct(path.stat().st_mode & 0o777)
    (b'once', '0o600')
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_private_folder", "replace", "require_new", "sync_folder", "write_new"]

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def make_private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter (0700), and those above it that are missing, and return it."""
    for folder in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    return path


def require_new(path: Path) -> None:
    """Check that :func:`write_new` can write a file, before something is done that the file shall keep.

    Raises:
        InputError: It exists, or its folder takes no file.
    """
    if path.exists() or path.is_symlink():
        raise _exists(path)
    if not os.access(path.parent, os.W_OK | os.X_OK) or not path.parent.is_dir():
        raise InputError(f"cannot write {path}: its folder is missing or closed", hint="choose another place")


def write_new(path: Path, data: bytes) -> None:
    """Write a new private file (0600), whole or not at all; never over another one.

    Raises:
        InputError: ``path`` exists.
    """
    temporary = _write_beside(path, data)
    try:
        _link(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    sync_folder(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Write a private file (0600) whole or not at all, in place of the one that is there."""
    temporary = _write_beside(path, data)
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_beside(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError:  # a file system without hard links, as on many memory cards
        if path.exists():
            raise _exists(path) from None
        temporary.rename(path)


def _exists(path: Path) -> InputError:
    return InputError(f"{path} exists already", hint="choose another name, or move the file away")
