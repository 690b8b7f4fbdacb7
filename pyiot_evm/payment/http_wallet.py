"""The x402 package's own client over a machine's key, chain and book: what it is asked to pay, and how it pays.

It needs the extra ``gateway``.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.device.schema import check_depth
from pyiot_evm.exceptions import BudgetError, InputError
from pyiot_evm.payment.http_book import http_salt
from pyiot_evm.payment.tokens import money_text
from pyiot_evm.payment.vouchers import MIN_WITHDRAW_DELAY, config_of
from pyiot_evm.payment.x402_signer import ReadingSigner, VoucherSigner
from pyiot_evm.payment.x402_terms import BATCH
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from pyiot_evm.device import Signer
    from pyiot_evm.exceptions import PyIotEvmError
    from pyiot_evm.payment.facade import Payments
    from pyiot_evm.payment.http_book import HttpBook
    from pyiot_evm.payment.vouchers import ChannelId

__all__ = ["HttpWallet", "x402_errors"]

_MAX_DIGITS: Final = 78
_TRANSFER: Final = "eip3009"
"""How money moves: by an ERC-3009 authorization; of Permit2 nobody here knows what was used."""
_LEAST_FACTOR: Final = 3
"""x402's client pays in for no fewer payments at once."""


def x402_errors(*ours: type[PyIotEvmError]) -> tuple[type[Exception], ...]:
    """Return what x402's code, and what it is built on, raises at words that make no sense; and errors of ours."""
    from eth_abi.exceptions import EncodingError  # noqa: PLC0415 - slow to import
    from eth_keys.exceptions import BadSignature  # noqa: PLC0415
    from eth_utils.exceptions import ValidationError  # noqa: PLC0415
    from x402.schemas.errors import PaymentError  # noqa: PLC0415 - the extra `gateway`

    python = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RuntimeError)
    return (*python, EncodingError, BadSignature, ValidationError, PaymentError, *ours)


class HttpWallet:
    """Signs payments over HTTP for one account.

    Args:
        payments: Whose key, chain and policy.
        book: Where its channels and payments are written down.
        voucher_signer: The key that signs vouchers, the account's when left out.
    """

    def __init__(self, payments: Payments, book: HttpBook, *, voucher_signer: Signer | None = None) -> None:
        self._payments = payments
        self._book = book
        self._voucher_signer = VoucherSigner(voucher_signer or payments.signer)

    def ceiling(self, wanted: Any, salt: bytes) -> tuple[str, int]:
        """Return a channel's id and its ceiling with this payment, and see that the books know the channel."""
        from x402.mechanisms.evm.batch_settlement.client import BatchSettlementClientContext  # noqa: PLC0415

        payer = self._payments.payer
        channel = payer.book.add(payer.domain, self._config(wanted, salt))
        key = str(channel.channel_id).lower()
        context = self._book.get(key)
        if context is None:  # new, or forgotten: the chain has what was claimed, the server the rest
            channel = payer.sync(channel.channel_id)
            context = BatchSettlementClientContext(
                charged_cumulative_amount=str(channel.claimed),
                balance=str(channel.balance),
                total_claimed=str(channel.claimed),
            )
            self._book.set(key, context)
        ceiling = int(context.charged_cumulative_amount or 0) + int(wanted.amount)
        if (missing := ceiling - int(context.balance or 0)) > self._held(missing):
            info = self._payments.chain.token_info()
            needs = f"{info.from_units(missing)} {info.symbol}"
            raise InputError(f"{self._payments.address} does not hold the {needs} that the channel needs")
        return key, ceiling

    def _held(self, missing: int) -> int:
        """Return what the account holds; it is not asked where nothing is missing."""
        if missing <= 0:
            return 0
        return int(self._payments.chain.call(Erc20(self._payments.chain.token).balance_of(self._payments.address)))

    def _deposit(self, context: Any) -> int:
        """Return what is paid into a channel: by the policy, or more where the server wants it.

        It is no more than the account holds, and x402's client caps it by the most that may be paid.
        """
        factor = max(self._payments.paying.deposit_factor, _LEAST_FACTOR)
        least = int(context.minimum_deposit_amount)
        wanted = max(factor * int(context.request_amount), int(context.deposit_amount))
        return max(least, min(wanted, self._held(least)))

    def refresh(self, channel: ChannelId) -> None:
        """Take over what the chain has of a channel in which a payment waits: its deposit may have come."""
        known, context = self._payments.payer.sync(channel), self._book.get(str(channel))
        if context is not None and int(context.balance or 0) < known.balance:
            context.balance = str(known.balance)
            self._book.set(str(channel), context)

    def open_salt(self, wanted: Any, lane: int) -> bytes:
        """Return the salt of a lane's channel: the first that is not closing."""
        if wanted.scheme != BATCH:
            return http_salt(lane, 0)
        payer, generation = self._payments.payer, 0
        closing = {channel.channel_id for channel in payer.book.channels() if channel.closing}
        while payer.domain.channel_id(self._config(wanted, http_salt(lane, generation))) in closing:
            generation += 1
        return http_salt(lane, generation)

    def _config(self, wanted: Any, salt: bytes) -> Any:
        try:
            return config_of(self._batch(salt).build_channel_config(wanted).to_dict())
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"the server's terms are no channel's: {error}") from error

    def client(self, most: int, salt: bytes, *, authorizer: Address | None = None) -> Any:
        """Return x402's client, which pays ``most`` at most and through the channel with this salt.

        With an ``authorizer`` it only learns from answers about that key's channel: it was paid through before.
        """
        from x402 import x402ClientSync  # noqa: PLC0415 - the extra `gateway`
        from x402.http.x402_http_client import x402HTTPClientSync  # noqa: PLC0415
        from x402.mechanisms.evm.exact import ExactEvmScheme  # noqa: PLC0415

        chain, network = self._payments.chain, f"eip155:{self._payments.chain.chain_id}"
        client = x402ClientSync()
        asset: Any = {"network": network, "asset": str(chain.token), "max_amount_per_payment": str(most)}
        client.set_spend_controls({"allowed_assets": [asset]})
        client.register(network, self._batch(salt, authorizer))
        client.register(network, ExactEvmScheme(self._signer()))
        return x402HTTPClientSync(client)

    def _batch(self, salt: bytes, authorizer: Address | None = None) -> Any:
        from x402.mechanisms.evm.batch_settlement.client import (  # noqa: PLC0415 - the extra `gateway`
            BatchSettlementDepositPolicy,
            BatchSettlementEvmSchemeOptions,
        )

        from pyiot_evm.payment.http_recovery import RecoveringScheme  # noqa: PLC0415

        storage: Any = self._book
        factor = max(self._payments.paying.deposit_factor, _LEAST_FACTOR)
        options = BatchSettlementEvmSchemeOptions(
            BatchSettlementDepositPolicy(factor),
            storage=storage,
            salt="0x" + salt.hex(),
            deposit_strategy=self._deposit,
            payer_authorizer=str(authorizer or self._voucher_signer.address),
            voucher_signer=self._voucher_signer if authorizer is None else None,
        )
        return RecoveringScheme(self._payments.payer.domain, self._signer(), options)

    def _signer(self) -> Any:
        return ReadingSigner(self._payments.chain, self._payments.signer, self._payments.address)

    def terms(self, response: Any, schemes: set[str], *, most: int) -> Any:
        """Return a server's terms with the one way to pay that is taken.

        Raises:
            BudgetError: It costs more than ``most``, or the server wants more time to take the payment, or to claim in,
                than the policy allows.
            InputError: It cannot be paid in the chain's token by a scheme that is wanted.
        """
        from x402 import x402ClientSync  # noqa: PLC0415 - the extra `gateway`
        from x402.http.x402_http_client import x402HTTPClientSync  # noqa: PLC0415

        try:
            terms = x402HTTPClientSync(x402ClientSync()).get_payment_required_response(
                response.headers.get, _document(response)
            )
            network = f"eip155:{self._payments.chain.chain_id}"
            fitting = [
                option
                for option in (terms.accepts if terms.x402_version == 2 else [])  # noqa: PLR2004 - the version
                if option.network == network
                and Address(option.asset) == self._payments.chain.token
                and ((option.extra or {}).get("assetTransferMethod") or _TRANSFER) == _TRANSFER
            ]
        except (ValueError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"nothing was paid: the server's terms cannot be read: {error}") from error
        chosen = min((o for o in fitting if o.scheme in schemes), key=lambda o: o.scheme != BATCH, default=None)
        if chosen is None:
            wanted = " or ".join(sorted(schemes))
            raise InputError(f"nothing was paid: the server takes no {wanted} in {self._payments.chain.token}")
        amount = str(chosen.get_amount())
        if not amount.isascii() or not amount.isdigit() or len(amount) > _MAX_DIGITS:
            raise InputError(f"nothing was paid: the server's price is no amount: {amount[:40]!r}")
        if int(amount) > most:
            chain = self._payments.chain
            asked, allowed = (money_text(chain, chain.token, units) for units in (int(amount), most))
            raise BudgetError(f"it costs {asked}, at most {allowed} may be paid; nothing was signed")
        self._payments.paying.check_timeout(chosen.max_timeout_seconds)
        if chosen.scheme == BATCH:
            self._payments.paying.check_withdraw_delay(_delay_of(chosen))
        return terms.model_copy(update={"accepts": [chosen]})


def _delay_of(wanted: Any) -> int:
    """Return a server's withdraw delay; x402's client takes the least where it is no number."""
    delay = (wanted.extra or {}).get("withdrawDelay")
    return delay if type(delay) is int else MIN_WITHDRAW_DELAY


def _document(response: Any) -> Any:
    with suppress(ValueError, InputError):
        check_depth(response.content)
        return json.loads(response.content)
    return None
