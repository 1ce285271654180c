//! The worker's side: choosing a fence, collecting a quorum's answers, and finding where to take over.

use std::collections::{BTreeMap, BTreeSet};

use tacit_types::{
    CertificateId, ClusterId, Digest, FunctionId, UnixTime,
    eip712::Certificate,
    merkle,
    quorum::{GatekeeperSet, IndexedSignature},
    register::{Confirmation, Lease, LeaseRole, Position, QuorumAck, confirmation_leaf},
    signature::Signature,
};

use crate::{
    error::ThresholdError,
    lease::{Batch, Entry, HeldLease},
    refusal::Refusal,
    register::{Facts, FunctionView},
};

/// Farthest that one gatekeeper's word alone may move the next fence.
const TRUSTED_STEP: u64 = 1 << 16;

/// What q gatekeepers told about a function, and the lease to propose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Above all fences promised.
    pub fence: u64,
    /// Code, manifest and key epoch that most of them see, at the earliest block among those.
    pub facts: Facts,
    /// The live holder that at least t of them named, and when it may be replaced.
    pub holder: Option<(CertificateId, UnixTime)>,
}

impl Plan {
    /// Combines the views of at least q gatekeepers; `None` when fewer answered or no t of them see the function alike.
    ///
    /// A view is unproved. One gatekeeper may name a higher fence than the others (it alone may have promised it), but not one
    /// that is out of all reach.
    pub fn from_views(set: &GatekeeperSet, now: UnixTime, views: &BTreeMap<u32, FunctionView>) -> Option<Self> {
        if views.len() < set.quorum() as usize {
            return None;
        }
        let threshold = set.threshold as usize;
        let mut fences: Vec<_> = views.values().map(|view| view.promised).collect();
        fences.sort_unstable_by(|left, right| right.cmp(left));
        let anchored = *fences.get(threshold - 1)?;
        let highest = fences.into_iter().find(|fence| *fence <= anchored.saturating_add(TRUSTED_STEP))?;

        let mut alike: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for facts in views.values().filter_map(|view| view.facts) {
            let key = (facts.code_hash, facts.manifest_hash, facts.key_epoch);
            alike.entry(key).or_default().push(facts.block_number);
        }
        let ((code_hash, manifest_hash, key_epoch), blocks) =
            alike.into_iter().max_by_key(|(_, blocks)| blocks.len())?;
        let block_number = blocks.iter().copied().min().filter(|_| blocks.len() >= threshold)?;

        let mut holders: BTreeMap<CertificateId, Vec<UnixTime>> = BTreeMap::new();
        for view in views.values().filter(|view| view.until > now) {
            if let Some(holder) = view.holder {
                holders.entry(holder).or_default().push(view.until);
            }
        }
        let holder = holders
            .into_iter()
            .filter(|(_, untils)| untils.len() >= threshold)
            .max_by_key(|(_, untils)| untils.len())
            .map(|(holder, untils)| (holder, untils.into_iter().max().unwrap_or_default()));
        Some(Self {
            fence: highest.checked_add(1)?,
            facts: Facts { code_hash, manifest_hash, key_epoch, block_number },
            holder,
        })
    }

    /// The lease to propose.
    pub fn lease(&self, function: FunctionId, certificate: CertificateId, role: LeaseRole, until: UnixTime) -> Lease {
        Lease {
            function_id: function,
            certificate,
            role,
            fence: if role == LeaseRole::Writer { self.fence } else { self.fence - 1 },
            code_hash: self.facts.code_hash,
            manifest_hash: self.facts.manifest_hash,
            key_epoch: self.facts.key_epoch,
            block_number: self.facts.block_number,
            until,
        }
    }
}

/// Signatures of distinct gatekeepers over one digest, until there are enough.
#[derive(Debug, Clone)]
pub struct Collector {
    set: GatekeeperSet,
    digest: Digest,
    needed: u32,
    signatures: BTreeMap<u32, Signature>,
}

impl Collector {
    /// Collects the register quorum q.
    pub fn quorum(set: &GatekeeperSet, digest: Digest) -> Self {
        Self { set: set.clone(), digest, needed: set.quorum(), signatures: BTreeMap::new() }
    }

    /// Collects the threshold t, as for certificates.
    pub fn threshold(set: &GatekeeperSet, digest: Digest) -> Self {
        Self { set: set.clone(), digest, needed: set.threshold, signatures: BTreeMap::new() }
    }

    /// Takes the signature of gatekeeper `index`; a second one of the same gatekeeper changes nothing.
    ///
    /// # Errors
    /// [`ThresholdError::Answer`] for one that is not by that gatekeeper.
    pub fn add(&mut self, index: u32, signature: Signature) -> Result<(), ThresholdError> {
        let member = self.set.members.get(index as usize).ok_or(ThresholdError::Answer(index))?;
        if signature.recover(self.digest).ok() != Some(*member) {
            return Err(ThresholdError::Answer(index));
        }
        self.signatures.insert(index, signature);
        Ok(())
    }

    /// Whether there are enough.
    pub fn is_complete(&self) -> bool {
        self.signatures.len() >= self.needed as usize
    }

    /// The signatures in index order, once there are enough.
    pub fn signatures(&self) -> Option<Vec<IndexedSignature>> {
        let ordered =
            self.signatures.iter().map(|(index, signature)| IndexedSignature { index: *index, signature: *signature });
        self.is_complete().then(|| ordered.collect())
    }
}

/// Grants of one lease: who signed, and the newest entry that any of them showed.
#[derive(Debug, Clone)]
pub struct LeaseCollector {
    cluster: ClusterId,
    set: GatekeeperSet,
    lease: Lease,
    certificate: Certificate,
    signatures: Collector,
    shown: BTreeMap<u32, Position>,
}

impl LeaseCollector {
    /// Begins with a proposed lease of the worker with this certificate.
    pub fn new(set: &GatekeeperSet, cluster: ClusterId, lease: Lease, certificate: Certificate) -> Self {
        let signatures = Collector::quorum(set, lease.digest(cluster));
        Self { cluster, set: set.clone(), lease, certificate, signatures, shown: BTreeMap::new() }
    }

    /// Takes one gatekeeper's grant with the newest entry that it knows. A grant whose entry does not prove itself does not
    /// count, and shows that the gatekeeper lies.
    ///
    /// # Errors
    /// [`ThresholdError::Answer`] or what is wrong with the entry.
    pub fn add(&mut self, index: u32, signature: Signature, entry: Option<&Entry>) -> Result<(), ThresholdError> {
        let position = match entry {
            None => Position::START,
            Some(entry) if entry.ack.function_id != self.lease.function_id => return Err(ThresholdError::EntryLease),
            Some(entry) => entry.verify(&self.set, self.cluster)?,
        };
        self.signatures.add(index, signature)?;
        // What a gatekeeper showed first, it knew when it promised; a later answer can only know more.
        let shown = self.shown.entry(index).or_insert(position);
        if position.order() > shown.order() {
            *shown = position;
        }
        Ok(())
    }

    /// The lease with its proof and the position to take over from, once a quorum granted it. The position may have been
    /// acknowledged: load the state to exactly it and have it acknowledged under the own fence before serving.
    ///
    /// Nothing yet, although a quorum granted it, if two heads were shown at the newest position: the holder before was
    /// cloned. More gatekeepers' answers can tell which head a quorum may have acknowledged; see [`Self::is_split`].
    pub fn held(&self) -> Option<(HeldLease, Position)> {
        let signatures = self.signatures.signatures()?;
        let held = HeldLease { lease: self.lease.clone(), certificate: self.certificate.clone(), signatures };
        Some((held, self.newest()?))
    }

    /// Whether all gatekeepers answered and it still cannot be told which of two heads was acknowledged: a clone of the former
    /// holder and a lying gatekeeper. Only the function's owner can go on from there, by a reset.
    pub fn is_split(&self) -> bool {
        self.shown.len() == self.set.members.len() && self.newest().is_none()
    }

    /// The newest position shown. Of two heads at one position at most one was acknowledged: one that too few gatekeepers can
    /// have accepted (those that showed it, those that were not heard, and t−1 that lie) was not.
    fn newest(&self) -> Option<Position> {
        let order = self.shown.values().map(Position::order).max()?;
        let mut support: BTreeMap<_, (Position, usize)> = BTreeMap::new();
        for position in self.shown.values().filter(|position| position.order() == order) {
            support.entry(position.head).or_insert((*position, 0)).1 += 1;
        }
        let heads: Vec<_> = support.into_values().collect();
        if let [(position, _)] = heads.as_slice() {
            return Some(*position);
        }
        let unheard = self.set.members.len() - self.shown.len();
        let liars = self.set.threshold as usize - 1;
        let possible = |support: usize| support + unheard + liars >= self.set.quorum() as usize;
        let mut acknowledged = heads.iter().filter(|(_, support)| possible(*support));
        match (acknowledged.next(), acknowledged.next()) {
            (Some((position, _)), None) => Some(*position),
            (Some(_), Some(_)) => None,
            (None, _) => heads.iter().max_by_key(|(_, support)| *support).map(|(position, _)| *position),
        }
    }
}

/// Acknowledgements of one batch.
///
/// A worker asks for the next sequence of a function only when a quorum acknowledged the one before, and never for two heads at
/// one sequence, whatever became of the first request.
#[derive(Debug, Clone)]
pub struct AckCollector {
    batch: Batch,
    signatures: Collector,
}

impl AckCollector {
    /// Begins with a batch.
    pub fn new(set: &GatekeeperSet, cluster: ClusterId, batch: Batch) -> Self {
        let signatures = Collector::quorum(set, batch.statement().digest(cluster));
        Self { batch, signatures }
    }

    /// The batch.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Takes one gatekeeper's signature over the batch.
    ///
    /// # Errors
    /// [`ThresholdError::Answer`].
    pub fn add(&mut self, index: u32, signature: Signature) -> Result<(), ThresholdError> {
        self.signatures.add(index, signature)
    }

    /// One quorum acknowledgement for each member of the batch in its order, once a quorum signed. Each lacks its
    /// `receipt_path`, which the holder of a receipt fills in.
    pub fn acknowledged(&self) -> Option<Vec<QuorumAck>> {
        let signatures = self.signatures.signatures()?;
        let with_proof = self.batch.acks().iter().enumerate().map(|(index, ack)| QuorumAck {
            ack: ack.clone(),
            batch_path: self.batch.path(index),
            batch: self.batch.statement().clone(),
            signatures: signatures.clone(),
            receipt_path: Vec::new(),
        });
        Some(with_proof.collect())
    }
}

/// Confirmations of one round: a position is fresh once q gatekeepers confirmed it.
#[derive(Debug, Clone)]
pub struct ConfirmCollector {
    cluster: ClusterId,
    set: GatekeeperSet,
    nonce: Digest,
    positions: Vec<(FunctionId, Position)>,
    confirmed: Vec<BTreeSet<u32>>,
    refused: Vec<BTreeMap<u32, Refusal>>,
    answered: BTreeSet<u32>,
}

impl ConfirmCollector {
    /// Begins a round; `nonce` must be fresh and drawn after the last call that waits for this round arrived.
    pub fn new(set: &GatekeeperSet, cluster: ClusterId, nonce: Digest, positions: Vec<(FunctionId, Position)>) -> Self {
        let (confirmed, refused) = (vec![BTreeSet::new(); positions.len()], vec![BTreeMap::new(); positions.len()]);
        Self { cluster, set: set.clone(), nonce, positions, confirmed, refused, answered: BTreeSet::new() }
    }

    /// The positions asked about.
    pub fn positions(&self) -> &[(FunctionId, Position)] {
        &self.positions
    }

    /// Takes one gatekeeper's answer: the clock in its confirmation, its signature, and what it refused.
    ///
    /// # Errors
    /// [`ThresholdError::Answer`] for an answer that is not signed by that gatekeeper or speaks of other positions.
    pub fn add(
        &mut self,
        index: u32,
        signed: Option<(UnixTime, Signature)>,
        refused: &[(usize, Refusal)],
    ) -> Result<(), ThresholdError> {
        let wrong = ThresholdError::Answer(index);
        let member = self.set.members.get(index as usize).ok_or(wrong.clone())?;
        if self.answered.contains(&index) {
            return Ok(());
        }
        let without: BTreeMap<_, _> = refused.iter().cloned().collect();
        if without.len() != refused.len() || without.keys().any(|position| *position >= self.positions.len()) {
            return Err(wrong);
        }
        let with: Vec<_> = (0..self.positions.len()).filter(|position| !without.contains_key(position)).collect();
        match signed {
            None if with.is_empty() => {}
            None => return Err(wrong),
            Some((time, signature)) => {
                let leaves: Vec<_> = with
                    .iter()
                    .map(|position| &self.positions[*position])
                    .map(|(function, position)| confirmation_leaf(*function, position))
                    .collect();
                let confirmation =
                    Confirmation { epoch: self.set.epoch, root: merkle::root(&leaves), nonce: self.nonce, time };
                if with.is_empty() || signature.recover(confirmation.digest(self.cluster)).ok() != Some(*member) {
                    return Err(wrong);
                }
            }
        }
        self.answered.insert(index);
        with.into_iter().for_each(|position| _ = self.confirmed[position].insert(index));
        without.into_iter().for_each(|(position, refusal)| _ = self.refused[position].insert(index, refusal));
        Ok(())
    }

    /// Whether q gatekeepers confirmed this position.
    pub fn is_fresh(&self, position: usize) -> bool {
        self.confirmed.get(position).is_some_and(|members| members.len() >= self.set.quorum() as usize)
    }

    /// Whether all positions are fresh.
    pub fn is_complete(&self) -> bool {
        (0..self.positions.len()).all(|position| self.is_fresh(position))
    }

    /// Why gatekeepers did not confirm this position, by gatekeeper.
    pub fn refusals(&self, position: usize) -> Option<&BTreeMap<u32, Refusal>> {
        self.refused.get(position)
    }
}
