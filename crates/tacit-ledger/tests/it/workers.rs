//! Certificates, revocations, heartbeats, the gatekeepers' succession and the policy.

use tacit_ledger::At;
use tacit_types::{
    CertificateId, Digest, Measurement, PolicyHash, UnixTime,
    chain::{DeniedSubject, Heartbeat, Revocation, RevocationSubject, denied_name, set_update_digest},
    quorum::GatekeeperSet,
};

use crate::fixture::{Cluster, ETHER, certificate, digest, gatekeeper_set, key, refused, sign_by};

fn id_digest(id: CertificateId) -> Digest {
    id.into_bytes().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_needs_t_gatekeepers_and_a_life() {
    let cluster = Cluster::start().await;
    let standing = cluster.ledger.standing(cluster.certificate, At::Final).await.unwrap().unwrap();
    assert_eq!((standing.worker, standing.operator), (cluster.worker.address(), cluster.operator));
    assert_eq!(cluster.ledger.endpoint(cluster.certificate, At::Final).await.unwrap(), "http://127.0.0.1:9");
    let published = cluster.ledger.certificates(0, cluster.ledger.finalized().await.unwrap()).await.unwrap();
    assert_eq!(published.len(), 1);
    assert_eq!((published[0].id, &published[0].certificate), (cluster.certificate, &cluster.certificate_body));
    assert_eq!(cluster.ledger.standing(CertificateId::from([1; 32]), At::Final).await.unwrap(), None);

    let now = cluster.ledger.latest().await.unwrap().time;
    let base = certificate(&key(0x77), cluster.operator, now);
    let publish = |body: tacit_types::eip712::Certificate, indices: &'static [u32]| {
        let cluster = &cluster;
        async move {
            let signatures = sign_by(indices, id_digest(body.id(cluster.id)));
            cluster.owner.publish_certificate(&body, &signatures, None).await
        }
    };
    assert_eq!(refused(publish(base.clone(), &[1]).await), "TooFewSignatures");
    let mut old = base.clone();
    old.not_after = now.minus(10);
    assert_eq!(refused(publish(old, &[0, 1]).await), "CertificateExpired");
    let mut epoch = base.clone();
    epoch.epoch = 2;
    assert_eq!(refused(publish(epoch, &[0, 1]).await), "OtherEpoch");
    let mut confidence = base.clone();
    confidence.confidence = 6;
    assert_eq!(refused(publish(confidence, &[0, 1]).await), "ImpossibleCertificate");
    let others = sign_by(&[0, 1], digest(1));
    assert_eq!(refused(cluster.owner.publish_certificate(&base, &others, None).await), "WrongSigner");
    // The endpoint is the operator's to name.
    let signatures = sign_by(&[0, 1], id_digest(base.id(cluster.id)));
    let forged = key(0x78).sign(digest(2));
    let endpoint = Some(("http://evil.example", &forged));
    assert_eq!(refused(cluster.owner.publish_certificate(&base, &signatures, endpoint).await), "NotSignedBy");
    publish(base, &[2, 3]).await.unwrap();
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_chip_ends_its_certificates_and_no_others() {
    let cluster = Cluster::start().await;
    let now = cluster.ledger.latest().await.unwrap().time;
    let other_worker = key(0x79);
    let mut other = certificate(&other_worker, cluster.operator, now);
    other.chip = tacit_types::ChipId::from([0xd5; 32]);
    let other_id = other.id(cluster.id);
    cluster.owner.publish_certificate(&other, &sign_by(&[0, 1], id_digest(other_id)), None).await.unwrap();

    let consumer = cluster.consumer().await;
    let request = cluster.ask(consumer, 0, 0).await;
    let (receipt, signature) = cluster.answer(&request, b"1");
    let acknowledged = cluster.acknowledge(&receipt, &[0, 1, 2]);
    cluster.ledger.inspect_receipt(&receipt, &signature, At::Latest).await.unwrap();
    cluster.pass(10).await;
    let stranger = key(0x7a);
    cluster.anvil.fund(stranger.address(), ETHER).await.unwrap();
    let stranger = cluster.ledger.writer(&stranger).unwrap();
    assert_eq!(
        refused(stranger.revoke(RevocationSubject::Chip, digest(0xc4), &[]).await),
        "OwnableUnauthorizedAccount"
    );
    // Gatekeepers revoke by their signatures, delivered by anyone.
    let revocation = Revocation {
        subject: RevocationSubject::Chip,
        value: digest(0xc4),
        functions: vec![cluster.function],
        epoch: 1,
    };
    let signed = revocation.digest(cluster.id);
    assert_eq!(refused(stranger.revoke_signed(&revocation, &sign_by(&[0], signed)).await), "TooFewSignatures");
    stranger.revoke_signed(&revocation, &sign_by(&[0, 2], signed)).await.unwrap();

    assert_eq!(refused(cluster.ledger.inspect_receipt(&receipt, &signature, At::Latest).await), "Revoked");
    assert_eq!(refused(cluster.owner.fulfil(request.id, b"1", &receipt, &signature, None).await), "Revoked");
    let found = cluster.ledger.revocation_of(cluster.certificate, &cluster.certificate_body, At::Final).await.unwrap();
    assert!(found.is_some());
    assert_eq!(cluster.ledger.min_key_epoch(cluster.function, At::Final).await.unwrap(), 2);
    assert_eq!(cluster.ledger.standing(cluster.certificate, At::Final).await.unwrap().unwrap().revoked_at, found);
    // What a quorum acknowledged before the revocation still counts.
    cluster.ledger.verify_receipt(consumer, &receipt, &signature, Some(&acknowledged), At::Latest).await.unwrap();

    assert_eq!(cluster.ledger.standing(other_id, At::Final).await.unwrap().unwrap().revoked_at, None);
    cluster.owner.refresh_certificate(other_id).await.unwrap();
    assert_eq!(refused(cluster.owner.refresh_certificate(cluster.certificate).await), "CertificateRevoked");
    let mut renewed = cluster.certificate_body.clone();
    renewed.not_after = renewed.not_after.plus(10);
    let signatures = sign_by(&[0, 1], id_digest(renewed.id(cluster.id)));
    assert_eq!(refused(cluster.owner.publish_certificate(&renewed, &signatures, None).await), "CertificateRevoked");
    cluster.owner.revoke(RevocationSubject::Certificate, id_digest(other_id), &[]).await.unwrap();
    assert!(cluster.ledger.standing(other_id, At::Final).await.unwrap().unwrap().revoked_at.is_some());
    assert_eq!(
        refused(cluster.owner.revoke(RevocationSubject::Certificate, id_digest(other_id), &[]).await),
        "AlreadyRevoked"
    );
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_only_go_forward() {
    let cluster = Cluster::start().await;
    let now = cluster.ledger.latest().await.unwrap().time;
    assert_eq!(cluster.ledger.last_heartbeat(cluster.certificate, At::Final).await.unwrap(), None);
    let beat = |size, root, time| Heartbeat { certificate: cluster.certificate, size, root: digest(root), time };
    let send = |beat: Heartbeat| {
        let signature = cluster.worker.sign(beat.digest(cluster.id));
        let owner = cluster.owner.clone();
        async move { owner.heartbeat(&beat, &signature).await }
    };
    send(beat(10, 1, now)).await.unwrap();
    assert_eq!(cluster.ledger.last_heartbeat(cluster.certificate, At::Final).await.unwrap(), Some(beat(10, 1, now)));
    assert_eq!(refused(send(beat(10, 1, now)).await), "StaleHeartbeat");
    assert_eq!(refused(send(beat(9, 2, now.plus(1))).await), "StaleHeartbeat");
    assert_eq!(refused(send(beat(10, 2, now.plus(1))).await), "StaleHeartbeat");
    assert_eq!(refused(send(beat(11, 2, now.plus(3_600))).await), "StaleHeartbeat");
    let forged = key(0x7b).sign(beat(11, 2, now.plus(1)).digest(cluster.id));
    assert_eq!(refused(cluster.owner.heartbeat(&beat(11, 2, now.plus(1)), &forged).await), "NotSignedBy");
    send(beat(11, 2, now.plus(1))).await.unwrap();
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_set_is_signed_by_the_present_one() {
    let cluster = Cluster::start().await;
    let until = cluster.ledger.latest().await.unwrap().time.plus(86_400);
    let members = (0x51..=0x55).map(|byte| key(byte).address()).collect();
    let next = GatekeeperSet { epoch: 2, threshold: 3, members };
    let digest_of = |set: &GatekeeperSet, until| set_update_digest(set, until, cluster.id);
    let signed = sign_by(&[0, 3], digest_of(&next, until));
    let few = sign_by(&[0], digest_of(&next, until));
    assert_eq!(refused(cluster.owner.advance_gatekeepers(&next, until, &few).await), "BelowThreshold");
    let other = sign_by(&[0, 3], digest_of(&GatekeeperSet { threshold: 1, ..next.clone() }, until));
    assert_eq!(refused(cluster.owner.advance_gatekeepers(&next, until, &other).await), "WrongSigner");
    let impossible = GatekeeperSet { threshold: 6, ..next.clone() };
    let by_all = sign_by(&[0, 1, 2, 3], digest_of(&impossible, until));
    assert_eq!(refused(cluster.owner.advance_gatekeepers(&impossible, until, &by_all).await), "ImpossibleSet");
    let past = sign_by(&[0, 3], digest_of(&next, UnixTime(1)));
    assert_eq!(refused(cluster.owner.advance_gatekeepers(&next, UnixTime(1), &past).await), "SetExpired");
    cluster.owner.advance_gatekeepers(&next, until, &signed).await.unwrap();
    assert_eq!(cluster.ledger.gatekeepers(At::Final).await.unwrap(), (next.clone(), until));
    // The old set signs nothing more.
    assert_eq!(refused(cluster.owner.advance_gatekeepers(&next, until, &signed).await), "BelowThreshold");
    assert_ne!(gatekeeper_set().members, next.members);
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loosening_waits_and_tightening_does_not() {
    let cluster = Cluster::start().await;
    let (known, new) = (Measurement::from([0x3e; 32]), Measurement::from([0x3f; 32]));
    let allowed = |measurement| cluster.ledger.is_allowed(measurement, At::Final);
    assert!(allowed(known).await.unwrap());
    cluster.owner.allow_measurement(new).await.unwrap();
    assert!(!allowed(new).await.unwrap());
    cluster.owner.remove_measurement(known).await.unwrap();
    assert!(!allowed(known).await.unwrap());
    cluster.owner.propose_policy(PolicyHash::from([9; 32]), "next.json").await.unwrap();
    assert_eq!(cluster.ledger.policy(At::Final).await.unwrap().policy, PolicyHash::from([0x50; 32]));
    cluster.pass(3_601).await;
    assert!(allowed(new).await.unwrap());
    assert_eq!(cluster.ledger.policy(At::Final).await.unwrap().policy, PolicyHash::from([9; 32]));
    assert_eq!(refused(cluster.owner.remove_measurement(known).await), "NotListed");

    let milan = denied_name("epyc-milan");
    let denied = || cluster.ledger.is_denied(DeniedSubject::HardwareClass, milan, At::Final);
    assert!(!denied().await.unwrap());
    assert_eq!(refused(cluster.owner.lift_denial(DeniedSubject::HardwareClass, milan).await), "NotListed");
    cluster.owner.deny(DeniedSubject::HardwareClass, milan).await.unwrap();
    assert!(denied().await.unwrap());
    assert!(!cluster.ledger.is_denied(DeniedSubject::Chip, milan, At::Final).await.unwrap());
    cluster.owner.lift_denial(DeniedSubject::HardwareClass, milan).await.unwrap();
    assert!(denied().await.unwrap());
    cluster.owner.propose_policy(PolicyHash::from([10; 32]), "worse.json").await.unwrap();
    cluster.owner.veto_policy(2).await.unwrap();
    assert_eq!(refused(cluster.owner.veto_policy(2).await), "NotWaiting");
    cluster.pass(cluster.ledger.policy_timelock(At::Final).await.unwrap() + 1).await;
    assert!(!denied().await.unwrap());
    assert_eq!(cluster.ledger.policy(At::Final).await.unwrap().policy, PolicyHash::from([9; 32]));
    cluster.anvil.stop().await;
}
