"""The package's front door: what it offers, and what it does not load before it is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pyiot_evm


def test_all__when_it_is_read__is_sorted_and_every_name_is_there():
    assert pyiot_evm.__all__ == sorted(pyiot_evm.__all__)
    assert len(pyiot_evm.__all__) <= 25
    for name in pyiot_evm.__all__:
        assert getattr(pyiot_evm, name).__name__ == name
        assert getattr(pyiot_evm, name).__doc__


def test_getattr__when_there_is_no_such_name__says_so():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        pyiot_evm.Nothing  # noqa: B018


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("pyiot_evm", {"web3", "pandas", "eth_account", "eth_abi", "aiohttp", "coincurve", "sqlite3"}),
        ("pyiot_evm.machine", {"web3", "pandas", "eth_account", "eth_abi", "aiohttp", "pyarrow", "typer"}),
    ],
)
def test_import__when_nothing_is_used__loads_nothing_heavy(module, unwanted):
    code = f"import sys, {module}; print(' '.join(sorted({unwanted!r} & set(sys.modules))))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()

    assert found == []
