//! Confidential AI: an OpenAI-compatible surface whose every answer ends in a receipt.
//!
//! A request comes over TLS that ends here, or sealed as a whole through anybody ([`sealed`]); single fields may be sealed too
//! ([`fields`]). [`service`] answers it, [`exchange`] sees that it ends with a receipt, [`attestation`] says who answers.

mod accounts;
mod attestation;
mod config;
mod convert;
mod endpoint;
mod exchange;
mod fields;
mod http;
mod ids;
mod merged;
mod receipts;
mod render;
mod sealed;
mod serve;
mod service;
mod tls;

pub use config::{AiConfig, KeyConfig, ModelConfig, Price, Provenance};
pub(crate) use endpoint::Endpoint;
pub(crate) use http::{NonceQuery, Relayed};
pub use serve::{AiNode, NodeConfig};
pub(crate) use serve::{Parts, start, tls_identity};
pub(crate) use service::{ReplyBody, Service};
