"""How an order is paid: by an allowance, or by one signature that pays and orders at once.

See ``payment.funding``. The signature's nonce is the order id: it pays for this order alone, and anybody can carry it.

Example:
    >>> import dataclasses
    >>> [field.name for field in dataclasses.fields(SignedOrder)]
    ['order', 'valid_before', 'signature']
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiot_evm.payment.funding import Funding, good_until

if TYPE_CHECKING:
    from pyiot_evm.chain.calls import Call
    from pyiot_evm.market.buyer import BuyerPolicy, Target
    from pyiot_evm.market.offers import Offer, Resale
    from pyiot_evm.market.records import PurchaseRecord, TransactionRecord
    from pyiot_evm.market.trader import Trader
    from pyiot_evm.types import Address, SaleId

__all__ = ["Payments", "SignedOrder"]

_UNLIMITED = (1 << 256) - 1


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
        self._funding = Funding(trader, signer=trader.signer, folder=trader.bundles)

    def check_funds(self, target: Target) -> None:
        """Check that the account holds the price.

        Raises:
            InputError: It does not; nothing was signed.
        """
        self._funding.check((target.resale or target.offer).token, target.price, "the price is")

    def pay(self, record: PurchaseRecord, policy: BuyerPolicy) -> TransactionRecord:
        """Pay an order; the same order is never paid twice.

        Raises:
            ContractError: The market or the token refused.
        """
        token, price = _terms(record)
        if self._funding.is_by_signature(policy.pay, token, price):
            return self.submit(self.authorize(record))
        approve = _UNLIMITED if policy.approve == "unlimited" else price
        call = self._buy_call(record)
        return self._funding.send(record.order_id, "buy", call, token=token, amount=price, approve=approve)

    def authorize(self, record: PurchaseRecord) -> SignedOrder:
        """Sign the payment of an order, for this account or a relay to submit.

        Raises:
            InputError: The token does not know ERC-3009.
        """
        (token, price), until = _terms(record), good_until(record.created_at)
        signature = self._funding.authorize(token, price, nonce=record.order_id, valid_before=until)
        return SignedOrder(record, until, signature)

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
        call = self._trader.contract.deposit(token, amount)
        return self._funding.send(subject, "deposit", call, token=token, amount=amount, confirmations=None)

    def _buy_call(self, record: PurchaseRecord) -> Call[Any]:
        contract, order = self._trader.contract, (record.mask, record.ephemeral_x, record.ephemeral_y)
        if record.resale is None:
            return contract.buy(record.offer, record.signature, *order)
        return contract.buy_resale(record.offer, record.resale, record.signature, *order)


def _terms(record: PurchaseRecord) -> tuple[Address, int]:
    sale: Offer | Resale = record.resale or record.offer
    return sale.token, sale.price
