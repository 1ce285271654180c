//! What a verifier accepts, as data with a canonical hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use tacit_types::{ChipId, Measurement, PolicyHash, UnixTime, jcs};

use crate::amd_report::Tcb;
use crate::demands::{PckPolicy, Pin, SgxPolicy, SnpPlatformDemand, SnpPolicy, TdxPolicy, is_default};
use crate::diversity::Diversity;
use crate::event_log::Event;
use crate::nvidia::GpuPolicy;
use crate::root::{ExtraRoot, TrustedRoot, Vendor, VendorRoot};
use crate::verified::{Claims, Confidence, PlatformDetails};
use crate::{AttestError, HardwareClass, PolicyError, TcbStatus, VerifiedEvidence};

/// Most bytes of a policy document.
pub const MAX_POLICY: usize = 256 * 1024;
/// The version of the policy format.
const VERSION: u32 = 1;
const DAY: u64 = 86_400;

/// What a verifier accepts. Everything that is not named is refused.
///
/// A document in TOML or JSON; [`Policy::hash`] is SHA-256 of its canonical JSON (RFC 8785).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The format's version, 1.
    pub version: u32,
    /// The name on the screen and in refusals.
    pub name: String,
    /// Most seconds since Intel issued the oldest dated part of the collateral.
    pub max_collateral_age: u64,
    /// Most seconds since a Nitro document was signed; 300 where a policy does not say.
    #[serde(default = "five_minutes", skip_serializing_if = "is_five_minutes")]
    pub max_document_age: u64,
    /// Vendors' roots that are accepted, by name.
    pub roots: Vec<VendorRoot>,
    /// Hardware generations that are refused whatever their state.
    #[serde(default)]
    pub denied_classes: Vec<HardwareClass>,
    /// The code that may run.
    pub measurements: Measurements,
    /// How current the platform must be.
    pub tcb: TcbPolicy,
    /// Single chips.
    #[serde(default)]
    pub chips: ChipPolicy,
    /// Run-time events that a trust domain must have measured: for each name, the payloads in hex that are accepted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, Vec<Pin>>,
    /// What is demanded of AMD SEV-SNP platforms.
    #[serde(default, skip_serializing_if = "is_default")]
    pub snp: SnpPolicy,
    /// What is demanded of Intel TDX trust domains.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tdx: TdxPolicy,
    /// What is demanded of Intel SGX enclaves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sgx: SgxPolicy,
    /// What is demanded of the certificate of an Intel platform.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pck: PckPolicy,
    /// How much of a set of machines one vendor, operator, root or chip may be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub diversity: Diversity,
    /// Roots besides the vendors'.
    #[serde(default)]
    pub extra_roots: Vec<ExtraRoot>,
    /// Demands on NVIDIA GPUs; without them no GPU evidence is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuPolicy>,
}

/// The code that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measurements {
    /// Any: the verdict says nothing about the code. Written `"any"`. No cluster may run on such a policy.
    Any,
    /// The measurements of each image, by the image's name.
    Listed(BTreeMap<String, Vec<Measurement>>),
}

/// How current the platform must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbPolicy {
    /// Statuses that are accepted.
    pub accept: Vec<TcbStatus>,
    /// Further statuses that are accepted up to a date.
    #[serde(default)]
    pub grace: Vec<Grace>,
    /// Advisories that are refused wherever they apply (`INTEL-SA-…`).
    #[serde(default)]
    pub denied_advisories: Vec<String>,
    /// If there is such a list, only these advisories may apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_advisories: Option<Vec<String>>,
    /// Least TCB evaluation data number of Intel's collateral.
    #[serde(default)]
    pub minimum_evaluation_number: u32,
    /// Least numbers of the revocation lists of Intel's root and PCK authority.
    #[serde(default)]
    pub minimum_crl_numbers: (u32, u32),
    /// Least firmware of AMD platforms.
    #[serde(default)]
    pub snp_minimum: Vec<SnpMinimum>,
}

/// A status that is accepted up to a date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grace {
    /// The status.
    pub status: TcbStatus,
    /// The last second at which it is accepted.
    pub until: UnixTime,
}

/// The least firmware of one AMD generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpMinimum {
    /// The generation.
    pub class: HardwareClass,
    /// First microcontroller firmware; there is none before Turin.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fmc: u8,
    /// Boot loader.
    pub bootloader: u8,
    /// Operating system of the secure processor.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl TcbPolicy {
    /// Whether a status is accepted at that time, by grace or without.
    pub fn accepts(&self, status: TcbStatus, now: UnixTime) -> bool {
        self.accept.contains(&status) || self.grace.iter().any(|grace| grace.status == status && now <= grace.until)
    }
}

impl SnpMinimum {
    pub(crate) fn tcb(&self) -> Tcb {
        let Self { fmc, bootloader, tee, snp, microcode, .. } = *self;
        Tcb { fmc, bootloader, tee, snp, microcode }
    }
}

/// Single chips.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChipPolicy {
    /// If not empty, only these.
    #[serde(default)]
    pub allow: Vec<ChipId>,
    /// Never these.
    #[serde(default)]
    pub deny: Vec<ChipId>,
    /// Chips for whose location somebody vouches, for example Proof of Cloud.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub located: Vec<Location>,
    /// Least grade of location that a chip must have.
    #[serde(default, skip_serializing_if = "is_default")]
    pub minimum_grade: u8,
}

/// Where a chip is, as somebody vouches for it outside the evidence: a quote does not say in whose hands a chip is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// The chip.
    pub chip: ChipId,
    /// How good the proof is, 1 (a person saw it) or more.
    pub grade: u8,
    /// Who vouches, or where the proof is; for people.
    pub proof: String,
}

/// The policies that come with this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// For development: every status that is not revoked, and the simulated roots that a deployment names.
    Dev,
    /// For use: vendors' roots, no EPYC Milan, no missing updates.
    Standard,
    /// For high value: besides, no SGX, no Nitro (its host is not isolated by hardware that names a chip), nothing to be hardened
    /// or configured, collateral of at most a week, and AMD platforms that looked for aliased memory.
    High,
}

impl Preset {
    /// The preset of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "dev" => Some(Self::Dev),
            "standard" => Some(Self::Standard),
            "high" => Some(Self::High),
            _ => None,
        }
    }
}

impl Policy {
    /// A preset. It lists no measurements and no root besides the vendors'.
    pub fn preset(preset: Preset) -> Self {
        use TcbStatus::*;
        let current = vec![
            UpToDate,
            SWHardeningNeeded,
            ConfigurationNeeded,
            ConfigurationAndSWHardeningNeeded,
            TDRelaunchAdvised,
            TDRelaunchAdvisedConfigurationNeeded,
        ];
        let (name, max_collateral_age, denied_classes, accept) = match preset {
            Preset::Dev => {
                let all = current.into_iter().chain([OutOfDate, OutOfDateConfigurationNeeded]).collect();
                ("dev", 400 * DAY, vec![], all)
            }
            Preset::Standard => ("standard", 31 * DAY, vec![HardwareClass::EpycMilan], current),
            Preset::High => (
                "high",
                7 * DAY,
                vec![HardwareClass::IntelSgx, HardwareClass::EpycMilan, HardwareClass::AwsNitro],
                vec![UpToDate],
            ),
        };
        // Firmware that does not look for aliased memory lets its host read the guest (BadRAM).
        let snp_platform = if preset == Preset::High { vec![SnpPlatformDemand::AliasCheck] } else { vec![] };
        Self {
            version: VERSION,
            name: name.to_owned(),
            max_collateral_age,
            max_document_age: five_minutes(),
            roots: VendorRoot::ALL.to_vec(),
            denied_classes,
            measurements: Measurements::Any,
            tcb: TcbPolicy {
                accept,
                grace: vec![],
                denied_advisories: vec![],
                accepted_advisories: None,
                minimum_evaluation_number: 0,
                minimum_crl_numbers: (0, 0),
                snp_minimum: vec![],
            },
            chips: ChipPolicy::default(),
            events: BTreeMap::new(),
            snp: SnpPolicy { platform: snp_platform, ..SnpPolicy::default() },
            tdx: TdxPolicy::default(),
            sgx: SgxPolicy::default(),
            pck: PckPolicy::default(),
            diversity: Diversity::default(),
            extra_roots: vec![],
            gpu: None,
        }
    }

    /// The same policy under another name.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same policy with one more root.
    pub fn with_root(mut self, root: ExtraRoot) -> Self {
        self.extra_roots.push(root);
        self
    }

    /// The same policy with demands on GPUs.
    pub fn with_gpu(mut self, gpu: GpuPolicy) -> Self {
        self.gpu = Some(gpu);
        self
    }

    /// The same policy with the measurements of one more image, or more measurements of an image that it lists.
    pub fn with_image(mut self, image: &str, measurements: &[Measurement]) -> Self {
        let mut images = match self.measurements {
            Measurements::Any => BTreeMap::new(),
            Measurements::Listed(images) => images,
        };
        let listed: &mut Vec<Measurement> = images.entry(image.to_owned()).or_default();
        listed.extend_from_slice(measurements);
        listed.sort_unstable();
        listed.dedup();
        self.measurements = Measurements::Listed(images);
        self
    }

    /// Reads a policy in TOML.
    ///
    /// # Errors
    /// [`PolicyError`]: too large, not of this shape, another version, or a root that has no place in it.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        bounded(text.len())?;
        let policy: Self = toml::from_str(text).map_err(|error| PolicyError::Malformed(error.message().to_owned()))?;
        policy.validate()?;
        Ok(policy)
    }

    /// Reads a policy in JSON.
    ///
    /// # Errors
    /// As [`Policy::from_toml`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, PolicyError> {
        bounded(bytes.len())?;
        let policy: Self = serde_json::from_slice(bytes).map_err(|error| PolicyError::Malformed(error.to_string()))?;
        policy.validate()?;
        Ok(policy)
    }

    /// Writes the policy in TOML.
    ///
    /// # Errors
    /// [`PolicyError::Malformed`] if a number has no TOML form.
    pub fn to_toml(&self) -> Result<String, PolicyError> {
        toml::to_string(self).map_err(|error| PolicyError::Malformed(error.to_string()))
    }

    /// Checks what the types alone do not: version and extra roots.
    ///
    /// # Errors
    /// [`PolicyError`] as for [`Policy::from_toml`].
    pub fn validate(&self) -> Result<(), PolicyError> {
        if self.version != VERSION {
            return Err(PolicyError::Version(self.version));
        }
        let refuse = |field, reason| Err(PolicyError::Field { field, reason });
        if self.snp.max_vmpl > 3 {
            return refuse("snp.max_vmpl", "there are VMPL 0 to 3");
        }
        if self.chips.located.iter().any(|location| location.grade == 0 || location.proof.len() > 256) {
            return refuse("chips.located", "a grade is 1 or more, a proof at most 256 bytes");
        }
        if self.tdx.allowed_xfam.as_ref().is_some_and(|mask| mask.bytes().len() != 8) {
            return refuse("tdx.allowed_xfam", "a mask has 8 bytes");
        }
        if self.events.iter().any(|(name, payloads)| name.is_empty() || name.len() > 64 || payloads.is_empty()) {
            return refuse("events", "a name has 1 to 64 bytes, and at least one payload must be accepted");
        }
        self.extra_roots.iter().try_for_each(ExtraRoot::validate)?;
        self.gpu.as_ref().map_or(Ok(()), GpuPolicy::validate)
    }

    /// The policy's canonical bytes: JSON after RFC 8785.
    ///
    /// # Errors
    /// [`PolicyError::Malformed`] if a number is 2^53 or more.
    pub fn canonical(&self) -> Result<Vec<u8>, PolicyError> {
        jcs::to_bytes(self).map_err(|error| PolicyError::Malformed(error.to_string()))
    }

    /// SHA-256 of [`Policy::canonical`].
    ///
    /// # Errors
    /// As [`Policy::canonical`].
    pub fn hash(&self) -> Result<PolicyHash, PolicyError> {
        Ok(PolicyHash::from(<[u8; 32]>::from(Sha256::digest(self.canonical()?))))
    }

    /// True if some root that it names makes simulated hardware.
    pub fn names_simulated_root(&self) -> bool {
        self.extra_roots.iter().any(|root| root.simulated)
    }

    /// True if it lists the code that may run; a cluster's policy must.
    pub fn lists_measurements(&self) -> bool {
        matches!(self.measurements, Measurements::Listed(_))
    }

    /// The vendor's roots that the policy names.
    pub(crate) fn trusted_roots(&self, vendor: Vendor) -> impl Iterator<Item = TrustedRoot> {
        let named = self.roots.iter().filter(move |root| root.vendor() == vendor).map(|root| TrustedRoot {
            id: root.id(),
            name: root.name().to_owned(),
            simulated: false,
            builtin: Some(*root),
            certificate: root.certificate(),
        });
        let extra = self.extra_roots.iter().filter(move |root| root.vendor == vendor && root.validate().is_ok());
        named.chain(extra.map(|root| TrustedRoot {
            id: root.id(),
            name: root.name.clone(),
            simulated: root.simulated,
            builtin: None,
            certificate: root.certificate.clone(),
        }))
    }

    /// The grade of location that the policy lists for a chip; 0 without.
    pub fn location_grade(&self, chip: ChipId) -> u8 {
        let listed = self.chips.located.iter().filter(|location| location.chip == chip);
        listed.map(|location| location.grade).max().unwrap_or(0)
    }

    /// Judges what the signatures say.
    pub(crate) fn judge(&self, claims: Claims, now: UnixTime) -> Result<VerifiedEvidence, AttestError> {
        let policy =
            self.hash().map_err(|error| AttestError::Malformed { what: "policy", detail: error.to_string() })?;
        if self.denied_classes.contains(&claims.class) {
            return Err(AttestError::HardwareClassDenied { policy: self.name.clone(), class: claims.class });
        }
        if self.chips.deny.contains(&claims.chip)
            || !(self.chips.allow.is_empty() || self.chips.allow.contains(&claims.chip))
        {
            return Err(AttestError::ChipDenied { chip: claims.chip.to_string() });
        }
        let location_grade = self.location_grade(claims.chip);
        if location_grade < self.chips.minimum_grade {
            return Err(AttestError::LocationTooLow { found: location_grade, minimum: self.chips.minimum_grade });
        }
        self.judge_tcb(&claims, now)?;
        self.judge_platform(&claims)?;
        self.judge_events(claims.details.events.as_deref())?;
        let image = match &self.measurements {
            Measurements::Any => None,
            Measurements::Listed(images) => Some(
                images
                    .iter()
                    .find(|(_, listed)| listed.contains(&claims.measurement))
                    .map(|(name, _)| name.clone())
                    .ok_or_else(|| AttestError::MeasurementNotAllowed {
                        measurement: claims.measurement.to_string(),
                    })?,
            ),
        };
        let names_chip = match &claims.details.platform {
            PlatformDetails::Snp(details) => details.provider.is_none(),
            _ => true,
        };
        let confidence = Confidence::rate(claims.status, &claims.advisories, claims.class, names_chip);
        Ok(VerifiedEvidence {
            claims,
            confidence,
            image,
            location_grade,
            policy,
            policy_name: self.name.clone(),
            judged_at: now,
        })
    }

    fn too_low(&self, status: TcbStatus) -> AttestError {
        AttestError::TcbTooLow { policy: self.name.clone(), status }
    }

    fn judge_platform(&self, claims: &Claims) -> Result<(), AttestError> {
        let platform = &claims.details.platform;
        self.pck.judge(platform)?;
        match platform {
            PlatformDetails::None | PlatformDetails::Nitro(_) => Ok(()),
            PlatformDetails::Sgx(details) => self.sgx.judge(details),
            PlatformDetails::Tdx(details) => self.tdx.judge(details),
            PlatformDetails::Snp(details) => {
                let too_low = || self.too_low(claims.status);
                self.snp.judge(details, claims.class, &self.tcb.snp_minimum, too_low)
            }
        }
    }

    /// Every event that the policy names must have been measured once, with a payload that it accepts.
    fn judge_events(&self, events: Option<&[Event]>) -> Result<(), AttestError> {
        for (name, accepted) in &self.events {
            let mut found = events.unwrap_or_default().iter().filter(|event| event.name == *name);
            let Some(event) = found.next() else { return Err(AttestError::EventMissing { name: name.clone() }) };
            if found.next().is_some() {
                return Err(AttestError::EventRepeated { name: name.clone() });
            }
            if !accepted.iter().any(|payload| payload.bytes() == event.payload) {
                let mut found = hex::encode(&event.payload);
                found.truncate(128);
                return Err(AttestError::EventNotAccepted { name: name.clone(), found });
            }
        }
        Ok(())
    }

    /// Judges a status and the advisories that come with it, and nothing else.
    pub(crate) fn judge_status(
        &self,
        status: TcbStatus,
        advisories: &[String],
        now: UnixTime,
    ) -> Result<(), AttestError> {
        if !self.tcb.accepts(status, now) {
            return Err(self.too_low(status));
        }
        let listed = |list: &[String], id: &str| list.iter().any(|listed| listed.eq_ignore_ascii_case(id));
        if let Some(id) = advisories.iter().find(|id| listed(&self.tcb.denied_advisories, id)) {
            return Err(AttestError::AdvisoryDenied { id: id.clone() });
        }
        if let Some(accepted) = &self.tcb.accepted_advisories
            && let Some(id) = advisories.iter().find(|id| !listed(accepted, id))
        {
            return Err(AttestError::AdvisoryNotAccepted { id: id.clone() });
        }
        Ok(())
    }

    fn judge_tcb(&self, claims: &Claims, now: UnixTime) -> Result<(), AttestError> {
        self.judge_status(claims.status, &claims.advisories, now)?;
        let older = |what, found: u32, minimum: u32| {
            if found < minimum { Err(AttestError::Downgrade { what, found, minimum }) } else { Ok(()) }
        };
        if let Some(found) = claims.evaluation_number {
            older("TCB evaluation data", found, self.tcb.minimum_evaluation_number)?;
            let age = now.0.saturating_sub(claims.collateral_time.0);
            if age > self.max_collateral_age {
                return Err(AttestError::CollateralTooOld { age, limit: self.max_collateral_age });
            }
        }
        if let Some((root, pck)) = claims.crl_numbers {
            older("root CRL", root, self.tcb.minimum_crl_numbers.0)?;
            older("PCK CRL", pck, self.tcb.minimum_crl_numbers.1)?;
        }
        Ok(())
    }
}

const fn five_minutes() -> u64 {
    300
}

fn is_five_minutes(seconds: &u64) -> bool {
    *seconds == five_minutes()
}

fn bounded(size: usize) -> Result<(), PolicyError> {
    if size > MAX_POLICY { Err(PolicyError::Oversized { size, limit: MAX_POLICY }) } else { Ok(()) }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum MeasurementsTwin {
    Any(Any),
    Listed(BTreeMap<String, Vec<Measurement>>),
}

#[derive(Serialize, Deserialize)]
enum Any {
    #[serde(rename = "any")]
    Any,
}

impl Serialize for Measurements {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Listed(images) => images.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Measurements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match MeasurementsTwin::deserialize(deserializer)? {
            MeasurementsTwin::Any(Any::Any) => Self::Any,
            MeasurementsTwin::Listed(images) => Self::Listed(images),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_round_trip_through_toml_and_json_with_one_hash() {
        for preset in [Preset::Dev, Preset::Standard, Preset::High] {
            let policy = Policy::preset(preset).with_image("worker", &[Measurement::from([7; 32])]);
            let toml = policy.to_toml().unwrap();
            assert_eq!(Policy::from_toml(&toml).as_ref(), Ok(&policy), "{toml}");
            let json = policy.canonical().unwrap();
            assert_eq!(Policy::from_json(&json).as_ref(), Ok(&policy));
            assert_ne!(policy.hash(), Policy::preset(preset).hash());
        }
    }

    #[test]
    fn standard_denies_milan_and_names_no_simulated_root() {
        let standard = Policy::preset(Preset::Standard);
        assert!(standard.denied_classes.contains(&HardwareClass::EpycMilan));
        for preset in [Preset::Dev, Preset::Standard, Preset::High] {
            assert!(!Policy::preset(preset).names_simulated_root());
        }
    }

    #[test]
    fn a_policy_with_a_slip_is_refused() {
        let good = Policy::preset(Preset::Standard).to_toml().unwrap();
        let check = |text: String| assert!(Policy::from_toml(&text).is_err(), "{text}");
        check(good.replace("version = 1", "version = 2"));
        check(good.replace("denied_classes", "denied_clases"));
        check(good.replace("\"any\"", "\"all\""));
        check(good.replace("epyc-milan", "epyc-milano"));
        check(format!("{good}\n#{}", "x".repeat(MAX_POLICY)));
    }
}
