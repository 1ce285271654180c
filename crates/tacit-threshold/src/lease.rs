//! Leases that a quorum granted, batches that a worker signed, and entries of the register that prove themselves.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tacit_types::{
    CertificateId, ClusterId, Digest,
    eip712::Certificate,
    merkle,
    quorum::{GatekeeperSet, IndexedSignature},
    register::{Ack, AckBatch, Lease, LeaseRole, Position},
    signature::{Signature, SigningKey},
};

use crate::error::ThresholdError;

/// Most acknowledgements in one batch.
pub const MAX_BATCH: usize = 1_024;

/// Longest Merkle path that a batch of [`MAX_BATCH`] can have.
pub const MAX_PATH: usize = 10;

/// The digest that a worker's receipt key signs over a request to gatekeepers:
/// SHA-256(`tacit/gatekeeper/` ‖ purpose ‖ `/1` ‖ 0 ‖ cluster id ‖ certificate ‖ digest of what is asked).
pub fn request_statement(purpose: &str, cluster: ClusterId, certificate: CertificateId, asked: Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"tacit/gatekeeper/");
    hash.update(purpose.as_bytes());
    hash.update(b"/1\0");
    hash.update(cluster);
    hash.update(certificate);
    hash.update(asked);
    Digest::from(<[u8; 32]>::from(hash.finalize()))
}

/// A lease with the signatures of a quorum, as its holder shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeldLease {
    /// The lease.
    pub lease: Lease,
    /// The holder's certificate; its digest stands in the lease.
    pub certificate: Certificate,
    /// At least q signatures over the lease's digest.
    pub signatures: Vec<IndexedSignature>,
}

/// A lease that was checked to be a quorum's; nothing else can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedLease(HeldLease);

impl VerifiedLease {
    /// The lease with its proof.
    pub fn held(&self) -> &HeldLease {
        &self.0
    }

    /// The lease with its proof.
    pub fn into_held(self) -> HeldLease {
        self.0
    }
}

impl HeldLease {
    /// Checks that q gatekeepers signed the lease and that the certificate is the one that it names.
    ///
    /// # Errors
    /// [`ThresholdError::Quorum`] or [`ThresholdError::LeaseCertificate`].
    pub fn verify(self, set: &GatekeeperSet, cluster: ClusterId) -> Result<VerifiedLease, ThresholdError> {
        self.check(set, cluster)?;
        Ok(VerifiedLease(self))
    }

    fn check(&self, set: &GatekeeperSet, cluster: ClusterId) -> Result<(), ThresholdError> {
        if self.certificate.id(cluster) != self.lease.certificate {
            return Err(ThresholdError::LeaseCertificate);
        }
        Ok(set.verify(self.lease.digest(cluster), &self.signatures, set.quorum())?)
    }
}

/// Acknowledgements that a worker asks for together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    acks: Vec<Ack>,
    statement: AckBatch,
    levels: Vec<Vec<Digest>>,
}

impl Batch {
    /// Puts a batch together.
    ///
    /// # Errors
    /// [`ThresholdError::Batch`] for none or more than [`MAX_BATCH`], a function twice, different times or epochs.
    pub fn new(cluster: ClusterId, acks: Vec<Ack>) -> Result<Self, ThresholdError> {
        let first = acks.first().ok_or(ThresholdError::Batch("it is empty"))?;
        let (epoch, time) = (first.epoch, first.time);
        if acks.len() > MAX_BATCH {
            return Err(ThresholdError::Batch("too many acknowledgements"));
        }
        if acks.iter().any(|ack| ack.epoch != epoch || ack.time != time) {
            return Err(ThresholdError::Batch("times or epochs differ"));
        }
        if acks.iter().map(|ack| ack.function_id).collect::<BTreeSet<_>>().len() != acks.len() {
            return Err(ThresholdError::Batch("a function comes twice"));
        }
        let leaves: Vec<_> = acks.iter().map(|ack| merkle::leaf(ack.digest(cluster))).collect();
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let above = level.chunks(2).map(merkle::root).collect();
            levels.push(above);
        }
        let root = levels.last().and_then(|level| level.first()).copied().unwrap_or(Digest::ZERO);
        Ok(Self { acks, statement: AckBatch { epoch, root, time }, levels })
    }

    /// The acknowledgements in their order.
    pub fn acks(&self) -> &[Ack] {
        &self.acks
    }

    /// What gatekeepers sign.
    pub fn statement(&self) -> &AckBatch {
        &self.statement
    }

    /// The siblings from acknowledgement `index` to the batch's root; nothing for an index outside the batch.
    pub fn path(&self, index: usize) -> Vec<Digest> {
        let mut position = index;
        let mut path = Vec::new();
        for level in &self.levels {
            path.extend(level.get(position ^ 1).filter(|_| level.len() > 1));
            position /= 2;
        }
        path
    }

    /// Signs the batch as the lease holder.
    pub fn sign(&self, cluster: ClusterId, certificate: CertificateId, receipt_key: &SigningKey) -> Signature {
        receipt_key.sign(batch_statement(cluster, certificate, &self.statement))
    }
}

fn batch_statement(cluster: ClusterId, certificate: CertificateId, batch: &AckBatch) -> Digest {
    request_statement("acknowledge", cluster, certificate, batch.digest(cluster))
}

/// A batch that was checked to be signed by the worker of a certificate; nothing else can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBatch {
    pub(crate) batch: Batch,
    pub(crate) certificate: CertificateId,
    pub(crate) signature: Signature,
}

impl SignedBatch {
    /// Checks the worker's signature.
    ///
    /// # Errors
    /// [`ThresholdError::Batch`] or [`ThresholdError::RequestSigner`].
    pub fn verify(
        cluster: ClusterId,
        certificate: &Certificate,
        acks: Vec<Ack>,
        signature: Signature,
    ) -> Result<Self, ThresholdError> {
        let batch = Batch::new(cluster, acks)?;
        let id = certificate.id(cluster);
        if signature.recover(batch_statement(cluster, id, &batch.statement)).ok() != Some(certificate.worker) {
            return Err(ThresholdError::RequestSigner);
        }
        Ok(Self { batch, certificate: id, signature })
    }

    /// The batch.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }
}

/// The newest entry of a function in one gatekeeper's register, with the proof that a lease holder made it: a gatekeeper
/// can hide an entry, not invent one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// The lease under which it was made.
    pub held: HeldLease,
    /// What was acknowledged.
    pub ack: Ack,
    /// The batch that it was in.
    pub batch: AckBatch,
    /// Siblings from the acknowledgement to the batch's root.
    pub batch_path: Vec<Digest>,
    /// The lease holder's signature over the batch.
    pub signature: Signature,
}

impl Entry {
    /// Checks that the holder of a lease that a quorum granted asked for exactly this acknowledgement.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn verify(&self, set: &GatekeeperSet, cluster: ClusterId) -> Result<Position, ThresholdError> {
        let (lease, ack) = (&self.held.lease, &self.ack);
        if lease.role != LeaseRole::Writer || lease.function_id != ack.function_id || lease.fence != ack.fence {
            return Err(ThresholdError::EntryLease);
        }
        let leaf = merkle::leaf(ack.digest(cluster));
        if self.batch_path.len() > MAX_PATH
            || merkle::root_from_proof(leaf, &self.batch_path) != self.batch.root
            || self.batch.epoch != ack.epoch
            || self.batch.time != ack.time
        {
            return Err(ThresholdError::EntryBatch);
        }
        let signer = self.signature.recover(batch_statement(cluster, lease.certificate, &self.batch)).ok();
        if signer != Some(self.held.certificate.worker) {
            return Err(ThresholdError::EntrySigner);
        }
        self.held.check(set, cluster)?;
        Ok(ack.position())
    }
}
