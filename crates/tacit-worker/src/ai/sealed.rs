//! Requests that are sealed as a whole (Oblivious HTTP): whoever passes them on sees neither what is asked, nor of which model,
//! nor with which key. Inside the seal is one request to the routes of this service.

use std::sync::LazyLock;

use axum::{Router, body::Body, http::Request, response::Response};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use tacit_api::openai::{ApiError, ErrorKind, MAX_REQUEST};
use tacit_envelope::{
    self as envelope, CHUNKED_REQUEST_MEDIA_TYPE, CHUNKED_RESPONSE_MEDIA_TYPE, EnvelopeError, Fields, Limits,
    MAX_CHUNK, REQUEST_MEDIA_TYPE, RESPONSE_MEDIA_TYPE, ResponseChunkSealer,
};
use tower::ServiceExt as _;

use crate::keys::Keys;

/// Bytes that a seal and the form of the message add at most.
pub(crate) const OVERHEAD: usize = 256 << 10;
/// Authority of requests inside a seal.
pub(crate) const AUTHORITY: &str = "inference";

/// Bounds inside a seal.
static LIMITS: LazyLock<Limits> = LazyLock::new(|| Limits {
    control: 1_024,
    headers: 16 << 10,
    trailers: 0,
    fields: 64,
    body: MAX_REQUEST,
    informational: 0,
});

/// Opens a request, gives it to `inner`, and seals the response: in chunks, as they are made, if the request was.
///
/// # Errors
/// Said outside the seal: nothing could be sealed.
pub(crate) async fn answer(keys: &Keys, inner: Router, media_type: &str, sealed: &[u8]) -> Result<Response, ApiError> {
    match media_type {
        REQUEST_MEDIA_TYPE => whole(keys, inner, sealed).await,
        CHUNKED_REQUEST_MEDIA_TYPE => chunked(keys, inner, sealed).await,
        _ => Err(ApiError::new(
            ErrorKind::Invalid,
            format!("the content type is neither {REQUEST_MEDIA_TYPE} nor {CHUNKED_REQUEST_MEDIA_TYPE}"),
        )),
    }
}

async fn whole(keys: &Keys, inner: Router, sealed: &[u8]) -> Result<Response, ApiError> {
    let (plain, sealer) = keys.ohttp.open_request(sealed).map_err(|error| unreadable(&error))?;
    let response = pass(inner, &plain).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|_| internal())?.to_bytes();
    let mut message = envelope::Response::new(parts.status.as_u16()).body(body.to_vec());
    message.headers = fields(&parts.headers);
    let plain = message.encode().map_err(|_| internal())?;
    let sealed = sealer.seal(&mut rand::rng(), &plain).map_err(|_| internal())?;
    Ok(outer(RESPONSE_MEDIA_TYPE, Body::from(sealed)))
}

async fn chunked(keys: &Keys, inner: Router, sealed: &[u8]) -> Result<Response, ApiError> {
    let cut = || unreadable(&EnvelopeError::Truncated("encapsulated key"));
    let (start, rest) = sealed.split_at_checked(keys.ohttp.chunked_start_length()).ok_or_else(cut)?;
    let mut opener = keys.ohttp.open_chunked_request(start).map_err(|error| unreadable(&error))?;
    let mut plain = opener.push(rest).map_err(|error| unreadable(&error))?;
    let (last, nonce, sealer) = opener.finish(&mut rand::rng()).map_err(|error| unreadable(&error))?;
    plain.extend(last);
    let response = pass(inner, &plain).await;
    let (parts, body) = response.into_parts();
    let head = envelope::response_start(parts.status.as_u16(), &fields(&parts.headers)).map_err(|_| internal())?;
    let first = Bytes::from(nonce);
    let state = Sealing { sealer: Some(sealer), head: Some(head), body };
    let chunks = futures::stream::unfold(state, |mut state| async move {
        let chunk = state.next().await?;
        Some((chunk, state))
    });
    let stream = futures::stream::once(async move { Ok(first) }).chain(chunks);
    Ok(outer(CHUNKED_RESPONSE_MEDIA_TYPE, Body::from_stream(stream)))
}

/// A response that is being sealed.
struct Sealing {
    sealer: Option<ResponseChunkSealer>,
    head: Option<Vec<u8>>,
    body: Body,
}

impl Sealing {
    /// The next sealed bytes. A body that breaks off gets no final chunk: whoever opens it sees that it was cut.
    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        // A body is not asked again after its end.
        self.sealer.as_ref()?;
        let mut plain = match self.head.take() {
            Some(head) => head,
            None => match self.body.frame().await {
                Some(Ok(frame)) => envelope::response_piece(&frame.into_data().unwrap_or_default()),
                Some(Err(error)) => {
                    self.sealer = None;
                    return Some(Err(std::io::Error::other(error)));
                }
                None => {
                    let end = envelope::response_end(&Fields::new()).ok()?;
                    let sealed = self.sealer.take()?.finish(&end);
                    return Some(sealed.map(Bytes::from).map_err(std::io::Error::other));
                }
            },
        };
        let sealer = self.sealer.as_mut()?;
        let mut sealed = Vec::with_capacity(plain.len() + 64);
        while !plain.is_empty() {
            let rest = plain.split_off(plain.len().min(MAX_CHUNK));
            match sealer.seal(&plain) {
                Ok(chunk) => sealed.extend(chunk),
                Err(error) => return Some(Err(std::io::Error::other(error))),
            }
            plain = rest;
        }
        Some(Ok(sealed.into()))
    }
}

/// Gives a request from inside a seal to the routes. What is wrong with it is said inside the seal.
async fn pass(inner: Router, plain: &[u8]) -> Response {
    match request(plain) {
        Ok(request) => match inner.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Err(error) => axum::response::IntoResponse::into_response(error),
    }
}

fn request(plain: &[u8]) -> Result<Request<Body>, ApiError> {
    let request = envelope::Request::decode(plain, &LIMITS).map_err(|error| match error {
        EnvelopeError::TooLarge { .. } => ApiError::new(ErrorKind::TooLarge, error.to_string()),
        _ => ApiError::new(ErrorKind::Invalid, error.to_string()),
    })?;
    let invalid = |message: &str| ApiError::new(ErrorKind::Invalid, message);
    if request.scheme != "https" || request.authority != AUTHORITY || !request.path.starts_with("/v1/") {
        return Err(invalid("the request inside the seal is not for https://inference/v1/"));
    }
    // A repeated field would let two readers see two values.
    let mut builder = Request::builder().method(request.method.as_str()).uri(request.path.as_str());
    let mut seen = Vec::new();
    for (name, value) in request.headers.iter() {
        if seen.contains(&name) {
            return Err(invalid("a field is repeated"));
        }
        seen.push(name);
        builder = builder.header(name, value);
    }
    builder.body(Body::from(request.body)).map_err(|_| invalid("the request inside the seal is not one of HTTP"))
}

fn fields(headers: &http::HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in headers {
        fields.push(name.as_str(), value.as_bytes());
    }
    fields
}

fn outer(media_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn unreadable(error: &EnvelopeError) -> ApiError {
    ApiError::new(ErrorKind::Invalid, format!("the seal does not open: {error}"))
}

fn internal() -> ApiError {
    ApiError::new(ErrorKind::Internal, "the response cannot be sealed")
}
