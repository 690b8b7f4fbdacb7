"""pyiot_evm.identity.metadata: documents, hashes, what strangers write."""

import json

import pytest

from pyiot_evm.device import Field, Schema
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity import DeviceMetadata, Location, Sensor

WHOLE = DeviceMetadata(
    name="Wetterstation Dach",
    maker="Davis",
    model="Vantage Pro2",
    firmware="4.18",
    sensors=(Sensor("temperature", unit="Cel", description="2 m über Grund"), Sensor("count")),
    location=Location("52.5200", "-13.4050", "34"),
)


def test_parse__when_given_canonical_bytes__gives_the_metadata_back():
    assert DeviceMetadata.parse(WHOLE.canonical(), expected=WHOLE.hash) == WHOLE
    assert WHOLE.hash == keccak256(WHOLE.canonical())


def test_canonical__when_little_is_given__leaves_the_rest_out():
    assert DeviceMetadata("a").canonical() == b'{"name":"a","type":"pyiot device 1"}'
    assert json.loads(WHOLE.canonical())["location"] == {
        "latitude": "52.5200",
        "longitude": "-13.4050",
        "altitude": "34",
    }


def test_of_schema__when_given_a_schema__lists_its_fields_as_sensors():
    schema = Schema((Field("t", unit="Cel", scale=2, label="Temperatur"), Field("n")))
    metadata = DeviceMetadata.of_schema("a", schema, maker="b")
    assert metadata.sensors == (Sensor("t", "Cel", "Temperatur"), Sensor("n"))
    assert (metadata.name, metadata.maker) == ("a", "b")


def test_parse__when_the_hash_is_another__raises():
    with pytest.raises(VerificationError, match=f"hashes to {WHOLE.hash}, not 0x{'00' * 32}"):
        DeviceMetadata.parse(WHOLE.canonical(), expected=bytes(32))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b"[" * 60_000,
        b'{"name":"a","type":"something"}',
        b'{"more":1,"name":"a","type":"pyiot device 1"}',
        b'{"name":"","type":"pyiot device 1"}',
        b'{"type":"pyiot device 1"}',
        b'{"name":7,"type":"pyiot device 1"}',
        b'{"name":"a","sensors":{},"type":"pyiot device 1"}',
        b'{"name":"a","sensors":["t"],"type":"pyiot device 1"}',
        b'{"name":"a","sensors":[{"nome":"t"}],"type":"pyiot device 1"}',
        b'{"name":"a","sensors":[{"name":7}],"type":"pyiot device 1"}',
        b'{"location":{"latitude":"91","longitude":"0"},"name":"a","type":"pyiot device 1"}',
        b'{"location":{"latitude":1,"longitude":"0"},"name":"a","type":"pyiot device 1"}',
        b'{"location":{"latitude":"1"},"name":"a","type":"pyiot device 1"}',
        b'{"location":[],"name":"a","type":"pyiot device 1"}',
        b'{"name":"a", "type":"pyiot device 1"}',
        b'{"name":"\\u001b[31m","type":"pyiot device 1"}',
        b" " * 65_537,
    ],
)
def test_parse__when_a_stranger_wrote_it__raises(data):
    with pytest.raises(InputError):
        DeviceMetadata.parse(data)


@pytest.mark.parametrize(
    "place", [("90.1", "0"), ("0", "-180.5"), ("north", "0"), ("nan", "0"), ("0", "inf"), ("٣", "0"), ("", "0")]
)
def test_location__when_it_is_no_place__raises(place):
    with pytest.raises(InputError, match=r"not a (latitude|longitude)"):
        Location(*place)


def test_metadata__when_a_sensor_stands_twice__raises():
    with pytest.raises(InputError, match="sensors with different names"):
        DeviceMetadata("a", sensors=(Sensor("t"), Sensor("t")))


def test_metadata__when_a_text_is_too_long__raises():
    with pytest.raises(InputError, match="maker is at most 256 printable characters"):
        DeviceMetadata("a", maker="x" * 257)
