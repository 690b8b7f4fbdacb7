"""A lock that threads and processes share and that the system lets go of when its holder dies.

Example:
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "lock"
    >>> with file_lock(path):
    ...     path.exists()
    True
"""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

__all__ = ["LockedElsewhereError", "file_lock", "try_lock"]


class LockedElsewhereError(Exception):
    """Somebody else has the lock."""


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file; the file is made when it is missing, and stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(path: Path) -> IO[str]:
    """Take the lock of a file, until what is returned is closed.

    Raises:
        LockedElsewhereError: Somebody has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise LockedElsewhereError(str(path)) from error
    return file
