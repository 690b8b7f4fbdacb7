"""What a reference names: an id, an offer file, or what ``sell`` and ``search`` returned, all become one target.

Example:
    >>> is_id("0x" + "11" * 32), is_id("offer.json")
    (True, False)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import InputError
from pyiot_evm.market.buyer import Target
from pyiot_evm.market.catalog import CatalogEntry
from pyiot_evm.market.offer_file import read_offer_file
from pyiot_evm.market.offers import offer_id, resale_id
from pyiot_evm.market.results import Listing
from pyiot_evm.types import SaleId

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiot_evm.chain import Chain
    from pyiot_evm.contracts.data_market import DataMarket
    from pyiot_evm.market.scan import Catalog

__all__ = ["Reference", "Resolver", "is_id"]

Reference = SaleId | str | Path | Listing | CatalogEntry
"""What names a sale: its id (bytes or hex), an offer file, or what ``sell`` or ``search`` returned."""


class Resolver:
    """Finds out what references name on one chain.

    Args:
        chain: The chain.
        contract: The market's binding.
        catalog: Gives the catalog, which is opened only when an id has to be looked up.
    """

    def __init__(self, chain: Chain, *, contract: DataMarket, catalog: Callable[[], Catalog]) -> None:
        self._chain = chain
        self._contract = contract
        self._catalog = catalog

    def target(self, reference: Reference) -> Target:
        """Return what a reference names.

        Raises:
            InputError: There is no such sale, or the offer file is of another chain.
            VerificationError: It is not an offer file.
        """
        if isinstance(reference, Listing):
            reference = reference.file or reference.sale_id
        if isinstance(reference, CatalogEntry):
            return _target_of_entry(reference)
        if isinstance(reference, bytes) or is_id(reference):
            return _target_of_entry(self.entry(SaleId(str(reference))))
        return self._target_of_file(Path(reference))

    def entry(self, sale: SaleId | str) -> CatalogEntry:
        """Return one listed sale.

        Raises:
            InputError: Nothing with this id is listed on this chain.
        """
        sale_id = SaleId(sale)
        entry = self._catalog().get(sale_id)
        if entry is None:
            raise InputError(
                f"no sale {sale_id} is listed on network {self._chain.network}",
                hint="a private sale is bought by its offer file",
            )
        return entry

    def _target_of_file(self, path: Path) -> Target:
        file = read_offer_file(path)
        if (file.chain_id, file.market) != (self._chain.chain_id, self._contract.address):
            raise InputError(f"{path} is an offer on chain {file.chain_id}, market {file.market}, not on this one")
        if file.resale is None:
            sale_id: SaleId = offer_id(file.offer, chain_id=file.chain_id, market=file.market)
        else:
            sale_id = resale_id(file.resale, chain_id=file.chain_id, market=file.market)
        block = min(file.block, self._chain.block_number())  # a later one would hide the reveal from the buyer
        return Target(sale_id, file.offer, file.resale, file.signature, file.uri, block)


def _target_of_entry(entry: CatalogEntry) -> Target:
    return Target(entry.sale_id, entry.offer, entry.resale, b"", entry.uri, entry.first_block, entry)


def is_id(reference: str | Path) -> bool:
    """Return whether a text is an id and not a path."""
    text = str(reference).removeprefix("0x")
    return len(text) == 2 * SaleId.LENGTH and all(digit in "0123456789abcdefABCDEF" for digit in text)
