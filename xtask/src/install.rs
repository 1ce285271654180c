//! Builds the binaries and links `tacit` into the user's path.

use std::path::Path;

use anyhow::{Context, Result};

use crate::{guests, steps};

/// Builds every binary of the workspace.
pub fn build(root: &Path) -> Result<()> {
    guests::run(root)?;
    steps::run(&mut steps::command(root, "cargo", &["build", "--release", "--workspace", "--locked"]))?;
    println!("export PATH=\"{}:$PATH\"", steps::target_dir().join("release").display());
    Ok(())
}

/// Links the binaries into `~/.local/bin`.
pub fn link(_root: &Path) -> Result<()> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let folder = Path::new(&home).join(".local/bin");
    std::fs::create_dir_all(&folder)?;
    for name in ["tacit", "tacit-simulator"] {
        let link = folder.join(name);
        if link.symlink_metadata().is_ok_and(|found| found.file_type().is_symlink()) {
            std::fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink(steps::target_dir().join("release").join(name), &link)
            .with_context(|| format!("could not link {}", link.display()))?;
        println!("{}", link.display());
    }
    Ok(())
}
