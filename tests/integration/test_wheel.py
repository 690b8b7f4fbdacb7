"""The wheel in an empty environment, with no Node and no ape on its PATH: it connects, deploys and trades."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pyiot_evm.chain import Devnet

ROOT = Path(__file__).resolve().parents[2]

STORY = """
import json, shutil, sys
from pathlib import Path
from pyiot_evm import Machine, connect
from pyiot_evm.chain import deploy_suite
from pyiot_evm.device import LocalSigner
import pyiot_evm

url, home, series, out = sys.argv[1:]
assert shutil.which("node") is None and shutil.which("anvil") is None and shutil.which("ape") is None
with connect(url, home=home) as chain:
    deployer = chain.account(LocalSigner.create())
    chain.fund(deployer, ether=10)
    addresses = deploy_suite(chain, deployer)
    sensor = Machine.create(chain, name="sensor")
    buyer = Machine.create(chain, name="buyer")
    offer = sensor.sell(series, price="0.50")
    purchase = buyer.buy(offer.id)
    purchase.write(out)
    print(json.dumps({"rows": len(purchase.frame()), "file": pyiot_evm.__file__, "market": str(addresses.data_market)}))
"""


def run(command: list[str | Path], **options) -> str:
    """Run a command and return what it printed; its whole output is in the failure."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """An empty virtual environment with the wheel and what the wheel's own lock names."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "pyiot_evm", source / "pyiot_evm", ignore=shutil.ignore_patterns("__pycache__"))
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source])
    venv.create(folder / "venv", with_pip=True)
    pip = [folder / "venv" / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "-r", ROOT / "requirements-core.lock"])
    run([*pip, "--no-deps", *folder.glob("*.whl")])
    return folder / "venv"


def test_wheel__when_installed_alone__deploys_and_trades_without_node_and_ape(environment, tmp_path):
    sold, bought = ROOT / "pyiot_evm" / "samples" / "occupancy_6005.csv", tmp_path / "bought.csv"
    clean = {"PATH": str(environment / "bin"), "HOME": str(tmp_path), "PYIOT_PASSPHRASE": "a passphrase of the test"}
    with Devnet(deploy=False) as chain:
        command = [environment / "bin" / "python", "-c", STORY, chain.url, tmp_path / "home", sold, bought]
        answer = json.loads(run(command, cwd=tmp_path, env=clean).splitlines()[-1])
    assert answer["rows"] == 2380
    assert Path(answer["file"]).is_relative_to(environment), "the wheel was used, not the source tree"
    assert bought.read_bytes() == sold.read_bytes()


def test_wheel__when_installed_alone__has_the_command_and_its_help(environment, tmp_path):
    clean = {"PATH": str(environment / "bin"), "HOME": str(tmp_path)}
    text = run([environment / "bin" / "pyiot", "--help"], cwd=tmp_path, env=clean)
    assert "devnet" in text
    assert "data" in text
    assert os.listdir(tmp_path) == [], "help writes nothing"  # noqa: PTH208
