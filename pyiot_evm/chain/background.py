"""The devnet of a home that survives the shell: start, status, stop, reset.

Its pid, address and engine are recorded in ``devnet/devnet.json`` of the home; Anvil's state is written there every few
seconds and when it is stopped.

Example:
    >>> import tempfile
    >>> from pyiot_evm.home import Home
    >>> devnet_status(Home(tempfile.mkdtemp())) is None
    True
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyiot_evm.chain.connection import connect
from pyiot_evm.chain.devnet import deploy_by_anyone
from pyiot_evm.chain.nodes import HOST, Engine, free_port, node_command, wait_until_ready
from pyiot_evm.chain.rpc import RpcClient
from pyiot_evm.exceptions import ConfigurationError, TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiot_evm.home import Home

__all__ = ["DevnetStatus", "devnet_status", "reset_devnet", "start_devnet", "stop_devnet"]

_STOP_WAIT: Final = 20.0
_USUAL_PORTS: Final = range(8545, 8645)


@dataclass(frozen=True, slots=True)
class DevnetStatus:
    """The devnet that a home has.

    Attributes:
        running: Whether its process is there and it answers.
        network: The network's name, as the folder in the home.
        started_now: Whether this very call started it.
    """

    engine: Engine
    pid: int
    port: int
    url: str
    network: str
    block_time: float | None
    running: bool
    started_now: bool = False


def devnet_status(home: Home) -> DevnetStatus | None:
    """Return what is known about the home's devnet; ``None`` when it never had one."""
    try:
        record = json.loads(_record(home).read_text())
        status = DevnetStatus(**record, running=False)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None  # cut off by a crash: as good as none
    return DevnetStatus(**record, running=_is_ours(status) and _answers(status))


def start_devnet(
    home: Home,
    *,
    engine: Engine = "anvil",
    port: int = 0,
    block_time: float | None = None,
    deploy: bool = True,
) -> DevnetStatus:
    """Start the home's devnet in the background, or find it running; return once it answers and has the suite.

    Args:
        home: Whose devnet.
        engine: ``"anvil"`` (keeps its state) or ``"hardhat"`` (starts afresh each time).
        port: Where it listens (loopback only); 0 takes the one it had, else a free one.
        block_time: Seconds between blocks; left out, a block for each transaction.
        deploy: Whether to deploy what is missing of the suite.

    Raises:
        ConfigurationError: Another engine is running, or the node cannot be started.
    """
    with _lock(home):
        known = devnet_status(home)
        if known is not None and known.running:
            if known.engine != engine or port not in {0, known.port}:
                raise ConfigurationError(
                    f"a devnet on {known.engine} is running at {known.url}", hint="run `pyiot devnet down` first"
                )
            status = known
        else:
            with _port_lock():
                status = _start(home, engine, port or _usual_port(known), block_time)
    if deploy:
        with connect(status.url, home=home) as chain:
            deploy_by_anyone(chain)
    return status


def stop_devnet(home: Home) -> bool:
    """Stop the home's devnet, if it runs; Anvil writes its state first. Return whether it ran."""
    with _lock(home):
        return _stop(home)


def reset_devnet(home: Home) -> DevnetStatus | None:
    """Throw the devnet's chain away, with the journals and indexes that belong to it, and start it afresh if it ran.

    Keys, bundles and devices' journals stay.
    """
    with _lock(home):
        known = devnet_status(home)
        ran = _stop(home)
        (home.devnet / "anvil-state.json").unlink(missing_ok=True)
        _record(home).unlink(missing_ok=True)
        if known is None:
            return None
        shutil.rmtree(home.path / "networks" / known.network, ignore_errors=True)
        time.sleep(1.0 - time.time() % 1.0)  # block 0 is told apart by its second
    if not ran:
        return None
    return start_devnet(home, engine=known.engine, port=known.port, block_time=known.block_time)


def _start(home: Home, engine: Engine, port: int, block_time: float | None) -> DevnetStatus:
    folder = home.devnet
    state = folder / "anvil-state.json" if engine == "anvil" else None
    command = node_command(engine, port=port, folder=folder / "hardhat", state=state, block_time=block_time)
    log = folder / "node.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=command.folder,
            env=os.environ | dict(command.environment),
            start_new_session=True,
        )
    url = f"http://{HOST}:{port}"
    try:
        wait_until_ready(url, lambda: process.poll() is None, log, timeout=60)
        with connect(url, home=home) as chain:
            network = chain.network
            if state is not None:
                chain.resume_time()
    except BaseException as error:
        process.kill()
        process.wait()
        if isinstance(error, ConfigurationError) and state is not None and state.exists():
            error.hint = "if its kept state is broken, `pyiot devnet reset` starts afresh"
        raise
    status = DevnetStatus(engine, process.pid, port, url, network, block_time, running=True, started_now=True)
    record = {key: value for key, value in asdict(status).items() if key not in {"running", "started_now"}}
    scratch = _record(home).with_suffix(".new")
    scratch.write_text(json.dumps(record, indent=2) + "\n")
    scratch.replace(_record(home))
    return status


def _stop(home: Home) -> bool:
    known = devnet_status(home)
    if known is None or not _is_ours(known):
        return False
    os.kill(known.pid, signal.SIGTERM)
    end = time.monotonic() + _STOP_WAIT
    while _is_ours(known):
        if time.monotonic() > end:
            os.kill(known.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # it is this process's child only if this process started it
            os.waitpid(known.pid, os.WNOHANG)
        time.sleep(0.02)
    return True


def _is_ours(status: DevnetStatus) -> bool:
    """Whether the recorded process is there and is still that node: a pid may belong to somebody else by now."""
    words = _command_line(status.pid)
    return words is not None and status.engine in words and str(status.port) in words


def _command_line(pid: int) -> str | None:
    if Path("/proc/self").is_dir():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") or None
        except OSError:
            return None
    found = subprocess.run(  # noqa: S603
        ["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


def _answers(status: DevnetStatus) -> bool:
    client = RpcClient(status.url, timeout=5)
    try:
        client.call("web3_clientVersion")
    except TransportError:
        return False
    finally:
        client.close()
    return True


def _usual_port(known: DevnetStatus | None) -> int:
    """Take the port that the devnet had, so that addresses in notes and shells stay right; else one near 8545.

    Those are below the ports that the system gives to outgoing connections, which come and go.
    """
    ports: list[int] = [*([known.port] if known is not None else []), *_USUAL_PORTS]
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    return free_port()


def _record(home: Home) -> Path:
    return home.devnet / "devnet.json"


@contextlib.contextmanager
def _port_lock() -> Iterator[None]:
    """Let one devnet of this user start at a time: two must not take each other's node for their own."""
    path = Path(tempfile.gettempdir()) / f"pyiot-devnet-ports-{os.getuid()}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _lock(home: Home) -> Iterator[None]:
    with (home.devnet / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
