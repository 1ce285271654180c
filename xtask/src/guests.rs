//! `cargo xtask guests`: builds the guests from source and makes the shared, pre-initialised JavaScript image.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::steps;

/// Where artefacts go: `TACIT_GUESTS_DIR`, else `~/.cache/tacit/guests`.
fn artefacts() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("TACIT_GUESTS_DIR") {
        return Ok(folder.into());
    }
    let home = std::env::home_dir().context("neither TACIT_GUESTS_DIR nor a home folder is known")?;
    Ok(home.join(".cache/tacit/guests"))
}

/// Builds every guest and writes the components and `digests.json` beside them.
///
/// # Errors
/// Fails when a tool is missing, a guest does not build, or its image cannot be made.
pub fn run(root: &Path) -> Result<()> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder).join("guests"),
        None => root.join("guests/target"),
    };
    build(&root.join("guests/tacit-js"), "wasm32-unknown-unknown", &target)?;
    let mut made = vec![("tacit-js.wasm", initialised(root, &target.join("wasm32-unknown-unknown/release"))?)];
    for (name, folder, file) in
        [("hello-rust.wasm", "examples/hello-rust", "hello_rust.wasm"), ("probe.wasm", "guests/probe", "probe.wasm")]
    {
        build(&root.join(folder), "wasm32-wasip2", &target)?;
        made.push((name, std::fs::read(target.join("wasm32-wasip2/release").join(file))?));
    }

    let output = artefacts()?;
    std::fs::create_dir_all(&output)?;
    let mut digests = serde_json::Map::new();
    for (name, bytes) in &made {
        let digest = hex(&Sha256::digest(bytes));
        replace(&output.join(name), bytes)?;
        println!("{} ({} bytes, sha256 {digest})", output.join(name).display(), bytes.len());
        digests.insert((*name).to_owned(), format!("sha256:{digest}").into());
    }
    replace(&output.join("digests.json"), format!("{:#}\n", serde_json::Value::from(digests)).as_bytes())
}

/// The JavaScript engine after its initialisation.
fn initialised(root: &Path, built: &Path) -> Result<Vec<u8>> {
    let (module, image) = (built.join("tacit_js.wasm"), built.join("tacit_js.image.wasm"));
    let mut make =
        steps::command(root, "cargo", &["run", "--quiet", "--release", "--locked", "--package", "guest-image", "--"]);
    make.arg(module).arg(&image);
    steps::run(&mut make)?;
    std::fs::read(&image).with_context(|| image.display().to_string())
}

/// Compiles one guest. Paths are mapped away, so that the same toolchain makes the same bytes in every folder.
fn build(folder: &Path, triple: &str, target: &Path) -> Result<()> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let cargo_home = cargo_home.context("neither CARGO_HOME nor a home folder is known")?;
    let map = |from: &Path, to: &str| format!("{}={to}", from.display());
    let flags = [
        format!("--remap-path-prefix={}", map(&cargo_home, "/cargo")),
        format!("--remap-path-prefix={}", map(folder, "/guest")),
        format!("--remap-path-prefix={}", map(target, "/target")),
    ];
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--target", triple])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CC_wasm32_unknown_unknown", "clang-19")
        .env("AR_wasm32_unknown_unknown", "llvm-ar-19")
        .env(
            "CFLAGS_wasm32_unknown_unknown",
            format!("-ffile-prefix-map={} -ffile-prefix-map={}", map(&cargo_home, "/cargo"), map(target, "/target")),
        )
        .status()
        .context("cargo does not start")?;
    ensure!(
        status.success(),
        "{} does not build; clang-19, lld-19, llvm-19 and the target {triple} must be installed",
        folder.display()
    );
    Ok(())
}

/// Replaces a file only when its bytes change, so that nothing is rebuilt for nothing.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes)?;
    std::fs::rename(&partial, path)?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
