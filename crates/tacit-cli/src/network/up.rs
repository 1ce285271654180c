//! Starts a network and keeps it running; stops one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tacit_types::UnixTime;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    chain, founding,
    layout::{Layout, Plan},
    models,
    process::{self, Supervisor},
    roles,
};
use crate::context::{
    NetworkFolder, RunningChain, RunningGatekeeper, RunningGateway, RunningNetwork, RunningWorker, STATUS_VERSION,
    read_key,
};

/// How long a part of the network may take to become ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the supervisor looks whether processes changed.
const LOOK: Duration = Duration::from_millis(200);

/// What `tacit up` was asked for.
#[derive(Debug, Clone)]
pub struct UpArguments {
    /// The network's folder.
    pub folder: PathBuf,
    /// Number of workers of a new network.
    pub workers: u32,
    /// Number of gatekeepers of a new network.
    pub gatekeepers: u32,
    /// Threshold of a new network.
    pub threshold: u32,
    /// Models that the workers of a new network offer, and the folder that they are in.
    pub models: Vec<String>,
    pub models_folder: PathBuf,
    /// Return when the network is ready and leave it running.
    pub detach: bool,
}

/// Starts the network in the folder, or founds one there; runs until SIGINT or SIGTERM unless detached.
pub async fn up(arguments: UpArguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.folder)
        .with_context(|| format!("could not make the folder {}", arguments.folder.display()))?;
    let folder = arguments.folder.canonicalize()?;
    let arguments = UpArguments { folder: folder.clone(), ..arguments };
    if running_supervisor(&folder).is_some() {
        bail!("the network in {} is running already; `tacit status` shows it, `tacit down` stops it", folder.display());
    }
    if arguments.detach { detached(&arguments).await } else { foreground(&arguments).await }
}

/// Stops the network in the folder and waits until all its processes are gone.
pub async fn down(folder: &Path) -> Result<()> {
    let network = NetworkFolder::at(folder);
    let Ok(running) = network.running() else {
        eprintln!("no network is running in {}", folder.display());
        return Ok(());
    };
    let folder = folder.canonicalize()?;
    if let Some(supervisor) = running_supervisor(&folder) {
        process::ask_to_stop(supervisor);
        wait_until("the network to stop", || !Path::new(&format!("/proc/{supervisor}")).exists()).await?;
    }
    end_leftovers(&folder, &running).await;
    network.clear_running()
}

/// The process of `tacit up` for this folder, if it lives.
fn running_supervisor(folder: &Path) -> Option<u32> {
    let supervisor = NetworkFolder::at(folder).running().ok()?.supervisor;
    (supervisor != std::process::id() && process::belongs_to(supervisor, folder)).then_some(supervisor)
}

/// Ends what a supervisor that was killed left behind.
async fn end_leftovers(folder: &Path, running: &RunningNetwork) {
    let gatekeepers = running.gatekeepers.iter().map(|node| node.pid);
    let workers = running.workers.iter().map(|node| node.pid);
    let gateways = running.gateways.iter().map(|node| node.pid);
    let chips = running.chips.iter().map(|pid| Some(*pid));
    let pids = gateways.chain(workers).chain(gatekeepers).chain(chips).flatten();
    for pid in pids.filter(|pid| process::belongs_to(*pid, folder)) {
        process::end_leftover(pid).await;
    }
}

async fn detached(arguments: &UpArguments) -> Result<()> {
    let layout = Layout::new(&arguments.folder);
    std::fs::create_dir_all(layout.logs())?;
    let log_path = layout.logs().join("up.log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path)?;
    let began = log.metadata()?.len();
    let mut command = tokio::process::Command::new("setsid");
    command
        .arg(std::env::current_exe()?)
        .arg("up")
        .arg("--dir")
        .arg(&arguments.folder)
        .args(["--workers", &arguments.workers.to_string()])
        .args(["--gatekeepers", &arguments.gatekeepers.to_string()])
        .args(["--threshold", &arguments.threshold.to_string()])
        .args(arguments.models.iter().flat_map(|name| ["--model", name]))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut child = command.spawn().context("could not start setsid (package util-linux)")?;
    let ready = ready_file(&arguments.folder);
    loop {
        if let Some(status) = child.try_wait()? {
            let text = std::fs::read(&log_path).unwrap_or_default();
            let text = String::from_utf8_lossy(text.get(began as usize..).unwrap_or_default()).into_owned();
            bail!("the network did not start ({status})\n{}", text.trim());
        }
        if ready.exists() && running_supervisor(&arguments.folder).is_some() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn ready_file(folder: &Path) -> PathBuf {
    folder.join("ready")
}

/// A network whose processes are children of this one.
pub struct Local {
    /// Its folder.
    pub folder: NetworkFolder,
    /// Where it keeps what.
    pub layout: Layout,
    /// What it consists of.
    pub plan: Plan,
    /// Its chain.
    pub chain: tacit_ledger::Anvil,
    supervisor: Supervisor,
}

impl Local {
    /// The processes that run now, by name.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        self.supervisor.pids()
    }

    /// Ends a process; the supervisor starts it again, by the configuration file that lies there then. Returns when it runs.
    pub async fn restart(&self, name: &str) -> Result<()> {
        let before = self.pids().get(name).copied().with_context(|| format!("{name} does not run"))?;
        process::ask_to_stop(before);
        wait_until(&format!("{name} to start again"), || self.pids().get(name).is_some_and(|pid| *pid != before)).await
    }
}

/// Starts the network in the folder, or founds one there, and lets `work` use it until that is done or this process is told to
/// end by SIGINT or SIGTERM; then stops everything that was started. Nothing comes back if the work was cut off.
pub async fn during<T>(arguments: &UpArguments, work: impl AsyncFnOnce(&Local) -> Result<T>) -> Result<Option<T>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    std::fs::create_dir_all(&arguments.folder)
        .with_context(|| format!("could not make the folder {}", arguments.folder.display()))?;
    let path = arguments.folder.canonicalize()?;
    let folder = NetworkFolder::at(&path);
    if let Ok(left) = folder.running() {
        end_leftovers(&path, &left).await;
    }
    let layout = Layout::new(&path);
    let mut supervisor = Supervisor::new(&layout.logs())?;
    let started = tokio::select! {
        started = start(arguments, &layout, &folder, &mut supervisor) => started,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("stopped")),
    };
    let (chain, plan) = match started {
        Ok(started) => started,
        Err(error) => {
            supervisor.stop().await;
            folder.clear_running()?;
            return Err(error);
        }
    };
    let local = Local { folder, layout, plan, chain, supervisor };
    let done = tokio::select! {
        done = work(&local) => done.map(Some),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
    };
    let Local { folder, chain, supervisor, .. } = local;
    supervisor.stop().await;
    chain.stop().await;
    folder.clear_running()?;
    done
}

async fn foreground(arguments: &UpArguments) -> Result<()> {
    let ready = ready_file(&arguments.folder);
    remove(&ready)?;
    let watched = during(arguments, async |local| {
        std::fs::write(&ready, b"")?;
        eprintln!("ready: gateway {}", local.plan.url("gateway-1")?);
        watch(local).await
    });
    let watched = watched.await;
    remove(&ready)?;
    watched.map(drop)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context(path.display().to_string()),
        _ => Ok(()),
    }
}

async fn start(
    arguments: &UpArguments,
    layout: &Layout,
    folder: &NetworkFolder,
    supervisor: &mut Supervisor,
) -> Result<(tacit_ledger::Anvil, Plan)> {
    let (plan, is_new) = match layout.read_plan()? {
        Some(plan) => (plan, false),
        None => (founding::plan(arguments, layout, folder)?, true),
    };
    eprintln!("network {} in {}", plan.network, layout.folder().display());
    let chain = chain::start(layout, &plan).await?;
    write_running(folder, layout, &plan, &chain, supervisor)?;

    for name in plan.gatekeeper_names().iter().chain(&plan.worker_names()) {
        supervisor.start(roles::chip(layout, name)?)?;
        let socket = layout.socket(name)?;
        wait_until(&format!("the simulated chip of {name}"), || socket.exists()).await?;
    }
    for name in plan.gatekeeper_names() {
        supervisor.start(roles::gatekeeper(layout, &plan, &name)?)?;
    }
    write_running(folder, layout, &plan, &chain, supervisor)?;
    for name in plan.gatekeeper_names() {
        let address = plan.address(&name)?;
        wait_until(&name, || std::net::TcpStream::connect(address).is_ok()).await?;
    }
    if is_new || !folder.deployment_path().exists() {
        founding::found(layout, &plan, folder, &chain).await?;
    }
    let deployment = folder.deployment()?;
    eprintln!("cluster {}", deployment.cluster_id);
    if !plan.models.is_empty() {
        models::write(layout, &plan, &deployment)?;
    }

    for name in plan.gateway_names() {
        supervisor.start(roles::gateway(layout, &plan, &name)?)?;
    }
    for name in plan.worker_names() {
        supervisor.start(roles::worker(layout, &plan, &name)?)?;
    }
    write_running(folder, layout, &plan, &chain, supervisor)?;
    for name in plan.worker_names().iter().chain(&plan.gateway_names()) {
        wait_ready(&plan, name, &layout.logs()).await?;
    }
    Ok((chain, plan))
}

async fn watch(local: &Local) -> Result<()> {
    let Local { folder, layout, plan, chain, supervisor } = local;
    let mut seen = (supervisor.pids(), chain.pid());
    loop {
        tokio::time::sleep(LOOK).await;
        let now = (supervisor.pids(), chain.pid());
        if now != seen {
            write_running(folder, layout, plan, chain, supervisor)?;
            seen = now;
        }
    }
}

fn write_running(
    folder: &NetworkFolder,
    layout: &Layout,
    plan: &Plan,
    chain: &tacit_ledger::Anvil,
    supervisor: &Supervisor,
) -> Result<()> {
    let pids = supervisor.pids();
    let pid = |name: &str| pids.get(name).copied();
    let gatekeepers = plan.gatekeeper_names().into_iter().enumerate().map(|(index, name)| {
        Ok(RunningGatekeeper { index: index as u32, url: plan.url(&name)?, pid: pid(&name), name })
    });
    let workers = plan.worker_names().into_iter().map(|name| {
        let operator = read_key(&layout.operator_key(&name))?.address();
        Ok(RunningWorker { operator, url: plan.url(&name)?, pid: pid(&name), name })
    });
    let gateways = plan
        .gateway_names()
        .into_iter()
        .map(|name| Ok(RunningGateway { url: plan.url(&name)?, pid: pid(&name), name }));
    folder.write_running(&RunningNetwork {
        version: STATUS_VERSION,
        network: plan.network.clone(),
        supervisor: std::process::id(),
        started: UnixTime(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs()),
        chain: RunningChain { rpc: chain.url().to_owned(), pid: Some(chain.pid()) },
        gateways: gateways.collect::<Result<_>>()?,
        gatekeepers: gatekeepers.collect::<Result<_>>()?,
        workers: workers.collect::<Result<_>>()?,
        chips: pids.iter().filter(|(name, _)| name.starts_with("chip-of-")).map(|(_, pid)| *pid).collect(),
    })
}

async fn wait_ready(plan: &Plan, name: &str, logs: &Path) -> Result<()> {
    let url = format!("{}/readyz", plan.url(name)?);
    let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
    let until = Instant::now() + PATIENCE;
    while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
        if Instant::now() > until {
            bail!(
                "{name} was not ready after {} s; see {}",
                PATIENCE.as_secs(),
                logs.join(format!("{name}.log")).display()
            );
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > until {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
