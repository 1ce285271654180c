//! The headers of a request (section 3.1), read and checked.

use tacit_types::UnixTime;

use super::replay::ReplayKey;
use super::{CheckedRequest, E2eeError, E2eePublicKey, MAX_SKEW, ServiceKeys};

/// The version, as [`VERSION_HEADER`] says it.
pub const VERSION: &str = "2";
/// Request and response: `2`.
pub const VERSION_HEADER: &str = "x-e2ee-version";
/// Request: the client's public key, which the response is sealed to.
pub const CLIENT_KEY_HEADER: &str = "x-client-pub-key";
/// Request: the service's key, out of its keyset.
pub const MODEL_KEY_HEADER: &str = "x-model-pub-key";
/// Request: 64 hexadecimal digits, never twice.
pub const NONCE_HEADER: &str = "x-e2ee-nonce";
/// Request: unix seconds.
pub const TIMESTAMP_HEADER: &str = "x-e2ee-timestamp";
/// Request of the interface before version 2; refused.
pub const SIGNING_ALGORITHM_HEADER: &str = "x-signing-algo";
/// Request and response: `true` where `tools` and the arguments of tool calls are sealed as well. This project's own.
pub const TOOLS_HEADER: &str = "x-tacit-e2ee-tools";
/// Response: `true` when its fields are sealed.
pub const APPLIED_HEADER: &str = "x-e2ee-applied";
/// Response: the suite's algorithm.
pub const ALGORITHM_HEADER: &str = "x-e2ee-algo";

/// The five headers of a sealed request, and the one of the extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeaders {
    client_key: String,
    model_key: String,
    nonce: String,
    timestamp: String,
    tools: bool,
}

impl RequestHeaders {
    /// Reads the headers; `header` gives a header's value by its lower-case name. Nothing when the request is not sealed.
    ///
    /// # Errors
    /// [`E2eeError::HeaderMissing`], or [`E2eeError::InvalidVersion`] for another version and for requests of the interface before
    /// (`X-Signing-Algo`), which is not served.
    pub fn parse<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>, E2eeError> {
        let [version, client_key, model_key, nonce, timestamp] =
            [VERSION_HEADER, CLIENT_KEY_HEADER, MODEL_KEY_HEADER, NONCE_HEADER, TIMESTAMP_HEADER].map(&header);
        let (signing, tools) = (header(SIGNING_ALGORITHM_HEADER), header(TOOLS_HEADER));
        let all = [version, client_key, model_key, nonce, timestamp, signing, tools];
        if all.iter().all(Option::is_none) {
            return Ok(None);
        }
        if signing.is_some() {
            return Err(E2eeError::InvalidVersion);
        }
        if version.ok_or(E2eeError::HeaderMissing)? != VERSION {
            return Err(E2eeError::InvalidVersion);
        }
        let needed = |value: Option<&str>| value.map(str::to_owned).ok_or(E2eeError::HeaderMissing);
        Ok(Some(Self {
            client_key: needed(client_key)?,
            model_key: needed(model_key)?,
            nonce: needed(nonce)?,
            timestamp: needed(timestamp)?,
            tools: match tools {
                None | Some("false") => false,
                Some("true") => true,
                // Whoever asks for more must not get less.
                Some(_) => return Err(E2eeError::InvalidVersion),
            },
        }))
    }

    /// Checks them against the service's keys and clock (section 7).
    ///
    /// # Errors
    /// [`E2eeError::InvalidNonce`], [`E2eeError::InvalidTimestamp`], [`E2eeError::ModelKeyMismatch`] or
    /// [`E2eeError::InvalidPublicKey`].
    pub fn check(self, keys: &ServiceKeys, now: UnixTime) -> Result<CheckedRequest, E2eeError> {
        let mut nonce = [0; 32];
        if self.nonce.len() != 64 || hex::decode_to_slice(&self.nonce, &mut nonce).is_err() {
            return Err(E2eeError::InvalidNonce);
        }
        let timestamp = parse_timestamp(&self.timestamp)?;
        if now.distance(timestamp) > MAX_SKEW {
            return Err(E2eeError::InvalidTimestamp);
        }
        let key = keys.named(&self.model_key).ok_or(E2eeError::ModelKeyMismatch)?;
        let client = E2eePublicKey::parse(key.suite(), &self.client_key)?;
        let replay = ReplayKey::new(&client, &key.public(), nonce, timestamp);
        Ok(CheckedRequest { key: key.clone(), client, nonce: self.nonce, timestamp, tools: self.tools, replay })
    }
}

/// Decimal digits without sign, white space or leading zeros.
fn parse_timestamp(text: &str) -> Result<UnixTime, E2eeError> {
    let time: u64 = text.parse().map_err(|_| E2eeError::InvalidTimestamp)?;
    // The number stands in a canonical document, which holds integers below 2^53.
    if time.to_string() == text && time <= tacit_types::jcs::MAX_INTEGER {
        Ok(UnixTime(time))
    } else {
        Err(E2eeError::InvalidTimestamp)
    }
}
