//! `tacit model`: the models of this machine, and the process of each that runs.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, anyhow};
use tacit_inference::{
    Backend, EngineSettings, ModelManifest, ModelProcess, ModelStore,
    manifest::FileRole,
    process,
    store::{NewModel, StoreError},
};

use super::{CommandResult, Environment};
use crate::{
    arguments::{ModelAddArguments, ModelCommand, ModelRunArguments},
    error::{CommandError, Exit},
    output,
};

/// Runs `tacit model`.
pub async fn run(command: &ModelCommand, environment: &Environment) -> CommandResult {
    let store = ModelStore::at(&environment.contexts.models_folder());
    match command {
        ModelCommand::Add(arguments) => add(arguments, &store).await,
        ModelCommand::List(flag) => list(&store, flag.json),
        ModelCommand::Run(arguments) => serve(arguments).await,
    }
}

async fn add(arguments: &ModelAddArguments, store: &ModelStore) -> CommandResult {
    let usage = |what: String| CommandError::usage(what, "see `tacit model add --help`");
    let source = arguments.source.parse().map_err(|error| usage(format!("{:?}: {error}", arguments.source)))?;
    let sha256 = arguments.sha256.as_deref().map(|text| {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        format!("0x{digits}").parse().map_err(|_| usage("--sha256 takes 64 lower-case hexadecimal digits".to_owned()))
    });
    let new = NewModel {
        source,
        sha256: sha256.transpose()?,
        name: arguments.name.clone(),
        licence: arguments.licence.clone(),
    };
    let manifest = store.add(new).await.map_err(refused)?;
    output::line(described(&manifest)?)?;
    Ok(Exit::Ok)
}

/// What a refusal to add means for the exit status: a wrong digest is a refusal, the rest is failure.
fn refused(error: StoreError) -> CommandError {
    let hint = match &error {
        StoreError::NoDigest => Some("give the digest that whoever published the file names: --sha256 HEX".to_owned()),
        StoreError::Taken { .. } => Some("choose another name with --name".to_owned()),
        _ => None,
    };
    let exit = if matches!(error, StoreError::Digest { .. }) { Exit::Refused } else { Exit::Failed };
    CommandError { exit, error: anyhow!(error), hint }
}

fn list(store: &ModelStore, json: bool) -> CommandResult {
    let manifests = store.list().map_err(refused)?;
    if json {
        output::json(&manifests)?;
        return Ok(Exit::Ok);
    }
    if manifests.is_empty() {
        output::note("no models; add one with `tacit model add`");
    }
    for manifest in &manifests {
        output::line(described(manifest)?)?;
    }
    Ok(Exit::Ok)
}

fn described(manifest: &ModelManifest) -> Result<String, CommandError> {
    let digest = manifest.digest().context("a manifest without a digest")?;
    let bytes: u64 = manifest.files.iter().map(|file| file.size).sum();
    let kind = match manifest.embedding {
        _ if manifest.files_of(FileRole::Onnx).next().is_some() => "tensors".to_owned(),
        Some(length) => format!("embeddings of {length}"),
        None => format!("{} tokens", manifest.context),
    };
    Ok(format!(
        "{}  sha256:{}  {} MiB  {kind}  {}  from {}",
        manifest.name,
        hex::encode(digest.as_bytes()),
        bytes.div_ceil(1 << 20),
        manifest.licence,
        manifest.source
    ))
}

/// The names of all models of a store.
pub fn names(folder: &Path) -> Result<Vec<String>, CommandError> {
    let manifests = ModelStore::at(folder).list().map_err(refused)?;
    Ok(manifests.into_iter().map(|manifest| manifest.name).collect())
}

/// Starts a model in a process of its own: whatever a file makes its parser do ends that process and not this one.
pub async fn start(store: &Path, name: &str, settings: &EngineSettings) -> Result<Arc<dyn Backend>, CommandError> {
    let program = std::env::current_exe().context("the path of this program is unknown")?;
    let settings = serde_json::to_string(settings)?;
    let arguments = ["model".into(), "run".into(), store.into(), name.into(), settings.into()];
    let launch = process::Launch { program, arguments: arguments.into() };
    let model = ModelProcess::start(launch).await.with_context(|| format!("the model {name}"))?;
    Ok(Arc::new(model))
}

/// The process of a model: answers its parent over standard input and output.
async fn serve(arguments: &ModelRunArguments) -> CommandResult {
    let settings: EngineSettings = serde_json::from_str(&arguments.settings)?;
    let (store, name) = (ModelStore::at(&arguments.store), arguments.name.clone());
    let created = super::now().0;
    let load = move || process::load(&store, &name, created, &settings);
    process::serve(load, tokio::io::stdin(), tokio::io::stdout()).await?;
    // The engine's threads may still be at work for somebody who has gone away.
    std::process::exit(0);
}
