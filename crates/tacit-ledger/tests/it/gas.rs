//! What verification costs on the home chain: whole transactions, cold storage, calldata and base cost included.

use tacit_ledger::{Acceptance, requests::compact_batch};
use tacit_types::{CallId, Digest, Head, chain::receipt_batch_digest, eip712::Receipt, formats::sha256};

use crate::fixture::Cluster;

/// Receipts of 64 answers to one contract: every commitment a hash, each answer in a commit of its own.
fn answers(template: &Receipt) -> Vec<Receipt> {
    let word = |name: &str, index: u64| sha256(format!("{name} {index}").as_bytes()).into_bytes();
    (0..64_u64)
        .map(|index| Receipt {
            call_id: CallId::from(word("call", index)),
            request: word("request", index).into(),
            response: word("response", index).into(),
            effects: word("effects", index).into(),
            usage: word("usage", index).into(),
            sequence: 1_000 + index,
            head_before: Head::from(word("head", index)),
            head_after: Head::from(word("head", index + 1)),
            fuel: 2_345_678 + index,
            ..template.clone()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_receipt_and_sixty_four() {
    let cluster = Cluster::start().await;
    let me = cluster.owner.address();
    cluster.owner.set_root(cluster.certificate_body.root, Acceptance::Yes).await.unwrap();
    let consumer = cluster.consumer().await;
    let request = cluster.ask(consumer, 200_000, 1_000).await;
    let (template, _) = cluster.answer(&request, b"{\"usd\":\"61234.50\"}");

    let single = answers(&template).remove(1);
    let spent = cluster.owner.spend_verify(me, &single, &cluster.sign(&single)).await.unwrap().gas;
    let batch = answers(&template);
    let digests: Vec<Digest> = batch.iter().map(|receipt| receipt.digest(cluster.id)).collect();
    let signature = cluster.worker.sign(receipt_batch_digest(cluster.certificate, &digests, cluster.id));
    let compact = compact_batch(&batch).unwrap();
    let total = cluster.owner.spend_verify_batch(me, &compact, &signature).await.unwrap().gas;
    let each = (total - 21_000) / 64;
    let (receipt, signature) = cluster.answer(&request, b"{\"usd\":\"61234.50\"}");
    let fulfil = cluster
        .owner
        .fulfil(request.id, b"{\"usd\":\"61234.50\"}", &receipt, &signature, None)
        .await
        .unwrap()
        .outcome
        .gas;
    println!("verify {spent} gas · batch of 64 {each} gas each · fulfil with callback {fulfil} gas");
    assert!(spent <= 60_000, "verify costs {spent}");
    assert!(each <= 10_000, "an answer in a batch of 64 costs {each}");
    cluster.anvil.stop().await;
}
