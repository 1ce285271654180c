//! `tacit serve`: one node for private AI, with no chain, token or wallet in sight. Who asks it verifies it by `policy.json` alone.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use tacit_attest::{ExtraRoot, Policy, Preset, Vendor};
use tacit_inference::Backend;
use tacit_platform::Driver;
use tacit_types::{Address, Measurement};
use tacit_worker::{AiConfig, AiNode, KeyConfig, Machine, ModelConfig, NodeConfig};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::{CommandResult, Environment, model};
use crate::{
    arguments::ServeArguments,
    context::write_file,
    error::{CommandError, Exit},
    network::process::{Program, Supervisor},
    output,
};

/// How long the simulated chip has to come up.
const CHIP: Duration = Duration::from_secs(20);

/// `node.json`: what a client on this machine needs to find the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeFile {
    /// The form's version, 1.
    pub version: u32,
    /// Where it listens.
    pub url: String,
    /// The account under which its log is found; none for the workers of a network, of which any may answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Address>,
    /// Whether its machine is a simulated one.
    pub simulated: bool,
}

/// Runs a node until it is told to stop.
pub async fn run(arguments: &ServeArguments, environment: &Environment) -> CommandResult {
    let folder = environment.contexts.serve_folder();
    std::fs::create_dir_all(&folder).with_context(|| format!("could not make the folder {}", folder.display()))?;
    let store = environment.contexts.models_folder();
    let names = models(arguments, &store)?;

    let ground = Ground::prepare(&folder).await?;
    let mut backends: Vec<Arc<dyn Backend>> = Vec::new();
    for name in &names {
        output::note(format!("loading {name}"));
        backends.push(model::start(&store, name, &arguments.engine()).await?);
    }
    let described: Vec<Vec<String>> = backends.iter().map(|backend| described(backend.as_ref())).collect();
    let node = ground.start(&folder, arguments, store, backends).await?;
    let url = url(&node);
    let file = NodeFile { version: 1, url: url.clone(), account: Some(node.account()), simulated: ground.simulated };
    write_file(&folder.join("node.json"), &serde_json::to_vec_pretty(&file)?, 0o644)?;
    tell(&folder, &url, &described, &node)?;

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let _ = std::fs::remove_file(folder.join("node.json"));
    drop(node);
    ground.stop().await;
    Ok(Exit::Ok)
}

/// What a node stands on, beside its models.
pub struct Ground {
    /// Under what its clients judge it.
    pub policy: Policy,
    /// The key that its clients use.
    pub key: Zeroizing<String>,
    machine: Machine,
    simulated: bool,
    supervisor: Supervisor,
}

impl Ground {
    /// Finds this machine's TEE or starts a simulated one; writes policy and key into `folder`.
    ///
    /// # Errors
    /// When the machine gives no evidence that holds, the simulator does not start, or a file cannot be written.
    pub async fn prepare(folder: &Path) -> Result<Self, CommandError> {
        let mut supervisor = Supervisor::new(&folder.join("logs"))?;
        let (machine, policy, simulated) = match Driver::find(Path::new("/")) {
            Some(driver) => (Machine::Kernel { root: "/".into() }, hardware_policy(&driver).await?, false),
            None => {
                output::note(
                    "no TEE found: a SIMULATED machine attests this node; the protocol is real, the hardware is not",
                );
                let (socket, policy) = simulated_machine(folder, &mut supervisor).await?;
                (Machine::GuestAgent { socket }, policy, true)
            }
        };
        write_file(&folder.join("policy.json"), &policy.canonical().context("the policy")?, 0o644)?;
        let key = api_key(&folder.join("api.key"))?;
        Ok(Self { policy, key, machine, simulated, supervisor })
    }

    /// Starts a node in `folder` that serves these models of a store.
    ///
    /// # Errors
    /// As [`AiNode::start`].
    pub async fn start(
        &self,
        folder: &Path,
        arguments: &ServeArguments,
        store: PathBuf,
        backends: Vec<Arc<dyn Backend>>,
    ) -> Result<AiNode> {
        let models = backends.iter().map(|backend| ModelConfig {
            name: backend.identity().name.clone(),
            engine: arguments.engine(),
            price: None,
        });
        let config = NodeConfig {
            folder: folder.join("node"),
            machine: self.machine.clone(),
            ai: AiConfig {
                hosts: arguments.hosts.clone(),
                ..AiConfig::new(arguments.listen, store, models.collect(), vec![KeyConfig::new("local", &self.key)])
            },
        };
        Ok(AiNode::start(config, backends).await?)
    }

    /// Ends a simulated machine.
    pub async fn stop(self) {
        self.supervisor.stop().await;
    }
}

/// The models to serve: those that are named, else all of the store.
fn models(arguments: &ServeArguments, store: &Path) -> Result<Vec<String>, CommandError> {
    let known = model::names(store)?;
    let wanted = if arguments.models.is_empty() { known.clone() } else { arguments.models.clone() };
    let hint = "see `tacit model list`; add one with `tacit model add`";
    if let Some(missing) = wanted.iter().find(|name| !known.contains(name)) {
        return Err(CommandError::hinted(
            anyhow::anyhow!("there is no model {missing:?} on this machine"),
            hint.to_owned(),
        ));
    }
    if wanted.is_empty() {
        return Err(CommandError::hinted(anyhow::anyhow!("there is no model on this machine"), hint.to_owned()));
    }
    Ok(wanted)
}

/// On hardware: the standard policy, and the measurement that this machine attests now.
async fn hardware_policy(driver: &Driver) -> Result<Policy, CommandError> {
    let judge = Policy::preset(Preset::Standard);
    let found = async {
        let evidence = driver.quote(&[0; 64]).await.context("the machine gives no evidence")?;
        let collateral = driver.collateral().await.context("the machine hands out no collateral")?;
        tacit_attest::verify(&evidence, &collateral, &judge, super::now()).context("this machine's own evidence")
    };
    let verified = found.await.map_err(|error| {
        CommandError::hinted(error, "`tacit worker check` says what is missing on this machine".to_owned())
    })?;
    Ok(judge.with_name("serve").with_image("worker", &[verified.measurement()]))
}

/// Starts a simulated machine in `folder`; gives its socket, and the policy that names its root and the measurement of this program.
async fn simulated_machine(folder: &Path, supervisor: &mut Supervisor) -> Result<(PathBuf, Policy)> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let simulator = own.parent().context("this program lies in no folder")?.join("tacit-simulator");
    let root = folder.join("root");
    if !root.exists() {
        let mut vendor = Command::new(&simulator);
        vendor.args(["init-root", "--name", "serve", "--platform", "tdx", "--dir"]).arg(&root);
        succeed("tacit-simulator init-root", vendor)?;
    }
    // A Unix socket's path is short.
    let socket = std::env::temp_dir().join(format!("tacit-serve-{}.sock", std::process::id()));
    let text = |path: &Path| path.display().to_string();
    supervisor.start(Program {
        name: "chip".to_owned(),
        executable: simulator.clone(),
        arguments: vec![
            "--dir".into(),
            text(&folder.join("chip")),
            "--root".into(),
            text(&root),
            "--socket".into(),
            text(&socket),
            "--name".into(),
            "serve".into(),
        ],
    })?;
    tokio::time::timeout(CHIP, async {
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .with_context(|| {
        format!("the simulated machine does not come up; see {}", folder.join("logs/chip.log").display())
    })?;
    let mut measure = Command::new(&simulator);
    measure.args(["measure", "--platform", "tdx", "--executable"]).arg(&own);
    let measurement: Measurement =
        succeed("tacit-simulator measure", measure)?.trim().parse().context("the simulator printed no measurement")?;
    let certificate = std::fs::read(root.join("root.der")).context("the root of the simulated machine")?;
    let policy = Policy::preset(Preset::Dev)
        .with_name("serve")
        .with_root(ExtraRoot::simulated("SIM-serve", Vendor::Intel, certificate)?)
        .with_image("worker", &[measurement]);
    Ok((socket, policy))
}

fn succeed(what: &str, mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("could not start {what}"))?;
    ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The key in a file, which is made if it is not there.
pub fn api_key(path: &Path) -> Result<Zeroizing<String>> {
    if let Ok(text) = std::fs::read_to_string(path) {
        return Ok(Zeroizing::new(text.trim().to_owned()));
    }
    let bytes = Zeroizing::new(rand::rng().random::<[u8; 32]>());
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = Zeroizing::new(format!("sk-{}", digits.concat()));
    write_file(path, format!("{}\n", key.as_str()).as_bytes(), 0o600)?;
    Ok(key)
}

/// Where a node listens.
pub fn url(node: &AiNode) -> String {
    format!("https://{}", node.address())
}

fn described(backend: &dyn Backend) -> Vec<String> {
    let identity = backend.identity();
    let digest: String = identity.digest.to_string().chars().skip(2).take(16).collect();
    vec![
        "  model".to_owned(),
        identity.name.clone(),
        format!("sha256:{digest}…"),
        identity.licence.clone(),
        format!("{} tokens", identity.context),
    ]
}

fn tell(folder: &Path, url: &str, models: &[Vec<String>], node: &AiNode) -> Result<(), CommandError> {
    let mut rows = models.to_vec();
    rows.push(vec!["  endpoint".to_owned(), format!("{url}/v1")]);
    rows.push(vec!["  policy".to_owned(), folder.join("policy.json").display().to_string()]);
    rows.push(vec!["  API key".to_owned(), folder.join("api.key").display().to_string()]);
    if !node.receipts_survive() {
        rows.push(vec!["  receipts".to_owned(), "end with this process: the machine has no sealing key".to_owned()]);
    }
    output::note(output::table(&rows).trim_end());
    output::note("Ask with `tacit chat \"Hello\"`, or with any OpenAI client through `tacit proxy`. End with Ctrl-C.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_api_key_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.key");
        let key = api_key(&path).unwrap();
        assert!(key.starts_with("sk-") && key.len() == 67);
        assert_eq!(*api_key(&path).unwrap(), *key);
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
