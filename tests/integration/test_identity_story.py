"""A device's life on a real node: registered, rotated, handed on, revoked, found again, done again after crashes."""

from types import SimpleNamespace

import pytest

from pyiot_evm.chain.contract_errors import (
    DeviceAlreadyRegistered,
    DeviceAlreadyRevoked,
    DeviceCallerNotOwner,
    DeviceSignatureInvalid,
    NonceAlreadyUsed,
)
from pyiot_evm.contracts.device_registry import DeviceRegistered, DeviceRotated, DeviceTransferred
from pyiot_evm.device import LocalSigner, Reading
from pyiot_evm.exceptions import ConfigurationError, InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity import DeviceMetadata, Devices, Scope, Sensor, SessionKey, did_key, did_pkh
from pyiot_evm.identity.lookups import FOREVER
from pyiot_evm.relay import carry, sign_call

METADATA = DeviceMetadata("roof station", maker="Davis", sensors=(Sensor("temperature", unit="Cel"),))
URI = "https://example.org/roof.json"


def test_get__when_nobody_registered_the_device__knows_its_genesis_key(devices, sensor):
    record = devices.get(sensor.device)
    assert (record.owner, record.registered_at, record.epoch, record.is_revoked) == (None, 0, 0, False)
    assert record.key == sensor.device
    assert devices.is_signer_at(sensor.device, sensor.signer_bytes, 0)
    devices.check_signer_at(sensor.device, sensor.signer_bytes, 0, 2**39)


def test_register__when_called__gives_the_device_its_owner_and_metadata(devnet, devices, owner, sensor):
    change = devices.register(sensor, metadata=METADATA, uri=URI)
    (event,) = change.receipt.events(DeviceRegistered, address=devnet.addresses.device_registry)
    assert (event.device, event.owner, event.signer) == (sensor.device, owner.address, sensor.signer_bytes)
    assert (event.metadata, event.uri) == (METADATA.hash, URI)
    record = devices.get(sensor.device)
    assert (record.owner, record.epoch, record.is_revoked, record.key) == (owner.address, 0, False, sensor.device)
    assert record.registered_at == devnet.now()


def test_register__when_it_is_registered_as_asked__sends_nothing(devices, sensor):
    assert devices.register(sensor).receipt.status == 1
    assert devices.register(sensor).receipt is None


def test_register__when_the_process_died_after_sending__takes_the_same_transaction(devnet, devices, owner, sensor):
    row = devices.sign_registration(sensor, owner=owner.address)
    call = devices.contract.register(row.registration, row.signer, row.signature, row.uri)
    sent = owner.send(call, key=f"register:{sensor.device}:{owner.address}:1")
    blind = Devices(devnet, account=owner)
    blind.get = lambda _device: SimpleNamespace(owner=None, is_revoked=False)  # the registry as it was before the crash
    assert blind.register(sensor).receipt.hash == sent.hash


def test_register__when_the_sent_transaction_reverted__can_be_tried_again(devnet, devices, owner, stranger, sensor):
    """A stale attempt's key once made every later attempt raise the old error. Each attempt has a key of its own."""
    row = devices.sign_registration(sensor, owner=owner.address, lifetime=1)
    devnet.increase_time(10)
    devnet.mine()
    call = devices.contract.register(row.registration, row.signer, row.signature, row.uri)
    late = owner.send(call, key=f"register:{sensor.device}:{owner.address}:1", gas=300_000)
    with pytest.raises(Exception, match="DeviceMessageExpired"):
        late.wait()
    assert devices.register(sensor).receipt.status == 1


def test_register__when_it_belongs_to_another__raises_who(devnet, devices, owner, stranger, sensor):
    devices.register(sensor)
    with pytest.raises(DeviceAlreadyRegistered) as caught:
        Devices(devnet, account=stranger).register(sensor)
    assert (caught.value.device, caught.value.owner) == (sensor.device, owner.address)


def test_register__when_a_stranger_sends_it__the_owner_is_who_the_device_named(devnet, owner, stranger, sensor):
    devices = Devices(devnet, account=stranger)
    devices.register(sensor, owner=owner.address)
    assert devices.get(sensor.device).owner == owner.address


def test_register_many__when_given_a_fleet__registers_it_in_batches_with_progress(devnet, devices, owner):
    fleet = [LocalSigner.create(curve) for curve in ("secp256k1", "p256") for _ in range(5)]
    devices.register(fleet[3])
    rows = [devices.sign_registration(signer, owner=owner.address, uri=f"u:{n}") for n, signer in enumerate(fleet)]
    told = []
    changes = devices.register_many(rows, batch=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 10), (5, 10), (9, 10), (10, 10)]
    assert [change.device for change in changes] == [signer.device for signer in fleet]
    assert [change.receipt is None for change in changes] == [n == 3 for n in range(10)]
    assert len({change.receipt.hash for change in changes if change.receipt}) == 3
    assert {record.device for record in devices.list(owner=owner.address)} == {signer.device for signer in fleet}
    again = devices.register_many(rows, progress=lambda done, total: told.append((done, total)))
    assert [change.receipt for change in again] == [None] * 10
    assert told[-1] == (10, 10)


def test_register_many__when_a_stranger_registers_one_row_first__the_fleet_still_gets_in(
    devnet, devices, owner, stranger
):
    fleet = [LocalSigner.create("p256") for _ in range(3)]
    rows = [devices.sign_registration(signer, owner=owner.address) for signer in fleet]
    call = devices.contract.register_many(rows)
    first = rows[1]
    stranger.transact(
        devices.contract.register(first.registration, first.signer, first.signature, "https://evil.example")
    )
    owner.transact(call)
    assert [record.owner for record in devices.get_many([s.device for s in fleet])] == [owner.address] * 3


def test_register_many__when_a_row_is_bad__the_error_names_its_device(devices, owner):
    from dataclasses import replace

    fleet = [LocalSigner.create("p256") for _ in range(3)]
    rows = [devices.sign_registration(signer, owner=owner.address) for signer in fleet]
    rows[1] = replace(rows[1], signature=rows[0].signature)
    with pytest.raises(DeviceSignatureInvalid) as caught:
        devices.register_many(rows)
    assert caught.value.device == fleet[1].device
    assert [record.owner for record in devices.get_many([s.device for s in fleet])] == [None] * 3
    with pytest.raises(InputError, match="a device stands in two rows"):
        devices.register_many([rows[0], rows[0]])


def test_rotate__when_the_owner_asks__the_new_key_signs_and_the_old_one_did(devnet, devices, owner, sensor):
    devices.register(sensor)
    new = LocalSigner.create("p256")
    before = devnet.now()
    devnet.increase_time(100)
    change = devices.rotate(sensor.device, new)
    now = devnet.now()
    (event,) = change.receipt.events(DeviceRotated, address=devices.contract.address)
    assert (event.device, event.epoch, event.signer) == (sensor.device, 1, new.signer_bytes)
    assert [(w.signer, w.start, w.end, w.is_current) for w in devices.signers(sensor.device)] == [
        (sensor.signer_bytes, 0, now, False),
        (new.signer_bytes, now, FOREVER, True),
    ]
    assert devices.is_signer_at(sensor.device, sensor.signer_bytes, before)
    assert not devices.is_signer_at(sensor.device, sensor.signer_bytes, now)
    assert not devices.is_signer_at(sensor.device, new.signer_bytes, before)
    assert devices.is_signer_at(sensor.device, new.signer_bytes, now)
    devices.check_signer_at(sensor.device, sensor.signer_bytes, 0, now - 1)
    with pytest.raises(VerificationError, match=f"from 0 until {now}, not from 0 to {now}"):
        devices.check_signer_at(sensor.device, sensor.signer_bytes, 0, now)
    assert devices.rotate(sensor.device, new).receipt is None


def test_rotate__when_both_keys_sign__anyone_may_send_it(devnet, devices, stranger, sensor):
    devices.register(sensor)
    new = LocalSigner.create("secp256k1")
    with pytest.raises(DeviceCallerNotOwner):
        Devices(devnet, account=stranger).rotate(sensor.device, new)
    change = Devices(devnet, account=stranger).rotate(sensor.device, new, old_signer=sensor)
    assert change.receipt.status == 1
    assert devices.get(sensor.device).key == keccak256(new.signer_bytes)


def test_transfer__when_the_owner_asks__hands_it_on(devnet, devices, owner, stranger, sensor):
    devices.register(sensor)
    change = devices.transfer(sensor.device, stranger.address)
    (event,) = change.receipt.events(DeviceTransferred, address=devices.contract.address)
    assert (event.device, event.from_, event.to, event.epoch) == (sensor.device, owner.address, stranger.address, 1)
    assert devices.transfer(sensor.device, stranger.address).receipt is None
    assert sensor.device in [record.device for record in devices.list(owner=stranger.address)]
    assert sensor.device not in [record.device for record in devices.list(owner=owner.address)]
    assert sensor.device in [record.device for record in devices.list()]
    with pytest.raises(DeviceCallerNotOwner):
        devices.transfer(sensor.device, owner.address)
    there_and_back = Devices(devnet, account=stranger).transfer(sensor.device, owner.address)
    assert there_and_back.receipt.status == 1
    assert devices.transfer(sensor.device, stranger.address).receipt.hash != change.receipt.hash


@pytest.mark.parametrize("by", ["owner", "device"])
def test_revoke__when_owner_or_device_asks__ends_it_for_ever(devnet, devices, stranger, sensor, by):
    devices.register(sensor)
    before = devnet.now()
    devnet.increase_time(50)
    if by == "owner":
        devices.revoke(sensor.device)
    else:
        Devices(devnet, account=stranger).revoke(sensor.device, signer=sensor)
    record = devices.get(sensor.device)
    assert (record.is_revoked, record.epoch, record.key) == (True, 1, bytes(32))
    assert devices.is_signer_at(sensor.device, sensor.signer_bytes, before)
    assert not devices.is_signer_at(sensor.device, sensor.signer_bytes, devnet.now())
    assert devices.revoke(sensor.device).receipt is None
    with pytest.raises(DeviceAlreadyRevoked):
        devices.transfer(sensor.device, stranger.address)
    assert devices.show(sensor.device).did_document["deactivated"] is True


def test_show__when_the_device_has_a_history__tells_it_with_its_did(devnet, devices, owner, sensor):
    devices.register(sensor, metadata=METADATA, uri=URI)
    devices.set_uri(sensor.device, "ipfs://new")
    new = LocalSigner.create("p256")
    devices.rotate(sensor.device, new)
    details = devices.show(sensor.device)
    assert (details.metadata, details.uri) == (METADATA.hash, "ipfs://new")
    assert [type(event).__name__ for event in details.history] == [
        "DeviceRegistered",
        "DeviceUriChanged",
        "DeviceRotated",
    ]
    if sensor.curve == "p256":
        assert details.did == did_key("p256", *sensor.public_point)
    else:
        assert details.did == did_pkh(sensor.address, chain_id=devnet.chain_id)
        known = devices.show(sensor.device, points={sensor.signer_bytes: sensor.public_point})
        assert known.did == did_key("secp256k1", *sensor.public_point)
    assert [method["type"] for method in details.did_document["verificationMethod"]] == ["Multikey"]
    assert details.did_document["controller"] == did_pkh(owner.address, chain_id=devnet.chain_id)


def test_show__when_the_device_was_never_registered__needs_its_first_key(devices, sensor):
    with pytest.raises(InputError, match="is not known: it is not registered"):
        devices.show(sensor.device)
    with pytest.raises(InputError, match="is not the first signer"):
        devices.show(sensor.device, genesis=LocalSigner.create().signer_bytes)
    details = devices.show(sensor.device, genesis=sensor.signer_bytes)
    assert (details.record.owner, details.uri, details.history) == (None, "", ())
    assert len(details.did_document["verificationMethod"]) == 1


def test_sessions__when_checked_against_the_registry__hold_until_the_epoch_changes(devnet, devices, stranger, sensor):
    devices.register(sensor)
    key = SessionKey(LocalSigner.create("p256"))
    credential = devices.issue_session(sensor, key.signer_bytes, scope=Scope.PUBLISH, lifetime=3600)

    def on_chain(scope):
        call = devices.contract.is_session_valid(
            credential.struct, credential.device_signer, credential.signature, scope
        )
        return devnet.call(call)

    assert devices.check_session(credential, scope=Scope.PUBLISH).device == sensor.device
    assert on_chain(Scope.PUBLISH) is True
    assert on_chain(Scope.COMMAND) is False
    with pytest.raises(VerificationError, match="its scope is 1, and 2 is needed"):
        devices.check_session(credential, scope=Scope.COMMAND)
    devices.transfer(sensor.device, stranger.address)
    with pytest.raises(VerificationError, match="it is of epoch 0, and the device is at 1"):
        devices.check_session(credential, scope=Scope.PUBLISH)
    assert on_chain(Scope.PUBLISH) is False
    renewed = devices.issue_session(sensor, key.signer_bytes, scope=Scope.PUBLISH, lifetime=3600)
    devices.check_session(renewed, scope=Scope.PUBLISH)
    devnet.increase_time(3700)
    devnet.mine()
    with pytest.raises(VerificationError, match="it ended at"):
        devices.check_session(renewed, scope=Scope.PUBLISH)


def test_issue_session__when_the_key_was_rotated_out__raises(devices, sensor):
    devices.register(sensor)
    new = LocalSigner.create("p256")
    devices.rotate(sensor.device, new)
    session = LocalSigner.create().signer_bytes
    with pytest.raises(InputError, match="this signer is not the present key"):
        devices.issue_session(sensor, session, scope=1)
    credential = devices.issue_session(new, session, scope=1, device=sensor.device)
    devices.check_session(credential, scope=1)


def test_relay__when_an_owner_without_ether_signs__a_relayer_carries_the_call(devnet, stranger, sensor):
    poor = LocalSigner.create()
    devices = Devices(devnet, account=stranger)
    devices.register(sensor, owner=poor.address)
    call = devices.contract.transfer(sensor.device, stranger.address)
    request = sign_call(call, signer=poor, domain=devices.messages.domain, deadline=devnet.now() + 600)
    stranger.transact(carry(request, devices.contract))
    assert devices.get(sensor.device).owner == stranger.address
    assert devnet.balance(poor.address) == 0
    with pytest.raises(NonceAlreadyUsed):
        stranger.transact(carry(request, devices.contract))


def test_a_reading_of_the_device__when_checked_with_the_registry__was_signed_in_its_window(devnet, devices, sensor):
    devices.register(sensor)
    reading = Reading.sign(sensor, seq=0, time=devnet.now() * 1000, schema=bytes(32), values=(1,))
    (window,) = devices.signers(sensor.device)
    assert reading.is_signed_by(window.signer)
    devices.check_signer_at(reading.device, window.signer, reading.time // 1000, reading.time // 1000)


def test_register__when_no_account_was_given__raises(devnet, sensor):
    with pytest.raises(ConfigurationError, match="no account was given"):
        Devices(devnet).register(sensor)
