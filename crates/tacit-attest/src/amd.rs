//! AMD SEV-SNP: signatures by `sev` and `p384`, and everything that signatures do not say.

use p384::ecdsa::signature::Verifier as _;
use p384::ecdsa::{Signature, VerifyingKey};
use sev::certs::snp::{Certificate as SevCertificate, Verifiable as _};
use sha2::{Digest as _, Sha256};
use tacit_types::eip712::Platform;
use tacit_types::{ChipId, Measurement, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::asn1::OctetStringRef;

use crate::evidence::AmdCollateral;
use crate::root::{Vendor, VendorRoot, wrong_root};
use crate::verified::Claims;
use crate::{AttestError, HardwareClass, Policy, TcbStatus, der};

/// Bytes of a report.
pub(crate) const REPORT: usize = 1184;
/// Bytes of a report that are signed.
pub(crate) const SIGNED: usize = 0x2a0;

/// The extensions of a VCEK certificate (AMD 57230, table 8).
const PRODUCT_NAME: &str = "1.3.6.1.4.1.3704.1.2";
const BOOTLOADER: &str = "1.3.6.1.4.1.3704.1.3.1";
const TEE: &str = "1.3.6.1.4.1.3704.1.3.2";
const SNP: &str = "1.3.6.1.4.1.3704.1.3.3";
const MICROCODE: &str = "1.3.6.1.4.1.3704.1.3.8";
const FMC: &str = "1.3.6.1.4.1.3704.1.3.9";
const HARDWARE_ID: &str = "1.3.6.1.4.1.3704.1.4";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";

pub(crate) fn verify(
    document: &[u8],
    collateral: &AmdCollateral,
    policy: &Policy,
    now: UnixTime,
) -> Result<(Claims, [u8; 4]), AttestError> {
    collateral.check_sizes()?;
    let report = Report::parse(document)?;
    let ask = der::certificate("ASK certificate", &collateral.ask)?;
    let vcek = der::certificate("VCEK certificate", &collateral.vcek)?;

    let mut named = policy
        .trusted_roots(Vendor::Amd)
        .filter_map(|root| Some((der::certificate("ARK certificate", &root.certificate).ok()?, root)))
        .filter(|(ark, _)| ark.tbs_certificate.subject == ask.tbs_certificate.issuer)
        .peekable();
    if named.peek().is_none() {
        return Err(wrong_root(&ask.tbs_certificate.issuer));
    }
    // Two roots may bear one name: the signature decides.
    let (ark, root) =
        named.find(|(ark, _)| signs(ark, &ask)).ok_or(AttestError::BadSignature { what: "ASK certificate" })?;
    if vcek.tbs_certificate.issuer != ask.tbs_certificate.subject {
        return Err(AttestError::BadChain {
            what: "VCEK certificate",
            detail: "issued by another key than the ASK".into(),
        });
    }
    if !is_authority(&ask)? {
        return Err(AttestError::BadChain { what: "ASK certificate", detail: "not a certificate authority".into() });
    }
    if !signs(&ask, &vcek) {
        return Err(AttestError::BadSignature { what: "VCEK certificate" });
    }
    report.check_signature(document, &vcek)?;
    der::check_dates("ARK certificate", &ark, now)?;
    der::check_dates("ASK certificate", &ask, now)?;
    der::check_dates("VCEK certificate", &vcek, now)?;

    let class = report.class(&vcek, root.builtin)?;
    let reported = report.check_against(&vcek, class)?;
    report.check_guest()?;

    let expires = [&ark, &ask, &vcek].map(|certificate| der::dates(certificate).1);
    let claims = Claims {
        platform: Platform::SevSnp,
        class,
        root: root.id,
        root_name: root.name,
        simulated: root.simulated,
        measurement: Measurement::from(<[u8; 32]>::from(Sha256::digest(report.measurement))),
        registers: vec![
            ("MEASUREMENT", report.measurement.to_vec()),
            ("HOST_DATA", report.host_data.to_vec()),
            ("ID_KEY_DIGEST", report.id_key_digest.to_vec()),
        ],
        chip: ChipId::from(<[u8; 32]>::from(
            Sha256::new().chain_update(b"amd\0").chain_update(report.chip_id).finalize(),
        )),
        report_data: report.report_data,
        status: if report.reported_tcb == report.committed_tcb { TcbStatus::UpToDate } else { TcbStatus::OutOfDate },
        advisories: vec![],
        collateral_time: der::dates(&vcek).0,
        collateral_expires: expires.into_iter().min().unwrap_or(now),
        evaluation_number: None,
        crl_numbers: None,
        nitro: None,
        tcb: format!("bootloader {} tee {} snp {} microcode {}", reported[0], reported[1], reported[2], reported[3]),
    };
    Ok((claims, reported))
}

/// True if `signer` signed `signee` (RSA-PSS with SHA-384, as AMD's authorities do).
fn signs(signer: &Certificate, signee: &Certificate) -> bool {
    (&SevCertificate::from(signer.clone()), &SevCertificate::from(signee.clone())).verify().is_ok()
}

fn is_authority(certificate: &Certificate) -> Result<bool, AttestError> {
    let Some(value) = extension(certificate, BASIC_CONSTRAINTS) else { return Ok(false) };
    x509_cert::ext::pkix::BasicConstraints::from_der(value)
        .map(|constraints| constraints.ca)
        .map_err(|error| AttestError::Malformed { what: "ASK certificate", detail: error.to_string() })
}

fn extension<'a>(certificate: &'a Certificate, oid: &str) -> Option<&'a [u8]> {
    let oid = ObjectIdentifier::new(oid).ok()?;
    let extensions = certificate.tbs_certificate.extensions.as_deref()?;
    extensions.iter().find(|extension| extension.extn_id == oid).map(|extension| extension.extn_value.as_bytes())
}

/// A security version number of a VCEK certificate: a DER INTEGER of one byte.
fn version_number(certificate: &Certificate, oid: &str) -> Result<u8, AttestError> {
    let malformed = |detail: String| AttestError::Malformed { what: "VCEK certificate", detail };
    let value = extension(certificate, oid).ok_or_else(|| malformed(format!("no extension {oid}")))?;
    u8::from_der(value).map_err(|error| malformed(error.to_string()))
}

/// The fields of a report (AMD 56860, table 23) that are judged here.
struct Report {
    version: u32,
    guest_policy: u64,
    vmpl: u32,
    signature_algorithm: u32,
    key_info: u32,
    report_data: [u8; 64],
    measurement: [u8; 48],
    host_data: [u8; 32],
    id_key_digest: [u8; 48],
    reported_tcb: [u8; 8],
    cpuid: (u8, u8),
    chip_id: [u8; 64],
    committed_tcb: [u8; 8],
}

impl Report {
    fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        const WHAT: &str = "SEV-SNP report";
        if bytes.len() < REPORT {
            return Err(AttestError::Truncated { what: WHAT });
        }
        if bytes.len() > REPORT {
            return Err(AttestError::TrailingBytes { what: WHAT });
        }
        fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
            let mut out = [0; N];
            out.copy_from_slice(&bytes[at..at + N]);
            out
        }
        let word = |at: usize| u32::from_le_bytes(array(bytes, at));
        let version = word(0);
        if !(2..=5).contains(&version) {
            return Err(AttestError::Unsupported { what: "report version", found: version });
        }
        let report = Self {
            version,
            guest_policy: u64::from_le_bytes(array(bytes, 0x08)),
            vmpl: word(0x30),
            signature_algorithm: word(0x34),
            key_info: word(0x48),
            report_data: array(bytes, 0x50),
            measurement: array(bytes, 0x90),
            host_data: array(bytes, 0xc0),
            id_key_digest: array(bytes, 0xe0),
            reported_tcb: array(bytes, 0x180),
            cpuid: (bytes[0x188], bytes[0x189]),
            chip_id: array(bytes, 0x1a0),
            committed_tcb: array(bytes, 0x1e0),
        };
        // Reserved: after the key info, before the chip id, after the version numbers, after the signed part, and inside the
        // signature beyond its 48-byte numbers.
        let cpuid_end = if version >= 3 { 0x18b } else { 0x188 };
        let after_launch = if version >= 5 { 0x208 } else { 0x1f8 };
        let reserved = [
            0x4c..0x50,
            cpuid_end..0x1a0,
            0x1eb..0x1ec,
            0x1ef..0x1f0,
            after_launch..SIGNED,
            SIGNED + 48..SIGNED + 72,
            SIGNED + 72 + 48..REPORT,
        ];
        if reserved.into_iter().any(|range| bytes[range].iter().any(|byte| *byte != 0)) {
            return Err(AttestError::TrailingBytes { what: WHAT });
        }
        if report.signature_algorithm != 1 {
            return Err(AttestError::Unsupported { what: "signature algorithm", found: report.signature_algorithm });
        }
        // Bits 4:2 name the key: 0 is the VCEK, 1 the VLEK, 7 none. Bit 1: the host masked it.
        if report.key_info & 0b10 != 0 || report.chip_id == [0; 64] {
            return Err(AttestError::MaskedChip);
        }
        if report.key_info >> 2 != 0 {
            return Err(AttestError::Unsupported { what: "signing key", found: report.key_info >> 2 });
        }
        Ok(report)
    }

    fn check_signature(&self, document: &[u8], vcek: &Certificate) -> Result<(), AttestError> {
        let bad = AttestError::BadSignature { what: "SEV-SNP report" };
        let number = |at: usize| -> [u8; 48] {
            let mut big_endian = [0; 48];
            big_endian.copy_from_slice(&document[at..at + 48]);
            big_endian.reverse();
            big_endian
        };
        let signature = Signature::from_scalars(number(SIGNED), number(SIGNED + 72)).map_err(|_| bad.clone())?;
        let key = vcek.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes();
        let key = VerifyingKey::from_sec1_bytes(key)
            .map_err(|error| AttestError::Malformed { what: "VCEK certificate", detail: error.to_string() })?;
        key.verify(&document[..SIGNED], &signature).map_err(|_| bad)
    }

    /// The generation, on which product name, processor number and root must agree.
    fn class(&self, vcek: &Certificate, root: Option<VendorRoot>) -> Result<HardwareClass, AttestError> {
        let product = extension(vcek, PRODUCT_NAME)
            .and_then(|value| x509_cert::der::asn1::Ia5StringRef::from_der(value).ok())
            .map(|name| name.as_str().to_owned())
            .unwrap_or_default();
        let of_product = match product.split('-').next() {
            Some("Milan") => HardwareClass::EpycMilan,
            Some("Genoa") => HardwareClass::EpycGenoa,
            Some("Turin") => HardwareClass::EpycTurin,
            _ => {
                return Err(AttestError::Malformed {
                    what: "VCEK certificate",
                    detail: format!("product `{product:.32}`"),
                });
            }
        };
        let of_processor = match (self.version, self.cpuid) {
            (2, _) => Some(of_product),
            (_, (0x19, 0x00..=0x0f)) => Some(HardwareClass::EpycMilan),
            (_, (0x19, 0x10..=0x1f | 0xa0..=0xaf)) => Some(HardwareClass::EpycGenoa),
            (_, (0x1a, 0x00..=0x11)) => Some(HardwareClass::EpycTurin),
            _ => None,
        };
        let of_root = match root {
            Some(VendorRoot::AmdMilan) => HardwareClass::EpycMilan,
            Some(VendorRoot::AmdGenoa) => HardwareClass::EpycGenoa,
            Some(VendorRoot::AmdTurin) => HardwareClass::EpycTurin,
            Some(VendorRoot::IntelSgx | VendorRoot::AwsNitro | VendorRoot::NvidiaDevice | VendorRoot::NvidiaRim)
            | None => of_product,
        };
        if of_processor == Some(of_product) && of_root == of_product {
            Ok(of_product)
        } else {
            Err(AttestError::ChipMismatch)
        }
    }

    /// The report must name the chip and the TCB that its key was certified for.
    fn check_against(&self, vcek: &Certificate, class: HardwareClass) -> Result<[u8; 4], AttestError> {
        let malformed = |detail: &str| AttestError::Malformed { what: "VCEK certificate", detail: detail.to_owned() };
        let value = extension(vcek, HARDWARE_ID).ok_or_else(|| malformed("no hardware id"))?;
        // AMD writes the number bare; some certificates wrap it in an OCTET STRING.
        let id = match OctetStringRef::from_der(value) {
            Ok(inner) => inner.as_bytes(),
            Err(_) => value,
        };
        if id.len() != 64 && !(class == HardwareClass::EpycTurin && id.len() == 8) {
            return Err(malformed("the hardware id has a strange length"));
        }
        let (named, rest) = self.chip_id.split_at(id.len());
        if named != id || rest.iter().any(|byte| *byte != 0) {
            return Err(AttestError::ChipMismatch);
        }
        let tcb = &self.reported_tcb;
        // Turin put the FMC first and moved the rest.
        let reported = if class == HardwareClass::EpycTurin {
            if version_number(vcek, FMC)? != tcb[0] {
                return Err(AttestError::TcbMismatch { component: "fmc" });
            }
            [tcb[1], tcb[2], tcb[3], tcb[7]]
        } else {
            [tcb[0], tcb[1], tcb[6], tcb[7]]
        };
        let components = [(BOOTLOADER, "bootloader"), (TEE, "tee"), (SNP, "snp"), (MICROCODE, "microcode")];
        for (found, (oid, component)) in reported.into_iter().zip(components) {
            if version_number(vcek, oid)? != found {
                return Err(AttestError::TcbMismatch { component });
            }
        }
        Ok(reported)
    }

    /// How the guest was set up, and who inside it asked.
    fn check_guest(&self) -> Result<(), AttestError> {
        if self.guest_policy & (1 << 19) != 0 {
            return Err(AttestError::Debug);
        }
        if self.guest_policy & (1 << 18) != 0 {
            return Err(AttestError::Attribute("a migration agent may move the guest".into()));
        }
        if self.guest_policy & (1 << 17) == 0 || self.guest_policy >> 26 != 0 {
            return Err(AttestError::Attribute(format!("guest policy {:#x}", self.guest_policy)));
        }
        if self.vmpl != 0 {
            return Err(AttestError::Vmpl { found: self.vmpl });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report with the fields that a good one has; not signed.
    fn report() -> Vec<u8> {
        let mut bytes = vec![0; REPORT];
        bytes[0] = 3;
        bytes[0x08 + 2] = 0b11; // SMT and the bit that must be one
        bytes[0x34] = 1;
        (bytes[0x188], bytes[0x189]) = (0x19, 0x11);
        bytes[0x1a0..0x1e0].fill(7);
        bytes
    }

    #[test]
    fn a_guest_set_up_badly_is_refused_by_name() {
        let check = |change: fn(&mut Vec<u8>), expected: Result<(), AttestError>| {
            let mut bytes = report();
            change(&mut bytes);
            assert_eq!(Report::parse(&bytes).and_then(|report| report.check_guest()), expected);
        };
        check(|_| (), Ok(()));
        check(|bytes| bytes[0x0a] |= 1 << 3, Err(AttestError::Debug));
        check(
            |bytes| bytes[0x0a] |= 1 << 2,
            Err(AttestError::Attribute("a migration agent may move the guest".into())),
        );
        check(|bytes| bytes[0x0a] = 1, Err(AttestError::Attribute("guest policy 0x10000".into())));
        check(|bytes| bytes[0x0f] = 1, Err(AttestError::Attribute("guest policy 0x100000000030000".into())));
        check(|bytes| bytes[0x30] = 1, Err(AttestError::Vmpl { found: 1 }));
        check(|bytes| bytes[0x30] = 3, Err(AttestError::Vmpl { found: 3 }));
    }

    #[test]
    fn reserved_bytes_depend_on_the_version() {
        let check = |version: u8, at: usize, accepted: bool| {
            let mut bytes = report();
            bytes[0] = version;
            if version == 2 {
                bytes[0x188..0x18b].fill(0);
            }
            bytes[at] = 1;
            assert_eq!(Report::parse(&bytes).is_ok(), accepted, "version {version} at {at:#x}");
        };
        check(2, 0x18a, false);
        check(3, 0x18a, true);
        check(3, 0x18b, false);
        check(3, 0x1f8, false);
        check(5, 0x1f8, true);
        check(5, 0x208, false);
        check(3, 0x29f, false);
        check(3, REPORT - 1, false);
        check(3, SIGNED + 47, true);
    }
}
