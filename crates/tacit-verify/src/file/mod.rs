//! A file of any kind: what it is, what it says, and whether that holds.

mod collateral;
mod facts;
mod kind;

use tacit_attest::nvidia::{GpuEvidence, GpuPolicy, VerifiedGpus, verify_gpus};
use tacit_attest::{Evidence, Policy, Seen, VerifiedEvidence, verify_seen};
use tacit_types::{Digest, UnixTime};

pub use facts::{Fact, Subject};

use crate::aci::judge_transcript;
use crate::report::Steps;
use crate::{Anchor, Judge, Report, StepName, TimeProof, Verifier, VerifyError, refuse_without_anchor};
use kind::{KeysetReport, Recognised};

/// Most bytes of a file under test, and of each file beside it.
pub const MAX_FILE: usize = tacit_receipt::MAX_BUNDLE;

/// A file under test, and what it is judged by. Nothing that is trusted comes from the file.
pub struct Inspection<'a> {
    /// The file: a receipt bundle, a worker with its certificate, evidence in JSON, a raw quote, report or document (also in hex or
    /// base64), a keyset report, or an AI transcript.
    pub file: &'a [u8],
    /// Files with collateral for raw evidence, in any order.
    pub collateral: Vec<&'a [u8]>,
    /// The deployment that is trusted, for what belongs to a cluster.
    pub anchor: Option<Anchor>,
    /// Whose judgement.
    pub judge: Judge,
    /// The nonce that the asker chose, where evidence was made for one.
    pub nonce: Option<Digest>,
    /// When raw evidence is judged; `now` without.
    pub at: Option<UnixTime>,
    /// What was seen before of the vendors' numbers: no collateral may be older.
    pub seen: Seen,
    /// The present.
    pub now: UnixTime,
}

/// What an inspection gives.
pub struct Inspected {
    /// The verdict with its steps.
    pub report: Report,
    /// What has been seen of the vendors' numbers now, to be kept by whoever asks again.
    pub seen: Seen,
    /// When the collateral expires that raw evidence was judged with.
    pub collateral_expires: Option<UnixTime>,
}

impl Inspection<'_> {
    /// Judges the file.
    pub fn inspect(self) -> Inspected {
        let mut outcome =
            Inspected { report: Steps::default().report(true), seen: self.seen.clone(), collateral_expires: None };
        let recognised = match kind::recognise(self.file) {
            Ok(recognised) => recognised,
            Err(error) => {
                let mut steps = Steps::default();
                steps.record::<()>(StepName::Parse, Err(error));
                outcome.report = steps.report(true);
                return outcome;
            }
        };
        let kind = recognised.name();
        match recognised {
            Recognised::Bundle => {
                outcome.report = match self.anchor {
                    None => refuse_without_anchor(self.file),
                    Some(anchor) => {
                        Verifier::new(anchor, self.judge).verify_bundle(self.file, self.at.unwrap_or(self.now))
                    }
                };
                outcome.report.subject = Some(Subject::new(kind));
            }
            Recognised::Worker(worker) => {
                outcome.report = match self.anchor {
                    None => without_anchor(),
                    Some(anchor) => {
                        Verifier::new(anchor, self.judge).report_worker(&worker, self.at.unwrap_or(self.now))
                    }
                };
                outcome.report.subject = Some(Subject::of_certificate(kind, &worker.certificate.certificate));
            }
            Recognised::Evidence(evidence, carried) => {
                let steps = Steps::default();
                self.judge_evidence(steps, kind, &evidence, carried, &mut outcome);
            }
            Recognised::Gpus(gpus) => self.judge_gpus(kind, &gpus, &mut outcome),
            Recognised::KeysetReport(report) => self.judge_keyset_report(kind, &report, &mut outcome),
            Recognised::Transcript => {
                let times = (self.at.unwrap_or(self.now), self.now);
                outcome.report = judge_transcript(self.file, kind, self.anchor.as_ref(), &self.judge, times);
                outcome.report.subject.get_or_insert_with(|| Subject::new(kind));
            }
        }
        outcome
    }

    fn judge_keyset_report(self, kind: &'static str, report: &KeysetReport, outcome: &mut Inspected) {
        let mut steps = Steps::default();
        let found = steps.record(StepName::Keyset, report.check(self.nonce, self.at.unwrap_or(self.now)));
        let Some((evidence, expected)) = found else {
            outcome.report = steps.report(true);
            outcome.report.subject = Some(Subject::new(kind));
            return;
        };
        if let Some(verified) = self.judge_evidence(steps, kind, &evidence, report.collateral(), outcome)
            && verified.require_report_data(&expected).is_err()
        {
            // The evidence holds, and is for other keys.
            let mut steps = Steps::default();
            let error = VerifyError::Evidence(tacit_attest::AttestError::ReportDataMismatch);
            steps.record::<()>(StepName::Keyset, Err(error));
            outcome.report.steps.splice(0..1, steps.report(true).steps);
            outcome.report.verdict = crate::Verdict::Refused;
        }
    }

    /// A preset says nothing of GPUs until somebody asks for them: whoever shows their evidence does.
    fn gpu_policy(&self) -> Policy {
        let policy = self.judge.policy_for(None);
        match &self.judge {
            Judge::Preset(preset) => policy.with_gpu(GpuPolicy::preset(*preset)),
            Judge::Policy(_) => policy,
        }
    }

    fn judge_gpus(self, kind: &'static str, evidence: &GpuEvidence, outcome: &mut Inspected) {
        let at = self.at.unwrap_or(self.now);
        // Without the asker's nonce the evidence is judged for the nonce that it says: it may be an old answer.
        let nonce = self.nonce.map_or(evidence.items()[0].nonce, tacit_types::Digest::into_bytes);
        let judge = || -> Result<VerifiedGpus, VerifyError> {
            let collateral = collateral::assemble_gpus(&self.collateral)?;
            Ok(verify_gpus(evidence, &collateral, &self.gpu_policy(), &nonce, at)?)
        };
        let mut steps = Steps::default();
        let found = steps.record(StepName::Gpus, judge());
        outcome.report = steps.report(true);
        let mut subject = Subject::new(kind);
        if let Some(found) = &found {
            subject = Subject::of_gpus(kind, found, nonce, self.nonce.is_some());
            outcome.report.root = found.gpus().next().map(|gpu| gpu.root_name().to_owned());
            let live = self.now <= found.expires() && at <= self.now;
            outcome.report.time = Some(if live { TimeProof::Live } else { TimeProof::Unproven });
            outcome.collateral_expires = Some(found.expires());
        }
        outcome.report.subject = Some(subject);
    }

    /// Judges raw evidence behind the steps that were taken before.
    fn judge_evidence(
        self,
        mut steps: Steps,
        kind: &'static str,
        evidence: &Evidence,
        carried: Option<tacit_attest::Collateral>,
        outcome: &mut Inspected,
    ) -> Option<VerifiedEvidence> {
        let at = self.at.unwrap_or(self.now);
        let policy = self.judge.policy_for(None);
        let collateral = match carried {
            Some(carried) => Ok(Some(carried)),
            None => collateral::assemble(evidence, &self.collateral),
        };
        let result = match collateral {
            Err(error) => Err(error),
            Ok(None) => Err(VerifyError::Missing("the collateral to check the evidence with; hint: --collateral FILE")),
            Ok(Some(collateral)) => {
                verify_seen(evidence, &collateral, &policy, at, &self.seen).map_err(VerifyError::from)
            }
        };
        let found = steps.record(StepName::Evidence, result);
        let bound = match (&found, self.nonce) {
            (Some((verified, _)), Some(nonce)) => Some(facts::names_nonce(verified, nonce)),
            _ => None,
        };
        outcome.report = steps.report(true);
        let mut subject = Subject::new(kind);
        if let Some((verified, seen)) = &found {
            subject = Subject::of_evidence(kind, verified, bound);
            outcome.report.root = Some(verified.root_name().to_owned());
            let live = self.now <= verified.collateral_expires() && at <= self.now;
            outcome.report.time = Some(if live { TimeProof::Live } else { TimeProof::Unproven });
            outcome.seen = seen.clone();
            outcome.collateral_expires = Some(verified.collateral_expires());
        }
        outcome.report.subject = Some(subject);
        found.map(|(verified, _)| verified)
    }
}

/// What belongs to a cluster cannot be judged without its deployment.
fn without_anchor() -> Report {
    let mut steps = Steps::default();
    let reason = "no deployment is given for the cluster; hint: pass --deployment FILE from a source that you trust";
    steps.record::<()>(StepName::Anchor, Err(VerifyError::Anchor(reason.to_owned())));
    steps.report(true)
}
