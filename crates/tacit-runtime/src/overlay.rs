//! The writes of one call, over the committed state: read-your-writes, savepoints, one ordered write set at the end.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::call::Write;
use crate::host::{Host, HostError};

/// Writes that are not committed; `None` stands for a deleted key.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    writes: BTreeMap<String, Option<Bytes>>,
    /// What each write since the oldest savepoint replaced.
    journal: Vec<(String, Option<Option<Bytes>>)>,
    /// Length of the journal at each open savepoint.
    savepoints: Vec<usize>,
    /// Bytes of all keys and values written by this call, dropped ones included: it never shrinks.
    written: u64,
}

impl Overlay {
    /// What this call has written under `key`: `Some(None)` when it deleted it.
    pub fn get(&self, key: &str) -> Option<&Option<Bytes>> {
        self.writes.get(key)
    }

    /// Writes or deletes a key.
    pub fn put(&mut self, key: String, value: Option<Bytes>) {
        self.written += (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64;
        let before = self.writes.insert(key.clone(), value);
        if !self.savepoints.is_empty() {
            self.journal.push((key, before));
        }
    }

    /// Bytes of all keys and values that were ever written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Opens a savepoint; false when too many are open.
    #[must_use]
    pub fn begin(&mut self) -> bool {
        if self.savepoints.len() >= 64 {
            return false;
        }
        self.savepoints.push(self.journal.len());
        true
    }

    /// Closes the newest savepoint and keeps its writes; false when none is open.
    #[must_use]
    pub fn commit(&mut self) -> bool {
        let open = self.savepoints.pop().is_some();
        if self.savepoints.is_empty() {
            self.journal.clear();
        }
        open
    }

    /// Closes the newest savepoint and drops its writes; false when none is open.
    #[must_use]
    pub fn rollback(&mut self) -> bool {
        let Some(start) = self.savepoints.pop() else { return false };
        for (key, before) in self.journal.drain(start..).rev() {
            match before {
                Some(value) => self.writes.insert(key, value),
                None => self.writes.remove(&key),
            };
        }
        true
    }

    /// Entries under `prefix` after `after`, as the call sees them.
    pub async fn list(
        &self,
        host: &dyn Host,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, HostError> {
        let mut entries: BTreeMap<String, Bytes> = BTreeMap::new();
        let mut cursor = after.map(str::to_owned);
        loop {
            let page = host.state_list(prefix, cursor.as_deref(), limit).await?;
            let exhausted = page.len() < limit;
            // Up to here both the committed entries and the call's own writes are known.
            let horizon = if exhausted { None } else { page.last().map(|(key, _)| key.clone()) };
            let (from, lower) = match &cursor {
                Some(key) if key.as_str() >= prefix => (key.as_str(), Bound::Excluded(key.as_str())),
                _ => (prefix, Bound::Included(prefix)),
            };
            let upper = horizon.as_deref().map_or(Bound::Unbounded, Bound::Included);
            entries.extend(page);
            // A page that does not move forward would be a fault of the host; such a range would panic.
            if horizon.as_deref().is_none_or(|to| to > from || (to == from && lower == Bound::Included(from))) {
                for (key, value) in
                    self.writes.range::<str, _>((lower, upper)).take_while(|(key, _)| key.starts_with(prefix))
                {
                    match value {
                        Some(value) => entries.insert(key.clone(), value.clone()),
                        None => entries.remove(key),
                    };
                }
            }
            if entries.len() >= limit || horizon.is_none() {
                return Ok(entries.into_iter().take(limit).collect());
            }
            cursor = horizon;
        }
    }

    /// The write set: byte order of the keys, each key once.
    pub fn into_writes(self) -> Vec<Write> {
        self.writes.into_iter().map(|(key, value)| Write { key, value }).collect()
    }
}
