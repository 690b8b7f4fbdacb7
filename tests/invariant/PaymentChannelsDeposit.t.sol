// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { PaymentChannelsKit } from "./PaymentChannelsKit.sol";
import { Vm, vm } from "./TestBase.sol";
import { IERC20Errors } from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import { IPaymentChannels } from "contracts/interfaces/IPaymentChannels.sol";
import { IPaymentChannelsScheme as Scheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";
import { ERC3009DepositCollector } from "contracts/payment/ERC3009DepositCollector.sol";

/// @title PaymentChannelsDepositTest
/// @notice `deposit`, the ERC-3009 collector, and the vault with `fund`.
contract PaymentChannelsDepositTest is PaymentChannelsKit {
    /* DEPOSIT */

    function test_deposit__when_collected__creditsTheChannelAndMovesTheMoney() public {
        _deposit(_config(), 100);

        _expectChannel(_config(), 100, 0);
        assertEq(dollar.balanceOf(address(channels)), 100, "held");
        assertEq(dollar.balanceOf(payer), PURSE - 100, "paid");
    }

    function test_deposit__when_channelIsEmpty__emitsCreatedThenDeposited() public {
        bytes32 id = _id(_config());
        vm.expectEmit(address(channels));
        emit Scheme.ChannelCreated(id, _config());
        vm.expectEmit(address(channels));
        emit Scheme.Deposited(id, stranger, 100, 100);
        vm.prank(stranger);
        _deposit(_config(), 100);
    }

    function test_deposit__when_channelHasMoney__emitsDepositedAlone() public {
        _open(100);
        vm.recordLogs();
        _deposit(_config(), 20);
        assertEq(_countOf(Scheme.ChannelCreated.selector), 0, "created");

        vm.expectEmit(address(channels));
        emit Scheme.Deposited(_id(_config()), address(this), 3, 123);
        _deposit(_config(), 3);
        _expectChannel(_config(), 123, 0);
    }

    function test_deposit__when_collectorIsZero__reverts() public {
        vm.expectRevert(Scheme.InvalidCollector.selector);
        channels.deposit(_config(), 1, address(0), "");
    }

    function test_deposit__when_aPartyOrTheTokenIsMissing__reverts() public {
        for (uint256 i = 0; i < 4; ++i) {
            Scheme.ChannelConfig memory config = _config();
            if (i == 0) config.payer = address(0);
            if (i == 1) config.receiver = address(0);
            if (i == 2) config.receiverAuthorizer = address(0);
            if (i == 3) config.token = address(0);
            vm.expectRevert(Scheme.InvalidChannel.selector);
            _deposit(config, 1);
        }
    }

    function test_deposit__when_theChannelsThemselvesAreAParty__reverts() public {
        Scheme.ChannelConfig memory config = _config();
        config.receiver = address(channels);
        vm.expectRevert(Scheme.InvalidChannel.selector);
        _deposit(config, 1);

        config = _config();
        config.payer = address(channels);
        vm.expectRevert(Scheme.InvalidChannel.selector);
        _deposit(config, 1);
    }

    function test_deposit__when_theDelayIsAtItsBounds__isTaken() public {
        Scheme.ChannelConfig memory config = _config();
        config.withdrawDelay = 900;
        _deposit(config, 1);
        config.withdrawDelay = 2_592_000;
        _deposit(config, 1);
        _expectChannel(config, 1, 0);
    }

    function test_deposit__when_theDelayIsOutOfRange__reverts() public {
        Scheme.ChannelConfig memory config = _config();
        config.withdrawDelay = 899;
        vm.expectRevert(Scheme.WithdrawDelayOutOfRange.selector);
        _deposit(config, 1);
        config.withdrawDelay = 2_592_001;
        vm.expectRevert(Scheme.WithdrawDelayOutOfRange.selector);
        _deposit(config, 1);
    }

    function test_deposit__when_amountIsZero__reverts() public {
        vm.expectRevert(Scheme.ZeroDeposit.selector);
        _deposit(_config(), 0);
    }

    function test_deposit__when_amountIsTheGreatest__isTakenAndNothingMoreFits() public {
        dollar.mint(payer, type(uint128).max);
        _deposit(_config(), type(uint128).max);
        _expectChannel(_config(), type(uint128).max, 0);

        vm.expectRevert(Scheme.DepositOverflow.selector);
        _deposit(_config(), 1);
    }

    function test_deposit__when_collectorBringsTooLittleOrTooMuch__reverts() public {
        collector.bring(-1);
        vm.expectRevert(Scheme.DepositCollectionFailed.selector);
        _deposit(_config(), 100);
        collector.bring(1);
        vm.expectRevert(Scheme.DepositCollectionFailed.selector);
        _deposit(_config(), 100);
        collector.bring(-100);
        vm.expectRevert(Scheme.DepositCollectionFailed.selector);
        _deposit(_config(), 100);
    }

    function test_deposit__when_payerDidNotConsent__passesOnTheCollectorsError() public {
        Scheme.ChannelConfig memory config = _config();
        config.payer = stranger;
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(collector), 0, 1)
        );
        _deposit(config, 1);
    }

    /* ERC-3009 COLLECTOR */

    function test_collect__when_payerSignedForTheChannel__paysIntoIt() public {
        ERC3009DepositCollector erc3009 = new ERC3009DepositCollector(address(channels));
        bytes memory data = _authorization(erc3009, _id(_config()), 500);

        vm.prank(stranger);
        channels.deposit(_config(), 500, address(erc3009), data);
        _expectChannel(_config(), 500, 0);
        assertEq(dollar.balanceOf(address(erc3009)), 0, "left in the collector");
        assertEq(dollar.balanceOf(address(channels)), 500, "held");
    }

    function test_collect__when_authorizationIsForAnotherChannelOrAmount__reverts() public {
        ERC3009DepositCollector erc3009 = new ERC3009DepositCollector(address(channels));
        bytes memory data = _authorization(erc3009, _id(_config()), 500);

        vm.expectRevert(bytes4(keccak256("ERC3009InvalidSignature()")));
        channels.deposit(_config(1), 500, address(erc3009), data);
        vm.expectRevert(bytes4(keccak256("ERC3009InvalidSignature()")));
        channels.deposit(_config(), 499, address(erc3009), data);
    }

    function test_collect__when_authorizationWasUsed__reverts() public {
        ERC3009DepositCollector erc3009 = new ERC3009DepositCollector(address(channels));
        bytes memory data = _authorization(erc3009, _id(_config()), 500);
        channels.deposit(_config(), 500, address(erc3009), data);

        bytes32 nonce = keccak256(abi.encode(_id(_config()), uint256(9)));
        vm.expectRevert(
            abi.encodeWithSelector(bytes4(keccak256("ERC3009UsedAuthorization(address,bytes32)")), payer, nonce)
        );
        channels.deposit(_config(), 500, address(erc3009), data);
    }

    function test_collect__when_callerIsNotTheChannels__reverts() public {
        ERC3009DepositCollector erc3009 = new ERC3009DepositCollector(address(channels));
        bytes memory data = _authorization(erc3009, _id(_config()), 500);
        bytes32 id = _id(_config());

        vm.prank(stranger);
        vm.expectRevert(ERC3009DepositCollector.OnlyX402BatchSettlement.selector);
        erc3009.collect(payer, address(dollar), 500, id, data);
    }

    function test_constructor__when_channelsAreZero__reverts() public {
        vm.expectRevert(ERC3009DepositCollector.InvalidX402BatchSettlementAddress.selector);
        new ERC3009DepositCollector(address(0));
    }

    /* VAULT */

    function test_vaultDeposit__when_allowed__creditsTheCaller() public {
        vm.expectEmit(address(channels));
        emit IPaymentChannels.VaultDeposited(payer, address(dollar), 70);
        vm.prank(payer);
        channels.vaultDeposit(address(dollar), 70);

        assertEq(channels.vaultOf(payer, address(dollar)), 70, "vault");
        assertEq(dollar.balanceOf(address(channels)), 70, "held");
    }

    function test_vaultDeposit__when_notAllowed__reverts() public {
        vm.prank(stranger);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(channels), 0, 1)
        );
        channels.vaultDeposit(address(dollar), 1);
    }

    function test_vaultWithdraw__when_covered__paysWhereTheOwnerSays() public {
        _fillVault(70);
        vm.expectEmit(address(channels));
        emit IPaymentChannels.VaultWithdrawn(payer, address(dollar), 30, stranger);
        vm.prank(payer);
        channels.vaultWithdraw(address(dollar), 30, stranger);

        assertEq(channels.vaultOf(payer, address(dollar)), 40, "vault");
        assertEq(dollar.balanceOf(stranger), 30, "paid out");
    }

    function test_vaultWithdraw__when_recipientIsNobodyOrTheChannels__reverts() public {
        _fillVault(70);
        vm.startPrank(payer);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.RecipientInvalid.selector, address(0)));
        channels.vaultWithdraw(address(dollar), 1, address(0));
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.RecipientInvalid.selector, address(channels)));
        channels.vaultWithdraw(address(dollar), 1, address(channels));
    }

    function test_vaultWithdraw__when_moreThanInTheVault__reverts() public {
        _fillVault(70);
        vm.prank(payer);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentChannels.VaultTooLow.selector, payer, address(dollar), uint256(70), 71)
        );
        channels.vaultWithdraw(address(dollar), 71, payer);
    }

    /* FUND */

    function test_fund__when_covered__movesMoneyFromTheVaultIntoEveryChannel() public {
        _fillVault(100);
        (Scheme.ChannelConfig[] memory configs, uint128[] memory amounts) = _two(30, 50);
        vm.prank(payer);
        channels.fund(configs, amounts);

        _expectChannel(configs[0], 30, 0);
        _expectChannel(configs[1], 50, 0);
        assertEq(channels.vaultOf(payer, address(dollar)), 20, "vault");
        assertEq(dollar.balanceOf(address(channels)), 100, "held");
    }

    function test_fund__when_covered__emitsEachDepositAndOneSpending() public {
        _fillVault(100);
        (Scheme.ChannelConfig[] memory configs, uint128[] memory amounts) = _two(30, 50);
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectEmit(address(channels));
            emit Scheme.ChannelCreated(_id(configs[i]), configs[i]);
            vm.expectEmit(address(channels));
            emit Scheme.Deposited(_id(configs[i]), payer, amounts[i], amounts[i]);
        }
        vm.expectEmit(address(channels));
        emit IPaymentChannels.VaultSpent(payer, address(dollar), 80);
        vm.prank(payer);
        channels.fund(configs, amounts);
    }

    function test_fund__when_itIsSomeoneElsesChannel__takesTheCallersMoneyAndRefundsTheOther() public {
        _fill(stranger);
        vm.startPrank(stranger);
        channels.vaultDeposit(address(dollar), 40);
        channels.fund(_one(_config()), _one(40));
        vm.stopPrank();
        assertEq(channels.vaultOf(stranger, address(dollar)), 0, "the stranger's vault");

        vm.prank(receiver);
        channels.refund(_config(), 40);
        assertEq(dollar.balanceOf(payer), PURSE + 40, "the payer's purse");
    }

    function test_fund__when_nothingIsAsked__reverts() public {
        vm.expectRevert(Scheme.EmptyBatch.selector);
        channels.fund(new Scheme.ChannelConfig[](0), new uint128[](0));
    }

    function test_fund__when_lengthsDiffer__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.BatchLengthsDiffer.selector, 1, 2));
        channels.fund(_one(_config()), new uint128[](2));
    }

    function test_fund__when_tokensDiffer__reverts() public {
        _fillVault(100);
        (Scheme.ChannelConfig[] memory configs, uint128[] memory amounts) = _two(30, 50);
        configs[1].token = address(new DevDollar());
        vm.prank(payer);
        vm.expectRevert(
            abi.encodeWithSelector(
                IPaymentChannels.BatchTokenDiffers.selector, uint256(1), configs[1].token, address(dollar)
            )
        );
        channels.fund(configs, amounts);
    }

    function test_fund__when_aChannelIsInvalid__reverts() public {
        _fillVault(100);
        Scheme.ChannelConfig memory config = _config();
        config.receiver = address(0);
        vm.prank(payer);
        vm.expectRevert(Scheme.InvalidChannel.selector);
        channels.fund(_one(config), _one(1));
    }

    function test_fund__when_anAmountIsZero__reverts() public {
        _fillVault(100);
        vm.prank(payer);
        vm.expectRevert(Scheme.ZeroDeposit.selector);
        channels.fund(_one(_config()), _one(0));
    }

    function test_fund__when_theVaultIsTooLow__reverts() public {
        _fillVault(79);
        (Scheme.ChannelConfig[] memory configs, uint128[] memory amounts) = _two(30, 50);
        vm.prank(payer);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentChannels.VaultTooLow.selector, payer, address(dollar), uint256(79), 80)
        );
        channels.fund(configs, amounts);
    }

    function test_fund__when_oneChannelIsFundedTwice__addsUp() public {
        _fillVault(type(uint128).max);
        (Scheme.ChannelConfig[] memory configs, uint128[] memory amounts) = _two(type(uint128).max, 1);
        configs[1] = configs[0];
        vm.prank(payer);
        vm.expectRevert(Scheme.DepositOverflow.selector);
        channels.fund(configs, amounts);

        amounts[0] = type(uint128).max - 1;
        vm.prank(payer);
        channels.fund(configs, amounts);
        _expectChannel(configs[0], type(uint128).max, 0);
    }

    /* HELP */

    function _fillVault(uint256 amount) private {
        dollar.mint(payer, amount);
        vm.prank(payer);
        channels.vaultDeposit(address(dollar), amount);
    }

    function _two(uint128 first, uint128 second)
        private
        view
        returns (Scheme.ChannelConfig[] memory configs, uint128[] memory amounts)
    {
        configs = new Scheme.ChannelConfig[](2);
        (configs[0], configs[1]) = (_config(1), _config(2));
        amounts = new uint128[](2);
        (amounts[0], amounts[1]) = (first, second);
    }

    /// @dev Collector data by which the payer pays `amount` into channel `id`, with salt 9.
    function _authorization(ERC3009DepositCollector erc3009, bytes32 id, uint256 amount)
        private
        view
        returns (bytes memory)
    {
        bytes32 typeHash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 nonce = keccak256(abi.encode(id, uint256(9)));
        uint256 end = block.timestamp + 1 hours;
        bytes32 structHash = keccak256(abi.encode(typeHash, payer, address(erc3009), amount, 0, end, nonce));
        bytes memory signature = signEcdsa(PAYER_KEY, typedDigest("pyiot dev dollar", address(dollar), structHash));
        return abi.encode(uint256(0), end, uint256(9), signature);
    }

    /// @dev How many of the recorded logs have this first topic.
    function _countOf(bytes32 topic) private returns (uint256 count) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == topic) ++count;
        }
    }
}
