// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ERC20 } from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title FeeToken
/// @notice Burns one percent of what is transferred, once the fee is on. For tests.
contract FeeToken is ERC20 {
    bool public isFeeOn = true;

    constructor() ERC20("fee token", "FEE") { }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setFee(bool on) external {
        isFeeOn = on;
    }

    function _update(address from, address to, uint256 amount) internal override {
        uint256 fee = isFeeOn && from != address(0) && to != address(0) ? amount / 100 : 0;
        super._update(from, to, amount - fee);
        if (fee != 0) super._update(from, address(0), fee);
    }
}
