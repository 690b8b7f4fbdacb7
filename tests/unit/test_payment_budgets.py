"""Budgets: every limit to the unit, over restarts and periods."""

import pytest

from pyiot_evm.exceptions import BudgetError, InputError
from pyiot_evm.payment.budgets import DAY, HOUR, Budget, Budgets
from pyiot_evm.payment.http_book import HttpBook, Purchase
from pyiot_evm.payment.payer_book import PayerBook
from pyiot_evm.payment.store import PaymentStore
from pyiot_evm.types import Address

PAYER, TOKEN, PAYEE, OTHER = (Address(bytes([n]) * 20) for n in (1, 2, 3, 4))


class Clock:
    now = 100 * DAY + 5

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path):
    with PaymentStore(tmp_path / "payments.sqlite") as opened:
        yield opened


@pytest.fixture
def budgets(store, clock):
    return Budgets(store, clock=clock)


def spend(budgets, amount, payee=PAYEE, token=TOKEN):
    with budgets._store.write() as database:
        budgets.spend(database, PAYER, token, payee, amount)


def test_spend__when_there_is_no_budget__counts_and_limits_nothing(budgets):
    spend(budgets, (1 << 128) - 1)
    assert budgets.spending(PAYER, TOKEN).in_period == (1 << 128) - 1


@pytest.mark.parametrize(
    ("budget", "first", "second", "words"),
    [
        (Budget(each_payment=10), 10, 11, "allows 10 base units for a payment: 0 base units are spent, 11 base"),
        (
            Budget(each_period=15),
            10,
            6,
            "allows 15 base units for a period of 86400 s: 10 base units are spent, 6 base",
        ),
        (
            Budget(each_payee=15),
            10,
            6,
            "for the payee 0x0303030303030303030303030303030303030303: 10 base units are spent",
        ),
    ],
)
def test_spend__when_a_limit_would_be_passed__refuses_and_counts_nothing(budgets, budget, first, second, words):
    budgets.set(PAYER, TOKEN, budget)
    spend(budgets, first)
    with pytest.raises(BudgetError, match=words):
        spend(budgets, second)
    assert budgets.spending(PAYER, TOKEN).in_period == first
    spend(budgets, 5)
    assert budgets.spending(PAYER, TOKEN).by_payee == {PAYEE: first + 5}


def test_spend__when_a_payee_is_not_on_the_list__refuses(budgets):
    budgets.set(PAYER, TOKEN, Budget(payees=(PAYEE,)))
    spend(budgets, 1)
    with pytest.raises(BudgetError, match="not on the budget's list"):
        spend(budgets, 1, payee=OTHER)


def test_spend__when_the_budget_has_ended__refuses_from_that_second(budgets, clock):
    budgets.set(PAYER, TOKEN, Budget(ends_at=clock.now + 10))
    clock.now += 9
    spend(budgets, 1)
    clock.now += 1
    with pytest.raises(BudgetError, match="ended at"):
        spend(budgets, 1)


def test_spend__when_a_new_period_begins__has_the_whole_limit_again(budgets, clock):
    budgets.set(PAYER, TOKEN, Budget(each_period=10, period=2 * HOUR))
    spend(budgets, 10)
    clock.now += 2 * HOUR - 6
    with pytest.raises(BudgetError):
        spend(budgets, 1)
    clock.now += 1
    spend(budgets, 10)


def test_set__when_a_new_budget_comes_within_a_period__what_was_spent_stays_counted(budgets):
    spend(budgets, 8)
    budgets.set(PAYER, TOKEN, Budget(each_period=10))
    budgets.set(PAYER, TOKEN, Budget(each_period=9))
    with pytest.raises(BudgetError, match="8 base units are spent, 2 base"):
        spend(budgets, 2)


def test_budgets__when_the_file_is_opened_again__are_as_they_were(budgets, store, clock, tmp_path):
    kept = Budget(
        each_payment=5, each_period=10, period=DAY, each_payee=7, payees=(PAYEE, OTHER), ends_at=clock.now + 9
    )
    budgets.set(PAYER, TOKEN, kept)
    spend(budgets, 5)
    with PaymentStore(tmp_path / "payments.sqlite") as again:
        reopened = Budgets(again, clock=clock)
        assert reopened.get(PAYER, TOKEN) == kept
        with pytest.raises(BudgetError, match="allows 7 base units for the payee"):
            spend(reopened, 3)
    budgets.set(PAYER, TOKEN, None)
    assert budgets.get(PAYER, TOKEN) is None


def test_spend__when_it_is_another_token_or_payer__is_another_budget(budgets):
    budgets.set(PAYER, TOKEN, Budget(each_period=0))
    spend(budgets, 1, token=OTHER)
    with pytest.raises(BudgetError):
        spend(budgets, 1)


@pytest.mark.parametrize("bad", [{"period": 0}, {"period": 90}, {"each_payment": -1}])
def test_budget__when_its_terms_make_no_sense__is_refused(bad):
    with pytest.raises(InputError):
        Budget(**bad)


def test_promise__when_it_costs_more_than_allowed__says_so_in_whole_tokens_and_counts_nothing(store):
    """It said "it costs 1000 base units more, 999 were allowed"."""
    budgets = Budgets(store, money=lambda _token, units: f"{units / 1e6} DUSD")
    book = HttpBook(store, PayerBook(store, PAYER, budgets), budgets)
    purchase = Purchase("pay_1", "http://sensor/", PAYEE, lane=0, token=TOKEN)
    with pytest.raises(BudgetError) as caught:
        book.promise(purchase, amount=1000, ceiling=0, most=500)
    assert caught.value.message == "it costs 0.001 DUSD more, at most 0.0005 DUSD may be paid; nothing was signed"
    assert (book.unanswered(), budgets.spending(PAYER, TOKEN).in_period) == ([], 0)
