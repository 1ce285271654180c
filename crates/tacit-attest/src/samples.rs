//! Real evidence as `make evidence` gathers it: an index, and files beside it.
//!
//! Reading files is the caller's business; this module only says which, and what is in them.

use serde::Deserialize;
use tacit_types::UnixTime;
use tacit_types::eip712::Platform;

use crate::evidence::{AmdCollateral, Collateral, Evidence, IntelCollateral, NitroCollateral};
use crate::{AttestError, MAX_JSON, der};

/// Name of the index file, in `${XDG_CACHE_HOME:-~/.cache}/tacit/evidence`.
pub const INDEX: &str = "index.json";

/// The index: what was gathered, and what could not be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The version of this form, 1.
    pub version: u32,
    /// What was gathered.
    pub samples: Vec<Entry>,
    /// Evidence of NVIDIA GPUs that was gathered.
    #[serde(default)]
    pub gpus: Vec<FileEntry>,
    /// NVIDIA's reference manifests that were gathered.
    #[serde(default)]
    pub manifests: Vec<FileEntry>,
    /// Names of samples whose source was not at hand.
    #[serde(default)]
    pub absent: Vec<String>,
}

/// One sample's line in the index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Short name, as `intel-tdx-v4`.
    pub name: String,
    /// The kind of evidence.
    pub kind: Platform,
    /// Name on the screen.
    pub title: String,
    /// File with the quote or report.
    pub file: String,
    /// Files with the collateral.
    pub collateral: CollateralFiles,
    /// The time at which it is judged, `YYYY-MM-DDTHH:MM:SSZ`.
    pub at: String,
    /// Where it came from.
    pub source: String,
    /// Licence of the source.
    pub licence: String,
}

/// The line of a file that needs no other: evidence of GPUs as NVIDIA's tools list it, or a reference manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Short name, as `nvidia-hopper-550`.
    pub name: String,
    /// Name on the screen.
    pub title: String,
    /// The file.
    pub file: String,
    /// The time at which it is judged, `YYYY-MM-DDTHH:MM:SSZ`.
    pub at: String,
    /// Where it came from.
    pub source: String,
    /// Licence of the source.
    pub licence: String,
}

impl FileEntry {
    /// The time at which it is judged.
    ///
    /// # Errors
    /// [`AttestError::Malformed`] for another form.
    pub fn judged_at(&self) -> Result<UnixTime, AttestError> {
        der::parse_time("index of samples", &self.at)
    }
}

/// Files with a sample's collateral.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum CollateralFiles {
    /// JSON as DCAP tools write it.
    Intel {
        /// The file.
        file: String,
    },
    /// Certificates, PEM or DER.
    Amd {
        /// File of the ASK certificate.
        ask: String,
        /// File of the VCEK certificate.
        vcek: String,
    },
    /// None: the document carries its certificates.
    Nitro,
}

/// Real evidence with all that is needed to judge it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Short name.
    pub name: String,
    /// Name on the screen.
    pub title: String,
    /// The evidence.
    pub evidence: Evidence,
    /// Its collateral.
    pub collateral: Collateral,
    /// The time at which it is judged.
    pub at: UnixTime,
}

impl Index {
    /// Reads the index.
    ///
    /// # Errors
    /// [`AttestError::Oversized`], [`AttestError::Malformed`] or [`AttestError::Unsupported`].
    pub fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        crate::evidence::bounded("index of samples", bytes.len(), MAX_JSON)?;
        let index: Self = serde_json::from_slice(bytes)
            .map_err(|error| AttestError::Malformed { what: "index of samples", detail: error.to_string() })?;
        if index.version != 1 {
            return Err(AttestError::Unsupported { what: "index version", found: index.version });
        }
        Ok(index)
    }
}

impl Entry {
    /// Puts a sample together; `read` returns the content of a file beside the index.
    ///
    /// # Errors
    /// What `read` returns, or [`AttestError`] turned into it.
    pub fn load<E: From<AttestError>>(&self, mut read: impl FnMut(&str) -> Result<Vec<u8>, E>) -> Result<Sample, E> {
        let document = read(&self.file)?;
        let collateral = match &self.collateral {
            CollateralFiles::Intel { file } => {
                Collateral::Intel(Box::new(IntelCollateral::from_dcap_json(&read(file)?)?))
            }
            CollateralFiles::Amd { ask, vcek } => {
                let (ask, vcek) = (one_certificate(read(ask)?)?, one_certificate(read(vcek)?)?);
                Collateral::Amd(Box::new(AmdCollateral::new(ask, vcek)))
            }
            CollateralFiles::Nitro => Collateral::Nitro(NitroCollateral::default()),
        };
        Ok(Sample {
            name: self.name.clone(),
            title: self.title.clone(),
            evidence: Evidence::new(self.kind, document, None)?,
            collateral,
            at: der::parse_time("index of samples", &self.at)?,
        })
    }
}

/// A certificate in DER, from PEM or DER.
fn one_certificate(bytes: Vec<u8>) -> Result<Vec<u8>, AttestError> {
    if bytes.starts_with(b"-----BEGIN") {
        der::certificates_in_pem("certificate", &bytes).map(|mut certificates| certificates.remove(0))
    } else {
        Ok(bytes)
    }
}
