//! `cargo xtask peers`: fetches and builds the programs that benchmarks compare with, into `~/.cache/tacit/peers`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Version of workerd: the benchmark names what it was measured beside.
const WORKERD: &str = "workerd@1.20261117.1";

/// Puts workerd and a native QuickJS where the benchmarks look for them.
///
/// # Errors
/// Fails when npm or cargo fails.
pub fn run(root: &Path) -> Result<()> {
    let folder = std::env::home_dir().context("no home folder is known")?.join(".cache/tacit/peers");
    std::fs::create_dir_all(&folder)?;
    // The binary lies in the platform's package: no install script has to run.
    let npm = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
    let status = Command::new("npm").args(npm).arg(&folder).arg(WORKERD).status().context("npm does not start")?;
    ensure!(status.success(), "{WORKERD} cannot be installed");

    let target = folder.join("target");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked"])
        .current_dir(root.join("guests/quickjs-native"))
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .context("cargo does not start")?;
    ensure!(status.success(), "guests/quickjs-native does not build");
    std::fs::copy(target.join("release/quickjs-native"), folder.join("quickjs-native"))?;
    println!("{}", folder.display());
    Ok(())
}
