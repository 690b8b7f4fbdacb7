"""The transaction manager against a real node: what users of such systems lose money by, done on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from children import in_child

from pyiot_evm.chain import Call, Chain, Devnet, FeePolicy, connect
from pyiot_evm.chain.calls import to_hex, to_int
from pyiot_evm.chain.contract_errors import ERC20InsufficientBalance
from pyiot_evm.contracts import DevDollar
from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import (
    ConsistencyError,
    ContractError,
    InputError,
    SigningError,
    TransactionError,
    TransportError,
)

if TYPE_CHECKING:
    from pyiot_evm.types import Address

GWEI = 10**9


@pytest.fixture
def account(devnet):
    account = devnet.account(LocalSigner.create())
    devnet.fund(account, ether=10)
    return account


@pytest.fixture
def payee():
    return LocalSigner.create().address


@pytest.fixture
def manual(devnet):
    """The devnet, mining only when it is told to."""
    devnet.set_automine(False)
    yield devnet
    devnet.set_automine(True)
    devnet.mine()
    devnet.rpc("hardhat_setNextBlockBaseFeePerGas", to_hex(GWEI))
    devnet.mine()


def gift(to: Address, wei: int = 1) -> Call[bytes]:
    return Call(to, b"", "pay", bytes, value=wei)


def count(chain: Chain, address: Address, block: str = "latest") -> int:
    return to_int(chain.rpc("eth_getTransactionCount", str(address), block))


def test_transact__when_the_account_is_fresh__starts_at_nonce_0(devnet, account, payee):
    pending = account.send(gift(payee, 5))
    receipt = pending.wait()
    assert (pending.nonce, receipt.status, receipt.sender, receipt.to) == (0, 1, account.address, payee)
    assert devnet.balance(payee) == 5
    assert receipt.cost == receipt.gas_used * receipt.effective_gas_price


def test_send__when_the_key_was_used__returns_the_first_transaction(devnet, account, payee):
    first = account.transact(gift(payee, 5), key="rent")
    again = account.transact(gift(payee, 5), key="rent")
    other_object = devnet.account(account.signer).send(gift(payee, 5), key="rent")
    assert again == first
    assert (other_object.hash, other_object.nonce, other_object.key) == (first.hash, 0, "rent")
    assert devnet.balance(payee) == 5


def test_send__when_the_key_belongs_to_another_call__raises(account, payee):
    account.send(gift(payee, 5), key="rent")
    with pytest.raises(InputError, match="belongs to another transaction"):
        account.send(gift(payee, 6), key="rent")


def test_send__when_the_call_would_revert__raises_the_typed_error_and_uses_no_nonce(devnet, suite, account, payee):
    call = DevDollar(suite.dev_dollar).transfer(payee, 7)
    with pytest.raises(ERC20InsufficientBalance) as caught:
        account.send(call, key="too much")
    assert (caught.value.sender, caught.value.balance, caught.value.needed) == (account.address, 0, 7)
    assert account.find("too much") is None
    assert account.send(gift(payee)).nonce == 0


def test_wait__when_the_transaction_reverted_on_chain__raises_the_same_typed_error_each_time(suite, account, payee):
    call = DevDollar(suite.dev_dollar).transfer(payee, 7)
    pending = account.send(call, key="doomed", gas=100_000)
    for _ in range(2):
        with pytest.raises(ERC20InsufficientBalance) as caught:
            pending.wait()
        assert caught.value.needed == 7
        assert any(str(pending.hash) in note for note in caught.value.__notes__)
    with pytest.raises(ERC20InsufficientBalance):
        account.transact(call, key="doomed")


def test_send__when_the_account_cannot_pay__raises_before_signing(devnet, payee):
    poor = devnet.account(LocalSigner.create())
    devnet.fund(poor, ether="0.0001")
    with pytest.raises(TransactionError) as caught:
        poor.send(gift(payee, 10**15), key="x")
    assert caught.value.retryable
    devnet.fund(poor, ether=1)
    assert poor.transact(gift(payee, 10**15), key="x").status == 1


def test_send__when_pending_ones_use_up_the_balance__raises(manual, payee):
    poor = manual.account(LocalSigner.create())
    manual.fund(poor, ether="0.01")
    poor.send(gift(payee, 8 * 10**15))
    with pytest.raises(TransactionError, match="ether and may need"):
        poor.send(gift(payee, 8 * 10**15))


def test_account__when_the_signer_is_p256__raises(devnet):
    with pytest.raises(SigningError, match="secp256k1"):
        devnet.account(LocalSigner.create("p256"))


def test_send__when_the_signer_refuses__leaves_no_gap(devnet, account, payee):
    class Refusing:
        curve = "secp256k1"
        signer_bytes = account.signer.signer_bytes

        def sign_digest(self, _digest: bytes) -> bytes:
            raise SigningError("the operator said no")

        def close(self) -> None: ...

    with pytest.raises(SigningError, match="said no"):
        devnet.account(Refusing()).send(gift(payee), key="maybe")
    pending = account.send(gift(payee), key="maybe")
    assert (pending.nonce, pending.wait().status) == (0, 1)


def test_send__when_fifty_threads_send_at_once__loses_nothing_and_leaves_no_gap(devnet, account, payee):
    each, threads, nonces, failures = 4, 50, [], []

    def work() -> None:
        try:
            own = devnet.account(account.signer)
            nonces.extend(own.transact(gift(payee)).hash and own.send(gift(payee)).nonce for _ in range(each // 2))
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    for pending in account.resume():
        pending.wait()
    assert len(set(nonces)) == threads * each // 2
    assert devnet.balance(payee) == threads * each
    assert count(devnet, account.address) == count(devnet, account.address, "pending") == threads * each


PROCESS = """
import sys
from pyiot_evm.chain import Call, connect
from pyiot_evm.device import LocalSigner
from pyiot_evm.types import Address
url, home, secret, payee, name = sys.argv[1:]
with connect(url, home=home) as chain:
    account = chain.account(LocalSigner.from_secret(bytes.fromhex(secret)))
    call = Call(Address(payee), b"", "pay", bytes, value=1)
    pending = [account.send(call, key=f"{name}:{n}" if n % 2 else f"shared:{n}") for n in range(40)]
    print(sorted({receipt.status for receipt in account.wait_many(pending)}))
"""


def test_send__when_two_processes_have_one_key__loses_nothing_and_sends_shared_keys_once(devnet, account, payee):
    arguments = [devnet.url, str(devnet.home.path), account.signer.secret.hex(), str(payee)]
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, *arguments, name], stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert outputs == ["[1]", "[1]"]
    assert devnet.balance(payee) == 20 + 20 + 20
    assert count(devnet, account.address) == 60


def test_send_many__when_there_are_hundreds__sends_batches_within_the_window(devnet, account, payee):
    pending = account.send_many([gift(payee)] * 1250, gas=21_000)
    receipts = account.wait_many(pending)
    assert [item.nonce for item in pending] == list(range(1250))
    assert {receipt.status for receipt in receipts} == {1}
    assert devnet.balance(payee) == 1250


def test_send_many__when_some_keys_are_known__sends_only_the_others(devnet, account, payee):
    account.transact(gift(payee), key="b")
    pending = account.send_many([gift(payee)] * 3, keys=["a", "b", "c"])
    assert [item.nonce for item in pending] == [1, 0, 2]
    account.wait_many(pending)
    assert devnet.balance(payee) == 3


def test_send_many__when_two_keys_are_equal_or_counts_differ__raises(account, payee):
    with pytest.raises(InputError, match="same key"):
        account.send_many([gift(payee)] * 2, keys=["a", "a"])
    with pytest.raises(InputError, match="2 calls but 1 keys"):
        account.send_many([gift(payee)] * 2, keys=["a"])


def test_send_many__when_one_would_revert__sends_nothing_of_the_batch(devnet, suite, account, payee):
    with pytest.raises(ERC20InsufficientBalance):
        account.send_many([gift(payee), DevDollar(suite.dev_dollar).transfer(payee, 1)])
    assert count(devnet, account.address, "pending") == 0


def test_wait__when_the_fee_is_too_low__replaces_it_by_higher_fees(manual, payee):
    hasty = manual.account(LocalSigner.create(), fees=FeePolicy(stuck_after=0.2))
    manual.fund(hasty, ether=10)
    pending = hasty.send(gift(payee), key="slow")
    manual.rpc("hardhat_setNextBlockBaseFeePerGas", to_hex(40 * GWEI))
    manual.mine()
    with pytest.raises(TransactionError, match="not mined within") as caught:
        pending.wait(timeout=1)
    assert caught.value.retryable
    manual.set_automine(True)
    manual.mine()
    receipt = pending.wait(timeout=20)
    attempts = manual.journal.attempts([pending.id])[pending.id]
    assert len(attempts) > 1
    assert receipt.hash in {attempt.hash for attempt in attempts[1:]}
    assert attempts[-1].offer.max_fee >= attempts[0].offer.max_fee * 115 // 100
    assert (manual.balance(payee), count(manual, hasty.address)) == (1, 1)


def test_wait__when_the_fee_cap_is_reached__stops_raising_and_says_so(manual, payee, caplog):
    capped = manual.account(LocalSigner.create(), fees=FeePolicy(stuck_after=0.1, max_fee_per_gas=4 * GWEI))
    manual.fund(capped, ether=10)
    pending = capped.send(gift(payee))
    manual.rpc("hardhat_setNextBlockBaseFeePerGas", to_hex(40 * GWEI))
    manual.mine()
    with pytest.raises(TransactionError, match="not mined within"):
        pending.wait(timeout=2)
    attempts = manual.journal.attempts([pending.id])[pending.id]
    assert max(attempt.offer.max_fee for attempt in attempts) <= 4 * GWEI
    assert len(caplog.records) == 1, "a standing fact is told once"
    with pytest.raises(TransactionError, match="the cap is 4000000000"):
        capped.send(gift(payee))
    manual.rpc("hardhat_setNextBlockBaseFeePerGas", to_hex(GWEI))
    manual.set_automine(True)
    manual.mine()
    assert pending.wait(timeout=20).status == 1


def test_wait__when_the_node_dropped_it__sends_it_again(manual, account, payee):
    pending = account.send(gift(payee))
    manual.rpc("hardhat_dropTransaction", str(pending.hash))
    assert manual.rpc("eth_getTransactionByHash", str(pending.hash)) is None
    manual.set_automine(True)
    assert pending.wait(timeout=20).hash == pending.hash
    assert manual.balance(payee) == 1


def test_resume__when_there_is_a_gap_below__closes_it(devnet, account, payee):
    ghost = devnet.journal.reserve(account.address, [_intent(payee)], _offer(), first=0)
    later = account.send(gift(payee), key="later")
    assert (ghost[0].nonce, later.nonce) == (0, 1)
    devnet.journal.release([ghost[0].id])
    assert later.wait(timeout=20).status == 1
    assert (devnet.balance(payee), count(devnet, account.address)) == (1, 2)


def test_resume__when_a_crash_left_a_reserved_nonce__signs_and_sends_it(devnet, account, payee):
    devnet.journal.reserve(account.address, [_intent(payee, key="half")], _offer(), first=0)
    pending = devnet.account(account.signer).resume()
    assert [(item.key, item.nonce) for item in pending] == [("half", 0)]
    assert pending[0].wait().status == 1
    assert account.transact(gift(payee), key="half").hash == pending[0].hash
    assert devnet.balance(payee) == 1


def test_send__when_an_earlier_process_left_rows_behind__takes_them_up(devnet, account, payee):
    devnet.journal.reserve(account.address, [_intent(payee, key="half")], _offer(), first=0)
    with devnet.journal._write() as connection:
        connection.execute("UPDATE transactions SET updated = updated - 60 WHERE key = 'half'")
    assert devnet.account(account.signer).transact(gift(payee)).status == 1
    assert (devnet.balance(payee), count(devnet, account.address)) == (2, 2)


def test_wait__when_another_wallet_used_the_nonce__moves_on_to_a_new_one(manual, account, payee, tmp_path):
    with connect(manual.url, home=tmp_path) as elsewhere:  # the same key, another journal: another machine
        manual.mine()
        foreign = elsewhere.account(account.signer).send(gift(payee, 100))
        manual.rpc("hardhat_dropTransaction", str(foreign.hash))
        ours = account.send(gift(payee, 5), key="ours")
        assert (foreign.nonce, ours.nonce) == (0, 0)
        manual.rpc("hardhat_dropTransaction", str(ours.hash))
        raw = elsewhere.journal.attempts([foreign.id])[foreign.id][0].raw
        manual.rpc("eth_sendRawTransaction", to_hex(raw))
        manual.set_automine(True)
        manual.mine()
        assert ours.wait(timeout=20).status == 1
    assert account.find("ours").nonce == 1
    assert manual.balance(payee) == 105


def test_send__when_a_foreign_transaction_is_pending__does_not_replace_it(manual, account, payee, tmp_path):
    with connect(manual.url, home=tmp_path) as elsewhere:
        foreign = elsewhere.account(account.signer).send(gift(payee, 100))
        ours = account.send(gift(payee, 5))
        assert (foreign.nonce, ours.nonce) == (0, 1)
        manual.set_automine(True)
        manual.mine()
        assert {foreign.wait().status, ours.wait().status} == {1}
    assert manual.balance(payee) == 105


def test_cancel__when_it_is_not_mined__replaces_it_by_nothing(manual, account, payee):
    pending = account.send(gift(payee), key="oops")
    account.cancel(pending)
    manual.mine()
    with pytest.raises(TransactionError, match="was cancelled by"):
        pending.wait()
    with pytest.raises(TransactionError, match="was cancelled by"):
        account.transact(gift(payee), key="oops")
    assert (manual.balance(payee), count(manual, account.address)) == (0, 1)


def test_send__when_the_node_will_never_take_it__raises_and_blocks_nobody(devnet, account, payee):
    with pytest.raises(TransactionError, match="the node refuses pay"):
        account.send(gift(payee), key="starved", gas=20_000)
    assert account.transact(gift(payee)).status == 1
    with pytest.raises(TransactionError, match="was cancelled by"):
        account.transact(gift(payee), key="starved")
    assert devnet.balance(payee) == 1


def test_wait__when_confirmations_are_asked_for__waits_for_blocks(manual, account, payee):
    pending = account.send(gift(payee))
    manual.mine()
    with pytest.raises(TransactionError, match="not mined within"):
        pending.wait(timeout=0.5, confirmations=2)
    manual.mine(2)
    assert pending.wait(confirmations=2).status == 1


def test_revert__when_the_devnet_goes_back__forgets_what_came_after(devnet, account, payee):
    account.transact(gift(payee), key="before")
    snapshot = devnet.snapshot()
    after = account.send(gift(payee), key="after")
    after.wait()
    devnet.revert(snapshot)
    assert (account.find("after"), account.find("before").nonce) == (None, 0)
    with pytest.raises(TransactionError, match="the devnet went back"):
        after.wait()
    assert account.transact(gift(payee), key="after").status == 1
    assert (devnet.balance(payee), count(devnet, account.address)) == (2, 2)


def test_send__when_the_node_lost_its_last_seconds__starts_from_what_it_knows(devnet, account, payee):
    snapshot = devnet.rpc("evm_snapshot")
    account.transact(gift(payee), key="lost")
    devnet.rpc("evm_revert", snapshot)  # behind the journal's back
    assert account.send(gift(payee)).nonce == 0
    assert account.find("lost") is None


def test_wait__when_the_node_lost_it_after_it_was_mined__raises_and_frees_the_key(devnet, account, payee):
    snapshot = devnet.rpc("evm_snapshot")
    pending = account.send(gift(payee), key="lost")
    pending.wait()
    devnet.rpc("evm_revert", snapshot)
    with pytest.raises(TransactionError, match="the devnet went back"):
        pending.wait()
    assert account.transact(gift(payee), key="lost").status == 1
    assert devnet.balance(payee) == 1


def test_send__when_the_network_was_reset__raises_and_signs_nothing(payee):
    with Devnet(deploy=False) as chain:
        account = chain.account(LocalSigner.create())
        chain.fund(account, ether=1)
        account.transact(gift(payee))
        time.sleep(1.1)
        chain.rpc("anvil_reset")
        with pytest.raises(ConsistencyError, match="no longer serves network"):
            account.send(gift(payee))
        with connect(chain.url, home=chain.home) as fresh:
            assert fresh.network != chain.network
            fresh.fund(account, ether=1)
            assert fresh.account(account.signer).send(gift(payee)).nonce == 0


def test_send__when_the_node_is_gone__raises_transport_error_and_sends_later_once(payee, tmp_path):
    state, devnet = tmp_path / "state.json", None
    home = tmp_path / "home"
    devnet = Devnet(deploy=False, state=state, home=home)
    chain = devnet.start()
    signer, port = LocalSigner.create(), int(chain.url.rsplit(":", 1)[1])
    chain.fund(signer, ether=1)
    account = chain.account(signer)
    pending = account.send(gift(payee), key="before")
    pending.wait()
    devnet.close()
    with pytest.raises(TransportError):
        account.send(gift(payee), key="during")
    with Devnet(deploy=False, state=state, home=home, port=port) as again:
        assert again.network == chain.network
        assert again.account(signer).transact(gift(payee), key="during").status == 1
        assert again.account(signer).transact(gift(payee), key="before").hash == pending.hash
        assert again.balance(payee) == 2


def test_wait__when_it_ran_out_of_gas__says_so(suite, devnet, account, payee):
    call = DevDollar(suite.dev_dollar).mint(payee, 1)
    with pytest.raises(ContractError, match="all its gas was used"):
        account.transact(call, gas=24_000)


def test_fork__when_a_child_uses_the_chain__gets_connections_of_its_own(devnet, account, payee):
    account.transact(gift(payee))
    child = in_child(lambda: account.transact(gift(payee)))
    assert os.waitpid(child, 0)[1] == 0
    assert account.transact(gift(payee)).status == 1
    assert devnet.balance(payee) == 3


def _intent(to: Address, *, key: str | None = None):
    from pyiot_evm.chain.transaction_records import Intent

    return Intent(to, b"", 1, 21_000, "pay", key)


def _offer():
    from pyiot_evm.chain.fees import FeeOffer

    return FeeOffer(5 * GWEI, GWEI)
