// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { TestBase, vm } from "./TestBase.sol";
import { IERC1271 } from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import { IERC3009, IERC3009Cancel } from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import { IERC20Errors } from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import { ERC20Permit } from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import { ERC3009 } from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";

/// @notice A payer that is a contract and agrees to one digest.
contract PayingWallet is IERC1271 {
    bytes32 public taken;

    function take(bytes32 digest) external {
        taken = digest;
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        return digest == taken ? IERC1271.isValidSignature.selector : bytes4(0);
    }
}

contract DevDollarTest is TestBase {
    struct Authorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    string internal constant FIELDS =
        "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";
    uint256 internal constant PAYER_KEY = 0xA11CE;

    DevDollar internal dollar;
    address internal payer;
    address internal payee;
    address internal stranger;

    function setUp() public {
        vm.warp(1_700_000_000);
        dollar = new DevDollar();
        payer = vm.addr(PAYER_KEY);
        payee = makeAddr("payee");
        stranger = makeAddr("stranger");
        dollar.mint(payer, 100e6);
    }

    /* WHAT IT IS */

    function test_metadata__when_asked__is_the_designs() public view {
        assertEq(dollar.name(), "pyiot dev dollar", "name");
        assertEq(dollar.symbol(), "DUSD", "symbol");
        assertEq(dollar.version(), "1", "version");
        assertEq(dollar.decimals(), 6, "decimals");
    }

    function test_domain__when_asked__has_name_version_chain_and_contract() public view {
        bytes32 typeHash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 domain = keccak256(
            abi.encode(typeHash, keccak256("pyiot dev dollar"), keccak256("1"), block.chainid, address(dollar))
        );
        assertEq(dollar.DOMAIN_SEPARATOR(), domain, "domain separator");
    }

    function test_mint__when_anyone_calls__makes_dollars(address to, uint128 amount) public {
        vm.assume(to != address(0) && to != payer);
        vm.prank(stranger);
        dollar.mint(to, amount);
        assertEq(dollar.balanceOf(to), amount, "balance");
        assertEq(dollar.totalSupply(), 100e6 + uint256(amount), "supply");
    }

    /* TRANSFER WITH AUTHORIZATION */

    function test_transferWithAuthorization__when_signed_v_r_s__anyone_may_send_it() public {
        Authorization memory authorization = _authorization();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, _digest("Transfer", authorization));
        vm.expectEmit(address(dollar));
        emit IERC3009.AuthorizationUsed(payer, authorization.nonce);
        vm.prank(stranger);
        dollar.transferWithAuthorization(payer, payee, 1e6, 0, type(uint40).max, authorization.nonce, v, r, s);
        _assertPaid(authorization);
    }

    function test_transferWithAuthorization__when_signed_bytes__anyone_may_send_it() public {
        Authorization memory authorization = _authorization();
        bytes memory signature = signEcdsa(PAYER_KEY, _digest("Transfer", authorization));
        vm.expectEmit(address(dollar));
        emit IERC3009.AuthorizationUsed(payer, authorization.nonce);
        vm.prank(stranger);
        _transfer(authorization, signature);
        _assertPaid(authorization);
    }

    function test_transferWithAuthorization__when_signed_by_another__reverts() public {
        Authorization memory authorization = _authorization();
        bytes memory signature = signEcdsa(0xBAD, _digest("Transfer", authorization));
        _expectTransferRefused(
            authorization, signature, abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector)
        );
    }

    function test_transferWithAuthorization__when_signed_for_receive__reverts() public {
        Authorization memory authorization = _authorization();
        bytes memory signature = signEcdsa(PAYER_KEY, _digest("Receive", authorization));
        _expectTransferRefused(
            authorization, signature, abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector)
        );
    }

    function test_transferWithAuthorization__when_one_field_was_changed__reverts(uint8 field, uint128 by) public {
        Authorization memory authorization = _authorization();
        bytes memory signature = signEcdsa(PAYER_KEY, _digest("Transfer", authorization));
        uint256 step = 1 + uint256(by);
        if (field % 6 == 0) authorization.from = stranger;
        if (field % 6 == 1) authorization.to = stranger;
        if (field % 6 == 2) authorization.value += step;
        if (field % 6 == 3) authorization.validAfter += step;
        if (field % 6 == 4) authorization.validBefore += step;
        if (field % 6 == 5) authorization.nonce = bytes32(uint256(authorization.nonce) ^ step);
        _expectTransferRefused(
            authorization, signature, abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector)
        );
    }

    function test_transferWithAuthorization__when_s_is_high__reverts() public {
        Authorization memory authorization = _authorization();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, _digest("Transfer", authorization));
        bytes memory signature = abi.encodePacked(r, bytes32(SECP256K1_N - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        _expectTransferRefused(
            authorization, signature, abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector)
        );
    }

    function test_transferWithAuthorization__when_replayed_on_another_chain__reverts() public {
        Authorization memory authorization = _authorization();
        bytes memory signature = signEcdsa(PAYER_KEY, _digest("Transfer", authorization));
        vm.chainId(8453);
        _expectTransferRefused(
            authorization, signature, abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector)
        );
    }

    function test_transferWithAuthorization__when_too_early_or_too_late__reverts() public {
        Authorization memory authorization = _authorization();
        authorization.validAfter = block.timestamp;
        _expectTransferOutOfTime(authorization);
        authorization.validAfter = block.timestamp - 1;
        authorization.validBefore = block.timestamp;
        _expectTransferOutOfTime(authorization);
        authorization.validBefore = block.timestamp + 1;
        _transfer(authorization, signEcdsa(PAYER_KEY, _digest("Transfer", authorization)));
        _assertPaid(authorization);
    }

    function test_transferWithAuthorization__when_the_nonce_is_used__reverts_in_both_forms() public {
        Authorization memory authorization = _authorization();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, _digest("Transfer", authorization));
        _transfer(authorization, abi.encodePacked(r, s, v));
        bytes memory problem =
            abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, authorization.nonce);
        _expectTransferRefused(authorization, abi.encodePacked(r, s, v), problem);
        vm.expectRevert(problem);
        dollar.transferWithAuthorization(payer, payee, 1e6, 0, type(uint40).max, authorization.nonce, v, r, s);
    }

    function test_transferWithAuthorization__when_the_balance_is_too_low__reverts_and_keeps_the_nonce() public {
        Authorization memory authorization = _authorization();
        authorization.value = 101e6;
        bytes memory signature = signEcdsa(PAYER_KEY, _digest("Transfer", authorization));
        _expectTransferRefused(
            authorization,
            signature,
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, payer, 100e6, 101e6)
        );
        assertFalse(dollar.authorizationState(payer, authorization.nonce), "nonce");
    }

    function test_transferWithAuthorization__when_the_payer_is_a_contract__asks_it() public {
        PayingWallet wallet = new PayingWallet();
        dollar.mint(address(wallet), 5e6);
        Authorization memory authorization = _authorization();
        authorization.from = address(wallet);
        _expectTransferRefused(authorization, "", abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector));
        wallet.take(_digest("Transfer", authorization));
        _transfer(authorization, "");
        assertEq(dollar.balanceOf(payee), 1e6, "paid");
    }

    /* RECEIVE WITH AUTHORIZATION */

    function test_receiveWithAuthorization__when_the_payee_calls_v_r_s__pays() public {
        Authorization memory authorization = _authorization();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, _digest("Receive", authorization));
        vm.prank(payee);
        dollar.receiveWithAuthorization(payer, payee, 1e6, 0, type(uint40).max, authorization.nonce, v, r, s);
        _assertPaid(authorization);
    }

    function test_receiveWithAuthorization__when_the_payee_calls_bytes__pays() public {
        Authorization memory authorization = _authorization();
        bytes memory signature = signEcdsa(PAYER_KEY, _digest("Receive", authorization));
        vm.expectEmit(address(dollar));
        emit IERC3009.AuthorizationUsed(payer, authorization.nonce);
        vm.prank(payee);
        _receive(authorization, signature);
        _assertPaid(authorization);
    }

    function test_receiveWithAuthorization__when_a_stranger_calls__reverts() public {
        Authorization memory authorization = _authorization();
        bytes memory signature = signEcdsa(PAYER_KEY, _digest("Receive", authorization));
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, payee));
        vm.prank(stranger);
        _receive(authorization, signature);
    }

    function test_receiveWithAuthorization__when_signed_for_transfer__reverts() public {
        Authorization memory authorization = _authorization();
        bytes memory signature = signEcdsa(PAYER_KEY, _digest("Transfer", authorization));
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector));
        vm.prank(payee);
        _receive(authorization, signature);
    }

    function test_receiveWithAuthorization__when_the_payer_is_a_contract__asks_it() public {
        PayingWallet wallet = new PayingWallet();
        dollar.mint(address(wallet), 5e6);
        Authorization memory authorization = _authorization();
        authorization.from = address(wallet);
        wallet.take(_digest("Receive", authorization));
        vm.prank(payee);
        _receive(authorization, "");
        assertEq(dollar.balanceOf(payee), 1e6, "paid");
    }

    function test_receiveWithAuthorization__when_used_for_transfer_before__reverts() public {
        Authorization memory authorization = _authorization();
        _transfer(authorization, signEcdsa(PAYER_KEY, _digest("Transfer", authorization)));
        bytes memory signature = signEcdsa(PAYER_KEY, _digest("Receive", authorization));
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, authorization.nonce));
        vm.prank(payee);
        _receive(authorization, signature);
    }

    /* CANCEL AND PERMIT */

    function test_cancelAuthorization__when_signed__ends_the_authorization() public {
        Authorization memory authorization = _authorization();
        bytes32 typeHash = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");
        bytes32 digest = typedDigest(
            "pyiot dev dollar", address(dollar), keccak256(abi.encode(typeHash, payer, authorization.nonce))
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, digest);
        vm.expectEmit(address(dollar));
        emit IERC3009Cancel.AuthorizationCanceled(payer, authorization.nonce);
        dollar.cancelAuthorization(payer, authorization.nonce, v, r, s);
        _expectTransferRefused(
            authorization,
            signEcdsa(PAYER_KEY, _digest("Transfer", authorization)),
            abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, authorization.nonce)
        );
    }

    function test_permit__when_signed__sets_the_allowance_once() public {
        uint256 deadline = block.timestamp;
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, _permitDigest(3e6, 0, deadline));
        dollar.permit(payer, payee, 3e6, deadline, v, r, s);
        assertEq(dollar.allowance(payer, payee), 3e6, "allowance");
        assertEq(dollar.nonces(payer), 1, "nonce");

        address recovered = ecrecover(_permitDigest(3e6, 1, deadline), v, r, s);
        vm.expectRevert(abi.encodeWithSelector(ERC20Permit.ERC2612InvalidSigner.selector, recovered, payer));
        dollar.permit(payer, payee, 3e6, deadline, v, r, s);
    }

    function test_permit__when_late__reverts() public {
        uint256 deadline = block.timestamp - 1;
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, _permitDigest(3e6, 0, deadline));
        vm.expectRevert(abi.encodeWithSelector(ERC20Permit.ERC2612ExpiredSignature.selector, deadline));
        dollar.permit(payer, payee, 3e6, deadline, v, r, s);
    }

    /* HELP */

    function _authorization() private view returns (Authorization memory) {
        return Authorization(payer, payee, 1e6, 0, type(uint40).max, keccak256("nonce"));
    }

    function _digest(string memory verb, Authorization memory authorization) private view returns (bytes32) {
        bytes32 typeHash = keccak256(abi.encodePacked(verb, "WithAuthorization", FIELDS));
        return typedDigest("pyiot dev dollar", address(dollar), keccak256(abi.encode(typeHash, authorization)));
    }

    function _permitDigest(uint256 value, uint256 nonce, uint256 deadline) private view returns (bytes32) {
        bytes32 typeHash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        return typedDigest(
            "pyiot dev dollar", address(dollar), keccak256(abi.encode(typeHash, payer, payee, value, nonce, deadline))
        );
    }

    function _transfer(Authorization memory a, bytes memory signature) private {
        dollar.transferWithAuthorization(a.from, a.to, a.value, a.validAfter, a.validBefore, a.nonce, signature);
    }

    function _receive(Authorization memory a, bytes memory signature) private {
        dollar.receiveWithAuthorization(a.from, a.to, a.value, a.validAfter, a.validBefore, a.nonce, signature);
    }

    function _assertPaid(Authorization memory authorization) private view {
        assertEq(dollar.balanceOf(payee), 1e6, "the payee's");
        assertEq(dollar.balanceOf(payer), 99e6, "the payer's");
        assertTrue(dollar.authorizationState(payer, authorization.nonce), "nonce");
    }

    function _expectTransferRefused(Authorization memory authorization, bytes memory signature, bytes memory problem)
        private
    {
        vm.expectRevert(problem);
        _transfer(authorization, signature);
    }

    function _expectTransferOutOfTime(Authorization memory authorization) private {
        _expectTransferRefused(
            authorization,
            signEcdsa(PAYER_KEY, _digest("Transfer", authorization)),
            abi.encodeWithSelector(
                ERC3009.ERC3009InvalidAuthorizationTime.selector, authorization.validAfter, authorization.validBefore
            )
        );
    }
}
