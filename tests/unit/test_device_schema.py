"""pyiot_evm.device.schema: documents, canonical form, fixed-point numbers, guards."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.device import Field, Schema
from pyiot_evm.device.reading import MAX_INT128, MIN_INT128
from pyiot_evm.device.units import UNITS
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256

TEMPERATURE = Field("temperature", unit="Cel", scale=2, minimum="-40", maximum=85)
HUMIDITY = Field("humidity", unit="%RH", scale=1)
SCHEMA = Schema((TEMPERATURE, HUMIDITY))


def fields():
    def build(name, unit, scale, bounds, label):
        low, high = (None if bound is None else Decimal(bound).scaleb(-scale) for bound in bounds)
        return Field(name, unit=unit, scale=scale, minimum=low, maximum=high, label=label)

    whole = st.integers(-(10**20), 10**20)
    return st.builds(
        build,
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9:./_-]{0,20}", fullmatch=True),
        st.sampled_from(["", *sorted(UNITS)]),
        st.integers(0, 12),
        st.tuples(st.none() | whole, st.none() | whole).map(lambda b: b if None in b else tuple(sorted(b))),
        st.text(max_size=20).filter(str.isprintable),
    )


SCHEMAS = st.lists(fields(), min_size=1, max_size=5, unique_by=lambda field: field.name).map(tuple).map(Schema)


@given(schema=SCHEMAS)
def test_parse__when_given_canonical_bytes__gives_the_schema_back(schema):
    data = schema.canonical()
    assert Schema.parse(data) == schema
    assert Schema.from_document(json.loads(data)).hash == schema.hash == keccak256(data)


@given(
    scale=st.integers(0, 20),
    fixed=st.integers(MIN_INT128, MAX_INT128),
)
def test_fix__when_given_what_unfix_gave__is_its_reverse(scale, fixed):
    field = Field("value", scale=scale)
    value = field.unfix(fixed)
    assert field.fix(value) == field.fix(f"{value:f}") == fixed
    assert -value.as_tuple().exponent == scale


def test_canonical__when_fields_are_left_out__leaves_the_keys_out():
    assert Schema((Field("v"),)).canonical() == b'{"fields":[{"name":"v","scale":0}],"type":"pyiot schema 1"}'
    assert SCHEMA.canonical() == (
        b'{"fields":[{"maximum":"85.00","minimum":"-40.00","name":"temperature","scale":2,"unit":"Cel"},'
        b'{"name":"humidity","scale":1,"unit":"%RH"}],"type":"pyiot schema 1"}'
    )


def test_hash__when_limits_are_written_in_two_ways__is_the_same():
    assert Field("a", scale=2, minimum="1.5") == Field("a", scale=2, minimum=Decimal("1.50"))
    assert Schema((Field("a", scale=1, minimum=2),)).hash == Schema((Field("a", scale=1, minimum="2.0"),)).hash


def test_hash__when_the_order_of_fields_changes__changes():
    assert Schema((TEMPERATURE, HUMIDITY)).hash != Schema((HUMIDITY, TEMPERATURE)).hash


def test_fix__when_given_measurements__scales_them():
    assert SCHEMA.fix(["21.5", 45.67]) == (2150, 457)
    assert SCHEMA.fix([Decimal(-40), 0]) == (-4000, 0)
    assert SCHEMA.unfix((2150, 457)) == (Decimal("21.50"), Decimal("45.7"))


@pytest.mark.parametrize(("value", "fixed"), [(0.25, 2), (0.35, 4), (0.45, 4), (-0.25, -2), (1e-9, 0), (0.1 + 0.2, 3)])
def test_fix__when_given_a_float__rounds_half_to_even_as_it_is_written(value, fixed):
    assert Field("v", scale=1).fix(value) == fixed


@pytest.mark.parametrize("value", ["21.555", Decimal("0.001")])
def test_fix__when_text_has_more_decimals__raises(value):
    with pytest.raises(InputError, match=r"field temperature: .* has more than 2 decimals"):
        TEMPERATURE.fix(value)


@pytest.mark.parametrize("value", ["", "warm", "nan", "inf", float("nan"), float("-inf"), None, [1], "1e999", 10**60])
def test_fix__when_it_is_no_number_that_fits__raises(value):
    with pytest.raises(InputError, match=r"field humidity: not a number"):
        HUMIDITY.fix(value)


@pytest.mark.parametrize("value", ["85.01", "-40.01"])
def test_fix__when_out_of_range__raises_with_the_range(value):
    with pytest.raises(InputError, match=f"field temperature: {value} is not from -40.00 to 85.00 Cel"):
        TEMPERATURE.fix(value)


def test_fix__when_it_does_not_fit_int128__raises():
    with pytest.raises(InputError, match=r"field v: .* does not fit int128 with 30 decimals"):
        Field("v", scale=30).fix("1000000000")


@pytest.mark.parametrize("use", ["fix", "unfix", "check", "pack"])
def test_schema__when_the_number_of_values_is_another__raises(use):
    with pytest.raises(InputError, match="the schema has 2 fields, not 3"):
        getattr(SCHEMA, use)((1, 2, 3))


def test_pack__when_in_range__packs_and_unpacks():
    packed = SCHEMA.pack((2150, -3))
    assert packed == (2150).to_bytes(16, "big") + b"\xff" * 15 + b"\xfd"
    assert SCHEMA.unpack(packed) == (2150, -3)


def test_pack_and_unpack__when_out_of_range__raise():
    with pytest.raises(InputError, match=r"field temperature: 85.01 is not from"):
        SCHEMA.pack((8501, 0))
    with pytest.raises(InputError, match=r"field temperature: 85.01 is not from"):
        SCHEMA.unpack((8501).to_bytes(16, "big") + bytes(16))


@pytest.mark.parametrize("name", ["", "-a", "Temp (C)", "ä", "a" * 65, "a b", None, 7])
def test_field__when_the_name_is_not_senml__raises(name):
    with pytest.raises(InputError, match=r"not a SenML name|not a text"):
        Field(name)


@pytest.mark.parametrize("unit", ["Celsius", "°C", "c", 7])
def test_field__when_the_unit_is_not_senml__raises(unit):
    with pytest.raises(InputError, match=r"not a SenML unit|not a text"):
        Field("a", unit=unit)


@pytest.mark.parametrize("scale", [-1, 39, 1.0, "1", True])
def test_field__when_the_scale_is_out_of_range__raises(scale):
    with pytest.raises(InputError, match=r"field a: scale is from 0 to 38"):
        Field("a", scale=scale)


@pytest.mark.parametrize("label", ["a" * 129, "\x1b[31mred", "line\nline", "\u202eevil"])
def test_field__when_the_label_cannot_be_shown__raises(label):
    with pytest.raises(InputError, match="a label is at most 128 printable characters"):
        Field("a", label=label)


def test_field__when_minimum_is_over_maximum__raises():
    with pytest.raises(InputError, match=r"field a: minimum 2.0 is over maximum 1.0"):
        Field("a", scale=1, minimum=2, maximum=1)


def test_field__when_a_limit_has_too_many_decimals__raises():
    with pytest.raises(InputError, match=r"field a: 0.55 has more than 1 decimals"):
        Field("a", scale=1, minimum="0.55")


@pytest.mark.parametrize("count", [0, 248])
def test_schema__when_it_has_too_few_or_many_fields__raises(count):
    with pytest.raises(InputError, match=f"a schema has 1 to 247 fields, not {count}"):
        Schema(tuple(Field(f"f{i}") for i in range(count)))


def test_schema__when_a_name_stands_twice__raises():
    with pytest.raises(InputError, match="a schema names a field twice: a"):
        Schema((Field("a"), Field("b"), Field("a")))


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"type": "pyiot schema 1"},
        {"type": "pyiot schema 2", "fields": [{"name": "a", "scale": 0}]},
        {"type": "pyiot schema 1", "fields": [{"name": "a", "scale": 0}], "more": 1},
        {"type": "pyiot schema 1", "fields": {"name": "a"}},
        {"type": "pyiot schema 1", "fields": ["a"]},
        {"type": "pyiot schema 1", "fields": [{"name": "a"}]},
        {"type": "pyiot schema 1", "fields": [{"name": "a", "scale": 0, "colour": "red"}]},
        {"type": "pyiot schema 1", "fields": [{"name": "a", "scale": 0, "minimum": []}]},
    ],
)
def test_from_document__when_it_is_not_a_schema__raises(document):
    with pytest.raises(InputError):
        Schema.from_document(document)


@pytest.mark.parametrize(
    "data", [b"", b"[", b"\xff", b"null", b'{"type":"pyiot schema 1","fields":[{"name":"a","scale":0}]}']
)
def test_parse__when_the_bytes_are_not_canonical__raises(data):
    with pytest.raises(InputError, match=r"JSON|not a schema document|canonical"):
        Schema.parse(data)


def test_parse__when_a_limit_is_written_with_fewer_decimals__raises():
    data = SCHEMA.canonical().replace(b'"85.00"', b'"85"')
    with pytest.raises(InputError, match="not in its canonical form"):
        Schema.parse(data)


def test_parse__when_the_document_is_nested_without_end__raises():
    with pytest.raises(InputError, match="nested more than 16 deep"):
        Schema.parse(b'{"fields":' + b"[" * 200_000)


def test_parse__when_the_document_is_huge__raises():
    with pytest.raises(InputError, match="at most 262144 bytes"):
        Schema.parse(b" " * 262_145)
