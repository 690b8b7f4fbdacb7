"""x402's server keeps its channels in the payee's own book: one truth for gateway, watchtower and claims."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyiot_evm.payment.records import PayeeChannel
from pyiot_evm.payment.vouchers import ChannelId, config_fields, config_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pyiot_evm.gateway.signer import Faults
    from pyiot_evm.payment.payee_book import PayeeBook
    from pyiot_evm.payment.vouchers import ChannelDomain
    from pyiot_evm.types import Address

__all__ = ["BookStorage"]


class BookStorage:
    """x402's `ChannelStorage` over a payee's book; a change is one transaction of the book.

    Args:
        book: The book.
        domain: The contract that x402's channels are in.
        faults: Where faults of the book are noted.
    """

    def __init__(self, book: PayeeBook, domain: ChannelDomain, faults: Faults) -> None:
        self._book = book
        self._domain = domain
        self._faults = faults

    @property
    def contract(self) -> Address:
        """The contract that the channels are in."""
        return self._domain.contract

    def transaction(self) -> AbstractContextManager[Any]:
        """Return a context in which all changes are kept together, or none is."""
        return self._book.store.write()

    def charge_deposited(self, voucher: dict[str, str]) -> bool:
        """Charge a delivery that a deposit on the chain paid for, after a crash came in between.

        The book does not know of that deposit: the channel is looked at anew before the next payment.

        Returns:
            Whether it is charged: a channel that is not in the book cannot be.
        """
        ceiling, signature = int(voucher["maxClaimableAmount"]), bytes.fromhex(voucher["signature"].removeprefix("0x"))

        def change(known: PayeeChannel | None) -> PayeeChannel | None:
            if known is None or (known.ceiling >= ceiling and known.charged >= ceiling):
                return None
            taken = replace(known, charged=max(known.charged, ceiling), synced_at=0, note="")
            return taken if known.ceiling > ceiling else replace(taken, ceiling=ceiling, signature=signature)

        channel = ChannelId(voucher["channelId"])
        self._book.update(channel, change)
        return self._book.channel(channel) is not None

    def take_back(self, channel_id: str, amount: int) -> None:
        """Take back a charge for what was not delivered; the channel is looked at anew before the next one."""

        def change(known: PayeeChannel | None) -> PayeeChannel | None:
            if known is None:
                return None
            return replace(known, charged=max(known.charged - amount, known.claimed), synced_at=0, note="")

        self._book.update(ChannelId(channel_id), change)

    def release(self) -> None:
        """Free channels that an earlier process was serving when it ended: it charged nothing for those requests."""

        def change(known: PayeeChannel | None) -> PayeeChannel | None:
            note = json.loads(known.note) if known is not None and known.note else {}
            if known is None or not note.get("pending"):
                return None
            return replace(known, note=json.dumps(note | {"pending": None}))

        for channel in self._book.channels():
            self._book.update(channel.channel_id, change)

    def get(self, channel_id: str) -> Any:
        """Return x402's view of a channel, or ``None``."""
        with self._faults.noted_all():
            found = self._book.channel(ChannelId(channel_id))
        return None if found is None or found.domain != self._domain else _outside(found)

    def list(self) -> list[Any]:
        """Return x402's view of every channel."""
        return [_outside(channel) for channel in self._book.channels() if channel.domain == self._domain]

    def update_channel(self, channel_id: str, update: Callable[[Any], Any]) -> Any:
        """Change a channel as x402 asks: the same object leaves it, ``None`` deletes it."""
        from x402.mechanisms.evm.batch_settlement.server.storage import (  # noqa: PLC0415 - the extra `gateway`
            ChannelUpdateResult,
        )

        key = ChannelId(channel_id)
        with self._faults.noted_all(), self._book.store.write():
            known = self._book.channel(key)
            current = None if known is None else _outside(known)
            made = update(current)
            if made is current:
                return ChannelUpdateResult(channel=current, status="unchanged")
            if made is None:
                self._book.remove(key)
                return ChannelUpdateResult(channel=None, status="deleted")
            self._book.update(key, lambda _: _merged(known, self._inside(made)))
        return ChannelUpdateResult(channel=made.copy(), status="updated")

    def _inside(self, channel: Any) -> PayeeChannel:
        pending = channel.pending_request.to_dict() if channel.pending_request is not None else None
        synced = channel.onchain_synced_at
        note = {"synced": synced, "request": channel.last_request_timestamp, "pending": pending}
        return PayeeChannel(
            channel_id=ChannelId(channel.channel_id),
            domain=self._domain,
            config=config_of(channel.channel_config.to_dict()),
            balance=int(channel.balance),
            claimed=int(channel.total_claimed),
            charged=int(channel.charged_cumulative_amount),
            ceiling=int(channel.signed_max_claimable),
            signature=bytes.fromhex(channel.signature.removeprefix("0x")),
            withdraw_at=channel.withdraw_requested_at,
            refund_nonce=channel.refund_nonce,
            synced_at=0 if synced is None else synced // 1000,
            note=json.dumps(note),
        )


def _merged(known: PayeeChannel | None, made: PayeeChannel) -> PayeeChannel:
    """Keep what the watchtower saw while x402's code was at work on what it had read before, and the best voucher."""
    if known is None:
        return made
    if known.ceiling > made.ceiling:  # the payer's highest word is what is claimed by
        made = replace(made, ceiling=known.ceiling, signature=known.signature)
    return replace(
        made,
        claimed=max(known.claimed, made.claimed),
        withdraw_at=known.withdraw_at or made.withdraw_at,
        refund_nonce=max(known.refund_nonce, made.refund_nonce),
    )


def _outside(channel: PayeeChannel) -> Any:
    from x402.mechanisms.evm.batch_settlement.server.storage import Channel, PendingRequest  # noqa: PLC0415
    from x402.mechanisms.evm.batch_settlement.types import ChannelConfig  # noqa: PLC0415

    note = json.loads(channel.note) if channel.note else {}
    pending = note.get("pending")
    return Channel(
        channel_id=str(channel.channel_id),
        channel_config=ChannelConfig.from_dict(config_fields(channel.config)),
        charged_cumulative_amount=str(channel.charged),
        signed_max_claimable=str(channel.ceiling),
        signature="0x" + channel.signature.hex(),
        balance=str(channel.balance),
        total_claimed=str(channel.claimed),
        withdraw_requested_at=channel.withdraw_at,
        refund_nonce=channel.refund_nonce,
        onchain_synced_at=note.get("synced", channel.synced_at * 1000 or None),
        last_request_timestamp=note.get("request", 0),
        pending_request=PendingRequest.from_dict(pending) if pending else None,
    )
