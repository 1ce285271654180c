//! Networks as this machine knows them: a folder each, with the deployment file, what runs, and the caller's key.

use std::{
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tacit_types::{Address, ClusterId, UnixTime, deployment::Deployment, ids::parse_hex, signature::SigningKey};
use zeroize::Zeroizing;

/// Name of the network that is used where none is named.
pub const DEFAULT_NETWORK: &str = "local";
/// Version of `status.json`.
pub const STATUS_VERSION: u32 = 1;

/// `status.json`: what `tacit up` started, rewritten whenever a process is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunningNetwork {
    /// Version of this file.
    pub version: u32,
    /// Name of the network, as in its genesis document.
    pub network: String,
    /// Process of `tacit up`; all others are its children.
    pub supervisor: u32,
    /// When it was started.
    pub started: UnixTime,
    /// The home chain.
    pub chain: RunningChain,
    /// The gateways.
    pub gateways: Vec<RunningGateway>,
    /// The gatekeepers in index order.
    pub gatekeepers: Vec<RunningGatekeeper>,
    /// The workers.
    pub workers: Vec<RunningWorker>,
    /// Processes of simulated chips.
    #[serde(default)]
    pub chips: Vec<u32>,
}

/// The home chain's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunningChain {
    /// RPC URL.
    pub rpc: String,
    /// Its process; none for a chain that was there before.
    pub pid: Option<u32>,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunningGateway {
    /// Name of its folder and log, such as `gateway-1`.
    pub name: String,
    /// URL.
    pub url: String,
    /// Its process.
    pub pid: Option<u32>,
}

/// A gatekeeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunningGatekeeper {
    /// Name of its folder and log, such as `gatekeeper-0`.
    pub name: String,
    /// Index in the set.
    pub index: u32,
    /// URL.
    pub url: String,
    /// Its process.
    pub pid: Option<u32>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunningWorker {
    /// Name of its folder and log, such as `worker-1`.
    pub name: String,
    /// Account of its operator.
    pub operator: Address,
    /// URL.
    pub url: String,
    /// Its process.
    pub pid: Option<u32>,
}

/// Where networks are kept and which one is meant.
#[derive(Debug, Clone)]
pub struct Contexts {
    root: PathBuf,
    chosen: Option<PathBuf>,
}

impl Contexts {
    /// Networks under `root`; `chosen` (`--dir` or `TACIT_DIR`) is one network's own folder and wins.
    pub fn new(root: PathBuf, chosen: Option<PathBuf>) -> Self {
        Self { root, chosen }
    }

    /// The network that is meant: the chosen folder, else the one that `tacit context use` named, else `local`.
    pub fn current(&self) -> NetworkFolder {
        match &self.chosen {
            Some(path) => NetworkFolder::at(path),
            None => self.named(&self.used().unwrap_or_else(|| DEFAULT_NETWORK.to_owned())),
        }
    }

    /// Folder of `tacit serve`: the chosen one, else `serve` beside the networks.
    pub fn serve_folder(&self) -> PathBuf {
        self.chosen.clone().unwrap_or_else(|| self.root.join("serve"))
    }

    /// Folder of the models of this machine, which all networks share.
    pub fn models_folder(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Transcripts of exchanges with models, whichever node answered: in the chosen folder, else beside the networks.
    pub fn transcripts_folder(&self) -> PathBuf {
        self.chosen.as_ref().unwrap_or(&self.root).join("transcripts")
    }

    /// The network of that name.
    pub fn named(&self, name: &str) -> NetworkFolder {
        NetworkFolder::at(&self.root.join(name))
    }

    /// The name that `tacit context use` wrote.
    pub fn used(&self) -> Option<String> {
        let name = std::fs::read_to_string(self.root.join("context")).ok()?;
        let name = name.trim();
        is_name(name).then(|| name.to_owned())
    }

    /// Makes `name` the network that is meant from now on.
    pub fn use_named(&self, name: &str) -> Result<()> {
        if !self.named(name).path.join("deployment.json").is_file() {
            bail!("there is no network {name:?} in {}", self.root.display());
        }
        std::fs::create_dir_all(&self.root)?;
        write_file(&self.root.join("context"), format!("{name}\n").as_bytes(), 0o644)
    }

    /// All networks on this machine, the chosen one first.
    pub fn all(&self) -> Vec<NetworkFolder> {
        let mut found: Vec<NetworkFolder> = self.chosen.iter().map(|path| NetworkFolder::at(path)).collect();
        let mut names: Vec<PathBuf> = std::fs::read_dir(&self.root)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        names.sort();
        found.extend(
            names.iter().filter(|path| path.join("deployment.json").is_file()).map(|path| NetworkFolder::at(path)),
        );
        found
    }

    /// The deployment with that cluster id, if a network on this machine has it.
    pub fn with_cluster(&self, cluster: ClusterId) -> Option<Deployment> {
        self.all()
            .iter()
            .filter_map(|folder| folder.deployment().ok())
            .find(|deployment| deployment.cluster_id == cluster)
    }
}

/// Whether a text may name a network: 1 to 63 of the characters a-z, 0-9 and -.
pub fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The folder of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFolder {
    path: PathBuf,
}

impl NetworkFolder {
    /// The network in that folder.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `deployment.json`.
    pub fn deployment_path(&self) -> PathBuf {
        self.path.join("deployment.json")
    }

    /// Reads and checks `deployment.json`.
    pub fn deployment(&self) -> Result<Deployment> {
        read_deployment(&self.deployment_path())
    }

    /// Writes `deployment.json`.
    pub fn write_deployment(&self, deployment: &Deployment) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(deployment)?;
        json.push(b'\n');
        self.write("deployment.json", &json, 0o644)
    }

    /// Reads `status.json`.
    pub fn running(&self) -> Result<RunningNetwork> {
        let path = self.path.join("status.json");
        let bytes = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let running: RunningNetwork =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is not readable", path.display()))?;
        if running.version != STATUS_VERSION {
            bail!("{} has version {}, this build reads {STATUS_VERSION}", path.display(), running.version);
        }
        Ok(running)
    }

    /// Writes `status.json`.
    pub fn write_running(&self, running: &RunningNetwork) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(running)?;
        json.push(b'\n');
        self.write("status.json", &json, 0o644)
    }

    /// Removes `status.json`: nothing runs any more.
    pub fn clear_running(&self) -> Result<()> {
        match std::fs::remove_file(self.path.join("status.json")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// `caller.key`.
    pub fn caller_key_path(&self) -> PathBuf {
        self.path.join("caller.key")
    }

    /// Reads `caller.key`.
    pub fn caller_key(&self) -> Result<SigningKey> {
        read_key(&self.caller_key_path())
    }

    /// Writes `caller.key` so that only its owner can read it.
    pub fn write_caller_key(&self, key: &SigningKey) -> Result<()> {
        std::fs::create_dir_all(&self.path)
            .with_context(|| format!("could not make the folder {}", self.path.display()))?;
        write_key(&self.caller_key_path(), key)
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        std::fs::create_dir_all(&self.path)
            .with_context(|| format!("could not make the folder {}", self.path.display()))?;
        write_file(&self.path.join(name), bytes, mode)
    }
}

/// Reads and checks a deployment file.
pub fn read_deployment(path: &Path) -> Result<Deployment> {
    let bytes = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    Deployment::from_json(&bytes).with_context(|| format!("{} is not a deployment file", path.display()))
}

/// Reads a key file: `0x` and 64 lower-case hex digits. Refuses one that others can read.
pub fn read_key(path: &Path) -> Result<SigningKey> {
    let metadata = std::fs::metadata(path).with_context(|| format!("could not read the key {}", path.display()))?;
    if metadata.mode() & 0o077 != 0 {
        bail!("the key {} can be read by others; run: chmod 600 {}", path.display(), path.display());
    }
    let text = Zeroizing::new(
        std::fs::read_to_string(path).with_context(|| format!("could not read the key {}", path.display()))?,
    );
    parse_key(&text).with_context(|| format!("{} does not hold a key", path.display()))
}

/// Reads a key: `0x` and 64 lower-case hex digits, white space around it.
pub fn parse_key(text: &str) -> Result<SigningKey> {
    let Ok(bytes) = parse_hex::<32>(text.trim()).map(Zeroizing::new) else {
        bail!("a key is 0x and 64 lower-case hex digits");
    };
    SigningKey::from_bytes(&bytes).map_err(|_| anyhow::anyhow!("the number is not a secp256k1 key"))
}

/// Writes a key file that only its owner can read.
pub fn write_key(path: &Path, key: &SigningKey) -> Result<()> {
    let mut text = Zeroizing::new(String::from("0x"));
    for byte in key.to_secret_bytes().iter() {
        use std::fmt::Write as _;
        write!(text, "{byte:02x}").expect("writing to a string never fails");
    }
    text.push('\n');
    write_file(path, text.as_bytes(), 0o600)
}

/// Writes a file in one step: either all of it is there, or what was there before.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = path.with_extension(format!("writing-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_reads_back_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let network = NetworkFolder::at(&folder.path().join("a"));
        let key = SigningKey::from_bytes(&[7; 32]).unwrap();
        network.write_caller_key(&key).unwrap();
        assert_eq!(network.caller_key().unwrap().address(), key.address());
        assert_eq!(std::fs::metadata(network.caller_key_path()).unwrap().mode() & 0o777, 0o600);
        let mut permissions = std::fs::metadata(network.caller_key_path()).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        std::fs::set_permissions(network.caller_key_path(), permissions).unwrap();
        let Err(error) = network.caller_key() else { panic!("a key that others can read was taken") };
        assert!(error.to_string().contains("chmod 600"));
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_being_printed() {
        for text in
            ["", "0x", "zz", &"0".repeat(64), &format!("0x{}", "0".repeat(64)), &format!("0x{}", "AB".repeat(32))]
        {
            let Err(error) = parse_key(text) else { panic!("{text} was taken") };
            assert!(text.len() < 3 || !format!("{error:#}").contains(text));
        }
    }

    #[test]
    fn the_chosen_folder_wins_then_the_used_name_then_local() {
        let root = tempfile::tempdir().unwrap();
        let contexts = Contexts::new(root.path().to_owned(), None);
        assert_eq!(contexts.current().path(), root.path().join("local"));
        assert!(contexts.use_named("other").is_err());
        std::fs::create_dir(root.path().join("other")).unwrap();
        std::fs::write(root.path().join("other/deployment.json"), "{}").unwrap();
        contexts.use_named("other").unwrap();
        assert_eq!(contexts.current().path(), root.path().join("other"));
        let chosen = Contexts::new(root.path().to_owned(), Some("/x".into()));
        assert_eq!(chosen.current().path(), Path::new("/x"));
    }
}
