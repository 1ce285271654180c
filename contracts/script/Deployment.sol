// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EcdsaQuorumVerifier} from "../src/EcdsaQuorumVerifier.sol";
import {FunctionRegistry} from "../src/FunctionRegistry.sol";
import {GatekeeperSet} from "../src/GatekeeperSet.sol";
import {IFunctionRegistry} from "../src/interfaces/IFunctionRegistry.sol";
import {PolicyRegistry} from "../src/PolicyRegistry.sol";
import {ReceiptVerifier} from "../src/ReceiptVerifier.sol";
import {RequestHub} from "../src/RequestHub.sol";
import {WorkerRegistry} from "../src/WorkerRegistry.sol";
import {VM} from "../test/Vm.sol";

/// @title The order in which a cluster's contracts are deployed
/// @notice The genesis document names the addresses before they exist, so the order is part of the interface (the same
/// as in the Rust crate tacit-ledger).
library Deployment {
    struct Parameters {
        bytes32 clusterId;
        address[] gatekeepers;
        uint32 threshold;
        uint64 epoch;
        uint64 validUntil;
        address governor;
        address guardian;
        uint64 timelock;
        bytes32 policyHash;
        string policyUri;
        bytes32[] measurements;
    }

    struct Contracts {
        GatekeeperSet gatekeepers;
        EcdsaQuorumVerifier quorumVerifier;
        PolicyRegistry policies;
        WorkerRegistry workers;
        FunctionRegistry functions;
        ReceiptVerifier verifier;
        RequestHub hub;
    }

    /// @notice Deploys from `deployer`, whose transactions (or creations) these are.
    function deploy(address deployer, Parameters memory p) internal returns (Contracts memory c) {
        uint64 nonce = VM.getNonce(deployer);
        IFunctionRegistry functions = IFunctionRegistry(VM.computeCreateAddress(deployer, nonce + 4));
        c.gatekeepers = new GatekeeperSet(p.clusterId, p.gatekeepers, p.threshold, p.epoch, p.validUntil);
        c.quorumVerifier = new EcdsaQuorumVerifier(c.gatekeepers);
        c.policies = new PolicyRegistry(p.governor, p.guardian, p.timelock, p.policyHash, p.policyUri, p.measurements);
        c.workers = new WorkerRegistry(p.governor, p.clusterId, c.gatekeepers, c.quorumVerifier, functions);
        c.functions = new FunctionRegistry(c.workers);
        c.verifier = new ReceiptVerifier(p.clusterId, c.workers, c.quorumVerifier);
        c.hub = new RequestHub(c.verifier, c.functions);
        require(address(c.functions) == address(functions), "another transaction took an address");
    }
}
