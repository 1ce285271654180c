//! `tacit bench`: measures on this machine and prints rows. It starts and removes what it needs.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use tacit_attest::Preset;
use tacit_client::{CallRequest, Client, Package};
use tacit_runtime::bench::Row;
use tacit_types::{FunctionId, eip712::Outcome};
use tacit_verify::Judge;

use super::CommandResult;
use crate::{arguments::BenchArguments, context::NetworkFolder, error::Exit, network, output};

/// Calls of each kind that are measured, after some that are not.
const CALLS: u32 = 300;
const WARM_UP: u32 = 30;

const MANIFEST: &str =
    "[function]\nname = \"bench\"\n[[method]]\nname = \"read\"\nkind = \"query\"\n[trust]\npolicy = \"dev\"\n";
const SOURCE: &str = r#"
import { state } from "tacit";
export async function add({ by }: { by: number }) {
  const total = (((await state.get("total")) as number | undefined) ?? 0) + by;
  await state.set("total", total);
  return { total };
}
export async function read() {
  return { total: ((await state.get("total")) as number | undefined) ?? 0 };
}
"#;

/// Runs one benchmark.
pub async fn run(arguments: &BenchArguments) -> CommandResult {
    let rows = match arguments.name.as_str() {
        "runtime" => {
            let mut say = |line: String| output::note(line);
            tacit_runtime::bench::run(&mut say).await.map_err(|error| anyhow!(error))?
        }
        "call" => call().await?,
        other => {
            let hint = "benchmarks: runtime, call";
            return Err(crate::error::CommandError::usage(format!("there is no benchmark {other:?}"), hint));
        }
    };
    if arguments.json {
        output::json(&rows)?;
    } else {
        for row in rows {
            println!(
                "{:<36} {:>10.3} {:<6} target {:<8} n = {}  {}",
                row.row, row.value, row.unit, row.target, row.n, row.note
            );
        }
    }
    Ok(Exit::Ok)
}

/// Whole calls over a local network of its own: sealed, run, committed, acknowledged, opened, verified.
async fn call() -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::Builder::new().prefix("tacit-bench-").tempdir()?;
    let network_folder = folder.path().join("bench");
    let arguments =
        network::UpArguments { folder: network_folder.clone(), workers: 2, gatekeepers: 4, threshold: 2, detach: true };
    network::up(arguments).await?;
    let measured = measure(&network_folder, folder.path()).await;
    network::down(&network_folder).await?;
    measured
}

async fn measure(network_folder: &Path, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let network = NetworkFolder::at(network_folder);
    let client = Client::new(network.deployment()?, Judge::Preset(Preset::Dev))?.with_caller(network.caller_key()?);
    let project = folder.join("function");
    std::fs::create_dir_all(project.join("src"))?;
    std::fs::write(project.join("tacit.toml"), MANIFEST)?;
    std::fs::write(project.join("src/index.ts"), SOURCE)?;
    let deployed = client.deploy(&Package::build(&project)?, |_| ()).await?;
    let command = median(&client, deployed.function, "add", r#"{"by":1}"#).await.context("commands")?;
    let query = median(&client, deployed.function, "read", "null").await.context("queries")?;
    let note = "one at a time through a gateway, sealed and verified by the client inside the clock; fsync on";
    let row = |name: &str, value: f64, target: &str| Row {
        row: name.to_owned(),
        unit: "ms".to_owned(),
        value,
        target: target.to_owned(),
        peer: None,
        n: u64::from(CALLS),
        note: note.to_owned(),
    };
    Ok(vec![row("call.command.p50", command, "≤ 5"), row("call.query.p50", query, "≤ 3")])
}

/// Median milliseconds of a call.
async fn median(client: &Client, function: FunctionId, method: &str, body: &str) -> anyhow::Result<f64> {
    let mut times: Vec<Duration> = Vec::with_capacity(CALLS as usize);
    for number in 0..WARM_UP + CALLS {
        let request = CallRequest::new(function, method, body.to_owned());
        let began = Instant::now();
        let answer = client.call(&request).await?;
        let elapsed = began.elapsed();
        ensure!(answer.outcome() == Outcome::Ok, "{}", String::from_utf8_lossy(answer.response()));
        if number >= WARM_UP {
            times.push(elapsed);
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1_000.0)
}
