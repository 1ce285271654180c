//! What kind of file some bytes are. Bounded, one level of text encoding, no guess that changes what is judged.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use tacit_attest::nvidia::GpuEvidence;
use tacit_attest::{Collateral, Evidence, quote_header};
use tacit_receipt::aci::{AttestationReport, PrefixedDigest};
use tacit_types::keyset::{Keyset, report_data};
use tacit_types::{Digest, UnixTime};

use super::MAX_FILE;
use crate::aci::{carried_collateral, evidence_of};
use crate::anchor::{chain_text, json_bytes};
use crate::{CertifiedWorker, VerifyError};

/// Bytes of an AMD report.
const AMD_REPORT: usize = 1184;

/// How a Nitro document begins: an array of four whose first part is the protected header `{1: -35}`.
const COSE_ES384: [u8; 6] = [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22];

/// What was recognised; nothing of it is believed yet.
pub(super) enum Recognised {
    /// A receipt bundle.
    Bundle,
    /// A worker with its certificate.
    Worker(Box<CertifiedWorker>),
    /// Evidence, with collateral if the file carries it.
    Evidence(Evidence, Option<Collateral>),
    /// What the GPUs of one machine signed.
    Gpus(GpuEvidence),
    /// A keyset with the evidence that names it (ACI attestation report).
    KeysetReport(Box<KeysetReport>),
    /// An exchange with a service of confidential inference.
    Transcript,
}

impl Recognised {
    /// The kind, for people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Bundle => "receipt bundle",
            Self::Worker(_) => "worker certificate",
            Self::KeysetReport(_) => "keyset report",
            Self::Transcript => "AI transcript",
            Self::Gpus(_) => "NVIDIA GPU evidence",
            Self::Evidence(evidence, _) => match (evidence.platform(), quote_header(evidence.document())) {
                (tacit_attest::Platform::Sgx, _) => "Intel SGX quote, version 3",
                (tacit_attest::Platform::Tdx, Ok((5, _))) => "Intel TDX quote, version 5",
                (tacit_attest::Platform::Tdx, _) => "Intel TDX quote, version 4",
                (tacit_attest::Platform::SevSnp, _) => "AMD SEV-SNP report",
                (tacit_attest::Platform::Nitro, _) => "AWS Nitro document",
            },
        }
    }
}

/// Recognises a file.
pub(super) fn recognise(bytes: &[u8]) -> Result<Recognised, VerifyError> {
    if bytes.len() > MAX_FILE {
        return Err(VerifyError::Unreadable(format!("more than {MAX_FILE} bytes")));
    }
    match bytes.trim_ascii_start().first() {
        Some(b'{') => recognise_json(bytes),
        Some(b'[') => Ok(Recognised::Gpus(GpuEvidence::from_evidence_list(bytes)?)),
        _ => recognise_raw(bytes).or_else(|error| match decode_text(bytes) {
            Some(decoded) => recognise_raw(&decoded),
            None => Err(error),
        }),
    }
}

fn recognise_json(bytes: &[u8]) -> Result<Recognised, VerifyError> {
    let unreadable = |error: serde_json::Error| VerifyError::Unreadable(error.to_string());
    let value: Value = serde_json::from_slice(bytes).map_err(unreadable)?;
    let has = |member: &str| value.get(member).is_some();
    if value.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("tacit/ai-transcript/")) {
        return Ok(Recognised::Transcript);
    }
    if has("receipt") {
        return Ok(Recognised::Bundle);
    }
    if has("api_version") && has("attestation") {
        let report = AttestationReport::from_value(value);
        let report =
            report.map_err(|error| VerifyError::Unreadable(format!("keyset report: {}", chain_text(&error))))?;
        return Ok(Recognised::KeysetReport(Box::new(KeysetReport::new(report)?)));
    }
    if has("certificate") {
        return Ok(Recognised::Worker(Box::new(serde_json::from_value(value).map_err(unreadable)?)));
    }
    if has("evidenceList") {
        return Ok(Recognised::Gpus(GpuEvidence::from_json(bytes)?));
    }
    if has("document") {
        return Ok(Recognised::Evidence(Evidence::from_json(bytes)?, None));
    }
    if let Some(evidence) = value.get("evidence").filter(|evidence| evidence.is_object()) {
        let evidence = Evidence::from_json(&json_bytes(evidence))?;
        let collateral = value.get("collateral").map(|given| Collateral::from_json(&json_bytes(given))).transpose()?;
        return Ok(Recognised::Evidence(evidence, collateral));
    }
    Err(unknown())
}

fn recognise_raw(bytes: &[u8]) -> Result<Recognised, VerifyError> {
    // An AMD report may begin like a quote; its length tells it: no quote with a certificate chain is as short.
    let evidence = match quote_header(bytes) {
        _ if bytes.len() == AMD_REPORT && (2..=5).contains(&bytes[0]) && bytes[1..4] == [0; 3] => {
            Evidence::sev_snp(bytes.to_vec())?
        }
        Ok((3, 0)) => Evidence::sgx(bytes.to_vec())?,
        Ok((4 | 5, 0x81)) => Evidence::tdx(bytes.to_vec(), None)?,
        // A COSE_Sign1 structure whose protected header says ES384.
        _ if bytes.starts_with(&COSE_ES384) => Evidence::nitro(bytes.to_vec())?,
        _ => return Err(unknown()),
    };
    Ok(Recognised::Evidence(evidence, None))
}

/// Bytes that stand as hex or base64 in a text file.
fn decode_text(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text: String = text.split_ascii_whitespace().collect();
    let text = text.trim_matches('"');
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits)
        .or_else(|_| STANDARD.decode(text))
        .or_else(|_| URL_SAFE_NO_PAD.decode(text))
        .ok()
        .filter(|decoded| !decoded.is_empty())
}

fn unknown() -> VerifyError {
    VerifyError::Unreadable(
        "neither a receipt bundle, a worker certificate, a keyset report, an AI transcript, nor evidence of a kind that is \
         known here"
            .to_owned(),
    )
}

/// A keyset and the evidence whose report data names it.
pub(super) struct KeysetReport {
    keyset: Keyset,
    stated: PrefixedDigest,
    evidence: Evidence,
    collateral: Option<Collateral>,
}

impl KeysetReport {
    fn new(report: AttestationReport) -> Result<Self, VerifyError> {
        let (evidence, collateral) = (evidence_of(&report)?, carried_collateral(&report)?);
        let stated = report.workload_keyset_digest;
        Ok(Self { keyset: report.attestation.workload_keyset, stated, evidence, collateral })
    }

    /// The collateral that the report carries.
    pub(super) fn collateral(&self) -> Option<Collateral> {
        self.collateral.clone()
    }

    /// Checks that keyset and digest belong together and live; gives the evidence and the report data that it must carry.
    pub(super) fn check(&self, nonce: Option<Digest>, at: UnixTime) -> Result<(Evidence, [u8; 64]), VerifyError> {
        let digest = self.keyset.digest().map_err(|error| VerifyError::Unreadable(chain_text(&error)))?;
        if self.stated != digest.into() {
            return Err(VerifyError::Mismatch("the keyset is not the one that the report names"));
        }
        if at > self.keyset.not_after {
            return Err(VerifyError::Time("the keys are over"));
        }
        Ok((self.evidence.clone(), report_data(digest, nonce)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> Option<&'static str> {
        recognise(bytes).ok().map(|recognised| recognised.name())
    }

    #[test]
    fn each_kind_is_told_by_its_form() {
        let mut quote = vec![0; 700];
        (quote[0], quote[4]) = (4, 0x81);
        assert_eq!(name(&quote), Some("Intel TDX quote, version 4"));
        assert_eq!(name(hex::encode(&quote).as_bytes()), Some("Intel TDX quote, version 4"));
        assert_eq!(name(format!("0x{}\n", hex::encode(&quote)).as_bytes()), Some("Intel TDX quote, version 4"));
        assert_eq!(name(STANDARD.encode(&quote).as_bytes()), Some("Intel TDX quote, version 4"));
        quote[0] = 5;
        assert_eq!(name(&quote), Some("Intel TDX quote, version 5"));
        (quote[0], quote[4]) = (3, 0);
        assert_eq!(name(&quote), Some("Intel SGX quote, version 3"));
        let mut report = vec![0; AMD_REPORT];
        report[0] = 3;
        assert_eq!(name(&report), Some("AMD SEV-SNP report"));
        assert_eq!(name(&[&COSE_ES384[..], &[0xa0]].concat()), Some("AWS Nitro document"));
        assert_eq!(name(br#"{"receipt":{},"evidence":{"evidence":{},"collateral":{}}}"#), Some("receipt bundle"));
        let evidence = Evidence::tdx(vec![4, 0], None).unwrap().to_json();
        assert_eq!(name(&evidence), Some("Intel TDX quote, version 4"));
    }

    #[test]
    fn what_is_nothing_is_refused() {
        for bytes in
            [&b""[..], b"{", b"{}", b"[]", b"hello", &[0; 47], &[9; AMD_REPORT], b"0x", br#"{"certificate":1}"#]
        {
            assert_eq!(name(bytes), None, "{bytes:?}");
        }
        assert!(matches!(recognise(&vec![b' '; MAX_FILE + 1]), Err(VerifyError::Unreadable(_))));
        // Text inside text is not unpacked twice.
        let mut report = vec![0; AMD_REPORT];
        report[0] = 3;
        assert_eq!(name(hex::encode(hex::encode(report)).as_bytes()), None);
    }
}
