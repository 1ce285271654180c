//! Gatekeepers over real HTTP on simulated machines, with a real local chain.

#![allow(clippy::unwrap_used)]

mod admission;
// Certificate authorities and GPUs of the tests' own, and the vendors' services on loopback.
#[allow(dead_code)]
#[path = "../../../tacit-attest/tests/it/authority.rs"]
mod authority;
mod collateral;
mod figures;
mod founding;
#[allow(dead_code)]
#[path = "../../../tacit-attest/tests/it/gpu_bench.rs"]
mod gpu_bench;
mod gpus;
mod limits;
mod network;
mod policy;
mod register;
mod restart;
#[allow(dead_code)]
#[path = "../../../tacit-peer/tests/it/vendor.rs"]
mod vendor;
