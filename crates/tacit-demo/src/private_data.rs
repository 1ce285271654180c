//! Step 3: private data. Every held-out row sealed and scored, the whole file validated, only the verdict on the chain.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng as _;
use tacit_api::DeployReport;
use tacit_client::{Answer, CallRequest, Client, Entry};
use tacit_types::{FunctionId, eip712::Outcome};

use crate::{
    contract,
    inputs::Inputs,
    network::Network,
    recorder::Recorder,
    sample::{self, Row},
    screen::{median, milliseconds, short},
};

/// How long the demo waits for a call or for the chain.
const PATIENCE: Duration = Duration::from_secs(60);

/// What step 3 leaves for the steps after it.
#[derive(Clone)]
pub struct PrivateData {
    /// The function.
    pub function: FunctionId,
    /// The rows that were sent.
    pub rows: Vec<Row>,
    /// The receipt bundle of one call, for our verifier.
    pub bundle: Vec<u8>,
    /// The same bundle, for the tools of others.
    pub handed_out: Vec<u8>,
    /// Everything that went between client and gateway.
    pub traffic: std::path::PathBuf,
}

/// Least share of right answers, in percent.
const LEAST_ACCURACY: usize = 95;

/// Deploys the function, scores every row, validates the file, and lets a contract ask for the verdict.
pub async fn run(network: &Network, inputs: &Inputs) -> Result<PrivateData> {
    let rows = sample::rows(&inputs.reference)?;
    let deployed: DeployReport = network.tool.json(&["deploy", &inputs.example.display().to_string()])?;
    let function = deployed.function;

    let gateway = network.gateway(0)?;
    let recorder = Recorder::start(&gateway, &network.new_folder("traffic")?.join("client-traffic.bin")).await?;
    let client = network.client()?.through(vec![Entry::gateway(recorder.url())]);

    println!("3 PRIVATE DATA   {} held-out rows (Wisconsin 1995, split committed), sealed, one call each", rows.len());
    let logged_before = network.logged_receipts().await?;
    let mut times = Vec::with_capacity(rows.len());
    let (mut equal, mut right, mut bundle) = (0, 0, Vec::new());
    for row in &rows {
        let start = Instant::now();
        let answer = client.call(&CallRequest::new(function, "score", row.request.clone())).await?;
        times.push(start.elapsed());
        ensure!(answer.outcome() == Outcome::Ok, "row {}: {}", row.index, String::from_utf8_lossy(answer.response()));
        equal += usize::from(answer.response() == row.answer.as_bytes());
        right += usize::from(malignant(&answer)? == row.malignant);
        bundle = answer.bundle().to_vec();
    }
    let logged = network.logged_receipts().await?.saturating_sub(logged_before);
    let accuracy = 100.0 * right as f64 / rows.len() as f64;
    println!(
        "  {equal}/{} answers equal plain Node on the same rows · accuracy {accuracy:.1} % · p50 {} · {logged} receipts in the log",
        rows.len(),
        milliseconds(median(&mut times)),
    );
    ensure!(
        equal == rows.len(),
        "expected that {} of {} answers equal plain Node's, found {equal}",
        rows.len(),
        rows.len()
    );
    ensure!(
        right * 100 >= rows.len() * LEAST_ACCURACY,
        "expected an accuracy of at least {LEAST_ACCURACY} %, found {accuracy:.1} %"
    );
    ensure!(
        logged >= rows.len() as u64,
        "expected {} receipts in the log, one for each call; found {logged}",
        rows.len()
    );

    validate_whole_file(network, inputs, &client, function, &deployed).await?;
    let traffic = recorder.stop().await?;
    Ok(PrivateData { function, rows, handed_out: bundle.clone(), bundle, traffic })
}

fn malignant(answer: &Answer) -> Result<bool> {
    let value: serde_json::Value = serde_json::from_slice(answer.response())?;
    value["malignant"].as_bool().context("the answer says neither malignant nor benign")
}

async fn validate_whole_file(
    network: &Network,
    inputs: &Inputs,
    client: &Client,
    function: FunctionId,
    deployed: &DeployReport,
) -> Result<()> {
    let mut salt = [0; 32];
    rand::rng().fill_bytes(&mut salt);
    let file = sample::whole_file(&inputs.reference, &hex::encode(salt))?;
    let answer = client.call(&CallRequest::new(function, "validate", file.request.clone())).await?;
    ensure!(
        answer.response() == file.answer.as_bytes(),
        "expected plain Node's verdict {}, found {}",
        file.answer,
        String::from_utf8_lossy(answer.response())
    );
    let verdict: serde_json::Value = serde_json::from_slice(answer.response())?;
    let root = verdict["dataRoot"].as_str().context("the verdict has no data root")?;
    println!(
        "  whole file validated in one call: {} accuracy >= {} %, n = {}, data root {}   <- only this",
        if verdict["pass"] == true { "PASS" } else { "FAIL" },
        verdict["accuracyAtLeast"].as_f64().unwrap_or_default() * 100.0,
        verdict["n"],
        short(&root),
    );
    let kept = contract::ask_for_verdict(network, inputs, function, deployed.code_hash, root, PATIENCE).await?;
    println!(
        "  verdict goes to contract {}: passed = {}, n = {}, asked in block {}, answered by block {}, {} gas",
        short(&kept.contract),
        kept.passed,
        kept.rows,
        kept.asked,
        kept.answered,
        kept.gas,
    );
    ensure!(
        kept.passed && kept.rows == verdict["n"].as_u64().unwrap_or_default(),
        "expected that the contract keeps passed = true and n = {}, found {} and {}",
        verdict["n"],
        kept.passed,
        kept.rows
    );
    Ok(())
}
