//! With a node that lies: each lie has its refusal.

use std::path::Path;

use serde_json::json;
use tacit_attest::Preset;
use tacit_client::ai::{
    AiClient, AiError, StoredKind,
    audit::{AuditInput, audit},
};
use tacit_receipt::aci::PrefixedDigest;
use tacit_types::{Digest, UnixTime};
use tacit_verify::{Judge, Verdict};

use super::{
    chat, client, now, settings,
    stand_in::{Flaw, MODEL_DIGEST, StandIn},
};

const CHAT: &str = "/v1/chat/completions";

async fn ask(client: &AiClient, stream: bool) -> Result<u64, AiError> {
    let answer = client.send(chat("hello", json!({ "stream": stream }))).await?;
    let proof = answer.finish().await?;
    Ok(proof.map(|proof| proof.log_index).unwrap())
}

/// The failed step of a receipt, or the kind of another error.
fn kind(result: &Result<u64, AiError>) -> String {
    match result {
        Ok(index) => format!("proven at {index}"),
        Err(AiError::Receipt(report)) => format!("receipt: {}", report.failed().unwrap().step.name()),
        Err(AiError::OtherExchange(_)) => "other exchange".into(),
        Err(AiError::Model { .. }) => "model".into(),
        Err(AiError::NoReceipt) => "no receipt".into(),
        Err(AiError::Status { status }) => format!("status {status}"),
        Err(AiError::Log(_)) => "log".into(),
        Err(AiError::Cut { stored, .. }) => format!("cut, stored {}", stored.is_some()),
        Err(other) => format!("{other:?}"),
    }
}

fn files(store: &Path) -> Vec<StoredKind> {
    let store = tacit_client::ai::TranscriptStore::new(store.to_owned(), tacit_client::ai::Keep::Full);
    store.list(UnixTime(0), now()).unwrap().iter().map(|file| file.kind).collect()
}

#[tokio::test]
async fn each_lie_about_an_answer_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start(folder.path(), "127.0.0.1:0", false).await;
    let pin = PrefixedDigest::from(Digest::from(MODEL_DIGEST));
    for stream in [false, true] {
        for (flaw, expected) in [
            (Flaw::None, "proven at"),
            (Flaw::AlteredReceipt, "receipt: receipt-1"),
            (Flaw::AlteredResponse, "receipt: receipt-4"),
            (Flaw::EarlierReceipt, "other exchange"),
            (Flaw::OtherUsage, "receipt: inference"),
            (Flaw::OtherModelName, "other exchange"),
            (Flaw::SwappedModel, "model"),
            (Flaw::NoReceipt, "no receipt"),
            (Flaw::LostReceipt, "status 404"),
            (Flaw::NotInLog, "receipt: log"),
            (Flaw::OtherKeyset, "other exchange"),
            (Flaw::Cut, "cut, stored true"),
            (Flaw::ForgetfulLog, "log"),
        ] {
            let store = folder.path().join(format!("{flaw:?}-{stream}"));
            let client = AiClient::new(settings(node.url(), node.judge(), &store).only_models([pin])).unwrap();
            node.be(Flaw::None);
            // What has been seen of the log before.
            assert!(kind(&ask(&client, stream).await).starts_with("proven at"), "{flaw:?}");
            node.be(flaw);
            let found = ask(&client, stream).await;
            assert!(kind(&found).starts_with(expected), "{flaw:?}: {}", kind(&found));
            if let Err(error) = &found
                && !matches!(flaw, Flaw::LostReceipt | Flaw::Cut)
            {
                assert_eq!(error.verdict(), Some(Verdict::Refused), "{flaw:?}");
            }
            // What does not hold is kept, and noted.
            let kept = files(&store);
            let noted = !matches!(flaw, Flaw::None | Flaw::Cut | Flaw::OtherKeyset);
            assert_eq!(kept.contains(&StoredKind::Failure), noted, "{flaw:?}: {kept:?}");
            assert_eq!(kept.contains(&StoredKind::Cut), flaw == Flaw::Cut, "{flaw:?}: {kept:?}");
        }
    }
}

#[tokio::test]
async fn a_replayed_receipt_of_another_request_is_refused_by_its_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start(folder.path(), "127.0.0.1:0", false).await;
    let client = client(node.url(), node.judge(), &folder.path().join("store"));
    assert!(ask(&client, false).await.is_ok());
    node.be(Flaw::EarlierReceipt);
    let answer = client.send(chat("something else", json!({}))).await.unwrap();
    match answer.finish().await {
        Err(AiError::Receipt(report)) => assert_eq!(report.failed().unwrap().step.name(), "receipt-3"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whoever_stands_between_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start(folder.path(), "127.0.0.1:0", true).await;
    let client = client(node.url(), node.judge(), &folder.path().join("store"));
    match client.send(chat("secret", json!({}))).await {
        Err(AiError::Node(report)) => assert_eq!(report.failed().unwrap().step.name(), "id-6"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was sent"),
    }
    assert_eq!(node.opened(CHAT), 0);
}

#[tokio::test]
async fn a_node_that_comes_back_with_other_keys_is_verified_anew() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start(folder.path(), "127.0.0.1:0", false).await;
    let (address, judge) = (node.address.to_string(), node.judge());
    let client = client(node.url(), judge, &folder.path().join("store"));
    assert_eq!(ask(&client, false).await.unwrap(), 0);
    let before = client.verified().await.unwrap().service().digest();
    drop(node);
    // The connection is noticed to be gone, or refused.
    let node = StandIn::start(folder.path(), &address, false).await;
    let mut found = ask(&client, true).await;
    if matches!(found, Err(AiError::Unreachable { .. })) {
        // A request that was on its way when the node went is not sent twice.
        found = ask(&client, true).await;
    }
    assert_eq!(found.unwrap(), 0);
    let after = client.verified().await.unwrap().service().digest();
    assert_ne!(before, after);
    assert_eq!(node.opened(CHAT), 1);
    // One that comes back with code that the policy does not list gets nothing.
    drop(node);
    let other = folder.path().join("other");
    let impostor = StandIn::start(&other, &address, false).await;
    let mut found = ask(&client, false).await;
    if matches!(found, Err(AiError::Unreachable { .. })) {
        found = ask(&client, false).await;
    }
    assert!(matches!(found, Err(AiError::Node(_))), "{found:?}");
    assert_eq!(impostor.opened(CHAT), 0);
}

#[tokio::test]
async fn policies_that_list_no_code_demand_a_measured_description() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start(folder.path(), "127.0.0.1:0", false).await;
    let any = Judge::Policy(Box::new(node.root_policy()));
    assert!(ask(&client(node.url(), any, &folder.path().join("store")), false).await.is_ok());
    let standard = client(node.url(), Judge::Preset(Preset::Standard), &folder.path().join("store"));
    assert!(matches!(standard.verify().await, Err(AiError::Node(_))));
}

#[tokio::test]
async fn an_audit_notices_a_log_that_forgot() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start(folder.path(), "127.0.0.1:0", false).await;
    let mine = client(node.url(), node.judge(), &folder.path().join("mine"));
    assert_eq!(ask(&mine, false).await.unwrap(), 0);
    assert_eq!(ask(&mine, false).await.unwrap(), 1);
    let (judge, url) = (node.judge(), node.url());
    let store = mine.store().unwrap();
    let input = || AuditInput { store, from: UnixTime(0), to: now(), judge: &judge, node: Some(&url), now: now() };
    let report = audit(&input()).await.unwrap();
    assert!(report.exceptions.is_empty() && report.is_complete(), "{report}");
    // The log begins anew for somebody else.
    node.be(Flaw::ForgetfulLog);
    let other = client(node.url(), node.judge(), &folder.path().join("other"));
    assert_eq!(ask(&other, false).await.unwrap(), 5);
    let report = audit(&input()).await.unwrap();
    let what: Vec<&str> = report.exceptions.iter().map(|exception| exception.what.as_str()).collect();
    assert!(what.iter().any(|what| what.starts_with("the log no longer begins with the 2 entries")), "{report}");
    assert!(what.iter().any(|what| what.starts_with("the log no longer has the receipt at 0")), "{report}");
    // Without the node the logs are not checked, and the report says so.
    let report = audit(&AuditInput { node: None, ..input() }).await.unwrap();
    assert!(report.exceptions.is_empty() && !report.is_complete(), "{report}");
}
