"""The payer's side: opens channels, pays in, signs vouchers, leaves.

Every step is in the book before it is signed or sent, and every transaction has an idempotency key, so that the same
call after a crash goes on where it stopped.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pyiot_evm.chain.abi import encode
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.contracts.payment_channels import ChannelCreated, PaymentChannels, WithdrawInitiated
from pyiot_evm.exceptions import BudgetError, ContractError, InputError, TransportError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.locks import file_lock
from pyiot_evm.payment.payer_book import DepositNeeded
from pyiot_evm.payment.tokens import is_authorization_used, sign_receive, token_domain
from pyiot_evm.payment.vouchers import MIN_WITHDRAW_DELAY, ChannelDomain, authorizer_of, channel_config, sign_voucher
from pyiot_evm.payment.x402_terms import MAX_AMOUNT, deposit_nonce
from pyiot_evm.types import Bytes32

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pyiot_evm.chain import Account, Chain, Receipt
    from pyiot_evm.contracts.payment_channels import ChannelConfig
    from pyiot_evm.device import Signer
    from pyiot_evm.payment.payer_book import PayerBook
    from pyiot_evm.payment.records import Deposit, PayerChannel, Payment
    from pyiot_evm.payment.vouchers import SignedVoucher
    from pyiot_evm.types import Address

__all__ = ["Payer", "PayerPolicy", "SentPayment"]

_AUTHORIZED_FOR: Final = 24 * 3600
_TRIES: Final = 5
_MAX_CHANNELS: Final = 256


@dataclass(frozen=True, slots=True)
class PayerPolicy:
    """How a payer fills its channels.

    Attributes:
        deposit_factor: A channel is paid into for this many payments like the one that needs it.
        withdraw_delay: Seconds that payees have to claim when the payer leaves.
        channels: How many channels to one payee parallel requests over HTTP may open: x402 serves one at a time each.
        max_withdraw_delay: Seconds that a payee may want at most to claim in: so long money can be held up.
        max_timeout: Seconds for which a server may want at most to be able to take a payment that it was sent.
    """

    deposit_factor: int = 10
    withdraw_delay: int = MIN_WITHDRAW_DELAY
    channels: int = 8
    max_withdraw_delay: int = 24 * 3600
    max_timeout: int = 3600

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= _MAX_CHANNELS:
            raise InputError(f"a payer has 1 to {_MAX_CHANNELS} channels to one payee, not {self.channels}")

    def check_withdraw_delay(self, wanted: int) -> None:
        """See that a payee's withdraw delay is one that this payer takes.

        Raises:
            BudgetError: It would hold the money up for too long.
        """
        if wanted > self.max_withdraw_delay:
            raise BudgetError(
                f"the payee wants {wanted} s to claim in when the payer leaves, at most {self.max_withdraw_delay} s "
                "are allowed; nothing was signed",
                hint="PayerPolicy(max_withdraw_delay=...) allows more; scheme exact needs no channel",
            )

    def check_timeout(self, wanted: int) -> None:
        """Raise :class:`BudgetError` where a server could take a payment long after another one has replaced it."""
        if not 0 < wanted <= self.max_timeout:
            asked = f"the server wants {wanted} s in which it can take the payment"
            raise BudgetError(f"{asked}, 1 to {self.max_timeout} s are allowed; nothing was signed")


@dataclass(frozen=True, slots=True)
class SentPayment:
    """A payment and the voucher that carries it to the payee."""

    payment: Payment
    voucher: SignedVoucher


class Payer:
    """Pays through channels for one account.

    Args:
        chain: The chain.
        account: The account's transaction manager.
        signer: The account's key.
        book: Its channel book.
        contract: The channels' contract.
        collector: The collector that takes ERC-3009 authorizations for it.
        policy: How channels are filled.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        account: Account,
        signer: Signer,
        book: PayerBook,
        contract: Address,
        collector: Address,
        policy: PayerPolicy | None = None,
    ) -> None:
        self.chain = chain
        self.account = account
        self.signer = signer
        self.book = book
        self.contract = PaymentChannels(contract)
        self.domain = ChannelDomain(chain.chain_id, contract)
        self.collector = collector
        self.policy = policy or PayerPolicy()

    def pay(self, payee: Address, amount: int, *, token: Address, key: str | None = None) -> SentPayment:
        """Pay: open a channel or pay into it where that is needed, and sign a voucher.

        Args:
            payee: Who is paid.
            amount: Base units, at least 1.
            token: The ERC-20 token.
            key: Names the payment: the same key never pays twice.

        Raises:
            BudgetError: It would go over a limit; nothing was signed or sent.
            InputError: The amount is none, the account does not hold what a deposit needs, or the key names another
                payment: to somebody else, in another token, or of another amount.
        """
        if amount < 1:
            raise InputError(f"a payment is at least 1 base unit, not {amount}")
        name = key or secrets.token_hex(16)
        if (known := self.book.named(name, payee, token, amount)) is not None:
            return self._sent(known)
        for _ in range(_TRIES):
            channel = self.channel_to(payee, token)
            try:
                return self._sent(self.book.reserve(channel.channel_id, amount, name))
            except DepositNeeded:
                self.fill(channel, amount, wanted=amount * self.policy.deposit_factor)
        raise TransportError("other payments were faster than every deposit", hint="try again, or pay in more")

    def open(self, payee: Address, amount: int, *, token: Address) -> PayerChannel:
        """Pay into the channel to a payee; the first time this opens it.

        Raises:
            BudgetError: The payee may be paid nothing; nothing was signed.
        """
        self.book.check_payee(payee, token)
        channel = self.channel_to(payee, token)
        return self.deposit(channel, amount)

    def available(self, payee: Address, token: Address) -> int:
        """Return what can still be paid to a payee without paying in, base units."""
        known = self.book.open_channel(payee, token, self.contract.address)
        return 0 if known is None else known.available

    def channel_to(self, payee: Address, token: Address) -> PayerChannel:
        """Return the channel to a payee; it is written down, and holds nothing, where there was none.

        Raises:
            InputError: The payee is this account.
        """
        if payee == self.account.address:
            raise InputError(f"{payee} would pay itself")
        with self.book.store.write():  # or two threads would open two channels
            longest = max(self.policy.max_withdraw_delay, self.policy.withdraw_delay)
            known = self.book.open_channel(payee, token, self.contract.address, longest=longest)
            if known is not None:
                return known
            made = self.book.add(self.domain, self._new_config(payee, token))
        return self.sync(made.channel_id)

    def _new_config(self, payee: Address, token: Address) -> ChannelConfig:
        """Return the terms of a channel that the book does not have; a rebuilt book may lack one between two others."""
        channels = self.book.channels()
        taken = {channel.channel_id for channel in channels}
        number = sum(1 for c in channels if (c.config.receiver, c.config.token) == (payee, token))
        while True:
            config = channel_config(
                self.signer,
                payee,
                token=token,
                payer=self.account.address,
                withdraw_delay=self.policy.withdraw_delay,
                salt=number.to_bytes(32, "big"),
            )
            if self.domain.channel_id(config) not in taken:
                return config
            number += 1

    def deposit(self, channel: PayerChannel, amount: int) -> PayerChannel:
        """Pay into a channel; a deposit that a crash interrupted is finished instead, and counts as this one.

        Raises:
            BudgetError: The payee may be paid nothing; nothing was signed.
            InputError: The amount is none, the account does not hold it, or the token cannot be paid by signature.
            ContractError: The channels or the token refused.
        """
        if not 1 <= amount <= MAX_AMOUNT:
            raise InputError(f"a deposit is 1 to 2^128 - 1 base units, not {amount}")
        self.book.check_payee(channel.config.receiver, channel.config.token)
        with self._lock(channel):
            return self._deposit(channel, amount)

    def fill(self, channel: PayerChannel, amount: int, *, wanted: int) -> None:
        """Pay into a channel that does not cover a payment yet.

        Args:
            channel: The channel.
            amount: The payment, base units: what is promised already comes before it.
            wanted: What is paid in, where the account holds as much: more than is missing, so that it lasts.

        Raises:
            InputError: The account does not hold what is missing.
            ContractError: The channels or the token refused.
        """
        with self._lock(channel):
            present = self.sync(channel.channel_id)
            if lacking := self.lacks(present, amount, wanted=wanted):
                self._deposit(present, lacking)

    def lacks(self, channel: PayerChannel, amount: int, *, wanted: int) -> int:
        """Return what :meth:`fill` would pay in, 0 where the channel covers a payment, as the book has it."""
        missing = channel.ceiling + amount - channel.balance
        return max(missing, min(wanted, self._held(channel.config.token))) if missing > 0 else 0

    def close(self, channel_id: bytes) -> PayerChannel:
        """Leave a channel: announce the withdrawal, or, once the delay has passed, take the money back.

        The same call does whichever is due; :meth:`withdrawable_at` says when.
        """
        channel = self.sync(channel_id)
        pending = self.chain.call(self.contract.pending_withdrawals(channel.channel_id))
        if pending.initiated_at:
            self._finalize(channel, pending.initiated_at)
        else:
            self._announce(channel)
        return self.sync(channel_id)

    def withdrawable_at(self, channel: PayerChannel) -> int:
        """Return when an announced withdrawal can be taken, Unix seconds of chain time; 0 when none is."""
        pending = self.chain.call(self.contract.pending_withdrawals(channel.channel_id))
        return pending.initiated_at + channel.config.withdraw_delay if pending.initiated_at else 0

    def sync(self, channel_id: bytes) -> PayerChannel:
        """Take over what the chain has of a channel."""
        state = self.chain.call(self.contract.channels(Bytes32(channel_id)))
        return self.book.sync(channel_id, balance=state.balance, claimed=state.total_claimed)

    # Rebuilding

    def rebuild(self) -> list[PayerChannel]:
        """Find this account's channels on the chain and write down what the book lacks.

        What was signed and not claimed the chain does not know: hand every payee's last voucher to :meth:`adopt`
        before paying through a channel again.
        """
        topics = [ChannelCreated.TOPIC]
        for log in self.chain.logs(address=self.contract.address, topics=topics):
            config = ChannelCreated.from_log(log).config
            if config.payer == self.account.address:
                self.sync(self.book.add(self.domain, config).channel_id)
        return self.book.channels()

    def adopt(self, voucher: SignedVoucher) -> PayerChannel:
        """Take over the last voucher that a payee has of this account.

        Raises:
            VerificationError: This account did not sign it.
        """
        parties = voucher.config.payer, voucher.config.payer_authorizer
        mine = self.account.address, authorizer_of(self.signer)
        if voucher.domain != self.domain or parties != mine or not voucher.is_signed():
            raise VerificationError(f"{self.account.address} did not sign this voucher")
        channel = self.book.add(self.domain, voucher.config)
        self.sync(channel.channel_id)
        return self.book.raise_ceiling(channel.channel_id, voucher.ceiling)

    def voucher(
        self, channel_id: bytes, ceiling: int, *, lock: bytes = b"", signer: Signer | None = None
    ) -> SignedVoucher:
        """Sign a voucher for a ceiling that the book has.

        Args:
            channel_id: The channel.
            ceiling: Base units.
            lock: The lock of a locked voucher.
            signer: The key that the channel names for vouchers; the account's when left out.

        Raises:
            InputError: The book has no such promise.
        """
        channel = self.book.channel(channel_id)
        if ceiling > channel.ceiling:
            raise InputError(f"nothing up to {ceiling} was promised through channel {channel.channel_id}")
        return sign_voucher(signer or self.signer, channel.domain, channel.config, ceiling, lock=lock)

    # Below

    def _sent(self, payment: Payment) -> SentPayment:
        return SentPayment(payment, self.voucher(payment.channel_id, payment.ceiling))

    def _lock(self, channel: PayerChannel) -> AbstractContextManager[None]:
        return file_lock(self.chain.path / f"pay-{channel.channel_id.hex()}.lock")

    def _held(self, token: Address) -> int:
        return int(self.chain.call(Erc20(token).balance_of(self.account.address)))

    def _deposit(self, channel: PayerChannel, amount: int) -> PayerChannel:
        unfinished = self.book.unfinished_deposit(channel.channel_id)
        if unfinished is None or not self._resume(channel, unfinished):
            self._check_held(channel.config.token, amount)
            valid_before = int(max(time.time(), self.chain.now())) + _AUTHORIZED_FOR
            self._finish(channel, self.book.begin_deposit(channel.channel_id, amount, valid_before=valid_before))
        return self.sync(channel.channel_id)

    def _check_held(self, token: Address, amount: int) -> None:
        if (held := self._held(token)) < amount:
            info = self.chain.token_info(token)
            raise InputError(
                f"{self.account.address} holds {info.from_units(held)} {info.symbol}, the channel needs "
                f"{info.from_units(amount)}"
            )

    def _resume(self, channel: PayerChannel, deposit: Deposit) -> bool:
        """Finish an interrupted deposit; ``False`` where it never came to be and cannot any more."""
        try:
            self._finish(channel, deposit)
        except ContractError:
            nonce = _deposit_nonce(deposit)[1]
            return is_authorization_used(self.chain, channel.config.token, self.account.address, nonce)
        return True

    def _finish(self, channel: PayerChannel, deposit: Deposit) -> None:
        try:
            self._send_deposit(channel, deposit)
        except ContractError:
            self.book.end_deposit(deposit)
            raise
        self.book.end_deposit(deposit)

    def _send_deposit(self, channel: PayerChannel, deposit: Deposit) -> Receipt:
        salt, nonce = _deposit_nonce(deposit)
        signature = sign_receive(
            self.signer,
            token_domain(self.chain, channel.config.token),
            payer=self.account.address,
            to=self.collector,
            amount=deposit.amount,
            valid_before=deposit.valid_before,
            nonce=nonce,
        )
        data = encode(["uint256", "uint256", "uint256", "bytes"], [0, deposit.valid_before, salt, signature])
        call = self.contract.deposit(channel.config, deposit.amount, self.collector, data)
        return self.account.transact(call, key=f"pay:deposit:{channel.channel_id}:{deposit.number}")

    def _announce(self, channel: PayerChannel) -> None:
        self.book.set_closing(channel.channel_id, closing=True)  # from here on nothing more is promised
        present = self.book.channel(channel.channel_id)
        rest = present.balance - max(present.claimed, present.ceiling)
        if rest <= 0:
            self.book.set_closing(channel.channel_id, closing=channel.closing)
            raise InputError(f"nothing of channel {channel.channel_id} is left to take back")
        times = self.chain.logs(address=self.contract.address, topics=[WithdrawInitiated.TOPIC, channel.channel_id])
        call = self.contract.initiate_withdraw(channel.config, rest)
        self.account.transact(call, key=f"pay:withdraw:{channel.channel_id}:{len(times)}")

    def _finalize(self, channel: PayerChannel, initiated_at: int) -> None:
        due = initiated_at + channel.config.withdraw_delay
        if max(self.chain.now(), int(time.time()) if self.chain.is_devnet else 0) < due:
            when = datetime.fromtimestamp(due, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            raise InputError(
                f"the withdrawal can be taken at {when}", hint="run the same command again then", retryable=True
            )
        key = f"pay:finalize:{channel.channel_id}:{initiated_at}"
        self.account.transact(self.contract.finalize_withdraw(channel.config), key=key)
        self.book.set_closing(channel.channel_id, closing=True)


def _deposit_nonce(deposit: Deposit) -> tuple[int, bytes]:
    """Return a deposit's salt and nonce; both follow from its number, so no second authorization is ever good."""
    salt = int.from_bytes(keccak256(b"deposit" + deposit.channel_id + deposit.number.to_bytes(8, "big")), "big")
    return salt, deposit_nonce(deposit.channel_id, salt)
