// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC20 } from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import { SafeERC20 } from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import { Relayed } from "contracts/base/Relayed.sol";
import { IPaymentChannels } from "contracts/interfaces/IPaymentChannels.sol";
import { IPaymentChannelsScheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { ChannelHashes } from "contracts/payment/ChannelHashes.sol";
import { PayerSignature } from "contracts/payment/PayerSignature.sol";

/// @title ChannelBook
/// @notice Base of PaymentChannels: what is stored of channels, receivers and vaults, and how each entry is made.
/// @dev MODEL. Storage is written here alone, and every event of a channel is emitted beside its entry. Who may make an
/// entry, and the lock against reentry, are the matter of PaymentChannels; what is here guards the numbers. As claims never
/// pass the balance (PC-2), a channel without balance has nothing claimed: it is new, or closed.
///
/// Names of getters, and the name that `refundNonce` does not give its value, are x402's.
abstract contract ChannelBook is IPaymentChannels, Relayed {
    using SafeERC20 for IERC20;

    struct ChannelState {
        uint128 balance;
        uint128 totalClaimed;
    }

    struct ReceiverState {
        uint128 totalClaimed;
        uint128 totalSettled;
    }

    struct WithdrawalState {
        uint128 amount;
        uint40 initiatedAt;
    }

    /// @inheritdoc IPaymentChannelsScheme
    uint40 public constant MIN_WITHDRAW_DELAY = 15 minutes;
    /// @inheritdoc IPaymentChannelsScheme
    uint40 public constant MAX_WITHDRAW_DELAY = 30 days;
    /// @inheritdoc IPaymentChannelsScheme
    bytes32 public constant CHANNEL_CONFIG_TYPEHASH = ChannelHashes.CHANNEL_CONFIG_TYPEHASH;
    /// @inheritdoc IPaymentChannelsScheme
    bytes32 public constant VOUCHER_TYPEHASH = ChannelHashes.VOUCHER_TYPEHASH;
    /// @inheritdoc IPaymentChannelsScheme
    bytes32 public constant REFUND_TYPEHASH = ChannelHashes.REFUND_TYPEHASH;
    /// @inheritdoc IPaymentChannelsScheme
    bytes32 public constant CLAIM_ENTRY_TYPEHASH = ChannelHashes.CLAIM_ENTRY_TYPEHASH;
    /// @inheritdoc IPaymentChannelsScheme
    bytes32 public constant CLAIM_BATCH_TYPEHASH = ChannelHashes.CLAIM_BATCH_TYPEHASH;

    /// @inheritdoc IPaymentChannels
    address public immutable p256Verifier;

    /// @inheritdoc IPaymentChannelsScheme
    mapping(bytes32 channelId => ChannelState state) public channels;
    /// @inheritdoc IPaymentChannelsScheme
    mapping(address receiver => mapping(address token => ReceiverState state)) public receivers;
    /// @inheritdoc IPaymentChannelsScheme
    mapping(bytes32 channelId => WithdrawalState state) public pendingWithdrawals;
    /// @inheritdoc IPaymentChannelsScheme
    mapping(bytes32 channelId => uint256) public refundNonce;
    /// @inheritdoc IPaymentChannels
    mapping(address account => mapping(address token => uint256 credit)) public vaultOf;

    constructor(address p256Verifier_) {
        p256Verifier = p256Verifier_;
    }

    /* VIEWS */

    /// @inheritdoc IPaymentChannelsScheme
    function getChannelId(ChannelConfig calldata config) public view returns (bytes32) {
        return ChannelHashes.channelId(_domainSeparatorV4(), config);
    }

    /// @inheritdoc IPaymentChannelsScheme
    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) external view returns (bytes32) {
        return ChannelHashes.voucher(_domainSeparatorV4(), channelId, maxClaimableAmount);
    }

    /// @inheritdoc IPaymentChannels
    function getLockedVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount, bytes32 lock)
        external
        view
        returns (bytes32)
    {
        return ChannelHashes.lockedVoucher(_domainSeparatorV4(), channelId, maxClaimableAmount, lock);
    }

    /// @inheritdoc IPaymentChannelsScheme
    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) public view returns (bytes32) {
        return ChannelHashes.refund(_domainSeparatorV4(), channelId, nonce, amount);
    }

    /// @inheritdoc IPaymentChannelsScheme
    function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) external view returns (bytes32) {
        return ChannelHashes.claimBatch(_domainSeparatorV4(), voucherClaims);
    }

    /* INTERNAL */

    function _credit(bytes32 domain, ChannelConfig calldata config, uint128 amount, address sender)
        internal
        returns (bytes32 id)
    {
        _requireValid(config);
        require(amount != 0, ZeroDeposit());
        id = ChannelHashes.channelId(domain, config);
        ChannelState storage state = channels[id];
        uint128 balance = state.balance;
        require(amount <= type(uint128).max - balance, DepositOverflow());

        if (balance == 0) emit ChannelCreated(id, config);
        state.balance = balance + amount;
        emit Deposited(id, sender, amount, balance + amount);
    }

    function _spend(address account, address token, uint256 amount) internal {
        uint256 credit = vaultOf[account][token];
        require(amount <= credit, VaultTooLow(account, token, credit, amount));
        vaultOf[account][token] = credit - amount;
    }

    /// @dev Claims a row or reverts; does nothing where as much was claimed before.
    function _claim(bytes32 domain, VoucherClaim calldata row) internal {
        bytes32 id = ChannelHashes.channelId(domain, row.voucher.channel);
        ChannelState memory state = channels[id];
        if (row.totalClaimed <= state.totalClaimed) return;
        _claimSigned(id, state, row, ChannelHashes.voucher(domain, id, row.voucher.maxClaimableAmount));
    }

    function _claimSigned(bytes32 id, ChannelState memory state, VoucherClaim calldata row, bytes32 digest) internal {
        ChannelConfig calldata config = row.voucher.channel;
        require(row.totalClaimed <= row.voucher.maxClaimableAmount, ClaimExceedsCeiling());
        require(row.totalClaimed <= state.balance, ClaimExceedsBalance());
        require(PayerSignature.isValid(config, digest, row.signature, p256Verifier), InvalidSignature());
        _record(id, state, receivers[config.receiver][config.token], row.totalClaimed);
    }

    /// @dev Claims what there is of a row, or says why not; never reverts.
    function _claimAvailable(bytes32 domain, VoucherClaim calldata row) internal returns (ClaimOutcome outcome) {
        ChannelConfig calldata config = row.voucher.channel;
        bytes32 id = ChannelHashes.channelId(domain, config);
        ChannelState memory state = channels[id];
        ReceiverState storage payee = receivers[config.receiver][config.token];
        uint128 target = _min(row.totalClaimed, state.balance);

        outcome = _outcomeByNumbers(row, state, target);
        if (outcome <= ClaimOutcome.ClaimedInPart) {
            if (target - state.totalClaimed > type(uint128).max - payee.totalClaimed) {
                outcome = ClaimOutcome.ReceiverTotalExceeded;
            } else {
                bytes32 digest = ChannelHashes.voucher(domain, id, row.voucher.maxClaimableAmount);
                PayerSignature.Verdict verdict = PayerSignature.judge(config, digest, row.signature, p256Verifier);
                if (verdict == PayerSignature.Verdict.GasTooLow) outcome = ClaimOutcome.GasTooLow;
                else if (verdict == PayerSignature.Verdict.Invalid) outcome = ClaimOutcome.SignatureInvalid;
            }
        }
        if (outcome <= ClaimOutcome.ClaimedInPart) _record(id, state, payee, target);
        else emit ClaimSkipped(id, _msgSender(), outcome);
    }

    function _outcomeByNumbers(VoucherClaim calldata row, ChannelState memory state, uint128 target)
        internal
        view
        returns (ClaimOutcome)
    {
        if (!_isReceiverSide(row.voucher.channel)) return ClaimOutcome.NotAuthorized;
        if (row.totalClaimed > row.voucher.maxClaimableAmount) return ClaimOutcome.CeilingExceeded;
        if (row.totalClaimed <= state.totalClaimed) return ClaimOutcome.AlreadyClaimed;
        if (target == state.totalClaimed) return ClaimOutcome.BalanceExhausted;
        return target == row.totalClaimed ? ClaimOutcome.Claimed : ClaimOutcome.ClaimedInPart;
    }

    function _record(bytes32 id, ChannelState memory state, ReceiverState storage payee, uint128 target) internal {
        uint128 amount = target - state.totalClaimed;
        channels[id] = ChannelState(state.balance, target);
        payee.totalClaimed += amount;
        emit Claimed(id, _msgSender(), amount, target);
    }

    function _refund(bytes32 id, ChannelConfig calldata config, uint128 asked) internal {
        require(asked != 0, ZeroRefund());
        ++refundNonce[id];
        ChannelState storage state = channels[id];
        uint128 amount = _min(asked, _unclaimed(state));
        if (amount == 0) return;

        WithdrawalState storage pending = pendingWithdrawals[id];
        if (amount < pending.amount) pending.amount -= amount;
        else if (pending.initiatedAt != 0) delete pendingWithdrawals[id];
        emit Refunded(id, _msgSender(), amount);
        _giveBack(id, config, state, amount);
    }

    function _giveBack(bytes32 id, ChannelConfig calldata config, ChannelState storage state, uint128 amount) internal {
        state.balance -= amount;
        if (state.balance == 0) emit ChannelClosed(id, config);

        if (amount != 0) IERC20(config.token).safeTransfer(config.payer, amount);
    }

    function _requireValid(ChannelConfig calldata config) internal view {
        bool isComplete = config.payer != address(0) && config.receiver != address(0)
            && config.receiverAuthorizer != address(0) && config.token != address(0);
        require(isComplete && config.payer != address(this) && config.receiver != address(this), InvalidChannel());
        require(
            MIN_WITHDRAW_DELAY <= config.withdrawDelay && config.withdrawDelay <= MAX_WITHDRAW_DELAY,
            WithdrawDelayOutOfRange()
        );
    }

    function _isReceiverSide(ChannelConfig calldata config) internal view returns (bool) {
        address sender = _msgSender();
        return sender == config.receiver || sender == config.receiverAuthorizer;
    }

    function _isPayerSide(ChannelConfig calldata config) internal view returns (bool) {
        address sender = _msgSender();
        return sender == config.payer || sender == config.payerAuthorizer;
    }

    function _unclaimed(ChannelState storage state) internal view returns (uint128) {
        return state.balance - state.totalClaimed;
    }

    function _min(uint128 left, uint128 right) internal pure returns (uint128) {
        return left < right ? left : right;
    }
}
