"""What the channel books keep: channels as a payer and as a payee know them, and payments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiot_evm.payment.vouchers import ChannelDomain, SignedVoucher

if TYPE_CHECKING:
    from pyiot_evm.contracts.payment_channels import ChannelConfig
    from pyiot_evm.payment.vouchers import ChannelId
    from pyiot_evm.types import Address, TransactionHash

__all__ = ["Claim", "Deposit", "PayeeChannel", "PayerChannel", "Payment"]


@dataclass(frozen=True, slots=True)
class PayerChannel:
    """A channel that this side pays through.

    Attributes:
        balance: What was paid in and did not come back, base units, as the chain had it.
        claimed: What the payee has claimed, as the chain had it.
        ceiling: The highest ceiling that was reserved or signed: the sum of all payments.
        closing: Whether a withdrawal was announced: nothing more is paid through it.
    """

    channel_id: ChannelId
    domain: ChannelDomain
    config: ChannelConfig
    balance: int = 0
    claimed: int = 0
    ceiling: int = 0
    closing: bool = False

    @property
    def available(self) -> int:
        """What can still be paid without paying in."""
        return max(self.balance - self.ceiling, 0)


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment through a channel.

    Attributes:
        key: Names it: the same key is the same payment.
        amount: Base units.
        ceiling: The channel's ceiling with it.
    """

    key: str
    channel_id: ChannelId
    payee: Address
    token: Address
    amount: int
    ceiling: int
    at: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim did.

    Attributes:
        transaction: Its hash.
        amount: What it claimed, base units.
        channels: How many channels it claimed from.
        gas: What it used.
    """

    transaction: TransactionHash
    amount: int
    channels: int
    gas: int


@dataclass(frozen=True, slots=True)
class Deposit:
    """Money on its way into a channel: written down before it is signed."""

    channel_id: ChannelId
    number: int
    amount: int
    valid_before: int
    done: bool


@dataclass(frozen=True, slots=True)
class PayeeChannel:
    """A channel that this side is paid through.

    Attributes:
        balance: What was paid in and did not go back, base units, as the chain had it at ``synced_at``.
        claimed: What was claimed, the same.
        charged: What was delivered for: up to here it is claimed.
        ceiling: The highest ceiling that the payer signed.
        signature: The payer's, of that ceiling.
        withdraw_at: When the payer announced a withdrawal; 0: none is pending.
        refund_nonce: The channel's on the chain.
        synced_at: Unix seconds.
        note: What else the server of a scheme keeps with it (JSON).
    """

    channel_id: ChannelId
    domain: ChannelDomain
    config: ChannelConfig
    balance: int = 0
    claimed: int = 0
    charged: int = 0
    ceiling: int = 0
    signature: bytes = b""
    withdraw_at: int = 0
    refund_nonce: int = 0
    synced_at: int = 0
    note: str = ""

    @property
    def exposure(self) -> int:
        """What was delivered and is not claimed."""
        return max(self.charged - self.claimed, 0)

    @property
    def voucher(self) -> SignedVoucher:
        """The payer's last word."""
        return SignedVoucher(self.domain, self.config, self.ceiling, self.signature)
