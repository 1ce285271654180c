//! What the hardware signed, what is needed to check it, and the JSON form of both.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;
use tacit_types::eip712::Platform;

use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;

use crate::{AttestError, der};

/// Most bytes that are read of the JSON form of evidence or collateral.
pub const MAX_JSON: usize = 1024 * 1024;
/// Most bytes of one quote or report.
pub const MAX_DOCUMENT: usize = 128 * 1024;
/// Most bytes of an event log.
pub const MAX_EVENT_LOG: usize = 256 * 1024;
/// Most bytes of a boot log (CCEL), without the padding of its table.
pub const MAX_BOOT_LOG: usize = 256 * 1024;
/// Most bytes of one part of the collateral.
pub const MAX_COLLATERAL_PART: usize = 128 * 1024;

/// What the hardware signed: a quote or a report, not yet believed.
///
/// JSON form, version 1: `{"version":1,"kind":"sgx"|"tdx"|"sev-snp","document":<base64>,"eventLog":<text, TDX only>,
/// "bootLog":<base64, TDX only>}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "EvidenceTwin", try_from = "EvidenceTwin")]
pub struct Evidence {
    platform: Platform,
    document: Vec<u8>,
    event_log: Option<String>,
    boot_log: Option<Vec<u8>>,
}

impl Evidence {
    /// An SGX DCAP quote.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] past [`MAX_DOCUMENT`] bytes.
    pub fn sgx(quote: Vec<u8>) -> Result<Self, AttestError> {
        Self::new(Platform::Sgx, quote, None)
    }

    /// A TDX DCAP quote, with the event log of its run-time register 3 (dstack's JSON) where there is one.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] past [`MAX_DOCUMENT`] or [`MAX_EVENT_LOG`] bytes.
    pub fn tdx(quote: Vec<u8>, event_log: Option<String>) -> Result<Self, AttestError> {
        Self::new(Platform::Tdx, quote, event_log)
    }

    /// An AMD SEV-SNP attestation report of 1184 bytes.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] past [`MAX_DOCUMENT`] bytes.
    pub fn sev_snp(report: Vec<u8>) -> Result<Self, AttestError> {
        Self::new(Platform::SevSnp, report, None)
    }

    pub(crate) fn new(platform: Platform, document: Vec<u8>, event_log: Option<String>) -> Result<Self, AttestError> {
        bounded("evidence", document.len(), MAX_DOCUMENT)?;
        if let Some(log) = &event_log {
            bounded("event log", log.len(), MAX_EVENT_LOG)?;
            if platform != Platform::Tdx {
                return Err(AttestError::KindMismatch { said: platform.name(), found: "an event log" });
            }
        }
        Ok(Self { platform, document, event_log, boot_log: None })
    }

    /// The same evidence with the boot log (CCEL: what firmware and kernel measured into registers 0 to 2). The padding at
    /// the end of the ACPI table may be left out.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] past [`MAX_BOOT_LOG`] bytes, [`AttestError::KindMismatch`] for anything but TDX.
    pub fn with_boot_log(mut self, boot_log: Vec<u8>) -> Result<Self, AttestError> {
        bounded("boot log", boot_log.len(), MAX_BOOT_LOG)?;
        if self.platform != Platform::Tdx {
            return Err(AttestError::KindMismatch { said: self.platform.name(), found: "a boot log" });
        }
        self.boot_log = Some(boot_log);
        Ok(self)
    }

    /// The same evidence with another quote or report.
    pub(crate) fn with_document(&self, document: Vec<u8>) -> Result<Self, AttestError> {
        bounded("evidence", document.len(), MAX_DOCUMENT)?;
        Ok(Self { document, ..self.clone() })
    }

    /// What the sender says that this is; the signatures decide.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// The quote or report.
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// The event log that came with it.
    pub fn event_log(&self) -> Option<&str> {
        self.event_log.as_deref()
    }

    /// The boot log that came with it.
    pub fn boot_log(&self) -> Option<&[u8]> {
        self.boot_log.as_deref()
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] past [`MAX_JSON`] bytes, [`AttestError::Malformed`] for anything else than the form above.
    pub fn from_json(bytes: &[u8]) -> Result<Self, AttestError> {
        from_json("evidence", bytes)
    }

    /// Writes the JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and bytes always have a JSON form")
    }
}

/// What is needed to check evidence besides its vendor's root: not yet believed either.
///
/// JSON form, version 1: `{"version":1,"kind":"intel",…}` with the members of [`IntelCollateral`] or `{"version":1,"kind":"amd",…}`
/// with those of [`AmdCollateral`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Collateral {
    /// For SGX and TDX quotes.
    Intel(Box<IntelCollateral>),
    /// For SEV-SNP reports.
    Amd(Box<AmdCollateral>),
}

impl Collateral {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] past [`MAX_JSON`] bytes, [`AttestError::Malformed`] for anything else than the form above.
    pub fn from_json(bytes: &[u8]) -> Result<Self, AttestError> {
        from_json("collateral", bytes)
    }

    /// Writes the JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and bytes always have a JSON form")
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Intel(_) => "Intel",
            Self::Amd(_) => "AMD",
        }
    }
}

/// The documents that Intel's provisioning service publishes, byte for byte as it signed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntelCollateral {
    version: One,
    /// Certificates (PEM) of the authority that signs the PCK revocation list.
    pub pck_crl_issuer_chain: String,
    /// Revocation list of the root (DER; hex in JSON).
    #[serde(with = "hex_bytes")]
    pub root_ca_crl: Vec<u8>,
    /// Revocation list of the PCK authority (DER; hex in JSON).
    #[serde(with = "hex_bytes")]
    pub pck_crl: Vec<u8>,
    /// Certificates (PEM) of the signer of the TCB info.
    pub tcb_info_issuer_chain: String,
    /// The TCB info, in exactly the bytes that are signed.
    pub tcb_info: String,
    /// Its signature, r ‖ s (hex in JSON).
    #[serde(with = "hex_bytes")]
    pub tcb_info_signature: Vec<u8>,
    /// Certificates (PEM) of the signer of the quoting enclave's identity.
    pub qe_identity_issuer_chain: String,
    /// The quoting enclave's identity, in exactly the bytes that are signed.
    pub qe_identity: String,
    /// Its signature, r ‖ s (hex in JSON).
    #[serde(with = "hex_bytes")]
    pub qe_identity_signature: Vec<u8>,
    /// The PCK certificate and its chain (PEM), where the quote does not carry them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pck_certificate_chain: Option<String>,
}

/// The parts of [`IntelCollateral`] as they come from a collateral service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct IntelParts {
    /// See [`IntelCollateral::pck_crl_issuer_chain`].
    pub pck_crl_issuer_chain: String,
    /// See [`IntelCollateral::root_ca_crl`].
    #[serde(with = "hex_bytes")]
    pub root_ca_crl: Vec<u8>,
    /// See [`IntelCollateral::pck_crl`].
    #[serde(with = "hex_bytes")]
    pub pck_crl: Vec<u8>,
    /// See [`IntelCollateral::tcb_info_issuer_chain`].
    pub tcb_info_issuer_chain: String,
    /// See [`IntelCollateral::tcb_info`].
    pub tcb_info: String,
    /// See [`IntelCollateral::tcb_info_signature`].
    #[serde(with = "hex_bytes")]
    pub tcb_info_signature: Vec<u8>,
    /// See [`IntelCollateral::qe_identity_issuer_chain`].
    pub qe_identity_issuer_chain: String,
    /// See [`IntelCollateral::qe_identity`].
    pub qe_identity: String,
    /// See [`IntelCollateral::qe_identity_signature`].
    #[serde(with = "hex_bytes")]
    pub qe_identity_signature: Vec<u8>,
    /// See [`IntelCollateral::pck_certificate_chain`].
    #[serde(default)]
    pub pck_certificate_chain: Option<String>,
}

impl From<IntelParts> for IntelCollateral {
    fn from(parts: IntelParts) -> Self {
        Self {
            version: One,
            pck_crl_issuer_chain: parts.pck_crl_issuer_chain,
            root_ca_crl: parts.root_ca_crl,
            pck_crl: parts.pck_crl,
            tcb_info_issuer_chain: parts.tcb_info_issuer_chain,
            tcb_info: parts.tcb_info,
            tcb_info_signature: parts.tcb_info_signature,
            qe_identity_issuer_chain: parts.qe_identity_issuer_chain,
            qe_identity: parts.qe_identity,
            qe_identity_signature: parts.qe_identity_signature,
            pck_certificate_chain: parts.pck_certificate_chain,
        }
    }
}

impl IntelCollateral {
    /// Takes one of Intel's signed documents out of the body that the service answers with (`{"tcbInfo":{…},"signature":"…"}`):
    /// its text, byte for byte as it was signed, and its signature. `member` is `tcbInfo` or `enclaveIdentity`.
    ///
    /// Reading the body as JSON and writing the member again would change the order of names, and so break the signature.
    ///
    /// # Errors
    /// [`AttestError::Oversized`] past [`MAX_JSON`] bytes, [`AttestError::Malformed`] for a body of another shape.
    pub fn signed_part(body: &str, member: &str) -> Result<(String, Vec<u8>), AttestError> {
        bounded("Intel's answer", body.len(), MAX_JSON)?;
        let malformed = |detail: &str| AttestError::Malformed { what: "Intel's answer", detail: detail.to_owned() };
        let whole: BTreeMap<&str, &RawValue> =
            serde_json::from_str(body).map_err(|error| malformed(&error.to_string()))?;
        let signature = whole.get("signature").and_then(|raw| serde_json::from_str::<&str>(raw.get()).ok());
        let signature = hex::decode(signature.ok_or_else(|| malformed("no signature"))?)
            .map_err(|error| malformed(&error.to_string()))?;
        let document = whole.get(member).map(|raw| raw.get()).filter(|text| text.starts_with('{'));
        Ok((document.ok_or_else(|| malformed("no such member"))?.to_owned(), signature))
    }

    /// Reads the unversioned JSON that DCAP tools write (`root_ca_crl`, `tcb_info`, … with bytes in hex).
    ///
    /// # Errors
    /// [`AttestError::Oversized`] past [`MAX_JSON`] bytes, [`AttestError::Malformed`] for another shape.
    pub fn from_dcap_json(bytes: &[u8]) -> Result<Self, AttestError> {
        from_json::<IntelParts>("collateral", bytes).map(Self::from)
    }

    pub(crate) fn check_sizes(&self) -> Result<(), AttestError> {
        let parts = [
            ("PCK CRL issuer chain", self.pck_crl_issuer_chain.len()),
            ("root CRL", self.root_ca_crl.len()),
            ("PCK CRL", self.pck_crl.len()),
            ("TCB info issuer chain", self.tcb_info_issuer_chain.len()),
            ("TCB info", self.tcb_info.len()),
            ("TCB info signature", self.tcb_info_signature.len()),
            ("QE identity issuer chain", self.qe_identity_issuer_chain.len()),
            ("QE identity", self.qe_identity.len()),
            ("QE identity signature", self.qe_identity_signature.len()),
            ("PCK certificate chain", self.pck_certificate_chain.as_ref().map_or(0, String::len)),
        ];
        parts.into_iter().try_for_each(|(what, size)| bounded(what, size, MAX_COLLATERAL_PART))
    }
}

/// The certificates between AMD's root and the key that signed a report, and AMD's revocation list.
///
/// Which key that is, the report says: the chip's own (VCEK, issued by the ASK) or a cloud provider's (VLEK, issued by the
/// ASVK). Both travel in the same members. Certificates may be DER or PEM, the list DER, PEM or hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmdCollateral {
    version: One,
    /// The certificate of the authority below the root: ASK or ASVK (base64 in JSON).
    #[serde(with = "base64_bytes")]
    pub ask: Vec<u8>,
    /// The certificate of the key that signed the report: VCEK or VLEK (base64 in JSON).
    #[serde(with = "base64_bytes")]
    pub vcek: Vec<u8>,
    /// The revocation list that the root (ARK) signed (base64 in JSON).
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_base64")]
    pub crl: Option<Vec<u8>>,
}

impl AmdCollateral {
    /// Puts the two certificates together.
    pub fn new(ask: Vec<u8>, vcek: Vec<u8>) -> Self {
        Self { version: One, ask, vcek, crl: None }
    }

    /// The same collateral with AMD's revocation list.
    pub fn with_crl(mut self, crl: Vec<u8>) -> Self {
        self.crl = Some(crl);
        self
    }

    /// Puts certificates and a revocation list together from files in PEM or DER, in any order; a root among them is passed over.
    ///
    /// # Errors
    /// [`AttestError::Oversized`], or [`AttestError::Malformed`] for a file that is neither and where one of the two is missing.
    pub fn from_files(files: &[&[u8]]) -> Result<Self, AttestError> {
        const WHAT: &str = "AMD collateral";
        let malformed = |detail: &str| AttestError::Malformed { what: WHAT, detail: detail.to_owned() };
        let (mut certificates, mut crl) = (Vec::new(), None);
        for file in files {
            bounded(WHAT, file.len(), MAX_COLLATERAL_PART)?;
            if file.starts_with(b"-----BEGIN CERTIFICATE") {
                certificates.extend(der::certificates_in_pem(WHAT, file)?);
            } else if file.starts_with(b"-----BEGIN X509 CRL") {
                crl = Some(der::list_in_pem(WHAT, file)?);
            } else if CertificateList::from_der(file).is_ok() {
                crl = Some(file.to_vec());
            } else {
                certificates.push(file.to_vec());
            }
        }
        let names = certificates.iter().map(|der| {
            let body = der::certificate(WHAT, der)?.tbs_certificate;
            Ok((body.subject, body.issuer))
        });
        let names = names.collect::<Result<Vec<_>, AttestError>>()?;
        let signs_another =
            |at: usize| names.iter().enumerate().any(|(other, (_, issuer))| other != at && *issuer == names[at].0);
        // The key that signed the report signs no certificate; the authority is whoever issued it.
        let vcek = (0..names.len())
            .find(|at| !signs_another(*at) && names[*at].0 != names[*at].1)
            .ok_or_else(|| malformed("no certificate of the key that signed (VCEK or VLEK)"))?;
        let ask = (0..names.len())
            .find(|at| names[*at].0 == names[vcek].1)
            .ok_or_else(|| malformed("no certificate of the authority (ASK or ASVK)"))?;
        let (ask, vcek) = (certificates[ask].clone(), certificates[vcek].clone());
        Ok(Self { crl, ..Self::new(ask, vcek) })
    }

    pub(crate) fn check_sizes(&self) -> Result<(), AttestError> {
        bounded("ASK certificate", self.ask.len(), MAX_COLLATERAL_PART)?;
        bounded("VCEK certificate", self.vcek.len(), MAX_COLLATERAL_PART)?;
        bounded("AMD CRL", self.crl.as_ref().map_or(0, Vec::len), MAX_COLLATERAL_PART)
    }
}

pub(crate) fn bounded(what: &'static str, size: usize, limit: usize) -> Result<(), AttestError> {
    if size > limit { Err(AttestError::Oversized { what, size, limit }) } else { Ok(()) }
}

fn from_json<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, AttestError> {
    bounded(what, bytes.len(), MAX_JSON)?;
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() {
            AttestError::Truncated { what }
        } else {
            AttestError::Malformed { what, detail: error.to_string() }
        }
    })
}

/// A version field that knows only the number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct One;

impl Serialize for One {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(1)
    }
}

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(de::Error::custom(format_args!("unknown version {other}"))),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EvidenceTwin {
    version: One,
    kind: Platform,
    #[serde(with = "base64_bytes")]
    document: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_log: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_base64")]
    boot_log: Option<Vec<u8>>,
}

impl From<Evidence> for EvidenceTwin {
    fn from(evidence: Evidence) -> Self {
        Self {
            version: One,
            kind: evidence.platform,
            document: evidence.document,
            event_log: evidence.event_log,
            boot_log: evidence.boot_log,
        }
    }
}

impl TryFrom<EvidenceTwin> for Evidence {
    type Error = AttestError;

    fn try_from(twin: EvidenceTwin) -> Result<Self, AttestError> {
        let evidence = Self::new(twin.kind, twin.document, twin.event_log)?;
        match twin.boot_log {
            Some(boot_log) => evidence.with_boot_log(boot_log),
            None => Ok(evidence),
        }
    }
}

/// Bytes in hex; a revocation list may also stand there as PEM, as some services send it.
mod hex_bytes {
    use super::*;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.starts_with("-----BEGIN") {
            return Ok(text.into_owned().into_bytes());
        }
        hex::decode(text.as_bytes()).map_err(de::Error::custom)
    }
}

mod optional_base64 {
    use super::*;

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        base64_bytes::serialize(bytes.as_deref().unwrap_or_default(), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        base64_bytes::deserialize(deserializer).map(Some)
    }
}

pub(crate) mod base64_bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_round_trips_through_json() {
        let evidence = Evidence::tdx(vec![1, 2, 3], Some("[]".into())).unwrap();
        let json = evidence.to_json();
        assert_eq!(
            String::from_utf8(json.clone()).unwrap(),
            r#"{"version":1,"kind":"tdx","document":"AQID","eventLog":"[]"}"#
        );
        assert_eq!(Evidence::from_json(&json), Ok(evidence));
    }

    #[test]
    fn a_boot_log_round_trips_and_belongs_to_tdx() {
        let evidence = Evidence::tdx(vec![1], None).unwrap().with_boot_log(vec![7]).unwrap();
        assert_eq!(
            String::from_utf8(evidence.to_json()).unwrap(),
            r#"{"version":1,"kind":"tdx","document":"AQ==","bootLog":"Bw=="}"#
        );
        assert_eq!(Evidence::from_json(&evidence.to_json()), Ok(evidence));
        let sgx = Evidence::sgx(vec![1]).unwrap().with_boot_log(vec![7]);
        assert_eq!(sgx, Err(AttestError::KindMismatch { said: "Intel SGX", found: "a boot log" }));
        let large = Evidence::tdx(vec![1], None).unwrap().with_boot_log(vec![0; MAX_BOOT_LOG + 1]);
        assert!(matches!(large, Err(AttestError::Oversized { what: "boot log", .. })));
    }

    #[test]
    fn a_signed_part_keeps_its_bytes() {
        let body = r#" {"tcbInfo": {"b":1, "a":[2,"}"]} ,"signature":"ab"}"#;
        let part = IntelCollateral::signed_part(body, "tcbInfo");
        assert_eq!(part, Ok((r#"{"b":1, "a":[2,"}"]}"#.to_owned(), vec![0xab])));
        let refuse = |body: &str| {
            let part = IntelCollateral::signed_part(body, "tcbInfo");
            assert!(matches!(part, Err(AttestError::Malformed { .. })), "{body}: {part:?}");
        };
        refuse(r#"{"tcbInfo":{}}"#);
        refuse(r#"{"tcbInfo":{},"signature":"a"}"#);
        refuse(r#"{"tcbInfo":1,"signature":"ab"}"#);
        refuse(r#"{"signature":"ab"}"#);
        // The member's name inside another value is not the member.
        let nested = r#"{"x":{"tcbInfo":{"other":1}},"tcbInfo":{},"signature":"ab"}"#;
        assert_eq!(IntelCollateral::signed_part(nested, "tcbInfo"), Ok(("{}".to_owned(), vec![0xab])));
        refuse(r#"{"tcbInfo":{},"#);
    }

    #[test]
    fn collateral_round_trips_through_json() {
        let amd = Collateral::Amd(Box::new(AmdCollateral::new(vec![1], vec![2])));
        assert_eq!(
            String::from_utf8(amd.to_json()).unwrap(),
            r#"{"kind":"amd","version":1,"ask":"AQ==","vcek":"Ag=="}"#
        );
        assert_eq!(Collateral::from_json(&amd.to_json()), Ok(amd));
        let listed = Collateral::Amd(Box::new(AmdCollateral::new(vec![1], vec![2]).with_crl(vec![3])));
        assert_eq!(
            String::from_utf8(listed.to_json()).unwrap(),
            r#"{"kind":"amd","version":1,"ask":"AQ==","vcek":"Ag==","crl":"Aw=="}"#
        );
        assert_eq!(Collateral::from_json(&listed.to_json()), Ok(listed));
        let intel = Collateral::Intel(Box::new(IntelParts { pck_crl: vec![0xab], ..IntelParts::default() }.into()));
        assert_eq!(Collateral::from_json(&intel.to_json()), Ok(intel));
    }

    #[test]
    fn other_json_is_refused_by_name() {
        let check = |json: &str| {
            assert!(matches!(Evidence::from_json(json.as_bytes()), Err(AttestError::Malformed { .. })), "{json}");
        };
        check(r#"{"version":2,"kind":"tdx","document":""}"#);
        check(r#"{"version":1,"kind":"tpm","document":""}"#);
        check(r#"{"version":1,"kind":"tdx","document":"","more":1}"#);
        check(r#"{"version":1,"kind":"tdx","document":"*"}"#);
        check(r#"{"version":1,"kind":"sgx","document":"","eventLog":"[]"}"#);
        check(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
        assert_eq!(Evidence::from_json(br#"{"version":1"#), Err(AttestError::Truncated { what: "evidence" }));
        assert_eq!(
            Evidence::from_json(&vec![b' '; MAX_JSON + 1]),
            Err(AttestError::Oversized { what: "evidence", size: MAX_JSON + 1, limit: MAX_JSON })
        );
        assert_eq!(
            Evidence::sgx(vec![0; MAX_DOCUMENT + 1]),
            Err(AttestError::Oversized { what: "evidence", size: MAX_DOCUMENT + 1, limit: MAX_DOCUMENT })
        );
    }
}
