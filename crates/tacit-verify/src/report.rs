//! The verdict and the steps that led to it.

use serde::{Serialize, Serializer};

use crate::{Subject, VerifyError};

/// What the verifier says in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything holds under the policy.
    Verified,
    /// Everything holds, and only the hardware root is a simulated one that the policy does not name.
    Simulated,
    /// A step failed.
    Refused,
    /// Nothing failed, something needed is not in the file.
    Incomplete,
}

impl Verdict {
    /// Exit status of a command that ends with this verdict.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::Refused => 3,
            Self::Simulated => 4,
            Self::Incomplete => 5,
        }
    }
}

/// How a receipt's time is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeProof {
    /// The certificate is valid now.
    Live,
    /// A gatekeeper quorum signed it while the certificate was valid.
    Countersigned,
    /// Only the worker says so.
    Unproven,
}

/// A step of verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepName {
    /// The file can be read.
    Parse,
    /// There is something to trust, and the file belongs to it.
    Anchor,
    /// The gatekeepers' genesis quotes.
    Gatekeepers,
    /// The certificate's signatures.
    Certificate,
    /// The certificate against both policies.
    Policy,
    /// The receipt's signature.
    Receipt,
    /// Module and manifest against the code hash.
    Code,
    /// Opened commitments.
    Commitments,
    /// The effects.
    Effects,
    /// The register quorum's word.
    Acknowledgement,
    /// The transparency log.
    Log,
    /// When it happened.
    Time,
    /// The worker's own evidence.
    Evidence,
    /// The keyset that evidence is for.
    Keyset,
    /// The evidence of GPUs.
    Gpus,
}

impl StepName {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Anchor => "anchor",
            Self::Gatekeepers => "gatekeepers",
            Self::Certificate => "certificate",
            Self::Policy => "policy",
            Self::Receipt => "receipt",
            Self::Code => "code",
            Self::Commitments => "commitments",
            Self::Effects => "effects",
            Self::Acknowledgement => "acknowledgement",
            Self::Log => "log",
            Self::Time => "time",
            Self::Evidence => "evidence",
            Self::Keyset => "keyset",
            Self::Gpus => "gpus",
        }
    }

    const fn proves(self) -> &'static str {
        match self {
            Self::Parse => "the file is a bundle in its one canonical form",
            Self::Anchor => "the file belongs to the cluster of the deployment given, and that agrees with itself",
            Self::Gatekeepers => {
                "at genesis each gatekeeper's keys were held by measured code that the policies accept"
            }
            Self::Certificate => "at least t gatekeepers admitted the worker with exactly these keys",
            Self::Policy => "hardware, code and chip in the certificate are ones that both policies accept",
            Self::Receipt => "the certified worker signed exactly this receipt",
            Self::Code => "this module digest and this manifest are what ran",
            Self::Commitments => "the opened method, caller, request and response are the receipt's",
            Self::Effects => "the effects listed are all that the receipt records",
            Self::Acknowledgement => {
                "a register quorum signed this receipt's commit, or that its query read the newest state"
            }
            Self::Log => "the receipt stands in the worker's append-only log",
            Self::Time => "the certificate was valid when the receipt was made",
            Self::Evidence => "the hardware itself vouches for code and keys, without the gatekeepers' word",
            Self::Gpus => "GPUs of the vendor's with this firmware answered the nonce",
            Self::Keyset => "the evidence was made for exactly these keys, and for the nonce if one is given",
        }
    }

    const fn does_not_prove(self) -> &'static str {
        match self {
            Self::Parse => "anything about its content",
            Self::Anchor => "that the deployment is the right one: it is trusted as given",
            Self::Gatekeepers => "that fewer than t of them collude today, or that nobody opened the machines",
            Self::Certificate => "that the worker was not revoked since",
            Self::Policy => "that the hardware was not attacked physically",
            Self::Receipt => "that the code computes what its author says",
            Self::Code => "what the module does: read its source and build it",
            Self::Commitments => "anything about what is not opened",
            Self::Effects => "that the other side of a connection told the truth",
            Self::Acknowledgement => "that t colluding gatekeepers did not roll the register back",
            Self::Log => "that the same checkpoint is shown to everybody",
            Self::Time => "the moment to better than the clocks of the worker and the quorum",
            Self::Evidence => "that the chip's key was not stolen",
            Self::Gpus => "that they sit in the machine that shows them: evidence of GPUs can be relayed",
            Self::Keyset => "that the keys never left the machine: that is what the measured code must see to",
        }
    }
}

/// One step with its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which step.
    pub step: StepName,
    /// Whether it holds.
    pub ok: bool,
    /// What it proves when it holds.
    pub proves: &'static str,
    /// What it does not prove even then.
    pub does_not_prove: &'static str,
    /// Why it does not hold.
    #[serde(serialize_with = "error_text")]
    pub error: Option<VerifyError>,
}

fn error_text<S: Serializer>(error: &Option<VerifyError>, serializer: S) -> Result<S::Ok, S::Error> {
    match error {
        Some(error) => serializer.collect_str(error),
        None => serializer.serialize_none(),
    }
}

/// A verdict and how it came about; its JSON form is what `tacit verify --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// How the time is known, where that was reached.
    pub time: Option<TimeProof>,
    /// Name of the hardware root, where that was reached.
    pub root: Option<String>,
    /// Whom the function could talk to, where the bundle carries its manifest.
    pub could_talk_to: Option<String>,
    /// What was looked at, where a file was; what it says stands here only once it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// The steps in order.
    pub steps: Vec<Step>,
}

impl Report {
    /// The step that decided against the file.
    pub fn failed(&self) -> Option<&Step> {
        let refused = |step: &&Step| matches!(&step.error, Some(error) if !matches!(error, VerifyError::Missing(_)));
        self.steps.iter().find(refused).or_else(|| self.steps.iter().find(|step| !step.ok))
    }

    /// The last line for people.
    pub fn verdict_line(&self) -> String {
        match self.verdict {
            Verdict::Verified => "VERIFIED".to_owned(),
            Verdict::Simulated => "SIMULATED".to_owned(),
            Verdict::Refused => match self.failed() {
                Some(Step { step, error: Some(error), .. }) => format!("REFUSED: {}: {error}", step.name()),
                _ => "REFUSED".to_owned(),
            },
            Verdict::Incomplete => match self.failed() {
                Some(Step { step, error: Some(VerifyError::Missing(what)), .. }) => {
                    format!("INCOMPLETE: {}: {what}", step.name())
                }
                _ => "INCOMPLETE".to_owned(),
            },
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(subject) = &self.subject {
            write!(formatter, "{subject}")?;
        }
        for step in &self.steps {
            let mark = match &step.error {
                None => "ok",
                Some(VerifyError::Missing(_)) => "missing",
                Some(_) => "REFUSED",
            };
            writeln!(formatter, "{:<16} {mark}", step.step.name())?;
            match &step.error {
                None => writeln!(formatter, "  proves          {}", step.proves)?,
                Some(error) => writeln!(formatter, "  because         {error}")?,
            }
            writeln!(formatter, "  does not prove  {}", step.does_not_prove)?;
        }
        if let Some(root) = &self.root {
            writeln!(formatter, "hardware root:   {root}")?;
        }
        if let Some(hosts) = &self.could_talk_to {
            writeln!(formatter, "could talk to:   {hosts}")?;
        }
        if let Some(time) = self.time {
            let text = match time {
                TimeProof::Live => "live: the certificate is valid now",
                TimeProof::Countersigned => "countersigned: a quorum signed while the certificate was valid",
                TimeProof::Unproven => "unproven",
            };
            writeln!(formatter, "time:            {text}")?;
        }
        writeln!(formatter, "{}", self.verdict_line())
    }
}

/// Collects steps; every check passes through it, so none can be left out of the verdict.
#[derive(Default)]
pub(crate) struct Steps {
    steps: Vec<Step>,
}

impl Steps {
    /// Records a step and passes on what it found.
    pub(crate) fn record<T>(&mut self, step: StepName, result: Result<T, VerifyError>) -> Option<T> {
        let (value, error) = match result {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        self.steps.push(Step {
            step,
            ok: error.is_none(),
            proves: step.proves(),
            does_not_prove: step.does_not_prove(),
            error,
        });
        value
    }

    /// The report; `roots_named` tells whether the policy names every root that was met.
    pub(crate) fn report(self, roots_named: bool) -> Report {
        let missing = |step: &Step| matches!(step.error, Some(VerifyError::Missing(_)));
        let verdict = if self.steps.is_empty() || self.steps.iter().any(|step| !step.ok && !missing(step)) {
            Verdict::Refused
        } else if self.steps.iter().any(missing) {
            Verdict::Incomplete
        } else if !roots_named {
            Verdict::Simulated
        } else {
            Verdict::Verified
        };
        Report { verdict, time: None, root: None, could_talk_to: None, subject: None, steps: self.steps }
    }
}
