//! Automation behind the Makefile: one command per chore, no loose scripts.

mod demo;
mod evidence;
mod gpu_evidence;
mod guests;
mod install;
mod models;
mod peers;
mod steps;
mod test;
mod tidy;
mod verifier;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask <build | demo | evidence | guests | install | models | peers | test [--long] | tidy | verifier>";

fn main() -> Result<()> {
    let root = root();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["build"] => install::build(&root),
        ["demo", ..] => demo::run(&root, &arguments[1..]),
        ["evidence"] => evidence::run(&root),
        ["guests"] => guests::run(&root),
        ["install"] => install::link(&root),
        ["models"] => models::run(),
        ["peers"] => peers::run(&root),
        ["test"] => test::run(&root, false),
        ["test", "--long"] => test::run(&root, true),
        ["tidy"] => tidy::run(&root),
        ["verifier"] => verifier::run(&root).map(drop),
        _ => bail!("{USAGE}"),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}
