"""pyiot_evm.device.lock: what opens it, what ends a rental, every guard in its order, and what it remembers."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyiot_evm.device import KeystoreSigner, LocalSigner, verify_signature
from pyiot_evm.device.keystore import LIGHT
from pyiot_evm.device.lock import Lock
from pyiot_evm.device.lock_journal import LockJournal
from pyiot_evm.device.lock_messages import AccessError, AccessKey, Answer, Challenge, Purpose, Refusal
from pyiot_evm.device.lock_policy import LockHardware, LockPolicy, hash_in, number_in
from pyiot_evm.device.lock_slots import Slot
from pyiot_evm.device.rental_messages import CheckIn, CheckOut
from pyiot_evm.exceptions import (
    ConfigurationError,
    ConsistencyError,
    InputError,
    SigningError,
    TransportError,
)
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import TermsId

HALF_ORDER_S = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def refused(reason, act, *args):
    """Run an act that must be refused for exactly this reason, and return the error."""
    with pytest.raises(AccessError) as caught:
        act(*args)
    assert caught.value.reason is reason, caught.value
    return caught.value


# What opens it


@pytest.mark.parametrize("curve", ["p256", "secp256k1"])
def test_answer__when_the_key_is_right_and_in_its_slot__opens_and_signs_the_check_in(door, curve):
    door = door(signer=LocalSigner.create(curve))
    key = door.rent()
    said = door.try_it(key)
    assert door.openings == 1
    assert said.statement == CheckIn(key.terms_id, door.now, door.condition)
    assert said.signer == door.signer.signer_bytes
    assert verify_signature(said.signer, door.messages.digest(said.statement), said.signature)
    assert len(said.signature) == (64 if curve == "p256" else 65)
    assert [(one.what, one.outcome) for one in door.lock.log()] == [("program", "ok"), ("open", "ok")]


def test_answer__when_the_key_comes_again__opens_again_and_gives_the_same_check_in(door):
    door = door()
    key = door.rent()
    first = door.try_it(key)
    door.now, door.condition = door.now + 600, keccak256(b"another photo")
    assert door.try_it(key) == first
    assert door.openings == 2
    assert door.lock.statements(key.terms_id) == (first,)


def test_answer__when_the_purpose_is_check_out__signs_the_units_since_the_check_in_and_ends_the_rental(door):
    door = door()
    key = door.rent()
    check_in = door.try_it(key)
    door.now, door.meter, door.condition = door.now + 1800, 1014, keccak256(b"after")
    said = door.try_it(key, Purpose.CHECK_OUT)
    assert said.statement == CheckOut(key.terms_id, door.now, 14, keccak256(b"after"))
    assert door.messages.is_signed(said)
    assert door.lock.statements(key.terms_id) == (check_in, said)
    assert door.openings == 1
    for purpose in Purpose:
        refused(Refusal.CHECKED_OUT, door.lock.challenge, key.terms_id, purpose)


def test_challenge__when_asked_twice__is_the_same_until_half_of_its_life_is_over(door):
    door = door()
    key = door.rent()
    first = door.lock.challenge(key.terms_id, Purpose.OPEN)
    assert (first.device, first.counter, first.expiry) == (door.lock.device, 1, door.now + 60)
    door.now += 30
    assert door.lock.challenge(key.terms_id, Purpose.OPEN) == first
    door.now += 1
    second = door.lock.challenge(key.terms_id, Purpose.OPEN)
    assert (second.counter, second.expiry) == (2, door.now + 60)
    assert second.nonce != first.nonce


# Every guard, in its order


def test_answer__when_it_is_for_another_device__is_refused(door):
    door = door()
    key = door.rent()
    answer = key.answer(door.lock.challenge(key.terms_id, Purpose.OPEN))
    refused(Refusal.OTHER_DEVICE, door.lock.answer, replace(answer, device=bytes(32)))


def test_answer__when_the_slot_is_unknown__is_refused(door):
    door = door()
    stranger = AccessKey(door.lock.device, TermsId(b"\x07" * 32), LocalSigner.create().secret)
    refused(Refusal.UNKNOWN_SLOT, door.lock.challenge, stranger.terms_id, Purpose.OPEN)
    answer = Answer(door.lock.device, stranger.terms_id, Purpose.OPEN, 1, bytes(65))
    refused(Refusal.UNKNOWN_SLOT, door.lock.answer, answer)


def test_answer__when_no_such_challenge_was_made__is_refused(door):
    door = door()
    key = door.rent()
    forged = Challenge(door.lock.device, key.terms_id, Purpose.OPEN, 9, bytes(32), door.now + 60)
    refused(Refusal.NO_CHALLENGE, door.lock.answer, key.answer(forged))


def test_answer__when_it_comes_twice_or_late__is_refused(door):
    door = door()
    key = door.rent()
    answer = key.answer(door.lock.challenge(key.terms_id, Purpose.OPEN))
    door.lock.answer(answer)
    refused(Refusal.OLD_CHALLENGE, door.lock.answer, answer)
    late = key.answer(door.lock.challenge(key.terms_id, Purpose.OPEN))
    door.now += 60
    error = refused(Refusal.CHALLENGE_EXPIRED, door.lock.answer, late)
    assert error.detail == f"it was good until {door.now}, and it is {door.now}"
    assert error.retryable


@pytest.mark.parametrize("spoil", ["high s", "other key", "other purpose", "v", "zero"])
def test_answer__when_the_signature_is_not_the_access_key_s_over_this_challenge__is_refused(door, spoil):
    door = door()
    key = door.rent()
    challenge = door.lock.challenge(key.terms_id, Purpose.OPEN)
    good = key.answer(challenge)
    r, s, v = good.signature[:32], int.from_bytes(good.signature[32:64], "big"), good.signature[64]
    signature = {
        "high s": r + (HALF_ORDER_S - s).to_bytes(32, "big") + bytes([55 - v]),
        "other key": replace(key, secret=LocalSigner.create().secret).answer(challenge).signature,
        "other purpose": key.answer(replace(challenge, purpose=Purpose.CHECK_OUT)).signature,
        "v": good.signature[:64] + bytes([v - 27]),
        "zero": bytes(65),
    }[spoil]
    refused(Refusal.WRONG_KEY, door.lock.answer, replace(good, signature=signature))
    assert door.openings == 0
    door.lock.answer(good)  # the stranger did not spoil the renter's challenge
    assert door.openings == 1


@pytest.mark.parametrize(
    ("offset", "reason"),
    [(-61, Refusal.TOO_EARLY), (-60, None), (0, None), (3659, None), (3660, Refusal.ENDED), (10**6, Refusal.ENDED)],
)
def test_challenge__when_it_is_not_the_time__is_refused_by_exactly_the_tolerance(door, offset, reason):
    door = door(now=1_799_999_000)
    key = door.rent()
    door.now = door.START + offset
    if reason is None:
        assert isinstance(door.try_it(key).statement, CheckIn)
    else:
        refused(reason, door.lock.challenge, key.terms_id, Purpose.OPEN)


def test_answer__when_the_slot_ends_between_challenge_and_answer__is_refused_with_the_reason(door):
    door = door()
    key = door.rent()
    door.now = door.END + 59
    answer = key.answer(door.lock.challenge(key.terms_id, Purpose.OPEN))
    door.now += 1
    refused(Refusal.ENDED, door.lock.answer, answer)
    assert door.openings == 0


def test_challenge__when_nobody_came_in__gives_none_for_a_check_out(door):
    door = door()
    key = door.rent()
    refused(Refusal.NOT_CHECKED_IN, door.lock.challenge, key.terms_id, Purpose.CHECK_OUT)


def test_check_out__when_the_renter_is_late__is_signed_with_the_late_time(door):
    door = door()
    key = door.rent()
    door.try_it(key)
    door.now = door.END + 3000
    assert door.try_it(key, Purpose.CHECK_OUT).statement.time == door.END + 3000


# The owner


def test_program__when_the_slot_is_the_owner_s__is_taken_once(door):
    door = door()
    secret = LocalSigner.create().secret
    slot = door.slot(secret)
    assert door.lock.program(slot) == door.lock.program(slot) == slot.terms_id
    assert [use.slot for use in door.lock.uses()] == [slot]
    assert Slot.of(slot.fields()) == slot


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"owner": b"\x05" * 20}, Refusal.OTHER_OWNER),
        ({"signed_by": LocalSigner.create()}, Refusal.NOT_SIGNED),
        ({"device": b"\x05" * 32}, Refusal.OTHER_DEVICE),
        ({"signer_hash": b"\x05" * 32}, Refusal.OTHER_SIGNER),
        ({"start": 1, "end": 1_800_000_060}, Refusal.ENDED),
    ],
)
def test_program__when_the_terms_are_not_for_this_lock__is_refused(door, changes, reason):
    door = door()
    refused(reason, door.lock.program, door.slot(LocalSigner.create().secret, **changes))
    assert door.lock.uses() == ()
    assert door.lock.log()[-1].outcome == reason


def test_program__when_an_access_key_comes_a_second_time__is_refused(door):
    door = door()
    secret = LocalSigner.create().secret
    door.lock.program(door.slot(secret))
    refused(Refusal.KEY_USED, door.lock.program, door.slot(secret, salt=2, start=door.END, end=door.END + 60))


def test_program__when_the_lock_is_full__is_refused(door):
    door = door(policy=LockPolicy(max_slots=2))
    door.rent(salt=1)
    door.rent(salt=2)
    refused(Refusal.FULL, door.lock.program, door.slot(LocalSigner.create().secret, salt=3))


def test_slot__when_its_terms_can_be_no_escrow_s__is_no_slot(door):
    door = door()
    secret = LocalSigner.create().secret
    with pytest.raises(InputError, match="the slot has no length"):
        door.slot(secret, start=5, end=5)
    for bad in ({"key_x": 5, "key_y": 5}, {"key_x": 0}, {"key_x": HALF_ORDER_S}, {"key_y": 1 << 255}):
        with pytest.raises(InputError, match="the access key's point is not on secp256k1"):
            door.slot(secret, **bad)
    fields = door.slot(secret).fields()
    for bad in (fields | {"signature": "0x" + "00" * 64}, fields | {"terms": {}}, fields | {"format": "x"}, [], 7):
        with pytest.raises(InputError):
            Slot.of(bad)


# The hardware


def test_open__when_the_bolt_does_not_move__takes_the_check_in_back(door):
    door = door()
    key = door.rent()
    bolt, door.unlock = door.unlock, partial(os.stat, "/nowhere")
    door.unplugged()
    with pytest.raises(FileNotFoundError):
        door.try_it(key)
    assert door.lock.statements(key.terms_id) == ()
    door.unlock = bolt
    door.unplugged()
    door.now += 5
    assert door.try_it(key).statement.time == door.now
    assert [one.outcome for one in door.lock.log()] == ["ok", "ok", "jammed", "ok"]


def test_open__when_nobody_reads_the_log_any_more__moves_the_bolt_all_the_same(door):
    """Its reader's pipe broke after the check-in was durable: the bolt stayed shut, and the renter paid."""
    door = door()
    key, told = door.rent(), []

    def broken_pipe(entry):
        told.append(entry)
        raise BrokenPipeError(32, "Broken pipe")

    door.unplugged()
    door.lock.close()
    hardware = LockHardware(unlock=door.unlock)
    door.lock = Lock.open(
        door.path,
        signer=door.signer,
        owner=door.owner.address,
        clock=lambda: door.now,
        hardware=hardware,
        watch=broken_pipe,
    )
    assert door.try_it(key).statement.time == door.now
    assert (door.openings, [one.outcome for one in told]) == (1, ["ok"])


def test_open__when_the_key_does_not_sign__does_not_open(door):
    door = door()
    key = door.rent()
    door.signer.close()
    with pytest.raises(SigningError, match="the lock's key does not sign: the signer is closed"):
        door.try_it(key)
    assert door.openings == 0
    assert door.lock.log()[-1].outcome == Refusal.SIGNER_FAILED


def test_check_out__when_meter_and_sensors_fail_or_go_back__counts_what_was_known(door):
    def broken():
        raise OSError("no bus")

    door = door()
    key = door.rent()
    door.try_it(key)
    door.meter, door.now = 1020, door.now + 901
    door.lock.tick()  # notes the meter
    door.lock.close()
    hardware = LockHardware(condition=broken, meter=broken)
    door.lock = Lock.open(
        door.path, signer=door.signer, owner=door.owner.address, hardware=hardware, clock=lambda: door.now
    )
    assert door.try_it(key, Purpose.CHECK_OUT).statement == CheckOut(key.terms_id, door.now, 20, bytes(32))


def test_check_out__when_the_next_renter_came_in__counts_only_one_s_own_use(door):
    door = door()
    first = door.rent()
    second = door.rent(salt=2, start=door.END - 60, end=door.END + 3600)
    door.try_it(first)
    door.now, door.meter = door.END - 10, 1030
    door.try_it(second)
    door.meter = 1100
    assert door.try_it(first, Purpose.CHECK_OUT).statement.units == 30
    assert door.try_it(second, Purpose.CHECK_OUT).statement.units == 70


def test_open__when_the_one_before_went_without_a_word__checks_it_out_before_the_next_one_is_in(door):
    """The lock's own check-out an hour later held against a renter what the next one did, used and broke."""
    door = door()
    first = door.rent()
    second = door.rent(salt=2, start=door.END, end=door.END + 3600)
    door.try_it(first)
    as_left, door.now, door.meter = door.condition, door.END + 10, 1030
    bolt, door.unlock = door.unlock, partial(os.stat, "/nowhere")
    door.unplugged()
    with pytest.raises(FileNotFoundError):
        door.try_it(second)  # the bolt jams: whose slot is over is out all the same
    door.unlock = bolt
    door.unplugged()
    door.now, door.meter, door.condition = door.END + 700, 1040, keccak256(b"broken")
    door.try_it(second)
    door.meter = 1100
    out = CheckOut(first.terms_id, door.END + 10, 30, as_left)
    assert door.lock.statements(first.terms_id)[1].statement == out
    assert refused(Refusal.CHECKED_OUT, door.try_it, first, Purpose.CHECK_OUT)
    assert door.try_it(second, Purpose.CHECK_OUT).statement.units == 60
    assert [(one.what, one.outcome) for one in door.lock.log()][2:7] == [
        ("open", "ok"), ("check-out", "lock"), ("open", "ok"), ("open", "jammed"), ("open", "ok"),
    ]  # fmt: skip


@pytest.mark.parametrize("after", [0, 3600])
def test_open__when_it_is_the_first_of_a_late_visitor__does_not_check_out_the_visitor(door, after):
    door = door(policy=LockPolicy(tolerance=60, check_out_after=after))
    key = door.rent()
    door.now = door.END + 59  # within the tolerance
    assert isinstance(door.try_it(key).statement, CheckIn)
    assert len(door.lock.statements(key.terms_id)) == 1


class FailsOnce:
    """A chip that does not answer the first time."""

    def __init__(self, signer):
        self.signer, self.asked = signer, 0

    def sign_digest(self, digest):
        self.asked += 1
        if self.asked == 1:
            raise SigningError("no bus")
        return self.signer.sign_digest(digest)

    def __getattr__(self, name):
        return getattr(self.signer, name)


def test_open__when_the_check_out_of_the_one_before_is_not_signed__lets_the_next_one_in_when_it_can(door):
    door = door()
    first = door.rent()
    second = door.rent(salt=2, start=door.END, end=door.END + 3600)
    door.try_it(first)
    door.now = door.END + 10
    door.lock._signer = FailsOnce(door.signer)
    assert door.try_it(second).statement.terms_id == second.terms_id
    assert len(door.lock.statements(first.terms_id)) == 1
    door.now = door.END + 3600
    door.lock.tick()
    assert door.lock.statements(first.terms_id)[1].statement.time == door.now


def test_open__when_the_lock_never_checks_out_by_itself__leaves_the_one_before(door):
    door = door(policy=LockPolicy(check_out_after=None))
    first = door.rent()
    second = door.rent(salt=2, start=door.END, end=door.END + 3600)
    door.try_it(first)
    door.now, door.meter = door.END + 10, 1030
    door.try_it(second)
    door.meter = 1100
    assert door.try_it(first, Purpose.CHECK_OUT).statement.units == 30


def test_check_out__when_the_meter_counts_past_64_bits__has_units_that_fit(door):
    door = door()
    key = door.rent()
    door.try_it(key)
    door.meter = 1 << 70
    assert door.try_it(key, Purpose.CHECK_OUT).statement.units == (1 << 64) - 1


# Time


def test_tick__when_the_renter_never_checks_out__the_lock_does_an_hour_after_the_end(door):
    door = door()
    key = door.rent()
    door.try_it(key)
    door.now, door.meter = door.END + 3599, 1040
    door.lock.tick()
    assert len(door.lock.statements(key.terms_id)) == 1
    door.now += 1
    door.lock.tick()
    door.lock.tick()
    said = door.lock.statements(key.terms_id)[1]
    assert said.statement == CheckOut(key.terms_id, door.END + 3600, 40, door.condition)
    assert (door.lock.log()[-1].what, door.lock.log()[-1].outcome) == ("check-out", "lock")


def test_tick__when_the_key_does_not_sign_the_check_out__tries_again_after_a_minute(door):
    door = door()
    key = door.rent()
    door.try_it(key)
    signer, door.signer = door.signer, LocalSigner.from_secret(door.signer.secret, "p256")
    signer.close()
    door.now = door.END + 3600
    for _ in range(60):
        door.lock.tick()
        door.now += 1
    assert [one.outcome for one in door.lock.log()].count(Refusal.SIGNER_FAILED) == 1
    door.unplugged().tick()
    assert door.lock.statements(key.terms_id)[1].statement.time == door.END + 3660


def test_clock__when_it_goes_back_within_the_tolerance__stands_still(door):
    door = door()
    key = door.rent()
    door.now = door.END + 59
    door.try_it(key)
    door.now -= 60
    assert door.lock.challenge(key.terms_id, Purpose.OPEN).expiry == door.END + 59 + 60


def test_clock__when_it_goes_back_by_more__nothing_opens_until_its_owner_trusts_it(door):
    door = door()
    key = door.rent()
    door.now = door.END + 3000
    refused(Refusal.ENDED, door.lock.challenge, key.terms_id, Purpose.OPEN)
    door.now = door.START + 60
    error = refused(Refusal.CLOCK_WENT_BACK, door.lock.challenge, key.terms_id, Purpose.OPEN)
    assert error.detail == f"its clock says {door.START + 60}, and it was {door.END + 3000} already"
    door.unplugged()
    refused(Refusal.CLOCK_WENT_BACK, door.lock.challenge, key.terms_id, Purpose.OPEN)
    door.lock.tick()
    door.lock.trust_clock()
    assert door.try_it(key).statement.time == door.START + 60
    assert door.unplugged().log()[-1].outcome == "ok"


def test_clock__when_it_shows_nothing__nothing_opens(door):
    made = door()
    key = made.rent()
    made.lock.close()
    made.lock = Lock.open(
        made.path, signer=made.signer, owner=made.owner.address, clock=lambda: int(Path("/nowhere").read_text())
    )
    refused(Refusal.CLOCK_WENT_BACK, made.lock.challenge, key.terms_id, Purpose.OPEN)


@pytest.mark.parametrize(
    "bad",
    [
        {"tolerance": -1}, {"tolerance": 3601}, {"challenge_life": 1}, {"check_out_after": 86_400}, {"free_tries": 0},
        {"max_slots": 0}, {"beat": 0}, {"compact_at": 0},
    ],
    ids=str,
)  # fmt: skip
def test_policy__when_it_would_open_too_widely_or_never__is_refused(bad):
    with pytest.raises(InputError):
        LockPolicy(**bad)


def test_hardware__when_nothing_is_built_in__sees_and_counts_nothing(door):
    made = door()
    key = made.rent()
    made.lock.close()
    made.lock = Lock.open(made.path, signer=made.signer, owner=made.owner.address, clock=lambda: made.now)
    assert made.try_it(key).statement == CheckIn(key.terms_id, made.now, bytes(32))
    assert made.try_it(key, Purpose.CHECK_OUT).statement == CheckOut(key.terms_id, made.now, 0, bytes(32))


def test_hardware__when_it_is_files__reads_them_each_time(tmp_path):
    meter, photo = number_in(tmp_path / "kwh"), hash_in(tmp_path / "photo")
    for text, number in ((b"7\n", 7), (b" 12 kWh\n", 12), (b"1012.9", 1012), (b"0.99\n", 0), (b"9" * 40, 10**40 - 1)):
        (tmp_path / "kwh").write_bytes(text)
        (tmp_path / "photo").write_bytes(text)
        assert (meter(), photo()) == (number, keccak256(text))


@pytest.mark.parametrize("text", [b"", b"\n", b"kWh 7", b"-7", b"7,5", b"1e9", b"nan", b".5", b"9" * 41, b"\xff7"])
def test_number_in__when_the_file_holds_none__says_so(tmp_path, text):
    (tmp_path / "kwh").write_bytes(text)
    with pytest.raises(ValueError, match="holds no number"):
        number_in(tmp_path / "kwh")()


def test_check_out__when_the_meter_has_decimals__counts_whole_units(door):
    """A meter in a file that went from 1000 to 1012.9 counted as 0 units. Its decimals are cut off."""
    door = door()
    key = door.rent()
    door.meter = 1000.4
    door.try_it(key)
    door.meter = 1012.9
    assert door.try_it(key, Purpose.CHECK_OUT).statement.units == 12


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf")])
def test_check_out__when_the_meter_says_no_number__counts_what_was_known(door, nonsense):
    door = door()
    key = door.rent()
    door.try_it(key)
    door.meter = nonsense
    assert door.try_it(key, Purpose.CHECK_OUT).statement.units == 0


# The journal


def test_journal__when_its_beginning_is_damaged_or_it_is_closed__says_so(door):
    made = door()
    made.lock.close()
    with pytest.raises(InputError, match="is closed"):
        made.rent()
    whole = made.path.read_bytes()
    made.path.write_bytes(whole[:20] + b"\xff" + whole[21:])
    for read in (made.switched_on, partial(LockJournal.read, made.path)):
        with pytest.raises(ConsistencyError, match="the beginning of the lock's journal"):
            read()
    with pytest.raises(InputError, match="cannot read the lock's journal"):
        LockJournal.read(made.path.with_name("nothing"))


def test_journal__when_it_holds_a_record_of_a_newer_package__is_not_guessed_at(door):
    made = door()
    made.lock.close()
    with LockJournal.open(made.path) as journal:
        journal.append({"kind": "teleport", "time": made.now})
    with pytest.raises(ConsistencyError, match="a record of an unknown kind: 'teleport'"):
        made.switched_on()


def test_journal__when_another_record_stands_where_the_head_points__was_forked(door):
    made = door()
    made.rent()
    head = made.path.with_name(made.path.name + ".head")
    made.lock.close()
    start = made.path.read_bytes()
    with LockJournal.open(made.path) as journal:
        journal.append({"kind": "beat", "time": made.now})
    kept = head.read_bytes()
    made.path.write_bytes(start)
    head.unlink()
    with LockJournal.open(made.path) as journal:
        journal.append({"kind": "beat", "time": made.now + 1})
    head.write_bytes(kept)
    with pytest.raises(ConsistencyError, match="is not the one that was written: it was forked"):
        made.switched_on()


def test_unplugged__when_it_comes_back__knows_all_and_gives_the_same_statements(door):
    door = door()
    key, other = door.rent(), door.rent(salt=2)
    first = door.try_it(key)
    answer = key.answer(door.lock.challenge(key.terms_id, Purpose.OPEN))
    lock = door.unplugged()
    assert lock.statements(key.terms_id) == (first,)
    refused(Refusal.OLD_CHALLENGE, lock.answer, answer)
    assert door.try_it(key) == first
    out = door.try_it(key, Purpose.CHECK_OUT)
    assert door.unplugged().statements(key.terms_id) == (first, out)
    refused(Refusal.CHECKED_OUT, door.lock.challenge, key.terms_id, Purpose.OPEN)
    assert isinstance(door.try_it(other).statement, CheckIn)


def test_counter__when_the_power_fails_over_and_over__never_comes_twice(door):
    door = door()
    keys = [door.rent(salt=salt) for salt in range(3)]
    seen = []
    for round_ in range(4):
        seen += [door.lock.challenge(key.terms_id, Purpose.OPEN).counter for key in keys]
        assert seen == sorted(set(seen)), round_
        door.unplugged()


def test_journal__when_it_has_grown__is_written_anew_and_says_the_same(door):
    door = door(policy=LockPolicy(compact_at=4096))
    key = door.rent()
    for _ in range(40):
        said = door.try_it(key)
    before = door.lock.log(), door.lock.uses()
    assert door.path.stat().st_size < 2 * 12_288
    assert any(record["kind"] == "summary" for record in LockJournal.read(door.path)[:1])
    lock = door.unplugged()
    assert (lock.log(), lock.uses()) == before
    assert lock.statements(key.terms_id) == (said,)


def test_open__when_the_journal_is_another_lock_s__is_refused(door, tmp_path):
    door = door()
    door.lock.close()
    for changes in ({"owner": bytes(20)}, {"signer": LocalSigner.create()}, {"device": bytes(32)}):
        with pytest.raises(InputError, match="is the journal of a lock with the"):
            Lock.open(door.path, **{"signer": door.signer, "owner": door.owner.address} | changes)
    (tmp_path / "no.lock").write_bytes(b"something else")
    with pytest.raises(InputError, match="is not a lock's journal"):
        Lock.open(tmp_path / "no.lock", signer=door.signer, owner=door.owner.address)


def test_lock__when_its_key_is_rotated_during_a_rental__obeys_no_terms_that_pin_the_old_one(door, tmp_path):
    made = door()
    key = made.rent()
    made.try_it(key)
    made.lock.close()
    genesis, made.signer = made.lock.device, LocalSigner.create("p256")
    with pytest.raises(InputError, match="is the journal of a lock with the signer"):
        Lock.open(made.path, signer=made.signer, owner=made.owner.address, device=genesis)
    options = {"signer": made.signer, "owner": made.owner.address, "device": genesis, "clock": lambda: made.now}
    with Lock.open(tmp_path / "new.lock", **options) as lock:
        old = made.slot(LocalSigner.create().secret, signer_hash=keccak256(b"the old key"), device=genesis)
        refused(Refusal.OTHER_SIGNER, lock.program, old)
        assert lock.program(made.slot(LocalSigner.create().secret, device=genesis))


def test_open__when_another_process_has_it__is_refused(door):
    door = door()
    with pytest.raises(ConfigurationError, match="is in use"):
        door.switched_on()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_journal__when_its_last_record_is_torn__goes_on_before_it(door, cut):
    door = door()
    key = door.rent()
    head = door.path.with_name(door.path.name + ".head").read_bytes()
    size = door.path.stat().st_size
    refused(Refusal.NOT_CHECKED_IN, door.lock.challenge, key.terms_id, Purpose.CHECK_OUT)
    door.lock.close()
    whole = door.path.read_bytes()
    assert size + cut < len(whole)
    door.path.write_bytes(whole[: size + cut])
    door.path.with_name(door.path.name + ".head").write_bytes(head)  # the power failed before the head was written
    door.lock = door.switched_on()
    assert door.path.stat().st_size == size
    assert isinstance(door.try_it(key).statement, CheckIn)


def test_journal__when_an_older_copy_is_put_back__is_refused(door):
    door = door()
    key = door.rent()
    door.try_it(key)
    older = door.path.read_bytes()
    door.try_it(key, Purpose.CHECK_OUT)
    door.lock.close()
    whole = door.path.read_bytes()
    for copy in (older, whole[:300] + b"\xff" + whole[301:]):
        door.path.write_bytes(copy)
        with pytest.raises(ConsistencyError, match="it is damaged or an older copy"):
            door.switched_on()
    door.path.unlink()
    with pytest.raises(ConsistencyError, match="is gone, but its head file is there"):
        door.switched_on()


def test_journal__when_the_disk_is_full__nothing_opens(door, monkeypatch):
    door = door()
    key = door.rent()
    answer = key.answer(door.lock.challenge(key.terms_id, Purpose.OPEN))
    monkeypatch.setattr("os.fsync", _full)
    with pytest.raises(TransportError, match="cannot write the lock's journal"):
        door.lock.answer(answer)
    monkeypatch.undo()
    assert door.openings == 0
    assert door.lock.statements(key.terms_id) == ()
    door.try_it(key)
    assert door.unplugged().statements(key.terms_id) == door.lock.statements(key.terms_id)


def test_journal__when_it_cannot_be_written_anew__goes_on_in_the_old_file(door, monkeypatch, caplog):
    door = door(policy=LockPolicy(compact_at=2500))
    key = door.rent()
    with monkeypatch.context() as patch:
        patch.setattr("pyiot_evm.device.lock_journal.write_new", _full)
        for _ in range(20):
            said = door.try_it(key)
    assert "is not written anew yet: [Errno 28]" in caplog.text
    assert door.path.stat().st_size > 4000
    assert door.try_it(key) == said
    assert LockJournal.read(door.path)[0]["kind"] == "summary"
    torn = door.path.with_name(f".{door.path.name}.0badc0de")
    torn.write_bytes(b"half")
    assert door.unplugged().statements(key.terms_id) == (said,)
    assert not torn.exists()


def _full(*_arguments):
    raise OSError(28, "No space left on device")


CHILD = """
import pathlib, sys
from pyiot_evm.device import KeystoreSigner
from pyiot_evm.device.lock import Lock
from pyiot_evm.device.lock_messages import AccessKey, Purpose
from pyiot_evm.device.lock_policy import LockPolicy
from pyiot_evm.types import Address
folder, now = pathlib.Path(sys.argv[1]), int(sys.argv[3])
signer = KeystoreSigner.open(folder / "device.pem", "x")
key = AccessKey.read(folder / "key")
lock = Lock.open(folder / "door.lock", signer=signer, owner=Address(sys.argv[2]), clock=lambda: now,
                 policy=LockPolicy(compact_at=6000))
while True:
    challenge = lock.challenge(key.terms_id, Purpose.OPEN)
    print(challenge.counter, flush=True)
    print(lock.answer(key.answer(challenge)).signature.hex(), flush=True)
"""


def test_lock__when_killed_after_some_lines__repeats_no_counter_and_gives_one_check_in(door, tmp_path):
    made = door()
    made.lock.close()
    made.path = tmp_path / "door.lock"
    made.lock = made.switched_on()
    key = made.rent()
    made.lock.close()
    KeystoreSigner.save(made.signer, tmp_path / "device.pem", "x", cost=LIGHT).close()
    key.write(tmp_path / "key")
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(made.owner.address), str(made.now)]
    counters, signatures = [], set()
    for lines in (1, 4, 9, 26):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        told = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.read().splitlines(keepends=True)
        child.wait()
        whole = [line.strip() for line in told if line.endswith("\n")]
        counters += [int(line) for line in whole if len(line) < 20]
        signatures |= {line for line in whole if len(line) == 128}
    assert counters == sorted(set(counters))
    assert len(signatures) == 1
    made.lock = made.switched_on()
    assert made.lock.statements(key.terms_id)[0].signature.hex() in signatures


class PowerLossError(BaseException):
    """Nothing that was written before is lost, and nothing runs after."""


class Fuse:
    """Counts the moments around each write of a lock, and cuts the power at one of them."""

    def __init__(self, monkeypatch):
        self.count, self.fatal = 0, None
        for name in ("pwrite", "fsync", "ftruncate", "open"):
            monkeypatch.setattr(os, name, self.around(getattr(os, name), torn=name == "pwrite"))
        monkeypatch.setattr(type(Path()), "replace", self.around(type(Path()).replace))

    def around(self, function, *, torn=False):
        def wrapped(*arguments, **named):
            self.reach()
            if torn and self.fatal is not None and self.count + 1 == self.fatal:
                function(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
                self.reach()
            result = function(*arguments, **named)
            self.reach()
            return result

        return wrapped

    def reach(self):
        self.count += 1
        if self.count == self.fatal:
            raise PowerLossError


def rental_of(door, slot, key, told):
    """A whole rental; whatever the lock says is noted."""
    door.lock.program(slot)
    for _ in range(2):
        challenge = door.lock.challenge(key.terms_id, Purpose.OPEN)
        told["counters"].append(challenge.counter)
        told["check-in"].add(door.lock.answer(key.answer(challenge)))
    told["check-out"].add(door.try_it(key, Purpose.CHECK_OUT))


def test_lock__when_the_power_fails_around_each_write__ends_the_rental_with_one_statement_of_each_kind(
    door, monkeypatch
):
    points, fatal, begins = None, 0, set()
    while points is None or fatal < points:
        fatal += 1
        made = door(policy=LockPolicy(compact_at=2500))
        secret = LocalSigner.create().secret
        slot = made.slot(secret)
        key = AccessKey(slot.terms.device, slot.terms_id, secret)
        told = {"counters": [], "check-in": set(), "check-out": set()}
        with monkeypatch.context() as patch:
            fuse = Fuse(patch)
            fuse.fatal = None if points is None else fatal - 1
            try:
                rental_of(made, slot, key, told)
                points, fatal = (fuse.count + 1, 1) if points is None else (points, fatal)
            except PowerLossError:
                made.lock._book._journal.close()
        made.lock.close()
        made.lock = made.switched_on()
        if len(made.lock.statements(key.terms_id)) < 2:
            rental_of(made, slot, key, told)
        check_in, check_out = made.lock.statements(key.terms_id)
        assert told["check-in"] | {check_in} == {check_in}, fatal
        assert told["check-out"] | {check_out} == {check_out}, fatal
        assert told["counters"] == sorted(set(told["counters"])), fatal
        assert made.openings >= 1
        begins.add(LockJournal.read(made.path)[0]["kind"])
        made.lock.close()
    assert points > 40
    assert "summary" in begins  # the journal was written anew on the way


# The property


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "replay", "wait", "unplug", "tick"]),
        st.integers(0, 3),
        st.sampled_from(Purpose),
        st.sampled_from([1, 29, 61, 1800, 3600]),
    ),
    min_size=1,
    max_size=16,
)


class Model:
    """What must happen, in a few lines: which answers are good, and when."""

    def __init__(self):
        self.standing, self.inside, self.over = {}, set(), set()

    def takes(self, door, key, real, challenge):
        """Return whether the lock must take this key's answer to this challenge now."""
        terms_id, purpose = challenge.terms_id, challenge.purpose
        slot = next(use.slot for use in door.lock.uses() if use.slot.terms_id == terms_id)
        stands = self.standing.get((terms_id, purpose)) == challenge and door.now < challenge.expiry
        inside = slot.terms.start - 60 <= door.now < slot.terms.end + 60
        timely = inside if purpose is Purpose.OPEN else terms_id in self.inside
        return key.secret == real[terms_id] and stands and timely and terms_id not in self.over

    def took(self, challenge):
        del self.standing[challenge.terms_id, challenge.purpose]
        (self.inside if challenge.purpose is Purpose.OPEN else self.over).add(challenge.terms_id)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_lock__when_anything_is_tried__opens_for_nothing_but_a_right_answer_in_its_slot(door, steps):
    door = door(policy=LockPolicy(check_out_after=None))
    first, second = door.rent(), door.rent(salt=2, start=door.END, end=door.END + 3600)
    stranger = replace(first, secret=LocalSigner.create().secret)
    keys, real = [first, second, stranger, replace(first, secret=second.secret)], {}
    real |= {key.terms_id: key.secret for key in (first, second)}
    model, given_answers, opened = Model(), [], 0
    for what, who, purpose, seconds in steps:
        if what == "wait":
            door.now += seconds
        elif what == "unplug":
            door.unplugged()
            model.standing.clear()
        elif what == "tick":
            door.lock.tick()
        elif what == "ask":
            try:
                challenge = door.lock.challenge(keys[who].terms_id, purpose)
            except AccessError:
                continue
            model.standing[challenge.terms_id, purpose] = challenge
            given_answers.append((keys[who], challenge))
        elif given_answers:
            key, challenge = given_answers[seconds % len(given_answers)]
            must = model.takes(door, key, real, challenge)
            try:
                said = door.lock.answer(key.answer(challenge))
            except AccessError:
                assert not must
                continue
            assert must
            assert isinstance(said.statement, CheckIn if challenge.purpose is Purpose.OPEN else CheckOut)
            opened += challenge.purpose is Purpose.OPEN
            model.took(challenge)
    assert door.openings == opened
    door.lock.close()
