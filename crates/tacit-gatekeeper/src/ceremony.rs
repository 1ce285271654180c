//! The coordinator of a founding: carries evidence, signed deals and sealed sub-keys between the gatekeepers and trusts, and is
//! trusted with, nothing.

use std::{collections::BTreeMap, future::Future};

use tacit_api::gatekeeper::{
    Candidate, GENESIS_CANDIDATE, GENESIS_DEAL, GENESIS_QUOTE, GENESIS_RECEIVE, GENESIS_START, GenesisDeal,
    GenesisQuote, GenesisReceive, GenesisReceived, GenesisStart, GenesisStarted, GenesisStep, Version1,
};
use tacit_attest::Policy;
use tacit_types::{
    Address, ClusterId, Digest, RootId, UnixTime,
    deployment::{DeploymentGatekeeper, Genesis, GenesisGatekeeper, VERSION},
};

use crate::{client::GatekeeperClient, error::GatekeeperError};

/// What a genesis document says besides who the gatekeepers are.
#[derive(Debug, Clone)]
pub struct Template {
    /// Name of the network; ends in `-sim` exactly if the policy names a simulated root.
    pub network: String,
    /// Chain id of the home chain.
    pub chain_id: u64,
    /// Contracts by name, at the addresses where they will be.
    pub contracts: BTreeMap<String, Address>,
    /// Digest of each contract's code, by name.
    pub code_hashes: BTreeMap<String, Digest>,
    /// RPC endpoints of the home chain.
    pub rpcs: Vec<String>,
    /// The attestation policy; it lists measurements for the images `gatekeeper` and `worker`.
    pub policy: Policy,
    /// Roots of trust that the policy accepts.
    pub roots: Vec<RootId>,
    /// Threshold t.
    pub threshold: u32,
    /// Now.
    pub time: UnixTime,
}

/// A founded cluster: what goes into `deployment.json`.
#[derive(Debug, Clone)]
pub struct Founded {
    /// The genesis document.
    pub genesis: Genesis,
    /// Its digest.
    pub cluster: ClusterId,
    /// The policy in canonical form.
    pub policy: serde_json::Value,
    /// The gatekeepers in index order.
    pub gatekeepers: Vec<DeploymentGatekeeper>,
}

/// Founds a cluster of the gatekeepers at `urls`, which become its members in this order. Safe to repeat with the same
/// template until it succeeds: gatekeepers that were founded already answer the same again.
///
/// # Errors
/// When a gatekeeper cannot be reached, refuses, or contradicts the others.
pub async fn run(urls: &[String], template: Template) -> Result<Founded, GatekeeperError> {
    let clients = urls.iter().map(GatekeeperClient::new).collect::<Result<Vec<_>, _>>()?;
    let candidates = every(&clients, |client| client.get::<Candidate>(GENESIS_CANDIDATE)).await?;
    let genesis = document(&template, &clients, &candidates)?;
    let wrong = |error: &dyn std::fmt::Display| GatekeeperError::Genesis(error.to_string());
    let cluster = genesis.cluster_id().map_err(|error| wrong(&error))?;
    let canonical = template.policy.canonical().map_err(|error| wrong(&error))?;
    let policy: serde_json::Value = serde_json::from_slice(&canonical).map_err(|error| wrong(&error))?;
    let start = GenesisStart {
        version: Version1,
        genesis: genesis.clone(),
        policy: policy.clone(),
        candidates: candidates.clone(),
    };
    let started = every(&clients, |client| client.post::<GenesisStarted>(GENESIS_START, &start)).await?;
    for (index, (client, started)) in clients.iter().zip(&started).enumerate() {
        if started.cluster != cluster || started.index as usize != index {
            return Err(answer(client, "another cluster or index"));
        }
    }
    let step = GenesisStep { version: Version1, cluster };
    let deals = every(&clients, |client| client.post::<GenesisDeal>(GENESIS_DEAL, &step)).await?;
    let receive =
        GenesisReceive { version: Version1, cluster, deals: deals.into_iter().map(|answer| answer.deal).collect() };
    let received = every(&clients, |client| client.post::<GenesisReceived>(GENESIS_RECEIVE, &receive)).await?;
    let quotes = every(&clients, |client| client.get::<GenesisQuote>(GENESIS_QUOTE)).await?;
    let transcript = received.first().map(|received| received.transcript);
    let mut gatekeepers = Vec::with_capacity(clients.len());
    for (((client, candidate), received), quote) in clients.iter().zip(candidates).zip(received).zip(quotes) {
        if quote.cluster != cluster || Some(quote.transcript) != transcript || Some(received.transcript) != transcript {
            return Err(answer(client, "another transcript"));
        }
        gatekeepers.push(DeploymentGatekeeper {
            keyset: candidate.keyset,
            transcript: quote.transcript,
            evidence: quote.evidence,
            collateral: quote.collateral,
            url: client.url().to_owned(),
        });
    }
    Ok(Founded { genesis, cluster, policy, gatekeepers })
}

fn document(
    template: &Template,
    clients: &[GatekeeperClient],
    candidates: &[Candidate],
) -> Result<Genesis, GatekeeperError> {
    let mut gatekeepers = Vec::with_capacity(candidates.len());
    for (client, candidate) in clients.iter().zip(candidates) {
        let wrong = |error: tacit_types::keyset::KeysetError| answer(client, error.to_string());
        gatekeepers.push(GenesisGatekeeper {
            address: candidate.keyset.receipt_address().map_err(wrong)?,
            keyset: candidate.keyset.digest().map_err(wrong)?,
        });
    }
    let policy = template.policy.hash().map_err(|error| GatekeeperError::Genesis(error.to_string()))?;
    Ok(Genesis {
        version: VERSION,
        network: template.network.clone(),
        chain_id: template.chain_id,
        contracts: template.contracts.clone(),
        code_hashes: template.code_hashes.clone(),
        rpcs: template.rpcs.clone(),
        policy,
        roots: template.roots.clone(),
        simulated: template.policy.names_simulated_root(),
        threshold: template.threshold,
        gatekeepers,
        time: template.time,
    })
}

/// Asks all gatekeepers at once and waits for all answers.
async fn every<'a, A, F>(
    clients: &'a [GatekeeperClient],
    ask: impl Fn(&'a GatekeeperClient) -> F,
) -> Result<Vec<A>, GatekeeperError>
where
    F: Future<Output = Result<A, GatekeeperError>>,
{
    futures::future::try_join_all(clients.iter().map(ask)).await
}

fn answer(client: &GatekeeperClient, what: impl Into<String>) -> GatekeeperError {
    GatekeeperError::Answer { url: client.url().to_owned(), what: what.into() }
}
