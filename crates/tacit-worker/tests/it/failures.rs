//! What goes down, and what still works then.

use std::time::Duration;

use serde_json::json;
use tacit_api::ProblemKind;
use tacit_client::CallRequest;
use tacit_ledger::workers::revoked_worker;
use tacit_types::chain::RevocationSubject;

use crate::network::{Network, ask_once, call, candidate, eventually, json, problem};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gatekeeper_down_is_not_noticed_and_two_stop_answers() {
    let mut network = Network::start().await;
    let worker = network.worker(0).await;
    let function = network.deploy("steady", "").await;
    let client = network.client();
    let address = network.stop_gatekeeper(3).await;
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 1 }));
    assert_eq!(json(&client, function, "total", json!(null)).await, json!({ "total": 1 }));
    // It comes back without having seen any of it, and another one goes.
    network.restart_gatekeeper(3, address).await;
    let address = network.stop_gatekeeper(0).await;
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 2 }));
    assert_eq!(json(&client, function, "total", json!(null)).await, json!({ "total": 2 }));
    let second = network.stop_gatekeeper(1).await;
    let request =
        CallRequest { patience: Duration::from_secs(4), ..CallRequest::new(function, "add", r#"{"amount":1}"#) };
    let refused = problem(client.call(&request).await.err().expect("refused"));
    assert!(matches!(refused.kind, ProblemKind::QuorumUnavailable | ProblemKind::NotHolder), "{refused}");
    network.restart_gatekeeper(0, address).await;
    network.restart_gatekeeper(1, second).await;
    network.gatekeepers_follow().await;
    let request = CallRequest { patience: Duration::from_secs(60), ..request };
    assert_eq!(client.call(&request).await.unwrap().response(), br#"{"total":3}"#);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_worker_is_silent() {
    let network = Network::start().await;
    let worker = network.worker(0).await;
    let function = network.deploy("revoked", "").await;
    let client = network.client();
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 1 }));
    network.owner.revoke(RevocationSubject::Worker, revoked_worker(worker.account()), &[]).await.unwrap();
    let base = format!("http://{}", worker.address());
    let http = reqwest::Client::new();
    eventually("the worker is not ready any more", async || {
        let status = http.get(format!("{base}/readyz")).send().await.unwrap().status();
        (status == 503).then_some(())
    })
    .await;
    let mut request = CallRequest::new(function, "total", "null");
    request.patience = Duration::from_secs(3);
    assert!(client.call(&request).await.is_err());
    assert_eq!(http.get(format!("{base}/v1/identity")).send().await.unwrap().status(), 503);
    // The other worker serves what it left.
    let second = network.worker(1).await;
    request.patience = Duration::from_secs(60);
    assert_eq!(client.call(&request).await.unwrap().response(), br#"{"total":1}"#);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_chain_held_functions_are_served() {
    let mut network = Network::start().await;
    let worker = network.worker(0).await;
    let (held, unheld) = (network.deploy("held", "").await, network.deploy("unheld", "").await);
    // Deploying calls a function once; a worker that begins anew holds none.
    worker.stop().await;
    let worker = network.steady_worker(0).await;
    let client = network.client();
    assert_eq!(json(&client, held, "add", json!({ "amount": 1 })).await, json!({ "total": 1 }));
    let candidate = candidate(&client, &worker, held).await;
    network.anvil.take().unwrap().stop().await;
    for (method, body) in [("add", r#"{"amount":1}"#), ("total", "null")] {
        // The same request until it is answered: a quorum may be slow for a moment.
        let request = CallRequest::new(held, method, body);
        let answer =
            eventually("a held function is served", async || ask_once(&client, &candidate, &request).await.ok()).await;
        assert_eq!(answer.response(), br#"{"total":2}"#);
    }
    let refused = ask_once(&client, &candidate, &CallRequest::new(unheld, "total", "null")).await.err().unwrap();
    assert_eq!(refused.kind, ProblemKind::ChainUnavailable, "{refused}");
    assert!(refused.hint.is_some());
    drop(worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_counts_soon() {
    let network = Network::start().await;
    let worker = network.worker(0).await;
    let function = network.deploy("versions", "").await;
    let client = network.client();
    let old = call(&client, function, "add", json!({ "amount": 1 })).await;
    let manifest = crate::network::manifest("versions", "");
    let module = crate::network::MODULE.replace("+ amount", "+ 100 * amount");
    let package = tacit_client::Package::new(manifest, module.into(), None).unwrap();
    let deployed = network.owner_client().deploy(&package, |_| {}).await.unwrap();
    network.gatekeepers_follow().await;
    let new = eventually("the new version runs", async || {
        let answer = call(&client, function, "add", json!({ "amount": 1 })).await;
        (answer.receipt().code_hash == deployed.code_hash).then_some(answer)
    })
    .await;
    assert_ne!(old.receipt().code_hash, new.receipt().code_hash);
    let total = json(&client, function, "total", json!(null)).await["total"].as_u64().unwrap();
    assert!(total > 100 && total % 100 > 0, "the state lived on: {total}");
    worker.stop().await;
}
