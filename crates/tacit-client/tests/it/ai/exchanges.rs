//! With the worker's own service.

use std::time::Duration;

use serde_json::{Value, json};
use tacit_attest::{Policy, Preset, Seen};
use tacit_client::ai::{
    AiClient, AiError, AiRequest, Keep, StoredKind, TranscriptStore,
    audit::{AuditInput, audit},
};
use tacit_receipt::aci::{InferenceOutcome, PrefixedDigest};
use tacit_types::{Digest, UnixTime};
use tacit_verify::{Inspection, Judge, Verdict};

use super::{chat, client, node::Node, now, settings};

fn inspect(file: &[u8], judge: Judge) -> tacit_verify::Report {
    let inspection = Inspection {
        file,
        collateral: Vec::new(),
        anchor: None,
        judge,
        nonce: None,
        at: None,
        seen: Seen::default(),
        now: now(),
    };
    inspection.inspect().report
}

#[tokio::test]
async fn answers_and_streams_are_proven_and_anybody_can_judge_the_transcripts() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let client = client(node.url(), node.judge(), &folder.path().join("store"));
    let verified = client.verify().await.unwrap();
    assert!(verified.is_simulated());
    assert_eq!(verified.hardware(), "Intel TDX, simulated");

    let mut answer = client.send(chat("some words", json!({ "seed": 5 }))).await.unwrap();
    assert_eq!((answer.status(), answer.is_stream()), (200, false));
    let body: Value = serde_json::from_slice(&answer.rest().await.unwrap()).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "some words");
    let id = answer.receipt_id().unwrap().to_owned();
    let proof = answer.finish().await.unwrap().unwrap();
    assert_eq!((proof.receipt.id(), proof.verdict(), proof.log_index), (id.as_str(), "simulated", 0));
    let inference = proof.receipt.inference().unwrap();
    assert_eq!((inference.usage.prompt_tokens, inference.outcome), (2, InferenceOutcome::Ok));
    let line = proof.line();
    assert!(line.starts_with("SIMULATED · model echo sha256:ecec") && line.contains("2+2 tokens"), "{line}");

    let mut answer = client.send(chat("more words of it", json!({ "stream": true }))).await.unwrap();
    assert!(answer.is_stream());
    let mut pieces = 0;
    while answer.next().await.unwrap().is_some() {
        pieces += 1;
    }
    assert!(pieces > 2, "{pieces}");
    let proof = answer.finish().await.unwrap().unwrap();
    assert_eq!(proof.log_index, 1);

    // The transcript needs neither node nor network.
    let file = std::fs::read(proof.stored.as_ref().unwrap()).unwrap();
    let report = inspect(&file, node.judge());
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
    assert_eq!(inspect(&file, Judge::Preset(Preset::Standard)).verdict, Verdict::Refused);
    let text = String::from_utf8(file).unwrap();
    let altered = text.replacen("\"response_b64\":\"ZGF0", "\"response_b64\":\"ZGF1", 1);
    assert_ne!(altered, text);
    assert_eq!(inspect(altered.as_bytes(), node.judge()).verdict, Verdict::Refused);

    // Documents have no receipt; refusals of the service have one.
    let mut answer = client.send(AiRequest::get("/v1/models")).await.unwrap();
    assert!(String::from_utf8(answer.rest().await.unwrap()).unwrap().contains("\"echo\""));
    assert!(answer.finish().await.unwrap().is_none());
    let mut request = chat("x", json!({ "model": "nobody" }));
    request = request.header("accept", "application/json");
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.status(), 404);
    assert!(answer.finish().await.unwrap().unwrap().receipt.inference().is_none());
    assert_eq!(client.recent().len(), 3);
}

#[tokio::test]
async fn a_node_under_another_policy_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let refused = async |judge: Judge, roots| {
        let settings = settings(node.url(), judge, &folder.path().join("store")).knowing(roots);
        match AiClient::new(settings).unwrap().send(chat("secret", json!({}))).await {
            Err(AiError::Node(report)) => (report.verdict, report.failed().map(|step| step.step.name())),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it was sent"),
        }
    };
    let known = node.policy.extra_roots.clone();
    // The root is not named: refused, and called simulated where it is known to be one.
    let standard = || Judge::Preset(Preset::Standard);
    assert_eq!(refused(standard(), Vec::new()).await, (Verdict::Refused, Some("id-1")));
    assert_eq!(refused(standard(), known.clone()).await, (Verdict::Simulated, None));
    // Other code under the same root.
    let other = Policy::preset(Preset::Dev).with_root(known[0].clone()).with_image("node", &[[7; 32].into()]);
    assert_eq!(refused(Judge::Policy(Box::new(other)), known).await, (Verdict::Refused, Some("id-1")));
    assert!(TranscriptStore::new(folder.path().join("store"), Keep::Full).list(UnixTime(0), now()).unwrap().is_empty());
}

#[tokio::test]
async fn only_pinned_models_answer() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let pinned = |digest: [u8; 32]| {
        let digest = PrefixedDigest::from(Digest::from(digest));
        AiClient::new(settings(node.url(), node.judge(), folder.path()).only_models([digest])).unwrap()
    };
    assert!(pinned([0xec; 32]).send(chat("words", json!({}))).await.unwrap().finish().await.unwrap().is_some());
    let other = pinned([1; 32]);
    assert!(matches!(other.send(chat("words", json!({}))).await, Err(AiError::Model { .. })));
    assert!(matches!(other.send(chat("words", json!({ "model": "x" }))).await, Err(AiError::UnknownModel)));
}

#[tokio::test]
async fn an_answer_that_is_given_up_leaves_its_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let client = client(node.url(), node.judge(), &folder.path().join("store"));
    let text = format!("slow {}", "word ".repeat(200));
    let mut answer = client.send(chat(&text, json!({ "stream": true }))).await.unwrap();
    answer.next().await.unwrap().unwrap();
    drop(answer);
    let store = client.store().unwrap();
    let mut files = Vec::new();
    for _ in 0..300 {
        files = store.list(UnixTime(0), now()).unwrap();
        if !files.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(files.iter().map(|file| file.kind).collect::<Vec<_>>(), [StoredKind::Cut]);
    let report = inspect(&std::fs::read(&files[0].path).unwrap(), node.judge());
    assert_eq!(report.verdict, Verdict::Verified, "{report}");
    for _ in 0..100 {
        if !client.recent().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.recent()[0].receipt.inference().unwrap().outcome, InferenceOutcome::Cancelled);
}

#[tokio::test]
async fn an_audit_sums_up_a_period_and_lists_what_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let folders = ["one", "two"].map(|name| folder.path().join(name));
    let full = client(node.url(), node.judge(), &folders[0]);
    let hashes =
        settings(node.url(), node.judge(), &folders[0]).storing(TranscriptStore::new(folders[0].clone(), Keep::Hashes));
    let hashes = AiClient::new(hashes).unwrap();
    let other = client(node.url(), node.judge(), &folders[1]);
    for client in [&full, &hashes, &other, &full] {
        client.send(chat("three words here", json!({}))).await.unwrap().finish().await.unwrap().unwrap();
    }
    let stored = hashes.recent()[0].stored.clone().unwrap();
    let text = std::fs::read_to_string(&stored).unwrap();
    assert!(!text.contains("request_b64") && !text.contains("response_b64"));
    let report = inspect(text.as_bytes(), node.judge());
    assert_eq!(report.verdict, Verdict::Verified);
    assert!(report.to_string().contains("receipt-4: the response is not kept"), "{report}");

    let (judge, url) = (node.judge(), node.url());
    let store = full.store().unwrap();
    let input = AuditInput { store, from: UnixTime(0), to: now(), judge: &judge, node: Some(&url), now: now() };
    let report = audit(&input).await.unwrap();
    assert_eq!((report.transcripts, report.bodies_kept, report.exceptions.len()), (3, 2, 0), "{report}");
    assert!(report.is_complete());
    assert_eq!((report.logs[0].size, report.logs[0].mine, report.logs[0].others), (4, 3, 1));
    let model = &report.models[0];
    assert_eq!((model.requests, model.prompt_tokens, model.completion_tokens), (3, 9, 9));
    assert_eq!(model.prices["USD"], "27");
    assert!(String::from_utf8(report.to_bytes().unwrap()).unwrap().contains("\"signed\":false"));
    assert!(report.to_string().ends_with("0 exceptions; this report is not signed\n"));
    let empty = audit(&AuditInput { to: UnixTime(1), ..input }).await.unwrap();
    assert_eq!((empty.transcripts, empty.logs.len()), (0, 0));

    // One receipt twice, an altered file, an unknown one, and a policy that the node does not hold under.
    let copy = stored.with_file_name(format!("{}-00000000-copy.transcript.json", now().0));
    std::fs::copy(&stored, copy).unwrap();
    let first = full.recent()[0].stored.clone().unwrap();
    let altered = std::fs::read_to_string(&first).unwrap().replacen("\"prompt_tokens\":3", "\"prompt_tokens\":2", 1);
    std::fs::write(&first, altered).unwrap();
    let input = AuditInput { store, from: UnixTime(0), to: now(), judge: &judge, node: Some(&url), now: now() };
    let report = audit(&input).await.unwrap();
    let what: Vec<&str> = report.exceptions.iter().map(|exception| exception.what.as_str()).collect();
    assert_eq!(what.len(), 2, "{report}");
    assert!(what.iter().any(|what| what.contains("one receipt was given for two exchanges")), "{what:?}");
    assert!(what.iter().any(|what| what.starts_with("REFUSED: receipt-1")), "{what:?}");
    let standard = Judge::Preset(Preset::Standard);
    let report = audit(&AuditInput { judge: &standard, node: None, ..input }).await.unwrap();
    assert_eq!((report.exceptions.len(), report.models.len()), (4, 0), "{report}");
}
