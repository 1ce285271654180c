//! The user commands. Each module is one command; what they share is the environment that `main` read.

mod ai_node;
mod audit;
mod bench;
mod call;
mod chat;
mod context;
mod deploy;
mod dev;
mod doctor;
mod function;
pub mod model;
mod new;
mod proxy;
mod secrets;
pub mod serve;
mod status;
mod tcb;
mod verify;
mod worker;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use tacit_attest::{Policy, Preset};
use tacit_client::{Client, ClientError};
use tacit_types::{Address, FunctionId, UnixTime, deployment::Deployment, signature::SigningKey};
use tacit_verify::{Judge, Verdict};
use zeroize::Zeroizing;

use crate::{
    arguments::{AuditCommand, Command, RoleCommand, UpArguments, WorkerCommand},
    context::{Contexts, NetworkFolder, parse_key, read_key},
    error::{CommandError, Exit},
    network, output, roles,
};

/// What a command ends with.
pub type CommandResult = Result<Exit, CommandError>;

/// What `main` read from command line and environment for all commands.
pub struct Environment {
    /// The networks on this machine.
    pub contexts: Contexts,
    /// `TACIT_KEY`.
    pub key: Option<Zeroizing<String>>,
    /// `--keystore`.
    pub keystore: Option<PathBuf>,
}

/// Runs a command.
pub async fn run(command: Command, environment: &Environment) -> CommandResult {
    match command {
        Command::Up(arguments) => up(&arguments, environment).await,
        Command::Model(command) => model::run(&command, environment).await,
        Command::Serve(arguments) => serve::run(&arguments, environment).await,
        Command::Down => network::down(environment.network().path()).await.map(|()| Exit::Ok).map_err(Into::into),
        Command::Status(flag) => status::run(flag.json, environment).await,
        Command::Bench(arguments) => bench::run(&arguments).await,
        Command::Doctor => doctor::run(environment).await,
        Command::New(arguments) => new::run(&arguments),
        Command::Dev(argument) => dev::run(&argument.path, environment).await,
        Command::Deploy(arguments) => deploy::run(&arguments, environment).await,
        Command::Call(arguments) => call::run(&arguments, environment).await,
        Command::Verify(arguments) => verify::run(&arguments, environment).await,
        Command::Chat(arguments) => chat::run(&arguments, environment).await,
        Command::Proxy(arguments) => proxy::run(&arguments, environment).await,
        Command::Audit(AuditCommand::Export(arguments)) => audit::run(&arguments, environment).await,
        Command::Function(command) => function::run(&command, environment).await,
        Command::Secrets(command) => secrets::run(&command, environment).await,
        Command::Context(command) => context::run(&command, environment),
        Command::Worker(WorkerCommand::Check(arguments)) if !arguments.machines.is_empty() => {
            tcb::status(&arguments).await
        }
        Command::Worker(WorkerCommand::Check(arguments)) => worker::check(arguments.json, Path::new("/")),
        Command::Tcb(command) => tcb::run(&command).await,
        Command::Worker(WorkerCommand::Run(argument)) => role(roles::worker(&argument.config).await),
        Command::Gatekeeper(RoleCommand::Run(argument)) => role(roles::gatekeeper(&argument.config).await),
        Command::Gateway(RoleCommand::Run(argument)) => role(roles::gateway(&argument.config).await),
    }
}

async fn up(arguments: &UpArguments, environment: &Environment) -> CommandResult {
    if arguments.threshold > arguments.gatekeepers {
        return Err(CommandError::usage(
            "the threshold is greater than the number of gatekeepers",
            "see `tacit up --help`",
        ));
    }
    let arguments = network::UpArguments {
        folder: environment.network().path().to_owned(),
        workers: arguments.workers,
        gatekeepers: arguments.gatekeepers,
        threshold: arguments.threshold,
        models: arguments.models.clone(),
        models_folder: environment.contexts.models_folder(),
        detach: arguments.detach,
    };
    network::up(arguments).await?;
    Ok(Exit::Ok)
}

fn role(result: anyhow::Result<()>) -> CommandResult {
    result.map(|()| Exit::Ok).map_err(Into::into)
}

impl Environment {
    /// The network that is meant.
    pub fn network(&self) -> NetworkFolder {
        self.contexts.current()
    }

    /// The deployment of the network that is meant.
    pub fn deployment(&self) -> Result<Deployment, CommandError> {
        let network = self.network();
        network.deployment().map_err(|error| {
            CommandError::hinted(
                error,
                format!("start a network with `tacit up` (its folder would be {}), or name one with --dir or `tacit context use`", network.path().display()),
            )
        })
    }

    /// The caller's key: `TACIT_KEY`, else `--keystore`, else the network's own.
    pub fn caller_key(&self) -> Result<Option<SigningKey>, CommandError> {
        if let Some(path) = &self.keystore {
            return Ok(Some(read_key(path)?));
        }
        if let Some(text) = &self.key {
            return Ok(Some(parse_key(text).context("TACIT_KEY does not hold a key")?));
        }
        let network = self.network();
        if network.caller_key_path().exists() { Ok(Some(network.caller_key()?)) } else { Ok(None) }
    }

    /// A client of the network, judging by `policy` or by what suits the network.
    pub fn client(&self, policy: Option<&str>) -> Result<Client, CommandError> {
        let deployment = self.deployment()?;
        let judge = match policy {
            Some(policy) => judge(policy)?,
            None if deployment.genesis.simulated => {
                output::note(format!(
                    "SIMULATED network {}: the protocol is real, the hardware is not",
                    deployment.genesis.network
                ));
                Judge::Preset(Preset::Dev)
            }
            None => Judge::Preset(Preset::Standard),
        };
        let client = Client::new(deployment, judge).map_err(client_error)?;
        Ok(match self.caller_key()? {
            Some(key) => client.with_caller(key),
            None => client,
        })
    }
}

/// The judge that `--policy` names.
pub fn judge(policy: &str) -> Result<Judge, CommandError> {
    if let Some(preset) = Preset::named(policy) {
        return Ok(Judge::Preset(preset));
    }
    let path = Path::new(policy);
    let text = std::fs::read_to_string(path).map_err(|error| {
        CommandError::usage(
            format!("{policy:?} is neither a policy's name nor a file: {error}"),
            "--policy dev, standard, high, or a file",
        )
    })?;
    let read = if path.extension().is_some_and(|extension| extension == "json") {
        Policy::from_json(text.as_bytes())
    } else {
        Policy::from_toml(&text)
    };
    let policy = read.map_err(|error| {
        CommandError::new(Exit::Usage, anyhow!(error).context(format!("{} is not a policy", path.display())))
    })?;
    Ok(Judge::Policy(Box::new(policy)))
}

/// The clock.
pub fn now() -> UnixTime {
    UnixTime(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |passed| passed.as_secs()))
}

/// The function that a name, `0xowner/name` or id means.
pub fn resolve_function(client: &Client, text: &str) -> Result<FunctionId, CommandError> {
    let hint = "a function is a name (yours), 0xOWNER/NAME, or an id of 0x and 64 hex digits";
    let by_name = |owner: Address, name: &str| {
        if !crate::context::is_name(name) {
            return Err(CommandError::usage(format!("{name:?} is not a function's name"), hint));
        }
        client.function_id(owner, name).map_err(client_error)
    };
    if let Some((owner, name)) = text.split_once('/') {
        let owner = owner
            .parse()
            .map_err(|error| CommandError::usage(format!("{owner:?} is not an account: it {error}"), hint))?;
        return by_name(owner, name);
    }
    if text.starts_with("0x") {
        return text
            .parse()
            .map_err(|error| CommandError::usage(format!("{text:?} is not a function's id: it {error}"), hint));
    }
    let owner = client.caller().ok_or_else(|| client_error(ClientError::NoKey))?;
    by_name(owner, text)
}

/// A client's failure as a command's: exit status by verdict or kind of refusal, with its hint.
pub fn client_error(error: ClientError) -> CommandError {
    let exit = match (error.verdict(), &error) {
        (Some(Verdict::Simulated), _) => Exit::Simulated,
        (Some(Verdict::Incomplete), _) => Exit::Incomplete,
        (Some(Verdict::Refused), _) => Exit::Refused,
        (_, ClientError::Sealed(problem)) if matches!(problem.kind.status(), 401 | 403) => Exit::Refused,
        (_, ClientError::Request(_)) => Exit::Usage,
        _ => Exit::Failed,
    };
    let hint = error.hint();
    CommandError { exit, error: anyhow!(error), hint }
}
