//! What is too large, too many or too slow, and who may read from a browser.

use std::time::Duration;

use tacit_api::{ProblemKind, limits};
use tacit_types::FunctionId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::cluster::{Cluster, Running, Worker, install_provider, problem, sees_workers};

fn function() -> FunctionId {
    FunctionId::from([7; 32])
}

/// Sends bytes on a connection of their own and gives back what comes until it is closed.
async fn raw(gateway: &Running, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_and_heads_are_refused() {
    install_provider();
    let cluster = Cluster::start().await;
    let gateway = Running::start(&cluster.config("gateway-1")).await;
    let http = reqwest::Client::new();
    let declared = format!(
        "POST /f/{} HTTP/1.1\r\nhost: a\r\ncontent-type: message/ohttp-req\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        function(),
        limits::MAX_REQUEST + 1
    );
    let answer = raw(&gateway, declared.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("urn:tacit:problem:too-large"), "{answer}");

    let chunks = futures::stream::iter((0..300).map(|_| Ok::<_, std::io::Error>(vec![0u8; 64 << 10])));
    let streamed = http
        .post(format!("{}/f/{}", gateway.url, function()))
        .header("content-type", "message/ohttp-req")
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await;
    // The gateway may close the connection before everything is sent; what it never does is take the body.
    if let Ok(answer) = streamed {
        assert_eq!(problem(answer).await.kind, ProblemKind::TooLarge);
    }
    let blob =
        http.put(format!("{}/v1/blobs/{}", gateway.url, function())).body(vec![0; limits::MAX_BLOB + 1]).send().await;
    if let Ok(answer) = blob {
        assert_eq!(problem(answer).await.kind, ProblemKind::TooLarge);
    }
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(64 << 10));
    assert!(raw(&gateway, head.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let fields: String = (0..100).map(|number| format!("x-{number}: 1\r\n")).collect();
    assert!(
        raw(&gateway, format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes())
            .await
            .starts_with("HTTP/1.1 431 ")
    );
    assert!(raw(&gateway, b"not http at all\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let other = http.post(format!("{}/f/{}", gateway.url, function())).body("{}").send().await.unwrap();
    assert_eq!(problem(other).await.kind, ProblemKind::UnsupportedMediaType);
    gateway.stop().await;
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_above_its_share_is_told_when_to_come_back() {
    install_provider();
    let cluster = Cluster::start().await;
    let mut config = cluster.config("gateway-1");
    (config.requests_per_second, config.burst) = (1, 5);
    let gateway = Running::start(&config).await;
    let mut limited = 0;
    for _ in 0..20 {
        let answer = reqwest::get(format!("{}/healthz", gateway.url)).await.unwrap();
        if !answer.status().is_success() {
            assert!(answer.headers().contains_key("retry-after"));
            assert_eq!(problem(answer).await.kind, ProblemKind::RateLimited);
            limited += 1;
        }
    }
    assert!(limited >= 10, "{limited}");
    gateway.stop().await;
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_share_a_bounded_memory() {
    install_provider();
    let cluster = Cluster::start().await;
    let mut config = cluster.config("gateway-1");
    config.body_memory = 1 << 20;
    let gateway = Running::start(&config).await;
    // One client declares a body that takes all the memory and does not send it.
    let mut slow = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!("PUT /v1/blobs/{} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", function(), 1 << 20);
    slow.write_all(head.as_bytes()).await.unwrap();
    let http = reqwest::Client::new();
    let put = || http.put(format!("{}/v1/blobs/{}", gateway.url, function())).body(vec![1; 70_000]).send();
    crate::cluster::until("the memory is taken", || async { put().await.unwrap().status() == 429 }).await;
    drop(slow);
    crate::cluster::until("the memory is free again", || async { put().await.unwrap().status() == 422 }).await;
    gateway.stop().await;
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_origins_may_seal_and_not_call_in_the_open() {
    install_provider();
    let cluster = Cluster::start().await;
    let gateway = Running::start(&cluster.config("gateway-1")).await;
    let function = cluster.register("oracle").await;
    let _worker = Worker::start(0x41, &cluster).await;
    sees_workers(&gateway, function, 1).await;
    let http = reqwest::Client::new();
    let ask = |path: String| {
        http.request(reqwest::Method::OPTIONS, format!("{}{path}", gateway.url))
            .header("origin", "https://example.org")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
            .send()
    };
    let sealed = ask(format!("/f/{function}")).await.unwrap();
    assert_eq!(sealed.headers()["access-control-allow-origin"], "*");
    let plain = ask(format!("/f/{function}/price")).await.unwrap();
    assert_eq!(plain.headers().get("access-control-allow-origin"), None);
    let answer = http
        .post(format!("{}/f/{function}/price", gateway.url))
        .header("origin", "https://example.org")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers().get("access-control-allow-origin"), None);
    gateway.stop().await;
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_cannot_work_is_refused_by_name() {
    install_provider();
    let cluster = Cluster::start().await;
    let check = |config: tacit_gateway::Config, text: &'static str| async move {
        let Err(error) = tacit_gateway::Gateway::start(&config).await else { panic!("{text} was taken") };
        assert!(error.to_string().contains(text), "{error}");
    };
    let mut config = cluster.config("gateway-1");
    config.deployment = "/no/such/deployment.json".into();
    check(config, "/no/such/deployment.json").await;
    let mut config = cluster.config("gateway-1");
    let broken = cluster.folder.path().join("broken.json");
    std::fs::write(&broken, "{}").unwrap();
    config.deployment = broken;
    check(config, "is not a deployment file").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = cluster.config("gateway-1");
    config.listen = taken.local_addr().unwrap();
    check(config, "could not listen").await;
    cluster.anvil.stop().await;
}
