"""What was bought: the data, opened with the key that the journal keeps.

Nothing decrypted is kept in memory or on disk until it is asked for; each way of asking checks every hash and the root
again.

Example:
    >>> [way for way in ("frame", "read", "readings", "table", "write") if hasattr(Purchase, way)]
    ['frame', 'read', 'readings', 'table', 'write']
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pyiot_evm.exceptions import InputError
from pyiot_evm.market.bundle import Bundle
from pyiot_evm.market.datasets import Table
from pyiot_evm.market.key_release import ContentKey
from pyiot_evm.market.packing import unseal_bytes, unseal_file
from pyiot_evm.market.verification import open_readings
from pyiot_evm.types import Address, OfferId, OrderId, SaleId

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiot_evm.device import Reading
    from pyiot_evm.market.metadata import Metadata
    from pyiot_evm.market.offers import Offer, Resale
    from pyiot_evm.market.records import PurchaseRecord
    from pyiot_evm.market.results import Transaction
    from pyiot_evm.market.trader import Trader

__all__ = ["Purchase"]


@dataclass(frozen=True, slots=True)
class Purchase:
    """A copy that was bought; every leaf was checked.

    Attributes:
        state: ``settled``, or ``revealed`` where settling was left to others.
        rows: Readings, or chunks of a blob.
        price: In base units of ``token``.
        bundle: Where this machine keeps the bundle.
        transactions: What it took, with gas.
    """

    order_id: OrderId
    sale_id: SaleId
    offer_id: OfferId
    seller: Address
    state: str
    rows: int
    price: int
    token: Address
    offer: Offer
    resale: Resale | None
    bundle: Path
    transactions: tuple[Transaction, ...]
    _key: ContentKey = field(repr=False, compare=False)

    @classmethod
    def of(cls, record: PurchaseRecord, trader: Trader) -> Self:
        """Take a purchase of the journal whose key is known."""
        offer, sold = record.offer, record.resale or record.offer
        point = offer.key_x.to_bytes(32, "big") + offer.key_y.to_bytes(32, "big")
        return cls(
            order_id=record.order_id,
            sale_id=record.sale_id,
            offer_id=OfferId(trader.offer_id(offer)),
            seller=record.resale.holder if record.resale else offer.seller,
            state=record.state.value,
            rows=offer.leaf_count,
            price=sold.price,
            token=sold.token,
            offer=offer,
            resale=record.resale,
            bundle=Path(record.bundle),
            transactions=trader.transactions(record.order_id),
            _key=ContentKey.from_bytes(trader.content_key(point)),
        )

    @property
    def metadata(self) -> Metadata:
        """The metadata document."""
        with Bundle.open_own(self.bundle) as bundle:
            return bundle.metadata

    @property
    def is_blob(self) -> bool:
        """Whether a file was bought, not readings."""
        return self.metadata.kind == "blob"

    def readings(self) -> list[Reading]:
        """Return the readings, each as its device signed it.

        Raises:
            InputError: A file was bought.
        """
        with Bundle.open_own(self.bundle) as bundle:
            return open_readings(bundle, self._key)

    def table(self) -> Table:
        """Return the readings as times and numbers, in the seller's own style."""
        metadata = self.metadata
        if metadata.schema is None:
            raise InputError("a file was bought, not readings", hint="write it with .write(path)")
        return Table.from_readings(self.readings(), metadata.schema, metadata.csv)

    def frame(self, *, exact: bool = False) -> Any:
        """Return the readings as a pandas DataFrame with a UTC time index.

        Args:
            exact: ``Decimal`` values instead of integers and floats.
        """
        return self.table().frame(exact=exact)

    def read(self) -> bytes:
        """Return the file that was bought.

        Raises:
            InputError: Readings were bought.
        """
        with Bundle.open_own(self.bundle) as bundle:
            return unseal_bytes(bundle, self._key)

    def write(self, path: str | Path, *, progress: Callable[[int, int], None] | None = None) -> Path:
        """Write what was bought, whole or not at all: a file as it was, readings as ``.csv`` or ``.parquet``.

        Args:
            path: The file; for a blob also a folder, which gets the file under its own name.
            progress: Told now and then how many leaves of a file are written, and how many there are.
        """
        target = Path(path).expanduser()
        if self.is_blob:
            if target.is_dir():
                target = target / (self.metadata.filename or f"{self.order_id}.bin")
            with Bundle.open_own(self.bundle) as bundle:
                unseal_file(bundle, self._key, target, progress)
        else:
            self.table().write(target)
        return target
