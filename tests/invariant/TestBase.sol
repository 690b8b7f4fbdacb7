// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title Vm
/// @notice The part of forge's cheats that the suites use.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    // keys and signatures
    function addr(uint256 secret) external pure returns (address);
    function sign(uint256 secret, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function publicKeyP256(uint256 secret) external pure returns (uint256 x, uint256 y);
    function signP256(uint256 secret, bytes32 digest) external pure returns (bytes32 r, bytes32 s);

    // the chain
    function warp(uint256 timestamp) external;
    function roll(uint256 number) external;
    function chainId(uint256 id) external;
    function getBlockTimestamp() external view returns (uint256);
    function deal(address account, uint256 amount) external;
    function etch(address target, bytes calldata code) external;
    function load(address target, bytes32 slot) external view returns (bytes32);
    function store(address target, bytes32 slot, bytes32 value) external;
    function getNonce(address account) external view returns (uint64);
    function computeCreateAddress(address deployer, uint256 nonce) external pure returns (address);

    // calls
    function prank(address sender) external;
    function startPrank(address sender) external;
    function stopPrank() external;
    function mockCall(address target, bytes calldata data, bytes calldata result) external;
    function mockCallRevert(address target, bytes calldata data, bytes calldata problem) external;
    function clearMockedCalls() external;
    function expectRevert(bytes4 selector) external;
    function expectRevert(bytes calldata problem) external;
    function expectRevert() external;
    function expectCall(address target, bytes calldata data) external;
    function expectEmit(address emitter) external;
    function expectEmit(bool topic1, bool topic2, bool topic3, bool data, address emitter) external;
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function snapshotState() external returns (uint256 id);
    function revertToState(uint256 id) external returns (bool);

    // the tester
    function assume(bool condition) external pure;
    function label(address account, string calldata name) external;
    function toString(uint256 value) external pure returns (string memory);

    function assertTrue(bool condition, string calldata what) external pure;
    function assertFalse(bool condition, string calldata what) external pure;
    function assertEq(bool left, bool right, string calldata what) external pure;
    function assertEq(uint256 left, uint256 right, string calldata what) external pure;
    function assertEq(int256 left, int256 right, string calldata what) external pure;
    function assertEq(address left, address right, string calldata what) external pure;
    function assertEq(bytes32 left, bytes32 right, string calldata what) external pure;
    function assertEq(string calldata left, string calldata right, string calldata what) external pure;
    function assertEq(bytes calldata left, bytes calldata right, string calldata what) external pure;
    function assertNotEq(bytes32 left, bytes32 right, string calldata what) external pure;
    function assertLe(uint256 left, uint256 right, string calldata what) external pure;
    function assertGe(uint256 left, uint256 right, string calldata what) external pure;
    function assertLt(uint256 left, uint256 right, string calldata what) external pure;
    function assertGt(uint256 left, uint256 right, string calldata what) external pure;
}

Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

/// @title TestBase
/// @notice Base of the forge suites: the cheats, assertions, and the target lists that forge asks an invariant test for.
/// @dev A handler calls its contract through `Attempts.attempt`, which compares success or the exact error with what the
/// handler predicted. A surprise is kept in storage, for the invariants to fail on; an error that was predicted is passed
/// on, so that forge's own table of calls and reverts counts it as what it is.
abstract contract TestBase {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    uint256 internal constant SECP256K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    uint256 internal constant P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551;

    address[] private _targetContracts;
    FuzzSelector[] private _targetSelectors;
    address[] private _targetSenders;
    address[] private _excludedSenders;

    /* WHAT FORGE ASKS AN INVARIANT TEST */

    function targetContracts() external view returns (address[] memory) {
        return _targetContracts;
    }

    function targetSelectors() external view returns (FuzzSelector[] memory) {
        return _targetSelectors;
    }

    function targetSenders() external view returns (address[] memory) {
        return _targetSenders;
    }

    function excludeSenders() external view returns (address[] memory) {
        return _excludedSenders;
    }

    /// @dev Forge calls `target` alone.
    function targetContract(address target) internal {
        _targetContracts.push(target);
    }

    /// @dev Of `target`, forge calls these functions alone. A selector that is there twice is called twice as often.
    function targetSelector(address target, bytes4[] memory selectors) internal {
        _targetSelectors.push(FuzzSelector({ addr: target, selectors: selectors }));
    }

    function targetSender(address sender) internal {
        _targetSenders.push(sender);
    }

    function excludeSender(address sender) internal {
        _excludedSenders.push(sender);
    }

    /* HELP */

    /// @dev Brings `value` into `[min, max]`; every value in it is reached.
    function bound(uint256 value, uint256 min, uint256 max) internal pure returns (uint256) {
        require(min <= max, "bound: min > max");
        if (value >= min && value <= max) return value;
        if (min == 0 && max == type(uint256).max) return value;
        return min + value % (max - min + 1);
    }

    /// @dev An address that has no known key and no code.
    function makeAddr(string memory name) internal returns (address account) {
        account = address(uint160(uint256(keccak256(bytes(name)))));
        vm.label(account, name);
    }

    /// @dev `r‖s‖v` of 65 bytes by a secp256k1 key.
    function signEcdsa(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev `r‖s` of 64 bytes by a P-256 key, s in the lower half.
    function signP256(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (bytes32 r, bytes32 s) = vm.signP256(secret, digest);
        if (uint256(s) > P256_N / 2) s = bytes32(P256_N - uint256(s));
        return abi.encodePacked(r, s);
    }

    /// @dev The EIP-712 digest of a struct hash in a domain with chain and contract.
    function typedDigest(string memory name, address verifyingContract, bytes32 structHash)
        internal
        view
        returns (bytes32)
    {
        bytes32 typeHash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 domain =
            keccak256(abi.encode(typeHash, keccak256(bytes(name)), keccak256("1"), block.chainid, verifyingContract));
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    /* ASSERTIONS */

    function assertTrue(bool condition, string memory what) internal pure {
        vm.assertTrue(condition, what);
    }

    function assertFalse(bool condition, string memory what) internal pure {
        vm.assertFalse(condition, what);
    }

    function assertEq(bool left, bool right, string memory what) internal pure {
        vm.assertEq(left, right, what);
    }

    function assertEq(uint256 left, uint256 right, string memory what) internal pure {
        vm.assertEq(left, right, what);
    }

    function assertEq(int256 left, int256 right, string memory what) internal pure {
        vm.assertEq(left, right, what);
    }

    function assertEq(address left, address right, string memory what) internal pure {
        vm.assertEq(left, right, what);
    }

    function assertEq(bytes32 left, bytes32 right, string memory what) internal pure {
        vm.assertEq(left, right, what);
    }

    function assertEq(string memory left, string memory right, string memory what) internal pure {
        vm.assertEq(left, right, what);
    }

    function assertEq(bytes memory left, bytes memory right, string memory what) internal pure {
        vm.assertEq(left, right, what);
    }

    function assertNotEq(bytes32 left, bytes32 right, string memory what) internal pure {
        vm.assertNotEq(left, right, what);
    }

    function assertLe(uint256 left, uint256 right, string memory what) internal pure {
        vm.assertLe(left, right, what);
    }

    function assertGe(uint256 left, uint256 right, string memory what) internal pure {
        vm.assertGe(left, right, what);
    }

    function assertLt(uint256 left, uint256 right, string memory what) internal pure {
        vm.assertLt(left, right, what);
    }

    function assertGt(uint256 left, uint256 right, string memory what) internal pure {
        vm.assertGt(left, right, what);
    }
}

/// @title Attempts
/// @notice Base of the handlers: a call with a prediction.
abstract contract Attempts {
    /// @notice A call of the handler found nothing to call its contract for. It must not count as one that went well.
    error NothingToDo();

    /// @notice How many calls came out other than predicted; every invariant holds it at zero.
    uint256 public surprises;

    /// @notice The first surprise: what was called, what was predicted (empty: success) and what came back.
    bytes public surprisingCall;
    bytes public predictedProblem;
    bytes public surprisingAnswer;

    /// @dev Calls as `sender` and compares. Returns the answer of a call that succeeded as predicted; reverts with the
    /// predicted error where that came back; counts anything else as a surprise and returns `ok` false.
    /// @param problem The ABI-encoded error that must come back, or nothing for success.
    function attempt(address sender, address target, bytes memory data, bytes memory problem)
        internal
        returns (bool ok, bytes memory answer)
    {
        vm.prank(sender);
        (ok, answer) = target.call(data);
        bool isAsPredicted = ok ? problem.length == 0 : keccak256(answer) == keccak256(problem);
        if (!isAsPredicted) {
            if (surprises++ == 0) (surprisingCall, predictedProblem, surprisingAnswer) = (data, problem, answer);
            return (false, answer);
        }
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }
}
