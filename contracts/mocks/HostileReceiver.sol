// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC1155Receiver } from "@openzeppelin/contracts/token/ERC1155/IERC1155Receiver.sol";

/// @title HostileReceiver
/// @notice An account that rejects data tokens, or calls somewhere when it gets one, and does what its master says. For
/// tests.
contract HostileReceiver {
    error TokensRejected();

    address public target;
    bytes public data;
    bool public isRejecting;

    uint256 public calls;
    bool public lastSuccess;
    bytes public lastAnswer;

    function setRejecting(bool rejecting) external {
        isRejecting = rejecting;
    }

    function setHook(address target_, bytes calldata data_) external {
        (target, data) = (target_, data_);
    }

    /// @notice Makes a call as this account; reverts as it does.
    function act(address to, bytes calldata call) external returns (bytes memory) {
        (bool success, bytes memory answer) = to.call(call);
        if (!success) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
        return answer;
    }

    function onERC1155Received(address, address, uint256, uint256, bytes calldata) external returns (bytes4) {
        _receive();
        return IERC1155Receiver.onERC1155Received.selector;
    }

    function onERC1155BatchReceived(address, address, uint256[] calldata, uint256[] calldata, bytes calldata)
        external
        returns (bytes4)
    {
        _receive();
        return IERC1155Receiver.onERC1155BatchReceived.selector;
    }

    function _receive() private {
        require(!isRejecting, TokensRejected());
        if (target == address(0)) return;
        ++calls;
        (lastSuccess, lastAnswer) = target.call(data);
    }
}
