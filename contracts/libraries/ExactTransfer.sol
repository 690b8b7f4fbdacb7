// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC20 } from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import { SafeERC20 } from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title ExactTransfer
/// @notice Moves ERC-20 tokens into and out of the calling contract and refuses any that move another amount than asked.
/// @dev What comes in must arrive to the unit: fees, rebasing, and tokens that move nothing and say so to nobody are
/// refused. What goes out must not cost the contract more than the amount, which is other people's money; that less
/// leaves (a receiver that pays back in a hook) harms nobody.
library ExactTransfer {
    using SafeERC20 for IERC20;

    /// @notice A token moved `moved` units of the contract's balance, asked to move `amount`.
    error TransferNotExact(address token, int256 moved, uint256 amount);

    /// @notice Takes `amount` of `token` from `from`, by allowance.
    function pull(address token, address from, uint256 amount) internal {
        uint256 before = balance(token);
        IERC20(token).safeTransferFrom(from, address(this), amount);
        requireReceived(token, before, amount);
    }

    /// @notice Pays `amount` of `token` to `to`.
    function push(address token, address to, uint256 amount) internal {
        uint256 before = balance(token);
        IERC20(token).safeTransfer(to, amount);
        uint256 current = balance(token);
        require(
            current >= before || before - current <= amount, TransferNotExact(token, _moved(before, current), amount)
        );
    }

    /// @notice Reverts unless the contract's balance of `token` grew by exactly `amount` since it was `before`.
    function requireReceived(address token, uint256 before, uint256 amount) internal view {
        uint256 current = balance(token);
        require(
            current >= before && current - before == amount, TransferNotExact(token, _moved(before, current), amount)
        );
    }

    /// @notice The contract's balance of `token`.
    function balance(address token) internal view returns (uint256) {
        return IERC20(token).balanceOf(address(this));
    }

    /// @dev The difference as a signed number; wraps for a token that lies by more than 2^255.
    function _moved(uint256 before, uint256 current) private pure returns (int256) {
        unchecked {
            return int256(current - before);
        }
    }
}
