"""A file is sealed, checked and unsealed in bounded memory: measured from outside, in a process of its own.

The file is larger than the memory allowed. ``PYIOT_LARGE_FILE_MIB=1024`` runs the same with 1 GiB (a minute or two).
"""

import json
import os
import subprocess
import sys

import pytest

LIMIT_MIB = 200
SIZE_MIB = int(os.environ.get("PYIOT_LARGE_FILE_MIB", "256"))

PROGRAM = """
import sys
from pathlib import Path
from pyiot_evm.market.bundle import Bundle
from pyiot_evm.market.fetch import FetchPolicy
from pyiot_evm.market.key_release import ContentKey
from pyiot_evm.market.offers import blank_offer
from pyiot_evm.market.packing import Place, file_metadata, seal_file, unseal_file
from pyiot_evm.market.verification import check_bundle, disclose
from pyiot_evm.types import Address

folder = Path(sys.argv[1])
key, place = ContentKey.create(), Place(31337, Address(bytes(20)))
draft = blank_offer(seller=bytes(20), token=bytes(20), price=1)
metadata = file_metadata(folder / "file")
offer = seal_file(folder / "file", folder / "sealed", key=key, draft=draft, metadata=metadata, place=place)
Bundle.fetch(folder / "sealed", FetchPolicy.local(folder), into=folder / "fetched")
(folder / "sealed").unlink()
with Bundle.open_own(folder / "fetched") as bundle:
    check_bundle(bundle, offer, place, rules={})
    unseal_file(bundle, key, folder / "copy")
    disclosed = disclose(bundle, key, len(bundle) // 2)
assert len(disclosed.sealed_leaf) == 1040
status = Path("/proc/self/status").read_text()  # ru_maxrss would count the process that started this one
print(next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")))
"""


def peak_of(folder):
    """Run the program in a new process and return its peak of memory, in MiB."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.timeout(900)
def test_seal_check_and_unseal__when_the_file_is_larger_than_the_memory__stay_under_200_mib(tmp_path, record_property):
    assert SIZE_MIB > LIMIT_MIB
    with (tmp_path / "file").open("wb") as file:
        file.truncate(SIZE_MIB << 20)
        for offset in range(0, SIZE_MIB << 20, 7_000_001):  # sparse, with a mark here and there
            file.seek(offset)
            file.write(os.urandom(16))
        file.truncate((SIZE_MIB << 20) - 5)
    peak = peak_of(tmp_path)
    assert subprocess.run(["cmp", tmp_path / "file", tmp_path / "copy"], check=False).returncode == 0
    record_property("peak_mib", peak)
    assert peak < LIMIT_MIB
