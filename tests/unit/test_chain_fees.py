"""What transactions offer for gas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.chain.fees import GWEI, FeeOffer, FeePolicy, FeeQuote
from pyiot_evm.chain.rpc import RpcError
from pyiot_evm.exceptions import TransactionError, TransportError

fees = st.integers(0, 10**12)


def test_from_rpc__when_the_node_answers__reads_both():
    assert FeeQuote.from_rpc({"baseFeePerGas": "0x10"}, "0x5") == FeeQuote(16, 5)
    assert FeeQuote(16, 5).per_gas == 21


def test_from_rpc__when_the_node_suggests_no_tip__takes_one_gwei():
    assert FeeQuote.from_rpc({"baseFeePerGas": "0x10"}, RpcError("x", -32601, "no such method")).tip == GWEI


def test_from_rpc__when_the_block_is_missing_or_old__raises():
    with pytest.raises(TransportError, match="no latest block"):
        FeeQuote.from_rpc(None, "0x1")
    with pytest.raises(RpcError):
        FeeQuote.from_rpc(RpcError("eth_getBlockByNumber", 1, "no"), "0x1")
    with pytest.raises(TransactionError, match="no base fee"):
        FeeQuote.from_rpc({"number": "0x1"}, "0x1")


def test_first_offer__when_fees_are_below_the_cap__leaves_room_for_rises():
    assert FeePolicy().first_offer(FeeQuote(10 * GWEI, GWEI)) == FeeOffer(21 * GWEI, GWEI)


def test_first_offer__when_twice_the_base_fee_is_above_the_cap__offers_the_cap():
    assert FeePolicy(max_fee_per_gas=15 * GWEI).first_offer(FeeQuote(10 * GWEI, GWEI)).max_fee == 15 * GWEI


def test_first_offer__when_even_the_base_fee_is_above_the_cap__raises():
    with pytest.raises(
        TransactionError, match="asks 11000000000 wei for a unit of gas, the cap is 10000000000"
    ) as error:
        FeePolicy(max_fee_per_gas=10 * GWEI).first_offer(FeeQuote(10 * GWEI, GWEI))
    assert error.value.retryable


@given(st.builds(FeeQuote, fees, fees), st.integers(1, 10**12), fees, st.integers(10, 100))
def test_replacement__when_there_is_one__raises_both_fees_enough_and_stays_within_the_cap(quote, last_fee, tip, bump):
    last = FeeOffer(last_fee, min(tip, last_fee))
    policy = FeePolicy(max_fee_per_gas=10**12, bump_percent=bump)
    offer = policy.replacement(last, quote)
    if offer is None:
        assert last.max_fee + max(-(-last.max_fee * bump // 100), 1) > 10**12
        return
    assert offer.max_fee <= 10**12
    assert offer.tip <= offer.max_fee
    assert offer.max_fee * 100 >= last.max_fee * 110
    assert offer.max_fee > last.max_fee
    assert offer.tip * 100 >= last.tip * 110


def test_gas_limit__when_an_estimate_is_given__adds_the_margin():
    assert FeePolicy().gas_limit(100_000) == 120_000
    assert FeePolicy(gas_margin_percent=0).gas_limit(7) == 7
