// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowKit } from "./DepositEscrowKit.sol";
import { vm } from "./TestBase.sol";
import { SafeERC20 } from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { ExactTransfer } from "contracts/libraries/ExactTransfer.sol";
import { BlockingToken } from "contracts/mocks/BlockingToken.sol";
import { FalseToken } from "contracts/mocks/FalseToken.sol";
import { FeeToken } from "contracts/mocks/FeeToken.sol";
import { HookToken } from "contracts/mocks/HookToken.sol";
import { OverchargingToken } from "contracts/mocks/OverchargingToken.sol";
import { SilentToken } from "contracts/mocks/SilentToken.sol";
import { SwallowingToken } from "contracts/mocks/SwallowingToken.sol";

/// @title DepositEscrowHostileTest
/// @notice Tokens that call back, take fees, lie or refuse, and parties that cannot be paid.
contract DepositEscrowHostileTest is DepositEscrowKit {
    bytes private constant REENTRY =
        abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);

    /// @dev In the middle of the payment the token calls every function that changes something.
    function test_open__when_token_calls_back__finds_every_entry_locked() public {
        HookToken token = _hookToken();
        bytes[] memory entries = _entries();
        for (uint256 i = 0; i < entries.length; ++i) {
            token.setHook(address(escrow), entries[i], false);
            uint256 calls = token.calls();
            opened(_termsIn(address(token)));
            assertEq(token.calls(), calls + 1, "the hook ran");
            assertFalse(token.lastSuccess(), "reentered");
            assertEq(token.lastAnswer(), REENTRY, "error");
        }
    }

    function test_withdraw__when_token_calls_back__finds_every_entry_locked() public {
        HookToken token = _hookToken();
        I.Rental memory rental = opened(_termsIn(address(token)));
        vm.prank(owner);
        escrow.refund(rental);
        bytes[] memory entries = _entries();
        for (uint256 i = 0; i < entries.length; ++i) {
            token.setHook(address(escrow), entries[i], true);
            vm.expectRevert(REENTRY);
            vm.prank(renter);
            escrow.withdraw(address(token), 1, renter);
        }
        assertEq(escrow.creditOf(renter, address(token)), PRICE, "credit");
    }

    /// @dev The renter's relayed payment calls the token, which calls back: it is itself, and relays nothing inside.
    function test_relay__when_token_calls_back__is_not_the_renter() public {
        HookToken token = _hookToken();
        (IRelayed.SignedCall memory request, bytes memory signature) =
            signedCall(RENTER_SECRET, renter, abi.encodeCall(escrow.cancelNonce, (99)), 2);
        token.setHook(address(escrow), abi.encodeCall(escrow.relay, (request, signature)), false);
        I.Rental memory rental = rentalOf(_termsIn(address(token)));
        relay(
            RENTER_SECRET,
            abi.encodeCall(
                escrow.open, (rental.terms, signTerms(rental.terms), rental.mask, rental.ephemeralX, rental.ephemeralY)
            ),
            1
        );
        assertEq(token.calls(), 1, "the hook ran");
        assertEq(token.lastAnswer(), abi.encodeWithSelector(IRelayed.RelayNested.selector, renter), "inside a relay");
        assertFalse(escrow.isNonceUsed(renter, 99), "cancelled as the renter");
    }

    function test_open__when_token_takes_a_fee__reverts() public {
        FeeToken token = new FeeToken();
        token.mint(renter, PRICE);
        vm.prank(renter);
        token.approve(address(escrow), PRICE);
        _assertRefused(
            address(token),
            abi.encodeWithSelector(
                ExactTransfer.TransferNotExact.selector, address(token), int256(PRICE - PRICE / 100), PRICE
            )
        );
    }

    function test_open__when_token_says_false__reverts() public {
        address token = address(new FalseToken());
        _assertRefused(token, abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, token));
    }

    function test_open__when_token_swallows_the_payment__reverts() public {
        address token = address(new SwallowingToken());
        bytes memory problem = abi.encodeWithSelector(ExactTransfer.TransferNotExact.selector, token, int256(0), PRICE);
        _assertRefused(token, problem);
        I.Rental memory rental = rentalOf(_termsIn(token));
        vm.expectRevert(problem);
        openSigned(rental, new bytes(65));
    }

    function test_open__when_token_has_no_code__reverts() public {
        I.Rental memory rental = rentalOf(_termsIn(makeAddr("nothing")));
        bytes memory signature = signTerms(rental.terms);
        vm.expectRevert();
        open(rental, signature);
        assertRental(rental, I.RentalState.None, 0, 0, 0);
    }

    function test_open__when_token_returns_nothing__goes_through() public {
        SilentToken token = new SilentToken();
        token.mint(renter, PRICE);
        I.Rental memory rental = opened(_termsIn(address(token)));
        vm.prank(owner);
        escrow.refund(rental);
        vm.prank(renter);
        escrow.withdraw(address(token), PRICE, renter);
        assertEq(token.balanceOf(renter), PRICE, "paid back");
    }

    /// @dev The escrow's money in that token is other people's: a payout may not cost more than its amount.
    function test_withdraw__when_token_takes_more_than_asked__reverts() public {
        OverchargingToken token = new OverchargingToken();
        token.mint(renter, 2 * PRICE);
        vm.prank(renter);
        token.approve(address(escrow), 2 * PRICE);
        I.Rental memory rental = opened(_termsIn(address(token)));
        opened(_termsIn(address(token)));
        vm.prank(owner);
        escrow.refund(rental);
        vm.expectRevert(
            abi.encodeWithSelector(
                ExactTransfer.TransferNotExact.selector, address(token), -int256(PRICE + PRICE / 100), PRICE
            )
        );
        vm.prank(renter);
        escrow.withdraw(address(token), PRICE, renter);
    }

    /// @dev The issuer blocks the owner, then the renter: the rental ends, the other is paid, and the blocked one's
    /// credit waits, or goes to another address of its choice.
    function test_rental__when_a_party_cannot_receive__harms_nobody_else() public {
        BlockingToken token = new BlockingToken();
        token.mint(renter, PRICE);
        vm.prank(renter);
        token.approve(address(escrow), PRICE);
        I.Rental memory rental = active(_termsIn(address(token)));
        token.setBlocked(owner, true);
        token.setBlocked(renter, true);
        sayOut(rental, checkOutOf(rental, 10));
        vm.prank(owner);
        escrow.claim(rental, 100, EVIDENCE);
        vm.prank(renter);
        escrow.accept(rental);
        assertClosed(rental);

        uint256 owners = escrow.creditOf(owner, address(token));
        uint256 renters = escrow.creditOf(renter, address(token));
        assertEq(owners + renters, PRICE, "all of it");
        vm.expectRevert(abi.encodeWithSelector(BlockingToken.AccountIsBlocked.selector, owner));
        vm.prank(owner);
        escrow.withdraw(address(token), owners, owner);
        assertEq(escrow.creditOf(owner, address(token)), owners, "the credit stays");
        vm.prank(owner);
        escrow.withdraw(address(token), owners, stranger);
        token.setBlocked(renter, false);
        vm.prank(renter);
        escrow.withdraw(address(token), renters, renter);
        assertEq(token.balanceOf(stranger) + token.balanceOf(renter), PRICE, "paid out");
    }

    /// @dev A party that is a contract without any function is credited like any other.
    function test_rental__when_renter_or_arbiter_has_hostile_code__goes_on() public {
        I.Rental memory rental = disputed(20_000_000);
        vm.etch(renter, hex"fe");
        vm.etch(arbiter, hex"fe");
        vm.warp(START + RULING_WINDOW);
        escrow.close(rental);
        assertClosed(rental);
    }

    function _hookToken() private returns (HookToken token) {
        token = new HookToken();
        token.mint(renter, PURSE);
        vm.prank(renter);
        token.approve(address(escrow), type(uint256).max);
    }

    function _termsIn(address token) private returns (I.Terms memory terms) {
        terms = termsOf();
        terms.token = token;
    }

    function _assertRefused(address token, bytes memory problem) private {
        I.Rental memory rental = rentalOf(_termsIn(token));
        bytes memory signature = signTerms(rental.terms);
        vm.expectRevert(problem);
        open(rental, signature);
        assertRental(rental, I.RentalState.None, 0, 0, 0);
    }

    /// @dev Every function of the escrow that changes something, but `relay`, which has a lock of its own.
    function _entries() private returns (bytes[] memory calls) {
        I.Rental memory rental = rentalOf(termsOf());
        I.CheckIn memory entered = checkInOf(rental);
        I.CheckOut memory left = checkOutOf(rental, 1);
        calls = new bytes[](14);
        calls[0] = abi.encodeCall(escrow.open, (rental.terms, "", address(1), 1, 1));
        calls[1] = abi.encodeCall(escrow.openWithAuthorization, (rental, "", 0, 1, new bytes(65)));
        calls[2] = abi.encodeCall(escrow.refund, (rental));
        calls[3] = abi.encodeCall(escrow.handOver, (rental, 1));
        calls[4] = abi.encodeCall(escrow.checkIn, (rental, entered, "", ""));
        calls[5] = abi.encodeCall(escrow.checkOut, (rental, left, "", ""));
        calls[6] = abi.encodeCall(escrow.claim, (rental, 1, 0));
        calls[7] = abi.encodeCall(escrow.accept, (rental));
        calls[8] = abi.encodeCall(escrow.reject, (rental));
        calls[9] = abi.encodeCall(escrow.rule, (rental, 1));
        calls[10] = abi.encodeCall(escrow.waive, (rental));
        calls[11] = abi.encodeCall(escrow.close, (rental));
        calls[12] = abi.encodeCall(escrow.withdraw, (address(dollar), 0, stranger));
        calls[13] = abi.encodeCall(escrow.cancelNonce, (1));
    }
}
