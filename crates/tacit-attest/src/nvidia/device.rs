//! One GPU: the chain of its key, and that its report is signed by it.

use sha2::{Digest as _, Sha256};
use tacit_types::{ChipId, RootId, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;

use super::report::{GpuReport, SIGNATURE};
use super::{GpuArchitecture, GpuError, GpuItem};
use crate::root::Vendor;
use crate::{AttestError, Policy, der, path};

const WHAT: &str = "GPU certificate";
/// Leaf (firmware), boot ROM, provisioner, identity of the chip's family, root.
const CHAIN: usize = 5;
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// TCG DICE: `CompositeDeviceID`, as Hopper writes it, and `DiceTcbInfo`, as Blackwell does.
const COMPOSITE_DEVICE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1");
const TCB_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1.1");
/// OBJECT IDENTIFIER 2.16.840.1.101.3.4.2.2, SHA-384, with its tag and length.
const SHA384_OID: [u8; 11] = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];

/// A GPU whose report is signed under a root that the policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) report: GpuReport,
    pub(crate) architecture: GpuArchitecture,
    /// The chip's name, as `GH100`.
    pub(crate) chip_name: String,
    /// Common name of the boot ROM's certificate, as tokens repeat it (`hwmodel`).
    pub(crate) model: String,
    /// Serial number of the leaf in decimal, as tokens repeat it (`ueid`).
    pub(crate) ueid: String,
    pub(crate) id: ChipId,
    pub(crate) leaf: [u8; 32],
    pub(crate) firmware_id: [u8; 48],
    pub(crate) root: RootId,
    pub(crate) root_name: String,
    pub(crate) simulated: bool,
    pub(crate) expires: UnixTime,
}

/// A report and its key's chain (DER), once signature and path hold.
pub(super) struct Signed {
    report: GpuReport,
    chain: Vec<Vec<u8>>,
    path: path::Path,
}

impl Signed {
    /// Signature first, then the chain.
    pub(super) fn check(item: &GpuItem, policy: &Policy, now: UnixTime) -> Result<Self, AttestError> {
        let report = GpuReport::parse(&item.report)?;
        let chain = der::certificates_in_pem(WHAT, &item.certificates)?;
        if chain.len() != CHAIN {
            let detail = format!("{} certificates, a GPU's chain has {CHAIN}", chain.len());
            return Err(AttestError::BadChain { what: WHAT, detail });
        }
        // What a policy or another verifier reads of the chain must be all that is in it.
        if der::certificates_to_pem(&chain).as_bytes().trim_ascii_end() != item.certificates.trim_ascii_end() {
            return Err(AttestError::TrailingBytes { what: WHAT });
        }
        let certificates = path::parse(WHAT, &chain)?;
        let key = path::key(WHAT, &certificates[0])?;
        let (signed, signature) = item.report.split_at(item.report.len().saturating_sub(SIGNATURE));
        path::check_signature("GPU report", &key, signed, signature)?;
        let path = path::verify(WHAT, certificates, policy.trusted_roots(Vendor::NvidiaDevice), &[now])?;
        Ok(Self { report, chain, path })
    }
}

impl Device {
    /// Signature and chain first, then what both say of each other.
    pub(crate) fn verify(
        item: &GpuItem,
        policy: &Policy,
        nonce: &[u8; 32],
        now: UnixTime,
    ) -> Result<Self, AttestError> {
        let Signed { report, chain, path } = Signed::check(item, policy, now)?;
        if report.nonce != *nonce || item.nonce != *nonce {
            return Err(AttestError::NonceMismatch);
        }
        let (leaf, rom, family) = (path.leaf(), &path.certificates[1], &path.certificates[3]);
        let model = common_name(rom)?;
        let chip_name = model.split(' ').next().unwrap_or_default().to_owned();
        let architecture = GpuArchitecture::of_chip(&chip_name).filter(|found| *found == item.architecture);
        let architecture = architecture.ok_or_else(|| GpuError::ArchitectureMismatch {
            said: item.architecture,
            found: chip_name.chars().take(16).collect(),
        })?;
        // The family's authority must be of the same architecture: `NVIDIA GH100 Identity`.
        let of_family = common_name(family)?.split(' ').find_map(GpuArchitecture::of_chip);
        if of_family != Some(architecture) {
            return Err(AttestError::BadChain { what: WHAT, detail: "an authority of another architecture".into() });
        }
        let firmware_id = firmware_id(leaf, architecture)?;
        // Reports of 2023 do not state it; the leaf's key exists for this firmware only, whatever the report says.
        if report.fwid.is_some_and(|stated| stated != firmware_id) {
            return Err(GpuError::FirmwareIdMismatch.into());
        }
        let rom_key = rom.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes();
        Ok(Self {
            architecture,
            chip_name,
            ueid: decimal(leaf.tbs_certificate.serial_number.as_bytes()),
            id: ChipId::from(<[u8; 32]>::from(
                Sha256::new().chain_update(b"nvidia\0").chain_update(rom_key).finalize(),
            )),
            leaf: Sha256::digest(&chain[0]).into(),
            model,
            firmware_id,
            root: path.root.id,
            root_name: path.root.name.clone(),
            simulated: path.root.simulated,
            expires: path.expires,
            report,
        })
    }
}

/// The one common name of a certificate's subject.
fn common_name(certificate: &Certificate) -> Result<String, AttestError> {
    let malformed = |detail: &str| AttestError::Malformed { what: WHAT, detail: detail.to_owned() };
    let mut names = certificate.tbs_certificate.subject.0.iter().flat_map(|name| name.0.iter());
    let mut names = names.by_ref().filter(|attribute| attribute.oid == COMMON_NAME);
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(malformed("a subject without one common name"));
    };
    let text = std::str::from_utf8(name.value.value()).ok();
    let text = text.filter(|text| text.len() <= 64 && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
    text.map(str::to_owned).ok_or_else(|| malformed("a common name that is not printable"))
}

/// The digest of the firmware that the leaf's key belongs to.
fn firmware_id(leaf: &Certificate, architecture: GpuArchitecture) -> Result<[u8; 48], AttestError> {
    let malformed = |detail: &str| AttestError::Malformed { what: WHAT, detail: detail.to_owned() };
    let extensions = leaf.tbs_certificate.extensions.as_deref().unwrap_or_default();
    let mut found = extensions.iter().filter(|extension| [COMPOSITE_DEVICE_ID, TCB_INFO].contains(&extension.extn_id));
    let (Some(extension), None) = (found.next(), found.next()) else {
        return Err(malformed("not exactly one firmware id"));
    };
    let expected = match architecture {
        GpuArchitecture::Hopper => COMPOSITE_DEVICE_ID,
        GpuArchitecture::Blackwell => TCB_INFO,
    };
    if extension.extn_id != expected {
        return Err(malformed("the firmware id of another architecture"));
    }
    let value = extension.extn_value.as_bytes();
    let read = match architecture {
        GpuArchitecture::Hopper => composite_device_id(value),
        GpuArchitecture::Blackwell => tcb_info(value),
    };
    read.ok_or_else(|| malformed("a firmware id that cannot be read"))
}

/// `SEQUENCE { INTEGER 1, SubjectPublicKeyInfo, SEQUENCE { OBJECT IDENTIFIER, OCTET STRING } }`.
fn composite_device_id(value: &[u8]) -> Option<[u8; 48]> {
    let (content, rest) = tlv(value, 0x30)?;
    let (version, after) = tlv(content, 0x02)?;
    let (_key, after) = tlv(after, 0x30)?;
    let (id, after) = tlv(after, 0x30)?;
    (version == [1] && rest.is_empty() && after.is_empty()).then_some(())?;
    fwid(id)
}

/// `DiceTcbInfo` (TCG DICE Attestation Architecture): optional fields with rising tags; the sixth holds the FWIDs, whose first is
/// that of the firmware that signs.
fn tcb_info(value: &[u8]) -> Option<[u8; 48]> {
    let (mut content, rest) = tlv(value, 0x30)?;
    rest.is_empty().then_some(())?;
    while let Some(&tag) = content.first() {
        let (field, after) = tlv(content, tag)?;
        if tag == 0xa6 {
            let (first, _) = tlv(field, 0x30)?;
            return fwid(first);
        }
        content = after;
    }
    None
}

fn fwid(id: &[u8]) -> Option<[u8; 48]> {
    let digest = id.strip_prefix(&SHA384_OID)?;
    let (digest, rest) = tlv(digest, 0x04)?;
    rest.is_empty().then_some(())?;
    digest.try_into().ok()
}

/// The content of the DER element at the front, which must have this tag, and what follows it.
fn tlv(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = bytes else { return None };
    (*found == tag).then_some(())?;
    let (length, rest) = match (*length, rest) {
        (short @ 0..=0x7f, rest) => (usize::from(short), rest),
        (0x81, [long, rest @ ..]) if *long >= 0x80 => (usize::from(*long), rest),
        (0x82, [high, low, rest @ ..]) if *high != 0 => (usize::from(*high) << 8 | usize::from(*low), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A big-endian number in decimal.
fn decimal(bytes: &[u8]) -> String {
    let mut digits = vec![0u8];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let value = u32::from(*digit) * 256 + carry;
            *digit = u8::try_from(value % 10).unwrap_or(0);
            carry = value / 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).unwrap_or(0));
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length_become_decimal() {
        assert_eq!(decimal(&[]), "0");
        assert_eq!(decimal(&[0, 0, 1, 0]), "256");
        assert_eq!(decimal(&u64::MAX.to_be_bytes()), u64::MAX.to_string());
        assert_eq!(decimal(&u128::MAX.to_be_bytes()), u128::MAX.to_string());
    }

    #[test]
    fn firmware_ids_are_read_in_one_form_only() {
        let id: Vec<u8> = SHA384_OID.into_iter().chain([0x04, 48]).chain([7; 48]).collect();
        let wrap = |tag: u8, content: &[u8]| {
            let length = u8::try_from(content.len()).unwrap();
            let head = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
            [head, content.to_vec()].concat()
        };
        let composite = wrap(0x30, &[wrap(2, &[1]), wrap(0x30, &[5, 0]), wrap(0x30, &id)].concat());
        assert_eq!(composite_device_id(&composite), Some([7; 48]));
        let info =
            wrap(0x30, &[wrap(0x80, b"NVIDIA"), wrap(0xa6, &[wrap(0x30, &id), wrap(0x30, &id)].concat())].concat());
        assert_eq!(tcb_info(&info), Some([7; 48]));
        assert_eq!(tcb_info(&composite), None);
        for end in 0..composite.len() {
            assert_eq!(composite_device_id(&composite[..end]), None);
        }
        for end in 0..info.len() {
            assert_eq!(tcb_info(&info[..end]), None);
        }
        assert_eq!(composite_device_id(&[composite.clone(), vec![0]].concat()), None);
        assert_eq!(tlv(&[4, 0x81, 5, 0, 0, 0, 0, 0], 4), None);
    }
}
