// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {VM} from "../test/Vm.sol";
import {Deployment} from "./Deployment.sol";

/// @title Deploy
/// @notice Deploys a cluster's contracts on any EVM chain:
/// `forge script script/Deploy.s.sol --rpc-url … --broadcast --private-key …` with the variables read below. The
/// sender's nonce must be the one that the genesis document was made for.
contract Deploy {
    function run() external returns (Deployment.Contracts memory contracts) {
        Deployment.Parameters memory parameters = Deployment.Parameters({
            clusterId: VM.envBytes32("TACIT_CLUSTER_ID"),
            gatekeepers: VM.envAddress("TACIT_GATEKEEPERS", ","),
            threshold: uint32(VM.envUint("TACIT_THRESHOLD")),
            epoch: uint64(VM.envUint("TACIT_EPOCH")),
            validUntil: uint64(VM.envUint("TACIT_VALID_UNTIL")),
            governor: VM.envAddress("TACIT_GOVERNOR"),
            guardian: VM.envAddress("TACIT_GUARDIAN"),
            timelock: uint64(VM.envUint("TACIT_TIMELOCK")),
            policyHash: VM.envBytes32("TACIT_POLICY"),
            policyUri: VM.envString("TACIT_POLICY_URI"),
            measurements: VM.envBytes32("TACIT_MEASUREMENTS", ",")
        });
        VM.startBroadcast();
        contracts = Deployment.deploy(msg.sender, parameters);
        VM.stopBroadcast();
    }
}
