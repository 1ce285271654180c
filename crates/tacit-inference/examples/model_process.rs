//! The process of a model, as `tacit model run` is one: `model_process STORE NAME SETTINGS`. Tests start it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tacit_inference::{EngineSettings, ModelStore, process};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let store = PathBuf::from(arguments.next().context("no store")?);
    let name = arguments.next().context("no name")?;
    let settings: EngineSettings = serde_json::from_str(&arguments.next().context("no settings")?)?;
    let load = move || process::load(&ModelStore::at(&store), &name, 1, &settings);
    process::serve(load, tokio::io::stdin(), tokio::io::stdout()).await?;
    // The engine's threads may still be at work for somebody who has gone away.
    std::process::exit(0);
}
