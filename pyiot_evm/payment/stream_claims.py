"""Claims by a published key: what is left to a payee whose payer took a key and never came back.

A key is published only where it was handed over before. So a claim that comes too late gives nothing away that the
payer did not have, and a reading whose key never left is simply not paid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyiot_evm.payment.records import Claim
from pyiot_evm.payment.stream_sales import StreamSales
from pyiot_evm.types import Bytes32

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from pyiot_evm.payment.payee import Payee
    from pyiot_evm.payment.records import PayeeChannel
    from pyiot_evm.payment.stream_sales import Sale

__all__ = ["GRACE", "LockedClaims"]

GRACE: Final = 60
"""Seconds that a payer has to settle a reading by a plain voucher, which is cheaper to claim."""


class LockedClaims:
    """Claims the locked vouchers of one payee.

    Args:
        payee: The payee.
        clock: Unix seconds.
    """

    def __init__(self, payee: Payee, *, clock: Callable[[], float]) -> None:
        self._payee = payee
        self._clock = clock
        self.sales = StreamSales(payee.book)

    def due(self, among: Container[bytes]) -> list[Sale]:
        """Return what can be claimed by its key alone: its payer is leaving, or did not settle it in time.

        Args:
            among: The channels to look at.
        """
        found = [(c, s) for c, s in self.sales.unsettled() if c.channel_id in among and c.domain == self._payee.domain]
        return [sale for channel, sale in found if self._is_due(channel, sale)]

    def claim(self, sale: Sale) -> Claim:
        """Claim a locked voucher and with it all that the channel paid before; this publishes its key.

        Raises:
            ContractError: The contract refused.
        """
        (before,) = self._payee.sync([self._channel(sale)])
        total = min(sale.offer.ceiling, before.balance)
        call = self._payee.contract.claim_locked(sale.voucher.claim(total), Bytes32(sale.preimage))
        key = f"pay:claim-locked:{sale.voucher.channel_id}:{sale.voucher.lock.hex()[:16]}:{total}"
        receipt = self._payee.account.transact(call, key=key)
        (after,) = self._payee.sync([before])
        gained = after.claimed - before.claimed
        return Claim(receipt.hash, gained, int(gained > 0), receipt.gas_used)

    def _is_due(self, channel: PayeeChannel, sale: Sale) -> bool:
        if min(sale.offer.ceiling, channel.balance) <= channel.claimed:
            return False
        if channel.withdraw_at:  # after the delay the money can leave first
            return self._payee.chain.now() < channel.withdraw_at + channel.config.withdraw_delay
        return abs(self._clock() - sale.at) >= GRACE  # one that lies ahead is from before the clock was set back

    def _channel(self, sale: Sale) -> PayeeChannel:
        known = self._payee.book.channel(sale.voucher.channel_id)
        assert known is not None
        return known
