//! The models of a local network: what its workers are told, and what its clients need.

use anyhow::{Context, Result};
use tacit_attest::Policy;
use tacit_inference::EngineSettings;
use tacit_types::deployment::Deployment;
use tacit_worker::{AiConfig, KeyConfig, ModelConfig};

use super::layout::{Layout, Plan};
use crate::{
    commands::serve::{NodeFile, api_key},
    context::write_file,
};

/// How a worker offers the network's models; nothing if there are none.
pub fn config(layout: &Layout, plan: &Plan, worker: &str) -> Result<Option<AiConfig>> {
    let Some(listen) = plan.models_address(worker)? else { return Ok(None) };
    let key = api_key(&layout.models().join("api.key"))?;
    let models = plan.models.iter();
    let models = models.map(|name| ModelConfig { name: name.clone(), engine: EngineSettings::default(), price: None });
    let store = plan.models_folder.clone().context("network.json names models and no folder")?;
    Ok(Some(AiConfig::new(listen, store, models.collect(), vec![KeyConfig::new("local", &key)])))
}

/// Writes what `tacit chat` and `tacit proxy` read of a node: here the way through a gateway, and the network's policy.
pub fn write(layout: &Layout, plan: &Plan, deployment: &Deployment) -> Result<()> {
    let folder = layout.models();
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let policy = Policy::from_json(&tacit_types::jcs::to_bytes(&deployment.policy)?).context("the network's policy")?;
    write_file(&folder.join("policy.json"), &policy.canonical().context("the policy")?, 0o644)?;
    api_key(&folder.join("api.key"))?;
    let file = NodeFile { version: 1, url: format!("{}/ai", plan.url("gateway-1")?), account: None, simulated: true };
    write_file(&folder.join("node.json"), &serde_json::to_vec_pretty(&file)?, 0o644)
}
