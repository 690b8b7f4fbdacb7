// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { IDepositEscrow } from "contracts/interfaces/IDepositEscrow.sol";
import { KeyRelease } from "contracts/libraries/KeyRelease.sol";

/// @title RentalTerms
/// @notice Hashes what owners and devices sign about a rental as EIP-712 structs, checks the bounds that all terms keep,
/// and knows what a rental costs.
/// @dev INVARIANTS. No rental exists whose terms `requireOpenable` refused: it is asked when one is opened.
library RentalTerms {
    uint256 internal constant MIN_WINDOW = 10 minutes;
    uint256 internal constant MAX_WINDOW = 30 days;
    uint256 internal constant MAX_GRACE = 1 days;
    uint256 internal constant MAX_AHEAD = 400 days;
    uint256 internal constant CHECK_OUT_GRACE = 1 days;

    bytes32 private constant TERMS_TYPEHASH = keccak256(
        "Terms(address owner,address token,uint96 fee,uint96 rate,uint96 meterCap,uint96 deposit,bytes32 device,"
        "bytes32 signerHash,address arbiter,uint256 keyX,uint256 keyY,uint40 start,uint40 end,uint32 grace,"
        "uint32 claimWindow,uint32 replyWindow,uint32 rulingWindow,bytes32 terms,uint256 salt)"
    );
    bytes32 private constant CHECK_IN_TYPEHASH = keccak256("CheckIn(bytes32 termsId,uint40 time,bytes32 condition)");
    bytes32 private constant CHECK_OUT_TYPEHASH =
        keccak256("CheckOut(bytes32 termsId,uint40 time,uint64 units,bytes32 condition)");

    /// @notice EIP-712 `hashStruct` of terms: keccak256(typehash ‖ their 19 words).
    /// @dev Copies the words as they came, at a fifth of what `abi.encode` takes, and like it refuses a word with bits
    /// beyond its type: the same terms would have a second id.
    function hash(IDepositEscrow.Terms calldata terms) internal pure returns (bytes32 structHash) {
        bytes32 typeHash = TERMS_TYPEHASH;
        assembly ("memory-safe") {
            let words := mload(0x40)
            mstore(words, typeHash)
            words := add(words, 0x20)
            calldatacopy(words, terms, 0x260)
            let addresses := or(or(mload(words), mload(add(words, 0x20))), mload(add(words, 0x100)))
            let amounts :=
                or(
                    or(mload(add(words, 0x40)), mload(add(words, 0x60))),
                    or(mload(add(words, 0x80)), mload(add(words, 0xa0)))
                )
            let times := or(mload(add(words, 0x160)), mload(add(words, 0x180)))
            let windows :=
                or(
                    or(mload(add(words, 0x1a0)), mload(add(words, 0x1c0))),
                    or(mload(add(words, 0x1e0)), mload(add(words, 0x200)))
                )
            if or(or(shr(160, addresses), shr(96, amounts)), or(shr(40, times), shr(32, windows))) {
                revert(0x00, 0x00)
            }
            structHash := keccak256(sub(words, 0x20), 0x280)
        }
    }

    /// @notice EIP-712 `hashStruct` of a check-in.
    function hash(IDepositEscrow.CheckIn calldata statement) internal pure returns (bytes32) {
        return keccak256(abi.encode(CHECK_IN_TYPEHASH, statement));
    }

    /// @notice EIP-712 `hashStruct` of a check-out.
    function hash(IDepositEscrow.CheckOut calldata statement) internal pure returns (bytes32) {
        return keccak256(abi.encode(CHECK_OUT_TYPEHASH, statement));
    }

    /// @notice Reverts unless the rental can run fairly: its slot, grace and windows are within bounds, its access key can
    /// be released, and there is time to do so. No sum of times comes near 256 bits.
    /// @return deadline The last moment before which the owner can hand over: min(start + grace, end).
    function requireOpenable(IDepositEscrow.Terms calldata terms) internal view returns (uint40 deadline) {
        unchecked {
            (uint256 start, uint256 end, uint256 grace) = (terms.start, terms.end, terms.grace);
            uint256 latest = block.timestamp + MAX_AHEAD;
            require(start < end && end <= latest, IDepositEscrow.SlotInvalid(start, end, latest));
            require(grace <= MAX_GRACE, IDepositEscrow.GraceTooLong(grace, MAX_GRACE));
            deadline = uint40(start + grace < end ? start + grace : end);
        }
        _requireWindow(terms.claimWindow);
        _requireWindow(terms.replyWindow);
        _requireWindow(terms.rulingWindow);
        require(KeyRelease.isPublicKey(terms.keyX, terms.keyY), IAgreements.PublicKeyInvalid(terms.keyX, terms.keyY));
        require(block.timestamp < deadline, IAgreements.WindowIsOver(deadline, block.timestamp));
    }

    /// @notice What the renter pays when the rental is opened: three amounts of 96 bits, which no sum of 98 overflows.
    function priceOf(IDepositEscrow.Terms calldata terms) internal pure returns (uint104) {
        unchecked {
            return uint104(uint256(terms.fee) + terms.meterCap + terms.deposit);
        }
    }

    /// @notice What `units` of metered use cost, at most the cap. The product has at most 160 bits.
    function meteredOf(IDepositEscrow.Terms calldata terms, uint64 units) internal pure returns (uint256) {
        uint256 cost = uint256(terms.rate) * units;
        return cost < terms.meterCap ? cost : terms.meterCap;
    }

    /// @notice The last moment before which a check-out is taken.
    function checkOutDeadline(IDepositEscrow.Terms calldata terms) internal pure returns (uint40) {
        return terms.end + uint40(CHECK_OUT_GRACE);
    }

    /// @dev One comparison for both bounds: less than the least, less the least, is more than anything.
    function _requireWindow(uint256 window) private pure {
        unchecked {
            require(
                window - MIN_WINDOW <= MAX_WINDOW - MIN_WINDOW,
                IAgreements.WindowOutOfBounds(window, MIN_WINDOW, MAX_WINDOW)
            );
        }
    }
}
