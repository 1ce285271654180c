//! A function's output triggers a contract: in order, once, whoever dies on the way.

use std::path::PathBuf;

use serde_json::{Value, json};
use tacit_client::Answer;
use tacit_ledger::{At, requests::Acceptance};
use tacit_receipt::{Bundle, Effect};
use tacit_types::{
    Address, FunctionId,
    chain::Publication,
    eip712::{Kind, Outcome, keccak},
    formats::publish_call_id,
    manifest::Manifest,
};
use tacit_verify::{Anchor, Judge, Verdict, Verifier};
use tacit_worker::Worker;

use crate::network::{Network, call, eventually, json, now};

const MODULE: &str = r#"
import { chain, state } from "tacit";
export async function announce({ contract, topic, data, fail }) {
  await state.set("last", data);
  const sequence = await chain.publish({ chain: "local", contract, topic, data });
  if (fail) throw new Error("as asked");
  return { sequence };
}
export async function twice({ contract, topic }) {
  const publish = (data) => chain.publish({ chain: "test-sim", contract, topic, data });
  return [await publish("0x01"), await publish(new Uint8Array([2]))];
}
export async function peek(input) { return announce(input); }
export async function keys() { return (await state.list("", null, 1000)).map((entry) => entry.key); }
"#;

async fn deploy(network: &Network, name: &str, more: &str) -> FunctionId {
    let manifest = format!(
        r#"
        [function]
        name = "{name}"
        entry = "index.js"
        [[method]]
        name = "peek"
        kind = "query"
        [[method]]
        name = "keys"
        kind = "query"
        [trust]
        policy = "dev"
        {more}
        "#
    );
    network.deploy_package(Manifest::from_toml(&manifest).unwrap(), MODULE).await
}

/// A contract that believes the workers of the network, and takes the function's publications.
async fn consumer(network: &Network, function: FunctionId) -> Address {
    let root = network.deployment.genesis.roots[0];
    let consumer = network.owner.deploy_stored_answers(&[root]).await.unwrap();
    network.owner.set_publisher(consumer, function, true).await.unwrap();
    consumer
}

async fn last(network: &Network, consumer: Address, function: FunctionId, topic: &str) -> u64 {
    network.owner.ledger().last_sequence(consumer, function, topic, At::Final).await.unwrap()
}

async fn delivered(network: &Network, consumer: Address, function: FunctionId, topic: &str, sequence: u64) -> Vec<u8> {
    eventually("the publication is on the chain", async || {
        (last(network, consumer, function, topic).await == sequence).then_some(())
    })
    .await;
    network.owner.ledger().stored_publication(consumer, function, topic, At::Final).await.unwrap()
}

async fn announce(network: &Network, function: FunctionId, to: Address, topic: &str, more: Value) -> Answer {
    let mut input = json!({ "contract": to, "topic": topic, "data": "0x2a" });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call(&network.client(), function, "announce", input).await
}

/// The public bundle of a publication, by the id that whoever has the call's receipt can compute.
async fn bundle(worker: &Worker, parent: &Answer, index: u64) -> (Bundle, Vec<u8>) {
    let receipt = parent.receipt();
    let id = publish_call_id(receipt.function_id, receipt.call_id, index);
    let fetched = reqwest::get(format!("http://{}/v1/receipts/{id}", worker.address())).await.unwrap();
    assert_eq!(fetched.status(), 200);
    let bytes = fetched.bytes().await.unwrap().to_vec();
    (Bundle::parse(&bytes).unwrap(), bytes)
}

fn verify(network: &Network, bundle: &[u8]) -> Verdict {
    let anchor = Anchor::new(network.deployment.clone()).unwrap();
    let report = Verifier::new(anchor, Judge::Preset(tacit_attest::Preset::Dev)).verify_bundle(bundle, now());
    assert!(report.failed().is_none(), "{report}");
    report.verdict
}

fn reminders(network: &Network) -> Vec<PathBuf> {
    let Ok(functions) = std::fs::read_dir(network.store().join("reminders")) else { return Vec::new() };
    functions
        .flat_map(|function| std::fs::read_dir(function.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

fn refusal(error: tacit_ledger::LedgerError) -> String {
    error.refusal().unwrap_or_else(|| panic!("{error}")).name.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_triggers_a_contract_and_its_receipt_verifies() {
    let network = Network::start().await;
    let worker = network.worker(0).await;
    let function = deploy(&network, "speaker", "[[publish]]\nchain = \"local\"\ncontract = \"any\"\n").await;
    let (to, other) = (consumer(&network, function).await, consumer(&network, function).await);

    let answer = announce(&network, function, to, "verdict", json!({})).await;
    assert_eq!(answer.response(), br#"{"sequence":1}"#);
    assert_eq!(delivered(&network, to, function, "verdict", 1).await, [0x2a]);

    // The receipt of the publication stands where its call's does, says what the contract recomputes, and verifies.
    let (published, bytes) = bundle(&worker, &answer, 0).await;
    let (one, parent) = (&published.receipt, answer.receipt());
    assert_eq!((one.kind, one.outcome, one.fuel), (Kind::Publish, Outcome::Ok, 0));
    assert_eq!(
        (one.sequence, one.head_before, one.head_after, one.fence, one.code_hash),
        (parent.sequence, parent.head_before, parent.head_after, parent.fence, parent.code_hash)
    );
    assert_eq!(verify(&network, &bytes), Verdict::Verified);
    let opened = published.openings.response.clone().unwrap();
    let publication = Publication::decode(&opened.bytes).unwrap();
    let chain_id = network.deployment.genesis.chain_id;
    let expected = Publication { chain_id, consumer: to, topic: "verdict".into(), sequence: 1, data: vec![0x2a] };
    assert_eq!(publication, expected);
    let others = [&published.openings.method, &published.openings.caller, &published.openings.request];
    assert!(others.iter().all(|opening| opening.is_none()), "only the publication itself is public");
    // And the call's own receipt names it.
    let effect =
        Effect::Publish { chain_id, consumer: to, topic: "verdict".into(), sequence: 1, data: keccak(&[0x2a]) };
    assert_eq!(Bundle::parse(answer.bundle()).unwrap().effects, [effect]);

    // Nothing else can be made of it: not other data, not another sequence, not for another contract, not twice.
    let forge = async |change: fn(&mut Publication), to: Address| {
        let mut forged = Publication { consumer: to, ..publication.clone() };
        change(&mut forged);
        let sent = network.owner.publish(&forged, one, &published.signature, published.acknowledgement.as_ref()).await;
        refusal(sent.unwrap_err())
    };
    assert_eq!(forge(|forged| forged.data.push(0), to).await, "NotThePublication");
    assert_eq!(forge(|forged| forged.sequence = 2, to).await, "NotThePublication");
    assert_eq!(forge(|forged| forged.topic.push('s'), to).await, "NotThePublication");
    assert_eq!(forge(|_| {}, other).await, "NotThePublication");
    assert_eq!(forge(|_| {}, to).await, "SequenceNotRising");

    // A failed call publishes nothing and takes no sequence; a query may not publish at all.
    let failed = announce(&network, function, to, "verdict", json!({ "fail": true })).await;
    assert_eq!(failed.outcome(), Outcome::Thrown);
    assert!(Bundle::parse(failed.bundle()).unwrap().effects.is_empty());
    let input = json!({ "contract": to, "topic": "verdict", "data": "0x00" });
    let refused = call(&network.client(), function, "peek", input).await;
    assert_eq!(refused.outcome(), Outcome::Thrown);
    assert!(String::from_utf8_lossy(refused.response()).contains("state-read-only"));
    let sequences = json(&network.client(), function, "twice", json!({ "contract": to, "topic": "verdict" })).await;
    assert_eq!(sequences, json!([2, 3]));
    assert_eq!(delivered(&network, to, function, "verdict", 3).await, [2]);
    // Each contract and topic has a sequence of its own.
    let again = announce(&network, function, to, "other", json!({})).await;
    assert_eq!(again.response(), br#"{"sequence":1}"#);
    assert_eq!(delivered(&network, to, function, "other", 1).await, [0x2a]);

    // A contract that wants the quorum's acknowledgement gets it.
    let root = network.deployment.genesis.roots[0];
    network.owner.set_root_of(other, root, Acceptance::OnlyAcknowledged).await.unwrap();
    announce(&network, function, other, "verdict", json!({})).await;
    assert_eq!(delivered(&network, other, function, "verdict", 1).await, [0x2a]);

    // What the worker keeps for it is not the code's to see, and nothing waits any more.
    assert_eq!(json(&network.client(), function, "keys", json!(null)).await, json!(["last"]));
    eventually("no reminder is left", async || reminders(&network).is_empty().then_some(())).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_contract_that_the_manifest_names_is_published_to() {
    let network = Network::start().await;
    let worker = network.worker(0).await;
    let (named, unnamed) = (Address::from([0xaa; 20]), Address::from([0xab; 20]));
    let entry = format!("[[publish]]\nchain = \"local\"\ncontract = \"{named}\"\n");
    let function = deploy(&network, "narrow", &entry).await;
    let mute = deploy(&network, "mute", "").await;
    for (function, to) in [(function, unnamed), (mute, named)] {
        let refused = announce(&network, function, to, "verdict", json!({})).await;
        assert_eq!(refused.outcome(), Outcome::Thrown);
        let failure: Value = serde_json::from_slice(refused.response()).unwrap();
        let line = format!("add to tacit.toml:\n[[publish]]\nchain = \"local\"\ncontract = \"{to}\"");
        assert!(failure["message"].as_str().unwrap().contains(&line), "{failure}");
    }
    // The named one may be written in any case. Nothing is there that could take it: that is not the call's failure.
    let shouted = json!({ "contract": named.to_string().to_uppercase().replacen("0X", "0x", 1) });
    assert_eq!(announce(&network, function, named, "verdict", shouted).await.response(), br#"{"sequence":1}"#);
    assert_eq!(reminders(&network).len(), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_delivered_though_its_worker_died() {
    let network = Network::start().await;
    let first = network.worker(0).await;
    let function = deploy(&network, "survivor", "[[publish]]\nchain = \"local\"\ncontract = \"any\"\n").await;
    let to = consumer(&network, function).await;
    // The contract takes nothing now, so nothing is delivered before the worker dies.
    network.owner.set_publisher(to, function, false).await.unwrap();
    let answer = announce(&network, function, to, "verdict", json!({})).await;
    assert_eq!(answer.response(), br#"{"sequence":1}"#);
    announce(&network, function, to, "verdict", json!({ "data": "0x2b" })).await;
    drop(first);
    assert_eq!(last(&network, to, function, "verdict").await, 0);

    // Nobody calls the function any more: the other worker finds the reminder.
    network.owner.set_publisher(to, function, true).await.unwrap();
    let second = network.worker(1).await;
    assert_eq!(delivered(&network, to, function, "verdict", 2).await, [0x2b]);
    let (stated, bytes) = bundle(&second, &answer, 0).await;
    assert_eq!(verify(&network, &bytes), Verdict::Verified);
    assert!(stated.receipt.fence > answer.receipt().fence);
    assert_eq!(stated.receipt.head_before, stated.receipt.head_after);
    eventually("no reminder is left", async || reminders(&network).is_empty().then_some(())).await;

    // The sequence goes on where it was, and a publication that comes late is refused as superseded.
    let third = announce(&network, function, to, "verdict", json!({})).await;
    assert_eq!(third.response(), br#"{"sequence":3}"#);
    assert_eq!(delivered(&network, to, function, "verdict", 3).await, [0x2a]);
    let publication = Publication::decode(&stated.openings.response.unwrap().bytes).unwrap();
    let late = network.owner.publish(&publication, &stated.receipt, &stated.signature, None).await;
    assert_eq!(refusal(late.unwrap_err()), "SequenceNotRising");
    second.stop().await;
}
