//! Runs named steps one after another and reports how long each took.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The build folder: `CARGO_TARGET_DIR`, else `~/.cache/tacit/target`.
pub fn target_dir() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache_dir().join("target"), Into::into)
}

/// `${XDG_CACHE_HOME:-~/.cache}/tacit`.
pub fn cache_dir() -> std::path::PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache"), Into::into)
        .join("tacit")
}

/// A command in the workspace root with the build folder set.
pub fn command(root: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root).env("CARGO_TARGET_DIR", target_dir());
    command
}

/// Runs a command and fails if it does.
///
/// # Errors
/// When the program cannot be started or exits with another status than 0.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("could not start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Steps with their outcomes and times.
#[derive(Default)]
pub struct Report {
    finished: Vec<(String, Duration, Option<String>)>,
}

impl Report {
    /// Runs one step, prints its outcome and goes on whatever it was.
    pub fn step(&mut self, name: &str, action: impl FnOnce() -> Result<()>) {
        eprintln!("── {name}");
        let start = Instant::now();
        let error = action().err().map(|error| format!("{error:#}"));
        let elapsed = start.elapsed();
        match &error {
            None => eprintln!("   ok, {:.1} s", elapsed.as_secs_f64()),
            Some(error) => eprintln!("   FAILED after {:.1} s: {error}", elapsed.as_secs_f64()),
        }
        self.finished.push((name.to_owned(), elapsed, error));
    }

    /// Prints the slowest ten steps, every failure, and the closing count.
    ///
    /// # Errors
    /// When a step failed.
    pub fn finish(mut self) -> Result<()> {
        self.finished.sort_by_key(|(_, elapsed, _)| std::cmp::Reverse(*elapsed));
        println!("slowest steps:");
        for (name, elapsed, _) in self.finished.iter().take(10) {
            println!("{:8.1} s  {name}", elapsed.as_secs_f64());
        }
        let failures: Vec<_> =
            self.finished.iter().filter_map(|(name, _, error)| error.as_ref().map(|e| (name, e))).collect();
        for (name, error) in &failures {
            println!("FAILED: {name}: {error}");
        }
        println!("{} passed, {} failed", self.finished.len() - failures.len(), failures.len());
        if failures.is_empty() { Ok(()) } else { bail!("{} of {} steps failed", failures.len(), self.finished.len()) }
    }
}
