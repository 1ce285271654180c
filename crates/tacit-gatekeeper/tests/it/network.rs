//! A founded cluster of four gatekeepers, its chain, and a worker's keys.

use std::{path::PathBuf, time::Duration};

use rand::Rng as _;
use tacit_api::gatekeeper::{
    ACKNOWLEDGE, ADMIT, AcknowledgeAnswer, AcknowledgeOutcome, AcknowledgeRequest, AdmitAnswer, AdmitOutcome,
    AdmitRequest, CHALLENGE, ChallengeAnswer, ChallengeRequest, GatekeeperState, GatekeeperStatus, Granted, LEASE,
    LeaseAnswer, LeaseItem, LeaseItemAnswer, LeaseRequest, STATUS, Version1,
};
use tacit_attest::{Collateral, Evidence, Policy, Preset, verify};
use tacit_envelope::{Kem, KeyPair};
use tacit_gatekeeper::{
    Clock, Config, Gatekeeper, GatekeeperClient,
    ceremony::{self, Founded, Template},
};
use tacit_ledger::{
    ClusterParameters, Ledger, NewVersion, Writer,
    anvil::{Anvil, AnvilConfig, AnvilSearch},
    code_hashes, deploy_all, predict_addresses,
};
use tacit_platform::{Driver, GuestSocket};
use tacit_simulator::{Machine, Root, RunningSimulator, Simulator, measure_executable};
use tacit_threshold::{
    Batch, HeldLease,
    admission::{Demands, certificate},
    collect::{AckCollector, Collector, LeaseCollector, Plan},
};
use tacit_types::{
    Digest, FunctionId, Head, UnixTime,
    deployment::{Finality, NamedFinality},
    eip712::{Certificate, EndpointClaim},
    keyset::{ED25519, Keyset, OHTTP, PublicKey, SECP256K1_EIP712, report_data},
    quorum::GatekeeperSet,
    register::{Ack, Lease, LeaseRole, Position},
    signature::{NoteKey, SigningKey},
};

pub const FINALIZED: Finality = Finality::Named(NamedFinality::Finalized);
const CHAIN: u64 = 31_337;
const ETHER: u128 = 1_000_000_000_000_000_000;
pub const COUNT: usize = 4;
pub const THRESHOLD: u32 = 2;

pub fn now() -> UnixTime {
    Clock::system().now()
}

pub fn random() -> Digest {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    Digest::from(bytes)
}

/// Simulated machines under one root, and the policy that accepts this very executable on them.
pub struct Machines {
    pub folder: tempfile::TempDir,
    pub root: PathBuf,
    pub policy: Policy,
    pub running: Vec<RunningSimulator>,
}

impl Machines {
    pub fn start(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root_folder = folder.path().join("root");
        let root = Root::create(&root_folder, "test", now()).unwrap();
        let measurement = measure_executable(&std::env::current_exe().unwrap(), &[]).unwrap();
        let policy = Policy::preset(Preset::Dev)
            .with_name("test")
            .with_root(root.policy_entry("simulated").unwrap())
            .with_image("gatekeeper", &[measurement])
            .with_image("worker", &[measurement]);
        let running = (0..count)
            .map(|index| {
                let name = format!("m{index}");
                let root = Root::open(&root_folder).unwrap();
                let machine = Machine::open(&folder.path().join(&name), root, &name, &[], now()).unwrap();
                Simulator::start(machine, &folder.path().join(format!("{name}.sock"))).unwrap()
            })
            .collect();
        Self { folder, root: root_folder, policy, running }
    }

    pub fn driver(&self, index: usize) -> Driver {
        Driver::GuestSocket(GuestSocket::new(self.running[index].socket()))
    }

    pub fn config(&self, index: usize) -> Config {
        Config {
            version: 1,
            listen: "127.0.0.1:0".parse().unwrap(),
            data: self.folder.path().join(format!("gatekeeper-{index}")),
            guest_agent: self.running[index].socket().to_owned(),
            collateral: None,
            finality: FINALIZED,
        }
    }

    pub fn template(&self, rpc: &str, deployer: &SigningKey) -> Template {
        Template {
            network: "test-sim".into(),
            chain_id: CHAIN,
            contracts: predict_addresses(deployer.address(), 0).to_map(),
            code_hashes: code_hashes(),
            rpcs: vec![rpc.into()],
            policy: self.policy.clone(),
            roots: vec![Root::open(&self.root).unwrap().id()],
            threshold: THRESHOLD,
            time: now(),
        }
    }
}

pub async fn start_anvil(folder: PathBuf) -> Anvil {
    let checkout = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    let search = AnvilSearch { checkout, ..AnvilSearch::from_environment() };
    let binary = search.find().expect("run `make bootstrap`, or `npm ci` in contracts/");
    let config = AnvilConfig { binary, directory: folder, port: None, chain_id: CHAIN };
    Anvil::start(config).await.unwrap()
}

/// A founded cluster with its contracts on a local chain.
pub struct Network {
    pub machines: Machines,
    pub anvil: Option<Anvil>,
    pub owner: Writer,
    pub gatekeepers: Vec<Option<Gatekeeper>>,
    pub clocks: Vec<Clock>,
    pub clients: Vec<GatekeeperClient>,
    pub founded: Founded,
    pub set: GatekeeperSet,
}

impl Network {
    pub async fn start() -> Self {
        Self::start_on(Machines::start(COUNT + 2), 0).await
    }

    /// With another policy than everybody's.
    pub async fn start_under(change: impl FnOnce(&mut Policy)) -> Self {
        let mut machines = Machines::start(COUNT + 2);
        change(&mut machines.policy);
        Self::start_on(machines, 0).await
    }

    /// On these machines, with this many seconds between a loosening of the policy and its effect.
    pub async fn start_on(machines: Machines, timelock: u64) -> Self {
        let anvil = start_anvil(machines.folder.path().join("chain")).await;
        let deployer = SigningKey::from_bytes(&[0x11; 32]).unwrap();
        anvil.fund(deployer.address(), 1_000 * ETHER).await.unwrap();
        let (mut gatekeepers, mut clocks, mut clients) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..COUNT {
            let clock = Clock::system();
            let started =
                Gatekeeper::start(machines.config(index), machines.driver(index), clock.clone()).await.unwrap();
            clients.push(GatekeeperClient::new(started.url()).unwrap());
            gatekeepers.push(Some(started));
            clocks.push(clock);
        }
        let urls: Vec<_> = clients.iter().map(|client| client.url().to_owned()).collect();
        let founded = ceremony::run(&urls, machines.template(anvil.url(), &deployer)).await.unwrap();
        let addresses = predict_addresses(deployer.address(), 0);
        let ledger = Ledger::connect(anvil.url(), addresses, FINALIZED).unwrap();
        let owner = ledger.writer(&deployer).unwrap();
        let set = founded.genesis.gatekeeper_set();
        let parameters = ClusterParameters {
            cluster: founded.cluster,
            gatekeepers: set.clone(),
            valid_until: now().plus(30 * 86_400),
            governor: owner.address(),
            guardian: owner.address(),
            timelock,
            policy: founded.genesis.policy,
            policy_uri: String::new(),
            measurements: vec![measure_executable(&std::env::current_exe().unwrap(), &[]).unwrap()],
        };
        assert_eq!(deploy_all(&owner, &parameters).await.unwrap(), addresses);
        let network = Self { machines, anvil: Some(anvil), owner, gatekeepers, clocks, clients, founded, set };
        let block = network.owner.ledger().finalized().await.unwrap().number;
        network.wait(|status| status.chain.as_ref().is_some_and(|chain| chain.block >= block)).await;
        network
    }

    /// Waits until the status of every gatekeeper that runs satisfies `good`.
    pub async fn wait(&self, good: impl Fn(&GatekeeperStatus) -> bool) {
        for (gatekeeper, client) in self.gatekeepers.iter().zip(&self.clients) {
            let until = std::time::Instant::now() + Duration::from_secs(60);
            while gatekeeper.is_some() {
                let status: GatekeeperStatus = client.get(STATUS).await.unwrap();
                if good(&status) && status.state == GatekeeperState::Serving {
                    break;
                }
                assert!(std::time::Instant::now() < until, "{status:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    pub async fn register_function(&self, name: &str) -> FunctionId {
        let version =
            NewVersion { module_hash: random(), manifest_hash: random().into_bytes().into(), uri: String::new() };
        let (id, _) = self.owner.register_function(name, &version, 0).await.unwrap();
        let block = self.owner.ledger().finalized().await.unwrap().number;
        self.wait(|status| status.chain.as_ref().is_some_and(|chain| chain.block >= block)).await;
        id
    }

    pub fn demands(&self) -> Demands {
        Demands {
            cluster: self.founded.cluster,
            epoch: 1,
            policy: self.machines.policy.clone(),
            gatekeepers_simulated: true,
        }
    }

    pub async fn challenge(&self, gatekeeper: usize, worker: &Worker) -> ChallengeAnswer {
        let request = ChallengeRequest { version: Version1, keyset: worker.keyset.digest().unwrap() };
        self.clients[gatekeeper].post(CHALLENGE, &request).await.unwrap()
    }

    /// An admission request to one gatekeeper over a fresh nonce.
    pub async fn proposal(&self, gatekeeper: usize, worker: &Worker) -> AdmitRequest {
        let challenge = self.challenge(gatekeeper, worker).await;
        let driver = self.machines.driver(worker.machine);
        let digest = worker.keyset.digest().unwrap();
        let evidence = driver.quote(&report_data(digest, Some(challenge.nonce))).await.unwrap();
        let collateral = driver.collateral().await.unwrap();
        self.proposal_with(worker, challenge.nonce, evidence, collateral)
    }

    pub fn proposal_with(
        &self,
        worker: &Worker,
        nonce: Digest,
        evidence: Evidence,
        collateral: Collateral,
    ) -> AdmitRequest {
        // The gatekeepers' judgement, not the applicant's, is what is tried here.
        let any = Policy {
            measurements: tacit_attest::Measurements::Any,
            chips: tacit_attest::ChipPolicy::default(),
            ..self.machines.policy.clone()
        };
        let verified = verify(&evidence, &collateral, &any, now()).unwrap();
        let mut proposed =
            certificate(&self.demands(), &verified, None, &worker.keyset, worker.operator.address(), worker.not_before)
                .unwrap();
        proposed.policy = self.founded.genesis.policy;
        let endpoint = "http://127.0.0.1:9/".to_owned();
        let claim = EndpointClaim {
            worker: proposed.worker,
            keyset: proposed.keyset,
            endpoint: endpoint.clone(),
            not_before: proposed.not_before,
        };
        AdmitRequest {
            version: Version1,
            nonce,
            certificate: proposed,
            keyset: worker.keyset.clone(),
            evidence: serde_json::from_slice(&evidence.to_json()).unwrap(),
            collateral: serde_json::from_slice(&collateral.to_json()).unwrap(),
            gpus: None,
            endpoint,
            operator_signature: worker.operator.sign(claim.digest(self.founded.cluster)),
        }
    }

    pub async fn admit(&self, gatekeeper: usize, request: &AdmitRequest) -> AdmitOutcome {
        self.clients[gatekeeper].post::<AdmitAnswer>(ADMIT, request).await.unwrap().outcome
    }

    /// A worker that every running gatekeeper admitted.
    pub async fn admitted(&self, machine: usize) -> Worker {
        let mut worker = Worker::new(machine);
        let mut collector: Option<Collector> = None;
        for (index, _) in self.gatekeepers.iter().enumerate().filter(|(_, running)| running.is_some()) {
            let request = self.proposal(index, &worker).await;
            let id = Digest::from(request.certificate.id(self.founded.cluster).into_bytes());
            let AdmitOutcome::Admitted(signature) = self.admit(index, &request).await else { panic!("not admitted") };
            collector.get_or_insert_with(|| Collector::threshold(&self.set, id)).add(index as u32, signature).unwrap();
            worker.certificate = Some(request.certificate);
        }
        worker.signatures = collector.unwrap().signatures().unwrap();
        worker
    }

    pub async fn ask_lease(&self, gatekeeper: usize, worker: &Worker, item: LeaseItem) -> LeaseItemAnswer {
        let id = worker.certificate().id(self.founded.cluster);
        let request = LeaseRequest::signed(self.founded.cluster, id, vec![item], &worker.receipt_key);
        let mut answer: LeaseAnswer = self.clients[gatekeeper].post(LEASE, &request).await.unwrap();
        assert_eq!((answer.items.len(), answer.index as usize), (1, gatekeeper));
        answer.items.pop().unwrap()
    }

    pub async fn plan(&self, worker: &Worker, function: FunctionId) -> Plan {
        let mut views = std::collections::BTreeMap::new();
        for (index, _) in self.gatekeepers.iter().enumerate().filter(|(_, running)| running.is_some()) {
            match self.ask_lease(index, worker, LeaseItem::Read(function)).await {
                LeaseItemAnswer::View(view) => views.insert(index as u32, view),
                other => panic!("{other:?}"),
            };
        }
        Plan::from_views(&self.set, now(), &views).unwrap()
    }

    pub async fn grant(&self, worker: &Worker, lease: &Lease) -> LeaseCollector {
        let mut collector =
            LeaseCollector::new(&self.set, self.founded.cluster, lease.clone(), worker.certificate().clone());
        for (index, _) in self.gatekeepers.iter().enumerate().filter(|(_, running)| running.is_some()) {
            if let LeaseItemAnswer::Granted(granted) =
                self.ask_lease(index, worker, LeaseItem::Grant(lease.clone())).await
            {
                let Granted { signature, entry } = *granted;
                collector.add(index as u32, signature, entry.as_ref()).unwrap();
            }
        }
        collector
    }

    /// Takes a function's lease; the position is where to take over.
    pub async fn take(&self, worker: &Worker, function: FunctionId) -> (HeldLease, Position) {
        let plan = self.plan(worker, function).await;
        let id = worker.certificate().id(self.founded.cluster);
        let lease = plan.lease(function, id, LeaseRole::Writer, now().plus(30));
        self.grant(worker, &lease).await.held().expect("a quorum grants the lease")
    }

    pub fn ack(&self, held: &HeldLease, sequence: u64, head: u8) -> Ack {
        Ack {
            epoch: 1,
            function_id: held.lease.function_id,
            fence: held.lease.fence,
            sequence,
            head: Head::from([head; 32]),
            receipts_root: Digest::ZERO,
            time: now(),
        }
    }

    pub async fn acknowledge_at(
        &self,
        gatekeeper: usize,
        worker: &Worker,
        batch: &Batch,
        leases: &[HeldLease],
    ) -> AcknowledgeOutcome {
        let id = worker.certificate().id(self.founded.cluster);
        let request = AcknowledgeRequest::signed(self.founded.cluster, id, batch, leases.to_vec(), &worker.receipt_key);
        let answer: AcknowledgeAnswer = self.clients[gatekeeper].post(ACKNOWLEDGE, &request).await.unwrap();
        answer.outcome
    }

    /// Has one position acknowledged by all that run.
    pub async fn acknowledge(&self, worker: &Worker, held: &HeldLease, sequence: u64, head: u8) -> AckCollector {
        let batch = Batch::new(self.founded.cluster, vec![self.ack(held, sequence, head)]).unwrap();
        let mut collector = AckCollector::new(&self.set, self.founded.cluster, batch.clone());
        for (index, _) in self.gatekeepers.iter().enumerate().filter(|(_, running)| running.is_some()) {
            match self.acknowledge_at(index, worker, &batch, std::slice::from_ref(held)).await {
                AcknowledgeOutcome::Acknowledged(signature) => collector.add(index as u32, signature).unwrap(),
                other => panic!("{other:?}"),
            }
        }
        collector
    }

    /// Lets the home chain's clock run, and waits until the gatekeepers see it.
    pub async fn pass(&self, seconds: u64) {
        let url = self.anvil.as_ref().unwrap().url();
        let client = reqwest::Client::new();
        // The third block makes the first final.
        let mine = || ("evm_mine", "[]".to_owned());
        for (method, parameters) in [("evm_increaseTime", format!("[{seconds}]")), mine(), mine(), mine()] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{parameters}}}"#);
            let request = client.post(url).header("content-type", "application/json").body(body);
            let answer = request.send().await.unwrap().text().await.unwrap();
            assert!(!answer.contains("error"), "{answer}");
        }
        self.settled().await;
    }

    /// Waits until every gatekeeper sees what was written last: a writer returns when that is final.
    pub async fn settled(&self) {
        let newest = self.owner.ledger().finalized().await.unwrap().number;
        self.wait(|status| status.chain.as_ref().is_some_and(|chain| chain.block >= newest)).await;
    }

    /// Stops a gatekeeper and starts it again on its folder.
    pub async fn restart(&mut self, gatekeeper: usize) {
        self.stop(gatekeeper).await;
        let (config, driver) = (self.machines.config(gatekeeper), self.machines.driver(gatekeeper));
        let started = Gatekeeper::start(config, driver, self.clocks[gatekeeper].clone()).await.unwrap();
        self.clients[gatekeeper] = GatekeeperClient::new(started.url()).unwrap();
        self.gatekeepers[gatekeeper] = Some(started);
        self.settled().await;
    }

    pub async fn stop(&mut self, gatekeeper: usize) {
        self.gatekeepers[gatekeeper].take().unwrap().stop().await;
    }
}

/// A worker's keys on one of the machines.
pub struct Worker {
    pub machine: usize,
    pub receipt_key: SigningKey,
    pub operator: SigningKey,
    pub keyset: Keyset,
    pub not_before: UnixTime,
    pub certificate: Option<Certificate>,
    pub signatures: Vec<tacit_types::quorum::IndexedSignature>,
}

impl Worker {
    pub fn new(machine: usize) -> Self {
        let mut rng = rand::rng();
        let (receipt_key, note_key) = (SigningKey::generate(&mut rng), NoteKey::generate(&mut rng));
        let ohttp = KeyPair::generate(&mut rng, 1, Kem::XWing).config().encode();
        let key = |algo: &str, bytes: &[u8]| PublicKey {
            key_id: algo.into(),
            algo: algo.into(),
            public_key: hex::encode(bytes),
        };
        let keyset = Keyset {
            subject: None,
            not_after: now().plus(10 * 86_400),
            receipt_signing_keys: vec![
                key(ED25519, &note_key.public_key()),
                key(SECP256K1_EIP712, &receipt_key.public_key()),
            ],
            e2ee_public_keys: vec![key(OHTTP, &ohttp)],
            tls_public_keys: Vec::new(),
        };
        let operator = SigningKey::generate(&mut rng);
        Self { machine, receipt_key, operator, keyset, not_before: now(), certificate: None, signatures: Vec::new() }
    }

    pub fn certificate(&self) -> &Certificate {
        self.certificate.as_ref().unwrap()
    }
}
