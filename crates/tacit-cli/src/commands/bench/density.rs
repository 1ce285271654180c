//! Memory of functions that are deployed and held by a worker, and that nobody calls.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tacit_runtime::bench::Row;
use tacit_worker::WorkerConfig;

use super::{
    network::{self, BenchNetwork},
    row, usage,
};

/// Functions, and the points at which memory is read.
const STEPS: usize = 5;
const EACH_STEP: usize = 100;
/// Calls of one function before the first look: past them the worker's caches of bundles and outcomes are full, so that what is
/// added later is the functions' own.
const WARM_UP: usize = 2_200;
const IN_FLIGHT: usize = 32;
/// A lease is renewed at a third of this; with local networks' short leases a thousand functions would do little else.
const LEASE_SECONDS: u64 = 120;
/// On a busy machine the benchmark may take longer than workers usually hold an idle function.
const IDLE_SECONDS: u64 = 7_200;
/// How long memory may take to come to rest, and for how long it must not move much.
const PATIENCE: Duration = Duration::from_secs(30);
const REST: Duration = Duration::from_secs(2);
const MUCH: u64 = 256 << 10;

const GIB: f64 = (1u64 << 30) as f64;

/// Measures functions per GiB.
pub async fn run() -> Result<Vec<Row>> {
    network::with(1, async |network| {
        let ready = network.local.plan.url("worker-1")?;
        let change = |config: &mut WorkerConfig| {
            config.limits.lease_seconds = LEASE_SECONDS;
            config.limits.idle_seconds = IDLE_SECONDS;
        };
        network.reconfigure("worker-1", change, &ready).await?;
        let warm = network.deploy(&["warm".to_owned()]).await?[0];
        let calls = (0..WARM_UP).map(|_| network.add(warm));
        stream::iter(calls).buffer_unordered(IN_FLIGHT).try_collect::<()>().await.context("warming up")?;
        let mut points = vec![(0.0, rest(network).await? as f64)];
        for step in 0..STEPS {
            let names: Vec<String> = (0..EACH_STEP).map(|number| format!("idle-{step}-{number}")).collect();
            network.deploy(&names).await?;
            points.push((((step + 1) * EACH_STEP) as f64, rest(network).await? as f64));
        }
        let line = Line::through(&points).context("memory was read too rarely")?;
        ensure!(
            line.slope > 2.0 * line.uncertainty,
            "{} functions did not take measurably more memory than none ({:.0} ± {:.0} bytes each)",
            STEPS * EACH_STEP,
            line.slope,
            line.uncertainty
        );
        let note = format!(
            "each of its own code, deployed, called once and still held under its lease; private memory of the worker process at {} points from 0 to {} functions, line of least squares: {:.0} ± {:.0} bytes each, from which a GiB is extrapolated; {:.0} MiB at 0, {:.0} MiB at the end",
            points.len(),
            STEPS * EACH_STEP,
            line.slope,
            line.uncertainty,
            points[0].1 / (1u64 << 20) as f64,
            points[points.len() - 1].1 / (1u64 << 20) as f64,
        );
        let functions = (GIB / line.slope).floor();
        Ok(vec![row("density.idle_functions_per_gib", functions, "count", "≥ 100000", STEPS * EACH_STEP, note)])
    })
    .await
}

/// The worker's private memory, once it does not move much any more.
async fn rest(network: &BenchNetwork<'_>) -> Result<u64> {
    let pid = *network.pids("worker-1").first().context("the worker does not run")?;
    let read = || usage::private_bytes(pid).context("the worker's memory cannot be read");
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut last = read()?;
    loop {
        tokio::time::sleep(REST).await;
        let now = read()?;
        if now.abs_diff(last) <= MUCH || tokio::time::Instant::now() > until {
            return Ok(now);
        }
        last = now;
    }
}

/// A line of least squares.
struct Line {
    slope: f64,
    /// Standard error of the slope.
    uncertainty: f64,
}

impl Line {
    fn through(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
        let rest: f64 = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
        Some(Self { slope, uncertainty: (rest / (count - 2.0) / spread).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_with_its_uncertainty() {
        let exact = Line::through(&[(0.0, 5.0), (1.0, 8.0), (2.0, 11.0)]).unwrap();
        assert!((exact.slope - 3.0).abs() < 1e-9 && exact.uncertainty < 1e-9);
        let rough = Line::through(&[(0.0, 5.0), (1.0, 9.0), (2.0, 11.0), (3.0, 14.0)]).unwrap();
        assert!((rough.slope - 2.9).abs() < 1e-9 && rough.uncertainty > 0.1, "{}", rough.uncertainty);
        assert!(Line::through(&[(0.0, 1.0), (1.0, 2.0)]).is_none());
    }
}
