//! What the steps read. A mutation changes something here and nothing else: it can skip no check.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::RngExt as _;

use crate::private_data::PrivateData;

/// Bundles that are altered and shown to the verifier.
const ALTERED: usize = 1_000;

/// Everything that the steps read, but for the network itself.
#[derive(Clone)]
pub struct Inputs {
    /// The project's folder.
    pub project: PathBuf,
    /// Step 1: the folder in which `tacit/evidence` holds the samples.
    pub cache: PathBuf,
    /// Step 2: the binary that every worker of the network runs.
    pub worker_binary: PathBuf,
    /// Step 2: the bits that differ in one byte of the binary of worker-x.
    pub impostor_bits: u8,
    /// Step 3: the function's project.
    pub example: PathBuf,
    /// Step 3: what plain Node reads: its script with the model and the held-out rows.
    pub reference: PathBuf,
    /// Step 4: the client's own file, in which every marker must be found.
    pub client_file: PathBuf,
    /// Step 5: the deployment that the verifier trusts.
    pub deployment: PathBuf,
    /// Step 6: the bits that differ in one byte of each altered bundle.
    pub altered_bits: Vec<u8>,
    /// Step 6: the id of the other chain.
    pub other_chain: u64,
    /// Step 6: commands between the copy of a worker's disk and the end of that worker.
    pub commands_after_copy: u32,
    /// Step 6: commands between yesterday's store and its return.
    pub commands_since_yesterday: u32,
    /// Step 7: what a buyer writes.
    pub complaint: String,
    /// Step 7: the bits that differ in one byte of the swapped model.
    pub swapped_bits: u8,
    /// Step 7: what the forged answer says instead.
    pub forged_label: &'static str,
    /// What step 3 leaves for the steps after it.
    pub left: Option<PrivateData>,
}

impl Inputs {
    /// The inputs as they are, for a network in the folder `network`.
    pub fn honest(project: &Path, network: &Path) -> Result<Self> {
        let example = project.join("examples/medical-check");
        Ok(Self {
            project: project.to_owned(),
            cache: cache()?,
            worker_binary: network.join("bin/tacit"),
            impostor_bits: 1,
            reference: example.clone(),
            client_file: example.join("data/held-out.csv"),
            example,
            deployment: network.join("deployment.json"),
            altered_bits: (0..ALTERED).map(|_| 1 << rand::rng().random_range(0..8)).collect(),
            other_chain: 31_338,
            commands_after_copy: 2,
            commands_since_yesterday: 3,
            complaint: "The kettle came with a crack and leaks all over the table.".to_owned(),
            swapped_bits: 1,
            forged_label: "other",
            left: None,
        })
    }

    /// What step 3 left.
    pub fn left(&self) -> Result<&PrivateData> {
        self.left.as_ref().context("step 3 has not run")
    }
}

/// `${XDG_CACHE_HOME:-~/.cache}`.
fn cache() -> Result<PathBuf> {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cache")))
        .context("neither XDG_CACHE_HOME nor a home folder is known")
}
