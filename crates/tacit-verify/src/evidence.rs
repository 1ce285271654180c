//! Verification of a piece of raw evidence, with a report of the same shape as a receipt's.

use tacit_attest::{Collateral, Evidence, VerifiedEvidence, verify};
use tacit_types::UnixTime;

use crate::report::Steps;
use crate::{Judge, Report, StepName, TimeProof, VerifyError};

/// Judges evidence at `at`. `now` tells what has expired since: the report's time is live only if nothing has.
pub fn verify_evidence(
    evidence: &Evidence,
    collateral: Option<&Collateral>,
    judge: &Judge,
    at: UnixTime,
    now: UnixTime,
) -> (Report, Option<VerifiedEvidence>) {
    let policy = judge.policy_for(None);
    let mut steps = Steps::default();
    let result = match collateral {
        None => Err(VerifyError::Missing("the collateral to check the evidence with".into())),
        Some(collateral) => verify(evidence, collateral, &policy, at).map_err(VerifyError::from),
    };
    let found = steps.record(StepName::Evidence, result);
    let mut report = steps.report(true);
    if let Some(found) = &found {
        report.root = Some(found.root_name().to_owned());
        let live = now <= found.collateral_expires() && at <= now;
        report.time = Some(if live { TimeProof::Live } else { TimeProof::Unproven });
    }
    (report, found)
}
