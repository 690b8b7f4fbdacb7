// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowKit } from "./DepositEscrowKit.sol";
import { vm } from "./TestBase.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { CourtArbiter } from "contracts/escrow/CourtArbiter.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { IArbitrable } from "contracts/interfaces/IArbitrable.sol";
import { ICourtArbiter } from "contracts/interfaces/ICourtArbiter.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { PanelWallet } from "contracts/mocks/PanelWallet.sol";
import { SmallCourt } from "contracts/mocks/SmallCourt.sol";

/// @title CourtArbiterTest
/// @notice A court of ERC-792 as the arbiter, and a panel of which two of three must sign.
contract CourtArbiterTest is DepositEscrowKit {
    uint96 private constant CLAIM = 20_000_000;
    uint256 private constant CHARGE = uint256(FEE) + 10 * uint256(RATE);
    uint256 private constant COURT_FEE = 0.01 ether;
    bytes private constant SITTING = "three jurors";

    SmallCourt private court;
    CourtArbiter private bridge;
    address private juror;

    function setUp() public override {
        super.setUp();
        juror = makeAddr("juror");
        court = new SmallCourt(juror, COURT_FEE);
        bridge = new CourtArbiter(escrow, court, SITTING);
        arbiter = address(bridge);
        vm.deal(stranger, 1 ether);
    }

    /* bring */

    function test_bring__when_disputed_and_paid__is_before_the_court() public {
        I.Rental memory rental = disputed(CLAIM);
        assertEq(bridge.cost(), COURT_FEE, "cost");
        vm.expectEmit(address(bridge));
        emit ICourtArbiter.RentalBrought(idOf(rental), 0, stranger);
        assertEq(_bring(rental), 0, "dispute");
        SmallCourt.Case memory brought = court.caseOf(0);
        assertEq(address(brought.arbitrable), address(bridge), "arbitrable");
        assertEq(brought.choices, 2, "choices");
        assertEq(brought.extraData, SITTING, "sitting");
        assertEq(address(court).balance, COURT_FEE, "the court's");
        (bool isBrought, uint256 dispute) = bridge.disputeOf(idOf(rental));
        assertTrue(isBrought, "brought");
        assertEq(dispute, 0, "dispute");
    }

    function test_bring__when_arbiter_is_another__reverts() public {
        I.Terms memory terms = termsOf();
        terms.arbiter = stranger;
        I.Rental memory rental = disputed(terms, CLAIM);
        vm.expectRevert(abi.encodeWithSelector(ICourtArbiter.ArbiterIsAnother.selector, stranger));
        _bring(rental);
    }

    function test_bring__when_brought_before__reverts() public {
        I.Rental memory rental = disputed(CLAIM);
        _bring(rental);
        vm.expectRevert(abi.encodeWithSelector(ICourtArbiter.RentalAlreadyBrought.selector, idOf(rental), 0));
        _bring(rental);
    }

    function test_bring__when_nobody_disputes_or_it_is_too_late__reverts() public {
        I.Rental memory rental = claimed(CLAIM);
        vm.expectRevert(
            abi.encodeWithSelector(ICourtArbiter.RentalNotDisputed.selector, idOf(rental), I.RentalState.Claimed)
        );
        _bring(rental);
        vm.prank(renter);
        escrow.reject(rental);
        vm.warp(START + RULING_WINDOW);
        vm.expectRevert(
            abi.encodeWithSelector(ICourtArbiter.RentalNotDisputed.selector, idOf(rental), I.RentalState.Disputed)
        );
        _bring(rental);
    }

    function test_bring__when_fee_is_not_exact__reverts() public {
        I.Rental memory rental = disputed(CLAIM);
        uint256[2] memory values = [COURT_FEE - 1, COURT_FEE + 1];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ICourtArbiter.ArbitrationCostNotPaid.selector, values[i], COURT_FEE));
            vm.prank(stranger);
            bridge.bring{ value: values[i] }(rental);
        }
        assertEq(address(bridge).balance, 0, "kept");
    }

    /// @dev The court calls back while a rental is brought: it is not brought twice.
    function test_bring__when_court_calls_back__is_brought_once() public {
        I.Rental memory rental = disputed(CLAIM);
        court.setHook(address(bridge), abi.encodeCall(bridge.enforce, (rental)));
        _bring(rental);
        assertFalse(court.lastSuccess(), "reentered");
        assertEq(
            court.lastAnswer(),
            abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector),
            "error"
        );
    }

    /* rule, enforce */

    function test_rule__when_court_rules__is_kept_and_enforced_by_anyone() public {
        uint96[4] memory awards = [0, CLAIM, 0, 0];
        for (uint256 ruling = 0; ruling < 4; ++ruling) {
            I.Rental memory rental = disputed(CLAIM);
            uint256 dispute = _bring(rental);
            uint256 owners = escrow.creditOf(owner, address(dollar));
            vm.expectEmit(address(bridge));
            emit IArbitrable.Ruling(address(court), dispute, ruling);
            vm.prank(juror);
            court.giveRuling(dispute, ruling);
            assertRental(rental, I.RentalState.Disputed, START + RULING_WINDOW, CLAIM, CLAIM);
            (bool isRuled, uint256 kept) = bridge.rulingOf(dispute);
            assertTrue(isRuled, "ruled");
            assertEq(kept, ruling, "ruling");

            vm.expectEmit(address(bridge));
            emit ICourtArbiter.RulingEnforced(idOf(rental), dispute, awards[ruling]);
            vm.prank(stranger);
            bridge.enforce(rental);
            assertClosed(rental);
            assertCredit(owner, owners + awards[ruling]);
        }
    }

    function test_rule__when_caller_is_not_the_court__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(ICourtArbiter.CallerNotCourt.selector, juror, address(court)));
        vm.prank(juror);
        bridge.rule(0, 1);
    }

    /// @dev The first ruling counts, and a second one, or one after the window, does not stop the court.
    function test_rule__when_court_rules_twice_or_late__does_not_revert() public {
        I.Rental memory rental = disputed(CLAIM);
        uint256 dispute = _bring(rental);
        vm.startPrank(juror);
        court.giveRuling(dispute, 2);
        court.giveRuling(dispute, 1);
        vm.stopPrank();
        bridge.enforce(rental);
        assertCredit(owner, CHARGE);

        rental = disputed(CLAIM);
        dispute = _bring(rental);
        uint256 deadline = START + RULING_WINDOW;
        vm.warp(deadline);
        vm.prank(juror);
        court.giveRuling(dispute, 1);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, deadline));
        bridge.enforce(rental);
        escrow.close(rental);
        assertCredit(owner, 2 * CHARGE);
        vm.prank(juror);
        court.giveRuling(dispute, 1);
    }

    /// @dev A court that rules inside `createDispute`, before anybody knows the dispute's number, is heard.
    function test_rule__when_court_is_hasty__is_heard() public {
        I.Rental memory rental = disputed(CLAIM);
        court.setHasty(true, 1);
        _bring(rental);
        bridge.enforce(rental);
        assertClosed(rental);
        assertCredit(owner, CHARGE + CLAIM);
    }

    function test_enforce__when_not_brought_or_not_ruled__reverts() public {
        I.Rental memory first = disputed(CLAIM);
        vm.expectRevert(abi.encodeWithSelector(ICourtArbiter.RentalNotRuled.selector, idOf(first)));
        bridge.enforce(first);
        uint256 dispute = _bring(first);
        vm.expectRevert(abi.encodeWithSelector(ICourtArbiter.RentalNotRuled.selector, idOf(first)));
        bridge.enforce(first);
        vm.prank(juror);
        court.giveRuling(dispute, 1);
        // the ruling of dispute 0 is not that of a rental which was never brought
        I.Rental memory second = disputed(CLAIM);
        vm.expectRevert(abi.encodeWithSelector(ICourtArbiter.RentalNotRuled.selector, idOf(second)));
        bridge.enforce(second);
        bridge.enforce(first);
        bytes memory closed = stateError(first, I.RentalState.Disputed);
        vm.expectRevert(closed);
        bridge.enforce(first);
    }

    /// @dev The owner waives while the court still sits.
    function test_enforce__when_rental_has_ended__reverts_and_the_court_goes_on() public {
        I.Rental memory rental = disputed(CLAIM);
        uint256 dispute = _bring(rental);
        vm.prank(owner);
        escrow.waive(rental);
        vm.prank(juror);
        court.giveRuling(dispute, 1);
        bytes memory closed = stateError(rental, I.RentalState.Disputed);
        vm.expectRevert(closed);
        bridge.enforce(rental);
    }

    function test_views__when_asked__say_what_was_deployed() public view {
        assertEq(address(bridge.escrow()), address(escrow), "escrow");
        assertEq(address(bridge.arbitrator()), address(court), "court");
        assertEq(bridge.extraData(), SITTING, "sitting");
    }

    function _bring(I.Rental memory rental) private returns (uint256) {
        vm.prank(stranger);
        return bridge.bring{ value: COURT_FEE }(rental);
    }

    /* A PANEL */

    /// @dev Two of three arbiters sign one relayed ruling; one alone, or one twice, does not.
    function test_panel__when_two_of_three_sign__rules() public {
        bytes[] memory signers = new bytes[](3);
        for (uint256 i = 0; i < 3; ++i) {
            signers[i] = abi.encodePacked(vm.addr(i + 1));
        }
        I.Terms memory terms = termsOf();
        terms.arbiter = address(new PanelWallet(signers, 2));
        I.Rental memory rental = disputed(terms, CLAIM);
        (IRelayed.SignedCall memory request,) =
            signedCall(1, terms.arbiter, abi.encodeCall(escrow.rule, (rental, 7)), 1);

        bytes memory problem = abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, terms.arbiter);
        bytes memory alone = _panel(request, _one(1));
        vm.expectRevert(problem);
        escrow.relay(request, alone);
        bytes memory twice = _panel(request, _two(1, 1));
        vm.expectRevert(problem);
        escrow.relay(request, twice);
        bytes memory outside = _panel(request, _two(1, 9));
        vm.expectRevert(problem);
        escrow.relay(request, outside);

        escrow.relay(request, _panel(request, _two(1, 3)));
        assertClosed(rental);
        assertCredit(owner, CHARGE + 7);
    }

    /// @dev Signers in the order of their hashes, as the panel wants them.
    function _panel(IRelayed.SignedCall memory request, uint256[] memory secrets) private view returns (bytes memory) {
        bytes32 typeHash = keccak256("SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)");
        bytes32 digest = typedDigest(
            "pyiot DepositEscrow",
            address(escrow),
            keccak256(abi.encode(typeHash, request.sender, keccak256(request.call), request.nonce, request.deadline))
        );
        uint256 count = secrets.length;
        if (count == 2 && _hashOf(secrets[1]) < _hashOf(secrets[0])) {
            (secrets[0], secrets[1]) = (secrets[1], secrets[0]);
        }
        (bytes[] memory signers, bytes[] memory signatures) = (new bytes[](count), new bytes[](count));
        for (uint256 i = 0; i < count; ++i) {
            (signers[i], signatures[i]) = (abi.encodePacked(vm.addr(secrets[i])), signEcdsa(secrets[i], digest));
        }
        return abi.encode(signers, signatures);
    }

    function _hashOf(uint256 secret) private pure returns (uint256) {
        return uint256(keccak256(abi.encodePacked(vm.addr(secret))));
    }

    function _one(uint256 secret) private pure returns (uint256[] memory secrets) {
        secrets = new uint256[](1);
        secrets[0] = secret;
    }

    function _two(uint256 first, uint256 second) private pure returns (uint256[] memory secrets) {
        secrets = new uint256[](2);
        (secrets[0], secrets[1]) = (first, second);
    }
}
