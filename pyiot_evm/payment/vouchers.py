"""Vouchers: what is signed about a payment channel, encoded by hand.

A channel is its config; its id is the config's EIP-712 digest in the domain of the contract that holds its money. A
voucher is the payer's word for the sum of all payments so far, so the latest one is worth all the earlier ones. A
locked voucher can only be claimed by publishing the preimage of its lock.

Example:
    >>> from pyiot_evm.device import LocalSigner
    >>> domain = ChannelDomain(31337, Address("0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"))
    >>> payer, payee = LocalSigner.create(), Address("0x" + "22" * 20)
    >>> config = channel_config(payer, payee, token=Address("0x" + "33" * 20))
    >>> voucher = sign_voucher(payer, domain, config, 1000)
    >>> voucher.ceiling, voucher.is_signed(), SignedVoucher.decode(voucher.encode()) == voucher
    (1000, True, True)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

from pyiot_evm.contracts.payment_channels import ChannelConfig, Voucher, VoucherClaim
from pyiot_evm.device import verify_signature
from pyiot_evm.device.typed import address_word, domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import ZERO_ADDRESS, Address, Bytes32

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyiot_evm.device import Signer

__all__ = [
    "MAX_WITHDRAW_DELAY",
    "MIN_WITHDRAW_DELAY",
    "ChannelDomain",
    "ChannelId",
    "SignedVoucher",
    "authorizer_of",
    "channel_config",
    "config_fields",
    "config_of",
    "is_p256_field",
    "is_signed_by_authorizer",
    "is_signed_by_payer",
    "sign_voucher",
    "signature_field",
]

MIN_WITHDRAW_DELAY: Final = 15 * 60
MAX_WITHDRAW_DELAY: Final = 30 * 24 * 3600
_DOMAIN_NAME: Final = "x402 Batch Settlement"
_CONFIG: Final = type_hash(
    "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,"
    "address token,uint40 withdrawDelay,bytes32 salt)"
)
_VOUCHER: Final = type_hash("Voucher(bytes32 channelId,uint128 maxClaimableAmount)")
_LOCKED: Final = type_hash("LockedVoucher(bytes32 channelId,uint128 maxClaimableAmount,bytes32 lock)")
_REFUND: Final = type_hash("Refund(bytes32 channelId,uint256 nonce,uint128 amount)")
_ENTRY: Final = type_hash("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)")
_BATCH: Final = type_hash(
    "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
)
_UINT128: Final = 128
_SIGNER_LENGTH: Final = 84
_P256_FIELD: Final = _SIGNER_LENGTH + 64
_ECDSA_FIELD: Final = 65
_MAX_TEXT: Final = 4096


class ChannelId(Bytes32):
    """The EIP-712 digest of a channel's config."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ChannelDomain:
    """Where vouchers are good: one contract on one chain."""

    chain_id: int
    contract: Address

    @property
    def separator(self) -> bytes:
        """The EIP-712 domain separator."""
        return _separator(self.chain_id, self.contract)

    def channel_id(self, config: ChannelConfig) -> ChannelId:
        """Return the id of a channel."""
        return _channel_id(self.chain_id, self.contract, config)

    def voucher_digest(self, channel: bytes, ceiling: int) -> bytes:
        """Return the digest that the payer signs for a voucher."""
        return typed_digest(self.separator, struct_hash(_VOUCHER, channel, word(ceiling, bits=_UINT128)))

    def locked_voucher_digest(self, channel: bytes, ceiling: int, lock: bytes) -> bytes:
        """Return the digest that the payer signs for a locked voucher."""
        return typed_digest(self.separator, struct_hash(_LOCKED, channel, word(ceiling, bits=_UINT128), Bytes32(lock)))

    def refund_digest(self, channel: bytes, nonce: int, amount: int) -> bytes:
        """Return the digest that the receiver's authorizer signs for a refund."""
        return typed_digest(self.separator, struct_hash(_REFUND, channel, word(nonce), word(amount, bits=_UINT128)))

    def claim_batch_digest(self, entries: Iterable[tuple[bytes, int, int]]) -> bytes:
        """Return the digest that the receiver's authorizer signs for claims: (channel, ceiling, total claimed) each."""
        hashes = [
            struct_hash(_ENTRY, channel, word(ceiling, bits=_UINT128), word(total, bits=_UINT128))
            for channel, ceiling, total in entries
        ]
        return typed_digest(self.separator, struct_hash(_BATCH, keccak256(b"".join(hashes))))


@lru_cache(maxsize=64)
def _separator(chain_id: int, contract: Address) -> bytes:
    return domain_separator(_DOMAIN_NAME, "1", chain_id=chain_id, contract=contract)


@lru_cache(maxsize=4096)
def _channel_id(chain_id: int, contract: Address, config: ChannelConfig) -> ChannelId:
    parties = (config.payer, config.payer_authorizer, config.receiver, config.receiver_authorizer, config.token)
    words = [*map(address_word, parties), word(config.withdraw_delay, bits=40), Bytes32(config.salt)]
    return ChannelId(typed_digest(_separator(chain_id, contract), struct_hash(_CONFIG, *words)))


@dataclass(frozen=True, slots=True)
class SignedVoucher:
    """A voucher on its way from payer to payee; it names its channel whole.

    Attributes:
        domain: Where it is good.
        config: The channel.
        ceiling: The sum of all payments so far, base units.
        signature: The payer's side's: 65 bytes, or 148 for P-256.
        lock: keccak256 of the 32 bytes whose publication is the price of claiming it; empty for a plain voucher.
    """

    domain: ChannelDomain
    config: ChannelConfig
    ceiling: int
    signature: bytes
    lock: bytes = b""

    @property
    def channel_id(self) -> ChannelId:
        """The channel's id."""
        return self.domain.channel_id(self.config)

    @property
    def digest(self) -> bytes:
        """What the payer signed."""
        if self.lock:
            return self.domain.locked_voucher_digest(self.channel_id, self.ceiling, self.lock)
        return self.domain.voucher_digest(self.channel_id, self.ceiling)

    def is_signed(self) -> bool:
        """Whether the payer's side signed it. A contract wallet's signature counts as none here."""
        return is_signed_by_payer(self.config, self.digest, self.signature)

    def claim(self, total: int | None = None) -> VoucherClaim:
        """Return the row that claims it, up to ``total`` or whole."""
        row = Voucher(self.config, self.ceiling)
        return VoucherClaim(row, self.signature, self.ceiling if total is None else total)

    def encode(self) -> str:
        """Return it as JSON, to hand to the payee."""
        fields: dict[str, Any] = {
            "chainId": self.domain.chain_id,
            "contract": str(self.domain.contract),
            "channel": config_fields(self.config),
            "maxClaimableAmount": str(self.ceiling),
            "signature": "0x" + self.signature.hex(),
        }
        if self.lock:
            fields["lock"] = "0x" + self.lock.hex()
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a voucher that somebody handed in; its signature is not looked at.

        Raises:
            InputError: Not a voucher.
        """
        if len(text) > _MAX_TEXT:
            raise InputError(f"a voucher has at most {_MAX_TEXT} characters, not {len(text)}")
        try:
            return cls._of(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise InputError("not a voucher") from error

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> Self:
        ceiling = _amount(fields["maxClaimableAmount"])
        domain = ChannelDomain(int(fields["chainId"]), Address(fields["contract"]))
        config = config_of(fields["channel"])
        lock = bytes(Bytes32(fields["lock"])) if "lock" in fields else b""
        return cls(domain, config, ceiling, bytes.fromhex(fields["signature"].removeprefix("0x")), lock)


def config_fields(config: ChannelConfig) -> dict[str, Any]:
    """Return a channel's config as x402 writes it."""
    return {
        "payer": str(config.payer),
        "payerAuthorizer": str(config.payer_authorizer),
        "receiver": str(config.receiver),
        "receiverAuthorizer": str(config.receiver_authorizer),
        "token": str(config.token),
        "withdrawDelay": config.withdraw_delay,
        "salt": str(config.salt),
    }


def config_of(fields: dict[str, Any]) -> ChannelConfig:
    """Read a channel's config as x402 writes it.

    Raises:
        InputError: A field is no address or does not fit its type.
        KeyError: A field is missing.
    """
    try:
        delay = int(fields["withdrawDelay"])
    except OverflowError as error:  # 1e999 in JSON
        raise InputError("withdrawDelay is infinite") from error
    word(delay, bits=40)
    return ChannelConfig(
        payer=Address(fields["payer"]),
        payer_authorizer=Address(fields["payerAuthorizer"]),
        receiver=Address(fields["receiver"]),
        receiver_authorizer=Address(fields["receiverAuthorizer"]),
        token=Address(fields["token"]),
        withdraw_delay=delay,
        salt=Bytes32(fields["salt"]),
    )


def authorizer_of(signer: Signer) -> Address:
    """Return the address that stands for a key as a channel's payer's authorizer: of a P-256 key, its hash."""
    if signer.curve == "secp256k1":
        return Address(signer.signer_bytes)
    return Address(keccak256(signer.signer_bytes)[:20])


def channel_config(
    signer: Signer,
    payee: Address,
    *,
    token: Address,
    payer: Address | None = None,
    payee_authorizer: Address | None = None,
    withdraw_delay: int = MIN_WITHDRAW_DELAY,
    salt: bytes = bytes(32),
) -> ChannelConfig:
    """Return the terms of a channel.

    Args:
        signer: The key that signs vouchers.
        payee: Who is paid.
        token: The ERC-20 token.
        payer: Whose money it is; the signer's account when left out.
        payee_authorizer: Who claims for the payee; the payee when left out.
        withdraw_delay: Seconds that the payee has to claim after a withdrawal was announced.
        salt: Makes a second channel with equal terms another one.

    Raises:
        InputError: The delay is out of the contract's range, or a P-256 key is to pay without an account.
    """
    if not MIN_WITHDRAW_DELAY <= withdraw_delay <= MAX_WITHDRAW_DELAY:
        raise InputError(f"a channel's withdraw delay is {MIN_WITHDRAW_DELAY} to {MAX_WITHDRAW_DELAY} s")
    if payer is None and signer.curve != "secp256k1":
        raise InputError("a P-256 key has no account", hint="name the payer whose money it spends")
    return ChannelConfig(
        payer=Address(signer.signer_bytes) if payer is None else payer,
        payer_authorizer=authorizer_of(signer),
        receiver=payee,
        receiver_authorizer=payee if payee_authorizer is None else payee_authorizer,
        token=token,
        withdraw_delay=withdraw_delay,
        salt=Bytes32(salt),
    )


def signature_field(signer: Signer, digest: bytes) -> bytes:
    """Sign a digest as the contract's ``signature`` field: 65 bytes, or 148 bytes ``signer ‖ r ‖ s`` for P-256."""
    signature = signer.sign_digest(digest)
    return signature if signer.curve == "secp256k1" else signer.signer_bytes + signature


def sign_voucher(
    signer: Signer, domain: ChannelDomain, config: ChannelConfig, ceiling: int, *, lock: bytes = b""
) -> SignedVoucher:
    """Sign a voucher for the sum of all payments so far.

    Raises:
        InputError: The ceiling does not fit uint128, or the signer is not the channel's.
    """
    if authorizer_of(signer) != config.payer_authorizer:
        raise InputError(f"the key is not the channel's authorizer {config.payer_authorizer}")
    blank = SignedVoucher(domain, config, ceiling, b"", lock)
    return SignedVoucher(domain, config, ceiling, signature_field(signer, blank.digest), lock)


def is_p256_field(signature: bytes) -> bool:
    """Whether a ``signature`` field is as long as a P-256 key's."""
    return len(signature) == _P256_FIELD


def is_signed_by_authorizer(authorizer: Address, digest: bytes, signature: bytes) -> bool:
    """Whether the key that an address stands for signed a digest: an account's, or a P-256 key's by its hash."""
    if len(signature) == _ECDSA_FIELD:
        return verify_signature(authorizer, digest, signature)
    if not is_p256_field(signature) or authorizer == ZERO_ADDRESS:
        return False
    signer = signature[:_SIGNER_LENGTH]
    return keccak256(signer)[:20] == authorizer and verify_signature(signer, digest, signature[_SIGNER_LENGTH:])


def is_signed_by_payer(config: ChannelConfig, digest: bytes, signature: bytes) -> bool:
    """Whether the payer's side signed a digest, by the contract's rules for keys; nothing malformed raises."""
    if config.payer_authorizer != ZERO_ADDRESS:
        return is_signed_by_authorizer(config.payer_authorizer, digest, signature)
    return not is_p256_field(signature) and is_signed_by_authorizer(config.payer, digest, signature)


def _amount(text: Any) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdigit():
        raise InputError(f"not an amount in base units: {text!r}")
    amount = int(text)
    word(amount, bits=_UINT128)
    return amount
