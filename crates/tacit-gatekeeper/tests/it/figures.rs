//! The benchmark runs; what it measures here is printed, not judged, as other tests run beside it.

use std::time::Duration;

use tacit_gatekeeper::bench::{self, Subject};
use tacit_ledger::NewVersion;

use crate::network::{COUNT, Network, random};

async fn measure(functions: usize, time: Duration) -> bench::Figures {
    let network = Network::start().await;
    let worker = network.admitted(COUNT).await;
    let mut ids = Vec::new();
    for number in 1..functions {
        let version =
            NewVersion { module_hash: random(), manifest_hash: random().into_bytes().into(), uri: String::new() };
        let writer = network.owner.clone().confirming(tacit_ledger::Confirmation::Mined);
        ids.push(writer.register_function(&format!("bench-{number}"), &version, 0).await.unwrap().0);
    }
    ids.push(network.register_function("bench-0").await);
    let subject = Subject {
        gatekeepers: network.clients.clone(),
        set: network.set.clone(),
        cluster: network.founded.cluster,
        receipt_key: worker.receipt_key.clone(),
        certificate: worker.certificate().clone(),
        functions: ids,
    };
    bench::run(&subject, time).await.unwrap()
}

#[tokio::test]
async fn the_benchmark_measures_something() {
    let figures = measure(3, Duration::from_millis(300)).await;
    println!("{figures:#?}");
    assert!(figures.derivations > 0 && figures.acks > 0 && figures.grouped > 0, "{figures:?}");
    assert!(figures.derive_cold_ms > 0.0 && figures.ack_p50_ms > 0.0 && figures.acks_per_s > 0.0, "{figures:?}");
}
