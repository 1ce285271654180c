//! Contracts and Rust compute the same digests, for values nobody chose.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use tacit_ledger::{At, requests::compact_batch};
use tacit_types::{
    Digest, UnixTime,
    chain::receipt_batch_digest,
    eip712::{Kind, Outcome, Receipt},
};

use crate::fixture::Cluster;

const KINDS: [Kind; 8] = [
    Kind::Command,
    Kind::Query,
    Kind::StaleQuery,
    Kind::Trigger,
    Kind::ChainRequest,
    Kind::Publish,
    Kind::Inference,
    Kind::Training,
];
const OUTCOMES: [Outcome; 5] = [Outcome::Ok, Outcome::Thrown, Outcome::Limit, Outcome::Denied, Outcome::Unavailable];

fn receipts() -> impl Strategy<Value = Receipt> {
    let words = prop::array::uniform12(any::<[u8; 32]>());
    let numbers = prop::array::uniform5(any::<u64>());
    (words, numbers, 0..KINDS.len(), 0..OUTCOMES.len()).prop_map(|(word, number, kind, outcome)| Receipt {
        function_id: word[0].into(),
        code_hash: word[1].into(),
        certificate: word[2].into(),
        call_id: word[3].into(),
        kind: KINDS[kind],
        outcome: OUTCOMES[outcome],
        method: word[4].into(),
        caller: word[5].into(),
        request: word[6].into(),
        response: word[7].into(),
        sequence: number[0],
        head_before: word[8].into(),
        head_after: word[9].into(),
        fence: number[1],
        effects: word[10].into(),
        usage: word[11].into(),
        fuel: number[2],
        time: UnixTime(number[3]),
        epoch: number[4],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_have_one_digest() {
    let cluster = Cluster::start().await;
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..64 {
        let receipt = receipts().new_tree(&mut runner).unwrap().current();
        let theirs = cluster.ledger.receipt_digest(&receipt, At::Latest).await.unwrap();
        assert_eq!(theirs, receipt.digest(cluster.id), "{receipt:?}");
    }
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_any_size_have_one_root() {
    let cluster = Cluster::start().await;
    let me = cluster.owner.address();
    let root = cluster.certificate_body.root;
    cluster.owner.set_root(root, tacit_ledger::Acceptance::Yes).await.unwrap();
    let now = cluster.ledger.latest().await.unwrap().time;
    let mut runner = TestRunner::new(Config::default());
    for size in [1_usize, 2, 3, 5, 8, 13, 33] {
        let first = receipts().new_tree(&mut runner).unwrap().current();
        let mut batch: Vec<Receipt> = Vec::new();
        for index in 0..size {
            let random = receipts().new_tree(&mut runner).unwrap().current();
            // Two receipts to a commit, every third commit not following the one before.
            let previous = batch.last();
            let (sequence, before, after) = match previous {
                Some(last) if index % 2 == 1 => (last.sequence, last.head_before, last.head_after),
                Some(last) if index % 6 != 0 => (last.sequence.wrapping_add(1), last.head_after, random.head_after),
                _ => (random.sequence, random.head_before, random.head_after),
            };
            batch.push(Receipt {
                certificate: cluster.certificate,
                call_id: random.call_id,
                request: random.request,
                response: random.response,
                effects: random.effects,
                usage: random.usage,
                fuel: random.fuel,
                time: now,
                sequence,
                head_before: before,
                head_after: after,
                ..first.clone()
            });
        }
        let digests: Vec<Digest> = batch.iter().map(|receipt| receipt.digest(cluster.id)).collect();
        let signature = cluster.worker.sign(receipt_batch_digest(cluster.certificate, &digests, cluster.id));
        let compact = compact_batch(&batch).unwrap();
        let theirs = cluster.ledger.verify_batch(me, &compact, &signature, At::Latest).await.unwrap();
        assert_eq!(theirs, digests, "batch of {size}");
    }
    let mixed =
        [receipts().new_tree(&mut runner).unwrap().current(), receipts().new_tree(&mut runner).unwrap().current()];
    assert!(compact_batch(&mixed).is_none());
    cluster.anvil.stop().await;
}
