//! Revocation lists: one form out of the three in which they travel, and AMD's own list.
//!
//! Intel's lists are judged by `dcap-qvl`; AMD's here, since no library does.

use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::pss::{Signature, VerifyingKey};
use rsa::signature::Verifier as _;
use sha2::Sha384;
use tacit_types::UnixTime;
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{Decode as _, Encode as _};

use crate::{AttestError, der};

const CRL_NUMBER: &str = "2.5.29.20";
/// RSASSA-PSS (RFC 8017), as AMD's authorities sign.
const RSA_PSS: &str = "1.2.840.113549.1.1.10";
/// Most revoked certificates of one list.
const MAX_REVOKED: usize = 10_000;

/// A list that its authority signed, current at the time of judgement.
#[derive(Debug)]
pub(crate) struct RevocationList {
    list: CertificateList,
    /// The list's number: a later list has a greater one.
    pub(crate) number: u32,
    /// When it was made.
    pub(crate) issued: UnixTime,
    /// When the next one is due.
    pub(crate) expires: UnixTime,
}

impl RevocationList {
    /// Reads AMD's list (DER, PEM or hex), which the root itself signs, and checks signature and dates.
    pub(crate) fn verify(bytes: &[u8], authority: &Certificate, now: UnixTime) -> Result<Self, AttestError> {
        const WHAT: &str = "AMD CRL";
        let malformed = |detail: &str| AttestError::Malformed { what: WHAT, detail: detail.to_owned() };
        let bytes = der_of_list(WHAT, bytes)?;
        let list = CertificateList::from_der(&bytes).map_err(|error| malformed(&error.to_string()))?;
        if list.to_der().map_err(|error| malformed(&error.to_string()))? != bytes {
            return Err(AttestError::TrailingBytes { what: WHAT });
        }
        let tbs = &list.tbs_cert_list;
        if tbs.issuer != authority.tbs_certificate.subject {
            return Err(AttestError::BadChain { what: WHAT, detail: "not by the root of the report's key".into() });
        }
        if list.signature_algorithm != tbs.signature {
            return Err(malformed("two different signature algorithms"));
        }
        if list.signature_algorithm.oid.to_string() != RSA_PSS {
            return Err(malformed("not signed by RSASSA-PSS"));
        }
        if list.signature.unused_bits() != 0 {
            return Err(malformed("a signature that does not fill its bytes"));
        }
        let bad = || AttestError::BadSignature { what: WHAT };
        let key = authority.tbs_certificate.subject_public_key_info.to_der().map_err(|_| bad())?;
        let key = RsaPublicKey::from_public_key_der(&key).map_err(|_| bad())?;
        let signature = Signature::try_from(list.signature.raw_bytes()).map_err(|_| bad())?;
        let message = tbs.to_der().map_err(|_| bad())?;
        VerifyingKey::<Sha384>::new(key).verify(&message, &signature).map_err(|_| bad())?;

        let issued = UnixTime(tbs.this_update.to_unix_duration().as_secs());
        let next = tbs.next_update.ok_or_else(|| malformed("it does not say when the next one is due"))?;
        let expires = UnixTime(next.to_unix_duration().as_secs());
        if now < issued {
            return Err(AttestError::NotYetValid { what: WHAT });
        }
        if now > expires {
            return Err(AttestError::Expired { what: WHAT });
        }
        if tbs.revoked_certificates.as_ref().is_some_and(|revoked| revoked.len() > MAX_REVOKED) {
            return Err(malformed("more than ten thousand certificates"));
        }
        let extensions = tbs.crl_extensions.iter().flatten();
        let mut number = 0;
        for extension in extensions {
            if extension.extn_id.to_string() == CRL_NUMBER {
                number = crl_number(extension.extn_value.as_bytes()).ok_or_else(|| malformed("a strange number"))?;
            } else if extension.critical {
                return Err(malformed("a critical extension that is not known"));
            }
        }
        Ok(Self { list, number, issued, expires })
    }

    /// Whether the list names a certificate that the list's own authority issued.
    pub(crate) fn revokes(&self, certificate: &Certificate) -> bool {
        let serial = &certificate.tbs_certificate.serial_number;
        self.list
            .tbs_cert_list
            .revoked_certificates
            .iter()
            .flatten()
            .any(|revoked| revoked.serial_number.as_bytes() == serial.as_bytes())
    }
}

fn crl_number(value: &[u8]) -> Option<u32> {
    let number = UintRef::from_der(value).ok()?;
    let bytes = number.as_bytes();
    (bytes.len() <= 4).then(|| bytes.iter().fold(0, |number, byte| (number << 8) | u32::from(*byte)))
}

/// A list in DER, whether it came as DER, as PEM or as the hex digits of DER: services differ, the signed bytes do not.
pub(crate) fn der_of_list(what: &'static str, bytes: &[u8]) -> Result<Vec<u8>, AttestError> {
    if bytes.starts_with(b"-----BEGIN") {
        return der::list_in_pem(what, bytes);
    }
    let digits = bytes.trim_ascii();
    if digits.len() > 8 && digits.iter().all(u8::is_ascii_hexdigit) {
        return hex::decode(digits).map_err(|error| AttestError::Malformed { what, detail: error.to_string() });
    }
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_from_der_pem_and_hex() {
        let der = vec![0x30, 0x82, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        let pem = "-----BEGIN X509 CRL-----\nMIIBAgMEBQYHCAk=\n-----END X509 CRL-----\n";
        assert_eq!(der_of_list("CRL", &der), Ok(der.clone()));
        assert_eq!(der_of_list("CRL", pem.as_bytes()), Ok(der.clone()));
        assert_eq!(der_of_list("CRL", hex::encode(&der).as_bytes()), Ok(der.clone()));
        assert_eq!(der_of_list("CRL", format!("{}\n", hex::encode(&der).to_uppercase()).as_bytes()), Ok(der));
        assert!(der_of_list("CRL", b"-----BEGIN X509 CRL-----\n*").is_err());
        assert!(der_of_list("CRL", b"308201020304050607080").is_err(), "half a digit pair");
    }

    #[test]
    fn numbers_are_bounded() {
        assert_eq!(crl_number(&[2, 1, 7]), Some(7));
        assert_eq!(crl_number(&[2, 4, 0x7f, 0xff, 0xff, 0xff]), Some(0x7fff_ffff));
        assert_eq!(crl_number(&[2, 6, 1, 0, 0, 0, 0, 0]), None);
        assert_eq!(crl_number(&[4, 1, 7]), None);
    }
}
