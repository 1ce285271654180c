//! The vendors' services on loopback, and simulated machines to ask them about.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Request, Response},
};
use tacit_attest::{Collateral, Evidence, Policy, Preset};
use tacit_peer::{CollateralCache, Endpoints};
use tacit_simulator::{Machine, Root};
use tacit_types::UnixTime;
use url::Url;

/// When everything here happens.
pub const NOW: UnixTime = UnixTime(1_795_000_000);

/// A simulated machine with its root.
pub struct Simulated {
    pub machine: Machine,
    pub policy: Policy,
    _folder: tempfile::TempDir,
}

impl Simulated {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::create(&folder.path().join("root"), "peer-test-sim", NOW).unwrap();
        let policy = Policy::preset(Preset::Dev).with_root(root.policy_entry("simulated").unwrap());
        let machine = Machine::open(&folder.path().join("chip"), root, "machine", &[], NOW).unwrap();
        Self { machine, policy, _folder: folder }
    }

    pub fn quote(&self, report_data: &[u8; 64]) -> Evidence {
        self.machine.quote([7; 48], report_data).unwrap()
    }
}

/// One answer of a service.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub delay: Duration,
}

impl Answer {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: vec![], body: body.into(), delay: Duration::ZERO }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::ok("") }
    }

    fn with(mut self, header: &'static str, value: &str) -> Self {
        let mut encoded = String::new();
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        self.headers.push((header, encoded));
        self
    }
}

type Answers = Arc<Mutex<HashMap<String, Answer>>>;

/// A server that answers by path and query, and counts.
pub struct Vendor {
    pub answers: Answers,
    pub asked: Arc<AtomicUsize>,
    pub base: Url,
}

impl Vendor {
    pub async fn start() -> Self {
        let (answers, asked) = (Answers::default(), Arc::new(AtomicUsize::new(0)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().fallback(answer).with_state((Arc::clone(&answers), Arc::clone(&asked)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { answers, asked, base }
    }

    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            pccs: self.base.clone(),
            intel_root_crl: self.base.join("root.crl").unwrap(),
            kds: self.base.clone(),
            rim: self.base.clone(),
            ocsp: self.base.join("ocsp").unwrap(),
        }
    }

    pub fn cache(&self) -> CollateralCache {
        CollateralCache::new(self.endpoints(), Duration::from_secs(2)).unwrap()
    }

    pub fn set(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Publishes what a simulated vendor publishes at a time, as Intel does.
    pub fn publish(&self, simulated: &Simulated, now: UnixTime, update: &str) {
        self.publish_for(&simulated.machine, now, update);
    }

    pub fn publish_for(&self, machine: &Machine, now: UnixTime, update: &str) {
        let Collateral::Intel(given) = machine.collateral(now).unwrap() else { panic!("not Intel's") };
        let signed = |name: &str, document: &str, signature: &[u8]| {
            format!(r#"{{"{name}":{document},"signature":"{}"}}"#, hex::encode(signature))
        };
        let fmspc = fmspc(&given.tcb_info);
        self.set(
            "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            Answer::ok(given.pck_crl.clone()).with("SGX-PCK-CRL-Issuer-Chain", &given.pck_crl_issuer_chain),
        );
        self.set(
            &format!("/tdx/certification/v4/tcb?fmspc={fmspc}&update={update}"),
            Answer::ok(signed("tcbInfo", &given.tcb_info, &given.tcb_info_signature))
                .with("TCB-Info-Issuer-Chain", &given.tcb_info_issuer_chain),
        );
        self.set(
            &format!("/tdx/certification/v4/qe/identity?update={update}"),
            Answer::ok(signed("enclaveIdentity", &given.qe_identity, &given.qe_identity_signature))
                .with("SGX-Enclave-Identity-Issuer-Chain", &given.qe_identity_issuer_chain),
        );
        self.set("/root.crl", Answer::ok(given.root_ca_crl.clone()));
    }
}

fn fmspc(tcb_info: &str) -> String {
    let rest = tcb_info.split_once("\"fmspc\":\"").unwrap().1;
    rest.split_once('"').unwrap().0.to_uppercase()
}

async fn answer(State((answers, asked)): State<(Answers, Arc<AtomicUsize>)>, request: Request<Body>) -> Response<Body> {
    asked.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path_and_query().unwrap().to_string();
    let found = answers.lock().unwrap().get(&path).cloned();
    let Some(found) = found else { return Response::builder().status(404).body(Body::empty()).unwrap() };
    tokio::time::sleep(found.delay).await;
    let mut response = Response::builder().status(found.status);
    for (name, value) in &found.headers {
        response = response.header(*name, value);
    }
    // What is posted comes back behind the answer, so that a test sees that it arrived.
    let posted = axum::body::to_bytes(request.into_body(), 1 << 16).await.unwrap_or(Bytes::new());
    response.body(Body::from([found.body.as_slice(), &posted].concat())).unwrap()
}
