"""What is signed and what names it: the EIP-712 ids of offers, resales and orders, and the listing's summary.

The id of an offer or a resale is its EIP-712 digest in the market's domain, so that one id means one sale on one chain
in one contract, and the seller's signature over it makes a private sale. Offer and Resale are the
structs of the generated binding.

Example:
    >>> market = bytes.fromhex("11" * 20)
    >>> offer = blank_offer(seller=bytes(20), token=bytes(20), price=500_000)
    >>> offer_id(offer, chain_id=31337, market=market) == offer_id(offer, chain_id=1, market=market)
    False
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pyiot_evm.contracts.data_market import Offer, Resale
from pyiot_evm.device.typed import address_word, domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import ZERO_ADDRESS, Address, Bytes32, DeviceId, OfferId, OrderId, ResaleId, SaleId

if TYPE_CHECKING:
    from pyiot_evm.market.key_release import Point

__all__ = [
    "DEFAULT_DISPUTE_WINDOW",
    "DEFAULT_REVEAL_WINDOW",
    "MAX_SUMMARY_BYTES",
    "Offer",
    "Resale",
    "Summary",
    "blank_offer",
    "offer_digest",
    "offer_id",
    "order_id",
    "resale_digest",
    "resale_id",
]

OFFER_TYPE = (
    "Offer(address seller,address token,uint128 price,uint128 bond,bytes32 sealedRoot,uint32 leafCount,"
    "uint256 keyX,uint256 keyY,address rule,bytes32 ruleParamsHash,uint32 supply,uint16 royaltyBps,"
    "address audience,uint32 revealWindow,uint32 disputeWindow,uint40 expiry,bytes32 terms,uint256 salt)"
)
RESALE_TYPE = "Resale(bytes32 offerId,address holder,address token,uint128 price,uint40 expiry,uint256 salt)"
DEFAULT_REVEAL_WINDOW = 30 * 60
DEFAULT_DISPUTE_WINDOW = 60 * 60
MAX_SUMMARY_BYTES = 1024
NEVER = (1 << 40) - 1

_OFFER_TYPE_HASH = type_hash(OFFER_TYPE)
_RESALE_TYPE_HASH = type_hash(RESALE_TYPE)
_SUMMARY_TYPES = ("bytes32", "uint64", "uint64", "uint32", "string", "string[]")


def blank_offer(
    *,
    seller: bytes,
    token: bytes,
    price: int,
    bond: int = 0,
    supply: int = 0,
    royalty_bps: int = 0,
    audience: bytes = ZERO_ADDRESS,
    reveal_window: int = DEFAULT_REVEAL_WINDOW,
    dispute_window: int = DEFAULT_DISPUTE_WINDOW,
    expiry: int = NEVER,
    salt: int | None = None,
) -> Offer:
    """Return an offer whose commercial terms stand and whose sealed fields are still zero; sealing fills those in.

    Args:
        seller: Who sells, 20 bytes.
        token: The ERC-20 that it is paid in, 20 bytes.
        price: In base units of ``token``.
        bond: What the seller loses to the buyer in a lost dispute, in base units.
        supply: The number of copies; 0 for no limit.
        royalty_bps: The first seller's part of a resale, in basis points.
        audience: The only account that may buy; zero for anyone.
        reveal_window: Seconds from the order to the last reveal.
        dispute_window: Seconds from the reveal to the last dispute.
        expiry: Unix seconds of the last order.
        salt: Makes two equal offers differ; drawn at random when left out.
    """
    return Offer(
        seller=Address(seller),
        token=Address(token),
        price=price,
        bond=bond,
        sealed_root=Bytes32(bytes(32)),
        leaf_count=0,
        key_x=0,
        key_y=0,
        rule=ZERO_ADDRESS,
        rule_params_hash=Bytes32(bytes(32)),
        supply=supply,
        royalty_bps=royalty_bps,
        audience=Address(audience),
        reveal_window=reveal_window,
        dispute_window=dispute_window,
        expiry=expiry,
        terms=Bytes32(bytes(32)),
        salt=secrets.randbits(256) if salt is None else salt,
    )


def offer_struct_hash(offer: Offer) -> bytes:
    """Return EIP-712's ``hashStruct`` of an offer.

    Raises:
        InputError: A field does not fit its Solidity type.
    """
    return struct_hash(
        _OFFER_TYPE_HASH,
        address_word(offer.seller),
        address_word(offer.token),
        word(offer.price, bits=128),
        word(offer.bond, bits=128),
        _bytes32(offer.sealed_root),
        word(offer.leaf_count, bits=32),
        word(offer.key_x),
        word(offer.key_y),
        address_word(offer.rule),
        _bytes32(offer.rule_params_hash),
        word(offer.supply, bits=32),
        word(offer.royalty_bps, bits=16),
        address_word(offer.audience),
        word(offer.reveal_window, bits=32),
        word(offer.dispute_window, bits=32),
        word(offer.expiry, bits=40),
        _bytes32(offer.terms),
        word(offer.salt),
    )


def resale_struct_hash(resale: Resale) -> bytes:
    """Return EIP-712's ``hashStruct`` of a resale.

    Raises:
        InputError: A field does not fit its Solidity type.
    """
    return struct_hash(
        _RESALE_TYPE_HASH,
        _bytes32(resale.offer_id),
        address_word(resale.holder),
        address_word(resale.token),
        word(resale.price, bits=128),
        word(resale.expiry, bits=40),
        word(resale.salt),
    )


@lru_cache(maxsize=64)
def market_domain(chain_id: int, market: bytes) -> bytes:
    """Return the separator of a market's EIP-712 domain."""
    return domain_separator("pyiot DataMarket", "1", chain_id=chain_id, contract=market)


def offer_id(offer: Offer, *, chain_id: int, market: bytes) -> OfferId:
    """Return the id of an offer: the digest that its seller signs for a private sale."""
    return OfferId(typed_digest(market_domain(chain_id, bytes(market)), offer_struct_hash(offer)))


def resale_id(resale: Resale, *, chain_id: int, market: bytes) -> ResaleId:
    """Return the id of a resale: the digest that its holder signs for a private resale."""
    return ResaleId(typed_digest(market_domain(chain_id, bytes(market)), resale_struct_hash(resale)))


offer_digest = offer_id
resale_digest = resale_id


def order_id(sale_id: SaleId, *, buyer: bytes, mask: bytes, ephemeral: Point) -> OrderId:
    """Return ``keccak256(abi.encode(saleId, buyer, mask, E.x, E.y))``: an order's id and its payment's nonce.

    Args:
        sale_id: The id of the offer or the resale.
        buyer: Who pays, 20 bytes.
        mask: The address of ``mG``, 20 bytes.
        ephemeral: ``E``.
    """
    words = (bytes(sale_id), address_word(buyer), address_word(mask), word(ephemeral[0]), word(ephemeral[1]))
    return OrderId(keccak256(b"".join(words)))


@dataclass(frozen=True, slots=True)
class Summary:
    """What a listing says in its event, so that logs alone can be searched; written by the seller and not proved.

    Args:
        device: The device whose readings are sold; zero for a blob.
        first_time: The earliest reading, Unix milliseconds.
        last_time: The latest reading, Unix milliseconds.
        rows: How many rows the data set has; 0 where rows mean nothing.
        title: One line.
        tags: Words to find it by.
    """

    device: DeviceId
    first_time: int
    last_time: int
    rows: int
    title: str
    tags: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the ABI encoding.

        Raises:
            InputError: It is longer than the contract takes, or a number does not fit.
        """
        from eth_abi.abi import encode  # noqa: PLC0415
        from eth_abi.exceptions import EncodingError  # noqa: PLC0415

        if not _is_printable(self):
            raise InputError("a title or a tag has characters that cannot be printed")
        values = (bytes(self.device), self.first_time, self.last_time, self.rows, self.title, list(self.tags))
        try:
            encoded: bytes = encode(_SUMMARY_TYPES, values)
        except (EncodingError, UnicodeEncodeError) as error:
            raise InputError(f"the summary cannot be encoded: {error}") from error
        if len(encoded) > MAX_SUMMARY_BYTES:
            raise InputError(
                f"the summary has {len(encoded)} bytes, more than {MAX_SUMMARY_BYTES}",
                hint="shorten the title or give fewer tags",
            )
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> Summary:
        """Read a summary that anybody may have written; its texts may hold anything.

        Raises:
            VerificationError: It is no summary, or longer than the contract takes.
        """
        from eth_abi.abi import decode  # noqa: PLC0415
        from eth_abi.exceptions import DecodingError  # noqa: PLC0415

        if len(data) > MAX_SUMMARY_BYTES:
            raise VerificationError(f"the summary has {len(data)} bytes, more than {MAX_SUMMARY_BYTES}")
        try:
            device, first, last, rows, title, tags = decode(_SUMMARY_TYPES, data)
        except (DecodingError, ValueError, OverflowError) as error:
            raise VerificationError(f"the summary cannot be read: {error}") from error
        summary = cls(DeviceId(device), first, last, rows, title, tuple(tags))
        if sum(len(text) for text in (title, *tags)) > MAX_SUMMARY_BYTES:
            raise VerificationError("the summary's texts are longer than the summary")
        return summary


def _is_printable(summary: Summary) -> bool:
    """Return whether the texts can be shown on a terminal as they are: no escape codes, no line breaks."""
    return all(text.isprintable() for text in (summary.title, *summary.tags))


def _bytes32(value: bytes) -> bytes:
    if len(value) != 32:  # noqa: PLR2004
        raise InputError(f"a bytes32 field has {len(value)} bytes")
    return bytes(value)
