"""Rental digests: hand-encoded ones equal eth-account's, and those that the contract on a real chain computes."""

import re
from dataclasses import astuple
from pathlib import Path

import pytest
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from pyiot_evm.contracts import deposit_escrow as structs
from pyiot_evm.device.rental_messages import (
    CHECK_IN_TYPE,
    CHECK_OUT_TYPE,
    TERMS_TYPE,
    CheckIn,
    CheckOut,
    RentalMessages,
    SignedStatement,
    Terms,
)
from pyiot_evm.device.signers import LocalSigner, device_id, verify_signature
from pyiot_evm.escrow.inspection import objections
from pyiot_evm.escrow.offers import RentalOffer
from pyiot_evm.escrow.policies import RenterPolicy
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address, Bytes32, DeviceId

ADDRESSES = st.binary(min_size=20, max_size=20)
WORDS = st.binary(min_size=32, max_size=32)


def uint(bits):
    return st.integers(0, (1 << bits) - 1)


OF_KIND = {"address": ADDRESSES, "bytes32": WORDS} | {f"uint{n}": uint(n) for n in (32, 40, 64, 96, 256)}


def fields_of(declaration):
    inside = re.search(r"\((.*)\)", declaration).group(1)
    return [tuple(field.split(" ")) for field in inside.split(",")]


def values_of(declaration):
    return st.tuples(*(OF_KIND[kind] for kind, _ in fields_of(declaration)))


def eth_account(declaration, values, *, chain_id, contract):
    name = declaration.split("(")[0]
    fields = fields_of(declaration)
    signable = encode_typed_data(
        domain_data={
            "name": "pyiot DepositEscrow",
            "version": "1",
            "chainId": chain_id,
            "verifyingContract": Address(contract),
        },
        message_types={name: [{"name": field, "type": kind} for kind, field in fields]},
        message_data={
            field: Address(value) if kind == "address" else value
            for (kind, field), value in zip(fields, values, strict=True)
        },
    )
    return keccak256(b"\x19\x01" + signable.header + signable.body)


@given(values=values_of(TERMS_TYPE), chain_id=uint(64), contract=ADDRESSES)
@settings(max_examples=50)
def test_terms_id__when_given_anything__equals_eth_account(values, chain_id, contract):
    ours = RentalMessages(chain_id=chain_id, contract=contract).terms_id(Terms(*values))
    assert ours == eth_account(TERMS_TYPE, values, chain_id=chain_id, contract=contract)


@given(come=values_of(CHECK_IN_TYPE), gone=values_of(CHECK_OUT_TYPE), chain_id=uint(64), contract=ADDRESSES)
@settings(max_examples=50)
def test_digest__when_given_anything__equals_eth_account(come, gone, chain_id, contract):
    messages = RentalMessages(chain_id=chain_id, contract=contract)
    place = {"chain_id": chain_id, "contract": contract}
    assert messages.digest(CheckIn(*come)) == eth_account(CHECK_IN_TYPE, come, **place)
    assert messages.digest(CheckOut(*gone)) == eth_account(CHECK_OUT_TYPE, gone, **place)


@given(values=values_of(TERMS_TYPE), come=values_of(CHECK_IN_TYPE), gone=values_of(CHECK_OUT_TYPE))
@settings(max_examples=5)
def test_digests__when_the_contract_is_asked__are_the_same(devnet, values, come, gone):
    escrow = structs.DepositEscrow(devnet.addresses.deposit_escrow)
    messages = RentalMessages(chain_id=devnet.chain_id, contract=escrow.address)
    wrapped = [
        {"address": Address, "bytes32": Bytes32}.get(kind, int)(value)
        for (kind, _), value in zip(fields_of(TERMS_TYPE), values, strict=True)
    ]
    theirs = structs.Terms(*wrapped)
    assert devnet.call(escrow.terms_id(theirs)) == messages.terms_id(Terms(*astuple(theirs)))
    assert devnet.call(escrow.check_in_digest(structs.CheckIn(*come))) == messages.digest(CheckIn(*come))
    assert devnet.call(escrow.check_out_digest(structs.CheckOut(*gone))) == messages.digest(CheckOut(*gone))


@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
@pytest.mark.parametrize("said", [CheckIn(DeviceId(b"\x01" * 32), 7), CheckOut(b"\x01" * 32, 7, (1 << 64) - 1)])
def test_signed_statement__when_written_and_read__is_the_same_and_signed(curve, said):
    messages = RentalMessages(chain_id=1, contract=b"\x22" * 20)
    signed = messages.sign(said, LocalSigner.create(curve))
    assert SignedStatement.decode(signed.encode()) == signed
    assert messages.is_signed(signed)
    assert not RentalMessages(chain_id=2, contract=b"\x22" * 20).is_signed(signed)
    assert not RentalMessages(chain_id=1, contract=b"\x23" * 20).is_signed(signed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kind":"check-out"', '"kind":"check-up"'),
        ('"kind":"check-out"', '"kind":"check-in"'),
        ('"time":7', '"time":-7'),
        ('"time":7', '"time":7.0'),
        ('"time":7', '"time":true'),
        ('"time":7', '"time":1099511627776'),
        ('"units":"9"', '"units":"18446744073709551616"'),
        ('"units":"9"', '"units":"\u0669"'),
        ('"termsId":"0x01', '"termsId":"0x'),
        ('"signer":"0x', '"signer":"'),
        ('"signer":"0x', f'"signer":"0x{"00" * 100}'),
        ("{", '{"more":1,'),
        ("{", "[{"),
        ("{", "[" * 50 + "{"),
        ("}", " " * 5000 + "}"),
    ],
)
def test_decode__when_a_stranger_wrote_it__gives_a_typed_error(old, new):
    messages = RentalMessages(chain_id=1, contract=b"\x22" * 20)
    text = messages.sign(CheckOut(b"\x01" * 32, 7, 9), LocalSigner.create()).encode()
    assert old in text
    with pytest.raises(InputError):
        SignedStatement.decode(text.replace(old, new, 1))


@given(text=st.text(max_size=200))
@settings(max_examples=50)
def test_decode__when_it_is_anything__gives_a_typed_error(text):
    with pytest.raises(InputError):
        SignedStatement.decode(text)


PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "rental-offer.md"


def test_offer__when_the_example_of_its_page_is_read__is_one_that_was_signed():
    # The page showed an offer without a signature, whose other values did not fit one another either.
    text = PAGE.read_text()
    offer = RentalOffer.decode(re.search(r"```json\n(.*?)```", text, re.DOTALL).group(1))
    offer.check_parts()
    owner, lock, judge, access = (
        LocalSigner.from_secret(keccak256(w)) for w in (b"owner", b"lock", b"judge", b"access")
    )
    assert verify_signature(owner.signer_bytes, offer.id, offer.signature)
    assert f"`{offer.id}`" in text
    terms = offer.terms
    assert (terms.owner, terms.arbiter, offer.signer) == (owner.signer_bytes, judge.signer_bytes, lock.signer_bytes)
    assert (terms.device, terms.signer_hash) == (device_id(lock.signer_bytes), keccak256(lock.signer_bytes))
    assert (terms.key_x, terms.key_y) == access.public_point
    assert objections(terms, RenterPolicy()) == []
