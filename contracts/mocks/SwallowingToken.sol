// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title SwallowingToken
/// @notice Answers every call that it does not know with success and moves nothing, as a token with a fallback does when
/// it is asked for an ERC-3009 transfer. For tests.
contract SwallowingToken {
    mapping(address account => uint256 amount) public balanceOf;

    fallback() external { }
}
