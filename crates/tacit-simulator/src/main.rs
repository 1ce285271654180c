//! `tacit-simulator`: one simulated machine as a process, and the root of a simulated network.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use tacit_simulator::{Machine, Root, Simulator, measure_executable};
use tacit_types::UnixTime;
use tokio::signal::unix::{SignalKind, signal};

/// A simulated TDX machine under a root of its own. It proves nothing about hardware.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<Serve>,
}

#[derive(Subcommand)]
enum Command {
    /// Make the root of a simulated network.
    InitRoot {
        /// Folder for certificates and keys.
        #[arg(long)]
        dir: PathBuf,
        /// The network's name.
        #[arg(long, default_value = "local")]
        name: String,
    },
    /// Print the measurement of an executable, for a policy.
    Measure {
        /// The executable.
        #[arg(long)]
        executable: PathBuf,
        /// Guest files, in order.
        #[arg(long = "guest-file")]
        guest_files: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct Serve {
    /// Folder of the machine: its chip and its sealing secret.
    #[arg(long, required = true)]
    dir: PathBuf,
    /// Unix socket to serve.
    #[arg(long, required = true)]
    socket: PathBuf,
    /// Folder of the root.
    #[arg(long, required = true)]
    root: PathBuf,
    /// The machine's name.
    #[arg(long, required = true)]
    name: String,
    /// Guest files to measure, in order.
    #[arg(long = "guest-file")]
    guest_files: Vec<PathBuf>,
}

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
