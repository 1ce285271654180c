//! What a successful verification says.

use std::fmt;

use serde::{Deserialize, Serialize};
use tacit_types::eip712::Platform;
use tacit_types::{ChipId, Measurement, PolicyHash, RootId, UnixTime};

use crate::AttestError;
use crate::amd_report::Report;
use crate::boot_log::BootEvent;
use crate::demands::PckAuthority;
use crate::event_log::Event;
use crate::seen::Counter;

/// A hardware generation that a policy can deny as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HardwareClass {
    /// SGX on any Intel processor.
    IntelSgx,
    /// TDX on any Intel processor.
    IntelTdx,
    /// Third generation AMD EPYC: its secure processor was broken in software (arXiv 2605.12990).
    EpycMilan,
    /// Fourth generation AMD EPYC (Genoa, Bergamo, Siena).
    EpycGenoa,
    /// Fifth generation AMD EPYC.
    EpycTurin,
    /// AWS Nitro enclaves: the host's isolation is AWS's own, and no chip is named.
    AwsNitro,
}

impl HardwareClass {
    /// The name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IntelSgx => "intel-sgx",
            Self::IntelTdx => "intel-tdx",
            Self::EpycMilan => "epyc-milan",
            Self::EpycGenoa => "epyc-genoa",
            Self::EpycTurin => "epyc-turin",
            Self::AwsNitro => "aws-nitro",
        }
    }
}

impl fmt::Display for HardwareClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IntelSgx => "Intel SGX",
            Self::IntelTdx => "Intel TDX",
            Self::EpycMilan => "EPYC Milan",
            Self::EpycGenoa => "EPYC Genoa",
            Self::EpycTurin => "EPYC Turin",
            Self::AwsNitro => "AWS Nitro",
        })
    }
}

/// How current and how well configured the platform is, in Intel's words.
///
/// AMD publishes no such verdict. There `UpToDate` means that the platform reports the firmware that it has committed to, and
/// that the guest was started on it; `TDRelaunchAdvised` that the guest was started on older firmware; `OutOfDate` that the
/// platform reports less than it has committed to.
/// AWS publishes nothing of the kind and patches its hosts itself: `UpToDate` says there only that nothing is known to be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TcbStatus {
    /// Nothing known is missing.
    UpToDate,
    /// Current, but the software inside must mitigate something.
    SWHardeningNeeded,
    /// Current, but the machine is set up in a way that needs attention.
    ConfigurationNeeded,
    /// Both of the two above.
    ConfigurationAndSWHardeningNeeded,
    /// Started on old firmware that has since been updated in place.
    TDRelaunchAdvised,
    /// The same, and the configuration needs attention.
    TDRelaunchAdvisedConfigurationNeeded,
    /// Firmware updates are missing.
    OutOfDate,
    /// Firmware updates are missing and the configuration needs attention.
    OutOfDateConfigurationNeeded,
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Confidence from 1 (best) to 5, as in Phala: from TCB status, advisories and hardware class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub struct Confidence(u8);

impl Confidence {
    /// 1: up to date, no advisory. 2: up to date with advisories, or software hardening needed.
    /// 3: configuration needed, or evidence that names no chip. 4: relaunch advised. 5: out of date, or EPYC Milan. Nitro is never
    /// better than 2: nothing states its patch level.
    pub(crate) fn rate(status: TcbStatus, advisories: &[String], class: HardwareClass, names_chip: bool) -> Self {
        if class == HardwareClass::EpycMilan {
            return Self(5);
        }
        let least = if names_chip { 1 } else { 3 };
        let level = match status {
            TcbStatus::UpToDate if advisories.is_empty() && class != HardwareClass::AwsNitro => 1,
            TcbStatus::UpToDate | TcbStatus::SWHardeningNeeded => 2,
            TcbStatus::ConfigurationNeeded | TcbStatus::ConfigurationAndSWHardeningNeeded => 3,
            TcbStatus::TDRelaunchAdvised | TcbStatus::TDRelaunchAdvisedConfigurationNeeded => 4,
            TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded => 5,
        };
        Self(level.max(least))
    }

    /// The worst level that evidence can have and yet be accepted by a policy which accepts these statuses, and evidence
    /// without a chip if `without_chip`.
    pub fn worst(accepted: impl IntoIterator<Item = TcbStatus>, without_chip: bool) -> Option<Self> {
        // An advisory may apply under every status.
        let advisories = [String::new()];
        accepted.into_iter().map(|status| Self::rate(status, &advisories, HardwareClass::IntelTdx, !without_chip)).max()
    }

    /// The level, 1 to 5.
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl From<Confidence> for u8 {
    fn from(confidence: Confidence) -> Self {
        confidence.0
    }
}

impl TryFrom<u8> for Confidence {
    type Error = String;

    fn try_from(level: u8) -> Result<Self, Self::Error> {
        if (1..=5).contains(&level) {
            Ok(Self(level))
        } else {
            Err(format!("confidence {level} is not between 1 and 5"))
        }
    }
}

/// What the signatures say, before any policy is asked; never leaves this crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) platform: Platform,
    pub(crate) class: HardwareClass,
    pub(crate) root: RootId,
    pub(crate) root_name: String,
    pub(crate) simulated: bool,
    pub(crate) measurement: Measurement,
    pub(crate) registers: Vec<(&'static str, Vec<u8>)>,
    pub(crate) chip: ChipId,
    pub(crate) report_data: [u8; 64],
    pub(crate) status: TcbStatus,
    pub(crate) advisories: Vec<String>,
    pub(crate) collateral_time: UnixTime,
    pub(crate) collateral_expires: UnixTime,
    pub(crate) evaluation_number: Option<u32>,
    pub(crate) crl_numbers: Option<(u32, u32)>,
    pub(crate) tcb: String,
    pub(crate) details: Details,
}

/// What only some kinds of evidence say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) platform: PlatformDetails,
    /// Numbers in the collateral that only grow.
    pub(crate) counters: Vec<Counter>,
    /// Run-time events, in the order in which they were measured; `None` without an event log.
    pub(crate) events: Option<Vec<Event>>,
    /// Events of the boot log.
    pub(crate) boot_events: Vec<BootEvent>,
}

/// What one vendor's evidence says beyond the others'.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum PlatformDetails {
    /// Nothing further.
    #[default]
    None,
    Sgx(Box<SgxDetails>),
    Tdx(Box<TdxDetails>),
    Snp(Box<SnpDetails>),
    Nitro(Box<NitroFields>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SgxDetails {
    pub(crate) flags: u64,
    pub(crate) misc_select: u32,
    pub(crate) config_id: [u8; 64],
    pub(crate) signer: [u8; 32],
    pub(crate) product: u16,
    pub(crate) isv_svn: u16,
    pub(crate) pck: PckDetails,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TdxDetails {
    pub(crate) attributes: u64,
    pub(crate) xfam: u64,
    pub(crate) mr_seam: [u8; 48],
    pub(crate) mr_config_id: [u8; 48],
    pub(crate) mr_owner: [u8; 48],
    pub(crate) mr_owner_config: [u8; 48],
    pub(crate) has_boot_log: bool,
    pub(crate) pck: PckDetails,
}

/// What the certificate of an Intel platform says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PckDetails {
    pub(crate) authority: Option<PckAuthority>,
    pub(crate) dynamic_platform: PckFlag,
    pub(crate) cached_keys: PckFlag,
    pub(crate) smt: PckFlag,
}

/// A property that a certificate states, denies or leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PckFlag {
    Yes,
    No,
    Silent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnpDetails {
    pub(crate) report: Report,
    /// The cloud provider whose key signed, if it was not the chip's own.
    pub(crate) provider: Option<String>,
    /// Seconds since AMD made the revocation list, if there is one.
    pub(crate) crl_age: Option<u64>,
}

/// What a Nitro document carries besides its registers and user data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NitroFields {
    pub(crate) module_id: String,
    pub(crate) signed_at: UnixTime,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) public_key: Option<Vec<u8>>,
}

/// Evidence that passed every check of [`crate::verify`]; nothing else can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEvidence {
    pub(crate) claims: Claims,
    pub(crate) confidence: Confidence,
    pub(crate) image: Option<String>,
    pub(crate) location_grade: u8,
    pub(crate) policy: PolicyHash,
    pub(crate) policy_name: String,
    pub(crate) judged_at: UnixTime,
}

impl VerifiedEvidence {
    /// The kind of trusted execution environment.
    pub fn platform(&self) -> Platform {
        self.claims.platform
    }

    /// The hardware generation.
    pub fn hardware_class(&self) -> HardwareClass {
        self.claims.class
    }

    /// SHA-256 of the DER of the root certificate in which the chain ended.
    pub fn root(&self) -> RootId {
        self.claims.root
    }

    /// The name under which the policy lists that root.
    pub fn root_name(&self) -> &str {
        &self.claims.root_name
    }

    /// True if that root makes simulated hardware.
    pub fn simulated(&self) -> bool {
        self.claims.simulated
    }

    /// What runs there, see the README.
    pub fn measurement(&self) -> Measurement {
        self.claims.measurement
    }

    /// The measured registers by name, as the hardware reports them.
    pub fn registers(&self) -> &[(&'static str, Vec<u8>)] {
        &self.claims.registers
    }

    /// The chip: SHA-256 of the vendor's name and the chip's own number (PPID or CHIP_ID). Where the evidence names no chip, its
    /// provider in the chip's place: see [`VerifiedEvidence::names_chip`].
    /// For Nitro it is made of the module id, which names an instance and one start of an enclave in it.
    pub fn chip(&self) -> ChipId {
        self.claims.chip
    }

    /// The 64 bytes that the measured code chose.
    pub fn report_data(&self) -> &[u8; 64] {
        &self.claims.report_data
    }

    fn nitro(&self) -> Option<&NitroFields> {
        match &self.claims.details.platform {
            PlatformDetails::Nitro(fields) => Some(fields),
            _ => None,
        }
    }

    /// The nonce that a Nitro document answers, if it answers one.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nitro()?.nonce.as_deref()
    }

    /// The public key that the measured code put into a Nitro document, if any.
    pub fn document_public_key(&self) -> Option<&[u8]> {
        self.nitro()?.public_key.as_deref()
    }

    /// The instance and enclave that a Nitro document names.
    pub fn module_id(&self) -> Option<&str> {
        self.nitro().map(|nitro| nitro.module_id.as_str())
    }

    /// When a Nitro document was signed, by its host's clock.
    pub fn signed_at(&self) -> Option<UnixTime> {
        self.nitro().map(|nitro| nitro.signed_at)
    }

    /// How current the platform is.
    pub fn tcb_status(&self) -> TcbStatus {
        self.claims.status
    }

    /// The security version numbers, as text.
    pub fn tcb(&self) -> &str {
        &self.claims.tcb
    }

    /// The vendor's security advisories that apply.
    pub fn advisories(&self) -> &[String] {
        &self.claims.advisories
    }

    /// Confidence, 1 (best) to 5.
    pub fn confidence(&self) -> Confidence {
        self.confidence
    }

    /// When the oldest dated part of the collateral was issued.
    pub fn collateral_time(&self) -> UnixTime {
        self.claims.collateral_time
    }

    /// When the first part of collateral or chain expires: no certificate should outlive it.
    pub fn collateral_expires(&self) -> UnixTime {
        self.claims.collateral_expires
    }

    /// Intel's TCB evaluation data number, where there is one.
    pub fn evaluation_number(&self) -> Option<u32> {
        self.claims.evaluation_number
    }

    /// The numbers of the root's and the PCK authority's revocation lists, where there are any.
    pub fn crl_numbers(&self) -> Option<(u32, u32)> {
        self.claims.crl_numbers
    }

    /// False if a cloud provider's key signed (AMD VLEK) or the platform names no chip (Nitro): some machine of that provider did,
    /// and nothing says which.
    pub fn names_chip(&self) -> bool {
        self.provider().is_none() && self.nitro().is_none()
    }

    /// The cloud provider whose key signed, if it was not the chip's own.
    pub fn provider(&self) -> Option<&str> {
        match &self.claims.details.platform {
            PlatformDetails::Snp(details) => details.provider.as_deref(),
            _ => None,
        }
    }

    /// Run-time events, in the order in which they were measured; empty without an event log.
    pub fn events(&self) -> &[Event] {
        self.claims.details.events.as_deref().unwrap_or_default()
    }

    /// The payload of the first run-time event of that name: what is measured first, by software that the other registers
    /// vouch for, an application cannot take back.
    pub fn event(&self, name: &str) -> Option<&[u8]> {
        self.events().iter().find(|event| event.name == name).map(|event| event.payload.as_slice())
    }

    /// What firmware and kernel measured, if a boot log came with the evidence.
    pub fn boot_events(&self) -> &[BootEvent] {
        &self.claims.details.boot_events
    }

    /// The grade of the location proof that the policy lists for this chip; 0 without one.
    pub fn location_grade(&self) -> u8 {
        self.location_grade
    }

    /// The image whose measurement this is, if the policy lists measurements.
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// The canonical hash of the policy that was applied.
    pub fn policy(&self) -> PolicyHash {
        self.policy
    }

    /// The name of the policy that was applied.
    pub fn policy_name(&self) -> &str {
        &self.policy_name
    }

    /// The time for which this verdict was given.
    pub fn judged_at(&self) -> UnixTime {
        self.judged_at
    }

    /// Checks that the report data is exactly `expected`.
    ///
    /// # Errors
    /// [`AttestError::ReportDataMismatch`].
    pub fn require_report_data(&self, expected: &[u8; 64]) -> Result<(), AttestError> {
        if self.claims.report_data == *expected { Ok(()) } else { Err(AttestError::ReportDataMismatch) }
    }

    /// Checks that the document answers exactly `expected`. Only Nitro documents carry a nonce beside the report data.
    ///
    /// # Errors
    /// [`AttestError::NonceMismatch`], also where there is no nonce.
    pub fn require_nonce(&self, expected: &[u8]) -> Result<(), AttestError> {
        if self.nonce() == Some(expected) { Ok(()) } else { Err(AttestError::NonceMismatch) }
    }
}
