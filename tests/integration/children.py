"""Children of the test process: forked, so that they can be killed at any line, with what they return in a file."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["end_of", "in_child"]


def in_child(function: Callable[[], Any], result: Path | None = None) -> int:
    """Run a function in a child, which never comes back from here; return the child's id.

    What the function returns is written to ``result``; a child that fails says why, and ends with code 1.
    """
    if result is not None:
        result.unlink(missing_ok=True)
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        returned = function()
        if result is not None:
            result.write_bytes(pickle.dumps(returned))
        code = 0
    except BaseException:  # noqa: BLE001 - the child must not run on as a second pytest
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)


def end_of(child: int, result: Path) -> tuple[int, Any]:
    """Wait for a child; return how it ended, and what its function returned, ``None`` where it did not."""
    _, status = os.waitpid(child, 0)
    return status, pickle.loads(result.read_bytes()) if result.exists() else None
