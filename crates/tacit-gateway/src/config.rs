//! What a gateway is told at its start.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

/// `gateway.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The cluster's deployment file.
    pub deployment: PathBuf,
    /// Folder for blobs.
    pub data: PathBuf,
    /// URLs of gateways to ask for blobs that are not here; those of the deployment file are asked too.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Most bytes of all blobs together.
    #[serde(default = "default_quota")]
    pub blob_quota: u64,
    /// Requests a second that one client address may send for long.
    #[serde(default = "default_rate")]
    pub requests_per_second: u32,
    /// Requests that one client address may send at once.
    #[serde(default = "default_burst")]
    pub burst: u32,
    /// Connections that are open at the same time.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// Bytes of request bodies that are held at the same time.
    #[serde(default = "default_body_memory")]
    pub body_memory: usize,
    /// Milliseconds between two looks at the registry and the workers.
    #[serde(default = "default_probe")]
    pub probe_milliseconds: u64,
}

const fn default_quota() -> u64 {
    4 << 30
}

const fn default_rate() -> u32 {
    5_000
}

const fn default_burst() -> u32 {
    10_000
}

const fn default_connections() -> usize {
    4_096
}

const fn default_body_memory() -> usize {
    512 << 20
}

const fn default_probe() -> u64 {
    1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_example_is_read_and_states_the_defaults() {
        let example: Config = toml::from_str(include_str!("../../../deploy/gateway.toml")).unwrap();
        let defaults = "listen = '127.0.0.1:8443'\ndeployment = 'deployment.json'\ndata = 'gateway-data'\n";
        assert_eq!(example, toml::from_str(defaults).unwrap());
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = "listen = '127.0.0.1:0'\ndeployment = 'd.json'\ndata = 'data'\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!((config.blob_quota, config.peers.len()), (4 << 30, 0));
        assert!(toml::from_str::<Config>(&format!("{text}verify = false\n")).is_err());
    }
}
