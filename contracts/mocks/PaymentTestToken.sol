// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ERC20 } from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title PaymentTestToken
/// @notice A token that does on a transfer what it is told: its duty, a fee, nothing at all, or a call back.
contract PaymentTestToken is ERC20 {
    enum Behaviour {
        Honest,
        FeeFromReceiver,
        FeeFromSender,
        MoveNothing,
        ReturnFalse,
        CallBack
    }

    uint256 public constant FEE = 1;

    Behaviour public behaviour;
    address public target;
    bytes public data;

    /// @notice What the last call back came to.
    bool public hasSucceeded;
    bytes public answer;

    constructor() ERC20("test token", "TEST") { }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function behave(Behaviour behaviour_) external {
        behaviour = behaviour_;
    }

    /// @notice Calls `target_` with `data_` in the midst of every transfer.
    function callBack(address target_, bytes calldata data_) external {
        behaviour = Behaviour.CallBack;
        (target, data) = (target_, data_);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        _move(_msgSender(), to, amount);
        return behaviour != Behaviour.ReturnFalse;
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        _spendAllowance(from, _msgSender(), amount);
        _move(from, to, amount);
        return behaviour != Behaviour.ReturnFalse;
    }

    function _move(address from, address to, uint256 amount) private {
        if (behaviour == Behaviour.MoveNothing || behaviour == Behaviour.ReturnFalse) return;
        if (behaviour == Behaviour.CallBack) (hasSucceeded, answer) = target.call(data);
        _transfer(from, to, amount);
        if (behaviour == Behaviour.FeeFromReceiver) _burn(to, FEE);
        if (behaviour == Behaviour.FeeFromSender) _burn(from, FEE);
    }
}
