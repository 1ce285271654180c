//! What each route does. The router is made from [`Operation`], so that it has exactly the routes that are documented.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path, Query, RawQuery, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use tacit_api::{
    AiWorkers, FunctionAnswer, Node, Operation, Problem, ProblemKind, calls, headers, identity, limits, openapi,
};
use tacit_ledger::Ledger;
use tacit_receipt::TileId;
use tacit_types::{Address, CallId, ClusterId, Digest, FunctionId};
use tokio::{sync::Semaphore, task::JoinSet};
use tower_http::{catch_panic::CatchPanicLayer, cors};

use crate::{
    blobs::Blobs,
    directory::{Directory, Worker},
    forward::{ForwardError, Upstream, pass_on, read_bounded},
    functions::Functions,
    limiter::Limiter,
    metrics::Metrics,
};

/// Longest that a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an attestation report, of a sealed request to a model, and of its answer.
const MAX_REPORT: usize = 2 << 20;
const MAX_AI_REQUEST: usize = tacit_api::openai::MAX_REQUEST + (256 << 10);
const MAX_AI_RESPONSE: usize = 64 << 20;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Unit in which the memory for bodies is counted.
const BODY_UNIT: usize = 64 << 10;

/// Everything that the routes share.
pub(crate) struct App {
    pub(crate) cluster: ClusterId,
    pub(crate) network: String,
    pub(crate) simulated: bool,
    pub(crate) deployment: Bytes,
    pub(crate) ledger: Ledger,
    pub(crate) directory: Directory,
    pub(crate) functions: Functions,
    pub(crate) blobs: Blobs,
    pub(crate) peers: Vec<String>,
    pub(crate) upstream: Upstream,
    pub(crate) limiter: Limiter,
    pub(crate) metrics: Metrics,
    pub(crate) body_memory: Arc<Semaphore>,
}

type Shared = State<Arc<App>>;

/// Units of body memory for that many bytes.
pub(crate) fn body_units(bytes: usize) -> usize {
    bytes.div_ceil(BODY_UNIT)
}

/// The gateway's router.
pub(crate) fn router(app: Arc<App>) -> Router {
    let cors = cors::CorsLayer::new()
        .allow_origin(cors::Any)
        .allow_methods([http::Method::GET, http::Method::PUT, http::Method::POST])
        .allow_headers(cors::Any)
        .expose_headers([header::RETRY_AFTER])
        .max_age(Duration::from_secs(3600));
    let not_allowed = || async { Problem::new(ProblemKind::MethodNotAllowed, "see /openapi.json") };
    let (mut open, mut closed) = (Router::new(), Router::new());
    for operation in Operation::of(Node::Gateway) {
        let counted = middleware::from_fn_with_state((app.clone(), operation), count);
        let method = handler(operation).route_layer(counted);
        // A plain call acts with whatever the caller's browser knows: other origins must not read its answer.
        if operation == Operation::PlainCall {
            closed = closed.route(operation.path(), method);
        } else {
            open = open.route(operation.path(), method);
        }
    }
    // What answers a method that a route does not have answers preflights too, so it comes before the layer.
    open.method_not_allowed_fallback(not_allowed)
        .layer(cors)
        .merge(closed.method_not_allowed_fallback(not_allowed))
        .fallback(|| async { Problem::new(ProblemKind::NotFound, "see /openapi.json for what there is") })
        .layer(middleware::from_fn_with_state(app.clone(), admit))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Problem::new(ProblemKind::Internal, "the gateway failed on this request").into_response()
        }))
        .with_state(app)
}

fn handler(operation: Operation) -> MethodRouter<Arc<App>> {
    let filter = MethodFilter::try_from(operation.method()).expect("every operation has a usual method");
    match operation {
        Operation::Deployment => on(filter, deployment),
        Operation::Function => on(filter, function),
        Operation::PutBlob => on(filter, put_blob),
        Operation::GetBlob => on(filter, get_blob),
        Operation::Workers => on(filter, workers),
        Operation::SealedCall => on(filter, sealed_call),
        Operation::PlainCall => on(filter, plain_call),
        Operation::Receipt => on(filter, receipt),
        Operation::LogCheckpoint => on(filter, log_checkpoint),
        Operation::LogTile => on(filter, log_tile),
        Operation::AiWorkers => on(filter, ai_workers),
        Operation::AiAttestation => on(filter, ai_attestation),
        Operation::AiSealed => on(filter, ai_sealed),
        Operation::Health => on(filter, || async { "alive\n" }),
        Operation::Ready => on(filter, ready),
        Operation::Metrics => on(filter, metrics),
        Operation::OpenApi => {
            on(filter, || async { ([(header::CONTENT_TYPE, "application/json")], openapi::document_json()) })
        }
        Operation::Index => on(filter, index),
        Operation::Identity => unreachable!("only workers have an identity document"),
    }
}

/// Counts the answer.
async fn count(State((app, operation)): State<(Arc<App>, Operation)>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    app.metrics.answered(operation, response.status());
    response
}

/// Takes one of the client's tokens.
async fn admit(State(app): Shared, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<SocketAddr>().map_or(IpAddr::from([0, 0, 0, 0]), SocketAddr::ip);
    match app.limiter.admit(client, Instant::now()) {
        Ok(()) => next.run(request).await,
        Err(wait) => {
            app.metrics.limited.fetch_add(1, Ordering::Relaxed);
            let seconds = wait.as_secs() as u32 + 1;
            Problem::new(ProblemKind::RateLimited, "this address has used up its share for the moment")
                .with_retry_after(seconds)
                .into_response()
        }
    }
}

async fn deployment(State(app): Shared) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], app.deployment.clone())
}

async fn function(State(app): Shared, Path(id): Path<String>) -> Result<Response, Problem> {
    let record = app.functions.fetch(&app.ledger, parse_function(&id)?).await?;
    Ok(axum::Json(record).into_response())
}

async fn workers(State(app): Shared, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = parse_function(&id)?;
    let function = app.functions.fetch(&app.ledger, id).await?;
    let workers: Vec<_> =
        app.directory.ordered(id).into_iter().take(limits::MAX_WORKERS).map(|worker| worker.identity.clone()).collect();
    if workers.is_empty() {
        return Err(no_worker());
    }
    let answer = FunctionAnswer { version: identity::VERSION, function, workers };
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response())
}

#[derive(Deserialize)]
struct LocalOnly {
    /// Set by a gateway that asks its peer, so that two gateways do not ask each other for ever.
    #[serde(default)]
    local: bool,
}

async fn put_blob(State(app): Shared, Path(digest): Path<String>, request: Request) -> Result<StatusCode, Problem> {
    let digest: Digest = parse(&digest, "a blob's address is 0x and the 64 hex digits of its SHA-256")?;
    let (bytes, _memory) = read_body(&app, request, limits::MAX_BLOB).await?;
    app.blobs.write(digest, bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn get_blob(
    State(app): Shared,
    Path(digest): Path<String>,
    Query(only): Query<LocalOnly>,
) -> Result<Response, Problem> {
    let digest: Digest = parse(&digest, "a blob's address is 0x and the 64 hex digits of its SHA-256")?;
    let bytes = match app.blobs.read(digest).await? {
        Some(bytes) => bytes,
        None if only.local => return Err(unknown_blob(digest)),
        None => fetch_from_peers(&app, digest).await.ok_or_else(|| unknown_blob(digest))?,
    };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
    ];
    Ok((headers, bytes).into_response())
}

fn unknown_blob(digest: Digest) -> Problem {
    Problem::new(ProblemKind::UnknownBlob, digest.to_string())
}

/// Asks the other gateways and keeps what one of them has.
async fn fetch_from_peers(app: &App, digest: Digest) -> Option<Bytes> {
    for peer in &app.peers {
        let url = format!("{peer}/v1/blobs/{digest}?local=true");
        let Ok(response) = app.upstream.get(&url, LOOKUP_TIMEOUT).await else { continue };
        if !response.status().is_success() {
            continue;
        }
        let Ok(bytes) = read_bounded(response, limits::MAX_BLOB).await else { continue };
        match app.blobs.write(digest, bytes.clone()).await {
            Ok(()) => return Some(bytes),
            // Without room the right bytes are still passed on; wrong bytes never are.
            Err(problem) if problem.kind != ProblemKind::DigestMismatch => return Some(bytes),
            Err(_) => tracing::warn!(%peer, %digest, "a gateway sent other bytes than were asked for"),
        }
    }
    None
}

async fn sealed_call(
    State(app): Shared,
    Path(id): Path<String>,
    Query(query): Query<Chosen>,
    request: Request,
) -> Result<Response, Problem> {
    let id = parse_function(&id)?;
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !matches!(media_type, Some(headers::SEALED_REQUEST | headers::SEALED_CHUNKED_REQUEST)) {
        return Err(Problem::new(
            ProblemKind::UnsupportedMediaType,
            format!("a sealed call has the media type {}", headers::SEALED_REQUEST),
        )
        .with_hint("an unsealed call goes to /f/{id}/{method}, where the manifest allows it"));
    }
    let chosen = query.address(request.headers())?;
    let fields = request.headers().clone();
    let (body, _memory) = read_body(&app, request, limits::MAX_REQUEST).await?;
    forward(&app, id, chosen, &format!("/f/{id}"), &fields, body, false).await
}

async fn plain_call(
    State(app): Shared,
    Path((id, method)): Path<(String, String)>,
    Query(query): Query<Chosen>,
    request: Request,
) -> Result<Response, Problem> {
    let id = parse_function(&id)?;
    if !calls::is_method_name(&method) {
        return Err(Problem::new(
            ProblemKind::InvalidRequest,
            "a method's name is a letter, then letters, digits and underscores",
        ));
    }
    let chosen = query.address(request.headers())?;
    let fields = request.headers().clone();
    let (body, _memory) = read_body(&app, request, limits::MAX_REQUEST).await?;
    forward(&app, id, chosen, &format!("/f/{id}/{method}"), &fields, body, true).await
}

/// The worker that a request is sealed to, as its sender says.
#[derive(Deserialize)]
struct Chosen {
    #[serde(rename = "tacit-worker")]
    worker: Option<String>,
}

impl Chosen {
    fn address(&self, fields: &HeaderMap) -> Result<Option<Address>, Problem> {
        let header = fields.get(headers::WORKER).map(|value| value.to_str().unwrap_or("?"));
        let Some(text) = header.or(self.worker.as_deref()) else { return Ok(None) };
        match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(error) => Err(Problem::new(ProblemKind::InvalidHeader, format!("{}: {error}", headers::WORKER))
                .with_hint("it is the address of the worker's receipt key: 0x and 40 lower-case hex digits")),
        }
    }
}

/// Sends a call to its worker. Another one is tried only while no worker has got a byte, or, for a call without a seal,
/// when a worker says that it does not hold the function's lease: nothing ran then.
async fn forward(
    app: &App,
    id: FunctionId,
    chosen: Option<Address>,
    path: &str,
    fields: &HeaderMap,
    body: Bytes,
    any_worker: bool,
) -> Result<Response, Problem> {
    // The worker decides; this only keeps requests for functions that do not exist away from it.
    if let Err(problem) = app.functions.fetch(&app.ledger, id).await
        && problem.kind == ProblemKind::UnknownFunction
    {
        return Err(problem);
    }
    let candidates: Vec<Arc<Worker>> = match chosen {
        Some(address) => match app.directory.worker(address) {
            Some(worker) => vec![worker],
            None if app.directory.endpoint(address).is_some() => return Err(ForwardError::NotReached.problem()),
            None => {
                return Err(Problem::new(ProblemKind::UnknownWorker, address.to_string())
                    .with_hint("ask for the function's workers again and seal to one of them"));
            }
        },
        None => app.directory.ordered(id),
    };
    let mut last = None;
    for worker in candidates {
        let url = format!("{}{path}", worker.endpoint);
        match app.upstream.post(&url, fields, body.clone()).await {
            Ok(response) => {
                app.metrics.forwarded_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
                if any_worker && response.status() == StatusCode::CONFLICT {
                    let bytes = read_bounded(response, limits::MAX_PROBLEM).await.map_err(ForwardError::problem)?;
                    let problem = Problem::from_json(&bytes).unwrap_or_else(|_| {
                        Problem::new(ProblemKind::BadUpstream, "the worker answered 409 without saying why")
                    });
                    if problem.kind != ProblemKind::NotHolder {
                        return Err(problem);
                    }
                    last = Some(problem);
                    continue;
                }
                return Ok(pass_on(response, limits::MAX_RESPONSE));
            }
            Err(error) => {
                let problem = error.problem();
                if error != ForwardError::NotReached {
                    return Err(problem);
                }
                app.metrics.unreachable.fetch_add(1, Ordering::Relaxed);
                app.directory.lost(worker.address());
                last = Some(problem);
            }
        }
    }
    Err(last.unwrap_or_else(no_worker))
}

fn no_worker() -> Problem {
    Problem::new(ProblemKind::NoWorker, "no certified worker answers at the moment")
        .with_hint("try again in a moment, or through another gateway; `tacit status` shows the workers")
}

/// Asks all live workers at once; the first that has the receipt answers.
async fn receipt(State(app): Shared, Path(call): Path<String>) -> Result<Response, Problem> {
    let call: CallId = parse(&call, "a call's id is 0x and 64 hex digits")?;
    let mut asked = JoinSet::new();
    for worker in app.directory.live().into_iter().take(limits::MAX_WORKERS) {
        let upstream = app.upstream.clone();
        asked.spawn(async move {
            let response =
                upstream.get(&format!("{}/v1/receipts/{call}", worker.endpoint), LOOKUP_TIMEOUT).await.ok()?;
            if !response.status().is_success() {
                return None;
            }
            read_bounded(response, limits::MAX_BUNDLE).await.ok()
        });
    }
    while let Some(answer) = asked.join_next().await {
        if let Ok(Some(bytes)) = answer {
            return Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response());
        }
    }
    Err(Problem::new(ProblemKind::UnknownReceipt, call.to_string()))
}

async fn log_checkpoint(State(app): Shared, Path(worker): Path<String>) -> Result<Response, Problem> {
    log_object(&app, &worker, "checkpoint").await
}

async fn log_tile(State(app): Shared, Path((worker, path)): Path<(String, String)>) -> Result<Response, Problem> {
    let path = format!("tile/{path}");
    if TileId::parse(&path).is_none() {
        return Err(Problem::new(ProblemKind::InvalidRequest, "not the path of a tile"));
    }
    log_object(&app, &worker, &path).await
}

async fn log_object(app: &App, worker: &str, object: &str) -> Result<Response, Problem> {
    let address: Address = parse(worker, "a worker's address is 0x and 40 hex digits")?;
    let endpoint =
        app.directory.endpoint(address).ok_or_else(|| Problem::new(ProblemKind::UnknownWorker, address.to_string()))?;
    let response = app
        .upstream
        .get(&format!("{endpoint}/log/{address}/{object}"), LOOKUP_TIMEOUT)
        .await
        .map_err(ForwardError::problem)?;
    Ok(pass_on(response, limits::MAX_LOG_OBJECT))
}

async fn ai_workers(State(app): Shared) -> Response {
    let live = app.directory.live().into_iter();
    let workers = live.filter(|worker| worker.identity.runs_models()).map(|worker| worker.address());
    let answer = AiWorkers { version: identity::VERSION, workers: workers.take(limits::MAX_WORKERS).collect() };
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response()
}

async fn ai_attestation(
    State(app): Shared,
    Path(worker): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let worker = ai_worker(&app, &worker)?;
    let nonce = query.as_deref().unwrap_or_default();
    let is_nonce = |digits: &str| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !nonce.is_empty() && !nonce.strip_prefix("nonce=").is_some_and(is_nonce) {
        return Err(Problem::new(ProblemKind::InvalidRequest, "a nonce is 64 hex digits"));
    }
    let url = format!("{}/ai/{}/v1/aci/attestation?{nonce}", worker.endpoint, worker.address());
    let response = app.upstream.get(&url, LOOKUP_TIMEOUT).await.map_err(ForwardError::problem)?;
    Ok(pass_on(response, MAX_REPORT))
}

/// Passes a sealed request on to the worker that it is sealed to, and the sealed answer back as it is made.
async fn ai_sealed(State(app): Shared, Path(worker): Path<String>, request: Request) -> Result<Response, Problem> {
    let worker = ai_worker(&app, &worker)?;
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !matches!(media_type, Some(headers::SEALED_REQUEST | headers::SEALED_CHUNKED_REQUEST)) {
        let detail = format!("a sealed request has the media type {}", headers::SEALED_CHUNKED_REQUEST);
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail)
            .with_hint("nothing goes through a gateway in the clear; `tacit proxy` seals for a client that cannot"));
    }
    let fields = request.headers().clone();
    let (body, _memory) = read_body(&app, request, MAX_AI_REQUEST).await?;
    let url = format!("{}/ai/{}/v1/sealed", worker.endpoint, worker.address());
    let response = app.upstream.ask(&url, &fields, body).await.map_err(|error| {
        if error == ForwardError::NotReached {
            app.directory.lost(worker.address());
        }
        error.problem()
    })?;
    Ok(pass_on(response, MAX_AI_RESPONSE))
}

fn ai_worker(app: &App, address: &str) -> Result<Arc<Worker>, Problem> {
    let address: Address = parse(address, "a worker's address is 0x and 40 hex digits")?;
    let worker = app.directory.worker(address).filter(|worker| worker.identity.runs_models());
    worker.ok_or_else(|| {
        Problem::new(ProblemKind::UnknownWorker, address.to_string()).with_hint("/ai lists the workers that run models")
    })
}

async fn ready(State(app): Shared) -> Result<&'static str, Problem> {
    if !app.directory.chain_answers() {
        return Err(Problem::new(ProblemKind::ChainUnavailable, "the last look at the home chain failed"));
    }
    if app.directory.live().is_empty() {
        return Err(no_worker());
    }
    Ok("ready\n")
}

async fn metrics(State(app): Shared) -> impl IntoResponse {
    let text = app.metrics.render(app.directory.live().len(), app.blobs.used());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn index(State(app): Shared) -> String {
    let root = if app.simulated {
        "SIMULATED hardware: the protocol is real, the protection by hardware is not"
    } else {
        "hardware roots"
    };
    format!(
        "tacit gateway\nnetwork {}\ncluster {}\n{root}\n\nThis gateway is not trusted: compare the cluster id with one from elsewhere and verify workers before sealing.\nroutes: /openapi.json\n",
        app.network, app.cluster
    )
}

/// Reads a body of at most `limit` bytes within the gateway's memory for bodies, which is held until the permit is dropped.
async fn read_body(
    app: &App,
    request: Request,
    limit: usize,
) -> Result<(Bytes, tokio::sync::OwnedSemaphorePermit), Problem> {
    let too_large = || {
        Problem::new(ProblemKind::TooLarge, format!("at most {limit} bytes are taken here"))
            .with_hint("send less, or split it")
    };
    let declared = content_length(request.headers())?;
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let units = body_units(declared.unwrap_or(limit)) as u32;
    let memory = app
        .body_memory
        .clone()
        .try_acquire_many_owned(units)
        .map_err(|_| Problem::new(ProblemKind::Overloaded, "the gateway holds as many requests as it can"))?;
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(request.into_body(), limit).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok((body.to_bytes(), memory)),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(ProblemKind::InvalidRequest, "the body broke off")),
        Err(_) => Err(Problem::new(
            ProblemKind::InvalidRequest,
            format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs()),
        )),
    }
}

fn content_length(fields: &HeaderMap) -> Result<Option<usize>, Problem> {
    let parse = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    match fields.get(header::CONTENT_LENGTH) {
        None => Ok(None),
        Some(value) => parse(value)
            .map(Some)
            .ok_or_else(|| Problem::new(ProblemKind::InvalidHeader, "content-length is not a number")),
    }
}

fn parse_function(text: &str) -> Result<FunctionId, Problem> {
    parse(text, "a function's id is 0x and 64 hex digits")
}

fn parse<T: std::str::FromStr>(text: &str, form: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::new(ProblemKind::InvalidRequest, form))
}
