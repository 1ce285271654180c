//! The service's side: opening a request, sealing what it is answered with.

use rand_core::CryptoRng;
use serde_json::{Map, Value};
use tacit_types::UnixTime;

use super::context::Context;
use super::fields::{self, visit_request, visit_response};
use super::headers::{ALGORITHM_HEADER, APPLIED_HEADER, TOOLS_HEADER, VERSION, VERSION_HEADER};
use super::{E2eeError, E2eePublicKey, E2eeSecretKey, Endpoint, MAX_BODY, ReplayKey, Suite, open_field, seal_field};

/// The keys of a service that stand in its keyset.
#[derive(Clone, Default)]
pub struct ServiceKeys(Vec<E2eeSecretKey>);

impl ServiceKeys {
    /// These keys.
    pub fn new(keys: Vec<E2eeSecretKey>) -> Self {
        Self(keys)
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &E2eeSecretKey> {
        self.0.iter()
    }

    /// The key whose public half this is, in whatever spelling its suite allows.
    pub(super) fn named(&self, text: &str) -> Option<&E2eeSecretKey> {
        self.0.iter().find(|key| E2eePublicKey::parse(key.suite(), text).is_ok_and(|named| named == key.public()))
    }
}

/// A sealed request whose headers hold; its body is still sealed.
#[derive(Clone)]
pub struct CheckedRequest {
    pub(super) key: E2eeSecretKey,
    pub(super) client: E2eePublicKey,
    pub(super) nonce: String,
    pub(super) timestamp: UnixTime,
    pub(super) tools: bool,
    pub(super) replay: ReplayKey,
}

/// A request in the clear.
#[derive(Debug, Clone)]
pub struct OpenedRequest {
    /// The body, its members in the order in which they were sent.
    pub body: Value,
    /// The body as compact JSON: what `request.received` hashes.
    pub bytes: Vec<u8>,
    /// Seals the response.
    pub sealer: ResponseSealer,
}

/// Seals a response to the client of one request.
#[derive(Debug, Clone)]
pub struct ResponseSealer {
    context: Context,
    client: E2eePublicKey,
    tools: bool,
}

impl CheckedRequest {
    /// What the replay window must note before anything is answered.
    pub fn replay_key(&self) -> ReplayKey {
        self.replay
    }

    /// Opens the body.
    ///
    /// # Errors
    /// [`E2eeError::InvalidPayloadModel`] without a `model`, [`E2eeError::DecryptionFailed`] for anything else.
    pub fn open(self, endpoint: Endpoint, body: &[u8]) -> Result<OpenedRequest, E2eeError> {
        if body.len() > MAX_BODY {
            return Err(E2eeError::DecryptionFailed);
        }
        let mut body: Map<String, Value> = serde_json::from_slice(body).map_err(|_| E2eeError::DecryptionFailed)?;
        let model = body.get("model").and_then(Value::as_str).ok_or(E2eeError::InvalidPayloadModel)?;
        let context =
            Context { suite: self.key.suite(), model: model.to_owned(), nonce: self.nonce, timestamp: self.timestamp };
        let count = visit_request(endpoint, self.tools, &mut body, &mut |field, form, value| {
            let sealed = value.as_str().ok_or(E2eeError::DecryptionFailed)?;
            *value = form.read(open_field(&self.key, &context.request(field)?, sealed)?)?;
            Ok(())
        })?;
        // Sealed tools without the header that says so: somebody took the header away.
        let tools_hold = body.get("tools").is_none_or(Value::is_array);
        if count == 0 || !tools_hold {
            return Err(E2eeError::DecryptionFailed);
        }
        let body = Value::Object(body);
        let bytes = serde_json::to_vec(&body).map_err(|_| E2eeError::DecryptionFailed)?;
        Ok(OpenedRequest { body, bytes, sealer: ResponseSealer { context, client: self.client, tools: self.tools } })
    }
}

impl ResponseSealer {
    /// The suite.
    pub fn suite(&self) -> Suite {
        self.context.suite
    }

    /// The headers of a response whose fields are sealed.
    pub fn headers(&self) -> Vec<(&'static str, &'static str)> {
        let mut headers = vec![
            (APPLIED_HEADER, "true"),
            (VERSION_HEADER, VERSION),
            (ALGORITHM_HEADER, self.context.suite.algorithm()),
        ];
        if self.tools {
            headers.push((TOOLS_HEADER, "true"));
        }
        headers
    }

    /// Seals a response in place: a whole body, or the JSON of one chunk of a stream. Gives how many fields were sealed; a body
    /// without any, such as an error, stays as it is. What spells content and has no sealed place is taken out.
    ///
    /// # Errors
    /// [`E2eeError::Seal`] for a body of another shape; nothing of it may then be sent. [`E2eeError::InvalidPublicKey`] for a
    /// client key that agrees on nothing secret.
    pub fn seal(&self, rng: &mut impl CryptoRng, body: &mut Value) -> Result<usize, E2eeError> {
        let body = body.as_object_mut().ok_or(E2eeError::Seal)?;
        fields::withhold(self.tools, body);
        let id = body.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        visit_response(self.tools, body, &mut |field, form, value| {
            let plaintext = form.write(value)?.ok_or(E2eeError::Seal)?;
            *value = seal_field(rng, &self.client, &self.context.response(&id, field)?, &plaintext)?.into();
            Ok(())
        })
    }
}
