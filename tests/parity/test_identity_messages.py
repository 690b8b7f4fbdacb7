"""The registry's messages and relayed calls: hand-encoded digests equal eth-account's."""

from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.contracts.shared import SignedCall
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity import RegistryMessages
from pyiot_evm.relay import contract_domain, signed_call_digest
from pyiot_evm.types import Address, DeviceId

WORDS = st.binary(min_size=32, max_size=32)
ADDRESSES = st.binary(min_size=20, max_size=20).map(Address)
UINT40 = st.integers(0, 2**40 - 1)
UINT16 = st.integers(0, 2**16 - 1)
CHAINS = st.integers(0, 2**64)


def digest(name, chain_id, contract, kind, fields, message):
    signable = encode_typed_data(
        domain_data={"name": name, "version": "1", "chainId": chain_id, "verifyingContract": contract},
        message_types={kind: [{"name": n, "type": t} for n, t in fields.items()]},
        message_data=message,
    )
    return keccak256(b"\x19\x01" + signable.header + signable.body)


@given(chain_id=CHAINS, registry=ADDRESSES, device=WORDS, owner=ADDRESSES, metadata=WORDS, deadline=UINT40)
def test_register__when_given_anything__equals_eth_account(chain_id, registry, device, owner, metadata, deadline):
    ours = RegistryMessages(chain_id=chain_id, registry=registry).register(
        DeviceId(device), owner=owner, metadata=metadata, deadline=deadline
    )
    fields = {"device": "bytes32", "owner": "address", "metadata": "bytes32", "deadline": "uint40"}
    message = {"device": device, "owner": owner, "metadata": metadata, "deadline": deadline}
    assert ours == digest("pyiot DeviceRegistry", chain_id, registry, "Register", fields, message)


@given(chain_id=CHAINS, registry=ADDRESSES, device=WORDS, signer=st.binary(max_size=84), epoch=UINT16, deadline=UINT40)
def test_rotate_and_revoke__when_given_anything__equal_eth_account(chain_id, registry, device, signer, epoch, deadline):
    messages = RegistryMessages(chain_id=chain_id, registry=registry)
    rotate = {"device": "bytes32", "newSigner": "bytes32", "epoch": "uint16", "deadline": "uint40"}
    message = {"device": device, "newSigner": keccak256(signer), "epoch": epoch, "deadline": deadline}
    ours = messages.rotate(DeviceId(device), new_signer=signer, epoch=epoch, deadline=deadline)
    assert ours == digest("pyiot DeviceRegistry", chain_id, registry, "Rotate", rotate, message)
    revoke = {"device": "bytes32", "epoch": "uint16"}
    theirs = digest("pyiot DeviceRegistry", chain_id, registry, "Revoke", revoke, {"device": device, "epoch": epoch})
    assert messages.revoke(DeviceId(device), epoch=epoch) == theirs


@given(
    chain_id=CHAINS,
    registry=ADDRESSES,
    device=WORDS,
    signer=st.binary(min_size=20, max_size=84),
    not_after=UINT40,
    scope=st.integers(0, 2**32 - 1),
    epoch=UINT16,
    audience=st.text(max_size=20),
    challenge=WORDS,
)
def test_session_and_answer__when_given_anything__equal_eth_account(
    chain_id, registry, device, signer, not_after, scope, epoch, audience, challenge
):
    messages = RegistryMessages(chain_id=chain_id, registry=registry)
    fields = {
        "device": "bytes32",
        "sessionSigner": "bytes32",
        "notAfter": "uint40",
        "scope": "uint32",
        "epoch": "uint16",
    }
    message = {
        "device": device,
        "sessionSigner": keccak256(signer),
        "notAfter": not_after,
        "scope": scope,
        "epoch": epoch,
    }
    ours = messages.session(DeviceId(device), session_signer=signer, not_after=not_after, scope=scope, epoch=epoch)
    assert ours == digest("pyiot DeviceRegistry", chain_id, registry, "Session", fields, message)
    fields = {"session": "bytes32", "audience": "string", "challenge": "bytes32"}
    message = {"session": ours, "audience": audience, "challenge": challenge}
    theirs = digest("pyiot DeviceRegistry", chain_id, registry, "SessionAnswer", fields, message)
    assert messages.answer(ours, audience=audience, challenge=challenge) == theirs


@given(
    chain_id=CHAINS,
    contract=ADDRESSES,
    sender=ADDRESSES,
    call=st.binary(max_size=200),
    nonce=st.integers(0, 2**256 - 1),
    deadline=UINT40,
)
def test_signed_call_digest__when_given_any_call__equals_eth_account(chain_id, contract, sender, call, nonce, deadline):
    fields = {"sender": "address", "call": "bytes", "nonce": "uint256", "deadline": "uint40"}
    message = {"sender": sender, "call": call, "nonce": nonce, "deadline": deadline}
    ours = signed_call_digest(
        SignedCall(sender, call, nonce, deadline),
        domain=contract_domain("pyiot DataMarket", chain_id=chain_id, contract=contract),
    )
    assert ours == digest("pyiot DataMarket", chain_id, contract, "SignedCall", fields, message)
