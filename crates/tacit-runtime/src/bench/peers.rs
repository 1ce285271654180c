//! CPU time of interpreted JavaScript beside Node's.

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;

use super::{BenchError, Nothing, Row, generous, seed};
use crate::{Call, Engine, Host};

/// Three programs that compute; the same text runs in Node.
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

/// What Node adds: the CPU time and the result of each program, as JSON lines.
const NODE: &str = r#"
const programs = { fib: () => fib(), json, sha256 };
for (const [name, program] of Object.entries(programs)) {
  let best = Infinity, result;
  for (let i = 0; i < 7; i++) {
    const before = process.cpuUsage();
    result = program();
    const spent = process.cpuUsage(before);
    best = Math.min(best, spent.user + spent.system);
  }
  console.log(JSON.stringify([name, best, result]));
}
"#;

/// The row `runtime.js.cpu_vs_node`: the least CPU time of 7 runs each, geometric mean of the three ratios.
pub(super) async fn cpu(engine: &Engine, say: &mut (dyn FnMut(String) + Send)) -> Result<Vec<Row>, BenchError> {
    let script = format!("{}\n{NODE}", WORK.replace("export function", "function"));
    let node = tokio::task::spawn_blocking(move || Command::new("node").args(["--input-type=commonjs", "-e", &script]).output()).await;
    let output = match node {
        Ok(Ok(output)) if output.status.success() => output.stdout,
        _ => {
            say("runtime.js.cpu_vs_node: left out, `node` does not run here".into());
            return Ok(Vec::new());
        }
    };
    let peers: Vec<(String, f64, serde_json::Value)> = String::from_utf8_lossy(&output).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let program = engine.compile_js(WORK, None).await?;
    let host: Arc<dyn Host> = Arc::new(Nothing);
    let (mut product, mut notes) = (1.0, Vec::new());
    for (name, theirs, result) in &peers {
        let mut best = f64::INFINITY;
        for count in 0..7 {
            let call = Call { limits: generous(), ..Call::query(name, Bytes::from_static(b"25"), seed(count)) };
            let before = cpu_time();
            let outcome = engine.call(&program, call, Arc::clone(&host)).await;
            let spent = cpu_time() - before;
            let output = outcome.result.map_err(BenchError::Call)?;
            if serde_json::from_slice::<serde_json::Value>(&output.body).ok().as_ref() != Some(result) {
                say(format!("runtime.js.cpu_vs_node: left out, {name} gives another result in Node"));
                return Ok(Vec::new());
            }
            best = best.min(spent * 1e6);
        }
        let ratio = best / theirs.max(1.0);
        product *= ratio;
        notes.push(format!("{name} {:.1} ms to {:.1} ms", best / 1e3, theirs / 1e3));
    }
    if peers.is_empty() {
        say("runtime.js.cpu_vs_node: left out, `node` printed nothing".into());
        return Ok(Vec::new());
    }
    let value = product.powf(1.0 / peers.len() as f64);
    Ok(vec![Row {
        row: "runtime.js.cpu_vs_node".into(),
        unit: "ratio of CPU time".into(),
        value,
        target: "report".into(),
        peer: Some("node with its JIT: 1.0".into()),
        n: 7 * peers.len() as u64,
        note: format!("least of 7 each, fuel on: {}", notes.join(", ")),
    }])
}

/// CPU seconds of this thread so far, from the scheduler's own account.
fn cpu_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
