//! Which code tract computes with.
//!
//! tract looks at the processor and chooses among kernels, whose additions come in other orders and whose products are rounded or
//! not before they are added. Here every instruction set beyond the architecture's own is taken away from it before it looks, so
//! that what it computes is the same wherever the program runs.

use std::sync::OnceLock;

use tract_onnx::prelude::tract_linalg::{
    isa::{self, Isa, IsaSet},
    knobs::TRACT_CPU_ISA,
};

use super::engine;
use crate::InferenceError;

/// The version that `Cargo.toml` pins.
const VERSION: &str = "0.23.9";

/// Leaves tract its portable kernels alone, and names them.
///
/// # Errors
/// [`InferenceError::Engine`] if tract has chosen before, or on a processor for which the C library has other code.
pub(super) fn force() -> Result<String, InferenceError> {
    crate::llama::instructions()?;
    static KERNELS: OnceLock<Option<String>> = OnceLock::new();
    let kernels = KERNELS.get_or_init(|| {
        let features: Vec<String> = Isa::ALL
            .iter()
            .filter(|isa| isa.arch().is_native() && !isa.is_arch())
            .map(|isa| format!("-{isa}"))
            .collect();
        TRACT_CPU_ISA.set(Some(features.join(",")));
        let left = isa::native();
        let arch = left.arch()?;
        (left == IsaSet::of_arch(arch)).then(|| format!("tract {VERSION}, portable kernels of {arch}"))
    });
    kernels.clone().ok_or_else(|| engine("tract has chosen its kernels before"))
}

/// The name where a GRU is in the model: its products are those of another library, which looks at the processor by itself.
pub(super) fn with_gru(kernels: &str) -> String {
    #[cfg(target_arch = "x86_64")]
    let chosen = match () {
        () if is_x86_feature_detected!("avx512f") => "avx512f",
        () if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") => "fma",
        () if is_x86_feature_detected!("avx") => "avx",
        () => "sse2",
    };
    #[cfg(not(target_arch = "x86_64"))]
    let chosen = "this processor";
    format!("{kernels}, GRU by matrixmultiply for {chosen}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_instruction_set_is_left_and_the_version_is_the_locked_one() {
        let kernels = force().unwrap();
        assert_eq!(isa::native().level(), 0);
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        assert!(lock.contains(&format!("name = \"tract-onnx\"\nversion = \"{VERSION}\"")), "{kernels}");
    }
}
