"""The attacks of identity.md, through the SDK, on a real node: each ends with the exact error, and nothing changed."""

import signal
import subprocess
import sys

import pytest

from pyiot_evm.chain.contract_errors import (
    DeviceAlreadyRegistered,
    DeviceAlreadyRevoked,
    DeviceIdMismatch,
    DeviceMessageExpired,
    DeviceNotRegistered,
    DeviceOwnerZero,
    DeviceSignatureInvalid,
    SignerAlreadyUsed,
    SignerNotCurrent,
    SignerNotSupported,
)
from pyiot_evm.contracts.device_registry import Registration, RegistrationRow
from pyiot_evm.device import P256_VERIFIER, LocalSigner, device_id
from pyiot_evm.device.signers import P256_ORDER, SECP256K1_ORDER
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity import Devices, RegistryMessages, Scope
from pyiot_evm.types import ZERO_ADDRESS, Address, Bytes32, DeviceId

CURVES = ("secp256k1", "p256")
NO_HASH = Bytes32(bytes(32))


@pytest.fixture
def thief(funded):
    return funded()


@pytest.fixture
def thieves(devnet, thief):
    return Devices(devnet, account=thief)


def send(devices: Devices, row: RegistrationRow):
    return devices.account.transact(devices.contract.register(row.registration, row.signer, row.signature, row.uri))


def test_register__when_front_run_with_another_owner__needs_the_device_s_signature(
    devices, thieves, owner, thief, sensor
):
    row = devices.sign_registration(sensor, owner=owner.address)
    stolen = Registration(sensor.device, thief.address, NO_HASH, row.registration.deadline)
    with pytest.raises(DeviceSignatureInvalid) as caught:
        send(thieves, RegistrationRow(stolen, row.signer, row.signature, ""))
    assert caught.value.device == sensor.device
    metadata = Registration(sensor.device, owner.address, Bytes32(b"\1" * 32), row.registration.deadline)
    with pytest.raises(DeviceSignatureInvalid):
        send(thieves, RegistrationRow(metadata, row.signer, row.signature, ""))
    later = Registration(sensor.device, owner.address, NO_HASH, row.registration.deadline + 1)
    with pytest.raises(DeviceSignatureInvalid):
        send(thieves, RegistrationRow(later, row.signer, row.signature, ""))
    assert devices.get(sensor.device).owner is None


def test_register__when_it_is_somebody_else_s_key__needs_its_signature(devices, thieves, thief, sensor):
    own = thieves.sign_registration(LocalSigner.create(sensor.curve), owner=thief.address)
    claimed = Registration(sensor.device, thief.address, NO_HASH, own.registration.deadline)
    with pytest.raises(DeviceSignatureInvalid):
        send(thieves, RegistrationRow(claimed, sensor.signer_bytes, own.signature, ""))
    with pytest.raises(DeviceIdMismatch) as caught:
        send(thieves, RegistrationRow(claimed, own.signer, own.signature, ""))
    assert (caught.value.device, caught.value.key) == (sensor.device, keccak256(own.signer))


def test_register__when_it_is_sent_late_or_for_nobody__raises(devnet, devices, owner, sensor):
    row = devices.sign_registration(sensor, owner=owner.address, lifetime=1)
    devnet.increase_time(5)
    devnet.mine()
    with pytest.raises(DeviceMessageExpired):
        send(devices, row)
    with pytest.raises(DeviceOwnerZero):
        devices.register(sensor, owner=ZERO_ADDRESS)


def test_register__when_the_signature_is_mirrored__raises(devices, owner, sensor):
    row = devices.sign_registration(sensor, owner=owner.address)
    order = SECP256K1_ORDER if sensor.curve == "secp256k1" else P256_ORDER
    r, s, v = row.signature[:32], int.from_bytes(row.signature[32:64], "big"), row.signature[64:]
    mirrored = r + (order - s).to_bytes(32, "big") + (bytes([55 - v[0]]) if v else b"")
    with pytest.raises(DeviceSignatureInvalid):
        send(devices, RegistrationRow(row.registration, row.signer, mirrored, ""))


@pytest.mark.parametrize("point", [bytes(64), bytes(63) + b"\1", b"\xff" * 64], ids=["infinity", "off", "over p"])
def test_register__when_the_p256_key_is_no_point__raises(devnet, devices, owner, point):
    signer = P256_VERIFIER + point
    with pytest.raises(InputError, match="not a point of P-256"):
        device_id(signer)
    registration = Registration(DeviceId(keccak256(signer)), owner.address, NO_HASH, devnet.now() + 100)
    with pytest.raises((SignerNotSupported, DeviceSignatureInvalid)):
        send(devices, RegistrationRow(registration, signer, bytes(31) + b"\1" + bytes(31) + b"\1", ""))


def test_register__when_the_verifier_is_foreign__raises(devnet, devices, owner):
    sensor = LocalSigner.create("p256")
    foreign = devices.contract.address + sensor.signer_bytes[20:]
    device, deadline = DeviceId(keccak256(foreign)), devnet.now() + 100
    signature = sensor.sign_digest(
        devices.messages.register(device, owner=owner.address, metadata=NO_HASH, deadline=deadline)
    )
    row = RegistrationRow(Registration(device, owner.address, NO_HASH, deadline), foreign, signature, "")
    with pytest.raises(SignerNotSupported) as caught:
        send(devices, row)
    assert caught.value.signer == foreign
    assert not devices.is_signer_at(device, foreign, 0)


def test_register__when_signed_for_another_chain_or_registry__raises(devnet, devices, owner, sensor):
    deadline = devnet.now() + 100
    registration = Registration(sensor.device, owner.address, NO_HASH, deadline)
    for other in (
        RegistryMessages(chain_id=1, registry=devices.contract.address),
        RegistryMessages(chain_id=devnet.chain_id, registry=Address("0x" + "11" * 20)),
    ):
        digest = other.register(sensor.device, owner=owner.address, metadata=NO_HASH, deadline=deadline)
        with pytest.raises(DeviceSignatureInvalid):
            send(devices, RegistrationRow(registration, sensor.signer_bytes, sensor.sign_digest(digest), ""))


def test_rotate__when_it_goes_back_to_an_old_key__raises(devices, sensor):
    devices.register(sensor)
    new = LocalSigner.create("p256")
    devices.rotate(sensor.device, new)
    for old in (sensor,):
        with pytest.raises(SignerAlreadyUsed) as caught:
            devices.rotate(sensor.device, old)
        assert caught.value.key == keccak256(old.signer_bytes)
    third = LocalSigner.create("secp256k1")
    devices.rotate(sensor.device, third)
    with pytest.raises(SignerAlreadyUsed):
        devices.rotate(sensor.device, new)


def test_rotate__when_the_key_is_another_device_s__raises(devices, owner, sensor):
    other = LocalSigner.create("p256")
    devices.register(other)
    devices.register(sensor)
    with pytest.raises(SignerAlreadyUsed):
        devices.rotate(sensor.device, other)
    new = LocalSigner.create("p256")
    devices.rotate(sensor.device, new)
    with pytest.raises(SignerAlreadyUsed):
        devices.register(new)


def test_rotate__when_its_message_is_replayed_after_a_transfer__raises(devnet, devices, thieves, thief, sensor):
    devices.register(sensor)
    new, deadline = LocalSigner.create("p256"), devnet.now() + 10_000
    digest = devices.messages.rotate(sensor.device, new_signer=new.signer_bytes, epoch=0, deadline=deadline)
    signatures = new.sign_digest(digest), sensor.sign_digest(digest)
    devices.transfer(sensor.device, thief.address)
    with pytest.raises(DeviceSignatureInvalid) as caught:
        thief.transact(devices.contract.rotate(sensor.device, new.signer_bytes, deadline, signatures[0]))
    assert caught.value.epoch == 1
    with pytest.raises(DeviceSignatureInvalid):
        thief.transact(
            devices.contract.rotate_signed(
                sensor.device, new.signer_bytes, deadline, signatures[0], sensor.signer_bytes, signatures[1]
            )
        )
    assert devices.get(sensor.device).key == sensor.device


def test_rotate__when_the_stolen_old_key_asks__raises(devices, thieves, sensor):
    devices.register(sensor)
    new = LocalSigner.create("p256")
    devices.rotate(sensor.device, new)
    with pytest.raises(SignerNotCurrent) as caught:
        thieves.rotate(sensor.device, LocalSigner.create("p256"), old_signer=sensor)
    assert (caught.value.key, caught.value.current) == (sensor.device, keccak256(new.signer_bytes))
    with pytest.raises(SignerNotCurrent):
        thieves.revoke(sensor.device, signer=sensor)


def test_rotate__when_the_device_is_not_registered__raises(thieves, sensor):
    with pytest.raises(DeviceNotRegistered):
        thieves.rotate(sensor.device, LocalSigner.create("p256"), old_signer=sensor)


def test_revoke__when_its_message_is_replayed_after_a_transfer__raises(devices, thieves, thief, sensor):
    devices.register(sensor)
    signature = sensor.sign_digest(devices.messages.revoke(sensor.device, epoch=0))
    devices.transfer(sensor.device, thief.address)
    with pytest.raises(DeviceSignatureInvalid):
        thief.transact(devices.contract.revoke_signed(sensor.device, sensor.signer_bytes, signature))
    assert not devices.get(sensor.device).is_revoked


def test_revoke__when_done__leaves_the_past_as_it_was_and_ends_the_future(devnet, devices, sensor):
    devices.register(sensor)
    past = devnet.now()
    devnet.increase_time(1000)
    devices.revoke(sensor.device)
    now = devnet.now()
    for time, good in ((0, True), (past, True), (now - 1, True), (now, False), (now + 1, False), (2**39, False)):
        assert devices.is_signer_at(sensor.device, sensor.signer_bytes, time) is good


def test_register__when_the_device_was_revoked_or_sold_since__does_not_answer_with_the_old_receipt(
    devices, thief, sensor
):
    """The idempotency key of the first registration once made a later one look as if it had gone through."""
    devices.register(sensor)
    row = devices.sign_registration(sensor, owner=devices.account.address)
    devices.transfer(sensor.device, thief.address)
    for again in (lambda: devices.register(sensor), lambda: devices.register_many([row])):
        with pytest.raises(DeviceAlreadyRegistered) as caught:
            again()
        assert caught.value.owner == thief.address


def test_register__when_the_device_was_revoked__raises(devices, sensor):
    devices.register(sensor)
    row = devices.sign_registration(sensor, owner=devices.account.address)
    devices.revoke(sensor.device)
    for again in (lambda: devices.register(sensor), lambda: devices.register_many([row])):
        with pytest.raises(DeviceAlreadyRegistered):
            again()


def test_revoke__when_the_device_was_never_registered__keeps_it_from_ever_being(devices, sensor):
    devices.revoke(sensor.device, signer=sensor)
    with pytest.raises(DeviceAlreadyRevoked):
        devices.register(sensor)


def test_is_signer_at__when_code_lies_at_the_device_s_address__asks_no_code(devnet, devices, owner):
    sensor = LocalSigner.create("secp256k1")
    says_yes = bytes.fromhex("7f1626ba7e00000000000000000000000000000000000000000000000000000000" + "60005260206000f3")
    setter = "hardhat_setCode" if "hardhat" in devnet.client.lower() else "anvil_setCode"
    devnet.rpc(setter, str(sensor.address), "0x" + says_yes.hex())
    row = devices.sign_registration(sensor, owner=owner.address)
    with pytest.raises(DeviceSignatureInvalid):
        send(devices, RegistrationRow(row.registration, row.signer, bytes(65), ""))
    assert send(devices, row).status == 1


def test_check_session__when_an_old_key_signed_it__raises(devices, sensor):
    devices.register(sensor)
    session = LocalSigner.create("p256").signer_bytes
    stale = devices.issue_session(sensor, session, scope=Scope.PUBLISH)
    new = LocalSigner.create("p256")
    devices.rotate(sensor.device, new)
    with pytest.raises(VerificationError, match="it was signed by a key that is not the device's now"):
        devices.check_session(stale, scope=Scope.PUBLISH)
    fresh = devices.issue_session(new, session, scope=Scope.PUBLISH, device=sensor.device)
    devices.revoke(sensor.device)
    with pytest.raises(VerificationError, match="it was signed by a key that is not the device's now"):
        devices.check_session(fresh, scope=Scope.PUBLISH)


def test_is_signer_at__when_a_session_key_signed_a_reading__says_no(devices, sensor):
    devices.register(sensor)
    session = LocalSigner.create("p256")
    devices.issue_session(sensor, session.signer_bytes, scope=Scope.PUBLISH)
    assert not devices.is_signer_at(sensor.device, session.signer_bytes, devices.chain.now())
    with pytest.raises(VerificationError, match=r"signs for .* from 0 until 0"):
        devices.check_signer_at(sensor.device, session.signer_bytes, 0, 0)


KILLED = """
import os, signal, sys
from pyiot_evm.chain import connect
from pyiot_evm.chain.transactions import Account, Pending
from pyiot_evm.device import LocalSigner
from pyiot_evm.identity import Devices
url, home, secret, device, where = sys.argv[1:]
def die(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)
if where == "before sending":
    Account.send = die
elif where == "before waiting":
    Pending.wait = die
chain = connect(url, home=home)
devices = Devices(chain, account=chain.account(LocalSigner.from_secret(bytes.fromhex(secret))))
change = devices.register(LocalSigner.from_secret(bytes.fromhex(device), "p256"))
print("none" if change.receipt is None else change.receipt.hash)
"""


def test_register__when_the_process_is_killed_at_any_step__ends_with_one_registration(devnet, owner, tmp_path):
    sensor = LocalSigner.create("p256")

    def run(where):
        command = [sys.executable, "-c", KILLED, devnet.url, str(tmp_path)]
        command += [owner.signer.secret.hex(), sensor.secret.hex(), where]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    before = devnet.rpc("eth_getTransactionCount", str(owner.address), "latest")
    assert run("before sending").returncode == -signal.SIGKILL
    assert run("before waiting").returncode == -signal.SIGKILL
    last = run("nowhere")
    assert last.returncode == 0, last.stderr
    assert Devices(devnet).get(sensor.device).owner == owner.address
    after = devnet.rpc("eth_getTransactionCount", str(owner.address), "latest")
    assert int(after, 16) - int(before, 16) == 1
