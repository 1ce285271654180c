//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A simulated TDX machine under a root of its own. It proves nothing about hardware.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: Option<Serve>,
}

#[derive(Subcommand)]
pub enum Command {
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
pub struct Serve {
    /// Folder of the machine: its chip and its sealing secret.
    #[arg(long, required = true)]
    pub dir: PathBuf,
    /// Unix socket to serve.
    #[arg(long, required = true)]
    pub socket: PathBuf,
    /// Folder of the root.
    #[arg(long, required = true)]
    pub root: PathBuf,
    /// The machine's name.
    #[arg(long, required = true)]
    pub name: String,
    /// Guest files to measure, in order.
    #[arg(long = "guest-file")]
    pub guest_files: Vec<PathBuf>,
}
