//! Requests over TLS: answers, refusals, and the receipts of both.

use std::{sync::atomic::Ordering, time::Duration};

use futures::StreamExt as _;
use serde_json::{Value, json};
use tacit_receipt::aci::{
    AttestationReport, InferenceOutcome,
    legacy::{LegacySignature, SigningAlgorithm, SigningIdentity},
};
use tacit_types::Digest;

use super::node::{MINE, Node, OTHER, POOR, SLOW, chat, error, receipt_id};

#[tokio::test]
async fn an_answer_comes_with_a_receipt_that_proves_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let body = chat("one two three", json!({ "seed": 7 }));
    let response = node.post("/v1/chat/completions", MINE, body.clone()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-aci-version"], "aci/1");
    assert!(response.headers()["x-aci-keyset-digest"].to_str().unwrap().starts_with("sha256:"));
    let id = receipt_id(&response);
    let bytes = response.bytes().await.unwrap();
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "one two three");
    let receipt = node.proven(&id, body.as_bytes(), &bytes).await;
    assert_eq!(receipt.chat_id(), answer["id"].as_str());
    assert_eq!((receipt.model(), receipt.endpoint()), (Some("echo"), "/v1/chat/completions"));
    let inference = receipt.inference().unwrap();
    assert_eq!(inference.model_digest.digest(), Digest::from([0xec; 32]));
    assert_eq!(inference.adapters.len(), 1);
    assert_eq!((inference.usage.prompt_tokens, inference.usage.completion_tokens), (3, 3));
    assert_eq!((inference.seed, inference.outcome), (Some(7), InferenceOutcome::Ok));
    assert_eq!(inference.price.as_ref().unwrap().amount, "9");
    // By the answer's name as well; by nobody else.
    let named = format!("/v1/aci/receipts/{}", answer["id"].as_str().unwrap());
    assert_eq!(node.get(&named, Some(MINE)).await.status(), 200);
    assert_eq!(error(node.get(&named, Some(OTHER)).await).await.1, "not_found");
    assert_eq!(error(node.get(&named, None).await).await.1, "unauthorized");
    assert_eq!(error(node.get("/v1/aci/receipts/rcpt_0", Some(MINE)).await).await.0, 404);
}

#[tokio::test]
async fn a_stream_is_proven_to_its_last_byte_and_padded() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let body = chat("one two three", json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let response = node.post("/v1/chat/completions", MINE, body.clone()).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let id = receipt_id(&response);
    let bytes = response.bytes().await.unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"));
    let frames: Vec<&str> = text.split_inclusive("\n\n").collect();
    let padded: Vec<usize> =
        frames.iter().filter(|frame| frame.contains("obfuscation")).map(|frame| frame.len()).collect();
    assert_eq!(padded.len(), 3);
    assert!(padded.iter().all(|length| length % 64 == 0), "{padded:?}");
    assert_eq!(node.proven(&id, body.as_bytes(), &bytes).await.inference().unwrap().outcome, InferenceOutcome::Ok);
}

#[tokio::test]
async fn refusals_have_the_right_shape_and_a_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let long = "word ".repeat(100);
    let nested = format!("{}1{}", "[".repeat(1 << 19), "]".repeat(1 << 19));
    let cases: Vec<(Vec<u8>, u16, &str, Value)> = vec![
        (chat("hi", json!({ "model": "gpt-9" })).into(), 404, "invalid_request_error", json!("model_not_found")),
        (chat(&long, json!({})).into(), 400, "invalid_request_error", json!("context_length_exceeded")),
        (chat("hi", json!({ "temperature": 9 })).into(), 400, "invalid_request_error", json!("invalid_value")),
        (chat("hi", json!({ "what": 9 })).into(), 400, "invalid_request_error", json!("unknown_parameter")),
        (b"{".to_vec(), 400, "invalid_request_error", Value::Null),
        (nested.into_bytes(), 400, "invalid_request_error", Value::Null),
        (b"{\"model\":\"\xff\"}".to_vec(), 400, "invalid_request_error", Value::Null),
        (chat("hi", json!({ "provider": { "aci_what": 1 } })).into(), 400, "invalid_request_error", Value::Null),
        (
            chat("hi", json!({ "provider": { "aci_session_ids": ["ab".repeat(32)] } })).into(),
            412,
            "session_not_accepted",
            Value::Null,
        ),
    ];
    for (body, status, kind, code) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let response = node.post("/v1/chat/completions", MINE, body.clone()).await;
        let id = receipt_id(&response);
        assert_eq!(response.status().as_u16(), status, "{shown}");
        let bytes = response.bytes().await.unwrap();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((&answer["error"]["type"], &answer["error"]["code"]), (&json!(kind), &code), "{shown}");
        let receipt = node.proven(&id, &body, &bytes).await;
        assert!(receipt.inference().is_none_or(|run| run.outcome == InferenceOutcome::Refused), "{shown}");
    }
    // A demand for a verified upstream holds: the models run in the attested program itself.
    let verified = chat("hi", json!({ "provider": { "aci_verified": true } }));
    assert_eq!(node.post("/v1/chat/completions", MINE, verified).await.status(), 200);
}

#[tokio::test]
async fn what_nobody_may_ask_gets_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let huge = chat(&"x".repeat(10 << 20), json!({}));
    assert_eq!(error(node.post("/v1/chat/completions", MINE, huge).await).await.0, 413);
    let wrong = error(node.chat("sk-nobody", "hi", json!({})).await).await;
    assert_eq!(wrong, (401, "invalid_request_error".into(), json!("invalid_api_key")));
    assert_eq!(error(node.get("/v1/models", None).await).await.0, 401);
    assert_eq!(error(node.get("/v1/nothing", Some(MINE)).await).await.2, json!("unknown_url"));
    assert_eq!(error(node.get("/v1/chat/completions", Some(MINE)).await).await.0, 405);
    let models: Value = node.get("/v1/models", Some(MINE)).await.json().await.unwrap();
    assert_eq!(models["data"][0]["digest"], format!("sha256:{}", "ec".repeat(32)));
}

#[tokio::test]
async fn rates_and_quotas_hold() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(node.chat(SLOW, "hi", json!({})).await);
    }
    // A minute may have ended in between, but then only one.
    let refused =
        statuses.into_iter().find(|response| response.status() == 429).expect("four requests within a minute or two");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(error(refused).await.2, json!("rate_limit_exceeded"));
    assert_eq!(node.chat(POOR, "one two three four five", json!({})).await.status(), 200);
    let refused = error(node.chat(POOR, "hi", json!({})).await).await;
    assert_eq!(refused, (429, "insufficient_quota".into(), json!("insufficient_quota")));
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_model_and_leaves_a_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let body = chat(&format!("slow {}", "word ".repeat(60)), json!({ "stream": true }));
    let response = node.post("/v1/chat/completions", MINE, body).await;
    let id = receipt_id(&response);
    let mut stream = response.bytes_stream();
    let mut seen = Vec::new();
    while seen.len() < 400 {
        seen.extend(stream.next().await.unwrap().unwrap());
    }
    assert_eq!(node.echo.running.load(Ordering::SeqCst), 1);
    drop(stream);
    let path = format!("/v1/aci/receipts/{id}");
    let receipt = loop {
        let response = node.get(&path, Some(MINE)).await;
        if response.status() == 200 {
            break tacit_receipt::aci::AciReceipt::parse(&response.bytes().await.unwrap()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    receipt.check_signature(node.node.keyset()).unwrap();
    let inference = receipt.inference().unwrap();
    assert_eq!((inference.outcome, inference.seed), (InferenceOutcome::Cancelled, Some(42)));
    // What was used until then is counted.
    assert_eq!(inference.usage.prompt_tokens, 61);
    assert!((1..61).contains(&inference.usage.completion_tokens), "{:?}", inference.usage);
    for _ in 0..100 {
        if node.echo.running.load(Ordering::SeqCst) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the model still works for nobody");
}

#[tokio::test]
async fn a_model_that_fails_says_so_in_a_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let body = chat("one break two", json!({}));
    let response = node.post("/v1/chat/completions", MINE, body.clone()).await;
    assert_eq!(response.status(), 500);
    let id = receipt_id(&response);
    let bytes = response.bytes().await.unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("one"));
    let receipt = node.proven(&id, body.as_bytes(), &bytes).await;
    assert_eq!(receipt.inference().unwrap().outcome, InferenceOutcome::Failed);
    let body = chat("one break two", json!({ "stream": true }));
    let response = node.post("/v1/chat/completions", MINE, body.clone()).await;
    let id = receipt_id(&response);
    let bytes = response.bytes().await.unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    let receipt = node.proven(&id, body.as_bytes(), &bytes).await;
    assert_eq!(receipt.inference().unwrap().outcome, InferenceOutcome::Failed);
}

#[tokio::test]
async fn receipts_and_log_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let response = node.chat(MINE, "hi", json!({})).await;
    let id = receipt_id(&response);
    let path = format!("/v1/aci/receipts/{id}");
    let before = node.get(&path, Some(MINE)).await.bytes().await.unwrap();
    let (keyset, account) = (node.node.keyset().clone(), node.node.account());
    assert!(node.node.receipts_survive());
    drop(node);
    let node = Node::start(folder.path()).await;
    assert_ne!(node.node.keyset().digest().unwrap(), keyset.digest().unwrap());
    assert_eq!(node.get(&path, Some(MINE)).await.bytes().await.unwrap(), before);
    tacit_receipt::aci::AciReceipt::parse(&before).unwrap().check_signature(&keyset).unwrap();
    assert_eq!(node.get(&format!("/log/{account}/checkpoint"), None).await.status(), 200);
}

#[tokio::test]
async fn the_report_names_keys_and_binds_the_nonce() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let nonce = "ab".repeat(32);
    let report = node.get(&format!("/v1/aci/attestation?nonce={nonce}"), None).await.bytes().await.unwrap();
    let report = AttestationReport::parse(&report).unwrap();
    let digest = report.check_binding(Some(Digest::from([0xab; 32]))).unwrap();
    assert_eq!(digest, node.node.keyset().digest().unwrap());
    assert!(report.check_binding(None).is_err());
    let unbound = node.get("/v1/aci/attestation", None).await.bytes().await.unwrap();
    AttestationReport::parse(&unbound).unwrap().check_binding(None).unwrap();
    for nonce in ["ab", &"AB".repeat(32), &"zz".repeat(32)] {
        assert_eq!(error(node.get(&format!("/v1/aci/attestation?nonce={nonce}"), None).await).await.0, 400, "{nonce}");
    }
    let sessions: Value = node.get("/v1/aci/sessions", None).await.json().await.unwrap();
    assert_eq!(sessions["sessions"], json!([]));
}

#[tokio::test]
async fn clients_of_the_older_interface_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let body = chat("hi", json!({}));
    let response = node.post("/v1/chat/completions", MINE, body.clone()).await;
    let bytes = response.bytes().await.unwrap();
    let id = serde_json::from_slice::<Value>(&bytes).unwrap()["id"].as_str().unwrap().to_owned();
    for (algorithm, name) in [(SigningAlgorithm::Ecdsa, "ecdsa"), (SigningAlgorithm::Ed25519, "ed25519")] {
        let report = node.get(&format!("/v1/attestation/report?signing_algo={name}&nonce=abc&version=2"), None).await;
        let report: Value = report.json().await.unwrap();
        let address = report["signing_address"].as_str().unwrap();
        let signature = node.get(&format!("/v1/signature/{id}?signing_algo={name}"), Some(MINE)).await;
        let signature: LegacySignature = signature.json().await.unwrap();
        let signer = SigningIdentity::parse(algorithm, address).unwrap();
        let digest = tacit_receipt::aci::PrefixedDigest::of;
        signature.verify(&signer, digest(body.as_bytes()), digest(&bytes)).unwrap();
        assert!(signature.verify(&signer, digest(b"other"), digest(&bytes)).is_err());
        let other = format!("/v1/attestation/report?signing_algo={name}&signing_address=0x{}", "11".repeat(20));
        assert_eq!(node.get(&other, None).await.status(), 404);
    }
}

#[tokio::test]
async fn the_other_endpoints_answer_and_are_proven() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let asked = [
        ("/v1/completions", json!({ "model": "echo", "prompt": ["a b", "c"], "n": 2 })),
        ("/v1/embeddings", json!({ "model": "echo", "input": ["a", "b"], "encoding_format": "base64" })),
        ("/v1/responses", json!({ "model": "echo", "input": "a b", "instructions": "be short" })),
        ("/v1/responses", json!({ "model": "echo", "input": "a b", "stream": true })),
    ];
    for (path, body) in asked {
        let body = body.to_string();
        let response = node.post(path, MINE, body.clone()).await;
        assert_eq!(response.status(), 200, "{path}");
        let id = receipt_id(&response);
        let bytes = response.bytes().await.unwrap();
        let receipt = node.proven(&id, body.as_bytes(), &bytes).await;
        assert_eq!((receipt.endpoint(), receipt.inference().unwrap().outcome), (path, InferenceOutcome::Ok));
    }
}
