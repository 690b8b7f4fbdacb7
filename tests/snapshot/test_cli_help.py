"""The help pages as they are, and the reference page that is written from them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "scripts" / "tools" / "cli_reference.py"


@pytest.fixture(scope="module")
def tool():
    before = dict(os.environ)
    spec = importlib.util.spec_from_file_location("cli_reference", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    os.environ.clear()
    os.environ.update(before)


def test_help__when_shown__is_what_the_snapshot_says(tool, snapshot):
    snapshot("cli_help.txt", tool.snapshot())


def test_reference__when_written_again__is_what_the_page_says(tool):
    if os.environ.get("PYIOT_WRITE_SNAPSHOTS") == "1":
        tool.REFERENCE.write_text(tool.reference())
    assert tool.REFERENCE.read_text() == tool.reference(), "run scripts/snapshot"


def test_help__when_shown__fits_80_columns(tool):
    wide = [(name, line) for name, text in tool.pages() for line in text.splitlines() if len(line) > 80]
    assert wide == []


def test_help__when_asked_from_a_process__is_the_same_page(tool):
    name, text = next(page for page in tool.pages() if page[0] == "pyiot data sell")
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    printed = subprocess.run(
        [Path(sys.executable).with_name("pyiot"), *name.split()[1:], "--help"],
        capture_output=True, text=True, check=True, env=environment,
    ).stdout  # fmt: skip
    assert printed.rstrip() == text
