//! Names of header and trailer fields, inside the seal unless said otherwise.

/// The call's nonce: `0x` and 64 hex digits, unguessable, used once.
pub const NONCE: &str = "tacit-nonce";
/// Last second at which the call may begin, unix seconds in decimal.
pub const DEADLINE: &str = "tacit-deadline";
/// Inside the seal: the id of the certificate that the caller verified. Outside, as a header or query parameter of the
/// same name: the address of the worker whose key the request is sealed to.
pub const WORKER: &str = "tacit-worker";
/// Least sequence of the state that the answer must come from, decimal.
pub const MIN_SEQUENCE: &str = "tacit-min-sequence";
/// The same key and caller get the stored outcome; the code does not run twice.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The caller's account; absent for a caller without a name.
pub const CALLER: &str = "tacit-caller";
/// The caller's EIP-712 signature over `Call`, `0x` and 130 hex digits.
pub const SIGNATURE: &str = "tacit-signature";
/// How the method is to run if not as its manifest says: see [`crate::CallKind`].
pub const KIND: &str = "tacit-kind";
/// Of an answer: the call's id, `0x` and 64 hex digits.
pub const CALL: &str = "tacit-call";
/// Of the answer of a stale query: when a quorum last confirmed the state that was read, unix seconds in decimal.
pub const CONFIRMED: &str = "tacit-confirmed";
/// Trailer of the answer: the receipt bundle in base64url without padding.
pub const BUNDLE: &str = "tacit-bundle";
/// Media type of a problem document, inside and outside the seal.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";
/// Media type of a sealed request.
pub const SEALED_REQUEST: &str = "message/ohttp-req";
/// Media type of a sealed response.
pub const SEALED_RESPONSE: &str = "message/ohttp-res";
/// Media type of a sealed request in chunks.
pub const SEALED_CHUNKED_REQUEST: &str = "message/ohttp-chunked-req";
/// Media type of a sealed response in chunks.
pub const SEALED_CHUNKED_RESPONSE: &str = "message/ohttp-chunked-res";
/// Authority of every request inside a seal: `https://function/{id}/{method}`.
pub const AUTHORITY: &str = "function";
