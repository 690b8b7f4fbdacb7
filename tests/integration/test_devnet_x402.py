"""A devnet has what x402's unmodified clients look for, at the addresses that they have written down."""

import pytest

from pyiot_evm.chain import Devnet
from pyiot_evm.chain.abi import decode
from pyiot_evm.chain.artifacts import load_artifact
from pyiot_evm.chain.deployment import MULTICALL3, X402_CHANNELS, X402_COLLECTOR
from pyiot_evm.contracts.erc3009_deposit_collector import ERC3009DepositCollector
from pyiot_evm.contracts.multicall3 import BatchedCall, Call3, Multicall3
from pyiot_evm.contracts.payment_channels import PaymentChannels


@pytest.mark.parametrize("engine", ["anvil", "hardhat"])
def test_devnet__when_it_starts__has_the_channels_where_clients_look_for_them(engine):
    with Devnet(engine) as chain:
        domain = chain.call(PaymentChannels(X402_CHANNELS).eip712_domain())
        assert (domain.name, domain.version, domain.chain_id) == ("x402 Batch Settlement", "1", chain.chain_id)
        assert domain.verifying_contract == X402_CHANNELS
        assert chain.call(PaymentChannels(X402_CHANNELS).p256_verifier()) == chain.addresses.p256_verifier
        assert chain.call(ERC3009DepositCollector(X402_COLLECTOR).x402_batch_settlement()) == X402_CHANNELS
        ours = ERC3009DepositCollector(chain.addresses.deposit_collector)
        assert chain.call(ours.x402_batch_settlement()) == chain.addresses.payment_channels
        assert load_artifact("Multicall3").matches(chain.code_at(MULTICALL3))


def test_try_aggregate__when_one_call_fails__reports_it_and_answers_the_other(devnet):
    good = PaymentChannels(X402_CHANNELS).min_withdraw_delay().data
    calls = [BatchedCall(X402_CHANNELS, good), BatchedCall(X402_CHANNELS, b"\xff" * 4)]
    first, second = devnet.call(Multicall3(MULTICALL3).try_aggregate(require_success=False, calls=calls))
    assert (first.success, decode(["uint256"], first.return_data)[0], second.success) == (True, 900, False)


def test_aggregate3__when_a_call_that_may_not_fail_fails__names_it(devnet):
    from pyiot_evm.chain.contract_errors import BatchedCallFailed

    calls = [
        Call3(X402_CHANNELS, allow_failure=True, call_data=b"\xff" * 4),
        Call3(X402_CHANNELS, allow_failure=False, call_data=b"\xff" * 4),
    ]
    with pytest.raises(BatchedCallFailed) as caught:
        devnet.call(Multicall3(MULTICALL3).aggregate3(calls))
    assert (caught.value.index, caught.value.target) == (1, X402_CHANNELS)
