//! Which hardware a machine plays, and what is wrong with it.

use serde::{Deserialize, Serialize};

/// The hardware that a machine plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hardware {
    /// An Intel machine that runs trust domains.
    #[default]
    Tdx,
    /// An Intel machine that runs enclaves.
    Sgx,
    /// An AMD machine that runs SEV-SNP guests.
    SevSnp {
        /// The processor's generation.
        generation: Generation,
        /// The kind of key that signs its reports.
        key: EndorsementKey,
    },
}

impl Hardware {
    /// The name on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tdx => "tdx",
            Self::Sgx => "sgx",
            Self::SevSnp { generation: Generation::Genoa, .. } => "sev-snp (Genoa)",
            Self::SevSnp { generation: Generation::Turin, .. } => "sev-snp (Turin)",
        }
    }
}

/// A generation of AMD EPYC processors; their reports and certificates differ in shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    /// Fourth generation: report version 3, chip number of 64 bytes.
    #[default]
    Genoa,
    /// Fifth generation: report version 5, chip number of 8 bytes, one more firmware component.
    Turin,
}

/// The kind of key that signs an AMD machine's reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EndorsementKey {
    /// The key of the chip (VCEK).
    #[default]
    Vcek,
    /// A key that the vendor gave to a cloud operator for its machines (VLEK).
    Vlek,
}

/// What is wrong with a machine, so that tests and drills can see it refused.
///
/// These are properties of the machine, as on real hardware. No verifier knows of them but by the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flaws {
    /// Its guests are started for debugging: the host can read them.
    pub debug: bool,
    /// Its firmware is one version behind.
    pub old_firmware: bool,
}
