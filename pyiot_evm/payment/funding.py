"""How an order or a rental is paid: by an allowance, or by one signature that pays and acts at once.

The signature is ERC-3009's ``receiveWithAuthorization`` with the order's or the rental's id as its nonce: it pays
exactly the price, to the contract alone, for this id alone, and leaves no allowance behind. Anybody can carry it to the
chain, so a machine without ether can pay. A token that cannot do that is paid by an allowance of exactly the price, or
by one that lasts, where the policy says so.

Example:
    >>> from pyiot_evm.payment.funding import Funding
    >>> Funding.VALID_SECONDS
    3600
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.exceptions import InputError
from pyiot_evm.market.locks import file_lock
from pyiot_evm.payment.tokens import sign_receive, token_domain

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm.chain import Call
    from pyiot_evm.device import Signer
    from pyiot_evm.payment.tokens import TokenDomain
    from pyiot_evm.sending import Sender, TransactionRecord
    from pyiot_evm.types import Address

__all__ = ["Funding", "good_until"]


class Funding:
    """Pays one account's orders or rentals at the contract that its sender acts on.

    Args:
        sender: The account, and what it sends with.
        signer: The account's key.
        folder: Where the locks between processes lie.
    """

    VALID_SECONDS: ClassVar[int] = 3600
    """From the draft, so that the same order or rental always makes the same transaction."""

    def __init__(self, sender: Sender, *, signer: Signer, folder: Path) -> None:
        self._sender = sender
        self._signer = signer
        self._folder = folder

    def check(self, token: Address, amount: int, what: str) -> None:
        """Check that the account holds an amount.

        Args:
            token: The ERC-20.
            amount: Base units.
            what: What costs that, and a verb, e.g. ``"the price is"``.

        Raises:
            InputError: It does not; nothing was signed.
        """
        chain, address = self._sender.chain, self._sender.address
        held = chain.call(Erc20(token).balance_of(address))
        if held < amount:
            info = chain.token_info(token)
            raise InputError(
                f"{what} {info.from_units(amount)} {info.symbol}, and {address} holds {info.from_units(held)}",
                hint="on a devnet: chain.fund(machine.address, dollars=…)",
            )

    def is_by_signature(self, pay: str, token: Address, amount: int) -> bool:
        """Say how an amount is paid: by a signature, or by an allowance.

        Args:
            pay: ``authorization``, ``allowance``, or ``auto``: the allowance where one is there, else the signature
                where the token can, else an approval.
            token: The ERC-20.
            amount: Base units.
        """
        is_chosen = pay == "authorization" or (
            pay == "auto" and self._allowance(token) < amount and self._domain(token) is not None
        )
        return is_chosen and amount > 0

    def authorize(self, token: Address, amount: int, *, nonce: bytes, valid_before: int) -> bytes:
        """Sign a payment for this account or another one to send.

        Args:
            token: The ERC-20.
            amount: Base units.
            nonce: The order's or the rental's id.
            valid_before: It is good before this time, Unix seconds.

        Raises:
            InputError: The token does not know ERC-3009.
        """
        domain = self._domain(token)
        if domain is None:
            raise InputError(f"token {token} cannot be paid by a signature (ERC-3009)", hint="pay by allowance")
        sender = self._sender
        return sign_receive(
            self._signer,
            domain,
            payer=sender.address,
            to=sender.contract.address,
            amount=amount,
            valid_before=valid_before,
            nonce=nonce,
        )

    def send(
        self,
        subject: object,
        purpose: str,
        call: Call[Any],
        *,
        token: Address,
        amount: int,
        approve: int | None = None,
        confirmations: int | None = 0,
    ) -> TransactionRecord:
        """Send a call that takes an amount from the allowance; what of that is missing is approved first.

        Args:
            subject: What it is for.
            purpose: One word for people.
            call: The call.
            token: The ERC-20.
            amount: What the call takes, base units.
            approve: What is approved where the allowance is too small; the amount when left out.
            confirmations: Blocks on top of the call to wait for; the chain's own number for ``None``.
        """
        sender = self._sender
        with file_lock(self._folder / f".pay-{sender.address}-{token}.lock"):
            if self._allowance(token) < amount:
                approval = Erc20(token).approve(sender.contract.address, amount if approve is None else approve)
                sender.send_once(subject, "approve", approval, confirmations=0)
            return sender.send_once(subject, purpose, call, confirmations=confirmations)

    def _allowance(self, token: Address) -> int:
        sender = self._sender
        return int(sender.chain.call(Erc20(token).allowance(sender.address, sender.contract.address)))

    def _domain(self, token: Address) -> TokenDomain | None:
        try:
            return token_domain(self._sender.chain, token)
        except InputError:
            return None


def good_until(created_at: int) -> int:
    """Return the time from which on the signed payment of what was drafted then is good no more, Unix seconds."""
    return created_at + Funding.VALID_SECONDS
