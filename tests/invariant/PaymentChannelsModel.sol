// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { PaymentMessages } from "./PaymentChannelsKit.sol";
import { Attempts, vm } from "./TestBase.sol";
import { Panic } from "@openzeppelin/contracts/utils/Panic.sol";
import { IPaymentChannels } from "contracts/interfaces/IPaymentChannels.sol";
import { IPaymentChannelsScheme as Scheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";
import { PaymentTestCollector } from "contracts/mocks/PaymentTestCollector.sol";
import { PaymentTestWallet } from "contracts/mocks/PaymentTestWallet.sol";
import { PaymentChannels } from "contracts/payment/PaymentChannels.sol";

/// @title PaymentChannelsModel
/// @notice The parties of twelve channels, what the channels must hold, and what every call must come to.
/// @dev Channel i is in token i % 2, pays receiver i % 3, and its vouchers are signed in way i % 4: by an authorizer, by a
/// P-256 device, by the payer, by the payer's contract account. The model adds and takes away; it knows no slot.
abstract contract PaymentChannelsModel is Attempts {
    struct Channel {
        uint256 balance;
        uint256 claimed;
        uint256 ceiling;
        uint256 pending;
        uint256 pendingAt;
        uint256 refunds;
    }

    /// @notice A voucher that a payer's side signed; locked where it has a preimage.
    struct Kept {
        uint256 channel;
        uint128 ceiling;
        bytes32 preimage;
        bytes signature;
    }

    uint256 public constant CHANNELS = 12;
    uint256 internal constant AUTHORIZER_KEY = 0xA07;
    uint256 internal constant DEVICE_KEY = 0xD0D;
    uint256 internal constant PAYER_KEY = 0xA11CE;
    uint256 internal constant CLAIMER_KEY = 0xC1A;
    uint256 internal constant P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551;
    uint256 internal constant MAX = type(uint128).max;
    uint40 internal constant DELAY = 1 hours;

    PaymentChannels public immutable channels;
    PaymentTestCollector public immutable collector;
    PaymentTestWallet public immutable wallet;
    DevDollar[2] public tokens;
    address[2] public payers;
    address[3] public receivers;
    address public claimer = vm.addr(CLAIMER_KEY);
    address public stranger = address(0x5744);

    Scheme.ChannelConfig[] internal _configs;
    Channel[] internal _models;
    bytes32[] internal _ids;
    Kept[] internal _kept;

    /// @notice What the model says of receivers, vaults, purses, and of money that came unasked.
    mapping(address receiver => mapping(address token => uint256 amount)) public claimedFor;
    mapping(address receiver => mapping(address token => uint256 amount)) public settledTo;
    mapping(address account => mapping(address token => uint256 amount)) public vaultOf;
    mapping(address account => mapping(address token => uint256 amount)) public purseOf;
    mapping(address token => uint256 amount) public donated;

    constructor(PaymentChannels channels_) {
        channels = channels_;
        collector = new PaymentTestCollector();
        wallet = new PaymentTestWallet(vm.addr(AUTHORIZER_KEY));
        payers = [vm.addr(PAYER_KEY), address(wallet)];
        receivers = [address(0xBEC1), address(0xBEC2), address(0xBEC3)];
        for (uint256 i = 0; i < 2; ++i) {
            tokens[i] = new DevDollar();
            _fill(payers[0], tokens[i]);
            _fill(payers[1], tokens[i]);
        }
        for (uint256 i = 0; i < CHANNELS; ++i) {
            _configs.push(_configAt(i));
            _models.push();
            _ids.push(PaymentMessages.channelId(address(channels), _configs[i]));
        }
    }

    /* READ */

    function configAt(uint256 index) external view returns (Scheme.ChannelConfig memory) {
        return _configs[index];
    }

    function modelAt(uint256 index) external view returns (Channel memory) {
        return _models[index];
    }

    function idAt(uint256 index) external view returns (bytes32) {
        return _ids[index];
    }

    /* PARTIES */

    function _configAt(uint256 index) private view returns (Scheme.ChannelConfig memory config) {
        uint256 way = index % 4;
        config.payer = payers[way == 3 ? 1 : 0];
        if (way == 0) config.payerAuthorizer = vm.addr(AUTHORIZER_KEY);
        if (way == 1) config.payerAuthorizer = address(bytes20(keccak256(_deviceSigner())));
        config.receiver = receivers[index % 3];
        config.receiverAuthorizer = claimer;
        config.token = address(tokens[index % 2]);
        config.withdrawDelay = DELAY;
        config.salt = bytes32(index);
    }

    function _fill(address account, DevDollar token) private {
        token.mint(account, 1 << 200);
        purseOf[account][address(token)] = 1 << 200;
        vm.startPrank(account);
        token.approve(address(collector), type(uint256).max);
        token.approve(address(channels), type(uint256).max);
        vm.stopPrank();
    }

    function _deviceSigner() private view returns (bytes memory) {
        (uint256 x, uint256 y) = vm.publicKeyP256(DEVICE_KEY);
        return abi.encodePacked(channels.p256Verifier(), x, y);
    }

    /// @dev What the payer's side of a channel signs.
    function _signedAs(uint256 way, bytes32 digest) internal view returns (bytes memory) {
        if (way == 1) {
            (bytes32 pr, bytes32 ps) = vm.signP256(DEVICE_KEY, digest);
            if (uint256(ps) > P256_N / 2) ps = bytes32(P256_N - uint256(ps));
            return abi.encodePacked(_deviceSigner(), pr, ps);
        }
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(way == 2 ? PAYER_KEY : AUTHORIZER_KEY, digest);
        return abi.encodePacked(r, s, v);
    }

    function _idOf(uint256 index) internal view returns (bytes32) {
        return _ids[index];
    }

    function _rowOf(Kept memory kept, uint256 total) internal view returns (Scheme.VoucherClaim memory) {
        return Scheme.VoucherClaim(Scheme.Voucher(_configs[kept.channel], kept.ceiling), kept.signature, uint128(total));
    }

    /* PREDICTIONS */

    function _unclaimed(Channel storage model) internal view returns (uint256) {
        return model.balance - model.claimed;
    }

    /// @dev The wallet is the payer of the fourth way, and says no to everything while it is told to.
    function _isWilling(uint256 index) internal view returns (bool) {
        return index % 4 != 3 || wallet.manner() == PaymentTestWallet.Manner.Truthful;
    }

    /// @dev What `claim` of one row by `sender` must revert with.
    function _problemOfClaim(uint256 index, uint256 ceiling, uint256 total, bool isSigned, address sender)
        internal
        view
        returns (bytes memory)
    {
        Channel storage model = _models[index];
        Scheme.ChannelConfig storage config = _configs[index];
        if (sender != config.receiver && sender != claimer) return _error(Scheme.NotAuthorizedToClaim.selector);
        if (total <= model.claimed) return "";
        if (total > ceiling) return _error(Scheme.ClaimExceedsCeiling.selector);
        if (total > model.balance) return _error(Scheme.ClaimExceedsBalance.selector);
        if (!isSigned || !_isWilling(index)) return _error(Scheme.InvalidSignature.selector);
        if (claimedFor[config.receiver][config.token] + total - model.claimed > MAX) {
            return abi.encodeWithSignature("Panic(uint256)", Panic.UNDER_OVERFLOW);
        }
        return "";
    }

    /// @dev What `claimAvailable` must say of one row by `sender`.
    function _outcomeOf(uint256 index, uint256 ceiling, uint256 total, bool isSigned, address sender)
        internal
        view
        returns (IPaymentChannels.ClaimOutcome)
    {
        Channel storage model = _models[index];
        Scheme.ChannelConfig storage config = _configs[index];
        if (sender != config.receiver && sender != claimer) return IPaymentChannels.ClaimOutcome.NotAuthorized;
        if (total > ceiling) return IPaymentChannels.ClaimOutcome.CeilingExceeded;
        if (total <= model.claimed) return IPaymentChannels.ClaimOutcome.AlreadyClaimed;
        if (model.claimed == model.balance) return IPaymentChannels.ClaimOutcome.BalanceExhausted;
        uint256 more = (total < model.balance ? total : model.balance) - model.claimed;
        if (claimedFor[config.receiver][config.token] + more > MAX) {
            return IPaymentChannels.ClaimOutcome.ReceiverTotalExceeded;
        }
        if (!isSigned || !_isWilling(index)) return IPaymentChannels.ClaimOutcome.SignatureInvalid;
        return
            total <= model.balance ? IPaymentChannels.ClaimOutcome.Claimed : IPaymentChannels.ClaimOutcome.ClaimedInPart;
    }

    /* BOOKKEEPING */

    function _bookClaim(uint256 index, uint256 total) internal {
        Channel storage model = _models[index];
        if (total > model.balance) total = model.balance;
        if (total <= model.claimed) return;
        claimedFor[_configs[index].receiver][_configs[index].token] += total - model.claimed;
        model.claimed = total;
    }

    function _bookReturn(uint256 index, uint256 amount) internal {
        _models[index].balance -= amount;
        purseOf[_configs[index].payer][_configs[index].token] += amount;
    }

    function _error(bytes4 selector) internal pure returns (bytes memory) {
        return abi.encodePacked(selector);
    }
}
