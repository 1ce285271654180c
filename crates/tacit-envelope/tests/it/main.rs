//! Behaviour of sealed messages seen from outside, and interoperation with independent implementations.

#![allow(clippy::unwrap_used)]

mod binary_http;
mod chunked;
mod e2ee;
mod e2ee_vectors;
mod interop;
mod oblivious;

use rand::{SeedableRng, rngs::StdRng};

/// Randomness that is the same in every run.
pub fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}
