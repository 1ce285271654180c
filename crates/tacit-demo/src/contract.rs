//! The contract that keeps verdicts: deployed, asked, and read.

use std::time::{Duration, Instant};

use alloy_primitives::{Address as AlloyAddress, B256, Bytes};
use alloy_sol_types::{SolValue, sol};
use anyhow::{Context, Result, bail};
use tacit_ledger::At;
use tacit_types::{Address, CodeHash, FunctionId};

use crate::{clock::now, inputs::Inputs, network::Network};

sol! {
    #![sol(all_derives)]
    struct Verdict { bool pass; uint16 accuracyAtLeast; uint64 n; uint64 time; }
    function ask(bytes32 dataRoot, uint64 deadline) external payable returns (bytes32 id);
    function verdictOf(bytes32 dataRoot) external view returns (Verdict memory);
}

/// What the contract keeps.
pub struct Kept {
    /// The contract.
    pub contract: Address,
    /// Whether the file passed.
    pub passed: bool,
    /// Rows in the file.
    pub rows: u64,
    /// Block of the question.
    pub asked: u64,
    /// First block at which the answer was seen.
    pub answered: u64,
    /// Gas of the question.
    pub gas: u64,
}

/// Deploys `MedicalRegistry`, lets it ask for the verdict on a data root, and waits until it keeps the answer.
pub async fn ask_for_verdict(
    network: &Network,
    inputs: &Inputs,
    function: FunctionId,
    code: CodeHash,
    root: &str,
    patience: Duration,
) -> Result<Kept> {
    let root = B256::from_slice(&hex::decode(root).context("the data root is not hex")?);
    let ledger = network.client()?.ledger()?;
    let writer = ledger.writer(&network.caller_key()?)?;

    let deployment = network.deployment()?;
    let roots: Vec<B256> = deployment.genesis.roots.iter().map(|root| B256::from(*root)).collect();
    let hub = AlloyAddress::from(ledger.addresses().request_hub);
    let mut creation = creation_code(inputs, "MedicalRegistry")?;
    creation.extend((hub, B256::from(function), B256::from(code), roots).abi_encode_params());
    let contract = writer.deploy(creation).await?.created.context("the deployment created no contract")?;

    let deadline = now()?.plus(600);
    let asked = writer.call_with(contract, askCall { dataRoot: root, deadline: deadline.0 }, 1_000_000_000).await?;
    let until = Instant::now() + patience;
    loop {
        let kept = ledger.view(contract, verdictOfCall { dataRoot: root }, At::Latest).await?;
        if kept.n > 0 {
            let answered = ledger.latest().await?.number;
            return Ok(Kept {
                contract,
                passed: kept.pass,
                rows: kept.n,
                asked: asked.block,
                answered,
                gas: asked.gas,
            });
        }
        if Instant::now() > until {
            bail!("expected that the contract has an answer within {} s, found none", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What creates a contract, before the constructor's arguments.
pub fn creation_code(inputs: &Inputs, contract: &str) -> Result<Vec<u8>> {
    let path = inputs.project.join(format!("contracts/abi/{contract}.json"));
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let artefact: serde_json::Value = serde_json::from_slice(&text)?;
    let code = artefact["bytecode"]["object"].as_str().or_else(|| artefact["bytecode"].as_str());
    let code: Bytes = code.context("the artefact has no bytecode")?.parse()?;
    Ok(code.to_vec())
}
