//! `tacit audit export`: checks a period's transcripts and sums up what was used.

use tacit_client::ai::{
    Keep, TranscriptStore,
    audit::{AuditInput, audit},
};

use super::{
    CommandResult, Environment,
    ai_node::{NamedNode, ai_error, store_folder},
    now,
    verify::parse_time,
};
use crate::{
    arguments::AuditArguments,
    context::write_file,
    error::{CommandError, Exit},
    output,
};

pub async fn run(arguments: &AuditArguments, environment: &Environment) -> CommandResult {
    let (from, to) = (parse_time(&arguments.from)?, parse_time(&arguments.to)?);
    if to < from {
        return Err(CommandError::usage("the period ends before it begins", "--from TIME --to TIME"));
    }
    let node = NamedNode::find(arguments.node.as_deref(), environment)?;
    let judge = node.judge(arguments.policy.as_deref())?;
    let store = TranscriptStore::new(store_folder(arguments.store.as_deref(), environment), Keep::Full);
    let input = AuditInput { store: &store, from, to, judge: &judge, node: node.url.as_ref(), now: now() };
    let report = audit(&input).await.map_err(ai_error)?;
    let bytes = report.to_bytes().map_err(ai_error)?;
    if let Some(path) = &arguments.out {
        write_file(path, &bytes, 0o600)?;
    }
    if arguments.json {
        output::bytes(&bytes)?;
        output::bytes(b"\n")?;
    } else {
        output::bytes(report.to_string().as_bytes())?;
    }
    Ok(match (report.exceptions.is_empty(), report.is_complete()) {
        (false, _) => Exit::Refused,
        (true, false) => Exit::Incomplete,
        (true, true) => Exit::Ok,
    })
}
