//! What every field of one request and its response is bound to (section 6).

use serde::Serialize;
use tacit_types::{UnixTime, jcs};

use super::{E2eeError, Suite};

/// The parts of the associated data that all fields share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Context {
    pub suite: Suite,
    /// The request's model, byte for byte.
    pub model: String,
    /// The nonce as the header spells it.
    pub nonce: String,
    pub timestamp: UnixTime,
}

#[derive(Serialize)]
struct AssociatedData<'a> {
    purpose: &'static str,
    algo: &'static str,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    field: &'a str,
    nonce: &'a str,
    ts: UnixTime,
}

impl Context {
    /// Associated data of a field of the request.
    pub fn request(&self, field: &str) -> Result<Vec<u8>, E2eeError> {
        self.encode("aci.e2ee.request.v2", None, field)
    }

    /// Associated data of a field of the response that has this `id`, or an empty one.
    pub fn response(&self, id: &str, field: &str) -> Result<Vec<u8>, E2eeError> {
        self.encode("aci.e2ee.response.v2", Some(id), field)
    }

    fn encode(&self, purpose: &'static str, id: Option<&str>, field: &str) -> Result<Vec<u8>, E2eeError> {
        let data = AssociatedData {
            purpose,
            algo: self.suite.algorithm(),
            model: &self.model,
            id,
            field,
            nonce: &self.nonce,
            ts: self.timestamp,
        };
        // Fails for a timestamp beyond 2^53 alone, which the headers do not let through.
        jcs::to_bytes(&data).map_err(|_| E2eeError::InvalidTimestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The constants of the specification's `e2ee-v2-test-vectors.md`.
    #[test]
    fn associated_data_is_the_published_one() {
        let nonce = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let context = Context {
            suite: Suite::X25519,
            model: "demo-model".into(),
            nonce: nonce.into(),
            timestamp: UnixTime(1_750_000_000),
        };
        let request = format!(
            r#"{{"algo":"x25519-aes-256-gcm-hkdf-sha256","field":"messages.0.content","model":"demo-model","nonce":"{nonce}","purpose":"aci.e2ee.request.v2","ts":1750000000}}"#
        );
        assert_eq!(context.request("messages.0.content").unwrap(), request.into_bytes());
        let response = format!(
            r#"{{"algo":"x25519-aes-256-gcm-hkdf-sha256","field":"choices.0.message.content","id":"chatcmpl-123","model":"demo-model","nonce":"{nonce}","purpose":"aci.e2ee.response.v2","ts":1750000000}}"#
        );
        assert_eq!(context.response("chatcmpl-123", "choices.0.message.content").unwrap(), response.into_bytes());
    }
}
