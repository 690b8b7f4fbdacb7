"""What strangers and cheats try against machines that trade: the rows of the design's list that the SDK answers."""

from __future__ import annotations

import itertools
import json
import threading
import time
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from pyiot_evm import SaleRefundedError
from pyiot_evm.chain import contract_errors
from pyiot_evm.contracts.data_market import OrderPaid, OrderRevealed
from pyiot_evm.exceptions import (
    BudgetError,
    ConsistencyError,
    InputError,
    SigningError,
    TransactionError,
    VerificationError,
)
from pyiot_evm.identity import Devices
from pyiot_evm.market.buyer import BuyerPolicy
from pyiot_evm.market.catalog import Query
from pyiot_evm.market.key_release import ContentKey
from pyiot_evm.market.publishing import SaleTerms
from pyiot_evm.market.records import SaleState
from pyiot_evm.market.vault import Vault
from pyiot_evm.relay import carry
from pyiot_evm.types import Address, Bytes32, OrderId, SaleId

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm import Machine
    from pyiot_evm.chain import Chain
    from pyiot_evm.hostile import Hostile
    from pyiot_evm.testing import Machines

_NUMBERS = itertools.count()


@pytest.fixture
def series(tmp_path: Path) -> Path:
    path = tmp_path / "series.csv"
    rows = "".join(f"2015-09-01 13:{minute:02d}:00,{minute}.25\n" for minute in range(10, 20))
    path.write_text(f"timestamp,value\n{rows}2015-09-01 14:00:00,{next(_NUMBERS)}.75\n")
    return path


def orders_of(chain: Chain, machine: Machine) -> list[OrderPaid]:
    """Every payment of a machine, from the logs."""
    topics = [OrderPaid.TOPIC, None, None, bytes(12) + machine.address]
    logs = chain.logs(address=chain.addresses.data_market, topics=topics)
    return [OrderPaid.from_log(log) for log in logs]


def reveals_of(chain: Chain, order: OrderId) -> int:
    topics = [OrderRevealed.TOPIC, order]
    return len(chain.logs(address=chain.addresses.data_market, topics=topics))


def sell_changed(machine: Machine, series: Path, **changes: Any) -> Any:
    """Sell a table whose source or whose terms are changed in a way that ``Machine.sell`` does not allow."""
    source = machine.source(series)
    info = machine.chain.token_info()
    terms = SaleTerms(price=info.to_units(1), token=info.address, title="A series")
    kept = {name: value for name, value in changes.items() if name in SaleTerms.__dataclass_fields__}
    source = replace(source, **{name: value for name, value in changes.items() if name not in kept})
    return machine.market.sell(source, replace(terms, **kept))


# What strangers list


@pytest.mark.parametrize(
    "lies",
    [
        {"title": "Free energy"},
        {"device": Bytes32(b"\x01" * 32)},
        {"rows": 1_000_000},
        {"first_time": 0},
        {"last_time": (1 << 64) - 1},
    ],
    ids=lambda lies: next(iter(lies)),
)
def test_buy__when_the_listing_lies__pays_nothing(
    machines: Machines, hostile: Hostile, series: Path, lies: dict[str, Any]
) -> None:
    listing = machines.seller.sell(series, price=1)
    hostile.list_falsely(machines.seller, listing, **lies)

    with pytest.raises(VerificationError, match="the listing of"):
        machines.buyer.buy(listing.id)
    assert orders_of(machines.buyer.chain, machines.buyer) == []


@pytest.mark.parametrize(
    "uri",
    ["file:///etc/passwd", "/etc/passwd", "file:///proc/self/environ", "s3://bucket/key", "local::file:///etc/passwd"],
)
def test_buy__when_the_address_is_not_allowed__reads_nothing(
    machines: Machines, hostile: Hostile, series: Path, uri: str
) -> None:
    listing = machines.seller.sell(series, price=1)
    hostile.list_falsely(machines.seller, listing, uri=uri)

    with pytest.raises(InputError):
        machines.buyer.buy(listing.id)
    assert orders_of(machines.buyer.chain, machines.buyer) == []


@pytest.mark.parametrize(
    ("uri", "summary"),
    [
        ("ok", b"\xff" * 64),
        ("ok", bytes(32)),
        ("\x1b[2J\u202e" * 100, bytes(32)),
    ],
)
def test_search__when_a_stranger_lists_garbage__goes_on(
    machines: Machines, series: Path, uri: str, summary: bytes
) -> None:
    listing = machines.seller.sell(series, price=1, title="An honest title", serve=False)
    stranger = machines.stranger
    offer = replace(listing.offer, seller=stranger.address, salt=next(_NUMBERS))
    stranger.market.trader.account.transact(stranger.market.contract.list(offer, uri, summary))

    found = stranger.search(seller=stranger.address)

    assert [(entry.title, entry.tags) for entry in found] == [("", ())]
    assert "\x1b" not in found[0].uri
    assert "\u202e" not in found[0].uri
    assert listing.id in [entry.id for entry in machines.buyer.search(text="honest title")]


def test_search__when_a_listing_is_not_text__leaves_it_out(machines: Machines, series: Path) -> None:
    """A URI of bytes that are no UTF-8 once ended every scan: anybody could have switched all catalogs off."""
    listing = machines.seller.sell(series, price=1, serve=False)
    stranger = machines.stranger
    offer = replace(listing.offer, seller=stranger.address, salt=next(_NUMBERS))
    call = stranger.market.contract.list(offer, "placeholder", bytes(32))
    broken = replace(call, data=call.data.replace(b"placeholder", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6\xf5"))
    stranger.market.trader.account.transact(broken)

    assert stranger.search(seller=stranger.address) == []
    assert listing.id in [entry.id for entry in stranger.search()]


@pytest.mark.parametrize("word", ["100%", "_", "\\", "' OR 1=1 --", "%' OR '%'='"])
def test_search__when_the_text_has_signs_of_sql__takes_them_as_they_are(
    machines: Machines, series: Path, word: str
) -> None:
    machines.seller.sell(series, price=1, title="nothing of the sort", serve=False)

    assert machines.buyer.search(text=word, seller=machines.seller.address) == []


def test_buy__when_the_rule_is_foreign__pays_nothing(machines: Machines, series: Path) -> None:
    listing = sell_changed(machines.seller, series, rule=machines.seller.chain.addresses.dev_dollar)

    with pytest.raises(VerificationError, match="rule"):
        machines.buyer.buy(listing.id)
    assert orders_of(machines.buyer.chain, machines.buyer) == []


@pytest.mark.parametrize(
    "windows", [{"dispute_window": 300}, {"reveal_window": 29 * 86_400}, {"dispute_window": 29 * 86_400}]
)
def test_buy__when_a_window_is_outside_the_policy__pays_nothing(
    machines: Machines, series: Path, windows: dict[str, int]
) -> None:
    listing = sell_changed(machines.seller, series, **windows)

    with pytest.raises(VerificationError, match="seconds"):
        machines.buyer.buy(listing.id)
    assert orders_of(machines.buyer.chain, machines.buyer) == []


def test_buy__when_the_bundle_is_of_another_sale__pays_nothing(
    machines: Machines, hostile: Hostile, series: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text(series.read_text().replace("13:10", "13:09"))
    good, bad = machines.seller.sell(series, price=1), machines.seller.sell(other, price=1)
    hostile.list_falsely(machines.seller, good, uri=bad.uri)

    with pytest.raises(VerificationError, match="the bundle is of offer"):
        machines.buyer.buy(good.id)
    hostile.list_falsely(machines.seller, good, uri=good.uri)
    assert machines.buyer.buy(good.id).state == "settled"


def test_buy__when_the_seller_changes_the_bundle_after_the_payment__has_its_own_copy(
    machines: Machines, series: Path, tmp_path: Path
) -> None:
    listing = machines.seller.sell(series, price=1, serve=False)
    machines.buyer.market.order(listing.id)
    listing.bundle.write_bytes(b"gone")
    machines.seller.serve(once=True)

    machines.buyer.buy(listing.id, out=tmp_path / "bought.csv")

    assert (tmp_path / "bought.csv").read_bytes() == series.read_bytes()


# Keys and masks


@pytest.mark.parametrize("trick", ["order_with_bad_mask", "order_off_curve"])
def test_serve__when_the_order_is_a_trick__no_loop_ever_reveals_it(
    machines: Machines, hostile: Hostile, series: Path, trick: str
) -> None:
    listing = machines.seller.sell(series, price=1, serve=False)
    order = getattr(hostile, trick)(machines.buyer, listing)

    loops = [machines.seller.market.seller_loop() for _ in range(2)]
    threads = [threading.Thread(target=loop.step) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert reveals_of(machines.seller.chain, order) == 0
    assert machines.buyer.credit() == Decimal(1)


def test_serve__when_a_broker_orders_with_a_victims_point_and_mask__refunds(
    machines: Machines, hostile: Hostile, series: Path
) -> None:
    listing = machines.seller.sell(series, price=1, serve=False)
    victim, broker = machines.buyer, machines.stranger
    bought = victim.market.order(listing.id).order_id
    replayed = hostile.replay_key(broker, victim, bought, listing)

    actions = {action.order_id: action.kind for action in machines.seller.serve(once=True)}

    assert actions == {bought: "revealed", replayed: "refunded"}


def test_serve__when_two_loops_race__sends_one_reveal(machines: Machines, series: Path) -> None:
    listing = machines.seller.sell(series, price=1, serve=False)
    order = machines.buyer.market.order(listing.id).order_id
    loops = [machines.seller.market.seller_loop() for _ in range(4)]
    failures: list[BaseException] = []

    def step(loop: Any) -> None:
        try:
            failures.extend(action.error for action in loop.step() if action.error is not None)
        except BaseException as error:  # noqa: BLE001 - told by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=step, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert reveals_of(machines.seller.chain, order) == 1


def test_buy__when_two_threads_buy_for_one_account__pays_once(machines: Machines, series: Path) -> None:
    listing = machines.seller.sell(series, price=1)
    found: list[Any] = []

    def buy() -> None:
        try:
            found.append(machines.buyer.buy(listing.id).order_id)
        except BaseException as error:  # noqa: BLE001 - told by the assertion below
            found.append(error)

    threads = [threading.Thread(target=buy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(found)) == 1
    assert len(orders_of(machines.buyer.chain, machines.buyer)) == 1
    assert machines.buyer.balance() == Decimal(999)


def test_advance_sale__when_a_key_would_seal_a_second_root__is_refused(machines: Machines, series: Path) -> None:
    journal = machines.seller.market.journal
    listing = machines.seller.sell(series, price=1, serve=False)
    sale = journal.sale(listing.sale_id)
    assert sale is not None
    other = replace(listing.offer, sealed_root=Bytes32(b"\x01" * 32))

    with pytest.raises(ConsistencyError, match="another root"):
        journal.advance_sale(sale.key, SaleState.LISTED, SaleState.LISTED, offer=other)
    kept = journal.sale(listing.sale_id)
    assert kept is not None
    assert kept.offer == listing.offer


def test_content_key__when_the_journal_is_read_by_another_account__stays_shut(machines: Machines, series: Path) -> None:
    listing = machines.seller.sell(series, price=1, serve=False)
    sale = machines.seller.market.journal.sale(listing.sale_id)
    assert sale is not None
    sealed = machines.seller.market.journal.content_key(sale.point, machines.seller.address)
    key = machines.seller.market.trader.content_key(sale.point)

    assert sealed is not None
    assert key not in sealed
    assert ContentKey.from_bytes(key).point == (listing.offer.key_x, listing.offer.key_y)
    with pytest.raises(ConsistencyError, match="not encrypted by this account"):
        machines.buyer.market.trader.vault.decrypt(sealed, label=sale.point)
    for path in machines.seller.chain.path.glob("market.sqlite*"):
        assert key not in path.read_bytes()
        assert key.hex().encode() not in path.read_bytes()


def test_vault__when_signatures_are_not_deterministic__refuses() -> None:
    class Dice:
        signer_bytes = bytes(20)

        def sign_digest(self, _: bytes) -> bytes:
            return next(_NUMBERS).to_bytes(65, "big")

    with pytest.raises(SigningError, match="not deterministic"):
        Vault.of(Dice())


def test_serve__when_a_refund_was_signed_for_a_relayer__never_reveals(machines: Machines, series: Path) -> None:
    """A relayer who withholds a signed refund until the key is out would get the buyer the data and the money."""
    listing = machines.seller.sell(series, price=1, serve=False)
    order = machines.buyer.market.order(listing.id).order_id
    request = machines.seller.market.sign_refund(order)
    record = machines.seller.market.journal.order(order)
    assert record is not None
    assert record.decision == "refund"

    assert machines.seller.market.journal.decide(order, "reveal") == "refund"
    trader = machines.stranger.market.trader
    trader.account.transact(carry(request, trader.contract))

    assert reveals_of(machines.seller.chain, order) == 0
    assert machines.seller.serve(once=True) == []
    assert machines.buyer.credit() == Decimal(1)


# Device keys that change after the sale


@pytest.mark.parametrize("change", ["revoke", "rotate"])
def test_buy__when_the_device_key_changes_after_the_sale__the_sale_stands(
    machines: Machines, series: Path, change: str
) -> None:
    seller = machines.new("seller", curve="p256")
    listing = seller.sell(series, price=1, serve=False)
    machines.buyer.market.order(listing.id)
    devices = Devices(seller.chain, account=seller.market.trader.account)
    assert seller.device is not None
    if change == "revoke":
        devices.revoke(seller.device)
    else:
        keyring = seller.chain.home.keyring
        devices.rotate(seller.device, keyring.stage_device(seller.name, curve="p256"))
        keyring.activate_device(seller.name)
    seller.serve(once=True)

    purchase = machines.buyer.buy(listing.id)

    assert purchase.state == "settled"
    with pytest.raises(InputError, match="nothing to dispute"):
        machines.buyer.dispute(purchase.order_id)
    assert machines.stranger.verify(listing.id).rows == 11


def test_sell__when_the_key_was_not_the_devices_then__is_refused(machines: Machines, series: Path) -> None:
    seller = machines.new("seller", curve="p256")
    seller.sell(series, price=1, serve=False)
    keyring = seller.chain.home.keyring
    assert seller.device is not None
    devices = Devices(seller.chain, account=seller.market.trader.account)
    devices.rotate(seller.device, keyring.stage_device(seller.name, curve="p256"))
    keyring.activate_device(seller.name)

    series.write_text(series.read_text().replace("13:10", "13:08"))
    with pytest.raises(InputError, match="nobody would buy"):
        seller.sell(series, price=1)


def test_buy__when_the_readings_are_another_devices__pays_nothing(machines: Machines, series: Path) -> None:
    thief = machines.stranger
    victim = machines.seller
    source = victim.source(series)
    mine = thief.source(series)
    listing = sell_changed(thief, series, device=source.device)

    assert mine.device != source.device
    with pytest.raises(VerificationError, match="was not device"):
        machines.buyer.buy(listing.id)
    assert orders_of(machines.buyer.chain, machines.buyer) == []


# Silence and races


def test_buy__when_both_are_silent__anyone_can_end_it(machines: Machines, series: Path) -> None:
    listing = machines.seller.sell(series, price=1, serve=False, reveal_window=600)
    order = machines.buyer.market.order(listing.id).order_id
    record = machines.buyer.market.journal.purchase(order)
    assert record is not None
    trader = machines.stranger.market.trader
    whole = trader.order_struct(record.offer, record.resale, record)
    with pytest.raises(contract_errors.WindowIsOpen):
        trader.account.transact(trader.contract.refund(whole))
    machines.seller.chain.increase_time(601)

    trader.account.transact(trader.contract.refund(whole))

    with pytest.raises(SaleRefundedError):
        machines.buyer.market.buyer().finish(record)
    assert machines.buyer.credit() == Decimal(1)


def test_buy__when_two_want_the_last_copy__one_gets_it_and_nobody_loses(machines: Machines, series: Path) -> None:
    listing = machines.seller.sell(series, price=1, copies=1)
    wanting = [machines.new("buyer") for _ in range(3)]
    endings: list[Any] = []

    def buy(machine: Machine) -> None:
        try:
            endings.append(machine.buy(listing.id).state)
        except contract_errors.SupplyExhausted:
            endings.append("late")

    threads = [threading.Thread(target=buy, args=(machine,)) for machine in wanting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(endings) == ["late", "late", "settled"]
    assert sorted(machine.balance() for machine in wanting) == [Decimal(999), Decimal(1000), Decimal(1000)]


def test_resell__when_one_token_is_listed_twice__only_one_buyer_pays(machines: Machines, series: Path) -> None:
    holder, third, fourth = machines.buyer, machines.stranger, machines.new("fourth")
    holder.buy(machines.seller.sell(series, price=1).id)
    offer = machines.seller.listings()[0]
    cheap, dear = holder.resell(offer.id, price=2), holder.resell(offer.id, price=3)

    assert third.buy(cheap.id).state == "settled"
    with pytest.raises(contract_errors.HolderHasNoToken):
        fourth.buy(dear.id)
    assert fourth.balance() == Decimal(1000)


def test_finish__when_the_timeout_ends__can_be_gone_on_with(machines: Machines, series: Path) -> None:
    listing = machines.seller.sell(series, price=1, serve=False)

    with pytest.raises(Exception, match="not revealed yet") as caught:
        machines.buyer.buy(listing.id, timeout=0.3)
    assert caught.value.retryable  # type: ignore[attr-defined]
    machines.seller.serve(once=True)
    assert machines.buyer.buy(listing.id, timeout=5).state == "settled"
    assert len(orders_of(machines.buyer.chain, machines.buyer)) == 1


def test_search__when_a_reorganisation_takes_a_listing_back__forgets_it(machines: Machines, series: Path) -> None:
    seller = machines.seller
    first = seller.sell(series, price=1, serve=False)
    snapshot = seller.chain.snapshot()
    series.write_text(series.read_text().replace("13:10", "13:07"))
    second = seller.sell(series, price=1, serve=False)
    seller.cancel(first.id)
    assert [entry.id for entry in seller.search(seller=seller.address)] == [second.id]

    seller.chain.revert(snapshot)
    seller.chain.mine(8)

    assert [entry.id for entry in seller.search(seller=seller.address)] == [first.id]


def test_watch__when_something_is_listed__tells_it_once(machines: Machines, series: Path) -> None:
    seller, seen = machines.seller, []
    first = seller.sell(series, price=1, serve=False)
    watch = machines.buyer.market.watch(Query(seller=seller.address), poll=0.01)
    seen.append(next(watch).id)
    second = seller.sell(series, price=2, serve=False)
    seen.append(next(watch).id)

    assert seen == [first.id, second.id]


def test_buy__when_another_policy_settles_later__gives_the_data_at_once(machines: Machines, series: Path) -> None:
    listing = machines.seller.sell(series, price=1)

    purchase = machines.buyer.buy(listing.id, policy=BuyerPolicy(settle=False))

    assert (purchase.state, purchase.frame()["value"].iloc[0]) == ("revealed", 10.25)
    assert machines.seller.credit() == Decimal(0)
    assert machines.buyer.settle(purchase.order_id).state == "settled"
    assert machines.seller.credit() == Decimal(1)


def test_serve__when_this_machines_clock_is_ahead_of_a_devnets__still_reveals(
    machines: Machines, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A devnet that goes back to a snapshot gets that block's clock: by this machine's own, every order seemed late."""
    listing = machines.seller.sell(series, price=1, serve=False, reveal_window=600)
    machines.buyer.market.order(listing.id)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 10_000)

    assert [action.kind for action in machines.seller.serve(once=True)] == ["revealed"]


def test_now__when_a_devnet_has_not_mined_for_a_while__is_the_next_blocks_time(machines: Machines) -> None:
    chain, trader = machines.seller.chain, machines.seller.market.trader
    chain.mine()
    mined = chain.now()
    chain.rpc("evm_increaseTime", 60)
    now = trader.now()
    assert (chain.now(), now >= mined + 60) == (mined, True)
    chain.mine()

    assert 0 <= chain.now() - now <= 2


def test_offer_file__when_it_names_a_block_to_come__does_not_hide_the_reveal(
    machines: Machines, series: Path, tmp_path: Path
) -> None:
    listing = machines.seller.sell(series, price=1, private=True)
    document = json.loads(listing.file.read_text())
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(document | {"block": 10**9}))

    assert machines.buyer.buy(forged, timeout=30).state == "settled"


def test_buy__when_the_sale_asks_for_another_token_than_the_limit__signs_nothing(
    machines: Machines, series: Path
) -> None:
    offer = machines.seller.sell(series, price=1, serve=False)
    policy = BuyerPolicy(max_price=10**30, token=Address(b"\x11" * 20))

    with pytest.raises(BudgetError, match="the limit is in token"):
        machines.buyer.buy(offer.id, policy=policy)
    assert machines.buyer.orders() == []


def test_buy__when_its_payment_was_refused_and_is_known__cannot_be_made_to_pay_twice(
    machines: Machines, series: Path
) -> None:
    seller, buyer = machines.seller, machines.buyer
    offer = seller.sell(series, price=1, bond="0.50", serve=False)
    signed = buyer.market.authorize(offer.id)
    seller.withdraw()
    with pytest.raises(contract_errors.CreditTooLow):
        buyer.market.order(offer.id)
    seller.deposit(5)

    assert buyer.market.order(offer.id).order_id == signed.order.order_id
    with pytest.raises(contract_errors.OrderAlreadyMade):
        seller.market.submit(signed)
    assert buyer.balance() == Decimal(999)


def test_orders__when_a_refused_payment_was_carried_by_somebody_else__shows_it(
    machines: Machines, series: Path
) -> None:
    seller, buyer = machines.seller, machines.buyer
    offer = seller.sell(series, price=1, bond="0.50", serve=False)
    signed = buyer.market.authorize(offer.id)
    seller.withdraw()
    with pytest.raises(contract_errors.CreditTooLow):
        buyer.market.order(offer.id)
    seller.deposit(5)
    seller.market.submit(signed)

    assert [order.state for order in buyer.orders()] == ["paid"]


def test_withdraw__when_a_crash_interrupted_another_one__still_does_what_is_asked(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = machines.new("saver")
    machine.deposit(10)
    with monkeypatch.context() as patch:
        patch.setattr(machine.market.journal, "add_transaction", _crash)
        with pytest.raises(KeyboardInterrupt):
            machine.withdraw(5)

    machine.withdraw(2, to=machines.stranger.address)

    assert (machine.credit(), machines.stranger.balance()) == (Decimal(3), Decimal(1002))


def test_withdraw__when_an_earlier_one_was_cancelled__goes_through(machines: Machines, devnet: Chain) -> None:
    machine = machines.new("saver")
    machine.deposit(10)
    trader = machine.market.trader
    devnet.set_automine(False)
    try:
        call = trader.contract.withdraw(devnet.token, 3 * 10**6, machine.address)
        key = "market:" + trader._withdrawal_key(f"withdraw {devnet.token}")
        trader.account.cancel(trader.account.send(call, key=key))
        devnet.mine()
    finally:
        devnet.set_automine(True)

    assert machine.withdraw(3) is not None
    assert machine.credit() == Decimal(7)


def test_send_once__when_its_transaction_was_cancelled__can_be_done_again(machines: Machines, devnet: Chain) -> None:
    machine = machines.new("saver")
    machine.deposit(10)
    trader = machine.market.trader
    call = trader.contract.withdraw(devnet.token, 3 * 10**6, machine.address)
    devnet.set_automine(False)
    try:
        started = trader.begin("subject", "act", call)
        trader.account.cancel(started.pending)
        devnet.mine()
    finally:
        devnet.set_automine(True)
    with pytest.raises(TransactionError, match="cancelled"):
        trader.send_once("subject", "act", call)

    trader.send_once("subject", "act", call)
    assert machine.credit() == Decimal(7)


def _crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_ensure_credit__when_an_earlier_deposit_was_taken_out_again__pays_in_once_more(machines: Machines) -> None:
    machine = machines.new("saver")
    payments, sale = machine.market._payments, SaleId(b"\x07" * 32)
    token = machine.market.chain.token
    payments.ensure_credit(sale, token, 10**6)
    machine.withdraw(1)

    payments.ensure_credit(sale, token, 10**6)

    assert machine.credit() == Decimal(1)
