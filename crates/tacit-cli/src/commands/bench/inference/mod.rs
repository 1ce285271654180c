//! A model's engine beside upstream's own library, several chats at the same time, what constant-shape look-ups cost, and the whole
//! protocol beside the bare engine.

mod engine;
mod hidden;
mod library;
mod service;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use tacit_inference::{Backend, EngineSettings, ModelStore, store::NewModel, store::Source};
use tacit_runtime::bench::Row;

use super::{cache, network, usage};
use crate::{
    commands::{model, serve::Ground},
    output,
};

/// The model that is measured, as `cargo xtask models` names its file.
const FILE: &str = "smollm2-135m-instruct-q4_1.gguf";
const NAME: &str = "smollm2-135m";
/// What the engine's kernels are built for (docs/decisions/0011-inference-engine.md).
const INSTRUCTIONS: &str = "x86-64-v3 (SSE4.2, AVX2, BMI2, FMA, F16C)";

/// Measures with a node and a model of its own.
pub async fn run() -> Result<Vec<Row>> {
    let weights = weights()?;
    let folder = tempfile::Builder::new().prefix("tacit-bench-").tempdir()?;
    let mut ground = None;
    let measured = network::interruptible(measure(folder.path(), &weights, &mut ground)).await;
    if let Some(ground) = ground {
        ground.stop().await;
    }
    folder.close().context("the benchmark's folder could not be removed")?;
    measured
}

async fn measure(folder: &Path, weights: &Path, ground: &mut Option<Ground>) -> Result<Vec<Row>> {
    let (store, node) = (folder.join("models"), folder.join("node"));
    let added = NewModel {
        source: Source::Path(weights.to_owned()),
        sha256: None,
        name: Some(NAME.to_owned()),
        licence: Some("Apache-2.0".to_owned()),
    };
    ModelStore::at(&store).add(added).await.context("the model cannot be added")?;
    let ground = ground.insert(Ground::prepare(&node).await.map_err(|failed| failed.error)?);
    output::note(format!("loading {NAME}"));
    let settings = EngineSettings::default();
    let model: Arc<dyn Backend> = model::start(&store, NAME, &settings).await.map_err(|failed| failed.error)?;
    let mut rows = library::rows(model.as_ref(), weights, &settings).await?;
    rows.push(engine::parallel(model.as_ref(), &settings).await?);
    let constant = EngineSettings { constant_shape: true, ..settings.clone() };
    let hidden = model::start(&store, NAME, &constant).await.map_err(|failed| failed.error)?;
    rows.extend(hidden::rows(model.as_ref(), hidden.as_ref(), &settings).await?);
    drop(hidden);
    rows.extend(service::rows(ground, &node, store, &model).await?);
    Ok(rows)
}

fn weights() -> Result<PathBuf> {
    let path = cache()?.join("models").join(FILE);
    ensure!(path.is_file(), "{FILE} is not there: run `cargo xtask models` in a checkout of this project first");
    Ok(path)
}

/// How a row is measured: file, settings, kernels, processor.
fn common(settings: &EngineSettings) -> String {
    let file = FILE.strip_suffix(".gguf").unwrap_or(FILE);
    let processor = usage::processor();
    format!(
        "{file}, {} thread, steps of at most 512, cache of {} tokens, {INSTRUCTIONS}, {processor}",
        settings.threads, settings.cells
    )
}

/// The middle of some figures, and how far they lie apart.
struct Figures(Vec<f64>);

impl Figures {
    fn of(figures: impl IntoIterator<Item = f64>) -> Result<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        ensure!(!figures.is_empty() && figures.iter().all(|figure| figure.is_finite()), "nothing was measured");
        figures.sort_by(f64::total_cmp);
        Ok(Self(figures))
    }

    fn at(&self, quarter: usize) -> f64 {
        self.0[(self.0.len() - 1) * quarter / 4]
    }

    fn median(&self) -> f64 {
        f64::midpoint(self.0[(self.0.len() - 1) / 2], self.0[self.0.len() / 2])
    }

    /// The bounds of the middle half.
    fn spread(&self, decimals: usize) -> String {
        format!("{:.decimals$} to {:.decimals$}", self.at(1), self.at(3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_a_middle_and_a_spread() {
        let figures = Figures::of([5.0, 1.0, 2.0, 4.0, 3.0]).unwrap();
        assert_eq!((figures.median(), figures.spread(1).as_str()), (3.0, "2.0 to 4.0"));
        assert_eq!(Figures::of([1.0, 4.0]).unwrap().median(), 2.5);
        assert!(Figures::of([]).is_err());
        assert!(Figures::of([f64::NAN]).is_err());
    }
}
