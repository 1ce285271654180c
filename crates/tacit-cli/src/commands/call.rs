//! `tacit call`.

use std::{io::Read as _, path::Path, time::Duration, time::Instant};

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use tacit_api::{CallFailure, CallKind, CallReport, limits::MAX_REQUEST};
use tacit_client::{Answer, CallRequest, Client, Entry};
use tacit_types::eip712::Outcome;
use tacit_verify::TimeProof;

use super::{CommandResult, Environment, client_error, resolve_function};
use crate::{
    arguments::CallArguments,
    context::write_file,
    error::{CommandError, Exit},
    output,
};

pub async fn run(arguments: &CallArguments, environment: &Environment) -> CommandResult {
    let client = environment.client(arguments.policy.as_deref())?;
    let function = resolve_function(&client, &arguments.function)?;
    let client = if arguments.anonymous { client.without_caller() } else { client };
    let client = enter(client, arguments);
    let mut request = CallRequest::new(function, &arguments.method, read_body(&arguments.body)?);
    request.kind = match (arguments.query, arguments.stale) {
        (true, _) => Some(CallKind::Query),
        (_, true) => Some(CallKind::Stale),
        _ => None,
    };
    request.patience = Duration::from_secs(arguments.deadline);
    request.min_sequence = arguments.min_sequence;
    request.code = arguments.code;
    if let Some(key) = &arguments.idempotency_key {
        request.idempotency_key.clone_from(key);
    }
    let began = Instant::now();
    let answer = client.call(&request).await.map_err(client_error)?;
    let took = began.elapsed();
    if let Some(path) = &arguments.receipt {
        write_file(path, answer.bundle(), 0o644)?;
    }
    output::note(summary(&answer, took, arguments.receipt.as_deref()));
    if arguments.json {
        output::json(&report(&answer)?)?;
    } else if answer.outcome() == Outcome::Ok {
        output::bytes(answer.response())?;
        if !answer.response().ends_with(b"\n") {
            output::bytes(b"\n")?;
        }
    }
    match answer.outcome() {
        Outcome::Ok => Ok(Exit::Ok),
        outcome if arguments.json => Ok(exit_of(outcome)),
        outcome => Err(failure(outcome, answer.response())),
    }
}

fn enter(client: Client, arguments: &CallArguments) -> Client {
    let gateways = arguments.gateway.iter().map(|url| Entry::gateway(url));
    let workers = arguments.worker.iter().map(|url| Entry::worker(url));
    let entries: Vec<Entry> = gateways.chain(workers).collect();
    if entries.is_empty() { client } else { client.through(entries) }
}

fn read_body(text: &str) -> Result<Vec<u8>, CommandError> {
    let too_large = || CommandError::usage("the body is larger than 16 MiB", "send less");
    if text == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .take(MAX_REQUEST as u64 + 1)
            .read_to_end(&mut bytes)
            .context("could not read standard input")?;
        return if bytes.len() > MAX_REQUEST { Err(too_large()) } else { Ok(bytes) };
    }
    if let Some(path) = text.strip_prefix('@') {
        let read = || format!("could not read {path}");
        if std::fs::metadata(path).with_context(read)?.len() > MAX_REQUEST as u64 {
            return Err(too_large());
        }
        return Ok(std::fs::read(path).with_context(read)?);
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(text.as_bytes().to_vec()),
        Err(error) => Err(CommandError::usage(
            format!("the body is not JSON: {error}"),
            "quote it for the shell, for example '{\"name\":\"Ada\"}'; @FILE and - take any bytes",
        )),
    }
}

fn report(answer: &Answer) -> Result<CallReport, CommandError> {
    Ok(CallReport {
        call_id: answer.receipt().call_id,
        outcome: answer.outcome(),
        response: readable(answer.response()),
        receipt: serde_json::from_slice(answer.bundle()).map_err(|error| anyhow!(error))?,
    })
}

/// JSON as it is, other text as a string, other bytes as hex.
fn readable(bytes: &[u8]) -> Value {
    match (serde_json::from_slice(bytes), std::str::from_utf8(bytes)) {
        (Ok(value), _) => value,
        (_, Ok(text)) => Value::String(text.to_owned()),
        _ => Value::String(format!("0x{}", hex::encode(bytes))),
    }
}

fn summary(answer: &Answer, took: Duration, kept: Option<&Path>) -> String {
    let receipt = answer.receipt();
    let time = match answer.verified().time() {
        TimeProof::Live => "live",
        TimeProof::Countersigned => "countersigned",
        TimeProof::Unproven => "unproven in time",
    };
    let root = if answer.verified().bundle().certificate.certificate.simulated { " · simulated root" } else { "" };
    let kept = kept.map(|path| format!(" · {}", path.display())).unwrap_or_default();
    format!(
        "receipt verified ({time}{root}) · call {} · sequence {} · {:.1} ms{kept}",
        receipt.call_id,
        receipt.sequence,
        took.as_secs_f64() * 1_000.0
    )
}

const fn exit_of(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::Ok => Exit::Ok,
        Outcome::Denied => Exit::Refused,
        Outcome::Thrown | Outcome::Limit | Outcome::Unavailable => Exit::Failed,
    }
}

fn failure(outcome: Outcome, response: &[u8]) -> CommandError {
    let what = match outcome {
        Outcome::Ok => "the method returned",
        Outcome::Thrown => "the method threw",
        Outcome::Limit => "the call reached a limit",
        Outcome::Denied => "the call was denied",
        Outcome::Unavailable => "something that the function needs is not available",
    };
    let error = match serde_json::from_slice::<CallFailure>(response) {
        Ok(failure) => {
            let stack =
                failure.stack.filter(|stack| !stack.is_empty()).map(|stack| format!("\n{stack}")).unwrap_or_default();
            anyhow!("{}: {}{stack}", failure.name, failure.message).context(what)
        }
        Err(_) => anyhow!(what),
    };
    CommandError::new(exit_of(outcome), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_json_a_file_or_nothing() {
        assert_eq!(read_body("{\"a\":1}").unwrap(), b"{\"a\":1}");
        let error = read_body("{a:1}").unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.hint.unwrap().contains("quote it"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, [0xff, 0]).unwrap();
        assert_eq!(read_body(&format!("@{}", path.display())).unwrap(), [0xff, 0]);
        assert_eq!(read_body("@/no/such/file").unwrap_err().exit, Exit::Failed);
    }

    #[test]
    fn responses_are_shown_as_what_they_are() {
        assert_eq!(readable(b"{\"a\":1}"), serde_json::json!({"a": 1}));
        assert_eq!(readable(b"hello"), serde_json::json!("hello"));
        assert_eq!(readable(&[0xff]), serde_json::json!("0xff"));
    }

    #[test]
    fn a_failure_names_the_error_and_its_place() {
        let response = br#"{"name":"TypeError","message":"x is not a function","stack":"    at f (src/index.ts:3:7)"}"#;
        let error = failure(Outcome::Thrown, response);
        insta::assert_snapshot!(error.lines(), @r"
        error: the method threw
          because: TypeError: x is not a function
            at f (src/index.ts:3:7)
        ");
        assert_eq!(failure(Outcome::Denied, b"").exit, Exit::Refused);
        assert_eq!(failure(Outcome::Limit, b"").exit, Exit::Failed);
    }
}
