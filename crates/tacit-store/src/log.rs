use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, path::Path};
use tacit_types::{CallId, FunctionId, Head, register::Position};

use crate::{
    commit::{CallRecord, Commit},
    error::{StoreError, is_disk_full},
    keys::StateKeys,
    memory::{Memory, Snapshot},
    object::{MAX_OBJECT_BYTES, Name, Place, Sealed},
};

/// Objects that are read at the same time while a log is loaded.
const READ_AHEAD: usize = 16;
/// Bytes of objects that are kept between the two passes of loading.
const KEEP_BYTES: usize = 64 << 20;

/// One function's log: loaded to exactly the acknowledged position, appended to under one fence.
///
/// Commits that were appended are not acknowledged yet: the gatekeepers decide whether they count. After an error for which
/// [`StoreError::is_retryable`] is false the log refuses everything until it is opened again.
pub struct StateLog {
    store: Arc<dyn ObjectStore>,
    function: FunctionId,
    keys: StateKeys,
    writer: Option<Writer>,
    sequence: u64,
    head: Head,
    memory: Arc<Memory>,
    chain: Vec<u64>,
    /// Key epochs whose key opened an object of the log.
    opened: BTreeSet<u64>,
    closed: bool,
}

#[derive(Clone, Copy)]
struct Writer {
    key_epoch: u64,
    fence: u64,
}

/// What an append did to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Position after the commit, under the writer's fence.
    pub position: Position,
    /// Head before the commit.
    pub head_before: Head,
}

impl StateLog {
    /// Loads the log of `function` up to exactly `target`, the position that a quorum acknowledged.
    ///
    /// Which of several objects of one sequence is real is decided by the chain of heads that ends in `target.head`; all
    /// others, and everything beyond the target, are ignored.
    ///
    /// # Errors
    /// A named error for a store that is behind, incomplete, torn, altered, of another function, or sealed by another key.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        function: FunctionId,
        keys: StateKeys,
        target: Position,
    ) -> Result<Self, StoreError> {
        let mut log = Self {
            store,
            function,
            keys,
            writer: None,
            sequence: 0,
            head: Head::ZERO,
            memory: Arc::default(),
            chain: Vec::new(),
            opened: BTreeSet::new(),
            closed: false,
        };
        let names = log.names().await?;
        let chosen = log.choose(&names, target).await?;
        log.replay(chosen, target).await?;
        Ok(log)
    }

    /// Begins to write under the fence and key epoch of a lease.
    ///
    /// # Errors
    /// [`StoreError::Fence`] unless the fence is above every fence of the log, [`StoreError::NoKey`] without the epoch's key.
    pub fn write_under(&mut self, fence: u64, key_epoch: u64) -> Result<(), StoreError> {
        let current = self.chain.iter().copied().max().unwrap_or(0).max(self.writer.map_or(0, |writer| writer.fence));
        if fence <= current {
            return Err(StoreError::Fence { current, asked: fence });
        }
        self.keys.cipher(self.function, key_epoch, fence)?;
        self.writer = Some(Writer { key_epoch, fence });
        Ok(())
    }

    /// Appends one commit. When this returns the commit is durable, and visible to new snapshots.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], [`StoreError::Backend`] and [`StoreError::TooLarge`] leave the log as it was;
    /// [`StoreError::Fenced`] and [`StoreError::Uncertain`] close it.
    pub async fn append(&mut self, commit: Commit) -> Result<Appended, StoreError> {
        if self.closed {
            return Err(StoreError::Closed);
        }
        let Writer { key_epoch, fence } = self.writer.ok_or(StoreError::NoFence)?;
        let sequence = self.sequence + 1;
        let place = Place { function: self.function, key_epoch, fence, sequence, previous: self.head };
        let sealed = Sealed::seal(place, &self.keys, &commit.encode()?)?;
        // Set until the outcome is known: a caller that stops waiting leaves the log closed, not in doubt.
        self.closed = true;
        self.put(Name { sequence, fence }, sealed.to_bytes()).await?;
        self.closed = false;
        let head_before = self.head;
        self.head = sealed.head();
        self.sequence = sequence;
        self.chain.push(fence);
        self.memory.apply(sequence, self.head, commit);
        Ok(Appended { position: Position { fence, sequence, head: self.head }, head_before })
    }

    async fn put(&mut self, name: Name, bytes: Vec<u8>) -> Result<(), StoreError> {
        let Name { sequence, fence } = name;
        let path = name.path(self.function);
        match self.store.put_opts(&path, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => Err(StoreError::Fenced { sequence, fence }),
            Err(source) => match self.store.head(&path).await {
                Err(object_store::Error::NotFound { .. }) => {
                    self.closed = false;
                    Err(if is_disk_full(&source) { StoreError::DiskFull(source) } else { StoreError::Backend(source) })
                }
                _ => Err(StoreError::Uncertain { sequence, fence, source }),
            },
        }
    }

    /// Deletes objects that can never count: of lower fences than the writer's, and not part of the log. To be called once
    /// a quorum acknowledged a position under the writer's fence.
    ///
    /// # Errors
    /// [`StoreError::NoFence`] without a fence; [`StoreError::Backend`] when listing fails. Failed deletions are left for later.
    pub async fn collect(&self) -> Result<usize, StoreError> {
        let own = self.writer.ok_or(StoreError::NoFence)?.fence;
        let dead: Vec<Path> = self
            .names()
            .await?
            .into_iter()
            .filter(|(name, _)| name.fence < own && self.fence_at(name.sequence) != Some(name.fence))
            .map(|(name, _)| name.path(self.function))
            .collect();
        let mut deleted = 0;
        for path in &dead {
            match self.store.delete(path).await {
                Ok(()) => deleted += 1,
                Err(error) => tracing::warn!(%path, %error, "an object that does not count could not be deleted"),
            }
        }
        Ok(deleted)
    }

    /// The function.
    pub const fn function(&self) -> FunctionId {
        self.function
    }

    /// Sequence of the newest commit.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Head after the newest commit.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Newest position under the writer's fence, or `None` for a log that is only read.
    pub fn position(&self) -> Option<Position> {
        self.writer.map(|writer| Position { fence: writer.fence, sequence: self.sequence, head: self.head })
    }

    /// The state after the newest commit.
    pub fn snapshot(&self) -> Snapshot {
        self.memory.snapshot()
    }

    /// The record of a call and the sequence of the commit that holds it.
    pub fn record(&self, call: CallId) -> Option<(u64, CallRecord)> {
        self.memory.record(call)
    }

    /// Whether the key of this key epoch opened an object of the log when it was loaded: no other key does. Until then nothing
    /// shows that the key is the function's.
    pub fn has_opened(&self, key_epoch: u64) -> bool {
        self.opened.contains(&key_epoch)
    }

    /// Number of records that are kept whatever their number.
    pub fn pinned_records(&self) -> usize {
        self.memory.pinned_records()
    }

    /// Bytes of old values that snapshots keep in memory.
    pub fn superseded_bytes(&self) -> u64 {
        self.memory.superseded_bytes()
    }

    fn fence_at(&self, sequence: u64) -> Option<u64> {
        self.chain.get(usize::try_from(sequence.checked_sub(1)?).ok()?).copied()
    }

    async fn names(&self) -> Result<BTreeMap<Name, u64>, StoreError> {
        let prefix = Path::from(self.function.to_string());
        self.store
            .list(Some(&prefix))
            .map_err(StoreError::from)
            .try_filter_map(async |meta| {
                Ok(meta.location.filename().and_then(Name::parse).map(|name| (name, meta.size)))
            })
            .try_collect()
            .await
    }

    /// Walks back from the target's head and chooses the object of each sequence.
    async fn choose(
        &self,
        names: &BTreeMap<Name, u64>,
        target: Position,
    ) -> Result<Vec<(Name, Option<Bytes>)>, StoreError> {
        let acknowledged = target.sequence;
        if acknowledged == 0 {
            return if target.head.is_zero() {
                Ok(Vec::new())
            } else {
                Err(StoreError::Altered { sequence: 0, acknowledged })
            };
        }
        let store_ends = names.keys().next_back().map_or(0, |name| name.sequence);
        if store_ends < acknowledged {
            return Err(StoreError::RolledBack { store_ends, acknowledged });
        }
        let wanted: Vec<(Name, u64)> =
            names.range(sequences(1..acknowledged + 1)).rev().map(|(name, size)| (*name, *size)).collect();
        let reads = wanted.into_iter().map(|(name, size)| self.read(name, size));
        let mut reads = std::pin::pin!(stream::iter(reads).buffered(READ_AHEAD).peekable());
        let mut chosen = Vec::new();
        let mut kept = 0;
        let mut expected = target.head;
        for sequence in (1..=acknowledged).rev() {
            let mut found: Option<(Name, Bytes, Head)> = None;
            let mut refusal = None;
            while let Some((name, read)) = reads.as_mut().next_if(|(name, _)| name.sequence == sequence).await {
                if found.is_some() {
                    continue;
                }
                match read.and_then(|bytes| {
                    bytes.map(|bytes| Ok((Sealed::parse(self.function, name, &bytes)?, bytes))).transpose()
                }) {
                    Ok(None) => {}
                    Ok(Some((sealed, bytes))) if sealed.head() == expected => {
                        found = Some((name, bytes, sealed.place.previous))
                    }
                    Ok(Some(_)) => refusal = refusal.or(Some(StoreError::Altered { sequence, acknowledged })),
                    Err(StoreError::Backend(error)) => return Err(StoreError::Backend(error)),
                    Err(error) => refusal = Some(error),
                }
            }
            let (name, bytes, previous) = match (found, refusal) {
                (Some(found), _) => found,
                (None, Some(refusal)) => return Err(refusal),
                (None, None) => return Err(StoreError::Missing { sequence, acknowledged }),
            };
            kept += bytes.len();
            chosen.push((name, (kept <= KEEP_BYTES).then_some(bytes)));
            expected = previous;
        }
        if !expected.is_zero() {
            return Err(StoreError::Altered { sequence: 1, acknowledged });
        }
        chosen.reverse();
        Ok(chosen)
    }

    async fn replay(&mut self, chosen: Vec<(Name, Option<Bytes>)>, target: Position) -> Result<(), StoreError> {
        let acknowledged = target.sequence;
        let (store, function) = (Arc::clone(&self.store), self.function);
        let reads = chosen.into_iter().map(|(name, bytes)| {
            let store = Arc::clone(&store);
            async move {
                let bytes = match bytes {
                    Some(bytes) => Ok(Some(bytes)),
                    None => read(&*store, function, name).await,
                };
                (name, bytes)
            }
        });
        let mut reads = std::pin::pin!(stream::iter(reads).buffered(READ_AHEAD));
        while let Some((name, bytes)) = reads.next().await {
            let sequence = name.sequence;
            let bytes = bytes?.ok_or(StoreError::Missing { sequence, acknowledged })?;
            let sealed = Sealed::parse(self.function, name, &bytes)?;
            if sealed.place.previous != self.head {
                return Err(StoreError::Altered { sequence, acknowledged });
            }
            let commit = sealed.open(&self.keys)?;
            self.opened.insert(sealed.place.key_epoch);
            let commit = Commit::decode(&commit).map_err(|reason| StoreError::Payload { sequence, reason })?;
            self.head = sealed.head();
            self.sequence = sequence;
            self.chain.push(name.fence);
            self.memory.apply(sequence, self.head, commit);
        }
        if (self.sequence, self.head) == (target.sequence, target.head) {
            Ok(())
        } else {
            Err(StoreError::Altered { sequence: self.sequence, acknowledged })
        }
    }

    async fn read(&self, name: Name, size: u64) -> (Name, Result<Option<Bytes>, StoreError>) {
        if size > MAX_OBJECT_BYTES {
            let limit = usize::try_from(MAX_OBJECT_BYTES).unwrap_or(usize::MAX);
            let found = usize::try_from(size).unwrap_or(usize::MAX);
            return (name, Err(StoreError::TooLarge { what: "an object of the log", limit, found }));
        }
        (name, read(&*self.store, self.function, name).await)
    }
}

fn sequences(range: Range<u64>) -> Range<Name> {
    Name { sequence: range.start, fence: 0 }..Name { sequence: range.end, fence: 0 }
}

async fn read(store: &dyn ObjectStore, function: FunctionId, name: Name) -> Result<Option<Bytes>, StoreError> {
    match store.get(&name.path(function)).await {
        Ok(object) => Ok(Some(object.bytes().await?)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
