"""Who wants to get in without the key, in late, or twice; who wants to keep others out; and who lies to the lock."""

import json
import socket
import threading
from dataclasses import replace

import pytest

from pyiot_evm.device import LocalSigner
from pyiot_evm.device.lock_client import LockClient
from pyiot_evm.device.lock_journal import LockJournal
from pyiot_evm.device.lock_messages import AccessError, AccessKey, Answer, Purpose, Refusal
from pyiot_evm.device.lock_policy import LockPolicy
from pyiot_evm.device.lock_server import MAX_LINE, LockServer
from pyiot_evm.device.rental_messages import CheckIn
from pyiot_evm.exceptions import ConfigurationError, InputError, TransportError, VerificationError
from pyiot_evm.types import TermsId


def refused(reason, act, *args):
    with pytest.raises(AccessError) as caught:
        act(*args)
    assert caught.value.reason is reason, caught.value
    return caught.value


@pytest.fixture
def served(door, tmp_path):
    made = door()
    with LockServer(made.lock, path=tmp_path / "s"):
        made.socket = tmp_path / "s"
        yield made


def lines(path, *sent, reads=1):
    """Send bytes as they are, and return the answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        for part in sent:
            connection.sendall(part)
        with connection.makefile("rb") as answers:
            return [json.loads(answers.readline()) for _ in range(reads)]


# Without the key, late, twice


def test_key_of_another_slot__when_tried_at_this_one__opens_nothing(door):
    door = door()
    mine = door.rent()
    other = door.rent(salt=2, start=door.END, end=door.END + 3600)
    challenge = door.lock.challenge(mine.terms_id, Purpose.OPEN)
    stolen = replace(mine, secret=other.secret).answer(challenge)
    refused(Refusal.WRONG_KEY, door.lock.answer, stolen)
    refused(Refusal.TOO_EARLY, door.lock.challenge, other.terms_id, Purpose.OPEN)
    assert door.openings == 0


def test_owner_s_account__when_it_answers_in_the_renter_s_place__opens_nothing(door):
    door = door()
    key = door.rent()
    challenge = door.lock.challenge(key.terms_id, Purpose.OPEN)
    answer = replace(key.answer(challenge), signature=door.owner.sign_digest(challenge.digest))
    refused(Refusal.WRONG_KEY, door.lock.answer, answer)


def test_door_key__when_the_rental_is_over_or_the_slot_is__opens_nothing_not_even_with_old_answers(door):
    door = door()
    over, late = door.rent(), door.rent(salt=2)
    old = over.answer(door.lock.challenge(over.terms_id, Purpose.OPEN))
    door.lock.answer(old)
    kept = over.answer(door.lock.challenge(over.terms_id, Purpose.OPEN))  # asked for before the check-out
    door.try_it(over, Purpose.CHECK_OUT)
    refused(Refusal.CHECKED_OUT, door.lock.answer, kept)
    refused(Refusal.OLD_CHALLENGE, door.lock.answer, old)
    door.now = door.END + 61
    refused(Refusal.ENDED, door.lock.challenge, late.terms_id, Purpose.OPEN)
    assert door.openings == 1


def test_answer_to_open__when_handed_in_as_a_check_out__ends_nothing(door):
    door = door()
    key = door.rent()
    door.try_it(key)
    opening = key.answer(door.lock.challenge(key.terms_id, Purpose.OPEN))
    door.lock.challenge(key.terms_id, Purpose.CHECK_OUT)
    refused(Refusal.OLD_CHALLENGE, door.lock.answer, replace(opening, purpose=Purpose.CHECK_OUT))
    standing = door.lock.challenge(key.terms_id, Purpose.CHECK_OUT)
    forged = replace(opening, purpose=Purpose.CHECK_OUT, counter=standing.counter)
    refused(Refusal.WRONG_KEY, door.lock.answer, forged)
    assert len(door.lock.statements(key.terms_id)) == 1


def test_challenge_of_another_door__when_passed_on_to_the_renter__is_not_signed(door):
    near, far = door(), door()
    key, other = near.rent(), far.rent()
    for challenge in (
        far.lock.challenge(other.terms_id, Purpose.OPEN),
        replace(near.lock.challenge(key.terms_id, Purpose.OPEN), device=far.lock.device),
    ):
        with pytest.raises(VerificationError, match="the challenge is another lock's or another rental's"):
            key.answer(challenge)


def test_clock__when_set_back_to_the_slot_after_a_power_loss__opens_nothing(door):
    door = door()
    key = door.rent()
    door.try_it(key)
    door.now = door.END + 901
    door.lock.tick()  # the lock notes the time when nothing happens, too
    door.now = 0  # the battery of the clock was pulled
    door.unplugged()
    refused(Refusal.CLOCK_WENT_BACK, door.lock.challenge, key.terms_id, Purpose.OPEN)
    door.now = door.START + 60
    refused(Refusal.CLOCK_WENT_BACK, door.lock.challenge, key.terms_id, Purpose.OPEN)
    assert door.openings == 1


@pytest.mark.parametrize("skew", [-60, 60])
def test_clock__when_it_is_wrong_by_the_tolerance__lets_the_renter_in_all_slot_long(door, skew):
    door = door(now=1_799_990_000)
    key = door.rent()
    for real in (door.START, door.END - 1):
        door.now = real + skew
        assert isinstance(door.try_it(key).statement, CheckIn)


def test_meter__when_it_is_set_back_between_two_renters__charges_neither_for_the_other(door):
    door = door()
    first, second = door.rent(), door.rent(salt=2, start=door.END - 60, end=door.END + 60)
    door.try_it(first)
    door.meter = 1500
    door.now = door.END - 1
    door.try_it(second)
    door.meter = 3  # somebody reset it
    assert door.try_it(second, Purpose.CHECK_OUT).statement.units == 0
    assert door.try_it(first, Purpose.CHECK_OUT).statement.units == 500


# Lies to the lock


def test_slot__when_any_field_of_signed_terms_is_changed__is_forged(door):
    door = door(policy=LockPolicy(free_tries=100))
    good = door.slot(LocalSigner.create().secret)
    x, y = LocalSigner.create().public_point
    for change in (
        {"key_x": x, "key_y": y}, {"start": door.START - 3600}, {"end": door.END + 3600}, {"rate": 9}, {"salt": 2},
        {"deposit": 0}, {"terms": b"\x01" * 32}, {"grace": 1}, {"arbiter": b"\x09" * 20},
    ):  # fmt: skip
        refused(Refusal.NOT_SIGNED, door.lock.program, replace(good, terms=replace(good.terms, **change)))
    refused(Refusal.NOT_SIGNED, door.lock.program, replace(good, chain_id=1))
    refused(Refusal.NOT_SIGNED, door.lock.program, replace(good, escrow=type(good.escrow)(b"\x22" * 20)))
    assert door.lock.uses() == ()


def test_slot__when_the_owner_uses_a_key_that_an_earlier_renter_has__is_refused_even_after_years(door):
    door = door(policy=LockPolicy(compact_at=2048))
    key = door.rent()
    door.try_it(key)
    door.try_it(key, Purpose.CHECK_OUT)
    door.now += 365 * 24 * 3600
    for salt in range(2, 6):
        door.rent(salt=salt, start=door.now, end=door.now + 60)
    assert key.terms_id not in {use.slot.terms_id for use in door.lock.uses()}
    again = door.slot(key.secret, salt=9, start=door.now, end=door.now + 60)
    refused(Refusal.KEY_USED, door.lock.program, again)
    door.unplugged()
    refused(Refusal.KEY_USED, door.lock.program, again)


# Keeping others out


def test_flood__when_a_stranger_tries_ten_thousand_times__fills_no_disk_and_keeps_nobody_out(door):
    door = door()
    key = door.rent()
    challenge = door.lock.challenge(key.terms_id, Purpose.OPEN)
    wrong = replace(key.answer(challenge), signature=bytes(65))
    reasons = []
    for number in range(10_000):
        door.now += number % 100 == 0
        if number == 5000:
            assert isinstance(door.try_it(key).statement, CheckIn)  # in the middle of it
        with pytest.raises(AccessError) as caught:
            door.lock.answer(wrong)
        reasons.append(caught.value.reason)
    assert reasons[:8] == [Refusal.WRONG_KEY] * 8
    assert reasons.count(Refusal.TOO_MANY_TRIES) > 9_900
    assert door.path.stat().st_size < 16_384
    door.now += 1000
    door.lock.tick()
    assert sum(one.count for one in door.lock.log() if one.outcome != "ok") == 10_000
    assert door.openings == 1


def test_flood__when_challenges_are_asked_for_all_the_time__leaves_each_half_of_its_life(door):
    door = door()
    key = door.rent()
    size = door.path.stat().st_size
    for second in range(600):
        door.now += 1
        mine = door.lock.challenge(key.terms_id, Purpose.OPEN)
        assert mine.expiry - door.now >= 30, second
    assert isinstance(door.lock.answer(key.answer(mine)).statement, CheckIn)
    assert door.path.stat().st_size - size < 4096


def test_proven_key__when_it_comes_in_a_flood__hears_the_true_reason(door):
    door = door()
    key = door.rent()
    door.now = door.END + 59
    good = key.answer(door.lock.challenge(key.terms_id, Purpose.OPEN))
    for _ in range(20):
        with pytest.raises(AccessError):
            door.lock.answer(replace(good, signature=bytes(65)))
    door.now += 1
    refused(Refusal.ENDED, door.lock.answer, good)


# On the wire


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"{}\n", b"[]\n", b"not json\n", b"\xff\xfe\n", b'{"do":"open"}\n', b'{"do":["hello"]}\n', b'{"do":7}\n',
        b'{"do":"challenge"}\n', b'{"do":"challenge","termsId":"0x00","purpose":"open"}\n',
        b'{"do":"challenge","termsId":"0x' + b"11" * 32 + b'","purpose":"burn"}\n', b'{"do":"answer","answer":{}}\n',
        b'{"do":"program","offer":{"format":"pyiot rental offer"}}\n', b"[" * 4000 + b"\n",
        b'{"do":"statements","termsId":"0x' + b"zz" * 32 + b'"}\n', b'{"do":"answer","answer":' + b"9" * 5000 + b"}\n",
    ],
)  # fmt: skip
def test_line__when_it_is_none_of_ours__is_refused_and_logged(served, line):
    (answer,) = lines(served.socket, line)
    assert answer["refused"]["reason"] == "malformed"
    assert served.lock.log()[-1].outcome == "malformed"
    (hello,) = lines(served.socket, b'{"do":"hello"}\n')
    assert hello["done"]["device"] == str(served.lock.device)


def test_line__when_it_is_too_long__is_refused_and_the_visitor_sent_away(served):
    (answer,) = lines(served.socket, b"x" * (MAX_LINE + 1))
    assert answer["refused"] == {"reason": "malformed", "detail": f"a line has at most {MAX_LINE} bytes"}


def test_visitors__when_seventeen_stand_at_the_door__only_the_last_is_sent_away_and_all_others_are_served(served):
    visitors = [socket.socket(socket.AF_UNIX) for _ in range(17)]
    try:
        for visitor in visitors:
            visitor.settimeout(10)
            visitor.connect(str(served.socket))
        assert visitors[16].recv(1) == b""
        visitors[3].sendall(b'{"do":"hello"}\n')
        assert b"done" in visitors[3].recv(4096)
    finally:
        for visitor in visitors:
            visitor.close()
    with LockClient(served.socket) as phone:
        _until(lambda: phone.hello().owner == served.owner.address)


def _until(holds):
    for _ in range(100):
        try:
            if holds():
                return
        except TransportError:
            pass
    raise AssertionError("the places were not given free")


def test_line__when_two_come_in_one_piece_and_one_in_many__are_answered_in_order(served):
    key = served.rent()
    ask = json.dumps({"do": "challenge", "termsId": str(key.terms_id), "purpose": "open"}).encode() + b"\n"
    first, second = lines(served.socket, ask + b'{"do":"hel', b'lo"}', b"\n", reads=2)
    assert first["done"]["challenge"]["counter"] == "1"
    assert second["done"]["owner"] == str(served.owner.address)


def test_client__when_what_answers_is_no_lock__says_so(tmp_path):
    with socket.socket(socket.AF_UNIX) as liar:
        liar.bind(str(tmp_path / "liar"))
        liar.listen()
        for said in (b"hello\n", b"{}\n", b'{"refused":{"reason":"because","detail":""}}\n', b'{"done":7}\n', b""):
            with LockClient(tmp_path / "liar", seconds=5) as phone:
                phone._connected()
                visitor, _ = liar.accept()
                with visitor:
                    visitor.sendall(said)
                    visitor.shutdown(socket.SHUT_WR)
                    with pytest.raises(TransportError):
                        phone.hello()


class LyingLock:
    """Answers with what it likes."""

    def __init__(self, lock, said):
        self._lock, self._said = lock, said

    def __getattr__(self, name):
        return getattr(self._lock, name)

    def answer(self, answer):
        self._lock.answer(answer)
        return self._said


def test_client__when_the_lock_gives_another_statement__keeps_nothing(door, tmp_path):
    made = door()
    key, other = made.rent(), made.rent(salt=2)
    foreign = made.try_it(other)
    unsigned = replace(made.try_it(key), signature=bytes(64))
    for number, said in enumerate((foreign, unsigned)):
        place = tmp_path / str(number)
        wanted = pytest.raises(VerificationError, match="is no signed statement of this rental")
        with LockServer(LyingLock(made.lock, said), path=place), LockClient(place) as phone, wanted:
            phone.open(key)


def test_server__when_the_place_is_taken_or_left_over__knows_the_difference(door, tmp_path):
    made = door()
    path = tmp_path / "s"
    taken = pytest.raises(ConfigurationError, match="another lock listens at")
    with LockServer(made.lock, path=path), taken, LockServer(made.lock, path=path):
        pass
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with LockServer(made.lock, path=path), LockClient(path) as phone:
        assert phone.hello().device == made.lock.device
    assert not path.exists()
    with (
        pytest.raises(InputError, match="too long for a Unix socket"),
        LockServer(made.lock, path=tmp_path / ("x" * 99)),
    ):
        pass
    with pytest.raises(InputError, match="either at a Unix socket or at a port"):
        LockServer(made.lock)


def test_server__when_it_listens_at_a_port__is_on_the_loopback_alone(door):
    made = door()
    key = made.rent()
    with LockServer(made.lock, port=0) as server, LockClient(server.port) as phone:
        assert server._server.server_address[0] == "127.0.0.1"
        assert phone.open(key).statement.terms_id == key.terms_id
    with pytest.raises(TransportError, match="nobody answers at"):
        LockClient(server._server.server_address[1]).hello()


def test_disk__when_it_is_full_when_something_is_due__does_not_end_the_lock(door, monkeypatch, caplog):
    made = door()
    stop = threading.Event()

    def full(_descriptor):
        stop.set()
        raise OSError(28, "No space left on device")

    made.now += 1000
    with monkeypatch.context() as patch, LockServer(made.lock, port=0) as server:
        patch.setattr("os.fsync", full)
        server.wait(stop, seconds=0.01)
    assert "the lock cannot do what is due: cannot write the lock's journal" in caplog.text
    assert isinstance(made.try_it(made.rent()).statement, CheckIn)


def test_bolt__when_it_jams_while_a_phone_waits__is_an_error_that_says_nothing_of_the_disk(door, tmp_path):
    made = door()
    key = made.rent()

    def jam():
        raise OSError(5, "Input/output error: /dev/ttyS0")

    made.unlock = jam
    made.unplugged()
    wanted = pytest.raises(TransportError, match="the lock failed: the lock's hardware failed")
    with LockServer(made.lock, path=tmp_path / "s"), LockClient(tmp_path / "s") as phone, wanted:
        phone.open(key)
    assert made.lock.statements(key.terms_id) == ()


# What is left behind


def test_journal__when_read_by_a_thief__holds_no_secret(door):
    door = door()
    key = door.rent()
    door.try_it(key)
    data = door.path.read_bytes()
    assert key.secret.hex().encode() not in data
    assert door.signer.secret.hex().encode() not in data
    assert door.path.stat().st_mode & 0o077 == 0
    assert LockJournal.read(door.path)[0]["kind"] == "begun"


def test_access_key__when_shown_or_written__is_private(tmp_path):
    key = AccessKey(bytes(32), TermsId(bytes(32)), LocalSigner.create().secret)
    key.write(tmp_path / "key")
    assert AccessKey.read(tmp_path / "key") == key
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert key.secret.hex() not in repr(key)
    (tmp_path / "bad").write_text((tmp_path / "key").read_text().replace(key.secret.hex(), "00" * 32))
    for bad in ("bad", "nothing"):
        with pytest.raises(InputError):
            AccessKey.read(tmp_path / bad)
    with pytest.raises(InputError):
        Answer.of({"device": "0x" + "00" * 32})
