// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IDepositEscrow } from "contracts/interfaces/IDepositEscrow.sol";

/// @title IRuleArbiter
/// @notice Rules on a disputed claim by itself: readings that the agreed device signed, one after the other, and that
/// break the agreed rule, win the owner what was agreed.
/// @dev Owner and renter agree by the terms: `Terms.arbiter` is this contract, and
/// `Terms.terms = keccak256(abi.encode(document, keccak256(abi.encode(agreement))))` (see `termsHash`), where `document` is
/// the hash of the rental's document. Without evidence in the ruling window the claim goes back to the renter.
///
/// A LEAF is the reading in a data set (see ReadingLib). Whether it is authentic and in time is checked here and not left
/// to the rule: a rule may call a leaf that nobody signed a violation.
///
/// UNITS. Times are the device's, Unix milliseconds.
interface IRuleArbiter {
    /* TYPES */

    /// @notice What shows that the owner is right.
    /// @param rule The ILeafRule that every leaf must violate.
    /// @param params Its parameters. They must not be broken by the time, or by the sequence number, of a leaf.
    /// @param signer The device's signer, 20 or 84 bytes.
    /// @param device The device's id.
    /// @param schema keccak256 of the canonical schema document.
    /// @param fields How many values a reading has.
    /// @param from No leaf is dated before; not before the rental's `start`, nor before a check-in that was shown.
    /// @param until No leaf is dated after, nor after the second of the check-out.
    /// @param count How many leaves in a row must violate; at least 1.
    /// @param span How much time must lie between the first leaf and the last.
    /// @param award What the owner gets for it, at most what is claimed; base units of the rental's token.
    struct Agreement {
        address rule;
        bytes params;
        bytes signer;
        bytes32 device;
        bytes32 schema;
        uint32 fields;
        uint64 from;
        uint64 until;
        uint32 count;
        uint64 span;
        uint96 award;
    }

    /* EVENTS */

    /// @notice The evidence was good: leaves `firstSeq` and on violate, and the owner was given `award`.
    event EvidenceAccepted(bytes32 indexed rentalId, uint64 firstSeq, uint256 award);

    /* ERRORS */

    /// @notice This is not what owner and renter agreed to.
    error AgreementNotInTerms(bytes32 termsHash, bytes32 required);
    /// @notice The agreement would take evidence from before the rental.
    error AgreementTooEarly(uint256 from, uint256 start);
    /// @notice There must be as many leaves as agreed, and at least one.
    error LeafCountInvalid(uint256 count, uint256 required);
    /// @notice The agreed device did not sign this leaf, or it is no leaf at all.
    error LeafNotAuthentic(uint256 place);
    /// @notice The leaf does not follow the one before it.
    error LeafNotConsecutive(uint256 place);
    /// @notice The leaf is dated outside of the agreed time.
    error LeafOutOfTime(uint256 place, uint256 time, uint256 from, uint256 until);
    /// @notice The leaf does not break the agreed rule.
    error LeafNotViolating(uint256 place);
    /// @notice First and last leaf lie too close together.
    error SpanTooShort(uint256 span, uint256 required);

    /* RULE */

    /// @notice Gives the owner the smaller of claim and agreed award. By anyone with the evidence, while Disputed.
    /// @param rental The rental, disputed, with this contract as its arbiter.
    /// @param document The hash of the rental's document.
    /// @param agreement What the terms bind.
    /// @param leaves The evidence, in order.
    function rule(
        IDepositEscrow.Rental calldata rental,
        bytes32 document,
        Agreement calldata agreement,
        bytes[] calldata leaves
    ) external;

    /* VIEWS */

    /// @notice What `Terms.terms` must be to bind an agreement.
    function termsHash(bytes32 document, Agreement calldata agreement) external pure returns (bytes32);

    /// @notice The escrow that is ruled.
    function escrow() external view returns (IDepositEscrow);

    /// @notice The verifier address that P-256 signers begin with.
    function p256Verifier() external view returns (address);
}
