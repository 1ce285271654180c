//! Commands that ask a node's models.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use tacit_receipt::aci::PrefixedDigest;

/// Which node, by what it is judged, and what is kept.
#[derive(Debug, Args)]
pub struct NodeArguments {
    /// The node: its https URL, or the folder of a `tacit serve` on this machine. Default: that of `tacit serve`.
    #[arg(long, value_name = "URL|DIR")]
    pub node: Option<String>,
    /// Judge the node by this: dev, standard, high, or a policy file. Default: the policy in the node's folder, else standard.
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// File with the API key. Default: the one in the node's folder.
    #[arg(long, value_name = "FILE")]
    pub api_key: Option<PathBuf>,
    /// Where transcripts are kept.
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// What is kept: requests and answers in full, or only the receipts with their hashes.
    #[arg(long, value_enum, default_value_t = KeepArgument::Full)]
    pub keep: KeepArgument,
    /// Only a model or adapter with this digest may answer (may be repeated).
    #[arg(long = "model-digest", value_name = "sha256:…")]
    pub model_digests: Vec<PrefixedDigest>,
}

/// What is kept of requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeepArgument {
    /// The bytes.
    Full,
    /// Hashes alone.
    Hashes,
}

/// `tacit proxy`.
#[derive(Debug, Args)]
pub struct ProxyArguments {
    /// Address to listen on. One that others can reach needs --local-key-file.
    #[arg(long, default_value = "127.0.0.1:8787", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// File with a key that callers must present as bearer token.
    #[arg(long, value_name = "FILE")]
    pub local_key_file: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// `tacit chat`.
#[derive(Debug, Args)]
pub struct ChatArguments {
    /// What to say. Without it, lines are read until /quit.
    pub message: Option<String>,
    /// The model, by name. Default: the first that the node offers.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// What the model is told before everything else.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Most tokens of an answer.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// Randomness, from 0 (none) to 2.
    #[arg(long, value_name = "NUMBER", value_parser = temperature)]
    pub temperature: Option<f64>,
    /// Seed of the randomness: the same seed on the same model and engine gives the same answer.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Print JSON with answer, verdict and receipt.
    #[arg(long, requires = "message")]
    pub json: bool,
    /// Keep the transcript of the last answer in this file.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArguments,
}

fn temperature(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=2.0).contains(&number) { Ok(number) } else { Err("from 0 to 2".to_owned()) }
}

/// `tacit audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check a period's transcripts against policy and log, list exceptions, sum up usage and prices; exit status 3 with exceptions.
    #[command(
        after_help = "Examples:\n  tacit audit export --from 2026-11-01T00:00:00Z --to 2026-11-30T23:59:59Z --out november.json\n  tacit audit export --from 1793491200 --to 1796083199 --json"
    )]
    Export(AuditArguments),
}

/// `tacit audit export`.
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// First second: unix seconds or YYYY-MM-DDTHH:MM:SSZ.
    #[arg(long, value_name = "TIME")]
    pub from: String,
    /// Last second.
    #[arg(long, value_name = "TIME")]
    pub to: String,
    /// The transcripts.
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// The node that serves the logs: its https URL, or the folder of a `tacit serve`. Default: that of `tacit serve`.
    #[arg(long, value_name = "URL|DIR")]
    pub node: Option<String>,
    /// Judge by this: dev, standard, high, or a policy file. Default: the policy in the node's folder, else standard.
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// Write the report (canonical JSON, not signed) to this file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}
