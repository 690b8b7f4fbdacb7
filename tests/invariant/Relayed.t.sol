// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { TestBase, vm } from "./TestBase.sol";
import { IERC1271 } from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import { Errors } from "@openzeppelin/contracts/utils/Errors.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { EIP712 } from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import { Relayed } from "contracts/base/Relayed.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";

/// @notice A contract whose calls can be relayed: it notes who acted, fails on request and calls out.
contract RelayedHarness is Relayed, ReentrancyGuardTransient {
    error NotYet(uint256 value);

    uint256 public allowedFrom;
    address public lastSender;
    uint256 public lastValue;
    mapping(address account => uint256 count) public acts;

    constructor() EIP712("Harness", "1") { }

    function act(uint256 value) external returns (uint256 twice) {
        require(value >= allowedFrom, NotYet(value));
        (lastSender, lastValue) = (_msgSender(), value);
        ++acts[_msgSender()];
        return 2 * value;
    }

    function actGuarded(address hook, bytes calldata data) external nonReentrant {
        _callOut(hook, data);
        ++acts[_msgSender()];
    }

    function actOpenly(address hook, bytes calldata data) external {
        _callOut(hook, data);
        ++acts[_msgSender()];
    }

    function callSelf(uint256 value) external {
        this.act(value);
    }

    function allowFrom(uint256 value) external {
        allowedFrom = value;
    }

    function _callOut(address hook, bytes calldata data) private {
        (bool ok, bytes memory problem) = hook.call(data);
        if (ok) return;
        assembly ("memory-safe") {
            revert(add(problem, 0x20), mload(problem))
        }
    }
}

/// @notice A token or receiver hook that calls back.
contract Hook {
    function callBack(address target, bytes calldata data) external {
        (bool ok, bytes memory problem) = target.call(data);
        if (ok) return;
        assembly ("memory-safe") {
            revert(add(problem, 0x20), mload(problem))
        }
    }
}

/// @notice An account that is a contract: it takes the digests that it was told to.
contract Wallet is IERC1271 {
    mapping(bytes32 digest => bool isTaken) public takes;

    function take(bytes32 digest) external {
        takes[digest] = true;
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        return takes[digest] ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}

contract RelayedTest is TestBase {
    uint256 internal constant SENDER_KEY = 0xA11CE;
    uint256 internal constant VICTIM_KEY = 0xB0B;

    RelayedHarness internal harness;
    Hook internal hook;
    address internal sender;
    address internal relayer;

    function setUp() public {
        vm.warp(1_700_000_000);
        harness = new RelayedHarness();
        hook = new Hook();
        sender = vm.addr(SENDER_KEY);
        relayer = makeAddr("relayer");
    }

    /* RELAY */

    function test_relay__when_signed__acts_as_the_sender() public {
        IRelayed.SignedCall memory request = _request(sender, _act(21), 7);
        bytes memory signature = _sign(SENDER_KEY, request);

        vm.expectEmit(address(harness));
        emit IRelayed.NonceUsed(sender, 7);
        vm.prank(relayer);
        bytes memory result = harness.relay(request, signature);

        assertEq(abi.decode(result, (uint256)), 42, "result");
        assertEq(harness.lastSender(), sender, "sender");
        assertEq(harness.lastValue(), 21, "value");
        assertTrue(harness.isNonceUsed(sender, 7), "nonce");
        assertFalse(harness.isNonceUsed(relayer, 7), "the relayer's nonce");
    }

    function test_relay__when_any_nonces_in_any_order__each_works_once(uint256 nonce1, uint256 nonce2) public {
        vm.assume(nonce1 != nonce2);
        _relay(SENDER_KEY, _request(sender, _act(1), nonce1));
        _relay(SENDER_KEY, _request(sender, _act(2), nonce2));
        assertEq(harness.acts(sender), 2, "acts");

        _expectRefused(
            SENDER_KEY,
            _request(sender, _act(3), nonce1),
            abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, sender, nonce1)
        );
    }

    function test_relay__when_two_senders_share_a_nonce__both_work() public {
        _relay(SENDER_KEY, _request(sender, _act(1), 5));
        _relay(VICTIM_KEY, _request(vm.addr(VICTIM_KEY), _act(1), 5));
        assertEq(harness.acts(sender) + harness.acts(vm.addr(VICTIM_KEY)), 2, "acts");
    }

    function test_relay__when_the_last_second__works() public {
        IRelayed.SignedCall memory request = _request(sender, _act(1), 0);
        vm.warp(request.deadline - 1);
        _relay(SENDER_KEY, request);
        assertEq(harness.acts(sender), 1, "acts");
    }

    function test_relay__when_at_the_deadline__reverts() public {
        IRelayed.SignedCall memory request = _request(sender, _act(1), 0);
        vm.warp(request.deadline);
        _expectRefused(
            SENDER_KEY,
            request,
            abi.encodeWithSelector(IRelayed.SignedCallExpired.selector, request.deadline, request.deadline)
        );
    }

    function test_relay__when_signed_by_another__reverts() public {
        _expectInvalid(VICTIM_KEY, _request(sender, _act(1), 0));
    }

    function test_relay__when_the_sender_is_zero__reverts() public {
        _expectInvalid(SENDER_KEY, _request(address(0), _act(1), 0));
    }

    function test_relay__when_one_field_was_changed__reverts(uint8 field) public {
        IRelayed.SignedCall memory request = _request(sender, _act(1), 0);
        bytes memory signature = _sign(SENDER_KEY, request);
        if (field % 4 == 0) request.sender = relayer;
        if (field % 4 == 1) request.call = _act(2);
        if (field % 4 == 2) request.nonce = 1;
        if (field % 4 == 3) ++request.deadline;
        vm.expectRevert(abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, request.sender));
        harness.relay(request, signature);
    }

    function test_relay__when_replayed_on_another_chain__reverts() public {
        IRelayed.SignedCall memory request = _request(sender, _act(1), 0);
        bytes memory signature = _sign(SENDER_KEY, request);
        vm.chainId(8453);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, sender));
        harness.relay(request, signature);
    }

    function test_relay__when_replayed_on_another_contract__reverts() public {
        IRelayed.SignedCall memory request = _request(sender, _act(1), 0);
        bytes memory signature = _sign(SENDER_KEY, request);
        RelayedHarness other = new RelayedHarness();
        vm.expectRevert(abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, sender));
        other.relay(request, signature);
    }

    function test_relay__when_s_is_high__reverts() public {
        IRelayed.SignedCall memory request = _request(sender, _act(1), 0);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SENDER_KEY, _digest(request));
        bytes memory signature = abi.encodePacked(r, bytes32(SECP256K1_N - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        vm.expectRevert(abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, sender));
        harness.relay(request, signature);
    }

    function test_relay__when_relayed_twice__reverts() public {
        IRelayed.SignedCall memory request = _request(sender, _act(1), 9);
        _relay(SENDER_KEY, request);
        _expectRefused(SENDER_KEY, request, abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, sender, 9));
    }

    function test_relay__when_the_call_fails__passes_the_error_on_and_keeps_the_nonce() public {
        harness.allowFrom(100);
        IRelayed.SignedCall memory request = _request(sender, _act(50), 3);
        _expectRefused(SENDER_KEY, request, abi.encodeWithSelector(RelayedHarness.NotYet.selector, 50));
        assertFalse(harness.isNonceUsed(sender, 3), "nonce");

        harness.allowFrom(0);
        _relay(SENDER_KEY, request);
        assertEq(harness.lastSender(), sender, "the same signed call works later");
    }

    function test_relay__when_there_is_no_such_function__reverts() public {
        _expectRefused(
            SENDER_KEY, _request(sender, hex"12345678", 0), abi.encodeWithSelector(Errors.FailedCall.selector)
        );
    }

    /* A RELAY INSIDE A RELAY */

    function test_relay__when_nested__reverts() public {
        IRelayed.SignedCall memory inner = _request(vm.addr(VICTIM_KEY), _act(1), 0);
        bytes memory call = abi.encodeCall(IRelayed.relay, (inner, _sign(VICTIM_KEY, inner)));
        _expectRefused(
            SENDER_KEY, _request(sender, call, 0), abi.encodeWithSelector(IRelayed.RelayNested.selector, sender)
        );
    }

    function test_relay__when_a_hook_relays__reverts() public {
        IRelayed.SignedCall memory inner = _request(vm.addr(VICTIM_KEY), _act(1), 0);
        bytes memory relayInner = abi.encodeCall(IRelayed.relay, (inner, _sign(VICTIM_KEY, inner)));
        _expectRefused(
            SENDER_KEY,
            _request(sender, _openly(relayInner), 0),
            abi.encodeWithSelector(IRelayed.RelayNested.selector, sender)
        );
    }

    function test_relay__when_a_hook_calls_back__the_hook_is_itself() public {
        _relay(SENDER_KEY, _request(sender, _openly(_act(1)), 0));
        assertEq(harness.lastSender(), address(hook), "who called back");
        assertEq(harness.acts(address(hook)), 1, "the hook's acts");
        assertEq(harness.acts(sender), 1, "the sender's acts");
    }

    function test_relay__when_a_hook_calls_a_guarded_function__reverts() public {
        bytes memory again = abi.encodeCall(RelayedHarness.actGuarded, (address(hook), ""));
        bytes memory call = abi.encodeCall(
            RelayedHarness.actGuarded, (address(hook), abi.encodeCall(Hook.callBack, (address(harness), again)))
        );
        _expectRefused(
            SENDER_KEY,
            _request(sender, call, 0),
            abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector)
        );
    }

    function test_relay__when_a_hook_calls_back_through_another_contract__the_sender_is_not_borrowed() public {
        Hook second = new Hook();
        bytes memory viaSecond = abi.encodeCall(
            Hook.callBack, (address(second), abi.encodeCall(Hook.callBack, (address(harness), _act(1))))
        );
        _relay(SENDER_KEY, _request(sender, abi.encodeCall(RelayedHarness.actOpenly, (address(hook), viaSecond)), 0));
        assertEq(harness.lastSender(), address(second), "who called back");
    }

    function test_relay__when_it_is_over__the_sender_is_forgotten() public {
        _relay(SENDER_KEY, _request(sender, _act(1), 0));
        harness.callSelf(2);
        assertEq(harness.lastSender(), address(harness), "a call of the contract to itself");
        harness.act(3);
        assertEq(harness.lastSender(), address(this), "a direct call");
        _relay(VICTIM_KEY, _request(vm.addr(VICTIM_KEY), _act(4), 0));
        assertEq(harness.lastSender(), vm.addr(VICTIM_KEY), "a second relay in one transaction");
    }

    function test_relay__when_it_failed_and_was_caught__the_sender_is_forgotten() public {
        harness.allowFrom(100);
        IRelayed.SignedCall memory request = _request(sender, _act(1), 0);
        bytes memory signature = _sign(SENDER_KEY, request);
        (bool ok,) = address(harness).call(abi.encodeCall(IRelayed.relay, (request, signature)));
        assertFalse(ok, "the relay failed");
        harness.callSelf(100);
        assertEq(harness.lastSender(), address(harness), "no sender is left behind");
    }

    /* CONTRACT ACCOUNTS */

    function test_relay__when_a_contract_account_agrees__acts_as_the_account() public {
        Wallet wallet = new Wallet();
        IRelayed.SignedCall memory request = _request(address(wallet), _act(1), 0);
        wallet.take(_digest(request));
        harness.relay(request, "anything");
        assertEq(harness.lastSender(), address(wallet), "sender");
    }

    function test_relay__when_a_contract_account_refuses__reverts() public {
        Wallet wallet = new Wallet();
        vm.expectRevert(abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, address(wallet)));
        harness.relay(_request(address(wallet), _act(1), 0), "anything");
    }

    /* CANCEL */

    function test_cancelNonce__when_unused__ends_what_was_signed_with_it() public {
        vm.expectEmit(address(harness));
        emit IRelayed.NonceCancelled(sender, 4);
        vm.prank(sender);
        harness.cancelNonce(4);

        assertTrue(harness.isNonceUsed(sender, 4), "nonce");
        _expectRefused(
            SENDER_KEY,
            _request(sender, _act(1), 4),
            abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, sender, 4)
        );
    }

    function test_cancelNonce__when_used__reverts() public {
        _relay(SENDER_KEY, _request(sender, _act(1), 4));
        vm.prank(sender);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, sender, 4));
        harness.cancelNonce(4);
    }

    function test_cancelNonce__when_a_stranger_calls__ends_only_the_strangers() public {
        vm.prank(relayer);
        harness.cancelNonce(4);
        _relay(SENDER_KEY, _request(sender, _act(1), 4));
        assertEq(harness.acts(sender), 1, "acts");
    }

    function test_cancelNonce__when_relayed__cancels_the_senders() public {
        _relay(SENDER_KEY, _request(sender, abi.encodeCall(IRelayed.cancelNonce, (8)), 9));
        assertTrue(harness.isNonceUsed(sender, 8) && harness.isNonceUsed(sender, 9), "both nonces");
        assertFalse(harness.isNonceUsed(address(harness), 8), "the contract's own nonce");
    }

    function test_cancelNonce__when_relayed_for_its_own_nonce__reverts() public {
        _expectRefused(
            SENDER_KEY,
            _request(sender, abi.encodeCall(IRelayed.cancelNonce, (9)), 9),
            abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, sender, 9)
        );
    }

    /* HELP */

    function _request(address from, bytes memory call, uint256 nonce)
        private
        view
        returns (IRelayed.SignedCall memory)
    {
        return IRelayed.SignedCall(from, call, nonce, uint40(vm.getBlockTimestamp() + 1 hours));
    }

    function _act(uint256 value) private pure returns (bytes memory) {
        return abi.encodeCall(RelayedHarness.act, (value));
    }

    /// @dev A call that lets the hook call the harness back with `data`.
    function _openly(bytes memory data) private view returns (bytes memory) {
        bytes memory callBack = abi.encodeCall(Hook.callBack, (address(harness), data));
        return abi.encodeCall(RelayedHarness.actOpenly, (address(hook), callBack));
    }

    function _digest(IRelayed.SignedCall memory request) private view returns (bytes32) {
        bytes32 typeHash = keccak256("SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)");
        return typedDigest(
            "Harness",
            address(harness),
            keccak256(abi.encode(typeHash, request.sender, keccak256(request.call), request.nonce, request.deadline))
        );
    }

    function _sign(uint256 key, IRelayed.SignedCall memory request) private view returns (bytes memory) {
        return signEcdsa(key, _digest(request));
    }

    function _relay(uint256 key, IRelayed.SignedCall memory request) private {
        harness.relay(request, _sign(key, request));
    }

    function _expectRefused(uint256 key, IRelayed.SignedCall memory request, bytes memory problem) private {
        bytes memory signature = _sign(key, request);
        vm.expectRevert(problem);
        harness.relay(request, signature);
    }

    function _expectInvalid(uint256 key, IRelayed.SignedCall memory request) private {
        _expectRefused(
            key, request, abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, request.sender)
        );
    }
}
