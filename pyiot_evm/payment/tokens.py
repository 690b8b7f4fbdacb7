"""What a token must know to be paid by signature (ERC-3009's `receiveWithAuthorization`), and its money in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.chain.abi import decode, encode, selector
from pyiot_evm.chain.calls import Call
from pyiot_evm.device.typed import address_word, domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.exceptions import ConsistencyError, ContractError, InputError, PyIotEvmError
from pyiot_evm.types import Address, Bytes32

if TYPE_CHECKING:
    from pyiot_evm.chain import Chain
    from pyiot_evm.device import Signer

__all__ = [
    "TokenDomain",
    "authorization_state",
    "is_authorization_used",
    "money_text",
    "receive_digest",
    "sign_receive",
    "token_domain",
]

_RECEIVE: Final = type_hash(
    "ReceiveWithAuthorization(address from,address to,uint256 value,"
    "uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)


@dataclass(frozen=True, slots=True)
class TokenDomain:
    """A token's EIP-712 domain, held against the token's own word.

    Attributes:
        address: The token.
        name: Its name.
        version: Its version.
        separator: The domain separator.
    """

    address: Address
    name: str
    version: str
    separator: bytes


def token_domain(chain: Chain, token: Address) -> TokenDomain:
    """Return the domain of a token that knows ERC-3009.

    The separator is made here from name, version, chain and address, so that a token cannot have a payment signed for
    another contract.

    Raises:
        InputError: The token does not know ERC-3009.
    """
    probes = (
        _call(token, "name()", "string"),
        _call(token, "version()", "string"),
        _call(token, "DOMAIN_SEPARATOR()", "bytes32"),
        _call(token, "authorizationState(address,bytes32)", "bool", token, bytes(32)),
    )
    try:
        name, version, separator, _ = chain.call_many(probes)
    except (ContractError, ConsistencyError) as error:
        raise _unable(token) from error
    expected = domain_separator(name, version, chain_id=chain.chain_id, contract=token)
    if expected != separator:
        raise _unable(token)
    return TokenDomain(token, name, version, expected)


def money_text(chain: Chain, token: Address, units: int) -> str:
    """Write base units as whole tokens with their symbol, or as what they are where the token does not answer."""
    try:
        info = chain.token_info(token)
    except PyIotEvmError:
        return f"{units} base units"
    return f"{info.from_units(units):f} {info.symbol}"


def sign_receive(
    signer: Signer, domain: TokenDomain, *, payer: Address, to: Address, amount: int, valid_before: int, nonce: bytes
) -> bytes:
    """Sign that ``to`` may take an amount from the payer, once, before a time."""
    return signer.sign_digest(
        receive_digest(domain, payer=payer, to=to, amount=amount, valid_before=valid_before, nonce=nonce)
    )


def receive_digest(
    domain: TokenDomain, *, payer: Address, to: Address, amount: int, valid_before: int, nonce: bytes
) -> bytes:
    """Return what :func:`sign_receive` signs."""
    fields = (address_word(payer), address_word(to), word(amount), word(0), word(valid_before), Bytes32(nonce))
    return typed_digest(domain.separator, struct_hash(_RECEIVE, *fields))


def is_authorization_used(chain: Chain, token: Address, authorizer: Address, nonce: bytes) -> bool:
    """Whether an ERC-3009 authorization was used, or cancelled."""
    return bool(chain.call(authorization_state(token, authorizer, nonce)))


def authorization_state(token: Address, authorizer: Address, nonce: bytes) -> Call[Any]:
    """Return the call that tells whether an ERC-3009 authorization was used, or cancelled."""
    return _call(token, "authorizationState(address,bytes32)", "bool", authorizer, Bytes32(nonce))


def _unable(token: Address) -> InputError:
    return InputError(
        f"token {token} cannot be paid by a signature (ERC-3009)", hint="use a token like USDC or the dev dollar"
    )


def _call(token: Address, signature: str, returns: str, *arguments: Any) -> Call[Any]:
    types = signature[signature.index("(") + 1 : -1]
    data = selector(signature) + encode(types.split(",") if types else [], list(arguments))
    return Call(token, data, signature, lambda answer: decode([returns], answer)[0], contract="token")
