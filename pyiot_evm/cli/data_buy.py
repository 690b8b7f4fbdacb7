"""``pyiot data``, the buyer's side: buy, and what to do with orders."""

from functools import partial

from pyiot_evm.cli import documents
from pyiot_evm.cli.data_options import (
    Again,
    AllowDir,
    AllowPrivate,
    MaxPrice,
    Offer,
    OrderRef,
    Out,
    Timeout,
    duration,
    nouns,
)
from pyiot_evm.cli.data_session import buying, check_ending, open_market, order_id, sale_reference
from pyiot_evm.cli.files import writable
from pyiot_evm.cli.options import CHAIN, KEYS, SENDS, TOKEN, As, command
from pyiot_evm.cli.session import Session

__all__: list[str] = []

_COLUMNS = {"id": "ORDER", "role": "ROLE", "state": "STATE", "until": "UNTIL", "price": "PRICE", "offer": "OFFER"}


@command(nouns, "buy", CHAIN, TOKEN, SENDS, KEYS)
def buy(
    session: Session,
    *,
    offer: Offer,
    name: As,
    out: Out,
    max_price: MaxPrice = None,
    timeout: Timeout = None,
    again: Again = False,
    allow_dir: AllowDir = None,
    allow_private_hosts: AllowPrivate = False,
) -> None:
    """Buy a data set: check it, pay, wait for the key, check every row, write the file.

    Nothing is paid unless the bundle can only be good or be disputed. When every row is as promised the order is
    settled; when one is not, it is disputed at once and price and bond come back; when nobody reveals the key in time,
    the refund is taken. The last two end with exit code 1 and the reason.

    The same command again goes on where it was stopped and never pays twice; what is bought already is written again.

    Example:
        pyiot data buy 0x3fa9c1d2 --as buyer --out occupancy.csv
    """
    file = writable(out)
    market = open_market(session, name, allow_dir=allow_dir, allow_private=allow_private_hosts)
    policy = buying(session, max_price=max_price, timeout=None if timeout is None else duration(timeout))
    reference = sale_reference(market, offer)
    target = market.target(reference)
    check_ending(target, file)
    session.output.say(documents.target_line(session.chain, target))
    order = market.order(reference, again=again, policy=policy)
    session.output.say(documents.paid_line(session.chain, order))
    with session.output.waiting("waiting for the seller's key"):
        purchase = market.buy(reference, again=again and order.state == "paid", policy=policy)
    write = partial(purchase.write, file, progress=partial(session.output.progress, "writing the file"))
    session.output.show_written(documents.purchase(session.chain, purchase, file), write)


@command(nouns, "orders", CHAIN, TOKEN, KEYS)
def orders(session: Session, *, name: As) -> None:
    """List NAME's orders, as buyer and as seller, with their deadlines.

    The states are those of the chain now. UNTIL is when the seller must have revealed (paid), or when the buyer can no
    longer dispute (revealed), in UTC.

    Example:
        pyiot data orders --as buyer
    """
    rows = [documents.order_row(session.chain, found) for found in open_market(session, name).orders()]
    session.output.show_rows("orders", rows, _COLUMNS, f"{name} has no orders")


@command(nouns, "settle", CHAIN, TOKEN, SENDS, KEYS)
def settle(session: Session, *, order: OrderRef, name: As) -> None:
    """Settle a revealed order: the seller is paid, the buyer gets the data token.

    As the buyer every row is checked first, and a wrong one is disputed. As the seller it is possible once the dispute
    window has passed; `pyiot data serve` does it by itself.

    Example:
        pyiot data settle 0x77aa01bc --as buyer
    """
    market = open_market(session, name)
    session.output.show(documents.order(session.chain, market.settle(order_id(market, order))))


@command(nouns, "refund", CHAIN, TOKEN, SENDS, KEYS)
def refund(session: Session, *, order: OrderRef, name: As) -> None:
    """Take the money of an order back that nobody revealed in time; as its seller, give it back.

    Example:
        pyiot data refund 0x77aa01bc --as buyer
    """
    market = open_market(session, name)
    session.output.show(documents.order(session.chain, market.refund(order_id(market, order))))


@command(nouns, "dispute", CHAIN, TOKEN, SENDS, KEYS)
def dispute(session: Session, *, order: OrderRef, name: As) -> None:
    """Check every row of a revealed order, and show the chain the first that breaks the promise.

    `pyiot data buy` does this by itself. Where every row is as promised nothing is sent, and it exits 2.

    Example:
        pyiot data dispute 0x77aa01bc --as buyer
    """
    market = open_market(session, name)
    session.output.show(documents.order(session.chain, market.dispute(order_id(market, order))))
