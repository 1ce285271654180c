//! Randomness of one call: ChaCha20 from the seed that the host hands in, fresh for each call.

use std::cell::RefCell;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};

thread_local! {
    static GENERATOR: RefCell<Option<ChaCha20Rng>> = const { RefCell::new(None) };
}

/// Seeds the generator; a seed that is not 32 bytes is a fault of the host.
pub fn seed(bytes: &[u8]) {
    let seed: [u8; 32] = bytes.try_into().expect("the host gives 32 bytes");
    GENERATOR.set(Some(ChaCha20Rng::from_seed(seed)));
}

/// Fills `target`, or does nothing and says so when no call has begun.
pub fn fill(target: &mut [u8]) -> bool {
    GENERATOR.with_borrow_mut(|generator| generator.as_mut().map(|generator| generator.fill_bytes(target)).is_some())
}

/// A number in [0, 1) of 53 random bits.
pub fn unit() -> Option<f64> {
    let mut bytes = [0; 8];
    fill(&mut bytes).then(|| (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64)
}
