"""pyiot_evm.device.keystore: both formats, other tools' files, guards, privacy of the files."""

import json
import stat
import subprocess

import pytest
from eth_account import Account

from pyiot_evm.device import KeystoreSigner, LocalSigner
from pyiot_evm.device.keystore import LIGHT, STANDARD, read_signer
from pyiot_evm.exceptions import InputError, SigningError
from pyiot_evm.hashing import keccak256

PASSPHRASE = "Gieß den Kaktus"
CURVES = ("secp256k1", "p256")
# The PBKDF2 test vector of the Web3 Secret Storage definition. (Its scrypt vector has N = 2**18 with r = 1, which RFC
# 7914 forbids and OpenSSL refuses; eth-account's files stand for scrypt below.)
SPECIFICATION = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "key"


@pytest.mark.parametrize("curve", CURVES)
def test_open__when_the_passphrase_is_right__has_the_key(path, curve):
    made = KeystoreSigner.create(path, PASSPHRASE, curve, cost=LIGHT)
    opened = KeystoreSigner.open(path, PASSPHRASE)
    assert (opened.curve, opened.signer_bytes, opened.secret) == (curve, made.signer_bytes, made.secret)
    assert opened.path == path
    assert read_signer(path) == made.signer_bytes
    opened.close()
    with pytest.raises(SigningError, match="closed"):
        opened.sign_digest(bytes(32))


@pytest.mark.parametrize("curve", CURVES)
def test_create__when_called__writes_a_private_file_without_the_secret(path, curve):
    signer = KeystoreSigner.create(path, PASSPHRASE, curve, cost=LIGHT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    data = path.read_bytes()
    assert signer.secret not in data
    assert signer.secret.hex().encode() not in data.lower()
    assert [file.name for file in path.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("curve", CURVES)
def test_create__when_the_file_exists__raises_and_leaves_it(path, curve):
    path.write_text("precious")
    with pytest.raises(InputError, match=f"{path} exists already"):
        KeystoreSigner.create(path, PASSPHRASE, curve, cost=LIGHT)
    assert path.read_text() == "precious"
    assert [file.name for file in path.parent.iterdir()] == ["key"]


def test_create__when_the_passphrase_is_empty__raises(path):
    with pytest.raises(InputError, match="the passphrase is empty"):
        KeystoreSigner.create(path, "", cost=LIGHT)
    assert not path.exists()


@pytest.mark.parametrize("curve", CURVES)
def test_open__when_the_passphrase_is_wrong__raises_without_showing_it(path, curve):
    KeystoreSigner.create(path, PASSPHRASE, curve, cost=LIGHT)
    with pytest.raises(InputError, match="wrong passphrase, or a damaged file") as caught:
        KeystoreSigner.open(path, "guess-4711")
    assert "guess-4711" not in str(caught.value)


def test_open__when_given_the_specification_s_vector__has_its_secret(path):
    path.write_text(json.dumps(SPECIFICATION))
    signer = KeystoreSigner.open(path, "testpassword")
    assert signer.secret.hex() == "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
    assert read_signer(path) is None


def test_open__when_eth_account_wrote_the_file__has_its_key(path):
    account = Account.create()
    path.write_text(json.dumps(account.encrypt(PASSPHRASE, iterations=1024)))
    signer = KeystoreSigner.open(path, PASSPHRASE)
    assert str(signer.address) == account.address
    assert read_signer(path) == signer.signer_bytes


def test_create__when_eth_account_reads_the_file__has_our_key(path):
    signer = KeystoreSigner.create(path, PASSPHRASE, cost=LIGHT)
    assert Account.decrypt(path.read_text(), PASSPHRASE) == signer.secret


def test_create__when_openssl_reads_the_p256_file__has_our_public_key(path):
    signer = KeystoreSigner.create(path, "kaktus", "p256", cost=LIGHT)
    command = ["openssl", "ec", "-in", str(path), "-passin", "pass:kaktus", "-pubout", "-outform", "DER"]
    public = subprocess.run(command, check=True, capture_output=True).stdout
    assert public.endswith(signer.signer_bytes[20:])


def test_standard__when_compared__costs_what_owasp_asks_for():
    assert (STANDARD.scrypt_n, STANDARD.pbkdf2_rounds) == (2**17, 600_000)


def test_create__when_standard__writes_its_cost_into_the_file(path):
    KeystoreSigner.create(path, PASSPHRASE)
    assert json.loads(path.read_text())["crypto"]["kdfparams"]["n"] == 2**17
    assert KeystoreSigner.open(path, PASSPHRASE).path == path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kdfparams": {"n": 2**30, "r": 8, "p": 1, "dklen": 32, "salt": "00"}}, "asks for too much work"),
        ({"kdfparams": {"n": 2**10, "r": 2**20, "p": 2**20, "dklen": 32, "salt": "00"}}, "asks for too much work"),
        ({"kdfparams": {"n": -1, "r": 8, "p": 1, "dklen": 32, "salt": "00"}}, "asks for too much work"),
        ({"kdfparams": {"n": 1000, "r": 8, "p": 1, "dklen": 32, "salt": "00"}}, "is not a version 3 keystore"),
        ({"kdfparams": {"n": "x", "r": 8, "p": 1, "dklen": 32, "salt": "00"}}, "is not a version 3 keystore"),
        ({"kdfparams": {"n": 1024, "r": 8, "p": 1, "dklen": 64, "salt": "00"}}, "key length that is not supported"),
        ({"kdf": "argon2"}, "key derivation that is not supported"),
        (
            {"kdf": "pbkdf2", "kdfparams": {"c": 10**9, "prf": "hmac-sha256", "dklen": 32, "salt": "00"}},
            "asks for too much work",
        ),
        ({"kdf": "pbkdf2", "kdfparams": {"c": 1, "prf": "hmac-md5", "salt": "00"}}, "that is not supported"),
        ({"cipher": "rot13"}, "is not a version 3 keystore with AES-128-CTR"),
        ({"mac": "zz"}, "is not a version 3 keystore"),
        ({"ciphertext": ""}, "wrong passphrase, or a damaged file"),
    ],
)
def test_open__when_a_stranger_made_the_json__raises_before_working(path, change, message):
    KeystoreSigner.create(path, PASSPHRASE, cost=LIGHT)
    document = json.loads(path.read_text())
    document["crypto"] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=message):
        KeystoreSigner.open(path, PASSPHRASE)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"{", b"null", b"\xff\xfe", b"hello", b"x" * 70_000])
def test_open__when_it_is_no_keystore__raises(path, data):
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"not a (version 3 )?keystore|too large for a keystore"):
        KeystoreSigner.open(path, PASSPHRASE)
    if data != b"{}":
        with pytest.raises(InputError):
            read_signer(path)


def test_open__when_there_is_no_file__raises(path):
    with pytest.raises(InputError, match="cannot read the keystore"):
        KeystoreSigner.open(path, PASSPHRASE)


def test_open__when_the_p256_file_was_damaged__raises(path):
    KeystoreSigner.create(path, PASSPHRASE, "p256", cost=LIGHT)
    lines = path.read_text().splitlines()
    lines[3] = lines[3][:-4] + "AAAA"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match="wrong passphrase, or a damaged file"):
        KeystoreSigner.open(path, PASSPHRASE)


@pytest.mark.parametrize("curve", CURVES)
def test_open__when_the_file_names_another_key__raises(path, curve):
    signer = KeystoreSigner.create(path, PASSPHRASE, curve, cost=LIGHT)
    other = LocalSigner.from_secret(keccak256(b"other"), curve)
    path.write_text(path.read_text().replace(signer.signer_bytes.hex(), other.signer_bytes.hex()))
    assert read_signer(path) == other.signer_bytes
    with pytest.raises(InputError, match="holds another key than it says"):
        KeystoreSigner.open(path, PASSPHRASE)


def test_open__when_the_pem_holds_another_curve__raises(path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    encryption = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    with pytest.raises(InputError, match="holds a key that is not P-256"):
        KeystoreSigner.open(path, PASSPHRASE)


def test_open__when_cryptography_wrote_the_p256_file__has_its_key(path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    encryption = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    signer = KeystoreSigner.open(path, PASSPHRASE)
    assert int.from_bytes(signer.secret, "big") == key.private_numbers().private_value
    assert read_signer(path) is None


def test_open__when_the_pem_is_not_encrypted__raises(path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    clear = serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, clear))
    with pytest.raises(InputError, match=r"neither V3 JSON nor encrypted PKCS#8"):
        KeystoreSigner.open(path, PASSPHRASE)
