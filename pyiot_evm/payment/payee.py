"""The payee's side: takes vouchers, claims them, is paid, and answers a payer that leaves.

Money counts only after a confirmed receipt: balances are read as they stood that many blocks ago. Plain vouchers of a
channel are claimed at once when its payer announces a withdrawal.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from pyiot_evm.chain.logs import LogFollower
from pyiot_evm.contracts.payment_channels import (
    ChannelCreated,
    Deposited,
    PaymentChannels,
    Refunded,
    WithdrawFinalized,
    WithdrawInitiated,
)
from pyiot_evm.exceptions import ContractError, PyIotEvmError
from pyiot_evm.hashing import keccak256
from pyiot_evm.payment.payee_book import ChannelRefusedError
from pyiot_evm.payment.places import is_ours
from pyiot_evm.payment.records import Claim, PayeeChannel
from pyiot_evm.payment.stream_claims import LockedClaims
from pyiot_evm.payment.vouchers import ChannelDomain, is_p256_field

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from pyiot_evm.chain import Account, Call, Chain, LogChange
    from pyiot_evm.payment.payee_book import PayeeBook
    from pyiot_evm.payment.stream_sales import Sale
    from pyiot_evm.payment.vouchers import SignedVoucher
    from pyiot_evm.types import Address, TransactionHash

__all__ = ["Claim", "Payee", "Watchtower"]

_log = logging.getLogger(__name__)
_BATCH = 100
_CLAIM_GAS = 30_000
_SETTLE_GAS = 50_000


class Payee:
    """Is paid through channels, for one account.

    Args:
        chain: The chain.
        account: The account's transaction manager.
        book: Its channel book.
        contract: The channels' contract.
        clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        account: Account,
        book: PayeeBook,
        contract: Address,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.chain = chain
        self.account = account
        self.book = book
        self.contract = PaymentChannels(contract)
        self.domain = ChannelDomain(chain.chain_id, contract)
        self.locks = LockedClaims(self, clock=clock)
        self._clock = clock
        self._has_looked = False
        self._unsettled: dict[Address, int] | None = None
        self._follower = LogFollower(
            chain,
            name=f"payee {account.address} {contract}",
            address=contract,
            topics=[[kind.TOPIC for kind in (Deposited, Refunded, WithdrawInitiated, WithdrawFinalized)]],
            store=chain.path / "payment-events.sqlite",
        )

    def accept(self, voucher: SignedVoucher, price: int = 0) -> PayeeChannel:
        """Take a voucher, and charge ``price`` for what is about to be delivered.

        Raises:
            VoucherRefusedError: It is not signed, not higher, or above the channel's balance.
            ChannelRefusedError: It is for another contract, or the channel's terms or state forbid it.
        """
        self.check(voucher)
        return self.book.accept(voucher, price, now=int(self._clock()))

    def collect(self, voucher: SignedVoucher) -> PayeeChannel:
        """Take a voucher for what was delivered already; see :meth:`PayeeBook.collect`."""
        self.check(voucher)
        return self.book.collect(voucher, now=int(self._clock()))

    def check(self, voucher: SignedVoucher) -> None:
        """Check a plain voucher's terms and signature, and look at its channel on the chain where that is due.

        Raises:
            VoucherRefusedError: It is not signed.
            ChannelRefusedError: It is for another contract, or the channel's terms forbid it.
        """
        if voucher.domain != self.domain:
            raise ChannelRefusedError(
                f"the voucher is for {voucher.domain.contract} on chain {voucher.domain.chain_id}"
            )
        self.book.check_terms(voucher)  # before the node is asked anything for a stranger
        if is_p256_field(voucher.signature) and not self._is_ours:
            raise ChannelRefusedError(
                f"{self.contract.address} takes no vouchers of P-256 keys: they are worth nothing"
            )
        self.look_at(PayeeChannel(voucher.channel_id, self.domain, voucher.config), voucher.ceiling)

    def look_at(self, channel: PayeeChannel, ceiling: int) -> None:
        """Look at a channel on the chain, unless that was done lately and it holds as much as a voucher says.

        Raises:
            ChannelRefusedError: It never held anything: a stranger's empty channels are not written down.
        """
        known = self.book.channel(channel.channel_id)
        if known is None and not self.chain.call(self.contract.channels(channel.channel_id)).balance:
            raise ChannelRefusedError(f"channel {channel.channel_id} holds nothing", retryable=True)
        if known is None or not self.book.policy.is_fresh(known, now=self._clock()) or ceiling > known.balance:
            self.sync([known or channel])

    def claim(self, channels: Sequence[PayeeChannel] | None = None) -> list[Claim]:
        """Claim what was charged and is not claimed, a hundred channels a transaction.

        Raises:
            ContractError: The contract refused the whole batch.
        """
        asked = self.book.channels() if channels is None else channels
        locked = self.locks.due({channel.channel_id for channel in asked})
        by_key = {sale.voucher.channel_id for sale in locked}  # which pays what came before, too
        wanted = [channel for channel in asked if self._claimable(channel) and channel.channel_id not in by_key]
        claims = list[Claim]()
        for start in range(0, len(wanted), _BATCH):
            claims += self._claim_batch(wanted[start : start + _BATCH])
        return claims + [claim for sale in locked for claim in self._claim_locked(sale)]

    def settle(self, token: Address) -> TransactionHash | None:
        """Have everything that was claimed paid out; ``None`` where there is nothing."""
        state = self.chain.call(self.contract.receivers(self.account.address, token))
        if state.total_claimed == state.total_settled:
            return None
        key = f"pay:settle:{self.contract.address}:{token}:{state.total_settled}:{state.total_claimed}"
        return self.account.transact(self.contract.settle(self.account.address, token), key=key).hash

    def unsettled(self, token: Address) -> int:
        """Return what was claimed and not paid out yet, base units."""
        state = self.chain.call(self.contract.receivers(self.account.address, token))
        return state.total_claimed - state.total_settled

    def tend(self) -> list[Claim]:
        """Do what is due: look at the chain, answer withdrawals, claim and settle what is worth it, and all daily."""
        self.follow()
        claims = self.claim([channel for channel in self.book.channels() if channel.withdraw_at])
        if self._is_due():
            claims += self.claim()
            self.book.store.set_mark(self._mark, None)
        self._settle_due(look=bool(claims))
        return claims

    def follow(self) -> list[PayeeChannel]:
        """Take over what happened to this account's channels on the chain; return those that it happened to."""
        self._follower.poll(self._note)
        last, touched = self.book.events(self.contract.address)
        known = [channel for channel in self.book.channels() if channel.domain == self.domain]
        if not self._has_looked:  # an older version may have seen an event and not have acted on it
            touched |= {channel.channel_id for channel in known}
        synced = self.sync([channel for channel in known if channel.channel_id in touched])
        self._has_looked = True
        if last:
            self.book.drop_events(self.contract.address, last)
        return synced

    def rebuild(self) -> list[PayeeChannel]:
        """Find this account's channels on the chain and write down what the book lacks.

        What payers signed and nobody claimed the chain does not know: their next vouchers bring it back.
        """
        found = []
        for log in self.chain.logs(address=self.contract.address, topics=[ChannelCreated.TOPIC]):
            config = ChannelCreated.from_log(log).config
            if config.receiver == self.account.address:
                found.append(PayeeChannel(self.domain.channel_id(config), self.domain, config))
        self.sync(found)
        return self.book.channels()

    # Below

    def _note(self, _: sqlite3.Connection, changes: list[LogChange]) -> None:
        """Keep what happened until it was acted on: the follower tells it once, and the node may fail before that."""
        self.book.add_events(self.contract.address, {change.log.topics[1] for change in changes})

    @property
    def _mark(self) -> str:
        return f"claimed {self.account.address} {self.contract.address}"

    def _claimable(self, channel: PayeeChannel) -> bool:
        mine = channel.domain == self.domain
        return mine and min(channel.charged, channel.balance, channel.ceiling) > channel.claimed

    def _is_due(self) -> bool:
        channels = self.book.channels()
        unclaimed = [channel for channel in channels if self._claimable(channel)]
        is_owed = bool(unclaimed or self.locks.due({channel.channel_id for channel in channels}))
        waited, policy = self._waited(self._mark, is_owed=is_owed), self.book.policy
        if not is_owed or waited >= policy.claim_every:
            return is_owed
        exposure = sum(channel.exposure for channel in unclaimed)
        cost = self._cost(_CLAIM_GAS * len(unclaimed))
        near_cap = any(2 * channel.exposure > policy.max_exposure for channel in unclaimed)
        return near_cap or exposure > policy.gas_factor * cost

    def _settle_due(self, *, look: bool) -> None:
        """Settle what is worth the gas, and everything daily; the chain is asked after claims, and once a start."""
        policy, mark = self.book.policy, f"settled {self._mark}"
        tokens = {channel.config.token for channel in self.book.channels() if channel.domain == self.domain}
        if look or self._unsettled is None:
            self._unsettled = {token: self.unsettled(token) for token in tokens}
        is_owed = any(self._unsettled.values())
        is_late = self._waited(mark, is_owed=is_owed) >= policy.claim_every
        if not is_owed:
            return
        least = policy.gas_factor * self._cost(_SETTLE_GAS)
        due = [token for token, amount in self._unsettled.items() if amount and (is_late or amount > least)]
        for token in due:
            self.settle(token)
            self._unsettled[token] = 0
        if due:
            self.book.store.set_mark(mark, None)

    def _waited(self, mark: str, *, is_owed: bool) -> int:
        """Return for how many seconds something has been owed; an idle time before it does not count.

        A mark that lies ahead is from before the clock was set back: it is taken for now, not waited for.
        """
        now, since = int(self._clock()), self.book.store.mark(mark)
        if is_owed and (since is None or since > now):
            self.book.store.set_mark(mark, now)
            return 0
        if not is_owed and since is not None:
            self.book.store.set_mark(mark, None)
        return now - since if is_owed and since is not None else 0

    def _cost(self, gas: int) -> int:
        """Return what gas costs now, in base units of the token."""
        return self.chain.fee_quote().per_gas * gas * self.book.policy.token_per_ether // 10**18

    def _claim_batch(self, channels: Sequence[PayeeChannel]) -> list[Claim]:
        """Claim many at once; where x402's own code reverts all for one bad row, the halves are tried by themselves."""
        try:
            return [self._claim(channels)]
        except ContractError as error:
            if self._is_ours:
                raise
            if len(channels) == 1:
                _log.warning("channel %s cannot be claimed: %s", channels[0].channel_id, error)
                return []
            half = len(channels) // 2
            return self._claim_batch(channels[:half]) + self._claim_batch(channels[half:])

    def _claim_locked(self, sale: Sale) -> list[Claim]:
        """Claim by a key; where that is refused, what was paid before, and it keeps no other channel waiting."""
        try:
            return [self.locks.claim(sale)]
        except ContractError as error:
            _log.warning("channel %s cannot be claimed by its key: %s", sale.voucher.channel_id, error)
        known = self.book.channel(sale.voucher.channel_id)
        return [] if known is None or not self._claimable(known) else self._claim_batch([known])

    def _claim(self, channels: Sequence[PayeeChannel]) -> Claim:
        rows = [c.voucher.claim(min(c.charged, c.ceiling, c.balance)) for c in channels]
        call: Call[Any] = self.contract.claim_available(rows) if self._is_ours else self.contract.claim(rows)
        before = b"".join(channel.claimed.to_bytes(16, "big") for channel in channels)  # the same row may be due again
        content = keccak256(call.data + before).hex()[:32]
        receipt = self.account.transact(call, key=f"pay:claim:{content}")
        after = {channel.channel_id: channel.claimed for channel in self.sync(channels)}
        gained = [after[channel.channel_id] - channel.claimed for channel in channels]
        return Claim(receipt.hash, sum(gained), sum(1 for amount in gained if amount), receipt.gas_used)

    @cached_property
    def _is_ours(self) -> bool:
        """Whether this suite's contract stands there; x402's own lacks what the suite adds."""
        return is_ours(self.chain, self.contract.address)

    def sync(self, channels: Sequence[PayeeChannel]) -> list[PayeeChannel]:
        """Read channels as they stood once confirmed; a withdrawal counts from its first sight."""
        confirmed = max(self.chain.block_number() - self.chain.confirmations, 0)
        synced = []
        for channel in channels:
            state, nonce = self.chain.call_many(
                [self.contract.channels(channel.channel_id), self.contract.refund_nonce(channel.channel_id)],
                block=confirmed,
            )
            pending = self.chain.call(self.contract.pending_withdrawals(channel.channel_id))
            present = self.chain.call(self.contract.channels(channel.channel_id))
            seen = replace(
                channel,
                balance=min(state.balance, present.balance),
                claimed=state.total_claimed,
                withdraw_at=pending.initiated_at,
                refund_nonce=nonce,
            )
            synced.append(self.book.sync(seen, at=int(self._clock())))
        return synced


class Watchtower:
    """Tends a payee's channels in the background until it is closed.

    Args:
        payees: The payee, at each contract where it has channels.
        every: Seconds between two looks at the chain.
    """

    def __init__(self, payees: Sequence[Payee], *, every: float = 5.0) -> None:
        self._payees = payees
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pyiot watchtower", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; a second call does nothing."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            for payee in self._payees:
                self._tend(payee)

    @staticmethod
    def _tend(payee: Payee) -> None:
        try:
            for claim in payee.tend():
                _log.info("claimed %d from %d channels", claim.amount, claim.channels)
        except (PyIotEvmError, OSError) as error:
            _log.warning("the watchtower will try again: %s", error)
