//! AMD SEV-SNP: signatures by `sev` and `p384`, and everything that signatures do not say.

use sev::certs::snp::{Certificate as SevCertificate, Verifiable as _};
use sha2::{Digest as _, Sha256};
use tacit_types::eip712::Platform;
use tacit_types::{ChipId, Measurement, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier, OctetStringRef};

use crate::amd_report::{Report, SigningKey, Tcb};
use crate::evidence::AmdCollateral;
use crate::revocation::RevocationList;
use crate::root::{Vendor, VendorRoot, wrong_root};
use crate::seen::Counter;
use crate::verified::{Claims, Details, PlatformDetails, SnpDetails};
use crate::{AttestError, HardwareClass, Policy, TcbStatus, der};

/// The extensions of a VCEK or VLEK certificate (AMD 57230, tables 8 and 9).
const PRODUCT_NAME: &str = "1.3.6.1.4.1.3704.1.2";
const BOOTLOADER: &str = "1.3.6.1.4.1.3704.1.3.1";
const TEE: &str = "1.3.6.1.4.1.3704.1.3.2";
const SNP: &str = "1.3.6.1.4.1.3704.1.3.3";
const MICROCODE: &str = "1.3.6.1.4.1.3704.1.3.8";
const FMC: &str = "1.3.6.1.4.1.3704.1.3.9";
const HARDWARE_ID: &str = "1.3.6.1.4.1.3704.1.4";
const PROVIDER_ID: &str = "1.3.6.1.4.1.3704.1.5";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
/// Most bytes of a provider's name.
const MAX_PROVIDER: usize = 256;

/// What the two certificates below the root are called, by the key that the report names.
struct Names {
    authority: &'static str,
    key: &'static str,
}

impl Names {
    fn of(key: SigningKey) -> Self {
        match key {
            SigningKey::Chip => Self { authority: "ASK certificate", key: "VCEK certificate" },
            SigningKey::Provider => Self { authority: "ASVK certificate", key: "VLEK certificate" },
        }
    }
}

pub(crate) fn verify(
    document: &[u8],
    collateral: &AmdCollateral,
    policy: &Policy,
    now: UnixTime,
) -> Result<Claims, AttestError> {
    collateral.check_sizes()?;
    let report = Report::parse(document)?;
    let names = Names::of(report.signing_key);
    let ask = der::certificate(names.authority, &der::certificate_bytes(names.authority, &collateral.ask)?)?;
    let vek = der::certificate(names.key, &der::certificate_bytes(names.key, &collateral.vcek)?)?;

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
        named.find(|(ark, _)| signs(ark, &ask)).ok_or(AttestError::BadSignature { what: names.authority })?;
    if vek.tbs_certificate.issuer != ask.tbs_certificate.subject {
        return Err(AttestError::BadChain {
            what: names.key,
            detail: "issued by another key than the authority's".into(),
        });
    }
    if !is_authority(names.authority, &ask)? {
        return Err(AttestError::BadChain { what: names.authority, detail: "not a certificate authority".into() });
    }
    if !signs(&ask, &vek) {
        return Err(AttestError::BadSignature { what: names.key });
    }
    report.check_signature(document, &vek, names.key)?;
    der::check_dates("ARK certificate", &ark, now)?;
    der::check_dates(names.authority, &ask, now)?;
    der::check_dates(names.key, &vek, now)?;
    let list = collateral.crl.as_deref().map(|bytes| RevocationList::verify(bytes, &ark, now)).transpose()?;
    // The list is the root's: it names certificates that the root issued. Every VCEK has serial number 0, so its serial says
    // nothing; a chip's key is revoked by a new TCB, or by the policy.
    if list.as_ref().is_some_and(|list| list.revokes(&ask)) {
        return Err(AttestError::Revoked { what: names.authority });
    }

    let class = class(&report, &vek, names.key, root.builtin)?;
    let provider = check_key(&report, &vek, names.key, class)?;
    let reported = check_tcb(&report, &vek, names.key, class)?;
    report.check_order(class)?;
    report.check_guest()?;

    let certificates = [&ark, &ask, &vek].map(|certificate| der::dates(certificate).1);
    let expires = certificates.into_iter().chain(list.as_ref().map(|list| list.expires)).min();
    let counters = list
        .iter()
        .map(|list| Counter { what: "AMD CRL", key: format!("crl {}", root.id), value: list.number })
        .collect();
    Ok(Claims {
        platform: Platform::SevSnp,
        class,
        root: root.id,
        root_name: root.name,
        simulated: root.simulated,
        measurement: Measurement::from(<[u8; 32]>::from(Sha256::digest(report.measurement))),
        registers: registers(&report),
        chip: chip(&report, provider.as_deref()),
        report_data: report.report_data,
        status: status(&report, class),
        advisories: vec![],
        collateral_time: der::dates(&vek).0,
        collateral_expires: expires.unwrap_or(now),
        evaluation_number: None,
        crl_numbers: None,
        tcb: describe(reported, class),
        details: Details {
            platform: PlatformDetails::Snp(Box::new(SnpDetails {
                provider,
                crl_age: list.map(|list| now.0.saturating_sub(list.issued.0)),
                report,
            })),
            counters,
            ..Details::default()
        },
    })
}

/// `UpToDate` if the platform reports what it has committed to and the guest was started on that; see [`TcbStatus`].
fn status(report: &Report, class: HardwareClass) -> TcbStatus {
    let [reported, committed, launch] =
        [report.reported_tcb, report.committed_tcb, report.launch_tcb].map(|bytes| Tcb::read(bytes, class));
    if reported != committed {
        TcbStatus::OutOfDate
    } else if launch.short_of(committed).is_some() {
        TcbStatus::TDRelaunchAdvised
    } else {
        TcbStatus::UpToDate
    }
}

fn describe(tcb: Tcb, class: HardwareClass) -> String {
    let Tcb { fmc, bootloader, tee, snp, microcode } = tcb;
    let first = if class == HardwareClass::EpycTurin { format!("fmc {fmc} ") } else { String::new() };
    format!("{first}bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}")
}

fn registers(report: &Report) -> Vec<(&'static str, Vec<u8>)> {
    let mut registers = vec![
        ("MEASUREMENT", report.measurement.to_vec()),
        ("HOST_DATA", report.host_data.to_vec()),
        ("ID_KEY_DIGEST", report.id_key_digest.to_vec()),
        ("FAMILY_ID", report.family_id.to_vec()),
        ("IMAGE_ID", report.image_id.to_vec()),
        ("GUEST_SVN", report.guest_svn.to_le_bytes().to_vec()),
        ("GUEST_POLICY", report.guest_policy.to_le_bytes().to_vec()),
        ("PLATFORM_INFO", report.platform_info.to_le_bytes().to_vec()),
    ];
    if report.author_key_enabled {
        registers.push(("AUTHOR_KEY_DIGEST", report.author_key_digest.to_vec()));
    }
    registers
}

/// The chip, or for a provider's key the provider: no certificate vouches for a chip id beside a VLEK.
fn chip(report: &Report, provider: Option<&str>) -> ChipId {
    let hash = match provider {
        None => Sha256::new().chain_update(b"amd\0").chain_update(report.chip_id),
        Some(provider) => Sha256::new().chain_update(b"amd-vlek\0").chain_update(provider),
    };
    ChipId::from(<[u8; 32]>::from(hash.finalize()))
}

/// True if `signer` signed `signee` (RSA-PSS with SHA-384, as AMD's authorities do).
fn signs(signer: &Certificate, signee: &Certificate) -> bool {
    (&SevCertificate::from(signer.clone()), &SevCertificate::from(signee.clone())).verify().is_ok()
}

fn is_authority(what: &'static str, certificate: &Certificate) -> Result<bool, AttestError> {
    let Some(value) = extension(certificate, BASIC_CONSTRAINTS) else { return Ok(false) };
    x509_cert::ext::pkix::BasicConstraints::from_der(value)
        .map(|constraints| constraints.ca)
        .map_err(|error| AttestError::Malformed { what, detail: error.to_string() })
}

fn extension<'a>(certificate: &'a Certificate, oid: &str) -> Option<&'a [u8]> {
    let oid = ObjectIdentifier::new(oid).ok()?;
    let extensions = certificate.tbs_certificate.extensions.as_deref()?;
    extensions.iter().find(|extension| extension.extn_id == oid).map(|extension| extension.extn_value.as_bytes())
}

/// A security version number of a certificate: a DER INTEGER of one byte.
fn version_number(what: &'static str, certificate: &Certificate, oid: &str) -> Result<u8, AttestError> {
    let malformed = |detail: String| AttestError::Malformed { what, detail };
    let value = extension(certificate, oid).ok_or_else(|| malformed(format!("no extension {oid}")))?;
    u8::from_der(value).map_err(|error| malformed(error.to_string()))
}

fn text<'a>(certificate: &'a Certificate, oid: &str) -> Option<&'a str> {
    extension(certificate, oid).and_then(|value| Ia5StringRef::from_der(value).ok()).map(|name| name.as_str())
}

/// The generation, on which product name, processor number and root must agree.
fn class(
    report: &Report,
    vek: &Certificate,
    what: &'static str,
    root: Option<VendorRoot>,
) -> Result<HardwareClass, AttestError> {
    let product = text(vek, PRODUCT_NAME).unwrap_or_default();
    let of_product = match product.split('-').next() {
        Some("Milan") => HardwareClass::EpycMilan,
        Some("Genoa") => HardwareClass::EpycGenoa,
        Some("Turin") => HardwareClass::EpycTurin,
        _ => return Err(AttestError::Malformed { what, detail: format!("product `{product:.32}`") }),
    };
    let of_root = match root {
        Some(VendorRoot::AmdMilan) => HardwareClass::EpycMilan,
        Some(VendorRoot::AmdGenoa) => HardwareClass::EpycGenoa,
        Some(VendorRoot::AmdTurin) => HardwareClass::EpycTurin,
        _ => of_product,
    };
    if report.class_of_processor()?.is_none_or(|class| class == of_product) && of_root == of_product {
        Ok(of_product)
    } else {
        Err(AttestError::ChipMismatch)
    }
}

/// The certificate must be of the kind that the report names. A VCEK names this chip; a VLEK names a provider, which is given
/// back, and no chip.
fn check_key(
    report: &Report,
    vek: &Certificate,
    what: &'static str,
    class: HardwareClass,
) -> Result<Option<String>, AttestError> {
    let malformed = |detail: &str| AttestError::Malformed { what, detail: detail.to_owned() };
    let (hardware, provider) = (extension(vek, HARDWARE_ID), extension(vek, PROVIDER_ID));
    match report.signing_key {
        SigningKey::Provider => {
            if hardware.is_some() {
                return Err(malformed("it names a chip, a provider's key has none"));
            }
            let provider = text(vek, PROVIDER_ID).ok_or_else(|| malformed("no provider"))?;
            if provider.is_empty() || provider.len() > MAX_PROVIDER || provider.chars().any(char::is_control) {
                return Err(malformed("the provider's name has a strange shape"));
            }
            Ok(Some(provider.to_owned()))
        }
        SigningKey::Chip => {
            if provider.is_some() {
                return Err(malformed("it names a provider, a chip's key has none"));
            }
            let value = hardware.ok_or_else(|| malformed("no hardware id"))?;
            // AMD writes the number bare; some certificates wrap it in an OCTET STRING.
            let id = match OctetStringRef::from_der(value) {
                Ok(inner) => inner.as_bytes(),
                Err(_) => value,
            };
            if id.len() != 64 && !(class == HardwareClass::EpycTurin && id.len() == 8) {
                return Err(malformed("the hardware id has a strange length"));
            }
            let (named, rest) = report.chip_id.split_at(id.len());
            if named != id || rest.iter().any(|byte| *byte != 0) {
                return Err(AttestError::ChipMismatch);
            }
            Ok(None)
        }
    }
}

/// The report must name the TCB that its key was certified for.
fn check_tcb(report: &Report, vek: &Certificate, what: &'static str, class: HardwareClass) -> Result<Tcb, AttestError> {
    let reported = Tcb::read(report.reported_tcb, class);
    let oids = [FMC, BOOTLOADER, TEE, SNP, MICROCODE];
    for ((component, found), oid) in reported.components().into_iter().zip(oids) {
        if component == "fmc" && class != HardwareClass::EpycTurin {
            continue;
        }
        if version_number(what, vek, oid)? != found {
            return Err(AttestError::TcbMismatch { component });
        }
    }
    Ok(reported)
}
