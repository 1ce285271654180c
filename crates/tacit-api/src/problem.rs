//! Problems (RFC 9457): the one place where what can go wrong becomes a status code.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::headers::PROBLEM_MEDIA_TYPE;

const TYPE_PREFIX: &str = "urn:tacit:problem:";

macro_rules! problems {
    ($($(#[$meta:meta])* $name:ident = $status:literal $slug:literal $title:literal;)*) => {
        /// What went wrong. Each kind has one status code, one name and one title.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind {
            $($(#[$meta])* $name,)*
        }

        impl ProblemKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The status code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The name: the last part of the problem's type.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// The title that people read.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

problems! {
    /// The request has a form that nothing here reads.
    InvalidRequest = 400 "invalid-request" "The request is not well formed";
    /// A header is missing, repeated or has a value that is not allowed.
    InvalidHeader = 400 "invalid-header" "A header has a value that is not allowed";
    /// The sealed bytes do not open.
    UnreadableSeal = 400 "unreadable-seal" "The sealed request does not open";
    /// The caller's signature does not hold.
    BadSignature = 401 "bad-signature" "The caller's signature does not hold";
    /// The manifest does not let this caller in.
    Denied = 403 "denied" "This caller may not call this function";
    /// The manifest allows sealed calls only.
    SealedOnly = 403 "sealed-only" "The function takes sealed calls only";
    /// There is no such function.
    UnknownFunction = 404 "unknown-function" "There is no such function";
    /// The function has no such method.
    UnknownMethod = 404 "unknown-method" "The function has no such method";
    /// There is no such blob.
    UnknownBlob = 404 "unknown-blob" "There is no such blob";
    /// There is no such receipt.
    UnknownReceipt = 404 "unknown-receipt" "There is no such receipt";
    /// There is no such worker.
    UnknownWorker = 404 "unknown-worker" "There is no such worker";
    /// There is no such route or object.
    NotFound = 404 "not-found" "There is nothing at this address";
    /// The route has other methods.
    MethodNotAllowed = 405 "method-not-allowed" "The route does not have this method";
    /// The call's deadline has passed, or it is too far away.
    DeadlineExpired = 408 "deadline-expired" "The call's deadline does not allow it to begin";
    /// This worker does not hold the function's lease.
    NotHolder = 409 "not-holder" "This worker does not hold the function's lease";
    /// The nonce has been used.
    Replayed = 409 "replayed" "A call with this nonce has been seen";
    /// The request is sealed to a key, or signed for a certificate, that this worker does not have (any more).
    WrongKey = 410 "wrong-key" "The request is for a key that this worker does not have";
    /// The body is larger than allowed.
    TooLarge = 413 "too-large" "The body is too large";
    /// The body has a media type that the route does not take.
    UnsupportedMediaType = 415 "unsupported-media-type" "The route does not take this media type";
    /// The blob's bytes do not have the digest in its address.
    DigestMismatch = 422 "digest-mismatch" "The bytes do not have this digest";
    /// The gatekeeper does not agree to this founding of a cluster.
    GenesisRefused = 422 "genesis-refused" "The gatekeeper does not agree to this genesis";
    /// The module or the manifest cannot be run.
    InvalidCode = 422 "invalid-code" "The function's code or manifest cannot be run";
    /// The client sent more requests than its share.
    RateLimited = 429 "rate-limited" "Too many requests from this client";
    /// The node or the function has more work waiting than it takes.
    Overloaded = 429 "overloaded" "Too much work is waiting";
    /// The headers are larger than allowed.
    HeadersTooLarge = 431 "headers-too-large" "The headers are too large";
    /// Something failed that the caller cannot mend.
    Internal = 500 "internal" "The node failed";
    /// The node behind this one answered with something that is not an answer.
    BadUpstream = 502 "bad-upstream" "The node behind the gateway did not answer properly";
    /// No certified worker is known.
    NoWorker = 503 "no-worker" "No certified worker is available";
    /// No worker could be reached.
    WorkerUnreachable = 503 "worker-unreachable" "The worker cannot be reached";
    /// The node has not been admitted yet, or its certificate ended.
    NotCertified = 503 "not-certified" "The worker has no live certificate";
    /// The gatekeeper does not belong to a cluster yet.
    NotFounded = 503 "not-founded" "The cluster is not founded yet";
    /// The home chain does not answer or is too old.
    ChainUnavailable = 503 "chain-unavailable" "The home chain cannot be read";
    /// Fewer gatekeepers than needed answer.
    QuorumUnavailable = 503 "quorum-unavailable" "Too few gatekeepers answer";
    /// The disk or object store does not take or give data.
    StorageUnavailable = 503 "storage-unavailable" "The store does not work";
    /// The store is behind the register.
    StateRolledBack = 503 "state-rolled-back" "The store is older than the acknowledged state";
    /// The worker does not have state as new as the caller asked for.
    StateBehind = 503 "state-behind" "The state is older than asked for";
    /// The node behind this one took too long; what it did is unknown.
    Timeout = 504 "timeout" "The node behind the gateway took too long";
    /// The node's quota for blobs is used up.
    QuotaExceeded = 507 "quota-exceeded" "The node has no room left";
}

impl ProblemKind {
    /// The problem's type, a URI.
    pub fn type_uri(self) -> String {
        format!("{TYPE_PREFIX}{}", self.name())
    }

    /// The kind with that type URI.
    pub fn from_type_uri(uri: &str) -> Option<Self> {
        let name = uri.strip_prefix(TYPE_PREFIX)?;
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether the caller should fetch the workers anew, verify, seal again and send with the same idempotency key.
    pub const fn asks_to_seal_again(self) -> bool {
        matches!(
            self,
            Self::NotHolder | Self::WrongKey | Self::UnreadableSeal | Self::NotCertified | Self::UnknownWorker
        )
    }

    /// Whether the same request may succeed elsewhere or later.
    pub const fn is_passing(self) -> bool {
        matches!(self.status(), 429 | 502 | 503 | 504)
    }
}

/// A problem as it is sent: outside the seal as an HTTP answer, inside the seal as the answer's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Twin", into = "Twin")]
pub struct Problem {
    /// What went wrong.
    pub kind: ProblemKind,
    /// What exactly, for people; never contains plaintext of a call.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Seconds after which to try again; always there for 429.
    pub retry_after: Option<u32>,
}

/// The document's members.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Twin {
    #[serde(rename = "type")]
    type_uri: String,
    title: String,
    status: u16,
    detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

impl From<Problem> for Twin {
    fn from(problem: Problem) -> Self {
        Self {
            type_uri: problem.kind.type_uri(),
            title: problem.kind.title().into(),
            status: problem.kind.status(),
            detail: problem.detail,
            hint: problem.hint,
            retry_after: problem.retry_after,
        }
    }
}

impl TryFrom<Twin> for Problem {
    type Error = &'static str;

    fn try_from(twin: Twin) -> Result<Self, Self::Error> {
        let kind = ProblemKind::from_type_uri(&twin.type_uri).ok_or("not a type of problem that is known here")?;
        Ok(Self { kind, detail: twin.detail, hint: twin.hint, retry_after: twin.retry_after })
    }
}

impl Problem {
    /// A problem of that kind; 429 and 503 ask for another try after a second unless told otherwise.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let retry_after = matches!(kind.status(), 429 | 503).then_some(1);
        Self { kind, detail: detail.into(), hint: None, retry_after }
    }

    /// The same problem with a hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same problem with another time to wait.
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The document's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers always have a JSON form")
    }

    /// Reads a problem document of a node.
    ///
    /// # Errors
    /// When it is longer than [`crate::limits::MAX_PROBLEM`], not JSON, or of a kind that is not known here.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if bytes.len() > crate::limits::MAX_PROBLEM {
            return Err(serde::de::Error::custom("the problem document is too large"));
        }
        serde_json::from_slice(bytes)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.detail.is_empty() {
            formatter.write_str(self.kind.title())
        } else {
            write!(formatter, "{}: {}", self.kind.title(), self.detail)
        }
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.status()).expect("every status above is one");
        let mut response = (status, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_status_and_a_name_of_its_own() {
        let mut names: Vec<_> = ProblemKind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            let status = Problem::new(*kind, "x").into_response().status();
            assert_eq!(status.as_u16(), kind.status());
            assert!(status.is_client_error() || status.is_server_error());
            assert_eq!(ProblemKind::from_type_uri(&kind.type_uri()), Some(*kind));
        }
    }

    #[test]
    fn the_document_has_the_members_of_the_rfc() {
        let problem = Problem::new(ProblemKind::RateLimited, "20 a second").with_hint("slow down").with_retry_after(3);
        assert_eq!(
            String::from_utf8(problem.to_json()).unwrap(),
            r#"{"type":"urn:tacit:problem:rate-limited","title":"Too many requests from this client","status":429,"detail":"20 a second","hint":"slow down","retryAfter":3}"#
        );
        assert_eq!(Problem::from_json(&problem.to_json()).unwrap(), problem);
        let response = problem.into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "3");
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_MEDIA_TYPE);
    }

    #[test]
    fn overload_always_says_when_to_come_back() {
        for kind in ProblemKind::ALL.iter().filter(|kind| matches!(kind.status(), 429 | 503)) {
            assert!(Problem::new(*kind, "").into_response().headers().contains_key(header::RETRY_AFTER));
        }
    }

    #[test]
    fn hostile_documents_are_refused() {
        let check = |bytes: &[u8]| assert!(Problem::from_json(bytes).is_err());
        check(b"");
        check(b"{}");
        check(br#"{"type":"about:blank","title":"","status":500,"detail":""}"#);
        check(&vec![b' '; crate::limits::MAX_PROBLEM + 1]);
    }
}
