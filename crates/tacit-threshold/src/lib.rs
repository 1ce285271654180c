#![doc = include_str!("../README.md")]

pub mod admission;
pub mod collect;
pub mod dealing;
mod error;
pub mod fuzz;
mod lease;
mod record;
mod refusal;
mod register;
pub mod subkeys;

#[cfg(test)]
mod samples;

pub use error::ThresholdError;
pub use lease::{Batch, Entry, HeldLease, MAX_BATCH, MAX_PATH, SignedBatch, VerifiedLease, request_statement};
pub use record::{MAX_RECORD, RECORD_VERSION, Record};
pub use refusal::Refusal;
pub use register::{
    Facts, FunctionView, Input, MAX_BLOCK_LAG, MAX_CERTIFICATES, MAX_CONFIRM, MAX_FENCE_STEP, MAX_FUNCTIONS,
    MAX_LEASE_SECONDS, MAX_SKEW_SECONDS, Output, Register, Reply,
};
