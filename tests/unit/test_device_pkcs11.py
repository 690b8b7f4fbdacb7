"""pyiot_evm.device.pkcs11 without a token: URIs, PINs, and a chip that answers wrongly."""

import sys

import pytest

from pyiot_evm.device import LocalSigner, Pkcs11Key, Pkcs11Signer
from pyiot_evm.device.signers import P256_ORDER, SECP256K1_ORDER
from pyiot_evm.exceptions import ConfigurationError, InputError, PassphraseError, SigningError

URI = "pkcs11:token=door;object=lock?module-path=/m.so"


class Chip:
    """What a signer holds open, with a key that we know: it answers as a chip may, high s or garbage."""

    error = RuntimeError

    def __init__(self, curve, answer):
        self.key = LocalSigner.create(curve)
        self.curve, self.signer_bytes, self.answer = curve, self.key.signer_bytes, answer

    def sign(self, digest):
        return self.answer(self.key.sign_digest(digest)[:64])

    def close(self):
        pass


def signer_on(curve, answer):
    return Pkcs11Signer(place=Pkcs11Key.parse(URI), opened=Chip(curve, answer))


def high(order):
    return lambda raw: raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")


@pytest.mark.parametrize(("curve", "order"), [("p256", P256_ORDER), ("secp256k1", SECP256K1_ORDER)])
def test_sign_digest__when_the_chip_gives_a_high_s__gives_what_the_key_in_memory_gives(curve, order):
    signer = signer_on(curve, high(order))
    assert signer.sign_digest(bytes(32)) == signer._opened.key.sign_digest(bytes(32))


@pytest.mark.parametrize("answer", [lambda raw: raw[:-1], lambda _: bytes(64), lambda _: b"\xff" * 64])
@pytest.mark.parametrize("curve", ["p256", "secp256k1"])
def test_sign_digest__when_the_chip_gives_no_signature__is_an_error(curve, answer):
    with pytest.raises(SigningError, match="what the token gave is no signature of its key"):
        signer_on(curve, answer).sign_digest(bytes(32))


def test_sign_digest__when_the_chip_is_gone__is_an_error_that_may_pass(monkeypatch):
    def gone(_raw):
        raise RuntimeError("DeviceRemoved")

    monkeypatch.setenv("PYIOT_PKCS11_PIN", "1234")
    with pytest.raises(SigningError, match="the token did not sign: cannot open the token door") as caught:
        signer_on("p256", gone).sign_digest(bytes(32))
    assert caught.value.retryable


def test_sign_digest__when_the_chip_comes_back_with_another_key__is_an_error(monkeypatch):
    def gone(_raw):
        raise RuntimeError("DeviceRemoved")

    signer = signer_on("p256", gone)
    monkeypatch.setattr("pyiot_evm.device.pkcs11._open", lambda _place: Chip("p256", bytes))
    with pytest.raises(SigningError, match="the token door holds another key now"):
        signer.sign_digest(bytes(32))


def test_parse__when_the_uri_is_whole__has_its_parts_decoded():
    key = Pkcs11Key.parse("pkcs11:token=my%20door;object=l%C3%B6ck;type=private?module-path=/m.so&pin-source=file:/p")
    assert (key.module, key.token, key.label, str(key.pin_source)) == ("/m.so", "my door", "löck", "/p")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("https://example.org", "not the PKCS#11 URI of a key"),
        ("pkcs11:token=door?module-path=/m.so", "not the PKCS#11 URI of a key"),
        (URI + "&pin-value=1234", "a PIN is never an argument"),
        (URI + "&slot-id=1", "attributes that are not read here: slot-id"),
        (URI + "&pin-source=/a&pin-source=/b", "'pin-source' stands twice"),
        ("pkcs11:token=%FF;object=a?module-path=/m.so", "its text is not UTF-8"),
    ],
)
def test_parse__when_the_uri_is_none_of_ours__says_why(uri, message):
    with pytest.raises(InputError, match=message):
        Pkcs11Key.parse(uri)


def test_pin__when_a_file_is_named__is_its_first_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PYIOT_PKCS11_PIN", "of the environment")
    (tmp_path / "pin").write_text("1234\r\nrest\n")
    assert Pkcs11Key.parse(f"{URI}&pin-source={tmp_path}/pin").pin() == "1234"
    assert Pkcs11Key.parse(URI).pin() == "of the environment"


def test_pin__when_there_is_none__is_a_passphrase_error(tmp_path, monkeypatch):
    monkeypatch.delenv("PYIOT_PKCS11_PIN", raising=False)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(PassphraseError, match="there is no PIN for the token door"):
        Pkcs11Key.parse(URI).pin()
    with pytest.raises(PassphraseError, match="is empty"):
        Pkcs11Key.parse(f"{URI}&pin-source={tmp_path}/empty").pin()
    with pytest.raises(PassphraseError, match="cannot read the PIN file"):
        Pkcs11Key.parse(f"{URI}&pin-source={tmp_path}/nothing").pin()


def test_open__when_python_pkcs11_is_missing__names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(ConfigurationError, match="python-pkcs11 is missing") as caught:
        Pkcs11Signer.open(URI)
    assert caught.value.hint == "pip install 'pyiot-evm[pkcs11]'"
