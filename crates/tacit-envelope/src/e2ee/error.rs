use thiserror::Error;

/// Why a request was not opened, or a message not sealed. No variant carries plaintext or key material.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum E2eeError {
    /// Some of the five headers are there and some are not.
    #[error("a header of E2EE v2 is missing")]
    HeaderMissing,
    /// Another version, or the headers of the interface before it.
    #[error("another version of E2EE than 2")]
    InvalidVersion,
    /// A public key is not one of its suite.
    #[error("a public key is not valid")]
    InvalidPublicKey,
    /// The key that the request was sealed to is not one of this service.
    #[error("sealed to a key that this service does not have")]
    ModelKeyMismatch,
    /// The nonce is not 64 hexadecimal digits.
    #[error("the nonce is not 64 hexadecimal digits")]
    InvalidNonce,
    /// The nonce was used before with these keys.
    #[error("the nonce was used before")]
    ReplayDetected,
    /// The timestamp is no number, or too far from the clock.
    #[error("the timestamp is malformed or too far from the clock")]
    InvalidTimestamp,
    /// The body has no `model`, or one that is not a string.
    #[error("the body has no model")]
    InvalidPayloadModel,
    /// A field is malformed, was altered, stands elsewhere than where it was sealed for, or nothing is sealed at all.
    #[error("a field does not open")]
    DecryptionFailed,
    /// The endpoint has no fields that are sealed.
    #[error("this endpoint is not served with E2EE v2")]
    UnsupportedEndpoint,
    /// So many requests came within the window that no further nonce can be remembered. Not a word of the specification.
    #[error("too many requests: the replay window is full")]
    WindowFull,
    /// A body of the service has another shape than its endpoint's, or the message cannot be sealed. The service's own failure.
    #[error("the message cannot be sealed")]
    Seal,
}

impl E2eeError {
    /// The `type` of the OpenAI-shaped error (section 9).
    pub const fn kind(self) -> &'static str {
        match self {
            Self::HeaderMissing => "e2ee_header_missing",
            Self::InvalidVersion => "e2ee_invalid_version",
            Self::InvalidPublicKey => "e2ee_invalid_public_key",
            Self::ModelKeyMismatch => "e2ee_model_key_mismatch",
            Self::InvalidNonce => "e2ee_invalid_nonce",
            Self::ReplayDetected => "e2ee_replay_detected",
            Self::InvalidTimestamp => "e2ee_invalid_timestamp",
            Self::InvalidPayloadModel => "e2ee_invalid_payload_model",
            Self::DecryptionFailed => "e2ee_decryption_failed",
            Self::UnsupportedEndpoint => "e2ee_unsupported_endpoint",
            Self::WindowFull => "rate_limit_exceeded",
            Self::Seal => "server_error",
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::WindowFull => 429,
            Self::Seal => 500,
            _ => 400,
        }
    }
}
