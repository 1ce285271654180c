//! The receipt of one request (section 7), and how it is made.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tacit_types::keyset::Keyset;
use tacit_types::signature::{NoteKey, verify_ed25519};
use tacit_types::{Digest, KeysetDigest, UnixTime, jcs};

use super::{API_VERSION, AciError, Event, InferenceEvent, PrefixedDigest, UpstreamVerified, is_name};

/// Most bytes of a receipt that is read.
pub const MAX_RECEIPT: usize = 256 * 1024;
/// Most events of one receipt.
const MAX_EVENTS: usize = 256;

/// A receipt as it was read or made. It keeps the whole document, members included that are not known here, since the signature
/// is over all of it. Reading checks its form and no signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AciReceipt {
    document: Value,
    members: Members,
    signature: [u8; 64],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Members {
    api_version: String,
    receipt_id: String,
    #[serde(default)]
    chat_id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    workload_keyset_digest: PrefixedDigest,
    endpoint: String,
    method: String,
    served_at: UnixTime,
    event_log: Vec<Event>,
    key_id: String,
}

/// What goes into a receipt before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptDraft {
    /// The id under which it is looked up, unguessable.
    pub receipt_id: String,
    /// The `id` of the response, if it has one.
    pub chat_id: Option<String>,
    /// The model that the client asked for, if it said one.
    pub model: Option<String>,
    /// The keyset that serves.
    pub keyset: KeysetDigest,
    /// Path of the endpoint, as `/v1/chat/completions`.
    pub endpoint: String,
    /// HTTP method.
    pub method: String,
    /// When the response was complete.
    pub served_at: UnixTime,
    /// What happened, in order: first `request.received`, and `response.returned` once.
    pub events: Vec<Event>,
}

impl ReceiptDraft {
    /// Signs the receipt with the key that the keyset names `key_id`.
    ///
    /// # Errors
    /// [`AciError::Member`] for events that break the rules of receipts, [`AciError::Canonical`] for a number that is no
    /// integer below 2^53.
    pub fn sign(self, key_id: &str, key: &NoteKey) -> Result<AciReceipt, AciError> {
        let members = Members {
            api_version: API_VERSION.to_owned(),
            receipt_id: self.receipt_id,
            chat_id: self.chat_id,
            model: self.model,
            workload_keyset_digest: self.keyset.into(),
            endpoint: self.endpoint,
            method: self.method,
            served_at: self.served_at,
            event_log: self.events,
            key_id: key_id.to_owned(),
        };
        members.check()?;
        let mut document = serde_json::to_value(&members).map_err(|error| AciError::shape("receipt", &error))?;
        let bytes = jcs::to_bytes(&document)?;
        let signature = key.sign(&bytes);
        document["signature"] = hex::encode(signature).into();
        Ok(AciReceipt { document, members, signature })
    }
}

impl Members {
    fn check(&self) -> Result<(), AciError> {
        if self.api_version != API_VERSION {
            return Err(AciError::Version);
        }
        let optional = |text: &Option<String>| text.as_deref().is_none_or(|text| text.len() <= 1024);
        let names = [&self.receipt_id, &self.endpoint, &self.method, &self.key_id];
        if !names.into_iter().all(|name| is_name(name)) || !optional(&self.chat_id) || !optional(&self.model) {
            return Err(AciError::Member("a name in the receipt is empty, too long or has control characters"));
        }
        if self.event_log.len() > MAX_EVENTS {
            return Err(AciError::Member("more events than are read"));
        }
        if !matches!(self.event_log.first(), Some(Event::RequestReceived(_))) {
            return Err(AciError::Member("the first event is not request.received"));
        }
        let count = |name: &str| self.event_log.iter().filter(|event| event.name() == name).count();
        if count("request.received") != 1 || count("response.returned") != 1 || count("request.forwarded") > 1 {
            return Err(AciError::Member(
                "an event that stands for one body is there twice, or the response's is not there",
            ));
        }
        let mut inferences = self.event_log.iter().filter_map(|event| match event {
            Event::Inference(event) => Some(event),
            _ => None,
        });
        match (inferences.next(), inferences.next()) {
            (None, _) => Ok(()),
            (Some(event), None) => event.check(),
            (Some(_), Some(_)) => Err(AciError::Member("two inferences in one receipt")),
        }
    }
}

impl AciReceipt {
    /// Reads a receipt in any JSON encoding.
    ///
    /// # Errors
    /// [`AciError::TooLarge`], [`AciError::Shape`], [`AciError::Version`], [`AciError::Member`], or [`AciError::Canonical`] for
    /// numbers that are no integers.
    pub fn parse(bytes: &[u8]) -> Result<Self, AciError> {
        if bytes.len() > MAX_RECEIPT {
            return Err(AciError::TooLarge { limit: MAX_RECEIPT, found: bytes.len() });
        }
        let document = serde_json::from_slice(bytes).map_err(|error| AciError::shape("receipt", &error))?;
        Self::from_value(document)
    }

    /// Reads a receipt that is parsed already.
    ///
    /// # Errors
    /// As [`AciReceipt::parse`].
    pub fn from_value(document: Value) -> Result<Self, AciError> {
        let length = jcs::to_bytes(&document)?.len();
        if length > MAX_RECEIPT {
            return Err(AciError::TooLarge { limit: MAX_RECEIPT, found: length });
        }
        let members: Members =
            serde_json::from_value(document.clone()).map_err(|error| AciError::shape("receipt", &error))?;
        members.check()?;
        let malformed = AciError::Member("the signature is not 128 lower-case hexadecimal digits");
        let Some(Value::String(digits)) = document.get("signature") else { return Err(malformed) };
        let mut signature = [0; 64];
        let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || hex::decode_to_slice(digits, &mut signature).is_err() {
            return Err(malformed);
        }
        Ok(Self { document, members, signature })
    }

    /// The document, to be served.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The canonical bytes of the whole document, to be stored and served.
    pub fn to_bytes(&self) -> Vec<u8> {
        jcs::to_bytes(&self.document).expect("it was in canonical form when it was read or made")
    }

    /// SHA-256 of the canonical document with its signature: the entry in a transparency log, and what a Tacit receipt's effects
    /// cite.
    pub fn digest(&self) -> Digest {
        <[u8; 32]>::from(Sha256::digest(self.to_bytes())).into()
    }

    /// The bytes that are signed: the canonical document without `signature`.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut unsigned = self.document.clone();
        if let Value::Object(members) = &mut unsigned {
            members.remove("signature");
        }
        jcs::to_bytes(&unsigned).expect("it was in canonical form when it was read or made")
    }

    /// Checks the signature under the key that the keyset names as the receipt does (section 9.3, check 1).
    ///
    /// # Errors
    /// [`AciError::Keyset`] when the keyset has no such Ed25519 key, [`AciError::Signature`].
    pub fn check_signature(&self, keyset: &Keyset) -> Result<(), AciError> {
        let key = keyset.ed25519_key(&self.members.key_id)?;
        verify_ed25519(&key, &self.signed_bytes(), &self.signature).map_err(|_| AciError::Signature)
    }

    /// Checks that the receipt was made under this keyset (section 9.3, check 2).
    ///
    /// # Errors
    /// [`AciError::OtherKeyset`].
    pub fn check_keyset(&self, digest: KeysetDigest) -> Result<(), AciError> {
        if self.members.workload_keyset_digest == digest.into() { Ok(()) } else { Err(AciError::OtherKeyset) }
    }

    /// The id under which it is looked up.
    pub fn id(&self) -> &str {
        &self.members.receipt_id
    }

    /// The `id` of the response.
    pub fn chat_id(&self) -> Option<&str> {
        self.members.chat_id.as_deref()
    }

    /// The model that the client asked for.
    pub fn model(&self) -> Option<&str> {
        self.members.model.as_deref()
    }

    /// Path of the endpoint.
    pub fn endpoint(&self) -> &str {
        &self.members.endpoint
    }

    /// HTTP method.
    pub fn method(&self) -> &str {
        &self.members.method
    }

    /// When it was served, by the service's own clock.
    pub fn served_at(&self) -> UnixTime {
        self.members.served_at
    }

    /// The keyset that it names.
    pub fn keyset_digest(&self) -> PrefixedDigest {
        self.members.workload_keyset_digest
    }

    /// The key that it names.
    pub fn key_id(&self) -> &str {
        &self.members.key_id
    }

    /// What happened, in order.
    pub fn events(&self) -> &[Event] {
        &self.members.event_log
    }

    /// Hash of the request body as processed.
    pub fn received(&self) -> PrefixedDigest {
        match self.members.event_log.first() {
            Some(Event::RequestReceived(hash)) => *hash,
            _ => unreachable!("checked when it was read or made"),
        }
    }

    /// Hash of the bytes used for inference; none for a refusal.
    pub fn forwarded(&self) -> Option<PrefixedDigest> {
        self.members.event_log.iter().find_map(|event| match event {
            Event::RequestForwarded(hash) => Some(*hash),
            _ => None,
        })
    }

    /// Hash of the response's bytes.
    pub fn returned(&self) -> PrefixedDigest {
        let hash = self.members.event_log.iter().find_map(|event| match event {
            Event::ResponseReturned(hash) => Some(*hash),
            _ => None,
        });
        hash.expect("checked when it was read or made")
    }

    /// What the service found about upstream services: nothing for one that serves itself.
    pub fn upstreams(&self) -> impl Iterator<Item = &UpstreamVerified> {
        self.members.event_log.iter().filter_map(|event| match event {
            Event::UpstreamVerified(event) => Some(event),
            _ => None,
        })
    }

    /// Model, usage and price, where the service is one of Tacit's.
    pub fn inference(&self) -> Option<&InferenceEvent> {
        self.members.event_log.iter().find_map(|event| match event {
            Event::Inference(event) => Some(event),
            _ => None,
        })
    }
}
