"""What runs on a device: keys and signatures, and later in this package readings and their journal.

It imports neither web3 nor pandas and loads in under 100 ms.
"""

from __future__ import annotations

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
    "LocalSigner",
    "Signer",
    "check_signer",
    "curve_of",
    "device_id",
    "p256_signer",
    "verify_signature",
]
