// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC3009 } from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { ECDSA } from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import { EIP712 } from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import { SignatureChecker } from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import { Relayed } from "contracts/base/Relayed.sol";
import { RentalTerms } from "contracts/escrow/RentalTerms.sol";
import { Rentals } from "contracts/escrow/Rentals.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDepositEscrow } from "contracts/interfaces/IDepositEscrow.sol";
import { Credits } from "contracts/libraries/Credits.sol";
import { DeviceSigner } from "contracts/libraries/DeviceSigner.sol";
import { ExactTransfer } from "contracts/libraries/ExactTransfer.sol";
import { KeyRelease } from "contracts/libraries/KeyRelease.sol";

/// @title DepositEscrow
/// @notice Rents out what a device guards: the key is delivered with the payment, the device's check-out frees the deposit.
/// @dev
/// MODEL. An owner signs Terms; a renter opens them and pays fee, meter cap and deposit; the owner releases the access key
/// to that renter alone; the device checks out; the owner may claim on the deposit, the renter answer, an arbiter rule. The
/// contract has no owner, no fee and no switch.
///
/// LIFECYCLE. None → Opened → Active (→ CheckedIn) → CheckedOut → Closed, with → Claimed → Closed and → Disputed → Closed.
/// Silence has a default in every state, which anyone can take after its deadline by `close`.
///
/// ROLES. Owner, renter and arbiter, each by call or by relayed call; the device, by its signature; and anyone, once a
/// deadline has passed.
///
/// UNITS. Amounts are base units of a token, times seconds, metered units the device's own.
///
/// INVARIANTS.
/// DE-1 What was paid in is credited or still held.
/// DE-2 award ≤ claimed ≤ deposit; charge ≤ fee + meterCap.
/// DE-3 A rental ends once; terms open once, at whatever address or mask.
/// DE-4 Every state that is not terminal can be left by anyone after its deadline.
/// DE-5 Only the pinned signer checks out, and never before the hand-over.
///
/// ASSUMPTIONS. Tokens move what they say (checked) and keep balances still (not checked: no rebasing). The device tells
/// the truth about who came, and what was used. An issuer can still block an address.
///
/// LIVENESS. Only `open` and `withdraw` call a token. Nothing that a renter or a stranger controls can make a hand-over, a
/// check-out or a close revert.
contract DepositEscrow is IDepositEscrow, Relayed, ReentrancyGuardTransient {
    using Credits for Credits.Ledger;
    using RentalTerms for Terms;
    using RentalTerms for CheckIn;
    using RentalTerms for CheckOut;
    using Rentals for Rentals.Book;

    uint256 private constant AUTHORIZATION_LENGTH = 65;

    /// @inheritdoc IDepositEscrow
    address public immutable p256Verifier;

    Rentals.Book private _rentals;
    Credits.Ledger private _credits;

    constructor(address p256Verifier_) EIP712("pyiot DepositEscrow", "1") {
        p256Verifier = p256Verifier_;
    }

    /* OPEN */

    /// @inheritdoc IDepositEscrow
    function open(
        Terms calldata terms,
        bytes calldata ownerSignature,
        address mask,
        uint256 ephemeralX,
        uint256 ephemeralY
    ) external nonReentrant returns (bytes32 id) {
        address renter = _msgSender();
        (bytes32 idOfTerms, uint40 deadline) = _requireOpenable(terms, ownerSignature, renter, mask);
        uint104 price = terms.priceOf();

        id = Rentals.idOf(idOfTerms, renter, mask, ephemeralX, ephemeralY);
        _rentals.slots[id] = Rentals.Slot(RentalState.Opened, deadline, 0, 0, price);
        emit RentalOpened(id, terms.owner, renter, idOfTerms, mask, ephemeralX, ephemeralY, deadline);

        ExactTransfer.pull(terms.token, renter, price);
    }

    /// @inheritdoc IDepositEscrow
    function openWithAuthorization(
        Rental calldata rental,
        bytes calldata ownerSignature,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external nonReentrant returns (bytes32 id) {
        require(
            signature.length == AUTHORIZATION_LENGTH, AuthorizationLengthInvalid(signature.length, AUTHORIZATION_LENGTH)
        );
        Terms calldata terms = rental.terms;
        (bytes32 idOfTerms, uint40 deadline) = _requireOpenable(terms, ownerSignature, rental.renter, rental.mask);
        uint104 price = terms.priceOf();

        id = Rentals.idOf(idOfTerms, rental);
        _rentals.slots[id] = Rentals.Slot(RentalState.Opened, deadline, 0, 0, price);
        emit RentalOpened(
            id, terms.owner, rental.renter, idOfTerms, rental.mask, rental.ephemeralX, rental.ephemeralY, deadline
        );

        uint256 before = ExactTransfer.balance(terms.token);
        (bytes32 r, bytes32 s, uint8 v) = (bytes32(signature), bytes32(signature[32:]), uint8(signature[64]));
        IERC3009(terms.token)
            .receiveWithAuthorization(rental.renter, address(this), price, validAfter, validBefore, id, v, r, s);
        ExactTransfer.requireReceived(terms.token, before, price);
    }

    /// @inheritdoc IDepositEscrow
    function refund(Rental calldata rental) external nonReentrant {
        bytes32 id = rentalId(rental);
        bool isOwner = _msgSender() == rental.terms.owner;
        RentalState last = isOwner ? RentalState.CheckedIn : RentalState.Opened;
        Rentals.Slot memory slot = _rentals.slots[id];
        require(slot.state != RentalState.None && slot.state <= last, RentalStateInvalid(id, slot.state, last));
        require(isOwner || block.timestamp >= slot.deadline, WindowIsOpen(slot.deadline, block.timestamp));

        _refund(rental, id, slot.held);
    }

    /* HAND OVER */

    /// @inheritdoc IDepositEscrow
    function handOver(Rental calldata rental, uint256 releasedKey) external nonReentrant {
        Terms calldata terms = rental.terms;
        _requireOwner(terms);
        bytes32 id = rentalId(rental);
        Rentals.Slot memory slot = _rentals.requireIn(id, RentalState.Opened);
        require(KeyRelease.isRelease(releasedKey, terms.keyX, terms.keyY, rental.mask), AccessKeyInvalid(id));

        uint40 deadline = terms.checkOutDeadline();
        _rentals.slots[id] = Rentals.Slot(RentalState.Active, deadline, 0, 0, slot.held);
        emit RentalHandedOver(id, releasedKey, deadline);
    }

    /* CHECK IN, CHECK OUT */

    /// @inheritdoc IDepositEscrow
    function checkIn(
        Rental calldata rental,
        CheckIn calldata statement,
        bytes calldata signer,
        bytes calldata signature
    ) external nonReentrant {
        Terms calldata terms = rental.terms;
        bytes32 idOfTerms = termsId(terms);
        bytes32 id = Rentals.idOf(idOfTerms, rental);
        Rentals.Slot memory slot = _rentals.requireIn(id, RentalState.Active);
        Rentals.requireBefore(terms.end);
        _requireSaid(terms, idOfTerms, statement.termsId, checkInDigest(statement), signer, signature);

        _rentals.slots[id] = Rentals.Slot(RentalState.CheckedIn, slot.deadline, statement.time, 0, slot.held);
        emit RentalCheckedIn(id, statement.time, statement.condition);
    }

    /// @inheritdoc IDepositEscrow
    function checkOut(
        Rental calldata rental,
        CheckOut calldata statement,
        bytes calldata signer,
        bytes calldata signature
    ) external nonReentrant {
        Terms calldata terms = rental.terms;
        bytes32 idOfTerms = termsId(terms);
        bytes32 id = Rentals.idOf(idOfTerms, rental);
        Rentals.Slot memory slot = _rentals.requireActive(id);
        _requireSaid(terms, idOfTerms, statement.termsId, checkOutDigest(statement), signer, signature);

        uint256 metered = terms.meteredOf(statement.units);
        slot.checkedOutAt = statement.time;
        uint40 deadline = _charge(rental, id, slot, metered);
        emit RentalCheckedOut(id, statement.time, statement.units, statement.condition, terms.fee + metered, deadline);
    }

    /* CLAIM */

    /// @inheritdoc IDepositEscrow
    function claim(Rental calldata rental, uint96 amount, bytes32 evidence) external nonReentrant {
        Terms calldata terms = rental.terms;
        _requireOwner(terms);
        bytes32 id = rentalId(rental);
        Rentals.Slot memory slot = _rentals.requireIn(id, RentalState.CheckedOut);
        require(amount != 0 && amount <= terms.deposit, ClaimOutOfBounds(amount, terms.deposit));

        uint40 deadline = Rentals.deadlineIn(terms.replyWindow);
        _rentals.slots[id] = Rentals.Slot(RentalState.Claimed, deadline, slot.checkedInAt, slot.checkedOutAt, amount);
        emit DepositClaimed(id, amount, evidence, deadline);
        _credits.credit(rental.renter, terms.token, terms.deposit - amount);
    }

    /// @inheritdoc IDepositEscrow
    function accept(Rental calldata rental) external nonReentrant {
        _requireRenter(rental);
        bytes32 id = rentalId(rental);
        Rentals.Slot memory slot = _rentals.requireIn(id, RentalState.Claimed);

        _rentals.end(id);
        emit ClaimAccepted(id, slot.held);
        _credits.credit(rental.terms.owner, rental.terms.token, slot.held);
    }

    /// @inheritdoc IDepositEscrow
    function reject(Rental calldata rental) external nonReentrant {
        _requireRenter(rental);
        bytes32 id = rentalId(rental);
        Rentals.Slot memory slot = _rentals.requireIn(id, RentalState.Claimed);

        uint40 deadline = Rentals.deadlineIn(rental.terms.rulingWindow);
        _rentals.slots[id] =
            Rentals.Slot(RentalState.Disputed, deadline, slot.checkedInAt, slot.checkedOutAt, slot.held);
        emit ClaimRejected(id, deadline);
    }

    /// @inheritdoc IDepositEscrow
    function rule(Rental calldata rental, uint96 award) external nonReentrant {
        Terms calldata terms = rental.terms;
        require(_msgSender() == terms.arbiter, CallerNotArbiter(_msgSender(), terms.arbiter));
        bytes32 id = rentalId(rental);
        Rentals.Slot memory slot = _rentals.requireIn(id, RentalState.Disputed);
        require(award <= slot.held, AwardTooHigh(award, slot.held));

        _rentals.end(id);
        emit ClaimRuled(id, award);
        _credits.credit(terms.owner, terms.token, award);
        _credits.credit(rental.renter, terms.token, slot.held - award);
    }

    /// @inheritdoc IDepositEscrow
    function waive(Rental calldata rental) external nonReentrant {
        Terms calldata terms = rental.terms;
        _requireOwner(terms);
        bytes32 id = rentalId(rental);
        Rentals.Slot memory slot = _rentals.slots[id];
        require(
            slot.state >= RentalState.CheckedOut && slot.state != RentalState.Closed,
            RentalNotCheckedOut(id, slot.state)
        );

        _rentals.end(id);
        emit ClaimWaived(id, slot.held);
        _credits.credit(rental.renter, terms.token, slot.held);
    }

    /* CLOSE */

    /// @inheritdoc IDepositEscrow
    function close(Rental calldata rental) external nonReentrant {
        Terms calldata terms = rental.terms;
        bytes32 id = rentalId(rental);
        Rentals.Slot memory slot = _rentals.requireClosable(id);

        if (slot.state == RentalState.Opened) {
            _refund(rental, id, slot.held);
        } else if (slot.state == RentalState.CheckedIn) {
            emit CheckOutMissed(id, terms.fee, _charge(rental, id, slot, 0));
        } else {
            address recipient = slot.state == RentalState.Claimed ? terms.owner : rental.renter;
            _rentals.end(id);
            emit RentalClosed(id, recipient, slot.held);
            _credits.credit(recipient, terms.token, slot.held);
        }
    }

    /* MONEY */

    /// @inheritdoc ICredits
    function withdraw(address token, uint256 amount, address to) external nonReentrant {
        _credits.withdraw(_msgSender(), token, amount, to);

        ExactTransfer.push(token, to, amount);
    }

    /* NONCES */

    /// @inheritdoc Relayed
    function cancelNonce(uint256 nonce) public override nonReentrant {
        super.cancelNonce(nonce);
    }

    /* VIEWS */

    /// @inheritdoc IDepositEscrow
    function termsId(Terms calldata terms) public view returns (bytes32) {
        return _hashTypedDataV4(terms.hash());
    }

    /// @inheritdoc IDepositEscrow
    function rentalId(Rental calldata rental) public view returns (bytes32) {
        return Rentals.idOf(termsId(rental.terms), rental);
    }

    /// @inheritdoc IDepositEscrow
    function checkInDigest(CheckIn calldata statement) public view returns (bytes32) {
        return _hashTypedDataV4(statement.hash());
    }

    /// @inheritdoc IDepositEscrow
    function checkOutDigest(CheckOut calldata statement) public view returns (bytes32) {
        return _hashTypedDataV4(statement.hash());
    }

    /// @inheritdoc IDepositEscrow
    function rentalOf(bytes32 id)
        external
        view
        returns (RentalState state, uint40 deadline, uint104 held, uint96 claimed)
    {
        Rentals.Slot memory slot = _rentals.slots[id];
        return (slot.state, slot.deadline, uint104(slot.held), Rentals.claimedOf(slot));
    }

    /// @inheritdoc IDepositEscrow
    function timesOf(bytes32 id) external view returns (uint40 checkedInAt, uint40 checkedOutAt) {
        Rentals.Slot memory slot = _rentals.slots[id];
        return (slot.checkedInAt, slot.checkedOutAt);
    }

    /// @inheritdoc ICredits
    function creditOf(address account, address token) external view returns (uint256) {
        return _credits.credits[account][token];
    }

    /* INTERNAL */

    /// @dev Everything that must hold before a rental is opened; spends the salt, so that terms open once.
    function _requireOpenable(Terms calldata terms, bytes calldata ownerSignature, address renter, address mask)
        private
        returns (bytes32 idOfTerms, uint40 deadline)
    {
        address owner = terms.owner;
        require(renter != owner, RenterIsOwner(owner));
        require(mask != address(0), MaskIsZero());
        deadline = terms.requireOpenable();
        idOfTerms = termsId(terms);
        require(_isSignedBy(owner, idOfTerms, ownerSignature), TermsNotSigned(idOfTerms, owner));
        _spendNonce(owner, terms.salt);
    }

    /// @dev By the account's key or, failing that, by its code (ERC-1271): most owners have no code to look for.
    function _isSignedBy(address account, bytes32 digest, bytes calldata signature) private view returns (bool) {
        (address recovered, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, signature);
        return (problem == ECDSA.RecoverError.NoError && recovered == account)
            || SignatureChecker.isValidERC1271SignatureNowCalldata(account, digest, signature);
    }

    function _refund(Rental calldata rental, bytes32 id, uint256 held) private {
        _rentals.end(id);
        emit RentalRefunded(id);
        _credits.credit(rental.renter, rental.terms.token, held);
    }

    /// @dev Fee and metered use to the owner, the rest of the cap to the renter; the claim window on the deposit opens.
    function _charge(Rental calldata rental, bytes32 id, Rentals.Slot memory slot, uint256 metered)
        private
        returns (uint40 deadline)
    {
        Terms calldata terms = rental.terms;
        deadline = Rentals.deadlineIn(terms.claimWindow);
        _rentals.slots[id] =
            Rentals.Slot(RentalState.CheckedOut, deadline, slot.checkedInAt, slot.checkedOutAt, terms.deposit);
        _credits.credit(terms.owner, terms.token, terms.fee + metered);
        _credits.credit(rental.renter, terms.token, terms.meterCap - metered);
    }

    function _requireOwner(Terms calldata terms) private view {
        require(_msgSender() == terms.owner, CallerNotOwner(_msgSender(), terms.owner));
    }

    function _requireRenter(Rental calldata rental) private view {
        require(_msgSender() == rental.renter, CallerNotRenter(_msgSender(), rental.renter));
    }

    /// @dev The device that the terms pin said this, and about these terms.
    function _requireSaid(
        Terms calldata terms,
        bytes32 idOfTerms,
        bytes32 said,
        bytes32 digest,
        bytes calldata signer,
        bytes calldata signature
    ) private view {
        require(said == idOfTerms, StatementOfOtherTerms(said, idOfTerms));
        require(keccak256(signer) == terms.signerHash, SignerNotPinned(keccak256(signer), terms.signerHash));
        require(DeviceSigner.isValid(signer, digest, signature, p256Verifier), StatementNotSigned(idOfTerms));
    }
}
