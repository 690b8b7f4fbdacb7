// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ERC7913P256Verifier } from "@openzeppelin/contracts/utils/cryptography/verifiers/ERC7913P256Verifier.sol";

/// @title P256Verifier
/// @notice The suite's ERC-7913 verifier: its address in front of a P-256 public key makes a device signer of 84 bytes.
/// @dev MODEL. The suite itself only compares this address and checks the signature in the calling contract
/// (DeviceSigner); the code here is for everyone else who reads ERC-7913 signers.
contract P256Verifier is ERC7913P256Verifier { }
