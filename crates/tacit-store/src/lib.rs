#![doc = include_str!("../README.md")]

mod blobs;
mod commit;
mod error;
mod keys;
mod local;
mod log;
mod memory;
mod object;
mod overlay;
mod reminders;

pub use blobs::Blobs;
pub use commit::{CallRecord, Commit, Key, MAX_COMMIT_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Space, Write};
pub use error::StoreError;
pub use keys::StateKeys;
pub use local::open_local;
pub use log::{Appended, StateLog};
pub use memory::{MAX_RECORD_BYTES, MAX_RECORDS, Snapshot};
pub use overlay::{Batch, Overlay};
pub use reminders::Reminders;
