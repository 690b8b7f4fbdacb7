"""pyiot_evm.identity.sessions without a chain: credentials, their guards, answers."""

import base64

import pytest

from pyiot_evm.device import Field, LocalSigner, Reading, ReadingJournal, Schema, Signer
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity import Credential, RegistryMessages, Scope, SessionKey
from pyiot_evm.types import Address

MESSAGES = RegistryMessages(chain_id=1, registry=Address("0x" + "11" * 20))
END = 1_800_000_000
CURVES = ("secp256k1", "p256")
CHALLENGE = keccak256(b"challenge")


@pytest.fixture(params=CURVES)
def device(request):
    return LocalSigner.create(request.param)


@pytest.fixture(params=CURVES)
def key(request):
    return SessionKey(LocalSigner.create(request.param))


def issue(device, key, **more):
    options = {"messages": MESSAGES, "not_after": END, "scope": Scope.PUBLISH | Scope.COMMAND, "epoch": 3} | more
    return Credential.issue(device, key.signer_bytes, **options)


def check(credential, device, **more):
    facts = {"scope": Scope.PUBLISH, "now": END, "epoch": 3, "key": keccak256(device.signer_bytes)} | more
    credential.check(more.pop("messages", MESSAGES), **{k: v for k, v in facts.items() if k != "messages"})


def test_check__when_everything_fits__holds(device, key):
    credential = issue(device, key)
    for scope in (Scope.PUBLISH, Scope.COMMAND, Scope.PUBLISH | Scope.COMMAND):
        check(credential, device, scope=scope)
    assert credential.struct.session_signer == keccak256(key.signer_bytes)


def test_decode__when_given_what_encode_wrote__gives_the_credential_back(device, key):
    credential = issue(device, key)
    text = credential.encode()
    assert Credential.decode(text) == credential
    assert len(text) < 512
    check(Credential.decode(text), device)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"now": END + 1}, f"it ended at {END}, and it is {END + 1}"),
        ({"scope": Scope.CONFIGURE}, "its scope is 3, and 4 is needed"),
        ({"scope": Scope.PUBLISH | Scope.CONFIGURE}, "its scope is 3, and 5 is needed"),
        ({"scope": 0}, "its scope is 3, and 0 is needed"),
        ({"epoch": 4}, "it is of epoch 3, and the device is at 4"),
        ({"epoch": 2}, "it is of epoch 3, and the device is at 2"),
        ({"key": bytes(32)}, "it was signed by a key that is not the device's now"),
    ],
)
def test_check__when_one_thing_does_not_fit__says_which(device, key, change, reason):
    with pytest.raises(VerificationError, match=reason):
        check(issue(device, key), device, **change)


def test_check__when_it_is_for_another_chain_or_registry__raises(device, key):
    credential = issue(device, key)
    for other in (
        RegistryMessages(chain_id=2, registry=MESSAGES.registry),
        RegistryMessages(chain_id=1, registry=Address("0x" + "12" * 20)),
    ):
        with pytest.raises(VerificationError, match="the signature is not the device's"):
            check(credential, device, messages=other)


@pytest.mark.parametrize("field", ["not_after", "scope", "epoch", "session_signer", "device"])
def test_check__when_a_field_was_changed_after_signing__raises(device, key, field):
    from dataclasses import replace

    credential = issue(device, key)
    changed = {
        "not_after": END + 1000,
        "scope": 7,
        "epoch": 4,
        "session_signer": LocalSigner.create().signer_bytes,
        "device": type(credential.device)(bytes(32)),
    }
    forged = replace(credential, **{field: changed[field]})
    with pytest.raises(VerificationError, match="the signature is not the device's"):
        check(forged, device, epoch=forged.epoch)


def test_answer__when_given_the_challenge__shows_that_the_key_is_there(device, key):
    credential = issue(device, key)
    answer = key.answer(credential, messages=MESSAGES, audience="gate.example", challenge=CHALLENGE)
    credential.check_answer(MESSAGES, answer, audience="gate.example", challenge=CHALLENGE)
    for audience, challenge in (("other.example", CHALLENGE), ("gate.example", keccak256(b"next"))):
        with pytest.raises(VerificationError, match="the answer is not signed by the session's key"):
            credential.check_answer(MESSAGES, answer, audience=audience, challenge=challenge)


def test_check_answer__when_a_thief_copied_the_credential__raises(device, key):
    thief = SessionKey(LocalSigner.create())
    credential = issue(device, key)
    with pytest.raises(InputError, match="the session was lent to another key"):
        thief.answer(credential, messages=MESSAGES, audience="a", challenge=CHALLENGE)
    own = thief.answer(issue(device, thief), messages=MESSAGES, audience="a", challenge=CHALLENGE)
    with pytest.raises(VerificationError, match="the answer is not signed by the session's key"):
        credential.check_answer(MESSAGES, own, audience="a", challenge=CHALLENGE)


def test_answer__when_the_challenge_has_another_length__raises(device, key):
    with pytest.raises(InputError, match="a challenge has 32 bytes, not 31"):
        key.answer(issue(device, key), messages=MESSAGES, audience="a", challenge=bytes(31))


def test_session_key__when_handed_to_what_signs_readings__is_no_signer(tmp_path, key):
    assert not isinstance(key, Signer)
    with pytest.raises(AttributeError):
        Reading.sign(key, seq=0, time=0, schema=bytes(32), values=(1,))
    schema = Schema((Field("a"),))
    with (
        ReadingJournal.open(tmp_path / "j", device=bytes(32), schema=schema, curve="p256") as journal,
        pytest.raises(AttributeError),
    ):
        journal.sign(key, values=(1,))
    assert not hasattr(key, "sign_digest")


def test_issue__when_the_session_key_is_the_device_s_own__raises(device):
    with pytest.raises(InputError, match="a session has a key of its own, not the device's"):
        Credential.issue(device, device.signer_bytes, messages=MESSAGES, not_after=END, scope=1)


@pytest.mark.parametrize("scope", [0, -1, 2**32])
def test_issue__when_the_scope_is_empty_or_too_large__raises(device, key, scope):
    with pytest.raises(InputError, match="a session's scope is one to 32 bits"):
        issue(device, key, scope=scope)


@pytest.mark.parametrize("change", [{"not_after": -1}, {"not_after": 2**40}, {"epoch": -1}, {"epoch": 2**16}])
def test_issue__when_a_number_does_not_fit__raises(device, key, change):
    with pytest.raises(InputError, match="does not fit"):
        issue(device, key, **change)


@pytest.mark.parametrize("text", ["", "a", "ä", "!!!!", "AQ", "Ag" + "A" * 200, "A" * 2000, "AQ" + "A" * 200])
def test_decode__when_a_stranger_wrote_it__raises(text):
    with pytest.raises(InputError):
        Credential.decode(text)


def test_decode__when_there_are_two_spellings__takes_one(device, key):
    text = issue(device, key).encode()
    padded = base64.urlsafe_b64encode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))).decode()
    for spelling in (text + "\n", " " + text, padded if padded != text else text + "=", text[:-1]):
        with pytest.raises(InputError):
            Credential.decode(spelling)
