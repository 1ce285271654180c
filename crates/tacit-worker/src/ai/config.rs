//! How the AI service is set up.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use tacit_inference::EngineSettings;
use tacit_types::{Digest, formats::sha256};

/// The `[ai]` part of a node's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AiConfig {
    /// Address of the OpenAI-compatible surface; TLS ends in this process. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Host names that clients use; `localhost` without any.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Folder of the models.
    pub store: PathBuf,
    /// Models on offer.
    pub models: Vec<ModelConfig>,
    /// Who may ask.
    pub keys: Vec<KeyConfig>,
    /// Days that receipts are kept.
    #[serde(default = "keep_days")]
    pub keep_days: u32,
    /// Requests that are in the service at the same time; more get 503.
    #[serde(default = "requests")]
    pub requests: usize,
    /// What evidence may say about the program besides its measurement.
    #[serde(default)]
    pub provenance: Provenance,
}

impl AiConfig {
    /// A service for one machine's own use: whatever is not said has its default.
    pub fn new(listen: SocketAddr, store: PathBuf, models: Vec<ModelConfig>, keys: Vec<KeyConfig>) -> Self {
        Self {
            listen,
            hosts: Vec::new(),
            store,
            models,
            keys,
            keep_days: keep_days(),
            requests: requests(),
            provenance: Provenance::default(),
        }
    }
}

const fn keep_days() -> u32 {
    400
}

const fn requests() -> usize {
    256
}

/// A model on offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Name in the store, and name to ask for.
    pub name: String,
    /// How it is run.
    #[serde(default)]
    pub engine: EngineSettings,
    /// What it costs; nothing without it.
    #[serde(default)]
    pub price: Option<Price>,
}

/// What a million tokens cost, in millionths of the currency's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// For example `USD`.
    pub currency: String,
    /// A million tokens of prompts.
    pub prompt: u64,
    /// A million tokens of answers.
    pub completion: u64,
}

impl Price {
    /// What these tokens cost, in millionths of the currency's unit, rounded up.
    pub fn of(&self, prompt_tokens: u32, completion_tokens: u32) -> u64 {
        let sum = u128::from(self.prompt) * u128::from(prompt_tokens)
            + u128::from(self.completion) * u128::from(completion_tokens);
        u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// A key that somebody was given. The key itself is nowhere in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Name for logs and counters.
    pub name: String,
    /// SHA-256 of the key's text.
    pub sha256: Digest,
    /// Requests in a minute.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute, prompts and answers.
    #[serde(default)]
    pub tokens_per_minute: Option<u32>,
    /// Tokens in all; what was used survives restarts.
    #[serde(default)]
    pub tokens: Option<u64>,
}

impl KeyConfig {
    /// A key without bounds of its own.
    pub fn new(name: &str, key: &str) -> Self {
        Self {
            name: name.to_owned(),
            sha256: sha256(key.as_bytes()),
            requests_per_minute: None,
            tokens_per_minute: None,
            tokens: None,
        }
    }
}

/// Where the program comes from. Clients believe it only where measured evidence bears it out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The source's repository.
    #[serde(default)]
    pub repo_url: Option<String>,
    /// The commit.
    #[serde(default)]
    pub repo_commit: Option<String>,
    /// Digest of the image.
    #[serde(default)]
    pub image_digest: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_rounded_up() {
        let price = Price { currency: "USD".into(), prompt: 150_000, completion: 600_000 };
        assert_eq!(price.of(1, 0), 1);
        assert_eq!(price.of(1_000_000, 1_000_000), 750_000);
        assert_eq!(price.of(u32::MAX, u32::MAX), 3_221_225_472);
        assert_eq!(price.of(0, 0), 0);
    }

    #[test]
    fn unknown_members_are_refused() {
        let text = "listen = \"127.0.0.1:0\"\nstore = \"models\"\nmodels = []\nkeys = []\n";
        assert_eq!(toml::from_str::<AiConfig>(text).unwrap().requests, 256);
        assert!(toml::from_str::<AiConfig>(&format!("{text}verify = false")).is_err());
    }
}
