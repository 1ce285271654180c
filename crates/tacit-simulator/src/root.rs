//! The certificate hierarchy of simulated chips, with the shape of Intel's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
};
use tacit_attest::{Collateral, ExtraRoot, IntelParts, Vendor, root_id};
use tacit_types::{RootId, UnixTime};
use time::OffsetDateTime;

use crate::machine::Chip;
use crate::quote::{
    CPU_SVN, FMSPC, MODULE_ISVSVN, MODULE_MRSIGNER, PCE_ID, PCE_SVN, QE_ISVPRODID, QE_ISVSVN, QE_MRSIGNER,
};
use crate::{SimulatorError, der, files};

/// The number that Intel raises with every change of its TCB documents.
const EVALUATION_NUMBER: u32 = 1;
/// The date of every TCB level.
const TCB_DATE: &str = "2026-01-01T00:00:00Z";
/// Days for which collateral is valid, as Intel's.
const COLLATERAL_DAYS: u64 = 30;
/// Seconds by which collateral is dated back, so that a verifier whose clock is behind accepts it.
const BACKDATED: u64 = 300;
const DAY: u64 = 86_400;

/// The certificate hierarchy of one simulated network, in a folder of its own.
pub struct Root {
    directory: PathBuf,
    root: Authority,
    pck: Authority,
    tcb: Authority,
}

/// What the simulated vendor publishes at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) issued: UnixTime,
    pub(crate) expires: UnixTime,
    pub(crate) fmspc: [u8; 6],
    pub(crate) pce_id: [u8; 2],
    /// Status of the only TCB level, and the security version that its first component needs.
    pub(crate) status: &'static str,
    pub(crate) needed_svn: u8,
    pub(crate) advisories: Vec<&'static str>,
    pub(crate) evaluation_number: u32,
    pub(crate) qe_id: &'static str,
    pub(crate) qe_signer: [u8; 32],
}

impl Publication {
    pub(crate) fn at(now: UnixTime) -> Self {
        let issued = now.minus(BACKDATED);
        Self {
            issued,
            expires: issued.plus(COLLATERAL_DAYS * DAY),
            fmspc: FMSPC,
            pce_id: PCE_ID,
            status: "UpToDate",
            needed_svn: CPU_SVN[0],
            advisories: vec![],
            evaluation_number: EVALUATION_NUMBER,
            qe_id: "TD_QE",
            qe_signer: QE_MRSIGNER,
        }
    }
}

struct Authority {
    key: SigningKey,
    name: DistinguishedName,
    certificate: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Role {
    Root,
    Pck,
    Tcb,
}

impl Role {
    const ALL: [Self; 3] = [Self::Root, Self::Pck, Self::Tcb];

    fn file(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Pck => "pck-ca",
            Self::Tcb => "tcb-signer",
        }
    }

    fn common_name(self) -> &'static str {
        match self {
            Self::Root => "SIMULATED Root CA - NOT INTEL",
            Self::Pck => "SIMULATED PCK Platform CA - NOT INTEL",
            Self::Tcb => "SIMULATED TCB Signing - NOT INTEL",
        }
    }
}

impl Root {
    /// The folder's file with the root certificate (DER).
    pub const CERTIFICATE: &'static str = "root.der";
    /// The folder's file with the network's name.
    const NAME: &'static str = "name";

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
        Ok(Self {
            directory: directory.to_owned(),
            root: authority(Role::Root)?,
            pck: authority(Role::Pck)?,
            tcb: authority(Role::Tcb)?,
        })
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

    /// Freshly signed collateral for every machine under this root, valid for 30 days from `now`.
    ///
    /// # Errors
    /// [`SimulatorError::Certificate`].
    pub fn collateral(&self, now: UnixTime) -> Result<Collateral, SimulatorError> {
        self.collateral_of(&Publication::at(now))
    }

    /// Collateral that says something in particular.
    pub(crate) fn collateral_of(&self, publication: &Publication) -> Result<Collateral, SimulatorError> {
        let (issued, expires) = (publication.issued, publication.expires);
        let tcb_info = tcb_info(publication);
        let qe_identity = qe_identity(publication);
        let tcb_chain = pem(&[&self.tcb.certificate, &self.root.certificate]);
        let parts = IntelParts {
            pck_crl_issuer_chain: pem(&[&self.pck.certificate, &self.root.certificate]),
            root_ca_crl: self.root.revocation_list(Role::Root, issued, expires)?,
            pck_crl: self.pck.revocation_list(Role::Pck, issued, expires)?,
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

    /// Certifies a chip's key: the PCK certificate (DER).
    pub(crate) fn certify(&self, chip: &Chip, key: &SigningKey, now: UnixTime) -> Result<Vec<u8>, SimulatorError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "SIMULATED PCK Certificate - NOT INTEL");
        params.distinguished_name.push(DnType::OrganizationName, "Tacit simulated hardware");
        (params.not_before, params.not_after) = (date(now.minus(BACKDATED)), date(now.plus(7 * 365 * DAY)));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 2, 840, 113_741, 1, 13, 1], sgx_extension(chip))];
        let pair = KeyPair::from_pem(&files::key_to_pem(key))?;
        Ok(params.signed_by(&pair, &self.pck.issuer(Role::Pck)?)?.der().to_vec())
    }

    /// The chain of a PCK certificate in PEM, as it stands in quotes.
    pub(crate) fn pck_chain(&self, pck: &[u8]) -> String {
        pem(&[pck, &self.pck.certificate, &self.root.certificate])
    }
}

impl Authority {
    fn issuer(&self, role: Role) -> Result<Issuer<'static, KeyPair>, SimulatorError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = self.name.clone();
        params.key_usages = key_usages(role);
        Ok(Issuer::new(params, KeyPair::from_pem(&files::key_to_pem(&self.key))?))
    }

    fn revocation_list(&self, role: Role, issued: UnixTime, expires: UnixTime) -> Result<Vec<u8>, SimulatorError> {
        let params = CertificateRevocationListParams {
            this_update: date(issued),
            next_update: date(expires),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![],
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
        Role::Root | Role::Pck => vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
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
    params.key_usages = key_usages(role);
    params.is_ca = match role {
        Role::Root => IsCa::Ca(BasicConstraints::Constrained(1)),
        Role::Pck => IsCa::Ca(BasicConstraints::Constrained(0)),
        Role::Tcb => IsCa::ExplicitNoCa,
    };
    params.use_authority_key_identifier_extension = true;
    params
}

/// Intel's extension of a PCK certificate (Intel SGX PCK Certificate and CRL Profile, 1.2.840.113741.1.13.1).
fn sgx_extension(chip: &Chip) -> Vec<u8> {
    let mut tcb: Vec<Vec<u8>> =
        (1u8..).zip(CPU_SVN).map(|(index, svn)| der::entry(&[2, index], der::integer(svn))).collect();
    tcb.push(der::entry(&[2, 17], der::integer(PCE_SVN)));
    tcb.push(der::entry(&[2, 18], der::octets(&CPU_SVN)));
    let configuration = [
        der::entry(&[7, 1], der::boolean(false)),
        der::entry(&[7, 2], der::boolean(false)),
        der::entry(&[7, 3], der::boolean(false)),
    ];
    der::sequence(&[
        der::entry(&[1], der::octets(&chip.ppid)),
        der::entry(&[2], der::sequence(&tcb)),
        der::entry(&[3], der::octets(&PCE_ID)),
        der::entry(&[4], der::octets(&FMSPC)),
        der::entry(&[5], der::enumerated(0)),
        der::entry(&[6], der::octets(&chip.platform_instance)),
        der::entry(&[7], der::sequence(&configuration)),
    ])
}

fn tcb_info(publication: &Publication) -> String {
    let components = |svns: &[u8; 16]| -> Vec<serde_json::Value> {
        svns.iter().map(|svn| serde_json::json!({ "svn": svn })).collect()
    };
    let module = serde_json::json!({
        "mrsigner": hex::encode_upper(MODULE_MRSIGNER),
        "attributes": "0000000000000000",
        "attributesMask": "FFFFFFFFFFFFFFFF",
    });
    let mut identity = module.clone();
    identity["id"] = "TDX_01".into();
    identity["tcbLevels"] =
        serde_json::json!([{ "tcb": { "isvsvn": MODULE_ISVSVN }, "tcbDate": TCB_DATE, "tcbStatus": "UpToDate" }]);
    let mut needed = CPU_SVN;
    needed[0] = publication.needed_svn;
    serde_json::json!({
        "id": "TDX",
        "version": 3,
        "issueDate": publication.issued.to_string(),
        "nextUpdate": publication.expires.to_string(),
        "fmspc": hex::encode_upper(publication.fmspc),
        "pceId": hex::encode_upper(publication.pce_id),
        "tcbType": 0,
        "tcbEvaluationDataNumber": publication.evaluation_number,
        "tdxModule": module,
        "tdxModuleIdentities": [identity],
        "tcbLevels": [{
            "tcb": {
                "sgxtcbcomponents": components(&needed),
                "pcesvn": PCE_SVN,
                "tdxtcbcomponents": components(&[0; 16]),
            },
            "tcbDate": TCB_DATE,
            "tcbStatus": publication.status,
            "advisoryIDs": publication.advisories,
        }],
    })
    .to_string()
}

fn qe_identity(publication: &Publication) -> String {
    serde_json::json!({
        "id": publication.qe_id,
        "version": 2,
        "issueDate": publication.issued.to_string(),
        "nextUpdate": publication.expires.to_string(),
        "tcbEvaluationDataNumber": publication.evaluation_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": hex::encode_upper(publication.qe_signer),
        "isvprodid": QE_ISVPRODID,
        "tcbLevels": [{ "tcb": { "isvsvn": QE_ISVSVN }, "tcbDate": TCB_DATE, "tcbStatus": "UpToDate" }],
    })
    .to_string()
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
