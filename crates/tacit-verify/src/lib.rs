#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod aci;
mod anchor;
mod bundle;
mod error;
mod file;
pub mod fuzz;
mod json;
mod judge;
mod peer;
mod report;
mod worker;

pub use anchor::Anchor;
pub use bundle::{VerifiedReceipt, Verifier, cluster_of, refuse_without_anchor};
pub use error::VerifyError;
pub use file::{Fact, Inspected, Inspection, MAX_FILE, Subject};
pub use json::verify_json;
pub use judge::Judge;
pub use peer::{MAX_STATEMENT, PeerStatement, VerifiedPeer, verify_peer};
pub use report::{Report, Step, StepName, TimeProof, Verdict};
pub use worker::{CertifiedWorker, VerifiedWorker};
