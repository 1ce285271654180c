//! A chain with the contracts of a cluster, two gateways, and stand-ins for workers that the registry knows.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tacit_api::{BlobUri, Problem, WorkerIdentity};
use tacit_gateway::{Config, Gateway};
use tacit_ledger::{
    ClusterParameters, Ledger, NewVersion, Writer,
    anvil::{Anvil, AnvilConfig, AnvilSearch},
    deploy_all, predict_addresses,
};
use tacit_types::{
    Address, ChipId, ClusterId, Digest, FunctionId, ManifestHash, Measurement, PolicyHash, RootId, UnixTime,
    deployment::{
        Deployment, DeploymentChain, DeploymentGatekeeper, Finality, Genesis, GenesisGatekeeper, NamedFinality,
    },
    eip712::{Certificate, EndpointClaim, Platform},
    keyset::{Keyset, PublicKey, SECP256K1_EIP712},
    quorum::IndexedSignature,
    signature::SigningKey,
};
use tokio::{sync::oneshot, task::JoinHandle};

const CHAIN: u64 = 31_337;
const FINALIZED: Finality = Finality::Named(NamedFinality::Finalized);
pub const ROOT: [u8; 32] = [0xaa; 32];

pub struct Cluster {
    pub anvil: Anvil,
    pub folder: tempfile::TempDir,
    pub deployment: Deployment,
    pub owner: Writer,
    gatekeepers: Vec<SigningKey>,
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32]).unwrap()
}

fn keyset(key: &SigningKey) -> Keyset {
    Keyset {
        subject: None,
        not_after: UnixTime(4_000_000_000),
        receipt_signing_keys: vec![PublicKey {
            key_id: "receipt".into(),
            algo: SECP256K1_EIP712.into(),
            public_key: key.public_key().iter().map(|byte| format!("{byte:02x}")).collect(),
        }],
        e2ee_public_keys: vec![],
        tls_public_keys: vec![],
    }
}

impl Cluster {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binary = AnvilSearch::from_environment().find().expect("run `make bootstrap`, or `npm ci` in contracts/");
        let config = AnvilConfig { binary, directory: folder.path().join("chain"), port: None, chain_id: CHAIN };
        let anvil = Anvil::start(config).await.unwrap();
        let owner = key(0x11);
        anvil.fund(owner.address(), u128::MAX / 4).await.unwrap();
        let addresses = predict_addresses(owner.address(), 0);
        let gatekeepers: Vec<SigningKey> = (0x31..=0x34).map(key).collect();
        let ledger = Ledger::connect(anvil.url(), addresses, FINALIZED).unwrap();
        let now = ledger.latest().await.unwrap().time;
        let genesis = Genesis {
            version: 1,
            network: "test-sim".into(),
            chain_id: CHAIN,
            contracts: addresses.to_map(),
            code_hashes: tacit_ledger::code_hashes(),
            rpcs: vec![anvil.url().into()],
            policy: PolicyHash::from([0x50; 32]),
            roots: vec![RootId::from(ROOT)],
            simulated: true,
            threshold: 2,
            gatekeepers: gatekeepers
                .iter()
                .map(|key| GenesisGatekeeper { address: key.address(), keyset: keyset(key).digest().unwrap() })
                .collect(),
            time: now,
        };
        let cluster_id = genesis.cluster_id().unwrap();
        let parameters = ClusterParameters {
            cluster: cluster_id,
            gatekeepers: genesis.gatekeeper_set(),
            valid_until: now.plus(30 * 86_400),
            governor: owner.address(),
            guardian: owner.address(),
            timelock: 0,
            policy: genesis.policy,
            policy_uri: "policy.json".into(),
            measurements: vec![Measurement::from([0x3e; 32])],
        };
        let owner = ledger.writer(&owner).unwrap();
        assert_eq!(deploy_all(&owner, &parameters).await.unwrap(), addresses);
        let deployment = Deployment {
            version: 1,
            cluster_id,
            chain: DeploymentChain { rpc: anvil.url().into(), finality: FINALIZED },
            gatekeepers: gatekeepers
                .iter()
                .map(|key| DeploymentGatekeeper {
                    keyset: keyset(key),
                    transcript: Digest::ZERO,
                    evidence: serde_json::Value::Null,
                    collateral: serde_json::Value::Null,
                    url: "http://127.0.0.1:9".into(),
                })
                .collect(),
            genesis,
            policy: serde_json::Value::Null,
            gateways: vec![],
        };
        let cluster = Self { anvil, folder, deployment, owner, gatekeepers };
        std::fs::write(cluster.deployment_path(), serde_json::to_vec(&cluster.deployment).unwrap()).unwrap();
        cluster
    }

    pub fn id(&self) -> ClusterId {
        self.deployment.cluster_id
    }

    pub fn deployment_path(&self) -> PathBuf {
        self.folder.path().join("deployment.json")
    }

    pub fn config(&self, name: &str) -> Config {
        toml::from_str(&format!(
            "listen = '127.0.0.1:0'\ndeployment = '{}'\ndata = '{}'\nprobe_milliseconds = 50\n",
            self.deployment_path().display(),
            self.folder.path().join(name).display()
        ))
        .unwrap()
    }

    pub async fn register(&self, name: &str) -> FunctionId {
        let uri = BlobUri { module: Digest::ZERO, manifest: Digest::ZERO, map: None }.to_string();
        let version = NewVersion { module_hash: Digest::ZERO, manifest_hash: ManifestHash::ZERO, uri };
        self.owner.register_function(name, &version, 0).await.unwrap().0
    }

    /// Certifies a worker with the given key at `endpoint` and publishes it.
    pub async fn certify(&self, key: &SigningKey, endpoint: &str) -> WorkerIdentity {
        let (keyset, operator) = (keyset(key), self::key(0x22));
        let now = self.owner.ledger().latest().await.unwrap().time;
        let certificate = Certificate {
            worker: key.address(),
            keyset: keyset.digest().unwrap(),
            platform: Platform::Tdx,
            measurement: Measurement::from([0x3e; 32]),
            chip: ChipId::from([0xc4; 32]),
            confidence: 1,
            root: RootId::from(ROOT),
            policy: PolicyHash::from([0x50; 32]),
            simulated: true,
            operator: operator.address(),
            collateral_time: now.minus(60),
            not_before: now.minus(10),
            not_after: now.plus(86_400),
            epoch: 1,
        };
        let digest = Digest::from(certificate.id(self.id()).into_bytes());
        let signatures: Vec<IndexedSignature> = [0u32, 1]
            .iter()
            .map(|index| IndexedSignature { index: *index, signature: self.gatekeepers[*index as usize].sign(digest) })
            .collect();
        let claim = EndpointClaim {
            worker: key.address(),
            keyset: certificate.keyset,
            endpoint: endpoint.into(),
            not_before: certificate.not_before,
        };
        let signed = operator.sign(claim.digest(self.id()));
        self.owner.publish_certificate(&certificate, &signatures, Some((endpoint, &signed))).await.unwrap();
        WorkerIdentity {
            version: 1,
            certificate,
            signatures,
            keyset,
            nonce: None,
            evidence: serde_json::Value::Null,
            collateral: serde_json::Value::Null,
            endpoint: endpoint.into(),
        }
    }
}

/// A gateway that runs until it is dropped.
pub struct Running {
    pub url: String,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn start(config: &Config) -> Self {
        let gateway = Gateway::start(config).await.unwrap();
        let address = gateway.address();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(gateway.serve(async {
            let _ = stopped.await;
        }));
        Self { url: format!("http://{address}"), address, stop: Some(stop), task }
    }

    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.task).await.unwrap();
    }
}

/// What a stand-in for a worker answers with.
#[derive(Clone)]
pub enum Answers {
    /// The bytes that it got, reversed, as a sealed answer.
    Sealed,
    /// A problem.
    Problem(Problem),
    /// More bytes than any answer may have.
    Endless,
}

/// A stand-in for a worker: it has an identity document and answers calls without understanding them.
#[derive(Clone)]
pub struct Worker {
    pub key: SigningKey,
    identity: Arc<Mutex<Option<WorkerIdentity>>>,
    answers: Arc<Mutex<Answers>>,
    pub seen: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    stop: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Worker {
    pub async fn start(byte: u8, cluster: &Cluster) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let worker = Self {
            key: key(byte),
            identity: Arc::default(),
            answers: Arc::new(Mutex::new(Answers::Sealed)),
            seen: Arc::default(),
            stop: Arc::default(),
        };
        let router = Router::new()
            .route("/v1/identity", get(identity))
            .route("/f/{id}", post(call))
            .route("/f/{id}/{method}", post(call))
            .route("/v1/receipts/{call}", get(|| async { "{\"receipt\":true}" }))
            .route("/log/{worker}/checkpoint", get(|| async { "a checkpoint\n" }))
            .route("/log/{worker}/tile/{*path}", get(|| async { [7u8; 32].to_vec() }))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(worker.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        *worker.stop.lock().unwrap() = Some(task);
        let identity = cluster.certify(&worker.key, &url).await;
        *worker.identity.lock().unwrap() = Some(identity);
        worker
    }

    pub fn address(&self) -> Address {
        self.key.address()
    }

    pub fn answer(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }

    pub fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Ends it: its port accepts no connection any more.
    pub async fn kill(&self) {
        let task = self.stop.lock().unwrap().take().unwrap();
        task.abort();
        let _ = task.await;
    }
}

async fn identity(State(worker): State<Worker>) -> Response {
    match worker.identity.lock().unwrap().clone() {
        Some(identity) => axum::Json(identity).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn call(State(worker): State<Worker>, headers: HeaderMap, body: Bytes) -> Response {
    worker.seen.lock().unwrap().push((headers, body.clone()));
    let answers = worker.answers.lock().unwrap().clone();
    match answers {
        Answers::Sealed => {
            let reversed: Vec<u8> = body.iter().rev().copied().collect();
            ([("content-type", "message/ohttp-res"), ("set-cookie", "a=b"), ("tacit-call-id", "0x00")], reversed)
                .into_response()
        }
        Answers::Problem(problem) => problem.into_response(),
        Answers::Endless => {
            let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 65_536])));
            axum::body::Body::from_stream(endless).into_response()
        }
    }
}

/// Waits until a condition holds, at most ten seconds.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < end, "{what} did not happen in 10 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a gateway names so many workers for a function.
pub async fn sees_workers(gateway: &Running, function: FunctionId, count: usize) {
    until(&format!("{count} workers"), || async {
        let answer = reqwest::get(format!("{}/f/{function}", gateway.url)).await.unwrap();
        if !answer.status().is_success() {
            return count == 0;
        }
        answer.json::<tacit_api::FunctionAnswer>().await.unwrap().workers.len() == count
    })
    .await;
}

/// The problem in an answer, with its status checked.
pub async fn problem(answer: reqwest::Response) -> Problem {
    let status = answer.status().as_u16();
    let media_type = answer.headers()["content-type"].clone();
    let bytes = answer.bytes().await.unwrap();
    let problem = Problem::from_json(&bytes).unwrap_or_else(|error| panic!("{status} {error}: {bytes:?}"));
    assert_eq!(problem.kind.status(), status);
    assert_eq!(media_type, "application/problem+json");
    problem
}

pub fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
