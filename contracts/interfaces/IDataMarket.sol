// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";

/// @title IDataMarket
/// @notice Sells sealed data sets between accounts that trust nobody: the key is delivered by one `ecrecover`, and one
/// wrong leaf turns a sale into a refund.
/// @dev
/// WORDS. An offer is the seller's signed terms, a resale a holder's; both are sales. `saleId` is the EIP-712 digest of
/// the Offer or the Resale in this contract's domain, `orderId = keccak256(abi.encode(saleId, buyer, mask, E.x, E.y))`.
/// The data token of an offer is ERC-1155 with `id = uint256(offerId)`.
///
/// TERMS COME WITH THE CALL. The contract stores one slot for each id and takes the terms as calldata every time.
///
/// TIME. All windows and deadlines are seconds of block time. An act needs `now < deadline`; what anyone may do after a
/// deadline needs `now >= deadline`. The two never overlap and leave no second between them.
///
/// MONEY. Amounts are base units of an ERC-20 token. Every payout is a credit, taken out by `withdraw`. The credit of an
/// account is `Deposited + Credited - BondLocked - Withdrawn` over its events.
///
/// CALLERS. "The seller", "the holder", "the buyer" is the caller, or the signer of a relayed call (see Relayed).
/// Accounts may be contracts (ERC-1271).
interface IDataMarket is IAgreements, ICredits {
    /* TYPES */

    /// @notice What a seller promises. Its EIP-712 digest is the offer id.
    /// @param seller Who reveals and is paid.
    /// @param token The ERC-20 in which price and bond are paid; no fee on transfer, no rebasing.
    /// @param price Base units of `token` for one copy; 0 gives it away.
    /// @param bond Base units of `token`, locked from the seller's credit for each open order; the buyer's on fraud.
    /// @param sealedRoot Merkle root over the sealed leaves (see MerkleTree and FraudProof).
    /// @param leafCount How many leaves; at least 1.
    /// @param keyX x of `Q`, the public key of the content key; below the group order.
    /// @param keyY y of `Q`; the point is on secp256k1.
    /// @param rule The ILeafRule that every leaf keeps, or 0 for a blob.
    /// @param ruleParamsHash keccak256 of the rule's parameters; without meaning where `rule` is 0.
    /// @param supply How many copies; 0 is without limit.
    /// @param royaltyBps What the seller takes of a resale, in basis points; at most 5,000.
    /// @param audience The only account that may buy; 0 is anyone.
    /// @param revealWindow Seconds that the seller has to reveal; 5 minutes to 30 days.
    /// @param disputeWindow Seconds that a dispute may take; 5 minutes to 30 days.
    /// @param expiry The offer can be bought while `now < expiry`.
    /// @param terms keccak256 of the metadata document.
    /// @param salt Makes two offers with equal terms different.
    struct Offer {
        address seller;
        address token;
        uint128 price;
        uint128 bond;
        bytes32 sealedRoot;
        uint32 leafCount;
        uint256 keyX;
        uint256 keyY;
        address rule;
        bytes32 ruleParamsHash;
        uint32 supply;
        uint16 royaltyBps;
        address audience;
        uint32 revealWindow;
        uint32 disputeWindow;
        uint40 expiry;
        bytes32 terms;
        uint256 salt;
    }

    /// @notice What a holder promises: one data token, sold once. Its EIP-712 digest is the resale id.
    /// @param offerId The offer whose token is sold; its windows, key, root and rule apply.
    /// @param holder Who holds the token, reveals and is paid.
    /// @param token The ERC-20 in which the price is paid.
    /// @param price Base units of `token`.
    /// @param expiry The resale can be bought while `now < expiry`.
    /// @param salt Makes two resales with equal terms different.
    struct Resale {
        bytes32 offerId;
        address holder;
        address token;
        uint128 price;
        uint40 expiry;
        uint256 salt;
    }

    /// @notice One purchase. A first sale has `resale.holder == 0`; the rest of `resale` is then ignored.
    /// @param mask address(M), where M is the buyer's blinding point (see KeyRelease); not 0.
    /// @param ephemeralX x of the buyer's ephemeral point E; the seller checks it, the contract does not.
    /// @param ephemeralY y of E.
    struct Order {
        Offer offer;
        Resale resale;
        address buyer;
        address mask;
        uint256 ephemeralX;
        uint256 ephemeralY;
    }

    /// @notice What tells orders of one sale apart.
    struct Row {
        address buyer;
        address mask;
        uint256 ephemeralX;
        uint256 ephemeralY;
    }

    /// @notice One leaf laid open.
    /// @param contentKey The content key κ, 0 < κ < n.
    /// @param index The leaf's index.
    /// @param sealedLeaf The ciphertext c_i.
    /// @param leafHash The promised hash h_i of the plain leaf.
    /// @param proof The inclusion proof of the sealed leaf under the offer's root.
    /// @param ruleParams The preimage of `ruleParamsHash`; looked at only where the leaf's hash is right.
    struct Disclosure {
        uint256 contentKey;
        uint256 index;
        bytes sealedLeaf;
        bytes32 leafHash;
        bytes32[] proof;
        bytes ruleParams;
    }

    /// @notice None → Paid → Revealed → Settled, or → Refunded from Paid or, by a won dispute, from Revealed.
    enum OrderState {
        None,
        Paid,
        Revealed,
        Settled,
        Refunded
    }

    /* EVENTS */

    /// @notice An offer was listed, or listed again with another place or summary (the last one counts).
    event OfferListed(
        bytes32 indexed offerId, address indexed seller, bytes32 indexed device, Offer offer, string uri, bytes summary
    );
    /// @notice An offer can be bought no more; its open orders go on.
    event OfferCancelled(bytes32 indexed offerId);
    /// @notice A resale was listed, or listed again with another place (the last one counts).
    event ResaleListed(
        bytes32 indexed resaleId, bytes32 indexed offerId, address indexed holder, Resale resale, string uri
    );
    /// @notice A resale can be bought no more; its open order goes on.
    event ResaleCancelled(bytes32 indexed resaleId);
    /// @notice The price is held, and a copy reserved or a token in custody, until `revealDeadline`.
    event OrderPaid(
        bytes32 indexed orderId,
        bytes32 indexed saleId,
        address indexed buyer,
        address mask,
        uint256 ephemeralX,
        uint256 ephemeralY,
        uint40 revealDeadline
    );
    /// @notice The buyer takes its scalar off `releasedKey` and has the key; it may dispute before `disputeDeadline`.
    event OrderRevealed(bytes32 indexed orderId, uint256 releasedKey, uint40 disputeDeadline);
    /// @notice The seller or holder was credited, and the buyer has the data token.
    event OrderSettled(bytes32 indexed orderId);
    /// @notice The buyer was credited the price; everything else went back to the seller or holder.
    event OrderRefunded(bytes32 indexed orderId);
    /// @notice A dispute was won at this leaf: the order is Refunded, and no OrderRefunded follows.
    event OrderDisputed(bytes32 indexed orderId, uint256 index);
    /// @notice `account` paid into its credit.
    event Deposited(address indexed account, address indexed token, uint256 amount);
    /// @notice A bond left the seller's credit for an open order.
    event BondLocked(address indexed account, address indexed token, uint256 amount);

    /* ERRORS */

    /// @notice Only the offer's seller may do that.
    error CallerNotSeller(address caller, address seller);
    /// @notice Only the resale's holder may do that.
    error CallerNotHolder(address caller, address holder);
    /// @notice The summary has too few or too many bytes.
    error SummaryLengthInvalid(uint256 length, uint256 minimum, uint256 maximum);
    /// @notice A data set without leaves could never be disputed.
    error LeafCountTooLow(uint256 leafCount, uint256 minimum);
    /// @notice The royalty is more than a seller may take.
    error RoyaltyTooHigh(uint256 royaltyBps, uint256 maximum);
    /// @notice The seller or holder cancelled the offer or resale.
    error SaleIsCancelled(bytes32 saleId);
    /// @notice The offer or resale ended at `expiry`.
    error SaleExpired(uint256 expiry, uint256 timestamp);
    /// @notice The sale is neither listed nor signed by its seller or holder.
    error SaleNotOffered(bytes32 saleId, address offeredBy);
    /// @notice The resale names another offer than the one that came with it.
    error ResaleOfOtherOffer(bytes32 resaleOfferId, bytes32 offerId);
    /// @notice The resale's token is in an open order, or sold.
    error ResaleIsTaken(bytes32 resaleId);
    /// @notice The holder has no data token of the offer (any more).
    error HolderHasNoToken(address holder, bytes32 offerId);
    /// @notice Address 0 and the market itself cannot buy.
    error BuyerInvalid(address buyer);
    /// @notice The offer is for `audience` alone.
    error BuyerNotInAudience(address buyer, address audience);
    /// @notice Every copy is in an open order, sold, or lost by a dispute.
    error SupplyExhausted(bytes32 offerId, uint256 supply);
    /// @notice A deposit is at most 2^128 - 1 base units at once.
    error AmountTooHigh(uint256 amount, uint256 maximum);
    /// @notice An order with this sale, buyer, mask and E was made before; try again with another E.
    error OrderAlreadyMade(bytes32 orderId, OrderState state);
    /// @notice Only a Paid order can be revealed or refunded.
    error OrderNotPaid(bytes32 orderId, OrderState state);
    /// @notice Only a Revealed order can be disputed or settled.
    error OrderNotRevealed(bytes32 orderId, OrderState state);
    /// @notice The released key does not fit the order's mask: κ'G - Q is another point.
    error ReleasedKeyInvalid(bytes32 orderId);
    /// @notice The content key is not the one behind the offer's public key, or is not below the group order.
    error ContentKeyInvalid(bytes32 orderId);
    /// @notice The data set has no leaf at that index.
    error LeafIndexTooHigh(uint256 index, uint256 leafCount);
    /// @notice The proof does not lead from this sealed leaf, at this index, to the offer's root.
    error LeafNotInRoot(bytes32 sealedLeafHash, bytes32 sealedRoot);
    /// @notice These are not the parameters that the offer promised.
    error RuleParamsInvalid(bytes32 ruleParamsHash, bytes32 promised);
    /// @notice The leaf decrypts to its hash and does not violate the rule.
    error FraudNotShown(bytes32 orderId, uint256 index);

    /* SELL */

    /// @notice Puts an offer into the logs and makes it open to buyers without a signature. By the seller, while it is
    /// neither cancelled nor expired; again at will, to move the bundle.
    /// @param uri Where the bundle lies.
    /// @param summary abi.encode(bytes32 device, uint64 firstTime, uint64 lastTime, uint32 rows, string title,
    /// string[] tags), times in milliseconds; 32 to 1,024 bytes, of which the contract reads the device.
    function list(Offer calldata offer, string calldata uri, bytes calldata summary) external;

    /// @notice Ends an offer, listed or not. By the seller. Open orders go on.
    function cancel(Offer calldata offer) external;

    /* BUY */

    /// @notice Orders one copy and pays by allowance. The caller is the buyer.
    /// @param sellerSignature The seller's signature of the offer; empty where it is listed.
    function buy(
        Offer calldata offer,
        bytes calldata sellerSignature,
        address mask,
        uint256 ephemeralX,
        uint256 ephemeralY
    ) external returns (bytes32 orderId);

    /// @notice Orders and pays by the buyer's ERC-3009 `receiveWithAuthorization` whose nonce is the order id, for a
    /// first sale or a resale. By anyone: that one signature binds sale, buyer, mask and E.
    /// @param sellerSignature Of the seller, for a resale of the holder; empty where the sale is listed.
    /// @param signature r ‖ s ‖ v, 65 bytes.
    function buyWithAuthorization(
        Order calldata order,
        bytes calldata sellerSignature,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external returns (bytes32 orderId);

    /* DELIVER */

    /// @notice Delivers the key: `κ' = κ + m mod n`, checked against Q and the mask. By the seller (the holder, for a
    /// resale) before the reveal deadline. Opens the dispute window.
    function reveal(Order calldata order, uint256 releasedKey) external;

    /// @notice Ends first sales that nobody disputed: price and bond to the seller's credit, tokens to the buyers. By
    /// anyone from the dispute deadline on, by the buyer at any time while Revealed. A row that cannot be settled is
    /// skipped. No receiver is called.
    function settle(Offer calldata offer, Row[] calldata rows) external;

    /* UNDO */

    /// @notice Ends a Paid order: the price to the buyer's credit; copy and bond, or the token, back to the seller or
    /// holder. By the seller or holder at any time, by anyone from the reveal deadline on.
    function refund(Order calldata order) external;

    /// @notice Ends a Revealed order by showing one wrong leaf: F1, it does not decrypt to its hash; F2, it violates
    /// the rule. Price and bond to the buyer's credit; a first sale's copy is lost to the supply, a resale's token goes
    /// back to the holder. By anyone before the dispute deadline.
    function dispute(Order calldata order, Disclosure calldata disclosure) external;

    /* RESELL */

    /// @notice Puts a resale into the logs and makes it open to buyers without a signature. By the holder, who holds a
    /// token; again at will.
    function listResale(Offer calldata offer, Resale calldata resale, string calldata uri) external;

    /// @notice Ends a resale, listed or not. By the holder. An open order goes on.
    function cancelResale(Resale calldata resale) external;

    /// @notice Orders a holder's token and pays by allowance; the token goes into custody. The caller is the buyer.
    /// @param holderSignature The holder's signature of the resale; empty where it is listed.
    function buyResale(
        Offer calldata offer,
        Resale calldata resale,
        bytes calldata holderSignature,
        address mask,
        uint256 ephemeralX,
        uint256 ephemeralY
    ) external returns (bytes32 orderId);

    /// @notice Ends a resale that nobody disputed: royalty to the seller's credit, the rest to the holder's, the token
    /// to the buyer. By anyone from the dispute deadline on, by the buyer at any time while Revealed.
    function settleResale(Offer calldata offer, Resale calldata resale, Row calldata row) external;

    /* MONEY */

    /// @notice Pays into the caller's credit, by allowance: money for bonds. At most 2^128 - 1 at once.
    function deposit(address token, uint256 amount) external;

    /* VIEWS */

    /// @notice The EIP-712 digest of an offer, in this contract's domain.
    function offerId(Offer calldata offer) external view returns (bytes32);

    /// @notice The EIP-712 digest of a resale, in this contract's domain.
    function resaleId(Resale calldata resale) external view returns (bytes32);

    /// @notice The id of an order; reverts with ResaleOfOtherOffer where its resale is of another offer.
    function orderId(Order calldata order) external view returns (bytes32);

    /// @notice Where an offer stands.
    /// @return listed Whether it can be bought without a signature.
    /// @return cancelled Whether it can be bought no more.
    /// @return copies Copies in open orders, settled, and lost by disputes; at most the supply, where there is one.
    function offerOf(bytes32 id) external view returns (bool listed, bool cancelled, uint32 copies);

    /// @notice Where a resale stands.
    /// @return listed Whether it can be bought without a signature.
    /// @return cancelled Whether it can be bought no more.
    /// @return taken Whether its token is in an open order, or sold.
    function resaleOf(bytes32 id) external view returns (bool listed, bool cancelled, bool taken);

    /// @notice Where an order stands.
    /// @return state Where the order stands.
    /// @return deadline Of the last window that was opened: to reveal while Paid, to dispute once Revealed.
    function orderOf(bytes32 id) external view returns (OrderState state, uint40 deadline);
}
