//! Verification of the other end of a TLS connection by what its certificate carries.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tacit_attest::{Collateral, Evidence, Policy, VerifiedEvidence, verify_bound};
use tacit_types::keyset::{Keyset, report_data};
use tacit_types::{Digest, KeysetDigest, UnixTime};

use crate::VerifyError;
use crate::anchor::{chain_text, json_bytes};

/// Most bytes of a statement: a TLS handshake message holds 64 KiB in all.
pub const MAX_STATEMENT: usize = 48 * 1024;

/// What a node's TLS certificate says about it, as JSON inside an extension: nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerStatement {
    /// The form's version, 1.
    pub version: u32,
    /// The node's keys, the TLS key among them.
    pub keyset: Keyset,
    /// The nonce in the report data, if the evidence was made for a verifier's nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Digest>,
    /// Evidence whose report data names the keyset.
    pub evidence: Value,
}

impl PeerStatement {
    /// Reads a statement.
    ///
    /// # Errors
    /// [`VerifyError::Unreadable`] past [`MAX_STATEMENT`] bytes or for another form.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        if bytes.len() > MAX_STATEMENT {
            return Err(VerifyError::Unreadable(format!("a peer's statement of more than {MAX_STATEMENT} bytes")));
        }
        let statement: Self = serde_json::from_slice(bytes)
            .map_err(|error| VerifyError::Unreadable(format!("a peer's statement: {error}")))?;
        if statement.version != 1 {
            return Err(VerifyError::Unreadable(format!("a peer's statement of version {}", statement.version)));
        }
        Ok(statement)
    }

    /// The evidence in it.
    ///
    /// # Errors
    /// [`VerifyError::Evidence`].
    pub fn evidence(&self) -> Result<Evidence, VerifyError> {
        Ok(Evidence::from_json(&json_bytes(&self.evidence))?)
    }
}

/// A peer whose TLS key is bound to measured code that the policy accepts; nothing else makes one.
#[derive(Debug, Clone)]
pub struct VerifiedPeer {
    keyset: Keyset,
    digest: KeysetDigest,
    evidence: VerifiedEvidence,
}

impl VerifiedPeer {
    /// The peer's keys.
    pub fn keyset(&self) -> &Keyset {
        &self.keyset
    }

    /// The digest of its keyset.
    pub fn digest(&self) -> KeysetDigest {
        self.digest
    }

    /// What the hardware says.
    pub fn evidence(&self) -> &VerifiedEvidence {
        &self.evidence
    }
}

/// Judges the statement of a peer whose TLS key has this SHA-256 of its subject public key info.
///
/// # Errors
/// [`VerifyError`]: keys that are over, a TLS key that the keyset does not name, or evidence that does not hold.
pub fn verify_peer(
    statement: &PeerStatement,
    spki_sha256: [u8; 32],
    collateral: &Collateral,
    policy: &Policy,
    now: UnixTime,
) -> Result<VerifiedPeer, VerifyError> {
    let keyset = &statement.keyset;
    let digest = keyset.digest().map_err(|error| VerifyError::Unreadable(chain_text(&error)))?;
    if now > keyset.not_after {
        return Err(VerifyError::Time("the peer's keys are over"));
    }
    if !keyset.names_tls_key(spki_sha256) {
        return Err(VerifyError::Mismatch("the peer's keyset does not name the key of the connection"));
    }
    let expected = report_data(digest, statement.nonce);
    let evidence = verify_bound(&statement.evidence()?, collateral, policy, now, &expected)?;
    Ok(VerifiedPeer { keyset: keyset.clone(), digest, evidence })
}
