//! `bench runtime`: how long a fresh sandbox takes, and what interpreted JavaScript costs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tacit_types::manifest::MethodKind;
use zeroize::Zeroizing;

use crate::{Call, Engine, EngineConfig, FetchRequest, FetchResponse, Host, HostError, Limits, Program, RuntimeError};

mod http;
mod peers;

/// One row of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the row.
    pub row: String,
    /// Unit of `value`.
    pub unit: String,
    /// What was measured.
    pub value: f64,
    /// What it should be, with its sense; `report` where nothing is promised.
    pub target: String,
    /// What it was measured beside, with its own figure.
    pub peer: Option<String>,
    /// How many measurements.
    pub n: u64,
    /// What a reader must know.
    pub note: String,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The engine does not start, or a program does not load.
    #[error("the benchmark's own programs do not load")]
    Runtime(#[from] RuntimeError),
    /// A call failed.
    #[error("a measured call failed: {0}")]
    Call(crate::Failure),
    /// No loopback server.
    #[error("the loopback server does not start")]
    Server(#[from] std::io::Error),
}

/// The method that the fresh rows call: read JSON, compute a little, answer JSON.
const SMALL: &str = "export async function main(input) { return { greeting: `Hello, ${input.name}!`, total: input.values.map((x) => x * 2).reduce((a, b) => a + b, 0) }; }";

/// Its input.
const INPUT: &str = r#"{"name":"Ada","values":[1,2,3,4,5]}"#;

/// Measures all rows that this machine can measure. Missing peers drop their rows, with a line to `say`.
///
/// # Errors
/// Fails when the engine itself does not work.
pub async fn run(say: &mut (dyn FnMut(String) + Send)) -> Result<Vec<Row>, BenchError> {
    let engine = Engine::new(EngineConfig::default())?;
    let mut rows = Vec::new();
    let javascript = engine.compile_js(SMALL, None).await?;
    rows.push(
        fresh(
            &engine,
            &javascript,
            "runtime.js.shared.fresh",
            "main",
            INPUT,
            "≤ 50",
            "shared image and bytecode handed in; instantiate + call + drop",
        )
        .await?,
    );
    let rust = engine.load_component(Bytes::from_static(include_bytes!(env!("TACIT_HELLO_PATH")))).await?;
    rows.push(
        fresh(
            &engine,
            &rust,
            "runtime.rust.fresh",
            "greet",
            r#"{"name":"Ada"}"#,
            "≤ 15",
            "component of examples/hello-rust; instantiate + call + drop",
        )
        .await?,
    );
    rows.extend(peers::cpu(&engine, say).await?);
    rows.extend(http::beside_workerd(&engine, say).await?);
    Ok(rows)
}

/// A folder of a benchmark's own, which goes with this value, also when the benchmark is cut off.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tacit-bench-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing is lost with a folder that stays.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A host with nothing behind it.
struct Nothing;

#[async_trait]
impl Host for Nothing {
    async fn state_get(&self, _key: &str) -> Result<Option<Bytes>, HostError> {
        Ok(None)
    }

    async fn state_list(
        &self,
        _prefix: &str,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<Vec<(String, Bytes)>, HostError> {
        Ok(Vec::new())
    }

    async fn secret(&self, _name: &str) -> Result<Option<Zeroizing<String>>, HostError> {
        Ok(None)
    }

    async fn fetch(&self, _request: FetchRequest) -> Result<FetchResponse, HostError> {
        Err(HostError::Denied("a benchmark has no network".into()))
    }

    fn now(&self) -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
    }
}

/// Median of many calls, one after the other, each in a sandbox of its own.
async fn fresh(
    engine: &Engine,
    program: &Program,
    row: &str,
    method: &str,
    input: &'static str,
    target: &str,
    note: &str,
) -> Result<Row, BenchError> {
    const WARM: u64 = 500;
    const N: u64 = 10_000;
    let host: Arc<dyn Host> = Arc::new(Nothing);
    let mut times = Vec::with_capacity(N as usize);
    for count in 0..WARM + N {
        let call = Call {
            kind: MethodKind::Query,
            ..Call::command(method, Bytes::from_static(input.as_bytes()), seed(count))
        };
        let started = Instant::now();
        let outcome = engine.call(program, call, Arc::clone(&host)).await;
        let time = started.elapsed();
        outcome.result.map_err(BenchError::Call)?;
        if count >= WARM {
            times.push(time);
        }
    }
    times.sort();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let note = format!("{note}; fuel on; min {:.1}, p90 {:.1}", micros(times[0]), micros(times[times.len() * 9 / 10]));
    Ok(Row {
        row: row.into(),
        unit: "µs p50".into(),
        value: micros(times[times.len() / 2]),
        target: target.into(),
        peer: None,
        n: N,
        note,
    })
}

fn seed(count: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&count.to_le_bytes());
    seed
}

/// Limits that no measured program meets.
fn generous() -> Limits {
    Limits { fuel: u64::MAX / 4, timeout: 300_000, memory: 512 << 20, ..Limits::default() }
}
