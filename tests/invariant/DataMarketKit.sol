// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { TestBase, vm } from "./TestBase.sol";
import { P256Verifier } from "contracts/identity/P256Verifier.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { DataMarket } from "contracts/market/DataMarket.sol";
import { SignedReadingRule } from "contracts/market/rules/SignedReadingRule.sol";
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

/// @notice A sealed data set with everything that its seller knows.
struct DataSet {
    uint256 contentKey;
    bytes[] leaves;
    bytes[] sealedLeaves;
    bytes32[] leafHashes;
    bytes32[] sealedHashes;
    address rule;
    bytes ruleParams;
}

/// @notice A device that signs readings.
struct Device {
    bool isP256;
    uint256 secret;
    bytes signer;
    bytes32 id;
}

/// @title Sealing
/// @notice Sealing, trees and key release, written from the design's text and not from the contracts.
library Sealing {
    WalletVm private constant WALLETS = WalletVm(address(vm));
    uint256 internal constant N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    /// @dev secret·G.
    function point(uint256 secret) internal returns (uint256 x, uint256 y) {
        WalletVm.Wallet memory wallet = WALLETS.createWallet(secret);
        return (wallet.publicKeyX, wallet.publicKeyY);
    }

    /// @dev c XOR keystream, which is its own inverse.
    function crypt(uint256 contentKey, uint256 index, bytes memory leaf) internal pure returns (bytes memory result) {
        bytes32 chunkKey = keccak256(abi.encodePacked(keccak256(abi.encodePacked(contentKey)), index));
        result = new bytes(leaf.length);
        bytes32 block_;
        for (uint256 i = 0; i < leaf.length; ++i) {
            if (i % 32 == 0) block_ = sha256(abi.encodePacked(chunkKey, i / 32));
            result[i] = leaf[i] ^ block_[i % 32];
        }
    }

    function sealedHash(uint256 index, bytes memory sealedLeaf, bytes32 leafHash) internal pure returns (bytes32) {
        return keccak256(abi.encode(uint256(0), index, keccak256(sealedLeaf), leafHash));
    }

    /// @dev The Merkle tree hash of RFC 6962, section 2.1, over leaves [from, to) that are hashed already.
    function rootOf(bytes32[] memory hashes, uint256 from, uint256 to) internal pure returns (bytes32) {
        if (to - from == 1) return hashes[from];
        uint256 middle = from + split(to - from);
        return keccak256(abi.encodePacked(hex"01", rootOf(hashes, from, middle), rootOf(hashes, middle, to)));
    }

    /// @dev The audit path of RFC 6962, section 2.1.1.
    function proofOf(bytes32[] memory hashes, uint256 index, uint256 from, uint256 to)
        internal
        pure
        returns (bytes32[] memory path)
    {
        if (to - from == 1) return new bytes32[](0);
        uint256 middle = from + split(to - from);
        bytes32[] memory below;
        bytes32 sibling;
        if (index < middle) (below, sibling) = (proofOf(hashes, index, from, middle), rootOf(hashes, middle, to));
        else (below, sibling) = (proofOf(hashes, index, middle, to), rootOf(hashes, from, middle));
        path = new bytes32[](below.length + 1);
        for (uint256 i = 0; i < below.length; ++i) {
            path[i] = below[i];
        }
        path[below.length] = sibling;
    }

    /// @dev The greatest power of two below `size`.
    function split(uint256 size) internal pure returns (uint256 k) {
        k = 1;
        while (k * 2 < size) k *= 2;
    }

    /// @dev m = keccak256(abi.encode("pyiot KeyRelease 1", chainId, contract, saleId, buyer, x(eQ), y(eQ))) mod n.
    function maskScalar(uint256 ephemeral, uint256 contentKey, address market, bytes32 saleId, address buyer)
        internal
        returns (uint256)
    {
        (uint256 x, uint256 y) = point(mulmod(ephemeral, contentKey, N));
        return uint256(keccak256(abi.encode("pyiot KeyRelease 1", block.chainid, market, saleId, buyer, x, y))) % N;
    }
}

/// @title DataMarketKit
/// @notice Roles, builders with defaults, and the market itself, for every suite of the market.
abstract contract DataMarketKit is TestBase {
    uint256 internal constant START = 1_700_000_000;
    uint128 internal constant PRICE = 500_000;
    uint32 internal constant REVEAL_WINDOW = 30 minutes;
    uint32 internal constant DISPUTE_WINDOW = 1 hours;
    uint256 internal constant SELLER_SECRET = 0x5E11E2;
    uint256 internal constant BUYER_SECRET = 0xB0B;
    uint256 internal constant THIRD_SECRET = 0x7412D;
    uint256 internal constant STRANGER_SECRET = 0x57A4;
    uint256 internal constant CONTENT_KEY = uint256(keccak256("content key")) % SECP256K1_N;
    bytes internal constant SUMMARY = hex"00000000000000000000000000000000000000000000000000000000000000d7";
    string internal constant URI = "https://data.example.org/room.bundle";

    address internal seller = vm.addr(SELLER_SECRET);
    address internal buyer = vm.addr(BUYER_SECRET);
    /// @dev Buys what the buyer sells on.
    address internal third = vm.addr(THIRD_SECRET);
    address internal stranger = vm.addr(STRANGER_SECRET);

    DataMarket internal market;
    DevDollar internal dollar;
    P256Verifier internal verifier;
    SignedReadingRule internal rule;

    uint256 private _salt;

    function setUp() public virtual {
        vm.warp(START);
        market = new DataMarket();
        dollar = new DevDollar();
        verifier = new P256Verifier();
        rule = new SignedReadingRule(address(verifier));
        endow(seller);
        endow(buyer);
        endow(third);
        vm.label(seller, "seller");
        vm.label(buyer, "buyer");
        vm.label(third, "third");
        vm.label(stranger, "stranger");
    }

    function endow(address account) internal {
        dollar.mint(account, 1e12);
        vm.prank(account);
        dollar.approve(address(market), type(uint256).max);
    }

    /* DATA */

    /// @dev `count` leaves of a blob, under the usual key.
    function blob(uint256 count) internal pure returns (DataSet memory) {
        bytes[] memory leaves = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = abi.encodePacked("a chunk with its own salt, number ", i);
        }
        return sealLeaves(CONTENT_KEY, leaves, address(0), "");
    }

    function sealLeaves(uint256 contentKey, bytes[] memory leaves, address leafRule, bytes memory ruleParams)
        internal
        pure
        returns (DataSet memory set)
    {
        set.contentKey = contentKey;
        set.leaves = leaves;
        set.sealedLeaves = new bytes[](leaves.length);
        set.leafHashes = new bytes32[](leaves.length);
        set.sealedHashes = new bytes32[](leaves.length);
        set.rule = leafRule;
        set.ruleParams = ruleParams;
        for (uint256 i = 0; i < leaves.length; ++i) {
            set.sealedLeaves[i] = Sealing.crypt(contentKey, i, leaves[i]);
            set.leafHashes[i] = keccak256(leaves[i]);
            commit(set, i);
        }
    }

    /// @dev After a change of a sealed leaf or a leaf hash: what the seller's root then commits to.
    function commit(DataSet memory set, uint256 index) internal pure {
        set.sealedHashes[index] = Sealing.sealedHash(index, set.sealedLeaves[index], set.leafHashes[index]);
    }

    function rootOf(DataSet memory set) internal pure returns (bytes32) {
        return Sealing.rootOf(set.sealedHashes, 0, set.sealedHashes.length);
    }

    function disclosureOf(DataSet memory set, uint256 index) internal pure returns (IDataMarket.Disclosure memory) {
        return IDataMarket.Disclosure({
            contentKey: set.contentKey,
            index: index,
            sealedLeaf: set.sealedLeaves[index],
            leafHash: set.leafHashes[index],
            proof: Sealing.proofOf(set.sealedHashes, index, 0, set.sealedHashes.length),
            ruleParams: set.ruleParams
        });
    }

    /* SALES */

    function offerOf(DataSet memory set) internal returns (IDataMarket.Offer memory offer) {
        offer.seller = seller;
        offer.token = address(dollar);
        offer.price = PRICE;
        offer.sealedRoot = rootOf(set);
        offer.leafCount = uint32(set.leaves.length);
        (offer.keyX, offer.keyY) = Sealing.point(set.contentKey);
        offer.rule = set.rule;
        offer.ruleParamsHash = keccak256(set.ruleParams);
        offer.royaltyBps = 500;
        offer.revealWindow = REVEAL_WINDOW;
        offer.disputeWindow = DISPUTE_WINDOW;
        offer.expiry = uint40(START + 365 days);
        offer.terms = keccak256("terms");
        offer.salt = ++_salt;
    }

    /// @dev An offer of a blob of four leaves.
    function blobOffer() internal returns (IDataMarket.Offer memory) {
        return offerOf(blob(4));
    }

    function listed(IDataMarket.Offer memory offer) internal returns (IDataMarket.Offer memory) {
        vm.prank(offer.seller);
        market.list(offer, URI, SUMMARY);
        return offer;
    }

    function resaleOf(IDataMarket.Offer memory offer, address holder) internal returns (IDataMarket.Resale memory) {
        return IDataMarket.Resale({
            offerId: market.offerId(offer),
            holder: holder,
            token: address(dollar),
            price: 300_001,
            expiry: uint40(block.timestamp + 30 days),
            salt: ++_salt
        });
    }

    function signOffer(IDataMarket.Offer memory offer) internal view returns (bytes memory) {
        return signEcdsa(SELLER_SECRET, market.offerId(offer));
    }

    /* ORDERS */

    function noResale() internal pure returns (IDataMarket.Resale memory resale) { }

    /// @dev A first sale's order, with mask and E as the design makes them from the buyer's scalar `ephemeral`.
    function orderOf(IDataMarket.Offer memory offer, address account, uint256 ephemeral)
        internal
        returns (IDataMarket.Order memory)
    {
        return orderOf(offer, noResale(), account, ephemeral);
    }

    function orderOf(
        IDataMarket.Offer memory offer,
        IDataMarket.Resale memory resale,
        address account,
        uint256 ephemeral
    ) internal returns (IDataMarket.Order memory order) {
        (order.offer, order.resale, order.buyer) = (offer, resale, account);
        (order.ephemeralX, order.ephemeralY) = Sealing.point(ephemeral);
        order.mask = vm.addr(maskScalarOf(order, ephemeral));
    }

    function maskScalarOf(IDataMarket.Order memory order, uint256 ephemeral) internal returns (uint256) {
        return Sealing.maskScalar(ephemeral, CONTENT_KEY, address(market), saleIdOf(order), order.buyer);
    }

    function saleIdOf(IDataMarket.Order memory order) internal view returns (bytes32) {
        return order.resale.holder == address(0) ? market.offerId(order.offer) : market.resaleId(order.resale);
    }

    /// @dev κ' = κ + m mod n.
    function releasedKeyOf(IDataMarket.Order memory order, uint256 ephemeral) internal returns (uint256) {
        return addmod(CONTENT_KEY, maskScalarOf(order, ephemeral), SECP256K1_N);
    }

    function rowOf(IDataMarket.Order memory order) internal pure returns (IDataMarket.Row memory) {
        return IDataMarket.Row(order.buyer, order.mask, order.ephemeralX, order.ephemeralY);
    }

    function rowsOf(IDataMarket.Order memory order) internal pure returns (IDataMarket.Row[] memory rows) {
        rows = new IDataMarket.Row[](1);
        rows[0] = rowOf(order);
    }

    function pay(IDataMarket.Order memory order, bytes memory signature) internal returns (bytes32) {
        vm.prank(order.buyer);
        if (order.resale.holder == address(0)) {
            return market.buy(order.offer, signature, order.mask, order.ephemeralX, order.ephemeralY);
        }
        return market.buyResale(order.offer, order.resale, signature, order.mask, order.ephemeralX, order.ephemeralY);
    }

    /// @dev An order of a listed offer that the buyer paid, with the scalar 1.
    function paid(IDataMarket.Offer memory offer) internal returns (IDataMarket.Order memory order) {
        order = orderOf(listed(offer), buyer, 1);
        pay(order, "");
    }

    function revealed(IDataMarket.Offer memory offer) internal returns (IDataMarket.Order memory order) {
        order = paid(offer);
        deliver(order, 1);
    }

    function settled(IDataMarket.Offer memory offer) internal returns (IDataMarket.Order memory order) {
        order = revealed(offer);
        vm.prank(order.buyer);
        market.settle(offer, rowsOf(order));
    }

    function deliver(IDataMarket.Order memory order, uint256 ephemeral) internal {
        uint256 releasedKey = releasedKeyOf(order, ephemeral);
        vm.prank(order.resale.holder == address(0) ? order.offer.seller : order.resale.holder);
        market.reveal(order, releasedKey);
    }

    /// @dev The buyer of a settled offer lists its token, and the third pays for it, with the scalar 2.
    function resold(IDataMarket.Offer memory offer) internal returns (IDataMarket.Order memory order) {
        settled(offer);
        IDataMarket.Resale memory resale = resaleOf(offer, buyer);
        vm.prank(buyer);
        market.listResale(offer, resale, URI);
        order = orderOf(offer, resale, third, 2);
        pay(order, "");
    }

    /* MONEY */

    function fundBond(address account, uint256 amount) internal {
        vm.prank(account);
        market.deposit(address(dollar), amount);
    }

    /// @dev An ERC-3009 authorization of the dollar with the order id as its nonce.
    function authorize(IDataMarket.Order memory order, uint256 secret) internal view returns (bytes memory) {
        bool isFirst = order.resale.holder == address(0);
        return
            authorizeNonce(secret, order.buyer, isFirst ? order.offer.price : order.resale.price, market.orderId(order));
    }

    function authorizeNonce(uint256 secret, address from, uint256 value, bytes32 nonce)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typeHash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 structHash = keccak256(abi.encode(typeHash, from, address(market), value, 0, type(uint40).max, nonce));
        return signEcdsa(secret, typedDigest("pyiot dev dollar", address(dollar), structHash));
    }

    function payWithAuthorization(IDataMarket.Order memory order, bytes memory signature) internal returns (bytes32) {
        return market.buyWithAuthorization(order, "", 0, type(uint40).max, signature);
    }

    /* CHECKS */

    function assertOrder(bytes32 id, IDataMarket.OrderState state, uint256 deadline) internal view {
        (IDataMarket.OrderState actual, uint40 until) = market.orderOf(id);
        assertEq(uint256(actual), uint256(state), "state");
        assertEq(uint256(until), deadline, "deadline");
    }

    function assertState(IDataMarket.Order memory order, IDataMarket.OrderState state) internal view {
        (IDataMarket.OrderState actual,) = market.orderOf(market.orderId(order));
        assertEq(uint256(actual), uint256(state), "state");
    }

    function assertCopies(IDataMarket.Offer memory offer, uint256 copies) internal view {
        (,, uint32 actual) = market.offerOf(market.offerId(offer));
        assertEq(uint256(actual), copies, "copies");
    }

    function assertCredit(address account, uint256 amount) internal view {
        assertEq(market.creditOf(account, address(dollar)), amount, "credit");
    }

    function assertTokens(address account, IDataMarket.Offer memory offer, uint256 amount) internal view {
        assertEq(market.balanceOf(account, uint256(market.offerId(offer))), amount, "data tokens");
    }
}
