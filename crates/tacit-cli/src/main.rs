//! `tacit`: every role and every user command of a Tacit network.

mod arguments;
mod commands;
mod context;
mod error;
mod network;
mod output;
mod roles;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use clap::Parser as _;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use crate::{arguments::Arguments, commands::Environment, context::Contexts, error::Exit};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let level = if arguments.command.is_role() { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).init();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let environment = Environment {
        contexts: Contexts::new(networks_folder(), arguments.dir.clone()),
        key: std::env::var("TACIT_KEY").ok().map(Zeroizing::new),
        keystore: arguments.keystore.clone(),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: could not start: {error}");
            return Exit::Failed.into();
        }
    };
    match runtime.block_on(commands::run(arguments.command, &environment)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprint!("{}", error.lines());
            error.exit.into()
        }
    }
}

/// Where networks are kept: `$XDG_DATA_HOME/tacit`, else `~/.local/share/tacit`.
fn networks_folder() -> PathBuf {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| ".".into())).join(".local/share");
    data.unwrap_or_else(home).join("tacit")
}
