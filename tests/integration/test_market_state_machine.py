"""The market as a state machine: Hypothesis plays it on a real Anvil, a Python model says what must happen.

Each rule sends a real transaction. The model predicts either success or the exact error, and after every step credits,
tokens, copies and orders on the chain must equal the model's: DM-1, DM-2, DM-6 and DM-7 among them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pyiot_evm.chain import contract_errors as errors
from pyiot_evm.contracts import DevDollar
from pyiot_evm.contracts.data_market import DataMarket, Disclosure, Offer, Order, Resale, Row
from pyiot_evm.device import LocalSigner
from pyiot_evm.market.key_release import ContentKey, Ephemeral, Sale, mask_of, release
from pyiot_evm.market.offers import blank_offer, offer_id, order_id, resale_id
from pyiot_evm.market.sealing import seal_leaves, sealed_leaf
from pyiot_evm.merkle import MerkleTree
from pyiot_evm.types import ZERO_ADDRESS, Address, Bytes32, OfferId

if TYPE_CHECKING:
    from pyiot_evm.chain import Account, Chain
    from pyiot_evm.types import OrderId, SaleId

_WINDOW, _JUMP, _LIFETIME = 3600, 2000, 9000
_PRICE, _BOND, _ROYALTY_BPS = 1000, 300, 1000
_NO_RESALE = Resale(OfferId(bytes(32)), ZERO_ADDRESS, ZERO_ADDRESS, 0, 0, 0)
_NUMBERS = itertools.count(1)
_CHEATED = 1
"""The leaf that a cheating seller's bundle has wrong."""


@dataclass
class ModelOffer:
    offer: Offer
    id: OfferId
    key: ContentKey
    records: list[tuple[bytes, bytes]]
    cheats: bool
    listed: bool = False
    cancelled: bool = False
    copies: int = 0
    holders: dict[int, int] = field(default_factory=dict)
    custody: int = 0


@dataclass
class ModelResale:
    resale: Resale
    id: SaleId
    of: ModelOffer
    holder: int
    cancelled: bool = False
    taken: bool = False


@dataclass
class ModelOrder:
    id: OrderId
    of: ModelOffer
    resale: ModelResale | None
    buyer: int
    ephemeral: Ephemeral
    mask: Address
    state: str = "Paid"
    deadline: int = 0


class Stage:
    """The chain and four funded accounts, for all examples: 0 sells, 1 to 3 buy and meddle."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.market = DataMarket(chain.addresses.data_market)
        self.dollar = DevDollar(chain.token)
        self.accounts: list[Account] = [chain.account(LocalSigner.create()) for _ in range(4)]
        for account in self.accounts:
            chain.fund(account, ether=1000, dollars=1_000_000)
            account.transact(self.dollar.approve(self.market.address, (1 << 256) - 1))

    def index(self, account: int) -> Address:
        return self.accounts[account].address


ACTOR = st.integers(0, 3)
OTHER = st.integers(1, 3)


class Trade(RuleBasedStateMachine):
    """The rules of the market and its model."""

    stage: Stage
    sent = 0
    refused = 0

    offers = Bundle("offers")
    orders = Bundle("orders")
    resales = Bundle("resales")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.all_offers: list[ModelOffer] = []
        self.all_orders: list[ModelOrder] = []

    @initialize()
    def begin(self) -> None:
        chain, stage = self.stage.chain, self.stage
        self.start = chain.now()
        calls = [stage.market.credit_of(account.address, chain.token) for account in stage.accounts]
        self.credits: list[int] = chain.call_many(calls)
        self.held = chain.call(stage.dollar.balance_of(stage.market.address)) - sum(self.credits)

    def act(self, account: int, call: Any, expected: type[errors.ContractError] | None) -> bool:
        """Send a call that must go through, or be refused with exactly this error; return which."""
        if expected is None:
            self.stage.accounts[account].transact(call)
            type(self).sent += 1
            return True
        with pytest.raises(expected) as caught:
            self.stage.accounts[account].transact(call)
        assert type(caught.value) is expected
        type(self).refused += 1
        return False

    # Sell

    @rule(
        target=offers,
        cheats=st.booleans(),
        supply=st.integers(0, 2),
        bond=st.sampled_from([0, _BOND]),
        listed=st.booleans(),
    )
    def offer(self, cheats: bool, supply: int, bond: int, listed: bool) -> ModelOffer:
        key = ContentKey.create()
        records = list(seal_leaves(key, [b"one", b"two", b"three"]))
        if cheats:
            leaf_hash, sealed = records[_CHEATED]
            records[_CHEATED] = (leaf_hash, bytes(byte ^ 1 for byte in sealed))
        tree = MerkleTree([sealed_leaf(i, sealed, leaf_hash) for i, (leaf_hash, sealed) in enumerate(records)])
        draft = blank_offer(
            seller=self.stage.index(0), token=self.stage.chain.token, price=_PRICE, bond=bond, supply=supply,
            royalty_bps=_ROYALTY_BPS, reveal_window=_WINDOW, dispute_window=_WINDOW, salt=next(_NUMBERS),
            expiry=self.start + self.now + _LIFETIME,
        )  # fmt: skip
        (key_x, key_y), root = key.point, Bytes32(tree.root)
        offer = replace(draft, sealed_root=root, leaf_count=3, key_x=key_x, key_y=key_y)
        name = offer_id(offer, chain_id=self.stage.chain.chain_id, market=self.stage.market.address)
        made = ModelOffer(offer, name, key, records, cheats)
        self.all_offers.append(made)
        if listed:
            self.list_(0, made)
        return made

    @rule(actor=ACTOR, offer=offers)
    def list_(self, actor: int, offer: ModelOffer) -> None:
        expected = self._may_sell(actor, offer) or self._expired(offer.offer.expiry) or _cancelled(offer)
        offer.listed |= self.act(actor, self.stage.market.list(offer.offer, "memory://x", bytes(32)), expected)

    @rule(actor=ACTOR, offer=offers)
    def cancel(self, actor: int, offer: ModelOffer) -> None:
        expected = self._may_sell(actor, offer) or _cancelled(offer)
        offer.cancelled |= self.act(actor, self.stage.market.cancel(offer.offer), expected)

    def _may_sell(self, actor: int, _: ModelOffer) -> type[errors.ContractError] | None:
        return None if actor == 0 else errors.CallerNotSeller

    def _expired(self, expiry: int) -> type[errors.ContractError] | None:
        return errors.SaleExpired if self.start + self.now >= expiry else None

    # Buy

    @rule(target=orders, actor=OTHER, offer=offers, signed=st.booleans(), masked=st.sampled_from([True] * 9 + [False]))
    def buy(self, actor: int, offer: ModelOffer, signed: bool, masked: bool) -> ModelOrder | Any:
        order = self._order(actor, offer, None)
        signature = self.stage.accounts[0].signer.sign_digest(offer.id) if signed else b""
        bond = offer.offer.bond
        expected = (
            self._expired(offer.offer.expiry)
            or _cancelled(offer)
            or (errors.SupplyExhausted if 0 < offer.offer.supply <= offer.copies else None)
            or (errors.SaleNotOffered if not offer.listed and not signed else None)
            or (errors.CreditTooLow if self.credits[0] < bond else None)
            or (None if masked else errors.MaskIsZero)
        )
        mask = order.mask if masked else ZERO_ADDRESS
        call = self.stage.market.buy(offer.offer, signature, mask, *order.ephemeral.point)
        if not self.act(actor, call, expected):
            return _nothing()
        offer.copies += 1
        self.credits[0] -= bond
        return self._placed(order)

    def _order(self, actor: int, offer: ModelOffer, resale: ModelResale | None) -> ModelOrder:
        ephemeral, sale_id = Ephemeral.create(), resale.id if resale else offer.id
        mask = mask_of(self._whom(actor, sale_id), offer.key.point, ephemeral)
        name = order_id(sale_id, buyer=self.stage.index(actor), mask=mask, ephemeral=ephemeral.point)
        return ModelOrder(name, offer, resale, actor, ephemeral, mask)

    def _whom(self, actor: int, sale_id: SaleId) -> Sale:
        return Sale(self.stage.chain.chain_id, self.stage.market.address, sale_id, self.stage.index(actor))

    def _placed(self, order: ModelOrder) -> ModelOrder:
        order.deadline = self.now + _WINDOW
        self.all_orders.append(order)
        return order

    @rule(order=orders)
    def buy_the_same_again(self, order: ModelOrder) -> None:
        offer = order.of
        if order.resale is not None or _dead(self, offer) or not offer.listed or self.credits[0] < offer.offer.bond:
            return
        call = self.stage.market.buy(offer.offer, b"", order.mask, *order.ephemeral.point)
        self.act(order.buyer, call, errors.OrderAlreadyMade)

    # Deliver

    @rule(actor=st.sampled_from([-1] * 5 + [0, 1, 2, 3]), order=orders, right=st.sampled_from([True] * 5 + [False]))
    def reveal(self, actor: int, order: ModelOrder, right: bool) -> None:
        seller = order.resale.holder if order.resale else 0
        actor = seller if actor < 0 else actor
        sale_id = order.resale.id if order.resale else order.of.id
        released = release(self._whom(order.buyer, sale_id), order.of.key, order.ephemeral.point, order.mask)
        stranger = errors.CallerNotHolder if order.resale else errors.CallerNotSeller
        expected = (
            (None if actor == seller else stranger)
            or (None if right else errors.ReleasedKeyInvalid)
            or (None if order.state == "Paid" else errors.OrderNotPaid)
            or (errors.WindowIsOver if self.now >= order.deadline else None)
        )
        call = self.stage.market.reveal(self._struct(order), released if right else released + 1)
        if self.act(actor, call, expected):
            order.state, order.deadline = "Revealed", self.now + _WINDOW

    @rule(actor=ACTOR, order=orders)
    def settle(self, actor: int, order: ModelOrder) -> None:
        row = Row(self.stage.index(order.buyer), order.mask, *order.ephemeral.point)
        ready = order.state == "Revealed" and (actor == order.buyer or self.now >= order.deadline)
        if order.resale is None:
            self.act(actor, self.stage.market.settle(order.of.offer, [row, row]), None)
        else:
            early = errors.WindowIsOpen if order.state == "Revealed" else errors.OrderNotRevealed
            call = self.stage.market.settle_resale(order.of.offer, order.resale.resale, row)
            self.act(actor, call, None if ready else early)
        if not ready:
            return
        order.state = "Settled"
        holders = order.of.holders
        holders[order.buyer] = holders.get(order.buyer, 0) + 1
        if order.resale is None:
            self.credits[0] += _PRICE + order.of.offer.bond
        else:
            royalty = order.resale.resale.price * _ROYALTY_BPS // 10_000
            self.credits[0] += royalty
            self.credits[order.resale.holder] += order.resale.resale.price - royalty
            order.of.custody -= 1

    # Undo

    @rule(actor=ACTOR, order=orders)
    def refund(self, actor: int, order: ModelOrder) -> None:
        seller = order.resale.holder if order.resale else 0
        expected = (None if order.state == "Paid" else errors.OrderNotPaid) or (
            None if actor == seller or self.now >= order.deadline else errors.WindowIsOpen
        )
        if self.act(actor, self.stage.market.refund(self._struct(order)), expected):
            self._undo(order, fraud=False)

    @rule(
        actor=ACTOR,
        order=orders,
        index=st.sampled_from([0, _CHEATED, _CHEATED, 2, 3]),
        right=st.sampled_from([True] * 4 + [False]),
    )
    def dispute(self, actor: int, order: ModelOrder, index: int, right: bool) -> None:
        offer = order.of
        expected = (
            (None if order.state == "Revealed" else errors.OrderNotRevealed)
            or (errors.WindowIsOver if self.now >= order.deadline else None)
            or (None if right else errors.ContentKeyInvalid)
            or (errors.LeafIndexTooHigh if index > 2 else None)
            or (None if offer.cheats and index == _CHEATED else errors.FraudNotShown)
        )
        hashes = [sealed_leaf(i, sealed, leaf_hash) for i, (leaf_hash, sealed) in enumerate(offer.records)]
        shown = min(index, 2)
        leaf_hash, sealed = offer.records[shown]
        key = int(offer.key) if right else int(ContentKey.create())
        proof = tuple(Bytes32(node) for node in MerkleTree(hashes).proof(shown))
        disclosure = Disclosure(key, index, sealed, Bytes32(leaf_hash), proof, b"")
        if self.act(actor, self.stage.market.dispute(self._struct(order), disclosure), expected):
            self._undo(order, fraud=True)

    def _undo(self, order: ModelOrder, *, fraud: bool) -> None:
        order.state = "Refunded"
        if order.resale is not None:
            self.credits[order.buyer] += order.resale.resale.price
            order.resale.taken = False
            order.of.custody -= 1
            holders = order.of.holders
            holders[order.resale.holder] = holders.get(order.resale.holder, 0) + 1
            return
        bond = order.of.offer.bond
        self.credits[order.buyer] += _PRICE + (bond if fraud else 0)
        if not fraud:
            order.of.copies -= 1
            self.credits[0] += bond

    def _struct(self, order: ModelOrder) -> Order:
        resale = order.resale.resale if order.resale else _NO_RESALE
        return Order(order.of.offer, resale, self.stage.index(order.buyer), order.mask, *order.ephemeral.point)

    # Resell

    @rule(target=resales, actor=OTHER, offer=offers)
    def list_resale(self, actor: int, offer: ModelOffer) -> ModelResale | Any:
        resale = Resale(
            offer_id=offer.id, holder=self.stage.index(actor), token=self.stage.chain.token, price=2 * _PRICE,
            expiry=self.start + self.now + _LIFETIME, salt=next(_NUMBERS),
        )  # fmt: skip
        expected = None if offer.holders.get(actor, 0) else errors.HolderHasNoToken
        if not self.act(actor, self.stage.market.list_resale(offer.offer, resale, "memory://x"), expected):
            return _nothing()
        name = resale_id(resale, chain_id=self.stage.chain.chain_id, market=self.stage.market.address)
        return ModelResale(resale, name, offer, actor)

    @rule(actor=ACTOR, resale=resales)
    def cancel_resale(self, actor: int, resale: ModelResale) -> None:
        expected = (None if actor == resale.holder else errors.CallerNotHolder) or _cancelled(resale)
        resale.cancelled |= self.act(actor, self.stage.market.cancel_resale(resale.resale), expected)

    @rule(target=orders, actor=ACTOR, resale=resales)
    def buy_resale(self, actor: int, resale: ModelResale) -> ModelOrder | Any:
        order, holders = self._order(actor, resale.of, resale), resale.of.holders
        expected = (
            self._expired(resale.resale.expiry)
            or _cancelled(resale)
            or (errors.ResaleIsTaken if resale.taken else None)
            or (None if holders.get(resale.holder, 0) else errors.HolderHasNoToken)
        )
        call = self.stage.market.buy_resale(
            resale.of.offer, resale.resale, b"", order.mask, *order.ephemeral.point
        )  # fmt: skip
        if not self.act(actor, call, expected):
            return _nothing()
        resale.taken = True
        holders[resale.holder] -= 1
        resale.of.custody += 1
        return self._placed(order)

    # Money and time

    @rule(actor=ACTOR, amount=st.integers(1, 2000))
    def deposit(self, actor: int, amount: int) -> None:
        self.act(actor, self.stage.market.deposit(self.stage.chain.token, amount), None)
        self.credits[actor] += amount

    @rule(actor=ACTOR, amount=st.integers(1, 3000))
    def withdraw(self, actor: int, amount: int) -> None:
        expected = errors.CreditTooLow if self.credits[actor] < amount else None
        call = self.stage.market.withdraw(self.stage.chain.token, amount, self.stage.index(actor))
        if self.act(actor, call, expected):
            self.credits[actor] -= amount

    @rule(jumps=st.integers(1, 2))
    def wait(self, jumps: int) -> None:
        self.stage.chain.increase_time(jumps * _JUMP)
        self.now += jumps * _JUMP

    # What must hold after every step

    @invariant()
    def equals_the_model(self) -> None:
        stage, token = self.stage, self.stage.chain.token
        if not hasattr(self, "credits"):
            return
        calls: list[Any] = [stage.market.credit_of(account.address, token) for account in stage.accounts]
        calls.append(stage.dollar.balance_of(stage.market.address))
        calls += [stage.market.order_of(order.id) for order in self.all_orders]
        calls += [stage.market.offer_of(offer.id) for offer in self.all_offers]
        owners = [(offer, place) for offer in self.all_offers for place in range(4)]
        calls += [stage.market.balance_of(stage.index(place), int.from_bytes(o.id, "big")) for o, place in owners]
        answers = iter(stage.chain.call_many(calls))

        assert [next(answers) for _ in stage.accounts] == self.credits
        live = [order for order in self.all_orders if order.state in ("Paid", "Revealed")]
        prices = sum(order.resale.resale.price if order.resale else _PRICE for order in live)
        bonds = sum(order.of.offer.bond for order in live if order.resale is None)
        assert next(answers) == self.held + sum(self.credits) + prices + bonds
        assert [next(answers).state.name.title() for _ in self.all_orders] == [order.state for order in self.all_orders]
        for offer in self.all_offers:
            answer = next(answers)
            assert (answer.listed, answer.cancelled, answer.copies) == (offer.listed, offer.cancelled, offer.copies)
            assert not offer.offer.supply or offer.copies <= offer.offer.supply
        for offer, place in owners:
            assert next(answers) == offer.holders.get(place, 0)
        for offer in self.all_offers:
            first = [order for order in self.all_orders if order.of is offer and order.resale is None]
            settled = sum(order.state == "Settled" for order in first)
            assert sum(offer.holders.values()) + offer.custody == settled


def _cancelled(sale: ModelOffer | ModelResale) -> type[errors.ContractError] | None:
    return errors.SaleIsCancelled if sale.cancelled else None


def _dead(trade: Trade, offer: ModelOffer) -> bool:
    exhausted = 0 < offer.offer.supply <= offer.copies
    return offer.cancelled or exhausted or trade.start + trade.now >= offer.offer.expiry


def _nothing() -> Any:
    from hypothesis.stateful import multiple

    return multiple()


@pytest.mark.timeout(900)
def test_market__when_anything_is_done_in_any_order__does_what_the_model_says(
    devnet: Chain, capfd: pytest.CaptureFixture[str]
) -> None:
    Trade.stage, Trade.sent, Trade.refused = Stage(devnet), 0, 0

    run_state_machine_as_test(
        Trade,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

    assert Trade.sent > 150
    assert Trade.refused > 80
    with capfd.disabled():
        import sys

        sys.stdout.write(f"\n  the market's state machine: {Trade.sent} sent, {Trade.refused} refused as predicted\n")
