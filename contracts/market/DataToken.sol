// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ERC1155 } from "@openzeppelin/contracts/token/ERC1155/ERC1155.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title DataToken
/// @notice The ERC-1155 side of the market: one token is one copy of the data set `bytes32(id)`, and its licence.
/// @dev MODEL. Owners transfer as ERC-1155 says, receivers are asked. The market mints and moves tokens without asking a
/// receiver, so that no buyer and no holder can make a settlement or a refund revert.
///
/// REENTRY. Approvals and transfers take the market's lock: while it calls a token or a receiver, nobody can move or
/// approve anything here.
abstract contract DataToken is ERC1155, ReentrancyGuardTransient {
    constructor() ERC1155("") { }

    /* OWNERS */

    /// @inheritdoc ERC1155
    function setApprovalForAll(address operator, bool approved) public override nonReentrant {
        super.setApprovalForAll(operator, approved);
    }

    /// @inheritdoc ERC1155
    function safeTransferFrom(address from, address to, uint256 id, uint256 value, bytes memory data)
        public
        override
        nonReentrant
    {
        super.safeTransferFrom(from, to, id, value, data);
    }

    /// @inheritdoc ERC1155
    function safeBatchTransferFrom(
        address from,
        address to,
        uint256[] memory ids,
        uint256[] memory values,
        bytes memory data
    ) public override nonReentrant {
        super.safeBatchTransferFrom(from, to, ids, values, data);
    }

    /* INTERNAL */

    /// @dev Moves one token, or mints it where `from` is 0, and calls nobody.
    function _moveToken(address from, address to, bytes32 offerId) internal {
        uint256[] memory ids = new uint256[](1);
        uint256[] memory values = new uint256[](1);
        ids[0] = uint256(offerId);
        values[0] = 1;
        _update(from, to, ids, values);
    }
}
