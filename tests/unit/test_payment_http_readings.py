"""What a gateway sold, checked without a chain: every reading is the device's, and no other ones came."""

import json

import pytest

from pyiot_evm.device import Field, LocalSigner, Reading, Schema
from pyiot_evm.exceptions import InputError, TransportError, VerificationError
from pyiot_evm.identity.lookups import SignerWindow
from pyiot_evm.payment.http_client import Bought
from pyiot_evm.payment.http_readings import SoldDevice
from pyiot_evm.payment.stream_checks import ReadingCheck

KEY, STRANGER = LocalSigner.create("p256"), LocalSigner.create("p256")
SCHEMA = Schema((Field("temperature", unit="Cel", scale=2),))
DEVICE = SoldDevice(
    "http://gateway", SCHEMA, ReadingCheck(KEY.device, lambda: [SignerWindow(KEY.signer_bytes, 0, 2**40 - 1)])
)


def chained(count, signer=KEY):
    readings = []
    for seq in range(count):
        place = {"seq": seq, "time": 1000 * seq, "schema": SCHEMA.hash, "values": (2000 + seq,)}
        link = {"prev": readings[-1].digest} if readings else {}
        readings.append(Reading.sign(signer, device=KEY.device, **place, **link))
    return readings


READINGS = chained(5)


def answer(sold, **changes):
    rows = [{"seq": reading.seq, "leaf": "0x" + reading.leaf().hex()} for reading in sold]
    return json.dumps({"device": str(KEY.device), "readings": rows} | changes).encode()


def bought(body, url="http://gateway/v1/devices/0x/latest", status=200):
    return Bought(status, body, "application/json", 100, url)


def test_readings__when_they_are_the_device_s__returns_them_in_order_with_their_values():
    got = bought(answer(READINGS[1:4]), DEVICE.rows(1, 3)).readings(DEVICE, before=READINGS[0])
    assert got == READINGS[1:4]
    assert DEVICE.values(got[0]) == {"temperature": SCHEMA.unfix((2001,))[0]}
    assert bought(answer(READINGS[4:])).readings(DEVICE) == READINGS[4:]


@pytest.mark.parametrize(
    "came",
    [
        READINGS[0:3],
        READINGS[1:3],
        READINGS[1:5],
        [READINGS[1], READINGS[3], READINGS[2]],
        [READINGS[1], READINGS[1], READINGS[3]],
        [*READINGS[1:3], chained(4, STRANGER)[3]],
        [],
    ],
    ids=["others", "fewer", "more", "another order", "twice", "a stranger's", "none"],
)
def test_readings__when_others_came_than_were_bought__refuses(came):
    with pytest.raises(VerificationError):
        bought(answer(came), DEVICE.rows(1, 3)).readings(DEVICE)


def test_readings__when_one_does_not_follow_the_one_before__refuses():
    with pytest.raises(VerificationError):
        bought(answer(READINGS[2:3])).readings(DEVICE, before=READINGS[0])
    other = Reading.sign(KEY, seq=0, time=7, schema=SCHEMA.hash, values=(1,))
    with pytest.raises(VerificationError, match="does not follow"):
        bought(answer(READINGS[1:2])).readings(DEVICE, before=other)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nonsense", b"[]", b"{}", b"\xff", b"[" * 100_000,
        answer(READINGS, device="0x" + "11" * 32), answer(READINGS, device=5), answer(READINGS, readings=None),
        answer(READINGS, readings=[{"seq": 0}]), answer(READINGS, readings=[{"seq": 0, "leaf": "0x"}]),
        answer(READINGS, readings=[{"seq": 0, "leaf": 5}]), answer(READINGS, readings=[{"seq": "x", "leaf": "0x00"}]),
    ],
    ids=range(13),  # the bodies hold a new key each time, and every worker must collect the same names
)  # fmt: skip
def test_readings__when_the_answer_is_garbage__refuses(body):
    with pytest.raises(VerificationError):
        bought(body).readings(DEVICE)


def test_readings__when_the_server_answered_an_error__refuses():
    with pytest.raises(VerificationError, match="answered 404"):
        bought(answer(READINGS), status=404).readings(DEVICE)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"devices": [{}]}', b'{"devices": [{"device": "0x"}]}', b"[" * 9999]
)
def test_described__when_the_gateway_makes_no_sense__says_so(body):
    with pytest.raises(TransportError, match="makes no sense"):
        SoldDevice.described(None, "http://gateway", body)


def test_described__when_nothing_is_sold__says_so():
    with pytest.raises(InputError, match="sells no readings of any device"):
        SoldDevice.described(None, "http://gateway", b'{"devices": []}')
