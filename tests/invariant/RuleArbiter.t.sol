// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowKit } from "./DepositEscrowKit.sol";
import { vm } from "./TestBase.sol";
import { RuleArbiter } from "contracts/escrow/RuleArbiter.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";
import { ILeafRule } from "contracts/interfaces/ILeafRule.sol";
import { IRuleArbiter } from "contracts/interfaces/IRuleArbiter.sol";
import { SignedReadingRule } from "contracts/market/rules/SignedReadingRule.sol";
import { HostileRule } from "contracts/mocks/HostileRule.sol";

/// @title RuleArbiterTest
/// @notice Rulings by readings: temperature, usage, late return, and everything that is no evidence.
contract RuleArbiterTest is DepositEscrowKit {
    uint96 private constant CLAIM = 20_000_000;
    uint96 private constant AWARD = 15_000_000;
    uint256 private constant CHARGE = uint256(FEE) + 10 * uint256(RATE);
    bytes32 private constant DOCUMENT = keccak256("house rules");
    bytes32 private constant SCHEMA = keccak256("schema");
    bytes32 private constant DEVICE = keccak256("the lock");
    /// @dev The slot in milliseconds.
    uint64 private constant FROM = uint64(START + 1 hours) * 1000;
    uint64 private constant END = uint64(START + 3 hours) * 1000;
    uint64 private constant MINUTE = 60_000;
    int128 private constant LIMIT = 8000;

    RuleArbiter private judge;
    SignedReadingRule private rule;

    function setUp() public override {
        super.setUp();
        rule = new SignedReadingRule(address(verifier));
        judge = new RuleArbiter(escrow, address(verifier));
        arbiter = address(judge);
    }

    /* STORIES */

    /// @dev Above 8 °C for an hour: 61 readings, a minute apart.
    function test_rule__when_too_warm_for_an_hour__awards_what_was_agreed() public {
        IRuleArbiter.Agreement memory agreement = _agreement(61);
        I.Rental memory rental = _disputed(agreement, CLAIM);
        bytes[] memory leaves = _leaves(61, 8001);
        vm.expectEmit(address(judge));
        emit IRuleArbiter.EvidenceAccepted(idOf(rental), 500, AWARD);
        vm.expectEmit(address(escrow));
        emit I.ClaimRuled(idOf(rental), AWARD);
        vm.prank(stranger);
        judge.rule(rental, DOCUMENT, agreement, leaves);
        assertClosed(rental);
        assertCredit(owner, CHARGE + AWARD);
        assertCredit(renter, PRICE - CHARGE - AWARD);
    }

    /// @dev A P-256 device, one reading: the odometer says more than was promised.
    function test_rule__when_counter_passes_its_promise__awards() public {
        isP256 = true;
        IRuleArbiter.Agreement memory agreement = _agreement(1);
        I.Rental memory rental = _disputed(agreement, CLAIM);
        judge.rule(rental, DOCUMENT, agreement, _leaves(1, 120_000));
        assertCredit(owner, CHARGE + AWARD);
    }

    /// @dev Late return: the field `occupied` above 0, dated after the slot's end and before the late check-out.
    function test_rule__when_occupied_after_the_end__awards() public {
        IRuleArbiter.Agreement memory agreement = _agreement(2);
        agreement.params = _params(0);
        (agreement.from, agreement.until) = (END + 1, type(uint64).max);
        I.Rental memory rental = _disputedLate(agreement, 0, uint40(END / 1000 + 600));
        uint256 until = END + 600_999;
        bytes[] memory early = _leavesAt(FROM, 2, 1);
        vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.LeafOutOfTime.selector, 0, FROM, agreement.from, until));
        judge.rule(rental, DOCUMENT, agreement, early);
        judge.rule(rental, DOCUMENT, agreement, _leavesAt(agreement.from, 2, 1));
        assertCredit(owner, CHARGE + AWARD);
    }

    /// @dev What the device saw before the renter came, or after the renter left, is not held against the renter.
    function test_rule__when_the_renter_was_not_there__reverts() public {
        IRuleArbiter.Agreement memory agreement = _agreement(1);
        (uint40 came, uint40 left) = (uint40(FROM / 1000 + 100), uint40(FROM / 1000 + 200));
        I.Rental memory rental = _disputedLate(agreement, came, left);
        (uint40 checkedInAt, uint40 checkedOutAt) = escrow.timesOf(idOf(rental));
        assertEq(uint256(checkedInAt), came, "came");
        assertEq(uint256(checkedOutAt), left, "left");
        (uint256 from, uint256 until) = (uint256(came) * 1000, uint256(left) * 1000 + 999);
        uint256[2] memory times = [from - 1, until + 1];
        for (uint256 i = 0; i < 2; ++i) {
            bytes[] memory leaves = _leavesAt(uint64(times[i]), 1, 9000);
            vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.LeafOutOfTime.selector, 0, times[i], from, until));
            judge.rule(rental, DOCUMENT, agreement, leaves);
        }
        uint256 before = vm.snapshotState();
        judge.rule(rental, DOCUMENT, agreement, _leavesAt(uint64(from), 1, 9000));
        assertTrue(vm.revertToState(before), "revert");
        judge.rule(rental, DOCUMENT, agreement, _leavesAt(uint64(until), 1, 9000));
        assertCredit(owner, CHARGE + AWARD);
    }

    /// @dev Checked in and never out: nothing ends the agreed time but the agreement.
    function test_rule__when_the_check_out_was_missed__awards_until_the_agreed_end() public {
        IRuleArbiter.Agreement memory agreement = _agreement(1);
        I.Rental memory rental = active(_terms(agreement));
        sayIn(rental, checkInOf(rental));
        vm.warp(END / 1000 + 1 days);
        escrow.close(rental);
        vm.prank(owner);
        escrow.claim(rental, CLAIM, EVIDENCE);
        vm.prank(renter);
        escrow.reject(rental);
        bytes[] memory leaves = _leavesAt(agreement.until + 1, 1, 9000);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRuleArbiter.LeafOutOfTime.selector, 0, agreement.until + 1, agreement.from, agreement.until
            )
        );
        judge.rule(rental, DOCUMENT, agreement, leaves);
        judge.rule(rental, DOCUMENT, agreement, _leavesAt(agreement.until, 1, 9000));
        assertCredit(owner, uint256(FEE) + AWARD);
    }

    /// @dev The last number that a reading can have is evidence like any other.
    function test_rule__when_the_number_is_the_last_there_is__awards() public {
        IRuleArbiter.Agreement memory agreement = _agreement(1);
        I.Rental memory rental = _disputed(agreement, CLAIM);
        bytes[] memory leaves = new bytes[](1);
        leaves[0] = _leaf(DEVICE_SECRET, type(uint64).max, FROM, 0, 9000);
        judge.rule(rental, DOCUMENT, agreement, leaves);
        assertCredit(owner, CHARGE + AWARD);
    }

    /// @dev Disputed after a check-in (none where `came` is 0) and a check-out at these times of the device.
    function _disputedLate(IRuleArbiter.Agreement memory agreement, uint40 came, uint40 left)
        private
        returns (I.Rental memory rental)
    {
        rental = active(_terms(agreement));
        I.CheckIn memory entered = checkInOf(rental);
        entered.time = came;
        if (came != 0) sayIn(rental, entered);
        I.CheckOut memory gone = checkOutOf(rental, 10);
        gone.time = left;
        sayOut(rental, gone);
        vm.prank(owner);
        escrow.claim(rental, CLAIM, EVIDENCE);
        vm.prank(renter);
        escrow.reject(rental);
    }

    function test_rule__when_less_is_claimed_than_agreed__awards_the_claim() public {
        IRuleArbiter.Agreement memory agreement = _agreement(1);
        I.Rental memory rental = _disputed(agreement, 1000);
        judge.rule(rental, DOCUMENT, agreement, _leaves(1, 9000));
        assertCredit(owner, CHARGE + 1000);
    }

    function test_rule__when_nobody_has_evidence__the_renter_is_paid() public {
        I.Rental memory rental = _disputed(_agreement(1), CLAIM);
        vm.warp(START + RULING_WINDOW);
        escrow.close(rental);
        assertCredit(owner, CHARGE);
    }

    /* GUARDS */

    function test_rule__when_agreement_is_not_in_the_terms__reverts() public {
        IRuleArbiter.Agreement memory agreement = _agreement(1);
        I.Rental memory rental = _disputed(agreement, CLAIM);
        bytes[] memory leaves = _leaves(1, 9000);
        agreement.award = DEPOSIT;
        bytes32 hash = judge.termsHash(DOCUMENT, agreement);
        vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.AgreementNotInTerms.selector, hash, rental.terms.terms));
        judge.rule(rental, DOCUMENT, agreement, leaves);
        agreement.award = AWARD;
        hash = judge.termsHash("another document", agreement);
        vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.AgreementNotInTerms.selector, hash, rental.terms.terms));
        judge.rule(rental, "another document", agreement, leaves);
    }

    function test_rule__when_agreement_begins_before_the_rental__reverts() public {
        IRuleArbiter.Agreement memory agreement = _agreement(1);
        agreement.from = FROM - 1;
        I.Rental memory rental = _disputed(agreement, CLAIM);
        bytes[] memory leaves = _leaves(1, 9000);
        vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.AgreementTooEarly.selector, FROM - 1, FROM));
        judge.rule(rental, DOCUMENT, agreement, leaves);
    }

    function test_rule__when_leaves_are_too_few_or_too_many_or_none_agreed__reverts() public {
        IRuleArbiter.Agreement memory agreement = _agreement(3);
        I.Rental memory rental = _disputed(agreement, CLAIM);
        for (uint256 i = 0; i < 5; ++i) {
            if (i == 3) continue;
            bytes[] memory leaves = _leaves(i, 9000);
            vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.LeafCountInvalid.selector, i, 3));
            judge.rule(rental, DOCUMENT, agreement, leaves);
        }
        agreement = _agreement(0);
        rental = _disputed(agreement, CLAIM);
        vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.LeafCountInvalid.selector, 0, 0));
        judge.rule(rental, DOCUMENT, agreement, new bytes[](0));
    }

    /// @dev `SignedReadingRule` calls each of these a violation; none is evidence.
    function test_rule__when_leaf_is_not_the_devices__reverts() public {
        IRuleArbiter.Agreement memory agreement = _agreement(2);
        I.Rental memory rental = _disputed(agreement, CLAIM);
        bytes[] memory forged = new bytes[](5);
        forged[0] = _leaf(OWNER_SECRET, 501, FROM + MINUTE, _digestAt(500, FROM, 0, 9000), 9000);
        forged[1] = bytes.concat(_leaves(2, 9000)[1], hex"00");
        forged[2] = "";
        forged[3] = new bytes(145);
        forged[4] = _leaves(2, 9000)[1];
        forged[4][79] ^= 0x01;
        for (uint256 i = 0; i < forged.length; ++i) {
            bytes[] memory leaves = _leaves(2, 9000);
            leaves[1] = forged[i];
            assertTrue(rule.violates(bytes.concat(forged[i], new bytes(80)), 501, agreement.params), "the trap");
            vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.LeafNotAuthentic.selector, 1));
            judge.rule(rental, DOCUMENT, agreement, leaves);
        }
    }

    function test_rule__when_a_leaf_is_left_out_or_shown_twice__reverts() public {
        IRuleArbiter.Agreement memory agreement = _agreement(2);
        I.Rental memory rental = _disputed(agreement, CLAIM);
        bytes[] memory three = _leaves(3, 9000);
        bytes[] memory leaves = new bytes[](2);
        bytes memory problem = abi.encodeWithSelector(IRuleArbiter.LeafNotConsecutive.selector, 1);
        (leaves[0], leaves[1]) = (three[0], three[2]);
        vm.expectRevert(problem);
        judge.rule(rental, DOCUMENT, agreement, leaves);
        (leaves[0], leaves[1]) = (three[0], three[0]);
        vm.expectRevert(problem);
        judge.rule(rental, DOCUMENT, agreement, leaves);
        (leaves[0], leaves[1]) = (three[1], three[0]);
        vm.expectRevert(problem);
        judge.rule(rental, DOCUMENT, agreement, leaves);
        // the right number, after another reading than the one that is shown
        leaves[0] = three[0];
        leaves[1] = _leaf(DEVICE_SECRET, 501, FROM + MINUTE, keccak256("another"), 9000);
        vm.expectRevert(problem);
        judge.rule(rental, DOCUMENT, agreement, leaves);
        // after the reading that is shown, with another number
        leaves[1] = _leaf(DEVICE_SECRET, 502, FROM + MINUTE, _digestAt(500, FROM, 0, 9000), 9000);
        vm.expectRevert(problem);
        judge.rule(rental, DOCUMENT, agreement, leaves);
    }

    function test_rule__when_leaf_is_out_of_time__reverts() public {
        IRuleArbiter.Agreement memory agreement = _agreement(2);
        agreement.until = FROM + MINUTE - 1;
        I.Rental memory rental = _disputed(agreement, CLAIM);
        bytes[] memory leaves = _leaves(2, 9000);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRuleArbiter.LeafOutOfTime.selector, 1, FROM + MINUTE, agreement.from, agreement.until
            )
        );
        judge.rule(rental, DOCUMENT, agreement, leaves);
    }

    function test_rule__when_leaf_keeps_the_promise__reverts() public {
        IRuleArbiter.Agreement memory agreement = _agreement(2);
        I.Rental memory rental = _disputed(agreement, CLAIM);
        bytes[] memory leaves = _leaves(2, 8000);
        vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.LeafNotViolating.selector, 0));
        judge.rule(rental, DOCUMENT, agreement, leaves);
    }

    function test_rule__when_readings_lie_too_close__reverts() public {
        IRuleArbiter.Agreement memory agreement = _agreement(3);
        agreement.span = 2 * MINUTE + 1;
        I.Rental memory rental = _disputed(agreement, CLAIM);
        bytes[] memory leaves = _leaves(3, 9000);
        vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.SpanTooShort.selector, 2 * MINUTE, 2 * MINUTE + 1));
        judge.rule(rental, DOCUMENT, agreement, leaves);
        // a clock that ran backwards spans nothing
        agreement = _agreement(2);
        rental = _disputed(agreement, CLAIM);
        leaves = new bytes[](2);
        leaves[0] = _leaf(DEVICE_SECRET, 500, FROM + MINUTE, 0, 9000);
        leaves[1] = _leaf(DEVICE_SECRET, 501, FROM, _digestAt(500, FROM + MINUTE, 0, 9000), 9000);
        vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.SpanTooShort.selector, 0, MINUTE));
        judge.rule(rental, DOCUMENT, agreement, leaves);
    }

    /* ATTACKS */

    /// @dev Evidence before the claim, before the answer, after the window, and a second time.
    function test_attack__when_nothing_is_disputed__evidence_does_nothing() public {
        IRuleArbiter.Agreement memory agreement = _agreement(1);
        bytes[] memory leaves = _leaves(1, 9000);
        I.Rental[3] memory early =
            [opened(_terms(agreement)), checkedOut(_terms(agreement)), claimed(_terms(agreement), CLAIM)];
        for (uint256 i = 0; i < 3; ++i) {
            _assertNotDisputed(early[i], agreement, leaves);
        }
        I.Rental memory rental = _disputed(agreement, CLAIM);
        judge.rule(rental, DOCUMENT, agreement, leaves);
        _assertNotDisputed(rental, agreement, leaves);
        rental = _disputed(agreement, CLAIM);
        uint256 deadline = START + RULING_WINDOW;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, deadline));
        judge.rule(rental, DOCUMENT, agreement, leaves);
    }

    function _assertNotDisputed(I.Rental memory rental, IRuleArbiter.Agreement memory agreement, bytes[] memory leaves)
        private
    {
        bytes memory problem = stateError(rental, I.RentalState.Disputed);
        vm.expectRevert(problem);
        judge.rule(rental, DOCUMENT, agreement, leaves);
    }

    /// @dev The same agreement with another arbiter in the terms gives this one no say.
    function test_attack__when_arbiter_is_another__evidence_does_nothing() public {
        IRuleArbiter.Agreement memory agreement = _agreement(1);
        I.Terms memory terms = _terms(agreement);
        terms.arbiter = stranger;
        I.Rental memory rental = disputed(terms, CLAIM);
        bytes[] memory leaves = _leaves(1, 9000);
        vm.expectRevert(abi.encodeWithSelector(I.CallerNotArbiter.selector, address(judge), stranger));
        judge.rule(rental, DOCUMENT, agreement, leaves);
    }

    function test_attack__when_rule_misbehaves__is_no_violation() public {
        HostileRule.Mode[7] memory modes = [
            HostileRule.Mode.SaysHonest,
            HostileRule.Mode.Reverts,
            HostileRule.Mode.RevertsWithBomb,
            HostileRule.Mode.Burns,
            HostileRule.Mode.AnswersTwo,
            HostileRule.Mode.AnswersShort,
            HostileRule.Mode.CallsBack
        ];
        bytes[] memory leaves = _leaves(1, 9000);
        for (uint256 i = 0; i < modes.length; ++i) {
            IRuleArbiter.Agreement memory agreement = _agreement(1);
            agreement.rule = address(new HostileRule(modes[i], address(escrow), 0));
            agreement.params = abi.encodeCall(escrow.cancelNonce, (1));
            I.Rental memory rental = _disputed(agreement, CLAIM);
            vm.expectRevert(abi.encodeWithSelector(IRuleArbiter.LeafNotViolating.selector, 0));
            judge.rule(rental, DOCUMENT, agreement, leaves);
        }
    }

    /// @dev Whoever starves the rule gets an error, and not an answer.
    function test_attack__when_gas_is_short__the_rule_is_not_asked() public {
        IRuleArbiter.Agreement memory agreement = _agreement(1);
        agreement.rule = address(new HostileRule(HostileRule.Mode.AnswersGas, address(0), 740_000));
        I.Rental memory rental = _disputed(agreement, CLAIM);
        bytes memory call = abi.encodeCall(judge.rule, (rental, DOCUMENT, agreement, _leaves(1, 9000)));
        uint256 starved;
        for (uint256 limit = 100_000; limit < 1_100_000; limit += 50_000) {
            (bool success, bytes memory answer) = address(judge).call{ gas: limit }(call);
            assertFalse(success, "the rule was starved");
            if (answer.length != 0 && bytes4(answer) == ILeafRule.RuleGasTooLow.selector) ++starved;
        }
        assertGt(starved, 5, "starved");
    }

    function test_views__when_asked__say_what_was_deployed() public view {
        assertEq(address(judge.escrow()), address(escrow), "escrow");
        assertEq(judge.p256Verifier(), address(verifier), "verifier");
    }

    /* BUILDERS */

    /// @dev `count` readings a minute apart, one field above LIMIT.
    function _agreement(uint32 count) private view returns (IRuleArbiter.Agreement memory) {
        return IRuleArbiter.Agreement({
            rule: address(rule),
            params: _params(LIMIT),
            signer: signerBytes(),
            device: DEVICE,
            schema: SCHEMA,
            fields: 1,
            from: FROM,
            until: FROM + 7_200_000,
            count: count,
            span: count == 0 ? 0 : (count - 1) * MINUTE,
            award: AWARD
        });
    }

    /// @dev The promise: all of time, every number, values up to `limit`.
    function _params(int128 limit) private view returns (bytes memory) {
        (int128[] memory min, int128[] memory max) = (new int128[](1), new int128[](1));
        (min[0], max[0]) = (type(int128).min, limit);
        return abi.encode(signerBytes(), DEVICE, SCHEMA, uint64(0), uint64(0), type(uint64).max, min, max);
    }

    function _terms(IRuleArbiter.Agreement memory agreement) private returns (I.Terms memory terms) {
        terms = termsOf();
        terms.terms = keccak256(abi.encode(DOCUMENT, keccak256(abi.encode(agreement))));
        assertEq(judge.termsHash(DOCUMENT, agreement), terms.terms, "terms hash");
    }

    function _disputed(IRuleArbiter.Agreement memory agreement, uint96 amount) private returns (I.Rental memory) {
        return disputed(_terms(agreement), amount);
    }

    function _leaves(uint256 count, int128 value) private view returns (bytes[] memory) {
        return _leavesAt(FROM, count, value);
    }

    function _leavesAt(uint64 time, uint256 count, int128 value) private view returns (bytes[] memory leaves) {
        leaves = new bytes[](count);
        bytes32 prev;
        for (uint64 i = 0; i < count; ++i) {
            leaves[i] = _leaf(DEVICE_SECRET, 500 + i, time + i * MINUTE, prev, value);
            prev = _digestAt(500 + i, time + i * MINUTE, prev, value);
        }
    }

    function _leaf(uint256 secret, uint64 seq, uint64 time, bytes32 prev, int128 value)
        private
        view
        returns (bytes memory)
    {
        bytes memory signature = sign(secret, _digestAt(seq, time, prev, value));
        return abi.encodePacked(seq, time, prev, bytes16(0), value, signature);
    }

    function _digestAt(uint64 seq, uint64 time, bytes32 prev, int128 value) private pure returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version)"), keccak256("pyiot Reading"), keccak256("1")
            )
        );
        bytes32 typeHash =
            keccak256("Reading(bytes32 device,uint64 seq,uint64 time,bytes32 schema,bytes32 payload,bytes32 prev)");
        bytes32 payload = keccak256(abi.encodePacked(bytes16(0), value));
        bytes32 structHash = keccak256(abi.encode(typeHash, DEVICE, seq, time, SCHEMA, payload, prev));
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }
}
