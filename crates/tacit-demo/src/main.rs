#![doc = include_str!("../README.md")]

mod attacks;
mod contract;
mod exposure;
mod impostor;
mod network;
mod private_data;
mod recorder;
mod sample;
mod screen;
mod tool;
mod verification;
mod witness;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser;

/// The main job of Tacit.
#[derive(Parser)]
struct Arguments {
    /// The project's folder.
    #[arg(long)]
    project: PathBuf,
    /// The folder with the binaries `tacit` and `tacit-simulator`.
    #[arg(long)]
    binaries: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let clock = screen::Clock::start();
    let folder = tempfile::Builder::new().prefix("tacit-demo-").tempdir()?;
    let tool = tool::Tool::new(arguments.binaries.join("tacit"), folder.path().join("demo"));
    let outcome = steps(&tool, &arguments, folder.path()).await;
    if std::env::var_os("KEEP").is_some_and(|keep| keep == "1") {
        println!("Kept: {} (stop it with: tacit down --dir {0}/demo)", folder.keep().display());
    } else {
        tool.run(&["down"])?;
    }
    outcome?;
    println!(
        "DONE in {} after the build. Not shown by this machine: memory encryption, real chip roots, a GPU, several sites. docs/hardware.md",
        clock.seconds()
    );
    Ok(())
}

async fn steps(tool: &tool::Tool, arguments: &Arguments, folder: &Path) -> Result<()> {
    let network = network::Network::start(tool.clone(), &arguments.project, folder)?;
    impostor::run(&network)?;
    let data = private_data::run(&network, sample::rows(&network.example())?).await?;
    witness::run(&network, &data)?;
    verification::run(&network, &data.bundle)?;
    attacks::run(&network, &data).await
}
