//! Step 6: attacks, each really carried out. The figure at the end of a line is how many were accepted: none may be.

mod bundles;
mod copied_disk;
mod failover;
mod old_store;
mod old_version;
mod other_chain;
mod replay;

use std::time::Duration;

use anyhow::{Result, ensure};
use tacit_api::{DeployReport, Problem};
use tacit_client::{Answer, CallRequest, Candidate, Client, ClientError, Entry};
use tacit_types::{FunctionId, eip712::Outcome};

use crate::{clock::now, inputs::Inputs, network::Network};

/// How long an attack waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Carries out every attack, one after another, until one is accepted.
pub async fn run(network: &Network, inputs: &Inputs) -> Result<()> {
    println!("6 ATTACKS, each really carried out{:57}accepted", "");
    let counter = Counter::deploy(network)?;
    let first = [
        ("altered bundles", bundles::show_altered(network, inputs)?),
        ("a replayed seal", replay::send_twice(network, inputs).await?),
        ("a receipt of the old code version", old_version::show_receipt(network, &counter).await?),
        ("receipts about another chain's request", other_chain::exchange_receipts(network, inputs, &counter).await?),
    ];
    for (what, accepted) in first {
        ensure!(accepted == 0, "expected that none is accepted, found {accepted}: {what}");
    }
    line(
        &format!(
            "{} altered bundles · replayed seal · old code version · other chain's request",
            inputs.altered_bits.len()
        ),
        0,
    )?;

    let copy = copied_disk::run_copy(network, inputs, counter.function).await?;
    line(&copy.what, copy.accepted)?;
    let restored = old_store::restore(network, inputs, counter.function).await?;
    line(&restored.what, restored.accepted)?;
    failover::run(network, counter.function).await
}

/// An attack that was carried out.
struct Attack {
    what: String,
    accepted: usize,
}

fn line(what: &str, accepted: usize) -> Result<()> {
    println!("  {what:<89}{accepted:>8}");
    ensure!(accepted == 0, "expected that none is accepted, found {accepted}: {}", what.trim());
    Ok(())
}

/// A small function with state, for attacks on state.
struct Counter {
    project: std::path::PathBuf,
    function: FunctionId,
    /// The first version.
    deployed: DeployReport,
}

impl Counter {
    /// Deploys it; the code is another one each time, so that every run has a version of its own.
    fn deploy(network: &Network) -> Result<Self> {
        let project = network.new_folder("counter")?;
        std::fs::create_dir_all(project.join("src"))?;
        std::fs::write(project.join("tacit.toml"), include_str!("../../functions/counter/tacit.toml"))?;
        std::fs::write(
            project.join("src/index.ts"),
            format!("// {}\n{}", project.display(), include_str!("../../functions/counter/src/index.ts")),
        )?;
        let deployed: DeployReport = network.tool.json(&["deploy", &project.display().to_string()])?;
        Ok(Self { project, function: deployed.function, deployed })
    }
}

/// A request that adds `by` to the counter.
fn add(function: FunctionId, by: u32) -> CallRequest {
    CallRequest::new(function, "add", format!("{{\"by\":{by}}}"))
}

/// A request that reads the counter.
fn read(function: FunctionId) -> CallRequest {
    CallRequest::new(function, "read", "null")
}

/// The total in an answer of the counter.
fn total(answer: &Answer) -> Result<i64> {
    let response = answer.response();
    ensure!(answer.outcome() == Outcome::Ok, "expected a total, found: {}", String::from_utf8_lossy(response));
    let value: serde_json::Value = serde_json::from_slice(response)?;
    value["total"].as_i64().ok_or_else(|| anyhow::anyhow!("expected a total, found {value}"))
}

/// Sends a request straight to one worker and verifies what it answers.
async fn ask(client: &Client, request: &CallRequest, candidate: &Candidate) -> Result<Answer, ClientError> {
    let deadline = now().map_err(|_| ClientError::Request("the clock is before 1970"))?.plus(60);
    let prepared = client.prepare(request, candidate.clone(), deadline)?;
    let route = Entry::worker(&candidate.endpoint);
    let sealed = client.send(request.function, &prepared, &route, PATIENCE).await?;
    client.verify_answer(request, prepared.open(&sealed)?)
}

/// The refusal in an error, if a node said it.
fn refusal(error: &ClientError) -> Option<&Problem> {
    match error {
        ClientError::Sealed(problem) | ClientError::Unsealed { problem, .. } => Some(problem),
        _ => None,
    }
}
