//! `tacit-simulator`: one simulated machine as a process, and the vendors of a simulated network.

mod arguments;
mod commands;

use std::time::SystemTime;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use tacit_types::UnixTime;

use arguments::Cli;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let now = UnixTime(
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?.as_secs(),
    );
    match Cli::parse() {
        Cli { command: Some(command), .. } => commands::run(command, now),
        Cli { serve: Some(serve), .. } => commands::serve(serve, now).await,
        Cli { .. } => anyhow::bail!("nothing to do: see --help"),
    }
}
