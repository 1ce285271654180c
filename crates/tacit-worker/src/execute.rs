//! Runs one call in a sandbox and puts what comes of it into our words.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use rand::Rng as _;
use tacit_api::CallFailure;
use tacit_runtime::{Call, Clock, Failure, Host, Limits, RequestInfo, Write};
use tacit_types::{
    FunctionId, UnixTime,
    chain::Publication,
    eip712::{Kind, Outcome},
    manifest::{Body, Method, MethodKind},
};

use crate::{
    code::Version,
    context::Context,
    outcome::{Ended, Request, Salts, effect},
};

/// A call that may run.
#[derive(Clone)]
pub(crate) struct Admitted {
    pub request: Request,
    pub method: Method,
    pub kind: Kind,
    /// Seconds since 1970, for the method to know.
    pub deadline: UnixTime,
    /// What fired the call, where nobody called.
    pub trigger: Option<String>,
    /// Number of the function's version.
    pub version: u64,
}

/// What a run left behind.
pub(crate) struct Ran {
    pub ended: Ended,
    pub writes: Vec<Write>,
    pub publications: Vec<Publication>,
}

/// Runs a call at `time`.
pub(crate) async fn execute(
    context: &Context,
    version: &Version,
    admitted: &Admitted,
    time: UnixTime,
    host: Arc<dyn Host>,
) -> Ran {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let Admitted { request, method, kind, .. } = admitted;
    let writes_allowed =
        matches!(kind, Kind::Command | Kind::Trigger | Kind::ChainRequest) && method.kind == MethodKind::Command;
    let call = Call {
        method: method.name.clone(),
        kind: if writes_allowed { MethodKind::Command } else { MethodKind::Query },
        input: request.body.clone(),
        format: method.input,
        seed,
        clock: if method.deterministic { Clock::Fixed(time.0.saturating_mul(1_000_000)) } else { Clock::Host },
        limits: Limits::from(&version.code.manifest.limits),
        request: RequestInfo {
            caller: request.caller.map(|caller| caller.to_string()),
            call_id: request.call_id.to_string(),
            method: method.name.clone(),
            deadline: admitted.deadline.0.saturating_mul(1_000_000),
            trigger: admitted.trigger.clone(),
            version: admitted.version,
        },
    };
    let started = Instant::now();
    let outcome = context.engine.call(&version.program, call, host).await;
    context.metrics.run_microseconds_total.since(started);
    log_lines(request.function, outcome.logs.len());
    let (result, response, format) = match outcome.result {
        Ok(output) => (Outcome::Ok, output.body, output.format),
        Err(failure) => (failure.outcome(), failure_body(&failure), Body::Json),
    };
    let ended = Ended {
        kind: *kind,
        outcome: result,
        response,
        format,
        salts: Salts::of_seed(&seed),
        effects: outcome.effects.iter().map(effect).collect(),
        fuel: outcome.fuel_used,
        code_hash: version.code_hash,
    };
    Ran { ended, writes: outcome.writes, publications: outcome.publications }
}

// The lines themselves are for the owner alone; their number may be known.
fn log_lines(function: FunctionId, lines: usize) {
    if lines > 0 {
        tracing::trace!(%function, lines, "the call logged");
    }
}

/// A call that ends before its code runs, or whose effects are dropped.
pub(crate) fn ended_without_running(
    version: &Version,
    kind: Kind,
    outcome: Outcome,
    name: &str,
    message: &str,
) -> Ended {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    Ended {
        kind,
        outcome,
        response: body(&CallFailure { name: name.to_owned(), message: message.to_owned(), stack: None }),
        format: Body::Json,
        salts: Salts::of_seed(&seed),
        effects: Vec::new(),
        fuel: 0,
        code_hash: version.code_hash,
    }
}

fn failure_body(failure: &Failure) -> Bytes {
    let (name, message, stack) = match failure {
        Failure::Thrown { name, message, stack } => {
            (name.clone(), message.clone(), Some(stack.clone()).filter(|stack| !stack.is_empty()))
        }
        Failure::Limit(limit) => (limit.name().to_owned(), limit.to_string(), None),
        Failure::NoSuchMethod(_) => ("no-such-method".to_owned(), failure.to_string(), None),
        Failure::InvalidInput(_) => ("invalid-input".to_owned(), failure.to_string(), None),
        Failure::Trapped(_) => ("trapped".to_owned(), failure.to_string(), None),
        _ => ("unavailable".to_owned(), failure.to_string(), None),
    };
    body(&CallFailure { name, message, stack })
}

fn body(failure: &CallFailure) -> Bytes {
    serde_json::to_vec(failure).expect("texts always have a JSON form").into()
}
