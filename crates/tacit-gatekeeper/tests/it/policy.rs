//! What the cluster's policy and the home chain's say of single chips, classes, measurements and advisories.

use std::sync::atomic::{AtomicU64, Ordering};

use tacit_api::gatekeeper::{AdmitOutcome, LeaseItem, LeaseItemAnswer};
use tacit_attest::{ChipPolicy, Measurements, Policy, verify};
use tacit_simulator::{Bulletin, Root};
use tacit_threshold::{Refusal, admission::AdmissionRefusal};
use tacit_types::{
    ChipId, Digest, PolicyHash,
    chain::{DeniedSubject, denied_name},
    eip712::Certificate,
};

use crate::network::{COUNT, Machines, Network, Worker, now};

const TIMELOCK: u64 = 3_600;

async fn chip(machines: &Machines, machine: usize) -> ChipId {
    let driver = machines.driver(machine);
    let (evidence, collateral) = (driver.quote(&[0; 64]).await.unwrap(), driver.collateral().await.unwrap());
    let any = Policy { measurements: Measurements::Any, chips: ChipPolicy::default(), ..machines.policy.clone() };
    verify(&evidence, &collateral, &any, now()).unwrap().chip()
}

async fn refusal(network: &Network, worker: &Worker) -> AdmissionRefusal {
    let request = network.proposal(0, worker).await;
    match network.admit(0, &request).await {
        AdmitOutcome::Refused(refusal) => refusal,
        AdmitOutcome::Admitted(_) => panic!("admitted"),
    }
}

async fn is_admitted(network: &Network, worker: &Worker) -> bool {
    let request = network.proposal(0, worker).await;
    matches!(network.admit(0, &request).await, AdmitOutcome::Admitted(_))
}

/// The same keys, asking for another certificate than any before: one that was revoked stays so.
fn renewed(worker: &Worker) -> Worker {
    static LATER: AtomicU64 = AtomicU64::new(0);
    Worker {
        machine: worker.machine,
        receipt_key: worker.receipt_key.clone(),
        operator: worker.operator.clone(),
        keyset: worker.keyset.clone(),
        not_before: now().plus(LATER.fetch_add(1, Ordering::Relaxed)),
        certificate: None,
        signatures: Vec::new(),
    }
}

#[tokio::test]
async fn a_chip_that_the_policy_denies_or_does_not_list_is_refused() {
    for deny in [true, false] {
        let mut machines = Machines::start(COUNT + 2);
        let worker_chip = chip(&machines, COUNT).await;
        if deny {
            machines.policy.chips.deny = vec![worker_chip];
        } else {
            for machine in 0..COUNT + 2 {
                let listed = chip(&machines, machine).await;
                machines.policy.chips.allow.push(listed);
            }
            machines.policy.chips.allow.retain(|listed| *listed != worker_chip);
        }
        let network = Network::start_on(machines, 0).await;
        let refusal = refusal(&network, &Worker::new(COUNT)).await;
        assert!(
            matches!(&refusal, AdmissionRefusal::Evidence { detail } if *detail == format!("chip {worker_chip} is denied")),
            "{refusal}"
        );
        assert!(is_admitted(&network, &Worker::new(COUNT + 1)).await);
    }
}

/// Denied on the home chain: at once for new certificates, for renewals and for the certificate that is there.
#[tokio::test]
async fn what_the_home_chain_denies_is_out_at_once_and_back_only_after_the_timelock() {
    let network = Network::start_on(Machines::start(COUNT + 2), TIMELOCK).await;
    let function = network.register_function("counter").await;
    let worker = network.admitted(COUNT).await;
    let other = network.admitted(COUNT + 1).await;
    let (held, _) = network.take(&worker, function).await;
    let denied = Digest::from(worker.certificate().chip.into_bytes());

    network.owner.deny(DeniedSubject::Chip, denied).await.unwrap();
    network.settled().await;
    let expected = AdmissionRefusal::NotAccepted { what: format!("chip {}", worker.certificate().chip) };
    assert_eq!(refusal(&network, &renewed(&worker)).await, expected);
    // The certificate that is there loses its lease, and another machine does not.
    let mut renewal = held.lease.clone();
    renewal.until = renewal.until.plus(1);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let answer = network.ask_lease(0, &worker, LeaseItem::Grant(renewal.clone())).await;
        if answer == LeaseItemAnswer::Refused(Refusal::CertificateRevoked) {
            break;
        }
        assert!(std::time::Instant::now() < until, "{answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(is_admitted(&network, &renewed(&other)).await);

    network.owner.lift_denial(DeniedSubject::Chip, denied).await.unwrap();
    network.settled().await;
    assert_eq!(refusal(&network, &renewed(&worker)).await, expected);
    network.pass(TIMELOCK + 1).await;
    assert!(is_admitted(&network, &renewed(&worker)).await);
}

#[tokio::test]
async fn each_kind_of_denial_and_another_policy_are_refused_by_name() {
    let network = Network::start().await;
    let worker = network.admitted(COUNT).await;
    let certificate: Certificate = worker.certificate().clone();
    let check = async |subject, value: Digest, expected: &str| {
        network.owner.deny(subject, value).await.unwrap();
        network.settled().await;
        let refused = refusal(&network, &renewed(&worker)).await;
        let AdmissionRefusal::NotAccepted { what } = &refused else { panic!("{refused}") };
        assert!(what.contains(expected), "{what} does not say {expected}");
        network.owner.lift_denial(subject, value).await.unwrap();
        network.settled().await;
        assert!(is_admitted(&network, &renewed(&worker)).await, "{expected}");
    };
    check(DeniedSubject::HardwareClass, denied_name("intel-tdx"), "intel-tdx").await;
    check(DeniedSubject::Root, Digest::from(certificate.root.into_bytes()), "root").await;
    check(DeniedSubject::Measurement, Digest::from(certificate.measurement.into_bytes()), "measurement").await;

    let advisories = ["INTEL-SA-01421".to_owned()];
    let bulletin = Bulletin::default().with_status("UpToDate", &advisories);
    Root::open(&network.machines.root).unwrap().publish(&bulletin).unwrap();
    check(DeniedSubject::Advisory, denied_name(&advisories[0]), &advisories[0]).await;

    network.owner.remove_measurement(certificate.measurement).await.unwrap();
    network.settled().await;
    let refused = refusal(&network, &renewed(&worker)).await;
    assert!(
        matches!(&refused, AdmissionRefusal::NotAccepted { what } if what.ends_with("which it does not list")),
        "{refused}"
    );
    network.owner.allow_measurement(certificate.measurement).await.unwrap();
    network.settled().await;
    assert!(is_admitted(&network, &renewed(&worker)).await);

    let next = PolicyHash::from([9; 32]);
    network.owner.propose_policy(next, "next.json").await.unwrap();
    network.settled().await;
    let refused = refusal(&network, &renewed(&worker)).await;
    assert_eq!(refused, AdmissionRefusal::PolicyReplaced { found: next.to_string() });
}
