//! The verifier against the committed golden files, and the golden files against what makes them.
//!
//! `TACIT_BLESS=1` writes the files under `vectors/` anew; without it every test compares.

#![allow(clippy::unwrap_used)]

mod aci;
mod aci_interop;
mod aci_service;
mod alterations;
mod fuzzing;
mod golden;
mod network;
mod refusals;
mod vectors;
mod workers;

use std::path::PathBuf;

/// The path of a committed vector.
pub fn vector_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name)
}

/// The bytes of a committed vector.
pub fn vector(name: &str) -> Vec<u8> {
    std::fs::read(vector_path(name)).unwrap_or_else(|error| panic!("vectors/{name}: {error}"))
}

/// Compares with a committed vector, or writes it when blessing.
pub fn check_vector(name: &str, bytes: &[u8]) {
    if std::env::var_os("TACIT_BLESS").is_some() {
        std::fs::write(vector_path(name), bytes).unwrap();
    }
    assert!(vector(name) == bytes, "vectors/{name} is not what the code makes; TACIT_BLESS=1 writes it anew");
}
