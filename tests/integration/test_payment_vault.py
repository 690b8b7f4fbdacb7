"""The vault on a real chain: paid in once, many channels from it; and what is where when x402's code is not ours."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyiot_evm import Devnet, Machine
from pyiot_evm.chain.abi import selector
from pyiot_evm.chain.artifacts import load_artifact
from pyiot_evm.chain.deployment import X402_CHANNELS
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.contracts.payment_channels import ChannelCreated, VaultSpent
from pyiot_evm.exceptions import BudgetError, ConfigurationError, ContractError, InputError
from pyiot_evm.payment.budgets import Budget, Spending
from pyiot_evm.payment.facade import Payments
from pyiot_evm.payment.payee_book import ChannelRefusedError
from pyiot_evm.payment.places import is_ours
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.payment.vault_book import VaultMove
from pyiot_evm.payment.vouchers import sign_voucher
from pyiot_evm.types import Address


def dollars(chain, address):
    return chain.call(Erc20(chain.token).balance_of(address))


@pytest.fixture
def payer(machines):
    return machines.new("payer")


def payees(count):
    return [Address(bytes([7]) + bytes(18) + bytes([number + 1])) for number in range(count)]


def test_deposit__when_paid_in_and_out__moves_exactly_that_much(devnet, payer):
    vault, start = payer.payments.vault, dollars(devnet, payer.address)
    moved = vault.deposit(50_000)
    assert (moved.amount, moved.credit, dollars(devnet, payer.address)) == (50_000, 50_000, start - 50_000)
    other = payees(1)[0]
    before = dollars(devnet, other)
    assert vault.withdraw(20_000, to=other).credit == 30_000
    assert dollars(devnet, other) == before + 20_000
    assert vault.withdraw().amount == 30_000
    assert (vault.credit(), dollars(devnet, payer.address)) == (0, start - 20_000)


def test_deposit__when_the_same_key_comes_again__moves_nothing_twice(devnet, payer):
    vault, start = payer.payments.vault, dollars(devnet, payer.address)
    first = vault.deposit(7_000, key="june")
    vault.deposit(7_000)
    assert vault.deposit(7_000, key="june").transaction == first.transaction
    assert (vault.credit(), dollars(devnet, payer.address)) == (14_000, start - 14_000)
    with pytest.raises(InputError, match="the key 'june' names another movement: deposit of 7000"):
        vault.withdraw(7_000, key="june")


def test_fund__when_covered__opens_and_fills_every_channel_in_one_transaction(devnet, payer, machines):
    payee, others = machines.new("payee"), payees(20)
    vault = payer.payments.vault
    vault.deposit(1_000_000)
    count = devnet.rpc("eth_getTransactionCount", str(payer.address), "latest")
    channels = vault.fund({payee.address: 5_000, **dict.fromkeys(others, 1_000)})
    assert int(devnet.rpc("eth_getTransactionCount", str(payer.address), "latest"), 16) == int(count, 16) + 1
    assert [channel.balance for channel in channels] == [5_000] + [1_000] * 20
    assert vault.credit() == 975_000
    sent = payer.payments.pay(payee.address, 4_000)
    assert sent.payment.channel_id == channels[0].channel_id
    assert payee.payments.accept(sent.voucher, 4_000).balance == 5_000
    again = vault.fund({payee.address: 2_000}, key="again")
    assert (again[0].channel_id, again[0].balance) == (channels[0].channel_id, 7_000)
    assert vault.fund({payee.address: 2_000}, key="again") == again
    assert vault.credit() == 973_000


def test_fund__when_the_vault_is_too_low__says_so_before_anything_is_signed(devnet, payer):
    vault = payer.payments.vault
    vault.deposit(999)
    count = devnet.rpc("eth_getTransactionCount", str(payer.address), "latest")
    with pytest.raises(InputError, match=r"has 0\.000999 DUSD, wanted are 0\.001") as caught:
        vault.fund({payees(1)[0]: 1_000})
    assert "pyiot pay vault deposit" in caught.value.hint
    with pytest.raises(InputError, match=r"wanted are 0\.001"):
        vault.withdraw(1_000)
    with pytest.raises(InputError, match=r"holds .* DUSD, wanted are"):
        vault.deposit(10**18)
    assert devnet.rpc("eth_getTransactionCount", str(payer.address), "latest") == count


@pytest.mark.parametrize("amounts", [{}, {b"\x07" * 20: 0}, {b"\x07" * 20: 1 << 128}])
def test_fund__when_the_amounts_make_no_sense__is_refused(payer, amounts):
    with pytest.raises(InputError):
        payer.payments.vault.fund({Address(payee): amount for payee, amount in amounts.items()})


def test_withdraw__when_nothing_is_in_the_vault__is_refused(payer):
    with pytest.raises(InputError, match="is empty"):
        payer.payments.vault.withdraw()
    with pytest.raises(InputError, match="at least 1 base unit, not 0"):
        payer.payments.vault.withdraw(0)


def test_withdraw__when_all_goes_out_under_a_key__the_same_key_is_the_same_movement(payer):
    """The second call found an empty vault, or, after another deposit, another movement under its key."""
    vault = payer.payments.vault
    vault.deposit(1_000)
    first = vault.withdraw(key="w")
    assert (vault.withdraw(key="w"), first.amount) == (first, 1_000)
    vault.deposit(500)
    assert vault.withdraw(key="w").transaction == first.transaction
    assert vault.credit() == 500
    with pytest.raises(InputError, match="the key 'w' names another movement: withdraw all of 1000"):
        vault.withdraw(500, key="w")


def test_withdraw__when_a_smaller_one_was_interrupted__all_is_all(payer):
    """What a crash had interrupted counted as everything, whatever was asked for then."""
    vault = payer.payments.vault
    vault.deposit(1_000)
    vault._book.begin(vault._wanted("withdraw", 300, None, None, ((str(payer.address), 300),)))
    assert (vault.withdraw().amount, vault.credit()) == (700, 0)


def test_withdraw__when_the_contract_refuses__the_next_call_is_a_new_one(payer):
    vault = payer.payments.vault
    vault.deposit(1_000)
    with pytest.raises(ContractError):
        vault.withdraw(1_000, to=vault._contract.address, key="out")
    assert vault.withdraw(1_000, key="out").credit == 0


def sent(devnet, payer):
    return int(devnet.rpc("eth_getTransactionCount", str(payer.address), "latest"), 16)


def test_withdraw__when_it_goes_to_somebody_else__is_a_payment_inside_the_budget(devnet, payer):
    """It moved any sum to anybody, whatever the budget said, and counted nothing."""
    vault, (other, unlisted) = payer.payments.vault, payees(2)
    vault.deposit(50_000)
    payer.payments.set_budget(Budget(each_payment=1_000, each_period=1_500, payees=(other,)))
    count = sent(devnet, payer)
    for wanted, words in (
        ({"amount": 1_001, "to": other}, r"allows 0\.001 DUSD for a payment"),
        ({"to": other}, r"0\.05 DUSD more are asked"),
        ({"amount": 1, "to": unlisted}, "not on the budget's list"),
    ):
        with pytest.raises(BudgetError, match=words):
            vault.withdraw(**wanted)
    assert (sent(devnet, payer), vault.credit(), payer.payments.spending().in_period) == (count, 50_000, 0)
    first = vault.withdraw(1_000, to=other, key="june")
    assert vault.withdraw(1_000, to=other, key="june").transaction == first.transaction
    with pytest.raises(BudgetError, match="for a period"):
        vault.withdraw(501, to=other)
    assert payer.payments.spending().by_payee == {other: 1_000}
    assert vault.withdraw().amount == 49_000  # to itself: no payment
    assert payer.payments.spending().in_period == 1_000


def test_withdraw__when_a_crash_interrupted_it__counts_once(payer):
    vault, (other,) = payer.payments.vault, payees(1)
    vault.deposit(5_000)
    vault._book.begin(VaultMove(-1, "withdraw", payer.chain.token, 1_000, ((str(other), 1_000),)))
    assert payer.payments.spending().in_period == 1_000
    payer.payments.set_budget(Budget(each_period=1_000))
    assert vault.withdraw(1_000, to=other).credit == 4_000  # it was promised before the budget was
    with pytest.raises(BudgetError):
        vault.withdraw(1, to=other)
    assert (vault.credit(), payer.payments.spending().in_period) == (4_000, 1_000)


def test_withdraw__when_the_contract_refuses_a_payment__costs_nothing(payer):
    vault, refusing = payer.payments.vault, payer.payments.additions.channels
    vault.deposit(1_000)
    for _ in range(2):
        with pytest.raises(ContractError):
            vault.withdraw(1_000, to=refusing)
    assert payer.payments.spending() == Spending(0, {refusing: 0})


@pytest.mark.parametrize(
    ("budget", "words"),
    [(Budget(payees=(Address(b"\x09" * 20),)), "not on the budget's list"), (Budget(ends_at=1), "ended at 1")],
)
def test_open__when_the_payee_may_be_paid_nothing__puts_nothing_aside_for_it(devnet, payer, budget, words):
    """Only payments were held against the list; money was locked up for anybody."""
    vault, (payee,) = payer.payments.vault, payees(1)
    vault.deposit(5_000)
    channel = payer.payments.open(payee, 1_000)
    payer.payments.set_budget(budget)
    count = sent(devnet, payer)
    for put in (
        lambda: payer.payments.open(payee, 1_000),
        lambda: payer.payments.payer.deposit(channel, 1_000),
        lambda: vault.fund({payee: 1_000}),
    ):
        with pytest.raises(BudgetError, match=words):
            put()
    assert (sent(devnet, payer), vault.credit(), payer.payments.spending().in_period) == (count, 5_000, 0)
    assert vault.withdraw().amount == 5_000  # back to itself it always goes
    assert payer.payments.close(channel.channel_id).closing


def test_fund__when_its_key_comes_again_after_the_budget_ended__is_the_same_funding(payer):
    vault, (payee,) = payer.payments.vault, payees(1)
    vault.deposit(5_000)
    (funded,) = vault.fund({payee: 1_000}, key="june")
    payer.payments.set_budget(Budget(ends_at=1))
    assert vault.fund({payee: 1_000}, key="june") == [funded]


def test_vault__when_threads_move_at_once__every_unit_is_there(devnet, payer):
    vault, targets = payer.payments.vault, payees(8)
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda _: vault.deposit(3_000), range(8)))
        list(pool.map(lambda payee: vault.fund({payee: 2_000}), targets))
    assert vault.credit() == 8 * 1_000
    assert sorted(channel.balance for channel in payer.payments.payer.book.channels()) == [2_000] * 8


def test_rebuild__when_the_book_is_lost__finds_what_the_vault_opened(devnet, payer, tmp_path):
    payer.payments.vault.deposit(3_000)
    opened = payer.payments.vault.fund(dict.fromkeys(payees(3), 1_000))
    lost = Payments(devnet, signer=payer._signer)
    lost.__dict__["store"] = PaymentStore(tmp_path / "lost.sqlite")
    assert lost.rebuild()[0] == opened
    assert lost.vault.credit() == 0


# A chain where x402's address has x402's own code: the scheme, and none of the suite's additions.


@pytest.fixture(scope="module")
def public():
    """Put a copy of our code there that is not byte for byte ours, and that knows no addition."""
    with Devnet() as chain:
        code = chain.code_at(X402_CHANNELS)
        for name in (b"fund", b"claimAvailable", b"vaultDeposit", b"vaultWithdraw", b"claimLocked"):
            selector = selector_of(chain, name)
            assert code.count(b"\x63" + selector) == 1
            code = code.replace(b"\x63" + selector, b"\x63" + bytes(4))
        chain.set_code(X402_CHANNELS, code)
        yield chain


def selector_of(chain, name):
    abi = load_artifact("PaymentChannels").abi
    (entry,) = (item for item in abi if item.get("name") == name.decode() and item["type"] == "function")
    return selector(f"{entry['name']}({','.join(kind(item) for item in entry['inputs'])})")


@pytest.fixture
def pair(public):
    tag = secrets.token_hex(4)
    return Machine.create(public, f"payer-{tag}"), Machine.create(public, f"payee-{tag}")


def test_places__when_the_code_is_foreign__the_additions_are_ours(public, pair):
    payments = pair[0].payments
    assert not is_ours(public, X402_CHANNELS)
    assert payments.payer.contract.address == X402_CHANNELS
    assert payments.additions.channels == public.addresses.payment_channels
    assert payments.vault._contract.address == public.addresses.payment_channels


def test_pay__when_the_code_is_foreign__goes_through_it_and_is_claimed_by_claim(public, pair):
    payer, payee = pair
    before = dollars(public, payee.address)
    sent = payer.pay(payee.address, "0.001")
    assert sent.voucher.domain.contract == X402_CHANNELS
    payee.payments.accept(sent.voucher, 1_000)
    assert [claim.amount for claim in payee.payments.claim()] == [1_000]
    payee.payments.settle()
    assert dollars(public, payee.address) == before + 1_000


def test_pay__when_the_vault_filled_a_channel__goes_through_ours_as_far_as_it_goes(public, pair):
    payer, payee = pair
    before, ours = dollars(public, payee.address), public.addresses.payment_channels
    payer.payments.vault.deposit(3_000)
    (filled,) = payer.payments.vault.fund({payee.address: 3_000})
    assert filled.domain.contract == ours
    assert [log.topics[0] for log in public.logs(address=ours, topics=[[ChannelCreated.TOPIC, VaultSpent.TOPIC]])]
    sent = [payer.pay(payee.address, "0.001", key=f"k{number}") for number in range(4)]
    assert [item.voucher.domain.contract for item in sent] == [ours] * 3 + [X402_CHANNELS]
    for item in sent:
        payee.payments.accept(item.voucher, 1_000)
    assert payer.pay(payee.address, "0.001", key="k1") == sent[1]
    assert sorted(claim.amount for claim in payee.payments.claim()) == [1_000, 3_000]
    assert len(payee.payments.settle()) == 2
    assert payee.payments.unsettled() == 0
    assert dollars(public, payee.address) == before + 4_000
    channel = payer.payments.sync(filled.channel_id)
    assert (channel.balance, channel.claimed) == (3_000, 3_000)


def test_accept__when_a_voucher_of_one_contract_is_shown_as_the_others__is_refused(public, pair):
    payer, payee = pair
    payer.payments.vault.deposit(1_000)
    (filled,) = payer.payments.vault.fund({payee.address: 1_000})
    foreign = payer.payments.payer.domain
    with pytest.raises(ChannelRefusedError, match="holds nothing"):
        payee.payments.accept(sign_voucher(payer._signer, foreign, filled.config, 1_000), 1_000)


def test_watchtower__when_the_payer_leaves_our_contract__claims_there(public, pair):
    payer, payee = pair
    payer.payments.vault.deposit(2_000)
    (filled,) = payer.payments.vault.fund({payee.address: 2_000})
    sent = payer.pay(payee.address, "0.001")
    payee.payments.accept(sent.voucher, 1_000)
    payer.payments.close(filled.channel_id)
    assert [claim.amount for side in payee.payments.payees for claim in side.tend()] == [1_000]
    late = sign_voucher(payer._signer, filled.domain, filled.config, 2_000)
    with pytest.raises(ChannelRefusedError, match="is leaving"):
        payee.payments.accept(late, 1_000)


def test_rebuild__when_books_are_lost__finds_the_channels_of_both_contracts(public, pair, tmp_path):
    payer, payee = pair
    payer.payments.vault.deposit(2_000)
    payer.payments.vault.fund({payee.address: 2_000})
    payer.pay(payee.address, "0.003")
    lost = [Payments(public, signer=machine._signer) for machine in pair]
    for number, payments in enumerate(lost):
        payments.__dict__["store"] = PaymentStore(tmp_path / f"{number}.sqlite")
    assert sorted(channel.balance for channel in lost[0].rebuild()[0]) == [2_000, 30_000]
    assert sorted(channel.balance for channel in lost[1].rebuild()[1]) == [2_000, 30_000]


def test_vault__when_the_suite_is_not_deployed__says_so_and_pay_goes_on():
    with Devnet(deploy=False) as bare, Devnet() as full:
        bare.set_code(X402_CHANNELS, full.code_at(X402_CHANNELS) + b"\x00")
        owner = Payments(bare, signer=Machine.create(full, "owner")._signer)
        assert [side.contract.address for side in owner.payees] == [X402_CHANNELS]
        with pytest.raises(ConfigurationError, match="not deployed"):
            owner.vault  # noqa: B018 - it is made when it is asked for


def kind(item):
    if not item["type"].startswith("tuple"):
        return item["type"]
    return f"({','.join(kind(part) for part in item['components'])}){item['type'].removeprefix('tuple')}"
