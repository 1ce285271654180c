//! Certificates, revocations and heartbeats on the ledger.

use alloy::{
    primitives::{Address as AlloyAddress, B256, Bytes},
    rpc::types::Filter,
    sol_types::SolEvent,
};
use tacit_types::{
    Address, CertificateId, Digest, FunctionId, RootId, UnixTime,
    chain::{Heartbeat, Revocation, RevocationSubject},
    eip712::{Certificate, Platform},
    quorum::IndexedSignature,
    signature::Signature,
};

use crate::{
    abi::{self, IWorkerRegistry},
    error::LedgerError,
    ledger::{At, BlockRef, Ledger},
    writer::{Outcome, Writer},
};

/// What the ledger says of a published certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Account of the worker's receipt key.
    pub worker: Address,
    /// Account that is paid.
    pub operator: Address,
    /// Root of trust.
    pub root: RootId,
    /// Whether that root, or a gatekeeper's, is simulated.
    pub simulated: bool,
    /// First second of validity.
    pub not_before: UnixTime,
    /// Last second of validity.
    pub not_after: UnixTime,
    /// Since when it is revoked.
    pub revoked_at: Option<UnixTime>,
}

/// A certificate as its publication's event holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedCertificate {
    /// Its id.
    pub id: CertificateId,
    /// The certificate.
    pub certificate: Certificate,
    /// Number of the block.
    pub block: u64,
}

/// Packs signatures as contracts read them: index byte, then 65 bytes, in the order given.
pub fn pack_signatures(signatures: &[IndexedSignature]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(signatures.len() * 66);
    for IndexedSignature { index, signature } in signatures {
        // A set has at most 64 members; an index that does not fit is one the contract refuses.
        packed.push(u8::try_from(*index).unwrap_or(u8::MAX));
        packed.extend_from_slice(signature.as_bytes());
    }
    packed
}

pub(crate) fn certificate_to_abi(certificate: &Certificate) -> abi::Certificate {
    abi::Certificate {
        worker: certificate.worker.into(),
        keyset: certificate.keyset.into(),
        platform: certificate.platform.code(),
        measurement: certificate.measurement.into(),
        chip: certificate.chip.into(),
        confidence: certificate.confidence,
        root: certificate.root.into(),
        policy: certificate.policy.into(),
        simulated: certificate.simulated,
        operator: certificate.operator.into(),
        collateralTime: certificate.collateral_time.0,
        notBefore: certificate.not_before.0,
        notAfter: certificate.not_after.0,
        epoch: certificate.epoch,
    }
}

fn certificate_from_abi(certificate: &abi::Certificate) -> Option<Certificate> {
    let platform = [Platform::Sgx, Platform::Tdx, Platform::SevSnp, Platform::Nitro]
        .into_iter()
        .find(|platform| platform.code() == certificate.platform)?;
    Some(Certificate {
        worker: certificate.worker.into(),
        keyset: certificate.keyset.into(),
        platform,
        measurement: certificate.measurement.into(),
        chip: certificate.chip.into(),
        confidence: certificate.confidence,
        root: certificate.root.into(),
        policy: certificate.policy.into(),
        simulated: certificate.simulated,
        operator: certificate.operator.into(),
        collateral_time: UnixTime(certificate.collateralTime),
        not_before: UnixTime(certificate.notBefore),
        not_after: UnixTime(certificate.notAfter),
        epoch: certificate.epoch,
    })
}

/// A worker's address as a revocation's value.
pub fn revoked_worker(worker: Address) -> Digest {
    AlloyAddress::from(worker).into_word().into()
}

impl Ledger {
    /// Standing of a published certificate, or nothing if it is not published at that block.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn standing(&self, id: CertificateId, at: At) -> Result<Option<Standing>, LedgerError> {
        let call = IWorkerRegistry::standingCall { id: id.into() };
        let standing = match self.view(self.addresses().worker_registry, call, at).await {
            Ok(standing) => standing,
            Err(LedgerError::Refused(refusal)) if refusal.name == "UnknownCertificate" => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Standing {
            worker: standing.worker.into(),
            operator: standing.operator.into(),
            root: standing.root.into(),
            simulated: standing.simulated,
            not_before: UnixTime(standing.notBefore),
            not_after: UnixTime(standing.notAfter),
            revoked_at: (standing.revokedAt != 0).then_some(UnixTime(standing.revokedAt)),
        }))
    }

    /// Since when something is revoked, if it is.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn revoked_at(
        &self,
        subject: RevocationSubject,
        value: Digest,
        at: At,
    ) -> Result<Option<UnixTime>, LedgerError> {
        let call = IWorkerRegistry::revokedAtCall { subject: subject.code(), value: value.into() };
        let time = self.view(self.addresses().worker_registry, call, at).await?;
        Ok((time != 0).then_some(UnixTime(time)))
    }

    /// The earliest revocation that touches a certificate, published or not.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn revocation_of(
        &self,
        id: CertificateId,
        certificate: &Certificate,
        at: At,
    ) -> Result<Option<UnixTime>, LedgerError> {
        let at = self.pin(at).await?;
        let mut earliest: Option<UnixTime> = None;
        for (subject, value) in [
            (RevocationSubject::Certificate, Digest::from(id.into_bytes())),
            (RevocationSubject::Worker, revoked_worker(certificate.worker)),
            (RevocationSubject::Chip, certificate.chip.into_bytes().into()),
            (RevocationSubject::Measurement, certificate.measurement.into_bytes().into()),
            (RevocationSubject::Root, certificate.root.into_bytes().into()),
        ] {
            if let Some(time) = self.revoked_at(subject, value, at).await? {
                earliest = Some(earliest.map_or(time, |earlier| earlier.min(time)));
            }
        }
        Ok(earliest)
    }

    /// Key epochs of a function below this one are released no more.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn min_key_epoch(&self, id: FunctionId, at: At) -> Result<u64, LedgerError> {
        self.view(self.addresses().worker_registry, IWorkerRegistry::minKeyEpochCall { id: id.into() }, at).await
    }

    /// URL under which a certificate's worker is reached, empty if none was given.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn endpoint(&self, id: CertificateId, at: At) -> Result<String, LedgerError> {
        self.view(self.addresses().worker_registry, IWorkerRegistry::endpointOfCall { id: id.into() }, at).await
    }

    /// Last heartbeat of a certificate's worker, if there was one.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn last_heartbeat(&self, id: CertificateId, at: At) -> Result<Option<Heartbeat>, LedgerError> {
        let call = IWorkerRegistry::lastHeartbeatCall { id: id.into() };
        let last = self.view(self.addresses().worker_registry, call, at).await?;
        Ok((last.time != 0).then(|| Heartbeat {
            certificate: id,
            size: last.size,
            root: last.root.into(),
            time: UnixTime(last.time),
        }))
    }

    /// Certificates that were published in the blocks from `from` up to and including `to`.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn certificates(&self, from: u64, to: BlockRef) -> Result<Vec<PublishedCertificate>, LedgerError> {
        let filter = Filter::new()
            .address(AlloyAddress::from(self.addresses().worker_registry))
            .event_signature(IWorkerRegistry::CertificatePublished::SIGNATURE_HASH)
            .from_block(from)
            .to_block(to.number);
        let logs = self.logs(&filter).await?;
        Ok(logs
            .iter()
            .filter_map(|log| {
                let event = IWorkerRegistry::CertificatePublished::decode_log(&log.inner).ok()?;
                Some(PublishedCertificate {
                    id: event.id.into(),
                    certificate: certificate_from_abi(&event.certificate)?,
                    block: log.block_number?,
                })
            })
            .collect())
    }
}

impl Writer {
    /// Publishes a certificate with the signatures of t gatekeepers, and the worker's endpoint with its operator's.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn publish_certificate(
        &self,
        certificate: &Certificate,
        signatures: &[IndexedSignature],
        endpoint: Option<(&str, &Signature)>,
    ) -> Result<Outcome, LedgerError> {
        let call = IWorkerRegistry::publishCall {
            certificate: certificate_to_abi(certificate),
            signatures: pack_signatures(signatures).into(),
            endpoint: endpoint.map(|(url, _)| url.to_owned()).unwrap_or_default(),
            endpointSignature: endpoint.map(|(_, signature)| signature_to_abi(signature)).unwrap_or_default(),
        };
        self.workers(call).await
    }

    /// Records a checkpoint that the worker signed.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat, signature: &Signature) -> Result<Outcome, LedgerError> {
        let call = IWorkerRegistry::heartbeatCall {
            id: heartbeat.certificate.into(),
            size: heartbeat.size,
            root: heartbeat.root.into(),
            time: heartbeat.time.0,
            signature: signature_to_abi(signature),
        };
        self.workers(call).await
    }

    /// Records that a certificate survived all revocations so far.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn refresh_certificate(&self, id: CertificateId) -> Result<Outcome, LedgerError> {
        self.workers(IWorkerRegistry::refreshCall { id: id.into() }).await
    }

    /// Revokes as the governor, and raises the key epoch of the functions named.
    ///
    /// # Errors
    /// When the contract refuses (not the governor, already revoked) or the transaction is not final in time.
    pub async fn revoke(
        &self,
        subject: RevocationSubject,
        value: Digest,
        functions: &[FunctionId],
    ) -> Result<Outcome, LedgerError> {
        let functions = functions.iter().map(|id| B256::from(*id)).collect();
        self.workers(IWorkerRegistry::revokeCall { subject: subject.code(), value: value.into(), functions }).await
    }

    /// Revokes on the word of t gatekeepers.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn revoke_signed(
        &self,
        revocation: &Revocation,
        signatures: &[IndexedSignature],
    ) -> Result<Outcome, LedgerError> {
        let call = IWorkerRegistry::revokeSignedCall {
            subject: revocation.subject.code(),
            value: revocation.value.into(),
            functions: revocation.functions.iter().map(|id| B256::from(*id)).collect(),
            signatures: pack_signatures(signatures).into(),
        };
        self.workers(call).await
    }

    /// Hands over to the next epoch's gatekeepers, signed by t of the present ones.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn advance_gatekeepers(
        &self,
        next: &tacit_types::quorum::GatekeeperSet,
        valid_until: UnixTime,
        signatures: &[IndexedSignature],
    ) -> Result<Outcome, LedgerError> {
        let call = abi::IGatekeeperSet::advanceCall {
            members_: next.members.iter().map(|member| AlloyAddress::from(*member)).collect(),
            threshold_: next.threshold,
            validUntil_: valid_until.0,
            signatures: pack_signatures(signatures).into(),
        };
        self.call(self.ledger().addresses().gatekeeper_set, call).await
    }

    async fn workers<C: alloy::sol_types::SolCall>(&self, call: C) -> Result<Outcome, LedgerError> {
        self.call(self.ledger().addresses().worker_registry, call).await
    }
}

pub(crate) fn signature_to_abi(signature: &Signature) -> Bytes {
    Bytes::copy_from_slice(signature.as_bytes())
}
