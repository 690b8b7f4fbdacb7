"""Counterparties that lie, stall, forge and replay, for tests of what one's own machines do about them.

They use the same keys and the same chain as honest machines, and leave out exactly the checks that would stop them.
The ``hostile`` fixture of :mod:`pyiot_evm.testing` hands out a :class:`Hostile`.

Example:
    >>> from pyiot_evm.hostile import LIES
    >>> sorted(LIES)
    ['ciphertext', 'duplicate', 'foreign', 'gap', 'range', 'time', 'value']
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pyiot_evm.device.reading import Reading
from pyiot_evm.device.signers import LocalSigner
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.bundle import Bundle
from pyiot_evm.market.key_release import Ephemeral, Sale, mask_of
from pyiot_evm.market.offers import Summary, order_id
from pyiot_evm.market.packing import seal_readings
from pyiot_evm.market.publishing import SaleTerms, Sealed
from pyiot_evm.market.recording import record_table
from pyiot_evm.market.rules import RuleParams
from pyiot_evm.market.sealing import sealed_leaf
from pyiot_evm.market.sources import TableSource, summary_of
from pyiot_evm.merkle import root_of
from pyiot_evm.types import Address, Bytes32, OrderId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyiot_evm.device.signers import Signer
    from pyiot_evm.machine import Machine
    from pyiot_evm.market.buyer import Target
    from pyiot_evm.market.key_release import ContentKey
    from pyiot_evm.market.offers import Offer
    from pyiot_evm.market.results import Listing

__all__ = ["LIES", "Hostile"]


def _resigned(reading: Reading, signer: Signer, **changes: Any) -> Reading:
    """Sign a reading anew with other facts: a device whose owner lies."""
    facts: dict[str, Any] = {"seq": reading.seq, "time": reading.time, "values": reading.values} | changes
    kept: dict[str, Any] = {name: getattr(reading, name) for name in ("schema", "device", "salt", "prev")}
    return Reading.sign(signer, **kept, **facts)


LIES: dict[str, Callable[[Reading, Signer], Reading]] = {
    "value": lambda reading, _: replace(reading, values=(reading.values[0] + 1, *reading.values[1:])),
    "foreign": lambda reading, signer: _resigned(reading, LocalSigner.create(signer.curve)),
    "gap": lambda reading, signer: _resigned(reading, signer, seq=reading.seq + 1),
    "duplicate": lambda reading, signer: _resigned(reading, signer, seq=max(reading.seq - 1, 0)),
    "time": lambda reading, signer: _resigned(reading, signer, time=reading.time + 10**12),
    "range": lambda reading, signer: _resigned(reading, signer, values=(10**9, *reading.values[1:])),
    "ciphertext": lambda reading, _: reading,
}
"""What a seller can do to one leaf. ``ciphertext``: it does not decrypt to its hash; the others break the rule."""


@dataclass(frozen=True, slots=True)
class _ForgedSource:
    """A table of which one leaf lies; the seller's own check is left out."""

    honest: TableSource
    index: int
    lie: str

    @property
    def content(self) -> Bytes32:
        return Bytes32(keccak256(bytes(self.honest.content) + f"{self.lie} {self.index}".encode()))

    def seal(self, key: ContentKey, offer: Offer, terms: SaleTerms, path: Path) -> Sealed:
        source = self.honest
        readings = record_table(
            source.journals, source.table, device=source.device, signer=source.signer, content=source.content
        )
        params = RuleParams.of(readings, source.signer.signer_bytes)
        readings[self.index] = LIES[self.lie](readings[self.index], source.signer)
        metadata = source.table.metadata(title=terms.title, tags=terms.tags)
        draft = replace(offer, rule=source.rule, rule_params_hash=Bytes32(keccak256(params.encode())))
        whole = seal_readings(
            [reading.leaf() for reading in readings],
            path,
            key=key,
            draft=draft,
            rule_params=params.encode(),
            metadata=metadata,
            place=source.place,
        )
        if self.lie == "ciphertext":
            whole = spoil_leaf(path, self.index)
        return Sealed(whole, summary_of(metadata, source.device, len(readings)), len(readings))


def spoil_leaf(path: Path, index: int) -> Offer:
    """Turn one leaf's ciphertext into garbage and make root and offer fit it again."""
    with Bundle.open_own(path) as bundle:
        records = list(bundle.records())
        leaf_hash, sealed = records[index]
        records[index] = (leaf_hash, bytes(byte ^ 0xFF for byte in sealed))
        root = root_of(sealed_leaf(place, text, digest) for place, (digest, text) in enumerate(records))
        header = replace(bundle.header, offer=replace(bundle.offer, sealed_root=Bytes32(root)))
    path.write_bytes(header.encode() + b"".join(digest + text for digest, text in records))
    return header.offer


class Hostile:
    """What a cheating machine does."""

    def sell_forged(
        self, machine: Machine, data: Any, *, price: str, lie: str = "value", index: int = 0, **terms: Any
    ) -> Listing:
        """List a table of which one leaf lies (see :data:`LIES`), and answer its orders like an honest seller.

        Args:
            machine: The seller.
            data: A table, as for :meth:`Machine.sell`.
            price: Whole tokens.
            lie: What is wrong with the leaf.
            index: Which leaf.
            **terms: As for :meth:`Machine.sell`.
        """
        if lie not in LIES:
            raise InputError(f"no such lie: {lie}", hint=", ".join(sorted(LIES)))
        original = machine.source

        def forged(*arguments: Any, **named: Any) -> Any:
            source = original(*arguments, **named)
            if not isinstance(source, TableSource):
                raise InputError("only a table can be forged")
            return _ForgedSource(source, index, lie)

        machine.source = forged  # type: ignore[method-assign]
        try:
            return machine.sell(data, price=price, **terms)
        finally:
            del machine.source

    def list_falsely(self, machine: Machine, listing: Listing, **lies: Any) -> None:
        """List an offer again with a summary that is not true, or at another address (``uri=``)."""
        sale = machine.market.journal.sale(listing.sale_id)
        if sale is None:
            raise InputError("the machine does not sell this")
        uri = lies.pop("uri", sale.uri)
        summary = replace(Summary.decode(sale.summary), **lies)
        call = machine.market.contract.list(listing.offer, uri, summary.encode())
        machine.market.trader.account.transact(call)

    def order_with_bad_mask(self, machine: Machine, listing: Listing) -> OrderId:
        """Pay for a copy with a mask that does not fit the one-time point: no reveal could be of use."""
        return self._order(machine, listing, Ephemeral.create().point, mask=Address(bytes(19) + b"\x01"))

    def order_off_curve(self, machine: Machine, listing: Listing) -> OrderId:
        """Pay with a point that is not on the curve, to draw the content key out of the seller's answer."""
        return self._order(machine, listing, (5, 1), mask=Address(bytes(19) + b"\x02"))

    def replay_key(self, broker: Machine, victim: Machine, bought: OrderId, listing: Listing) -> OrderId:
        """Order with a victim's point and mask, hoping to reveal with the victim's κ' without knowing κ."""
        order = victim.market.journal.purchase(bought)
        if order is None:
            raise InputError("the victim has no such order")
        return self._order(broker, listing, (order.ephemeral_x, order.ephemeral_y), mask=order.mask)

    def honest_mask(self, machine: Machine, target: Target, ephemeral: Ephemeral) -> Address:
        """Return the mask that would fit."""
        trader = machine.market.trader
        whom = Sale(trader.chain.chain_id, trader.contract.address, target.sale_id, machine.address)
        return mask_of(whom, (target.offer.key_x, target.offer.key_y), ephemeral)

    def _order(self, machine: Machine, listing: Listing, point: tuple[int, int], *, mask: Address) -> OrderId:
        from pyiot_evm.contracts.erc20 import Erc20  # noqa: PLC0415 - slow to import

        trader = machine.market.trader
        account, contract = trader.account, trader.contract
        account.transact(Erc20(listing.token).approve(contract.address, listing.price))
        account.transact(contract.buy(listing.offer, b"", mask, *point))
        return order_id(listing.sale_id, buyer=machine.address, mask=mask, ephemeral=point)
