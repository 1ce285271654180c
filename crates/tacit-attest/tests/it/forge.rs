//! An AMD hierarchy of our own, in AMD's shapes: RSA-PSS authorities, P-384 keys, reports and revocation lists. What real
//! evidence cannot show, because nobody has AMD's keys, it shows under a root of its own.

use std::sync::OnceLock;
use std::time::Duration;

use p384::ecdsa::signature::Signer as _;
use p384::pkcs8::EncodePublicKey as _;
use rsa::pss::SigningKey as PssKey;
use rsa::rand_core::{CryptoRng, Error, RngCore};
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha2::{Digest as _, Sha256, Sha384};
use tacit_attest::*;
use tacit_types::UnixTime;
use x509_cert::certificate::{Certificate, TbsCertificate, Version};
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::der::asn1::{BitString, Ia5String, ObjectIdentifier, OctetString, UtcTime};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::{Time, Validity};

pub const NOW: UnixTime = UnixTime(1_795_345_499);
pub const DAY: u64 = 86_400;
pub const PROVIDER: &str = "CN=cc-us-east-2.example.com";
/// Serial numbers of the two authorities below the root.
pub const ASK_SERIAL: u8 = 17;
pub const ASVK_SERIAL: u8 = 18;

/// A stream from a seed: the same keys in every run.
struct Stream(u64);

impl RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            self.0 += 1;
            chunk.copy_from_slice(&Sha256::digest(self.0.to_le_bytes())[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Stream {}

/// A generation: its name in certificates, its processor number, and a good TCB in its layout.
#[derive(Clone, Copy)]
pub enum Generation {
    Genoa,
    Turin,
}

impl Generation {
    fn product(self) -> &'static str {
        match self {
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The eight bytes of a TCB: (FMC,) boot loader, TEE, SNP, microcode.
    pub fn tcb(self) -> [u8; 8] {
        match self {
            Self::Genoa => [10, 2, 0, 0, 0, 0, 23, 84],
            Self::Turin => [1, 10, 2, 23, 0, 0, 0, 84],
        }
    }
}

/// What a report's key certificate says.
#[derive(Clone)]
pub struct KeySpec {
    pub generation: Generation,
    pub tcb: [u8; 8],
    pub hardware_id: Option<Vec<u8>>,
    pub provider: Option<String>,
}

/// What a revocation list says.
#[derive(Clone)]
pub struct ListSpec {
    pub issued: UnixTime,
    pub next: Option<UnixTime>,
    pub revoked: Vec<u8>,
    pub number: Vec<u8>,
    pub issuer: Option<&'static str>,
    pub critical_extension: bool,
    pub signed_by_ask: bool,
}

impl Default for ListSpec {
    fn default() -> Self {
        Self {
            issued: NOW.minus(30 * DAY),
            next: Some(NOW.plus(300 * DAY)),
            revoked: vec![99],
            number: vec![2, 1, 7],
            issuer: None,
            critical_extension: false,
            signed_by_ask: false,
        }
    }
}

pub struct Forge {
    ark_key: RsaPrivateKey,
    ask_key: RsaPrivateKey,
    vek_key: p384::ecdsa::SigningKey,
    pub ark: Vec<u8>,
    pub ask: Vec<u8>,
    pub asvk: Vec<u8>,
}

/// The hierarchy; made once, since RSA keys take a while.
pub fn forge() -> &'static Forge {
    static FORGE: OnceLock<Forge> = OnceLock::new();
    FORGE.get_or_init(Forge::new)
}

impl Forge {
    fn new() -> Self {
        let mut stream = Stream(0);
        let mut rsa = || RsaPrivateKey::new(&mut stream, 2048).unwrap();
        let (ark_key, ask_key) = (rsa(), rsa());
        let vek_key = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
        let mut forge = Self { ark_key, ask_key, vek_key, ark: vec![], ask: vec![], asvk: vec![] };
        let authority = |serial, subject: &str, key: &RsaPrivateKey| {
            let key = RsaPublicKey::from(key).to_public_key_der().unwrap();
            tbs(serial, "CN=ARK-SIMULATED", subject, key.as_bytes(), authority_extensions())
        };
        let ark = authority(1, "CN=ARK-SIMULATED", &forge.ark_key);
        let ask = authority(ASK_SERIAL, "CN=SEV-SIMULATED", &forge.ask_key);
        let asvk = authority(ASVK_SERIAL, "CN=SEV-VLEK-SIMULATED", &forge.ask_key);
        forge.ark = certify(ark, &forge.ark_key);
        forge.ask = certify(ask, &forge.ark_key);
        forge.asvk = certify(asvk, &forge.ark_key);
        forge
    }

    /// `standard`, and this root; everything else as AMD's own evidence is judged.
    pub fn policy(&self) -> Policy {
        let root = ExtraRoot::simulated("SIM AMD", Vendor::Amd, self.ark.clone()).unwrap();
        Policy::preset(Preset::Standard).with_root(root)
    }

    /// A chip's key.
    pub fn chip_key(&self, generation: Generation) -> KeySpec {
        let hardware_id = match generation {
            Generation::Genoa => vec![7; 64],
            Generation::Turin => vec![7; 8],
        };
        KeySpec { generation, tcb: generation.tcb(), hardware_id: Some(hardware_id), provider: None }
    }

    /// A provider's key.
    pub fn provider_key(&self, generation: Generation) -> KeySpec {
        KeySpec { generation, tcb: generation.tcb(), hardware_id: None, provider: Some(PROVIDER.to_owned()) }
    }

    /// The certificate of a report's key, by ASK or ASVK.
    pub fn certificate(&self, spec: &KeySpec, issuer: &str) -> Vec<u8> {
        let [fmc, boot_loader, tee, snp, microcode] = match spec.generation {
            Generation::Genoa => [0, spec.tcb[0], spec.tcb[1], spec.tcb[6], spec.tcb[7]],
            Generation::Turin => [spec.tcb[0], spec.tcb[1], spec.tcb[2], spec.tcb[3], spec.tcb[7]],
        };
        let mut extensions = vec![
            extension("1.3.6.1.4.1.3704.1.2", Ia5String::new(spec.generation.product()).unwrap().to_der().unwrap()),
            extension("1.3.6.1.4.1.3704.1.3.1", boot_loader.to_der().unwrap()),
            extension("1.3.6.1.4.1.3704.1.3.2", tee.to_der().unwrap()),
            extension("1.3.6.1.4.1.3704.1.3.3", snp.to_der().unwrap()),
            extension("1.3.6.1.4.1.3704.1.3.8", microcode.to_der().unwrap()),
        ];
        if let Generation::Turin = spec.generation {
            extensions.push(extension("1.3.6.1.4.1.3704.1.3.9", fmc.to_der().unwrap()));
        }
        if let Some(id) = &spec.hardware_id {
            extensions.push(extension("1.3.6.1.4.1.3704.1.4", id.clone()));
        }
        if let Some(provider) = &spec.provider {
            extensions.push(extension("1.3.6.1.4.1.3704.1.5", Ia5String::new(provider).unwrap().to_der().unwrap()));
        }
        let key = p384::PublicKey::from(self.vek_key.verifying_key()).to_public_key_der().unwrap();
        certify(tbs(0, issuer, "CN=SEV-VEK", key.as_bytes(), extensions), &self.ask_key)
    }

    /// The collateral of a report, with a revocation list.
    pub fn collateral(&self, spec: &KeySpec) -> AmdCollateral {
        self.collateral_without_list(spec).with_crl(self.list(&ListSpec::default()))
    }

    pub fn collateral_without_list(&self, spec: &KeySpec) -> AmdCollateral {
        let (authority, issuer) = match spec.provider {
            None => (&self.ask, "CN=SEV-SIMULATED"),
            Some(_) => (&self.asvk, "CN=SEV-VLEK-SIMULATED"),
        };
        AmdCollateral::new(authority.clone(), self.certificate(spec, issuer))
    }

    /// A revocation list (DER).
    pub fn list(&self, spec: &ListSpec) -> Vec<u8> {
        let mut extensions = vec![extension("2.5.29.20", spec.number.clone())];
        if spec.critical_extension {
            extensions.push(Extension { critical: true, ..extension("2.5.29.28", vec![0x30, 0]) });
        }
        let list = TbsCertList {
            version: Version::V2,
            signature: algorithm(),
            issuer: name(spec.issuer.unwrap_or("CN=ARK-SIMULATED")),
            this_update: time(spec.issued),
            next_update: spec.next.map(time),
            revoked_certificates: Some(
                spec.revoked
                    .iter()
                    .map(|serial| RevokedCert {
                        serial_number: SerialNumber::new(&[*serial]).unwrap(),
                        revocation_date: time(NOW.minus(DAY)),
                        crl_entry_extensions: None,
                    })
                    .collect(),
            ),
            crl_extensions: Some(extensions),
        };
        let key = if spec.signed_by_ask { &self.ask_key } else { &self.ark_key };
        let signature = sign(key, &list.to_der().unwrap());
        CertificateList { tbs_cert_list: list, signature_algorithm: algorithm(), signature }.to_der().unwrap()
    }

    /// A signed report of version 3 (Genoa) or 5 (Turin), changed before it is signed.
    pub fn report(&self, spec: &KeySpec, change: impl FnOnce(&mut Vec<u8>)) -> Evidence {
        let mut bytes = vec![0; 1184];
        (bytes[0], bytes[0x188], bytes[0x189]) = match spec.generation {
            Generation::Genoa => (3, 0x19, 0x11),
            Generation::Turin => (5, 0x1a, 0x02),
        };
        bytes[0x08 + 2] = 0b11; // SMT, and the bit that must be one
        bytes[0x34] = 1;
        bytes[0x40] = 0b10_0101; // SMT, ECC, alias check
        for at in [0x38, 0x180, 0x1e0, 0x1f0] {
            bytes[at..at + 8].copy_from_slice(&spec.tcb);
        }
        match &spec.hardware_id {
            Some(id) => bytes[0x1a0..0x1a0 + id.len()].copy_from_slice(id),
            None => bytes[0x48] = 1 << 2,
        }
        change(&mut bytes);
        let signature: p384::ecdsa::Signature = self.vek_key.sign(&bytes[..0x2a0]);
        let (r, s) = signature.split_bytes();
        for (at, number) in [(0x2a0, r), (0x2a0 + 72, s)] {
            let little_endian: Vec<u8> = number.iter().rev().copied().collect();
            bytes[at..at + 48].copy_from_slice(&little_endian);
        }
        Evidence::sev_snp(bytes).unwrap()
    }
}

fn tbs(serial: u8, issuer: &str, subject: &str, key: &[u8], extensions: Vec<Extension>) -> TbsCertificate {
    TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&[serial]).unwrap(),
        signature: algorithm(),
        issuer: name(issuer),
        validity: Validity { not_before: time(NOW.minus(300 * DAY)), not_after: time(NOW.plus(300 * DAY)) },
        subject: name(subject),
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(key).unwrap(),
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    }
}

fn certify(tbs: TbsCertificate, key: &RsaPrivateKey) -> Vec<u8> {
    let signature = sign(key, &tbs.to_der().unwrap());
    Certificate { tbs_certificate: tbs, signature_algorithm: algorithm(), signature }.to_der().unwrap()
}

fn sign(key: &RsaPrivateKey, message: &[u8]) -> BitString {
    let signature = PssKey::<Sha384>::new(key.clone()).sign_with_rng(&mut Stream(1 << 32), message);
    BitString::from_bytes(&signature.to_vec()).unwrap()
}

/// RSASSA-PSS with SHA-384, spelt as AMD spells it.
fn algorithm() -> x509_cert::spki::AlgorithmIdentifierOwned {
    Certificate::from_der(&VendorRoot::AmdGenoa.certificate()).unwrap().signature_algorithm
}

fn authority_extensions() -> Vec<Extension> {
    let constraints = x509_cert::ext::pkix::BasicConstraints { ca: true, path_len_constraint: None };
    vec![Extension { critical: true, ..extension("2.5.29.19", constraints.to_der().unwrap()) }]
}

fn extension(oid: &str, value: Vec<u8>) -> Extension {
    Extension {
        extn_id: ObjectIdentifier::new(oid).unwrap(),
        critical: false,
        extn_value: OctetString::new(value).unwrap(),
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn time(at: UnixTime) -> Time {
    Time::UtcTime(UtcTime::from_unix_duration(Duration::from_secs(at.0)).unwrap())
}
