// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { TestBase, vm } from "./TestBase.sol";
import { DepositEscrow } from "contracts/escrow/DepositEscrow.sol";
import { P256Verifier } from "contracts/identity/P256Verifier.sol";
import { IDepositEscrow } from "contracts/interfaces/IDepositEscrow.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";

/// @title WalletVm
/// @notice The cheat that multiplies the generator of secp256k1.
interface WalletVm {
    struct Wallet {
        address addr;
        uint256 publicKeyX;
        uint256 publicKeyY;
        uint256 privateKey;
    }

    function createWallet(uint256 secret) external returns (Wallet memory);
}

/// @title RentalMessages
/// @notice What is signed about rentals, written from the design's text and not from the contract.
library RentalMessages {
    WalletVm private constant WALLETS = WalletVm(address(vm));
    uint256 internal constant N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function typed(address escrow, bytes32 structHash) internal view returns (bytes32) {
        bytes32 typeHash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 domain =
            keccak256(abi.encode(typeHash, keccak256("pyiot DepositEscrow"), keccak256("1"), block.chainid, escrow));
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function termsId(address escrow, IDepositEscrow.Terms memory t) internal view returns (bytes32) {
        bytes32 typeHash = keccak256(
            "Terms(address owner,address token,uint96 fee,uint96 rate,uint96 meterCap,uint96 deposit,bytes32 device,bytes32 signerHash,address arbiter,uint256 keyX,uint256 keyY,uint40 start,uint40 end,uint32 grace,uint32 claimWindow,uint32 replyWindow,uint32 rulingWindow,bytes32 terms,uint256 salt)"
        );
        bytes memory head =
            abi.encode(typeHash, t.owner, t.token, t.fee, t.rate, t.meterCap, t.deposit, t.device, t.signerHash);
        bytes memory middle = abi.encode(t.arbiter, t.keyX, t.keyY, t.start, t.end, t.grace);
        bytes memory tail = abi.encode(t.claimWindow, t.replyWindow, t.rulingWindow, t.terms, t.salt);
        return typed(escrow, keccak256(bytes.concat(head, middle, tail)));
    }

    function rentalId(address escrow, IDepositEscrow.Rental memory rental) internal view returns (bytes32) {
        bytes32 id = termsId(escrow, rental.terms);
        return keccak256(abi.encode(id, rental.renter, rental.mask, rental.ephemeralX, rental.ephemeralY));
    }

    function checkIn(address escrow, IDepositEscrow.CheckIn memory said) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("CheckIn(bytes32 termsId,uint40 time,bytes32 condition)");
        return typed(escrow, keccak256(abi.encode(typeHash, said.termsId, said.time, said.condition)));
    }

    function checkOut(address escrow, IDepositEscrow.CheckOut memory said) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("CheckOut(bytes32 termsId,uint40 time,uint64 units,bytes32 condition)");
        return typed(escrow, keccak256(abi.encode(typeHash, said.termsId, said.time, said.units, said.condition)));
    }

    function signedCall(address escrow, IRelayed.SignedCall memory request) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)");
        return typed(
            escrow,
            keccak256(abi.encode(typeHash, request.sender, keccak256(request.call), request.nonce, request.deadline))
        );
    }

    /// @dev secret·G.
    function point(uint256 secret) internal returns (uint256 x, uint256 y) {
        WalletVm.Wallet memory wallet = WALLETS.createWallet(secret);
        return (wallet.publicKeyX, wallet.publicKeyY);
    }

    /// @dev m = keccak256(abi.encode("pyiot KeyRelease 1", chainId, contract, termsId, renter, x(eQ), y(eQ))) mod n.
    function maskScalar(uint256 ephemeral, uint256 accessKey, address escrow, bytes32 idOfTerms, address renter)
        internal
        returns (uint256)
    {
        (uint256 x, uint256 y) = point(mulmod(ephemeral, accessKey, N));
        return uint256(keccak256(abi.encode("pyiot KeyRelease 1", block.chainid, escrow, idOfTerms, renter, x, y))) % N;
    }
}

/// @title DepositEscrowKit
/// @notice Roles, builders with defaults, and the escrow itself, for every suite of the escrow.
abstract contract DepositEscrowKit is TestBase {
    uint256 internal constant START = 1_700_000_000;
    uint96 internal constant FEE = 2_000_000;
    uint96 internal constant RATE = 450_000;
    uint96 internal constant METER_CAP = 9_000_000;
    uint96 internal constant DEPOSIT = 50_000_000;
    uint256 internal constant PRICE = 61_000_000;
    uint32 internal constant GRACE = 30 minutes;
    uint32 internal constant CLAIM_WINDOW = 1 days;
    uint32 internal constant REPLY_WINDOW = 2 days;
    uint32 internal constant RULING_WINDOW = 7 days;
    uint256 internal constant PURSE = 1e12;
    uint256 internal constant OWNER_SECRET = 0x07E12;
    uint256 internal constant RENTER_SECRET = 0x4E47E4;
    uint256 internal constant ARBITER_SECRET = 0xA4B174;
    uint256 internal constant STRANGER_SECRET = 0x57A4;
    uint256 internal constant DEVICE_SECRET = 0xDE71CE;
    uint256 internal constant ACCESS_KEY = uint256(keccak256("access key")) % SECP256K1_N;
    bytes32 internal constant EVIDENCE = keccak256("photo of the dent");
    bytes32 internal constant CONDITION = keccak256("odometer");

    address internal owner = vm.addr(OWNER_SECRET);
    address internal renter = vm.addr(RENTER_SECRET);
    address internal arbiter = vm.addr(ARBITER_SECRET);
    address internal stranger = vm.addr(STRANGER_SECRET);

    DepositEscrow internal escrow;
    DevDollar internal dollar;
    P256Verifier internal verifier;
    bool internal isP256;

    uint256 private _salt;

    function setUp() public virtual {
        vm.warp(START);
        verifier = new P256Verifier();
        escrow = new DepositEscrow(address(verifier));
        dollar = new DevDollar();
        endow(renter);
        vm.label(owner, "owner");
        vm.label(renter, "renter");
        vm.label(arbiter, "arbiter");
        vm.label(stranger, "stranger");
    }

    function endow(address account) internal {
        dollar.mint(account, PURSE);
        vm.prank(account);
        dollar.approve(address(escrow), type(uint256).max);
    }

    /* TERMS */

    /// @dev The slot begins in an hour and lasts for two.
    function termsOf() internal returns (IDepositEscrow.Terms memory terms) {
        terms.owner = owner;
        terms.token = address(dollar);
        (terms.fee, terms.rate, terms.meterCap, terms.deposit) = (FEE, RATE, METER_CAP, DEPOSIT);
        terms.device = keccak256("the lock");
        terms.signerHash = keccak256(signerBytes());
        terms.arbiter = arbiter;
        (terms.keyX, terms.keyY) = RentalMessages.point(ACCESS_KEY);
        (terms.start, terms.end, terms.grace) = (uint40(START + 1 hours), uint40(START + 3 hours), GRACE);
        (terms.claimWindow, terms.replyWindow, terms.rulingWindow) = (CLAIM_WINDOW, REPLY_WINDOW, RULING_WINDOW);
        terms.terms = keccak256("house rules");
        terms.salt = ++_salt;
    }

    function signTerms(IDepositEscrow.Terms memory terms) internal view returns (bytes memory) {
        return signEcdsa(OWNER_SECRET, RentalMessages.termsId(address(escrow), terms));
    }

    /// @dev The pinned device's signer: 20 bytes, or 84 where `isP256`.
    function signerBytes() internal view returns (bytes memory) {
        if (!isP256) return abi.encodePacked(vm.addr(DEVICE_SECRET));
        (uint256 x, uint256 y) = vm.publicKeyP256(DEVICE_SECRET);
        return abi.encodePacked(address(verifier), x, y);
    }

    /* RENTALS */

    /// @dev The renter's, with mask and E as the design makes them from the scalar `ephemeral`.
    function rentalOf(IDepositEscrow.Terms memory terms, address account, uint256 ephemeral)
        internal
        returns (IDepositEscrow.Rental memory rental)
    {
        (rental.terms, rental.renter) = (terms, account);
        (rental.ephemeralX, rental.ephemeralY) = RentalMessages.point(ephemeral);
        rental.mask = vm.addr(maskScalarOf(rental, ephemeral));
    }

    function rentalOf(IDepositEscrow.Terms memory terms) internal returns (IDepositEscrow.Rental memory) {
        return rentalOf(terms, renter, 1);
    }

    function maskScalarOf(IDepositEscrow.Rental memory rental, uint256 ephemeral) internal returns (uint256) {
        bytes32 id = RentalMessages.termsId(address(escrow), rental.terms);
        return RentalMessages.maskScalar(ephemeral, ACCESS_KEY, address(escrow), id, rental.renter);
    }

    /// @dev κ' = κ + m mod n.
    function releasedKeyOf(IDepositEscrow.Rental memory rental) internal returns (uint256) {
        return addmod(ACCESS_KEY, maskScalarOf(rental, 1), SECP256K1_N);
    }

    function idOf(IDepositEscrow.Rental memory rental) internal view returns (bytes32) {
        return RentalMessages.rentalId(address(escrow), rental);
    }

    function open(IDepositEscrow.Rental memory rental, bytes memory signature) internal returns (bytes32) {
        vm.prank(rental.renter);
        return escrow.open(rental.terms, signature, rental.mask, rental.ephemeralX, rental.ephemeralY);
    }

    function opened(IDepositEscrow.Terms memory terms) internal returns (IDepositEscrow.Rental memory rental) {
        rental = rentalOf(terms);
        open(rental, signTerms(terms));
    }

    function opened() internal returns (IDepositEscrow.Rental memory) {
        return opened(termsOf());
    }

    function active(IDepositEscrow.Terms memory terms) internal returns (IDepositEscrow.Rental memory rental) {
        rental = opened(terms);
        uint256 releasedKey = releasedKeyOf(rental);
        vm.prank(owner);
        escrow.handOver(rental, releasedKey);
    }

    function active() internal returns (IDepositEscrow.Rental memory) {
        return active(termsOf());
    }

    function checkedIn() internal returns (IDepositEscrow.Rental memory rental) {
        rental = active();
        sayIn(rental, checkInOf(rental));
    }

    /// @dev Ten units at the end of the slot.
    function checkedOut(IDepositEscrow.Terms memory terms) internal returns (IDepositEscrow.Rental memory rental) {
        rental = active(terms);
        sayOut(rental, checkOutOf(rental, 10));
    }

    function checkedOut() internal returns (IDepositEscrow.Rental memory) {
        return checkedOut(termsOf());
    }

    function claimed(uint96 amount) internal returns (IDepositEscrow.Rental memory rental) {
        return claimed(termsOf(), amount);
    }

    function claimed(IDepositEscrow.Terms memory terms, uint96 amount)
        internal
        returns (IDepositEscrow.Rental memory rental)
    {
        rental = checkedOut(terms);
        vm.prank(owner);
        escrow.claim(rental, amount, EVIDENCE);
    }

    function disputed(uint96 amount) internal returns (IDepositEscrow.Rental memory rental) {
        return disputed(termsOf(), amount);
    }

    function disputed(IDepositEscrow.Terms memory terms, uint96 amount)
        internal
        returns (IDepositEscrow.Rental memory rental)
    {
        rental = claimed(terms, amount);
        vm.prank(renter);
        escrow.reject(rental);
    }

    /* WHAT THE DEVICE SAYS */

    function checkInOf(IDepositEscrow.Rental memory rental) internal view returns (IDepositEscrow.CheckIn memory) {
        bytes32 id = RentalMessages.termsId(address(escrow), rental.terms);
        return IDepositEscrow.CheckIn(id, rental.terms.start, CONDITION);
    }

    function checkOutOf(IDepositEscrow.Rental memory rental, uint64 units)
        internal
        view
        returns (IDepositEscrow.CheckOut memory)
    {
        bytes32 id = RentalMessages.termsId(address(escrow), rental.terms);
        return IDepositEscrow.CheckOut(id, rental.terms.end, units, CONDITION);
    }

    function sign(uint256 secret, bytes32 digest) internal view returns (bytes memory) {
        return isP256 ? signP256(secret, digest) : signEcdsa(secret, digest);
    }

    function signIn(IDepositEscrow.CheckIn memory said) internal view returns (bytes memory) {
        return sign(DEVICE_SECRET, RentalMessages.checkIn(address(escrow), said));
    }

    function signOut(IDepositEscrow.CheckOut memory said) internal view returns (bytes memory) {
        return sign(DEVICE_SECRET, RentalMessages.checkOut(address(escrow), said));
    }

    function sayIn(IDepositEscrow.Rental memory rental, IDepositEscrow.CheckIn memory said) internal {
        escrow.checkIn(rental, said, signerBytes(), signIn(said));
    }

    function sayOut(IDepositEscrow.Rental memory rental, IDepositEscrow.CheckOut memory said) internal {
        escrow.checkOut(rental, said, signerBytes(), signOut(said));
    }

    /* SIGNATURES */

    function signedCall(uint256 secret, address sender, bytes memory call, uint256 nonce)
        internal
        view
        returns (IRelayed.SignedCall memory request, bytes memory signature)
    {
        request = IRelayed.SignedCall(sender, call, nonce, uint40(block.timestamp + 1 hours));
        signature = signEcdsa(secret, RentalMessages.signedCall(address(escrow), request));
    }

    /// @dev A stranger carries the call of whoever has that key.
    function relay(uint256 secret, bytes memory call, uint256 nonce) internal returns (bytes memory) {
        (IRelayed.SignedCall memory request, bytes memory signature) = signedCall(secret, vm.addr(secret), call, nonce);
        vm.prank(stranger);
        return escrow.relay(request, signature);
    }

    /// @dev An ERC-3009 authorization of the dollar with the rental's id as its nonce.
    function authorize(IDepositEscrow.Rental memory rental, uint256 secret) internal view returns (bytes memory) {
        return authorize(rental, secret, idOf(rental));
    }

    function authorize(IDepositEscrow.Rental memory rental, uint256 secret, bytes32 nonce)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typeHash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        uint256 value = uint256(rental.terms.fee) + rental.terms.meterCap + rental.terms.deposit;
        bytes32 structHash =
            keccak256(abi.encode(typeHash, rental.renter, address(escrow), value, 0, type(uint40).max, nonce));
        return signEcdsa(secret, typedDigest("pyiot dev dollar", address(dollar), structHash));
    }

    function openSigned(IDepositEscrow.Rental memory rental, bytes memory signature) internal returns (bytes32) {
        bytes memory terms = signTerms(rental.terms);
        vm.prank(stranger);
        return escrow.openWithAuthorization(rental, terms, 0, type(uint40).max, signature);
    }

    /* CHECKS */

    function assertRental(
        IDepositEscrow.Rental memory rental,
        IDepositEscrow.RentalState state,
        uint256 deadline,
        uint256 held,
        uint256 claimedAmount
    ) internal view {
        (IDepositEscrow.RentalState actual, uint40 until, uint104 heldNow, uint96 claimedNow) =
            escrow.rentalOf(idOf(rental));
        assertEq(uint256(actual), uint256(state), "state");
        assertEq(uint256(until), deadline, "deadline");
        assertEq(uint256(heldNow), held, "held");
        assertEq(uint256(claimedNow), claimedAmount, "claimed");
    }

    function assertClosed(IDepositEscrow.Rental memory rental) internal view {
        assertRental(rental, IDepositEscrow.RentalState.Closed, 0, 0, 0);
    }

    function assertCredit(address account, uint256 amount) internal view {
        assertEq(escrow.creditOf(account, address(dollar)), amount, "credit");
    }

    function stateError(IDepositEscrow.Rental memory rental, IDepositEscrow.RentalState required)
        internal
        view
        returns (bytes memory)
    {
        (IDepositEscrow.RentalState state,,,) = escrow.rentalOf(idOf(rental));
        return abi.encodeWithSelector(IDepositEscrow.RentalStateInvalid.selector, idOf(rental), state, required);
    }
}
