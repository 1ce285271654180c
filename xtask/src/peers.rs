//! `cargo xtask peers`: fetches and builds the programs that benchmarks compare with, into `~/.cache/tacit/peers`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::steps;

/// Version of workerd: the benchmark names what it was measured beside.
const WORKERD: &str = "workerd@1.20261117.1";
/// Upstream's libllama as a package of npm that holds its shared libraries, with kernels for several instruction sets.
const LLAMA: &str = "@node-llama-cpp/linux-x64@3.22.1";
/// The kernels for x86-64-v3, for which the engine under test is built (docs/decisions/0011-inference-engine.md).
const KERNELS: &str = "libggml-cpu-haswell.so";

/// Puts workerd, a native QuickJS and a driver of upstream's libllama where the benchmarks look for them.
///
/// # Errors
/// Fails when npm, cargo or the C compiler fails.
pub fn run(root: &Path) -> Result<()> {
    let folder = std::env::home_dir().context("no home folder is known")?.join(".cache/tacit/peers");
    std::fs::create_dir_all(&folder)?;
    let mut packages = vec![WORKERD];
    if cfg!(target_arch = "x86_64") {
        packages.push(LLAMA);
    }
    // The binaries lie in the platforms' packages: no install script has to run.
    let npm = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
    let status = Command::new("npm").args(npm).arg(&folder).args(&packages).status().context("npm does not start")?;
    ensure!(status.success(), "{} cannot be installed", packages.join(" and "));
    if packages.contains(&LLAMA) {
        llama(root, &folder)?;
    }

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

/// Builds the driver of libllama against the headers of the engine under test; it refuses to run if the library's differ.
fn llama(root: &Path, folder: &Path) -> Result<()> {
    let (name, _) = LLAMA.rsplit_once('@').context("the package has no version")?;
    let libraries = folder.join("node_modules").join(name).join("bins/linux-x64");
    let library = |prefix: &str| -> Result<PathBuf> {
        let mut files = std::fs::read_dir(&libraries)?.filter_map(|entry| Some(entry.ok()?.path()));
        let is_it = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        files.find(is_it).with_context(|| format!("{LLAMA} has no {prefix}*"))
    };
    let headers = headers(root)?;
    let mut compile = Command::new("cc");
    compile
        .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-DLIBRARY=\"{LLAMA}\""))
        .arg(format!("-DKERNELS=\"{}\"", libraries.join(KERNELS).display()))
        .arg("-I")
        .arg(headers.join("include"))
        .arg("-I")
        .arg(headers.join("ggml/include"))
        .arg(root.join("crates/tacit-cli/src/commands/bench/peer/llamacpp.c"))
        .args([library("libllama.v")?, library("libggml.v")?])
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .arg("-Wl,--allow-shlib-undefined")
        .arg("-o")
        .arg(folder.join("llamacpp"));
    steps::run(&mut compile)
}

/// The sources of llama.cpp among the dependencies.
fn headers(root: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--locked", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root).output().context("cargo does not start")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let mut packages = metadata["packages"].as_array().context("cargo metadata names no packages")?.iter();
    let package =
        packages.find(|package| package["name"] == "llama-cpp-sys-2").context("llama-cpp-sys-2 is missing")?;
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    Ok(manifest.parent().context("llama-cpp-sys-2 lies nowhere")?.join("llama.cpp"))
}
