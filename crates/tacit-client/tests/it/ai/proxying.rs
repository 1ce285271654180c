//! Through the local proxy, as a program that knows nothing of proofs.

use std::path::Path;

use serde_json::{Value, json};
use tacit_client::ai::{
    AiClient, AiError,
    proxy::{Proxy, ProxySettings, VERDICT_HEADER},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use zeroize::Zeroizing;

use super::{
    client,
    node::Node,
    stand_in::{Flaw, StandIn},
};

async fn start(client: AiClient) -> Proxy {
    Proxy::start(client, ProxySettings { listen: "127.0.0.1:0".parse().unwrap(), local_key: None }).await.unwrap()
}

fn body(more: Value) -> Value {
    let mut body = json!({ "model": "echo", "messages": [{ "role": "user", "content": "some words" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn post(proxy: &Proxy, body: &Value) -> reqwest::Response {
    let url = format!("http://{}/v1/chat/completions", proxy.address());
    reqwest::Client::new().post(url).bearer_auth("whatever").body(body.to_string()).send().await.unwrap()
}

fn header(response: &reqwest::Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn an_openai_client_gets_proven_answers() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let proxy = start(client(node.url(), node.judge(), &folder.path().join("store"))).await;
    let response = post(&proxy, &body(json!({}))).await;
    assert_eq!((response.status().as_u16(), header(&response, VERDICT_HEADER).as_str()), (200, "simulated"));
    assert!(header(&response, "x-receipt-id").starts_with("rcpt_"));
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "some words");

    let response = post(&proxy, &body(json!({ "stream": true }))).await;
    assert_eq!(header(&response, VERDICT_HEADER), "pending");
    assert!(header(&response, "content-type").starts_with("text/event-stream"));
    let text = response.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");

    let get = async |path: &str| reqwest::get(format!("http://{}{path}", proxy.address())).await.unwrap();
    let models = get("/v1/models").await;
    assert_eq!(header(&models, VERDICT_HEADER), "unproven");
    assert_eq!(models.json::<Value>().await.unwrap()["data"][0]["id"], "echo");
    let nonce = "ab".repeat(32);
    let report: Value = get(&format!("/v1/aci/attestation?nonce={nonce}")).await.json().await.unwrap();
    assert_eq!(report["api_version"], "aci/1");
    let status: Value = get("/tacit/status").await.json().await.unwrap();
    assert_eq!(status["verified"]["verdict"], "simulated");
    assert_eq!(status["receipts"].as_array().unwrap().len(), 2);
    assert!(!status.to_string().contains("some words"));
    let embedding = reqwest::Client::new()
        .post(format!("http://{}/v1/embeddings", proxy.address()))
        .json(&json!({ "model": "echo", "input": ["a", "b"] }))
        .send()
        .await
        .unwrap();
    assert_eq!((embedding.status().as_u16(), header(&embedding, VERDICT_HEADER).as_str()), (200, "simulated"));

    // The service's own refusal comes through, proven as well.
    let response = post(&proxy, &body(json!({ "model": "nobody" }))).await;
    assert_eq!((response.status().as_u16(), header(&response, VERDICT_HEADER).as_str()), (404, "simulated"));
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn the_verdict_about_a_stream_is_in_its_trailer() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start(folder.path(), "127.0.0.1:0", false).await;
    let proxy = start(client(node.url(), node.judge(), &folder.path().join("store"))).await;
    let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
    let (address, body) = (proxy.address(), body(json!({ "stream": true })).to_string());
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nte: trailers\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (_, trailers) = answer.split_once("[DONE]").unwrap();
    assert!(trailers.ends_with("\r\n0\r\nx-tacit-verdict: simulated\r\n\r\n"), "{trailers:?}");
}

async fn refusal(response: reqwest::Response) -> (u16, String, String) {
    let (status, verdict) = (response.status().as_u16(), header(&response, VERDICT_HEADER));
    let body: Value = response.json().await.unwrap();
    (status, verdict, body["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_does_not_hold_is_an_error_and_a_stream_then_has_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start(folder.path(), "127.0.0.1:0", false).await;
    let proxy = start(client(node.url(), node.judge(), &folder.path().join("store"))).await;
    node.be(Flaw::AlteredResponse);
    let expected = (502, "refused".to_owned(), "receipt_not_verified".to_owned());
    assert_eq!(refusal(post(&proxy, &body(json!({}))).await).await, expected);
    for flaw in [Flaw::OtherUsage, Flaw::Cut, Flaw::NoReceipt] {
        node.be(flaw);
        let mut response = post(&proxy, &body(json!({ "stream": true }))).await;
        assert_eq!(response.status().as_u16(), 200);
        let (mut text, mut broken) = (String::new(), false);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Ok(None) => break,
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        assert!(broken, "{flaw:?}: the stream ended properly: {text}");
        assert!(!text.contains("[DONE]"), "{flaw:?}: {text}");
        assert!(text.contains("\"error\"") && text.contains("\"tacit_proxy\""), "{flaw:?}: {text}");
    }
}

#[tokio::test]
async fn a_node_that_does_not_hold_gets_nothing_and_the_caller_learns_why() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start(folder.path(), "127.0.0.1:0", true).await;
    let proxy = start(client(node.url(), node.judge(), &folder.path().join("store"))).await;
    let response = post(&proxy, &body(json!({}))).await;
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "node_not_verified");
    assert!(body["error"]["message"].as_str().unwrap().contains("id-6"), "{body}");
    assert_eq!(node.opened("/v1/chat/completions"), 0);
}

async fn listen(folder: &Path, address: &str, key: Option<&str>) -> Result<Proxy, AiError> {
    let client = client(
        "https://127.0.0.1:1".parse().unwrap(),
        tacit_verify::Judge::Preset(tacit_attest::Preset::Standard),
        folder,
    );
    let local_key = key.map(|key| Zeroizing::new(key.to_owned()));
    Proxy::start(client, ProxySettings { listen: address.parse().unwrap(), local_key }).await
}

#[tokio::test]
async fn others_cannot_ask() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(listen(folder.path(), "0.0.0.0:0", None).await, Err(AiError::Request(_))));
    let proxy = listen(folder.path(), "127.0.0.1:0", Some("local")).await.unwrap();
    let ask = async |key: &str, origin: Option<&str>| {
        let mut request =
            reqwest::Client::new().get(format!("http://{}/tacit/status", proxy.address())).bearer_auth(key);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("local", None).await, 200);
    assert_eq!(ask("other", None).await, 401);
    assert_eq!(ask("local", Some("https://example.com")).await, 403);
    // Nobody answers behind it.
    let url = format!("http://{}/v1/models", proxy.address());
    let response = reqwest::Client::new().get(&url).bearer_auth("local").send().await.unwrap();
    assert_eq!(refusal(response).await, (502, "refused".into(), "node_unreachable".into()));
    let deleted = reqwest::Client::new().delete(&url).bearer_auth("local").send().await.unwrap();
    assert_eq!(deleted.status().as_u16(), 405);
}
