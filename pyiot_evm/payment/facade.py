"""Payments of one account on one chain: pay, be paid, and the budget between.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> with Devnet() as chain:
    ...     sensor, buyer = Machine.create(chain, "sensor"), Machine.create(chain, "buyer")
    ...     sent = buyer.pay(sensor.address, "0.001")
    ...     taken = sensor.payments.accept(sent.voucher, price=1000)
    ...     claims = sensor.payments.claim()
    ...     taken.charged, claims[0].amount, len(sensor.payments.settle()), str(sensor.balance())
    (1000, 1000, 1, '1000.001')
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import ConfigurationError, InputError
from pyiot_evm.payment.budgets import Budget, Budgets, Spending
from pyiot_evm.payment.http_book import HttpBook
from pyiot_evm.payment.http_lanes import Lanes
from pyiot_evm.payment.http_waiting import WaitingPayments
from pyiot_evm.payment.payee import Payee, Watchtower
from pyiot_evm.payment.payee_book import ChannelRefusedError, PayeeBook, PayeePolicy
from pyiot_evm.payment.payer import Payer, PayerPolicy, SentPayment
from pyiot_evm.payment.payer_book import PayerBook
from pyiot_evm.payment.places import Place, additions_place, scheme_place
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.payment.stream_purchases import StreamPurchases
from pyiot_evm.payment.tokens import money_text
from pyiot_evm.payment.vault import Vault

if TYPE_CHECKING:
    from pyiot_evm.chain import Account, Chain
    from pyiot_evm.device import LocalSigner
    from pyiot_evm.payment.records import Claim, PayeeChannel, PayerChannel
    from pyiot_evm.payment.vouchers import SignedVoucher
    from pyiot_evm.types import Address, TransactionHash

__all__ = ["Payments", "Side"]


@dataclass(frozen=True, slots=True)
class Side:
    """An account at one contract.

    Attributes:
        payer: Pays through its channels.
        payee: Is paid through them.
    """

    payer: Payer
    payee: Payee


class Payments:
    """What one account pays and is paid.

    Args:
        chain: The chain.
        signer: The account's key.
        paying: How channels are filled.
        receiving: What is taken; the defaults for the chain's token when left out.
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
        self._paying = paying or PayerPolicy()
        self._receiving = receiving

    @property
    def paying(self) -> PayerPolicy:
        """How channels are filled."""
        return self._paying

    @property
    def receiving(self) -> PayeePolicy:
        """What is taken."""
        if self._receiving is None:
            usual = PayeePolicy()
            with suppress(ConfigurationError):  # no token is set: each call names its own
                usual = PayeePolicy.of(self.chain.token_info(self.chain.token).decimals)
            self._receiving = usual
        return self._receiving

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
        return Budgets(self.store, money=partial(money_text, self.chain))

    @cached_property
    def additions(self) -> Place:
        """Where the vault, `claimAvailable` and locked vouchers are: not at x402's address where the code is x402's.

        Raises:
            ConfigurationError: The suite is not deployed on this chain.
        """
        return additions_place(self.chain)

    @cached_property
    def sides(self) -> tuple[Side, ...]:
        """Where x402's clients pay, and at the suite's own contract where x402's address has other code."""
        places = [scheme_place(self.chain)]
        with suppress(ConfigurationError):  # a chain with x402's contracts alone
            places += [self.additions] if self.additions != places[0] else []
        return tuple(self._side(place) for place in places)

    @property
    def payer(self) -> Payer:
        """The paying side, where x402's clients pay."""
        return self.sides[0].payer

    @property
    def payee(self) -> Payee:
        """The receiving side, where x402's clients pay."""
        return self.sides[0].payee

    @cached_property
    def vault(self) -> Vault:
        """Money that is paid in once, and from which one transaction fills many channels.

        Raises:
            ConfigurationError: The suite is not deployed on this chain.
        """
        return Vault(self._payer_at(self.additions.channels), self.store, self.budgets)

    @property
    def payers(self) -> list[Payer]:
        """The paying side at each contract."""
        return [side.payer for side in self.sides]

    @property
    def payees(self) -> list[Payee]:
        """The receiving side at each contract."""
        return [side.payee for side in self.sides]

    @cached_property
    def purchases(self) -> StreamPurchases:
        """What this account buys by the stream: where each is, what came, and what went wrong."""
        return StreamPurchases(self.payer.book)

    @cached_property
    def waiting(self) -> WaitingPayments:
        """Payments over HTTP that wait for their answers."""
        book = HttpBook(self.store, self.payer.book, self.budgets)
        return WaitingPayments(self.chain, book, Lanes(self.chain.path, self.address, self.paying.channels))

    def _side(self, place: Place) -> Side:
        payer = Payer(
            chain=self.chain,
            account=self.account,
            signer=self.signer,
            book=PayerBook(self.store, self.address, self.budgets),
            contract=place.channels,
            collector=place.collector,
            policy=self.paying,
        )
        book = PayeeBook(self.store, self.address, self.receiving)
        payee = Payee(chain=self.chain, account=self.account, book=book, contract=place.channels)
        return Side(payer, payee)

    def _payer_at(self, contract: Address) -> Payer:
        return next((payer for payer in self.payers if payer.contract.address == contract), self.payer)

    @property
    def address(self) -> Address:
        """The account's address."""
        return self.signer.address

    # Pay

    def pay(self, payee: Address, amount: int, *, token: Address | None = None, key: str | None = None) -> SentPayment:
        """Pay through a channel, which is opened and filled as needed; see :meth:`Payer.pay`.

        A channel that the vault filled is used as far as it goes, wherever the vault is.
        """
        coin = token or self.chain.token
        filled = (payer for payer in self.payers[1:] if payer.available(payee, coin) >= amount)
        return next(filled, self.payer).pay(payee, amount, token=coin, key=key)

    def open(self, payee: Address, amount: int, *, token: Address | None = None) -> PayerChannel:
        """Pay into the channel to a payee."""
        return self.payer.open(payee, amount, token=token or self.chain.token)

    def close(self, channel_id: bytes) -> PayerChannel:
        """Leave a channel; see :meth:`Payer.close`."""
        return self._payer_of(channel_id).close(channel_id)

    def sync(self, channel_id: bytes) -> PayerChannel:
        """Take over what the chain has of a channel that is paid through."""
        return self._payer_of(channel_id).sync(channel_id)

    def sync_paid(self, channel_id: bytes) -> PayeeChannel | None:
        """Take over what the chain has of a channel that this account is paid through; ``None`` where it is none."""
        known = self.payee.book.channel(channel_id)
        sides = [payee for payee in self.payees if known is not None and payee.domain == known.domain]
        return sides[0].sync([known])[0] if known is not None and sides else known

    def withdrawable_at(self, channel: PayerChannel) -> int:
        """Return when an announced withdrawal can be taken, Unix seconds of chain time; 0 when none is."""
        return self._payer_of(channel.channel_id).withdrawable_at(channel)

    def _payer_of(self, channel_id: bytes) -> Payer:
        known = self.payee.book.channel(channel_id)
        if known is not None and known.config.payer != self.address:
            raise InputError(
                f"{self.address} is paid through channel {known.channel_id}", hint="its payer can leave it"
            )
        return self._payer_at(self.payer.book.channel(channel_id).domain.contract)

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

    def accept(self, voucher: SignedVoucher, price: int = 0, *, token: Address | None = None) -> PayeeChannel:
        """Take a voucher and charge what is delivered for it; see :meth:`Payee.accept`.

        Args:
            voucher: The payer's.
            price: Base units.
            token: The token in which the price is; the chain's when left out. A channel in another one pays nothing.

        Raises:
            ChannelRefusedError: The channel holds another token.
        """
        self._check_token(voucher, token)
        return self._payee_of(voucher).accept(voucher, price)

    def collect(self, voucher: SignedVoucher, *, token: Address | None = None) -> PayeeChannel:
        """Take a voucher for what was delivered already: all of it is charged, also where the payer is leaving.

        Raises:
            VoucherRefusedError: It is not signed, or the channel holds nothing more for it.
            ChannelRefusedError: The channel holds another token than this one (the chain's when left out).
        """
        self._check_token(voucher, token)
        return self._payee_of(voucher).collect(voucher)

    def claim(self) -> list[Claim]:
        """Claim all that was charged."""
        claims = []
        for payee in self.payees:
            payee.follow()
            claims += payee.claim()
        return claims

    def settle(self, token: Address | None = None) -> list[TransactionHash]:
        """Have what was claimed paid out, by one transaction at each contract that has something."""
        sent = [payee.settle(token or self.chain.token) for payee in self.payees]
        return [transaction for transaction in sent if transaction is not None]

    def unsettled(self, token: Address | None = None) -> int:
        """Return what was claimed and not paid out yet, base units."""
        return sum(payee.unsettled(token or self.chain.token) for payee in self.payees)

    def watchtower(self, *, every: float = 5.0) -> Watchtower:
        """Return a watchtower for this account's channels; start it, and close it."""
        return Watchtower(self.payees, every=every)

    def _check_token(self, voucher: SignedVoucher, token: Address | None) -> None:
        """Refuse a channel in a token that somebody made up: its units are no money."""
        wanted, held = token or self.chain.token, voucher.config.token
        if held != wanted:
            raise ChannelRefusedError(f"the channel holds {held}, wanted is {wanted}")

    def _payee_of(self, voucher: SignedVoucher) -> Payee:
        """Return the side at the voucher's contract; x402's refuses what is of neither."""
        return next((payee for payee in self.payees if payee.domain == voucher.domain), self.payee)

    # Both

    def channels(self) -> tuple[list[PayerChannel], list[PayeeChannel]]:
        """Return the channels that this account pays through, and those that it is paid through."""
        return self.payer.book.channels(), self.payee.book.channels()

    def rebuild(self, *vouchers: SignedVoucher) -> tuple[list[PayerChannel], list[PayeeChannel]]:
        """Find this account's channels on the chain and write down what the books lack.

        What was signed and not claimed only the counterparty knows. As a payer, hand in every payee's last voucher
        before paying through a channel again; as a payee, the payers' next vouchers bring it back.

        Args:
            vouchers: The last vouchers that payees have of this account; see :meth:`Payer.adopt`.

        Raises:
            VerificationError: This account's side did not sign one of them; those before it are taken over.
        """
        for payer in self.payers:
            payer.rebuild()
        for payee in self.payees:
            payee.rebuild()
        for voucher in vouchers:
            next((payer for payer in self.payers if payer.domain == voucher.domain), self.payer).adopt(voucher)
        return self.channels()
