//! Who answers: the report of `/v1/aci/attestation`, and that of the interface before it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tacit_api::openai::{ApiError, ErrorKind};
use tacit_attest::{Evidence, Platform};
use tacit_platform::{Driver, PlatformError};
use tacit_receipt::aci::{
    AttestationReport, ReportEvidence, ServiceCapabilities, Serving, SourceProvenance, TacitEvidence, legacy,
    legacy::{LegacyKey, SigningAlgorithm, SigningIdentity},
};
use tacit_types::{Digest, keyset::report_data};
use tokio::sync::{Mutex, Semaphore};

use super::config::Provenance;
use crate::keys::Keys;

/// Quotes that are made at the same time; anybody may ask for one.
const QUOTES: usize = 2;
/// How long a question waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a report without a nonce, and collateral, are shown again.
const FRESH: Duration = Duration::from_secs(300);

/// Makes reports.
pub(crate) struct Attestation {
    machine: Driver,
    keys: Arc<Keys>,
    provenance: Provenance,
    turns: Semaphore,
    unbound: Mutex<Option<(Instant, Arc<Vec<u8>>)>>,
    collateral: Mutex<Option<(Instant, Value)>>,
}

/// What a client of the interface before ACI asks for.
pub(crate) struct LegacyQuestion {
    pub algorithm: SigningAlgorithm,
    pub nonce: String,
    /// The signer that is looked for; another one is not found here.
    pub address: Option<String>,
    /// 1 or 2.
    pub version: u8,
}

impl Attestation {
    pub fn new(machine: Driver, keys: Arc<Keys>, provenance: Provenance) -> Self {
        Self {
            machine,
            keys,
            provenance,
            turns: Semaphore::new(QUOTES),
            unbound: Mutex::new(None),
            collateral: Mutex::new(None),
        }
    }

    /// The report under a nonce; without one a report that proves no freshness.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] and [`ErrorKind::Internal`].
    pub async fn report(&self, nonce: Option<Digest>) -> Result<Arc<Vec<u8>>, ApiError> {
        if nonce.is_some() {
            return self.make(nonce).await.map(Arc::new);
        }
        let mut kept = self.unbound.lock().await;
        if let Some((made, report)) = &*kept
            && made.elapsed() < FRESH
        {
            return Ok(Arc::clone(report));
        }
        let report = Arc::new(self.make(None).await?);
        *kept = Some((Instant::now(), Arc::clone(&report)));
        Ok(report)
    }

    async fn make(&self, nonce: Option<Digest>) -> Result<Vec<u8>, ApiError> {
        let report_data = report_data(self.keys.digest, nonce);
        let evidence = self.quote(&report_data).await?;
        let app_compose = self.app_compose(&evidence).await;
        let configured = self.configured();
        let measured = app_compose.as_deref().and_then(SourceProvenance::of_compose);
        let report = AttestationReport::new(
            self.keys.keyset.clone(),
            nonce,
            evidence.platform(),
            ReportEvidence {
                quote: Some(hex::encode(evidence.document())),
                quote_report_data: Some(hex::encode(report_data)),
                event_log: evidence.event_log().map(str::to_owned),
                app_compose,
                vm_config: None,
                tacit: Some(TacitEvidence {
                    kind: evidence.platform(),
                    boot_log: evidence.boot_log().map(|log| STANDARD.encode(log)),
                    collateral: self.collateral().await,
                    certificate: None,
                }),
                further: serde_json::Map::new(),
            },
            configured.or(measured),
            ServiceCapabilities { supported_e2ee_versions: vec!["2".to_owned()], serving: Serving::Direct },
        );
        report
            .map_err(|error| error.to_string())
            .and_then(|report| serde_json::to_vec(&report).map_err(|error| error.to_string()))
            .map_err(|error| {
                tracing::error!(%error, "the attestation report cannot be written");
                ApiError::new(ErrorKind::Internal, "the attestation report cannot be written")
            })
    }

    /// The report of the interface before ACI.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a signer that is none of this node.
    pub async fn legacy_report(&self, question: &LegacyQuestion) -> Result<Value, ApiError> {
        let key = self.legacy_key(question.algorithm)?;
        let identity = key.identity();
        if let Some(wanted) = &question.address {
            let named = SigningIdentity::parse(question.algorithm, wanted).ok();
            if named.as_ref() != Some(&identity) {
                return Err(ApiError::new(ErrorKind::NotFound, "this signing address is not here"));
            }
        }
        let nonce = legacy::nonce_bytes(&question.nonce);
        let spki = self.keys.ai.tls.as_ref().map(|tls| tls.spki_sha256);
        let report_data = match (question.version, spki) {
            (1, _) => legacy::report_data_v1(&identity, nonce),
            (2, Some(spki)) => legacy::report_data_v2(&identity, spki, nonce),
            _ => return Err(ApiError::new(ErrorKind::InvalidValue, "1 or 2").at("version")),
        };
        let evidence = self.quote(&report_data).await?;
        let app_compose = self.app_compose(&evidence).await;
        let quote = hex::encode(evidence.document());
        let is_intel = matches!(evidence.platform(), Platform::Sgx | Platform::Tdx);
        let mut report = json!({
            "signing_address": identity.to_string(),
            "signing_algo": question.algorithm,
            "request_nonce": question.nonce,
            "intel_quote": is_intel.then_some(&quote),
            "quote": &quote,
            "event_log": evidence.event_log(),
            "info": { "tcb_info": { "app_compose": app_compose } },
            "nvidia_payload": Value::Null,
        });
        if let (2, Some(spki)) = (question.version, spki) {
            report["tls_cert_fingerprint"] = hex::encode(spki).into();
        }
        let own = report.clone();
        report["all_attestations"] = json!([own]);
        Ok(report)
    }

    /// The key that signs for clients of the interface before ACI.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`]; there is one of each algorithm.
    pub fn legacy_key(&self, algorithm: SigningAlgorithm) -> Result<&LegacyKey, ApiError> {
        let mut keys = self.keys.ai.legacy.iter();
        let key = keys.find(|key| key.identity().algorithm() == algorithm);
        key.ok_or_else(|| ApiError::new(ErrorKind::Internal, "no key of this algorithm"))
    }

    async fn quote(&self, report_data: &[u8; 64]) -> Result<Evidence, ApiError> {
        let busy = || ApiError::new(ErrorKind::Busy, "too many ask for evidence").retry_after(2);
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await.map_err(|_| busy())?;
        let _turn = turn.map_err(|_| busy())?;
        self.machine.quote(report_data).await.map_err(|error| {
            tracing::error!(error = %chain(&error), "the machine gives no evidence");
            ApiError::new(ErrorKind::Internal, "the machine gives no evidence")
        })
    }

    /// The description of the application, where the machine tells it and the evidence measures it: only a log of events says that it
    /// does, and a description that nothing measures is refused by every verifier.
    async fn app_compose(&self, evidence: &Evidence) -> Option<String> {
        let Driver::GuestSocket(socket) = &self.machine else { return None };
        evidence.event_log()?;
        socket.info().await.ok()?.app_compose()
    }

    /// Collateral, where the machine hands it out; clients fetch it from the vendor otherwise.
    async fn collateral(&self) -> Option<Value> {
        let mut kept = self.collateral.lock().await;
        if let Some((read, collateral)) = &*kept
            && read.elapsed() < FRESH
        {
            return Some(collateral.clone());
        }
        let collateral = self.machine.collateral().await.ok()?;
        let collateral: Value = serde_json::from_slice(&collateral.to_json()).ok()?;
        *kept = Some((Instant::now(), collateral.clone()));
        Some(collateral)
    }

    fn configured(&self) -> Option<SourceProvenance> {
        let Provenance { repo_url, repo_commit, image_digest } = self.provenance.clone();
        let said = repo_url.is_some() || repo_commit.is_some() || image_digest.is_some();
        said.then_some(SourceProvenance { repo_url, repo_commit, image_digest, image_provenance: Value::Null })
    }
}

fn chain(error: &PlatformError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
