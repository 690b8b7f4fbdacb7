"""Payments on each engine: opened, paid, claimed, settled and left; and a gateway that an unmodified client pays."""

import secrets
import sys
from pathlib import Path

import pytest
from eth_account import Account

from pyiot_evm import Devnet, Machine
from pyiot_evm.chain.deployment import X402_CHANNELS
from pyiot_evm.exceptions import InputError
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.types import Address

sys.path.insert(0, str(Path(__file__).parent))
from gateway_kit import LATEST, dollars, journal_of, session_for


@pytest.fixture(scope="module", params=["anvil", "hardhat"])
def chain(request):
    with Devnet(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def seller(chain):
    with Machine.create(chain, "seller", curve="p256", dollars=0) as machine:
        journal_of(chain, machine.name, 3)
        yield machine


@pytest.fixture
def buyer(chain):
    with Machine.create(chain, f"buyer-{secrets.token_hex(4)}", curve="p256") as machine:
        yield machine


def test_vault__when_it_funds_channels__pays_by_vouchers_and_gives_the_rest_back(chain, seller, buyer):
    held, vault = dollars(chain, buyer.address), buyer.payments.vault
    vault.deposit(50_000)
    vault.fund({seller.address: 20_000, Address(b"\x77" * 20): 10_000})
    vault.withdraw(20_000)
    assert (vault.credit(), dollars(chain, buyer.address)) == (0, held - 30_000)


@pytest.mark.parametrize("mode", ["locked", "plain"])
def test_stream__when_a_p256_key_signs__is_sold_claimed_and_settled(chain, seller, buyer, mode):
    with Gateway(seller, GatewayConfig(price_stream=100)) as url:
        options = {"max_price": "0.0001", "mode": mode, "follow": False, "device_key": True}
        with buyer.stream(url, seller.device, **options) as readings:
            assert [reading.seq for reading in readings] == [0, 1, 2]
    before = dollars(chain, seller.address)
    assert sum(claim.amount for claim in seller.payments.claim()) == 300
    seller.payments.settle()
    assert dollars(chain, seller.address) == before + 300


@pytest.mark.parametrize("scheme", ["exact", "batch-settlement"])
def test_gateway__when_an_unmodified_client_pays__delivers_and_is_paid(chain, seller, scheme):
    wallet = Account.from_key(secrets.token_bytes(32))
    chain.fund(Address(wallet.address), dollars=10)
    before = dollars(chain, seller.address)
    with Gateway(seller, GatewayConfig(price_latest=LATEST)) as url:
        session = session_for(chain, wallet, scheme)
        answers = [session.get(f"{url}/v1/devices/{seller.device}/latest", timeout=60) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    seller.payments.claim()
    seller.payments.settle()
    assert dollars(chain, seller.address) == before + 3 * LATEST


def test_machines__when_they_pay_claim_settle_and_leave__have_the_money_to_the_unit(chain, seller, buyer):
    before, held = dollars(chain, seller.address), dollars(chain, buyer.address)
    sent = [buyer.pay(seller.address, "0.001") for _ in range(3)]
    channel_id = sent[0].payment.channel_id
    for each in sent:
        assert seller.payments.accept(each.voucher, 1000).charged == each.payment.ceiling
    assert [claim.amount for claim in seller.payments.claim()] == [3000]
    seller.payments.settle()
    assert dollars(chain, seller.address) == before + 3000
    channel = buyer.payments.close(channel_id)  # from here on the clock is moved: x402's clients go by the wall's
    with pytest.raises(InputError, match="the withdrawal can be taken at"):
        buyer.payments.close(channel_id)
    chain.increase_time(channel.config.withdraw_delay + 1)
    buyer.payments.close(channel_id)
    assert dollars(chain, buyer.address) == held - 3000
    assert buyer.payments.payer.contract.address == X402_CHANNELS
