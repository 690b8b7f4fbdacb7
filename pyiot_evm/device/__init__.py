"""What runs on a device: its keys, the readings that it signs, and the journal that it keeps of them.

It imports neither web3 nor pandas, loads in under 100 ms and runs on a small computer.

Example:
    >>> import tempfile, pathlib
    >>> signer = LocalSigner.create("p256")
    >>> schema = Schema((Field("temperature", unit="Cel", scale=2),))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "readings"
    >>> with ReadingJournal.open(path, device=signer.device, schema=schema, curve="p256") as journal:
    ...     reading = journal.sign(signer, values=schema.fix([21.5]))
    >>> reading.is_signed_by(signer.signer_bytes)
    True
"""

from __future__ import annotations

from pyiot_evm.device.journal import ReadingJournal
from pyiot_evm.device.keystore import KeystoreSigner
from pyiot_evm.device.pkcs11 import Pkcs11Key, Pkcs11Signer
from pyiot_evm.device.reading import Reading
from pyiot_evm.device.schema import Field, Schema
from pyiot_evm.device.signers import (
    P256_VERIFIER,
    Curve,
    LocalSigner,
    Signer,
    check_signer,
    curve_of,
    device_id,
    p256_signer,
    verify_signature,
)

__all__ = [
    "P256_VERIFIER",
    "Curve",
    "Field",
    "KeystoreSigner",
    "LocalSigner",
    "Pkcs11Key",
    "Pkcs11Signer",
    "Reading",
    "ReadingJournal",
    "Schema",
    "Signer",
    "check_signer",
    "curve_of",
    "device_id",
    "p256_signer",
    "verify_signature",
]
