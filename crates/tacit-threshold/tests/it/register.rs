//! What one register grants, accepts, confirms and refuses.

use tacit_threshold::{
    Batch, Entry, Input, MAX_FENCE_STEP, MAX_LEASE_SECONDS, MAX_SKEW_SECONDS, Output, Record, Refusal, Register, Reply,
    SignedBatch, ThresholdError,
};
use tacit_types::{
    Digest, Head, UnixTime,
    register::{Ack, LeaseRole, Position},
};

use crate::values::{CLUSTER, NOW, ack, certificate, facts, function, gatekeeper_key, held, lease, set, worker_key};

fn head(byte: u8) -> Head {
    Head::from([byte; 32])
}

fn ask(register: &mut Register, now: UnixTime, input: Input) -> Reply {
    match register.handle(now, input).pop() {
        Some(Output::Reply(reply)) => reply,
        other => panic!("no reply but {other:?}"),
    }
}

fn fresh() -> Register {
    let mut register = Register::new(CLUSTER, 1);
    for worker in [1, 2] {
        assert_eq!(ask(&mut register, NOW, Input::Certified(certificate(worker))), Reply::Noted);
    }
    register
}

fn grant(register: &mut Register, now: UnixTime, worker: u8, fence: u64) -> Reply {
    let lease = lease(worker, fence, now.plus(30));
    ask(register, now, Input::Grant { lease, facts: Some(facts()) })
}

fn signed(worker: u8, acks: Vec<Ack>) -> SignedBatch {
    let certificate = certificate(worker);
    let batch = Batch::new(CLUSTER, acks.clone()).unwrap();
    let signature = batch.sign(CLUSTER, certificate.id(CLUSTER), &worker_key(worker));
    SignedBatch::verify(CLUSTER, &certificate, acks, signature).unwrap()
}

fn acknowledge(register: &mut Register, worker: u8, ack: Ack) -> Reply {
    ask(register, ack.time, Input::Acknowledge(signed(worker, vec![ack])))
}

/// A register in which worker 1 holds fence 1 and sequence 5 is accepted.
fn busy() -> Register {
    let mut register = fresh();
    assert!(matches!(grant(&mut register, NOW, 1, 1), Reply::Granted { entry: None, .. }));
    assert_eq!(ask(&mut register, NOW, Input::Hold(held(1, 1).verify(&set(4, 2), CLUSTER).unwrap())), Reply::Noted);
    assert!(matches!(acknowledge(&mut register, 1, ack(1, 5, head(5), NOW)), Reply::Acknowledged(_)));
    register
}

#[test]
fn grants_that_are_refused() {
    let check = |change: &dyn Fn(&mut tacit_types::register::Lease), expected: Refusal| {
        let mut register = busy();
        let mut asked = lease(2, 2, NOW.plus(30));
        change(&mut asked);
        let reply = ask(&mut register, NOW, Input::Grant { lease: asked, facts: Some(facts()) });
        assert_eq!(reply, Reply::Refused(expected));
    };
    check(&|_| {}, Refusal::HeldByOther { until: NOW.plus(30) });
    check(&|lease| lease.fence = 1, Refusal::FenceTooLow { promised: 1 });
    check(&|lease| lease.fence = 2 + MAX_FENCE_STEP, Refusal::FenceTooHigh { promised: 1 });
    check(&|lease| lease.certificate = [0; 32].into(), Refusal::UnknownCertificate);
    check(&|lease| lease.code_hash = [0; 32].into(), Refusal::CodeChanged);
    check(&|lease| lease.manifest_hash = [0; 32].into(), Refusal::ManifestChanged);
    check(&|lease| lease.key_epoch = 2, Refusal::KeyEpochChanged);
    check(&|lease| lease.block_number = 11, Refusal::Block { block: 10 });
    check(&|lease| lease.until = NOW, Refusal::LeaseOver);
    let limit = NOW.plus(MAX_LEASE_SECONDS);
    check(&|lease| lease.until = limit.plus(1), Refusal::LeaseTooLong { limit });
    check(&|lease| (lease.role, lease.fence) = (LeaseRole::Reader, 2), Refusal::FenceTooHigh { promised: 1 });
    let reply = ask(&mut busy(), NOW, Input::Grant { lease: lease(1, 1, NOW.plus(60)), facts: None });
    assert_eq!(reply, Reply::Refused(Refusal::UnknownFunction));
}

#[test]
fn a_silent_released_revoked_or_expired_holder_is_replaced() {
    let granted = |reply| assert!(matches!(reply, Reply::Granted { entry: Some(_), .. }), "{reply:?}");
    let mut register = busy();
    assert!(matches!(grant(&mut register, NOW.plus(29), 2, 2), Reply::Refused(Refusal::HeldByOther { .. })));
    granted(grant(&mut register, NOW.plus(30), 2, 2));

    let mut register = busy();
    let holder = certificate(1).id(CLUSTER);
    let release = |fence| Input::Release { function: function(), certificate: holder, fence };
    assert_eq!(ask(&mut register, NOW, release(2)), Reply::Refused(Refusal::NotHolder { promised: 1 }));
    assert_eq!(ask(&mut register, NOW, release(1)), Reply::Noted);
    granted(grant(&mut register, NOW, 2, 2));

    let mut register = busy();
    assert_eq!(ask(&mut register, NOW, Input::Revoked(holder)), Reply::Noted);
    granted(grant(&mut register, NOW, 2, 2));
    assert_eq!(grant(&mut register, NOW, 1, 3), Reply::Refused(Refusal::CertificateRevoked));

    let mut register = busy();
    let later = certificate(1).not_after.plus(1);
    assert_eq!(grant(&mut register, later, 1, 2), Reply::Refused(Refusal::CertificateExpired));
}

#[test]
fn acknowledgements_that_are_refused() {
    let in_the_way = |refusal| Reply::NotAcknowledged(vec![(0, refusal)]);
    let accepted = Position { fence: 1, sequence: 5, head: head(5) };
    let check = |worker, ack: Ack, expected: Reply| assert_eq!(acknowledge(&mut busy(), worker, ack), expected);
    check(1, ack(1, 4, head(4), NOW), in_the_way(Refusal::Stale { accepted }));
    check(1, ack(1, 5, head(6), NOW), in_the_way(Refusal::Fork));
    check(2, ack(1, 6, head(6), NOW), in_the_way(Refusal::NotHolder { promised: 1 }));
    check(1, ack(0, 6, head(6), NOW), in_the_way(Refusal::NotHolder { promised: 1 }));
    check(1, ack(2, 6, head(6), NOW), in_the_way(Refusal::LeaseNotShown));
    check(1, Ack { epoch: 2, ..ack(1, 6, head(6), NOW) }, Reply::Refused(Refusal::WrongEpoch { epoch: 1 }));

    let late = signed(1, vec![ack(1, 6, head(6), NOW)]);
    let now = NOW.plus(MAX_SKEW_SECONDS + 1);
    assert_eq!(ask(&mut busy(), now, Input::Acknowledge(late.clone())), Reply::Refused(Refusal::ClockSkew { now }));
    assert!(matches!(ask(&mut busy(), NOW.plus(MAX_SKEW_SECONDS), Input::Acknowledge(late)), Reply::Acknowledged(_)));

    let mut register = busy();
    let later = certificate(1).not_after.plus(1);
    let reply = acknowledge(&mut register, 1, ack(1, 6, head(6), later));
    assert_eq!(reply, Reply::Refused(Refusal::CertificateExpired));
    ask(&mut register, NOW, Input::Revoked(certificate(1).id(CLUSTER)));
    let reply = acknowledge(&mut register, 1, ack(1, 6, head(6), NOW));
    assert_eq!(reply, Reply::Refused(Refusal::CertificateRevoked));
}

#[test]
fn a_lease_that_no_quorum_granted_acknowledges_nothing() {
    let mut register = fresh();
    grant(&mut register, NOW, 1, 1);
    let reply = acknowledge(&mut register, 1, ack(1, 1, head(1), NOW));
    assert_eq!(reply, Reply::NotAcknowledged(vec![(0, Refusal::LeaseNotShown)]));
}

#[test]
fn the_same_acknowledgement_again_is_signed_again_and_not_written_again() {
    let mut register = busy();
    let outputs = register.handle(NOW.plus(5), Input::Acknowledge(signed(1, vec![ack(1, 5, head(5), NOW.plus(5))])));
    assert!(matches!(outputs.as_slice(), [Output::Reply(Reply::Acknowledged(_))]), "{outputs:?}");
}

#[test]
fn a_batch_is_accepted_whole_or_not_at_all() {
    let mut register = busy();
    let other = Ack { function_id: [8; 32].into(), ..ack(1, 1, head(1), NOW) };
    let batch = signed(1, vec![ack(1, 6, head(6), NOW), other]);
    let reply = ask(&mut register, NOW, Input::Acknowledge(batch));
    assert_eq!(reply, Reply::NotAcknowledged(vec![(1, Refusal::NotHolder { promised: 0 })]));
    let Reply::View(view) = ask(&mut register, NOW, Input::Read { function: function(), facts: None }) else {
        panic!()
    };
    assert_eq!(view.accepted.sequence, 5);
}

#[test]
fn only_the_newest_position_of_the_holder_is_confirmed() {
    let position = Position { fence: 1, sequence: 5, head: head(5) };
    let check = |worker, position, expected: Option<Refusal>| {
        let input = Input::Confirm {
            certificate: certificate(worker).id(CLUSTER),
            nonce: Digest::from([1; 32]),
            positions: vec![(function(), position)],
        };
        let Reply::Confirmed { confirmation, refused } = ask(&mut busy(), NOW, input) else { panic!() };
        assert_eq!(confirmation.is_some(), expected.is_none());
        assert_eq!(refused.into_iter().map(|(_, refusal)| refusal).next(), expected);
    };
    check(1, position, None);
    check(1, Position { sequence: 4, ..position }, Some(Refusal::Stale { accepted: position }));
    check(1, Position { sequence: 6, ..position }, Some(Refusal::Behind { accepted: position }));
    check(1, Position { head: head(9), ..position }, Some(Refusal::Fork));
    check(1, Position { fence: 2, ..position }, Some(Refusal::LeaseNotShown));
    check(2, position, Some(Refusal::NotHolder { promised: 1 }));
}

#[test]
fn a_promise_to_another_ends_confirmation_before_anything_is_acknowledged() {
    let mut register = busy();
    grant(&mut register, NOW.plus(30), 2, 2);
    let input = Input::Confirm {
        certificate: certificate(1).id(CLUSTER),
        nonce: Digest::ZERO,
        positions: vec![(function(), Position { fence: 1, sequence: 5, head: head(5) })],
    };
    let reply = ask(&mut register, NOW.plus(30), input);
    let refused = vec![(0, Refusal::NotHolder { promised: 2 })];
    assert_eq!(reply, Reply::Confirmed { confirmation: None, refused });
}

#[test]
fn a_gatekeeper_that_was_away_follows_the_lease_that_a_quorum_shows() {
    let mut register = Register::new(CLUSTER, 1);
    let lease = held(1, 7).verify(&set(4, 2), CLUSTER).unwrap();
    assert_eq!(ask(&mut register, NOW, Input::Hold(lease)), Reply::Noted);
    assert!(matches!(acknowledge(&mut register, 1, ack(7, 1, head(1), NOW)), Reply::Acknowledged(_)));
    let old = held(2, 6).verify(&set(4, 2), CLUSTER).unwrap();
    assert_eq!(ask(&mut register, NOW, Input::Hold(old)), Reply::Refused(Refusal::FenceTooLow { promised: 7 }));
}

#[test]
fn leases_without_a_quorum_are_refused() {
    let mut short = held(1, 1);
    short.signatures.pop();
    assert!(matches!(short.verify(&set(4, 2), CLUSTER), Err(ThresholdError::Quorum(_))));
    let mut other = held(1, 1);
    other.certificate = certificate(2);
    assert_eq!(other.verify(&set(4, 2), CLUSTER), Err(ThresholdError::LeaseCertificate));
    let mut changed = held(1, 1);
    changed.lease.fence = 2;
    assert!(matches!(changed.verify(&set(4, 2), CLUSTER), Err(ThresholdError::Quorum(_))));
}

fn entry() -> Entry {
    let mut register = busy();
    match grant(&mut register, NOW.plus(31), 2, 2) {
        Reply::Granted { entry: Some(entry), .. } => *entry,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_invented_entry_is_refused() {
    let verify = |entry: &Entry| entry.verify(&set(4, 2), CLUSTER);
    assert_eq!(verify(&entry()), Ok(Position { fence: 1, sequence: 5, head: head(5) }));
    let check = |change: &dyn Fn(&mut Entry), expected: ThresholdError| {
        let mut entry = entry();
        change(&mut entry);
        assert_eq!(verify(&entry), Err(expected));
    };
    check(&|entry| entry.ack.sequence = 6, ThresholdError::EntryBatch);
    check(&|entry| entry.ack.head = head(6), ThresholdError::EntryBatch);
    check(&|entry| entry.ack.fence = 2, ThresholdError::EntryLease);
    check(&|entry| entry.ack.function_id = [1; 32].into(), ThresholdError::EntryLease);
    check(&|entry| entry.held.lease.role = LeaseRole::Reader, ThresholdError::EntryLease);
    check(&|entry| entry.batch.time = NOW.plus(1), ThresholdError::EntryBatch);
    check(&|entry| entry.batch_path = vec![Digest::ZERO; 11], ThresholdError::EntryBatch);
    check(&|entry| entry.signature = worker_key(2).sign(Digest::ZERO), ThresholdError::EntrySigner);
    check(&|entry| entry.held.certificate = certificate(2), ThresholdError::EntrySigner);
    check(
        &|entry| entry.held.signatures.truncate(2),
        ThresholdError::Quorum(tacit_types::quorum::QuorumError::TooFew { needed: 3, found: 2 }),
    );
}

#[test]
fn batches_that_cannot_be() {
    let check = |acks: Vec<Ack>| assert!(matches!(Batch::new(CLUSTER, acks), Err(ThresholdError::Batch(_))));
    let one = ack(1, 1, head(1), NOW);
    check(vec![]);
    check(vec![one.clone(), one.clone()]);
    check(vec![one.clone(), Ack { function_id: [1; 32].into(), time: NOW.plus(1), ..one.clone() }]);
    check(vec![one.clone(), Ack { function_id: [1; 32].into(), epoch: 2, ..one.clone() }]);
    let many = |count: u16| -> Vec<Ack> {
        (0..count)
            .map(|number| {
                let mut id = [0; 32];
                id[..2].copy_from_slice(&number.to_be_bytes());
                Ack { function_id: id.into(), ..one.clone() }
            })
            .collect()
    };
    check(many(1_025));
    for count in [1, 2, 3, 5, 64, 1_024] {
        let acks = many(count);
        let batch = Batch::new(CLUSTER, acks.clone()).unwrap();
        for (index, ack) in acks.iter().enumerate() {
            let leaf = tacit_types::merkle::leaf(ack.digest(CLUSTER));
            let path = batch.path(index);
            assert!(path.len() <= tacit_threshold::MAX_PATH);
            assert_eq!(tacit_types::merkle::root_from_proof(leaf, &path), batch.statement().root, "{index} of {count}");
        }
        let by_types: Vec<_> = acks.iter().map(|ack| tacit_types::merkle::leaf(ack.digest(CLUSTER))).collect();
        assert_eq!(batch.statement().root, tacit_types::merkle::root(&by_types));
    }
    let batch = Batch::new(CLUSTER, vec![one.clone()]).unwrap();
    let forged = batch.sign(CLUSTER, certificate(1).id(CLUSTER), &gatekeeper_key(0));
    let refused = SignedBatch::verify(CLUSTER, &certificate(1), vec![one], forged);
    assert_eq!(refused, Err(ThresholdError::RequestSigner));
}

#[test]
fn a_compacted_register_is_the_same_register() {
    let mut register = busy();
    grant(&mut register, NOW.plus(31), 2, 2);
    let snapshot = register.compact(NOW);
    let mut bytes = Vec::new();
    snapshot.iter().for_each(|record| record.encode(&mut bytes));
    let mut again = Register::replay(CLUSTER, 1, Record::decode_all(&bytes).unwrap()).unwrap();
    let read = || Input::Read { function: function(), facts: None };
    assert_eq!(ask(&mut register, NOW, read()), ask(&mut again, NOW, read()));
    // The entry with its proof, whose lease is older than the present promise, survives as well.
    let now = NOW.plus(62);
    assert_eq!(grant(&mut register, now, 1, 3), grant(&mut again, now, 1, 3));
}

#[test]
fn records_that_go_back_are_refused() {
    let records = busy().compact(NOW);
    let promised =
        |fence| Record::Promised { function: function(), fence, holder: certificate(1).id(CLUSTER), until: NOW };
    let check = |last: Record| {
        let replayed = Register::replay(CLUSTER, 1, records.iter().cloned().chain([last]));
        assert!(matches!(replayed, Err(ThresholdError::Replay(_))));
    };
    check(promised(0));
    let accepted = records.iter().find(|record| matches!(record, Record::Accepted { .. })).unwrap().clone();
    check(accepted);
    check(Record::Revoked([0; 32].into()));
    check(Record::Held(Box::new(held(2, 1))));
}
