//! The network that the tests run in. Everything is the real thing but the hardware.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use tacit_api::{
    Problem,
    gatekeeper::{GatekeeperStatus, STATUS},
};
use tacit_attest::{Policy, Preset};
use tacit_client::{Answer, CallRequest, Candidate, Client, ClientError, Entry, Package};
use tacit_gatekeeper::{
    Clock, Config, Gatekeeper, GatekeeperClient,
    ceremony::{self, Template},
};
use tacit_gateway::Gateway;
use tacit_ledger::{
    ClusterParameters, Ledger, Writer,
    anvil::{Anvil, AnvilConfig, AnvilSearch},
    code_hashes, deploy_all, predict_addresses,
};
use tacit_platform::{Driver, GuestSocket};
use tacit_simulator::{Machine as Chip, Root, RunningSimulator, Simulator, measure_executable};
use tacit_types::{
    FunctionId, UnixTime,
    deployment::{Deployment, DeploymentChain, Finality, NamedFinality, VERSION},
    manifest::Manifest,
    signature::SigningKey,
};
use tacit_verify::Judge;
use tacit_worker::{Machine, Worker, WorkerConfig, WorkerLimits};

const FINALIZED: Finality = Finality::Named(NamedFinality::Finalized);
const CHAIN: u64 = 31_337;
const ETHER: u128 = 1_000_000_000_000_000_000;
const GATEKEEPERS: usize = 4;
const WORKERS: usize = 2;
/// Seconds that a function waits for another worker when its worker dies.
const LEASE: u64 = 5;
/// A lease that does not lapse on a machine that is too busy to renew it for a while. A worker that is stopped gives it back.
pub const LONG_LEASE: u64 = 30;

/// What the tests call.
pub const MODULE: &str = r#"
import { state, secrets, request } from "tacit";
export async function add({ amount }) {
  const total = ((await state.get("total")) ?? 0) + amount;
  await state.set("total", total);
  return { total };
}
export async function addLater({ amount, milliseconds }) {
  const total = ((await state.get("total")) ?? 0) + amount;
  await new Promise((done) => setTimeout(done, milliseconds));
  await state.set("total", total);
  return { total };
}
export async function total() { return { total: (await state.get("total")) ?? 0 }; }
export async function writes() { await state.set("total", 0); return null; }
export async function fail() { await state.set("total", -1); throw new TypeError("as asked"); }
export async function spin() { for (;;) {} }
export async function hoard() { const kept = []; for (;;) kept.push(new Uint8Array(1 << 20)); }
export async function recurse() { const down = (n) => 1 + down(n + 1); return down(0); }
export async function length(input) { return JSON.stringify(input).length; }
export async function secret() { return { key: (await secrets.get("API_KEY")) ?? null }; }
export async function who() { return { caller: request.caller ?? null }; }
export async function answer(input) { await state.set("answered", ((await state.get("answered")) ?? 0) + 1); return { doubled: input.x * 2 }; }
export async function answered() { return (await state.get("answered")) ?? 0; }
"#;

/// The manifest of [`MODULE`] under a name, with further tables.
pub fn manifest(name: &str, more: &str) -> Manifest {
    let text = format!(
        r#"
        [function]
        name = "{name}"
        entry = "index.js"
        [[method]]
        name = "total"
        kind = "query"
        [[method]]
        name = "answered"
        kind = "query"
        [[method]]
        name = "writes"
        kind = "query"
        [[method]]
        name = "secret"
        kind = "query"
        [[method]]
        name = "who"
        kind = "query"
        [limits]
        fuel = "200M"
        timeout = "60s"
        [secrets]
        names = ["API_KEY"]
        [trust]
        policy = "dev"
        {more}
        "#
    );
    Manifest::from_toml(&text).unwrap()
}

pub fn now() -> UnixTime {
    Clock::system().now()
}

pub struct Network {
    pub folder: tempfile::TempDir,
    machines: Vec<RunningSimulator>,
    pub anvil: Option<Anvil>,
    pub owner: Writer,
    owner_key: SigningKey,
    pub gatekeepers: Vec<Option<Gatekeeper>>,
    pub deployment: Deployment,
    stop_gateway: tokio::sync::watch::Sender<bool>,
}

impl Network {
    pub async fn start() -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // The first test of the process installs it.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let folder = tempfile::tempdir().unwrap();
        let root_folder = folder.path().join("root");
        let root = Root::create(&root_folder, "test", now()).unwrap();
        let measurement = measure_executable(&std::env::current_exe().unwrap(), &[]).unwrap();
        let policy = Policy::preset(Preset::Dev)
            .with_name("test")
            .with_root(root.policy_entry("simulated").unwrap())
            .with_image("gatekeeper", &[measurement])
            .with_image("worker", &[measurement]);
        let machines: Vec<RunningSimulator> = (0..GATEKEEPERS + WORKERS)
            .map(|index| {
                let name = format!("m{index}");
                let root = Root::open(&root_folder).unwrap();
                let chip = Chip::open(&folder.path().join(&name), root, &name, &[], now()).unwrap();
                Simulator::start(chip, &folder.path().join(format!("{name}.sock"))).unwrap()
            })
            .collect();
        let anvil = start_anvil(folder.path().join("chain")).await;
        let owner_key = SigningKey::from_bytes(&[0x11; 32]).unwrap();
        anvil.fund(owner_key.address(), 1_000 * ETHER).await.unwrap();
        for worker in 0..WORKERS {
            anvil.fund(operator(worker).address(), 1_000 * ETHER).await.unwrap();
        }
        let mut gatekeepers = Vec::new();
        for index in 0..GATEKEEPERS {
            gatekeepers.push(Some(start_gatekeeper(folder.path(), &machines, index, "127.0.0.1:0").await));
        }
        let urls: Vec<String> = gatekeepers.iter().flatten().map(Gatekeeper::url).collect();
        let addresses = predict_addresses(owner_key.address(), 0);
        let template = Template {
            network: "test-sim".into(),
            chain_id: CHAIN,
            contracts: addresses.to_map(),
            code_hashes: code_hashes(),
            rpcs: vec![anvil.url().into()],
            policy,
            roots: vec![Root::open(&root_folder).unwrap().id()],
            threshold: 2,
            time: now(),
        };
        let founded = ceremony::run(&urls, template).await.unwrap();
        let ledger = Ledger::connect(anvil.url(), addresses, FINALIZED).unwrap();
        let owner = ledger.writer(&owner_key).unwrap();
        let parameters = ClusterParameters {
            cluster: founded.cluster,
            gatekeepers: founded.genesis.gatekeeper_set(),
            valid_until: now().plus(30 * 86_400),
            governor: owner.address(),
            guardian: owner.address(),
            timelock: 0,
            policy: founded.genesis.policy,
            policy_uri: String::new(),
            measurements: vec![measurement],
        };
        assert_eq!(deploy_all(&owner, &parameters).await.unwrap(), addresses);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway_address = listener.local_addr().unwrap();
        drop(listener);
        let deployment = Deployment {
            version: VERSION,
            cluster_id: founded.cluster,
            genesis: founded.genesis,
            chain: DeploymentChain { rpc: anvil.url().into(), finality: FINALIZED },
            gatekeepers: founded.gatekeepers,
            policy: founded.policy,
            gateways: vec![format!("http://{gateway_address}")],
        };
        let file = folder.path().join("deployment.json");
        std::fs::write(&file, serde_json::to_vec(&deployment).unwrap()).unwrap();
        let gateway: tacit_gateway::Config = toml::from_str(&format!(
            "listen = '{gateway_address}'\ndeployment = '{}'\ndata = '{}'\nprobe_milliseconds = 200\n",
            file.display(),
            folder.path().join("gateway").display()
        ))
        .unwrap();
        let gateway = Gateway::start(&gateway).await.unwrap();
        let (stop_gateway, mut stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(gateway.serve(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        let network =
            Self { folder, machines, anvil: Some(anvil), owner, owner_key, gatekeepers, deployment, stop_gateway };
        network.gatekeepers_follow().await;
        network
    }

    /// Waits until every gatekeeper that runs has seen the newest final block.
    pub async fn gatekeepers_follow(&self) {
        let block = self.owner.ledger().finalized().await.unwrap().number;
        for gatekeeper in self.gatekeepers.iter().flatten() {
            let client = GatekeeperClient::new(gatekeeper.url()).unwrap();
            eventually("a gatekeeper follows the chain", async || {
                let status: GatekeeperStatus = client.get(STATUS).await.ok()?;
                status.chain.filter(|chain| chain.block >= block).map(drop)
            })
            .await;
        }
    }

    pub fn config(&self, index: usize) -> WorkerConfig {
        let key = self.folder.path().join(format!("operator-{index}.key"));
        std::fs::write(&key, format!("0x{}\n", hex::encode(operator(index).to_secret_bytes().as_slice()))).unwrap();
        WorkerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            endpoint: None,
            folder: self.folder.path().join(format!("worker-{index}")),
            store: self.folder.path().join("store"),
            deployment: self.folder.path().join("deployment.json"),
            operator_key: key,
            machine: Machine::GuestAgent { socket: self.machines[GATEKEEPERS + index].socket().to_owned() },
            collateral: None,
            gpus: None,
            ai: None,
            gateways: Vec::new(),
            limits: WorkerLimits { lease_seconds: LEASE, sandboxes: 8, ..WorkerLimits::default() },
        }
    }

    /// A worker that is certified and that the chain knows.
    pub async fn worker(&self, index: usize) -> Worker {
        self.worker_with(self.config(index)).await
    }

    /// The same for tests in which it must keep what it holds.
    pub async fn steady_worker(&self, index: usize) -> Worker {
        let mut config = self.config(index);
        config.limits.lease_seconds = LONG_LEASE;
        self.worker_with(config).await
    }

    pub async fn worker_with(&self, config: WorkerConfig) -> Worker {
        let worker = Worker::start(config).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), worker.certified()).await.expect("admitted");
        worker
    }

    /// URL of the gateway.
    pub fn gateway(&self) -> &str {
        &self.deployment.gateways[0]
    }

    /// A client without a name, through the gateway.
    pub fn client(&self) -> Client {
        Client::new(self.deployment.clone(), Judge::Preset(Preset::Dev)).unwrap()
    }

    /// The owner's client.
    pub fn owner_client(&self) -> Client {
        self.client().with_caller(self.owner_key.clone())
    }

    /// Deploys [`MODULE`].
    pub async fn deploy(&self, name: &str, more: &str) -> FunctionId {
        self.deploy_package(manifest(name, more), MODULE).await
    }

    /// Deploys a module of a test's own.
    pub async fn deploy_package(&self, manifest: Manifest, module: &'static str) -> FunctionId {
        let package = Package::new(manifest, module.into(), None).unwrap();
        let deployed = self.owner_client().deploy(&package, |_| {}).await.unwrap();
        self.gatekeepers_follow().await;
        deployed.function
    }

    pub async fn stop_gatekeeper(&mut self, index: usize) -> std::net::SocketAddr {
        let gatekeeper = self.gatekeepers[index].take().unwrap();
        let address = gatekeeper.address();
        gatekeeper.stop().await;
        address
    }

    pub async fn restart_gatekeeper(&mut self, index: usize, address: std::net::SocketAddr) {
        let started = start_gatekeeper(self.folder.path(), &self.machines, index, &address.to_string()).await;
        self.gatekeepers[index] = Some(started);
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.stop_gateway.send(true);
    }
}

async fn start_gatekeeper(folder: &Path, machines: &[RunningSimulator], index: usize, listen: &str) -> Gatekeeper {
    let socket = machines[index].socket().to_owned();
    let config = Config {
        version: 1,
        listen: listen.parse().unwrap(),
        data: folder.join(format!("gatekeeper-{index}")),
        guest_agent: socket.clone(),
        collateral: None,
        finality: FINALIZED,
    };
    Gatekeeper::start(config, Driver::GuestSocket(GuestSocket::new(socket)), Clock::system()).await.unwrap()
}

async fn start_anvil(directory: PathBuf) -> Anvil {
    let checkout = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    let search = AnvilSearch { checkout, ..AnvilSearch::from_environment() };
    let binary = search.find().expect("run `make bootstrap`, or `npm ci` in contracts/");
    Anvil::start(AnvilConfig { binary, directory, port: None, chain_id: CHAIN }).await.unwrap()
}

pub fn operator(worker: usize) -> SigningKey {
    SigningKey::from_bytes(&[0x21 + worker as u8; 32]).unwrap()
}

/// Sends bytes on a connection of their own and gives back what comes until it is closed.
pub async fn raw(address: std::net::SocketAddr, request: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Tries until there is something, at most for a minute.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A call that has an answer, whatever its outcome.
pub async fn call(client: &Client, function: FunctionId, method: &str, body: Value) -> Answer {
    let request = CallRequest::new(function, method, body.to_string());
    client.call(&request).await.unwrap_or_else(|error| panic!("{method}: {error} {error:?}"))
}

/// The JSON of a call's response.
pub async fn json(client: &Client, function: FunctionId, method: &str, body: Value) -> Value {
    serde_json::from_slice(call(client, function, method, body).await.response()).unwrap()
}

/// A worker as the gateway tells of it.
pub async fn candidate(client: &Client, worker: &Worker, function: FunctionId) -> Candidate {
    eventually("the worker is known", async || {
        let workers = client.fetch_workers(function).await.ok()?;
        workers.iter().find(|candidate| candidate.address() == worker.account()).cloned()
    })
    .await
}

/// Straight to one worker, once, whatever it says. A client asks others too, goes on until its deadline, and what it hears
/// last then depends on how busy the machine is.
pub async fn ask_once(client: &Client, candidate: &Candidate, request: &CallRequest) -> Result<Answer, Problem> {
    let entry = Entry::worker(&candidate.endpoint);
    let prepared = client.prepare(request, candidate.clone(), now().plus(60)).unwrap();
    let sealed = client.send(request.function, &prepared, &entry, Duration::from_secs(60)).await.map_err(problem)?;
    prepared.open(&sealed).and_then(|opened| client.verify_answer(request, opened)).map_err(problem)
}

/// The problem that a call ends with, the last one if it was tried more than once.
pub fn problem(error: ClientError) -> Problem {
    match error {
        ClientError::Sealed(problem) | ClientError::Unsealed { problem, .. } => problem,
        ClientError::Deadline(Some(cause)) => problem(*cause),
        other => panic!("{other:?}"),
    }
}
