"""Who a device is: its registration, owner, keys over time, sessions, metadata and DID.

Example:
    >>> from pyiot_evm.identity import Devices, Scope
    >>> Scope.PUBLISH | Scope.COMMAND
    <Scope.PUBLISH|COMMAND: 3>
"""

from __future__ import annotations

from pyiot_evm.identity.devices import DeviceChange, Devices
from pyiot_evm.identity.did import did_document, did_key, did_of, did_pkh
from pyiot_evm.identity.lookups import DeviceDetails, DeviceRecord, SignerWindow
from pyiot_evm.identity.messages import RegistryMessages
from pyiot_evm.identity.metadata import DeviceMetadata, Location, Sensor
from pyiot_evm.identity.sessions import Credential, Scope, SessionKey

__all__ = [
    "Credential",
    "DeviceChange",
    "DeviceDetails",
    "DeviceMetadata",
    "DeviceRecord",
    "Devices",
    "Location",
    "RegistryMessages",
    "Scope",
    "Sensor",
    "SessionKey",
    "SignerWindow",
    "did_document",
    "did_key",
    "did_of",
    "did_pkh",
]
