// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC1271 } from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import { ERC1155Holder } from "@openzeppelin/contracts/token/ERC1155/utils/ERC1155Holder.sol";
import { ECDSA } from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title ContractWallet
/// @notice An account that is a contract: one key signs for it (ERC-1271) and acts as it. For tests.
contract ContractWallet is IERC1271, ERC1155Holder {
    error CallerNotKey(address caller, address key);

    address public immutable key;

    constructor(address key_) {
        key = key_;
    }

    /// @notice Makes a call as this account; reverts as it does.
    function act(address to, bytes calldata call) external returns (bytes memory) {
        require(msg.sender == key, CallerNotKey(msg.sender, key));
        (bool success, bytes memory answer) = to.call(call);
        if (!success) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
        return answer;
    }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(hash, signature);
        bool isValid = problem == ECDSA.RecoverError.NoError && signer == key;
        return isValid ? IERC1271.isValidSignature.selector : bytes4(0);
    }
}
