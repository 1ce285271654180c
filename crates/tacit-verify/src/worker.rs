//! Verification of a worker before anything is sealed to it.

use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tacit_attest::{Collateral, Evidence};
use tacit_receipt::{BundleEvidence, SignedCertificate};
use tacit_types::eip712::Certificate;
use tacit_types::keyset::report_data;
use tacit_types::{Address, CertificateId, UnixTime};

use crate::anchor::{chain_text, json_bytes};
use crate::judge::{JudgedEvidence, judge_certificate, judge_evidence, root_name};
use crate::report::Steps;
use crate::{Anchor, Report, StepName, TimeProof, Verdict, Verifier, VerifyError};

/// What a gateway says about a worker: nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertifiedWorker {
    /// Certificate, keyset and the quorum's signatures.
    pub certificate: SignedCertificate,
    /// The worker's own evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<BundleEvidence>,
}

/// A worker that holds in every step under the verifier's policy at one moment; nothing else makes one.
#[derive(Debug, Clone)]
pub struct VerifiedWorker {
    certificate: Certificate,
    id: CertificateId,
    ohttp_config: Vec<u8>,
    note_key: [u8; 32],
}

impl VerifiedWorker {
    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The certificate's name.
    pub fn id(&self) -> CertificateId {
        self.id
    }

    /// Account of the receipt key.
    pub fn address(&self) -> Address {
        self.certificate.worker
    }

    /// The RFC 9458 KeyConfig to seal requests to.
    pub fn ohttp_config(&self) -> &[u8] {
        &self.ohttp_config
    }

    /// The Ed25519 key of the worker's log.
    pub fn note_key(&self) -> &[u8; 32] {
        &self.note_key
    }
}

impl Verifier {
    /// Reports every step about a worker at `now`.
    pub fn report_worker(&self, worker: &CertifiedWorker, now: UnixTime) -> Report {
        let mut steps = Steps::default();
        let certificate = &worker.certificate.certificate;
        let gatekeepers_named = steps.record(StepName::Gatekeepers, self.gatekeepers.clone());
        steps.record(StepName::Certificate, self.certificates.check(&self.anchor, &worker.certificate));
        let named = steps.record(StepName::Policy, judge_certificate(certificate, &self.anchor, &self.judge));
        let live = if certificate.is_live(now) {
            Ok(TimeProof::Live)
        } else {
            Err(VerifyError::Time("the certificate is not valid now"))
        };
        let time = steps.record(StepName::Time, live);
        if let Some(evidence) = &worker.evidence {
            steps.record(StepName::Evidence, check_evidence(self, &worker.certificate, evidence).map(drop));
        }
        let mut report = steps.report(gatekeepers_named.unwrap_or(false) && named.unwrap_or(false));
        report.time = time;
        report.root = Some(root_name(&self.anchor, certificate.root));
        report
    }

    /// Verifies a worker at `now`.
    ///
    /// # Errors
    /// The report, for every verdict but [`Verdict::Verified`].
    pub fn verify_worker(&self, worker: &CertifiedWorker, now: UnixTime) -> Result<VerifiedWorker, Box<Report>> {
        let report = self.report_worker(worker, now);
        let keyset = &worker.certificate.keyset;
        match (report.verdict, keyset.ohttp_config(), keyset.note_key()) {
            (Verdict::Verified, Ok(ohttp_config), Ok(note_key)) => Ok(VerifiedWorker {
                certificate: worker.certificate.certificate.clone(),
                id: worker.certificate.id(self.anchor.cluster()),
                ohttp_config,
                note_key,
            }),
            _ => Err(Box::new(report)),
        }
    }
}

/// Certificates that a verifier found to hold. Whether one holds depends on nothing but its own bytes and the anchor, so the
/// very same one need not be checked twice. Policy and time are not part of it.
#[derive(Debug, Default)]
pub(crate) struct KnownCertificates(RwLock<Vec<Arc<SignedCertificate>>>);

impl KnownCertificates {
    /// Most that are remembered; the oldest gives way.
    const MOST: usize = 64;

    /// As [`check_certificate`], which a certificate that is equal in every byte to one that held has passed already.
    pub(crate) fn check(&self, anchor: &Anchor, signed: &SignedCertificate) -> Result<(), VerifyError> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).iter().any(|known| **known == *signed);
        if known {
            return Ok(());
        }
        check_certificate(anchor, signed)?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Self::MOST {
            known.remove(0);
        }
        known.push(Arc::new(signed.clone()));
        Ok(())
    }
}

/// Signatures of t gatekeepers of the certificate's epoch, and the keyset that it names.
pub(crate) fn check_certificate(anchor: &Anchor, signed: &SignedCertificate) -> Result<(), VerifyError> {
    let certificate = &signed.certificate;
    let set = anchor.gatekeepers(certificate.epoch)?;
    let digest = signed.id(anchor.cluster()).into_bytes().into();
    set.verify(digest, &signed.signatures, set.threshold)
        .map_err(|source| VerifyError::Quorum { what: "certificate", source })?;
    let unusable = |error: &dyn std::error::Error| VerifyError::Unreadable(chain_text(error));
    if signed.keyset.digest().map_err(|error| unusable(&error))? != certificate.keyset {
        return Err(VerifyError::Mismatch("the keyset is not the certificate's"));
    }
    if signed.keyset.receipt_address().map_err(|error| unusable(&error))? != certificate.worker {
        return Err(VerifyError::Mismatch("the keyset's receipt key is not the certificate's"));
    }
    signed.keyset.note_key().map_err(|error| unusable(&error))?;
    signed.keyset.ohttp_config().map_err(|error| unusable(&error))?;
    if certificate.not_before > certificate.not_after || certificate.not_after > signed.keyset.not_after {
        return Err(VerifyError::Time("the certificate's life is not within its keyset's"));
    }
    Ok(())
}

/// The worker's own evidence, judged when the certificate was issued, against what the certificate says.
pub(crate) fn check_evidence(
    verifier: &Verifier,
    signed: &SignedCertificate,
    given: &BundleEvidence,
) -> Result<JudgedEvidence, VerifyError> {
    let certificate = &signed.certificate;
    let evidence = Evidence::from_json(&json_bytes(&given.evidence))?;
    let collateral = Collateral::from_json(&json_bytes(&given.collateral))?;
    let expected = report_data(certificate.keyset, given.nonce);
    let cluster = verifier.anchor.policy();
    let judged = judge_evidence(&evidence, &collateral, &expected, cluster, &verifier.judge, certificate.not_before)?;
    let found = &judged.evidence;
    let same = found.platform() == certificate.platform
        && found.measurement() == certificate.measurement
        && found.chip() == certificate.chip
        && found.root() == certificate.root
        && found.confidence().level() == certificate.confidence;
    if same {
        Ok(judged)
    } else {
        Err(VerifyError::Mismatch("the evidence is of another machine than the certificate"))
    }
}
