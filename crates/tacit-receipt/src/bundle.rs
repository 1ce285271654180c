//! The receipt bundle: everything that a stranger needs to check one receipt, in one canonical file.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tacit_types::eip712::{Certificate, Kind, Receipt};
use tacit_types::formats::{Tag, code_hash_of, commit};
use tacit_types::keyset::Keyset;
use tacit_types::manifest::Manifest;
use tacit_types::quorum::IndexedSignature;
use tacit_types::register::{Confirmation, Position, QuorumAck, confirmation_leaf, receipts_root};
use tacit_types::signature::Signature;
use tacit_types::{CertificateId, ClusterId, CodeHash, Digest, UnixTime, jcs, merkle};

use crate::{Checkpoint, Effect, ReceiptError, effects_root, leaf_hash, verify_inclusion};

/// Version of the bundle that this build writes and reads.
pub const VERSION: u32 = 1;
/// Most bytes of a bundle: request and response of 16 MiB each in hex, and the rest.
pub const MAX_BUNDLE: usize = 72 * 1024 * 1024;
/// Most effects of one call.
const MAX_EFFECTS: usize = 65_536;
/// Longest Merkle path of a batch.
const MAX_PATH: usize = 32;

/// A receipt with its proofs. Every member is under a signature or a signed digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bundle {
    /// Version of this format.
    pub version: u32,
    /// The cluster whose domain everything is signed in.
    pub cluster: ClusterId,
    /// The receipt.
    pub receipt: Receipt,
    /// The worker's signature over the receipt's digest.
    pub signature: Signature,
    /// The worker's certificate and keyset.
    pub certificate: SignedCertificate,
    /// What the holder can open of the receipt's commitments.
    #[serde(default, skip_serializing_if = "Openings::is_empty")]
    pub openings: Openings,
    /// The effects, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// What ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The quorum's acknowledgement of the commit; not for queries, which commit nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<QuorumAck>,
    /// The quorum's confirmation that a query read the newest state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<QuorumConfirmation>,
    /// The receipt's place in the worker's transparency log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogProof>,
    /// The worker's own evidence, for those who want to judge it besides the quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<BundleEvidence>,
}

/// A certificate with the signatures that make it one, and the keyset that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedCertificate {
    /// The certificate.
    pub certificate: Certificate,
    /// The worker's keyset; its digest stands in the certificate.
    pub keyset: Keyset,
    /// Signatures of gatekeepers over the certificate's digest, indices rising.
    pub signatures: Vec<IndexedSignature>,
}

impl SignedCertificate {
    /// The certificate's EIP-712 digest.
    pub fn id(&self, cluster: ClusterId) -> CertificateId {
        self.certificate.id(cluster)
    }
}

/// The bytes behind a commitment and its salt; one is never carried without the other, since neither alone is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Opening {
    /// The salt.
    pub salt: Digest,
    /// The bytes.
    #[serde(with = "hex_bytes")]
    pub bytes: Vec<u8>,
}

/// What the holder of a bundle can open; a holder may strike out any of them and the rest still verifies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Openings {
    /// The method's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Opening>,
    /// The caller: 20 bytes, or none for a caller without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Opening>,
    /// The request body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Opening>,
    /// The response body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Opening>,
}

impl Openings {
    /// Whether nothing can be opened.
    pub fn is_empty(&self) -> bool {
        self.members().iter().all(|(_, opening)| opening.is_none())
    }

    /// The four with their tags.
    pub fn members(&self) -> [(Tag, Option<&Opening>); 4] {
        [
            (Tag::Method, self.method.as_ref()),
            (Tag::Caller, self.caller.as_ref()),
            (Tag::Request, self.request.as_ref()),
            (Tag::Response, self.response.as_ref()),
        ]
    }
}

/// The manifest and the module's digest: together the receipt's code hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Code {
    /// Keccak-256 of the module.
    pub module: Digest,
    /// The manifest, every default filled in.
    pub manifest: Manifest,
}

impl Code {
    /// The code hash of module and manifest; `None` for a manifest without a canonical form.
    pub fn hash(&self) -> Option<CodeHash> {
        Some(code_hash_of(self.module, self.manifest.hash().ok()?))
    }
}

/// A receipt's place in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogProof {
    /// Index of the entry.
    pub index: u64,
    /// Siblings from the leaf to the root.
    pub path: Vec<Digest>,
    /// The checkpoint, a signed note.
    pub checkpoint: String,
}

impl LogProof {
    /// Checks the checkpoint's signature and the receipt's inclusion.
    ///
    /// # Errors
    /// As [`Checkpoint::verify`] and [`verify_inclusion`].
    pub fn verify(&self, receipt: Digest, origin: &str, note_key: &[u8; 32]) -> Result<Checkpoint, ReceiptError> {
        let checkpoint = Checkpoint::verify(&self.checkpoint, origin, note_key)?;
        verify_inclusion(receipt, self.index, &checkpoint, &self.path)?;
        Ok(checkpoint)
    }

    /// The leaf hash that the proof begins with.
    pub fn leaf(receipt: Digest) -> Digest {
        leaf_hash(receipt)
    }
}

/// A quorum's confirmation of a query: each gatekeeper signs [`tacit_types::register::Confirmation`] of the positions of the
/// round that it found to be the newest, at its own time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuorumConfirmation {
    /// Gatekeeper epoch.
    pub epoch: u64,
    /// The round's nonce: see [`query_nonce`].
    pub nonce: Digest,
    /// Siblings from the receipt's leaf to `nonce`.
    pub receipt_path: Vec<Digest>,
    /// Signatures of at least q gatekeepers, indices rising.
    pub signatures: Vec<SignedConfirmation>,
}

/// One gatekeeper's signature over a confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedConfirmation {
    /// Index in the set.
    pub index: u32,
    /// The gatekeeper's clock.
    pub time: UnixTime,
    /// Siblings from the leaf of the position that the query read to the root that it signed.
    pub path: Vec<Digest>,
    /// The signature.
    pub signature: Signature,
}

impl QuorumConfirmation {
    /// What a gatekeeper signed, if it confirmed the position that `receipt` read.
    pub fn statement(&self, receipt: &Receipt, signed: &SignedConfirmation) -> Confirmation {
        let position = Position { fence: receipt.fence, sequence: receipt.sequence, head: receipt.head_after };
        let leaf = confirmation_leaf(receipt.function_id, &position);
        let root = merkle::root_from_proof(leaf, &signed.path);
        Confirmation { epoch: self.epoch, root, nonce: self.nonce, time: signed.time }
    }
}

/// The nonce of a confirmation round that countersigns these query receipts: the Merkle root of their digests. It cannot be
/// foretold, since every receipt holds salted commitments.
pub fn query_nonce(receipts: &[Digest]) -> Digest {
    receipts_root(receipts)
}

/// A worker's evidence as tacit-attest reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleEvidence {
    /// The evidence.
    pub evidence: serde_json::Value,
    /// The collateral to check it with.
    pub collateral: serde_json::Value,
    /// The nonce in its report data, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Digest>,
}

impl Bundle {
    /// Reads a bundle: canonical bytes only, no unknown or repeated member, no upper-case hex.
    ///
    /// # Errors
    /// [`ReceiptError::Bundle`], [`ReceiptError::Version`] or [`ReceiptError::Member`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let bundle: Self = jcs::from_bytes(bytes, MAX_BUNDLE)?;
        bundle.check()?;
        Ok(bundle)
    }

    /// The canonical bytes.
    ///
    /// # Errors
    /// [`ReceiptError::Bundle`] for a number above 2^53 − 1, and what [`Bundle::parse`] would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, ReceiptError> {
        self.check()?;
        Ok(jcs::to_bytes(self)?)
    }

    /// The receipt's EIP-712 digest in the bundle's cluster.
    pub fn digest(&self) -> Digest {
        self.receipt.digest(self.cluster)
    }

    /// The receipt's commitment of that kind.
    pub fn commitment(&self, tag: Tag) -> Digest {
        match tag {
            Tag::Method => self.receipt.method,
            Tag::Caller => self.receipt.caller,
            Tag::Request => self.receipt.request,
            Tag::Response => self.receipt.response,
        }
    }

    /// Whether an opening fits the receipt's commitment, and whether its salt is one that the kind of receipt allows: zero
    /// only for a chain request, and for the response of a publication.
    pub fn opens(&self, tag: Tag, opening: &Opening) -> bool {
        let zero_allowed = match (self.receipt.kind, tag) {
            (Kind::ChainRequest, _) | (Kind::Publish, Tag::Response) => true,
            (
                Kind::Command
                | Kind::Query
                | Kind::StaleQuery
                | Kind::Trigger
                | Kind::Publish
                | Kind::Inference
                | Kind::Training,
                _,
            ) => false,
        };
        (zero_allowed || !opening.salt.is_zero()) && commit(tag, opening.salt, &opening.bytes) == self.commitment(tag)
    }

    /// Whether the confirmation's nonce countersigns this receipt.
    pub fn confirmation_path_holds(&self, confirmation: &QuorumConfirmation) -> bool {
        merkle::root_from_proof(merkle::leaf(self.digest()), &confirmation.receipt_path) == confirmation.nonce
    }

    /// Whether the effects are the receipt's.
    pub fn effects_hold(&self) -> bool {
        effects_root(&self.effects) == self.receipt.effects
    }

    /// Whether the acknowledgement's paths lead from this receipt through its ack to its batch.
    pub fn acknowledgement_paths_hold(&self, ack: &QuorumAck) -> bool {
        let from_receipt = merkle::root_from_proof(merkle::leaf(self.digest()), &ack.receipt_path);
        let from_ack = merkle::root_from_proof(merkle::leaf(ack.ack.digest(self.cluster)), &ack.batch_path);
        from_receipt == ack.ack.receipts_root && from_ack == ack.batch.root
    }

    fn check(&self) -> Result<(), ReceiptError> {
        if self.version != VERSION {
            return Err(ReceiptError::Version(self.version));
        }
        if self.effects.len() > MAX_EFFECTS {
            return Err(ReceiptError::Member("effects: too many"));
        }
        let acknowledged = self.acknowledgement.iter().flat_map(|ack| [&ack.batch_path, &ack.receipt_path]);
        let confirmed = self.confirmation.iter().flat_map(|confirmation| {
            let paths = confirmation.signatures.iter().map(|signed| &signed.path);
            paths.chain([&confirmation.receipt_path])
        });
        if acknowledged.chain(confirmed).any(|path| path.len() > MAX_PATH) {
            return Err(ReceiptError::Member("path: too long"));
        }
        if self.acknowledgement.is_some() && self.confirmation.is_some() {
            return Err(ReceiptError::Member("acknowledgement and confirmation: only one of them can be"));
        }
        Ok(())
    }
}

mod hex_bytes {
    use super::*;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0x{}", hex::encode(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| de::Error::custom("does not begin with 0x"))?;
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(de::Error::custom("has upper-case hex digits"));
        }
        hex::decode(digits).map_err(de::Error::custom)
    }
}
