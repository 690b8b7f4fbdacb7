"""The journal of transactions: nonces, keys, and what it refuses to forget."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest

from pyiot_evm.chain.fees import FeeOffer
from pyiot_evm.chain.transaction_journal import TransactionJournal
from pyiot_evm.chain.transaction_records import Attempt, Intent, Outcome, check_same_intent
from pyiot_evm.exceptions import ConsistencyError, InputError, StorageError
from pyiot_evm.types import Address, Bytes32, TransactionHash

OWNER = Address("0x" + "11" * 20)
OTHER = Address("0x" + "22" * 20)
OFFER = FeeOffer(20, 2)


@pytest.fixture
def journal(tmp_path):
    journal = TransactionJournal(tmp_path / "deep" / "transactions.sqlite")
    yield journal
    journal.close()


def intent(key: str | None = None, *, value: int = 1) -> Intent:
    return Intent(OTHER, b"\1", value, 21_000, "pay", key)


def attempt(entry, number: int = 1, *, cancels: bool = False) -> Attempt:
    digest = TransactionHash(entry.id.to_bytes(16, "big") + number.to_bytes(16, "big"))
    return Attempt(entry.id, digest, b"raw%d" % number, FeeOffer(20 + number, 2), cancels, time.time())


def outcome(entry, *, status: int = 1, error: bytes | None = None) -> Outcome:
    return Outcome(attempt(entry).hash, status, 7, Bytes32(b"\7" * 32), error)


def reserve(journal, count: int = 1, *, first: int = 0, key: str | None = None):
    return journal.reserve(OWNER, [intent(key) for _ in range(count)], OFFER, first=first)


def test_reserve__when_the_chain_says_first__counts_from_there(journal):
    assert [entry.nonce for entry in reserve(journal, 3, first=5)] == [5, 6, 7]
    assert [entry.nonce for entry in reserve(journal, 2, first=5)] == [8, 9]
    assert [entry.nonce for entry in journal.reserve(OTHER, [intent()], OFFER, first=0)] == [0]


def test_reserve__when_a_nonce_was_released__gives_it_out_again(journal):
    entries = reserve(journal, 3)
    journal.release([entries[1].id])
    assert [entry.nonce for entry in reserve(journal, 2)] == [1, 3]


def test_reserve__when_the_node_is_behind__never_gives_a_mined_nonce(journal):
    entries = reserve(journal, 3)
    journal.add_attempts([(attempt(entry), 0) for entry in entries])
    journal.finish([(entry.id, outcome(entry), "mined") for entry in entries])
    assert reserve(journal, first=1)[0].nonce == 3


def test_reserve__when_the_key_is_known__returns_its_row(journal):
    first = reserve(journal, key="a")[0]
    again = journal.reserve(OWNER, [intent("a"), intent("b")], OFFER, first=0)
    assert [(entry.id, entry.nonce, entry.key) for entry in again] == [(first.id, 0, "a"), (first.id + 1, 1, "b")]
    other = journal.reserve(OTHER, [intent("a")], OFFER, first=0)[0]
    assert other.id not in {first.id, again[1].id}, "a key belongs to one account"


def test_reserve__when_values_are_huge__keeps_them_exactly(journal):
    entry = journal.reserve(OWNER, [intent(value=2**256 - 1)], FeeOffer(2**62, 2**61), first=2**40)[0]
    assert (entry.value, entry.offer, entry.nonce) == (2**256 - 1, FeeOffer(2**62, 2**61), 2**40)
    assert journal.commitments(OWNER) == (1, 21_000 * 2**62 + 2**256 - 1)
    assert journal.commitments(OWNER, first=2**40 + 1) == (0, 0)


def test_reserve__when_threads_and_objects_compete__gives_each_nonce_once(journal):
    second = TransactionJournal(journal.path)
    nonces: list[int] = []

    def work(own: TransactionJournal) -> None:
        for _ in range(10):
            nonces.extend(entry.nonce for entry in reserve(own, 2))

    threads = [threading.Thread(target=work, args=(own,)) for own in (journal, second) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    assert sorted(nonces) == list(range(400))


def reserve_in_process(path, queue) -> None:
    own = TransactionJournal(path)
    queue.put([entry.nonce for _ in range(50) for entry in reserve(own)])


def test_reserve__when_processes_compete__gives_each_nonce_once(journal):
    reserve(journal)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=reserve_in_process, args=(journal.path, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    nonces = [nonce for _ in processes for nonce in queue.get(timeout=60)]
    for process in processes:
        process.join()
    assert sorted(nonces) == list(range(1, 201))


def test_add_attempts__when_somebody_was_faster__stores_one(journal):
    entry = reserve(journal)[0]
    assert journal.add_attempts([(attempt(entry, 1), 0)]) == [attempt_like(journal, entry)]
    assert journal.add_attempts([(attempt(entry, 2), 0)]) == []
    assert len(journal.add_attempts([(attempt(entry, 3), 1)])) == 1
    stored = journal.attempts([entry.id])[entry.id]
    assert [item.raw for item in stored] == [b"raw1", b"raw3"]
    row = journal.get([entry.id])[0]
    assert (row.state, row.offer) == ("signed", FeeOffer(23, 2))


def attempt_like(journal, entry) -> Attempt:
    return journal.attempts([entry.id])[entry.id][0]


def test_add_attempts__when_the_row_ended__stores_nothing(journal):
    entry = reserve(journal)[0]
    journal.add_attempts([(attempt(entry), 0)])
    journal.finish([(entry.id, outcome(entry), "mined")])
    assert journal.add_attempts([(attempt(entry, 2), 1)]) == []


def test_finish__when_it_is_told_twice__keeps_the_first(journal):
    entry = reserve(journal, key="a")[0]
    journal.add_attempts([(attempt(entry), 0)])
    journal.finish([(entry.id, outcome(entry, status=0, error=b"\1\2"), "mined")])
    journal.finish([(entry.id, outcome(entry, status=1), "cancelled")])
    row = journal.find(OWNER, ["a"])["a"]
    assert (row.state, row.status, row.error, row.block_number, row.is_live) == ("mined", 0, b"\1\2", 7, False)
    assert journal.live(OWNER) == []
    assert [item.id for item in journal.mined_from(OWNER, 0)] == [entry.id]
    assert journal.mined_from(OWNER, 1) == []


def test_release__when_it_was_signed__keeps_it(journal):
    entry = reserve(journal)[0]
    journal.add_attempts([(attempt(entry), 0)])
    journal.release([entry.id])
    assert journal.live(OWNER)[0].id == entry.id


def test_reassign__when_the_nonce_is_gone__takes_the_next_free_one_once(journal):
    entry, blocker = reserve(journal, 2)
    journal.add_attempts([(attempt(entry), 0)])
    journal.reassign(entry, first=1)
    journal.reassign(entry, first=1)
    row = journal.get([entry.id])[0]
    assert (row.nonce, row.state, journal.attempts([entry.id])[entry.id]) == (2, "reserved", [])
    assert blocker.nonce == 1


def test_fill__when_the_nonce_is_taken__does_nothing(journal):
    reserve(journal, first=3)
    assert journal.fill(OWNER, 3, intent(), OFFER) is None
    assert journal.fill(OWNER, 2, intent(), OFFER).nonce == 2


def test_forget_undone__when_the_chain_went_back__forgets_from_its_count_on(journal):
    entries = reserve(journal, 4)
    journal.add_attempts([(attempt(entry), 0) for entry in entries])
    journal.finish([(entry.id, outcome(entry), "mined") for entry in entries[:3]])
    journal.forget_undone(lambda address: {OWNER: 1}[address])
    assert [entry.nonce for entry in (*journal.mined_from(OWNER, 0), *journal.live(OWNER))] == [0]
    assert journal.attempts([entries[3].id]) == {entries[3].id: []}


def test_take_duty__when_many_ask__tells_one(journal):
    assert [journal.take_duty(OWNER, "repair", every=60) for _ in range(3)] == [True, False, False]
    assert journal.take_duty(OTHER, "repair", every=60)
    assert journal.take_duty(OWNER, "other", every=60)
    assert journal.take_duty(OWNER, "repair", every=0)


def test_journal__when_it_is_opened_again__knows_everything_and_is_private(journal):
    entry = reserve(journal, key="a")[0]
    journal.close()
    again = TransactionJournal(journal.path)
    assert again.find(OWNER, ["a", "b"]) == {"a": entry}
    again.close()
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.get([99]) == []


def test_journal__when_the_file_is_no_database__raises(tmp_path):
    path = tmp_path / "transactions.sqlite"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(ConsistencyError, match="cannot be read"):
        TransactionJournal(path).live(OWNER)


def test_journal__when_a_write_fails__leaves_no_half(journal):
    reserve(journal)
    with pytest.raises(StorageError, match="type 'object' is not supported"):
        journal.reserve(OWNER, [intent(), Intent(OTHER, object(), 0, 1, "x", None)], OFFER, first=0)  # type: ignore[arg-type]
    assert len(journal.live(OWNER)) == 1


@pytest.mark.parametrize(
    "other", [Intent(OWNER, b"\1", 1, 1, "pay", "a"), Intent(OTHER, b"\2", 1, 1, "pay", "a"), intent("a", value=2)]
)
def test_check_same_intent__when_anything_differs__raises(journal, other):
    entry = reserve(journal, key="a")[0]
    check_same_intent(entry, Intent(OTHER, b"\1", 1, 999, "another text", "a"))
    with pytest.raises(InputError, match="the key 'a' belongs to another transaction"):
        check_same_intent(entry, other)
