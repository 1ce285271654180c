//! A GPU's report: the SPDM 1.1 request GET_MEASUREMENTS and its response, as the GPU signed them (DMTF DSP0274, 10.11).
//!
//! The opaque fields at the end are NVIDIA's: type and length, 16 bits each, then the value.

use sha2::{Digest as _, Sha256};

use super::version::{DriverVersion, VbiosVersion};
use crate::AttestError;
use crate::evidence::bounded;

/// Most bytes of one report.
pub const MAX_REPORT: usize = 64 * 1024;
/// Bytes of the signature at the end, r ‖ s.
pub(crate) const SIGNATURE: usize = 96;

const WHAT: &str = "GPU report";
const REQUEST: usize = 37;
/// Version 1.1, GET_MEASUREMENTS, with signature, all measurements.
const REQUEST_HEAD: [u8; 4] = [0x11, 0xe0, 0x01, 0xff];
/// Version 1.1, MEASUREMENTS, and two parameters that are zero for such a request and slot 0.
const RESPONSE_HEAD: [u8; 4] = [0x11, 0x60, 0x00, 0x00];
const DMTF_SPECIFICATION: u8 = 1;
const DIGEST: usize = 48;

const DRIVER_VERSION: u16 = 3;
const VBIOS_VERSION: u16 = 6;
const NVDEC0_STATUS: u16 = 11;
const CHIP_SKU: u16 = 15;
const PROJECT: u16 = 17;
const PROJECT_SKU: u16 = 18;
const FWID: u16 = 20;
const PROTECTED_PCIE: u16 = 21;

/// What a GPU reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuReport {
    pub(crate) nonce: [u8; 32],
    /// Slot i of the reference manifests is block i + 1 of the response.
    pub(crate) slots: Vec<[u8; DIGEST]>,
    pub(crate) driver: DriverVersion,
    pub(crate) vbios: VbiosVersion,
    pub(crate) project: String,
    pub(crate) project_sku: String,
    pub(crate) chip_sku: String,
    pub(crate) fwid: Option<[u8; DIGEST]>,
    /// Slot 35 measures the first video decoder, where that is switched on.
    pub(crate) decoder_enabled: bool,
    pub(crate) protected_pcie: Option<bool>,
    /// SHA-256 of the whole report.
    pub(crate) digest: [u8; 32],
}

impl GpuReport {
    /// Reads a report. Nothing here says that a GPU made it: see [`super::verify_gpus`].
    ///
    /// # Errors
    /// [`AttestError::Oversized`], [`AttestError::Truncated`], [`AttestError::TrailingBytes`], [`AttestError::Unsupported`] or
    /// [`AttestError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        bounded(WHAT, bytes.len(), MAX_REPORT)?;
        let mut reader = Bytes(bytes);
        let request = reader.take(REQUEST)?;
        if request[..4] != REQUEST_HEAD {
            return Err(unsupported("SPDM request", word(&request[..4])));
        }
        if request[36] != 0 {
            return Err(unsupported("SPDM slot", request[36].into()));
        }
        let head = reader.take(4)?;
        if head != RESPONSE_HEAD {
            return Err(unsupported("SPDM response", word(head)));
        }
        let blocks = reader.byte()?;
        let length = reader.take(3)?;
        let length = usize::from(length[0]) | usize::from(length[1]) << 8 | usize::from(length[2]) << 16;
        let slots = slots(blocks, reader.take(length)?)?;
        // The GPU's own random number: nothing rests on it.
        reader.take(32)?;
        let length = reader.short()?;
        let opaque = Opaque::parse(reader.take(length.into())?)?;
        reader.take(SIGNATURE)?;
        if !reader.0.is_empty() {
            return Err(AttestError::TrailingBytes { what: WHAT });
        }
        let mut nonce = [0; 32];
        nonce.copy_from_slice(&request[4..36]);
        Ok(Self {
            nonce,
            slots,
            driver: opaque.text(DRIVER_VERSION, "driver version")?.parse()?,
            vbios: VbiosVersion::from_report(opaque.exact(VBIOS_VERSION, "VBIOS version")?)?,
            project: opaque.text(PROJECT, "project")?,
            project_sku: opaque.text(PROJECT_SKU, "project SKU")?,
            chip_sku: opaque.text(CHIP_SKU, "chip SKU")?,
            fwid: opaque.find(FWID).map(|_| opaque.exact(FWID, "firmware id")).transpose()?,
            decoder_enabled: opaque.switch(NVDEC0_STATUS, "video decoder status")?.unwrap_or(true),
            protected_pcie: opaque.switch(PROTECTED_PCIE, "protected PCIe status")?,
            digest: Sha256::digest(bytes).into(),
        })
    }

    /// The nonce of the request.
    pub fn nonce(&self) -> &[u8; 32] {
        &self.nonce
    }

    /// The driver that asked the GPU, as the GPU reports it.
    pub fn driver(&self) -> &DriverVersion {
        &self.driver
    }

    /// The firmware in the GPU's ROM.
    pub fn vbios(&self) -> VbiosVersion {
        self.vbios
    }

    /// Whether the GPU says that it is in the mode for several GPUs (protected PCIe), where it says so.
    pub fn protected_pcie(&self) -> Option<bool> {
        self.protected_pcie
    }

    /// SHA-256 of the whole report.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The measurements: slot 0 first.
    pub fn slots(&self) -> &[[u8; 48]] {
        &self.slots
    }

    /// The name under which NVIDIA's service keeps the manifest of this VBIOS:
    /// `NV_GPU_VBIOS_<project>_<project SKU>_<chip SKU>_<version>`.
    pub fn vbios_manifest_id(&self) -> String {
        let version = self.vbios.to_string().replace('.', "");
        format!("NV_GPU_VBIOS_{}_{}_{}_{version}", self.project, self.project_sku, self.chip_sku).to_uppercase()
    }
}

/// The measurement blocks, numbered 1, 2, 3 and so on.
fn slots(blocks: u8, record: &[u8]) -> Result<Vec<[u8; DIGEST]>, AttestError> {
    let mut reader = Bytes(record);
    let mut slots = Vec::with_capacity(blocks.into());
    for number in 1..=blocks {
        if reader.byte()? != number {
            return Err(malformed(format!("measurement {number} does not stand in its place")));
        }
        let specification = reader.byte()?;
        if specification != DMTF_SPECIFICATION {
            return Err(unsupported("measurement specification", specification.into()));
        }
        let size = usize::from(reader.short()?);
        let _kind = reader.byte()?;
        let length = usize::from(reader.short()?);
        if length != DIGEST || size != DIGEST + 3 {
            return Err(malformed(format!("measurement {number} has {length} bytes, SHA-384 has 48")));
        }
        slots.push(reader.array()?);
    }
    if slots.is_empty() {
        return Err(malformed("no measurement".into()));
    }
    if !reader.0.is_empty() {
        return Err(AttestError::TrailingBytes { what: WHAT });
    }
    Ok(slots)
}

/// NVIDIA's fields, by type. Types that are not used here are kept as bytes: the GPU signed them, and nothing rests on them.
struct Opaque<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Opaque<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, AttestError> {
        let mut reader = Bytes(bytes);
        let mut fields: Vec<(u16, &[u8])> = Vec::new();
        while !reader.0.is_empty() {
            let (kind, length) = (reader.short()?, reader.short()?);
            if fields.iter().any(|(other, _)| *other == kind) {
                return Err(malformed(format!("field {kind} stands twice")));
            }
            if fields.len() == 64 {
                return Err(malformed("more than 64 fields".into()));
            }
            fields.push((kind, reader.take(length.into())?));
        }
        Ok(Self(fields))
    }

    fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(other, _)| *other == kind).map(|(_, value)| *value)
    }

    fn required(&self, kind: u16, name: &str) -> Result<&'a [u8], AttestError> {
        self.find(kind).ok_or_else(|| malformed(format!("no field {kind}, {name}")))
    }

    fn exact<const N: usize>(&self, kind: u16, name: &str) -> Result<[u8; N], AttestError> {
        let value = self.required(kind, name)?;
        value.try_into().map_err(|_| malformed(format!("{name} of {} bytes, {N} are expected", value.len())))
    }

    /// Printable text, padded with zero bytes.
    fn text(&self, kind: u16, name: &str) -> Result<String, AttestError> {
        let value = self.required(kind, name)?;
        let end = value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let text = &value[..end];
        if text.is_empty() || text.len() > 64 || !text.iter().all(u8::is_ascii_graphic) {
            return Err(malformed(format!("{name} is no text")));
        }
        Ok(text.iter().copied().map(char::from).collect())
    }

    /// One byte that says on (0xaa) or off (0x55).
    fn switch(&self, kind: u16, name: &str) -> Result<Option<bool>, AttestError> {
        match self.find(kind) {
            None => Ok(None),
            Some([0xaa]) => Ok(Some(true)),
            Some([0x55]) => Ok(Some(false)),
            Some(_) => Err(malformed(format!("{name} says neither on nor off"))),
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], AttestError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(AttestError::Truncated { what: WHAT })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AttestError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn byte(&mut self) -> Result<u8, AttestError> {
        self.array().map(|[byte]| byte)
    }

    fn short(&mut self) -> Result<u16, AttestError> {
        self.array().map(u16::from_le_bytes)
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn malformed(detail: String) -> AttestError {
    AttestError::Malformed { what: WHAT, detail }
}

fn unsupported(what: &'static str, found: u32) -> AttestError {
    AttestError::Unsupported { what, found }
}
