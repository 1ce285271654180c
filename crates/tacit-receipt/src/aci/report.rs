//! The attestation report (section 4). Nothing in it is signed as a whole: each member that counts is bound by the quote.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tacit_types::eip712::{Certificate, Platform};
use tacit_types::keyset::{Keyset, report_data};
use tacit_types::quorum::IndexedSignature;
use tacit_types::{Digest, KeysetDigest};

use super::{API_VERSION, AciError, BareDigest, PrefixedDigest};

/// Most bytes of a report that is read.
pub const MAX_REPORT: usize = 2 * 1024 * 1024;
/// Longest text of a provenance.
const MAX_PROVENANCE: usize = 1024;

/// What a service says about itself under a nonce; nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationReport {
    /// [`API_VERSION`].
    pub api_version: String,
    /// Digest of the keyset, said twice so that a report can be told by it; readers compute it.
    pub workload_keyset_digest: PrefixedDigest,
    /// Keys and evidence.
    pub attestation: Attestation,
    /// What the service offers.
    #[serde(default)]
    pub service_capabilities: ServiceCapabilities,
}

/// Keys, and the evidence that they were born in a TEE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// `tdx` or `sev_snp`; of Tacit's own `sgx` and `nitro`. See [`tee_type`].
    pub tee_type: String,
    /// The keys.
    pub workload_keyset: Keyset,
    /// SHA-256 of the statement over keyset and nonce: the first half of the quote's report data.
    pub report_data: BareDigest,
    /// Where code and image come from, by the service's word.
    #[serde(default)]
    pub source_provenance: Option<SourceProvenance>,
    /// The evidence.
    #[serde(default)]
    pub evidence: ReportEvidence,
}

/// Where the attested code comes from. It counts only as far as something measured says the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceProvenance {
    /// Address of the repository.
    #[serde(default)]
    pub repo_url: Option<String>,
    /// The commit.
    #[serde(default)]
    pub repo_commit: Option<String>,
    /// Digest of the image, `sha256:…`.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// Further material, read by policies that know it.
    #[serde(default)]
    pub image_provenance: Value,
}

/// Evidence in the members that dstack's services use, and Tacit's own beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportEvidence {
    /// The quote, report or document that the hardware signed: lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// The 64 bytes of the quote's report data: lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_report_data: Option<String>,
    /// The event log of a trust domain: an array of events, as JSON in a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_log: Option<String>,
    /// The document that describes the application; its SHA-256 is measured as `compose-hash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_compose: Option<String>,
    /// How the machine is built: JSON in a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_config: Option<Value>,
    /// What a verifier of Tacit's needs besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tacit: Option<TacitEvidence>,
    /// Members of other services.
    #[serde(flatten)]
    pub further: Map<String, Value>,
}

/// What makes `quote` evidence that can be judged without asking anybody: its kind, what vouches for it, and the cluster's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TacitEvidence {
    /// Kind of the evidence in `quote`.
    pub kind: Platform,
    /// Boot log of a trust domain (CCEL), base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_log: Option<String>,
    /// Collateral in the JSON form of `tacit-attest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<Value>,
    /// The cluster's certificate for this keyset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatement>,
}

/// A worker certificate with its signatures; its keyset is the report's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateStatement {
    /// The certificate.
    pub certificate: Certificate,
    /// Signatures of gatekeepers over the certificate's digest, indices rising.
    pub signatures: Vec<IndexedSignature>,
}

/// What a service offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCapabilities {
    /// Versions of end-to-end encryption that end in the service: `["2"]` or none.
    #[serde(default)]
    pub supported_e2ee_versions: Vec<String>,
    /// Who runs the model.
    #[serde(default)]
    pub serving: Serving,
}

impl Default for ServiceCapabilities {
    fn default() -> Self {
        Self { supported_e2ee_versions: Vec::new(), serving: Serving::Aggregator }
    }
}

/// Who runs the model. Readers take a word that they do not know for `aggregator`, which demands more of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Serving {
    /// The attested workload itself.
    Direct,
    /// Upstream services.
    #[default]
    #[serde(other)]
    Aggregator,
}

impl AttestationReport {
    /// Puts a report together. `evidence` is over [`tacit_types::keyset::report_data`] of keyset and nonce.
    ///
    /// # Errors
    /// [`AciError::Keyset`] for a keyset without a canonical form or with one key in two roles.
    pub fn new(
        keyset: Keyset,
        nonce: Option<Digest>,
        platform: Platform,
        evidence: ReportEvidence,
        source_provenance: Option<SourceProvenance>,
        service_capabilities: ServiceCapabilities,
    ) -> Result<Self, AciError> {
        keyset.check_roles()?;
        let digest = keyset.digest()?;
        Ok(Self {
            api_version: API_VERSION.to_owned(),
            workload_keyset_digest: digest.into(),
            attestation: Attestation {
                tee_type: tee_type(platform).to_owned(),
                workload_keyset: keyset,
                report_data: statement_digest(digest, nonce),
                source_provenance,
                evidence,
            },
            service_capabilities,
        })
    }

    /// Reads a report. Members that are not known here are left out, but for those of the evidence.
    ///
    /// # Errors
    /// [`AciError::TooLarge`], [`AciError::Shape`] or [`AciError::Version`].
    pub fn parse(bytes: &[u8]) -> Result<Self, AciError> {
        if bytes.len() > MAX_REPORT {
            return Err(AciError::TooLarge { limit: MAX_REPORT, found: bytes.len() });
        }
        let value = serde_json::from_slice(bytes).map_err(|error| AciError::shape("attestation report", &error))?;
        Self::from_value(value)
    }

    /// Reads a report that is parsed already.
    ///
    /// # Errors
    /// [`AciError::Shape`] or [`AciError::Version`].
    pub fn from_value(value: Value) -> Result<Self, AciError> {
        let report: Self =
            serde_json::from_value(value).map_err(|error| AciError::shape("attestation report", &error))?;
        if report.api_version != API_VERSION {
            return Err(AciError::Version);
        }
        Ok(report)
    }

    /// Computes keyset digest and statement, compares both with what the report says, and gives the digest (section 9.1,
    /// check 2). The quote must be over [`tacit_types::keyset::report_data`] of that digest and the same nonce.
    ///
    /// # Errors
    /// [`AciError::Version`], [`AciError::Keyset`], or [`AciError::Member`] for a member that says something else.
    pub fn check_binding(&self, nonce: Option<Digest>) -> Result<KeysetDigest, AciError> {
        if self.api_version != API_VERSION {
            return Err(AciError::Version);
        }
        let keyset = &self.attestation.workload_keyset;
        keyset.check_roles()?;
        let digest = keyset.digest()?;
        if self.workload_keyset_digest != digest.into() {
            return Err(AciError::Member("the keyset is not the one that the report names"));
        }
        if self.attestation.report_data != statement_digest(digest, nonce) {
            return Err(AciError::Member("report_data is not that of keyset and nonce"));
        }
        Ok(digest)
    }
}

/// The statement's digest, without the zeros that fill the report data.
fn statement_digest(keyset: KeysetDigest, nonce: Option<Digest>) -> BareDigest {
    let mut digest = [0; 32];
    digest.copy_from_slice(&report_data(keyset, nonce)[..32]);
    Digest::from(digest).into()
}

impl SourceProvenance {
    /// The provenance that a description of an application declares in its member `source_provenance`. The description is
    /// measured, so this is what a service may repeat in its report.
    pub fn of_compose(app_compose: &str) -> Option<Self> {
        let compose: Value = serde_json::from_str(app_compose).ok()?;
        serde_json::from_value(compose.get("source_provenance")?.clone()).ok()
    }

    /// Whether it names a repository with a commit, or an image (section 4.1).
    pub fn is_declared(&self) -> bool {
        (self.repo_url.is_some() && self.repo_commit.is_some()) || self.image_digest.is_some()
    }

    /// Whether the measured description of the application says the same: in its member `source_provenance`, or where it has none
    /// by holding every text of it.
    pub fn is_backed_by(&self, app_compose: &str) -> bool {
        if let Some(own) = Self::of_compose(app_compose) {
            return own == *self;
        }
        let texts = [&self.repo_url, &self.repo_commit, &self.image_digest];
        let mut said = texts.into_iter().flatten();
        self.image_provenance.is_null()
            && said.all(|text| (1..=MAX_PROVENANCE).contains(&text.len()) && app_compose.contains(text.as_str()))
    }
}

/// The `tee_type` of a platform. ACI defines the first two; the others are this project's extension.
pub const fn tee_type(platform: Platform) -> &'static str {
    match platform {
        Platform::Tdx => "tdx",
        Platform::SevSnp => "sev_snp",
        Platform::Sgx => "sgx",
        Platform::Nitro => "nitro",
    }
}

/// Reads the nonce of a request: exactly 64 lower-case hexadecimal digits (section 3.2).
///
/// # Errors
/// [`AciError::Nonce`], to be answered with 400 `invalid_request_error`.
pub fn parse_nonce(text: &str) -> Result<Digest, AciError> {
    text.parse::<BareDigest>().map(BareDigest::digest).map_err(|_| AciError::Nonce)
}
