// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";

/// @title Credits
/// @notice What each account can withdraw of each token, or lock as a bond.
/// @dev INVARIANTS. A credit is the sum of the account's Deposited and Credited less its BondLocked and Withdrawn.
library Credits {
    struct Ledger {
        mapping(address account => mapping(address token => uint256 credit)) credits;
    }

    /// @notice A payer put money in. Like every price and bond, no more than 128 bits at once: no credit ever comes near
    /// 256 bits, so none can overflow and make a settlement or a refund revert.
    function deposit(Ledger storage ledger, address account, address token, uint256 amount) internal {
        require(amount <= type(uint128).max, IDataMarket.AmountTooHigh(amount, type(uint128).max));

        ledger.credits[account][token] += amount;
        emit IDataMarket.Deposited(account, token, amount);
    }

    /// @notice A sale or a refund is paid out to an account's credit; nothing happens for 0.
    function credit(Ledger storage ledger, address account, address token, uint256 amount) internal {
        if (amount == 0) return;
        ledger.credits[account][token] += amount;
        emit IDataMarket.Credited(account, token, amount);
    }

    /// @notice An order locks its seller's bond; nothing happens for 0.
    function lockBond(Ledger storage ledger, address account, address token, uint256 amount) internal {
        if (amount == 0) return;
        _take(ledger, account, token, amount);
        emit IDataMarket.BondLocked(account, token, amount);
    }

    /// @notice An account takes money out.
    function withdraw(Ledger storage ledger, address account, address token, uint256 amount, address to) internal {
        _take(ledger, account, token, amount);
        emit IDataMarket.Withdrawn(account, token, amount, to);
    }

    function _take(Ledger storage ledger, address account, address token, uint256 amount) private {
        uint256 available = ledger.credits[account][token];
        require(available >= amount, IDataMarket.CreditTooLow(account, token, available, amount));
        ledger.credits[account][token] = available - amount;
    }
}
