//! Real evidence at its own date, at other dates, under other roots, and with every signed byte changed.

use std::time::Instant;

use tacit_attest::samples::Sample;
use tacit_attest::sweep::{Scope, Sweep, sweep};
use tacit_attest::*;
use tacit_types::UnixTime;

use crate::evidence::{of_samples, sample, samples};

const YEAR: u64 = 366 * 86_400;

/// What a verdict says, in one line.
fn line(verified: &VerifiedEvidence) -> String {
    format!(
        "{} {} {} {:?} confidence {} {}",
        verified.platform().name(),
        verified.root_name(),
        verified.tcb_status(),
        verified.advisories(),
        verified.confidence().level(),
        verified.tcb(),
    )
}

/// The policy under which a sample is judged besides `standard`: everything real, whatever its age or class.
fn any_real() -> Policy {
    of_samples(Preset::Dev)
}

fn verify_sample(sample: &Sample, policy: &Policy) -> Result<VerifiedEvidence, AttestError> {
    verify(&sample.evidence, &sample.collateral, policy, sample.at)
}

#[test]
fn each_sample_verifies_at_its_own_date() {
    let mut wrong = Vec::new();
    let mut check = |name: &str, expected: &str| {
        let Some(sample) = sample(name) else { return };
        let started = Instant::now();
        let verified = verify_sample(&sample, &any_real()).unwrap_or_else(|error| panic!("{name}: {error}"));
        println!("{name}: {} in {:?}", line(&verified), started.elapsed());
        if line(&verified) != expected {
            wrong.push(line(&verified));
        }
        assert!(!verified.simulated());
        assert_eq!(verified.judged_at(), sample.at);
        assert!(verified.collateral_time() <= sample.at && sample.at <= verified.collateral_expires());
    };
    check(
        "intel-tdx-v4",
        "Intel TDX intel-sgx UpToDate [] confidence 1 fmspc b0c06f000000 cpusvn 03030202040100050000000000000000 pcesvn 11",
    );
    check(
        "intel-tdx-v5",
        "Intel TDX intel-sgx UpToDate [] confidence 1 fmspc b0c06f000000 cpusvn 04040202040100050000000000000000 pcesvn 11",
    );
    check(
        "intel-sgx-v3",
        "Intel SGX intel-sgx ConfigurationAndSWHardeningNeeded [\"INTEL-SA-00289\", \"INTEL-SA-00615\"] confidence 3 fmspc 00a067110000 cpusvn 0b0b0202ff0100000000000000000000 pcesvn 13",
    );
    check("amd-milan", "AMD SEV-SNP amd-milan UpToDate [] confidence 5 bootloader 4 tee 0 snp 24 microcode 219");
    check("amd-milan-v2", "AMD SEV-SNP amd-milan UpToDate [] confidence 5 bootloader 3 tee 0 snp 8 microcode 115");
    check("amd-genoa", "AMD SEV-SNP amd-genoa UpToDate [] confidence 1 bootloader 10 tee 0 snp 23 microcode 84");
    check("amd-turin", "AMD SEV-SNP amd-turin UpToDate [] confidence 1 fmc 1 bootloader 1 tee 1 snp 4 microcode 81");
    check("aws-nitro", "AWS Nitro aws-nitro UpToDate [] confidence 2 none stated by AWS");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn old_firmware_is_refused_by_name() {
    let sample = sample("intel-tdx-v5-old").unwrap();
    assert_eq!(verify_sample(&sample, &any_real()), Err(AttestError::NoTcbLevel));
}

#[test]
fn standard_accepts_current_hardware_and_denies_milan() {
    let standard = of_samples(Preset::Standard);
    for name in ["intel-tdx-v4", "intel-tdx-v5", "intel-sgx-v3", "amd-genoa", "amd-turin", "aws-nitro"] {
        if let Some(sample) = sample(name) {
            verify_sample(&sample, &standard).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    for name in ["amd-milan", "amd-milan-v2"] {
        if let Some(sample) = sample(name) {
            let denied =
                AttestError::HardwareClassDenied { policy: "standard".into(), class: HardwareClass::EpycMilan };
            assert_eq!(verify_sample(&sample, &standard), Err(denied));
        }
    }
}

#[test]
fn no_sample_verifies_at_another_date() {
    for sample in samples() {
        let at = |now: UnixTime| verify(&sample.evidence, &sample.collateral, &any_real(), now);
        let late = at(sample.at.plus(30 * YEAR));
        let early = at(sample.at.minus(10 * YEAR));
        assert!(matches!(late, Err(AttestError::Expired { .. })), "{}: {late:?}", sample.name);
        assert!(matches!(early, Err(AttestError::NotYetValid { .. })), "{}: {early:?}", sample.name);
    }
}

#[test]
fn no_sample_verifies_under_another_root() {
    for sample in samples() {
        let mut policy = any_real();
        let vendor = match sample.evidence.platform() {
            Platform::Sgx | Platform::Tdx => Vendor::Intel,
            Platform::SevSnp => Vendor::Amd,
            Platform::Nitro => Vendor::Aws,
        };
        policy.roots.retain(|root| root.vendor() != vendor);
        assert!(!policy.roots.is_empty());
        let refused = verify_sample(&sample, &policy);
        assert!(matches!(refused, Err(AttestError::WrongRoot { .. })), "{}: {refused:?}", sample.name);
    }
}

#[test]
fn every_signed_byte_counts() {
    let policy = any_real();
    let sweeps: Vec<(String, Result<Sweep, AttestError>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = samples()
            .into_iter()
            .filter(|sample| sample.name != "intel-tdx-v5-old")
            .map(|sample| {
                let policy = &policy;
                scope.spawn(move || {
                    let started = Instant::now();
                    let result = sweep(&sample.evidence, &sample.collateral, policy, sample.at, Scope::Everything);
                    println!("{}: {:?}", sample.name, started.elapsed());
                    (sample.name, result)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut total = Sweep::default();
    for (name, result) in sweeps {
        let result = result.unwrap_or_else(|error| panic!("{name}: {error}"));
        println!("{name}: {} signed bytes changed one at a time, {} refused", result.tried, result.refused);
        assert_eq!(result.accepted, [], "{name}");
        total.add(result);
    }
    println!("all: {} tried, {} refused", total.tried, total.refused);
    assert!(total.tried > 10_000);
    assert_eq!(total.tried, total.refused);
}
