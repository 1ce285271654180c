//! What an audit found, for programs and for people.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use tacit_types::{UnixTime, jcs};

use crate::ai::AiError;

/// Value of a report's `format`.
pub const AUDIT_FORMAT: &str = "tacit/ai-audit/1";
/// What every report says about itself.
pub(super) const NOTE: &str = "This report is not signed. It says what one machine found in its own files; whoever doubts it runs \
                               the audit again over the transcripts.";

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditReport {
    /// [`AUDIT_FORMAT`].
    pub format: String,
    /// Whether anybody vouches for it: no.
    pub signed: bool,
    /// What that means.
    pub note: String,
    /// When it was made.
    pub made: UnixTime,
    /// First second of the period.
    pub from: UnixTime,
    /// Last second of the period.
    pub to: UnixTime,
    /// The policy that was applied.
    pub policy: PolicyName,
    /// Transcripts of the period.
    pub transcripts: u64,
    /// Of those, exchanges that broke off.
    pub cut: u64,
    /// Of those, exchanges whose request and answer are kept and were held against the receipt.
    pub bodies_kept: u64,
    /// How exchanges ended, by the receipts.
    pub outcomes: BTreeMap<String, u64>,
    /// What was used, by model.
    pub models: Vec<ModelSummary>,
    /// The logs that receipts stand in.
    pub logs: Vec<LogSummary>,
    /// What does not hold.
    pub exceptions: Vec<AuditException>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyName {
    /// Its name.
    pub name: String,
    /// Hash of its canonical form.
    pub hash: String,
}

/// What one model was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSummary {
    /// Name that was asked for.
    pub model: String,
    /// Digest of its manifest.
    pub digest: String,
    /// Exchanges.
    pub requests: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Of those, tokens that needed no new work.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Sum of prices by currency, each in its smallest unit, decimal digits.
    pub prices: BTreeMap<String, String>,
}

/// A log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    /// Its name.
    pub origin: String,
    /// Entries, as far as known.
    pub size: u64,
    /// Entries whose receipts are in the transcripts of the period.
    pub mine: u64,
    /// All other entries: of other callers, of other times, or of exchanges that nobody kept.
    pub others: u64,
    /// Whether the node showed it, so that every receipt and checkpoint was held against it as it is now.
    pub checked: bool,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditException {
    /// The file in the store, or the log.
    pub file: String,
    /// The receipt, where it can be read.
    pub receipt: Option<String>,
    /// What.
    pub what: String,
}

impl AuditReport {
    /// The canonical bytes (RFC 8785).
    ///
    /// # Errors
    /// [`AiError::Request`] for sums that no JSON number holds.
    pub fn to_bytes(&self) -> Result<Vec<u8>, AiError> {
        jcs::to_bytes(self).map_err(|_| AiError::Request("a sum is larger than the report's numbers"))
    }

    /// Whether every log was checked as it is now.
    pub fn is_complete(&self) -> bool {
        self.logs.iter().all(|log| log.checked)
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} to {}, policy {}", self.from, self.to, self.policy.name)?;
        writeln!(
            formatter,
            "{} exchanges, {} broke off, {} with bodies",
            self.transcripts, self.cut, self.bodies_kept
        )?;
        for (outcome, count) in &self.outcomes {
            writeln!(formatter, "  {outcome:<14} {count}")?;
        }
        for model in &self.models {
            writeln!(formatter, "{} {}", model.model, model.digest)?;
            let prices: Vec<String> = model.prices.iter().map(|(currency, sum)| format!("{sum} {currency}")).collect();
            let prices = if prices.is_empty() { "not priced".to_owned() } else { prices.join(", ") };
            writeln!(
                formatter,
                "  {} requests, {} prompt tokens ({} cached), {} completion tokens, {prices}",
                model.requests, model.prompt_tokens, model.cached_tokens, model.completion_tokens
            )?;
        }
        for log in &self.logs {
            let checked =
                if log.checked { "checked as it is now" } else { "not shown by a node: checked by transcripts alone" };
            writeln!(formatter, "{}", log.origin)?;
            writeln!(
                formatter,
                "  {} entries, {} of them here, {} of others; {checked}",
                log.size, log.mine, log.others
            )?;
        }
        for exception in &self.exceptions {
            let receipt = exception.receipt.as_deref().map(|receipt| format!(" {receipt}")).unwrap_or_default();
            writeln!(formatter, "EXCEPTION {}{receipt}: {}", exception.file, exception.what)?;
        }
        writeln!(formatter, "{} exceptions; this report is not signed", self.exceptions.len())
    }
}
