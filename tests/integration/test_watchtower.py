"""The watchtower on a real chain: claims at the threshold, daily, and at once when a payer leaves; settles."""

import time

import pytest

from pyiot_evm import Devnet, Machine, connect
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.contracts.payment_channels import Claimed, ClaimSkipped
from pyiot_evm.exceptions import StorageError, TransportError
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.payment.facade import Payments
from pyiot_evm.payment.payee import Payee
from pyiot_evm.payment.payee_book import PayeeBook, PayeePolicy, VoucherRefusedError
from pyiot_evm.payment.vouchers import channel_config, sign_voucher
from pyiot_evm.types import Address

DAY = 24 * 3600


class Clock:
    now = 1_900_000_000

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def devnet():
    """A devnet of its own: its token price and its fees are the test's."""
    with Devnet() as chain:
        yield chain


@pytest.fixture
def payer(machines):
    return machines.new("payer")


@pytest.fixture
def payee(machines):
    return machines.new("payee")


def dollars(chain, address):
    return chain.call(Erc20(chain.token).balance_of(address))


def watching(payee, clock=None, **policy):
    """Return the payee's side with a policy and a clock of the test's."""
    payments = payee.payments
    book = PayeeBook(payments.store, payee.address, PayeePolicy(**policy))
    contract = payments.payee.contract.address
    return Payee(chain=payee.chain, account=payments.account, book=book, contract=contract, clock=clock or Clock())


def transactions(payee):
    return int(payee.chain.rpc("eth_getTransactionCount", str(payee.address), "latest"), 16)


def test_tend__when_what_is_unclaimed_is_worth_20_times_the_gas__claims_and_settles_it(devnet, payer, payee):
    per_gas = devnet.fee_quote().per_gas
    dollar_price = 10_000 * 10**18 // (20 * per_gas * 30_000)  # so the threshold lies near 10,000 base units
    side, start = watching(payee, token_per_ether=dollar_price), transactions(payee)
    side.accept(payer.pay(payee.address, "0.001").voucher, 1_000)
    assert (side.tend(), transactions(payee)) == ([], start)
    side.accept(payer.pay(payee.address, "0.04").voucher, 40_000)
    assert [claim.amount for claim in side.tend()] == [41_000]
    assert dollars(devnet, payee.address) == 1_000_000_000 + 41_000  # worth a settlement, too
    assert (side.tend(), side.unsettled(devnet.token), transactions(payee)) == ([], 0, start + 2)


def test_tend__when_it_is_worth_less__claims_and_settles_once_a_day_has_passed(devnet, payer, payee):
    clock = Clock()
    side, start = watching(payee, clock), transactions(payee)
    side.accept(payer.pay(payee.address, "0.000001").voucher, 1)
    assert side.tend() == []
    clock.now += DAY - 1
    assert (side.tend(), transactions(payee)) == ([], start)
    clock.now += 1
    assert [claim.amount for claim in side.tend()] == [1]
    assert side.unsettled(devnet.token) == 1
    clock.now += DAY
    assert side.tend() == []
    assert (side.unsettled(devnet.token), dollars(devnet, payee.address)) == (0, 1_000_000_001)


def test_tend__when_nothing_came_for_days__dust_waits_a_day_from_its_coming(devnet, payer, payee):
    """After an idle day the next base unit was claimed at once, and settled at once: for more gas than it is worth."""
    clock = Clock()
    side = watching(payee, clock)
    side.accept(payer.pay(payee.address, "0.000001").voucher, 1)
    for _ in range(4):  # comes, is claimed, is settled, and nothing is left
        side.tend()
        clock.now += DAY
    before = transactions(payee)
    side.accept(payer.pay(payee.address, "0.000001").voucher, 1)
    assert (side.tend(), transactions(payee)) == ([], before)
    clock.now += DAY
    assert ([claim.amount for claim in side.tend()], transactions(payee)) == ([1], before + 1)
    assert side.unsettled(devnet.token) == 1


def test_tend__when_a_process_ended_between_claim_and_settlement__the_next_one_settles(devnet, payer, payee):
    side = watching(payee)
    side.accept(payer.pay(payee.address, "0.001").voucher, 1_000)
    side.claim()
    assert watching(payee, token_per_ether=0).tend() == []
    assert dollars(devnet, payee.address) == 1_000_001_000


CODE = "5f3560e01c63313ce5671460235760205f526001602052605860f81b60405260605ff35b60125f5260205ff3"
"""A token that knows its symbol, X, and its 18 decimals."""


def test_receiving__when_the_token_has_18_decimals__is_for_the_same_money(devnet, payee):
    """3,000 whole tokens for one ether were 0.000000003: each claim seemed to be worth its gas."""
    coin = Address(b"\x18" * 20)
    devnet.rpc("anvil_setCode", str(coin), "0x" + CODE)
    with connect(devnet.url, home=devnet.home, token=coin) as chain:
        assert (chain.token_info().decimals, chain.token_info().symbol) == (18, "X")
        receiving = Payments(chain, signer=payee._signer).receiving
        assert (receiving.token_per_ether, receiving.max_exposure) == (3_000 * 10**18, 10 * 10**18)
        gateway = Gateway(Machine.open(chain, payee.name))
        assert gateway.payments.receiving == receiving
        assert gateway.config.price_row == 10**14


def test_gateway__when_its_configuration_says_what_gas_is_worth__claims_by_that(devnet, payer, payee):
    """It could not be said: a gateway on another coin claimed far too late, or paid more for gas than it got."""
    per_ether = 1_000 * 10**18 // (devnet.fee_quote().per_gas * 30_000)  # one claim's gas is worth 1,000 base units
    patient = Gateway(payee, GatewayConfig(token_per_ether=per_ether, gas_factor=100)).payments.payee
    patient.accept(payer.pay(payee.address, "0.04").voucher, 40_000)
    assert patient.tend() == []
    dear_coin = Gateway(payee, GatewayConfig(token_per_ether=100 * per_ether)).payments.payee
    assert dear_coin.tend() == []
    side = Gateway(payee, GatewayConfig(token_per_ether=per_ether)).payments.payee
    assert [claim.amount for claim in side.tend()] == [40_000]
    side.accept(payer.pay(payee.address, "0.000001").voucher, 1)
    impatient = Gateway(payee, GatewayConfig(claim_every=1)).payments.payee
    assert impatient.tend() == []
    time.sleep(2)
    assert [claim.amount for claim in impatient.tend()] == [1]


def test_watchtower__when_a_payer_leaves_while_it_runs__claims_within_seconds(devnet, payer, payee):
    sent = payer.pay(payee.address, "0.001")
    payee.payments.accept(sent.voucher, 1_000)
    tower = payee.payments.watchtower(every=0.05)
    tower.start()
    try:
        payer.payments.close(sent.payment.channel_id)
        end = time.monotonic() + 20
        while payer.payments.sync(sent.payment.channel_id).claimed != 1_000:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        tower.close()


def test_watchtower__when_the_books_are_locked_for_a_while__lives_on(devnet, payer, payee, monkeypatch):
    """An error of SQLite ended its thread, and nobody answered withdrawals from then on."""
    sent = payer.pay(payee.address, "0.001")
    payee.payments.accept(sent.voucher, 1_000)
    tend, failures = Payee.tend, []

    def locked(side):
        if len(failures) < 2:
            failures.append(1)
            raise StorageError("database is locked", retryable=True)
        return tend(side)

    monkeypatch.setattr(Payee, "tend", locked)
    tower = payee.payments.watchtower(every=0.05)
    tower.start()
    try:
        payer.payments.close(sent.payment.channel_id)
        end = time.monotonic() + 20
        while payer.payments.sync(sent.payment.channel_id).claimed != 1_000:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        tower.close()


def test_accept__when_the_clock_was_set_back_and_the_channel_is_empty__looks_at_it_again(payer, payee, devnet):
    """What was seen before counted until the clock came there again: the payee delivered for an empty channel."""
    clock = Clock()
    side, sent = watching(payee, clock), payer.pay(payee.address, "0.001")
    known = side.accept(sent.voucher)
    payee.payments.account.transact(side.contract.refund(known.config, known.balance))
    devnet.mine(devnet.confirmations)
    clock.now -= 7200
    with pytest.raises(VoucherRefusedError, match="the channel holds 0"):
        side.accept(sent.voucher, 1_000)
    assert side.claim() == []


def test_tend__when_the_clock_was_set_back__dust_waits_a_day_from_then(devnet, payer, payee):
    clock = Clock()
    side = watching(payee, clock)
    side.accept(payer.pay(payee.address, "0.000001").voucher, 1)
    assert side.tend() == []
    clock.now -= 30 * DAY
    assert side.tend() == []
    clock.now += DAY
    assert [claim.amount for claim in side.tend()] == [1]


@pytest.mark.parametrize("restarts", [False, True])
def test_tend__when_the_node_fails_once_after_a_withdrawal_was_announced__claims_at_the_next_look(
    payer, payee, monkeypatch, restarts
):
    """The announcement counted as seen, was never acted on, and the payer took all of its money back."""
    side = watching(payee, max_exposure=10**9)
    known = side.accept(payer.pay(payee.address, "0.001").voucher, 1_000)
    assert side.tend() == []
    payer.payments.account.transact(side.contract.initiate_withdraw(known.config, known.balance))
    with monkeypatch.context() as fault:
        fault.setattr(side.chain, "call_many", failing)
        with pytest.raises(TransportError):
            (watching(payee, max_exposure=10**9) if restarts else side).tend()  # that of another process, or its own
    assert [claim.amount for claim in side.tend()] == [1_000]
    assert side.book.events(side.contract.address) == (0, set())


def failing(*_, **__):
    raise TransportError("HTTP 429")


def many_channels(payer, payee, count, contract):
    """Open many channels from one vault and take a voucher through each."""
    payments, signer = payer.payments, payer._signer
    configs = [
        channel_config(signer, payee.address, token=payer.chain.token, payer=payer.address, salt=n.to_bytes(32, "big"))
        for n in range(count)
    ]
    account, token = payments.account, payer.chain.token
    account.transact(Erc20(token).approve(contract.address, count * 1_000))
    account.transact(contract.vault_deposit(token, count * 1_000))
    account.transact(contract.fund(configs, [1_000] * count))
    side = next(item for item in payee.payments.payees if item.contract.address == contract.address)
    for number, config in enumerate(configs):
        side.accept(sign_voucher(signer, side.domain, config, 500 + number), 500 + number)
    return side


def test_claim__when_three_of_a_hundred_rows_are_bad__claims_the_others_in_one_transaction(devnet, payer, payee):
    side = many_channels(payer, payee, 100, payee.payments.payee.contract)
    bad = [channel.channel_id for channel in side.book.channels()][10:40:10]
    with side.book.store.write() as database:
        for channel_id in bad:
            database.execute(
                "UPDATE payee_channels SET signature = ? WHERE channel_id = ?", (b"\x01" * 65, channel_id.hex())
            )
    (claim,) = side.claim()
    total = sum(500 + n for n in range(100) if n not in {10, 20, 30})
    assert (claim.amount, claim.channels) == (total, 97)
    logs = devnet.rpc("eth_getTransactionReceipt", str(claim.transaction))["logs"]
    kinds = [bytes.fromhex(log["topics"][0][2:]) for log in logs]
    assert (kinds.count(Claimed.TOPIC), kinds.count(ClaimSkipped.TOPIC)) == (97, 3)
    before = dollars(devnet, payee.address)
    side.settle(devnet.token)
    assert dollars(devnet, payee.address) == before + total


def test_claim__when_the_same_row_is_due_again_after_a_deposit__is_sent_again(devnet, payer, payee):
    """The key of a claim was its calldata alone: a row that was worth a part came back and was taken for done."""
    side = watching(payee, max_exposure=10**9)
    sent = payer.pay(payee.address, "0.001")
    config, domain = sent.voucher.config, sent.voucher.domain
    channel_id = side.accept(sent.voucher, 1_000).channel_id
    payee.payments.account.transact(side.contract.refund(config, 9_500))  # 500 is left of the 10,000
    side.follow()
    assert [claim.amount for claim in side.claim()] == [500]
    known = payer.payments.sync(channel_id)
    payer.payments.payer.deposit(known, 5_000)
    side.follow()
    assert [claim.amount for claim in side.claim()] == [500]
    assert side.book.channel(channel_id).claimed == 1_000
    assert domain == side.domain


def test_claim__when_x402s_own_code_refuses_a_batch__claims_the_good_rows_all_the_same(monkeypatch):
    """It has no `claimAvailable`: one drained channel would keep all others from being claimed."""
    with Devnet() as chain:
        payer, payee = Machine.create(chain, "payer"), Machine.create(chain, "payee")
        payments = Payments(chain, signer=payee._signer)
        monkeypatch.setattr("pyiot_evm.payment.payee.is_ours", lambda *_: False)
        payee.__dict__["payments"] = payments
        side = many_channels(payer, payee, 9, payments.payee.contract)
        bad = side.book.channels()[4].channel_id
        with side.book.store.write() as database:
            database.execute("UPDATE payee_channels SET signature = ? WHERE channel_id = ?", (b"\x01" * 65, bad.hex()))
        assert sum(claim.amount for claim in side.claim()) == sum(500 + n for n in range(9) if n != 4)
