"""pyiot_evm.relay: signing calls for somebody else to send."""

import pytest

from pyiot_evm.chain.calls import Call
from pyiot_evm.contracts.device_registry import DeviceRegistry
from pyiot_evm.device import LocalSigner, verify_signature
from pyiot_evm.exceptions import InputError, SigningError
from pyiot_evm.relay import RelayRequest, carry, contract_domain, sign_call, signed_call_digest
from pyiot_evm.types import Address, DeviceId

REGISTRY = DeviceRegistry(Address("0x" + "11" * 20))
DOMAIN = contract_domain("pyiot DeviceRegistry", chain_id=1, contract=REGISTRY.address)
CALL = REGISTRY.revoke(DeviceId(bytes(32)))
OWNER = LocalSigner.create()
DEADLINE = 2_000_000_000


def test_sign_call__when_given_a_call__binds_sender_data_nonce_and_deadline():
    request = sign_call(CALL, signer=OWNER, domain=DOMAIN, deadline=DEADLINE)
    assert (request.contract, request.call.sender, request.call.call) == (REGISTRY.address, OWNER.address, CALL.data)
    assert request.call.deadline == DEADLINE
    digest = signed_call_digest(request.call, domain=DOMAIN)
    assert verify_signature(OWNER.signer_bytes, digest, request.signature)
    again = sign_call(CALL, signer=OWNER, domain=DOMAIN, deadline=DEADLINE)
    assert again.call.nonce != request.call.nonce
    assert sign_call(CALL, signer=OWNER, domain=DOMAIN, deadline=DEADLINE, nonce=7).call.nonce == 7


def test_decode__when_given_what_encode_wrote__gives_the_request_back():
    request = sign_call(CALL, signer=OWNER, domain=DOMAIN, deadline=DEADLINE)
    assert RelayRequest.decode(request.encode()) == request


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"contract":"0x11"}', "x" * 300_000, '{"contract":1,"sender":2,"call":3}']
)
def test_decode__when_a_stranger_wrote_it__raises(text):
    with pytest.raises(InputError):
        RelayRequest.decode(text)


def test_carry__when_the_request_is_for_this_contract__is_the_relay_call():
    request = sign_call(CALL, signer=OWNER, domain=DOMAIN, deadline=DEADLINE)
    assert carry(request, REGISTRY) == REGISTRY.relay(request.call, request.signature)


def test_carry__when_the_request_is_for_another_contract__raises():
    request = sign_call(CALL, signer=OWNER, domain=DOMAIN, deadline=DEADLINE)
    other = DeviceRegistry(Address("0x" + "12" * 20))
    with pytest.raises(InputError, match=f"the request is for {REGISTRY.address}, not for {other.address}"):
        carry(request, other)


def test_sign_call__when_the_key_has_no_account__raises():
    with pytest.raises(SigningError, match="only an account key signs calls"):
        sign_call(CALL, signer=LocalSigner.create("p256"), domain=DOMAIN, deadline=DEADLINE)


def test_sign_call__when_ether_goes_along__raises():
    paying = Call(to=REGISTRY.address, data=b"", function="pay()", decode=bytes, value=1)
    with pytest.raises(InputError, match="sends ether along cannot be relayed"):
        sign_call(paying, signer=OWNER, domain=DOMAIN, deadline=DEADLINE)


def test_sign_call__when_the_policy_refuses__signs_nothing():
    shown = []

    def policy(call):
        shown.append(call.function)
        raise SigningError("not today")

    with pytest.raises(SigningError, match="not today"):
        sign_call(CALL, signer=OWNER, domain=DOMAIN, deadline=DEADLINE, policy=policy)
    assert shown == ["revoke(bytes32)"]


@pytest.mark.parametrize("deadline", [-1, 2**40])
def test_sign_call__when_the_deadline_does_not_fit__raises(deadline):
    with pytest.raises(InputError, match="does not fit uint40"):
        sign_call(CALL, signer=OWNER, domain=DOMAIN, deadline=deadline)


def test_decode__when_nested_without_end__raises():
    with pytest.raises(InputError, match="nested more than 16 deep"):
        RelayRequest.decode("[" * 200_000)
