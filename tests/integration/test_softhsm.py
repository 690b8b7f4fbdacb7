"""Keys in a PKCS#11 token, for real: SoftHSM2 on both curves, and what the suite's verifiers say of its signatures."""

import subprocess
import sys
import threading

import pytest

from pyiot_evm.device import Field, Pkcs11Key, Pkcs11Signer, ReadingJournal, Schema, Signer, verify_signature
from pyiot_evm.device.signers import P256_ORDER, SECP256K1_ORDER
from pyiot_evm.exceptions import ConfigurationError, InputError, PassphraseError, SigningError
from pyiot_evm.hashing import keccak256

CURVES = ("p256", "secp256k1")
ORDERS = {"p256": P256_ORDER, "secp256k1": SECP256K1_ORDER}


@pytest.fixture(scope="module")
def keys(token):
    """A signer on each curve."""
    signers = {curve: Pkcs11Signer.create(token(curve), curve) for curve in CURVES}
    yield signers
    for signer in signers.values():
        signer.close()


@pytest.mark.parametrize("curve", CURVES)
def test_sign_digest__when_the_key_is_in_a_token__gives_signatures_that_every_verifier_takes(keys, curve):
    signer = keys[curve]
    assert isinstance(signer, Signer)
    assert signer.device == keccak256(signer.signer_bytes)
    for number in range(40):  # half of what a token gives has a high s
        digest = keccak256(bytes([number]))
        signature = signer.sign_digest(digest)
        assert verify_signature(signer.signer_bytes, digest, signature)
        assert int.from_bytes(signature[32:64], "big") <= ORDERS[curve] // 2


def test_open__when_the_token_is_opened_again__is_the_same_signer(keys, token):
    uri = f"pkcs11:token=door;object=p256?module-path={token.module}"
    with Pkcs11Signer.open(uri) as again:
        assert again.signer_bytes == keys["p256"].signer_bytes
    assert verify_signature(keys["p256"].signer_bytes, bytes(32), keys["p256"].sign_digest(bytes(32)))


def test_sign_digest__when_another_signer_of_the_process_logged_out__logs_in_again(keys, token, tmp_path):
    script = tmp_path / "two.py"  # a process of its own: its first signer is the one that logs in
    script.write_text(
        "import sys\nfrom pyiot_evm.device import Pkcs11Signer, verify_signature\n"
        "first, second = (Pkcs11Signer.open(sys.argv[1]) for _ in range(2))\n"
        "before = second._opened\nfirst.close()\nsignature = second.sign_digest(bytes(32))\n"
        "print(verify_signature(second.signer_bytes, bytes(32), signature), second._opened is not before)\n"
    )
    command = [sys.executable, str(script), token.uri("p256")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "True True\n"


def test_sign_digest__when_threads_share_a_signer__signs_for_each(keys):
    signatures = {}

    def sign(number):
        digest = keccak256(bytes([number]))
        signatures[digest] = keys["secp256k1"].sign_digest(digest)

    threads = [threading.Thread(target=sign, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(signatures) == 8
    assert all(verify_signature(keys["secp256k1"].signer_bytes, *pair) for pair in signatures.items())


def test_journal__when_the_key_is_in_a_token__holds_readings_that_verify(keys, tmp_path):
    signer, schema = keys["p256"], Schema((Field("temperature", unit="Cel", scale=2),))
    with ReadingJournal.open(tmp_path / "r", device=signer.device, schema=schema, curve="p256") as journal:
        journal.sign_many(signer, [(1_700_000_000_000 + n, [n]) for n in range(3)])
        journal.verify([signer.signer_bytes])


def test_create__when_the_label_or_the_curve_is_wrong__refuses(keys, token):
    with pytest.raises(InputError, match="the token door has an object named p256 already"):
        Pkcs11Signer.create(token("p256"))
    with pytest.raises(InputError, match="no such curve: 'ed25519'"):
        Pkcs11Signer.create(token("other"), "ed25519")


def test_open__when_something_is_not_there__says_what(keys, token, monkeypatch):
    module = str(token.module)
    with pytest.raises(ConfigurationError, match="the token door has no one key pair named nobody: NoSuchKey"):
        Pkcs11Signer.open(token("nobody"))
    with pytest.raises(ConfigurationError, match="cannot open the token window"):
        Pkcs11Signer.open(Pkcs11Key(module, "window", "p256"))
    with pytest.raises(ConfigurationError, match="cannot open the token door of /nowhere"):
        Pkcs11Signer.open(Pkcs11Key("/nowhere.so", "door", "p256"))
    monkeypatch.delenv("PYIOT_PKCS11_PIN")
    with pytest.raises(PassphraseError, match="there is no PIN for the token door"):
        Pkcs11Signer.open(token("p256"))


def test_open__when_the_pin_is_wrong__is_a_passphrase_error(token, tmp_path):
    script = tmp_path / "open.py"  # a process of its own: this one is logged in
    script.write_text(
        "import sys\nfrom pyiot_evm.device import Pkcs11Signer\nfrom pyiot_evm.exceptions import PassphraseError\n"
        "try:\n    Pkcs11Signer.open(sys.argv[1])\nexcept PassphraseError as error:\n    print(error)\n"
    )
    (tmp_path / "pin").write_text("000000\n")
    uri = f"pkcs11:token=door;object=p256?module-path={token.module}&pin-source={tmp_path}/pin"
    printed = subprocess.run([sys.executable, str(script), uri], check=True, capture_output=True, text=True).stdout
    assert printed == "the token door did not take the PIN: PinIncorrect\n"


def test_sign_digest__when_closed_or_no_digest__refuses(keys, token):
    signer = Pkcs11Signer.open(token("p256"))
    with pytest.raises(InputError, match="a digest has 32 bytes, not 31"):
        signer.sign_digest(bytes(31))
    signer.close()
    signer.close()
    with pytest.raises(SigningError, match="the signer is closed"):
        signer.sign_digest(bytes(32))
