// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { PaymentChannelsKit, PaymentMessages } from "./PaymentChannelsKit.sol";
import { vm } from "./TestBase.sol";
import { IPaymentChannelsScheme as Scheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { ERC3009DepositCollector } from "contracts/payment/ERC3009DepositCollector.sol";
import { PaymentChannels } from "contracts/payment/PaymentChannels.sol";

/// @title PaymentChannelsSchemeTest
/// @notice x402's numbers: digests that the `x402` package (2.25.0) computed for its fixed address on chain 31337, and our
/// code put there after it was deployed elsewhere.
contract PaymentChannelsSchemeTest is PaymentChannelsKit {
    address private constant X402_CHANNELS = 0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003;
    address private constant X402_COLLECTOR = 0x4020806089470a89826cB9fB1f4059150b550004;

    PaymentChannels private placed;

    function setUp() public override {
        super.setUp();
        vm.chainId(31_337);
        vm.etch(X402_CHANNELS, address(channels).code);
        vm.etch(X402_COLLECTOR, address(new ERC3009DepositCollector(X402_CHANNELS)).code);
        placed = PaymentChannels(X402_CHANNELS);
    }

    function test_getChannelId__when_placedAtX402sAddress__isX402sNumber() public view {
        assertEq(
            placed.getChannelId(_x402Config(0x66)),
            hex"b3c44c903613255adab3447ecf0f8d80e15ba4f337601893a4b95e843567dcb1",
            "channel id"
        );
        assertEq(
            placed.getChannelId(_x402Config(0x77)),
            hex"dde01c49822ef771a87e8834b7a5599a701190df46c9efd6936fb81a11b90197",
            "channel id of another salt"
        );
    }

    function test_getVoucherDigest__when_placedAtX402sAddress__isX402sNumber() public view {
        assertEq(
            placed.getVoucherDigest(placed.getChannelId(_x402Config(0x66)), 123_456),
            hex"dff1ce3d132d6eb4076bb9b2706fc2b6f870ccaeaeae2966d9e32fa3ad6d9008",
            "voucher digest"
        );
    }

    function test_getRefundDigest__when_placedAtX402sAddress__isX402sNumber() public view {
        assertEq(
            placed.getRefundDigest(placed.getChannelId(_x402Config(0x66)), 7, 1000),
            hex"8dac055e6c6ba31acd4931ea368ac26063697fa36ee5e0625cd5f00ecc5ec814",
            "refund digest"
        );
    }

    function test_getClaimBatchDigest__when_placedAtX402sAddress__isX402sNumber() public view {
        Scheme.VoucherClaim[] memory rows = new Scheme.VoucherClaim[](2);
        rows[0] = Scheme.VoucherClaim(Scheme.Voucher(_x402Config(0x66), 123_456), "", 1000);
        rows[1] = Scheme.VoucherClaim(Scheme.Voucher(_x402Config(0x77), type(uint128).max), hex"01", 1);
        assertEq(
            placed.getClaimBatchDigest(rows),
            hex"375e08cfecd04d13dcb25aa02e0955c9dbf1a848aba74ef3c062f477b66a90ad",
            "claim batch digest"
        );
    }

    function test_getClaimBatchDigest__when_batchIsEmpty__isDefined() public view {
        Scheme.VoucherClaim[] memory none = new Scheme.VoucherClaim[](0);
        assertEq(placed.getClaimBatchDigest(none), PaymentMessages.claimBatch(X402_CHANNELS, none), "digest");
    }

    function test_getLockedVoucherDigest__when_placedAnywhere__isOfThatPlace() public view {
        assertEq(
            placed.getLockedVoucherDigest("id", 5, "lock"),
            PaymentMessages.lockedVoucher(X402_CHANNELS, "id", 5, "lock"),
            "at x402's address"
        );
        assertEq(
            channels.getLockedVoucherDigest("id", 5, "lock"),
            PaymentMessages.lockedVoucher(address(channels), "id", 5, "lock"),
            "at its own"
        );
    }

    function test_eip712Domain__when_placedAtX402sAddress__namesThatPlaceAndTheChainOfNow() public {
        _expectDomain(31_337);
        vm.chainId(8453);
        _expectDomain(8453);
        assertEq(placed.getVoucherDigest("id", 5), PaymentMessages.voucher(X402_CHANNELS, "id", 5), "digest");
    }

    function test_constants__when_read__areX402s() public view {
        assertEq(placed.MIN_WITHDRAW_DELAY(), 900, "least delay");
        assertEq(placed.MAX_WITHDRAW_DELAY(), 2_592_000, "greatest delay");
        assertEq(
            placed.CHANNEL_CONFIG_TYPEHASH(),
            keccak256(
                "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
            ),
            "config"
        );
        assertEq(
            placed.VOUCHER_TYPEHASH(), keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)"), "voucher"
        );
        assertEq(
            placed.REFUND_TYPEHASH(), keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)"), "refund"
        );
        assertEq(
            placed.CLAIM_ENTRY_TYPEHASH(),
            keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"),
            "entry"
        );
        assertEq(
            placed.CLAIM_BATCH_TYPEHASH(),
            keccak256(
                "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
            ),
            "batch"
        );
        assertEq(placed.p256Verifier(), address(verifier), "the immutable came along");
    }

    /// @notice Deposit by ERC-3009, claim of ECDSA and P-256 vouchers, refund, withdrawal and settlement at x402's address.
    function test_scheme__when_placedAtX402sAddress__worksFromEndToEnd() public {
        channels = placed;
        Scheme.ChannelConfig memory config = _config();
        _depositByAuthorization(config, 100);
        _claim(_row(config, 60));

        vm.prank(receiver);
        placed.refund(config, 10);
        vm.prank(payer);
        placed.initiateWithdraw(config, 30);
        vm.warp(block.timestamp + DELAY);
        vm.prank(payer);
        placed.finalizeWithdraw(config);
        _expectChannel(config, 60, 60);

        config = _p256Config();
        _depositByAuthorization(config, 50);
        _claim(_p256Row(config, 50));
        placed.settle(receiver, address(dollar));
        assertEq(dollar.balanceOf(receiver), 110, "paid");
        assertEq(dollar.balanceOf(X402_CHANNELS), 0, "held");
        assertEq(dollar.balanceOf(payer), PURSE - 110, "the payer's purse");
    }

    /* HELP */

    function _expectDomain(uint256 chain) private view {
        (bytes1 fields, string memory name, string memory version, uint256 chainId, address place,,) =
            placed.eip712Domain();
        assertEq(bytes32(fields), bytes32(hex"0f"), "fields");
        assertEq(name, "x402 Batch Settlement", "name");
        assertEq(version, "1", "version");
        assertEq(chainId, chain, "chain");
        assertEq(place, X402_CHANNELS, "contract");
    }

    function _x402Config(uint8 salt) private pure returns (Scheme.ChannelConfig memory) {
        return Scheme.ChannelConfig({
            payer: 0x1111111111111111111111111111111111111111,
            payerAuthorizer: 0x2222222222222222222222222222222222222222,
            receiver: 0x3333333333333333333333333333333333333333,
            receiverAuthorizer: 0x4444444444444444444444444444444444444444,
            token: 0x5555555555555555555555555555555555555555,
            withdrawDelay: 86_400,
            salt: bytes32(type(uint256).max / 255 * salt)
        });
    }

    function _depositByAuthorization(Scheme.ChannelConfig memory config, uint128 amount) private {
        bytes32 typeHash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 nonce = keccak256(abi.encode(_id(config), uint256(1)));
        uint256 end = vm.getBlockTimestamp() + 1 hours;
        bytes32 structHash = keccak256(abi.encode(typeHash, payer, X402_COLLECTOR, uint256(amount), 0, end, nonce));
        bytes memory signature = signEcdsa(PAYER_KEY, typedDigest("pyiot dev dollar", address(dollar), structHash));
        placed.deposit(config, amount, X402_COLLECTOR, abi.encode(uint256(0), end, uint256(1), signature));
    }
}
