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
    /// The file is a transcript that can be read.
    Transcript,
    /// The service's evidence, over keyset and nonce.
    #[serde(rename = "id-1")]
    AciHardware,
    /// What the report says of keyset and statement.
    #[serde(rename = "id-2")]
    AciBinding,
    /// The keys' life.
    #[serde(rename = "id-3")]
    AciExpiry,
    /// What runs, by the policy's list or a measured description.
    #[serde(rename = "id-4")]
    AciProvenance,
    /// Who holds the private keys.
    #[serde(rename = "id-5")]
    AciCustody,
    /// The connection that was used.
    #[serde(rename = "id-6")]
    AciChannel,
    /// The receipt's signature.
    #[serde(rename = "receipt-1")]
    AciSignature,
    /// The keyset that the receipt names.
    #[serde(rename = "receipt-2")]
    AciReceiptKeyset,
    /// The request's bytes.
    #[serde(rename = "receipt-3")]
    AciRequest,
    /// The response's bytes.
    #[serde(rename = "receipt-4")]
    AciResponse,
    /// The upstream service.
    #[serde(rename = "upstream-1")]
    AciUpstream,
    /// The session that the receipt cites.
    #[serde(rename = "upstream-2")]
    AciSession,
    /// Model, usage and price.
    Inference,
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
            Self::Transcript => "transcript",
            Self::AciHardware => "id-1",
            Self::AciBinding => "id-2",
            Self::AciExpiry => "id-3",
            Self::AciProvenance => "id-4",
            Self::AciCustody => "id-5",
            Self::AciChannel => "id-6",
            Self::AciSignature => "receipt-1",
            Self::AciReceiptKeyset => "receipt-2",
            Self::AciRequest => "receipt-3",
            Self::AciResponse => "receipt-4",
            Self::AciUpstream => "upstream-1",
            Self::AciSession => "upstream-2",
            Self::Inference => "inference",
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
            Self::Transcript => "the file is a transcript in its one canonical form",
            Self::AciHardware => "the hardware itself vouches for code and keys, and answered this nonce",
            Self::AciBinding => "the report's digests are those of its keyset and of this nonce",
            Self::AciExpiry => "the keys are valid, and not for longer than is plausible",
            Self::AciProvenance => {
                "what runs is on the policy's list, or its published description is the measured one"
            }
            Self::AciCustody => "the keys were made by code that the policy lists",
            Self::AciChannel => "the TLS key that the client saw is one of the attested keyset for this host",
            Self::AciSignature => "an attested receipt key signed exactly this receipt",
            Self::AciReceiptKeyset => {
                "the receipt was made under the attested keyset, by the service's clock within its life"
            }
            Self::AciRequest => "the service processed exactly this request",
            Self::AciResponse => "the service returned exactly this response",
            Self::AciUpstream => "the service runs the model itself, or says that it verified the upstream",
            Self::AciSession => {
                "this is the session that the receipt cites, valid when it was served, with the evidence that it names"
            }
            Self::Inference => {
                "model digest, usage and price stand under the signature, and the response states the same usage"
            }
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
            Self::Transcript => "anything about its content",
            Self::AciHardware => "that the chip's key was not stolen, or that nobody opened the machine",
            Self::AciBinding => "that the nonce was chosen by whoever judges now",
            Self::AciExpiry => "that they were not revoked since",
            Self::AciProvenance => "what the code does: read its source and build it",
            Self::AciCustody => "that this code keeps them: that is what its review must say",
            Self::AciChannel => "that the client saw it: this is the transcript's word",
            Self::AciSignature => "that the code computes what its author says",
            Self::AciReceiptKeyset => "when it was made, to better than that clock",
            Self::AciRequest => "that it did not rewrite it: compare the hash of what it forwarded",
            Self::AciResponse => "that the response is right",
            Self::AciUpstream => "that an upstream holds under your policy: judge its session",
            Self::AciSession => "the evidence in it, which is not judged here",
            Self::Inference => "that the price is fair, or that the tokenizer counts as you would",
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
