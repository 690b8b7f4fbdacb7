"""A machine's orders and its money: what it can do with them besides selling and buying.

:class:`pyiot_evm.machine.Machine` has all of this. Amounts are whole tokens, as text, ``Decimal`` or ``int``.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> with Devnet() as chain:
    ...     machine = Machine.create(chain, name="sensor", dollars="12.50")
    ...     machine.orders(), str(machine.balance()), str(machine.credit())
    ([], '12.5', '0')
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pyiot_evm.machine_rentals import Amount, Renting
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from decimal import Decimal

    from pyiot_evm.chain import Chain, TokenInfo
    from pyiot_evm.device import KeystoreSigner
    from pyiot_evm.machine_policies import Policies
    from pyiot_evm.market.facade import Market
    from pyiot_evm.market.results import OrderView, Transaction
    from pyiot_evm.payment.facade import Payments
    from pyiot_evm.payment.payer import SentPayment
    from pyiot_evm.payment.stream import ReadingStream
    from pyiot_evm.payment.stream_keys import Mode
    from pyiot_evm.types import DeviceId, OrderId

__all__ = ["Amount", "OrdersAndMoney"]


class OrdersAndMoney(Renting):
    """The part of a machine that looks after its orders and its money."""

    chain: Chain
    market: Market
    _signer: KeystoreSigner
    _policies: Policies
    _own_device: KeystoreSigner | None

    @property
    def address(self) -> Address:
        """Its account's address."""
        raise NotImplementedError

    def _token(self, token: Address | str | None) -> TokenInfo:
        return self.chain.token_info(Address(token) if token is not None else None)

    @cached_property
    def payments(self) -> Payments:
        """Micropayments: what it pays and is paid through channels, and its budget."""
        from pyiot_evm.payment.facade import Payments  # noqa: PLC0415 - slow to import, not always needed

        paying, receiving = self._policies.get("paying"), self._policies.get("receiving")
        return Payments(self.chain, signer=self._signer, paying=paying, receiving=receiving)

    def pay(
        self, payee: Address | str, amount: Amount, *, token: Address | str | None = None, key: str | None = None
    ) -> SentPayment:
        """Pay another machine through a channel, which is opened and filled as needed, inside the budget.

        Args:
            payee: Its account's address.
            amount: Whole tokens.
            token: The ERC-20 to pay in; the chain's when left out.
            key: Names the payment: the same key never pays twice.

        Returns:
            The payment, and the voucher that carries it to the payee.

        Raises:
            BudgetError: It would go over a limit; nothing was signed or sent.
        """
        info = self._token(token)
        return self.payments.pay(Address(payee), info.to_units(amount), token=info.address, key=key)

    def stream(
        self,
        url: str,
        device: DeviceId | str | None = None,
        *,
        max_price: Amount,
        mode: Mode = "locked",
        start: int | str | None = None,
        since: int | None = None,
        follow: bool = True,
        prepay: int = 100,
        again: bool = False,
        device_key: bool = False,
        token: Address | str | None = None,
        patience: float = 30.0,
    ) -> ReadingStream:
        """Buy a device's readings from a gateway one by one, inside the budget.

        ::

            with buyer.stream(url, sensor.device, max_price="0.001") as readings:
                for reading in readings:
                    print(reading.seq, reading.values)

        A stream goes on where the last one to this gateway's payee ended; see :class:`StreamPlace` for other places.

        Args:
            url: The gateway's address; it may name the device: ``http://…/v1/devices/0x…/stream``.
            device: The device.
            max_price: What one reading may cost, in whole tokens.
            mode: ``locked``: neither side is ever a reading ahead. ``plain``: each reading is paid before it comes.
            start: The reading to begin with, by number, or ``"next"`` for the next one that is measured.
            since: Unix milliseconds to begin at.
            follow: Whether to wait for readings that are not measured yet.
            prepay: For how many readings the channel is paid into at once; what is not used comes back.
            again: Whether to ask a gateway again that delivered no reading before; this costs nothing more.
            device_key: Whether this machine's device key signs the vouchers, on P-256 perhaps, not its account key.
            token: The ERC-20 to pay in; the chain's when left out.
            patience: Seconds for which a broken connection is tried again.

        Raises:
            InputError: The address is none, or no device is named.
        """
        from pyiot_evm.payment.stream import ReadingStream, StreamPlace  # noqa: PLC0415 - slow to import
        from pyiot_evm.payment.stream_buyer import StreamTerms  # noqa: PLC0415

        info = self._token(token)
        place = StreamPlace.parse(url, device, start=start, since=since, follows=follow)
        terms = StreamTerms(
            device=place.device,
            mode=mode,
            token=info.address,
            most=info.to_units(max_price),
            prepay=prepay,
            moves=start is not None or since is not None,
            again=again,
        )
        signer = self._device_signer() if device_key else None
        return ReadingStream(self.payments, place, terms, signer=signer, patience=patience)

    def _device_signer(self) -> KeystoreSigner:
        """Return this machine's device key; the machine closes it."""
        if self._own_device is None:
            self._own_device = self.chain.home.keyring.device(self.name)
        return self._own_device

    def orders(self) -> list[OrderView]:
        """Return its orders, as buyer and as seller."""
        return self.market.orders()

    def settle(self, order: OrderId | str) -> OrderView:
        """Settle a revealed order."""
        return self.market.settle(order)

    def refund(self, order: OrderId | str) -> OrderView:
        """Take, or give, the refund of a paid order."""
        return self.market.refund(order)

    def dispute(self, order: OrderId | str) -> OrderView:
        """Check every leaf of a revealed order and dispute it if one breaks the promise."""
        return self.market.dispute(order)

    def credit(self, token: Address | str | None = None) -> Decimal:
        """Return what it can take out of the market, in whole tokens."""
        info = self._token(token)
        return info.from_units(self.market.credit(info.address))

    def deposit(self, amount: Amount, *, token: Address | str | None = None) -> Transaction:
        """Pay money for bonds into the market."""
        info = self._token(token)
        return self.market.deposit(info.to_units(amount), token=info.address)

    def withdraw(
        self, amount: Amount | None = None, *, token: Address | str | None = None, to: Address | str | None = None
    ) -> Transaction | None:
        """Take money out of the market, all of it when no amount is given; ``None`` where there is none."""
        info = self._token(token)
        units = None if amount is None else info.to_units(amount)
        return self.market.withdraw(units, token=info.address, to=Address(to) if to is not None else None)

    def balance(self, token: Address | str | None = None) -> Decimal:
        """Return what it holds of a token (the chain's, when left out), in whole tokens."""
        from pyiot_evm.contracts.erc20 import Erc20  # noqa: PLC0415 - slow to import

        info = self._token(token)
        return info.from_units(self.chain.call(Erc20(info.address).balance_of(self.address)))
