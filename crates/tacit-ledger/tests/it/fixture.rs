//! A cluster on a local chain of its own: contracts deployed, one certified worker, one function.

use std::time::Duration;

use alloy::rpc::client::{ClientBuilder, RpcClient};
use serde_json::{Value, json};
use tacit_ledger::{
    At, ClusterParameters, ContractRequest, Cursor, Ledger, NewVersion, Question, Writer,
    anvil::{Anvil, AnvilConfig, AnvilSearch},
    deploy_all, predict_addresses,
};
use tacit_types::{
    Address, CallId, CertificateId, ChipId, ClusterId, CodeHash, Digest, FunctionId, Head, KeysetDigest, ManifestHash,
    Measurement, PolicyHash, RootId, UnixTime,
    chain::Publication,
    deployment::{Finality, NamedFinality},
    eip712::{Certificate, EndpointClaim, Kind, Outcome, Platform, Receipt},
    formats, merkle,
    quorum::{GatekeeperSet, IndexedSignature},
    register::{Ack, AckBatch, QuorumAck, receipts_root},
    signature::{Signature, SigningKey},
};

pub const CHAIN: u64 = 31337;
pub const ROOT: [u8; 32] = [0xaa; 32];
pub const ETHER: u128 = 1_000_000_000_000_000_000;
pub const FINALIZED: Finality = Finality::Named(NamedFinality::Finalized);

pub fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32]).unwrap()
}

pub fn digest(byte: u8) -> Digest {
    Digest::from([byte; 32])
}

pub async fn start_anvil(folder: &std::path::Path) -> Anvil {
    let binary = AnvilSearch::from_environment().find().expect("run `make bootstrap`, or `npm ci` in contracts/");
    let config = AnvilConfig { binary, directory: folder.to_owned(), port: None, chain_id: CHAIN };
    Anvil::start(config).await.unwrap()
}

pub struct Cluster {
    pub anvil: Anvil,
    pub folder: tempfile::TempDir,
    pub id: ClusterId,
    pub ledger: Ledger,
    /// Governor, deployer, owner of the function.
    pub owner: Writer,
    pub worker: SigningKey,
    pub operator: Address,
    pub certificate: CertificateId,
    pub certificate_body: Certificate,
    pub function: FunctionId,
    pub version: NewVersion,
}

pub fn gatekeeper_keys() -> Vec<SigningKey> {
    (0x31..=0x34).map(key).collect()
}

pub fn gatekeeper_set() -> GatekeeperSet {
    GatekeeperSet { epoch: 1, threshold: 2, members: gatekeeper_keys().iter().map(SigningKey::address).collect() }
}

pub fn sign_by(indices: &[u32], digest: Digest) -> Vec<IndexedSignature> {
    let keys = gatekeeper_keys();
    indices
        .iter()
        .map(|index| IndexedSignature { index: *index, signature: keys[*index as usize].sign(digest) })
        .collect()
}

impl Cluster {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let anvil = start_anvil(folder.path()).await;
        let id = ClusterId::from([0xc1; 32]);
        let owner_key = key(0x11);
        anvil.fund(owner_key.address(), 1_000 * ETHER).await.unwrap();
        let addresses = predict_addresses(owner_key.address(), 0);
        let ledger = Ledger::connect(anvil.url(), addresses, FINALIZED).unwrap();
        let owner = ledger.writer(&owner_key).unwrap();
        let now = ledger.latest().await.unwrap().time;
        let parameters = ClusterParameters {
            cluster: id,
            gatekeepers: gatekeeper_set(),
            valid_until: now.plus(30 * 86_400),
            governor: owner.address(),
            guardian: owner.address(),
            timelock: 3_600,
            policy: PolicyHash::from([0x50; 32]),
            policy_uri: "policy.json".into(),
            measurements: vec![Measurement::from([0x3e; 32])],
        };
        assert_eq!(deploy_all(&owner, &parameters).await.unwrap(), addresses);

        let (worker, operator) = (key(0x21), key(0x22));
        let certificate_body = certificate(&worker, operator.address(), now);
        let certificate = certificate_body.id(id);
        let claim = EndpointClaim {
            worker: worker.address(),
            keyset: certificate_body.keyset,
            endpoint: "http://127.0.0.1:9".into(),
            not_before: certificate_body.not_before,
        };
        let endpoint_signature = operator.sign(claim.digest(id));
        let quorum = sign_by(&[1, 3], certificate.into_bytes().into());
        owner
            .publish_certificate(&certificate_body, &quorum, Some((&claim.endpoint, &endpoint_signature)))
            .await
            .unwrap();
        let version = version(1);
        let (function, _) = owner.register_function("oracle", &version, 0).await.unwrap();
        Self {
            anvil,
            folder,
            id,
            ledger,
            owner,
            worker,
            operator: operator.address(),
            certificate,
            certificate_body,
            function,
            version,
        }
    }

    pub fn code_hash(&self) -> CodeHash {
        formats::code_hash_of(self.version.module_hash, self.version.manifest_hash)
    }

    /// A receipt for an answer to `request`, signed by the worker.
    pub fn answer(&self, request: &ContractRequest, response: &[u8]) -> (Receipt, Signature) {
        let [method, caller, body, answer] = request.arguments.commitments(response);
        let receipt = Receipt {
            function_id: self.function,
            code_hash: self.code_hash(),
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
            usage: digest(0x77),
            fuel: 123_456,
            time: request.created_at,
            epoch: 1,
        };
        let signature = self.sign(&receipt);
        (receipt, signature)
    }

    pub fn publication(&self, consumer: Address, topic: &str, sequence: u64, data: &[u8]) -> Publication {
        Publication { chain_id: CHAIN, consumer, topic: topic.into(), sequence, data: data.to_vec() }
    }

    pub async fn publish_receipt(&self, publication: &Publication) -> (Receipt, Signature) {
        let receipt = Receipt {
            function_id: self.function,
            code_hash: self.code_hash(),
            certificate: self.certificate,
            call_id: CallId::from([9; 32]),
            kind: Kind::Publish,
            outcome: Outcome::Ok,
            method: digest(1),
            caller: digest(2),
            request: digest(3),
            response: publication.response(),
            sequence: 2,
            head_before: Head::from([1; 32]),
            head_after: Head::from([2; 32]),
            fence: 1,
            effects: Digest::ZERO,
            usage: Digest::ZERO,
            fuel: 1,
            time: self.ledger.latest().await.unwrap().time,
            epoch: 1,
        };
        let signature = self.sign(&receipt);
        (receipt, signature)
    }

    pub fn sign(&self, receipt: &Receipt) -> Signature {
        self.worker.sign(receipt.digest(self.id))
    }

    /// An acknowledgement of the receipt's commit by the gatekeepers with these indices, in a commit with another receipt
    /// and a batch with another commit.
    pub fn acknowledge(&self, receipt: &Receipt, indices: &[u32]) -> QuorumAck {
        let receipts = [receipt.digest(self.id), digest(0x99)];
        let ack = Ack {
            epoch: receipt.epoch,
            function_id: receipt.function_id,
            fence: receipt.fence,
            sequence: receipt.sequence,
            head: receipt.head_after,
            receipts_root: receipts_root(&receipts),
            time: receipt.time,
        };
        let leaves = [merkle::leaf(digest(0x98)), merkle::leaf(ack.digest(self.id)), merkle::leaf(digest(0x97))];
        let batch = AckBatch { epoch: receipt.epoch, root: merkle::root(&leaves), time: receipt.time };
        let signatures = sign_by(indices, batch.digest(self.id));
        let receipt_leaves: Vec<_> = receipts.iter().map(|digest| merkle::leaf(*digest)).collect();
        QuorumAck {
            ack,
            batch_path: merkle::proof(&leaves, 1).unwrap(),
            batch,
            signatures,
            receipt_path: merkle::proof(&receipt_leaves, 0).unwrap(),
        }
    }

    /// A `StoredAnswers` contract that believes the worker's root.
    pub async fn consumer(&self) -> Address {
        self.owner.deploy_stored_answers(&[RootId::from(ROOT)]).await.unwrap()
    }

    pub async fn ask(&self, consumer: Address, callback_gas: u64, fee: u128) -> ContractRequest {
        let deadline = self.ledger.latest().await.unwrap().time.plus(600);
        let question = Question { method: "price", input: b"{}", callback_gas, fee, deadline };
        let (id, outcome) = self.owner.ask_through(consumer, self.function, &question).await.unwrap();
        let page = self.ledger.requests(&Cursor::from_block(outcome.block), 1).await.unwrap();
        page.requests.into_iter().find(|request| request.id == id).expect("the request is in its block")
    }

    pub fn rpc(&self) -> RpcClient {
        ClientBuilder::default().http(self.anvil.url().parse().unwrap())
    }

    /// Moves the chain's clock on, as a test chain can, and mines a block.
    pub async fn pass(&self, seconds: u64) {
        let _: Value = self.rpc().request("evm_increaseTime", (seconds,)).await.unwrap();
        let _: Value = self.rpc().request("evm_mine", json!([])).await.unwrap();
        let newest = self.ledger.latest().await.unwrap().number;
        self.ledger.final_from(newest, Duration::from_secs(10)).await.unwrap();
    }

    pub async fn status(&self, id: CallId) -> tacit_ledger::RequestStatus {
        self.ledger.request_status(id, At::Final).await.unwrap()
    }
}

pub fn version(byte: u8) -> NewVersion {
    NewVersion {
        module_hash: digest(byte),
        manifest_hash: ManifestHash::from([byte.wrapping_add(100); 32]),
        uri: format!("blob:{byte}"),
    }
}

pub fn certificate(worker: &SigningKey, operator: Address, now: UnixTime) -> Certificate {
    Certificate {
        worker: worker.address(),
        keyset: KeysetDigest::from([0x41; 32]),
        platform: Platform::Tdx,
        measurement: Measurement::from([0x3e; 32]),
        chip: ChipId::from([0xc4; 32]),
        confidence: 1,
        root: RootId::from(ROOT),
        policy: PolicyHash::from([0x50; 32]),
        simulated: true,
        operator,
        collateral_time: now.minus(1_000),
        not_before: now.minus(100),
        not_after: now.plus(86_400),
        epoch: 1,
    }
}

/// The name of the contract error that `result` ended in.
pub fn refused<T: std::fmt::Debug>(result: Result<T, tacit_ledger::LedgerError>) -> String {
    let error = result.expect_err("the contract must refuse");
    error.refusal().unwrap_or_else(|| panic!("not a refusal: {error}")).name.clone()
}
