"""What a buyer looks at: the bundle before the payment, every leaf after the reveal.

Before paying, the bundle is fetched under a policy, copied to this machine's disk, and checked in full; the listing's
summary is held against the metadata that the offer commits to, so that a false title or a false device is found before
it costs anything. After the reveal the same copy is opened leaf by leaf, whatever the seller's file has become.

Example:
    >>> Verdict(rows=3, fraud=None, disclosure=None).fraud is None
    True
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import VerificationError
from pyiot_evm.market.bundle import Bundle
from pyiot_evm.market.catalog import clean_text
from pyiot_evm.market.offers import offer_id
from pyiot_evm.market.packing import Place
from pyiot_evm.market.rules import SignedReadingRule
from pyiot_evm.market.verification import PurchasePolicy, check_bundle, disclose, find_fraud, rule_of
from pyiot_evm.types import DeviceId

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiot_evm.chain import Chain
    from pyiot_evm.contracts.data_market import Disclosure
    from pyiot_evm.market.buyer import Target
    from pyiot_evm.market.fetch import FetchPolicy
    from pyiot_evm.market.key_release import ContentKey
    from pyiot_evm.market.metadata import Metadata
    from pyiot_evm.market.offers import Offer
    from pyiot_evm.market.rules import Fraud, LeafRule
    from pyiot_evm.types import SaleId

__all__ = ["Inspection", "Inspector", "Verdict"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A bundle that can only be good, or be disputed.

    Attributes:
        rows: Readings, or chunks of a blob.
        device: Whose readings they are; zero for a blob.
        bundle: Where this machine keeps its copy.
    """

    sale_id: SaleId
    kind: str
    rows: int
    device: DeviceId
    metadata: Metadata
    bundle: Path


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the leaves turned out to be.

    Attributes:
        fraud: The first leaf that breaks the promise, and how.
        disclosure: What a dispute has to show of it.
    """

    rows: int
    fraud: Fraud | None
    disclosure: Disclosure | None


class Inspector:
    """Fetches bundles and checks them.

    Args:
        chain: The chain of the offers.
        folder: Where fetched bundles are kept.
        fetching: What may be fetched.
        policy: Which offers are taken.
        is_signer_at: Asks the registry whether a signer was a device's at a time (Unix seconds).
        progress: Told now and then what is being done, how many leaves of it are done, and how many there are.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        folder: Path,
        fetching: FetchPolicy,
        policy: PurchasePolicy | None = None,
        is_signer_at: Callable[[bytes, bytes, int], bool] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._chain = chain
        self._folder = folder
        self._fetching = fetching
        self._policy = policy or PurchasePolicy()
        self._is_signer_at = is_signer_at or self._ask_registry
        self._progress = progress

    def check(self, target: Target) -> Inspection:
        """Fetch a sale's bundle and check everything that can be known before paying.

        Raises:
            InputError: The fetching policy does not allow the address.
            TransportError: The bundle cannot be fetched.
            VerificationError: Something does not hold; nothing should be paid.
        """
        place = self._place
        copy = self._folder / f"{offer_id(target.offer, chain_id=place.chain_id, market=place.market)}.pyiot"
        if copy.exists():
            return self._check_copy(target, copy, copy)
        part = copy.with_name(f".{copy.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            Bundle.fetch(target.uri, self._fetching, into=part)
            inspection = self._check_copy(target, part, copy)
            part.replace(copy)
        finally:
            part.unlink(missing_ok=True)
        return inspection

    def check_file(self, url: str | Path) -> Inspection:
        """Check a bundle by itself, of the offer that it names, whether that is listed or not.

        Args:
            url: A path of this machine's own, or the address of somebody else's bundle.

        Raises:
            InputError: The fetching policy does not allow the address.
            TransportError: The bundle cannot be fetched.
            VerificationError: Something does not hold.
        """
        opened = Bundle.open_own(url) if isinstance(url, Path) else Bundle.open(url, self._fetching)
        with opened as bundle:
            device = self._check(bundle, bundle.offer)
            return Inspection(bundle.offer_id, bundle.header.kind, len(bundle), device, bundle.metadata, Path(url))

    def _check_copy(self, target: Target, path: Path, final: Path) -> Inspection:
        with Bundle.open_own(path) as bundle:
            device = self._check(bundle, target.offer)
            _check_listing(target, bundle, device)
            return Inspection(target.sale_id, bundle.header.kind, len(bundle), device, bundle.metadata, final)

    def _check(self, bundle: Bundle, offer: Offer) -> DeviceId:
        rule = check_bundle(
            bundle,
            offer,
            self._place,
            rules=self._rules,
            is_signer_at=self._is_signer_at,
            policy=self._policy,
            progress=self._told("checking the bundle"),
        )
        return DeviceId(rule.params.device) if isinstance(rule, SignedReadingRule) else DeviceId(bytes(32))

    def fetch(self, target: Target) -> Path:
        """Check a sale's bundle and return where this machine's copy lies."""
        return self.check(target).bundle

    def judge(self, target: Target, path: str, key: ContentKey) -> Verdict:
        """Open every leaf of the copy that was checked before the payment.

        Raises:
            VerificationError: The copy was changed since.
        """
        with Bundle.open_own(Path(path)) as bundle:
            fraud = find_fraud(bundle, key, self._rule(target, bundle), self._told("checking every leaf"))
            disclosure = None if fraud is None else disclose(bundle, key, fraud.index)
            return Verdict(len(bundle), fraud, disclosure)

    def _rule(self, target: Target, bundle: Bundle) -> LeafRule | None:
        return rule_of(target.offer, bundle.rule_params, self._rules)

    def _told(self, task: str) -> Callable[[int, int], None] | None:
        return None if self._progress is None else partial(self._progress, task)

    @property
    def _place(self) -> Place:
        return Place(self._chain.chain_id, self._chain.addresses.data_market)

    @property
    def _rules(self) -> dict[bytes, Callable[[bytes], LeafRule]]:
        return {bytes(self._chain.addresses.signed_reading_rule): SignedReadingRule.from_params}

    def _ask_registry(self, device: bytes, signer: bytes, time: int) -> bool:
        from pyiot_evm.contracts.device_registry import DeviceRegistry  # noqa: PLC0415 - slow to import

        registry = DeviceRegistry(self._chain.addresses.device_registry)
        return bool(self._chain.call(registry.is_signer_at(DeviceId(device), signer, time)))


def _check_listing(target: Target, bundle: Bundle, device: DeviceId) -> None:
    """Hold what the listing says against what the offer commits to."""
    if target.listed is None:
        return
    listed, metadata = target.listed, bundle.metadata
    said = (listed.title, listed.device, listed.rows, listed.first_time, listed.last_time)
    meant = (clean_text(metadata.title), device, len(bundle), metadata.first_time, metadata.last_time)
    for name, told, true in zip(("title", "device", "rows", "first time", "last time"), said, meant, strict=True):
        if told != true:
            raise VerificationError(
                f"the listing of {target.sale_id} says {name} {str(told)!r:.80}, its bundle {str(true)!r:.80}",
                hint="whoever listed it did not tell the truth",
            )
