//! What a gateway says about functions, workers and blobs.

use sha2::{Digest as _, Sha256};
use tacit_api::{FunctionAnswer, FunctionRecord, Node, Operation, ProblemKind, rendezvous};
use tacit_types::{Digest, FunctionId};

use crate::cluster::{Cluster, Running, Worker, install_provider, problem, sees_workers, until};

fn sha256(bytes: &[u8]) -> Digest {
    <[u8; 32]>::from(Sha256::digest(bytes)).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_and_workers_come_from_the_registry_in_rendezvous_order() {
    install_provider();
    let cluster = Cluster::start().await;
    let gateway = Running::start(&cluster.config("gateway-1")).await;
    let get = |path: String| reqwest::get(format!("{}{path}", gateway.url));

    let served = get("/v1/deployment".into()).await.unwrap().bytes().await.unwrap();
    assert_eq!(served, std::fs::read(cluster.deployment_path()).unwrap());

    let nobody = FunctionId::from([9; 32]);
    let unknown = problem(get(format!("/v1/functions/{nobody}")).await.unwrap()).await;
    assert_eq!(unknown.kind, ProblemKind::UnknownFunction);
    assert_eq!(problem(get(format!("/f/{nobody}")).await.unwrap()).await.kind, ProblemKind::UnknownFunction);
    assert_eq!(problem(get("/f/my-oracle".into()).await.unwrap()).await.kind, ProblemKind::InvalidRequest);

    let function = cluster.register("oracle").await;
    let record: FunctionRecord = get(format!("/v1/functions/{function}")).await.unwrap().json().await.unwrap();
    assert_eq!((record.id, record.name.as_str(), record.versions), (function, "oracle", 1));
    assert_eq!(problem(get(format!("/f/{function}")).await.unwrap()).await.kind, ProblemKind::NoWorker);
    assert_eq!(problem(get("/readyz".into()).await.unwrap()).await.kind, ProblemKind::NoWorker);

    let workers = [Worker::start(0x41, &cluster).await, Worker::start(0x42, &cluster).await];
    sees_workers(&gateway, function, 2).await;
    let answer: FunctionAnswer = get(format!("/f/{function}")).await.unwrap().json().await.unwrap();
    let found: Vec<_> = answer.workers.iter().map(|worker| worker.certificate.worker).collect();
    assert_eq!(found, rendezvous::order(function, workers.iter().map(Worker::address), |address| *address));
    assert!(get("/readyz".into()).await.unwrap().status().is_success());

    workers[0].kill().await;
    sees_workers(&gateway, function, 1).await;
    gateway.stop().await;
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_is_there_and_nothing_else() {
    install_provider();
    let cluster = Cluster::start().await;
    let gateway = Running::start(&cluster.config("gateway-1")).await;
    let http = reqwest::Client::new();
    for operation in Operation::of(Node::Gateway) {
        let path = operation
            .path()
            .replace("{*path}", "0/000")
            .replace("{method}", "price")
            .replace("{worker}", &format!("0x{}", "ab".repeat(20)));
        let path = ["{id}", "{digest}", "{call}"]
            .iter()
            .fold(path, |path, name| path.replace(name, &format!("0x{}", "ab".repeat(32))));
        let answer = http.request(operation.method(), format!("{}{path}", gateway.url)).send().await.unwrap();
        let status = answer.status().as_u16();
        if status >= 400 {
            let found = problem(answer).await;
            assert!(
                !matches!(found.kind, ProblemKind::NotFound | ProblemKind::MethodNotAllowed),
                "{operation:?}: {found}"
            );
        }
        let wrong = http.delete(format!("{}{path}", gateway.url)).send().await.unwrap();
        assert_eq!(problem(wrong).await.kind, ProblemKind::MethodNotAllowed, "{operation:?}");
    }
    let elsewhere = http.get(format!("{}/v2/anything", gateway.url)).send().await.unwrap();
    assert_eq!(problem(elsewhere).await.kind, ProblemKind::NotFound);
    let metrics = reqwest::get(format!("{}/metrics", gateway.url)).await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("tacit_gateway_answers_total{operation=\"readDeployment\",status=\"2xx\"} 1"),
        "{metrics}"
    );
    gateway.stop().await;
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_at_one_gateway_is_found_through_the_other() {
    install_provider();
    let cluster = Cluster::start().await;
    let first = Running::start(&cluster.config("gateway-1")).await;
    let mut config = cluster.config("gateway-2");
    config.peers = vec![first.url.clone()];
    let second = Running::start(&config).await;
    let http = reqwest::Client::new();
    let (bytes, digest) = (b"export const f = 1;".to_vec(), sha256(b"export const f = 1;"));
    let path = format!("/v1/blobs/{digest}");

    let missing = http.get(format!("{}{path}", second.url)).send().await.unwrap();
    assert_eq!(problem(missing).await.kind, ProblemKind::UnknownBlob);
    let wrong = http.put(format!("{}{path}", first.url)).body("other bytes").send().await.unwrap();
    assert_eq!(problem(wrong).await.kind, ProblemKind::DigestMismatch);
    let stored = http.put(format!("{}{path}", first.url)).body(bytes.clone()).send().await.unwrap();
    assert_eq!(stored.status(), 204);
    let found = http.get(format!("{}{path}", second.url)).send().await.unwrap();
    assert!(found.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(found.bytes().await.unwrap(), bytes);
    first.stop().await;
    // It was kept: the first gateway is not needed any more.
    assert_eq!(http.get(format!("{}{path}", second.url)).send().await.unwrap().bytes().await.unwrap(), bytes);
    second.stop().await;
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_chain_a_gateway_serves_what_it_knows_and_says_what_it_cannot() {
    install_provider();
    let cluster = Cluster::start().await;
    let gateway = Running::start(&cluster.config("gateway-1")).await;
    let function = cluster.register("oracle").await;
    let worker = Worker::start(0x41, &cluster).await;
    sees_workers(&gateway, function, 1).await;
    cluster.anvil.stop().await;
    until("the gateway notices", || async {
        reqwest::get(format!("{}/readyz", gateway.url)).await.unwrap().status() == 503
    })
    .await;
    sees_workers(&gateway, function, 1).await;
    let other = FunctionId::from([9; 32]);
    let answer = problem(reqwest::get(format!("{}/f/{other}", gateway.url)).await.unwrap()).await;
    assert_eq!(answer.kind, ProblemKind::ChainUnavailable);
    assert!(answer.retry_after.is_some() && answer.hint.is_some());
    let sealed = reqwest::Client::new()
        .post(format!("{}/f/{function}", gateway.url))
        .header("content-type", "message/ohttp-req")
        .body("abc")
        .send()
        .await
        .unwrap();
    assert_eq!(sealed.bytes().await.unwrap(), "cba");
    assert_eq!(worker.calls(), 1);
    gateway.stop().await;
}
