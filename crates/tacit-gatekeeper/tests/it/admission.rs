//! Who is admitted and who is not.

use sha2::{Digest as _, Sha384};
use tacit_api::gatekeeper::{
    AdmitOutcome, CERTIFICATE, CertificateAnswer, CertificateRequest, GatekeeperStatus, STATUS, Version1,
};
use tacit_threshold::admission::AdmissionRefusal;
use tacit_types::{Digest, keyset::report_data, signature::SigningKey};

use crate::network::{COUNT, Network, Worker};

#[tokio::test]
async fn a_worker_is_admitted_by_all_and_its_certificate_holds() {
    let network = Network::start().await;
    let worker = network.admitted(COUNT).await;
    let id = worker.certificate().id(network.founded.cluster);
    network.set.verify(Digest::from(id.into_bytes()), &worker.signatures, network.set.threshold).unwrap();
    assert!(worker.certificate().simulated);

    // Renewal is the same way again: a later certificate for the same keyset.
    let mut again = Worker { not_before: worker.not_before.plus(1), ..worker };
    let request = network.proposal(0, &again).await;
    assert!(matches!(network.admit(0, &request).await, AdmitOutcome::Admitted(_)));
    again.certificate = Some(request.certificate);
    assert_ne!(again.certificate().id(network.founded.cluster), id);
}

#[tokio::test]
async fn workers_that_are_refused() {
    let network = Network::start().await;
    let worker = Worker::new(COUNT);
    let refused = async |request| match network.admit(0, &request).await {
        AdmitOutcome::Refused(refusal) => refusal,
        AdmitOutcome::Admitted(_) => panic!("admitted"),
    };

    // One byte of the executable changed: the machine measures another program.
    let challenge = network.challenge(0, &worker).await;
    let mut executable = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    executable[4_096] ^= 1;
    let altered: [u8; 48] = Sha384::digest(&executable).into();
    let machine = network.machines.running[COUNT].machine();
    let statement = report_data(worker.keyset.digest().unwrap(), Some(challenge.nonce));
    let evidence = machine.quote(altered, &statement).unwrap();
    let collateral = machine.collateral(crate::network::now()).unwrap();
    for gatekeeper in 0..COUNT {
        let challenge = network.challenge(gatekeeper, &worker).await;
        let statement = report_data(worker.keyset.digest().unwrap(), Some(challenge.nonce));
        let evidence = machine.quote(altered, &statement).unwrap();
        let request = network.proposal_with(&worker, challenge.nonce, evidence, collateral.clone());
        let AdmitOutcome::Refused(refusal) = network.admit(gatekeeper, &request).await else { panic!("admitted") };
        assert!(
            matches!(&refusal, AdmissionRefusal::Evidence { detail } if detail.contains("measurement")),
            "{refusal}"
        );
    }

    // Evidence over another gatekeeper's nonce, and a nonce that was used.
    let request = network.proposal_with(&worker, challenge.nonce, evidence, collateral);
    let other = network.challenge(1, &worker).await;
    let mut elsewhere = network.proposal(0, &worker).await;
    elsewhere.nonce = other.nonce;
    assert_eq!(refused(elsewhere).await, AdmissionRefusal::Nonce);
    let mut used = network.proposal(0, &worker).await;
    used.operator_signature = request.operator_signature;
    let swapped = network.proposal(0, &worker).await;
    let mut mixed = swapped.clone();
    mixed.nonce = used.nonce;
    assert!(matches!(refused(mixed).await, AdmissionRefusal::Evidence { .. }));
    assert!(matches!(network.admit(0, &swapped).await, AdmitOutcome::Admitted(_)));
    assert_eq!(refused(swapped).await, AdmissionRefusal::Nonce);

    // A nonce that was given for another keyset.
    let stranger = Worker::new(COUNT);
    let mut stolen = network.proposal(0, &stranger).await;
    stolen.nonce = network.challenge(0, &worker).await.nonce;
    assert_eq!(refused(stolen).await, AdmissionRefusal::Nonce);

    // An operator who did not sign.
    let mut request = network.proposal(0, &worker).await;
    request.operator_signature = SigningKey::from_bytes(&[9; 32]).unwrap().sign(Digest::ZERO);
    assert_eq!(refused(request).await, AdmissionRefusal::Operator);
    let mut request = network.proposal(0, &worker).await;
    request.endpoint = "http://127.0.0.1:10/".into();
    assert_eq!(refused(request).await, AdmissionRefusal::Operator);
    let mut request = network.proposal(0, &worker).await;
    request.endpoint = "file:///".into();
    assert_eq!(refused(request).await, AdmissionRefusal::Endpoint);

    // Every field that the worker could embellish.
    let check = async |change: &dyn Fn(&mut tacit_types::eip712::Certificate), expected: &str| {
        let mut request = network.proposal(0, &worker).await;
        change(&mut request.certificate);
        let refusal = refused(request).await;
        assert!(matches!(&refusal, AdmissionRefusal::Field { field, .. } if field == expected), "{refusal}");
    };
    check(&|certificate| certificate.worker = [1; 20].into(), "worker").await;
    check(&|certificate| certificate.measurement = [1; 32].into(), "measurement").await;
    check(&|certificate| certificate.chip = [1; 32].into(), "chip").await;
    check(&|certificate| certificate.confidence = 9, "confidence").await;
    check(&|certificate| certificate.root = [1; 32].into(), "root").await;
    check(&|certificate| certificate.policy = [1; 32].into(), "policy").await;
    check(&|certificate| certificate.simulated = false, "simulated").await;
    check(&|certificate| certificate.collateral_time.0 += 1, "collateralTime").await;
    check(&|certificate| certificate.not_after.0 += 1, "notAfter").await;
    check(&|certificate| certificate.epoch = 2, "epoch").await;
    let early = |certificate: &mut tacit_types::eip712::Certificate| {
        (certificate.not_before.0, certificate.not_after.0) =
            (certificate.not_before.0 - 60, certificate.not_after.0 - 60);
    };
    check(&early, "notBefore").await;

    let status: GatekeeperStatus = network.clients[0].get(STATUS).await.unwrap();
    assert!(status.refused > 10 && status.last_refusal.is_some());
}

#[tokio::test]
async fn a_certificate_is_shown_to_a_gatekeeper_that_was_away() {
    let mut network = Network::start().await;
    let away = network.gatekeepers[3].take();
    let worker = network.admitted(COUNT).await;
    network.gatekeepers[3] = away;
    let show = async |signatures| {
        let request = CertificateRequest { version: Version1, certificate: worker.certificate().clone(), signatures };
        network.clients[3].post::<CertificateAnswer>(CERTIFICATE, &request).await
    };
    assert!(show(worker.signatures[..1].to_vec()).await.is_err());
    assert_eq!(show(worker.signatures.clone()).await.unwrap().refused, None);

    // A certificate of a later gatekeeper epoch, or one that is over, is not taken even with signatures.
    network.clocks[2].shift(2 * 86_400);
    let request = CertificateRequest {
        version: Version1,
        certificate: worker.certificate().clone(),
        signatures: worker.signatures.clone(),
    };
    let known: CertificateAnswer = network.clients[2].post(CERTIFICATE, &request).await.unwrap();
    assert_eq!(known.refused, None, "it was admitted there while it was live");
    let fresh = network.proposal(2, &Worker::new(COUNT)).await;
    let AdmitOutcome::Refused(AdmissionRefusal::Field { field, .. }) = network.admit(2, &fresh).await else { panic!() };
    assert_eq!(field, "notBefore");
}
