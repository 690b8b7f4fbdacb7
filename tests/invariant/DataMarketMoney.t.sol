// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketKit } from "./DataMarketKit.sol";
import { vm } from "./TestBase.sol";
import { IERC1155Errors, IERC20Errors } from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import { IERC1155 } from "@openzeppelin/contracts/token/ERC1155/IERC1155.sol";
import { IERC1155MetadataURI } from "@openzeppelin/contracts/token/ERC1155/extensions/IERC1155MetadataURI.sol";
import { SafeERC20 } from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import { IERC165 } from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { ExactTransfer } from "contracts/libraries/ExactTransfer.sol";
import { BlockingToken } from "contracts/mocks/BlockingToken.sol";
import { FalseToken } from "contracts/mocks/FalseToken.sol";
import { FeeToken } from "contracts/mocks/FeeToken.sol";
import { OverchargingToken } from "contracts/mocks/OverchargingToken.sol";
import { SilentToken } from "contracts/mocks/SilentToken.sol";
import { SwallowingToken } from "contracts/mocks/SwallowingToken.sol";

/// @title DataMarketMoneyTest
/// @notice `deposit`, `withdraw`, the data token's own side, and tokens that do not move what they say.
contract DataMarketMoneyTest is DataMarketKit {
    /* deposit */

    function test_deposit__when_allowance_suffices__adds_to_the_credit() public {
        fundBond(seller, 5);
        vm.expectEmit(address(market));
        emit IDataMarket.Deposited(seller, address(dollar), 7);
        fundBond(seller, 7);
        assertCredit(seller, 12);
        assertEq(dollar.balanceOf(address(market)), 12, "held");
        assertEq(dollar.balanceOf(seller), 1e12 - 12, "paid");
    }

    function test_deposit__when_amount_has_more_than_128_bits__reverts() public {
        uint256 tooMuch = uint256(type(uint128).max) + 1;
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.AmountTooHigh.selector, tooMuch, type(uint128).max));
        fundBond(seller, tooMuch);

        dollar.mint(seller, type(uint128).max);
        fundBond(seller, type(uint128).max);
        assertCredit(seller, type(uint128).max);
    }

    function test_deposit__when_allowance_is_short__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(market), 0, 1));
        fundBond(stranger, 1);
    }

    /* withdraw */

    function test_withdraw__when_credit_suffices__pays_out() public {
        fundBond(seller, 10);
        vm.expectEmit(address(market));
        emit ICredits.Withdrawn(seller, address(dollar), 4, stranger);
        vm.prank(seller);
        market.withdraw(address(dollar), 4, stranger);
        assertCredit(seller, 6);
        assertEq(dollar.balanceOf(stranger), 4, "got");
        assertEq(dollar.balanceOf(address(market)), 6, "held");
    }

    function test_withdraw__when_recipient_is_nobody_or_the_market__reverts() public {
        fundBond(seller, 10);
        address[2] memory nobody = [address(0), address(market)];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ICredits.RecipientInvalid.selector, nobody[i]));
            vm.prank(seller);
            market.withdraw(address(dollar), 1, nobody[i]);
        }
    }

    function test_withdraw__when_credit_is_short__reverts() public {
        fundBond(seller, 10);
        fundBond(buyer, 10);
        vm.expectRevert(abi.encodeWithSelector(ICredits.CreditTooLow.selector, seller, address(dollar), 10, 11));
        vm.prank(seller);
        market.withdraw(address(dollar), 11, seller);
    }

    /// @dev A seller's locked bond and a buyer's held price are nobody's credit.
    function test_withdraw__when_money_is_held_for_an_order__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.bond = 8;
        fundBond(seller, 8);
        paid(offer);
        address[2] memory parties = [seller, buyer];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ICredits.CreditTooLow.selector, parties[i], address(dollar), 0, 1));
            vm.prank(parties[i]);
            market.withdraw(address(dollar), 1, parties[i]);
        }
    }

    /* TOKENS THAT DO NOT MOVE WHAT THEY SAY */

    function test_buy__when_token_takes_a_fee__reverts() public {
        FeeToken token = new FeeToken();
        token.mint(buyer, PRICE);
        vm.prank(buyer);
        token.approve(address(market), PRICE);
        IDataMarket.Order memory order = _orderIn(address(token));
        vm.expectRevert(
            abi.encodeWithSelector(ExactTransfer.TransferNotExact.selector, address(token), PRICE - PRICE / 100, PRICE)
        );
        pay(order, "");

        vm.expectRevert(abi.encodeWithSelector(ExactTransfer.TransferNotExact.selector, address(token), 99, 100));
        vm.prank(buyer);
        market.deposit(address(token), 100);
    }

    /// @dev A fee that comes later is the receiver's loss and locks nothing in: less leaves than was asked for, not more.
    function test_withdraw__when_token_takes_a_fee_from_now_on__pays_out() public {
        FeeToken token = new FeeToken();
        token.setFee(false);
        token.mint(buyer, 1000);
        vm.startPrank(buyer);
        token.approve(address(market), 1000);
        market.deposit(address(token), 1000);
        token.setFee(true);
        market.withdraw(address(token), 1000, buyer);
        vm.stopPrank();
        assertEq(token.balanceOf(buyer), 990, "got");
        assertEq(token.balanceOf(address(market)), 0, "held");
    }

    /// @dev More than the amount would be other accounts' money.
    function test_withdraw__when_token_takes_more_than_the_amount__reverts() public {
        OverchargingToken token = new OverchargingToken();
        address[2] memory payers = [seller, buyer];
        for (uint256 i = 0; i < 2; ++i) {
            token.mint(payers[i], 1000);
            vm.startPrank(payers[i]);
            token.approve(address(market), 1000);
            market.deposit(address(token), 1000);
            vm.stopPrank();
        }
        vm.expectRevert(
            abi.encodeWithSelector(ExactTransfer.TransferNotExact.selector, address(token), -int256(1010), 1000)
        );
        vm.prank(seller);
        market.withdraw(address(token), 1000, seller);
    }

    function test_buy__when_token_returns_false__reverts() public {
        FalseToken token = new FalseToken();
        IDataMarket.Order memory order = _orderIn(address(token));
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        pay(order, "");
    }

    function test_buy__when_token_returns_nothing__goes_through_to_the_withdrawal() public {
        SilentToken token = new SilentToken();
        token.mint(buyer, PRICE);
        IDataMarket.Order memory order = _orderIn(address(token));
        pay(order, "");
        deliver(order, 1);
        vm.prank(buyer);
        market.settle(order.offer, rowsOf(order));
        vm.prank(seller);
        market.withdraw(address(token), PRICE, seller);
        assertEq(token.balanceOf(seller), PRICE, "got");
    }

    function test_buyWithAuthorization__when_token_swallows_the_call__reverts() public {
        SwallowingToken token = new SwallowingToken();
        IDataMarket.Order memory order = _orderIn(address(token));
        vm.expectRevert(abi.encodeWithSelector(ExactTransfer.TransferNotExact.selector, address(token), 0, PRICE));
        payWithAuthorization(order, new bytes(65));
    }

    function test_buy__when_token_has_no_code__reverts() public {
        IDataMarket.Order memory order = _orderIn(stranger);
        vm.expectRevert(bytes(""));
        pay(order, "");
    }

    /// @dev An issuer can block an account; its credit goes to another address, and nobody else is held up.
    function test_withdraw__when_account_is_blocked__goes_to_another_address() public {
        BlockingToken token = new BlockingToken();
        token.mint(buyer, PRICE);
        vm.prank(buyer);
        token.approve(address(market), PRICE);
        IDataMarket.Order memory order = _orderIn(address(token));
        pay(order, "");
        deliver(order, 1);
        token.setBlocked(seller, true);
        token.setBlocked(buyer, true);
        vm.warp(START + DISPUTE_WINDOW);
        market.settle(order.offer, rowsOf(order));
        vm.expectRevert(abi.encodeWithSelector(BlockingToken.AccountIsBlocked.selector, seller));
        vm.prank(seller);
        market.withdraw(address(token), PRICE, seller);

        vm.prank(seller);
        market.withdraw(address(token), PRICE, third);
        assertEq(token.balanceOf(third), PRICE, "got");
    }

    function _orderIn(address token) private returns (IDataMarket.Order memory) {
        IDataMarket.Offer memory offer = blobOffer();
        offer.token = token;
        return orderOf(listed(offer), buyer, 1);
    }

    /* THE DATA TOKEN */

    function test_safeTransferFrom__when_owner_or_operator_sends__moves_the_licence() public {
        IDataMarket.Offer memory offer = blobOffer();
        settled(offer);
        uint256 id = uint256(market.offerId(offer));
        vm.prank(buyer);
        market.safeTransferFrom(buyer, third, id, 1, "");
        assertTokens(third, offer, 1);

        vm.prank(third);
        market.setApprovalForAll(stranger, true);
        (uint256[] memory ids, uint256[] memory values) = (new uint256[](1), new uint256[](1));
        (ids[0], values[0]) = (id, 1);
        vm.prank(stranger);
        market.safeBatchTransferFrom(third, buyer, ids, values, "");
        assertTokens(buyer, offer, 1);
    }

    /// @dev Custody holds the tokens of open resales alone: nobody can send one there by mistake.
    function test_safeTransferFrom__when_receiver_is_the_market__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        settled(offer);
        uint256 id = uint256(market.offerId(offer));
        vm.expectRevert(abi.encodeWithSelector(IERC1155Errors.ERC1155InvalidReceiver.selector, address(market)));
        vm.prank(buyer);
        market.safeTransferFrom(buyer, address(market), id, 1, "");
        assertTokens(buyer, offer, 1);
    }

    function test_supportsInterface__when_asked__knows_erc1155() public view {
        assertTrue(market.supportsInterface(type(IERC1155).interfaceId), "ERC-1155");
        assertTrue(market.supportsInterface(type(IERC1155MetadataURI).interfaceId), "metadata");
        assertTrue(market.supportsInterface(type(IERC165).interfaceId), "ERC-165");
        assertFalse(market.supportsInterface(0xffffffff), "none");
        assertEq(market.uri(1), "", "the place of a bundle is in the logs");
    }
}
