#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attestation;
mod certificate_table;
mod configfs;
mod detect;
mod gpus;
mod gramine;
mod guest_socket;
mod needs;
mod sev_guest;

use std::path::Path;

use tacit_attest::{AttestError, Collateral, Evidence};
use zeroize::Zeroizing;

pub use certificate_table::CertificateTable;
pub use configfs::ConfigfsTsm;
pub use detect::{Device, Found, LOOKED_FOR, detect};
pub use gpus::GpuCommand;
pub use gramine::Gramine;
pub use guest_socket::{AgentVersion, GuestInfo, GuestSocket};
pub use needs::{Needs, needs};
pub use sev_guest::SevGuest;

/// Why the machine gave no evidence or key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// The guest agent's socket cannot be reached.
    #[error("guest agent at {path} cannot be reached")]
    Connect {
        /// Where the socket was expected.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The guest agent broke off or does not speak HTTP.
    #[error("guest agent: {method} failed")]
    Http {
        /// The method asked.
        method: &'static str,
        /// What the connection said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The guest agent took too long.
    #[error("guest agent: {method} gave no answer within {seconds} s")]
    Timeout {
        /// The method asked.
        method: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// The guest agent refused.
    #[error("guest agent refused {method} with status {status}: {reason}")]
    Refused {
        /// The method asked.
        method: &'static str,
        /// The HTTP status.
        status: u16,
        /// What it said, at most 200 characters.
        reason: String,
    },
    /// The answer has another shape than the interface says.
    #[error("{method} answered with {what}")]
    Answer {
        /// The method asked.
        method: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The quote is over other data than asked for.
    #[error("the quote is over other data than asked for")]
    OtherReportData,
    /// The evidence is not usable.
    #[error(transparent)]
    Evidence(#[from] AttestError),
    /// A file of the kernel's interface could not be used.
    #[error("{path}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else wrote to the report entry in between.
    #[error("the report entry changed while it was read")]
    Raced,
    /// The firmware or the hypervisor refused.
    #[error("{who} refused with code {code:#x}")]
    Firmware {
        /// Which of them.
        who: &'static str,
        /// Its code.
        code: u32,
    },
    /// The hardware or its interface cannot do this.
    #[error("{platform} has no {what}")]
    Unsupported {
        /// Which platform.
        platform: String,
        /// What it lacks.
        what: &'static str,
    },
}

/// A key that only this code on this machine obtains again: wiped when dropped, never printed.
pub struct SealKey(Zeroizing<[u8; 32]>);

impl SealKey {
    pub(crate) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// The key's bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The machine that this process runs on.
#[derive(Debug, Clone)]
pub enum Driver {
    /// A guest agent on a Unix socket.
    GuestSocket(GuestSocket),
    /// The kernel's report interface.
    ConfigfsTsm(ConfigfsTsm),
    /// The SEV-SNP guest's device, of kernels without the report interface.
    SevGuest(SevGuest),
    /// Gramine, around this process.
    Gramine(Gramine),
}

impl Driver {
    /// The interface that the machine with this root of the file system (`/` outside tests) offers to this very process:
    /// Gramine's if there is one, then the kernel's newer and older one. A guest agent's socket is never chosen unasked.
    pub fn find(root: &Path) -> Option<Self> {
        Gramine::open(root)
            .map(Self::Gramine)
            .or_else(|| ConfigfsTsm::open(root).map(Self::ConfigfsTsm))
            .or_else(|| SevGuest::open(root).map(Self::SevGuest))
    }

    /// Evidence over `report_data`.
    ///
    /// # Errors
    /// [`PlatformError`]; in particular [`PlatformError::OtherReportData`] if the machine signed something else.
    pub async fn quote(&self, report_data: &[u8; 64]) -> Result<Evidence, PlatformError> {
        match self {
            Self::GuestSocket(socket) => socket.quote(report_data).await,
            Self::ConfigfsTsm(configfs) => configfs.quote(report_data).await,
            Self::SevGuest(device) => device.quote(report_data).await,
            Self::Gramine(gramine) => gramine.quote(report_data).await,
        }
    }

    /// The key for `label` that the same code obtains on the same machine after a restart.
    ///
    /// # Errors
    /// [`PlatformError::Unsupported`] where the platform has no sealing; otherwise as [`GuestSocket::seal_key`].
    pub async fn seal_key(&self, label: &str) -> Result<SealKey, PlatformError> {
        match self {
            Self::GuestSocket(socket) => socket.seal_key(label).await,
            Self::Gramine(gramine) => gramine.seal_key(label).await,
            Self::ConfigfsTsm(_) | Self::SevGuest(_) => Err(self.lacks("sealing key")),
        }
    }

    /// Collateral for this machine's evidence, where the machine hands it out itself.
    ///
    /// # Errors
    /// [`PlatformError::Unsupported`] where it must be fetched from the vendor.
    pub async fn collateral(&self) -> Result<Collateral, PlatformError> {
        match self {
            Self::GuestSocket(socket) => socket.collateral().await,
            Self::ConfigfsTsm(configfs) => configfs.collateral().await,
            Self::SevGuest(device) => device.collateral().await,
            Self::Gramine(_) => Err(self.lacks("collateral")),
        }
    }

    fn lacks(&self, what: &'static str) -> PlatformError {
        let platform = match self {
            Self::GuestSocket(_) => "this guest agent",
            Self::ConfigfsTsm(_) => "the kernel's report interface",
            Self::SevGuest(_) => "the SEV-SNP guest's device",
            Self::Gramine(_) => "Gramine",
        };
        PlatformError::Unsupported { platform: platform.into(), what }
    }
}
