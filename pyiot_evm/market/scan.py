"""Reading the market's listings from the chain into the catalog, a reorganisation included.

The catalog keeps the hashes of the blocks that it has read up to. A scan first goes back to the last one that the chain
still has, forgets what came after it, then reads on; what it adds and the new checkpoint are one transaction, so a scan
that was killed is simply done again.

Example:
    >>> from types import SimpleNamespace
    >>> chain = SimpleNamespace(block_number=lambda: 100, code_at=lambda _, block: b"code" if block >= 7 else b"")
    >>> birth_of(chain, b"the market")
    7
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from pyiot_evm.chain.rpc import RpcError
from pyiot_evm.contracts.data_market import OfferCancelled, OfferListed, ResaleCancelled, ResaleListed
from pyiot_evm.exceptions import ConsistencyError, VerificationError
from pyiot_evm.market.catalog import Cancellation, CatalogStore, Entry
from pyiot_evm.market.offers import Summary
from pyiot_evm.types import OfferId, ResaleId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyiot_evm.chain import Chain
    from pyiot_evm.chain.calls import Log
    from pyiot_evm.contracts.data_market import DataMarket
    from pyiot_evm.market.catalog import CatalogEntry, Query
    from pyiot_evm.market.offers import Offer
    from pyiot_evm.types import Address, SaleId

__all__ = ["Catalog", "birth_of"]

_log = logging.getLogger(__name__)
_STEP = 50_000


class Catalog:
    """What is for sale on one chain.

    Args:
        chain: The chain.
        contract: The market's binding.
        store: Where the catalog is kept.
    """

    def __init__(self, *, chain: Chain, contract: DataMarket, store: CatalogStore) -> None:
        self._chain = chain
        self._contract = contract
        self._store = store

    def sync(self) -> int:
        """Read the blocks that are new; returns the last block that was read.

        Raises:
            TransportError: The chain did not answer.
        """
        head = self._chain.block_number()
        start = self._common_block(head) + 1
        while start <= head:
            end = min(start + _STEP - 1, head)
            block_hash = self._block_hash(end)
            if block_hash is None:  # the chain just became shorter: the next scan goes back
                return start - 1
            self._store.apply(list(self._changes(start, end)), block=end, block_hash=block_hash)
            start = end + 1
        return head

    def search(self, query: Query) -> list[CatalogEntry]:
        """Read what is new, then return what matches, newest first."""
        self.sync()
        return self._store.search(query)

    def get(self, sale_id: SaleId) -> CatalogEntry | None:
        """Read what is new, then return one sale, cancelled or not."""
        self.sync()
        return self._store.get(sale_id)

    def watch(
        self, query: Query, *, poll: float = 1.0, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[CatalogEntry]:
        """Return what matches now, oldest first, then every new listing as it comes, until ``stopped``."""
        seen: set[tuple[SaleId, int]] = set()
        while not stopped():
            for entry in reversed(self.search(query)):
                if (entry.sale_id, entry.block) not in seen:
                    seen.add((entry.sale_id, entry.block))
                    yield entry
            time.sleep(poll)

    def _common_block(self, head: int) -> int:
        """Go back to the last checkpoint that the chain still has."""
        checkpoints = self._store.checkpoints()
        for block, block_hash in checkpoints:
            if block <= head and self._block_hash(block) == block_hash:
                if block != checkpoints[0][0]:
                    self._store.rewind(block)
                return block
        if checkpoints:
            self._store.rewind(-1)
        return birth_of(self._chain, self._contract.address) - 1

    def _block_hash(self, number: int) -> str | None:
        block = self._chain.rpc("eth_getBlockByNumber", hex(number), False)  # noqa: FBT003 - JSON-RPC's own order
        return None if block is None else str(block["hash"])

    def _changes(self, first: int, last: int) -> Iterator[Entry | Cancellation]:
        kinds = {kind.TOPIC: kind for kind in (OfferListed, OfferCancelled, ResaleListed, ResaleCancelled)}
        offers: dict[bytes, OfferListed] = {}
        for log in self._chain.logs(
            address=self._contract.address, topics=[list(kinds)], from_block=first, to_block=last
        ):
            try:
                event = kinds[log.topics[0]].from_log(log)
            except ConsistencyError as error:  # texts that are no UTF-8: the contract does not look at them
                _log.warning("left out a listing that cannot be read: %s", error)
                continue
            if isinstance(event, OfferListed):
                offers[event.offer_id] = event
                yield _offer_entry(event, log)
            elif isinstance(event, ResaleListed):
                offer = offers[event.offer_id].offer if event.offer_id in offers else self._offer_of(event.offer_id)
                if offer is not None:
                    yield _resale_entry(event, offer, log)
            elif isinstance(event, OfferCancelled):
                yield Cancellation(OfferId(event.offer_id), log.block_number)
            else:
                yield Cancellation(ResaleId(event.resale_id), log.block_number)

    def _offer_of(self, offer_id: bytes) -> Offer | None:
        """Return the offer that a resale is of; a private offer was never listed, so its resales stay private too."""
        entry = self._store.get(OfferId(offer_id))
        return None if entry is None else entry.offer


def birth_of(chain: Chain, address: Address) -> int:
    """Return the block that created a contract, so that a first scan need not begin at block 0; 0 where it is unknown.

    It asks some 25 times for the code at earlier blocks, which a node that keeps no old state refuses.
    """
    low, high = 0, chain.block_number()
    try:
        while low < high:
            middle = (low + high) // 2
            if chain.code_at(address, block=middle):
                high = middle
            else:
                low = middle + 1
    except RpcError:
        return 0
    return low


def _offer_entry(event: OfferListed, log: Log) -> Entry:
    try:
        summary: Summary | None = Summary.decode(event.summary)
    except VerificationError:
        summary = None
    return Entry(
        sale_id=OfferId(event.offer_id),
        offer_id=OfferId(event.offer_id),
        seller=event.seller,
        summary=summary,
        uri=event.uri,
        offer=event.offer,
        resale=None,
        block=log.block_number,
        position=log.log_index,
    )


def _resale_entry(event: ResaleListed, offer: Any, log: Log) -> Entry:
    return Entry(
        sale_id=ResaleId(event.resale_id),
        offer_id=OfferId(event.offer_id),
        seller=event.holder,
        summary=None,
        uri=event.uri,
        offer=offer,
        resale=event.resale,
        block=log.block_number,
        position=log.log_index,
    )
