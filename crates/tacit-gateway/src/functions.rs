//! Registry entries of functions, remembered for a moment; old ones are better than none while the chain is down.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tacit_api::{FunctionRecord, Problem, ProblemKind};
use tacit_ledger::{At, Ledger};
use tacit_types::{Digest, FunctionId};

/// Most entries that are remembered.
const ENTRIES: usize = 16_384;
/// How long an entry counts without asking again.
const FRESH: Duration = Duration::from_secs(1);

/// Entries by function; `None` is a function that the registry does not have.
#[derive(Default)]
pub(crate) struct Functions {
    entries: Mutex<HashMap<FunctionId, (Instant, Option<FunctionRecord>)>>,
}

impl Functions {
    /// The function's entry, at most a second old while the chain answers.
    pub(crate) async fn fetch(&self, ledger: &Ledger, id: FunctionId) -> Result<FunctionRecord, Problem> {
        let known = self.entries().get(&id).cloned();
        if let Some((at, record)) = &known
            && at.elapsed() < FRESH
        {
            return record.clone().ok_or_else(|| unknown(id));
        }
        match ledger.function(id, At::Final).await {
            Ok(record) => {
                let record = record.map(from_chain);
                self.remember(id, record.clone());
                record.ok_or_else(|| unknown(id))
            }
            Err(error) => match known {
                Some((_, Some(record))) => {
                    tracing::warn!(%error, %id, "the home chain cannot be read; answering with the last known entry");
                    Ok(record)
                }
                _ => {
                    tracing::warn!(%error, %id, "the home chain cannot be read");
                    Err(Problem::new(ProblemKind::ChainUnavailable, "the function's registry entry cannot be read now")
                        .with_hint("the home chain's node does not answer; try again, or another gateway"))
                }
            },
        }
    }

    pub(crate) fn remember(&self, id: FunctionId, record: Option<FunctionRecord>) {
        let mut entries = self.entries();
        if entries.len() >= ENTRIES && !entries.contains_key(&id) {
            entries.retain(|_, (at, record)| record.is_some() && at.elapsed() < Duration::from_secs(60));
            if entries.len() >= ENTRIES {
                entries.clear();
            }
        }
        entries.insert(id, (Instant::now(), record));
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<FunctionId, (Instant, Option<FunctionRecord>)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(id: FunctionId) -> Problem {
    Problem::new(ProblemKind::UnknownFunction, id.to_string())
        .with_hint("the registry on the home chain has no function with this id; was it deployed to another network?")
}

fn from_chain(record: tacit_ledger::FunctionRecord) -> FunctionRecord {
    FunctionRecord {
        id: record.id,
        owner: record.owner,
        name: record.name,
        versions: record.versions,
        code_hash: record.code_hash,
        manifest_hash: record.manifest_hash,
        uri: record.uri,
        activation: record.activation,
        key_epoch: record.key_epoch,
        frozen: record.frozen,
        upgrade_delay: record.upgrade_delay,
        secrets_digest: record.secrets_digest.unwrap_or(Digest::ZERO),
        secrets_version: record.secrets_version,
    }
}
