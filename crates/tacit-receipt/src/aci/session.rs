//! Attested sessions (section 8): what an aggregator found when it verified an upstream service. A session is named by the digest
//! of its document and is never changed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use tacit_types::{UnixTime, jcs};

use super::{API_VERSION, AciError, BareDigest, PrefixedDigest};

/// Most bytes of a session that is read.
pub const MAX_SESSION: usize = 4 * 1024 * 1024;

/// A session as it was read or made; the id is over its whole document, members included that are not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    document: Value,
    members: SessionDocument,
}

/// The members of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDocument {
    /// [`API_VERSION`].
    pub api_version: String,
    /// The service's own name for the upstream.
    pub upstream_name: String,
    /// Origin of the upstream; none where the channel has no single one.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Which verifier it was.
    pub verifier_id: String,
    /// First second of validity.
    pub established_at: UnixTime,
    /// Last second of validity.
    pub expires_at: UnixTime,
    /// Verified keys of the upstream; their names are the verifier's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Value>,
    /// What the channel to the upstream was bound to.
    pub channel_binding: Vec<ChannelBinding>,
    /// What was found.
    pub claims: Claims,
    /// What the verifier consumed.
    pub evidence: SessionEvidence,
}

/// What an aggregator holds a channel to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ChannelBinding {
    /// One that can be enforced.
    Known(KnownBinding),
    /// Another kind, which nobody here can enforce.
    Other(Map<String, Value>),
}

/// A binding that can be enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum KnownBinding {
    /// The TLS key of an origin.
    #[serde(rename = "tls_spki_sha256")]
    Tls {
        /// The origin, as `https://upstream.example.com`.
        origin: String,
        /// SHA-256 of the subject public key info.
        spki_sha256: BareDigest,
    },
    /// A key that requests are sealed to.
    #[serde(rename = "e2ee_public_key_sha256")]
    E2ee {
        /// The upstream's name.
        provider: String,
        /// Name of the key, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
        /// Its algorithm.
        algorithm: String,
        /// SHA-256 of the key.
        public_key_sha256: BareDigest,
    },
}

/// What was found about an upstream, in fixed words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The channel ends in a genuine CPU TEE.
    #[serde(default)]
    pub tee_attested: Claim,
    /// A genuine GPU in confidential mode answered; not that it sits in that machine.
    #[serde(default)]
    pub gpu_attested: Claim,
    /// The platform's patches are current.
    #[serde(default)]
    pub tcb_up_to_date: Claim,
    /// The image of the operating system is a known one.
    #[serde(default)]
    pub os_known_good: Claim,
    /// The serving software is a known one.
    #[serde(default)]
    pub serving_software_known_good: Claim,
    /// The weights are those that they are said to be.
    #[serde(default)]
    pub model_weights_provenance: Claim,
    /// Further facts of the verifier; inputs to the claims, no claims themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Value>,
}

/// One claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Whether it holds.
    pub status: ClaimStatus,
    /// Whose word it is; none for an unknown one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_source")]
    pub source: Option<ClaimSource>,
    /// The verifier's explanation; none for an unknown one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a claim holds. A word that is not known counts as `unknown`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimStatus {
    /// It does.
    Asserted,
    /// It does not.
    Refuted,
    /// Nothing is known: neither a pass nor a refutation.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Whose word a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimSource {
    /// The hardware's.
    HardwareProven,
    /// The verifier's.
    VerifierDerived,
    /// The provider's.
    ProviderAsserted,
    /// The operator's.
    OperatorAsserted,
}

/// A source that is not known makes no source.
fn known_source<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ClaimSource>, D::Error> {
    let word = Option::<Value>::deserialize(deserializer)?;
    Ok(word.and_then(|word| serde_json::from_value(word).ok()))
}

impl Claim {
    /// Whether it is asserted by the hardware.
    pub fn is_hardware_proven(&self) -> bool {
        self.status == ClaimStatus::Asserted && self.source == Some(ClaimSource::HardwareProven)
    }
}

/// What a verifier consumed: its digest, and the bytes unless they were left out of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEvidence {
    /// SHA-256 of the bytes.
    pub digest: PrefixedDigest,
    /// `data:<content type>;base64,<bytes>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl SessionEvidence {
    /// Packs bytes of a content type.
    pub fn new(content_type: &str, bytes: &[u8]) -> Self {
        let data = Some(format!("data:{content_type};base64,{}", STANDARD.encode(bytes)));
        Self { digest: PrefixedDigest::of(bytes), data }
    }

    /// The bytes, which hash to the digest (section 9.2, check 2).
    ///
    /// # Errors
    /// [`AciError::Session`].
    pub fn bytes(&self) -> Result<Vec<u8>, AciError> {
        let data = self.data.as_deref().ok_or(AciError::Session("its evidence was left out"))?;
        let encoded = data.strip_prefix("data:").and_then(|rest| rest.split_once(','));
        let encoded = encoded.and_then(|(kind, encoded)| kind.ends_with(";base64").then_some(encoded));
        let encoded = encoded.ok_or(AciError::Session("its evidence is no base64 data URI"))?;
        let bytes = STANDARD.decode(encoded).map_err(|_| AciError::Session("its evidence is no base64 data URI"))?;
        if PrefixedDigest::of(&bytes) != self.digest {
            return Err(AciError::Session("its evidence has another digest"));
        }
        Ok(bytes)
    }
}

impl Session {
    /// Makes a session.
    ///
    /// # Errors
    /// As [`Session::parse`].
    pub fn new(members: SessionDocument) -> Result<Self, AciError> {
        let document = serde_json::to_value(&members).map_err(|error| AciError::shape("session", &error))?;
        Self::from_value(document)
    }

    /// Reads a session in any JSON encoding.
    ///
    /// # Errors
    /// [`AciError::TooLarge`], [`AciError::Shape`], [`AciError::Version`], [`AciError::Canonical`].
    pub fn parse(bytes: &[u8]) -> Result<Self, AciError> {
        if bytes.len() > MAX_SESSION {
            return Err(AciError::TooLarge { limit: MAX_SESSION, found: bytes.len() });
        }
        Self::from_value(serde_json::from_slice(bytes).map_err(|error| AciError::shape("session", &error))?)
    }

    /// Reads a session that is parsed already.
    ///
    /// # Errors
    /// As [`Session::parse`].
    pub fn from_value(document: Value) -> Result<Self, AciError> {
        let length = jcs::to_bytes(&document)?.len();
        if length > MAX_SESSION {
            return Err(AciError::TooLarge { limit: MAX_SESSION, found: length });
        }
        let members: SessionDocument =
            serde_json::from_value(document.clone()).map_err(|error| AciError::shape("session", &error))?;
        if members.api_version != API_VERSION {
            return Err(AciError::Version);
        }
        Ok(Self { document, members })
    }

    /// The canonical bytes, to be stored and served.
    pub fn to_bytes(&self) -> Vec<u8> {
        jcs::to_bytes(&self.document).expect("it was in canonical form when it was read or made")
    }

    /// The document, to be served.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The session's id: SHA-256 of the canonical document.
    pub fn id(&self) -> BareDigest {
        BareDigest::of(&self.to_bytes())
    }

    /// What it says.
    pub fn members(&self) -> &SessionDocument {
        &self.members
    }

    /// The entry in a list of sessions: with its id, without the evidence's bytes. It does not hash to its id.
    pub fn abbreviated(&self) -> Value {
        let mut entry = self.document.clone();
        entry["session_id"] = self.id().to_string().into();
        if let Some(Value::Object(evidence)) = entry.get_mut("evidence") {
            evidence.remove("data");
        }
        entry
    }

    /// Checks it against what a receipt says of it (sections 9.2 and 9.3, check 6): id, evidence and the time that it was served.
    ///
    /// # Errors
    /// [`AciError::Session`].
    pub fn check(&self, id: BareDigest, served_at: UnixTime) -> Result<(), AciError> {
        if self.id() != id {
            return Err(AciError::Session("it is not the one that the receipt cites"));
        }
        if served_at < self.members.established_at || served_at > self.members.expires_at {
            return Err(AciError::Session("the receipt was served outside its period"));
        }
        self.members.evidence.bytes().map(drop)
    }
}
