// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowKit, RentalMessages } from "./DepositEscrowKit.sol";
import { vm } from "./TestBase.sol";
import { ERC3009 } from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import { DepositEscrow } from "contracts/escrow/DepositEscrow.sol";
import { DeviceRegistry } from "contracts/identity/DeviceRegistry.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";
import { IDeviceRegistry } from "contracts/interfaces/IDeviceRegistry.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";

/// @title DepositEscrowAttacksTest
/// @notice What owners, renters and strangers try on one another.
contract DepositEscrowAttacksTest is DepositEscrowKit {
    uint256 private constant CHARGE = uint256(FEE) + 10 * uint256(RATE);
    uint256 private constant UNUSED = uint256(METER_CAP) - 10 * uint256(RATE);
    uint96 private constant CLAIM = 20_000_000;
    uint256 private constant OTHER_CHAIN = 8453;

    /* THE DEVICE'S WORD */

    /// @dev An owner lets its own lock check in and out before the renter has the key.
    function test_attack__when_checked_out_before_the_hand_over__is_refused() public {
        I.Rental memory rental = opened();
        bytes memory early = abi.encodeWithSelector(I.RentalNotActive.selector, idOf(rental), I.RentalState.Opened);
        vm.expectRevert(early);
        sayOut(rental, checkOutOf(rental, 10));
        bytes memory notActive = stateError(rental, I.RentalState.Active);
        vm.expectRevert(notActive);
        sayIn(rental, checkInOf(rental));
    }

    /// @dev The owner rotates the device to a laptop and signs what it likes with the new key.
    function test_attack__when_owner_rotates_the_device__the_pinned_key_stays() public {
        DeviceRegistry registry = new DeviceRegistry(address(verifier));
        I.Terms memory terms = termsOf();
        terms.device = keccak256(signerBytes());
        _register(registry, terms.device);
        I.Rental memory rental = active(terms);
        uint256 laptop = 0x1A9709;
        _rotate(registry, terms.device, laptop);

        I.CheckOut memory said = checkOutOf(rental, type(uint64).max);
        bytes memory signer = abi.encodePacked(vm.addr(laptop));
        bytes memory forged = signEcdsa(laptop, escrow.checkOutDigest(said));
        vm.expectRevert(abi.encodeWithSelector(I.SignerNotPinned.selector, keccak256(signer), keccak256(signerBytes())));
        escrow.checkOut(rental, said, signer, forged);

        sayOut(rental, checkOutOf(rental, 10));
        assertCredit(owner, CHARGE);
    }

    function _register(DeviceRegistry registry, bytes32 device) private {
        bytes32 typeHash = keccak256("Register(bytes32 device,address owner,bytes32 metadata,uint40 deadline)");
        bytes32 structHash = keccak256(abi.encode(typeHash, device, owner, bytes32(0), type(uint40).max));
        bytes memory signature =
            signEcdsa(DEVICE_SECRET, typedDigest("pyiot DeviceRegistry", address(registry), structHash));
        registry.register(
            IDeviceRegistry.Registration(device, owner, 0, type(uint40).max), signerBytes(), signature, ""
        );
    }

    function _rotate(DeviceRegistry registry, bytes32 device, uint256 secret) private {
        bytes memory signer = abi.encodePacked(vm.addr(secret));
        bytes32 typeHash = keccak256("Rotate(bytes32 device,bytes32 newSigner,uint16 epoch,uint40 deadline)");
        bytes32 structHash =
            keccak256(abi.encode(typeHash, device, keccak256(signer), registry.epochOf(device), type(uint40).max));
        bytes memory consent = signEcdsa(secret, typedDigest("pyiot DeviceRegistry", address(registry), structHash));
        vm.prank(owner);
        registry.rotate(device, signer, type(uint40).max, consent);
    }

    /// @dev 2^63 units at the highest rate have 160 bits: the cap holds, and nothing overflows.
    function test_attack__when_units_are_huge__the_charge_stops_at_the_cap() public {
        uint64[3] memory units = [uint64(1) << 63, type(uint64).max, (uint64(1) << 63) - 1];
        for (uint256 i = 0; i < 3; ++i) {
            I.Terms memory terms = termsOf();
            terms.rate = type(uint96).max;
            I.Rental memory rental = active(terms);
            sayOut(rental, checkOutOf(rental, units[i]));
            assertCredit(owner, (i + 1) * (uint256(FEE) + METER_CAP));
            assertRental(rental, I.RentalState.CheckedOut, START + CLAIM_WINDOW, DEPOSIT, 0);
        }
    }

    /// @dev The check-out of one rental, shown for the same device's next one, on another chain, or in another escrow.
    function test_attack__when_check_out_is_replayed__is_refused() public {
        I.Rental memory first = active();
        I.Rental memory second = active();
        I.CheckOut memory said = checkOutOf(first, 10);
        bytes memory signature = signOut(said);
        (bytes32 idOfFirst, bytes32 idOfSecond) = (escrow.termsId(first.terms), escrow.termsId(second.terms));
        escrow.checkOut(first, said, signerBytes(), signature);

        vm.expectRevert(abi.encodeWithSelector(I.RentalNotActive.selector, idOf(first), I.RentalState.CheckedOut));
        escrow.checkOut(first, said, signerBytes(), signature);
        vm.expectRevert(abi.encodeWithSelector(I.StatementOfOtherTerms.selector, idOfFirst, idOfSecond));
        escrow.checkOut(second, said, signerBytes(), signature);
        said.termsId = idOfSecond;
        vm.expectRevert(abi.encodeWithSelector(I.StatementNotSigned.selector, idOfSecond));
        escrow.checkOut(second, said, signerBytes(), signature);

        bytes memory elsewhere = signEcdsa(DEVICE_SECRET, RentalMessages.checkOut(address(this), said));
        vm.expectRevert(abi.encodeWithSelector(I.StatementNotSigned.selector, idOfSecond));
        escrow.checkOut(second, said, signerBytes(), elsewhere);
        elsewhere = signEcdsa(DEVICE_SECRET, _checkOutOn(OTHER_CHAIN, said));
        vm.expectRevert(abi.encodeWithSelector(I.StatementNotSigned.selector, idOfSecond));
        escrow.checkOut(second, said, signerBytes(), elsewhere);
    }

    function _checkOutOn(uint256 chain, I.CheckOut memory said) private view returns (bytes32) {
        bytes32 typeHash = keccak256("CheckOut(bytes32 termsId,uint40 time,uint64 units,bytes32 condition)");
        bytes32 domainType =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 domain = keccak256(
            abi.encode(domainType, keccak256("pyiot DepositEscrow"), keccak256("1"), chain, address(escrow))
        );
        bytes32 structHash = keccak256(abi.encode(typeHash, said.termsId, said.time, said.units, said.condition));
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    /// @dev A flipped signature (s in the upper half), a P-256 signer behind another verifier, and the signature of one
    /// kind for a signer of the other are nobody's.
    function test_attack__when_check_out_is_forged__is_refused() public {
        I.Rental memory rental = active();
        I.CheckOut memory said = checkOutOf(rental, 10);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(DEVICE_SECRET, escrow.checkOutDigest(said));
        bytes memory flipped = abi.encodePacked(r, bytes32(SECP256K1_N - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        bytes memory ofP256 = signP256(DEVICE_SECRET, escrow.checkOutDigest(said));
        bytes memory problem = abi.encodeWithSelector(I.StatementNotSigned.selector, said.termsId);
        vm.expectRevert(problem);
        escrow.checkOut(rental, said, signerBytes(), flipped);
        vm.expectRevert(problem);
        escrow.checkOut(rental, said, signerBytes(), ofP256);

        I.Terms memory terms = termsOf();
        (uint256 x, uint256 y) = vm.publicKeyP256(DEVICE_SECRET);
        bytes memory foreign = abi.encodePacked(address(this), x, y);
        terms.signerHash = keccak256(foreign);
        rental = active(terms);
        said = checkOutOf(rental, 10);
        bytes memory good = signP256(DEVICE_SECRET, escrow.checkOutDigest(said));
        vm.expectRevert(abi.encodeWithSelector(I.StatementNotSigned.selector, said.termsId));
        escrow.checkOut(rental, said, foreign, good);
    }

    /* THE HAND-OVER */

    /// @dev The owner publishes the key a second too late, or after the renter got its money back: nothing is taken.
    function test_attack__when_handed_over_after_the_slot_or_a_refund__is_refused() public {
        I.Rental memory rental = opened();
        uint256 releasedKey = releasedKeyOf(rental);
        uint256 deadline = rental.terms.start + GRACE;
        vm.warp(rental.terms.end + 1);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, rental.terms.end + 1));
        vm.prank(owner);
        escrow.handOver(rental, releasedKey);
        vm.prank(renter);
        escrow.refund(rental);
        bytes memory closed = stateError(rental, I.RentalState.Opened);
        vm.expectRevert(closed);
        vm.prank(owner);
        escrow.handOver(rental, releasedKey);
        assertCredit(renter, PRICE);
    }

    /// @dev At the deadline itself exactly one of hand-over and refund is open to others, the second before the other.
    function test_attack__when_hand_over_and_refund_race__one_of_them_is_open() public {
        I.Rental memory rental = opened();
        uint256 releasedKey = releasedKeyOf(rental);
        uint256 deadline = rental.terms.start + GRACE;
        for (uint256 time = deadline - 1; time < deadline + 2; ++time) {
            uint256 before = vm.snapshotState();
            vm.warp(time);
            vm.prank(owner);
            (bool handedOver,) = address(escrow).call(abi.encodeCall(escrow.handOver, (rental, releasedKey)));
            vm.revertToState(before);
            vm.warp(time);
            vm.prank(renter);
            (bool refunded,) = address(escrow).call(abi.encodeCall(escrow.refund, (rental)));
            vm.revertToState(before);
            assertEq(handedOver, time < deadline, "handed over");
            assertEq(refunded, time >= deadline, "refunded");
        }
    }

    /// @dev A broker opens terms in its own name with the renter's E and mask: the owner's κ′ for the renter fits nobody
    /// else, as m is bound to the renter.
    function test_attack__when_key_is_replayed_to_another_renter__is_refused() public {
        I.Rental memory rental = active();
        uint256 releasedKey = releasedKeyOf(rental);
        I.Rental memory copied = rentalOf(termsOf());
        endow(stranger);
        copied.renter = stranger;
        open(copied, signTerms(copied.terms));
        vm.expectRevert(abi.encodeWithSelector(I.AccessKeyInvalid.selector, idOf(copied)));
        vm.prank(owner);
        escrow.handOver(copied, releasedKey);
    }

    /* TERMS */

    /// @dev A stranger opens the terms first with a mask that fits no key: the owner pays it back at once, the renter has
    /// lost nothing, and the same terms never open again.
    function test_attack__when_terms_are_blocked_by_a_bad_mask__nobody_loses_money() public {
        I.Terms memory terms = termsOf();
        endow(stranger);
        I.Rental memory bad = rentalOf(terms, stranger, 1);
        bad.mask = address(0xBAD);
        open(bad, signTerms(terms));
        I.Rental memory good = rentalOf(terms);
        bytes memory taken = abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, owner, terms.salt);
        vm.expectRevert(taken);
        open(good, signTerms(terms));
        assertEq(dollar.balanceOf(renter), PURSE, "the renter's");
        vm.prank(owner);
        escrow.refund(bad);
        assertCredit(stranger, PRICE);
        vm.expectRevert(taken);
        open(good, signTerms(terms));
        vm.expectRevert(taken);
        open(bad, signTerms(terms));

        ++terms.salt;
        opened(terms);
    }

    /// @dev Whoever sees the renter's ERC-3009 authorization submits it with a mask or E of its own.
    function test_attack__when_authorization_comes_with_another_mask__is_refused() public {
        I.Rental memory rental = rentalOf(termsOf());
        bytes memory signature = authorize(rental, RENTER_SECRET);
        I.Rental[4] memory others =
            [rentalOf(rental.terms), rentalOf(rental.terms), rentalOf(rental.terms), rentalOf(termsOf())];
        others[0].mask = vm.addr(7);
        (others[1].ephemeralX, others[1].ephemeralY) = RentalMessages.point(7);
        others[2].ephemeralY ^= 1;
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
            openSigned(others[i], signature);
        }
        openSigned(rental, signature);
        assertEq(dollar.balanceOf(renter), PURSE - PRICE, "paid once");
    }

    /// @dev Terms of another escrow, or of another chain, are not signed here.
    function test_attack__when_terms_are_foreign__are_refused() public {
        I.Rental memory rental = rentalOf(termsOf());
        bytes memory elsewhere = signEcdsa(OWNER_SECRET, RentalMessages.termsId(address(this), rental.terms));
        bytes memory problem = abi.encodeWithSelector(I.TermsNotSigned.selector, escrow.termsId(rental.terms), owner);
        vm.expectRevert(problem);
        open(rental, elsewhere);
        bytes memory here = signTerms(rental.terms);
        vm.chainId(OTHER_CHAIN);
        problem = abi.encodeWithSelector(I.TermsNotSigned.selector, escrow.termsId(rental.terms), owner);
        vm.expectRevert(problem);
        open(rental, here);
    }

    /* CLAIM AND RULING */

    /// @dev A ruling of one rental does not touch another of the same parties, nor come twice.
    function test_attack__when_ruling_is_replayed__is_refused() public {
        I.Rental memory first = disputed(CLAIM);
        I.Rental memory second = disputed(CLAIM);
        (IRelayed.SignedCall memory request, bytes memory signature) =
            signedCall(ARBITER_SECRET, arbiter, abi.encodeCall(escrow.rule, (first, CLAIM)), 1);
        escrow.relay(request, signature);
        assertRental(second, I.RentalState.Disputed, START + RULING_WINDOW, CLAIM, CLAIM);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, arbiter, 1));
        escrow.relay(request, signature);

        request.call = abi.encodeCall(escrow.rule, (second, CLAIM));
        request.nonce = 2;
        vm.expectRevert(abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, arbiter));
        escrow.relay(request, signature);
        bytes memory closed = stateError(first, I.RentalState.Disputed);
        vm.expectRevert(closed);
        vm.prank(arbiter);
        escrow.rule(first, 0);
    }

    /// @dev Somebody hands in the rental with other terms, renter, mask or E: it has another id, and nothing is there.
    function test_attack__when_any_word_of_a_rental_is_changed__it_is_another() public {
        I.Rental memory rental = claimed(CLAIM);
        bytes memory encoded = abi.encode(rental);
        for (uint256 i = 0; i < 23; ++i) {
            bytes memory changed = bytes.concat(encoded);
            assembly ("memory-safe") {
                let place := add(changed, mul(add(i, 1), 0x20))
                mstore(place, xor(mload(place), 1))
            }
            I.Rental memory other = abi.decode(changed, (I.Rental));
            assertNotEq(escrow.rentalId(other), escrow.rentalId(rental), "rental id");
            vm.prank(other.renter);
            (bool ok, bytes memory answer) = address(escrow).call(abi.encodeCall(escrow.accept, (other)));
            assertFalse(ok, "accepted another rental");
            assertEq(bytes32(bytes4(answer)), bytes32(I.RentalStateInvalid.selector), "error");
        }
    }

    /// @dev A renter whose `close` waits with a relayer while the owner claims in the last second: it stays a `close`,
    /// and gives nothing away.
    function test_attack__when_a_signed_close_meets_a_claim__gives_nothing_away() public {
        I.Rental memory rental = checkedOut();
        vm.warp(START + CLAIM_WINDOW - 1);
        (IRelayed.SignedCall memory request, bytes memory signature) =
            signedCall(RENTER_SECRET, renter, abi.encodeCall(escrow.close, (rental)), 1);
        vm.prank(owner);
        escrow.claim(rental, DEPOSIT, EVIDENCE);
        uint256 deadline = START + CLAIM_WINDOW - 1 + REPLY_WINDOW;
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, deadline, START + CLAIM_WINDOW - 1));
        escrow.relay(request, signature);
        vm.prank(renter);
        escrow.reject(rental);
        assertRental(rental, I.RentalState.Disputed, START + CLAIM_WINDOW - 1 + RULING_WINDOW, DEPOSIT, DEPOSIT);
    }

    /// @dev The owner waives after the check-out; a reorganisation puts the waiver first: it reverts, the fee is safe.
    function test_attack__when_a_waiver_comes_before_the_check_out__is_refused() public {
        I.Rental memory rental = active();
        vm.expectRevert(abi.encodeWithSelector(I.RentalNotCheckedOut.selector, idOf(rental), I.RentalState.Active));
        vm.prank(owner);
        escrow.waive(rental);
        sayOut(rental, checkOutOf(rental, 10));
        vm.prank(owner);
        escrow.waive(rental);
        assertCredit(owner, CHARGE);
        assertCredit(renter, UNUSED + DEPOSIT);
    }

    /// @dev An arbiter of 0 is nobody: a relayed call can have no signer, so nobody rules and the renter is paid.
    function test_attack__when_nobody_is_arbiter__nobody_rules() public {
        I.Terms memory terms = termsOf();
        terms.arbiter = address(0);
        I.Rental memory rental = disputed(terms, CLAIM);
        vm.expectRevert(abi.encodeWithSelector(I.CallerNotArbiter.selector, stranger, address(0)));
        vm.prank(stranger);
        escrow.rule(rental, CLAIM);
        (IRelayed.SignedCall memory request,) =
            signedCall(STRANGER_SECRET, address(0), abi.encodeCall(escrow.rule, (rental, CLAIM)), 1);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, address(0)));
        escrow.relay(request, new bytes(65));
        vm.warp(START + RULING_WINDOW);
        escrow.close(rental);
        assertCredit(renter, UNUSED + DEPOSIT);
    }
}
