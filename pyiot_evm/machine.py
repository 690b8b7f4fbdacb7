r"""A machine: a name with an account key, a device key where it measures, and the market at hand.

Example:
    >>> import pathlib, tempfile
    >>> from pyiot_evm import Devnet, Machine
    >>> series = pathlib.Path(tempfile.mkdtemp()) / "series.csv"
    >>> _ = series.write_text("time,value\n2024-01-01 00:00:00,21.5\n2024-01-01 00:05:00,21.7\n")
    >>> with Devnet() as chain:
    ...     sensor = Machine.create(chain, name="sensor")
    ...     buyer = Machine.create(chain, name="buyer")
    ...     offer = sensor.sell(series, price="0.50")
    ...     buyer.buy(offer.id).frame()["value"].tolist()
    [21.5, 21.7]
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from pyiot_evm.device import ReadingJournal
from pyiot_evm.machine_orders import Amount, OrdersAndMoney
from pyiot_evm.machine_policies import check_policies
from pyiot_evm.market.facade import Market
from pyiot_evm.market.metadata import Licence
from pyiot_evm.market.offers import DEFAULT_DISPUTE_WINDOW, DEFAULT_REVEAL_WINDOW
from pyiot_evm.market.publishing import SaleTerms
from pyiot_evm.market.serving import BackgroundSeller
from pyiot_evm.types import ZERO_ADDRESS, Address, DeviceId, to_units

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from pyiot_evm.chain import Chain
    from pyiot_evm.device import Curve, KeystoreSigner
    from pyiot_evm.machine_policies import Policies
    from pyiot_evm.market.buyer import BuyerPolicy
    from pyiot_evm.market.catalog import CatalogEntry, Wanted
    from pyiot_evm.market.facade import Reference
    from pyiot_evm.market.inspector import Inspection
    from pyiot_evm.market.purchases import Purchase
    from pyiot_evm.market.results import Listing
    from pyiot_evm.market.seller import Action
    from pyiot_evm.market.sources import FileSource, ReadingsSource, TableSource
    from pyiot_evm.types import SaleId

__all__ = ["Machine"]

_DEVNET_ETHER, _DEVNET_DOLLARS = 10, 1000


class Machine(OrdersAndMoney):
    """A named machine on one chain. Make one with :meth:`create` or :meth:`open`.

    Attributes:
        name: Its name in the home's keyring.
        chain: The chain.
        market: The market as this machine's account sees it.
    """

    def __init__(self, *, chain: Chain, name: str, signer: KeystoreSigner, policies: Policies) -> None:
        self.name = name
        self.chain = chain
        buying, selling = policies.get("buying"), policies.get("selling")
        fetching, progress = policies.get("fetching"), policies.get("progress")
        self.market = Market(chain, signer=signer, buying=buying, selling=selling, fetching=fetching, progress=progress)
        self._signer = signer
        self._policies = policies
        self._background: BackgroundSeller | None = None
        self._own_device: KeystoreSigner | None = None

    @classmethod
    def create(
        cls,
        chain: Chain,
        name: str,
        *,
        curve: Curve | None = None,
        ether: Amount = _DEVNET_ETHER,
        dollars: Amount = _DEVNET_DOLLARS,
        **policies: Unpack[Policies],
    ) -> Self:
        """Make a new machine: keys in the home's keyring and, on a devnet, money.

        Args:
            chain: The chain.
            name: A new name.
            curve: The curve of its device key, ``secp256k1`` or ``p256``; left out, it gets one when it first sells
                readings.
            ether: What it is given on a devnet.
            dollars: The same in dev dollars.
            **policies: As for :meth:`open`.

        Raises:
            InputError: The name is taken.
        """
        check_policies(policies)
        entry = chain.home.keyring.new(name, curve=curve)
        if chain.is_devnet:
            chain.fund(entry.address, ether=ether, dollars=dollars)
        return cls.open(chain, name, **policies)

    @classmethod
    def open(cls, chain: Chain, name: str, **policies: Unpack[Policies]) -> Self:
        """Open a machine whose keys are in the home's keyring.

        Args:
            chain: The chain.
            name: Its name.
            **policies: How it acts, by name: :class:`pyiot_evm.machine_policies.Policies`.

        Raises:
            InputError: There is no such name, or the passphrase is wrong.
        """
        check_policies(policies)
        machine = cls(chain=chain, name=name, signer=chain.home.keyring.account(name), policies=policies)
        chain.on_close(machine.close)
        return machine

    def close(self) -> None:
        """Stop the seller in the background, close journals and the device's key; a second call does nothing."""
        if self._background is not None:
            self._background.close()
            self._background = None
        if self._own_device is not None:
            self._own_device.close()
            self._own_device = None
        self.market.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Machine {self.name} {self.address} on {self.chain.network}>"

    @property
    def address(self) -> Address:
        """Its account's address."""
        return self._signer.address

    @property
    def device(self) -> DeviceId | None:
        """Its device's id, where it has a device key."""
        return self.chain.home.keyring.entry(self.name).device

    # Sell

    def sell(
        self,
        data: Any,
        *,
        price: Amount,
        title: str = "",
        description: str = "",
        tags: Sequence[str] = (),
        licence: Licence | None = None,
        copies: int = 0,
        bond: Amount = 0,
        royalty: Amount = 0,
        audience: Address | str | None = None,
        private: bool = False,
        reveal_window: int = DEFAULT_REVEAL_WINDOW,
        dispute_window: int = DEFAULT_DISPUTE_WINDOW,
        lifetime: int | None = None,
        bundle: str = "",
        public_url: str = "",
        token: Address | str | None = None,
        units: dict[str, str] | None = None,
        time_column: str | None = None,
        blob: bool = False,
        again: bool = False,
        serve: bool = True,
    ) -> Listing:
        """Put data on sale: a table or a device's journal as signed readings, any other file as a blob.

        The same call again, after a crash or not, gives the same sale and lists it once; ``again`` makes another one.
        A thread of this process then answers the orders for as long as the chain object is open; ``serve=False``
        leaves that to :meth:`serve`.

        Args:
            data: The path of a ``.csv``, a ``.parquet`` or any file; a DataFrame; or the ``ReadingJournal`` that this
                machine's device keeps.
            price: Whole tokens for one copy, e.g. ``"0.50"``.
            title: One line; the file's name when left out.
            description: Free text.
            tags: Words to find it by.
            licence: What a buyer may do with it.
            copies: How many may be sold; 0 for no limit.
            bond: Whole tokens that a buyer gets on top of the refund when a leaf breaks the promise.
            royalty: Percent of every resale, at most 50.
            audience: The only account that may buy.
            private: Sign an offer file instead of listing it.
            reveal_window: Seconds to reveal a key after a payment.
            dispute_window: Seconds to dispute after a reveal.
            lifetime: Seconds until the offer expires; for ever when left out.
            bundle: Where the bundle is written for buyers (a path, a folder or an fsspec URL); left out, in the home.
            public_url: What buyers are told, e.g. the web address of ``bundle``.
            token: The ERC-20 to be paid in; the chain's when left out.
            units: SenML units by column title.
            time_column: The title of the time column.
            blob: Whether to sell a table as the file that it is.
            again: Whether to list another sale of the same content at the same terms.
            serve: Whether to answer orders in the background.

        Raises:
            InputError: The data or the terms cannot be sold; nothing was sent.
            ContractError: The market refused the listing.
        """
        info = self._token(token)
        path = Path(data) if isinstance(data, str | Path) else None
        terms = SaleTerms(
            price=info.to_units(price),
            token=info.address,
            title=title or (path.name if path is not None else f"readings of {self.name}"),
            description=description,
            tags=tuple(tags),
            licence=licence or Licence(),
            copies=copies,
            bond=info.to_units(bond),
            royalty_bps=to_units(royalty, decimals=2),
            audience=ZERO_ADDRESS if audience is None else Address(audience),
            lifetime=lifetime,
            private=private,
            reveal_window=reveal_window,
            dispute_window=dispute_window,
            bundle_url=bundle,
            public_url=public_url,
        )
        listing = self.market.sell(
            self.source(data, units=units, time_column=time_column, register=not private, blob=blob), terms, again=again
        )
        if serve:
            self.serve_in_background()
        return listing

    def source(
        self,
        data: Any,
        *,
        units: dict[str, str] | None = None,
        time_column: str | None = None,
        register: bool = True,
        blob: bool = False,
    ) -> TableSource | ReadingsSource | FileSource:
        """Make something ready to be sold: a table whose rows the device signs, its own readings, or a file.

        Args:
            data: As for :meth:`sell`.
            units: SenML units by column title.
            time_column: The title of the time column.
            register: Whether to register the device when it is not registered.
            blob: Whether a table is to be sold as the file that it is.

        Raises:
            InputError: The data cannot be read, or the device's key was not its key at the times in it.
        """
        from pyiot_evm.market.preparing import TABLE_ENDINGS, Preparer  # noqa: PLC0415 - slow to import

        preparer = Preparer(
            self.chain, name=self.name, account=self.market.trader.account, progress=self.market.progress
        )
        if isinstance(data, ReadingJournal):
            return preparer.readings(data, register=register)
        if blob or (isinstance(data, str | Path) and Path(data).suffix.lower() not in TABLE_ENDINGS):
            return preparer.file(Path(data))
        return preparer.table(data, units=units, time_column=time_column, register=register)

    def serve(
        self,
        *,
        once: bool = False,
        stop: threading.Event | None = None,
        report: Callable[[Action], None] | None = None,
    ) -> list[Action]:
        """Answer orders: all that is open now (``once``), or until ``stop`` is set.

        Args:
            once: Handle what is open and return what was done.
            stop: Ends the loop.
            report: Called with each action as it is done.
        """
        return self.market.serve(once=once, stop=stop, report=report)

    def serve_in_background(self) -> None:
        """Answer orders in a thread until this machine or its chain is closed; a second call does nothing."""
        if self._background is None or not self._background.is_running:
            policy = replace(self.market.selling, poll=min(self.market.selling.poll, 0.2))
            self._background = BackgroundSeller(self.market.seller_loop(policy), name=self.name)
            self._background.start()

    def listings(self) -> list[Listing]:
        """Return what this machine has on sale, or had, oldest first."""
        return self.market.listings()

    def cancel(self, sale: SaleId | str) -> Listing:
        """Take a sale back; open orders go on."""
        return self.market.cancel(sale)

    def resell(
        self,
        bought: Purchase | Reference,
        *,
        price: Amount,
        token: Address | str | None = None,
        lifetime: int | None = None,
        private: bool = False,
        bundle: str = "",
        public_url: str = "",
        serve: bool = True,
    ) -> Listing:
        """Sell on the data token of something that this machine bought.

        Args:
            bought: The purchase, or the offer's id.
            price: Whole tokens.
            token: The ERC-20 to be paid in; the chain's when left out.
            lifetime: Seconds until the resale expires; for ever when left out.
            private: Sign an offer file instead of listing it.
            bundle: Where this machine's copy of the bundle is written for buyers; left out, buyers fetch it where this
                machine did.
            public_url: What buyers are told.
            serve: Whether to answer orders in the background.

        Raises:
            InputError: This machine has not bought it.
            ContractError: The market refused, e.g. because the token was sold already.
        """
        info = self._token(token)
        listing = self.market.resell(
            bought,
            price=info.to_units(price),
            token=info.address,
            lifetime=lifetime,
            private=private,
            bundle_url=bundle,
            public_url=public_url,
        )
        if serve:
            self.serve_in_background()
        return listing

    # Buy

    def buy(
        self,
        sale: Reference,
        *,
        out: str | Path | None = None,
        again: bool = False,
        max_price: Amount | None = None,
        timeout: float | None = None,
        policy: BuyerPolicy | None = None,
    ) -> Purchase:
        """Verify, pay, wait for the key, check every leaf, settle, and write what was bought.

        The same call again goes on where the last one stopped, or opens what was bought; it never pays twice.

        Args:
            sale: An offer's or resale's id, an offer file, or what ``sell`` and ``search`` return.
            out: Where to write it: ``.csv`` or ``.parquet`` for readings, any name for a blob.
            again: Whether to buy another copy of what was bought.
            max_price: Whole tokens of the chain's token; a dearer sale, or one in another token, is refused.
            timeout: Seconds to wait for the key; until the order ends when left out.
            policy: How to pay and wait, for this purchase.

        Raises:
            InputError: It cannot be bought; nothing was paid.
            VerificationError: The bundle is not what the offer says; nothing was paid.
            SaleDisputedError: A leaf broke the promise; price and bond came back.
            SaleRefundedError: Nobody revealed in time; the price came back.
        """
        rules = policy or self.market.buying
        if max_price is not None:
            info = self.chain.token_info()
            rules = replace(rules, max_price=info.to_units(max_price), token=info.address)
        if timeout is not None:
            rules = replace(rules, timeout=timeout)
        purchase = self.market.buy(sale, again=again, policy=rules)
        if out is not None:
            purchase.write(out)
        return purchase

    def verify(self, sale: Reference) -> Inspection:
        """Fetch a sale's bundle and check everything that can be known before paying."""
        return self.market.verify(sale)

    def search(self, **wanted: Unpack[Wanted]) -> list[CatalogEntry]:
        """Return what is for sale, newest first; see :class:`pyiot_evm.market.catalog.Query`."""
        return self.market.search(**wanted)

    def watch(self, **wanted: Unpack[Wanted]) -> Iterator[CatalogEntry]:
        """Return what is for sale, oldest first, then every new listing as it comes."""
        return self.market.watch(**wanted)
