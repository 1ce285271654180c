//! A function's log as a worker drives it: the position that a quorum acknowledged stands apart from the store.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use object_store::ObjectStore;
use tacit_store::{Appended, Batch, CallRecord, Key, Space, StateKeys, StateLog, StoreError};
use tacit_types::{CallId, FunctionId, UnixTime, register::Position};

pub const QUOTA: u64 = 1 << 20;

pub fn function() -> FunctionId {
    FunctionId::from([0xf1; 32])
}

pub fn keys() -> StateKeys {
    StateKeys::new(1, [7; 32])
}

pub async fn open(store: &Arc<dyn ObjectStore>, target: Position) -> Result<StateLog, StoreError> {
    StateLog::open(Arc::clone(store), function(), keys(), target).await
}

/// Opens at `target` and writes under `fence`.
pub async fn take_over(store: &Arc<dyn ObjectStore>, target: Position, fence: u64) -> Result<StateLog, StoreError> {
    let mut log = open(store, target).await?;
    log.write_under(fence, 1)?;
    Ok(log)
}

pub fn record(name: &str) -> CallRecord {
    CallRecord {
        call_id: call_id(name),
        request: [0; 32].into(),
        keep_until: UnixTime(u64::MAX),
        pinned: false,
        body: Bytes::copy_from_slice(name.as_bytes()),
    }
}

pub fn call_id(name: &str) -> CallId {
    tacit_types::formats::call_id(function(), None, name)
}

/// One command that writes `value` under `name`.
pub async fn set(log: &mut StateLog, name: &str, value: &str) -> Result<Appended, StoreError> {
    let mut batch = Batch::new(Arc::new(log.snapshot()), QUOTA);
    let mut overlay = batch.overlay();
    overlay.set(Key::state(name), Bytes::copy_from_slice(value.as_bytes()))?;
    batch.add(overlay, record(&format!("{name}={value}")));
    log.append(batch.into_commit(UnixTime(1))).await
}

/// Every entry of the state.
pub fn contents(log: &StateLog) -> BTreeMap<String, String> {
    let entries = log.snapshot().list(Space::State, "", None, usize::MAX);
    entries.into_iter().map(|(name, value)| (name, String::from_utf8(value.to_vec()).unwrap())).collect()
}

pub fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
