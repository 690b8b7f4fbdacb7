// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketKit, DataSet } from "./DataMarketKit.sol";
import { Attempts, vm } from "./TestBase.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";

/// @title DataMarketHandler
/// @notice Random histories of the market: four accounts sell, buy, resell, cheat, argue and sleep. Before each call the
/// model says what will come of it, to the exact error. It begins with two copies that are sold on and delivered; a call
/// that finds nothing to do reverts.
contract DataMarketHandler is DataMarketKit, Attempts {
    struct OfferModel {
        IDataMarket.Offer offer;
        bytes32 id;
        uint256 contentKey;
        bool hasLie;
        bool listed;
        bool cancelled;
        uint256 copies;
        uint256 settled;
    }

    struct ResaleModel {
        IDataMarket.Resale resale;
        bytes32 id;
        uint256 offer;
        bool listed;
        bool cancelled;
        bool taken;
    }

    struct OrderModel {
        uint256 offer;
        /// @dev The resale's index plus one; 0 is a first sale.
        uint256 resale;
        address buyer;
        uint256 m;
        bool isUnfit;
        IDataMarket.OrderState state;
        uint256 deadline;
        uint256 releasedKey;
        uint256 endings;
        bytes32 id;
        address mask;
        /// @dev What the market holds for it while it is open, bond included.
        address token;
        uint256 held;
    }

    uint256 internal constant ACTORS = 4;
    uint256 internal constant TOKENS = 2;
    uint256 internal constant LEAVES = 4;
    uint256 internal constant LIE = 2;
    /// @dev With every bit set nothing goes wrong: all is listed, fits, and is done by who may do it.
    uint256 private constant RIGHTLY = type(uint256).max;

    address[ACTORS] private _actors;
    mapping(address account => uint256 secret) private _secretOf;
    DevDollar[TOKENS] private _tokens;
    OfferModel[] private _offers;
    ResaleModel[] private _resales;
    OrderModel[] private _orders;
    OrderModel private _none;
    mapping(bytes32 orderId => uint256 indexPlusOne) private _orderIndex;
    uint256 private _salts;

    /// @notice What the model says that an account can withdraw.
    mapping(address account => mapping(address token => uint256 amount)) public creditModel;
    /// @notice What was sent to the market unasked.
    mapping(address token => uint256 amount) public donated;

    constructor() {
        setUp();
        _tokens[0] = dollar;
        _tokens[1] = new DevDollar();
        uint256[ACTORS] memory secrets = [SELLER_SECRET, BUYER_SECRET, THIRD_SECRET, STRANGER_SECRET];
        for (uint256 i = 0; i < ACTORS; ++i) {
            _actors[i] = vm.addr(secrets[i]);
            _secretOf[_actors[i]] = secrets[i];
            for (uint256 j = 0; j < TOKENS; ++j) {
                _tokens[j].mint(actor(i), 1e30);
                vm.startPrank(actor(i));
                _tokens[j].approve(address(market), type(uint256).max);
                market.deposit(address(_tokens[j]), 3000);
                vm.stopPrank();
                creditModel[actor(i)][address(_tokens[j])] = 3000;
            }
        }
        _newOffer(0, 0x3ff);
        _newOffer(1, 0x155);
        _deliverResales();
    }

    /// @dev The way there is long: few of a history's calls would ever see a resale that is revealed.
    function _deliverResales() private {
        _newOffer(0, 1024 << 200 | 0x2a50);
        uint256 offer = _offers.length - 1;
        for (uint256 who = 1; who < 3; ++who) {
            _buy(offer, who, RIGHTLY);
            _reveal(_orders[_orders.length - 1], RIGHTLY);
            _settle(_orders.length - 1, 0, RIGHTLY);
            _sellOn(offer, actor(who), RIGHTLY);
            _buyResale(_resales.length - 1, 3, RIGHTLY);
            _reveal(_orders[_orders.length - 1], RIGHTLY);
        }
    }

    /* SELL */

    /// @dev A new offer, listed, or private where `shape` says so.
    function sell(uint256 who, uint256 shape) external {
        shape = _mix(shape);
        _newOffer(who, shape);
        if (shape & 0x400 == 0) _list(_offers.length - 1, false);
    }

    function list(uint256 which, bool byStranger) external {
        _list(which % _offers.length, byStranger);
    }

    function cancel(uint256 which, bool byStranger) external {
        OfferModel storage model = _offers[which % _offers.length];
        address caller = byStranger ? _notActor() : model.offer.seller;
        bytes memory problem;
        if (caller != model.offer.seller) problem = _callerNotSeller(caller, model);
        else if (model.cancelled) problem = abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, model.id);
        (bool ok,) = attempt(caller, address(market), abi.encodeCall(market.cancel, (model.offer)), problem);
        if (ok) model.cancelled = true;
    }

    function _list(uint256 which, bool byStranger) private {
        OfferModel storage model = _offers[which];
        address caller = byStranger ? _notActor() : model.offer.seller;
        bytes memory problem;
        if (caller != model.offer.seller) problem = _callerNotSeller(caller, model);
        else if (block.timestamp >= model.offer.expiry) problem = _saleExpired(model.offer.expiry);
        else if (model.cancelled) problem = abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, model.id);
        bytes memory call = abi.encodeCall(market.list, (model.offer, URI, SUMMARY));
        (bool ok,) = attempt(caller, address(market), call, problem);
        if (ok) model.listed = true;
    }

    function _newOffer(uint256 who, uint256 shape) private {
        OfferModel storage model = _offers.push();
        model.contentKey = 1 + uint256(keccak256(abi.encode("content key", ++_salts))) % (SECP256K1_N - 1);
        model.hasLie = shape & 1 == 1;
        IDataMarket.Offer memory offer = offerOf(_setOf(model));
        offer.seller = actor(who);
        offer.token = address(_tokens[(shape >> 1) & 1]);
        offer.price = shape & 0x30 == 0 ? 0 : uint128(shape >> 200);
        offer.bond = shape & 4 == 0 ? 0 : uint128(1 + (shape >> 100) % 500);
        offer.supply = shape & 8 == 0 ? 0 : uint32(1 + (shape >> 64) % 3);
        offer.audience = shape & 0x1c0 == 0 ? actor(shape >> 32) : address(0);
        offer.royaltyBps = uint16((shape >> 48) % 5001);
        offer.revealWindow = shape & 0x2000 == 0 ? 5 minutes : 20 minutes;
        offer.disputeWindow = shape & 0x200 == 0 ? 5 minutes : 40 minutes;
        offer.expiry = uint40(block.timestamp + (shape & 0x3800 == 0 ? 15 minutes : 30 days));
        offer.salt = _salts;
        model.offer = offer;
        model.id = market.offerId(offer);
    }

    /* BUY */

    /// @dev One in sixteen repeats an order that was made; one in eight has a mask that no key fits.
    function buy(uint256 which, uint256 who, uint256 how) external {
        how = _mix(how);
        _buy(_pickOffer(which, how), who, how);
    }

    function _buy(uint256 which, uint256 who, uint256 how) private {
        OfferModel storage model = _offers[which];
        (IDataMarket.Order memory order, OrderModel memory made) = _draft(which, 0, who, how);
        bytes memory signature = _signatureOf(model.offer.seller, model.id, model.listed, how);
        bytes memory problem = _firstSaleProblem(model, order, signature);
        if (problem.length == 0) problem = _placeProblem(made.id);
        bytes memory call;
        if (how & 0x10000 == 0) {
            call = abi.encodeCall(market.buy, (order.offer, signature, order.mask, order.ephemeralX, order.ephemeralY));
        } else {
            call = abi.encodeCall(
                market.buyWithAuthorization, (order, signature, 0, type(uint40).max, _authorize(order))
            );
        }
        (bool ok,) = attempt(order.buyer, address(market), call, problem);
        if (!ok) return;
        ++model.copies;
        creditModel[model.offer.seller][model.offer.token] -= model.offer.bond;
        _push(made);
    }

    /// @dev Three times in four one that is on sale, where there is one.
    function _pickOffer(uint256 which, uint256 how) private view returns (uint256) {
        uint256 count = _offers.length;
        for (uint256 i = 0; i < count && how & 0x6 != 0; ++i) {
            OfferModel storage model = _offers[(which % count + i) % count];
            bool isSoldOut = model.offer.supply != 0 && model.copies == model.offer.supply;
            if (model.cancelled || isSoldOut || block.timestamp >= model.offer.expiry) continue;
            return (which % count + i) % count;
        }
        return which % count;
    }

    function buyResale(uint256 which, uint256 who, uint256 how) external {
        how = _mix(how);
        _buyResale(_pickOpenResale(which, how), who, how);
    }

    function _buyResale(uint256 which, uint256 who, uint256 how) private {
        ResaleModel storage model = _resales[which];
        (IDataMarket.Order memory order, OrderModel memory made) = _draft(model.offer, which + 1, who, how);
        bytes memory signature = _signatureOf(model.resale.holder, model.id, model.listed, how);
        bytes memory problem = _resaleProblem(model, signature);
        if (problem.length == 0) problem = _placeProblem(made.id);
        bytes memory call;
        if (how & 0x10000 == 0) {
            call = abi.encodeCall(
                market.buyResale, (order.offer, order.resale, signature, order.mask, order.ephemeralX, order.ephemeralY)
            );
        } else {
            call = abi.encodeCall(
                market.buyWithAuthorization, (order, signature, 0, type(uint40).max, _authorize(order))
            );
        }
        (bool ok,) = attempt(order.buyer, address(market), call, problem);
        if (!ok) return;
        model.taken = true;
        _push(made);
    }

    /// @dev Seven times in eight one that can be had, where there is one.
    function _pickOpenResale(uint256 which, uint256 how) private view returns (uint256) {
        uint256 count = _resales.length;
        require(count != 0, NothingToDo());
        for (uint256 i = 0; i < count && how & 0x7 != 0; ++i) {
            ResaleModel storage model = _resales[(which % count + i) % count];
            if (model.cancelled || model.taken || block.timestamp >= model.resale.expiry) continue;
            if (market.balanceOf(model.resale.holder, uint256(model.resale.offerId)) == 0) continue;
            return (which % count + i) % count;
        }
        return which % count;
    }

    function _draft(uint256 offer, uint256 resale, uint256 who, uint256 how)
        private
        view
        returns (IDataMarket.Order memory order, OrderModel memory made)
    {
        made.offer = offer;
        made.resale = resale;
        made.buyer = actor(who);
        made.m = 1 + uint256(keccak256(abi.encode("m", _orders.length))) % (SECP256K1_N - 1);
        made.isUnfit = how & 0xe00 == 0;
        made.state = IDataMarket.OrderState.Paid;
        made.deadline = block.timestamp + _offers[offer].offer.revealWindow;
        if (how & 0xf000 == 0 && _orders.length != 0) {
            OrderModel storage twin = _orders[how % _orders.length];
            if (twin.offer == offer && twin.resale == resale) {
                (made.buyer, made.m, made.isUnfit) = (twin.buyer, twin.m, twin.isUnfit);
            }
        }
        made.mask = made.isUnfit ? address(uint160(made.m)) : vm.addr(made.m);
        order = _orderOf(made);
        made.id = market.orderId(order);
        bool isFirst = resale == 0;
        made.token = isFirst ? order.offer.token : order.resale.token;
        made.held = isFirst ? uint256(order.offer.price) + order.offer.bond : order.resale.price;
    }

    /// @dev The guards of a first sale in the order of the source.
    function _firstSaleProblem(OfferModel storage model, IDataMarket.Order memory order, bytes memory signature)
        private
        view
        returns (bytes memory)
    {
        IDataMarket.Offer memory offer = model.offer;
        if (block.timestamp >= offer.expiry) return _saleExpired(offer.expiry);
        if (offer.audience != address(0) && offer.audience != order.buyer) {
            return abi.encodeWithSelector(IDataMarket.BuyerNotInAudience.selector, order.buyer, offer.audience);
        }
        if (model.cancelled) return abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, model.id);
        if (offer.supply != 0 && model.copies == offer.supply) {
            return abi.encodeWithSelector(IDataMarket.SupplyExhausted.selector, model.id, offer.supply);
        }
        if (!model.listed && signature.length == 0) {
            return abi.encodeWithSelector(IDataMarket.SaleNotOffered.selector, model.id, offer.seller);
        }
        uint256 credit = creditModel[offer.seller][offer.token];
        if (credit < offer.bond) {
            return abi.encodeWithSelector(ICredits.CreditTooLow.selector, offer.seller, offer.token, credit, offer.bond);
        }
        return "";
    }

    function _resaleProblem(ResaleModel storage model, bytes memory signature) private view returns (bytes memory) {
        address holder = model.resale.holder;
        if (block.timestamp >= model.resale.expiry) return _saleExpired(model.resale.expiry);
        if (model.cancelled) return abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, model.id);
        if (model.taken) return abi.encodeWithSelector(IDataMarket.ResaleIsTaken.selector, model.id);
        if (!model.listed && signature.length == 0) {
            return abi.encodeWithSelector(IDataMarket.SaleNotOffered.selector, model.id, holder);
        }
        if (market.balanceOf(holder, uint256(model.resale.offerId)) == 0) {
            return abi.encodeWithSelector(IDataMarket.HolderHasNoToken.selector, holder, model.resale.offerId);
        }
        return "";
    }

    function _placeProblem(bytes32 id) private view returns (bytes memory) {
        uint256 index = _orderIndex[id];
        if (index == 0) return "";
        return abi.encodeWithSelector(IDataMarket.OrderAlreadyMade.selector, id, _orders[index - 1].state);
    }

    function _push(OrderModel memory made) private {
        _orders.push(made);
        _orderIndex[made.id] = _orders.length;
    }

    /* DELIVER */

    function reveal(uint256 which, uint256 how) external {
        how = _mix(how);
        (OrderModel storage made, bool found) = _pick(which, IDataMarket.OrderState.Paid, how);
        require(found, NothingToDo());
        _reveal(made, how);
    }

    function _reveal(OrderModel storage made, uint256 how) private {
        IDataMarket.Order memory order = _orderOf(made);
        uint256 releasedKey = addmod(_offers[made.offer].contentKey, made.m, SECP256K1_N);
        if (how & 0x70000 == 0) releasedKey = how;
        address caller = how & 0x380000 == 0 ? actor(how >> 30) : _payeeOf(made);
        bytes memory problem;
        if (caller != _payeeOf(made)) {
            problem = abi.encodeWithSelector(
                made.resale == 0 ? IDataMarket.CallerNotSeller.selector : IDataMarket.CallerNotHolder.selector,
                caller,
                _payeeOf(made)
            );
        } else if (made.isUnfit || releasedKey == how) {
            problem = abi.encodeWithSelector(IDataMarket.ReleasedKeyInvalid.selector, made.id);
        } else if (made.state != IDataMarket.OrderState.Paid) {
            problem = abi.encodeWithSelector(IDataMarket.OrderNotPaid.selector, made.id, made.state);
        } else if (block.timestamp >= made.deadline) {
            problem = _windowIsOver(made.deadline);
        }
        bytes memory call = abi.encodeCall(market.reveal, (order, releasedKey));
        (bool ok,) = attempt(caller, address(market), call, problem);
        if (!ok) return;
        made.state = IDataMarket.OrderState.Revealed;
        made.deadline = block.timestamp + _offers[made.offer].offer.disputeWindow;
        made.releasedKey = releasedKey;
    }

    /// @dev Up to three rows of one offer, whatever their state, one of them perhaps twice. Never reverts.
    function settle(uint256 which, uint256 other, uint256 who) external {
        (other, who) = (_mix(other), _mix(who));
        require(_orders.length != 0, NothingToDo());
        _settle(_pickIndex(which, IDataMarket.OrderState.Revealed, who >> 8), other, who);
    }

    function _settle(uint256 index, uint256 other, uint256 who) private {
        uint256 offer = _orders[index].offer;
        uint256[] memory indices = new uint256[](3);
        IDataMarket.Row[] memory rows = new IDataMarket.Row[](3);
        for (uint256 i = 0; i < 3; ++i) {
            indices[i] = i == 0 ? index : (other >> i) % _orders.length;
            if (_orders[indices[i]].offer != offer) indices[i] = index;
            rows[i] = rowOf(_orderOf(_orders[indices[i]]));
        }
        address caller = who & 3 == 0 ? _notActor() : rows[0].buyer;
        OfferModel storage model = _offers[offer];
        (bool ok,) = attempt(caller, address(market), abi.encodeCall(market.settle, (model.offer, rows)), "");
        if (!ok) return;
        for (uint256 i = 0; i < 3; ++i) {
            OrderModel storage made = _orders[indices[i]];
            if (made.resale != 0 || made.state != IDataMarket.OrderState.Revealed) continue;
            if (block.timestamp < made.deadline && caller != made.buyer) continue;
            _end(made, IDataMarket.OrderState.Settled);
            ++model.settled;
            creditModel[model.offer.seller][model.offer.token] += uint256(model.offer.price) + model.offer.bond;
        }
    }

    function settleResale(uint256 which, uint256 who) external {
        who = _mix(who);
        (OrderModel storage made, bool found) = _pickResale(which, IDataMarket.OrderState.Revealed, who >> 8);
        require(found, NothingToDo());
        address caller = who & 3 == 0 ? _notActor() : made.buyer;
        bytes memory problem;
        if (made.state != IDataMarket.OrderState.Revealed) {
            problem = abi.encodeWithSelector(IDataMarket.OrderNotRevealed.selector, made.id, made.state);
        } else if (block.timestamp < made.deadline && caller != made.buyer) {
            problem = _windowIsOpen(made.deadline);
        }
        IDataMarket.Order memory order = _orderOf(made);
        bytes memory call = abi.encodeCall(market.settleResale, (order.offer, order.resale, rowOf(order)));
        (bool ok,) = attempt(caller, address(market), call, problem);
        if (!ok) return;
        _end(made, IDataMarket.OrderState.Settled);
        uint256 royalty = uint256(order.resale.price) * order.offer.royaltyBps / 10_000;
        creditModel[order.offer.seller][order.resale.token] += royalty;
        creditModel[order.resale.holder][order.resale.token] += order.resale.price - royalty;
    }

    /* UNDO */

    function refund(uint256 which, uint256 who) external {
        who = _mix(who);
        (OrderModel storage made, bool found) = _pick(which, IDataMarket.OrderState.Paid, who >> 8);
        require(found, NothingToDo());
        address caller = who & 3 == 0 ? _payeeOf(made) : actor(who);
        bytes memory problem;
        if (made.state != IDataMarket.OrderState.Paid) {
            problem = abi.encodeWithSelector(IDataMarket.OrderNotPaid.selector, made.id, made.state);
        } else if (block.timestamp < made.deadline && caller != _payeeOf(made)) {
            problem = _windowIsOpen(made.deadline);
        }
        IDataMarket.Order memory order = _orderOf(made);
        (bool ok,) = attempt(caller, address(market), abi.encodeCall(market.refund, (order)), problem);
        if (!ok) return;
        _end(made, IDataMarket.OrderState.Refunded);
        if (made.resale != 0) {
            _resales[made.resale - 1].taken = false;
            creditModel[made.buyer][order.resale.token] += order.resale.price;
            return;
        }
        --_offers[made.offer].copies;
        creditModel[made.buyer][order.offer.token] += order.offer.price;
        creditModel[order.offer.seller][order.offer.token] += order.offer.bond;
    }

    /// @dev Mostly of the leaf that lies, where one does.
    function dispute(uint256 which, uint256 leaf, uint256 who) external {
        (leaf, who) = (_mix(leaf), _mix(who));
        OrderModel storage made = _orders[_pickLie(which, who >> 8)];
        OfferModel storage model = _offers[made.offer];
        uint256 index = leaf & 0xc00 == 0 ? leaf % LEAVES : LIE;
        bytes memory problem;
        if (made.state != IDataMarket.OrderState.Revealed) {
            problem = abi.encodeWithSelector(IDataMarket.OrderNotRevealed.selector, made.id, made.state);
        } else if (block.timestamp >= made.deadline) {
            problem = _windowIsOver(made.deadline);
        } else if (!model.hasLie || index != LIE) {
            problem = abi.encodeWithSelector(IDataMarket.FraudNotShown.selector, made.id, index);
        }
        IDataMarket.Order memory order = _orderOf(made);
        bytes memory call = abi.encodeCall(market.dispute, (order, disclosureOf(_setOf(model), index)));
        (bool ok,) = attempt(actor(who), address(market), call, problem);
        if (!ok) return;
        _end(made, IDataMarket.OrderState.Refunded);
        if (made.resale != 0) {
            _resales[made.resale - 1].taken = false;
            creditModel[made.buyer][order.resale.token] += order.resale.price;
            return;
        }
        creditModel[made.buyer][order.offer.token] += uint256(order.offer.price) + order.offer.bond;
    }

    /* RESELL */

    /// @dev A holder, where there is one, lists a token or keeps the resale private.
    function sellOn(uint256 which, uint256 who, uint256 shape) external {
        shape = _mix(shape);
        uint256 offer = which % _offers.length;
        address holder = actor(who);
        for (uint256 i = 0; i < _offers.length * ACTORS; ++i) {
            (uint256 o, address account) = ((which + i / ACTORS) % _offers.length, actor(who + i));
            if (market.balanceOf(account, uint256(_offers[o].id)) == 0) continue;
            (offer, holder) = (o, account);
            break;
        }
        _sellOn(offer, holder, shape);
    }

    function _sellOn(uint256 offer, address holder, uint256 shape) private {
        IDataMarket.Resale memory resale = IDataMarket.Resale({
            offerId: _offers[offer].id,
            holder: holder,
            token: address(_tokens[shape & 1]),
            price: uint128((shape >> 150) % 1e12),
            expiry: uint40(block.timestamp + (shape & 2 == 0 ? 15 minutes : 30 days)),
            salt: ++_salts
        });
        ResaleModel storage model = _resales.push();
        model.resale = resale;
        model.id = market.resaleId(resale);
        model.offer = offer;
        if (shape & 0xc == 0) return;
        bytes memory problem;
        if (market.balanceOf(holder, uint256(resale.offerId)) == 0) {
            problem = abi.encodeWithSelector(IDataMarket.HolderHasNoToken.selector, holder, resale.offerId);
        }
        bytes memory call = abi.encodeCall(market.listResale, (_offers[offer].offer, resale, URI));
        (bool ok,) = attempt(holder, address(market), call, problem);
        if (ok) model.listed = true;
    }

    function cancelResale(uint256 which) external {
        require(_resales.length != 0, NothingToDo());
        ResaleModel storage model = _resales[which % _resales.length];
        bytes memory problem;
        if (model.cancelled) problem = abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, model.id);
        bytes memory call = abi.encodeCall(market.cancelResale, (model.resale));
        (bool ok,) = attempt(model.resale.holder, address(market), call, problem);
        if (ok) model.cancelled = true;
    }

    function give(uint256 which, uint256 from, uint256 to) external {
        for (uint256 i = 0; i < _offers.length * ACTORS; ++i) {
            uint256 id = uint256(_offers[(which + i / ACTORS) % _offers.length].id);
            address account = actor(from + i);
            if (market.balanceOf(account, id) == 0) continue;
            bytes memory call = abi.encodeCall(market.safeTransferFrom, (account, actor(to), id, 1, ""));
            attempt(account, address(market), call, "");
            return;
        }
        revert NothingToDo();
    }

    /* MONEY */

    function deposit(uint256 who, uint256 which, uint256 amount) external {
        (address account, address token) = (actor(who), address(_tokens[which % TOKENS]));
        amount = bound(amount, 0, 5000);
        bytes memory call = abi.encodeCall(market.deposit, (token, amount));
        (bool ok,) = attempt(account, address(market), call, "");
        if (ok) creditModel[account][token] += amount;
    }

    /// @dev One in eight asks for more than there is.
    function withdraw(uint256 who, uint256 which, uint256 amount, uint256 to) external {
        amount = _mix(amount);
        (address account, address token) = (actor(who), address(_tokens[which % TOKENS]));
        uint256 credit = creditModel[account][token];
        if (amount & 7 == 0) amount = credit + 1 + amount % 1000;
        else amount = bound(amount, 0, credit) / 2;
        bytes memory problem;
        if (amount > credit) {
            problem = abi.encodeWithSelector(ICredits.CreditTooLow.selector, account, token, credit, amount);
        }
        bytes memory call = abi.encodeCall(market.withdraw, (token, amount, actor(to)));
        (bool ok,) = attempt(account, address(market), call, problem);
        if (ok) creditModel[account][token] -= amount;
    }

    /// @dev Tokens that nobody asked for are nobody's.
    function donate(uint256 which, uint256 amount) external {
        DevDollar token = _tokens[which % TOKENS];
        amount = bound(amount, 0, 1e9);
        token.mint(address(market), amount);
        donated[address(token)] += amount;
    }

    /* TIME */

    /// @dev To the second before, of, or after some open order's deadline, if that is still to come; else a little on.
    function passTime(uint256 which, uint256 how) external {
        how = _mix(how);
        uint256 target = block.timestamp + how % 90;
        if (_orders.length != 0 && how & 0x100000 != 0) {
            (OrderModel storage made, bool found) =
                _pick(which, how & 0x400000 == 0 ? IDataMarket.OrderState.Paid : IDataMarket.OrderState.Revealed, 0);
            if (found && made.deadline + (how >> 40) % 3 > block.timestamp) {
                target = made.deadline + (how >> 40) % 3 - 1;
            }
        }
        vm.warp(target);
    }

    /* WHAT THE INVARIANTS ASK */

    function actor(uint256 i) public view returns (address) {
        return _actors[i % ACTORS];
    }

    function tokens() external view returns (DevDollar[TOKENS] memory) {
        return _tokens;
    }

    function offerCount() external view returns (uint256) {
        return _offers.length;
    }

    function offerAt(uint256 i) external view returns (OfferModel memory) {
        return _offers[i];
    }

    function resaleCount() external view returns (uint256) {
        return _resales.length;
    }

    /// @dev What `resaleOf` must answer.
    function resaleAt(uint256 i) external view returns (bytes32 id, bool isListed, bool isCancelled, bool isTaken) {
        ResaleModel storage model = _resales[i];
        return (model.id, model.listed, model.cancelled, model.taken);
    }

    function orderCount() external view returns (uint256) {
        return _orders.length;
    }

    function modelAt(uint256 i) external view returns (OrderModel memory made, uint256 contentKey) {
        return (_orders[i], _offers[_orders[i].offer].contentKey);
    }

    function orderAt(uint256 i) external view returns (IDataMarket.Order memory order) {
        return _orderOf(_orders[i]);
    }

    function marketAddress() external view returns (address) {
        return address(market);
    }

    /* HELP */

    function _orderOf(OrderModel memory made) private view returns (IDataMarket.Order memory order) {
        order.offer = _offers[made.offer].offer;
        if (made.resale != 0) order.resale = _resales[made.resale - 1].resale;
        order.buyer = made.buyer;
        order.mask = made.mask;
        (order.ephemeralX, order.ephemeralY) = (made.m, 1);
    }

    function _payeeOf(OrderModel storage made) private view returns (address) {
        return made.resale == 0 ? _offers[made.offer].offer.seller : _resales[made.resale - 1].resale.holder;
    }

    function _pick(uint256 which, IDataMarket.OrderState state, uint256 how)
        private
        view
        returns (OrderModel storage made, bool found)
    {
        if (_orders.length == 0) return (_none, false);
        return (_orders[_pickIndex(which, state, how)], true);
    }

    /// @dev An order in `state`, from `which` on, if possible one whose deadline is still to come; one time in eight, and
    /// where there is none in `state`, any order.
    function _pickIndex(uint256 which, IDataMarket.OrderState state, uint256 how) private view returns (uint256) {
        uint256 count = _orders.length;
        uint256 late = which % count;
        if (how & 7 == 1) return late;
        for (uint256 i = count; i > 0; --i) {
            uint256 index = (which % count + i - 1) % count;
            if (_orders[index].state != state) continue;
            if (block.timestamp < _orders[index].deadline) return index;
            late = index;
        }
        return late;
    }

    /// @dev A revealed order of an offer that lies, where there is one that can still be disputed; one time in eight any.
    function _pickLie(uint256 which, uint256 how) private view returns (uint256) {
        uint256 count = _orders.length;
        for (uint256 i = 0; i < count && how & 7 != 1; ++i) {
            OrderModel storage made = _orders[(which % count + i) % count];
            if (made.state != IDataMarket.OrderState.Revealed || block.timestamp >= made.deadline) continue;
            if (_offers[made.offer].hasLie) return (which % count + i) % count;
        }
        return _pickIndex(which, IDataMarket.OrderState.Revealed, how);
    }

    function _pickResale(uint256 which, IDataMarket.OrderState state, uint256 how)
        private
        view
        returns (OrderModel storage made, bool found)
    {
        made = _none;
        uint256 count = _orders.length;
        for (uint256 i = 0; i < count; ++i) {
            OrderModel storage candidate = _orders[(which % count + i) % count];
            if (candidate.resale == 0) continue;
            (made, found) = (candidate, true);
            if (made.state == state || how & 7 == 1) return (made, true);
        }
    }

    function _end(OrderModel storage made, IDataMarket.OrderState state) private {
        made.state = state;
        ++made.endings;
    }

    function _setOf(OfferModel storage model) private view returns (DataSet memory set) {
        bytes[] memory leaves = new bytes[](LEAVES);
        for (uint256 i = 0; i < LEAVES; ++i) {
            leaves[i] = abi.encodePacked(uint8(i));
        }
        set = sealLeaves(model.contentKey, leaves, address(0), "");
        if (!model.hasLie) return set;
        set.leafHashes[LIE] = keccak256("a lie");
        commit(set, LIE);
    }

    /// @dev Empty where listed, and, one time in eight, where it is needed.
    function _signatureOf(address account, bytes32 saleId, bool isListed, uint256 how)
        private
        view
        returns (bytes memory)
    {
        if (isListed || how & 0xe00000 == 0) return "";
        return signEcdsa(_secretOf[account], saleId);
    }

    function _authorize(IDataMarket.Order memory order) private view returns (bytes memory) {
        bool isFirst = order.resale.holder == address(0);
        address token = isFirst ? order.offer.token : order.resale.token;
        bytes32 typeHash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 structHash = keccak256(
            abi.encode(
                typeHash,
                order.buyer,
                address(market),
                isFirst ? order.offer.price : order.resale.price,
                0,
                type(uint40).max,
                market.orderId(order)
            )
        );
        return signEcdsa(_secretOf[order.buyer], typedDigest("pyiot dev dollar", token, structHash));
    }

    /// @dev Forge likes small and round numbers; where single bits decide, each shall be as likely as not.
    function _mix(uint256 value) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(value)));
    }

    function _notActor() private pure returns (address) {
        return address(0xBEEF);
    }

    function _callerNotSeller(address caller, OfferModel storage model) private view returns (bytes memory) {
        return abi.encodeWithSelector(IDataMarket.CallerNotSeller.selector, caller, model.offer.seller);
    }

    function _saleExpired(uint256 expiry) private view returns (bytes memory) {
        return abi.encodeWithSelector(IDataMarket.SaleExpired.selector, expiry, block.timestamp);
    }

    function _windowIsOver(uint256 deadline) private view returns (bytes memory) {
        return abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, block.timestamp);
    }

    function _windowIsOpen(uint256 deadline) private view returns (bytes memory) {
        return abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, deadline, block.timestamp);
    }
}
