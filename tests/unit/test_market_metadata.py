"""The metadata document, and JSON that strangers write."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.device.schema import Field, Schema
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.csv_style import CsvStyle
from pyiot_evm.market.documents import (
    OFFER_FIELDS,
    hex_text,
    read_fields,
    read_hex,
    read_number,
    write_fields,
)
from pyiot_evm.market.metadata import Licence, Metadata, Statistics, is_plain_name, strict_json
from pyiot_evm.market.offers import Offer, blank_offer

READINGS = Metadata(
    kind="readings",
    title="Occupancy 6005",
    description="Road occupancy.\nFive minutes.",
    tags=("road", "occupancy"),
    licence=Licence(name="CC-BY-4.0", purpose="research", retention="one year", derivatives="results only"),
    rows=2,
    schema=Schema((Field("value", unit="%", scale=2),)),
    first_time=1,
    last_time=2,
    statistics=(Statistics("3.06", "6.44", "4.75"),),
    sample=((1, 306), (2, -644)),
    csv=CsvStyle(numbers=("shortest",), header=("timestamp", "value")),
)
BLOB = Metadata(kind="blob", title="A model", size=2048, filename="model.bin", media_type="application/octet-stream")


@pytest.mark.parametrize("metadata", [READINGS, BLOB])
def test_parse__when_written_by_us__gives_the_same_document(metadata):
    assert Metadata.parse(metadata.canonical()) == metadata


def test_canonical__when_a_blob__is_these_bytes():
    assert BLOB.canonical() == (
        b'{"filename":"model.bin","kind":"blob","media_type":"application/octet-stream","size":2048,'
        b'"title":"A model","type":"pyiot data set 1"}'
    )
    assert BLOB.hash == keccak256(BLOB.canonical())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "stream"}, "readings or a blob"),
        ({"title": "x" * 201}, "a title is one line"),
        ({"title": "two\nlines"}, "a title is one line"),
        ({"description": 5}, "the metadata's texts"),
        ({"description": "x" * 20_000}, "the metadata's texts"),
        ({"tags": ("x",) * 17}, "at most 16 tags"),
        ({"tags": ("",)}, "at most 16 tags"),
        ({"tags": ("x" * 49,)}, "at most 16 tags"),
        ({"filename": "../../etc/passwd"}, "not a file's own name"),
        ({"filename": ".bashrc"}, "not a file's own name"),
        ({"rows": -1}, "rows is a number"),
        ({"rows": True}, "rows is a number"),
        ({"last_time": 1 << 64}, "last_time is a number"),
        ({"schema": None}, "readings have a schema"),
        ({"statistics": READINGS.statistics * 2}, "one line of statistics"),
        ({"sample": ((1,),)}, "a sample has"),
        ({"sample": ((1, "2"),)}, "values are integers"),
        ({"sample": ((1, 2),) * 101}, "a sample has at most 100 rows"),
        ({"csv": CsvStyle(numbers=("fixed", "fixed"))}, "one number style for each field"),
    ],
)
def test_metadata__when_a_field_is_not_what_it_must_be__raises(change, message):
    with pytest.raises(InputError, match=message):
        replace(READINGS, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "pyiot data set 2"},
        {"surprise": 1},
        {"licence": {"surprise": "x"}},
        {"licence": "MIT"},
        {"schema": []},
        {"schema": {"type": "pyiot schema 1", "fields": []}},
        {"sample": [[1, 306]]},
        {"sample": [["1", "0x5"]]},
        {"sample": [["1", "9" * 100]]},
        {"sample": 5},
        {"statistics": [{"minimum": "1"}]},
        {"statistics": [{"minimum": 1, "maximum": 2, "mean": 3}]},
        {"csv": {"numbers": ["fixed"]}},
        {"tags": [1]},
        {"tags": 7},
        {"title": None},
    ],
)
def test_from_document__when_a_stranger_wrote_nonsense__raises(change):
    with pytest.raises(VerificationError, match=r"not a metadata document|not an integer"):
        Metadata.from_document({**READINGS.document(), **change})


def test_parse__when_not_in_canonical_form__raises():
    with pytest.raises(VerificationError, match="not in its canonical form"):
        Metadata.parse(json.dumps(READINGS.document(), indent=1).encode())


def test_parse__when_an_empty_field_is_written_out__raises():
    document = json.dumps({**BLOB.document(), "rows": 0}, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(VerificationError, match="not in its canonical form"):
        Metadata.parse(document)


@pytest.mark.parametrize("name", ["a/b", "a\\b", "..", ".", ".hidden", "a\0b", "a\nb", "c:d", "x" * 256, "a|b"])
def test_is_plain_name__when_it_could_leave_its_folder__is_false(name):
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", ["", "model.bin", "Ähre 2024.csv", "a..b"])
def test_is_plain_name__when_plain__is_true(name):
    assert is_plain_name(name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b'{"a":1.5}', "a number that is no integer"),
        (b'{"a":1e9}', "a number that is no integer"),
        (b'{"a":NaN}', "a number that is no integer"),
        (b'{"a":Infinity}', "a number that is no integer"),
        (b'{"a":1,"a":2}', "a key twice"),
        (b'{"a":{"b":1,"b":1}}', "a key twice"),
        (b'{"a":-0}', "shortest form"),
        (b'{"a":' + b"9" * 100_000 + b"}", "shortest form"),
        (b'{"a":' + b"[" * 100_000, "nested more than 16 deep"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "nested more than 16 deep"),
        (b'{"a":"\xff"}', "not JSON"),
    ],
)
def test_strict_json__when_hostile__raises(data, message):
    with pytest.raises(VerificationError, match=message):
        strict_json(data)


@pytest.mark.parametrize(
    "text", ['"' + "[" * 40 + '"', '"\\\\" , "b":"' + "{" * 40 + '"', '"\\"' + "[" * 40 + '"', "[1]," * 1 + '"c":2']
)
def test_strict_json__when_brackets_stand_in_texts__does_not_count_them(text):
    data = ('{"a":' + text + "}").encode()
    assert strict_json(data) == json.loads(data)


@given(data=st.binary(max_size=60) | st.text(alphabet='{}[]":,0a\\ ', max_size=30).map(str.encode))
def test_strict_json__when_any_bytes__takes_exactly_what_json_takes(data):
    """The document holds no fraction and no key twice, so that nothing but JSON itself decides."""
    try:
        expected = json.loads(data.decode())
    except ValueError:
        expected = None
    keys_are_single = data.count(b":") <= 1
    if isinstance(expected, dict) and keys_are_single and b"-" not in data and b"." not in data:
        assert strict_json(data) == expected
    elif not isinstance(expected, dict):
        with pytest.raises(VerificationError):
            strict_json(data)


OFFER = blank_offer(seller=b"\x01" * 20, token=b"\x02" * 20, price=(1 << 128) - 1, salt=(1 << 256) - 1)


def test_read_fields__when_written_by_us__gives_the_same_struct():
    document = json.loads(json.dumps(write_fields(OFFER, OFFER_FIELDS)))
    assert Offer(**read_fields(document, OFFER_FIELDS)) == OFFER
    assert document["price"] == str((1 << 128) - 1)
    assert document["expiry"] == (1 << 40) - 1


@pytest.mark.parametrize(
    "change",
    [
        {"price": -1},
        {"price": "01"},
        {"price": "-1"},
        {"price": str(1 << 128)},
        {"price": None},
        {"price": True},
        {"price": "9" * 200},
        {"seller": "0x01"},
        {"seller": "not hex"},
        {"seller": 5},
        {"terms": "0x" + "zz" * 32},
        {"surprise": 1},
    ],
)
def test_read_fields__when_a_stranger_wrote_nonsense__raises(change):
    with pytest.raises(VerificationError):
        read_fields({**write_fields(OFFER, OFFER_FIELDS), **change}, OFFER_FIELDS)


@pytest.mark.parametrize("document", [None, [], {}, {"seller": "0x" + "00" * 20}])
def test_read_fields__when_fields_are_missing__raises(document):
    with pytest.raises(VerificationError, match="exactly the fields"):
        read_fields(document, OFFER_FIELDS)


def test_read_hex__when_any_length__takes_what_hex_text_wrote():
    assert read_hex(hex_text(b"")) == b""
    assert read_hex(hex_text(b"\x00\xff")) == b"\x00\xff"
    with pytest.raises(VerificationError, match="not hex of any length"):
        read_hex("0x0")


def test_read_number__when_at_the_limits__takes_them():
    assert read_number((1 << 40) - 1, bits=40) == read_number(str((1 << 40) - 1), bits=40)
    with pytest.raises(VerificationError, match="not a uint40"):
        read_number(1 << 40, bits=40)


def test_from_document__when_a_text_holds_half_a_surrogate_pair__raises():
    data = b'{"description":"\\ud800","kind":"blob","size":1,"title":"x","type":"pyiot data set 1"}'
    with pytest.raises(VerificationError, match="surrogate"):
        Metadata.parse(data)
