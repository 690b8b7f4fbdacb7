"""What a machine has on sale at the market, for its gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm.machine import Machine
    from pyiot_evm.market.results import Listing

__all__ = ["OfferSource"]


class OfferSource:
    """The machine's public listings.

    Args:
        machine: The machine.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def documents(self) -> list[dict[str, Any]]:
        """Return the listings that stand."""
        return [
            {
                "id": str(found.sale_id),
                "title": found.title,
                "rows": found.rows,
                "price": str(found.price),
                "token": str(found.token),
                "seller": str(found.seller),
                "bundle": f"/v1/offers/{found.sale_id}/bundle",
            }
            for found in self._listed()
        ]

    def bundle(self, offer: str) -> Path | None:
        """Return the bundle of a listing on this disk, ``None`` where there is none."""
        for found in self._listed():
            if str(found.sale_id) == offer.lower() and found.bundle.is_file():
                return found.bundle
        return None

    def _listed(self) -> list[Listing]:
        return [found for found in self._machine.listings() if found.state == "listed"]
