#![doc = include_str!("../README.md")]

mod attacks;
mod clock;
mod contract;
mod demo;
mod evidence;
mod exposure;
mod impostor;
mod inputs;
mod mutations;
mod network;
mod private_ai;
mod private_data;
mod recorder;
mod sample;
mod screen;
mod stranger;
mod tool;
mod verification;
mod witness;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::demo::Demo;

/// The main job of Tacit.
#[derive(Parser)]
struct Arguments {
    /// The project's folder.
    #[arg(long)]
    project: PathBuf,
    /// The folder with the binaries `tacit` and `tacit-simulator`.
    #[arg(long)]
    binaries: PathBuf,
    /// Spoils one input: the demo must end with status 1.
    #[arg(long, value_name = "NAME", value_parser = mutations::find)]
    mutate: Option<&'static mutations::Mutation>,
    /// Spoils each input in turn and checks that each time the right step fails.
    #[arg(long, conflicts_with = "mutate")]
    mutate_all: bool,
    /// Lists what can be spoiled.
    #[arg(long)]
    list_mutations: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.list_mutations {
        return mutations::list();
    }
    let mut demo = Demo::new(&arguments.project, &arguments.binaries)?;
    let outcome =
        if arguments.mutate_all { mutations::check_all(&mut demo).await } else { demo.show(arguments.mutate).await };
    demo.end().and(outcome)
}
