"""x402's client for channels whose vouchers a P-256 key signs: it finds its last voucher again in a server's 402.

x402's own recovery knows ECDSA signatures only. All else is x402's. It needs the extra ``gateway``.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

from x402.mechanisms.evm.batch_settlement.client import BatchSettlementClientContext, BatchSettlementEvmScheme
from x402.mechanisms.evm.batch_settlement.client.channel import read_channel_balance_and_total_claimed
from x402.mechanisms.evm.batch_settlement.errors import (
    ERR_CUMULATIVE_AMOUNT_BELOW_CLAIMED,
    ERR_CUMULATIVE_AMOUNT_MISMATCH,
)

from pyiot_evm.payment.vouchers import SignedVoucher, config_of, is_p256_field

__all__ = ["RecoveringScheme"]

_STALE: Final = frozenset({ERR_CUMULATIVE_AMOUNT_MISMATCH, ERR_CUMULATIVE_AMOUNT_BELOW_CLAIMED})


class RecoveringScheme(BatchSettlementEvmScheme):
    """The scheme's client side.

    Args:
        domain: The contract that holds the channels.
        signer: See x402.
        options: See x402.
    """

    def __init__(self, domain: Any, signer: Any, options: Any) -> None:
        super().__init__(signer, options)
        self._domain = domain
        self._x402_hook = self.scheme_hooks.on_payment_response
        self.scheme_hooks = SimpleNamespace(on_payment_response=self._on_response)

    def _on_response(self, context: Any) -> Any:
        from x402.schemas.hooks import RecoveredResponseResult  # noqa: PLC0415

        shown = None if context.settle_response is not None else self._shown(context.payment_required)
        if shown is None:
            return self._x402_hook(context)
        return RecoveredResponseResult() if self._is_taken(*shown) else None

    def _shown(self, terms: Any) -> tuple[SignedVoucher, int] | None:
        """Return the P-256 voucher that a corrective 402 shows, and what was charged; ``None`` where it shows none."""
        wanted = next((a for a in (terms.accepts if terms is not None else []) if a.scheme == self.scheme), None)
        if wanted is None or terms.error not in _STALE:
            return None
        voucher, state = ((wanted.extra or {}).get(name) for name in ("voucherState", "channelState"))
        if not isinstance(voucher, dict) or not isinstance(state, dict):
            return None
        signature = bytes.fromhex(str(voucher.get("signature")).removeprefix("0x"))
        if not is_p256_field(signature):
            return None
        config = config_of(self.build_channel_config(wanted).to_dict())
        ceiling, charged = int(voucher["signedMaxClaimable"]), int(state["chargedCumulativeAmount"])
        return SignedVoucher(self._domain, config, ceiling, signature), charged

    def _is_taken(self, voucher: SignedVoucher, charged: int) -> bool:
        """Take over a voucher of ours, unless it or the chain says otherwise; tell whether it was."""
        key = str(voucher.channel_id).lower()
        balance, claimed = read_channel_balance_and_total_claimed(self._signer, key)
        if not claimed <= charged <= voucher.ceiling or not voucher.is_signed():
            return False
        found = BatchSettlementClientContext(
            charged_cumulative_amount=str(charged),
            signed_max_claimable=str(voucher.ceiling),
            signature="0x" + voucher.signature.hex(),
            balance=str(balance),
            total_claimed=str(claimed),
        )
        self._storage.set(key, found)
        return True
