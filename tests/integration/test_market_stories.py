"""The trades of the design, each told to its end, on Anvil and on Hardhat."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from decimal import Decimal
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from pyiot_evm import Devnet, Field, Machine, ReadingJournal, SaleDisputedError, SaleRefundedError, Schema, connect
from pyiot_evm.chain import contract_errors
from pyiot_evm.contracts.data_market import OrderRevealed
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.exceptions import BudgetError, InputError
from pyiot_evm.hostile import LIES, Hostile
from pyiot_evm.market.buyer import BuyerPolicy
from pyiot_evm.market.fetch import FetchPolicy
from pyiot_evm.market.seller import Action, SellerLoop, SellerPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyiot_evm.chain import Chain
    from pyiot_evm.market.records import OrderRecord

_NUMBERS = itertools.count()
_SERIES = "timestamp,value\n" + "".join(f"2015-09-01 13:{minute:02d}:00,{minute}.25\n" for minute in range(10, 30))
_WINDOWS = {"reveal_window": 600, "dispute_window": 900}


@pytest.fixture(scope="module", params=["anvil", "hardhat"])
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    with Devnet(request.param) as devnet:
        yield devnet


@pytest.fixture
def new_machine(chain: Chain) -> Iterator[Callable[..., Machine]]:
    made: list[Machine] = []

    def make(role: str, **options: object) -> Machine:
        made.append(Machine.create(chain, f"{role}{next(_NUMBERS)}", **options))
        return made[-1]

    yield make
    for machine in made:
        machine.close()


@pytest.fixture
def seller(new_machine: Callable[..., Machine]) -> Machine:
    return new_machine("seller")


@pytest.fixture
def buyer(new_machine: Callable[..., Machine]) -> Machine:
    return new_machine("buyer")


@pytest.fixture
def stranger(new_machine: Callable[..., Machine]) -> Machine:
    return new_machine("stranger")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A series that no other test sells: its last row is unique."""
    path = tmp_path / "series.csv"
    path.write_text(_SERIES + f"2015-09-01 14:00:00,{next(_NUMBERS)}.75\n")
    return path


@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
def test_sell_and_buy__when_both_are_honest__gives_the_same_csv(
    new_machine: Callable[..., Machine], buyer: Machine, series: Path, tmp_path: Path, curve: str
) -> None:
    seller = new_machine("seller", curve=curve)

    offer = seller.sell(series, price="0.50")
    purchase = buyer.buy(offer.id, out=tmp_path / "bought.csv")

    assert (tmp_path / "bought.csv").read_bytes() == series.read_bytes()
    assert (purchase.state, purchase.rows) == ("settled", 21)
    assert [row.purpose for row in purchase.transactions] == ["buy", "settle"]
    assert purchase.frame()["value"].iloc[0] == 10.25
    assert all(reading.is_signed_by(purchase_signer(seller)) for reading in purchase.readings())
    assert (seller.credit(), buyer.balance()) == (Decimal("0.5"), Decimal("999.5"))
    token = buyer.market.contract.balance_of(buyer.address, int.from_bytes(purchase.offer_id, "big"))
    assert buyer.chain.call(token) == 1
    assert seller.withdraw() is not None
    assert (seller.credit(), seller.balance()) == (Decimal(0), Decimal("1000.5"))
    assert seller.withdraw() is None


def purchase_signer(machine: Machine) -> bytes:
    return machine.chain.home.keyring.device(machine.name).signer_bytes


def test_sell__when_called_again__lists_once(seller: Machine, series: Path) -> None:
    first = seller.sell(series, price=1, serve=False)
    again = seller.sell(series, price=1, serve=False)
    dearer = seller.sell(series, price=2, serve=False)
    second = seller.sell(series, price=1, serve=False, again=True)

    assert again == first
    assert len({first.id, dearer.id, second.id}) == 3
    assert len({first.offer.key_x, dearer.offer.key_x, second.offer.key_x}) == 3
    assert len({first.offer.sealed_root, dearer.offer.sealed_root, second.offer.sealed_root}) == 3
    assert [entry.id for entry in seller.search(seller=seller.address)] == [second.id, dearer.id, first.id]


def test_sell__when_the_last_one_was_cancelled__lists_anew(seller: Machine, buyer: Machine, series: Path) -> None:
    first = seller.sell(series, price=1, serve=False)
    assert seller.cancel(first.id).state == "cancelled"

    assert buyer.search(seller=seller.address) == []
    with pytest.raises(contract_errors.SaleIsCancelled):
        buyer.buy(first.id)
    assert seller.sell(series, price=1, serve=False).id != first.id


def test_buy__when_called_again__opens_what_was_bought(seller: Machine, buyer: Machine, series: Path) -> None:
    offer = seller.sell(series, price="0.50")
    first = buyer.buy(offer.id)

    assert buyer.buy(offer.id).order_id == first.order_id
    assert buyer.balance() == Decimal("999.5")
    second = buyer.buy(offer.id, again=True)
    assert second.order_id != first.order_id
    assert buyer.balance() == Decimal(999)


def test_buy__when_it_is_a_file__gives_the_same_bytes(seller: Machine, buyer: Machine, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(range(256)) * 20 + bytes([next(_NUMBERS) % 256]))

    offer = seller.sell(path, price=3, title="A model")
    purchase = buyer.buy(offer.id, out=tmp_path / "copy.bin")

    assert (tmp_path / "copy.bin").read_bytes() == path.read_bytes() == purchase.read()
    assert purchase.is_blob
    with pytest.raises(InputError, match="a file was bought"):
        purchase.frame()


def test_buy__when_the_sale_is_private__needs_the_offer_file(
    seller: Machine, buyer: Machine, stranger: Machine, series: Path
) -> None:
    offer = seller.sell(series, price=1, private=True, audience=buyer.address)

    assert (offer.state, offer.transactions) == ("private", ())
    assert offer.file is not None
    with pytest.raises(InputError, match="no sale"):
        buyer.buy(offer.id)
    with pytest.raises(InputError, match="only"):
        stranger.buy(offer.file)
    assert buyer.buy(offer.file).state == "settled"


@pytest.mark.parametrize("lie", sorted(LIES))
def test_buy__when_one_leaf_lies__disputes_and_gets_price_and_bond(
    seller: Machine, buyer: Machine, series: Path, lie: str
) -> None:
    offer = Hostile().sell_forged(seller, series, price="2.00", lie=lie, index=7, bond="0.25")

    with pytest.raises(SaleDisputedError) as caught:
        buyer.buy(offer.id)

    assert caught.value.index == 7
    assert [row.purpose for row in caught.value.transactions] == ["buy", "dispute"]
    assert (buyer.credit(), seller.credit()) == (Decimal("2.25"), Decimal(0))
    assert [order.state for order in buyer.orders()] == ["disputed"]
    with pytest.raises(SaleDisputedError):
        buyer.buy(offer.id)
    assert buyer.credit() == Decimal("2.25")


def test_buy__when_nobody_reveals__takes_the_refund_and_can_try_again(
    seller: Machine, buyer: Machine, series: Path
) -> None:
    offer = seller.sell(series, price=1, serve=False, **_WINDOWS)
    order = buyer.market.order(offer.id)
    buyer.chain.increase_time(601)

    with pytest.raises(SaleRefundedError) as caught:
        buyer.buy(offer.id)

    assert caught.value.order_id == order.order_id
    assert (buyer.credit(), buyer.balance()) == (Decimal(1), Decimal(999))
    seller.serve_in_background()
    assert buyer.buy(offer.id).order_id != order.order_id


def test_serve__when_the_buyer_never_comes_back__settles_after_the_window(
    seller: Machine, new_machine: Callable[..., Machine], series: Path
) -> None:
    offer = seller.sell(series, price=1, serve=False, **_WINDOWS)
    buyers = [new_machine("buyer") for _ in range(3)]
    for silent in buyers:
        silent.market.order(offer.id)

    assert [action.kind for action in seller.serve(once=True)] == ["revealed"] * 3
    assert seller.serve(once=True) == []
    seller.chain.increase_time(901)
    assert [action.kind for action in seller.serve(once=True)] == ["settled"]
    assert {order.state for order in seller.orders()} == {"settled"}
    assert seller.credit() == Decimal(3)
    assert buyers[0].buy(offer.id).state == "settled"


def test_serve__when_the_deadline_is_near__does_not_reveal(seller: Machine, buyer: Machine, series: Path) -> None:
    offer = seller.sell(series, price=1, serve=False, **_WINDOWS)
    buyer.market.order(offer.id)
    seller.chain.increase_time(500)

    assert [action.kind for action in seller.serve(once=True)] == ["late"]
    seller.chain.increase_time(101)
    assert [action.kind for action in seller.serve(once=True)] == ["refunded"]
    assert (buyer.credit(), [order.state for order in seller.orders()]) == (Decimal(1), ["refunded"])


def test_serve__when_confirmations_are_asked_for__waits_for_them(
    new_machine: Callable[..., Machine], buyer: Machine, series: Path
) -> None:
    seller = new_machine("seller", selling=SellerPolicy(confirmations=3))
    offer = seller.sell(series, price=1, serve=False)
    buyer.market.order(offer.id)

    assert seller.serve(once=True) == []
    seller.chain.mine(3)
    assert [action.kind for action in seller.serve(once=True)] == ["revealed"]


def test_serve__when_asked_to_withdraw__takes_out_what_was_earned(
    new_machine: Callable[..., Machine], buyer: Machine, series: Path
) -> None:
    seller = new_machine("seller", selling=SellerPolicy(withdraw=True))
    offer = seller.sell(series, price=1, serve=False, **_WINDOWS)
    buyer.market.order(offer.id)
    seller.serve(once=True)
    seller.chain.increase_time(901)

    assert [action.kind for action in seller.serve(once=True)] == ["settled", "withdrawn"]
    assert seller.balance() == Decimal(1001)


def test_serve__when_a_report_raises_and_the_disk_is_full__answers_the_other_orders(
    new_machine: Callable[..., Machine], series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only errors of ours were caught: a full disk, or a program's mistake in its report, ended the loop of all sales.
    seller = new_machine("seller", selling=SellerPolicy(poll=0.01))
    offer = seller.sell(series, price=1, serve=False, **_WINDOWS)
    for buyer in (new_machine("buyer"), new_machine("buyer")):
        buyer.market.order(offer.id)
    stop, seen = threading.Event(), []
    full: list[Exception] = [sqlite3.OperationalError("database or disk is full"), OSError(28, "no space left")]
    look = SellerLoop.look

    def refuse(loop: SellerLoop) -> list[OrderRecord]:
        if full:
            raise full.pop()
        return look(loop)

    def report(action: Action) -> None:
        seen.append(action.kind)
        if len(seen) == 2:
            stop.set()
        raise KeyError(action.kind)

    monkeypatch.setattr(SellerLoop, "look", refuse)
    seller.serve(stop=stop, report=report)
    assert (seen, full) == (["revealed"] * 2, [])


@pytest.mark.parametrize("order", ["order_with_bad_mask", "order_off_curve"])
def test_serve__when_the_key_would_be_of_no_use_or_leak__refunds(
    seller: Machine, buyer: Machine, series: Path, order: str
) -> None:
    offer = seller.sell(series, price=1, serve=False)
    order_id = getattr(Hostile(), order)(buyer, offer)

    assert [action.kind for action in seller.serve(once=True)] == ["refunded"]
    found = seller.market.journal.order(order_id)
    assert found is not None
    assert (found.state, found.decision) == ("Refunded", "refund")
    assert buyer.credit() == Decimal(1)


def test_refund__when_the_seller_gave_it__is_never_revealed(seller: Machine, buyer: Machine, series: Path) -> None:
    offer = seller.sell(series, price=1, serve=False)
    order = buyer.market.order(offer.id)
    snapshot = seller.chain.block_number()

    assert seller.refund(order.order_id).state == "refunded"
    with pytest.raises(SaleRefundedError):
        buyer.market.buyer().finish(buyer.market.journal.purchase(order.order_id))
    assert seller.chain.block_number() > snapshot
    assert seller.market.journal.decide(order.order_id, "reveal") == "refund"


def test_refund__when_it_was_decided_to_reveal__is_refused(seller: Machine, buyer: Machine, series: Path) -> None:
    offer = seller.sell(series, price=1, serve=False)
    order = buyer.market.order(offer.id)
    seller.market.seller_loop()._find_orders({offer.sale_id: seller.market.journal.sale(offer.sale_id)})
    seller.market.journal.decide(order.order_id, "reveal")

    with pytest.raises(InputError, match="being revealed"):
        seller.refund(order.order_id)


def test_resell__when_the_holder_sells_on__the_first_seller_gets_the_royalty(
    seller: Machine, buyer: Machine, stranger: Machine, series: Path, tmp_path: Path
) -> None:
    offer = seller.sell(series, price=1, royalty=10, copies=1)
    bought = buyer.buy(offer.id)
    seller.close()

    resale = buyer.resell(bought, price=4)
    found = stranger.search(text="series")
    purchase = stranger.buy(resale.id, out=tmp_path / "third.csv")

    assert resale.id in [entry.id for entry in found]
    assert (tmp_path / "third.csv").read_bytes() == series.read_bytes()
    assert (purchase.seller, purchase.offer_id) == (buyer.address, offer.offer_id)
    assert (seller.credit(), buyer.credit()) == (Decimal("1.4"), Decimal("3.6"))
    assert buyer.resell(bought, price=4).id == resale.id
    with pytest.raises(contract_errors.HolderHasNoToken):
        buyer.resell(bought, price=5)
    with pytest.raises(InputError, match="has not bought"):
        seller.resell(offer.id, price=1)


def test_resell__when_it_is_private__sells_by_the_offer_file(
    seller: Machine, buyer: Machine, stranger: Machine, series: Path
) -> None:
    buyer.buy(seller.sell(series, price=1).id)
    resale = buyer.resell(seller.listings()[0].id, price=2, private=True)

    assert resale.file is not None
    assert stranger.buy(resale.file).state == "settled"
    assert buyer.credit() == Decimal(2)


def test_submit__when_another_machine_carries_the_order__the_buyer_needs_no_ether(
    seller: Machine, new_machine: Callable[..., Machine], stranger: Machine, series: Path
) -> None:
    poor = new_machine("poor", ether=0)
    offer = seller.sell(series, price=1)

    signed = poor.market.authorize(offer.id)
    stranger.market.submit(signed)

    policy = BuyerPolicy(settle=False)
    assert poor.buy(offer.id, policy=policy).frame()["value"].iloc[0] == 10.25
    assert poor.balance() == Decimal(999)
    assert stranger.balance() == Decimal(1000)


@pytest.mark.parametrize("policy", [BuyerPolicy(pay="allowance"), BuyerPolicy(pay="allowance", approve="unlimited")])
def test_buy__when_paid_by_allowance__leaves_what_the_policy_says(
    seller: Machine, buyer: Machine, series: Path, policy: BuyerPolicy
) -> None:
    offer = seller.sell(series, price=1)

    purchase = buyer.buy(offer.id, policy=policy)

    assert [row.purpose for row in purchase.transactions] == ["approve", "buy", "settle"]
    market = buyer.market.trader.contract.address
    left = buyer.chain.call(Erc20(offer.token).allowance(buyer.address, market))
    assert (left > 10**30) == (policy.approve == "unlimited")


def test_buy__when_the_price_is_over_the_limit__signs_nothing(seller: Machine, buyer: Machine, series: Path) -> None:
    offer = seller.sell(series, price="5.00")

    with pytest.raises(BudgetError):
        buyer.buy(offer.id, max_price="4.99")
    assert buyer.orders() == []


def test_buy__when_the_money_is_not_there__signs_nothing(
    seller: Machine, new_machine: Callable[..., Machine], series: Path
) -> None:
    poor = new_machine("poor", dollars="0.99")

    with pytest.raises(InputError, match="holds"):
        poor.buy(seller.sell(series, price=1).id)
    assert poor.orders() == []


def test_buy__when_the_last_copy_is_sold__is_refused(
    seller: Machine, buyer: Machine, stranger: Machine, series: Path
) -> None:
    offer = seller.sell(series, price=1, copies=1)
    buyer.buy(offer.id)

    with pytest.raises(contract_errors.SupplyExhausted):
        stranger.buy(offer.id)
    assert [order.state for order in stranger.orders()] == ["abandoned"]
    assert stranger.balance() == Decimal(1000)


def test_buy__when_the_journal_was_lost__finds_its_order_on_the_chain(
    seller: Machine, buyer: Machine, series: Path
) -> None:
    offer = seller.sell(series, price=1, serve=False)
    order = buyer.market.order(offer.id)
    with buyer.market.journal.write() as database:
        database.execute("DELETE FROM purchases WHERE order_id = ?", (order.order_id.hex(),))
    seller.serve_in_background()

    assert buyer.buy(offer.id).order_id == order.order_id
    assert buyer.balance() == Decimal(999)


def test_sell__when_the_device_measured_itself__sells_its_journal(
    seller: Machine, buyer: Machine, tmp_path: Path
) -> None:
    seller.sell(another_series(tmp_path), price=1, serve=False)  # gives the machine its device key
    signer = seller.chain.home.keyring.device(seller.name)
    schema = Schema((Field("temperature", unit="Cel", scale=1),))
    with ReadingJournal.open(
        tmp_path / "own", device=seller.device, schema=schema, curve="secp256k1", first_seq=500
    ) as journal:
        journal.sign_many(signer, [(1_700_000_000_000 + 1000 * step, (200 + step,)) for step in range(4)])
        offer = seller.sell(journal, price=1, title="Temperatures")

    frame = buyer.buy(offer.id).frame()

    assert frame["temperature"].tolist() == [20.0, 20.1, 20.2, 20.3]


def test_sell__when_the_journal_is_another_devices__is_refused(seller: Machine, buyer: Machine, tmp_path: Path) -> None:
    seller.sell(another_series(tmp_path), price=1, serve=False)
    buyer.sell(another_series(tmp_path), price=1, serve=False)
    schema = Schema((Field("temperature"),))
    with (
        ReadingJournal.open(tmp_path / "own", device=buyer.device, schema=schema, curve="secp256k1") as journal,
        pytest.raises(InputError, match="the journal is of device"),
    ):
        seller.sell(journal, price=1)


def another_series(folder: Path) -> Path:
    path = folder / f"series{next(_NUMBERS)}.csv"
    path.write_text(_SERIES + f"2015-09-01 14:00:00,{next(_NUMBERS)}.75\n")
    return path


def test_sell__when_it_is_published_on_a_web_server__is_bought_from_there(
    seller: Machine, buyer: Machine, series: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "www"
    folder.mkdir()
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        offer = seller.sell(series, price=1, bundle=str(folder), public_url=f"http://127.0.0.1:{server.server_port}/")
        purchase = buyer.buy(offer.id, out=tmp_path / "bought.csv")
        server.shutdown()

    assert offer.uri == f"http://127.0.0.1:{server.server_port}/{offer.bundle.name}"
    assert (tmp_path / "bought.csv").read_bytes() == series.read_bytes()
    assert buyer.buy(offer.id).order_id == purchase.order_id


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_sell__when_the_bundle_lies_in_a_folder_of_its_own__is_bought_where_that_is_allowed(
    seller: Machine, new_machine: Callable[..., Machine], series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    offer = seller.sell(series, price=1, bundle="bundles/mine.pyiot")

    assert offer.uri == (tmp_path / "bundles" / "mine.pyiot").as_uri()
    with pytest.raises(InputError, match="not below an allowed folder"):
        new_machine("buyer").buy(offer.id)
    allowed = new_machine("buyer", fetching=FetchPolicy.local(tmp_path / "bundles"))
    assert allowed.buy(offer.id).state == "settled"


def test_serve__when_one_key_is_lost__answers_the_others(seller: Machine, buyer: Machine, tmp_path: Path) -> None:
    lost, kept = (seller.sell(another_series(tmp_path), price=1, serve=False, **_WINDOWS) for _ in range(2))
    orders = [buyer.market.order(offer.id) for offer in (lost, kept)]
    sale = seller.market.journal.sale(lost.sale_id)
    assert sale is not None
    with seller.market.journal.write() as database:
        database.execute("DELETE FROM content_keys WHERE point = ?", (sale.point.hex(),))

    actions = {action.order_id: action for action in seller.serve(once=True)}

    assert {name: action.kind for name, action in actions.items()} == {
        orders[0].order_id: "failed",
        orders[1].order_id: "revealed",
    }
    assert "key restore" in actions[orders[0].order_id].error.hint
    seller.chain.increase_time(601)
    assert seller.refund(orders[0].order_id).state == "refunded"


def test_serve__when_confirmations_take_long__answers_many_orders_at_once(tmp_path: Path) -> None:
    """Each reveal once waited for its confirmations before the next began: with twelve blocks of twelve seconds, a
    seller with a dozen open orders missed their deadlines."""
    with Devnet(block_time=0.5) as devnet, connect(devnet.url, home=devnet.home, confirmations=3) as chain:
        seller = Machine.create(chain, "seller")
        offer = seller.sell(another_series(tmp_path), price=1, serve=False)
        for number in range(4):
            Machine.create(chain, f"buyer{number}").market.order(offer.id)
        chain.mine(4)

        assert [action.kind for action in seller.serve(once=True)] == ["revealed"] * 4
        logs = chain.logs(address=chain.addresses.data_market, topics=[OrderRevealed.TOPIC])
        assert len({log.block_number for log in logs}) <= 2
