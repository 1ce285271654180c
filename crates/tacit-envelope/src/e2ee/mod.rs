//! E2EE v2: the content-bearing fields of an OpenAI request and response, sealed one by one between a client and a service whose
//! key stands in its attested keyset.
//!
//! The open specification is `e2ee-v2.md` beside that of ACI; section numbers are its. Everything around a sealed field stays
//! ordinary JSON: model, ids, usage, and what the caller did not choose to seal.
//!
//! A service reads the headers ([`RequestHeaders::parse`]), checks them against its keys and clock ([`RequestHeaders::check`]),
//! notes the nonce ([`ReplayWindow::claim`]), opens the body ([`CheckedRequest::open`]) and seals what it answers
//! ([`ResponseSealer::seal`]: a whole body, or one chunk of a stream). A client does the reverse with [`ClientRequest`].
//!
//! One extension is this project's: a client that sends [`TOOLS_HEADER`] gets `tools`, the arguments of tool calls and log
//! probabilities sealed as well. Version 2 leaves the first two in the clear; log probabilities, which spell the answer, are taken
//! out of the response without the extension.

mod client;
mod context;
mod error;
mod fields;
mod headers;
mod replay;
mod service;
mod suite;

pub use client::{ClientRequest, SealedRequest};
pub use error::E2eeError;
pub use fields::Endpoint;
pub use headers::{
    ALGORITHM_HEADER, APPLIED_HEADER, CLIENT_KEY_HEADER, MODEL_KEY_HEADER, NONCE_HEADER, RequestHeaders,
    SIGNING_ALGORITHM_HEADER, TIMESTAMP_HEADER, TOOLS_HEADER, VERSION, VERSION_HEADER,
};
pub use replay::{ReplayKey, ReplayWindow};
pub use service::{CheckedRequest, OpenedRequest, ResponseSealer, ServiceKeys};
pub use suite::{E2eePublicKey, E2eeSecretKey, Suite, open_field, seal_field, seal_field_with};

/// Seconds that a request's timestamp may be from the service's clock, either way (section 7).
pub const MAX_SKEW: u64 = 300;
/// Most bytes of a body that is sealed or opened.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
