//! Everything that CI checks, in one list.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    demo, evidence, guests, models,
    steps::{self, Report, command, run as execute},
    tidy, verifier,
};

/// The crates that build for the browser.
pub const PURE: [&str; 6] =
    ["tacit-types", "tacit-attest", "tacit-envelope", "tacit-receipt", "tacit-threshold", "tacit-verify"];

/// Runs every check; `long` adds the full kill, soak and fuzz runs.
pub fn run(root: &Path, long: bool) -> Result<()> {
    let mut report = Report::default();
    report.step("format", || execute(&mut command(root, "cargo", &["fmt", "--all", "--check"])));
    report.step("tidy: layers, names, sizes, licences", || tidy::run(root));
    report.step("spelling", || execute(&mut command(root, "typos", &[])));
    report.step("real evidence for the tests", || evidence::run(root));
    report.step("models for the tests", models::run);
    report.step("guest images", || guests::run(root));
    report.step("contracts: forge test, gas snapshot, committed ABI", || contracts(root));
    report.step("build all tests, with clippy, without a warning", || build_tests(root));
    report.step("Rust tests", || {
        let mut tests =
            command(root, "cargo", &["test", "--release", "--workspace", "--locked", "--no-fail-fast", "--"]);
        if long {
            tests.env("TACIT_TEST_LONG", "1");
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
    report.step("demo: spoiled inputs", || demo::spoiled_inputs(root));
    report.step("generated files are clean", || clean(root));
    report.finish()
}

/// Builds every test and fails if the compiler or clippy has a warning about our crates.
fn build_tests(root: &Path) -> Result<()> {
    let arguments = ["test", "--release", "--workspace", "--locked", "--no-run", "--message-format=json"];
    without_warnings(&mut with_clippy(command(root, "cargo", &arguments)))
}

/// Runs a build that speaks JSON. Cargo says again what it was told of a crate that it need not build again, and reading its
/// words changes no crate's fingerprint, as flags for the compiler would.
fn without_warnings(build: &mut Command) -> Result<()> {
    let mut build = build.stdout(Stdio::piped()).spawn().context("could not start cargo")?;
    let words = build.stdout.take().context("cargo has no output")?;
    let mut warnings = BTreeSet::new();
    for line in BufReader::new(words).lines() {
        // A crate and its unit tests are two builds of the same lines: each warning is shown once.
        if let Some((level, text)) = diagnostic(&line?)
            && (level != "warning" || warnings.insert(text.clone()))
        {
            eprintln!("{text}");
        }
    }
    let status = build.wait()?;
    if !status.success() {
        bail!("the tests do not build: {status}");
    }
    match warnings.len() {
        0 => Ok(()),
        1 => bail!("1 warning, see above"),
        count => bail!("{count} warnings, see above"),
    }
}

/// Level and text of what the compiler says about a place in the code, from one line of Cargo's JSON.
fn diagnostic(line: &str) -> Option<(String, String)> {
    let message = serde_json::from_str::<Value>(line).ok()?;
    if message["reason"] != "compiler-message" {
        return None;
    }
    let message = &message["message"];
    // The closing count of warnings has neither a place nor a lint.
    if message["level"] == "warning"
        && message["code"].is_null()
        && message["spans"].as_array().is_none_or(Vec::is_empty)
    {
        return None;
    }
    Some((message["level"].as_str()?.to_owned(), message["rendered"].as_str()?.to_owned()))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_about_the_code_are_told_from_the_rest() {
        let check = |line: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(level, text)| (level.to_owned(), text.to_owned()));
            assert_eq!(diagnostic(line), expected, "{line}");
        };
        let span = r#"[{"file_name":"src/lib.rs"}]"#;
        check(
            &format!(
                r#"{{"reason":"compiler-message","message":{{"level":"warning","code":{{"code":"unused"}},"spans":{span},"rendered":"warning: x"}}}}"#
            ),
            Some(("warning", "warning: x")),
        );
        check(
            r#"{"reason":"compiler-message","message":{"level":"error","code":{"code":"E1"},"spans":[],"rendered":"error: y"}}"#,
            Some(("error", "error: y")),
        );
        check(
            r#"{"reason":"compiler-message","message":{"level":"warning","code":null,"spans":[],"rendered":"warning: 1 warning emitted"}}"#,
            None,
        );
        check(r#"{"reason":"compiler-artifact","fresh":true}"#, None);
        check("test result: ok", None);
    }

    #[test]
    fn a_planted_warning_fails_the_build_each_time_and_its_removal_passes() {
        let folder = std::env::temp_dir().join(format!("tacit-planted-warning-{}", std::process::id()));
        let source = folder.join("src/lib.rs");
        std::fs::create_dir_all(folder.join("src")).unwrap();
        std::fs::write(folder.join("Cargo.toml"), "[package]\nname = \"planted\"\nedition = \"2024\"\n[workspace]\n")
            .unwrap();
        let build = || {
            let mut cargo = with_clippy(Command::new("cargo"));
            cargo.args(["test", "--offline", "--no-run", "--message-format=json"]);
            without_warnings(cargo.current_dir(&folder).env("CARGO_TARGET_DIR", folder.join("target")))
        };
        let check = |text: &str, expected: &str| {
            std::fs::write(&source, text).unwrap();
            // The second build compiles nothing: what was said before is said again.
            for _ in 0..2 {
                assert_eq!(build().err().map(|error| error.to_string()).unwrap_or_default(), expected, "{text}");
            }
        };
        let good = "pub fn first(list: &[u8]) -> Option<u8> {\n    list.first().copied()\n}\n";
        check(good, "");
        // One of the compiler's, then one of clippy's.
        check(&format!("{good}fn unused() {{}}\n"), "1 warning, see above");
        check(&good.replace("list.first()", "list.get(0)"), "1 warning, see above");
        check(good, "");
        std::fs::write(&source, "pub fn broken(").unwrap();
        assert!(build().unwrap_err().to_string().starts_with("the tests do not build"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
