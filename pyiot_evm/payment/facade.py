"""Payments of one account on one chain: pay, be paid, and the budget between.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> with Devnet() as chain:
    ...     sensor, buyer = Machine.create(chain, "sensor"), Machine.create(chain, "buyer")
    ...     sent = buyer.pay(sensor.address, "0.001")
    ...     taken = sensor.payments.accept(sent.voucher, price=1000)
    ...     claims = sensor.payments.claim()
    ...     taken.charged, claims[0].amount, sensor.payments.settle() is not None, str(sensor.balance())
    (1000, 1000, True, '1000.001')
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pyiot_evm.chain.deployment import X402_CHANNELS, X402_COLLECTOR
from pyiot_evm.payment.budgets import Budget, Budgets, Spending
from pyiot_evm.payment.payee import Claim, Payee, Watchtower
from pyiot_evm.payment.payee_book import PayeeBook, PayeePolicy
from pyiot_evm.payment.payer import Payer, PayerPolicy, SentPayment
from pyiot_evm.payment.payer_book import PayerBook
from pyiot_evm.payment.store import PaymentStore

if TYPE_CHECKING:
    from pyiot_evm.chain import Account, Chain
    from pyiot_evm.device import LocalSigner
    from pyiot_evm.payment.records import PayeeChannel, PayerChannel
    from pyiot_evm.payment.vouchers import SignedVoucher
    from pyiot_evm.types import Address, TransactionHash

__all__ = ["Payments"]


class Payments:
    """What one account pays and is paid.

    Args:
        chain: The chain.
        signer: The account's key.
        paying: How channels are filled.
        receiving: What is taken.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        signer: LocalSigner,
        paying: PayerPolicy | None = None,
        receiving: PayeePolicy | None = None,
    ) -> None:
        self.chain = chain
        self.signer = signer
        self.paying = paying or PayerPolicy()
        self.receiving = receiving or PayeePolicy()

    # Parts, opened when they are first used

    @cached_property
    def store(self) -> PaymentStore:
        """The network's channel books."""
        store = PaymentStore(self.chain.path / "payments.sqlite")
        self.chain.on_close(store.close)
        return store

    @cached_property
    def account(self) -> Account:
        """The account's transaction manager."""
        return self.chain.account(self.signer)

    @cached_property
    def budgets(self) -> Budgets:
        """The network's budgets."""
        return Budgets(self.store)

    @cached_property
    def _contracts(self) -> tuple[Address, Address]:
        """Channels and collector: those that x402's clients know, where there are such, else the suite's own."""
        if self.chain.code_at(X402_CHANNELS):
            return X402_CHANNELS, X402_COLLECTOR
        return self.chain.addresses.payment_channels, self.chain.addresses.deposit_collector

    @cached_property
    def payer(self) -> Payer:
        """The paying side."""
        channels, collector = self._contracts
        return Payer(
            chain=self.chain,
            account=self.account,
            signer=self.signer,
            book=PayerBook(self.store, self.address, self.budgets),
            contract=channels,
            collector=collector,
            policy=self.paying,
        )

    @cached_property
    def payee(self) -> Payee:
        """The receiving side."""
        book = PayeeBook(self.store, self.address, self.receiving)
        return Payee(chain=self.chain, account=self.account, book=book, contract=self._contracts[0])

    @property
    def address(self) -> Address:
        """The account's address."""
        return self.signer.address

    # Pay

    def pay(self, payee: Address, amount: int, *, token: Address | None = None, key: str | None = None) -> SentPayment:
        """Pay through a channel, which is opened and filled as needed; see :meth:`Payer.pay`."""
        return self.payer.pay(payee, amount, token=token or self.chain.token, key=key)

    def open(self, payee: Address, amount: int, *, token: Address | None = None) -> PayerChannel:
        """Pay into the channel to a payee."""
        return self.payer.open(payee, amount, token=token or self.chain.token)

    def close(self, channel_id: bytes) -> PayerChannel:
        """Leave a channel; see :meth:`Payer.close`."""
        return self.payer.close(channel_id)

    def set_budget(self, budget: Budget | None, *, token: Address | None = None) -> None:
        """Set what this account may spend; ``None`` takes the budget away."""
        self.budgets.set(self.address, token or self.chain.token, budget)

    def budget(self, token: Address | None = None) -> Budget | None:
        """Return what this account may spend."""
        return self.budgets.get(self.address, token or self.chain.token)

    def spending(self, token: Address | None = None) -> Spending:
        """Return what this account spent."""
        return self.budgets.spending(self.address, token or self.chain.token)

    # Be paid

    def accept(self, voucher: SignedVoucher, price: int = 0) -> PayeeChannel:
        """Take a voucher and charge what is delivered for it; see :meth:`Payee.accept`."""
        return self.payee.accept(voucher, price)

    def collect(self, voucher: SignedVoucher) -> PayeeChannel:
        """Take a voucher for what was delivered already: all of it is charged."""
        taken = self.payee.accept(voucher)
        return self.payee.accept(voucher, taken.ceiling - taken.charged)

    def claim(self) -> list[Claim]:
        """Claim all that was charged."""
        self.payee.follow()
        return self.payee.claim()

    def settle(self, token: Address | None = None) -> TransactionHash | None:
        """Have what was claimed paid out."""
        return self.payee.settle(token or self.chain.token)

    def watchtower(self, *, every: float = 5.0) -> Watchtower:
        """Return a watchtower for this account's channels; start it, and close it."""
        return Watchtower(self.payee, every=every)

    def channels(self) -> tuple[list[PayerChannel], list[PayeeChannel]]:
        """Return the channels that this account pays through, and those that it is paid through."""
        return self.payer.book.channels(), self.payee.book.channels()
