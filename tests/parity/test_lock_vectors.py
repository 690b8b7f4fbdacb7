"""The published vectors of locks: what the code makes, what eth-account makes, and what the escrow's contract says."""

import json
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from pyiot_evm.contracts import deposit_escrow as structs
from pyiot_evm.device import LocalSigner, verify_signature
from pyiot_evm.device.lock_messages import AccessKey, Answer, Challenge, Purpose
from pyiot_evm.device.lock_slots import Slot
from pyiot_evm.device.rental_messages import RentalMessages, SignedStatement
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address, Bytes32

ROOT = Path(__file__).resolve().parents[2]
VECTORS = json.loads((ROOT / "docs" / "reference" / "lock-vectors.json").read_text())
PAGE = (ROOT / "docs" / "reference" / "lock-format.md").read_text()


def raw(text):
    return bytes.fromhex(text.removeprefix("0x"))


def test_lock_vectors__when_made_again__are_the_published_ones():
    subprocess.run([sys.executable, str(ROOT / "scripts" / "tools" / "lock_vectors.py"), "--check"], check=True)


@pytest.mark.parametrize("row", VECTORS["challenges"], ids=lambda row: row["challenge"]["purpose"])
def test_challenge__when_taken_from_a_vector__has_its_digest_and_answer(row):
    challenge = Challenge.of(row["challenge"])
    assert challenge.fields() == row["challenge"]
    assert challenge.digest == raw(row["digest"])
    key = AccessKey(challenge.device, challenge.terms_id, raw(row["accessKey"]))
    assert str(key.address) == row["keyAddress"]
    assert key.answer(challenge) == Answer.of(row["answer"])


@pytest.mark.parametrize("row", VECTORS["challenges"], ids=lambda row: row["challenge"]["purpose"])
def test_challenge__when_put_together_by_the_page_s_words__is_whole(row):
    said = row["challenge"]
    purpose = keccak256(said["purpose"].encode())
    assert purpose == raw(VECTORS["purposeHashes"][said["purpose"]])
    words = raw(said["device"]) + raw(said["termsId"]) + purpose + int(said["counter"]).to_bytes(32, "big")
    struct = keccak256(raw(VECTORS["typeHash"]) + words + raw(said["nonce"]) + said["expiry"].to_bytes(32, "big"))
    assert keccak256(b"\x19\x01" + raw(VECTORS["domainSeparator"]) + struct) == raw(row["digest"])
    assert VECTORS["type"] in PAGE
    assert keccak256(VECTORS["type"].encode()) == raw(VECTORS["typeHash"])


@pytest.mark.parametrize("row", VECTORS["challenges"], ids=lambda row: row["challenge"]["purpose"])
def test_challenge__when_encoded_and_signed_by_eth_account__is_the_same(row):
    said = row["challenge"]
    fields = [part.split(" ") for part in VECTORS["type"].split("(")[1].rstrip(")").split(",")]
    values = {name: raw(said[name]) for kind, name in fields if kind == "bytes32"}
    values |= {"purpose": said["purpose"], "counter": int(said["counter"]), "expiry": said["expiry"]}
    signable = encode_typed_data(
        domain_data=VECTORS["domain"],
        message_types={"AccessChallenge": [{"name": name, "type": kind} for kind, name in fields]},
        message_data=values,
    )
    assert keccak256(b"\x19\x01" + signable.header + signable.body) == raw(row["digest"])
    assert Account.sign_message(signable, raw(row["accessKey"])).signature == raw(row["answer"]["signature"])


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: row["why"])
def test_answer__when_a_vector_says_refuse__is_not_the_access_key_s(row):
    key = Address(VECTORS["challenges"][0]["keyAddress"])
    assert not verify_signature(key, raw(row["digest"]), raw(row["signature"]))


@pytest.mark.parametrize("row", VECTORS["slots"], ids=lambda row: row["curve"])
def test_slot__when_taken_from_a_vector__is_the_owner_s(row):
    slot = Slot.of(row["offer"])
    assert (str(slot.terms_id), str(slot.key_address)) == (row["termsId"], row["keyAddress"])
    assert slot.messages.domain == raw(row["domainSeparator"])
    assert slot.fields() == row["offer"]
    assert verify_signature(slot.terms.owner, slot.terms_id, slot.signature)


@pytest.mark.parametrize("row", VECTORS["statements"], ids=lambda row: f"{row['curve']}-{row['statement']['kind']}")
def test_statement__when_taken_from_a_vector__is_the_lock_s(row):
    said = SignedStatement.decode(json.dumps(row["statement"]))
    messages = RentalMessages(chain_id=said.chain_id, contract=said.contract)
    assert messages.digest(said.statement) == raw(row["digest"])
    assert messages.is_signed(said)
    assert len(said.signature) == {"secp256k1": 65, "p256": 64}[row["curve"]]
    slot = next(one for one in VECTORS["slots"] if one["curve"] == row["curve"])
    assert row["statement"]["termsId"] == slot["termsId"]


@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
def test_door__when_its_escrow_is_on_a_chain__signs_what_that_contract_asks_for(devnet, door, curve):
    contract = structs.DepositEscrow(devnet.addresses.deposit_escrow)
    made = door(signer=LocalSigner.create(curve), chain_id=devnet.chain_id, escrow=contract.address)
    key = made.rent()
    made.meter += 14
    said = made.try_it(key)
    made.meter += 7
    ended = made.try_it(key, Purpose.CHECK_OUT)
    (use,) = made.lock.uses()
    assert devnet.call(contract.terms_id(structs.Terms(*astuple(use.slot.terms)))) == key.terms_id
    check_in = structs.CheckIn(Bytes32(key.terms_id), said.statement.time, Bytes32(said.statement.condition))
    check_out = structs.CheckOut(Bytes32(key.terms_id), ended.statement.time, 7, Bytes32(ended.statement.condition))
    for digest, one in (
        (devnet.call(contract.check_in_digest(check_in)), said),
        (devnet.call(contract.check_out_digest(check_out)), ended),
    ):
        assert verify_signature(made.signer.signer_bytes, digest, one.signature)
