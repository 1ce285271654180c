//! `tacit-simulator`: one simulated machine as a process, and the root of a simulated network.

mod arguments;

use std::time::SystemTime;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use tacit_simulator::{Machine, Root, Simulator, measure_executable};
use tacit_types::UnixTime;
use tokio::signal::unix::{SignalKind, signal};

use arguments::{Cli, Command, Serve};

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let now = UnixTime(
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?.as_secs(),
    );
    let cli = Cli::parse();
    match (cli.command, cli.serve) {
        (Some(Command::InitRoot { dir, name }), _) => {
            let root = Root::create(&dir, &name, now)?;
            println!("{}", serde_json::json!({ "root": root.id(), "certificate": dir.join(Root::CERTIFICATE) }));
        }
        (Some(Command::Measure { executable, guest_files }), _) => {
            println!("{}", measure_executable(&executable, &guest_files)?)
        }
        (None, Some(serve)) => run(serve, now).await?,
        (None, None) => anyhow::bail!("nothing to do: see --help"),
    }
    Ok(())
}

/// Serves until it is told to stop.
async fn run(serve: Serve, now: UnixTime) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let machine = Machine::open(&serve.dir, Root::open(&serve.root)?, &serve.name, &serve.guest_files, now)?;
    let running = Simulator::start(machine, &serve.socket)?;
    println!(
        "{}",
        serde_json::json!({ "ready": true, "chip": running.machine().chip(), "root": running.machine().root().id() })
    );
    tokio::select! {
        _ = terminate.recv() => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    running.stop().await;
    Ok(())
}
