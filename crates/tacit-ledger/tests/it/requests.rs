//! Pull and push: answers, callbacks, refunds, publications, and what the contracts refuse.

use tacit_ledger::{
    Acceptance, At, LedgerError, RequestStatus,
    requests::{BatchAnswer, compact_batch},
};
use tacit_types::{
    Address, CallId, CertificateId, CodeHash, Digest, FunctionId, Head, RootId, UnixTime,
    chain::{MAX_PUBLICATION_DATA, receipt_batch_digest},
    eip712::{Kind, Outcome, Receipt},
    merkle,
};

use crate::fixture::{Cluster, ETHER, ROOT, digest, key, refused, version};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_reaches_its_contract_and_the_fee_its_operator() {
    let cluster = Cluster::start().await;
    let consumer = cluster.consumer().await;
    let request = cluster.ask(consumer, 200_000, 1_000_000).await;
    assert_eq!(request.arguments.consumer, consumer);
    let block = cluster.ledger.finalized().await.unwrap();
    assert_eq!(cluster.ledger.prove_request(&request, block).await.unwrap(), RequestStatus::Open);
    let mut other = request.clone();
    other.created_at = UnixTime(1);
    assert!(cluster.ledger.prove_request(&other, block).await.is_err());

    let deliverer = key(0x72);
    cluster.anvil.fund(deliverer.address(), ETHER).await.unwrap();
    let anyone = cluster.ledger.writer(&deliverer).unwrap();
    let (receipt, signature) = cluster.answer(&request, b"42");
    let delivery = anyone.fulfil(request.id, b"42", &receipt, &signature, None).await.unwrap();
    assert_eq!(delivery.called_back, Some(true));
    assert_eq!(cluster.status(request.id).await, RequestStatus::Done);
    assert_eq!(cluster.ledger.stored_answer(consumer, request.id, At::Final).await.unwrap(), b"42");
    assert_eq!(cluster.ledger.response(request.id, At::Final).await.unwrap(), b"42");
    assert_eq!(cluster.ledger.owed(cluster.operator, At::Final).await.unwrap(), 900_000);
    assert_eq!(cluster.ledger.owed(deliverer.address(), At::Final).await.unwrap(), 100_000);
    let to = Address::from([0x73; 20]);
    anyone.withdraw(to).await.unwrap();
    assert_eq!(cluster.ledger.balance(to, At::Final).await.unwrap(), 100_000);
    assert_eq!(refused(anyone.withdraw(to).await), "NothingOwed");
    assert_eq!(refused(anyone.fulfil(request.id, b"42", &receipt, &signature, None).await), "WrongStatus");
    assert_eq!(refused(anyone.retry(request.id, 0).await), "WrongStatus");
    cluster.anvil.stop().await;
}

type Change = Box<dyn Fn(&mut Receipt)>;

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_an_answer_is_checked() {
    let cluster = Cluster::start().await;
    let consumer = cluster.consumer().await;
    let request = cluster.ask(consumer, 200_000, 0).await;
    let (good, _) = cluster.answer(&request, b"42");
    let now = cluster.ledger.latest().await.unwrap().time;
    let changes: Vec<(&str, &str, Change)> = vec![
        ("NotTheAnswer", "functionId", Box::new(|r| r.function_id = FunctionId::from([1; 32]))),
        ("NotTheAnswer", "codeHash", Box::new(|r| r.code_hash = CodeHash::from([1; 32]))),
        ("UnknownCertificate", "", Box::new(|r| r.certificate = CertificateId::from([1; 32]))),
        ("NotTheAnswer", "callId", Box::new(|r| r.call_id = CallId::from([1; 32]))),
        ("NotTheAnswer", "kind", Box::new(|r| r.kind = Kind::Command)),
        ("NotTheAnswer", "outcome", Box::new(|r| r.outcome = Outcome::Thrown)),
        ("NotTheAnswer", "method", Box::new(|r| r.method = digest(1))),
        ("NotTheAnswer", "caller", Box::new(|r| r.caller = digest(1))),
        ("NotTheAnswer", "request", Box::new(|r| r.request = digest(1))),
        ("NotTheAnswer", "response", Box::new(|r| r.response = digest(1))),
        ("NotTheAnswer", "time", Box::new(|r| r.time = r.time.minus(1))),
        ("TimeOutOfRange", "", Box::new(move |r| r.time = now.plus(3_600))),
    ];
    for (name, field, change) in changes {
        let mut receipt = good.clone();
        change(&mut receipt);
        let result = cluster.owner.fulfil(request.id, b"42", &receipt, &cluster.sign(&receipt), None).await;
        let error = result.unwrap_err();
        let refusal = error.refusal().unwrap_or_else(|| panic!("{error}"));
        assert!(refusal.name == name && refusal.text.contains(field), "{field}: {refusal}");
    }
    // Members that only the signature covers.
    let signed: Vec<Change> = vec![
        Box::new(|r| r.sequence += 1),
        Box::new(|r| r.head_before = Head::from([1; 32])),
        Box::new(|r| r.head_after = Head::from([1; 32])),
        Box::new(|r| r.fence += 1),
        Box::new(|r| r.effects = digest(1)),
        Box::new(|r| r.usage = Digest::ZERO),
        Box::new(|r| r.fuel += 1),
        Box::new(|r| r.epoch += 1),
    ];
    let signature = cluster.sign(&good);
    for change in signed {
        let mut receipt = good.clone();
        change(&mut receipt);
        assert_eq!(refused(cluster.owner.fulfil(request.id, b"42", &receipt, &signature, None).await), "WrongWorker");
    }
    let stranger = key(0x74).sign(good.digest(cluster.id));
    assert_eq!(refused(cluster.owner.fulfil(request.id, b"42", &good, &stranger, None).await), "WrongWorker");
    assert_eq!(refused(cluster.owner.fulfil(request.id, b"43", &good, &signature, None).await), "NotTheAnswer");
    assert_eq!(cluster.status(request.id).await, RequestStatus::Open);
    cluster.owner.fulfil(request.id, b"42", &good, &signature, None).await.unwrap();
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_does_not_answer_a_later_request() {
    let mut cluster = Cluster::start().await;
    let consumer = cluster.consumer().await;
    let early = cluster.ask(consumer, 0, 0).await;
    let (early_receipt, early_signature) = cluster.answer(&early, b"1");
    cluster.pass(5).await;
    cluster.owner.upgrade_function(cluster.function, &version(2)).await.unwrap();
    cluster.pass(5).await;
    let late = cluster.ask(consumer, 0, 0).await;
    let (old, signature) = cluster.answer(&late, b"1");
    assert_eq!(refused(cluster.owner.fulfil(late.id, b"1", &old, &signature, None).await), "NotTheAnswer");
    // A request from before the upgrade may be answered by the version of its time.
    cluster.owner.fulfil(early.id, b"1", &early_receipt, &early_signature, None).await.unwrap();
    cluster.version = version(2);
    let (new, signature) = cluster.answer(&late, b"1");
    cluster.owner.fulfil(late.id, b"1", &new, &signature, None).await.unwrap();
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_reverts_blocks_nobody_and_is_retried() {
    let cluster = Cluster::start().await;
    let (broken, other) = (cluster.consumer().await, cluster.consumer().await);
    let first = cluster.ask(broken, 200_000, 10).await;
    let second = cluster.ask(other, 200_000, 10).await;
    cluster.owner.set_paused(broken, true).await.unwrap();

    let (receipt, signature) = cluster.answer(&first, b"1");
    let delivery = cluster.owner.fulfil(first.id, b"1", &receipt, &signature, None).await.unwrap();
    assert_eq!(delivery.called_back, Some(false));
    assert_eq!(cluster.status(first.id).await, RequestStatus::CallbackFailed);
    assert_eq!(cluster.ledger.response(first.id, At::Final).await.unwrap(), b"1");
    let (receipt, signature) = cluster.answer(&second, b"2");
    let delivery = cluster.owner.fulfil(second.id, b"2", &receipt, &signature, None).await.unwrap();
    assert_eq!(delivery.called_back, Some(true));

    let anyone = key(0x75);
    cluster.anvil.fund(anyone.address(), ETHER).await.unwrap();
    let anyone = cluster.ledger.writer(&anyone).unwrap();
    assert_eq!(anyone.retry(first.id, 0).await.unwrap().called_back, Some(false));
    cluster.owner.set_paused(broken, false).await.unwrap();
    assert_eq!(anyone.retry(first.id, 0).await.unwrap().called_back, Some(true));
    assert_eq!(cluster.status(first.id).await, RequestStatus::Done);
    assert_eq!(cluster.ledger.stored_answer(broken, first.id, At::Final).await.unwrap(), b"1");
    assert_eq!(refused(anyone.retry(first.id, 0).await), "WrongStatus");
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_request_is_refunded_after_its_deadline() {
    let cluster = Cluster::start().await;
    let consumer = cluster.consumer().await;
    let request = cluster.ask(consumer, 200_000, 5_000).await;
    let (receipt, signature) = cluster.answer(&request, b"late");
    assert_eq!(refused(cluster.owner.refund(request.id).await), "DeadlineAhead");
    cluster.pass(700).await;
    assert_eq!(refused(cluster.owner.fulfil(request.id, b"late", &receipt, &signature, None).await), "DeadlinePassed");
    cluster.owner.refund(request.id).await.unwrap();
    assert_eq!(cluster.status(request.id).await, RequestStatus::Refunded);
    assert_eq!(cluster.ledger.owed(consumer, At::Final).await.unwrap(), 5_000);
    assert_eq!(refused(cluster.owner.refund(request.id).await), "WrongStatus");
    cluster.owner.collect(consumer).await.unwrap();
    assert_eq!(cluster.ledger.owed(consumer, At::Final).await.unwrap(), 0);
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_counts_once_in_rising_order_from_a_chosen_function() {
    let cluster = Cluster::start().await;
    let consumer = cluster.consumer().await;
    let first = cluster.publication(consumer, "verdict", 1, b"PASS");
    let (receipt, signature) = cluster.publish_receipt(&first).await;
    assert_eq!(refused(cluster.owner.publish(&first, &receipt, &signature, None).await), "NotAPublisher");
    cluster.owner.set_publisher(consumer, cluster.function, true).await.unwrap();
    cluster.owner.publish(&first, &receipt, &signature, None).await.unwrap();
    let stored = |topic: &'static str| cluster.ledger.stored_publication(consumer, cluster.function, topic, At::Final);
    assert_eq!(stored("verdict").await.unwrap(), b"PASS");
    assert_eq!(cluster.ledger.last_sequence(consumer, cluster.function, "verdict", At::Final).await.unwrap(), 1);
    assert_eq!(refused(cluster.owner.publish(&first, &receipt, &signature, None).await), "SequenceNotRising");

    let fifth = cluster.publication(consumer, "verdict", 5, b"FAIL");
    let (receipt, signature) = cluster.publish_receipt(&fifth).await;
    let mut altered = fifth.clone();
    altered.data = b"PASS".to_vec();
    assert_eq!(refused(cluster.owner.publish(&altered, &receipt, &signature, None).await), "NotThePublication");
    let mut renumbered = fifth.clone();
    renumbered.sequence = 6;
    assert_eq!(refused(cluster.owner.publish(&renumbered, &receipt, &signature, None).await), "NotThePublication");
    cluster.owner.publish(&fifth, &receipt, &signature, None).await.unwrap();
    let between = cluster.publication(consumer, "verdict", 3, b"late");
    let (receipt, signature) = cluster.publish_receipt(&between).await;
    assert_eq!(refused(cluster.owner.publish(&between, &receipt, &signature, None).await), "SequenceNotRising");
    // Another topic counts for itself.
    let other = cluster.publication(consumer, "other", 1, b"x");
    let (receipt, signature) = cluster.publish_receipt(&other).await;
    cluster.owner.publish(&other, &receipt, &signature, None).await.unwrap();
    // An ordinary receipt of the same worker is not a publication, and neither is one for another chain.
    let mut command = receipt.clone();
    command.kind = Kind::Command;
    let next = cluster.publication(consumer, "other", 2, b"x");
    assert_eq!(
        refused(cluster.owner.publish(&next, &command, &cluster.sign(&command), None).await),
        "NotThePublication"
    );
    let mut foreign = next.clone();
    foreign.chain_id += 1;
    let (receipt, signature) = cluster.publish_receipt(&foreign).await;
    assert_eq!(refused(cluster.owner.publish(&foreign, &receipt, &signature, None).await), "NotThePublication");
    // Neither is one for another contract, though that one takes the function's publications too.
    let other = cluster.consumer().await;
    cluster.owner.set_publisher(other, cluster.function, true).await.unwrap();
    let (receipt, signature) = cluster.publish_receipt(&next).await;
    let mut moved = next.clone();
    moved.consumer = other;
    assert_eq!(refused(cluster.owner.publish(&moved, &receipt, &signature, None).await), "NotThePublication");
    // Anybody may deliver.
    let anyone = key(0x77);
    cluster.anvil.fund(anyone.address(), ETHER).await.unwrap();
    cluster.ledger.writer(&anyone).unwrap().publish(&next, &receipt, &signature, None).await.unwrap();
    assert_eq!(cluster.ledger.last_sequence(consumer, cluster.function, "other", At::Final).await.unwrap(), 2);
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_may_bound_the_gas_of_a_publication() {
    let cluster = Cluster::start().await;
    let consumer = cluster.consumer().await;
    cluster.owner.set_publisher(consumer, cluster.function, true).await.unwrap();
    // The largest publication, which this contract stores.
    let publication = cluster.publication(consumer, "verdict", 1, &[7; MAX_PUBLICATION_DATA]);
    let (receipt, signature) = cluster.publish_receipt(&publication).await;
    let careful = cluster.owner.clone().with_most_gas(2_000_000);
    let refused = careful.publish(&publication, &receipt, &signature, None).await.unwrap_err();
    assert!(matches!(refused, LedgerError::TooMuchGas { most: 2_000_000 }), "{refused}");
    let generous = cluster.owner.clone().with_most_gas(8_000_000);
    let outcome = generous.publish(&publication, &receipt, &signature, None).await.unwrap();
    assert!((5_000_000..8_000_000).contains(&outcome.gas), "{}", outcome.gas);
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_may_want_publications_acknowledged() {
    let cluster = Cluster::start().await;
    let consumer = cluster.consumer().await;
    cluster.owner.set_publisher(consumer, cluster.function, true).await.unwrap();
    cluster.owner.set_root_of(consumer, RootId::from(ROOT), Acceptance::OnlyAcknowledged).await.unwrap();
    let publication = cluster.publication(consumer, "verdict", 1, b"PASS");
    let (receipt, signature) = cluster.publish_receipt(&publication).await;
    let deliver = async |ack| cluster.owner.publish(&publication, &receipt, &signature, ack).await;
    assert_eq!(refused(deliver(None).await), "AcknowledgementNeeded");
    let few = cluster.acknowledge(&receipt, &[0, 1]);
    assert_eq!(refused(deliver(Some(&few)).await), "TooFewSignatures");
    let other = cluster.acknowledge(&Receipt { fuel: receipt.fuel + 1, ..receipt.clone() }, &[0, 1, 3]);
    assert_eq!(refused(deliver(Some(&other)).await), "WrongSigner");
    deliver(Some(&cluster.acknowledge(&receipt, &[0, 1, 3]))).await.unwrap();
    let stored = cluster.ledger.stored_publication(consumer, cluster.function, "verdict", At::Final).await.unwrap();
    assert_eq!(stored, b"PASS");
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_may_want_the_quorums_acknowledgement() {
    let cluster = Cluster::start().await;
    let me = cluster.owner.address();
    let deadline = cluster.ledger.latest().await.unwrap().time.plus(600);
    let (id, outcome) = cluster.owner.request(cluster.function, None, "price", b"{}", 0, deadline).await.unwrap();
    let page = cluster.ledger.requests(&tacit_ledger::Cursor::from_block(outcome.block), 10).await.unwrap();
    let request = page.requests.into_iter().find(|request| request.id == id).unwrap();
    let (receipt, signature) = cluster.answer(&request, b"7");
    let verify = |ack| cluster.ledger.verify_receipt(me, &receipt, &signature, ack, At::Final);

    assert_eq!(refused(verify(None).await), "RootNotAccepted");
    cluster.owner.set_root(RootId::from(ROOT), Acceptance::OnlyAcknowledged).await.unwrap();
    assert_eq!(refused(verify(None).await), "AcknowledgementNeeded");
    let few = cluster.acknowledge(&receipt, &[0, 1]);
    assert_eq!(refused(verify(Some(&few)).await), "TooFewSignatures");
    let good = cluster.acknowledge(&receipt, &[0, 1, 3]);
    let author = verify(Some(&good)).await.unwrap();
    assert_eq!((author.worker, author.operator), (cluster.worker.address(), cluster.operator));
    assert_eq!((author.digest, author.simulated), (receipt.digest(cluster.id), true));
    let mut twice = good.clone();
    twice.signatures[1] = twice.signatures[0].clone();
    assert_eq!(refused(verify(Some(&twice)).await), "SignatureOrder");
    let mut stranger = good.clone();
    stranger.signatures[2].signature = key(0x76).sign(good.batch.digest(cluster.id));
    assert_eq!(refused(verify(Some(&stranger)).await), "WrongSigner");
    let mut path = good.clone();
    path.receipt_path[0] = digest(1);
    assert_eq!(refused(verify(Some(&path)).await), "WrongSigner");
    let mut later = good.clone();
    later.batch.time = later.batch.time.plus(1);
    assert_eq!(refused(verify(Some(&later)).await), "WrongSigner");

    assert_eq!(refused(cluster.owner.fulfil(id, b"7", &receipt, &signature, None).await), "AcknowledgementNeeded");
    cluster.owner.fulfil(id, b"7", &receipt, &signature, Some(&good)).await.unwrap();
    assert_eq!(cluster.status(id).await, RequestStatus::Done);
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_answers_under_one_signature() {
    let cluster = Cluster::start().await;
    let consumer = cluster.consumer().await;
    let mut answers = Vec::new();
    for index in 0..3_u8 {
        let request = cluster.ask(consumer, 200_000, 0).await;
        let response = vec![index];
        let (mut receipt, _) = cluster.answer(&request, &response);
        receipt.sequence = u64::from(index) + 1;
        receipt.head_before = if index == 0 { Head::ZERO } else { Head::from([index; 32]) };
        receipt.head_after = Head::from([index + 1; 32]);
        answers.push((request.id, response, receipt));
    }
    let digests: Vec<Digest> = answers.iter().map(|(_, _, receipt)| receipt.digest(cluster.id)).collect();
    let leaves: Vec<Digest> = digests.iter().map(|digest| merkle::leaf(*digest)).collect();
    let signature = cluster.worker.sign(receipt_batch_digest(cluster.certificate, &digests, cluster.id));
    let batch: Vec<BatchAnswer> = answers
        .iter()
        .enumerate()
        .map(|(index, (id, response, receipt))| BatchAnswer {
            id: *id,
            response: response.clone(),
            receipt: receipt.clone(),
            proof: merkle::proof(&leaves, index).unwrap(),
        })
        .collect();

    let receipts: Vec<Receipt> = answers.iter().map(|(_, _, receipt)| receipt.clone()).collect();
    let compact = compact_batch(&receipts).unwrap();
    assert_eq!(cluster.ledger.verify_batch(consumer, &compact, &signature, At::Final).await.unwrap(), digests);
    let fewer = compact_batch(&receipts[..2]).unwrap();
    assert_eq!(refused(cluster.ledger.verify_batch(consumer, &fewer, &signature, At::Final).await), "WrongWorker");

    let mut wrong = batch.clone();
    wrong[1].proof[0] = digest(1);
    assert_eq!(refused(cluster.owner.fulfil_batch(&wrong, 3, &signature).await), "WrongWorker");
    assert_eq!(refused(cluster.owner.fulfil_batch(&batch, 4, &signature).await), "WrongWorker");
    // One of them was answered meanwhile: it is passed over.
    let alone = cluster.sign(&batch[1].receipt);
    cluster.owner.fulfil(batch[1].id, &batch[1].response, &batch[1].receipt, &alone, None).await.unwrap();
    cluster.owner.fulfil_batch(&batch, 3, &signature).await.unwrap();
    for (id, response, _) in &answers {
        assert_eq!(cluster.status(*id).await, RequestStatus::Done);
        assert_eq!(&cluster.ledger.stored_answer(consumer, *id, At::Final).await.unwrap(), response);
    }
    cluster.anvil.stop().await;
}
