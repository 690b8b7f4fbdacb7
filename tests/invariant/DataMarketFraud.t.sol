// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataSet, Device, Sealing } from "./DataMarketKit.sol";
import { DataMarketReadings, ReadingData } from "./DataMarketReadings.sol";
import { vm } from "./TestBase.sol";
import { DeviceRegistry } from "contracts/identity/DeviceRegistry.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { ILeafRule } from "contracts/interfaces/ILeafRule.sol";

/// @title DataMarketFraudTest
/// @notice What a seller of readings may lie about and what a buyer may lie about, on both curves. The table in
/// DataMarketAttacks says which row of the design each test is.
contract DataMarketFraudTest is DataMarketReadings {
    uint256 private constant COUNT = 5;
    uint256 private constant INDEX = 3;
    /// @dev EIP-7825: what one transaction may use.
    uint256 private constant TRANSACTION_GAS_CAP = 16_777_216;

    /* WHAT A SELLER MAY TRY */

    function test_dispute__when_ciphertext_is_garbage__refunds() public {
        for (uint256 curve = 0; curve < 2; ++curve) {
            DataSet memory set = readings(deviceOf(curve == 1), COUNT);
            set.sealedLeaves[INDEX] = bytes("nothing that decrypts to a leaf");
            commit(set, INDEX);
            _assertWon(set);
        }
    }

    /// @dev Hash and ciphertext agree, the root holds both, and the reading is forged.
    function test_dispute__when_leaf_is_wrong_under_the_right_root__refunds() public {
        for (uint256 curve = 0; curve < 2; ++curve) {
            Device memory device = deviceOf(curve == 1);
            DataSet memory set = readings(device, COUNT);
            bytes memory leaf = leafOf(device, readingAt(INDEX));
            leaf[79] ^= 0x01;
            _assertWon(swap(set, INDEX, leaf));
        }
    }

    function test_dispute__when_leaf_is_cut_or_padded__refunds() public {
        for (uint256 curve = 0; curve < 2; ++curve) {
            Device memory device = deviceOf(curve == 1);
            bytes memory leaf = leafOf(device, readingAt(INDEX));
            _assertWon(swap(readings(device, COUNT), INDEX, abi.encodePacked(leaf, uint8(0))));
            assembly ("memory-safe") {
                mstore(leaf, sub(mload(leaf), 1))
            }
            _assertWon(swap(readings(device, COUNT), INDEX, leaf));
            _assertWon(swap(readings(device, COUNT), INDEX, ""));
        }
    }

    function test_dispute__when_leaf_is_signed_by_another_device__refunds() public {
        Device memory other = secp256k1Device(0xBAD);
        other.id = deviceOf(false).id;
        _assertWon(swap(readings(deviceOf(false), COUNT), INDEX, leafOf(other, readingAt(INDEX))));
        other = p256Device(0xBAD);
        other.id = deviceOf(true).id;
        _assertWon(swap(readings(deviceOf(true), COUNT), INDEX, leafOf(other, readingAt(INDEX))));
    }

    function test_dispute__when_sequence_has_a_gap_a_duplicate_or_a_reorder__refunds() public {
        for (uint256 curve = 0; curve < 2; ++curve) {
            Device memory device = deviceOf(curve == 1);
            // a gap: the reading of the next index stands here; a duplicate, and half of a reorder: the one before
            _assertWon(swap(readings(device, COUNT), INDEX, leafOf(device, readingAt(INDEX + 1))));
            _assertWon(swap(readings(device, COUNT), INDEX, leafOf(device, readingAt(INDEX - 1))));
        }
    }

    function test_dispute__when_time_is_out_of_range__refunds() public {
        Device memory device = deviceOf(false);
        uint64[4] memory times = [T0 - 1, T1 + 1, 0, type(uint64).max];
        for (uint256 i = 0; i < 4; ++i) {
            ReadingData memory reading = readingAt(INDEX);
            reading.time = times[i];
            _assertWon(swap(readings(device, COUNT), INDEX, leafOf(device, reading)));
        }
    }

    function test_dispute__when_value_is_out_of_range__refunds() public {
        Device memory device = deviceOf(true);
        int128[4] memory values = [MINIMUM - 1, MAXIMUM + 1, type(int128).min, type(int128).max];
        for (uint256 i = 0; i < 4; ++i) {
            ReadingData memory reading = readingAt(INDEX);
            reading.value = values[i];
            _assertWon(swap(readings(device, COUNT), INDEX, leafOf(device, reading)));
        }
    }

    /// @dev The largest leaf that a buyer's SDK takes, and a tree of 33 levels of proof: below half of the cap.
    function test_dispute__when_leaf_is_as_large_as_buyers_take__fits_in_a_transaction() public {
        bytes[] memory leaves = new bytes[](COUNT);
        for (uint256 i = 0; i < COUNT; ++i) {
            leaves[i] = new bytes(4096);
        }
        DataSet memory set = sealLeaves(CONTENT_KEY, leaves, address(0), "");
        set.leafHashes[INDEX] = keccak256("a lie");
        commit(set, INDEX);
        IDataMarket.Order memory order = revealed(offerOf(set));
        IDataMarket.Disclosure memory disclosure = disclosureOf(set, INDEX);
        uint256 gas = gasleft();
        market.dispute(order, disclosure);
        gas -= gasleft();
        uint256 calldataGas = 16 * abi.encodeCall(market.dispute, (order, disclosure)).length;
        assertLt(gas + calldataGas, TRANSACTION_GAS_CAP / 2, "gas");
        assertState(order, IDataMarket.OrderState.Refunded);
    }

    /// @dev A 4 KiB reading has 245 values; the P-256 check runs without the precompile here. The rule's gas suffices.
    function test_dispute__when_the_largest_reading_is_forged__stays_within_the_rules_gas() public {
        uint256 fields = (4096 - 64 - 64) / 16;
        Device memory device = deviceOf(true);
        (int128[] memory min, int128[] memory max) = (new int128[](fields), new int128[](fields));
        bytes memory params = abi.encode(device.signer, device.id, SCHEMA, SEQ0, T0, T1, min, max);
        bytes[] memory leaves = new bytes[](1);
        (bytes32 r, bytes32 s) = vm.signP256(0xBAD, "");
        leaves[0] = abi.encodePacked(SEQ0, T0, bytes32(0), bytes16(0), new bytes(16 * fields), r, s);
        assertEq(leaves[0].length, 4096, "leaf");
        DataSet memory set = sealLeaves(CONTENT_KEY, leaves, address(rule), params);
        IDataMarket.Order memory order = revealed(offerOf(set));
        market.dispute(order, disclosureOf(set, 0));
        assertState(order, IDataMarket.OrderState.Refunded);
    }

    /* WHAT A BUYER MAY TRY */

    function test_dispute__when_leaf_is_honest__reverts() public {
        for (uint256 curve = 0; curve < 2; ++curve) {
            DataSet memory set = readings(deviceOf(curve == 1), COUNT);
            IDataMarket.Order memory order = revealed(offerOf(set));
            for (uint256 i = 0; i < COUNT; ++i) {
                _assertLost(order, disclosureOf(set, i));
            }
        }
    }

    /// @dev Both ends of both ranges are promised, and kept.
    function test_dispute__when_leaf_is_at_the_ends_of_its_ranges__reverts() public {
        Device memory device = deviceOf(false);
        for (uint256 i = 0; i < 2; ++i) {
            ReadingData memory reading = readingAt(INDEX);
            (reading.time, reading.value) = i == 0 ? (T0, MINIMUM) : (T1, MAXIMUM);
            DataSet memory set = swap(readings(device, COUNT), INDEX, leafOf(device, reading));
            _assertLost(revealed(offerOf(set)), disclosureOf(set, INDEX));
        }
    }

    /// @dev An honest leaf shown at another place would break its sequence: the proof stands for one place alone.
    function test_dispute__when_proof_is_for_another_index__reverts() public {
        DataSet memory set = readings(deviceOf(false), COUNT);
        IDataMarket.Order memory order = revealed(offerOf(set));
        for (uint256 index = 0; index < COUNT; ++index) {
            if (index == INDEX) continue;
            IDataMarket.Disclosure memory disclosure = disclosureOf(set, INDEX);
            disclosure.index = index;
            bytes32 sealedHash = Sealing.sealedHash(index, disclosure.sealedLeaf, disclosure.leafHash);
            _assertNotInRoot(order, disclosure, sealedHash);
            disclosure.proof = disclosureOf(set, index).proof;
            _assertNotInRoot(order, disclosure, sealedHash);
        }
    }

    /// @dev The two children's hashes as a "leaf": 64 bytes under 0x01 are no leaf of 128 bytes.
    function test_dispute__when_an_inner_node_is_passed_as_a_leaf__reverts() public {
        DataSet memory set = readings(deviceOf(false), 4);
        IDataMarket.Order memory order = revealed(offerOf(set));
        bytes32 right = Sealing.rootOf(set.sealedHashes, 2, 4);
        IDataMarket.Disclosure memory disclosure = disclosureOf(set, 0);
        disclosure.sealedLeaf = abi.encodePacked(set.sealedHashes[0], set.sealedHashes[1]);
        disclosure.leafHash = set.sealedHashes[1];
        disclosure.proof = new bytes32[](1);
        disclosure.proof[0] = right;
        _assertNotInRoot(order, disclosure, Sealing.sealedHash(0, disclosure.sealedLeaf, disclosure.leafHash));
    }

    /// @dev κ + n is the same point and decrypts to garbage. Only the smallest keys leave room for it in 256 bits.
    function test_dispute__when_content_key_has_n_added__reverts() public {
        bytes[] memory leaves = new bytes[](1);
        leaves[0] = "honest";
        uint256 small = 12_345;
        DataSet memory set = sealLeaves(small, leaves, address(0), "");
        IDataMarket.Offer memory offer = listed(offerOf(set));
        uint256 m = 777;
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        order.mask = vm.addr(m);
        pay(order, "");
        vm.prank(seller);
        market.reveal(order, small + m);

        set.contentKey = small + SECP256K1_N;
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.ContentKeyInvalid.selector, market.orderId(order)));
        market.dispute(order, disclosureOf(set, 0));
        set.contentKey = small;
        _assertLost(order, disclosureOf(set, 0));
    }

    /// @dev DM-5: the rule asks for no code. What was an address when the leaf was signed may be a contract, or an account
    /// that delegates to one (EIP-7702), when it is judged.
    function test_dispute__when_code_is_put_at_the_devices_address__reverts_as_before() public {
        Device memory device = deviceOf(false);
        DataSet memory set = readings(device, COUNT);
        IDataMarket.Order memory order = revealed(offerOf(set));
        address account = address(bytes20(device.signer));
        vm.etch(account, hex"600160005260206000f3");
        _assertLost(order, disclosureOf(set, INDEX));
        vm.etch(account, abi.encodePacked(hex"ef0100", address(market)));
        _assertLost(order, disclosureOf(set, INDEX));
    }

    /// @dev DM-5: and no registry.
    function test_dispute__when_device_is_rotated_or_revoked_after_the_sale__reverts_as_before() public {
        for (uint256 curve = 0; curve < 2; ++curve) {
            Device memory device = deviceOf(curve == 1);
            DataSet memory set = readings(device, COUNT);
            IDataMarket.Order memory order = revealed(offerOf(set));
            DeviceRegistry registry = new DeviceRegistry(address(verifier));
            _revoke(registry, device);
            assertFalse(registry.isSignerAt(device.id, device.signer, uint64(block.timestamp)), "revoked");
            _assertLost(order, disclosureOf(set, INDEX));
        }
    }

    /// @dev A caller who leaves the rule too little gas is told so, and the leaf stays good: at no limit of gas does an
    /// honest leaf fall.
    function test_dispute__when_caller_starves_the_rule__reverts() public {
        DataSet memory set = readings(deviceOf(true), COUNT);
        IDataMarket.Order memory order = revealed(offerOf(set));
        bytes memory data = abi.encodeCall(market.dispute, (order, disclosureOf(set, INDEX)));
        uint256 starved;
        for (uint256 gas = 20_000; gas < 1_400_000; gas += 7001) {
            (bool success, bytes memory answer) = address(market).call{ gas: gas }(data);
            assertFalse(success, "an honest leaf fell");
            if (answer.length != 0 && bytes4(answer) == ILeafRule.RuleGasTooLow.selector) ++starved;
        }
        assertGt(starved, 50, "told so");
        _assertLost(order, disclosureOf(set, INDEX));
    }

    /* HELP */

    function _revoke(DeviceRegistry registry, Device memory device) private {
        bytes32 typeHash = keccak256("Revoke(bytes32 device,uint16 epoch)");
        bytes32 digest = typedDigest(
            "pyiot DeviceRegistry", address(registry), keccak256(abi.encode(typeHash, device.id, uint16(0)))
        );
        bytes memory signature = device.isP256 ? signP256(device.secret, digest) : signEcdsa(device.secret, digest);
        registry.revokeSigned(device.id, device.signer, signature);
    }

    function _assertWon(DataSet memory set) private {
        IDataMarket.Order memory order = revealed(offerOf(set));
        uint256 credit = market.creditOf(buyer, address(dollar));
        market.dispute(order, disclosureOf(set, INDEX));
        assertState(order, IDataMarket.OrderState.Refunded);
        assertCredit(buyer, credit + PRICE);
    }

    function _assertLost(IDataMarket.Order memory order, IDataMarket.Disclosure memory disclosure) private {
        vm.expectRevert(
            abi.encodeWithSelector(IDataMarket.FraudNotShown.selector, market.orderId(order), disclosure.index)
        );
        market.dispute(order, disclosure);
    }

    function _assertNotInRoot(
        IDataMarket.Order memory order,
        IDataMarket.Disclosure memory disclosure,
        bytes32 sealedHash
    ) private {
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.LeafNotInRoot.selector, sealedHash, order.offer.sealedRoot));
        market.dispute(order, disclosure);
    }
}
