//! The worker's HTTP surface.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use bytes::Bytes;
use tacit_api::{Node, Operation, Problem, ProblemKind, headers, limits, outcome_status};
use tacit_types::{Address, CallId, FunctionId};
use tokio::sync::Semaphore;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{Any, CorsLayer},
};

use crate::{
    ai::{NonceQuery, Relayed},
    calls::{Calls, Fields, Way},
    sealed,
    time::now,
};

/// Longest that a client may take to send its request.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest that a call may take: the longest deadline, the longest run, the rounds.
const CALL_TIMEOUT: Duration = Duration::from_secs(limits::MAX_DEADLINE.as_secs() + 630);

/// What the routes share.
#[derive(Clone)]
pub(crate) struct Surface {
    pub calls: Calls,
    pub places: Arc<Semaphore>,
    /// The models, where this worker runs any.
    pub ai: Option<Relayed>,
}

/// The routes of a worker.
pub(crate) fn router(surface: Surface) -> Router {
    let mut open = Router::new();
    let mut closed = Router::new();
    for operation in Operation::of(Node::Worker) {
        let Some(route) = route(operation) else { continue };
        // Plain calls answer browsers of the same origin only.
        if operation == Operation::PlainCall {
            closed = closed.route(operation.path(), route);
        } else {
            open = open.route(operation.path(), route);
        }
    }
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any);
    let not_allowed = async || Problem::new(ProblemKind::MethodNotAllowed, "");
    // What answers a method that a route does not have answers preflights too, so it comes before the layer.
    open.method_not_allowed_fallback(not_allowed)
        .layer(cors)
        .merge(closed.method_not_allowed_fallback(not_allowed))
        .fallback(async || Problem::new(ProblemKind::NotFound, ""))
        .layer(CatchPanicLayer::custom(|_| Problem::new(ProblemKind::Internal, "").into_response()))
        .with_state(surface)
}

fn route(operation: Operation) -> Option<MethodRouter<Surface>> {
    Some(match operation {
        Operation::Identity => get(identity),
        Operation::SealedCall => post(sealed_call),
        Operation::PlainCall => post(plain_call),
        Operation::Receipt => get(receipt),
        Operation::LogCheckpoint => get(checkpoint),
        Operation::LogTile => get(tile),
        Operation::AiAttestation => get(ai_attestation),
        Operation::AiSealed => post(ai_sealed),
        Operation::Health => get(async || "ok\n"),
        Operation::Ready => get(ready),
        Operation::Metrics => get(metrics),
        Operation::Deployment
        | Operation::Function
        | Operation::PutBlob
        | Operation::GetBlob
        | Operation::Workers
        | Operation::AiWorkers
        | Operation::OpenApi
        | Operation::Index => return None,
    })
}

async fn identity(State(surface): State<Surface>) -> Result<Response, Problem> {
    let newest = surface.calls.context.certificates.newest(now());
    let certified = newest.ok_or_else(|| Problem::new(ProblemKind::NotCertified, ""))?;
    let bytes = serde_json::to_vec(&certified.identity()).map_err(|_| Problem::new(ProblemKind::Internal, ""))?;
    Ok(json(bytes.into()))
}

async fn ai_attestation(
    State(surface): State<Surface>,
    Path(worker): Path<Address>,
    query: Query<NonceQuery>,
) -> Result<Response, Problem> {
    Ok(models_of(&surface, worker)?.report(query).await)
}

async fn ai_sealed(
    State(surface): State<Surface>,
    Path(worker): Path<Address>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Ok(models_of(&surface, worker)?.open(headers, body).await)
}

fn models_of(surface: &Surface, worker: Address) -> Result<&Relayed, Problem> {
    let own = surface.ai.as_ref().filter(|_| worker == surface.calls.context.keys.address);
    own.ok_or_else(|| {
        Problem::new(ProblemKind::UnknownWorker, "no models are offered under this worker's account here")
    })
}

async fn sealed_call(
    State(surface): State<Surface>,
    Path(function): Path<String>,
    fields: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let function = parse_function(&function)?;
    if fields.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) != Some(headers::SEALED_REQUEST.as_bytes()) {
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, headers::SEALED_REQUEST));
    }
    if let Some(worker) = fields.get(headers::WORKER)
        && worker.as_bytes() != surface.calls.context.keys.address.to_string().as_bytes()
    {
        return Err(Problem::new(ProblemKind::WrongKey, "it is sealed to another worker"));
    }
    let place = place(&surface)?;
    let body = read(body).await?;
    let calls = surface.calls.clone();
    // A task of its own: a client that goes away does not stop its call half way.
    let answer = finish(async move {
        let _place = place;
        sealed::answer(&calls, function, &body).await
    });
    let sealed = answer.await?;
    let mut response = Response::new(Body::from(sealed));
    set(&mut response, header::CONTENT_TYPE, headers::SEALED_RESPONSE);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    Ok(response)
}

async fn plain_call(
    State(surface): State<Surface>,
    Path((function, method)): Path<(String, String)>,
    fields: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let function = parse_function(&function)?;
    let place = place(&surface)?;
    let mut read_fields = Fields::read(|name| {
        // Outside a seal this header may name the worker that a gateway chose.
        fields
            .get(name)
            .and_then(|value| value.to_str().ok())
            .filter(|value| name != headers::WORKER || value.len() == 66)
    })?;
    if read_fields.signature.is_none() {
        read_fields.certificate = None;
    }
    let body = read(body).await?;
    let calls = surface.calls.clone();
    let answer = finish(async move {
        let _place = place;
        calls.call(Way::Plain, function, &method, body, read_fields).await
    });
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(problem) => {
            surface.calls.context.metrics.calls_refused_total.add(1);
            return Err(problem);
        }
    };
    let mut response = Response::new(Body::from(answer.response));
    *response.status_mut() =
        StatusCode::from_u16(outcome_status(answer.outcome)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set(&mut response, header::CONTENT_TYPE, sealed::content_type(answer.format));
    set(&mut response, header::CACHE_CONTROL, "no-store");
    if let Ok(call) = HeaderValue::from_str(&answer.call_id.to_string()) {
        response.headers_mut().insert(headers::CALL, call);
    }
    if let Some(since) = answer.stale_since {
        response.headers_mut().insert(headers::CONFIRMED, HeaderValue::from(since.0));
    }
    Ok(response)
}

async fn receipt(State(surface): State<Surface>, Path(call): Path<String>) -> Result<Response, Problem> {
    let call: CallId = call.parse().map_err(|_| Problem::new(ProblemKind::InvalidRequest, "not a call's id"))?;
    let bundle = surface.calls.context.receipts.fetch(call).await;
    bundle.map(json).ok_or_else(|| Problem::new(ProblemKind::UnknownReceipt, ""))
}

async fn checkpoint(State(surface): State<Surface>, Path(worker): Path<String>) -> Result<Response, Problem> {
    let mut response = log_object(&surface, &worker, "checkpoint", ProblemKind::UnknownWorker).await?;
    set(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    set(&mut response, header::CACHE_CONTROL, "no-cache");
    Ok(response)
}

async fn tile(
    State(surface): State<Surface>,
    Path((worker, path)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let mut response = log_object(&surface, &worker, &format!("tile/{path}"), ProblemKind::NotFound).await?;
    set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    Ok(response)
}

async fn log_object(surface: &Surface, worker: &str, object: &str, missing: ProblemKind) -> Result<Response, Problem> {
    let worker: Address =
        worker.parse().map_err(|_| Problem::new(ProblemKind::InvalidRequest, "not a worker's address"))?;
    let bytes = surface.calls.context.log.read(worker, object).await;
    bytes.map(|bytes| Response::new(Body::from(bytes))).ok_or_else(|| Problem::new(missing, ""))
}

async fn ready(State(surface): State<Surface>) -> Result<&'static str, Problem> {
    let context = &surface.calls.context;
    if context.certificates.newest(now()).is_none() {
        return Err(Problem::new(ProblemKind::NotCertified, "this worker has no live certificate"));
    }
    Ok("ready\n")
}

async fn metrics(State(surface): State<Surface>) -> Response {
    let mut response = Response::new(Body::from(surface.calls.context.metrics.render()));
    set(&mut response, header::CONTENT_TYPE, "text/plain; version=0.0.4");
    response
}

fn parse_function(text: &str) -> Result<FunctionId, Problem> {
    text.parse().map_err(|_| Problem::new(ProblemKind::InvalidRequest, "not a function's id"))
}

fn place(surface: &Surface) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
    Arc::clone(&surface.places)
        .try_acquire_owned()
        .map_err(|_| Problem::new(ProblemKind::Overloaded, "this worker has as many calls as it may"))
}

/// Reads a request's body: bounded in bytes and time.
async fn read(body: Body) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(ProblemKind::TooLarge, format!("at most {} bytes", limits::MAX_REQUEST));
    // Said before anything is read: a client that is still sending may lose the connection before it reads why.
    if body.size_hint().lower() > limits::MAX_REQUEST as u64 {
        return Err(too_large());
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, limits::MAX_REQUEST)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(current) = cause {
                if current.is::<http_body_util::LengthLimitError>() {
                    return Err(too_large());
                }
                cause = current.source();
            }
            Err(Problem::new(ProblemKind::InvalidRequest, "the body broke off"))
        }
        Err(_) => Err(Problem::new(ProblemKind::InvalidRequest, "the body took too long")),
    }
}

async fn finish<T: Send + 'static>(
    call: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::time::timeout(CALL_TIMEOUT, tokio::spawn(call)).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Problem::new(ProblemKind::Internal, "the call broke off")),
        Err(_) => Err(Problem::new(ProblemKind::Timeout, "whether the call ran is unknown")),
    }
}

fn json(bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    set(&mut response, header::CONTENT_TYPE, "application/json");
    response
}

fn set(response: &mut Response, name: header::HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}
