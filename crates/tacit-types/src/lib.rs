#![doc = include_str!("../README.md")]

pub mod chain;
pub mod deployment;
pub mod eip712;
pub mod formats;
pub mod fuzz;
pub mod ids;
pub mod jcs;
pub mod keyset;
pub mod manifest;
pub mod merkle;
pub mod quorum;
pub mod register;
pub mod signature;
pub mod time;

pub use ids::{
    Address, CallId, CertificateId, ChipId, ClusterId, CodeHash, Digest, FunctionId, Head, KeysetDigest, ManifestHash,
    Measurement, PolicyHash, RootId,
};
pub use time::UnixTime;
