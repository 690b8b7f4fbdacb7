"""What is signed about channels equals eth-account's encoding, x402's package and the contract's own digests."""

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyiot_evm.chain.deployment import X402_CHANNELS
from pyiot_evm.contracts.payment_channels import ChannelConfig, PaymentChannels, Voucher, VoucherClaim
from pyiot_evm.device import LocalSigner
from pyiot_evm.payment.vouchers import ChannelDomain, channel_config, sign_voucher
from pyiot_evm.types import Address, Bytes32

UINT128 = (1 << 128) - 1
TYPES = {
    "ChannelConfig": [
        {"name": "payer", "type": "address"},
        {"name": "payerAuthorizer", "type": "address"},
        {"name": "receiver", "type": "address"},
        {"name": "receiverAuthorizer", "type": "address"},
        {"name": "token", "type": "address"},
        {"name": "withdrawDelay", "type": "uint40"},
        {"name": "salt", "type": "bytes32"},
    ],
    "Voucher": [{"name": "channelId", "type": "bytes32"}, {"name": "maxClaimableAmount", "type": "uint128"}],
    "LockedVoucher": [
        {"name": "channelId", "type": "bytes32"},
        {"name": "maxClaimableAmount", "type": "uint128"},
        {"name": "lock", "type": "bytes32"},
    ],
    "Refund": [
        {"name": "channelId", "type": "bytes32"},
        {"name": "nonce", "type": "uint256"},
        {"name": "amount", "type": "uint128"},
    ],
    "ClaimEntry": [
        {"name": "channelId", "type": "bytes32"},
        {"name": "maxClaimableAmount", "type": "uint128"},
        {"name": "totalClaimed", "type": "uint128"},
    ],
    "ClaimBatch": [{"name": "claims", "type": "ClaimEntry[]"}],
}
addresses = st.binary(min_size=20, max_size=20).map(Address)
words = st.binary(min_size=32, max_size=32).map(Bytes32)
amounts = st.one_of(st.sampled_from([0, 1, UINT128]), st.integers(0, UINT128))
configs = st.builds(
    ChannelConfig, addresses, addresses, addresses, addresses, addresses, st.integers(0, (1 << 40) - 1), words
)


def outside(domain: ChannelDomain, kind: str, message: dict) -> bytes:
    """Return a digest as eth-account makes it."""
    needed = {kind: TYPES[kind]} | ({"ClaimEntry": TYPES["ClaimEntry"]} if kind == "ClaimBatch" else {})
    place = {
        "name": "x402 Batch Settlement",
        "version": "1",
        "chainId": domain.chain_id,
        "verifyingContract": str(domain.contract),
    }
    return bytes(_hash_eip191_message(encode_typed_data(place, needed, message)))


@settings(max_examples=25, deadline=None)
@given(config=configs, chain_id=st.integers(1, 1 << 60), contract=addresses)
def test_channel_id__when_compared_with_eth_account__is_equal(config, chain_id, contract):
    domain = ChannelDomain(chain_id, contract)
    names = [field["name"] for field in TYPES["ChannelConfig"]]
    values = [v if isinstance(v, int) else bytes(v) for v in config.to_abi()]
    values = [str(Address(v)) if isinstance(v, bytes) and len(v) == 20 else v for v in values]
    assert domain.channel_id(config) == outside(domain, "ChannelConfig", dict(zip(names, values, strict=True)))


@settings(max_examples=25, deadline=None)
@given(channel=words, ceiling=amounts, lock=words, nonce=st.integers(0, (1 << 256) - 1), contract=addresses)
def test_digests__when_compared_with_eth_account__are_equal(channel, ceiling, lock, nonce, contract):
    domain = ChannelDomain(31337, contract)
    base = {"channelId": bytes(channel), "maxClaimableAmount": ceiling}
    assert domain.voucher_digest(channel, ceiling) == outside(domain, "Voucher", base)
    locked = outside(domain, "LockedVoucher", base | {"lock": bytes(lock)})
    assert domain.locked_voucher_digest(channel, ceiling, lock) == locked
    refund = outside(domain, "Refund", {"channelId": bytes(channel), "nonce": nonce, "amount": ceiling})
    assert domain.refund_digest(channel, nonce, ceiling) == refund
    batch = outside(domain, "ClaimBatch", {"claims": [base | {"totalClaimed": 1}, base | {"totalClaimed": ceiling}]})
    assert domain.claim_batch_digest([(channel, ceiling, 1), (channel, ceiling, ceiling)]) == batch


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs, ceiling=amounts, lock=words)
@pytest.mark.parametrize("place", ["suite", "x402"])
def test_digests__when_compared_with_the_contract__are_equal(devnet, suite, place, config, ceiling, lock):
    contract = PaymentChannels(suite.payment_channels if place == "suite" else X402_CHANNELS)
    domain = ChannelDomain(devnet.chain_id, contract.address)
    channel = domain.channel_id(config)
    row = VoucherClaim(Voucher(config, ceiling), b"", 7)
    found = devnet.call_many(
        [
            contract.get_channel_id(config),
            contract.get_voucher_digest(channel, ceiling),
            contract.get_locked_voucher_digest(channel, ceiling, lock),
            contract.get_refund_digest(channel, 3, ceiling),
            contract.get_claim_batch_digest([row, row]),
        ]
    )
    entry = (channel, ceiling, 7)
    assert found == [
        channel,
        domain.voucher_digest(channel, ceiling),
        domain.locked_voucher_digest(channel, ceiling, lock),
        domain.refund_digest(channel, 3, ceiling),
        domain.claim_batch_digest([entry, entry]),
    ]


def test_channel_id__when_compared_with_the_x402_package__is_equal():
    from x402.mechanisms.evm.batch_settlement.types import ChannelConfig as OutsideConfig
    from x402.mechanisms.evm.batch_settlement.utils import compute_channel_id

    from pyiot_evm.payment.vouchers import config_fields

    config = channel_config(LocalSigner.create(), Address("0x" + "22" * 20), token=Address("0x" + "33" * 20))
    other = compute_channel_id(OutsideConfig.from_dict(config_fields(config)), "eip155:31337")
    assert other == str(ChannelDomain(31337, X402_CHANNELS).channel_id(config))


@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
def test_sign_voucher__when_the_contract_claims_it__it_is_valid(devnet, suite, curve):
    """A P-256 device spends its owner's money: the contract takes the 148 bytes that the SDK signs."""
    from pyiot_evm.contracts.payment_channels import ClaimOutcome

    payee, signer = devnet.account(LocalSigner.create()), LocalSigner.create(curve)
    devnet.fund(payee, ether=1)
    contract = PaymentChannels(suite.payment_channels)
    domain = ChannelDomain(devnet.chain_id, contract.address)
    config = channel_config(signer, payee.address, token=suite.dev_dollar, payer=Address("0x" + "44" * 20))
    voucher = sign_voucher(signer, domain, config, 5)
    assert voucher.is_signed()
    fund(devnet, contract, config, 100)
    assert devnet.call(contract.claim_available([voucher.claim()]), sender=payee.address) == (ClaimOutcome.CLAIMED,)
    forged = sign_voucher(signer, domain, config, 6)
    row = VoucherClaim(Voucher(config, 7), forged.signature, 7)
    outcomes = devnet.call(contract.claim_available([row]), sender=payee.address)
    assert outcomes == (ClaimOutcome.SIGNATURE_INVALID,)


def fund(chain, contract, config, amount):
    """Pay into a channel of somebody by way of a sponsor's vault."""
    from pyiot_evm.contracts.dev_dollar import DevDollar

    sponsor = chain.account(LocalSigner.create())
    chain.fund(sponsor, ether=1, dollars=1)
    sponsor.transact(DevDollar(config.token).approve(contract.address, amount))
    sponsor.transact(contract.vault_deposit(config.token, amount))
    sponsor.transact(contract.fund([config], [amount]))
