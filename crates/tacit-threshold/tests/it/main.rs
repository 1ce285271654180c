//! The register against models and refusal tables.

mod cluster;
mod register;
mod values;
