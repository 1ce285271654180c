//! Step 1 of the demo: real evidence of Intel and AMD machines, verified here and offline, each at the date it was made.
//!
//! This is about other people's machines. Every signed byte of each sample is flipped once, and every flip must be refused.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tacit_attest::{
    AttestError, Platform, Policy, Presence, Preset, VerifiedEvidence,
    samples::{INDEX, Index, Sample},
    sweep::{Scope, Sweep, sweep},
    verify,
};
use tacit_platform::{LOOKED_FOR, detect};
use tacit_types::UnixTime;

fn main() -> Result<()> {
    let devices = detect(std::path::Path::new("/"));
    let found: Vec<&str> = devices.iter().map(|found| found.device.name()).collect();
    let looked: Vec<String> = LOOKED_FOR.iter().take(3).map(|(path, _)| format!("/{path}")).collect();
    println!(
        "looking for a TEE: {} ({} and {} more) -> SIMULATED chips",
        if found.is_empty() { "none".to_owned() } else { found.join(", ") },
        looked.join(", "),
        LOOKED_FOR.len() - looked.len()
    );
    println!("1 REAL EVIDENCE, checked here, offline, each at the date it was made");

    let samples = load()?;
    ensure!(!samples.is_empty(), "no samples were gathered; run make evidence");
    for sample in &samples {
        show(sample)?;
    }
    let flips = flip_everything(&samples)?;
    println!(
        "  signed bytes flipped one at a time: {} tried, {} refused   (other people's machines; says nothing about this one)",
        flips.tried, flips.refused
    );
    ensure!(flips.tried > 0, "expected that bytes are flipped, found none");
    ensure!(
        flips.tried == flips.refused,
        "expected that every flipped byte is refused, found accepted: {:?}",
        flips.accepted
    );
    Ok(())
}

/// Flips every signed byte of every sample that verifies; a sample that is refused anyway could not show anything.
fn flip_everything(samples: &[Sample]) -> Result<Sweep> {
    let sweeps: Vec<Result<Sweep, AttestError>> = std::thread::scope(|scope| {
        let valid = samples.iter().filter(|sample| verify_leniently(sample, sample.at).is_ok());
        let threads: Vec<_> = valid
            .map(|sample| {
                scope.spawn(|| sweep(&sample.evidence, &sample.collateral, &lenient(), sample.at, Scope::Everything))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a sweep does not panic")).collect()
    });
    let mut all = Sweep::default();
    for sweep in sweeps {
        all.add(sweep?);
    }
    Ok(all)
}

fn verify_leniently(sample: &Sample, at: UnixTime) -> Result<VerifiedEvidence, AttestError> {
    verify(&sample.evidence, &sample.collateral, &lenient(), at)
}

/// Every TCB status and hardware class let through: what is left is the cryptography.
fn lenient() -> Policy {
    of_samples(Preset::Dev)
}

/// A preset, but AMD's revocation list is judged only where it is there: nobody recorded it with the samples.
fn of_samples(preset: Preset) -> Policy {
    let mut policy = Policy::preset(preset);
    policy.snp.crl = Presence::IfPresent;
    policy
}

/// What must come out for a sample under the policy `standard`.
enum Expected {
    Verified,
    /// Everything holds, and the policy denies EPYC Milan.
    ClassDenied,
    /// Its firmware is older than every level that Intel lists.
    BelowEveryLevel,
}

fn expected(name: &str) -> Expected {
    match name {
        "intel-tdx-v5-old" => Expected::BelowEveryLevel,
        _ if name.starts_with("amd-milan") => Expected::ClassDenied,
        _ => Expected::Verified,
    }
}

fn show(sample: &Sample) -> Result<()> {
    let started = Instant::now();
    let verdict = verify(&sample.evidence, &sample.collateral, &of_samples(Preset::Standard), sample.at);
    let elapsed = started.elapsed();
    let title = &sample.title;
    let found = match &verdict {
        Ok(verified) => {
            println!("  {title:<32} VERIFIED  {:>8}   {}", milliseconds(elapsed), describe(verified));
            String::from("VERIFIED")
        }
        Err(error) => {
            let rest = if verify_leniently(sample, sample.at).is_ok() { " (signature and chain valid)" } else { "" };
            println!("  {title:<32} REFUSED   {error}{rest}");
            format!("REFUSED: {error}")
        }
    };
    match expected(&sample.name) {
        Expected::Verified => ensure!(verdict.is_ok(), "{title}: expected VERIFIED, found {found}"),
        Expected::ClassDenied => ensure!(
            matches!(verdict, Err(AttestError::HardwareClassDenied { .. }))
                && verify_leniently(sample, sample.at).is_ok(),
            "{title}: expected a valid chain and a hardware class that policy `standard` denies, found {found}"
        ),
        Expected::BelowEveryLevel => ensure!(
            matches!(verdict, Err(AttestError::NoTcbLevel)),
            "{title}: expected a platform below every TCB level, found {found}"
        ),
    }
    let later = UnixTime(sample.at.0 + 20 * 366 * 86_400);
    ensure!(verify_leniently(sample, later).is_err(), "{title}: expected a refusal twenty years later, found none");
    Ok(())
}

fn describe(verified: &VerifiedEvidence) -> String {
    let list = if verified.platform() == Platform::SevSnp { ", no CRL" } else { "" };
    format!("{} root, TCB {}, debug off{list}", verified.root_name(), verified.tcb_status())
}

fn load() -> Result<Vec<Sample>> {
    let folder = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cache")))
        .context("neither XDG_CACHE_HOME nor a home folder is known")?
        .join("tacit/evidence");
    let read = |name: &str| -> Result<Vec<u8>> {
        let path = folder.join(name);
        std::fs::read(&path).with_context(|| format!("{}; run make evidence", path.display()))
    };
    let index = Index::parse(&read(INDEX)?)?;
    index.samples.iter().map(|entry| entry.load(read)).collect()
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
}
