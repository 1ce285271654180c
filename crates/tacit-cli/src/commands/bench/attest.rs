//! Verification of real evidence under a policy, beside the library's own on the same bytes.

use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tacit_attest::{
    AttestError, HardwareClass, Policy, Presence, Preset, VendorRoot,
    bench::SignatureOnly,
    nvidia::{GpuCollateral, GpuEvidence, GpuPolicy, verify_gpus},
    samples::{INDEX, Index},
    verify,
};
use tacit_runtime::bench::Row;
use tacit_types::UnixTime;

use super::{cache, median, row};
use crate::output;

/// Rounds of each row, and how often both verifications run in one, in turn. Other work on the machine lengthens a round and
/// never shortens it, so the best round counts.
const ROUNDS: usize = 8;
const PAIRS: usize = 50;
/// What is run before anything is counted.
const WARM_UP: usize = 10;

/// A row's name, the samples that may stand for it, best first, and what its evidence is measured beside.
const CPUS: [(&str, &[&str], &str); 5] = [
    ("sgx", &["intel-sgx-v3"], DCAP),
    ("tdx4", &["intel-tdx-v4"], DCAP),
    ("tdx5", &["intel-tdx-v5"], DCAP),
    ("snp", &["amd-genoa", "amd-turin", "amd-milan-v2"], "sev 8: chain from the self-signed root, and report"),
    ("nitro", &["aws-nitro"], OWN),
];
const DCAP: &str = "dcap-qvl 0.7: QuoteVerifier::verify";
const OWN: &str = "our own chain and signature, without policy";

/// Measures every sample that was gathered.
pub fn run() -> Result<Vec<Row>> {
    let folder = cache()?.join("evidence");
    let gathered = "run `make evidence` in a checkout of this project first";
    let index = std::fs::read(folder.join(INDEX)).with_context(|| format!("no evidence: {gathered}"))?;
    let index = Index::parse(&index)?;
    let mut rows = Vec::new();
    for (name, samples, peer) in CPUS {
        match samples.iter().find_map(|sample| index.samples.iter().find(|entry| entry.name == *sample)) {
            Some(entry) => {
                let sample = entry.load(|file| read(&folder, file))?;
                let mut policy = policy();
                let verified = verify(&sample.evidence, &sample.collateral, &policy, sample.at)?;
                let root = vendor_root(verified.hardware_class());
                // As a cluster's policy does: the code that may run is listed.
                policy = policy.with_image("sample", &[verified.measurement()]);
                let other = SignatureOnly::of(&sample.evidence, &sample.collateral, root)?;
                let what = format!("{}, {} bytes", sample.name, sample.evidence.document().len());
                let ours = || verify(&sample.evidence, &sample.collateral, &policy, sample.at).map(drop);
                rows.extend(beside(name, &what, peer, ours, &other, &policy, sample.at)?);
            }
            None => output::note(format!("attest.{name}.* is left out: its sample was not gathered; {gathered}")),
        }
    }
    // One GPU, signed as it should be: a set of several takes several times as long.
    let hopper = index.gpus.iter().find(|entry| entry.name.starts_with("nvidia-hopper"));
    match hopper {
        Some(entry) => {
            let evidence = GpuEvidence::from_evidence_list(&read(&folder, &entry.file)?)?;
            let (policy, at) = (policy().with_gpu(GpuPolicy::preset(Preset::Dev)), entry.judged_at()?);
            let nonce = evidence.items()[0].nonce;
            let collateral = GpuCollateral::default();
            let what = format!("{}, {} GPU", entry.name, evidence.items().len());
            let ours = || verify_gpus(&evidence, &collateral, &policy, &nonce, at).map(drop);
            rows.extend(beside("nvidia", &what, OWN, ours, &SignatureOnly::of_gpus(&evidence), &policy, at)?);
        }
        None => output::note(format!("attest.nvidia.* is left out: no sample was gathered; {gathered}")),
    }
    ensure!(!rows.is_empty(), "no evidence: {gathered}");
    Ok(rows)
}

/// Nobody recorded AMD's revocation list with the samples, and one of them is old.
fn policy() -> Policy {
    let mut policy = Policy::preset(Preset::Dev);
    policy.snp.crl = Presence::IfPresent;
    policy
}

fn beside(
    name: &str,
    what: &str,
    peer: &str,
    ours: impl Fn() -> Result<(), AttestError>,
    other: &SignatureOnly,
    policy: &Policy,
    at: UnixTime,
) -> Result<[Row; 2]> {
    let time = |check: &dyn Fn() -> Result<(), AttestError>| -> Result<Duration> {
        let started = Instant::now();
        black_box(check()).with_context(|| format!("{what} does not verify"))?;
        Ok(started.elapsed())
    };
    let theirs = || other.check(policy, at);
    for _ in 0..WARM_UP {
        time(&ours)?;
        time(&theirs)?;
    }
    let (mut our_medians, mut other_medians) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        let (mut our_times, mut other_times) = (Vec::with_capacity(PAIRS), Vec::with_capacity(PAIRS));
        for pair in 0..PAIRS {
            // Each first every other time, so that neither always finds the caches as the other left them.
            if pair % 2 == 0 {
                our_times.push(time(&ours)?);
                other_times.push(time(&theirs)?);
            } else {
                other_times.push(time(&theirs)?);
                our_times.push(time(&ours)?);
            }
        }
        our_medians.push(median(&mut our_times)?);
        other_medians.push(median(&mut other_times)?);
    }
    our_medians.sort_by(f64::total_cmp);
    other_medians.sort_by(f64::total_cmp);
    let (ours, theirs) = (our_medians[0], other_medians[0]);
    let count = ROUNDS * PAIRS;
    let note = format!(
        "{what}; parse, signatures, chain, policy; nothing memoised; best median of {ROUNDS} rounds, worst {:.3}",
        our_medians[ROUNDS - 1]
    );
    let mut ms = row(&format!("attest.{name}.ms"), ours, "ms", "report", count, note);
    ms.peer = Some(format!("{peer}: {theirs:.3} ms"));
    let note =
        format!("{theirs:.3} ms by {peer}; best medians of {ROUNDS} rounds of {PAIRS} pairs in turn, one thread");
    let mut ratio = row(&format!("attest.{name}.vs_signature_only"), ours / theirs, "ratio", "≤ 1.5", count, note);
    ratio.peer = Some(peer.to_owned());
    Ok([ms, ratio])
}

fn vendor_root(class: HardwareClass) -> VendorRoot {
    match class {
        HardwareClass::IntelSgx | HardwareClass::IntelTdx => VendorRoot::IntelSgx,
        HardwareClass::EpycMilan => VendorRoot::AmdMilan,
        HardwareClass::EpycGenoa => VendorRoot::AmdGenoa,
        HardwareClass::EpycTurin => VendorRoot::AmdTurin,
        HardwareClass::AwsNitro => VendorRoot::AwsNitro,
    }
}

fn read(folder: &Path, file: &str) -> Result<Vec<u8>> {
    let path = folder.join(file);
    std::fs::read(&path).with_context(|| path.display().to_string())
}
