//! A node that lies when it is told to: its keys are attested by a simulated chip like those of a real one, and what it says with
//! them is up to the test.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path as UrlPath, Query, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures::stream;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tacit_attest::{Policy, Preset};
use tacit_envelope::{
    CHUNKED_RESPONSE_MEDIA_TYPE, Fields, Kem, KeyPair, Limits, Request, response_end, response_piece, response_start,
};
use tacit_receipt::{
    Log, LogProof, TileId, TileStore,
    aci::{
        AttestationReport, Event, InferenceEvent, InferenceOutcome, PrefixedDigest, ReceiptDraft, ReportEvidence,
        ServiceCapabilities, Serving, TacitEvidence, TokenUsage, parse_nonce,
    },
    log_origin,
};
use tacit_simulator::{Machine as Chip, Root};
use tacit_types::{
    ClusterId, Digest, UnixTime,
    keyset::{ACI_KEY_ID, ED25519, Keyset, OHTTP, PublicKey, SECP256K1_EIP712, TlsKey, report_data},
    signature::{NoteKey, SigningKey},
};
use tacit_verify::Judge;
use tokio::{net::TcpListener, task::AbortHandle};

use super::now;

/// What stands for the measured program.
const PROGRAM: [u8; 48] = [0x2a; 48];
pub const MODEL_DIGEST: [u8; 32] = [0xec; 32];
const LIMITS: Limits =
    Limits { control: 1 << 10, headers: 1 << 14, trailers: 0, fields: 64, body: 1 << 20, informational: 0 };

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// A member of the receipt is changed after it was signed.
    AlteredReceipt,
    /// The answer is not the one that the receipt names.
    AlteredResponse,
    /// The receipt of the exchange before is shown again.
    EarlierReceipt,
    /// The receipt's usage, signed, is not the answer's.
    OtherUsage,
    /// The receipt, signed, names another model than was asked for.
    OtherModelName,
    /// Another model than the one in the list answers; the receipt says so.
    SwappedModel,
    /// No receipt is named.
    NoReceipt,
    /// The receipt named is not there.
    LostReceipt,
    /// The log begins anew, with other entries.
    ForgetfulLog,
    /// The proof is that of another entry.
    NotInLog,
    /// The seal's last chunk never comes.
    Cut,
    /// The answer says that it is of another keyset.
    OtherKeyset,
}

struct Keys {
    ohttp: KeyPair,
    receipts: NoteKey,
    log: NoteKey,
    account: SigningKey,
    keyset: Keyset,
}

struct Shared {
    chip: Chip,
    keys: Keys,
    flaw: Mutex<Flaw>,
    log: Mutex<(Log, TileStore)>,
    receipts: Mutex<Vec<(String, Value, LogProof)>>,
    /// Requests that were opened, by path.
    opened: Mutex<HashMap<String, usize>>,
}

pub struct StandIn {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
    root: Root,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.tasks.lock().unwrap().drain(..).for_each(|task| task.abort());
    }
}

fn public(key_id: &str, algo: &str, key: &[u8]) -> PublicKey {
    PublicKey { key_id: key_id.into(), algo: algo.into(), public_key: hex::encode(key) }
}

impl StandIn {
    /// A node in `folder`, at `address` (port 0 for a free one). With `intercepted`, its TLS ends in somebody else's key.
    pub async fn start(folder: &Path, address: &str, intercepted: bool) -> Self {
        let root_folder = folder.join("root");
        let root = || Root::open_or_create(&root_folder, "stand-in", now()).unwrap();
        let chip = Chip::open(&folder.join("chip"), root(), "stand-in", &[], now()).unwrap();
        let tls = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let shown = if intercepted {
            rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
        } else {
            rcgen::KeyPair::try_from(tls.serialize_der().as_slice()).unwrap()
        };
        let mut rng = rand::rng();
        let (ohttp, receipts) = (KeyPair::generate(&mut rng, 1, Kem::XWing), NoteKey::generate(&mut rng));
        let (log, account) = (NoteKey::generate(&mut rng), SigningKey::generate(&mut rng));
        let keyset = Keyset {
            subject: Some("stand-in".into()),
            not_after: now().plus(86_400),
            receipt_signing_keys: vec![
                public("log", ED25519, &log.public_key()),
                public(ACI_KEY_ID, ED25519, &receipts.public_key()),
                public("receipt", SECP256K1_EIP712, &account.public_key()),
            ],
            e2ee_public_keys: vec![public("ohttp", OHTTP, &ohttp.config().encode())],
            tls_public_keys: vec![TlsKey {
                spki_sha256: hex::encode(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&tls))),
                domain: None,
            }],
        };
        let shared = Arc::new(Shared {
            chip,
            keys: Keys { ohttp, receipts, log, account, keyset },
            flaw: Mutex::new(Flaw::None),
            log: Mutex::default(),
            receipts: Mutex::default(),
            opened: Mutex::default(),
        });
        let tasks = Arc::new(Mutex::new(Vec::new()));
        let address = listen(address, &shown, Arc::clone(&shared), Arc::clone(&tasks)).await;
        Self { address, shared, tasks, root: root() }
    }

    pub fn be(&self, flaw: Flaw) {
        *self.shared.flaw.lock().unwrap() = flaw;
    }

    /// How many requests to this path were opened.
    pub fn opened(&self, path: &str) -> usize {
        self.shared.opened.lock().unwrap().get(path).copied().unwrap_or_default()
    }

    pub fn url(&self) -> reqwest::Url {
        format!("https://{}", self.address).parse().unwrap()
    }

    /// A policy under which it holds.
    pub fn policy(&self) -> Policy {
        self.root_policy().with_image("stand-in", &[self.shared.chip.measurement(PROGRAM)])
    }

    /// A policy that names its root, and whatever code others run.
    pub fn root_policy(&self) -> Policy {
        Policy::preset(Preset::Dev).with_name("test").with_root(self.root.policy_entry("SIM test").unwrap())
    }

    pub fn judge(&self) -> Judge {
        Judge::Policy(Box::new(self.policy()))
    }
}

async fn listen(
    address: &str,
    key: &rcgen::KeyPair,
    shared: Arc<Shared>,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
) -> SocketAddr {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(key).unwrap();
    let certificate = CertificateDer::from(certificate.der().to_vec());
    let secret = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], secret.into());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.unwrap()));
    let router = Router::new()
        .route("/v1/aci/attestation", get(attestation))
        .route("/v1/sealed", post(sealed))
        .route("/log/{account}/checkpoint", get(checkpoint))
        .route("/log/{account}/tile/{*path}", get(tile))
        .with_state(shared);
    let mut bound = TcpListener::bind(address).await;
    for _ in 0..100 {
        // The one before lets the address go a moment after it is dropped.
        if !bound.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        bound = TcpListener::bind(address).await;
    }
    let listener = bound.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::clone(&tasks);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            let connection = tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
            connections.lock().unwrap().push(connection.abort_handle());
        }
    });
    tasks.lock().unwrap().push(task.abort_handle());
    address
}

async fn attestation(State(shared): State<Arc<Shared>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let nonce = parse_nonce(&query["nonce"]).unwrap();
    let digest = shared.keys.keyset.digest().unwrap();
    let evidence = shared.chip.quote(PROGRAM, &report_data(digest, Some(nonce))).unwrap();
    let collateral = shared.chip.collateral(now()).unwrap();
    let report = AttestationReport::new(
        shared.keys.keyset.clone(),
        Some(nonce),
        evidence.platform(),
        ReportEvidence {
            quote: Some(hex::encode(evidence.document())),
            event_log: evidence.event_log().map(str::to_owned),
            app_compose: Some(shared.chip.app_compose().to_owned()),
            tacit: Some(TacitEvidence {
                kind: evidence.platform(),
                boot_log: None,
                collateral: Some(serde_json::from_slice(&collateral.to_json()).unwrap()),
                certificate: None,
            }),
            ..ReportEvidence::default()
        },
        tacit_receipt::aci::SourceProvenance::of_compose(shared.chip.app_compose()),
        ServiceCapabilities { supported_e2ee_versions: Vec::new(), serving: Serving::Direct },
    );
    axum::Json(report.unwrap()).into_response()
}

async fn sealed(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let (start, rest) = body.split_at(shared.keys.ohttp.chunked_start_length());
    let Ok(mut opener) = shared.keys.ohttp.open_chunked_request(start) else {
        return (axum::http::StatusCode::BAD_REQUEST, "other keys").into_response();
    };
    let mut plain = opener.push(rest).unwrap();
    let (last, nonce, mut sealer) = opener.finish(&mut rand::rng()).unwrap();
    plain.extend(last);
    let request = Request::decode(&plain, &LIMITS).unwrap();
    *shared.opened.lock().unwrap().entry(request.path.clone()).or_default() += 1;
    let answer = shared.answer(&request);
    let mut pieces = vec![nonce, sealer.seal(&response_start(answer.status, &answer.headers).unwrap()).unwrap()];
    for piece in &answer.pieces {
        pieces.push(sealer.seal(&response_piece(piece)).unwrap());
    }
    if !answer.cut {
        pieces.push(sealer.finish(&response_end(&Fields::new()).unwrap()).unwrap());
    }
    let body = stream::iter(pieces.into_iter().map(Ok::<_, std::convert::Infallible>));
    ([("content-type", CHUNKED_RESPONSE_MEDIA_TYPE)], Body::from_stream(body)).into_response()
}

async fn checkpoint(State(shared): State<Arc<Shared>>) -> String {
    let log = shared.log.lock().unwrap();
    log.0.publish().checkpoint(shared.origin()).sign(&shared.keys.log)
}

async fn tile(State(shared): State<Arc<Shared>>, UrlPath((_, path)): UrlPath<(String, String)>) -> Response {
    let id = TileId::parse(&format!("tile/{path}")).unwrap();
    match shared.log.lock().unwrap().1.read(&id) {
        Some(tile) => tile.into_response(),
        None => axum::http::StatusCode::NOT_FOUND.into_response(),
    }
}

struct Answer {
    status: u16,
    headers: Fields,
    pieces: Vec<Vec<u8>>,
    cut: bool,
}

impl Answer {
    fn document(status: u16, body: &Value) -> Self {
        let mut headers = Fields::new();
        headers.push("content-type", "application/json");
        Self { status, headers, pieces: vec![body.to_string().into_bytes()], cut: false }
    }
}

impl Shared {
    fn origin(&self) -> String {
        log_origin(ClusterId::ZERO, self.keys.account.address())
    }

    fn answer(&self, request: &Request) -> Answer {
        let flaw = *self.flaw.lock().unwrap();
        if request.path == "/v1/models" {
            let digest = PrefixedDigest::from(Digest::from(MODEL_DIGEST)).to_string();
            return Answer::document(200, &json!({ "object": "list", "data": [{ "id": "echo", "digest": digest }] }));
        }
        if let Some(id) = request.path.strip_prefix("/v1/aci/receipts/") {
            let (id, place) = id.strip_suffix("/log").map_or((id, false), |id| (id, true));
            let receipts = self.receipts.lock().unwrap();
            let found = match flaw {
                Flaw::EarlierReceipt => receipts.iter().rev().find(|(own, ..)| own != id),
                Flaw::LostReceipt => None,
                _ => receipts.iter().find(|(own, ..)| own == id),
            };
            return match found {
                Some((_, _, proof)) if place => Answer::document(200, &serde_json::to_value(proof).unwrap()),
                Some((_, receipt, _)) => Answer::document(200, receipt),
                None => Answer::document(404, &json!({ "error": { "message": "no such receipt" } })),
            };
        }
        self.infer(request, flaw)
    }

    fn infer(&self, request: &Request, flaw: Flaw) -> Answer {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        let usage = json!({ "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 });
        let mut pieces: Vec<Vec<u8>> = if asked["stream"] == true {
            let event = |delta: Value| format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": delta }] }));
            let closing = format!("data: {}\n\ndata: [DONE]\n\n", json!({ "choices": [], "usage": usage }));
            [event(json!({ "content": "good" })), event(json!({ "content": " day" })), closing]
                .map(String::into_bytes)
                .into()
        } else {
            let choice = json!({ "index": 0, "message": { "role": "assistant", "content": "hello" } });
            vec![json!({ "choices": [choice], "usage": usage }).to_string().into_bytes()]
        };
        let id = format!("rcpt_{:04}", self.receipts.lock().unwrap().len());
        let swapped = flaw == Flaw::SwappedModel;
        let draft = ReceiptDraft {
            receipt_id: id.clone(),
            chat_id: None,
            model: Some(if flaw == Flaw::OtherModelName {
                "other".into()
            } else {
                asked["model"].as_str().unwrap().into()
            }),
            keyset: self.keys.keyset.digest().unwrap(),
            endpoint: request.path.clone(),
            method: "POST".into(),
            served_at: UnixTime(now().0),
            events: vec![
                Event::received(&request.body),
                Event::forwarded(&request.body),
                Event::Inference(InferenceEvent {
                    model_digest: Digest::from(if swapped { [0xba; 32] } else { MODEL_DIGEST }).into(),
                    adapters: Vec::new(),
                    sampling_hash: PrefixedDigest::of(b""),
                    seed: None,
                    usage: TokenUsage {
                        prompt_tokens: 3,
                        cached_tokens: 0,
                        completion_tokens: if flaw == Flaw::OtherUsage { 200 } else { 2 },
                    },
                    price: None,
                    outcome: if flaw == Flaw::Cut { InferenceOutcome::Cancelled } else { InferenceOutcome::Ok },
                }),
                Event::returned(&pieces.concat()),
            ],
        };
        let receipt = draft.sign(ACI_KEY_ID, &self.keys.receipts).unwrap();
        let mut document = receipt.document().clone();
        if flaw == Flaw::AlteredReceipt {
            document["event_log"][2]["usage"]["prompt_tokens"] = 2.into();
        }
        if flaw == Flaw::AlteredResponse {
            *pieces.last_mut().unwrap().first_mut().unwrap() ^= 1;
        }
        let proof = self.append(receipt.digest(), flaw);
        self.receipts.lock().unwrap().push((id.clone(), document, proof));
        let mut headers = Fields::new();
        let kind = if asked["stream"] == true { "text/event-stream; charset=utf-8" } else { "application/json" };
        headers.push("content-type", kind);
        if flaw != Flaw::NoReceipt {
            headers.push("x-receipt-id", id);
        }
        let keyset = if flaw == Flaw::OtherKeyset {
            PrefixedDigest::of(b"other")
        } else {
            PrefixedDigest::from(self.keys.keyset.digest().unwrap())
        };
        headers.push("x-aci-keyset-digest", keyset.to_string());
        if flaw == Flaw::Cut {
            pieces.pop();
        }
        Answer { status: 200, headers, pieces, cut: flaw == Flaw::Cut }
    }

    fn append(&self, receipt: Digest, flaw: Flaw) -> LogProof {
        let mut log = self.log.lock().unwrap();
        if flaw == Flaw::ForgetfulLog {
            *log = Default::default();
            for number in 0..5 {
                log.0.append(Digest::from([number; 32]));
            }
        }
        let index = log.0.append(receipt);
        let publication = log.0.publish();
        let checkpoint = publication.checkpoint(self.origin()).sign(&self.keys.log);
        let (log, tiles) = &mut *log;
        tiles.write(&publication.tiles);
        log.written(publication.size);
        let index = if flaw == Flaw::NotInLog { 0 } else { index };
        let path = log.inclusion_proof(index, &mut tiles.reader()).unwrap();
        LogProof { index, path, checkpoint }
    }
}
