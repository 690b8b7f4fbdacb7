"""How signed transactions get mined: sent, sent again, replaced by higher fees, gaps closed, the outcome written down.

Everything here can be done by any thread or process at any time, and done again: what it changes, it changes through
the journal, where the first one wins.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, Literal

from pyiot_evm.chain.calls import to_hex, to_int
from pyiot_evm.chain.fees import FEE_REQUESTS, FeeOffer, FeePolicy, FeeQuote
from pyiot_evm.chain.raw_transactions import TransactionFields, sign_transaction
from pyiot_evm.chain.rpc import Request, RpcError
from pyiot_evm.chain.transaction_records import Attempt, Entry, Intent, Outcome, State
from pyiot_evm.exceptions import SigningError, TransportError
from pyiot_evm.types import Address, Bytes32, TransactionHash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiot_evm.chain.connection import Chain
    from pyiot_evm.device import Signer

__all__ = ["BATCH", "Delivery", "Refusal", "revert_data_of"]

_logger = logging.getLogger(__name__)

BATCH: Final = 100
TRANSFER_GAS: Final = 21_000
_DEVNET_STUCK: Final = 3.0
_STUCK: Final = 45.0

Kind = Literal["known", "too_low", "too_high", "underpriced", "funds", "ran", "never", "unknown"]
_KINDS: Final[tuple[tuple[Kind, tuple[str, ...]], ...]] = (
    ("known", ("already known", "already imported", "known transaction", "alreadyknown", "already exists")),
    ("too_low", ("nonce too low", "nonce is too low", "oldnonce", "nonce has already been used")),
    ("too_high", ("nonce too high", "nonce is too high", "nonce gap")),
    ("underpriced", ("underpriced", "fee too low", "max fee per gas less", "less than block base fee", "replacement")),
    ("funds", ("insufficient funds", "doesn't have enough funds", "does not have enough", "insufficient balance")),
    ("ran", ("reverted", "vm exception")),
    (
        "never",
        (
            "intrinsic gas",
            "requires at least",
            "gas limit",
            "exceeds the limit",
            "initcode",
            "oversized",
            "invalid sender",
            "chain id",
            "type not supported",
            "gas floor",
            "gas too low",
        ),
    ),
)


class Refusal:
    """Why a node did not take a transaction, in a word that this package understands.

    Attributes:
        kind: ``never`` when the node will not ever take it as it is.
    """

    __slots__ = ("kind", "text")

    def __init__(self, error: RpcError) -> None:
        words = error.rpc_message.lower()
        self.text = error.rpc_message
        self.kind: Kind = "unknown"
        for kind, texts in _KINDS:
            if any(text in words for text in texts):
                self.kind = kind
                break


class Delivery:
    """The delivery of one key's transactions on one chain."""

    def __init__(self, chain: Chain, signer: Signer, address: Address, fees: FeePolicy) -> None:
        self.chain = chain
        self.journal = chain.journal
        self.address = address
        self.fees = fees
        self._signer = signer
        self._told: set[bytes] = set()

    @property
    def stuck_after(self) -> float:
        """Seconds after which a transaction that is not mined is looked after."""
        if self.fees.stuck_after is not None:
            return self.fees.stuck_after
        return _DEVNET_STUCK if self.chain.is_devnet else _STUCK

    # --- signing and sending ---

    def sign(self, entries: Sequence[Entry], *, offer: FeeOffer | None = None, cancel: bool = False) -> list[Attempt]:
        """Sign rows and store the attempts; return those that may be sent.

        Args:
            entries: The rows.
            offer: Other fees than the rows' own: this replaces their earlier attempts.
            cancel: Replace them by an empty transfer to oneself, which uses up the nonce and does nothing.
        """
        before = self.journal.attempts(entry.id for entry in entries)
        attempts: list[tuple[Attempt, int]] = []
        for entry in entries:
            terms = offer or entry.offer
            signed = sign_transaction(
                TransactionFields(
                    self.chain.chain_id, entry.nonce, terms.max_fee, terms.tip,
                    TRANSFER_GAS if cancel else entry.gas, self.address if cancel else entry.to,
                    0 if cancel else entry.value, b"" if cancel else entry.data,
                ),
                self._signer,
            )  # fmt: skip
            attempt = Attempt(entry.id, signed.hash, signed.raw, terms, cancel, time.time())
            attempts.append((attempt, len(before[entry.id])))
        return self.journal.add_attempts(attempts)

    def send(self, attempts: Sequence[Attempt]) -> dict[int, Refusal]:
        """Hand attempts to the node, in their order; return the refusals by row.

        Raises:
            TransportError: The node does not answer. What was signed stays in the journal.
        """
        refused: dict[int, Refusal] = {}
        for start in range(0, len(attempts), BATCH):
            part = attempts[start : start + BATCH]
            answers = self.chain.try_batch([("eth_sendRawTransaction", [to_hex(item.raw)]) for item in part])
            for attempt, answer in zip(part, answers, strict=True):
                if isinstance(answer, RpcError):
                    refusal = Refusal(answer)
                    _logger.debug("%s: %s (%s)", attempt.hash, refusal.text, refusal.kind)
                    if refusal.kind not in {"known", "ran"}:
                        refused[attempt.entry_id] = refusal
        return refused

    def cancel(self, entry: Entry, quote: FeeQuote) -> None:
        """Use up a row's nonce with an empty transfer, because the node will never take the row itself."""
        offer = self.fees.replacement(entry.offer, quote) or entry.offer
        self.send(self.sign([entry], offer=offer, cancel=True))

    # --- looking ---

    def settle(self, entries: Sequence[Entry], *, confirmations: int) -> tuple[dict[int, dict[str, Any]], int]:
        """Look for receipts of live rows; write down those that have enough confirmations.

        Returns:
            The receipts that were found, by row, and the latest block's number.
        """
        attempts = [item for group in self.journal.attempts(entry.id for entry in entries).values() for item in group]
        receipts: dict[int, dict[str, Any]] = {}
        head = 0
        found: dict[TransactionHash, Any] = {}
        for start in range(0, max(len(attempts), 1), BATCH):
            part = attempts[start : start + BATCH]
            requests: list[Request] = [("eth_getTransactionReceipt", [str(item.hash)]) for item in part]
            *answers, block = self.chain.rpc_batch([*requests, ("eth_blockNumber", [])])
            head = to_int(block)
            found.update({item.hash: answer for item, answer in zip(part, answers, strict=True) if answer})
        done: list[tuple[int, Outcome, State]] = []
        by_id = {entry.id: entry for entry in entries}
        for attempt in attempts:
            receipt = found.get(attempt.hash)
            if receipt is None:
                continue
            receipts[attempt.entry_id] = receipt
            if head - to_int(receipt["blockNumber"]) >= confirmations:
                entry = by_id[attempt.entry_id]
                done.append((entry.id, self._outcome(entry, receipt), "cancelled" if attempt.cancels else "mined"))
        if done:
            self.journal.finish(done)
        return receipts, head

    def _outcome(self, entry: Entry, receipt: dict[str, Any]) -> Outcome:
        status = to_int(receipt["status"])
        error = None if status else revert_data_of(self.chain, entry, receipt)
        return Outcome(
            hash=TransactionHash(receipt["transactionHash"]),
            status=status,
            block_number=to_int(receipt["blockNumber"]),
            block_hash=Bytes32(receipt["blockHash"]),
            error=error,
        )

    # --- repairing ---

    def push(self) -> dict[int, Refusal]:
        """Sign what was only reserved and send every live row again; return the refusals."""
        live = self.journal.live(self.address)
        unsigned = [entry for entry in live if entry.state == "reserved"]
        if unsigned:
            self.sign(unsigned)
        groups = self.journal.attempts(entry.id for entry in live)
        return self.send([groups[entry.id][-1] for entry in live if groups[entry.id]])

    def repair(self) -> dict[int, Refusal]:
        """Look after everything of this key that is not mined; return the refusals of what was sent again.

        Raises:
            ConsistencyError: The node serves another network now.
        """
        latest, pending, genesis, *fees = self.chain.try_batch(
            [*count_requests(self.address), ("eth_getBlockByNumber", ["0x0", False]), *FEE_REQUESTS]
        )
        self.chain.check_genesis(genesis)
        quote, count = FeeQuote.from_rpc(*fees), to_int(_value(latest))
        first = max(count, to_int(_value(pending)))
        self._reassign_lost(count, first)
        live = self.journal.live(self.address)
        if not live:
            return {}
        self._close_gaps(live, first, quote)
        self._replace(live, count, quote)
        refused = self.push()
        for entry in live:
            if entry.id in refused and refused[entry.id].kind == "never":
                self.cancel(entry, quote)
        return refused

    def _reassign_lost(self, count: int, first: int) -> None:
        """Give a new nonce to rows whose old one was used, for good, by a transaction that is not theirs."""
        behind = [entry for entry in self.journal.live(self.address) if entry.nonce < count]
        if not behind:
            return
        depth = self.chain.confirmations
        receipts, head = self.settle(behind, confirmations=depth)
        lost = [entry for entry in behind if entry.id not in receipts]
        if not lost or head < depth:
            return
        final = to_int(self.chain.rpc("eth_getTransactionCount", str(self.address), to_hex(head - depth)))
        again, _ = self.settle(lost, confirmations=depth)  # after the count: a receipt cannot be missed in between
        for entry in lost:
            if entry.id not in again and entry.nonce < final:
                _logger.warning("nonce %d of %s was used elsewhere; %s moves on", entry.nonce, self.address, entry.key)
                self.journal.reassign(entry, first=first)

    def _close_gaps(self, live: Sequence[Entry], first: int, quote: FeeQuote) -> None:
        """Fill nonces that nobody has below a live row with empty transfers to oneself."""
        taken = {entry.nonce for entry in live}
        for nonce in range(first, live[-1].nonce):
            if nonce not in taken:
                filler = Intent(self.address, b"", 0, TRANSFER_GAS, "close a nonce gap", None)
                entry = self.journal.fill(self.address, nonce, filler, self.fees.first_offer(quote))
                if entry is not None:
                    _logger.warning("closing the gap at nonce %d of %s", nonce, self.address)

    def _tell_once(self, what: bytes, text: str, nonce: int) -> None:
        if what not in self._told:
            self._told.add(what)
            _logger.warning(text, nonce, self.address)

    def _replace(self, live: Sequence[Entry], count: int, quote: FeeQuote) -> None:
        """Raise the fees of what has waited too long: the first in line, and all that offer less than is asked."""
        groups = self.journal.attempts(entry.id for entry in live)
        now = time.time()
        for entry in live:
            attempts = groups[entry.id]
            if not attempts or 0 <= now - attempts[-1].created < self.stuck_after:
                continue
            if entry.nonce != count and entry.offer.max_fee >= quote.per_gas:
                continue
            offer = self.fees.replacement(attempts[-1].offer, quote)
            if offer is None:
                self._tell_once(attempts[-1].hash, "nonce %d of %s is stuck and at the fee cap", entry.nonce)
                continue
            self.sign([entry], offer=offer, cancel=attempts[-1].cancels)


def count_requests(address: Address) -> list[Request]:
    """Return the two requests for an account's transaction count: mined, and with the node's pending ones."""
    return [
        ("eth_getTransactionCount", [str(address), "latest"]),
        ("eth_getTransactionCount", [str(address), "pending"]),
    ]


def revert_data_of(chain: Chain, entry: Entry, receipt: dict[str, Any]) -> bytes:
    """Find out what a mined transaction reverted with: by its trace, else by running it again."""
    try:
        trace = chain.rpc("debug_traceTransaction", receipt["transactionHash"], {"tracer": "callTracer"})
        if isinstance(trace, dict) and isinstance(trace.get("output"), str):
            return bytes.fromhex(trace["output"][2:])
    except TransportError:
        pass  # most public nodes do not trace
    call = {"from": str(entry.address), "to": str(entry.to), "data": to_hex(entry.data), "value": to_hex(entry.value)}
    number = to_int(receipt["blockNumber"])
    for block in (number - 1, number):
        try:
            chain.rpc("eth_call", call | {"gas": to_hex(entry.gas)}, to_hex(max(block, 0)))
        except RpcError as failure:
            return failure.revert_data or b""
        except TransportError:
            break
    return b""


def check_signer(signer: Signer) -> Address:
    """Return the address of a signer that can sign transactions.

    Raises:
        SigningError: It is no secp256k1 key.
    """
    if len(signer.signer_bytes) != Address.LENGTH:
        raise SigningError("only a secp256k1 key can sign transactions", hint="a P-256 key signs readings")
    return Address(signer.signer_bytes)


def _value(answer: Any) -> Any:
    if isinstance(answer, RpcError):
        raise answer
    return answer
