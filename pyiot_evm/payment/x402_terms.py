"""x402's words and rules that both sides of a payment go by: schemes, the payment identifier, nonces, the largest sum.

Example:
    >>> SCHEMES, MAX_AMOUNT == 2**128 - 1
    (('exact', 'batch-settlement'), True)
"""

from __future__ import annotations

from typing import Final

from pyiot_evm.chain.abi import encode
from pyiot_evm.hashing import keccak256

__all__ = ["BATCH", "EXACT", "MAX_AMOUNT", "PAYMENT_IDENTIFIER", "SCHEMES", "deposit_nonce"]

EXACT: Final = "exact"
"""The scheme by which each payment is a transfer of its own."""
BATCH: Final = "batch-settlement"
"""The scheme by which payments are vouchers of a channel."""
SCHEMES: Final = (EXACT, BATCH)
PAYMENT_IDENTIFIER: Final = "payment-identifier"
"""The extension by which a client names a payment: the same name is the same payment."""
MAX_AMOUNT: Final = (1 << 128) - 1
"""What a channel holds and pays at most, base units (`uint128`)."""


def deposit_nonce(channel_id: bytes, salt: int) -> bytes:
    """Return the ERC-3009 nonce of the authorization by which a channel is paid into."""
    return keccak256(encode(["bytes32", "uint256"], [channel_id, salt]))
