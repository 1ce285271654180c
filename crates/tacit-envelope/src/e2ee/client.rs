//! The client's side: sealing a request, opening what it is answered with.

use rand_core::CryptoRng;
use serde_json::{Map, Value, json};
use tacit_types::UnixTime;

use super::context::Context;
use super::fields::{array, visit_request, visit_response};
use super::headers::{
    CLIENT_KEY_HEADER, MODEL_KEY_HEADER, NONCE_HEADER, TIMESTAMP_HEADER, TOOLS_HEADER, VERSION, VERSION_HEADER,
};
use super::{E2eeError, E2eePublicKey, E2eeSecretKey, Endpoint, open_field, seal_field};

/// One request of a client: the key that its response is sealed to, and what every field is bound to.
pub struct ClientRequest {
    key: E2eeSecretKey,
    context: Context,
    tools: bool,
}

/// What a client sends, and what the service will have processed.
#[derive(Debug, Clone)]
pub struct SealedRequest {
    /// Names and values of the headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body to send.
    pub body: Vec<u8>,
    /// The body that the service restores: `request.received` of the receipt is its hash.
    pub restored: Vec<u8>,
}

impl ClientRequest {
    /// Seals a request to a key of the service's attested keyset, under a key and a nonce that are used once. `tools` asks for
    /// this project's extension; the service must offer it.
    ///
    /// # Errors
    /// [`E2eeError::InvalidPayloadModel`] without a `model`, [`E2eeError::Seal`] for a body that has nothing to seal or another
    /// shape than its endpoint's, [`E2eeError::InvalidPublicKey`].
    pub fn seal(
        rng: &mut impl CryptoRng,
        service: &E2eePublicKey,
        endpoint: Endpoint,
        body: &Value,
        now: UnixTime,
        tools: bool,
    ) -> Result<(Self, SealedRequest), E2eeError> {
        let mut body = body.as_object().cloned().ok_or(E2eeError::Seal)?;
        let model = body.get("model").and_then(Value::as_str).ok_or(E2eeError::InvalidPayloadModel)?.to_owned();
        let key = E2eeSecretKey::generate(rng, service.suite());
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let context = Context { suite: service.suite(), model, nonce: hex::encode(nonce), timestamp: now };
        if endpoint == Endpoint::Chat {
            keep_texts(&mut body);
        }
        let restored = serde_json::to_vec(&body).map_err(|_| E2eeError::Seal)?;
        if endpoint == Endpoint::Chat {
            join_contents(&mut body)?;
        }
        let sealed = visit_request(endpoint, tools, &mut body, &mut |field, form, value| {
            let plaintext = form.write(value)?.ok_or(E2eeError::Seal)?;
            *value = seal_field(rng, service, &context.request(field)?, &plaintext)?.into();
            Ok(())
        });
        match sealed {
            Ok(0) | Err(E2eeError::DecryptionFailed) => return Err(E2eeError::Seal),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        let mut headers = vec![
            (VERSION_HEADER, VERSION.to_owned()),
            (CLIENT_KEY_HEADER, key.public().to_hex()),
            (MODEL_KEY_HEADER, service.to_hex()),
            (NONCE_HEADER, context.nonce.clone()),
            (TIMESTAMP_HEADER, context.timestamp.0.to_string()),
        ];
        if tools {
            headers.push((TOOLS_HEADER, "true".to_owned()));
        }
        let body = serde_json::to_vec(&body).map_err(|_| E2eeError::Seal)?;
        Ok((Self { key, context, tools }, SealedRequest { headers, body, restored }))
    }

    /// Opens a response in place: a whole body, or the JSON of one chunk of a stream. Gives how many fields were opened. Every
    /// field that is sealed must open: one in the clear is refused.
    ///
    /// # Errors
    /// [`E2eeError::DecryptionFailed`].
    pub fn open(&self, body: &mut Value) -> Result<usize, E2eeError> {
        let body = body.as_object_mut().ok_or(E2eeError::DecryptionFailed)?;
        let id = body.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        visit_response(self.tools, body, &mut |field, form, value| {
            let sealed = value.as_str().ok_or(E2eeError::DecryptionFailed)?;
            *value = form.read(open_field(&self.key, &self.context.response(&id, field)?, sealed)?)?;
            Ok(())
        })
    }
}

fn contents(body: &mut Map<String, Value>) -> impl Iterator<Item = &mut Value> {
    let messages = body.get_mut("messages").and_then(Value::as_array_mut);
    messages.into_iter().flatten().filter_map(|message| message.get_mut("content"))
}

/// A service restores a content that spells an array as an array. A text that happens to is therefore sent as a text part.
fn keep_texts(body: &mut Map<String, Value>) {
    for content in contents(body) {
        if let Value::String(text) = content
            && array(text).is_some()
        {
            *content = json!([{ "type": "text", "text": text }]);
        }
    }
}

/// Writes each content of several parts as one text, to be sealed as a whole: its form stays hidden, and no kind of part is left
/// in the clear.
fn join_contents(body: &mut Map<String, Value>) -> Result<(), E2eeError> {
    for content in contents(body) {
        if content.is_array() {
            *content = Value::String(serde_json::to_string(content).map_err(|_| E2eeError::Seal)?);
        }
    }
    Ok(())
}
