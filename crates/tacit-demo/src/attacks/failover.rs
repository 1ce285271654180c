//! A gateway that takes everything and answers nothing, and a worker killed in the middle of a call.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tacit_client::{CallRequest, Entry};
use tacit_types::FunctionId;

use super::{PATIENCE, add, read, total};
use crate::network::{Network, Pause, kill};

/// Stops gateway-1, kills the worker in mid-call, and shows who answered, and that it ran once.
pub async fn run(network: &Network, function: FunctionId) -> Result<()> {
    let client = network.client()?;
    let before = total(&client.call(&add(function, 1)).await?)?;
    let gateway = network.status()?.gateways.first().and_then(|gateway| gateway.pid);
    let _dropping = Pause::process(gateway.context("gateway-1 has no process here")?)?;

    let start = Instant::now();
    let detour = client.call(&add(function, 1)).await.context("expected an answer through gateway-2")?;
    println!("  gateway-1 drops everything: answered through gateway-2 after {:.1} s", start.elapsed().as_secs_f64());

    let client = network.client()?.through(vec![Entry::gateway(&network.gateway(1)?)]);
    let holder = detour.receipt().certificate;
    let workers = client.workers(function).await?;
    let holder = workers.iter().find(|candidate| candidate.worker.id() == holder).context("the holder is not known")?;
    let (name, pid) = network.worker_at(&holder.endpoint)?;
    let body = "{\"by\":10,\"milliseconds\":1500}";
    let request = CallRequest { patience: PATIENCE, ..CallRequest::new(function, "slow", body) };
    let killer = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        kill(pid)
    };
    let start = Instant::now();
    let (answer, killed) = tokio::join!(client.call(&request), killer);
    killed?;
    let answer = answer.context("expected an answer although the worker was killed")?;
    let took = start.elapsed();
    let certificate = answer.receipt().certificate;
    ensure!(certificate != holder.worker.id(), "expected an answer of another worker, found one of the killed process");
    let workers = client.fetch_workers(function).await?;
    let other =
        workers.iter().find(|candidate| candidate.worker.id() == certificate).context("who answered is not known")?;
    let other = network.worker_at(&other.endpoint)?.0;

    let found = total(&client.call(&read(function)).await?)?;
    ensure!(found == before + 1 + 10, "expected the total {before} + 1 + 10, each call once; found {found}");
    let again = client.call(&request).await?;
    ensure!(
        again.receipt().call_id == answer.receipt().call_id && again.response() == answer.response(),
        "expected the same call id and answer for the same idempotency key, found {} and {}",
        answer.receipt().call_id,
        again.receipt().call_id
    );
    println!(
        "  {name} killed in mid-call: answered by {}{} after {:.1} s, once, same call id",
        other,
        if other == name { ", started again," } else { "" },
        took.as_secs_f64()
    );
    network.wait_for_workers()
}
