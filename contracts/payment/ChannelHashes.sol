// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { MessageHashUtils } from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import { IPaymentChannelsScheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";

/// @title ChannelHashes
/// @notice EIP-712 digests of what is signed about a channel.
/// @dev Every function takes the domain separator, so that a batch asks for it once.
library ChannelHashes {
    bytes32 internal constant CHANNEL_CONFIG_TYPEHASH = keccak256(
        "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
    );
    bytes32 internal constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");
    bytes32 internal constant LOCKED_VOUCHER_TYPEHASH =
        keccak256("LockedVoucher(bytes32 channelId,uint128 maxClaimableAmount,bytes32 lock)");
    bytes32 internal constant REFUND_TYPEHASH = keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)");
    bytes32 internal constant CLAIM_ENTRY_TYPEHASH =
        keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");
    bytes32 internal constant CLAIM_BATCH_TYPEHASH = keccak256(
        "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
    );

    /// @notice The channel id: the digest of its config.
    /// @dev A config in calldata is seven words, laid out as EIP-712 encodes them, and is hashed as it stands. A word with
    /// dirt above its type gives an id that nobody signed; it reverts wherever its field is read, and the first deposit
    /// of a channel reads all of them into the log, so no money gets under such an id.
    function channelId(bytes32 domain, IPaymentChannelsScheme.ChannelConfig calldata config)
        internal
        pure
        returns (bytes32)
    {
        bytes32 typeHash = CHANNEL_CONFIG_TYPEHASH;
        bytes32 structHash;
        assembly ("memory-safe") {
            let encoded := mload(0x40)
            mstore(encoded, typeHash)
            calldatacopy(add(encoded, 0x20), config, 0xe0)
            structHash := keccak256(encoded, 0x100)
        }
        return MessageHashUtils.toTypedDataHash(domain, structHash);
    }

    function voucher(bytes32 domain, bytes32 id, uint128 maxClaimableAmount) internal pure returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(domain, keccak256(abi.encode(VOUCHER_TYPEHASH, id, maxClaimableAmount)));
    }

    function lockedVoucher(bytes32 domain, bytes32 id, uint128 maxClaimableAmount, bytes32 lock)
        internal
        pure
        returns (bytes32)
    {
        return MessageHashUtils.toTypedDataHash(
            domain, keccak256(abi.encode(LOCKED_VOUCHER_TYPEHASH, id, maxClaimableAmount, lock))
        );
    }

    function refund(bytes32 domain, bytes32 id, uint256 nonce, uint128 amount) internal pure returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(domain, keccak256(abi.encode(REFUND_TYPEHASH, id, nonce, amount)));
    }

    function claimBatch(bytes32 domain, IPaymentChannelsScheme.VoucherClaim[] calldata claims)
        internal
        pure
        returns (bytes32)
    {
        bytes32[] memory entries = new bytes32[](claims.length);
        for (uint256 i = 0; i < claims.length; ++i) {
            IPaymentChannelsScheme.VoucherClaim calldata row = claims[i];
            bytes32 id = channelId(domain, row.voucher.channel);
            entries[i] =
                keccak256(abi.encode(CLAIM_ENTRY_TYPEHASH, id, row.voucher.maxClaimableAmount, row.totalClaimed));
        }
        bytes32 list = keccak256(abi.encodePacked(entries));
        return MessageHashUtils.toTypedDataHash(domain, keccak256(abi.encode(CLAIM_BATCH_TYPEHASH, list)));
    }
}
