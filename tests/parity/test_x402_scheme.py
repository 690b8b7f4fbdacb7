"""`PaymentChannels` against the `x402` package that clients and servers run: ABI, selectors, topics, digests."""

import json
from pathlib import Path

import pytest
from eth_account.messages import encode_typed_data
from x402.mechanisms.evm.batch_settlement import constants
from x402.mechanisms.evm.batch_settlement.abi import BATCH_SETTLEMENT_ABI
from x402.mechanisms.evm.batch_settlement.types import ChannelConfig
from x402.mechanisms.evm.batch_settlement.utils import compute_channel_id, get_batch_settlement_eip712_domain

from pyiot_evm.hashing import keccak256

ROOT = Path(__file__).resolve().parents[2]
CHAIN_ID = 31337
CONFIG = "(address,address,address,address,address,uint40,bytes32)"
CLAIMS = f"(({CONFIG},uint128),bytes,uint128)[]"

# Written down from x402 2.25.0 and the sources of its contract; selectors of functions, topics of events.
SELECTORS = {
    f"deposit({CONFIG},uint128,address,bytes)": "140f1e75",
    f"claim({CLAIMS})": "29237b0c",
    f"claimWithSignature({CLAIMS},bytes)": "e43ce1f2",
    "settle(address,address)": "9db32a8f",
    f"initiateWithdraw({CONFIG},uint128)": "cf5cf3dc",
    f"finalizeWithdraw({CONFIG})": "e88377b1",
    f"refund({CONFIG},uint128)": "dce4bfae",
    f"refundWithSignature({CONFIG},uint128,uint256,bytes)": "b77433e9",
    "multicall(bytes[])": "ac9650d8",
    f"getChannelId({CONFIG})": "5e5e0b87",
    "channels(bytes32)": "7a7ebd7b",
    "pendingWithdrawals(bytes32)": "b7f06ebe",
    "receivers(address,address)": "21ff6389",
    "refundNonce(bytes32)": "f0dc792e",
    "getVoucherDigest(bytes32,uint128)": "862bb199",
    "getRefundDigest(bytes32,uint256,uint128)": "e25cf189",
    f"getClaimBatchDigest({CLAIMS})": "488ccc3b",
}
CONSTANTS = {
    "MIN_WITHDRAW_DELAY()": "uint40",
    "MAX_WITHDRAW_DELAY()": "uint40",
    "CHANNEL_CONFIG_TYPEHASH()": "bytes32",
    "VOUCHER_TYPEHASH()": "bytes32",
    "REFUND_TYPEHASH()": "bytes32",
    "CLAIM_ENTRY_TYPEHASH()": "bytes32",
    "CLAIM_BATCH_TYPEHASH()": "bytes32",
}
EVENTS = {
    f"ChannelCreated(bytes32 indexed channelId,{CONFIG} config)",
    f"ChannelClosed(bytes32 indexed channelId,{CONFIG} config)",
    "Deposited(bytes32 indexed channelId,address indexed sender,uint128 amount,uint128 newBalance)",
    "Claimed(bytes32 indexed channelId,address indexed sender,uint128 claimAmount,uint128 newTotalClaimed)",
    "Settled(address indexed receiver,address indexed token,address indexed sender,uint128 amount)",
    "Refunded(bytes32 indexed channelId,address indexed sender,uint128 amount)",
    "WithdrawInitiated(bytes32 indexed channelId,uint128 amount,uint40 finalizeAfter)",
    "WithdrawFinalized(bytes32 indexed channelId,address indexed sender,uint128 amount)",
}
SETTLED_TOPIC = "7337b4386b690fdb8ba66905b92b9d45d33bc6626ee2620c905fb150ec0cc47d"
ERRORS = {
    *("InvalidChannel", "ZeroDeposit", "DepositOverflow", "InvalidSignature", "NotReceiverAuthorizer"),
    *("NotAuthorizedToClaim", "NotAuthorizedToRefund", "ClaimExceedsCeiling", "ClaimExceedsBalance"),
    *("WithdrawalAlreadyPending", "WithdrawalNotPending", "NotAuthorizedToFinalizeWithdraw"),
    *("WithdrawDelayNotElapsed", "NothingToWithdraw", "WithdrawAmountExceedsAvailable", "WithdrawDelayOutOfRange"),
    *("EmptyBatch", "DepositCollectionFailed", "InvalidCollector", "InvalidRefundNonce", "ZeroRefund"),
}
OURS = {
    *("vaultDeposit", "vaultWithdraw", "fund", "claimAvailable", "claimLocked"),
    *("getLockedVoucherDigest", "vaultOf", "p256Verifier"),
    *("relay", "cancelNonce", "isNonceUsed", "eip712Domain"),
}


def artifact(name):
    """Return a compiled contract, from the shipped suite or from what was built."""
    for folder in (ROOT / "pyiot_evm" / "contracts" / "artifacts", ROOT / ".build" / "artifacts"):
        if (folder / f"{name}.json").exists():
            return json.loads((folder / f"{name}.json").read_text())
    raise AssertionError(f"{name} was not compiled: run scripts/tools/compile_contracts.py --all")


def kind(item):
    """Return a canonical type."""
    if "components" not in item:
        return item["type"]
    return f"({','.join(kind(c) for c in item['components'])})" + item["type"].removeprefix("tuple")


def signature(entry):
    """Return name and canonical input types."""
    return f"{entry['name']}({','.join(kind(i) for i in entry['inputs'])})"


def bare(item):
    """Return a parameter with what an ABI needs: no compiler's internal types."""
    kept = {key: item[key] for key in ("name", "type", "indexed") if key in item}
    return kept | ({"components": [bare(c) for c in item["components"]]} if "components" in item else {})


@pytest.fixture(scope="module")
def abi():
    return artifact("PaymentChannels")["abi"]


def of(abi, kind_of_entry):
    return {signature(e): e for e in abi if e["type"] == kind_of_entry}


def test_abi__when_compared_with_the_package__has_every_entry_to_the_letter(abi):
    ours = {(e["type"], signature(e)): e for e in abi if e["type"] in ("function", "event")}
    for entry in BATCH_SETTLEMENT_ABI:
        found = ours[entry["type"], signature(entry)]
        for key in ("inputs", "outputs"):
            assert [bare(i) for i in found.get(key, [])] == [bare(i) for i in entry.get(key, [])]
        assert found.get("stateMutability") == entry.get("stateMutability")
        assert found.get("anonymous") == entry.get("anonymous")


def test_selectors__when_hashed__are_x402_s(abi):
    functions = of(abi, "function")
    assert {s: keccak256(s.encode())[:4].hex() for s in functions if s in SELECTORS} == SELECTORS
    assert {signature(e) for e in BATCH_SETTLEMENT_ABI if e["type"] == "function"} == set(SELECTORS)
    for name, result in CONSTANTS.items():
        assert [o["type"] for o in functions[name]["outputs"]] == [result]


def test_functions__when_counted__are_x402_s_and_our_additions(abi):
    theirs = {s.partition("(")[0] for s in [*SELECTORS, *CONSTANTS]}
    names = [e["name"] for e in abi if e["type"] == "function"]
    assert len(names) == len(set(names))
    assert set(names) == theirs | OURS


def test_events__when_compared__have_x402_s_fields_and_indexes(abi):
    lines = {
        f"{e['name']}("
        + ",".join(f"{kind(i)}{' indexed' if i['indexed'] else ''} {i['name']}" for i in e["inputs"])
        + ")"
        for e in abi
        if e["type"] == "event"
    }
    assert lines >= EVENTS
    assert keccak256(b"Settled(address,address,address,uint128)").hex() == SETTLED_TOPIC


def test_errors__when_compared__are_x402_s_without_values(abi):
    errors = of(abi, "error")
    assert {f"{name}()" for name in ERRORS} <= set(errors)


def test_collector__when_compared__takes_x402_s_calls():
    functions = of(artifact("ERC3009DepositCollector")["abi"], "function")
    assert set(functions) == {"collect(address,address,uint256,bytes32,bytes)", "x402BatchSettlement()"}


def test_digests__when_the_package_computes_them__are_the_numbers_of_the_forge_suite():
    suite = (ROOT / "tests" / "invariant" / "PaymentChannelsScheme.t.sol").read_text()
    configs = [
        ChannelConfig(
            payer="0x" + "11" * 20,
            payer_authorizer="0x" + "22" * 20,
            receiver="0x" + "33" * 20,
            receiver_authorizer="0x" + "44" * 20,
            token="0x" + "55" * 20,
            withdraw_delay=86_400,
            salt="0x" + byte * 32,
        )
        for byte in ("66", "77")
    ]
    ids = [bytes.fromhex(compute_channel_id(config, CHAIN_ID)[2:]) for config in configs]
    entries = [
        {"channelId": ids[0], "maxClaimableAmount": 123_456, "totalClaimed": 1000},
        {"channelId": ids[1], "maxClaimableAmount": 2**128 - 1, "totalClaimed": 1},
    ]
    digests = [
        digest(constants.VOUCHER_TYPES, {"channelId": ids[0], "maxClaimableAmount": 123_456}),
        digest(constants.REFUND_TYPES, {"channelId": ids[0], "nonce": 7, "amount": 1000}),
        digest(constants.CLAIM_BATCH_TYPES, {"claims": entries}),
    ]
    for number in (*ids, *digests):
        assert f'hex"{number.hex()}"' in suite
    for address in (constants.BATCH_SETTLEMENT_ADDRESS, constants.ERC3009_DEPOSIT_COLLECTOR_ADDRESS):
        assert address in suite


def digest(types, message):
    """Return the EIP-712 digest as x402's signers compute it."""
    signable = encode_typed_data(
        domain_data=get_batch_settlement_eip712_domain(CHAIN_ID), message_types=types, message_data=message
    )
    return keccak256(b"\x19\x01" + signable.header + signable.body)
