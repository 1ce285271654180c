//! The example's rows and what plain Node answers on them.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};

/// One held-out row.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its number in the data set.
    pub index: u32,
    /// The label.
    pub malignant: bool,
    /// The body to send.
    pub request: String,
    /// What plain Node answers.
    pub answer: String,
    /// A text that stands in this row and in no other.
    pub marker: String,
}

/// The whole held-out file; what the script prints besides is for contracts.
#[derive(Debug, Clone, Deserialize)]
pub struct WholeFile {
    /// The body of `validate`.
    pub request: String,
    /// The verdict, as plain Node gives it.
    pub answer: String,
}

/// The held-out rows with plain Node's answers.
pub fn rows(example: &Path) -> Result<Vec<Row>> {
    let text = node(example, &["rows"])?;
    let rows: Vec<Row> = text.lines().map(parse).collect::<Result<_>>()?;
    if rows.is_empty() {
        bail!("reference.mjs gave no rows");
    }
    Ok(rows)
}

/// The whole file under a salt.
pub fn whole_file(example: &Path, salt: &str) -> Result<WholeFile> {
    parse(node(example, &["file", "--salt", salt])?.trim())
}

fn node(example: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("node").arg(example.join("reference.mjs")).args(arguments).output();
    let output = output.context("could not start node")?;
    if !output.status.success() {
        bail!("reference.mjs: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("reference.mjs printed bytes that are not text")
}

fn parse<T: DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line).context("reference.mjs printed another form")
}
