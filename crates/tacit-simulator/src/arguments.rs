//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tacit_simulator::{EndorsementKey, Flaws, Generation, Hardware, RevocableAuthority};

/// A simulated machine (Intel TDX, Intel SGX or AMD SEV-SNP) under a root of its own. It proves nothing about hardware.
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
        /// Machines that it will certify. The keys for `snp` take seconds to make; a root that has none gets them.
        #[arg(long = "platform", value_enum, default_values_t = [Platform::Tdx])]
        platforms: Vec<Platform>,
    },
    /// Print the measurement of an executable, for a policy.
    Measure {
        /// The executable.
        #[arg(long)]
        executable: PathBuf,
        /// Guest files, in order.
        #[arg(long = "guest-file")]
        guest_files: Vec<PathBuf>,
        /// The kind of machine that will run it.
        #[arg(long, value_enum, default_value_t)]
        platform: Platform,
    },
    /// Let the simulated vendors say something about their machines, in place of what they said before. Without options: that
    /// all is well.
    Publish(Publish),
}

#[derive(Args)]
pub struct Publish {
    /// Folder of the root.
    #[arg(long)]
    pub root: PathBuf,
    /// Status of today's Intel firmware, as OutOfDate or Revoked.
    #[arg(long, default_value = "UpToDate")]
    pub status: String,
    /// An advisory that applies to it, as INTEL-SA-00001.
    #[arg(long = "advisory")]
    pub advisories: Vec<String>,
    /// Number of Intel's TCB documents.
    #[arg(long, default_value_t = 1)]
    pub evaluation_number: u32,
    /// Number of the revocation lists.
    #[arg(long, default_value_t = 1)]
    pub crl_number: u32,
    /// An Intel chip whose certificate is revoked, as `/Info` names it (`device_id`).
    #[arg(long = "revoke-chip")]
    pub revoked_chips: Vec<String>,
    /// An authority that is revoked.
    #[arg(long = "revoke-authority", value_enum)]
    pub revoked_authorities: Vec<RevocableAuthority>,
    /// When the documents were issued, in seconds since 1970; otherwise shortly before they are asked for.
    #[arg(long)]
    pub issued: Option<u64>,
    /// Seconds for which they are valid.
    #[arg(long, default_value_t = 30 * 86_400)]
    pub lifetime: u64,
}

/// What a machine can play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Platform {
    /// Intel TDX.
    #[default]
    Tdx,
    /// Intel SGX.
    Sgx,
    /// AMD SEV-SNP.
    Snp,
}

impl Platform {
    /// The hardware, with the choices that only AMD machines have.
    pub fn hardware(self, generation: Generation, key: EndorsementKey) -> Hardware {
        match self {
            Self::Tdx => Hardware::Tdx,
            Self::Sgx => Hardware::Sgx,
            Self::Snp => Hardware::SevSnp { generation, key },
        }
    }
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
    /// What the machine plays, for its whole life.
    #[arg(long, value_enum, default_value_t)]
    pub platform: Platform,
    /// Generation of an AMD machine.
    #[arg(long, value_enum, default_value_t)]
    pub generation: Generation,
    /// Key that signs an AMD machine's reports.
    #[arg(long, value_enum, default_value_t)]
    pub endorsement_key: EndorsementKey,
    /// Play a machine whose guests are started for debugging. Verifiers refuse it.
    #[arg(long)]
    pub debug_guest: bool,
    /// Play a machine whose firmware is one version behind. Policies decide about it.
    #[arg(long)]
    pub old_firmware: bool,
}

impl Serve {
    /// What is wrong with the machine.
    pub fn flaws(&self) -> Flaws {
        Flaws { debug: self.debug_guest, old_firmware: self.old_firmware }
    }
}
