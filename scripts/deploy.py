"""Deploy the suite with ape, at the same addresses as `pyiot deploy`: CREATE2 with salt 0 through the proxy.

    scripts/ape run deploy --network ethereum:local:foundry

What is there already is left alone, so a second run sends nothing.
"""

import json

from ape import accounts, chain, project
from ape.logging import logger
from ape.utils import ZERO_ADDRESS
from eth_abi.abi import encode
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

# The deterministic-deployment proxy, the same on every chain (github.com/Arachnid/deterministic-deployment-proxy).
PROXY = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
SALT = bytes(32)
# In order; each entry names the contracts whose addresses its constructor takes.
SUITE = {
    "P256Verifier": (),
    "DeviceRegistry": ("P256Verifier",),
    "SignedReadingRule": ("P256Verifier",),
    "DataMarket": (),
    "PaymentChannels": ("P256Verifier",),
    "ERC3009DepositCollector": ("PaymentChannels",),
    "DepositEscrow": ("P256Verifier",),
    "RuleArbiter": ("DepositEscrow", "P256Verifier"),
    "DevDollar": (),
}
LOCAL_CHAINS = {1337, 31337}


def plan() -> dict[str, tuple[str, bytes]]:
    """Return each contract's address and init code, from the bytecode that ape compiled."""
    planned: dict[str, tuple[str, bytes]] = {}
    for name, needs in SUITE.items():
        code = bytes.fromhex(project.get_contract(name).contract_type.deployment_bytecode.bytecode.removeprefix("0x"))
        code += encode(["address"] * len(needs), [planned[need][0] for need in needs])
        digest = keccak(b"\xff" + to_canonical_address(PROXY) + SALT + keccak(code))
        planned[name] = (to_checksum_address(digest[12:]), code)
    return planned


def main() -> None:
    """Deploy what is missing and print the addresses as one JSON object."""
    local = chain.chain_id in LOCAL_CHAINS
    sender = accounts.test_accounts[0] if local else accounts.load("deployer")
    if not chain.provider.get_code(PROXY):
        raise SystemExit(f"chain {chain.chain_id} has no deterministic-deployment proxy: run `pyiot deploy` there once")
    addresses = {}
    for name, (address, code) in plan().items():
        if name == "DevDollar" and not local:
            continue
        if not chain.provider.get_code(address):
            sender.transfer(PROXY, 0, data=SALT + code)
            logger.info(f"{name} deployed")
        if not chain.provider.get_code(address) or address == ZERO_ADDRESS:
            raise SystemExit(f"{name} is not at {address}")
        addresses[name] = address
    print(json.dumps(addresses, indent=2))
