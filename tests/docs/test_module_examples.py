"""The examples in the docstrings of the package's modules run and come out as written."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import pyiot_evm

MODULES = sorted(item.name for item in pkgutil.walk_packages(pyiot_evm.__path__, "pyiot_evm."))


@pytest.mark.parametrize("name", MODULES)
def test_module__when_its_examples_run__they_come_out_as_written(name, monkeypatch):
    monkeypatch.setattr(doctest._SpoofOut, "encoding", "utf-8", raising=False)  # as a terminal's
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("pyiot_evm.chain.")])
def test_chain_module__when_it_is_read__shows_an_example(name):
    examples = doctest.DocTestFinder().find(importlib.import_module(name))
    machinery = {"contract_errors", "controls", "delivery", "waiting"}
    assert name.rsplit(".", 1)[1] in machinery or any(item.examples for item in examples)
