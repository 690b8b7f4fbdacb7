"""The published vectors: what the code makes is what the file says, and the file holds on its own."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from pyiot_evm.device import Reading, Schema, verify_signature
from pyiot_evm.device.reading import pack_values, unpack_values
from pyiot_evm.hashing import keccak256

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "tools" / "reading_vectors.py"
VECTORS = json.loads((ROOT / "docs" / "reference" / "reading-vectors.json").read_text())


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def named(row: dict) -> str:
    return f"{row['curve']}-{row['seq']}"


def test_vectors__when_made_again__are_the_published_ones():
    subprocess.run([sys.executable, str(SCRIPT), "--check"], check=True)


def test_vectors_check__when_the_file_differs__fails(tmp_path):
    spec = importlib.util.spec_from_file_location("reading_vectors", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.VECTORS = tmp_path / "vectors.json"
    script.VECTORS.write_text("{}")
    sys_argv, sys.argv = sys.argv, ["reading_vectors.py", "--check"]
    try:
        with pytest.raises(SystemExit, match="is not what the code makes"):
            script.main()
    finally:
        sys.argv = sys_argv


@pytest.mark.parametrize("row", VECTORS["readings"], ids=named)
def test_reading__when_taken_from_a_vector__has_its_steps(row):
    reading = Reading.from_leaf(
        raw(row["leaf"]),
        device=raw(row["device"]),
        schema=raw(row["schema"]),
        value_count=len(row["values"]),
        curve=row["curve"],
    )
    assert [str(value) for value in reading.values] == row["values"]
    assert (str(reading.seq), str(reading.time)) == (row["seq"], row["time"])
    assert (reading.salt, reading.prev) == (raw(row["salt"]), raw(row["prev"]))
    assert (str(reading.payload), str(reading.digest)) == (row["payload"], row["digest"])
    assert reading.leaf() == raw(row["leaf"])
    assert keccak256(reading.leaf()) == raw(row["leafHash"])
    assert reading.is_signed_by(raw(row["signer"]))


@pytest.mark.parametrize("row", VECTORS["readings"], ids=named)
def test_vector__when_put_together_by_the_page_s_words__is_whole(row):
    packed = b"".join((int(value) % 2**128).to_bytes(16, "big") for value in row["values"])
    seq, time = (int(row[name]).to_bytes(8, "big") for name in ("seq", "time"))
    assert packed == raw(row["packed"])
    assert keccak256(raw(row["salt"]) + packed) == raw(row["payload"])
    assert keccak256(raw(row["signer"])) == raw(row["device"])
    assert raw(row["leaf"]) == seq + time + raw(row["prev"]) + raw(row["salt"]) + packed + raw(row["signature"])
    inner = raw(row["device"]) + bytes(24) + seq + bytes(24) + time + raw(row["schema"])
    struct = keccak256(raw(VECTORS["typeHash"]) + inner + raw(row["payload"]) + raw(row["prev"]))
    assert keccak256(b"\x19\x01" + raw(VECTORS["domainSeparator"]) + struct) == raw(row["digest"])


@pytest.mark.parametrize("row", VECTORS["readings"], ids=named)
def test_reading__when_encoded_by_eth_account__has_the_vector_s_digest(row):
    names = ("device", "seq", "time", "schema", "payload", "prev")
    types = ("bytes32", "uint64", "uint64", "bytes32", "bytes32", "bytes32")
    message = {n: int(row[n]) if t == "uint64" else raw(row[n]) for n, t in zip(names, types, strict=True)}
    signable = encode_typed_data(
        domain_data=VECTORS["domain"],
        message_types={"Reading": [{"name": n, "type": t} for n, t in zip(names, types, strict=True)]},
        message_data=message,
    )
    assert keccak256(b"\x19\x01" + signable.header + signable.body) == raw(row["digest"])
    if row["curve"] == "secp256k1":
        assert Account.sign_message(signable, raw(row["secret"])).signature == raw(row["signature"])


def test_reading_vectors__when_read_in_order__are_chains():
    for curve in ("secp256k1", "p256"):
        rows = [row for row in VECTORS["readings"] if row["curve"] == curve]
        assert [row["prev"] for row in rows] == ["0x" + "00" * 32, rows[0]["digest"], rows[1]["digest"]]
        assert [row["seq"] for row in rows] == ["0", "1", "2"]


@pytest.mark.parametrize("row", VECTORS["schemas"], ids=lambda row: row["document"]["fields"][0]["name"])
def test_schema__when_taken_from_a_vector__has_its_hash(row):
    schema = Schema.from_document(row["document"])
    assert schema.canonical() == row["canonical"].encode()
    assert str(schema.hash) == row["hash"]
    assert keccak256(row["canonical"].encode()) == raw(row["hash"])


@pytest.mark.parametrize("row", VECTORS["packing"], ids=lambda row: ",".join(row["values"])[:24])
def test_pack_values__when_taken_from_a_vector__gives_its_bytes(row):
    values = tuple(int(value) for value in row["values"])
    assert pack_values(values) == raw(row["packed"])
    assert unpack_values(raw(row["packed"])) == values


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: f"{row['curve']}: {row['why']}")
def test_verify_signature__when_a_vector_says_refuse__refuses(row):
    assert not verify_signature(raw(row["signer"]), raw(row["digest"]), raw(row["signature"]))
