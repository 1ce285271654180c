//! One gatekeeper's register: who may write to a function's state, and how far that state has come.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tacit_types::{
    CertificateId, ClusterId, CodeHash, Digest, FunctionId, ManifestHash, UnixTime,
    eip712::Certificate,
    merkle,
    register::{Ack, AckBatch, Confirmation, Lease, LeaseRole, Position, confirmation_leaf},
    signature::Signature,
};

use crate::{
    error::ThresholdError,
    lease::{Entry, HeldLease, SignedBatch, VerifiedLease},
    record::Record,
    refusal::Refusal,
};

/// Longest time that a lease may last, in seconds.
pub const MAX_LEASE_SECONDS: u64 = 120;
/// Farthest that an acknowledgement's time may be from a gatekeeper's clock, in seconds.
pub const MAX_SKEW_SECONDS: u64 = 30;
/// Farthest that a fence may be above the highest one promised.
pub const MAX_FENCE_STEP: u64 = 1 << 20;
/// Farthest that a lease's block may be behind a gatekeeper's finalised block.
pub const MAX_BLOCK_LAG: u64 = 100_000;
/// Most positions in one confirmation.
pub const MAX_CONFIRM: usize = 1_024;
/// Most functions in one register.
pub const MAX_FUNCTIONS: usize = 1 << 20;
/// Most certificates that are kept at once.
pub const MAX_CERTIFICATES: usize = 1 << 16;

/// What the finalised chain view says about an active function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Facts {
    /// Code that counts.
    pub code_hash: CodeHash,
    /// Manifest that counts.
    pub manifest_hash: ManifestHash,
    /// Key epoch that counts.
    pub key_epoch: u64,
    /// Finalised block at which this was read.
    pub block_number: u64,
}

/// What a gatekeeper tells about a function, unproved: enough to choose the next fence by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionView {
    /// The highest fence promised; zero for none.
    pub promised: u64,
    /// The holder, if there is one.
    pub holder: Option<CertificateId>,
    /// When a silent holder may be replaced.
    pub until: UnixTime,
    /// The newest position known.
    pub accepted: Position,
    /// The chain view, if the function is active in it.
    pub facts: Option<Facts>,
}

/// Something that happened or was asked.
#[derive(Debug, Clone)]
pub enum Input {
    /// A certificate was signed here, or shown with t signatures that were checked.
    Certified(Certificate),
    /// The finalised chain view revokes a certificate.
    Revoked(CertificateId),
    /// What is known about a function?
    Read {
        /// The function.
        function: FunctionId,
        /// The chain view of it.
        facts: Option<Facts>,
    },
    /// A certified worker, whose signature was checked, asks for a lease or its renewal.
    Grant {
        /// The lease that it proposes.
        lease: Lease,
        /// The chain view of the function.
        facts: Option<Facts>,
    },
    /// A worker shows the lease that a quorum granted it.
    Hold(VerifiedLease),
    /// The holder says that it may be replaced at once.
    Release {
        /// The function.
        function: FunctionId,
        /// The holder, whose signature was checked.
        certificate: CertificateId,
        /// The lease's fence.
        fence: u64,
    },
    /// A lease holder asks for acknowledgements.
    Acknowledge(SignedBatch),
    /// A lease holder, whose signature was checked, asks whether these positions are still the newest.
    Confirm {
        /// The holder.
        certificate: CertificateId,
        /// Fresh nonce of the round.
        nonce: Digest,
        /// The positions.
        positions: Vec<(FunctionId, Position)>,
    },
}

/// What the driver must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write durably before anything that follows leaves the machine.
    Persist(Record),
    /// Answer.
    Reply(Reply),
}

/// An answer; statements in it are what the gatekeeper signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Taken note of.
    Noted,
    /// What is known about a function.
    View(FunctionView),
    /// The lease is promised: sign it, and tell the newest entry.
    Granted {
        /// The statement to sign.
        lease: Lease,
        /// The newest entry of the function, if there is one.
        entry: Option<Box<Entry>>,
    },
    /// All acknowledgements are accepted: sign the batch.
    Acknowledged(AckBatch),
    /// Nothing was accepted; these are in the way.
    NotAcknowledged(Vec<(usize, Refusal)>),
    /// Sign the confirmation, if any position is in it.
    Confirmed {
        /// The statement to sign.
        confirmation: Option<Confirmation>,
        /// Positions that are not confirmed.
        refused: Vec<(usize, Refusal)>,
    },
    /// Refused as a whole.
    Refused(Refusal),
}

#[derive(Debug, Clone)]
struct Known {
    certificate: Certificate,
    revoked: bool,
}

#[derive(Debug, Clone)]
struct Accepted {
    held: Arc<HeldLease>,
    ack: Ack,
    batch: AckBatch,
    path: Vec<Digest>,
    signature: Signature,
}

impl Accepted {
    fn entry(&self) -> Entry {
        Entry {
            held: (*self.held).clone(),
            ack: self.ack.clone(),
            batch: self.batch.clone(),
            batch_path: self.path.clone(),
            signature: self.signature,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Row {
    promised: u64,
    holder: Option<CertificateId>,
    until: UnixTime,
    held: Option<Arc<HeldLease>>,
    accepted: Option<Accepted>,
}

impl Row {
    fn position(&self) -> Position {
        self.accepted.as_ref().map_or(Position::START, |accepted| accepted.ack.position())
    }
}

/// One gatekeeper's register. It knows no clock, disk or key: time comes with every input, records and statements go out.
#[derive(Debug, Clone)]
pub struct Register {
    cluster: ClusterId,
    epoch: u64,
    certificates: HashMap<CertificateId, Known>,
    rows: HashMap<FunctionId, Row>,
}

impl Register {
    /// An empty register of a gatekeeper epoch.
    pub fn new(cluster: ClusterId, epoch: u64) -> Self {
        Self { cluster, epoch, certificates: HashMap::new(), rows: HashMap::new() }
    }

    /// A register from its records in the order in which they were written.
    ///
    /// # Errors
    /// [`ThresholdError::Replay`] when they contradict each other.
    pub fn replay(
        cluster: ClusterId,
        epoch: u64,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, ThresholdError> {
        let mut register = Self::new(cluster, epoch);
        records.into_iter().try_for_each(|record| register.apply(record))?;
        Ok(register)
    }

    /// Functions with a row.
    pub fn functions(&self) -> usize {
        self.rows.len()
    }

    /// Functions whose lease is not over at `now`.
    pub fn live_leases(&self, now: UnixTime) -> usize {
        self.rows.values().filter(|row| row.holder.is_some() && row.until > now).count()
    }

    /// A certificate that was noted, and whether it is revoked.
    pub fn certificate(&self, id: CertificateId) -> Option<(&Certificate, bool)> {
        self.certificates.get(&id).map(|known| (&known.certificate, known.revoked))
    }

    /// All certificates that were noted, and whether they are revoked.
    pub fn certificates(&self) -> impl Iterator<Item = (CertificateId, &Certificate, bool)> {
        self.certificates.iter().map(|(id, known)| (*id, &known.certificate, known.revoked))
    }

    /// Whether `certificate` lives and holds the writer's lease of `function` with exactly this fence.
    ///
    /// # Errors
    /// Why not.
    pub fn check_holder(
        &self,
        now: UnixTime,
        function: FunctionId,
        certificate: CertificateId,
        fence: u64,
    ) -> Result<(), Refusal> {
        self.check_certificate(now, certificate)?;
        let promised = self.rows.get(&function).map_or(0, |row| row.promised);
        match self.rows.get(&function) {
            Some(row) if row.promised == fence && row.holder == Some(certificate) => Ok(()),
            _ => Err(Refusal::NotHolder { promised }),
        }
    }

    /// Records from which [`Self::replay`] makes this register again: what a compacted log begins with. Certificates that
    /// are over at `now` are forgotten.
    pub fn compact(&mut self, now: UnixTime) -> Vec<Record> {
        self.certificates.retain(|_, known| known.certificate.not_after.plus(MAX_LEASE_SECONDS) >= now);
        let mut records = Vec::with_capacity(self.certificates.len() + self.rows.len() * 4);
        for (id, known) in &self.certificates {
            records.push(Record::Certified(Box::new(known.certificate.clone())));
            records.extend(known.revoked.then_some(Record::Revoked(*id)));
        }
        for (function, row) in &self.rows {
            let function = *function;
            if let Some(accepted) = &row.accepted {
                let lease = &accepted.held.lease;
                let (fence, holder) = (lease.fence, lease.certificate);
                records.push(Record::Promised { function, fence, holder, until: lease.until });
                records.push(Record::Held(Box::new((*accepted.held).clone())));
                records.push(Record::Accepted {
                    ack: accepted.ack.clone(),
                    batch: accepted.batch.clone(),
                    path: accepted.path.clone(),
                    signature: accepted.signature,
                });
            }
            if let Some(holder) = row.holder {
                records.push(Record::Promised { function, fence: row.promised, holder, until: row.until });
                records.extend(row.held.as_ref().map(|held| Record::Held(Box::new((**held).clone()))));
            }
        }
        records
    }

    /// Takes one input. Everything behind a [`Output::Persist`] may leave the machine only once the record is durable, and so
    /// may every later answer.
    pub fn handle(&mut self, now: UnixTime, input: Input) -> Vec<Output> {
        let (records, reply) = match input {
            Input::Certified(certificate) => self.certified(now, certificate),
            Input::Revoked(id) => self.revoked(id),
            Input::Read { function, facts } => (Vec::new(), Reply::View(self.view(function, facts))),
            Input::Grant { lease, facts } => match self.grant(now, &lease, facts) {
                Ok(records) => {
                    let entry = self.rows.get(&lease.function_id).and_then(|row| row.accepted.as_ref());
                    let entry = entry.map(|accepted| Box::new(accepted.entry()));
                    (records, Reply::Granted { lease, entry })
                }
                Err(refusal) => (Vec::new(), Reply::Refused(refusal)),
            },
            Input::Hold(lease) => self.hold(lease),
            Input::Release { function, certificate, fence } => self.release(function, certificate, fence),
            Input::Acknowledge(batch) => self.acknowledge(now, &batch),
            Input::Confirm { certificate, nonce, positions } => self.confirm(now, certificate, nonce, &positions),
        };
        records.into_iter().map(Output::Persist).chain([Output::Reply(reply)]).collect()
    }

    /// Applies a record; live inputs and replay both change the register through here alone.
    ///
    /// # Errors
    /// [`ThresholdError::Replay`] for a record that cannot follow those before it.
    pub fn apply(&mut self, record: Record) -> Result<(), ThresholdError> {
        match record {
            Record::Certified(certificate) => {
                let id = certificate.id(self.cluster);
                self.certificates.entry(id).or_insert(Known { certificate: *certificate, revoked: false });
            }
            Record::Revoked(id) => {
                let known = self.certificates.get_mut(&id);
                known.ok_or(ThresholdError::Replay("an unknown certificate is revoked"))?.revoked = true;
            }
            Record::Promised { function, fence, holder, until } => {
                let row = self.rows.entry(function).or_default();
                if fence < row.promised {
                    return Err(ThresholdError::Replay("a fence goes back"));
                }
                if fence > row.promised || row.holder != Some(holder) {
                    row.held = None;
                }
                (row.promised, row.holder, row.until) = (fence, Some(holder), until);
            }
            Record::Held(held) => {
                let row = self
                    .rows
                    .get_mut(&held.lease.function_id)
                    .filter(|row| row.promised == held.lease.fence && row.holder == Some(held.lease.certificate));
                row.ok_or(ThresholdError::Replay("a lease is held that was not promised"))?.held =
                    Some(Arc::from(held));
            }
            Record::Accepted { ack, batch, path, signature } => {
                let row = self.rows.get_mut(&ack.function_id).filter(|row| row.promised == ack.fence);
                let row = row.ok_or(ThresholdError::Replay("an acknowledgement without a promise"))?;
                let held = row.held.clone().ok_or(ThresholdError::Replay("an acknowledgement without a lease"))?;
                if row.accepted.is_some() && ack.position().order() <= row.position().order() {
                    return Err(ThresholdError::Replay("a counter goes back"));
                }
                row.accepted = Some(Accepted { held, ack, batch, path, signature });
            }
        }
        Ok(())
    }

    fn commit(&mut self, record: Record, records: &mut Vec<Record>) {
        self.apply(record.clone())
            .expect("every record made by a transition was checked to follow the state before it");
        records.push(record);
    }

    fn check_certificate(&self, now: UnixTime, id: CertificateId) -> Result<&Certificate, Refusal> {
        let known = self.certificates.get(&id).ok_or(Refusal::UnknownCertificate)?;
        if known.revoked {
            Err(Refusal::CertificateRevoked)
        } else if now > known.certificate.not_after {
            Err(Refusal::CertificateExpired)
        } else if now.plus(MAX_SKEW_SECONDS) < known.certificate.not_before {
            Err(Refusal::CertificateNotYetValid)
        } else {
            Ok(&known.certificate)
        }
    }

    fn certified(&mut self, now: UnixTime, certificate: Certificate) -> (Vec<Record>, Reply) {
        let id = certificate.id(self.cluster);
        if self.certificates.contains_key(&id) {
            return (Vec::new(), Reply::Noted);
        }
        if certificate.epoch != self.epoch {
            return (Vec::new(), Reply::Refused(Refusal::WrongEpoch { epoch: self.epoch }));
        }
        if now > certificate.not_after {
            return (Vec::new(), Reply::Refused(Refusal::CertificateExpired));
        }
        if self.certificates.len() >= MAX_CERTIFICATES {
            return (Vec::new(), Reply::Refused(Refusal::TooMany));
        }
        let mut records = Vec::new();
        self.commit(Record::Certified(Box::new(certificate)), &mut records);
        (records, Reply::Noted)
    }

    fn revoked(&mut self, id: CertificateId) -> (Vec<Record>, Reply) {
        match self.certificates.get(&id) {
            None => (Vec::new(), Reply::Refused(Refusal::UnknownCertificate)),
            Some(known) if known.revoked => (Vec::new(), Reply::Noted),
            Some(_) => {
                let mut records = Vec::new();
                self.commit(Record::Revoked(id), &mut records);
                (records, Reply::Noted)
            }
        }
    }

    fn view(&self, function: FunctionId, facts: Option<Facts>) -> FunctionView {
        let row = self.rows.get(&function).cloned().unwrap_or_default();
        let accepted = row.position();
        FunctionView { promised: row.promised, holder: row.holder, until: row.until, accepted, facts }
    }

    fn grant(&mut self, now: UnixTime, lease: &Lease, facts: Option<Facts>) -> Result<Vec<Record>, Refusal> {
        let certificate = self.check_certificate(now, lease.certificate)?;
        let facts = facts.ok_or(Refusal::UnknownFunction)?;
        if lease.code_hash != facts.code_hash {
            return Err(Refusal::CodeChanged);
        }
        if lease.manifest_hash != facts.manifest_hash {
            return Err(Refusal::ManifestChanged);
        }
        if lease.key_epoch != facts.key_epoch {
            return Err(Refusal::KeyEpochChanged);
        }
        if lease.block_number > facts.block_number || facts.block_number - lease.block_number > MAX_BLOCK_LAG {
            return Err(Refusal::Block { block: facts.block_number });
        }
        if lease.until <= now {
            return Err(Refusal::LeaseOver);
        }
        let limit = now.plus(MAX_LEASE_SECONDS).min(certificate.not_after);
        if lease.until > limit {
            return Err(Refusal::LeaseTooLong { limit });
        }
        if lease.role == LeaseRole::Reader {
            let promised = self.rows.get(&lease.function_id).map_or(0, |row| row.promised);
            return if lease.fence > promised { Err(Refusal::FenceTooHigh { promised }) } else { Ok(Vec::new()) };
        }
        if !self.rows.contains_key(&lease.function_id) && self.rows.len() >= MAX_FUNCTIONS {
            return Err(Refusal::TooMany);
        }
        let row = self.rows.get(&lease.function_id).cloned().unwrap_or_default();
        let renewal = lease.fence == row.promised && row.holder == Some(lease.certificate);
        if !renewal {
            if lease.fence <= row.promised {
                return Err(Refusal::FenceTooLow { promised: row.promised });
            }
            if lease.fence - row.promised > MAX_FENCE_STEP {
                return Err(Refusal::FenceTooHigh { promised: row.promised });
            }
            let other = row.holder.filter(|holder| *holder != lease.certificate);
            if other.is_some_and(|holder| row.until > now && self.check_certificate(now, holder).is_ok()) {
                return Err(Refusal::HeldByOther { until: row.until });
            }
        }
        let until = if renewal { lease.until.max(row.until) } else { lease.until };
        let mut records = Vec::new();
        if !renewal || until != row.until {
            let record =
                Record::Promised { function: lease.function_id, fence: lease.fence, holder: lease.certificate, until };
            self.commit(record, &mut records);
        }
        Ok(records)
    }

    fn hold(&mut self, lease: VerifiedLease) -> (Vec<Record>, Reply) {
        let held = lease.into_held();
        let Lease { function_id: function, certificate: holder, fence, until, role, .. } = held.lease.clone();
        if role == LeaseRole::Reader {
            return (Vec::new(), Reply::Refused(Refusal::ReaderLease));
        }
        let mut records = Vec::new();
        let row = self.rows.get(&function).cloned().unwrap_or_default();
        if fence < row.promised {
            return (Vec::new(), Reply::Refused(Refusal::FenceTooLow { promised: row.promised }));
        }
        let promised_here = fence == row.promised && row.holder == Some(holder);
        if promised_here && row.held.is_some() {
            return (Vec::new(), Reply::Noted);
        }
        if !self.rows.contains_key(&function) && self.rows.len() >= MAX_FUNCTIONS {
            return (Vec::new(), Reply::Refused(Refusal::TooMany));
        }
        if !promised_here {
            // A quorum promised this fence to this holder, so no other holder of the fence can have one: follow it.
            self.commit(Record::Promised { function, fence, holder, until }, &mut records);
        }
        if !self.certificates.contains_key(&holder) && self.certificates.len() < MAX_CERTIFICATES {
            // A quorum that granted a lease knew the certificate.
            self.commit(Record::Certified(Box::new(held.certificate.clone())), &mut records);
        }
        self.commit(Record::Held(Box::new(held)), &mut records);
        (records, Reply::Noted)
    }

    fn release(&mut self, function: FunctionId, certificate: CertificateId, fence: u64) -> (Vec<Record>, Reply) {
        let row = self.rows.get(&function);
        let promised = row.map_or(0, |row| row.promised);
        if row.is_none_or(|row| row.promised != fence || row.holder != Some(certificate)) {
            return (Vec::new(), Reply::Refused(Refusal::NotHolder { promised }));
        }
        let mut records = Vec::new();
        let record = Record::Promised { function, fence, holder: certificate, until: UnixTime::default() };
        self.commit(record, &mut records);
        (records, Reply::Noted)
    }

    fn acknowledge(&mut self, now: UnixTime, signed: &SignedBatch) -> (Vec<Record>, Reply) {
        let batch = &signed.batch;
        let refused = |refusal| (Vec::new(), Reply::Refused(refusal));
        if batch.statement().epoch != self.epoch {
            return refused(Refusal::WrongEpoch { epoch: self.epoch });
        }
        if batch.statement().time.distance(now) > MAX_SKEW_SECONDS {
            return refused(Refusal::ClockSkew { now });
        }
        if let Err(refusal) = self.check_certificate(now, signed.certificate) {
            return refused(refusal);
        }
        let verdicts: Vec<_> = batch.acks().iter().map(|ack| self.judge(ack, signed.certificate)).collect();
        if verdicts.iter().any(Result::is_err) {
            let in_the_way = verdicts.into_iter().enumerate();
            let refused = in_the_way.filter_map(|(index, verdict)| Some((index, verdict.err()?))).collect();
            return (Vec::new(), Reply::NotAcknowledged(refused));
        }
        let mut records = Vec::new();
        for (index, (ack, verdict)) in batch.acks().iter().zip(verdicts).enumerate() {
            if verdict == Ok(Step::Forward) {
                let record = Record::Accepted {
                    ack: ack.clone(),
                    batch: batch.statement().clone(),
                    path: batch.path(index),
                    signature: signed.signature,
                };
                self.commit(record, &mut records);
            }
        }
        (records, Reply::Acknowledged(batch.statement().clone()))
    }

    fn judge(&self, ack: &Ack, certificate: CertificateId) -> Result<Step, Refusal> {
        let row = self.rows.get(&ack.function_id).ok_or(Refusal::NotHolder { promised: 0 })?;
        if row.promised < ack.fence {
            return Err(Refusal::LeaseNotShown);
        }
        if row.promised != ack.fence || row.holder != Some(certificate) {
            return Err(Refusal::NotHolder { promised: row.promised });
        }
        if row.held.is_none() {
            return Err(Refusal::LeaseNotShown);
        }
        let accepted = row.position();
        match ack.position().order().cmp(&accepted.order()) {
            std::cmp::Ordering::Greater => Ok(Step::Forward),
            std::cmp::Ordering::Less => Err(Refusal::Stale { accepted }),
            std::cmp::Ordering::Equal if ack.head == accepted.head => Ok(Step::Again),
            std::cmp::Ordering::Equal => Err(Refusal::Fork),
        }
    }

    fn confirm(
        &self,
        now: UnixTime,
        certificate: CertificateId,
        nonce: Digest,
        positions: &[(FunctionId, Position)],
    ) -> (Vec<Record>, Reply) {
        let refused = |refusal| (Vec::new(), Reply::Refused(refusal));
        if positions.is_empty() || positions.len() > MAX_CONFIRM {
            return refused(Refusal::TooMany);
        }
        if let Err(refusal) = self.check_certificate(now, certificate) {
            return refused(refusal);
        }
        let (mut leaves, mut refused) = (Vec::new(), Vec::new());
        for (index, (function, position)) in positions.iter().enumerate() {
            match self.is_newest(*function, certificate, position) {
                Ok(()) => leaves.push(confirmation_leaf(*function, position)),
                Err(refusal) => refused.push((index, refusal)),
            }
        }
        let confirmation = (!leaves.is_empty()).then(|| Confirmation {
            epoch: self.epoch,
            root: merkle::root(&leaves),
            nonce,
            time: now,
        });
        (Vec::new(), Reply::Confirmed { confirmation, refused })
    }

    fn is_newest(&self, function: FunctionId, certificate: CertificateId, position: &Position) -> Result<(), Refusal> {
        let row = self.rows.get(&function).ok_or(Refusal::NotHolder { promised: 0 })?;
        if row.promised < position.fence {
            return Err(Refusal::LeaseNotShown);
        }
        if row.promised != position.fence || row.holder != Some(certificate) {
            return Err(Refusal::NotHolder { promised: row.promised });
        }
        let accepted = row.position();
        match position.order().cmp(&accepted.order()) {
            std::cmp::Ordering::Less => Err(Refusal::Stale { accepted }),
            std::cmp::Ordering::Greater => Err(Refusal::Behind { accepted }),
            std::cmp::Ordering::Equal if position.head == accepted.head => Ok(()),
            std::cmp::Ordering::Equal => Err(Refusal::Fork),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Forward,
    Again,
}
