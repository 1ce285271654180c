//! Workers that die, disks that are copied or put back.

use std::{path::Path, time::Duration};

use serde_json::json;
use tacit_api::ProblemKind;
use tacit_client::CallRequest;

use crate::network::{Network, ask_once, call, candidate, eventually, json, problem};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_takes_over_and_answers_once() {
    let mut network = Network::start().await;
    let first = network.worker(0).await;
    let function = network.deploy("moved", "").await;
    let client = network.client();
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 1 }));

    // Appended, but fewer gatekeepers than a quorum answer: nothing is released.
    let addresses = [network.stop_gatekeeper(2).await, network.stop_gatekeeper(3).await];
    let mut request = CallRequest::new(function, "add", r#"{"amount":10}"#);
    request.patience = Duration::from_secs(4);
    let refused = problem(client.call(&request).await.err().expect("refused"));
    assert_eq!(refused.kind, ProblemKind::QuorumUnavailable, "{refused}");
    let query = CallRequest { patience: Duration::from_secs(4), ..CallRequest::new(function, "total", "null") };
    assert!(matches!(
        problem(client.call(&query).await.err().expect("refused")).kind,
        ProblemKind::QuorumUnavailable | ProblemKind::NotHolder
    ));

    // The worker dies between the append and the acknowledgement; the other takes over from what the quorum knows.
    drop(first);
    for (index, address) in [(2, addresses[0]), (3, addresses[1])] {
        network.restart_gatekeeper(index, address).await;
    }
    network.gatekeepers_follow().await;
    let second = network.worker(1).await;
    request.patience = Duration::from_secs(60);
    let answer = client.call(&request).await.unwrap();
    assert_eq!(answer.response(), br#"{"total":11}"#);
    assert_eq!(answer.receipt().certificate, client.fetch_workers(function).await.unwrap()[0].worker.id());
    // Once, whoever is asked how often.
    assert_eq!(client.call(&request).await.unwrap().response(), br#"{"total":11}"#);
    assert_eq!(json(&client, function, "total", json!(null)).await, json!({ "total": 11 }));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_outcome_is_stated_again_by_the_next_worker() {
    let network = Network::start().await;
    let first = network.worker(0).await;
    let function = network.deploy("stated", "").await;
    let client = network.client();
    let request = CallRequest::new(function, "add", r#"{"amount":4}"#);
    let before = client.call(&request).await.unwrap();
    first.stop().await;
    let second = network.worker(1).await;
    let after = client.call(&request).await.unwrap();
    assert_eq!(before.response(), after.response());
    let (one, two) = (before.receipt(), after.receipt());
    assert_eq!(
        (one.call_id, one.request, one.response, one.method),
        (two.call_id, two.request, two.response, two.method)
    );
    assert_ne!(one.certificate, two.certificate);
    assert!(two.fence > one.fence && two.head_before == two.head_after && two.head_after == one.head_after);
    assert_eq!(json(&client, function, "total", json!(null)).await, json!({ "total": 4 }));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_and_old_disks_are_silent() {
    let network = Network::start().await;
    let first = network.steady_worker(0).await;
    let function = network.deploy("copied", "").await;
    let client = network.client();
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 1 }));
    let yesterday = network.folder.path().join("yesterday");
    copy(&network.store(), &yesterday);
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 2 }));
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 3 }));

    // A second worker on a copy of the disk: the first holds the lease, so the copy says nothing.
    let mut config = network.config(1);
    config.store = network.folder.path().join("copy");
    copy(&network.store(), &config.store);
    let second = network.worker_with(config).await;
    // It may be silent for other reasons for a moment (a slow quorum, a lease not seen to be free); it never answers.
    let refuses = async |worker: &tacit_worker::Worker, kind: ProblemKind| {
        let candidate = candidate(&client, worker, function).await;
        eventually("the refusal that is meant", async || {
            let answer = ask_once(&client, &candidate, &CallRequest::new(function, "total", "null")).await;
            let refused = answer.err().expect("a copy and an old disk never answer");
            (refused.kind == kind).then_some(refused)
        })
        .await
    };
    refuses(&second, ProblemKind::NotHolder).await;
    assert_eq!(call(&client, function, "add", json!({ "amount": 1 })).await.response(), br#"{"total":4}"#);
    first.stop().await;
    // The copy is behind by now: it lacks what the quorum acknowledged after it was made.
    let refused = refuses(&second, ProblemKind::StateRolledBack).await;
    assert!(refused.detail.contains("state rolled back: store ends at 3, quorum acknowledged 4"), "{refused}");
    second.stop().await;

    // Yesterday's disk under the first worker.
    let mut config = network.config(0);
    config.store = yesterday;
    let restored = network.worker_with(config).await;
    let refused = refuses(&restored, ProblemKind::StateRolledBack).await;
    assert!(refused.detail.contains("state rolled back: store ends at 1, quorum acknowledged 4"), "{refused}");
    restored.stop().await;

    // And the disk as it was left.
    let healed = network.worker(0).await;
    assert_eq!(json(&client, function, "total", json!(null)).await, json!({ "total": 4 }));
    healed.stop().await;
}
