//! One engine for all tests, and a host in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tacit_runtime::{
    Call, CallOutcome, Destination, Engine, EngineConfig, Failure, FetchRequest, FetchResponse, Host, HostError, Limit,
    Limits, ModelAnswer, ModelRun, ModelTask, Program, Tensor,
};
use zeroize::Zeroizing;

/// The receipt of every answer of a model.
pub const RECEIPT: &[u8] = br#"{"receipt_id":"rcpt_1"}"#;

pub fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(EngineConfig { concurrency: 32, ..EngineConfig::default() }).unwrap()).clone()
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// A host in memory. Fetches answer after `delay` with their own URL.
#[derive(Default)]
pub struct MemoryHost {
    pub state: Mutex<BTreeMap<String, Bytes>>,
    pub secrets: BTreeMap<String, String>,
    pub delay: Duration,
    /// Sequences of publications by topic.
    pub published: Mutex<BTreeMap<String, u64>>,
    pub open: AtomicUsize,
    pub most_open: AtomicUsize,
}

impl MemoryHost {
    pub fn apply(&self, outcome: &CallOutcome) {
        let mut state = self.state.lock().unwrap();
        for write in &outcome.writes {
            match &write.value {
                Some(value) => state.insert(write.key.clone(), value.clone()),
                None => state.remove(&write.key),
            };
        }
        for publication in &outcome.publications {
            self.published.lock().unwrap().insert(publication.topic.clone(), publication.sequence);
        }
    }
}

#[async_trait]
impl Host for MemoryHost {
    async fn state_get(&self, key: &str) -> Result<Option<Bytes>, HostError> {
        Ok(self.state.lock().unwrap().get(key).cloned())
    }

    async fn state_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, HostError> {
        let state = self.state.lock().unwrap();
        let entries =
            state.iter().filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        Ok(entries.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn secret(&self, name: &str) -> Result<Option<Zeroizing<String>>, HostError> {
        Ok(self.secrets.get(name).cloned().map(Zeroizing::new))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, HostError> {
        if request.url.contains("broken.example") {
            return Err(HostError::Unavailable("broken.example cannot be reached".into()));
        }
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        self.open.fetch_sub(1, Ordering::SeqCst);
        let body = match request.body {
            Some(body) => body,
            None => format!("{{\"url\":\"{}\",\"method\":\"{}\"}}", request.url, request.method).into(),
        };
        Ok(FetchResponse {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body,
            url: request.url,
            redirected: false,
            server_key: [7; 32],
        })
    }

    /// Says the last word of the request after `delay`, with a receipt; a model called `full` refuses.
    async fn model(&self, task: ModelTask, request: Bytes) -> Result<ModelAnswer, HostError> {
        let request: Value = serde_json::from_slice(&request).map_err(|_| HostError::Invalid("no JSON".into()))?;
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        self.open.fetch_sub(1, Ordering::SeqCst);
        let receipt = Some(Bytes::from_static(RECEIPT));
        match request["model"].as_str() {
            Some("small") => {
                let body = json!({ "task": format!("{task:?}"), "said": request["say"] }).to_string().into();
                Ok(ModelAnswer { status: 200, body, receipt, model: Some([3; 32]) })
            }
            Some("full") => {
                let error = json!({ "message": "too long", "code": "context_length_exceeded", "param": "messages" });
                Ok(ModelAnswer {
                    status: 400,
                    body: json!({ "error": error }).to_string().into(),
                    receipt,
                    model: None,
                })
            }
            _ => Err(HostError::Denied("the manifest does not allow it".into())),
        }
    }

    /// Gives every input back, its name and the order turned round.
    async fn run_model(&self, model: &str, inputs: Vec<Tensor>) -> Result<ModelRun, HostError> {
        if model != "mirror" {
            return Err(HostError::Denied("the manifest does not allow it".into()));
        }
        let turned = |tensor: Tensor| Tensor { name: tensor.name.chars().rev().collect(), ..tensor };
        Ok(ModelRun { outputs: inputs.into_iter().rev().map(turned).collect(), model: [4; 32] })
    }

    async fn destination(&self, chain: &str, contract: &str, topic: &str) -> Result<Destination, HostError> {
        if chain != "local" {
            return Err(HostError::Denied(format!("nothing may go to {chain}")));
        }
        let contract = contract.parse().map_err(|_| HostError::Invalid("not a contract's address".into()))?;
        let last = self.published.lock().unwrap().get(topic).copied().unwrap_or(0);
        Ok(Destination { chain_id: 31_337, contract, last })
    }

    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
    }
}

/// Compiles JavaScript.
pub fn program(source: &str) -> Program {
    block_on(engine().compile_js(source, None)).unwrap_or_else(|error| panic!("{error}"))
}

/// Calls with a seed of its own for each call.
pub fn call(program: &Program, call: Call) -> CallOutcome {
    call_on(program, call, Arc::new(MemoryHost::default()))
}

pub fn call_on(program: &Program, call: Call, host: Arc<MemoryHost>) -> CallOutcome {
    block_on(engine().call(program, call, host))
}

pub fn command(method: &str, input: &str) -> Call {
    static CALLS: AtomicUsize = AtomicUsize::new(1);
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&CALLS.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    Call::command(method, input.to_owned(), seed)
}

/// Runs `export async function main(input) { … }` and returns its JSON.
pub fn run(body: &str) -> String {
    let program = program(&format!(
        "import {{ state, secrets, request, log }} from 'tacit';\nexport async function main(input) {{ {body} }}"
    ));
    let outcome = call(&program, command("main", "null"));
    text(&outcome)
}

pub fn check(body: &str, expected: &str) {
    assert_eq!(run(body), expected, "{body}");
}

pub fn text(outcome: &CallOutcome) -> String {
    match &outcome.result {
        Ok(output) => String::from_utf8(output.body.to_vec()).unwrap(),
        Err(failure) => panic!("{failure:?}"),
    }
}

pub fn limited(program: &Program, method: &str, limits: Limits) -> CallOutcome {
    call(program, Call { limits, ..command(method, "null") })
}

pub fn expect_limit(outcome: &CallOutcome, limit: Limit) {
    assert_eq!(outcome.result, Err(Failure::Limit(limit)));
    assert!(outcome.writes.is_empty());
}
