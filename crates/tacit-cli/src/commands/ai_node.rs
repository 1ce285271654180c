//! The node that AI commands ask: where it is, by what it is judged, and with which key.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use reqwest::Url;
use tacit_attest::{ExtraRoot, Policy, Preset};
use tacit_client::ai::{AiClient, AiError, AiSettings, Keep, TranscriptStore, VerifiedNode, is_node_url};
use tacit_verify::{Judge, Verdict};
use zeroize::Zeroizing;

use super::{Environment, judge, serve::NodeFile};
use crate::{
    arguments::{KeepArgument, NodeArguments},
    error::{CommandError, Exit},
    output,
};

/// A node as the command line names it.
pub struct NamedNode {
    /// Where it is; none for a folder whose node does not run.
    pub url: Option<Url>,
    folder: Option<PathBuf>,
    policy: Option<Policy>,
}

impl NamedNode {
    /// The node at a URL, or of a folder; without either that of `tacit serve`, else any worker of the network that is used.
    pub fn find(named: Option<&str>, environment: &Environment) -> Result<Self, CommandError> {
        if let Some(text) = named.filter(|text| text.contains("://")) {
            let url = text.parse::<Url>().ok().filter(is_node_url).ok_or_else(|| {
                let what =
                    format!("{text:?} is neither an https URL nor that of a gateway's models, http(s)://GATEWAY/ai");
                CommandError::usage(what, "--node URL|DIR")
            })?;
            return Ok(Self { url: Some(url), folder: None, policy: None });
        }
        let folder = named.map_or_else(|| default_folder(environment), PathBuf::from);
        let policy = read_if_there(&folder.join("policy.json"))?;
        let policy = policy.map(|bytes| Policy::from_json(&bytes)).transpose();
        let policy = policy.map_err(|error| anyhow!(error).context("the policy in the node's folder"))?;
        let url = match read_if_there(&folder.join("node.json"))? {
            Some(bytes) => {
                let file: NodeFile = serde_json::from_slice(&bytes).context("node.json in the node's folder")?;
                if file.version != 1 {
                    return Err(anyhow!("node.json has version {}, this build reads 1", file.version).into());
                }
                Some(file.url.parse::<Url>().context("the URL in node.json")?)
            }
            None => None,
        };
        Ok(Self { url, folder: Some(folder), policy })
    }

    /// Whose judgement: `--policy`, else the folder's policy, else standard. `dev` also names the simulated roots of the folder.
    pub fn judge(&self, named: Option<&str>) -> Result<Judge, CommandError> {
        Ok(match (named, &self.policy) {
            (None, Some(policy)) => Judge::Policy(Box::new(policy.clone())),
            (None, None) => Judge::Preset(Preset::Standard),
            (Some("dev"), Some(_)) => {
                let roots = self.known_roots().into_iter();
                Judge::Policy(Box::new(roots.fold(Policy::preset(Preset::Dev), Policy::with_root)))
            }
            (Some(named), _) => judge(named)?,
        })
    }

    /// Simulated roots that the folder names.
    pub fn known_roots(&self) -> Vec<ExtraRoot> {
        let roots = self.policy.iter().flat_map(|policy| &policy.extra_roots);
        roots.filter(|root| root.simulated).cloned().collect()
    }

    fn api_key(&self, given: Option<&Path>) -> Result<Zeroizing<String>, CommandError> {
        let own = self.folder.as_ref().map(|folder| folder.join("api.key"));
        let path = given
            .map(Path::to_owned)
            .or(own)
            .ok_or_else(|| CommandError::usage("the node needs an API key", "--api-key FILE names a file with it"))?;
        Ok(read_secret(&path)?)
    }
}

/// Where the node is that nobody names.
fn default_folder(environment: &Environment) -> PathBuf {
    let own = environment.contexts.serve_folder();
    let network = environment.network().path().join("models");
    if !own.join("node.json").exists() && network.join("node.json").exists() { network } else { own }
}

/// A client of the node that the arguments name.
pub fn client(arguments: &NodeArguments, environment: &Environment) -> Result<AiClient, CommandError> {
    let named = NamedNode::find(arguments.node.as_deref(), environment)?;
    let url = named.url.clone().ok_or_else(|| {
        let folder = named.folder.as_ref().map(|folder| folder.display().to_string()).unwrap_or_default();
        let hint = "start one with `tacit serve` or `tacit up --model NAME`, or name one with --node URL --policy FILE --api-key FILE";
        CommandError::hinted(anyhow!("no node runs in {folder}"), hint)
    })?;
    let keep = match arguments.keep {
        KeepArgument::Full => Keep::Full,
        KeepArgument::Hashes => Keep::Hashes,
    };
    let store = store_folder(arguments.store.as_deref(), environment);
    let settings =
        AiSettings::new(url, named.judge(arguments.policy.as_deref())?, named.api_key(arguments.api_key.as_deref())?)
            .knowing(named.known_roots())
            .only_models(arguments.model_digests.iter().copied())
            .storing(TranscriptStore::new(store, keep));
    AiClient::new(settings).map_err(ai_error)
}

/// Where transcripts are.
pub fn store_folder(given: Option<&Path>, environment: &Environment) -> PathBuf {
    given.map_or_else(|| environment.contexts.transcripts_folder(), Path::to_owned)
}

/// Says once what kind of node it is.
pub fn introduce(node: &VerifiedNode, client: &AiClient) {
    if node.is_simulated() {
        output::note(format!("SIMULATED node {}: the protocol is real, the hardware is not", client.node_url()));
    }
}

/// Reads a secret of one line. Refuses a file that others can read.
pub fn read_secret(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let read = || format!("could not read {}", path.display());
    let metadata = std::fs::metadata(path).with_context(read)?;
    if metadata.mode() & 0o077 != 0 {
        bail!("{} can be read by others; run: chmod 600 {}", path.display(), path.display());
    }
    if metadata.len() > 4_096 {
        bail!("{} is too long for a key", path.display());
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).with_context(read)?);
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// A failure of the AI client as a command's: exit status by verdict, with its hint.
pub fn ai_error(error: AiError) -> CommandError {
    let exit = match (error.verdict(), &error) {
        (Some(Verdict::Simulated), _) => Exit::Simulated,
        (Some(Verdict::Incomplete), _) => Exit::Incomplete,
        (Some(Verdict::Refused), _) => Exit::Refused,
        (_, AiError::Request(_)) => Exit::Usage,
        _ => Exit::Failed,
    };
    let hint = error.hint().map(str::to_owned);
    CommandError { exit, error: anyhow!(error), hint }
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow!(error).context(format!("could not read {}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::context::Contexts;

    fn environment(root: &Path) -> Environment {
        Environment { contexts: Contexts::new(root.to_owned(), None), key: None, keystore: None }
    }

    #[test]
    fn a_node_is_found_by_url_or_folder_and_judged_by_what_suits_it() {
        let root = tempfile::tempdir().unwrap();
        let environment = environment(root.path());
        let find = |named: Option<&str>| NamedNode::find(named, &environment);
        assert!(find(Some("http://127.0.0.1:1")).is_err_and(|error| error.exit == Exit::Usage));
        let remote = find(Some("https://node.example.com")).unwrap();
        assert!(matches!(remote.judge(None).unwrap(), Judge::Preset(Preset::Standard)));
        assert!(remote.api_key(None).is_err_and(|error| error.exit == Exit::Usage));
        // No node has run here.
        assert_eq!(find(None).unwrap().url, None);
        let folder = root.path().join("serve");
        std::fs::create_dir(&folder).unwrap();
        let policy = Policy::preset(Preset::Dev).with_name("serve");
        std::fs::write(folder.join("policy.json"), policy.canonical().unwrap()).unwrap();
        let account = format!("0x{}", "00".repeat(20));
        let node = format!(r#"{{"version":1,"url":"https://127.0.0.1:9","account":"{account}","simulated":true}}"#);
        std::fs::write(folder.join("node.json"), &node).unwrap();
        let local = find(None).unwrap();
        assert_eq!(local.url.as_ref().map(Url::as_str), Some("https://127.0.0.1:9/"));
        assert_eq!(local.judge(None).unwrap().policy_for(None).name, "serve");
        assert_eq!(local.judge(Some("standard")).unwrap().policy_for(None).name, "standard");
        assert!(local.judge(Some("/no/such/policy")).is_err_and(|error| error.exit == Exit::Usage));
        std::fs::write(folder.join("node.json"), node.replace("\"version\":1", "\"version\":2")).unwrap();
        assert!(find(None).is_err());
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.key");
        std::fs::write(&path, "sk-1\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_secret(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(*read_secret(&path).unwrap(), "sk-1");
    }
}
