//! Calls that a client sends a second way because the first is silent, against a worker that may be running them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tacit_api::CallKind;
use tacit_client::{CallRequest, Client, Entry, Package};
use tacit_types::{FunctionId, eip712::Outcome, manifest::Manifest};
use tacit_worker::Worker;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::network::{MODULE, Network, json};

/// A way to the gateway that can be told to hold everything back.
struct Front {
    address: SocketAddr,
    silent: watch::Sender<bool>,
    /// Pieces of requests that arrived.
    pieces: AtomicUsize,
}

impl Front {
    async fn start(gateway: String) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (silent, pieces) = (watch::Sender::new(false), AtomicUsize::new(0));
        let front = Arc::new(Self { address: listener.local_addr().unwrap(), silent, pieces });
        let this = Arc::clone(&front);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(gateway.trim_start_matches("http://")).await.unwrap();
                tokio::spawn(Arc::clone(&this).pass(client, server));
            }
        });
        front
    }

    async fn pass(self: Arc<Self>, client: TcpStream, server: TcpStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            self.pieces.fetch_add(1, Ordering::SeqCst);
            self.silent.subscribe().wait_for(|silent| !silent).await.unwrap();
            if to_server.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
        back.abort();
    }

    fn pieces(&self) -> usize {
        self.pieces.load(Ordering::SeqCst)
    }
}

async fn two_ways(network: &Network) -> (Client, [Arc<Front>; 2]) {
    let gateway = network.deployment.gateways[0].clone();
    let fronts = [Front::start(gateway.clone()).await, Front::start(gateway).await];
    let entries = fronts.iter().map(|front| Entry::gateway(&format!("http://{}", front.address))).collect();
    (network.client().through(entries), fronts)
}

/// Deploys [`MODULE`] so that its `spin` runs into a time limit, not into the fuel limit.
async fn deploy_slow(network: &Network, seconds: u64) -> FunctionId {
    let manifest = format!(
        "[function]\nname = \"slow\"\nentry = \"index.js\"\n[limits]\nfuel = \"1T\"\ntimeout = \"{seconds}s\"\n[trust]\npolicy = \"dev\"\n"
    );
    let package = Package::new(Manifest::from_toml(&manifest).unwrap(), MODULE.into(), None).unwrap();
    let deployed = network.owner_client().deploy(&package, |_| {}).await.unwrap();
    network.gatekeepers_follow().await;
    deployed.function
}

/// Receipts that the worker has signed.
async fn receipts(worker: &Worker) -> u64 {
    let text = reqwest::get(format!("http://{}/metrics", worker.address())).await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with("tacit_worker_calls_total "));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_function_runs_once_though_the_call_comes_two_ways() {
    let network = Network::start().await;
    let worker = network.worker(0).await;
    let function = deploy_slow(&network, 6).await;
    let (client, fronts) = two_ways(&network).await;
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 1 }));
    for kind in [Some(CallKind::Query), None] {
        let before = (receipts(&worker).await, fronts[1].pieces());
        let request = CallRequest { kind, ..CallRequest::new(function, "spin", "null") };
        let answer = client.call(&request).await.unwrap();
        assert_eq!(answer.outcome(), Outcome::Limit);
        assert!(fronts[1].pieces() > before.1, "the call went the second way as well");
        assert_eq!(receipts(&worker).await, before.0 + 1, "{kind:?}: one run, one receipt");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_a_gateway_holds_back_counts_once() {
    let network = Network::start().await;
    let worker = network.worker(0).await;
    let function = network.deploy("held-back", "").await;
    let (client, fronts) = two_ways(&network).await;
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 1 }));
    fronts[0].silent.send_replace(true);
    let began = Instant::now();
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 2 }));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // What was held back arrives after all, and changes nothing.
    fronts[0].silent.send_replace(false);
    assert_eq!(json(&client, function, "total", json!(null)).await, json!({ "total": 2 }));
    worker.stop().await;
}
