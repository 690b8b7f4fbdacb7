// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { PaymentMessages } from "./PaymentChannelsKit.sol";
import { PaymentChannelsModel } from "./PaymentChannelsModel.sol";
import { vm } from "./TestBase.sol";
import { IPaymentChannels } from "contracts/interfaces/IPaymentChannels.sol";
import { IPaymentChannelsScheme as Scheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { PaymentTestWallet } from "contracts/mocks/PaymentTestWallet.sol";
import { PaymentChannels } from "contracts/payment/PaymentChannels.sol";

/// @title PaymentChannelsHandler
/// @notice Payers, receivers and thieves who use twelve channels, each call with its outcome predicted by the model.
contract PaymentChannelsHandler is PaymentChannelsModel {
    uint256 internal constant OTHER_CHAIN = 99;
    uint128 internal constant BAIT = 1e6;

    /// @notice Another deployment, whose channels of the same terms are full.
    PaymentChannels public immutable twin;

    /// @notice How often a good row of `claimAvailable` came out otherwise than without the bad rows beside it.
    uint256 public spoiled;

    /// @notice How often somebody else than the receiver saw money move when it was settled.
    uint256 public misdirected;

    /// @notice How often a channel's claimed sum was seen to shrink.
    uint256 public shrunk;
    uint256[CHANNELS] private _seen;

    /// @notice The ids of the same terms in the other contract and on the other chain.
    bytes32[CHANNELS] public idInTwin;
    bytes32[CHANNELS] public idOnOtherChain;

    /// @notice The channel that the last call was about.
    uint256 public lastTouched;
    uint256 private _nonce;
    uint256 private immutable _chain;

    constructor(PaymentChannels channels_, PaymentChannels twin_) PaymentChannelsModel(channels_) {
        twin = twin_;
        _chain = block.chainid;
        for (uint256 i = 0; i < CHANNELS; ++i) {
            twin.deposit(_configs[i], BAIT, address(collector), "");
            idInTwin[i] = PaymentMessages.channelId(address(twin), _configs[i]);
            purseOf[_configs[i].payer][_configs[i].token] -= BAIT;
        }
        vm.chainId(OTHER_CHAIN);
        for (uint256 i = 0; i < CHANNELS; ++i) {
            channels.deposit(_configs[i], BAIT, address(collector), "");
            idOnOtherChain[i] = PaymentMessages.channelId(address(channels), _configs[i]);
            purseOf[_configs[i].payer][_configs[i].token] -= BAIT;
            donated[_configs[i].token] += BAIT;
        }
        vm.chainId(_chain);
    }

    modifier watched() {
        _;
        for (uint256 i = 0; i < CHANNELS; ++i) {
            (, uint128 claimed) = channels.channels(_idOf(i));
            if (claimed < _seen[i]) ++shrunk;
            _seen[i] = claimed;
        }
    }

    /* PAY IN */

    function deposit(uint256 seed) external watched {
        seed = _mixed(seed);
        uint256 index = _touch(seed);
        uint256 amount = _amount(seed >> 16);
        bytes memory problem;
        if (amount == 0) problem = _error(Scheme.ZeroDeposit.selector);
        else if (_models[index].balance + amount > MAX) problem = _error(Scheme.DepositOverflow.selector);
        bytes memory call = abi.encodeCall(channels.deposit, (_configs[index], uint128(amount), address(collector), ""));
        (bool ok,) = attempt(stranger, address(channels), call, problem);
        if (!ok) return;
        _models[index].balance += amount;
        purseOf[_configs[index].payer][_configs[index].token] -= amount;
    }

    function vaultDeposit(uint256 seed) external watched {
        seed = _mixed(seed);
        (address account, address token) = (payers[seed % 2], address(tokens[(seed >> 8) % 2]));
        uint256 amount = _amount(seed >> 16) * 3;
        bytes memory call = abi.encodeCall(channels.vaultDeposit, (token, amount));
        (bool ok,) = attempt(account, address(channels), call, "");
        if (!ok) return;
        vaultOf[account][token] += amount;
        purseOf[account][token] -= amount;
    }

    function vaultWithdraw(uint256 seed) external watched {
        seed = _mixed(seed);
        (address account, address token) = (payers[seed % 2], address(tokens[(seed >> 8) % 2]));
        uint256 vault = vaultOf[account][token];
        uint256 amount = (seed >> 16) % 8 == 0 ? vault + 1 : vault / (1 + (seed >> 24) % 9);
        bytes memory problem = amount <= vault
            ? bytes("")
            : abi.encodeWithSelector(IPaymentChannels.VaultTooLow.selector, account, token, vault, amount);
        bytes memory call = abi.encodeCall(channels.vaultWithdraw, (token, amount, account));
        (bool ok,) = attempt(account, address(channels), call, problem);
        if (!ok) return;
        vaultOf[account][token] -= amount;
        purseOf[account][token] += amount;
    }

    function fund(uint256 seed) external watched {
        seed = _mixed(seed);
        address account = payers[seed % 2];
        uint256 first = _touch(seed >> 8);
        uint256 count = 1 + (seed >> 24) % 4;
        Scheme.ChannelConfig[] memory configs = new Scheme.ChannelConfig[](count);
        uint128[] memory amounts = new uint128[](count);
        address token = _configs[first].token;
        uint256 total;
        bytes memory problem;
        for (uint256 i = 0; i < count; ++i) {
            uint256 index = (first + 2 * i) % CHANNELS;
            configs[i] = _configs[index];
            amounts[i] = uint128(1 + (seed >> (32 + 8 * i)) % (vaultOf[account][token] / 4 % MAX + 2));
            total += amounts[i];
            if (_models[index].balance + amounts[i] > MAX && problem.length == 0) {
                problem = _error(Scheme.DepositOverflow.selector);
            }
        }
        uint256 vault = vaultOf[account][token];
        if (problem.length == 0 && total > vault) {
            problem = abi.encodeWithSelector(IPaymentChannels.VaultTooLow.selector, account, token, vault, total);
        }
        (bool ok,) = attempt(account, address(channels), abi.encodeCall(channels.fund, (configs, amounts)), problem);
        if (!ok) return;
        vaultOf[account][token] -= total;
        for (uint256 i = 0; i < count; ++i) {
            _models[(first + 2 * i) % CHANNELS].balance += amounts[i];
        }
    }

    /* CLAIM */

    /// @dev Signs a voucher off chain: for a part of what is unclaimed, all of it, or somewhat more.
    function sign(uint256 seed) public {
        seed = _mixed(seed);
        uint256 index = _richOne(seed);
        Channel storage model = _models[index];
        uint256 ceiling = model.claimed + 1 + (seed >> 16) % (_unclaimed(model) * 9 / 8 + 2);
        if (ceiling > MAX) ceiling = MAX;
        bytes32 preimage = (seed >> 8) % 3 == 0 ? bytes32(seed) : bytes32(0);
        bytes32 digest = preimage == 0
            ? PaymentMessages.voucher(address(channels), _idOf(index), uint128(ceiling))
            : PaymentMessages.lockedVoucher(
                address(channels), _idOf(index), uint128(ceiling), keccak256(abi.encodePacked(preimage))
            );
        _kept.push(Kept(index, uint128(ceiling), preimage, _signedAs(index % 4, digest)));
        if (ceiling > model.ceiling) model.ceiling = ceiling;
    }

    function claim(uint256 seed) external watched {
        seed = _mixed(seed);
        Kept memory kept = _someKept(seed, false);
        uint256 total = _total(kept, seed >> 32);
        address sender = _receiverSide(kept.channel, seed >> 48);
        bytes memory problem = _problemOfClaim(kept.channel, kept.ceiling, total, true, sender);
        _strictClaim(kept, total, sender, problem, seed >> 56);
    }

    function claimLocked(uint256 seed) external watched {
        seed = _mixed(seed);
        Kept memory kept = _someKept(seed, true);
        uint256 total = _total(kept, seed >> 32);
        bool isWrong = (seed >> 40) % 16 == 0;
        address sender = _receiverSide(kept.channel, seed >> 48);
        uint256 claimed = _models[kept.channel].claimed;
        bytes memory problem = _problemOfClaim(kept.channel, kept.ceiling, total, !isWrong, sender);
        if (total <= claimed && problem.length == 0) {
            problem = abi.encodeWithSelector(IPaymentChannels.NothingToClaim.selector, _idOf(kept.channel), claimed);
        }
        bytes32 preimage = isWrong ? ~kept.preimage : kept.preimage;
        _calm();
        bytes memory call = abi.encodeCall(channels.claimLocked, (_rowOf(kept, total), preimage));
        (bool ok,) = attempt(sender, address(channels), call, problem);
        if (ok) _bookClaim(kept.channel, total);
    }

    /// @dev One to six rows, some of them spoiled, after a trial of the good ones alone.
    function claimAvailable(uint256 seed) external watched {
        seed = _mixed(seed);
        uint256 count = 1 + seed % 6;
        Scheme.VoucherClaim[] memory rows = new Scheme.VoucherClaim[](count);
        uint256[] memory indexes = new uint256[](count);
        bool[] memory isGood = new bool[](count);
        address sender = (seed >> 8) % 4 == 0 ? receivers[(seed >> 10) % 3] : claimer;
        for (uint256 i = 0; i < count; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, i)));
            Kept memory kept = _someKept(dice, false);
            rows[i] = _rowOf(kept, kept.ceiling);
            (indexes[i], isGood[i]) = (kept.channel, true);
            uint256 how = (dice >> 32) % 12;
            if (how > 3) continue;
            isGood[i] = false;
            if (how == 0) rows[i].signature = abi.encodePacked(dice, dice, dice);
            if (how == 1) rows[i].signature = "";
            if (how == 2) rows[i].voucher.maxClaimableAmount -= 1;
            if (how == 3) {
                indexes[i] = (kept.channel + 1) % CHANNELS;
                rows[i].voucher.channel = _configs[indexes[i]];
            }
        }
        IPaymentChannels.ClaimOutcome[] memory alone = _tryGood(rows, isGood, sender);
        (bool ok, bytes memory answer) =
            attempt(sender, address(channels), abi.encodeCall(channels.claimAvailable, (rows)), "");
        if (ok) _compare(rows, indexes, isGood, sender, alone, answer);
    }

    function settle(uint256 seed) external watched {
        seed = _mixed(seed);
        address receiver = receivers[seed % 3];
        address token = address(tokens[(seed >> 8) % 2]);
        uint256 owed = claimedFor[receiver][token] - settledTo[receiver][token];
        uint256[] memory before = _balances(token);
        (bool ok,) = attempt(stranger, address(channels), abi.encodeCall(channels.settle, (receiver, token)), "");
        if (!ok) return;
        settledTo[receiver][token] += owed;
        before[seed % 3] += owed;
        if (keccak256(abi.encode(before)) != keccak256(abi.encode(_balances(token)))) ++misdirected;
    }

    /* GIVE BACK */

    function initiateWithdraw(uint256 seed) public watched {
        seed = _mixed(seed);
        uint256 index = _richOne(seed);
        Channel storage model = _models[index];
        uint256 amount = 1 + (seed >> 16) % (_unclaimed(model) + ((seed >> 8) % 8 == 0 ? 1 : 0) + 1) * 7 / 8;
        if (amount > MAX) amount = MAX;
        bytes memory problem;
        if (model.pendingAt != 0) problem = _error(Scheme.WithdrawalAlreadyPending.selector);
        else if (amount > _unclaimed(model)) problem = _error(Scheme.WithdrawAmountExceedsAvailable.selector);
        bytes memory call = abi.encodeCall(channels.initiateWithdraw, (_configs[index], uint128(amount)));
        (bool ok,) = attempt(_configs[index].payer, address(channels), call, problem);
        if (ok) (model.pending, model.pendingAt) = (amount, vm.getBlockTimestamp());
    }

    function finalizeWithdraw(uint256 seed) external watched {
        seed = _mixed(seed);
        uint256 index = _pendingOne(seed);
        Channel storage model = _models[index];
        if ((seed >> 16) % 4 != 0 && model.pendingAt != 0) vm.warp(model.pendingAt + DELAY + (seed >> 24) % 2);
        bytes memory problem;
        if (model.pendingAt == 0) {
            problem = _error(Scheme.WithdrawalNotPending.selector);
        } else if (vm.getBlockTimestamp() < model.pendingAt + DELAY) {
            problem = _error(Scheme.WithdrawDelayNotElapsed.selector);
        }
        bytes memory call = abi.encodeCall(channels.finalizeWithdraw, (_configs[index]));
        (bool ok,) = attempt(_configs[index].payer, address(channels), call, problem);
        if (!ok) return;
        _bookReturn(index, model.pending < _unclaimed(model) ? model.pending : _unclaimed(model));
        (model.pending, model.pendingAt) = (0, 0);
    }

    function refund(uint256 seed) external watched {
        seed = _mixed(seed);
        uint256 index = _touch(seed);
        Channel storage model = _models[index];
        uint128 amount = uint128((seed >> 16) % (_unclaimed(model) / 2 + 2));
        uint256 nonce = model.refunds + ((seed >> 8) % 16 == 0 ? 1 : 0);
        bytes memory problem = amount == 0 ? _error(Scheme.ZeroRefund.selector) : bytes("");
        bytes memory call = abi.encodeCall(channels.refund, (_configs[index], amount));
        address sender = _configs[index].receiver;
        if ((seed >> 12) % 2 == 0) {
            bytes32 digest = PaymentMessages.refund(address(channels), _idOf(index), nonce, amount);
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(CLAIMER_KEY, digest);
            if (nonce != model.refunds) problem = _error(Scheme.InvalidRefundNonce.selector);
            call = abi.encodeCall(
                channels.refundWithSignature, (_configs[index], amount, nonce, abi.encodePacked(r, s, v))
            );
            sender = stranger;
        }
        (bool ok,) = attempt(sender, address(channels), call, problem);
        if (ok) _bookRefund(index, amount);
    }

    /* THIEVES, TIME AND CHANCE */

    /// @dev A kept voucher in another channel, contract or chain.
    function replay(uint256 seed) external watched {
        seed = _mixed(seed);
        Kept memory kept = _someKept(seed, false);
        Scheme.VoucherClaim memory row = _rowOf(kept, 1);
        bytes memory problem = _error(Scheme.InvalidSignature.selector);
        address target = address(channels);
        uint256 where = (seed >> 32) % 3;
        if (where == 0) {
            uint256 index = (kept.channel + 1 + (seed >> 40) % (CHANNELS - 1)) % CHANNELS;
            row.voucher.channel = _configs[index];
            row.totalClaimed = uint128(_models[index].claimed + 1);
            problem = _problemOfClaim(index, kept.ceiling, _models[index].claimed + 1, false, claimer);
        }
        if (where == 1) target = address(twin);
        if (where == 2) vm.chainId(OTHER_CHAIN);
        bool isStrict = (seed >> 48) % 4 == 0;
        if (isStrict) _calm();
        Scheme.VoucherClaim[] memory rows = new Scheme.VoucherClaim[](1);
        rows[0] = row;
        vm.prank(claimer);
        (bool ok, bytes memory answer) = target.call(
            isStrict ? abi.encodeCall(channels.claim, (rows)) : abi.encodeCall(channels.claimAvailable, (rows))
        );
        vm.chainId(_chain);
        bool isAsPredicted = isStrict ? !ok && keccak256(answer) == keccak256(problem) : ok && _isRefusal(answer);
        if (!isAsPredicted && surprises++ == 0) (predictedProblem, surprisingAnswer) = (problem, answer);
    }

    /// @dev A stranger asks for everything that is not a stranger's.
    function strangersTry(uint256 seed) external watched {
        seed = _mixed(seed);
        uint256 index = _touch(seed);
        Kept memory kept = _someKept(seed, false);
        Scheme.VoucherClaim[] memory rows = new Scheme.VoucherClaim[](1);
        rows[0] = _rowOf(kept, 1);
        bytes[4] memory calls = [
            abi.encodeCall(channels.claim, (rows)),
            abi.encodeCall(channels.initiateWithdraw, (_configs[index], 1)),
            abi.encodeCall(channels.finalizeWithdraw, (_configs[index])),
            abi.encodeCall(channels.refund, (_configs[index], 1))
        ];
        bytes4[4] memory problems = [
            Scheme.NotAuthorizedToClaim.selector,
            Scheme.InvalidChannel.selector,
            Scheme.NotAuthorizedToFinalizeWithdraw.selector,
            Scheme.NotAuthorizedToRefund.selector
        ];
        attempt(stranger, address(channels), calls[(seed >> 8) % 4], _error(problems[(seed >> 8) % 4]));
    }

    function passTime(uint256 seed) external {
        vm.warp(vm.getBlockTimestamp() + _mixed(seed) % DELAY);
    }

    function donate(uint256 seed) external {
        seed = _mixed(seed);
        uint256 amount = (seed >> 8) % 1e6;
        tokens[seed % 2].mint(address(channels), amount);
        donated[address(tokens[seed % 2])] += amount;
    }

    /// @dev The wallet says no for a while, or burns all gas that it is given.
    function changeWallet(uint256 seed) external {
        seed = _mixed(seed);
        PaymentTestWallet.Manner manner = PaymentTestWallet.Manner.Truthful;
        if (seed % 4 == 0) manner = PaymentTestWallet.Manner.SayNo;
        if (seed % 4 == 1) manner = PaymentTestWallet.Manner.BurnGas;
        wallet.behave(manner);
    }

    /* HELP */

    function _strictClaim(Kept memory kept, uint256 total, address sender, bytes memory problem, uint256 dice) private {
        Scheme.VoucherClaim[] memory rows = new Scheme.VoucherClaim[](1);
        rows[0] = _rowOf(kept, total);
        bytes memory call = abi.encodeCall(channels.claim, (rows));
        if (dice % 3 == 0 && sender != stranger) {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(CLAIMER_KEY, PaymentMessages.claimBatch(address(channels), rows));
            call = abi.encodeCall(channels.claimWithSignature, (rows, abi.encodePacked(r, s, v)));
            sender = stranger;
        }
        _calm();
        (bool ok,) = attempt(sender, address(channels), call, problem);
        if (ok) _bookClaim(kept.channel, total);
    }

    function _tryGood(Scheme.VoucherClaim[] memory rows, bool[] memory isGood, address sender)
        private
        returns (IPaymentChannels.ClaimOutcome[] memory)
    {
        uint256 count;
        for (uint256 i = 0; i < rows.length; ++i) {
            if (isGood[i]) ++count;
        }
        if (count == 0) return new IPaymentChannels.ClaimOutcome[](0);
        Scheme.VoucherClaim[] memory good = new Scheme.VoucherClaim[](count);
        for (uint256 i = rows.length; i > 0; --i) {
            if (isGood[i - 1]) good[--count] = rows[i - 1];
        }
        uint256 snapshot = vm.snapshotState();
        vm.prank(sender);
        IPaymentChannels.ClaimOutcome[] memory outcomes = channels.claimAvailable(good);
        vm.revertToState(snapshot);
        return outcomes;
    }

    function _compare(
        Scheme.VoucherClaim[] memory rows,
        uint256[] memory indexes,
        bool[] memory isGood,
        address sender,
        IPaymentChannels.ClaimOutcome[] memory alone,
        bytes memory answer
    ) private {
        IPaymentChannels.ClaimOutcome[] memory outcomes = abi.decode(answer, (IPaymentChannels.ClaimOutcome[]));
        uint256 good;
        for (uint256 i = 0; i < rows.length; ++i) {
            uint256 total = rows[i].totalClaimed;
            if (isGood[i] && alone[good++] != outcomes[i]) ++spoiled;
            IPaymentChannels.ClaimOutcome predicted =
                _outcomeOf(indexes[i], rows[i].voucher.maxClaimableAmount, total, isGood[i], sender);
            if (predicted != outcomes[i] && surprises++ == 0) surprisingAnswer = answer;
            if (predicted <= IPaymentChannels.ClaimOutcome.ClaimedInPart) _bookClaim(indexes[i], total);
        }
    }

    function _bookRefund(uint256 index, uint256 amount) private {
        Channel storage model = _models[index];
        ++model.refunds;
        if (amount > _unclaimed(model)) amount = _unclaimed(model);
        _bookReturn(index, amount);
        model.pending = amount < model.pending ? model.pending - amount : 0;
        if (model.pending == 0) model.pendingAt = 0;
    }

    /// @dev The wallet burns gas for `claimAvailable` alone; elsewhere it has no bound, and says no.
    function _calm() private {
        if (wallet.manner() == PaymentTestWallet.Manner.BurnGas) wallet.behave(PaymentTestWallet.Manner.SayNo);
    }

    function _isRefusal(bytes memory answer) private pure returns (bool) {
        return abi.decode(answer, (IPaymentChannels.ClaimOutcome[]))[0] > IPaymentChannels.ClaimOutcome.ClaimedInPart;
    }

    function _balances(address token) private view returns (uint256[] memory balances) {
        address[5] memory accounts = [receivers[0], receivers[1], receivers[2], payers[0], payers[1]];
        balances = new uint256[](5);
        for (uint256 i = 0; i < 5; ++i) {
            (, bytes memory answer) = token.staticcall(abi.encodeWithSignature("balanceOf(address)", accounts[i]));
            balances[i] = abi.decode(answer, (uint256));
        }
    }

    /// @dev The ceiling, a part of it, or one unit too much; mostly no more than there is.
    function _total(Kept memory kept, uint256 dice) private view returns (uint256 total) {
        Channel storage model = _models[kept.channel];
        if (dice % 16 == 0) return uint256(kept.ceiling) + (kept.ceiling == MAX ? 0 : 1);
        total = dice % 4 == 1 ? kept.ceiling / 2 : kept.ceiling;
        if (total > model.balance && dice % 8 != 2) total = model.balance;
    }

    function _receiverSide(uint256 index, uint256 dice) private view returns (address) {
        return dice % 2 == 0 ? claimer : _configs[index].receiver;
    }

    /// @dev One of the latest kept vouchers; signed now where there is none of the kind, and mostly where it is locked.
    function _someKept(uint256 dice, bool isLocked) private returns (Kept memory) {
        uint256 count = _kept.length;
        uint256 looks = isLocked && (dice >> 24) % 4 != 0 ? 0 : 12;
        for (uint256 i = 0; i < looks && i < count; ++i) {
            Kept storage kept = _kept[count - 1 - (dice + i) % (count < 12 ? count : 12)];
            if ((kept.preimage != 0) == isLocked) {
                lastTouched = kept.channel;
                return kept;
            }
        }
        for (uint256 i = 0; i < 32; ++i) {
            sign(dice + i);
            Kept storage kept = _kept[_kept.length - 1];
            if ((kept.preimage != 0) == isLocked) return kept;
        }
        revert("no voucher of the kind");
    }

    /// @dev A channel with unclaimed money and no withdrawal pending, where there is one.
    function _richOne(uint256 dice) private returns (uint256) {
        for (uint256 i = 0; i < CHANNELS; ++i) {
            Channel storage model = _models[(dice % CHANNELS + i) % CHANNELS];
            if (_unclaimed(model) != 0 && model.pendingAt == 0) return _touch(dice % CHANNELS + i);
        }
        return _touch(dice);
    }

    /// @dev A channel with a withdrawal pending, where there is one.
    function _pendingOne(uint256 dice) private returns (uint256) {
        for (uint256 i = 0; i < CHANNELS; ++i) {
            if (_models[(dice % CHANNELS + i) % CHANNELS].pendingAt != 0) return _touch(dice % CHANNELS + i);
        }
        return _touch(dice);
    }

    /// @dev 1 to 10^6; seldom nothing at all, one unit, or a third of all that fits.
    function _amount(uint256 dice) private pure returns (uint256) {
        uint256 how = dice % 64;
        if (how == 0) return 0;
        if (how == 1) return 1;
        if (how == 2) return MAX / 3;
        return 1 + (dice >> 8) % 1e6;
    }

    function _touch(uint256 dice) private returns (uint256) {
        return lastTouched = dice % CHANNELS;
    }

    function _mixed(uint256 seed) private returns (uint256) {
        return uint256(keccak256(abi.encode(seed, ++_nonce)));
    }
}
