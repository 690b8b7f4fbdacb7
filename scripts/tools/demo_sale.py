"""The demo's first act: machines sign a real series, sell it, buy it; a cheat is caught; a copy is sold on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from demo_ledger import SAMPLE, Act

from pyiot_evm import ContractError, Devnet, LocalSigner, Machine, ReadingJournal, SaleDisputedError
from pyiot_evm.cli.output import sparkline
from pyiot_evm.contracts.data_market import Order, OrderPaid
from pyiot_evm.market.datasets import read_table
from pyiot_evm.market.key_release import ContentKey, Sale, release
from pyiot_evm.market.offers import Summary, blank_offer
from pyiot_evm.market.packing import Place, seal_readings
from pyiot_evm.market.rules import RuleParams
from pyiot_evm.market.trader import NO_RESALE
from pyiot_evm.types import OfferId

if TYPE_CHECKING:
    from pathlib import Path

    from demo_ledger import Ledger

    from pyiot_evm import Chain, Listing, Purchase

FORGED_ROW, FORGERY = 1234, 100  # one more per cent of occupancy than the device signed
PRICE, RESALE_PRICE, BOND, ROYALTY = Decimal("0.50"), Decimal("0.40"), Decimal("0.25"), 10


@dataclass(frozen=True)
class Cast:
    """Who takes part."""

    sensor: Machine
    buyer: Machine
    forger: Machine
    collector: Machine


def tell(ledger: Ledger, folder: Path) -> None:
    """Sell honestly, cheat, and sell on."""
    print(f"the series is {SAMPLE.name}, of a real road sensor in Minnesota")
    print("(Numenta Anomaly Benchmark, copyright Numenta Inc., MIT licence)")
    devnet = Devnet()
    try:
        with ledger.step("start a devnet, deploy the contracts") as step:
            chain = devnet.start()
            ledger.use(chain)
            ledger.check(
                step, "the suite's code is what this version compiled", holds=bool(chain.addresses.data_market)
            )
        with ledger.step("make four machines, give them money") as step:
            names = ("sensor", "buyer", "forger", "collector")
            curves = {"sensor": "p256"}
            cast = Cast(*(Machine.create(chain, name, curve=curves.get(name)) for name in names))  # type: ignore[arg-type]
            entry = chain.home.keyring.entry("sensor")
            ledger.check(step, "the sensor's key is on P-256, as in a secure element", holds=entry.curve == "p256")
        purchase = honest_sale(ledger, chain, cast, folder)
        cheating_sale(ledger, chain, cast)
        resale(ledger, chain, cast, purchase, folder)
    finally:
        devnet.close()


def honest_sale(ledger: Ledger, chain: Chain, cast: Cast, folder: Path) -> Purchase:
    """Sell and buy the real series."""
    sensor, buyer = cast.sensor, cast.buyer
    with ledger.step("sensor signs, seals, lists 2,380 rows") as step:
        listing = sensor.sell(
            SAMPLE, price=PRICE, title="Road occupancy, detector 6005", tags=["traffic"], royalty=ROYALTY, serve=False
        )
        found = buyer.search(text="occupancy", tag="traffic")
        ledger.check(step, "every row of the file is one signed reading", holds=listing.rows == len(read_table(SAMPLE)))
        ledger.check(step, "the buyer finds it in the chain's logs", holds=[item.id for item in found] == [listing.id])
    with ledger.step("buyer checks the bundle, pays") as step:
        order = buyer.market.order(listing)
        ledger.check(
            step, "the market holds the price", holds=order.state == "paid" and buyer.balance() == 1000 - PRICE
        )
    with ledger.step("sensor reveals the key to this buyer") as step:
        actions = sensor.serve(once=True)
        ledger.check(step, "one key was revealed", holds=[action.kind for action in actions] == ["revealed"])
    out = folder / "bought.csv"
    with ledger.step("buyer verifies every row, settles") as step:
        purchase = buyer.buy(listing, out=out)
        ledger.check(step, "the bought file equals the sold one", holds=out.read_bytes() == SAMPLE.read_bytes())
        ledger.check(step, "the buyer holds the data token", holds=tokens(chain, buyer, listing.offer_id) == 1)
    show(purchase)
    with ledger.step("sensor takes its money out") as step:
        sensor.withdraw()
        ledger.check(step, "the sensor has earned 0.50", holds=sensor.balance() == 1000 + PRICE)
    return purchase


def show(purchase: Purchase) -> None:
    """Show what was bought: the first rows and the course of the values."""
    frame = purchase.frame()
    column = frame.columns[0]
    print()
    for line in frame.head(5).to_string().splitlines():
        print(f"    {line}")
    print(f"\n    {sparkline(frame[column])}")
    print(f"    {frame.index[0]:%d %b %Y}{' ' * 38}{frame.index[-1]:%d %b %Y}")
    print(f"    lowest {frame[column].min()}, highest {frame[column].max()}, {len(frame):,} rows")


def cheating_sale(ledger: Ledger, chain: Chain, cast: Cast) -> None:
    """A seller who forged one row loses price and bond."""
    forger, buyer = cast.forger, cast.buyer
    before = buyer.balance()
    with ledger.step(f"forger changes row {FORGED_ROW:,}, seals, lists") as step:
        key, offer = forge(chain, forger)
        offer_id = OfferId(forger.market.sale_id(offer))
        ledger.check(step, "it stands in the catalog like any other", holds=offer_id in {e.id for e in buyer.search()})
    with ledger.step("buyer checks the bundle, pays") as step:
        order = buyer.market.order(offer_id)
        ledger.check(step, "its bundle passes every check that needs no key", holds=order.state == "paid")
    with ledger.step("forger reveals the key") as step:
        order_struct, released = answer(chain, forger, key, offer)
        ledger.check(step, "a wrong key is refused", holds=is_refused(chain, forger, order_struct, released ^ 1))
        forger.market.trader.account.transact(forger.market.contract.reveal(order_struct, released))
    with ledger.step("buyer finds that row, disputes") as step:
        try:
            buyer.buy(offer_id)
            caught = -1
        except SaleDisputedError as error:
            caught = -1 if error.index is None else error.index
        ledger.check(step, f"row {FORGED_ROW:,} was named", holds=caught == FORGED_ROW)
        ledger.check(step, "price and bond are the buyer's", holds=buyer.credit() == PRICE + BOND)
    ledger.check(step, "in one transaction", holds=[t.function for t in step.transactions] == ["DataMarket.dispute"])
    with ledger.step("buyer takes price and bond out") as step:
        buyer.withdraw()
        ledger.check(step, "the buyer is 0.25 richer", holds=buyer.balance() == before + BOND)
        ledger.check(
            step,
            "the forger has lost its bond and earned nothing",
            holds=forger.balance() + forger.credit() == 1000 - BOND,
        )


def forge(chain: Chain, forger: Machine) -> tuple[ContentKey, Any]:
    """Build by hand what no honest program builds: a bundle with one row that is not what the device signed."""
    table, key, device = read_table(SAMPLE), ContentKey.create(), LocalSigner.create()
    path = chain.home.journals / "forger"
    with ReadingJournal.open(path, device=device.device, schema=table.schema, curve=device.curve) as journal:
        readings = journal.sign_many(device, list(zip(table.times, table.rows, strict=True)))
    honest = readings[FORGED_ROW]
    readings[FORGED_ROW] = replace(honest, values=(honest.values[0] + FORGERY,))
    params = RuleParams.of(readings, device.signer_bytes).encode()
    info = chain.token_info()
    terms = blank_offer(
        seller=forger.address, token=info.address, price=info.to_units(PRICE), bond=info.to_units(BOND), supply=1
    )
    bundle = chain.home.bundles / "forged.pyiot"
    metadata = table.metadata(title="Road occupancy, as good as new", tags=["traffic"])
    offer = seal_readings(
        [reading.leaf() for reading in readings],
        bundle,
        key=key,
        draft=replace(terms, rule=chain.addresses.signed_reading_rule),
        rule_params=params,
        metadata=metadata,
        place=Place(chain.chain_id, chain.addresses.data_market),
    )
    summary = Summary(device.device, metadata.first_time, metadata.last_time, len(table), metadata.title, metadata.tags)
    forger.deposit(BOND)
    market = forger.market
    market.trader.account.transact(market.contract.list(offer, bundle.as_uri(), summary.encode()))
    return key, offer


def answer(chain: Chain, forger: Machine, key: ContentKey, offer: Any) -> tuple[Order, int]:
    """Return the order that was placed and the key for its buyer, as the seller's own program would make it."""
    market, sale_id = chain.addresses.data_market, forger.market.sale_id(offer)
    (log,) = chain.logs(address=market, topics=[OrderPaid.TOPIC, None, sale_id])
    paid = OrderPaid.from_log(log)
    sale = Sale(chain.chain_id, market, sale_id, paid.buyer)
    point = (paid.ephemeral_x, paid.ephemeral_y)
    order = Order(offer, NO_RESALE, paid.buyer, paid.mask, *point)
    return order, release(sale, key, point, paid.mask)


def is_refused(chain: Chain, forger: Machine, order: Order, released: int) -> bool:
    """Return whether the contract refuses a key."""
    try:
        chain.simulate(forger.market.contract.reveal(order, released), forger.address)
    except ContractError:
        return True
    return False


def resale(ledger: Ledger, chain: Chain, cast: Cast, purchase: Purchase, folder: Path) -> None:
    """Sell the bought copy on; the first seller gets its royalty."""
    buyer, collector = cast.buyer, cast.collector
    before = cast.sensor.credit()
    with ledger.step("buyer lists its copy for 0.40") as step:
        listing = buyer.resell(purchase, price=RESALE_PRICE, serve=False)
        ledger.check(step, "the token is what is sold", holds=listing.offer_id == purchase.offer_id)
    with ledger.step("collector buys, verifies, settles") as step:
        collector.market.order(listing)
        buyer.serve(once=True)
        out = folder / "bought_second_hand.csv"
        collector.buy(listing, out=out)
        ledger.check(step, "the file is the same once more", holds=out.read_bytes() == SAMPLE.read_bytes())
        ledger.check(step, "the token has moved", holds=holders(chain, cast, listing) == (0, 1))
        royalty = RESALE_PRICE * ROYALTY / 100
        ledger.check(step, "the sensor's royalty is 0.04", holds=cast.sensor.credit() - before == royalty)
        ledger.check(step, "the buyer got the other 0.36", holds=buyer.credit() == RESALE_PRICE - royalty)


def tokens(chain: Chain, machine: Machine, offer_id: OfferId) -> int:
    """Return how many data tokens of an offer a machine holds."""
    return int(chain.call(machine.market.contract.balance_of(machine.address, int.from_bytes(offer_id, "big"))))


def holders(chain: Chain, cast: Cast, listing: Listing) -> tuple[int, int]:
    """Return how many tokens buyer and collector hold."""
    return tokens(chain, cast.buyer, listing.offer_id), tokens(chain, cast.collector, listing.offer_id)


ACT = Act(1, "Data: a sale, a cheat, a resale", tell)
