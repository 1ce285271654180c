//! JSON in, JSON out: the surface of the WebAssembly build.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use tacit_attest::{Policy, Preset, Seen};
use tacit_types::{Digest, UnixTime};

use crate::anchor::json_bytes;
use crate::report::Steps;
use crate::{Anchor, Inspection, Judge, Report, StepName, VerifyError};

/// A question in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Question {
    /// The file, base64.
    file: String,
    /// Files of collateral, base64 each.
    #[serde(default)]
    collateral: Vec<String>,
    /// The deployment that is trusted.
    #[serde(default)]
    deployment: Option<Value>,
    /// `dev`, `standard`, `high`, or a policy; `standard` without.
    #[serde(default)]
    policy: Option<Value>,
    /// The asker's nonce.
    #[serde(default)]
    nonce: Option<Digest>,
    /// When it is judged; `now` without.
    #[serde(default)]
    at: Option<UnixTime>,
    /// The present.
    now: UnixTime,
}

/// Answers a question in JSON with a report in JSON: what `tacit verify --json` prints. Members: `file` (base64), and where they
/// matter `collateral` (a list of files, base64), `deployment`, `policy` (a preset's name or a policy), `nonce`, `at`; `now` (unix
/// seconds) always.
pub fn verify_json(question: &[u8]) -> Vec<u8> {
    let report = match answer(question) {
        Ok(report) => report,
        Err(error) => {
            let mut steps = Steps::default();
            steps.record::<()>(StepName::Parse, Err(error));
            steps.report(true)
        }
    };
    serde_json::to_vec(&report).expect("a report holds strings, numbers, flags and lists of them")
}

fn answer(question: &[u8]) -> Result<Report, VerifyError> {
    let unreadable = |error: &dyn std::error::Error| VerifyError::Unreadable(error.to_string());
    let question: Question = serde_json::from_slice(question).map_err(|error| unreadable(&error))?;
    let decode = |text: &String| STANDARD.decode(text).map_err(|error| unreadable(&error));
    let file = decode(&question.file)?;
    let collateral = question.collateral.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    let anchor = question.deployment.as_ref().map(|given| Anchor::parse(&json_bytes(given))).transpose()?;
    let inspection = Inspection {
        file: &file,
        collateral: collateral.iter().map(Vec::as_slice).collect(),
        anchor,
        judge: judge_of(question.policy.as_ref())?,
        nonce: question.nonce,
        at: question.at,
        seen: Seen::default(),
        now: question.now,
    };
    Ok(inspection.inspect().report)
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
