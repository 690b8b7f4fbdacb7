// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title IPaymentChannelsScheme
/// @notice x402's `batch-settlement` scheme to the letter: what every x402 client, server and facilitator calls.
/// @dev Names, types, events and errors (which carry no values) are x402's, and so is the EIP-712 domain, name
/// `x402 Batch Settlement` and version `1`, with chain id and contract. Amounts are base units of an ERC-20 token, times
/// seconds of block time.
///
/// A channel is its config; nothing has to be opened. The payer pays in, then signs vouchers off chain, each for the sum
/// of all payments so far. The receiver's side claims the latest voucher at any time, and settles: one transfer for any
/// number of claims. What is not claimed goes back to the payer, by a refund of the receiver's side at once or by the
/// payer's own withdrawal after `withdrawDelay`.
///
/// "The receiver's side" is the receiver or the receiver's authorizer; "the payer's side" is the payer or the payer's
/// authorizer.
interface IPaymentChannelsScheme {
    /* TYPES */

    /// @notice The terms of a channel. Their EIP-712 digest is the channel id.
    /// @param payer Who pays, and to whom everything goes back.
    /// @param payerAuthorizer The key that signs vouchers; 0: the payer itself, by ECDSA or ERC-1271.
    /// @param receiver Who is paid.
    /// @param receiverAuthorizer The account that claims and refunds for the receiver, by call or signature; not 0.
    /// @param token The ERC-20 in which is paid; no fee on transfer, no rebasing.
    /// @param withdrawDelay How long the payer waits for what was not claimed: 15 minutes to 30 days.
    /// @param salt Makes two channels with equal terms different.
    struct ChannelConfig {
        address payer;
        address payerAuthorizer;
        address receiver;
        address receiverAuthorizer;
        address token;
        uint40 withdrawDelay;
        bytes32 salt;
    }

    /// @notice What the payer signs: `Voucher(bytes32 channelId,uint128 maxClaimableAmount)`.
    /// @param channel The channel's terms.
    /// @param maxClaimableAmount The sum of all payments so far: up to here may be claimed.
    struct Voucher {
        ChannelConfig channel;
        uint128 maxClaimableAmount;
    }

    /// @notice A voucher, its signature, and how much of it is claimed.
    /// @param signature Where the config has a payer's authorizer: 65 bytes of ECDSA, or 148 bytes for P-256 (see
    /// IPaymentChannels). Else 65 bytes of ECDSA by the payer, or whatever its ERC-1271 contract takes.
    /// @param totalClaimed The channel's claimed sum after this claim.
    struct VoucherClaim {
        Voucher voucher;
        bytes signature;
        uint128 totalClaimed;
    }

    /* EVENTS */

    /// @notice A channel that was empty, with nothing claimed, got money.
    event ChannelCreated(bytes32 indexed channelId, ChannelConfig config);
    /// @notice A channel is empty again, with nothing claimed.
    event ChannelClosed(bytes32 indexed channelId, ChannelConfig config);
    event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newBalance);
    event Claimed(bytes32 indexed channelId, address indexed sender, uint128 claimAmount, uint128 newTotalClaimed);
    event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
    /// @notice Unclaimed money went back to the payer; a pending withdrawal is less by as much, or over.
    event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);
    event WithdrawInitiated(bytes32 indexed channelId, uint128 amount, uint40 finalizeAfter);
    event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);

    /* ERRORS */

    /// @notice The config lacks a party or the token, names this contract as a party, or is not the caller's to withdraw.
    error InvalidChannel();
    error ZeroDeposit();
    error DepositOverflow();
    error InvalidSignature();
    /// @notice A row of a signed batch has another receiver's authorizer than the first.
    error NotReceiverAuthorizer();
    error NotAuthorizedToClaim();
    error NotAuthorizedToRefund();
    error ClaimExceedsCeiling();
    error ClaimExceedsBalance();
    error WithdrawalAlreadyPending();
    error WithdrawalNotPending();
    error NotAuthorizedToFinalizeWithdraw();
    error WithdrawDelayNotElapsed();
    error NothingToWithdraw();
    error WithdrawAmountExceedsAvailable();
    error WithdrawDelayOutOfRange();
    error EmptyBatch();
    /// @notice The collector did not bring exactly the amount.
    error DepositCollectionFailed();
    error InvalidCollector();
    error InvalidRefundNonce();
    error ZeroRefund();

    /* DEPOSIT */

    /// @notice Pays into a channel through a collector, which brings exactly `amount` of the payer's money. By anyone: the
    /// collector asks for the payer's consent.
    /// @param collector Whom to ask; not 0.
    /// @param collectorData What the collector needs.
    function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData)
        external;

    /* CLAIM */

    /// @notice Claims vouchers, all or none. By the receiver's side of every channel. A row that claims no more than was
    /// claimed before does nothing, whatever its signature.
    function claim(VoucherClaim[] calldata voucherClaims) external;

    /// @notice Claims vouchers of one receiver's authorizer, all or none. By anyone, with the authorizer's signature of the
    /// `ClaimBatch` (ECDSA or ERC-1271).
    function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature) external;

    /// @notice Pays the receiver all that was claimed for it and not paid yet. By anyone; nothing happens when there is
    /// nothing to pay.
    function settle(address receiver, address token) external;

    /* WITHDRAW */

    /// @notice Announces a withdrawal of unclaimed money. By the payer's side, one at a time. The receiver's side has
    /// `withdrawDelay` from now to claim what it has vouchers for.
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external;

    /// @notice Pays the announced amount, or what is left of the unclaimed money, to the payer. By the payer's side, from
    /// `withdrawDelay` after the announcement.
    function finalizeWithdraw(ChannelConfig calldata config) external;

    /* REFUND */

    /// @notice Gives unclaimed money back to the payer: `amount`, or what there is. By the receiver's side. Raises the
    /// refund nonce, also when nothing is left to give back; lessens a pending withdrawal by what it gives back.
    function refund(ChannelConfig calldata config, uint128 amount) external;

    /// @notice The same, by anyone with the signature of the receiver's authorizer (ECDSA or ERC-1271).
    /// @param nonce The channel's refund nonce of now.
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata receiverAuthorizerSignature
    ) external;

    /* BATCH */

    /// @notice Makes several calls to this contract in one transaction, all or none. Not inside a relayed call.
    /// @param data The calls: selector and arguments of each.
    /// @return results What each returned, ABI-encoded.
    function multicall(bytes[] calldata data) external returns (bytes[] memory results);

    /* VIEWS */

    /// @notice The EIP-712 digest of the config in this contract's domain.
    function getChannelId(ChannelConfig calldata config) external view returns (bytes32);

    /// @notice The digest that the payer signs.
    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) external view returns (bytes32);

    /// @notice The digest that the receiver's authorizer signs for `refundWithSignature`.
    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) external view returns (bytes32);

    /// @notice The digest that the receiver's authorizer signs for `claimWithSignature`.
    function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) external view returns (bytes32);

    /// @return balance All that was paid in and did not go back to the payer.
    /// @return totalClaimed The part of it that was claimed.
    function channels(bytes32 channelId) external view returns (uint128 balance, uint128 totalClaimed);

    /// @return totalClaimed All that was ever claimed for this receiver.
    /// @return totalSettled The part of it that was paid.
    function receivers(address receiver, address token)
        external
        view
        returns (uint128 totalClaimed, uint128 totalSettled);

    /// @return amount What was announced, less refunds since; 0: none is pending.
    /// @return initiatedAt When; 0: none is pending.
    function pendingWithdrawals(bytes32 channelId) external view returns (uint128 amount, uint40 initiatedAt);

    /// @notice How many refunds the channel has seen.
    function refundNonce(bytes32 channelId) external view returns (uint256);

    function MIN_WITHDRAW_DELAY() external view returns (uint40);

    function MAX_WITHDRAW_DELAY() external view returns (uint40);

    function CHANNEL_CONFIG_TYPEHASH() external view returns (bytes32);

    function VOUCHER_TYPEHASH() external view returns (bytes32);

    function REFUND_TYPEHASH() external view returns (bytes32);

    function CLAIM_ENTRY_TYPEHASH() external view returns (bytes32);

    function CLAIM_BATCH_TYPEHASH() external view returns (bytes32);
}
