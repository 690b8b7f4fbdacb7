// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title Multicall3
/// @notice Many calls in one, for devnets that lack the well-known contract of this name.
/// @dev MODEL. The part of the well-known contract's ABI that x402's clients and facilitators use, written anew. It holds
/// no money and no state: whatever it is allowed to do, anyone may do in its name.
contract Multicall3 {
    struct BatchedCall {
        address target;
        bytes callData;
    }

    struct Call3 {
        address target;
        bool allowFailure;
        bytes callData;
    }

    struct Result {
        bool success;
        bytes returnData;
    }

    /// @notice A call that had to go through failed.
    error BatchedCallFailed(uint256 index, address target);

    /// @notice Makes the calls, each with its own word on whether it may fail.
    function aggregate3(Call3[] calldata calls) external payable returns (Result[] memory results) {
        results = new Result[](calls.length);
        for (uint256 i = 0; i < calls.length; ++i) {
            results[i] = _call(i, calls[i].target, calls[i].allowFailure, calls[i].callData);
        }
    }

    /// @notice Makes the calls; with `requireSuccess` none may fail.
    function tryAggregate(bool requireSuccess, BatchedCall[] calldata calls)
        external
        payable
        returns (Result[] memory results)
    {
        results = new Result[](calls.length);
        for (uint256 i = 0; i < calls.length; ++i) {
            results[i] = _call(i, calls[i].target, !requireSuccess, calls[i].callData);
        }
    }

    /* INTERNAL */

    function _call(uint256 index, address target, bool allowFailure, bytes calldata data)
        private
        returns (Result memory result)
    {
        (result.success, result.returnData) = target.call(data);
        require(result.success || allowFailure, BatchedCallFailed(index, target));
    }
}
