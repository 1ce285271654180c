//! A service of confidential inference on a simulated machine: everything that it says and signs, to be changed and signed anew.

use std::path::Path;

use rand::{SeedableRng, rngs::StdRng};
use tacit_attest::{Collateral, Policy, Preset};
use tacit_envelope::e2ee::{E2eeSecretKey, Suite};
use tacit_receipt::aci::{
    AciReceipt, AttestationReport, Event, InferenceEvent, InferenceOutcome, PrefixedDigest, Price, ReceiptDraft,
    ReportEvidence, ServiceCapabilities, Serving, SourceProvenance, TacitEvidence, TokenUsage, sampling_hash,
};
use tacit_receipt::{Log, LogProof, TileStore};
use tacit_simulator::{Hardware, Machine, Root, Setup};
use tacit_types::eip712::Platform;
use tacit_types::keyset::{ACI_KEY_ID, ED25519, Keyset, PublicKey, SECP256K1_EIP712, TlsKey, report_data};
use tacit_types::signature::{NoteKey, SigningKey};
use tacit_types::{Digest, UnixTime};
use tacit_verify::aci::{Channel, TRANSCRIPT_FORMAT, Transcript, TranscriptLog};

use crate::golden::EXECUTABLE;

/// When the exchange was.
pub const SERVED: UnixTime = UnixTime(1_790_003_600);
/// The nonce of the report.
pub const NONCE: [u8; 32] = [0x17; 32];
pub const HOST: &str = "ai.example.com";
pub const SPKI: [u8; 32] = [0xc0; 32];
pub const REQUEST: &[u8] =
    br#"{"model":"smollm2-135m-instruct","messages":[{"role":"user","content":"Say hi."}],"temperature":0}"#;
pub const RESPONSE: &[u8] = br#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}"#;

pub struct Service {
    pub machine: Machine,
    pub keyset: Keyset,
    pub chain: SigningKey,
    pub note: NoteKey,
    pub aci: NoteKey,
    /// A policy that names the root and lists what runs.
    pub policy: Policy,
}

impl Service {
    /// A service on a new machine under a new root in `directory`.
    pub fn new(directory: &Path, hardware: Hardware) -> Self {
        let path = directory.join("root");
        let root = Root::create(&path, "ai-sim", SERVED.minus(3_600)).unwrap();
        let setup = Setup { hardware, name: "ai".into(), ..Setup::default() };
        let machine = Machine::open_as(&directory.join("ai"), Root::open(&path).unwrap(), &setup, SERVED).unwrap();
        let policy = Policy::preset(Preset::Dev)
            .with_root(root.policy_entry("SIMULATED ai-sim").unwrap())
            .with_image("tacit", &[machine.measurement(EXECUTABLE)]);
        Self::on(machine, policy)
    }

    pub fn on(machine: Machine, policy: Policy) -> Self {
        let (chain, note, aci) = (
            SigningKey::from_bytes(&[0x40; 32]).unwrap(),
            NoteKey::from_bytes(&[0x41; 32]),
            NoteKey::from_bytes(&[0x42; 32]),
        );
        let key = |key_id: &str, algo: &str, bytes: &[u8]| PublicKey {
            key_id: key_id.into(),
            algo: algo.into(),
            public_key: hex::encode(bytes),
        };
        let ohttp = tacit_envelope::KeyPair::generate(&mut StdRng::seed_from_u64(0x40), 1, tacit_envelope::Kem::X25519);
        let sealed = |suite, byte| E2eeSecretKey::from_bytes(suite, &[byte; 32]).unwrap();
        let keyset = Keyset {
            subject: Some("tacit-worker".into()),
            not_after: SERVED.plus(86_400 * 300),
            receipt_signing_keys: vec![
                key("log", ED25519, &note.public_key()),
                key("receipt", SECP256K1_EIP712, &chain.public_key()),
                key(ACI_KEY_ID, ED25519, &aci.public_key()),
            ],
            e2ee_public_keys: vec![
                key("ohttp", "ohttp", &ohttp.config().encode()),
                sealed(Suite::X25519, 0x43).entry("e2ee-x25519"),
                sealed(Suite::Secp256k1, 0x44).entry("e2ee-secp256k1"),
            ],
            tls_public_keys: vec![TlsKey { spki_sha256: hex::encode(SPKI), domain: Some(HOST.into()) }],
        };
        Self { machine, keyset, chain, note, aci, policy }
    }

    pub fn platform(&self) -> Platform {
        match self.machine.hardware() {
            Hardware::Tdx => Platform::Tdx,
            Hardware::Sgx => Platform::Sgx,
            Hardware::SevSnp { .. } => Platform::SevSnp,
        }
    }

    /// The report over a nonce, as a worker makes it out of what the guest agent answers.
    pub fn report(&self, nonce: Option<Digest>) -> AttestationReport {
        let data = report_data(self.keyset.digest().unwrap(), nonce);
        let evidence = self.machine.quote(EXECUTABLE, &data).unwrap();
        let collateral: Collateral = self.machine.collateral(SERVED).unwrap();
        let compose = (self.platform() == Platform::Tdx).then(|| self.machine.app_compose().to_owned());
        AttestationReport::new(
            self.keyset.clone(),
            nonce,
            self.platform(),
            ReportEvidence {
                quote: Some(hex::encode(evidence.document())),
                quote_report_data: Some(hex::encode(data)),
                event_log: evidence.event_log().map(str::to_owned),
                vm_config: Some("{}".into()),
                tacit: Some(TacitEvidence {
                    kind: self.platform(),
                    boot_log: None,
                    collateral: Some(serde_json::from_slice(&collateral.to_json()).unwrap()),
                    certificate: None,
                }),
                app_compose: compose.clone(),
                ..ReportEvidence::default()
            },
            compose.as_deref().and_then(SourceProvenance::of_compose),
            ServiceCapabilities { supported_e2ee_versions: vec!["2".into()], serving: Serving::Direct },
        )
        .unwrap()
    }

    pub fn draft(&self) -> ReceiptDraft {
        ReceiptDraft {
            receipt_id: "rcpt-0f3c".into(),
            chat_id: Some("chatcmpl-1".into()),
            model: Some("smollm2-135m-instruct".into()),
            keyset: self.keyset.digest().unwrap(),
            endpoint: "/v1/chat/completions".into(),
            method: "POST".into(),
            served_at: SERVED,
            events: vec![
                Event::received(REQUEST),
                Event::forwarded(REQUEST),
                Event::Inference(inference()),
                Event::returned(RESPONSE),
            ],
        }
    }

    pub fn sign(&self, draft: ReceiptDraft) -> AciReceipt {
        draft.sign(ACI_KEY_ID, &self.aci).unwrap()
    }

    /// The receipt's place among others in the service's log.
    pub fn log(&self, receipt: &AciReceipt) -> TranscriptLog {
        let (mut log, mut store) = (Log::new(), TileStore::default());
        for byte in 0..11u8 {
            log.append(if byte == 5 { receipt.digest() } else { Digest::from([byte; 32]) });
        }
        let publication = log.publish();
        store.write(&publication.tiles);
        let origin = format!("tacit/serve/{}", self.chain.address());
        TranscriptLog {
            proof: LogProof {
                index: 5,
                path: log.inclusion_proof(5, &mut store.reader()).unwrap(),
                checkpoint: publication.checkpoint(origin.clone()).sign(&self.note),
            },
            origin,
        }
    }

    pub fn transcript(&self) -> Transcript {
        let receipt = self.sign(self.draft());
        Transcript {
            format: TRANSCRIPT_FORMAT.into(),
            report: Transcript::normal_report(&self.report(Some(NONCE.into()))).unwrap(),
            nonce: Digest::from(NONCE).into(),
            request: REQUEST.to_vec(),
            response: RESPONSE.to_vec(),
            log: Some(self.log(&receipt)),
            receipt: receipt.document().clone(),
            session: None,
            channel: Some(channel()),
        }
    }
}

pub fn channel() -> Channel {
    Channel { host: HOST.into(), spki_sha256: Digest::from(SPKI).into() }
}

pub fn inference() -> InferenceEvent {
    InferenceEvent {
        model_digest: PrefixedDigest::of(b"the manifest of smollm2-135m-instruct"),
        adapters: vec![],
        sampling_hash: sampling_hash([("temperature", "0")]),
        seed: Some(7),
        usage: TokenUsage { prompt_tokens: 12, cached_tokens: 4, completion_tokens: 3 },
        price: Some(Price { currency: "USD-nano".into(), amount: "1900".into() }),
        outcome: InferenceOutcome::Ok,
    }
}
