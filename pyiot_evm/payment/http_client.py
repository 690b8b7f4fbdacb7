"""Pays any x402 server inside a budget, with the x402 package's own client.

The budget is asked and counted before anything is signed. Channels are kept in SQLite, so the next command goes on with
them; one request at a time uses them, as x402 wants it. They stand in the payer's book too, where they are listed and
can be left; :meth:`Payer.pay` has channels of its own. It needs the extra ``gateway``.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.exceptions import BudgetError, ConfigurationError, InputError, PyIotEvmError, TransportError
from pyiot_evm.market.locks import file_lock
from pyiot_evm.payment.payer_book import HTTP_SALT
from pyiot_evm.payment.vouchers import ChannelId, config_of
from pyiot_evm.payment.x402_signer import ReadingSigner
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from pyiot_evm.payment.facade import Payments
    from pyiot_evm.payment.records import PayerChannel

__all__ = ["SCHEMES", "Bought", "HttpPayer"]

SCHEMES: Final = ("exact", "batch-settlement")

_LEAST_FACTOR: Final = 3
"""x402's client pays in for no fewer payments at once."""


@dataclass(frozen=True, slots=True)
class Bought:
    """What a paid request brought.

    Attributes:
        paid: Base units that were promised for it; 0 where it was free.
    """

    status: int
    body: bytes
    content_type: str
    paid: int


class HttpPayer:
    """Buys over HTTP for one account.

    Args:
        payments: Whose account, books and budget.
        scheme: ``exact``, ``batch-settlement``, or ``None`` for channels where the server takes them.
        timeout: Seconds for one request.

    Raises:
        InputError: There is no such scheme.
    """

    def __init__(self, payments: Payments, *, scheme: str | None = None, timeout: float = 60.0) -> None:
        if scheme not in (None, *SCHEMES):
            raise InputError(f"there is no scheme {scheme!r}", hint=f"schemes are {' and '.join(SCHEMES)}")
        self._payments = payments
        self._scheme = scheme
        self._timeout = timeout
        self._most = 0
        self._paid = 0
        self._problem: PyIotEvmError | None = None

    def get(self, url: str, *, most: int) -> Bought:
        """Get an address, and pay at most ``most`` base units of the chain's token for it.

        Raises:
            BudgetError: It costs more, or the budget forbids it; nothing was signed.
            TransportError: The server does not answer, or refuses the payment.
        """
        if not url.startswith(("http://", "https://")):
            raise InputError(f"not an address of a server: {url!r}")
        self._most, self._paid, self._problem = most, 0, None
        with file_lock(self._payments.chain.path / f"pay-http-{self._payments.address}.lock"):
            response = self._send(url)
        if response.status_code == 402:  # noqa: PLR2004 - HTTP
            raise TransportError(f"the server refused the payment: {_reason(response)}", retryable=False)
        kind = response.headers.get("content-type", "")
        return Bought(response.status_code, response.content, kind, self._paid)

    def _send(self, url: str) -> Any:
        try:
            import requests  # noqa: PLC0415 - the extra `gateway`
            from x402.http.clients.requests import PaymentError, x402_requests  # noqa: PLC0415
        except ImportError as error:
            hint = "pip install 'pyiot-evm[gateway]'"
            raise ConfigurationError(f"paying over HTTP is not possible: {error}", hint=hint) from error
        try:
            with x402_requests(self._client()) as session:
                return session.get(url, timeout=self._timeout, allow_redirects=False)
        except PaymentError as error:
            if self._problem is not None:
                raise self._problem from error
            if "spend_controls" in str(error):
                raise BudgetError(
                    f"it costs more than {self._most} base units, or wants another token; nothing was signed",
                    hint="`curl -i` shows its terms",
                ) from error
            raise InputError(f"nothing was paid: {error}") from error
        except requests.Timeout as error:
            raise TransportError(f"{url} did not answer within {self._timeout:.0f} s") from error
        except requests.ConnectionError as error:
            reached = "NewConnectionError" not in str(error)
            message = f"the connection to {url} broke before it answered" if reached else f"nothing answers at {url}"
            raise TransportError(message) from error
        except requests.RequestException as error:
            raise TransportError(f"the answer of {url} cannot be read: {error}") from error

    def _client(self) -> Any:
        from x402 import prefer_scheme, x402ClientSync  # noqa: PLC0415 - the extra `gateway`
        from x402.mechanisms.evm.batch_settlement.client import (  # noqa: PLC0415
            BatchSettlementDepositPolicy,
            BatchSettlementEvmScheme,
            BatchSettlementEvmSchemeOptions,
        )
        from x402.mechanisms.evm.exact import ExactEvmScheme  # noqa: PLC0415

        chain, network = self._payments.chain, f"eip155:{self._payments.chain.chain_id}"
        signer: Any = ReadingSigner(chain, self._payments.signer, self._payments.address)
        client = x402ClientSync()
        asset: Any = {"network": network, "asset": str(chain.token), "max_amount_per_payment": str(self._most)}
        client.set_spend_controls({"allowed_assets": [asset]})
        if self._scheme != "exact":
            factor = max(self._payments.paying.deposit_factor, _LEAST_FACTOR)
            options = BatchSettlementEvmSchemeOptions(
                BatchSettlementDepositPolicy(factor),
                deposit_strategy=lambda asked: str(max(factor * int(asked.request_amount), int(asked.deposit_amount))),
                storage=_ClientStorage(self._payments),
                salt="0x" + HTTP_SALT.hex(),
            )
            client.register(network, BatchSettlementEvmScheme(signer, options))
        if self._scheme != "batch-settlement":
            client.register(network, ExactEvmScheme(signer))
        client.register_policy(prefer_scheme(self._scheme or "batch-settlement"))
        client.on_before_payment_creation(self._check)
        client.on_after_payment_creation(self._write_down)
        return client

    def _check(self, context: Any) -> Any:
        """Ask and count the budget; x402 takes an abort for an answer."""
        from x402.schemas.hooks import AbortResult  # noqa: PLC0415 - the extra `gateway`

        wanted = context.selected_requirements
        amount, payee = int(wanted.amount), Address(wanted.pay_to)
        try:
            self._count(Address(wanted.asset), payee, amount)
        except BudgetError as error:
            self._problem = error
            return AbortResult(reason=str(error))
        return None

    def _write_down(self, context: Any) -> None:
        """Put what is about to be promised into the payer's book, before the server gets it."""
        signed = context.payment_payload.payload
        if "channelConfig" not in signed:
            return
        payer, ceiling = self._payments.payer, int(signed["voucher"]["maxClaimableAmount"])
        with self._payments.store.write():
            channel = payer.book.add(payer.domain, config_of(signed["channelConfig"]))
            if not channel.closing:
                payer.book.raise_ceiling(channel.channel_id, ceiling)
        if not channel.closing:
            return
        if payer.withdrawable_at(channel):
            self._problem = InputError(f"channel {channel.channel_id} is closing", hint="`pyiot pay close` ends it")
            raise self._problem
        with self._payments.store.write():  # it was left, and begins anew
            payer.book.set_closing(channel.channel_id, closing=False)
            payer.book.raise_ceiling(channel.channel_id, ceiling)

    def _count(self, token: Address, payee: Address, amount: int) -> None:
        if amount + self._paid > self._most:
            raise BudgetError(
                f"it costs {amount + self._paid} base units, {self._most} were allowed",
                hint="where a server asked twice, the same command again goes on from what it has",
            )
        payments = self._payments
        with payments.store.write() as database:
            payments.budgets.spend(database, payments.address, token, payee, amount)
        self._paid += amount


class _ClientStorage:
    """x402's `ClientChannelStorage` in the network's payment file; balances are those of the payer's book."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments
        self._store = payments.store
        self._payer = payments.address.hex()

    def get(self, key: str) -> Any:
        from x402.mechanisms.evm.batch_settlement.client import BatchSettlementClientContext  # noqa: PLC0415

        found = self._store.read("SELECT document FROM http_channels WHERE payer = ? AND key = ?", self._payer, key)
        if not found:
            return None
        context = BatchSettlementClientContext.from_dict(json.loads(found[0]["document"]))
        if (known := self._known(key)) is not None:
            context.balance = str(known.balance)
        return context

    def set(self, key: str, context: Any) -> None:
        document = json.dumps(context.to_dict())
        with self._store.write() as database:
            database.execute("INSERT OR REPLACE INTO http_channels VALUES (?, ?, ?)", (self._payer, key, document))
        known = self._known(key)
        if known is not None and str(known.balance) != context.balance:
            self._payments.payer.sync(known.channel_id)

    def delete(self, key: str) -> None:
        with self._store.write() as database:
            database.execute("DELETE FROM http_channels WHERE payer = ? AND key = ?", (self._payer, key))

    def _known(self, key: str) -> PayerChannel | None:
        with suppress(InputError):
            return self._payments.payer.book.channel(ChannelId(key))
        return None


def _reason(response: Any) -> str:
    from x402.http.utils import decode_payment_required_header  # noqa: PLC0415 - the extra `gateway`

    with suppress(ValueError, KeyError):
        return str(decode_payment_required_header(response.headers["payment-required"]).error or "no reason given")
    return "no reason given"
