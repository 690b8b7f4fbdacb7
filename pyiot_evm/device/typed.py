"""EIP-712 typed data, encoded by hand: what every signature of the suite is made over.

A digest takes about two microseconds this way, 282 through a general encoder; the parity tests hold the two equal.
Each struct of the suite writes its type down once, as a type hash, and gives its fields as 32-byte words in order.

Example:
    >>> SESSION = type_hash("Session(bytes32 device,uint40 notAfter)")
    >>> domain = domain_separator("pyiot DeviceRegistry", "1", chain_id=31337, contract=bytes(20))
    >>> typed_digest(domain, struct_hash(SESSION, bytes(32), word(1700000000))).hex()[:16]
    'e1d4a42c4c0ca4a5'
"""

from __future__ import annotations

from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256

__all__ = [
    "address_word",
    "bytes_word",
    "domain_separator",
    "signed_word",
    "struct_hash",
    "type_hash",
    "typed_digest",
    "word",
]

_DOMAIN_FIELDS = (
    ("name", "string name"),
    ("version", "string version"),
    ("chain_id", "uint256 chainId"),
    ("contract", "address verifyingContract"),
)


def type_hash(declaration: str) -> bytes:
    """Return the hash of a struct's type.

    Args:
        declaration: The type as EIP-712's ``encodeType`` writes it, e.g. ``"Mail(address to,string contents)"``.
    """
    return keccak256(declaration.encode("ascii"))


def word(value: int, *, bits: int = 256) -> bytes:
    """Return an unsigned number as a 32-byte word.

    Args:
        value: The number.
        bits: The width of the field's type, e.g. 40 for a ``uint40``.

    Raises:
        InputError: ``value`` does not fit ``bits`` bits.
    """
    if not 0 <= value < 1 << bits:
        raise InputError(f"{value} does not fit uint{bits}")
    return value.to_bytes(32, "big")


def signed_word(value: int, *, bits: int = 256) -> bytes:
    """Return a signed number as a 32-byte word (two's complement).

    Raises:
        InputError: ``value`` does not fit ``bits`` bits.
    """
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise InputError(f"{value} does not fit int{bits}")
    return value.to_bytes(32, "big", signed=True)


def address_word(address: bytes) -> bytes:
    """Return a 20-byte address as a 32-byte word.

    Raises:
        InputError: ``address`` has not 20 bytes.
    """
    if len(address) != 20:  # noqa: PLR2004
        raise InputError(f"an address has 20 bytes, not {len(address)}")
    return bytes(12) + address


def bytes_word(data: bytes | str) -> bytes:
    """Return a dynamic ``bytes`` or ``string`` field as its 32-byte word: the hash of its content."""
    return keccak256(data.encode() if isinstance(data, str) else data)


def struct_hash(type_hash: bytes, *words: bytes) -> bytes:
    """Return EIP-712's ``hashStruct``: the hash of the type hash and the fields' words, in order."""
    return keccak256(type_hash + b"".join(words))


def domain_separator(name: str, version: str, *, chain_id: int | None = None, contract: bytes | None = None) -> bytes:
    """Return the separator of an EIP-712 domain; cache it, it never changes.

    Args:
        name: The domain's name, e.g. ``"pyiot DataMarket"``.
        version: The domain's version.
        chain_id: The chain that the signature is for; left out, the signature holds on every chain.
        contract: The 20 bytes of the contract that the signature is for; left out, none.
    """
    given = {"name": name, "version": version, "chain_id": chain_id, "contract": contract}
    declaration = ",".join(field for key, field in _DOMAIN_FIELDS if given[key] is not None)
    words = [bytes_word(name), bytes_word(version)]
    if chain_id is not None:
        words.append(word(chain_id))
    if contract is not None:
        words.append(address_word(contract))
    return struct_hash(type_hash(f"EIP712Domain({declaration})"), *words)


def typed_digest(domain_separator: bytes, struct_hash: bytes) -> bytes:
    """Return the 32-byte digest that is signed."""
    return keccak256(b"\x19\x01" + domain_separator + struct_hash)
