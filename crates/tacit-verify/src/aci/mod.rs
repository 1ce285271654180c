//! Verification of a service of confidential inference (`aci/1`, section 9): first who it is, then what it answered.
//!
//! The check ids are those that other verifiers of ACI print. [`verify_service`] runs `id-1` to `id-6` over a report, before
//! anything is sent; [`VerifiedService::report_exchange`] runs `receipt-1` to `receipt-4` and `upstream-1`, `upstream-2` over one
//! answer. A [`Transcript`] holds everything for both, so that anybody can judge the exchange later without a network.

mod evidence;
mod exchange;
mod service;
mod transcript;

pub use evidence::{carried_collateral, evidence_of};
pub use exchange::Exchange;
pub use service::{Channel, ServiceInput, VerifiedService, verify_service};
pub use transcript::{MAX_TRANSCRIPT, TRANSCRIPT_FORMAT, Transcript, TranscriptLog};

pub(crate) use transcript::judge_transcript;
