// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IDepositEscrow } from "contracts/interfaces/IDepositEscrow.sol";
import { ILeafRule } from "contracts/interfaces/ILeafRule.sol";
import { IRuleArbiter } from "contracts/interfaces/IRuleArbiter.sol";
import { DeviceSigner } from "contracts/libraries/DeviceSigner.sol";
import { ReadingLib } from "contracts/libraries/ReadingLib.sol";
import { RuleCall } from "contracts/libraries/RuleCall.sol";

/// @title RuleArbiter
/// @notice An arbiter without a person: takes a device's signed readings as evidence and rules by the rule in the terms.
/// @dev MODEL. The terms bind a rule, a device and a number of readings. Whoever shows that many consecutive readings, each
/// signed by that device, dated in the agreed time and violating the rule, makes this contract rule for the owner. It
/// stores nothing, has no owner, and can do nothing else.
///
/// INVARIANTS. A ruling is bound to its rental: the agreement is part of the terms, the escrow takes a ruling only while
/// that rental is Disputed, and only from the arbiter that its terms name.
///
/// LIVENESS. The rule is asked by STATICCALL with fixed gas (see RuleCall). Nobody but the escrow is called otherwise.
contract RuleArbiter is IRuleArbiter {
    uint256 private constant MILLISECONDS = 1000;

    /// @inheritdoc IRuleArbiter
    IDepositEscrow public immutable escrow;
    /// @inheritdoc IRuleArbiter
    address public immutable p256Verifier;

    constructor(IDepositEscrow escrow_, address p256Verifier_) {
        escrow = escrow_;
        p256Verifier = p256Verifier_;
    }

    /* RULE */

    /// @inheritdoc IRuleArbiter
    function rule(
        IDepositEscrow.Rental calldata rental,
        bytes32 document,
        Agreement calldata agreement,
        bytes[] calldata leaves
    ) external {
        bytes32 hash = termsHash(document, agreement);
        require(hash == rental.terms.terms, AgreementNotInTerms(hash, rental.terms.terms));
        uint256 start = rental.terms.start * MILLISECONDS;
        require(agreement.from >= start, AgreementTooEarly(agreement.from, start));
        bytes32 id = escrow.rentalId(rental);
        (uint256 from, uint256 until) = _timeOf(id, agreement);
        _requireProven(agreement, leaves, from, until);

        (,,, uint96 claimed) = escrow.rentalOf(id);
        uint96 award = agreement.award < claimed ? agreement.award : claimed;
        emit EvidenceAccepted(id, ReadingLib.seqOf(leaves[0]), award);

        escrow.rule(rental, award);
    }

    /* VIEWS */

    /// @inheritdoc IRuleArbiter
    function termsHash(bytes32 document, Agreement calldata agreement) public pure returns (bytes32) {
        return keccak256(abi.encode(document, keccak256(abi.encode(agreement))));
    }

    /* INTERNAL */

    /// @dev Every leaf is authentic, in time, next to the one before and violates; first and last lie far enough apart.
    function _requireProven(Agreement calldata agreement, bytes[] calldata leaves, uint256 from, uint256 until)
        private
        view
    {
        uint256 count = agreement.count;
        require(count != 0 && leaves.length == count, LeafCountInvalid(leaves.length, count));
        uint64 nextSeq;
        bytes32 prev;
        for (uint256 i = 0; i < count; ++i) {
            bytes calldata leaf = leaves[i];
            bytes32 digest = _requireAuthentic(agreement, leaf, i);
            uint64 seq = ReadingLib.seqOf(leaf);
            require(i == 0 || (seq == nextSeq && ReadingLib.prevOf(leaf) == prev), LeafNotConsecutive(i));
            uint64 time = ReadingLib.timeOf(leaf);
            require(from <= time && time <= until, LeafOutOfTime(i, time, from, until));
            bytes memory question = abi.encodeCall(ILeafRule.violates, (leaf, seq, agreement.params));
            require(RuleCall.violates(agreement.rule, question), LeafNotViolating(i));
            (nextSeq, prev) = (_after(seq), digest);
        }
        uint256 first = ReadingLib.timeOf(leaves[0]);
        uint256 last = ReadingLib.timeOf(leaves[count - 1]);
        uint256 span = last < first ? 0 : last - first;
        require(span >= agreement.span, SpanTooShort(span, agreement.span));
    }

    /// @dev The agreed time, less what lies before a check-in that was shown or after the check-out: what the device saw
    /// without the renter is not held against the renter.
    function _timeOf(bytes32 id, Agreement calldata agreement) private view returns (uint256 from, uint256 until) {
        (uint40 checkedInAt, uint40 checkedOutAt) = escrow.timesOf(id);
        (from, until) = (agreement.from, agreement.until);
        uint256 came = checkedInAt * MILLISECONDS;
        if (from < came) from = came;
        uint256 left = checkedOutAt * MILLISECONDS + MILLISECONDS - 1;
        if (checkedOutAt != 0 && left < until) until = left;
    }

    /// @dev The leaf has the length of a reading and the agreed signer's signature; returns the digest that was signed.
    function _requireAuthentic(Agreement calldata agreement, bytes calldata leaf, uint256 place)
        private
        view
        returns (bytes32 digest)
    {
        uint256 offset = ReadingLib.signatureOffset(agreement.fields);
        uint256 signatureLength = agreement.signer.length == DeviceSigner.ADDRESS_LENGTH
            ? DeviceSigner.ECDSA_SIGNATURE_LENGTH
            : DeviceSigner.P256_SIGNATURE_LENGTH;
        require(leaf.length == offset + signatureLength, LeafNotAuthentic(place));
        digest = ReadingLib.digestOf(agreement.device, agreement.schema, leaf, agreement.fields);
        require(DeviceSigner.isValid(agreement.signer, digest, leaf[offset:], p256Verifier), LeafNotAuthentic(place));
    }

    /// @dev The number of the reading after `seq`; there is none after the last, so that 0 follows nothing but by a
    /// chain of hashes that nobody can make.
    function _after(uint64 seq) private pure returns (uint64) {
        unchecked {
            return seq + 1;
        }
    }
}
