//! Step 1: real evidence. The verifier's own program shows it, since it can run before the rest is built.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::inputs::Inputs;

/// Runs the verifier on the samples in a cache folder.
pub fn run(binaries: &Path, inputs: &Inputs) -> Result<()> {
    let mut command = Command::new(binaries.join("examples/real_evidence"));
    let output = command.env("XDG_CACHE_HOME", &inputs.cache).env_remove("RUST_BACKTRACE").output();
    let output = output.context("could not start real_evidence")?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
