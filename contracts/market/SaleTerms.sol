// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { KeyRelease } from "contracts/libraries/KeyRelease.sol";

/// @title SaleTerms
/// @notice Hashes the terms of sales as EIP-712 structs and checks the bounds that every offer keeps.
/// @dev INVARIANTS. No order exists whose offer `requireValid` would refuse: an offer is checked when it is listed or,
/// unlisted, whenever its signature is. A resale's token exists only where the offer was sold before.
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

    /// @notice EIP-712 `hashStruct` of an offer: keccak256(typehash ‖ its 18 words).
    /// @dev Copies the words as they came, at a fifth of what `abi.encode` takes, and like it refuses a word with bits
    /// beyond its type: the same offer would have a second id.
    function hash(IDataMarket.Offer calldata offer) internal pure returns (bytes32 structHash) {
        bytes32 typeHash = OFFER_TYPEHASH;
        assembly ("memory-safe") {
            let words := mload(0x40)
            mstore(words, typeHash)
            words := add(words, 0x20)
            calldatacopy(words, offer, 0x240)
            let addresses :=
                or(or(mload(words), mload(add(words, 0x20))), or(mload(add(words, 0x100)), mload(add(words, 0x180))))
            let amounts := or(mload(add(words, 0x40)), mload(add(words, 0x60)))
            let counts :=
                or(
                    or(mload(add(words, 0xa0)), mload(add(words, 0x140))),
                    or(mload(add(words, 0x1a0)), mload(add(words, 0x1c0)))
                )
            let dirt := or(or(shr(160, addresses), shr(128, amounts)), shr(32, counts))
            dirt := or(dirt, or(shr(16, mload(add(words, 0x160))), shr(40, mload(add(words, 0x1e0)))))
            if dirt { revert(0x00, 0x00) }
            structHash := keccak256(sub(words, 0x20), 0x260)
        }
    }

    /// @notice EIP-712 `hashStruct` of a resale, whose fields are one word each.
    function hash(IDataMarket.Resale calldata resale) internal pure returns (bytes32) {
        return keccak256(abi.encode(RESALE_TYPEHASH, resale));
    }

    /// @notice Reverts unless the offer can be sold fairly: it has leaves, windows and a royalty within bounds, and a key
    /// that can be released and disclosed.
    function requireValid(IDataMarket.Offer calldata offer) internal pure {
        require(offer.leafCount != 0, IDataMarket.LeafCountTooLow(0, 1));
        require(KeyRelease.isPublicKey(offer.keyX, offer.keyY), IAgreements.PublicKeyInvalid(offer.keyX, offer.keyY));
        require(offer.royaltyBps <= MAX_ROYALTY_BPS, IDataMarket.RoyaltyTooHigh(offer.royaltyBps, MAX_ROYALTY_BPS));
        _requireWindow(offer.revealWindow);
        _requireWindow(offer.disputeWindow);
    }

    /// @notice Reverts from `expiry` on.
    function requireNotExpired(uint256 expiry) internal view {
        require(block.timestamp < expiry, IDataMarket.SaleExpired(expiry, block.timestamp));
    }

    /// @notice Reverts unless the resale is of a token of that offer: its windows, key, root, rule and royalty apply.
    function requireSameOffer(IDataMarket.Resale calldata resale, bytes32 offerId) internal pure {
        require(resale.offerId == offerId, IDataMarket.ResaleOfOtherOffer(resale.offerId, offerId));
    }

    function _requireWindow(uint256 window) private pure {
        require(
            MIN_WINDOW <= window && window <= MAX_WINDOW, IAgreements.WindowOutOfBounds(window, MIN_WINDOW, MAX_WINDOW)
        );
    }
}
