//! What running commands have written and nobody else sees yet.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use tacit_types::{CallId, UnixTime};

use crate::{
    commit::{CallRecord, Commit, Key, MAX_COMMIT_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Space, Write},
    error::StoreError,
    memory::{Snapshot, lower_bound},
};

type Writes = BTreeMap<Key, Option<Bytes>>;

/// The calls of the next commit: each runs on top of the ones before it.
pub struct Batch {
    base: Arc<Snapshot>,
    writes: Arc<Writes>,
    bytes: u64,
    quota: u64,
    calls: Vec<CallRecord>,
    size: usize,
}

impl Batch {
    /// An empty batch on top of `base`, with `quota` bytes of state.
    pub fn new(base: Arc<Snapshot>, quota: u64) -> Self {
        let bytes = base.bytes();
        Self { base, writes: Arc::default(), bytes, quota, calls: Vec::new(), size: 0 }
    }

    /// What the next call reads and writes.
    pub fn overlay(&self) -> Overlay {
        Overlay {
            base: Arc::clone(&self.base),
            under: Arc::clone(&self.writes),
            writes: Writes::new(),
            bytes: self.bytes,
            quota: self.quota,
            size: 0,
        }
    }

    /// Takes a finished call's writes and record into the batch.
    pub fn add(&mut self, overlay: Overlay, record: CallRecord) {
        self.add_writes(overlay);
        self.add_record(record);
    }

    /// Takes writes into the batch that are the worker's own and no call's.
    pub fn add_writes(&mut self, overlay: Overlay) {
        self.bytes = overlay.bytes;
        self.size = self.size.saturating_add(overlay.size);
        if !overlay.writes.is_empty() {
            let writes = overlay.writes;
            drop(overlay.under);
            Arc::make_mut(&mut self.writes).extend(writes);
        }
    }

    /// Takes the record of a call whose writes are dropped.
    pub fn add_record(&mut self, record: CallRecord) {
        self.size = self.size.saturating_add(record.body.len() + 128);
        self.calls.push(record);
    }

    /// The record of a call in this batch.
    pub fn record(&self, call: CallId) -> Option<&CallRecord> {
        self.calls.iter().rev().find(|record| record.call_id == call)
    }

    /// Number of calls.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.writes.is_empty()
    }

    /// Bytes that the commit will have, roughly.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The commit.
    pub fn into_commit(self, time: UnixTime) -> Commit {
        let writes = Arc::unwrap_or_clone(self.writes);
        Commit {
            time,
            writes: writes.into_iter().map(|(key, value)| Write { key, value }).collect(),
            calls: self.calls,
        }
    }
}

/// State as one running call sees it: its own writes, then those of earlier calls of the batch, then the snapshot.
pub struct Overlay {
    base: Arc<Snapshot>,
    under: Arc<Writes>,
    writes: Writes,
    bytes: u64,
    quota: u64,
    size: usize,
}

/// Bytes that one write adds to a commit besides key and value.
const WRITE_OVERHEAD: usize = 16;

impl Overlay {
    /// The value of a key.
    pub fn value(&self, key: &Key) -> Option<Bytes> {
        match self.writes.get(key).or_else(|| self.under.get(key)) {
            Some(value) => value.clone(),
            None => self.base.value(key),
        }
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] and [`StoreError::Quota`]; nothing is changed then.
    pub fn set(&mut self, key: Key, value: Bytes) -> Result<(), StoreError> {
        let limit =
            |what, limit, found| if found > limit { Err(StoreError::TooLarge { what, limit, found }) } else { Ok(()) };
        limit("a key", MAX_KEY_BYTES, key.name.len())?;
        limit("a value", MAX_VALUE_BYTES, value.len())?;
        self.put(key, Some(value))
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when the call changed too much for one commit.
    pub fn delete(&mut self, key: Key) -> Result<(), StoreError> {
        if self.value(&key).is_none() { Ok(()) } else { self.put(key, None) }
    }

    fn put(&mut self, key: Key, value: Option<Bytes>) -> Result<(), StoreError> {
        let added = key.name.len() + value.as_ref().map_or(0, Bytes::len) + WRITE_OVERHEAD;
        let replaced =
            self.writes.get(&key).map_or(0, |old| key.name.len() + old.as_ref().map_or(0, Bytes::len) + WRITE_OVERHEAD);
        let size = self.size - replaced + added;
        // Half of a commit at most, so that every call fits into one together with its record.
        if size > MAX_COMMIT_BYTES / 2 {
            return Err(StoreError::TooLarge {
                what: "the writes of one call",
                limit: MAX_COMMIT_BYTES / 2,
                found: size,
            });
        }
        if key.space == Space::State {
            let of = |value: Option<&Bytes>| value.map_or(0, |value| (key.name.len() + value.len()) as u64);
            let (old, new) = (of(self.value(&key).as_ref()), of(value.as_ref()));
            let needed = self.bytes.saturating_sub(old).saturating_add(new);
            if needed > self.quota && new > old {
                return Err(StoreError::Quota { quota: self.quota, needed });
            }
            self.bytes = needed;
        }
        self.size = size;
        self.writes.insert(key, value);
        Ok(())
    }

    /// At most `limit` entries whose names begin with `prefix` and come after `after`, in order of their names.
    pub fn list(&self, space: Space, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Bytes)> {
        let mut changes: BTreeMap<&str, Option<&Bytes>> = BTreeMap::new();
        for layer in [&*self.under, &self.writes] {
            let range = layer.range((lower_bound(space, prefix, after), Bound::Unbounded));
            let matching = range.take_while(|(key, _)| key.space == space && key.name.starts_with(prefix));
            changes.extend(matching.map(|(key, value)| (key.name.as_str(), value.as_ref())));
        }
        let mut changes = changes.into_iter().peekable();
        let mut found: Vec<(String, Bytes)> = Vec::new();
        let mut cursor = after.map(str::to_owned);
        loop {
            let page = self.base.list(space, prefix, cursor.as_deref(), limit);
            let last_page = page.len() < limit;
            for (name, value) in page {
                while let Some((changed, new)) = changes.next_if(|(changed, _)| **changed < *name) {
                    found.extend(new.map(|new| (changed.to_owned(), new.clone())));
                }
                match changes.next_if(|(changed, _)| **changed == *name) {
                    Some((_, new)) => found.extend(new.map(|new| (name.clone(), new.clone()))),
                    None => found.push((name.clone(), value)),
                }
                if found.len() >= limit {
                    found.truncate(limit);
                    return found;
                }
                cursor = Some(name);
            }
            if last_page {
                found.extend(changes.filter_map(|(name, new)| Some((name.to_owned(), new?.clone()))));
                found.truncate(limit);
                return found;
            }
        }
    }

    /// Whether the call changed anything.
    pub fn is_changed(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Drops everything that the call wrote.
    pub fn discard(&mut self, batch: &Batch) {
        *self = batch.overlay();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use proptest::prelude::*;
    use tacit_types::Head;

    fn empty(quota: u64) -> (Arc<Memory>, Batch) {
        let memory = Arc::new(Memory::default());
        let batch = Batch::new(Arc::new(memory.snapshot()), quota);
        (memory, batch)
    }

    fn record(byte: u8) -> CallRecord {
        CallRecord {
            call_id: [byte; 32].into(),
            request: [byte; 32].into(),
            keep_until: UnixTime(u64::MAX),
            pinned: false,
            body: Bytes::new(),
        }
    }

    #[test]
    fn the_quota_counts_what_is_there_at_the_end() {
        let (_memory, mut batch) = empty(10);
        let mut overlay = batch.overlay();
        overlay.set(Key::state("a"), Bytes::from_static(b"12345678")).unwrap();
        assert!(matches!(
            overlay.set(Key::state("b"), Bytes::from_static(b"1")),
            Err(StoreError::Quota { quota: 10, needed: 11 })
        ));
        overlay.set(Key::secret("b"), Bytes::from_static(b"123456")).unwrap();
        batch.add(overlay, record(1));
        let mut overlay = batch.overlay();
        overlay.set(Key::state("a"), Bytes::from_static(b"1")).unwrap();
        overlay.set(Key::state("b"), Bytes::from_static(b"1")).unwrap();
        overlay.delete(Key::state("a")).unwrap();
        overlay.delete(Key::state("none")).unwrap();
        batch.add(overlay, record(2));
        assert!(batch.record(CallId::from([2; 32])).is_some() && batch.len() == 2);
        let commit = batch.into_commit(UnixTime(1));
        assert_eq!(commit.writes.len(), 3);
        assert!(commit.encode().is_ok());
    }

    #[test]
    fn one_call_cannot_fill_more_than_half_a_commit() {
        let (_memory, batch) = empty(u64::MAX);
        let mut overlay = batch.overlay();
        let value = Bytes::from(vec![0; MAX_VALUE_BYTES]);
        let refused = (0..64).find_map(|index| overlay.set(Key::state(index.to_string()), value.clone()).err());
        assert!(matches!(refused, Some(StoreError::TooLarge { what: "the writes of one call", .. })));
    }

    proptest! {
        /// Two calls on top of a base read and list as one plain map does.
        #[test]
        fn layers_are_one_map(
            base in proptest::collection::btree_map("[ab]{1,3}", any::<u8>(), 0..12),
            first in proptest::collection::vec(("[ab]{1,3}", proptest::option::of(any::<u8>())), 0..12),
            second in proptest::collection::vec(("[ab]{1,3}", proptest::option::of(any::<u8>())), 0..12),
            prefix in "[ab]{0,2}", after in proptest::option::of("[ab]{0,3}"), limit in 1usize..6,
        ) {
            let memory = Arc::new(Memory::default());
            let writes = base.iter().map(|(name, value)| Write { key: Key::state(name), value: Some(vec![*value].into()) }).collect();
            memory.apply(1, Head::ZERO, Commit { writes, ..Commit::default() });
            let mut batch = Batch::new(Arc::new(memory.snapshot()), 1 << 20);
            let mut plain = base;
            let mut change = |overlay: &mut Overlay, changes: Vec<(String, Option<u8>)>| {
                for (name, value) in changes {
                    match value {
                        Some(value) => {
                            overlay.set(Key::state(&name), vec![value].into()).unwrap();
                            plain.insert(name, value);
                        }
                        None => {
                            overlay.delete(Key::state(&name)).unwrap();
                            plain.remove(&name);
                        }
                    }
                }
            };
            let mut overlay = batch.overlay();
            change(&mut overlay, first);
            batch.add(overlay, record(1));
            let mut overlay = batch.overlay();
            change(&mut overlay, second);
            let expected: Vec<(String, Bytes)> = plain
                .iter()
                .filter(|(name, _)| name.starts_with(&prefix) && after.as_ref().is_none_or(|after| *name > after))
                .take(limit)
                .map(|(name, value)| (name.clone(), vec![*value].into()))
                .collect();
            prop_assert_eq!(overlay.list(Space::State, &prefix, after.as_deref(), limit), expected);
            for (name, value) in &plain {
                prop_assert_eq!(overlay.value(&Key::state(name)), Some(Bytes::from(vec![*value])));
            }
            let bytes: usize = plain.keys().map(|name| name.len() + 1).sum();
            batch.add(overlay, record(2));
            memory.apply(2, Head::ZERO, batch.into_commit(UnixTime(1)));
            prop_assert_eq!(memory.snapshot().bytes(), bytes as u64);
        }
    }
}
