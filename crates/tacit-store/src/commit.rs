use bytes::Bytes;
use tacit_types::{CallId, Digest, UnixTime};

use crate::error::StoreError;

/// Most bytes of a key's name.
pub const MAX_KEY_BYTES: usize = 256;
/// Most bytes of a value.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// Most bytes of one commit before sealing.
pub const MAX_COMMIT_BYTES: usize = 64 << 20;

const VERSION: u8 = 1;

/// Which part of a function's state a key lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// What the function's code reads and writes; the only part that counts towards its quota.
    State,
    /// The owner's secrets.
    Secrets,
    /// What the worker keeps for the function: counters of publications.
    System,
}

impl Space {
    const fn code(self) -> u8 {
        match self {
            Self::State => 0,
            Self::Secrets => 1,
            Self::System => 2,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::State),
            1 => Some(Self::Secrets),
            2 => Some(Self::System),
            _ => None,
        }
    }
}

/// A key of a function's state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The part of the state.
    pub space: Space,
    /// The name within it, at most [`MAX_KEY_BYTES`].
    pub name: String,
}

impl Key {
    /// A key of the function's own state.
    pub fn state(name: impl Into<String>) -> Self {
        Self { space: Space::State, name: name.into() }
    }

    /// The key of a secret.
    pub fn secret(name: impl Into<String>) -> Self {
        Self { space: Space::Secrets, name: name.into() }
    }

    /// A key that the worker keeps.
    pub fn system(name: impl Into<String>) -> Self {
        Self { space: Space::System, name: name.into() }
    }
}

/// One change of the state: a new value, or none for a deletion.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    /// What changes.
    pub key: Key,
    /// The new value.
    pub value: Option<Bytes>,
}

/// The stored outcome of one call, found again by call id: the code of one call never runs twice.
#[derive(Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// The call.
    pub call_id: CallId,
    /// Digest of what was asked, so that one call id cannot be used for two requests.
    pub request: Digest,
    /// Last second at which the record must be found.
    pub keep_until: UnixTime,
    /// Whether the record outlives the bound on the number and size of records until `keep_until`.
    pub pinned: bool,
    /// Outcome, response and what a receipt needs, in the worker's own encoding.
    pub body: Bytes,
}

/// What one entry of the log holds: the writes and records of one or several calls, all or none.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// The worker's clock.
    pub time: UnixTime,
    /// Changes of the state, each key once.
    pub writes: Vec<Write>,
    /// Outcomes.
    pub calls: Vec<CallRecord>,
}

/// Says how much there is and nothing of what it is: state is secret.
impl std::fmt::Debug for Commit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Commit({}, {} writes, {} calls)", self.time.0, self.writes.len(), self.calls.len())
    }
}

impl Commit {
    /// The bytes that are sealed.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] past the limits on keys, values and the whole.
    pub fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.time.0.to_be_bytes());
        put_count(&mut out, self.writes.len());
        for write in &self.writes {
            check("a key", MAX_KEY_BYTES, write.key.name.len())?;
            out.push(write.key.space.code());
            put_bytes(&mut out, write.key.name.as_bytes());
            match &write.value {
                None => out.push(0),
                Some(value) => {
                    check("a value", MAX_VALUE_BYTES, value.len())?;
                    out.push(1);
                    put_bytes(&mut out, value);
                }
            }
            check("a commit", MAX_COMMIT_BYTES, out.len())?;
        }
        put_count(&mut out, self.calls.len());
        for call in &self.calls {
            check("a commit", MAX_COMMIT_BYTES, out.len().saturating_add(call.body.len()))?;
            out.extend_from_slice(call.call_id.as_bytes());
            out.extend_from_slice(call.request.as_bytes());
            out.extend_from_slice(&call.keep_until.0.to_be_bytes());
            out.push(u8::from(call.pinned));
            put_bytes(&mut out, &call.body);
        }
        check("a commit", MAX_COMMIT_BYTES, out.len())?;
        Ok(out)
    }

    /// Reads what [`Self::encode`] wrote and refuses everything else.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, &'static str> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.byte()? != VERSION {
            return Err("written by another version");
        }
        let time = UnixTime(reader.number()?);
        let mut writes = Vec::new();
        for _ in 0..reader.count()? {
            let space = Space::from_code(reader.byte()?).ok_or("an unknown space")?;
            let name = std::str::from_utf8(reader.slice()?).map_err(|_| "a key that is not text")?.to_owned();
            let value = match reader.byte()? {
                0 => None,
                1 => Some(reader.owned()?),
                _ => return Err("neither a value nor a deletion"),
            };
            writes.push(Write { key: Key { space, name }, value });
        }
        let mut calls = Vec::new();
        for _ in 0..reader.count()? {
            calls.push(CallRecord {
                call_id: CallId::from(reader.array()?),
                request: Digest::from(reader.array()?),
                keep_until: UnixTime(reader.number()?),
                pinned: match reader.byte()? {
                    0 => false,
                    1 => true,
                    _ => return Err("neither pinned nor not"),
                },
                body: reader.owned()?,
            });
        }
        if reader.at == bytes.len() { Ok(Self { time, writes, calls }) } else { Err("bytes after the end") }
    }
}

fn check(what: &'static str, limit: usize, found: usize) -> Result<(), StoreError> {
    if found > limit { Err(StoreError::TooLarge { what, limit, found }) } else { Ok(()) }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<std::ops::Range<usize>, &'static str> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or("it ends too early")?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let range = self.take(1)?;
        Ok(self.bytes[range.start])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let range = self.take(N)?;
        self.bytes[range].try_into().map_err(|_| "it ends too early")
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn count(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn range(&mut self) -> Result<std::ops::Range<usize>, &'static str> {
        let length = usize::try_from(self.count()?).map_err(|_| "it ends too early")?;
        self.take(length)
    }

    fn slice(&mut self) -> Result<&[u8], &'static str> {
        let range = self.range()?;
        Ok(&self.bytes[range])
    }

    fn owned(&mut self) -> Result<Bytes, &'static str> {
        // Copied, so that a small value does not keep a whole commit in memory.
        Ok(Bytes::copy_from_slice(self.slice()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn commits() -> impl Strategy<Value = Commit> {
        let write = ("[a-z/]{0,20}", 0u8..3, proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)));
        let call = (
            any::<[u8; 32]>(),
            any::<[u8; 32]>(),
            any::<u64>(),
            any::<bool>(),
            proptest::collection::vec(any::<u8>(), 0..40),
        );
        (any::<u64>(), proptest::collection::vec(write, 0..6), proptest::collection::vec(call, 0..4)).prop_map(
            |(time, writes, calls)| Commit {
                time: UnixTime(time),
                writes: writes
                    .into_iter()
                    .map(|(name, space, value)| Write {
                        key: Key { space: Space::from_code(space).unwrap(), name },
                        value: value.map(Bytes::from),
                    })
                    .collect(),
                calls: calls
                    .into_iter()
                    .map(|(id, request, until, pinned, body)| CallRecord {
                        call_id: id.into(),
                        request: request.into(),
                        keep_until: UnixTime(until),
                        pinned,
                        body: body.into(),
                    })
                    .collect(),
            },
        )
    }

    proptest! {
        #[test]
        fn a_commit_reads_back(commit in commits()) {
            let bytes = Bytes::from(commit.encode().unwrap());
            prop_assert!(Commit::decode(&bytes).unwrap() == commit);
            for length in 0..bytes.len() {
                prop_assert!(Commit::decode(&bytes.slice(..length)).is_err());
            }
            let mut longer = bytes.to_vec();
            longer.push(0);
            prop_assert!(Commit::decode(&longer.into()).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Commit::decode(&bytes.into());
        }
    }

    #[test]
    fn limits_are_kept() {
        let commit = |name: String, value: Vec<u8>| Commit {
            writes: vec![Write { key: Key::state(name), value: Some(value.into()) }],
            ..Commit::default()
        };
        assert!(commit("a".repeat(MAX_KEY_BYTES), vec![0; MAX_VALUE_BYTES]).encode().is_ok());
        let refused = |commit: Commit| matches!(commit.encode(), Err(StoreError::TooLarge { .. }));
        assert!(refused(commit("a".repeat(MAX_KEY_BYTES + 1), vec![])));
        assert!(refused(commit("a".into(), vec![0; MAX_VALUE_BYTES + 1])));
        let write = Write { key: Key::state("a"), value: Some(vec![0; MAX_VALUE_BYTES].into()) };
        assert!(refused(Commit { writes: vec![write; 65], ..Commit::default() }));
    }
}
