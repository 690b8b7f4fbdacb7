"""`HttpPayer` against a real gateway: which channels it pays through, how they are left, and what it says."""

import sys
from pathlib import Path

import pytest

from pyiot_evm.chain import Devnet
from pyiot_evm.chain.nodes import free_port
from pyiot_evm.chain.rpc import RpcClient
from pyiot_evm.exceptions import BudgetError, InputError, TransportError
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.payment.facade import Payments
from pyiot_evm.payment.http_book import HttpBook
from pyiot_evm.payment.http_client import HttpPayer
from pyiot_evm.payment.payer import PayerPolicy
from pyiot_evm.payment.vouchers import MIN_WITHDRAW_DELAY
from pyiot_evm.payment.x402_signer import ReadingSigner
from pyiot_evm.types import DeviceId

sys.path.insert(0, str(Path(__file__).parent))
from gateway_kit import journal_of

PRICE = 1_000


@pytest.fixture(scope="module")
def devnet():
    """A devnet of its own: one test moves its clock, and x402 goes by the wall's."""
    with Devnet() as chain:
        yield chain


@pytest.fixture
def seller(machines):
    machine = machines.new("seller", curve="p256")
    journal_of(machine.chain, machine.name, 1)
    return machine


@pytest.fixture
def url(seller):
    gateway = Gateway(seller, GatewayConfig(price_latest=PRICE))
    yield f"{gateway.start()}/v1/devices/{seller.device}/latest"
    gateway.close()


@pytest.fixture
def buyer(machines):
    return machines.new("buyer")


def test_get__when_the_server_takes_channels__pays_through_one_that_the_book_lists(seller, buyer, url):
    payer = HttpPayer(buyer.payments)
    for _ in range(3):
        assert (payer.get(url, most=PRICE).status, str(buyer.balance())) == (200, "999.99")
    (paid,), (channel,) = seller.payments.channels()[1], buyer.payments.channels()[0]
    assert channel.channel_id == paid.channel_id
    assert (channel.balance, channel.ceiling, paid.charged) == (10 * PRICE, 3 * PRICE, 3 * PRICE)


def test_get__when_the_policy_says_how_much_to_pay_in__pays_that_in(buyer, url):
    payments = Payments(buyer.chain, signer=buyer.payments.signer, paying=PayerPolicy(deposit_factor=50))
    HttpPayer(payments).get(url, most=PRICE)
    assert [channel.balance for channel in payments.channels()[0]] == [50 * PRICE]


def test_pay__when_the_payee_is_paid_over_http_too__has_a_channel_of_its_own_and_both_count(seller, buyer, url):
    """Both had the same terms, and so one channel with two ledgers: vouchers of the one undercut the other's."""
    payer = HttpPayer(buyer.payments)
    payer.get(url, most=PRICE)
    seller.payments.collect(buyer.pay(seller.address, "0.002").voucher)
    payer.get(url, most=PRICE)
    seller.payments.collect(buyer.pay(seller.address, "0.002").voucher)
    assert len({channel.channel_id for channel in buyer.payments.channels()[0]}) == 2
    assert sum(claim.amount for claim in seller.payments.claim()) == 2 * PRICE + 2 * 2_000


def test_get__when_its_channel_was_left__opens_another(buyer, url):
    payer = HttpPayer(buyer.payments)
    payer.get(url, most=PRICE)
    (left,) = buyer.payments.channels()[0]
    buyer.payments.payer.book.set_closing(left.channel_id, closing=True)  # as it stands once the money is back
    assert payer.get(url, most=PRICE).status == 200
    left, opened = buyer.payments.channels()[0]
    assert (left.closing, left.ceiling, opened.closing, opened.ceiling) == (True, PRICE, False, PRICE)


def dead(*_):
    raise TransportError("the node does not answer")


def test_get__when_the_node_dies_before_the_payment_is_signed__can_be_tried_again(buyer, url, monkeypatch):
    """It was reported as wrong input, which a program does not try again; and the second try as free."""
    promise, payer = HttpBook.promise, HttpPayer(buyer.payments)

    with monkeypatch.context() as patch:

        def promise_and_die(*arguments, **named):
            made = promise(*arguments, **named)
            patch.setattr(RpcClient, "call", dead)
            patch.setattr(RpcClient, "batch", dead)
            return made

        patch.setattr(HttpBook, "promise", promise_and_die)
        with pytest.raises(TransportError, match="the node does not answer") as caught:
            payer.get(url, most=PRICE)
    assert caught.value.retryable
    bought = payer.get(url, most=PRICE)
    assert (bought.status, bought.paid, buyer.payments.spending().in_period) == (200, PRICE, PRICE)


def test_get__when_the_node_dies_as_a_channel_is_found_again__keeps_the_payment_and_the_channel(
    seller, buyer, url, monkeypatch
):
    """The server was said to make no sense, and to have refused; what was known of the channel was forgotten."""
    payer = HttpPayer(buyer.payments)
    payer.get(url, most=PRICE)
    (channel,) = buyer.payments.channels()[0]
    payer._book.delete(str(channel.channel_id))  # so the next voucher is stale, and the server shows the last one
    with monkeypatch.context() as patch:
        patch.setattr(ReadingSigner, "read_contract", dead)
        with pytest.raises(TransportError, match="the node does not answer") as caught:
            payer.get(url, most=PRICE)
    assert caught.value.retryable
    assert payer._book.get(str(channel.channel_id).lower()) is not None
    bought = payer.get(url, most=PRICE, key="again")
    assert (bought, bought.paid) == (payer.get(url, most=PRICE, key="again"), PRICE)
    (paid,) = seller.payments.channels()[1]
    assert (paid.charged, buyer.payments.spending().in_period) == (2 * PRICE, 2 * PRICE)


def test_get__when_it_costs_more_than_allowed__says_so_and_signs_nothing(buyer, url):
    with pytest.raises(BudgetError, match=r"it costs 0\.001 DUSD, at most 0\.000999 DUSD may be paid"):
        HttpPayer(buyer.payments).get(url, most=PRICE - 1)
    assert buyer.payments.channels()[0] == []
    assert buyer.payments.spending().in_period == 0


def test_readings__when_they_were_bought__are_checked_against_the_registry(seller, buyer, url):
    gateway = url.partition("/v1/")[0]
    payer = HttpPayer(buyer.payments)
    device = payer.device(gateway)
    (reading,) = payer.get(url, most=PRICE).readings(device)
    assert (device.device, [str(value) for value in device.values(reading).values()]) == (seller.device, ["20.00"])
    (again,) = payer.get(device.rows(0, 0), most=PRICE, key="noon").readings(device)
    assert [again] == payer.get(device.rows(0, 0), most=PRICE, key="noon").readings(device) == [reading]
    with pytest.raises(InputError, match="sells no readings of 0x1111"):
        payer.device(gateway, DeviceId(b"\x11" * 32))


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://[::1/"])
def test_get__when_it_is_no_address__refuses(buyer, url):
    with pytest.raises(InputError, match="not an address of a server"):
        HttpPayer(buyer.payments).get(url, most=PRICE)


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_get__when_nobody_listens__says_so_in_plain_words(buyer, host):
    url = f"http://{host}:{free_port()}/"
    with pytest.raises(TransportError) as caught:
        HttpPayer(buyer.payments).get(url, most=PRICE)
    assert str(caught.value) == f"nothing answers at {url}"
    assert caught.value.retryable


def test_payer__when_the_scheme_is_unknown__refuses(buyer):
    with pytest.raises(InputError, match="there is no scheme 'upto'"):
        HttpPayer(buyer.payments, scheme="upto")


def test_close__when_a_channel_was_paid_through_over_http__brings_the_rest_back(devnet, seller, buyer, url):
    payer = HttpPayer(buyer.payments)
    payer.get(url, most=PRICE)
    (channel,) = buyer.payments.channels()[0]
    buyer.payments.close(channel.channel_id)
    assert payer.get(url, most=PRICE).status == 200  # through another one
    seller.payments.claim()
    devnet.increase_time(MIN_WITHDRAW_DELAY)
    assert buyer.payments.close(channel.channel_id).balance == PRICE
    seller.payments.settle()
    assert (str(buyer.balance()), str(seller.balance())) == ("999.989", "1000.002")
