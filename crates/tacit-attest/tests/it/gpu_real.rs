//! Real GPUs: at a date, under other roots, and with every signed byte changed.

use std::collections::BTreeSet;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use tacit_attest::nvidia::*;
use tacit_attest::samples::FileEntry;
use tacit_attest::sweep::{Sweep, flip_each};
use tacit_attest::*;
use tacit_types::UnixTime;

use crate::evidence::{index, read};
use crate::gpu_bench::pem;

const BAD_SIGNATURE: &str = "nvidia-hopper-560-bad-signature";

fn policy() -> Policy {
    Policy::preset(Preset::Dev).with_gpu(GpuPolicy::preset(Preset::Dev))
}

/// Every sample of a GPU; those of the package may not be missing.
fn gpus() -> Vec<(String, GpuEvidence, UnixTime)> {
    let load = |entry: FileEntry| {
        let evidence = GpuEvidence::from_evidence_list(&read(&entry.file)).unwrap();
        (entry.name.clone(), evidence, entry.judged_at().unwrap())
    };
    let index = index();
    assert!(
        index.gpus.iter().any(|entry| entry.name == "nvidia-hopper-550")
            || index.absent.iter().any(|name| name == "nvidia-hopper-550"),
        "no evidence of GPUs: run `make evidence`"
    );
    index.gpus.into_iter().map(load).collect()
}

fn manifests() -> Vec<(String, Vec<u8>, UnixTime)> {
    index()
        .manifests
        .into_iter()
        .map(|entry| (entry.name.clone(), read(&entry.file), entry.judged_at().unwrap()))
        .collect()
}

fn judge(evidence: &GpuEvidence, policy: &Policy, now: UnixTime) -> Result<VerifiedGpus, AttestError> {
    verify_gpus(evidence, &GpuCollateral::default(), policy, &evidence.items()[0].nonce, now)
}

fn line(gpu: VerifiedGpu<'_>) -> String {
    let report = gpu.report();
    format!("{} {} driver {} VBIOS {}", gpu.root_name(), gpu.model(), report.driver(), report.vbios())
}

#[test]
fn each_gpu_verifies_at_its_date() {
    let mut checked = 0;
    for (name, evidence, at) in gpus() {
        let started = Instant::now();
        let judged = judge(&evidence, &policy(), at);
        if name == BAD_SIGNATURE {
            assert_eq!(judged, Err(AttestError::BadSignature { what: "GPU report" }));
            println!("{name}: refused");
            continue;
        }
        let verified = judged.unwrap_or_else(|error| panic!("{name}: {error}"));
        let elapsed = started.elapsed();
        assert!(!verified.simulated());
        assert_eq!((verified.voucher(), verified.gpus().len()), (None, evidence.items().len()));
        let expected = match name.as_str() {
            "nvidia-hopper-550" => "GH100 A01 GSP BROM driver 550.90.07 VBIOS 96.00.9F.00.01",
            "nvidia-hopper-535" => "GH100 A01 GSP BROM driver 535.86.09 VBIOS 96.00.5E.00.01",
            "nvidia-hopper-570" => "GH100 A01 GSP BROM driver 570.124.03 VBIOS 96.00.5E.00.04",
            "nvidia-blackwell-575" => "GB100 A01 GSP BROM driver 575.32 VBIOS 97.00.88.00.0F",
            _ => "GH100 A01 GSP BROM driver 590.12 VBIOS 96.00.A5.00.01",
        };
        for gpu in verified.gpus() {
            println!("{name}: {} in {elapsed:?}", line(gpu));
            assert_eq!(line(gpu), format!("nvidia-device {expected}"));
            assert_eq!(gpu.root(), VendorRoot::NvidiaDevice.id());
        }
        // A chain of a GPU has no last day; before its first it is refused.
        let early = judge(&evidence, &policy(), UnixTime(1_500_000_000));
        assert!(matches!(early, Err(AttestError::NotYetValid { .. })), "{name}: {early:?}");
        let mut other = policy();
        other.roots.retain(|root| *root != VendorRoot::NvidiaDevice);
        assert!(matches!(judge(&evidence, &other, at), Err(AttestError::WrongRoot { .. })), "{name}");
        let asked = verify_gpus(&evidence, &GpuCollateral::default(), &policy(), &[0; 32], at);
        assert_eq!(asked, Err(AttestError::NonceMismatch), "{name}");
        let demanding = policy().with_gpu(GpuPolicy::preset(Preset::Standard));
        assert_eq!(judge(&evidence, &demanding, at), Err(GpuError::NotVouchedFor.into()), "{name}");
        checked += verified.gpus().len();
    }
    println!("{checked} GPUs verified");
    if let Some((_, four, at)) = gpus().iter().find(|(name, ..)| name == "nvidia-hopper-590-four") {
        let mut twice = four.items().to_vec();
        twice.push(twice[2].clone());
        let result = judge(&GpuEvidence::new(twice).unwrap(), &policy(), *at);
        assert!(matches!(result, Err(AttestError::Gpu(GpuError::Duplicate { .. }))), "{result:?}");
        assert_eq!(checked, 10);
    }
}

#[test]
fn each_manifest_verifies_at_its_date() {
    let (mut good, mut bad) = (0, 0);
    for (name, bytes, at) in manifests() {
        let judged = Manifest::verify(&bytes, &policy(), at);
        if name.contains("incorrect_signature") {
            assert_eq!(judged, Err(AttestError::BadSignature { what: "reference manifest" }));
            bad += 1;
            continue;
        }
        let manifest = judged.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((manifest.chip(), manifest.simulated()), ("GH100", false));
        assert!(at <= manifest.expires());
        let late = Manifest::verify(&bytes, &policy(), manifest.expires().plus(1));
        assert_eq!(late, Err(AttestError::Expired { what: "manifest certificate" }), "{name}");
        let early = Manifest::verify(&bytes, &policy(), UnixTime(1_600_000_000));
        assert_eq!(early, Err(AttestError::NotYetValid { what: "manifest certificate" }), "{name}");
        let mut other = policy();
        other.roots.retain(|root| *root != VendorRoot::NvidiaRim);
        assert!(matches!(Manifest::verify(&bytes, &other, at), Err(AttestError::WrongRoot { .. })), "{name}");
        good += 1;
    }
    println!("{good} manifests verified, {bad} refused");
}

#[test]
fn a_real_report_matches_its_manifest_in_every_active_slot() {
    let gpus = gpus();
    let Some((_, evidence, at)) = gpus.iter().find(|(name, ..)| name == "nvidia-hopper-535") else { return };
    let verified = judge(evidence, &policy(), *at).unwrap();
    let report = verified.gpus().next().unwrap().report().clone();
    let manifest = |part: &str| {
        let (_, bytes, at) = manifests().into_iter().find(|(name, ..)| name.contains(part)).unwrap();
        Manifest::verify(&bytes, &policy(), at).unwrap()
    };
    let matching = manifest("vectors-1010_0200_882_96005E0001_PROD");
    assert_eq!(matching.version(), report.vbios().to_string());
    assert_eq!(matching.active_slots().count(), 12);
    assert_eq!(matching.differing_slots(&report), Vec::<u16>::new());
    let twin = manifest("measurement_mismatch");
    assert_eq!((twin.active_slots().count(), twin.differing_slots(&report)), (12, vec![9]));
    // No public manifest is for this driver, so that the whole is refused, and by that name.
    let strict = policy().with_gpu(GpuPolicy::preset(Preset::High));
    let all: Vec<Vec<u8>> = manifests()
        .into_iter()
        .filter(|(name, ..)| name.contains("96005E0001_PROD"))
        .map(|(_, bytes, _)| bytes)
        .collect();
    let result = verify_gpus(evidence, &GpuCollateral::new(all, None), &strict, &evidence.items()[0].nonce, *at);
    let missing = GpuError::NoManifest { what: "driver", version: "535.86.09".into(), chip: "GH100".into() };
    assert_eq!(result, Err(missing.into()));
}

/// Changes every byte of a report and of those certificates whose places are given.
fn sweep_gpu(item: &GpuItem, places: &[usize], at: UnixTime) -> Sweep {
    let policy = policy();
    let refused = |item: GpuItem| {
        let nonce = item.nonce;
        let evidence = GpuEvidence::new(vec![item]).unwrap();
        verify_gpus(&evidence, &GpuCollateral::default(), &policy, &nonce, at).is_err()
    };
    let chain = certificates(&item.certificates);
    assert!(!refused(GpuItem { certificates: pem(&chain), ..item.clone() }), "rewriting changes nothing");
    let mut sweep = flip_each("report", &item.report, |report| refused(GpuItem { report, ..item.clone() }));
    for &place in places {
        sweep.add(flip_each("certificate", &chain[place], |changed| {
            let mut chain = chain.clone();
            chain[place] = changed;
            refused(GpuItem { certificates: pem(&chain), ..item.clone() })
        }));
    }
    sweep
}

#[test]
fn every_signed_byte_of_a_report_and_its_chain_counts() {
    // The authorities are the same for all GPUs of a family, and some samples are the same GPU: each is taken once.
    let (mut seen, mut jobs) = (BTreeSet::new(), Vec::new());
    for (name, evidence, at) in gpus().into_iter().filter(|(name, ..)| name != BAD_SIGNATURE) {
        for item in evidence.items() {
            if !seen.insert(item.report.clone()) {
                continue;
            }
            let chain = certificates(&item.certificates);
            let fresh: Vec<usize> = (0..chain.len()).filter(|place| seen.insert(chain[*place].clone())).collect();
            jobs.push((name.clone(), item.clone(), fresh, at));
        }
    }
    let sweeps: Vec<Sweep> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            jobs.iter().map(|(_, item, places, at)| scope.spawn(|| sweep_gpu(item, places, *at))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut total = Sweep::default();
    for ((name, ..), sweep) in jobs.iter().zip(sweeps) {
        println!("{name}: {} signed bytes changed one at a time, {} refused", sweep.tried, sweep.refused);
        assert_eq!(sweep.accepted, [], "{name}");
        total.add(sweep);
    }
    println!("GPUs: {} tried, {} refused", total.tried, total.refused);
    assert_eq!(total.tried, total.refused);
}

#[test]
fn every_byte_of_a_manifest_counts() {
    let mut total = Sweep::default();
    for part in ["96005E0001_PROD", "measurement_mismatch"] {
        let Some((name, bytes, at)) = manifests().into_iter().find(|(name, ..)| name.contains(part)) else { continue };
        let policy = policy();
        let sweep = flip_each("manifest", &bytes, |changed| Manifest::verify(&changed, &policy, at).is_err());
        println!("{name}: {} bytes changed one at a time, {} refused", sweep.tried, sweep.refused);
        assert_eq!(sweep.accepted, [], "{name}");
        total.add(sweep);
    }
    println!("manifests: {} tried, {} refused", total.tried, total.refused);
}

fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    let text = std::str::from_utf8(pem).unwrap();
    let bodies = text.split("-----BEGIN CERTIFICATE-----").skip(1).map(|part| part.split("-----END").next().unwrap());
    bodies.map(|body| STANDARD.decode(body.split_whitespace().collect::<String>()).unwrap()).collect()
}

fn feed(bytes: &[u8]) {
    fuzz::nitro_document(bytes);
    fuzz::gpu_structures(bytes);
    fuzz::gpu_manifest(bytes);
    fuzz::gpu_evidence(bytes);
    fuzz::gpu_collateral(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn hostile_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), text in "[<>&;:a-c \"'=/?!\\[\\]-]{0,200}") {
        feed(&bytes);
        feed(text.as_bytes());
    }

    #[test]
    fn hostile_changes_of_real_bytes_are_refused(places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>(), which in any::<prop::sample::Index>()) {
        let (gpus, manifests) = (gpus(), manifests());
        let mut documents: Vec<Vec<u8>> = gpus.iter().take(2).map(|(_, evidence, _)| evidence.items()[0].report.clone()).collect();
        documents.extend(manifests.iter().take(1).map(|(_, bytes, _)| bytes.clone()));
        documents.extend(crate::evidence::samples().into_iter().filter(|sample| sample.name == "aws-nitro").map(|sample| sample.evidence.document().to_vec()));
        prop_assume!(!documents.is_empty());
        let mut bytes = documents.swap_remove(which.index(documents.len()));
        for (place, value) in &places {
            let place = place.index(bytes.len());
            bytes[place] = *value;
        }
        feed(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        feed(&bytes);
    }
}
