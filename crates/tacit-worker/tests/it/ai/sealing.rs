//! Requests with sealed fields, and requests sealed as a whole.

use futures::StreamExt as _;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tacit_envelope::{
    CHUNKED_REQUEST_MEDIA_TYPE, CHUNKED_RESPONSE_MEDIA_TYPE, KeyConfig, Limits, REQUEST_MEDIA_TYPE, Request, Response,
    ResponsePart, ResponseReader,
    e2ee::{ClientRequest, E2eePublicKey, Endpoint, SealedRequest, Suite},
    seal_chunked_request, seal_request,
};
use tacit_types::UnixTime;

use super::node::{MINE, Node, error, receipt_id};
use crate::network::now;

fn body(more: Value) -> Value {
    let mut body = json!({ "model": "echo", "messages": [{ "role": "user", "content": "my secret words" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn service_key(node: &Node, suite: Suite) -> E2eePublicKey {
    let entries = &node.node.keyset().e2ee_public_keys;
    E2eePublicKey::of_entry(entries.iter().find(|key| key.algo == suite.algorithm()).unwrap()).unwrap()
}

fn sealed(node: &Node, suite: Suite, body: &Value, time: UnixTime) -> (ClientRequest, SealedRequest) {
    ClientRequest::seal(&mut rand::rng(), &service_key(node, suite), Endpoint::Chat, body, time, false).unwrap()
}

async fn send(node: &Node, request: &SealedRequest) -> reqwest::Response {
    let mut post = node.client.post(node.url("/v1/chat/completions")).bearer_auth(MINE).body(request.body.clone());
    for (name, value) in &request.headers {
        post = post.header(*name, value);
    }
    post.send().await.unwrap()
}

#[tokio::test]
async fn sealed_fields_are_opened_answered_sealed_and_proven() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    for suite in Suite::ALL {
        let (client, request) = sealed(&node, suite, &body(json!({})), now());
        assert!(!String::from_utf8_lossy(&request.body).contains("secret"));
        let response = send(&node, &request).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-e2ee-applied"]),
            (200, &"true".parse().unwrap())
        );
        let id = receipt_id(&response);
        let bytes = response.bytes().await.unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
        let mut answer: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(client.open(&mut answer).unwrap() > 0);
        assert_eq!(answer["choices"][0]["message"]["content"], "my secret words");
        // The receipt is over what the model read, and over the sealed bytes that went over the wire.
        node.proven(&id, &request.restored, &bytes).await;

        let (client, request) = sealed(&node, suite, &body(json!({ "stream": true })), now());
        let response = send(&node, &request).await;
        let id = receipt_id(&response);
        let bytes = response.bytes().await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(!text.contains("secret"));
        let mut said = String::new();
        for frame in
            text.split("\n\n").filter_map(|frame| frame.strip_prefix("data: ")).filter(|data| *data != "[DONE]")
        {
            let mut piece: Value = serde_json::from_str(frame).unwrap();
            client.open(&mut piece).unwrap();
            said += piece["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        }
        assert_eq!(said, "my secret words");
        node.proven(&id, &request.restored, &bytes).await;
    }
}

#[tokio::test]
async fn wrong_keys_replays_and_old_requests_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let (_, request) = sealed(&node, Suite::X25519, &body(json!({})), now());
    assert_eq!(send(&node, &request).await.status(), 200);
    assert_eq!(error(send(&node, &request).await).await.1, "e2ee_replay_detected");
    let (_, old) = sealed(&node, Suite::X25519, &body(json!({})), UnixTime(now().0 - 301));
    assert_eq!(error(send(&node, &old).await).await.1, "e2ee_invalid_timestamp");
    let change = |name: &str, value: Option<&str>| {
        let (_, mut request) = sealed(&node, Suite::X25519, &body(json!({})), now());
        request.headers.retain(|(own, _)| *own != name || value.is_some());
        for (own, text) in &mut request.headers {
            if *own == name
                && let Some(value) = value
            {
                value.clone_into(text);
            }
        }
        request
    };
    let other = "11".repeat(32);
    let (_, mut altered) = sealed(&node, Suite::X25519, &body(json!({})), now());
    let mut document: Value = serde_json::from_slice(&altered.body).unwrap();
    let content = document["messages"][0]["content"].as_str().unwrap();
    let last = if content.ends_with('0') { '1' } else { '0' };
    document["messages"][0]["content"] = format!("{}{last}", &content[..content.len() - 1]).into();
    altered.body = document.to_string().into_bytes();
    let cases = [
        (change("x-e2ee-nonce", None), "e2ee_header_missing"),
        (change("x-e2ee-version", Some("1")), "e2ee_invalid_version"),
        (change("x-e2ee-nonce", Some("ab")), "e2ee_invalid_nonce"),
        (change("x-model-pub-key", Some(&other)), "e2ee_model_key_mismatch"),
        (change("x-client-pub-key", Some("zz")), "e2ee_invalid_public_key"),
        (altered, "e2ee_decryption_failed"),
    ];
    for (request, kind) in cases {
        let response = send(&node, &request).await;
        assert_eq!(response.status(), 400, "{kind}");
        assert_eq!(error(response).await.1, kind);
    }
    let (_, elsewhere) = sealed(&node, Suite::X25519, &body(json!({})), now());
    let mut post = node.client.post(node.url("/v1/responses")).bearer_auth(MINE).body(elsewhere.body);
    for (name, value) in &elsewhere.headers {
        post = post.header(*name, value);
    }
    assert_eq!(error(post.send().await.unwrap()).await.1, "e2ee_unsupported_endpoint");
}

fn limits() -> Limits {
    Limits { control: 64, headers: 8 << 10, trailers: 0, fields: 64, body: 1 << 20, informational: 0 }
}

fn config(node: &Node) -> KeyConfig {
    KeyConfig::parse(&node.node.keyset().ohttp_config().unwrap()).unwrap()
}

fn inner(path: &str, body: &Value) -> Request {
    let authorization = format!("Bearer {MINE}");
    Request::post("inference", path).header("authorization", authorization).body(body.to_string().into_bytes())
}

#[tokio::test]
async fn a_whole_request_is_sealed_and_so_is_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let asked = body(json!({}));
    let plain = inner("/v1/chat/completions", &asked).encode().unwrap();
    let (sealed, opener) = seal_request(&mut rand::rng(), &config(&node), &plain).unwrap();
    let post = node.client.post(node.url("/v1/sealed")).header(CONTENT_TYPE, REQUEST_MEDIA_TYPE);
    let response = post.body(sealed).send().await.unwrap().bytes().await.unwrap();
    let response = Response::decode(&opener.open(&response).unwrap(), &limits()).unwrap();
    assert_eq!(response.status, 200);
    let id = response.headers.value("x-receipt-id").unwrap().to_owned();
    node.proven(&id, asked.to_string().as_bytes(), &response.body).await;
    // Wrong paths, and no key, are said inside the seal.
    for (path, key, status) in [
        ("/v1/nothing", true, 404),
        ("/v1/sealed", true, 404),
        ("/v1/models", false, 401),
        ("/log/0x/checkpoint", true, 400),
    ] {
        let mut request = Request::post("inference", path);
        request.method = "GET".into();
        let request = if key { request.header("authorization", format!("Bearer {MINE}")) } else { request };
        let (sealed, opener) = seal_request(&mut rand::rng(), &config(&node), &request.encode().unwrap()).unwrap();
        let post = node.client.post(node.url("/v1/sealed")).header(CONTENT_TYPE, REQUEST_MEDIA_TYPE);
        let response = post.body(sealed).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let response = Response::decode(&opener.open(&response.bytes().await.unwrap()).unwrap(), &limits()).unwrap();
        assert_eq!(response.status, status, "{path}");
    }
    // What does not open is refused outside it.
    let post = node.client.post(node.url("/v1/sealed")).header(CONTENT_TYPE, REQUEST_MEDIA_TYPE);
    assert_eq!(error(post.body(vec![7; 1_400]).send().await.unwrap()).await.0, 400);
    let post = node.client.post(node.url("/v1/sealed")).header(CONTENT_TYPE, "application/json");
    assert_eq!(error(post.body("{}").send().await.unwrap()).await.0, 400);
}

#[tokio::test]
async fn a_stream_comes_sealed_as_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let asked = json!({ "model": "echo", "messages": [{ "role": "user", "content": "slow and with many more words than one" }], "stream": true });
    let plain = inner("/v1/chat/completions", &asked).encode().unwrap();
    let (mut sealed, sealer) = seal_chunked_request(&mut rand::rng(), &config(&node)).unwrap();
    let (last, mut opener) = sealer.finish(&plain).unwrap();
    sealed.extend(last);
    let post = node.client.post(node.url("/v1/sealed")).header(CONTENT_TYPE, CHUNKED_REQUEST_MEDIA_TYPE);
    let response = post.body(sealed).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], CHUNKED_RESPONSE_MEDIA_TYPE);
    let mut stream = response.bytes_stream();
    let mut reader = ResponseReader::new(limits());
    let (mut text, mut arrivals, mut id) = (Vec::new(), 0, String::new());
    let mut take = |parts: Vec<ResponsePart>, text: &mut Vec<u8>| {
        for part in parts {
            match part {
                ResponsePart::Start { headers, .. } => id = headers.value("x-receipt-id").unwrap().to_owned(),
                ResponsePart::Body(bytes) => text.extend(bytes),
                ResponsePart::End(_) => {}
            }
        }
    };
    while let Some(bytes) = stream.next().await {
        let plain = opener.push(&bytes.unwrap()).unwrap();
        arrivals += usize::from(!plain.is_empty());
        take(reader.push(&plain).unwrap(), &mut text);
    }
    take(reader.push(&opener.finish().unwrap()).unwrap(), &mut text);
    reader.finish().unwrap();
    assert!(arrivals > 5, "{arrivals} arrivals");
    node.proven(&id, asked.to_string().as_bytes(), &text).await;
}
