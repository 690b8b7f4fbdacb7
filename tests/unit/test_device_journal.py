"""pyiot_evm.device.journal: order, crashes, rivals, roll-backs, forks, damage."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pyiot_evm.device import Field, LocalSigner, ReadingJournal, Schema
from pyiot_evm.device.reading import ZERO_DIGEST
from pyiot_evm.exceptions import ConsistencyError, InputError, SigningError, TransportError, VerificationError
from pyiot_evm.hashing import keccak256

SCHEMA = Schema((Field("temperature", unit="Cel", scale=2, minimum=-40, maximum=85),))
SECRET = keccak256(b"journal")
SIGNERS = {curve: LocalSigner.from_secret(SECRET, curve) for curve in ("secp256k1", "p256")}
RECORD = {"secp256k1": 64 + 16 + 65 + 4, "p256": 64 + 16 + 64 + 4}


@pytest.fixture(params=["secp256k1", "p256"])
def signer(request):
    return SIGNERS[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "readings"


def begin(path: Path, signer: LocalSigner, **more) -> ReadingJournal:
    return ReadingJournal.open(path, device=signer.device, schema=SCHEMA, curve=signer.curve, **more)


def write(path: Path, signer: LocalSigner, count: int) -> list:
    with begin(path, signer) as journal:
        return journal.sign_many(signer, [(1000 + i, (i,)) for i in range(count)])


def test_sign__when_called__appends_to_the_chain(path, signer):
    with begin(path, signer) as journal:
        assert (len(journal), journal.head.seq, journal.head.digest) == (0, -1, ZERO_DIGEST)
        first = journal.sign(signer, time=5, values=(100,))
        second = journal.sign(signer, time=4, values=(-100,))
        assert (first.seq, first.prev, first.device, first.schema) == (0, ZERO_DIGEST, signer.device, SCHEMA.hash)
        assert (second.seq, second.prev, second.time, second.values) == (1, first.digest, 4, (-100,))
        assert list(journal) == [journal[0], journal[1]] == [first, second]
        assert (journal.head.seq, journal.head.digest) == (1, second.digest)
        journal.verify([signer.signer_bytes])


def test_sign__when_no_time_is_given__takes_the_clock_s(path, signer):
    with begin(path, signer) as journal:
        reading = journal.sign(signer, values=(0,))
        assert abs(reading.time / 1000 - path.stat().st_mtime) < 60


def test_open__when_it_exists__goes_on(path, signer):
    readings = write(path, signer, 3)
    with ReadingJournal.open(path) as journal:
        assert (journal.device, journal.curve, journal.schema) == (signer.device, signer.curve, SCHEMA)
        assert list(journal) == readings
        assert journal.sign(signer, time=0, values=(7,)).prev == readings[-1].digest


def test_open__when_made__is_private(path, signer):
    write(path, signer, 1)
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


def test_open__when_nothing_is_there_and_too_little_is_given__raises(path):
    with pytest.raises(InputError, match=f"no journal at {path}"):
        ReadingJournal.open(path, schema=SCHEMA)
    assert not path.exists()


def test_open__when_it_is_another_one__raises(path, signer):
    write(path, signer, 1)
    other = "p256" if signer.curve == "secp256k1" else "secp256k1"
    with pytest.raises(InputError, match="is the journal of device"):
        ReadingJournal.open(path, device=bytes(32))
    with pytest.raises(InputError, match="has another schema"):
        ReadingJournal.open(path, schema=Schema((Field("b"),)))
    with pytest.raises(InputError, match=f"has a key on {signer.curve}, not {other}"):
        ReadingJournal.open(path, curve=other)


@pytest.mark.parametrize("data", [b"", b"pyiot", b"something else entirely", b"pyiotrj2" + bytes(40)])
def test_open__when_it_is_no_journal__raises(path, data):
    path.write_bytes(data)
    with pytest.raises(InputError, match="is not a reading journal"):
        ReadingJournal.open(path)


def test_open__when_the_header_is_damaged__raises(path, signer):
    write(path, signer, 1)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConsistencyError, match=r"the header of the journal .* is damaged"):
        ReadingJournal.open(path)


def test_sign__when_the_signer_is_on_another_curve__raises(path):
    with begin(path, SIGNERS["p256"]) as journal:
        with pytest.raises(InputError, match="the journal's key is on p256, this signer on secp256k1"):
            journal.sign(SIGNERS["secp256k1"], values=(1,))
        assert len(journal) == 0


def test_sign_many__when_a_row_is_bad__names_it_and_writes_nothing(path, signer):
    with begin(path, signer) as journal:
        with pytest.raises(InputError, match=r"row 2: field temperature: 85.01 is not from -40.00 to 85.00 Cel"):
            journal.sign_many(signer, [(0, (1,)), (0, (2,)), (0, (8501,))])
        with pytest.raises(InputError, match=r"row 1: sequence number 1 or time -1 does not fit uint64"):
            journal.sign_many(signer, [(0, (1,)), (-1, (2,))])
        assert len(journal) == 0
        assert journal.sign(signer, values=(1,)).seq == 0


def test_sign__when_the_signer_refuses__writes_nothing(path, signer):
    with begin(path, signer) as journal:
        closed = LocalSigner.from_secret(SECRET, signer.curve)
        closed.close()
        with pytest.raises(SigningError, match="the signer is closed"):
            journal.sign(closed, values=(1,))
        assert len(journal) == 0


def test_sign_many__when_there_are_no_rows__gives_none(path, signer):
    with begin(path, signer) as journal:
        assert journal.sign_many(signer, []) == []
        assert len(journal) == 0


def test_getitem__when_there_is_no_such_reading__raises(path, signer):
    write(path, signer, 2)
    with ReadingJournal.open(path) as journal:
        for seq in (-1, 2):
            with pytest.raises(InputError, match=f"the journal has no reading {seq}: it ends at 1"):
                journal[seq]


def test_sign__when_the_journal_is_closed__raises(path, signer):
    journal = begin(path, signer)
    journal.close()
    with pytest.raises(InputError, match="is closed"):
        journal.sign(signer, values=(1,))


def test_iter__when_there_are_many__gives_all_in_order(path, signer):
    readings = write(path, signer, 600)
    with ReadingJournal.open(path) as journal:
        assert list(journal) == readings


# Crashes


def test_open__when_the_last_record_is_torn_at_any_byte__cuts_it_off(path, signer):
    write(path, signer, 2)
    whole = path.read_bytes()
    with ReadingJournal.open(path) as journal:
        third = journal.sign(signer, time=0, values=(3,))
    longer = path.read_bytes()
    head = path.with_name("readings.head")
    for size in range(len(whole) + 1, len(longer)):
        path.write_bytes(longer[:size])
        head.unlink(missing_ok=True)
        with ReadingJournal.open(path) as journal:
            assert len(journal) == 2
            assert journal.head.digest == third.prev
            assert journal.sign(signer, time=9, values=(4,)).seq == 2
            journal.verify([signer.signer_bytes])


def test_open__when_a_batch_was_half_written__keeps_what_is_whole_and_goes_on(path, signer):
    write(path, signer, 2)
    head = path.with_name("readings.head").read_bytes()
    write(path, signer, 5)
    data = bytearray(path.read_bytes())
    data[-3 * RECORD[signer.curve] + 70] ^= 0xFF  # the write of five reached the disk out of order, then the power went
    path.write_bytes(data)
    path.with_name("readings.head").write_bytes(head)
    with ReadingJournal.open(path) as journal:
        assert len(journal) == 4
        assert journal.sign(signer, values=(1,)).seq == 4
        journal.verify([signer.signer_bytes])


def test_sign__when_the_disk_is_full__raises_and_leaves_the_chain_whole(path, signer, monkeypatch):
    write(path, signer, 2)
    with ReadingJournal.open(path) as journal:
        real = os.pwrite

        def full(descriptor, data, offset):
            if offset < 100:
                return real(descriptor, data, offset)
            monkeypatch.setattr(os, "pwrite", broken)
            return real(descriptor, data[:10], offset)

        def broken(descriptor, data, offset):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(TransportError, match="No space left on device") as caught:
            journal.sign(signer, values=(1,))
        assert caught.value.retryable
        monkeypatch.setattr(os, "pwrite", real)
        assert len(journal) == 2
        assert journal.sign(signer, values=(1,)).seq == 2


CHILD = """
import sys, pathlib
from pyiot_evm.device import LocalSigner, ReadingJournal
signer = LocalSigner.from_secret(bytes.fromhex(sys.argv[2]), "p256")
with ReadingJournal.open(pathlib.Path(sys.argv[1])) as journal:
    for i in range(int(sys.argv[3])):
        reading = journal.sign(signer, time=i, values=(i % 8000,))
        print(reading.seq, reading.digest.hex(), flush=True)
"""


def child(path: Path, count: int) -> subprocess.Popen:
    command = [sys.executable, "-c", CHILD, str(path), SECRET.hex(), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_sign__when_the_process_is_killed_again_and_again__never_loses_or_repeats_a_reading(path):
    signer = SIGNERS["p256"]
    begin(path, signer).close()
    released: dict[int, str] = {}
    for lines in (1, 3, 7, 20):
        process = child(path, 100_000)
        for _ in range(lines):
            seq, digest = process.stdout.readline().split()
            assert int(seq) not in released
            released[int(seq)] = digest
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            if line.endswith("\n"):
                seq, digest = line.split()
                assert int(seq) not in released
                released[int(seq)] = digest
        process.wait()
    with ReadingJournal.open(path) as journal:
        assert [journal[seq].digest.hex() for seq in sorted(released)] == [released[seq] for seq in sorted(released)]
        assert len(journal) >= len(released) >= 31
        journal.verify([signer.signer_bytes])


# Rivals


def test_sign__when_processes_share_the_journal__they_take_turns(path):
    signer = SIGNERS["p256"]
    begin(path, signer).close()
    processes = [child(path, 25) for _ in range(3)]
    seqs = [int(line.split()[0]) for process in processes for line in process.stdout]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert sorted(seqs) == list(range(75))
    with ReadingJournal.open(path) as journal:
        journal.verify([signer.signer_bytes])


def test_sign__when_threads_and_objects_share_the_journal__they_take_turns(path, signer):
    journals = [begin(path, signer) for _ in range(3)]
    found: list[int] = []

    def work(journal):
        found.extend(journal.sign(signer, values=(1,)).seq for _ in range(20))

    threads = [threading.Thread(target=work, args=(journal,)) for journal in (*journals, journals[0])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(80))
    journals[0].verify([signer.signer_bytes])
    for journal in journals:
        journal.close()


def test_sign__when_the_process_forks__the_child_does_not_share_the_parent_s_lock(path, signer):
    script = """
import os, pathlib, sys
from pyiot_evm.device import LocalSigner, ReadingJournal
signer = LocalSigner.from_secret(bytes.fromhex(sys.argv[2]), sys.argv[3])
journal = ReadingJournal.open(pathlib.Path(sys.argv[1]))
children = [os.fork() for _ in range(1)]
for i in range(40):
    journal.sign(signer, time=i, values=(i,))
if children[0]:
    os._exit(os.waitpid(children[0], 0)[1])
os._exit(0)
"""
    begin(path, signer).close()
    subprocess.run([sys.executable, "-c", script, str(path), SECRET.hex(), signer.curve], check=True)
    with ReadingJournal.open(path) as journal:
        assert len(journal) == 80
        journal.verify([signer.signer_bytes])


# Roll-backs, forks and damage


def test_open__when_an_old_copy_was_put_back__raises(path, signer):
    write(path, signer, 2)
    old = path.read_bytes()
    write(path, signer, 3)
    path.write_bytes(old)
    with pytest.raises(ConsistencyError, match="the journal ends at 1, but reading 4 was signed: it was rolled back"):
        ReadingJournal.open(path)


def test_open__when_all_readings_were_cut_off__raises(path, signer):
    begin(path, signer).close()
    empty = path.read_bytes()
    write(path, signer, 1)
    path.write_bytes(empty)
    with pytest.raises(ConsistencyError, match="the journal ends at -1, but reading 0 was signed"):
        ReadingJournal.open(path)


def test_sign__when_the_file_is_cut_while_it_is_open__raises(path, signer):
    with begin(path, signer) as journal:
        journal.sign_many(signer, [(0, (1,))] * 3)
        os.truncate(path, path.stat().st_size - RECORD[signer.curve])
        with pytest.raises(ConsistencyError, match="the journal ends at 1, but reading 2 was signed"):
            journal.sign(signer, values=(1,))


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "removed"])
def test_sign__when_the_file_is_replaced_while_it_is_open__raises(path, signer, replaced):
    with begin(path, signer) as journal:
        data = path.read_bytes()
        path.unlink()
        if replaced:
            path.write_bytes(data)
        with pytest.raises(ConsistencyError, match=r"was replaced|was removed"):
            journal.sign(signer, values=(1,))


def test_open__when_a_copy_went_on_elsewhere__notices_the_fork(path, signer, tmp_path):
    write(path, signer, 2)
    old = path.read_bytes()
    copy = tmp_path / "copy"
    copy.write_bytes(old)
    write(path, signer, 1)
    with ReadingJournal.open(copy) as journal:
        journal.sign(signer, time=77, values=(5,))
    path.write_bytes(copy.read_bytes())
    with pytest.raises(
        ConsistencyError, match="reading 2 in the journal is not the one that was signed: it was forked"
    ):
        ReadingJournal.open(path)


def test_open__when_a_record_before_the_head_is_damaged__raises_and_cuts_nothing(path, signer):
    write(path, signer, 3)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConsistencyError, match="reading 2 in the journal is damaged"):
        ReadingJournal.open(path)
    assert path.read_bytes() == data


def test_getitem_and_iter__when_an_old_record_is_damaged__raise(path, signer):
    write(path, signer, 3)
    data = bytearray(path.read_bytes())
    data[-2 * RECORD[signer.curve] - 10] ^= 1
    path.write_bytes(data)
    with ReadingJournal.open(path) as journal:
        for read in (lambda: journal[0], lambda: list(journal)):
            with pytest.raises(ConsistencyError, match=r"reading 0 in .* is damaged"):
                read()


def test_open__when_the_head_file_has_one_torn_slot__uses_the_other(path, signer):
    write(path, signer, 1)
    write(path, signer, 1)
    head = path.with_name("readings.head")
    data = bytearray(head.read_bytes())
    data[3] ^= 1
    head.write_bytes(data)
    with ReadingJournal.open(path) as journal:
        assert len(journal) == 2


def test_open__when_the_head_file_lies_elsewhere__notices_a_rolled_back_folder(path, signer, tmp_path):
    elsewhere = tmp_path / "secure-element"
    with begin(path, signer, head_path=elsewhere) as journal:
        journal.sign(signer, values=(1,))
    old = path.read_bytes()
    with ReadingJournal.open(path, head_path=elsewhere) as journal:
        journal.sign(signer, values=(1,))
    path.write_bytes(old)
    with pytest.raises(ConsistencyError, match="it was rolled back"):
        ReadingJournal.open(path, head_path=elsewhere)


def test_check_head__when_a_gateway_remembers_more__raises(path, signer):
    readings = write(path, signer, 3)
    with ReadingJournal.open(path) as journal:
        journal.check_head(2, readings[2].digest)
        journal.check_head(0, readings[0].digest)
        with pytest.raises(
            ConsistencyError, match="the journal ends at 2, but reading 3 was signed: it was rolled back"
        ):
            journal.check_head(3, bytes(32))
        with pytest.raises(ConsistencyError, match="reading 1 in the journal is not the one that was signed"):
            journal.check_head(1, bytes(32))


def test_verify__when_the_signer_is_another__raises(path, signer):
    write(path, signer, 2)
    with ReadingJournal.open(path) as journal:
        with pytest.raises(VerificationError, match="reading 0 is not signed by the device"):
            journal.verify([LocalSigner.create(signer.curve).signer_bytes])
        journal.verify([LocalSigner.create(signer.curve).signer_bytes, signer.signer_bytes])


def test_verify__when_records_are_swapped__raises(path, signer):
    write(path, signer, 4)
    data, size = path.read_bytes(), RECORD[signer.curve]
    start = len(data) - 4 * size
    records = [data[start + i * size : start + (i + 1) * size] for i in range(4)]
    path.write_bytes(data[:start] + records[1] + records[0] + records[2] + records[3])
    with ReadingJournal.open(path) as journal, pytest.raises(VerificationError, match="reading 0 does not follow"):
        journal.verify([signer.signer_bytes])


# Going on in another journal


def test_continued__when_the_key_and_schema_change__goes_on_with_the_chain(path, tmp_path):
    old, new = SIGNERS["secp256k1"], SIGNERS["p256"]
    readings = write(path, old, 3)
    schema = Schema((Field("humidity", unit="%RH"),))
    with ReadingJournal.open(path) as journal:
        later = journal.continued(tmp_path / "later", schema=schema, curve="p256")
        with later:
            reading = later.sign(new, time=0, values=(4,))
            assert (reading.seq, reading.prev, reading.device) == (3, readings[-1].digest, old.device)
            assert later.head.seq == 3
            assert later[3] == reading
            later.verify([new.signer_bytes])
            later.check_head(1, readings[1].digest)
        with pytest.raises(InputError, match="later exists already"):
            journal.continued(tmp_path / "later")
    with ReadingJournal.open(tmp_path / "later") as later:
        assert (len(later), later.curve, later.schema) == (1, "p256", schema)
