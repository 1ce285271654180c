//! Configuration, and the clock that everything here reads.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tacit_peer::Endpoints;
use tacit_platform::{Driver, GuestSocket};
use tacit_types::{
    UnixTime,
    deployment::{Finality, NamedFinality},
};

use crate::error::GatekeeperError;

/// A gatekeeper's configuration, one TOML file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this file, 1.
    pub version: u32,
    /// Address to listen on; port 0 takes any.
    pub listen: SocketAddr,
    /// Folder for everything that must survive a restart.
    pub data: PathBuf,
    /// Socket of the machine's guest agent.
    pub guest_agent: PathBuf,
    /// When a block of the home chain counts.
    #[serde(default = "finalized")]
    pub finality: Finality,
    /// Where collateral for this machine is fetched; without it the guest agent hands it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<Endpoints>,
}

fn finalized() -> Finality {
    Finality::Named(NamedFinality::Finalized)
}

impl Config {
    /// Reads the TOML form.
    ///
    /// # Errors
    /// [`GatekeeperError::Config`] for unknown keys, wrong values or another version.
    pub fn from_toml(text: &str) -> Result<Self, GatekeeperError> {
        let config: Self = toml::from_str(text).map_err(|error| GatekeeperError::Config(error.message().to_owned()))?;
        if config.version != 1 {
            return Err(GatekeeperError::Config(format!("version {} is not read here, 1 is", config.version)));
        }
        Ok(config)
    }

    /// The driver of the configured machine.
    pub fn driver(&self) -> Driver {
        Driver::GuestSocket(GuestSocket::new(&self.guest_agent))
    }
}

/// The clock of one gatekeeper.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// Moves this clock and all its copies by seconds, as a machine's host can.
    pub fn shift(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Now.
    pub fn now(&self) -> UnixTime {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        UnixTime(seconds.saturating_add_signed(self.0.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version = 1\nlisten = \"127.0.0.1:0\"\ndata = \"d\"\nguest_agent = \"s\"\n";

    #[test]
    fn a_configuration_with_a_slip_is_refused() {
        let config = Config::from_toml(GOOD).unwrap();
        assert_eq!(config.finality, finalized());
        assert_eq!(config.collateral, None);
        let own = format!("{GOOD}[collateral]\npccs = \"https://pccs.example/\"\n");
        let own = Config::from_toml(&own).unwrap().collateral.unwrap();
        assert_eq!(own.pccs.as_str(), "https://pccs.example/");
        let example = Config::from_toml(include_str!("../../../deploy/gatekeeper.toml")).unwrap();
        assert_eq!((example.finality, example.collateral.is_some()), (finalized(), true));
        assert_eq!(own.kds, Endpoints::default().kds);
        let number = Config::from_toml(&format!("{GOOD}finality = 3\n")).unwrap();
        assert_eq!(number.finality, Finality::Confirmations(3));
        for bad in [
            GOOD.replace("version = 1", "version = 2"),
            GOOD.replace("listen", "listens"),
            GOOD.replace("127.0.0.1:0", "nowhere"),
            format!("{GOOD}skip_checks = true\n"),
            format!("{GOOD}[collateral]\npcs = \"https://pccs.example/\"\n"),
            format!("{GOOD}[collateral]\npccs = \"nowhere\"\n"),
        ] {
            assert!(matches!(Config::from_toml(&bad), Err(GatekeeperError::Config(_))), "{bad}");
        }
    }
}
