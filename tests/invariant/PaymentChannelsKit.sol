// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { TestBase, vm } from "./TestBase.sol";
import { P256Verifier } from "contracts/identity/P256Verifier.sol";
import { IPaymentChannels } from "contracts/interfaces/IPaymentChannels.sol";
import { IPaymentChannelsScheme as Scheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";
import { PaymentTestCollector } from "contracts/mocks/PaymentTestCollector.sol";
import { PaymentTestWallet } from "contracts/mocks/PaymentTestWallet.sol";
import { PaymentChannels } from "contracts/payment/PaymentChannels.sol";

/// @title PaymentMessages
/// @notice The digests of what is signed about channels, written from the design's text and not from the contract.
library PaymentMessages {
    function domain(address channels, uint256 chainId) internal pure returns (bytes32) {
        bytes32 typeHash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(typeHash, keccak256("x402 Batch Settlement"), keccak256("1"), chainId, channels));
    }

    function typed(address channels, bytes32 structHash) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain(channels, block.chainid), structHash));
    }

    function channelId(address channels, Scheme.ChannelConfig memory c) internal view returns (bytes32) {
        bytes32 typeHash = keccak256(
            "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
        );
        return typed(
            channels,
            keccak256(
                abi.encode(
                    typeHash,
                    c.payer,
                    c.payerAuthorizer,
                    c.receiver,
                    c.receiverAuthorizer,
                    c.token,
                    c.withdrawDelay,
                    c.salt
                )
            )
        );
    }

    function voucher(address channels, bytes32 id, uint128 ceiling) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");
        return typed(channels, keccak256(abi.encode(typeHash, id, ceiling)));
    }

    function lockedVoucher(address channels, bytes32 id, uint128 ceiling, bytes32 lock)
        internal
        view
        returns (bytes32)
    {
        bytes32 typeHash = keccak256("LockedVoucher(bytes32 channelId,uint128 maxClaimableAmount,bytes32 lock)");
        return typed(channels, keccak256(abi.encode(typeHash, id, ceiling, lock)));
    }

    function refund(address channels, bytes32 id, uint256 nonce, uint128 amount) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)");
        return typed(channels, keccak256(abi.encode(typeHash, id, nonce, amount)));
    }

    function claimBatch(address channels, Scheme.VoucherClaim[] memory rows) internal view returns (bytes32) {
        bytes32 entryHash = keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");
        bytes32 typeHash = keccak256(
            "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
        );
        bytes memory entries;
        for (uint256 i = 0; i < rows.length; ++i) {
            bytes32 id = channelId(channels, rows[i].voucher.channel);
            entries = bytes.concat(
                entries, keccak256(abi.encode(entryHash, id, rows[i].voucher.maxClaimableAmount, rows[i].totalClaimed))
            );
        }
        return typed(channels, keccak256(abi.encode(typeHash, keccak256(entries))));
    }

    function signedCall(address channels, IRelayed.SignedCall memory request) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)");
        return typed(
            channels,
            keccak256(abi.encode(typeHash, request.sender, keccak256(request.call), request.nonce, request.deadline))
        );
    }
}

/// @title PaymentChannelsKit
/// @notice Base of the payment suites: channels, a dollar, the parties with their keys, and builders with defaults.
abstract contract PaymentChannelsKit is TestBase {
    uint256 internal constant PAYER_KEY = 0xA11CE;
    uint256 internal constant AUTHORIZER_KEY = 0xA07;
    uint256 internal constant RECEIVER_KEY = 0xB0B;
    uint256 internal constant CLAIMER_KEY = 0xC1A;
    uint256 internal constant DEVICE_KEY = 0xD0D;
    uint40 internal constant DELAY = 1 days;
    uint256 internal constant PURSE = 1e30;

    PaymentChannels internal channels;
    P256Verifier internal verifier;
    DevDollar internal dollar;
    PaymentTestCollector internal collector;

    address internal payer = vm.addr(PAYER_KEY);
    address internal authorizer = vm.addr(AUTHORIZER_KEY);
    address internal receiver = vm.addr(RECEIVER_KEY);
    address internal claimer = vm.addr(CLAIMER_KEY);
    address internal stranger;

    function setUp() public virtual {
        vm.warp(1_700_000_000);
        stranger = makeAddr("stranger");
        verifier = new P256Verifier();
        channels = new PaymentChannels(address(verifier));
        dollar = new DevDollar();
        collector = new PaymentTestCollector();
        _fill(payer);
    }

    /* BUILDERS */

    /// @dev A channel whose vouchers the authorizer signs.
    function _config() internal view returns (Scheme.ChannelConfig memory) {
        return Scheme.ChannelConfig({
            payer: payer,
            payerAuthorizer: authorizer,
            receiver: receiver,
            receiverAuthorizer: claimer,
            token: address(dollar),
            withdrawDelay: DELAY,
            salt: 0
        });
    }

    function _config(uint256 salt) internal view returns (Scheme.ChannelConfig memory config) {
        config = _config();
        config.salt = bytes32(salt);
    }

    /// @dev A channel of a contract account that signs its own vouchers, with money in it.
    function _walletChannel(uint128 amount)
        internal
        returns (PaymentTestWallet wallet, Scheme.ChannelConfig memory config)
    {
        wallet = new PaymentTestWallet(authorizer);
        config = _config();
        (config.payer, config.payerAuthorizer) = (address(wallet), address(0));
        dollar.mint(address(wallet), amount);
        wallet.execute(address(dollar), abi.encodeCall(dollar.approve, (address(collector), amount)));
        channels.deposit(config, amount, address(collector), "");
    }

    function _id(Scheme.ChannelConfig memory config) internal view returns (bytes32) {
        return PaymentMessages.channelId(address(channels), config);
    }

    /// @dev A row for the whole voucher, signed by the authorizer.
    function _row(Scheme.ChannelConfig memory config, uint128 ceiling)
        internal
        view
        returns (Scheme.VoucherClaim memory)
    {
        return _row(config, ceiling, ceiling, AUTHORIZER_KEY);
    }

    function _row(Scheme.ChannelConfig memory config, uint128 ceiling, uint128 total, uint256 key)
        internal
        view
        returns (Scheme.VoucherClaim memory)
    {
        bytes32 digest = PaymentMessages.voucher(address(channels), _id(config), ceiling);
        return Scheme.VoucherClaim(Scheme.Voucher(config, ceiling), signEcdsa(key, digest), total);
    }

    function _lockedRow(Scheme.ChannelConfig memory config, uint128 ceiling, bytes32 preimage)
        internal
        view
        returns (Scheme.VoucherClaim memory)
    {
        bytes32 lock = keccak256(abi.encodePacked(preimage));
        bytes32 digest = PaymentMessages.lockedVoucher(address(channels), _id(config), ceiling, lock);
        return Scheme.VoucherClaim(Scheme.Voucher(config, ceiling), signEcdsa(AUTHORIZER_KEY, digest), ceiling);
    }

    function _rows(Scheme.VoucherClaim memory row) internal pure returns (Scheme.VoucherClaim[] memory rows) {
        rows = new Scheme.VoucherClaim[](1);
        rows[0] = row;
    }

    function _rows(Scheme.VoucherClaim memory first, Scheme.VoucherClaim memory second)
        internal
        pure
        returns (Scheme.VoucherClaim[] memory rows)
    {
        rows = new Scheme.VoucherClaim[](2);
        (rows[0], rows[1]) = (first, second);
    }

    function _one(Scheme.ChannelConfig memory config) internal pure returns (Scheme.ChannelConfig[] memory configs) {
        configs = new Scheme.ChannelConfig[](1);
        configs[0] = config;
    }

    function _one(uint128 amount) internal pure returns (uint128[] memory amounts) {
        amounts = new uint128[](1);
        amounts[0] = amount;
    }

    /// @dev The 84 bytes of the device's P-256 signer.
    function _deviceSigner() internal view returns (bytes memory) {
        (uint256 x, uint256 y) = vm.publicKeyP256(DEVICE_KEY);
        return abi.encodePacked(address(verifier), x, y);
    }

    function _p256Config() internal view returns (Scheme.ChannelConfig memory config) {
        config = _config();
        config.payerAuthorizer = address(bytes20(keccak256(_deviceSigner())));
    }

    function _p256Row(Scheme.ChannelConfig memory config, uint128 ceiling)
        internal
        view
        returns (Scheme.VoucherClaim memory)
    {
        bytes32 digest = PaymentMessages.voucher(address(channels), _id(config), ceiling);
        bytes memory signature = bytes.concat(_deviceSigner(), signP256(DEVICE_KEY, digest));
        return Scheme.VoucherClaim(Scheme.Voucher(config, ceiling), signature, ceiling);
    }

    function _signedCall(uint256 key, bytes memory call, uint256 nonce)
        internal
        view
        returns (IRelayed.SignedCall memory request, bytes memory signature)
    {
        request = IRelayed.SignedCall(vm.addr(key), call, nonce, uint40(block.timestamp + 1 hours));
        signature = signEcdsa(key, PaymentMessages.signedCall(address(channels), request));
    }

    /* ACTS */

    /// @dev Gives `account` dollars and lets collector and channels take them.
    function _fill(address account) internal {
        dollar.mint(account, PURSE);
        vm.startPrank(account);
        dollar.approve(address(collector), type(uint256).max);
        dollar.approve(address(channels), type(uint256).max);
        vm.stopPrank();
    }

    function _deposit(Scheme.ChannelConfig memory config, uint128 amount) internal {
        channels.deposit(config, amount, address(collector), "");
    }

    /// @dev An open channel with `amount` in it.
    function _open(uint128 amount) internal returns (Scheme.ChannelConfig memory config) {
        config = _config();
        _deposit(config, amount);
    }

    function _claim(Scheme.VoucherClaim memory row) internal {
        vm.prank(receiver);
        channels.claim(_rows(row));
    }

    function _claimAvailable(Scheme.VoucherClaim memory row) internal returns (IPaymentChannels.ClaimOutcome) {
        vm.prank(receiver);
        return channels.claimAvailable(_rows(row))[0];
    }

    /* CHECKS */

    function _expectChannel(Scheme.ChannelConfig memory config, uint128 balance, uint128 totalClaimed) internal view {
        (uint128 balanceNow, uint128 claimedNow) = channels.channels(_id(config));
        assertEq(balanceNow, balance, "balance of the channel");
        assertEq(claimedNow, totalClaimed, "claimed of the channel");
    }

    function _expectOwed(address receiver_, address token, uint128 totalClaimed, uint128 totalSettled) internal view {
        (uint128 claimedNow, uint128 settledNow) = channels.receivers(receiver_, token);
        assertEq(claimedNow, totalClaimed, "claimed for the receiver");
        assertEq(settledNow, totalSettled, "settled to the receiver");
    }

    function _expectPending(Scheme.ChannelConfig memory config, uint128 amount, uint256 initiatedAt) internal view {
        (uint128 amountNow, uint40 initiatedNow) = channels.pendingWithdrawals(_id(config));
        assertEq(amountNow, amount, "pending amount");
        assertEq(initiatedNow, initiatedAt, "pending since");
    }

    function _expectOutcome(IPaymentChannels.ClaimOutcome actual, IPaymentChannels.ClaimOutcome expected)
        internal
        pure
    {
        assertEq(uint256(actual), uint256(expected), "outcome of the row");
    }
}
