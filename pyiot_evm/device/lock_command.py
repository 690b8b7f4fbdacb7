"""A bolt that a program moves: what a lock runs each time it opens.

The program is run as it stands, without a shell, and is told nothing: not a byte of what a visitor sends reaches it,
nor a passphrase of the lock. One that fails, is missing or does not end in time raises an ``OSError``. The lock then
says that the bolt jammed, takes the opening back, and goes on.

Example:
    >>> BoltCommand("true")()
    >>> BoltCommand("false")()
    Traceback (most recent call last):
    ...
    ChildProcessError: the command of the bolt ended with 1: false
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import Final

from pyiot_evm.exceptions import InputError

__all__ = ["BoltCommand"]

SECONDS: Final = 5.0
"""So long a command has; a phone waits twice as long for the lock's answer."""
_DYING: Final = 1.0
_OURS: Final = "PYIOT_"


class BoltCommand:
    """Moves the bolt by a command; give it to a lock as ``LockHardware(unlock=...)``.

    Args:
        text: The program and its arguments, quoted as for a shell; no shell reads them.
        seconds: How long it may take. Then it is killed, with its process group.

    Raises:
        InputError: It cannot be read, or there is no such program.
    """

    def __init__(self, text: str, *, seconds: float = SECONDS) -> None:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise InputError(f"cannot read the command {text!r}: {error}", hint="quote it as for a shell") from error
        program = shutil.which(words[0]) if words else None
        if program is None:
            raise InputError(f"there is no program to run: {text!r}", hint="name one of your PATH, or its whole path")
        self._text = text
        self._words = [program, *words[1:]]
        self._seconds = seconds

    def __call__(self) -> None:
        """Run it to its end.

        Raises:
            OSError: It failed, is missing, or did not end in time.
        """
        process = subprocess.Popen(  # noqa: S603 - the owner's own command, without a shell
            self._words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
        )
        try:
            code = process.wait(self._seconds)
        except BaseException as error:
            _kill(process)
            if isinstance(error, subprocess.TimeoutExpired):
                message = f"the command of the bolt did not end within {self._seconds:g} seconds: {self._text}"
                raise TimeoutError(message) from error
            raise
        if code:
            raise ChildProcessError(f"the command of the bolt ended with {code}: {self._text}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started, and do not wait for what even that does not end."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_DYING)
