//! Receipts that answer a request on one chain, shown on another chain on which everything else is the same.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tacit_api::BlobUri;
use tacit_ledger::{
    Acceptance, Addresses, Anvil, AnvilConfig, AnvilSearch, At, Ledger, LedgerError, NewVersion, RequestStatus, Writer,
};
use tacit_receipt::Bundle;
use tacit_types::{CallId, FunctionId, UnixTime, eip712::keccak};

use super::{Counter, PATIENCE};
use crate::{
    clock::now,
    inputs::Inputs,
    network::Network,
    stranger::{ADMITTED, Stranger},
};

/// Splits the home chain in two that differ in their id alone, has the same question answered on each, and delivers each
/// answer to the other. Both chains have the same contracts at the same places, the same certificates and askers.
pub async fn exchange_receipts(network: &Network, inputs: &Inputs, counter: &Counter) -> Result<usize> {
    let key = network.caller_key()?;
    let deployment = network.deployment()?;
    let home = network.client()?.writer()?;
    for root in &deployment.genesis.roots {
        home.set_root(*root, Acceptance::Yes).await?;
    }
    let function = register_again(network, &home, counter).await?;
    let question = Question { function, deadline: now()?.plus(600) };

    let folder = network.new_folder("other-chain")?;
    let snapshot = network.tool.network().join("chain/chain.snapshot");
    std::fs::copy(&snapshot, folder.join("chain.snapshot")).with_context(|| snapshot.display().to_string())?;
    let search = AnvilSearch { checkout: Some(inputs.project.clone()), ..AnvilSearch::from_environment() };
    let binary = search.find()?;
    let config = AnvilConfig { binary, directory: folder.clone(), port: None, chain_id: inputs.other_chain };
    let anvil = Anvil::start(config).await?;
    let addresses = Addresses::from_map(&deployment.genesis.contracts)?;
    let other = Ledger::connect(anvil.url(), addresses, deployment.chain.finality)?.writer(&key)?;

    // A worker whose host shows it the other chain answers there.
    let mut shown = deployment.clone();
    shown.chain.rpc = anvil.url().to_owned();
    let path = folder.join("deployment.json");
    std::fs::write(&path, serde_json::to_vec(&shown)?)?;
    let mut config = network.worker_config("worker-1")?;
    config.insert("deployment".into(), path.display().to_string().into());
    config.insert("folder".into(), folder.join("data").display().to_string().into());
    let mut stranger = Stranger::start(&network.binary("tacit"), config, &folder)?;
    stranger.says(&[ADMITTED])?;
    let asked_there = question.ask(&other).await?;
    answered(other.ledger(), asked_there).await.context("the worker on the other chain")?;
    let response = other.ledger().response(asked_there, At::Latest).await?;
    let there = fetch(&format!("{}/v1/receipts/{asked_there}", stranger.url())).await?;
    // Its certificate is published here too: nothing but the chain stands between its answer and this hub.
    let signed = &there.certificate;
    home.publish_certificate(&signed.certificate, &signed.signatures, None).await?;
    let asked_here = question.ask(&home).await?;
    let mut accepted = deliver(&home, &[asked_here, asked_there], &there, &response).await?;
    stranger.stop()?;

    // And the other way round.
    let asked_there = question.ask(&other).await?;
    let asked_here = question.ask(&home).await?;
    answered(home.ledger(), asked_here).await.context("the workers on the home chain")?;
    let response = home.ledger().response(asked_here, At::Latest).await?;
    let here = fetch(&format!("{}/v1/receipts/{asked_here}", network.gateway(0)?)).await?;
    accepted += deliver(&other, &[asked_there, asked_here], &here, &response).await?;
    anvil.stop().await;
    Ok(accepted)
}

/// The counter's code as a function that no worker holds yet.
async fn register_again(network: &Network, home: &Writer, counter: &Counter) -> Result<FunctionId> {
    let record = home.ledger().function(counter.function, At::Final).await?.context("the counter is not registered")?;
    let uri: BlobUri = record.uri.parse()?;
    let module = reqwest::get(format!("{}/v1/blobs/{}", network.gateway(0)?, uri.module)).await?.error_for_status()?;
    let version = NewVersion {
        module_hash: keccak(&module.bytes().await?),
        manifest_hash: record.manifest_hash,
        uri: record.uri,
    };
    let name = format!("counter-{}", home.next_nonce().await?);
    Ok(home.register_function(&name, &version, 0).await?.0)
}

/// The same question on every chain.
struct Question {
    function: FunctionId,
    deadline: UnixTime,
}

impl Question {
    /// Asks, as the caller's account.
    async fn ask(&self, writer: &Writer) -> Result<CallId> {
        Ok(writer.request(self.function, None, "add", br#"{"by":1}"#, 0, self.deadline).await?.0)
    }
}

/// Waits until a request is answered on its own chain.
async fn answered(ledger: &Ledger, id: CallId) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while ledger.request_status(id, At::Latest).await? != RequestStatus::Done {
        ensure!(Instant::now() < until, "expected an answer to {id} within {} s, found none", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn fetch(url: &str) -> Result<Bundle> {
    let bytes = reqwest::get(url).await?.error_for_status()?.bytes().await?;
    Bundle::parse(&bytes).with_context(|| format!("{url} is not a receipt bundle"))
}

/// Delivers an answer for each of these requests, with and without the register's acknowledgement.
async fn deliver(writer: &Writer, requests: &[CallId], answer: &Bundle, response: &[u8]) -> Result<usize> {
    let mut accepted = 0;
    for request in requests {
        for acknowledgement in [None, answer.acknowledgement.as_ref()] {
            match writer.fulfil(*request, response, &answer.receipt, &answer.signature, acknowledgement).await {
                Ok(_) => accepted += 1,
                Err(LedgerError::Refused(refusal))
                    if matches!(refusal.name.as_str(), "NotTheAnswer" | "WrongStatus") => {}
                Err(error) => return Err(error).context("expected that the hub refuses the answer"),
            }
        }
    }
    Ok(accepted)
}
