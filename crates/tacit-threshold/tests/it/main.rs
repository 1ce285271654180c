//! The register against models and refusal tables.

#![allow(clippy::unwrap_used)]

mod cluster;
mod register;
mod values;
