//! JSON in, JSON out: the surface of the WebAssembly build.

use serde::Deserialize;
use serde_json::Value;
use tacit_attest::{Collateral, Evidence, Policy, Preset};
use tacit_types::UnixTime;

use crate::anchor::json_bytes;
use crate::report::Steps;
use crate::{Anchor, Judge, Report, StepName, Verifier, VerifyError, refuse_without_anchor, verify_evidence};

/// A question in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Question {
    /// The bundle's text, exactly as in its file.
    #[serde(default)]
    bundle: Option<String>,
    /// Evidence instead of a bundle.
    #[serde(default)]
    evidence: Option<Value>,
    #[serde(default)]
    collateral: Option<Value>,
    /// The deployment that is trusted.
    #[serde(default)]
    deployment: Option<Value>,
    /// `dev`, `standard`, `high`, or a policy; `standard` without.
    #[serde(default)]
    policy: Option<Value>,
    /// When raw evidence is judged; `now` without.
    #[serde(default)]
    at: Option<UnixTime>,
    /// The present.
    now: UnixTime,
}

/// Answers a question in JSON with a report in JSON. Members: `bundle` (text) and `deployment`, or `evidence` and `collateral`;
/// `policy` (a preset's name or a policy), `at`, `now` (unix seconds).
pub fn verify_json(question: &[u8]) -> Vec<u8> {
    let report = match answer(question) {
        Ok(report) => report,
        Err(error) => {
            let mut steps = Steps::default();
            steps.record::<()>(StepName::Parse, Err(error));
            steps.report(true)
        }
    };
    serde_json::to_vec(&report).expect("a report holds strings, flags and lists of them")
}

fn answer(question: &[u8]) -> Result<Report, VerifyError> {
    let unreadable = |error: &dyn std::error::Error| VerifyError::Unreadable(error.to_string());
    let question: Question = serde_json::from_slice(question).map_err(|error| unreadable(&error))?;
    let judge = judge_of(question.policy.as_ref())?;
    match (&question.bundle, &question.evidence) {
        (Some(bundle), None) => Ok(match &question.deployment {
            None => refuse_without_anchor(bundle.as_bytes()),
            Some(deployment) => {
                let anchor = Anchor::parse(&json_bytes(deployment))?;
                Verifier::new(anchor, judge).verify_bundle(bundle.as_bytes(), question.now)
            }
        }),
        (None, Some(evidence)) => {
            let evidence = Evidence::from_json(&json_bytes(evidence))?;
            let collateral =
                question.collateral.as_ref().map(|given| Collateral::from_json(&json_bytes(given))).transpose()?;
            let at = question.at.unwrap_or(question.now);
            Ok(verify_evidence(&evidence, collateral.as_ref(), &judge, at, question.now).0)
        }
        _ => Err(VerifyError::Unreadable("either a bundle or evidence is needed".to_owned())),
    }
}

fn judge_of(policy: Option<&Value>) -> Result<Judge, VerifyError> {
    match policy {
        None => Ok(Judge::Preset(Preset::Standard)),
        Some(Value::String(name)) => {
            Preset::named(name).map(Judge::Preset).ok_or_else(|| VerifyError::Unreadable(format!("no policy `{name}`")))
        }
        Some(document) => Policy::from_json(&json_bytes(document))
            .map(|policy| Judge::Policy(Box::new(policy)))
            .map_err(|error| VerifyError::Unreadable(error.to_string())),
    }
}
