//! `tacit status`.

use std::time::Duration;

use tacit_api::{
    StatusReport, WorkerIdentity,
    limits::MAX_IDENTITY,
    reports::{ChainStatus, GatekeeperStatus, GatewayStatus, NodeState, WorkerStatus},
};
use tacit_types::deployment::Deployment;

use super::{CommandResult, Environment};
use crate::{
    context::{RunningNetwork, RunningWorker},
    error::{CommandError, Exit},
    output,
};

const PATIENCE: Duration = Duration::from_secs(2);

pub async fn run(json: bool, environment: &Environment) -> CommandResult {
    let deployment = environment.deployment()?;
    let running = environment.network().running().ok();
    let report = collect(&deployment, running.as_ref()).await?;
    if json {
        output::json(&report)?;
    } else {
        output::bytes(render(&report).as_bytes())?;
    }
    if running.is_none() {
        output::note("no process of this network is known on this machine; `tacit up` starts a local one");
    }
    Ok(Exit::Ok)
}

async fn collect(deployment: &Deployment, running: Option<&RunningNetwork>) -> Result<StatusReport, CommandError> {
    let http = reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(anyhow::Error::from)?;
    let gateways = match running {
        Some(running) => {
            running.gateways.iter().map(|node| GatewayStatus { url: node.url.clone(), pid: node.pid }).collect()
        }
        None => deployment.gateways.iter().map(|url| GatewayStatus { url: url.clone(), pid: None }).collect(),
    };
    let mut gatekeepers = Vec::new();
    for (index, gatekeeper) in deployment.gatekeepers.iter().enumerate() {
        let index = index as u32;
        let node = running.and_then(|running| running.gatekeepers.iter().find(|node| node.index == index));
        let url = node.map_or_else(|| gatekeeper.url.clone(), |node| node.url.clone());
        let state = state(&http, &format!("{url}/status")).await;
        gatekeepers.push(GatekeeperStatus { index, state, pid: node.and_then(|node| node.pid), url });
    }
    let mut workers = Vec::new();
    for node in running.map(|running| running.workers.as_slice()).unwrap_or_default() {
        workers.push(worker(&http, node).await);
    }
    let chain = running.map_or_else(
        || ChainStatus { rpc: deployment.chain.rpc.clone(), pid: None },
        |running| ChainStatus { rpc: running.chain.rpc.clone(), pid: running.chain.pid },
    );
    Ok(StatusReport {
        network: deployment.genesis.network.clone(),
        cluster_id: deployment.cluster_id,
        chain,
        gateways,
        gatekeepers,
        workers,
    })
}

/// Whether a node answers, and whether it answers that it serves.
async fn state(http: &reqwest::Client, url: &str) -> NodeState {
    match http.get(url).send().await {
        Ok(response) if response.status().is_success() => NodeState::Ready,
        Ok(_) => NodeState::Starting,
        Err(_) => NodeState::Unreachable,
    }
}

async fn worker(http: &reqwest::Client, node: &RunningWorker) -> WorkerStatus {
    let identity = identity(http, &node.url).await;
    let certificate = identity.as_ref().map(|identity| &identity.certificate);
    WorkerStatus {
        address: certificate.map(|certificate| certificate.worker),
        url: node.url.clone(),
        pid: node.pid,
        state: state(http, &format!("{}/readyz", node.url)).await,
        measurement: certificate.map(|certificate| certificate.measurement),
    }
}

async fn identity(http: &reqwest::Client, url: &str) -> Option<WorkerIdentity> {
    let mut response = http.get(format!("{url}/v1/identity")).send().await.ok()?.error_for_status().ok()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_IDENTITY {
            return None;
        }
    }
    serde_json::from_slice(&bytes).ok()
}

fn render(report: &StatusReport) -> String {
    let pid = |pid: Option<u32>| pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let simulated =
        if report.network.ends_with("-sim") { "  SIMULATED: the protocol is real, the hardware is not" } else { "" };
    let mut text = format!("network {}{simulated}\ncluster {}\n\n", report.network, report.cluster_id);
    let mut rows =
        vec![vec!["node".into(), "state".into(), "pid".into(), "url".into(), "worker and what it runs".into()]];
    rows.push(vec!["chain".into(), String::new(), pid(report.chain.pid), report.chain.rpc.clone()]);
    for gateway in &report.gateways {
        rows.push(vec!["gateway".into(), String::new(), pid(gateway.pid), gateway.url.clone()]);
    }
    for node in &report.gatekeepers {
        rows.push(vec![
            format!("gatekeeper {}", node.index),
            node.state.name().into(),
            pid(node.pid),
            node.url.clone(),
        ]);
    }
    for node in &report.workers {
        let who = match (node.address, node.measurement) {
            (Some(address), Some(measurement)) => format!("{address} {measurement}"),
            _ => String::new(),
        };
        rows.push(vec!["worker".into(), node.state.name().into(), pid(node.pid), node.url.clone(), who]);
    }
    text.push_str(&output::table(&rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tacit_types::{Address, ClusterId, Measurement};

    fn report() -> StatusReport {
        StatusReport {
            network: "local-sim".into(),
            cluster_id: ClusterId::from([0xaa; 32]),
            chain: ChainStatus { rpc: "http://127.0.0.1:1".into(), pid: Some(11) },
            gateways: vec![GatewayStatus { url: "http://127.0.0.1:2".into(), pid: Some(12) }],
            gatekeepers: vec![GatekeeperStatus {
                index: 0,
                url: "http://127.0.0.1:3".into(),
                pid: None,
                state: NodeState::Unreachable,
            }],
            workers: vec![WorkerStatus {
                address: Some(Address::from([1; 20])),
                url: "http://127.0.0.1:4".into(),
                pid: Some(14),
                state: NodeState::Ready,
                measurement: Some(Measurement::from([2; 32])),
            }],
        }
    }

    #[test]
    fn the_human_form() {
        insta::assert_snapshot!(render(&report()));
    }

    #[test]
    fn the_json_form_has_the_fields_of_the_interface() {
        let json = serde_json::to_value(report()).unwrap();
        for pointer in [
            "/network",
            "/clusterId",
            "/chain/rpc",
            "/chain/pid",
            "/gateways/0/url",
            "/gateways/0/pid",
            "/gatekeepers/0/index",
            "/gatekeepers/0/state",
            "/workers/0/address",
            "/workers/0/url",
            "/workers/0/pid",
            "/workers/0/state",
            "/workers/0/measurement",
        ] {
            assert!(json.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_unreachable() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        assert_eq!(state(&http, &format!("http://{address}/readyz")).await, NodeState::Unreachable);
    }
}
