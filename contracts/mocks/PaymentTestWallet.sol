// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC1271 } from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import { ECDSA } from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title PaymentTestWallet
/// @notice A contract account with one key, which answers ERC-1271 as it is told: truly, or so as to do harm.
contract PaymentTestWallet is IERC1271 {
    enum Manner {
        Truthful,
        SayNo,
        SayYes,
        BurnGas,
        ReturnBomb,
        RevertBomb,
        AnswerShort,
        AnswerDirty,
        SpendGas
    }

    uint256 private constant BOMB = 40_000;

    address public immutable key;
    Manner public manner;
    uint256 public spending;

    constructor(address key_) {
        key = key_;
    }

    function behave(Manner manner_) external {
        manner = manner_;
    }

    /// @notice Says yes after about so much gas.
    function spend(uint256 gas_) external {
        (manner, spending) = (Manner.SpendGas, gas_);
    }

    /// @notice Makes any call as this account.
    function execute(address target, bytes calldata data) external returns (bytes memory answer) {
        bool ok;
        (ok, answer) = target.call(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        bytes4 yes = IERC1271.isValidSignature.selector;
        if (manner == Manner.SayNo) return 0xffffffff;
        if (manner == Manner.BurnGas) {
            while (true) { }
        }
        if (manner == Manner.AnswerShort) {
            assembly ("memory-safe") {
                mstore(0x00, yes)
                return(0x00, 0x04)
            }
        }
        if (manner == Manner.AnswerDirty) {
            assembly ("memory-safe") {
                mstore(0x00, or(yes, 1))
                return(0x00, 0x20)
            }
        }
        if (manner == Manner.ReturnBomb || manner == Manner.RevertBomb) _explode(manner == Manner.ReturnBomb, yes);
        if (manner == Manner.SpendGas) {
            uint256 end = gasleft() - spending;
            while (gasleft() > end) { }
            return yes;
        }
        if (manner == Manner.SayYes) return yes;
        (address recovered,,) = ECDSA.tryRecoverCalldata(digest, signature);
        return recovered == key ? yes : bytes4(0xffffffff);
    }

    /// @dev As much as 100,000 gas can make of an answer.
    function _explode(bool isReturned, bytes4 yes) private pure {
        assembly ("memory-safe") {
            let answer := mload(0x40)
            mstore(answer, yes)
            if isReturned { return(answer, BOMB) }
            revert(answer, BOMB)
        }
    }
}
