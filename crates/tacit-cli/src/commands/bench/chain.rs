//! What verification costs on the home chain, by whole transactions on a chain of its own; and how many requests of a contract
//! a network answers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tacit_ledger::{
    Acceptance, Anvil, AnvilConfig, AnvilSearch, At, ClusterParameters, Confirmation, ContractRequest, Cursor, Ledger,
    NewVersion, Question, RequestStatus, Writer, deploy_all, predict_addresses, requests::compact_batch,
};
use tacit_runtime::bench::Row;
use tacit_types::{
    Address, CallId, CertificateId, ChipId, ClusterId, CodeHash, Digest, FunctionId, Head, KeysetDigest, ManifestHash,
    Measurement, PolicyHash, RootId, UnixTime,
    chain::receipt_batch_digest,
    deployment::{Finality, NamedFinality},
    eip712::{Certificate, Kind, Outcome, Platform, Receipt},
    formats,
    quorum::{GatekeeperSet, IndexedSignature},
    signature::{Signature, SigningKey},
};

use super::{
    network::{self, BenchNetwork},
    row,
};

const CHAIN: u64 = 31_337;
const FUNDS: u128 = 1_000 * 1_000_000_000_000_000_000;
const FINALIZED: Finality = Finality::Named(NamedFinality::Finalized);
/// Answers in a batch.
const BATCH: u64 = 64;
/// Gas of any transaction, which a batch pays once.
const BASE_GAS: u64 = 21_000;
const CALLBACK_GAS: u64 = 200_000;
const ANSWER: &[u8] = b"{\"usd\":\"61234.50\"}";

/// Requests that a network is to answer, and how many are asked at the same time.
const REQUESTS: usize = 60;
const ASKED_AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(120);

const TRIGGER: &str = "[[trigger]]\nchain = \"local\"\nconsumer = \"any\"\nmethod = \"add\"\n";

/// Measures gas, then requests per second.
pub async fn run() -> Result<Vec<Row>> {
    let folder = tempfile::Builder::new().prefix("tacit-bench-").tempdir()?;
    let binary = AnvilSearch::from_environment().find().context("the local chain's node is not installed")?;
    let config = AnvilConfig { binary, directory: folder.path().join("chain"), port: None, chain_id: CHAIN };
    let anvil = Anvil::start(config).await?;
    let measured = network::interruptible(gas(&anvil)).await;
    anvil.stop().await;
    folder.close().context("the benchmark's folder could not be removed")?;
    let mut rows = measured?;
    rows.push(network::with(1, requests).await?);
    Ok(rows)
}

async fn gas(anvil: &Anvil) -> Result<Vec<Row>> {
    let cluster = Cluster::deploy(anvil).await.context("contracts")?;
    let me = cluster.owner.address();
    cluster.owner.set_root(cluster.root(), Acceptance::Yes).await?;
    let consumer = cluster.owner.deploy_stored_answers(&[cluster.root()]).await?;
    let request = cluster.ask(consumer).await?;
    let (template, signature) = cluster.answer(&request);
    let receipts = receipts(&template);
    let single = receipts.get(1).context("no receipt")?;
    let single = cluster.owner.spend_verify(me, single, &cluster.sign(single)).await?.gas;
    let digests: Vec<Digest> = receipts.iter().map(|receipt| receipt.digest(cluster.id)).collect();
    let over_all = cluster.worker.sign(receipt_batch_digest(cluster.certificate, &digests, cluster.id));
    let compact = compact_batch(&receipts).context("the receipts do not make a batch")?;
    let batch = cluster.owner.spend_verify_batch(me, &compact, &over_all).await?.gas;
    let fulfil = cluster.owner.fulfil(request.id, ANSWER, &template, &signature, None).await?;
    ensure!(fulfil.called_back == Some(true), "the consumer did not take its callback");
    let gas_row = |name: &str, gas: f64, target: &str, note: &str| row(name, gas, "gas", target, 1, note.to_owned());
    Ok(vec![
        gas_row(
            "chain.receipt_gas.single",
            single as f64,
            "≤ 60000",
            "ReceiptVerifier.verify as a transaction: base cost, calldata and cold storage included",
        ),
        gas_row(
            "chain.receipt_gas.batch64",
            batch.saturating_sub(BASE_GAS) as f64 / BATCH as f64,
            "≤ 10000",
            "(transaction - 21000) / 64, for 64 answers to one contract under one signature, without callbacks",
        ),
        gas_row(
            "chain.fulfil_gas",
            fulfil.outcome.gas as f64,
            "report",
            "RequestHub.fulfil as a transaction, with the callback of StoredAnswers, which stores the answer",
        ),
    ])
}

/// Receipts of 64 answers to one contract: every commitment a hash, each answer in a commit of its own.
fn receipts(template: &Receipt) -> Vec<Receipt> {
    let word = |name: &str, index: u64| formats::sha256(format!("{name} {index}").as_bytes()).into_bytes();
    (0..BATCH)
        .map(|index| Receipt {
            call_id: CallId::from(word("call", index)),
            request: word("request", index).into(),
            response: word("response", index).into(),
            effects: word("effects", index).into(),
            usage: word("usage", index).into(),
            sequence: 1_000 + index,
            head_before: Head::from(word("head", index)),
            head_after: Head::from(word("head", index + 1)),
            fuel: 2_345_678 + index,
            ..template.clone()
        })
        .collect()
}

/// The contracts of a cluster whose keys are all here, one certified worker and one function.
struct Cluster {
    id: ClusterId,
    ledger: Ledger,
    owner: Writer,
    worker: SigningKey,
    certified: Certificate,
    certificate: CertificateId,
    function: FunctionId,
    code: CodeHash,
}

impl Cluster {
    async fn deploy(anvil: &Anvil) -> Result<Self> {
        let (owner_key, worker, operator, gatekeepers) = {
            let mut rng = rand::rng();
            let mut key = || SigningKey::generate(&mut rng);
            (key(), key(), key(), [key(), key(), key(), key()])
        };
        anvil.fund(owner_key.address(), FUNDS).await?;
        let addresses = predict_addresses(owner_key.address(), 0);
        let ledger = Ledger::connect(anvil.url(), addresses, FINALIZED)?;
        let owner = ledger.writer(&owner_key)?;
        let now = ledger.latest().await?.time;
        let id = ClusterId::from([0xc1; 32]);
        let policy = PolicyHash::from([0x50; 32]);
        let measurement = Measurement::from([0x3e; 32]);
        let (count, threshold) = network::GATEKEEPERS;
        let set =
            GatekeeperSet { epoch: 1, threshold, members: gatekeepers.each_ref().map(SigningKey::address).to_vec() };
        ensure!(set.size() == count, "the cluster has {} gatekeepers", set.size());
        let parameters = ClusterParameters {
            cluster: id,
            gatekeepers: set,
            valid_until: now.plus(30 * 86_400),
            governor: owner.address(),
            guardian: owner.address(),
            timelock: 3_600,
            policy,
            policy_uri: "policy.json".into(),
            measurements: vec![measurement],
        };
        ensure!(deploy_all(&owner, &parameters).await? == addresses, "the contracts have other addresses");
        let certified = Certificate {
            worker: worker.address(),
            keyset: KeysetDigest::from([0x41; 32]),
            platform: Platform::Tdx,
            measurement,
            chip: ChipId::from([0xc4; 32]),
            confidence: 1,
            root: RootId::from([0xaa; 32]),
            policy,
            simulated: true,
            operator: operator.address(),
            collateral_time: now.minus(1_000),
            not_before: now.minus(100),
            not_after: now.plus(86_400),
            epoch: 1,
        };
        let certificate = certified.id(id);
        let signed = [1u32, 3].map(|index| IndexedSignature {
            index,
            signature: gatekeepers[index as usize].sign(certificate.into_bytes().into()),
        });
        owner.publish_certificate(&certified, &signed, None).await?;
        let version = NewVersion {
            module_hash: Digest::from([1; 32]),
            manifest_hash: ManifestHash::from([101; 32]),
            uri: "blob:1".into(),
        };
        let (function, _) = owner.register_function("oracle", &version, 0).await?;
        let code = formats::code_hash_of(version.module_hash, version.manifest_hash);
        Ok(Self { id, ledger, owner, worker, certified, certificate, function, code })
    }

    const fn root(&self) -> RootId {
        self.certified.root
    }

    async fn ask(&self, consumer: Address) -> Result<ContractRequest> {
        let deadline = self.ledger.latest().await?.time.plus(600);
        let question = Question { method: "price", input: b"{}", callback_gas: CALLBACK_GAS, fee: 1_000, deadline };
        let (id, outcome) = self.owner.ask_through(consumer, self.function, &question).await?;
        let page = self.ledger.requests(&Cursor::from_block(outcome.block), 1).await?;
        page.requests.into_iter().find(|request| request.id == id).context("the request is not in its block")
    }

    fn answer(&self, request: &ContractRequest) -> (Receipt, Signature) {
        let [method, caller, body, answer] = request.arguments.commitments(ANSWER);
        let receipt = Receipt {
            function_id: self.function,
            code_hash: self.code,
            certificate: self.certificate,
            call_id: request.id,
            kind: Kind::ChainRequest,
            outcome: Outcome::Ok,
            method,
            caller,
            request: body,
            response: answer,
            sequence: 1,
            head_before: Head::ZERO,
            head_after: Head::from([0x88; 32]),
            fence: 1,
            effects: Digest::ZERO,
            usage: Digest::from([0x77; 32]),
            fuel: 123_456,
            time: request.created_at,
            epoch: 1,
        };
        let signature = self.sign(&receipt);
        (receipt, signature)
    }

    fn sign(&self, receipt: &Receipt) -> Signature {
        self.worker.sign(receipt.digest(self.id))
    }
}

/// A contract's requests through a whole network: asked, run, committed, acknowledged, delivered with callback.
async fn requests(network: &BenchNetwork<'_>) -> Result<Row> {
    let function = network.client.deploy(&network::package("oracle", TRIGGER)?, |_| ()).await?.function;
    network.add(function).await?;
    let writer = network.client.writer()?.confirming(Confirmation::Mined);
    let ledger = writer.ledger().clone();
    let roots = network.client.deployment().genesis.roots.clone();
    let consumer = writer.deploy_stored_answers(&roots).await?;
    let deadline = UnixTime(super::super::now().0.max(ledger.latest().await?.time.0)).plus(600);
    let question = Question { method: "add", input: b"{\"by\":1}", callback_gas: CALLBACK_GAS, fee: 1_000, deadline };
    let began = Instant::now();
    let ask = (0..REQUESTS).map(|_| writer.ask_through(consumer, function, &question));
    let asked: Vec<_> = stream::iter(ask).buffer_unordered(ASKED_AT_ONCE).try_collect().await?;
    let all_asked = began.elapsed();
    for (id, _) in &asked {
        while ledger.request_status(*id, At::Latest).await? != RequestStatus::Done {
            ensure!(began.elapsed() < PATIENCE, "a contract's request had no answer after {} s", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let elapsed = began.elapsed();
    let rate = REQUESTS as f64 / elapsed.as_secs_f64();
    let note = format!(
        "from a contract's first request to its last answer with callback: final on the chain, read, run, acknowledged, delivered by the one worker, each delivery final before the next; {REQUESTS} requests asked within {:.1} s",
        all_asked.as_secs_f64()
    );
    Ok(row("chain.requests_per_s", rate, "1/s", "report", REQUESTS, note))
}
