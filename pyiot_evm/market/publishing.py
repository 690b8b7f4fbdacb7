"""How something comes to be on sale: drafted, sealed, published, listed, each step journalled before the next.

What is asked for (network, seller, content, terms) has a hash, and a request that was made before is gone on with: a
seller that was killed runs the same line again and gets the same sale, with the same content key and the same offer,
listed once. A second listing of the same content at the same terms has to be asked for (``again``). Cancelled and
expired sales do not count.

Example:
    >>> terms = SaleTerms(price=500_000, token=ZERO_ADDRESS, title="Road occupancy", tags=("traffic",))
    >>> terms.document()["price"], terms.document()["tags"], terms.copies
    (500000, ['traffic'], 0)
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pyiot_evm.device.schema import canonical_json
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.fetch import is_local, local_path, publish
from pyiot_evm.market.key_release import ContentKey
from pyiot_evm.market.locks import file_lock
from pyiot_evm.market.metadata import Licence
from pyiot_evm.market.offer_file import write_offer_file
from pyiot_evm.market.offers import (
    DEFAULT_DISPUTE_WINDOW,
    DEFAULT_REVEAL_WINDOW,
    NEVER,
    blank_offer,
)
from pyiot_evm.market.records import SaleRecord, SaleState
from pyiot_evm.types import ZERO_ADDRESS, Address, Bytes32

if TYPE_CHECKING:
    from pyiot_evm.market.offers import Offer, Summary
    from pyiot_evm.market.payments import Payments
    from pyiot_evm.market.trader import Trader

__all__ = ["Publisher", "SaleTerms", "Sealed", "Source"]

ENDING = ".pyiot"
_MAX_ROYALTY_BPS = 5_000
_MIN_WINDOW, _MAX_WINDOW = 5 * 60, 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleTerms:
    """What a seller asks for.

    Attributes:
        price: Base units of ``token``.
        copies: How many may be sold; 0 for no limit.
        bond: Base units that the buyer gets on top of the refund when a leaf breaks the promise.
        royalty_bps: The seller's part of every resale, in basis points, at most 5,000.
        audience: The only account that may buy; zero for anyone.
        lifetime: Seconds until the offer expires; ``None`` for never.
        private: Sign an offer file instead of listing it on chain.
        bundle_url: Where the bundle is written for buyers, a file or a folder; left out, it stays in the home.
        public_url: What buyers are told; left out, ``bundle_url`` or the file in the home. One that ends in a slash
            gets the bundle's name.
    """

    price: int
    token: Address
    title: str
    description: str = ""
    tags: tuple[str, ...] = ()
    licence: Licence = field(default_factory=Licence)
    copies: int = 0
    bond: int = 0
    royalty_bps: int = 0
    audience: Address = ZERO_ADDRESS
    reveal_window: int = DEFAULT_REVEAL_WINDOW
    dispute_window: int = DEFAULT_DISPUTE_WINDOW
    lifetime: int | None = None
    private: bool = False
    bundle_url: str = ""
    public_url: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.royalty_bps <= _MAX_ROYALTY_BPS:
            raise InputError(f"a royalty is 0 to 50 percent, not {self.royalty_bps / 100:g}")
        for name, seconds in (("reveal", self.reveal_window), ("dispute", self.dispute_window)):
            if not _MIN_WINDOW <= seconds <= _MAX_WINDOW:
                raise InputError(f"a {name} window is 5 minutes to 30 days, not {seconds} seconds")

    def document(self) -> dict[str, Any]:
        """Return the terms as JSON can hold them."""
        values = asdict(self)
        return {
            name: str(value) if isinstance(value, bytes) else list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }


@dataclass(frozen=True, slots=True)
class Sealed:
    """A bundle that was written, and the offer that it is for.

    Attributes:
        rows: Readings or chunks.
    """

    offer: Offer
    summary: Summary
    rows: int


class Source(Protocol):
    """Something that can be sold."""

    @property
    def content(self) -> Bytes32:
        """The hash of what is sold, in the clear: equal content is one request."""

    def seal(self, key: ContentKey, offer: Offer, terms: SaleTerms, path: Path) -> Sealed:
        """Write the bundle to ``path`` and fill in the offer's sealed fields."""


class Publisher:
    """Puts things on sale for one account.

    Args:
        trader: Who sells.
        payments: Pays bonds in.
    """

    def __init__(self, trader: Trader, *, payments: Payments) -> None:
        self._trader = trader
        self._payments = payments

    def sell(self, source: Source, terms: SaleTerms, *, again: bool = False) -> SaleRecord:
        """Put something on sale, or go on with putting it there.

        Args:
            source: What is sold.
            terms: What is asked for it.
            again: Whether to list another sale of the same content at the same terms.

        Raises:
            InputError: The terms or the content cannot be sold; nothing was sent.
            ContractError: The market refused the listing.
        """
        trader = self._trader
        request = self._request(source.content, terms)
        with file_lock(trader.bundles / f".{request.hex()[:32]}.lock"):
            newest = trader.journal.newest_sale(request)
            expired = newest is not None and newest.offer is not None and trader.now() >= newest.offer.expiry
            now, block = trader.now(), trader.chain.block_number()  # asked before the journal is locked
            sale = trader.journal.open_sale(
                request,
                again=again or expired,
                make=lambda number: self._draft(request, number, terms, now=now, block=block),
            )
            if sale.state is SaleState.DRAFTED:
                sale = self._seal(sale, source, terms)
            return self.finish(sale)

    def finish(self, sale: SaleRecord) -> SaleRecord:
        """Publish and list a sale that is sealed."""
        if sale.state is SaleState.SEALED:
            sale = self._publish(sale)
        if sale.state is SaleState.PUBLISHED:
            sale = self._list(sale)
        return sale

    def _request(self, content: Bytes32, terms: SaleTerms) -> Bytes32:
        trader = self._trader
        document = {
            "network": trader.chain.network,
            "market": str(trader.contract.address),
            "seller": str(trader.address),
            "content": str(content),
            "terms": json.dumps(terms.document(), sort_keys=True),
        }
        return Bytes32(keccak256(canonical_json(document)))

    def _draft(
        self, request: Bytes32, number: int, terms: SaleTerms, *, now: int, block: int
    ) -> tuple[SaleRecord, bytes]:
        key, trader = ContentKey.create(), self._trader
        point = key.point[0].to_bytes(32, "big") + key.point[1].to_bytes(32, "big")
        record = SaleRecord(
            key=f"{request.hex()[:32]}-{number}",
            request=request,
            number=number,
            kind="offer",
            seller=trader.address,
            state=SaleState.DRAFTED,
            terms=terms.document(),
            point=point,
            created_at=now,
            block=block,
        )
        return record, trader.vault.encrypt(bytes(key), label=point)

    def _seal(self, sale: SaleRecord, source: Source, terms: SaleTerms) -> SaleRecord:
        trader = self._trader
        offer = blank_offer(
            seller=trader.address,
            token=terms.token,
            price=terms.price,
            bond=terms.bond,
            supply=terms.copies,
            royalty_bps=terms.royalty_bps,
            audience=terms.audience,
            reveal_window=terms.reveal_window,
            dispute_window=terms.dispute_window,
            expiry=NEVER if terms.lifetime is None else sale.created_at + terms.lifetime,
            salt=secrets.randbits(256),
        )
        path = trader.bundles / f"{sale.key}{ENDING}"
        key = ContentKey.from_bytes(trader.content_key(sale.point))
        sealed = source.seal(key, offer, terms, path)
        sale_id = trader.offer_id(sealed.offer)
        return trader.journal.advance_sale(
            sale.key,
            SaleState.DRAFTED,
            SaleState.SEALED,
            offer=sealed.offer,
            sale_id=sale_id,
            summary=sealed.summary.encode(),
            signature=trader.signer.sign_digest(sale_id) if terms.private else b"",
            uri=_public(terms, path),
            bundle=str(path),
            rows=sealed.rows,
        )

    def _publish(self, sale: SaleRecord) -> SaleRecord:
        if url := sale.terms["bundle_url"]:
            publish(Path(sale.bundle), _inside(url, Path(sale.bundle)))
        return self._trader.journal.advance_sale(sale.key, SaleState.SEALED, SaleState.PUBLISHED)

    def _list(self, sale: SaleRecord) -> SaleRecord:
        trader, offer = self._trader, sale.offer
        if offer is None or sale.sale_id is None:
            raise InputError(f"sale {sale.key} is not sealed")
        if offer.bond:
            self._payments.ensure_credit(sale.sale_id, offer.token, offer.bond * max(offer.supply, 1))
        if sale.signature:
            write_offer_file(trader.offer_path(sale.key), trader, sale)
        else:
            trader.send_once(sale.sale_id, "list", trader.contract.list(offer, sale.uri, sale.summary))
        return trader.journal.advance_sale(sale.key, SaleState.PUBLISHED, SaleState.LISTED)


def _inside(url: str, bundle: Path) -> str:
    """Return where a bundle is written: a folder (it ends in a slash, or is one) gets it under its own name."""
    is_folder = url.endswith("/") or (is_local(url) and local_path(url).is_dir())
    return f"{url.removesuffix('/')}/{bundle.name}" if is_folder else url


def _public(terms: SaleTerms, bundle: Path) -> str:
    """Return what buyers are told: an address that means the same wherever it is read."""
    if terms.public_url:
        return terms.public_url + bundle.name if terms.public_url.endswith("/") else terms.public_url
    if not terms.bundle_url:
        return bundle.as_uri()
    url = _inside(terms.bundle_url, bundle)
    return local_path(url).absolute().as_uri() if is_local(url) else url
