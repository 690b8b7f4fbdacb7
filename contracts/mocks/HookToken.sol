// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DevDollar } from "contracts/mocks/DevDollar.sol";

/// @title HookToken
/// @notice Makes one call of its master's choice in the middle of every transfer, and remembers how it ended. For tests.
contract HookToken is DevDollar {
    address public target;
    bytes public data;
    bool public isStrict;

    uint256 public calls;
    bool public lastSuccess;
    bytes public lastAnswer;

    /// @param strict Whether a failed call makes the transfer fail as well.
    function setHook(address target_, bytes calldata data_, bool strict) external {
        (target, data, isStrict) = (target_, data_, strict);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (target == address(0)) return;
        ++calls;
        (lastSuccess, lastAnswer) = target.call(data);
        if (isStrict && !lastSuccess) {
            bytes memory answer = lastAnswer;
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }
}
