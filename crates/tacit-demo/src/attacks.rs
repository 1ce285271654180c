//! Step 6: attacks, each really carried out. The figure at the end of each line is how many were accepted: none may be.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rand::RngExt as _;
use tacit_api::DeployReport;
use tacit_client::{CallRequest, Client, ClientError, Entry};
use tacit_types::{FunctionId, UnixTime, eip712::Outcome};

use crate::{
    network::{Network, Pause, kill},
    private_data::PrivateData,
};

const ALTERED: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Carries out every attack.
pub async fn run(network: &Network, data: &PrivateData) -> Result<()> {
    println!("6 ATTACKS, each really carried out                                                         accepted");
    let altered = altered_bundles(network, &data.bundle)?;
    let replayed = replayed_seal(network, data).await?;
    line(&format!("{ALTERED} altered bundles · replayed seal"), altered + replayed)?;

    let project = write_function(network)?;
    let counter: DeployReport = network.tool.json(&["deploy", &project.display().to_string()])?;
    line("old code version: its receipt shown for the new one", old_version(network, &project, &counter).await?)?;
    line("worker-2 asked while worker-1 holds the lease: silent", other_worker(network, counter.function).await?)?;
    let (accepted, message) = rolled_back_store(network, counter.function).await?;
    line(&format!("yesterday's store restored: \"{message}\""), accepted)?;
    line(&failover(network, counter.function).await?, 0)
}

fn line(what: &str, accepted: usize) -> Result<()> {
    println!("  {what:<88} {accepted}");
    ensure!(accepted == 0, "expected that none is accepted: {what}");
    Ok(())
}

/// Flips one random bit of a receipt bundle, a thousand times.
fn altered_bundles(network: &Network, bundle: &[u8]) -> Result<usize> {
    let client = network.client()?;
    let now = UnixTime(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs());
    let holds = |bytes: &[u8]| client.verifier().verify_receipt(bytes, now).is_ok();
    ensure!(holds(bundle), "the unaltered bundle must hold, or its alterations show nothing");
    let mut accepted = 0;
    for _ in 0..ALTERED {
        let mut altered = bundle.to_vec();
        let place = rand::rng().random_range(0..altered.len());
        altered[place] ^= 1 << rand::rng().random_range(0..8);
        accepted += usize::from(holds(&altered));
    }
    Ok(accepted)
}

/// Sends the same sealed bytes twice.
async fn replayed_seal(network: &Network, data: &PrivateData) -> Result<usize> {
    let client = network.client()?;
    let request = CallRequest::new(data.function, "score", data.rows[0].request.clone());
    let candidate = client.workers(data.function).await?.first().context("no worker serves the function")?.clone();
    let gateway = Entry::gateway(&network.gateway(0)?);
    let prepared = client.prepare(&request, candidate, deadline()?)?;
    let first = client.send(data.function, &prepared, &gateway, PATIENCE).await?;
    prepared.open(&first).context("the first time must be answered")?;
    Ok(match client.send(data.function, &prepared, &gateway, PATIENCE).await {
        Ok(second) => usize::from(prepared.open(&second).is_ok()),
        Err(_) => 0,
    })
}

/// Upgrades the function, then shows the receipt of the old version to somebody who asks for the new one.
async fn old_version(network: &Network, project: &Path, first: &DeployReport) -> Result<usize> {
    let client = network.client()?;
    let mut request = CallRequest::new(first.function, "add", "{\"by\":1}");
    let candidate = client.workers(first.function).await?.first().context("no worker serves the function")?.clone();
    let prepared = client.prepare(&request, candidate.clone(), deadline()?)?;
    let sealed = client.send(first.function, &prepared, &Entry::worker(&candidate.endpoint), PATIENCE).await;
    let old = match sealed {
        Ok(sealed) => prepared.open(&sealed)?,
        // The rendezvous order is a hint; the library finds the holder.
        Err(_) => return Err(anyhow::anyhow!("{} did not answer a first call", candidate.endpoint)),
    };
    let source = project.join("src/index.ts");
    let text = std::fs::read_to_string(&source)?;
    std::fs::write(&source, format!("{text}\n// second version\n"))?;
    let second: DeployReport = network.tool.json(&["deploy", &project.display().to_string()])?;
    ensure!(second.code_hash != first.code_hash, "the second version has the code hash of the first");
    request.code = Some(second.code_hash);
    let accepted = usize::from(!matches!(client.verify_answer(&request, old), Err(ClientError::OtherCall(_))));
    // And the workers run the new one from now on.
    let until = Instant::now() + PATIENCE;
    loop {
        let mut request = CallRequest::new(first.function, "add", "{\"by\":1}");
        request.code = Some(second.code_hash);
        match client.call(&request).await {
            Ok(_) => return Ok(accepted),
            Err(ClientError::OtherCall(_)) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(100)).await
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks, straight, every worker that does not hold the function's lease.
async fn other_worker(network: &Network, function: FunctionId) -> Result<usize> {
    let client = network.client()?;
    let answer = client.call(&CallRequest::new(function, "add", "{\"by\":1}")).await?;
    let holder = answer.receipt().certificate;
    let mut accepted = 0;
    for candidate in client.workers(function).await?.iter().filter(|candidate| candidate.worker.id() != holder) {
        let request = CallRequest::new(function, "add", "{\"by\":100}");
        let prepared = client.prepare(&request, candidate.clone(), deadline()?)?;
        let route = Entry::worker(&candidate.endpoint);
        if let Ok(sealed) = client.send(function, &prepared, &route, PATIENCE).await {
            accepted += usize::from(prepared.open(&sealed).is_ok());
        }
    }
    Ok(accepted)
}

/// Puts back a copy of the store from before some commands, with every worker killed, and calls again.
async fn rolled_back_store(network: &Network, function: FunctionId) -> Result<(usize, String)> {
    let client = network.client()?;
    let store = network.tool.network().join("store");
    let yesterday = network.folder().join("store-of-yesterday");
    copy(&store, &yesterday)?;
    let mut newest = 0;
    for _ in 0..3 {
        newest = client.call(&CallRequest::new(function, "add", "{\"by\":1}")).await?.receipt().sequence;
    }
    let workers: Vec<u32> = network.status()?.workers.iter().filter_map(|worker| worker.pid).collect();
    let paused: Vec<Pause> = workers.iter().map(|pid| Pause::process(*pid)).collect::<Result<_>>()?;
    let today = network.folder().join("store-of-today");
    std::fs::rename(&store, &today)?;
    copy(&yesterday, &store)?;
    workers.iter().try_for_each(|pid| kill(*pid))?;
    drop(paused);

    let (accepted, message) = ask_until_refused(&client, function).await?;
    ensure!(
        accepted == 1 || (message.contains("rolled back") && message.contains(&newest.to_string())),
        "expected a message with both sequences, found: {message}"
    );

    // The true store again, so that the network goes on.
    std::fs::remove_dir_all(&store)?;
    std::fs::rename(&today, &store)?;
    let answer = client.call(&CallRequest::new(function, "read", "null")).await?;
    ensure!(answer.receipt().sequence == newest, "the true store must serve again from sequence {newest}");
    Ok((accepted, message))
}

/// Calls every worker, straight, until one answers or says that the state was rolled back.
async fn ask_until_refused(client: &Client, function: FunctionId) -> Result<(usize, String)> {
    let until = Instant::now() + PATIENCE;
    let mut last = String::from("no worker was reached");
    while Instant::now() < until {
        let candidates = client.fetch_workers(function).await.map(|workers| workers.to_vec()).unwrap_or_default();
        for candidate in candidates {
            let prepared =
                client.prepare(&CallRequest::new(function, "read", "null"), candidate.clone(), deadline()?)?;
            let route = Entry::worker(&candidate.endpoint);
            let answer = match client.send(function, &prepared, &route, Duration::from_secs(10)).await {
                Ok(sealed) => prepared.open(&sealed).map(drop),
                Err(error) => Err(error),
            };
            match answer {
                Ok(()) => return Ok((1, "answered".into())),
                Err(ClientError::Sealed(problem) | ClientError::Unsealed { problem, .. }) => last = problem.detail,
                Err(error) => last = error.to_string(),
            }
            if last.contains("rolled back") {
                return Ok((0, last));
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok((0, last))
}

/// Stops gateway-1, so that it takes everything and answers nothing, and kills the worker in mid-call.
async fn failover(network: &Network, function: FunctionId) -> Result<String> {
    let client = network.client()?;
    let before = client.call(&CallRequest::new(function, "add", "{\"by\":1}")).await?;
    let status = network.status()?;
    let gateway = status.gateways.first().and_then(|gateway| gateway.pid).context("gateway-1 has no process here")?;
    let _dropping = Pause::process(gateway)?;

    let start = Instant::now();
    let through_second = client.call(&CallRequest::new(function, "add", "{\"by\":1}")).await?;
    let detour = start.elapsed();
    ensure!(through_second.outcome() == Outcome::Ok, "the call through gateway-2 must succeed");

    let client = network.client()?.through(vec![Entry::gateway(&network.gateway(1)?)]);
    let holder = through_second.receipt().certificate;
    let workers = client.workers(function).await?;
    let holder = workers.iter().find(|candidate| candidate.worker.id() == holder).context("the holder is not known")?;
    let worker = status.workers.iter().find(|worker| worker.url == holder.endpoint).and_then(|worker| worker.pid);
    let worker = worker.context("the holder has no process here")?;
    let request =
        CallRequest { patience: PATIENCE, ..CallRequest::new(function, "slow", "{\"by\":10,\"milliseconds\":1500}") };
    let killer = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        kill(worker)
    };
    let start = Instant::now();
    let (answer, killed) = tokio::join!(client.call(&request), killer);
    killed?;
    let answer = answer.context("the call must be answered by the other worker")?;
    let took = start.elapsed();
    ensure!(answer.outcome() == Outcome::Ok, "{}", String::from_utf8_lossy(answer.response()));
    let answered_by =
        if answer.receipt().certificate == holder.worker.id() { "the killed worker" } else { "the other" };

    let after = client.call(&CallRequest::new(function, "read", "null")).await?;
    let total = |bytes: &[u8]| -> Result<i64> {
        serde_json::from_slice::<serde_json::Value>(bytes)?["total"].as_i64().context("the answer has no total")
    };
    let (first, last) = (total(before.response())?, total(after.response())?);
    ensure!(last == first + 1 + 10, "expected that each call ran once: {first} + 1 + 10, found {last}");
    let again = client.call(&request).await?;
    ensure!(again.receipt().call_id == answer.receipt().call_id, "the same idempotency key must give the same call");
    ensure!(again.response() == answer.response(), "the same idempotency key gave another answer");
    Ok(format!(
        "gateway-1 drops everything: answered through gateway-2 in {:.1} s · worker killed in mid-call: answered by {answered_by} in {:.1} s, once, same call id",
        detour.as_secs_f64(),
        took.as_secs_f64()
    ))
}

fn deadline() -> Result<UnixTime> {
    Ok(UnixTime(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() + 60))
}

/// A small function with state, for attacks on state.
fn write_function(network: &Network) -> Result<std::path::PathBuf> {
    let project = network.folder().join("counter");
    std::fs::create_dir_all(project.join("src"))?;
    std::fs::write(project.join("tacit.toml"), include_str!("../functions/counter/tacit.toml"))?;
    std::fs::write(project.join("src/index.ts"), include_str!("../functions/counter/src/index.ts"))?;
    Ok(project)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
