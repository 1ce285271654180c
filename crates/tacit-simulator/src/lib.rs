#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod amd;
mod bulletin;
mod der;
mod documents;
mod files;
mod hardware;
mod http;
mod machine;
mod measure;
mod quote;
#[cfg(test)]
mod refusals;
mod root;
mod snp;

use std::path::PathBuf;

pub use amd::AmdRoot;
pub use bulletin::{Bulletin, PublishedLevel, RevocableAuthority};
pub use hardware::{EndorsementKey, Flaws, Generation, Hardware};
pub use http::{RunningSimulator, Simulator};
pub use machine::{Machine, Setup};
pub use measure::{GuestFiles, Registers, measure_executable, measure_executable_on};
pub use root::Root;

/// Why a simulated machine could not be made, opened or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulatorError {
    /// A file of the root or the machine.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder already holds a root.
    #[error("{path} already holds a root")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{path} does not hold {expected}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A certificate or revocation list could not be made.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A part of a certificate has no encoding.
    #[error("a certificate could not be encoded")]
    Encoding(#[from] x509_cert::der::Error),
    /// A key could not be made or used.
    #[error("a key could not be made or used")]
    Key,
    /// The root has no AMD part.
    #[error("{path} holds no AMD root")]
    NoAmdRoot {
        /// The root's folder.
        path: PathBuf,
    },
    /// The folder holds a machine that plays other hardware.
    #[error("the machine in {path} plays {plays}")]
    OtherHardware {
        /// The folder.
        path: PathBuf,
        /// What it plays.
        plays: &'static str,
    },
    /// Evidence of ours that the format refuses.
    #[error(transparent)]
    Attest(#[from] tacit_attest::AttestError),
    /// The policy form refuses our root.
    #[error(transparent)]
    Policy(#[from] tacit_attest::PolicyError),
    /// A path longer than a socket's name may be, or one without a folder.
    #[error("{path} cannot be the name of a socket")]
    SocketPath {
        /// The path.
        path: PathBuf,
    },
}
