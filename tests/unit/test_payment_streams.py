"""The two books of a stream, without a chain: what is sold once, what is bought once, and what is refused."""

from dataclasses import replace

import pytest

from pyiot_evm.device import Field, LocalSigner, Reading, Schema
from pyiot_evm.exceptions import BudgetError, InputError, VerificationError
from pyiot_evm.payment.budgets import Budget, Budgets
from pyiot_evm.payment.payee_book import ChannelRefusedError, PayeeBook, PayeePolicy, VoucherRefusedError
from pyiot_evm.payment.payer_book import DepositNeeded, PayerBook
from pyiot_evm.payment.records import PayeeChannel
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.payment.stream import StreamPlace
from pyiot_evm.payment.stream_keys import StreamKeys, is_stream_salt, lock_of, seal_reading, stream_salt
from pyiot_evm.payment.stream_messages import Message
from pyiot_evm.payment.stream_purchases import BoughtReading, StreamPurchases
from pyiot_evm.payment.stream_sales import Offer, StreamSales
from pyiot_evm.payment.vouchers import ChannelDomain, channel_config, sign_voucher
from pyiot_evm.types import Address, DeviceId

NOW, PRICE, BALANCE = 1_700_000_000, 100, 1_000
PAYEE, TOKEN, CONTRACT = (Address(bytes([n]) * 20) for n in (2, 3, 4))
ACCOUNT, P256 = LocalSigner.from_secret(b"\x09" * 32), LocalSigner.from_secret(b"\x07" * 32, "p256")
DOMAIN, DEVICE = ChannelDomain(31337, CONTRACT), P256.device
SCHEMA = Schema((Field("temperature", unit="Cel", scale=2),))
KEYS = StreamKeys.of(b"\x05" * 32)


def leaf_of(seq):
    return Reading.sign(P256, seq=seq, time=seq, schema=SCHEMA.hash, values=(2150,)).leaf()


def bought(channel_id, seq):
    return BoughtReading(channel_id, DEVICE, seq, leaf_of(seq), SCHEMA, P256.signer_bytes, PRICE)


class Books:
    """Both sides' books of one channel that is paid into."""

    def __init__(self, folder, signer=ACCOUNT, **policy):
        self.signer = signer
        self.store = PaymentStore(folder / "payments.sqlite")
        self.budgets = Budgets(self.store, clock=lambda: NOW)
        self.payer = PayerBook(self.store, ACCOUNT.address, self.budgets, clock=lambda: NOW)
        self.payee = PayeeBook(self.store, PAYEE, PayeePolicy(**policy))
        self.purchases = StreamPurchases(self.payer, clock=lambda: NOW)
        self.sales = StreamSales(self.payee)
        salt = stream_salt(DEVICE, "locked", 0)
        self.config = channel_config(signer, PAYEE, token=TOKEN, payer=ACCOUNT.address, salt=salt)
        self.id = self.payer.add(DOMAIN, self.config).channel_id
        self.payer.sync(self.id, balance=BALANCE, claimed=0)
        self.look()
        self.purchases.begin(self.id, payee=PAYEE, device=DEVICE, mode="locked", first=0)

    def look(self, **changes):
        seen = PayeeChannel(self.id, DOMAIN, self.config, balance=BALANCE)
        self.payee.sync(replace(seen, **changes), at=NOW)

    def voucher(self, ceiling, lock=b""):
        return sign_voucher(self.signer, DOMAIN, self.config, ceiling, lock=lock)

    def sell(self, seq, price=PRICE, ceiling=None):
        offer = self.sales.offer(self.id, seq, price)
        key = KEYS.key(self.id, seq=seq, ceiling=offer.ceiling)
        voucher = self.voucher(offer.ceiling if ceiling is None else ceiling, lock_of(key))
        self.sales.sell(voucher, offer, device=DEVICE, preimage=key, now=NOW)
        return offer

    def settle(self, ceiling):
        self.sales.settle(self.voucher(ceiling), now=NOW)


@pytest.fixture
def books(tmp_path):
    made = Books(tmp_path)
    yield made
    made.store.close()


def test_key__when_channel_number_or_sum_differ__is_another_and_the_lock_does_not_open_the_seal():
    places = [(bytes(32), 1, 100), (b"\1" * 32, 1, 100), (bytes(32), 2, 100), (bytes(32), 1, 101)]
    keys = [KEYS.key(channel, seq=seq, ceiling=ceiling) for channel, seq, ceiling in places]
    assert len(set(keys)) == 4
    sealed = seal_reading(keys[0], 1, b"a leaf")
    assert seal_reading(keys[0], 1, sealed) == b"a leaf"
    assert all(seal_reading(other, 1, sealed) != b"a leaf" for other in (lock_of(keys[0]), *keys[1:]))


def test_salt__when_device_mode_or_number_differ__is_another_and_shows_that_it_is_a_stream_s():
    salts = {stream_salt(d, m, n) for d in (DEVICE, DeviceId(bytes(32))) for m in ("locked", "plain") for n in (0, 1)}
    assert len(salts) == 8
    assert all(map(is_stream_salt, salts))
    assert not any(is_stream_salt(number.to_bytes(32, "big")) for number in range(3))


def test_open_channel__when_only_a_stream_has_one__gives_it_to_nobody_else(books):
    assert books.payer.open_channel(PAYEE, TOKEN, CONTRACT) is None


@pytest.mark.parametrize("signer", [ACCOUNT, P256], ids=["secp256k1", "p256"])
def test_sell__when_each_reading_is_settled__charges_one_after_the_other(tmp_path, signer):
    books = Books(tmp_path, signer)
    for seq in range(10):
        assert books.sell(seq) == Offer(seq, seq * PRICE, (seq + 1) * PRICE)
        assert len(books.sales.unsettled()) == 1
        books.settle((seq + 1) * PRICE)
        assert books.sales.unsettled() == []
    channel = books.payee.channel(books.id)
    assert (channel.charged, channel.ceiling) == (BALANCE, BALANCE)
    with pytest.raises(ChannelRefusedError, match="for 1100, the channel holds 1000") as caught:
        books.sell(10)
    assert caught.value.retryable


def test_sell__when_the_reading_before_is_not_settled__refuses(books):
    books.sell(0)
    with pytest.raises(ChannelRefusedError, match="waits for the plain voucher"):
        books.sell(1)
    books.look(claimed=PRICE)  # the key was published, and the chain paid it
    books.sell(1)


def test_sell__when_the_same_reading_is_asked_again__charges_it_once(books):
    assert books.sell(0) == books.sell(0)
    assert books.payee.channel(books.id).charged == PRICE


def test_sell__when_withdrawn_over_the_cap_unsigned_or_for_another_sum__refuses_and_charges_nothing(tmp_path):
    books = Books(tmp_path, max_exposure=PRICE)
    for wrong in (PRICE - 1, PRICE + 1, 0, 2**128 - 1):
        with pytest.raises(VoucherRefusedError):
            books.sell(0, ceiling=wrong)
    with pytest.raises(ChannelRefusedError, match="the cap is 100"):
        books.sell(0, price=PRICE + 1)
    books.look(withdraw_at=NOW)
    with pytest.raises(ChannelRefusedError, match="leaving"):
        books.sell(0)
    books.look()
    offer, key = books.sales.offer(books.id, 0, PRICE), KEYS.key(books.id, seq=0, ceiling=PRICE)
    forged = replace(books.voucher(PRICE, lock_of(key)), lock=lock_of(b"\1" * 32))
    with pytest.raises(VoucherRefusedError, match="did not sign"):
        books.sales.sell(forged, offer, device=DEVICE, preimage=key, now=NOW)
    assert (books.payee.channel(books.id).charged, books.sales.unsettled()) == (0, [])


def test_settle__when_the_sum_or_the_signature_is_wrong__refuses(books):
    books.sell(0)
    for wrong in (0, PRICE - 1, PRICE + 1):
        with pytest.raises(VoucherRefusedError, match="100 were delivered"):
            books.settle(wrong)
    with pytest.raises(VoucherRefusedError, match="did not sign"):
        books.sales.settle(books.voucher(PRICE, b"\1" * 32), now=NOW)
    assert len(books.sales.unsettled()) == 1


def test_begin__when_the_payer_says_less_than_it_got__refuses_with_its_own_last_voucher(books):
    books.sell(0)
    assert books.sales.begin(books.voucher(0), 0, now=NOW).charged == PRICE  # the key did not reach it
    with pytest.raises(VoucherRefusedError) as caught:
        books.sales.begin(books.voucher(0), 1, now=NOW)
    assert caught.value.last is None
    books.settle(PRICE)
    with pytest.raises(VoucherRefusedError) as caught:
        books.sales.begin(books.voucher(0), 1, now=NOW)
    assert caught.value.last.ceiling == PRICE


def test_begin__when_the_payee_lost_its_book__takes_the_payer_s_word_for_what_it_got(books):
    assert books.sales.begin(books.voucher(3 * PRICE), 3, now=NOW).charged == 3 * PRICE
    assert books.sell(3).base == 3 * PRICE


def test_begin__when_the_payer_is_leaving__keeps_the_voucher_and_refuses(books):
    books.sell(0)
    books.look(withdraw_at=NOW)
    with pytest.raises(ChannelRefusedError, match="leaving"):
        books.sales.begin(books.voucher(PRICE), 1, now=NOW)
    assert (books.payee.channel(books.id).ceiling, books.sales.unsettled()) == (PRICE, [])


@pytest.mark.parametrize(("moved", "is_fresh"), [(0, True), (60, True), (61, False), (-60, True), (-7200, False)])
def test_sales__when_the_clock_was_moved_since_the_channel_was_looked_at__go_by_how_far(books, moved, is_fresh):
    """Set back by two hours, what the chain had said counted for two hours more: the channel could be empty by then."""
    now, offer = NOW + moved, Offer(0, 0, PRICE)
    acts = [
        lambda: books.payee.accept(books.voucher(PRICE), 0, now=now),
        lambda: books.sales.sell(books.voucher(PRICE), offer, device=DEVICE, preimage=b"", now=now),
        lambda: books.sales.settle(books.voucher(PRICE), now=now),
    ]
    for act in acts:
        if is_fresh:
            act()
        else:
            with pytest.raises(ChannelRefusedError, match="was not looked at lately"):
                act()


def test_reserve__when_the_reading_came__goes_on_with_the_next_and_counts_the_budget(books):
    for seq in range(3):
        signed = books.purchases.reserve(books.id, seq=seq, price=PRICE, lock=b"\1" * 32, sealed=b"sealed")
        assert (signed.ceiling, books.purchases.get(books.id).signed) == ((seq + 1) * PRICE, signed)
        state = books.purchases.arrive(books.id, bought(books.id, seq))
        assert (state.paid, state.next_seq, state.signed) == ((seq + 1) * PRICE, seq + 1, None)
    assert books.budgets.spending(ACCOUNT.address, TOKEN).in_period == 3 * PRICE
    assert [item.seq for item in books.purchases.untaken(books.id)] == [0, 1, 2]
    books.purchases.take(books.purchases.untaken(books.id)[0])
    assert [item.seq for item in books.purchases.untaken(books.id)] == [1, 2]
    assert [item.leaf for item in books.purchases.bought(DEVICE, seq=1)] == [books.purchases.bought(DEVICE)[1].leaf]


def test_reserve__when_asked_again_for_the_same_reading__counts_only_what_is_more(books):
    books.purchases.reserve(books.id, seq=0, price=PRICE)
    books.purchases.reserve(books.id, seq=0, price=PRICE - 50)
    books.purchases.reserve(books.id, seq=0, price=PRICE + 20)
    assert books.budgets.spending(ACCOUNT.address, TOKEN).in_period == PRICE + 20
    assert books.payer.channel(books.id).ceiling == PRICE + 20


def test_reserve__when_over_budget_over_balance_or_out_of_turn__writes_nothing(books):
    books.budgets.set(ACCOUNT.address, TOKEN, Budget(each_payment=PRICE, each_period=50 * PRICE))
    with pytest.raises(BudgetError, match="for a payment"):
        books.purchases.reserve(books.id, seq=0, price=PRICE + 1)
    for seq in (1, 7):
        with pytest.raises(VerificationError, match="reading 0 comes next"):
            books.purchases.reserve(books.id, seq=seq, price=PRICE)
    books.budgets.set(ACCOUNT.address, TOKEN, None)
    with pytest.raises(DepositNeeded) as caught:
        books.purchases.reserve(books.id, seq=0, price=BALANCE + 1)
    assert caught.value.missing == 1
    books.payer.set_closing(books.id, closing=True)
    with pytest.raises(InputError, match="closing"):
        books.purchases.reserve(books.id, seq=0, price=PRICE)
    assert (books.purchases.get(books.id).signed, books.payer.channel(books.id).ceiling) == (None, 0)
    assert books.budgets.spending(ACCOUNT.address, TOKEN).in_period == 0


def test_reserve__when_prices_creep_up_on_one_reading__asks_the_whole_price_of_the_budget(books):
    books.budgets.set(ACCOUNT.address, TOKEN, Budget(each_payment=PRICE))
    books.purchases.reserve(books.id, seq=0, price=PRICE)
    with pytest.raises(BudgetError):
        books.purchases.reserve(books.id, seq=0, price=PRICE + 1)


def test_accuse__when_a_payee_delivered_garbage__buys_no_more_until_it_is_forgiven(books):
    books.purchases.reserve(books.id, seq=0, price=PRICE)
    state = books.purchases.accuse(books.id, "reading 0 is no reading")
    assert (state.paid, state.lost, state.fault) == (0, PRICE, "reading 0 is no reading")
    with pytest.raises(InputError, match="nothing more is bought"):
        books.purchases.reserve(books.id, seq=0, price=PRICE)
    state = books.purchases.forgive(books.id)
    assert (state.paid, state.fault, state.signed.seq) == (0, "", 0)
    assert books.purchases.reserve(books.id, seq=0, price=PRICE).ceiling == PRICE, "the same one, for nothing more"
    state = books.purchases.arrive(books.id, bought(books.id, 0))
    assert (state.paid, state.lost) == (PRICE, 0)


def test_move__when_a_reading_is_under_way__refuses_to_leave_it(books):
    assert books.purchases.move(books.id, 5).next_seq == 5
    books.purchases.reserve(books.id, seq=5, price=PRICE)
    with pytest.raises(InputError, match="reading 5 is paid"):
        books.purchases.move(books.id, 6)


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:port"])
def test_parse__when_the_address_is_none__is_an_input_error(url):
    with pytest.raises(InputError, match="not an address of a gateway"):
        StreamPlace.parse(url, DEVICE)


@pytest.mark.parametrize("start", ["9" * 5000, 10**5000, "-1", "first"], ids=["text", "number", "negative", "word"])
def test_parse__when_the_first_reading_is_no_number_of_one__is_an_input_error(start):
    with pytest.raises(InputError, match="not a reading to begin with"):
        StreamPlace.parse("http://127.0.0.1:8402", DEVICE, start=start)


def test_decode__when_a_schema_has_half_a_character__is_an_input_error():
    with pytest.raises(InputError, match="a message of type schema"):
        Message.decode('{"type":"schema","document":"\\ud800"}', sent_by="seller")
