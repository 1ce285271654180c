//! Runs the `tacit` command as a user would.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

/// The `tacit` binary and the network that its commands mean.
#[derive(Debug, Clone)]
pub struct Tool {
    binary: PathBuf,
    network: PathBuf,
    data: PathBuf,
}

impl Tool {
    /// Commands of `binary` that keep everything below `folder`.
    pub fn new(binary: PathBuf, folder: &Path) -> Self {
        Self { binary, network: folder.join("demo"), data: folder.join("data") }
    }

    /// The folder in which commands keep what belongs to no network: models, transcripts.
    pub fn data(&self) -> PathBuf {
        self.data.join("tacit")
    }

    /// The network's folder.
    pub fn network(&self) -> &Path {
        &self.network
    }

    /// The binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// A command that is not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("TACIT_DIR", &self.network).env("XDG_DATA_HOME", &self.data);
        command.env_remove("TACIT_KEY").stdin(Stdio::null());
        command
    }

    /// Runs a command and returns what it printed, whatever its status.
    pub fn output(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments).output().with_context(|| format!("could not start {}", self.binary.display()))
    }

    /// Runs a command that must succeed.
    pub fn run(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.output(arguments)?;
        if !output.status.success() {
            bail!(
                "tacit {}: {}\n{}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output.stdout)
    }

    /// Runs a command with `--json` that must succeed and reads its answer.
    pub fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let stdout = self.run(&[arguments, &["--json"]].concat())?;
        serde_json::from_slice(&stdout)
            .with_context(|| format!("tacit {} --json printed something else", arguments.join(" ")))
    }
}
