"""The market as one account sees it: find, sell, buy, resell, and the money in between.

:class:`Market` needs only a chain to search and to verify. With a signer it trades. Everything that it is about to do
is in the journal first, so any call can be made again after a crash, and goes on.

Example:
    >>> from pyiot_evm.chain import Devnet
    >>> with Devnet() as chain, Market(chain) as market:
    ...     market.search(text="occupancy")
    []
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, Unpack

from pyiot_evm.exceptions import ConfigurationError, InputError
from pyiot_evm.market import views
from pyiot_evm.market.buyer import Buyer, BuyerPolicy, Target
from pyiot_evm.market.catalog import CatalogEntry, CatalogStore, Query, Wanted
from pyiot_evm.market.fetch import FetchPolicy
from pyiot_evm.market.inspector import Inspector
from pyiot_evm.market.journal import Journal
from pyiot_evm.market.payments import Payments, SignedOrder
from pyiot_evm.market.publishing import Publisher, SaleTerms, Source
from pyiot_evm.market.purchases import Purchase
from pyiot_evm.market.records import PurchaseRecord, PurchaseState, SaleRecord, SaleState
from pyiot_evm.market.references import Reference, Resolver
from pyiot_evm.market.results import Listing, OrderView, Transaction
from pyiot_evm.market.scan import Catalog
from pyiot_evm.market.seller import Action, SellerLoop, SellerPolicy
from pyiot_evm.market.trader import Trader
from pyiot_evm.market.vault import Vault
from pyiot_evm.types import Address, OfferId, OrderId, SaleId

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from pyiot_evm.chain import Chain
    from pyiot_evm.device import LocalSigner
    from pyiot_evm.market.inspector import Inspection
    from pyiot_evm.relay import RelayRequest

__all__ = ["Market", "Reference"]


class Market:
    """The data market on one chain.

    Args:
        chain: The chain.
        signer: The account that trades; without one the market can be searched only.
        buying: How to pay and wait.
        selling: How to answer orders.
        fetching: What may be fetched from the addresses in listings. Left out, the public web; on a devnet also this
            machine's own servers and the home's bundles.
        progress: Told now and then what is being done, how many leaves of it are done, and how many there are.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        signer: LocalSigner | None = None,
        buying: BuyerPolicy | None = None,
        selling: SellerPolicy | None = None,
        fetching: FetchPolicy | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.chain = chain
        self.progress = progress
        self._signer = signer
        self.buying = buying or BuyerPolicy()
        self.selling = selling or SellerPolicy()
        self._fetching = fetching
        self._open = ExitStack()

    def close(self) -> None:
        """Close journal and catalog; they are opened again when they are used again."""
        self._open.close()
        for name in ("catalog", "journal", "trader", "inspector", "publisher", "_payments"):
            self.__dict__.pop(name, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # Parts, opened when they are first used

    @cached_property
    def contract(self) -> Any:
        """The market contract's binding."""
        from pyiot_evm.contracts.data_market import DataMarket  # noqa: PLC0415 - slow to import

        return DataMarket(self.chain.addresses.data_market)

    @cached_property
    def catalog(self) -> Catalog:
        """What is for sale."""
        store = self._open.enter_context(CatalogStore(self.chain.path / "catalog.sqlite"))
        return Catalog(chain=self.chain, contract=self.contract, store=store)

    @cached_property
    def journal(self) -> Journal:
        """The network's trading journal."""
        return self._open.enter_context(Journal(self.chain.path / "market.sqlite"))

    @cached_property
    def trader(self) -> Trader:
        """The account that trades.

        Raises:
            ConfigurationError: The market was opened without a signer.
        """
        if self._signer is None:
            raise ConfigurationError(
                "this market has no account to trade with", hint="open it with signer=, or use a Machine"
            )
        return Trader(
            chain=self.chain,
            account=self.chain.account(self._signer),
            signer=self._signer,
            journal=self.journal,
            vault=Vault.of(self._signer),
            contract=self.contract,
            bundles=self.chain.home.bundles,
        )

    @property
    def fetching(self) -> FetchPolicy:
        """What may be fetched."""
        if self._fetching is not None:
            return self._fetching
        bundles = self.chain.home.bundles
        return FetchPolicy.local(bundles) if self.chain.is_devnet else FetchPolicy().with_root(bundles)

    @cached_property
    def inspector(self) -> Inspector:
        """Fetches bundles and checks them."""
        folder = self.chain.home.bundles / "bought"
        return Inspector(self.chain, folder=folder, fetching=self.fetching, progress=self.progress)

    @cached_property
    def _payments(self) -> Payments:
        return Payments(self.trader)

    @cached_property
    def publisher(self) -> Publisher:
        """Puts things on sale."""
        return Publisher(self.trader, payments=self._payments)

    # Find

    def search(self, query: Query | None = None, **wanted: Unpack[Wanted]) -> list[CatalogEntry]:
        """Return what is for sale, newest first, from the chain's logs alone.

        Args:
            query: What to look for.
            **wanted: The same as fields of :class:`Query`; what has expired is left out unless ``now`` says otherwise.
        """
        return self.catalog.search(query or replace(Query(now=self.chain.now()), **wanted))

    def watch(
        self,
        query: Query | None = None,
        *,
        poll: float = 1.0,
        stopped: Callable[[], bool] = lambda: False,
        **wanted: Unpack[Wanted],
    ) -> Iterator[CatalogEntry]:
        """Return what is for sale, oldest first, then every new listing as it comes."""
        return self.catalog.watch(query or Query(**wanted), poll=poll, stopped=stopped)

    def get(self, sale: SaleId | str) -> CatalogEntry:
        """Return one listed sale.

        Raises:
            InputError: Nothing with this id is listed on this chain.
        """
        return Resolver(self.chain, contract=self.contract, catalog=lambda: self.catalog).entry(sale)

    def verify(self, reference: Reference) -> Inspection:
        """Fetch a sale's bundle and check everything that can be known before paying.

        Raises:
            VerificationError: The bundle is not what the offer says.
        """
        return self.inspector.check(self.target(reference))

    def target(self, reference: Reference) -> Target:
        """Find out what a reference names.

        Raises:
            InputError: There is no such sale, or the offer file is of another chain.
            VerificationError: It is not an offer file.
        """
        return Resolver(self.chain, contract=self.contract, catalog=lambda: self.catalog).target(reference)

    def sale_id(self, offer: Any, resale: Any = None) -> SaleId:
        """Return the id of an offer or a resale on this chain."""
        from pyiot_evm.market.offers import offer_id, resale_id  # noqa: PLC0415

        where = {"chain_id": self.chain.chain_id, "market": self.contract.address}
        return offer_id(offer, **where) if resale is None else resale_id(resale, **where)

    # Sell

    def sell(self, source: Source, terms: SaleTerms, *, again: bool = False) -> Listing:
        """Put something on sale; the same request goes on where it was, and lists once (see ``publishing``)."""
        return self._listing(self.publisher.sell(source, terms, again=again))

    def seller_loop(self, policy: SellerPolicy | None = None) -> SellerLoop:
        """Return the loop that answers this account's orders."""
        return SellerLoop(self.trader, policy=policy or self.selling)

    def serve(
        self,
        *,
        once: bool = False,
        stop: threading.Event | None = None,
        report: Callable[[Action], None] | None = None,
    ) -> list[Action]:
        """Answer orders: what is open now, or until ``stop`` is set.

        Args:
            once: Handle what is open and return what was done.
            stop: Ends the loop.
            report: Called with each action as it is done.
        """
        import threading  # noqa: PLC0415

        loop = self.seller_loop()
        if not once:
            loop.run(stop or threading.Event(), report=report)
            return []
        return loop.step(report=report)

    def listings(self) -> list[Listing]:
        """Return what this account has on sale, or had, oldest first."""
        sales = self.journal.sales(self.trader.address)
        return [self._listing(sale) for sale in sales if sale.offer is not None and sale.sale_id is not None]

    def cancel(self, sale: SaleId | str) -> Listing:
        """Take a sale back; open orders go on.

        Raises:
            InputError: This account has no such sale.
        """
        record = self.journal.sale(SaleId(sale))
        if record is None or record.seller != self.trader.address or record.offer is None:
            raise InputError(f"{self.trader.address} has no sale {sale}")
        call = self.contract.cancel(record.offer)
        if record.resale is not None:
            call = self.contract.cancel_resale(record.resale)
        self.trader.send_once(record.sale_id, "cancel", call)
        return self._listing(self.journal.advance_sale(record.key, record.state, SaleState.CANCELLED))

    def resell(
        self,
        reference: Reference | Purchase,
        *,
        price: int,
        token: Address | None = None,
        lifetime: int | None = None,
        private: bool = False,
        bundle_url: str = "",
        public_url: str = "",
    ) -> Listing:
        """Sell the data token of something that this account bought; see ``resale``."""
        from pyiot_evm.market.resale import ResaleTerms, Reseller  # noqa: PLC0415

        terms = ResaleTerms(
            price=price,
            token=token or self.chain.token,
            lifetime=lifetime,
            private=private,
            bundle_url=bundle_url,
            public_url=public_url,
        )
        bought = reference.offer_id if isinstance(reference, Listing | CatalogEntry | Purchase) else SaleId(reference)  # type: ignore[arg-type]
        return self._listing(Reseller(self.trader).resell(OfferId(bought), terms))

    def _listing(self, sale: SaleRecord) -> Listing:
        return views.listing(self.trader, sale)

    # Buy

    def buyer(self, policy: BuyerPolicy | None = None) -> Buyer:
        """Return the buyer's side of this account."""
        return Buyer(self.trader, payments=self._payments, inspector=self.inspector, policy=policy or self.buying)

    def buy(self, reference: Reference, *, again: bool = False, policy: BuyerPolicy | None = None) -> Purchase:
        """Verify, pay, wait for the key, check every leaf, settle; see :meth:`Buyer.buy` for how it can end.

        Args:
            reference: What to buy.
            again: Whether to buy another copy of what this account has bought; left out, that is opened again.
            policy: How to pay and wait, for this purchase.
        """
        return self._purchase(self.buyer(policy).buy(self.target(reference), again=again))

    def order(self, reference: Reference, *, again: bool = False, policy: BuyerPolicy | None = None) -> OrderView:
        """Verify and pay without waiting for the key; ``buy`` goes on from there."""
        return self._bought(self.buyer(policy).order(self.target(reference), again=again))

    def authorize(self, reference: Reference, *, again: bool = False) -> SignedOrder:
        """Verify, draft and sign an order that somebody else carries to the chain; ``buy`` goes on from there."""
        record = self.buyer().draft(self.target(reference), again=again)
        if record.state is not PurchaseState.DRAFTED:
            raise InputError(f"order {record.order_id} is {record.state} already")
        return self._payments.authorize(record)

    def submit(self, signed: SignedOrder) -> Transaction:
        """Carry another account's signed order to the chain and pay the gas."""
        return self._payments.submit(signed)

    def purchase(self, order: OrderId | str) -> Purchase:
        """Return something that this account bought.

        Raises:
            InputError: This account has no such order, or it holds no data.
        """
        record = self._record(order)
        if record.state not in (PurchaseState.SETTLED, PurchaseState.REVEALED):
            raise InputError(f"order {record.order_id} is {record.state}: it holds no data")
        return self._purchase(record)

    def refund(self, order: OrderId | str) -> OrderView:
        """Take the refund of an order that nobody revealed in time, as buyer, or give it, as seller."""
        if (record := self.journal.purchase(OrderId(order))) is not None and record.buyer == self.trader.address:
            return self._bought(self.buyer().refund(record))
        return self._sold(self.seller_loop().refund(OrderId(order)))

    def sign_refund(self, order: OrderId | str, *, lifetime: int = 3600) -> RelayRequest:
        """Sign, as seller, the refund of a paid order for somebody else to carry; it is never revealed afterwards."""
        return self.seller_loop().sign_refund(OrderId(order), lifetime=lifetime)

    def settle(self, order: OrderId | str) -> OrderView:
        """Settle a revealed order: check every leaf first, as buyer; after the dispute window, as seller."""
        if (record := self.journal.purchase(OrderId(order))) is not None and record.buyer == self.trader.address:
            return self._bought(self.buyer().finish(record))
        return self._sold(self.seller_loop().settle(OrderId(order)))

    def dispute(self, order: OrderId | str) -> OrderView:
        """Check every leaf of a revealed order and dispute it if one breaks the promise.

        Raises:
            InputError: Every leaf keeps the promise.
        """
        return self._bought(self.buyer().dispute(self._record(order)))

    def _record(self, order: OrderId | str) -> PurchaseRecord:
        record = self.journal.purchase(OrderId(order))
        if record is None or record.buyer != self.trader.address:
            raise InputError(f"{self.trader.address} has no purchase {order}")
        return record

    def _purchase(self, record: PurchaseRecord) -> Purchase:
        return Purchase.of(record, self.trader)

    # Orders and money

    def orders(self) -> list[OrderView]:
        """Return this account's orders, as buyer and as seller, in the states that the chain has them in now."""
        self.seller_loop().look()
        bought = [self._bought(record) for record in self.journal.purchases(self.trader.address)]
        sold = [self._sold(order.order_id) for order in self.journal.orders(self.trader.address)]
        return views.as_on_chain(self.trader, bought) + sold

    def _bought(self, record: PurchaseRecord) -> OrderView:
        return views.bought(self.trader, record)

    def _sold(self, order_id: OrderId) -> OrderView:
        return views.sold(self.trader, order_id)

    def credit(self, token: Address | None = None) -> int:
        """Return what this account can take out, base units."""
        return int(self.chain.call(self.contract.credit_of(self.trader.address, token or self.chain.token)))

    def deposit(self, amount: int, *, token: Address | None = None) -> Transaction:
        """Pay into the account's credit: money for bonds."""
        return self._payments.deposit(token or self.chain.token, amount)

    def withdraw(
        self, amount: int | None = None, *, token: Address | None = None, to: Address | None = None
    ) -> Transaction | None:
        """Take credit out; all of it when no amount is given. Returns ``None`` where there is none."""
        return self.trader.withdraw(token or self.chain.token, amount, to)
