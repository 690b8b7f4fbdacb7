"""The payee's channel book: the payers' last word, and what was delivered for it.

A voucher is taken and the delivery is charged in one transaction, before anything is delivered. Every voucher's
signature is checked, a stale or equal one's too: nobody who did not sign learns anything from an answer.

Exposure is what was delivered and is not claimed: what a payer could still take away. It has a cap.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pyiot_evm.exceptions import VerificationError
from pyiot_evm.payment.records import PayeeChannel
from pyiot_evm.payment.vouchers import MIN_WITHDRAW_DELAY, ChannelDomain, ChannelId, config_fields, config_of
from pyiot_evm.types import ZERO_ADDRESS, Address, scale_units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyiot_evm.payment.store import PaymentStore
    from pyiot_evm.payment.vouchers import SignedVoucher

__all__ = ["ChannelRefusedError", "PayeeBook", "PayeePolicy", "VoucherRefusedError"]

_COLUMNS: Final = (
    "balance", "claimed", "charged", "ceiling", "signature", "withdraw_at", "refund_nonce", "synced_at", "note",
)  # fmt: skip


class VoucherRefusedError(VerificationError):
    """A voucher does not pay for what is asked.

    Attributes:
        last: The payer's own last voucher, for a payer that lost its book; only where the refused one was signed.
    """

    code: ClassVar[str] = "voucher_refused"

    def __init__(self, message: str, *, last: SignedVoucher | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.last = last


class ChannelRefusedError(VerificationError):
    """Nothing is delivered through this channel now: its terms, its state or the exposure forbid it."""

    code: ClassVar[str] = "channel_refused"


@dataclass(frozen=True, slots=True)
class PayeePolicy:
    """What a payee takes; the defaults are for a token of 6 decimals that is worth a dollar, see :meth:`of`.

    Attributes:
        max_exposure: What may be delivered through one channel and not be claimed, base units.
        min_withdraw_delay: Seconds that a channel must leave to claim in.
        allow_contract_payers: Whether to take channels without a payer's authorizer: a contract wallet can take its
            vouchers back.
        gas_factor: Claim once what is unclaimed is worth this many times the gas.
        token_per_ether: Base units of the token for one ether, or for one of whatever the chain's gas is paid in, to
            compare the two.
        claim_every: Seconds after which everything is claimed anyway.
        fresh_for: Seconds for which what the chain said of a channel counts.
    """

    max_exposure: int = 10_000_000
    min_withdraw_delay: int = MIN_WITHDRAW_DELAY
    allow_contract_payers: bool = False
    gas_factor: int = 20
    token_per_ether: int = 3_000_000_000
    claim_every: int = 24 * 3600
    fresh_for: int = 60

    def is_fresh(self, channel: PayeeChannel, *, now: float) -> bool:
        """Whether what the chain said of a channel counts: not if it is old, nor if the clock was set back since.

        It may be a little newer than ``now``, where another thread looked while this one waited.
        """
        return abs(int(now) - channel.synced_at) <= self.fresh_for

    @classmethod
    def of(cls, decimals: int) -> PayeePolicy:
        """Return the defaults for a token of other decimals."""
        usual = cls()
        return replace(
            usual,
            max_exposure=scale_units(usual.max_exposure, decimals=decimals),
            token_per_ether=scale_units(usual.token_per_ether, decimals=decimals),
        )


class PayeeBook:
    """The channels that one account is paid through.

    Args:
        store: Where it is kept.
        payee: The account.
        policy: What it takes.
    """

    def __init__(self, store: PaymentStore, payee: Address, policy: PayeePolicy) -> None:
        self.store = store
        self.payee = payee
        self.policy = policy

    def channel(self, channel_id: bytes) -> PayeeChannel | None:
        """Return a channel, or ``None`` where the book has none of this id for this payee."""
        query = "SELECT * FROM payee_channels WHERE channel_id = ? AND payee = ?"
        found = self.store.read(query, channel_id.hex(), self.payee.hex())
        return _channel(found[0]) if found else None

    def channels(self) -> list[PayeeChannel]:
        """Return every channel of this payee."""
        query = "SELECT * FROM payee_channels WHERE payee = ? ORDER BY rowid"
        return [_channel(row) for row in self.store.read(query, self.payee.hex())]

    def sync(self, channel: PayeeChannel, *, at: int) -> PayeeChannel:
        """Take over what the chain says of a channel (``balance``, ``claimed``, ``withdraw_at``, ``refund_nonce``)."""

        def change(known: PayeeChannel | None) -> PayeeChannel:
            return replace(
                known or channel,
                balance=channel.balance,
                claimed=channel.claimed,
                charged=max(known.charged if known else 0, channel.claimed),
                withdraw_at=channel.withdraw_at,
                refund_nonce=channel.refund_nonce,
                synced_at=at,
            )

        return self.update(channel.channel_id, change) or channel

    def add_events(self, contract: Address, channel_ids: Iterable[bytes]) -> None:
        """Write down that something happened to channels of a contract, to be looked at, whatever ends meanwhile."""
        rows = [(self.payee.hex(), contract.hex(), bytes(channel_id).hex()) for channel_id in channel_ids]
        with self.store.write() as database:
            database.executemany("INSERT INTO payee_events (payee, contract, channel_id) VALUES (?, ?, ?)", rows)

    def events(self, contract: Address) -> tuple[int, set[bytes]]:
        """Return the number of the last event that was written down and is not dropped, and the channels of all."""
        query = "SELECT number, channel_id FROM payee_events WHERE payee = ? AND contract = ?"
        rows = self.store.read(query, self.payee.hex(), contract.hex())
        return max((row["number"] for row in rows), default=0), {bytes.fromhex(row["channel_id"]) for row in rows}

    def drop_events(self, contract: Address, last: int) -> None:
        """Forget events up to a number: their channels were looked at since."""
        query = "DELETE FROM payee_events WHERE payee = ? AND contract = ? AND number <= ?"
        with self.store.write() as database:
            database.execute(query, (self.payee.hex(), contract.hex(), last))

    def accept(self, voucher: SignedVoucher, price: int, *, now: int) -> PayeeChannel:
        """Take a voucher and charge what is about to be delivered; the channel must have been synced lately.

        Args:
            voucher: The payer's.
            price: Base units; 0 takes the voucher as credit for later.
            now: Unix seconds.

        Raises:
            VoucherRefusedError: It is not signed, not higher, or above the channel's balance.
            ChannelRefusedError: The channel's terms or state forbid it; ``retryable`` once it is claimed.
        """
        self.check_terms(voucher)
        with self.store.write():
            known = self._free(voucher.channel_id, now=now)
            self._check_state(known, voucher, price)
            return self._take(known, voucher, known.charged + price)

    def collect(self, voucher: SignedVoucher, *, now: int) -> PayeeChannel:
        """Take a voucher for what was delivered already, and charge all of it that the channel holds.

        Nothing more is delivered for it, so it is taken also where the payer is leaving, and above the exposure's cap.

        Args:
            voucher: The payer's; the same one again changes nothing.
            now: Unix seconds.

        Raises:
            VoucherRefusedError: It is not signed, all of it is used up, or the channel holds nothing more for it.
            ChannelRefusedError: The channel's terms forbid it, or it is in use; ``retryable``.
        """
        self.check_terms(voucher)
        with self.store.write():
            known = self._free(voucher.channel_id, now=now)
            if voucher.ceiling < known.charged:
                raise VoucherRefusedError(f"the voucher is for {voucher.ceiling}, {known.charged} are used up")
            held = min(voucher.ceiling, known.balance)
            if held < voucher.ceiling and held <= known.charged:
                raise VoucherRefusedError(f"the voucher is for {voucher.ceiling}, the channel holds {known.balance}")
            return self._take(known, voucher, max(known.charged, held))

    def _free(self, channel_id: bytes, *, now: int) -> PayeeChannel:
        known = self.channel(channel_id)
        if known is None or not self.policy.is_fresh(known, now=now):
            raise ChannelRefusedError(f"channel {ChannelId(channel_id)} was not looked at lately", retryable=True)
        self.check_free(known, now=now)
        return known

    def _take(self, known: PayeeChannel, voucher: SignedVoucher, charged: int) -> PayeeChannel:
        taken = replace(known, charged=charged)
        if voucher.ceiling > known.ceiling:
            taken = replace(taken, ceiling=voucher.ceiling, signature=voucher.signature)
        self._put(taken)
        return taken

    def check_terms(self, voucher: SignedVoucher) -> None:
        """Check all of a voucher that needs no book: its channel's terms and its signature.

        Raises:
            ChannelRefusedError: Its terms are not those of a channel to this payee.
            VoucherRefusedError: The payer's side did not sign it.
        """
        config = voucher.config
        if config.receiver != self.payee or config.receiver_authorizer != self.payee:
            raise ChannelRefusedError(
                f"the channel pays {config.receiver}, and {config.receiver_authorizer} claims for it: not {self.payee}"
            )
        if config.payer_authorizer == ZERO_ADDRESS and not self.policy.allow_contract_payers:
            raise ChannelRefusedError("the channel has no payer's authorizer: its vouchers could be taken back")
        if config.withdraw_delay < self.policy.min_withdraw_delay:
            least = self.policy.min_withdraw_delay
            raise ChannelRefusedError(f"the channel's withdraw delay is {config.withdraw_delay} s, wanted are {least}")
        if voucher.lock or not voucher.is_signed():
            raise VoucherRefusedError("the payer's side did not sign this voucher")

    @staticmethod
    def check_free(known: PayeeChannel, *, now: int) -> None:
        """See that no request over HTTP has this channel: x402 adds its charge later, to whatever is charged by then.

        Raises:
            ChannelRefusedError: One has; ``retryable``.
        """
        pending = json.loads(known.note).get("pending") if known.note else None
        if pending and int(pending["expiresAt"]) > now * 1000:
            raise ChannelRefusedError(f"a request over HTTP is using channel {known.channel_id}", retryable=True)

    def _check_state(self, known: PayeeChannel, voucher: SignedVoucher, price: int) -> None:
        last = known.voucher if known.signature else None
        if known.withdraw_at:
            raise ChannelRefusedError(f"the payer is leaving channel {known.channel_id}")
        if voucher.ceiling > known.balance:
            raise VoucherRefusedError(f"the voucher is for {voucher.ceiling}, the channel holds {known.balance}")
        if max(voucher.ceiling, known.ceiling) - known.charged < price or voucher.ceiling < known.ceiling:
            raise VoucherRefusedError(
                f"the voucher is for {voucher.ceiling}, {known.charged} are used up and {price} more are asked",
                last=last,
                hint="pay on from the last voucher",
            )
        if known.exposure + price > self.policy.max_exposure:
            raise ChannelRefusedError(
                f"{known.exposure} are delivered and not claimed, the cap is {self.policy.max_exposure}", retryable=True
            )

    def update(
        self, channel_id: bytes, change: Callable[[PayeeChannel | None], PayeeChannel | None]
    ) -> PayeeChannel | None:
        """Change a channel in one transaction; ``None`` leaves it as it is."""
        with self.store.write():
            made = change(self.channel(channel_id))
            if made is not None:
                self._put(made)
        return made

    def remove(self, channel_id: bytes) -> None:
        """Forget a channel."""
        with self.store.write() as database:
            database.execute(
                "DELETE FROM payee_channels WHERE channel_id = ? AND payee = ?", (channel_id.hex(), self.payee.hex())
            )

    def _put(self, channel: PayeeChannel) -> None:
        config = channel.config
        changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
        marks = ", ".join("?" * (6 + len(_COLUMNS)))
        row = (
            channel.channel_id.hex(), channel.domain.chain_id, channel.domain.contract.hex(), config.receiver.hex(),
            config.token.hex(), json.dumps(config_fields(config)), str(channel.balance), str(channel.claimed),
            str(channel.charged), str(channel.ceiling), channel.signature, channel.withdraw_at, channel.refund_nonce,
            channel.synced_at, channel.note,
        )  # fmt: skip
        with self.store.write() as database:
            database.execute(
                f"INSERT INTO payee_channels (channel_id, chain_id, contract, payee, token, config, "  # noqa: S608
                f"{', '.join(_COLUMNS)}) VALUES ({marks}) ON CONFLICT (channel_id) DO UPDATE SET {changes}",
                row,
            )


def _channel(row: Any) -> PayeeChannel:
    return PayeeChannel(
        channel_id=ChannelId(row["channel_id"]),
        domain=ChannelDomain(row["chain_id"], Address(row["contract"])),
        config=config_of(json.loads(row["config"])),
        balance=int(row["balance"]),
        claimed=int(row["claimed"]),
        charged=int(row["charged"]),
        ceiling=int(row["ceiling"]),
        signature=bytes(row["signature"]),
        withdraw_at=row["withdraw_at"],
        refund_nonce=row["refund_nonce"],
        synced_at=row["synced_at"],
        note=row["note"],
    )
