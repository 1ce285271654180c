//! Commands of many functions at the same time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tacit_client::{CallRequest, Entry, PreparedCall};
use tacit_runtime::bench::Row;
use tacit_types::FunctionId;

use super::{
    network::{BenchNetwork, command, ok, query},
    row, usage,
};

const FUNCTIONS: usize = 100;
const IN_FLIGHT: usize = 64;
/// Commands of each function in each round.
const EACH: usize = 40;
/// Rounds; other work on the machine makes one slower and never faster.
const ROUNDS: usize = 3;
/// Longest that a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Commands per second: sealed before the clock starts, opened and verified after it stopped.
pub async fn measure(network: &BenchNetwork<'_>) -> Result<Row> {
    let names: Vec<String> = (1..=FUNCTIONS).map(|number| format!("many-{number}")).collect();
    let functions = network.deploy(&names).await?;
    let gateways: Vec<Entry> =
        network.client.deployment().gateways.iter().map(|gateway| Entry::gateway(gateway)).collect();
    ensure!(!gateways.is_empty(), "the network has no gateway");
    let mut rates = Vec::with_capacity(ROUNDS);
    let mut used = Vec::new();
    for _ in 0..ROUNDS {
        let (rate, times) = round(network, &functions, &gateways).await?;
        rates.push(rate);
        used = times;
    }
    check_totals(network, &functions).await?;
    rates.sort_by(|left, right| right.total_cmp(left));
    let note = format!(
        "{FUNCTIONS} functions, {IN_FLIGHT} in flight, sealed before and opened and verified after the clock; fsync on; best of {ROUNDS} rounds of {}, worst {:.0}; processor time per command in ms: {}",
        FUNCTIONS * EACH,
        rates[ROUNDS - 1],
        used.join(", "),
    );
    Ok(row("call.commands_per_s", rates[0], "1/s", "≥ 2000", ROUNDS * FUNCTIONS * EACH, note))
}

async fn round(network: &BenchNetwork<'_>, functions: &[FunctionId], gateways: &[Entry]) -> Result<(f64, Vec<String>)> {
    let client = &network.client;
    let mut calls: Vec<(CallRequest, PreparedCall)> = Vec::with_capacity(functions.len() * EACH);
    for number in 0..functions.len() * EACH {
        let request = command(functions[number % functions.len()]);
        let workers = client.workers(request.function).await?;
        let first = workers.first().context("no worker")?.clone();
        let deadline = super::super::now().plus(600);
        let prepared = client.prepare(&request, first, deadline)?;
        calls.push((request, prepared));
    }
    let own = [std::process::id()];
    let roles = [
        ("client", Vec::from(own)),
        ("gateways", network.pids("gateway-")),
        ("workers", network.pids("worker-")),
        ("gatekeepers", network.pids("gatekeeper-")),
    ];
    let before: BTreeMap<&str, Duration> =
        roles.iter().map(|(role, pids)| (*role, usage::processor_time(pids))).collect();
    let began = Instant::now();
    let sent = calls.iter().enumerate().map(async |(number, (request, prepared))| {
        client.send(request.function, prepared, &gateways[number % gateways.len()], PATIENCE).await
    });
    let answers: Vec<_> = stream::iter(sent).buffered(IN_FLIGHT).try_collect().await?;
    let elapsed = began.elapsed();
    let each = |time: Duration| time.as_secs_f64() * 1_000.0 / calls.len() as f64;
    let used = roles.iter().map(|(role, pids)| {
        let time = usage::processor_time(pids).saturating_sub(before.get(role).copied().unwrap_or_default());
        format!("{role} {:.2}", each(time))
    });
    let used: Vec<String> = used.collect();
    for ((request, prepared), sealed) in calls.iter().zip(&answers) {
        ok(&client.verify_answer(request, prepared.open(sealed)?)?)?;
    }
    Ok((calls.len() as f64 / elapsed.as_secs_f64(), used))
}

/// Every command ran exactly once: each adds one.
async fn check_totals(network: &BenchNetwork<'_>, functions: &[FunctionId]) -> Result<()> {
    let expected = format!("{{\"total\":{}}}", ROUNDS * EACH + 1);
    for function in functions {
        let answer = network.client.call(&query(*function)).await?;
        let found = String::from_utf8_lossy(answer.response());
        ensure!(found == expected, "{function} says {found}, not {expected}: a command was lost or ran twice");
    }
    Ok(())
}
