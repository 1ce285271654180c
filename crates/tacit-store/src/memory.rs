//! State in memory: every key with the versions that some snapshot still reads, and the records of calls.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;
use tacit_types::{CallId, Head, UnixTime};

use crate::commit::{CallRecord, Commit, Key, Space};

/// Most records of calls that are kept per function, besides pinned ones.
pub const MAX_RECORDS: usize = 65_536;
/// Most bytes of records that are kept per function, besides pinned ones.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// Bytes that a record takes besides its body.
const RECORD_OVERHEAD: usize = 128;

#[derive(Default)]
pub(crate) struct Memory {
    inner: RwLock<Inner>,
}

struct Inner {
    sequence: u64,
    head: Head,
    /// Bytes of keys and values in [`Space::State`].
    bytes: u64,
    entries: BTreeMap<Key, Vec<Version>>,
    /// Keys with a version that later snapshots do not read, and the sequence that replaced it.
    superseded: VecDeque<(u64, Key)>,
    superseded_bytes: u64,
    /// How many snapshots read at a sequence.
    live: BTreeMap<u64, usize>,
    records: Records,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            sequence: 0,
            head: Head::ZERO,
            bytes: 0,
            entries: BTreeMap::new(),
            superseded: VecDeque::new(),
            superseded_bytes: 0,
            live: BTreeMap::new(),
            records: Records::default(),
        }
    }
}

struct Version {
    sequence: u64,
    value: Option<Bytes>,
}

impl Memory {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn apply(&self, sequence: u64, head: Head, commit: Commit) {
        let mut inner = self.write();
        for write in commit.writes {
            inner.set(sequence, write.key, write.value);
        }
        for call in commit.calls {
            inner.records.insert(sequence, call);
        }
        inner.records.expire(commit.time);
        inner.sequence = sequence;
        inner.head = head;
        inner.prune();
    }

    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        let mut inner = self.write();
        let (sequence, head, bytes) = (inner.sequence, inner.head, inner.bytes);
        *inner.live.entry(sequence).or_default() += 1;
        drop(inner);
        Snapshot { memory: Arc::clone(self), sequence, head, bytes }
    }

    pub fn superseded_bytes(&self) -> u64 {
        self.read().superseded_bytes
    }

    pub fn pinned_records(&self) -> usize {
        self.read().records.pinned
    }

    pub fn record(&self, call: CallId) -> Option<(u64, CallRecord)> {
        self.read().records.by_id.get(&call).map(|(sequence, record)| (*sequence, record.clone()))
    }
}

fn size(key: &Key, value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| (key.name.len() + value.len()) as u64)
}

impl Inner {
    fn set(&mut self, sequence: u64, key: Key, value: Option<Bytes>) {
        let counts = key.space == Space::State;
        let versions = self.entries.entry(key.clone()).or_default();
        let old = versions.last().map_or(0, |version| size(&key, version.value.as_ref()));
        let new = size(&key, value.as_ref());
        versions.push(Version { sequence, value });
        if counts {
            self.bytes = self.bytes.saturating_sub(old).saturating_add(new);
        }
        self.superseded_bytes = self.superseded_bytes.saturating_add(old);
        self.superseded.push_back((sequence, key));
    }

    /// Drops versions that no snapshot, present or future, reads.
    fn prune(&mut self) {
        let oldest = self.live.keys().next().copied().unwrap_or(self.sequence);
        while let Some((_, key)) = self.superseded.pop_front_if(|(sequence, _)| *sequence <= oldest) {
            let Some(versions) = self.entries.get_mut(&key) else { continue };
            let visible = versions.partition_point(|version| version.sequence <= oldest).saturating_sub(1);
            for old in versions.drain(..visible) {
                self.superseded_bytes = self.superseded_bytes.saturating_sub(size(&key, old.value.as_ref()));
            }
            if let [Version { value: None, sequence }] = versions.as_slice()
                && *sequence <= oldest
            {
                self.entries.remove(&key);
            }
        }
    }
}

/// The records of calls, oldest first, bounded by number and bytes except where pinned.
#[derive(Default)]
struct Records {
    by_id: BTreeMap<CallId, (u64, CallRecord)>,
    loose: VecDeque<(u64, CallId)>,
    loose_bytes: usize,
    pinned_until: BTreeSet<(UnixTime, CallId)>,
    pinned: usize,
}

impl Records {
    fn insert(&mut self, sequence: u64, record: CallRecord) {
        let (id, pinned, until, bytes) = (record.call_id, record.pinned, record.keep_until, record.body.len());
        if let Some((_, old)) = self.by_id.insert(id, (sequence, record)) {
            self.forget(&old);
        }
        if pinned {
            self.pinned += 1;
            self.pinned_until.insert((until, id));
        } else {
            self.loose_bytes += bytes + RECORD_OVERHEAD;
            self.loose.push_back((sequence, id));
        }
    }

    fn forget(&mut self, record: &CallRecord) {
        if record.pinned {
            self.pinned -= 1;
            self.pinned_until.remove(&(record.keep_until, record.call_id));
        } else {
            self.loose_bytes -= record.body.len() + RECORD_OVERHEAD;
        }
    }

    fn expire(&mut self, now: UnixTime) {
        self.expire_pinned(now);
        while let Some((sequence, id)) = self.loose.front().copied() {
            let current = self.by_id.get(&id).filter(|(at, record)| *at == sequence && !record.pinned);
            let is_current = current.is_some();
            let over = self.loose.len() > MAX_RECORDS || self.loose_bytes > MAX_RECORD_BYTES;
            if !over && current.is_some_and(|(_, record)| record.keep_until >= now) {
                return;
            }
            self.loose.pop_front();
            if is_current && let Some((_, record)) = self.by_id.remove(&id) {
                self.forget(&record);
            }
        }
    }

    fn expire_pinned(&mut self, now: UnixTime) {
        while let Some((until, id)) = self.pinned_until.first().copied()
            && until < now
        {
            self.pinned_until.pop_first();
            if self.by_id.remove(&id).is_some() {
                self.pinned -= 1;
            }
        }
    }
}

/// The state at one sequence, unchanged by later commits. Keeps what it reads in memory until dropped.
pub struct Snapshot {
    memory: Arc<Memory>,
    sequence: u64,
    head: Head,
    bytes: u64,
}

impl Snapshot {
    /// Sequence that this snapshot reads at.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Head of the log at that sequence.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Bytes of keys and values that count towards the quota.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The value of a key.
    pub fn value(&self, key: &Key) -> Option<Bytes> {
        self.memory.read().entries.get(key).and_then(|versions| self.visible(versions)).cloned()
    }

    /// At most `limit` entries whose names begin with `prefix` and come after `after`, in order of their names.
    pub fn list(&self, space: Space, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Bytes)> {
        let inner = self.memory.read();
        inner
            .entries
            .range((lower_bound(space, prefix, after), Bound::Unbounded))
            .take_while(|(key, _)| key.space == space && key.name.starts_with(prefix))
            .filter_map(|(key, versions)| Some((key.name.clone(), self.visible(versions)?.clone())))
            .take(limit)
            .collect()
    }

    fn visible<'a>(&self, versions: &'a [Version]) -> Option<&'a Bytes> {
        let end = versions.partition_point(|version| version.sequence <= self.sequence);
        versions[..end].last()?.value.as_ref()
    }
}

pub(crate) fn lower_bound(space: Space, prefix: &str, after: Option<&str>) -> Bound<Key> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(Key { space, name: after.to_owned() }),
        _ => Bound::Included(Key { space, name: prefix.to_owned() }),
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut inner = self.memory.write();
        if let Some(count) = inner.live.get_mut(&self.sequence) {
            *count -= 1;
            if *count == 0 {
                inner.live.remove(&self.sequence);
                inner.prune();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::Write;
    use tacit_types::Digest;

    fn write(name: &str, value: Option<&'static str>) -> Write {
        Write { key: Key::state(name), value: value.map(|value| Bytes::from_static(value.as_bytes())) }
    }

    fn apply(memory: &Arc<Memory>, sequence: u64, writes: Vec<Write>) {
        memory.apply(sequence, Head::ZERO, Commit { writes, ..Commit::default() });
    }

    #[test]
    fn a_snapshot_does_not_move() {
        let memory = Arc::new(Memory::default());
        apply(&memory, 1, vec![write("a", Some("1")), write("b", Some("1"))]);
        let old = memory.snapshot();
        apply(&memory, 2, vec![write("a", None), write("c", Some("22"))]);
        apply(&memory, 3, vec![write("a", Some("3"))]);
        let new = memory.snapshot();
        let names = |snapshot: &Snapshot| {
            snapshot.list(Space::State, "", None, 9).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join("")
        };
        assert_eq!((names(&old), names(&new)), ("ab".into(), "abc".into()));
        assert_eq!(old.value(&Key::state("a")).unwrap(), "1");
        assert_eq!(new.value(&Key::state("a")).unwrap(), "3");
        assert_eq!((old.bytes(), new.bytes()), (4, 7));
        assert_eq!(memory.superseded_bytes(), 2);
        drop(old);
        assert_eq!(memory.superseded_bytes(), 0);
        assert_eq!(names(&new), "abc");
    }

    #[test]
    fn deleted_keys_leave_nothing_behind() {
        let memory = Arc::new(Memory::default());
        apply(&memory, 1, vec![write("a", Some("1"))]);
        apply(&memory, 2, vec![write("a", None)]);
        assert!(memory.read().entries.is_empty() && memory.read().superseded.is_empty());
        assert_eq!(memory.snapshot().bytes(), 0);
    }

    #[test]
    fn listing_pages_by_prefix() {
        let memory = Arc::new(Memory::default());
        apply(&memory, 1, ["a/1", "a/2", "a/3", "b/1"].map(|name| write(name, Some("x"))).to_vec());
        let snapshot = memory.snapshot();
        let check = |prefix, after, limit, expected: &[&str]| {
            let found: Vec<_> =
                snapshot.list(Space::State, prefix, after, limit).into_iter().map(|(name, _)| name).collect();
            assert_eq!(found, expected);
        };
        check("a/", None, 2, &["a/1", "a/2"]);
        check("a/", Some("a/2"), 9, &["a/3"]);
        check("a/", Some("a/3"), 9, &[]);
        check("b", Some("a"), 9, &["b/1"]);
        assert!(snapshot.list(Space::Secrets, "", None, 9).is_empty());
    }

    #[test]
    fn records_expire_by_time_and_number_but_pinned_ones_by_time_alone() {
        let memory = Arc::new(Memory::default());
        let record = |number: u64, pinned, until| CallRecord {
            call_id: {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&number.to_be_bytes());
                id.into()
            },
            request: Digest::ZERO,
            keep_until: UnixTime(until),
            pinned,
            body: Bytes::new(),
        };
        let apply = |sequence, time, calls| {
            memory.apply(sequence, Head::ZERO, Commit { time: UnixTime(time), calls, writes: vec![] })
        };
        let known = |number| memory.record(record(number, false, 0).call_id).is_some();
        apply(1, 10, vec![record(1, false, 20), record(2, true, 30), record(3, false, 100)]);
        apply(2, 21, vec![]);
        assert_eq!([known(1), known(2), known(3)], [false, true, true]);
        apply(3, 22, (10..10 + MAX_RECORDS as u64).map(|number| record(number, false, 100)).collect());
        assert_eq!([known(2), known(3), known(10)], [true, false, true]);
        assert_eq!(memory.pinned_records(), 1);
        apply(4, 31, vec![]);
        assert_eq!((known(2), memory.pinned_records()), (false, 0));
    }
}
