//! Checks a period's transcripts against policy and log, and sums up what was used.

mod report;
mod sums;

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Url;
use tacit_attest::Seen;
use tacit_receipt::{Checkpoint, aci::AciReceipt, verify_consistency, verify_inclusion};
use tacit_types::{Address, Digest, UnixTime};
use tacit_verify::{
    Inspection, Judge, Verdict,
    aci::{Transcript, TranscriptLog},
};

pub use report::{AUDIT_FORMAT, AuditException, AuditReport, LogSummary, ModelSummary, PolicyName};
use sums::Sums;

use super::{
    AiError, StoredFile, StoredKind, TranscriptStore,
    log::{Tiles, kept_note},
    store,
    transport::Transport,
};

/// What is audited, and by what.
pub struct AuditInput<'a> {
    /// The transcripts.
    pub store: &'a TranscriptStore,
    /// First second of the period.
    pub from: UnixTime,
    /// Last second of the period.
    pub to: UnixTime,
    /// Whose judgement.
    pub judge: &'a Judge,
    /// The node that still serves the logs; without one they are checked only as far as the transcripts go.
    pub node: Option<&'a Url>,
    /// The present.
    pub now: UnixTime,
}

/// A log, as the transcripts know it.
struct KnownLog {
    account: Address,
    key: [u8; 32],
    /// Receipt and file of each entry.
    entries: BTreeMap<u64, (Digest, String)>,
    /// By their size.
    checkpoints: BTreeMap<u64, Checkpoint>,
}

/// Audits a period. What does not hold is an exception in the report and no error.
///
/// # Errors
/// [`AiError::Store`] when the store cannot be read.
pub async fn audit(input: &AuditInput<'_>) -> Result<AuditReport, AiError> {
    let mut audit = Audit::default();
    for file in input.store.list(input.from, input.to)? {
        audit.take(input, &file)?;
    }
    let mut logs = Vec::new();
    for (origin, log) in std::mem::take(&mut audit.logs) {
        logs.push(audit.check_log(input, origin, log).await);
    }
    let policy = input.judge.policy_for(None);
    Ok(AuditReport {
        format: AUDIT_FORMAT.to_owned(),
        signed: false,
        note: report::NOTE.to_owned(),
        made: input.now,
        from: input.from,
        to: input.to,
        policy: PolicyName { hash: policy.hash().map(|hash| hash.to_string()).unwrap_or_default(), name: policy.name },
        transcripts: audit.transcripts,
        cut: audit.cut,
        bodies_kept: audit.bodies,
        outcomes: audit.outcomes,
        models: audit.sums.into_models(),
        logs,
        exceptions: audit.exceptions,
    })
}

#[derive(Default)]
struct Audit {
    transcripts: u64,
    cut: u64,
    bodies: u64,
    outcomes: BTreeMap<String, u64>,
    sums: Sums,
    logs: BTreeMap<String, KnownLog>,
    receipts: BTreeSet<Digest>,
    exceptions: Vec<AuditException>,
}

impl Audit {
    fn except(&mut self, file: &str, receipt: Option<&str>, what: impl Into<String>) {
        let receipt = receipt.map(str::to_owned);
        self.exceptions.push(AuditException { file: file.to_owned(), receipt, what: what.into() });
    }

    fn take(&mut self, input: &AuditInput<'_>, file: &StoredFile) -> Result<(), AiError> {
        let name = file.path.strip_prefix(input.store.folder()).unwrap_or(&file.path).display().to_string();
        let bytes = store::read(&file.path)?;
        match file.kind {
            StoredKind::Failure => {
                let why: String = String::from_utf8_lossy(&bytes).trim().chars().take(300).collect();
                self.except(&name, None, format!("noted at the time: {why}"));
                return Ok(());
            }
            StoredKind::Cut => self.cut += 1,
            StoredKind::Transcript => {}
        }
        self.transcripts += 1;
        let inspection = Inspection {
            file: &bytes,
            collateral: Vec::new(),
            anchor: None,
            judge: input.judge.clone(),
            nonce: None,
            at: Some(file.at),
            seen: Seen::default(),
            now: input.now,
        };
        let report = inspection.inspect().report;
        // Only what is judged to hold is read any further.
        let read = Transcript::parse(&bytes).ok().and_then(|transcript| {
            let receipt = AciReceipt::from_value(transcript.receipt.clone()).ok()?;
            Some((transcript, receipt))
        });
        match read {
            Some((transcript, receipt)) if report.verdict == Verdict::Verified => {
                self.count(&name, &transcript, &receipt)
            }
            Some((_, receipt)) => self.except(&name, Some(receipt.id()), report.verdict_line()),
            None => self.except(&name, None, report.verdict_line()),
        }
        Ok(())
    }

    fn count(&mut self, name: &str, transcript: &Transcript, receipt: &AciReceipt) {
        if !self.receipts.insert(receipt.digest()) {
            return self.except(name, Some(receipt.id()), "one receipt was given for two exchanges");
        }
        self.bodies += u64::from(transcript.request.is_some() && transcript.response.is_some());
        match receipt.inference() {
            Some(inference) => {
                let outcome = serde_json::to_value(inference.outcome).ok();
                let outcome = outcome.as_ref().and_then(serde_json::Value::as_str).unwrap_or("other").to_owned();
                *self.outcomes.entry(outcome).or_default() += 1;
                self.sums.add(receipt.model().unwrap_or_default(), inference);
            }
            None => *self.outcomes.entry("no inference".to_owned()).or_default() += 1,
        }
        match &transcript.log {
            Some(log) => self.place(name, transcript, receipt, log),
            None => self.except(name, Some(receipt.id()), "the receipt stands in no log"),
        }
    }

    /// Notes where a receipt stands. Signature and inclusion were judged before.
    fn place(&mut self, name: &str, transcript: &Transcript, receipt: &AciReceipt, log: &TranscriptLog) {
        let keyset = &transcript.report.attestation.workload_keyset;
        let (Ok(account), Ok(key)) = (keyset.receipt_address(), keyset.note_key()) else {
            return self.except(name, Some(receipt.id()), "the keyset names no log");
        };
        let Ok(checkpoint) = log.proof.verify(receipt.digest(), &log.origin, &key) else {
            return self.except(name, Some(receipt.id()), "the receipt is not in the log that the transcript names");
        };
        let fresh = || KnownLog { account, key, entries: BTreeMap::new(), checkpoints: BTreeMap::new() };
        let known = self.logs.entry(log.origin.clone()).or_insert_with(fresh);
        let mut wrong = Vec::new();
        if known.key != key {
            wrong.push("two keysets sign one log");
        }
        if known.entries.insert(log.proof.index, (receipt.digest(), name.to_owned())).is_some() {
            wrong.push("another receipt stands at the same place of the log");
        }
        let before = known.checkpoints.insert(checkpoint.size, checkpoint.clone());
        if before.is_some_and(|before| before.root != checkpoint.root) {
            wrong.push("two logs of the same length were shown");
        }
        for what in wrong {
            self.except(name, Some(receipt.id()), what);
        }
    }

    /// Holds what the transcripts know against the log as the node shows it now.
    async fn check_log(&mut self, input: &AuditInput<'_>, origin: String, mut log: KnownLog) -> LogSummary {
        let kept = kept_note(&input.store.logs(), &origin);
        if let Some(kept) = kept.and_then(|note| Checkpoint::verify(&note, &origin, &log.key).ok()) {
            log.checkpoints.entry(kept.size).or_insert(kept);
        }
        let mine = log.entries.len() as u64;
        let seen = log.checkpoints.keys().next_back().copied().unwrap_or_default();
        let checked = match input.node {
            Some(node) => self.against_node(node, &origin, &log).await,
            None => None,
        };
        let size = checked.unwrap_or(seen).max(seen);
        LogSummary { origin, size, mine, others: size.saturating_sub(mine), checked: checked.is_some() }
    }

    /// Size of the node's log, if the node shows it; what contradicts it becomes an exception.
    async fn against_node(&mut self, node: &Url, origin: &str, log: &KnownLog) -> Option<u64> {
        // Nothing is believed for coming from there: the keyset in the transcripts signs the checkpoint, and hashes hold the rest.
        let transport = Transport::new(node).ok()?;
        let mut tiles = Tiles::new(&transport, log.account);
        let note = tiles.newest().await.ok()?;
        let newest = match Checkpoint::verify(&note, origin, &log.key) {
            Ok(newest) => newest,
            Err(error) => {
                self.except(origin, None, format!("the log's newest checkpoint: {error}"));
                return Some(0);
            }
        };
        let whole = match tiles.log(&newest).await {
            Ok(whole) => whole,
            Err(AiError::Log(error)) => {
                self.except(origin, None, format!("the log's tiles: {error}"));
                return Some(newest.size);
            }
            Err(_) => return None,
        };
        for checkpoint in log.checkpoints.values() {
            let text = match tiles.consistency(&whole, checkpoint.size).await {
                Ok(path) => verify_consistency(checkpoint, &newest, &path).err().map(|error| error.to_string()),
                Err(AiError::Log(error)) => Some(error.to_string()),
                Err(_) => return None,
            };
            if let Some(text) = text {
                let what =
                    format!("the log no longer begins with the {} entries that were seen: {text}", checkpoint.size);
                self.except(origin, None, what);
            }
        }
        for (index, (receipt, file)) in &log.entries {
            let text = match tiles.inclusion(&whole, *index).await {
                Ok(path) => verify_inclusion(*receipt, *index, &newest, &path).err().map(|error| error.to_string()),
                Err(AiError::Log(error)) => Some(error.to_string()),
                Err(_) => return None,
            };
            if let Some(text) = text {
                self.except(file, None, format!("the log no longer has the receipt at {index}: {text}"));
            }
        }
        Some(newest.size)
    }
}
