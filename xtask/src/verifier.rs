//! `cargo xtask verifier`: the verifier as a WebAssembly module, for `sdk/ts`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::steps;

/// Builds the module and gives its path.
///
/// # Errors
/// When it does not build.
pub fn run(root: &Path) -> Result<PathBuf> {
    let arguments =
        ["build", "--release", "--locked", "--target", "wasm32-unknown-unknown", "--package", "tacit-verifier-wasm"];
    steps::run(&mut steps::command(root, "cargo", &arguments))?;
    let built = steps::target_dir().join("wasm32-unknown-unknown/release/tacit_verifier_wasm.wasm");
    let module = root.join("sdk/ts/dist/tacit-verifier.wasm");
    std::fs::create_dir_all(module.parent().expect("it lies in a folder"))?;
    std::fs::copy(&built, &module).with_context(|| built.display().to_string())?;
    println!("{} ({} bytes)", module.display(), std::fs::metadata(&module)?.len());
    Ok(module)
}
