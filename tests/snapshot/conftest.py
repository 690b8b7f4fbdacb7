"""Snapshots: what changes shows in the diff. `scripts/snapshot` writes them again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def snapshot() -> Callable[[str, Any], None]:
    """Return a function that holds data equal to the snapshot file NAME, or writes it when asked to."""

    def compare(name: str, data: Any) -> None:
        path = HERE / name
        text = data if isinstance(data, str) else json.dumps(data, indent=2, sort_keys=True) + "\n"
        if os.environ.get("PYIOT_WRITE_SNAPSHOTS") == "1":
            path.write_text(text)
        assert path.exists(), f"there is no snapshot {name}: run scripts/snapshot"
        known = path.read_text()
        assert (text if isinstance(data, str) else json.loads(text)) == (
            known if isinstance(data, str) else json.loads(known)
        ), f"{name} has changed: look at the difference, and run scripts/snapshot when it is meant"

    return compare
