#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod binary_http;
mod chunked;
pub mod e2ee;
mod error;
mod fields;
pub mod fuzz;
mod key_config;
mod oblivious;
mod response_stream;
mod single_shot;
mod suite;
mod varint;

pub use binary_http::{Framing, Limits, Request, Response};
pub use chunked::{
    MAX_CHUNK, RequestChunkOpener, RequestChunkSealer, ResponseChunkOpener, ResponseChunkSealer, seal_chunked_request,
};
pub use error::EnvelopeError;
pub use fields::Fields;
pub use key_config::{KeyConfig, encode_key_configs, parse_key_configs};
pub use oblivious::{KeyPair, ResponseOpener, ResponseSealer, seal_request};
pub use response_stream::{ResponsePart, ResponseReader, response_end, response_piece, response_start};
pub use single_shot::{TransportKey, TransportPublicKey, open_with, seal_to};
pub use suite::Kem;

/// Media type of a sealed request.
pub const REQUEST_MEDIA_TYPE: &str = "message/ohttp-req";
/// Media type of a sealed response.
pub const RESPONSE_MEDIA_TYPE: &str = "message/ohttp-res";
/// Media type of a sealed request in chunks.
pub const CHUNKED_REQUEST_MEDIA_TYPE: &str = "message/ohttp-chunked-req";
/// Media type of a sealed response in chunks.
pub const CHUNKED_RESPONSE_MEDIA_TYPE: &str = "message/ohttp-chunked-res";
