//! Where a gatekeeper's own collateral comes from, and that nobody's is older than what it has seen.

use tacit_api::gatekeeper::{AdmitOutcome, Candidate, GENESIS_CANDIDATE};
use tacit_gatekeeper::{Clock, Gatekeeper, GatekeeperClient};
use tacit_simulator::{Bulletin, Root};
use tacit_threshold::admission::AdmissionRefusal;
use tacit_types::keyset::report_data;

use crate::{
    network::{COUNT, Machines, Network, Worker, now},
    vendor::Vendor,
};

/// The number of Intel's documents in a candidate's collateral.
async fn number(gatekeeper: &Gatekeeper) -> u64 {
    let candidate: Candidate = GatekeeperClient::new(gatekeeper.url()).unwrap().get(GENESIS_CANDIDATE).await.unwrap();
    let tcb_info = candidate.collateral["tcb_info"].as_str().unwrap();
    let tcb_info: serde_json::Value = serde_json::from_str(tcb_info).unwrap();
    tcb_info["tcbEvaluationDataNumber"].as_u64().unwrap()
}

fn publish(machines: &Machines, number: u32) {
    let bulletin = Bulletin { evaluation_number: number, crl_number: number, ..Bulletin::default() };
    Root::open(&machines.root).unwrap().publish(&bulletin).unwrap();
}

#[tokio::test]
async fn it_is_the_vendors_where_the_vendor_answers_and_else_the_machines() {
    let (machines, vendor) = (Machines::start(1), Vendor::start().await);
    publish(&machines, 5);
    vendor.publish_for(machines.running[0].machine(), now(), "standard");
    // The machine itself would hand out a newer one: so it shows whose was taken.
    publish(&machines, 6);
    let mut config = machines.config(0);
    config.collateral = Some(vendor.endpoints());
    let gatekeeper = Gatekeeper::start(config.clone(), machines.driver(0), Clock::system()).await.unwrap();
    assert_eq!((number(&gatekeeper).await, vendor.asked()), (5, 4));
    assert_eq!((number(&gatekeeper).await, vendor.asked()), (5, 4), "kept, not fetched again");
    gatekeeper.stop().await;

    vendor.answers.lock().unwrap().clear();
    let gatekeeper = Gatekeeper::start(config.clone(), machines.driver(0), Clock::system()).await.unwrap();
    assert_eq!(number(&gatekeeper).await, 6);
    assert!(vendor.asked() > 4);
    gatekeeper.stop().await;

    config.collateral = None;
    let before = vendor.asked();
    let gatekeeper = Gatekeeper::start(config, machines.driver(0), Clock::system()).await.unwrap();
    assert_eq!((number(&gatekeeper).await, vendor.asked()), (6, before));
    gatekeeper.stop().await;
}

#[tokio::test]
async fn collateral_older_than_what_was_seen_is_refused_also_after_a_restart() {
    let mut network = Network::start().await;
    let driver = network.machines.driver(COUNT);
    let old = driver.collateral().await.unwrap();
    publish(&network.machines, 9);
    let new = driver.collateral().await.unwrap();
    assert_ne!(old, new);
    let worker = Worker::new(COUNT);
    let digest = worker.keyset.digest().unwrap();
    let ask = async |network: &Network, gatekeeper: usize, collateral| {
        let challenge = network.challenge(gatekeeper, &worker).await;
        let evidence = driver.quote(&report_data(digest, Some(challenge.nonce))).await.unwrap();
        let request = network.proposal_with(&worker, challenge.nonce, evidence, collateral);
        network.admit(gatekeeper, &request).await
    };
    let refused = |outcome: AdmitOutcome| match outcome {
        AdmitOutcome::Refused(AdmissionRefusal::Evidence { detail }) => {
            assert!(detail.contains("is older than 9, already seen"), "{detail}");
        }
        other => panic!("{other:?}"),
    };
    // As new as what was there when the cluster was founded.
    assert!(matches!(ask(&network, 0, old.clone()).await, AdmitOutcome::Admitted(_)));
    assert!(matches!(ask(&network, 0, new.clone()).await, AdmitOutcome::Admitted(_)));
    refused(ask(&network, 0, old.clone()).await);
    // Each gatekeeper goes by what it has seen itself.
    assert!(matches!(ask(&network, 1, old.clone()).await, AdmitOutcome::Admitted(_)));

    network.restart(0).await;
    refused(ask(&network, 0, old).await);
    assert!(matches!(ask(&network, 0, new).await, AdmitOutcome::Admitted(_)));
}
