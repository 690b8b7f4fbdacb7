"""What x402's facilitator sends and reads through: this package's own chain and transaction manager.

Every transaction has an idempotency key made of its content, so that a settlement that is tried again sends nothing
twice. A node that does not answer, or a disk that is full, is noted as a fault of ours: x402's code turns every
exception into "402, pay again".
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.chain.abi import decode, encode, selector
from pyiot_evm.chain.calls import Call
from pyiot_evm.exceptions import ContractError, PyIotEvmError
from pyiot_evm.hashing import keccak256
from pyiot_evm.payment.x402_signer import contract_call, typed_message_digest
from pyiot_evm.types import ZERO_ADDRESS, Address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiot_evm.chain import Account, Chain, Pending

__all__ = ["FacilitatorSigner", "Faults"]

_REMEMBERED: Final = 10_000
_OURS: Final = (PyIotEvmError, OSError)


class Faults:
    """Faults of ours while one request is served; each thread has its own."""

    def __init__(self) -> None:
        self._local = threading.local()

    def clear(self) -> None:
        """Begin a request."""
        self._local.found = None

    @property
    def found(self) -> Exception | None:
        """The first fault since."""
        return getattr(self._local, "found", None)

    @contextmanager
    def noted_all(self) -> Iterator[None]:
        """Note any fault of the chain or of the books, a contract's refusal too."""
        try:
            yield
        except _OURS as error:
            self._note(error)
            raise

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a fault that is not the client's: anything but a contract's refusal."""
        try:
            yield
        except ContractError:
            raise
        except _OURS as error:
            self._note(error)
            raise

    def _note(self, error: Exception) -> None:
        if self.found is None:
            self._local.found = error


class FacilitatorSigner:
    """x402's `FacilitatorEvmSigner` over a chain and an account.

    Args:
        chain: The chain.
        account: Who sends settlements, and pays their gas.
        faults: Where faults are noted.
        patience: Seconds that a settlement is waited for.
    """

    def __init__(self, chain: Chain, account: Account, faults: Faults, *, patience: float = 120.0) -> None:
        self._patience = patience
        self._chain = chain
        self._account = account
        self._faults = faults
        self._pending: dict[str, Pending] = {}

    def get_addresses(self) -> list[str]:
        """Return the account's address."""
        return [str(self._account.address)]

    def get_chain_id(self) -> int:
        """Return the chain's id."""
        return self._chain.chain_id

    def get_code(self, address: str) -> bytes:
        """Return the code at an address."""
        with self._faults.noted():
            return self._chain.code_at(Address(address))

    def get_balance(self, address: str, token_address: str) -> int:
        """Return an account's balance of a token, or of ether where the token is none."""
        with self._faults.noted():
            if not token_address or Address(token_address) == ZERO_ADDRESS:
                return self._chain.balance(Address(address))
            balance: Call[int] = Call(
                Address(token_address),
                selector("balanceOf(address)") + encode(["address"], [Address(address)]),
                "balanceOf(address)",
                lambda data: decode(["uint256"], data)[0],
            )
            return self._chain.call(balance)

    def read_contract(self, address: str, abi: list[dict[str, Any]], function_name: str, *args: Any) -> Any:
        """Call a function and return its result as web3.py does."""
        call = contract_call(address, abi, function_name, args)
        with self._faults.noted():
            return self._chain.call(call, sender=self._account.address)

    def write_contract(
        self, address: str, abi: list[dict[str, Any]], function_name: str, *args: Any, data_suffix: str | None = None
    ) -> str:
        """Send a call once and return its hash; the same call again is the same transaction."""
        suffix = bytes.fromhex((data_suffix or "").removeprefix("0x"))
        call = contract_call(address, abi, function_name, args, suffix)
        with self._faults.noted():
            pending = self._account.send(call, key=f"x402:{keccak256(bytes(call.to) + call.data).hex()}")
        if len(self._pending) > _REMEMBERED:
            self._pending.clear()
        self._pending[str(pending.hash)] = pending
        return str(pending.hash)

    def send_transaction(self, to: str, data: bytes) -> str:
        """Refuse: a facilitator that sends what clients ask for (ERC-6492 factories) acts in their name."""
        raise ValueError(f"this facilitator sends no foreign calls: {to}, {len(data)} bytes")

    def wait_for_transaction_receipt(self, tx_hash: str) -> Any:
        """Wait until a settlement has its confirmations."""
        from x402.mechanisms.evm.types import TransactionReceipt  # noqa: PLC0415 - the extra `gateway`

        with self._faults.noted():
            pending = self._pending.pop(tx_hash, None)
            if pending is None:
                found = self._chain.wait_for_receipt(tx_hash, timeout=self._patience)
                return TransactionReceipt(int(found["status"], 16), int(found["blockNumber"], 16), tx_hash)
            try:
                receipt = pending.wait(timeout=self._patience)
            except ContractError:
                return TransactionReceipt(0, 0, tx_hash)
        return TransactionReceipt(receipt.status, receipt.block_number, str(receipt.hash))

    def verify_typed_data(  # noqa: PLR0917 - x402's signature
        self, address: str, domain: Any, types: Any, primary_type: str, message: dict[str, Any], signature: bytes
    ) -> bool:
        """Whether an account with a key signed; a contract's word (ERC-1271) is not taken here."""
        from pyiot_evm.device import verify_signature  # noqa: PLC0415

        digest = typed_message_digest(domain, types, primary_type, message)
        return verify_signature(Address(address), digest, signature)
