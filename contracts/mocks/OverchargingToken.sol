// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ERC20 } from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title OverchargingToken
/// @notice Takes one percent more from the sender of a `transfer` than it was asked to move. For tests.
contract OverchargingToken is ERC20 {
    constructor() ERC20("overcharging token", "OVER") { }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        _burn(msg.sender, amount / 100);
        return super.transfer(to, amount);
    }
}
