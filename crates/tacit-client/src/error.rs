//! What can go wrong between a caller and an answer.

use tacit_api::Problem;
use tacit_envelope::EnvelopeError;
use tacit_types::FunctionId;
use tacit_verify::{Report, Verdict, VerifyError};

use crate::package::PackageError;

/// Why there is no answer, or no deployment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The deployment is not usable as an anchor.
    #[error("the deployment cannot be trusted")]
    Verify(#[from] VerifyError),
    /// No HTTP client could be made.
    #[error("could not make an HTTP client")]
    Http(#[source] reqwest::Error),
    /// Nobody could be reached.
    #[error("could not reach {url}")]
    Unreachable {
        /// The last one tried.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// There is nobody to ask.
    #[error("the deployment names no gateway")]
    NoEntry,
    /// The deployment names no function registry.
    #[error("the deployment names no function registry")]
    NoRegistry,
    /// A node answered with something else than was asked for.
    #[error("{url} did not answer properly: {reason}")]
    BadAnswer {
        /// The node.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A node could not tell what was asked of it.
    #[error("{problem} (said by {url})")]
    Lookup {
        /// The node.
        url: String,
        /// Its words.
        problem: Problem,
    },
    /// A node answered a call with a refusal outside the seal: nobody vouches for its words.
    #[error("{problem} (said by {url}, unsealed: the outcome of the call is unknown)")]
    Unsealed {
        /// The node.
        url: String,
        /// Its words.
        problem: Problem,
    },
    /// A verified worker said no, inside the seal.
    #[error("{0}")]
    Sealed(Problem),
    /// No worker holds under the policy.
    #[error("no worker of function {function} holds under the policy: {}", report.verdict_line())]
    NoWorker {
        /// The function.
        function: FunctionId,
        /// What was found about the best of them.
        report: Box<Report>,
    },
    /// The answer does not open: somebody on the way altered or cut it.
    #[error("the answer does not open: it was altered or cut off on the way")]
    Tampered(#[source] EnvelopeError),
    /// The answer opens and is not what a worker answers.
    #[error("the worker's answer is not usable: {0}")]
    Malformed(&'static str),
    /// The receipt does not hold under the policy.
    #[error("the receipt does not hold: {}", .0.verdict_line())]
    Receipt(Box<Report>),
    /// The receipt holds and is not about this call.
    #[error("the receipt is about something else: {0}")]
    OtherCall(&'static str),
    /// The deadline passed before there was an answer.
    #[error("the deadline passed without an answer; the outcome of the call is unknown")]
    Deadline(#[source] Option<Box<ClientError>>),
    /// The request cannot be sealed.
    #[error("the call cannot be sealed")]
    Seal(#[source] EnvelopeError),
    /// The request is not one that could be answered.
    #[error("{0}")]
    Request(&'static str),
    /// Something needs the caller's key.
    #[error("this needs a key to sign with")]
    NoKey,
    /// The home chain.
    #[error("the home chain refuses")]
    Ledger(#[from] tacit_ledger::LedgerError),
    /// The function cannot be built.
    #[error("the function cannot be built")]
    Package(#[from] PackageError),
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("is the network up? see `tacit status`, start it with `tacit up`".into()),
            Self::Lookup { problem, .. } | Self::Unsealed { problem, .. } | Self::Sealed(problem) => {
                problem.hint.clone()
            }
            Self::NoWorker { report, .. } | Self::Receipt(report) if report.verdict == Verdict::Simulated => Some(
                "the hardware root is a simulated one; `--policy dev` accepts the root that the deployment names"
                    .into(),
            ),
            Self::Tampered(_) => {
                Some("try another gateway; one of the nodes between here and the worker alters data".into())
            }
            Self::Deadline(cause) => cause
                .as_ref()
                .and_then(|cause| cause.hint())
                .or_else(|| Some("call again with the same --idempotency-key: it runs once at most".into())),
            Self::NoKey => Some("set TACIT_KEY or give --keystore FILE".into()),
            Self::Package(error) => error.hint(),
            Self::Ledger(error) if error.is_unreachable() => {
                Some("is the home chain running? see `tacit status`, start the network with `tacit up`".into())
            }
            _ => None,
        }
    }

    /// The verdict behind a refusal by the verifier.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::NoWorker { report, .. } | Self::Receipt(report) => Some(report.verdict),
            Self::Tampered(_) | Self::OtherCall(_) | Self::Verify(_) => Some(Verdict::Refused),
            Self::Deadline(Some(cause)) => cause.verdict(),
            _ => None,
        }
    }

    /// Whether somebody was asked and said nothing in time.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.is_timeout())
    }

    /// Whether trying again, perhaps elsewhere, may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::BadAnswer { .. } | Self::Tampered(_) | Self::Malformed(_) => true,
            Self::Lookup { problem, .. } | Self::Unsealed { problem, .. } | Self::Sealed(problem) => {
                problem.kind.is_passing()
                    || problem.kind.asks_to_seal_again()
                    || problem.kind == tacit_api::ProblemKind::Replayed
            }
            _ => false,
        }
    }
}
