//! The certificate hierarchy of simulated AMD chips, with the shape of AMD's: RSA of 4096 bits, PSS with SHA-384.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA384};
use p384::pkcs8::EncodePublicKey as _;
use tacit_attest::{ExtraRoot, Vendor, root_id};
use tacit_types::{RootId, UnixTime};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::certificate::{Certificate, TbsCertificate, Version};
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::der::asn1::{Any, BitString, GeneralizedTime, ObjectIdentifier, OctetString, SetOfVec, UtcTime};
use x509_cert::der::{Decode as _, Encode as _, Tag};
use x509_cert::ext::Extension;
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

use crate::bulletin::{BACKDATED, Bulletin, DAY, RevocableAuthority};
use crate::snp::{Firmware, product};
use crate::{EndorsementKey, Generation, SimulatorError, der, files};

/// Years for which the authorities are valid, as AMD's.
const AUTHORITY_YEARS: u64 = 25;
const CHIP_YEARS: u64 = 7;
/// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes, in the bytes of AMD's certificates.
const PSS: [u8; 72] = [
    0x30, 0x46, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x39, 0xa0, 0x0f, 0x30, 0x0d,
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09,
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
    0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30, 0xa3, 0x03, 0x02, 0x01, 0x01,
];
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const KEY_USAGE: &str = "2.5.29.15";
const CRL_NUMBER: &str = "2.5.29.20";

/// The AMD part of a simulated network's root: its keys take seconds to make, so they are made once and kept.
pub struct AmdRoot {
    ark: Authority,
    ask: Authority,
    asvk: Authority,
}

struct Authority {
    role: Role,
    name: Name,
    key: KeyPair,
    certificate: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Ark,
    Ask,
    Asvk,
}

impl Role {
    const ALL: [Self; 3] = [Self::Ark, Self::Ask, Self::Asvk];

    fn file(self) -> &'static str {
        match self {
            Self::Ark => "ark",
            Self::Ask => "ask",
            Self::Asvk => "asvk",
        }
    }

    fn common_name(self) -> &'static str {
        match self {
            Self::Ark => "SIMULATED ARK - NOT AMD",
            Self::Ask => "SIMULATED SEV - NOT AMD",
            Self::Asvk => "SIMULATED SEV-VLEK - NOT AMD",
        }
    }

    fn serial(self) -> [u8; 3] {
        match self {
            Self::Ark => [1, 0, 0],
            Self::Ask => [1, 0, 1],
            Self::Asvk => [1, 0, 2],
        }
    }
}

impl AmdRoot {
    /// The cloud operator that every simulated VLEK names.
    pub const PROVIDER: &'static str = "CN=simulated-cloud.invalid";

    /// Makes the authorities in `directory` (mode 0700) for the network `network`.
    pub(crate) fn create(directory: &Path, network: &str, now: UnixTime) -> Result<(), SimulatorError> {
        files::make_directory(directory)?;
        // RSA keys of this size take half a second and more each: make them at the same time.
        let keys = std::thread::scope(|scope| {
            let threads = Role::ALL.map(|_| scope.spawn(|| KeyPair::generate(KeySize::Rsa4096)));
            threads.map(|thread| thread.join().expect("making a key does not panic")).into_iter().collect()
        });
        let keys: Vec<KeyPair> = Result::<_, aws_lc_rs::error::Unspecified>::map_err(keys, |_| SimulatorError::Key)?;
        let ark = &keys[0];
        let issuer = name(Role::Ark, network)?;
        // The root certificate comes last: its presence says that the folder is whole.
        for (role, key) in Role::ALL.into_iter().zip(&keys).rev() {
            let certificate = authority_certificate(ark, &issuer, role, key, network, now)?;
            let private: Pkcs8V1Der<'static> = key.as_der().map_err(|_| SimulatorError::Key)?;
            files::write(&directory.join(format!("{}.key", role.file())), private.as_ref())?;
            files::write(&directory.join(format!("{}.der", role.file())), &certificate)?;
        }
        Ok(())
    }

    /// Opens the authorities in `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self, SimulatorError> {
        let authority = |role: Role| -> Result<Authority, SimulatorError> {
            let path = |ending: &str| -> PathBuf { directory.join(format!("{}.{ending}", role.file())) };
            let key = KeyPair::from_pkcs8(&files::read(&path("key"))?)
                .map_err(|_| SimulatorError::Content { path: path("key"), expected: "a private key" })?;
            let certificate = files::read(&path("der"))?.to_vec();
            let parsed = Certificate::from_der(&certificate)
                .map_err(|_| SimulatorError::Content { path: path("der"), expected: "a certificate" })?;
            Ok(Authority { role, name: parsed.tbs_certificate.subject, key, certificate })
        };
        Ok(Self { ark: authority(Role::Ark)?, ask: authority(Role::Ask)?, asvk: authority(Role::Asvk)? })
    }

    /// True if `directory` holds authorities.
    pub(crate) fn exists(directory: &Path) -> bool {
        directory.join("ark.der").exists()
    }

    /// The root certificate (DER): what a policy must name to accept AMD machines of this network.
    pub fn certificate(&self) -> &[u8] {
        &self.ark.certificate
    }

    /// The id of the root.
    pub fn id(&self) -> RootId {
        root_id(&self.ark.certificate)
    }

    /// The root as policy data, marked simulated.
    ///
    /// # Errors
    /// [`SimulatorError::Policy`] if `name` is no name for a root.
    pub fn policy_entry(&self, name: &str) -> Result<ExtraRoot, SimulatorError> {
        Ok(ExtraRoot::simulated(name, Vendor::Amd, self.ark.certificate.clone())?)
    }

    /// The certificate (DER) of the authority that certifies keys of this kind.
    pub(crate) fn intermediate(&self, key: EndorsementKey) -> &[u8] {
        &self.authority(key).certificate
    }

    fn authority(&self, key: EndorsementKey) -> &Authority {
        match key {
            EndorsementKey::Vcek => &self.ask,
            EndorsementKey::Vlek => &self.asvk,
        }
    }

    /// Certifies the key that signs a machine's reports (AMD 57230, tables 8 and 9).
    pub(crate) fn certify(
        &self,
        kind: EndorsementKey,
        generation: Generation,
        chip: &[u8],
        firmware: &Firmware,
        key: &p384::ecdsa::SigningKey,
        now: UnixTime,
    ) -> Result<Vec<u8>, SimulatorError> {
        let version = |arc: &str, number: u8| (format!("1.3.6.1.4.1.3704.1.3.{arc}"), der::integer(number));
        let mut extensions = vec![
            ("1.3.6.1.4.1.3704.1.1".to_owned(), der::integer(if generation == Generation::Turin { 1 } else { 0 })),
            ("1.3.6.1.4.1.3704.1.2".to_owned(), der::tagged(0x16, product(generation).as_bytes())),
            version("1", firmware.bootloader),
            version("2", firmware.tee),
            version("3", firmware.snp),
            version("8", firmware.microcode),
        ];
        if generation == Generation::Turin {
            extensions.push(version("9", firmware.fmc));
        }
        extensions.push(match kind {
            EndorsementKey::Vcek => ("1.3.6.1.4.1.3704.1.4".to_owned(), chip.to_vec()),
            EndorsementKey::Vlek => {
                ("1.3.6.1.4.1.3704.1.5".to_owned(), der::tagged(0x16, AmdRoot::PROVIDER.as_bytes()))
            }
        });
        let extensions =
            extensions.into_iter().map(|(oid, value)| extension(&oid, false, value)).collect::<Result<_, _>>()?;
        let public = key.verifying_key().to_public_key_der().map_err(|_| SimulatorError::Key)?;
        let common_name = match kind {
            EndorsementKey::Vcek => "SIMULATED SEV-VCEK - NOT AMD",
            EndorsementKey::Vlek => "SIMULATED SEV-VLEK - NOT AMD",
        };
        let authority = self.authority(kind);
        let tbs = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(&[0])?,
            signature: pss()?,
            issuer: authority.name.clone(),
            validity: validity(now, CHIP_YEARS)?,
            subject: rdns(&[(COMMON_NAME, common_name), (ORGANIZATION, "Tacit simulated hardware")])?,
            subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(public.as_bytes())?,
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(extensions),
        };
        sign_certificate(&authority.key, tbs)
    }

    /// The revocation list of the root: AMD revokes authorities by it, not chips.
    pub(crate) fn revocation_list(&self, bulletin: &Bulletin, now: UnixTime) -> Result<Vec<u8>, SimulatorError> {
        let (issued, expires) = bulletin.dates(now);
        let revocable = [(RevocableAuthority::Ask, &self.ask), (RevocableAuthority::Asvk, &self.asvk)];
        let revoked = revocable
            .into_iter()
            .filter(|(which, _)| bulletin.revokes(*which))
            .map(|(_, authority)| {
                Ok(RevokedCert {
                    serial_number: SerialNumber::new(&authority.role.serial())?,
                    revocation_date: time(issued)?,
                    crl_entry_extensions: None,
                })
            })
            .collect::<Result<Vec<_>, SimulatorError>>()?;
        let number = bulletin.crl_number.to_be_bytes();
        let significant = number.iter().position(|byte| *byte != 0).unwrap_or(3);
        // A leading zero keeps a number with its highest bit set from being negative.
        let padded = if number[significant] >= 0x80 { vec![0] } else { vec![] };
        let number = der::tagged(0x02, &[padded.as_slice(), &number[significant..]].concat());
        let list = TbsCertList {
            version: Version::V2,
            signature: pss()?,
            issuer: self.ark.name.clone(),
            this_update: time(issued)?,
            next_update: Some(time(expires)?),
            revoked_certificates: (!revoked.is_empty()).then_some(revoked),
            crl_extensions: Some(vec![extension(CRL_NUMBER, false, number)?]),
        };
        let signature = sign(&self.ark.key, &list.to_der()?)?;
        Ok(CertificateList { tbs_cert_list: list, signature_algorithm: pss()?, signature }.to_der()?)
    }
}

fn authority_certificate(
    ark: &KeyPair,
    issuer: &Name,
    role: Role,
    key: &KeyPair,
    network: &str,
    now: UnixTime,
) -> Result<Vec<u8>, SimulatorError> {
    let public: PublicKeyX509Der<'static> = key.public_key().as_der().map_err(|_| SimulatorError::Key)?;
    // CA: true, and below the root no further authority.
    let constraints = match role {
        Role::Ark => der::sequence(&[der::boolean(true)]),
        Role::Ask | Role::Asvk => der::sequence(&[der::boolean(true), der::integer(0)]),
    };
    // keyCertSign and, for the root, cRLSign: bits 5 and 6.
    let usage = der::tagged(0x03, if role == Role::Ark { &[1, 0x06] } else { &[2, 0x04] });
    let tbs = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&role.serial())?,
        signature: pss()?,
        issuer: issuer.clone(),
        validity: validity(now, AUTHORITY_YEARS)?,
        subject: name(role, network)?,
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(public.as_ref())?,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(vec![extension(BASIC_CONSTRAINTS, true, constraints)?, extension(KEY_USAGE, true, usage)?]),
    };
    sign_certificate(ark, tbs)
}

fn sign_certificate(key: &KeyPair, tbs: TbsCertificate) -> Result<Vec<u8>, SimulatorError> {
    let signature = sign(key, &tbs.to_der()?)?;
    Ok(Certificate { tbs_certificate: tbs, signature_algorithm: pss()?, signature }.to_der()?)
}

fn sign(key: &KeyPair, message: &[u8]) -> Result<BitString, SimulatorError> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PSS_SHA384, &SystemRandom::new(), message, &mut signature).map_err(|_| SimulatorError::Key)?;
    Ok(BitString::from_bytes(&signature)?)
}

fn pss() -> Result<AlgorithmIdentifierOwned, SimulatorError> {
    Ok(AlgorithmIdentifierOwned::from_der(&PSS)?)
}

fn extension(oid: &str, critical: bool, value: Vec<u8>) -> Result<Extension, SimulatorError> {
    let extn_id = ObjectIdentifier::new(oid).expect("the identifiers above are well formed");
    Ok(Extension { extn_id, critical, extn_value: OctetString::new(value)? })
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const ORGANIZATIONAL_UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");

fn name(role: Role, network: &str) -> Result<Name, SimulatorError> {
    rdns(&[
        (ORGANIZATIONAL_UNIT, network),
        (ORGANIZATION, "Tacit simulated hardware"),
        (COMMON_NAME, role.common_name()),
    ])
}

fn rdns(parts: &[(ObjectIdentifier, &str)]) -> Result<Name, SimulatorError> {
    let parts = parts.iter().map(|(oid, text)| {
        let value = Any::new(Tag::Utf8String, text.as_bytes())?;
        Ok(RelativeDistinguishedName(SetOfVec::try_from(vec![AttributeTypeAndValue { oid: *oid, value }])?))
    });
    Ok(RdnSequence(parts.collect::<Result<_, SimulatorError>>()?))
}

fn validity(now: UnixTime, years: u64) -> Result<Validity, SimulatorError> {
    Ok(Validity { not_before: time(now.minus(BACKDATED))?, not_after: time(now.plus(years * 365 * DAY))? })
}

/// A date as RFC 5280 writes it: with two digits for the year up to 2049, with four afterwards.
fn time(at: UnixTime) -> Result<Time, SimulatorError> {
    let since = Duration::from_secs(at.0);
    Ok(match UtcTime::from_unix_duration(since) {
        Ok(time) => Time::UtcTime(time),
        Err(_) => Time::GeneralTime(GeneralizedTime::from_unix_duration(since)?),
    })
}
