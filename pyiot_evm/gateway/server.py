"""A gateway: a machine, x402's server and facilitator in this process, a watchtower, and an HTTP server.

x402's facilitator waits for blocks; every paid request is served in a thread, so that the event loop never waits.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any, Final

from pyiot_evm.chain.deployment import X402_CHANNELS
from pyiot_evm.exceptions import ConfigurationError, InputError
from pyiot_evm.gateway.answers import Answers
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.offers import OfferSource
from pyiot_evm.gateway.readings import ReadingSource
from pyiot_evm.gateway.signer import FacilitatorSigner, Faults
from pyiot_evm.gateway.storage import BookStorage
from pyiot_evm.gateway.till import BY_ALL, BY_CHANNEL, IDENTIFIER_DECLARATION, Till
from pyiot_evm.market.locks import LockedElsewhereError, try_lock
from pyiot_evm.payment.facade import Payments
from pyiot_evm.payment.payee_book import ChannelRefusedError, PayeePolicy, VoucherRefusedError
from pyiot_evm.payment.places import is_ours
from pyiot_evm.payment.stream_messages import MAX_REQUEST
from pyiot_evm.payment.tokens import token_domain
from pyiot_evm.payment.vouchers import ChannelId, SignedVoucher, config_of
from pyiot_evm.payment.x402_signer import AuthorizerSigner
from pyiot_evm.payment.x402_terms import EXACT, PAYMENT_IDENTIFIER

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from fastapi import FastAPI

    from pyiot_evm.gateway.stream import StreamDesk
    from pyiot_evm.machine import Machine
    from pyiot_evm.payment.payee import Watchtower
    from pyiot_evm.payment.records import PayeeChannel

__all__ = ["Gateway"]

_READY: Final = 30.0
_LOOK: Final = 1.0
_KEEP_ALIVE: Final = 15
_BACKLOG: Final = 2048
_PONG: Final = 60.0
_HEADER_LIMIT: Final = 32_768
_UNSIGNED: Final = "invalid_batch_settlement_evm_voucher_signature"


class Gateway:
    """Sells a machine's readings over HTTP.

    Args:
        machine: Whose readings and offers; its account is paid, and pays the gas of settlements.
        config: The terms; the defaults for the chain's token when left out.
    """

    def __init__(self, machine: Machine, config: GatewayConfig | None = None) -> None:
        self.machine = machine
        terms = self.config = config or GatewayConfig.of(machine.chain.token_info().decimals)
        receiving = PayeePolicy(
            max_exposure=terms.max_exposure,
            min_withdraw_delay=terms.withdraw_delay,
            gas_factor=terms.gas_factor,
            token_per_ether=terms.token_per_ether,
            claim_every=terms.claim_every,
        )
        self.payments = Payments(machine.chain, signer=machine.payments.signer, receiving=receiving)
        self._faults = Faults()
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._watchtower: Watchtower | None = None
        self._readings = self._source()
        self._lock: IO[str] | None = None

    @property
    def network(self) -> str:
        """The chain's CAIP-2 name."""
        return f"eip155:{self.machine.chain.chain_id}"

    @property
    def sells_readings(self) -> bool:
        """Whether the machine has a device, whose readings are sold."""
        return self._readings is not None

    def app(self) -> FastAPI:
        """Return the ASGI application, for any server; :meth:`close` frees what it holds.

        Raises:
            ConfigurationError: The extra `gateway` is not installed.
        """
        payee = self.payments.payee
        storage = BookStorage(payee.book, payee.domain, self._faults)
        if self._is_alone():
            storage.release()
        answers = Answers(self.payments.store, self.payments.address, keep=self.config.keep_answers)
        answers.forget(before=int(time.time()) - self.config.keep_answers)
        try:
            from pyiot_evm.gateway.app import Shop, create_app  # noqa: PLC0415 - the extra `gateway`
            from pyiot_evm.gateway.stream import add_streams  # noqa: PLC0415

            server = self._x402(storage)
        except ImportError as error:
            raise ConfigurationError(
                f"the gateway cannot run: {error}", hint="pip install 'pyiot-evm[gateway]'"
            ) from error
        till = Till(server=server, chain=self.machine.chain, storage=storage, answers=answers, faults=self._faults)
        app = create_app(Shop(self.config, till, self._readings, OfferSource(self.machine), self.network))
        add_streams(app, self._desk())
        return app

    def run(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8402,
        stop: threading.Event | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        """Serve until ``stop`` is set, or for ever.

        Args:
            host: On which address.
            port: Where to listen; 0 takes a free one.
            stop: Ends it, once the requests that it has are answered.
            report: Called with the gateway's address once it answers.

        Raises:
            ConfigurationError: It cannot listen there, or its server ended by itself.
        """
        url = self.start(host=host, port=port)
        try:
            if report is not None:
                report(url)
            ended = stop or threading.Event()
            while not ended.wait(_LOOK):
                if self._thread is None or not self._thread.is_alive():
                    raise ConfigurationError("the gateway's server ended by itself", hint="its last words are above")
        finally:
            self.close()

    def start(self, *, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve in a thread and return the gateway's address; after :meth:`close` it can start again.

        Raises:
            InputError: It serves already.
            ConfigurationError: It cannot listen there, e.g. because the port is taken; nothing is left open.
        """
        if self._thread is not None:
            raise InputError("the gateway serves already", hint="close it first")
        with ExitStack() as undo:
            listening = undo.enter_context(_listen(host, port))
            undo.callback(self.close)
            server = self._server = self._uvicorn()
            self._watchtower = self.payments.watchtower()
            thread = threading.Thread(target=server.run, args=([listening],), name="pyiot gateway", daemon=True)
            thread.start()
            self._thread = thread
            end = time.monotonic() + _READY
            while not server.started:
                if not thread.is_alive() or time.monotonic() > end:
                    raise ConfigurationError(f"the gateway did not come up on {host}:{port}")
                time.sleep(0.01)
            self._watchtower.start()
            undo.pop_all()
        return _url(listening)

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        if self._server is not None:
            self._server.should_exit = True
            self._server = None
        if self._thread is not None:
            self._thread.join(timeout=_READY)
            self._thread = None
        if self._watchtower is not None:
            self._watchtower.close()
            self._watchtower = None
        if self._readings is not None:
            self._readings.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # Below

    def _is_alone(self) -> bool:
        """Whether no other gateway serves this account; the lock is held until this one is closed, or dies."""
        if self._lock is None:
            try:
                self._lock = try_lock(self.machine.chain.path / f"gateway-{self.payments.address}.lock")
            except LockedElsewhereError:
                return False
        return True

    def _source(self) -> ReadingSource | None:
        entry = self.machine.chain.home.keyring.entry(self.machine.name)
        if entry.device is None or entry.signer is None:
            return None
        folder = self.machine.chain.home.journals / entry.device.hex()
        return ReadingSource(folder, entry.device, entry.signer)

    def _desk(self) -> StreamDesk:
        from pyiot_evm.gateway.stream import StreamDesk  # noqa: PLC0415 - the extra `gateway`

        token = self.machine.chain.token
        return StreamDesk(payments=self.payments, source=self._readings, token=token, config=self.config)

    def _uvicorn(self) -> Any:
        app = self.app()
        import uvicorn  # noqa: PLC0415 - the extra `gateway`

        from pyiot_evm.gateway.protocol import BoundedProtocol  # noqa: PLC0415

        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_KEEP_ALIVE,
            h11_max_incomplete_event_size=_HEADER_LIMIT,
            http=BoundedProtocol,
            ws="websockets-sansio",
            ws_max_size=MAX_REQUEST,
            ws_per_message_deflate=False,
            ws_ping_timeout=_PONG,
        )
        return uvicorn.Server(config)

    def _x402(self, storage: BookStorage) -> Any:
        """Return x402's HTTP server with its facilitator, in this process."""
        from x402 import x402FacilitatorSync, x402ResourceServerSync  # noqa: PLC0415 - the extra `gateway`
        from x402.http.x402_http_server import x402HTTPResourceServerSync  # noqa: PLC0415
        from x402.mechanisms.evm.batch_settlement.server.scheme import (  # noqa: PLC0415
            BatchSettlementEvmSchemeServerConfig,
        )
        from x402.mechanisms.evm.exact import ExactEvmFacilitatorScheme, ExactEvmServerScheme  # noqa: PLC0415

        payments = self.payments
        patience = self.config.settle_seconds
        signer = FacilitatorSigner(self.machine.chain, payments.account, self._faults, patience=patience)
        facilitator = x402FacilitatorSync()
        facilitator.register([self.network], ExactEvmFacilitatorScheme(signer))
        batch_facilitator, batch_scheme = self._batch_parts()
        facilitator.register([self.network], batch_facilitator(signer))
        server = x402ResourceServerSync(facilitator)
        exact: Any = ExactEvmServerScheme  # x402 types its schemes' flows more loosely than its server
        server.register(self.network, exact())
        terms = BatchSettlementEvmSchemeServerConfig(
            storage=storage,
            receiver_authorizer_signer=AuthorizerSigner(payments.signer, payments.address),
            withdraw_delay=self.config.withdraw_delay,
        )
        batch: Any = batch_scheme(str(payments.address), terms)
        server.register(self.network, batch)
        server.on_before_verify(self._guard)
        http = x402HTTPResourceServerSync(server, self._routes())
        http.initialize()
        return http

    def _batch_parts(self) -> tuple[Any, Any]:
        """Return facilitator and server scheme: x402's own where its own contract stands, which knows no P-256 keys."""
        from x402.mechanisms.evm.batch_settlement.facilitator.scheme import (  # noqa: PLC0415
            BatchSettlementEvmFacilitator,
        )
        from x402.mechanisms.evm.batch_settlement.server.scheme import BatchSettlementEvmScheme  # noqa: PLC0415

        from pyiot_evm.gateway.x402_checks import Facilitator, ServerScheme  # noqa: PLC0415

        if is_ours(self.machine.chain, X402_CHANNELS):
            return Facilitator, ServerScheme
        return BatchSettlementEvmFacilitator, BatchSettlementEvmScheme

    def _routes(self) -> dict[str, Any]:
        schemes = self.config.schemes
        routes = {BY_ALL: schemes, BY_CHANNEL: tuple(scheme for scheme in schemes if scheme != EXACT)}
        return {f"GET {route}": self._route(taken) for route, taken in routes.items() if taken}

    def _route(self, schemes: tuple[str, ...]) -> Any:
        from x402.http.types import PaymentOption, RouteConfig  # noqa: PLC0415 - the extra `gateway`
        from x402.schemas import AssetAmount  # noqa: PLC0415

        token = token_domain(self.machine.chain, self.machine.chain.token)
        extra = {"name": token.name, "version": token.version}

        def price(context: Any) -> AssetAmount:
            return AssetAmount(amount=str(context.adapter.price), asset=str(token.address), extra=dict(extra))

        options = [
            PaymentOption(scheme=scheme, pay_to=str(self.payments.address), price=price, network=self.network)
            for scheme in schemes
        ]
        extensions = {PAYMENT_IDENTIFIER: IDENTIFIER_DECLARATION}
        return RouteConfig(accepts=options, description="Readings", mime_type="application/json", extensions=extensions)

    def _guard(self, context: Any) -> Any:
        """Refuse a voucher that nobody signed, and a channel whose payer is leaving or of which too much is unclaimed.

        This comes before x402 looks at a voucher's amount: to a stale one it answers with the channel's state.
        """
        from x402.schemas.hooks import AbortResult  # noqa: PLC0415

        raw = context.payment_payload.payload
        if not isinstance(raw, dict) or "voucher" not in raw:
            return None
        reason = self._objection(raw, int(context.requirements.amount))
        return None if reason is None else AbortResult(reason=reason)

    def _objection(self, raw: dict[str, Any], amount: int) -> str | None:
        """Return why a channel's payment is not taken, ``None`` where nothing is wrong with it here."""
        try:
            channel_id = self._checked(raw)
        except ChannelRefusedError:
            return "channel_terms_refused"
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, InputError, VoucherRefusedError):
            return _UNSIGNED
        if raw.get("type") == "refund":
            return None
        known = self.payments.payee.book.channel(channel_id)
        if self._is_leaving(channel_id, known):
            return "channel_withdrawal_pending"
        is_full = known is not None and known.exposure + amount > self.config.max_exposure
        return "channel_exposure_at_its_cap" if is_full else None

    def _checked(self, raw: dict[str, Any]) -> ChannelId:
        """Return the channel of a voucher that its payer's side signed, on terms that are taken here."""
        voucher = raw["voucher"]
        signed = SignedVoucher(
            self.payments.payee.domain,
            config_of(raw["channelConfig"]),
            int(voucher["maxClaimableAmount"]),
            bytes.fromhex(voucher["signature"].removeprefix("0x")),
        )
        if ChannelId(voucher["channelId"]) != signed.channel_id:
            raise VoucherRefusedError("the voucher is for another channel")
        self.payments.payee.book.check_terms(signed)
        return signed.channel_id

    def _is_leaving(self, channel_id: ChannelId, known: PayeeChannel | None) -> bool:
        """Whether a payer announced that it leaves: the chain is asked where the book did not look lately.

        It may have done so before the channel was ever used here, or while no gateway ran, and be due to take all.
        """
        if known is not None and known.withdraw_at:
            return True
        payee = self.payments.payee
        if known is not None and payee.book.policy.is_fresh(known, now=time.time()):
            return False
        with self._faults.noted():
            return bool(self.machine.chain.call(payee.contract.pending_withdrawals(channel_id)).initiated_at)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: The port is taken, or the address is none of this computer.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ConfigurationError(
            f"the gateway cannot listen on {host}:{port}: {reason}", hint="another --port, another --host"
        ) from error
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted ones inherit it: no 40 ms a message
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
