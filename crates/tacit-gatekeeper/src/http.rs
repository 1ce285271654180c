//! The HTTP surface: bounded connections, headers, bodies, times and concurrency.

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{Method, Uri},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use serde::{Serialize, de::DeserializeOwned};
use tacit_api::{Problem, ProblemKind, gatekeeper as wire};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::node::Node;

/// Connections at once.
const MAX_CONNECTIONS: usize = 1_024;
/// Requests at once.
const MAX_REQUESTS: usize = 512;
/// Requests at once that ask for evidence or have it judged.
const MAX_HEAVY: usize = 8;
/// Large bodies at once.
const MAX_LARGE: usize = 32;
/// Time for a request's body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Time for a request from its headers to its answer.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// Time for the headers of a request.
const HEADER_TIME: Duration = Duration::from_secs(15);

struct Shared {
    node: Arc<Node>,
    all: Semaphore,
    heavy: Semaphore,
    large: Semaphore,
}

type Context = State<Arc<Shared>>;

/// The routes of a gatekeeper.
pub(crate) fn router(node: Arc<Node>) -> Router {
    let (all, heavy, large) = (Semaphore::new(MAX_REQUESTS), Semaphore::new(MAX_HEAVY), Semaphore::new(MAX_LARGE));
    let shared = Arc::new(Shared { node, all, heavy, large });
    Router::new()
        .route(wire::CHALLENGE, post(challenge))
        .route(wire::ADMIT, post(admit))
        .route(wire::CERTIFICATE, post(certificate))
        .route(wire::PARTIAL, post(partial))
        .route(wire::LEASE, post(lease))
        .route(wire::ACKNOWLEDGE, post(acknowledge))
        .route(wire::CONFIRM, post(confirm))
        .route(wire::STATUS, get(status))
        .route(wire::GENESIS_CANDIDATE, get(candidate))
        .route(wire::GENESIS_START, post(start))
        .route(wire::GENESIS_DEAL, post(deal))
        .route(wire::GENESIS_RECEIVE, post(receive))
        .route(wire::GENESIS_QUOTE, get(quote))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|uri: Uri| async move {
            Problem::new(ProblemKind::NotFound, uri.path().chars().take(200).collect::<String>())
        })
        .method_not_allowed_fallback(|method: Method| async move {
            Problem::new(ProblemKind::MethodNotAllowed, method.to_string())
        })
        .layer(from_fn_with_state(shared.clone(), bounded))
        .with_state(shared)
}

async fn bounded(State(shared): Context, request: axum::extract::Request, next: Next) -> Response {
    let Ok(_permit) = shared.all.try_acquire() else {
        return Problem::new(ProblemKind::Overloaded, "too many requests at once").into_response();
    };
    match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(ProblemKind::Overloaded, "the request took too long").into_response(),
    }
}

async fn read<T: DeserializeOwned>(body: Body, limit: usize) -> Result<T, Problem> {
    let slow = |_| Problem::new(ProblemKind::InvalidRequest, "the body comes too slowly");
    let bytes =
        tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, limit)).await.map_err(slow)?.map_err(|error| {
            let too_large = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
                .any(|error| error.is::<http_body_util::LengthLimitError>());
            if too_large {
                Problem::new(ProblemKind::TooLarge, format!("at most {limit} bytes are taken here"))
            } else {
                Problem::new(ProblemKind::InvalidRequest, "the body broke off")
            }
        })?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::new(ProblemKind::InvalidRequest, error.to_string()))
}

async fn read_large<T: DeserializeOwned>(shared: &Shared, body: Body, limit: usize) -> Result<T, Problem> {
    let overloaded = |_| Problem::new(ProblemKind::Overloaded, "too many large requests at once");
    let _permit = shared.large.try_acquire().map_err(overloaded)?;
    read(body, limit).await
}

type Answer<T> = Result<Json<T>, Problem>;

async fn answer<T: Serialize>(work: impl Future<Output = Result<T, Problem>>) -> Answer<T> {
    work.await.map(Json)
}

fn heavy(shared: &Shared) -> Result<tokio::sync::SemaphorePermit<'_>, Problem> {
    let overloaded = |_| Problem::new(ProblemKind::Overloaded, "too much evidence at once");
    shared.heavy.try_acquire().map_err(overloaded)
}

async fn challenge(State(shared): Context, body: Body) -> Answer<wire::ChallengeAnswer> {
    let request = read(body, wire::MAX_SMALL_BODY).await?;
    shared.node.serving()?.challenge(&request).map(Json)
}

async fn admit(State(shared): Context, body: Body) -> Answer<wire::AdmitAnswer> {
    let request = read_large(&shared, body, wire::MAX_ADMIT_BODY).await?;
    let _permit = heavy(&shared)?;
    answer(shared.node.serving()?.admit(request)).await
}

async fn certificate(State(shared): Context, body: Body) -> Answer<wire::CertificateAnswer> {
    let request = read(body, wire::MAX_SMALL_BODY).await?;
    answer(shared.node.serving()?.certificate(request)).await
}

async fn partial(State(shared): Context, body: Body) -> Answer<wire::PartialAnswer> {
    let request = read(body, wire::MAX_SMALL_BODY).await?;
    answer(shared.node.serving()?.partial(request)).await
}

async fn lease(State(shared): Context, body: Body) -> Answer<wire::LeaseAnswer> {
    let request = read(body, wire::MAX_BATCH_BODY).await?;
    answer(shared.node.serving()?.lease(request)).await
}

async fn acknowledge(State(shared): Context, body: Body) -> Answer<wire::AcknowledgeAnswer> {
    let request = read(body, wire::MAX_BATCH_BODY).await?;
    answer(shared.node.serving()?.acknowledge(request)).await
}

async fn confirm(State(shared): Context, body: Body) -> Answer<wire::ConfirmAnswer> {
    let request = read(body, wire::MAX_BATCH_BODY).await?;
    answer(shared.node.serving()?.confirm(request)).await
}

async fn status(State(shared): Context) -> Json<wire::GatekeeperStatus> {
    Json(shared.node.status().await)
}

async fn candidate(State(shared): Context) -> Answer<wire::Candidate> {
    let _permit = heavy(&shared)?;
    answer(shared.node.candidate()).await
}

async fn start(State(shared): Context, body: Body) -> Answer<wire::GenesisStarted> {
    let request = read_large(&shared, body, wire::MAX_GENESIS_BODY).await?;
    let _permit = heavy(&shared)?;
    answer(shared.node.start(request)).await
}

async fn deal(State(shared): Context, body: Body) -> Answer<wire::GenesisDeal> {
    let request = read(body, wire::MAX_SMALL_BODY).await?;
    answer(shared.node.deal(request)).await
}

async fn receive(State(shared): Context, body: Body) -> Answer<wire::GenesisReceived> {
    let request = read_large(&shared, body, wire::MAX_GENESIS_BODY).await?;
    let _permit = heavy(&shared)?;
    answer(shared.node.receive(request)).await
}

async fn quote(State(shared): Context) -> Answer<wire::GenesisQuote> {
    let _permit = heavy(&shared)?;
    answer(shared.node.quote()).await
}

/// Accepts connections until `stop` changes; then lets the open ones finish, at most for a second.
pub(crate) async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(64 << 10);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(64).max_header_list_size(32 << 10);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, permit)) = accepted else { continue };
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection");
            }
            drop(permit);
        });
    }
    let patience = tokio::time::timeout(Duration::from_secs(1), graceful.shutdown());
    if patience.await.is_err() {
        tracing::debug!("connections were still open");
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _peer)) => {
            let _best_effort = stream.set_nodelay(true);
            Some((stream, permit))
        }
        Err(error) => {
            // Out of descriptors, most likely: wait instead of spinning.
            tracing::warn!(%error, "accept");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// Where the listener is bound.
pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Asserts at compile time that handlers cannot fail outside their answers.
const _: fn() = || {
    fn infallible<S: tower::Service<axum::extract::Request, Error = Infallible>>() {}
    infallible::<Router>();
};
