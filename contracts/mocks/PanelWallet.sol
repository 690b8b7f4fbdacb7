// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC1271 } from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import { MultiSignerERC7913 } from "@openzeppelin/contracts/utils/cryptography/signers/MultiSignerERC7913.sol";

/// @title PanelWallet
/// @notice An account of several keys of which some must sign together (ERC-1271, ERC-7913). For tests.
contract PanelWallet is IERC1271, MultiSignerERC7913 {
    constructor(bytes[] memory signers, uint64 threshold) MultiSignerERC7913(signers, threshold) { }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        return _rawSignatureValidation(hash, signature) ? IERC1271.isValidSignature.selector : bytes4(0);
    }
}
