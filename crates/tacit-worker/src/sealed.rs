//! Sealed calls: opened here, answered inside the same seal. What goes wrong after the seal is open is said inside it.

use std::time::Instant;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use tacit_api::{Problem, ProblemKind, calls::parse_inner_path, headers, outcome_status};
use tacit_envelope::{EnvelopeError, Limits, Request, Response};
use tacit_types::{FunctionId, manifest::Body};

use crate::{
    answer::Answer,
    calls::{Calls, Fields, Way},
};

/// Bytes inside a seal.
const LIMITS: Limits =
    Limits { control: 1_024, headers: 16 << 10, trailers: 1_024, fields: 32, body: 16 << 20, informational: 0 };

/// Opens, carries out and seals the answer. An error is said outside the seal: nothing could be sealed.
pub(crate) async fn answer(calls: &Calls, function: FunctionId, sealed: &[u8]) -> Result<Vec<u8>, Problem> {
    let metrics = &calls.context.metrics;
    let started = Instant::now();
    let (plain, sealer) = calls.context.keys.ohttp.open_request(sealed).map_err(|error| seal_problem(&error))?;
    metrics.open_microseconds_total.since(started);
    let response = match inner(calls, function, plain).await {
        Ok(answer) => answered(answer),
        Err(problem) => {
            metrics.calls_refused_total.add(1);
            problem_response(&problem)
        }
    };
    let started = Instant::now();
    let plain = response.encode().map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
    let sealed = sealer.seal(&mut rand::rng(), &plain);
    metrics.open_microseconds_total.since(started);
    sealed.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))
}

async fn inner(calls: &Calls, function: FunctionId, plain: Vec<u8>) -> Result<Answer, Problem> {
    let invalid = |detail: &str| Problem::new(ProblemKind::InvalidRequest, detail);
    let request = Request::decode(&plain, &LIMITS).map_err(|error| match error {
        EnvelopeError::TooLarge { .. } => Problem::new(ProblemKind::TooLarge, error.to_string()),
        _ => Problem::new(ProblemKind::InvalidRequest, error.to_string()),
    })?;
    if request.method != "POST" || request.scheme != "https" || request.authority != headers::AUTHORITY {
        return Err(invalid("the request inside the seal is not POST https://function/{id}/{method}"));
    }
    let (named, method) =
        parse_inner_path(&request.path).ok_or_else(|| invalid("the path inside the seal is not /{id}/{method}"))?;
    if named != function {
        return Err(invalid("the path inside the seal names another function than the route"));
    }
    let fields = fields(&request)?;
    let body = Bytes::from(request.body);
    calls.call(Way::Sealed, function, method, body, fields).await
}

fn fields(request: &Request) -> Result<Fields, Problem> {
    // A repeated field would let two readers see two values.
    let mut names: Vec<&str> = request.headers.iter().map(|(name, _)| name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() != count {
        return Err(Problem::new(ProblemKind::InvalidHeader, "a field is repeated"));
    }
    if request.headers.iter().any(|(_, value)| std::str::from_utf8(value).is_err()) {
        return Err(Problem::new(ProblemKind::InvalidHeader, "a field is not text"));
    }
    Fields::read(|name| request.headers.value(name))
}

fn answered(answer: Answer) -> Response {
    let mut response = Response::new(outcome_status(answer.outcome))
        .header("content-type", content_type(answer.format))
        .header(headers::CALL, answer.call_id.to_string());
    if let Some(since) = answer.stale_since {
        response = response.header(headers::CONFIRMED, since.0.to_string());
    }
    response.body(answer.response.to_vec()).trailer(headers::BUNDLE, URL_SAFE_NO_PAD.encode(&answer.bundle))
}

fn problem_response(problem: &Problem) -> Response {
    let mut response = Response::new(problem.kind.status()).header("content-type", headers::PROBLEM_MEDIA_TYPE);
    if let Some(seconds) = problem.retry_after {
        response = response.header("retry-after", seconds.to_string());
    }
    response.body(problem.to_json())
}

/// Media type of a response body.
pub(crate) const fn content_type(format: Body) -> &'static str {
    match format {
        Body::Json => "application/json",
        Body::Bytes => "application/octet-stream",
    }
}

fn seal_problem(error: &EnvelopeError) -> Problem {
    let kind = match error {
        EnvelopeError::WrongKeyId { .. } | EnvelopeError::UnknownSuite { .. } => ProblemKind::WrongKey,
        // A request sealed to the key of an earlier process opens no more than an altered one does.
        _ => ProblemKind::UnreadableSeal,
    };
    Problem::new(kind, error.to_string()).with_hint("fetch the function's workers again, verify and seal again")
}
