//! A fresh sandbox for each HTTP request, beside workerd, which reuses its isolate.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{BenchError, INPUT, Nothing, Row, SMALL, Scratch, seed};
use crate::{Call, Engine, Host};

/// Rounds, taken in turns so that both sides see the same machine.
const ROUNDS: usize = 3;

/// The row `runtime.http.js_vs_workerd`.
pub(super) async fn beside_workerd(
    engine: &Engine,
    say: &mut (dyn FnMut(String) + Send),
) -> Result<Vec<Row>, BenchError> {
    const ROW: &str = "runtime.http.js_vs_workerd";
    let Some(binary) = workerd() else {
        say(format!("{ROW}: left out, workerd is not in ~/.cache/tacit/peers (`make peers`)"));
        return Ok(Vec::new());
    };
    if Command::new("wrk").arg("-v").output().is_err() {
        say(format!("{ROW}: left out, `wrk` is not installed"));
        return Ok(Vec::new());
    }
    let folder = Scratch::new()?;
    match measure(engine, &binary, &folder.0).await {
        Ok((ours, theirs)) => Ok(vec![Row {
            row: ROW.into(),
            unit: "ratio of requests/s".into(),
            value: ours / theirs,
            target: "≥ 1.0".into(),
            peer: Some(format!("workerd, isolate reused: {theirs:.0} requests/s")),
            n: ROUNDS as u64,
            note: format!(
                "{ours:.0} requests/s with a fresh sandbox each; wrk -t1 -c16, best of {ROUNDS} rounds of 3 s in turns, loopback"
            ),
        }]),
        Err(error) => {
            say(format!("{ROW}: left out, {error}"));
            Ok(Vec::new())
        }
    }
}

async fn measure(engine: &Engine, binary: &Path, folder: &Path) -> std::io::Result<(f64, f64)> {
    let ours = serve(engine).await?;
    let (_child, theirs) = start(binary, folder)?;
    let script = folder.join("post.lua");
    std::fs::write(
        &script,
        format!("wrk.method = 'POST'\nwrk.body = '{INPUT}'\nwrk.headers['content-type'] = 'application/json'\n"),
    )?;
    let (mut best_ours, mut best_theirs) = (0.0f64, 0.0f64);
    for _ in 0..ROUNDS {
        best_ours = best_ours.max(load(&script, ours).await?);
        best_theirs = best_theirs.max(load(&script, theirs).await?);
    }
    if best_theirs > 0.0 {
        Ok((best_ours, best_theirs))
    } else {
        Err(std::io::Error::other("workerd answered nothing"))
    }
}

/// Serves the small method over HTTP/1.1 on a free port.
async fn serve(engine: &Engine) -> std::io::Result<SocketAddr> {
    let program = engine.compile_js(SMALL, None).await.map_err(std::io::Error::other)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let engine = engine.clone();
    let host: Arc<dyn Host> = Arc::new(Nothing);
    let count = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (engine, program, host, count) = (engine.clone(), program.clone(), host.clone(), count.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (engine, program, host) = (engine.clone(), program.clone(), host.clone());
                    let seed = seed(count.fetch_add(1, Ordering::Relaxed));
                    async move {
                        let input = Limited::new(request.into_body(), 1 << 20)
                            .collect()
                            .await
                            .map(|body| body.to_bytes())
                            .unwrap_or_default();
                        let outcome = engine.call(&program, Call::query("main", input, seed), host).await;
                        let (status, body) = match outcome.result {
                            Ok(output) => (200, output.body),
                            Err(failure) => (500, Bytes::from(failure.to_string())),
                        };
                        let mut response = hyper::Response::new(Full::new(body));
                        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
                        response
                            .headers_mut()
                            .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
                        Ok::<_, Infallible>(response)
                    }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

/// A child that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts workerd with the same handler, and waits until it listens.
fn start(binary: &Path, folder: &Path) -> std::io::Result<(Running, SocketAddr)> {
    let address = StdListener::bind("127.0.0.1:0")?.local_addr()?;
    let handler = format!(
        "{}\nexport default {{ async fetch(request) {{ return Response.json(await main(await request.json())); }} }};\n",
        SMALL.replace("export async function", "async function")
    );
    std::fs::write(folder.join("worker.mjs"), handler)?;
    let config = format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\nconst config :Workerd.Config = (services = [(name = \"main\", worker = .worker)], sockets = [(name = \"http\", address = \"{address}\", http = (), service = \"main\")]);\nconst worker :Workerd.Worker = (modules = [(name = \"worker\", esModule = embed \"worker.mjs\")], compatibilityDate = \"2025-01-01\");\n"
    );
    let path = folder.join("config.capnp");
    std::fs::write(&path, config)?;
    let child =
        Running(Command::new(binary).arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if started.elapsed() > Duration::from_secs(20) {
            return Err(std::io::Error::other("workerd does not listen"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok((child, address))
}

/// Requests a second, as wrk counts them; an answer that is not 2xx makes the round void.
async fn load(script: &Path, address: SocketAddr) -> std::io::Result<f64> {
    let output = tokio::process::Command::new("wrk")
        .args(["-t1", "-c16", "-d3s", "-s"])
        .arg(script)
        .arg(format!("http://{address}/"))
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("Non-2xx") {
        return Err(std::io::Error::other("a request failed"));
    }
    let rate = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"))
        .and_then(|rate| rate.trim().parse().ok());
    rate.ok_or_else(|| std::io::Error::other("wrk reported no rate"))
}

/// The workerd binary in the folder of peers, wherever npm put it.
fn workerd() -> Option<PathBuf> {
    let modules = std::env::home_dir()?.join(".cache/tacit/peers/node_modules");
    let platform = modules.join("@cloudflare").read_dir().ok()?.flatten().map(|entry| entry.path().join("bin/workerd"));
    platform.chain([modules.join("workerd/bin/workerd")]).find(|path| path.is_file())
}
