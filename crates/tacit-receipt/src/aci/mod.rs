//! Attested Confidential Inference (ACI, `aci/1`): the documents of the open specification by Dstack-TEE, written and read.
//!
//! * [`AttestationReport`]: which workload and which keys serve an API.
//! * [`AciReceipt`]: what happened to one request; [`ReceiptDraft`] makes one.
//! * [`Session`]: what an aggregator found when it verified an upstream service.
//! * [`ServingConstraints`]: what a request demands of upstream services.
//! * [`legacy`]: report data and signed texts of the interface before ACI (dstack-vllm-proxy), which clients still use.
//!
//! A document is hashed and signed in its canonical form (RFC 8785), members included that this reader does not know; the bytes
//! that were served say nothing. HTTP bodies are hashed exactly as observed. Section numbers in comments are the specification's.

mod constraints;
mod digest;
mod error;
mod event;
mod inference;
pub mod legacy;
mod receipt;
mod report;
mod session;

pub use constraints::{MAX_SESSION_IDS, ServingConstraints};
pub use digest::{BareDigest, BodyHash, PrefixedDigest};
pub use error::AciError;
pub use event::{Event, UpstreamOutcome, UpstreamVerified};
pub use inference::{InferenceEvent, InferenceOutcome, Price, TokenUsage, sampling_hash};
pub use receipt::{AciReceipt, MAX_RECEIPT, ReceiptDraft};
pub use report::{
    Attestation, AttestationReport, CertificateStatement, MAX_REPORT, ReportEvidence, ServiceCapabilities, Serving,
    SourceProvenance, TacitEvidence, parse_nonce, tee_type,
};
pub use session::{
    ChannelBinding, Claim, ClaimSource, ClaimStatus, Claims, KnownBinding, MAX_SESSION, Session, SessionDocument,
    SessionEvidence,
};

/// The version of the specification, in `api_version` and in [`VERSION_HEADER`].
pub const API_VERSION: &str = "aci/1";
/// Response header with [`API_VERSION`]; on every response.
pub const VERSION_HEADER: &str = "x-aci-version";
/// Response header with the digest of the serving keyset (`sha256:…`); on every response.
pub const KEYSET_DIGEST_HEADER: &str = "x-aci-keyset-digest";
/// Response header with the id of the receipt; on inference responses and on refusals that have a receipt.
pub const RECEIPT_ID_HEADER: &str = "x-receipt-id";

/// Whether a string may stand for a name or id in an ACI document: 1 to 256 bytes without control characters.
fn is_name(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
}
