//! What a policy demands of one vendor's platforms. Everything here has a safe value where a policy does not name it, and is
//! left out of the policy's canonical form then, so that policies written before keep their hash.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::amd_report::{SigningKey, Tcb};
use crate::verified::{PckFlag, PlatformDetails, SgxDetails, SnpDetails, TdxDetails};
use crate::{AttestError, HardwareClass, SnpMinimum};

const DAY: u64 = 86_400;
/// Most bytes of a pinned value.
const MAX_PIN: usize = 64;

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A register's expected bytes, written as lower-case hex without a prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin(Vec<u8>);

impl Pin {
    /// A pin on these bytes; `None` past 64 of them.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty() && bytes.len() <= MAX_PIN).then(|| Self(bytes.to_vec()))
    }

    /// The expected bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl Serialize for Pin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pin = hex::decode(&text).ok().and_then(|bytes| Self::new(&bytes));
        // One spelling, so that one policy has one hash.
        pin.filter(|pin| pin.to_string() == text)
            .ok_or_else(|| de::Error::custom("not 1 to 64 bytes in lower-case hex without a prefix"))
    }
}

/// Refuses a register that holds none of the pinned values, if there are any.
fn pinned(register: &'static str, pins: &[Pin], found: &[u8]) -> Result<(), AttestError> {
    if pins.is_empty() || pins.iter().any(|pin| pin.bytes() == found) {
        return Ok(());
    }
    Err(AttestError::PinMismatch { register, found: hex::encode(found) })
}

fn demand(holds: bool, what: &'static str) -> Result<(), AttestError> {
    if holds { Ok(()) } else { Err(AttestError::Demand { what }) }
}

/// Whether something must come with the evidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Without it the evidence is refused.
    #[default]
    Required,
    /// Judged where it is there. Whoever sends the evidence decides whether it is: this finds slips, not attackers.
    IfPresent,
}

/// What is demanded of AMD SEV-SNP platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnpPolicy {
    /// Whether AMD's revocation list must come with the evidence.
    #[serde(skip_serializing_if = "is_default")]
    pub crl: Presence,
    /// Most seconds since AMD made that list. 400 days where it is not named: AMD makes one about once a year.
    #[serde(skip_serializing_if = "is_default_crl_age")]
    pub max_crl_age: u64,
    /// Cloud providers whose keys (VLEK) may sign a report, as AMD's certificate names them (`CN=…`). None without: a VLEK
    /// says that some machine of that provider signed, not which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vlek_providers: Vec<String>,
    /// Greatest VMPL that may ask for a report: 0 to 3.
    #[serde(skip_serializing_if = "is_default")]
    pub max_vmpl: u32,
    /// Least version of the firmware interface that the guest's owner demanded: major and minor.
    #[serde(skip_serializing_if = "is_default")]
    pub minimum_abi: (u8, u8),
    /// Least security version of the guest, from its ID block.
    #[serde(skip_serializing_if = "is_default")]
    pub minimum_guest_svn: u32,
    /// What the guest's policy must say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub guest: Vec<SnpGuestDemand>,
    /// What the platform must report about itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platform: Vec<SnpPlatformDemand>,
    /// Accepted SHA-384 digests of the key that signed the guest's ID block.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub id_keys: Vec<Pin>,
    /// Accepted SHA-384 digests of the key that signed the ID key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub author_keys: Vec<Pin>,
    /// Accepted host data: 32 bytes that the host gave at launch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_data: Vec<Pin>,
}

const CRL_AGE: u64 = 400 * DAY;

fn is_default_crl_age(age: &u64) -> bool {
    *age == CRL_AGE
}

impl Default for SnpPolicy {
    fn default() -> Self {
        Self {
            crl: Presence::Required,
            max_crl_age: CRL_AGE,
            vlek_providers: vec![],
            max_vmpl: 0,
            minimum_abi: (0, 0),
            minimum_guest_svn: 0,
            guest: vec![],
            platform: vec![],
            id_keys: vec![],
            author_keys: vec![],
            host_data: vec![],
        }
    }
}

/// A bit of the guest's policy (AMD 56860, table 10). Debug and migration are refused whatever a policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnpGuestDemand {
    /// The guest may not run where simultaneous multithreading is on.
    NoSmt,
    /// The guest may run on one socket only.
    SingleSocket,
    /// No memory behind CXL.
    NoCxl,
    /// Memory encryption with AES-256-XTS.
    Aes256Xts,
    /// Energy counters (RAPL) are off.
    RaplDisabled,
    /// The host does not see ciphertext of the guest's memory.
    CiphertextHiding,
    /// The host cannot swap pages of the guest.
    PageSwapDisabled,
}

/// What the platform reports about itself (AMD 56860, PLATFORM_INFO).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnpPlatformDemand {
    /// Simultaneous multithreading is off.
    NoSmt,
    /// Memory is encrypted as a whole besides (TSME).
    Tsme,
    /// Memory has error correction.
    Ecc,
    /// Energy counters (RAPL) are off.
    RaplDisabled,
    /// Ciphertext hiding is on.
    CiphertextHiding,
    /// The firmware has looked for aliased memory (against BadRAM, CVE-2024-21944).
    AliasCheck,
}

impl SnpPolicy {
    pub(crate) fn judge(
        &self,
        details: &SnpDetails,
        class: HardwareClass,
        minimum: &[SnpMinimum],
        too_low: impl Fn() -> AttestError,
    ) -> Result<(), AttestError> {
        let report = &details.report;
        if let SigningKey::Provider = report.signing_key {
            let provider = details.provider.clone().unwrap_or_default();
            if !self.vlek_providers.contains(&provider) {
                return Err(AttestError::ProviderNotAccepted { provider });
            }
        }
        match &details.crl_age {
            None if self.crl == Presence::Required => {
                return Err(AttestError::Missing { what: "AMD's revocation list" });
            }
            Some(age) if *age > self.max_crl_age => {
                return Err(AttestError::RevocationListTooOld { age: *age, limit: self.max_crl_age });
            }
            _ => {}
        }
        // Launch counts too: what old firmware let out at the start stays out.
        for bytes in [report.reported_tcb, report.launch_tcb] {
            let found = Tcb::read(bytes, class);
            if minimum.iter().any(|least| least.class == class && found.short_of(least.tcb()).is_some()) {
                return Err(too_low());
            }
        }
        if report.vmpl > self.max_vmpl {
            return Err(AttestError::Vmpl { found: report.vmpl });
        }
        let abi = ((report.guest_policy >> 8) as u8, report.guest_policy as u8);
        demand(abi >= self.minimum_abi, "a newer firmware interface in the guest's policy")?;
        demand(report.guest_svn >= self.minimum_guest_svn, "a greater security version of the guest")?;
        self.guest.iter().try_for_each(|wanted| wanted.judge(report.guest_policy))?;
        self.platform.iter().try_for_each(|wanted| wanted.judge(report.platform_info))?;
        pinned("ID_KEY_DIGEST", &self.id_keys, &report.id_key_digest)?;
        pinned("AUTHOR_KEY_DIGEST", &self.author_keys, &report.author_key_digest)?;
        pinned("HOST_DATA", &self.host_data, &report.host_data)
    }
}

impl SnpGuestDemand {
    fn judge(self, policy: u64) -> Result<(), AttestError> {
        let bit = |at: u32| policy >> at & 1 == 1;
        match self {
            Self::NoSmt => demand(!bit(16), "a guest that refuses multithreading"),
            Self::SingleSocket => demand(bit(20), "a guest on a single socket"),
            Self::NoCxl => demand(!bit(21), "a guest that refuses CXL memory"),
            Self::Aes256Xts => demand(bit(22), "a guest with AES-256-XTS"),
            Self::RaplDisabled => demand(bit(23), "a guest that wants RAPL off"),
            Self::CiphertextHiding => demand(bit(24), "a guest with ciphertext hiding"),
            Self::PageSwapDisabled => demand(bit(25), "a guest without page swapping"),
        }
    }
}

impl SnpPlatformDemand {
    fn judge(self, info: u64) -> Result<(), AttestError> {
        let bit = |at: u32| info >> at & 1 == 1;
        match self {
            Self::NoSmt => demand(!bit(0), "a platform without multithreading"),
            Self::Tsme => demand(bit(1), "a platform with TSME"),
            Self::Ecc => demand(bit(2), "a platform with ECC memory"),
            Self::RaplDisabled => demand(bit(3), "a platform with RAPL off"),
            Self::CiphertextHiding => demand(bit(4), "a platform with ciphertext hiding"),
            Self::AliasCheck => demand(bit(5), "a platform that looked for aliased memory"),
        }
    }
}

/// What is demanded of Intel TDX trust domains.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TdxPolicy {
    /// Attributes that a trust domain may have besides those that only protect it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_attributes: Vec<TdAttribute>,
    /// State components (XFAM) that a trust domain may use, as a mask in hex, most significant digit first. All that TDX
    /// allows without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_xfam: Option<Pin>,
    /// Accepted measurements of the TDX module.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mr_seam: Vec<Pin>,
    /// Accepted values of MRCONFIGID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mr_config_id: Vec<Pin>,
    /// Accepted values of MROWNER.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mr_owner: Vec<Pin>,
    /// Accepted values of MROWNERCONFIG.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mr_owner_config: Vec<Pin>,
    /// Whether the boot log (CCEL) must come with the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_log: Option<Presence>,
}

/// An attribute of a trust domain that does not only protect it. Debug, profiling, migration, service domains and reserved
/// bits are refused whatever a policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TdAttribute {
    /// Performance counters.
    Perfmon,
    /// Key Locker.
    KeyLocker,
    /// The domain provisions devices (TDX Connect).
    ProvisioningAgent,
}

impl TdxPolicy {
    pub(crate) fn judge(&self, details: &TdxDetails) -> Result<(), AttestError> {
        for (bit, attribute, name) in [
            (63, TdAttribute::Perfmon, "PERFMON"),
            (31, TdAttribute::KeyLocker, "KL"),
            (62, TdAttribute::ProvisioningAgent, "TPA"),
        ] {
            if details.attributes >> bit & 1 == 1 && !self.extra_attributes.contains(&attribute) {
                return Err(AttestError::Attribute(format!("TD attribute {name}")));
            }
        }
        if let Some(mask) = &self.allowed_xfam {
            let mask = mask.bytes().iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
            if details.xfam & !mask != 0 {
                return Err(AttestError::Attribute(format!("XFAM {:#x}", details.xfam)));
            }
        }
        pinned("MRSEAM", &self.mr_seam, &details.mr_seam)?;
        pinned("MRCONFIGID", &self.mr_config_id, &details.mr_config_id)?;
        pinned("MROWNER", &self.mr_owner, &details.mr_owner)?;
        pinned("MROWNERCONFIG", &self.mr_owner_config, &details.mr_owner_config)?;
        if self.boot_log == Some(Presence::Required) && !details.has_boot_log {
            return Err(AttestError::Missing { what: "the boot log" });
        }
        Ok(())
    }
}

/// What is demanded of Intel SGX enclaves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgxPolicy {
    /// Attributes that an enclave may have although they give it keys of the platform.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_attributes: Vec<SgxAttribute>,
    /// MISCSELECT bits that may be set besides EXINFO (bit 0).
    #[serde(skip_serializing_if = "is_default")]
    pub extra_misc_select: u32,
    /// True if enclaves must separate and share keys by their configuration (KSS).
    #[serde(skip_serializing_if = "is_default")]
    pub require_kss: bool,
    /// Accepted values of CONFIGID, which only an enclave with KSS has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config_id: Vec<Pin>,
    /// Least security versions by signer and product.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub minimum_isv_svn: Vec<IsvMinimum>,
}

/// An attribute that gives an enclave keys of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SgxAttribute {
    /// The provisioning key, which names the platform across owners.
    ProvisioningKey,
    /// The launch key, which lets other enclaves start.
    LaunchKey,
}

/// The least security version of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsvMinimum {
    /// MRSIGNER.
    pub signer: Pin,
    /// ISVPRODID.
    pub product: u16,
    /// Least ISVSVN.
    pub svn: u16,
}

impl SgxPolicy {
    pub(crate) fn judge(&self, details: &SgxDetails) -> Result<(), AttestError> {
        const INIT: u64 = 1;
        const KSS: u64 = 1 << 7;
        // Intel SDM volume 3D, 35.7.1: INIT, MODE64BIT, PROVISIONKEY, EINITTOKENKEY, CET, KSS, AEXNOTIFY.
        const KNOWN: u64 = INIT | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | KSS | 1 << 10;
        let flags = details.flags;
        if flags & INIT == 0 || flags & !KNOWN != 0 {
            return Err(AttestError::Attribute(format!("SGX attributes {flags:#x}")));
        }
        for (bit, attribute, name) in
            [(4, SgxAttribute::ProvisioningKey, "PROVISIONKEY"), (5, SgxAttribute::LaunchKey, "EINITTOKENKEY")]
        {
            if flags >> bit & 1 == 1 && !self.extra_attributes.contains(&attribute) {
                return Err(AttestError::Attribute(format!("SGX attribute {name}")));
            }
        }
        if details.misc_select & !(1 | self.extra_misc_select) != 0 {
            return Err(AttestError::Attribute(format!("MISCSELECT {:#x}", details.misc_select)));
        }
        demand(!self.require_kss || flags & KSS != 0, "an enclave with KSS")?;
        pinned("CONFIGID", &self.config_id, &details.config_id)?;
        let short = |minimum: &&IsvMinimum| {
            minimum.signer.bytes() == details.signer
                && minimum.product == details.product
                && details.isv_svn < minimum.svn
        };
        match self.minimum_isv_svn.iter().find(short) {
            Some(minimum) => Err(AttestError::IsvSvnTooLow { found: details.isv_svn, minimum: minimum.svn }),
            None => Ok(()),
        }
    }
}

/// What is demanded of the certificate of an Intel platform (PCK), for SGX and TDX.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PckPolicy {
    /// Authorities that may have issued it; both without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<PckAuthority>,
    /// Properties that the certificate must deny. A certificate that is silent, as those of the processor authority are, does
    /// not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<PckProperty>,
}

/// Which of Intel's authorities certified a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PckAuthority {
    /// For platforms of one socket.
    Processor,
    /// For platforms that registered with Intel, of one or more sockets.
    Platform,
}

impl PckAuthority {
    /// The name in Intel's addresses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Platform => "platform",
        }
    }
}

/// A property of a platform that its PCK certificate states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PckProperty {
    /// More processors can be added to the platform.
    DynamicPlatform,
    /// Intel keeps the platform's root keys.
    CachedKeys,
    /// Simultaneous multithreading is on.
    Smt,
}

impl PckPolicy {
    pub(crate) fn judge(&self, platform: &PlatformDetails) -> Result<(), AttestError> {
        let pck = match platform {
            PlatformDetails::Sgx(details) => &details.pck,
            PlatformDetails::Tdx(details) => &details.pck,
            _ => return Ok(()),
        };
        if !self.authorities.is_empty() && !pck.authority.is_some_and(|found| self.authorities.contains(&found)) {
            return Err(AttestError::Demand { what: "a PCK certificate of another authority" });
        }
        self.denied.iter().try_for_each(|property| match property {
            PckProperty::DynamicPlatform => {
                demand(pck.dynamic_platform == PckFlag::No, "a platform that cannot be extended")
            }
            PckProperty::CachedKeys => {
                demand(pck.cached_keys == PckFlag::No, "a platform whose keys Intel does not keep")
            }
            PckProperty::Smt => demand(pck.smt == PckFlag::No, "a platform without multithreading"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_have_one_spelling() {
        let read = |text: &str| serde_json::from_value::<Pin>(serde_json::json!(text));
        assert_eq!(read("00ff").unwrap().bytes(), [0, 0xff]);
        for text in ["", "0", "0xff", "FF", "zz", &"00".repeat(65)] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_guest_and_platform_demand_refuses_by_name() {
        // What a word must look like to be accepted, for each demand; the opposite bit must refuse.
        let guest = [
            (SnpGuestDemand::NoSmt, 16, false),
            (SnpGuestDemand::SingleSocket, 20, true),
            (SnpGuestDemand::NoCxl, 21, false),
            (SnpGuestDemand::Aes256Xts, 22, true),
            (SnpGuestDemand::RaplDisabled, 23, true),
            (SnpGuestDemand::CiphertextHiding, 24, true),
            (SnpGuestDemand::PageSwapDisabled, 25, true),
        ];
        for (wanted, bit, set) in guest {
            let (with, without) = (1u64 << bit, !(1u64 << bit));
            let (good, bad) = if set { (with, without) } else { (without, with) };
            assert_eq!(wanted.judge(good), Ok(()), "{wanted:?}");
            assert!(matches!(wanted.judge(bad), Err(AttestError::Demand { .. })), "{wanted:?}");
        }
        let platform = [
            (SnpPlatformDemand::NoSmt, 0, false),
            (SnpPlatformDemand::Tsme, 1, true),
            (SnpPlatformDemand::Ecc, 2, true),
            (SnpPlatformDemand::RaplDisabled, 3, true),
            (SnpPlatformDemand::CiphertextHiding, 4, true),
            (SnpPlatformDemand::AliasCheck, 5, true),
        ];
        for (wanted, bit, set) in platform {
            let (with, without) = (1u64 << bit, !(1u64 << bit));
            let (good, bad) = if set { (with, without) } else { (without, with) };
            assert_eq!(wanted.judge(good), Ok(()), "{wanted:?}");
            assert!(matches!(wanted.judge(bad), Err(AttestError::Demand { .. })), "{wanted:?}");
        }
    }
}
