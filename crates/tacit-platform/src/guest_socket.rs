//! Driver for the dstack guest agent: HTTP with JSON on a Unix socket (guest API version 0, and of version 1 the
//! attestation).

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tacit_attest::{Collateral, Evidence, MAX_DOCUMENT, MAX_JSON, Platform};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use crate::{PlatformError, SealKey, attestation};

/// Most bytes of one answer: a quote in hex with its event log.
const MAX_ANSWER: usize = 2 * MAX_DOCUMENT + MAX_JSON;
/// Bytes of an SEV-SNP report.
const SNP_REPORT: usize = 1184;
/// Seconds before an answer is given up.
const TIMEOUT: u64 = 20;

/// A dstack guest agent on a Unix socket.
#[derive(Debug, Clone)]
pub struct GuestSocket {
    path: PathBuf,
}

/// What the guest agent says about itself; believe only evidence.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct GuestInfo {
    /// Id of the application, hex.
    pub app_id: String,
    /// Id of this instance, hex.
    pub instance_id: String,
    /// Id of the device, hex.
    #[serde(default)]
    pub device_id: String,
    /// The application's name.
    #[serde(default)]
    pub app_name: String,
    /// Measured registers and event log: JSON inside a string.
    pub tcb_info: String,
}

impl GuestInfo {
    /// The description of the application (`app_compose`), if the agent tells it: an ACI report publishes it, and its SHA-256 is
    /// the event `compose-hash` of a trust domain.
    pub fn app_compose(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct TcbInfo {
            #[serde(default)]
            app_compose: Option<String>,
        }
        serde_json::from_str::<TcbInfo>(&self.tcb_info).ok()?.app_compose.filter(|compose| !compose.is_empty())
    }
}

#[derive(Deserialize)]
struct QuoteAnswer {
    quote: String,
    #[serde(default)]
    event_log: String,
}

#[derive(Deserialize)]
struct AttestAnswer {
    attestation: String,
}

/// What the guest agent says about its own version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct AgentVersion {
    /// The version, as `0.5.11`.
    pub version: String,
    /// The commit that it was built from.
    #[serde(default)]
    pub rev: String,
}

#[derive(Deserialize)]
struct KeyAnswer {
    key: String,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
}

impl GuestSocket {
    /// The guest agent at `path`. Nothing is connected yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Evidence over `report_data`: a quote (`/GetQuote`), or from agents that have none, as on AMD machines, an attestation
    /// (`/v1/Attest`).
    ///
    /// # Errors
    /// [`PlatformError`]; [`PlatformError::OtherReportData`] if the quote is over other data.
    pub async fn quote(&self, report_data: &[u8; 64]) -> Result<Evidence, PlatformError> {
        const METHOD: &str = "/GetQuote";
        let request = serde_json::json!({ "report_data": hex::encode(report_data) });
        let answer: QuoteAnswer = match self.call(METHOD, &request).await {
            Err(refused @ PlatformError::Refused { status: 400 | 404, .. }) => {
                // The agent's first word names the cause better, unless it knows the other method.
                return match self.attest(&request).await {
                    Err(PlatformError::Refused { status: 404, .. }) => Err(refused),
                    other => bound(other?, report_data),
                };
            }
            other => other?,
        };
        let document = decode_hex(METHOD, "quote", &answer.quote)?;
        let event_log = Some(answer.event_log).filter(|log| !log.is_empty());
        bound(evidence(METHOD, document, event_log)?, report_data)
    }

    async fn attest(&self, request: &serde_json::Value) -> Result<Evidence, PlatformError> {
        const METHOD: &str = "/v1/Attest";
        let answer: AttestAnswer = self.call(METHOD, request).await?;
        attestation::parse(&decode_hex(METHOD, "attestation", &answer.attestation)?)
    }

    /// The agent's version (`/Version`); agents older than 0.5.7 do not say.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub async fn version(&self) -> Result<AgentVersion, PlatformError> {
        self.call("/Version", &serde_json::json!({})).await
    }

    /// The sealing key for `label` (`/GetKey`): the same for the same code on the same machine, another for any other.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub async fn seal_key(&self, label: &str) -> Result<SealKey, PlatformError> {
        const METHOD: &str = "/GetKey";
        let request = serde_json::json!({ "path": format!("tacit/seal/{label}"), "purpose": "seal", "algorithm": "" });
        let answer: KeyAnswer = self.call(METHOD, &request).await?;
        let digits = Zeroizing::new(answer.key);
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits.as_bytes(), key.as_mut_slice())
            .map_err(|_| bad_answer(METHOD, "a key that is not 32 bytes in hex".into()))?;
        Ok(SealKey::new(key))
    }

    /// What the guest agent says about itself (`/Info`).
    ///
    /// # Errors
    /// [`PlatformError`].
    pub async fn info(&self) -> Result<GuestInfo, PlatformError> {
        self.call("/Info", &serde_json::json!({})).await
    }

    /// Collateral for this machine (`/Collateral`, which dstack's own agent does not have).
    ///
    /// # Errors
    /// [`PlatformError::Unsupported`] where the agent does not know the method.
    pub async fn collateral(&self) -> Result<Collateral, PlatformError> {
        match self.call("/Collateral", &serde_json::json!({})).await {
            Err(PlatformError::Refused { status: 400 | 404, .. }) => {
                Err(PlatformError::Unsupported { platform: "this guest agent".into(), what: "collateral" })
            }
            other => other,
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        request: &serde_json::Value,
    ) -> Result<T, PlatformError> {
        let body = Full::new(Bytes::from(request.to_string()));
        let answer = tokio::time::timeout(Duration::from_secs(TIMEOUT), self.exchange(method, body));
        let (status, bytes) = answer.await.map_err(|_| PlatformError::Timeout { method, seconds: TIMEOUT })??;
        if status != StatusCode::OK {
            let reason = serde_json::from_slice::<ErrorAnswer>(&bytes).map(|answer| answer.error).unwrap_or_default();
            let reason = reason.chars().filter(|character| !character.is_control()).take(200).collect();
            return Err(PlatformError::Refused { method, status: status.as_u16(), reason });
        }
        // The text of a parse error may quote the answer, and the answer may be a key.
        serde_json::from_slice(&bytes)
            .map_err(|error| bad_answer(method, format!("other JSON ({:?})", error.classify())))
    }

    async fn exchange(
        &self,
        method: &'static str,
        body: Full<Bytes>,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), PlatformError> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|source| PlatformError::Connect { path: self.path.clone(), source })?;
        let http = |source: Box<dyn std::error::Error + Send + Sync>| PlatformError::Http { method, source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| http(error.into()))?;
        let request = Request::post(method)
            .header(hyper::header::HOST, "localhost")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| http(error.into()))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| http(error.into()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(http)?;
            Ok((status, Zeroizing::new(body.to_bytes().to_vec())))
        };
        tokio::pin!(exchange);
        tokio::pin!(connection);
        // The connection is driven here and nowhere else, so it ends with the call.
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(http(error.into())),
            },
        }
    }
}

fn bad_answer(method: &'static str, what: String) -> PlatformError {
    PlatformError::Answer { method, what }
}

fn decode_hex(method: &'static str, what: &str, text: &str) -> Result<Vec<u8>, PlatformError> {
    hex::decode(text.strip_prefix("0x").unwrap_or(text))
        .map_err(|error| bad_answer(method, format!("a {what} that is not hex: {error}")))
}

/// A document by what its first bytes say that it is. An SGX quote begins with version 3 and the kind of its key, an SEV-SNP
/// report with its version in four bytes.
pub(crate) fn evidence(
    method: &'static str,
    document: Vec<u8>,
    event_log: Option<String>,
) -> Result<Evidence, PlatformError> {
    let (version, tee) = tacit_attest::quote_header(&document)?;
    let key = u16::from_le_bytes([document[2], document[3]]);
    match (version, key, tee) {
        (2..=5, 0, _) if document.len() == SNP_REPORT => Ok(Evidence::sev_snp(document)?),
        (3, _, 0) => Ok(Evidence::sgx(document)?),
        (4 | 5, _, 0x81) => Ok(Evidence::tdx(document, event_log)?),
        _ => Err(bad_answer(method, format!("a quote of version {version} for TEE type {tee:#x}"))),
    }
}

/// The evidence, if it is over `report_data`.
fn bound(evidence: Evidence, report_data: &[u8; 64]) -> Result<Evidence, PlatformError> {
    let (version, _) = tacit_attest::quote_header(evidence.document())?;
    let offset = match (evidence.platform(), version) {
        (Platform::SevSnp, _) => 0x50,
        (Platform::Sgx, _) => 48 + 320,
        (_, 5) => 54 + 520,
        _ => 48 + 520,
    };
    if evidence.document().get(offset..offset + 64) != Some(report_data.as_slice()) {
        return Err(PlatformError::OtherReportData);
    }
    Ok(evidence)
}
