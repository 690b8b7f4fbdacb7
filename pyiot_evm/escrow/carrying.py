"""Carrying what another account signed: everything about it is checked before the gas is paid.

Example:
    >>> from pyiot_evm.escrow.carrying import Carrier
    >>> Carrier.__name__
    'Carrier'
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.device.signers import verify_signature
from pyiot_evm.escrow.accounts import account_signed, join_signatures
from pyiot_evm.escrow.inspection import check_owner
from pyiot_evm.escrow.paying import opening_call
from pyiot_evm.escrow.signed import SignedAct, SignedOpening
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.payment.tokens import receive_digest, token_domain
from pyiot_evm.relay import RelayRequest, carry

if TYPE_CHECKING:
    from pyiot_evm.chain.calls import Call
    from pyiot_evm.contracts.shared import Terms
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.sending import TransactionRecord
    from pyiot_evm.types import Address

__all__ = ["MAX_GAS", "Carrier"]

MAX_GAS: Final = 1_000_000
"""The most gas that a stranger's file may take: its account and its token are code that the stranger chose."""


class Carrier:
    """Sends what others signed, and pays the gas; it can change nothing of it.

    Args:
        clerk: Who sends.
        margin: Seconds before the deadline after which no hand-over is sent: it would give the key away for nothing.
        max_gas: The most gas to pay for.
    """

    def __init__(self, clerk: Clerk, *, margin: int = 120, max_gas: int = MAX_GAS) -> None:
        self._clerk = clerk
        self._margin = margin
        self._max_gas = max_gas

    def carry(self, signed: SignedAct | SignedOpening) -> TransactionRecord:
        """Send a signed act or a signed opening, once.

        Raises:
            InputError: It is for another chain or escrow, or no longer good; nothing was sent.
            BudgetError: It takes more gas than the most to pay for; nothing was sent.
            VerificationError: It was changed after it was signed, or too few signed it; nothing was sent.
            ContractError: The escrow refused, before it was sent.
        """
        if isinstance(signed, SignedOpening):
            return self._open(signed)
        clerk = self._clerk
        self._check_place(signed.chain_id, signed.escrow)
        signed.check()
        self._check_time(signed.call.deadline, f"the signed {signed.act.function}")
        rental = signed.act.rental
        if signed.act.function == "handOver" and rental is not None:
            self._check_hand_over(rental.terms, signed.call.deadline)
        request = RelayRequest(signed.escrow, signed.call, self._signature(signed))
        subject = f"carry {signed.digest.hex()}"
        return self._send(subject, "carry", carry(request, clerk.contract))

    def _open(self, signed: SignedOpening) -> TransactionRecord:
        clerk, offer = self._clerk, signed.offer
        self._check_place(offer.chain_id, offer.escrow)
        offer.check_parts()
        check_owner(clerk, offer)
        self._check_time(signed.valid_before, "the signed opening")
        self._check_time(offer.hand_over_deadline, "the offer")
        digest = receive_digest(
            token_domain(clerk.chain, offer.terms.token),
            payer=signed.renter,
            to=clerk.contract.address,
            amount=offer.price,
            valid_before=signed.valid_before,
            nonce=signed.rental_id,
        )
        if not self._is_signed(signed.renter, digest, signed.signature):
            raise VerificationError(f"{signed.renter} did not sign this opening: the file was changed")
        return self._send(signed.rental_id, "open", opening_call(clerk, signed))

    def _send(self, subject: object, purpose: str, call: Call[Any]) -> TransactionRecord:
        return self._clerk.send_once(subject, purpose, call, confirmations=0, max_gas=self._max_gas)

    def _check_place(self, chain_id: int, escrow: Address) -> None:
        clerk = self._clerk
        if chain_id != clerk.chain.chain_id:
            raise InputError(f"the file is for chain {chain_id}, this is chain {clerk.chain.chain_id}")
        if escrow != clerk.contract.address:
            raise InputError(f"the file is for the escrow {escrow}, not for {clerk.contract.address}")

    def _check_time(self, deadline: int, what: str) -> None:
        if self._clerk.now() >= deadline:
            until = datetime.fromtimestamp(deadline, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            raise InputError(f"{what} was good until {until}", hint="have it signed again")

    def _check_hand_over(self, terms: Terms, good_until: int) -> None:
        """Check that a hand-over comes well in time; nothing may be asked about it before: the key would be out."""
        until = min(min(terms.start + terms.grace, terms.end) - self._margin, good_until)
        if self._clerk.late(self._clerk.now()) >= until:
            raise InputError(
                "the signed hand-over is too close to its deadline to be carried",
                hint="show it to nobody: the renter would have the access key, and its money back",
            )

    def _signature(self, signed: SignedAct) -> bytes:
        """Return the signatures of an act in the form that the account which acts takes."""
        clerk, sender = self._clerk, signed.call.sender
        forms = [join_signatures(signed.signatures)] if clerk.chain.code_at(sender) else []
        if len(signed.signatures) == 1:
            forms.insert(0, signed.signatures[0][1])
        for form in forms:
            if self._is_signed(sender, signed.digest, form):
                return form
        who = ", ".join(f"0x{signer.hex()}" for signer, _ in signed.signatures)
        raise VerificationError(
            f"{sender} does not take what {who} signed",
            hint="an account of several keys wants as many of its own members as its threshold says: "
            "give the files of all who signed",
        )

    def _is_signed(self, account: Address, digest: bytes, signature: bytes) -> bool:
        if self._clerk.chain.code_at(account):
            return account_signed(self._clerk.chain, account, digest, signature)
        return verify_signature(account, digest, signature)
