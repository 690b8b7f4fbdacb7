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
/// Before each call the model says what will come of it, to the exact error.
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

    uint256 internal constant ACTORS = 6;
    uint256 internal constant TOKENS = 2;
    uint256[ACTORS] private _secrets =
        [OWNER_SECRET, 0x07E13, RENTER_SECRET, 0x4E47E5, ARBITER_SECRET, STRANGER_SECRET];
    DevDollar[TOKENS] private _tokens;
    Offer[] private _offers;
    Model[] private _models;
    Model private _none;
    uint256 private _salts;
    uint256 private _keyX;
    uint256 private _keyY;

    /// @notice What the model says that an account can withdraw.
    mapping(address account => mapping(address token => uint256 amount)) public creditModel;
    /// @notice How often the calls that went through led to each state.
    uint256[8] public reached;
    /// @notice What was sent to the escrow unasked.
    mapping(address token => uint256 amount) public donated;

    constructor() {
        setUp();
        (_keyX, _keyY) = RentalMessages.point(ACCESS_KEY);
        _tokens[0] = dollar;
        _tokens[1] = new DevDollar();
        for (uint256 i = 0; i < ACTORS; ++i) {
            for (uint256 j = 0; j < TOKENS; ++j) {
                _tokens[j].mint(actor(i), 1e60);
                vm.prank(actor(i));
                _tokens[j].approve(address(escrow), type(uint256).max);
            }
        }
        _newOffer(0x1230);
    }

    /* OFFER, OPEN */

    function offer(uint256 shape) external {
        _newOffer(_mix(shape));
    }

    function _newOffer(uint256 shape) private {
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
        terms.start = uint40(block.timestamp + (shape >> 16) % 2 hours);
        terms.end = terms.start + 1 + uint40((shape >> 32) % 6 hours);
        terms.grace = uint32(20 minutes + (shape >> 48) % 4 hours);
        terms.claimWindow = uint32(10 minutes + (shape >> 64) % 3 hours);
        terms.replyWindow = uint32(10 minutes + (shape >> 72) % 3 hours);
        terms.rulingWindow = uint32(10 minutes + (shape >> 80) % 3 hours);
        terms.salt = ++_salts;
        Offer storage made = _offers.push();
        (made.terms, made.id) = (terms, escrow.termsId(terms));
    }

    /// @dev Mostly terms that are still to be had; one in eight others, one mask in eight that no key fits.
    function open(uint256 which, uint256 how) external {
        how = _mix(how);
        uint256 index = _pickOffer(which, how);
        Offer storage chosen = _offers[index];
        Model memory made;
        made.offer = index;
        made.renter = how & 0xf0 == 0 ? chosen.terms.owner : actor(2 + (how >> 8) % 2);
        made.m = how & 0x7000 == 0 ? 0 : 1 + uint256(keccak256(abi.encode("m", _models.length))) % (SECP256K1_N - 1);
        made.mask = made.m == 0 ? address(uint160(how | 1)) : vm.addr(made.m);
        I.Rental memory rental = rentalAt(made);
        made.id = escrow.rentalId(rental);
        bytes memory signature = how & 0x1f0000 == 0
            ? signEcdsa(STRANGER_SECRET, chosen.id)
            : signEcdsa(_secretOf(chosen.terms.owner), chosen.id);
        bytes memory problem = _openProblem(chosen, made.renter, how & 0x1f0000 == 0);
        (address caller, bytes memory call) = _openCall(rental, signature, how);
        (bool ok,) = attempt(caller, address(escrow), call, problem);
        if (!ok) return;
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
        return signEcdsa(_secretOf(rental.renter), typedDigest("pyiot dev dollar", rental.terms.token, structHash));
    }

    function _openProblem(Offer storage chosen, address renter_, bool isForged) private view returns (bytes memory) {
        uint256 deadline = _handOverDeadline(chosen.terms);
        if (renter_ == chosen.terms.owner) return abi.encodeWithSelector(I.RenterIsOwner.selector, renter_);
        if (block.timestamp >= deadline) return _windowIsOver(deadline);
        if (isForged) return abi.encodeWithSelector(I.TermsNotSigned.selector, chosen.id, chosen.terms.owner);
        if (chosen.isSpent) {
            return abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, chosen.terms.owner, chosen.terms.salt);
        }
        return "";
    }

    function cancelOffer(uint256 which) external {
        Offer storage chosen = _offers[which % _offers.length];
        bytes memory problem;
        if (chosen.isSpent) {
            problem = abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, chosen.terms.owner, chosen.terms.salt);
        }
        bytes memory call = abi.encodeCall(escrow.cancelNonce, (chosen.terms.salt));
        (bool ok,) = attempt(chosen.terms.owner, address(escrow), call, problem);
        if (ok) chosen.isSpent = true;
    }

    function refund(uint256 which, uint256 how) external {
        how = _mix(how);
        (Model storage made, bool found) = _pick(which, 1 << uint256(I.RentalState.Opened), how);
        if (!found) return;
        address caller = how & 0x300000 == 0 ? _ownerOf(made) : actor(how >> 24);
        bool isOwner = caller == _ownerOf(made);
        I.RentalState last = isOwner ? I.RentalState.CheckedIn : I.RentalState.Opened;
        bytes memory problem;
        if (made.state > last) problem = _stateInvalid(made, last);
        else if (!isOwner && block.timestamp < made.deadline) problem = _windowIsOpen(made.deadline);
        (bool ok,) = attempt(caller, address(escrow), abi.encodeCall(escrow.refund, (rentalAt(made))), problem);
        if (ok) _end(made, 0, made.held);
    }

    /* HAND OVER, USE */

    function handOver(uint256 which, uint256 how) external {
        how = _mix(how);
        (Model storage made, bool found) = _pick(which, 1 << uint256(I.RentalState.Opened), how);
        if (!found) return;
        uint256 releasedKey = addmod(ACCESS_KEY, made.m, SECP256K1_N);
        bool isWrong = made.m == 0 || how & 0xf00000 == 0;
        if (isWrong) releasedKey = how % SECP256K1_N;
        address caller = how & 0xf000000 == 0 ? actor(how >> 30) : _ownerOf(made);
        bytes memory problem = _problem(made, caller, _ownerOf(made), I.CallerNotOwner.selector, I.RentalState.Opened);
        if (problem.length == 0 && isWrong) problem = abi.encodeWithSelector(I.AccessKeyInvalid.selector, made.id);
        bytes memory call = abi.encodeCall(escrow.handOver, (rentalAt(made), releasedKey));
        (bool ok,) = attempt(caller, address(escrow), call, problem);
        if (!ok) return;
        made.isHandedOver = true;
        _enter(made, I.RentalState.Active, uint256(_offers[made.offer].terms.end) + 1 days);
    }

    function checkIn(uint256 which, uint256 how) external {
        how = _mix(how);
        (Model storage made, bool found) = _pick(which, 1 << uint256(I.RentalState.Active), how);
        if (!found) return;
        Offer storage chosen = _offers[made.offer];
        bytes memory problem;
        if (made.state != I.RentalState.Active) problem = _stateInvalid(made, I.RentalState.Active);
        else if (block.timestamp >= made.deadline) problem = _windowIsOver(made.deadline);
        else if (block.timestamp >= chosen.terms.end) problem = _windowIsOver(chosen.terms.end);
        I.CheckIn memory said = I.CheckIn(_saidOf(made, how), uint40(block.timestamp), bytes32(how));
        bytes memory signer = _signerOf(made, how);
        if (problem.length == 0) problem = _statementProblem(chosen, said.termsId, signer, how);
        bytes memory signature = sign(_deviceSecret(how), escrow.checkInDigest(said));
        bytes memory call = abi.encodeCall(escrow.checkIn, (rentalAt(made), said, signer, signature));
        (bool ok,) = attempt(actor(how >> 200), address(escrow), call, problem);
        if (!ok) return;
        made.cameAt = block.timestamp;
        _enter(made, I.RentalState.CheckedIn, made.deadline);
    }

    function checkOut(uint256 which, uint256 how) external {
        how = _mix(how);
        uint256 states = 1 << uint256(I.RentalState.Active) | 1 << uint256(I.RentalState.CheckedIn);
        (Model storage made, bool found) = _pick(which, states, how);
        if (!found) return;
        Offer storage chosen = _offers[made.offer];
        bytes memory problem;
        if (made.state != I.RentalState.Active && made.state != I.RentalState.CheckedIn) {
            problem = abi.encodeWithSelector(I.RentalNotActive.selector, made.id, made.state);
        } else if (block.timestamp >= made.deadline) {
            problem = _windowIsOver(made.deadline);
        }
        uint64 units = how & 0x3000 == 0 ? uint64(1 << 63) : uint64(how >> 128) % 1000;
        I.CheckOut memory said = I.CheckOut(_saidOf(made, how), uint40(block.timestamp), units, bytes32(how));
        bytes memory signer = _signerOf(made, how);
        if (problem.length == 0) problem = _statementProblem(chosen, said.termsId, signer, how);
        bytes memory signature = sign(_deviceSecret(how), escrow.checkOutDigest(said));
        bytes memory call = abi.encodeCall(escrow.checkOut, (rentalAt(made), said, signer, signature));
        (bool ok,) = attempt(actor(how >> 200), address(escrow), call, problem);
        if (!ok) return;
        uint256 metered = uint256(chosen.terms.rate) * units;
        (made.isCheckedOut, made.leftAt) = (true, block.timestamp);
        _charge(made, metered < chosen.terms.meterCap ? metered : chosen.terms.meterCap);
    }

    /// @dev One statement in sixteen is about other terms.
    function _saidOf(Model storage made, uint256 how) private view returns (bytes32) {
        return how & 0xf00000 == 0 ? _offers[how % _offers.length].id : _offers[made.offer].id;
    }

    /// @dev The pinned device's signer, or one time in sixteen the other kind's. Sets the kind that signs.
    function _signerOf(Model storage made, uint256 how) private returns (bytes memory) {
        isP256 = false;
        isP256 = keccak256(signerBytes()) != _offers[made.offer].terms.signerHash;
        if (how & 0xf000000 == 0) isP256 = !isP256;
        return signerBytes();
    }

    /// @dev The device's key, or one time in sixteen somebody's.
    function _deviceSecret(uint256 how) private pure returns (uint256) {
        return how & 0xf0000000 == 0 ? STRANGER_SECRET : DEVICE_SECRET;
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
        (Model storage made, bool found) = _pick(which, 1 << uint256(I.RentalState.CheckedOut), how);
        if (!found) return;
        I.Terms storage terms = _offers[made.offer].terms;
        uint96 amount = how & 0xf00000 == 0 ? uint96(how >> 100) : uint96((how >> 100) % (uint256(terms.deposit) + 1));
        address caller = how & 0xf000000 == 0 ? actor(how >> 30) : _ownerOf(made);
        bytes memory problem =
            _problem(made, caller, _ownerOf(made), I.CallerNotOwner.selector, I.RentalState.CheckedOut);
        if (problem.length == 0 && (amount == 0 || amount > terms.deposit)) {
            problem = abi.encodeWithSelector(I.ClaimOutOfBounds.selector, amount, terms.deposit);
        }
        bytes memory call = abi.encodeCall(escrow.claim, (rentalAt(made), amount, bytes32(how)));
        (bool ok,) = attempt(caller, address(escrow), call, problem);
        if (!ok) return;
        _pay(made, 0, uint256(terms.deposit) - amount);
        _enter(made, I.RentalState.Claimed, block.timestamp + terms.replyWindow);
        (made.claimed, made.mostClaimed) = (amount, amount);
    }

    function answer(uint256 which, uint256 how) external {
        how = _mix(how);
        (Model storage made, bool found) = _pick(which, 1 << uint256(I.RentalState.Claimed), how);
        if (!found) return;
        address caller = how & 0xf000000 == 0 ? actor(how >> 30) : made.renter;
        bytes memory problem = _problem(made, caller, made.renter, I.CallerNotRenter.selector, I.RentalState.Claimed);
        bool accepts = how & 0x30000 == 0;
        I.Rental memory rental = rentalAt(made);
        bytes memory call = accepts ? abi.encodeCall(escrow.accept, (rental)) : abi.encodeCall(escrow.reject, (rental));
        (bool ok,) = attempt(caller, address(escrow), call, problem);
        if (!ok) return;
        if (accepts) {
            made.award = made.held;
            return _end(made, made.held, 0);
        }
        _enter(made, I.RentalState.Disputed, block.timestamp + _offers[made.offer].terms.rulingWindow);
    }

    function rule(uint256 which, uint256 how) external {
        how = _mix(how);
        (Model storage made, bool found) = _pick(which, 1 << uint256(I.RentalState.Disputed), how);
        if (!found) return;
        uint96 award = how & 0xf00000 == 0 ? uint96(how >> 100) : uint96((how >> 100) % (made.claimed + 1));
        address caller = how & 0xf000000 == 0 ? actor(how >> 30) : actor(4);
        bytes memory problem = _problem(made, caller, actor(4), I.CallerNotArbiter.selector, I.RentalState.Disputed);
        if (problem.length == 0 && award > made.claimed) {
            problem = abi.encodeWithSelector(I.AwardTooHigh.selector, award, made.claimed);
        }
        (bool ok,) = attempt(caller, address(escrow), abi.encodeCall(escrow.rule, (rentalAt(made), award)), problem);
        if (!ok) return;
        made.award = award;
        _end(made, award, made.held - award);
    }

    function waive(uint256 which, uint256 how) external {
        how = _mix(how);
        uint256 states = 1 << uint256(I.RentalState.CheckedOut) | 1 << uint256(I.RentalState.Claimed) | 1
            << uint256(I.RentalState.Disputed);
        (Model storage made, bool found) = _pick(which, states, how);
        if (!found) return;
        address caller = how & 0x7000000 == 0 ? actor(how >> 30) : _ownerOf(made);
        bytes memory problem;
        if (caller != _ownerOf(made)) {
            problem = abi.encodeWithSelector(I.CallerNotOwner.selector, caller, _ownerOf(made));
        } else if (made.state < I.RentalState.CheckedOut || made.state == I.RentalState.Closed) {
            problem = abi.encodeWithSelector(I.RentalNotCheckedOut.selector, made.id, made.state);
        }
        (bool ok,) = attempt(caller, address(escrow), abi.encodeCall(escrow.waive, (rentalAt(made))), problem);
        if (ok) _end(made, 0, made.held);
    }

    /* CLOSE, MONEY, TIME */

    /// @dev Mostly one whose deadline has come, where there is one.
    function close(uint256 which, uint256 how) external {
        how = _mix(how);
        if (_models.length == 0) return;
        uint256 index = which % _models.length;
        for (uint256 i = 0; i < _models.length && how & 0x70 != 0; ++i) {
            Model storage other = _models[(which % _models.length + i) % _models.length];
            if (other.state == I.RentalState.Closed || block.timestamp < other.deadline) continue;
            index = (which % _models.length + i) % _models.length;
            break;
        }
        Model storage made = _models[index];
        bytes memory problem;
        if (made.state == I.RentalState.Closed) {
            problem = abi.encodeWithSelector(I.RentalNotOpen.selector, made.id, made.state);
        } else if (block.timestamp < made.deadline) {
            problem = _windowIsOpen(made.deadline);
        }
        (bool ok,) = attempt(actor(how >> 30), address(escrow), abi.encodeCall(escrow.close, (rentalAt(made))), problem);
        if (!ok) return;
        if (made.state == I.RentalState.CheckedIn) return _charge(made, 0);
        bool isClaimed = made.state == I.RentalState.Claimed;
        if (isClaimed) made.award = made.held;
        _end(made, isClaimed ? made.held : 0, isClaimed ? 0 : made.held);
    }

    function withdraw(uint256 who, uint256 how) external {
        how = _mix(how);
        (address account, address token) = (actor(who), address(_tokens[how & 1]));
        uint256 credit = creditModel[account][token];
        uint256 amount = how & 0x70 == 0 ? credit + 1 : credit - credit % (1 + (how >> 8));
        bytes memory problem;
        if (amount > credit) {
            problem = abi.encodeWithSelector(ICredits.CreditTooLow.selector, account, token, credit, amount);
        }
        bytes memory call = abi.encodeCall(escrow.withdraw, (token, amount, account));
        (bool ok,) = attempt(account, address(escrow), call, problem);
        if (ok) creditModel[account][token] -= amount;
    }

    function donate(uint256 how) external {
        DevDollar token = _tokens[how & 1];
        token.mint(address(escrow), how % 1000);
        donated[address(token)] += how % 1000;
    }

    function passTime(uint256 how) external {
        how = _mix(how);
        vm.warp(block.timestamp + (how & 0xf00 == 0 ? (how >> 16) % 2 days : (how >> 16) % 20 minutes));
    }

    /* FOR THE INVARIANTS */

    function actor(uint256 who) public view returns (address) {
        return vm.addr(_secrets[who % ACTORS]);
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

    function _secretOf(address account) private view returns (uint256) {
        for (uint256 i = 0; i < ACTORS; ++i) {
            if (actor(i) == account) return _secrets[i];
        }
        revert("no actor");
    }

    function _pickOffer(uint256 which, uint256 how) private view returns (uint256) {
        uint256 total = _offers.length;
        for (uint256 i = 0; i < total && how & 0x7 != 0; ++i) {
            uint256 index = (which % total + i) % total;
            if (!_offers[index].isSpent && block.timestamp < _handOverDeadline(_offers[index].terms)) return index;
        }
        return which % total;
    }

    /// @dev Seven times in eight a rental in one of `states` whose deadline has not come; none where there is none.
    function _pick(uint256 which, uint256 states, uint256 how) private view returns (Model storage made, bool found) {
        uint256 total = _models.length;
        made = _none;
        for (uint256 i = 0; i < total; ++i) {
            made = _models[(which % total + i) % total];
            if (how & 0x7 == 0) return (made, true);
            bool isLate = block.timestamp >= made.deadline && how & 0x38 != 0;
            if (states & (1 << uint256(made.state)) != 0 && !isLate) return (made, true);
        }
        return (made, false);
    }

    /// @dev The three guards that most calls begin with.
    function _problem(Model storage made, address caller, address role, bytes4 notRole, I.RentalState required)
        private
        view
        returns (bytes memory)
    {
        if (caller != role) return abi.encodeWithSelector(notRole, caller, role);
        if (made.state != required) return _stateInvalid(made, required);
        if (block.timestamp >= made.deadline) return _windowIsOver(made.deadline);
        return "";
    }

    function _charge(Model storage made, uint256 metered) private {
        I.Terms storage terms = _offers[made.offer].terms;
        made.charge = terms.fee + metered;
        _pay(made, made.charge, terms.meterCap - metered);
        _enter(made, I.RentalState.CheckedOut, block.timestamp + terms.claimWindow);
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
        return abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, block.timestamp);
    }

    function _windowIsOpen(uint256 deadline) private view returns (bytes memory) {
        return abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, deadline, block.timestamp);
    }

    /// @dev Forge likes small numbers; the model wants bits.
    function _mix(uint256 value) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(value)));
    }
}
