"""Selling on: a holder sells its data token, reveals the key itself, and the first seller gets the royalty.

The bundle stays what it was; the holder names the place that it was bought from, or publishes its own copy. As with a
first sale, the same request is gone on with after a crash and lists once; it is a new one when its token is sold and
the holder has another.

Example:
    >>> terms = ResaleTerms(price=2_000_000, token=Address(bytes(20)))
    >>> terms.lifetime is None, terms.private
    (True, False)
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyiot_evm.device.schema import canonical_json
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.fetch import publish
from pyiot_evm.market.locks import file_lock
from pyiot_evm.market.offer_file import write_offer_file
from pyiot_evm.market.offers import NEVER, Resale
from pyiot_evm.market.records import PurchaseRecord, PurchaseState, SaleRecord, SaleState
from pyiot_evm.types import Address, Bytes32, OfferId, ResaleId

if TYPE_CHECKING:
    from pyiot_evm.market.trader import Trader

__all__ = ["ResaleTerms", "Reseller"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResaleTerms:
    """What a holder asks for.

    Attributes:
        price: Base units of ``token``.
        lifetime: Seconds until the resale expires; ``None`` for never.
        private: Sign an offer file instead of listing it on chain.
        bundle_url: Where the holder's own copy of the bundle is written; left out, none is.
        public_url: What buyers are told; left out, ``bundle_url`` or where the holder bought it.
    """

    price: int
    token: Address
    lifetime: int | None = None
    private: bool = False
    bundle_url: str = ""
    public_url: str = ""


class Reseller:
    """Sells on what one account has bought.

    Args:
        trader: The holder.
    """

    def __init__(self, trader: Trader) -> None:
        self._trader = trader

    def resell(self, offer_id: OfferId, terms: ResaleTerms) -> SaleRecord:
        """Put one data token on sale, or go on with putting it there.

        Raises:
            InputError: This account has not bought the offer.
            ContractError: The market refused, e.g. because the account holds no token any more.
        """
        trader = self._trader
        bought = self._purchase(offer_id)
        request = self._request(offer_id, terms)
        with file_lock(trader.bundles / f".{request.hex()[:32]}.lock"):
            over = self._is_over(trader.journal.newest_sale(request))
            now, block = trader.now(), trader.chain.block_number()  # asked before the journal is locked
            sale = trader.journal.open_sale(
                request,
                again=over,
                make=lambda number: self._draft(request, number, bought, terms, now=now, block=block),
            )
            if sale.state is SaleState.SEALED:
                if terms.bundle_url:
                    publish(Path(bought.bundle), terms.bundle_url)
                sale = trader.journal.advance_sale(sale.key, SaleState.SEALED, SaleState.PUBLISHED)
            if sale.state is SaleState.PUBLISHED:
                sale = self._list(sale)
            return sale

    def _purchase(self, offer_id: OfferId) -> PurchaseRecord:
        mine = self._trader.journal.purchases(self._trader.address)
        settled = [record for record in mine if record.state is PurchaseState.SETTLED]
        for record in reversed(settled):
            if self._trader.offer_id(record.offer) == offer_id:
                return record
        raise InputError(f"{self._trader.address} has not bought offer {offer_id}", hint="only a holder can resell")

    def _is_over(self, newest: SaleRecord | None) -> bool:
        """Whether the last resale of this request took its token and another one is there, or it has expired."""
        if newest is None or newest.resale is None or newest.sale_id is None:
            return False
        trader = self._trader
        taken = trader.contract.resale_of(ResaleId(newest.sale_id))
        held = trader.contract.balance_of(trader.address, int.from_bytes(newest.resale.offer_id, "big"))
        sold, left = trader.chain.call_many([taken, held])
        return trader.now() >= newest.resale.expiry or (sold.taken and left > 0)

    def _request(self, offer_id: OfferId, terms: ResaleTerms) -> Bytes32:
        document = {
            "network": self._trader.chain.network,
            "market": str(self._trader.contract.address),
            "holder": str(self._trader.address),
            "offer": str(offer_id),
            "terms": {name: str(value) for name, value in asdict(terms).items()},
        }
        return Bytes32(keccak256(canonical_json(document)))

    def _draft(
        self, request: Bytes32, number: int, bought: PurchaseRecord, terms: ResaleTerms, *, now: int, block: int
    ) -> tuple[SaleRecord, bytes]:
        trader, offer = self._trader, bought.offer
        resale = Resale(
            offer_id=trader.offer_id(offer),
            holder=trader.address,
            token=terms.token,
            price=terms.price,
            expiry=NEVER if terms.lifetime is None else now + terms.lifetime,
            salt=secrets.randbits(256),
        )
        sale_id = trader.sale_id(offer, resale)
        point = offer.key_x.to_bytes(32, "big") + offer.key_y.to_bytes(32, "big")
        record = SaleRecord(
            key=f"{request.hex()[:32]}-{number}",
            request=request,
            number=number,
            kind="resale",
            seller=trader.address,
            state=SaleState.SEALED,
            terms=_document(terms),
            point=point,
            created_at=now,
            block=block,
            sale_id=sale_id,
            offer=offer,
            resale=resale,
            signature=trader.signer.sign_digest(sale_id) if terms.private else b"",
            uri=terms.public_url or terms.bundle_url or bought.uri,
            bundle=bought.bundle,
            rows=offer.leaf_count,
        )
        return record, trader.vault.encrypt(trader.content_key(point), label=point)

    def _list(self, sale: SaleRecord) -> SaleRecord:
        trader, offer, resale = self._trader, sale.offer, sale.resale
        if offer is None or resale is None or sale.sale_id is None:
            raise InputError(f"{sale.key} is no resale")
        if sale.signature:
            write_offer_file(trader.offer_path(sale.key), trader, sale)
        else:
            call = trader.contract.list_resale(offer, resale, sale.uri)
            trader.send_once(sale.sale_id, "listResale", call)
        return trader.journal.advance_sale(sale.key, SaleState.PUBLISHED, SaleState.LISTED)


def _document(terms: ResaleTerms) -> dict[str, Any]:
    values = asdict(terms)
    return {name: str(value) if isinstance(value, bytes) else value for name, value in values.items()}
