"""Streams with a side that cheats: what it can take is one reading, and mostly nothing."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from pyiot_evm.chain.contract_errors import NothingToClaim
from pyiot_evm.contracts.payment_channels import LockOpened
from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import BudgetError, InputError, VerificationError
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.gateway.signer import Faults
from pyiot_evm.gateway.storage import BookStorage
from pyiot_evm.machine import Machine
from pyiot_evm.payment import stream_claims
from pyiot_evm.payment.budgets import Budget
from pyiot_evm.payment.payee_book import ChannelRefusedError, VoucherRefusedError
from pyiot_evm.payment.stream_errors import StreamFaultError, StreamRefusedError, StreamStalledError
from pyiot_evm.payment.stream_keys import lock_of, seal_reading, stream_salt
from pyiot_evm.payment.stream_messages import Message
from pyiot_evm.payment.vouchers import channel_config, sign_voucher
from pyiot_evm.types import Bytes32

PRICE, MONEY, READINGS = 100, "0.0001", 20


def new_machine(devnet, role, **options):
    return Machine.create(devnet, f"{role}-{LocalSigner.create().address.hex()[:8]}", **options)


@pytest.fixture(scope="module")
def shop(devnet, measure):
    """A seller's gateway, with readings to sell and few streams at once."""
    seller = new_machine(devnet, "seller", curve="p256")
    measure(seller, READINGS)
    gateway = Gateway(seller, GatewayConfig(price_stream=PRICE, streams_each_client=3, stream_idle=30))
    gateway.url, gateway.device = gateway.start(), seller.device
    yield gateway
    gateway.close()


@pytest.fixture
def buyer(devnet):
    return new_machine(devnet, "buyer")


class Client:
    """A payer that writes its messages by hand."""

    def __init__(self, shop, buyer, *, mode="locked", number=0, balance=10 * PRICE):
        self.key, self.payer = buyer.payments.signer, buyer.payments.payer
        self.payee = shop.payments.payee
        self.url = f"{shop.url.replace('http', 'ws')}/v1/devices/{shop.device}/stream?mode={mode}&follow=0"
        salt = stream_salt(shop.device, mode, number)
        self.config = channel_config(self.key, shop.payments.address, token=buyer.chain.token, salt=salt)
        channel = self.payer.book.add(self.payer.domain, self.config)
        self.id = channel.channel_id
        if balance:
            self.payer.deposit(channel, balance)

    def voucher(self, ceiling, lock=b""):
        return sign_voucher(self.key, self.payer.domain, self.config, ceiling, lock=lock)

    def pay(self, offer, **changes):
        """Return the right answer to an offer, or one with changes."""
        fields = {"seq": offer["seq"], "ceiling": offer["ceiling"], "lock": offer["lock"]} | changes
        signature = self.voucher(fields["ceiling"], fields["lock"]).signature
        return Message("pay", **{"signature": signature} | fields)

    def paid(self, ceiling):
        return Message("paid", ceiling=ceiling, signature=self.voucher(ceiling).signature)

    def known(self):
        return self.payee.book.channel(self.id)

    def claim(self):
        return sum(claim.amount for claim in self.payee.claim([self.known()]))

    @contextmanager
    def talk(self, paid=0, seq=0):
        """Open a stream and yield it with the first answer."""
        with connect(self.url, compression=None) as socket:
            talk = Talk(socket)
            talk.send(Message("open", voucher=self.voucher(paid), seq=seq))
            yield talk, talk.next()


class Talk:
    """One connection to a gateway."""

    def __init__(self, socket):
        self.socket = socket

    def send(self, message):
        self.socket.send(message if isinstance(message, str | bytes) else message.encode())

    def next(self):
        """Return the next message that is no more than terms or an acknowledgment."""
        while True:
            answer = Message.decode(self.socket.recv(timeout=20), sent_by="seller")
            if answer.kind not in {"terms", "schema", "settled"}:
                return answer

    def ask(self, message):
        self.send(message)
        return self.next()


def refusal(answer):
    assert answer.kind == "refused", answer
    return answer["message"]


# Payers that cheat


def test_gateway__when_a_client_never_pays_after_a_key__sells_no_more_and_claims_by_that_key(shop, buyer, monkeypatch):
    client = Client(shop, buyer)
    with client.talk() as (talk, first):
        key = talk.ask(client.pay(first))
        assert seal_reading(key["key"], 0, first["sealed"]) == shop._readings.reading(0)[0].leaf()
        assert "waits for the plain voucher" in refusal(talk.ask(client.pay(talk.next())))
    with client.talk(paid=0, seq=1) as (_, answer):
        assert "100 were delivered through the channel, the voucher is for 0" in refusal(answer)
    assert client.claim() == 0  # it has a minute to settle
    monkeypatch.setattr(client.payee.locks, "_clock", lambda: time.time() - 7200)  # the clock was set back
    assert client.claim() == PRICE
    (log,) = buyer.chain.logs(address=client.payee.contract.address, topics=[LockOpened.TOPIC, client.id])
    assert LockOpened.from_log(log).preimage == key["key"]
    assert client.claim() == 0


def test_tend__when_a_payer_vanished_with_a_key__claims_by_it_within_a_day(shop, buyer, monkeypatch):
    client = Client(shop, buyer)
    with client.talk() as (talk, first):
        talk.ask(client.pay(first))
    monkeypatch.setattr(stream_claims, "GRACE", 0)
    client.payee.tend()
    store = client.payee.book.store
    store.set_mark(client.payee._mark, store.mark(client.payee._mark) - client.payee.book.policy.claim_every)
    assert PRICE in [claim.amount for claim in client.payee.tend()]
    assert client.known().claimed == PRICE


def test_claim__when_one_channel_cannot_be_claimed_by_its_key__claims_the_others_and_what_it_paid_before(
    shop, devnet, monkeypatch
):
    """One refused claim ended the watchtower's round, again and again: every other channel waited behind it."""
    clients = [Client(shop, new_machine(devnet, "buyer")) for _ in range(2)]
    for client in clients:
        with client.talk() as (talk, first):
            talk.ask(client.pay(first))
            second = talk.next()
            talk.send(client.paid(PRICE))
            talk.ask(client.pay(second))
    broken, good = clients
    with shop.payments.store.write() as database:
        database.execute("UPDATE stream_sales SET preimage = ? WHERE channel_id = ?", (b"x" * 32, broken.id.hex()))
    monkeypatch.setattr(stream_claims, "GRACE", 0)
    assert sum(claim.amount for claim in shop.payments.payee.claim([c.known() for c in clients])) == 3 * PRICE
    assert [client.known().claimed for client in (broken, good)] == [PRICE, 2 * PRICE]


def test_gateway__when_a_request_over_http_has_the_channel__sells_nothing_through_it_meanwhile(shop, buyer):
    """A deposit's charge comes on top once it is mined: the same ceiling paid for readings and for that request."""
    client = Client(shop, buyer, mode="plain")
    book = client.payee.book
    with client.talk() as (talk, first):
        pending = {"pendingId": "0x1", "signedMaxClaimable": str(PRICE), "expiresAt": int(time.time() * 1000) + 60_000}
        book.update(client.id, lambda known: replace(known, note=json.dumps({"pending": pending})))
        assert "over HTTP is using channel" in refusal(talk.ask(client.pay(first)))
    with pytest.raises(ChannelRefusedError, match="over HTTP is using channel"):
        shop.payments.accept(client.voucher(PRICE), PRICE)
    assert client.known().charged == 0
    pending["expiresAt"] = 1
    book.update(client.id, lambda known: replace(known, note=json.dumps({"pending": pending})))
    with client.talk() as (talk, first):
        assert talk.ask(client.pay(first)).kind == "reading"


def test_gateway__when_x402_stores_a_lower_voucher__keeps_the_higher_one(shop, buyer):
    client = Client(shop, buyer)
    shop.payments.accept(client.voucher(5 * PRICE), PRICE)
    storage = BookStorage(client.payee.book, client.payee.domain, Faults())

    def lower(channel):
        made = channel.copy()
        made.signed_max_claimable, made.signature = str(2 * PRICE), "0x" + client.voucher(2 * PRICE).signature.hex()
        made.charged_cumulative_amount = str(2 * PRICE)
        return made

    assert storage.update_channel(str(client.id), lower).status == "updated"
    known = client.known()
    assert (known.charged, known.ceiling, known.voucher.is_signed()) == (2 * PRICE, 5 * PRICE, True)


def test_collect__when_a_stream_delivered_more_than_the_voucher_says__refuses_and_changes_nothing(shop, buyer):
    client = Client(shop, buyer)
    with client.talk() as (talk, first):
        talk.ask(client.pay(first))
        second = talk.next()
        talk.send(client.paid(PRICE))
        talk.ask(client.pay(second))
    with pytest.raises(VoucherRefusedError, match="200 are used up"):
        shop.payments.collect(client.voucher(PRICE))
    assert client.known().charged == 2 * PRICE


def test_gateway__when_the_payer_leaves_in_mid_stream__claims_what_was_released_and_sells_no_more(shop, buyer):
    client = Client(shop, buyer)
    with client.talk() as (talk, first):
        offer = first
        for seq in range(3):
            talk.ask(client.pay(offer))
            offer = talk.next()
            if seq < 2:  # the third one's key is out, and it is not settled
                talk.send(client.paid((seq + 1) * PRICE))
        client.payer.account.transact(client.payer.contract.initiate_withdraw(client.config, 10 * PRICE))
        assert sum(claim.amount for claim in client.payee.tend()) == 3 * PRICE
        assert "leaving" in refusal(talk.ask(client.pay(offer)))
    assert (client.known().claimed, client.known().charged) == (3 * PRICE, 3 * PRICE)
    assert client.payee.tend() == []


def test_gateway__when_the_payer_leaves_before_a_key_was_released__publishes_nothing(shop, buyer):
    client = Client(shop, buyer)
    with client.talk() as (talk, first):
        talk.ask(client.pay(first))
        talk.next()
        talk.send(client.paid(PRICE))
        client.payer.account.transact(client.payer.contract.initiate_withdraw(client.config, 10 * PRICE))
        client.payee.follow()
        assert sum(claim.amount for claim in client.payee.tend()) in {0, PRICE}
    assert not buyer.chain.logs(address=client.payee.contract.address, topics=[LockOpened.TOPIC, client.id])
    with client.talk(paid=PRICE, seq=1) as (_, answer):
        assert "leaving" in refusal(answer)


def test_gateway__when_vouchers_are_wrong_or_from_elsewhere__takes_none_and_gives_no_key(shop, buyer, devnet):
    client, other = Client(shop, buyer), Client(shop, buyer, number=1)
    stranger = Client(shop, new_machine(devnet, "stranger"), balance=0)
    cases = (
        ("of another channel", lambda o: {"signature": other.voucher(o["ceiling"], o["lock"]).signature}, "sign"),
        ("of another payer", lambda o: {"signature": stranger.voucher(o["ceiling"], o["lock"]).signature}, "sign"),
        ("without its lock", lambda o: {"signature": client.voucher(o["ceiling"]).signature}, "did not sign"),
        ("with another lock", lambda _: {"lock": lock_of(b"\1" * 32)}, "another lock"),
        ("with no lock", lambda _: {"lock": b""}, "another lock"),
        ("for too little", lambda o: {"ceiling": o["ceiling"] - 1}, "the reading's is 100"),
        ("for too much", lambda o: {"ceiling": o["ceiling"] + 1}, "the reading's is 100"),
        ("for nothing", lambda _: {"ceiling": 0}, "the reading's is 100"),
        ("for everything", lambda _: {"ceiling": 2**128 - 1}, "the reading's is 100"),
        ("for another reading", lambda _: {"seq": 7}, "reading 7 is not on offer"),
    )
    for name, changes, expected in cases:
        with client.talk() as (talk, offer):
            assert expected in refusal(talk.ask(client.pay(offer, **changes(offer)))), name
    assert (client.known().charged, client.known().ceiling, client.claim()) == (0, 0, 0)


def test_gateway__when_messages_come_twice_or_out_of_turn__charges_a_reading_once(shop, buyer):
    client = Client(shop, buyer)
    with client.talk() as (talk, first):
        assert "0 were delivered" in refusal(talk.ask(client.paid(PRICE)))
    with client.talk() as (talk, first):
        talk.ask(client.pay(first))
        second = talk.next()
        assert "reading 0 is not on offer" in refusal(talk.ask(client.pay(first)))
    with client.talk(seq=0) as (talk, again):  # as if the key had been lost: the same one comes, for nothing more
        assert again == first
        talk.ask(client.pay(again))
        talk.next()
        talk.send(client.paid(PRICE))
        talk.send(client.paid(PRICE))
        assert talk.ask(client.pay(second)).kind == "key"
    assert client.known().charged == 2 * PRICE
    with client.talk(paid=PRICE, seq=1) as (talk, _):
        assert "open already" in refusal(talk.ask(Message("open", voucher=client.voucher(PRICE), seq=1)))


def test_gateway__when_a_channel_is_empty_or_the_balance_is_used_up__sells_nothing_above_it(shop, buyer):
    empty = Client(shop, buyer, balance=0)
    with empty.talk() as (_, answer):
        assert "holds nothing" in refusal(answer)
        assert answer["retryable"]
    assert empty.known() is None, "a stranger's empty channel is not written down"
    small = Client(shop, buyer, number=1, balance=PRICE)
    with small.talk(paid=0) as (talk, first):
        talk.ask(small.pay(first))
        second = talk.next()
        talk.send(small.paid(PRICE))
        assert "for 200, the channel holds 100" in refusal(talk.ask(small.pay(second)))
    for wrong in (2 * PRICE, 2**128 - 1):
        with small.talk(paid=wrong, seq=1) as (_, answer):
            assert "the channel holds 100" in refusal(answer)
    assert small.known().charged == PRICE


def test_gateway__when_messages_are_none__refuses_each_and_serves_on(shop, buyer):
    hostile = (
        "", "{", "[]", "null", "7", '{"type":[]}', '{"type":"key","seq":0,"key":"0x"}', '{"type":"paid"}', "[" * 4000,
        '{"type":"pay","seq":-1,"ceiling":"1","lock":"0x","signature":"0x"}', '{"type":"open","voucher":{},"seq":0}',
        '{"type":"pay","seq":1e400,"ceiling":"1","lock":"0x","signature":"0x"}', b"\xff\xfe", "\x00" * 100,
        '{"type":"open","voucher":' + '{"a":' * 900 + "1" + "}" * 900 + ',"seq":0}',
    )  # fmt: skip
    client = Client(shop, buyer)
    for message in hostile:
        with connect(client.url, compression=None) as socket:
            assert Talk(socket).ask(message).kind == "refused", message[:40]
    with connect(client.url, compression=None) as socket, pytest.raises(ConnectionClosed) as caught:
        Talk(socket).ask("x" * 10_000)
    assert caught.value.rcvd.code == 1009
    with client.talk() as (talk, first):
        assert talk.ask(client.pay(first)).kind == "key"


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("mode=free", "modes are locked and plain"),
        ("seq=x", "not a whole number"),
        ("from=-1", "not a whole number"),
        ("seq=9999999999999999999999", "not a whole number"),
    ],
)
def test_gateway__when_asked_in_a_way_that_cannot_be_read__says_so(shop, what, expected):
    url = f"{shop.url.replace('http', 'ws')}/v1/devices/{shop.device}/stream?{what}"
    with connect(url, compression=None) as socket:
        assert expected in refusal(Talk(socket).next())


def test_gateway__when_one_client_has_too_many_streams__refuses_the_next_until_one_ends(shop, buyer):
    url = f"{shop.url.replace('http', 'ws')}/v1/devices/{shop.device}/stream"
    sockets = [connect(url, compression=None) for _ in range(3)]
    for socket in sockets:
        assert Message.decode(socket.recv(timeout=20), sent_by="seller").kind == "terms"
    with connect(url, compression=None) as fourth:
        answer = Talk(fourth).next()
        assert ("too many streams" in refusal(answer), answer["retryable"]) == (True, True)
    for socket in sockets:
        socket.close()
    with buyer.stream(shop.url, shop.device, max_price=MONEY) as readings:
        assert next(readings).seq == 0


def test_gateway__when_strangers_hold_all_streams_and_pay_nothing__makes_room_for_who_pays(shop, devnet):
    """Four addresses could keep every other client out without paying anything."""
    with Gateway(shop.machine, GatewayConfig(price_stream=PRICE, streams=2)) as url:
        address = f"{url.replace('http', 'ws')}/v1/devices/{shop.device}/stream"
        squatters = [connect(address, compression=None) for _ in range(2)]
        for socket in squatters:
            assert Message.decode(socket.recv(timeout=20), sent_by="seller").kind == "terms"
        with (
            new_machine(devnet, "buyer").stream(url, shop.device, max_price=MONEY) as first,
            new_machine(devnet, "buyer").stream(url, shop.device, max_price=MONEY) as second,
        ):
            assert [next(first).seq, next(second).seq] == [0, 0]
            for socket in squatters:
                answer = Talk(socket).next()
                assert ("nothing was paid on this one" in refusal(answer), answer["retryable"]) == (True, True)
            with connect(address, compression=None) as late:  # whoever pays is not displaced
                assert "too many streams" in refusal(Talk(late).next())
            assert [next(first).seq, next(second).seq] == [1, 1]


def test_gateway__when_a_client_opens_streams_again_and_again__refuses_it_for_a_while(shop):
    """Each one reads the journals; the rate was for requests only."""
    with Gateway(shop.machine, GatewayConfig(requests_each_second=1, burst=2)) as url:
        address = f"{url.replace('http', 'ws')}/v1/devices/{shop.device}/stream?follow=0"
        for _ in range(2):
            with connect(address, compression=None) as socket:
                socket.recv(timeout=20)
        with pytest.raises(InvalidStatus, match="403"), connect(address, compression=None):
            pass


def test_claim_locked__when_the_lock_is_old__cannot_claim_more_than_was_claimed(shop, buyer):
    client = Client(shop, buyer)
    with client.talk() as (talk, first):
        key = talk.ask(client.pay(first))
        second = talk.next()
        talk.send(client.paid(PRICE))
        talk.ask(client.pay(second))
        talk.next()
        talk.send(client.paid(2 * PRICE))
    with client.talk(paid=2 * PRICE, seq=2):
        assert client.claim() == 2 * PRICE
    row = client.voucher(PRICE, first["lock"]).claim()
    with pytest.raises(NothingToClaim):
        buyer.chain.call(
            client.payee.contract.claim_locked(row, Bytes32(key["key"])), sender=client.payee.account.address
        )


# Gateways that cheat


class Proxy:
    """Stands between a buyer and an honest gateway, and changes what the gateway says."""

    def __init__(self, target, change):
        self.target, self.change, self.heard = target, change, []
        self.server = serve(self.pump, "127.0.0.1", 0, compression=None, max_size=1 << 20)
        self.url = f"http://127.0.0.1:{self.server.socket.getsockname()[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def pump(self, near):
        with connect(self.target.replace("http", "ws") + near.request.path, compression=None) as far:
            threading.Thread(target=self.back, args=(near, far), daemon=True).start()
            try:
                for text in near:
                    self.heard.append(json.loads(text))
                    far.send(text)
            except ConnectionClosed:
                return

    def back(self, near, far):
        try:
            for text in far:
                message = self.change(Message.decode(text, sent_by="seller"))
                if message is not None:
                    near.send(message if isinstance(message, str | bytes) else message.encode())
        except ConnectionClosed:
            pass
        near.close()

    def signed(self):
        """Return the vouchers that the buyer signed for readings."""
        return [message for message in self.heard if message["type"] == "pay"]


def changed(kind, **changes):
    """Return a change of one field of one kind of message, by a value or by a function of the old one."""

    def change(message):
        if message.kind == kind:
            for name, value in changes.items():
                message.fields[name] = value(message[name]) if callable(value) else value
        return message

    return change


@pytest.fixture
def cheat(shop):
    made = []

    def make(change):
        made.append(Proxy(shop.url, change))
        return made[0]

    yield make
    for proxy in made:
        proxy.server.shutdown()


def held_back(kind):
    """Return a change that keeps back what was paid for, and all that would come after it."""
    return lambda message: None if message.kind == kind or (message.kind == "offer" and message["seq"]) else message


def flipped(data):
    return bytes([data[0] ^ 1]) + data[1:]


def bought(machine, shop, url, count=2, **options):
    terms = {"max_price": MONEY, "follow": False, "patience": 0} | options
    with machine.stream(url, shop.device, **terms) as readings:
        return [next(readings).seq for _ in range(count)]


@pytest.mark.parametrize(("mode", "kind", "field"), [("locked", "offer", "sealed"), ("plain", "reading", "leaf")])
@pytest.mark.parametrize("where", [0, 20, -1], ids=["number", "link", "signature"])
def test_stream__when_a_key_opens_garbage__stops_at_once_and_has_lost_one_reading(
    shop, buyer, cheat, mode, kind, field, where
):
    def spoil(data):
        place = where % len(data)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    proxy = cheat(changed(kind, **{field: spoil}))
    with pytest.raises(StreamFaultError) as caught:
        bought(buyer, shop, proxy.url, mode=mode)
    assert (caught.value.seq, caught.value.lost, len(proxy.signed())) == (0, PRICE, 1)
    (purchase,) = buyer.payments.purchases.all()
    assert (purchase.paid, purchase.lost, purchase.fault) == (0, PRICE, caught.value.message)
    assert buyer.payments.spending().in_period == PRICE
    for url in (proxy.url, shop.url):  # the payee is the same
        with pytest.raises(InputError, match="nothing more is bought from"):
            bought(buyer, shop, url, mode=mode)
    with pytest.raises(StreamFaultError):
        bought(buyer, shop, proxy.url, mode=mode, again=True)
    assert buyer.payments.spending().in_period == PRICE, "the same reading is at stake, not another one"
    assert bought(buyer, shop, shop.url, mode=mode, again=True) == [0, 1]
    assert (buyer.payments.purchases.all()[0].lost, buyer.payments.spending().in_period) == (0, 2 * PRICE)


@pytest.mark.parametrize(("mode", "kind"), [("locked", "key"), ("plain", "reading")])
def test_stream__when_the_gateway_takes_the_voucher_and_delivers_nothing__pays_one_reading_and_gets_it_later(
    shop, buyer, cheat, mode, kind, monkeypatch
):
    monkeypatch.setattr("pyiot_evm.payment.stream.ReadingStream._waits", lambda _: 1.0)
    proxy = cheat(held_back(kind))
    for _ in range(3):
        with pytest.raises(StreamStalledError):
            bought(buyer, shop, proxy.url, mode=mode)
    assert {(message["seq"], message["ceiling"]) for message in proxy.signed()} == {(0, str(PRICE))}
    assert buyer.payments.spending().in_period == PRICE
    assert bought(buyer, shop, shop.url, mode=mode, count=1) == [0]
    assert buyer.payments.spending().in_period == PRICE


def test_stream__when_the_last_answer_is_garbage__ends_quietly_and_can_be_opened_again(shop, buyer, cheat):
    """`close` raised, and left the connection open and the stream locked: the process could not buy it again."""
    proxy = cheat(lambda message: "settled, more or less" if message.kind == "settled" else message)
    assert bought(buyer, shop, proxy.url, count=1) == [0]
    assert bought(buyer, shop, shop.url, count=1) == [1]


def test_stream__when_the_gateway_claims_by_a_key_that_it_kept_back__takes_the_reading_from_the_chain(
    shop, buyer, cheat, monkeypatch
):
    monkeypatch.setattr("pyiot_evm.payment.stream.ReadingStream._waits", lambda _: 1.0)
    proxy = cheat(held_back("key"))
    with pytest.raises(StreamStalledError):
        bought(buyer, shop, proxy.url)
    monkeypatch.setattr(stream_claims, "GRACE", 0)
    (purchase,) = buyer.payments.purchases.all()
    known = shop.payments.payee.book.channel(purchase.channel_id)
    assert sum(claim.amount for claim in shop.payments.payee.claim([known])) == PRICE
    monkeypatch.undo()
    assert bought(buyer, shop, shop.url) == [0, 1]
    assert buyer.payments.spending().in_period == 2 * PRICE


def test_stream__when_the_key_of_garbage_was_claimed_by__asks_the_gateway_again_for_nothing_more(
    shop, buyer, cheat, monkeypatch
):
    proxy = cheat(changed("offer", sealed=flipped))
    with pytest.raises(StreamFaultError):
        bought(buyer, shop, proxy.url)
    monkeypatch.setattr(stream_claims, "GRACE", 0)
    (purchase,) = buyer.payments.purchases.all()
    known = shop.payments.payee.book.channel(purchase.channel_id)
    assert sum(claim.amount for claim in shop.payments.payee.claim([known])) == PRICE
    assert bought(buyer, shop, shop.url, again=True) == [0, 1]
    assert buyer.payments.spending().in_period == 2 * PRICE


@pytest.mark.parametrize(
    ("kind", "changes", "error", "expected"),
    [
        ("offer", {"seq": lambda seq: seq + 1}, VerificationError, "reading 0 comes next"),
        ("offer", {"base": 50}, VerificationError, "0 are paid"),
        ("offer", {"ceiling": PRICE + 1}, BudgetError, r"costs 0\.000101 DUSD, at most 0\.0001 DUSD"),
        ("offer", {"ceiling": 2**128 - 1}, BudgetError, r"at most 0\.0001 DUSD"),
        ("offer", {"ceiling": 0}, VerificationError, "reading 0 comes next"),
        ("offer", {"lock": b"", "sealed": b""}, VerificationError, "is none: 0 bytes"),
        ("offer", {"sealed": b"\1" * 4096}, VerificationError, "is none: 4096 bytes"),
        ("terms", {"price": PRICE + 1}, BudgetError, r"at most 0\.0001 DUSD"),
        ("terms", {"device": b"\1" * 32}, InputError, "wanted is 0x"),
        ("terms", {"contract": b"\1" * 20}, InputError, "not this payer's"),
        ("terms", {"chainId": 1}, InputError, "not this payer's"),
        ("terms", {"token": b"\1" * 20}, InputError, "paid is in"),
        ("terms", {"mode": "plain"}, InputError, "with mode plain, wanted is locked"),
        ("terms", {"version": 2}, InputError, "with version 2, wanted is 1"),
        ("terms", {"signer": b"\1" * 20}, InputError, "is not the first signer"),
    ],
)
def test_stream__when_terms_or_offers_are_not_what_was_agreed__signs_nothing(
    shop, buyer, cheat, kind, changes, error, expected
):
    proxy = cheat(changed(kind, **changes))
    with pytest.raises(error, match=expected):
        bought(buyer, shop, proxy.url)
    assert (proxy.signed(), buyer.payments.spending().in_period) == ([], 0)


def test_stream__when_the_key_does_not_open_its_lock__stops_and_has_lost_nothing(shop, buyer, cheat):
    proxy = cheat(changed("key", key=flipped))
    with pytest.raises(VerificationError, match="does not open its lock"):
        bought(buyer, shop, proxy.url)
    (purchase,) = buyer.payments.purchases.all()
    assert (purchase.fault, purchase.lost, purchase.signed.seq) == ("", 0, 0)
    assert bought(buyer, shop, shop.url) == [0, 1]


def test_stream__when_the_gateway_asks_for_a_reading_twice__pays_it_once(shop, buyer, cheat):
    offers = []

    def twice(message):
        if message.kind == "key":  # what was paid does not come; the same reading is offered on top of it
            first = offers[0]
            return Message("offer", **first.fields | {"base": PRICE, "ceiling": 2 * PRICE})
        if message.kind == "offer":
            offers.append(message)
        return message

    proxy = cheat(twice)
    with pytest.raises(VerificationError, match="is offered from 100 to 200; reading 0 comes next, and 0 are paid"):
        bought(buyer, shop, proxy.url)
    assert buyer.payments.spending().in_period == PRICE


def test_stream__when_a_refusal_shows_an_old_or_a_forged_voucher__believes_its_own_book(shop, buyer, cheat):
    assert bought(buyer, shop, shop.url) == [0, 1]
    (purchase,) = buyer.payments.purchases.all()
    payer = buyer.payments.payer
    channel = payer.book.channel(purchase.channel_id)
    last = sign_voucher(payer.signer, channel.domain, channel.config, 2 * PRICE)
    forged = replace(last, ceiling=500 * PRICE)

    def refuse(voucher):
        return lambda m: (
            Message("refused", code="voucher_refused", message="behind", retryable=True, last=voucher)
            if m.kind == "offer"
            else m
        )

    proxy = cheat(refuse(last))
    with pytest.raises(StreamRefusedError, match="behind"):
        bought(buyer, shop, proxy.url)
    proxy.change = refuse(forged)
    with pytest.raises(VerificationError, match="did not sign"):
        bought(buyer, shop, proxy.url)
    proxy.change = refuse(
        sign_voucher(payer.signer, channel.domain, channel.config, 3 * PRICE, lock=Bytes32(b"1" * 32))
    )
    with pytest.raises(StreamRefusedError, match="behind"):  # it pays for a reading that may never have come
        bought(buyer, shop, proxy.url)
    (after,) = buyer.payments.purchases.all()
    assert (after.paid, payer.book.channel(purchase.channel_id).ceiling) == (2 * PRICE, 2 * PRICE)


@pytest.mark.parametrize("message", ["{", b"\1", '{"type":"offer"}', "[" * 5000, '{"type":"open","seq":0}'])
def test_stream__when_the_gateway_says_what_is_no_message__ends_with_a_typed_error(shop, buyer, cheat, message):
    proxy = cheat(lambda m: message if m.kind == "offer" else m)
    with pytest.raises(InputError):
        bought(buyer, shop, proxy.url)
    assert proxy.signed() == []


def test_stream__when_a_message_is_huge__ends_without_reading_it(shop, buyer, cheat):
    proxy = cheat(lambda m: "x" * 500_000 if m.kind == "offer" else m)
    with pytest.raises(StreamStalledError, match="1009"):
        bought(buyer, shop, proxy.url)


def test_stream__when_the_budget_is_used_up__stops_before_anything_is_signed(shop, buyer):
    buyer.payments.set_budget(Budget(each_period=2 * PRICE))
    with (
        buyer.stream(shop.url, shop.device, max_price=MONEY, follow=False) as readings,
        pytest.raises(BudgetError, match=r"0\.0002 DUSD are spent, 0\.0001 DUSD more are asked"),
    ):
        for _ in readings:
            pass
    (purchase,) = buyer.payments.purchases.all()
    assert (purchase.paid, purchase.signed, buyer.payments.spending().in_period) == (2 * PRICE, None, 2 * PRICE)


def test_stream__when_the_payer_lost_its_book__goes_on_from_the_voucher_that_the_payee_shows(shop, buyer):
    assert bought(buyer, shop, shop.url) == [0, 1]
    with buyer.payments.store.write() as database:
        for table in ("payer_channels", "stream_purchases", "bought_readings", "deposits"):
            database.execute(f"DELETE FROM {table} WHERE channel_id IN (SELECT channel_id FROM stream_purchases)")
    with buyer.payments.store.write() as database:
        database.execute("DELETE FROM payer_channels WHERE payer = ?", (buyer.address.hex(),))
        database.execute("DELETE FROM stream_purchases WHERE payer = ?", (buyer.address.hex(),))
    assert bought(buyer, shop, shop.url, start=2, patience=5) == [2, 3]
    (purchase,) = buyer.payments.purchases.all()
    assert purchase.paid == 4 * PRICE
