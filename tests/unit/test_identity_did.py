"""pyiot_evm.identity.did: published examples, documents."""

import pytest
from coincurve import PublicKey
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.device import LocalSigner, p256_signer
from pyiot_evm.identity import did_document, did_key, did_of, did_pkh
from pyiot_evm.identity.did import base58btc, multikey
from pyiot_evm.types import Address

# https://w3c-ccg.github.io/did-key-spec/ and its test vectors.
SPEC_K1_COMPRESSED = bytes.fromhex("03874c15c7fda20e539c6e5ba573c139884c351188799f5458b4b41f7924f235cd")
SPEC_K1_DID = "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"
SPEC_R1_X = 0x7F235830DD3DEFA722EF1AA249D6A0DDBBA4F990B0817538933F573640653542
SPEC_R1_Y = 0x856DA88D335F1FB25B8BCFBE089528DCE09B1F7CB99FDD60F88300F4C2CC6D35
SPEC_R1_DID = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"

OWNER = Address("0x" + "22" * 20)


def decode58(text: str) -> bytes:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number = 0
    for letter in text:
        number = number * 58 + alphabet.index(letter)
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def test_did_key__when_given_the_specification_s_keys__gives_its_identifiers():
    assert did_key("secp256k1", *PublicKey(SPEC_K1_COMPRESSED).point()) == SPEC_K1_DID
    assert did_key("p256", SPEC_R1_X, SPEC_R1_Y) == SPEC_R1_DID


@given(data=st.binary(max_size=40))
def test_base58btc__when_decoded__gives_the_bytes_back(data):
    assert decode58(base58btc(data)) == data


@pytest.mark.parametrize(("data", "text"), [(b"", ""), (b"\0\0", "11"), (b"Hello World!", "2NEpo7TZRRrLZSi2U")])
def test_base58btc__when_given_the_draft_s_examples__gives_its_texts(data, text):
    assert base58btc(data) == text


def test_multikey__when_decoded__has_the_multicodec_and_the_compressed_point():
    signer = LocalSigner.create("p256")
    x, y = signer.public_point
    data = decode58(multikey("p256", x, y).removeprefix("z"))
    assert data == b"\x80\x24" + bytes([2 + y % 2]) + x.to_bytes(32, "big")


def test_did_of__when_only_an_address_is_known__is_did_pkh_with_the_chain():
    signer = LocalSigner.create()
    assert did_of(signer.signer_bytes, chain_id=10) == f"did:pkh:eip155:10:{signer.address}"
    assert did_pkh(signer.address, chain_id=10) == f"did:pkh:eip155:10:{signer.address}"


def test_did_of__when_the_public_key_is_known__is_did_key_on_every_chain():
    k1, r1 = LocalSigner.create(), LocalSigner.create("p256")
    assert did_of(k1.signer_bytes, chain_id=1, point=k1.public_point) == did_key("secp256k1", *k1.public_point)
    assert did_of(r1.signer_bytes, chain_id=1) == did_of(r1.signer_bytes, chain_id=2)
    assert did_of(p256_signer(SPEC_R1_X, SPEC_R1_Y), chain_id=1) == SPEC_R1_DID


def test_did_document__when_keys_of_both_kinds_are_good__lists_them_for_every_use():
    genesis, later = LocalSigner.create("p256"), LocalSigner.create()
    did = did_of(genesis.signer_bytes, chain_id=1)
    document = did_document(did, [genesis.signer_bytes, later.signer_bytes], chain_id=1, owner=OWNER)
    key = multikey("p256", *genesis.public_point)
    assert document["id"] == did
    assert document["controller"] == f"did:pkh:eip155:1:{OWNER}"
    assert document["@context"][0] == "https://www.w3.org/ns/did/v1"
    assert document["verificationMethod"] == [
        {"id": f"{did}#{key}", "type": "Multikey", "controller": did, "publicKeyMultibase": key},
        {
            "id": f"{did}#eip155:1:{later.address}",
            "type": "EcdsaSecp256k1RecoveryMethod2020",
            "controller": did,
            "blockchainAccountId": f"eip155:1:{later.address}",
        },
    ]
    for use in ("authentication", "assertionMethod", "capabilityInvocation", "capabilityDelegation"):
        assert document[use] == [f"{did}#{key}", f"{did}#eip155:1:{later.address}"]
    assert "deactivated" not in document


def test_did_document__when_a_point_is_known__is_a_multikey():
    signer = LocalSigner.create()
    document = did_document(
        "did:x", [signer.signer_bytes], chain_id=1, points={signer.signer_bytes: signer.public_point}
    )
    assert document["verificationMethod"][0]["publicKeyMultibase"] == multikey("secp256k1", *signer.public_point)


def test_did_document__when_no_key_is_good__says_deactivated():
    document = did_document("did:x", [], chain_id=1)
    assert document["deactivated"] is True
    assert document["verificationMethod"] == document["authentication"] == []
