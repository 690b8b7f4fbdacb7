"""Readings bought one by one over a real connection: both modes, many readings, exact balances, where to begin."""

import threading
import time
from itertools import islice

import pytest
from websockets.sync.client import connect

from pyiot_evm import Machine
from pyiot_evm.chain import Devnet
from pyiot_evm.chain.abi import selector
from pyiot_evm.chain.deployment import X402_CHANNELS
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.contracts.payment_channels import LockOpened
from pyiot_evm.device import Field, LocalSigner, ReadingJournal, Schema
from pyiot_evm.exceptions import BudgetError, InputError, TransportError
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.identity import Devices
from pyiot_evm.payment.budgets import Budget
from pyiot_evm.payment.stream import ReadingStream, StreamPlace
from pyiot_evm.payment.stream_buyer import StreamTerms
from pyiot_evm.payment.stream_errors import StreamFaultError, StreamStalledError
from pyiot_evm.payment.stream_keys import lock_of
from pyiot_evm.payment.stream_messages import Message
from pyiot_evm.payment.vouchers import sign_voucher
from pyiot_evm.types import Bytes32

PRICE, MONEY, COUNT = 100, "0.0001", 210
BEGIN = 1_700_000_000_000


def dollars(machine):
    return machine.chain.call(Erc20(machine.chain.token).balance_of(machine.address))


def numbers(stream):
    with stream as readings:
        return [reading.seq for reading in readings]


@pytest.fixture(scope="module")
def devnet():
    with Devnet() as chain:
        yield chain


@pytest.fixture
def seller(machines):
    return machines.new("seller", curve="p256")


@pytest.fixture
def buyer(machines):
    return machines.new("buyer", curve="p256")


@pytest.fixture
def gateway(seller):
    made = Gateway(seller, GatewayConfig(price_stream=PRICE))
    made.url = made.start()
    yield made
    made.close()


@pytest.mark.parametrize("mode", ["locked", "plain"])
@pytest.mark.parametrize("device_key", [False, True], ids=["secp256k1", "p256"])
def test_stream__when_both_are_honest__sells_every_reading_and_pays_to_the_unit(
    seller, buyer, gateway, measure, mode, device_key
):
    measured = measure(seller, COUNT)
    before = dollars(seller), dollars(buyer)
    options = {"max_price": MONEY, "mode": mode, "follow": False, "prepay": COUNT, "device_key": device_key}
    with buyer.stream(gateway.url, seller.device, **options) as readings:
        bought = list(readings)
    assert [reading.reading for reading in bought] == measured
    assert [str(reading.values["temperature"]) for reading in bought[:3]] == ["20.00", "21.00", "22.00"]
    (channel,) = gateway.payments.payee.book.channels()
    assert (channel.charged, channel.ceiling) == (COUNT * PRICE, COUNT * PRICE)
    assert buyer.payments.spending().in_period == COUNT * PRICE
    (claim,) = gateway.payments.claim()
    assert claim.amount == COUNT * PRICE
    gateway.payments.settle()
    assert (dollars(seller), dollars(buyer)) == (before[0] + COUNT * PRICE, before[1] - COUNT * PRICE)


def test_stream__when_readings_are_still_to_come__waits_for_each(seller, buyer, gateway, measure):
    measure(seller, 1)
    came, done = [], threading.Event()

    def buy():
        with buyer.stream(gateway.url, seller.device, max_price=MONEY) as readings:
            for reading in readings:
                came.append(reading.seq)
                if reading.seq == 3:
                    break
        done.set()

    thread = threading.Thread(target=buy)
    thread.start()
    for expected in range(4):
        end = time.monotonic() + 30
        while len(came) <= expected and time.monotonic() < end:
            time.sleep(0.01)
        assert came == list(range(expected + 1))
        measure(seller, 1)
    assert done.wait(30)
    thread.join()
    (channel,) = gateway.payments.payee.book.channels()
    assert (channel.charged, channel.ceiling) == (4 * PRICE, 4 * PRICE)


def test_stream__when_told_where_to_begin__begins_there_and_goes_on_from_there(seller, buyer, gateway, measure):
    measure(seller, 8)

    def some(count, **where):
        with buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False, **where) as readings:
            return [reading.seq for reading in islice(readings, count)]

    assert some(2) == [0, 1]
    assert some(1, since=BEGIN + 4_500) == [5]
    assert some(1) == [6]
    assert some(1, start=3) == [3]
    assert some(9, start="next") == []
    with pytest.raises(TransportError, match="there are readings from 0 to 7, not 99"):
        some(1, start=99)
    with pytest.raises(InputError, match="not a reading to begin with"):
        some(1, start="last")
    with pytest.raises(InputError, match="with a reading or at a time, not with both"):
        some(1, start=3, since=BEGIN)
    bought = buyer.payments.purchases.bought(seller.device)
    assert [item.seq for item in bought] == [0, 1, 3, 5, 6]


def test_stream__when_the_same_terms_serve_twice__begins_both_times_where_it_was_asked_for(
    seller, buyer, gateway, measure
):
    """The first stream wrote into its terms that it had moved, and the second went on where the first had ended.

    The gateway offered the last reading again as one that never came, for nothing; the buyer refused it.
    """
    measure(seller, 6)
    place = StreamPlace(gateway.url, seller.device, start=3, follows=False)
    terms = StreamTerms(device=seller.device, mode="locked", token=buyer.chain.token, most=PRICE, moves=True)
    for _ in range(2):
        with ReadingStream(buyer.payments, place, terms) as readings:
            assert next(readings).seq == 3


def test_quote__when_asked__says_what_a_stream_would_cost_and_leaves_no_trace(seller, buyer, gateway, measure):
    measure(seller, 3)

    def quote(**options):
        with buyer.stream(gateway.url, seller.device, follow=False, **({"max_price": MONEY} | options)) as stream:
            return stream.quote()

    asked = quote(prepay=10)
    assert (asked.price, asked.payee, asked.seq, asked.pays_in) == (PRICE, seller.address, 0, 10 * PRICE)
    assert (buyer.payments.channels()[0], buyer.payments.purchases.all()) == ([], [])
    with buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False, prepay=2) as readings:
        assert next(readings).seq == 0
    before = buyer.payments.channels()
    assert [(q.seq, q.pays_in) for q in (quote(), quote(start=2), quote(prepay=1))] == [(1, 0), (2, 0), (1, 0)]
    assert buyer.payments.channels() == before
    with pytest.raises(BudgetError, match="a reading costs"):
        quote(max_price="0.00001")
    buyer.payments.set_budget(Budget(each_payment=PRICE - 1))
    with pytest.raises(BudgetError, match="the budget allows"):
        quote()


def test_stream__when_what_came_was_not_taken__gives_it_out_again_for_nothing(seller, buyer, gateway, measure):
    measure(seller, 3)

    def fail():
        with buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False) as readings:
            assert next(readings).seq == 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert numbers(buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False)) == [0, 1, 2]
    assert buyer.payments.spending().in_period == 3 * PRICE


def test_stream__when_it_is_bought_already__refuses_a_second_buyer_of_the_same_name(seller, buyer, gateway, measure):
    measure(seller, 3)
    with buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False) as readings:
        next(readings)
        with (
            buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False) as second,
            pytest.raises(InputError, match="being bought already"),
        ):
            next(second)
        assert next(readings).seq == 1


def test_stream__when_the_device_changed_key_and_schema__follows_the_registry(seller, buyer, gateway, measure):
    measure(seller, 2)
    chain, keyring = seller.chain, seller.chain.home.keyring
    devices = Devices(chain, account=seller.payments.account)
    devices.register(keyring.device(seller.name))
    staged = keyring.stage_device(seller.name, curve="secp256k1")
    devices.rotate(seller.device, staged)
    keyring.activate_device(seller.name)
    folder = chain.home.journals / seller.device.hex()
    schema = Schema((Field("temperature", unit="Cel", scale=2), Field("humidity", unit="%RH", scale=1)))
    with (
        ReadingJournal.open(folder / f"{0:020d}-{'00' * 32}.readings") as old,
        old.continued(folder / f"{2:020d}-{'11' * 32}.readings", schema=schema, curve="secp256k1") as new,
    ):
        new.sign(keyring.device(seller.name), time=chain.now() * 1000, values=schema.fix([21.5, 40]))
    with buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False) as readings:
        assert [list(reading.values) for reading in readings] == [["temperature"]] * 2 + [["temperature", "humidity"]]
    forger = LocalSigner.create()
    with ReadingJournal.open(folder / f"{2:020d}-{'11' * 32}.readings") as new:
        new.sign(forger, time=chain.now() * 1000, values=schema.fix([21.5, 40]))
    with pytest.raises(StreamFaultError, match="signed by no key of device"):
        numbers(buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False, patience=0))


def test_stream__when_the_payee_wants_to_hold_money_for_longer_than_allowed__signs_nothing(seller, buyer, measure):
    measure(seller, 1)
    slow = Gateway(seller, GatewayConfig(price_stream=PRICE, withdraw_delay=24 * 3600 + 1))
    try:
        with pytest.raises(BudgetError, match="86401 s to claim in"):
            numbers(buyer.stream(slow.start(), seller.device, max_price=MONEY, follow=False))
    finally:
        slow.close()
    assert (buyer.payments.payer.book.channels(), buyer.payments.spending().in_period) == ([], 0)


def test_stream__when_the_price_rises__asks_the_payer_s_limit(seller, buyer, gateway, measure):
    measure(seller, 3)
    with buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False) as readings:
        assert next(readings).seq == 0
    dearer = Gateway(seller, GatewayConfig(price_stream=3 * PRICE))
    with dearer as url:
        with pytest.raises(BudgetError, match=r"costs 0\.0003 DUSD, at most 0\.0001 DUSD may be paid"):
            numbers(buyer.stream(url, seller.device, max_price=MONEY, follow=False))
        assert numbers(buyer.stream(url, seller.device, max_price="0.0003", follow=False)) == [1, 2]
    assert buyer.payments.spending().in_period == 7 * PRICE


def test_stream__when_the_payer_left_the_channel__opens_another_one(seller, buyer, gateway, measure):
    measure(seller, 2)
    with buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False) as readings:
        assert next(readings).seq == 0
        channel = readings.purchase.channel_id
    buyer.payments.close(channel)
    with buyer.stream(gateway.url, seller.device, max_price=MONEY, follow=False, start=1) as readings:
        assert next(readings).seq == 1
        assert readings.purchase.channel_id != channel
    gateway.payments.payee.tend()
    assert [c.claimed for c in gateway.payments.payee.book.channels()] == [PRICE, 0]


def test_stream__when_nobody_is_there_or_the_address_is_none__says_so_at_once(seller, buyer):
    with pytest.raises(TransportError):
        numbers(buyer.stream("http://127.0.0.1:9", seller.device, max_price=MONEY))
    for url, device, expected in (
        ("ftp://127.0.0.1", seller.device, "not an address of a gateway"),
        ("http://127.0.0.1:9", None, "no device is named"),
        (f"http://127.0.0.1:9/v1/devices/0x{'11' * 32}", seller.device, "wanted is"),
    ):
        with pytest.raises(InputError, match=expected):
            buyer.stream(url, device, max_price=MONEY)
    with pytest.raises(InputError, match="modes are locked and plain"):
        buyer.stream("http://127.0.0.1:9", seller.device, max_price=MONEY, mode="free")


def test_stream__when_x402_s_own_code_stands_there__locks_through_ours_and_pays_plain_through_it(measure):
    with Devnet() as chain:
        code = chain.code_at(X402_CHANNELS)
        mark = b"\x63" + selector(
            "claimLocked((((address,address,address,address,address,uint40,bytes32),uint128),bytes,uint128),bytes32)"
        )
        assert code.count(mark) == 1
        chain.set_code(X402_CHANNELS, code.replace(mark, b"\x63" + bytes(4)))
        seller, buyer = (Machine.create(chain, name, curve="p256") for name in ("seller", "buyer"))
        measure(seller, 3)
        gateway = Gateway(seller, GatewayConfig(price_stream=PRICE))
        with gateway as url:
            with pytest.raises(InputError, match="take no vouchers of a P-256 key"):
                numbers(buyer.stream(url, seller.device, max_price=MONEY, mode="plain", device_key=True))
            assert dollars(buyer) == 1_000_000_000
            for mode in ("locked", "plain"):
                options = {"max_price": MONEY, "mode": mode, "follow": False}
                assert numbers(buyer.stream(url, seller.device, **options)) == [0, 1, 2]
            places = [c.domain.contract for c in gateway.payments.payee.book.channels()]
            assert places == [chain.addresses.payment_channels, X402_CHANNELS]
            assert [claim.amount for claim in gateway.payments.claim()] == [3 * PRICE, 3 * PRICE]


def test_gateway__when_it_ends__ends_its_streams_at_once_and_they_go_on_with_the_next_one(seller, buyer, measure):
    measure(seller, 2)
    first = Gateway(seller, GatewayConfig(price_stream=PRICE))
    url = first.start()
    with buyer.stream(url, seller.device, max_price=MONEY, patience=0) as readings:
        assert [next(readings).seq, next(readings).seq] == [0, 1]
        begun = time.monotonic()
        first.close()
        with pytest.raises(StreamStalledError, match="1012"):
            next(readings)
        assert time.monotonic() - begun < 10
    measure(seller, 1)
    with Gateway(seller, GatewayConfig(price_stream=PRICE)) as url:
        assert numbers(buyer.stream(url, seller.device, max_price=MONEY, follow=False)) == [2]


def test_gateway__when_a_client_owes_an_answer_for_too_long__ends_its_stream(seller, measure):
    measure(seller, 1)
    with Gateway(seller, GatewayConfig(stream_idle=1)) as url:
        address = f"{url.replace('http', 'ws')}/v1/devices/{seller.device}/stream"
        with connect(address, compression=None) as socket:
            assert Message.decode(socket.recv(timeout=10), sent_by="seller").kind == "terms"
            refused = Message.decode(socket.recv(timeout=10), sent_by="seller")
            assert (refused["code"], refused["retryable"]) == ("stream_limit", True)


def test_claim__when_the_withdrawal_s_delay_is_over__publishes_no_key_any_more(seller, buyer, devnet):
    payer, payee = buyer.payments.payer, seller.payments.payee
    channel = payer.open(seller.address, 10 * PRICE, token=devnet.token)
    sales, key = payee.locks.sales, Bytes32(b"\7" * 32)
    plain, locked = (
        sign_voucher(payer.signer, payer.domain, channel.config, ceiling, lock=lock)
        for ceiling, lock in ((0, b""), (PRICE, lock_of(key)))
    )
    payee.check(plain)
    sales.begin(plain, 0, now=int(time.time()))
    offer = sales.offer(channel.channel_id, 0, PRICE)
    sales.sell(locked, offer, device=seller.device, preimage=key, now=int(time.time()))
    payer.account.transact(payer.contract.initiate_withdraw(channel.config, 10 * PRICE))
    payee.follow()
    assert [sale.offer for sale in payee.locks.due({channel.channel_id})] == [offer]
    devnet.increase_time(channel.config.withdraw_delay)
    assert payee.locks.due({channel.channel_id}) == []
    assert payee.tend() == []
    assert not devnet.logs(address=payee.contract.address, topics=[LockOpened.TOPIC, channel.channel_id])
