// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowKit, RentalMessages } from "./DepositEscrowKit.sol";
import { Attempts, vm } from "./TestBase.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";

/// @title DepositEscrowHandler
/// @notice Random histories of the escrow: two owners, two renters, two devices and an arbiter rent, cheat, argue and sleep.
/// Before each call the model says what will come of it, to the exact error. A third of the calls are signed and go
/// through `relay`. It begins with a rental in every state; a call that finds nothing to do reverts.
contract DepositEscrowHandler is DepositEscrowKit, Attempts {
    struct Offer {
        I.Terms terms;
        bytes32 id;
        bool isSpent;
        uint256 opens;
    }

    struct Model {
        uint256 offer;
        address renter;
        address mask;
        /// @dev The scalar behind the mask; 0 where no key fits it.
        uint256 m;
        bytes32 id;
        I.RentalState state;
        uint256 deadline;
        uint256 held;
        uint256 claimed;
        uint256 paidIn;
        uint256 ownerGot;
        uint256 renterGot;
        uint256 charge;
        uint256 award;
        uint256 mostClaimed;
        uint256 cameAt;
        uint256 leftAt;
        bool isHandedOver;
        bool isCheckedOut;
        uint256 endings;
    }

    struct Nonce {
        address account;
        uint256 nonce;
    }

    uint256 internal constant ACTORS = 6;
    uint256 internal constant TOKENS = 2;
    /// @dev With every bit set nothing goes wrong: no forgery, no stranger, no relay.
    uint256 private constant RIGHTLY = type(uint256).max;
    uint256 private constant STATES = 8;
    address[ACTORS] private _actors;
    mapping(address account => uint256 secret) private _secretOf;
    DevDollar[TOKENS] private _tokens;
    Offer[] private _offers;
    Model[] private _models;
    Nonce[] private _relayed;
    uint256 private _salts;
    uint256 private _keyX;
    uint256 private _keyY;

    /// @notice What the model says that an account can withdraw.
    mapping(address account => mapping(address token => uint256 amount)) public creditModel;
    /// @notice How often the calls that went through led to each state.
    uint256[STATES] public reached;
    /// @notice How often a rental was closed from each state.
    uint256[STATES] public closedFrom;
    /// @notice How often each function of the escrow went through, and how often by a signed call.
    mapping(bytes4 selector => uint256 count) public went;
    mapping(bytes4 selector => uint256 count) public wentRelayed;
    /// @notice What was sent to the escrow unasked.
    mapping(address token => uint256 amount) public donated;

    constructor() {
        setUp();
        (_keyX, _keyY) = RentalMessages.point(ACCESS_KEY);
        _tokens[0] = dollar;
        _tokens[1] = new DevDollar();
        uint256[ACTORS] memory secrets =
            [OWNER_SECRET, 0x07E13, RENTER_SECRET, 0x4E47E5, ARBITER_SECRET, STRANGER_SECRET];
        for (uint256 i = 0; i < ACTORS; ++i) {
            _actors[i] = vm.addr(secrets[i]);
            _secretOf[_actors[i]] = secrets[i];
            for (uint256 j = 0; j < TOKENS; ++j) {
                _tokens[j].mint(actor(i), 1e60);
                vm.prank(actor(i));
                _tokens[j].approve(address(escrow), type(uint256).max);
            }
        }
        _newOffer(0x1230);
        for (uint256 state = 1; state < STATES - 1; ++state) {
            _bringTo(I.RentalState(state));
        }
    }

    /// @dev A new rental, with somebody's deposit, that everybody acts rightly on until it is in `state`.
    function _bringTo(I.RentalState state) private {
        uint256 shape = uint256(keccak256(abi.encode("a rental in", state))) | 0xff0;
        _open(_newOffer(shape), RIGHTLY);
        Model storage made = _models[_models.length - 1];
        if (state >= I.RentalState.Active) _handOver(made, RIGHTLY);
        if (state == I.RentalState.CheckedIn) _checkIn(made, RIGHTLY);
        if (state >= I.RentalState.CheckedOut) _checkOut(made, RIGHTLY);
        if (state >= I.RentalState.Claimed) _claim(made, RIGHTLY);
        if (state == I.RentalState.Disputed) _answer(made, false, RIGHTLY);
        require(made.state == state, "not brought there");
    }

    /* OFFER, OPEN */

    function offer(uint256 shape) external {
        _newOffer(_mix(shape));
    }

    function _newOffer(uint256 shape) private returns (uint256) {
        isP256 = shape & 1 == 1;
        I.Terms memory terms;
        terms.owner = actor((shape >> 1) & 1);
        terms.token = address(_tokens[(shape >> 2) & 1]);
        terms.fee = shape & 0x30 == 0 ? 0 : uint96(shape >> 160);
        terms.rate = shape & 0xc0 == 0 ? type(uint96).max : uint96((shape >> 140) & 0xffff);
        terms.meterCap = shape & 0x300 == 0 ? 0 : uint96(shape >> 130);
        terms.deposit = shape & 0xc00 == 0 ? 0 : uint96(shape >> 120);
        terms.signerHash = keccak256(signerBytes());
        terms.arbiter = actor(4);
        (terms.keyX, terms.keyY) = (_keyX, _keyY);
        terms.start = uint40(_now() + (shape >> 16) % (shape & 0x3000 == 0 ? 2 hours : 3 days));
        terms.end = terms.start + 1 + uint40((shape >> 32) % 2 days);
        terms.grace = uint32(20 minutes + (shape >> 48) % 23 hours);
        terms.claimWindow = uint32(10 minutes + (shape >> 64) % 20 days);
        terms.replyWindow = uint32(10 minutes + (shape >> 72) % 20 days);
        terms.rulingWindow = uint32(10 minutes + (shape >> 80) % 20 days);
        terms.salt = ++_salts;
        Offer storage made = _offers.push();
        (made.terms, made.id) = (terms, escrow.termsId(terms));
        return _offers.length - 1;
    }

    /// @dev Mostly new terms, now and then old ones; one mask in 32 that no key fits.
    function open(uint256 which, uint256 how) external {
        how = _mix(how);
        _open(how & 0xf != 0 ? _newOffer(_mix(how)) : _pickOffer(which, how >> 4), how >> 8);
    }

    function _open(uint256 index, uint256 how) private {
        Offer storage chosen = _offers[index];
        Model memory made;
        made.offer = index;
        made.renter = how & 0x1f0 == 0 ? chosen.terms.owner : actor(2 + (how >> 8) % 2);
        made.m = how & 0x1f000 == 0 ? 0 : 1 + uint256(keccak256(abi.encode("m", _models.length))) % (SECP256K1_N - 1);
        made.mask = made.m == 0 ? address(uint160(how | 1)) : vm.addr(made.m);
        I.Rental memory rental = rentalAt(made);
        made.id = escrow.rentalId(rental);
        bytes memory signature = how & 0x1f0000 == 0
            ? signEcdsa(STRANGER_SECRET, chosen.id)
            : signEcdsa(_secretOf[chosen.terms.owner], chosen.id);
        bytes memory problem = _openProblem(chosen, made.renter, how & 0x1f0000 == 0);
        (address caller, bytes memory call) = _openCall(rental, signature, how);
        if (!_act(caller, call, problem, how)) return;
        (chosen.isSpent, chosen.opens) = (true, chosen.opens + 1);
        (made.state, made.deadline) = (I.RentalState.Opened, _handOverDeadline(chosen.terms));
        ++reached[uint256(I.RentalState.Opened)];
        made.held = uint256(chosen.terms.fee) + chosen.terms.meterCap + chosen.terms.deposit;
        made.paidIn = made.held;
        _models.push(made);
    }

    function _openCall(I.Rental memory rental, bytes memory signature, uint256 how)
        private
        view
        returns (address, bytes memory)
    {
        if (how & 0x200000 == 0) {
            return (
                rental.renter,
                abi.encodeCall(
                    escrow.open, (rental.terms, signature, rental.mask, rental.ephemeralX, rental.ephemeralY)
                )
            );
        }
        bytes memory paid = _authorization(rental);
        bytes memory call = abi.encodeCall(escrow.openWithAuthorization, (rental, signature, 0, type(uint40).max, paid));
        return (actor(5), call);
    }

    function _authorization(I.Rental memory rental) private view returns (bytes memory) {
        bytes32 typeHash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        uint256 value = uint256(rental.terms.fee) + rental.terms.meterCap + rental.terms.deposit;
        bytes32 id = escrow.rentalId(rental);
        bytes32 structHash =
            keccak256(abi.encode(typeHash, rental.renter, address(escrow), value, 0, type(uint40).max, id));
        return signEcdsa(_secretOf[rental.renter], typedDigest("pyiot dev dollar", rental.terms.token, structHash));
    }

    function _openProblem(Offer storage chosen, address renter_, bool isForged) private view returns (bytes memory) {
        uint256 deadline = _handOverDeadline(chosen.terms);
        if (renter_ == chosen.terms.owner) return abi.encodeWithSelector(I.RenterIsOwner.selector, renter_);
        if (_now() >= deadline) return _windowIsOver(deadline);
        if (isForged) return abi.encodeWithSelector(I.TermsNotSigned.selector, chosen.id, chosen.terms.owner);
        if (chosen.isSpent) {
            return abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, chosen.terms.owner, chosen.terms.salt);
        }
        return "";
    }

    function cancelOffer(uint256 which, uint256 how) external {
        how = _mix(how);
        Offer storage chosen = _offers[_pickOffer(which, how)];
        bytes memory problem;
        if (chosen.isSpent) {
            problem = abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, chosen.terms.owner, chosen.terms.salt);
        }
        bytes memory call = abi.encodeCall(escrow.cancelNonce, (chosen.terms.salt));
        if (_act(chosen.terms.owner, call, problem, how)) chosen.isSpent = true;
    }

    /// @dev By the owner until the check-out, or by anybody once the hand-over is late.
    function refund(uint256 which, uint256 how) external {
        how = _mix(how);
        bool isOwner = how & 0x300000 != 0;
        Model storage made = isOwner
            ? _pick(which, _states(I.RentalState.Opened, I.RentalState.CheckedIn), how)
            : _pick(which, 1 << uint256(I.RentalState.Opened), how & ~uint256(0x3e0));
        address caller = isOwner ? _ownerOf(made) : actor(how >> 24);
        isOwner = caller == _ownerOf(made);
        I.RentalState last = isOwner ? I.RentalState.CheckedIn : I.RentalState.Opened;
        bytes memory problem;
        if (made.state > last) problem = _stateInvalid(made, last);
        else if (!isOwner && _now() < made.deadline) problem = _windowIsOpen(made.deadline);
        if (_act(caller, abi.encodeCall(escrow.refund, (rentalAt(made))), problem, how)) _end(made, 0, made.held);
    }

    /* HAND OVER, USE */

    function handOver(uint256 which, uint256 how) external {
        how = _mix(how);
        _handOver(_pick(which, 1 << uint256(I.RentalState.Opened), how), how);
    }

    function _handOver(Model storage made, uint256 how) private {
        uint256 releasedKey = addmod(ACCESS_KEY, made.m, SECP256K1_N);
        bool isWrong = made.m == 0 || how & 0x1f00000 == 0;
        if (isWrong) releasedKey = how % SECP256K1_N;
        address caller = how & 0x1f000000 == 0 ? actor(how >> 30) : _ownerOf(made);
        bytes memory problem = _problem(made, caller, _ownerOf(made), I.CallerNotOwner.selector, I.RentalState.Opened);
        if (problem.length == 0 && isWrong) problem = abi.encodeWithSelector(I.AccessKeyInvalid.selector, made.id);
        bytes memory call = abi.encodeCall(escrow.handOver, (rentalAt(made), releasedKey));
        if (!_act(caller, call, problem, how)) return;
        made.isHandedOver = true;
        _enter(made, I.RentalState.Active, uint256(_offers[made.offer].terms.end) + 1 days);
    }

    function checkIn(uint256 which, uint256 how) external {
        how = _mix(how);
        _checkIn(_pick(which, 1 << uint256(I.RentalState.Active), how), how);
    }

    function _checkIn(Model storage made, uint256 how) private {
        Offer storage chosen = _offers[made.offer];
        bytes memory problem;
        if (made.state != I.RentalState.Active) problem = _stateInvalid(made, I.RentalState.Active);
        else if (_now() >= made.deadline) problem = _windowIsOver(made.deadline);
        else if (_now() >= chosen.terms.end) problem = _windowIsOver(chosen.terms.end);
        I.CheckIn memory said = I.CheckIn(_saidOf(made, how), uint40(_now()), bytes32(how));
        bytes memory signer = _signerOf(made, how);
        if (problem.length == 0) problem = _statementProblem(chosen, said.termsId, signer, how);
        bytes memory signature = sign(_deviceSecret(how), escrow.checkInDigest(said));
        bytes memory call = abi.encodeCall(escrow.checkIn, (rentalAt(made), said, signer, signature));
        if (!_act(actor(how >> 200), call, problem, how)) return;
        made.cameAt = _now();
        _enter(made, I.RentalState.CheckedIn, made.deadline);
    }

    function checkOut(uint256 which, uint256 how) external {
        how = _mix(how);
        _checkOut(_pick(which, _states(I.RentalState.Active, I.RentalState.CheckedIn), how), how);
    }

    function _checkOut(Model storage made, uint256 how) private {
        Offer storage chosen = _offers[made.offer];
        bytes memory problem;
        if (made.state != I.RentalState.Active && made.state != I.RentalState.CheckedIn) {
            problem = abi.encodeWithSelector(I.RentalNotActive.selector, made.id, made.state);
        } else if (_now() >= made.deadline) {
            problem = _windowIsOver(made.deadline);
        }
        uint64 units = how & 0x3000 == 0 ? uint64(1 << 63) : uint64(how >> 128) % 1000;
        I.CheckOut memory said = I.CheckOut(_saidOf(made, how), uint40(_now()), units, bytes32(how));
        bytes memory signer = _signerOf(made, how);
        if (problem.length == 0) problem = _statementProblem(chosen, said.termsId, signer, how);
        bytes memory signature = sign(_deviceSecret(how), escrow.checkOutDigest(said));
        bytes memory call = abi.encodeCall(escrow.checkOut, (rentalAt(made), said, signer, signature));
        if (!_act(actor(how >> 200), call, problem, how)) return;
        uint256 metered = uint256(chosen.terms.rate) * units;
        (made.isCheckedOut, made.leftAt) = (true, _now());
        _charge(made, metered < chosen.terms.meterCap ? metered : chosen.terms.meterCap);
    }

    /// @dev One statement in 32 is about other terms.
    function _saidOf(Model storage made, uint256 how) private view returns (bytes32) {
        return how & 0x1f00000 == 0 ? _offers[how % _offers.length].id : _offers[made.offer].id;
    }

    /// @dev The pinned device's signer, or one time in 32 the other kind's. Sets the kind that signs.
    function _signerOf(Model storage made, uint256 how) private returns (bytes memory) {
        isP256 = false;
        isP256 = keccak256(signerBytes()) != _offers[made.offer].terms.signerHash;
        if (how & 0x1f000000 == 0) isP256 = !isP256;
        return signerBytes();
    }

    /// @dev The device's key, or one time in 32 somebody's.
    function _deviceSecret(uint256 how) private pure returns (uint256) {
        return how & 0x1f00000000 == 0 ? STRANGER_SECRET : DEVICE_SECRET;
    }

    function _statementProblem(Offer storage chosen, bytes32 said, bytes memory signer, uint256 how)
        private
        view
        returns (bytes memory)
    {
        if (said != chosen.id) return abi.encodeWithSelector(I.StatementOfOtherTerms.selector, said, chosen.id);
        if (keccak256(signer) != chosen.terms.signerHash) {
            return abi.encodeWithSelector(I.SignerNotPinned.selector, keccak256(signer), chosen.terms.signerHash);
        }
        if (_deviceSecret(how) == DEVICE_SECRET) return "";
        return abi.encodeWithSelector(I.StatementNotSigned.selector, chosen.id);
    }

    /* CLAIM */

    function claim(uint256 which, uint256 how) external {
        how = _mix(how);
        _claim(_pick(which, 1 << uint256(I.RentalState.CheckedOut), how), how);
    }

    function _claim(Model storage made, uint256 how) private {
        I.Terms storage terms = _offers[made.offer].terms;
        uint96 amount = how & 0x1f00000 == 0 ? uint96(how >> 100) : uint96((how >> 100) % (uint256(terms.deposit) + 1));
        address caller = how & 0x1f000000 == 0 ? actor(how >> 30) : _ownerOf(made);
        bytes memory problem =
            _problem(made, caller, _ownerOf(made), I.CallerNotOwner.selector, I.RentalState.CheckedOut);
        if (problem.length == 0 && (amount == 0 || amount > terms.deposit)) {
            problem = abi.encodeWithSelector(I.ClaimOutOfBounds.selector, amount, terms.deposit);
        }
        bytes memory call = abi.encodeCall(escrow.claim, (rentalAt(made), amount, bytes32(how)));
        if (!_act(caller, call, problem, how)) return;
        _pay(made, 0, uint256(terms.deposit) - amount);
        _enter(made, I.RentalState.Claimed, _now() + terms.replyWindow);
        (made.claimed, made.mostClaimed) = (amount, amount);
    }

    function accept(uint256 which, uint256 how) external {
        how = _mix(how);
        _answer(_pick(which, 1 << uint256(I.RentalState.Claimed), how), true, how);
    }

    function reject(uint256 which, uint256 how) external {
        how = _mix(how);
        _answer(_pick(which, 1 << uint256(I.RentalState.Claimed), how), false, how);
    }

    function _answer(Model storage made, bool accepts, uint256 how) private {
        address caller = how & 0x1f000000 == 0 ? actor(how >> 30) : made.renter;
        bytes memory problem = _problem(made, caller, made.renter, I.CallerNotRenter.selector, I.RentalState.Claimed);
        I.Rental memory rental = rentalAt(made);
        bytes memory call = accepts ? abi.encodeCall(escrow.accept, (rental)) : abi.encodeCall(escrow.reject, (rental));
        if (!_act(caller, call, problem, how)) return;
        if (accepts) {
            made.award = made.held;
            return _end(made, made.held, 0);
        }
        _enter(made, I.RentalState.Disputed, _now() + _offers[made.offer].terms.rulingWindow);
    }

    function rule(uint256 which, uint256 how) external {
        how = _mix(how);
        _rule(_pick(which, 1 << uint256(I.RentalState.Disputed), how), how);
    }

    function _rule(Model storage made, uint256 how) private {
        uint96 award = how & 0x1f00000 == 0 ? uint96(how >> 100) : uint96((how >> 100) % (made.claimed + 1));
        address caller = how & 0x1f000000 == 0 ? actor(how >> 30) : actor(4);
        bytes memory problem = _problem(made, caller, actor(4), I.CallerNotArbiter.selector, I.RentalState.Disputed);
        if (problem.length == 0 && award > made.claimed) {
            problem = abi.encodeWithSelector(I.AwardTooHigh.selector, award, made.claimed);
        }
        if (!_act(caller, abi.encodeCall(escrow.rule, (rentalAt(made), award)), problem, how)) return;
        made.award = award;
        _end(made, award, made.held - award);
    }

    function waive(uint256 which, uint256 how) external {
        how = _mix(how);
        _waive(_pick(which, _states(I.RentalState.CheckedOut, I.RentalState.Disputed), how), how);
    }

    function _waive(Model storage made, uint256 how) private {
        address caller = how & 0x1f000000 == 0 ? actor(how >> 30) : _ownerOf(made);
        bytes memory problem;
        if (caller != _ownerOf(made)) {
            problem = abi.encodeWithSelector(I.CallerNotOwner.selector, caller, _ownerOf(made));
        } else if (made.state < I.RentalState.CheckedOut || made.state == I.RentalState.Closed) {
            problem = abi.encodeWithSelector(I.RentalNotCheckedOut.selector, made.id, made.state);
        }
        if (_act(caller, abi.encodeCall(escrow.waive, (rentalAt(made))), problem, how)) _end(made, 0, made.held);
    }

    /* CLOSE, MONEY, TIME */

    function closeOpened(uint256 which, uint256 how) external {
        _close(_pickToClose(which, I.RentalState.Opened), _mix(how));
    }

    function closeActive(uint256 which, uint256 how) external {
        _close(_pickToClose(which, I.RentalState.Active), _mix(how));
    }

    function closeCheckedIn(uint256 which, uint256 how) external {
        _close(_pickToClose(which, I.RentalState.CheckedIn), _mix(how));
    }

    function closeCheckedOut(uint256 which, uint256 how) external {
        _close(_pickToClose(which, I.RentalState.CheckedOut), _mix(how));
    }

    function closeClaimed(uint256 which, uint256 how) external {
        _close(_pickToClose(which, I.RentalState.Claimed), _mix(how));
    }

    function closeDisputed(uint256 which, uint256 how) external {
        _close(_pickToClose(which, I.RentalState.Disputed), _mix(how));
    }

    /// @dev Whatever its state and its deadline.
    function closeAny(uint256 which, uint256 how) external {
        _close(_models[which % _models.length], _mix(how));
    }

    function _close(Model storage made, uint256 how) private {
        I.RentalState from = made.state;
        bytes memory problem;
        if (from == I.RentalState.Closed) problem = abi.encodeWithSelector(I.RentalNotOpen.selector, made.id, from);
        else if (_now() < made.deadline) problem = _windowIsOpen(made.deadline);
        if (!_act(actor(how >> 30), abi.encodeCall(escrow.close, (rentalAt(made))), problem, how)) return;
        ++closedFrom[uint256(from)];
        if (from == I.RentalState.CheckedIn) return _charge(made, 0);
        bool isClaimed = from == I.RentalState.Claimed;
        if (isClaimed) made.award = made.held;
        _end(made, isClaimed ? made.held : 0, isClaimed ? 0 : made.held);
    }

    function withdraw(uint256 who, uint256 how) external {
        how = _mix(how);
        (address account, address token) = _pickCredit(who, how);
        uint256 credit = creditModel[account][token];
        uint256 amount = how & 0x70 == 0 ? credit + 1 : credit - credit % (1 + (how >> 8));
        bytes memory problem;
        if (amount > credit) {
            problem = abi.encodeWithSelector(ICredits.CreditTooLow.selector, account, token, credit, amount);
        }
        bytes memory call = abi.encodeCall(escrow.withdraw, (token, amount, account));
        if (_act(account, call, problem, how)) creditModel[account][token] -= amount;
    }

    function donate(uint256 how) external {
        DevDollar token = _tokens[how & 1];
        token.mint(address(escrow), how % 1000);
        donated[address(token)] += how % 1000;
    }

    function passTime(uint256 how) external {
        how = _mix(how);
        vm.warp(_now() + (how & 0xf00 == 0 ? (how >> 16) % 2 days : (how >> 16) % 20 minutes));
    }

    /* FOR THE INVARIANTS */

    function actor(uint256 who) public view returns (address) {
        return _actors[who % ACTORS];
    }

    function escrowAddress() external view returns (address) {
        return address(escrow);
    }

    function tokens() external view returns (DevDollar[TOKENS] memory) {
        return _tokens;
    }

    function count() external view returns (uint256) {
        return _models.length;
    }

    function modelOf(uint256 index) external view returns (Model memory, I.Rental memory) {
        return (_models[index], rentalAt(_models[index]));
    }

    function relayedNonces() external view returns (Nonce[] memory) {
        return _relayed;
    }

    function offerCount() external view returns (uint256) {
        return _offers.length;
    }

    function offerAt(uint256 index) external view returns (Offer memory) {
        return _offers[index];
    }

    /* INTERNAL */

    function rentalAt(Model memory made) private view returns (I.Rental memory) {
        return I.Rental(_offers[made.offer].terms, made.renter, made.mask, made.m, made.offer);
    }

    function _ownerOf(Model storage made) private view returns (address) {
        return _offers[made.offer].terms.owner;
    }

    /// @dev Calls the escrow as `caller`: twice in three times directly, else by a signed call that somebody sends. One in
    /// ten of those is late, forged, or has a nonce that was used before.
    function _act(address caller, bytes memory call, bytes memory problem, uint256 how) private returns (bool ok) {
        uint256 dice = how >> 240;
        if (dice % 3 == 0 && how != RIGHTLY) return _relay(caller, call, problem, dice / 3);
        (ok,) = attempt(caller, address(escrow), call, problem);
        if (ok) ++went[bytes4(call)];
    }

    function _relay(address caller, bytes memory call, bytes memory problem, uint256 dice) private returns (bool ok) {
        IRelayed.SignedCall memory request = IRelayed.SignedCall(caller, call, ++_salts, uint40(_now() + 1));
        uint256 secret = _secretOf[caller];
        if (dice % 30 == 0) {
            request.deadline = uint40(_now());
            problem = abi.encodeWithSelector(IRelayed.SignedCallExpired.selector, request.deadline, _now());
        } else if (dice % 30 == 1) {
            secret = DEVICE_SECRET;
            problem = abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, caller);
        } else if (dice % 30 == 2 && _relayed.length != 0) {
            Nonce storage used = _relayed[dice % _relayed.length];
            (request.sender, request.nonce, secret) = (used.account, used.nonce, _secretOf[used.account]);
            problem = abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, used.account, used.nonce);
        }
        bytes memory signature = signEcdsa(secret, RentalMessages.signedCall(address(escrow), request));
        bytes memory relayed = abi.encodeCall(escrow.relay, (request, signature));
        (ok,) = attempt(actor(dice), address(escrow), relayed, problem);
        if (!ok) return false;
        _relayed.push(Nonce(caller, request.nonce));
        ++went[bytes4(call)];
        ++wentRelayed[bytes4(call)];
    }

    /// @dev Seven times in eight terms that are still to be had.
    function _pickOffer(uint256 which, uint256 how) private view returns (uint256) {
        uint256 total = _offers.length;
        if (how & 0x7 == 0) return which % total;
        for (uint256 i = 0; i < total; ++i) {
            uint256 index = (which % total + i) % total;
            if (!_offers[index].isSpent && _now() < _handOverDeadline(_offers[index].terms)) return index;
        }
        revert NothingToDo();
    }

    /// @dev A rental in one of `states` whose deadline is still to come; one time in 32 one whose deadline has come,
    /// and one time in 32 any.
    function _pick(uint256 which, uint256 states, uint256 how) private view returns (Model storage made) {
        uint256 total = _models.length;
        if (how & 0x1f == 0) return _models[which % total];
        bool isLate = how & 0x3e0 == 0;
        for (uint256 i = 0; i < total; ++i) {
            made = _models[(which % total + i) % total];
            if (states & (1 << uint256(made.state)) != 0 && (_now() >= made.deadline) == isLate) return made;
        }
        revert NothingToDo();
    }

    /// @dev The rental in `state` whose deadline comes first. If it is still to come, one time in three it comes now.
    function _pickToClose(uint256 which, I.RentalState state) private returns (Model storage made) {
        uint256 total = _models.length;
        uint256 first = total;
        for (uint256 i = 0; i < total; ++i) {
            uint256 index = (which % total + i) % total;
            if (_models[index].state != state) continue;
            if (first == total || _models[index].deadline < _models[first].deadline) first = index;
        }
        require(first != total, NothingToDo());
        made = _models[first];
        if (_now() >= made.deadline) return made;
        require(_mix(which) % 3 == 0, NothingToDo());
        vm.warp(made.deadline);
    }

    /// @dev Seven times in eight somebody's that is not zero.
    function _pickCredit(uint256 who, uint256 how) private view returns (address account, address token) {
        for (uint256 i = 0; i < ACTORS * TOKENS; ++i) {
            (account, token) = (actor(who % ACTORS + i / TOKENS), address(_tokens[(how + i) % TOKENS]));
            if (creditModel[account][token] != 0 || how & 0x700 == 0) return (account, token);
        }
        revert NothingToDo();
    }

    /// @dev The set of the states from `first` to `last`.
    function _states(I.RentalState first, I.RentalState last) private pure returns (uint256) {
        return (1 << (uint256(last) + 1)) - (1 << uint256(first));
    }

    /// @dev Asked of the cheats each time: the optimizer takes `block.timestamp` for one and the same during a call.
    function _now() private view returns (uint256) {
        return vm.getBlockTimestamp();
    }

    /// @dev The three guards that most calls begin with.
    function _problem(Model storage made, address caller, address role, bytes4 notRole, I.RentalState required)
        private
        view
        returns (bytes memory)
    {
        if (caller != role) return abi.encodeWithSelector(notRole, caller, role);
        if (made.state != required) return _stateInvalid(made, required);
        if (_now() >= made.deadline) return _windowIsOver(made.deadline);
        return "";
    }

    function _charge(Model storage made, uint256 metered) private {
        I.Terms storage terms = _offers[made.offer].terms;
        made.charge = terms.fee + metered;
        _pay(made, made.charge, terms.meterCap - metered);
        _enter(made, I.RentalState.CheckedOut, _now() + terms.claimWindow);
    }

    function _enter(Model storage made, I.RentalState state, uint256 deadline) private {
        (made.state, made.deadline) = (state, deadline);
        ++reached[uint256(state)];
    }

    function _end(Model storage made, uint256 owners, uint256 renters) private {
        _pay(made, owners, renters);
        _enter(made, I.RentalState.Closed, 0);
        (made.claimed, made.cameAt, made.leftAt) = (0, 0, 0);
        ++made.endings;
    }

    function _pay(Model storage made, uint256 owners, uint256 renters) private {
        address token = _offers[made.offer].terms.token;
        creditModel[_ownerOf(made)][token] += owners;
        creditModel[made.renter][token] += renters;
        made.ownerGot += owners;
        made.renterGot += renters;
        made.held -= owners + renters;
    }

    function _handOverDeadline(I.Terms storage terms) private view returns (uint256) {
        uint256 latest = uint256(terms.start) + terms.grace;
        return latest < terms.end ? latest : terms.end;
    }

    function _stateInvalid(Model storage made, I.RentalState required) private view returns (bytes memory) {
        return abi.encodeWithSelector(I.RentalStateInvalid.selector, made.id, made.state, required);
    }

    function _windowIsOver(uint256 deadline) private view returns (bytes memory) {
        return abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, _now());
    }

    function _windowIsOpen(uint256 deadline) private view returns (bytes memory) {
        return abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, deadline, _now());
    }

    /// @dev Forge likes small numbers; the model wants bits.
    function _mix(uint256 value) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(value)));
    }
}
