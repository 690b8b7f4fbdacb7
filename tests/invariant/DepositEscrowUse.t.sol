// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowKit, RentalMessages } from "./DepositEscrowKit.sol";
import { vm } from "./TestBase.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";

/// @title DepositEscrowUseTest
/// @notice `handOver`, `checkIn` and `checkOut`, guard by guard, by both kinds of device.
contract DepositEscrowUseTest is DepositEscrowKit {
    uint40 private constant HAND_OVER = uint40(START + 1 hours + GRACE);
    uint40 private constant END = uint40(START + 3 hours);
    uint40 private constant CHECK_OUT = uint40(START + 3 hours + 1 days);

    /* handOver */

    function test_handOver__when_key_is_right__awaits_the_check_out_until_a_day_after_the_end() public {
        I.Rental memory rental = opened();
        uint256 releasedKey = releasedKeyOf(rental);
        vm.expectEmit(address(escrow));
        emit I.RentalHandedOver(idOf(rental), releasedKey, CHECK_OUT);
        vm.prank(owner);
        escrow.handOver(rental, releasedKey);
        assertRental(rental, I.RentalState.Active, CHECK_OUT, PRICE, 0);
        assertCredit(owner, 0);
        assertCredit(renter, 0);
    }

    /// @dev The renter takes its scalar off again and holds the access key.
    function testFuzz_handOver__when_renter_unmasks_it__is_the_access_key(uint256 ephemeral) public {
        ephemeral = bound(ephemeral, 1, SECP256K1_N - 1);
        I.Rental memory rental = rentalOf(termsOf(), renter, ephemeral);
        open(rental, signTerms(rental.terms));
        uint256 m = maskScalarOf(rental, ephemeral);
        uint256 releasedKey = addmod(ACCESS_KEY, m, SECP256K1_N);
        vm.prank(owner);
        escrow.handOver(rental, releasedKey);
        assertEq(addmod(releasedKey, SECP256K1_N - m, SECP256K1_N), ACCESS_KEY, "access key");
    }

    function test_handOver__when_caller_is_not_the_owner__reverts() public {
        I.Rental memory rental = opened();
        uint256 releasedKey = releasedKeyOf(rental);
        vm.expectRevert(abi.encodeWithSelector(I.CallerNotOwner.selector, renter, owner));
        vm.prank(renter);
        escrow.handOver(rental, releasedKey);
    }

    function test_handOver__when_rental_is_not_opened__reverts() public {
        _assertNotOpened(rentalOf(termsOf()));
        _assertNotOpened(active());
        _assertNotOpened(checkedIn());
        _assertNotOpened(checkedOut());
        _assertNotOpened(claimed(1));
        _assertNotOpened(disputed(1));
        I.Rental memory rental = opened();
        vm.prank(owner);
        escrow.refund(rental);
        _assertNotOpened(rental);
    }

    function test_handOver__when_deadline_is_reached__reverts() public {
        I.Rental memory rental = opened();
        uint256 releasedKey = releasedKeyOf(rental);
        vm.warp(HAND_OVER);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, HAND_OVER, HAND_OVER));
        vm.prank(owner);
        escrow.handOver(rental, releasedKey);
        vm.warp(HAND_OVER - 1);
        vm.prank(owner);
        escrow.handOver(rental, releasedKey);
    }

    function test_handOver__when_key_is_another__reverts() public {
        I.Rental memory rental = opened();
        uint256 releasedKey = releasedKeyOf(rental);
        uint256[3] memory wrong = [releasedKey - 1, ACCESS_KEY, SECP256K1_N];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(I.AccessKeyInvalid.selector, idOf(rental)));
            vm.prank(owner);
            escrow.handOver(rental, wrong[i]);
        }
    }

    function _assertNotOpened(I.Rental memory rental) private {
        bytes memory problem = stateError(rental, I.RentalState.Opened);
        vm.expectRevert(problem);
        vm.prank(owner);
        escrow.handOver(rental, 1);
    }

    /* checkIn */

    function test_checkIn__when_device_signed__is_checked_in() public {
        _assertChecksIn();
        isP256 = true;
        _assertChecksIn();
    }

    function _assertChecksIn() private {
        vm.warp(START);
        I.Rental memory rental = active();
        I.CheckIn memory said = checkInOf(rental);
        (bytes memory signer, bytes memory signature) = (signerBytes(), signIn(said));
        vm.warp(END - 1);
        vm.expectEmit(address(escrow));
        emit I.RentalCheckedIn(idOf(rental), said.time, CONDITION);
        vm.prank(stranger);
        escrow.checkIn(rental, said, signer, signature);
        assertRental(rental, I.RentalState.CheckedIn, CHECK_OUT, PRICE, 0);
    }

    function test_checkIn__when_rental_is_not_active__reverts() public {
        _assertNoCheckIn(rentalOf(termsOf()));
        _assertNoCheckIn(opened());
        _assertNoCheckIn(checkedIn());
        _assertNoCheckIn(checkedOut());
        _assertNoCheckIn(claimed(1));
        _assertNoCheckIn(disputed(1));
        I.Rental memory rental = active();
        vm.prank(owner);
        escrow.refund(rental);
        _assertNoCheckIn(rental);
    }

    function test_checkIn__when_the_slot_has_ended__reverts() public {
        I.Rental memory rental = active();
        vm.warp(END);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, END, END));
        sayIn(rental, checkInOf(rental));
        vm.warp(CHECK_OUT);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, CHECK_OUT, CHECK_OUT));
        sayIn(rental, checkInOf(rental));
    }

    function test_checkIn__when_about_other_terms__reverts() public {
        I.Rental memory rental = active();
        I.CheckIn memory said = checkInOf(rental);
        said.termsId = idOf(rental);
        bytes memory problem =
            abi.encodeWithSelector(I.StatementOfOtherTerms.selector, said.termsId, escrow.termsId(rental.terms));
        vm.expectRevert(problem);
        sayIn(rental, said);
    }

    function test_checkIn__when_signer_is_not_the_pinned_one__reverts() public {
        I.Rental memory rental = active();
        I.CheckIn memory said = checkInOf(rental);
        bytes memory other = abi.encodePacked(owner);
        bytes memory signature = signEcdsa(OWNER_SECRET, escrow.checkInDigest(said));
        vm.expectRevert(abi.encodeWithSelector(I.SignerNotPinned.selector, keccak256(other), rental.terms.signerHash));
        escrow.checkIn(rental, said, other, signature);
    }

    function test_checkIn__when_device_did_not_sign_it__reverts() public {
        I.Rental memory rental = active();
        I.CheckIn memory said = checkInOf(rental);
        bytes memory signature = signIn(said);
        ++said.time;
        bytes memory problem = abi.encodeWithSelector(I.StatementNotSigned.selector, said.termsId);
        vm.expectRevert(problem);
        escrow.checkIn(rental, said, signerBytes(), signature);
        bytes memory byCheckOut = signOut(I.CheckOut(said.termsId, said.time, 0, CONDITION));
        vm.expectRevert(problem);
        escrow.checkIn(rental, said, signerBytes(), byCheckOut);
        vm.expectRevert(problem);
        escrow.checkIn(rental, said, signerBytes(), "");
    }

    function _assertNoCheckIn(I.Rental memory rental) private {
        bytes memory problem = stateError(rental, I.RentalState.Active);
        vm.expectRevert(problem);
        sayIn(rental, checkInOf(rental));
    }

    /* checkOut */

    function test_checkOut__when_device_signed__pays_fee_and_use_and_opens_the_claim_window() public {
        _assertChecksOut(active(), 10);
        isP256 = true;
        _assertChecksOut(checkedIn(), 10);
    }

    /// @dev At the price of `units`; returns what the owner and the renter got.
    function _assertChecksOut(I.Rental memory rental, uint64 units) private {
        uint256 metered = uint256(RATE) * units;
        if (metered > METER_CAP) metered = METER_CAP;
        uint256 owners = escrow.creditOf(owner, address(dollar));
        uint256 renters = escrow.creditOf(renter, address(dollar));
        I.CheckOut memory said = checkOutOf(rental, units);
        (bytes memory signer, bytes memory signature) = (signerBytes(), signOut(said));
        uint256 now_ = vm.getBlockTimestamp();
        vm.expectEmit(address(escrow));
        emit ICredits.Credited(owner, address(dollar), FEE + metered);
        if (metered != METER_CAP) {
            vm.expectEmit(address(escrow));
            emit ICredits.Credited(renter, address(dollar), METER_CAP - metered);
        }
        vm.expectEmit(address(escrow));
        emit I.RentalCheckedOut(idOf(rental), said.time, units, CONDITION, FEE + metered, uint40(now_ + CLAIM_WINDOW));
        vm.prank(stranger);
        escrow.checkOut(rental, said, signer, signature);

        assertRental(rental, I.RentalState.CheckedOut, now_ + CLAIM_WINDOW, DEPOSIT, 0);
        assertCredit(owner, owners + FEE + metered);
        assertCredit(renter, renters + METER_CAP - metered);
    }

    function test_checkOut__when_use_reaches_the_cap__stops_at_it() public {
        _assertChecksOut(active(), 0);
        _assertChecksOut(active(), 19);
        _assertChecksOut(active(), 20);
        _assertChecksOut(active(), 21);
        _assertChecksOut(active(), 1 << 63);
        _assertChecksOut(active(), type(uint64).max);
    }

    function test_checkOut__when_a_day_after_the_end_is_near__goes_through() public {
        I.Rental memory rental = active();
        vm.warp(CHECK_OUT - 1);
        _assertChecksOut(rental, 1);
        rental = rentalOf(termsOf());
        vm.warp(START);
        rental = active(rental.terms);
        vm.warp(CHECK_OUT);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, CHECK_OUT, CHECK_OUT));
        sayOut(rental, checkOutOf(rental, 1));
    }

    function test_checkOut__when_rental_is_not_active__reverts() public {
        _assertNoCheckOut(rentalOf(termsOf()), I.RentalState.None);
        _assertNoCheckOut(opened(), I.RentalState.Opened);
        _assertNoCheckOut(checkedOut(), I.RentalState.CheckedOut);
        _assertNoCheckOut(claimed(1), I.RentalState.Claimed);
        _assertNoCheckOut(disputed(1), I.RentalState.Disputed);
        I.Rental memory rental = active();
        vm.prank(owner);
        escrow.refund(rental);
        _assertNoCheckOut(rental, I.RentalState.Closed);
    }

    function test_checkOut__when_statement_is_wrong__reverts() public {
        I.Rental memory rental = checkedIn();
        I.CheckOut memory said = checkOutOf(rental, 10);
        (bytes32 id, bytes memory signature) = (said.termsId, signOut(said));
        bytes memory unsigned = abi.encodeWithSelector(I.StatementNotSigned.selector, id);
        said.termsId = keccak256("other terms");
        vm.expectRevert(abi.encodeWithSelector(I.StatementOfOtherTerms.selector, said.termsId, id));
        escrow.checkOut(rental, said, signerBytes(), signature);

        said.termsId = id;
        bytes memory other = abi.encodePacked(owner);
        vm.expectRevert(abi.encodeWithSelector(I.SignerNotPinned.selector, keccak256(other), rental.terms.signerHash));
        escrow.checkOut(rental, said, other, signature);

        ++said.units;
        vm.expectRevert(unsigned);
        escrow.checkOut(rental, said, signerBytes(), signature);
        --said.units;
        said.condition = 0;
        vm.expectRevert(unsigned);
        escrow.checkOut(rental, said, signerBytes(), signature);
    }

    function _assertNoCheckOut(I.Rental memory rental, I.RentalState state) private {
        bytes memory problem = abi.encodeWithSelector(I.RentalNotActive.selector, idOf(rental), state);
        vm.expectRevert(problem);
        sayOut(rental, checkOutOf(rental, 10));
    }

    /* views */

    function test_timesOf__when_device_spoke__are_its_times_until_the_end() public {
        I.Rental memory rental = active();
        _assertTimes(rental, 0, 0);
        sayIn(rental, checkInOf(rental));
        _assertTimes(rental, rental.terms.start, 0);
        sayOut(rental, checkOutOf(rental, 10));
        _assertTimes(rental, rental.terms.start, END);
        vm.prank(owner);
        escrow.claim(rental, 1, 0);
        _assertTimes(rental, rental.terms.start, END);
        vm.prank(renter);
        escrow.reject(rental);
        _assertTimes(rental, rental.terms.start, END);
        vm.prank(arbiter);
        escrow.rule(rental, 1);
        _assertTimes(rental, 0, 0);
    }

    function _assertTimes(I.Rental memory rental, uint256 came, uint256 left) private view {
        (uint40 checkedInAt, uint40 checkedOutAt) = escrow.timesOf(idOf(rental));
        assertEq(uint256(checkedInAt), came, "checked in at");
        assertEq(uint256(checkedOutAt), left, "checked out at");
    }

    function test_digests__when_compared_with_the_design__are_the_same() public {
        I.Rental memory rental = rentalOf(termsOf());
        I.CheckIn memory entered = checkInOf(rental);
        I.CheckOut memory left = checkOutOf(rental, 7);
        assertEq(escrow.termsId(rental.terms), RentalMessages.termsId(address(escrow), rental.terms), "terms id");
        assertEq(escrow.rentalId(rental), idOf(rental), "rental id");
        assertEq(escrow.checkInDigest(entered), RentalMessages.checkIn(address(escrow), entered), "check-in");
        assertEq(escrow.checkOutDigest(left), RentalMessages.checkOut(address(escrow), left), "check-out");
        assertEq(escrow.p256Verifier(), address(verifier), "verifier");
    }
}
