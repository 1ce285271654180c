//! A cluster with one worker, and gateways that can be told to be silent.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use tacit_api::{FunctionAnswer, FunctionRecord, Problem, WorkerIdentity, calls, headers};
use tacit_attest::{Policy, Preset};
use tacit_client::Client;
use tacit_envelope::{Kem, KeyPair, Limits, Request, Response as Inner};
use tacit_receipt::{
    Bundle, Log, LogProof, Opening, Openings, SignedCertificate, TileStore, VERSION, effects_root, log_origin,
};
use tacit_simulator::{Machine, Root};
use tacit_types::{
    Address, ClusterId, CodeHash, Digest, FunctionId, Head, ManifestHash, UnixTime,
    deployment::{
        Deployment, DeploymentChain, DeploymentGatekeeper, Finality, Genesis, GenesisGatekeeper, NamedFinality,
        genesis_report_data,
    },
    eip712::{Certificate, Kind, Outcome, Platform, Receipt},
    formats::{Tag, call_id, commit, sha256},
    keyset::{ED25519, Keyset, OHTTP, PublicKey, SECP256K1_EIP712, report_data},
    quorum::IndexedSignature,
    signature::{NoteKey, SigningKey},
};
use tacit_verify::Judge;
use tokio::sync::{OnceCell, watch};

const EXECUTABLE: [u8; 48] = [0x99; 48];

pub fn function() -> FunctionId {
    FunctionId::from([7; 32])
}

fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
}

/// The secret keys of a gatekeeper or worker.
struct Member {
    chain: SigningKey,
    note: NoteKey,
    seal: KeyPair,
    keyset: Keyset,
}

impl Member {
    fn new(subject: &str, seed: u8) -> Self {
        let (chain, note) = (SigningKey::from_bytes(&[seed; 32]).unwrap(), NoteKey::from_bytes(&[seed; 32]));
        let seal = KeyPair::generate(&mut rand::rng(), 1, Kem::XWing);
        let key = |id: &str, algorithm: &str, bytes: &[u8]| PublicKey {
            key_id: id.into(),
            algo: algorithm.into(),
            public_key: hex::encode(bytes),
        };
        let keyset = Keyset {
            subject: Some(subject.into()),
            not_after: now().plus(86_400 * 30),
            receipt_signing_keys: vec![
                key("log", ED25519, &note.public_key()),
                key("receipt", SECP256K1_EIP712, &chain.public_key()),
            ],
            e2ee_public_keys: vec![key("seal", OHTTP, &seal.config().encode())],
            tls_public_keys: vec![],
        };
        Self { chain, note, seal, keyset }
    }
}

/// The worker: runs nothing, but takes its time, once per idempotency key, and answers every seal with a receipt.
pub struct Worker {
    member: Member,
    cluster: ClusterId,
    identity: WorkerIdentity,
    runs: Mutex<HashMap<String, Arc<OnceCell<()>>>>,
    /// How long a run takes.
    pub takes: Mutex<Duration>,
    /// What a seal is refused with: those after the first of one call, or all.
    pub refuses_later: Mutex<Option<Problem>>,
    pub refuses: Mutex<Option<Problem>>,
    /// Seals opened.
    pub asked: AtomicUsize,
    /// Runs begun.
    pub ran: AtomicUsize,
}

impl Worker {
    async fn answer(self: Arc<Self>, sealed: &[u8]) -> Vec<u8> {
        let (plain, sealer) = self.member.seal.open_request(sealed).unwrap();
        let request = Request::decode(&plain, &Limits::default()).unwrap();
        let key = request.headers.value(headers::IDEMPOTENCY_KEY).unwrap().to_owned();
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut first = false;
        let run = Arc::clone(self.runs.lock().unwrap().entry(key.clone()).or_insert_with(|| {
            first = true;
            Arc::default()
        }));
        let refusal = self.refuses.lock().unwrap().clone();
        let refusal = refusal.or_else(|| self.refuses_later.lock().unwrap().clone().filter(|_| !first));
        let inner = match refusal {
            Some(problem) => Inner::new(problem.kind.status())
                .header("content-type", headers::PROBLEM_MEDIA_TYPE)
                .body(problem.to_json()),
            None => {
                let this = Arc::clone(&self);
                // On a task of its own: whoever asked may go away.
                let run = async move { run.get_or_init(|| this.run()).await.to_owned() };
                tokio::spawn(run).await.unwrap();
                self.settled(&request, &key)
            }
        };
        sealer.seal(&mut rand::rng(), &inner.encode().unwrap()).unwrap()
    }

    async fn run(&self) {
        self.ran.fetch_add(1, Ordering::SeqCst);
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
    }

    /// A stale query's answer: it needs no quorum.
    fn settled(&self, request: &Request, key: &str) -> Inner {
        let (function, method) = calls::parse_inner_path(&request.path).unwrap();
        let response = br#"{"done":true}"#.to_vec();
        let opening = |bytes: &[u8]| Some(Opening { salt: [5; 32].into(), bytes: bytes.to_vec() });
        let openings = Openings {
            method: opening(method.as_bytes()),
            caller: opening(b""),
            request: opening(&request.body),
            response: opening(&response),
        };
        let salted = |tag, opening: &Option<Opening>| {
            opening.as_ref().map_or(Digest::ZERO, |opening| commit(tag, opening.salt, &opening.bytes))
        };
        let certificate = self.identity.certificate.clone();
        let receipt = Receipt {
            function_id: function,
            code_hash: CodeHash::from([3; 32]),
            certificate: certificate.id(self.cluster),
            call_id: call_id(function, None, key),
            kind: Kind::StaleQuery,
            outcome: Outcome::Ok,
            method: salted(Tag::Method, &openings.method),
            caller: salted(Tag::Caller, &openings.caller),
            request: salted(Tag::Request, &openings.request),
            response: salted(Tag::Response, &openings.response),
            sequence: 1,
            head_before: Head::from([1; 32]),
            head_after: Head::from([1; 32]),
            fence: 1,
            effects: effects_root(&[]),
            usage: Digest::ZERO,
            fuel: 1,
            time: now(),
            epoch: 1,
        };
        let digest = receipt.digest(self.cluster);
        let (mut log, mut store) = (Log::new(), TileStore::default());
        log.append(digest);
        let publication = log.publish();
        store.write(&publication.tiles);
        let checkpoint = publication.checkpoint(log_origin(self.cluster, certificate.worker));
        let bundle = Bundle {
            version: VERSION,
            cluster: self.cluster,
            signature: self.member.chain.sign(digest),
            receipt,
            certificate: SignedCertificate {
                certificate,
                keyset: self.member.keyset.clone(),
                signatures: self.identity.signatures.clone(),
            },
            openings,
            effects: vec![],
            code: None,
            acknowledgement: None,
            confirmation: None,
            log: Some(LogProof {
                index: 0,
                path: log.inclusion_proof(0, &mut store.reader()).unwrap(),
                checkpoint: checkpoint.sign(&self.member.note),
            }),
            evidence: None,
        };
        Inner::new(200)
            .header("content-type", "application/json")
            .body(response)
            .trailer(headers::BUNDLE, BASE64_URL_SAFE_NO_PAD.encode(bundle.encode().unwrap()))
    }
}

/// A way to the worker that can be told to be silent; what it took while it was silent it passes on afterwards.
pub struct Gateway {
    pub address: SocketAddr,
    worker: Arc<Worker>,
    silent: watch::Sender<bool>,
    requests: AtomicUsize,
}

impl Gateway {
    async fn start(worker: Arc<Worker>) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silent, requests) = (watch::Sender::new(false), AtomicUsize::new(0));
        let gateway = Arc::new(Self { address, worker, silent, requests });
        let router = Router::new().route("/f/{id}", get(Self::workers).post(Self::call)).with_state(gateway.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        gateway
    }

    pub fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    /// Requests that arrived, answered or not.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    async fn wait(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.silent.subscribe().wait_for(|silent| !silent).await.unwrap();
    }

    async fn workers(State(gateway): State<Arc<Self>>, Path(id): Path<String>) -> Json<FunctionAnswer> {
        gateway.wait().await;
        let record = FunctionRecord {
            id: id.parse().unwrap(),
            owner: Address::ZERO,
            name: "slow".into(),
            versions: 1,
            code_hash: CodeHash::ZERO,
            manifest_hash: ManifestHash::ZERO,
            uri: String::new(),
            activation: UnixTime(0),
            key_epoch: 1,
            frozen: false,
            upgrade_delay: 0,
            secrets_digest: Digest::ZERO,
            secrets_version: 0,
        };
        Json(FunctionAnswer { version: 1, function: record, workers: vec![gateway.worker.identity.clone()] })
    }

    async fn call(State(gateway): State<Arc<Self>>, body: Bytes) -> Response {
        gateway.wait().await;
        let sealed = Arc::clone(&gateway.worker).answer(&body).await;
        ([(CONTENT_TYPE, headers::SEALED_RESPONSE)], sealed).into_response()
    }
}

/// The cluster.
pub struct Network {
    deployment: Deployment,
    pub worker: Arc<Worker>,
    pub gateways: Vec<Arc<Gateway>>,
    _folder: tempfile::TempDir,
}

impl Network {
    /// Four gatekeepers, of which two certify the worker, and two gateways.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = now();
        let root = Root::create(&folder.path().join("root"), "client-sim", time).unwrap();
        let machine = |name: &str| {
            let root = Root::open(&folder.path().join("root")).unwrap();
            Machine::open(&folder.path().join(name), root, name, &[], time).unwrap()
        };
        let value = |json: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&json).unwrap();
        let chip = machine("worker");
        let measurement = chip.registers(EXECUTABLE).measurement();
        let policy = Policy::preset(Preset::Dev)
            .with_name("test")
            .with_root(root.policy_entry("SIMULATED client-sim").unwrap())
            .with_image("tacit", &[measurement]);
        let gatekeepers: Vec<Member> = (0..4).map(|index| Member::new("gatekeeper", 0x10 + index)).collect();
        let genesis = Genesis {
            version: 1,
            network: "client-sim".into(),
            chain_id: 31_337,
            contracts: [("FunctionRegistry".to_owned(), Address::from([1; 20]))].into(),
            code_hashes: [("FunctionRegistry".to_owned(), Digest::ZERO)].into(),
            rpcs: vec!["http://127.0.0.1:1".into()],
            policy: policy.hash().unwrap(),
            roots: vec![root.id()],
            simulated: true,
            threshold: 2,
            gatekeepers: gatekeepers
                .iter()
                .map(|member| GenesisGatekeeper {
                    address: member.chain.address(),
                    keyset: member.keyset.digest().unwrap(),
                })
                .collect(),
            time,
        };
        let (cluster, transcript) = (genesis.cluster_id().unwrap(), sha256(b"transcript"));
        let members = gatekeepers.iter().enumerate().map(|(index, gatekeeper)| {
            let machine = machine(&format!("gatekeeper-{index}"));
            let statement = genesis_report_data(cluster, transcript, gatekeeper.keyset.digest().unwrap());
            DeploymentGatekeeper {
                transcript,
                evidence: value(machine.quote(EXECUTABLE, &statement).unwrap().to_json()),
                collateral: value(machine.collateral(time).unwrap().to_json()),
                url: format!("http://127.0.0.1:{}", 2 + index),
                keyset: gatekeeper.keyset.clone(),
            }
        });
        let deployment = Deployment {
            version: 1,
            cluster_id: cluster,
            chain: DeploymentChain {
                rpc: "http://127.0.0.1:1".into(),
                finality: Finality::Named(NamedFinality::Finalized),
            },
            gatekeepers: members.collect(),
            policy: serde_json::to_value(&policy).unwrap(),
            gateways: Vec::new(),
            genesis,
        };
        let member = Member::new("worker", 0x40);
        let nonce = sha256(b"nonce");
        let evidence = chip.quote(EXECUTABLE, &report_data(member.keyset.digest().unwrap(), Some(nonce))).unwrap();
        let collateral = chip.collateral(time).unwrap();
        let found = tacit_attest::verify(&evidence, &collateral, &policy, time).unwrap();
        let certificate = Certificate {
            worker: member.chain.address(),
            keyset: member.keyset.digest().unwrap(),
            platform: Platform::Tdx,
            measurement: found.measurement(),
            chip: found.chip(),
            confidence: 1,
            root: root.id(),
            policy: deployment.genesis.policy,
            simulated: true,
            operator: Address::ZERO,
            collateral_time: found.collateral_time(),
            not_before: time,
            not_after: time.plus(3_600),
            epoch: 1,
        };
        let digest = certificate.id(cluster).into_bytes().into();
        let sign = |index: u32| IndexedSignature { index, signature: gatekeepers[index as usize].chain.sign(digest) };
        let identity = WorkerIdentity {
            version: 1,
            certificate,
            signatures: vec![sign(0), sign(2)],
            keyset: member.keyset.clone(),
            nonce: Some(nonce),
            evidence: value(evidence.to_json()),
            collateral: value(collateral.to_json()),
            endpoint: "http://127.0.0.1:9".into(),
        };
        let worker = Arc::new(Worker {
            member,
            cluster,
            identity,
            runs: Mutex::default(),
            takes: Mutex::default(),
            refuses_later: Mutex::default(),
            refuses: Mutex::default(),
            asked: AtomicUsize::new(0),
            ran: AtomicUsize::new(0),
        });
        let gateways = vec![Gateway::start(worker.clone()).await, Gateway::start(worker.clone()).await];
        let deployment = Deployment {
            gateways: gateways.iter().map(|gateway| format!("http://{}", gateway.address)).collect(),
            ..deployment
        };
        Self { deployment, worker, gateways, _folder: folder }
    }

    pub fn client(&self) -> Client {
        Client::new(self.deployment.clone(), Judge::Preset(Preset::Dev)).unwrap()
    }
}

/// Waits for a condition, at most for a minute.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(tokio::time::Instant::now() < until, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
