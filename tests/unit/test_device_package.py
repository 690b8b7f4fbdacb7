"""pyiot_evm.device as a package: what it exports and what it never loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyiot_evm.device
from pyiot_evm.chain.deployment import Addresses
from pyiot_evm.device import P256_VERIFIER

FOLDER = Path(pyiot_evm.device.__file__).parent
HEAVY = {
    "aiohttp",
    "cryptography",
    "eth_abi",
    "eth_account",
    "fsspec",
    "numpy",
    "pandas",
    "pkcs11",
    "rich",
    "typer",
    "web3",
}


def test_p256_verifier__when_compared_with_the_deployment_plan__is_the_address_on_every_chain():
    assert Addresses.planned().p256_verifier == P256_VERIFIER


def test_all__when_compared_with_the_package__names_what_it_imports():
    public = {name for name, value in vars(pyiot_evm.device).items() if name.isidentifier() and name[0] != "_"}
    modules = {path.stem for path in FOLDER.glob("*.py")}
    assert set(pyiot_evm.device.__all__) == public - modules - {"annotations"}


def test_import__when_done_alone__loads_nothing_heavy():
    code = "import sys, pyiot_evm.device; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_module__when_read__imports_only_the_small_layers(path):
    allowed = (
        "pyiot_evm.device",
        "pyiot_evm.exceptions",
        "pyiot_evm.types",
        "pyiot_evm.hashing",
        "pyiot_evm.callbacks",
    )
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith("pyiot_evm"):
                assert name.startswith(allowed), name
            else:
                assert name.split(".")[0] in {*sys.stdlib_module_names, "coincurve", "cryptography", "pkcs11"}, name
