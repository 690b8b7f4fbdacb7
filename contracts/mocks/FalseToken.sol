// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title FalseToken
/// @notice Returns false where others revert, and moves nothing. For tests.
contract FalseToken {
    function balanceOf(address) external pure returns (uint256) {
        return type(uint128).max;
    }

    function transferFrom(address, address, uint256) external pure returns (bool) {
        return false;
    }

    function transfer(address, uint256) external pure returns (bool) {
        return false;
    }
}
