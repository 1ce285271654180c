//! Errors of the OpenAI-compatible surface, ACI's among them: the one place where they get type, code and status.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

macro_rules! errors {
    ($($(#[$meta:meta])* $name:ident = $status:literal $kind:literal $code:expr;)*) => {
        /// What went wrong. Each kind has one status, one type and one code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorKind {
            $($(#[$meta])* $name,)*
        }

        impl ErrorKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The status code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The error's `type`.
            pub const fn kind(self) -> &'static str {
                match self { $(Self::$name => $kind,)* }
            }

            /// The error's `code`, if it has one.
            pub const fn code(self) -> Option<&'static str> {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

errors! {
    /// The body is not JSON, not UTF-8, or has another shape.
    Invalid = 400 "invalid_request_error" None;
    /// A member has a value that is not allowed.
    InvalidValue = 400 "invalid_request_error" Some("invalid_value");
    /// A member has another type.
    InvalidType = 400 "invalid_request_error" Some("invalid_type");
    /// A member is not known here.
    UnknownParameter = 400 "invalid_request_error" Some("unknown_parameter");
    /// A member is missing.
    MissingParameter = 400 "invalid_request_error" Some("missing_required_parameter");
    /// The model cannot do this.
    Unsupported = 400 "invalid_request_error" Some("unsupported_value");
    /// Prompt and asked-for answer do not fit the model.
    ContextLength = 400 "invalid_request_error" Some("context_length_exceeded");
    /// The JSON Schema of the answer's form cannot be used.
    InvalidSchema = 400 "invalid_request_error" Some("invalid_json_schema");
    /// No key, or one that nobody was given.
    InvalidKey = 401 "invalid_request_error" Some("invalid_api_key");
    /// ACI: a receipt was asked for without a credential.
    Unauthorized = 401 "unauthorized" None;
    /// The model is not offered here.
    UnknownModel = 404 "invalid_request_error" Some("model_not_found");
    /// There is no such route.
    UnknownUrl = 404 "invalid_request_error" Some("unknown_url");
    /// ACI: there is no such receipt or session for this credential.
    NotFound = 404 "not_found" None;
    /// The route has another method.
    MethodNotAllowed = 405 "invalid_request_error" Some("method_not_supported");
    /// The client took too long to send its request.
    Timeout = 408 "invalid_request_error" Some("request_timeout");
    /// ACI: the request names sessions and this service has none of them.
    SessionNotAccepted = 412 "session_not_accepted" None;
    /// The body is too large.
    TooLarge = 413 "invalid_request_error" Some("request_too_large");
    /// The key's rate limit is reached.
    RateLimit = 429 "requests" Some("rate_limit_exceeded");
    /// The key's quota is used up.
    Quota = 429 "insufficient_quota" Some("insufficient_quota");
    /// This node failed.
    Internal = 500 "server_error" None;
    /// The model's server failed.
    Upstream = 502 "server_error" Some("upstream_error");
    /// Too many requests wait.
    Busy = 503 "server_error" Some("overloaded");
    /// ACI: the model's server could not be verified.
    UpstreamVerification = 503 "upstream_verification_failed" None;
    /// E2EE: a header is missing.
    E2eeHeaderMissing = 400 "e2ee_header_missing" None;
    /// E2EE: the version is another than 2.
    E2eeInvalidVersion = 400 "e2ee_invalid_version" None;
    /// E2EE: the client's key is not a key.
    E2eeInvalidPublicKey = 400 "e2ee_invalid_public_key" None;
    /// E2EE: the model's key is none of this keyset.
    E2eeModelKeyMismatch = 400 "e2ee_model_key_mismatch" None;
    /// E2EE: the nonce has another form.
    E2eeInvalidNonce = 400 "e2ee_invalid_nonce" None;
    /// E2EE: the nonce was used before.
    E2eeReplay = 400 "e2ee_replay_detected" None;
    /// E2EE: the timestamp is too far from this node's clock.
    E2eeInvalidTimestamp = 400 "e2ee_invalid_timestamp" None;
    /// E2EE: the body has no model, or one of another type.
    E2eeInvalidPayloadModel = 400 "e2ee_invalid_payload_model" None;
    /// E2EE: a field does not open.
    E2eeDecryption = 400 "e2ee_decryption_failed" None;
    /// E2EE: the endpoint does not take sealed fields.
    E2eeUnsupportedEndpoint = 400 "e2ee_unsupported_endpoint" None;
}

/// An error as clients of the OpenAI interface expect it. Its message never quotes a prompt or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
    /// Path of the member that is at fault.
    pub param: Option<String>,
    /// Seconds after which a new try makes sense.
    pub retry_after: Option<u64>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}

impl ApiError {
    /// An error with a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, retry_after: None }
    }

    /// Names the member that is at fault.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The body.
    pub fn to_json(&self) -> Vec<u8> {
        let (kind, code) = (self.kind.kind(), self.kind.code());
        let inner = Inner { message: &self.message, kind, param: self.param.as_deref(), code };
        serde_json::to_vec(&Body { error: inner }).unwrap_or_default()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.to_json()).into_response();
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape_that_clients_read() {
        let error = ApiError::new(ErrorKind::InvalidValue, "between 0 and 2").at("temperature");
        assert_eq!(
            String::from_utf8(error.to_json()).unwrap(),
            r#"{"error":{"message":"between 0 and 2","type":"invalid_request_error","param":"temperature","code":"invalid_value"}}"#
        );
        let response = ApiError::new(ErrorKind::RateLimit, "").retry_after(7).into_response();
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &HeaderValue::from(7)));
        for kind in ErrorKind::ALL {
            assert!((400..600).contains(&kind.status()), "{kind:?}");
        }
    }
}
