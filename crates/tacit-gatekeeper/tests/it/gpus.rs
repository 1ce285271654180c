//! What GPUs must show at admission: to this gatekeeper, for these keys, under this policy.

use std::path::PathBuf;

use tacit_api::gatekeeper::{AdmitOutcome, AdmitRequest, ShownGpus};
use tacit_attest::{
    ExtraRoot, Preset, Vendor,
    nvidia::{GpuCollateral, GpuEvidence, GpuItem, GpuPolicy, gpu_nonce},
};
use tacit_threshold::admission::AdmissionRefusal;
use tacit_types::{Digest, KeysetDigest};

use crate::{
    gpu_bench::{Gpu, HOPPER},
    network::{COUNT, Network, Worker},
};

/// What a GPU of our own signs over a keyset and a nonce.
fn signed(keyset: KeysetDigest, nonce: Digest) -> GpuEvidence {
    let mut gpu = Gpu::hopper(7);
    gpu.nonce = gpu_nonce(keyset, nonce.as_ref());
    GpuEvidence::new(vec![GpuItem { nonce: gpu.nonce, ..gpu.item() }]).unwrap()
}

fn shown(evidence: &GpuEvidence) -> Option<ShownGpus> {
    let value = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap();
    Some(ShownGpus { evidence: value(evidence.to_json()), collateral: value(GpuCollateral::default().to_json()) })
}

/// Evidence of a real GPU, as somebody recorded it.
fn recorded() -> GpuEvidence {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let folder = cache.join("tacit/evidence");
    let index = std::fs::read(folder.join("index.json")).expect("run `make evidence`");
    let index = tacit_attest::samples::Index::parse(&index).unwrap();
    let entry = index.gpus.iter().find(|entry| entry.name.starts_with("nvidia-hopper")).unwrap();
    GpuEvidence::from_evidence_list(&std::fs::read(folder.join(&entry.file)).unwrap()).unwrap()
}

async fn detail(network: &Network, request: AdmitRequest) -> String {
    match network.admit(0, &request).await {
        AdmitOutcome::Refused(AdmissionRefusal::Gpus { detail }) => detail,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn where_the_policy_requires_gpus_they_answer_this_nonce_for_these_keys() {
    let network = Network::start_under(|policy| {
        let root = ExtraRoot::simulated("SIM-gpu", Vendor::NvidiaDevice, HOPPER.root.der.clone()).unwrap();
        policy.extra_roots.push(root);
        policy.gpu = Some(GpuPolicy { required: true, ..GpuPolicy::preset(Preset::Dev) });
    })
    .await;
    let worker = Worker::new(COUNT);
    let digest = worker.keyset.digest().unwrap();
    let refused = async |change: &dyn Fn(&mut AdmitRequest)| {
        let mut request = network.proposal(0, &worker).await;
        change(&mut request);
        detail(&network, request).await
    };
    let none = refused(&|_| ()).await;
    assert_eq!(none, "the policy demands GPUs, the machine showed none");
    let other_nonce = "the evidence does not answer the nonce that was asked for";
    // Recorded elsewhere: genuine, and for another question.
    assert_eq!(refused(&|request| request.gpus = shown(&recorded())).await, other_nonce);
    // For another gatekeeper's nonce, and for other keys.
    let elsewhere = network.challenge(1, &worker).await.nonce;
    assert_eq!(refused(&|request| request.gpus = shown(&signed(digest, elsewhere))).await, other_nonce);
    let stranger = Worker::new(COUNT).keyset.digest().unwrap();
    assert_eq!(refused(&|request| request.gpus = shown(&signed(stranger, request.nonce))).await, other_nonce);
    // A flipped bit of what was signed, one GPU twice, more than are read, and no evidence at all.
    let altered = refused(&|request| {
        let mut item = signed(digest, request.nonce).items()[0].clone();
        let place = item.report.len() - 200;
        item.report[place] ^= 1;
        request.gpus = shown(&GpuEvidence::new(vec![item]).unwrap());
    })
    .await;
    assert!(altered.contains("signature"), "{altered}");
    let twice = refused(&|request| {
        let item = signed(digest, request.nonce).items()[0].clone();
        request.gpus = shown(&GpuEvidence::new(vec![item.clone(), item]).unwrap());
    })
    .await;
    assert!(twice.contains("stands twice"), "{twice}");
    let many = refused(&|request| {
        let mut gpus = shown(&signed(digest, request.nonce)).unwrap();
        let list = gpus.evidence["evidenceList"].as_array_mut().unwrap();
        *list = vec![list[0].clone(); 17];
        request.gpus = Some(gpus);
    })
    .await;
    assert!(many.contains("more than 16 GPUs"), "{many}");
    let nothing = refused(&|request| {
        request.gpus = Some(ShownGpus { evidence: serde_json::json!({}), collateral: serde_json::json!({}) });
    })
    .await;
    assert!(nothing.contains("GPU evidence"), "{nothing}");

    let mut request = network.proposal(0, &worker).await;
    request.gpus = shown(&signed(digest, request.nonce));
    assert!(matches!(network.admit(0, &request).await, AdmitOutcome::Admitted(_)));
}

#[tokio::test]
async fn a_policy_that_says_nothing_of_gpus_accepts_none() {
    let network = Network::start().await;
    let worker = Worker::new(COUNT);
    let mut request = network.proposal(0, &worker).await;
    request.gpus = shown(&signed(worker.keyset.digest().unwrap(), request.nonce));
    assert_eq!(detail(&network, request).await, "the policy says nothing about GPUs, so it accepts none");
}
