//! A small network whose keys come from fixed seeds, so that a test can sign anything that its members could.

use rand::{SeedableRng, rngs::StdRng};
use tacit_envelope::{Kem, KeyPair};
use tacit_receipt::{
    Bundle, Code, Effect, Log, LogProof, Opening, Openings, QuorumConfirmation, SignedCertificate, SignedConfirmation,
    TileStore, VERSION, effects_root, log_origin, query_nonce,
};
use tacit_types::chain::Publication;
use tacit_types::eip712::{Certificate, Kind, Outcome, Platform, Receipt};
use tacit_types::formats::{Tag, call_id, commit, function_id, next_head, publish_call_id, publish_request, sha256};
use tacit_types::keyset::{ED25519, Keyset, OHTTP, PublicKey, SECP256K1_EIP712};
use tacit_types::manifest::Manifest;
use tacit_types::quorum::IndexedSignature;
use tacit_types::register::{Ack, AckBatch, Position, QuorumAck, confirmation_leaf, receipts_root};
use tacit_types::signature::{NoteKey, SigningKey};
use tacit_types::*;
use tacit_verify::Anchor;

/// When the golden cluster was founded: 2026-09-21T13:33:20Z.
pub const GENESIS: UnixTime = UnixTime(1_790_000_000);
/// Issue time of the golden certificate.
pub const NOT_BEFORE: UnixTime = GENESIS.plus(3_600);
/// Its last second.
pub const NOT_AFTER: UnixTime = NOT_BEFORE.plus(86_400);
/// When the golden call ran.
pub const CALL: UnixTime = GENESIS.plus(7_200);
/// A time long after.
pub const LATER: UnixTime = UnixTime(1_800_000_000);

const MANIFEST: &str = "[function]\nname = \"my-oracle\"\n[[method]]\nname = \"price\"\n[egress]\nallow = [\"api.example.com\"]\n[trust]\npolicy = \"dev\"\n";
const MODULE: &[u8] = b"export async function price({ pair }) { /* ask api.example.com */ }";

/// The secret keys of one member.
pub struct Member {
    pub chain: SigningKey,
    pub note: NoteKey,
    pub keyset: Keyset,
}

impl Member {
    pub fn new(subject: &str, seed: u8) -> Self {
        let chain = SigningKey::from_bytes(&[seed; 32]).unwrap();
        let note = NoteKey::from_bytes(&[seed; 32]);
        let ohttp = KeyPair::generate(&mut StdRng::seed_from_u64(seed.into()), 1, Kem::XWing);
        let key = |id: &str, algorithm: &str, bytes: &[u8]| PublicKey {
            key_id: id.into(),
            algo: algorithm.into(),
            public_key: hex::encode(bytes),
        };
        let keyset = Keyset {
            subject: Some(subject.into()),
            not_after: GENESIS.plus(365 * 86_400),
            receipt_signing_keys: vec![
                key("log", ED25519, &note.public_key()),
                key("receipt", SECP256K1_EIP712, &chain.public_key()),
            ],
            e2ee_public_keys: vec![key("seal", OHTTP, &ohttp.config().encode())],
            tls_public_keys: vec![],
        };
        Self { chain, note, keyset }
    }
}

/// The four gatekeepers.
pub fn gatekeepers() -> Vec<Member> {
    (0..4).map(|index| Member::new("gatekeeper", 0x10 + index)).collect()
}

/// The worker.
pub fn worker() -> Member {
    Member::new("worker", 0x40)
}

/// What a test may change before everything above it is signed anew.
pub struct Sample {
    pub anchor: Anchor,
    pub certificate: Certificate,
    pub receipt: Receipt,
    pub openings: Openings,
    pub effects: Vec<Effect>,
    pub code: Code,
    /// Gatekeepers that sign the certificate.
    pub certifiers: Vec<u32>,
    /// Gatekeepers that sign the acknowledgement or confirmation.
    pub acknowledgers: Vec<u32>,
    /// Applied to the ack before it is signed.
    pub ack: fn(&mut Ack),
    /// Applied to the batch before it is signed.
    pub batch: fn(&mut AckBatch),
}

fn salt(byte: u8) -> Digest {
    Digest::from([byte; 32])
}

impl Sample {
    /// The golden call.
    pub fn new(anchor: Anchor, chip: ChipId, measurement: Measurement) -> Self {
        let (worker, genesis) = (worker(), anchor.genesis());
        let certificate = Certificate {
            worker: worker.chain.address(),
            keyset: worker.keyset.digest().unwrap(),
            platform: Platform::Tdx,
            measurement,
            chip,
            confidence: 1,
            root: genesis.roots[0],
            policy: genesis.policy,
            simulated: true,
            operator: Address::from([0x77; 20]),
            collateral_time: NOT_BEFORE.minus(300),
            not_before: NOT_BEFORE,
            not_after: NOT_AFTER,
            epoch: 1,
        };
        let owner = SigningKey::from_bytes(&[0x50; 32]).unwrap().address();
        let caller = SigningKey::from_bytes(&[0x51; 32]).unwrap().address();
        let registry = genesis.contracts["FunctionRegistry"];
        let function = function_id(genesis.chain_id, registry, owner, "my-oracle");
        let code = Code { module: eip712::keccak(MODULE), manifest: Manifest::from_toml(MANIFEST).unwrap() };
        let opening = |byte, bytes: &[u8]| Some(Opening { salt: salt(byte), bytes: bytes.to_vec() });
        let openings = Openings {
            method: opening(0x61, b"price"),
            caller: opening(0x62, caller.as_bytes()),
            request: opening(0x63, br#"{"pair":"eur"}"#),
            response: opening(0x64, br#"{"pair":"eur","usd":"1.17"}"#),
        };
        let effects = vec![Effect::Fetch {
            method: "GET".into(),
            url: sha256(b"https://api.example.com/v1/eur"),
            status: 200,
            response: sha256(br#"{"usd":"1.17"}"#),
            server_key: sha256(b"subject public key info of api.example.com"),
        }];
        let head_before = Head::from([0x44; 32]);
        let receipt = Receipt {
            function_id: function,
            code_hash: code.hash().unwrap(),
            certificate: certificate.id(anchor.cluster()),
            call_id: call_id(function, Some(caller), "golden-1"),
            kind: Kind::Command,
            outcome: Outcome::Ok,
            method: Digest::ZERO,
            caller: Digest::ZERO,
            request: Digest::ZERO,
            response: Digest::ZERO,
            sequence: 7,
            head_before,
            head_after: next_head(function, 1, 3, 7, head_before, b"golden ciphertext"),
            fence: 3,
            effects: Digest::ZERO,
            usage: Digest::ZERO,
            fuel: 1_234_567,
            time: CALL,
            epoch: 1,
        };
        Self {
            anchor,
            certificate,
            receipt,
            openings,
            effects,
            code,
            certifiers: vec![0, 2],
            acknowledgers: vec![0, 1, 3],
            ack: |_| {},
            batch: |_| {},
        }
    }

    /// A publication to a contract, signed by the same members.
    pub fn publication(mut self) -> Self {
        let publication = Publication {
            chain_id: self.anchor.genesis().chain_id,
            consumer: Address::from([0xc0; 20]),
            topic: "price".into(),
            sequence: 4,
            data: b"1.17".to_vec(),
        };
        let parent = self.receipt.call_id;
        self.receipt.kind = Kind::Publish;
        self.receipt.call_id = publish_call_id(self.receipt.function_id, parent, 1);
        self.openings.request = Some(Opening { salt: salt(0x65), bytes: publish_request(parent, 1) });
        self.openings.response = Some(Opening { salt: Digest::ZERO, bytes: publication.encode() });
        self.effects.clear();
        let manifest = format!("{MANIFEST}\n[[publish]]\nchain = \"local\"\ncontract = \"{}\"\n", publication.consumer);
        self.code.manifest = Manifest::from_toml(&manifest).unwrap();
        self.receipt.code_hash = self.code.hash().unwrap();
        self
    }

    /// The golden call as a query.
    pub fn query(mut self) -> Self {
        self.receipt.kind = Kind::Query;
        self.receipt.head_before = self.receipt.head_after;
        self
    }

    /// Signs everything and packs it up.
    pub fn bundle(&self) -> Bundle {
        let cluster = self.anchor.cluster();
        let (gatekeepers, worker) = (gatekeepers(), worker());
        let id = self.certificate.id(cluster);
        let sign = |indices: &[u32], digest: Digest| -> Vec<IndexedSignature> {
            let signature = |index: u32| gatekeepers[index as usize].chain.sign(digest);
            indices.iter().map(|index| IndexedSignature { index: *index, signature: signature(*index) }).collect()
        };
        let commitment = |tag, opening: &Option<Opening>| {
            opening.as_ref().map_or(Digest::ZERO, |opening| commit(tag, opening.salt, &opening.bytes))
        };
        let receipt = Receipt {
            certificate: id,
            method: commitment(Tag::Method, &self.openings.method),
            caller: commitment(Tag::Caller, &self.openings.caller),
            request: commitment(Tag::Request, &self.openings.request),
            response: commitment(Tag::Response, &self.openings.response),
            effects: effects_root(&self.effects),
            ..self.receipt.clone()
        };
        let digest = receipt.digest(cluster);
        // Another receipt of the same commit, and two other commits in the same batch.
        let receipts = [sha256(b"another receipt"), digest];
        let leaves: Vec<Digest> = receipts.iter().map(|receipt| merkle::leaf(*receipt)).collect();
        let receipt_path = merkle::proof(&leaves, 1).unwrap();
        let query = receipt.kind == Kind::Query;
        let acknowledgement = (!query && receipt.kind != Kind::StaleQuery).then(|| {
            let mut ack = Ack {
                epoch: 1,
                function_id: receipt.function_id,
                fence: receipt.fence,
                sequence: receipt.sequence,
                head: receipt.head_after,
                receipts_root: receipts_root(&receipts),
                time: receipt.time.plus(1),
            };
            (self.ack)(&mut ack);
            let acks = [sha256(b"one"), ack.digest(cluster), sha256(b"three")].map(merkle::leaf);
            let mut batch = AckBatch { epoch: 1, root: merkle::root(&acks), time: receipt.time.plus(1) };
            (self.batch)(&mut batch);
            QuorumAck {
                ack,
                batch_path: merkle::proof(&acks, 1).unwrap(),
                signatures: sign(&self.acknowledgers, batch.digest(cluster)),
                batch,
                receipt_path: receipt_path.clone(),
            }
        });
        let confirmation = query.then(|| {
            let position = Position { fence: receipt.fence, sequence: receipt.sequence, head: receipt.head_after };
            let positions = [sha256(b"other"), confirmation_leaf(receipt.function_id, &position)];
            let mut quorum =
                QuorumConfirmation { epoch: 1, nonce: query_nonce(&receipts), receipt_path, signatures: vec![] };
            for (index, skew) in self.acknowledgers.iter().zip(0..) {
                let mut signed = SignedConfirmation {
                    index: *index,
                    time: receipt.time.plus(skew),
                    path: merkle::proof(&positions, 1).unwrap(),
                    signature: worker.chain.sign(Digest::ZERO),
                };
                let statement = quorum.statement(&receipt, &signed).digest(cluster);
                signed.signature = gatekeepers[*index as usize].chain.sign(statement);
                quorum.signatures.push(signed);
            }
            quorum
        });
        let (mut log, mut store) = (Log::new(), TileStore::default());
        for byte in 0..11u8 {
            log.append(if byte == 5 { digest } else { Digest::from([byte; 32]) });
        }
        let publication = log.publish();
        store.write(&publication.tiles);
        let checkpoint = publication.checkpoint(log_origin(cluster, self.certificate.worker));
        Bundle {
            version: VERSION,
            cluster,
            signature: worker.chain.sign(digest),
            receipt,
            certificate: SignedCertificate {
                certificate: self.certificate.clone(),
                keyset: worker.keyset,
                signatures: sign(&self.certifiers, id.into_bytes().into()),
            },
            openings: self.openings.clone(),
            effects: self.effects.clone(),
            code: Some(self.code.clone()),
            acknowledgement,
            confirmation,
            log: Some(LogProof {
                index: 5,
                path: log.inclusion_proof(5, &mut store.reader()).unwrap(),
                checkpoint: checkpoint.sign(&worker.note),
            }),
            evidence: None,
        }
    }
}
