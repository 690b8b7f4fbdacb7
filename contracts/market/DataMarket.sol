// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC3009 } from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import { ERC1155 } from "@openzeppelin/contracts/token/ERC1155/ERC1155.sol";
import { Context } from "@openzeppelin/contracts/utils/Context.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { EIP712 } from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import { SignatureChecker } from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import { Relayed } from "contracts/base/Relayed.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { ExactTransfer } from "contracts/libraries/ExactTransfer.sol";
import { FraudProof } from "contracts/libraries/FraudProof.sol";
import { KeyRelease } from "contracts/libraries/KeyRelease.sol";
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
/// DM-7 Tokens of an offer = its settled first sales; open and settled copies never exceed its supply.
///
/// ASSUMPTIONS. Tokens move what they say (checked) and keep balances still (not checked: no rebasing). A rule is a pure
/// function. An issuer can still block an address.
///
/// LIVENESS. Nothing that a buyer or a stranger controls can make a reveal, a refund or a settlement revert: they call no
/// token, no receiver and no rule.
contract DataMarket is IDataMarket, ERC1155, Relayed, ReentrancyGuardTransient {
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

    struct OrderSlot {
        OrderState state;
        uint40 deadline;
    }

    uint256 private constant MIN_SUMMARY_LENGTH = 32;
    uint256 private constant MAX_SUMMARY_LENGTH = 1024;
    uint256 private constant AUTHORIZATION_LENGTH = 65;

    mapping(bytes32 offerId => OfferSlot slot) private _offers;
    mapping(bytes32 resaleId => ResaleSlot slot) private _resales;
    mapping(bytes32 orderId => OrderSlot slot) private _orders;
    mapping(address account => mapping(address token => uint256 credit)) private _credits;

    constructor() ERC1155("") EIP712("pyiot DataMarket", "1") { }

    /* SELL */

    /// @inheritdoc IDataMarket
    function list(Offer calldata offer, string calldata uri, bytes calldata summary) external nonReentrant {
        _requireSeller(offer.seller);
        _requireNotExpired(offer.expiry);
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
        id = _place(saleId, offer.revealWindow, Row(buyer, mask, ephemeralX, ephemeralY));

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
        if (_isFirstSale(order)) _reserveCopy(order.offer, saleId, sellerSignature, order.buyer);
        else _takeToken(order.resale, saleId, sellerSignature);
        id = _place(saleId, order.offer.revealWindow, Row(order.buyer, order.mask, order.ephemeralX, order.ephemeralY));

        (address token, uint256 price) = _priceOf(order);
        uint256 before = ExactTransfer.balance(token);
        IERC3009(token)
            .receiveWithAuthorization(
                order.buyer,
                address(this),
                price,
                validAfter,
                validBefore,
                id,
                uint8(signature[64]),
                bytes32(signature),
                bytes32(signature[32:])
            );
        ExactTransfer.requireReceived(token, before, price);
    }

    /* DELIVER */

    /// @inheritdoc IDataMarket
    function reveal(Order calldata order, uint256 releasedKey) external nonReentrant {
        bytes32 saleId = _saleIdOf(order);
        if (_isFirstSale(order)) _requireSeller(order.offer.seller);
        else _requireHolder(order.resale.holder);
        bytes32 id = _orderIdOf(saleId, order);
        OrderSlot storage slot = _orders[id];
        require(slot.state == OrderState.Paid, OrderNotPaid(id, slot.state));
        require(block.timestamp < slot.deadline, WindowIsOver(slot.deadline, block.timestamp));
        require(
            KeyRelease.isRelease(releasedKey, order.offer.keyX, order.offer.keyY, order.mask), ReleasedKeyInvalid(id)
        );

        uint40 deadline = uint40(block.timestamp + order.offer.disputeWindow);
        _orders[id] = OrderSlot(OrderState.Revealed, deadline);
        emit OrderRevealed(id, releasedKey, deadline);
    }

    /// @inheritdoc IDataMarket
    function settle(Offer calldata offer, Row[] calldata rows) external nonReentrant {
        bytes32 saleId = offerId(offer);
        (uint256[] memory ids, uint256[] memory amounts) = _oneToken(saleId);
        uint256 settled;
        for (uint256 i = 0; i < rows.length; ++i) {
            bytes32 id = _orderIdOf(saleId, rows[i]);
            OrderSlot storage slot = _orders[id];
            if (slot.state != OrderState.Revealed) continue;
            if (block.timestamp < slot.deadline && rows[i].buyer != _msgSender()) continue;
            slot.state = OrderState.Settled;
            ++settled;
            emit OrderSettled(id);
            _update(address(0), rows[i].buyer, ids, amounts);
        }
        _credit(offer.seller, offer.token, (uint256(offer.price) + offer.bond) * settled);
    }

    /* UNDO */

    /// @inheritdoc IDataMarket
    function refund(Order calldata order) external nonReentrant {
        bytes32 saleId = _saleIdOf(order);
        bytes32 id = _orderIdOf(saleId, order);
        OrderSlot storage slot = _orders[id];
        require(slot.state == OrderState.Paid, OrderNotPaid(id, slot.state));
        address payee = _isFirstSale(order) ? order.offer.seller : order.resale.holder;
        require(block.timestamp >= slot.deadline || _msgSender() == payee, WindowIsOpen(slot.deadline, block.timestamp));

        slot.state = OrderState.Refunded;
        emit OrderRefunded(id);
        _undo(order, saleId, false);
    }

    /// @inheritdoc IDataMarket
    function dispute(Order calldata order, Disclosure calldata disclosure) external nonReentrant {
        bytes32 saleId = _saleIdOf(order);
        bytes32 id = _orderIdOf(saleId, order);
        OrderSlot storage slot = _orders[id];
        require(slot.state == OrderState.Revealed, OrderNotRevealed(id, slot.state));
        require(block.timestamp < slot.deadline, WindowIsOver(slot.deadline, block.timestamp));
        require(
            KeyRelease.isContentKey(disclosure.contentKey, order.offer.keyX, order.offer.keyY), ContentKeyInvalid(id)
        );
        require(FraudProof.isFraud(order.offer, disclosure), FraudNotShown(id, disclosure.index));

        slot.state = OrderState.Refunded;
        emit OrderDisputed(id, disclosure.index);
        _undo(order, saleId, true);
    }

    /* RESELL */

    /// @inheritdoc IDataMarket
    function listResale(Offer calldata offer, Resale calldata resale, string calldata uri) external nonReentrant {
        _requireHolder(resale.holder);
        _requireNotExpired(resale.expiry);
        _requireSameOffer(resale, offerId(offer));
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
        _requireSameOffer(resale, offerId(offer));
        bytes32 saleId = resaleId(resale);
        _takeToken(resale, saleId, holderSignature);
        id = _place(saleId, offer.revealWindow, Row(buyer, mask, ephemeralX, ephemeralY));

        ExactTransfer.pull(resale.token, buyer, resale.price);
    }

    /// @inheritdoc IDataMarket
    function settleResale(Offer calldata offer, Resale calldata resale, Row calldata row) external nonReentrant {
        _requireSameOffer(resale, offerId(offer));
        bytes32 id = _orderIdOf(resaleId(resale), row);
        OrderSlot storage slot = _orders[id];
        require(slot.state == OrderState.Revealed, OrderNotRevealed(id, slot.state));
        require(
            block.timestamp >= slot.deadline || _msgSender() == row.buyer, WindowIsOpen(slot.deadline, block.timestamp)
        );

        slot.state = OrderState.Settled;
        emit OrderSettled(id);
        uint256 royalty = uint256(resale.price) * offer.royaltyBps / SaleTerms.BPS;
        _credit(offer.seller, resale.token, royalty);
        _credit(resale.holder, resale.token, resale.price - royalty);
        _moveToken(address(this), row.buyer, resale.offerId);
    }

    /* MONEY */

    /// @inheritdoc IDataMarket
    function deposit(address token, uint256 amount) external nonReentrant {
        address account = _msgSender();
        _credits[account][token] += amount;
        emit Deposited(account, token, amount);

        ExactTransfer.pull(token, account, amount);
    }

    /// @inheritdoc IDataMarket
    function withdraw(address token, uint256 amount, address to) external nonReentrant {
        require(to != address(0) && to != address(this), RecipientInvalid(to));
        address account = _msgSender();
        _debit(account, token, amount);
        emit Withdrawn(account, token, amount, to);

        ExactTransfer.push(token, to, amount);
    }

    /* DATA TOKENS AND NONCES, GUARDED */

    /// @inheritdoc ERC1155
    function setApprovalForAll(address operator, bool approved) public override nonReentrant {
        super.setApprovalForAll(operator, approved);
    }

    /// @inheritdoc ERC1155
    function safeTransferFrom(address from, address to, uint256 id, uint256 value, bytes memory data)
        public
        override
        nonReentrant
    {
        super.safeTransferFrom(from, to, id, value, data);
    }

    /// @inheritdoc ERC1155
    function safeBatchTransferFrom(
        address from,
        address to,
        uint256[] memory ids,
        uint256[] memory values,
        bytes memory data
    ) public override nonReentrant {
        super.safeBatchTransferFrom(from, to, ids, values, data);
    }

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
    function orderId(Order calldata order) external view returns (bytes32) {
        return _orderIdOf(_saleIdOf(order), order);
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
        OrderSlot storage slot = _orders[id];
        return (slot.state, slot.deadline);
    }

    /// @inheritdoc IDataMarket
    function creditOf(address account, address token) external view returns (uint256) {
        return _credits[account][token];
    }

    /* INTERNAL */

    function _reserveCopy(Offer calldata offer, bytes32 id, bytes calldata signature, address buyer) private {
        _requireNotExpired(offer.expiry);
        require(offer.audience == address(0) || offer.audience == buyer, BuyerNotInAudience(buyer, offer.audience));
        OfferSlot storage slot = _offers[id];
        require(!slot.cancelled, SaleIsCancelled(id));
        require(offer.supply == 0 || slot.copies < offer.supply, SupplyExhausted(id, offer.supply));
        if (!slot.listed) {
            offer.requireValid();
            _requireSigned(offer.seller, id, signature);
        }

        ++slot.copies;
        if (offer.bond != 0) {
            _debit(offer.seller, offer.token, offer.bond);
            emit BondLocked(offer.seller, offer.token, offer.bond);
        }
    }

    function _takeToken(Resale calldata resale, bytes32 id, bytes calldata signature) private {
        _requireNotExpired(resale.expiry);
        ResaleSlot storage slot = _resales[id];
        require(!slot.cancelled, SaleIsCancelled(id));
        require(!slot.taken, ResaleIsTaken(id));
        if (!slot.listed) _requireSigned(resale.holder, id, signature);
        _requireToken(resale);

        slot.taken = true;
        _moveToken(resale.holder, address(this), resale.offerId);
    }

    function _place(bytes32 saleId, uint256 revealWindow, Row memory row) private returns (bytes32 id) {
        require(row.buyer != address(0) && row.buyer != address(this), BuyerInvalid(row.buyer));
        require(row.mask != address(0), MaskIsZero());
        id = keccak256(abi.encode(saleId, row));
        OrderState state = _orders[id].state;
        require(state == OrderState.None, OrderAlreadyMade(id, state));

        uint40 deadline = uint40(block.timestamp + revealWindow);
        _orders[id] = OrderSlot(OrderState.Paid, deadline);
        emit OrderPaid(id, saleId, row.buyer, row.mask, row.ephemeralX, row.ephemeralY, deadline);
    }

    /// @dev Gives everything back; `forfeit` gives the bond to the buyer instead.
    function _undo(Order calldata order, bytes32 saleId, bool forfeit) private {
        if (_isFirstSale(order)) {
            Offer calldata offer = order.offer;
            --_offers[saleId].copies;
            _credit(order.buyer, offer.token, uint256(offer.price) + (forfeit ? offer.bond : 0));
            if (!forfeit) _credit(offer.seller, offer.token, offer.bond);
        } else {
            Resale calldata resale = order.resale;
            _resales[saleId].taken = false;
            _credit(order.buyer, resale.token, resale.price);
            _moveToken(address(this), resale.holder, resale.offerId);
        }
    }

    function _credit(address account, address token, uint256 amount) private {
        if (amount == 0) return;
        _credits[account][token] += amount;
        emit Credited(account, token, amount);
    }

    function _debit(address account, address token, uint256 amount) private {
        uint256 credit = _credits[account][token];
        require(credit >= amount, CreditTooLow(account, token, credit, amount));
        _credits[account][token] = credit - amount;
    }

    /// @dev Moves one data token and calls no receiver.
    function _moveToken(address from, address to, bytes32 saleId) private {
        (uint256[] memory ids, uint256[] memory amounts) = _oneToken(saleId);
        _update(from, to, ids, amounts);
    }

    function _oneToken(bytes32 saleId) private pure returns (uint256[] memory ids, uint256[] memory amounts) {
        ids = new uint256[](1);
        amounts = new uint256[](1);
        ids[0] = uint256(saleId);
        amounts[0] = 1;
    }

    function _requireSeller(address seller) private view {
        require(_msgSender() == seller, CallerNotSeller(_msgSender(), seller));
    }

    function _requireHolder(address holder) private view {
        require(_msgSender() == holder, CallerNotHolder(_msgSender(), holder));
    }

    function _requireNotExpired(uint256 expiry) private view {
        require(block.timestamp < expiry, SaleExpired(expiry, block.timestamp));
    }

    function _requireSigned(address account, bytes32 saleId, bytes calldata signature) private view {
        require(
            SignatureChecker.isValidSignatureNowCalldata(account, saleId, signature), SaleNotOffered(saleId, account)
        );
    }

    function _requireSameOffer(Resale calldata resale, bytes32 id) private pure {
        require(resale.offerId == id, ResaleOfOtherOffer(resale.offerId, id));
    }

    function _requireToken(Resale calldata resale) private view {
        require(balanceOf(resale.holder, uint256(resale.offerId)) != 0, HolderHasNoToken(resale.holder, resale.offerId));
    }

    function _isFirstSale(Order calldata order) private pure returns (bool) {
        return order.resale.holder == address(0);
    }

    function _priceOf(Order calldata order) private pure returns (address token, uint256 price) {
        return _isFirstSale(order) ? (order.offer.token, order.offer.price) : (order.resale.token, order.resale.price);
    }

    function _saleIdOf(Order calldata order) private view returns (bytes32 id) {
        id = offerId(order.offer);
        if (_isFirstSale(order)) return id;
        _requireSameOffer(order.resale, id);
        return resaleId(order.resale);
    }

    function _orderIdOf(bytes32 saleId, Order calldata order) private pure returns (bytes32) {
        return keccak256(abi.encode(saleId, order.buyer, order.mask, order.ephemeralX, order.ephemeralY));
    }

    function _orderIdOf(bytes32 saleId, Row calldata row) private pure returns (bytes32) {
        return keccak256(abi.encode(saleId, row));
    }

    function _msgSender() internal view override(Context, Relayed) returns (address) {
        return Relayed._msgSender();
    }
}
