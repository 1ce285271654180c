//! Leases, acknowledgements, confirmations and partials over HTTP.

use tacit_api::{
    ProblemKind,
    gatekeeper::{
        AcknowledgeOutcome, CONFIRM, ConfirmAnswer, ConfirmRequest, LEASE, LeaseAnswer, LeaseItem, LeaseItemAnswer,
        LeaseRequest, PARTIAL, PARTIAL_INFO, PartialAnswer, PartialRequest,
    },
};
use tacit_envelope::{TransportKey, open_with};
use tacit_gatekeeper::GatekeeperError;
use tacit_threshold::{
    Batch, HeldLease, Refusal,
    collect::ConfirmCollector,
    subkeys::{KeyUse, Partial, combine},
};
use tacit_types::{
    Digest, FunctionId,
    chain::RevocationSubject,
    register::{LeaseRole, Position},
};

use crate::network::{COUNT, Network, THRESHOLD, Worker, now, random};

async fn partial(
    network: &Network,
    gatekeeper: usize,
    worker: &Worker,
    held: &HeldLease,
) -> Result<Partial, GatekeeperError> {
    let transport = TransportKey::generate(&mut rand::rng());
    let public = transport.public().encode();
    let cluster = network.founded.cluster;
    let request = PartialRequest::signed(cluster, held.clone(), random(), public, &worker.receipt_key);
    let answer: PartialAnswer = network.clients[gatekeeper].post(PARTIAL, &request).await?;
    answer.verify(&request, cluster, network.set.members[gatekeeper]).unwrap();
    let opened = open_with(&transport, PARTIAL_INFO, request.statement(cluster).as_ref(), &answer.sealed).unwrap();
    Ok(Partial::from_secret_bytes(gatekeeper as u32, &opened).unwrap())
}

fn kind(error: &GatekeeperError) -> ProblemKind {
    match error {
        GatekeeperError::Refused { problem, .. } => problem.kind,
        other => panic!("{other}"),
    }
}

async fn confirm(network: &Network, worker: &Worker, function: FunctionId, position: Position) -> ConfirmCollector {
    let (cluster, nonce) = (network.founded.cluster, random());
    let asked = vec![(function, position)];
    let id = worker.certificate().id(cluster);
    let request = ConfirmRequest::signed(cluster, id, nonce, &asked, &worker.receipt_key);
    let mut collector = ConfirmCollector::new(&network.set, cluster, nonce, asked);
    for (index, _) in network.gatekeepers.iter().enumerate().filter(|(_, running)| running.is_some()) {
        let answer: ConfirmAnswer = network.clients[index].post(CONFIRM, &request).await.unwrap();
        let refused: Vec<_> =
            answer.refused.into_iter().map(|refused| (refused.at as usize, refused.refusal)).collect();
        collector.add(index as u32, answer.signature.map(|signature| (answer.time, signature)), &refused).unwrap();
    }
    collector
}

#[tokio::test]
async fn one_function_from_lease_to_take_over() {
    let network = Network::start().await;
    let function = network.register_function("first").await;
    let (one, two) = (network.admitted(COUNT).await, network.admitted(COUNT + 1).await);

    let (held, from) = network.take(&one, function).await;
    assert_eq!((held.lease.fence, from), (1, Position::START));

    // The root key: any two gatekeepers give the same, the other worker gets nothing.
    let mut partials = Vec::new();
    for gatekeeper in 0..COUNT {
        partials.push(partial(&network, gatekeeper, &one, &held).await.unwrap());
    }
    let root = |partials: &[Partial]| {
        let combined = combine(network.founded.cluster, function, 1, COUNT as u32, THRESHOLD, partials).unwrap();
        assert!(combined.liars.is_empty());
        combined.root.derive(KeyUse::State)
    };
    let all = root(&partials);
    for pair in partials.chunks(2) {
        assert_eq!(*root(pair), *all);
    }
    let stolen = HeldLease { certificate: two.certificate().clone(), ..held.clone() };
    assert_eq!(kind(&partial(&network, 0, &two, &stolen).await.err().unwrap()), ProblemKind::BadSignature);

    // Adopt the start, write, confirm.
    assert!(network.acknowledge(&one, &held, 0, 0).await.acknowledged().is_some());
    let proof = network.acknowledge(&one, &held, 1, 1).await.acknowledged().unwrap();
    network
        .set
        .verify(proof[0].batch.digest(network.founded.cluster), &proof[0].signatures, network.set.quorum())
        .unwrap();
    let position = Position { fence: 1, sequence: 1, head: [1; 32].into() };
    assert!(confirm(&network, &one, function, position).await.is_complete());
    let old = Position { sequence: 0, head: [0; 32].into(), ..position };
    assert!(!confirm(&network, &one, function, old).await.is_fresh(0));

    // The second worker must wait, until the first gives the lease back.
    let plan = network.plan(&two, function).await;
    assert_eq!(plan.holder.map(|(holder, _)| holder), Some(held.lease.certificate));
    let id = two.certificate().id(network.founded.cluster);
    let lease = plan.lease(function, id, LeaseRole::Writer, now().plus(30));
    let answer = network.ask_lease(0, &two, LeaseItem::Grant(lease)).await;
    assert!(matches!(answer, LeaseItemAnswer::Refused(Refusal::HeldByOther { .. })), "{answer:?}");
    for gatekeeper in 0..COUNT {
        let release = LeaseItem::Release { function_id: function, fence: 1 };
        assert_eq!(network.ask_lease(gatekeeper, &one, release).await, LeaseItemAnswer::Released);
    }
    let (taken, from) = network.take(&two, function).await;
    assert_eq!((taken.lease.fence, from), (2, position));
    assert!(network.acknowledge(&two, &taken, 1, 1).await.acknowledged().is_some());

    // The first is silent now: no acknowledgement, no confirmation, no key.
    let batch = Batch::new(network.founded.cluster, vec![network.ack(&held, 2, 2)]).unwrap();
    for gatekeeper in 0..COUNT {
        let outcome = network.acknowledge_at(gatekeeper, &one, &batch, &[]).await;
        let AcknowledgeOutcome::InTheWay(refused) = outcome else { panic!("{outcome:?}") };
        assert_eq!(refused[0].refusal, Refusal::NotHolder { promised: 2 });
    }
    assert!(!confirm(&network, &one, function, position).await.is_fresh(0));
    assert_eq!(kind(&partial(&network, 0, &one, &held).await.err().unwrap()), ProblemKind::NotHolder);
}

#[tokio::test]
async fn requests_that_nobody_may_make() {
    let network = Network::start().await;
    let function = network.register_function("second").await;
    let (one, two) = (network.admitted(COUNT).await, network.admitted(COUNT + 1).await);
    let cluster = network.founded.cluster;

    // Signed by another worker's key.
    let id = one.certificate().id(cluster);
    let forged = LeaseRequest::signed(cluster, id, vec![LeaseItem::Read(function)], &two.receipt_key);
    let answer = network.clients[0].post::<LeaseAnswer>(LEASE, &forged).await;
    assert_eq!(kind(&answer.err().unwrap()), ProblemKind::BadSignature);
    let forged = ConfirmRequest::signed(cluster, id, Digest::ZERO, &[(function, Position::START)], &two.receipt_key);
    let answer = network.clients[0].post::<ConfirmAnswer>(CONFIRM, &forged).await;
    assert_eq!(kind(&answer.err().unwrap()), ProblemKind::BadSignature);

    // A certificate that nobody knows.
    let stranger = LeaseRequest::signed(cluster, [7; 32].into(), vec![LeaseItem::Read(function)], &one.receipt_key);
    let answer: LeaseAnswer = network.clients[0].post(LEASE, &stranger).await.unwrap();
    assert_eq!(answer.items, [LeaseItemAnswer::Refused(Refusal::UnknownCertificate)]);

    // Code that does not count, a function that does not exist.
    let plan = network.plan(&one, function).await;
    let lease = plan.lease(function, id, LeaseRole::Writer, now().plus(30));
    let wrong = tacit_types::register::Lease { code_hash: [1; 32].into(), ..lease.clone() };
    let answer = network.ask_lease(0, &one, LeaseItem::Grant(wrong)).await;
    assert_eq!(answer, LeaseItemAnswer::Refused(Refusal::CodeChanged));
    let nowhere = tacit_types::register::Lease { function_id: [1; 32].into(), ..lease.clone() };
    let answer = network.ask_lease(0, &one, LeaseItem::Grant(nowhere)).await;
    assert_eq!(answer, LeaseItemAnswer::Refused(Refusal::UnknownFunction));

    // A lease that too few granted acknowledges nothing and opens no key.
    let answer = network.ask_lease(0, &one, LeaseItem::Grant(lease.clone())).await;
    let LeaseItemAnswer::Granted(granted) = answer else { panic!("{answer:?}") };
    let signatures = vec![tacit_types::quorum::IndexedSignature { index: 0, signature: granted.signature }];
    let alone = HeldLease { lease, certificate: one.certificate().clone(), signatures };
    assert_eq!(kind(&partial(&network, 0, &one, &alone).await.err().unwrap()), ProblemKind::BadSignature);
    let batch = Batch::new(cluster, vec![network.ack(&alone, 0, 0)]).unwrap();
    let outcome = network.acknowledge_at(0, &one, &batch, &[]).await;
    let AcknowledgeOutcome::InTheWay(refused) = outcome else { panic!("{outcome:?}") };
    assert_eq!(refused[0].refusal, Refusal::LeaseNotShown);
}

#[tokio::test]
async fn a_revoked_and_an_expired_worker_are_silent() {
    let network = Network::start().await;
    let function = network.register_function("third").await;
    let (one, two) = (network.admitted(COUNT).await, network.admitted(COUNT + 1).await);
    let (held, _) = network.take(&one, function).await;
    assert!(network.acknowledge(&one, &held, 0, 0).await.acknowledged().is_some());

    let chip = Digest::from(one.certificate().chip.into_bytes());
    network.owner.revoke(RevocationSubject::Chip, chip, &[]).await.unwrap();
    let cluster = network.founded.cluster;
    let batch = || Batch::new(cluster, vec![network.ack(&held, 1, 1)]).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let outcome = network.acknowledge_at(0, &one, &batch(), &[]).await;
        if outcome == AcknowledgeOutcome::Refused(Refusal::CertificateRevoked) {
            break;
        }
        assert!(std::time::Instant::now() < until, "{outcome:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let again = network.proposal(0, &one).await;
    let outcome = network.admit(0, &again).await;
    assert!(matches!(
        outcome,
        tacit_api::gatekeeper::AdmitOutcome::Refused(tacit_threshold::admission::AdmissionRefusal::Revoked { .. })
    ));

    // Its lease is free at once.
    let block = network.owner.ledger().finalized().await.unwrap().number;
    network.wait(|status| status.chain.as_ref().is_some_and(|chain| chain.block >= block)).await;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let (taken, from) = loop {
        let plan = network.plan(&two, function).await;
        let id = two.certificate().id(cluster);
        let lease = plan.lease(function, id, LeaseRole::Writer, now().plus(30));
        if let Some(taken) = network.grant(&two, &lease).await.held() {
            break taken;
        }
        assert!(std::time::Instant::now() < until);
    };
    assert!(taken.lease.fence >= 2);
    assert!(from.sequence <= 1, "{from:?}");

    // A day later on a gatekeeper's clock the second one's certificate is over there.
    network.clocks[1].shift(86_401);
    let shifted =
        Batch::new(cluster, vec![tacit_types::register::Ack { time: now().plus(86_401), ..network.ack(&taken, 2, 2) }]);
    let outcome = network.acknowledge_at(1, &two, &shifted.unwrap(), std::slice::from_ref(&taken)).await;
    assert_eq!(outcome, AcknowledgeOutcome::Refused(Refusal::CertificateExpired));
    // And one whose clock is off refuses the worker's time.
    network.clocks[2].shift(120);
    let outcome =
        network.acknowledge_at(2, &two, &Batch::new(cluster, vec![network.ack(&taken, 2, 2)]).unwrap(), &[taken]).await;
    assert!(matches!(outcome, AcknowledgeOutcome::Refused(Refusal::ClockSkew { .. })), "{outcome:?}");
}

#[tokio::test]
async fn below_the_quorum_keys_flow_and_the_register_stands_still() {
    let mut network = Network::start().await;
    let function = network.register_function("fourth").await;
    let one = network.admitted(COUNT).await;
    let (held, _) = network.take(&one, function).await;
    network.stop(3).await;
    assert!(network.acknowledge(&one, &held, 0, 0).await.acknowledged().is_some(), "one of four may be away");
    network.stop(2).await;
    assert!(network.acknowledge(&one, &held, 1, 1).await.acknowledged().is_none());
    let position = Position { fence: 1, sequence: 1, head: [1; 32].into() };
    assert!(!confirm(&network, &one, function, position).await.is_fresh(0));
    let partials = [partial(&network, 0, &one, &held).await.unwrap(), partial(&network, 1, &one, &held).await.unwrap()];
    combine(network.founded.cluster, function, 1, COUNT as u32, THRESHOLD, &partials).unwrap();
}

#[tokio::test]
async fn without_the_chain_nothing_is_granted_and_what_is_held_goes_on() {
    let mut network = Network::start().await;
    let (held_function, other) = (network.register_function("fifth").await, network.register_function("sixth").await);
    let one = network.admitted(COUNT).await;
    let (held, _) = network.take(&one, held_function).await;
    let plan = network.plan(&one, held_function).await;
    assert!(network.acknowledge(&one, &held, 0, 0).await.acknowledged().is_some());
    // A block later nothing that was read before is the newest view any more.
    network.register_function("seventh").await;
    network.anvil.take().unwrap().stop().await;

    let cluster = network.founded.cluster;
    let id = one.certificate().id(cluster);
    let lease =
        tacit_types::register::Lease { function_id: other, ..plan.lease(other, id, LeaseRole::Writer, now().plus(30)) };
    let request = LeaseRequest::signed(cluster, id, vec![LeaseItem::Grant(lease)], &one.receipt_key);
    let answer = network.clients[0].post::<LeaseAnswer>(LEASE, &request).await;
    assert_eq!(kind(&answer.err().unwrap()), ProblemKind::ChainUnavailable);
    let answer = partial(&network, 0, &one, &held).await;
    assert_eq!(kind(&answer.err().unwrap()), ProblemKind::ChainUnavailable);

    assert!(network.acknowledge(&one, &held, 1, 1).await.acknowledged().is_some());
    let position = Position { fence: 1, sequence: 1, head: [1; 32].into() };
    assert!(confirm(&network, &one, held_function, position).await.is_complete());
}
