//! The starters of the roles: read the configuration file, run until told to stop.

use std::path::Path;

use anyhow::{Context, Result};
use tacit_worker::WorkerConfig;
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::model;

/// Runs a worker and the models that it offers.
pub async fn worker(config: &Path) -> Result<()> {
    let config: WorkerConfig = toml::from_str(&read(config)?).with_context(|| config.display().to_string())?;
    let mut models = Vec::new();
    if let Some(ai) = &config.ai {
        for offered in &ai.models {
            models.push(model::start(&ai.store, &offered.name, &offered.engine).await.map_err(|error| error.error)?);
        }
    }
    Ok(tacit_worker::run(config, models, stopped()?).await?)
}

/// Runs a gatekeeper.
pub async fn gatekeeper(config: &Path) -> Result<()> {
    let config = tacit_gatekeeper::Config::from_toml(&read(config)?).with_context(|| config.display().to_string())?;
    let driver = config.driver();
    Ok(tacit_gatekeeper::run(config, driver, |_| (), stopped()?).await?)
}

/// Runs a gateway.
pub async fn gateway(config: &Path) -> Result<()> {
    let config = toml::from_str(&read(config)?).with_context(|| config.display().to_string())?;
    Ok(tacit_gateway::run(config).await?)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("could not read the configuration {}", path.display()))
}

/// Resolves when the process is asked to stop.
fn stopped() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
