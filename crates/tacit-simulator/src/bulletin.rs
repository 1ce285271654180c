//! What the simulated vendors publish about their machines: data of the vendor, which no verifier reads but by its signature.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tacit_types::UnixTime;

use crate::quote::{CPU_SVN, FMSPC, PCE_ID};
use crate::{SimulatorError, files};

/// The folder's file that holds it; absent as long as nothing is wrong.
const FILE: &str = "bulletin.json";
const VERSION: u32 = 1;
/// Seconds by which collateral is dated back, so that a verifier whose clock is behind accepts it.
pub(crate) const BACKDATED: u64 = 300;
pub(crate) const DAY: u64 = 86_400;

/// What the simulated vendors say about their machines, now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bulletin {
    /// The version of this form, 1.
    pub version: u32,
    /// When the documents were issued; shortly before they are asked for where this is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued: Option<UnixTime>,
    /// Seconds for which they are valid. Intel's are for 30 days.
    pub lifetime: u64,
    /// Processor family that the documents are about.
    pub fmspc: [u8; 6],
    /// Provisioning enclave that they are about.
    pub pce_id: [u8; 2],
    /// TCB levels, newest first.
    pub tcb_levels: Vec<PublishedLevel>,
    /// The number that Intel raises with every change of its TCB documents.
    pub evaluation_number: u32,
    /// The number of every revocation list.
    pub crl_number: u32,
    /// Chips whose certificates are revoked, as a machine names its chip. AMD revokes no single chips: Intel's only.
    pub revoked_chips: Vec<String>,
    /// Authorities whose certificates are revoked.
    pub revoked_authorities: Vec<RevocableAuthority>,
    /// Another quoting enclave's name in its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quoting_enclave: Option<String>,
    /// Another signer of the quoting enclave in its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quoting_enclave_signer: Option<[u8; 32]>,
}

/// One TCB level of Intel's documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedLevel {
    /// The security version that the first component needs.
    pub needed_svn: u8,
    /// The status of machines at this level, as `UpToDate` or `OutOfDate`.
    pub status: String,
    /// Advisories that apply to them.
    #[serde(default)]
    pub advisories: Vec<String>,
}

/// An authority that a vendor can revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RevocableAuthority {
    /// Certifies the keys of TDX machines.
    PckPlatform,
    /// Certifies the keys of SGX machines.
    PckProcessor,
    /// Certifies the keys of AMD chips.
    Ask,
    /// Certifies the keys that AMD gives to cloud operators.
    Asvk,
}

impl Default for Bulletin {
    fn default() -> Self {
        let level = |needed_svn, status: &str| PublishedLevel { needed_svn, status: status.into(), advisories: vec![] };
        Self {
            version: VERSION,
            issued: None,
            lifetime: 30 * DAY,
            fmspc: FMSPC,
            pce_id: PCE_ID,
            tcb_levels: vec![level(CPU_SVN[0], "UpToDate"), level(1, "OutOfDate")],
            evaluation_number: 1,
            crl_number: 1,
            revoked_chips: vec![],
            revoked_authorities: vec![],
            quoting_enclave: None,
            quoting_enclave_signer: None,
        }
    }
}

impl Bulletin {
    /// Sets the status of today's firmware, and the advisories that apply to it.
    pub fn with_status(mut self, status: &str, advisories: &[String]) -> Self {
        if let Some(level) = self.tcb_levels.first_mut() {
            (level.status, level.advisories) = (status.to_owned(), advisories.to_vec());
        }
        self
    }

    /// First and last second of the documents that are handed out at `now`.
    pub(crate) fn dates(&self, now: UnixTime) -> (UnixTime, UnixTime) {
        let issued = self.issued.unwrap_or(now.minus(BACKDATED));
        (issued, issued.plus(self.lifetime))
    }

    pub(crate) fn revokes(&self, authority: RevocableAuthority) -> bool {
        self.revoked_authorities.contains(&authority)
    }

    /// Reads what is published in a root's folder.
    pub(crate) fn read(directory: &Path) -> Result<Self, SimulatorError> {
        let path = directory.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        serde_json::from_slice::<Self>(&files::read(&path)?)
            .ok()
            .filter(|bulletin| bulletin.version == VERSION)
            .ok_or(SimulatorError::Content { path, expected: "a bulletin of version 1" })
    }

    /// Publishes in a root's folder.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), SimulatorError> {
        files::write(
            &directory.join(FILE),
            &serde_json::to_vec_pretty(self).expect("numbers and text have a JSON form"),
        )
    }
}
