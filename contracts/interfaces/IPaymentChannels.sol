// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IPaymentChannelsScheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";

/// @title IPaymentChannels
/// @notice Micropayments between machines by vouchers: x402's `batch-settlement` scheme, and what machines need beside it.
/// @dev VAULT. Money paid in once opens and tops up any number of channels; what is in a channel is kept for that channel
/// alone. The vault of an account is `VaultDeposited - VaultSpent - VaultWithdrawn` over its events.
///
/// CLAIMS THAT CANNOT BE SPOILED. `claimAvailable` passes over bad rows and says why.
///
/// LOCKED VOUCHERS. `LockedVoucher(bytes32 channelId,uint128 maxClaimableAmount,bytes32 lock)`, in the same EIP-712 domain:
/// whoever claims it publishes the preimage of the lock, as a rule the key of what is paid for. A preimage that was sent is
/// out even if its transaction reverts: it is to be sent only while no withdrawal is pending, after a simulation.
///
/// P-256 PAYERS. The payer's authorizer is `address(bytes20(keccak256(signer)))` where `signer` is the 84 bytes of the
/// suite's P-256 kind, the P-256 verifier's address, x and y. A signature is then 148 bytes, `signer ‖ r ‖ s`, s in the
/// lower half.
///
/// CALLERS. Every function, x402's too, knows its caller as the sender of the transaction or the signer of a relayed call
/// (see IRelayed). A call that carries a preimage is for a relayer whom the sender trusts.
interface IPaymentChannels is IPaymentChannelsScheme {
    /* TYPES */

    /// @notice What became of a row of `claimAvailable`. The first two claim; all others leave the channel as it was.
    /// @param Claimed All that the row asks for was claimed.
    /// @param ClaimedInPart The row asks for more than the channel's balance, and the balance was claimed.
    /// @param AlreadyClaimed As much was claimed before; the signature was not looked at.
    /// @param NotAuthorized The caller is not of the receiver's side.
    /// @param CeilingExceeded The row asks for more than its voucher allows.
    /// @param BalanceExhausted The whole balance was claimed before.
    /// @param ReceiverTotalExceeded The receiver's claims in this token would pass 2^128 - 1.
    /// @param SignatureInvalid The payer's side did not sign this voucher, or its contract did not say so in 100,000 gas.
    /// @param GasTooLow The payer is a contract, and not enough gas is left to give it its 100,000.
    enum ClaimOutcome {
        Claimed,
        ClaimedInPart,
        AlreadyClaimed,
        NotAuthorized,
        CeilingExceeded,
        BalanceExhausted,
        ReceiverTotalExceeded,
        SignatureInvalid,
        GasTooLow
    }

    /* EVENTS */

    event VaultDeposited(address indexed account, address indexed token, uint256 amount);
    event VaultWithdrawn(address indexed account, address indexed token, uint256 amount, address to);
    /// @notice Money of a vault went into channels: a `Deposited` each, by the same sender, came before.
    event VaultSpent(address indexed account, address indexed token, uint256 amount);
    /// @notice A row of `claimAvailable` claimed nothing. (Anyone can have a row skipped: `sender` tells whose it was.)
    event ClaimSkipped(bytes32 indexed channelId, address indexed sender, ClaimOutcome outcome);
    /// @notice A locked voucher was claimed and its preimage is out.
    event LockOpened(bytes32 indexed channelId, bytes32 indexed lock, bytes32 preimage);

    /* ERRORS */

    error VaultTooLow(address account, address token, uint256 credit, uint256 amount);
    error RecipientInvalid(address to);
    error BatchLengthsDiffer(uint256 configs, uint256 amounts);
    /// @notice Row `index` of a batch is in another token than the first.
    error BatchTokenDiffers(uint256 index, address token, address expected);
    /// @notice The channel's claimed sum is `totalClaimed` already: the preimage would be given for nothing.
    error NothingToClaim(bytes32 channelId, uint128 totalClaimed);
    /// @notice `multicall` was called by way of `relay`: a signer is to see the call itself.
    error MulticallInRelay();

    /* VAULT */

    /// @notice Pays into the caller's vault, by allowance.
    function vaultDeposit(address token, uint256 amount) external;

    /// @notice Pays out of the caller's vault.
    function vaultWithdraw(address token, uint256 amount, address to) external;

    /// @notice Pays into channels of one token out of the caller's vault, all or none. The payers may be others: what is
    /// not claimed goes back to them.
    /// @param amounts Base units for each config, in their order.
    function fund(ChannelConfig[] calldata configs, uint128[] calldata amounts) external;

    /* CLAIM */

    /// @notice Claims what can be claimed: a row that asks for more than the balance claims the balance, and a bad row is
    /// passed over. No row makes another fail, as long as the transaction has gas enough; an ERC-1271 payer is given
    /// 100,000 gas and 32 bytes to answer.
    /// @return outcomes What became of each row.
    function claimAvailable(VoucherClaim[] calldata voucherClaims) external returns (ClaimOutcome[] memory outcomes);

    /// @notice Claims one locked voucher and publishes the preimage of its lock. By the receiver's side.
    /// @param lockedClaim As for `claim`, but that the signature is of `LockedVoucher` with the preimage's keccak256.
    function claimLocked(VoucherClaim calldata lockedClaim, bytes32 preimage) external;

    /* VIEWS */

    /// @notice The digest that the payer signs for a locked voucher.
    function getLockedVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount, bytes32 lock)
        external
        view
        returns (bytes32);

    /// @notice What `account` has in its vault, in base units of `token`.
    function vaultOf(address account, address token) external view returns (uint256);

    /// @notice The verifier address that P-256 signers begin with.
    function p256Verifier() external view returns (address);
}
