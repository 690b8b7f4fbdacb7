"""Who stands between a renter and a lock, a lock that fills up by being used, a bolt that jams, a PIN that changed."""

from dataclasses import replace

import pytest

from pyiot_evm.device import LocalSigner, Pkcs11Key, Pkcs11Signer
from pyiot_evm.device.lock_client import LockClient
from pyiot_evm.device.lock_messages import Purpose
from pyiot_evm.device.lock_policy import LockPolicy
from pyiot_evm.device.lock_server import LockServer
from pyiot_evm.exceptions import PassphraseError, SigningError, TransportError, VerificationError


class Relay:
    """Stands at the door and passes on what it likes."""

    def __init__(self, lock, **answers):
        self._lock, self._answers = lock, answers

    def __getattr__(self, name):
        return self._answers.get(name) or getattr(self._lock, name)


def test_client__when_a_relay_gives_the_check_out_s_challenge_for_the_opening__signs_nothing(door, tmp_path):
    # The answer is signed over the purpose that the challenge names. A client that took any purpose let whoever stood
    # at the door end the rental of a renter who only wanted to get in.
    made = door()
    key, other = made.rent(), made.rent(salt=2)
    made.try_it(key)
    swapped = [
        lambda terms_id, _: made.lock.challenge(terms_id, Purpose.CHECK_OUT),
        lambda _, purpose: replace(made.lock.challenge(other.terms_id, purpose), device=key.device),
    ]
    for number, challenge in enumerate(swapped):
        place = tmp_path / str(number)
        wanted = pytest.raises(VerificationError, match="in another rental, or not to open")
        with LockServer(Relay(made.lock, challenge=challenge), path=place), LockClient(place) as phone, wanted:
            phone.open(key)
    assert len(made.lock.statements(key.terms_id)) == 1


@pytest.mark.parametrize(
    ("act", "done"),
    [
        ("hello", {"device": "0x"}),
        ("hello", {"device": 5, "signer": 5, "owner": 5}),
        ("challenge", {"challenge": 5}),
        ("challenge", {}),
        ("statements", {"statements": 5}),
        ("statements", {"statements": [5]}),
        ("statements", {"statements": ["{}"]}),
        ("statements", {}),
    ],
    ids=str,
)
def test_client__when_a_lock_s_answer_has_another_form__is_a_typed_error(door, monkeypatch, tmp_path, act, done):
    made = door()
    key = made.rent()
    acts = {
        "hello": lambda phone: phone.hello(),
        "challenge": lambda phone: phone.open(key),
        "statements": lambda phone: phone.statements(key.terms_id),
    }
    monkeypatch.setattr("pyiot_evm.device.lock_server._done", lambda _lock, _line: done)
    wanted = pytest.raises(TransportError, match="is no lock")
    with LockServer(made.lock, path=tmp_path / "s"), LockClient(tmp_path / "s") as phone, wanted:
        acts[act](phone)


def test_client__when_a_lock_says_that_it_is_over_and_shows_nothing__is_a_typed_error(door, tmp_path):
    made = door()
    key = made.rent()
    made.try_it(key)
    made.try_it(key, Purpose.CHECK_OUT)
    silent = Relay(made.lock, statements=lambda _terms_id: ())
    wanted = pytest.raises(VerificationError, match="is no signed statement of this rental")
    with LockServer(silent, path=tmp_path / "s"), LockClient(tmp_path / "s") as phone, wanted:
        phone.check_out(key)


def test_program__when_more_rentals_came_and_went_than_it_holds__takes_the_next(door):
    # Slots that were over counted until the journal was written anew, at a megabyte: a charger by the hour was full
    # after 256 rentals, took no other one, and so its journal never grew to be written anew.
    made = door(policy=LockPolicy(max_slots=2))
    for number in range(5):
        begins = made.START + number * 3600
        made.now = begins
        made.try_it(made.rent(salt=number, start=begins, end=begins + 3600))
    assert made.openings == 5


def test_bolt__when_it_jams_at_the_reading_where_another_renter_came__charges_nobody_for_the_other_s_use(door):
    # Taking back a jammed check-in let the count of everybody go on whose count had ended at the same reading, also of
    # those who had been relieved by somebody else before.
    made = door()
    first, second, third = made.rent(), made.rent(salt=2), made.rent(salt=3)
    made.try_it(first)
    made.meter += 5
    made.try_it(second)
    bolt = made.unlock

    def jam():
        raise OSError(5, "the bolt does not move")

    made.unlock = jam
    made.unplugged()
    with pytest.raises(OSError, match="the bolt does not move"):
        made.try_it(third)
    made.unlock = bolt
    made.unplugged()
    made.meter += 30
    assert made.try_it(first, Purpose.CHECK_OUT).statement.units == 5
    assert made.try_it(second, Purpose.CHECK_OUT).statement.units == 30


def test_chip__when_its_pin_was_changed__is_asked_once_and_never_again(monkeypatch):
    # A lock signs again and again, and each signature tried the wrong PIN once more: three of them lock a chip.
    import pkcs11

    asked = []

    class Token:
        def open(self, **_options):
            asked.append(1)
            raise pkcs11.exceptions.PinIncorrect

    class Module:
        def get_token(self, **_which):
            return Token()

    class Gone:
        error = pkcs11.exceptions.PKCS11Error
        curve, signer_bytes = "p256", LocalSigner.create("p256").signer_bytes

        def sign(self, _digest):
            raise pkcs11.exceptions.DeviceRemoved

        def close(self):
            pass

    monkeypatch.setattr(pkcs11, "lib", lambda _path: Module())
    monkeypatch.delenv("PYIOT_PKCS11_PIN", raising=False)
    signer = Pkcs11Signer(place=Pkcs11Key("/m.so", "door", "lock"), opened=Gone())
    with pytest.raises(SigningError, match="there is no PIN"):
        signer.sign_digest(bytes(32))
    monkeypatch.setenv("PYIOT_PKCS11_PIN", "1234")
    for _ in range(3):
        with pytest.raises(SigningError, match="did not take the PIN"):
            signer.sign_digest(bytes(32))
    assert len(asked) == 1
    with pytest.raises(PassphraseError):
        Pkcs11Signer.open("pkcs11:token=door;object=lock?module-path=/m.so")
    assert len(asked) == 2
