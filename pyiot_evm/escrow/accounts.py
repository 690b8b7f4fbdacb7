"""Accounts that are contracts: how they say whether they signed, and how their members' signatures become one.

An account of several keys (ERC-7913, like OpenZeppelin's ``MultiSignerERC7913``) takes the list of its members that
signed and the list of their signatures, members in the order of their hashes.

Example:
    >>> joined = join_signatures([(b"member", b"signature")])
    >>> len(joined), joined == join_signatures([(b"member", b"signature")] * 2)
    (320, True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyiot_evm.chain.abi import encode
from pyiot_evm.contracts.erc1271 import Erc1271
from pyiot_evm.exceptions import ConsistencyError, ContractError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Bytes32

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyiot_evm.chain import Chain
    from pyiot_evm.types import Address

__all__ = ["account_signed", "join_signatures"]

_MAGIC: Final = bytes.fromhex("1626ba7e")


def account_signed(chain: Chain, account: Address, digest: bytes, signature: bytes) -> bool:
    """Ask an account whether it signed a digest (ERC-1271); one that does not answer did not."""
    try:
        answer = chain.call(Erc1271(account).is_valid_signature(Bytes32(digest), signature))
    except (ConsistencyError, ContractError):
        return False
    return bytes(answer) == _MAGIC


def join_signatures(signatures: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the signature of an account of several keys, from its members' signer bytes and signatures.

    Args:
        signatures: Each member with its signature, in any order.
    """
    ordered = sorted(dict(signatures).items(), key=lambda item: keccak256(item[0]))
    return encode(["bytes[]", "bytes[]"], [[signer for signer, _ in ordered], [signed for _, signed in ordered]])
