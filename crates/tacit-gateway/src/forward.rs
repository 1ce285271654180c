//! Sends bytes on to workers and other gateways, and their answers back, both bounded.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use tacit_api::{Problem, ProblemKind, headers, limits};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest that a worker may take: the longest deadline and some grace.
const CALL_TIMEOUT: Duration = Duration::from_secs(limits::MAX_DEADLINE.as_secs() + 30);

/// Longest that an answer of a model may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Header fields that go on to a worker. Nothing else that a client sends does.
const REQUEST_HEADERS: &[&str] = &[
    "content-type",
    "traceparent",
    "tracestate",
    headers::NONCE,
    headers::DEADLINE,
    headers::WORKER,
    headers::MIN_SEQUENCE,
    headers::IDEMPOTENCY_KEY,
    headers::CALLER,
    headers::SIGNATURE,
    headers::KIND,
];

/// The client that talks to workers and other gateways: no redirects, no proxy.
#[derive(Clone)]
pub(crate) struct Upstream {
    client: reqwest::Client,
}

/// Why nothing came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwardError {
    /// No connection: the worker did not get a byte of the request.
    NotReached,
    /// It took too long; what the worker did is unknown.
    TimedOut,
    /// The connection broke; what the worker did is unknown.
    Broken,
}

impl ForwardError {
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::NotReached => Problem::new(ProblemKind::WorkerUnreachable, "it did not accept a connection")
                .with_hint("ask for the function's workers again and seal to another one"),
            Self::TimedOut => Problem::new(ProblemKind::Timeout, "whether the call ran is unknown")
                .with_hint("send it again with the same idempotency key"),
            Self::Broken => {
                Problem::new(ProblemKind::BadUpstream, "the connection broke; whether the call ran is unknown")
                    .with_hint("send it again with the same idempotency key")
            }
        }
    }
}

impl Upstream {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        // A provider that the program chose before stays; only the first call has an effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(256)
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { client })
    }

    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Posts a call; an answer of any status is an answer.
    pub(crate) async fn post(
        &self,
        url: &str,
        from: &HeaderMap,
        body: Bytes,
    ) -> Result<reqwest::Response, ForwardError> {
        let mut request = self.client.post(url).timeout(CALL_TIMEOUT).body(body);
        for name in REQUEST_HEADERS {
            if let Some(value) = from.get(*name) {
                request = request.header(*name, value);
            }
        }
        request.send().await.map_err(|error| classify(&error))
    }

    /// Posts a request to a model, whose answer may come piece by piece for long.
    pub(crate) async fn ask(
        &self,
        url: &str,
        from: &HeaderMap,
        body: Bytes,
    ) -> Result<reqwest::Response, ForwardError> {
        let mut request = self.client.post(url).timeout(ANSWER_TIMEOUT).body(body);
        if let Some(kind) = from.get(header::CONTENT_TYPE) {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        request.send().await.map_err(|error| classify(&error))
    }

    /// Gets an object of a worker's or gateway's.
    pub(crate) async fn get(&self, url: &str, timeout: Duration) -> Result<reqwest::Response, ForwardError> {
        self.client.get(url).timeout(timeout).send().await.map_err(|error| classify(&error))
    }
}

fn classify(error: &reqwest::Error) -> ForwardError {
    if error.is_connect() {
        ForwardError::NotReached
    } else if error.is_timeout() {
        ForwardError::TimedOut
    } else {
        ForwardError::Broken
    }
}

/// Reads an answer's body, at most `limit` bytes of it.
pub(crate) async fn read_bounded(response: reqwest::Response, limit: usize) -> Result<Bytes, ForwardError> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(ForwardError::Broken);
    }
    let mut bytes = BytesMut::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| classify(&error))?;
        if bytes.len() + chunk.len() > limit {
            return Err(ForwardError::Broken);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// Passes a worker's answer on as it arrives. Past `limit` bytes the answer breaks off, which its reader notices.
pub(crate) fn pass_on(response: reqwest::Response, limit: usize) -> Response<Body> {
    let status = response.status();
    let mut passed = HeaderMap::new();
    for (name, value) in response.headers() {
        if goes_back(name) && value.len() <= 8 * 1024 {
            passed.append(name.clone(), value.clone());
        }
    }
    if let Some(length) = response.content_length() {
        passed.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut sent = 0usize;
    let stream = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(std::io::Error::other)?;
        sent = sent.saturating_add(chunk.len());
        if sent > limit { Err(std::io::Error::other("the answer is too large")) } else { Ok(chunk) }
    });
    let mut answer = Response::new(Body::from_stream(stream));
    *answer.status_mut() = status;
    *answer.headers_mut() = passed;
    answer
}

fn goes_back(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-type" | "retry-after" | "cache-control") || name.as_str().starts_with("tacit-")
}
