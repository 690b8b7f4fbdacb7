"""Channels between two machines on a real chain: open, pay, claim, settle, leave, lose a book."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from pyiot_evm import Machine
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.escrow.policies import OwnerPolicy, RenterPolicy
from pyiot_evm.exceptions import BudgetError, InputError, VerificationError
from pyiot_evm.market.buyer import BuyerPolicy
from pyiot_evm.payment.budgets import Budget
from pyiot_evm.payment.facade import Payments
from pyiot_evm.payment.payee_book import ChannelRefusedError, PayeePolicy, VoucherRefusedError
from pyiot_evm.payment.payer import PayerPolicy
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.payment.vouchers import MAX_WITHDRAW_DELAY, ChannelDomain, SignedVoucher, channel_config, sign_voucher
from pyiot_evm.types import Address


def dollars(chain, address):
    return chain.call(Erc20(chain.token).balance_of(address))


@pytest.fixture
def payer(machines):
    return machines.new("payer")


@pytest.fixture
def payee(machines):
    return machines.new("payee")


def test_pay__when_the_payee_claims_and_settles__exactly_that_much_moves(devnet, payer, payee):
    before = dollars(devnet, payee.address)
    sent = [payer.pay(payee.address, "0.001") for _ in range(5)]
    assert [item.payment.ceiling for item in sent] == [1000, 2000, 3000, 4000, 5000]
    for item in sent:
        payee.payments.accept(SignedVoucher.decode(item.voucher.encode()), 1000)
    (claim,) = payee.payments.claim()
    assert (claim.amount, claim.channels) == (5000, 1)
    assert dollars(devnet, payee.address) == before
    assert len(payee.payments.settle()) == 1
    assert dollars(devnet, payee.address) == before + 5000
    assert (payee.payments.claim(), payee.payments.settle()) == ([], [])


def test_machine__when_opened_with_policies__each_part_has_its_own(devnet, payer):
    """`payments.paying` could be assigned, and half of what pays had read the old one by then."""
    given = {"paying": PayerPolicy(deposit_factor=100), "receiving": PayeePolicy(max_exposure=7)}
    rentals = {"owning": OwnerPolicy(waive=True), "renting": RenterPolicy(accept_up_to=3)}
    machine = Machine.open(devnet, payer.name, **given, **rentals, buying=BuyerPolicy(timeout=5))
    payments = machine.payments
    assert (payments.payer.policy, payments.payee.book.policy) == (payments.paying, payments.receiving)
    assert (payments.paying, payments.receiving) == tuple(given.values())
    assert (machine.rentals.owning, machine.rentals.renting) == tuple(rentals.values())
    assert machine.market.buying.timeout == 5
    for name, policy in given.items():
        with pytest.raises(AttributeError):
            setattr(payments, name, policy)
    with pytest.raises(TypeError, match="a machine has no policy 'payer', only buying, selling, "):
        Machine.open(devnet, payer.name, payer=PayerPolicy())


def test_pay__when_the_same_key_comes_again__is_the_same_voucher(payer, payee):
    first = payer.pay(payee.address, "0.01", key="reading:1")
    assert payer.pay(payee.address, "0.01", key="reading:1") == first
    with pytest.raises(InputError, match="names another payment"):
        payer.pay(payee.address, "0.02", key="reading:1")
    assert payer.payments.payer.book.channels()[0].ceiling == 10_000


def test_pay__when_the_key_names_a_payment_to_somebody_else__is_refused(payer, payee, machines):
    """The second caller got the first payee's voucher, and paid nobody. Another token went unnoticed, too."""
    payer.pay(payee.address, "0.01", key="invoice 1")
    with pytest.raises(InputError, match=f"'invoice 1' names another payment: 10000 of .* to {payee.address}"):
        payer.pay(machines.new("other").address, "0.01", key="invoice 1")
    with pytest.raises(InputError, match="'invoice 1' names another payment"):
        payer.payments.pay(payee.address, 10_000, token=Address(b"\x66" * 20), key="invoice 1")
    assert len(payer.payments.payer.book.payments()) == 1


def test_pay__when_an_interrupted_deposit_has_expired__makes_a_new_one_in_the_same_call(payer, payee):
    """The chain refused the old authorization; the payment failed once, and the next one went through."""
    side = payer.payments.payer
    channel = side.channel_to(payee.address, payer.chain.token)
    side.book.begin_deposit(channel.channel_id, 70_000, valid_before=side.chain.now() - 1)
    sent = payer.pay(payee.address, "0.01", key="once")
    assert side.book.channel(sent.payment.channel_id).balance == 100_000
    assert side.book.unfinished_deposit(channel.channel_id) is None


def test_deposit__when_somebody_else_sent_the_interrupted_one__it_counts_as_this_one(devnet, payer, payee, machines):
    """Whoever sees the transaction may send it first; ours then reverts, and the money is in the channel."""
    side = payer.payments.payer
    channel = side.channel_to(payee.address, devnet.token)
    deposit = side.book.begin_deposit(channel.channel_id, 70_000, valid_before=side.chain.now() + 3600)
    stranger = machines.new("stranger").payments.account
    with patch.object(side, "account", SimpleNamespace(address=payer.address, transact=stranger.transact)):
        side._send_deposit(channel, deposit)
    assert side.deposit(channel, 70_000).balance == 70_000


@pytest.mark.parametrize("amount", [0, 1 << 128])
def test_deposit__when_it_fits_in_no_channel__says_what_does(payer, payee, amount):
    channel = payer.payments.payer.channel_to(payee.address, payer.chain.token)
    with pytest.raises(InputError, match=rf"a deposit is 1 to 2\^128 - 1 base units, not {amount}"):
        payer.payments.payer.deposit(channel, amount)


def test_pay__when_many_threads_pay_at_once__each_has_a_ceiling_of_its_own(payer, payee):
    payer.payments.open(payee.address, 1000)
    with ThreadPoolExecutor(max_workers=8) as pool:
        sent = list(pool.map(lambda _: payer.pay(payee.address, "0.000001"), range(40)))
    assert sorted(item.payment.ceiling for item in sent) == list(range(1, 41))


def test_pay__when_many_threads_need_a_deposit_at_once__none_is_lost(payer, payee):
    with ThreadPoolExecutor(max_workers=8) as pool:
        sent = list(pool.map(lambda _: payer.pay(payee.address, "0.001"), range(24)))
    assert sorted(item.payment.ceiling for item in sent) == [1000 * n for n in range(1, 25)]
    (channel,) = payer.payments.payer.book.channels()
    assert 24_000 <= channel.balance <= 40_000


def test_pay__when_the_payee_is_the_payer__is_refused(payer):
    with pytest.raises(InputError, match="would pay itself"):
        payer.pay(payer.address, "0.001")
    assert payer.payments.channels()[0] == []


def test_pay__when_the_budget_is_exceeded__nothing_is_signed_or_sent(devnet, payer, payee):
    payer.payments.set_budget(Budget(each_payment=1000, each_period=2500))
    count = devnet.rpc("eth_getTransactionCount", str(payer.address), "latest")
    with pytest.raises(BudgetError, match=r"allows 0\.001 DUSD for a payment"):
        payer.pay(payee.address, "0.001001")
    assert devnet.rpc("eth_getTransactionCount", str(payer.address), "latest") == count
    payer.pay(payee.address, "0.001")
    payer.pay(payee.address, "0.001")
    with pytest.raises(BudgetError, match=r"0\.002 DUSD are spent, 0\.001 DUSD more are asked"):
        payer.pay(payee.address, "0.001")
    reopened = Payments(devnet, signer=payer._signer)
    with pytest.raises(BudgetError, match=r"0\.002 DUSD are spent"):
        reopened.pay(payee.address, 1000)
    assert reopened.pay(payee.address, 500).payment.ceiling == 2500


def test_pay__when_the_account_is_poor__says_so_before_anything_is_signed(machines, payee):
    poor = machines.new("poor", dollars="0.0005")
    with pytest.raises(InputError, match="the channel needs"):
        poor.pay(payee.address, "0.001")
    assert poor.payments.payer.book.payments() == []


def test_accept__when_a_voucher_is_stale__gives_the_last_one_only_to_a_signer(payer, payee):
    first, second = (payer.pay(payee.address, "0.001") for _ in range(2))
    payee.payments.accept(second.voucher, 2000)
    with pytest.raises(VoucherRefusedError) as caught:
        payee.payments.accept(first.voucher, 1000)
    assert caught.value.last == second.voucher
    forged = SignedVoucher(first.voucher.domain, first.voucher.config, 1000, bytes(65))
    with pytest.raises(VoucherRefusedError, match="did not sign") as caught:
        payee.payments.accept(forged, 1000)
    assert caught.value.last is None


@pytest.mark.parametrize("garbage", [b"", bytes(65), b"\xff" * 65, b"\x01" * 148, b"\x00" * 1000])
def test_accept__when_an_equal_voucher_has_garbage_for_a_signature__refuses_and_keeps_the_good_one(
    payer, payee, garbage
):
    sent = payer.pay(payee.address, "0.001")
    payee.payments.accept(sent.voucher, 1000)
    forged = SignedVoucher(sent.voucher.domain, sent.voucher.config, sent.voucher.ceiling, garbage)
    with pytest.raises(VoucherRefusedError, match="did not sign"):
        payee.payments.accept(forged)
    (channel,) = payee.payments.payee.book.channels()
    assert channel.voucher == sent.voucher


def test_accept__when_a_voucher_is_over_the_balance__is_refused(devnet, payer, payee):
    channel = payer.payments.open(payee.address, 1000)
    signer, domain = payer._signer, channel.domain
    with pytest.raises(VoucherRefusedError, match="the channel holds 1000"):
        payee.payments.accept(sign_voucher(signer, domain, channel.config, 1001), 1)
    top = sign_voucher(signer, domain, channel.config, (1 << 128) - 1)
    with pytest.raises(VoucherRefusedError, match="the channel holds 1000"):
        payee.payments.accept(top, 1)


def test_accept__when_a_voucher_is_of_another_chain_or_contract__is_refused(devnet, suite, payer, payee):
    voucher = payer.pay(payee.address, "0.001").voucher
    signer, config = payer._signer, voucher.config
    for domain in (ChannelDomain(1, voucher.domain.contract), ChannelDomain(devnet.chain_id, suite.payment_channels)):
        with pytest.raises(ChannelRefusedError, match="the voucher is for"):
            payee.payments.accept(sign_voucher(signer, domain, config, 1000), 1)
        moved = SignedVoucher(voucher.domain, config, 1000, sign_voucher(signer, domain, config, 1000).signature)
        with pytest.raises(VoucherRefusedError, match="did not sign"):
            payee.payments.accept(moved, 1)


def test_accept__when_the_exposure_is_at_its_cap__serves_again_once_it_is_claimed(devnet, payer, payee):
    payments = Payments(devnet, signer=payee._signer, receiving=PayeePolicy(max_exposure=2000))
    for _ in range(2):
        payments.accept(payer.pay(payee.address, "0.001").voucher, 1000)
    third = payer.pay(payee.address, "0.001").voucher
    with pytest.raises(ChannelRefusedError, match="the cap is 2000") as caught:
        payments.accept(third, 1000)
    assert caught.value.retryable
    assert payments.claim()[0].amount == 2000
    assert payments.accept(third, 1000).exposure == 1000


def test_tend__when_the_payer_announces_a_withdrawal__claims_at_once_and_serves_no_more(devnet, payer, payee):
    sent = payer.pay(payee.address, "0.001")
    payee.payments.accept(sent.voucher, 1000)
    assert payee.payments.payee.tend() == []
    channel = payer.payments.close(sent.payment.channel_id)
    assert channel.closing
    (claim,) = payee.payments.payee.tend()
    assert claim.amount == 1000
    known = payee.payments.payee.book.channel(channel.channel_id)
    late = sign_voucher(payer._signer, channel.domain, channel.config, 2000)
    assert known.withdraw_at
    with pytest.raises(ChannelRefusedError, match="is leaving"):
        payee.payments.accept(late, 1000)


def test_tend__when_a_crash_came_between_event_and_claim__the_next_process_claims(devnet, payer, payee):
    sent = payer.pay(payee.address, "0.001")
    payee.payments.accept(sent.voucher, 1000)
    payer.payments.close(sent.payment.channel_id)
    payee.payments.payee._follower.poll()  # seen, and then killed
    assert [claim.amount for claim in Payments(devnet, signer=payee._signer).payee.tend()] == [1000]


def test_close__when_the_delay_has_passed__the_payer_has_what_it_did_not_promise(machines):
    from pyiot_evm import Devnet, Machine

    with Devnet() as chain:
        payer, payee = Machine.create(chain, "payer"), Machine.create(chain, "payee")
        start = dollars(chain, payer.address)
        sent = payer.pay(payee.address, "0.001")
        assert dollars(chain, payer.address) == start - 10_000
        payer.payments.close(sent.payment.channel_id)
        with pytest.raises(InputError, match="can be taken at"):
            payer.payments.close(sent.payment.channel_id)
        chain.increase_time(15 * 60 + 1)
        channel = payer.payments.close(sent.payment.channel_id)
        assert (channel.balance, dollars(chain, payer.address)) == (1000, start - 1000)
        payee.payments.collect(sent.voucher)
        assert payee.payments.claim()[0].amount == 1000
        again = payer.pay(payee.address, "0.001")
        assert again.payment.channel_id != sent.payment.channel_id


def test_collect__when_the_payer_is_leaving_or_owes_much__takes_all_that_the_voucher_says(payer, payee):
    """The delay is there for this claim, and it was refused: so was a voucher for more than the exposure's cap."""
    sent = payer.pay(payee.address, "12")
    payer.payments.close(sent.payment.channel_id)
    with pytest.raises(ChannelRefusedError, match="is leaving channel"):
        payee.payments.accept(sent.voucher, 1000)
    assert payee.payments.collect(sent.voucher).charged == 12_000_000 > PayeePolicy().max_exposure
    assert payee.payments.claim()[0].amount == 12_000_000
    assert payee.payments.collect(sent.voucher).exposure == 0


def test_collect__when_the_channel_holds_less_than_the_voucher__takes_what_is_there(payer, payee):
    """A channel may hold less than was signed, and what it holds is the payee's: nothing of it could be had."""
    side = payer.payments.payer
    channel = side.deposit(side.channel_to(payee.address, payer.chain.token), 1000)
    voucher = sign_voucher(payer._signer, side.domain, channel.config, 3000)
    assert payee.payments.collect(voucher).charged == 1000
    assert payee.payments.claim()[0].amount == 1000
    with pytest.raises(VoucherRefusedError, match="is for 3000, the channel holds 1000"):
        payee.payments.collect(voucher)
    side.deposit(channel, 1500)
    assert payee.payments.collect(voucher).charged == 2500


def test_rebuild__when_both_books_are_lost__chain_and_last_voucher_bring_them_back(devnet, payer, payee, tmp_path):
    sent = [payer.pay(payee.address, "0.001") for _ in range(3)]
    payee.payments.accept(sent[1].voucher, 2000)
    payee.payments.claim()
    payee.payments.accept(sent[2].voucher, 1000)

    lost_payer, lost_payee = Payments(devnet, signer=payer._signer), Payments(devnet, signer=payee._signer)
    lost_payer.__dict__["store"] = PaymentStore(tmp_path / "payer.sqlite")
    lost_payee.__dict__["store"] = PaymentStore(tmp_path / "payee.sqlite")
    (found,) = lost_payer.payer.rebuild()
    assert (found.balance, found.claimed, found.ceiling) == (10_000, 2000, 2000)
    stale = lost_payer.pay(payee.address, 1000)  # as much as the payee has already
    with pytest.raises(VoucherRefusedError) as caught:
        payee.payments.accept(stale.voucher, 1000)
    lost_payer.payer.adopt(caught.value.last)
    good = lost_payer.pay(payee.address, 1000)
    assert good.payment.ceiling == 4000
    assert payee.payments.accept(good.voucher, 1000).charged == 4000

    (channel,) = lost_payee.payee.rebuild()
    assert (channel.balance, channel.claimed, channel.charged) == (10_000, 2000, 2000)
    assert lost_payee.accept(good.voucher, 1000).ceiling == 4000


def test_rebuild__when_a_stranger_opened_a_channel_in_the_payers_name__nothing_is_paid_into_it(
    devnet, machines, payer, payee, tmp_path
):
    """The payee's own key signs that channel's vouchers: what was paid into it, the payee could claim whole."""
    stranger = machines.new("stranger")
    key, account = stranger._signer, stranger.payments.account
    config = channel_config(key, payee.address, token=devnet.token, payer=payer.address)
    slow = channel_config(payer._signer, payee.address, token=devnet.token, withdraw_delay=MAX_WITHDRAW_DELAY)
    stranger.payments.vault.deposit(2)
    account.transact(stranger.payments.payer.contract.fund([config, slow], [1, 1]))
    lost = Payments(devnet, signer=payer._signer)
    lost.__dict__["store"] = PaymentStore(tmp_path / "payer.sqlite")
    assert len(lost.payer.rebuild()) == 2
    sent = lost.pay(payee.address, 1000)
    assert payee.payments.accept(sent.voucher, 1000).charged == 1000
    assert sent.voucher.config not in {config, slow}
    lost.payer.book.set_closing(sent.payment.channel_id, closing=True)
    again = lost.pay(payee.address, 1000)
    assert again.payment.channel_id != sent.payment.channel_id
    with pytest.raises(VerificationError):
        lost.payer.adopt(sign_voucher(key, payee.payments.payee.domain, config, 500))


def test_adopt__when_the_counterparty_forges_a_voucher__is_refused(payer, payee):
    sent = payer.pay(payee.address, "0.001")
    forged = SignedVoucher(sent.voucher.domain, sent.voucher.config, 9000, sent.voucher.signature)
    with pytest.raises(VerificationError, match="did not sign"):
        payer.payments.payer.adopt(forged)
    assert payer.payments.payer.book.channel(sent.payment.channel_id).ceiling == 1000
