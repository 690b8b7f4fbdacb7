"""Our keys and our chain as x402's code wants them: EIP-712 signatures, and contract calls by ABI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyiot_evm.chain.abi import decode, encode, selector
from pyiot_evm.chain.calls import Call
from pyiot_evm.hashing import keccak256
from pyiot_evm.payment.vouchers import authorizer_of, signature_field
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiot_evm.chain import Chain
    from pyiot_evm.device import Signer

__all__ = [
    "AuthorizerSigner",
    "ReadingSigner",
    "TypedDataSigner",
    "VoucherSigner",
    "contract_call",
    "typed_message_digest",
]


class TypedDataSigner:
    """An account key as x402's client signer and authorizer signer: address, and EIP-712 signatures.

    Args:
        signer: A secp256k1 key.
        address: Its account.
    """

    def __init__(self, signer: Signer, address: Address) -> None:
        self._signer = signer
        self.address = str(address)

    def sign_typed_data(self, domain: Any, types: Any, primary_type: str, message: dict[str, Any]) -> bytes:
        """Return a 65-byte signature."""
        return self._signer.sign_digest(typed_message_digest(domain, types, primary_type, message))


class AuthorizerSigner(TypedDataSigner):
    """The same for claims and refunds, whose signatures x402 wants as text."""

    def sign_typed_data(self, domain: Any, types: Any, primary_type: str, message: dict[str, Any]) -> str:  # type: ignore[override]
        """Return a signature as hex."""
        return "0x" + super().sign_typed_data(domain, types, primary_type, message).hex()


class VoucherSigner(TypedDataSigner):
    """A key that signs vouchers for an account's channels: P-256 too, by its address and its 148 bytes.

    Args:
        signer: The key, of either curve.
    """

    def __init__(self, signer: Signer) -> None:
        super().__init__(signer, authorizer_of(signer))

    def sign_typed_data(self, domain: Any, types: Any, primary_type: str, message: dict[str, Any]) -> bytes:
        """Return a signature as the contract's ``signature`` field."""
        return signature_field(self._signer, typed_message_digest(domain, types, primary_type, message))


class ReadingSigner(TypedDataSigner):
    """The same with a look at the chain, by which x402's client finds its channels again.

    Args:
        chain: The chain.
        signer: A secp256k1 key.
        address: Its account.
    """

    def __init__(self, chain: Chain, signer: Signer, address: Address) -> None:
        super().__init__(signer, address)
        self._chain = chain

    def read_contract(self, address: str, abi: list[dict[str, Any]], function_name: str, *args: Any) -> Any:
        """Call a function and return its result as web3.py does."""
        return self._chain.call(contract_call(address, abi, function_name, args))


def typed_message_digest(domain: Any, types: Any, primary_type: str, message: dict[str, Any]) -> bytes:
    """Return the EIP-712 digest of a message that x402 wants signed or checked."""
    from eth_account.messages import encode_typed_data  # noqa: PLC0415 - slow to import

    fields = domain if isinstance(domain, dict) else _domain_fields(domain)
    members = {name: [_member(item) for item in items] for name, items in types.items() if name != "EIP712Domain"}
    signable = encode_typed_data(fields, {primary_type: members.pop(primary_type), **members}, dict(message))
    return keccak256(b"\x19" + signable.version + signable.header + signable.body)


def _domain_fields(domain: Any) -> dict[str, Any]:
    fields = {"name": domain.name, "chainId": domain.chain_id, "verifyingContract": domain.verifying_contract}
    return {**fields, "version": domain.version} if domain.version else fields


def _member(item: Any) -> dict[str, str]:
    return item if isinstance(item, dict) else {"name": item.name, "type": item.type}


def contract_call(
    address: str, abi: list[dict[str, Any]], name: str, arguments: Sequence[Any], suffix: bytes = b""
) -> Call[Any]:
    """Return the call of a function that an ABI has, with arguments as web3.py takes them."""
    entry = next(
        item
        for item in abi
        if item.get("type") == "function" and item.get("name") == name and len(item["inputs"]) == len(arguments)
    )
    types = [_type(item) for item in entry["inputs"]]
    values = [_value(item, value) for item, value in zip(entry["inputs"], arguments, strict=True)]
    signature = f"{name}({','.join(types)})"
    returns = [_type(item) for item in entry.get("outputs", [])]
    data = selector(signature) + encode(types, values) + suffix
    return Call(Address(address), data, signature, lambda answer: _decoded(returns, answer), contract="x402")


def _decoded(returns: list[str], answer: bytes) -> Any:
    values = list(decode(returns, answer)) if returns else []
    return values[0] if len(values) == 1 else values


def _type(item: dict[str, Any]) -> str:
    kind: str = item["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in item['components'])}){kind.removeprefix('tuple')}"


def _value(item: dict[str, Any], value: Any) -> Any:
    """Turn what web3.py takes (hex text for bytes, mappings for structs) into what the codec takes."""
    kind: str = item["type"]
    if kind.endswith("]"):
        inner = {**item, "type": kind[: kind.rindex("[")]}
        return [_value(inner, part) for part in value]
    if kind == "tuple":
        parts = item["components"]
        members = [value[part["name"]] for part in parts] if isinstance(value, dict) else value
        return tuple(_value(part, member) for part, member in zip(parts, members, strict=True))
    if kind.startswith("bytes") and isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x"))
    return Address(value) if kind == "address" and isinstance(value, str) else value
