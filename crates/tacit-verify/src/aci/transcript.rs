//! The file that holds one exchange and everything that is needed to judge it: `tacit/ai-transcript/1`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tacit_attest::event_log;
use tacit_receipt::LogProof;
use tacit_receipt::aci::{AciReceipt, AttestationReport, BareDigest, ReportEvidence, Session};
use tacit_types::{UnixTime, jcs};

use super::exchange::record_exchange;
use super::service::record_service;
use super::{Channel, Exchange, ServiceInput, carried_collateral};
use crate::anchor::chain_text;
use crate::file::Subject;
use crate::report::Steps;
use crate::{Anchor, Judge, Report, StepName, TimeProof, VerifyError};

/// Value of a transcript's `format`.
pub const TRANSCRIPT_FORMAT: &str = "tacit/ai-transcript/1";
/// Most bytes of a transcript: request and response of 16 MiB each in base64, and the rest.
pub const MAX_TRANSCRIPT: usize = 48 * 1024 * 1024;

/// One exchange with a service of confidential inference. RFC 8785 bytes; a reader refuses any other spelling.
///
/// The report stands in it in normal form ([`Transcript::normal_report`]): without what neither the hardware nor the verifier's
/// arithmetic binds, so that no byte of the file can be changed unnoticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// [`TRANSCRIPT_FORMAT`].
    pub format: String,
    /// What the service said about itself.
    pub report: AttestationReport,
    /// The nonce that the report was asked for with.
    pub nonce: BareDigest,
    /// The request's bytes as the service processed them: of a sealed request the restored body.
    #[serde(rename = "request_b64", with = "base64_bytes")]
    pub request: Vec<u8>,
    /// The response's bytes as they came over the wire.
    #[serde(rename = "response_b64", with = "base64_bytes")]
    pub response: Vec<u8>,
    /// The receipt's document.
    pub receipt: Value,
    /// The receipt's place in the service's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<TranscriptLog>,
    /// The session that the receipt cites, of an aggregator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Value>,
    /// The connection that the client saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
}

/// A receipt's place in the log of a service; the entry is the receipt's digest, the key the keyset's log key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranscriptLog {
    /// The log's name.
    pub origin: String,
    /// Index, path and checkpoint.
    pub proof: LogProof,
}

impl Transcript {
    /// A report without what nothing binds: `vm_config`, `quote_report_data`, the versions of E2EE, members of other services, a
    /// source without a measured description, and events that firmware and kernel measured. Hex and the rest of the event log
    /// in their one spelling.
    ///
    /// # Errors
    /// [`VerifyError`] for evidence that cannot be read.
    pub fn normal_report(report: &AttestationReport) -> Result<AttestationReport, VerifyError> {
        let mut normal = report.clone();
        normal.service_capabilities.supported_e2ee_versions.clear();
        let collateral = carried_collateral(report)?;
        let evidence = &mut normal.attestation.evidence;
        let quote = evidence.quote.as_ref().map(|quote| quote.to_ascii_lowercase());
        let event_log = evidence.event_log.as_deref().map(event_log::runtime_events).transpose()?;
        if let (Some(own), Some(collateral)) = (&mut evidence.tacit, &collateral) {
            own.collateral = Some(to_value(collateral)?);
        }
        *evidence = ReportEvidence {
            quote,
            event_log,
            app_compose: evidence.app_compose.take(),
            tacit: evidence.tacit.take(),
            ..ReportEvidence::default()
        };
        if evidence.app_compose.is_none() {
            normal.attestation.source_provenance = None;
        }
        Ok(normal)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`VerifyError::Unreadable`] for a transcript that would not be read again.
    pub fn encode(&self) -> Result<Vec<u8>, VerifyError> {
        let bytes = jcs::to_bytes(self).map_err(|error| unreadable(&error))?;
        Self::parse(&bytes)?;
        Ok(bytes)
    }

    /// Reads a file. Nothing of it is believed yet.
    ///
    /// # Errors
    /// [`VerifyError::Unreadable`] for other bytes than the canonical ones, another format, or a report that is not in normal form.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        let transcript: Self = jcs::from_bytes(bytes, MAX_TRANSCRIPT).map_err(|error| unreadable(&error))?;
        if transcript.format != TRANSCRIPT_FORMAT {
            return Err(VerifyError::Unreadable(format!("AI transcript: format `{:.64}`", transcript.format)));
        }
        if Self::normal_report(&transcript.report)? != transcript.report {
            return Err(VerifyError::Unreadable("AI transcript: the report is not in normal form".to_owned()));
        }
        if !has_plain_certificates(&transcript.report.attestation.evidence) {
            return Err(VerifyError::Unreadable("AI transcript: certificates with something between them".to_owned()));
        }
        if transcript.channel.as_ref().is_some_and(|channel| channel.host.bytes().any(|byte| byte.is_ascii_uppercase()))
        {
            return Err(VerifyError::Unreadable("AI transcript: the host is not in lower case".to_owned()));
        }
        Ok(transcript)
    }
}

/// Whether nothing but line ends stands between the PEM certificates in quote and collateral: readers of PEM pass over it.
fn has_plain_certificates(evidence: &ReportEvidence) -> bool {
    let quote = evidence.quote.as_deref().and_then(|quote| hex::decode(quote).ok()).unwrap_or_default();
    let collateral = evidence.tacit.as_ref().and_then(|own| own.collateral.as_ref()).and_then(Value::as_object);
    let mut texts = collateral.into_iter().flat_map(|members| members.values()).filter_map(Value::as_str);
    is_plain_pem(&quote) && texts.all(|text| is_plain_pem(text.as_bytes()))
}

/// Whether `bytes` hold no certificate, or from the first one on are certificates, a line end after each, and at most the zero
/// that Intel's libraries put behind the last.
fn is_plain_pem(bytes: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----\n";
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let find = |rest: &[u8], wanted: &[u8]| rest.windows(wanted.len()).position(|window| window == wanted);
    let Some(start) = find(bytes, BEGIN) else { return find(bytes, END).is_none() };
    let mut rest = &bytes[start..];
    while let Some(body) = rest.strip_prefix(BEGIN) {
        let Some(length) = find(body, END) else { return false };
        let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\n');
        if !body[..length].iter().all(base64) {
            return false;
        }
        rest = &body[length + END.len()..];
        match rest.strip_prefix(b"\n") {
            Some(after) => rest = after,
            None => return rest.is_empty(),
        }
    }
    matches!(rest, [] | [0])
}

fn unreadable(error: &dyn std::error::Error) -> VerifyError {
    VerifyError::Unreadable(format!("AI transcript: {}", chain_text(error)))
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, VerifyError> {
    serde_json::to_value(value).map_err(|error| unreadable(&error))
}

/// Judges a transcript's bytes at `at`; `now` tells what has expired since.
pub(crate) fn judge_transcript(
    bytes: &[u8],
    kind: &'static str,
    anchor: Option<&Anchor>,
    judge: &Judge,
    (at, now): (UnixTime, UnixTime),
) -> Report {
    let mut steps = Steps::default();
    let read = Transcript::parse(bytes).and_then(|transcript| {
        let aci = |error| VerifyError::Aci(chain_text(&error));
        let receipt = AciReceipt::from_value(transcript.receipt.clone()).map_err(aci)?;
        let session = transcript.session.clone().map(Session::from_value).transpose().map_err(aci)?;
        Ok((transcript, receipt, session))
    });
    let Some((transcript, receipt, session)) = steps.record(StepName::Transcript, read) else {
        return steps.report(true);
    };
    let input = ServiceInput {
        report: &transcript.report,
        nonce: Some(transcript.nonce.digest()),
        collateral: None,
        channel: transcript.channel.as_ref(),
        anchor,
        judge,
    };
    let (service, named) = record_service(&mut steps, &input, at);
    let Some(service) = service else { return steps.report(true) };
    let exchange = Exchange {
        receipt: &receipt,
        request: &transcript.request,
        response: &transcript.response,
        session: session.as_ref(),
        pinned: &[],
        log: transcript.log.as_ref(),
    };
    record_exchange(&mut steps, &service, &exchange, at);
    let mut report = steps.report(named);
    let evidence = &service.evidence;
    report.root = Some(evidence.root_name().to_owned());
    let live = at <= now && now < service.keyset.not_after && now <= evidence.collateral_expires();
    report.time = Some(if live { TimeProof::Live } else { TimeProof::Unproven });
    report.subject = Some(Subject::of_exchange(kind, &service, &receipt, &transcript));
    report
}

/// Padded standard base64.
mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(de::Error::custom)
    }
}
