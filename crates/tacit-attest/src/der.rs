//! Reading certificates strictly: one encoding, bounded, dates judged at a given time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tacit_types::UnixTime;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use crate::AttestError;

/// Most certificates of one chain.
const MAX_CHAIN: usize = 6;

/// Reads one certificate and refuses any other encoding of it.
pub(crate) fn certificate(what: &'static str, bytes: &[u8]) -> Result<Certificate, AttestError> {
    let malformed = |error: x509_cert::der::Error| AttestError::Malformed { what, detail: error.to_string() };
    let certificate = Certificate::from_der(bytes).map_err(malformed)?;
    if certificate.to_der().map_err(malformed)? != bytes {
        return Err(AttestError::TrailingBytes { what });
    }
    if certificate.signature_algorithm != certificate.tbs_certificate.signature {
        return Err(AttestError::Malformed { what, detail: "two different signature algorithms".into() });
    }
    if certificate.signature.unused_bits() != 0 {
        return Err(AttestError::Malformed { what, detail: "a signature that does not fill its bytes".into() });
    }
    Ok(certificate)
}

/// A certificate in DER, whether it came as DER or as PEM.
pub(crate) fn certificate_bytes(what: &'static str, bytes: &[u8]) -> Result<Vec<u8>, AttestError> {
    if !bytes.starts_with(b"-----BEGIN") {
        return Ok(bytes.to_vec());
    }
    let mut certificates = certificates_in_pem(what, bytes)?;
    match certificates.len() {
        1 => Ok(certificates.remove(0)),
        _ => Err(AttestError::Malformed { what, detail: "more than one certificate".into() }),
    }
}

/// Checks a certificate's dates.
pub(crate) fn check_dates(what: &'static str, certificate: &Certificate, now: UnixTime) -> Result<(), AttestError> {
    let (not_before, not_after) = dates(certificate);
    if now < not_before {
        return Err(AttestError::NotYetValid { what });
    }
    if now > not_after {
        return Err(AttestError::Expired { what });
    }
    Ok(())
}

/// The first and the last second of a certificate's validity.
pub(crate) fn dates(certificate: &Certificate) -> (UnixTime, UnixTime) {
    let validity = &certificate.tbs_certificate.validity;
    (
        UnixTime(validity.not_before.to_unix_duration().as_secs()),
        UnixTime(validity.not_after.to_unix_duration().as_secs()),
    )
}

/// The certificates (DER) of a PEM text, in order.
pub(crate) fn certificates_in_pem(what: &'static str, pem: &[u8]) -> Result<Vec<Vec<u8>>, AttestError> {
    let malformed = |detail: &str| AttestError::Malformed { what, detail: detail.to_owned() };
    let certificates = blocks_in_pem(what, pem, "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----")?;
    if certificates.is_empty() { Err(malformed("no certificate")) } else { Ok(certificates) }
}

/// The one revocation list (DER) of a PEM text.
pub(crate) fn list_in_pem(what: &'static str, pem: &[u8]) -> Result<Vec<u8>, AttestError> {
    let mut lists = blocks_in_pem(what, pem, "-----BEGIN X509 CRL-----", "-----END X509 CRL-----")?;
    match lists.len() {
        1 => Ok(lists.remove(0)),
        _ => Err(AttestError::Malformed { what, detail: "not exactly one revocation list".into() }),
    }
}

fn blocks_in_pem(what: &'static str, pem: &[u8], begin: &str, end: &str) -> Result<Vec<Vec<u8>>, AttestError> {
    let malformed = |detail: &str| AttestError::Malformed { what, detail: detail.to_owned() };
    let mut rest = std::str::from_utf8(pem).map_err(|_| malformed("PEM is not text"))?;
    let mut blocks = Vec::new();
    while let Some(at) = rest.find(begin) {
        if blocks.len() == MAX_CHAIN {
            return Err(malformed("more than six certificates"));
        }
        let body = &rest[at + begin.len()..];
        let until = body.find(end).ok_or_else(|| malformed("PEM without an end"))?;
        let digits: String = body[..until].split_ascii_whitespace().collect();
        blocks.push(STANDARD.decode(digits).map_err(|_| malformed("PEM is not base64"))?);
        rest = &body[until + end.len()..];
    }
    Ok(blocks)
}

/// Writes certificates as PEM, 64 characters a line.
pub(crate) fn certificates_to_pem(certificates: &[Vec<u8>]) -> String {
    let mut pem = String::new();
    for certificate in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let digits = STANDARD.encode(certificate);
        for line in digits.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

/// Reads `YYYY-MM-DDTHH:MM:SSZ`, the only form that Intel writes.
pub(crate) fn parse_time(what: &'static str, text: &str) -> Result<UnixTime, AttestError> {
    let malformed = || AttestError::Malformed { what, detail: "not a date of the form YYYY-MM-DDTHH:MM:SSZ".into() };
    let bytes = text.as_bytes();
    if bytes.len() != 20
        || [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')]
            .iter()
            .any(|&(at, byte)| bytes[at] != byte)
    {
        return Err(malformed());
    }
    let number = |from: usize, to: usize| -> Result<u64, AttestError> {
        bytes[from..to].iter().try_fold(0u64, |sum, byte| {
            if byte.is_ascii_digit() { Ok(sum * 10 + u64::from(byte - b'0')) } else { Err(malformed()) }
        })
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return Err(malformed());
    }
    // Days from the civil date (proleptic Gregorian, eras of 400 years from March).
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Ok(UnixTime(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_they_are_written() {
        for seconds in [0, 951_782_400, 1_750_329_371, 1_795_345_499, 4_102_444_799] {
            assert_eq!(parse_time("date", &UnixTime(seconds).to_string()), Ok(UnixTime(seconds)));
        }
        for text in [
            "",
            "2025-06-19 10:56:11Z",
            "2025-13-19T10:56:11Z",
            "2025-06-19T24:00:00Z",
            "2025-06-19T10:56:11+",
            "20x5-06-19T10:56:11Z",
        ] {
            assert!(parse_time("date", text).is_err(), "{text}");
        }
    }

    #[test]
    fn pem_is_bounded_and_round_trips() {
        let certificates = vec![vec![1u8; 100], vec![2u8; 48]];
        let pem = certificates_to_pem(&certificates);
        assert_eq!(certificates_in_pem("chain", pem.as_bytes()), Ok(certificates.clone()));
        assert!(certificates_in_pem("chain", pem.repeat(4).as_bytes()).is_err());
        assert!(certificates_in_pem("chain", b"").is_err());
        assert!(certificates_in_pem("chain", b"-----BEGIN CERTIFICATE-----\nAAAA").is_err());
    }
}
