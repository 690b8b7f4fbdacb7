"""Our hand-written EIP-712 against eth-account's general encoder, and against the standard's own example."""

from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.device.reading import MAX_INT128, MIN_INT128, Reading
from pyiot_evm.device.typed import (
    address_word,
    bytes_word,
    domain_separator,
    signed_word,
    struct_hash,
    type_hash,
    typed_digest,
    word,
)
from pyiot_evm.hashing import keccak256

WORDS = st.binary(min_size=32, max_size=32)
ADDRESSES = st.binary(min_size=20, max_size=20)


def digest_of(signable) -> bytes:
    return keccak256(b"\x19\x01" + signable.header + signable.body)


# The example of EIP-712 (https://eips.ethereum.org/EIPS/eip-712) and of its Example.js.
PERSON = type_hash("Person(string name,address wallet)")
MAIL = type_hash("Mail(Person from,Person to,string contents)Person(string name,address wallet)")


def person(name: str, wallet: str) -> bytes:
    return struct_hash(PERSON, bytes_word(name), address_word(bytes.fromhex(wallet)))


def test_typed_digest__when_given_the_standard_s_example__equals_its_published_hashes():
    separator = domain_separator(
        "Ether Mail", "1", chain_id=1, contract=bytes.fromhex("CcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC")
    )
    mail = struct_hash(
        MAIL,
        person("Cow", "CD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"),
        person("Bob", "bBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"),
        bytes_word("Hello, Bob!"),
    )
    assert MAIL.hex() == "a0cedeb2dc280ba39b857546d74f5549c3a1d7bdc2dd96bf881f76108e23dac2"
    assert separator.hex() == "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f"
    assert mail.hex() == "c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e"
    assert typed_digest(separator, mail).hex() == "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"


@given(
    name=st.text(max_size=30),
    version=st.text(max_size=5),
    chain_id=st.none() | st.integers(0, 2**256 - 1),
    contract=st.none() | ADDRESSES,
    device=WORDS,
    owner=ADDRESSES,
    amount=st.integers(0, 2**128 - 1),
    change=st.integers(-(2**127), 2**127 - 1),
    call=st.binary(max_size=100),
)
def test_typed_digest__when_given_any_domain_and_struct__equals_eth_account(
    name, version, chain_id, contract, device, owner, amount, change, call
):
    domain = {"name": name, "version": version}
    if chain_id is not None:
        domain["chainId"] = chain_id
    if contract is not None:
        domain["verifyingContract"] = contract
    fields = {"device": "bytes32", "owner": "address", "amount": "uint128", "change": "int128", "call": "bytes"}
    theirs = encode_typed_data(
        domain_data=domain,
        message_types={"Thing": [{"name": n, "type": t} for n, t in fields.items()]},
        message_data={"device": device, "owner": owner, "amount": amount, "change": change, "call": call},
    )
    kind = type_hash("Thing(bytes32 device,address owner,uint128 amount,int128 change,bytes call)")
    ours = struct_hash(kind, device, address_word(owner), word(amount, bits=128), signed_word(change), bytes_word(call))
    assert typed_digest(domain_separator(name, version, chain_id=chain_id, contract=contract), ours) == digest_of(
        theirs
    )


@given(
    device=WORDS,
    seq=st.integers(0, 2**64 - 1),
    time=st.integers(0, 2**64 - 1),
    schema=WORDS,
    prev=WORDS,
    salt=st.binary(min_size=16, max_size=16),
    values=st.lists(st.integers(MIN_INT128, MAX_INT128), min_size=1, max_size=9).map(tuple),
)
def test_reading_digest__when_given_any_reading__equals_eth_account(device, seq, time, schema, prev, salt, values):
    reading = Reading(device, seq, time, schema, salt, values, prev, bytes(64))
    fields = {
        "device": "bytes32",
        "seq": "uint64",
        "time": "uint64",
        "schema": "bytes32",
        "payload": "bytes32",
        "prev": "bytes32",
    }
    packed = b"".join((value % 2**128).to_bytes(16, "big") for value in values)
    theirs = encode_typed_data(
        domain_data={"name": "pyiot Reading", "version": "1"},
        message_types={"Reading": [{"name": n, "type": t} for n, t in fields.items()]},
        message_data={
            "device": device,
            "seq": seq,
            "time": time,
            "schema": schema,
            "payload": keccak256(salt + packed),
            "prev": prev,
        },
    )
    assert reading.digest == digest_of(theirs)
