// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ICredits } from "contracts/interfaces/ICredits.sol";

/// @title Credits
/// @notice What each account can withdraw of each token.
/// @dev INVARIANTS. A credit is the sum of what was put in less what was taken. Nothing that is put in at once has more
/// than some 130 bits: no credit ever comes near 256 bits, so none can overflow and make a settlement or a refund revert.
library Credits {
    struct Ledger {
        mapping(address account => mapping(address token => uint256 credit)) credits;
    }

    /// @notice A sale, a rental or a refund is paid out to an account's credit; nothing happens for 0.
    function credit(Ledger storage ledger, address account, address token, uint256 amount) internal {
        if (amount == 0) return;
        ledger.credits[account][token] += amount;
        emit ICredits.Credited(account, token, amount);
    }

    /// @notice Takes from an account's credit, which must cover it.
    function take(Ledger storage ledger, address account, address token, uint256 amount) internal {
        uint256 available = ledger.credits[account][token];
        require(available >= amount, ICredits.CreditTooLow(account, token, available, amount));
        ledger.credits[account][token] = available - amount;
    }

    /// @notice An account takes money out; who is asked to send it calls the token afterwards.
    function withdraw(Ledger storage ledger, address account, address token, uint256 amount, address to) internal {
        require(to != address(0) && to != address(this), ICredits.RecipientInvalid(to));
        take(ledger, account, token, amount);
        emit ICredits.Withdrawn(account, token, amount, to);
    }
}
