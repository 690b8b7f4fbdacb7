"""Keys in encrypted files: Web3 Secret Storage (V3 JSON, scrypt) for secp256k1, PKCS#8 (PBES2, RFC 8018) for P-256.

Other tools read both: geth, eth-account and every wallet the first, OpenSSL and ``cryptography`` the second. A key is
never written in the clear, a file is never written over, and only its owner can read it (0600).

Example:
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "device.json"
    >>> signer = KeystoreSigner.create(path, "correct horse", cost=LIGHT)
    >>> KeystoreSigner.open(path, "correct horse").signer_bytes == signer.signer_bytes == read_signer(path)
    True
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from os import urandom
from typing import TYPE_CHECKING, Any, Final, Self

from pyiot_evm.device.der import integer, null, object_id, octets, sequence
from pyiot_evm.device.files import write_new
from pyiot_evm.device.signers import Curve, LocalSigner, check_signer
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LIGHT", "STANDARD", "Cost", "KeystoreSigner", "read_signer"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess at a passphrase costs.

    Args:
        scrypt_n: scrypt's N for V3 files, a power of two; r is 8, p is 1, so a guess takes N KiB of memory.
        pbkdf2_rounds: Rounds of HMAC-SHA-256 for PKCS#8 files.
    """

    scrypt_n: int
    pbkdf2_rounds: int


STANDARD: Final = Cost(scrypt_n=1 << 17, pbkdf2_rounds=600_000)
"""For passphrases that people choose (OWASP's Password Storage Cheat Sheet)."""

LIGHT: Final = Cost(scrypt_n=1 << 12, pbkdf2_rounds=10_000)
"""For passphrases that are random already, as a devnet's are; a guess is hopeless at any cost."""

_MAX_FILE: Final = 64 * 1024
_MAX_MEMORY: Final = 1 << 30
_MAX_ROUNDS: Final = 10_000_000
_WRONG: Final = "wrong passphrase, or a damaged file: "
_PEM_SIGNER: Final = "pyiot-signer: "
_PEM_BEGIN: Final = "-----BEGIN ENCRYPTED PRIVATE KEY-----"
_PEM_END: Final = "-----END ENCRYPTED PRIVATE KEY-----"


class KeystoreSigner(LocalSigner):
    """A key that lies encrypted in a file and is in memory only while this object is open."""

    __slots__ = ("path",)

    path: Path

    @classmethod
    def create(  # type: ignore[override]
        cls, path: Path, passphrase: str, curve: Curve = "secp256k1", *, cost: Cost = STANDARD
    ) -> Self:
        """Make a new random key and write it to a new file.

        Args:
            path: The file to write; its folder must exist.
            passphrase: What opens it again.
            curve: The key's curve, and with it the file's format.
            cost: What a guess at the passphrase costs.

        Raises:
            InputError: ``path`` exists, or the passphrase is empty.
        """
        return cls.save(LocalSigner.create(curve), path, passphrase, cost=cost)

    @classmethod
    def save(cls, signer: LocalSigner, path: Path, passphrase: str, *, cost: Cost = STANDARD) -> Self:
        """Write a key that is in memory to a new file, and return the signer on that file.

        Raises:
            InputError: ``path`` exists, or the passphrase is empty.
        """
        if not passphrase:
            raise InputError("the passphrase is empty")
        encrypt = _encrypt_v3 if signer.curve == "secp256k1" else _encrypt_pkcs8
        write_new(path, encrypt(signer, passphrase.encode(), cost))
        return cls._on(path, signer.secret, signer.curve)

    @classmethod
    def open(cls, path: Path, passphrase: str) -> Self:
        """Open a keystore of either format; V3 files of other tools too (scrypt or PBKDF2).

        Raises:
            InputError: No such file, not a keystore, its parameters ask for too much, or a wrong passphrase.
        """
        data = _read(path)
        if data.lstrip().startswith("{"):
            secret, curve = _decrypt_v3(_parse_v3(data, path), passphrase.encode(), path), "secp256k1"
        else:
            secret, curve = _decrypt_pkcs8(data, passphrase.encode(), path), "p256"
        signer = cls._on(path, secret, curve)  # type: ignore[arg-type]
        claimed = _claimed_signer(data, path)
        if claimed is not None and claimed != signer.signer_bytes:
            raise InputError(f"{path} holds another key than it says")
        return signer

    @classmethod
    def _on(cls, path: Path, secret: bytes, curve: Curve) -> Self:
        signer = cls.from_secret(secret, curve)
        signer.path = path
        return signer


def read_signer(path: Path) -> bytes | None:
    """Return the signer bytes that a keystore states in the clear, without opening it.

    What is stated is checked when the keystore is opened. Files of other tools may state nothing: then None.

    Raises:
        InputError: No such file, or not a keystore.
    """
    return _claimed_signer(_read(path), path)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot read the keystore {path}: {error.strerror}") from error
    if len(data) > _MAX_FILE:
        raise InputError(f"{path} is too large for a keystore")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a keystore") from error


def _claimed_signer(data: str, path: Path) -> bytes | None:
    try:
        if data.lstrip().startswith("{"):
            claimed = json.loads(data).get("address")
        else:
            lines = (line.removeprefix(_PEM_SIGNER) for line in data.splitlines() if line.startswith(_PEM_SIGNER))
            claimed = next(lines, None)
            if _PEM_BEGIN not in data:
                raise InputError(f"{path} is not a keystore")
        if claimed is None:
            return None
        signer_bytes = bytes.fromhex(claimed.removeprefix("0x"))
        check_signer(signer_bytes)
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a keystore") from error
    return signer_bytes


def _encrypt_v3(signer: LocalSigner, passphrase: bytes, cost: Cost) -> bytes:
    salt, vector = urandom(32), urandom(16)
    key = _scrypt(passphrase, salt, cost.scrypt_n, 8, 1)
    ciphertext = _aes_ctr(key[:16], vector, signer.secret)
    document = {
        "version": 3,
        "id": _uuid4(),
        "address": signer.signer_bytes.hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": vector.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": {"dklen": 32, "n": cost.scrypt_n, "r": 8, "p": 1, "salt": salt.hex()},
            "mac": keccak256(key[16:32] + ciphertext).hex(),
        },
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _parse_v3(data: str, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(data)
        crypto = document.get("crypto") or document["Crypto"]
        if document["version"] != 3 or crypto["cipher"] != "aes-128-ctr":  # noqa: PLR2004
            raise InputError(f"{path} is not a version 3 keystore with AES-128-CTR")
        return {
            "kdf": crypto["kdf"],
            "parameters": dict(crypto["kdfparams"]),
            "salt": bytes.fromhex(crypto["kdfparams"]["salt"]),
            "vector": bytes.fromhex(crypto["cipherparams"]["iv"]),
            "ciphertext": bytes.fromhex(crypto["ciphertext"]),
            "mac": bytes.fromhex(crypto["mac"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a version 3 keystore") from error


def _decrypt_v3(crypto: dict[str, Any], passphrase: bytes, path: Path) -> bytes:
    try:
        key = _derive_v3(crypto, passphrase, path)
        expected = keccak256(key[16:32] + crypto["ciphertext"])
        if not hmac.compare_digest(expected, crypto["mac"]):
            raise InputError(f"{_WRONG}{path}")
        return _aes_ctr(key[:16], crypto["vector"], crypto["ciphertext"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{path} is not a version 3 keystore") from error


def _derive_v3(crypto: dict[str, Any], passphrase: bytes, path: Path) -> bytes:
    parameters = crypto["parameters"]
    if parameters.get("dklen", 32) != 32:  # noqa: PLR2004
        raise InputError(f"{path} has a key length that is not supported")
    if crypto["kdf"] == "scrypt":
        n, r, p = parameters["n"], parameters["r"], parameters["p"]
        if not (r > 0 and p > 0 and n > 1 and 128 * n * r * p <= _MAX_MEMORY):
            raise InputError(f"{path} asks for too much work: n={n}, r={r}, p={p}")
        return _scrypt(passphrase, crypto["salt"], n, r, p)
    rounds = parameters.get("c")
    if crypto["kdf"] != "pbkdf2" or parameters.get("prf") != "hmac-sha256":
        raise InputError(f"{path} has a key derivation that is not supported")
    if not 0 < rounds <= _MAX_ROUNDS:
        raise InputError(f"{path} asks for too much work: {rounds} rounds")
    return hashlib.pbkdf2_hmac("sha256", passphrase, crypto["salt"], rounds, 32)


def _scrypt(passphrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(passphrase, salt=salt, n=n, r=r, p=p, maxmem=128 * r * (n + p + 2), dklen=32)


def _aes_ctr(key: bytes, vector: bytes, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415 - slow to import

    encryptor = Cipher(algorithms.AES(key), modes.CTR(vector)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def _encrypt_pkcs8(signer: LocalSigner, passphrase: bytes, cost: Cost) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415 - slow to import

    salt, vector = urandom(16), urandom(16)
    plain = _private_key_info(signer)
    padding = 16 - len(plain) % 16
    key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, cost.pbkdf2_rounds, 32)
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    ciphertext = encryptor.update(plain + bytes([padding]) * padding) + encryptor.finalize()
    hashing = sequence(object_id("1.2.840.113549.2.9"), null())  # hmacWithSHA256
    derivation = sequence(
        object_id("1.2.840.113549.1.5.12"),  # PBKDF2
        sequence(octets(salt), integer(cost.pbkdf2_rounds), hashing),
    )
    cipher = sequence(object_id("2.16.840.1.101.3.4.1.42"), octets(vector))  # aes256-CBC-PAD
    scheme = sequence(object_id("1.2.840.113549.1.5.13"), sequence(derivation, cipher))  # PBES2
    body = base64.encodebytes(sequence(scheme, octets(ciphertext))).replace(b"\n", b"").decode()
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return "\n".join([_PEM_SIGNER + signer.signer_bytes.hex(), _PEM_BEGIN, *lines, _PEM_END, ""]).encode()


def _private_key_info(signer: LocalSigner) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.derive_private_key(int.from_bytes(signer.secret, "big"), ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _decrypt_pkcs8(data: str, passphrase: bytes, path: Path) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    start, end = data.find(_PEM_BEGIN), data.find(_PEM_END)
    if start < 0 or end < start:
        raise InputError(f"{path} is not a keystore: neither V3 JSON nor encrypted PKCS#8")
    try:
        key = load_pem_private_key(data[start : end + len(_PEM_END)].encode(), passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{_WRONG}{path}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InputError(f"{path} holds a key that is not P-256")
    return key.private_numbers().private_value.to_bytes(32, "big")


def _uuid4() -> str:
    raw = bytearray(urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
