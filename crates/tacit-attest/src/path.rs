//! Certificate paths of ECDSA P-384 keys, as AWS and NVIDIA build them, judged at given times.

use p384::ecdsa::signature::Verifier as _;
use p384::ecdsa::{DerSignature, Signature, VerifyingKey};
use tacit_types::UnixTime;
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use crate::root::{TrustedRoot, root_id, wrong_root};
use crate::{AttestError, der};

/// Most certificates of one path, the root included.
pub(crate) const MAX_PATH: usize = 6;

const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");

/// A path from a leaf to a root that the policy names, every signature checked.
#[derive(Debug)]
pub(crate) struct Path {
    /// Leaf first, root last.
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) root: TrustedRoot,
    /// The last second at which every certificate is valid.
    pub(crate) expires: UnixTime,
}

impl Path {
    /// The leaf.
    pub(crate) fn leaf(&self) -> &Certificate {
        &self.certificates[0]
    }
}

/// Reads certificates (DER, leaf first).
pub(crate) fn parse(what: &'static str, chain: &[Vec<u8>]) -> Result<Vec<Certificate>, AttestError> {
    if !(2..=MAX_PATH).contains(&chain.len()) {
        let detail = format!("{} certificates, 2 to {MAX_PATH} are read", chain.len());
        return Err(AttestError::BadChain { what, detail });
    }
    chain.iter().map(|certificate| der::certificate(what, certificate)).collect()
}

/// Checks a path that [`parse`] read: it must end in one of `roots`, byte for byte, and hold at each of `times`.
///
/// Basic constraints, path lengths, key usage, names, signatures, then dates, as RFC 5280 section 6 asks. A critical
/// extension other than the first two is refused, for nothing here knows what it demands.
pub(crate) fn verify(
    what: &'static str,
    certificates: Vec<Certificate>,
    mut roots: impl Iterator<Item = TrustedRoot>,
    times: &[UnixTime],
) -> Result<Path, AttestError> {
    let bad = |detail: String| AttestError::BadChain { what, detail };
    let Some(last) = certificates.last() else { return Err(bad("no certificate".into())) };
    let last_der = last.to_der().map_err(|error| AttestError::Malformed { what, detail: error.to_string() })?;
    let root = roots.find(|root| root.certificate == last_der).ok_or_else(|| wrong_root(root_id(&last_der)))?;
    for (index, certificate) in certificates.iter().enumerate() {
        let constraints = constraints(certificate).map_err(&bad)?;
        if index == 0 {
            if constraints.authority {
                return Err(bad("the leaf is an authority".into()));
            }
            if !constraints.usage.is_some_and(|usage| usage.digital_signature()) {
                return Err(bad("the leaf's key may not sign".into()));
            }
        } else {
            if !constraints.authority || !constraints.usage.is_some_and(|usage| usage.key_cert_sign()) {
                return Err(bad(format!("certificate {index} is no authority")));
            }
            // Authorities between this one and the leaf.
            if constraints.path_length.is_some_and(|length| usize::from(length) < index - 1) {
                return Err(bad(format!("certificate {index} allows a shorter path only")));
            }
        }
    }
    for (index, pair) in certificates.windows(2).enumerate() {
        let [subject, issuer] = pair else { continue };
        if subject.tbs_certificate.issuer != issuer.tbs_certificate.subject {
            return Err(bad(format!("certificate {index} names another issuer")));
        }
        if !signs(issuer, subject)? {
            return Err(AttestError::BadSignature { what });
        }
    }
    for time in times {
        certificates.iter().try_for_each(|certificate| der::check_dates(what, certificate, *time))?;
    }
    let expires = certificates.iter().map(|certificate| der::dates(certificate).1).min().unwrap_or(UnixTime(0));
    Ok(Path { certificates, root, expires })
}

/// The P-384 key of a certificate.
pub(crate) fn key(what: &'static str, certificate: &Certificate) -> Result<VerifyingKey, AttestError> {
    let malformed = |detail: String| AttestError::Malformed { what, detail };
    let info = &certificate.tbs_certificate.subject_public_key_info;
    let curve = info.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    if info.algorithm.oid != EC_PUBLIC_KEY || curve != Some(SECP384R1) {
        return Err(malformed("a key that is not of curve P-384".into()));
    }
    VerifyingKey::from_sec1_bytes(info.subject_public_key.raw_bytes()).map_err(|error| malformed(error.to_string()))
}

/// Checks a signature r ‖ s of 96 bytes over SHA-384 of `message`.
pub(crate) fn check_signature(
    what: &'static str,
    key: &VerifyingKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), AttestError> {
    let signature = Signature::from_slice(signature).map_err(|_| AttestError::BadSignature { what })?;
    key.verify(message, &signature).map_err(|_| AttestError::BadSignature { what })
}

fn signs(issuer: &Certificate, subject: &Certificate) -> Result<bool, AttestError> {
    const WHAT: &str = "certificate";
    let malformed = |error: x509_cert::der::Error| AttestError::Malformed { what: WHAT, detail: error.to_string() };
    let algorithm = &subject.signature_algorithm;
    if algorithm.oid != ECDSA_WITH_SHA384 || algorithm.parameters.is_some() {
        return Ok(false);
    }
    let signed = subject.tbs_certificate.to_der().map_err(malformed)?;
    let Ok(signature) = DerSignature::from_bytes(subject.signature.raw_bytes()) else { return Ok(false) };
    Ok(key(WHAT, issuer)?.verify(&signed, &signature).is_ok())
}

struct Constraints {
    authority: bool,
    path_length: Option<u8>,
    usage: Option<KeyUsage>,
}

fn constraints(certificate: &Certificate) -> Result<Constraints, String> {
    let mut found = Constraints { authority: false, path_length: None, usage: None };
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or_default();
    for (index, extension) in extensions.iter().enumerate() {
        if extensions[..index].iter().any(|other| other.extn_id == extension.extn_id) {
            return Err(format!("extension {} stands twice", extension.extn_id));
        }
        let value = extension.extn_value.as_bytes();
        if extension.extn_id == BASIC_CONSTRAINTS {
            let read = BasicConstraints::from_der(value).map_err(|error| error.to_string())?;
            (found.authority, found.path_length) = (read.ca, read.path_len_constraint);
        } else if extension.extn_id == KEY_USAGE {
            found.usage = Some(KeyUsage::from_der(value).map_err(|error| error.to_string())?);
        } else if extension.critical {
            return Err(format!("critical extension {} is not known here", extension.extn_id));
        }
    }
    Ok(found)
}
