//! `tacit.toml`: what a function is, what it may do and what it may use.
//!
//! Authors write TOML; what is hashed, published and enforced is the canonical JSON of the parsed manifest with every default
//! filled in, so that a default changed later never changes what a deployed function may do.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    eip712::keccak,
    ids::{Address, ManifestHash},
    jcs::{self, JcsError},
};

/// Most bytes of a manifest, as TOML or JSON.
pub const MAX_BYTES: usize = 64 * 1024;

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Too many bytes.
    #[error("the manifest has {0} bytes, at most {MAX_BYTES} are allowed")]
    TooLarge(usize),
    /// Not TOML, or a key or value that does not exist.
    #[error("{0}")]
    Toml(String),
    /// The published JSON is not canonical or not a manifest.
    #[error("the published manifest is not canonical")]
    Canonical(#[from] JcsError),
    /// A value is outside what is allowed.
    #[error("{key}: {reason}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
}

/// A parsed and validated manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name and entry.
    pub function: FunctionSection,
    /// Methods that differ from the default (command, JSON in and out).
    #[serde(default)]
    pub method: Vec<Method>,
    /// Limits of one call.
    #[serde(default)]
    pub limits: Limits,
    /// Who may call.
    #[serde(default)]
    pub access: Access,
    /// Whom it may talk to.
    #[serde(default)]
    pub egress: Egress,
    /// How much state it may keep.
    #[serde(default)]
    pub state: StateSection,
    /// Secrets that it reads.
    #[serde(default)]
    pub secrets: Secrets,
    /// Which workers may run it.
    #[serde(default)]
    pub trust: Trust,
    /// What starts it besides callers.
    #[serde(default)]
    pub trigger: Vec<Trigger>,
    /// Contracts that it may publish to. Left out of the canonical form when empty: no entry never means more than none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// Models that it may ask. Left out of the canonical form when empty, as `publish` is.
    #[serde(default, skip_serializing_if = "Models::is_empty")]
    pub models: Models,
    /// How it may change.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// How long records are kept.
    #[serde(default)]
    pub retention: Retention,
}

/// `[function]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionSection {
    /// `[a-z0-9-]{1,63}`, unique per owner.
    pub name: String,
    /// Source file of the entry module, relative to the manifest.
    #[serde(default = "default_entry")]
    pub entry: String,
    /// What the module is.
    #[serde(default)]
    pub kind: ModuleKind,
}

fn default_entry() -> String {
    "src/index.ts".into()
}

/// What a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleKind {
    /// One ES module, run by the JavaScript guest.
    #[default]
    Js,
    /// A WebAssembly component of the world `tacit:function@1`.
    Wasm,
}

/// `[[method]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Name of the exported function.
    pub name: String,
    /// Command or query.
    #[serde(default)]
    pub kind: MethodKind,
    /// How the request body is handed over.
    #[serde(default)]
    pub input: Body,
    /// How the result becomes a response body.
    #[serde(default)]
    pub output: Body,
    /// Whether anybody with the inputs gets the same response, fuel and head.
    #[serde(default)]
    pub deterministic: bool,
}

/// Whether a method may change state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MethodKind {
    /// May change state; commands of one function are serial.
    #[default]
    Command,
    /// Reads state only.
    Query,
}

/// Form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// JSON text.
    #[default]
    Json,
    /// Bytes as they are.
    Bytes,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory in bytes; `"64MiB"`.
    #[serde(deserialize_with = "bytes_size")]
    pub memory: u64,
    /// Fuel of one call; `"2G"`.
    #[serde(deserialize_with = "count")]
    pub fuel: u64,
    /// Wall time of one call in milliseconds; `"30s"`.
    #[serde(deserialize_with = "milliseconds")]
    pub timeout: u64,
    /// Response body in bytes; `"1MiB"`.
    #[serde(deserialize_with = "bytes_size")]
    pub response: u64,
    /// Calls that run at the same time.
    pub concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 64 << 20, fuel: 2_000_000_000, timeout: 30_000, response: 1 << 20, concurrency: 16 }
    }
}

/// `[access]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Who may call.
    pub callers: Callers,
    /// Whether unsealed calls are accepted as well.
    pub plaintext: bool,
}

impl Default for Access {
    fn default() -> Self {
        Self { callers: Callers::Rule(CallerRule::Anyone), plaintext: false }
    }
}

/// Who may call: `"anyone"`, `"owner"`, or a list of accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Callers {
    /// A rule by name.
    Rule(CallerRule),
    /// These accounts.
    Accounts(BTreeSet<Address>),
}

/// A rule about callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerRule {
    /// Everybody, signed or not.
    Anyone,
    /// The function's owner.
    Owner,
}

/// `[egress]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Host names; a leading `*.` stands for any one or more labels.
    pub allow: BTreeSet<String>,
}

/// `[state]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateSection {
    /// Bytes of keys and values.
    #[serde(deserialize_with = "bytes_size")]
    pub quota: u64,
}

impl Default for StateSection {
    fn default() -> Self {
        Self { quota: 64 << 20 }
    }
}

/// `[secrets]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// Names that the code may read.
    pub names: BTreeSet<String>,
}

/// `[trust]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// Name of the least policy a worker must satisfy; `dev` admits simulated roots.
    pub policy: String,
}

impl Default for Trust {
    fn default() -> Self {
        Self { policy: "standard".into() }
    }
}

/// `[[trigger]]`: requests of contracts that the function answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Name of the chain in the deployment.
    pub chain: String,
    /// The consumer contract, or `"any"`.
    pub consumer: Consumer,
    /// Method that answers.
    pub method: String,
}

/// `[[publish]]`: a contract that the function may publish to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Name of the contract's chain in the deployment.
    pub chain: String,
    /// The contract, or `"any"`.
    pub contract: Consumer,
}

/// `[models]`: models of the function's own worker that it may ask.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// Their names.
    pub allow: BTreeSet<String>,
}

impl Models {
    fn is_empty(&self) -> bool {
        self.allow.is_empty()
    }
}

/// Names that manifests and code may give the home chain, besides the network's own name.
const HOME_CHAIN: [&str; 2] = ["local", "home"];

/// Whether `name` means the home chain of the network of that name.
pub fn is_home_chain(name: &str, network: &str) -> bool {
    name == network || HOME_CHAIN.contains(&name)
}

/// A contract of a trigger or of `[[publish]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Consumer {
    /// One contract.
    Contract(Address),
    /// Any contract.
    Any(AnyConsumer),
}

/// The word `any`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnyConsumer {
    /// Any contract.
    Any,
}

/// `[upgrade]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upgrade {
    /// Seconds between announcing a version and its activation; `"1d"`.
    #[serde(deserialize_with = "seconds")]
    pub delay: u64,
    /// Whether no further version may follow.
    pub frozen: bool,
}

/// `[retention]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Seconds that log lines are kept; `"30d"`.
    #[serde(deserialize_with = "seconds")]
    pub logs: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { logs: 30 * 86_400 }
    }
}

impl Manifest {
    /// Reads and validates an author's `tacit.toml`.
    ///
    /// # Errors
    /// [`ManifestError`]; its text names the key and what is allowed.
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge(text.len()));
        }
        let manifest: Self = toml::from_str(text).map_err(|error| ManifestError::Toml(error.to_string()))?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Reads and validates the published canonical JSON.
    ///
    /// # Errors
    /// [`ManifestError::Canonical`] for any other bytes than [`Self::to_canonical`] writes.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = jcs::from_bytes(bytes, MAX_BYTES)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The canonical JSON that is published and hashed.
    ///
    /// # Errors
    /// [`ManifestError::Canonical`]; a validated manifest always has canonical bytes.
    pub fn to_canonical(&self) -> Result<Vec<u8>, ManifestError> {
        Ok(jcs::to_bytes(self)?)
    }

    /// Keccak-256 of the canonical JSON.
    ///
    /// # Errors
    /// As [`Self::to_canonical`].
    pub fn hash(&self) -> Result<ManifestHash, ManifestError> {
        Ok(keccak(&self.to_canonical()?).into_bytes().into())
    }

    /// The declared method, or the default one (command, JSON) for a name that is not declared.
    pub fn method(&self, name: &str) -> Method {
        self.method.iter().find(|method| method.name == name).cloned().unwrap_or_else(|| Method {
            name: name.to_owned(),
            kind: MethodKind::Command,
            input: Body::Json,
            output: Body::Json,
            deterministic: false,
        })
    }

    /// One line for people: whom the function could talk to, hosts and contracts.
    pub fn could_talk_to(&self) -> String {
        let hosts = self.egress.allow.iter().cloned();
        let contracts = self.publish.iter().map(|publish| match &publish.contract {
            Consumer::Contract(contract) => format!("contract {contract} on {}", publish.chain),
            Consumer::Any(AnyConsumer::Any) => format!("any contract on {}", publish.chain),
        });
        let all: Vec<String> = hosts.chain(contracts).collect();
        if all.is_empty() { "nobody".into() } else { all.join(", ") }
    }

    /// Whether the function may publish to a contract on the home chain of the network of that name.
    pub fn may_publish(&self, network: &str, contract: Address) -> bool {
        self.publish.iter().any(|publish| is_home_chain(&publish.chain, network) && publish.contract.includes(contract))
    }

    fn validate(&self) -> Result<(), ManifestError> {
        let refuse = |key, reason: &str| Err(ManifestError::Value { key, reason: reason.to_owned() });
        let name = &self.function.name;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            return refuse("function.name", "1 to 63 of the characters a-z, 0-9 and -");
        }
        if !is_relative_file(&self.function.entry) {
            return refuse("function.entry", "a file inside the project, such as src/index.ts");
        }
        if self.method.len() > 256 || !all_distinct(self.method.iter().map(|method| &method.name)) {
            return refuse("method", "at most 256, each named once");
        }
        if !self
            .method
            .iter()
            .map(|method| &method.name)
            .chain(self.trigger.iter().map(|t| &t.method))
            .all(|n| is_identifier(n))
        {
            return refuse("method.name", "a JavaScript identifier of at most 64 characters");
        }
        let limits = &self.limits;
        if !((1 << 20)..=(1 << 30)).contains(&limits.memory) {
            return refuse("limits.memory", "from 1MiB to 1GiB");
        }
        if !(1_000..=1_000_000_000_000).contains(&limits.fuel) {
            return refuse("limits.fuel", "from 1k to 1T");
        }
        if !(1..=600_000).contains(&limits.timeout) {
            return refuse("limits.timeout", "from 1ms to 10m");
        }
        if !(1..=(16 << 20)).contains(&limits.response) {
            return refuse("limits.response", "from 1B to 16MiB");
        }
        if !(1..=1_024).contains(&limits.concurrency) {
            return refuse("limits.concurrency", "from 1 to 1024");
        }
        if let Callers::Accounts(accounts) = &self.access.callers
            && (accounts.is_empty() || accounts.len() > 1_024)
        {
            return refuse("access.callers", "\"anyone\", \"owner\", or 1 to 1024 accounts");
        }
        if self.egress.allow.len() > 64 || !self.egress.allow.iter().all(|host| is_host_pattern(host)) {
            return refuse("egress.allow", "at most 64 host names in lower case, without scheme, port or path");
        }
        if self.state.quota > 16 << 30 {
            return refuse("state.quota", "at most 16GiB");
        }
        if self.secrets.names.len() > 256 || !self.secrets.names.iter().all(|name| is_identifier(name)) {
            return refuse("secrets.names", "at most 256 identifiers");
        }
        if !matches!(self.trust.policy.as_str(), "dev" | "standard" | "high") {
            return refuse("trust.policy", "\"dev\", \"standard\" or \"high\"");
        }
        if self.trigger.len() > 64 {
            return refuse("trigger", "at most 64");
        }
        if self.publish.len() > 64 || !self.publish.iter().all(|publish| is_chain_name(&publish.chain)) {
            return refuse("publish", "at most 64, each with a chain's name: 1 to 63 of the characters a-z, 0-9 and -");
        }
        if self.models.allow.len() > 64 || !self.models.allow.iter().all(|name| is_model_name(name)) {
            return refuse(
                "models.allow",
                "at most 64 names of models: 1 to 63 of the characters a-z, 0-9, ., _ and -",
            );
        }
        if self.upgrade.delay > 366 * 86_400 || self.retention.logs > 3_660 * 86_400 {
            return refuse("upgrade.delay", "at most 366 days (and retention.logs at most ten years)");
        }
        Ok(())
    }
}

impl Consumer {
    /// Whether `contract` is meant.
    pub fn includes(&self, contract: Address) -> bool {
        match self {
            Self::Contract(named) => *named == contract,
            Self::Any(AnyConsumer::Any) => true,
        }
    }
}

/// Whether a text can be a chain's name: 1 to 63 of the characters a-z, 0-9 and -.
fn is_chain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(plain)
}

/// Whether a text may name a model: 1 to 63 of the characters a-z, 0-9, '.', '_' and '-', beginning with a letter or digit.
pub fn is_model_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| is_plain(byte) || b"._-".contains(&byte))
        && name.bytes().next().is_some_and(is_plain)
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 64
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_relative_file(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 256
        && !path.starts_with('/')
        && !path.contains('\\')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_host_pattern(pattern: &str) -> bool {
    let host = pattern.strip_prefix("*.").unwrap_or(pattern);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.contains('.') && host.split('.').all(label)
}

fn all_distinct<'a>(names: impl Iterator<Item = &'a String>) -> bool {
    let mut seen = BTreeSet::new();
    names.into_iter().all(|name| seen.insert(name))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Quantity {
    Number(u64),
    Text(String),
}

fn quantity<'de, D: Deserializer<'de>>(deserializer: D, units: &[(&str, u64)]) -> Result<u64, D::Error> {
    let text = match Quantity::deserialize(deserializer)? {
        Quantity::Number(number) => return Ok(number),
        Quantity::Text(text) => text,
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    units
        .iter()
        .find(|(name, _)| *name == unit)
        .and_then(|(_, factor)| number.parse::<u64>().ok()?.checked_mul(*factor))
        .ok_or_else(|| {
            let names: Vec<&str> = units.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
            de::Error::custom(format!("`{text}` is not a whole number with one of the units {}", names.join(", ")))
        })
}

fn bytes_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    quantity(deserializer, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)])
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    quantity(deserializer, &[("", 1), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000)])
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    quantity(deserializer, &[("ms", 1), ("s", 1_000), ("m", 60_000)])
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    quantity(deserializer, &[("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: &str = "[function]\nname = \"my-oracle\"\n";

    #[test]
    fn defaults_are_filled_in_and_hashed() {
        let manifest = Manifest::from_toml(SMALL).unwrap();
        assert_eq!(manifest.limits, Limits::default());
        assert_eq!(manifest.could_talk_to(), "nobody");
        let bytes = manifest.to_canonical().unwrap();
        assert_eq!(Manifest::from_canonical(&bytes).unwrap(), manifest);
        let explicit = Manifest::from_toml(&format!("{SMALL}[limits]\nmemory = \"64MiB\"\nfuel = \"2G\"\n")).unwrap();
        assert_eq!(explicit.hash().unwrap(), manifest.hash().unwrap());
    }

    #[test]
    fn every_table_of_the_design_is_read() {
        let text = r#"
            [function]
            name = "answers"
            entry = "src/main.ts"
            [[method]]
            name = "price"
            kind = "query"
            output = "bytes"
            deterministic = true
            [limits]
            timeout = "500ms"
            response = "2KiB"
            [access]
            callers = ["0x0101010101010101010101010101010101010101"]
            [egress]
            allow = ["api.example.com", "*.example.org"]
            [state]
            quota = "1GiB"
            [secrets]
            names = ["API_KEY"]
            [trust]
            policy = "dev"
            [[trigger]]
            chain = "local"
            consumer = "any"
            method = "answer"
            [[publish]]
            chain = "local"
            contract = "any"
            [models]
            allow = ["smollm2-135m-instruct"]
            [upgrade]
            delay = "1d"
            [retention]
            logs = "7d"
        "#;
        let manifest = Manifest::from_toml(text).unwrap();
        assert_eq!(manifest.limits.timeout, 500);
        assert_eq!(manifest.upgrade.delay, 86_400);
        assert_eq!(manifest.method("price").kind, MethodKind::Query);
        assert_eq!(manifest.method("other").kind, MethodKind::Command);
        assert_eq!(manifest.could_talk_to(), "*.example.org, api.example.com, any contract on local");
        assert_eq!(Manifest::from_canonical(&manifest.to_canonical().unwrap()).unwrap(), manifest);
    }

    #[test]
    fn only_contracts_that_are_named_may_be_published_to() {
        let (one, two) = (Address::from([1; 20]), Address::from([2; 20]));
        let check = |entries: &str, expected: [bool; 2], talks: &str| {
            let manifest = Manifest::from_toml(&format!("{SMALL}{entries}")).unwrap();
            assert_eq!([one, two].map(|contract| manifest.may_publish("net-sim", contract)), expected, "{entries}");
            assert_eq!(manifest.could_talk_to(), talks);
            assert_eq!(Manifest::from_canonical(&manifest.to_canonical().unwrap()).unwrap(), manifest);
        };
        let entry =
            |chain: &str, contract: &str| format!("[[publish]]\nchain = \"{chain}\"\ncontract = \"{contract}\"\n");
        check("", [false, false], "nobody");
        check(&entry("local", "any"), [true, true], "any contract on local");
        check(&entry("net-sim", &one.to_string()), [true, false], &format!("contract {one} on net-sim"));
        check(&entry("home", &two.to_string()), [false, true], &format!("contract {two} on home"));
        check(&entry("other", "any"), [false, false], "any contract on other");
        let both = entry("local", &one.to_string()) + &entry("local", &two.to_string());
        check(&both, [true, true], &format!("contract {one} on local, contract {two} on local"));
        // A manifest without an entry hashes as it did before there were entries.
        let canonical = Manifest::from_toml(SMALL).unwrap().to_canonical().unwrap();
        assert!(!String::from_utf8(canonical).unwrap().contains("publish"));
    }

    #[test]
    fn refusals_name_the_key() {
        let check = |addition: &str, expected: &str| {
            let error = Manifest::from_toml(&format!("{SMALL}{addition}")).unwrap_err().to_string();
            assert!(error.contains(expected), "{addition}: {error}");
        };
        check("[limits]\nmemry = \"1MiB\"", "memry");
        check("[limits]\nmemory = \"2GiB\"", "limits.memory");
        check("[limits]\nmemory = \"1 MiB\"", "MiB");
        check("[limits]\nfuel = \"99999999999999999999\"", "units");
        check("[egress]\nallow = [\"https://example.com\"]", "egress.allow");
        check("[egress]\nallow = [\"localhost\"]", "egress.allow");
        check("[access]\ncallers = []", "access.callers");
        check("[access]\ncallers = \"someone\"", "callers");
        check("[trust]\npolicy = \"none\"", "trust.policy");
        check("[[method]]\nname = \"a b\"", "method.name");
        check("[[method]]\nname = \"a\"\n[[method]]\nname = \"a\"", "method");
        check("[[trigger]]\nchain = \"local\"\nconsumer = \"some\"\nmethod = \"a\"", "consumer");
        check("[[publish]]\nchain = \"local\"\ncontract = \"some\"", "contract");
        check("[[publish]]\nchain = \"local\"\ncontract = \"any\"\ntopic = \"a\"", "topic");
        check("[[publish]]\nchain = \"local\"", "contract");
        check("[[publish]]\nchain = \"A chain\"\ncontract = \"any\"", "publish");
        check(&"[[publish]]\nchain = \"local\"\ncontract = \"any\"\n".repeat(65), "publish");
        assert!(
            Manifest::from_toml("[function]\nname = \"Upper\"\n").unwrap_err().to_string().contains("function.name")
        );
        assert!(
            Manifest::from_toml("[function]\nname = \"a\"\nentry = \"../x\"\n")
                .unwrap_err()
                .to_string()
                .contains("entry")
        );
        assert!(matches!(Manifest::from_toml(&"#".repeat(MAX_BYTES + 1)), Err(ManifestError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in ".{0,200}") {
            let _ = Manifest::from_toml(&text);
            let _ = Manifest::from_canonical(text.as_bytes());
        }
    }
}
