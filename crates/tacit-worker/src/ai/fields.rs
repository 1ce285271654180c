//! E2EE v2: single fields of requests opened, and of answers sealed.

use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use serde_json::Value;
use tacit_api::openai::{ApiError, ErrorKind};
use tacit_envelope::e2ee::{
    E2eeError, Endpoint as Sealable, OpenedRequest, ReplayWindow, RequestHeaders, ResponseSealer, ServiceKeys,
};
use tacit_types::UnixTime;

use super::endpoint::Endpoint;

/// Requests within ten minutes whose nonces are remembered; more are refused.
const NONCES: usize = 1 << 20;

/// Nonces that were used.
pub(crate) struct UsedNonces(Mutex<ReplayWindow>);

impl Default for UsedNonces {
    fn default() -> Self {
        Self(Mutex::new(ReplayWindow::new(NONCES)))
    }
}

/// Opens a request whose fields are sealed; nothing if it says that none are.
///
/// # Errors
/// Those that the E2EE specification names.
pub(crate) fn open(
    keys: &ServiceKeys,
    nonces: &UsedNonces,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: &[u8],
    now: UnixTime,
) -> Result<Option<OpenedRequest>, ApiError> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let Some(request) = RequestHeaders::parse(header).map_err(error)? else { return Ok(None) };
    let sealable = Sealable::at(endpoint.path()).map_err(error)?;
    let request = request.check(keys, now).map_err(error)?;
    nonces.0.lock().unwrap_or_else(PoisonError::into_inner).claim(request.replay_key(), now).map_err(error)?;
    request.open(sealable, body).map(Some).map_err(error)
}

/// Seals an answer, or a piece of one, in place.
///
/// # Errors
/// [`ErrorKind::Internal`]; nothing of it may then be sent.
pub(crate) fn seal(sealer: &ResponseSealer, body: &mut Value) -> Result<(), ApiError> {
    sealer.seal(&mut rand::rng(), body).map(drop).map_err(error)
}

fn error(error: E2eeError) -> ApiError {
    let kind = match error {
        E2eeError::HeaderMissing => ErrorKind::E2eeHeaderMissing,
        E2eeError::InvalidVersion => ErrorKind::E2eeInvalidVersion,
        E2eeError::InvalidPublicKey => ErrorKind::E2eeInvalidPublicKey,
        E2eeError::ModelKeyMismatch => ErrorKind::E2eeModelKeyMismatch,
        E2eeError::InvalidNonce => ErrorKind::E2eeInvalidNonce,
        E2eeError::ReplayDetected => ErrorKind::E2eeReplay,
        E2eeError::InvalidTimestamp => ErrorKind::E2eeInvalidTimestamp,
        E2eeError::InvalidPayloadModel => ErrorKind::E2eeInvalidPayloadModel,
        E2eeError::DecryptionFailed => ErrorKind::E2eeDecryption,
        E2eeError::UnsupportedEndpoint => ErrorKind::E2eeUnsupportedEndpoint,
        E2eeError::WindowFull => ErrorKind::RateLimit,
        _ => ErrorKind::Internal,
    };
    ApiError::new(kind, error.to_string())
}
