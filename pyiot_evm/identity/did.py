"""A device's decentralised identifier and its document (W3C DID Core).

Where the genesis key's public point is known, the DID is a ``did:key`` (multicodec ``secp256k1-pub`` or ``p256-pub``,
the point compressed, base58btc); where only an address is known, it is a ``did:pkh`` with the chain. Keys that were
rotated in later stand in the document as Multikey or EcdsaSecp256k1RecoveryMethod2020.

Example:
    >>> point = (0x874c15c7fda20e539c6e5ba573c139884c351188799f5458b4b41f7924f235cd, None)
    >>> did_key("secp256k1", point[0], 1)
    'did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme'
    >>> did_pkh(Address("0x" + "11" * 20), chain_id=1)
    'did:pkh:eip155:1:0x1111111111111111111111111111111111111111'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.device import curve_of
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyiot_evm.device import Curve

__all__ = ["base58btc", "did_document", "did_key", "did_of", "did_pkh", "multikey"]

_MULTICODEC: Final[dict[Curve, bytes]] = {"secp256k1": b"\xe7\x01", "p256": b"\x80\x24"}
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_CONTEXTS: Final = [
    "https://www.w3.org/ns/did/v1",
    "https://w3id.org/security/multikey/v1",
    "https://w3id.org/security/suites/secp256k1recovery-2020/v2",
]
_USES: Final = ("authentication", "assertionMethod", "capabilityInvocation", "capabilityDelegation")


def base58btc(data: bytes) -> str:
    """Return bytes in Bitcoin's base 58."""
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = _ALPHABET[digit] + digits
    return _ALPHABET[0] * (len(data) - len(data.lstrip(b"\0"))) + digits


def multikey(curve: Curve, x: int, y: int) -> str:
    """Return a public key as a multibase text: ``z``, then multicodec and compressed point in base58btc.

    Args:
        curve: The key's curve.
        x: The point's x.
        y: The point's y; only whether it is odd counts.
    """
    return "z" + base58btc(_MULTICODEC[curve] + bytes([2 + (y & 1)]) + x.to_bytes(32, "big"))


def did_key(curve: Curve, x: int, y: int) -> str:
    """Return the ``did:key`` of a public key."""
    return "did:key:" + multikey(curve, x, y)


def did_pkh(address: Address, *, chain_id: int) -> str:
    """Return the ``did:pkh`` of an account on a chain (CAIP-10)."""
    return f"did:pkh:{_account(address, chain_id)}"


def did_of(signer_bytes: bytes, *, chain_id: int, point: tuple[int, int] | None = None) -> str:
    """Return the DID of the device whose genesis signer this is.

    Args:
        signer_bytes: 20 or 84 bytes.
        chain_id: The chain, where only an address is known.
        point: The public key of a 20-byte signer, where it is known (any of its signatures gives it away).
    """
    known = _point(signer_bytes) or point
    if known is None:
        return did_pkh(Address(signer_bytes), chain_id=chain_id)
    return did_key(curve_of(signer_bytes), *known)


def did_document(
    did: str,
    signers: Sequence[bytes],
    *,
    chain_id: int,
    points: Mapping[bytes, tuple[int, int]] | None = None,
    owner: Address | None = None,
) -> dict[str, Any]:
    """Return a device's DID document.

    Args:
        did: Its DID, of :func:`did_of` its genesis signer.
        signers: The signers that are good now; none for a revoked device: its document then says deactivated.
        chain_id: The chain whose registry says so.
        points: Public keys of 20-byte signers, where they are known.
        owner: The account that owns the device.
    """
    methods = [_method(did, signer, chain_id, (points or {}).get(signer)) for signer in signers]
    document: dict[str, Any] = {"@context": list(_CONTEXTS), "id": did}
    if owner is not None:
        document["controller"] = did_pkh(owner, chain_id=chain_id)
    document["verificationMethod"] = methods
    for use in _USES:
        document[use] = [method["id"] for method in methods]
    if not methods:
        document["deactivated"] = True
    return document


def _method(did: str, signer_bytes: bytes, chain_id: int, point: tuple[int, int] | None) -> dict[str, str]:
    known = _point(signer_bytes) or point
    if known is None:
        account = _account(Address(signer_bytes), chain_id)
        return {
            "id": f"{did}#{account}",
            "type": "EcdsaSecp256k1RecoveryMethod2020",
            "controller": did,
            "blockchainAccountId": account,
        }
    key = multikey(curve_of(signer_bytes), *known)
    return {"id": f"{did}#{key}", "type": "Multikey", "controller": did, "publicKeyMultibase": key}


def _account(address: Address, chain_id: int) -> str:
    return f"eip155:{chain_id}:{address}"


def _point(signer_bytes: bytes) -> tuple[int, int] | None:
    if curve_of(signer_bytes) == "secp256k1":
        return None
    return int.from_bytes(signer_bytes[20:52], "big"), int.from_bytes(signer_bytes[52:], "big")
