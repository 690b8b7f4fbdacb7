"""Files that are written in a stream and appear whole or not at all.

Example:
    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "data.bin"
    >>> with atomic_file(target) as file:
    ...     file.write(b"whole"), target.exists()
    (5, False)
    >>> target.read_bytes()
    b'whole'
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from pyiot_evm.device.files import sync_folder
from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["atomic_file"]


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing and reading that takes ``path``'s place once the block ends without an error.

    Args:
        path: Where the file will be; its folder is made when it is missing.

    Raises:
        InputError: Nothing can be written there.
    """
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        with _new_file(temporary, path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _new_file(temporary: Path, path: Path) -> BinaryIO:
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return temporary.open("x+b")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
