"""Vouchers of P-256 keys over HTTP: a machine's device key pays, its account pays in, and the sums are exact."""

from dataclasses import replace

import pytest

from pyiot_evm import Machine
from pyiot_evm.chain import Devnet
from pyiot_evm.chain.abi import selector
from pyiot_evm.chain.deployment import X402_CHANNELS
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import InputError, TransportError
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.payment.http_client import HttpPayer
from pyiot_evm.payment.payee_book import ChannelRefusedError
from pyiot_evm.payment.vouchers import authorizer_of, channel_config, sign_voucher

PRICE = 1_000
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Spoiling:
    """A device key, and what somebody might put in the place of its signature."""

    curve = "p256"

    def __init__(self, how):
        self.key, self.stranger, self.how, self.spoils = (
            LocalSigner.create("p256"),
            LocalSigner.create("p256"),
            how,
            True,
        )
        self.signer_bytes = self.key.signer_bytes

    def sign_digest(self, digest):
        good = self.key.sign_digest(digest)
        if not self.spoils:
            return good
        if self.how == "another key":
            self.signer_bytes = self.stranger.signer_bytes
            return self.stranger.sign_digest(digest)
        if self.how == "another key's signature":
            return self.stranger.sign_digest(digest)
        if self.how == "high s":
            return good[:32] + (ORDER - int.from_bytes(good[32:], "big")).to_bytes(32, "big")
        return self.key.sign_digest(bytes(32))


@pytest.fixture(scope="module")
def devnet():
    """A devnet of its own: x402's clients go by the wall clock, and other tests move the shared chain's."""
    with Devnet() as chain:
        yield chain


@pytest.fixture
def seller(machines, measure):
    machine = machines.new("seller", curve="p256")
    measure(machine, 3)
    return machine


@pytest.fixture
def gateway(seller):
    made = Gateway(seller, GatewayConfig(price_latest=PRICE))
    made.url = f"{made.start()}/v1/devices/{seller.device}/latest"
    yield made
    made.close()


@pytest.fixture
def buyer(machines):
    return machines.new("buyer", curve="p256")


def dollars(machine):
    return machine.chain.call(Erc20(machine.chain.token).balance_of(machine.address))


def device_key(machine):
    return machine.chain.home.keyring.device(machine.name)


def channels(gateway):
    return gateway.payments.payee.book.channels()


def test_get__when_the_device_key_signs__pays_and_is_claimed_and_settled_to_the_unit(seller, buyer, gateway):
    before, key = (dollars(seller), dollars(buyer)), device_key(buyer)
    payer = HttpPayer(buyer.payments, voucher_signer=key)
    assert [payer.get(gateway.url, most=PRICE).status for _ in range(12)] == [200] * 12  # two deposits
    (channel,) = channels(gateway)
    assert (channel.config.payer, channel.config.payer_authorizer) == (buyer.address, authorizer_of(key))
    assert (channel.charged, channel.ceiling, channel.balance) == (12 * PRICE, 12 * PRICE, 20 * PRICE)
    assert len(channel.signature) == 148
    assert buyer.payments.spending().in_period == 12 * PRICE
    (claim,) = gateway.payments.claim()
    assert claim.amount == 12 * PRICE
    gateway.payments.settle()
    assert (dollars(seller), dollars(buyer)) == (before[0] + 12 * PRICE, before[1] - 20 * PRICE)
    assert payer.get(gateway.url, most=PRICE).status == 200


def test_get__when_account_and_device_key_pay__each_has_a_channel_of_its_own(buyer, gateway):
    for signer in (device_key(buyer), None, device_key(buyer), None):
        assert HttpPayer(buyer.payments, voucher_signer=signer).get(gateway.url, most=PRICE).paid == PRICE
    assert sorted(len(channel.signature) for channel in channels(gateway)) == [65, 148]
    assert [channel.charged for channel in channels(gateway)] == [2 * PRICE, 2 * PRICE]


HOW = pytest.mark.parametrize("how", ["forged", "another key", "another key's signature", "high s"])
GUARDED = pytest.mark.parametrize("is_guarded", [True, False])


@HOW
@GUARDED
def test_gateway__when_a_deposit_has_no_voucher_of_its_key__takes_nothing_in(
    buyer, gateway, monkeypatch, how, is_guarded
):
    """The guard refuses it, and behind it x402's facilitator with this suite's check."""
    before = dollars(buyer)
    if not is_guarded:
        monkeypatch.setattr("pyiot_evm.payment.vouchers.SignedVoucher.is_signed", lambda _: True)
    with pytest.raises(TransportError, match="voucher_signature"):
        HttpPayer(buyer.payments, voucher_signer=Spoiling(how)).get(gateway.url, most=PRICE)
    assert (channels(gateway), dollars(buyer)) == ([], before)


@HOW
@pytest.mark.parametrize("layer", ["guard", "server", "facilitator"])
def test_gateway__when_a_voucher_is_not_of_its_channels_key__delivers_nothing(buyer, gateway, monkeypatch, how, layer):
    key = Spoiling(how)
    key.spoils = False
    payer = HttpPayer(buyer.payments, voucher_signer=key)
    payer.get(gateway.url, most=PRICE)
    (good,) = channels(gateway)
    if layer == "facilitator":  # it asks the chain, where the server does not know
        gateway.payments.payee.book.update(good.channel_id, lambda known: replace(known, synced_at=0, note=""))
    key.spoils = True
    with monkeypatch.context() as patched:
        if layer != "guard":
            patched.setattr("pyiot_evm.payment.vouchers.SignedVoucher.is_signed", lambda _: True)
        with pytest.raises(TransportError, match="voucher_signature"):
            payer.get(gateway.url, most=PRICE)
    (channel,) = channels(gateway)
    assert (channel.charged, channel.ceiling, channel.signature) == (PRICE, PRICE, good.signature)
    key.spoils, key.signer_bytes = False, key.key.signer_bytes
    assert payer.get(gateway.url, most=PRICE).status == 200


def test_get__when_the_payer_forgot_what_was_charged__pays_on_from_the_voucher_that_the_server_shows(buyer, gateway):
    payer = HttpPayer(buyer.payments, voucher_signer=device_key(buyer))
    for _ in range(2):
        payer.get(gateway.url, most=PRICE)
    payer._book.delete(str(channels(gateway)[0].channel_id))
    assert payer.get(gateway.url, most=PRICE).paid == PRICE
    assert [channel.charged for channel in channels(gateway)] == [3 * PRICE]
    assert buyer.payments.spending().in_period == 3 * PRICE


def test_get__when_a_payment_was_interrupted__the_account_sends_it_again_without_the_device_key(
    buyer, gateway, monkeypatch
):
    payer = HttpPayer(buyer.payments, voucher_signer=device_key(buyer))
    payer.get(gateway.url, most=PRICE)

    def breaks(*_):
        raise TransportError("the connection broke")

    with monkeypatch.context() as patched:
        patched.setattr(payer, "_send_payment", breaks)
        with pytest.raises(TransportError):
            payer.get(gateway.url, most=PRICE)
    assert HttpPayer(buyer.payments).get(gateway.url, most=PRICE).status == 200
    assert payer.get(gateway.url, most=PRICE).status == 200
    assert [channel.charged for channel in channels(gateway)] == [3 * PRICE]


def test_gateway__when_x402_s_own_code_stands_there__neither_takes_nor_makes_vouchers_that_are_worth_nothing(measure):
    with Devnet() as chain:
        seller, buyer = Machine.create(chain, "seller", curve="p256"), Machine.create(chain, "buyer", curve="p256")
        measure(seller, 1)
        key = device_key(buyer)
        early = HttpPayer(buyer.payments, voucher_signer=key)
        config = channel_config(key, seller.address, token=chain.token, payer=buyer.address)
        channel = buyer.payments.payer.book.add(buyer.payments.payer.domain, config)
        buyer.payments.payer.deposit(channel, 10 * PRICE)
        mark = b"\x63" + selector(
            "claimLocked((((address,address,address,address,address,uint40,bytes32),uint128),bytes,uint128),bytes32)"
        )
        chain.set_code(X402_CHANNELS, chain.code_at(X402_CHANNELS).replace(mark, b"\x63" + bytes(4)))
        with Gateway(seller, GatewayConfig(price_latest=PRICE)) as url:
            latest = f"{url}/v1/devices/{seller.device}/latest"
            with pytest.raises(TransportError, match="voucher_signature"):
                early.get(latest, most=PRICE)
            assert HttpPayer(buyer.payments).get(latest, most=PRICE).status == 200
        with pytest.raises(InputError, match="take no vouchers of a P-256 key"):
            HttpPayer(buyer.payments, voucher_signer=key)
        with pytest.raises(ChannelRefusedError, match="no vouchers of P-256 keys"):
            seller.payments.accept(sign_voucher(key, buyer.payments.payer.domain, config, PRICE), PRICE)


def test_payer__when_the_scheme_has_no_vouchers__refuses_a_key_for_them(buyer):
    with pytest.raises(InputError, match="no vouchers for a key of their own"):
        HttpPayer(buyer.payments, scheme="exact", voucher_signer=device_key(buyer))
