"""How an order is paid: by an allowance, or by one signature that pays and orders at once.

The signature is ERC-3009's ``receiveWithAuthorization`` with the order id as its nonce: it pays exactly the price, to
the market alone, for this order alone, and leaves no allowance behind. Anybody can carry it to the chain, so a machine
without ether can buy. A token that cannot do that is paid by an allowance of exactly the price, or, where the policy
says so, by one that lasts.

Example:
    >>> import dataclasses
    >>> [field.name for field in dataclasses.fields(SignedOrder)]
    ['order', 'valid_before', 'signature']
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiot_evm.chain.abi import decode, encode, selector
from pyiot_evm.chain.calls import Call
from pyiot_evm.device.typed import address_word, domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.exceptions import ConsistencyError, ContractError, InputError
from pyiot_evm.market.locks import file_lock

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pyiot_evm.market.buyer import BuyerPolicy, Target
    from pyiot_evm.market.offers import Offer, Resale
    from pyiot_evm.market.records import PurchaseRecord, TransactionRecord
    from pyiot_evm.market.trader import Trader
    from pyiot_evm.types import Address, SaleId

__all__ = ["Payments", "SignedOrder", "good_until"]

_RECEIVE = type_hash(
    "ReceiveWithAuthorization(address from,address to,uint256 value,"
    "uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
_UNLIMITED = (1 << 256) - 1
_VALID_SECONDS = 3600  # from the draft, so that the same order always makes the same transaction


@dataclass(frozen=True, slots=True)
class SignedOrder:
    """An order and its payment in one signature, for whoever carries it to the chain.

    Attributes:
        order: The purchase as it stands in the buyer's journal.
        valid_before: The payment is good before this time, Unix seconds.
        signature: Of the buyer over ERC-3009's ``receiveWithAuthorization``, 65 bytes.
    """

    order: PurchaseRecord
    valid_before: int
    signature: bytes


class Payments:
    """Pays the orders of one account.

    Args:
        trader: Who pays.
    """

    def __init__(self, trader: Trader) -> None:
        self._trader = trader

    def check_funds(self, target: Target) -> None:
        """Check that the account holds the price.

        Raises:
            InputError: It does not; nothing was signed.
        """
        token = (target.resale or target.offer).token
        held = self._trader.chain.call(_call(token, "balanceOf(address)", ["uint256"], self._trader.address))
        if held < target.price:
            info = self._trader.chain.token_info(token)
            raise InputError(
                f"the price is {info.from_units(target.price)} {info.symbol}, and {self._trader.address} holds "
                f"{info.from_units(held)}",
                hint="on a devnet: chain.fund(machine.address, dollars=…)",
            )

    def pay(self, record: PurchaseRecord, policy: BuyerPolicy) -> TransactionRecord:
        """Pay an order; the same order is never paid twice.

        Raises:
            ContractError: The market or the token refused.
        """
        token, price = _terms(record)
        allowed = self._allowance(token)
        by_signature = policy.pay == "authorization" or (
            policy.pay == "auto" and allowed < price and self._token_domain(token) is not None
        )
        if by_signature and price:
            return self.submit(self.authorize(record))
        with self._lock(token):
            if self._allowance(token) < price:
                self._approve(record.order_id, token, _UNLIMITED if policy.approve == "unlimited" else price)
            return self._trader.send_once(record.order_id, "buy", self._buy_call(record), confirmations=0)

    def authorize(self, record: PurchaseRecord) -> SignedOrder:
        """Sign the payment of an order, for this account or a relay to submit.

        Raises:
            InputError: The token does not know ERC-3009.
        """
        trader = self._trader
        token, price = _terms(record)
        domain = self._token_domain(token)
        if domain is None:
            raise InputError(f"token {token} cannot be paid by a signature (ERC-3009)", hint="pay by allowance")
        valid_before = good_until(record)
        fields = (
            address_word(trader.address),
            address_word(trader.contract.address),
            word(price),
            word(0),
            word(valid_before),
            bytes(record.order_id),
        )
        digest = typed_digest(domain, struct_hash(_RECEIVE, *fields))
        return SignedOrder(record, valid_before, trader.signer.sign_digest(digest))

    def submit(self, signed: SignedOrder) -> TransactionRecord:
        """Carry a signed order to the chain: one's own, or another machine's."""
        record = signed.order
        whole = self._trader.order_struct(record.offer, record.resale, record)
        call = self._trader.contract.buy_with_authorization(
            whole, record.signature, 0, signed.valid_before, signed.signature
        )
        return self._trader.send_once(record.order_id, "buy", call, confirmations=0)

    def deposit(self, token: Address, amount: int) -> TransactionRecord:
        """Pay into the account's credit at the market."""
        return self._deposit(token, amount, subject=f"deposit {secrets.token_hex(8)}")

    def ensure_credit(self, sale_id: SaleId, token: Address, amount: int) -> None:
        """Pay in what is missing for a sale's bonds; after a crash the same payment is gone on with."""
        if (held := self._credit(token)) >= amount:
            return
        is_repeated = any(done.purpose == "deposit" for done in self._trader.transactions(sale_id))
        self._deposit(token, amount - held, subject=sale_id)
        if not is_repeated or (held := self._credit(token)) >= amount:
            return
        # What answered was a deposit of long ago, whose money was taken out since: it is done with.
        for act in ("approve", "deposit"):
            self._trader.note_failure(sale_id, act, self._trader.failures(sale_id, act))
        self._deposit(token, amount - held, subject=sale_id)

    def _credit(self, token: Address) -> int:
        return int(self._trader.chain.call(self._trader.contract.credit_of(self._trader.address, token)))

    def _deposit(self, token: Address, amount: int, *, subject: object) -> TransactionRecord:
        with self._lock(token):
            if self._allowance(token) < amount:
                self._approve(subject, token, amount)
            return self._trader.send_once(subject, "deposit", self._trader.contract.deposit(token, amount))

    def _lock(self, token: Address) -> AbstractContextManager[None]:
        return file_lock(self._trader.bundles / f".pay-{self._trader.address}-{token}.lock")

    def _buy_call(self, record: PurchaseRecord) -> Call[Any]:
        contract, order = self._trader.contract, (record.mask, record.ephemeral_x, record.ephemeral_y)
        if record.resale is None:
            return contract.buy(record.offer, record.signature, *order)
        return contract.buy_resale(record.offer, record.resale, record.signature, *order)

    def _allowance(self, token: Address) -> int:
        call = _call(
            token, "allowance(address,address)", ["uint256"], self._trader.address, self._trader.contract.address
        )
        return int(self._trader.chain.call(call))

    def _approve(self, subject: object, token: Address, amount: int) -> None:
        call = _call(token, "approve(address,uint256)", ["bool"], self._trader.contract.address, amount)
        self._trader.send_once(subject, "approve", call, confirmations=0)

    def _token_domain(self, token: Address) -> bytes | None:
        """Return the token's EIP-712 domain when it knows ERC-3009, else ``None``.

        The separator is made here from name, version, chain and address and held against the token's own, so that a
        token cannot have a payment signed for another contract.
        """
        chain = self._trader.chain
        probes = (
            _call(token, "name()", ["string"]),
            _call(token, "version()", ["string"]),
            _call(token, "DOMAIN_SEPARATOR()", ["bytes32"]),
            _call(token, "authorizationState(address,bytes32)", ["bool"], self._trader.address, bytes(32)),
        )
        try:
            name, version, separator, _ = chain.call_many(probes)
        except (ContractError, ConsistencyError):
            return None
        expected = domain_separator(name, version, chain_id=chain.chain_id, contract=token)
        return expected if expected == separator else None


def good_until(record: PurchaseRecord) -> int:
    """Return the time from which on a signed payment of this order is good no more, Unix seconds."""
    return record.created_at + _VALID_SECONDS


def _terms(record: PurchaseRecord) -> tuple[Address, int]:
    sale: Offer | Resale = record.resale or record.offer
    return sale.token, sale.price


def _call(token: Address, signature: str, returns: list[str], *arguments: Any) -> Call[Any]:
    types = signature[signature.index("(") + 1 : -1]
    data = selector(signature) + encode(types.split(",") if types else [], list(arguments))
    return Call(
        to=token,
        data=data,
        function=signature,
        decode=lambda answer: decode(returns, answer)[0],
        contract="token",
        arguments={str(place): argument for place, argument in enumerate(arguments)},
    )
