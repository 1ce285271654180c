//! The certificate hierarchy of simulated chips, with the shape of Intel's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use sha2::{Digest as _, Sha256};
use tacit_attest::{Collateral, ExtraRoot, IntelParts, Vendor, root_id};
use tacit_types::{RootId, UnixTime};
use time::OffsetDateTime;

use crate::amd::AmdRoot;
use crate::bulletin::{BACKDATED, Bulletin, DAY, RevocableAuthority};
use crate::machine::Chip;
use crate::quote::{FMSPC, IntelKind, PCE_ID, PCE_SVN, cpu_svn};
use crate::{SimulatorError, der, documents, files};

/// The certificate hierarchies of one simulated network, in a folder of its own: one with the shape of Intel's, and one with
/// the shape of AMD's where it was asked for.
pub struct Root {
    directory: PathBuf,
    name: String,
    root: Authority,
    platform: Authority,
    processor: Authority,
    tcb: Authority,
    amd: Option<AmdRoot>,
}

struct Authority {
    key: SigningKey,
    name: DistinguishedName,
    certificate: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Role {
    Root,
    /// Certifies machines that run trust domains.
    Platform,
    /// Certifies machines that run enclaves.
    Processor,
    Tcb,
}

impl Role {
    const ALL: [Self; 4] = [Self::Root, Self::Platform, Self::Processor, Self::Tcb];

    fn file(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Platform => "pck-ca",
            Self::Processor => "pck-processor-ca",
            Self::Tcb => "tcb-signer",
        }
    }

    fn common_name(self) -> &'static str {
        match self {
            Self::Root => "SIMULATED Root CA - NOT INTEL",
            Self::Platform => "SIMULATED PCK Platform CA - NOT INTEL",
            Self::Processor => "SIMULATED PCK Processor CA - NOT INTEL",
            Self::Tcb => "SIMULATED TCB Signing - NOT INTEL",
        }
    }

    fn serial(self) -> SerialNumber {
        SerialNumber::from(match self {
            Self::Root => 1u64,
            Self::Platform => 2,
            Self::Processor => 3,
            Self::Tcb => 4,
        })
    }
}

impl Root {
    /// The folder's file with the root certificate (DER).
    pub const CERTIFICATE: &'static str = "root.der";
    /// The folder's file with the root certificate (DER) of the AMD part, where there is one.
    pub const AMD_CERTIFICATE: &'static str = "amd/ark.der";
    /// The folder's file with the network's name.
    const NAME: &'static str = "name";
    const AMD: &'static str = "amd";

    /// Makes a new hierarchy in `directory` (mode 0700) for the network `name`.
    ///
    /// # Errors
    /// [`SimulatorError::Exists`] if there is one already.
    pub fn create(directory: &Path, name: &str, now: UnixTime) -> Result<Self, SimulatorError> {
        files::make_directory(directory)?;
        if directory.join(Self::CERTIFICATE).exists() {
            return Err(SimulatorError::Exists { path: directory.to_owned() });
        }
        let mut made: Vec<Authority> = Vec::new();
        for role in Role::ALL {
            let key = files::random_key();
            let params = authority_params(role, name, now);
            let pair = KeyPair::from_pem(&files::key_to_pem(&key))?;
            let certificate = match made.first() {
                None => params.self_signed(&pair)?,
                Some(root) => params.signed_by(&pair, &root.issuer(Role::Root)?)?,
            };
            made.push(Authority { key, name: params.distinguished_name, certificate: certificate.der().to_vec() });
        }
        files::write(&directory.join(Self::NAME), name.as_bytes())?;
        // The root certificate comes last: its presence says that the folder is whole.
        for (role, authority) in Role::ALL.into_iter().zip(&made).rev() {
            files::write(
                &directory.join(format!("{}.key", role.file())),
                files::key_to_pem(&authority.key).as_bytes(),
            )?;
            files::write(&directory.join(format!("{}.der", role.file())), &authority.certificate)?;
        }
        Self::open(directory)
    }

    /// Opens the hierarchy in `directory`.
    ///
    /// # Errors
    /// [`SimulatorError`] for files that are missing or hold something else.
    pub fn open(directory: &Path) -> Result<Self, SimulatorError> {
        let name = String::from_utf8(files::read(&directory.join(Self::NAME))?.to_vec())
            .map_err(|_| SimulatorError::Content { path: directory.join(Self::NAME), expected: "a name" })?;
        let authority = |role: Role| -> Result<Authority, SimulatorError> {
            Ok(Authority {
                key: files::read_key(&directory.join(format!("{}.key", role.file())))?,
                name: distinguished_name(role, &name),
                certificate: files::read(&directory.join(format!("{}.der", role.file())))?.to_vec(),
            })
        };
        let amd = directory.join(Self::AMD);
        Ok(Self {
            directory: directory.to_owned(),
            root: authority(Role::Root)?,
            platform: authority(Role::Platform)?,
            processor: authority(Role::Processor)?,
            tcb: authority(Role::Tcb)?,
            amd: AmdRoot::exists(&amd).then(|| AmdRoot::open(&amd)).transpose()?,
            name,
        })
    }

    /// The same root with an AMD part, which is made now where there is none. Making its keys takes seconds.
    ///
    /// # Errors
    /// [`SimulatorError`] for files that cannot be written, and if a key or certificate cannot be made.
    pub fn with_amd(mut self, now: UnixTime) -> Result<Self, SimulatorError> {
        if self.amd.is_none() {
            let directory = self.directory.join(Self::AMD);
            AmdRoot::create(&directory, &self.name, now)?;
            self.amd = Some(AmdRoot::open(&directory)?);
        }
        Ok(self)
    }

    /// The AMD part.
    ///
    /// # Errors
    /// [`SimulatorError::NoAmdRoot`] where there is none.
    pub fn amd(&self) -> Result<&AmdRoot, SimulatorError> {
        self.amd.as_ref().ok_or_else(|| SimulatorError::NoAmdRoot { path: self.directory.clone() })
    }

    /// What the simulated vendors say about their machines.
    ///
    /// # Errors
    /// [`SimulatorError`] for a file that cannot be read or holds something else.
    pub fn bulletin(&self) -> Result<Bulletin, SimulatorError> {
        Bulletin::read(&self.directory)
    }

    /// Lets the simulated vendors say something else. Running machines hand it out with their next collateral.
    ///
    /// # Errors
    /// [`SimulatorError::File`] if it cannot be written.
    pub fn publish(&self, bulletin: &Bulletin) -> Result<(), SimulatorError> {
        bulletin.write(&self.directory)
    }

    /// Opens the hierarchy in `directory`, or makes it.
    ///
    /// # Errors
    /// As [`Root::create`] and [`Root::open`].
    pub fn open_or_create(directory: &Path, name: &str, now: UnixTime) -> Result<Self, SimulatorError> {
        if directory.join(Self::CERTIFICATE).exists() {
            Self::open(directory)
        } else {
            Self::create(directory, name, now)
        }
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The root certificate (DER): what a policy must name to accept machines of this network.
    pub fn certificate(&self) -> &[u8] {
        &self.root.certificate
    }

    /// The id of the root.
    pub fn id(&self) -> RootId {
        root_id(&self.root.certificate)
    }

    /// The root as policy data, marked simulated.
    ///
    /// # Errors
    /// [`SimulatorError::Policy`] if `name` is no name for a root.
    pub fn policy_entry(&self, name: &str) -> Result<ExtraRoot, SimulatorError> {
        Ok(ExtraRoot::simulated(name, Vendor::Intel, self.root.certificate.clone())?)
    }

    /// Every root of the network as policy data, marked simulated: `name` for Intel's form, `name` and `-amd` for AMD's.
    ///
    /// # Errors
    /// As [`Root::policy_entry`].
    pub fn policy_entries(&self, name: &str) -> Result<Vec<ExtraRoot>, SimulatorError> {
        let amd = self.amd.as_ref().map(|amd| amd.policy_entry(&format!("{name}-amd"))).transpose()?;
        Ok([Some(self.policy_entry(name)?), amd].into_iter().flatten().collect())
    }

    /// Freshly signed collateral for every Intel machine of this kind.
    pub(crate) fn intel_collateral(
        &self,
        kind: IntelKind,
        bulletin: &Bulletin,
        now: UnixTime,
    ) -> Result<Collateral, SimulatorError> {
        let (role, authority) = self.pck(kind);
        let tcb_info = documents::tcb_info(kind, bulletin, now);
        let qe_identity = documents::qe_identity(kind, bulletin, now);
        let tcb_chain = pem(&[&self.tcb.certificate, &self.root.certificate]);
        let revoked_authorities =
            [(RevocableAuthority::PckPlatform, Role::Platform), (RevocableAuthority::PckProcessor, Role::Processor)];
        let revoked_authorities = revoked_authorities
            .into_iter()
            .filter(|(which, _)| bulletin.revokes(*which))
            .map(|(_, role)| role.serial());
        let revoked_chips = bulletin.revoked_chips.iter().filter_map(|chip| hex::decode(chip).ok());
        let parts = IntelParts {
            pck_crl_issuer_chain: pem(&[&authority.certificate, &self.root.certificate]),
            root_ca_crl: self.root.revocation_list(Role::Root, revoked_authorities.collect(), bulletin, now)?,
            pck_crl: authority.revocation_list(
                role,
                revoked_chips.map(|chip| pck_serial(&chip)).collect(),
                bulletin,
                now,
            )?,
            tcb_info_issuer_chain: tcb_chain.clone(),
            tcb_info_signature: self.tcb.sign(tcb_info.as_bytes()),
            tcb_info,
            qe_identity_issuer_chain: tcb_chain,
            qe_identity_signature: self.tcb.sign(qe_identity.as_bytes()),
            qe_identity,
            pck_certificate_chain: None,
        };
        Ok(Collateral::Intel(Box::new(parts.into())))
    }

    fn pck(&self, kind: IntelKind) -> (Role, &Authority) {
        match kind {
            IntelKind::Tdx => (Role::Platform, &self.platform),
            IntelKind::Sgx => (Role::Processor, &self.processor),
        }
    }

    /// Certifies a chip's key: the PCK certificate (DER).
    pub(crate) fn certify(
        &self,
        kind: IntelKind,
        chip: &Chip,
        key: &SigningKey,
        now: UnixTime,
    ) -> Result<Vec<u8>, SimulatorError> {
        let (role, authority) = self.pck(kind);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "SIMULATED PCK Certificate - NOT INTEL");
        params.distinguished_name.push(DnType::OrganizationName, "Tacit simulated hardware");
        (params.not_before, params.not_after) = (date(now.minus(BACKDATED)), date(now.plus(7 * 365 * DAY)));
        params.serial_number = Some(pck_serial(&chip.ppid));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 2, 840, 113_741, 1, 13, 1], sgx_extension(kind, chip))];
        let pair = KeyPair::from_pem(&files::key_to_pem(key))?;
        Ok(params.signed_by(&pair, &authority.issuer(role)?)?.der().to_vec())
    }

    /// The chain of a PCK certificate in PEM, as it stands in quotes.
    pub(crate) fn pck_chain(&self, kind: IntelKind, pck: &[u8]) -> String {
        pem(&[pck, &self.pck(kind).1.certificate, &self.root.certificate])
    }
}

/// The number of a chip's PCK certificate, so that a revocation needs to know the chip alone.
fn pck_serial(ppid: &[u8]) -> SerialNumber {
    let digest = Sha256::new().chain_update(b"tacit.simulator.pck").chain_update(ppid).finalize();
    let mut serial = digest[..16].to_vec();
    // Positive, and without a leading zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&serial)
}

impl Authority {
    fn issuer(&self, role: Role) -> Result<Issuer<'static, KeyPair>, SimulatorError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = self.name.clone();
        params.key_usages = key_usages(role);
        Ok(Issuer::new(params, KeyPair::from_pem(&files::key_to_pem(&self.key))?))
    }

    fn revocation_list(
        &self,
        role: Role,
        revoked: Vec<SerialNumber>,
        bulletin: &Bulletin,
        now: UnixTime,
    ) -> Result<Vec<u8>, SimulatorError> {
        let (issued, expires) = bulletin.dates(now);
        let revoked = revoked.into_iter().map(|serial_number| RevokedCertParams {
            serial_number,
            revocation_time: date(issued),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date(issued),
            next_update: date(expires),
            crl_number: SerialNumber::from(u64::from(bulletin.crl_number)),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer(role)?)?.der().to_vec())
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(message);
        signature.to_bytes().to_vec()
    }
}

fn key_usages(role: Role) -> Vec<KeyUsagePurpose> {
    match role {
        Role::Root | Role::Platform | Role::Processor => vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
        Role::Tcb => vec![KeyUsagePurpose::DigitalSignature],
    }
}

fn distinguished_name(role: Role, network: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, role.common_name());
    name.push(DnType::OrganizationName, "Tacit simulated hardware");
    name.push(DnType::OrganizationalUnitName, network);
    name
}

fn authority_params(role: Role, network: &str, now: UnixTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(role, network);
    (params.not_before, params.not_after) = (date(now.minus(BACKDATED)), date(now.plus(20 * 365 * DAY)));
    params.serial_number = Some(role.serial());
    params.key_usages = key_usages(role);
    params.is_ca = match role {
        Role::Root => IsCa::Ca(BasicConstraints::Constrained(1)),
        Role::Platform | Role::Processor => IsCa::Ca(BasicConstraints::Constrained(0)),
        Role::Tcb => IsCa::ExplicitNoCa,
    };
    params.use_authority_key_identifier_extension = true;
    params
}

/// Intel's extension of a PCK certificate (Intel SGX PCK Certificate and CRL Profile, 1.2.840.113741.1.13.1).
fn sgx_extension(kind: IntelKind, chip: &Chip) -> Vec<u8> {
    let svn = cpu_svn(chip.old_firmware);
    let mut tcb: Vec<Vec<u8>> =
        (1u8..).zip(svn).map(|(index, svn)| der::entry(&[2, index], der::integer(svn))).collect();
    tcb.push(der::entry(&[2, 17], der::integer(PCE_SVN)));
    tcb.push(der::entry(&[2, 18], der::octets(&svn)));
    let configuration = [
        der::entry(&[7, 1], der::boolean(false)),
        der::entry(&[7, 2], der::boolean(false)),
        der::entry(&[7, 3], der::boolean(false)),
    ];
    let mut entries = vec![
        der::entry(&[1], der::octets(&chip.ppid)),
        der::entry(&[2], der::sequence(&tcb)),
        der::entry(&[3], der::octets(&PCE_ID)),
        der::entry(&[4], der::octets(&FMSPC)),
        der::entry(&[5], der::enumerated(0)),
    ];
    // What the platform authority certifies besides: the processor authority knows single processors only.
    if kind == IntelKind::Tdx {
        entries.push(der::entry(&[6], der::octets(&chip.platform_instance)));
        entries.push(der::entry(&[7], der::sequence(&configuration)));
    }
    der::sequence(&entries)
}

fn pem(certificates: &[&[u8]]) -> String {
    use p256::pkcs8::der::pem::{LineEnding, encode_string};
    certificates
        .iter()
        .map(|certificate| encode_string("CERTIFICATE", LineEnding::LF, certificate).expect("certificates are small"))
        .collect()
}

fn date(at: UnixTime) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(at.0)
}
