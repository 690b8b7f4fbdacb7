r"""Secrets at rest: how a trader's content keys and one-time keys are kept.

Whoever holds a content key κ can open the data set, so κ is never written in the clear: it is encrypted with a key
that only the trader's own account key can make. The same secret gives every purchase its one-time scalar ``e``,
from the sale and the number of the attempt, so that a crash, or even a lost journal, cannot lose a paid-for key.

The secret is the hash of a deterministic signature (RFC 6979) over typed data of its own domain, so that a signer that
does not give its key away can serve too; one whose signatures are not deterministic is refused.

Example:
    >>> from pyiot_evm.device import LocalSigner
    >>> vault = Vault.of(LocalSigner.from_secret(bytes(31) + b"\x01"))
    >>> vault.decrypt(vault.encrypt(b"a content key", label=b"Q"), label=b"Q")
    b'a content key'
"""

from __future__ import annotations

import secrets
from typing import Protocol, Self

from pyiot_evm.device.typed import domain_separator, struct_hash, type_hash, typed_digest
from pyiot_evm.exceptions import ConsistencyError, SigningError
from pyiot_evm.hashing import keccak256

__all__ = ["Vault"]

_DOMAIN = domain_separator("pyiot Vault", "1")
_SECRET = typed_digest(_DOMAIN, struct_hash(type_hash("VaultSecret(bytes signer)")))
_NONCE_BYTES = 12


class _DigestSigner(Protocol):
    @property
    def signer_bytes(self) -> bytes: ...

    def sign_digest(self, digest: bytes) -> bytes: ...


class Vault:
    """Encrypts a trader's secrets and derives its one-time scalars.

    Args:
        secret: 32 bytes that only the trader can make again; see :meth:`of`.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = bytes(secret)

    @classmethod
    def of(cls, signer: _DigestSigner) -> Self:
        """Make the vault that belongs to an account's signer.

        Raises:
            SigningError: The signer gives two signatures for one digest, so the secret could not be made again.
        """
        first = signer.sign_digest(_SECRET)
        if first != signer.sign_digest(_SECRET):
            raise SigningError(
                "the signer's signatures are not deterministic, so it cannot keep secrets",
                hint="use a signer that follows RFC 6979",
            )
        return cls(keccak256(b"pyiot Vault 1" + signer.signer_bytes + first))

    def __repr__(self) -> str:
        return "Vault(<secret>)"

    def derive(self, purpose: str, *parts: bytes) -> bytes:
        """Derive 32 bytes for one purpose; the same arguments always give the same bytes."""
        packed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return keccak256(keccak256(self._secret + purpose.encode()) + packed)

    def encrypt(self, secret: bytes, *, label: bytes) -> bytes:
        """Encrypt a secret with AES-256-GCM; ``label`` must be given again to open it.

        Returns:
            The nonce and the ciphertext with its tag.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - slow to import

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.derive("encryption")).encrypt(nonce, secret, label)

    def decrypt(self, sealed: bytes, *, label: bytes) -> bytes:
        """Open what :meth:`encrypt` made.

        Raises:
            ConsistencyError: It was encrypted by another account or under another label, or it was changed.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - slow to import
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - slow to import

        try:
            return AESGCM(self.derive("encryption")).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], label)
        except InvalidTag as error:
            raise ConsistencyError(
                "the journal's secret was not encrypted by this account",
                hint="open the market with the account that made the journal",
            ) from error
