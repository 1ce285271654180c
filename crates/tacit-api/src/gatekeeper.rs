//! What workers and gatekeepers say to each other over HTTP.
//!
//! Requests of workers are signed by their receipt key over [`tacit_threshold::request_statement`] of a digest of what is
//! asked, so no text form is under a signature. Refusals are answers with status 200; problems (RFC 9457) are left to what
//! has no answer: bytes that cannot be read, wrong signatures, overload, a broken disk, a chain that cannot be read.

use alloy_primitives::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tacit_threshold::{
    Batch, Entry, FunctionView, HeldLease, Refusal, ThresholdError, admission::AdmissionRefusal, dealing::Deal,
    request_statement,
};
use tacit_types::{
    Address, CertificateId, ClusterId, Digest, FunctionId, KeysetDigest, PolicyHash, UnixTime,
    deployment::Genesis,
    eip712::Certificate,
    keyset::Keyset,
    quorum::IndexedSignature,
    register::{Ack, Lease, Position},
    signature::{Signature, SigningKey},
};

/// Path of [`ChallengeRequest`], answered by [`ChallengeAnswer`].
pub const CHALLENGE: &str = "/challenge";
/// Path of [`AdmitRequest`], answered by [`AdmitAnswer`].
pub const ADMIT: &str = "/admit";
/// Path of [`CertificateRequest`], answered by [`CertificateAnswer`].
pub const CERTIFICATE: &str = "/certificate";
/// Path of [`PartialRequest`], answered by [`PartialAnswer`].
pub const PARTIAL: &str = "/partial";
/// Path of [`LeaseRequest`], answered by [`LeaseAnswer`].
pub const LEASE: &str = "/lease";
/// Path of [`AcknowledgeRequest`], answered by [`AcknowledgeAnswer`].
pub const ACKNOWLEDGE: &str = "/acknowledge";
/// Path of [`ConfirmRequest`], answered by [`ConfirmAnswer`].
pub const CONFIRM: &str = "/confirm";
/// Path of `GET`, answered by [`GatekeeperStatus`].
pub const STATUS: &str = "/status";
/// Path of `GET`, answered by [`Candidate`].
pub const GENESIS_CANDIDATE: &str = "/genesis/candidate";
/// Path of [`GenesisStart`], answered by [`GenesisStarted`].
pub const GENESIS_START: &str = "/genesis/start";
/// Path of [`GenesisStep`], answered by [`GenesisDeal`].
pub const GENESIS_DEAL: &str = "/genesis/deal";
/// Path of [`GenesisReceive`], answered by [`GenesisReceived`].
pub const GENESIS_RECEIVE: &str = "/genesis/receive";
/// Path of `GET`, answered by [`GenesisQuote`].
pub const GENESIS_QUOTE: &str = "/genesis/quote";

/// Most bytes of a small request: `/challenge`, `/certificate`, `/partial`, `/genesis/deal`.
pub const MAX_SMALL_BODY: usize = 64 << 10;
/// Most bytes of an admission: keyset, evidence and collateral.
pub const MAX_ADMIT_BODY: usize = 3 << 20;
/// Most bytes of a batch: `/lease`, `/acknowledge`, `/confirm`.
pub const MAX_BATCH_BODY: usize = 2 << 20;
/// Most bytes of a genesis message.
pub const MAX_GENESIS_BODY: usize = 16 << 20;
/// Most bytes of an answer that a client reads.
pub const MAX_ANSWER: usize = 4 << 20;
/// Most items of a [`LeaseRequest`].
pub const MAX_LEASE_ITEMS: usize = 256;
/// Most leases shown in one [`AcknowledgeRequest`].
pub const MAX_SHOWN_LEASES: usize = 128;
/// Use of the seal around a partial.
pub const PARTIAL_INFO: &[u8] = b"tacit/partial/1";

/// The version of a message; only 1 is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version1;

impl Serialize for Version1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(1)
    }
}

impl<'de> Deserialize<'de> for Version1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(de::Error::custom(format_args!("version {other} is not spoken here, version 1 is"))),
        }
    }
}

macro_rules! message {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }
    };
}

message! {
    /// A worker asks to be challenged.
    ChallengeRequest {
        /// Version of this message.
        version: Version1,
        /// Digest of the keyset that it wants certified.
        keyset: KeysetDigest,
    }
}

message! {
    /// A nonce for one admission of that keyset.
    ChallengeAnswer {
        /// Version of this message.
        version: Version1,
        /// This gatekeeper's index in the set.
        index: u32,
        /// The nonce that the evidence must commit to; good once and for [`Self::expires`].
        nonce: Digest,
        /// This gatekeeper's clock; a certificate's `not_before` is the median of all.
        time: UnixTime,
        /// Last second at which the nonce is accepted.
        expires: UnixTime,
        /// The cluster.
        cluster: ClusterId,
        /// Gatekeeper epoch.
        epoch: u64,
        /// Policy that the worker will be judged by.
        policy: PolicyHash,
        /// Whether any gatekeeper's root is a simulated one.
        simulated: bool,
    }
}

message! {
    /// A worker proposes its certificate.
    AdmitRequest {
        /// Version of this message.
        version: Version1,
        /// The challenge's nonce.
        nonce: Digest,
        /// The certificate, the same for every gatekeeper.
        certificate: Certificate,
        /// The keyset that it names.
        keyset: Keyset,
        /// Evidence whose report data commits to keyset and nonce, in the form of tacit-attest.
        evidence: Value,
        /// Collateral for it, in the form of tacit-attest.
        collateral: Value,
        /// What the machine's GPUs show, where it has any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpus: Option<ShownGpus>,
        /// URL under which the worker is reached.
        endpoint: String,
        /// The operator's signature over [`tacit_types::eip712::EndpointClaim`].
        operator_signature: Signature,
    }
}

message! {
    /// What the GPUs of one machine signed over `gpu_nonce(keyset, nonce)`, and what vouches for them.
    ShownGpus {
        /// Evidence, in the form of tacit-attest.
        evidence: Value,
        /// Reference manifests and tokens, in the form of tacit-attest.
        collateral: Value,
    }
}

message! {
    /// What came of it.
    AdmitAnswer {
        /// Version of this message.
        version: Version1,
        /// This gatekeeper's index in the set.
        index: u32,
        /// The outcome.
        outcome: AdmitOutcome,
    }
}

/// What came of an admission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AdmitOutcome {
    /// The gatekeeper's signature over the certificate's digest.
    Admitted(Signature),
    /// Why not.
    Refused(AdmissionRefusal),
}

message! {
    /// Shows a certificate to a gatekeeper that was away when it was signed.
    CertificateRequest {
        /// Version of this message.
        version: Version1,
        /// The certificate.
        certificate: Certificate,
        /// At least t signatures over its digest.
        signatures: Vec<IndexedSignature>,
    }
}

message! {
    /// Whether the certificate counts here now.
    CertificateAnswer {
        /// Version of this message.
        version: Version1,
        /// This gatekeeper's index in the set.
        index: u32,
        /// Why not, if not.
        refused: Option<Refusal>,
    }
}

message! {
    /// A lease holder asks for a gatekeeper's part of the function's root key.
    PartialRequest {
        /// Version of this message.
        version: Version1,
        /// The function.
        function_id: FunctionId,
        /// Key epoch of the root.
        key_epoch: u64,
        /// The holder's certificate.
        certificate: CertificateId,
        /// Fence of the lease.
        fence: u64,
        /// Fresh nonce.
        nonce: Digest,
        /// Fresh X-Wing key to seal the answer to, 1,216 bytes.
        transport_key: Bytes,
        /// The lease with its quorum.
        lease: HeldLease,
        /// The receipt key's signature over [`PartialRequest::statement`].
        signature: Signature,
    }
}

impl PartialRequest {
    /// Signs a request for the function, key epoch, certificate and fence of a held lease.
    pub fn signed(
        cluster: ClusterId,
        lease: HeldLease,
        nonce: Digest,
        transport_key: Vec<u8>,
        key: &SigningKey,
    ) -> Self {
        let mut request = Self {
            version: Version1,
            function_id: lease.lease.function_id,
            key_epoch: lease.lease.key_epoch,
            certificate: lease.lease.certificate,
            fence: lease.lease.fence,
            nonce,
            transport_key: transport_key.into(),
            lease,
            signature: key.sign(Digest::ZERO),
        };
        request.signature = key.sign(request.statement(cluster));
        request
    }

    /// What the worker signs; also the associated data of the sealed answer.
    pub fn statement(&self, cluster: ClusterId) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.function_id);
        hash.update(self.key_epoch.to_be_bytes());
        hash.update(self.fence.to_be_bytes());
        hash.update(self.nonce);
        hash.update(Sha256::digest(&self.transport_key));
        request_statement("partial", cluster, self.certificate, finish(hash))
    }
}

message! {
    /// The partial, sealed to the transport key with [`PARTIAL_INFO`] and the request's statement as associated data.
    PartialAnswer {
        /// Version of this message.
        version: Version1,
        /// This gatekeeper's index in the set.
        index: u32,
        /// The sealed [`tacit_threshold::subkeys::Partial`].
        sealed: Bytes,
        /// The gatekeeper's signature over [`PartialAnswer::statement`]: nobody else can choose a function's key.
        signature: Signature,
    }
}

impl PartialAnswer {
    /// What the gatekeeper signs.
    pub fn statement(request: &PartialRequest, cluster: ClusterId, index: u32, sealed: &[u8]) -> Digest {
        let mut hash = Sha256::new();
        hash.update(index.to_be_bytes());
        hash.update(request.statement(cluster));
        hash.update(Sha256::digest(sealed));
        request_statement("partial-answer", cluster, request.certificate, finish(hash))
    }

    /// Checks that the gatekeeper with this account gave this answer to this request.
    ///
    /// # Errors
    /// [`ThresholdError::Answer`].
    pub fn verify(&self, request: &PartialRequest, cluster: ClusterId, member: Address) -> Result<(), ThresholdError> {
        let statement = Self::statement(request, cluster, self.index, &self.sealed);
        if self.signature.recover(statement).ok() == Some(member) {
            Ok(())
        } else {
            Err(ThresholdError::Answer(self.index))
        }
    }
}

message! {
    /// Questions and proposals about leases.
    LeaseRequest {
        /// Version of this message.
        version: Version1,
        /// The asker's certificate; also the certificate of every lease proposed.
        certificate: CertificateId,
        /// 1 to [`MAX_LEASE_ITEMS`] items.
        items: Vec<LeaseItem>,
        /// The receipt key's signature over [`LeaseRequest::statement`].
        signature: Signature,
    }
}

/// One question or proposal about a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum LeaseItem {
    /// What is known about this function?
    Read(FunctionId),
    /// Promise this lease, or renew it.
    Grant(Lease),
    /// The holder may be replaced at once.
    #[serde(rename_all = "camelCase")]
    Release {
        /// The function.
        function_id: FunctionId,
        /// The lease's fence.
        fence: u64,
    },
}

impl LeaseRequest {
    /// Signs a request.
    pub fn signed(cluster: ClusterId, certificate: CertificateId, items: Vec<LeaseItem>, key: &SigningKey) -> Self {
        let signature = key.sign(lease_statement(cluster, certificate, &items));
        Self { version: Version1, certificate, items, signature }
    }

    /// What the worker signs.
    pub fn statement(&self, cluster: ClusterId) -> Digest {
        lease_statement(cluster, self.certificate, &self.items)
    }
}

fn lease_statement(cluster: ClusterId, certificate: CertificateId, items: &[LeaseItem]) -> Digest {
    let mut hash = Sha256::new();
    for item in items {
        match item {
            LeaseItem::Read(function) => {
                hash.update([0]);
                hash.update(function);
            }
            LeaseItem::Grant(lease) => {
                hash.update([1]);
                hash.update(lease.digest(cluster));
            }
            LeaseItem::Release { function_id, fence } => {
                hash.update([2]);
                hash.update(function_id);
                hash.update(fence.to_be_bytes());
            }
        }
    }
    request_statement("lease", cluster, certificate, finish(hash))
}

message! {
    /// One answer for each item, in order.
    LeaseAnswer {
        /// Version of this message.
        version: Version1,
        /// This gatekeeper's index in the set.
        index: u32,
        /// This gatekeeper's clock.
        time: UnixTime,
        /// The answers.
        items: Vec<LeaseItemAnswer>,
    }
}

/// The answer to one [`LeaseItem`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum LeaseItemAnswer {
    /// What is known.
    View(FunctionView),
    /// Promised.
    Granted(Box<Granted>),
    /// Given back.
    Released,
    /// Why not.
    Refused(Refusal),
}

message! {
    /// A promise.
    Granted {
        /// The gatekeeper's signature over the lease's digest.
        signature: Signature,
        /// The newest entry of the function that it knows, with its proof.
        entry: Option<Entry>,
    }
}

message! {
    /// A lease holder asks for acknowledgements.
    AcknowledgeRequest {
        /// Version of this message.
        version: Version1,
        /// The holder's certificate.
        certificate: CertificateId,
        /// At most [`tacit_threshold::MAX_BATCH`], each function once, all of one time and epoch.
        acks: Vec<Ack>,
        /// Leases that this gatekeeper may not have seen a quorum grant, at most [`MAX_SHOWN_LEASES`].
        #[serde(default)]
        leases: Vec<HeldLease>,
        /// The receipt key's signature over the batch ([`Batch::sign`]).
        signature: Signature,
    }
}

impl AcknowledgeRequest {
    /// Signs a batch.
    pub fn signed(
        cluster: ClusterId,
        certificate: CertificateId,
        batch: &Batch,
        leases: Vec<HeldLease>,
        key: &SigningKey,
    ) -> Self {
        let signature = batch.sign(cluster, certificate, key);
        Self { version: Version1, certificate, acks: batch.acks().to_vec(), leases, signature }
    }
}

message! {
    /// What came of it.
    AcknowledgeAnswer {
        /// Version of this message.
        version: Version1,
        /// This gatekeeper's index in the set.
        index: u32,
        /// This gatekeeper's clock.
        time: UnixTime,
        /// The outcome.
        outcome: AcknowledgeOutcome,
    }
}

/// What came of a batch: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AcknowledgeOutcome {
    /// The gatekeeper's signature over the digest of the [`tacit_types::register::AckBatch`].
    Acknowledged(Signature),
    /// Nothing was accepted: drop or mend these and ask again.
    InTheWay(Vec<IndexedRefusal>),
    /// The batch as a whole is refused.
    Refused(Refusal),
}

message! {
    /// Why one member of a list is refused.
    IndexedRefusal {
        /// Its place in the request, counted from zero.
        at: u32,
        /// Why.
        refusal: Refusal,
    }
}

message! {
    /// A lease holder asks whether positions are still the newest.
    ConfirmRequest {
        /// Version of this message.
        version: Version1,
        /// The holder's certificate.
        certificate: CertificateId,
        /// Fresh nonce, drawn after the last waiting call arrived.
        nonce: Digest,
        /// At most [`tacit_threshold::MAX_CONFIRM`].
        positions: Vec<FunctionPosition>,
        /// The receipt key's signature over [`ConfirmRequest::statement`].
        signature: Signature,
    }
}

message! {
    /// A position of a function.
    FunctionPosition {
        /// The function.
        function_id: FunctionId,
        /// The position.
        position: Position,
    }
}

impl ConfirmRequest {
    /// Signs a request.
    pub fn signed(
        cluster: ClusterId,
        certificate: CertificateId,
        nonce: Digest,
        positions: &[(FunctionId, Position)],
        key: &SigningKey,
    ) -> Self {
        let positions: Vec<_> = positions
            .iter()
            .map(|(function_id, position)| FunctionPosition { function_id: *function_id, position: *position })
            .collect();
        let signature = key.sign(confirm_statement(cluster, certificate, nonce, &positions));
        Self { version: Version1, certificate, nonce, positions, signature }
    }

    /// What the worker signs.
    pub fn statement(&self, cluster: ClusterId) -> Digest {
        confirm_statement(cluster, self.certificate, self.nonce, &self.positions)
    }
}

fn confirm_statement(
    cluster: ClusterId,
    certificate: CertificateId,
    nonce: Digest,
    positions: &[FunctionPosition],
) -> Digest {
    let mut hash = Sha256::new();
    hash.update(nonce);
    for FunctionPosition { function_id, position } in positions {
        hash.update(function_id);
        hash.update(position.fence.to_be_bytes());
        hash.update(position.sequence.to_be_bytes());
        hash.update(position.head);
    }
    request_statement("confirm", cluster, certificate, finish(hash))
}

message! {
    /// Which positions are the newest that this gatekeeper knows.
    ConfirmAnswer {
        /// Version of this message.
        version: Version1,
        /// This gatekeeper's index in the set.
        index: u32,
        /// This gatekeeper's clock; the time in the statement.
        time: UnixTime,
        /// Signature over the [`tacit_types::register::Confirmation`] of the positions that are not refused, if any is not.
        signature: Option<Signature>,
        /// Positions that are not confirmed.
        refused: Vec<IndexedRefusal>,
    }
}

message! {
    /// What a gatekeeper is doing.
    GatekeeperStatus {
        /// Version of this message.
        version: Version1,
        /// What it is doing.
        state: GatekeeperState,
        /// Its process.
        pid: u32,
        /// Account of its chain key.
        address: Address,
        /// Digest of its keyset.
        keyset: KeysetDigest,
        /// The cluster, once it belongs to one.
        cluster: Option<ClusterId>,
        /// Its index in the set.
        index: Option<u32>,
        /// Gatekeeper epoch.
        epoch: u64,
        /// Threshold t; zero before genesis.
        threshold: u32,
        /// Register quorum q; zero before genesis.
        quorum: u32,
        /// Functions in the register.
        functions: u64,
        /// Leases that are not over.
        leases: u64,
        /// Certificates that live.
        certificates: u64,
        /// Workers admitted since the start.
        admitted: u64,
        /// Admissions refused since the start.
        refused: u64,
        /// Partials released since genesis.
        releases: u64,
        /// The newest refused admission.
        last_refusal: Option<String>,
        /// The chain view, once there is one.
        chain: Option<ChainStatus>,
        /// Its clock.
        time: UnixTime,
    }
}

/// What a gatekeeper is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GatekeeperState {
    /// It has keys and waits for a genesis document.
    Waiting,
    /// The ceremony is under way.
    Founding,
    /// It serves.
    Serving,
    /// It serves what needs no chain: the home chain cannot be read or is too old.
    WithoutChain,
    /// Its disk failed: it answers nothing until it is restarted.
    Halted,
}

message! {
    /// The home chain as a gatekeeper sees it.
    ChainStatus {
        /// Newest finalised block.
        block: u64,
        /// Its hash.
        hash: Digest,
        /// Its time.
        time: UnixTime,
        /// When it was read.
        read: UnixTime,
    }
}

message! {
    /// A gatekeeper that wants to be in a cluster.
    Candidate {
        /// Version of this message.
        version: Version1,
        /// Its keyset.
        keyset: Keyset,
        /// Evidence over the keyset, without a nonce.
        evidence: Value,
        /// Collateral for it.
        collateral: Value,
    }
}

message! {
    /// The coordinator proposes a cluster.
    GenesisStart {
        /// Version of this message.
        version: Version1,
        /// The genesis document.
        genesis: Genesis,
        /// The attestation policy; its digest stands in the genesis document.
        policy: Value,
        /// All gatekeepers in index order.
        candidates: Vec<Candidate>,
    }
}

message! {
    /// The gatekeeper verified every other one and agrees.
    GenesisStarted {
        /// Version of this message.
        version: Version1,
        /// The cluster.
        cluster: ClusterId,
        /// This gatekeeper's index in the set.
        index: u32,
    }
}

message! {
    /// Asks for the next step of a cluster's founding.
    GenesisStep {
        /// Version of this message.
        version: Version1,
        /// The cluster.
        cluster: ClusterId,
    }
}

message! {
    /// This gatekeeper's deal.
    GenesisDeal {
        /// Version of this message.
        version: Version1,
        /// The deal.
        deal: Deal,
    }
}

message! {
    /// All deals in dealer order.
    GenesisReceive {
        /// Version of this message.
        version: Version1,
        /// The cluster.
        cluster: ClusterId,
        /// The deals.
        deals: Vec<Deal>,
    }
}

message! {
    /// The gatekeeper has all its sub-keys.
    GenesisReceived {
        /// Version of this message.
        version: Version1,
        /// Digest of all deals.
        transcript: Digest,
    }
}

message! {
    /// The gatekeeper's evidence over [`tacit_types::deployment::genesis_report_data`].
    GenesisQuote {
        /// Version of this message.
        version: Version1,
        /// The cluster.
        cluster: ClusterId,
        /// Digest of all deals.
        transcript: Digest,
        /// The evidence.
        evidence: Value,
        /// Collateral for it.
        collateral: Value,
    }
}

fn finish(hash: Sha256) -> Digest {
    Digest::from(<[u8; 32]>::from(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tacit_types::{CodeHash, Head, ManifestHash, register::LeaseRole};

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32]).unwrap()
    }

    fn lease() -> Lease {
        Lease {
            function_id: FunctionId::from([1; 32]),
            certificate: CertificateId::from([2; 32]),
            role: LeaseRole::Writer,
            fence: 3,
            code_hash: CodeHash::from([4; 32]),
            manifest_hash: ManifestHash::from([5; 32]),
            key_epoch: 1,
            block_number: 6,
            until: UnixTime(7),
        }
    }

    #[test]
    fn a_lease_request_round_trips_and_every_item_is_signed() {
        let items = vec![
            LeaseItem::Read(FunctionId::from([1; 32])),
            LeaseItem::Grant(lease()),
            LeaseItem::Release { function_id: FunctionId::from([1; 32]), fence: 3 },
        ];
        let request = LeaseRequest::signed(ClusterId::ZERO, CertificateId::from([2; 32]), items, &key());
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<LeaseRequest>(&json).unwrap(), request);
        assert_eq!(request.signature.recover(request.statement(ClusterId::ZERO)), Ok(key().address()));
        let signer = |request: &LeaseRequest| request.signature.recover(request.statement(ClusterId::ZERO)).ok();
        for change in [
            |request: &mut LeaseRequest| _ = request.items.pop(),
            |request: &mut LeaseRequest| request.items.swap(0, 1),
            |request: &mut LeaseRequest| request.certificate = CertificateId::ZERO,
            |request: &mut LeaseRequest| {
                let LeaseItem::Grant(lease) = &mut request.items[1] else { panic!() };
                lease.fence += 1;
            },
        ] {
            let mut changed = request.clone();
            change(&mut changed);
            assert_ne!(signer(&changed), Some(key().address()));
        }
    }

    #[test]
    fn unknown_members_and_versions_are_refused() {
        let good = serde_json::json!({"version": 1, "keyset": KeysetDigest::ZERO});
        assert!(serde_json::from_value::<ChallengeRequest>(good.clone()).is_ok());
        for (name, value) in [("version", 2.into()), ("more", 1.into()), ("keyset", Value::Null)] {
            let mut bad = good.clone();
            bad[name] = value;
            assert!(serde_json::from_value::<ChallengeRequest>(bad).is_err(), "{name}");
        }
    }

    #[test]
    fn confirmations_commit_to_nonce_and_every_position() {
        let position = Position { fence: 1, sequence: 2, head: Head::from([3; 32]) };
        let request = ConfirmRequest::signed(
            ClusterId::ZERO,
            CertificateId::ZERO,
            Digest::from([9; 32]),
            &[(FunctionId::ZERO, position)],
            &key(),
        );
        let base = request.statement(ClusterId::ZERO);
        assert_eq!(request.signature.recover(base), Ok(key().address()));
        let mut other = request.clone();
        other.positions[0].position.sequence += 1;
        assert_ne!(other.statement(ClusterId::ZERO), base);
        let mut other = request.clone();
        other.nonce = Digest::ZERO;
        assert_ne!(other.statement(ClusterId::ZERO), base);
        assert_ne!(request.statement(ClusterId::from([1; 32])), base);
    }
}
