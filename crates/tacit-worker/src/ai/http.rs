//! Routes of the AI service.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tacit_api::openai::{ApiError, ErrorKind, MAX_REQUEST};
use tacit_receipt::aci::{
    self, API_VERSION, KEYSET_DIGEST_HEADER, PrefixedDigest, VERSION_HEADER,
    legacy::{self, SigningAlgorithm},
};
use tacit_types::{Address, KeysetDigest};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    attestation::{Attestation, LegacyQuestion},
    endpoint::Endpoint,
    ids::ExchangeId,
    receipts::Kept,
    sealed,
    service::{Ask, Reply, ReplyBody, Service},
};
use crate::keys::Keys;

/// Longest that a client may take to send its request.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest nonce of the interface before ACI.
const MAX_NONCE: usize = 256;

/// What the routes share.
#[derive(Clone)]
pub(crate) struct Surface {
    pub service: Arc<Service>,
    pub attestation: Arc<Attestation>,
}

/// The routes: those that may stand inside a seal, and the one that opens seals.
pub(crate) fn router(surface: Surface) -> Router {
    let inner = routes(surface.clone());
    let keys = Arc::clone(&surface.service.keys);
    let seal = {
        let inner = inner.clone();
        move |headers: HeaderMap, body: Body| seal(keys, inner, headers, body)
    };
    inner.route("/v1/sealed", post(seal))
}

/// What a relay reaches: the report, and what opens seals. No TLS ends here, so nothing else is to be had this way.
#[derive(Clone)]
pub(crate) struct Relayed {
    surface: Surface,
    inner: Router,
}

impl Relayed {
    pub fn new(surface: Surface) -> Self {
        Self { inner: routes(surface.clone()), surface }
    }

    pub async fn report(&self, query: Query<NonceQuery>) -> Response {
        attestation(State(self.surface.clone()), query).await.into_response()
    }

    pub async fn open(&self, headers: HeaderMap, body: Body) -> Response {
        let keys = Arc::clone(&self.surface.service.keys);
        seal(keys, self.inner.clone(), headers, body).await.into_response()
    }
}

fn routes(surface: Surface) -> Router {
    let digest = surface.service.keys.digest;
    let mut router = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .route("/v1/aci/attestation", get(attestation))
        .route("/v1/aci/receipts/{id}", get(receipt))
        .route("/v1/aci/receipts/{id}/log", get(log_proof))
        .route("/v1/aci/sessions", get(sessions))
        .route("/v1/aci/sessions/{id}", get(session))
        .route("/v1/attestation/report", get(legacy_report))
        .route("/v1/signature/{id}", get(legacy_signature))
        .route("/log/{worker}/checkpoint", get(checkpoint))
        .route("/log/{worker}/tile/{*path}", get(tile))
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(metrics));
    for endpoint in Endpoint::ALL {
        let handler = move |State(surface): State<Surface>, headers: HeaderMap, body: Body| async move {
            infer(surface, endpoint, headers, body).await
        };
        router = router.route(endpoint.path(), post(handler));
    }
    router
        .method_not_allowed_fallback(async || ApiError::new(ErrorKind::MethodNotAllowed, "another method"))
        .fallback(async |uri: Uri| ApiError::new(ErrorKind::UnknownUrl, format!("unknown request URL: {}", uri.path())))
        .layer(CatchPanicLayer::custom(|_| ApiError::new(ErrorKind::Internal, "").into_response()))
        .layer(middleware::from_fn(move |request, next| said_by(digest, request, next)))
        .with_state(surface)
}

/// Every response says which version and which keyset it is of.
async fn said_by(digest: KeysetDigest, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(VERSION_HEADER), HeaderValue::from_static(API_VERSION));
    if let Ok(value) = HeaderValue::try_from(PrefixedDigest::from(digest).to_string()) {
        headers.insert(HeaderName::from_static(KEYSET_DIGEST_HEADER), value);
    }
    response
}

async fn infer(surface: Surface, endpoint: Endpoint, headers: HeaderMap, body: Body) -> Response {
    // Nothing is read for who has no key.
    if let Err(error) = surface.service.authenticate(&headers) {
        return error.into_response();
    }
    match read(body, MAX_REQUEST).await {
        Ok(body) => response(surface.service.answer(Ask { endpoint, headers, body }).await),
        Err(error) => error.into_response(),
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::new(ErrorKind::TooLarge, format!("a body has at most {limit} bytes"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(ApiError::new(ErrorKind::Timeout, "the body did not come in time")),
    }
}

fn response(reply: Reply) -> Response {
    let body = match reply.body {
        ReplyBody::Whole(bytes) => Body::from(bytes),
        ReplyBody::Stream(stream) => {
            use futures::StreamExt as _;
            Body::from_stream(stream.map(Ok::<_, std::convert::Infallible>))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    response.headers_mut().extend(reply.headers);
    if response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
    {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

async fn models(State(surface): State<Surface>, headers: HeaderMap) -> Result<Response, ApiError> {
    surface.service.authenticate(&headers)?;
    Ok(axum::Json(surface.service.models()).into_response())
}

async fn model(
    State(surface): State<Surface>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    surface.service.authenticate(&headers)?;
    let found = surface.service.models().data.into_iter().find(|model| model.id == name);
    let model = found.ok_or_else(|| ApiError::new(ErrorKind::UnknownModel, "the model is not offered here"))?;
    Ok(axum::Json(model).into_response())
}

#[derive(Deserialize)]
pub(crate) struct NonceQuery {
    nonce: Option<String>,
}

async fn attestation(State(surface): State<Surface>, Query(query): Query<NonceQuery>) -> Result<Response, ApiError> {
    let nonce = query.nonce.as_deref().map(aci::parse_nonce).transpose();
    let nonce = nonce.map_err(|error| ApiError::new(ErrorKind::Invalid, error.to_string()).at("nonce"))?;
    let report = surface.attestation.report(nonce).await?;
    Ok(json_response(report.to_vec()))
}

async fn kept(surface: &Surface, headers: &HeaderMap, id: &str) -> Result<Kept, ApiError> {
    let credential =
        surface.service.authenticate(headers).map_err(|error| ApiError::new(ErrorKind::Unauthorized, error.message))?;
    let not_found = || ApiError::new(ErrorKind::NotFound, "no such receipt of this key");
    let id = ExchangeId::parse(id).ok_or_else(not_found)?;
    surface.service.receipts.fetch(id, credential).await.ok_or_else(not_found)
}

async fn receipt(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let kept = kept(&surface, &headers, &id).await?;
    Ok(json_response(tacit_types::jcs::to_bytes(&kept.receipt).unwrap_or_default()))
}

async fn log_proof(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let kept = kept(&surface, &headers, &id).await?;
    let not_found = || ApiError::new(ErrorKind::NotFound, "this receipt has no proof");
    Ok(axum::Json(kept.proof.ok_or_else(not_found)?).into_response())
}

/// This service runs its models itself.
async fn sessions() -> Response {
    axum::Json(json!({ "api_version": API_VERSION, "sessions": [] })).into_response()
}

async fn session() -> ApiError {
    ApiError::new(ErrorKind::NotFound, "this service runs its models itself and has no sessions with others")
}

#[derive(Deserialize)]
struct LegacyQuery {
    #[serde(default)]
    signing_algo: SigningAlgorithm,
    nonce: Option<String>,
    signing_address: Option<String>,
    version: Option<u8>,
}

async fn legacy_report(State(surface): State<Surface>, Query(query): Query<LegacyQuery>) -> Result<Response, ApiError> {
    if query.nonce.as_ref().is_some_and(|nonce| nonce.len() > MAX_NONCE) {
        return Err(ApiError::new(ErrorKind::InvalidValue, "the nonce is too long").at("nonce"));
    }
    let question = LegacyQuestion {
        algorithm: query.signing_algo,
        nonce: query.nonce.unwrap_or_else(|| hex::encode(rand::random::<[u8; 32]>())),
        address: query.signing_address,
        version: query.version.unwrap_or(1),
    };
    Ok(axum::Json(surface.attestation.legacy_report(&question).await?).into_response())
}

async fn legacy_signature(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    Query(query): Query<LegacyQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let kept = kept(&surface, &headers, &id).await?;
    let receipt = aci::AciReceipt::from_value(kept.receipt)
        .map_err(|_| ApiError::new(ErrorKind::Internal, "the receipt cannot be read"))?;
    let text = legacy::signature_text(receipt.received(), receipt.returned());
    let key = surface.attestation.legacy_key(query.signing_algo)?;
    Ok(axum::Json(key.sign(text)).into_response())
}

async fn seal(keys: Arc<Keys>, inner: Router, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let body = read(body, MAX_REQUEST + sealed::OVERHEAD).await?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    sealed::answer(&keys, inner, kind, &body).await
}

async fn checkpoint(State(surface): State<Surface>, Path(worker): Path<Address>) -> Response {
    entry(surface.service.log.read(worker, "checkpoint").await, "text/plain; charset=utf-8")
}

async fn tile(State(surface): State<Surface>, Path((worker, path)): Path<(Address, String)>) -> Response {
    entry(surface.service.log.read(worker, &format!("tile/{path}")).await, "application/octet-stream")
}

fn entry(bytes: Option<Vec<u8>>, kind: &'static str) -> Response {
    match bytes {
        Some(bytes) => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
        None => ApiError::new(ErrorKind::NotFound, "no such object of the log").into_response(),
    }
}

async fn metrics(State(surface): State<Surface>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], surface.service.metrics.render()).into_response()
}

fn json_response(bytes: Vec<u8>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}
