// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title IDeviceRegistry
/// @notice Who a device is: its signers, now and in the past, and who owns it.
/// @dev A device's id is `keccak256(genesis signer)`, on every chain and before any transaction. A signer is 20 bytes (an
/// address) or 84 bytes (the suite's P-256 verifier, x, y); a *key* in this interface is the keccak256 of a signer.
/// Times are Unix seconds. Every message is EIP-712 typed data in the domain `pyiot DeviceRegistry`, version `1`, with
/// chain and contract; a deadline is good while `block.timestamp < deadline`. Every call can be relayed (IRelayed).
interface IDeviceRegistry {
    /* TYPES */

    /// @notice What a device's genesis key signs to be registered, as
    /// `Register(bytes32 device,address owner,bytes32 metadata,uint40 deadline)`.
    /// @param device keccak256 of the genesis signer.
    /// @param owner Who owns the device from then on.
    /// @param metadata keccak256 of the metadata document.
    /// @param deadline The message is good before this time.
    struct Registration {
        bytes32 device;
        address owner;
        bytes32 metadata;
        uint40 deadline;
    }

    /// @notice One device of a fleet: the arguments of `register`.
    struct RegistrationRow {
        Registration registration;
        bytes signer;
        bytes signature;
        string uri;
    }

    /// @notice A credential that the device's current key signs for gateways and locks, never stored:
    /// `Session(bytes32 device,bytes32 sessionSigner,uint40 notAfter,uint32 scope,uint16 epoch)`. It never signs readings.
    /// @param device The device that lends its name.
    /// @param sessionSigner keccak256 of the session's signer.
    /// @param notAfter The last second in which it is good.
    /// @param scope What it may do, one bit each.
    /// @param epoch The device's epoch; any transfer, rotation or revocation ends the session.
    struct Session {
        bytes32 device;
        bytes32 sessionSigner;
        uint40 notAfter;
        uint32 scope;
        uint16 epoch;
    }

    /* EVENTS */

    /// @notice A device has an owner. Its metadata document lies at `uri` and hashes to `metadata`; the device has signed
    /// the hash, whoever sent the transaction chose the `uri`.
    event DeviceRegistered(bytes32 indexed device, address indexed owner, bytes signer, bytes32 metadata, string uri);

    /// @notice The owner says where the metadata document lies now; its hash stays what the device has signed.
    event DeviceUriChanged(bytes32 indexed device, string uri);

    /// @notice `signer` signs for the device from this block's time on; the signer before it does no longer.
    event DeviceRotated(bytes32 indexed device, uint16 epoch, bytes signer);

    /// @notice The device changed hands.
    event DeviceTransferred(bytes32 indexed device, address indexed from, address indexed to, uint16 epoch);

    /// @notice Nothing that is dated at or after this block's time counts as signed by the device.
    event DeviceRevoked(bytes32 indexed device, uint16 epoch);

    /* ERRORS */

    /// @notice The signer handed in is not the genesis signer of `device`: it hashes to `key`.
    error DeviceIdMismatch(bytes32 device, bytes32 key);

    /// @notice `device` is registered, and `owner` owns it.
    error DeviceAlreadyRegistered(bytes32 device, address owner);

    /// @notice `device` has no owner here.
    error DeviceNotRegistered(bytes32 device);

    /// @notice `device` was revoked; that is for ever.
    error DeviceAlreadyRevoked(bytes32 device);

    /// @notice A device cannot belong to the zero address.
    error DeviceOwnerZero(bytes32 device);

    /// @notice Only `owner` may do this to `device`, not `caller`.
    error DeviceCallerNotOwner(bytes32 device, address caller, address owner);

    /// @notice The message for `device` was good before `deadline` and it is `timestamp` now.
    error DeviceMessageExpired(bytes32 device, uint40 deadline, uint256 timestamp);

    /// @notice `key` did not sign this message for `device` at its present epoch.
    error DeviceSignatureInvalid(bytes32 device, bytes32 key, uint16 epoch);

    /// @notice `device` has used up its 65,535 epochs; it can still be revoked.
    error DeviceEpochExhausted(bytes32 device);

    /// @notice `signer` is neither an address nor a P-256 point behind the suite's verifier.
    error SignerNotSupported(bytes32 device, bytes signer);

    /// @notice `key` is or was a signer of some device; a key is a signer once.
    error SignerAlreadyUsed(bytes32 device, bytes32 key);

    /// @notice `key` is not the key that signs for `device` now; that is `current`, zero when there is none.
    error SignerNotCurrent(bytes32 device, bytes32 key, bytes32 current);

    /* REGISTER */

    /// @notice Gives a device the owner that its own key names. Anyone may send it.
    /// @param registration What the device signed.
    /// @param signer Its genesis signer.
    /// @param signature Of `signer` over the registration.
    /// @param uri Where the metadata document lies.
    function register(
        Registration calldata registration,
        bytes calldata signer,
        bytes calldata signature,
        string calldata uri
    ) external;

    /// @notice Registers a fleet. A row whose device already belongs to the owner in the row is skipped, so a stranger who
    /// registers one row first does not stop the fleet; any other bad row reverts with an error that names its device.
    function registerMany(RegistrationRow[] calldata rows) external;

    /// @notice Says where the metadata document lies now. By the owner.
    function setUri(bytes32 device, string calldata uri) external;

    /* ROTATE */

    /// @notice Replaces the device's signer. By the owner, with the new key's consent.
    /// @param device The device.
    /// @param newSigner A signer that no device ever had.
    /// @param deadline The new key's message is good before this time.
    /// @param newSignature Of `newSigner` over
    /// `Rotate(bytes32 device,bytes32 newSigner,uint16 epoch,uint40 deadline)`, with keccak256 of `newSigner`.
    function rotate(bytes32 device, bytes calldata newSigner, uint40 deadline, bytes calldata newSignature) external;

    /// @notice Replaces the device's signer by both keys' signatures over the same message. Anyone may send it.
    /// @param oldSigner The device's current signer.
    /// @param oldSignature Of `oldSigner` over the message of `rotate`.
    function rotateSigned(
        bytes32 device,
        bytes calldata newSigner,
        uint40 deadline,
        bytes calldata newSignature,
        bytes calldata oldSigner,
        bytes calldata oldSignature
    ) external;

    /* TRANSFER */

    /// @notice Hands the device to `newOwner`; its key stays. By the owner. It ends all sessions.
    function transfer(bytes32 device, address newOwner) external;

    /* REVOKE */

    /// @notice Ends the device for ever, forward only: what is dated before stays good. By the owner.
    function revoke(bytes32 device) external;

    /// @notice Ends the device for ever by its own key, registered or not. Anyone may send it.
    /// @param device The device.
    /// @param signer Its current signer.
    /// @param signature Of `signer` over `Revoke(bytes32 device,uint16 epoch)`.
    function revokeSigned(bytes32 device, bytes calldata signer, bytes calldata signature) external;

    /* LOOK-UPS */

    /// @notice The device's owner; zero where it is not registered. A revoked device keeps its owner.
    function ownerOf(bytes32 device) external view returns (address);

    /// @notice How often the device was transferred, rotated or revoked.
    function epochOf(bytes32 device) external view returns (uint16);

    /// @notice When the device was registered; zero where it is not.
    function registeredAt(bytes32 device) external view returns (uint40);

    /// @notice Whether the device was revoked.
    function isRevoked(bytes32 device) external view returns (bool);

    /// @notice The key that signs for the device now: of a device that nobody registered, rotated or revoked, its id; zero
    /// when there is none.
    function signerOf(bytes32 device) external view returns (bytes32 key);

    /// @notice From when until when `key` signs for the device: `from <= time < until`. A genesis key starts at 0; one in
    /// use ends at the largest uint40; a key that never was the device's has (0, 0).
    function windowOf(bytes32 device, bytes32 key) external view returns (uint40 from, uint40 until);

    /// @notice Whether something that `signer` signed for the device and dated `time` (seconds) counts. A reading is dated
    /// in milliseconds: hand in `time / 1000`.
    function isSignerAt(bytes32 device, bytes calldata signer, uint64 time) external view returns (bool);

    /// @notice The address that the suite's P-256 signers start with.
    function p256Verifier() external view returns (address);

    /* SESSIONS */

    /// @notice Whether a session is good now for all of `scope`: signed by the device's current key, of its present epoch,
    /// not past its end.
    /// @param session The credential.
    /// @param signer The device's current signer, not the session's.
    /// @param signature Of `signer` over the session.
    /// @param scope The bits that the act needs, at least one.
    function isSessionValid(Session calldata session, bytes calldata signer, bytes calldata signature, uint32 scope)
        external
        view
        returns (bool);
}
