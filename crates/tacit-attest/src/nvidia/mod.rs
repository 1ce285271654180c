//! NVIDIA GPUs in confidential mode: what they sign about themselves, and who vouches for it.
//!
//! A GPU stands beside a CPU: its evidence is accepted only together with that of the machine whose keyset the nonce names. Read
//! [`verify_gpus`] first.

mod device;
mod error;
mod manifest;
mod policy;
mod report;
mod token;
mod version;
mod xml;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tacit_types::{ChipId, KeysetDigest, PolicyHash, RootId, UnixTime};

pub use error::GpuError;
pub use manifest::{MAX_MANIFEST, Manifest};
pub use policy::{GpuArchitecture, GpuFirmware, GpuPolicy, TokenKey, Voucher};
pub use report::{GpuReport, MAX_REPORT};
pub use token::MAX_TOKEN;
pub use version::{DriverVersion, VbiosVersion};

use crate::evidence::{One, base64_bytes, bounded, from_json};
use crate::{AttestError, Policy};
use device::{Device, Signed};

/// Most GPUs of one machine.
pub const MAX_GPUS: usize = 16;
/// Most reference manifests that are looked at.
pub const MAX_MANIFESTS: usize = 8;
/// Most bytes of one GPU's certificates in PEM.
const MAX_CERTIFICATES: usize = 32 * 1024;
/// What the nonce of GPU evidence is made for.
const NONCE_DOMAIN: &[u8] = b"tacit.gpu-nonce.v1\0";

/// The nonce that the GPUs of a machine must answer: SHA-256(`tacit.gpu-nonce.v1`, zero byte ‖ keyset digest ‖ the asker's nonce).
///
/// It ties the GPUs to the machine whose CPU evidence binds the same keyset, and to one question.
pub fn gpu_nonce(keyset: KeysetDigest, nonce: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(NONCE_DOMAIN).chain_update(keyset).chain_update(nonce).finalize().into()
}

/// What the GPUs of one machine signed, not yet believed.
///
/// JSON form, version 1: `{"version":1,"evidenceList":[…]}`, whose items are those that NVIDIA's tools write:
/// `{"arch":"HOPPER"|"BLACKWELL","nonce":<hex>,"certificate":<base64 of PEM>,"evidence":<base64>}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "EvidenceTwin", try_from = "EvidenceTwin")]
pub struct GpuEvidence {
    items: Vec<GpuItem>,
}

/// What one GPU signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuItem {
    /// The architecture that the sender says.
    pub architecture: GpuArchitecture,
    /// The nonce that the sender says it asked with.
    pub nonce: [u8; 32],
    /// The chain of the GPU's key in PEM, leaf first.
    pub certificates: Vec<u8>,
    /// The SPDM request and response, with the signature.
    pub report: Vec<u8>,
}

impl GpuEvidence {
    /// Puts the evidence of one or more GPUs together.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] for more than [`MAX_GPUS`] or a part that is too large, [`AttestError::Malformed`] for none.
    pub fn new(items: Vec<GpuItem>) -> Result<Self, AttestError> {
        const WHAT: &str = "GPU evidence";
        if items.is_empty() {
            return Err(AttestError::Malformed { what: WHAT, detail: "no GPU".into() });
        }
        if items.len() > MAX_GPUS {
            return Err(AttestError::Malformed { what: WHAT, detail: format!("more than {MAX_GPUS} GPUs") });
        }
        for item in &items {
            bounded("GPU certificate", item.certificates.len(), MAX_CERTIFICATES)?;
            bounded("GPU report", item.report.len(), MAX_REPORT)?;
        }
        Ok(Self { items })
    }

    /// The GPUs.
    pub fn items(&self) -> &[GpuItem] {
        &self.items
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] past [`crate::MAX_JSON`] bytes, [`AttestError::Malformed`] for another shape.
    pub fn from_json(bytes: &[u8]) -> Result<Self, AttestError> {
        from_json("GPU evidence", bytes)
    }

    /// Reads the bare list that NVIDIA's tools write.
    ///
    /// # Errors
    /// As [`GpuEvidence::from_json`].
    pub fn from_evidence_list(bytes: &[u8]) -> Result<Self, AttestError> {
        let evidence_list: Vec<ItemTwin> = from_json("GPU evidence", bytes)?;
        EvidenceTwin { version: One, evidence_list }.try_into()
    }

    /// Writes the JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and bytes always have a JSON form")
    }
}

/// What vouches for the GPUs' firmware: not yet believed either.
///
/// JSON form, version 1: `{"version":1,"manifests":[<base64 of XML>,…],"token":<JSON of a detached EAT>}`, the last where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuCollateral {
    version: One,
    manifests: Vec<ManifestBytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ManifestBytes(#[serde(with = "base64_bytes")] Vec<u8>);

impl GpuCollateral {
    /// Puts manifests (XML) and a detached EAT together.
    pub fn new(manifests: Vec<Vec<u8>>, token: Option<String>) -> Self {
        Self { version: One, manifests: manifests.into_iter().map(ManifestBytes).collect(), token }
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] past [`crate::MAX_JSON`] bytes, [`AttestError::Malformed`] for another shape.
    pub fn from_json(bytes: &[u8]) -> Result<Self, AttestError> {
        from_json("GPU collateral", bytes)
    }

    /// Writes the JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and bytes always have a JSON form")
    }
}

/// GPUs that passed every check of [`verify_gpus`]; nothing else can make them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedGpus {
    devices: Vec<Device>,
    voucher: Option<Voucher>,
    simulated: bool,
    expires: UnixTime,
    policy: PolicyHash,
}

/// One GPU of [`VerifiedGpus`].
#[derive(Debug, Clone, Copy)]
pub struct VerifiedGpu<'a>(&'a Device);

impl VerifiedGpus {
    /// The GPUs, in the order of the evidence.
    pub fn gpus(&self) -> impl ExactSizeIterator<Item = VerifiedGpu<'_>> {
        self.devices.iter().map(VerifiedGpu)
    }

    /// Their one architecture.
    pub fn architecture(&self) -> GpuArchitecture {
        self.devices[0].architecture
    }

    /// Who vouches for what they measured. `None` where the policy asked nobody: then nothing is said about their firmware.
    pub fn voucher(&self) -> Option<Voucher> {
        self.voucher
    }

    /// True if some root among those used makes simulated hardware or its manifests.
    pub fn simulated(&self) -> bool {
        self.simulated
    }

    /// When the first certificate expires.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// The hash of the policy that was applied.
    pub fn policy(&self) -> PolicyHash {
        self.policy
    }
}

impl<'a> VerifiedGpu<'a> {
    /// The GPU: SHA-256 of `nvidia`, a zero byte and the public key of its boot ROM.
    pub fn id(self) -> ChipId {
        self.0.id
    }

    /// The model as the boot ROM's certificate names it.
    pub fn model(self) -> &'a str {
        &self.0.model
    }

    /// The serial number of the leaf certificate in decimal, which NVIDIA calls UEID.
    pub fn ueid(self) -> &'a str {
        &self.0.ueid
    }

    /// The digest of the firmware to which the signing key belongs.
    pub fn firmware_id(self) -> &'a [u8; 48] {
        &self.0.firmware_id
    }

    /// What the GPU reported.
    pub fn report(self) -> &'a GpuReport {
        &self.0.report
    }

    /// SHA-256 of the root certificate in which the GPU's chain ended.
    pub fn root(self) -> RootId {
        self.0.root
    }

    /// The name under which the policy lists that root.
    pub fn root_name(self) -> &'a str {
        &self.0.root_name
    }
}

/// Verifies the GPUs of one machine: each one's signature, chain and firmware id, that all answer `nonce` ([`gpu_nonce`]), and
/// what the policy's section on GPUs demands.
///
/// What vouches for the firmware is tried in the policy's order. With none that holds, the first refusal is returned.
///
/// # Errors
/// [`AttestError`], one variant per check; those of GPUs alone are [`GpuError`].
pub fn verify_gpus(
    evidence: &GpuEvidence,
    collateral: &GpuCollateral,
    policy: &Policy,
    nonce: &[u8; 32],
    now: UnixTime,
) -> Result<VerifiedGpus, AttestError> {
    let malformed = |error: crate::PolicyError| AttestError::Malformed { what: "policy", detail: error.to_string() };
    policy.validate().map_err(malformed)?;
    let demands = policy.gpu.as_ref().ok_or(GpuError::NotInPolicy)?;
    let devices = evidence
        .items
        .iter()
        .map(|item| Device::verify(item, policy, nonce, now))
        .collect::<Result<Vec<Device>, AttestError>>()?;
    check_together(&devices)?;
    check_demands(&devices, demands)?;

    let mut verified = VerifiedGpus {
        voucher: None,
        simulated: devices.iter().any(|device| device.simulated),
        expires: devices.iter().map(|device| device.expires).min().unwrap_or(now),
        policy: policy.hash().map_err(malformed)?,
        devices,
    };
    let GpuFirmware::Vouched(vouchers) = &demands.firmware else { return Ok(verified) };
    let mut refused = None;
    for voucher in vouchers {
        let result = match voucher {
            Voucher::Manifest if collateral.manifests.is_empty() => continue,
            Voucher::Manifest => check_manifests(&mut verified, collateral, policy, now),
            Voucher::Token => match &collateral.token {
                None => continue,
                Some(token) => token::verify(token, demands, &verified.devices, nonce, now),
            },
        };
        match result {
            Ok(()) => {
                verified.voucher = Some(*voucher);
                return Ok(verified);
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(GpuError::NotVouchedFor.into()))
}

/// For the benchmark: every GPU's signature and chain, and nothing else.
pub(crate) fn check_signatures(evidence: &GpuEvidence, policy: &Policy, now: UnixTime) -> Result<(), AttestError> {
    evidence.items.iter().try_for_each(|item| Signed::check(item, policy, now).map(drop))
}

/// What a policy demands of a machine that may have shown GPUs: none at all is refused where they are required.
///
/// # Errors
/// [`GpuError::Missing`].
pub fn require_gpus(policy: &Policy, gpus: Option<&VerifiedGpus>) -> Result<(), AttestError> {
    match gpus {
        None if policy.gpu.as_ref().is_some_and(|demands| demands.required) => Err(GpuError::Missing.into()),
        _ => Ok(()),
    }
}

/// Several GPUs: each another one, all alike.
fn check_together(devices: &[Device]) -> Result<(), AttestError> {
    for (index, device) in devices.iter().enumerate() {
        let twin = |other: &Device| other.id == device.id || other.leaf == device.leaf || other.ueid == device.ueid;
        if devices[..index].iter().any(twin) {
            return Err(GpuError::Duplicate { gpu: device.id.to_string() }.into());
        }
        if device.architecture != devices[0].architecture {
            return Err(GpuError::MixedArchitectures.into());
        }
    }
    Ok(())
}

fn check_demands(devices: &[Device], demands: &GpuPolicy) -> Result<(), AttestError> {
    let expected = usize::from(demands.count);
    if expected != 0 && devices.len() != expected {
        return Err(GpuError::Count { found: devices.len(), expected }.into());
    }
    for device in devices {
        if !demands.architectures.contains(&device.architecture) {
            return Err(GpuError::ArchitectureDenied { found: device.architecture }.into());
        }
        if demands.denied.contains(&device.id) {
            return Err(GpuError::Denied { gpu: device.id.to_string() }.into());
        }
        let driver = &device.report.driver;
        if let Some(minimum) = demands.minimum_driver.as_ref().filter(|minimum| driver.is_older_than(minimum)) {
            return Err(GpuError::DriverTooOld { found: driver.clone(), minimum: minimum.clone() }.into());
        }
        let found = device.report.vbios;
        if let Some(&minimum) = demands.minimum_vbios.get(&device.architecture).filter(|minimum| found < **minimum) {
            return Err(GpuError::VbiosTooOld { found, minimum }.into());
        }
    }
    Ok(())
}

/// Each GPU against the manifests of its driver and its VBIOS.
fn check_manifests(
    verified: &mut VerifiedGpus,
    collateral: &GpuCollateral,
    policy: &Policy,
    now: UnixTime,
) -> Result<(), AttestError> {
    if collateral.manifests.len() > MAX_MANIFESTS {
        let detail = format!("more than {MAX_MANIFESTS} manifests");
        return Err(AttestError::Malformed { what: "GPU collateral", detail });
    }
    let manifests = collateral
        .manifests
        .iter()
        .map(|manifest| Manifest::verify(&manifest.0, policy, now))
        .collect::<Result<Vec<Manifest>, AttestError>>()?;
    for device in &verified.devices {
        let driver = matching(&manifests, "driver", &device.report.driver.to_string(), device)?;
        let vbios = matching(&manifests, "VBIOS", &device.report.vbios.to_string(), device)?;
        if let Some(slot) = driver.active_slots().find(|slot| vbios.active_slots().any(|other| other == *slot)) {
            return Err(GpuError::SlotConflict { slot }.into());
        }
        for manifest in [driver, vbios] {
            verified.simulated |= manifest.simulated();
            verified.expires = verified.expires.min(manifest.expires());
        }
    }
    Ok(())
}

/// The manifest of that version and chip whose slots all match. A manifest does not say which board it is for, so that several may
/// be of one version: one that matches is enough, and which one is decided by what the GPU measured.
fn matching<'m>(
    manifests: &'m [Manifest],
    what: &'static str,
    version: &str,
    device: &Device,
) -> Result<&'m Manifest, AttestError> {
    let mut refused = None;
    let of_version =
        |manifest: &&Manifest| manifest.version().eq_ignore_ascii_case(version) && manifest.chip() == device.chip_name;
    for manifest in manifests.iter().filter(of_version) {
        let slots = manifest.differing_slots(&device.report);
        if slots.is_empty() {
            return Ok(manifest);
        }
        refused = refused.or(Some(GpuError::SlotsDiffer { what, slots }));
    }
    let missing = || GpuError::NoManifest { what, version: version.to_owned(), chip: device.chip_name.clone() };
    Err(refused.unwrap_or_else(missing).into())
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EvidenceTwin {
    version: One,
    evidence_list: Vec<ItemTwin>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemTwin {
    arch: String,
    nonce: String,
    certificate: String,
    evidence: String,
}

impl From<GpuEvidence> for EvidenceTwin {
    fn from(evidence: GpuEvidence) -> Self {
        let item = |item: GpuItem| ItemTwin {
            arch: item.architecture.to_string(),
            nonce: hex::encode(item.nonce),
            certificate: STANDARD.encode(item.certificates),
            evidence: STANDARD.encode(item.report),
        };
        Self { version: One, evidence_list: evidence.items.into_iter().map(item).collect() }
    }
}

impl TryFrom<EvidenceTwin> for GpuEvidence {
    type Error = AttestError;

    fn try_from(twin: EvidenceTwin) -> Result<Self, AttestError> {
        let malformed = |detail: &str| AttestError::Malformed { what: "GPU evidence", detail: detail.to_owned() };
        let item = |item: ItemTwin| {
            let mut nonce = [0; 32];
            hex::decode_to_slice(&item.nonce, &mut nonce)
                .map_err(|_| malformed("a nonce that is not 32 bytes in hex"))?;
            Ok(GpuItem {
                architecture: [GpuArchitecture::Hopper, GpuArchitecture::Blackwell]
                    .into_iter()
                    .find(|architecture| architecture.to_string() == item.arch)
                    .ok_or_else(|| malformed("an architecture that is not known"))?,
                nonce,
                certificates: STANDARD.decode(item.certificate).map_err(|_| malformed("certificates not in base64"))?,
                report: STANDARD.decode(item.evidence).map_err(|_| malformed("evidence not in base64"))?,
            })
        };
        Self::new(twin.evidence_list.into_iter().map(item).collect::<Result<_, AttestError>>()?)
    }
}

/// For fuzzing: reads hostile bytes as every structure of this module.
pub(crate) fn parse_hostile(bytes: &[u8]) {
    let _ = GpuReport::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(root) = xml::Element::parse(text)
    {
        // What was read has a canonical form, and that form is canonical.
        let canonical = root.canonical_without(usize::MAX);
        let again = xml::Element::parse(&canonical).map(|root| root.canonical_without(usize::MAX));
        assert_eq!(again.as_ref(), Ok(&canonical));
    }
}
