//! CPU time of interpreted JavaScript beside native QuickJS and Node.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{BenchError, Nothing, Row, Scratch, generous, seed};
use crate::{Call, Engine, Host};

/// Three programs that compute; the same text runs in the peers.
const WORK: &str = r#"
export function fib(n = 25) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
export function json() {
  const rows = Array.from({ length: 200 }, (_, i) => ({ id: i, name: "row " + i, tags: ["a", "b", "c"], nested: { x: i / 3, y: [i, i + 1] } }));
  let length = 0;
  for (let i = 0; i < 100; i++) length += JSON.stringify(JSON.parse(JSON.stringify(rows))).length;
  return length;
}
export function sha256() {
  const K = [], H0 = [];
  const frac = (x) => ((x - Math.floor(x)) * 4294967296) | 0;
  for (let n = 2; K.length < 64; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) { prime = false; break; }
    if (prime) { if (H0.length < 8) H0.push(frac(Math.sqrt(n))); K.push(frac(Math.cbrt(n))); }
  }
  const w = new Int32Array(64), block = new Int32Array(16), h = Int32Array.from(H0);
  const r = (x, n) => (x >>> n) | (x << (32 - n));
  for (let count = 0; count < 1000; count++) {
    for (let i = 0; i < 16; i++) block[i] = (i * 0x9e3779b9 + count) | 0;
    for (let i = 0; i < 64; i++) {
      if (i < 16) { w[i] = block[i]; continue; }
      const a = w[i - 15], b = w[i - 2];
      w[i] = (w[i - 16] + (r(a, 7) ^ r(a, 18) ^ (a >>> 3)) + w[i - 7] + (r(b, 17) ^ r(b, 19) ^ (b >>> 10))) | 0;
    }
    let [a, b, c, d, e, f, g, k] = h;
    for (let i = 0; i < 64; i++) {
      const t1 = (k + (r(e, 6) ^ r(e, 11) ^ r(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const t2 = ((r(a, 2) ^ r(a, 13) ^ r(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      k = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    [a, b, c, d, e, f, g, k].forEach((x, i) => { h[i] = (h[i] + x) | 0; });
  }
  return Array.from(h, (x) => (x >>> 0).toString(16)).join("");
}
"#;

/// What a peer adds: the CPU time and the result of each program, as JSON lines.
const DRIVER: &str = r#"
const spent = globalThis.cpu ?? (() => { const usage = process.cpuUsage(); return usage.user + usage.system; });
const show = globalThis.print ?? console.log;
const programs = { fib: () => fib(), json, sha256 };
for (const [name, program] of Object.entries(programs)) {
  let best = Infinity, result;
  for (let i = 0; i < 7; i++) {
    const before = spent();
    result = program();
    best = Math.min(best, spent() - before);
  }
  show(JSON.stringify([name, best, result]));
}
"#;

/// Name of a program, the least CPU microseconds, its result.
type Measured = (String, f64, serde_json::Value);

/// The rows `runtime.js.cpu_vs_native_quickjs` and `runtime.js.cpu_vs_node`: least CPU time of 7 runs each, geometric
/// mean of the three ratios.
pub(super) async fn cpu(engine: &Engine, say: &mut (dyn FnMut(String) + Send)) -> Result<Vec<Row>, BenchError> {
    let ours = own(engine).await?;
    let folder = Scratch::new()?;
    let script = folder.0.join("work.cjs");
    std::fs::write(&script, format!("{}\n{DRIVER}", WORK.replace("export function", "function")))?;
    let native = std::env::home_dir().unwrap_or_default().join(".cache/tacit/peers/quickjs-native");
    let mut rows = Vec::new();
    for (row, program, target, peer) in [
        ("runtime.js.cpu_vs_native_quickjs", native.as_path(), "≤ 2.5", "the same QuickJS-NG without a sandbox: 1.0"),
        ("runtime.js.cpu_vs_node", Path::new("node"), "report", "node with its JIT: 1.0"),
    ] {
        match theirs(program, &script).await {
            Some(theirs) => match compare(row, target, peer, &ours, &theirs) {
                Some(row) => rows.push(row),
                None => say(format!("{row}: left out, {} computes another result", program.display())),
            },
            None => say(format!("{row}: left out, {} does not run (`make peers`)", program.display())),
        }
    }
    Ok(rows)
}

async fn own(engine: &Engine) -> Result<Vec<Measured>, BenchError> {
    let program = engine.compile_js(WORK, None).await?;
    let host: Arc<dyn Host> = Arc::new(Nothing);
    let mut measured = Vec::new();
    for name in ["fib", "json", "sha256"] {
        let (mut best, mut result) = (f64::INFINITY, serde_json::Value::Null);
        for count in 0..7 {
            let call = Call { limits: generous(), ..Call::query(name, Bytes::from_static(b"25"), seed(count)) };
            let outcome = Metered::new(engine.call(&program, call, Arc::clone(&host))).await;
            let output = outcome.0.result.map_err(BenchError::Call)?;
            result = serde_json::from_slice(&output.body).unwrap_or_default();
            best = best.min(outcome.1 * 1e6);
        }
        measured.push((name.to_owned(), best, result));
    }
    Ok(measured)
}

async fn theirs(program: &Path, script: &Path) -> Option<Vec<Measured>> {
    let output = tokio::process::Command::new(program)
        .arg(script)
        .kill_on_drop(true)
        .output()
        .await
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).ok()).collect()
}

/// The row; none when the two sides did not compute the same.
fn compare(row: &str, target: &str, peer: &str, ours: &[Measured], theirs: &[Measured]) -> Option<Row> {
    let (mut product, mut notes) = (1.0, Vec::new());
    for (name, own, result) in ours {
        let (_, other, _) = theirs.iter().find(|(other, _, value)| other == name && value == result)?;
        product *= own / other.max(1.0);
        notes.push(format!("{name} {:.1} ms to {:.1} ms", own / 1e3, other / 1e3));
    }
    Some(Row {
        row: row.into(),
        unit: "ratio of CPU time".into(),
        value: product.powf(1.0 / ours.len() as f64),
        target: target.into(),
        peer: Some(peer.into()),
        n: 7 * ours.len() as u64,
        note: format!("least of 7 each, fuel on: {}", notes.join(", ")),
    })
}

/// A future that counts the CPU time of the threads that poll it, and of nothing else.
struct Metered<F> {
    future: Pin<Box<F>>,
    seconds: f64,
}

impl<F: Future> Metered<F> {
    fn new(future: F) -> Self {
        Self { future: Box::pin(future), seconds: 0.0 }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = (F::Output, f64);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before = cpu_time();
        let polled = self.future.as_mut().poll(context);
        self.seconds += cpu_time() - before;
        polled.map(|output| (output, self.seconds))
    }
}

/// CPU seconds of this thread so far, from the scheduler's own account.
fn cpu_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
