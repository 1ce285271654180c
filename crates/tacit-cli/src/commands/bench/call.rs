//! Whole calls over a local network: sealed, run, committed, acknowledged, opened, verified.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tacit_client::{CallRequest, Client};
use tacit_runtime::bench::Row;

use super::{
    distance, median,
    network::{self, BenchNetwork, command, ok, query},
    row, throughput, usage,
};

/// Rounds of one latency, and the calls of each. Other work on the machine lengthens a round and never shortens it, so the
/// best round says most about the program.
const ROUNDS: usize = 5;
const CALLS: usize = 200;
const WARM_UP: usize = 50;

/// Round trip between two nodes of the row that has them apart.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Measures latency, throughput, and latency with nodes that are apart.
pub async fn run() -> Result<Vec<Row>> {
    network::with(2, async |network| {
        let function = network.deploy(&["one".to_owned()]).await?[0];
        let mut rows = Vec::new();
        rows.push(latency(network, &network.client, "call.command.p50", "≤ 5", || command(function), "").await?);
        rows.push(latency(network, &network.client, "call.query.p50", "≤ 3", || query(function), "").await?);
        rows.push(throughput::measure(network).await.context("throughput")?);
        let apart = distance::put_apart(network, ROUND_TRIP).await.context("nodes that are apart")?;
        let client = network::client(network.local)?;
        let far = format!(
            "; {} ms between gateway and worker, and between worker and each gatekeeper",
            ROUND_TRIP.as_millis()
        );
        rows.push(latency(network, &client, "call.command.p50_rtt20", "report", || command(function), &far).await?);
        drop(apart);
        Ok(rows)
    })
    .await
}

/// One call after the other.
async fn latency(
    network: &BenchNetwork<'_>,
    client: &Client,
    name: &str,
    target: &str,
    request: impl Fn() -> CallRequest,
    more: &str,
) -> Result<Row> {
    for _ in 0..WARM_UP {
        call(client, &request()).await.context(name.to_owned())?;
    }
    let roles = ["worker-", "gatekeeper-", "gateway-"];
    let used = || roles.map(|role| usage::processor_time(&network.pids(role)));
    let (own, before) = (usage::processor_time(&[std::process::id()]), used());
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            times.push(call(client, &request()).await.context(name.to_owned())?);
        }
        rounds.push(median(&mut times)?);
    }
    let (own, after) = (usage::processor_time(&[std::process::id()]) - own, used());
    rounds.sort_by(f64::total_cmp);
    let n = ROUNDS * CALLS;
    let each = |time: Duration| time.as_secs_f64() * 1_000.0 / n as f64;
    let [workers, gatekeepers, gateways] = std::array::from_fn(|role| each(after[role].saturating_sub(before[role])));
    let note = format!(
        "one at a time through a gateway, sealed and verified by the client inside the clock; fsync on{more}; best median of {ROUNDS} rounds of {CALLS}, worst {:.2}; processor time per call in ms: client {:.2}, gateway {gateways:.2}, worker {workers:.2}, {} gatekeepers together {gatekeepers:.2}",
        rounds[ROUNDS - 1],
        each(own),
        network::GATEKEEPERS.0,
    );
    Ok(row(name, rounds[0], "ms", target, n, note))
}

async fn call(client: &Client, request: &CallRequest) -> Result<Duration> {
    let began = Instant::now();
    let answer = client.call(request).await?;
    let elapsed = began.elapsed();
    ok(&answer)?;
    Ok(elapsed)
}
