//! How each role of a local network is configured and started.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use tacit_gatekeeper::Config as GatekeeperConfig;
use tacit_types::deployment::{Finality, NamedFinality};
use tacit_worker::{Machine, WorkerConfig, WorkerLimits};

use super::{
    layout::{Layout, Plan},
    models,
    process::Program,
};

/// Seconds after which another worker may take over a function whose holder died. Short, since everything here is near.
const LEASE_SECONDS: u64 = 5;

/// `gateway.toml`.
#[derive(Serialize)]
struct GatewayConfig {
    listen: std::net::SocketAddr,
    deployment: PathBuf,
    data: PathBuf,
    peers: Vec<String>,
}

/// Whether a machine of the network plays AMD's hardware: every second worker, so that workers differ in vendor, where the
/// network was founded with an AMD root.
pub fn is_amd(layout: &Layout, name: &str) -> bool {
    let number = name.strip_prefix("worker-").and_then(|number| number.parse::<u32>().ok());
    number.is_some_and(|number| number % 2 == 0) && layout.amd_root_certificate().exists()
}

/// The simulated chip of a machine.
pub fn chip(layout: &Layout, name: &str) -> Result<Program> {
    let path = |path: &Path| path.display().to_string();
    let platform = if is_amd(layout, name) { vec!["--platform".to_owned(), "snp".into()] } else { vec![] };
    Ok(Program {
        name: format!("chip-of-{name}"),
        executable: layout.binary("tacit-simulator"),
        arguments: [
            vec![
                "--dir".into(),
                path(&layout.chip(name)),
                "--root".into(),
                path(&layout.root()),
                "--socket".into(),
                path(&layout.socket(name)?),
                "--name".into(),
                name.into(),
            ],
            platform,
        ]
        .concat(),
    })
}

/// A gatekeeper; writes its configuration.
pub fn gatekeeper(layout: &Layout, plan: &Plan, name: &str) -> Result<Program> {
    let config = GatekeeperConfig {
        version: 1,
        listen: plan.address(name)?,
        data: layout.data(name),
        guest_agent: layout.socket(name)?,
        collateral: None,
        finality: Finality::Named(NamedFinality::Finalized),
    };
    layout.write_config(name, &config)?;
    Ok(role(layout, "gatekeeper", name))
}

/// A gateway; writes its configuration.
pub fn gateway(layout: &Layout, plan: &Plan, name: &str) -> Result<Program> {
    let others = plan.gateway_names().into_iter().filter(|other| other != name);
    let config = GatewayConfig {
        listen: plan.address(name)?,
        deployment: layout.folder().join("deployment.json"),
        data: layout.data(name),
        peers: others.map(|other| plan.url(&other)).collect::<Result<_>>()?,
    };
    layout.write_config(name, &config)?;
    Ok(role(layout, "gateway", name))
}

/// A worker; writes its configuration. All workers share the sealed store, as machines share an object store.
pub fn worker(layout: &Layout, plan: &Plan, name: &str) -> Result<Program> {
    let config = WorkerConfig {
        listen: plan.address(name)?,
        endpoint: Some(plan.url(name)?),
        folder: layout.data(name),
        store: layout.folder().join("store"),
        deployment: layout.folder().join("deployment.json"),
        operator_key: layout.operator_key(name),
        machine: Machine::GuestAgent { socket: layout.socket(name)? },
        collateral: None,
        gpus: None,
        ai: models::config(layout, plan, name)?,
        gateways: Vec::new(),
        limits: WorkerLimits { lease_seconds: LEASE_SECONDS, ..WorkerLimits::default() },
    };
    layout.write_config(name, &config).with_context(|| format!("the configuration of {name}"))?;
    Ok(role(layout, "worker", name))
}

fn role(layout: &Layout, role: &str, name: &str) -> Program {
    let config = layout.config(name).display().to_string();
    Program {
        name: name.to_owned(),
        executable: layout.binary("tacit"),
        arguments: vec![role.into(), "run".into(), "--config".into(), config],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_worker_plays_the_other_vendor_where_there_is_a_root_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert!(!is_amd(&layout, "worker-2"));
        let certificate = layout.amd_root_certificate();
        std::fs::create_dir_all(certificate.parent().unwrap()).unwrap();
        std::fs::write(certificate, b"").unwrap();
        assert!(is_amd(&layout, "worker-2"));
        for name in ["worker-1", "worker-3", "gatekeeper-2", "gateway-2"] {
            assert!(!is_amd(&layout, name), "{name}");
        }
        assert!(chip(&layout, "worker-2").unwrap().arguments.ends_with(&["--platform".into(), "snp".into()]));
        assert!(!chip(&layout, "worker-1").unwrap().arguments.contains(&"--platform".into()));
    }
}
