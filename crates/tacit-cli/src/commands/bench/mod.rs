//! `tacit bench`: measures on this machine and prints rows. Each file is one benchmark; it starts and removes what it needs,
//! also when it fails or is interrupted.

mod attest;
mod call;
mod chain;
mod density;
mod distance;
mod gatekeepers;
mod inference;
mod network;
mod throughput;
mod usage;

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, ensure};
use tacit_runtime::bench::Row;

use super::CommandResult;
use crate::{
    arguments::{BenchArguments, Benchmark},
    error::Exit,
    output,
};

/// Runs one benchmark.
pub async fn run(arguments: &BenchArguments) -> CommandResult {
    output::note(format!("load of the machine before: {}", usage::load()));
    let rows = match arguments.name {
        Benchmark::Runtime => runtime().await?,
        Benchmark::Attest => attest::run()?,
        Benchmark::Call => call::run().await?,
        Benchmark::Density => density::run().await?,
        Benchmark::Gatekeepers => gatekeepers::run().await?,
        Benchmark::Chain => chain::run().await?,
        Benchmark::Inference => inference::run().await?,
    };
    if let Some(row) = rows.iter().find(|row| !row.value.is_finite()) {
        return Err(anyhow!("{} was not measured: its value is no number", row.row).into());
    }
    if arguments.json {
        output::json(&rows)?;
    } else {
        for row in rows {
            output::line(format!(
                "{:<36} {:>10.3} {:<6} target {:<8} n = {}  {}",
                row.row, row.value, row.unit, row.target, row.n, row.note
            ))?;
        }
    }
    Ok(Exit::Ok)
}

async fn runtime() -> anyhow::Result<Vec<Row>> {
    let mut say = |line: String| output::note(line);
    network::interruptible(async { tacit_runtime::bench::run(&mut say).await.context("sandboxes") }).await
}

/// Where `make evidence` and `make models` put what they fetch.
fn cache() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(cache.ok_or_else(|| anyhow!("neither XDG_CACHE_HOME nor HOME is set"))?.join("tacit"))
}

/// One row without a peer.
fn row(name: &str, value: f64, unit: &str, target: &str, n: usize, note: String) -> Row {
    Row { row: name.to_owned(), unit: unit.to_owned(), value, target: target.to_owned(), peer: None, n: n as u64, note }
}

/// The middle of some times, in milliseconds.
fn median(times: &mut [std::time::Duration]) -> anyhow::Result<f64> {
    ensure!(!times.is_empty(), "nothing was measured");
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1_000.0)
}
