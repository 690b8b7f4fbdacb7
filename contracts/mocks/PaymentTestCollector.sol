// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC20 } from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import { SafeERC20 } from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import { IDepositCollector } from "contracts/interfaces/IDepositCollector.sol";

/// @title PaymentTestCollector
/// @notice Collects by allowance: as much as it is asked, or more or less, and may call something in between.
contract PaymentTestCollector is IDepositCollector {
    using SafeERC20 for IERC20;

    int256 public difference;
    address public target;
    bytes public data;

    /// @notice What the last call in between came to.
    bool public hasSucceeded;
    bytes public answer;

    /// @notice Brings so much more than it is asked for.
    function bring(int256 difference_) external {
        difference = difference_;
    }

    /// @notice Calls `target_` with `data_` before it brings the money.
    function callBack(address target_, bytes calldata data_) external {
        (target, data) = (target_, data_);
    }

    /// @notice Allows `spender` everything that this contract has, so that it can pay by allowance itself.
    function approve(address token, address spender) external {
        IERC20(token).forceApprove(spender, type(uint256).max);
    }

    function collect(address payer, address token, uint256 amount, bytes32, bytes calldata) external {
        if (target != address(0)) (hasSucceeded, answer) = target.call(data);
        int256 brought = int256(amount) + difference;
        if (brought > 0) IERC20(token).safeTransferFrom(payer, msg.sender, uint256(brought));
    }
}
