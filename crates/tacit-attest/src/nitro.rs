//! AWS Nitro: an attestation document of the enclave's security module, COSE_Sign1 (RFC 9052) over CBOR.
//!
//! The format is that of AWS's "Verifying the root of trust" (aws-nitro-enclaves-nsm-api, `attestation_process.md`).

use sha2::{Digest as _, Sha256};
use tacit_types::eip712::Platform;
use tacit_types::{ChipId, Measurement, UnixTime};

use crate::cbor::{Entries, Reader};
use crate::path::Path;
use crate::root::{TrustedRoot, Vendor};
use crate::verified::{Claims, Details, NitroFields, PlatformDetails};
use crate::{AttestError, HardwareClass, Policy, TcbStatus, path};

const WHAT: &str = "Nitro document";
/// The protected header: `{1: -35}`, algorithm ES384, and nothing else.
const PROTECTED: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
const MAX_PAYLOAD: usize = 64 * 1024;
const MAX_CERTIFICATE: usize = 1024;
/// Bounds that AWS states for the three fields an enclave fills in.
const MAX_PUBLIC_KEY: usize = 1024;
const MAX_USER_DATA: usize = 512;
const MAX_NONCE: usize = 512;
const PCRS: usize = 16;
/// Most seconds that a document's clock may run before the verifier's.
const CLOCK_SLACK: u64 = 60;

/// The document, its path and when it was signed, once signature and path hold.
pub(crate) fn check_signatures(
    bytes: &[u8],
    roots: impl Iterator<Item = TrustedRoot>,
    now: UnixTime,
) -> Result<(Document<'_>, Path, UnixTime), AttestError> {
    let signed = Signed::parse(bytes)?;
    let document = Document::parse(signed.payload)?;

    // Leaf first; the bundle is written from the root down.
    let chain: Vec<Vec<u8>> = std::iter::once(document.certificate)
        .chain(document.authorities.iter().rev().copied())
        .map(<[u8]>::to_vec)
        .collect();
    let certificates = path::parse("Nitro certificate", &chain)?;
    let key = path::key("Nitro certificate", &certificates[0])?;
    path::check_signature(WHAT, &key, &signed.structure(), signed.signature)?;
    let signed_at = UnixTime(document.timestamp / 1000);
    let path = path::verify("Nitro certificate", certificates, roots, &[now, signed_at])?;
    Ok((document, path, signed_at))
}

pub(crate) fn verify(bytes: &[u8], policy: &Policy, now: UnixTime) -> Result<Claims, AttestError> {
    let (document, path, signed_at) = check_signatures(bytes, policy.trusted_roots(Vendor::Aws), now)?;
    if signed_at > now.plus(CLOCK_SLACK) {
        return Err(AttestError::FromTheFuture { what: WHAT, seconds: signed_at.0 - now.0 });
    }
    let age = now.0.saturating_sub(signed_at.0);
    if age > policy.max_document_age {
        return Err(AttestError::DocumentTooOld { what: WHAT, age, limit: policy.max_document_age });
    }
    // In debug mode the host reads the enclave's console, and the module says so by registers that are zero.
    if document.pcrs[..3].contains(&&[0; 48]) {
        return Err(AttestError::Debug);
    }
    let report_data = document.user_data.and_then(|data| <[u8; 64]>::try_from(data).ok());
    let report_data = report_data.ok_or_else(|| AttestError::Malformed {
        what: WHAT,
        detail: format!("user data of {} bytes, report data has 64", document.user_data.map_or(0, <[u8]>::len)),
    })?;

    let measurement = document.pcrs[..3].iter().fold(Sha256::new(), |hash, pcr| hash.chain_update(pcr));
    let names = [("PCR0", 0), ("PCR1", 1), ("PCR2", 2), ("PCR3", 3), ("PCR4", 4), ("PCR8", 8)];
    Ok(Claims {
        platform: Platform::Nitro,
        class: HardwareClass::AwsNitro,
        root: path.root.id,
        root_name: path.root.name,
        simulated: path.root.simulated,
        measurement: Measurement::from(<[u8; 32]>::from(measurement.finalize())),
        registers: names.into_iter().map(|(name, index)| (name, document.pcrs[index].to_vec())).collect(),
        chip: ChipId::from(<[u8; 32]>::from(
            Sha256::new().chain_update(b"aws\0").chain_update(document.module_id).finalize(),
        )),
        report_data,
        status: TcbStatus::UpToDate,
        advisories: vec![],
        collateral_time: signed_at,
        collateral_expires: path.expires,
        evaluation_number: None,
        crl_numbers: None,
        tcb: "none stated by AWS".into(),
        details: Details {
            platform: PlatformDetails::Nitro(Box::new(NitroFields {
                module_id: document.module_id.to_owned(),
                signed_at,
                nonce: document.nonce.map(<[u8]>::to_vec),
                public_key: document.public_key.map(<[u8]>::to_vec),
            })),
            ..Details::default()
        },
    })
}

/// A COSE_Sign1 structure: protected header, empty unprotected header, payload, signature.
struct Signed<'a> {
    payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, AttestError> {
        let mut reader = Reader::new(WHAT, bytes);
        if reader.array(4)? != 4 {
            return Err(reader.malformed("a COSE_Sign1 structure has four parts".into()));
        }
        let protected = reader.bytes(64)?;
        if protected != PROTECTED {
            return Err(reader.malformed("the protected header is not that of ES384 alone".into()));
        }
        reader.map(0)?;
        let payload = reader.bytes(MAX_PAYLOAD)?;
        let signature = reader.bytes(96)?;
        reader.end()?;
        Ok(Self { payload, signature })
    }

    /// What is signed: `["Signature1", protected, h'', payload]` (RFC 9052, section 4.4).
    fn structure(&self) -> Vec<u8> {
        let mut structure = Vec::with_capacity(self.payload.len() + 32);
        structure.extend_from_slice(b"\x84\x6aSignature1\x44");
        structure.extend_from_slice(&PROTECTED);
        structure.push(0x40);
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        match length {
            0..24 => structure.push(0x40 | length.to_be_bytes()[3]),
            24..256 => structure.extend_from_slice(&[0x58, length.to_be_bytes()[3]]),
            256..65536 => {
                structure.push(0x59);
                structure.extend_from_slice(&length.to_be_bytes()[2..]);
            }
            _ => {
                structure.push(0x5a);
                structure.extend_from_slice(&length.to_be_bytes());
            }
        }
        structure.extend_from_slice(self.payload);
        structure
    }
}

/// The signed content.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    module_id: &'a str,
    /// Milliseconds since 1970.
    timestamp: u64,
    pcrs: [&'a [u8; 48]; PCRS],
    certificate: &'a [u8],
    authorities: Vec<&'a [u8]>,
    public_key: Option<&'a [u8]>,
    user_data: Option<&'a [u8]>,
    nonce: Option<&'a [u8]>,
}

/// Each member once: `None` until it was read.
#[derive(Default)]
struct Members<'a> {
    module_id: Option<&'a str>,
    digest: Option<&'a str>,
    timestamp: Option<u64>,
    pcrs: Option<[&'a [u8; 48]; PCRS]>,
    certificate: Option<&'a [u8]>,
    authorities: Option<Vec<&'a [u8]>>,
    public_key: Option<Option<&'a [u8]>>,
    user_data: Option<Option<&'a [u8]>>,
    nonce: Option<Option<&'a [u8]>>,
}

impl<'a> Document<'a> {
    fn parse(payload: &'a [u8]) -> Result<Self, AttestError> {
        let mut reader = Reader::new(WHAT, payload);
        let mut members = Members::default();
        // The module leaves the length of this one map open; it is the only open length that is read.
        match reader.open_map(9)? {
            Entries::Counted(entries) => {
                for _ in 0..entries {
                    members.read(&mut reader)?;
                }
            }
            Entries::UntilBreak => {
                while !reader.is_break() {
                    members.read(&mut reader)?;
                }
            }
        }
        let malformed = |detail: String| AttestError::Malformed { what: WHAT, detail };
        reader.end()?;
        let missing = |member: &str| malformed(format!("no member `{member}`"));
        if members.digest.ok_or_else(|| missing("digest"))? != "SHA384" {
            return Err(malformed("a digest other than SHA384".into()));
        }
        let module_id = members.module_id.ok_or_else(|| missing("module_id"))?;
        if module_id.is_empty() || !module_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed("a module id that is not printable".into()));
        }
        let authorities = members.authorities.ok_or_else(|| missing("cabundle"))?;
        Ok(Self {
            module_id,
            timestamp: members.timestamp.ok_or_else(|| missing("timestamp"))?,
            pcrs: members.pcrs.ok_or_else(|| missing("pcrs"))?,
            certificate: members.certificate.ok_or_else(|| missing("certificate"))?,
            authorities,
            public_key: members.public_key.flatten(),
            user_data: members.user_data.flatten(),
            nonce: members.nonce.flatten(),
        })
    }
}

impl<'a> Members<'a> {
    /// Reads one member and its value.
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), AttestError> {
        fn once<T>(reader: &Reader<'_>, name: &str, place: &mut Option<T>, value: T) -> Result<(), AttestError> {
            if place.replace(value).is_some() {
                return Err(reader.malformed(format!("member `{name}` stands twice")));
            }
            Ok(())
        }
        let name = reader.text(32)?;
        match name {
            "module_id" => {
                let value = reader.text(256)?;
                once(reader, name, &mut self.module_id, value)
            }
            "digest" => {
                let value = reader.text(16)?;
                once(reader, name, &mut self.digest, value)
            }
            "timestamp" => {
                let value = reader.unsigned()?;
                once(reader, name, &mut self.timestamp, value)
            }
            "pcrs" => {
                let value = read_pcrs(reader)?;
                once(reader, name, &mut self.pcrs, value)
            }
            "certificate" => {
                let value = reader.bytes(MAX_CERTIFICATE)?;
                once(reader, name, &mut self.certificate, value)
            }
            "cabundle" => {
                let length = reader.array(path::MAX_PATH as u64 - 1)?;
                let value = (0..length).map(|_| reader.bytes(MAX_CERTIFICATE)).collect::<Result<Vec<_>, _>>()?;
                once(reader, name, &mut self.authorities, value)
            }
            "public_key" => {
                let value = reader.optional_bytes(MAX_PUBLIC_KEY)?;
                once(reader, name, &mut self.public_key, value)
            }
            "user_data" => {
                let value = reader.optional_bytes(MAX_USER_DATA)?;
                once(reader, name, &mut self.user_data, value)
            }
            "nonce" => {
                let value = reader.optional_bytes(MAX_NONCE)?;
                once(reader, name, &mut self.nonce, value)
            }
            other => Err(reader.malformed(format!("unknown member `{}`", other.escape_default()))),
        }
    }
}

/// Registers 0 to 15, each once, each as long as SHA-384.
fn read_pcrs<'a>(reader: &mut Reader<'a>) -> Result<[&'a [u8; 48]; PCRS], AttestError> {
    let entries = reader.map(PCRS as u64)?;
    let mut found: [Option<&'a [u8; 48]>; PCRS] = [None; PCRS];
    for _ in 0..entries {
        let index = reader.unsigned()?;
        let value = reader.bytes(48)?;
        let value: &[u8; 48] =
            value.try_into().map_err(|_| reader.malformed(format!("register {index} has {} bytes", value.len())))?;
        let place = usize::try_from(index).ok().and_then(|index| found.get_mut(index));
        let place = place.ok_or_else(|| reader.malformed(format!("register {index} is not known")))?;
        if place.replace(value).is_some() {
            return Err(reader.malformed(format!("register {index} stands twice")));
        }
    }
    let mut registers = [&[0; 48]; PCRS];
    for (index, (register, value)) in registers.iter_mut().zip(found).enumerate() {
        *register = value.ok_or_else(|| reader.malformed(format!("no register {index}")))?;
    }
    Ok(registers)
}

/// For fuzzing: reads hostile bytes as structure and content.
pub(crate) fn parse_hostile(bytes: &[u8]) {
    let _ = Document::parse(bytes);
    if let Ok(signed) = Signed::parse(bytes) {
        let _ = Document::parse(signed.payload);
    }
}
