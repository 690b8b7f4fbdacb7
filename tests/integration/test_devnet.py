"""Devnets: found, started on loopback, deployed, kept, ended with their owner; in the block and in the background."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pyiot_evm.chain import (
    Call,
    Devnet,
    background,
    connect,
    connection,
    deploy_suite,
    devnet_status,
    reset_devnet,
    start_devnet,
    stop_devnet,
)
from pyiot_evm.chain.calls import to_hex
from pyiot_evm.chain.deployment import CREATE2_PROXY, Addresses, check_suite, plan
from pyiot_evm.chain.rpc import RpcError
from pyiot_evm.cli import app
from pyiot_evm.cli.output import clock
from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import ConfigurationError, ConsistencyError, TransportError
from pyiot_evm.home import Home
from pyiot_evm.types import Address

PAYEE = Address("0x" + "77" * 20)


def gift() -> Call[bytes]:
    return Call(PAYEE, b"", "pay", bytes, value=1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = path.read_text().rsplit(")", 1)
        except OSError:
            continue
        if int(rest.split()[1]) == pid:
            child = int(name.split("(", 1)[0])
            found += [child, *children_of(child)]
    return found


def wait_until(condition, seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("engine", ["anvil", "hardhat"])
def test_devnet__when_it_starts__has_the_suite_at_the_planned_addresses(engine):
    with Devnet(engine) as chain:
        assert chain.is_devnet
        assert chain.chain_id == 31337
        assert chain.addresses == Addresses.planned()
        assert chain.token_info().symbol == "DUSD"
        assert chain.confirmations == 0
        account = chain.account(LocalSigner.create())
        chain.fund(account, ether="1.5", dollars="2.5")
        assert chain.balance(account.address) == 15 * 10**17
        receipts = account.wait_many(account.send_many([gift()] * 30))
        assert {receipt.status for receipt in receipts} == {1}
        before, snapshot = chain.now(), chain.snapshot()
        assert chain.increase_time(3600) >= before + 3600
        height = chain.block_number()
        chain.mine(3)
        assert chain.block_number() == height + 3
        chain.revert(snapshot)
        assert chain.block_number() < height
        assert account.transact(gift()).status == 1


def test_devnet__when_fifty_threads_send_on_hardhat__loses_nothing():
    from concurrent.futures import ThreadPoolExecutor

    with Devnet("hardhat", deploy=False) as chain:
        signer = LocalSigner.create()
        chain.fund(signer, ether=1)
        with ThreadPoolExecutor(50) as pool:
            receipts = list(pool.map(lambda _: chain.account(signer).transact(gift()), range(100)))
        assert len({receipt.hash for receipt in receipts}) == 100
        assert chain.balance(PAYEE) == 100


def test_devnet__when_it_runs__listens_on_loopback_alone_and_ends_with_its_block():
    devnet = Devnet(deploy=False)
    chain = devnet.start()
    port = int(chain.url.rsplit(":", 1)[1])
    pids = children_of(devnet.node.pid)
    assert chain.url.startswith("http://127.0.0.1:")
    assert any(alive(pid) for pid in pids)
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    local = [line.split()[1] for line in listening if line.split()[3] == "0A"]
    assert f"0100007F:{port:04X}" in local
    assert f"00000000:{port:04X}" not in local
    scratch = chain.home.path
    devnet.close()
    assert not any(alive(pid) for pid in pids)
    assert not scratch.exists()
    with pytest.raises(ConfigurationError, match="does not run"):
        _ = devnet.chain


OWNER = """
import sys, threading, time
from pyiot_evm.chain import Devnet
devnet = Devnet(sys.argv[1], deploy=False)
thread = threading.Thread(target=devnet.start)  # whoever starts it may end before the process does
thread.start()
thread.join()
print(devnet.node.pid, devnet.chain.url, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("engine", ["anvil", "hardhat"])
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_devnet__when_its_owner_is_killed__ends(engine, signal_number):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, engine], stdout=subprocess.PIPE, text=True, stderr=-3)
    guard, url = owner.stdout.readline().split()
    pids = [int(guard), *children_of(int(guard))]
    assert len([pid for pid in pids if alive(pid)]) >= 2
    owner.send_signal(signal_number)
    owner.wait(timeout=20)
    owner.stdout.close()
    assert wait_until(lambda: not any(alive(pid) for pid in pids))
    with pytest.raises(TransportError):
        connect(url)


def test_devnet__when_the_terminal_interrupts_its_group__goes_on(tmp_path):
    code = OWNER.replace("time.sleep(600)", "import os, signal\nsignal.signal(signal.SIGINT, lambda *_: None)\n") + (
        "os.killpg(os.getpgrp(), signal.SIGINT)\ntime.sleep(0.3)\nprint(devnet.chain.block_number(), flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "anvil"],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0"


def test_devnet__when_state_is_kept__goes_on_where_it_was(tmp_path):
    state, home = tmp_path / "chain.json", tmp_path / "home"
    signer = LocalSigner.create()
    with Devnet(state=state, home=home) as chain:
        network, addresses = chain.network, chain.addresses
        chain.fund(signer, ether=1)
        first = chain.account(signer).transact(gift(), key="rent")
    with Devnet(state=state, home=home) as chain:
        assert (chain.network, chain.addresses) == (network, addresses)
        assert chain.account(signer).transact(gift(), key="rent").hash == first.hash
        assert chain.account(signer).transact(gift()).status == 1
        assert chain.balance(PAYEE) == 2


@pytest.mark.parametrize("block_time", [None, 0.2], ids=["each", "interval"])
def test_devnet__when_its_clock_was_moved__does_not_go_back_after_a_restart(tmp_path, block_time):
    """Anvil keeps its blocks and forgets that its clock was moved: the next block was days before the latest."""
    state = tmp_path / "chain.json"
    with Devnet(state=state, deploy=False, block_time=block_time) as chain:
        moved = chain.increase_time(3 * 86_400)
    with Devnet(state=state, deploy=False, block_time=block_time) as chain:
        assert moved <= chain.now() < moved + 600
        chain.mine()
        assert moved <= chain.now() < moved + 600
        chain.increase_time(60)
        assert moved + 60 <= chain.now() < moved + 660


def test_devnet__when_it_mines_on_an_interval__transactions_wait_for_the_block():
    with Devnet(deploy=False, block_time=1) as chain:
        account = chain.account(LocalSigner.create())
        chain.fund(account, ether=1)
        started = time.monotonic()
        assert account.transact(gift()).status == 1
        assert time.monotonic() - started < 10


def test_devnet__when_the_port_is_taken__raises_with_the_nodes_words():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="ended at once"):
            Devnet(port=taken.getsockname()[1], deploy=False).start()


def test_devnet__when_the_engine_or_option_is_impossible__raises(tmp_path):
    with pytest.raises(ConfigurationError, match=r"unknown engine 'ganache'"):
        Devnet("ganache").start()
    with pytest.raises(ConfigurationError, match="Hardhat cannot keep its state"):
        Devnet("hardhat", state=tmp_path / "state").start()


def test_deploy_suite__when_it_is_there__sends_nothing(devnet):
    account = devnet.account(LocalSigner.create())  # without any ether
    height = devnet.block_number()
    assert deploy_suite(devnet, account) == Addresses.planned()
    assert devnet.block_number() == height


def test_deploy_suite__when_a_part_and_the_proxy_are_missing__adds_them():
    with Devnet() as chain:
        addresses = chain.addresses
        chain.rpc("anvil_setCode", str(addresses.data_market), "0x")
        chain.rpc("anvil_setCode", str(CREATE2_PROXY), "0x")
        chain.rpc("anvil_setNonce", str(CREATE2_PROXY), "0x0")
        chain.rpc("anvil_setNonce", str(addresses.data_market), "0x0")
        with pytest.raises(ConfigurationError, match=r"not deployed on network .*: DataMarket"):
            check_suite(chain)
        account = chain.account(LocalSigner.create())
        chain.fund(account, ether=1)
        height = chain.block_number()
        assert deploy_suite(chain, account) == addresses
        assert chain.block_number() == height + 2  # the proxy's keyless transaction and the market


def test_check_suite__when_other_code_stands_there__raises():
    with Devnet() as chain:
        chain.rpc("anvil_setCode", str(plan()[3].address), "0x6001600155")
        with pytest.raises(ConsistencyError, match=r"is not this version's DataMarket"):
            check_suite(chain)


def test_connect__when_nothing_is_named__uses_the_environment_then_the_homes_devnet(devnet, tmp_path, monkeypatch):
    monkeypatch.delenv("PYIOT_RPC_URL", raising=False)
    with pytest.raises(ConfigurationError, match="no chain is named and no devnet is running"):
        connect(home=tmp_path)
    monkeypatch.setenv("PYIOT_RPC_URL", devnet.url)
    with connect(home=tmp_path) as chain:
        assert chain.network == devnet.network


def test_controls__when_the_network_is_no_devnet__raise(devnet):
    with connect(devnet.url, home=devnet.home, confirmations=1) as chain:
        chain.is_devnet = False
        for act in (
            lambda: chain.fund(PAYEE, ether=1),
            chain.mine,
            chain.snapshot,
            lambda: chain.increase_time(1),
            chain.resume_time,
        ):
            with pytest.raises(ConfigurationError, match="is no devnet"):
                act()
        with pytest.raises(ConfigurationError, match="no payment token"):
            _ = chain.token


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home whose devnet looks for ports where no other test does."""
    first = 10_000 + secrets.randbelow(20_000)
    monkeypatch.setattr(background, "_USUAL_PORTS", range(first, first + 50))
    home = Home(tmp_path)
    yield home
    stop_devnet(home)


@pytest.mark.parametrize("engine", ["anvil", "hardhat"])
def test_start_devnet__when_it_is_started__survives_its_starter_and_is_found(home, engine):
    code = (
        "import sys; from pyiot_evm.chain import start_devnet; from pyiot_evm.home import Home\n"
        "print(start_devnet(Home(sys.argv[1]), engine=sys.argv[2]).pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home.path), engine], capture_output=True, text=True, timeout=60, check=True
    )
    status = devnet_status(home)
    assert (status.pid, status.engine, status.running) == (int(done.stdout), engine, True)
    with connect(home=home) as chain:
        assert (chain.url, chain.addresses, chain.network) == (status.url, Addresses.planned(), status.network)
    again = start_devnet(home, engine=engine)
    assert (again.pid, again.started_now) == (status.pid, False)
    other = "hardhat" if engine == "anvil" else "anvil"
    with pytest.raises(ConfigurationError, match=f"a devnet on {engine} is running"):
        start_devnet(home, engine=other)
    assert stop_devnet(home)
    assert wait_until(lambda: not alive(status.pid))
    assert not devnet_status(home).running
    assert not stop_devnet(home)


def typed(*words, code=0):
    done = CliRunner().invoke(app, [*words])
    assert done.exit_code == code, (words, done.stdout, done.stderr)
    return done


@pytest.mark.parametrize("engine", ["anvil", "hardhat"])
def test_skip__when_typed__moves_the_clock_of_the_devnet_forward(home, engine, monkeypatch):
    start_devnet(home, engine=engine, deploy=False)
    monkeypatch.setenv("PYIOT_HOME", str(home.path))
    with connect(home=home) as chain:
        before = chain.now()
        shown = json.loads(typed("devnet", "skip", "2d", "--json").stdout)
        assert (shown["skipped"], shown["chain_time"]) == (2 * 86_400, chain.now())
        assert 0 <= chain.now() - before - 2 * 86_400 < 600
        assert typed("devnet", "skip", "90s").stdout == f"chain time  {clock(chain.now())}\n"
        after = chain.now()
        for words in ("0s", "-1d", "521w", "a day", "tomorrow"):
            typed("devnet", "skip", "--", words, code=2)
        monkeypatch.setattr(connection, "_is_devnet", lambda *_: False)
        refused = typed("devnet", "skip", "1d", "--rpc", chain.url, code=1)
        assert "is no devnet: it is not possible to move time there" in refused.stderr
        assert chain.now() == after


def test_start_devnet__when_it_was_stopped__goes_on_at_the_same_place(home):
    signer = LocalSigner.create()
    first = start_devnet(home)
    with connect(home=home) as chain:
        chain.fund(signer, ether=1)
        receipt = chain.account(signer).transact(gift(), key="rent")
    stop_devnet(home)
    second = start_devnet(home)
    assert (second.network, second.started_now) == (first.network, True)
    with connect(home=home) as chain:
        assert chain.account(signer).transact(gift(), key="rent").hash == receipt.hash
        assert chain.balance(PAYEE) == 1


def test_start_devnet__when_it_was_killed__loses_seconds_and_stays_consistent(home):
    signer = LocalSigner.create()
    first = start_devnet(home)
    state, last = home.devnet / "anvil-state.json", Addresses.planned().dev_dollar
    assert wait_until(lambda: state.exists() and str(last).lower() in state.read_text())
    with connect(home=home) as chain:
        chain.fund(signer, ether=1)
        chain.account(signer).transact(gift(), key="rent")
    os.kill(first.pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(first.pid))
    assert not devnet_status(home).running
    second = start_devnet(home)
    assert second.network == first.network  # on the next port, where the system has not let go of the old one yet
    with connect(home=home) as chain:
        chain.fund(signer, ether=1)
        assert chain.account(signer).transact(gift(), key="rent").status == 1
        assert chain.balance(PAYEE) == 1


def test_start_devnet__when_many_homes_start_at_once__each_has_its_own_node(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    homes = [Home(tmp_path / str(number)) for number in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(start_devnet, homes))
        assert len({status.port for status in statuses}) == len({status.pid for status in statuses}) == 4
        assert all(devnet_status(home).running for home in homes)
    finally:
        for home in homes:
            stop_devnet(home)


def test_start_devnet__when_its_state_is_broken__says_how_to_start_afresh(home):
    start_devnet(home)
    stop_devnet(home)
    (home.devnet / "anvil-state.json").write_text('{"block": ')
    with pytest.raises(ConfigurationError, match="ended at once") as caught:
        start_devnet(home)
    assert "pyiot devnet reset" in caught.value.hint
    assert reset_devnet(home) is None
    assert start_devnet(home).running


def test_reset_devnet__when_it_ran__starts_a_new_chain_and_forgets_the_old_ones_journals(home):
    signer = LocalSigner.create()
    first = start_devnet(home)
    with connect(home=home) as chain:
        chain.fund(signer, ether=1)
        chain.account(signer).transact(gift(), key="rent")
        old = chain.path
    second = reset_devnet(home)
    assert (second.running, second.port) == (True, first.port)
    assert second.network != first.network
    assert not old.exists()
    with connect(home=home) as chain:
        assert chain.balance(PAYEE) == 0
        assert chain.account(signer).find("rent") is None
        assert chain.addresses == Addresses.planned()


def test_devnet_status__when_the_record_is_stale_or_broken__does_not_believe_it(home):
    record = home.devnet / "devnet.json"
    record.write_text("{")
    assert devnet_status(home) is None
    document = {"engine": "anvil", "pid": os.getpid(), "port": 1, "url": "http://127.0.0.1:1", "network": "31337-0"}
    record.write_text(json.dumps(document | {"block_time": None}))
    assert not devnet_status(home).running
    assert not stop_devnet(home), "somebody else's process must not be stopped"


def test_rpc__when_hardhat_lacks_a_method__says_so():
    with Devnet("hardhat", deploy=False) as chain:
        with pytest.raises(RpcError, match="anvil_reorg"):
            chain.rpc("anvil_reorg", {"depth": 1, "tx_block_pairs": []})
        assert to_hex(chain.block_number()).startswith("0x")
