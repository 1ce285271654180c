//! The worker's certificates: the newest one, and earlier ones that still live.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;
use tacit_api::{WorkerIdentity, identity::VERSION};
use tacit_receipt::SignedCertificate;
use tacit_types::{CertificateId, Digest, UnixTime, signature::Signature};

/// A certificate with everything that goes with it.
#[derive(Debug, Clone)]
pub(crate) struct Certified {
    pub id: CertificateId,
    pub signed: SignedCertificate,
    /// The nonce in the evidence's report data.
    pub nonce: Digest,
    pub evidence: Value,
    pub collateral: Value,
    pub endpoint: String,
    /// The operator's signature over worker, keyset and endpoint.
    pub operator_signature: Signature,
}

impl Certified {
    pub fn identity(&self) -> WorkerIdentity {
        WorkerIdentity {
            version: VERSION,
            certificate: self.signed.certificate.clone(),
            signatures: self.signed.signatures.clone(),
            keyset: self.signed.keyset.clone(),
            nonce: Some(self.nonce),
            evidence: self.evidence.clone(),
            collateral: self.collateral.clone(),
            endpoint: self.endpoint.clone(),
        }
    }

    pub fn is_live(&self, now: UnixTime) -> bool {
        self.signed.certificate.is_live(now)
    }
}

/// All certificates of this process, newest last. Shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificates {
    inner: Arc<RwLock<Vec<Arc<Certified>>>>,
}

impl Certificates {
    /// Adds a newer certificate and forgets those that are over.
    pub fn add(&self, certified: Certified, now: UnixTime) -> Arc<Certified> {
        let certified = Arc::new(certified);
        let mut all = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|earlier| earlier.is_live(now));
        all.push(Arc::clone(&certified));
        certified
    }

    /// The newest certificate, if it lives.
    pub fn newest(&self, now: UnixTime) -> Option<Arc<Certified>> {
        let all = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        all.last().filter(|newest| newest.is_live(now)).cloned()
    }

    /// A certificate of this worker that lives.
    pub fn live(&self, id: CertificateId, now: UnixTime) -> Option<Arc<Certified>> {
        let all = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|certified| certified.id == id && certified.is_live(now)).cloned()
    }

    /// Forgets a certificate: it was revoked.
    pub fn remove(&self, id: CertificateId) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).retain(|certified| certified.id != id);
    }
}
