// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC3009 } from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import { Context } from "@openzeppelin/contracts/utils/Context.sol";
import { EIP712 } from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import { SignatureChecker } from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import { Relayed } from "contracts/base/Relayed.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { Credits } from "contracts/libraries/Credits.sol";
import { ExactTransfer } from "contracts/libraries/ExactTransfer.sol";
import { KeyRelease } from "contracts/libraries/KeyRelease.sol";
import { DataToken } from "contracts/market/DataToken.sol";
import { FraudProof } from "contracts/market/FraudProof.sol";
import { Orders } from "contracts/market/Orders.sol";
import { SaleTerms } from "contracts/market/SaleTerms.sol";

/// @title DataMarket
/// @notice Sells sealed data sets as data tokens: money is held until the key is out and nobody showed a wrong leaf.
/// @dev
/// MODEL. A seller signs or lists an Offer; a buyer pays into an order; the seller reveals the key to that buyer alone;
/// after a window for disputes the order is settled and its data token minted. A token's holder sells it on in the same
/// way. The contract has no owner, no fee and no switch.
///
/// LIFECYCLE. None → Paid → Revealed → Settled, or → Refunded from Paid (`refund`) or from Revealed (`dispute`).
///
/// ROLES. Seller, holder and buyer, each by call or by relayed call; and anyone, once a deadline has passed.
///
/// UNITS. Amounts are base units of a token, times seconds, royalties basis points.
///
/// INVARIANTS.
/// DM-1 The contract's balance of each token is at least held prices + locked bonds + credits.
/// DM-2 An order reaches at most one of Settled and Refunded; never are both parties paid for it.
/// DM-3 Where a key was revealed, κ'G − Q = M.
/// DM-6 Every Paid or Revealed order can be ended by anyone after its deadline.
/// DM-7 Tokens of an offer = its settled first sales; open, settled and disputed copies never exceed its supply.
///
/// ASSUMPTIONS. Tokens move what they say (checked) and keep balances still (not checked: no rebasing). A rule is a pure
/// function. An issuer can still block an address.
///
/// LIVENESS. Nothing that a buyer or a stranger controls can make a reveal, a refund or a settlement revert: they call no
/// token, no receiver and no rule.
contract DataMarket is IDataMarket, DataToken, Relayed {
    using Credits for Credits.Ledger;
    using Orders for Orders.Book;
    using Orders for Order;
    using SaleTerms for Offer;
    using SaleTerms for Resale;

    struct OfferSlot {
        bool listed;
        bool cancelled;
        uint32 copies;
    }

    struct ResaleSlot {
        bool listed;
        bool cancelled;
        bool taken;
    }

    uint256 private constant MIN_SUMMARY_LENGTH = 32;
    uint256 private constant MAX_SUMMARY_LENGTH = 1024;
    uint256 private constant AUTHORIZATION_LENGTH = 65;

    mapping(bytes32 offerId => OfferSlot slot) private _offers;
    mapping(bytes32 resaleId => ResaleSlot slot) private _resales;
    Orders.Book private _orders;
    Credits.Ledger private _credits;

    constructor() EIP712("pyiot DataMarket", "1") { }

    /* SELL */

    /// @inheritdoc IDataMarket
    function list(Offer calldata offer, string calldata uri, bytes calldata summary) external nonReentrant {
        _requireSeller(offer.seller);
        SaleTerms.requireNotExpired(offer.expiry);
        require(
            MIN_SUMMARY_LENGTH <= summary.length && summary.length <= MAX_SUMMARY_LENGTH,
            SummaryLengthInvalid(summary.length, MIN_SUMMARY_LENGTH, MAX_SUMMARY_LENGTH)
        );
        offer.requireValid();
        bytes32 id = offerId(offer);
        OfferSlot storage slot = _offers[id];
        require(!slot.cancelled, SaleIsCancelled(id));

        slot.listed = true;
        emit OfferListed(id, offer.seller, bytes32(summary), offer, uri, summary);
    }

    /// @inheritdoc IDataMarket
    function cancel(Offer calldata offer) external nonReentrant {
        _requireSeller(offer.seller);
        bytes32 id = offerId(offer);
        OfferSlot storage slot = _offers[id];
        require(!slot.cancelled, SaleIsCancelled(id));

        slot.cancelled = true;
        emit OfferCancelled(id);
    }

    /* BUY */

    /// @inheritdoc IDataMarket
    function buy(
        Offer calldata offer,
        bytes calldata sellerSignature,
        address mask,
        uint256 ephemeralX,
        uint256 ephemeralY
    ) external nonReentrant returns (bytes32 id) {
        address buyer = _msgSender();
        bytes32 saleId = offerId(offer);
        _reserveCopy(offer, saleId, sellerSignature, buyer);
        id = _orders.place(saleId, Row(buyer, mask, ephemeralX, ephemeralY), offer.revealWindow);

        ExactTransfer.pull(offer.token, buyer, offer.price);
    }

    /// @inheritdoc IDataMarket
    function buyWithAuthorization(
        Order calldata order,
        bytes calldata sellerSignature,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external nonReentrant returns (bytes32 id) {
        require(
            signature.length == AUTHORIZATION_LENGTH, AuthorizationLengthInvalid(signature.length, AUTHORIZATION_LENGTH)
        );
        bytes32 saleId = _saleIdOf(order);
        bool isFirst = _isFirstSale(order);
        if (isFirst) _reserveCopy(order.offer, saleId, sellerSignature, order.buyer);
        else _takeToken(order.resale, saleId, sellerSignature);
        id = _orders.place(saleId, order.rowOf(), order.offer.revealWindow);

        address token = isFirst ? order.offer.token : order.resale.token;
        uint256 price = isFirst ? order.offer.price : order.resale.price;
        uint256 before = ExactTransfer.balance(token);
        (bytes32 r, bytes32 s, uint8 v) = (bytes32(signature), bytes32(signature[32:]), uint8(signature[64]));
        IERC3009(token)
            .receiveWithAuthorization(order.buyer, address(this), price, validAfter, validBefore, id, v, r, s);
        ExactTransfer.requireReceived(token, before, price);
    }

    /* DELIVER */

    /// @inheritdoc IDataMarket
    function reveal(Order calldata order, uint256 releasedKey) external nonReentrant {
        Offer calldata offer = order.offer;
        if (_isFirstSale(order)) _requireSeller(offer.seller);
        else _requireHolder(order.resale.holder);
        bytes32 id = orderId(order);
        require(KeyRelease.isRelease(releasedKey, offer.keyX, offer.keyY, order.mask), ReleasedKeyInvalid(id));

        _orders.reveal(id, releasedKey, offer.disputeWindow);
    }

    /// @inheritdoc IDataMarket
    function settle(Offer calldata offer, Row[] calldata rows) external nonReentrant {
        bytes32 saleId = offerId(offer);
        address caller = _msgSender();
        uint256 settled = 0;
        for (uint256 i = 0; i < rows.length; ++i) {
            address buyer = rows[i].buyer;
            if (!_orders.trySettle(Orders.idOf(saleId, rows[i]), caller == buyer)) continue;
            ++settled;
            _moveToken(address(0), buyer, saleId);
        }
        _credits.credit(offer.seller, offer.token, (uint256(offer.price) + offer.bond) * settled);
    }

    /* UNDO */

    /// @inheritdoc IDataMarket
    function refund(Order calldata order) external nonReentrant {
        bytes32 saleId = _saleIdOf(order);
        address payee = _isFirstSale(order) ? order.offer.seller : order.resale.holder;
        _orders.refund(Orders.idOf(saleId, order), _msgSender() == payee);
        _undo(order, saleId, false);
    }

    /// @inheritdoc IDataMarket
    function dispute(Order calldata order, Disclosure calldata disclosure) external nonReentrant {
        Offer calldata offer = order.offer;
        bytes32 saleId = _saleIdOf(order);
        bytes32 id = Orders.idOf(saleId, order);
        uint40 deadline = _orders.requireDisputable(id);
        require(KeyRelease.isContentKey(disclosure.contentKey, offer.keyX, offer.keyY), ContentKeyInvalid(id));
        require(FraudProof.isFraud(offer, disclosure), FraudNotShown(id, disclosure.index));

        _orders.dispute(id, deadline, disclosure.index);
        _undo(order, saleId, true);
    }

    /* RESELL */

    /// @inheritdoc IDataMarket
    function listResale(Offer calldata offer, Resale calldata resale, string calldata uri) external nonReentrant {
        _requireHolder(resale.holder);
        SaleTerms.requireNotExpired(resale.expiry);
        resale.requireSameOffer(offerId(offer));
        _requireToken(resale);
        bytes32 id = resaleId(resale);
        ResaleSlot storage slot = _resales[id];
        require(!slot.cancelled, SaleIsCancelled(id));

        slot.listed = true;
        emit ResaleListed(id, resale.offerId, resale.holder, resale, uri);
    }

    /// @inheritdoc IDataMarket
    function cancelResale(Resale calldata resale) external nonReentrant {
        _requireHolder(resale.holder);
        bytes32 id = resaleId(resale);
        ResaleSlot storage slot = _resales[id];
        require(!slot.cancelled, SaleIsCancelled(id));

        slot.cancelled = true;
        emit ResaleCancelled(id);
    }

    /// @inheritdoc IDataMarket
    function buyResale(
        Offer calldata offer,
        Resale calldata resale,
        bytes calldata holderSignature,
        address mask,
        uint256 ephemeralX,
        uint256 ephemeralY
    ) external nonReentrant returns (bytes32 id) {
        address buyer = _msgSender();
        resale.requireSameOffer(offerId(offer));
        bytes32 saleId = resaleId(resale);
        _takeToken(resale, saleId, holderSignature);
        id = _orders.place(saleId, Row(buyer, mask, ephemeralX, ephemeralY), offer.revealWindow);

        ExactTransfer.pull(resale.token, buyer, resale.price);
    }

    /// @inheritdoc IDataMarket
    function settleResale(Offer calldata offer, Resale calldata resale, Row calldata row) external nonReentrant {
        resale.requireSameOffer(offerId(offer));
        _orders.settle(Orders.idOf(resaleId(resale), row), _msgSender() == row.buyer);
        uint256 royalty = uint256(resale.price) * offer.royaltyBps / SaleTerms.BPS;
        _credits.credit(offer.seller, resale.token, royalty);
        _credits.credit(resale.holder, resale.token, resale.price - royalty);
        _moveToken(address(this), row.buyer, resale.offerId);
    }

    /* MONEY */

    /// @inheritdoc IDataMarket
    function deposit(address token, uint256 amount) external nonReentrant {
        require(amount <= type(uint128).max, AmountTooHigh(amount, type(uint128).max));
        address account = _msgSender();
        _credits.credits[account][token] += amount;
        emit Deposited(account, token, amount);

        ExactTransfer.pull(token, account, amount);
    }

    /// @inheritdoc ICredits
    function withdraw(address token, uint256 amount, address to) external nonReentrant {
        _credits.withdraw(_msgSender(), token, amount, to);

        ExactTransfer.push(token, to, amount);
    }

    /* NONCES */

    /// @inheritdoc Relayed
    function cancelNonce(uint256 nonce) public override nonReentrant {
        super.cancelNonce(nonce);
    }

    /* VIEWS */

    /// @inheritdoc IDataMarket
    function offerId(Offer calldata offer) public view returns (bytes32) {
        return _hashTypedDataV4(offer.hash());
    }

    /// @inheritdoc IDataMarket
    function resaleId(Resale calldata resale) public view returns (bytes32) {
        return _hashTypedDataV4(resale.hash());
    }

    /// @inheritdoc IDataMarket
    function orderId(Order calldata order) public view returns (bytes32) {
        return Orders.idOf(_saleIdOf(order), order);
    }

    /// @inheritdoc IDataMarket
    function offerOf(bytes32 id) external view returns (bool listed, bool cancelled, uint32 copies) {
        OfferSlot storage slot = _offers[id];
        return (slot.listed, slot.cancelled, slot.copies);
    }

    /// @inheritdoc IDataMarket
    function resaleOf(bytes32 id) external view returns (bool listed, bool cancelled, bool taken) {
        ResaleSlot storage slot = _resales[id];
        return (slot.listed, slot.cancelled, slot.taken);
    }

    /// @inheritdoc IDataMarket
    function orderOf(bytes32 id) external view returns (OrderState state, uint40 deadline) {
        return _orders.get(id);
    }

    /// @inheritdoc ICredits
    function creditOf(address account, address token) external view returns (uint256) {
        return _credits.credits[account][token];
    }

    /* INTERNAL */

    function _reserveCopy(Offer calldata offer, bytes32 id, bytes calldata signature, address buyer) private {
        SaleTerms.requireNotExpired(offer.expiry);
        require(offer.audience == address(0) || offer.audience == buyer, BuyerNotInAudience(buyer, offer.audience));
        OfferSlot storage slot = _offers[id];
        require(!slot.cancelled, SaleIsCancelled(id));
        require(offer.supply == 0 || slot.copies < offer.supply, SupplyExhausted(id, offer.supply));
        if (!slot.listed) {
            offer.requireValid();
            _requireSigned(offer.seller, id, signature);
        }

        ++slot.copies;
        if (offer.bond == 0) return;
        _credits.take(offer.seller, offer.token, offer.bond);
        emit BondLocked(offer.seller, offer.token, offer.bond);
    }

    function _takeToken(Resale calldata resale, bytes32 id, bytes calldata signature) private {
        SaleTerms.requireNotExpired(resale.expiry);
        ResaleSlot storage slot = _resales[id];
        require(!slot.cancelled, SaleIsCancelled(id));
        require(!slot.taken, ResaleIsTaken(id));
        if (!slot.listed) _requireSigned(resale.holder, id, signature);
        _requireToken(resale);

        slot.taken = true;
        _moveToken(resale.holder, address(this), resale.offerId);
    }

    /// @dev The price back to the buyer. Copy and bond, or the token, back to who sold; on fraud the bond goes to the
    /// buyer and the copy is lost.
    function _undo(Order calldata order, bytes32 saleId, bool isFraud) private {
        if (_isFirstSale(order)) {
            Offer calldata offer = order.offer;
            if (!isFraud) {
                --_offers[saleId].copies;
                _credits.credit(offer.seller, offer.token, offer.bond);
            }
            _credits.credit(order.buyer, offer.token, uint256(offer.price) + (isFraud ? offer.bond : 0));
        } else {
            Resale calldata resale = order.resale;
            _resales[saleId].taken = false;
            _credits.credit(order.buyer, resale.token, resale.price);
            _moveToken(address(this), resale.holder, resale.offerId);
        }
    }

    function _requireSeller(address seller) private view {
        require(_msgSender() == seller, CallerNotSeller(_msgSender(), seller));
    }

    function _requireHolder(address holder) private view {
        require(_msgSender() == holder, CallerNotHolder(_msgSender(), holder));
    }

    function _requireSigned(address account, bytes32 saleId, bytes calldata signature) private view {
        require(
            SignatureChecker.isValidSignatureNowCalldata(account, saleId, signature), SaleNotOffered(saleId, account)
        );
    }

    function _requireToken(Resale calldata resale) private view {
        require(balanceOf(resale.holder, uint256(resale.offerId)) != 0, HolderHasNoToken(resale.holder, resale.offerId));
    }

    function _isFirstSale(Order calldata order) private pure returns (bool) {
        return order.resale.holder == address(0);
    }

    function _saleIdOf(Order calldata order) private view returns (bytes32 id) {
        id = offerId(order.offer);
        if (_isFirstSale(order)) return id;
        order.resale.requireSameOffer(id);
        return resaleId(order.resale);
    }

    function _msgSender() internal view override(Context, Relayed) returns (address) {
        return Relayed._msgSender();
    }
}
