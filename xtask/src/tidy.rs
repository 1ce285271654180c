//! Checks that no compiler makes: the layers of crates, purity, sizes, words, licences.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{steps, test::PURE};

/// A row of crates, and which of them may depend on which other of the same row.
type Row = (&'static [&'static str], &'static [(&'static str, &'static str)]);

/// Crates in rows; a crate depends only on crates of rows above its own, or of its own row if the second member says so.
const ROWS: [Row; 4] = [
    (
        &["tacit-types", "tacit-attest", "tacit-envelope", "tacit-receipt", "tacit-threshold", "tacit-verify"],
        &[
            ("tacit-attest", "tacit-types"),
            ("tacit-envelope", "tacit-types"),
            ("tacit-receipt", "tacit-types"),
            ("tacit-threshold", "tacit-types"),
            ("tacit-threshold", "tacit-attest"),
            ("tacit-verify", "tacit-types"),
            ("tacit-verify", "tacit-attest"),
            ("tacit-verify", "tacit-receipt"),
            ("tacit-verify", "tacit-threshold"),
        ],
    ),
    (
        &[
            "tacit-platform",
            "tacit-simulator",
            "tacit-peer",
            "tacit-ledger",
            "tacit-store",
            "tacit-runtime",
            "tacit-inference",
        ],
        &[],
    ),
    (
        &["tacit-api", "tacit-client", "tacit-gatekeeper", "tacit-worker", "tacit-gateway"],
        &[
            ("tacit-client", "tacit-api"),
            ("tacit-gatekeeper", "tacit-api"),
            ("tacit-gateway", "tacit-api"),
            ("tacit-worker", "tacit-api"),
        ],
    ),
    (&["guest-image", "tacit-cli", "tacit-demo", "tacit-verifier-wasm", "xtask"], &[]),
];

/// What the source of a pure crate does not contain: it takes clock, randomness and bytes as arguments.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::env::",
    "SystemTime",
    "Instant::now",
    "std::process",
    "tokio::",
    "rand::rng",
    "OsRng",
];

/// Names that say nothing about what a module is.
const VAGUE: [&str; 6] = ["common", "core", "utils", "util", "helpers", "misc"];

/// Licences that fit Apache-2.0, as SPDX identifiers.
const LICENCES: [&str; 16] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

const LONGEST_FILE: usize = 1_000;
const LONGEST_MAIN: usize = 60;

/// Runs every check and reports all findings at once.
///
/// # Errors
/// When anything was found.
pub fn run(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    let metadata = metadata(root)?;
    layers(&metadata, &mut findings)?;
    licences(&metadata, &mut findings)?;
    sources(root, &mut findings)?;
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} findings:\n{}", findings.len(), findings.join("\n"))
}

fn metadata(root: &Path) -> Result<Value> {
    let output = steps::command(root, "cargo", &["metadata", "--format-version", "1", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn row_of(name: &str) -> Option<usize> {
    ROWS.iter().position(|(crates, _)| crates.contains(&name))
}

fn layers(metadata: &Value, findings: &mut Vec<String>) -> Result<()> {
    let members: BTreeSet<&str> = texts(&metadata["workspace_members"]).collect();
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        if !members.contains(package["id"].as_str().unwrap_or_default()) {
            continue;
        }
        let name = package["name"].as_str().unwrap_or_default();
        let Some(row) = row_of(name) else {
            findings.push(format!("{name}: not in the table of layers (xtask/src/tidy.rs, ARCHITECTURE.md)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let is_dev = dependency["kind"].as_str() == Some("dev");
            let Some(other) = row_of(to) else { continue };
            let beside = ROWS[row].1.contains(&(name, to));
            if !is_dev && (other > row || (other == row && !beside)) {
                findings.push(format!("{name} depends on {to}, which is not above it"));
            }
            if !is_dev && to == "tacit-simulator" {
                findings.push(format!("{name} links the simulator; only tests may"));
            }
        }
    }
    Ok(())
}

fn licences(metadata: &Value, findings: &mut Vec<String>) -> Result<()> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        *versions.entry(name).or_default() += 1;
        let expression = package["license"].as_str().unwrap_or_default();
        if !licence_fits(expression) {
            findings.push(format!("{name}: licence `{expression}` is not on the list"));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|source| !source.starts_with("registry+")) {
            findings.push(format!("{name}: does not come from the crates registry"));
        }
    }
    Ok(())
}

/// Whether one alternative of an SPDX expression has only allowed licences.
fn licence_fits(expression: &str) -> bool {
    let allowed = |name: &str| LICENCES.contains(&name.trim().trim_matches(['(', ')']));
    let all = |group: &str| group.split(" AND ").all(|part| part.split(" OR ").any(allowed));
    let normal = expression.replace('/', " OR ");
    normal.split(" OR ").any(all) || all(&normal)
}

fn sources(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let output = steps::command(root, "git", &["ls-files", "--cached", "--others", "--exclude-standard"]).output()?;
    let listed = String::from_utf8(output.stdout)?;
    for file in listed.lines().map(PathBuf::from) {
        let name = file.to_string_lossy().into_owned();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let extension = file.extension().unwrap_or_default().to_string_lossy().into_owned();
        if !matches!(extension.as_str(), "rs" | "ts" | "sol") || !root.join(&file).exists() {
            continue;
        }
        let text = std::fs::read_to_string(root.join(&file)).with_context(|| name.clone())?;
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            findings.push(format!("{name}: {lines} lines; split it by noun (limit {LONGEST_FILE})"));
        }
        if stem == "main" && name.contains("/src/") && lines > LONGEST_MAIN && !name.starts_with("xtask/") {
            findings.push(format!("{name}: {lines} lines; a main has at most {LONGEST_MAIN}"));
        }
        if VAGUE.contains(&stem.as_str()) {
            findings.push(format!("{name}: name the concept instead of `{stem}`"));
        }
        if extension == "rs" {
            rust_source(&name, &text, findings);
        }
    }
    for entry in std::fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        if !folder.join("README.md").exists() {
            findings.push(format!("{}: a crate's README is its documentation; it has none", folder.display()));
        }
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml"))?;
        if !manifest.contains("[lints]\nworkspace = true") {
            findings.push(format!("{}: does not use the lints of the workspace", folder.display()));
        }
    }
    Ok(())
}

fn rust_source(name: &str, text: &str, findings: &mut Vec<String>) {
    let in_pure_source = PURE.iter().any(|pure| name.starts_with(&format!("crates/{pure}/src/")));
    let tests_begin = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    for (index, line) in text[..tests_begin].lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        let place = format!("{name}:{}", index + 1);
        if ["todo!(", "unimplemented!("].iter().any(|word| code.contains(word)) && !name.starts_with("xtask/") {
            findings.push(format!("{place}: unfinished"));
        }
        if in_pure_source && let Some(word) = IMPURE.iter().find(|word| code.contains(**word)) {
            findings.push(format!("{place}: `{word}` in a pure crate; take it as an argument"));
        }
    }
}

fn texts(array: &Value) -> impl Iterator<Item = &str> {
    array.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_read_as_expressions() {
        let check = |expression, expected| assert_eq!(licence_fits(expression), expected, "{expression}");
        check("MIT OR Apache-2.0", true);
        check("MIT/Apache-2.0", true);
        check("GPL-3.0 OR MIT", true);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("Apache-2.0 AND ISC", true);
        check("GPL-3.0", false);
        check("MIT AND GPL-3.0", false);
        check("", false);
    }

    #[test]
    fn a_clock_in_a_pure_crate_is_found() {
        let mut findings = Vec::new();
        rust_source("crates/tacit-types/src/x.rs", "fn now() { std::time::SystemTime::now(); }\n", &mut findings);
        assert_eq!(findings.len(), 1);
        findings.clear();
        rust_source("crates/tacit-worker/src/x.rs", "fn now() { std::time::SystemTime::now(); }\n", &mut findings);
        assert!(findings.is_empty());
    }
}
