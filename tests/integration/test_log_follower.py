"""The log follower: nothing missed, nothing twice, and what a reorganisation took away is taken back."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading

import pytest

from pyiot_evm.chain import Devnet, LogFollower, connect
from pyiot_evm.chain.calls import to_hex
from pyiot_evm.chain.rpc import RpcError
from pyiot_evm.contracts import DevDollar
from pyiot_evm.contracts.shared import Approval, Transfer
from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import ConsistencyError
from pyiot_evm.types import Address

PAYEE = Address("0x" + "33" * 20)


@pytest.fixture
def dollar(devnet, suite):
    """A token that this test alone uses: the dollar's code at an address of its own."""
    address = LocalSigner.create().address
    devnet.rpc("anvil_setCode", str(address), to_hex(devnet.code_at(suite.dev_dollar)))
    return DevDollar(address)


@pytest.fixture
def account(devnet):
    account = devnet.account(LocalSigner.create())
    devnet.fund(account, ether=10)
    return account


@pytest.fixture
def follow(devnet, dollar, tmp_path):
    def make(**options):
        given = {"name": "test", "address": dollar.address, "store": tmp_path / "logs.sqlite"} | options
        return LogFollower(devnet, **given)

    return make


def amounts(changes) -> list[tuple[str, int]]:
    return [(change.kind, Transfer.from_log(change.log).value) for change in changes]


def test_poll__when_there_is_news__tells_each_entry_once(dollar, account, follow):
    follower = follow(events=[Transfer])
    assert follower.poll() == []
    account.wait_many(account.send_many([dollar.mint(PAYEE, n) for n in (1, 2, 3)]))
    assert amounts(follower.poll()) == [("added", 1), ("added", 2), ("added", 3)]
    assert follower.poll() == []
    account.transact(dollar.mint(PAYEE, 4))
    assert amounts(follow(events=[Transfer]).poll()) == [("added", 4)], "a new object goes on where the old one was"
    assert follower.poll() == []


def test_poll__when_events_are_chosen__leaves_the_others_out(dollar, account, follow):
    account.transact(dollar.approve(PAYEE, 9))
    account.transact(dollar.mint(PAYEE, 1))
    assert amounts(follow(name="transfers", events=[Transfer]).poll()) == [("added", 1)]
    approvals = follow(name="approvals", events=[Approval]).poll()
    assert [Approval.from_log(change.log).value for change in approvals] == [9]
    assert len(follow(name="both", events=[Approval, Transfer]).poll()) == 2
    assert len(follow(name="all").poll()) == 2


def test_poll__when_a_reorganisation_replaced_a_block__takes_back_and_tells_anew(devnet, dollar, account, follow):
    follower = follow(events=[Transfer])
    account.transact(dollar.mint(PAYEE, 1))
    assert amounts(follower.poll()) == [("added", 1)]
    snapshot = devnet.snapshot()
    account.wait_many(account.send_many([dollar.mint(PAYEE, n) for n in (2, 3)]))
    assert amounts(follower.poll()) == [("added", 2), ("added", 3)]
    devnet.revert(snapshot)
    account.transact(dollar.mint(PAYEE, 4))
    devnet.mine(5)
    assert amounts(follower.poll()) == [("removed", 3), ("removed", 2), ("added", 4)]
    assert follower.poll() == []


def test_poll__when_the_chain_got_shorter__takes_back(devnet, dollar, account, follow):
    follower = follow(events=[Transfer])
    snapshot = devnet.snapshot()
    account.transact(dollar.mint(PAYEE, 1))
    devnet.mine(3)
    assert amounts(follower.poll()) == [("added", 1)]
    devnet.revert(snapshot)
    assert amounts(follower.poll()) == [("removed", 1)]
    assert follower.poll() == []


def test_poll__when_the_reorganisation_is_deeper_than_the_overlap__finds_all_of_it(devnet, dollar, account, follow):
    follower = follow(events=[Transfer], overlap=1)
    follower.poll()
    snapshot = devnet.snapshot()
    for n in range(1, 8):
        account.transact(dollar.mint(PAYEE, n))
        assert amounts(follower.poll()) == [("added", n)]
        devnet.mine(3)
        assert follower.poll() == []
    devnet.revert(snapshot)
    devnet.mine(60)
    account.transact(dollar.mint(PAYEE, 8))
    assert amounts(follower.poll()) == [*(("removed", n) for n in range(7, 0, -1)), ("added", 8)]


def test_poll__when_anvil_reorganises__follows(suite):
    with Devnet() as chain:
        account = chain.account(LocalSigner.create())
        chain.fund(account, ether=1)
        follower = LogFollower(chain, name="reorg", address=chain.addresses.dev_dollar, events=[Transfer])
        token = DevDollar(chain.addresses.dev_dollar)
        for n in (1, 2, 3):
            account.transact(token.mint(PAYEE, n))
        assert amounts(follower.poll()) == [("added", 1), ("added", 2), ("added", 3)]
        chain.rpc("anvil_reorg", 2, [])
        changes = amounts(follower.poll())
        kept = {Transfer.from_log(log).value for log in chain.logs(address=token.address, topics=[Transfer.TOPIC])}
        state = {1, 2, 3}
        for kind, value in changes:
            (state.add if kind == "added" else state.remove)(value)
        assert changes[0] == ("removed", 3)
        assert state == kept


def test_poll__when_apply_fails__tells_the_same_again(dollar, account, follow):
    follower = follow(events=[Transfer])
    follower.poll()
    account.transact(dollar.mint(PAYEE, 1))

    def fail(connection, changes) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS sums (value INTEGER)")
        connection.execute("INSERT INTO sums VALUES (1)")
        raise RuntimeError("crashed half way")

    with pytest.raises(RuntimeError):
        follower.poll(fail)

    def add(connection, changes) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS sums (value INTEGER)")
        connection.executemany("INSERT INTO sums VALUES (?)", [(value,) for _, value in amounts(changes)])

    assert amounts(follower.poll(add)) == [("added", 1)]
    assert follower.poll(add) == []
    with sqlite3.connect(follower._store) as connection:
        assert connection.execute("SELECT value FROM sums").fetchall() == [(1,)]


def test_poll__when_threads_poll_together__each_entry_is_told_to_one(dollar, account, follow):
    account.wait_many(account.send_many([dollar.mint(PAYEE, n) for n in range(30)]))
    found, failures = [], []

    def work() -> None:
        try:
            found.extend(amounts(follow(events=[Transfer]).poll()))
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(found) == [("added", n) for n in range(30)]


KILLED = """
import os, signal, sys
from pathlib import Path
from pyiot_evm.chain import LogFollower, connect
from pyiot_evm.contracts.shared import Transfer
from pyiot_evm.types import Address

url, home, address, store, stop = sys.argv[1:]

def apply(connection, changes):
    connection.execute("CREATE TABLE IF NOT EXISTS seen (value INTEGER)")
    for number, change in enumerate(changes):
        connection.execute("INSERT INTO seen VALUES (?)", (Transfer.from_log(change.log).value,))
        if number == int(stop):
            os.kill(os.getpid(), signal.SIGKILL)

with connect(url, home=home) as chain:
    LogFollower(chain, name="killed", address=Address(address), events=[Transfer], store=Path(store)).poll(apply)
"""


def test_poll__when_the_process_is_killed_in_between__every_entry_is_applied_once(devnet, dollar, account, tmp_path):
    account.wait_many(account.send_many([dollar.mint(PAYEE, n) for n in range(6)]))
    store = tmp_path / "killed.sqlite"
    arguments = [devnet.url, str(devnet.home.path), str(dollar.address), str(store)]
    for stop, code in ((0, -9), (3, -9), (5, -9), (99, 0), (99, 0)):
        done = subprocess.run([sys.executable, "-c", KILLED, *arguments, str(stop)], timeout=60, check=False)
        assert done.returncode == code
    with sqlite3.connect(store) as connection:
        assert [row[0] for row in connection.execute("SELECT value FROM seen ORDER BY value")] == list(range(6))


def test_poll__when_only_deep_blocks_are_wanted__waits_for_them(devnet, dollar, account, follow):
    follower = follow(events=[Transfer], depth=2)
    account.transact(dollar.mint(PAYEE, 1))
    devnet.mine()
    assert follower.poll() == []
    devnet.mine()
    assert amounts(follower.poll()) == [("added", 1)]


def test_poll__when_the_name_followed_something_else__raises_until_it_rescans(devnet, dollar, suite, account, follow):
    account.transact(dollar.mint(PAYEE, 1))
    assert len(follow().poll()) == 1
    other = follow(events=[Approval])
    with pytest.raises(ConsistencyError, match="followed something else before"):
        other.poll()
    other.rescan()
    assert other.poll() == []


def test_rescan__when_called__tells_everything_again(dollar, account, follow):
    account.transact(dollar.mint(PAYEE, 1))
    follower = follow()
    first = follower.poll()
    assert follower.position() == first[-1].log.block_number
    follower.rescan()
    assert follower.position() is None
    assert follower.poll() == first


def test_logs__when_the_node_limits_the_range__asks_for_parts(devnet, dollar, account, tmp_path, monkeypatch):
    devnet.mine(50)
    account.transact(dollar.mint(PAYEE, 1))
    with connect(devnet.url, home=tmp_path) as chain:
        original, asked = chain.rpc, []

        def limited(method, *params):
            if method == "eth_getLogs":
                span = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
                asked.append(span)
                if span > 20:
                    raise RpcError(method, -32005, "query returned more than 10000 results")
            return original(method, *params)

        monkeypatch.setattr(chain, "rpc", limited)
        logs = chain.logs(address=dollar.address, from_block=0)
        assert [Transfer.from_log(log).value for log in logs] == [1]
        assert min(asked) <= 20
        monkeypatch.setattr(chain, "rpc", lambda *_: (_ for _ in ()).throw(RpcError("eth_getLogs", -32000, "no")))
        with pytest.raises(RpcError):
            chain.logs(address=dollar.address, from_block=0, to_block=30)
