"""The one Keccak-256, by either of the libraries behind it."""

import subprocess
import sys

import pytest

from pyiot_evm.hashing import keccak256

# The Keccak team's known answers for Keccak-256 (not SHA3-256).
KNOWN = {
    b"": "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470",
    b"abc": "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45",
}


@pytest.mark.parametrize("data", KNOWN)
def test_keccak256__when_given_a_known_message__gives_the_known_digest(data):
    assert keccak256(data).hex() == KNOWN[data]
    assert keccak256(bytearray(data)) == keccak256(memoryview(data)) == keccak256(data)


@pytest.mark.parametrize("data", KNOWN)
def test_keccak256__when_safe_pysha3_is_missing__gives_the_same(data):
    program = "import sys; sys.modules['sha3'] = None\n"
    program += f"from pyiot_evm.hashing import keccak256\nprint(keccak256({data!r}).hex())"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == KNOWN[data]
