// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { KeyRelease } from "contracts/libraries/KeyRelease.sol";

/// @title SaleTerms
/// @notice Hashes the terms of sales as EIP-712 structs and checks the bounds that every offer keeps.
/// @dev INVARIANTS. No order exists whose offer `requireValid` would refuse: an offer is checked when it is listed, or,
/// unlisted, when its signature is. A resale's token exists only for an offer that was sold.
library SaleTerms {
    uint256 internal constant MIN_WINDOW = 5 minutes;
    uint256 internal constant MAX_WINDOW = 30 days;
    uint256 internal constant MAX_ROYALTY_BPS = 5000;
    uint256 internal constant BPS = 10_000;

    bytes32 private constant OFFER_TYPEHASH = keccak256(
        "Offer(address seller,address token,uint128 price,uint128 bond,bytes32 sealedRoot,uint32 leafCount,"
        "uint256 keyX,uint256 keyY,address rule,bytes32 ruleParamsHash,uint32 supply,uint16 royaltyBps,"
        "address audience,uint32 revealWindow,uint32 disputeWindow,uint40 expiry,bytes32 terms,uint256 salt)"
    );
    bytes32 private constant RESALE_TYPEHASH =
        keccak256("Resale(bytes32 offerId,address holder,address token,uint128 price,uint40 expiry,uint256 salt)");

    /// @notice EIP-712 `hashStruct` of an offer. All of its fields are one word, so their encoding is the ABI's.
    function hash(IDataMarket.Offer calldata offer) internal pure returns (bytes32) {
        return keccak256(abi.encode(OFFER_TYPEHASH, offer));
    }

    /// @notice EIP-712 `hashStruct` of a resale.
    function hash(IDataMarket.Resale calldata resale) internal pure returns (bytes32) {
        return keccak256(abi.encode(RESALE_TYPEHASH, resale));
    }

    /// @notice Reverts unless the offer can be sold fairly: it has leaves, windows and a royalty within bounds, and a key
    /// that can be released and disclosed.
    function requireValid(IDataMarket.Offer calldata offer) internal pure {
        require(offer.leafCount != 0, IDataMarket.LeafCountTooLow(0, 1));
        require(KeyRelease.isPublicKey(offer.keyX, offer.keyY), IDataMarket.PublicKeyInvalid(offer.keyX, offer.keyY));
        require(offer.royaltyBps <= MAX_ROYALTY_BPS, IDataMarket.RoyaltyTooHigh(offer.royaltyBps, MAX_ROYALTY_BPS));
        _requireWindow(offer.revealWindow);
        _requireWindow(offer.disputeWindow);
    }

    function _requireWindow(uint256 window) private pure {
        require(
            MIN_WINDOW <= window && window <= MAX_WINDOW, IDataMarket.WindowOutOfBounds(window, MIN_WINDOW, MAX_WINDOW)
        );
    }
}
