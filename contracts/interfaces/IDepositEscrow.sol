// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";

/// @title IDepositEscrow
/// @notice Holds fee and deposit of a rental: payment and access key change hands together, the device's check-out
/// releases the deposit, and an arbiter is asked about what is left in dispute.
/// @dev
/// WORDS. Terms are the owner's signed offer. `termsId` is the EIP-712 digest of the Terms in this contract's domain; the
/// device signs check-in and check-out over it, so that a lock without a network needs to know nothing of the renter.
/// `rentalId = keccak256(abi.encode(termsId, renter, mask, E.x, E.y))`. Terms open once: their salt is a nonce of the
/// owner's, the same that relayed calls use, so that `cancelNonce(salt)` takes an offer back.
///
/// TERMS COME WITH THE CALL. The contract stores one slot for each rental and takes the terms as calldata every time.
///
/// TIME. All windows and deadlines are seconds of block time. An act needs `now < deadline` of the rental's state;
/// `close` needs `now >= deadline`. What the owner gives back of its own will (`refund` before the check-out, `waive` after
/// it) needs no deadline.
///
/// MONEY. Amounts are base units of an ERC-20 token. Every payout is a credit, taken out by `withdraw`. The credit of an
/// account is `Credited - Withdrawn` over its events.
///
/// CALLERS. "The owner", "the renter", "the arbiter" is the caller, or the signer of a relayed call (see Relayed). All
/// three may be contracts (ERC-1271).
interface IDepositEscrow is IAgreements, ICredits {
    /* TYPES */

    /// @notice What an owner offers. Its EIP-712 digest is the terms id.
    /// @param owner Who hands over, is paid and may claim.
    /// @param token The ERC-20 in which everything is paid; no fee on transfer, no rebasing.
    /// @param fee Base units of `token` for the rental as such.
    /// @param rate Base units of `token` for each unit that the device meters (kWh, hours, kilometres).
    /// @param meterCap The most that metering can cost, base units of `token`.
    /// @param deposit Base units of `token` that the owner may claim of after check-out.
    /// @param device The device's id; for people and programs, the contract goes by `signerHash`.
    /// @param signerHash keccak256 of the device's signer (20 or 84 bytes): its key, pinned for this rental.
    /// @param arbiter Who rules on a claim that the renter rejects; 0 for nobody, then the renter keeps the deposit.
    /// @param keyX x of the access key's public point Q; below the group order.
    /// @param keyY y of Q; the point is on secp256k1.
    /// @param start When the slot begins.
    /// @param end When the slot ends; at most 400 days away when the rental is opened.
    /// @param grace Seconds after `start` that the owner has to hand over; at most a day.
    /// @param claimWindow Seconds that the owner has to claim after check-out; 10 minutes to 30 days, as all windows.
    /// @param replyWindow Seconds that the renter has to answer a claim.
    /// @param rulingWindow Seconds that the arbiter has to rule.
    /// @param terms keccak256 of the rental's document, or what an arbiter's contract wants there (see RuleArbiter).
    /// @param salt A nonce of the owner's that was not used before.
    struct Terms {
        address owner;
        address token;
        uint96 fee;
        uint96 rate;
        uint96 meterCap;
        uint96 deposit;
        bytes32 device;
        bytes32 signerHash;
        address arbiter;
        uint256 keyX;
        uint256 keyY;
        uint40 start;
        uint40 end;
        uint32 grace;
        uint32 claimWindow;
        uint32 replyWindow;
        uint32 rulingWindow;
        bytes32 terms;
        uint256 salt;
    }

    /// @notice One rental: the terms, and who opened them how.
    /// @param renter Who pays, and whom the access key is released to.
    /// @param mask Address of M = mG, behind which the key is hidden (see KeyRelease).
    /// @param ephemeralX x of the renter's E.
    /// @param ephemeralY y of E.
    struct Rental {
        Terms terms;
        address renter;
        address mask;
        uint256 ephemeralX;
        uint256 ephemeralY;
    }

    /// @notice The device saw the renter get in. `CheckIn(bytes32 termsId,uint40 time,bytes32 condition)`.
    /// @param time The device's clock, Unix seconds; the contract only reports it.
    /// @param condition keccak256 of what the device saw (photo, odometer, inventory), or 0.
    struct CheckIn {
        bytes32 termsId;
        uint40 time;
        bytes32 condition;
    }

    /// @notice The device saw the rental end. `CheckOut(bytes32 termsId,uint40 time,uint64 units,bytes32 condition)`.
    /// @param time The device's clock, Unix seconds; the contract only reports it.
    /// @param units What the device metered.
    /// @param condition keccak256 of what the device saw, or 0.
    struct CheckOut {
        bytes32 termsId;
        uint40 time;
        uint64 units;
        bytes32 condition;
    }

    /// @notice Where a rental stands.
    enum RentalState {
        None,
        Opened,
        Active,
        CheckedIn,
        CheckedOut,
        Claimed,
        Disputed,
        Closed
    }

    /* EVENTS */

    /// @notice A renter paid fee, meter cap and deposit; the owner may hand over before `deadline`.
    event RentalOpened(
        bytes32 indexed rentalId,
        address indexed owner,
        address indexed renter,
        bytes32 termsId,
        address mask,
        uint256 ephemeralX,
        uint256 ephemeralY,
        uint40 deadline
    );
    /// @notice All went back to the renter: nothing was handed over, or the owner gave it back before the check-out.
    event RentalRefunded(bytes32 indexed rentalId);
    /// @notice The owner released the access key: κ' = κ + m mod n. A check-out is good before `deadline`.
    event RentalHandedOver(bytes32 indexed rentalId, uint256 releasedKey, uint40 deadline);
    /// @notice The device's check-in was shown.
    event RentalCheckedIn(bytes32 indexed rentalId, uint40 time, bytes32 condition);
    /// @notice The device's check-out was shown: `charge` (fee and metered use) went to the owner, the rest of the cap to
    /// the renter. The owner may claim on the deposit before `deadline`.
    event RentalCheckedOut(
        bytes32 indexed rentalId, uint40 time, uint64 units, bytes32 condition, uint256 charge, uint40 deadline
    );
    /// @notice The device checked in and never out: the fee went to the owner, the cap to the renter. The owner may claim
    /// before `deadline`.
    event CheckOutMissed(bytes32 indexed rentalId, uint256 charge, uint40 deadline);
    /// @notice The owner claims a part of the deposit; the rest went to the renter, who may answer before `deadline`.
    event DepositClaimed(bytes32 indexed rentalId, uint256 amount, bytes32 evidence, uint40 deadline);
    /// @notice The renter accepted the claim.
    event ClaimAccepted(bytes32 indexed rentalId, uint256 amount);
    /// @notice The renter rejected the claim; the arbiter may rule before `deadline`.
    event ClaimRejected(bytes32 indexed rentalId, uint40 deadline);
    /// @notice The arbiter gave `award` to the owner and the rest of the claim to the renter.
    event ClaimRuled(bytes32 indexed rentalId, uint256 award);
    /// @notice The owner gave up what it could still get: `amount`, all that was held, went to the renter.
    event ClaimWaived(bytes32 indexed rentalId, uint256 amount);
    /// @notice The default of the rental's state ended it: what was still held went to `recipient`.
    event RentalClosed(bytes32 indexed rentalId, address recipient, uint256 amount);

    /* ERRORS */

    /// @notice The slot has no length, or ends more than 400 days away.
    error SlotInvalid(uint256 start, uint256 end, uint256 latest);
    /// @notice The grace is longer than a day.
    error GraceTooLong(uint256 grace, uint256 maximum);
    /// @notice The owner cannot rent from himself.
    error RenterIsOwner(address owner);
    /// @notice The signature of the terms is not one of the owner's.
    error TermsNotSigned(bytes32 termsId, address owner);
    /// @notice The rental is not in the state that the call is for, or not in that one or one before it.
    error RentalStateInvalid(bytes32 rentalId, RentalState state, RentalState required);
    /// @notice The rental is neither active nor checked in: nobody can check out.
    error RentalNotActive(bytes32 rentalId, RentalState state);
    /// @notice There is nothing to waive: nobody has checked out yet, or the rental has ended.
    error RentalNotCheckedOut(bytes32 rentalId, RentalState state);
    /// @notice Nothing is held for the rental: it was never opened, or has ended.
    error RentalNotOpen(bytes32 rentalId, RentalState state);
    /// @notice That is for the owner.
    error CallerNotOwner(address caller, address owner);
    /// @notice That is for the renter.
    error CallerNotRenter(address caller, address renter);
    /// @notice That is for the arbiter.
    error CallerNotArbiter(address caller, address arbiter);
    /// @notice The released key does not fit the rental's mask: κ'G - Q is another point.
    error AccessKeyInvalid(bytes32 rentalId);
    /// @notice The statement is about other terms.
    error StatementOfOtherTerms(bytes32 termsId, bytes32 required);
    /// @notice This is not the signer that the terms pin.
    error SignerNotPinned(bytes32 signerHash, bytes32 required);
    /// @notice The pinned signer did not sign this statement.
    error StatementNotSigned(bytes32 termsId);
    /// @notice A claim is at least 1 and at most the deposit.
    error ClaimOutOfBounds(uint256 amount, uint256 deposit);
    /// @notice The award is more than was claimed.
    error AwardTooHigh(uint256 award, uint256 claimed);

    /* OPEN */

    /// @notice Opens a rental and pays fee, meter cap and deposit by allowance. The caller is the renter.
    /// @param ownerSignature The owner's, of the Terms: ECDSA or ERC-1271.
    function open(
        Terms calldata terms,
        bytes calldata ownerSignature,
        address mask,
        uint256 ephemeralX,
        uint256 ephemeralY
    ) external returns (bytes32 rentalId);

    /// @notice Opens a rental and pays by the renter's ERC-3009 `receiveWithAuthorization` whose nonce is the rental id.
    /// By anyone: that one signature binds terms, renter, mask and E.
    /// @param signature r ‖ s ‖ v, 65 bytes.
    function openWithAuthorization(
        Rental calldata rental,
        bytes calldata ownerSignature,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external returns (bytes32 rentalId);

    /// @notice Ends a rental: everything to the renter's credit. By the owner while Opened, Active or CheckedIn; by anyone
    /// while Opened, from the deadline on, which is min(start + grace, end). Who signed a refund never hands over.
    function refund(Rental calldata rental) external;

    /* HAND OVER */

    /// @notice Releases the access key: `κ' = κ + m mod n`, checked against Q and the mask. By the owner, before the
    /// deadline. The check-out is awaited until a day after `end`.
    function handOver(Rental calldata rental, uint256 releasedKey) external;

    /* CHECK IN, CHECK OUT */

    /// @notice Shows the device's check-in. By anyone, while Active, before `end`. Needed only where the device may die.
    function checkIn(
        Rental calldata rental,
        CheckIn calldata statement,
        bytes calldata signer,
        bytes calldata signature
    ) external;

    /// @notice Shows the device's check-out: fee and metered use to the owner, the rest of the cap to the renter. By
    /// anyone, while Active or CheckedIn, before a day after `end`. Opens the claim window.
    function checkOut(
        Rental calldata rental,
        CheckOut calldata statement,
        bytes calldata signer,
        bytes calldata signature
    ) external;

    /* CLAIM */

    /// @notice Claims a part of the deposit; the rest goes to the renter at once. By the owner, in the claim window.
    /// @param evidence keccak256 of what shows the damage, or 0.
    function claim(Rental calldata rental, uint96 amount, bytes32 evidence) external;

    /// @notice Gives the owner what it claims. By the renter, in the reply window.
    function accept(Rental calldata rental) external;

    /// @notice Takes the claim to the arbiter. By the renter, in the reply window.
    function reject(Rental calldata rental) external;

    /// @notice Splits what was claimed. By the arbiter, in the ruling window.
    /// @param award What the owner gets of it; the renter gets the rest.
    function rule(Rental calldata rental, uint96 award) external;

    /// @notice Gives up what the owner could still get of the deposit: all that is held goes to the renter. By the owner,
    /// while CheckedOut, Claimed or Disputed.
    function waive(Rental calldata rental) external;

    /* CLOSE */

    /// @notice Takes the default of the state that the rental is in. By anyone, from its deadline on:
    /// - Opened: everything to the renter, as `refund`;
    /// - Active (no check-in, no check-out until a day after `end`): everything to the renter;
    /// - CheckedIn (no check-out until a day after `end`): fee to the owner, cap to the renter, and the claim window opens;
    /// - CheckedOut (no claim): the deposit to the renter;
    /// - Claimed (no answer): the claim to the owner;
    /// - Disputed (no ruling): the claim to the renter.
    function close(Rental calldata rental) external;

    /* VIEWS */

    /// @notice The EIP-712 digest of terms, in this contract's domain.
    function termsId(Terms calldata terms) external view returns (bytes32);

    /// @notice The id of a rental.
    function rentalId(Rental calldata rental) external view returns (bytes32);

    /// @notice The digest that the device signs for a check-in.
    function checkInDigest(CheckIn calldata statement) external view returns (bytes32);

    /// @notice The digest that the device signs for a check-out.
    function checkOutDigest(CheckOut calldata statement) external view returns (bytes32);

    /// @notice Where a rental stands.
    /// @return state Where it stands.
    /// @return deadline Of that state.
    /// @return held What is still held for it, base units.
    /// @return claimed What of it the owner claims.
    function rentalOf(bytes32 id)
        external
        view
        returns (RentalState state, uint40 deadline, uint104 held, uint96 claimed);

    /// @notice When the device saw the renter come and go, by its own clock; 0 where no check-in or check-out was shown, and
    /// again once the rental has ended.
    function timesOf(bytes32 id) external view returns (uint40 checkedInAt, uint40 checkedOutAt);

    /// @notice The verifier address that P-256 signers begin with.
    function p256Verifier() external view returns (address);
}
