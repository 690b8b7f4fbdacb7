"""x402's facilitator and server with this suite's voucher check: P-256 keys are taken too.

x402's code checks a voucher's signature by one function, which knows ECDSA only. The modules that call it are loaded a
second time, privately, with a function in its place that checks 148-byte signatures by the contract's rule and hands
everything else to x402's own. The package's own modules stay as they are, for this process and any other.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any, Final

from x402.mechanisms.evm.batch_settlement.facilitator.scheme import BatchSettlementEvmFacilitator
from x402.mechanisms.evm.batch_settlement.facilitator.utils import verify_batch_settlement_voucher_typed_data
from x402.mechanisms.evm.batch_settlement.server.scheme import BatchSettlementEvmScheme
from x402.mechanisms.evm.batch_settlement.types import (
    ChannelConfig,
    DepositPayload,
    is_deposit_payload,
    is_refund_payload,
    is_voucher_payload,
)
from x402.mechanisms.evm.data_suffix import resolve_data_suffix

from pyiot_evm.chain.deployment import X402_CHANNELS
from pyiot_evm.exceptions import ConfigurationError
from pyiot_evm.payment.vouchers import ChannelDomain, ChannelId, is_p256_field, is_signed_by_authorizer
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Facilitator", "ServerScheme"]

_PACKAGE: Final = "x402.mechanisms.evm.batch_settlement"
_CHECK: Final = "verify_batch_settlement_voucher_typed_data"
_CHECKING: Final = ("facilitator.deposit", "facilitator.voucher", "server.verify")
_UNKNOWN: Final = "this version of x402 checks vouchers elsewhere: it cannot be made to take P-256 keys"
_HINT: Final = "install the version that this package names"


def _is_signed(  # noqa: PLR0917 - x402's signature
    signer: Any,
    channel_id: str,
    max_claimable_amount: str,
    payer_authorizer: str,
    payer: str,
    signature: str,
    chain_id: int,
) -> bool:
    """Whether the payer's side signed a voucher: P-256 by the contract's rule, else x402's own word."""
    if not _is_p256(signature):
        return bool(
            verify_batch_settlement_voucher_typed_data(
                signer, channel_id, max_claimable_amount, payer_authorizer, payer, signature, chain_id
            )
        )
    domain = ChannelDomain(chain_id, X402_CHANNELS)
    digest = domain.voucher_digest(ChannelId(channel_id), int(max_claimable_amount))
    return is_signed_by_authorizer(Address(payer_authorizer), digest, bytes.fromhex(signature.removeprefix("0x")))


def _is_p256(signature: Any) -> bool:
    try:
        return is_p256_field(bytes.fromhex(signature.removeprefix("0x")))
    except (ValueError, TypeError, AttributeError):
        return False


@cache
def _own(name: str) -> ModuleType:
    """Load one of x402's modules a second time, with this suite's check in it.

    Raises:
        ConfigurationError: This version of x402 does not check vouchers there.
    """
    import_module(f"{_PACKAGE}.{name}")  # its dataclasses look for it
    spec = find_spec(f"{_PACKAGE}.{name}")
    if spec is None or spec.loader is None:
        raise ConfigurationError(_UNKNOWN, hint=_HINT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, _CHECK):
        raise ConfigurationError(_UNKNOWN, hint=_HINT)
    setattr(module, _CHECK, _is_signed)
    return module


def _has_p256_voucher(raw: Any) -> bool:
    voucher = raw.get("voucher") if isinstance(raw, dict) else None
    return isinstance(voucher, dict) and _is_p256(voucher.get("signature"))


class Facilitator(BatchSettlementEvmFacilitator):
    """x402's facilitator, which takes vouchers of P-256 keys too.

    Args:
        signer: See x402.

    Raises:
        ConfigurationError: This version of x402 cannot be made to take them.
    """

    def __init__(self, signer: Any) -> None:
        super().__init__(signer)
        for name in _CHECKING:  # what x402's code raises later is a 402
            _own(name)

    def verify(self, payload: Any, requirements: Any, context: Any = None) -> Any:
        """Verify a payment; see x402."""
        raw, accepted = payload.payload, payload.accepted
        wanted = (self.scheme, requirements.network) == (requirements.scheme, accepted.network)
        if not _has_p256_voucher(raw) or accepted.scheme != self.scheme or not wanted:
            return super().verify(payload, requirements, context)
        if is_deposit_payload(raw):
            deposit, factories = DepositPayload.from_dict(raw), self._eip6492_allowed_factories
            return _own("facilitator.deposit").verify_deposit(
                self._signer, payload, deposit, requirements, context, factories
            )
        if is_voucher_payload(raw) or is_refund_payload(raw):
            config = ChannelConfig.from_dict(raw["channelConfig"])
            return _own("facilitator.voucher").verify_voucher(self._signer, raw, requirements, config)
        return super().verify(payload, requirements, context)

    def settle(self, payload: Any, requirements: Any, context: Any = None) -> Any:
        """Settle a payment; see x402. Only a deposit has its voucher checked again."""
        raw = payload.payload
        if not _has_p256_voucher(raw) or not is_deposit_payload(raw):
            return super().settle(payload, requirements, context)
        return _own("facilitator.deposit").settle_deposit(
            self._signer,
            payload,
            DepositPayload.from_dict(raw),
            requirements,
            context,
            self._eip6492_allowed_factories,
            data_suffix=resolve_data_suffix(context, payload, requirements),
            pending_store=self._pending_store,
        )


class ServerScheme(BatchSettlementEvmScheme):
    """x402's server side of the scheme, which takes vouchers of P-256 keys too."""

    def before_verify(self, context: Any) -> Any:
        """Check a voucher against what is known of its channel; see x402."""
        if not _has_p256_voucher(context.payment_payload.payload):
            return super().before_verify(context)
        return _own("server.verify").handle_before_verify(self, context)
