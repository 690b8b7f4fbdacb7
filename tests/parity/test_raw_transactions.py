"""Our transactions and call data equal those of eth-account, rlp and eth_abi."""

from __future__ import annotations

import rlp
from eth_abi import encode as reference_encode
from eth_account import Account as EthAccount
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from hypothesis import given, settings
from hypothesis import strategies as st

from pyiot_evm.chain.deployment import PROXY_SIGNER, PROXY_TRANSACTION
from pyiot_evm.chain.raw_transactions import TransactionFields, rlp_encode, sign_transaction
from pyiot_evm.contracts import DataMarket, DevDollar
from pyiot_evm.contracts.data_market import Disclosure, Offer, Order, Resale, Row
from pyiot_evm.device import LocalSigner
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address, Bytes32, OfferId

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

addresses = st.binary(min_size=20, max_size=20).map(Address)
words = st.binary(min_size=32, max_size=32).map(Bytes32)


def uint(bits: int):
    return st.integers(0, 2**bits - 1)


transactions = st.builds(
    TransactionFields,
    chain_id=st.integers(1, 2**53),
    nonce=st.one_of(st.integers(0, 300), uint(63)),
    max_fee=uint(64),
    tip=uint(60),
    gas=st.integers(21_000, 2**40),
    to=addresses,
    value=st.one_of(st.just(0), st.integers(0, 300), uint(256)),
    data=st.one_of(st.binary(max_size=80), st.binary(min_size=250, max_size=70_000)),
)


@settings(max_examples=200, deadline=None)
@given(transactions, st.integers(1, ORDER - 1))
def test_sign_transaction__when_compared_with_eth_account__is_equal(fields, secret):
    signed = sign_transaction(fields, LocalSigner.from_secret(secret.to_bytes(32, "big")))
    reference = EthAccount.from_key(secret.to_bytes(32, "big")).sign_transaction(
        {
            "type": 2, "chainId": fields.chain_id, "nonce": fields.nonce, "maxFeePerGas": fields.max_fee,
            "maxPriorityFeePerGas": fields.tip, "gas": fields.gas, "to": str(Address(fields.to)),
            "value": fields.value, "data": fields.data,
        }
    )  # fmt: skip
    assert signed.raw == bytes(reference.raw_transaction)
    assert signed.hash == bytes(reference.hash)
    assert TypedTransaction.from_bytes(HexBytes(signed.raw)).hash()


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=300), st.lists(st.binary(max_size=80), max_size=30)))
def test_rlp_encode__when_compared_with_rlp__is_equal(item):
    assert rlp_encode(item) == rlp.encode(item)


def test_proxy_transaction__when_its_sender_is_recovered__is_the_published_one():
    assert EthAccount.recover_transaction(PROXY_TRANSACTION) == str(PROXY_SIGNER)
    assert keccak256(PROXY_TRANSACTION).hex() == "eddf9e61fb9d8f5111840daef55e5fde0041f5702856532cdbb5a02998033d26"


offers = st.builds(
    Offer,
    seller=addresses, token=addresses, price=uint(128), bond=uint(128), sealed_root=words, leaf_count=uint(32),
    key_x=uint(256), key_y=uint(256), rule=addresses, rule_params_hash=words, supply=uint(32), royalty_bps=uint(16),
    audience=addresses, reveal_window=uint(32), dispute_window=uint(32), expiry=uint(40), terms=words, salt=uint(256),
)  # fmt: skip
resales = st.builds(
    Resale, offer_id=words.map(OfferId), holder=addresses, token=addresses, price=uint(128), expiry=uint(40),
    salt=uint(256),
)  # fmt: skip
OFFER = (
    "(address,address,uint128,uint128,bytes32,uint32,uint256,uint256,address,bytes32,uint32,uint16,address,uint32,"
    "uint32,uint40,bytes32,uint256)"
)
RESALE = "(bytes32,address,address,uint128,uint40,uint256)"
ORDER_TYPE = f"({OFFER},{RESALE},address,address,uint256,uint256)"


def offer_tuple(offer: Offer) -> tuple:
    return (
        offer.seller, offer.token, offer.price, offer.bond, offer.sealed_root, offer.leaf_count, offer.key_x,
        offer.key_y, offer.rule, offer.rule_params_hash, offer.supply, offer.royalty_bps, offer.audience,
        offer.reveal_window, offer.dispute_window, offer.expiry, offer.terms, offer.salt,
    )  # fmt: skip


def call_data(signature: str, types: list[str], values: list) -> bytes:
    return keccak256(signature.encode())[:4] + reference_encode(types, values)


@settings(max_examples=50, deadline=None)
@given(offers, resales, addresses, addresses, uint(256), st.binary(max_size=200), st.lists(words, max_size=4))
def test_bindings__when_structs_are_nested__encode_as_eth_abi_does(offer, resale, buyer, mask, number, data, proof):
    order = Order(offer, resale, buyer, mask, number, number)
    disclosure = Disclosure(number, 3, data, proof[0] if proof else Bytes32(bytes(32)), tuple(proof), data)
    call = DataMarket(mask).dispute(order, disclosure)
    resale_tuple = (resale.offer_id, resale.holder, resale.token, resale.price, resale.expiry, resale.salt)
    values = [
        (offer_tuple(offer), resale_tuple, buyer, mask, number, number),
        (number, 3, data, disclosure.leaf_hash, proof, data),
    ]
    types = [ORDER_TYPE, "(uint256,uint256,bytes,bytes32,bytes32[],bytes)"]
    assert call.data == call_data(f"dispute({','.join(types)})", types, values)
    assert Order.from_abi(order.to_abi()) == order


@settings(max_examples=50, deadline=None)
@given(offers, st.lists(st.builds(Row, buyer=addresses, mask=addresses, ephemeral_x=uint(256), ephemeral_y=uint(256))))
def test_bindings__when_structs_are_in_a_list__encode_as_eth_abi_does(offer, rows):
    types = [OFFER, "(address,address,uint256,uint256)[]"]
    values = [offer_tuple(offer), [(row.buyer, row.mask, row.ephemeral_x, row.ephemeral_y) for row in rows]]
    call = DataMarket(offer.seller).settle(offer, rows)
    assert call.data == call_data(f"settle({','.join(types)})", types, values)


def test_bindings__when_results_come_back__have_the_projects_types(devnet, suite):
    dollar = DevDollar(suite.dev_dollar)
    assert devnet.call_many([dollar.decimals(), dollar.symbol(), dollar.version(), dollar.name()]) == [
        6, "DUSD", "1", "pyiot dev dollar",
    ]  # fmt: skip
    domain = devnet.call(DataMarket(suite.data_market).eip712_domain())
    assert (domain.name, domain.version, domain.chain_id) == ("pyiot DataMarket", "1", 31337)
    assert domain.verifying_contract == suite.data_market
    assert isinstance(domain.verifying_contract, Address)
