"""A chain's calls, simulations and facts."""

from __future__ import annotations

import pytest

from pyiot_evm.chain import Call, connect
from pyiot_evm.chain.calls import to_int
from pyiot_evm.chain.contract_errors import ERC20InsufficientBalance
from pyiot_evm.contracts import DevDollar, Erc20
from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import ConfigurationError, ConsistencyError, TransactionError
from pyiot_evm.types import Address

EMPTY = Address("0x" + "99" * 20)


@pytest.fixture
def dollar(suite):
    return DevDollar(suite.dev_dollar)


@pytest.fixture
def owner(devnet):
    signer = LocalSigner.create()
    devnet.fund(signer, ether=1, dollars="2.5")
    return signer


def test_call__when_a_contract_answers__decodes(devnet, dollar, owner):
    assert devnet.call(dollar.balance_of(owner.address)) == 2_500_000
    assert devnet.call(dollar.transfer(EMPTY, 1), sender=owner.address) is True


def test_call__when_it_is_refused__raises_the_typed_error(devnet, dollar, owner):
    with pytest.raises(ERC20InsufficientBalance) as caught:
        devnet.call(dollar.transfer(EMPTY, 9_000_000), sender=owner.address)
    assert (caught.value.sender, caught.value.balance, caught.value.needed) == (owner.address, 2_500_000, 9_000_000)


def test_call__when_no_contract_is_there__raises(devnet):
    with pytest.raises(ConsistencyError, match="0 bytes cannot be decoded"):
        devnet.call(Erc20(EMPTY).decimals())
    with pytest.raises(ConsistencyError):
        devnet.token_info(EMPTY)


def test_call_many__when_they_are_read_together__keeps_their_order_and_raises_the_first_refusal(devnet, dollar, owner):
    calls = [dollar.symbol(), dollar.balance_of(owner.address), dollar.decimals()]
    assert devnet.call_many(calls) == ["DUSD", 2_500_000, 6]
    with pytest.raises(ERC20InsufficientBalance):
        devnet.call_many([dollar.symbol(), dollar.transfer(EMPTY, 9_000_000)], sender=owner.address)


def test_simulate__when_it_would_go_through__tells_result_gas_and_cost_and_sends_nothing(devnet, dollar, owner):
    height = devnet.block_number()
    simulation = devnet.simulate(dollar.transfer(EMPTY, 1), owner.address)
    assert simulation.value is True
    receipt = devnet.account(owner).transact(dollar.transfer(EMPTY, 1))
    assert receipt.gas_used <= simulation.gas <= receipt.gas_used * 1.1
    assert simulation.cost == simulation.gas * simulation.fee_per_gas > 0
    assert receipt.block_number == height + 1


def test_simulate__when_it_would_revert_or_cannot_be_paid__raises(devnet, dollar, owner):
    with pytest.raises(ERC20InsufficientBalance):
        devnet.simulate(dollar.transfer(EMPTY, 9_000_000), owner.address)
    with pytest.raises(TransactionError, match="cannot pay"):
        devnet.simulate(Call(EMPTY, b"", "pay", bytes, value=10**21), owner.address)


def test_facts__when_asked__agree_with_the_node(devnet, owner):
    block = devnet.rpc("eth_getBlockByNumber", "latest", False)  # noqa: FBT003 - JSON-RPC has no names
    assert devnet.now() == to_int(block["timestamp"])
    assert devnet.block_number() == to_int(block["number"])
    assert devnet.balance(owner.address) == 10**18
    assert devnet.code_at(EMPTY) == b""
    assert devnet.fee_quote().per_gas > 0
    assert devnet.network == f"31337-{devnet.genesis.hex()[:8]}"
    assert devnet.path.name == devnet.network
    assert "anvil" in repr(devnet).lower() or "hardhat" in repr(devnet).lower()


def test_token__when_one_is_given__prices_are_in_it(devnet, dollar, tmp_path):
    with connect(devnet.url, home=tmp_path, token=str(dollar.address)) as chain:
        assert chain.token == dollar.address
        info = chain.token_info()
        assert (info.symbol, info.decimals, info.to_units("1.25")) == ("DUSD", 6, 1_250_000)


def test_wait_for_receipt__when_nobody_mines_it__raises(devnet):
    with pytest.raises(TransactionError, match="was not mined within"):
        devnet.wait_for_receipt("0x" + "00" * 32, timeout=0.05)


def test_web3__when_it_is_asked_for__is_on_the_same_node(devnet):
    assert devnet.web3.eth.chain_id == 31337
    assert devnet.web3.eth.block_number == devnet.block_number()


def test_revert__when_the_snapshot_is_unknown__raises(devnet):
    with pytest.raises(ConfigurationError, match="no snapshot 0xffff"):
        devnet.revert("0xffff")
