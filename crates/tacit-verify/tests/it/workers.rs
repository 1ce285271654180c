//! Workers before anything is sealed to them.

use tacit_attest::{AttestError, Preset};
use tacit_types::eip712::Platform;
use tacit_types::*;
use tacit_verify::{CertifiedWorker, StepName, TimeProof, Verdict, VerifyError};

use crate::golden::{certified_worker, sample, verifier};
use crate::network::{CALL, NOT_AFTER, NOT_BEFORE, Sample};

fn check(preset: Preset, worker: &CertifiedWorker, now: UnixTime, expected: Result<(), (StepName, VerifyError)>) {
    let report = verifier(preset).report_worker(worker, now);
    let found = match report.failed() {
        None => Ok(()),
        Some(step) => Err((step.step, step.error.clone().unwrap())),
    };
    assert_eq!(found, expected, "{report}");
    assert_eq!(verifier(preset).verify_worker(worker, now).is_ok(), report.verdict == Verdict::Verified);
}

#[test]
fn a_certified_worker_is_sealed_to_under_a_policy_that_names_its_root() {
    let worker = certified_worker();
    let verified = verifier(Preset::Dev).verify_worker(&worker, CALL).unwrap();
    assert_eq!(verified.ohttp_config(), worker.certificate.keyset.ohttp_config().unwrap());
    assert!(tacit_envelope::KeyConfig::parse(verified.ohttp_config()).is_ok());
    assert_eq!(verified.address(), worker.certificate.certificate.worker);
    let report = verifier(Preset::Standard).verify_worker(&worker, CALL).unwrap_err();
    assert_eq!((report.verdict, report.time), (Verdict::Simulated, Some(TimeProof::Live)));
}

#[test]
fn the_certificate_must_be_valid_now() {
    let worker = certified_worker();
    let expired = Err((StepName::Time, VerifyError::Time("the certificate is not valid now")));
    check(Preset::Dev, &worker, NOT_BEFORE, Ok(()));
    check(Preset::Dev, &worker, NOT_AFTER, Ok(()));
    check(Preset::Dev, &worker, NOT_BEFORE.minus(1), expired.clone());
    check(Preset::Dev, &worker, NOT_AFTER.plus(1), expired);
}

#[test]
fn evidence_must_be_of_the_certified_machine() {
    let refuse = |alter: fn(&mut CertifiedWorker), expected: VerifyError| {
        let mut worker = certified_worker();
        alter(&mut worker);
        check(Preset::Dev, &worker, CALL, Err((StepName::Evidence, expected)));
    };
    let mismatch = || VerifyError::Evidence(AttestError::ReportDataMismatch);
    refuse(|worker| worker.evidence.as_mut().unwrap().nonce = None, mismatch());
    refuse(|worker| worker.evidence.as_mut().unwrap().nonce = Some(Digest::ZERO), mismatch());
    // A gatekeeper's quote in place of the worker's.
    refuse(
        |worker| {
            let evidence = worker.evidence.as_mut().unwrap();
            evidence.evidence = crate::golden::anchor().deployment().gatekeepers[0].evidence.clone();
        },
        mismatch(),
    );

    // Certificates that say something else than the evidence, though the quorum signed them.
    let certified = |change: fn(&mut Sample)| {
        let mut sample = sample();
        change(&mut sample);
        CertifiedWorker { certificate: sample.bundle().certificate, ..certified_worker() }
    };
    let other = VerifyError::Mismatch("the evidence is of another machine than the certificate");
    for change in [
        (|sample| sample.certificate.chip = ChipId::from([1; 32])) as fn(&mut Sample),
        |sample| sample.certificate.confidence = 2,
        |sample| sample.certificate.platform = Platform::Sgx,
    ] {
        check(Preset::Dev, &certified(change), CALL, Err((StepName::Evidence, other.clone())));
    }
}

#[test]
fn signatures_and_keyset_must_fit() {
    let mut worker = certified_worker();
    worker.certificate.signatures.pop();
    let source = tacit_types::quorum::QuorumError::TooFew { needed: 2, found: 1 };
    check(
        Preset::Dev,
        &worker,
        CALL,
        Err((StepName::Certificate, VerifyError::Quorum { what: "certificate", source })),
    );
    let mut worker = certified_worker();
    worker.certificate.keyset = crate::network::gatekeepers()[0].keyset.clone();
    let other = VerifyError::Mismatch("the keyset is not the certificate's");
    check(Preset::Dev, &worker, CALL, Err((StepName::Certificate, other)));
}
