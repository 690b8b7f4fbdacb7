// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC20 } from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import { SafeERC20 } from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import { Context } from "@openzeppelin/contracts/utils/Context.sol";
import { Multicall } from "@openzeppelin/contracts/utils/Multicall.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { EIP712 } from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import { SignatureChecker } from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import { Relayed } from "contracts/base/Relayed.sol";
import { IDepositCollector } from "contracts/interfaces/IDepositCollector.sol";
import { IPaymentChannels } from "contracts/interfaces/IPaymentChannels.sol";
import { IPaymentChannelsScheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { ExactTransfer } from "contracts/libraries/ExactTransfer.sol";
import { ChannelBook } from "contracts/payment/ChannelBook.sol";
import { ChannelHashes } from "contracts/payment/ChannelHashes.sol";

/// @title PaymentChannels
/// @notice Micropayments between machines: paid in once, paid on by vouchers off chain, claimed many at a time.
/// @dev
/// MODEL. x402's `batch-settlement` scheme with its own ABI and EIP-712 domain, and a vault, a claim that bad rows cannot
/// spoil, locked vouchers and P-256 payers. A channel is its config, handed in with every call; its id is the config's
/// EIP-712 digest; one slot holds its balance and what was claimed of it, both cumulative. The contract has no owner, no
/// fee and no switch, and works at whatever address its code is put.
///
/// LIFECYCLE. A channel gets money by `deposit` or `fund`; `claim` books it to the receiver, `settle` pays it; `refund` or
/// `initiateWithdraw` and `finalizeWithdraw` give the rest back. Funded again it goes on where it was: old vouchers, the
/// refund nonce and a pending withdrawal stay good.
///
/// ROLES. The payer's side (payer, payer's authorizer), the receiver's side (receiver, receiver's authorizer), each by
/// call or by relayed call; anyone, with a signature of theirs or to settle.
///
/// UNITS. Amounts are base units of a token, times seconds.
///
/// INVARIANTS.
/// PC-1 Σ(balance − claimed) + Σ(claimed − settled) + Σ vault ≤ token balance; equal when nobody sent tokens unasked.
/// PC-2 What is claimed only grows, never above the balance or the highest signed ceiling.
/// PC-3 `settle` pays the receiver only.
/// PC-4 A payer can always leave within its withdrawDelay: one withdrawal at a time, of all that is unclaimed.
/// PC-5 The outcome of `claimAvailable` for a good row does not depend on bad rows.
/// PC-6 A voucher of one channel, chain or contract is worth nothing in another.
///
/// ASSUMPTIONS. Tokens keep balances still (not checked: no rebasing). What comes in is checked to the unit; what goes out
/// is not, so a token that takes a fee from its sender ruins its own users, and only them. A collector is any contract at
/// all: what counts is what arrives. An ERC-1271 payer can take back its vouchers; a payer's authorizer can withdraw, to
/// the payer; an issuer can block an address.
///
/// LIVENESS. Claims, refunds and withdrawals of a channel call no code but its token's and, to check a signature, that of
/// its own ERC-1271 payer or receiver's authorizer. What a stranger does elsewhere cannot make them fail.
contract PaymentChannels is ChannelBook, Multicall, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    constructor(address p256Verifier_) EIP712("x402 Batch Settlement", "1") ChannelBook(p256Verifier_) { }

    /* DEPOSIT */

    /// @inheritdoc IPaymentChannelsScheme
    function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData)
        external
        nonReentrant
    {
        require(collector != address(0), InvalidCollector());
        bytes32 id = _credit(_domainSeparatorV4(), config, amount, _msgSender());

        uint256 before = ExactTransfer.balance(config.token);
        IDepositCollector(collector).collect(config.payer, config.token, amount, id, collectorData);
        require(ExactTransfer.balance(config.token) == before + amount, DepositCollectionFailed());
    }

    /* VAULT */

    /// @inheritdoc IPaymentChannels
    function vaultDeposit(address token, uint256 amount) external nonReentrant {
        address account = _msgSender();
        vaultOf[account][token] += amount;
        emit VaultDeposited(account, token, amount);

        ExactTransfer.pull(token, account, amount);
    }

    /// @inheritdoc IPaymentChannels
    function vaultWithdraw(address token, uint256 amount, address to) external nonReentrant {
        require(to != address(0) && to != address(this), RecipientInvalid(to));
        address account = _msgSender();
        _spend(account, token, amount);
        emit VaultWithdrawn(account, token, amount, to);

        IERC20(token).safeTransfer(to, amount);
    }

    /// @inheritdoc IPaymentChannels
    function fund(ChannelConfig[] calldata configs, uint128[] calldata amounts) external nonReentrant {
        require(configs.length != 0, EmptyBatch());
        require(configs.length == amounts.length, BatchLengthsDiffer(configs.length, amounts.length));
        address account = _msgSender();
        address token = configs[0].token;
        bytes32 domain = _domainSeparatorV4();

        uint256 total;
        for (uint256 i = 0; i < configs.length; ++i) {
            require(configs[i].token == token, BatchTokenDiffers(i, configs[i].token, token));
            _credit(domain, configs[i], amounts[i], account);
            total += amounts[i];
        }
        _spend(account, token, total);
        emit VaultSpent(account, token, total);
    }

    /* CLAIM */

    /// @inheritdoc IPaymentChannelsScheme
    function claim(VoucherClaim[] calldata voucherClaims) external nonReentrant {
        require(voucherClaims.length != 0, EmptyBatch());
        bytes32 domain = _domainSeparatorV4();
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            require(_isReceiverSide(voucherClaims[i].voucher.channel), NotAuthorizedToClaim());
            _claim(domain, voucherClaims[i]);
        }
    }

    /// @inheritdoc IPaymentChannelsScheme
    function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature)
        external
        nonReentrant
    {
        require(voucherClaims.length != 0, EmptyBatch());
        address authorizer = voucherClaims[0].voucher.channel.receiverAuthorizer;
        bytes32 domain = _domainSeparatorV4();
        bytes32 digest = ChannelHashes.claimBatch(domain, voucherClaims);
        require(
            SignatureChecker.isValidSignatureNowCalldata(authorizer, digest, authorizerSignature), InvalidSignature()
        );
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            require(voucherClaims[i].voucher.channel.receiverAuthorizer == authorizer, NotReceiverAuthorizer());
            _claim(domain, voucherClaims[i]);
        }
    }

    /// @inheritdoc IPaymentChannels
    function claimAvailable(VoucherClaim[] calldata voucherClaims)
        external
        nonReentrant
        returns (ClaimOutcome[] memory outcomes)
    {
        require(voucherClaims.length != 0, EmptyBatch());
        bytes32 domain = _domainSeparatorV4();
        outcomes = new ClaimOutcome[](voucherClaims.length);
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            outcomes[i] = _claimAvailable(domain, voucherClaims[i]);
        }
    }

    /// @inheritdoc IPaymentChannels
    function claimLocked(VoucherClaim calldata lockedClaim, bytes32 preimage) external nonReentrant {
        ChannelConfig calldata config = lockedClaim.voucher.channel;
        require(_isReceiverSide(config), NotAuthorizedToClaim());
        bytes32 domain = _domainSeparatorV4();
        bytes32 id = ChannelHashes.channelId(domain, config);
        bytes32 lock = keccak256(abi.encode(preimage));
        ChannelState memory state = channels[id];
        require(lockedClaim.totalClaimed > state.totalClaimed, NothingToClaim(id, state.totalClaimed));

        emit LockOpened(id, lock, preimage);
        bytes32 digest = ChannelHashes.lockedVoucher(domain, id, lockedClaim.voucher.maxClaimableAmount, lock);
        _claimSigned(id, state, lockedClaim, digest);
    }

    /// @inheritdoc IPaymentChannelsScheme
    function settle(address receiver, address token) external nonReentrant {
        ReceiverState storage state = receivers[receiver][token];
        uint128 amount = state.totalClaimed - state.totalSettled;
        if (amount == 0) return;

        state.totalSettled += amount;
        emit Settled(receiver, token, _msgSender(), amount);

        IERC20(token).safeTransfer(receiver, amount);
    }

    /* WITHDRAW */

    /// @inheritdoc IPaymentChannelsScheme
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        require(_isPayerSide(config), InvalidChannel());
        require(amount != 0, NothingToWithdraw());
        bytes32 id = getChannelId(config);
        require(pendingWithdrawals[id].initiatedAt == 0, WithdrawalAlreadyPending());
        require(amount <= _unclaimed(channels[id]), WithdrawAmountExceedsAvailable());

        pendingWithdrawals[id] = WithdrawalState(amount, uint40(block.timestamp));
        emit WithdrawInitiated(id, amount, uint40(block.timestamp) + config.withdrawDelay);
    }

    /// @inheritdoc IPaymentChannelsScheme
    function finalizeWithdraw(ChannelConfig calldata config) external nonReentrant {
        require(_isPayerSide(config), NotAuthorizedToFinalizeWithdraw());
        bytes32 id = getChannelId(config);
        WithdrawalState memory pending = pendingWithdrawals[id];
        require(pending.initiatedAt != 0, WithdrawalNotPending());
        require(block.timestamp >= uint256(pending.initiatedAt) + config.withdrawDelay, WithdrawDelayNotElapsed());

        ChannelState storage state = channels[id];
        uint128 amount = _min(pending.amount, _unclaimed(state));
        delete pendingWithdrawals[id];
        emit WithdrawFinalized(id, _msgSender(), amount);
        _giveBack(id, config, state, amount);
    }

    /* REFUND */

    /// @inheritdoc IPaymentChannelsScheme
    function refund(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        require(_isReceiverSide(config), NotAuthorizedToRefund());
        _refund(getChannelId(config), config, amount);
    }

    /// @inheritdoc IPaymentChannelsScheme
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata receiverAuthorizerSignature
    ) external nonReentrant {
        bytes32 id = getChannelId(config);
        require(nonce == refundNonce[id], InvalidRefundNonce());
        require(
            SignatureChecker.isValidSignatureNowCalldata(
                config.receiverAuthorizer, getRefundDigest(id, nonce, amount), receiverAuthorizerSignature
            ),
            InvalidSignature()
        );
        _refund(id, config, amount);
    }

    /* BATCHES AND NONCES */

    /// @inheritdoc IPaymentChannelsScheme
    function multicall(bytes[] calldata data)
        public
        override(IPaymentChannelsScheme, Multicall)
        returns (bytes[] memory results)
    {
        require(msg.sender != address(this), MulticallInRelay());
        return super.multicall(data);
    }

    /// @inheritdoc Relayed
    function cancelNonce(uint256 nonce) public override nonReentrant {
        super.cancelNonce(nonce);
    }

    /* INTERNAL */

    function _msgSender() internal view override(Context, Relayed) returns (address) {
        return Relayed._msgSender();
    }
}
