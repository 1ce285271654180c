//! Bounds on everything that a peer can send. A node may be stricter, never laxer.

use std::time::Duration;

/// Most bytes of a sealed request, and of an unsealed request body.
pub const MAX_REQUEST: usize = 17 << 20;
/// Most bytes of a sealed response: the body and the receipt bundle.
pub const MAX_RESPONSE: usize = 50 << 20;
/// Most bytes of one blob: a module, a manifest, a source map, a set of secrets.
pub const MAX_BLOB: usize = 16 << 20;
/// Most bytes of one worker's identity document.
pub const MAX_IDENTITY: usize = 1 << 20;
/// Most bytes of the answer of `GET /f/{id}`.
pub const MAX_FUNCTION_ANSWER: usize = 8 << 20;
/// Most workers in the answer of `GET /f/{id}`.
pub const MAX_WORKERS: usize = 16;
/// Most bytes of a receipt bundle.
pub const MAX_BUNDLE: usize = 16 << 20;
/// Most bytes of a checkpoint or tile of a transparency log (a full tile of 256 hashes has 8 KiB).
pub const MAX_LOG_OBJECT: usize = 64 << 10;
/// Most bytes of a problem document.
pub const MAX_PROBLEM: usize = 16 << 10;
/// Most characters of an idempotency key.
pub const MAX_IDEMPOTENCY_KEY: usize = 128;
/// Most characters of a method's name.
pub const MAX_METHOD: usize = 64;
/// Longest time between now and a call's deadline.
pub const MAX_DEADLINE: Duration = Duration::from_secs(900);
/// A call's deadline where its caller names none.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);
