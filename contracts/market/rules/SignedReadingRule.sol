// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ILeafRule } from "contracts/interfaces/ILeafRule.sol";
import { DeviceSigner } from "contracts/libraries/DeviceSigner.sol";
import { ReadingLib } from "contracts/libraries/ReadingLib.sol";

/// @title SignedReadingRule
/// @notice Promises that leaf i is the reading `seq0 + i` of one device, signed by one key, in time and in range.
/// @dev MODEL. A leaf breaks the promise when its length is wrong, `seq != seq0 + i` (so that nothing is missing, doubled
/// or out of order), `time` lies outside `t0..t1`, a value outside its `min..max` (all bounds inclusive), or the signature
/// is not `signer`'s over the reading. A promise that no leaf can keep (a signer of neither kind, `min` and `max` of
/// different lengths) is broken by every leaf. Parameters that do not decode revert.
///
/// ASSUMPTIONS. Whether `signer` was the device's at those times is for the buyer to ask the registry before paying; the
/// hash chain through `prev` is for the buyer's software to follow.
///
/// UNITS. Times are Unix milliseconds.
contract SignedReadingRule is ILeafRule {
    /// @notice The promise; `params` is `abi.encode` of the eight fields in this order, as separate values.
    /// @param signer The device's signer, 20 or 84 bytes.
    /// @param device The device's id.
    /// @param schema keccak256 of the canonical schema document.
    /// @param seq0 The sequence number of leaf 0.
    /// @param t0 No reading is dated before.
    /// @param t1 No reading is dated after.
    /// @param min The least value of each field.
    /// @param max The greatest value of each field.
    struct Promise {
        bytes signer;
        bytes32 device;
        bytes32 schema;
        uint64 seq0;
        uint64 t0;
        uint64 t1;
        int128[] min;
        int128[] max;
    }

    /// @notice The address that P-256 signers start with.
    address public immutable p256Verifier;

    constructor(address p256Verifier_) {
        p256Verifier = p256Verifier_;
    }

    /// @inheritdoc ILeafRule
    function violates(bytes calldata leaf, uint256 index, bytes calldata params) external view returns (bool) {
        Promise memory promised = _decode(params);
        return !_isInShape(leaf, promised) || !_isInOrder(leaf, index, promised) || !_isInRange(leaf, promised)
            || !_isSigned(leaf, promised);
    }

    /* INTERNAL */

    function _decode(bytes calldata params) private pure returns (Promise memory promised) {
        (
            promised.signer,
            promised.device,
            promised.schema,
            promised.seq0,
            promised.t0,
            promised.t1,
            promised.min,
            promised.max
        ) = abi.decode(params, (bytes, bytes32, bytes32, uint64, uint64, uint64, int128[], int128[]));
    }

    function _isInShape(bytes calldata leaf, Promise memory promised) private pure returns (bool) {
        if (promised.min.length != promised.max.length) return false;
        uint256 signatureLength = promised.signer.length == DeviceSigner.ADDRESS_LENGTH
            ? DeviceSigner.ECDSA_SIGNATURE_LENGTH
            : DeviceSigner.P256_SIGNATURE_LENGTH;
        return leaf.length == ReadingLib.signatureOffset(promised.min.length) + signatureLength;
    }

    function _isInOrder(bytes calldata leaf, uint256 index, Promise memory promised) private pure returns (bool) {
        uint64 seq = ReadingLib.seqOf(leaf);
        return seq >= promised.seq0 && seq - promised.seq0 == index;
    }

    function _isInRange(bytes calldata leaf, Promise memory promised) private pure returns (bool) {
        uint64 time = ReadingLib.timeOf(leaf);
        if (time < promised.t0 || time > promised.t1) return false;
        (int128[] memory min, int128[] memory max) = (promised.min, promised.max);
        for (uint256 i = 0; i < min.length; ++i) {
            int128 value = ReadingLib.valueOf(leaf, i);
            if (value < min[i] || value > max[i]) return false;
        }
        return true;
    }

    function _isSigned(bytes calldata leaf, Promise memory promised) private view returns (bool) {
        uint256 valueCount = promised.min.length;
        bytes32 digest = ReadingLib.digestOf(promised.device, promised.schema, leaf, valueCount);
        bytes calldata signature = leaf[ReadingLib.signatureOffset(valueCount):];
        return DeviceSigner.isValid(promised.signer, digest, signature, p256Verifier);
    }
}
