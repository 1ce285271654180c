//! A local network of a benchmark's own, and functions on it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tacit_attest::Preset;
use tacit_client::{Answer, CallRequest, Client, Package};
use tacit_ledger::{Confirmation, NewVersion, writer::Outcome};
use tacit_types::{FunctionId, eip712::Outcome as CallOutcome, manifest::Manifest};
use tacit_verify::Judge;
use tacit_worker::WorkerConfig;
use tokio::signal::unix::{SignalKind, signal};

use crate::network::{Local, UpArguments, during};

/// Longest that a restarted process may take to be ready, and a new function to be callable.
const PATIENCE: Duration = Duration::from_secs(60);
/// Registrations or first calls that are under way at the same time.
const AT_ONCE: usize = 8;

const INTERRUPTED: &str = "interrupted; everything that was started is stopped and removed";

/// Gatekeepers and threshold: those of `tacit up`.
pub const GATEKEEPERS: (u32, u32) = (4, 2);

const SOURCE: &str = r#"import { state } from "tacit";
export async function add({ by }) {
  const total = ((await state.get("total")) ?? 0) + by;
  await state.set("total", total);
  return { total };
}
export async function read() {
  return { total: (await state.get("total")) ?? 0 };
}
"#;

/// A running network and a client of it.
pub struct BenchNetwork<'a> {
    pub local: &'a Local,
    pub client: Client,
}

/// Founds a network in a temporary folder, lets `work` measure on it, and removes it, whatever came of the work.
pub async fn with<T>(workers: u32, work: impl AsyncFnOnce(&BenchNetwork<'_>) -> Result<T>) -> Result<T> {
    let folder = tempfile::Builder::new().prefix("tacit-bench-").tempdir()?;
    let arguments = UpArguments {
        folder: folder.path().join("bench"),
        workers,
        gatekeepers: GATEKEEPERS.0,
        threshold: GATEKEEPERS.1,
        models: Vec::new(),
        models_folder: folder.path().to_owned(),
        detach: false,
    };
    let done = during(&arguments, async |local| {
        let network = BenchNetwork { local, client: client(local)? };
        work(&network).await
    });
    let done = done.await;
    folder.close().context("the benchmark's folder could not be removed")?;
    done?.ok_or_else(|| anyhow!(INTERRUPTED))
}

/// Runs `work` until it is done or this process is told to end; what the work holds is dropped then.
pub async fn interruptible<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err(anyhow!(INTERRUPTED)),
        _ = terminate.recv() => Err(anyhow!(INTERRUPTED)),
    }
}

/// A client that knows nothing yet, with the network's caller key.
pub fn client(local: &Local) -> Result<Client> {
    let client = Client::new(local.folder.deployment()?, Judge::Preset(Preset::Dev))?;
    Ok(client.with_caller(local.folder.caller_key()?))
}

/// A function with one command and one query. Its module carries its name, so that no two are the same code.
pub fn package(name: &str, more: &str) -> Result<Package> {
    let manifest = format!(
        "[function]\nname = \"{name}\"\n[[method]]\nname = \"read\"\nkind = \"query\"\n[trust]\npolicy = \"dev\"\n{more}"
    );
    let manifest = Manifest::from_toml(&manifest).context("the benchmark's manifest")?;
    Ok(Package::new(manifest, format!("{SOURCE}export const NAME = \"{name}\";\n").into(), None)?)
}

impl BenchNetwork<'_> {
    /// Deploys functions with these names and calls each once, so that a worker holds it.
    ///
    /// Blobs go to one gateway, from which the others fetch them; all registrations go through one writer, whose clones share
    /// the account's nonce.
    pub async fn deploy(&self, names: &[String]) -> Result<Vec<FunctionId>> {
        let gateway = self.client.deployment().gateways.first().context("the network has no gateway")?;
        let (http, settling) = (reqwest::Client::new(), self.client.writer()?);
        let writer = settling.clone().confirming(Confirmation::Mined);
        let register = names.iter().map(async |name: &String| {
            let package = package(name, "")?;
            for (digest, bytes) in package.blobs() {
                http.put(format!("{gateway}/v1/blobs/{digest}")).body(bytes).send().await?.error_for_status()?;
            }
            let version = NewVersion {
                module_hash: package.module_hash(),
                manifest_hash: package.manifest_hash(),
                uri: package.uri().to_string(),
            };
            anyhow::Ok(writer.register_function(name, &version, 0).await?)
        });
        let registered: Vec<(FunctionId, Outcome)> =
            stream::iter(register).buffered(AT_ONCE).try_collect().await.context("registering functions")?;
        if let Some((_, last)) = registered.iter().max_by_key(|(_, outcome)| outcome.block) {
            settling.settle(last).await?;
        }
        let called = registered.into_iter().map(async |(function, _)| {
            self.first_call(function).await?;
            anyhow::Ok(function)
        });
        stream::iter(called).buffered(AT_ONCE).try_collect().await.context("calling new functions")
    }

    /// Calls a new function until every node has seen it. It is one call, so the command runs once.
    async fn first_call(&self, function: FunctionId) -> Result<()> {
        let (request, until) = (command(function), tokio::time::Instant::now() + PATIENCE);
        loop {
            match self.client.call(&request).await {
                Ok(answer) => return ok(&answer),
                Err(error) if tokio::time::Instant::now() > until => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Calls the command once.
    pub async fn add(&self, function: FunctionId) -> Result<()> {
        ok(&self.client.call(&command(function)).await?)
    }

    /// Process ids of the roles whose names begin so.
    pub fn pids(&self, prefix: &str) -> Vec<u32> {
        let all = self.local.pids();
        all.into_iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, pid)| pid).collect()
    }

    /// Changes a worker's configuration and starts it again by it; returns when `ready` answers.
    pub async fn reconfigure(&self, name: &str, change: impl FnOnce(&mut WorkerConfig), ready: &str) -> Result<()> {
        let path: PathBuf = self.local.layout.config(name);
        let mut config: WorkerConfig = toml::from_str(&std::fs::read_to_string(&path)?)?;
        change(&mut config);
        self.local.layout.write_config(name, &config)?;
        self.local.restart(name).await?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
        let until = tokio::time::Instant::now() + PATIENCE;
        while !http.get(format!("{ready}/readyz")).send().await.is_ok_and(|answer| answer.status().is_success()) {
            ensure!(tokio::time::Instant::now() < until, "{name} was not ready after {} s", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }
}

/// Refuses an answer that says that the method failed.
pub fn ok(answer: &Answer) -> Result<()> {
    let text = || String::from_utf8_lossy(answer.response()).into_owned();
    ensure!(answer.outcome() == CallOutcome::Ok, "a measured call failed: {}", text());
    Ok(())
}

/// The command that is measured.
pub fn command(function: FunctionId) -> CallRequest {
    CallRequest::new(function, "add", r#"{"by":1}"#)
}

/// The query that is measured.
pub fn query(function: FunctionId) -> CallRequest {
    CallRequest::new(function, "read", "null")
}
