//! Logs, proofs and bundles seen from outside.

#![allow(clippy::unwrap_used)]

mod aci;
mod bundle;
mod log;
