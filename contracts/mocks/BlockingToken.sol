// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ERC20 } from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title BlockingToken
/// @notice Its issuer can block accounts: nothing moves to or from them. For tests.
contract BlockingToken is ERC20 {
    error AccountIsBlocked(address account);

    mapping(address account => bool blocked) public isBlocked;

    constructor() ERC20("blocking token", "BLK") { }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setBlocked(address account, bool blocked) external {
        isBlocked[account] = blocked;
    }

    function _update(address from, address to, uint256 amount) internal override {
        require(!isBlocked[from], AccountIsBlocked(from));
        require(!isBlocked[to], AccountIsBlocked(to));
        super._update(from, to, amount);
    }
}
