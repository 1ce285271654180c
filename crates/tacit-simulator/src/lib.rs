#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod der;
mod files;
mod http;
mod machine;
mod measure;
#[cfg(test)]
mod mistakes;
mod quote;
#[cfg(test)]
mod refusals;
mod root;

use std::path::PathBuf;

pub use http::{RunningSimulator, Simulator};
pub use machine::Machine;
pub use measure::{GuestFiles, Registers, measure_executable};
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
