//! The command line.

mod ai;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use ai::{AuditArguments, AuditCommand, ChatArguments, KeepArgument, NodeArguments, ProxyArguments};

/// Deploy confidential functions, call them, and check what answered.
#[derive(Debug, Parser)]
#[command(
    name = "tacit",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  tacit up --detach && tacit new hello && cd hello && tacit deploy && tacit call hello greet '{\"name\":\"Ada\"}'\n\n\
        Exit status: 0 ok, 1 failed, 2 wrong command line, 3 refused, 4 simulated root, 5 incomplete."
)]
pub struct Arguments {
    /// The network's folder; else the network chosen by `tacit context use`, else `local`.
    #[arg(long, global = true, env = "TACIT_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// File with the key that signs calls and transactions; else TACIT_KEY, else the network's own caller key.
    #[arg(long, global = true, value_name = "FILE")]
    pub keystore: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a network on this machine: chain, gatekeepers, workers, gateways, one process each.
    #[command(after_help = "Example:\n  tacit up --workers 2 --detach")]
    Up(UpArguments),
    /// Serve models to OpenAI clients from one private node: no chain, no token, no wallet.
    #[command(after_help = "Examples:\n  tacit serve\n  tacit serve --model smollm2-135m-instruct --threads 2")]
    Serve(ServeArguments),
    /// Add models to this machine, and list them.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Stop the network of this machine.
    #[command(after_help = "Example:\n  tacit down")]
    Down,
    /// Show the network's nodes and what they do.
    #[command(after_help = "Example:\n  tacit status --json")]
    Status(JsonFlag),
    /// Check this machine and the network for what commonly goes wrong.
    #[command(after_help = "Example:\n  tacit doctor")]
    Doctor,
    /// Measure on this machine and print rows.
    #[command(after_help = "Examples:\n  tacit bench call\n  tacit bench gatekeepers --json > gatekeepers.json")]
    Bench(BenchArguments),
    /// Make a folder with a new function.
    #[command(after_help = "Example:\n  tacit new my-oracle --template oracle")]
    New(NewArguments),
    /// Redeploy whenever a file of the function changes.
    #[command(after_help = "Example:\n  tacit dev my-oracle")]
    Dev(PathArgument),
    /// Publish a function, or a new version of it.
    #[command(after_help = "Example:\n  tacit deploy my-oracle --json")]
    Deploy(DeployArguments),
    /// Call a method, sealed, and verify the answer's receipt.
    #[command(
        after_help = "Examples:\n  tacit call hello greet '{\"name\":\"Ada\"}' --receipt hello.receipt.json\n  tacit call 0x…/hello greet @request.json\n  echo '[1,2]' | tacit call hello sum -"
    )]
    Call(CallArguments),
    /// Verify a receipt bundle or raw evidence, offline, against a deployment that you trust.
    #[command(after_help = "Example:\n  tacit verify hello.receipt.json --deployment deployment.json --policy dev")]
    Verify(VerifyArguments),
    /// Ask a private model; the answer's proof goes to standard error.
    #[command(
        after_help = "Examples:\n  tacit chat \"What is a Merkle tree?\"\n  tacit chat --system \"Answer in one word.\" --temperature 0\n  tacit chat \"Hello\" --node https://node.example.com --policy node.toml --api-key key.txt --json"
    )]
    Chat(ChatArguments),
    /// Give OpenAI clients a local endpoint that verifies the node first, seals each request, and checks each receipt.
    #[command(
        after_help = "Examples:\n  tacit proxy\n  tacit proxy --listen 127.0.0.1:9000 --model-digest sha256:… --keep hashes\n  OPENAI_BASE_URL=http://127.0.0.1:8787/v1 OPENAI_API_KEY=unused python app.py"
    )]
    Proxy(ProxyArguments),
    /// Check what was asked of models.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look at functions and change them.
    #[command(subcommand)]
    Function(FunctionCommand),
    /// Give a function its secrets.
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Choose which network commands talk to.
    #[command(subcommand)]
    Context(ContextCommand),
    /// Run a worker, or see whether this machine could be one.
    #[command(subcommand)]
    Worker(WorkerCommand),
    /// See where machines stand under Intel's TCB documents, and which a new document drops.
    #[command(subcommand)]
    Tcb(TcbCommand),
    /// Run a gatekeeper.
    #[command(subcommand)]
    Gatekeeper(RoleCommand),
    /// Run a gateway.
    #[command(subcommand)]
    Gateway(RoleCommand),
}

impl Command {
    /// Whether this runs a node, which logs what it does.
    pub fn is_role(&self) -> bool {
        matches!(
            self,
            Self::Serve(_)
                | Self::Proxy(_)
                | Self::Worker(WorkerCommand::Run(_))
                | Self::Gatekeeper(RoleCommand::Run(_))
                | Self::Gateway(RoleCommand::Run(_))
        )
    }
}

/// `tacit up`.
#[derive(Debug, Args)]
pub struct UpArguments {
    /// Workers of a new network.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub workers: u32,
    /// Gatekeepers of a new network.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub gatekeepers: u32,
    /// How many gatekeepers admit a worker and release a key.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub threshold: u32,
    /// A model that the workers of a new network offer, by its name in the store.
    #[arg(long = "model", value_name = "NAME")]
    pub models: Vec<String>,
    /// Return when the network is ready and leave it running.
    #[arg(long)]
    pub detach: bool,
}

/// `tacit model`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Add a model: a GGUF file, an ONNX file, or the safetensors of a sentence encoder.
    #[command(
        after_help = "Examples:\n  tacit model add SmolLM2-135M-Instruct.Q4_1.gguf --name smollm2-135m-instruct\n  tacit model add hf:OWNER/NAME@REVISION:FILE.gguf --sha256 HEX"
    )]
    Add(ModelAddArguments),
    /// List the models of this machine.
    #[command(after_help = "Example:\n  tacit model list")]
    List(JsonFlag),
    /// Run a model for the process that started this one.
    #[command(hide = true, after_help = "Example:\n  started by `tacit serve`")]
    Run(ModelRunArguments),
}

/// `tacit model add`.
#[derive(Debug, Args)]
pub struct ModelAddArguments {
    /// A path, an http(s) address, or hf:OWNER/NAME@REVISION:FILE.
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// SHA-256 that the file must have; needed for what comes from a server.
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// Name under which clients ask for it; made from the file's without.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// SPDX expression of its licence; what the file says without.
    #[arg(long, value_name = "SPDX")]
    pub licence: Option<String>,
}

/// `tacit model run`.
#[derive(Debug, Args)]
pub struct ModelRunArguments {
    /// Folder of the models.
    pub store: PathBuf,
    /// The model.
    pub name: String,
    /// How it is run, as JSON.
    pub settings: String,
}

/// `tacit serve`.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// A model to serve, by its name in the store; all of them without.
    #[arg(long = "model", value_name = "NAME")]
    pub models: Vec<String>,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
    /// A host name that clients use; localhost and 127.0.0.1 without.
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Threads of each model; at most the cores that this machine can spare.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Requests that a model works on at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub slots: u32,
    /// Look up tokens without telling which to whoever watches the machine's memory; slower, and not for every model
    /// (docs/ai-side-channels.md).
    #[arg(long)]
    pub constant_shape: bool,
}

impl ServeArguments {
    /// How each model is run.
    pub fn engine(&self) -> tacit_inference::EngineSettings {
        tacit_inference::EngineSettings {
            threads: self.threads,
            slots: self.slots,
            constant_shape: self.constant_shape,
            ..tacit_inference::EngineSettings::default()
        }
    }
}

/// `tacit bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// Which benchmark.
    #[arg(value_name = "NAME")]
    pub name: Benchmark,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A benchmark: some rows that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Benchmark {
    /// Fresh sandboxes, beside QuickJS, Node and workerd.
    Runtime,
    /// Verification of real evidence, beside the libraries' own.
    Attest,
    /// Whole calls over a local network: latency, throughput, nodes that are apart.
    Call,
    /// Memory of functions that nobody calls.
    Density,
    /// Keys and acknowledgements of four gatekeepers.
    Gatekeepers,
    /// Gas of verification, and a contract's requests per second.
    Chain,
    /// A model's engine beside upstream's library, and whole private chats beside the bare engine.
    Inference,
}

/// `--json`.
#[derive(Debug, Args)]
pub struct JsonFlag {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A project folder.
#[derive(Debug, Args)]
pub struct PathArgument {
    /// The function's folder.
    #[arg(default_value = ".")]
    pub path: PathBuf,
}

/// `tacit new`.
#[derive(Debug, Args)]
pub struct NewArguments {
    /// Name of the function and of its folder: a-z, 0-9 and -.
    pub name: String,
    /// What to begin with.
    #[arg(long, value_enum, default_value_t = Template::Ts)]
    pub template: Template,
}

/// What a new function begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// TypeScript with state.
    Ts,
    /// JavaScript with state.
    Js,
    /// TypeScript that fetches from the network and remembers.
    Oracle,
}

/// `tacit deploy`.
#[derive(Debug, Args)]
pub struct DeployArguments {
    /// The function's folder.
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Judge workers by this: dev, standard, high, or a policy file. Default: dev on a simulated network, else standard.
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
}

/// `tacit call`.
#[derive(Debug, Args)]
pub struct CallArguments {
    /// The function: its name (yours), 0xOWNER/NAME, or its id.
    pub function: String,
    /// The method.
    pub method: String,
    /// The body: JSON, @FILE, or - for standard input.
    #[arg(default_value = "null", value_name = "JSON|@FILE|-")]
    pub body: String,
    /// Keep the receipt bundle in this file.
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// Print JSON with call id, outcome, response and receipt.
    #[arg(long)]
    pub json: bool,
    /// Run as a query: nothing may be written.
    #[arg(long)]
    pub query: bool,
    /// Accept state that may be old, from any replica.
    #[arg(long, conflicts_with = "query")]
    pub stale: bool,
    /// Run once at most for this key, however often it is called.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Seconds until an answer must be there.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=900))]
    pub deadline: u64,
    /// Answer from state at this sequence or later.
    #[arg(long, value_name = "SEQUENCE")]
    pub min_sequence: Option<u64>,
    /// Only this version of the code may answer.
    #[arg(long, value_name = "CODE_HASH")]
    pub code: Option<tacit_types::CodeHash>,
    /// Go through this gateway (may be repeated); else through those of the deployment.
    #[arg(long, value_name = "URL")]
    pub gateway: Vec<String>,
    /// Go straight to this worker (may be repeated).
    #[arg(long, value_name = "URL")]
    pub worker: Vec<String>,
    /// Judge by this: dev, standard, high, or a policy file. Default: dev on a simulated network, else standard.
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// Call without a name, even if there is a key.
    #[arg(long)]
    pub anonymous: bool,
}

/// `tacit verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// A receipt bundle, a worker's certificate, a keyset report, an AI transcript, a raw quote, report or document: a file, or an
    /// http(s) URL.
    pub file: String,
    /// Collateral for raw evidence, as often as there are files: JSON as DCAP tools write it, certificates or revocation lists.
    #[arg(long, value_name = "FILE")]
    pub collateral: Vec<String>,
    /// The nonce that you gave, where the evidence was made for one.
    #[arg(long, value_name = "HEX")]
    pub nonce: Option<String>,
    /// The deployment that you trust; else the network on this machine with the bundle's cluster id.
    #[arg(long, value_name = "FILE")]
    pub deployment: Option<PathBuf>,
    /// Judge by this: dev, standard, high, or a policy file.
    #[arg(long, default_value = "standard", value_name = "POLICY")]
    pub policy: String,
    /// When raw evidence is judged: unix seconds or YYYY-MM-DDTHH:MM:SSZ. Default: now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `tacit function`.
#[derive(Debug, Subcommand)]
pub enum FunctionCommand {
    /// List your functions.
    #[command(after_help = "Example:\n  tacit function list --json")]
    List(JsonFlag),
    /// Show a function: versions, code, what it could talk to.
    #[command(after_help = "Example:\n  tacit function show hello")]
    Show(ShowArguments),
    /// Publish a new version of a function that exists.
    #[command(after_help = "Example:\n  tacit function upgrade hello ./hello")]
    Upgrade(UpgradeArguments),
    /// Allow no further version, for ever.
    #[command(after_help = "Example:\n  tacit function freeze hello")]
    Freeze(FunctionArgument),
}

/// A function.
#[derive(Debug, Args)]
pub struct FunctionArgument {
    /// The function: its name (yours), 0xOWNER/NAME, or its id.
    pub function: String,
}

/// `tacit function show`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The function: its name (yours), 0xOWNER/NAME, or its id.
    pub function: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `tacit function upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeArguments {
    /// The function: its name (yours), 0xOWNER/NAME, or its id.
    pub function: String,
    /// The function's folder.
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `tacit secrets`.
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Set one secret. Without =VALUE it is read from standard input, where no history keeps it.
    #[command(
        after_help = "Examples:\n  tacit secrets set my-oracle API_KEY\n  pass show api | tacit secrets set my-oracle API_KEY=-"
    )]
    Set(SecretArguments),
}

/// `tacit secrets set`.
#[derive(Debug, Args)]
pub struct SecretArguments {
    /// The function: its name (yours), 0xOWNER/NAME, or its id.
    pub function: String,
    /// NAME, NAME=- or NAME=VALUE.
    #[arg(value_name = "NAME[=VALUE|-]")]
    pub secret: String,
}

/// `tacit context`.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Remember a network under a name by its deployment file, which you trust.
    #[command(after_help = "Example:\n  tacit context add team --deployment team.deployment.json")]
    Add(ContextAddArguments),
    /// Talk to this network from now on.
    #[command(after_help = "Example:\n  tacit context use local")]
    Use(ContextUseArguments),
}

/// `tacit context add`.
#[derive(Debug, Args)]
pub struct ContextAddArguments {
    /// Name: a-z, 0-9 and -.
    pub name: String,
    /// The deployment file.
    #[arg(long, value_name = "FILE")]
    pub deployment: PathBuf,
}

/// `tacit context use`.
#[derive(Debug, Args)]
pub struct ContextUseArguments {
    /// Name of a network on this machine.
    pub name: String,
}

/// `tacit worker`.
#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// See whether this machine has the hardware that makes evidence; with recorded machines, where those stand instead.
    #[command(
        after_help = "Examples:\n  tacit worker check\n  tacit worker check --machine rack-3.profile.json --documents tcb-info.json"
    )]
    Check(TcbArguments),
    /// Run a worker.
    #[command(after_help = "Example:\n  tacit worker run --config worker.toml")]
    Run(ConfigArgument),
}

/// `tacit tcb`.
#[derive(Debug, Subcommand)]
pub enum TcbCommand {
    /// Show where machines stand today and under the early edition, what is short, and what raises it.
    #[command(
        after_help = "Example:\n  tacit tcb status --machine quote.bin\n  tacit tcb status --machine rack-3.profile.json --documents tcb-info.json --json"
    )]
    Status(TcbArguments),
    /// Show which machines fall out of a policy if these documents take effect; exit status 3 if any does.
    #[command(
        after_help = "Example:\n  tacit tcb rehearse --machine a.json --machine b.json --documents early.json --policy standard"
    )]
    Rehearse(TcbRehearseArguments),
    /// Fetch the collateral that a piece of evidence is checked with, and print it as JSON for `tacit verify --collateral`.
    #[command(after_help = "Example:\n  tacit tcb collateral quote.bin > collateral.json")]
    Collateral(TcbCollateralArguments),
}

/// `tacit tcb collateral`.
#[derive(Debug, Args)]
pub struct TcbCollateralArguments {
    /// The evidence: a quote or report as it is, or the JSON form.
    #[arg(value_name = "FILE")]
    pub evidence: PathBuf,
    /// Another service to ask than Intel's, for example a PCCS.
    #[arg(long, value_name = "URL")]
    pub pccs: Option<String>,
    /// Another service to ask than AMD's.
    #[arg(long, value_name = "URL")]
    pub kds: Option<String>,
}

/// Machines, and the documents that they are held against.
#[derive(Debug, Args)]
pub struct TcbArguments {
    /// A machine: its recorded profile (JSON), or a quote that it made. As often as there are machines.
    #[arg(long = "machine", value_name = "FILE")]
    pub machines: Vec<PathBuf>,
    /// Documents to go by: collateral as DCAP tools write it, or a TCB info. Without, Intel's service is asked for both editions.
    #[arg(long, value_name = "FILE")]
    pub documents: Vec<PathBuf>,
    /// Another service to ask, for example a PCCS.
    #[arg(long, value_name = "URL", conflicts_with = "documents")]
    pub pccs: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `tacit tcb rehearse`.
#[derive(Debug, Args)]
pub struct TcbRehearseArguments {
    /// Machines and documents.
    #[command(flatten)]
    pub tcb: TcbArguments,
    /// The policy that machines fall out of: dev, standard, high, or a policy file.
    #[arg(long, default_value = "standard", value_name = "POLICY")]
    pub policy: String,
    /// When: unix seconds or YYYY-MM-DDTHH:MM:SSZ. Default: now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

/// `tacit gatekeeper` and `tacit gateway`.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Run the node.
    #[command(after_help = "Example:\n  tacit gateway run --config gateway.toml")]
    Run(ConfigArgument),
}

/// A role's configuration.
#[derive(Debug, Args)]
pub struct ConfigArgument {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        fn walk(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.starts_with("Example"), "{} has no example", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        Arguments::command().get_subcommands().for_each(walk);
    }

    #[test]
    fn a_key_is_never_an_argument() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                assert_ne!(argument.get_env(), Some(std::ffi::OsStr::new("TACIT_KEY")));
                assert!(!matches!(argument.get_long(), Some("key" | "secret" | "private-key")));
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Arguments::command());
    }
}
