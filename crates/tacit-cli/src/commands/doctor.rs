//! `tacit doctor`: what commonly goes wrong, looked at one after the other.

use std::{path::PathBuf, time::Duration};

use tacit_ledger::{Addresses, Ledger};
use tacit_types::deployment::Deployment;

use super::{CommandResult, Environment};
use crate::{error::Exit, output};

const PATIENCE: Duration = Duration::from_secs(2);

/// What one look found.
struct Finding {
    what: &'static str,
    ok: bool,
    found: String,
    hint: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, ok: true, found: found.into(), hint: None }
    }

    fn bad(what: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what, ok: false, found: found.into(), hint: Some(hint.into()) }
    }
}

pub async fn run(environment: &Environment) -> CommandResult {
    let mut findings = vec![cores(), memory(), chain_program(), folder(environment)];
    match environment.network().deployment() {
        Err(error) if environment.network().deployment_path().exists() => {
            findings.push(Finding::bad(
                "deployment",
                format!("{error:#}"),
                "`tacit up --dir` with a new folder founds a new network",
            ));
        }
        Err(_) => findings.push(Finding::good("deployment", "no network yet; `tacit up` starts one")),
        Ok(deployment) => {
            findings.push(Finding::good(
                "deployment",
                format!("{} · cluster {}", deployment.genesis.network, deployment.cluster_id),
            ));
            findings.push(caller(environment));
            findings.push(chain(&deployment).await);
            findings.extend(nodes(&deployment).await);
        }
    }
    output::bytes(render(&findings).as_bytes())?;
    Ok(if findings.iter().all(|finding| finding.ok) { Exit::Ok } else { Exit::Failed })
}

fn render(findings: &[Finding]) -> String {
    let mut rows = Vec::new();
    for finding in findings {
        rows.push(vec![
            if finding.ok { "ok" } else { "PROBLEM" }.to_owned(),
            finding.what.to_owned(),
            finding.found.clone(),
        ]);
        if let Some(hint) = &finding.hint {
            rows.push(vec![String::new(), "hint".into(), hint.clone()]);
        }
    }
    output::table(&rows)
}

fn cores() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Finding::good("processor", format!("{cores} cores"))
}

fn memory() -> Finding {
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    match available {
        Some(kib) if kib >= 1 << 20 => {
            Finding::good("memory", format!("{:.1} GiB available", kib as f64 / 1_048_576.0))
        }
        Some(kib) => {
            Finding::bad("memory", format!("{} MiB available", kib / 1024), "a local network takes about 1 GiB")
        }
        None => Finding::good("memory", "unknown"),
    }
}

fn chain_program() -> Finding {
    match tacit_ledger::AnvilSearch::from_environment().find() {
        Ok(path) => Finding::good("chain program", path.display().to_string()),
        Err(error) => {
            Finding::bad("chain program", error.to_string(), "`make bootstrap` fetches it; only `tacit up` needs it")
        }
    }
}

fn folder(environment: &Environment) -> Finding {
    let path = environment.network().path().to_owned();
    let existing = path.ancestors().find(|path| path.exists()).map(PathBuf::from).unwrap_or_default();
    let probe = existing.join(format!(".tacit-doctor-{}", std::process::id()));
    match std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => Finding::good("folder", path.display().to_string()),
        Err(error) => Finding::bad(
            "folder",
            format!("{} cannot be written: {error}", existing.display()),
            "choose another one with --dir or TACIT_DIR",
        ),
    }
}

fn caller(environment: &Environment) -> Finding {
    match environment.caller_key() {
        Ok(Some(key)) => Finding::good("caller", key.address().to_string()),
        Ok(None) => Finding::good("caller", "no key: calls go without a name, and nothing can be deployed"),
        Err(error) => Finding::bad("caller", error.error.to_string(), "set TACIT_KEY or give --keystore FILE"),
    }
}

async fn chain(deployment: &Deployment) -> Finding {
    let look = async {
        let addresses = Addresses::from_map(&deployment.genesis.contracts)?;
        let ledger =
            Ledger::connect(&deployment.chain.rpc, addresses, deployment.chain.finality)?.with_timeout(PATIENCE);
        ledger.finalized().await
    };
    match look.await {
        Ok(block) => {
            let age = super::now().0.saturating_sub(block.time.0);
            Finding::good("home chain", format!("final block {} is {age} s old", block.number))
        }
        Err(error) => Finding::bad("home chain", error.to_string(), "is the network up? `tacit up`"),
    }
}

async fn nodes(deployment: &Deployment) -> Vec<Finding> {
    let Ok(http) = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build() else { return Vec::new() };
    let mut findings = Vec::new();
    for url in &deployment.gateways {
        findings.push(match http.get(format!("{url}/readyz")).send().await {
            Ok(answer) if answer.status().is_success() => Finding::good("gateway", url.clone()),
            Ok(answer) => Finding::bad(
                "gateway",
                format!("{url} is not ready: {}", answer.status()),
                "its log is in the network's folder, logs/",
            ),
            Err(_) => Finding::bad("gateway", format!("{url} does not answer"), "is the network up? `tacit up`"),
        });
    }
    let mut alive = 0u32;
    for gatekeeper in &deployment.gatekeepers {
        let answer = http.get(format!("{}/status", gatekeeper.url)).send().await;
        alive += u32::from(answer.is_ok_and(|answer| answer.status().is_success()));
    }
    let set = deployment.genesis.gatekeeper_set();
    let found = format!(
        "{alive} of {} answer; {} admit and release keys, {} keep the register",
        set.size(),
        set.threshold,
        set.quorum()
    );
    findings.push(if alive >= set.quorum() {
        Finding::good("gatekeepers", found)
    } else {
        Finding::bad("gatekeepers", found, "too few for calls to be answered; `tacit status` shows which are missing")
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_with_a_hint() {
        let findings = [
            Finding::good("folder", "/x"),
            Finding::bad("home chain", "no connection", "is the network up? `tacit up`"),
        ];
        insta::assert_snapshot!(render(&findings));
    }
}
