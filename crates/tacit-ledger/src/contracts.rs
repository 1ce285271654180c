//! The cluster's contracts: where they are, what their code is, and how they are deployed.

use std::{collections::BTreeMap, sync::LazyLock};

use alloy::{
    primitives::{Address as AlloyAddress, B256, Bytes, keccak256},
    sol_types::SolValue,
};
use serde::{Deserialize, Serialize};
use tacit_types::{Address, ClusterId, Digest, Measurement, PolicyHash, UnixTime, quorum::GatekeeperSet};

use crate::{
    error::LedgerError,
    ledger::{At, Ledger},
    writer::{Confirmation, Writer},
};

/// Names of the contracts in the order of their deployment, with the committed build of each.
const BUILDS: [(&str, &str); 7] = [
    ("GatekeeperSet", include_str!("../../../contracts/abi/GatekeeperSet.json")),
    ("EcdsaQuorumVerifier", include_str!("../../../contracts/abi/EcdsaQuorumVerifier.json")),
    ("PolicyRegistry", include_str!("../../../contracts/abi/PolicyRegistry.json")),
    ("WorkerRegistry", include_str!("../../../contracts/abi/WorkerRegistry.json")),
    ("FunctionRegistry", include_str!("../../../contracts/abi/FunctionRegistry.json")),
    ("ReceiptVerifier", include_str!("../../../contracts/abi/ReceiptVerifier.json")),
    ("RequestHub", include_str!("../../../contracts/abi/RequestHub.json")),
];

/// The committed build of a contract.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Build {
    bytecode: Code,
    deployed_bytecode: Code,
}

#[derive(Debug, Deserialize)]
struct Code {
    object: Bytes,
}

fn parse(json: &str) -> Build {
    serde_json::from_str(json).expect("the committed build was written by contracts/tools/abi.js")
}

static PARSED: LazyLock<Vec<(&'static str, Build)>> =
    LazyLock::new(|| BUILDS.iter().map(|(name, json)| (*name, parse(json))).collect());

pub(crate) static STORED_ANSWERS: LazyLock<Bytes> =
    LazyLock::new(|| parse(include_str!("../../../contracts/abi/StoredAnswers.json")).bytecode.object);

/// Number of transactions that [`deploy_all`] sends.
pub const DEPLOYMENTS: u64 = BUILDS.len() as u64;

/// Where the contracts of a cluster are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Addresses {
    /// `GatekeeperSet`.
    pub gatekeeper_set: Address,
    /// `EcdsaQuorumVerifier`.
    pub quorum_verifier: Address,
    /// `PolicyRegistry`.
    pub policy_registry: Address,
    /// `WorkerRegistry`.
    pub worker_registry: Address,
    /// `FunctionRegistry`.
    pub function_registry: Address,
    /// `ReceiptVerifier`.
    pub receipt_verifier: Address,
    /// `RequestHub`.
    pub request_hub: Address,
}

impl Addresses {
    fn from_list(list: [Address; 7]) -> Self {
        let [
            gatekeeper_set,
            quorum_verifier,
            policy_registry,
            worker_registry,
            function_registry,
            receipt_verifier,
            request_hub,
        ] = list;
        Self {
            gatekeeper_set,
            quorum_verifier,
            policy_registry,
            worker_registry,
            function_registry,
            receipt_verifier,
            request_hub,
        }
    }

    const fn to_list(self) -> [Address; 7] {
        [
            self.gatekeeper_set,
            self.quorum_verifier,
            self.policy_registry,
            self.worker_registry,
            self.function_registry,
            self.receipt_verifier,
            self.request_hub,
        ]
    }

    /// By contract name, as in the genesis document.
    pub fn to_map(self) -> BTreeMap<String, Address> {
        BUILDS.iter().zip(self.to_list()).map(|((name, _), address)| ((*name).to_owned(), address)).collect()
    }

    /// From the names of the genesis document.
    ///
    /// # Errors
    /// [`LedgerError::NoAddress`] for the first contract that is missing.
    pub fn from_map(map: &BTreeMap<String, Address>) -> Result<Self, LedgerError> {
        let mut list = [Address::ZERO; 7];
        for ((name, _), slot) in BUILDS.iter().zip(&mut list) {
            *slot = *map.get(*name).ok_or(LedgerError::NoAddress(name))?;
        }
        Ok(Self::from_list(list))
    }
}

/// The addresses that [`deploy_all`] gives when `deployer`'s next transaction has number `nonce`.
pub fn predict_addresses(deployer: Address, nonce: u64) -> Addresses {
    let deployer = AlloyAddress::from(deployer);
    Addresses::from_list(std::array::from_fn(|index| deployer.create(nonce + index as u64).into()))
}

/// Keccak-256 of each contract's deployed code, by name. It does not depend on the cluster, the addresses or the chain.
pub fn code_hashes() -> BTreeMap<String, Digest> {
    PARSED.iter().map(|(name, build)| ((*name).to_owned(), keccak256(&build.deployed_bytecode.object).into())).collect()
}

/// What the contracts of a new cluster are told.
#[derive(Debug, Clone)]
pub struct ClusterParameters {
    /// Digest of the genesis document, which names the addresses to come.
    pub cluster: ClusterId,
    /// The first gatekeepers.
    pub gatekeepers: GatekeeperSet,
    /// Last second at which this chain believes them.
    pub valid_until: UnixTime,
    /// Who may loosen the policy (after the timelock) and revoke (at once).
    pub governor: Address,
    /// Who may veto and tighten besides.
    pub guardian: Address,
    /// Seconds between a loosening of the policy and its effect.
    pub timelock: u64,
    /// Digest of the attestation policy.
    pub policy: PolicyHash,
    /// Where the policy is found.
    pub policy_uri: String,
    /// Measurements allowed from the beginning.
    pub measurements: Vec<Measurement>,
}

/// Deploys every contract of a cluster, in an order that [`predict_addresses`] knows, and waits until they are final.
///
/// # Errors
/// When the chain cannot be reached or a deployment fails; [`LedgerError::ForeignContract`] when another transaction of the
/// same sender came between, so that the addresses are not the predicted ones.
pub async fn deploy_all(writer: &Writer, parameters: &ClusterParameters) -> Result<Addresses, LedgerError> {
    let nonce = writer.next_nonce().await?;
    let addresses = predict_addresses(writer.address(), nonce);
    let arguments = constructor_arguments(parameters, &addresses);
    let mined = writer.clone().confirming(Confirmation::Mined);
    let mut last = None;
    for (((name, build), arguments), expected) in PARSED.iter().zip(arguments).zip(addresses.to_list()) {
        let mut code = build.bytecode.object.to_vec();
        code.extend_from_slice(&arguments);
        let outcome = mined.deploy(code).await?;
        if outcome.created != Some(expected) {
            return Err(LedgerError::ForeignContract { contract: name, what: "another transaction took its address" });
        }
        last = Some(outcome);
    }
    if let Some(outcome) = last {
        writer.settle(&outcome).await?;
    }
    Ok(addresses)
}

fn constructor_arguments(parameters: &ClusterParameters, addresses: &Addresses) -> [Vec<u8>; 7] {
    let cluster = B256::from(parameters.cluster);
    let governor = AlloyAddress::from(parameters.governor);
    let set = AlloyAddress::from(addresses.gatekeeper_set);
    let quorum = AlloyAddress::from(addresses.quorum_verifier);
    let workers = AlloyAddress::from(addresses.worker_registry);
    let functions = AlloyAddress::from(addresses.function_registry);
    let verifier = AlloyAddress::from(addresses.receipt_verifier);
    let members: Vec<AlloyAddress> = parameters.gatekeepers.members.iter().map(|member| (*member).into()).collect();
    let measurements: Vec<B256> = parameters.measurements.iter().map(|measurement| (*measurement).into()).collect();
    [
        (cluster, members, parameters.gatekeepers.threshold, parameters.gatekeepers.epoch, parameters.valid_until.0)
            .abi_encode_params(),
        (set,).abi_encode_params(),
        (
            governor,
            AlloyAddress::from(parameters.guardian),
            parameters.timelock,
            B256::from(parameters.policy),
            parameters.policy_uri.clone(),
            measurements,
        )
            .abi_encode_params(),
        (governor, cluster, set, quorum, functions).abi_encode_params(),
        (workers,).abi_encode_params(),
        (cluster, workers, quorum).abi_encode_params(),
        (verifier, functions).abi_encode_params(),
    ]
}

impl Ledger {
    /// Checks that the code at every address is the committed one and that the contracts belong to `cluster`.
    ///
    /// # Errors
    /// [`LedgerError::ForeignContract`] for the first that differs.
    pub async fn check_contracts(&self, cluster: ClusterId, at: At) -> Result<(), LedgerError> {
        let block = self.resolve(at).await?;
        for ((name, build), address) in PARSED.iter().zip(self.addresses().to_list()) {
            if self.code(address, block).await? != build.deployed_bytecode.object {
                return Err(LedgerError::ForeignContract { contract: name, what: "other code" });
            }
        }
        if self.cluster(at).await? != cluster {
            return Err(LedgerError::ForeignContract { contract: "GatekeeperSet", what: "another cluster" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_genesis_document() {
        let addresses = predict_addresses(Address::from([7; 20]), 3);
        assert_eq!(Addresses::from_map(&addresses.to_map()).unwrap(), addresses);
        let mut map = addresses.to_map();
        map.remove("RequestHub");
        assert!(matches!(Addresses::from_map(&map), Err(LedgerError::NoAddress("RequestHub"))));
    }

    #[test]
    fn every_contract_has_a_code_hash_of_its_own() {
        let hashes = code_hashes();
        let distinct: std::collections::BTreeSet<_> = hashes.values().collect();
        assert_eq!((hashes.len(), distinct.len()), (7, 7));
    }
}
