"""By what the chain knows that a payment went through: the money that its authorization moved, seen in the logs.

That an authorization is used proves nothing: its payer can burn the nonce with a transfer of 0, or cancel it.
"""

from __future__ import annotations

import json
from enum import Enum
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.chain.calls import Log
from pyiot_evm.contracts.dev_dollar import AuthorizationUsed
from pyiot_evm.contracts.payment_channels import Deposited, PaymentChannels
from pyiot_evm.contracts.shared import Transfer
from pyiot_evm.device.typed import address_word
from pyiot_evm.payment.x402_terms import EXACT, deposit_nonce
from pyiot_evm.types import Address, Bytes32

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyiot_evm.chain import Chain

__all__ = ["Payment", "is_backed", "payment_of", "proof_of"]

_MARGIN: Final = 64
"""Blocks before the one that a payment was verified at: another node of a cluster may be behind."""


class Payment(Enum):
    """What became of a payment."""

    NONE = "none"
    """Nothing was paid: its authorization is not used, or was spoiled."""
    SEEN = "seen"
    """It is paid, in a block that may still go."""
    CONFIRMED = "confirmed"
    """It is paid."""


def proof_of(verified: Any) -> dict[str, str]:
    """Return by what the chain knows that a verified payment went through; a voucher needs no chain.

    The scheme says where to look: a payment can have parts of another one beside its own.
    """
    raw, terms = verified.payment_payload.payload, verified.payment_requirements
    if terms.scheme == EXACT:
        parts = raw["authorization"]
        paid = {"from": parts["from"], "to": terms.pay_to, "amount": terms.amount}
        return {"token": terms.asset, "nonce": bytes.fromhex(parts["nonce"].removeprefix("0x")).hex(), **paid}
    erc3009 = raw.get("deposit", {}).get("authorization", {}).get("erc3009Authorization")
    if not erc3009:
        return {}
    channel = bytes.fromhex(raw["voucher"]["channelId"].removeprefix("0x"))
    return {
        "token": terms.asset,
        "nonce": deposit_nonce(channel, int(erc3009["salt"], 16)).hex(),
        "from": raw["channelConfig"]["payer"],
        "amount": raw["deposit"]["amount"],
        "channel": channel.hex(),
        "voucher": json.dumps(raw["voucher"]),
    }


def payment_of(chain: Chain, channels: Address, proof: dict[str, str]) -> Payment:
    """Look for the transaction that used an authorization, and at what it moved.

    Args:
        chain: The chain.
        channels: The contract of the channels.
        proof: What :func:`proof_of` returned, with the block that it was made ``at``.
    """
    if "to" not in proof and "channel" not in proof:
        return Payment.NONE
    topics = (AuthorizationUsed.TOPIC, address_word(Address(proof["from"])), bytes.fromhex(proof["nonce"]))
    first = max(int(proof["at"]) - _MARGIN - chain.confirmations, 0)
    for used in chain.logs(address=Address(proof["token"]), topics=topics, from_block=first):
        receipt = chain.rpc("eth_getTransactionReceipt", str(used.transaction_hash))
        if receipt is not None and _is_paid([Log.from_rpc(item) for item in receipt["logs"]], used, channels, proof):
            is_final = chain.block_number() - used.block_number >= chain.confirmations
            return Payment.CONFIRMED if is_final else Payment.SEEN
    return Payment.NONE


def is_backed(chain: Chain, channels: Address, proof: dict[str, str]) -> bool:
    """Whether a deposit is still there to pay for its voucher, and not on its way out."""
    contract, channel = PaymentChannels(channels), Bytes32(proof["channel"])
    held, leaving = chain.call_many([contract.channels(channel), contract.pending_withdrawals(channel)])
    return bool(held.balance >= int(json.loads(proof["voucher"])["maxClaimableAmount"]) and not leaving.initiated_at)


def _is_paid(logs: list[Log], used: Log, channels: Address, proof: dict[str, str]) -> bool:
    """Whether an authorization moved what was asked for.

    A token tells of the use and then of its transfer; a deposit is told before its authorization is used. Only the
    nearest counts: one transfer is never the proof of two payments that a payer put into one transaction.
    """
    token = Address(proof["token"])
    after = [log for log in logs if log.log_index > used.log_index and log.address == token]
    transfer = _transfer(after[:1])
    if transfer is None or transfer.from_ != Address(proof["from"]) or transfer.value < int(proof["amount"]):
        return False
    if "channel" not in proof:
        return transfer.to == Address(proof["to"])
    before = [log for log in logs if log.log_index < used.log_index]
    since = takewhile(lambda log: not _is(log, AuthorizationUsed, token), reversed(before))
    told = next(dropwhile(lambda log: not _is(log, Deposited, channels), since), None)
    if told is None:
        return False
    deposited = Deposited.from_log(told)
    return deposited.channel_id == Bytes32(proof["channel"]) and deposited.amount == int(proof["amount"])


def _transfer(logs: Iterable[Log]) -> Transfer | None:
    return next((Transfer.from_log(log) for log in logs if _is(log, Transfer, log.address)), None)


def _is(log: Log, kind: Any, address: Address) -> bool:
    return log.address == address and log.topics[:1] == (kind.TOPIC,) and len(log.topics) == kind.TOPIC_COUNT
