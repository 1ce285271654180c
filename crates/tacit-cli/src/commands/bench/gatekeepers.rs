//! Four gatekeepers as processes, asked by a worker's identity that does nothing else.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::Rng as _;
use tacit_gatekeeper::bench::{self, Figures, Subject};
use tacit_ledger::{Confirmation, NewVersion};
use tacit_platform::{Driver, GuestSocket};
use tacit_runtime::bench::Row;
use tacit_types::{Digest, FunctionId};

use super::{
    network::{self, BenchNetwork, GATEKEEPERS},
    row, usage,
};

/// Functions whose positions are acknowledged together.
const FUNCTIONS: usize = 256;
/// How long is measured in each round, all rows together.
const TIME: Duration = Duration::from_secs(6);
/// Rounds; other work on the machine makes one slower and never faster.
const ROUNDS: usize = 3;
/// Registrations that are under way at the same time.
const REGISTRATIONS: usize = 8;

/// Measures derivation and acknowledgement.
pub async fn run() -> Result<Vec<Row>> {
    network::with(1, async |network| {
        let functions = register(network).await.context("functions to measure with")?;
        let deployment = network.local.folder.deployment()?;
        // The machine measures whoever asks it: this process runs the same binary as the network's workers.
        let machine = Driver::GuestSocket(GuestSocket::new(network.local.layout.socket("worker-1")?));
        let subject = Subject::admitted(&deployment, &machine, functions).await.context("admission")?;
        let gatekeepers = network.pids("gatekeeper-");
        let before = usage::processor_time(&gatekeepers);
        let mut rounds: Vec<Figures> = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            rounds.push(bench::run(&subject, TIME).await?);
        }
        let used = usage::processor_time(&gatekeepers).saturating_sub(before).as_secs_f64();
        rows(&rounds, used)
    })
    .await
}

fn rows(rounds: &[Figures], used: f64) -> Result<Vec<Row>> {
    let of = |figure: fn(&Figures) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        (all.first().copied().unwrap_or(f64::NAN), all.last().copied().unwrap_or(f64::NAN))
    };
    let count = |figure: fn(&Figures) -> usize| rounds.iter().map(figure).sum::<usize>();
    let (count_of, threshold) = GATEKEEPERS;
    let (derive, derive_worst) = of(|figures| figures.derive_cold_ms);
    let (ack, ack_worst) = of(|figures| figures.ack_p50_ms);
    let (slowest, rate) = of(|figures| figures.acks_per_s);
    let rounds = rounds.len();
    Ok(vec![
        row(
            "gatekeepers.derive.cold",
            derive,
            "ms",
            "≤ 50",
            count(|figures| figures.derivations),
            format!(
                "fresh transport key to root key, {threshold} of {count_of} gatekeeper processes asked at once; each release on disk; best median of {rounds} rounds, worst {derive_worst:.2}"
            ),
        ),
        row(
            "gatekeepers.ack.p50",
            ack,
            "ms",
            "≤ 2",
            count(|figures| figures.acks),
            format!(
                "one commit at a time, until a quorum of {count_of} gatekeeper processes has it on disk and signed; best median of {rounds} rounds, worst {ack_worst:.2}"
            ),
        ),
        row(
            "gatekeepers.acks_per_s",
            rate,
            "1/s",
            "≥ 5000",
            count(|figures| figures.grouped),
            format!(
                "{FUNCTIONS} functions in groups of {}, every gatekeeper's answer waited for; fsync on; best of {rounds} rounds, worst {slowest:.0}; the gatekeepers used {used:.1} s of processor time in all rounds of all rows",
                bench::GROUP,
            ),
        ),
    ])
}

/// Functions in the registry, whose code nobody will ask for.
async fn register(network: &BenchNetwork<'_>) -> Result<Vec<FunctionId>> {
    let writer = network.client.writer()?;
    let quick = writer.clone().confirming(Confirmation::Mined);
    let register = (1..FUNCTIONS).map(|number| {
        let quick = quick.clone();
        async move { quick.register_function(&format!("bench-{number}"), &version(), 0).await.map(|(id, _)| id) }
    });
    let mut functions: Vec<FunctionId> = stream::iter(register).buffered(REGISTRATIONS).try_collect().await?;
    // The last one is final, so all are.
    functions.push(writer.register_function("bench-0", &version(), 0).await?.0);
    Ok(functions)
}

fn version() -> NewVersion {
    let random = || {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Digest::from(bytes)
    };
    NewVersion { module_hash: random(), manifest_hash: random().into_bytes().into(), uri: String::new() }
}
