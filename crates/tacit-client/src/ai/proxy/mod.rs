//! A local endpoint of the OpenAI interface for programs that know nothing of proofs: every request goes through
//! [`AiClient::send`], and what does not hold is an error.
//!
//! It listens on loopback; elsewhere only with a key of its own that callers must present. Web pages cannot use it: a request with
//! a foreign `Origin`, or for another host than it listens on, is refused. Its log names no content.

mod guard;
mod hold;
mod status;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use zeroize::Zeroizing;

use super::{AiAnswer, AiClient, AiError, AiRequest, MAX_REQUEST};
use guard::Guard;
use hold::EventHold;

/// Response header with the verdict about the answer: `verified`, `simulated` (under a simulated root that the policy names),
/// `unproven` (out of the seal of a verified node, without a receipt), `pending` (a stream: the verdict is in the trailer).
pub const VERDICT_HEADER: &str = "x-tacit-verdict";
/// Requests that are under way at the same time.
const MOST_REQUESTS: usize = 64;
/// Longest that a caller may take to send its request.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// Header fields of the node's answer that are about its own connection.
const OWN_FIELDS: [&str; 6] =
    ["connection", "content-length", "date", "transfer-encoding", "trailer", "access-control-allow-origin"];

/// How a proxy listens.
pub struct ProxySettings {
    /// The address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A key that callers must present as bearer token; needed on any address but loopback.
    pub local_key: Option<Zeroizing<String>>,
}

/// A proxy that listens. Dropping it ends it.
pub struct Proxy {
    address: SocketAddr,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    client: AiClient,
    guard: Arc<Guard>,
    places: Arc<Semaphore>,
}

impl Proxy {
    /// Starts a proxy in front of a client's node.
    ///
    /// # Errors
    /// [`AiError::Request`] for an address that is not loopback without a key, [`AiError::Listen`].
    pub async fn start(client: AiClient, settings: ProxySettings) -> Result<Self, AiError> {
        if !settings.listen.ip().is_loopback() && settings.local_key.is_none() {
            return Err(AiError::Request("the address can be reached from elsewhere; callers must then present a key"));
        }
        let failed = |source| AiError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let guard = Arc::new(Guard::new(address, settings.local_key));
        let shared = Shared { client, guard, places: Arc::new(Semaphore::new(MOST_REQUESTS)) };
        let router = Router::new()
            .route("/tacit/status", get(show_status))
            .route("/healthz", get(async || "ok\n"))
            .fallback(pass)
            .with_state(shared);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the proxy does not listen any more");
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn show_status(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    match shared.guard.check(&headers) {
        Ok(()) => axum::Json(status::of(&shared.client).await).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn pass(State(shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let response = answer(shared, request).await.unwrap_or_else(IntoResponse::into_response);
    let verdict = response.headers().get(VERDICT_HEADER).and_then(|value| value.to_str().ok()).unwrap_or("refused");
    tracing::info!(%method, path, status = response.status().as_u16(), verdict, "answered");
    response
}

async fn answer(shared: Shared, request: Request) -> Result<Response, Refusal> {
    shared.guard.check(request.headers())?;
    let place = Arc::clone(&shared.places).try_acquire_owned();
    let place = place.map_err(|_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many requests"))?;
    let asked = read(request).await?;
    let answer = shared.client.send(asked).await?;
    if answer.is_stream() { Ok(streamed(answer, place)) } else { whole(answer).await }
}

/// Reads a caller's request.
async fn read(request: Request) -> Result<AiRequest, Refusal> {
    let invalid = |message: &str| Refusal::new(StatusCode::BAD_REQUEST, "invalid_request", message);
    let (parts, body) = request.into_parts();
    if parts.headers.keys().any(|name| name.as_str().starts_with("x-e2ee-") || name == "x-signing-algo") {
        return Err(invalid("requests are sealed as a whole here; do not seal single fields besides"));
    }
    let path = parts.uri.path_and_query().map_or(parts.uri.path(), |path| path.as_str()).to_owned();
    let body = tokio::time::timeout(BODY_PATIENCE, Limited::new(body, MAX_REQUEST).collect()).await;
    let body =
        body.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come in time"))?;
    let body = body.map_err(|_| {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "the body is larger than a node takes")
    })?;
    let mut asked = match parts.method.as_str() {
        "GET" => AiRequest::get(path),
        "POST" => AiRequest::post(path, body.to_bytes()),
        _ => return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_supported", "only GET and POST")),
    };
    for name in ["content-type", "accept"] {
        if let Some(value) = parts.headers.get(name).and_then(|value| value.to_str().ok()) {
            asked = asked.header(name, value);
        }
    }
    Ok(asked)
}

/// An answer that is given only when it is proven.
async fn whole(mut answer: AiAnswer) -> Result<Response, Refusal> {
    let mut response = begin(&answer);
    let body = answer.rest().await?;
    let proof = answer.finish().await?;
    let verdict = proof.map_or("unproven", |proof| proof.verdict());
    response.headers_mut().insert(VERDICT_HEADER, HeaderValue::from_static(verdict));
    *response.body_mut() = Body::from(body);
    Ok(response)
}

/// Status and header fields of the node's answer.
fn begin(answer: &AiAnswer) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in answer.headers().iter().filter(|(name, _)| !OWN_FIELDS.contains(name)) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// An answer that is passed on as it arrives, but for its last event, which waits for the proof.
fn streamed(answer: AiAnswer, place: OwnedSemaphorePermit) -> Response {
    let mut response = begin(&answer);
    let headers = response.headers_mut();
    headers.insert(VERDICT_HEADER, HeaderValue::from_static("pending"));
    headers.insert(header::TRAILER, HeaderValue::from_static(VERDICT_HEADER));
    let state = Streaming { answer: Some(answer), hold: EventHold::default(), then: Vec::new(), _place: place };
    let frames = stream::unfold(state, |mut state| async move {
        let frame = state.next().await?;
        Some((frame, state))
    });
    *response.body_mut() = Body::new(StreamBody::new(frames));
    response
}

type StreamFrame = Result<Frame<Bytes>, std::io::Error>;

struct Streaming {
    answer: Option<AiAnswer>,
    hold: EventHold,
    /// What is still to be said after the answer, last first.
    then: Vec<StreamFrame>,
    _place: OwnedSemaphorePermit,
}

impl Streaming {
    async fn next(&mut self) -> Option<StreamFrame> {
        loop {
            let Some(answer) = &mut self.answer else {
                let next = self.then.pop();
                if matches!(next, Some(Err(_))) {
                    // The server writes what it has while a body has nothing more: before it breaks, the error is on its way.
                    tokio::task::yield_now().await;
                }
                return next;
            };
            match answer.next().await {
                Ok(Some(piece)) => {
                    let ready = self.hold.push(&piece);
                    if !ready.is_empty() {
                        return Some(Ok(Frame::data(ready.into())));
                    }
                }
                Ok(None) => {
                    let ended = self.answer.take()?.finish().await;
                    self.end(ended.map(|proof| proof.map_or("unproven", |proof| proof.verdict())));
                }
                Err(error) => {
                    self.answer = None;
                    self.end(Err(error));
                }
            }
        }
    }

    fn end(&mut self, ended: Result<&'static str, AiError>) {
        match ended {
            Ok(verdict) => {
                let trailers = HeaderMap::from_iter([(
                    HeaderName::from_static(VERDICT_HEADER),
                    HeaderValue::from_static(verdict),
                )]);
                self.then.push(Ok(Frame::trailers(trailers)));
                let held = self.hold.finish();
                if !held.is_empty() {
                    self.then.push(Ok(Frame::data(held.into())));
                }
            }
            Err(error) => {
                // An event that says why, and then no proper end: clients must not take the stream for complete.
                let refusal = Refusal::from(error);
                tracing::warn!(code = refusal.code, "a stream does not hold");
                self.then.push(Err(std::io::Error::other("the answer does not hold")));
                self.then.push(Ok(Frame::data(format!("data: {}\n\n", refusal.body()).into())));
            }
        }
    }
}

/// Why a caller gets no answer.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn body(&self) -> serde_json::Value {
        json!({ "error": { "message": self.message, "type": "tacit_proxy", "code": self.code, "param": null } })
    }
}

impl From<AiError> for Refusal {
    fn from(error: AiError) -> Self {
        let (status, code) = match &error {
            AiError::Request(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            AiError::Node(_) | AiError::Document(_) | AiError::Evidence(_) | AiError::Keyset(_) => {
                (StatusCode::BAD_GATEWAY, "node_not_verified")
            }
            AiError::Model { .. } | AiError::UnknownModel => (StatusCode::BAD_GATEWAY, "model_not_pinned"),
            AiError::Receipt(_) | AiError::NoReceipt | AiError::OtherExchange(_) | AiError::Log(_) => {
                (StatusCode::BAD_GATEWAY, "receipt_not_verified")
            }
            AiError::Cut { .. } | AiError::Tampered(_) => (StatusCode::BAD_GATEWAY, "answer_cut"),
            AiError::Store { .. } => (StatusCode::BAD_GATEWAY, "transcript_not_kept"),
            _ => (StatusCode::BAD_GATEWAY, "node_unreachable"),
        };
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self { status, code, message }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.body()).into_response();
        *response.status_mut() = self.status;
        response.headers_mut().insert(VERDICT_HEADER, HeaderValue::from_static("refused"));
        response
    }
}
